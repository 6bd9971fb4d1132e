"""Other encoders: their configs, the claims on them, the page, and the search for one head."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.studies import contrasts, encoder_answers, encoders, search
from experiments.studies.search import HOW
from experiments.studies.study import ENCODERS, Study
from experiments.studies.templating import render
from experiments.studies.verdicts import Verdict, judge, stated
from lrjax import config, stats
from lrjax.analysis import one_head
from lrjax.analysis import search as halving
from lrjax.analysis.ablate import VARIANT_ABLATIONS
from lrjax.analysis.gradient import GENERALISES, NAMES
from lrjax.config import Sweep
from studies_by_hand import ACCURACIES, drawn, measured

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study of other encoders with drawn numbers."""
    ablated = ("none", "EP+PP+BP", "vision.L0:EP+PP+BP=0", "vision.L1:EP+PP+BP=0", "vision.L2:EP+PP+BP=0")
    answers = {
        "strongest": ({}, NAMES),
        "heads": ({"head": range(2)}, ("head_bias",)),
        "variant": ({"ablation": VARIANT_ABLATIONS}, ACCURACIES),
        "variant_frozen": ({"ablation": VARIANT_ABLATIONS}, ACCURACIES),
        "by_layer": ({"ablation": ablated}, ACCURACIES),
        "by_layer_frozen": ({"ablation": ablated}, ACCURACIES),
        "layers_alone": ({"layer": range(3), "head": range(2)}, ("position_gradient",)),
        "layers": ({"layer": range(3), "head": range(2)}, ("position_gradient", "label_invariance")),
        "paths": (
            {
                "exchanged": ("labels", "word"),
                "layer": (1, 2),
                "sender": range(2),
                "receiver": range(2),
                "via": ("pattern", "values", "both"),
            },
            ("change",),
        ),
    }
    answers |= {"text_paths": answers["paths"], "text_variant": answers["variant"], "layer_terms": ({}, ())}
    answers |= {
        "pruning_of_four": ({"n_heads_kept": (1, 2, 4)}, ("unseen_pair",)),
        "text": ({"set": ("heldout",), "layer": range(2), "word": ("left-of", "right-of"), "head": range(2)}, ("prefers_first",)),
        "text_layers": ({"layer": (0,), "head": range(2)}, ("label_invariance",)),
        "rows": ({"term": ("EE", "EP", "EB", "BB"), "pixel": (1, 2, 3)}, ("score",)),
    }
    for encoder, name in (("vision", "single_head_ablations"), ("text", "text_single_head_ablations")):
        answers[name] = ({"ablation": ("none", f"{encoder}.L0.h0:EP=0", f"{encoder}.L1.h1:VE+VP+VB=0")}, ACCURACIES)
    return drawn(tmp_path_factory.mktemp("study"), ENCODERS, answers, measured, low=0.8)  # all have learned what is taken away


def test_every_claim_finds_its_models_in_its_sweep(study):
    """What a claim selects exists in the config that the sweep is trained from: 2 values each, one a seed."""
    assert len({claim.key for claim in encoders.CLAIMS}) == len(encoders.CLAIMS)
    for claim in encoders.CLAIMS:
        verdict = judge(claim, study, claim.part)
        assert verdict.n == 2, f"{claim.key}: {verdict}"
        assert claim.low < claim.high


def test_the_page_has_every_sweep_and_says_what_was_not_run(study, tmp_path):
    encoders.build(study, tmp_path / "report", None, tmp_path / "nothing")
    page = (tmp_path / "report" / "encoders.html").read_text()
    for claim in encoders.CLAIMS:
        assert f'<a id="{claim.key}"></a>' in page
    assert "the search was not made yet" in (tmp_path / "report" / "encoders.md").read_text()
    tables = {p.stem for p in (tmp_path / "report" / "encoders").iterdir()}
    assert tables >= {
        *ENCODERS,
        "depth_strongest_effects",
        "left_right_strongest_effects",
        "positions_variant",
        "depth_by_layer",
        "norm_mlp_variant_frozen",
        "positions_rows",
        "left_right_text_paths",
    }
    empty = Study(tmp_path / "empty", ENCODERS)
    encoders.build(empty, tmp_path / "other", None, tmp_path / "nothing")
    assert (tmp_path / "other" / "encoders.md").read_text().count("Not tested: the sweep") == len(ENCODERS)


