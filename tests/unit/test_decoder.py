"""The autoregressive decoder: what it says, and where it looks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from compiled import decode, draw_batch, init_clip, log_likelihood, model_splits, prefix, read
from conftest import TINY, shake, tiny_model, tiny_sweep, untrained
from lrjax import config
from lrjax.analysis import ablate
from lrjax.analysis import reader as reading
from lrjax.data import tasks as tasks_of
from lrjax.data.captions import all_captions, words_of
from lrjax.data.scenes import BACKGROUND, EOT, IN_IMAGE, LEFT_OF
from lrjax.errors import InputError
from lrjax.models import clip, decoder
from lrjax.models.interventions import Interventions, ModelInterventions
from lrjax.training import loop
from lrjax.training.run import history_table


@pytest.fixture(scope="module", params=["autoregressive", "autoregressive_raw"])
def spoken(request):
    """static, hyper, params, gates, a batch of one reader with every parameter moved."""
    model = tiny_model(objective=request.param)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params = shake(init_clip(static, hyper))
    batch = draw_batch(static, hyper, jax.random.key(0), 16)
    return static, hyper, params, clip.unit_gates(static), batch


def logits_of(spoken, words, image=0):
    static, _, params, gates, batch = spoken
    seen = prefix(static, params, Interventions(gates.vision), batch.images)[image]
    return np.asarray(read(static, params, Interventions(gates.text), seen, words))


@pytest.mark.slow
def test_a_word_is_predicted_from_the_words_before_it_alone(spoken):
    words = jnp.array([8, LEFT_OF, 9, EOT])
    before, after = logits_of(spoken, words), logits_of(spoken, words.at[2].set(10))
    np.testing.assert_array_equal(before[:3], after[:3])
    assert abs(before[3] - after[3]).max() > 1e-3


def test_all_captions_of_all_labels_have_probability_at_most_one(spoken):
    """So what can be said of an image sums to less than 1; and labels that a model does not have cannot be said."""
    static, hyper, params, gates, batch = spoken
    task = static.task_object
    asked = task.captions(hyper)
    words = jax.jit(lambda: words_of(task, all_captions(task, asked)))()[asked.exists]
    seen = prefix(static, params, Interventions(gates.vision), batch.images)[:1]
    repeated = jnp.repeat(seen, len(words), 0)
    total = jnp.exp(log_likelihood(static, hyper, params, Interventions(gates.text), repeated, words).sum(-1)).sum()
    assert 0 < total < 1
    wide = config.make_static([tiny_model(objective=static.objective), tiny_model(objective=static.objective, n_labels=9)])
    assert decoder.sayable(wide, hyper).sum() == decoder.sayable(static, hyper).sum() < len(decoder.sayable(wide, hyper))


def test_greedy_words_are_the_likeliest_one_by_one(spoken):
    static, hyper, params, gates, batch = spoken
    seen = prefix(static, params, Interventions(gates.vision), batch.images)
    said = np.asarray(decode(static, hyper, params, Interventions(gates.text), seen, 4))
    for image in (0, 9):
        logits = logits_of(spoken, jnp.array(said[image]), image)
        end = np.flatnonzero(said[image] == EOT)[0] + 1 if (said[image] == EOT).any() else 4
        np.testing.assert_array_equal(logits.argmax(-1)[:end], said[image, :end])


def test_others_are_the_labels_beside_that_are_not_seen():
    """Of 4 held out, 0..3, and 5 trained, 4..8: in a circle, past what is seen; itself where there is no other."""
    task = tasks_of.make("row", n_heldout=4, n_labels_max=9, L=10, relations="left")
    hyper = config.make_hyper(tiny_model(n_labels=5))
    of = lambda *labels: np.asarray(decoder.others(task, hyper, jnp.array(labels))).tolist()
    assert of(0, 2) == [[1, 3], [3, 1]] and of(3, 0) == [[1, 1], [2, 2]]
    assert of(4, 5) == [[6, 6], [8, 8]] and of(8) == [[4], [7]]
    assert of(0, 1, 2) == [[3, 3, 3], [3, 3, 3]]
    few = dataclasses.replace(task, n_heldout=2)
    assert np.asarray(decoder.others(few, hyper, jnp.array([0, 1]))).tolist() == [[0, 1], [0, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("spoken", ["autoregressive_raw"], indirect=True)
def test_a_blind_reader_names_by_chance_and_one_that_sees_does_not(spoken):
    """With image tokens at zero nothing of an image is told, and of as many captions as fall by another label one rises: 1/2, to
    rounding of float32 means. What it says of one image it says of all.
    """
    static, hyper, params, gates, _ = spoken
    splits = model_splits(static, hyper)
    blind = gates.replace(text=gates.text.at[..., -3:].set(0))  # values
    evaluate = jax.jit(lambda done: decoder.evaluate(static, hyper, splits, params, done, ("unseen_pair",)))
    found = {name: evaluate(ModelInterventions.of_gates(of)) for name, of in (("sees", gates), ("blind", blind))}
    np.testing.assert_allclose(found["blind"]["unseen_pair_named"], 0.5, atol=1e-6)
    np.testing.assert_allclose(found["blind"]["unseen_pair_order"], 0.5, atol=1e-6)
    assert abs(found["sees"]["unseen_pair_named"] - 0.5) > 1e-3
    assert found["blind"]["unseen_pair_alone"] in (0, np.float32(0.4)), "of 10 pairs of 5 labels 4 have the one that it says"


@pytest.mark.slow
@pytest.mark.parametrize("spoken", ["autoregressive_raw"], indirect=True)
def test_what_is_said_of_one_object_alone_is_counted(spoken, monkeypatch):
    """A reader that says "2 [in-image] [EOT]" whatever it sees: wrong of every pair, and of one object in 4 of 10 pairs of 5."""
    static, hyper, params, gates, _ = spoken
    label = static.task_object.n_first + 2
    said = jnp.array([label, IN_IMAGE, EOT, BACKGROUND])
    monkeypatch.setattr(decoder, "decode", lambda *args: said[None])
    splits, done = model_splits(static, hyper), ModelInterventions.of_gates(gates)
    found = jax.jit(lambda: decoder.evaluate(static, hyper, splits, params, done, ("single", "unseen_pair")))()
    np.testing.assert_allclose(found["unseen_pair_alone"], 0.4, atol=1e-6)
    assert found["unseen_pair"] == found["unseen_pair_label_set"] == 0
    assert 0 < found["single"] < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
def test_a_reader_is_the_same_whether_its_streams_are_split_or_not(layers):
    """With gates at 1 the terms are but a way to compute scores; with every bias away from 0. Float32 logits of order 10. Of raw
    tokens what is merged is looked up too, where there are fewer tokens than d_model.
    """
    model = tiny_model(objective="autoregressive_raw", n_layers_text=layers, d_model=32)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params, gates = shake(init_clip(static, hyper)), clip.unit_gates(static)
    residual, words = shake(jnp.zeros((3, static.L, static.d_model))).at[2].set(0), jnp.array([8, LEFT_OF, 9, EOT])
    for seen in (residual, jnp.zeros(static.L, int).at[1].set(9).at[4].set(8)):
        split, merged = (read(static, params, Interventions(gates.text), seen, words, split) for split in (True, False))
        np.testing.assert_allclose(split, merged, atol=2e-4)


@pytest.mark.slow
def test_what_image_tokens_know_of_their_place_is_of_origin_P():
    """By origin they sum to what the vision encoder gives; without P in the vision encoder nothing is P's."""
    model = tiny_model(objective="autoregressive")
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params, gates = shake(init_clip(static, hyper)), clip.unit_gates(static)
    images = draw_batch(static, hyper, jax.random.key(0), 4).images
    split, merged = (prefix(static, params, Interventions(gates.vision), images, split) for split in (True, False))
    np.testing.assert_allclose(split.sum(1), merged.sum(1), atol=1e-4)  # float32, sums of order 10
    assert split[:, 1].std(1).min() > 0 and not split[:, 2].any() and not merged[:, 1:].any()
    nowhere = params.replace(vision=params.vision.replace(P=0 * params.vision.P))
    assert not prefix(static, nowhere, Interventions(gates.vision), images)[:, 1].any()


