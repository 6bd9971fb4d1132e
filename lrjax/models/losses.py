"""CLIP's loss, a symmetric cross-entropy over the cosine similarities of a batch, and SigLIP's, a sigmoid for every pair."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp


def contrastive_loss(
    images: jax.Array,
    captions: jax.Array,
    log_scale: jax.Array,
    same: jax.Array | None = None,
    hard_negatives: jax.Array | None = None,
    has_hard_negative: jax.Array | None = None,
) -> jax.Array:
    """CLIP's loss: the symmetric cross-entropy of images and captions, with logits exp(log_scale) * cosine.

    Args:
        images: Unit embeddings [B, E].
        captions: Unit embeddings [B, E]; caption i is that of image i.
        log_scale: The log of the logit scale, [].
        same: [B, B] bool, whether two captions are equal. Off the diagonal such pairs are false negatives, and are left out. None
            (the paper's plain loss): they count.
        hard_negatives: Unit embeddings [W, E], a hard negative caption for each of the last W images.
        has_hard_negative: [W] bool, which of these images are compared with their hard negative. None: all.

    Returns:
        The loss [].
    """
    logits, match = jnp.exp(log_scale) * images @ captions.T, jnp.eye(len(images), dtype=bool)
    if same is not None:
        logits = jnp.where(same & ~match, -jnp.inf, logits)
    of_caption, of_image = jax.nn.logsumexp(logits, axis=0), jax.nn.logsumexp(logits, axis=1)
    if hard_negatives is not None:
        first = len(images) - len(hard_negatives)
        hard = jnp.exp(log_scale) * (images[first:] * hard_negatives).sum(-1)
        hard = hard if has_hard_negative is None else jnp.where(has_hard_negative, hard, -jnp.inf)
        of_image = of_image.at[first:].set(jnp.logaddexp(of_image[first:], hard))
    of_pair = jnp.sum(logits, axis=1, where=match)  # the diagonal, by a sum that reads the logits in order: no gather, no scatter
    return jnp.mean((of_caption + of_image) / 2 - of_pair)


def sigmoid_loss(
    images: jax.Array,
    captions: jax.Array,
    log_scale: jax.Array,
    bias: jax.Array,
    same: jax.Array | None = None,
    hard_negatives: jax.Array | None = None,
    has_hard_negative: jax.Array | None = None,
) -> jax.Array:
    """SigLIP's loss: a sigmoid for every image and caption, with logits exp(log_scale) * cosine + bias.

    Args:
        images: Unit embeddings [B, E].
        captions: Unit embeddings [B, E]; caption i is that of image i.
        log_scale: The log of the logit scale, [].
        bias: The bias of the logits, [].
        same: As of `contrastive_loss`.
        hard_negatives: As of `contrastive_loss`.
        has_hard_negative: As of `contrastive_loss`.

    Returns:
        The loss [], summed over captions and averaged over images.
    """
    logit = lambda cosine: jnp.exp(log_scale) * cosine + bias
    logits = logit(images @ captions.T)
    match = jnp.eye(len(logits), dtype=bool)
    losses = jax.nn.softplus(jnp.where(match, -logits, logits))
    if same is not None:
        losses = jnp.where(same & ~match, 0, losses)
    total = losses.sum()
    if hard_negatives is not None:
        hard = jax.nn.softplus(logit((images[len(images) - len(hard_negatives) :] * hard_negatives).sum(-1)))
        total += jnp.sum(hard, where=has_hard_negative)
    return total / len(images)


@dataclasses.dataclass(frozen=True)
class PairLoss:
    """A loss of pairs by its function, and the initial value of the bias that it learns beside the logit scale, if it learns one.

    Attributes:
        of: `contrastive_loss`, `sigmoid_loss`, or a function with the arguments of one of them.
        starts_at: From batch_size to the initial bias []. None: there is no bias.
    """

    of: Callable[..., jax.Array]
    starts_at: Callable[[int], jax.Array] | None = None

    def initial_bias(self, batch_size: int) -> jax.Array | None:
        """The bias before training, None if there is none."""
        return None if self.starts_at is None else self.starts_at(batch_size)

    def __call__(self, images: jax.Array, captions: jax.Array, log_scale: jax.Array, bias: jax.Array | None, *rest) -> jax.Array:
        """The loss [], with the arguments of `sigmoid_loss`; bias None where there is none."""
        learned = (log_scale,) if bias is None else (log_scale, bias)
        return self.of(images, captions, *learned, *rest)


SOFTMAX = PairLoss(contrastive_loss)
SIGMOID = PairLoss(sigmoid_loss, lambda batch_size: -jnp.log(batch_size - 1.0))  # so many pairs do not belong together
PAIR_LOSSES = {"softmax": SOFTMAX, "sigmoid": SIGMOID}
