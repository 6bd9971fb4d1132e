"""How captions are read: where EOT looks, by hand and in a sweep, and how far a swap of labels moves an embedding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures_read
from compiled import embed_images
from conftest import one_command, tiny_model, untrained
from lrjax.analysis import text
from lrjax.data.scenes import FIRST_LABEL, captions_of
from lrjax.gates import parse_gates
from lrjax.models.clip import embed_captions, unit_gates
from lrjax.models.interventions import Interventions
from lrjax.plotting import text as figures

in_captions, of_facts = (jax.jit(question, static_argnums=0) for question in (text.in_captions, text.of_facts))


@pytest.fixture(scope="module")
def run(shaken):
    return shaken


def by_hand(static, params):
    """Head 0 scores a key by its position: first 6, relation 0, second 2, EOT 0, over sqrt(d_head). Head 1 by its label."""
    zero = jax.tree.map(jnp.zeros_like, params.text)
    block = zero.blocks[0]
    block = block.replace(b_Q=block.b_Q.at[:, 0].set(1.0), W_K=block.W_K.at[0, 0, 0].set(1.0).at[1, 1, 0].set(1.0))
    P = zero.P.at[:, 0].set(jnp.array([6.0, 0.0, 2.0, 0.0]))
    E = zero.E.at[FIRST_LABEL:, 1].set(jnp.arange(static.n_labels_total) + 1.0)
    return params.replace(text=zero.replace(E=E, P=P, blocks=(block,)))


def test_a_head_of_places_and_a_head_of_labels(tiny):
    static, hyper, params, splits = tiny
    found = in_captions(static, hyper, splits, by_hand(static, params), unit_gates(static))
    root = np.sqrt(static.d_model // static.n_heads)
    scores = np.exp(np.array([6, 0, 2, 0]) / root)
    for s in range(2):  # held-out and trained labels
        np.testing.assert_allclose(found["attention"][s, 0, 0, 0], scores / scores.sum(), rtol=1e-5)
        np.testing.assert_allclose(found["prefers_first"][s, 0, 0], [1, 0.5], rtol=1e-6)
        np.testing.assert_allclose(found["log_odds"][s, 0, 0], [4 / root, 0], atol=1e-6)
    np.testing.assert_allclose(found["attention_sd"][:, 0, 0, 0], 0, atol=1e-6)
    x, y = np.array([(x, y) for x in range(5) for y in range(5) if x != y]).T
    np.testing.assert_allclose(found["log_odds_sd"][0, 0, 0], [0, (x - y).std() / root], atol=1e-5)


def test_labels_that_a_model_does_not_have_count_nowhere(tiny):
    static, hyper, params, splits = tiny
    hyper = hyper.replace(n_labels=jnp.int32(4))
    moved = params.text.E.at[FIRST_LABEL + static.n_heldout + 4 :].add(3.0)
    alone = params.replace(text=params.text.replace(E=moved))
    one, other = (in_captions(static, hyper, splits, p, unit_gates(static)) for p in (params, alone))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    every = in_captions(static, hyper.replace(n_labels=jnp.int32(6)), splits, alone, unit_gates(static))
    assert (every["attention"][1] != one["attention"][1]).any() and (every["attention"][0] == one["attention"][0]).all()


def test_what_facts_share():
    left, right = np.array([[0, 1], [1, 0], [0, 2], [2, 0], [2, 1], [2, 3]]).T
    names = [text.FACTS[f] for f in text.facts_share(left, right)[0]]
    assert names == ["same", "swapped", "one, same place", "one, other place", "one, same place", "none"]
    share = text.facts_share(*np.nonzero(~np.eye(5, dtype=bool)))
    assert np.bincount(share.ravel()).tolist() == [20, 20, 20 * 6, 20 * 6, 20 * 6] and (share == share.T).all()


def test_without_position_terms_and_values_a_swap_moves_nothing(tiny):
    """A caption and an image are then bags of their labels: the swapped one is the same, another label is not."""
    static, hyper, params, splits = tiny
    blind = ";".join(f"{encoder}:EP+PP+BP+VP=0" for encoder in ("vision", "text"))
    gates = jax.tree.map(jnp.asarray, parse_gates(blind, {"vision": 1, "text": 1}, 2).at(0))
    cosine = of_facts(static, hyper, splits, params, gates)["cosine"]
    np.testing.assert_allclose(cosine[:, 1], 1, atol=1e-6)
    assert (cosine[:, 2:] < 0.999).all()
    assert (of_facts(static, hyper, splits, params, unit_gates(static))["cosine"][:, 1] < 0.999).all()


def test_cosines_are_means_over_all_twos_of_embeddings(tiny):
    """Against the matrix of all cosines, for both relation words."""
    static, hyper, params, splits = tiny
    static = dataclasses.replace(static, relations="left+right")
    gates, n_layouts = unit_gates(static), 45
    found = of_facts(static, hyper, splits, params, gates)["cosine"]
    row = static.task_object
    scenes, edits = jax.device_get(jax.jit(lambda: (row.unseen(), row.image_edits(row.unseen())))())
    images = np.array(embed_images(static, params, Interventions(gates.vision), edits), np.float64)
    share = text.facts_share(np.array(scenes.left), np.array(scenes.right))
    layout = np.arange(len(images)) % n_layouts
    one_layout = layout[:, None] == layout
    gram = images @ images.T
    expected = [gram[(share == f) & (one_layout if f else ~one_layout)].mean() for f in range(5)]
    np.testing.assert_allclose(found[1], expected, atol=1e-5)

    x, y = (np.tile(np.array(labels[::n_layouts]), 2) for labels in (scenes.left, scenes.right))
    word = np.repeat([0, 1], len(x) // 2)
    _, captions = jax.jit(lambda: embed_captions(static, params, Interventions(gates.text), captions_of(x, x, y, word)))()
    gram, share = np.array(captions, np.float64) @ np.array(captions, np.float64).T, text.facts_share(x, y)
    expected = [gram[(share == f) & ~np.eye(len(x), dtype=bool)].mean() for f in range(5)]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.fixture(scope="module")
def answer(run):
    return text.attention(run)


@pytest.fixture(scope="module")
def swap(run):
    return text.swap(run)


@pytest.mark.slow
def test_answers_of_a_sweep(answer, swap):
    np.testing.assert_allclose(answer.attention.sum("token"), 1, atol=1e-5)
    assert np.isnan(swap.cosine.sel(kind="caption", fact="same")).all()  # one relation word says a fact in one way
    gone = 1 - swap.cosine.sel(kind="image")
    np.testing.assert_allclose(swap.moved.sel(kind="image"), gone.sel(fact="swapped") / gone.sel(fact="none"))
    table = text.head_table(answer)
    assert len(table["model"]) == 4 * 2 * 2 and set(table["whatever"]) <= {"first", "second", "neither"}
    together = text.of_a_model(answer)
    assert (together.n_first + together.n_second <= 2).all()
    assert int(together.n_first.sum()) == (table["whatever"] == "first").sum()


def test_the_odds_of_every_head_are_drawn_at_its_seed(answer):
    table = text.head_table(answer)
    figure = figures.odds(table)
    panels = [(labels, n) for labels in ("held-out", "trained") for n in (4, 6)]
    for axis, (labels, n) in zip(figure.axes, panels, strict=True):
        assert axis.get_title() == f"N = {n} labels\nlabels {labels}" and figures_read.level_lines(axis) == [0]
        series, of_set = figures_read.series(axis), labels.replace("-", "")
        assert [*series] == ["head 0", "head 1"]
        for head in (0, 1):
            own = (table["set"] == of_set) & (table["n_labels"] == n) & (table["head"] == head)
            np.testing.assert_allclose(series[f"head {head}"][:, 1], table["log_odds"][own], rtol=1e-6)


def test_attention_is_drawn_token_by_token_for_what_heads_prefer(answer):
    table = text.head_table(answer)
    figure = figures.attention(table)
    for axis, n in zip(figure.axes, (4, 6), strict=True):
        tokens = figures_read.tick_labels(axis)
        assert axis.get_title() == f"N = {n} labels" and tokens == ["first", "relation", "second", "EOT"]
        own = (table["set"] == "heldout") & (table["n_labels"] == n)
        of_kinds = {figures.WHATEVER[kind]: own & (table["whatever"] == kind) for kind in set(table["whatever"][own].tolist())}
        series = figures_read.series(axis)
        assert set(series) == set(of_kinds)
        for name, rows in of_kinds.items():
            means = [table[f"attention_{token}"][rows].mean() for token in tokens]
            np.testing.assert_allclose(series[name][:, 1], means, rtol=1e-6)


def test_the_swap_test_is_drawn_by_what_two_facts_share(swap):
    figure = figures.swap(text.tidy(swap[["cosine"]]))
    for axis, n in zip(figure.axes, (4, 6), strict=True):
        series, facts = figures_read.series(axis), [name.replace("\n", " ") for name in figures_read.tick_labels(axis)]
        assert {*series} == {"captions", "images"}
        for kind in ("caption", "image"):
            own = swap.cosine.sel(kind=kind).where(swap.n_labels == n, drop=True).mean("model")
            known = [float(own.sel(fact=fact)) for fact in facts if np.isfinite(own.sel(fact=fact))]
            np.testing.assert_allclose(series[f"{kind}s"][:, 1], known, rtol=1e-5)


@pytest.mark.slow
def test_every_layer_and_word():
    run = untrained(tiny_model(n_layers_text=2, relations="left+right"))
    answer = text.attention(run)
    assert dict(answer.sizes) | {"layer": 2, "word": 2} == dict(answer.sizes)
    assert answer.word.values.tolist() == ["left-of", "right-of"] and np.isfinite(answer.attention).all()
    assert np.isfinite(text.swap(run).cosine).all()


def test_layers_that_a_model_lacks_have_no_count(answer):
    answer = answer[["prefers_first"]]
    model = answer.model.values
    lacking = answer.where(answer.model > model[0])
    together = text.of_a_model(lacking)
    assert len(text.tidy(together)["model"]) * len(model) == len(text.tidy(text.of_a_model(answer))["model"]) * (len(model) - 1)


@pytest.mark.slow
def test_the_command_writes_what_it_says(trained):
    folder, _ = trained
    done = one_command("text", f"--ckpt={folder}", "--labels=4", "--format=svg")
    assert done.returncode == 0, done.stderr
    for name, rows in (("text", 2 * 2 * 2), ("text_swap", 2 * 2 * 5)):
        assert len((folder / f"analysis/{name}_N4.csv").read_text().splitlines()) == 1 + rows
    for name in ("text", "text_attention", "text_swap"):
        assert str(folder / f"figures/{name}_N4.svg") in done.stdout
        assert {"seed", "token of the caption", "what two facts share"} & set(figures_read.texts(folder / f"figures/{name}_N4.svg"))
