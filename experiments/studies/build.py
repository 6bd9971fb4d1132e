"""The values of the main report, whose prose is in templates/report.md."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.claim_values import ratios
from experiments.studies.claims import CLAIMS, OURS
from experiments.studies.page import Verdicts, values_of, verdict_table, write_page
from experiments.studies.stages import REGIME
from experiments.studies.study import Study
from experiments.studies.templating import VERDICTS, Grid
from experiments.studies.verdicts import Claim, Verdict, judge
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
    verdicts = {claim.key: in_variants(claim, study) for claim in (*CLAIMS, *OURS)}
    law = verdicts["gauge_law"][0]
    values = values_of(study, verdicts, seconds) | {
        "sweeps": described(study),
        "deviation": f"{law.mean:.0e}" if law.n else f"({law.missing})",
        "tally": tally(verdicts, study),
        "figures": list(figures(study, folder / "figures", regime_folder)),
        "of_paper": [verdicts[claim.key] for claim in CLAIMS],
        "of_ours": [verdicts[claim.key] for claim in OURS],
        "regime": regime_map(regime_folder, folder),
    }
    write_csv(folder / "claims.csv", verdict_table(verdicts))
    return [*write_page(folder, "report.md", values, "index.html"), folder / "claims.csv"]


def in_variants(claim: Claim, study: Study) -> list[Verdict]:
    """The verdicts on a claim: in its own sweep, or in every variant of the baseline that is there."""
    parts = [claim.part] if claim.part else [part for part in VARIANTS if study.has(part)] or ["default"]
    return [judge(claim, study, part) for part in parts]


def tally(verdicts: Verdicts, study: Study) -> Grid:
    """How many of the paper's claims (not ours) have each verdict, by sweep; and which, in the default."""
    variants, rows = [part for part in VARIANTS if study.has(part)], []
    for verdict in VERDICTS:
        of_paper = [v for claim in CLAIMS if claim.paper for v in verdicts[claim.key] if v.verdict == verdict]
        counts = [sum(v.part == part or (v.claim.part is not None and part == "default") for v in of_paper) for part in variants]
        keys = dict.fromkeys(v.claim.key for v in of_paper if v.part != "paper_like")
        rows.append([verdict, *counts, ", ".join(keys)])
    return Grid(["verdict", *variants, "claims"], rows)


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


def regime_map(folder: Path | None, report: Path) -> dict[str, Any] | None:
    """Whether one configuration holds the paper's joint signature, and what its best one does with fresh seeds. None if the search
    was not made. Its tables go to `report`.
    """
    tables = REGIME.tables(folder) if folder else {}
    if not {"screen", "long"} <= set(tables):
        return None
    for name, table in tables.items():
        write_csv(report / "regime" / f"{name}.csv", table)
    full, confirmed = tables["long"], "confirm" in tables
    best = tables.get("confirm", full)
    rows = [
        [
            text,
            f"{low:g} to {high:g}",
            regime_value(best[name][0], confirmed and name in regime.SHARES),
            "holds" if best[f"agrees_{name}"][0] else "does not hold",
            f"{np.mean(full[f'agrees_{name}']):.0%}",
        ]
        for name, (text, low, high) in regime.ROWS.items()
    ]
    return {
        "screened": len(tables["screen"]["step"]),
        "ranges": ", ".join(regime.RANGES),
        "trained": len(full["step"]),
        "asked": len(regime.ROWS),
        "most": int(full["agree"].max()),
        "hold_all": int((full["agree"] == len(regime.ROWS)).sum()),
        "fresh": len(regime.FRESH) if confirmed else 0,
        "best": {name: f"{best[name][0]:g}" for name in (*regime.RANGES, "step")},
        "rows": Grid(["row", "expected", "measured", "", f"share of the {len(full['step'])} that hold it"], rows),
    }


def regime_value(value: float, share_of_fresh: bool) -> str:
    """A mean over seeds; with its interval if it is a share of the models of the confirmation."""
    n = len(regime.FRESH)
    return format_interval(np.arange(n) < round(n * value)) if share_of_fresh else f"{value:.3f}"
