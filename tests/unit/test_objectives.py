"""Objectives: each has one interface, names what it measures, and is added without a change of other code."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiled import init_clip
from conftest import tiny_model, tiny_sweep
from lrjax import config, kinds
from lrjax.analysis.models import check_objective
from lrjax.errors import InputError
from lrjax.metrics import METRICS
from lrjax.models import objectives
from lrjax.models.clip import encoder_configs, model_splits
from lrjax.models.contrastive import Contrastive
from lrjax.models.interventions import ModelInterventions
from lrjax.models.losses import PAIR_LOSSES, PairLoss
from lrjax.training import loop, retrieval
from lrjax.training.memory import activations, bytes_of_models

SOURCES = [*Path("lrjax").rglob("*.py"), *Path("experiments").rglob("*.py")]
KINDS = ({}, {"pair_loss": "sigmoid"}, {"supervision": 0.5}, {"objective": "autoregressive"}, {"objective": "autoregressive_raw"})


def mean_distance(images, captions, log_scale, same, hard_negatives, has_hard_negative):
    """How far images are from their own captions: the toy objective, which has no negatives."""
    return jnp.mean(1 - (images * captions).sum(-1))


DISTANCE = PairLoss(mean_distance)


@dataclasses.dataclass(frozen=True)
class Toy(Contrastive):
    """Encoders and metrics of CLIP, and a loss of its own, whatever `pair_loss` is."""

    pair_loss: PairLoss = DISTANCE

    def of(self, static):
        return self

    def refusal(self, analysis):
        return "is a toy; expected CLIP" if analysis == "heads" else None


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(kinds.OBJECTIVES, "toy", Toy())


@pytest.mark.slow
def test_an_objective_is_added_by_one_line_and_trains(toy):
    """Two steps of a tiny sweep: the loss is the toy's, metrics have CLIP's names, and what the loss does not read stays."""
    run = loop.advance(
        loop.start(tiny_sweep((4,), 1, objective="toy", L=5, n2=3, n1=2, steps=2, eval_every=1, weight_decay=(0.0,)))
    )
    losses = [values[0, run.history.metrics.index("loss")] for values in run.history.values[1:]]
    assert all(0 < loss < 2 for loss in losses), "distances of unit vectors; CLIP's loss would begin above log 32"
    assert set(METRICS) <= set(run.history.metrics)
    assert np.isfinite(run.history.values[-1]).all()
    static, params = run.programs[0].static, run.states[0].params
    first = init_clip(static, jax.tree.map(lambda x: x[0], run.programs[0].hyper))
    assert params.log_scale[0] == first.log_scale
    assert (params.vision.E[0] != first.vision.E).any() and (params.text.E[0] != first.text.E).any()
    assert check_objective(static, "gradient") is static
    with pytest.raises(InputError, match=r"^heads: objective='toy': is a toy; expected CLIP$"):
        check_objective(static, "heads")


def test_a_name_that_is_no_objective_is_refused_with_those_that_are(toy):
    names = "'contrastive' or 'autoregressive' or 'autoregressive_raw' or 'toy'"
    with pytest.raises(InputError, match=f"config.objective: 'clip' is not possible; expected {names}"):
        tiny_sweep(objective="clip")


def test_every_name_of_the_config_has_its_objective():
    assert tuple(PAIR_LOSSES) == kinds.LOSSES
    assert all(isinstance(objectives.find(name), objectives.Objective) for name in kinds.OBJECTIVES)


@pytest.mark.slow
@pytest.mark.parametrize("fields", KINDS, ids=str)
def test_an_objective_measures_what_it_names(fields):
    """Metrics and parameters by name; of the encoders the text's reads what the shapes say."""
    model = tiny_model(L=5, **fields)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    objective, sets = objectives.of(static), ("single", "unseen_pair")

    def ask(hyper):
        params, done = init_clip(static, hyper), ModelInterventions()
        return params, retrieval.evaluate(static, hyper, model_splits(static, hyper), params, done, False, sets, split=False)

    params, metrics = jax.eval_shape(ask, hyper)
    assert sorted(metrics) == sorted(retrieval.metric_names(static, sets))
    assert all(value.shape == () for value in metrics.values())
    assert (params.bias is not None) == (fields.get("pair_loss") == "sigmoid")
    assert (params.places is not None) == ("supervision" in fields)
    assert encoder_configs(static)["text"].n_positions == 4 + objective.full_sequences * static.L
    assert objective.encoders[-1] == "text" and ("vision" in objective.encoders) == ("raw" not in fields.get("objective", ""))


@pytest.mark.parametrize("fields", KINDS, ids=str)
def test_activations_are_counted_and_decide_the_memory(fields):
    """Twice the batch keeps up to four times as much, the logits of its pairs; a decoder keeps twice as much."""
    one, two = (tiny_model(**more) for more in (fields, fields | {"batch_size": 64}))
    one, two = (config.make_static([model]) for model in (one, two))
    kept = [activations(static) for static in (one, two)]
    assert kept[0] < kept[1] <= 4 * kept[0]
    if "objective" in fields:
        assert kept[1] == 2 * kept[0]
    assert bytes_of_models(two, 1) - bytes_of_models(one, 1) == 4 * (round(kept[1]) - round(kept[0]))


def test_analyses_say_why_they_do_not_apply():
    static = {name: config.make_static([tiny_model(objective=name)]) for name in kinds.OBJECTIVES}
    refused = partial(pytest.raises, InputError)
    with refused(match="^heads: objective='autoregressive': is a decoder; expected CLIP, or ask experiments.reader$"):
        check_objective(static["autoregressive"], "heads")
    with refused(match="^decoder: objective='contrastive': is no decoder; expected a sweep with an autoregressive objective$"):
        check_objective(static["contrastive"], "decoder")
    assert all(check_objective(static[name], who) for name, who in (("contrastive", "heads"), ("autoregressive_raw", "decoder")))


def test_no_other_code_asks_which_objective_a_model_has():
    branch = re.compile(r"\b(objective|pair_loss)\b\s*(==|!=|in \(|\.endswith|\.startswith)")
    found = [f"{path}: {line.strip()}" for path in SOURCES for line in path.read_text().splitlines() if branch.search(line)]
    assert not found, found
    assert len(SOURCES) > 100
