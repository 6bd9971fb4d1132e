"""Tokens and pixels are those of the peers' processors; drawn pictures and folders of pictures are what they say."""

import csv
import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

import pretrained_by_hand as by_hand
from lrjax import InputError

pytest.importorskip("safetensors", reason="the extra `pretrained` is not installed")
pytest.importorskip("tokenizers", reason="the extra `pretrained` is not installed")

from lrjax import pretrained
from lrjax.pretrained import probe, scenes

NO_PEER = "the extra `peers` is not installed"


def test_a_scene_is_drawn_as_its_captions_say():
    scene = scenes.Scene(scenes.Thing("red", "circle"), scenes.Thing("blue", "square"), (1, 4), columns=5)
    picture = scene.draw(100)
    assert picture.shape == (100, 100, 3) and scene.distance == 3
    assert tuple(picture[50, 30]) == scenes.COLOURS["red"] and tuple(picture[50, 90]) == scenes.COLOURS["blue"]
    assert tuple(picture[50, 60]) == (255, 255, 255)
    left, right = "{a} to the left of {b}", "{a} is on the right of {b}"
    assert scene.caption(left) == "a red circle to the left of a blue square"
    assert scene.caption(left, swapped=True) == "a blue square to the left of a red circle"
    assert scene.caption(right) == "a blue square is on the right of a red circle"
    assert scene.caption(right, swapped=True) == "a red circle is on the right of a blue square"


def test_scenes_are_balanced():
    """Each pair stands both ways round at all pairs of columns, and the things differ in colour and in shape."""
    found = scenes.scenes(n_pairs=3, columns=4)
    assert len(found) == 3 * 2 * 6 == len(set(found))
    assert {(s.right, s.left, s.at) for s in found} == {(s.left, s.right, s.at) for s in found}
    assert all(s.left.colour != s.right.colour and s.left.shape != s.right.shape for s in found)
    for wrong, said in (
        (dict(n_pairs=0), "at least one pair"),
        (dict(columns=1), "two columns"),
        (dict(n_pairs=9999), "there are"),
    ):
        with pytest.raises(InputError, match=said):
            scenes.scenes(**wrong)
    with pytest.raises(InputError, match="did you mean 'red'"):
        scenes.Thing("rad", "circle")
    with pytest.raises(InputError, match=r"colour=\['red'\]: does not exist"):
        scenes.Thing(["red"], "circle")
    with pytest.raises(InputError, match="things=None: does not exist"):
        scenes.scenes(kind=None)
    with pytest.raises(InputError, match="scale=x: expected a share"):
        scenes.scenes(1, 2, scales=("x",))


def test_a_digit_stands_in_its_column_as_high_as_a_circle():
    scene = scenes.Scene(scenes.Thing("red", "7"), scenes.Thing("blue", "circle"), (0, 2), columns=3)
    assert scene.caption("{a} left of {b}") == "a red 7 left of a blue circle"
    coloured = scene.draw(90) != 255
    digit, circle = (coloured[:, columns].any(-1) for columns in (slice(0, 30), slice(60, 90)))
    assert coloured[:, 30:60].sum() == 0 and abs(int(digit.any(1).sum()) - int(circle.any(1).sum())) <= 2
    middle = np.flatnonzero(digit.any(0))
    assert abs((middle[0] + middle[-1]) / 2 - 14.5) <= 1
    pictures = {scenes.draw([(scenes.Thing("red", digit), 0)], 1, 40).tobytes() for digit in scenes.DIGITS}
    assert len(pictures) == len(scenes.DIGITS)
    assert all(s.left.shape in scenes.DIGITS and s.left.shape != s.right.shape for s in scenes.scenes(2, 2, kind="digits"))
    with pytest.raises(InputError, match=r"things='digit': does not exist .did you mean 'digits'"):
        scenes.scenes(kind="digit")


