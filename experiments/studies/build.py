"""The report: answers to three questions, every claim with its verdict, our own findings, and how it was all made."""

from pathlib import Path

import numpy as np

from experiments.studies.claims import CLAIMS, OURS, Claim, Verdict, judge, ratios, stated
from experiments.studies.page import RULE, Page
from experiments.studies.stages import REGIME
from experiments.studies.study import Study
from lrjax.analysis import decompose, gradient, regime
from lrjax.metrics import SHOWN
from lrjax.plotting import ablation, heads, training
from lrjax.plotting import decompose as term_figures
from lrjax.plotting import gradient as gradient_figures
from lrjax.plotting import regime as regime_figures
from lrjax.plotting.style import shrink
from lrjax.stats import Table, format_interval, select, write_csv
from lrjax.storage import workdir

VARIANTS = ("default", "paper_like")


def build(study: Study, folder: Path, seconds: Table | None, regime_folder: Path | None) -> list[Path]:
    """Write report.md, index.html, figures/ and claims.csv into `folder`; returns their paths."""
    verdicts = {claim.key: judged(claim, study) for claim in (*CLAIMS, *OURS)}
    page = Page("Left-right symmetry breaking in CLIP-style models: what was measured")
    page.text(
        "lrjax re-measures Left-Right Symmetry Breaking in CLIP-style Vision-Language Models (arXiv 2601.12809) beside its "
        "published figures. Every verdict compares the 95 % interval of a contrast with a threshold that was in the code "
        "before the run: it **agrees** if the interval is on the paper's side, **differs** if it is on the other, is "
        f"**undecided** if it straddles. {RULE} The sweeps: {described(study)}.",
        "quiet",
    )
    three_questions(page, verdicts)
    page.heading("Verdicts")
    page.table(["verdict", *(v for v in VARIANTS if study.has(v)), "claims"], tally(verdicts, study))
    page.heading("Figures")
    for path, caption in figures(study, folder / "figures", regime_folder):
        page.figure(path, caption)
    page.heading("The paper's claims")
    for claim in CLAIMS:
        page.claim(verdicts[claim.key])
    page.heading("Findings that the paper does not have")
    for claim in OURS:
        page.claim(verdicts[claim.key])
    regime_section(page, regime_folder, folder)
    commands = (
        "`make reproduce` makes all of this; `make regime` the regime map; `ARGS=--seeds=4` fewer seeds, `ARGS=--quick` a trial."
    )
    how(page, commands + " Other encoders: encoders.html, by `make encoders`.", seconds)
    write_csv(folder / "claims.csv", verdict_table(verdicts))
    return [*page.write(folder), folder / "claims.csv"]


def judged(claim: Claim, study: Study) -> list[Verdict]:
    """The verdicts on a claim: in its own sweep, or in every variant of the baseline that is there."""
    parts = [claim.part] if claim.part else [part for part in VARIANTS if study.has(part)] or ["default"]
    return [judge(claim, study, part) for part in parts]


def verdict_table(verdicts: dict[str, list[Verdict]]) -> Table:
    """A row per claim and sweep."""
    rows = [v for of_claim in verdicts.values() for v in of_claim]
    columns = {"claim": [v.claim.key for v in rows], "finding": [v.claim.finding for v in rows], "sweep": [v.part for v in rows]}
    columns |= {name: [getattr(v, name) for v in rows] for name in ("mean", "low", "high", "n", "verdict", "rule")}
    return {name: np.array(values) for name, values in columns.items()}


def tally(verdicts: dict[str, list[Verdict]], study: Study) -> list[list[str]]:
    """How many of the paper's claims (not ours) have each verdict, by sweep; and which, in the default."""
    rows = []
    for verdict in ("agrees", "differs", "undecided", "not tested"):
        of_paper = [v for claim in CLAIMS if claim.paper for v in verdicts[claim.key] if v.verdict == verdict]
        counts = [
            str(sum(v.part == part or (v.claim.part is not None and part == "default") for v in of_paper))
            for part in VARIANTS
            if study.has(part)
        ]
        keys = dict.fromkeys(v.claim.key for v in of_paper if v.part != "paper_like")
        rows.append([verdict, *counts, ", ".join(keys)])
    return rows


