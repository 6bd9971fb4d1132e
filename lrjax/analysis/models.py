"""One question to one model -> labelled arrays over all models of a run.

A *question* is a pure function of one model with the signature of `sweep.Measure`: (static, hyper, splits, params, gates) -> dict
of arrays. `map_models` asks it of every model in one program per static shape, sharded over all devices, and names the axes: an
`xarray.Dataset` with `model` first, whose coordinates are the models' places on the axes of the sweep. `tidy` makes it a table.

    answer = map_models(run, question, {"bias": ("head",)}, lambda static: {"head": range(static.n_heads)})
    answer.bias.sel(head=0).groupby("n_labels").mean()
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

import jax
import numpy as np
import xarray as xr
from jax.sharding import Mesh

from lrjax import devices, surroundings
from lrjax.analysis.selection import of_labels
from lrjax.config import Hyper, Model, Static, depths
from lrjax.data.scenes import label_name
from lrjax.data.tasks.base import Task
from lrjax.data.tasks.row import Row
from lrjax.errors import InputError, suggest
from lrjax.gates import ENCODERS
from lrjax.models import objectives, positions
from lrjax.models.clip import CLIP, as_read, model_splits
from lrjax.stats import Table
from lrjax.training.programs import Measure
from lrjax.training.run import Run, model_columns

CAPTION_POSITIONS = ("first", "relation", "second", "EOT")  # the words of a caption of a pair


@surroundings.pinned()
def map_models(
    run: Run,
    question: Measure,
    dims: Mapping[str, Sequence[str]],
    coords: Callable[[Static], Mapping[str, Sequence]] = lambda static: {},
    n_labels: Sequence[int] | None = None,
) -> xr.Dataset:
    """The answers of all models (with `n_labels` labels, if given), each of the question's arrays with dims (model, *dims[name]).

    The gates are those in force at the step of each model, and E is as the encoders read it (`clip.as_read`). Equal questions
    (hashable: a function, a frozen dataclass) compile once. Where programs differ in shape, what a model does not have is NaN.
    """
    run, parts = of_labels(run, n_labels), []
    columns = model_columns(run.sweep)
    for program, state, at in zip(run.programs, run.states, run.at, strict=True):
        assert state is not None, "a run that is asked has been trained, or at least begun"
        devices.clear_caches_if_needed()
        mesh, rows = devices.mesh(), np.arange(len(program.rows))
        padded = np.append(rows, rows[-1:].repeat(-len(rows) % mesh.size))
        hyper, params = devices.shard_to_devices(jax.tree.map(lambda x: x[padded], (program.hyper, state.params)), mesh)
        found = devices.gather_to_host(
            _map_in_one_program(question, program.static, mesh, hyper, params, devices.replicate(np.int32(at), mesh))
        )
        data = {name: (("model", *dims[name]), value[: len(rows)]) for name, value in found.items()}
        axes = {name: ("model", column[program.rows]) for name, column in columns.items()}
        named = {dim: list(values) for dim, values in coords(program.static).items() if any(dim in d for d in dims.values())}
        parts.append(xr.Dataset(data, axes | named))
    if len(parts) == 1:
        return parts[0].sortby("model")
    return xr.concat(parts, "model", data_vars="all", coords="minimal", compat="equals", join="outer").sortby("model")


@partial(jax.jit, static_argnums=(0, 1, 2))
def _map_in_one_program(
    question: Measure, static: Static, mesh: Mesh, hyper: Hyper, params: CLIP, step: jax.Array
) -> dict[str, jax.Array]:
    def local(hyper, params, step):
        def one(args):
            hyper, params = args
            with jax.default_matmul_precision(static.matmul_precision):
                return question(static, hyper, model_splits(static, hyper), as_read(hyper, params), hyper.gates.at(step))

        return jax.lax.map(one, (hyper, params), batch_size=devices.eval_batch_size(len(hyper.seed), mesh))

    return devices.over_models(local, mesh, replicated=1)(hyper, params, step)


def check_encoder(encoder: str) -> str:
    """`encoder` itself. Raises InputError if there is no such encoder."""
    if encoder not in ENCODERS:
        raise InputError(f"--encoder={encoder}: does not exist{suggest(encoder, ENCODERS)}; expected vision or text")
    return encoder


def depth_of(static: Static, encoder: str) -> int:
    """How many blocks an encoder runs, one after another: its layers, counted as often as they are repeated."""
    return depths(static)[encoder]


def describe_layers(static: Static | Model, encoder: str) -> str:
    """An encoder's depth, as messages give it."""
    repeated = f", n_repeats={static.n_repeats}" if static.n_repeats > 1 else ""
    return f"n_layers_{encoder}={getattr(static, f'n_layers_{encoder}')}{repeated}"


