import dataclasses

import numpy as np
import pytest

from experiments.configs import diversity, diversity_grid, smoke
from lrjax.config import Model, Sweep, get_config, make_hyper, make_sweep, validate
from lrjax.errors import InputError
from lrjax.storage.serialization import sweep_from_json, sweep_to_json
from lrjax.training.programs import make_programs


def test_shipped_configs_are_the_tables_they_say():
    sweep = make_sweep(diversity.get_config())
    assert len(sweep.models) == 40 and sweep.steps == 3000 and sweep.eval_every == 300
    assert {m.n_labels for m in sweep.models} == {5, 10, 15, 20, 25} and {m.seed for m in sweep.models} == set(range(8))
    assert {dataclasses.replace(m, seed=0, n_labels=15) for m in sweep.models} == {Model()}, "SPEC's defaults"
    grid = make_sweep(diversity_grid.get_config())
    assert len(grid.models) == 200 and {m.n2 for m in grid.models} == {1, 5, 10, 20, 40}
    assert len(make_programs(sweep)) == len(make_programs(grid)) == 1
    assert len(make_sweep(smoke.get_config()).models) == 4


def test_the_table_is_the_product_of_axes_and_seeds():
    config = get_config(n_labels=(4, 6), lr=(1e-3, 1e-2), betas=((0.9, 0.98), (0.9, 0.999)), seeds=3, first_seed=7)
    models = make_sweep(config).models
    assert len(set(models)) == len(models) == 24
    assert {m.seed for m in models} == {7, 8, 9} and {m.betas for m in models} == {(0.9, 0.98), (0.9, 0.999)}


def test_values_are_cast_to_the_fields_type():
    model = make_sweep(get_config(lr=1, n_labels=(5.0,), betas=(0.9, 0.95))).models[0]
    assert isinstance(model.lr, float) and isinstance(model.n_labels, int) and model.betas == (0.9, 0.95)


def test_axes_that_change_shapes_become_programs():
    sweep = make_sweep(get_config(n_heads=(1, 2, 4), n_labels=(4, 6), seeds=2))
    programs = make_programs(sweep)
    assert [p.static.n_heads for p in programs] == [1, 2, 4] and all(len(p.rows) == 4 for p in programs)
    assert sorted(np.concatenate([p.rows for p in programs]).tolist()) == list(range(12))


def test_padding_is_to_the_programs_largest_n():
    assert make_programs(make_sweep(get_config(n_labels=(4, 9, 6))))[0].static.n_labels_max == 9


def test_hyper_holds_fixed_types():
    hyper = make_hyper(Model(lr=1, n_labels=7))
    assert hyper.lr.dtype == np.float32 and hyper.n_labels.dtype == np.int32 and hyper.betas.shape == (2,)


@pytest.mark.parametrize("sweep", [make_sweep(diversity.get_config()), make_sweep(get_config(betas=((0.9, 0.98), (0.8, 0.9))))])
def test_a_sweep_survives_json(sweep):
    import json

    assert sweep_from_json(json.loads(json.dumps(sweep_to_json(sweep)))) == sweep


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_labels": (1,)}, "config.n_labels: 1 is not possible; expected 2..1000"),
        ({"n2": (0,)}, "config.n2: 0 is not possible; expected 1 or more"),
        ({"n2": (10, 45)}, "config.n2: 45 is not possible; expected 1..44"),
        ({"n1": (10,)}, "config.n1: 10 is not possible; expected 1..9"),
        ({"n1": (0,)}, "config.n1: 0 is not possible; expected 1 or more"),
        ({"d_model": 130}, "config.d_model: 130 is not possible; expected a multiple of n_heads = 4"),
        ({"batch_size": 255}, "config.batch_size: 255 is not possible; expected an even number"),
        ({"n_labels": ()}, "config.n_labels: the axis is empty"),
        ({"lr": (-1e-3,)}, "config.lr: -0.001 is not possible; expected a finite number above 0"),
        ({"lr": (float("nan"),)}, "config.lr: nan is not possible; expected a finite number"),
        ({"weight_decay": (float("inf"),)}, "config.weight_decay: inf is not possible"),
        ({"betas": ((0.9, 1.0),)}, "config.betas: (0.9, 1.0) is not possible; expected two numbers in [0, 1)"),
        ({"betas": (0.9,)}, "config.betas: 0.9 is not possible; expected two numbers"),
        ({"steps": 1000}, "config.steps: 1000 is not possible; expected a multiple of eval_every = 300"),
        ({"steps": -300}, "config.steps: -300 is not possible"),
        ({"eval_every": 0}, "config.eval_every: 0 is not possible; expected 1 or more"),
        ({"seeds": 0}, "config.seeds: 0 is not possible; expected 1..100000"),
        ({"seeds": 2.5}, "config.seeds: 2.5 is not possible; expected a whole number"),
        ({"n_labels": ("five",)}, "config.n_labels: 'five' is not possible; expected a whole number"),
        ({"n_labels": (True,)}, "config.n_labels: True is not possible"),
        ({"n_labels": (5, 5)}, "config.n_labels: (5, 5) repeats a value"),
        ({"relations": "up"}, "config.relations: 'up' is not possible; expected 'left' or 'left+right'"),
        ({"gates": ("EQ=0",)}, "gates 'EQ=0': term 'EQ' does not exist"),
        ({"gates": ("vision.h4:EP=0",)}, "head 4 is out of range; expected 0..3"),
        ({"e_scale": (0.0,), "p_scale": (0.0,)}, "config.e_scale: 0.0 is not possible; expected e_scale or p_scale above 0"),
        ({"n_label": (5,)}, "config.n_label: no such key (did you mean 'n_labels'?)"),
    ],
)
def test_bad_fields_are_named_with_value_and_expectation(changes, says):
    with pytest.raises(InputError) as error:
        make_sweep(get_config(**changes))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_an_empty_list_of_models_is_refused():
    with pytest.raises(InputError, match="the sweep is empty"):
        validate(Sweep(()))