def test_gates_of_a_reader_act_where_words_look_at_the_image(spoken):
    """A gate changes what is said; but not what the first layer passes between words alone: with image tokens masked it is idle."""
    static, _, params, gates, batch = spoken
    words = jnp.array([8, LEFT_OF, 9, EOT])
    seen = prefix(static, params, Interventions(gates.vision), batch.images)[0]
    zero = gates.replace(text=gates.text.at[..., :9].set(0))
    told = lambda gates, seen: np.asarray(read(static, params, Interventions(gates.text), seen, words))
    assert abs(told(zero, seen) - told(gates, seen)).max() > 1e-3
    nothing = seen[:, :0] if seen.ndim == 3 else seen[:0]
    np.testing.assert_allclose(told(zero, nothing), told(gates, nothing), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["autoregressive", "autoregressive_raw"])
def test_a_reader_learns_and_its_accuracies_have_names(objective):
    changes = dict(objective=objective, n_labels=(4,), seeds=1, steps=60, eval_every=30, lr=0.01)
    run = loop.advance(loop.start(tiny_sweep(**changes)))
    history = history_table(run)
    assert history["loss"][-1] < history["loss"][1] - 0.1
    assert 0 <= history["unseen_pair_order"][-1] <= 1 and np.isnan(history["unseen_pair_t2i"]).all()
    table = ablate.ablate(run, ("none", "EP"), encoder="text")
    assert set(table["ablation"].tolist()) == {"none", "EP"} and "unseen_pair_t2i" not in table


