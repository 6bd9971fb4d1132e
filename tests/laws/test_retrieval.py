"""Retrieval against a brute-force reference, and on embeddings whose answer is known."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import config
from lrjax.config import Hyper
from lrjax.data import scenes
from lrjax.data.scenes import FIRST_LABEL, Scene
from lrjax.data.tasks import pairs
from lrjax.data.tasks.base import EvalSet
from lrjax.data.tasks.row import Row
from lrjax.metrics import METRICS, ends
from lrjax.models import clip, contrastive
from lrjax.models import retrieval as similarity
from lrjax.models.encoder import l2_normalize
from lrjax.models.interventions import ModelInterventions
from lrjax.training import retrieval

A = 5


def all_pairs(k=3):
    x, y, _ = np.indices((A, A, k)).reshape(3, -1)
    keep = x != y
    n = keep.sum()
    return Scene(jnp.array(x[keep]), jnp.array(y[keep]), jnp.zeros(n, int), jnp.ones(n, int))


def random_captions(R=1):
    return l2_normalize(jax.random.normal(jax.random.key(0), (R, A, A, 8)))


def valid_for(n, R=1):
    word, x, y = np.indices((R, A, A))
    return jnp.array((x < n) & (y < n) & ((x != y) | (word == 0)))


def noisy(captions, scale, word=0):
    """Images that are their caption plus noise (deterministic in the scene)."""

    def embed(s):
        right = jnp.where(s.right < 0, s.left, s.right)
        key = s.left * 100 + s.right * 10 + s.i
        noise = jax.vmap(lambda k: jax.random.normal(jax.random.key(k), (8,)))(key.reshape(-1)).reshape(*key.shape, 8)
        return l2_normalize(captions[word][s.left, right] + scale * noise)

    return embed


def of_one_set(candidates, asked, embed, *breakdown):
    found, _ = similarity.retrieve(candidates, [asked], embed, *breakdown)
    return {suffix: value[0] for suffix, value in found.items()}


@partial(jax.jit, static_argnames="embed")
def retrieve(captions, valid, s, weight, embed):
    """`evaluate.retrieve` of scenes and captions [R, A, A, e], of which (0, x, x) is "x is in the image"."""
    task = Row(n_heldout=2, n_labels_max=A - 2, L=10, relations="left+right" if len(captions) > 1 else "left")
    asked = task.eval_set(s, weight)
    every = jnp.arange(A)
    flat = lambda x: jnp.concatenate([x[0, every, every], x.reshape(-1, *x.shape[3:])])
    pairs = valid & ~jnp.eye(A, dtype=bool)[None]
    exists = jnp.concatenate([valid[0, every, every], pairs.reshape(-1)])
    in_set = exists & (jnp.arange(len(exists)) >= A)  # the captions of all pairs
    found = task.captions(Hyper(**dict.fromkeys(Hyper.__dataclass_fields__)).replace(n_labels=A - 2))
    asked = asked.replace(images=s, swapped=scenes.swapped(s))  # what `embed` takes
    return of_one_set(similarity.Candidates(flat(captions), exists, in_set[None], found.names), asked, embed)


def brute_force(captions, valid, s, weight, embed):
    """The definitions of SPEC, by loops and argmax."""
    R = len(captions)
    images, swapped = jax.device_get(jax.jit(lambda s: (embed(s), embed(scenes.swapped(s))))(s))
    s = jax.device_get(s)
    names = [(r, x, y) for r in range(R) for x in range(A) for y in range(A) if valid[r, x, y]]
    table = np.stack([captions[n] for n in names])
    used = [b for b in range(len(weight)) if weight[b] > 0]
    in_set = [x != y for _, x, y in names]
    out = {name: [] for name in ("", "_order", "_label_set", "_labels", "_t2i", "_order_t2i", "_label_set_t2i")}
    out |= {"_in_set": [], "_label_set_in_set": []}
    for b in used:
        x, y = int(s.left[b]), int(s.right[b])
        _, tx, ty = names[int(np.argmax(table @ images[b]))]
        out[""].append((tx, ty) == (x, y))
        out["_label_set"].append({tx, ty} == {x, y})
        out["_labels"].append(len({tx, ty} & {x, y}) / 2)
        _, tx, ty = names[int(np.argmax(np.where(in_set, table @ images[b], -np.inf)))]
        out["_in_set"].append((tx, ty) == (x, y))
        out["_label_set_in_set"].append({tx, ty} == {x, y})
        for r in range(R):
            true, false = captions[r, x, y], captions[r, y, x]
            out["_order"].append(images[b] @ true > images[b] @ false)
            out["_order_t2i"].append(images[b] @ true > swapped[b] @ true)
            top = used[int(np.argmax([images[c] @ true for c in used]))]
            pair = int(s.left[top]), int(s.right[top])
            out["_t2i"].append(pair == (x, y))
            out["_label_set_t2i"].append(set(pair) == {x, y})
    return {name: np.mean(values) for name, values in out.items()}


@pytest.mark.slow
@pytest.mark.parametrize("R", [1, 2])
@pytest.mark.parametrize("block", [7, similarity.BLOCK])
def test_retrieval_equals_brute_force(monkeypatch, R, block):
    captions, valid, s = random_captions(R), valid_for(A, R), all_pairs()
    s = s.replace(i=jnp.arange(len(s.i)) % 3)
    monkeypatch.setattr(similarity, "BLOCK", block)
    weight = jnp.array(np.random.default_rng(0).random(len(s.i)) < 0.7, jnp.float32)
    embed = noisy(captions, 0.6)
    ours = retrieve(captions, valid, s, weight, embed)
    for name, expected in brute_force(np.asarray(captions), valid, s, weight, embed).items():
        np.testing.assert_allclose(ours[name], expected, atol=1e-6, err_msg=name)
        assert 0 < expected < 1, "a reference that cannot fail proves nothing"


def test_accuracies_end_at_0_and_1_and_nothing_else_does():
    assert all(ends(name) == (0, 1) for name in (*METRICS, "unseen_chain_order", "unseen_pair_named"))
    assert all(ends(name) is None for name in ("loss", "ratio", "position_gradient", "share_EP", "skilled_at"))


def test_perfect_images_score_one():
    captions, s = random_captions(), all_pairs()
    found = retrieve(captions, valid_for(A), s, jnp.ones(len(s.i)), noisy(captions, 0.0))
    assert {name: float(v) for name, v in found.items()} == dict.fromkeys(found, 1.0)


def test_images_of_the_swapped_caption_keep_the_label_set_and_lose_order():
    captions, s = random_captions(), all_pairs()
    mirror = captions.swapaxes(1, 2)
    found = retrieve(captions, valid_for(A), s, jnp.ones(len(s.i)), noisy(mirror, 0.0))
    assert found[""] == 0 and found["_order"] == 0 and found["_label_set"] == 1
    assert found["_t2i"] == 0 and found["_order_t2i"] == 0 and found["_label_set_t2i"] == 1


def test_a_model_blind_to_order_is_at_one_half_exactly():
    """Images equal to their mirror and captions equal to their swap: every comparison is a tie."""
    captions = random_captions()
    captions = l2_normalize(captions + captions.swapaxes(1, 2))
    s = all_pairs()
    found = retrieve(captions, valid_for(A), s, jnp.ones(len(s.i)), noisy(captions, 0.0))
    assert all(found[name] == 0.5 for name in ("", "_order", "_t2i", "_order_t2i"))
    assert found["_label_set"] == found["_label_set_t2i"] == 1


# 0 and 1 in the image, (0, 1) and (1, 0), which are the set's own, and (0, 2) and (2, 0)
NAMES = np.array([[0, 1, 0, 1, 0, 2], [0, 1, 1, 0, 2, 0]])
OWN = np.array([False, False, True, True, False, False])
SIMILARITIES = np.array(
    [  # the true caption, and what is expected: top-1, top-1 in set, label set, label set in set
        [0.9, 0.0, 0.5, 0.1, 0.0, 0.0],  # (0, 1): 0 1 0 1
        [0.0, 0.0, 0.5, 0.6, 0.7, 0.0],  # (0, 1): 0 0 0 1
        [0.0, 0.0, 0.5, 0.5, 0.1, 0.1],  # (1, 0): 1/2 1/2 1 1
        [0.0, 0.0, 0.0, 0.8, 0.8, 0.0],  # (1, 0): 1/2 1 1/2 1
        [0.0, 0.9, 0.0, 0.1, 0.0, 0.0],  # (0, 1), an image that does not count
    ],
    np.float32,
)
TRUE = np.array([2, 2, 3, 3, 2])


@jax.jit
def retrieve_known(similarities):
    """`evaluate.retrieve` of images whose similarities to six captions are known."""
    number = jnp.arange(len(TRUE))
    asked = EvalSet(
        images=number,
        swapped=number,
        weight=jnp.array([1.0, 1, 1, 1, 0]),
        labels=jnp.array([[0] * 5, [1] * 5]),
        true=jnp.array(TRUE)[None],
        is_true=jnp.ones((1, 5), bool),
        hard_negatives=jnp.array(5 - TRUE)[None, None],
    )
    exists = jnp.ones(6, bool)
    candidates = similarity.Candidates(jnp.eye(6), exists, jnp.array(OWN)[None], jnp.array(NAMES))
    return of_one_set(candidates, asked, lambda image: similarities[image])


def test_both_kinds_of_candidates_on_known_similarities():
    found = retrieve_known(jnp.array(SIMILARITIES))
    expected = dict.fromkeys(("", "_in_set", "_label_set", "_label_set_in_set"), 0.0)
    right_set = (np.sort(NAMES, 0) == np.array([[0], [1]])).all(0)
    for row, true in zip(SIMILARITIES[:4], TRUE[:4], strict=True):
        for suffix, candidates in {"": np.ones(6, bool), "_in_set": OWN}.items():
            best = candidates & (row == row[candidates].max())
            expected[suffix] += best[true] / best.sum() / 4
            expected[f"_label_set{suffix}"] += (best & right_set).sum() / best.sum() / 4
    assert expected == {"": 0.25, "_in_set": 0.625, "_label_set": 0.375, "_label_set_in_set": 1.0}
    assert {name: float(found[name]) for name in expected} == expected


def test_fewer_candidates_never_make_it_worse():
    """Similarities that differ by parts of what counts as a tie too, so that ties are no equivalence."""
    steps = jax.random.randint(jax.random.key(0), (500, *SIMILARITIES.shape), 0, 6)
    found = jax.jit(jax.vmap(retrieve_known))(steps * 0.4 * similarity.TIE)
    for name in ("", "_label_set"):
        less, more = found[name], found[f"{name}_in_set"]
        assert (more >= less).all() and (more > less).any() and (less > 0).any()


def test_captions_of_labels_a_model_does_not_have_are_no_candidates():
    """A caption of a padded label is nearer to every image than the true one; it must not be asked."""
    captions, s = random_captions(), all_pairs()
    image = l2_normalize(captions[0, 0, 1] + 0.1 * captions[0, 0, 2])
    captions = captions.at[0, 4].set(image)
    keep = (s.left == 0) & (s.right == 1)
    embed = lambda s: jnp.broadcast_to(image, (*s.left.shape, 8))
    for labels, right in ((4, 1), (5, 0)):
        found = retrieve(captions, valid_for(labels), s, keep.astype(float), embed)
        assert found[""] == found["_in_set"] == right


def test_a_collapsed_model_is_at_chance():
    """All embeddings equal: credit is shared among all that tie."""
    captions, s = jnp.ones((1, A, A, 8)) / 8**0.5, all_pairs()
    embed = lambda s: jnp.ones((*s.left.shape, 8)) / 8**0.5
    found = retrieve(captions, valid_for(A), s, jnp.ones(len(s.i)), embed)
    n_captions, n_pairs = 25, 20
    expected = {"": 1 / n_captions, "_label_set": 2 / n_captions, "_t2i": 1 / n_pairs, "_label_set_t2i": 2 / n_pairs}
    expected |= {"_labels": 2 * 9 / n_captions / 2}  # a label is in 9 of the 25 captions
    expected |= {"_in_set": 1 / n_pairs, "_label_set_in_set": 2 / n_pairs}
    for name, value in (expected | {"_order": 0.5, "_order_t2i": 0.5}).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_a_model_that_is_not_a_number_has_no_accuracy():
    captions, s = random_captions(), all_pairs()
    found = retrieve(captions * jnp.nan, valid_for(A), s, jnp.ones(len(s.i)), noisy(captions, 0.0))
    assert all(np.isnan(value) for value in found.values())


def test_sets_that_are_retrieved_together_are_told_apart(monkeypatch):
    """Each set has the metrics and embeddings that it has alone, though blocks of both run through one loop."""
    captions, few = jnp.asarray(random_captions()[0].reshape(-1, 8)), 5
    exists, names = jnp.ones(len(captions), bool), jnp.stack(jnp.divmod(jnp.arange(len(captions)), A))
    task, own = Row(n_heldout=2, n_labels_max=A - 2, L=10, relations="left"), jnp.arange(len(captions)) % 2 == 0
    embed = lambda images: noisy(captions.reshape(1, A, A, 8), 0.6)(images)
    monkeypatch.setattr(similarity, "BLOCK", 7)

    def asked(s):
        found = task.eval_set(s, jnp.ones(len(s.i)))
        true = s.left * A + s.right
        wrong = (s.right * A + s.left)[None, None]
        return dataclasses.replace(found, images=s, swapped=scenes.swapped(s), true=true[None], hard_negatives=wrong)

    sets = [asked(all_pairs()), asked(jax.tree.map(lambda x: x[:few], all_pairs(1)))]
    one = lambda sets, own: similarity.retrieve(similarity.Candidates(captions, exists, own, names), sets, embed)
    together, embedded = jax.jit(lambda: one(sets, jnp.stack([own, ~own])))()
    for i, (each, of_set) in enumerate(zip(sets, (own, ~own), strict=True)):
        alone, (of_images,) = jax.jit(lambda each=each, of_set=of_set: one([each], of_set[None]))()
        np.testing.assert_allclose(embedded[i], of_images, atol=1e-6)
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][i], value[0], atol=1e-6, err_msg=name)
    assert any(abs(together[name][0] - together[name][1]) > 0.05 for name in together)


def test_whether_all_images_are_meant_can_be_traced(tiny):
    """Arrays have room for all images then; a sample has the same images as without room, and no block beyond them is looked at."""
    static, hyper, _, splits = tiny
    task = dataclasses.replace(static.task_object, n_labels_max=12)  # 6,480 images, of which 2,048 are a sample
    splits = task.splits(jax.random.key(2))
    draw = lambda exhaustive: task.eval_sets(jax.random.key(0), splits, hyper, exhaustive)["seen_pair"]
    for exhaustive in (True, False):
        alone, traced = jax.jit(lambda exhaustive=exhaustive: draw(exhaustive))(), jax.jit(draw)(jnp.bool_(exhaustive))
        n = len(alone.weight)
        assert int(traced.looked_at) == n and (traced.weight[n:] == 0).all() and len(traced.weight) == 12**2 * 45
        jax.tree.map(
            lambda x, y: np.testing.assert_array_equal(x, y[..., :n]),
            dataclasses.replace(alone, looked_at=None),
            dataclasses.replace(traced, looked_at=None),
        )
        blocks = jax.jit(lambda traced=traced: similarity.in_blocks([traced], 512).looked_at)()
        assert blocks.sum() == -(-n // 512)


def test_sequences_are_embedded_in_blocks_as_they_are_at_once(tiny, monkeypatch):
    """What evaluation measures does not depend on how many images and captions it embeds at a time."""
    static, hyper, params, splits = tiny

    def measured(block):
        monkeypatch.setattr(contrastive, "EMBEDDED_AT_A_TIME", block)
        return jax.jit(lambda: retrieval.evaluate(static, hyper, splits, params, ModelInterventions(), exhaustive=False))()

    few, at_once = measured(7), measured(10_000)
    for name, value in few.items():
        np.testing.assert_allclose(value, at_once[name], atol=1e-6, err_msg=name)  # float32 rounding


@pytest.mark.parametrize("exhaustive", [True, False])
def test_image_sets_hold_only_what_was_not_trained(tiny, exhaustive):
    static, hyper, _, splits = tiny
    draw = jax.jit(lambda splits, hyper: static.task_object.eval_sets(jax.random.key(0), splits, hyper, exhaustive))
    splits, sets = jax.device_get((splits, draw(splits, hyper)))
    objects = {name: np.concatenate([q.images.tokens - FIRST_LABEL, q.images.positions - 1]).T for name, q in sets.items()}
    for (label, _, place, _), w in zip(objects["single"], sets["single"].weight, strict=True):
        trained = splits.positions[label, : int(hyper.n1)]
        assert (place in trained.tolist()) == (w == 0)
    assert sets["single"].weight.sum() == 11 * 5  # 11 labels, 10 - n1 = 5 positions held out
    assert sets["unseen_pair"].weight.sum() == 900 == len(set(map(tuple, objects["unseen_pair"].tolist())))
    weight = np.asarray(sets["seen_pair"].weight)
    assert weight.sum() == (6 * 5 * 35 if exhaustive else pairs.SAMPLE)
    layouts = scenes.layouts(static.L).tolist()
    for x, y, i, j in objects["seen_pair"][weight > 0][::37].tolist():
        x, y, layout = x - 5, y - 5, layouts.index([i, j])
        assert x != y and layout not in splits.pairs[x, y, : int(hyper.n2)].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("relations", ["left", "left+right"])
def test_an_untrained_model_is_at_chance(relations):
    """64 untrained models: order 1/2 within 5 standard errors, top-1 near 1 in the number of captions."""
    model = config.Model(d_model=16, n_heads=2, d_embed=16, n_labels=5, relations=relations)
    static = config.make_static([model])

    def one(seed):
        hyper = jax.tree.map(jnp.asarray, config.make_hyper(model)).replace(seed=seed)
        params, splits = clip.init_clip(static, hyper), clip.model_splits(static, hyper)
        return retrieval.evaluate(static, hyper, splits, params, ModelInterventions(), False)

    metrics = jax.jit(jax.vmap(one))(jnp.arange(64, dtype=jnp.uint32))
    for name in ("seen_pair", "unseen_pair"):  # of 20 ordered pairs, said with each word
        for suffix, chance in {"_in_set": 1 / 20, "_label_set_in_set": 1 / 10}.items():
            values = metrics[name + suffix]
            assert abs(values.mean() - chance) < 5 * values.std() / 8, name + suffix
            assert (values >= metrics[name + suffix.removesuffix("_in_set")]).all()
    of_words = {f"{name}_order_{word}" for name in ("seen_pair", "unseen_pair") for word in ("left", "right")}
    assert set(metrics) == {*METRICS, *(of_words if relations == "left+right" else ())}
    for name, values in metrics.items():
        assert ((values >= 0) & (values <= 1)).all(), name
        if "order" in name:
            error = values.std() / 8 + 1e-3
            assert abs(values.mean() - 0.5) < 5 * error, name
    assert metrics["unseen_pair"].mean() < 0.1