def study_of(**answers):
    """A study whose sweeps have these tables, whatever they are called."""
    return SimpleNamespace(has=lambda part: True, answer=lambda part, name: answers[name], models=lambda part: answers["models"])


def test_layers_that_decide_are_those_without_which_order_is_what_it_is_without_all():
    """Of five models: the first of two layers; the second; none alone; the second, though .7 is in the values; not learned."""
    order = {
        "none": [0.9, 1.0, 0.9, 0.9, 0.7],
        "EP+PP+BP": [0.5, 0.5, 0.5, 0.7, 0.5],
        "vision.L0:EP+PP+BP=0": [0.5, 0.99, 0.8, 0.9, 0.5],
        "vision.L1:EP+PP+BP=0": [0.9, 0.55, 0.7, 0.71, 0.5],
    }
    columns = {"seed": np.tile(range(5), 4), "n_layers_vision": np.full(20, 2), "n_labels": np.full(20, 25)}
    table = columns | {"ablation": np.repeat(list(order), 5), "unseen_pair_order": np.concatenate(list(order.values()))}
    (found,) = encoder_answers.deciding(study_of(by_layer=table))
    assert (found["layers"], found["n_labels"]) == (2, 25)
    assert found["models"] == "layer 0 in 1, layer 1 in 2, no layer alone in 1, not learned in 1"


def test_contrasts_by_hand():
    """Two seeds, two layers, two heads: of seed 0 the last layer has a gradient of 4, and of 3 alone; of seed 1 one of 1."""
    at = {
        "seed": np.repeat([0, 1], 4),
        "layer": np.tile([0, 0, 1, 1], 2),
        "n_labels": np.full(8, 25),
        "n_layers_vision": np.full(8, 2),
    }
    whole = at | {
        "position_gradient": np.array([2, 0, 2, -4, 5, 0, 1, 0.0]),
        "label_invariance": np.array([1, 2, 5, 3, 4, 0, 1, 2.0]),
    }
    alone = at | {"position_gradient": np.array([0, 0, 3, 0, 0, 0, 1, 0.0])}
    own = study_of(layers=whole, layers_alone=alone)
    np.testing.assert_array_equal(contrasts.compounds(2)(own, "depth"), [0.25, 0])
    together = {"layers": 2, "n_labels": 25, "models": "1 of 2", "gone": "0.250"}
    assert encoder_answers.together(own) == [together], "of seed 1 it is not above 1"
    np.testing.assert_array_equal(contrasts.steadier(2)(own, "depth"), [3, -2])

    kept = {"seed": np.repeat([0, 1], 3), "gates": np.tile(["none", "vision.h0.h1.h2:VP=0", "vision.h1.h2.h3:VP=0"], 2)}
    kept |= {"unseen_pair": np.array([1, 0.2, 0.4, 1, 0.5, 0.3])}
    np.testing.assert_allclose(contrasts.kept_alone(True)(study_of(models=kept), "pruned"), [0.4, 0.5])
    np.testing.assert_allclose(contrasts.kept_alone(False)(study_of(models=kept), "pruned"), [0.3, 0.4])
    pruned = {"seed": np.array([1, 1, 0, 0, 0]), "n_heads_kept": np.array([1, 2, 2, 1, 1]), "d_head": np.zeros(5, int)}
    pruned |= {"unseen_pair": np.array([0.5, 0.7, 0.9, 0.1, 0.3])}
    np.testing.assert_allclose(contrasts.best_kept(1)(study_of(pruning_of_four=pruned), "heads"), [0.3, 0.5])

    ablated = {"seed": np.tile([0, 1], 2), "n_labels": np.full(4, 15), "ablation": np.repeat(["none", "EP"], 2)}
    ablated |= {"unseen_pair_order": np.array([0.9, 0.6, 0.6, 0.5])}
    share = contrasts.kept("EP")
    np.testing.assert_allclose(share(study_of(variant=ablated), "norm_mlp"), [0.25, np.nan], err_msg=".6 is not learned")
    differ = contrasts.differs_in_size(share, lambda study, part: np.array([0.75, 0.5]))
    assert differ(study_of(variant=ablated), "norm_mlp")[::3] == (0.5, 1), "seeds that are left out are not counted"


