"""Figures of tasks are tested by what is drawn."""

import numpy as np

from lrjax.plotting import tasks


def test_top1_by_recipe_has_a_row_a_task_and_a_panel_a_kind_of_initial_values():
    found = {
        ("Grids", False, 5): np.array([0.2, 0.4]),
        ("Grids", False, 15): np.array([0.8, 1.0]),
        ("Grids", True, 5): np.array([0.0, 0.1]),
        ("Grids", True, 15): np.array([0.1, 0.2]),
        ("Readers", False, 5): np.array([0.5, 0.5]),
        ("Readers", False, 15): np.array([0.6, 0.8]),
    }
    figure = tasks.by_recipe(found)
    small, large = figure.axes
    assert "depends on its initial values" in str(figure.get_suptitle()), "a title is a sentence"
    assert [label.get_text() for label in small.get_yticklabels()] == ["Grids", "Readers"]
    means = {line.get_label(): line.get_xdata() for line in small.lines if str(line.get_label()).startswith("N = ")}
    np.testing.assert_allclose(means["N = 5"], [0.3, 0.5])
    np.testing.assert_allclose(means["N = 15"], [0.9, 0.7])
    of_large = {line.get_label(): line.get_xdata() for line in large.lines if str(line.get_label()).startswith("N = ")}
    np.testing.assert_allclose(of_large["N = 15"], [0.15])
    assert small.get_title() == "small initial values" and large.get_title() == "initial values N(0, 1)"
