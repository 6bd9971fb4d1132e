"""Which models of a run are asked: the part of a run whose models have given fields, or have not diverged.

A part is a run. Its tables have the rows that the tables of the whole run have of these models.
"""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from lrjax import arguments
from lrjax.config import FIELDS
from lrjax.errors import InputError, suggest
from lrjax.fields import PAIR, SINGULAR, Field
from lrjax.stats import Table
from lrjax.training.programs import Program
from lrjax.training.run import History, Run, model_columns

SHOWN = 8  # values that a message lists


def having(run: Run, name: str, value: Any) -> Run:
    """The part of a run whose models have a field of one of some values.

    Args:
      run: the run.
      name: a field of a model.
      value: a value, or several in a list, tuple, set, range or array.

    Raises:
      InputError: there is no such field, no value is given, or no model has one of the values.
    """
    if name not in FIELDS:
        raise InputError(f"{name}={value!r}: is no field of a model{suggest(name, FIELDS)}; expected one such as n_labels=15")
    return _with(run, name, {f"{name}={one!r}": one for one in _values(FIELDS[name], value)})


def _values(of_field: Field, value: Any) -> list:
    """The values that an argument gives for a field. Raises InputError if there is none, or if a number is given as text."""
    name, is_array = of_field.name, isinstance(value, np.ndarray) and value.ndim > 0
    several = is_array or isinstance(value, list | set | range) or (isinstance(value, tuple) and of_field.type != PAIR)
    wanted = list(value) if several else [value]
    if not wanted:
        raise InputError(f"{name}={value!r}: is empty; expected a value, or several in a list")
    if name == "gates":
        wanted = [arguments.text("gates", one, "EP=0") for one in wanted]
    for one in wanted:
        if isinstance(one, str) and of_field.type is not str:
            meant = of_field.parse(one)
            example = "" if meant is None else f", such as {name}={meant!r}"
            raise InputError(f"{name}={one!r}: is a text; expected {SINGULAR[of_field.type]}{example}")
    return [of_field.canonical(one) for one in wanted]


def _with(run: Run, name: str, wanted: dict[str, Any]) -> Run:
    """The part of a run whose models have one of these values of a field; `wanted`: what the user wrote -> the value that it means.

    Raises:
      InputError: no model has one of the values.
    """
    found = [getattr(model, name) for model in run.sweep.models]
    for written, value in wanted.items():
        if not any(_equal(value, there) for there in found):
            values = sorted(set(found))
            expected = " or ".join(map(str, values[:SHOWN])) + (" or another" if len(values) > SHOWN else "")
            raise InputError(f"{written}: no model has it; expected {name}={expected}")
    return some_of(run, [any(_equal(value, there) for value in wanted.values()) for there in found])


def _equal(wanted: Any, there: Any) -> bool:
    """Whether a value is meant: numbers may be of another type, or rounded to float32."""
    if isinstance(there, bool) or isinstance(wanted, bool):
        return isinstance(there, bool) and isinstance(wanted, bool | np.bool_) and wanted == there
    if isinstance(there, float) and isinstance(wanted, numbers.Real | np.ndarray):
        return bool(np.isclose(float(wanted), there, rtol=1e-6, atol=0))
    return bool(np.all(wanted == there))


def where(run: Run, fields: Sequence[str]) -> Run:
    """The part of a run whose models have these fields, as the command line gives them.

    Args:
      run: the run.
      fields: texts "NAME=VALUE".

    Raises:
      InputError: a text is of another form, or there is no such field or no such model.
    """
    for text in fields:
        name, is_given, value = (part.strip() for part in text.partition("="))
        if name not in FIELDS or not is_given:
            expected = "NAME=VALUE of a field of the models, such as n_layers_vision=2 or weight_decay=0.1"
            raise InputError(f"--where={text}: is no such field{suggest(name, FIELDS)}; expected {expected}")
        run = _with(run, name, {f"--where={text}": FIELDS[name].parse(value)})
    return run


def fields_of(text: str) -> list[str]:
    """The fields of a --where, in one order: `n_heads=4;gates=EP=0;text:EP=0` has two, as gates may hold a `;` too."""
    fields: list[str] = []
    for part in text.split(";"):
        if fields and fields[-1].startswith("gates=") and part.partition("=")[0].strip() not in FIELDS:
            fields[-1] += f";{part}"
        else:
            fields.append(part.strip())
    return sorted(fields)


def of_labels(run: Run, n_labels: Sequence[int] | None) -> Run:
    """The part of a run whose models have one of these N (None: all models). Raises InputError if no model has one of them."""
    found = [model.n_labels for model in run.sweep.models]
    for n in n_labels or ():
        if n not in found:
            expected = ", ".join(map(str, sorted(set(found))))
            raise InputError(f"--labels={n}: no model has so many labels; expected some of {expected}")
    return some_of(run, np.isin(found, n_labels or found))


def healthy(run: Run) -> Run:
    """The part of a run whose models have not diverged: analyses ask these models alone. Raises InputError if there is none."""
    keep = np.ma.getmaskarray(run.diverged_at)
    if not keep.any():
        raise InputError(f"--ckpt: all {len(keep)} models have diverged: there is nothing to ask; train with a lower lr")
    return some_of(run, keep)


def some_of(run: Run, keep: Sequence[bool] | np.ndarray) -> Run:
    """The run of those of its models for which `keep` [M] is true: its sweep, programs, states and history have them alone.

    Tables of a part have the rows that the whole's have of these models: the same columns, and their numbers in `model`, so that
    they join. A part is there to be asked: what is to be trained on is a sweep of its own.
    """
    if all(keep):
        return run
    kept, programs, states, at, evaluated = np.flatnonzero(keep), [], [], [], []
    for i, (program, state) in enumerate(zip(run.programs, run.states, strict=True)):
        rows = np.flatnonzero(np.isin(program.rows, kept))
        if not len(rows):
            continue
        padded = np.append(rows, rows[-1:].repeat(-len(rows) % jax.device_count()))
        hyper = jax.tree.map(lambda x, rows=padded: x[rows], program.hyper)
        programs.append(Program(program.static, np.searchsorted(kept, program.rows[rows]), hyper, program.evaluated_at))
        states.append(jax.tree.map(lambda x, rows=rows: x[rows], state))
        at.append(run.at[i])
        evaluated.append(run.evaluated[i])
    models, numbers = tuple(run.sweep.models[row] for row in kept), model_columns(run.sweep)["model"][kept].tolist()
    part = dataclasses.replace(run.sweep, models=models, part_of=run.sweep.part_of or run.sweep, numbers=tuple(numbers))
    of_kept = lambda arrays: [array[kept] for array in arrays]
    history = History(run.history.metrics, of_kept(run.history.steps), of_kept(run.history.values))
    return Run(part, run.slab, tuple(programs), states, at, evaluated, history)


def by_shape(run: Run, *fields: str) -> list[Run]:
    """The run in parts whose models agree in these fields. Results that are named by layer or head need one shape at a time."""
    keys = [tuple(getattr(model, name) for name in fields) for model in run.sweep.models]
    return [some_of(run, [key == of_part for key in keys]) for of_part in sorted(set(keys))]


def merged(parts: Sequence[Table]) -> Table:
    """Tables of `by_shape`'s parts as one, in the order of models."""
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(table["model"], kind="stable")
    return {name: column[order] for name, column in table.items()}
