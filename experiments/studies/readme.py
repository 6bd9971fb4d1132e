"""Numbers in README and docs that come from committed tables: text between markers, filled in and held by a test.

python -m experiments.studies.readme      # fills README.md and docs/ in from docs/results/

A block stands between two lines, `<!-- NAME: filled in by ... -->` and `<!-- end of NAME -->`. One value stands in a sentence,
between `<!-- TABLE CLAIM -->` and `<!-- / -->`, or `<!-- TABLE CLAIM SWEEP -->` where a claim has several sweeps. A table is a
file of docs/results: `claims`, `paper`, `encoders` or `tasks`.
"""

import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lrjax.stats import Table, read_csv, select
from lrjax.storage.files import write_atomically

README, DOCS, REPORT = Path("README.md"), Path("docs"), Path("docs/results")
MARKER = "<!-- {name}: filled in by `python -m experiments.studies.readme` -->"
WIDTH = 130  # of a line of README
END = "<!-- end of {name} -->"
VALUE = re.compile(r"<!-- (claims|paper|encoders|tasks) (\w+)(?: (\w+))? -->(.*?)<!-- / -->", re.S)
# A number and its interval, `.87 [.86, .89]` or `12 % [8, 16]`, or a number and its error, `.87 +- .01`.
INTERVAL = re.compile(r"(?<![\w.])[-+]?\d*\.?\d+\s*%?\s*(?:\[[-+]?[\d.]+,\s*[-+]?[\d.]+\]|(?:±|\+-)\s*[\d.]+)")


