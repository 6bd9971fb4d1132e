"""The data law `fixed`: a finite set of images, every one of them once an epoch, in an order that is a function of (seed, step)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import tiny_model
from lrjax import config
from lrjax.data import finite_set
from lrjax.data.captions import batch_words
from lrjax.data.splits import at_draw
from lrjax.errors import InputError
from lrjax.models import clip
from lrjax.training.step import batch_at

permuted, splits_of = jax.jit(finite_set.permuted), jax.jit(clip.model_splits, static_argnums=0)
batch_items = jax.jit(finite_set.batch_items, static_argnums=3)
KEY = jax.random.key(0)
TASKS = (
    dict(),
    dict(distinct=True),
    dict(relations="left+right", single_caption_length=4),
    dict(task="row:distractors=2"),
    dict(task="grid:height=3,width=3", relations="all", n2=4),
    dict(task="three", L=5, n2=3),
)


def parts(**fields):
    model = tiny_model(**{"data": "fixed", "n_labels": 4, "n1": 3, "n2": 2, "n_heldout": 3} | fields)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    return model, static, hyper, splits_of(static, hyper)


@pytest.mark.parametrize("n", [1, 2, 3, 50, 257, 2200])
def test_a_permutation_of_any_size_visits_every_index_once(n):
    index = jnp.arange(n)
    assert sorted(permuted(KEY, index, n).tolist()) == list(range(n))
    pieces = [permuted(KEY, index[i : i + 1], n) for i in (0, n // 2, n - 1)]
    assert [int(piece[0]) for piece in pieces] == [int(permuted(KEY, index, n)[i]) for i in (0, n // 2, n - 1)]


def test_orders_of_epochs_look_random():
    """Chi-squared of where each of 8 indices goes, over 1,600 keys, and of what follows it: within 4 deviations of its mean."""
    orders = np.asarray(jax.jit(jax.vmap(lambda key: finite_set.permuted(key, jnp.arange(8), 8)))(jax.random.split(KEY, 1600)))
    goes = np.array([[(orders[:, i] == j).sum() for j in range(8)] for i in range(8)])
    follows = np.array([[((orders[:, :-1] == i) & (orders[:, 1:] == j)).sum() for j in range(8) if j != i] for i in range(8)])
    for counts, freedom in ((goes, 49), (follows, 41)):
        expected = counts.mean()
        chi2 = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi2 - freedom) < 4 * np.sqrt(2 * freedom) + 14, (chi2, freedom)


def test_draws_with_replacement_name_places_in_the_order_of_their_first_appearance():
    of_keys = jax.jit(jax.vmap(lambda key: finite_set.first_appearance_ranks(key, 6)))
    ranks = np.asarray(of_keys(jax.random.split(KEY, 4000)))
    seen = np.maximum.accumulate(ranks, 1)
    assert (ranks[:, 0] == 0).all() and (np.diff(seen, axis=1) <= 1).all()
    # six draws from six places show 6 (1 - (5/6)^6) = 3.99 of them on average; one run has deviation .81
    assert abs((seen[:, -1] + 1).mean() - 6 * (1 - (5 / 6) ** 6)) < 4 * 0.81 / np.sqrt(4000)


@pytest.mark.slow
@pytest.mark.parametrize("fields", TASKS, ids=str)
def test_an_epoch_visits_every_item_once(fields):
    """Where the batch divides the set; every image is of the trained part, and no image of the evaluation's held-out part is."""
    model, static, hyper, splits = parts(**fields)
    task, n = static.task_object, int(static.task_object.n_items(model.n_labels, model.n1, model.n2))
    per_epoch = 2 if n % 2 == 0 else 1
    number = lambda step: batch_items(KEY, np.int32(step), n, n // per_epoch)
    epochs = [np.concatenate([number(e * per_epoch + k) for k in range(per_epoch)]) for e in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(n)) for epoch in epochs) and (epochs[0] != epochs[1]).any()

    @jax.jit
    def drawn():
        return task.items(KEY, splits, hyper, jnp.arange(n)), task.eval_sets(KEY, splits, hyper, True)

    items, asked = jax.device_get(drawn())
    singles = np.asarray(items.kind) == 0
    assert singles.sum() == (model.n_heldout + model.n_labels) * model.n1
    labels = np.asarray(items.images.tokens - task.n_first).T[:, : task.objects_per_scene]
    groups = {tuple(row) for row in labels[~singles].tolist()}
    assert len(groups) == np.prod([model.n_labels - i for i in range(task.objects_per_scene)])
    assert labels[~singles].min() >= model.n_heldout, "held-out labels stand in no training pair"
    counts = np.unique(labels[~singles], axis=0, return_counts=True)[1]
    assert set(counts.tolist()) == {model.n2 * task.captions_per_image}
    shown = {(*image[0], *image[1]) for image in zip(*(np.sort(x.T, 1).tolist() for x in _image(items)), strict=True)}
    for name in ("single", "seen_pair"):
        used = np.asarray(asked[name].weight) > 0
        held_out = zip(*(np.sort(x.T, 1)[used].tolist() for x in _image(asked[name])), strict=True)
        assert not shown & {(*image[0], *image[1]) for image in held_out}, name


