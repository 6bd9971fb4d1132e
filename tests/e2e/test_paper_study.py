"""The paper's own experiment: its configs, the claims on it and their page, a small study from end to end, values by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from conftest import TINY, tiny_model, untrained
from experiments.studies import paper, paper_values
from experiments.studies.answers import ANSWERS, FIRST_BLOCK, ROUTES
from experiments.studies.measures import PHASES
from experiments.studies.paper_claims import CLAIMS, LAW, MULTIPLIERS, SHARED
from experiments.studies.study import PAPER, Part, Study, config_of, sweep_of
from experiments.studies.verdicts import Claim, judge
from lrjax import config, stats
from lrjax.analysis.ablate import ABLATIONS
from lrjax.analysis.gauge import ABLATIONS as RATIO
from lrjax.analysis.gradient import NAMES
from lrjax.errors import InputError
from lrjax.terms import TERMS
from studies_by_hand import drawn, measured

BINDING = ("order", "share_attention", "share_value", "agreement")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study of the paper's experiment with drawn numbers; what is taken away was learned (.8 or more)."""
    pairs = {"n_heads_kept": (1, 2, 4), "directions": ("both",)}
    answers = {
        "curves": ({"evaluation": range(4)}, PHASES),
        "ablate": ({"ablation": ABLATIONS}, None),
        "ratio": ({"ablation": RATIO}, None),
        "routes": ({"ablation": ROUTES}, None),
        "first_block": ({"ablation": tuple(FIRST_BLOCK.values())}, None),
        "routes_over_time": ({"step": (0, 100), "ablation": ROUTES}, None),
        "binding": ({}, BINDING),
        "binding_over_time": ({"step": (0, 100)}, BINDING),
        "gauge": ({"ablation": RATIO, "cls": ("as trained",)}, None),
        "shares": ({"layer": (0,), "rows": ("readout", "all"), "term": TERMS}, ("share_all",)),
        "std_shares": ({"layer": (0,), "rows": ("readout", "all"), "term": TERMS}, ("std_ratio_all", "std_ratio_learned_all")),
        "heads": ({"layer": (0,), "head": range(4)}, ("head_bias", "lowest_pair_bias", "highest_pair_bias")),
        "relational": ({"head": range(4)}, RELATIONAL),
        "pruning": (pairs, ("unseen_pair",)),
        "text": ({"set": ("heldout",), "layer": (0,), "word": ("left-of",), "head": range(2), "whatever": ("first",)}, ()),
        "align": ({"space": ("E",), "fit": ("before", "rotation")}, ("retrieval",)),
        "monotone": ({}, ("monotone",)),
        "strongest": ({}, NAMES),
    }
    answers |= dict.fromkeys(("law", "law_decayed"), ({}, ("deviation",)))
    answers["gauge_ratio"] = {}, ("ratio", "expected")
    answers["query_law"] = {"strongest": (1.0,)}, ("predicted", "share")
    made = drawn(tmp_path_factory.mktemp("study"), PAPER, answers, measured, low=0.8)
    for part in PAPER:  # steps and epochs as they would be; all generalise, but at 5 labels
        path = made.folder / part / "analysis" / "curves.csv"
        table = stats.read_csv(path)
        epochs = table["evaluation"] * np.where(table["n_labels"] == 5, 9, 1)
        stats.write_csv(path, table | {"step": 100 * (1 + table["evaluation"]), "epoch": epochs})
        models = made.folder / part / "models.csv"
        table = stats.read_csv(models)
        low = np.where(table["n_labels"] == 5, 0, 0.8)
        stats.write_csv(models, table | {"unseen_pair": low + 0.2 * table["unseen_pair"]})
    return made


RELATIONAL = ("relational_printed", "relational_sums", "attends_right", "attends_left", "difference")
OF_ANOTHER = ("std", "relational", "relational_sums")  # claims on answers of other modules, which may not be there


def test_every_claim_finds_its_models_in_its_sweep(study):
    """What a claim selects exists in the config that the sweep is trained from: a value a seed, or one a model."""
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        verdict = judge(claim, study, claim.part)
        if claim.key.startswith("lost"):
            continue
        many = claim.key.startswith(("absent", "present", "route_one", "route_told"))
        missing = claim.key.rpartition("_")[0] in OF_ANOTHER and "relational" not in PAPER["paper_mechanism"].answers
        of_two_labels = claim.key.startswith("ratio_") and claim.part == "paper_mechanism"  # one a model, of 5 and of 15
        seeds = 4 if of_two_labels else 2
        assert verdict.n == (0 if missing else verdict.n if many and verdict.n else seeds), f"{claim.key}: {verdict}"
        assert claim.low < claim.high and claim.part in PAPER


