"""What a release holds: the wheel, installed alone and used outside the checkout; the files that describe the project."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

import lrjax
from conftest import ROOT

BUILD = "from setuptools import build_meta; print(build_meta.build_wheel({folder!r}))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without network from a copy of what is committed of the packages."""
    pytest.importorskip("setuptools", minversion="77")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("lrjax", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    run = [sys.executable, "-c", BUILD.format(folder=str(folder))]
    done = subprocess.run(run, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    assert wheel.name == f"lrjax-{lrjax.__version__}-py3-none-any.whl"
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for name in ("lrjax", "experiments") for path in (ROOT / name).rglob("*.py")}
    assert modules | {"lrjax/py.typed"} <= held
    assert {name.partition("/")[0] for name in held} == {"lrjax", "experiments", f"lrjax-{lrjax.__version__}.dist-info"}


@pytest.mark.slow
def test_the_installed_package_works_outside_the_checkout(wheel, tmp_path):
    """The wheel unpacked is what pip installs; its commands find their configs in any folder."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    script = (
        "import sys, lrjax, experiments.sweep as s, experiments.main as m; from lrjax.config import make_sweep; import runpy\n"
        "assert lrjax.__file__.startswith(sys.argv[1]), lrjax.__file__\n"
        "config = s.__file__.replace('sweep.py', 'configs/diversity.py')\n"
        "print(len(make_sweep(runpy.run_path(config)['get_config']()).models), lrjax.__version__)\n"
        "m.module_of(['analyze', 'gradient']); m.module_of(['help'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = [sys.executable, "-c", script, str(site)]
    done = subprocess.run(run, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"40 {lrjax.__version__}" and "lrjax analyze: align" in done.stdout
    (entry,) = (site / f"lrjax-{lrjax.__version__}.dist-info/entry_points.txt").read_text().split("\n\n")[:1]
    assert "lrjax = experiments.main:main" in entry
    assert list(elsewhere.iterdir()) == []


def test_one_version_everywhere():
    latest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
    cited = re.findall(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.M)[0]
    assert latest == cited == lrjax.__version__


def test_the_workflow_runs_what_the_project_runs():
    """Its commands are .ci/run and targets of make, and each target exists."""
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    commands = re.findall(r"^ +- run: (.*)$", workflow, re.M)
    assert commands == ["make lint", "make test-fast", ".ci/run", "make docs"]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for command in commands:
        assert command == ".ci/run" or command.removeprefix("make ") in targets
    assert re.findall(r"^exec (.*)$", (ROOT / ".ci/run").read_text(), re.M) == ["make test"] and os.access(
        ROOT / ".ci/run", os.X_OK
    )


def test_the_menu_of_the_documentation_has_every_page():
    """`make docs` checks links and references; this needs no mkdocs."""
    menu = (ROOT / ".mkdocs.yml").read_text().partition("\nnav:\n")[2]
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r"[\w/]+\.md", menu)) == {page for page in pages if not page.startswith("results/")} | {
        f"results/{name}.md" for name in ("report", "paper", "encoders", "tasks", "pretrained", "printed_tasks")
    }


def test_the_extra_docs_has_what_the_site_is_built_with():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["docs"]
    assert {re.split(r"[\[<>=]", name)[0] for name in extra} == {"mkdocs", "mkdocs-material", "mkdocstrings"}
