"""The values of the page on tasks at the paper's length, whose prose is in templates/printed_tasks.md; one table of all sweeps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies import printed_mechanism, printed_search
from experiments.studies.claim_values import rows_with
from experiments.studies.page import Section, Verdicts, judged, sections, values_of, verdict_table, write_page
from experiments.studies.paper_values import SETTLED, moved, settled
from experiments.studies.printed_claims import (
    CLAIMS,
    FEW,
    MANY,
    POSITION,
    THE_PAPER,
    TITLES,
    initial_values_of,
    is_large,
    metrics_of,
    title_of,
    variant_of,
)
from experiments.studies.printed_mechanism import left
from experiments.studies.sections import shown, summary
from experiments.studies.study import PRINTED_TASKS, Study
from experiments.studies.templating import Grid
from lrjax.analysis.gradient import GENERALISES
from lrjax.plotting import paper as figures
from lrjax.plotting import tasks as task_figures
from lrjax.plotting.style import CONDITIONS, shrink
from lrjax.stats import ACCURACY, Table, conditions, format_interval, groups, read_csv, write_csv

# Variant -> the table of accuracies of the same models under the quick recipe, and their place in it.
BASELINE: dict[str, Any] = {"supervision": 0.0}
QUICK: dict[str, tuple[str, dict[str, Any]]] = {
    "row": ("tasks/supervision", BASELINE),
    "grid": ("tasks/grid", {"positions": "learned", "n_layers_text": 2}),
    "grid_words": ("tasks/grid_words", {"n_layers_text": 2}),
    "patches": ("tasks/grid_objects", {"task": "grid:height=8,width=8,size=2,patch=2"}),
    "three": ("tasks/three", {}),
    "left_right": ("encoders/left_right", {"n_layers_text": 2}),
    "layers": ("encoders/depth", {"n_layers_vision": 2}),
    "norm_mlp": ("encoders/norm_mlp", {"layer_norm": True, "mlp_ratio": 4}),
    "rotary": ("encoders/positions", {"positions": "rotary"}),
    "siglip": ("tasks/losses", {"pair_loss": "sigmoid", "hard_negatives": False}),
    "reader": ("tasks/autoregressive", {"objective": "autoregressive"}),
    "reader_raw": ("tasks/autoregressive", {"objective": "autoregressive_raw"}),
}

PRINTED_EPOCHS = 10_000
QUICK_COLUMNS = ("quick recipe: top-1", "quick recipe: order")


def build(study: Study, folder: Path, seconds: Table | None) -> list[Path]:
    """Write printed_tasks.html and .md, printed_tasks.csv (verdicts), printed_tasks/*.csv (accuracies, the table), and figures."""
    verdicts = judged(study, CLAIMS)

    def shown_of(part: str) -> Section:
        own = [found for found in verdicts.values() if found[0].claim.part == part]
        table = accuracies(study, part)
        write_csv(folder / "printed_tasks" / f"{part}.csv", table)
        more = {"length": length(study, part)}
        return Section(part, title_of(part), True, list(drawn(study, part, folder / "figures")), own, shown(table), more)

    rows = table(study, verdicts, folder)
    if rows:
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        write_csv(folder / "printed_tasks" / "all.csv", columns)
    overview = figure_of_all(study, folder / "figures") if rows else None
    values = values_of(study, verdicts, seconds) | {
        "command": "make printed-tasks",
        "sections": sections(study, {part: title_of(part) for part in PRINTED_TASKS}, shown_of),
        "all": grid_of(rows),
        "mechanism": grid_of(printed_mechanism.table(study)),
        "searches": grid_of(printed_search.rows(folder / "printed_tasks" / "search")),
        "overview": overview,
        "settled": SETTLED,
        "generalises": GENERALISES,
    }
    write_csv(folder / "printed_tasks.csv", verdict_table(verdicts))
    return [*write_page(folder, "printed_tasks.md", values), folder / "printed_tasks.csv"]


def grid_of(rows: list[dict[str, str]]) -> Grid | None:
    """Rows as a table of the page; None if there are none."""
    return Grid(list(rows[0]), [list(row.values()) for row in rows]) if rows else None


def length(study: Study, part: str) -> str:
    """How long a sweep trained, for people."""
    curves = study.answer(part, "curves")
    seeds = sorted(set(curves["seed"].tolist()))
    few, many = (rows_with(curves, n_labels=n)["epoch"].max() for n in (FEW, MANY))
    epochs = f"{few:,.0f} epochs at N = {FEW}, {many:,.0f} at N = {MANY}"
    return f"Trained for {curves['step'].max():,.0f} steps ({epochs}; the paper: 10,000), seeds {', '.join(map(str, seeds))}."


def accuracies(study: Study, part: str) -> Table:
    """Means by number of labels, with how far top-1 moved in the last third of training."""
    models = study.models(part)
    by = conditions(models, CONDITIONS)
    own = tuple(name for name in metrics_of(part) if not name.startswith("unseen_pair"))
    late = moved(study.answer(part, "curves"), by, metrics_of(part)[0])
    found = summary(models, by, ("single", "seen_pair", *own))
    return found | {"moved": np.array([late[key] for key in groups(models, by)])}


def table(study: Study, verdicts: Verdicts, report: Path) -> list[dict[str, str]]:
    """A row a sweep that is trained: accuracies, the order that is left without attention by position, the verdict on the paper's
    claim; then the accuracies of the same models under the quick recipe, from the committed tables of the report, and the time.
    """
    rows = []
    for part in PRINTED_TASKS:
        if not study.has(part):
            continue
        models, (top1, order) = study.models(part), metrics_of(part)
        of = lambda n, name, models=models: rows_with(models, n_labels=n)[name]
        means = {n: np.mean(of(n, top1)) for n in (FEW, MANY)}
        generalises = [n for n, mean in means.items() if mean >= GENERALISES and means[MANY] >= GENERALISES]
        curves = study.answer(part, "curves")
        late, epochs = moved(curves, ("n_labels",), top1), rows_with(curves, n_labels=MANY)["epoch"].max()
        row = {
            "task": TITLES[variant_of(part)],
            "initial values": initial_values_of(part),
            "steps": f"{curves['step'].max():,.0f}",
            **{f"top-1, N = {n}": format_interval(of(n, top1), within=ACCURACY, digits=2) for n in (FEW, MANY)},
            "moved": ", ".join(f"{late[n,]:+.2f}" for n in (FEW, MANY)),
            "generalises from N": str(min(generalises)) if generalises else "none",
            f"order, N = {MANY}": format_interval(of(MANY, order), within=ACCURACY, digits=2),
        }
        row |= {"EP + PP + BP at zero: order": left(study, part, POSITION)}
        finished = settled(curves, top1) and epochs >= PRINTED_EPOCHS
        verdict = verdicts[f"{part}_many"][0].verdict if variant_of(part) in THE_PAPER else "no claim of the paper"
        row["replicates"] = f"not yet, after {epochs:,.0f} epochs" if verdict == "differs" and not finished else verdict
        rows.append(row | quick(part, report) | {"minutes": minutes(study, part)})
    return rows


def quick(part: str, report: Path) -> dict[str, str]:
    """The accuracies of the same models under the quick recipe: top-1 at FEW and MANY labels, and order at MANY; readers have no
    MANY there, and give their most.
    """
    name, where = QUICK[variant_of(part)]
    path = report / f"{name}.csv"
    if not path.is_file():  # another report than the committed one
        return dict.fromkeys(QUICK_COLUMNS, "not there")
    found = rows_with(read_csv(path), **where)
    top1, order = metrics_of(part)
    most = MANY if MANY in found["n_labels"] else int(found["n_labels"].max())
    of = lambda n, column: float(found[column][found["n_labels"] == n][0])
    accuracy = f"{of(FEW, top1):.2f} at N = {FEW}, {of(most, top1):.2f} at N = {most}"
    return dict(zip(QUICK_COLUMNS, (accuracy, f"{of(most, order):.2f} at N = {most}"), strict=True))


def minutes(study: Study, part: str) -> str:
    """How long a sweep took to train, in minutes."""
    times = study.times() or {"what": np.array([], str), "seconds": np.array([])}
    own = times["seconds"][times["what"] == f"{part}: training"]
    return f"{own.sum() / 60:.0f}" if len(own) else ""


def figure_of_all(study: Study, folder: Path) -> tuple[Path, str]:
    """(path, caption) of the figure of all sweeps: top-1 by task, number of labels and initial values."""
    found = {}
    for part in filter(study.has, PRINTED_TASKS):
        models = study.models(part)
        for n in (FEW, MANY):
            found[TITLES[variant_of(part)], is_large(part), n] = rows_with(models, n_labels=n)[metrics_of(part)[0]]
    path = shrink(task_figures.by_recipe(found), folder / "printed_tasks.png")
    return path, "Top-1 by task, each at its last step (see the table): mean over seeds, seeds as dots."


def drawn(study: Study, part: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, caption) of the figure of a sweep: is it finished?"""
    curves, top1 = study.answer(part, "curves"), metrics_of(part)[0]
    measure = "top-1, unseen pairs" if top1 == "unseen_pair" else "top-1, chains"
    path = shrink(figures.in_training(curves, metric=top1, measure=measure), folder / f"printed_tasks_{part}.png")
    yield path, f"{title_of(part)}: top-1 in training. `{study.parts[part].command}`"