def _image(items):
    """What tells images apart: which token stands at which place, without distractors."""
    tokens, positions = items.images.tokens[:3], items.images.positions[:3]
    return np.where(tokens < 6, 0, 1000 * positions + tokens), np.where(tokens < 6, 0, positions)


def test_captions_of_items_are_true_and_those_of_an_item_never_change():
    _, static, hyper, splits = parts(relations="left+right", single_caption_length=4)
    task = static.task_object
    n = int(task.n_items(hyper.n_labels, hyper.n1, hyper.n2))

    @jax.jit
    def told(numbers):
        items = task.items(KEY, splits, hyper, numbers)
        return items, batch_words(task, items)

    items, words = jax.device_get(told(np.arange(n)))
    left, right = items.images.tokens
    for kind, said, a, b in zip(items.kind.tolist(), words.tolist(), left.tolist(), right.tolist(), strict=True):
        if kind == 0:
            assert said == [a, 1, 3, 2], "[label] [is] [in the image] [EOT]"
        else:
            assert said in ([a, 4, b, 2], [b, 5, a, 2])
    np.testing.assert_array_equal(told(np.arange(n)[::-1])[1][::-1], words)


def test_noise_is_of_items():
    """An item that says the opposite does so in every epoch."""
    model, static, hyper, splits = parts(caption_noise=0.5, batch_size=12)
    n = int(static.task_object.n_items(model.n_labels, model.n1, model.n2))
    told = {}
    at, key = jax.jit(partial(batch_at, static, hyper, splits)), clip.rng_stream(hyper.seed, "batches")
    for step in range(3 * (n // 12)):
        batch = at(jnp.int32(step))
        number = batch_items(key, np.int32(step), n, 12)
        for item, word in zip(number.tolist(), np.asarray(batch.captions[0].tokens).T.tolist(), strict=True):
            assert told.setdefault(item, word) == word
    assert len(told) > n / 2


def test_draws_are_of_the_model_and_not_of_how_many_there_are():
    """The same images for n2 = 2 as the first two of n2 = 5; padding to more labels changes none."""
    _, _, hyper, splits = parts(n2=5)
    wide = config.make_static([tiny_model(data="fixed", n_labels=n, n_heldout=3) for n in (4, 7)])
    padded = splits_of(wide, hyper)
    for x, y in ((0, 1), (3, 2)):
        places = [at_draw(s.pairs, s.pair_draws, (x, y), np.arange(5)).tolist() for s in (splits, padded)]
        assert places[0] == places[1]


def test_lengths_in_epochs():
    sweep = config.make_sweep(config.get_config(data="fixed", n_labels=(5, 15), batch_size=50, epochs=10_000, seeds=1))
    assert [sweep.evaluated_at(model)[-1] for model in sweep.models] == [50_000, 440_000], "SPEC, section 1"
    assert sweep.evaluated_at(sweep.models[0])[:3] == (0, 5_000, 10_000) and sweep.longest == 440_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(epochs=10), "config.epochs: 10 is not possible; expected 0 where data = 'resampled'"),
        (dict(data="fixed", zipf=(1.0,)), "config.zipf: 1.0 is not possible; expected 0 where data = 'fixed'"),
        (dict(distinct=True), "config.distinct: True is not possible; expected False where data is resampled"),
        (dict(data="fixed", n_labels=(2,), n2=1, n1=1, batch_size=50), "config.batch_size: 50 is not possible"),
        (dict(data="finite"), "config.data: 'finite' is not possible; expected 'resampled' or 'fixed'"),
        (dict(scales=((1.0, 1.0),), e_scale=(0.1,)), "config.e_scale: (0.1,) is not possible; expected the default"),
        (dict(data="fixed", epochs=10, evaluations=0), "config.evaluations: 0 is not possible"),
        (dict(single_caption_length=5), "config.single_caption_length: 5 is not possible"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(InputError) as error:
        config.make_sweep(config.get_config(**changes))
    assert str(error.value).startswith(message)


def test_pairs_of_scales_replace_the_product():
    sweep = config.make_sweep(config.get_config(scales=((1.0, 1.0), (0.02, 0.088)), n_labels=(5,), seeds=2))
    assert [(m.e_scale, m.p_scale) for m in sweep.models] == [(1.0, 1.0)] * 2 + [(0.02, 0.088)] * 2
