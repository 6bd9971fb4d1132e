"""Other encoders: answers in plain words, verdicts, tables and figures of the sweeps of `study.ENCODERS`, as a page."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.studies import encoder_answers, search
from experiments.studies.build import how, verdict_table
from experiments.studies.claims import ORDER, SET, TOP1, N, judge
from experiments.studies.encoder_claims import CLAIMS
from experiments.studies.page import RULE, Page
from experiments.studies.sections import section, summary, trained
from experiments.studies.stages import ONE_HEAD
from experiments.studies.study import Study
from lrjax.ablations import described
from lrjax.analysis import depth, one_head
from lrjax.analysis.gradient import carried
from lrjax.config import AXIS_COLUMNS, STATIC, Model
from lrjax.gates import NONE
from lrjax.models.clip import n_parameters, param_shapes
from lrjax.plotting import encoders as figures
from lrjax.plotting.style import shrink
from lrjax.stats import ACCURACY, Table, format_interval, groups, least, mean_interval, select, varying, write_csv

TITLES = {
    "training_ablation": "Training without EP",
    "heads": "Number and size of heads",
    "pruned": "Pruned and retrained",
    "left_right": "Left-of and right-of",
    "depth": "Depth",
    "norm_mlp": "LayerNorm and MLP",
    "norm_depth": "LayerNorm in depth",
    "positions": "Kinds of position",
    "width": "Width",
}
AXES = {
    "training_ablation": ("gates",),
    "heads": ("n_heads", "d_head"),
    "pruned": ("gates",),
    "left_right": ("n_layers_text",),
    "depth": ("n_layers_vision",),
    "norm_mlp": ("layer_norm", "mlp_ratio"),
    "norm_depth": ("n_layers_vision",),
    "positions": ("positions",),
    "width": ("d_model", "d_head"),
}
# Answers that go to the report as CSV.
WRITTEN = ("strongest", "layers", "layers_alone", "paths", "text_paths", "text_layers", "pruning_of_four", "rows")


def build(study: Study, folder: Path, seconds: Table | None, searched: Path) -> list[Path]:
    """Write encoders.html, encoders.md, encoders.csv (verdicts), encoders/*.csv (accuracies by condition, answers) and figures."""
    page = Page("Other encoders: is the gradient a property of one block, or of attention?")
    page.text(
        "Every variant is a configuration of the same encoder. Verdicts as in the main report: a 95 % interval over seeds against "
        "a threshold that was in the code before the run, where it does not say otherwise. N = 15 unless said. Each sweep holds "
        f"its own baseline, so contrasts are paired by seed. {RULE}",
        "quiet",
    )
    verdicts = {claim.key: [judge(claim, study, claim.part)] for claim in CLAIMS}
    encoder_answers.answer(page, verdicts, study)
    for part in trained(page, study, TITLES, "make encoders"):
        models = study.models(part)
        words = tuple(name for name in (f"{ORDER}_left", f"{ORDER}_right") if name in models)
        table = summary(models, ("n_labels", *AXES[part]), words)
        section(page, part, drawn(study, part, folder / "figures"), verdicts, table, folder / "encoders")
        if part == "width":
            page.text(smallest(models))
        for answer in study.parts[part].answers:
            if answer.startswith(("variant", "by_layer", "text_variant")):
                ablated(page, study, part, answer, folder)
            elif answer in WRITTEN:
                write_csv(folder / "encoders" / f"{part}_{answer}.csv", smaller(study.answer(part, answer), answer, AXES[part]))
        for encoder, answer in {"depth": {"vision": "each"}, "left_right": {"text": "text_each"}}.get(part, {}).items():
            causes(page, study, part, encoder, answer, folder)
    one_head_section(page, searched, folder)
    how(page, "`make encoders` makes all of this.", seconds)
    write_csv(folder / "encoders.csv", verdict_table(verdicts))
    return [*page.write(folder, "encoders.md", "encoders.html"), folder / "encoders.csv"]


def smallest(models: Table) -> str:
    """The model of fewest parameters that generalises at N = 15: the lower end of its top-1's interval is above .8."""
    at_n = select(models, models["n_labels"] == N)
    found = []
    for (d_model, d_head), rows in groups(at_n, ("d_model", "d_head")).items():
        if mean_interval(at_n[TOP1][rows])[1] > one_head.GENERALISES:
            size = n_parameters(param_shapes(Model(n_labels=N, d_model=d_model, d_head=d_head)))
            found.append((size, d_model, d_head, *mean_interval(at_n[TOP1][rows], ACCURACY)))
    if not found:
        return f"None of these generalises at N = {N}: no interval of top-1 lies above {one_head.GENERALISES}."
    size, d_model, d_head, mean, low, high = min(found)
    return (
        f"The smallest that generalises at N = {N} (all of its interval above {one_head.GENERALISES}) has d_model = {d_model}, "
        f"d_head = {d_head}, {size:,} parameters: top-1 {mean:.2f} [{low:.2f}, {high:.2f}]. d_embed and initial scales are the "
        "same at all widths."
    )


def ablated(page: Page, study: Study, part: str, answer: str, folder: Path) -> None:
    """What an ablation does in each condition: on the page at 15 labels (or the most there are), at all in a CSV."""
    table, by = study.answer(part, answer), ("n_labels", *AXES[part], "ablation")
    none = {model: i for i, model in enumerate(table["model"].tolist()) if table["ablation"][i] == NONE}
    base = [none[model] for model in table["model"].tolist()]
    change = lambda metric, rows: format_interval((table[metric] - table[metric][base])[rows], signed=True)
    lines = [
        [*key, format_interval(table[ORDER][rows], within=ACCURACY), change(ORDER, rows), change(SET, rows)]
        for key, rows in groups(table, by).items()
    ]
    header = [*by, "order", "change of order", "change of label set"]
    write_csv(folder / "encoders" / f"{part}_{answer}.csv", dict(zip(header, map(np.array, zip(*lines, strict=True)), strict=True)))
    n = N if N in table["n_labels"] else table["n_labels"].max()
    frozen = ", scales of LayerNorm frozen" if answer.endswith("frozen") else ""
    page.text(f"Terms at zero in {described(table)['encoder'][0]}{frozen}, N = {n}: mean over models [95 % interval].")
    page.table(header[1:], [[str(cell) for cell in line[1:]] for line in lines if line[0] == n])


def causes(page: Page, study: Study, part: str, encoder: str, answer: str, folder: Path) -> None:
    """Which single (layer, head, term) is causal, by depth and N: of each model the head that costs most."""
    page.text(
        f"Single ablations in {encoder}: change of order when one term of one head of one layer is zero, of each model's head that "
        "costs most (the least of four, so below 0 even where heads are noise); and what that does to the label set. Mean over "
        "models [95 % interval]; the ten greatest."
    )
    axis, rows = AXES[part][0], []
    table = depth.causal(study.answer(part, answer), encoder, ("n_labels", axis))
    write_csv(folder / "encoders" / f"{part}_causes.csv", table)
    for key, index in groups(table, ("n_labels", axis)).items():
        found = select(table, index)
        by_term = groups(found, ("layer", "term"))
        for (layer, term), own in sorted(by_term.items(), key=lambda item: np.nanmean(found[ORDER][item[1]]))[:10]:
            rows.append([*map(str, key), str(layer), term, *(format_interval(found[m][own], signed=True) for m in (ORDER, SET))])
    page.table(["n_labels", axis, "layer", "term", "order", "label set"], rows)


def smaller(table: Table, answer: str, axes: tuple[str, ...]) -> Table:
    """An answer for the report, without what all models have in common; of paths the strongest, of rows the mean over models."""
    if answer.endswith("paths"):
        table = least(table, ("model", "exchanged", "layer", "via"), "change")
    if answer == "rows":
        by = ("n_labels", *axes, "term", "pixel")
        index = groups(table, by)
        columns = dict(zip(by, map(np.array, zip(*index, strict=True)), strict=True))
        table = columns | {"score": np.array([table["score"][rows].mean() for rows in index.values()])}
        there = [term for (term,), rows in groups(table, ("term",)).items() if np.abs(table["score"][rows]).max() > 1e-6]
        table = select(table, np.isin(table["term"], there))
    constant = {*AXIS_COLUMNS, *STATIC} - {"n_labels", *axes} - set(varying(table, table))
    return {name: column for name, column in table.items() if name not in constant}


def small_labels(screen: Table) -> str:
    """How often one head succeeds by the initial scale of E. Asked after the run."""
    small = screen["e_scale"] < 0.5
    below, above = (search.said(screen[TOP1][rows]) for rows in (small, ~small))
    return (
        f"Found after the run: of the {small.sum()} screened with an initial scale of E below .5 it is {below}, of the other "
        f"{(~small).sum()} {above}."
    )


def drawn(study: Study, part: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, caption) of the figures of a sweep."""
    models, title = study.models(part), TITLES[part]
    draw = lambda name, figure, *args: shrink(figure(*args), folder / f"encoders_{name}.png")
    caption = f"{title}: mean over seeds, 95 % interval, seeds as dots. `make sweep CONFIG=experiments/configs/{part}.py`"
    yield draw(part, figures.accuracies, models, AXES[part], title), caption
    if part == "training_ablation":
        yield draw("order_in_training", figures.order_in_training, study.history(part)), "The same in training: how fast."
        found = carried(study.answer(part, "strongest"))
        yield draw("shares", figures.shares, found, AXES[part]), "Which term has the gradient. `experiments.training_ablation`"
    if part == "depth":
        yield draw("layers", figures.layers, study.answer(part, "layers")), "Where the gradient forms. `experiments.depth`"
        yield draw("paths", figures.paths, study.answer(part, "paths")), "Which path is causal. `experiments.depth`"
    if part == "left_right":
        yield draw("text_paths", figures.paths, study.answer(part, "text_paths")), "Paths in text. `experiments.left_right`"
    if part == "positions":
        yield draw("rows", figures.rows, study.answer(part, "rows"), "positions"), "What a pixel's score is made of."


def one_head_section(page: Page, found_in: Path, report: Path) -> None:
    """What the search for one head found; its tables go to `report`."""
    page.heading("Can one head in one layer succeed?")
    tables = ONE_HEAD.tables(found_in)
    if not {"screen", "full"} <= set(tables):
        page.text("Not tested: the search was not made yet (`make encoders ARGS=--only=one_head`).")
        return
    for name, table in tables.items():
        write_csv(report / "encoders" / f"one_head_{name}.csv", table)
    figure = figures.search(tables["screen"], tables["full"], one_head.RANGES)
    screened, trained_in_full = (len(tables[name]["model"]) for name in ("screen", "full"))
    caption = f"{screened} configurations screened, the best {trained_in_full} trained in full. `python -m experiments.one_head`"
    page.figure(shrink(figure, report / "figures" / "encoders_one_head.png"), caption)
    succeed = lambda name, column=TOP1: int((tables[name][column] > one_head.GENERALISES).sum())
    page.text(
        f"Of {screened} configurations drawn at random {search.said(tables['screen'][TOP1])} (share, 95 % interval) have a top-1 "
        f"above {one_head.GENERALISES} at some evaluation of the screening. Of the best {trained_in_full} by then, picked, so that "
        f"no interval is due, {succeed('full')} have it at their best step of a full training, {succeed('full', 'at_the_end')} at "
        f"the last."
    )
    page.text(small_labels(tables["screen"]))
    if "confirm" in tables:
        t = tables["confirm"]
        rows = [[f"{column[i]:.3g}" for column in t.values()] for i in range(len(t["step"]))]
        page.table([*t], rows)
    if "how" in tables:
        page.text(
            "How: of each configuration the fresh seeds that generalise at the last step, and those that do not; mean [95 % "
            "interval] over seeds. `lean`: how far from one half is the share of images in which the head prefers the right object."
        )
        page.table(*search.how(tables["how"]))
