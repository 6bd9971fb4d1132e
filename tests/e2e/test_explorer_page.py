"""The explorer as people use it: the command writes a page, and the page is touched in a browser."""

import importlib.util
import os
import re
import shutil
from functools import partial

import numpy as np
import pytest

import lrjax
from conftest import command, tiny_sweep
from lrjax.analysis.selection import some_of
from lrjax.explorer import page
from lrjax.storage import workdir
from lrjax.training import loop

pytestmark = pytest.mark.slow
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCENE = "h1 . . h2 . . . . . ."


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):
    """A page at two steps of training, and its workdir."""
    folder = tmp_path_factory.mktemp("explorer") / "run"
    shutil.copytree(trained[0], folder)
    done = command("explorer", f"--ckpt={folder}")
    assert done.returncode == 0, done.stderr
    return folder / "figures" / "explorer.html", folder, done.stdout


def test_the_command_writes_a_page_of_all_steps_that_were_kept(written):
    place, _, said = written
    assert re.fullmatch(r".*explorer\.html: 4 models at 2 steps of training, 0\.\d MB\n", said)
    assert page.MARK in place.read_text() and place.with_name("explorer.html.json").is_file()


def test_flags_choose_models_and_a_file_of_the_users_is_kept(written, tmp_path):
    _, folder, _ = written
    out = tmp_path / "mine.html"
    chosen = ("--where=n_labels=4;seed=1", "--where=n_labels=6;seed=1", "--checkpoints=1", f"--out={out}")
    assert command("explorer", f"--ckpt={folder}", *chosen).stdout.startswith(f"{out}: 2 models at 1 steps of training")
    out.write_text("mine")
    done = command("explorer", f"--ckpt={folder}", f"--out={out}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "is no page of the explorer" in done.stderr
    assert out.read_text() == "mine"


@pytest.fixture(scope="module")
def both(written, tmp_path_factory):
    """A page of two runs: `written`'s, called run, and one under another learning rate, called slow."""
    folder = tmp_path_factory.mktemp("both") / "slow"
    loop.advance(workdir.open_run(folder, tiny_sweep(n_labels=(6,), lr=(1e-4,))), on_evaluation=partial(workdir.save, folder))
    out = folder.parent / "both.html"
    done = command("explorer", f"--ckpt={written[1]}", f"--ckpt={folder}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return out, folder, done.stdout


def test_several_runs_make_one_page(both, written, tmp_path):
    out, folder, said = both
    assert said.startswith(f"{out}: 6 models at 2 steps of training")
    runs = (f"--ckpt={written[1]}", f"--ckpt={folder}")
    some = command("explorer", *runs, "--where=n_labels=4;seed=0", "--where=lr=1e-4", f"--out={tmp_path / 'some.html'}")
    assert ": 3 models at" in some.stdout, "a --where may be of one run alone"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--ckpt: is given 2 times; expected an --out"),
        (("--where=n_labels=4", "--out=x.html"), "slow: no --where chooses a model of it; leave it out, or add a --where for it"),
        (("--where=n_labels=7", "--out=x.html"), "--where=n_labels=7: no model has it"),
    ],
)
def test_what_several_runs_need_is_said_in_one_line(both, written, arguments, said):
    done = command("explorer", f"--ckpt={written[1]}", f"--ckpt={both[1]}", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and said in done.stderr


# ---- in a browser ----


@pytest.fixture(scope="module")
def browser():
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: the page is not opened (pip install playwright)")
    if BROWSER is None:
        pytest.skip("there is no Chromium: the page is not opened (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield found
        found.close()


@pytest.fixture
def opened(browser, written):
    """The page, opened by a fragment; what its console says and what it asks the network for must stay empty."""
    contexts, said = [], []

    def open_(fragment="", place=written[0], **options):
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options)))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
        tab.goto(f"file://{place}#{fragment}")
        tab.wait_for_selector("#captions li")
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert not said


