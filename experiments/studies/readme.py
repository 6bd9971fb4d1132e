"""Numbers in README and docs that come from committed tables, filled in between markers and held by a test.

python -m experiments.studies.readme      # fills README.md and docs/ in from docs/results/

A block of README stands between two lines, `<!-- NAME: filled in by ... -->` and `<!-- end of NAME -->`; its prose is in
templates/readme.md. One value stands in a sentence, between `<!-- TABLE CLAIM -->` and `<!-- / -->`; where a claim has several
sweeps the first marker is `<!-- TABLE CLAIM SWEEP -->`. A table is a file of docs/results: claims, paper, encoders, tasks or
printed_tasks.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.studies import encoder_claims, printed_claims, task_claims
from experiments.studies.claim_values import TOP1
from experiments.studies.paper_claims import CLAIMS, CLIPS, SHARED
from experiments.studies.templating import Grid, render, table
from experiments.studies.verdicts import Claim, Verdict, stated
from lrjax.stats import Table, interval_text, read_csv, select
from lrjax.storage.files import write_atomically

ANSWERS = {"label diversity": "label_diversity", "which term": "which_term"}  # name of a block in README -> in templates/readme.md
BLOCKS = ANSWERS | {"tasks": "tasks"}
OF_PAGES = (*CLAIMS, *encoder_claims.CLAIMS, *task_claims.CLAIMS, *printed_claims.CLAIMS)
KNOWN = {claim.key: claim for claim in OF_PAGES} | SHARED
README, DOCS, REPORT = Path("README.md"), Path("docs"), Path("docs/results")
MARKER = "<!-- {name}: filled in by `python -m experiments.studies.readme` -->"
WIDTH = 130  # of a line of README
KEEPS = ("LayerNorm", "SigLIP")  # how titles begin that keep their capital
END = "<!-- end of {name} -->"
VALUE = re.compile(r"<!-- (claims|paper|encoders|tasks|printed_tasks) (\w+)(?: (\w+))? -->(.*?)<!-- / -->", re.S)
# A number and its interval, `.87 [.86, .89]` or `12 % [8, 16]`, or a number and its error, `.87 +- .01`.
INTERVAL = re.compile(r"(?<![\w.])[-+]?\d*\.?\d+\s*%?\s*(?:\[[-+]?[\d.]+,\s*[-+]?[\d.]+\]|(?:±|\+-)\s*[\d.]+)")


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
        found[key] = verdict_of(table, i, by_key[key])
    return found


def verdict_of(table: Table, i: int, claim: Claim) -> Verdict:
    """The verdict on a claim that row i of a page's CSV holds."""
    mean, low, high = (float(table[name][i]) for name in ("mean", "low", "high"))
    n, verdict, rule = int(table["n"][i]), str(table["verdict"][i]), str(table["rule"][i]) if "rule" in table else ""
    return Verdict(claim, str(table["sweep"][i]), mean, low, high, n, verdict, rule)


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


class Tables:
    """The claims of one file of docs/results."""

    def __init__(self, report: Path, page: str):
        self.path = report / f"{page}.csv"
        self.claims = read_csv(self.path)

    def has(self, claim: str, sweep: str = "") -> bool:
        """Whether the claim was tested."""
        found = self._rows(claim, sweep)
        return len(found["claim"]) > 0 and found["verdict"][0] != "not tested"

    def verdict(self, claim: str, sweep: str = "") -> str:
        """Agrees, differs, undecided, or not tested."""
        return str(self._claim(claim, sweep)["verdict"][0])

    def value(self, claim: str, sweep: str = "") -> str:
        """The value of a claim with its interval; that of an accuracy is cut at the ends of its scale, as on the pages."""
        row = self._claim(claim, sweep)
        if claim in KNOWN:
            return stated(verdict_of(row, 0, KNOWN[claim]))
        return interval_text(*(float(row[name][0]) for name in ("mean", "low", "high")), digits=2)

    def _claim(self, claim: str, sweep: str) -> Table:
        found = self._rows(claim, sweep)
        if not len(found["claim"]):
            raise ValueError(f"{claim} {sweep}: is no claim of {self.path}")
        return found

    def _rows(self, claim: str, sweep: str) -> Table:
        rows = self.claims["claim"] == claim
        return select(self.claims, rows & (self.claims["sweep"] == sweep) if sweep else rows)


def filled_values(text: str, report: Path = REPORT) -> str:
    """A page with each value that stands in a sentence replaced by that of the committed tables.

    Raises:
      ValueError: a marker names a claim that its table does not have.
    """

    named = {match[1] for match in VALUE.finditer(text)}
    tables = {name: Tables(report, name) for name in named}  # each is read once

    def value(match: re.Match) -> str:
        table, claim, sweep, old = match.groups()
        return match[0].replace(f" -->{old}<!--", f" -->{tables[table].value(claim, sweep or '')}<!--")

    return VALUE.sub(value, text)


