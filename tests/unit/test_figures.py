"""Figures and what is around them: the user's matplotlib is as it was, whatever lrjax draws."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import figures_read
import lrjax.plotting
from conftest import ENVIRONMENT, ROOT
from lrjax.plotting import style, training

DRAWS = """
import importlib, pkgutil, sys
from pathlib import Path
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np

mine = {"font.size": 13, "axes.grid": False, "savefig.bbox": None, "figure.dpi": 50}
matplotlib.rcParams.update(mine)
own = plt.figure()
before = matplotlib.rcParams.copy()

import lrjax.plotting
for module in pkgutil.iter_modules(lrjax.plotting.__path__):
    importlib.import_module(f"lrjax.plotting.{module.name}")
import lrjax.notebook
from lrjax.plotting import style, training

def same():
    return matplotlib.rcParams == before and matplotlib.get_backend() == "svg" and plt.get_fignums() == [own.number]

assert same(), "after imports"
models = {name: np.zeros(4) for name in style.CONDITIONS}
models |= {"model": np.arange(4), "n_labels": np.array([4, 4, 6, 6]), "seed": np.array([0, 1, 0, 1])}
models |= {metric.column: np.linspace(0, 1, 4) for metric in training.PANELS}
folder = Path(sys.argv[1])
training.fig3(models, folder / "in_mine.png")
training.fig3(models, folder / "in_mine.svg")
assert same(), "after figures"
try:
    training.fig3({k: v for k, v in models.items() if k != "single"}, folder / "none.png")
except KeyError:
    assert same(), "after an error"
else:
    raise AssertionError("drawn without its column")
matplotlib.rcdefaults()
training.fig3(models, folder / "in_defaults.png")
"""


@pytest.mark.slow
def test_the_users_matplotlib_is_as_it_was(tmp_path):
    """Backend, settings and open figures, after all imports, after figures and after one that failed; and figures look the same."""
    run = [sys.executable, "-c", DRAWS, str(tmp_path)]
    done = subprocess.run(run, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "in_mine.png").read_bytes() == (tmp_path / "in_defaults.png").read_bytes()
    titles = {title for title, _ in training.PANELS.values()}
    assert titles <= set(figures_read.texts(tmp_path / "in_mine.svg"))
    assert style.COLOURS[0].lower() in figures_read.colours(tmp_path / "in_mine.png")


def test_a_figure_is_written_in_the_format_of_its_name_if_it_is_given_one(tmp_path):
    begins = {"a.png": b"\x89PNG", "b.svg": b"<?xml", "c.pdf": b"%PDF"}
    for name, magic in begins.items():
        figure, (axis,) = style.subplots(figsize=(1, 1))
        axis.plot([0, 1], [0, 1])
        assert style.save(figure, tmp_path / "new" / name) is figure
        assert (tmp_path / "new" / name).read_bytes().startswith(magic)
    assert style.save(figure, None) is figure and {path.name for path in (tmp_path / "new").iterdir()} == {*begins}


def test_every_figure_is_drawn_in_one_style():
    modules = [importlib.import_module(f"lrjax.plotting.{module.name}") for module in pkgutil.iter_modules(lrjax.plotting.__path__)]
    functions = [function for module in modules for _, function in inspect.getmembers(module, inspect.isfunction)]
    own = [f for f in functions if f.__module__.startswith("lrjax.plotting.") and f.__module__ != style.__name__]
    draws = {f"{f.__module__}.{f.__name__}": f for f in own if "path" in inspect.signature(f).parameters}
    assert len(draws) > 25 and [name for name, draw in draws.items() if not hasattr(draw, "__wrapped__")] == []
    assert not any("pyplot as" in inspect.getsource(module) or "plt" in vars(module) for module in modules)
