"""Layers and paths: one block's gradient is `gradient`'s, and a patched path is what telling a head of another scene does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures_read
from compiled import attend, caches, init_encoder, patched, run_encoder
from conftest import one_command, shake, tiny_model, tiny_sweep, untrained
from drawn_runs import drawn
from experiments import common
from lrjax.analysis import depth, gradient, selection
from lrjax.analysis.ablate import ablate, of_position
from lrjax.analysis.decompose import unseen_sequences
from lrjax.errors import InputError
from lrjax.models import encoder as encoders
from lrjax.models.clip import unit_gates
from lrjax.models.interventions import Interventions
from lrjax.storage import workdir
from lrjax.terms import POSITION_TERMS


def test_with_one_block_the_gradient_in_scenes_is_the_position_gradient():
    run = untrained(tiny_model(), tiny_model(seed=1))
    for encoder in ("vision", "text"):
        here, there = depth.layers(run, encoder), gradient.gradient(run, encoder)
        # means over 900 images of float32 scores of order 10
        np.testing.assert_allclose(here.position_gradient.isel(layer=0), there.position_gradient, atol=2e-4)
        for term in POSITION_TERMS:
            np.testing.assert_allclose(here.gradient.isel(layer=0).sel(term=term), there[f"gradient_{term}"], atol=2e-4)


@pytest.mark.slow
def test_steadiness_is_the_mean_step_over_its_spread_over_labels():
    """By hand, from the scores of whole scenes: of every layout the variance over pairs of labels, then the mean over layouts."""
    run = untrained(tiny_model(n_layers_vision=2))
    found, (program,), (state,) = depth.layers(run), run.programs, run.states
    static, params = program.static, jax.tree.map(lambda x: x[0], state.params)
    scenes, gates = static.task_object.unseen(), unit_gates(static).vision
    steps = [t.attn_scores[:, :, 0] for t in caches(params.vision, gates, static, "vision", unseen_sequences(static, "vision"))]
    for layer, scores in enumerate(steps):  # [n, h, t]
        n = np.arange(len(scores))
        step = np.asarray(scores[n, :, scenes.j + 1] - scores[n, :, scenes.i + 1])
        layouts = {}
        for k, layout in enumerate(zip(scenes.i.tolist(), scenes.j.tolist(), strict=True)):
            layouts.setdefault(layout, []).append(step[k])
        spread = np.sqrt(np.mean([np.var(own, axis=0) for own in layouts.values()], axis=0))
        np.testing.assert_allclose(found.label_invariance.isel(model=0, layer=layer), np.abs(step.mean(0)) / spread, rtol=1e-3)


def test_a_counterpart_of_a_caption_says_the_opposite():
    """ "x left of y" is the fact (x, y), "x right of y" the fact (y, x)."""
    fact = lambda x, y, word: (x, y) if word == 0 else (y, x)
    for opposite in depth.OPPOSITE.values():
        for word in (0, 1):
            assert fact(*opposite(3, 7, word)) == fact(3, 7, word)[::-1]


@pytest.mark.slow
def test_a_patched_path_is_what_one_head_reads_from_another_scene():
    """With one head a layer, by hand: the second block reads what the first wrote in the other scene, and adds to this scene's."""
    shape = encoders.EncoderConfig(15, 11, 2, n_heads=1, d_model=16, d_embed=12, causal=False)
    encoder_params = shake(init_encoder(jax.random.key(0), shape, 1.0, 0.8))
    (ids, other), gates = jax.random.randint(jax.random.key(1), (2, 11), 0, 15), shape.unit_gates()
    clean, found = patched(encoder_params, gates, ids, other, shape, 0)
    np.testing.assert_allclose(clean, run_encoder(encoder_params, Interventions(gates), ids, shape, 0).embedding, atol=2e-6)
    geometry = shape.geometry(jnp.arange(11), jnp.arange(11))
    start, there = (jnp.stack([encoder_params.E[i], encoder_params.P, jnp.zeros_like(encoder_params.P)]) for i in (ids, other))
    first = lambda x: attend(encoder_params.blocks[0], gates[0], x, geometry)[0]
    read = start + first(there) - there
    written = attend(encoder_params.blocks[1], gates[1], read, geometry)[0] - read
    np.testing.assert_allclose(
        found[0, 0, 0, 2], encoders.l2_normalize((first(start) + written).sum(0)[0] @ encoder_params.W_proj), atol=5e-6
    )
    assert found.shape == (1, 1, 1, len(depth.VIA), 12)
    assert all(np.abs(found[0, 0, 0, via] - clean).max() > 1e-3 for via in range(3))