def test_every_model_that_knew_the_order_ends_on_one_of_two_routes(study):
    by_key = {claim.key: judge(claim, study, claim.part) for claim in CLAIMS}
    for ending in MULTIPLIERS:
        assert by_key[f"lost_value_{ending}"].n + by_key[f"lost_attention_{ending}"].n == 2, "a model a seed"


def test_what_the_main_report_asks_too_has_its_thresholds():
    keys = {(name, claim.key.removeprefix(f"{name}_")): claim for claim in CLAIMS for name in SHARED}
    asked = [(SHARED[name], claim) for (name, ending), claim in keys.items() if ending in MULTIPLIERS]
    assert len(asked) == 2 * 25
    for of_main, claim in asked:
        assert (claim.low, claim.high, claim.paper) == (of_main.low, of_main.high, of_main.paper)
    assert LAW == 0.01, "within 1 %"


def test_the_page_has_every_sweep_and_stands_beside_the_main_report(study, tmp_path):
    one = {"claim": ["many"], "sweep": ["default"], "mean": [0.5], "low": [0.4], "high": [0.6], "verdict": ["differs"]}
    stats.write_csv(tmp_path / "claims.csv", {name: np.array(values) for name, values in one.items()})
    paper.build(study, tmp_path, None)
    page, markdown = ((tmp_path / name).read_text() for name in ("paper.html", "paper.md"))
    assert all(f'<a id="{claim.key}"></a>' in page for claim in CLAIMS)
    assert '0.500 [0.400, 0.600] <strong class="verdict differs">differs</strong>' in page and "epochs at N = 15" in page
    assert page.count("<figure>") == len([*(tmp_path / "figures").iterdir()]) == 2 * len(PAPER) + 9
    assert set(PAPER) == {p.stem for p in (tmp_path / "paper").iterdir()} == set(paper.TITLES)
    assert "settled" in markdown and not markdown.count("not trained yet")
    paper.build(Study(tmp_path / "empty", PAPER), tmp_path / "other", None)
    assert (tmp_path / "other" / "paper.md").read_text().count("Not tested: the sweep") == len(PAPER)


