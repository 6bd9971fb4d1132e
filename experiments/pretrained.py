"""The terms and gates of lrjax in a pretrained model: CLIP, SigLIP, OpenCLIP or DINOv2.

python -m experiments.pretrained --weights=FOLDER [--images=FOLDER] [--out=FOLDER] [--pairs=4] [--columns=5] [--exact=8]
    [--things=shapes|digits] [--background=white,coffee] [--scale=0.8,0.4] [--image_size=N] [--format=png|svg|pdf]

FOLDER is a folder of weights as the hub lays it out, the name of a model on the hub (huggingface_hub downloads it), or an ONNX file
of a DINOv2-like encoder. Pictures are drawn on each background in each size (scale). --images is a folder of pictures with
captions, in the layout of What's Up or a CSV (docs/guides/pretrained.md).
"""

import contextlib
import dataclasses
import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from experiments.common import FORMATS
from lrjax import cli
from lrjax.errors import InputError, on_command_line
from lrjax.gates import ENCODERS
from lrjax.plotting import pretrained as figures
from lrjax.pretrained import decompose, effects, gradient, model, onnx_file, probe, scenes, statistical
from lrjax.pretrained.config import LARGEST_IMAGE
from lrjax.pretrained.result import Result, joined, table
from lrjax.pretrained.terms import TERMS
from lrjax.stats import Table, format_table
from lrjax.storage import results, workdir

cli.define_path("weights", None, "a folder of weights, a name on the hub, or an ONNX file", required=True)
cli.define_path("images", None, "a folder of pictures with captions, to ask beside the drawn ones")
cli.define_path("out", None, "folder for tables and figures (default: runs/pretrained/NAME)")
flags.DEFINE_integer("pairs", 4, "pairs of things that are drawn", lower_bound=1)
flags.DEFINE_integer("columns", 5, "columns of a drawn picture", lower_bound=2)
flags.DEFINE_enum("things", "shapes", scenes.KINDS, "what is drawn")
flags.DEFINE_list("background", ["white"], "white, grey, or pictures of scikit-image: astronaut, chelsea, coffee, rocket")
flags.DEFINE_list("scale", ["0.8"], "widths of a thing over the width of a column")
flags.DEFINE_integer("exact", 8, "gates of each kind that are measured exactly: those of the greatest effects", lower_bound=0)
flags.DEFINE_integer("averaged", 8, "drawn pictures over which scores are averaged and effects measured", lower_bound=2)
flags.DEFINE_integer("image_size", None, "pixels of a side of an image, where it is not the config's", 1, LARGEST_IMAGE)
flags.DEFINE_enum("format", "png", FORMATS, "format of the figures")
# Flags that results depend on.
ARGUMENTS = tuple("images pairs columns things background scale exact averaged image_size".split())
POSITION = "EP+PP+MP+BP"  # all that is scored by the position of a key


class Writer:
    """Writes tables and figures into a folder, each with a record of what it was computed from."""

    def __init__(self, folder: Path, checkpoint: str):
        self.folder, self.checkpoint = folder, checkpoint
        self.code = results.code_of_modules((__spec__.name,))  # type: ignore[union-attr]

    def place(self, inside: str, name: str, suffix: str) -> tuple[Path, results.Record]:
        """Where a result goes, and its record."""
        arguments = {key: flags.FLAGS[key].value for key in ARGUMENTS}
        record = results.Record(self.checkpoint, f"pretrained: {name}", arguments, self.code)
        return results.place(self.folder / inside / f"{name}.{suffix}", record), record

    def table(self, name: str, table: Table) -> None:
        """Write a table and print where it is."""
        path, record = self.place("analysis", name, "csv")
        results.write(path, table, record)
        print(path)

    def figure(self, name: str, draw, *args) -> None:
        """Draw a figure and print where it is."""
        path, record = self.place("figures", name, flags.FLAGS.format)
        draw(*args, path=path)
        results.sign(path, record)
        print(path)


