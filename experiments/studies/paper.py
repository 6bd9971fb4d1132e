"""The values of the page on the paper's own experiment, whose prose is in templates/paper.md."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from markupsafe import Markup

from experiments.studies.answers import FIRST_BLOCK
from experiments.studies.claim_values import ORDER
from experiments.studies.page import Section, Verdicts, judged, sections, values_of, verdict_table, write_page
from experiments.studies.paper_claims import CLAIMS, LR, MULTIPLIERS, SHARED
from experiments.studies.paper_values import MANY, SETTLED, moved, passed
from experiments.studies.sections import shown, summary
from experiments.studies.study import Study
from experiments.studies.templating import Grid
from experiments.studies.verdicts import interval_of
from lrjax.errors import InputError
from lrjax.gates import NONE
from lrjax.metrics import SHOWN
from lrjax.plotting import ablation, heads, relational, training
from lrjax.plotting import encoders as figures
from lrjax.plotting import paper as own_figures
from lrjax.plotting.style import CONDITIONS, in_short, shrink
from lrjax.stats import (
    ACCURACY,
    Table,
    conditions,
    format_interval,
    groups,
    interval_text,
    read_csv,
    select,
    varying,
    write_csv,
)

TITLES = {
    "paper_mechanism": "The mechanism model, as printed",
    "paper_mechanism_10": "The mechanism model with 10 labels",
    "paper_mechanism_20": "The mechanism model with 20 labels",
    "initial_values": "Initial values and labels",
    "forgetting": "Weight decay at large initial values",
    "forgetting_scales": "Initial values at the paper's weight decay",
    "confounds": "Labels against epochs, steps and repeated captions",
    "confounds_images": "Labels against images",
    "multiplier": "Which term carries the gradient",
    "paper": "The full model",
    "paper_10": "The full model with 10 labels",
    "paper_20": "The full model with 20 labels",
    "paper_layouts": "The full model: layouts",
}
# The columns of `routes` -> the ablation that each is of.
ROUTES = {"order": NONE, "EP, PP at zero": "EP+PP", "EP, PP, BP": "EP+PP+BP", "VP": "VP", "all of these": "EP+PP+BP+VP"}


def build(study: Study, folder: Path, seconds: Table | None) -> list[Path]:
    """Write paper.html, paper.md, paper.csv (verdicts), paper/*.csv (accuracies by condition) and figures."""
    verdicts = judged(study, CLAIMS)

    def shown_of(part: str) -> Section:
        own = [found for found in verdicts.values() if found[0].claim.part == part]
        write_csv(folder / "paper" / f"{part}.csv", table := accuracies(study, part))
        more = {"length": length(study, part), "routes": routes(study, part)}
        return Section(part, TITLES[part], True, list(drawn(study, part, folder / "figures")), own, shown(table), more)

    values = values_of(study, verdicts, seconds) | {
        "command": "make paper",
        "sections": sections(study, TITLES, shown_of),
        "beside": beside(verdicts, folder),
        "settled": SETTLED,
    }
    write_csv(folder / "paper.csv", verdict_table(verdicts))
    return [*write_page(folder, "paper.md", values), folder / "paper.csv"]


def beside(verdicts: Verdicts, folder: Path) -> Grid:
    """The claims that the main report asks too, a column a recipe: as printed, and those of `claims.csv` of the main report, if it
    is in the folder.
    """
    names, path = {"default": "fast", "paper_like": "paper_like"}, folder / "claims.csv"
    other = read_csv(path) if path.is_file() else {}
    cells = {}
    for i in range(len(other.get("claim", ()))):
        mean, low, high, verdict = (other[name][i] for name in ("mean", "low", "high", "verdict"))
        cells[other["claim"][i], other["sweep"][i]] = marked("" if np.isnan(mean) else interval_text(mean, low, high), verdict)
    rows = []
    for key, claim in SHARED.items():
        if f"{key}_m1" not in verdicts or f"{key}_m11" not in verdicts:
            continue
        own = [verdicts[f"{key}_{ending}"][0] for ending in MULTIPLIERS]
        printed = [marked(interval_of(verdict) if verdict.n else "", verdict.verdict) for verdict in own]
        rows.append([claim.finding, *printed, *(cells.get((key, sweep), cells.get((key, claim.part), "")) for sweep in names)])
    return Grid(["claim", *(f"as printed, {said}" for said, _ in MULTIPLIERS.values()), *names.values()], rows)


def marked(interval: str, verdict: str) -> Markup:
    """A number and its verdict in one cell."""
    return Markup(f"{interval} **{verdict}**".strip())


def length(study: Study, part: str) -> str:
    """How long a sweep trained, for people: steps and epochs by N."""
    curves, lengths = study.answer(part, "curves"), []
    for (n,), rows in groups(curves, ("n_labels",)).items():
        of_n = select(curves, rows)
        epochs = [round(float(of_n["epoch"][of_model].max())) for of_model in groups(of_n, ("model",)).values()]
        span = f"{min(epochs):,}" if min(epochs) == max(epochs) else f"{min(epochs):,} to {max(epochs):,}"
        lengths.append(f"{round(float(of_n['step'].max())):,} steps, {span} epochs at N = {n}")
    seeds = len(set(curves["seed"].tolist()))
    return f"Trained for {'; '.join(lengths)} (the paper: 10,000 epochs), {seeds} seeds."


def accuracies(study: Study, part: str) -> Table:
    """Means by condition, with `moved` and `settled`."""
    models, curves = study.models(part), study.answer(part, "curves")
    by = conditions(models, CONDITIONS)
    table, late = summary(models, by, ("single", "seen_pair")), moved(curves, by)
    change = np.array([late.get(key, np.nan) for key in groups(models, by)])
    return table | {"moved": change, "settled": np.where(np.abs(change) < SETTLED, "yes", "no")}


def routes(study: Study, part: str) -> Grid | None:
    """How a model knows the order, by condition: order as it is, without what CLS attends to by position, without what it reads of
    positions, and without both. None if the study does not ask it of the sweep.
    """
    asked = study.parts[part].answers
    answer = next((name for name in ("routes", "first_block") if name in asked), None)
    if answer is None:
        return None
    table = study.answer(part, answer)
    ablations = [FIRST_BLOCK[terms] if answer == "first_block" else terms for terms in ROUTES.values()]
    by, rows = conditions(table, CONDITIONS), []
    for key, index in groups(table, by).items():
        own = select(table, index)
        orders = [format_interval(own[ORDER][own["ablation"] == ablation], within=ACCURACY) for ablation in ablations]
        rows.append([*map(in_short, key), *orders])
    return Grid([*by, *ROUTES], rows)


def drawn(study: Study, part: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, caption) of the figures of a sweep."""
    models, curves, title = study.models(part), study.answer(part, "curves"), TITLES[part]
    draw = lambda name, figure, *args: shrink(figure(*args), folder / f"printed_{part}{name}.png")
    command = f"`{study.parts[part].command}`"
    if part == "initial_values":
        caption = f"Is label diversity a driver, or a remedy? Top-1 on unseen pairs by the number of labels. {command}"
        yield draw("_labels", own_figures.label_diversity, models), caption
        yield draw("", own_figures.phase_diagram, models), "The same for all initial values, with order and label set"
    elif part in ("paper_mechanism", "paper"):
        commands = ", ".join(f"`{study.parts[name].command}`" for name in of_all_labels(study, part))
        yield draw("", training.fig3, with_other_labels(study, part)), f"Fig 3, as printed. {commands}"
    else:
        axes = varying(models, CONDITIONS) or ("n_labels",)
        yield (
            draw("", figures.accuracies, models, axes, title),
            f"{title}: mean over seeds, 95 % interval, seeds as dots. {command}",
        )
    yield draw("_training", own_figures.in_training, curves), "Does it still move? Top-1 in training"
    if part == "paper_mechanism":
        at_many = lambda answer: of_many(study.answer(part, answer))
        ablated = draw("_ablate", ablation.ablation, at_many("ablate"), "As printed, vision, terms at zero", SHOWN)
        yield ablated, "Fig 5e, as printed: terms set to zero at inference, N = 15. `experiments.ablate_ep`"
        yield draw("_heads", heads.bias, at_many("heads")), "Fig 4c, as printed: which way heads lean, N = 15. `experiments.heads`"
        caption = "Fig 5d, as printed: P(relational) of each head against how far it leans, N = 15. `experiments.relational`"
        yield draw("_relational", relational.claim, at_many("relational")), caption
    if part == "forgetting" and (found := times(study)):
        yield draw("_when", own_figures.when, found, LR), "When does a model generalise, by lr x weight decay x steps?"
    if "binding" in study.parts[part].answers and part == "initial_values":
        binding = study.answer(part, "binding")
        yield draw("_routes", own_figures.route_shares, binding), "By which route do images say what stands left?"
    if part == "paper_mechanism":
        over_time = study.answer(part, "routes_over_time")
        yield draw("_routes", own_figures.routes_over_time, over_time), "How the order is known, over time"
        of_each = of_many(study.answer(part, "binding_over_time"))
        yield draw("_route_of_each", own_figures.route_of_each, of_each), "What each model knows, and by which route, N = 15"
    if part == "multiplier":
        tables = study.answer(part, "strongest"), study.answer(part, "ratio")
        yield draw("_terms", own_figures.multiplier, *tables), "Which term carries the gradient?"


def of_all_labels(study: Study, part: str) -> list[str]:
    """A sweep, and those that train the same with other numbers of labels, where they are trained."""
    return [name for name in (part, *(f"{part}_{n}" for n in (10, 20))) if name in study.parts and study.has(name)]


def with_other_labels(study: Study, part: str) -> Table:
    """The models of the sweeps of `of_all_labels`."""
    tables = [study.models(name) for name in of_all_labels(study, part)]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0] if all(name in t for t in tables)}


def of_many(table: Table) -> Table:
    """The rows of the models of many labels."""
    return select(table, table["n_labels"] == MANY)


def times(study: Study) -> dict[str, Table]:
    """The tables of `figures.paper.when`: by weight decay at scale 1, and by initial scale at weight decay .2, where those of scale
    1 stand too.
    """
    found: dict[str, list[dict]] = {"weight decay": [], "initial scale": []}
    for part in ("forgetting", "forgetting_scales"):
        try:
            curves = study.answer(part, "curves")
        except InputError:  # it is not trained
            continue
        for decay, scale in groups(curves, ("weight_decay", "e_scale")):
            steps = passed(curves, weight_decay=decay, e_scale=scale)
            rows = [{"weight_decay": decay, "step": step, "last": curves["step"].max()} for step in steps.values()]
            if part == "forgetting":
                found["weight decay"] += [row | {"x": decay} for row in rows]
            if decay == 0.2:
                found["initial scale"] += [row | {"x": scale} for row in rows]
    return {name: {key: np.array([row[key] for row in rows], float) for key in rows[0]} for name, rows in found.items() if rows}
