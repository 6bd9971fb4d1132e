"""The values of the page on other encoders, the sweeps of `study.ENCODERS`; its prose is in templates/encoders.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies import encoder_answers, search
from experiments.studies.claim_values import ORDER, SET, TOP1, N
from experiments.studies.encoder_claims import CLAIMS
from experiments.studies.page import Section, judged, sections, values_of, verdict_table, write_page
from experiments.studies.sections import shown, summary
from experiments.studies.stages import ONE_HEAD
from experiments.studies.study import Study
from experiments.studies.templating import Grid
from experiments.studies.verdicts import Verdict
from lrjax.ablations import described
from lrjax.analysis import depth, one_head
from lrjax.analysis.gradient import GENERALISES, carried
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
# Sweeps of which single ablations are shown -> the encoder, and the answer that has them.
STRONGEST_EFFECTS = {"depth": ("vision", "single_head_ablations"), "left_right": ("text", "text_single_head_ablations")}
# Answers that go to the report as CSV.
WRITTEN = ("strongest", "layers", "layers_alone", "paths", "text_paths", "text_layers", "pruning_of_four", "rows")


def build(study: Study, folder: Path, seconds: Table | None, searched: Path) -> list[Path]:
    """Write encoders.html, encoders.md, encoders.csv (verdicts), encoders/*.csv (accuracies by condition, answers) and figures."""
    verdicts = judged(study, CLAIMS)

    def shown_of(part: str) -> Section:
        own = [found for found in verdicts.values() if found[0].claim.part == part]
        return section_of(study, part, own, folder)

    values = values_of(study, verdicts, seconds) | encoder_answers.values(study)
    values |= {
        "command": "make encoders",
        "sections": sections(study, TITLES, shown_of),
        "generalises": GENERALISES,
        "search": one_head_search(searched, folder),
    }
    write_csv(folder / "encoders.csv", verdict_table(verdicts))
    return [*write_page(folder, "encoders.md", values), folder / "encoders.csv"]


def section_of(study: Study, part: str, verdicts: list[list[Verdict]], folder: Path) -> Section:
    """What the page shows of a sweep; its tables are written too."""
    models = study.models(part)
    words = tuple(name for name in (f"{ORDER}_left", f"{ORDER}_right") if name in models)
    write_csv(folder / "encoders" / f"{part}.csv", table := summary(models, ("n_labels", *AXES[part]), words))
    more: dict[str, Any] = {"ablations": [], "strongest_effects": None, "smallest": smallest(models) if part == "width" else None}
    for answer in study.parts[part].answers:
        if answer.startswith(("variant", "by_layer", "text_variant")):
            more["ablations"].append(ablated(study, part, answer, folder))
        elif answer in WRITTEN:
            write_csv(folder / "encoders" / f"{part}_{answer}.csv", smaller(study.answer(part, answer), answer, AXES[part]))
    if part in STRONGEST_EFFECTS:
        more["strongest_effects"] = strongest_effects(study, part, folder)
    return Section(part, TITLES[part], True, list(drawn(study, part, folder / "figures")), verdicts, shown(table), more)


def smallest(models: Table) -> dict[str, Any] | None:
    """The model of fewest parameters that generalises at N = 15: all of its top-1's interval is above .8. None if there is none."""
    at_n = select(models, models["n_labels"] == N)
    found = []
    for (d_model, d_head), rows in groups(at_n, ("d_model", "d_head")).items():
        if mean_interval(at_n[TOP1][rows])[1] > GENERALISES:
            size = n_parameters(param_shapes(Model(n_labels=N, d_model=d_model, d_head=d_head)))
            found.append((size, d_model, d_head, format_interval(at_n[TOP1][rows], within=ACCURACY, digits=2)))
    return dict(zip(("parameters", "d_model", "d_head", "top1"), min(found), strict=True)) if found else None


def ablated(study: Study, part: str, answer: str, folder: Path) -> dict[str, Any]:
    """What an ablation does in each condition: for the page at 15 labels (or the most there are), at all in a CSV."""
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
    rows = [[str(cell) for cell in line[1:]] for line in lines if line[0] == n]
    return {
        "encoder": described(table)["encoder"][0],
        "frozen": answer.endswith("frozen"),
        "n_labels": int(n),
        "rows": Grid(header[1:], rows),
    }


def strongest_effects(study: Study, part: str, folder: Path) -> dict[str, Any]:
    """Which single (layer, head, term) is causal, by depth and N: of each model the head that costs most."""
    encoder, answer = STRONGEST_EFFECTS[part]
    axis, rows = AXES[part][0], []
    table = depth.strongest_effects(study.answer(part, answer), encoder, ("n_labels", axis))
    write_csv(folder / "encoders" / f"{part}_strongest_effects.csv", table)
    for key, index in groups(table, ("n_labels", axis)).items():
        found = select(table, index)
        by_term = groups(found, ("layer", "term"))
        for (layer, term), own in sorted(by_term.items(), key=lambda item: np.nanmean(found[ORDER][item[1]]))[:10]:
            rows.append([*map(str, key), str(layer), term, *(format_interval(found[m][own], signed=True) for m in (ORDER, SET))])
    return {"encoder": encoder, "rows": Grid(["n_labels", axis, "layer", "term", "order", "label set"], rows)}


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


def drawn(study: Study, part: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, caption) of the figures of a sweep."""
    models, title = study.models(part), TITLES[part]
    draw = lambda name, figure, *args: shrink(figure(*args), folder / f"encoders_{name}.png")
    caption = f"{title}: mean over seeds, 95 % interval, seeds as dots. `{study.parts[part].command}`"
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


def one_head_search(found_in: Path, report: Path) -> dict[str, Any] | None:
    """What the search for one head found; its tables go to `report`. None if it was not made."""
    tables = ONE_HEAD.tables(found_in)
    if not {"screen", "full"} <= set(tables):
        return None
    for name, table in tables.items():
        write_csv(report / "encoders" / f"one_head_{name}.csv", table)
    screen, full, confirm = tables["screen"], tables["full"], tables.get("confirm")
    screened, trained = len(screen["model"]), len(full["model"])
    caption = f"{screened} configurations screened, the best {trained} trained in full. `python -m experiments.one_head`"
    figure = shrink(figures.search(screen, full, dict(one_head.SPACE.ranges)), report / "figures" / "encoders_one_head.png")
    succeed = lambda column: int((full[column] > GENERALISES).sum())
    small = screen["e_scale"] < 0.5
    return {
        "figure": (figure, caption),
        "screened": screened,
        "trained": trained,
        "succeed": search.said(screen[TOP1]),
        "succeed_in_full": succeed(TOP1),
        "succeed_at_the_end": succeed("at_the_end"),
        "small": int(small.sum()),
        "large": int((~small).sum()),
        "succeed_small": search.said(screen[TOP1][small]),
        "succeed_large": search.said(screen[TOP1][~small]),
        "confirmed": None if confirm is None else Grid(list(confirm), rows_of(confirm)),
        "how": Grid(*search.how(tables["how"])) if "how" in tables else None,
    }


def rows_of(table: Table) -> list[list[str]]:
    """The rows of a table of numbers, three digits each."""
    return [[f"{value:.3g}" for value in row] for row in zip(*(column.tolist() for column in table.values()), strict=True)]
