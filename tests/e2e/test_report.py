"""The report: verdicts by the rule, claims on a study of tiny models, and a page that needs nothing but itself."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import ROOT, TINY
from experiments.studies import build, claim_values, claims, encoder_claims, study, task_claims, verdicts
from experiments.studies import tasks as build_tasks
from experiments.studies.page import claims_grid, expected, notes
from experiments.studies.study import Study
from experiments.studies.verdicts import Claim, Estimate, interval_of, judge, stated
from lrjax import config, stats
from lrjax.analysis import gradient
from lrjax.errors import InputError
from lrjax.storage import workdir
from lrjax.training import loop

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]

EVERY = (*claims.CLAIMS, *claims.OURS, *task_claims.CLAIMS, *encoder_claims.CLAIMS)


def claim(values, low=0.2, high=1.2):
    return Claim("key", "finding", "paper", "contrast", low, high, lambda study, part: values)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.5, 0.52, 0.48, 0.5], "agrees"),
        ([0.1, 0.11, 0.09, 0.1], "differs"),
        ([1.5, 1.52, 1.48, 1.5], "differs"),
        ([0.1, 0.3, 0.1, 0.3], "undecided"),
        ([0.5], "undecided"),
        ([np.nan, np.nan], "not tested"),
        (Estimate(0.5, 0.4, 0.6, 40, stats.BOOTSTRAP), "agrees"),
        (Estimate(0.5, 0.1, 0.6, 40, stats.BOOTSTRAP), "undecided"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(values, verdict):
    assert judge(claim(values), None, "default").verdict == verdict


@pytest.mark.parametrize(("n", "verdict"), [(8, "undecided"), (16, "agrees")])
def test_a_share_of_all_models_has_a_width(n, verdict):
    """By Wilson's interval 8 of 8 may be .68, 16 of 16 is .81 or more."""
    found = judge(claim(np.full(n, True), 0.8, 1), None, "default")
    assert (found.mean, found.high, found.rule) == (1, 1, stats.WILSON) and found.low < 0.9
    assert (found.verdict, found.n) == (verdict, n)


def test_an_accuracy_is_printed_cut_and_judged_uncut():
    """Its interval may pass 1, which is an end of the scale and no threshold; that of a contrast is printed as it is."""
    values = [1.0, 1.0, 1.0, 0.98]
    of_accuracy, of_contrast = (judge(claim(values, 0.97, high), None, "default") for high in (1, verdicts.INF))
    assert of_accuracy.high > 1 and of_accuracy.verdict == of_contrast.verdict == "agrees"
    assert stated(of_accuracy) == "0.99 [0.98, 1.00]" and interval_of(of_accuracy) == "0.995 [0.979, 1.000]"
    assert interval_of(of_contrast) == "0.995 [0.979, 1.011]"
    assert judge(claim(values, -0.5, 1), None, "default").verdict == "undecided", "of a contrast 1 is a threshold, and is passed"


def test_the_scale_of_a_claim_is_what_its_contrast_says():
    """A claim on a difference has no ends at 0 and 1: there its open side is -INF or INF."""
    for c in EVERY:
        if c.within:
            assert not re.search(r"\b(less|change|log2|steps)\b", c.contrast.replace("steps less", "less")), c
        assert c.low != -1 or "log2" in c.contrast, c


def test_what_was_not_measured_is_not_tested(tmp_path):
    nothing = Study(tmp_path)
    for of in (*claims.CLAIMS, *claims.OURS):
        assert judge(of, nothing, of.part or "default").verdict == "not tested"
    with pytest.raises(InputError, match="such as `make reproduce`"):
        nothing.models("default")


def test_every_claim_names_its_threshold_once():
    every = (*claims.CLAIMS, *claims.OURS)
    assert len({c.key for c in every}) == len(every)
    assert all(c.low < c.high and c.contrast and c.finding for c in every if c.values)
    assert all(c.part is None or c.part in study.PARTS for c in every)
    assert all(not c.paper for c in claims.OURS)


