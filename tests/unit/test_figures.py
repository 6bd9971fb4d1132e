"""Figures and what is around them: the user's matplotlib is as it was, whatever lrjax draws."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import figures_read
import lrjax.plotting
from conftest import ENVIRONMENT, ROOT
from lrjax import stats
from lrjax.plotting import paper, style, training

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


def test_top1_by_labels_has_a_series_a_kind_of_initial_values():
    """Means at every N, a dot a model; other initial values of the sweep are left out."""
    models = stats.read_csv(ROOT / "docs/results/paper/initial_values/models.csv")
    (axis,) = paper.label_diversity(models).axes
    series, dots = figures_read.series(axis), figures_read.dots(axis)
    assert list(series) == list(paper.KINDS) and figures_read.tick_labels(axis) == ["2", "3", "5", "10", "15"]
    drawn = set()
    for points, (e_scale, p_scale) in zip(series.values(), paper.KINDS.values(), strict=True):
        own = stats.select(models, (models["e_scale"] == e_scale) & (models["p_scale"] == p_scale))
        by_n = [own["unseen_pair"][rows] for rows in stats.groups(own, ("n_labels",)).values()]
        np.testing.assert_allclose(points[:, 1], [values.mean() for values in by_n])
        drawn |= {float(value) for values in by_n for value in values}
    assert {y for _, y in dots} == drawn


@pytest.mark.parametrize(("n", "rows"), [(1, 1), (2, 1), (5, 3), (6, 3)])
def test_panels_stand_two_beside_each_other_so_that_a_phone_shows_them(n, rows):
    figure, axes = style.panels(n)
    assert len(axes) == len(figure.axes) == n and axes[0].get_gridspec().nrows == rows
    wide = figure.get_figwidth()
    letters = style.STYLE["font.size"] / 72 / wide * 390
    assert letters >= 8, "pixels of a letter's height where the figure is 390 pixels wide"


def test_the_first_panel_of_fig3_is_as_wide_as_the_figure():
    figure, axes = training.first_and_small(len(training.PANELS))
    assert axes[0].get_subplotspec().colspan == range(2) and next(iter(training.PANELS)).column == "unseen_pair"
    assert all(len(axis.get_subplotspec().colspan) == 1 for axis in axes[1:]) and figure.get_figwidth() == 2 * style.PANEL


def test_a_legend_has_as_many_columns_as_fit():
    figure, axes = style.panels(2)
    for name in ("a", "a name of a condition that is long", "b"):
        axes[0].plot([0, 1], label=name)
    style.legend_below(figure, *axes[0].get_legend_handles_labels())
    assert figure.legends[0]._ncols == 2


def test_the_committed_figures_of_the_paper_are_no_wider_than_two_panels():
    from PIL import Image

    wide = {path.name: Image.open(path).width for path in (ROOT / "docs/results/figures").glob("printed_*.png")}
    assert len(wide) > 15 and max(wide.values()) <= 1.06 * 2 * style.PANEL * style.STYLE["figure.dpi"], wide
