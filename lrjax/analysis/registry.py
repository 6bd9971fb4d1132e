"""Every analysis by its name: what it asks of a run, what it measures, how it is drawn. A new analysis is one line here.

docs/guides/extend.md has an example. The modules are imported when an analysis is asked for, so that a list of names costs nothing.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Callable

import pandas as pd

from lrjax.analysis.result import Result
from lrjax.errors import InputError, suggest
from lrjax.gates import NONE
from lrjax.metrics import SHOWN
from lrjax.training.run import Run


@dataclasses.dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
      function: `module.name` in `lrjax.analysis`, or the function itself. It is called with a run and the caller's options, and
        returns a table or a Dataset.
      question: what it asks, in one sentence.
      measures: the columns that a summary shows.
      figure: `module.name` in `lrjax.plotting`, or the function itself. It is called with what `drawn` makes of the result. Empty:
        means with intervals are drawn.
      drawn: makes the arguments of `figure` from a result and its run.
      row_keys: where `function` returns a table of several rows a model, the columns that tell these apart.
      baseline: the column and the value of the rows that others are compared with, if there are such rows.
    """

    function: str | Callable
    question: str
    measures: tuple[str, ...]
    figure: str | Callable = ""
    drawn: Callable[[Result, Run], tuple] = lambda result, run: (result.table,)
    row_keys: tuple[str, ...] = ()
    baseline: tuple[str, str] | None = None

    @property
    def place(self) -> str:
        """Where the function stands, for people."""
        if isinstance(self.function, str):
            return f"lrjax.analysis.{self.function}"
        return f"{self.function.__module__}.{self.function.__qualname__}"


def _dataset(result: Result, run: Run) -> tuple:
    return (result.data,)


def _heldout(result: Result, run: Run) -> tuple:
    return result.table, run.sweep.models[0].n_heldout


def _head_table(module: str) -> Callable[[Result, Run], tuple]:
    return lambda result, run: (_found(f"{module}.head_table")(result.data),)


ORDER = tuple(SHOWN)
SECTION_5 = ("relational_printed", "relational_sums", "difference")
ANALYSES: dict[str, Analysis] = {
    "single_head_ablations": Analysis(
        "ablate.single_head_ablations",
        "What does each head lose with each term?",
        ORDER,
        row_keys=("ablation",),
        baseline=("ablation", NONE),
    ),
    "align": Analysis("align.align", "Are labels aligned?", ("cosine", "retrieval"), "align.alignment", _heldout),
    "decompose": Analysis("decompose.decompose", "Which terms do scores hold?", ("share_all",), "decompose.shares", _dataset),
    "depth": Analysis("depth.layers", "In which layer does the gradient form?", ("position_gradient",)),
    "decoder": Analysis("reader.reading", "At what does a decoder look?", ("prefers_right", "attention_left", "attention_right")),
    "gauge": Analysis(
        "gauge.moved",
        "What if E_cls + P_0 is divided otherwise?",
        ("unseen_pair_order",),
        "ablation.gauge",
        row_keys=("ablation", "cls"),
        baseline=("ablation", NONE),
    ),
    "gradient": Analysis("gradient.gradient", "Do heads score by position?", ("position_gradient", "label_spread", "ratio")),
    "grid": Analysis("grid.directions", "Across or down a grid?", ("gradient_horizontal", "gradient_vertical", "label_spread")),
    "heads": Analysis("heads.heads", "Which way do heads lean?", ("head_bias",), "heads.bias", _head_table("heads")),
    "law": Analysis("gauge.law", "Does E_cls - P_0 only decay?", ("shrunk", "deviation")),
    "query_law": Analysis("gauge.query_law", "What part of the position gradient is b_Q's?", ("share", "predicted")),
    "ratio": Analysis("gauge.ratio", "Is EP : PP what the gauge says?", ("ratio", "expected")),
    "relational": Analysis(
        "relational.by_head", "In how many images is a head relational?", SECTION_5, "relational.claim", row_keys=("head",)
    ),
    "routes": Analysis(
        "routes.routes",
        "By attention or by values: how does an image say what stands left?",
        ("order", "share_attention", "share_value", "order_attention", "order_value"),
    ),
    "swap": Analysis("text.swap", "How far do swapped labels move a caption?", ("moved",)),
    "text_attention": Analysis("text.attention", "Where does EOT look?", ("prefers_first", "log_odds")),
    "values": Analysis("values.values", "What decides between a caption and its swap?", ("mean", "share", "order_without")),
}


def analyses() -> pd.DataFrame:
    """Every analysis that `Run.analyze` knows: its name, its question, what it measures, and where its function stands."""
    rows = [(name, a.question, ", ".join(a.measures), a.place) for name, a in ANALYSES.items()]
    return pd.DataFrame(rows, columns=["name", "question", "measures", "function"]).set_index("name")


def analyze(run: Run, name: str, /, **options) -> Result:
    """Ask one analysis of a run.

    Args:
      run: the trained models.
      name: a name of ANALYSES.
      **options: arguments of the analysis' own function, such as encoder="text".

    Raises:
      InputError: there is no such analysis, it has no such option, or it does not apply to these models.
    """
    if not isinstance(name, str) or name not in ANALYSES:
        near = suggest(name, ANALYSES) if isinstance(name, str) else ""
        raise InputError(f"name={name!r}: is no analysis{near}; expected one of {', '.join(ANALYSES)}")
    analysis, function = ANALYSES[name], _found(ANALYSES[name].function)
    known = [option for option in inspect.signature(function).parameters if option not in ("run", "n_labels")]
    for option in options:
        if option not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise InputError(f"{option}: analysis {name!r} has no such option{suggest(option, known)}; expected {expected}")
    draw = None
    if analysis.figure:
        draw = lambda result: _found(analysis.figure, "plotting")(*analysis.drawn(result, run))
    return Result(name, function(run, **options), analysis.measures, analysis.row_keys, draw, analysis.baseline)


def _found(path: str | Callable, package: str = "analysis") -> Callable:
    if not isinstance(path, str):
        return path
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"lrjax.{package}.{module}"), name)
