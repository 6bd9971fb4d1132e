"""The gauge: how the position gradient divides between EP and PP is a convention of the initial values, not something learned.

In a one-block vision encoder CLS stands only at position 0 and position 0 holds nothing but CLS, so E_cls and P_0 enter the model
only as their sum. With gates at 1 they receive the same gradient, and under AdamW their difference shrinks by (1 - lr_t wd) a step
whatever the data: `law`. Any split of E_cls + P_0 is the same function: `move_cls`; but not the same under ablation: `moved`.
What needs no convention is the position gradient (E_cls + P_0) W_QK P^T + b_Q W_K^T P^T: EP + PP + BP.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.ablate import ablate
from lrjax.analysis.models import check_objective, layers_told, of_labels, of_models, some_of
from lrjax.config import Hyper, Static, depths
from lrjax.data.scenes import CLS
from lrjax.data.splits import Splits
from lrjax.errors import InputError
from lrjax.gates import NONE, Gates
from lrjax.models.clip import CLIP, init_clip
from lrjax.stats import Table
from lrjax.training.run import Run

ABLATIONS = (NONE, "EP", "PP", "BP", "EP+PP", "EP+PP+BP")
PLACES = {"as trained": None, "wholly E_cls": 1.0, "wholly P_0": 0.0}  # of the CLS vector: the share that E_cls gets


def move_cls(run: Run, share: float) -> Run:
    """The same trained functions with the CLS vector m E_cls + P_0 (m: token_multiplier) given to E_cls (share 1) or to P_0 (share
    0), or in between.

    Vision of one block only: CLS must stand at position 0 and position 0 hold nothing else, in every layer that splits them.
    """
    _check(run)

    def moved(program, state):
        vision = state.params.vision
        multiplier = program.hyper.token_multiplier[: len(program.rows), None]
        E, P = np.array(vision.E), np.array(vision.P)
        whole = multiplier * E[:, CLS] + P[:, 0]
        E[:, CLS], P[:, 0] = share * whole / multiplier, (1 - share) * whole
        return state.replace(params=state.params.replace(vision=vision.replace(E=E, P=P)))

    return dataclasses.replace(run, states=[moved(*of) for of in zip(run.programs, run.states, strict=True)])


def moved(run: Run, n_labels=None) -> Table:
    """`ablate`'s table of ABLATIONS on unseen pairs for every place of the CLS vector in PLACES: column `cls`."""
    run, parts = of_labels(run, n_labels), []
    _check(run)
    for place, share in PLACES.items():
        table = ablate(run if share is None else move_cls(run, share), ABLATIONS, sets=("unseen_pair",))
        parts.append(table | {"cls": np.full(len(table["model"]), place)})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclasses.dataclass(frozen=True)
class Law:
    """The question, at a training step: how far E_cls - P_0 is from its initial value times prod (1 - lr_t wd)."""

    step: int

    def __call__(self, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
        first = init_clip(static, hyper).vision
        t = jnp.arange(1, self.step + 1)
        shrunk = jnp.exp(jnp.log1p(-hyper.lr * jnp.minimum(1.0, t / max(static.warmup_steps, 1)) * hyper.weight_decay).sum())
        expected = shrunk * (first.E[CLS] - first.P[0])
        size = lambda x: jnp.sqrt((x * x).sum())
        E, P = params.vision.E[CLS] / hyper.token_multiplier, params.vision.P[0]
        return {"shrunk": shrunk, "deviation": size(E - P - expected) / size(expected), "E_cls": size(E), "P_0": size(P)}


def law(run: Run, n_labels=None) -> xr.Dataset:
    """`Law` of all models, [model]: the factor of the law, the relative deviation from it, and the norms of E_cls and P_0.

    The law holds for one vision block with learned positions and gates of 1. Raises InputError for others.
    """
    run = of_labels(run, n_labels)
    _check(run)
    for model in run.sweep.models:
        if model.gates != NONE:
            raise InputError(f"gauge: gates={model.gates!r}; expected {NONE!r}: the law is of training with all gates 1")
        if not model.decay_cls:
            raise InputError("gauge: decay_cls=False; expected True: the law is of E_cls and P_0 that decay alike")
    names, steps = dict.fromkeys(("shrunk", "deviation", "E_cls", "P_0"), ()), np.zeros(len(run.sweep.models), int)
    for program, at in zip(run.programs, run.at, strict=True):
        steps[program.rows] = at
    parts = [of_models(some_of(run, steps == step), Law(step), names) for step in sorted(set(steps.tolist()))]
    return xr.concat(parts, "model").sortby("model")


def _check(run: Run) -> None:
    for program in run.programs:
        check_objective(program.static, "gauge")
    for model in run.sweep.models:
        if model.positions != "learned":
            raise InputError(f"gauge: positions={model.positions!r}; expected 'learned', where P_0 is trained beside E_cls")
        if depths(model)["vision"] != 1:
            raise InputError(f"gauge: {layers_told(model, 'vision')}; expected 1, where E_cls and P_0 enter as their sum")
