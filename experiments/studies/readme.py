"""The parts of README whose numbers come from committed tables: prose in templates/readme.md, filled in and held by a test.

python -m experiments.studies.readme      # fills README in from docs/results/
"""

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.claims import ORDER, TOP1, Claim, Verdict, stated
from experiments.studies.paper_claims import CLAIMS, CLIPS, LARGE
from experiments.studies.templating import render
from lrjax.stats import interval_text, read_csv, select
from lrjax.storage.files import write_atomically

BLOCKS = {"label diversity": "label_diversity", "which term": "which_term"}  # name of a block in README -> in templates/readme.md
README, REPORT = Path("README.md"), Path("docs/results")
MARKER = "<!-- {name}: filled in by `python -m experiments.studies.readme` -->"
WIDTH = 130  # of a line of README
END = "<!-- end of {name} -->"


def verdicts_of(path: Path, claims: Iterable[Claim]) -> dict[str, Verdict]:
    """The verdicts that a page's CSV holds, by the key of the claim.

    Raises:
      ValueError: the CSV holds a claim that is none of `claims`.
    """
    table, by_key = read_csv(path), {claim.key: claim for claim in claims}
    found = {}
    for i, key in enumerate(table["claim"].tolist()):
        if key not in by_key:
            raise ValueError(f"{path}: claim {key!r} is not in the code; make the page again")
        mean, low, high = (float(table[name][i]) for name in ("mean", "low", "high"))
        n, verdict, part = int(table["n"][i]), str(table["verdict"][i]), str(table["sweep"][i])
        found[key] = Verdict(by_key[key], part, mean, low, high, n, verdict)
    return found


def accuracy(path: Path, column: str, **where) -> str:
    """The mean of an accuracy under one condition, with its interval, from a sweep's table of accuracies.

    Raises:
      ValueError: not one row of the table is of this condition.
    """
    table = read_csv(path)
    rows = np.all([table[name] == value for name, value in where.items()], axis=0)
    if rows.sum() != 1:
        raise ValueError(f"{path}: {rows.sum()} rows have {where}; expected one")
    row = select(table, rows)
    return interval_text(*(float(row[name][0]) for name in (column, f"{column}_low", f"{column}_high")), digits=2)


def filled(text: str, blocks: Mapping[str, str]) -> str:
    """A page with what stands between the markers of each block replaced.

    Raises:
      ValueError: a block has no markers in the page.
    """
    for name, content in blocks.items():
        begin, end = MARKER.format(name=name), END.format(name=name)
        if begin not in text or end not in text:
            raise ValueError(f"{name}: has no markers in the page")
        head, _, rest = text.partition(begin)
        text = f"{head}{begin}\n{content}\n{end}{rest.partition(end)[2]}"
    return text


def blocks(report: Path = REPORT) -> dict[str, str]:
    """The content of every block of README, from the tables in `report`."""
    values = values_of(report)
    return {name: textwrap.fill(render("readme.md", values, block), WIDTH) for name, block in BLOCKS.items()}


def values_of(report: Path) -> dict[str, Any]:
    """The values of the template by name: verdicts and values of claims, and top-1 by initial values and number of labels."""
    found = verdicts_of(report / "paper.csv", CLAIMS)
    table = report / "paper" / "initial_values.csv"
    return {
        "value": {key: stated(verdict) for key, verdict in found.items()},
        "verdict": {key: verdict.verdict for key, verdict in found.items()},
        "large": {n: accuracy(table, TOP1, n_labels=n, **LARGE) for n in (5, 15)},
        "small": {n: accuracy(table, TOP1, n_labels=n, **CLIPS) for n in (2, 3, 5, 15)},
        "small_order": {n: accuracy(table, ORDER, n_labels=n, **CLIPS) for n in (2,)},
    }


def main() -> None:
    """Fill README in."""
    write_atomically(README, filled(README.read_text(), blocks()))


if __name__ == "__main__":
    main()