def identity(weights: str) -> str:
    """A digest of the files of a model; of a name on the hub, the name."""
    path, digest = Path(weights).expanduser(), hashlib.sha256()
    files = (
        [path] if path.is_file() else sorted(p for p in path.glob("*") if p.suffix in (".json", ".safetensors", ".txt", ".model"))
    )
    for file in files:
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest() if files else weights


@contextlib.contextmanager
def names(flag: str, given: str) -> Iterator[None]:
    """Have an InputError from inside name the flag of a folder or file; what lies in the folder is named by its place in it."""
    try:
        yield
    except InputError as error:
        message = str(error)
        if message.startswith("--"):
            raise
        within = message.removeprefix(str(Path(given).expanduser())).removeprefix(": ").removeprefix("/")
        raise InputError(f"--{flag}={given}: {within}") from error


def read_weights(weights: str, image_size: int | None) -> model.Model:
    """The model of --weights. Raises InputError, one line, that names the flag, and the tensor or the file that does not fit."""
    read = onnx_file.load_onnx if weights.endswith(".onnx") else model.load
    with names("weights", weights), on_command_line(folder="weights", image_size="image_size"):
        return read(weights, image_size)


def drawn_scenes() -> list[scenes.Scene]:
    """The scenes of the flags."""
    scales = flags.FLAGS.scale
    for name, example in (("scale", "0.8,0.4"), ("background", "white,coffee")):
        if not flags.FLAGS[name].value:
            raise InputError(f"--{name}=: names nothing; expected one or more joined by commas, such as --{name}={example}")
    try:
        sizes = [float(text) for text in scales]
    except ValueError as error:
        raise InputError(f"--scale={','.join(scales)}: expected numbers joined by commas, such as --scale=0.8,0.4") from error
    with on_command_line(background="background", scale="scale", n_pairs="pairs"):
        found = scenes.scenes(flags.FLAGS.pairs, flags.FLAGS.columns, flags.FLAGS.background, sizes, flags.FLAGS.things)
        for name in flags.FLAGS.background:
            scenes.background(name, 8)  # what does not exist fails before any work
    return found


def check_sizes(drawn: list[scenes.Scene], size: int) -> None:
    """Raise InputError that names --scale if a thing would be too small in a picture of this size."""
    with on_command_line(scale="scale"):
        for scene in {scene.scale: scene for scene in drawn}.values():
            scene.draw(size)


def main() -> None:
    given, started = flags.FLAGS.weights, time.time()
    name = Path(given).stem if given.endswith(".onnx") else Path(given).name
    out = Path(flags.FLAGS.out or f"runs/pretrained/{name}")
    drawn = drawn_scenes()
    workdir.output(out, str(out))  # what cannot be written fails before any work
    found = read_weights(given, flags.FLAGS.image_size)
    vision = found.config.vision
    check_sizes(drawn, vision.image_size)
    if flags.FLAGS.images:
        check_images(found, flags.FLAGS.images)
    print(found)
    writer = Writer(out, identity(given))
    few = [drawn[i] for i in np.random.default_rng(0).permutation(len(drawn))[: flags.FLAGS.averaged]]
    pixels = found.pixels([scene.draw(vision.image_size) for scene in few])
    summary: dict[str, object] = dict(kind=found.config.kind, layers=vision.n_layers, heads=vision.n_heads, grid=vision.grid)
    captions = [scene.caption(scenes.TEMPLATES[0]) for scene in few]
    summary |= analyze_terms(writer, found, pixels, captions) | analyze_gradient(writer, found, pixels)
    if found.words is not None:
        summary |= analyze_probe(writer, found, drawn)
        analyze_effects(writer, found, few)
    if flags.FLAGS.images:
        of_images = probe.of_folder(found, flags.FLAGS.images)
        print_summary(writer, "images", of_images, "pictures of --images")
        summary |= {"images_correct": of_images.table["correct"].mean(), "images_chance": of_images.table["chance"].mean()}
    summary |= cost(started)
    writer.table("summary", table(found.name, **{name: [value] for name, value in summary.items()}))


