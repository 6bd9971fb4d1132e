"""The explorer's page: models of one run or several at several steps of training, and the scripts that read them, in one file.

Models are picked by the fields in which those of one run differ, and by the run, which stands for all fields in which only runs
differ: the recipe.
"""

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

import lrjax
from lrjax.config import FIELDS, Hyper
from lrjax.data.scenes import label_name
from lrjax.errors import InputError
from lrjax.explorer import packing, tables
from lrjax.gates import ENCODERS, NONE
from lrjax.storage.files import write_atomically
from lrjax.terms import GATES
from lrjax.training.run import Run

Step = TypeVar("Step")
LARGEST = 5_000_000  # bytes of a page
MARK = '<meta name="generator" content="lrjax explorer">'  # what tells a page of ours
SCRIPTS = ("forward.js", "state.js", "lab.js", "draw.js", "controls.js", "page.js")
RUN = "run"  # the axis of runs
CURVES = ("single", "seen_pair", "unseen_pair", "unseen_pair_order")


class Trained(NamedTuple):
    """Models that were trained together.

    Attributes:
        source: what `lrjax.load` takes for them, for the snippet of Python that the page shows; its last part names them.
        runs: the run at several steps of training, oldest first: the same models in each.
    """

    source: str
    runs: Sequence[Run]

    @property
    def name(self) -> str:
        """How a reader picks them."""
        return Path(self.source).name

    @property
    def last(self) -> Run:
        """The run at its last step."""
        return self.runs[-1]


def write(path: Path, sweeps: Sequence[Trained]) -> None:
    """Write the page of some models.

    Args:
        path: the file; a page of the explorer that is there is replaced.
        sweeps: the models, by the run that trained them; names of runs differ.

    Raises:
        InputError: the explorer cannot show such models, the page would be too large, or the file is not ours to replace.
    """
    refuse_foreign(path)
    write_atomically(path, html(page_data(sweeps)))


def refuse_foreign(path: Path) -> None:
    """Raise InputError if there is something at a path that is no page of the explorer."""
    if path.is_file() and MARK in path.read_text(errors="replace")[:2000]:
        return
    if path.exists() or path.is_symlink():
        raise InputError(f"--out={path}: is there already, and is no page of the explorer; give another file")


def spread(steps: Sequence[Step], n: int) -> list[Step]:
    """At most n of these steps, closer together early, where models change most; the first and the last are among them."""
    if len(steps) <= n:
        return list(steps)
    rows = np.unique(((len(steps) - 1) * np.linspace(0, 1, n) ** 1.5).round().astype(int)) if n > 1 else [-1]
    return [steps[row] for row in rows]


def page_data(sweeps: Sequence[Trained]) -> dict[str, Any]:
    """All that a page knows, as JSON can say it. Raises InputError: a model cannot be shown, or two runs share a name."""
    for program in (program for of in sweeps for program in of.last.programs):
        tables.check(program.static)
    names = [of.name for of in sweeps]
    if len(set(names)) < len(names):
        raise InputError(f"--ckpt: two runs are called {max(names, key=names.count)!r}; expected folders of different names")
    varies = [name for name in FIELDS if any(len(_values(of, name)) > 1 for of in sweeps)]
    shown = list(dict.fromkeys(["n_labels", *varies, "seed"]))
    models = [
        _model_data(sweeps, number, row, shown) for number, of in enumerate(sweeps) for row in range(len(of.last.sweep.models))
    ]
    runs = [{"name": of.name, "source": of.source, "recipe": _recipe(sweeps, of, shown)} for of in sweeps]
    meanings = {RUN: "the run, and with it the recipe by which its models were trained"} if len(sweeps) > 1 else {}
    meanings |= {name: FIELDS[name].meaning for name in shown}
    values = {name: list(dict.fromkeys(model["fields"][name] for model in models)) for name in meanings}
    axes = [{"name": name, "meaning": meaning, "values": values[name]} for name, meaning in meanings.items()]
    return {"version": lrjax.__version__, "gates": list(GATES), "runs": runs, "axes": axes, "models": models}


def _values(of: Trained, name: str) -> list:
    """The values that a run's models have of a field."""
    return list(dict.fromkeys(_plain(getattr(model, name)) for model in of.last.sweep.models))


