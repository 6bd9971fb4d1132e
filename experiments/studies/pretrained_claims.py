"""Claims on pretrained models and on the controls that were trained here, judged by the rule of all pages.

Those on the DINOv2-like model were asked after the run: its tables had been seen when the thresholds were set. Of the models that
were trained here, others of the same recipes had been seen.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from markupsafe import Markup

from experiments.studies.page import expected
from experiments.studies.pretrained_terms import by_encoder, strongest_change
from experiments.studies.pretrained_values import FOCUS, RESULTS, kinds, of_own_pictures, of_summaries, read
from experiments.studies.templating import Grid
from experiments.studies.verdicts import INF, Claim, NoModel, Verdict, interval_of, judge
from lrjax.stats import Table

ODD = "odd_size_columns"


def by_layer(table: Table, column: str) -> np.ndarray:
    """Means over heads, a value a layer."""
    layers = dict.fromkeys(table["layer"].tolist())
    return np.array([np.nanmean(table[column][table["layer"] == layer]) for layer in layers])


def columns_less_rows(measure: str) -> Callable[[Path, str], np.ndarray]:
    """Of the DINOv2-like model, layer by layer: a measure over columns less that over rows."""

    def values(results: Path, _: str) -> np.ndarray:
        table = read(FOCUS, "gradient", results)
        if table is None:
            raise NoModel(f"{FOCUS}: has no table")
        return by_layer(table, f"{measure}_columns") - by_layer(table, f"{measure}_rows")

    return values


def pairs_of(results: Path, things: str) -> tuple[list[str], list[str]]:
    """The models that were trained here on so many things, of plain and of mirrored pictures, in the order of their seeds. Raises
    NoModel if there are none of a kind, or not the same seeds.
    """
    found = [names for title, names in kinds(results).items() if f", {things} things," in title]
    if len(found) != 2 or len(found[0]) != len(found[1]):
        raise NoModel(f"{things} things: no pairs of models")
    plain, mirrored = sorted(found, key=lambda names: "mirrored" in names[0])
    return plain, mirrored


def fallen(results: Path, things: str) -> np.ndarray:
    """The size of the odd part of mirrored models over that of plain ones, seed by seed."""
    plain, mirrored = (of_summaries(names, ODD, results) for names in pairs_of(results, things))
    return mirrored / plain


def head_effect(results: Path, things: str) -> np.ndarray:
    """The size of what the strongest head of images does to the mean margin by its position terms: plain less mirrored, by seed."""
    sizes = []
    for names in pairs_of(results, things):
        parts = dict(by_encoder(names, "gates_recomputed", results)).get("images", [])
        if len(parts) != len(names):
            raise NoModel(f"{things} things: no gates of both encoders")
        sizes.append(strongest_change(parts, is_sum=True))
    return sizes[0] - sizes[1]


def order_of(mirrored: bool, column: str) -> Callable[[Path, str], np.ndarray]:
    """A column of `trained.csv` on the things of the training pairs."""
    return lambda results, things: of_own_pictures(pairs_of(results, things)[mirrored], "trained", column, results)


def claims(things: tuple[str, ...]) -> tuple[Claim, ...]:
    """The claims: on the DINOv2-like model, and on the models that were trained here on so many things."""
    dino = (
        ("odd", "its odd share over columns is below that over rows", "odd share, columns less rows", columns_less_rows("odd")),
        ("size", "its odd part over columns is smaller than over rows", "size of the odd part, columns less rows",
         columns_less_rows("odd_size")),
    )  # fmt: skip
    found = [
        Claim(f"focus_{key}", f"DINOv2-like: {finding}", "", f"{contrast}, by layer", -INF, 0, values)
        for key, finding, contrast, values in dino
    ]
    for n in things:
        rows = (
            ("order", "from pictures as they are the order is learned", "order", 0.8, 1, order_of(False, "order")),
            ("exchanged", "captions of left and right change places with the position rows", "order, columns exchanged", 0, 0.2,
             order_of(False, "order_exchanged")),
            ("chance", "from mirrored pictures the order is chance", "order", 0.45, 0.55, order_of(True, "order")),
            ("vanishes", "mirrored pictures halve the odd part at least", "its size over columns, mirrored over plain", -INF, 0.5,
             fallen),
            ("gates", "position terms of one image head carry the margin, but not after mirrored pictures (asked after this run)",
             "size of the change by the strongest head, plain less mirrored", 0, INF, head_effect),
        )  # fmt: skip
        found += [
            Claim(f"{key}_{n}", f"{n} things: {finding}", "", contrast, low, high, values, n)
            for key, finding, contrast, low, high, values in rows
        ]
    return tuple(found)


def verdicts(results: Path = RESULTS) -> dict[str, list[Verdict]]:
    """The verdict on each claim, by key."""
    things = dict.fromkeys(title.split(", ")[1].removesuffix(" things") for title in kinds(results))
    return {claim.key: [judge(claim, results)] for claim in claims(tuple(things))}


def grid(found: dict[str, list[Verdict]]) -> Grid:
    """A row a claim."""
    rows = []
    for (verdict,) in found.values():
        claim, word = verdict.claim, Markup(f"**{verdict.verdict}**")
        over = f"{verdict.n} {'seeds' if claim.part else 'layers'}"
        rows.append([claim.finding, claim.contrast, expected(claim), interval_of(verdict), over, word])
    return Grid(["claim", "contrast", "expected", "measured [95 %]", "over", "verdict"], rows)
