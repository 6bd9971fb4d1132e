"""The page of all keys is the declarations, and nothing else."""

from lrjax import reference
from lrjax.config import get_config


def test_the_committed_page_is_what_the_declarations_say():
    assert reference.PAGE.read_text() == reference.page(), "declarations have changed: run python -m lrjax.reference"


def test_the_page_has_a_row_for_every_key():
    assert {line.split("`")[1] for line in reference.page().splitlines() if line.startswith("| `")} == set(get_config())
