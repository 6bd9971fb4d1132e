"""Numbers in README come from committed tables."""

import re

import numpy as np
import pytest

from conftest import ROOT
from experiments.studies import readme
from experiments.studies.claims import Claim, stated
from lrjax.stats import write_csv


def test_readme_has_the_numbers_of_the_committed_tables():
    """If this fails, run `python -m experiments.studies.readme`."""
    page = (ROOT / "README.md").read_text()
    assert readme.filled(page, readme.blocks(ROOT / "docs/results")) == page


def test_an_answer_has_five_sentences():
    for name, text in readme.blocks(ROOT / "docs/results").items():
        assert len(re.findall(r"[\w)\]]\.(?:\s|$)", text)) == 5, name


def test_a_number_that_changes_changes_the_page(tmp_path):
    claim = Claim("a", "finding", "", "contrast", 0, 1, None)
    columns = {"claim": ["a"], "sweep": ["s"], "mean": [0.5], "low": [0.25], "high": [1.25], "n": [8], "verdict": ["agrees"]}
    write_csv(tmp_path / "paper.csv", {name: np.array(values) for name, values in columns.items()})
    found = readme.verdicts_of(tmp_path / "paper.csv", [claim])["a"]
    assert stated(found) == "0.50 [0.25, 1.00]" and found.verdict == "agrees", "cut at the end of the scale, as on the page"
    with pytest.raises(ValueError, match="claim 'a' is not in the code"):
        readme.verdicts_of(tmp_path / "paper.csv", [])


def test_an_accuracy_is_of_one_condition(tmp_path):
    columns = {"n_labels": [5, 15, 15], "top1": [0.1, 0.5, 0.6], "top1_low": [0.0, 0.4, 0.5], "top1_high": [0.2, 0.6, 0.7]}
    write_csv(tmp_path / "sweep.csv", {name: np.array(values) for name, values in columns.items()})
    assert readme.accuracy(tmp_path / "sweep.csv", "top1", n_labels=5) == "0.10 [0.00, 0.20]"
    with pytest.raises(ValueError, match=r"2 rows have .*n_labels.*; expected one"):
        readme.accuracy(tmp_path / "sweep.csv", "top1", n_labels=15)


def test_a_block_without_markers_is_an_error():
    with pytest.raises(ValueError, match="no such block"):
        readme.filled("a page", {"no such block": "text"})
    marked = "\n".join(["before", readme.MARKER.format(name="x"), "old", readme.END.format(name="x"), "after"])
    assert readme.filled(marked, {"x": "new"}).split("\n")[2] == "new"
