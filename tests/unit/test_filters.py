"""A filter filters everything: the part of a run is a run, and its tables are its rows of the whole's."""

import numpy as np
import pytest

from conftest import tiny_model
from drawn_runs import drawn
from lrjax import config
from lrjax.analysis.gradient import gradient
from lrjax.analysis.selection import by_shape, fields_of, of_labels, some_of, where
from lrjax.errors import InputError
from lrjax.stats import select
from lrjax.training import loop
from lrjax.training.run import divergences, history_table, models_table

KINDS = (
    dict(n_labels=4),
    dict(n_labels=6, gates="EP=0;text:PP=0", betas=(0.8, 0.9)),
    dict(n_labels=4, n_heads=4, weight_decay=0.5),
    dict(n_labels=6, n_heads=4, lr=1e30),
    dict(n_labels=6, n_heads=4, layer_norm=True),
)


@pytest.fixture(scope="module")
def mixed():
    """Two seeds of KINDS, seeds outermost: three programs, models of one kind diverged."""
    models = [tiny_model(seed=seed, d_model=8, **{"n_heads": 2} | kind) for seed in (3, 5) for kind in KINDS]
    return drawn(config.Sweep(tuple(models), steps=2, eval_every=1))


def same(found, expected):
    assert list(found) == list(expected)
    for name, column in found.items():
        np.testing.assert_array_equal(np.ma.filled(column, -1), np.ma.filled(expected[name], -1), name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ("n_heads=4", [2, 3, 4, 7, 8, 9]),
        ("n_labels=4", [0, 2, 5, 7]),
        ("seed=5", [5, 6, 7, 8, 9]),
        ("weight_decay=0.5", [2, 7]),
        ("weight_decay=5e-1;seed=3", [2]),
        ("lr=1e30", [3, 8]),
        ("betas=0.8,0.9", [1, 6]),
        ("betas=(0.8, 0.9)", [1, 6]),
        ("layer_norm=True", [4, 9]),
        ("gates=EP=0;text:PP=0", [1, 6]),
        ("seed=3;gates=EP=0;text:PP=0;n_labels=6", [1]),
        ("positions=learned", list(range(10))),
    ],
)
def test_a_filtered_run_is_its_rows_of_the_whole_in_everything(mixed, fields, numbers):
    run = where(mixed, fields_of(fields))
    assert [mixed.sweep.models[number] for number in numbers] == list(run.sweep.models)
    same(models_table(run), select(models_table(mixed), numbers))
    history = history_table(mixed)
    same(history_table(run), select(history, np.isin(history["model"], numbers)))
    same({"at": run.diverged_at}, {"at": mixed.diverged_at[numbers]})
    assert loop.plan(run).startswith(f"plan: {len(numbers)} models, 0 model-steps")
    gone = [number for number in numbers if number in (3, 8)]
    assert (f"{len(gone)} of {len(numbers)} (" in divergences(run)) == bool(gone)
    assert all(f"model {number} at step" in divergences(run) for number in gone)
    assert sorted(row for program in run.programs for row in program.rows.tolist()) == list(range(len(numbers)))
    for program, state in zip(run.programs, run.states, strict=True):
        assert program.hyper.seed[: len(program.rows)].tolist() == [run.sweep.models[row].seed for row in program.rows]
        assert len(state.diverged_at) == len(program.rows)


@pytest.mark.slow
def test_analyses_of_a_filtered_run_join_the_whole(mixed):
    whole = gradient(mixed)
    part = gradient(where(mixed, ["n_heads=4", "seed=5"]))
    assert part.model.values.tolist() == [7, 8, 9] and whole.model.values.tolist() == list(range(10))
    np.testing.assert_array_equal(part.ratio, whole.ratio.sel(model=[7, 8, 9]))
    np.testing.assert_array_equal(gradient(mixed, n_labels=[4]).model, [0, 2, 5, 7])
    np.testing.assert_array_equal(gradient(where(mixed, ["seed=5"]), n_labels=[4]).ratio, whole.ratio.sel(model=[5, 7]))


def test_parts_of_parts_keep_their_numbers(mixed):
    part = where(where(mixed, ["n_heads=4"]), ["seed=5"])
    assert part.sweep.part_of is mixed.sweep and part.sweep.numbers == (7, 8, 9)
    assert of_labels(part, [6]).sweep.numbers == (8, 9)
    assert [of_shape.sweep.numbers for of_shape in by_shape(part, "layer_norm", "n_labels")] == [(7,), (8,), (9,)]
    assert some_of(part, [True] * 3) is part, "all of a run is the run"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("seed=4", "--where=seed=4: no model has it; expected seed=3 or 5"),
        ("n_labels=many", "--where=n_labels=many: no model has it; expected n_labels=4 or 6"),
        ("n_heads=4;n_labels=5", "--where=n_labels=5: no model has it; expected n_labels=4 or 6"),
        ("weight_decays=1", "--where=weight_decays=1: is no such field (did you mean 'weight_decay'?); expected NAME=VALUE"),
        ("layer_norm=yes", "--where=layer_norm=yes: no model has it; expected layer_norm=False or True"),
        ("gates=PP=0", "--where=gates=PP=0: no model has it; expected gates=EP=0;text:PP=0 or none"),
    ],
)
def test_a_filter_that_no_model_passes_is_named(mixed, fields, told):
    with pytest.raises(InputError) as error:
        where(mixed, fields_of(fields))
    assert str(error.value).startswith(told)