def traced(static: Static, encoder: str, who: str) -> int:
    """`depth_of` an encoder, if all its blocks have terms. Raises InputError that names the analysis if a block has none."""
    depth = depth_of(static, encoder)
    if static.mlp_ratio and depth > 1:
        raise InputError(
            f"{who}: {describe_layers(static, encoder)} with mlp_ratio={static.mlp_ratio}: what an MLP writes has no origin, so "
            "later blocks have no terms; expected one block, or no MLP"
        )
    return depth


def tidy(answer: xr.Dataset) -> Table:
    """A row per model and place on the other axes; columns: the models' axes, the other axes, the arrays. All-NaN rows are left
    out.
    """
    frame = answer.to_dataframe().dropna(how="all", subset=list(answer.data_vars)).reset_index()
    first = [name for name in ("model", *(c for c in answer.coords if answer[c].dims == ("model",))) if name in frame]
    frame = frame[list(dict.fromkeys([*first, *answer.dims, *answer.data_vars]))]
    return {str(name): np.asarray(frame[name]) for name in frame}


def token_names(static: Static) -> list[str]:
    """Names of all token ids: specials, h1.., 1.. ."""
    return static.task_object.token_names()


def label_names(static: Static) -> list[str]:
    """Names of all labels, held-out ones first."""
    return [label_name(a, static.n_heldout) for a in range(static.n_labels_total)]


def position_names(static: Static, encoder: str) -> list[str]:
    """Names of the positions of an encoder's sequences: CLS and pixels from 1; the words of a pair caption."""
    return static.task_object.position_names() if encoder == "vision" else list(CAPTION_POSITIONS)


def row_of(static: Static, who: str) -> Row:
    """The task, if it is the row of pixels and the analysis applies to the objective. Raises InputError that names the analysis if
    not.
    """
    # another task may place objects as a row does, and say other things
    if type(static.task_object) is not Row or static.task_object.distractors:
        raise InputError(f"{who}: task={static.task!r}: is asked of the row of pixels alone; expected a sweep of task 'row'")
    return cast(Row, check_objective(static, who).task_object)


def line_of(static: Static, who: str) -> Task:
    """The task, if its images are a row of pixels. Raises InputError that names the analysis if they have two dimensions."""
    if static.task_object.grid_shape:
        raise InputError(f"{who}: task={static.task!r}: has two dimensions; expected a row of pixels, or ask experiments.grid")
    return check_objective(static, who).task_object


def with_trained_P(static: Static, who: str) -> None:
    """Raises InputError that names the analysis unless P holds a trained row for each position."""
    if not positions.find(static.positions).trained:
        expected = ", ".join(map(repr, positions.with_trained_P()))
        raise InputError(f"{who}: positions={static.positions!r}: expected one of {expected}")


def check_objective(static: Static, who: str) -> Static:
    """`static` itself, if the analysis `who` applies to its objective. Raises InputError that names the analysis if it does not."""
    if reason := objectives.of(static).refusal(who):
        raise InputError(f"{who}: objective={static.objective!r}: {reason}")
    return static
