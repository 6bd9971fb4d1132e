"""The notebooks: they run from top to bottom, store nothing, speak SPEC's language, and know one address of the repository."""

import asyncio
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

import lrjax
from conftest import CACHE, LIMIT, ROOT
from lrjax import config, gates, notebook, terms
from lrjax.errors import InputError
from lrjax.metrics import METRICS

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
PAGES = (ROOT / "README.md", ROOT / "colab/README.md", ROOT / "pyproject.toml", *NOTEBOOKS)
SLUG = lrjax.REPO_URL.removeprefix("https://github.com/")


def read(path):
    return nbformat.read(path, as_version=4)


async def execute(path, folder):
    """The notebook after a run in a fresh kernel of this Python, in tiny sizes, on CPU. Raises at the first cell that fails."""
    environment = os.environ | {
        "LRJAX_NOTEBOOK_TINY": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "IPYTHONDIR": str(folder / "ipython"),
        "JAX_PLATFORMS": "cpu",
        # as in conftest: the programs are those of other tests
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": CACHE,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    manager = AsyncKernelManager()  # not of a kernelspec: whose Python that would start, nobody knows
    manager.kernel_spec.argv[:] = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    limits = {"timeout": LIMIT, "startup_timeout": LIMIT}
    client = NotebookClient(read(path), km=manager, resources={"metadata": {"path": str(folder)}}, **limits)
    return await client.async_execute(env=environment, cleanup_kc=True)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Both notebooks after a run, each in a folder of its own; one after the other, as the second finds what the first compiled."""
    return {path.stem: asyncio.run(execute(path, tmp_path_factory.mktemp(path.stem))) for path in NOTEBOOKS}


def results(cells):
    """What the cells display, a list of dicts of MIME type -> data."""
    return [output.data for cell in cells for output in cell.get("outputs", ()) if "data" in output]


@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS])
def test_runs_from_top_to_bottom_in_order(executed, name):
    code = [cell for cell in executed[name].cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    streams = [output for cell in code for output in cell.outputs if output.output_type == "stream"]
    assert [output.text for output in streams if output.name == "stderr"] == []  # no warnings, no progress bars
    assert not code[0].outputs, "lrjax is here: nothing is installed"
    assert f"lrjax {lrjax.__version__}" in code[1].outputs[0].text


@pytest.mark.parametrize(("name", "figures"), [("01_sweep_and_ablate", 3), ("02_mechanism", 4)])
def test_shows_its_figures(executed, name, figures):
    shown = [kind for data in results(executed[name].cells) for kind in data if kind == "image/png"]
    assert len(shown) == figures


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stores_no_outputs(path):
    for cell in read(path).cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_a_few_lines(path):
    """What is longer belongs into the library."""
    for cell in read(path).cells:
        assert cell.cell_type == "markdown" or len([line for line in cell.source.splitlines() if line.strip()]) <= 12, cell.source


# The names that SPEC gives, beside those of fields, terms and metrics.
SPEC = """
    L N E P B Q K CLS EOT E_cls P_0 W_Q W_K W_V W_O W_QK b_Q b_K b_V b_O d_head s_i s_j t_x t_y lr_t attn_scores pattern
    position_gradient label_spread head_bias
""".split()
KNOWN = {*config.Model.__dataclass_fields__, *config.RUN, *terms.TERMS, *terms.VALUES, *METRICS, *gates.ENCODERS}


def prose(path):
    """The markdown of a notebook, its links without their addresses and its scenes and code taken away; and what was code."""
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"`[^`]*`", "", text), re.findall(r"`([^`]*)`", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prose_names_terms_and_axes_as_spec_does(path):
    text, code = prose(path)
    sources = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    assert set(re.findall(r"\b[EPBV][EPBV]\b", text)) <= {*terms.TERMS, *terms.VALUES}
    for word in re.findall(r"\b\w*_\w+\b", text):  # names with an underscore are notation
        assert word in SPEC or word in KNOWN, f"{word}: not a name of SPEC"
    for word in code:  # a single name is a field, a name of SPEC, or stands in a cell
        if re.fullmatch(r"[A-Za-z_][\w.]*", word):
            assert word in SPEC or word in KNOWN or re.search(rf"\b{re.escape(word)}\b", sources), f"`{word}`: not a name of SPEC"
    rivals = r"positional|content[- ](content|position)|token[- ](token|position) (term|score|attention)"
    assert not re.search(rivals, text, re.IGNORECASE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_one_address_of_the_repository(path):
    text = path.read_text()
    for address in re.findall(r"https?://(?:www\.)?github\.com/[\w./-]*|git@github\.com\S*", text):
        assert address.rstrip(".").startswith(lrjax.REPO_URL), address
    for slug in re.findall(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)", text):
        assert slug == SLUG


def test_project_names_the_address():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"] == lrjax.REPO_URL


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_has_a_badge_and_an_installing_cell(path):
    first, install, *_ = read(path).cells
    url = f"https://colab.research.google.com/github/{SLUG}/blob/main/colab/{path.name}"
    assert f"(https://colab.research.google.com/assets/colab-badge.svg)]({url})" in first.source
    assert f"%pip install --quiet git+{lrjax.REPO_URL} " in install.source
    assert url in (ROOT / "colab/README.md").read_text()


def test_links_to_files_of_the_repository_exist():
    for path in PAGES:
        for linked in re.findall(rf"{re.escape(SLUG)}/(?:blob|tree)/main/([\w./-]+)", path.read_text()):
            assert (ROOT / linked).exists(), f"{path.name}: {linked}"


# ---- lrjax.notebook ----


def nvidia_smi(monkeypatch, found):
    def run(command, **_):
        if not found:
            raise FileNotFoundError(command[0])
        return subprocess.CompletedProcess(command, 0, stdout="GPU 0: a card\n")

    monkeypatch.setattr(notebook.subprocess, "run", run)


@pytest.fixture
def runtime(monkeypatch):
    """No accelerator and no wish, and a jax that has the CPU."""
    for name in (*notebook.TPU, "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    nvidia_smi(monkeypatch, False)
    monkeypatch.setattr(notebook.jax, "default_backend", lambda: "cpu")
    for owner, name in ((notebook.devices, "use_all_cores"), (notebook.program_cache, "use_compilation_cache")):
        monkeypatch.setattr(owner, name, lambda: None)  # these tests leave this process as it is
    return monkeypatch


def test_begin_prints_versions_and_may_be_run_twice(runtime, capsys):
    def too_late():
        raise RuntimeError("jax_num_cpu_devices config should be updated before backends are initialized")

    runtime.setattr(notebook.devices, "use_all_cores", too_late)
    notebook.begin()
    assert re.search(r"jax \d", capsys.readouterr().out)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_installing_holds_jax_at_its_version(path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # as on a fresh runtime
    ran = []
    names = {"get_ipython": lambda: SimpleNamespace(run_line_magic=lambda *words: ran.append(" ".join(words)))}
    exec(TransformerManager().transform_cell(read(path).cells[1].source), names)
    versions = " ".join(f"{name}=={importlib.metadata.version(name)}" for name in ("jax", "jaxlib"))
    assert [line.format(**names) for line in ran] == [f"pip install --quiet git+{lrjax.REPO_URL} {versions}"]


@pytest.mark.parametrize("kind", ["GPU", "TPU"])
def test_an_accelerator_that_jax_does_not_use_is_an_error(runtime, kind):
    nvidia_smi(runtime, kind == "GPU")
    if kind == "TPU":
        runtime.setenv("COLAB_TPU_1VM", "1")
    with pytest.raises(InputError) as error:
        notebook.begin()
    assert str(error.value) == (
        f"jax.default_backend()='cpu': this runtime has a {kind}; expected jax to use it; restart the runtime and run from the "
        "top, mend the installation of jax, or choose the CPU with JAX_PLATFORMS=cpu"
    )
    runtime.setenv("JAX_PLATFORMS", "cpu")
    notebook.begin()


def test_an_accelerator_that_jax_uses_is_none(runtime):
    nvidia_smi(runtime, True)
    runtime.setattr(notebook.jax, "default_backend", lambda: "gpu")
    notebook.begin()


def test_slider_without_widgets_shows_one_value(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    seen = []
    notebook.slider(seen.append, "gate", (0.0, 0.5, 1.0), at=0.5)
    assert seen == [0.5]
    printed = "no slider without ipywidgets: change at=0.5 to another gate of 0, 0.5, 1, run again\n"
    assert capsys.readouterr().out.startswith(printed)


def test_slider_with_widgets_offers_all_values(monkeypatch):
    class Widgets:
        SelectionSlider = staticmethod(lambda **fields: fields)

        @staticmethod
        def interact(look, value):
            for _, v in value["options"]:
                look(value=v)

    monkeypatch.setitem(sys.modules, "ipywidgets", Widgets)
    seen = []

    def look(gate):
        seen.append(gate)

    notebook.slider(look, "gate", (0.0, 0.5, 1.0), at=0.5)
    assert seen == [0.0, 0.5, 1.0], "whatever look calls its argument"


def test_slider_of_ipywidgets_itself_shows_its_first_value():
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed")
    seen = []

    def look(gate):
        seen.append(gate)

    notebook.slider(look, "gate", (0.0, 0.5, 1.0), at=0.5)
    assert seen == [0.5]
