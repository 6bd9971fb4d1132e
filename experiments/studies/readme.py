"""Numbers in README that come from committed tables: sentences between markers, filled in and held by a test.

python -m experiments.studies.readme      # fills README in from report/
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lrjax.stats import Table, read_csv, select

README, REPORT = Path("README.md"), Path("report")
MARKER = "<!-- {name}: filled in by `python -m experiments.studies.readme` -->"
END = "<!-- end of {name} -->"


def short(value: float) -> str:
    """A number as README prints it: `.87`, `-.03`, `1.00`."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}")


def interval(mean: float, low: float, high: float) -> str:
    """`.87 [.86, .89]`."""
    return f"{short(mean)} [{short(low)}, {short(high)}]"


class Tables:
    """The committed tables of one page of the report."""

    def __init__(self, report: Path, page: str):
        self.report, self.page = report, page
        self.verdicts = read_csv(report / f"{page}.csv")

    def verdict(self, claim: str) -> str:
        """Agrees, differs, undecided, or not tested."""
        return str(self._claim(claim)["verdict"][0])

    def value(self, claim: str) -> str:
        """The value of a claim with its interval."""
        row = self._claim(claim)
        return interval(*(float(row[name][0]) for name in ("mean", "low", "high")))

    def accuracy(self, sweep: str, column: str, **where) -> str:
        """The mean of an accuracy under a condition of a sweep, with its interval."""
        table = read_csv(self.report / self.page / f"{sweep}.csv")
        rows = np.ones(len(table["n_labels"]), bool)
        for name, value in where.items():
            rows &= table[name] == value
        if rows.sum() != 1:
            raise ValueError(f"{sweep}: {rows.sum()} rows have {where}; expected one")
        return interval(*(float(table[name][rows][0]) for name in (column, f"{column}_low", f"{column}_high")))

    def _claim(self, claim: str) -> Table:
        return select(self.verdicts, self.verdicts["claim"] == claim)


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
    """The content of every block, from the tables in `report`."""
    tables = Tables(report, "paper")
    return {name: " ".join(answer(tables)) for name, answer in ANSWERS.items()}


ANSWERS: dict[str, Callable[[Tables], list[str]]] = {}


def main() -> None:
    """Fill README in."""
    README.write_text(filled(README.read_text(), blocks()))


if __name__ == "__main__":
    main()
