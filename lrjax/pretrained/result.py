"""What an analysis of a pretrained model found, as `lrjax.analysis.result` has it: a row a place, with no seeds and no labels."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lrjax.analysis import result
from lrjax.stats import Table


@dataclasses.dataclass(frozen=True, repr=False)
class Result(result.Result):
    """A table with a column `model`, the places of a row (`row_keys`) and measures.

    Attributes:
      by: The columns whose combinations are the rows of a summary. Its means and intervals are over the rows of each, such as the
        heads of a layer or the pictures of a distance.
      arrays: Arrays that are no columns, such as maps over patches, by name.
    """

    by: tuple[str, ...] = ("model",)
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def summary(self, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Means with 95 % intervals over the rows of each combination of `by`, as `lrjax.analysis.result.Result.summary`."""
        return super().summary(self.by if by is None else by)

    def text(self, by: str | Sequence[str] | None = None) -> str:
        """The means of `summary` as people read them: three digits, or the power of ten of what is smaller."""
        short = lambda value: f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"
        shown = self.summary(by)[list(self.measures)]
        return shown.to_string(float_format=short)  # pyright: ignore[reportArgumentType]  # pandas declares less than it takes

    def __repr__(self) -> str:
        return f"{self.name}: means; .summary() has intervals, .to_dataframe() all rows\n{self.text()}"


def table(model: str, **columns) -> Table:
    """A table with a column `model`; values that are one for all rows are repeated."""
    arrays = {name: np.asarray(value) for name, value in columns.items()}
    n = max(len(array) for array in arrays.values() if array.ndim)
    filled = {name: np.full(n, array) if array.ndim == 0 else array for name, array in arrays.items()}
    return {"model": np.full(n, model), **filled}


def grid_table(model: str, axes: dict[str, Sequence], measures: dict[str, np.ndarray]) -> Table:
    """A table of measures that are arrays over `axes`, name -> values, in their order."""
    places = np.meshgrid(*(np.arange(len(values)) for values in axes.values()), indexing="ij")
    columns = {name: np.asarray(values)[at.ravel()] for (name, values), at in zip(axes.items(), places, strict=True)}
    return table(model, **columns, **{name: np.asarray(array).ravel() for name, array in measures.items()})


def joined(found: Sequence[Result]) -> Result:
    """Results of one analysis, such as of both encoders, as one: their rows one after another."""
    first = found[0].table
    return dataclasses.replace(found[0], data={name: np.concatenate([of.table[name] for of in found]) for name in first}, arrays={})