def ranking(tab):
    """The captions that are shown, by place: (rank, text, similarity, kind)."""
    rows = sorted(tab.query_selector_all("#captions li"), key=lambda row: int(row.get_attribute("data-place")))
    part = lambda row, name: row.query_selector(f".{name}").inner_text()
    return [
        (int(part(row, "rank")), part(row, "text"), float(part(row, "value").replace("−", "-")), part(row, "kind")) for row in rows
    ]


def assert_ranks(tab, model, scene):
    """The page ranks captions as the model does in Python; captions that tie may change places."""
    wanted = model.rank(scene)
    by_text = wanted.set_index("caption")
    for rank, text, similarity, kind in ranking(tab):
        assert similarity == pytest.approx(by_text.similarity[text], abs=6e-4), "3 digits are shown"
        assert by_text["is"][text] == kind
        assert wanted.similarity[rank - 1] == pytest.approx(by_text.similarity[text], abs=2e-5)
    assert {"true", "swapped"} <= {row[3] for row in ranking(tab)}


@pytest.fixture(scope="module")
def model(written):
    return lrjax.load(written[1]).model(n_labels=6, seed=1)


def test_dragging_and_keys_move_objects_and_captions_follow(opened, model):
    tab = opened(f"n_labels=6&seed=1&scene={SCENE.replace(' ', '_')}")
    assert_ranks(tab, model, SCENE)
    first, cell = tab.locator(".object-0").bounding_box(), tab.locator(".cell").nth(7).bounding_box()
    tab.mouse.move(first["x"] + 9, first["y"] + 9)
    tab.mouse.down()
    tab.mouse.move(cell["x"] + 9, cell["y"] + 9, steps=9)
    tab.mouse.up()
    tab.wait_for_function("location.hash.includes('scene=._._._h2_._._._h1_._.')")
    assert_ranks(tab, model, ". . . h2 . . . h1 . .")
    tab.locator(".object-0").focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("location.hash.includes('._h1_.&') || location.hash.endsWith('._h1_.')")
    tab.select_option("#left-label", label="3")
    tab.wait_for_function("location.hash.includes('scene=._._._3_._._._._h1_.')")
    assert_ranks(tab, model, ". . . 3 . . . . h1 .")


def test_sliding_a_gate_is_an_ablation_and_its_text_is_pythons(opened, model):
    tab = opened(f"n_labels=6&seed=1&scene={SCENE.replace(' ', '_')}")
    tab.locator("input[data-term=EP]").fill("-0.5")
    tab.locator("#head label", has_text="1").click()
    tab.locator("input[data-term=VE]").fill("0")
    tab.wait_for_function("document.querySelector('#python').textContent.includes('EP=-0.5;vision.h1:VE=0')")
    assert_ranks(tab, model.ablate("EP=-0.5;vision.h1:VE=0"), SCENE)
    assert '.ablate("EP=-0.5;vision.h1:VE=0")' in tab.inner_text("#python")
    tab.get_by_text("Take EP + PP + BP away").click()
    tab.wait_for_function("location.hash.includes('gates=EP+PP+BP=0')")
    assert_ranks(tab, model.ablate("EP+PP+BP"), SCENE)
    tab.get_by_text("Give all back").click()
    tab.wait_for_function("!location.hash.includes('gates')")


def test_the_gauge_moves_bars_and_no_caption(opened):
    tab = opened("n_labels=6&seed=1")
    before, bars = ranking(tab), tab.inner_text("#gauge-bars")
    tab.locator("#gauge").fill("1")
    tab.wait_for_function("location.hash.includes('gauge=1')")
    assert ranking(tab) == before
    assert tab.inner_text("#gauge-bars") != bars and "EP +0.00" in tab.inner_text("#gauge-bars").replace("−", "+")


def test_a_link_brings_back_what_was_seen(opened):
    tab = opened("n_labels=4&seed=0&step=10&scene=._._2_._h3_._._._._.&gates=EP=0.25;text:VE=0.5&gauge=-0.4")
    tab.wait_for_function("document.querySelector('#measure').dataset.fragment === location.hash")
    again = opened(tab.evaluate("location.hash.slice(1)"))
    again.wait_for_function("document.querySelector('#measure').dataset.fragment === location.hash")
    assert again.evaluate("location.hash") == tab.evaluate("location.hash")
    assert ranking(again) == ranking(tab)
    for told in ("#measure", "#python", "#heads", "#step-shown"):
        assert again.inner_text(told) == tab.inner_text(told)
    assert tab.inner_text("#step-shown") == "step 10"


