"""The benchmark compares like with like: both baselines compute lrjax's loss, and the hand counts agree with the compiler's."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures_read
from conftest import one_command
from lrjax import config
from lrjax.benchmark import dense, eager, measure
from lrjax.models.clip import init_clip, model_splits, rng_stream, unit_gates
from lrjax.training import flops
from lrjax.training.step import batch_loss


def lrjax_loss(static, hyper, splits, params, step=0):
    """The loss of training's own batch at a step."""
    key = jax.random.fold_in(rng_stream(hyper.seed, "batches"), step)
    batch = static.task_object.batch(key, splits, hyper, static.batch_size)
    return batch_loss(static, hyper, params, unit_gates(static), batch)


@pytest.mark.slow
def test_the_dense_baseline_has_the_loss_and_gradient_of_lrjax(tiny):
    static, hyper, params, splits = tiny
    ours = jax.jit(jax.value_and_grad(partial(lrjax_loss, static, hyper, splits)))(params)
    batch = jax.jit(partial(dense.sample, static, hyper, splits))(0)
    plain = jax.jit(jax.value_and_grad(lambda params: dense.loss(static, params, batch)))(params)
    # float32 sums of up to 32 x 11 terms in another order: 1e-5 of the largest entry of each array; b_K's gradient is 0 in truth
    assert abs(ours[0] - plain[0]) < 1e-5 * plain[0]
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(plain[1]))
    for (path, a), b in zip(jax.tree.leaves_with_path(ours[1]), jax.tree.leaves(plain[1]), strict=True):
        scale = max(float(jnp.abs(b).max()), 1e-2 * largest)
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-5 * scale, err_msg=jax.tree_util.keystr(path))


def test_the_eager_baseline_has_the_loss_of_lrjax_and_trains_alike(tiny):
    pytest.importorskip("torch")
    static, hyper, params, splits = tiny
    batches = jax.jit(jax.vmap(partial(dense.sample, static, hyper, splits)))(jnp.arange(3))
    model = eager.make_model(static, params)
    first, *_ = zip(*eager.to_torch(batches), strict=True)
    expected = jax.jit(partial(lrjax_loss, static, hyper, splits))(params)
    assert abs(eager.loss(static, model, *first).item() - expected) < 1e-5 * expected
    last = eager.train(static, model, *eager.make_optimiser(static, hyper, model), eager.to_torch(batches))
    state = dense.DenseState(params, dense.optimiser(static, hyper).init(params))
    train_step = jax.jit(partial(dense.train_step, static, hyper, splits))
    for step in range(3):
        state, loss = train_step(state, step)
    # Adam turns the rounding in b_K's gradient (0 in truth) into steps, but b_K has no effect
    assert abs(last - loss) < 1e-4 * loss


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"n_labels": 6, "d_model": 64, "d_embed": 32, "batch_size": 64, "L": 6}])
def test_counted_flops_agree_with_the_compilers(fields):
    """The compiler counts what the code does: within a tenth for dense; lrjax's code may do up to twice the counted algorithm."""
    model = config.Model(**fields)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params = jax.eval_shape(partial(init_clip, static), hyper)
    splits = jax.eval_shape(partial(model_splits, static), hyper)

    def cost(loss):
        return jax.jit(jax.grad(loss)).lower(params, splits).cost_analysis()["flops"]

    def counted(parts):
        return flops.total({name: count for name, count in parts.items() if name != "AdamW"}).flops

    plain = cost(lambda params, splits: dense.loss(static, params, dense.sample(static, hyper, splits, 0)))
    assert 0.9 < plain / counted(flops.dense_counts(static)) < 1.15
    ours = cost(lambda params, splits: lrjax_loss(static, hyper, splits, params))
    assert 0.7 < ours / counted(flops.lrjax_counts(static)) < 2
    assert flops.n_parameters(static) == sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("objective", "compares"), [("contrastive", True), ("autoregressive", False), ("autoregressive_raw", False)]
)
def test_a_decoder_compares_no_image_with_other_captions(objective, compares):
    parts = flops.lrjax_counts(config.make_static([config.Model(objective=objective)]))
    assert ("contrastive forward" in parts) == ("contrastive backward" in parts) == compares


def test_a_contraction_costs_twice_as_much_backward():
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    forward = jax.jit(jnp.matmul).lower(a, b).cost_analysis()["flops"]
    both = jax.jit(lambda a, b, out: jax.vjp(jnp.matmul, a, b)[1](out)).lower(a, b, jnp.ones((3, 7))).cost_analysis()["flops"]
    assert forward == flops.contraction(3, 5, 7).flops and both == 2 * forward
    assert flops.contraction(3, 5, 7, batch=2) == flops.Count(2 * 2 * 3 * 5 * 7, 2 * 4 * (15 + 35 + 21))


def test_models_of_the_benchmark_are_paired_across_sizes():
    table = config.make_sweep(config.get_config(n_labels=(4, 6), seeds=2))
    (static, one), (same, three) = measure.first_models(table, 1), measure.first_models(table, 3)
    assert static == same and static.n_labels_max == 6
    assert three.n_labels.tolist() == [4, 6, 4] and three.seed.tolist() == [0, 0, 1] and one.n_labels.tolist() == [4]


def test_compile_times_leave_the_cache_settings_as_they_were():
    before = jax.config.jax_compilation_cache_dir
    compiled, cold, cached = measure.compile_times(lambda: jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((8, 8))))
    assert jax.config.jax_compilation_cache_dir == before and cold > 0 and cached > 0
    assert measure.peak_bytes(compiled) >= 2 * 8 * 8 * 4


@pytest.mark.slow
def test_the_command_writes_its_table(tmp_path):
    config_flags = ("--config=experiments/configs/smoke.py", "--config.d_model=8", "--config.d_embed=8", "--config.batch_size=8")
    outputs = (f"--json={tmp_path / 'b.json'}", f"--figure={tmp_path / 'figure/b.svg'}")
    done = one_command("benchmark", *config_flags, "--models=1", "--steps=2", *outputs)
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "b.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert {measure.LRJAX, measure.DENSE} <= set(rows) and table["evaluation_share"] > 0
    assert all(row["ms"] > 0 and row["gflop"] > 0 and row["matmul_share"] > 0 for row in rows.values())
    assert eager.available() == ("eager PyTorch" in rows) == (rows[measure.LRJAX]["times_eager"] is not None)
    drawn = figures_read.texts(tmp_path / "figure/b.svg")
    assert {"models in the program", "ms per model-step", measure.LRJAX, measure.DENSE} <= set(drawn)
    assert "evaluation every" in done.stdout