def test_sizes_and_backgrounds_are_axes(model):
    found = scenes.scenes(1, 2, ("white", "grey"), (0.8, 0.4))
    assert {(s.background, s.scale) for s in found} == {(b, s) for b in ("white", "grey") for s in (0.8, 0.4)} and len(found) == 8
    table = probe.drawn(model, found, scenes.TEMPLATES[:1]).to_dataframe()
    assert (table.groupby(["background", "scale"]).size() == 2).all()
    assert list(table["left"]) == [str(scene.left) for scene in found]
    with pytest.raises(InputError, match=r"scale=1\.5: expected a share of a column's width"):
        scenes.scenes(1, 2, scales=(1.5,))


def test_a_photographic_background_is_behind_the_things(monkeypatch):
    """With scikit-image, its own pictures; without, the error says that it is needed."""
    scene = scenes.Scene(scenes.Thing("red", "square"), scenes.Thing("blue", "square"), (0, 2), 3, background="coffee")
    monkeypatch.setitem(sys.modules, "skimage", None)  # as if it were not installed
    scenes._photo.cache_clear()
    with pytest.raises(InputError, match="background='coffee': is a picture of scikit-image, which is not installed"):
        scene.draw(60)
    photo = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
    package = types.SimpleNamespace(data=types.SimpleNamespace(coffee=lambda: photo))
    monkeypatch.setitem(sys.modules, "skimage", package)
    picture = scene.draw(60)
    scenes._photo.cache_clear()
    assert tuple(picture[30, 10]) == scenes.COLOURS["red"] and tuple(picture[30, 50]) == scenes.COLOURS["blue"]
    middle = np.asarray(Image.fromarray(photo[:, 15:65]).resize((240, 240)).resize((60, 60), Image.Resampling.BOX))
    np.testing.assert_array_equal(picture[:, 22:38], middle[:, 22:38])


def test_every_picture_of_scikit_image_can_be_a_background():
    pytest.importorskip("skimage", reason=NO_PEER)
    for name in scenes.PHOTOS:
        assert np.asarray(scenes.background(name, 16)).shape == (16, 16, 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return pretrained.load(by_hand.folder_of(tmp_path_factory.mktemp("weights") / "clip", "clip"))


def test_the_probe_says_what_similarities_say(model):
    found = scenes.scenes(1, 3, scales=(0.9,))
    table = probe.drawn(model, found, scenes.TEMPLATES[:1]).to_dataframe()
    eval_set = probe.eval_set(model, found)
    images = model.embed_images(eval_set.pixels)
    margin = np.diag(model.similarities(images, model.embed_texts(eval_set.true)))
    margin = margin - np.diag(model.similarities(images, model.embed_texts(eval_set.swapped)))
    np.testing.assert_allclose(table["margin"], margin, atol=1e-4)
    assert set(table["label_set"]) == {1.0}  # one pair of things, so every caption names them
    assert set(table["distance"]) == {1, 2} and len(table) == 6


def test_equal_captions_are_a_tie(model):
    """The tiny tokenizer does not know yellow, black or diamond: both orders are the same ids."""
    a, b = scenes.Thing("yellow", "diamond"), scenes.Thing("purple", "diamond")
    table = probe.drawn(model, [scenes.Scene(a, b, (0, 1), 2)], ("{a} left of {b}",)).to_dataframe()
    assert list(table["order"]) == [0.5] and abs(table["margin"][0]) < probe.TIE


@pytest.fixture
def whats_up(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.fromarray(np.full((30, 30, 3), 60 * i, np.uint8)).save(tmp_path / f"images/{i}.png")
    captions = ["a cat left of a dog", "a cat right of a dog", "a cat above a dog"]
    rows = [dict(image_path=f"data/elsewhere/images/{i}.png", caption_options=captions) for i in range(2)]
    (tmp_path / "dataset.json").write_text(json.dumps(rows))
    return tmp_path


def test_a_folder_in_the_layout_of_whats_up_and_a_csv_are_read(model, whats_up):
    with open(whats_up / "more.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", "caption", "wrong"], ["images/2.png", "a dog", "a cat"]])
    table = probe.of_folder(model, whats_up).to_dataframe()
    assert list(table["image"]) == ["images/0.png", "images/1.png", "images/2.png"]
    np.testing.assert_allclose(table["chance"], [1 / 3, 1 / 3, 1 / 2])
    np.testing.assert_array_equal(table["correct"], table["margin"] > 0)