@pytest.mark.slow
def test_a_path_is_from_its_sender_to_its_receiver():
    """Two heads a layer: of the second block head 0 alone reads what of the first head 1 alone wrote in the other scene."""
    shape = encoders.EncoderConfig(15, 11, 2, n_heads=2, d_model=16, d_embed=12, causal=False)
    encoder_params = shake(init_encoder(jax.random.key(0), shape, 1.0, 0.8))
    (ids, other), gates = jax.random.randint(jax.random.key(1), (2, 11), 0, 15), shape.unit_gates()
    _, found = patched(encoder_params, gates, ids, other, shape, 0)
    geometry = shape.geometry(jnp.arange(11), jnp.arange(11))
    start, there = (jnp.stack([encoder_params.E[i], encoder_params.P, jnp.zeros_like(encoder_params.P)]) for i in (ids, other))

    def written(layer, x, *heads):
        """What these heads write; the bias b_O belongs to none and cancels where it is taken twice."""
        block = encoder_params.blocks[layer]
        silent = [head for head in (0, 1) if head not in heads]
        return attend(block.replace(W_O=block.W_O.at[jnp.array(silent, int)].set(0)), gates[layer], x, geometry)[0] - x

    here = start + written(0, start, 0, 1)
    told = here + written(0, there, 1) - written(0, start, 1)
    after = here + written(1, here, 0, 1) + written(1, told, 0) - written(1, here, 0)
    np.testing.assert_allclose(found[0, 1, 0, 2], encoders.l2_normalize(after.sum(0)[0] @ encoder_params.W_proj), atol=5e-6)
    assert np.abs(found[0, 1, 0, 2] - found[0, 0, 1, 2]).max() > 1e-3, "the other way round is another path"


@pytest.mark.slow
def test_a_later_layer_alone_is_what_it_is_under_gates():
    run = untrained(tiny_model(n_layers_vision=2))
    gated = untrained(tiny_model(n_layers_vision=2, gates="vision.L0:EP+PP+BP=0"))
    alone, whole = depth.layers(run, alone=True), depth.layers(run)
    np.testing.assert_allclose(alone.position_gradient, depth.layers(gated).position_gradient, atol=1e-5)
    np.testing.assert_allclose(alone.position_gradient.sel(layer=0), 0, atol=1e-5)
    assert abs(alone.position_gradient - whole.position_gradient).sel(layer=1).max() > 0.01


def test_a_path_from_the_same_scene_changes_nothing():
    shape = encoders.EncoderConfig(15, 11, 3, n_heads=2, d_model=16, d_embed=12, causal=False)
    encoder_params = shake(init_encoder(jax.random.key(0), shape, 1.0, 0.8))
    ids = jax.random.randint(jax.random.key(1), (11,), 0, 15)
    clean, found = patched(encoder_params, shape.unit_gates(), ids, ids, shape, 0)
    np.testing.assert_allclose(found, np.broadcast_to(clean, found.shape), atol=2e-5)
    assert found.shape == (2, 2, 2, 3, 12)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vision", "text"])
def test_paths_of_a_run_start_from_its_order(encoder):
    run = untrained(tiny_model(**{f"n_layers_{encoder}": 2}, relations="left+right"))
    answer = depth.paths(run, encoder)
    ways = 2 if encoder == "text" else 1  # with its labels exchanged; or with the other word
    assert dict(answer.sizes) == {"model": 1, "exchanged": ways, "layer": 1, "sender": 2, "receiver": 2, "via": 3}
    order = ablate(run, ("none",), sets=("unseen_pair",))["unseen_pair_order"]
    np.testing.assert_allclose(answer.order, order, atol=2e-3)  # ties within rounding: an image or two of 1,800
    assert np.abs(answer.change).max() > 0


def test_where_there_are_no_paths_is_said():
    with pytest.raises(InputError, match=r"paths: n_layers_vision=1.*expected two layers or more"):
        depth.paths(untrained(tiny_model()))


