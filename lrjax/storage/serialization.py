"""A run as parts, which are nested dicts of arrays, and a JSON-able meta, and back: what a checkpoint holds.

A slab is a part. Another number of devices reads what this one wrote: the parts of one static shape, put together, are its models
in order.
"""

import dataclasses
from functools import partial

import flax.serialization
import jax
import numpy as np

from lrjax import surroundings
from lrjax.config import FIELDS, LENGTH, MAX_MODELS, Model, Sweep
from lrjax.errors import InputError, Unusable
from lrjax.fields import PAIR
from lrjax.training.loop import start
from lrjax.training.programs import slabs_by_shape
from lrjax.training.run import History, Run
from lrjax.training.step import TrainState, init_state


def sweep_to_json(sweep: Sweep) -> dict:
    """The table of models by columns (a constant column as one value), and how long they train."""
    columns = {name: [getattr(m, name) for m in sweep.models] for name in FIELDS}
    models = {name: values if len(set(values)) > 1 else values[0] for name, values in columns.items()}
    length = {name: getattr(sweep, name) for name in LENGTH}
    return {"n_models": len(sweep.models), "models": models} | length


def sweep_from_json(data: dict) -> Sweep:
    """The inverse of sweep_to_json, after a trip through JSON (which makes lists of tuples). Raises InputError if too large."""
    if not 0 < data["n_models"] <= MAX_MODELS:
        raise InputError(f"n_models: {data['n_models']!r} is not possible; expected 1..{MAX_MODELS}")

    def column(name, value):
        pairs = name in FIELDS and FIELDS[name].type == PAIR
        many = isinstance(value, list) and (not pairs or isinstance(value[0], list))
        values = value if many else [value] * data["n_models"]
        return [tuple(v) for v in values] if pairs else values

    columns = {name: column(name, value) for name, value in data["models"].items()}
    models = tuple(Model(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))
    return Sweep(models, **{name: data[name] for name in LENGTH if name in data})


def run_to_parts(run: Run) -> tuple[dict[str, dict], dict]:
    """Parts, and a JSON-able meta: what `checkpoint.save` takes."""
    parts = {}
    for g, group in enumerate(slabs_by_shape(run.programs)):
        for number, i in enumerate(group):
            parts[_part(g, number)] = _without_none(flax.serialization.to_state_dict(run.states[i]))
    at, evaluated = np.zeros(len(run.sweep.models), np.int64), np.zeros(len(run.sweep.models), np.int64)
    for i, program in enumerate(run.programs):
        at[program.rows], evaluated[program.rows] = run.at[i], run.evaluated[i]
    parts["history"] = {"steps": np.stack(run.history.steps), "values": np.stack(run.history.values)}
    parts["models"] = {"at": at, "evaluated": evaluated}
    meta = {"sweep": sweep_to_json(run.sweep), "slab": run.slab, "metrics": list(run.history.metrics)}
    return parts, meta


def _part(group: int, number: int) -> str:
    """The name of the part that holds a slab of a static shape."""
    return f"program_{group}_{number}"


@surroundings.pinned()
def run_from_parts(parts: dict[str, dict], meta: dict) -> Run:
    """The inverse of run_to_parts, on any number of devices. Raises InputError if a name, shape or type is not this sweep's,
    Unusable for a stop between two evaluations at which slabs stood apart that are one here.
    """
    run = start(dataclasses.replace(sweep_from_json(meta["sweep"]), slab=meta["slab"]))
    for g, group in enumerate(slabs_by_shape(run.programs)):
        static = run.programs[group[0]].static
        models = sum(len(run.programs[i].rows) for i in group)
        hyper = jax.tree.map(lambda x: np.broadcast_to(x[:1], (models, *x.shape[1:])), run.programs[group[0]].hyper)
        found = {"diverged_at": np.full(models, -1, np.int32)} | _of_shape(parts, g)  # which format 1 did not have
        states = _restore_states(jax.eval_shape(jax.vmap(partial(init_state, static)), hyper), found)
        for i in group:
            m = len(run.programs[i].rows)
            run.states[i], states = (jax.tree.map(lambda x: x[part], states) for part in (slice(m), slice(m, None)))
    if "models" not in parts:
        parts, meta = _of_own_steps(parts, meta, len(run.sweep.models))
    history = parts["history"]
    run.history = History(tuple(meta["metrics"]), list(history["steps"].copy()), list(history["values"].copy()))
    for i, program in enumerate(run.programs):
        at, evaluated = (set(parts["models"][name][program.rows].tolist()) for name in ("at", "evaluated"))
        if len(at) > 1 or len(evaluated) > 1:
            raise Unusable("checkpoint: a stop at which slabs stood apart that are one slab on these devices", "use an evaluation")
        run.at[i], run.evaluated[i] = at.pop(), evaluated.pop()
    return run


def _of_shape(parts: dict[str, dict], group: int) -> dict:
    """The arrays of all models of a static shape. Up to format 3 they stood together."""
    if "programs" in parts:
        return parts["programs"][str(group)]
    slabs = [parts[_part(group, 0)]]
    while (name := _part(group, len(slabs))) in parts:
        slabs.append(parts[name])
    return slabs[0] if len(slabs) == 1 else jax.tree.map(lambda *x: np.concatenate(x), *slabs)


def _of_own_steps(arrays: dict, meta: dict, models: int) -> tuple[dict, dict]:
    """Arrays and meta of formats 1 and 2, in which all models shared one step, with the steps and evaluations of every model."""
    steps, values, metrics = arrays["history"]["steps"], arrays["history"]["values"], meta["metrics"]
    at, evaluated = np.full(models, steps[-1]), np.full(models, len(steps))
    steps = np.repeat(steps[:, None], models, 1)
    if "interval" in arrays:
        interval = arrays["interval"]
        at, evaluated = at + interval["ahead"], evaluated + interval["pending"]
        if interval["pending"].any():
            row = np.full((models, len(metrics)), np.nan, np.float32)
            for k, name in enumerate(meta["pending"]):
                row[:, metrics.index(name)] = interval["values"][:, k]
            steps, values = np.append(steps, at[None], 0), np.append(values, row[None], 0)
    models_at = {"at": at, "evaluated": evaluated}
    return arrays | {"history": {"steps": steps, "values": values}, "models": models_at}, meta


def _without_none(tree):
    """Nested dicts without the entries that are None: parts that an encoder does not have."""
    return {k: _without_none(v) for k, v in tree.items() if v is not None} if isinstance(tree, dict) else tree


def _with_none(expected, found):
    """`found` with the entries that are None in `expected`."""
    if not (isinstance(expected, dict) and isinstance(found, dict)):
        return found
    nothing = {k: None for k, v in expected.items() if v is None and k not in found}
    return {k: _with_none(expected.get(k), v) for k, v in found.items()} | nothing


def _restore_states(expected: TrainState, arrays: dict) -> TrainState:
    try:
        states = flax.serialization.from_state_dict(expected, _with_none(flax.serialization.to_state_dict(expected), arrays))
    except (KeyError, ValueError) as error:
        raise InputError(f"checkpoint: does not hold this sweep's parameters ({error}); it is another version's") from error

    def check(path, want, have):
        have = np.asarray(have)
        if (want.shape, want.dtype) != (have.shape, have.dtype):
            name = jax.tree_util.keystr(path)
            is_, want_ = f"{have.dtype}{have.shape}", f"{want.dtype}{want.shape}"
            raise InputError(f"checkpoint: {name} is {is_}, expected {want_}; it is another version's")
        return have

    return jax.tree_util.tree_map_with_path(check, expected, states)
