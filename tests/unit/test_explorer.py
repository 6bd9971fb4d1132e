"""The explorer: its forward pass is Python's, its measure is the evaluation, its text of gates is lrjax's; what it refuses."""

import dataclasses
import json
import re
import shutil
import subprocess
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import ROOT, tiny_model, untrained
from lrjax import config, gates
from lrjax.analysis.gauge import move_cls
from lrjax.data import text
from lrjax.data.scenes import CLS, FIRST_LABEL, TokenEdits
from lrjax.data.tasks.base import all_captions
from lrjax.errors import InputError
from lrjax.explorer import page, tables
from lrjax.models import encoder
from lrjax.models.clip import as_read, embed_captions, embed_images, encoder_configs
from lrjax.models.interventions import Interventions
from lrjax.terms import TERMS

ASSETS = ROOT / "lrjax" / "explorer" / "assets"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: the page's scripts are not run")
PAPER = dict(data="fixed", projection="text", single_caption_length=4, e_scale=1.0, p_scale=1.0)
VARIANTS = [
    {},
    {"n_labels": 3, "token_multiplier": 11.3, "e_scale": 0.1},
    PAPER,
    {"relations": "left+right", "n_heads": 4},
    {"gates": "EP=0.5;text.h0:VE=0.2", "L": 6, "n_heldout": 3},
]
TOLERANCE = 1e-5  # of float32