def test_a_head_that_turns_prefers_first_with_one_word_and_second_with_the_other():
    """Of three models of two heads: the second head turns; a head is .9 sure; both heads prefer the first whatever the word."""
    prefers = {"left-of": [[0.5, 0.0], [0.9, 0.5], [1, 1]], "right-of": [[0.5, 1.0], [0.0, 0.5], [1, 1]]}
    table = {
        "model": np.tile(np.repeat([0, 1, 2], 2), 2),
        "seed": np.tile(np.repeat([0, 1, 2], 2), 2),
        "word": np.repeat(list(prefers), 6),
        "prefers_first": np.concatenate([np.ravel(heads) for heads in prefers.values()]),
    }
    table |= {"n_layers_text": np.full(12, 2), "layer": np.full(12, 1), "n_labels": np.full(12, 15), "set": np.full(12, "heldout")}
    change = {"both": [0, -0.5, 0, -0.05], "pattern": [-0.9, -0.4, 0, -0.05], "values": [0, -0.1, 0, 0.01]}  # 2 models, 2 paths
    paths = {"model": np.tile([0, 0, 1, 1], 3), "seed": np.tile([0, 0, 1, 1], 3), "via": np.repeat(list(change), 4)}
    paths |= {"exchanged": np.full(12, "word"), "n_layers_text": np.full(12, 2), "n_labels": np.full(12, 15)}
    paths |= {"change": np.concatenate(list(change.values()))}
    assert encoder_answers.turning(study_of(text=table)) == "1 of 3 (0.333 [0.061, 0.792])"
    found = encoder_answers.telling(study_of(text_paths=paths))
    assert found["models"] == "1 of 2 (0.500 [0.095, 0.905])"
    through = found["through_pattern"], found["through_values"]
    assert through == ("-0.400 and -0.050", "-0.100 and +0.010"), "of the path that is strongest through both, a model each"


def test_order_of_rotary_models_is_ranked_against_text_and_vision_of_the_same_seeds():
    """Order rises with text's steadiest head and falls with vision's ratio, whatever the order of rows."""
    columns = {"n_labels": np.repeat([15, 25], 4), "positions": np.full(8, "rotary")}
    seed, rank = np.tile([2, 0, 3, 1], 2), np.tile([30.0, 10, 40, 20], 2)  # rank goes with seed
    models = columns | {"seed": seed, "unseen_pair_order": rank / 50}
    again = {name: column[::-1] for name, column in (columns | {"seed": seed}).items()}
    steady, best = again | {"label_invariance": rank[::-1]}, again | {"ratio": -rank[::-1]}
    ablated = {"seed": np.tile([0, 1], 3), "n_labels": np.full(6, 15), "positions": np.full(6, "rotary")}
    ablated |= {"ablation": np.repeat(["none", "EE", "EB+BB"], 2), "unseen_pair_order": np.array([0.6, 0.6, 0.9, 0.9, 0.5, 0.5])}
    found = encoder_answers.transfer(study_of(models=models, text_layers=steady, strongest=best, text_variant=ablated))
    assert found["ranks"] == [{"n_labels": n, "text": "1.00", "vision": "-1.00"} for n in (15, 25)]
    assert found["ee"].startswith("+0.300") and found["eb_bb"].startswith("-0.100")


def test_a_value_of_one_model_says_so():
    claim = next(claim for claim in encoders.CLAIMS if claim.key == "l")
    one = Verdict(claim, "depth", 0.25, np.nan, np.nan, 1, "undecided")
    assert stated(one) == "0.25 (one model)" and stated(dataclasses.replace(one, n=0)) == "(not measured)"


def test_a_summary_counts_who_generalises():
    models = {"n_labels": np.array([5, 5, 15, 15]), "unseen_pair": np.array([0.1, 0.9, 0.85, 0.95])}
    models |= {name: models["unseen_pair"] for name in ("unseen_pair_order", "unseen_pair_label_set")}
    table = encoders.summary(models, ("n_labels",))
    np.testing.assert_allclose(table["generalise"], [0.5, 1])
    np.testing.assert_array_equal(table["models"], [2, 2])