def test_an_entry_that_cannot_be_used_is_named(model, whats_up, tmp_path_factory):
    with pytest.raises(InputError, match="no JSON with image_path"):
        probe.read_items(tmp_path_factory.mktemp("empty"))
    with pytest.raises(InputError, match="no such folder"):
        probe.read_items(whats_up / "none")
    with pytest.raises(InputError, match="folder=None: is no path"):
        probe.of_folder(model, None)
    rows = json.loads((whats_up / "dataset.json").read_text())
    for change, said in (
        (dict(image_path="images/9.png"), r"entry 1: 'images/9.png': no such picture"),
        (dict(caption_options=["one"]), r"entry 1: captions=\['one'\]"),
        (dict(caption_options=["one", "two", "one"]), "entry 1: the caption 'one' stands among the wrong ones too"),
    ):
        (whats_up / "dataset.json").write_text(json.dumps([rows[0], rows[1] | change]))
        with pytest.raises(InputError, match=said):
            probe.read_items(whats_up)
    (whats_up / "dataset.json").write_text(json.dumps([{"image": "x"}]))
    with pytest.raises(InputError, match="entry 0 has no image_path"):
        probe.read_items(whats_up)
    (whats_up / "dataset.json").unlink()
    (whats_up / "more.csv").write_text("picture,caption\nx,y\n")
    with pytest.raises(InputError, match="expected image, caption"):
        probe.read_items(whats_up)
    (whats_up / "more.csv").write_bytes("image,caption\nimages/2.png,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"^/.*more\.csv: is no CSV in UTF-8"):
        probe.read_items(whats_up)
    (whats_up / "more.csv").write_text("image,caption,wrong\nimages/2.png,a dog,a cat\n", encoding="utf-8-sig")
    assert [item.captions for item in probe.read_items(whats_up)] == [("a dog", "a cat")], "as a spreadsheet writes it"


def test_a_picture_that_cannot_be_read_is_found_before_any_work(whats_up):
    items = probe.read_items(whats_up)
    probe.check_pictures(items)
    items[1].picture.write_bytes(items[1].picture.read_bytes()[:60])  # cut off
    with pytest.raises(InputError, match=r"images/1\.png: cannot be read as a picture"):
        probe.check_pictures(items)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (dict(scales=()), r"scales=\(\): expected a list of widths"),
        (dict(backgrounds=[]), r"backgrounds=\[\]: expected a list of white or grey"),
        (dict(backgrounds="white"), "backgrounds='white': expected a list"),
    ],
)
def test_axes_of_scenes_that_are_empty_are_refused(asked, said):
    with pytest.raises(InputError, match=said):
        scenes.scenes(1, 2, **asked)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_a_thing_too_small_to_be_seen_is_refused_by_its_scale(kind):
    scene = scenes.scenes(1, 2, scales=(0.001,), kind=kind)[0]
    with pytest.raises(InputError, match=r"scale=0\.001: a thing is 0\.02 pixels wide in a picture of 40 with 2 columns"):
        scene.draw(40)


@pytest.mark.parametrize(
    ("templates", "said"),
    [
        ([], r"templates=\[\]: expected a list of captions"),
        ("{a} left of {b}", "templates='{a} left of {b}': expected a list"),
        (["{a} left of it"], "'{a} left of it': expected a caption with {a} and {b}"),
        (["{a} left of {b} and {c}"], "expected a caption with {a} and {b}"),
        (["{a} left of {b"], "expected a caption with {a} and {b}"),
        ([None], "templates: None: expected a caption"),
    ],
)
def test_templates_that_name_no_two_things_are_refused(model, templates, said):
    with pytest.raises(InputError, match=said):
        probe.drawn(model, scenes.scenes(1, 2), templates)


def test_a_template_says_which_thing_it_names_first():
    left, right = scenes.Thing("red", "circle"), scenes.Thing("blue", "square")
    for template in scenes.TEMPLATES:
        first = scenes.caption_of(template, left, right).index(str(left)) < scenes.caption_of(template, left, right).index(
            str(right)
        )
        assert first == (scenes.relation_of(template) == "left")
