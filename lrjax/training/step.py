"""Training of ONE model as a pure function; `train_steps` adds the axis of models with vmap.

Axes: B batch.
"""

import dataclasses
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from lrjax.config import Hyper, Static
from lrjax.data.captions import noisy
from lrjax.data.finite_set import batch_items
from lrjax.data.scenes import CLS
from lrjax.data.splits import Splits
from lrjax.data.tasks.base import Batch
from lrjax.gates import Gates
from lrjax.models import objectives
from lrjax.models.clip import CLIP, MAX_LOG_SCALE, as_read, encoder_configs, init_clip, rng_stream
from lrjax.models.interventions import ModelInterventions


@struct.dataclass
class TrainState:
    """What training carries: parameters, the optimiser's state, the sum of losses since the last evaluation, and the step at which
    the model diverged, -1 while it is healthy.
    """

    params: CLIP
    opt_state: optax.OptState
    loss_sum: jax.Array
    diverged_at: jax.Array


def optimiser(static: Static, hyper: Hyper) -> optax.GradientTransformation:
    """AdamW on every parameter; the learning rate reaches `lr` after `warmup_steps` equal steps."""

    def learning_rate(count):
        return hyper.lr * jnp.minimum(1.0, (count + 1) / max(static.warmup_steps, 1))

    b1, b2 = hyper.betas[..., 0], hyper.betas[..., 1]
    return optax.chain(
        optax.scale_by_adam(b1, b2, static.eps),
        optax.stateless(lambda updates, params: jax.tree.map(jnp.add, updates, weight_decay(hyper, cast(CLIP, params)))),
        optax.scale_by_learning_rate(learning_rate),
    )


def weight_decay(hyper: Hyper, params: CLIP) -> CLIP:
    """What weight decay takes from every parameter in a step, divided by the learning rate: nothing from vision's E_cls where
    `decay_cls` is False.
    """
    decay = jax.tree.map(lambda p: hyper.weight_decay * p, params)
    E = decay.vision.E
    is_cls = (jnp.arange(len(E)) == CLS)[:, None]
    return dataclasses.replace(decay, vision=dataclasses.replace(decay.vision, E=jnp.where(is_cls & ~hyper.decay_cls, 0, E)))


def init_state(static: Static, hyper: Hyper) -> TrainState:
    """The state of one model before its first step."""
    params: Any = init_clip(static, hyper)
    return TrainState(params, optimiser(static, hyper).init(params), jnp.float32(0), jnp.int32(-1))


def batch_loss(
    static: Static, hyper: Hyper, params: CLIP, gates: Gates, batch: Batch, dropout_key: jax.Array | None = None
) -> jax.Array:
    """The loss of one batch, as the objective of the model has it."""
    interventions = ModelInterventions.of_gates(gates, dropout_key=dropout_key)
    return objectives.of(static).loss(static, hyper, params, interventions, batch)


def train_step(static: Static, hyper: Hyper, splits: Splits, state: TrainState, step: jax.Array) -> tuple[TrainState, jax.Array]:
    """One step: draw the batch of (seed, step) and descend its gradient. Returns the state and the loss.

    A model whose loss is not finite has diverged: its parameters stay as they were before that step, and the other models of the
    program are not affected. (To freeze the optimiser's moments too, which nothing reads any more, would cost 5 % of a step; this
    costs nothing.)
    """
    batch = batch_at(static, hyper, splits, step)
    gates = hyper.gates.at(step)
    dropout_key = jax.random.fold_in(rng_stream(hyper.seed, "dropout"), step) if static.dropout else None
    with jax.default_matmul_precision(static.matmul_precision):
        loss_of = lambda params: batch_loss(static, hyper, as_read(hyper, params), gates, batch, dropout_key)
        loss, grads = jax.value_and_grad(loss_of)(state.params)
    tree: Any = state.params  # optax's types know no dataclasses
    updates, opt_state = optimiser(static, hyper).update(grads, state.opt_state, tree)
    updates = keep_positions(static, cast(CLIP, updates))
    healthy = jnp.isfinite(loss) & (state.diverged_at < 0)
    params: Any = optax.apply_updates(tree, jax.tree.map(lambda u: jnp.where(healthy, u, 0), updates))
    params = dataclasses.replace(params, log_scale=jnp.minimum(params.log_scale, MAX_LOG_SCALE))
    diverged_at = jnp.where(healthy | (state.diverged_at >= 0), state.diverged_at, step)
    return TrainState(params, opt_state, state.loss_sum + loss, diverged_at), loss


def batch_at(static: Static, hyper: Hyper, splits: Splits, step: jax.Array) -> Batch:
    """The batch of a training step: a function of the model's seed and the step alone."""
    task, batches, noise = static.task_object, rng_stream(hyper.seed, "batches"), rng_stream(hyper.seed, "noise")
    if static.data == "fixed":
        n_items = task.n_items(hyper.n_labels, hyper.n1, hyper.n2)
        number = batch_items(batches, step, n_items, static.batch_size)
        batch = task.items(rng_stream(hyper.seed, "items"), splits, hyper, number)
        return noisy(noise, batch, hyper.caption_noise, number) if static.noisy else batch
    drawn_by = hyper if static.zipfian else dataclasses.replace(hyper, zipf=None)
    batch = task.batch(jax.random.fold_in(batches, step), splits, drawn_by, static.batch_size)
    return noisy(jax.random.fold_in(noise, step), batch, hyper.caption_noise) if static.noisy else batch


def keep_positions(static: Static, updates: CLIP) -> CLIP:
    """`updates` without those of rows of P that are fixed, or that this kind of position does not have."""
    configs = encoder_configs(static)
    trained = {name: encoder_config.trained_positions()[:, None] for name, encoder_config in configs.items()}
    one_a_position = not any(encoder_config.position_rows for encoder_config in configs.values())
    if one_a_position and all(rows.all() for rows in trained.values()):  # another product with 1 would round elsewhere under XLA
        return updates
    for name, rows in trained.items():
        encoder_updates = getattr(updates, name)
        encoder_updates = dataclasses.replace(encoder_updates, P=encoder_updates.P * rows)
        updates = dataclasses.replace(updates, **{name: encoder_updates})
    return updates


def train_steps(
    static: Static,
    hyper: Hyper,
    splits: Splits,
    state: TrainState,
    start: jax.Array,
    n_steps: int,
    made: jax.Array | None = None,
) -> tuple[TrainState, jax.Array]:
    """n_steps steps from step `start`, or as many of them as `made` (traced) says: the state and the loss of each step [n_steps],
    NaN for a step that was not made.

    Of one model, or of m models side by side, whose leaves have a first axis [m]: so has what is returned. The models stand inside
    the loop over steps, and not around it, since jax then traces a step once and not twice.
    """
    models = jnp.shape(hyper.seed)  # () or (m,)
    one_step = partial(train_step, static)
    one_step = jax.vmap(one_step, (0, 0, 0, None)) if models else one_step

    def step(i, carry):
        state, losses = carry
        state, loss = one_step(hyper, splits, state, start + i)
        return state, losses.at[..., i].set(loss)

    losses = jnp.full((*models, n_steps), jnp.nan)
    return jax.lax.fori_loop(0, n_steps if made is None else made, step, (state, losses))
