"""Numbers in README come from committed tables."""

import re

import numpy as np
import pytest

from conftest import ROOT
from experiments.studies import readme
from lrjax.stats import write_csv


def test_readme_has_the_numbers_of_the_committed_tables():
    """If this fails, run `python -m experiments.studies.readme`."""
    page = (ROOT / "README.md").read_text()
    assert readme.filled(page, readme.blocks(ROOT / "docs/results")) == page


def test_an_answer_has_five_sentences():
    for name, text in readme.blocks(ROOT / "docs/results").items():
        assert len(re.findall(r"[\w)\]]\.(?:\s|$)", text)) == 5, name


@pytest.mark.parametrize(("value", "told"), [(0.874, ".87"), (-0.03, "-.03"), (1.0, "1.00"), (0.0, ".00"), (-1.5, "-1.50")])
def test_numbers_as_readme_prints_them(value, told):
    assert readme.short(value) == told


def test_a_number_that_changes_changes_the_page(tmp_path):
    columns = {"claim": ["a"], "mean": [0.5], "low": [0.25], "high": [0.75], "verdict": ["agrees"]}
    write_csv(tmp_path / "paper.csv", {name: np.array(values) for name, values in columns.items()})
    tables = readme.Tables(tmp_path, "paper")
    assert tables.value("a") == ".50 [.25, .75]" and tables.verdict("a") == "agrees"


def test_a_block_without_markers_is_an_error():
    with pytest.raises(ValueError, match="no such block"):
        readme.filled("a page", {"no such block": "text"})
    marked = "\n".join(["before", readme.MARKER.format(name="x"), "old", readme.END.format(name="x"), "after"])
    assert readme.filled(marked, {"x": "new"}).split("\n")[2] == "new"
