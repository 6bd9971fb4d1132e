"""The paper as printed: its own experiment, what it depends on, answers in plain words, verdicts and figures, as a page."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.studies.build import how, verdict_table
from experiments.studies.claims import ORDER, Verdict
from experiments.studies.page import RULE, Page, measured
from experiments.studies.paper_claims import CLAIMS, LR, MULTIPLIERS, SHARED
from experiments.studies.paper_values import SETTLED, moved, passed
from experiments.studies.sections import answered, section, summary, trained
from experiments.studies.study import Study
from lrjax.errors import InputError
from lrjax.plotting import encoders as figures
from lrjax.plotting import paper as own_figures
from lrjax.plotting import training
from lrjax.plotting.style import CONDITIONS, shrink
from lrjax.stats import ACCURACY, Table, conditions, format_interval, groups, read_csv, select, varying, write_csv

TITLES = {
    "paper_mechanism": "The mechanism model, as printed",
    "initial_values": "Initial values and labels",
    "forgetting": "When: weight decay at large initial values",
    "forgetting_scales": "When: initial values at the paper's weight decay",
    "confounds": "What labels go with: epochs, steps, repeated captions",
    "confounds_images": "What labels go with: images",
    "multiplier": "Which term carries the gradient",
    "paper": "The full model",
    "paper_layouts": "The full model: layouts",
}
NOTES = {
    "paper_mechanism": (
        "One block, no LayerNorm, no MLP; what the paper does not print is an axis (the multiplier m of tokens, 1 or sqrt(128)) or "
        "a choice stated in the config (E, P ~ N(0, 1))."
    ),
    "initial_values": "As printed, with E and P of other initial scales; (.02, .088) is CLIP's own. Equal steps for all N.",
    "forgetting": "A model that has not got there by the last step counts as one that gets there at the last, unless said.",
    "confounds": (
        "Models of N = 5 stand at step 5,000, after 1,000 epochs, where those of N = 15 end: equal epochs are read there. One "
        "evaluation on either side, where trained accuracies are means of three."
    ),
    "confounds_images": "All images of a pair are different; 20 pairs of 42 and 210 of 4 are 840 images of two objects both.",
    "multiplier": (
        "CLS stands at one place, so m E_cls and P_0 enter as their sum and receive the same updates. Decayed alike, their "
        "difference only shrinks: EP : PP is m : 1. Where E_cls is not decayed, it keeps what P_0 loses."
    ),
    "paper": "Two blocks run twice with tied weights, LayerNorm, MLP, dropout. A job for an accelerator, left out unless named.",
}
# Questions, and answers with verdicts by key.
ANSWERS = {
    "Does the printed recipe do what the paper says?": (
        "With tokens as they are (m = 1) unseen-pair top-1 is {few_m1} at 5 labels and {many_m1} at 15; with tokens times "
        "sqrt(128), {few_m11} and {many_m11}. EP at zero changes order by {ep_order_m1} and {ep_order_m11}; EP, PP and BP at zero "
        "leave an order of {gauge_free_m1} and {gauge_free_m11}. Heads lean both ways in {heads_m1} and {heads_m11} of models at "
        "15 labels."
    ),
    "Does label diversity drive generalisation?": (
        "What 15 labels add to the top-1 of 5 is {diversity_iv_large} with E, P ~ N(0, 1) and {iv_small} with CLIP's initial "
        "values, where 5 labels reach {iv_suffice}. At large initial values it is {diversity_c_epochs} after equal epochs, "
        "{diversity_c_steps} after equal steps, {diversity_c_masked} with repeated captions masked, and {diversity_c_images} with "
        "equal numbers of distinct images."
    ),
    "When does a model generalise?": (
        "In log2, top-1 of .5 comes {f_decay} later with a quarter of the paper's weight decay (2: four times as late) and "
        "{f_decay_more} sooner with four times as much; without any, {f_none} of models get there. At scale 2 it takes "
        "{f_scale_law} more of lr x weight decay x steps than at .5 (their decay to one size: 1.39)."
    ),
    "Is it EP?": (
        "EP's share of EP and PP differs from m / (m + 1) by {x_share_1} at m = 1 and by {x_share_11} at sqrt(128). The change of "
        "order that EP at zero makes differs by {x_fingerprint} between sqrt(128) and 1. EP, PP and BP at zero leave an order of "
        "{x_free_1} and {x_free_11}."
    ),
    "Is a position-dependent attention necessary?": (
        "With EP, PP and BP at zero {theory_m1} of the order above chance is left at m = 1, {theory_m11} at sqrt(128), and "
        "{iv_theory_small} at CLIP's initial values. With VP at zero top-1 is {vp_m1} and {vp_m11}."
    ),
}


def build(study: Study, folder: Path, seconds: Table | None) -> list[Path]:
    """Write paper.html, paper.md, paper.csv (verdicts), paper/*.csv (accuracies by condition) and figures."""
    page = Page("The paper as printed: its own experiment, and what it depends on")
    page.text(
        "Data, model and recipe as the paper prints them, then one thing changed at a time. Verdicts as in the main report: a 95 % "
        "interval over seeds against a threshold that was in the code before the run; what the main report asks too is judged by "
        f"its thresholds. Ablations are judged by the seeds that do it right in .8 of cases or more without. {RULE}",
        "quiet",
    )
    verdicts = answered(page, study, CLAIMS, ANSWERS)
    page.heading("The paper's claims, by recipe")
    page.table(*beside(verdicts, folder))
    for part in trained(page, study, TITLES, "make paper"):
        page.text(" ".join(filter(None, (NOTES.get(part), length(study, part)))), "quiet")
        if routes := of_routes(study, part):
            page.table(list(routes[0]), [list(row.values()) for row in routes])
        section(page, part, drawn(study, part, folder / "figures"), verdicts, accuracies(study, part), folder / "paper")
    page.text(
        "`moved`: by how much a condition's mean top-1 changed in the last third of training; it is settled if by less than "
        f"{SETTLED}.",
        "quiet",
    )
    how(page, "`make paper` makes all of this, and goes on where it was stopped.", seconds)
    write_csv(folder / "paper.csv", verdict_table(verdicts))
    return [*page.write(folder, "paper.md", "paper.html"), folder / "paper.csv"]


def beside(verdicts: dict[str, list[Verdict]], folder: Path) -> tuple[list[str], list[list[str]]]:
    """The claims that the main report asks too, a column a recipe: as printed, and those of `claims.csv` of the main report, if it
    is in the folder. Header and rows.
    """
    names, path = {"default": "fast", "paper_like": "paper_like"}, folder / "claims.csv"
    other = read_csv(path) if path.is_file() else {}
    cells = {}
    for i in range(len(other.get("claim", ()))):
        mean, low, high, verdict = (other[name][i] for name in ("mean", "low", "high", "verdict"))
        cells[other["claim"][i], other["sweep"][i]] = f"{mean:.3f} [{low:.3f}, {high:.3f}] {verdict}" if mean == mean else verdict
    rows = []
    for key, claim in SHARED.items():
        if f"{key}_m1" not in verdicts or f"{key}_m11" not in verdicts:
            continue
        own = [verdicts[f"{key}_{ending}"][0] for ending in MULTIPLIERS]
        printed = [f"{measured(verdict)} {verdict.verdict}" if verdict.n else verdict.verdict for verdict in own]
        rows.append([claim.finding, *printed, *(cells.get((key, sweep), cells.get((key, claim.part), "")) for sweep in names)])
    return ["claim", *(f"as printed, {said}" for said, _ in MULTIPLIERS.values()), *names.values()], rows


def length(study: Study, part: str) -> str:
    """How long a sweep trained, for people: steps and epochs by N."""
    curves, told = study.answer(part, "curves"), []
    for (n,), rows in groups(curves, ("n_labels",)).items():
        steps, epochs = (round(float(curves[name][rows].max())) for name in ("step", "epoch"))
        told.append(f"{steps:,} steps, {epochs:,} epochs at N = {n}")
    seeds = len(set(curves["seed"].tolist()))
    return f"Trained for {'; '.join(told)} (the paper: 10,000 epochs), {seeds} seeds."


def accuracies(study: Study, part: str) -> Table:
    """Means by condition, with `moved` and `settled`."""
    models, curves = study.models(part), study.answer(part, "curves")
    by = conditions(models, CONDITIONS)
    table, late = summary(models, by, ("single", "seen_pair")), moved(curves, by)
    change = np.array([late.get(key, np.nan) for key in groups(models, by)])
    return table | {"moved": change, "settled": np.where(np.abs(change) < SETTLED, "yes", "no")}


def of_routes(study: Study, part: str) -> list[dict[str, str]]:
    """How a model knows the order, by condition: order as it is, without what CLS attends to by position, without what it reads of
    positions, and without both.
    """
    if "routes" not in study.parts[part].answers:
        return []
    table, rows = study.answer(part, "routes"), []
    names = {"none": "order", "EP+PP": "EP, PP at zero", "EP+PP+BP": "EP, PP, BP", "VP": "VP", "EP+PP+BP+VP": "all of these"}
    by = conditions(table, CONDITIONS)
    for key, index in groups(table, by).items():
        own = select(table, index)
        orders = {name: format_interval(own[ORDER][own["ablation"] == text], within=ACCURACY) for text, name in names.items()}
        rows.append({name: str(value) for name, value in zip(by, key, strict=True)} | orders)
    return rows


def drawn(study: Study, part: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, caption) of the figures of a sweep."""
    models, curves, title = study.models(part), study.answer(part, "curves"), TITLES[part]
    draw = lambda name, figure, *args: shrink(figure(*args), folder / f"printed_{part}{name}.png")
    command = f"`make sweep CONFIG=experiments/configs/{part}.py`"
    if part == "initial_values":
        yield draw("", own_figures.phase_diagram, models), f"Is label diversity a driver, or a remedy? {command}"
    elif part in ("paper_mechanism", "paper"):
        yield draw("", training.fig3, models), f"Fig 3, as printed. {command}"
    else:
        axes = varying(models, CONDITIONS) or ("n_labels",)
        yield (
            draw("", figures.accuracies, models, axes, title),
            f"{title}: mean over seeds, 95 % interval, seeds as dots. {command}",
        )
    yield draw("_training", own_figures.in_training, curves), "Does it still move? Top-1 in training"
    if part == "forgetting" and (found := times(study)):
        yield draw("_when", own_figures.when, found, LR), "When does a model generalise, by lr x weight decay x steps?"
    if part == "initial_values":
        binding = study.answer(part, "binding")
        yield draw("_routes", own_figures.route_shares, binding), "By which route do images say what stands left?"
    if part == "paper_mechanism":
        over_time = study.answer(part, "routes_over_time")
        yield draw("_routes", own_figures.routes_over_time, over_time), "How the order is known, over time"
    if part == "multiplier":
        tables = study.answer(part, "strongest"), study.answer(part, "ratio")
        yield draw("_terms", own_figures.multiplier, *tables), "Which term carries the gradient?"


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