def test_the_search_draws_ranks_and_confirms():
    models = halving.draw(one_head.SPACE, 18)
    assert len({(m.d_head, m.batch_size) for m in models}) == 9
    for name, (low, high) in one_head.SPACE.ranges.items():
        assert all(low * 0.999 <= getattr(m, name) <= high * 1.001 for m in models)
    config.validate(Sweep(tuple(models), steps=10, eval_every=10))
    assert models == halving.draw(one_head.SPACE, 18)

    searched = Sweep(tuple(models[:3]), steps=20, eval_every=10)
    history = {"model": np.tile([0, 1, 2], 3), "step": np.repeat([0, 10, 20], 3)}
    top1 = np.array([0.95, 0, 0, 0.3, 0.9, np.nan, 0.5, 0.4, np.nan])
    history |= dict.fromkeys(("unseen_pair", "unseen_pair_order", "unseen_pair_label_set"), top1)
    table = halving.best(one_head.SPACE, history, searched)
    np.testing.assert_array_equal(table["model"], [1, 0, 2])
    np.testing.assert_array_equal(table["step"][:2], [10, 20])
    np.testing.assert_array_equal(table["at_the_end"][:2], [0.4, 0.5])
    assert halving.chosen(searched, table, 1) == [models[1]]
    assert [m.seed for m in halving.chosen(searched, table, 2, (7, 8))] == [7, 8, 7, 8]

    history = {"model": np.tile(np.arange(4), 2), "step": np.repeat([10, 20], 4)}
    history |= {"unseen_pair": np.array([0.9, 0.9, 0.1, 0.2, 0, 0, 0.85, 0.7]), "unseen_pair_order": np.full(8, 0.5)}
    found = halving.confirmed(one_head.SPACE, history, np.array([10, 20]), 2)
    np.testing.assert_allclose(found["succeed"], [1, 0.5])
    np.testing.assert_allclose(found["unseen_pair"], [0.9, 0.775])


def test_the_smallest_model_is_of_those_whose_whole_interval_generalises():
    widths = {"n_labels": np.full(6, 15), "d_model": np.array([16, 16, 32, 32, 64, 64]), "d_head": np.full(6, 8)}
    found = encoders.smallest(widths | {"unseen_pair": np.array([0.3, 0.99, 0.9, 0.91, 0.95, 0.95])})
    assert (found["d_model"], found["d_head"], found["parameters"]) == (32, 8, 18_785), "16 has a mean of .65, and 64 is larger"
    assert encoders.smallest(widths | {"unseen_pair": np.full(6, 0.5)}) is None


def test_the_search_for_one_head_is_told_with_its_rate_and_how(tmp_path):
    rng, n = np.random.default_rng(0), 8
    drawn = {name: rng.uniform(low, high, n) for name, (low, high) in one_head.SPACE.ranges.items()}
    top1 = np.array([0.9, 0.85, *[0.2] * 6])
    found = drawn | {"model": np.arange(n), "step": np.full(n, 500), "unseen_pair": top1, "at_the_end": top1 - 0.1}
    stats.write_csv(tmp_path / "screen.csv", found)
    stats.write_csv(tmp_path / "full.csv", stats.select(found, slice(4)))
    stats.write_csv(tmp_path / "confirm.csv", {"step": np.array([500]), "succeed": np.array([0.25])})
    how = {name: rng.uniform(size=4) for name in HOW} | {
        "unseen_pair": top1[:4],
        "model": np.arange(4),
        "head_bias": np.full(4, 0.1),
    }
    stats.write_csv(tmp_path / "how.csv", how | {name: np.array([1.0, 1, 2, 2]) for name in one_head.SPACE.ranges})
    values = {"search": encoders.one_head_search(tmp_path, tmp_path / "report"), "generalises": GENERALISES}
    told = render("encoders.md", values, "one_head")
    assert "Of 8 configurations drawn at random, 0.25 [0.07, 0.59]" in told, "Wilson's interval of 2 of 8"
    assert "The best 4" in told and "2 of them have it at their best step of a full training, 0 at the last" in told
    assert all(name in told for name in HOW)
    rows = [row[:3] for row in search.how(stats.read_csv(tmp_path / "how.csv"))[1]]
    assert rows == [["0", "succeed", "2"], ["1", "fail", "2"]], "a configuration is not pooled with another"
    assert search.how(stats.read_csv(tmp_path / "how.csv"))[1][0][-2] == "0.400 and 0.400", "prefers left in .9"
