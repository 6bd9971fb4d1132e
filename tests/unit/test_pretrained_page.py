"""The page of pretrained models comes from committed tables."""

from conftest import ROOT
from experiments.studies import pretrained


def test_the_page_has_the_numbers_of_the_committed_tables():
    """If this fails, run `python -m experiments.studies.pretrained`."""
    assert (ROOT / "docs/results/pretrained.md").read_text() == pretrained.page()


def test_a_model_that_was_not_run_has_an_empty_row_and_its_command():
    page = pretrained.page()
    for hub, title in pretrained.WANTED.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {title}: not run")]
        assert not set(row.partition("not run")[2]) - {"|", " "}
        assert f"python -m experiments.pretrained --weights={hub} " in page


def test_numbers_that_are_not_there_are_empty():
    assert pretrained.short(float("nan")) == "" and pretrained.short(None) == "" and pretrained.short(0.5) == "0.500"