def check_images(found: model.Model, folder: str) -> None:
    """Raise InputError that names --images if the model has no text encoder, or a list or picture of the folder cannot be read."""
    if found.words is None:
        raise InputError(f"--images={folder}: {found.name} has no text encoder; expected a CLIP or a SigLIP")
    with names("images", folder), on_command_line(folder="images"):
        probe.check_pictures(probe.read_items(Path(folder).expanduser()))


def cost(started: float) -> dict[str, object]:
    """Seconds by the clock and of the processor, and the greatest memory; these are of this machine, and printed."""
    found: dict[str, object] = {"seconds": round(time.time() - started), "cpu_seconds": round(time.process_time())}
    with contextlib.suppress(ImportError):  # where there is no POSIX
        import resource

        unit = 2**30 if sys.platform == "darwin" else 2**20
        found["memory_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 2)
    print("\n" + ", ".join(f"{name} {value}" for name, value in found.items()))
    return found


def print_summary(writer: Writer, name: str, found: Result, title: str, by=None) -> None:
    """Print the summary of a result and write its table."""
    print(f"\n{title}")
    print(found.text(by))
    writer.table(name, found.table)


def analyze_terms(writer: Writer, found: model.Model, pixels: np.ndarray, captions: list[str]) -> dict[str, object]:
    """Shares of terms, of images and of captions, and how far they are from summing to the scores."""
    given = [pixels] if found.words is None else [pixels, captions]
    errors = joined([decompose.sum_errors(found, each[:2]) for each in given])
    worst = max(errors.table[name].max() for name in errors.measures)
    print_summary(writer, "sum_errors", errors, "the greatest relative errors of sums over origins", ("encoder",))
    shares = joined([decompose.decompose(found, each) for each in given])
    writer.table("terms", shares.table)
    keys = ["model", "encoder", "layer", "term"]
    by_layer = shares.summary(keys)[["share"]].reset_index()
    writer.table("terms_by_layer", {name: by_layer[name].to_numpy() for name in by_layer})
    wide = by_layer.pivot_table("share", ["encoder", "layer"], "term", sort=False)[list(TERMS)].round(2)
    print(f"\nshares of the terms in the variance of the readout's scores, means over heads\n{wide.to_string()}")
    of_places = statistical.statistical(found, pixels)
    print_summary(writer, "statistical", of_places, "statistical origins, shares of keys and of scores, means over heads")
    return {"sum_error": worst}


def analyze_gradient(writer: Writer, found: model.Model, pixels: np.ndarray) -> dict[str, object]:
    """Position gradients, their odd shares, the heads that lean most, the gauge, and the same with shuffled position rows."""
    own = gradient.gradient(found, pixels)
    print_summary(writer, "gradient", own, "position gradient by layer, means over heads")
    shuffled = gradient.gradient(gradient.exchanged(found, "shuffled"), pixels)
    writer.table("gradient_shuffled", shuffled.table)
    summary: dict[str, object] = {}
    for axis in ("columns", "rows"):
        summary[f"slope_{axis}"] = abs(own.table[f"slope_{axis}"]).mean()
        summary[f"slope_{axis}_shuffled"] = abs(shuffled.table[f"slope_{axis}"]).mean()
        summary[f"odd_{axis}"] = np.nanmean(own.table[f"odd_{axis}"])
        summary[f"odd_size_{axis}"] = own.table[f"odd_size_{axis}"].mean()
        summary[f"net_{axis}"] = gradient.net_lean(own, axis)
    summary |= {"odd_shuffled": own.table["odd_shuffled"][0], "cls_difference": gradient.class_token_difference(found)}
    print("means over heads: " + ", ".join(f"{name} {value:.3f}" for name, value in summary.items()))
    leaning = gradient.leaning(own)
    cells = [
        [f"{v:.3f}" if isinstance(v, float) else v for v in row]
        for row in zip(*(c.tolist() for c in leaning.values()), strict=True)
    ]
    print("\nheads that lean most\n" + format_table(list(leaning), cells))
    writer.table("leaning", leaning)
    writer.figure("gradient", figures.gradients, own.table)
    maps, table = own.arrays["maps"], own.table
    strongest = np.argsort(-abs(table["slope_columns"]))[:12]
    names = [f"layer {table['layer'][i]} head {table['head'][i]}" for i in strongest]
    writer.figure("maps", figures.maps, maps.reshape(-1, *maps.shape[2:])[strongest], names)
    if found.config.vision.has_cls:
        print_summary(
            writer, "gauge", gradient.gauge(found, pixels), "the same for three divisions of class token + its position row"
        )
    return summary


def analyze_probe(writer: Writer, found: model.Model, drawn: list[scenes.Scene]) -> dict[str, object]:
    """The drawn probe, with position rows as they are and exchanged."""
    tables = [probe.drawn(found, drawn, positions="own")]
    tables += [probe.drawn(gradient.exchanged(found, how), drawn, positions=how) for how in ("columns", "rows", "shuffled")]
    whole = {name: np.concatenate([t.table[name] for t in tables]) for name in tables[0].table}
    joined = Result("probe", whole, tables[0].measures, tables[0].row_keys, by=("positions", "relation"))
    print_summary(
        writer, "probe", joined, f"{len(drawn)} drawn pictures; position rows as they are, or exchanged between columns, rows, all"
    )
    axes = ["model", "positions", "template", *(name for name in ("background", "scale") if len(set(whole[name])) > 1), "distance"]
    by_distance = joined.summary(axes).reset_index()
    writer.table("probe_by_distance", {name: by_distance[name].to_numpy() for name in by_distance})
    print(tables[0].text(axes[3:]))
    own, columns = tables[0].table, tables[1].table
    return {"order": own["order"].mean(), "label_set": own["label_set"].mean(), "order_exchanged": columns["order"].mean()}


def analyze_effects(writer: Writer, found: model.Model, few: list[scenes.Scene]) -> None:
    """What gates of both encoders do to the margin: all at first order, the strongest exactly, each recomputed and frozen."""
    eval_set, first = probe.eval_set(found, few), {}
    kinds = {"recomputed": False, "frozen": True}
    for encoder in ENCODERS:
        for kind, frozen in kinds.items():
            first[encoder, kind] = effects.first_order(found, eval_set, encoder, frozen)
    writer.table("first_order", joined(list(first.values())).table)
    print()
    for (encoder, kind), of in first.items():
        depth, n_heads, _ = of.arrays["effect"].shape
        whole = effects.predicted(of, effects.strongest(of, depth * n_heads, [POSITION])).sum()
        print(f"first-order effect of {POSITION} at zero on the mean margin, {encoder}, {kind}: {whole:+.4f} over all heads")
    n = flags.FLAGS.exact
    if not n:
        return
    for kind, frozen in kinds.items():
        exact = []
        for encoder in ENCODERS:
            strongest = first[encoder, "recomputed"]  # the same gates of both kinds
            gates = effects.strongest(strongest, n, [POSITION]) + effects.strongest(strongest, n)
            exact.append(effects.single_gates(found, eval_set, gates=gates, encoder=encoder, frozen=frozen))
            exact[-1].table["first_order"] = effects.predicted(first[encoder, kind], gates)
        title = f"the strongest heads with {POSITION} at zero, and the strongest single gates, {kind}"
        whole = joined(exact)
        shown = dataclasses.replace(whole, measures=("first_order", *whole.measures))
        print_summary(writer, f"gates_{kind}", shown, title, ("encoder", "term", "layer", "head"))


if __name__ == "__main__":
    cli.run(main)
