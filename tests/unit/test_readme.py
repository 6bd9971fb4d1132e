"""Numbers in README, docs and notebooks come from committed tables."""

import re

import numpy as np
import pytest

from conftest import ROOT
from experiments.studies import encoder_claims, paper_claims, printed_claims, readme, task_claims
from experiments.studies.verdicts import Claim, interval_of, stated
from lrjax.stats import interval_text, read_csv, write_csv

RESULTS = ROOT / "docs/results"
GENERATED = {"paper": paper_claims.CLAIMS, "encoders": encoder_claims.CLAIMS, "tasks": task_claims.CLAIMS}
GENERATED |= {"printed_tasks": printed_claims.CLAIMS}
PAGES = readme.pages(ROOT)
TYPED = [*PAGES, *ROOT.glob("*.md"), ROOT / "colab/README.md", *sorted((ROOT / "colab").glob("*.ipynb"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_numbers_of_the_committed_tables(page):
    """If this fails, run `python -m experiments.studies.readme`."""
    assert readme.page_as_filled(page, RESULTS) == page.read_text()


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_no_number_with_an_interval_is_typed_by_hand(page):
    """If this fails, take the number from a table (experiments/studies/readme.py says how), or give it without an interval."""
    assert readme.typed_intervals(page.read_text()) == []


@pytest.mark.parametrize(("page", "claims"), GENERATED.items(), ids=list(GENERATED))
def test_a_generated_page_has_the_numbers_of_its_table(page, claims):
    text = (ROOT / f"docs/results/{page}.md").read_text()
    rows = {found[1]: line for line in text.splitlines() if (found := re.match(r'\| <a id="(\w+)"></a>', line))}
    verdicts = {key: found for key, found in readme.verdicts_of(RESULTS / f"{page}.csv", claims).items() if found.n}
    assert len(verdicts) > 40
    for key, found in verdicts.items():
        assert rows[key].endswith(f"| {interval_of(found)} | {found.n} | **{found.verdict}** |"), key


def test_the_page_of_the_printed_recipe_has_the_numbers_of_the_main_report():
    """If this fails, run `python -m experiments.paper --page_only`."""
    lines = [line.strip("|").split(" | ") for line in (RESULTS / "paper.md").read_text().splitlines()]
    rows = {cells[0].strip(): cells for cells in lines if len(cells) == 5}
    claims, columns, held = read_csv(RESULTS / "claims.csv"), {"default": 3, "paper_like": 4}, 0
    for i in np.flatnonzero(~np.isnan(claims["mean"])):
        row, column = rows.get(claims["finding"][i]), columns.get(claims["sweep"][i])
        if row and column:
            mean, low, high, verdict = (claims[name][i] for name in ("mean", "low", "high", "verdict"))
            assert row[column].strip() == f"{interval_text(mean, low, high)} **{verdict}**", claims["claim"][i]
            held += 1
    assert held > 30


def test_readme_fits_its_outline():
    page = (ROOT / "README.md").read_text()
    assert len(page.splitlines()) <= 200
    glossary = page.partition("\n| word | meaning |\n")[2].partition("\n\n")[0]
    assert len(glossary.splitlines()) == 1 + 8


def test_an_answer_has_five_sentences():
    found = readme.blocks(RESULTS)
    for name in readme.ANSWERS:
        assert len(re.findall(r"[\w)\]]\.(?:\s|$)", found[name])) == 5, name


def test_an_answer_can_be_read_in_a_minute():
    found = readme.blocks(RESULTS)
    for name in readme.ANSWERS:
        intervals = [len(readme.INTERVAL.findall(sentence)) for sentence in re.split(r"(?<=[\w)\]])\.\s", found[name])]
        assert max(intervals) <= 2 and sum(intervals) <= 6, name


@pytest.mark.parametrize(
    "text", ["order is .87 [.86, .89]", "falls by\n-.3 [-.4,\n-.2]", "16 % [8, 24] of", "12 ± 5", "top-1 0.9 [0.8, 1.0]†"]
)
def test_a_typed_interval_is_found(text):
    assert len(readme.typed_intervals(text)) == 1


@pytest.mark.parametrize("text", ["a number in [0.001, 100]", "heads [0, 2]", "P [r, d], [models, 11]", "[.5](x.md)", "is .87"])
def test_what_is_no_interval_is_let_be(text):
    assert readme.typed_intervals(text) == []


def a_table(folder, **changed):
    columns = {"claim": ["other", "other"], "sweep": ["x", "y"], "mean": [0.5, 0.1], "low": [0.25, 0.0], "high": [0.75, 0.2]}
    columns |= {"verdict": ["agrees", "not tested"], **changed}
    write_csv(folder / "paper.csv", {name: np.array(values) for name, values in columns.items()})


def test_a_value_in_a_sentence_is_filled_in(tmp_path):
    a_table(tmp_path)
    page = "It is <!-- paper other y -->old<!-- / -->, and <!-- paper other -->older<!-- / -->."
    filled = readme.filled_values(page, tmp_path)
    assert filled == "It is <!-- paper other y -->0.10 [0.00, 0.20]<!-- / -->, and <!-- paper other -->0.50 [0.25, 0.75]<!-- / -->."
    assert readme.typed_intervals(filled) == [] and readme.filled_values(filled, tmp_path) == filled
    with pytest.raises(ValueError, match="b : is no claim of"):
        readme.filled_values("<!-- paper b -->?<!-- / -->", tmp_path)


def test_an_interval_in_a_block_is_held_by_its_markers():
    marked = "\n".join([readme.MARKER.format(name="x"), ".5 [.4, .6]", readme.END.format(name="x")])
    assert readme.typed_intervals(marked) == [] and readme.typed_intervals(f"{marked}\n.5 [.4, .6]") == [".5 [.4, .6]"]


def test_the_table_of_results_has_the_recipes_that_were_trained():
    head, _, *rows = readme.results_table(RESULTS).splitlines()
    assert "`fast`" in head and len(rows) == len(readme.ROWS)
    assert all(row.count(" | ") == head.count(" | ") for row in rows)


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
