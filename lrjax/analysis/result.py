"""What an analysis found, as people want it: a DataFrame, an xarray Dataset, a summary with intervals, or a figure."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from lrjax.analysis.models import tidy
from lrjax.config import AXIS_COLUMNS, STATIC
from lrjax.errors import InputError
from lrjax.metrics import ends
from lrjax.stats import Table, groups, mean_interval, select, varying

MODEL_COLUMNS = ("model", "seed", *AXIS_COLUMNS, *STATIC)


class Summary(pd.DataFrame):
    """A DataFrame that is printed whole: columns for which a terminal is too narrow follow below the others."""

    def __repr__(self) -> str:
        return self.to_string(line_width=shutil.get_terminal_size().columns)

    def _repr_html_(self) -> str:
        return self.to_html()


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What one analysis found of the models of a run.

    Attributes:
      name: the analysis, as `lrjax.analyses()` lists it.
      data: a table of one row a model and item (head, layer, ablation, ...), or arrays with `model` as their first dimension.
      measures: the columns that a summary and a plot show, the most important first.
      row_keys: the columns of a table that tell the rows of one model apart; arrays have dimensions for it.
      figure: what draws the whole result; None where `plot` draws means with intervals alone.
      baseline: the column and the value of the rows that others are compared with, if there are such rows.
      signed: whether the measures are differences; their intervals are not cut at the ends of a scale.
    """

    name: str
    data: Table | xr.Dataset
    measures: tuple[str, ...]
    row_keys: tuple[str, ...] = ()
    figure: Callable[["Result"], object] | None = None
    baseline: tuple[str, str] | None = None
    signed: bool = False

    def to_dataframe(self) -> pd.DataFrame:
        """One row a model and place: the models' axes, the place (head, layer, ablation, ...), the measures.

        Arrays that have further dimensions than the measures are in `to_xarray` alone.
        """
        return pd.DataFrame(self.table)

    def to_xarray(self) -> xr.Dataset:
        """The same as arrays with named dimensions, `model` first; axes of the models are coordinates."""
        if isinstance(self.data, xr.Dataset):
            return self.data
        frame = self.to_dataframe()
        of_model = [name for name in MODEL_COLUMNS if name in frame and name != "model"]
        models = frame[["model", *of_model]].drop_duplicates().set_index("model")
        found = frame.drop(columns=of_model).set_index(["model", *self.places]).to_xarray()
        return found.assign_coords({name: ("model", models.loc[found["model"].values, name]) for name in of_model})

    @property
    def table(self) -> Table:
        """The result as a dict of column name -> array, rows aligned: the form that lrjax's own functions take."""
        if not isinstance(self.data, xr.Dataset):
            return self.data
        dims = set(self.data[self.measures[0]].dims)
        return tidy(self.data[[name for name in self.data.data_vars if set(self.data[name].dims) <= dims]])

    @property
    def places(self) -> tuple[str, ...]:
        """The columns that tell the rows of one model apart."""
        if isinstance(self.data, xr.Dataset):
            return tuple(str(name) for name in self.data[self.measures[0]].dims if name != "model")
        return self.row_keys

    def summary(self, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Means over models with 95 % intervals.

        Args:
          by: columns whose combinations are the rows. The default is the number of labels, all other axes on which the models
            differ, and the places of a model (head, ablation, ...).

        Returns:
          A DataFrame indexed by `by`: how many models, and for each measure its mean and the ends of its interval, `_low` and
          `_high` (Student's t, cut at the ends of the scale; NaN for one model). It is printed whole, however wide it is.
        """
        table = self.table
        axes = [name for name in varying(table, MODEL_COLUMNS) if name not in ("model", "seed", "n_labels")]
        keys = ("n_labels", *axes, *self.places) if by is None else (by,) if isinstance(by, str) else tuple(by)
        if unknown := [name for name in keys if name not in table or name in self.measures] or ([] if keys else [by]):
            known = ", ".join(name for name in table if name not in self.measures)
            raise InputError(f"by={by!r}: {unknown[0]!r} is no column to group by; expected some of {known}")
        rows = []
        for key, members in self._grouped(table, keys):
            row = dict(zip(keys, key, strict=True)) | {"models": len(set(table["model"][members].tolist()))}
            for name in self.measures:
                values = table[name][members]
                limits = mean_interval(values, within=None if self.signed else ends(name))
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), limits, strict=True))
            rows.append(row)
        return Summary(pd.DataFrame(rows).set_index(list(keys)))

    def differences(self) -> pd.DataFrame:
        """Means of paired differences to the baseline of the same model, with 95 % intervals.

        Returns:
          As `summary`, without the rows of the baseline.

        Raises:
          InputError: this analysis has no baseline.
        """
        if self.baseline is None:
            raise InputError(f"differences: {self.name!r} has no baseline; expected the result of an ablation")
        column, name = self.baseline
        table = self.table
        untouched, others = (select(table, (table[column] == name) == is_untouched) for is_untouched in (True, False))
        same = ["model", *(key for key in self.places if key != column)]
        key_of = lambda part: list(zip(*(part[key].tolist() for key in same), strict=True))
        row_of = {key: i for i, key in enumerate(key_of(untouched))}
        rows = [row_of[key] for key in key_of(others)]
        changes = {measure: others[measure] - untouched[measure][rows] for measure in self.measures}
        return dataclasses.replace(self, data=others | changes, baseline=None, signed=True).summary()

    @staticmethod
    def _grouped(table: Table, keys: tuple[str, ...]):
        """Groups of rows in the order of the first row of each place: ablations stay as they were asked."""
        found = groups(table, keys)
        labels_first = lambda item: (item[0][0], item[1][0])
        return sorted(found.items(), key=labels_first)

    def plot(self, ax=None):
        """Draw the result.

        Args:
          ax: matplotlib axes to draw the first measure into, as means with 95 % intervals. Without, the figure of this analysis.

        Returns:
          The figure.
        """
        from lrjax.plotting.result import means

        if ax is None and self.figure is not None:
            return self.figure(self)
        return means(self.summary(), self.measures[:1] if ax is not None else self.measures, self.name, ax)

    def __repr__(self) -> str:
        shown = self.summary()
        text = shown[["models", *self.measures]].round(3).to_string()
        n = len(set(np.asarray(self.table["model"]).tolist()))
        return f"{self.name} of {n} models: means over models; .summary() has intervals, .to_dataframe() all rows\n{text}"
