"""`python -m experiments.pretrained` as a user runs it: the analysis of a tiny CLIP, and bad input answered in one line."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import pretrained_by_hand as by_hand
from conftest import many_commands, one_command
from lrjax.stats import read_csv, select

pytest.importorskip("safetensors", reason="the extra `pretrained` is not installed")
pytest.importorskip("tokenizers", reason="the extra `pretrained` is not installed")

from safetensors.numpy import load_file, save_file

from lrjax.pretrained import export, train

pytestmark = pytest.mark.slow

WEIGHTS, SOME = "model.safetensors", "vision_model.encoder.layers.0.mlp.fc1.bias"
RECIPE = train.Recipe(n_labels=2, n_heldout=2, steps=0, n_layers=1, n_heads=2, d_model=16, d_mlp=24, image_size=16, columns=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny CLIP with random weights, as `lrjax.pretrained.export` writes it."""
    return export.export(train.train(RECIPE), tmp_path_factory.mktemp("weights") / "tiny", train.tokenizer())


def test_a_whole_analysis_writes_and_prints_what_it_says(folder, tmp_path):
    """Of weights in half precision, with pictures of a folder beside the drawn ones."""
    half = shutil.copytree(folder, tmp_path / "tiny")
    save_file({name: array.astype(np.float16) for name, array in load_file(folder / WEIGHTS).items()}, half / WEIGHTS)
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(tmp_path / "a.png")
    captions = ["a red circle to the left of a blue square", "a blue square to the left of a red circle"]
    (tmp_path / "list.json").write_text(json.dumps([dict(image_path="a.png", caption_options=captions)]))
    out = tmp_path / "out"
    axes = ("--pairs=1", "--columns=2", "--background=white,grey", "--things=digits", "--averaged=2", "--exact=1")
    done = one_command("pretrained", f"--weights={half}", f"--images={tmp_path}", f"--out={out}", *axes, "--format=svg")
    assert done.returncode == 0, done.stderr
    tables = "sum_errors terms terms_by_layer statistical gradient gradient_shuffled leaning gauge probe".split()
    tables += ["probe_by_distance", "first_order", "gates_recomputed", "gates_frozen", "images", "summary"]
    assert {path.name for path in (out / "analysis").glob("*.csv")} == {f"{name}.csv" for name in tables}
    assert {path.name for path in (out / "figures").iterdir()} == {
        f"{n}.svg{s}" for n in ("gradient", "maps") for s in ("", ".json")
    }
    found = {name: read_csv(out / f"analysis/{name}.csv") for name in tables}
    assert all(str(out / f"analysis/{name}.csv") in done.stdout for name in tables)
    assert all(set(table["model"].tolist()) == {"tiny"} for table in found.values())
    n_layers, n_heads, n_templates, n_scenes = 1, 2, 6, 2 * 2  # a pair both ways round, on two backgrounds
    of_encoder = lambda table, encoder: select(found[table], found[table]["encoder"] == encoder)
    for encoder in ("vision", "text"):  # of both encoders, which are of one size here
        assert len(of_encoder("terms", encoder)["share"]) == n_layers * n_heads * 16
        assert len(of_encoder("terms_by_layer", encoder)["share"]) == n_layers * 16
        assert len(of_encoder("sum_errors", encoder)["scores"]) == n_layers
        assert len(of_encoder("first_order", encoder)["effect"]) == n_layers * n_heads * 20 * 2, "recomputed and frozen"
        for kind in ("recomputed", "frozen"):
            gates = of_encoder(f"gates_{kind}", encoder)
            assert len(gates["change"]) == 2, "the strongest head with all position terms at zero, and the strongest single gate"
            assert set(gates["frozen"].tolist()) == {kind == "frozen"}
            first = of_encoder("first_order", encoder)
            sizes = abs(first["effect"][first["frozen"] == (kind == "frozen")])
            assert abs(gates["first_order"][1]) in sizes and (kind == "frozen" or abs(gates["first_order"][1]) == sizes.max())
    assert len(found["gradient"]["head"]) == len(found["statistical"]["head"]) == n_layers * n_heads
    assert len(found["probe"]["order"]) == 4 * n_templates * n_scenes, "position rows as they are, and exchanged in three ways"
    (summary,) = (dict(zip(found["summary"], row, strict=True)) for row in zip(*found["summary"].values(), strict=True))
    own = found["probe"]["positions"] == "own"
    assert summary["order"] == pytest.approx(found["probe"]["order"][own].mean())
    assert summary["slope_columns"] == pytest.approx(abs(found["gradient"]["slope_columns"]).mean())
    assert summary["sum_error"] == max(found["sum_errors"][name].max() for name in ("scores", "values")) < 1e-5
    assert summary["images_chance"] == 0.5 and found["images"]["caption"].tolist() == captions[:1]
    assert set(found["probe_by_distance"]["background"].tolist()) == {"white", "grey"}
    assert "1 layers x 2 heads" in done.stdout and f"memory_gib {summary['memory_gib']}" in done.stdout


def changed(folder, name, **tensors):
    """A copy of a folder with some tensors changed; None takes one away."""
    copy = shutil.copytree(folder, folder.with_name(name))
    whole = load_file(folder / WEIGHTS) | tensors
    save_file({key: array for key, array in whole.items() if array is not None}, copy / WEIGHTS)
    return copy


EXTRA = SOME.replace("layers.0", "layers.1")


