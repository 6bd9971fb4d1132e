"""Training of one model: padding and batching are inert, streams of randomness are the seed's, AdamW is optax's."""

import os
import subprocess
import sys
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from conftest import tiny_model
from lrjax import config, xla
from lrjax.data.captions import of_one
from lrjax.data.scenes import ABSENT, Scene, pair_caption_edits
from lrjax.data.tasks.base import Batch
from lrjax.models.clip import MAX_LOG_SCALE, embed_captions, init_clip, model_splits, rng_stream, unit_gates
from lrjax.models.interventions import Interventions
from lrjax.training.programs import init_program, split_program, train_chunk
from lrjax.training.step import batch_at, batch_loss, init_state, train_steps

STEPS, LARGEST = 20, 10
init, splits_of, loss_of = (jax.jit(f, static_argnums=0) for f in (init_clip, model_splits, batch_loss))


def started(models, padded_to=LARGEST):
    """The arguments of `train_chunk` for models that train as one program, padded to so many labels (None: to their own). Most
    tests share one padding and one length, and so one compilation.
    """
    static = config.make_static(models if padded_to is None else [*models, tiny_model(n_labels=padded_to)])
    hyper = jax.tree.map(lambda *x: np.stack(x), *map(config.make_hyper, models))
    return static, hyper, split_program(static, hyper), init_program(static, hyper)


def losses(models, padded_to=LARGEST, chunks=1):
    """The first losses [m, chunks x STEPS] of models trained as one program."""
    static, hyper, splits, states = started(models, padded_to)
    told = []
    for start in range(0, chunks * STEPS, STEPS):
        states, of_chunk = train_chunk(static, hyper, splits, states, jnp.int32(start), STEPS)
        told.append(of_chunk)
    return np.concatenate(told, axis=1)


@pytest.mark.slow
def test_padding_is_inert():
    """Equal initial values and splits to the bit, losses to 1e-5 (sums are taken in another order) over 20 steps."""
    model = tiny_model(n_labels=4)
    hyper = config.make_hyper(model)
    small, large = (config.make_static([model, tiny_model(n_labels=n)]) for n in (4, LARGEST))
    a, b = (init(static, hyper) for static in (small, large))
    rows = len(a.vision.E)
    cut = lambda e: e.replace(E=e.E[:rows])
    chex.assert_trees_all_equal(a, b.replace(vision=cut(b.vision), text=cut(b.text)))
    a, b = (splits_of(static, hyper) for static in (small, large))
    np.testing.assert_array_equal(a.positions, b.positions[:9])
    np.testing.assert_array_equal(a.pairs, b.pairs[:4, :4])
    np.testing.assert_allclose(losses([model], padded_to=None), losses([model]), atol=1e-5)


@pytest.mark.slow
def test_a_model_does_not_depend_on_its_batch_of_models():
    models = [tiny_model(seed=s, n_labels=3 + s) for s in range(8)]
    assert models[-1].n_labels == LARGEST
    together = losses(models)
    for i in (0, 1):
        np.testing.assert_allclose(together[i : i + 1], losses(models[i : i + 1]), atol=1e-5)


@pytest.mark.slow
def test_vmapped_equals_one_by_one():
    model = tiny_model(seed=5)
    static, hyper = config.make_static([model, tiny_model(n_labels=LARGEST)]), config.make_hyper(model)
    alone = train_steps(static, hyper, splits_of(static, hyper), jax.jit(partial(init_state, static))(hyper), 0, STEPS)[1]
    np.testing.assert_allclose(alone, losses([model])[0], atol=1e-5)


@pytest.mark.slow
def test_models_side_by_side_say_what_they_say_alone_at_full_size():
    """As SPEC has them, 128 wide and batches of 256: at such sizes a part of XLA read memory that was not its own (`lrjax.xla`),
    and these unit vectors were .08 off. Else they agree to rounding.
    """
    models = [config.Model(n_labels=n) for n in (5, 15, 25)]
    static = config.make_static(models)
    hyper = jax.tree.map(lambda *x: np.stack(x), *map(config.make_hyper, models))

    def said(hyper):
        batch = static.task_object.batch(jax.random.key(3), model_splits(static, hyper), hyper, static.batch_size)
        captions = of_one(static.task_object, batch.label), *zip(static.task_object.caption_templates, batch.captions, strict=True)
        return embed_captions(static, init_clip(static, hyper), Interventions(), captions)

    alone = [jax.jit(said)(jax.tree.map(lambda x, i=i: x[i], hyper)) for i in range(len(models))]
    for together, *one in zip(jax.jit(jax.vmap(said))(hyper), *alone, strict=True):
        np.testing.assert_allclose(together, np.stack(one), atol=1e-6)


@pytest.mark.slow
def test_jax_that_runs_without_what_xla_must_be_told_is_refused():
    start = "import jax; jax.devices(); import lrjax"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, env=environment | {"JAX_PLATFORMS": "cpu"})
    if not xla.knows(xla.YNN):
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1 and "ImportError: jax has started before lrjax was imported" in done.stderr


def test_a_flag_is_known_by_its_whole_name():
    """What is no flag any more still stands in longer strings of the library, and ends the process if it is given."""
    assert xla.knows("xla_gpu_autotune_level") and not xla.knows("xla_gpu_autotune") and not xla.knows("autotune_level")


