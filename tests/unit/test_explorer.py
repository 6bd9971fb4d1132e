"""The explorer: its forward pass is Python's, its measure is the evaluation, its text of gates is lrjax's; what it refuses."""

import dataclasses
import json
import re
import shutil
import subprocess
from functools import partial

import jax
import numpy as np
import pytest
from explorer_by_hand import EXPECTED, committed, looked_at, random_states, stored_states

from conftest import ROOT, tiny_model, untrained
from lrjax import config, gates
from lrjax.analysis.gauge import move_cls
from lrjax.data import text
from lrjax.errors import InputError
from lrjax.explorer import packing, page, tables
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


def tiny(*runs):
    """Steps of a run, as the page takes them."""
    return page.Trained("runs/tiny", runs)


def page_of(*runs):
    """What a page of a run knows."""
    return page.page_data([tiny(*runs)])


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


@pytest.mark.slow
@needs_node
def test_forward_pass_equals_pythons(run, tmp_path):
    states = random_states(run.sweep.models[0], 20, np.random.default_rng(0))  # of five variants: 100 scenes and gates
    said, seen, patterns, terms, read = looked_at(run, 0, states)
    found = node(tmp_path, page_of(run), states)["seen"]
    close = partial(np.testing.assert_allclose, atol=TOLERANCE, rtol=TOLERANCE)
    close([of["similarity"] for of in found], np.einsum("nce,ne->nc", said, seen))
    close([of["patterns"] for of in found], patterns)
    for name in found[0]["terms"]:
        close([of["terms"][name] for of in found], terms[:, TERMS.index(name)])
    towards = [captions[of["real"][0]] - captions[of["swapped"][0]] for captions, of in zip(said, found, strict=True)]
    close([of["pushes"] for of in found], np.einsum("nhte,ne->nht", read, towards))


@pytest.mark.slow
@needs_node
@pytest.mark.parametrize("number", range(len(committed()["models"])))
def test_every_model_of_the_committed_page_equals_python_at_every_step(number, tmp_path):
    """If the page is made again, run `python tests/explorer_by_hand.py` with its runs."""
    data = committed()
    with np.load(EXPECTED) as arrays:
        states = stored_states(arrays, number, len(data["models"][number]["checkpoints"]))
        captions, cosines = arrays[f"captions_{number}"], arrays[f"cosines_{number}"]
    assert len(states) >= 100
    found = [of["similarity"] for of in node(tmp_path, data, states)["seen"]]
    asked = [np.array(of)[numbers] for of, numbers in zip(found, captions, strict=True)]
    np.testing.assert_allclose(asked, cosines, atol=TOLERANCE, rtol=0)


@pytest.mark.slow
@needs_node
def test_true_and_swapped_captions_are_those_of_the_task(run, tmp_path):
    states = random_states(run.sweep.models[0], 10, np.random.default_rng(1))
    data = page_of(run)
    task, texts = run.programs[0].static.task_object, [caption["text"] for caption in data["models"][0]["captions"]]
    every = text.captions_of(task, task.captions(config.make_hyper(run.sweep.models[0])))
    for state, found in zip(states, node(tmp_path, data, states)["seen"], strict=True):
        objects = sorted((o["place"], o["label"]) for o in state["objects"])
        places, labels = zip(*objects, strict=True)
        for numbers, name in zip(task.true_and_swapped(labels, places), ("real", "swapped"), strict=True):
            assert [texts[i] for i in found[name]] == [every[i] for i in numbers]


@pytest.mark.slow
@needs_node
def test_the_gauge_moves_no_output_and_is_that_of_move_cls(run, tmp_path):
    state = random_states(run.sweep.models[0], 1, np.random.default_rng(2))[0]
    unit = {name: np.ones((run.sweep.models[0].n_heads, 12)).tolist() for name in gates.ENCODERS}
    states = [state | {"gates": unit, "gauge": gauge} for gauge in (-1, -0.3, 0, 0.6, 1)] + [state | {"gauge": g} for g in (-1, 1)]
    *same, in_E, in_P = (of["similarity"] for of in node(tmp_path, page_of(run), states)["seen"])
    if run.sweep.models[0].gates == gates.NONE:
        assert np.ptp(same, axis=0).max() < 1e-12
    for found, share in ((in_E, 1), (in_P, 0)):  # gates act: what they take away depends on the gauge
        said, seen, *_ = looked_at(move_cls(run, share), 0, [state])
        np.testing.assert_allclose(found, said[0] @ seen[0], atol=TOLERANCE)


