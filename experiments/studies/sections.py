"""What the pages of other encoders and other worlds share: a section a sweep, and its table of accuracies."""

import string
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiments.studies.claims import TOP1, Claim, Verdict, judge, stated
from experiments.studies.page import Page
from experiments.studies.study import Study
from lrjax.analysis.gradient import GENERALISES
from lrjax.metrics import tabled
from lrjax.stats import ACCURACY, Table, groups, mean_interval, write_csv


def trained(page: Page, study: Study, titles: dict[str, str], command: str) -> Iterator[str]:
    """The sweeps that are trained, each after its heading; of the others the page says how to train them."""
    for part, title in titles.items():
        page.heading(title)
        if study.has(part):
            yield part
        else:
            page.text(f"Not tested: the sweep `{part}` is not trained yet (`{command} ARGS=--only={part}`).")


def answered(page: Page, study: Study, claims: Sequence[Claim], answers: dict[str, str]) -> dict[str, list[Verdict]]:
    """Write questions and their answers, in which names of claims stand for their values. Returns the verdicts on all claims."""
    verdicts = {claim.key: [judge(claim, study, claim.part)] for claim in claims}
    said = {key: stated(found[0]) for key, found in verdicts.items()}
    for question, answer in answers.items():
        named = [name for _, name, _, _ in string.Formatter().parse(answer) if name]
        measured = any(verdicts[name][0].n for name in named)
        page.answer(question, answer.format_map(said) if measured else "Not measured yet.")
    return verdicts


def section(page: Page, part: str, figures, verdicts: dict[str, list[Verdict]], table: Table, folder: Path) -> None:
    """A sweep's figures, verdicts and accuracies; the latter are written to `folder` too."""
    for path, caption in figures:
        page.figure(path, caption)
    for found in verdicts.values():
        if found[0].claim.part == part:
            page.claim(found)
    write_csv(folder / f"{part}.csv", table)
    page.table(*shown(table))


def summary(models: Table, by: tuple[str, ...], more: tuple[str, ...] = ()) -> Table:
    """Mean accuracies on unseen pairs, the share of models that generalise, both with intervals, and `more` means, by condition."""
    lines, accuracies = [], tabled(models)
    for key, rows in groups(models, by).items():
        line = dict(zip(by, key, strict=True)) | {"models": len(rows)}
        line |= {metric: np.nanmean(models[metric][rows]) for metric in (*accuracies, *more)}
        for metric in accuracies:
            line[f"{metric}_low"], line[f"{metric}_high"] = mean_interval(models[metric][rows], ACCURACY)[1:]
        share, low, high = mean_interval(models[TOP1][rows] > GENERALISES)
        lines.append(line | {"generalise": share, "generalise_low": low, "generalise_high": high})
    return {name: np.array([line[name] for line in lines]) for name in lines[0]}


def shown(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table for the page; intervals are in the CSV alone."""
    limits = {f"{name}{end}" for name in table for end in ("_low", "_high")}
    table = {name: column for name, column in table.items() if name not in limits}
    cell = lambda value: f"{value:.3f}" if isinstance(value, float) else str(value)
    return list(table), [
        [cell(value) for value in row] for row in zip(*(column.tolist() for column in table.values()), strict=True)
    ]
