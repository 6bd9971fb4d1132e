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
    wrong: jax.Array | None = None,
    has_wrong: jax.Array | None = None,
) -> jax.Array:
    """Symmetric cross-entropy of unit embeddings images, captions [B, E], with logits exp(log_scale) * cosine.

    `same` [B, B] marks pairs whose captions are equal: off the diagonal they are false negatives, and are left out. None (the
    paper's plain loss) counts them. `wrong` [W, E]: a hard negative for each of the last W images, among whose captions it stands,
    where `has_wrong` [W] is true (None: for all).
    """
    logits = jnp.exp(log_scale) * images @ captions.T
    if same is not None:
        logits = jnp.where(same & ~jnp.eye(len(logits), dtype=bool), -jnp.inf, logits)
    of_caption, of_image = jax.nn.logsumexp(logits, axis=0), jax.nn.logsumexp(logits, axis=1)
    if wrong is not None:
        first = len(images) - len(wrong)
        hard = jnp.exp(log_scale) * (images[first:] * wrong).sum(-1)
        hard = hard if has_wrong is None else jnp.where(has_wrong, hard, -jnp.inf)
        of_image = of_image.at[first:].set(jnp.logaddexp(of_image[first:], hard))
    return jnp.mean((of_caption + of_image) / 2 - jnp.diagonal(logits))


def sigmoid_loss(
    images: jax.Array,
    captions: jax.Array,
    log_scale: jax.Array,
    bias: jax.Array,
    same: jax.Array | None = None,
    wrong: jax.Array | None = None,
    has_wrong: jax.Array | None = None,
) -> jax.Array:
    """SigLIP's loss of the same: of every image and caption, whether they belong together, with logit exp(log_scale) * cosine +
    bias. Summed over captions, the mean over images.
    """
    logit = lambda cosine: jnp.exp(log_scale) * cosine + bias
    logits = logit(images @ captions.T)
    together = jnp.eye(len(logits), dtype=bool)
    losses = jax.nn.softplus(jnp.where(together, -logits, logits))
    if same is not None:
        losses = jnp.where(same & ~together, 0, losses)
    total = losses.sum()
    if wrong is not None:
        hard = jax.nn.softplus(logit((images[len(images) - len(wrong) :] * wrong).sum(-1)))
        total += jnp.sum(hard, where=has_wrong)
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
