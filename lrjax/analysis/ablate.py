"""What a trained model loses when terms are set to zero at inference (Fig 5e, App H, App I of the paper).

All ablations of all models of a program are one XLA program: an ablation is a row of gates.

A caution that belongs to every result on EP: in a one-block vision encoder CLS stands only at position 0, so E_cls and P_0 enter
only as their sum, and how the position gradient of the CLS row divides between EP and PP is set by initial scales and weight decay,
not learned. Read EP beside PP, BP and their sum.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax import devices
from lrjax.attention import GATES
from lrjax.clip import CLIP, model_splits
from lrjax.config import Hyper, Static
from lrjax.errors import InputError, suggest
from lrjax.evaluate import evaluate
from lrjax.gates import ENCODERS, NONE, Gates, check_heads, parse_terms
from lrjax.stats import Table, select
from lrjax.sweep import Program, Run, model_columns

ABLATIONS = (NONE, "EE", "EP", "PE", "PP", "BE", "BP", "VP", "EP+PP", "EP+BP", "EP+PP+BP", "EP+VP")


def ablate(run: Run, ablations=ABLATIONS, encoder: str = "vision", heads=None, n_labels=None) -> Table:
    """A row per model and ablation: the model's axes, `ablation`, `encoder`, `heads`, and all metrics, exhaustive.

    An ablation sets the terms that its name joins with `+` to zero in all layers of `encoder`, in `heads` (None: all), on top of
    the gates that the model was trained with. `n_labels`: only models with these N. Raises InputError on what does not exist.
    """
    if encoder not in ENCODERS:
        raise InputError(f"--encoder={encoder}: does not exist{suggest(encoder, ENCODERS)}; expected vision or text")
    available = sorted({m.n_labels for m in run.sweep.models})
    for n in n_labels or ():
        if n not in available:
            raise InputError(f"--labels={n}: no model has so many labels; expected some of {', '.join(map(str, available))}")
    models, parts = model_columns(run.sweep), []
    factors = [_gates_of(p.static, ablations, encoder, heads) for p in run.programs]  # bad input fails before any work
    for program, state, factor in zip(run.programs, run.states, factors, strict=True):
        chosen = np.flatnonzero(np.isin(models["n_labels"][program.rows], n_labels or available))
        if len(chosen):
            parts.append(_ablate_program(program, chosen, state.params, factor, ablations, models, run.step))
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    which = "all" if heads is None else "+".join(map(str, heads))
    n = len(table["model"])
    order = np.argsort(table["model"], kind="stable")
    metrics = {name: table.pop(name) for name in list(table) if name not in (*models, "ablation")}
    return select({**table, "encoder": np.full(n, encoder), "heads": np.full(n, which), **metrics}, order)


def _gates_of(static: Static, ablations, encoder: str, heads) -> Gates:
    """Factors on the gates, [a, n_layers, h, gates]: 0 where an ablation strikes."""
    layers = {"vision": static.n_layers_vision, "text": static.n_layers_text}
    heads = check_heads(range(static.n_heads) if heads is None else heads, static.n_heads, "--heads")
    factors = {name: np.ones((len(ablations), layers[name], static.n_heads, len(GATES)), np.float32) for name in ENCODERS}
    for a, name in enumerate(ablations):
        if name != NONE:
            factors[encoder][np.ix_([a], range(layers[encoder]), heads, parse_terms(name, "--ablations"))] = 0
    return Gates(**factors)


def _ablate_program(
    program: Program, chosen: np.ndarray, params: CLIP, factors: Gates, ablations, models: Table, step: int
) -> Table:
    """The rows of the models `chosen` [m] of one program."""
    static, mesh = program.static, devices.mesh()
    padded = np.append(chosen, chosen[-1:].repeat(-len(chosen) % mesh.size))
    hyper, params = devices.place(jax.tree.map(lambda x: x[padded], (program.hyper, params)), mesh)
    metrics = devices.fetch(_evaluate_all(static, mesh, hyper, params, factors, jnp.int32(step)))
    table = select(models, np.repeat(program.rows[chosen], len(ablations)))
    table |= {"ablation": np.tile(np.array(ablations), len(chosen))}
    return table | {name: values[: len(chosen)].reshape(-1) for name, values in metrics.items()}


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate_all(static: Static, mesh: Mesh, hyper: Hyper, params: CLIP, factors: Gates, step: jax.Array) -> dict[str, jax.Array]:
    """Metrics [m, a] of every model under every row of factors, on top of the gates it was trained with."""

    def local(hyper, params, factors, step):
        def one_model(args):
            hyper, params = args
            splits, trained = model_splits(static, hyper), hyper.gates.at(step)

            def one_ablation(factor):
                return evaluate(static, hyper, splits, params, jax.tree.map(jnp.multiply, trained, factor), exhaustive=True)

            return jax.lax.map(one_ablation, factors)

        return jax.lax.map(one_model, (hyper, params), batch_size=devices.at_once())

    return devices.over_models(local, mesh, replicated=2)(hyper, params, factors, step)