@needs_node
def test_the_measure_is_the_evaluation_of_training(trained, tmp_path):
    run = trained[1]
    states = [{"model": i, "at": 0, "objects": [], "gauge": 0} for i in range(len(run.sweep.models))]
    found = node(tmp_path, page_of(run), measures=states)["measured"]
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
    found = packing.turned(rows)
    assert found.shape == (shape[0], min(shape)) and np.abs(np.triu(found, 1)).max() == 0
    np.testing.assert_allclose(found @ found.T, rows @ rows.T, atol=1e-12)


@pytest.mark.parametrize("row", [[0.5, -3.0, 2.9999999, 1e-6], [0.0, 0.0], [-1.0]], ids=str)
def test_a_row_in_bits_is_within_half_a_step_and_has_no_bit_more_than_it_needs(row):
    step = 2.0**-10
    text = "".join(map(str, packing.in_bits(np.array(row), step)))
    size = int(text[: packing.HEADER], 2)
    assert len(text) == packing.HEADER + size * len(row)
    parts = [text[at : at + size] for at in range(packing.HEADER, len(text), size)]
    whole = [int(part, 2) - (part[0] == "1") * 2**size for part in parts]
    np.testing.assert_allclose(step * np.array(whole), row, rtol=0, atol=step / 2)
    assert max(map(abs, whole)) >= 2 ** (size - 2) or size == 1


def test_a_row_that_has_no_room_is_refused():
    with pytest.raises(ValueError, match="more than 53 bits of steps of 1"):
        packing.in_bits(np.array([2.0**53]), 1.0)


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


@pytest.fixture(scope="module")
def two_recipes():
    """Two runs: of N 3 and 6, and of N 6 and two seeds under another recipe."""
    of = lambda name, *models: page.Trained(f"runs/{name}", [untrained(*models)])
    other = dict(data="fixed", lr=1e-4)
    first = of("quick", tiny_model(n_labels=3, e_scale=0.5), tiny_model(e_scale=0.5))
    return [first, of("printed", tiny_model(**other), tiny_model(**other, seed=1))]


def test_models_of_several_runs_are_picked_by_what_differs_in_a_run_and_by_the_run(two_recipes):
    data = page.page_data(two_recipes)
    axes = {axis["name"]: axis["values"] for axis in data["axes"]}
    assert axes == {"run": ["quick", "printed"], "n_labels": [3, 6], "seed": [0, 1]}
    assert [model["run"] for model in data["models"]] == [0, 0, 1, 1]
    assert [run["source"] for run in data["runs"]] == ["runs/quick", "runs/printed"]
    assert [run["recipe"]["lr"] for run in data["runs"]] == [1e-3, 1e-4]
    assert set(data["runs"][0]["recipe"]) == {"steps", "data", "lr", "e_scale"}, "what only runs differ in"


def test_one_run_has_no_picker_of_runs(two_recipes):
    data = page.page_data(two_recipes[:1])
    assert [axis["name"] for axis in data["axes"]] == ["n_labels", "seed"] and "run" not in data["models"][0]["fields"]


def test_two_runs_of_one_name_are_refused(two_recipes):
    with pytest.raises(InputError, match="--ckpt: two runs are called 'quick'; expected folders of different names"):
        page.page_data([two_recipes[0], two_recipes[0]])


def test_a_page_that_would_be_too_large_says_how_to_make_it_smaller(trained, monkeypatch):
    monkeypatch.setattr(page, "LARGEST", 100_000)
    with pytest.raises(InputError, match=r"4 models at 1 steps .* expected at most 0 MB: choose fewer models"):
        page.html(page_of(trained[1]))


def test_a_page_replaces_a_page_and_nothing_else(trained, tmp_path):
    place = tmp_path / "page.html"
    for _ in range(2):
        page.write(place, [tiny(trained[1])])
    place.write_text("mine")
    with pytest.raises(InputError, match=r"page\.html: is there already, and is no page of the explorer; give another file"):
        page.write(place, [tiny(trained[1])])
    assert place.read_text() == "mine"


def test_a_page_asks_the_network_for_nothing(trained, tmp_path):
    page.write(tmp_path / "page.html", [tiny(trained[1])])
    text = (tmp_path / "page.html").read_text()
    assert "http" not in re.sub(re.escape("http://www.w3.org/2000/svg"), "", text), "the name of SVG is no address that is asked"
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(|<link|<img|@import|url\(", text)
