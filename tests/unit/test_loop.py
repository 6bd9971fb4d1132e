"""Tables of models as programs: compiled once, in as many programs as there are shapes, evaluated as asked."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import TINY, tiny_model, tiny_sweep, train_in, untrained
from lrjax import config, devices
from lrjax.stats import select
from lrjax.storage import workdir
from lrjax.training import loop, memory
from lrjax.training.programs import evaluate_program, init_program, make_programs, slab_size, split_program, train_chunk
from lrjax.training.run import history_table, models_table


@pytest.mark.slow
def test_the_chunk_compiles_once_whatever_seeds_and_labels():
    """Counted by jax itself: one compilation a run, whatever its seeds, label counts and steps; one for the default sweep."""
    for wanted in (tiny_sweep(n_labels=(2, 3, 4, 6), seeds=1, steps=30), tiny_sweep(n_labels=(6,), seeds=4, steps=50)):
        train_chunk.clear_cache()
        loop.advance(loop.start(wanted))
        assert train_chunk._cache_size() == 1
    programs = make_programs(config.make_sweep(config.get_config()))
    assert len(programs) == 1 and len(programs[0].rows) == 40


def test_history_has_every_model_at_every_evaluation(trained):
    _, run = trained
    table = history_table(run)
    assert table["step"].tolist() == [0] * 4 + [10] * 4 + [20] * 4
    assert table["n_labels"].tolist() == [4, 4, 6, 6] * 3 and table["seed"].tolist() == [0, 1] * 6
    assert np.isnan(table["loss"][:4]).all() and (table["loss"][4:] > 0).all()
    assert ((table["unseen_pair_order"] >= 0) & (table["unseen_pair_order"] <= 1)).all()


@pytest.mark.slow
def test_reported_figures_are_the_mean_of_the_last_three_evaluations():
    run = loop.advance(loop.start(tiny_sweep(steps=50)))
    k = run.history.metrics.index("unseen_pair_order")
    expected = np.mean([values[:, k] for values in run.history.values[-3:]], 0)
    np.testing.assert_allclose(models_table(run)["unseen_pair_order"], expected, rtol=1e-6)


@pytest.mark.slow
def test_the_last_evaluation_is_of_all_images_under_the_gates_in_force_and_training_takes_its_state():
    models = [tiny_model(n_labels=4, seed=seed, gates="EP+PP=1>0@0-1", lr=0.0) for seed in range(2)]
    run = loop.advance(untrained(*models))
    (p,), (state,), history = run.programs, run.states, history_table(run)
    splits, names = split_program(p.static, p.hyper), ("seen_pair_order", "unseen_pair_order")

    def asked(exhaustive, step):
        traced = jnp.int32(step), jnp.bool_(exhaustive)
        found = evaluate_program(p.static, p.hyper, splits, state.params, *traced, (), devices.mesh())
        return [np.asarray(found[name]) for name in names]

    for step in (0, 1):
        np.testing.assert_array_equal([history[name][history["step"] == step] for name in names], asked(True, step))
    assert any((x != y).any() for x, y in zip(asked(True, 0), asked(True, 1), strict=True)), "gates have gone to 0"
    (seen, unseen), (sampled, again) = asked(True, 1), asked(False, 1)
    assert (seen != sampled).any() and (unseen == again).all()
    states = devices.shard_to_devices(init_program(p.static, p.hyper), devices.mesh())
    train_chunk(p.static, p.hyper, splits, states, jnp.int32(0), 1, devices.mesh())
    assert all(x.is_deleted() for x in jax.tree.leaves(states)), "donated: a state is held once"


def test_losses_fall(trained):
    _, run = trained
    first, last = (run.history.values[i][:, 0] for i in (1, -1))
    assert (last < first).all()


def test_a_chunk_is_short_on_a_slow_machine():
    (program,) = make_programs(config.make_sweep(config.get_config(seeds=1)))
    assert memory.chunk_steps(program) > 25
    (many,) = make_programs(config.make_sweep(config.get_config(seeds=40)))
    seconds = memory.chunk_steps(many) * memory.flops_of_model(many.static) * 200 / devices.slow_flops()
    assert memory.chunk_steps(many) < 5 and seconds <= memory.CHUNK_SECONDS
    (wide,) = make_programs(config.make_sweep(config.get_config(seeds=40, d_model=2048)))
    assert memory.chunk_steps(wide) == 1, "never none"


def test_slabs_of_several_lengths_have_one_size():
    sizes = lambda counts, slab=0, devices=1: slab_size(counts, slab, devices)
    assert sizes([16, 16]) == 16 and sizes([16, 8, 8]) == 8 and sizes([40]) == 40
    assert sizes([16, 16], slab=4) == 4 and sizes([6, 6], devices=4) == 8
    assert sizes([16, 1]) == 1, "nothing is padded"


@pytest.mark.slow
def test_several_programs_advance_together_and_keep_the_tables_order(tmp_path):
    models = [tiny_model(seed=s, n_heads=h) for s, h in ((0, 1), (0, 2), (1, 1), (1, 2))]
    wanted = config.Sweep(tuple(models), steps=10, eval_every=5)
    run = train_in(tmp_path / "w", wanted)
    assert [p.rows.tolist() for p in run.programs] == [[0, 2], [1, 3]]
    assert "2 programs\n      (models whose shapes differ compile apart)" in loop.plan(run)
    late = tiny_sweep(gates="EP=1>0@10-50", steps=20, eval_every=10)
    assert "\n      (gates 'EP=1>0@10-50' end at step 50, after the last, 20)" in loop.plan(loop.start(late))
    table = models_table(run)
    assert table["n_heads"].tolist() == [1, 2, 1, 2]
    alone = loop.advance(loop.start(config.Sweep((models[1], models[3]), steps=10, eval_every=5)))
    np.testing.assert_array_equal(table["loss"][[1, 3]], models_table(alone)["loss"])
    again = workdir.restore(tmp_path / "w")
    assert again.sweep == wanted
    chex.assert_trees_all_equal(run.states, again.states)


@pytest.mark.slow
def test_measures_become_columns():
    def text_norm(static, hyper, splits, params, gates):
        return {"text_norm": (params.text.E**2).sum() ** 0.5}

    run = loop.advance(loop.start(tiny_sweep(steps=10)), measures=(text_norm,))
    table = history_table(run)
    assert list(table)[-1] == "text_norm" and (table["text_norm"] > 0).all()


def test_training_tells_its_progress():
    told = []
    loop.advance(loop.start(tiny_sweep()), on_chunk=lambda steps, loss: told.append((steps, loss)))
    assert [steps for steps, _ in told] == [40, 40] and all(np.isfinite(loss) for _, loss in told)


def test_models_table_names_its_axes_before_training():
    run = loop.start(tiny_sweep(betas=((0.9, 0.98), (0.5, 0.6))))
    table = models_table(run)
    assert {"seed", "n_labels", "n2", "beta1", "beta2", "gates"} <= set(table) and "loss" not in table
    assert set(select(table, table["beta1"] == 0.5)["beta2"].tolist()) == {0.6}


def test_models_of_a_config_file_train_like_models_from_python():
    wanted = tiny_sweep(n_labels=(4,), seeds=1, steps=10)
    assert wanted.models == (config.Model(**{**TINY, "n_labels": 4}),)
