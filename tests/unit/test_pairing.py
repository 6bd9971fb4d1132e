"""Claims where a model has diverged: it is NaN in models.csv and in history.csv, and no answer has it. By hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.studies import claim_values, contrasts, paper_values
from lrjax.stats import select

N = claim_values.N
MODELS = {  # model 1 of 0..3 diverged, and model 6 of 4..7, which are at N = 25: of seeds 0..3 both label counts have 0 and 3
    "model": np.arange(8),
    "seed": np.tile(np.arange(4), 2),
    "n_labels": np.repeat([N, 25], 4),
    "unseen_pair": np.array([0.9, np.nan, 0.1, 0.4, 0.8, 0.7, np.nan, 0.6]),
}
MODELS |= {name: MODELS["unseen_pair"] for name in ("unseen_pair_order", "unseen_pair_label_set")}
HEALTHY = select(MODELS, ~np.isnan(MODELS["unseen_pair"]))
STRONGEST = HEALTHY | {"ratio": HEALTHY["model"] + 1.0}


def of_steps(step, gates, **curves):
    """A history of a row a model and step: curves [model][step], models of seeds 0, 1, ..."""
    n = len(gates)
    history = {"model": np.repeat(np.arange(n), len(step)), "step": np.tile(step, n), "n_labels": np.full(n * len(step), N)}
    history |= {"gates": np.repeat(gates, len(step)), "seed": history["model"] % 3}
    return SimpleNamespace(history=lambda part: history | {name: np.ravel(curve) for name, curve in curves.items()})


@pytest.fixture
def tables():
    return SimpleNamespace(models=lambda part: MODELS, answer=lambda part, name: STRONGEST)


def test_a_ratio_stands_beside_the_accuracy_of_its_model(tables):
    ratio, models = claim_values.ratios(tables, "default")
    assert ratio.tolist() == [1, 3, 4, 5, 6, 8] * 2
    np.testing.assert_array_equal(models["unseen_pair"], MODELS["unseen_pair"][ratio.astype(int) - 1])
    assert models["n_labels"].tolist() == [N, N, N, 25, 25, 25] * 2
    assert claim_values.predicts("unseen_pair")(tables, "default").n == 12


def test_a_difference_is_of_the_seeds_that_both_have(tables):
    many, few = (lambda study, part, n=n: claim_values.of(study.answer(part, "x"), "unseen_pair", n_labels=n) for n in (25, N))
    for values in (paper_values.difference(many, few), lambda s, p: contrasts.at("unseen_pair", 25)(s, p) - few(s, p)):
        found = values(tables, "default").dropna("seed")
        assert found.seed.values.tolist() == [0, 3]
        np.testing.assert_allclose(found, [0.8 - 0.9, 0.6 - 0.4])
    size = contrasts.differs_in_size(many, few)(tables, "default")
    assert size.n == 2 and size.value == pytest.approx(0.05)
    per_model = [claim_values.per_model(STRONGEST, "ratio", np.max, n_labels=n) for n in (25, N)]
    np.testing.assert_allclose(per_model[0] - per_model[1], [5 - 1, 8 - 4])


def test_an_ablation_is_paired_with_the_same_model_whole(tables):
    ablated = [STRONGEST | {"ablation": np.full(6, name), "model": STRONGEST["model"]} for name in ("none", "EP")]
    ablated[1]["unseen_pair"] = ablated[1]["unseen_pair"] - STRONGEST["seed"]
    table = {name: np.concatenate([part[name] for part in ablated]) for name in STRONGEST | {"ablation": 0}}
    study = SimpleNamespace(answer=lambda part, name: table if part == "whole" else select(table, np.arange(12) != 2))
    np.testing.assert_allclose(contrasts.zeroed("EP", "unseen_pair")(study, "whole"), [0, -2, -3])
    np.testing.assert_allclose(contrasts.zeroed("EP", "unseen_pair")(study, "lacks seed 3 whole"), [0, -2])
    np.testing.assert_allclose(contrasts.zeroed("EP", "unseen_pair", least=0.5)(study, "whole"), [0, np.nan, np.nan])


def test_phases_are_of_the_models_that_have_not_diverged():
    nan = np.nan
    curves = dict(single=[[0, 1, 1, 1], [0, 1, nan, nan], [0, 0, 0, 0]], seen_pair=[[0, 1, 1, 1], [0, 1, nan, nan], [0, 0, 0, 0]])
    curves |= dict(unseen_pair=[[0, 0, 1, 1], [0, 0, nan, nan], [0, 0, 0.1, 0.1]])
    curves |= dict(unseen_pair_order=curves["unseen_pair"], position_gradient_h0=[[0, 1, 1, 1], [0, 1, nan, nan], [0, 0, 1, 1]])
    study = of_steps([0, 10, 20, 30], ["none"] * 3, **curves)
    assert claim_values.phases_in_order(study, "phases").tolist() == [True, False]
    assert claim_values.gradient_before_skill(study, "phases").tolist() == [True, False]
    gone = {name: np.full((3, 4), nan) for name in curves}
    study = of_steps([0, 10, 20, 30], ["none"] * 3, **gone)
    for values in (claim_values.phases_in_order, claim_values.gradient_before_skill):
        assert values(study, "phases").tolist() == [] and values(study, "phases").dtype == bool


def test_a_diverged_model_is_not_one_that_never_learns():
    nan = np.nan
    order = [[0.5, 0.9, 0.9], [0.5, nan, nan], [0.5, 0.5, 0.9], [0.5, 0.5, 0.5], [0.5, 0.9, 0.9], [0.5, nan, nan]]
    study = of_steps([0, 10, 20], ["none"] * 3 + ["EP=0"] * 3, unseen_pair_order=order)
    with_ep, without = (contrasts.reached(study, "x", gates) for gates in ("none", "EP=0"))
    assert with_ep.seed.values.tolist() == [0, 2] and with_ep.values.tolist() == [10, 20]
    np.testing.assert_array_equal(without, [nan, 10])
    assert contrasts.waits(study, "x").values.tolist() == [20 - 10]
