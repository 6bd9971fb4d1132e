"""The plain dense baseline: the model as one would write it in flax, over full sequences of ids, vmapped over models.

flax's attention, optax's cross-entropy and AdamW, autodiff throughout; no tables, no gates, no split of the residual stream.
Parameters, initial values and batches are lrjax's own, so that both can be compared number by number. Signatures are `sweep`'s,
and the model axis is over the same devices.

Axes: B batch, T tokens, m models.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, struct
from jax.sharding import Mesh

from lrjax import devices
from lrjax.config import Hyper, Static
from lrjax.data.captions import of_one
from lrjax.data.scenes import PAIR_CAPTION, SINGLE_CAPTION, render
from lrjax.data.splits import Splits
from lrjax.models.clip import CLIP, MAX_LOG_SCALE, init_clip, rng_stream
from lrjax.models.encoder import Encoder, projected


@struct.dataclass
class Batch:
    """Full sequences: images [B, L + 1] and captions [B, 4] of token ids, and the token of each caption that is read out [B]."""

    images: jax.Array
    captions: jax.Array
    readout: jax.Array


@struct.dataclass
class DenseState:
    """What training carries from step to step."""

    params: CLIP
    opt_state: optax.OptState


def sample(static: Static, hyper: Hyper, splits: Splits, step: jax.Array) -> Batch:
    """The batch that lrjax draws at a step, as full sequences."""
    task = static.task_object
    batch = task.batch(jax.random.fold_in(rng_stream(hyper.seed, "batches"), step), splits, hyper, static.batch_size)
    captions = [render(*of_one(task, batch.label)), render(PAIR_CAPTION, *batch.captions)]
    readout = jnp.repeat(jnp.array([SINGLE_CAPTION.readout, PAIR_CAPTION.readout]), static.batch_size // 2)
    return Batch(render(task.image, batch.images), jnp.concatenate(captions), readout)


def embed(static: Static, encoder_params: Encoder, ids: jax.Array, readout: jax.Array, causal: bool) -> jax.Array:
    """Unit embeddings [B, e] of sequences ids [B, T], read out at tokens [B]."""
    attention = linen.MultiHeadDotProductAttention(static.n_heads)
    mask = linen.make_causal_mask(ids) if causal else None
    x = encoder_params.E[ids] + encoder_params.P[None, : ids.shape[1]]
    for b in encoder_params.blocks:
        inputs = (("query", b.W_Q, b.b_Q), ("key", b.W_K, b.b_K), ("value", b.W_V, b.b_V), ("out", b.W_O, b.b_O))
        params = {name: {"kernel": kernel, "bias": bias} for name, kernel, bias in inputs}
        attended: Any = attention.apply({"params": params}, x, mask=mask)
        x = x + attended
    x = jnp.take_along_axis(x, readout[:, None, None], axis=1)[:, 0]
    x = projected(encoder_params, x)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def loss(static: Static, params: CLIP, batch: Batch) -> jax.Array:
    """CLIP's loss of one batch."""
    images = embed(static, params.vision, batch.images, jnp.zeros_like(batch.readout), causal=False)
    captions = embed(static, params.text, batch.captions, batch.readout, causal=True)
    logits = jnp.exp(params.log_scale) * images @ captions.T
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    labels = jnp.arange(len(logits))
    return (cross_entropy(logits, labels).mean() + cross_entropy(logits.T, labels).mean()) / 2


def optimiser(static: Static, hyper: Hyper) -> optax.GradientTransformation:
    """optax's AdamW on every parameter, with lrjax's warm-up."""
    schedule = lambda count: hyper.lr * jnp.minimum(1.0, (count + 1) / max(static.warmup_steps, 1))
    return optax.adamw(schedule, hyper.betas[..., 0], hyper.betas[..., 1], static.eps, weight_decay=hyper.weight_decay)


def train_step(static: Static, hyper: Hyper, splits: Splits, state: DenseState, step: jax.Array) -> tuple[DenseState, jax.Array]:
    """One step of one model: the state and the loss."""
    batch = sample(static, hyper, splits, step)
    value, grads = jax.value_and_grad(partial(loss, static))(state.params, batch)
    tree: Any = state.params  # optax's types know no dataclasses
    updates, opt_state = optimiser(static, hyper).update(grads, state.opt_state, tree)
    params: Any = optax.apply_updates(tree, updates)
    return DenseState(dataclasses.replace(params, log_scale=jnp.minimum(params.log_scale, MAX_LOG_SCALE)), opt_state), value


@partial(jax.jit, static_argnums=(0, 2))
def init_program(static: Static, hyper: Hyper, mesh: Mesh) -> DenseState:
    """Initial states of models, leaves [m, ...]."""

    def init(hyper):
        params: Any = init_clip(static, hyper)
        return DenseState(params, optimiser(static, hyper).init(params))

    return devices.over_models(jax.vmap(init), mesh)(hyper)


@partial(jax.jit, static_argnums=(0, 5, 6), donate_argnums=3)
def train_chunk(
    static: Static, hyper: Hyper, splits: Splits, states: DenseState, start: jax.Array, n_steps: int, mesh: Mesh
) -> tuple[DenseState, jax.Array]:
    """n_steps steps of all models from step `start`: states (donated) and losses [m, n_steps]."""

    def one(hyper, splits, state, start):
        return jax.lax.scan(partial(train_step, static, hyper, splits), state, start + jnp.arange(n_steps))

    all_models = jax.vmap(one, in_axes=(0, 0, 0, None))
    return devices.over_models(all_models, mesh, replicated=1)(hyper, splits, states, start)