@pytest.mark.slow
def test_zeroing_every_layer_is_zeroing_all():
    run = untrained(tiny_model(n_layers_vision=2), tiny_model(seed=1))
    table = depth.by_layer(run)
    assert set(table["ablation"][table["model"] == 0].tolist()) == {
        "none",
        "EP+PP+BP",
        "vision.L0:EP+PP+BP=0",
        "vision.L1:EP+PP+BP=0",
    }
    one = {name: table["unseen_pair_order"][(table["model"] == 1) & (table["ablation"] == name)] for name in table["ablation"]}
    np.testing.assert_array_equal(one["EP+PP+BP"], one["vision.L0:EP+PP+BP=0"])


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["rotary", "alibi"])
def test_layers_of_other_positions_are_ablated_by_their_own_terms(positions):
    run = untrained(*(tiny_model(n_layers_vision=2, positions=positions, seed=seed) for seed in range(3)))
    table, position_terms = depth.by_layer(run), of_position(run.programs[0].static)
    terms = "+".join(position_terms)
    assert list(table["ablation"][:4]) == ["none", terms, f"vision.L0:{terms}=0", f"vision.L1:{terms}=0"]
    order = table["unseen_pair_order"].reshape(3, 4)
    assert (order[:, 1] != order[:, 0]).any(), "what is zeroed does something"
    alone, whole = (depth.layers(run, alone=alone).gradient.sel(layer=0, term=list(position_terms)) for alone in (True, False))
    assert (alone == 0).all() and (whole != 0).any()


@pytest.mark.slow
def test_a_mixed_sweep_is_asked_of_one_shape():
    run = untrained(tiny_model(), tiny_model(n_layers_vision=2, seed=1), tiny_model(n_layers_vision=2, n_labels=9))
    deeper = selection.where(run, ["n_layers_vision=2"])
    np.testing.assert_array_equal(ablate(deeper, ("none", "vision.L1:EP=0"), sets=("unseen_pair",))["model"], [1, 1, 2, 2])
    np.testing.assert_array_equal(common.models_of(deeper)["model"], [1, 2])
    assert depth.deep(selection.where(run, ["n_layers_vision=1"]), "vision").programs == (), "no model has paths"
    for field, told in (
        ("n_layers_vision=3", "--where=n_layers_vision=3: no model has it; expected n_layers_vision=1 or 2"),
        ("n_layer_vision=2", "--where=n_layer_vision=2: is no such field (did you mean 'n_layers_vision'?)"),
        ("", "--where=: is no such field; expected NAME=VALUE of a field of the models, such as n_layers_vision=2"),
    ):
        with pytest.raises(InputError) as error:
            selection.where(run, [field])
        assert str(error.value).startswith(told)


def test_causal_takes_the_head_that_costs_most():
    names = ["none", "vision.L0.h0:EP=0", "vision.L0.h1:EP=0", "vision.L1.h0:VE+VP+VB=0"]
    table = {"model": np.zeros(4, int), "n_labels": np.full(4, 15), "ablation": np.array(names)}
    table |= {"unseen_pair_order": np.array([0.9, 0.8, 0.6, 0.9]), "unseen_pair_label_set": np.array([1, 0.9, 0.95, 1])}
    found = depth.strongest_effects(table)
    assert list(zip(found["layer"].tolist(), found["term"].tolist(), strict=True)) == [(0, "EP"), (1, "pruned")]
    np.testing.assert_allclose(found["unseen_pair_order"], [-0.3, 0])
    np.testing.assert_allclose(found["unseen_pair_label_set"], [-0.05, 0])
    both = {name: np.concatenate([column, column]) for name, column in table.items()} | {"model": np.repeat([0, 1], 4)}
    for name, column in depth.strongest_effects(both).items():
        np.testing.assert_array_equal(column, np.repeat([0, 1], 2) if name == "model" else np.tile(found[name], 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tables"),
    [("depth", ("layers", "by_layer", "single_head_ablations", "paths")), ("left_right", ("single_head_ablations", "paths"))],
    ids=["depth", "left_right"],
)
def test_a_command_writes_what_it_says(deep, name, tables):
    done = one_command(name, f"--ckpt={deep}", "--format=svg")
    assert done.returncode == 0, done.stderr
    for table in tables:
        assert len((deep / "analysis" / f"{name}_{table}.csv").read_text().splitlines()) > 2
    drawn = figures_read.texts(deep / "figures" / f"{name}_paths.svg")
    assert {"N = 4 labels", "change of order, unseen pairs"} <= {line for text in drawn for line in text.splitlines()}
    assert any(text.startswith("through ") for text in drawn), "what a path goes through has a colour"
    assert "the strongest path" in done.stdout and "the head that costs most" in done.stdout


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A workdir of two models of two layers in both encoders, with both words."""
    folder = tmp_path_factory.mktemp("deep")
    wanted = tiny_sweep((4,), n_layers_vision=2, n_layers_text=2, relations="left+right", steps=2, eval_every=2)
    workdir.open_run(folder, wanted)
    workdir.save(folder, drawn(wanted))
    return folder