def test_all_seeds_start_different_and_are_paired_across_conditions():
    statics = config.make_static([tiny_model()])
    found = {
        (seed, n2): init(statics, config.make_hyper(tiny_model(seed=seed, n2=n2, lr=0.01 * n2)))
        for seed in (0, 1, 2**32 - 1)
        for n2 in (3, 7)
    }
    for seed in (0, 1, 2**32 - 1):
        chex.assert_trees_all_equal(found[seed, 3], found[seed, 7])
    distinct = {np.asarray(p.vision.E).tobytes() for p in found.values()} | {np.asarray(p.text.E).tobytes() for p in found.values()}
    assert len(distinct) == 6, "two encoders of three seeds"


@pytest.mark.slow
def test_chunks_are_the_same_as_one_run():
    static, hyper, splits, _ = started([tiny_model()])
    run = lambda state, start, made: train_chunk(static, hyper, splits, state, jnp.int32(start), STEPS, None, jnp.int32(made))
    whole, whole_losses = run(init_program(static, hyper), 0, 10)
    half, first = run(init_program(static, hyper), 0, 4)
    half, second = run(half, 4, 6)
    chex.assert_trees_all_close(whole, half, atol=1e-6)
    np.testing.assert_allclose(whole_losses[:, :10], np.concatenate([first[:, :4], second[:, :6]], axis=1), atol=1e-6)
    np.testing.assert_allclose(whole.loss_sum, whole_losses[:, :10].sum(axis=1), rtol=1e-6)
    assert np.isnan(whole_losses[:, 10:]).all(), "steps that were not made"


@pytest.mark.slow
def test_a_step_is_optax_adamw_with_warm_up_on_every_parameter():
    model = tiny_model(lr=0.03, weight_decay=0.2, betas=(0.8, 0.9), warmup_steps=4)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    splits, state = splits_of(static, hyper), jax.jit(partial(init_state, static))(hyper)
    schedule = lambda count: 0.03 * jnp.minimum(1.0, (count + 1) / 4)
    reference = optax.adamw(schedule, 0.8, 0.9, 1e-8, weight_decay=0.2)
    params, opt_state = state.params, reference.init(state.params)

    @jax.jit
    def stepped(params, opt_state, step):
        batch = static.task_object.batch(jax.random.fold_in(rng_stream(hyper.seed, "batches"), step), splits, hyper, 32)
        gradient = jax.grad(lambda p: batch_loss(static, hyper, p, unit_gates(static), batch))(params)
        updates, opt_state = reference.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for step in range(6):
        params, opt_state = stepped(params, opt_state, step)
    ours, _ = train_steps(static, hyper, splits, state, 0, 6)
    b_k = lambda p: [b.b_K for encoder_params in (p.vision, p.text) for b in encoder_params.blocks]
    assert all((b == 0).all() for b in b_k(ours.params)), "b_K has no gradient and starts at 0: it stays"
    chex.assert_trees_all_close(ours.params, params, atol=1e-5)  # Adam's first steps divide by rounding-sized gradients


@pytest.mark.slow
def test_logit_scale_is_clipped_at_100():
    static, hyper, splits, state = started([tiny_model()])
    state = state.replace(params=state.params.replace(log_scale=jnp.float32([MAX_LOG_SCALE + 1])))
    state, _ = train_chunk(static, hyper, splits, state, jnp.int32(0), STEPS, None, jnp.int32(1))
    assert state.params.log_scale <= np.float32(MAX_LOG_SCALE)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [(1, 1), (2, 1), (1, 2)])
def test_any_depth_learns(layers):
    model = tiny_model(n_layers_vision=layers[0], n_layers_text=layers[1], lr=0.01)
    trained = losses([model], chunks=3)[0]
    assert trained[-10:].mean() < trained[:5].mean() - 0.3


@pytest.mark.slow
def test_a_gate_in_training_is_felt_from_its_step_on():
    models = [tiny_model(gates=g, e_scale=1.0, p_scale=1.0) for g in ("none", "EP=0", "EP=1>0@5-6", "EB=0;PB=0;BB=0")]
    none, off, later, row_constant = losses(models)
    assert none[0] != off[0]
    np.testing.assert_allclose(none[:6], later[:6], atol=1e-6)
    assert abs(none[6:10] - later[6:10]).max() > 1e-5
    np.testing.assert_array_equal(none, row_constant)


@pytest.mark.slow
def test_masking_repeated_captions_lowers_the_loss():
    found = []
    for mask_repeats in (False, True):
        model = tiny_model(n_labels=2, mask_repeats=mask_repeats)
        static, hyper = config.make_static([model]), config.make_hyper(model)
        batch = jax.jit(batch_at, static_argnums=0)(static, hyper, splits_of(static, hyper), jnp.int32(0))
        found.append(loss_of(static, hyper, init(static, hyper), unit_gates(static), batch))
    plain, masked = found
    assert masked < plain


@pytest.mark.slow
def test_masked_loss_knows_equal_captions():
    """Two images of one label are repeats; with the mask they do not count against each other."""
    model = tiny_model(mask_repeats=True, batch_size=4)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params = init(static, hyper)
    plain = config.make_static([tiny_model(batch_size=4)])

    def loss(static, labels):
        place, task = jnp.array([1, 3, 1, 3]), static.task_object
        left, right = jnp.array([*labels, 7, 8]), jnp.array([ABSENT, ABSENT, 8, 7])
        said = pair_caption_edits(left[2:], right[2:], jnp.zeros(2, int))
        batch = Batch(task.image_edits(Scene(left, right, place, place + 1)), left[:2], (said,), (said,))
        return loss_of(static, hyper, params, unit_gates(static), batch)

    masked = loss(static, (6, 6))
    assert jnp.isfinite(masked)
    np.testing.assert_allclose(loss(static, (6, 9)), loss(plain, (6, 9)), rtol=1e-6)
    assert masked < loss(plain, (6, 6))