def test_a_head_has_the_bias_of_where_it_attends():
    """By hand: head 1 looks most at objects; before the first label more at the right one in .2 of images, before the second in
    .9.
    """
    axes, dims = {"model": [0], "word": ["first", "second"], "head": [0, 1]}, ("model", "word", "head")
    values = {
        "prefers_right": [[1.0, 0.2], [0.0, 0.9]],
        "attention_left": [[0.1, 0.6], [0.1, 0.1]],
        "attention_right": [[0.3, 0.1], [0.0, 0.7]],
    }
    answer = xr.Dataset({name: (dims, [value]) for name, value in values.items()}, axes)
    of_terms = xr.DataArray([[[[5.0, -1.0], [5.0, -2.0]], [[5.0, 3.0], [5.0, 4.0]]]], dims=("model", "word", "term", "head"))
    found = reading.attends_to(answer.assign(gradient=of_terms)).isel(model=0)
    np.testing.assert_allclose([found.attends_to_left, found.attends_to_right, found.bias_shift], [0.8, 0.9, 0.7])
    assert (found.gradient_first, found.gradient_second) == (-3, 7)


@pytest.mark.slow
def test_a_decoder_attends_where_its_pattern_says():
    """A raw reader whose words seek what stands far right, or far left: P is a ramp along one direction, which queries find at the
    relation word and shun where the caption begins. Its gradient there is (mean step of the ramp) x scale / sqrt(d_head).
    """
    run = untrained(tiny_model(objective="autoregressive_raw", n_heads=2))
    params = jax.tree.map(jnp.zeros_like, run.states[0].params)
    L, d_head = 10, 8
    text = params.text
    P = text.P.at[:, :L, 0].set(jnp.arange(L)).at[:, L, 1].set(-1.0).at[:, L + 2, 1].set(1.0)
    (block,) = text.blocks
    block = block.replace(W_Q=block.W_Q.at[:, 1, 0, 0].set(3.0), W_K=block.W_K.at[:, 0, 0, 0].set(1.0))
    state = run.states[0].replace(params=params.replace(text=text.replace(P=P, blocks=(block,))))
    found = reading.reading(dataclasses.replace(run, states=[state])).isel(model=0)
    assert found.prefers_right.sel(head=0).values.tolist() == [0, 1]
    np.testing.assert_allclose(found.prefers_right.sel(head=1), 0.5)  # it looks at all alike
    step = np.mean([j - i for i in range(L) for j in range(i + 1, L)])
    expected = step * 3 / d_head**0.5
    np.testing.assert_allclose(found.gradient.sel(head=0, term="PP"), [-expected, expected], rtol=1e-5)
    assert not found.gradient.sel(head=0, term=["EP", "BP"]).any() and not found.gradient.sel(head=1).any()
    right, left = (found[f"attention_{side}"].sel(head=0).values for side in ("right", "left"))
    assert right[1] > left[1] and left[0] > right[0]


def test_a_reader_takes_no_contrastive_options():
    with pytest.raises(
        InputError, match="hard_negatives: True is not possible; expected False: of the contrastive objective alone"
    ):
        config.validate_model(config.Model(**TINY, objective="autoregressive", hard_negatives=True))
