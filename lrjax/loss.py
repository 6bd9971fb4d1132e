"""CLIP's loss: symmetric cross-entropy over the cosine similarities of a batch."""

import jax
import jax.numpy as jnp


def contrastive_loss(images: jax.Array, captions: jax.Array, log_scale: jax.Array, same: jax.Array | None = None) -> jax.Array:
    """Symmetric cross-entropy of unit embeddings images, captions [B, E], with logits exp(log_scale) * cosine.

    `same` [B, B] marks pairs whose captions are equal: off the diagonal they are false negatives, and are left out. None (the
    paper's plain loss) counts them.
    """
    logits = jnp.exp(log_scale) * images @ captions.T
    if same is not None:
        logits = jnp.where(same & ~jnp.eye(len(logits), dtype=bool), -jnp.inf, logits)
    normaliser = jax.nn.logsumexp(logits, axis=0) + jax.nn.logsumexp(logits, axis=1)
    return jnp.mean(normaliser / 2 - jnp.diagonal(logits))
