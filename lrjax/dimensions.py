"""Names of the dimensions of arrays that a question of the caller's returns (`Run.map`)."""

import itertools

import jax

from lrjax.config import Static
from lrjax.models.clip import as_read, model_splits
from lrjax.training.programs import Program
from lrjax.training.step import TrainState


def shapes_of(question, program: Program, state: TrainState | None) -> dict[str, tuple[int, ...]]:
    """The shapes of a question's arrays for one model of a program."""
    assert state is not None  # of a run that was loaded
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (program.hyper, state.params))
    ask = lambda hyper, params: question(
        program.static, hyper, model_splits(program.static, hyper), as_read(hyper, params), hyper.gates.at(0)
    )
    return {name: value.shape for name, value in jax.eval_shape(ask, *one).items()}


def inferred(name: str, shape: tuple[int, ...], static: Static) -> tuple[str, ...]:
    """Names of the dimensions of an array, by their sizes."""
    known: dict[int, set[str]] = {}
    sizes = {"head": static.n_heads, "d_model": static.d_model, "d_embed": static.d_embed, "label": static.n_labels_total}
    sizes |= {"token": static.task_object.n_tokens, "position": len(static.task_object.image.tokens)}
    for dim, size in sizes.items():
        known.setdefault(size, set()).add(dim)
    number, dims = itertools.count(), []
    for size in shape:
        fitting = known.get(size, set()) - set(dims)
        dims.append(fitting.pop() if len(fitting) == 1 and len(known[size]) == 1 else f"{name}_{next(number)}")
    return tuple(dims)
