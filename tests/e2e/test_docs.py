"""The pages of docs/guides: every block of Python runs as printed, in order, and every block of shell names commands that exist."""

import re
import shlex
import sys
import types
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import lrjax
from conftest import ROOT
from experiments import main
from lrjax import kinds
from lrjax.analysis import registry
from lrjax.data import tasks
from lrjax.models.clip import init_clip

PAGES = sorted((ROOT / "docs/guides").glob("*.md"))
REGISTRIES = (kinds.POSITIONS, kinds.OBJECTIVES, tasks.TASKS, registry.ANALYSES)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The blocks of code of a page in one language: the line at which each begins, and its text."""
    text = page.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    return [(text[: block.start(1)].count("\n"), block[1]) for block in found]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A folder for what blocks write, and registries that are afterwards as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    before = [dict(entries) for entries in REGISTRIES]
    yield
    for entries, was in zip(REGISTRIES, before, strict=True):
        entries.clear()
        entries.update(was)
    tasks.make.cache_clear()
    plt.close("all")


def executed(page: Path, monkeypatch) -> list[dict]:
    """What a page's names are after each of its blocks. Tracebacks have the line numbers of the page."""
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = []
    for line, code in blocks(page, "python"):
        exec(compile("\n" * line + code, str(page), "exec"), vars(module))
        names.append(dict(vars(module)))
    return names


def check_extend(names: list[dict]) -> None:
    """What the guide adds trains, and does what the page says."""
    runs = {name: lrjax.load(f"runs/{name}") for name in ("random_rows", "right_first", "attract")}
    losses = {name: run.history.query("step > 0")["loss"] for name, run in runs.items()}
    assert all(run.step == 4 for run in runs.values())
    assert all(len(loss) == 4 and np.isfinite(loss).all() for loss in losses.values())

    static, rows = fields_of(runs["random_rows"], "positions")
    first, last = rows
    assert static == "random_rows"
    np.testing.assert_allclose(first.vision.P, last.vision.P, rtol=1e-6, err_msg="P is not trained")
    assert abs(first.vision.P.std() - 0.3) < 0.1 and (first.vision.E != last.vision.E).any(), "P is as large as tokens"

    order = names[-1]["model"].rank("h1 . . h2 . . . . . .").set_index("caption")["is"]
    assert order["h2 is on the right of h1"] == "true" and order["h1 is on the right of h2"] == "swapped"

    assert (losses["attract"] < 2).all(), "distances of unit vectors; CLIP's loss would begin above log 32"

    found = names[-1]["found"].to_xarray()
    assert found["length"].dims == ("model", "position") and found["position"].values[:2].tolist() == ["CLS", "1"]
    expected = np.linalg.norm(runs["attract"].trained.states[0].params.vision.P, axis=-1)
    np.testing.assert_allclose(found["length"], expected, rtol=1e-5)
    assert lrjax.analyses().loc["norms", "function"] == "page_extend.norms"


def fields_of(run, field: str):
    """A static field of a run's first program, and the parameters of its first model before and after training."""
    program, state = run.trained.programs[0], run.trained.states[0]
    one = lambda tree: jax.tree.map(lambda x: np.asarray(x)[0], tree)
    first = init_clip(program.static, one(program.hyper))
    return getattr(program.static, field), (jax.device_get(first), one(state.params))


CHECKS = {"extend": check_extend}  # what is asked of the names of a page, beside that its blocks run


NEEDS = {"pretrained": ("safetensors", "tokenizers")}  # packages of extras


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page, alone, monkeypatch):
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package, reason="the extra `pretrained` is not installed")
    names = executed(page, monkeypatch)
    CHECKS.get(page.stem, lambda names: None)(names)


def test_the_commands_of_the_pages_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    code = "".join(code for page in PAGES for _, code in blocks(page, "sh"))
    commands = [line for line in code.splitlines() if line and not line.startswith("#")]
    assert len(commands) > 5
    for line in commands:
        assert exists(shlex.split(line, comments=True), targets), line


def exists(words: list[str], targets: list[str]) -> bool:
    """Whether a command line names a target of make, a command of lrjax, a module, or tests that there are."""
    program, *rest = words
    if program == "make":
        files = [word.partition("=")[2] for word in rest if word.startswith("CONFIG=")]
        return rest[0] in targets and all((ROOT / file).is_file() for file in files)
    if program == "lrjax":
        return is_module(main.module_of(rest)[0])
    if rest[:2] == ["-m", "pytest"]:
        return all((ROOT / word).is_file() for word in rest[2:] if not word.startswith("-"))
    return program.endswith("python") and rest[0] == "-m" and is_module(rest[1])


def is_module(name: str) -> bool:
    """Whether the repository has the module."""
    return (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()


def test_commands_that_do_not_exist_are_found():
    for line in (
        "make sweeps",
        "make sweep CONFIG=no.py",
        "python -m experiments.no",
        "python -m pytest tests/no.py",
        "rm -r runs",
    ):
        assert not exists(shlex.split(line), ["sweep"]), line
    with pytest.raises(SystemExit):
        exists(["lrjax", "analyse"], ["sweep"])


def test_readme_shows_a_block_of_the_guide():
    """README's snippet is a part of a block that the tests execute, and its links are headings of the page."""
    readme, guide = ((ROOT / name).read_text() for name in ("README.md", "docs/guides/extend.md"))
    section = readme.partition("\n## Extend\n")[2].partition("\n## ")[0]
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)
    assert snippet in guide
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", guide, re.M)}
    assert set(re.findall(r"docs/guides/extend.md#([a-z-]+)", readme)) <= anchors and len(anchors) == 4
