"""The values of the page on other tasks, whose prose is in templates/tasks.md; one table of all sweeps of `study.TASKS`."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import xarray as xr

from experiments.studies.claim_values import ORDER, SET, TOP1
from experiments.studies.contrasts import KEPT, at, kept
from experiments.studies.page import Section, judged, sections, values_of, verdict_table, write_page
from experiments.studies.sections import shown, summary
from experiments.studies.study import Study
from experiments.studies.task_claims import CHAIN, CLAIMS, FEW, MANY, NAMED, POSITION, SIZES, ablations, asked, taken
from experiments.studies.templating import Grid
from lrjax.analysis.gradient import GENERALISES
from lrjax.config import Model
from lrjax.data import tasks
from lrjax.data.scenes import Scene
from lrjax.data.tasks.pairs import Pairs
from lrjax.kinds import OBJECTIVES
from lrjax.metrics import I2T, SHOWN, Metric, of_table
from lrjax.models.clip import n_parameters, param_shapes
from lrjax.plotting import encoders as figures
from lrjax.plotting import tasks as task_figures
from lrjax.plotting.style import CONDITIONS, shrink
from lrjax.stats import (
    ACCURACY,
    Table,
    conditions,
    format_interval,
    format_share,
    groups,
    select,
    varying,
    write_csv,
)

TITLES = {
    "grid": "Grids",
    "grid_words": "Grids with four words",
    "grid_objects": "Objects and patches of several pixels",
    "grid_layouts": "Objects and patches for longer, in more layouts",
    "three": "Three objects",
    "three_hard": "Three objects with hard negatives",
    "supervision": "Explicit supervision",
    "supervision_alone": "Supervision alone",
    "autoregressive": "Autoregressive readers",
    "autoregressive_wide": "A reader of CLIP's size",
    "losses": "SigLIP and hard negatives",
    "caption_noise": "Noisy captions",
    "nearer": "Nearer to the middle",
    "zipf": "Unbalanced labels",
    "distractors": "Distractors",
}
RATIO = {"directions": "ratio_least", "strongest": "ratio"}  # answer -> its |gradient| over label spread; readers have none
TOLD: dict[str, tuple[str, str]] = dict.fromkeys(("three", "three_hard"), (CHAIN, f"{CHAIN}_order"))
TOLD |= {"supervision_alone": ("unseen_pair_order_located", "unseen_pair_order_located")}
OWN_NAMES = {CHAIN: "chain", "unseen_pair_order_located": "pair_order_located"}  # of these, as the table has them
SETS = {"three": f"{CHAIN}_label_set", "three_hard": f"{CHAIN}_label_set", "supervision_alone": None}  # where it is not `SET`
SETS |= dict.fromkeys(("autoregressive", "autoregressive_wide"), NAMED)
OF_CHAINS = {f"{CHAIN}_order": "order of chains", CHAIN: "top-1 of chains", f"{CHAIN}_label_set": "label set of chains"}
MEASURED = {  # what figures of accuracies show where it is not SHOWN
    "three": OF_CHAINS,
    "three_hard": OF_CHAINS,
    "supervision_alone": {"unseen_pair_order_located": "order located", "unseen_pair_place": "places located"},
}
IN_SET = f"N = {MANY}, in set"  # a column: among the captions of the set alone
WIDE = 200  # d_model of configs/autoregressive_wide.py


def build(study: Study, folder: Path, seconds: Table | None) -> list[Path]:
    """Write tasks.html, tasks.md, tasks.csv (verdicts), tasks/*.csv (accuracies by condition; `all`: the table) and figures."""
    verdicts = judged(study, CLAIMS)

    def shown_of(part: str) -> Section:
        models = study.models(part)
        own = [found for found in verdicts.values() if found[0].claim.part == part]
        write_csv(folder / "tasks" / f"{part}.csv", accuracies := summary(models, conditions(models, CONDITIONS), special(models)))
        return Section(part, TITLES[part], True, list(drawn(study, part, folder / "figures")), own, shown(accuracies))

    rows = table(study)
    if rows:
        write_csv(folder / "tasks" / "all.csv", {name: np.array([row[name] for row in rows]) for name in rows[0]})
    values = values_of(study, verdicts, seconds) | {
        "command": "make tasks",
        "sections": sections(study, TITLES, shown_of),
        "all": Grid(list(rows[0]), [list(row.values()) for row in rows]) if rows else None,
        "true_captions": {size: true_captions(task, "left+above") for size, task in SIZES.items()},
        "effective_labels": {z: effective_labels(z, MANY) for z in (0.0, 0.5, 1.0, 1.5)},
        "parameters": parameters(),
    }
    write_csv(folder / "tasks.csv", verdict_table(verdicts))
    return [*write_page(folder, "tasks.md", values), folder / "tasks.csv"]


def true_captions(text: str, relations: str) -> float:
    """How many captions are true of an image of two objects, on average over layouts."""
    task = tasks.make(text, n_heldout=5, n_labels_max=MANY, L=10, relations=relations)
    i, j = task.layouts.T
    scenes = Scene(np.zeros_like(i), np.ones_like(i), i, j)
    # in one program, and fetched: nothing moves between host and device unasked (JAX_TRANSFER_GUARD)
    assert isinstance(task, Pairs)
    return float(jax.device_get(jax.jit(lambda: task.relations_of(scenes)[2].sum(0).mean())()))


def effective_labels(z: float, n: int) -> float:
    """exp of the entropy of labels 1..n that occur as r^-z."""
    p = np.arange(1, n + 1.0) ** -z
    p /= p.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def table(study: Study) -> list[dict[str, str]]:
    """A row per task and condition: mean top-1 over seeds by N, at most labels in set too, and from how many labels on it
    generalises; how much it still rose in the last 30 % of training; then `mechanism`.
    """
    rows = []
    for part in TITLES:
        if not study.has(part):
            continue
        models = study.models(part)
        axes = varying(models, CONDITIONS)
        metric = TOLD.get(part, (TOP1, ORDER))[0]
        for key, index in groups(models, axes).items():
            where = dict(zip(axes, key, strict=True))
            own = select(models, index)
            by_n = {n: np.nanmean(own[metric][i]) for (n,), i in sorted(groups(own, ("n_labels",)).items())}
            generalises = [n for n in by_n if all(value >= GENERALISES for other, value in by_n.items() if other >= n)]
            row = {"task": TITLES[part], "condition": ", ".join(f"{name}={value}" for name, value in where.items())}
            row["measure"] = SHOWN.get(metric) or OWN_NAMES[metric]
            row |= {f"N = {n}": f"{by_n[n]:.2f}" if n in by_n else "" for n in (FEW, 15, MANY)}
            in_set = own.get(f"{metric}_in_set", np.full(len(index), np.nan))[own["n_labels"] == MANY]
            row[IN_SET] = "" if np.isnan(in_set).all() else f"{np.nanmean(in_set):.2f}"
            row["generalises from N"] = "-" if len(by_n) == 1 else str(generalises[0]) if generalises else "none"
            row["rose at the end"] = f"{np.nanmean(asked('late_gain', metric, MANY, **where)(study, part)):+.2f}"
            rows.append(row | mechanism(study, part, where))
    if not any(row[IN_SET] for row in rows):  # tables of an older version
        rows = [{name: cell for name, cell in row.items() if name != IN_SET} for row in rows]
    return rows


def mechanism(study: Study, part: str, where: dict) -> dict[str, str]:
    """The last columns of `table`, at N = 25: order; what EP, and all of the position gradient, at zero change in it and in the
    label set; in how many of the models that order (.8 or more) the gradient is there: above the label spread, and carrying order;
    their share has Wilson's interval.
    """
    metric, label_set = TOLD.get(part, (TOP1, ORDER))[1], SETS.get(part, SET)
    order = at(metric, MANY, **where)(study, part)
    row = {"order": format_interval(order, within=ACCURACY)}
    for name, terms in {"EP at zero": "EP", "EP + PP + BP at zero": POSITION}.items():
        for what, measure in {"order": metric, "label set": label_set}.items():
            change = taken(terms, measure, of=metric, **where)(study, part) if measure else np.array([np.nan])
            row[f"{name}: {what}"] = "not learned" if np.isnan(change).all() else format_interval(change, signed=True)
    left = kept(POSITION, MANY, metric, answer=ablations(part), **where)(study, part)
    assert isinstance(left, xr.DataArray)  # by seed
    left = left.dropna("seed")
    there = abs(left) <= KEPT
    source = next((answer for answer in RATIO if answer in study.parts[part].answers), None)
    ratio = "" if source else "; order alone"
    if source and len(left):
        spread = asked(source, RATIO[source], MANY, **where)(study, part)
        assert isinstance(spread, xr.DataArray)
        there = there & (spread > 1)
        ratio = f"; over label spread {format_interval(spread.sel(seed=there['seed']), digits=1)}"  # of the same models
    return row | {"gradient": f"in {format_share(there)}{ratio}"}


def special(models: Table) -> tuple[str, ...]:
    """The other generalisations, and the accuracies of a task beside the usual ones: by word, of chains, by a localization head."""
    own = [metric.column for metric in of_table(models) if metric.direction == I2T and is_special(metric)]
    return "single", "seen_pair", *(name for name in own if not np.isnan(models[name]).all())


def is_special(metric: Metric) -> bool:
    """Whether a metric is one that few tasks have, of what `special` lists."""
    of_head = metric.measure in ("order_located", "place")
    if metric.set == "seen_pair":
        return of_head
    of_pairs = metric.set == "unseen_pair" and (bool(metric.word) or of_head or metric.measure in ("named", "alone"))
    return of_pairs or metric.set == CHAIN


def parameters() -> dict[str, int]:
    """How many parameters a model of 25 labels trains, by objective. A reader of raw tokens has no use for its vision encoder."""
    params = {objective: param_shapes(Model(n_labels=MANY, objective=objective)) for objective in OBJECTIVES}
    raw = {"autoregressive_raw": params["autoregressive_raw"].text}
    wide = Model(n_labels=MANY, objective="autoregressive_raw", d_model=WIDE)
    raw[f"autoregressive_raw, d_model = {WIDE}"] = param_shapes(wide).text
    return {name: n_parameters(tree) for name, tree in (params | raw).items()}


def drawn(study: Study, part: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, caption) of the figures of a sweep."""
    models, title = study.models(part), TITLES[part]
    axes = varying(models, CONDITIONS) or ("n_labels",)
    draw = lambda name, figure, *args: shrink(figure(*args), folder / f"tasks_{part}{name}.png")
    caption = f"{title}: mean over seeds, 95 % interval, seeds as dots. `{study.parts[part].command}`"
    shown = MEASURED.get(part, SHOWN)
    yield draw("", figures.conditions, models, axes, f"{title}: unseen", shown, "accuracy, unseen"), caption
    answers = study.parts[part].answers
    if "strongest" in answers:
        measure = {"ratio": "|gradient| over label spread"}
        args = study.answer(part, "strongest"), axes, f"{title}: the best head", measure, measure["ratio"]
        yield draw("_gradient", figures.conditions, *args), "Is the gradient there? `experiments.gradient`"
    if "grid_maps" in answers:
        yield (
            draw("_taken", task_figures.taken, study.answer(part, "grid_ablate")),
            "What each direction of the gradient does. `experiments.ablate_ep`",
        )
        yield draw("_directions", task_figures.directions, study.answer(part, "grid_heads")), "In which heads? `experiments.grid`"
        yield draw("_maps", task_figures.maps, study.answer(part, "grid_maps")), "The scores by position. `experiments.grid`"
    if "attends_to" in answers:
        yield (
            draw("_attends_to", task_figures.attends_to, study.answer(part, "attends_to")),
            "Where a decoder attends. `experiments.reader`",
        )
