"""The explorer's page: the models of a run at several steps of training, and the scripts that read them, in one HTML file.

A checkpoint is one text in base64: the scores in float32, then the rows of what is written, each with a float32 scale and 24 bits
an entry. Cosines do not see a rotation of the embedding space. So the space is turned until row i has entries in its first i + 1
places alone, which leaves out a quarter to a half of all numbers. Cosines are Python's to 1e-5 (`tests/unit/test_explorer.py`).
"""

import base64
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

import lrjax
from lrjax.config import FIELDS, Hyper, Model
from lrjax.data.scenes import label_name
from lrjax.errors import InputError
from lrjax.explorer import tables
from lrjax.gates import ENCODERS, NONE
from lrjax.storage.files import write_atomically
from lrjax.terms import GATES
from lrjax.training.run import Run

Step = TypeVar("Step")
LARGEST = 5_000_000  # bytes of a page
MARK = '<meta name="generator" content="lrjax explorer">'  # what tells a page of ours
SCRIPTS = ("forward.js", "state.js", "lab.js", "draw.js", "controls.js", "page.js")
CURVES = ("single", "seen_pair", "unseen_pair", "unseen_pair_order")
LAST = 2**23 - 1  # the largest whole number of 24 bits


def write(path: Path, runs: Sequence[Run], source: str) -> None:
    """Write the page of a run's models.

    Args:
        path: the file; a page of the explorer that is there is replaced.
        runs: the run at several steps of training, oldest first: the same models in each.
        source: what `lrjax.load` takes for this run, for the snippet of Python that the page shows.

    Raises:
        InputError: the explorer cannot show such models, the page would be too large, or the file is not ours to replace.
    """
    refuse_foreign(path)
    write_atomically(path, html(page_data(runs, source)))


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


def page_data(runs: Sequence[Run], source: str) -> dict[str, Any]:
    """All that a page knows, as JSON can say it."""
    for program in runs[-1].programs:
        tables.check(program.static)
    models = runs[-1].sweep.models
    axes = [name for name in FIELDS if len({getattr(model, name) for model in models}) > 1]
    shown = list(dict.fromkeys(["n_labels", *axes, "seed"]))
    every = [_model_data(runs, row, shown) for row in range(len(models))]
    return {"version": lrjax.__version__, "source": source, "gates": list(GATES), "axes": _axes(models, shown), "models": every}


def _axes(models: Sequence[Model], names: Sequence[str]) -> list[dict]:
    """The fields by which a reader picks a model: name, meaning, and the values that there are."""
    values = lambda name: list(dict.fromkeys(_plain(getattr(model, name)) for model in models))
    return [{"name": name, "meaning": FIELDS[name].meaning, "values": values(name)} for name in names]


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, bool)) else str(value)


def _model_data(runs: Sequence[Run], row: int, shown: Sequence[str]) -> dict[str, Any]:
    """One model: its fields, its sequences, its history, and its tables at every step."""
    static, hyper, _, _ = _of(runs[-1], row)
    model = runs[-1].sweep.models[row]
    seen, (said, captions) = tables.images(static, model.n_labels), tables.captions(static, hyper)
    checkpoints = []
    for run in runs:
        _, hyper, params, step = _of(run, row)
        found = tables.of_model(static, hyper, params, seen, said)
        spec, data = pack(found)
        checkpoints.append(
            {"step": step, "spec": spec, "data": data} | ({} if model.gates == NONE else {"gates": _gates(hyper, step)})
        )
    labels = [label_name(a, static.n_heldout) for a in range(static.n_heldout + model.n_labels)]
    return {
        "fields": {name: _plain(getattr(model, name)) for name in shown},
        "cells": static.L,
        "heldout": static.n_heldout,
        "labels": labels,
        "rows": {"background": 0, "cls": 1, "label": 2, "vision": len(seen.tokens), "text": len(said.tokens)},
        "captions": captions,
        "history": _history(runs[-1], row),
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


def pack(found: Mapping[str, tables.Tables]) -> tuple[list[dict], str]:
    """The tables of a model's encoders as one text in base64, and the specification by which forward.js reads it.

    Args:
        found: the tables of each encoder; both have one width of embeddings.

    Returns:
        The arrays in their order, each with `encoder`, `name` and `shape`, scores first; and the text.
    """
    scores = {encoder: of.scores for encoder, of in found.items()}
    written = {(encoder, name): getattr(of, name) for encoder, of in found.items() for name in ("values", "constant")}
    rows = turned(np.concatenate([array.reshape(-1, array.shape[-1]) for array in written.values()]))
    width = rows.shape[-1]
    spec = [{"encoder": encoder, "name": "scores", "shape": list(array.shape)} for encoder, array in scores.items()]
    spec += [{"encoder": encoder, "name": name, "shape": [*a.shape[:-1], width]} for (encoder, name), a in written.items()]
    packed = [array.astype("<f4").tobytes() for array in scores.values()]
    packed += [in_24_bits(row[: i + 1]) for i, row in enumerate(rows)]
    return spec, base64.b64encode(b"".join(packed)).decode()


def turned(rows: np.ndarray) -> np.ndarray:
    """Rows [r, e] under a rotation of their space, [r, min(r, e)]: row i is 0 after its first i + 1 entries."""
    return np.asarray(np.linalg.qr(rows.T, mode="r")).T


def in_24_bits(row: np.ndarray) -> bytes:
    """A row of numbers as a float32 scale and whole numbers of 24 bits, little-endian."""
    scale = (np.abs(row).max() / LAST).astype("<f4")
    whole = np.rint(row / (scale or 1)).clip(-LAST, LAST).astype("<i4")
    return scale.tobytes() + whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def asset(name: str) -> str:
    """The text of a file of assets."""
    return (importlib.resources.files("lrjax.explorer") / "assets" / name).read_text("utf-8")


def html(data: Mapping[str, Any]) -> str:
    """The page. Raises InputError if it is too large."""
    script = "\n".join(asset(name) for name in SCRIPTS)
    # </ would end the script, wherever it stands in the text
    embedded = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    parts = {"MARK": MARK, "STYLE": asset("page.css"), "DATA": embedded, "SCRIPT": script}
    page = asset("page.html")
    for name, text in parts.items():
        page = page.replace(f"<!-- {name} -->", text, 1)
    if (size := len(page.encode())) > LARGEST:
        models, steps = len(data["models"]), len(data["models"][0]["checkpoints"])
        raise InputError(
            f"explorer: {models} models at {steps} steps make a page of {size / 1e6:.1f} MB; expected at most "
            f"{LARGEST / 1e6:.0f} MB: choose fewer models with --labels or --where, or fewer --checkpoints"
        )
    return page