def test_a_study_of_two_small_sweeps_from_end_to_end(tmp_path):
    """Trained, asked, shown; asked again, nothing is made twice; where the sweeps are gone the kept tables show the same."""
    parts = {name: PAPER[name] for name in ("forgetting", "forgetting_scales")}
    made = Study(tmp_path / "study", parts, tmp_path / "report" / "paper")
    small = TINY | {"batch_size": 20, "L": 6, "n_heldout": 3, "seeds": 2, "steps": 4, "eval_every": 4, "checkpoint_every": 0}
    fewer = {"weight_decay": (0.05, 0.2)}, {"scales": ((2.0, 2.0), (0.5, 0.5))}  # 4 models both: one compilation
    for part, changes in zip(parts, fewer, strict=True):
        for _ in range(2):
            made.train(part, config.make_sweep(dict(config_of(PAPER[part])) | small | changes))
        assert made.make(part, parts[part].answers) and not made.make(part, parts[part].answers)
    curve = made.answer("forgetting", "curves")
    assert len(curve["step"]) == 2 * 4 and set(PHASES) <= set(curve)
    np.testing.assert_allclose(curve["epoch"], curve["step"] / (2190 // 20), err_msg="18 labels x 5 + 210 pairs x 10 images")
    made.keep()
    pages = []
    for folder in (made.folder, tmp_path / "gone"):
        paper.build(Study(folder, PAPER, made.kept), tmp_path / "report", made.times())
        pages.append((tmp_path / "report" / "paper.md").read_text())
    assert pages[0] == pages[1] and pages[0].count("Not tested: the sweep") == len(PAPER) - 2
    verdicts = stats.read_csv(tmp_path / "report" / "paper.csv")
    tested = verdicts["verdict"] != "not tested"
    assert verdicts["claim"].tolist() == [claim.key for claim in CLAIMS]
    assert set(verdicts["sweep"][tested].tolist()) == set(parts)


def test_the_law_is_asked_of_models_whose_cls_decays():
    run = untrained(*(tiny_model(decay_cls=decayed, seed=seed) for decayed in (True, False) for seed in (0, 1)))
    assert ANSWERS["law_decayed"](run)["model"].tolist() == [0, 1]


def test_a_sweep_is_as_long_as_it_is_asked_to_be():
    """Epochs where the length is a number of epochs, and nowhere else; a trial is short either way, and as valid."""
    for part, of in PAPER.items():
        wanted = config_of(PAPER[part])
        full, tenth = (sweep_of(wanted, 8, of.most_seeds, False, epochs) for epochs in (0, 1_000))
        assert (tenth.longest < full.longest) == (wanted.epochs > 0)
        assert len(full.models) == len(tenth.models) and (not wanted.epochs or tenth.epochs == 1_000)
        trial = sweep_of(wanted, 8, of.most_seeds, True, 1_000)
        assert trial.longest < 400 and len(trial.models) <= len(full.models)
    assert len(sweep_of(config_of(PAPER["initial_values"]), 8, PAPER["initial_values"].most_seeds, False).models) == 100


def table(**columns):
    return {name: np.array(values) for name, values in columns.items()}


def asked(part="p", answers=("curves",), **tables):
    """A study of one sweep whose answers are these tables."""
    return SimpleNamespace(parts={part: Part("", tuple(answers))}, answer=lambda part, name: tables[name])


def test_equal_epochs_are_read_from_one_training_by_hand():
    """N = 15 ends after 2 epochs, where N = 5 stood at its first evaluation; seed 1 of N = 5 diverged."""
    rows = [(15, 0, 88, 2.0, 0.9), (15, 1, 88, 2.0, 0.7), (15, 0, 44, 1.0, 0.3), (15, 1, 44, 1.0, 0.3)]
    rows += [(5, 0, 10, 2.0, 0.25), (5, 0, 88, 17.6, 0.8)]
    found = dict(zip(("n_labels", "seed", "step", "epoch", "unseen_pair"), map(np.array, zip(*rows, strict=True)), strict=True))
    np.testing.assert_allclose(paper_values.equal_epochs()(asked(curves=found), "p"), [0.65])


def test_when_a_model_generalises_by_hand():
    """At a decay of .2 both seeds pass .5, after 100 and 200 steps; at .05 one does, after 400, the other never: at least 800."""
    curve = {(0.2, 0): (0.6, 0.7, 0.8, 0.9), (0.2, 1): (0.1, 0.5, 0.4, 0.9), (0.05, 0): (0, 0, 0.7, 0.7), (0.05, 1): (0, 0, 0, 0.1)}
    rows = [(*key, step, value) for key, of in curve.items() for step, value in zip((100, 200, 400, 800), of, strict=True)]
    found = dict(zip(("weight_decay", "seed", "step", "unseen_pair"), map(np.array, zip(*rows, strict=True)), strict=True))
    of = asked(curves=found)
    slow, fast = {"weight_decay": 0.05}, {"weight_decay": 0.2}
    np.testing.assert_allclose(paper_values.later(slow, fast)(of, "p"), [2, 2])
    np.testing.assert_allclose(paper_values.later(slow, fast, never_is_last=False)(of, "p"), [2, np.nan])
    assert paper_values.ever_passed(**slow)(of, "p").tolist() == [True, False]
    assert paper_values.clock(of, "p", 1e-4, 0.2) == pytest.approx({0: 0.002, 1: 0.004})


def test_what_moved_is_of_the_last_third_by_hand():
    found = table(evaluation=np.repeat(range(4), 2), n_labels=[5, 15] * 4, unseen_pair=[0, 0, 0.3, 0.1, 0.4, 0.5, 0.41, 0.9])
    moved = paper_values.moved(found, ("n_labels",))
    assert moved == pytest.approx({(5,): 0.01, (15,): 0.4}) and abs(moved[5,]) < paper_values.SETTLED


def test_p_relational_is_compared_by_head_and_not_tested_where_it_is_not_asked():
    found = table(n_labels=[15] * 4, seed=[0, 0, 1, 1], relational_sums=[0.3, 0.5, 0, 1], attends_right=[0.7, 0.25, 0.5, 1])
    found["attends_left"] = 1 - found["attends_right"]
    gap = paper_values.relational_gap("sums")
    np.testing.assert_allclose(gap(asked(answers=["relational"], relational=found), "p"), [0.05, 0])
    with pytest.raises(InputError, match="is not asked 'relational'"):
        gap(asked(), "p")
    with pytest.raises(InputError, match="no column 'relational_printed'"):
        paper_values.relational_gap("printed")(asked(answers=["relational"], relational=found), "p")
    assert judge(Claim("a", "", "", "", 0, 1, gap), asked(), "p").verdict == "not tested"