@pytest.fixture(scope="module")
def tiny_study(tmp_path_factory):
    """A study whose default sweep is tiny: N = 5, 15, 25, 2 seeds, six pixels, a few steps."""
    folder = tmp_path_factory.mktemp("study")
    wanted = config.make_sweep(config.get_config(n_labels=(5, 15, 25), seeds=2, steps=20, eval_every=10, L=6, **TINY))
    run = workdir.open_run(folder / "default", wanted)
    loop.advance(run, measures=(gradient.columns,))
    workdir.save(folder / "default", run)
    made = Study(folder)
    assert set(made.make("default", study.WHOLE)) == set(study.WHOLE)
    assert made.make("default", study.WHOLE) == [], "what is there is not made again"
    shutil.copytree(folder / "default", folder / "phases")
    return made


def test_every_claim_on_the_baseline_is_measured(tiny_study):
    """All answers have the columns that the claims read; a model of 20 steps agrees with little."""
    verdicts = {
        c.key: judge(c, tiny_study, "default") for c in (*claims.CLAIMS, *claims.OURS) if c.values and c.part in (None, "phases")
    }
    untested = {key for key, v in verdicts.items() if v.verdict == "not tested"}
    assert untested <= {"two_heads", "predict_order", "predict_top1"}, "no heads that lean both ways; no sweep of scales"
    assert verdicts["gauge_law"].verdict == "agrees" and verdicts["gauge_law"].n == 6
    assert verdicts["many"].verdict == "differs" and verdicts["many"].n == 2


def is_of_models(c: Claim) -> bool:
    return c.contrast.startswith("share of models")


def test_shares_of_models_have_wilsons_interval_and_nothing_else_has(tiny_study):
    assert sum(map(is_of_models, EVERY)) == 7
    for c in (*claims.CLAIMS, *claims.OURS):
        if c.values and c.part in (None, "phases") and (found := judge(c, tiny_study, "default")).n:
            assert (found.rule == stats.WILSON) == is_of_models(c), c.key


def test_the_committed_verdicts_are_those_of_the_committed_tables(tmp_path):
    """By today's code: no interval or verdict of other tasks is left over from another rule."""
    tables = ROOT / "docs/results" / "tasks"
    kept = Study(tmp_path, study.TASKS, kept=tables)
    committed = stats.read_csv(ROOT / "docs/results" / "tasks.csv")
    assert committed["claim"].tolist() == [c.key for c in task_claims.CLAIMS]
    for i, c in enumerate(task_claims.CLAIMS):
        found = judge(c, kept, c.part)
        assert (found.verdict, found.rule) == (committed["verdict"][i], committed["rule"][i])
        names = ("mean", "low", "high")
        np.testing.assert_allclose([getattr(found, x) for x in names], [committed[x][i] for x in names], atol=1e-12)
        assert (found.rule == stats.WILSON) == (is_of_models(c) and found.n > 0), c.key
        if c.within and found.n and found.rule == stats.T:
            values = c.values(kept, c.part)
            assert np.nanmin(values) >= 0 and np.nanmax(values) <= 1, f"{c.key} is no accuracy"
    shares = stats.read_csv(tables / "all.csv")["gradient"].tolist()
    assert [row["gradient"] for row in build_tasks.table(kept)] == shares, "of models, with their intervals"
    assert all(f" {share} |" in (ROOT / "docs/results" / "tasks.md").read_text() for share in shares)


def test_contrasts_are_paired_by_seed(tiny_study):
    models = tiny_study.models("default")
    table = {name: column[::-1] for name, column in models.items()}
    np.testing.assert_array_equal(
        claim_values.of(table, "loss", n_labels=5),
        claim_values.of(models, "loss", n_labels=5),
        err_msg="in the order of seeds, whatever the rows'",
    )
    difference = claim_values.by_label_count("loss", 5, 25)(tiny_study, "default")
    for seed in (0, 1):
        at = lambda n, seed=seed: models["loss"][(models["n_labels"] == n) & (models["seed"] == seed)][0]
        np.testing.assert_allclose(difference[seed], at(25) - at(5), rtol=1e-6)
    with pytest.raises(InputError, match="no model with"):
        claim_values.of(models, "loss", n_labels=99)


def test_half_dose_by_hand():
    """Order .5 at a gate of 0, .9 at 1: half is lost where the line between doses crosses .7."""
    doses = np.array([0, 0.25, 0.5, 1.0])
    table = {"seed": np.zeros(4, int), "n_labels": np.full(4, 15), "ablation": np.array([f"EP={d:g}" for d in doses])}
    table |= {"unseen_pair_order": np.array([0.5, 0.6, 0.8, 0.9])}
    np.testing.assert_allclose(claim_values.half_dose(SimpleNamespace(answer=lambda part, name: table), "default"), [0.375])