def three_questions(page: Page, verdicts: dict[str, list[Verdict]]) -> None:
    """The one-page answer, in the numbers of the default sweep."""
    first = {key: of_claim[0] for key, of_claim in verdicts.items()}
    said = lambda key: stated(first[key])
    deviation = f"{first['gauge_law'].mean:.0e}" if first["gauge_law"].n else "(not measured)"
    page.answer(
        "Does label diversity drive generalisation?",
        f"From 5 to 25 labels top-1 on pairs of labels never seen together changes by {said('diversity')}, to {said('many')} at "
        f"15; from 1 to 40 layouts a pair it changes by {said('layouts')}. At 5 labels order is above label set by "
        f"{said('what_fails')}: what few labels lack is naming the objects, not their order.",
    )
    page.answer(
        "Which term breaks the symmetry?",
        f"The gradient over positions in the CLS row, EP + PP + BP: at zero, order is {said('gauge_free')} (chance 0.5) and the "
        f"label set changes by {said('gauge_free_set')}. Of its terms EP carries most at the default initial scales: EP at zero "
        f"changes order by {said('ep_order')} and leaves top-1 at {said('ep_top1')}.",
    )
    page.answer(
        "Is it causal?",
        "The gradient is; that it is EP is a convention. In a one-block vision encoder E_cls and P_0 enter only as their sum, "
        f"and their difference only decays (relative deviation from that law {deviation} on average). "
        f"The same function with its CLS vector wholly in P_0 changes its order by {said('gauge_p')} when EP is zero, wholly in "
        f"E_cls by {said('gauge_e')}. Initial scales decide: EP carries {said('ratio_small')} of the gradient at E:P = 1/4 and "
        f"{said('ratio_large')} at 64.",
    )


def figures(study: Study, folder: Path, regime_folder: Path | None):
    """(path, caption) of every figure, drawn from the study's tables."""

    def drawn(name, figure, *args, **kwargs):
        return shrink(figure(*args, **kwargs), folder / f"{name}.png")

    for part in (part for part in VARIANTS if study.has(part)):
        yield from figures_of_variant(study, part, drawn)
    if study.has("weight_decay"):
        yield (
            drawn("weight_decay", training.against, study.models("weight_decay"), "weight_decay", "weight decay"),
            "Fig 10, App B: weight decay. `make sweep CONFIG=experiments/configs/weight_decay.py`",
        )
    if study.has("layouts") and study.has("default"):
        caption = (
            "Fig 3 whole: labels and layouts. `make sweep CONFIG=experiments/configs/diversity_grid.py`, `experiments.factors`"
        )
        yield drawn("fig3_layouts", training.fig3, study.layouts()), caption
    if study.has("ratio"):
        carried = gradient.carried(study.answer("ratio", "strongest"))
        yield (
            drawn("ratio", ablation.ratio, carried, study.answer("ratio", "ratio")),
            "Ours: initial scales decide which term carries the gradient. `experiments.ratio`",
        )
    if study.has("ratio") and study.has("default"):
        yield (
            drawn("predictor", gradient_figures.predictor, *ratios(study, "default")),
            "Ours: |position gradient| / label spread against accuracy, default and initial scales. `experiments.gradient`",
        )
    if study.has("phases"):
        yield (
            drawn("phases", gradient_figures.phases, study.history("phases")),
            "App C: phases, with the gradient. `experiments.gradient`",
        )
    found = REGIME.tables(regime_folder) if regime_folder else {}
    if {"screen", "long"} <= set(found):
        map_of = drawn("regime", regime_figures.regime_map, found["screen"], found["long"])
        yield map_of, "Ours: the regime map. `make regime`"