def short(value: float) -> str:
    """A number as README prints it: `.87`, `-.03`, `1.00`."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}")


def interval(mean: float, low: float, high: float) -> str:
    """`.87 [.86, .89]`; `(not measured)` of NaN."""
    if np.isnan(mean):
        return "(not measured)"
    return f"{short(mean)} [{short(low)}, {short(high)}]"


class Tables:
    """The committed tables of one page of the report."""

    def __init__(self, report: Path, page: str):
        self.report, self.page = report, page
        self.verdicts = read_csv(report / f"{page}.csv")

    def verdict(self, claim: str, sweep: str = "") -> str:
        """Agrees, differs, undecided, or not tested."""
        return str(self._claim(claim, sweep)["verdict"][0])

    def value(self, claim: str, sweep: str = "") -> str:
        """The value of a claim with its interval."""
        row = self._claim(claim, sweep)
        return interval(*(float(row[name][0]) for name in ("mean", "low", "high")))

    def has(self, claim: str, sweep: str = "") -> bool:
        """Whether the claim was tested."""
        found = self._rows(claim, sweep)
        return len(found["claim"]) > 0 and found["verdict"][0] != "not tested"

    def accuracy(self, sweep: str, column: str, **where) -> str:
        """The mean of an accuracy under a condition of a sweep, with its interval."""
        table = read_csv(self.report / self.page / f"{sweep}.csv")
        rows = np.ones(len(table["n_labels"]), bool)
        for name, value in where.items():
            rows &= table[name] == value
        if rows.sum() != 1:
            raise ValueError(f"{sweep}: {rows.sum()} rows have {where}; expected one")
        return interval(*(float(table[name][rows][0]) for name in (column, f"{column}_low", f"{column}_high")))

    def _claim(self, claim: str, sweep: str = "") -> Table:
        found = self._rows(claim, sweep)
        if not len(found["claim"]):
            raise ValueError(f"{claim} {sweep}: is no claim of {self.report / self.page}.csv")
        return found

    def _rows(self, claim: str, sweep: str) -> Table:
        rows = self.verdicts["claim"] == claim
        return select(self.verdicts, rows & (self.verdicts["sweep"] == sweep) if sweep else rows)


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


def filled_values(text: str, report: Path = REPORT) -> str:
    """A page with each value that stands in a sentence replaced by that of the committed tables.

    Raises:
      ValueError: a marker names a claim that its table does not have.
    """

    def value(match: re.Match) -> str:
        table, claim, sweep, old = match.groups()
        return match[0].replace(f" -->{old}<!--", f" -->{Tables(report, table).value(claim, sweep or '')}<!--")

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
    """The content of every block, from the tables in `report`."""
    tables = Tables(report, "paper")
    sentences = {name: textwrap.fill(" ".join(answer(tables)), WIDTH) for name, answer in ANSWERS.items()}
    return {"results": results_table(report), **sentences}


# The rows of README's table: a claim, how README words it, and what the paper has.
ROWS = (
    ("diversity", "top-1 on unseen pairs, N = 25 less N = 5", "grows"),
    ("few", "top-1, N = 5", "near chance"),
    ("many", "top-1", "about .9"),
    ("what_fails", "order less label set, N = 5", "–"),
    ("layouts", "top-1, 40 layouts a pair less 1", "almost none"),
    ("ep_top1", "EP at zero: top-1", "about .5"),
    ("ep_order", "EP at zero: change of order", "to chance"),
    ("ep_set", "EP at zero: change of label set", "none"),
    ("gauge_free", "EP + PP + BP at zero: order", "–"),
    ("gauge_p", "EP at zero, CLS moved into P_0: change of order", "–"),
    ("heads", "models with heads of both directions", "yes"),
    ("phases", "models whose skills come in order", "yes"),
)


def results_table(report: Path) -> str:
    """README's table of results: a row a claim, a column a recipe that was trained."""
    claims, paper = Tables(report, "claims"), Tables(report, "paper")
    recipes = {
        "as printed, m = 1": lambda key: (paper, f"{key}_m1", ""),
        "as printed, m = sqrt(128)": lambda key: (paper, f"{key}_m11", ""),
        "`fast`": lambda key: (claims, key, "layouts" if key == "layouts" else "phases" if key == "phases" else "default"),
        "`paper_like`": lambda key: (claims, key, "paper_like"),
    }

    def cell(tables: Tables, key: str, sweep: str) -> str:
        return f"{tables.value(key, sweep)} {tables.verdict(key, sweep)}" if tables.has(key, sweep) else ""

    columns = {name: [cell(*of(key)) for key, _, _ in ROWS] for name, of in recipes.items()}
    trained = {name: cells for name, cells in columns.items() if any(cells)}
    lines = [["N = 15 unless said", "paper", *trained], ["---"] * (2 + len(trained))]
    lines += [[text, said, *(cells[i] for cells in trained.values())] for i, (_, text, said) in enumerate(ROWS)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


LARGE = {"e_scale": 1.0, "p_scale": 1.0}  # PyTorch's default
CLIPS = {"e_scale": 0.02, "p_scale": 0.088}  # of CLIP's own code


def diversity(tables: Tables) -> list[str]:
    """Does label diversity drive generalisation? Five sentences."""

    def top1(n_labels, column="unseen_pair", where=CLIPS):
        return tables.accuracy("initial_values", column, n_labels=n_labels, **where)

    remedy = tables.verdict("iv_small") == tables.verdict("iv_few") == "agrees"
    conclusion = {
        True: "So from 5 labels on label diversity is a remedy for large initial values more than a driver of generalisation",
        False: "Whether label diversity is a driver, or a remedy for large initial values, stays open",
    }[remedy]
    return [
        "Under the printed recipe with large initial values (E, P ~ N(0, 1), PyTorch's default) top-1 on unseen pairs is "
        f"{top1(5, where=LARGE)} at 5 labels and {top1(15, where=LARGE)} at 15, after 48,000 steps (4 seeds).",
        f"With CLIP's small ones (.02 and .088) top-1 is {top1(5)} at 5 labels already and {top1(15)} at 15: ten more labels add "
        f"{tables.value('iv_small')}.",
        f"At 5 labels small initial values add {tables.value('iv_few')}; at large ones ten more labels add "
        f"{tables.value('diversity_iv_large')} ({tables.value('diversity_c_epochs')} after equal epochs, "
        f"{tables.value('diversity_c_masked')} with repeated captions masked).",
        f"Below 5 labels no initial values are enough: with CLIP's, 2 labels reach {top1(2)}, with an order of "
        f"{top1(2, 'unseen_pair_order')}, and 3 labels {top1(3)}.",
        f"{conclusion}; what it adds at large ones beyond what it adds at small ones is {tables.value('iv_remedy')} "
        f"({tables.verdict('iv_remedy')}).",
    ]


def which_term(tables: Tables) -> list[str]:
    """Is it EP? Five sentences."""
    fingerprint = {
        "agrees": "So what a model needs is the sum EP + PP + BP, and that EP alone carries it is a fingerprint of the multiplier",
        "differs": "So the multiplier does not decide whether EP alone matters",
    }.get(tables.verdict("x_fingerprint"), "Whether EP alone is a fingerprint of the multiplier stays open")
    return [
        "EP and PP of CLS's row hold m E_cls and P_0, which receive the same updates: at small initial values EP's share "
        f"of the two differs from m / (m + 1) by {tables.value('x_share_1')} at m = 1 and {tables.value('x_share_11')} at "
        "m = sqrt(128).",
        f"EP at zero changes order by {tables.value('ep_order_x')} at m = sqrt(128); that is {tables.value('x_fingerprint')} more "
        "than at m = 1.",
        f"BP has a part too where initial values are small: with CLIP's, BP at zero beside EP and PP changes order by "
        f"{tables.value('iv_bp')} more.",
        f"EP, PP and BP at zero leave an order of {tables.value('x_free_1')} at m = 1 and {tables.value('x_free_11')} at "
        f"m = sqrt(128), and {tables.value('iv_theory_small')} of what is above chance with CLIP's initial values.",
        f"{fingerprint} ({tables.verdict('x_fingerprint')}).",
    ]


ANSWERS: dict[str, Callable[[Tables], list[str]]] = {"label diversity": diversity, "which term": which_term}


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