def node(tmp_path, data, states=(), measures=(), texts=()):
    """What the page's scripts find."""
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps({"data": data, "states": states, "measures": measures, "texts": texts}))
    done = subprocess.run(
        [str(NODE), str(ROOT / "tests/explorer_cases.js"), str(ASSETS), str(cases)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda fields: ",".join(fields) or "default")
def run(request):
    """One model, its terms a few units large, as those of trained ones are."""
    found = untrained(tiny_model(**request.param))
    small = jax.tree.map(lambda x: 0.3 * x, found.states[0].params)
    return dataclasses.replace(found, states=[found.states[0].replace(params=small)])


def random_states(run, n, rng):
    """So many scenes, each under gates of its own in both encoders, as the page holds them."""
    model = run.sweep.models[0]
    states = []
    for _ in range(n):
        labels = rng.permutation(model.n_heldout + model.n_labels)[:2]
        places = rng.permutation(model.L)[:2]
        objects = [{"label": int(a), "place": int(i)} for a, i in zip(labels, places, strict=True)]
        drawn = {name: rng.uniform(-1.5, 1.5, (model.n_heads, 12)).tolist() for name in gates.ENCODERS}
        states.append({"model": 0, "at": 0, "objects": objects, "gates": drawn, "gauge": 0})
    return states


@partial(jax.jit, static_argnums=0)
def looked(static, params, both, images):
    """Of images [S, n] under gates [n, 1, h, 12]: captions' embeddings [n, c, e], images' [n, e], and of CLS's row the pattern
    [n, h, t], the terms [n, 9, h, t], and what each head reads of E and P at each key, projected, over the embedding's length
    [n, h, t, e].
    """
    captions = all_captions(
        static.task_object, static.task_object.captions(config.make_hyper(config.Model(n_labels=static.n_labels_max)))
    )
    (block,), project = params.vision.blocks, partial(encoder.projected, params.vision)

    def one(both, image):
        said = jnp.concatenate(embed_captions(static, params, Interventions(both.text), captions))
        seen = embed_images(static, params, Interventions(both.vision), image)
        ids = jnp.zeros(len(static.task_object.image.tokens), jnp.int32).at[0].set(CLS).at[image.positions].set(image.tokens)
        found = encoder.run(params.vision, Interventions(both.vision), ids, encoder_configs(static)["vision"], 0)
        (trace,) = found.caches
        length = jnp.linalg.norm(project(found.residual_by_origin.sum(0)[0]))
        read = jnp.einsum("ht,othk,hkd->htd", trace.pattern[:, 0], trace.values[:2], block.W_O)
        return said, seen, trace.pattern[:, 0], trace.terms[:, :, 0], project(read) / length

    return jax.vmap(one, in_axes=(0, 1))(both, images)


def of_python(run, states):
    """`looked` of the page's states, with the captions alone that the model has."""
    (program,), (state,) = run.programs, run.states
    hyper, params = jax.tree.map(lambda x: jnp.asarray(x[0]), (program.hyper, state.params))
    trained = hyper.gates.at(0)
    both = gates.Gates(
        **{name: jnp.array([s["gates"][name] for s in states])[:, None] * getattr(trained, name)[None] for name in gates.ENCODERS}
    )
    ordered = [sorted(s["objects"], key=lambda o: o["place"]) for s in states]
    edits = [[[o[name] + more for o in objects] for objects in ordered] for name, more in (("label", FIRST_LABEL), ("place", 1))]
    images = TokenEdits(*(jnp.array(x).T for x in edits))
    said, *rest = jax.device_get(looked(program.static, as_read(hyper, params), both, images))
    return said[:, np.asarray(program.static.task_object.captions(hyper).exists)], *rest


@needs_node
def test_forward_pass_equals_pythons(run, tmp_path):
    states = random_states(run, 20, np.random.default_rng(0))  # of five variants: 100 scenes and gates
    said, seen, patterns, terms, read = of_python(run, states)
    found = node(tmp_path, page.page_data([run], "runs/tiny"), states)["seen"]
    close = partial(np.testing.assert_allclose, atol=TOLERANCE, rtol=TOLERANCE)
    close([of["similarity"] for of in found], np.einsum("nce,ne->nc", said, seen))
    close([of["patterns"] for of in found], patterns)
    for name in found[0]["terms"]:
        close([of["terms"][name] for of in found], terms[:, TERMS.index(name)])
    towards = [captions[of["real"][0]] - captions[of["swapped"][0]] for captions, of in zip(said, found, strict=True)]
    close([of["pushes"] for of in found], np.einsum("nhte,ne->nht", read, towards))


@needs_node
def test_true_and_swapped_captions_are_those_of_the_task(run, tmp_path):
    states = random_states(run, 10, np.random.default_rng(1))
    data = page.page_data([run], "runs/tiny")
    task, texts = run.programs[0].static.task_object, [caption["text"] for caption in data["models"][0]["captions"]]
    every = text.captions_of(task, task.captions(config.make_hyper(run.sweep.models[0])))
    for state, found in zip(states, node(tmp_path, data, states)["seen"], strict=True):
        objects = sorted((o["place"], o["label"]) for o in state["objects"])
        places, labels = zip(*objects, strict=True)
        for numbers, name in zip(task.true_and_swapped(labels, places), ("real", "swapped"), strict=True):
            assert [texts[i] for i in found[name]] == [every[i] for i in numbers]


@needs_node
def test_the_gauge_moves_no_output_and_is_that_of_move_cls(run, tmp_path):
    state = random_states(run, 1, np.random.default_rng(2))[0]
    unit = {name: np.ones((run.sweep.models[0].n_heads, 12)).tolist() for name in gates.ENCODERS}
    states = [state | {"gates": unit, "gauge": gauge} for gauge in (-1, -0.3, 0, 0.6, 1)] + [state | {"gauge": g} for g in (-1, 1)]
    *same, in_E, in_P = (of["similarity"] for of in node(tmp_path, page.page_data([run], "runs/tiny"), states)["seen"])
    if run.sweep.models[0].gates == gates.NONE:
        assert np.ptp(same, axis=0).max() < 1e-12
    for found, share in ((in_E, 1), (in_P, 0)):  # gates act: what they take away depends on the gauge
        said, seen, *_ = of_python(move_cls(run, share), [state])
        np.testing.assert_allclose(found, said[0] @ seen[0], atol=TOLERANCE)


@needs_node
def test_the_measure_is_the_evaluation_of_training(trained, tmp_path):
    run = trained[1]
    states = [{"model": i, "at": 0, "objects": [], "gauge": 0} for i in range(len(run.sweep.models))]
    found = node(tmp_path, page.page_data([run], "runs/tiny"), measures=states)["measured"]
    last = dict(zip(run.history.metrics, run.history.values[-1].T, strict=True))
    for name, column in {"order": "unseen_pair_order", "labels": "unseen_pair_label_set", "top": "unseen_pair"}.items():
        # one image of 900 may be decided by rounding
        np.testing.assert_allclose([of[name] for of in found], last[column], atol=1.5 / 900)
    assert {of["images"] for of in found} == {900}


@needs_node
@pytest.mark.parametrize("given", ["EP=0", "EP+PP+BP=0", "vision.h1:EP=-0.5;text:VE=0.25", "EE=1.5;vision.h0:VE+VP+VB=0", ""])
def test_gates_of_the_page_are_text_that_lrjax_reads(given, tmp_path):
    (found,) = node(tmp_path, {"models": []}, texts=[[given, 2]])["read"]
    assert gates.canonical(found["text"] or gates.NONE) == gates.canonical(given or gates.NONE)
    wanted = gates.parse_gates(found["text"] or gates.NONE, {"vision": 1, "text": 1}, 2).g0
    for name in gates.ENCODERS:
        np.testing.assert_allclose(found["gates"][name], getattr(wanted, name)[0])


@pytest.mark.parametrize("shape", [(3, 8), (8, 8), (20, 8)], ids=str)
def test_rows_are_turned_to_a_triangle_and_keep_their_products(shape):
    rows = np.random.default_rng(0).normal(size=shape)
    found = page.turned(rows)
    assert found.shape == (shape[0], min(shape)) and np.abs(np.triu(found, 1)).max() == 0
    np.testing.assert_allclose(found @ found.T, rows @ rows.T, atol=1e-12)


@pytest.mark.parametrize("row", [[0.5, -3.0, 2.9999999, 1e-6], [0.0, 0.0], [-1.0]], ids=str)
def test_a_row_in_24_bits_is_within_half_a_step_of_its_largest_entry(row):
    raw = page.in_24_bits(np.array(row))
    assert len(raw) == 4 + 3 * len(row)
    whole = [int.from_bytes(raw[at : at + 3], "little", signed=True) for at in range(4, len(raw), 3)]
    scale = float(np.frombuffer(raw[:4], "<f4")[0])
    np.testing.assert_allclose(
        scale * np.array(whole), row, rtol=0, atol=0.51 * max(map(abs, row)) / page.LAST + 1e-7 * max(map(abs, row))
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(n_layers_vision=2), "n_layers_vision=2: the explorer shows one-block encoders"),
        (dict(n_repeats=2), "n_repeats=2: the explorer shows"),
        (dict(positions="rotary"), "positions='rotary': the explorer shows"),
        (dict(layer_norm=True), "layer_norm=True: the explorer shows"),
        (dict(mlp_ratio=2), "mlp_ratio=2: the explorer shows"),
        (dict(task="grid:height=2,width=3", relations="left"), "task='grid:height=2,width=3': .*the explorer shows"),
        (dict(task="row:distractors=1"), "task='row:distractors=1': .*the explorer shows"),
        (dict(objective="autoregressive"), "objective='autoregressive': .*the explorer shows"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_explorer_cannot_show_is_said_in_one_line(fields, said):
    with pytest.raises(InputError, match=said) as error:
        tables.check(config.make_static([tiny_model(**fields)]))
    assert "\n" not in str(error.value)


def test_a_page_that_would_be_too_large_says_how_to_make_it_smaller(trained, monkeypatch):
    monkeypatch.setattr(page, "LARGEST", 100_000)
    with pytest.raises(InputError, match=r"4 models at 1 steps .* expected at most 0 MB: choose fewer models"):
        page.html(page.page_data([trained[1]], "runs/tiny"))


def test_a_page_replaces_a_page_and_nothing_else(trained, tmp_path):
    place = tmp_path / "page.html"
    for _ in range(2):
        page.write(place, [trained[1]], "runs/tiny")
    place.write_text("mine")
    with pytest.raises(InputError, match=r"page\.html: is there already, and is no page of the explorer; give another file"):
        page.write(place, [trained[1]], "runs/tiny")
    assert place.read_text() == "mine"


def test_a_page_asks_the_network_for_nothing(trained, tmp_path):
    page.write(tmp_path / "page.html", [trained[1]], "runs/tiny")
    text = (tmp_path / "page.html").read_text()
    assert "http" not in re.sub(re.escape("http://www.w3.org/2000/svg"), "", text), "the name of SVG is no address that is asked"
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(|<link|<img|@import|url\(", text)
