"""Retrieval in every task: its definition by loops, and untrained models at chance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import tiny_model
from lrjax import config
from lrjax.data.tasks import pairs as of_pairs
from lrjax.data.tasks import three
from lrjax.metrics import METRICS
from lrjax.models import clip, encoder
from lrjax.models import retrieval as similarity
from lrjax.models.interventions import ModelInterventions
from lrjax.training import retrieval
from tokens_read import KEY, names, world_of


def retrieve_near(world, name, target):
    """Random caption embeddings, and images of a set that stand near one of them, numbers `target(asked)` [n]: the questions, the
    similarities of images and captions that exist [n, c], the labels that captions name, and what `evaluate` makes of it.
    """
    asked = world.asked[name]
    used = np.nonzero(asked.weight > 0)[0][:150]
    asked = jax.tree.map(lambda x: x[..., used], asked).replace(images=np.arange(len(used)), swapped=np.arange(len(used)))
    among = slice(*asked.candidates)
    captions = encoder.l2_normalize(jax.random.normal(KEY, (len(world.sentences[among]), 8)))
    images = encoder.l2_normalize(captions[target(asked)] + 0.4 * jax.random.normal(jax.random.key(4), (len(used), 8)))
    exists, named = world.captions.exists[among], world.captions.names[:, among]
    of_words, ways = world.task.metric_breakdown(name), world.task.HARD_NEGATIVES.get(name, ())
    in_set, embed = exists & world.task.of_set(name, named), lambda image: images[image]
    candidates = jax.tree.map(jnp.asarray, similarity.Candidates(captions, exists, in_set[None], named))
    found, _ = jax.jit(lambda: similarity.retrieve(candidates, [asked], embed, of_words, ways))()
    return (
        asked,
        np.where(exists, images @ captions.T, -np.inf),
        [names(claims) for claims in world.sentences[among]],
        {name: value[0] for name, value in found.items()},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("grid, all words", "unseen_pair"), ("three", "unseen_pair"), ("three", "seen_chain")])
def test_retrieval_equals_its_definition(kind, name):
    """By loops; images stand near any caption of their labels, true or not, so that nothing is always right."""
    world, chance = world_of(kind), np.random.default_rng(0)

    def target(asked):
        any_of = np.concatenate([asked.true, asked.true, asked.hard_negatives.reshape(-1, asked.true.shape[1])])
        return any_of[chance.integers(0, len(any_of), any_of.shape[1]), np.arange(any_of.shape[1])]

    asked, similarity, named, found = retrieve_near(world, name, target)
    best, label_set, won = [], [], []  # won: (word, way, whether the true caption stands above the wrong one)
    for n, row in enumerate(similarity):
        held = np.nonzero(asked.is_true[:, n])[0]
        best.append(row.argmax() in asked.true[held, n])
        of_labels = named[row.argmax()] <= set(asked.labels[:, n].tolist())
        label_set.append(of_labels and len(named[row.argmax()]) == len(named[asked.true[0, n]]))
        won += [
            (r, f, row[asked.true[r, n]] > row[hard_negatives])
            for r in held
            for f, hard_negatives in enumerate(asked.hard_negatives[:, r, n])
        ]
    word, way, won = np.array(won).T
    expected = {"": np.mean(best), "_label_set": np.mean(label_set), "_order": won.mean()}
    expected |= {f"_order_{name}": won[word == r].mean() for r, name in enumerate(world.task.metric_breakdown(name))}
    expected |= {f"_order_{name}": won[way == f].mean() for f, name in enumerate(world.task.HARD_NEGATIVES.get(name, ()))}
    for suffix, value in expected.items():
        np.testing.assert_allclose(found[suffix], value, atol=1e-6, err_msg=suffix)
        assert 0 < value < 1, "a reference that cannot fail proves nothing"


CHANCE = [
    ("grid:height=3,width=3", "left+above", {}),
    ("grid:height=4,width=4,size=2,patch=2", "all", {"positions": "row_column"}),
    ("three", "left", {"L": 5}),
    ("row:distractors=2", "left", {"L": 5}),
    ("nearer", "nearer", {"L": 6}),
    ("row", "left", {"L": 5, "objective": "autoregressive"}),
    ("row", "left", {"L": 5, "supervision": 1.0}),
]


def choose_at_random(metrics, model, static):
    """Image -> text of untrained models, `metrics` [24]: at most, or exactly, what one has who chooses among captions at random."""
    words, of_three = static.task_object.words, model.task == "three"
    hyper = config.make_hyper(model)

    @jax.jit
    def drawn(hyper):
        return static.task_object.eval_sets(jax.random.key(0), clip.model_splits(static, hyper), hyper, False)["unseen_pair"]

    asked = jax.device_get(drawn(hyper))
    true, counts = np.asarray(asked.true), np.asarray(asked.is_true & (asked.weight > 0)[None])
    of_images, n = np.bincount(true[counts]), int((asked.weight > 0).sum())
    n_captions = len(words) * 6 * 5  # of 3 + 3 labels
    error = lambda name: 5 * metrics[name].std() / 24**0.5 + 1e-3
    top1 = counts.sum() / n / n_captions
    assert metrics["unseen_pair"].mean() < top1 + error("unseen_pair")
    if not of_three:  # where a pair names but two of an image's labels
        set_of = 2 * len(words) / n_captions
        assert metrics["unseen_pair_label_set"].mean() < set_of + error("unseen_pair_label_set")
    if model.objective == "contrastive":  # among the captions of 3 x 2 ordered pairs; of three objects all are of an image's labels
        of_set = {"unseen_pair_label_set_in_set": 1 if of_three else 1 / 3}
        of_set |= {"unseen_chain_in_set": 1 / 6} if of_three else {}
        of_set |= {"unseen_pair_in_set": 1 / 2 if of_three else 1 / 6} if len(words) == 1 else {}
        for name, chance in of_set.items():
            assert abs(metrics[name].mean() - chance) < error(name), name
    if "unseen_pair_t2i" in metrics:
        assert abs(metrics["unseen_pair_t2i"].mean() - of_images[true[counts]].mean() / n) < error("unseen_pair_t2i")


@pytest.mark.slow
@pytest.mark.parametrize(("text", "relations", "fields"), CHANCE, ids=[" ".join([text, *fields]) for text, _, fields in CHANCE])
def test_an_untrained_model_is_at_chance(monkeypatch, text, relations, fields):
    """24 untrained models: every order 1/2 within 5 standard errors, and text -> image the share of images of which a caption is
    true. Image -> text, top-1 and label set are at most those of one who chooses among the captions of several objects, since it
    may be those of one that stand nearest. Random embeddings know labels of nothing.
    """
    monkeypatch.setattr(three, "SAMPLE", 32)
    monkeypatch.setattr(of_pairs, "SAMPLE", 32)
    model = tiny_model(n_labels=3, n_heldout=3, task=text, relations=relations, n1=2, n2=4, **fields)
    static = config.make_static([model])

    def one(seed):
        hyper = jax.tree.map(jnp.asarray, config.make_hyper(model)).replace(seed=seed)
        params, splits = clip.init_clip(static, hyper), clip.model_splits(static, hyper)
        return retrieval.evaluate(static, hyper, splits, params, ModelInterventions(), False)

    metrics = jax.jit(jax.vmap(one))(jnp.arange(24, dtype=jnp.uint32))
    told, ways = ("xy", "yz", "xz"), ("xzy", "yxz", "yzx", "zxy", "zyx")
    words = {"left": (), "nearer": (), "left+above": ("left", "above"), "all": ("left", "right", "above", "below")}[relations]
    sets = dict.fromkeys(("seen_pair", "unseen_pair"), words)
    sets = sets if text != "three" else {"seen_pair": told, "unseen_pair": told, "seen_chain": ways, "unseen_chain": ways}
    suffixes = ("",) if "objective" in fields else ("", "_t2i")
    suffixes += ("_located",) if "supervision" in fields else ()
    orders = {f"{name}_order{suffix}" for name, apart in sets.items() for suffix in (*suffixes, *(f"_{one}" for one in apart))}
    assert {name for name in metrics if "order" in name} == orders
    if "objective" in fields:
        assert not any(name.endswith(("_t2i", "_in_set")) for name in metrics), "a reader has no candidates"
    else:
        assert set(METRICS) <= set(metrics)
    for name, values in metrics.items():
        assert ((values >= 0) & (values <= 1)).all(), name
        if "order" in name:
            error = values.std() / 24**0.5 + 1e-3
            assert abs(values.mean() - 0.5) < 5 * error, name
    choose_at_random(metrics, model, static)