def test_the_page_is_whole_and_needs_no_network(tiny_study, tmp_path):
    paths = build.build(tiny_study, tmp_path / "report", None, None)
    html, markdown = (tmp_path / "report" / "index.html").read_text(), (tmp_path / "report" / "report.md").read_text()
    assert all(path.is_file() for path in paths)
    assert not re.search(r'(src|href)="(?!data:|#)', html) and "http" not in re.sub(r"data:[^\"]*", "", html)
    assert "Intervals are Student's t over models" in markdown
    for c in (*claims.CLAIMS, *claims.OURS):
        assert f'<a id="{c.key}"></a>' in html and c.finding.replace("|", r"\|") in markdown
    assert html.count("<figure>") == markdown.count("![") >= 6
    for name in re.findall(r"\]\((figures/[^)]*)\)", markdown):
        assert (tmp_path / "report" / name).is_file()
    table = stats.read_csv(tmp_path / "report" / "claims.csv")
    assert set(table["verdict"].tolist()) <= {"agrees", "differs", "undecided", "not tested"}
    assert "prefers-color-scheme: dark" in html and "width=device-width" in html


def test_a_claim_is_a_row_a_sweep():
    """The claim stands in the first of its rows; which sweep a row is of is said where there are several."""
    of = Claim(
        "key", "|x| grows", "", "x, N = 15", 0.2, verdicts.INF, lambda study, part: [0.5, 0.52, 0.48, 0.5], note="Mind the scale."
    )
    one, other = judge(of, None, "default"), judge(of, None, "paper_like")
    alone, both = claims_grid([[one]]), claims_grid([[one, other]])
    assert alone.header == ["claim", "contrast", "the paper", "expected", "measured [95 %]", "models", "verdict"]
    assert alone.rows == [
        ['<a id="key"></a>|x| grows', "x, N = 15", "no such figure", "at least 0.2", *("0.500 [0.474, 0.526]", "4", "**agrees**")]
    ]
    assert both.header[4] == "sweep" and [row[4] for row in both.rows] == ["default", "paper_like"] and not any(both.rows[1][:4])
    assert notes([[one, other]]) == {"Mind the scale.": ["|x| grows"]}


def test_what_is_expected_of_a_claim():
    of = lambda low, high: expected(claim(None, low, high))
    assert [of(0.2, verdicts.INF), of(-verdicts.INF, -0.15), of(0, 1)] == ["at least 0.2", "at most -0.15", "0 to 1"]


def test_a_claim_of_no_model_says_so():
    """It was measured, and no model is what the claim is about; else nothing was measured."""
    nothing = judge(claim([np.nan, np.nan]), None, "default")
    absent = judge(Claim("key", "", "", "", 0, 1, None), None, "default")
    by_field = Claim(
        "key",
        "",
        "",
        "",
        0,
        1,
        lambda study, part: claim_values.of({"seed": np.arange(2), "n_labels": np.full(2, 5)}, "x", n_labels=15),
    )
    found = [stated(verdict) for verdict in (nothing, judge(by_field, None, "default"), absent)]
    assert found == [f"({verdicts.NO_MODEL})", "(N = 15 was not trained)", "(not measured)"]
    assert nothing.verdict == absent.verdict == "not tested" and interval_of(nothing) == verdicts.NO_MODEL


def test_a_quick_study_is_small_and_a_full_one_has_its_seeds():
    wanted = study.sweep_of(config.get_config(n_labels=(5, 15)), 16, 8, quick=False)
    assert len(wanted.models) == 16 and wanted.steps == 3000
    quick = study.sweep_of(config.get_config(n_labels=(5, 15)), 16, 8, quick=True)
    assert len(quick.models) == 4 and quick.steps < 100


def test_a_study_of_nothing_has_a_page_that_says_so(tmp_path):
    """As `--only` of one sweep leaves the baseline out."""
    build.build(Study(tmp_path / "study"), tmp_path / "report", None, None)
    assert set(stats.read_csv(tmp_path / "report" / "claims.csv")["verdict"].tolist()) == {"not tested"}
    assert (tmp_path / "report" / "report.md").read_text().count("The sweep `default` is not trained yet.") == 3
