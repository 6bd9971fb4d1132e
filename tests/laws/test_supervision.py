"""A head that is asked where objects are, and whole sweeps with heads or three objects."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiled import draw_batch
from conftest import tiny_sweep
from lrjax.data import scenes
from lrjax.data.captions import all_captions
from lrjax.data.scenes import FIRST_LABEL
from lrjax.models import clip, encoder, localization_head
from lrjax.models.interventions import Interventions
from lrjax.models.losses import sigmoid_loss
from lrjax.storage import workdir
from lrjax.training import loop
from lrjax.training.programs import init_program
from lrjax.training.run import history_table, models_table
from lrjax.training.step import batch_loss
from tokens_read import HELD_OUT, KEY, make

# ---- supervision ----


@pytest.fixture(scope="module")
def small():
    """A row of 4 pixels with all its unseen pairs, and one-object images."""
    task = make("row", L=4)
    pairs = task.unseen()
    label, place = jnp.indices((HELD_OUT, 4)).reshape(2, -1)
    return task, task.image_edits(pairs), task.image_edits(scenes.single_scene(label, place, 4))


@pytest.mark.slow
def test_supervision_is_the_mean_cross_entropy_of_the_objects_places(small):
    task, pairs, singles = small
    images = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), pairs, singles)
    head = localization_head.Head(
        *(jax.random.normal(key, (n, 5)) for key, n in zip(jax.random.split(KEY, 3), (5, task.n_labels_total, 4), strict=True))
    )
    embeddings = encoder.l2_normalize(jax.random.normal(jax.random.key(1), (images.tokens.shape[1], 5)))
    costs = []
    for x, tokens, positions in zip(np.asarray(embeddings), images.tokens.T, images.positions.T, strict=True):
        for token, position in zip(tokens, positions, strict=True):
            if token >= 0:
                scores = np.asarray(head.V) @ (x @ np.asarray(head.M) * np.asarray(head.U[token - FIRST_LABEL]))
                costs.append(np.log(np.exp(scores).sum()) - scores[position - 1])
    assert len(costs) == 2 * 6 * 6 + 12
    np.testing.assert_allclose(localization_head.loss(task, head, embeddings, images), np.mean(costs), rtol=1e-5)


@pytest.mark.slow
def test_a_head_that_knows_or_reverses_all_places_or_none(small):
    """An embedding that spells out label and place of each object, and a head that reads it."""
    task, images, _ = small
    label, place = images.tokens - FIRST_LABEL, images.positions - 1
    A = task.n_labels_total
    head = localization_head.Head(jnp.eye(A * 4), jnp.repeat(jnp.eye(A), 4, 1), jnp.tile(jnp.eye(4), (1, A)))
    spelled = lambda place: jax.nn.one_hot(label * 4 + place, task.n_labels_total * 4).sum(0)
    asked = lambda embeddings: {
        name: float(x)
        for name, x in localization_head.head_metrics(task, head, embeddings, images, jnp.ones(len(embeddings))).items()
    }
    assert asked(spelled(place)) == {"_place": 1, "_order_located": 1}
    assert asked(spelled(place[::-1])) == {"_place": 0, "_order_located": 0}
    assert asked(jnp.zeros_like(spelled(place))) == {"_place": float((place == 0).mean()), "_order_located": 0.5}
    assert all(np.isnan(x) for x in asked(spelled(place).at[0, 0].set(jnp.nan)).values())


@pytest.mark.slow
def test_a_head_learns_in_full_and_the_encoder_by_the_weight(trained_heads):
    """So at weight 0 the head probes an encoder that never feels it."""
    (program,), (state,) = trained_heads.programs, trained_heads.states
    static = program.static
    hyper, params = jax.tree.map(lambda x: x[0], (program.hyper, state.params))
    batch = draw_batch(static, hyper, KEY, 32)

    @jax.jit
    def learned(weight):
        of = hyper.replace(supervision=weight, contrastive=jnp.float32(0))
        return jax.value_and_grad(lambda params: batch_loss(static, of, params, clip.unit_gates(static), batch))(params)

    (none, probe), (some, weighed), (whole, full) = (learned(jnp.float32(weight)) for weight in (0, 0.3, 1))
    np.testing.assert_allclose([none, some], [0, 0.3 * whole], atol=1e-6)
    chex.assert_trees_all_close(probe.places, full.places, rtol=1e-5, atol=1e-8)
    assert not any(np.any(x) for x in jax.tree.leaves(probe.vision)) and abs(full.vision.E).max() > 1e-4
    chex.assert_trees_all_close(weighed.vision, jax.tree.map(lambda x: 0.3 * x, full.vision), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_a_model_with_a_head_is_asked_what_it_knows(trained_heads):
    history = history_table(trained_heads)
    for name in ("seen_pair", "unseen_pair"):
        for column in (f"{name}_place", f"{name}_order_located"):
            assert ((history[column] >= 0) & (history[column] <= 1)).all(), column
    assert not {"single_place", "single_order_located"} & set(history)


def test_without_the_contrastive_loss_captions_only_decay(trained_heads):
    """Their gradient is exactly 0: every parameter of the text encoder is what it was, times prod(1 - lr_t wd)."""
    (program,), (state,) = trained_heads.programs, trained_heads.states
    start = jax.device_get(init_program(program.static, program.hyper)).params
    decay = np.prod([1 - 0.01 * min(1, (step + 1) / 10) * 0.1 for step in range(20)])
    assert set(program.hyper.contrastive.tolist()) == {0, 1}
    for model, weight in enumerate(program.hyper.contrastive):
        of_model = lambda tree: jax.tree.map(lambda x: x[model], tree)
        decayed = jax.tree.map(lambda x: x * decay, of_model(start.text))
        if weight == 0:
            chex.assert_trees_all_close(of_model(state.params.text), decayed, rtol=1e-5)  # 20 roundings of 6e-8
            assert abs(of_model(state.params.vision).E - of_model(start.vision).E).max() > 0.01
        else:
            assert abs(of_model(state.params.text).E - decayed.E).max() > 0.01


@pytest.mark.slow
def test_a_head_is_asked_about_images_that_count(trained_heads):
    """The exhaustive set of seen pairs also holds trained layouts and labels that a model does not have, with weight 0."""
    (program,), (state,) = trained_heads.programs, trained_heads.states
    static, task, history = program.static, program.static.task_object, history_table(trained_heads)
    hyper, params = jax.tree.map(lambda x: x[0], (program.hyper, state.params))
    assert hyper.n_labels < static.n_labels_max

    @jax.jit
    def embedded(hyper, params):
        splits = clip.model_splits(static, hyper)
        asked = task.eval_sets(clip.rng_stream(hyper.seed, "evaluation"), splits, hyper, True)["seen_pair"]
        return asked, clip.embed_images(static, params, Interventions(), asked.images)

    asked, embeddings = embedded(hyper, params)
    images, counts = jax.tree.map(lambda x: x[:, asked.weight > 0], asked.images), int((asked.weight > 0).sum())
    found = localization_head.head_metrics(task, params.places, embeddings[asked.weight > 0], images, jnp.ones(counts))
    for suffix, value in found.items():
        last = history[f"seen_pair{suffix}"][(history["step"] == 20) & (history["model"] == 0)]
        np.testing.assert_allclose(last, value, atol=1e-6)


# ---- whole sweeps ----


def saved_and_trained(folder, **fields):
    """A tiny sweep of 3 and 4 labels, trained into a folder."""
    run = workdir.open_run(folder, tiny_sweep(n_labels=(3, 4), seeds=1, lr=(0.01,), n_heldout=3, **fields))
    return loop.advance(run, on_evaluation=partial(workdir.save, folder))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def trained_heads(folders):
    """With a head that is asked where objects are, beside the contrastive loss and without it."""
    return saved_and_trained(folders / "head", L=6, supervision=(1.0,), contrastive=(1.0, 0.0))


@pytest.fixture(scope="module")
def trained_threes(folders):
    """With the sigmoid loss and hard negatives."""
    return saved_and_trained(folders / "three", task="three", L=6, pair_loss="sigmoid", hard_negatives=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["head", "three"])
def test_a_sweep_learns_and_comes_back_from_its_folder(name, folders, request):
    run = request.getfixturevalue(f"trained_{name}s")
    history, again = history_table(run), workdir.restore(folders / name)
    assert run.diverged_at.mask.all() and (history["loss"][history["step"] == 20] < history["loss"][history["step"] == 10]).all()
    assert ("unseen_chain_order_zyx" in history) == (name == "three")
    assert again.sweep == run.sweep and again.finished
    chex.assert_trees_all_equal(again.states, run.states)
    for table in (models_table, history_table):
        jax.tree.map(np.testing.assert_array_equal, table(again), table(run))


@pytest.mark.slow
def test_a_batch_is_told_with_hard_negatives_of_its_own_images(trained_threes):
    """The loss of training is that of images, of their captions in the same order, and of wrong ones of the last half."""
    (program,), (state,) = trained_threes.programs, trained_threes.states
    static, task = program.static, program.static.task_object
    hyper, params = jax.tree.map(lambda x: x[0], (program.hyper, state.params))
    gates = clip.unit_gates(static)

    @jax.jit
    def losses(hyper, params):
        batch = task.batch(KEY, clip.model_splits(static, hyper), hyper, static.batch_size)
        every = tuple(zip(task.caption_templates * 2, batch.captions + batch.hard_negatives, strict=True))
        pairs, chains, wrong_pairs, wrong_chains = clip.embed_captions(static, params, Interventions(gates.text), every)
        single, *_ = clip.embed_captions(static, params, Interventions(gates.text), all_captions(task, task.captions(hyper)))
        captions = jnp.concatenate([single[batch.label], pairs, chains])
        hard_negatives = jnp.concatenate([wrong_pairs, wrong_chains])
        images = clip.embed_images(static, params, Interventions(gates.vision), batch.images)
        expected = sigmoid_loss(images, captions, params.log_scale, params.bias, hard_negatives=hard_negatives)
        return batch_loss(static, hyper, params, gates, batch), expected

    np.testing.assert_allclose(*losses(hyper, params), rtol=1e-5)
