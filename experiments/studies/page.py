"""What a page shows beside its prose: sweeps with their figures, verdicts and accuracies, the times, and the files it becomes."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.studies.study import Study
from experiments.studies.templating import Grid, escaped, render, to_html
from experiments.studies.verdicts import Claim, Verdict, interval_of, judge, stated
from lrjax.stats import Table
from lrjax.storage.files import write_atomically

Verdicts = Mapping[str, list[Verdict]]  # by the key of a claim


@dataclasses.dataclass(frozen=True)
class Section:
    """What a page shows of one sweep.

    Attributes:
      name, title: The sweep's name in its study, and for people.
      trained: Whether it has tables; if not, all else is empty.
      figures: (path, caption) of each.
      verdicts: On the claims that are asked of it.
      accuracies: Its accuracies by condition.
      more: What only this page has of a sweep, by name.
    """

    name: str
    title: str
    trained: bool = False
    figures: Sequence[tuple[Path, str]] = ()
    verdicts: Sequence[list[Verdict]] = ()
    accuracies: Grid | None = None
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def judged(study: Study, claims: Sequence[Claim]) -> dict[str, list[Verdict]]:
    """The verdict on each claim in its own sweep, by key."""
    return {claim.key: [judge(claim, study, claim.part)] for claim in claims}


def sections(study: Study, titles: Mapping[str, str], shown_of: Callable[[str], Section]) -> dict[str, Section]:
    """A section a sweep, by name: `shown_of` those that are trained."""
    return {part: shown_of(part) if study.has(part) else Section(part, title) for part, title in titles.items()}


def values_of(study: Study, verdicts: Verdicts, seconds: Table | None) -> dict[str, Any]:
    """What every template has: `value` and `verdict` by the key of a claim, in the first sweep that it is asked of; `has` by sweep,
    whether it has results; and how long it all took.
    """
    first = {key: found[0] for key, found in verdicts.items()}
    return {
        "value": {key: stated(verdict) for key, verdict in first.items()},
        "verdict": {key: verdict.verdict for key, verdict in first.items()},
        "has": {part: study.has(part) for part in study.parts},
        "claims": claims_grid,
        "notes": notes,
        "times": times_grid(seconds),
        "minutes": 0.0 if seconds is None else float(seconds["seconds"].sum()) / 60,
    }


def claims_grid(verdicts: Iterable[list[Verdict]]) -> Grid:
    """A row a claim and sweep; the first row of a claim has its key as an anchor."""
    verdicts = list(verdicts)
    several = any(len({verdict.part for verdict in found}) > 1 for found in verdicts)
    rows = []
    for found in verdicts:
        for i, verdict in enumerate(found):
            claim = verdict.claim
            finding = Markup('<a id="{}"></a>{}').format(claim.key, escaped(claim.finding))
            row = ["" if i else finding, "" if i else claim.contrast, "" if i else claim.paper or "no such figure"]
            row += ["" if i or not claim.values else expected(claim), *([verdict.part] if several else [])]
            rows.append([*row, interval_of(verdict), str(verdict.n or ""), Markup(f"**{verdict.verdict}**")])
    sweep = ["sweep"] if several else []
    return Grid(["claim", "contrast", "the paper", "expected", *sweep, "measured [95 %]", "models", "verdict"], rows)


def notes(verdicts: Iterable[list[Verdict]]) -> dict[str, list[str]]:
    """What must be known of some claims -> their findings."""
    found: dict[str, list[str]] = {}
    for claim in (of_claim[0].claim for of_claim in verdicts):
        if claim.note:
            found.setdefault(claim.note, []).append(claim.finding)
    return found


def expected(claim: Claim) -> str:
    """On which numbers a claim lies: `at least 0.2`, `0.8 to 1`."""
    if np.isinf(claim.high):
        return f"at least {claim.low:g}"
    if np.isinf(claim.low):
        return f"at most {claim.high:g}"
    return f"{claim.low:g} to {claim.high:g}"


def times_grid(seconds: Table | None) -> Grid | None:
    """How long everything took, in minutes; None if nothing was timed."""
    if seconds is None:
        return None
    rows = zip(seconds["what"].tolist(), seconds["seconds"].tolist(), strict=True)
    return Grid(["what", "minutes"], [[what, f"{value / 60:.1f}"] for what, value in rows])


def verdict_table(verdicts: Verdicts) -> Table:
    """A row per claim and sweep."""
    rows = [v for of_claim in verdicts.values() for v in of_claim]
    columns = {"claim": [v.claim.key for v in rows], "finding": [v.claim.finding for v in rows], "sweep": [v.part for v in rows]}
    columns |= {name: [getattr(v, name) for v in rows] for name in ("mean", "low", "high", "n", "verdict", "rule")}
    return {name: np.array(values) for name, values in columns.items()}


def write_page(folder: Path, template: str, values: Mapping[str, Any], html: str = "") -> list[Path]:
    """Fill a template in; write it as Markdown, under the template's name, and as HTML, called `html` (default: the same name)."""
    markdown, page = folder / template, folder / (html or Path(template).with_suffix(".html").name)
    text = render(template, values)
    write_atomically(markdown, text)
    write_atomically(page, to_html(text, folder))
    return [markdown, page]
