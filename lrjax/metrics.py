"""Metrics as data: what an accuracy measures, and of which images. Columns of tables and checkpoints are named here.

`METRICS` are those that every contrastive model has; `of_retrieval`, `of_decoding` and `of_head` are those of one evaluation set.
What they mean, `lrjax.training.retrieval` and `lrjax.models.decoder` say.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Self

import numpy as np

from lrjax.stats import ACCURACY, Table

SETS = ("single", "seen_pair", "unseen_pair")  # the evaluation sets that all tasks have; those of others begin with seen_, unseen_
MEASURES = {  # the measure -> its name for people
    "top1": "top-1",
    "order": "order",
    "label_set": "label set",
    "labels": "single labels",
    "order_given_set": "order, given the set",
    "named": "named",
    "alone": "said alone",
    "place": "places located",
    "order_located": "order located",
}
I2T, T2I = "i2t", "t2i"  # the caption of an image is retrieved, or the image of a caption
_OF_A_COLUMN = re.compile(
    r"(?P<set>single|(?:un)?seen_[a-z]+)"
    rf"(?:_(?P<measure>{'|'.join(sorted(MEASURES, key=len, reverse=True))}))?"
    r"(?P<candidates>_in_set)?(?:_(?P<word>[a-z]+))?(?P<direction>_t2i)?"
)


@dataclasses.dataclass(frozen=True)
class Metric:
    """One accuracy, in 0..1.

    Attributes:
        set: The evaluation set, such as "unseen_pair".
        measure: A key of MEASURES.
        direction: "i2t", from an image to its caption, or "t2i", from a caption to its image.
        candidates: Among which captions: "all" that are valid, or those of the "set" alone.
        word: The relation word, or the way to get a caption wrong, that this order is of. Empty: all.
    """

    set: str
    measure: str = "top1"
    direction: str = I2T
    candidates: str = "all"
    word: str = ""

    @property
    def suffix(self) -> str:
        """What the column has after the name of the set."""
        measure = "" if self.measure == "top1" else f"_{self.measure}"
        word = f"_{self.word}" if self.word else ""
        return measure + ("_in_set" if self.candidates == "set" else "") + word + ("_t2i" if self.direction == T2I else "")

    @property
    def column(self) -> str:
        """The column of tables and of the history."""
        return self.set + self.suffix

    @property
    def name(self) -> str:
        """The measure for people, as headings have it: without the set."""
        in_set = " in set" if self.candidates == "set" else ""
        word = f" of {self.word}" if self.word else ""
        return MEASURES[self.measure] + in_set + word + (", text to image" if self.direction == T2I else "")

    @property
    def chance(self) -> float | None:
        """What a model that tells nothing apart has; None where that depends on the number of candidates."""
        return 0.5 if self.measure in ("order", "order_given_set", "named") else None

    @classmethod
    def parse(cls, column: str) -> Self | None:
        """The metric of a column of a table; None if the column is none, such as a loss or an axis of the sweep."""
        match = _OF_A_COLUMN.fullmatch(column)
        if match is None or (match["word"] and match["measure"] != "order"):
            return None
        direction, candidates = T2I if match["direction"] else I2T, "set" if match["candidates"] else "all"
        return cls(match["set"], match["measure"] or "top1", direction, candidates, match["word"] or "")


def of_retrieval(name: str, words: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics of retrieval on the set `name`; `words` are told apart by the order of each. One object has no order."""
    if name == "single":
        return Metric(name), Metric(name, candidates="set"), Metric(name, direction=T2I)
    return (
        Metric(name),
        Metric(name, candidates="set"),
        Metric(name, "order"),
        Metric(name, "label_set"),
        Metric(name, "label_set", candidates="set"),
        Metric(name, "labels"),
        *(Metric(name, measure, T2I) for measure in ("top1", "order", "label_set")),
        *(Metric(name, "order", word=word) for word in words),
    )


def of_decoding(name: str) -> tuple[Metric, ...]:
    """The metrics of an autoregressive decoder on the set `name`. It has no candidates, and no direction from text to image."""
    measures = ("top1",) if name == "single" else ("top1", "order", "label_set", "named", "alone")
    return tuple(Metric(name, measure) for measure in measures)


def of_head(name: str) -> tuple[Metric, ...]:
    """The metrics of a localization head on the set `name`: where objects are, which one object does not ask."""
    return () if name == "single" else (Metric(name, "place"), Metric(name, "order_located"))


TOP1, ORDER, LABEL_SET = (Metric("unseen_pair", measure) for measure in ("top1", "order", "label_set"))
IN_SET = dataclasses.replace(TOP1, candidates="set")
GIVEN_SET = Metric("unseen_pair", "order_given_set")  # top-1 over label set
_ALL = tuple(metric for name in SETS for metric in of_retrieval(name))
METRICS = tuple(metric.column for direction in (I2T, T2I) for metric in _ALL if metric.direction == direction)
SHOWN = {metric.column: metric.name for metric in (ORDER, TOP1, LABEL_SET)}  # of unseen pairs, as people read them


def of_table(table: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics among the columns of a table, in their order."""
    return tuple(metric for column in table if (metric := Metric.parse(column)))


def of_words(table: Iterable[str]) -> tuple[Metric, ...]:
    """The orders of unseen pairs that a table tells apart by word."""
    return tuple(metric for metric in of_table(table) if metric.set == ORDER.set and metric.word)


def ends(column: str) -> tuple[float, float] | None:
    """The ends of the scale of a column, for `stats.mean_interval`: those of an accuracy; None of anything else, such as a loss."""
    return ACCURACY if Metric.parse(column) else None


def tabled(table: Table) -> dict[str, str]:
    """SHOWN for a printed table, with top-1 in set after top-1 where `table` has it: readers have no candidates, and older
    versions did not measure it.
    """
    measured = IN_SET.column in table and not np.isnan(table[IN_SET.column]).all()
    return {metric.column: metric.name for metric in (ORDER, TOP1, *([IN_SET] if measured else []), LABEL_SET)}
