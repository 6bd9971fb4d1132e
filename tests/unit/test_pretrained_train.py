"""A small CLIP is trained on drawn pictures, and is read back from Hugging Face's layout by lrjax and by transformers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrjax
from lrjax import InputError

pytest.importorskip("safetensors", reason="the extra `pretrained` is not installed")
pytest.importorskip("tokenizers", reason="the extra `pretrained` is not installed")

from lrjax import pretrained
from lrjax.pretrained import export, scenes, train

SMALL = dict(n_layers=1, n_heads=2, d_model=16, d_mlp=16, image_size=16, columns=3)
RECIPE = train.Recipe(n_labels=3, n_heldout=2, steps=4, batch_size=8, **SMALL)


@pytest.fixture(scope="module")
def trained():
    lines = []
    return train.train(RECIPE, lines.append, every=2), lines


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    return export.export(trained[0], tmp_path_factory.mktemp("exported") / "clip", train.tokenizer())


@pytest.mark.slow
def test_training_moves_every_parameter_and_says_its_loss(trained):
    model, lines = trained
    first = train.initial(model.config, jax.random.key(RECIPE.seed))
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), first, model.params)
    assert all(jax.tree.leaves(moved)) and len(lines) == 2 and "loss" in lines[0]


def test_a_model_is_the_same_after_export(trained, folder):
    model, again = trained[0], pretrained.load(folder)
    assert again.config == model.config
    pictures = [scene.draw(40) for scene in RECIPE.scenes(heldout=True)]
    captions = [scene.caption(train.TEMPLATES[0]) for scene in RECIPE.scenes(heldout=True)]
    np.testing.assert_array_equal(again.pixels(pictures), model.pixels(pictures))
    np.testing.assert_allclose(again.embed_images(again.pixels(pictures)), model.embed_images(model.pixels(pictures)), atol=1e-6)
    np.testing.assert_allclose(again.embed_texts(captions), model.embed_texts(captions), atol=1e-6)


def test_transformers_reads_what_is_exported(trained, folder):
    torch = pytest.importorskip("torch", reason="the extra `peers` is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra `peers` is not installed")
    model = trained[0]
    peer = transformers.CLIPModel.from_pretrained(folder).eval()
    pixels = model.pixels([scene.draw(16) for scene in RECIPE.scenes(heldout=True)])
    ids = model.words(["a red circle to the left of a blue square", "a red circle"])
    with torch.no_grad():
        out = peer(pixel_values=torch.tensor(pixels), input_ids=torch.tensor(ids.astype(np.int64)))
    np.testing.assert_allclose(model.embed_images(pixels), out.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        model.embed_texts(["a red circle to the left of a blue square", "a red circle"]), out.text_embeds.numpy(), atol=1e-5
    )


def test_an_export_overwrites_nothing_and_takes_a_clip_alone(trained, folder, tmp_path):
    with pytest.raises(InputError, match="holds something"):
        export.export(trained[0], folder, train.tokenizer())
    of_images = dataclasses.replace(trained[0], config=dataclasses.replace(trained[0].config, text=None))
    with pytest.raises(InputError, match="expected a CLIP"):
        export.export(of_images, tmp_path / "new", train.tokenizer())


def test_a_model_with_gates_is_not_exported_as_one_without(trained, tmp_path):
    with pytest.raises(InputError, match="has gates, for which the layout has no place"):
        export.export(trained[0].ablate("EP"), tmp_path / "new", train.tokenizer())
    assert not (tmp_path / "new").exists()
    assert lrjax.export is export.export and lrjax.pretrained is pretrained


def test_an_export_that_fails_leaves_nothing(trained, tmp_path):
    with pytest.raises(InputError, match=r"tokenizer=None: expected a tokenizers\.Tokenizer"):
        export.export(trained[0], tmp_path / "new", None)

    class Broken:
        def save(self, path):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        export.export(trained[0], tmp_path / "new", Broken())
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    assert pretrained.load(export.export(trained[0], tmp_path / "empty", train.tokenizer())).config == trained[0].config


def test_what_is_frozen_stays_so_in_further_ablations(trained):
    once = trained[0].ablate("EP", frozen=True)
    assert once.frozen and once.ablate("PP").frozen and not trained[0].ablate("EP").frozen


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_labels", 1), ("n_labels", 30), ("steps", -1), ("columns", 1), ("n_heads", 3), ("patch_size", 17)],
)
def test_a_recipe_that_cannot_be_trained_is_refused_by_its_field(field, value):
    with pytest.raises(InputError, match=rf"Recipe\.{field}: {value} is not possible; expected"):
        dataclasses.replace(RECIPE, **{field: value})


def test_held_out_things_are_seen_alone(trained):
    """No training picture of a pair shows a held-out thing; each thing is seen alone at every column."""
    of_pairs, heldout = RECIPE.things()
    assert len(set(of_pairs) | set(heldout)) == RECIPE.n_labels + RECIPE.n_heldout
    pixels, ids, is_pair = train.bank(RECIPE, trained[0])
    assert is_pair.sum() == 3 * 2 * 3 and (~is_pair).sum() == 5 * 3 and len(pixels) == len(ids) == len(is_pair)
    shown = {thing for scene in RECIPE.scenes(heldout=False) for thing in (scene.left, scene.right)}
    assert shown == set(of_pairs) and not shown & set(heldout)


def test_mirrored_batches_hold_pictures_both_ways_round(trained):
    mirrored = dataclasses.replace(RECIPE, mirrored=True, batch_size=64)
    items = jax.tree.map(jnp.asarray, train.bank(RECIPE, trained[0]))
    plain = train.batch(dataclasses.replace(mirrored, mirrored=False), items, jax.random.key(3))
    images, ids = train.batch(mirrored, items, jax.random.key(3))
    np.testing.assert_array_equal(ids, plain[1])
    as_it_was, turned = ((images == other).all((1, 2, 3)) for other in (plain[0], plain[0][..., ::-1]))
    assert (as_it_was | turned).all() and 10 < int(turned.sum()) < 64 and not (plain[0] == images).all()


def test_every_word_of_a_caption_is_known():
    cut = train.tokenizer()
    captions = [
        scenes.Scene(a, b, (0, 1), 2).caption(t)
        for a, b in zip(scenes.things(), scenes.things()[1:], strict=False)
        for t in train.TEMPLATES
    ]
    ids = [found.ids for found in cut.encode_batch(captions)]
    assert not any(cut.token_to_id("<unk>") in found for found in ids) and max(map(len, ids)) <= train.LENGTH