def bad_folders(folder, tmp):
    """Damaged copies of a folder of weights, and folders of pictures that cannot be read."""
    wrong = changed(folder, "wrong", **{SOME: np.zeros(7, np.float32)})
    fewer = changed(folder, "fewer", **{SOME: None})
    more = changed(folder, "more", **{EXTRA: np.zeros(24, np.float32)})
    truncated = changed(folder, "truncated")
    (truncated / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-50])
    shards = shutil.copytree(folder, folder.with_name("shards"))
    (shards / WEIGHTS).rename(shards / "model-00001-of-00002.safetensors")
    files = dict.fromkeys(load_file(folder / WEIGHTS), "model-00001-of-00002.safetensors")
    (shards / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": files | {SOME: "model-00002-of-00002.safetensors"}}))
    of_text = shutil.copytree(folder, folder.with_name("text"))
    (of_text / "config.json").write_text(json.dumps({"model_type": "clip_text_model", "hidden_size": 16}))
    of_images = by_hand.folder_of(folder.with_name("dino"), "dinov2")
    corrupt, latin, entry = tmp / "corrupt", tmp / "latin", tmp / "entry"
    for place in (corrupt, latin, entry):
        place.mkdir()
    (entry / "list.json").write_text(json.dumps([dict(image_path="b.png", caption_options=["a dog", "a cat"])]))
    (corrupt / "a.png").write_bytes(b"no picture")
    (corrupt / "list.csv").write_text("image,caption,wrong\na.png,a dog,a cat\n")
    (latin / "list.csv").write_bytes("image,caption\na.png,caf\u00e9\n".encode("latin-1"))
    return SimpleNamespace(
        wrong=wrong,
        fewer=fewer,
        more=more,
        truncated=truncated,
        shards=shards,
        of_text=of_text,
        of_images=of_images,
        corrupt=corrupt,
        latin=latin,
        entry=entry,
    )


def bad(folder, tmp):
    """(arguments, what the one line must say); FOLDER stands for the value of --weights."""
    at, size = bad_folders(folder, tmp), (folder / WEIGHTS).stat().st_size
    given = lambda path: [f"--weights={path}"]
    return [
        (given(tmp / "none"), "--weights=FOLDER: no such folder; expected one with config.json and model.safetensors"),
        (given(folder / WEIGHTS), "--weights=FOLDER: is a file; expected the folder that it is in"),
        (given(tmp / "none.onnx"), "--weights=FOLDER: no such file; expected an ONNX file"),
        (given(at.wrong), f"--weights=FOLDER: model.safetensors: tensor '{SOME}' has shape [7]; the config asks for [24]"),
        (
            given(at.fewer),
            f"--weights=FOLDER: model.safetensors: tensor '{SOME}' is missing; the config asks for it with shape [24]",
        ),
        (given(at.more), f"--weights=FOLDER: model.safetensors: tensor '{EXTRA}' has no place in the config"),
        (given(at.truncated), "--weights=FOLDER: model.safetensors: cannot be read as safetensors"),
        (given(at.truncated), f"it is truncated: {size - 50:,} of {size:,} bytes; download the file again"),
        (
            given(at.shards),
            f"--weights=FOLDER: model.safetensors.index.json: tensor '{SOME}' stands in 'model-00002-of-00002.safetensors'",
        ),
        (given(at.of_text), "--weights=FOLDER: config.json: model_type='clip_text_model': is a text encoder alone"),
        ([*given(folder), "--image_size=4"], "--image_size=4: is smaller than a patch; expected 8 pixels or more"),
        ([*given(at.of_images), f"--images={tmp}"], f"--images={tmp}: dino has no text encoder; expected a CLIP or a SigLIP"),
        ([*given(folder), f"--images={tmp / 'none'}"], f"--images={tmp / 'none'}: no such folder"),
        ([*given(folder), "--background=whit"], "--background=whit: does not exist (did you mean 'white'?)"),
        ([*given(folder), "--background="], "--background=: names nothing; expected one or more joined by commas"),
        ([*given(folder), "--scale="], "--scale=: names nothing; expected one or more joined by commas"),
        ([*given(folder), "--things=digits", "--scale=.001"], "--scale=0.001: a thing is 0.0032 pixels wide in a picture of 16"),
        ([*given(folder), "--image_size=99999"], "flag --image_size=99999: 99999 is not an integer in the range [1, 2048]"),
        ([*given(folder), f"--images={at.corrupt}"], f"--images={at.corrupt}: a.png: cannot be read as a picture"),
        ([*given(folder), f"--images={at.entry}"], f"--images={at.entry}: list.json: entry 0: 'b.png': no such picture"),
        ([*given(folder), f"--images={at.latin}"], f"--images={at.latin}: list.csv: is no CSV in UTF-8"),
        ([*given(folder), "--scale=0.5,x"], "--scale=0.5,x: expected numbers joined by commas"),
        ([*given(folder), "--pairs=9999"], "--pairs=9999: there are 180 pairs of things"),
    ]


def test_a_bad_input_is_one_line_that_names_the_flag(folder, tmp_path):
    cases = bad(folder, tmp_path)
    out = tmp_path / "out"
    results = many_commands([("pretrained", [*arguments, f"--out={out}"]) for arguments, _ in cases])
    for (arguments, says), done in zip(cases, results, strict=True):
        told = f"{arguments}: {done.stderr}"
        weights = re.sub("^--weights=", "", arguments[0])
        assert done.returncode == 2 and done.stdout == "", told
        assert says.replace("FOLDER", weights) in done.stderr, told
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, told
    assert not any(path.is_file() for path in out.rglob("*")), "nothing was written"