def typed_intervals(text: str) -> list[str]:
    """The numbers with an interval that stand in a page outside of markers: typed by hand, where nothing holds them."""
    text = VALUE.sub("", text)
    for name in re.findall(r"<!-- end of (.*?) -->", text):
        text = text.partition(MARKER.format(name=name))[0] + text.partition(END.format(name=name))[2]
    return [" ".join(found.split()) for found in INTERVAL.findall(text)]


def pages(root: Path = Path()) -> list[Path]:
    """README and the pages of docs that people write: those in docs/results are generated whole."""
    written = [page for page in sorted((root / DOCS).rglob("*.md")) if (root / REPORT) not in page.parents]
    return [root / README, *written]


def blocks(report: Path = REPORT) -> dict[str, str]:
    """The content of every block of README, from the tables in `report`."""
    values = values_of(report)
    sentences = {
        name: textwrap.fill(render("readme.md", values, block), WIDTH, break_on_hyphens=False) for name, block in BLOCKS.items()
    }
    return {"results": results_table(report), **sentences}


# The rows of README's table: a claim, how README words it, and what the paper has.
ROWS = (
    ("diversity", "top-1 on unseen pairs, N = 25 (as printed: 15) less N = 5", "grows"),
    ("few", "top-1, N = 5", "near chance"),
    ("many", "top-1", "about .9"),
    ("what_fails", "order less label set, N = 5", "–"),
    ("layouts", "top-1, 40 layouts a pair less 1", "almost none"),
    ("ep_order", "EP at zero: change of order", "to chance"),
    ("ep_set", "EP at zero: change of label set", "none"),
    ("gauge_free", "EP + PP + BP at zero: order", "–"),
    ("gauge_p", "EP at zero, CLS moved into P_0: change of order", "–"),
    ("heads", "models with heads of both directions", "yes"),
)


def results_table(report: Path) -> str:
    """README's table of results: a row a claim, a column a recipe that was trained."""
    claims, paper = Tables(report, "claims"), Tables(report, "paper")
    recipes = {
        "as printed, m = 1": lambda key: (paper, f"{key}_m1", ""),
        "as printed, m = sqrt(128)": lambda key: (paper, f"{key}_m11", ""),
        "`fast`": lambda key: (claims, key, "layouts" if key == "layouts" else "default"),
        "`paper_like`": lambda key: (claims, key, "paper_like"),
    }

    def cell(tables: Tables, key: str, sweep: str) -> str:
        return f"{tables.value(key, sweep)} {tables.verdict(key, sweep)}" if tables.has(key, sweep) else ""

    columns = {name: [cell(*of(key)) for key, _, _ in ROWS] for name, of in recipes.items()}
    trained = {name: cells for name, cells in columns.items() if any(cells)}
    rows = [[text, said, *(cells[i] for cells in trained.values())] for i, (_, text, said) in enumerate(ROWS)]
    return str(table(Grid(["N = 15 unless said", "paper", *map(Markup, trained)], rows)))


def values_of(report: Path) -> dict[str, Any]:
    """The values of the template by name: of claims the value, the verdict and the number of models; top-1 from CLIP's initial
    values by number of labels; tasks by verdict.
    """
    found = verdicts_of(report / "paper.csv", CLAIMS)
    accuracies = report / "paper" / "initial_values.csv"
    return {
        "value": {key: stated(verdict) for key, verdict in found.items()},
        "verdict": {key: verdict.verdict for key, verdict in found.items()},
        "models": {key: verdict.n for key, verdict in found.items()},
        "small": {n: accuracy(accuracies, TOP1, n_labels=n, **CLIPS) for n in (5,)},
        "tasks": tasks_by_verdict(report),
    }


def tasks_by_verdict(report: Path) -> dict[str, str]:
    """Verdict -> the tasks, encoders and losses that have it: do they generalise at 15 labels, from small initial values? The row,
    on which all else of README is, is not among them.
    """
    found: dict[str, list[str]] = {"agrees": [], "undecided": [], "differs": [], "not tested": []}
    for key, verdict in verdicts_of(report / "printed_tasks.csv", printed_claims.CLAIMS).items():
        part = key.removesuffix("_many")
        if part != key and part != "row" and not printed_claims.is_large(part):
            title, _, more = printed_claims.title_of(part).partition(", ")
            name = title if title.startswith(KEEPS) else title[0].lower() + title[1:]
            found[verdict.verdict].append(f"{name} ({more})" if more else name)
    return {
        verdict: f"{', '.join(names[:-1])}, and {names[-1]}" if names[1:] else "".join(names) for verdict, names in found.items()
    }


def page_as_filled(page: Path, report: Path = REPORT) -> str:
    """A page as it should be: its values filled in, and README's blocks."""
    text = filled_values(page.read_text(), report)
    return filled(text, blocks(report)) if page.name == README.name else text


def main() -> None:
    """Fill README and docs in."""
    for page in pages():
        write_atomically(page, page_as_filled(page))


if __name__ == "__main__":
    main()