def _recipe(sweeps: Sequence[Trained], of: Trained, shown: Sequence[str]) -> dict[str, Any]:
    """The length of a run, and its values of the fields in which only runs differ."""
    differ = [name for name in FIELDS if name not in shown and len({str(_values(one, name)) for one in sweeps}) > 1]
    return {"steps": of.last.step} | {name: _values(of, name)[0] for name in differ}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, bool)) else str(value)


def _model_data(sweeps: Sequence[Trained], number: int, row: int, shown: Sequence[str]) -> dict[str, Any]:
    """One model, by the number of its run and its row there: fields, sequences, history, and the tables at every step."""
    of = sweeps[number]
    static, hyper, _, _ = _of(of.last, row)
    model = of.last.sweep.models[row]
    seen, (said, captions) = tables.images(static, model.n_labels), tables.captions(static, hyper)
    checkpoints = []
    for run in of.runs:
        _, hyper, params, step = _of(run, row)
        spec, data = packing.pack(tables.of_model(static, hyper, params, seen, said))
        gates = {} if model.gates == NONE else {"gates": _gates(hyper, step)}
        checkpoints.append({"step": step, "spec": spec, "data": data} | gates)
    named = {RUN: of.name} if len(sweeps) > 1 else {}
    return {
        "run": number,
        "fields": named | {name: _plain(getattr(model, name)) for name in shown},
        "cells": static.L,
        "heldout": static.n_heldout,
        "labels": [label_name(a, static.n_heldout) for a in range(static.n_heldout + model.n_labels)],
        "rows": {"background": 0, "cls": 1, "label": 2, "vision": len(seen.tokens), "text": len(said.tokens)},
        "captions": captions,
        "history": _history(of.last, row),
        "checkpoints": checkpoints,
    }


def _of(run: Run, row: int):
    """Static side, traced side, parameters and step of one model of a run, by its row among `run.sweep.models`."""
    for program, state, at in zip(run.programs, run.states, run.at, strict=True):
        if row in program.rows:
            i = int(np.flatnonzero(program.rows == row)[0])
            assert state is not None  # of a run that was loaded
            hyper, params = (jax.tree.map(lambda x: np.asarray(x[i]), tree) for tree in (program.hyper, state.params))
            return program.static, hyper, params, at
    raise ValueError(f"row {row}: no program has it")


def _gates(hyper: Hyper, step: int) -> dict[str, list]:
    """The gates in force at a step of a model that was trained with gates, of the one block of each encoder."""
    found = jax.device_get(jax.jit(lambda schedule: schedule.at(step))(jax.device_put(hyper.gates)))
    return {name: getattr(found, name)[0].tolist() for name in ENCODERS}


def _history(run: Run, row: int) -> dict[str, list]:
    """The steps of a model's evaluations, and its accuracies there."""
    curves = [name for name in CURVES if name in run.history.metrics]
    made = run.evaluations
    values = {name: [_rounded(v[row, run.history.metrics.index(name)]) for v in run.history.values[:made]] for name in curves}
    return {"step": [int(steps[row]) for steps in run.history.steps[:made]]} | values


def _rounded(value) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def asset(name: str) -> str:
    """The text of a file of assets."""
    return (importlib.resources.files("lrjax.explorer") / "assets" / name).read_text("utf-8")


def html(data: Mapping[str, Any]) -> str:
    """The page. Raises InputError if it is too large."""
    script = "\n".join(asset(name) for name in SCRIPTS)
    # </ would end the script, and <!-- begin a comment, wherever they stand in the text
    embedded = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/").replace("<!--", "\\u003c!--")
    parts = {"MARK": MARK, "STYLE": asset("page.css"), "DATA": embedded, "SCRIPT": script}
    page = asset("page.html")
    for name, text in parts.items():
        page = page.replace(f"<!-- {name} -->", text, 1)
    if (size := len(page.encode())) > LARGEST:
        models, steps = len(data["models"]), max(len(model["checkpoints"]) for model in data["models"])
        raise InputError(
            f"explorer: {models} models at {steps} steps make a page of {size / 1e6:.1f} MB; expected at most "
            f"{LARGEST / 1e6:.0f} MB: choose fewer models with --labels or --where, or fewer --checkpoints"
        )
    return page