def figures_of_variant(study: Study, part: str, drawn):
    """(path, caption) of the figures of a sweep that is asked everything."""
    models, at15 = study.models(part), lambda table: select(table, table["n_labels"] == 15)
    yield drawn(f"fig3_{part}", training.fig3, models), f"Fig 3, {part}: accuracies against the number of labels. `make sweep`"
    table = at15(study.answer(part, "ablate"))
    yield (
        drawn(f"ablate_{part}", ablation.ablation, table, f"{part}, vision, terms at zero", SHOWN),
        f"Fig 5e, {part}: terms set to zero at inference. `experiments.ablate_ep`",
    )
    yield (
        drawn(f"gauge_{part}", ablation.gauge, at15(study.answer(part, "gauge"))),
        f"The gauge, {part}: the same functions, their CLS vector in another place. `experiments.gauge`",
    )
    yield (
        drawn(f"doses_{part}", ablation.doses, at15(study.answer(part, "doses"))),
        f"Dose-response, {part}: the gate of EP, and of the whole position gradient, from 1 to 0. `experiments.ablate_ep "
        "--ablations=doses`",
    )
    yield (
        drawn(f"heads_{part}", heads.bias, at15(study.answer(part, "heads"))),
        f"Fig 4c, {part}: which way heads lean. `experiments.heads`",
    )
    run = workdir.restore(study.path(part))
    top1 = np.where(models["n_labels"] == 15, models["unseen_pair"], np.nan)
    best = int(np.nanargmax(top1))
    title = f"{part}, N = 15, seed {models['seed'][best]}, top-1 {top1[best]:.2f}"
    yield (
        drawn(f"EP_{part}", term_figures.by_label, decompose.tables(run, n_labels=[15]).sel(model=best), "vision", title),
        f"Fig 5a-d, {part}: EP by label and position, of the model that generalises most. `experiments.decompose`",
    )


def described(study: Study) -> str:
    """The sweeps of a study and their sizes, for people."""
    parts = []
    for part in study.parts:
        if study.has(part):
            table = study.models(part)
            parts.append(f"{part} ({len(table['seed'])} models, {len(np.unique(table['seed']))} seeds)")
    return ", ".join(parts)


def regime_section(page: Page, folder: Path | None, report: Path) -> None:
    """Whether one configuration holds the paper's joint signature, and what its best one does with fresh seeds. Its tables go to
    `report`.
    """
    page.heading("The regime map")
    tables = REGIME.tables(folder) if folder else {}
    if not {"screen", "long"} <= set(tables):
        page.text("Not tested: `make regime` has not been run.")
        return
    for name, table in tables.items():
        write_csv(report / "regime" / f"{name}.csv", table)
    full = tables["long"]
    most = int(full["agree"].max())
    page.text(
        f"{len(tables['screen']['step'])} configurations were drawn, log-uniform in {', '.join(regime.RANGES)}, and screened at "
        f"N = 5 and 15 with 2 seeds; the best {len(full['step'])} were trained in full, and read at the step where each is best. "
        + (
            f"{int((full['agree'] == len(regime.ROWS)).sum())} hold all {len(regime.ROWS)} rows at one step."
            if most == len(regime.ROWS)
            else f"None holds all {len(regime.ROWS)} rows at one step; the best hold {most}."
        )
    )
    shown = tables.get("confirm", full)
    page.text(
        "The best configuration"
        + (f", confirmed with {len(regime.FRESH)} fresh seeds" if "confirm" in tables else "")
        + ": "
        + ", ".join(f"`{name} = {shown[name][0]:g}`" for name in (*regime.RANGES, "step"))
        + ". A row holds if its mean over seeds lies where it is expected: the rule of the search, which asks no interval."
    )
    rows = [
        [
            text,
            f"{low:g} to {high:g}",
            regime_value(shown[name][0], "confirm" in tables and name in regime.SHARES),
            "holds" if shown[f"agrees_{name}"][0] else "does not hold",
            f"{np.mean(full[f'agrees_{name}']):.0%}",
        ]
        for name, (text, low, high) in regime.ROWS.items()
    ]
    page.table(["row", "expected", "measured", "", f"share of the {len(full['step'])} that hold it"], rows)


def regime_value(value: float, share_of_fresh: bool) -> str:
    """A mean over seeds; with its interval if it is a share of the models of the confirmation."""
    n = len(regime.FRESH)
    return format_interval(np.arange(n) < round(n * value)) if share_of_fresh else f"{value:.3f}"


def how(page: Page, commands: str, seconds: Table | None) -> None:
    """Commands and times."""
    page.heading("How it was made")
    page.text(commands)
    if seconds is not None:
        rows = [[str(name), f"{float(value) / 60:.1f}"] for name, value in zip(seconds["what"], seconds["seconds"], strict=True)]
        page.table(["what", "minutes"], rows)
        page.text(f"In all {sum(map(float, seconds['seconds'])) / 60:.0f} minutes.")