def test_training_is_scrubbed_and_all_images_are_measured(opened, trained):
    tab = opened("n_labels=6&seed=0")
    history = lrjax.api.Run(some_of(trained[1], np.arange(4) == 2)).history.set_index("step")
    for step in ("20", "10"):
        tab.locator("#step").fill(str(int(step == "20")))
        tab.wait_for_function(
            f"location.hash.includes('step={step}') && document.querySelector('#measure').dataset.fragment === location.hash"
        )
        order = float(tab.locator("#measure .meter .value").first.inner_text())
        assert order == pytest.approx(history.unseen_pair_order[int(step)], abs=0.006)


def test_a_recipe_is_picked_and_its_model_ranks_as_in_python(opened, both, model):
    tab = opened(f"run=run&n_labels=6&seed=1&scene={SCENE.replace(' ', '_')}", both[0])
    assert_ranks(tab, model, SCENE)
    assert "run: 20 steps, lr 0.001" in tab.inner_text("#recipe")
    tab.locator("#pickers label", has_text="slow").click()
    tab.wait_for_function("location.hash.includes('run=slow&n_labels=6&seed=1&step=20')")
    assert "slow: 20 steps, lr 0.0001" in tab.inner_text("#recipe")
    assert_ranks(tab, lrjax.load(both[1]).model(seed=1), SCENE)
    assert 'lrjax.load("runs/slow")' in tab.inner_text("#python") and "run=" not in tab.inner_text("#python")
    assert tab.locator("#pickers label", has_text="4").count() == 0, "this run has no model of 4 labels"
    assert "changed too" not in tab.inner_text("#recipe")


def test_what_a_pick_changes_beside_is_said(opened, both):
    tab = opened("run=run&n_labels=4&seed=0", both[0])
    tab.locator("#pickers label", has_text="slow").click()
    tab.wait_for_function("location.hash.includes('run=slow&n_labels=6')")
    assert "changed too: Labels in training" in tab.inner_text("#recipe")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(opened, scheme):
    tab = opened(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.locator("#bar").is_visible() and tab.locator("#heads svg").count() == 2
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")
    heights = tab.evaluate("[...document.querySelectorAll('button')].map((button) => button.getBoundingClientRect().height)")
    assert min(heights) >= 32, "fingers need room"


FAKE = """
    async ([esm, html]) => {
      const { render } = (await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })))).default;
      const [held, listeners] = [{ html, state: "n_labels=6&seed=1" }, []];
      window.held = held;
      window.told = (state) => { held.state = state; listeners.forEach((listener) => listener()); };
      const model = { get: (name) => held[name], set: (name, value) => { held[name] = value; }, save_changes() {} };
      render({ model: { ...model, on: (_, listener) => listeners.push(listener), off() {} }, el: document.body });
    }
"""


def test_the_widget_of_notebooks_is_the_page_and_its_state_is_shared(browser, written):
    pytest.importorskip("anywidget", reason="the extra `widget` is not installed: the widget is not made")
    from lrjax.explorer.widget import Explorer

    widget = Explorer(lrjax.load(written[1]))
    assert widget.html == written[0].read_text() and widget.state == ""
    tab = browser.new_page()
    tab.goto("about:blank")
    tab.evaluate(FAKE, [Explorer._esm, widget.html])
    inside = tab.frame_locator("iframe")
    inside.get_by_text("Take EP away").click()
    tab.wait_for_function("window.held.state.includes('n_labels=6&seed=1') && window.held.state.includes('gates=EP=0')")
    tab.evaluate("window.told('n_labels=4&seed=0&gates=PP=0.5')")
    inside.locator("#python", has_text='.ablate("PP=0.5")').wait_for()
    tab.close()
