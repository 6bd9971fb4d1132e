"""The gauge: how the position gradient divides between EP and PP is a convention of the initial values, not something learned.

In a one-block vision encoder CLS stands only at position 0 and position 0 holds nothing but CLS, so E_cls and P_0 enter the model
only as their sum. With gates at 1 they receive the same gradient, and under AdamW their difference shrinks by (1 - lr_t wd) a step
whatever the data: `law`. Any split of E_cls + P_0 is the same function: `move_cls`; but not the same under ablation: `moved`.
What needs no convention is the position gradient (E_cls + P_0) W_QK P^T + b_Q W_K^T P^T: EP + PP + BP. After long training
E_cls = P_0, and EP : PP is m : 1, with m the token_multiplier: `ratio`.

How the position gradient divides between EP + PP and BP is fixed by CLS alone: `query_law`. CLS's query is the only one. It is
x W_Q + b_Q, with x = m E_cls + P_0 the same in every image. So where g [h, k] is the gradient of b_Q, that of row d of W_Q is
x_d g. Adam divides a gradient by its own size. While x_d is constant, W_Q[d] therefore receives the updates of b_Q times sign(x_d),
and both decay alike. As b_Q starts at 0 and W_Q at W_Q(0), after any number of steps

    W_Q[d] = S W_Q(0)[d] + sign(x_d) b_Q,    S = prod (1 - lr_t wd)

The learned query x (W_Q - S W_Q(0)) + b_Q divides between x W_Q and b_Q as |x|_1 : 1, and so does the position gradient that each
head has learned: BP has 1 / (1 + |x|_1) of it. What is left of W_Q(0) adds to EP and PP alone.

Bias correction, warm-up and decay are the same for both, and change nothing. Three things do:
- eps: row d has eps / |x_d| where b_Q has eps. It matters where the gradient of b_Q is small.
- x_d that moves. If |x_d| grows at a relative rate r a step, and g keeps its direction, the update of W_Q[d] is about
  1 + r (b2 / (1 - b2) - b1 / (1 - b1)) times that of b_Q, as Adam's second moment remembers more of the past than its first one:
  1 + 40 r at betas (.9, .98).
- x_d that changes its sign. Then W_Q[d] - S W_Q(0)[d] is a sum over the steps t: of sign(x_d at t) times what is left of b_Q's
  update of step t. BP's share of what was learned is 1 / (1 + a), with a the mean over these updates of sum_d x_d sign(x_d at t).
  If the updates point one way, a is at most |x|_1, and BP has more than the law says. Decay forgets them within 1 / (lr wd) steps.
The text encoder has no such law: EOT stands at two positions. Nor has b_V: values read other tokens in every image. b_K is not
trained at all: what it adds is constant along CLS's row.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.ablate import ablate
from lrjax.analysis.gradient import first_block
from lrjax.analysis.models import check_objective, describe_layers, map_models
from lrjax.analysis.selection import of_labels, some_of
from lrjax.config import Hyper, Static, depths
from lrjax.data.scenes import CLS
from lrjax.data.splits import Splits
from lrjax.errors import InputError
from lrjax.gates import NONE, Gates
from lrjax.models import positions
from lrjax.models.attention import into_heads
from lrjax.models.clip import CLIP, init_clip
from lrjax.stats import Table, total
from lrjax.terms import POSITION_TERMS
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
        return dataclasses.replace(state, params=dataclasses.replace(state.params, vision=dataclasses.replace(vision, E=E, P=P)))

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
        first, left = init_clip(static, hyper).vision, fraction_left(static, hyper, self.step)
        expected = left * (first.E[CLS] - first.P[0])
        E, P = params.vision.E[CLS] / hyper.token_multiplier, params.vision.P[0]
        return {"shrunk": left, "deviation": _size(E - P - expected) / _size(expected), "E_cls": _size(E), "P_0": _size(P)}


def law(run: Run, n_labels=None) -> xr.Dataset:
    """`Law` of all models, [model]: the factor of the law, the relative deviation from it, and the norms of E_cls and P_0.

    The law holds for one vision block with learned positions and gates of 1. Raises InputError for others.
    """
    run = of_labels(run, n_labels)
    _check_ungated(run)
    _check_decay(run)
    return _at_own_steps(run, Law, dict.fromkeys(("shrunk", "deviation", "E_cls", "P_0"), ()))


@dataclasses.dataclass(frozen=True)
class QueryLaw:
    """The question, at a training step: b_Q's share of what CLS's query learned, as predicted and as it is.

    Per model: `norm_x`, |x|_1 of x = m E_cls + P_0; `predicted`, the share 1 / (1 + |x|_1) of b_Q; `deviation`, the size of
    W_Q - S W_Q(0) - sign(x) b_Q over that of sign(x) b_Q; `signs_kept`, the part of |x|_1 in dimensions whose sign is still the
    initial one: where it is small the law is not expected to hold.

    Per head [h]: `share`, as measured: BP over EP + PP + BP, each a part of the position gradient, without what is left of W_Q(0);
    `query_share`, the projection of b_Q on the learned query, over that query; `share_of_all`, BP over EP + PP + BP; `from_start`,
    the part of EP + PP + BP that is left of W_Q(0); `strongest`, 1 for the head of the greatest `ratio` (see `gradient`), else 0.
    """

    step: int

    def __call__(self, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
        first, vision = init_clip(static, hyper).vision, params.vision
        (block,), b_Q = vision.blocks, vision.blocks[0].b_Q
        x, x_first = vision.E[CLS] + vision.P[0], hyper.token_multiplier * first.E[CLS] + first.P[0]
        left = fraction_left(static, hyper, self.step) * first.blocks[0].W_Q
        learned, expected = block.W_Q - left, jnp.sign(x)[:, None, None] * b_Q[None]
        query, norm = into_heads(x, learned) + b_Q, jnp.abs(x).sum()

        now = first_block("vision", static, hyper, splits, params, gates)
        untrained = dataclasses.replace(vision, blocks=(dataclasses.replace(block, W_Q=left, b_Q=jnp.zeros_like(b_Q)),))
        before = first_block("vision", static, hyper, splits, dataclasses.replace(params, vision=untrained), gates)
        of_now, of_start = (total(found[f"gradient_{term}"] for term in POSITION_TERMS) for found in (now, before))
        return {
            "norm_x": norm,
            "predicted": 1 / (1 + norm),
            "deviation": _size(learned - expected) / _size(expected),
            "signs_kept": jnp.where(x * x_first > 0, jnp.abs(x), 0).sum() / norm,
            "share": now["gradient_BP"] / (of_now - of_start),
            "query_share": (b_Q * query).sum(-1) / (query * query).sum(-1),
            "share_of_all": now["gradient_BP"] / of_now,
            "from_start": of_start / of_now,
            "strongest": (jnp.arange(static.n_heads) == now["ratio"].argmax()).astype(jnp.float32),
        }


def query_law(run: Run, n_labels=None) -> xr.Dataset:
    """`QueryLaw` of all models: norm_x, predicted, deviation, signs_kept [model]; share, query_share, share_of_all, from_start,
    strongest [model, head].

    The law holds for one vision block with learned positions, gates of 1, no dropout and no LayerNorm before attention, in a row of
    pixels. Raises InputError for others.
    """
    run = of_labels(run, n_labels)
    _check_ungated(run)
    for model in run.sweep.models:
        if model.dropout:
            raise InputError(f"gauge: dropout={model.dropout}; expected 0: with dropout CLS's query differs from image to image")
        if model.layer_norm and model.norm == "pre":
            raise InputError("gauge: layer_norm=True, norm='pre'; expected no LayerNorm before attention: W_Q would read another x")
    names = dict.fromkeys(("norm_x", "predicted", "deviation", "signs_kept"), ())
    names |= dict.fromkeys(("share", "query_share", "share_of_all", "from_start", "strongest"), ("head",))
    return _at_own_steps(run, QueryLaw, names, lambda static: {"head": range(static.n_heads)})


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The question, at a training step: `ratio`, EP's position gradient over that of PP, each the root mean square over heads;
    `deviation`, its relative deviation from the multiplier m; `expected`, the ratio by `Law`, from what is left of the initial
    E_cls - P_0; `apart`, |E_cls - P_0| / |P_0|: where it is 0 the ratio is m.
    """

    step: int

    def __call__(self, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
        m, first, vision = hyper.token_multiplier, init_clip(static, hyper).vision, params.vision

        def of(E, P):  # the ratio of a model whose m E_cls and P_0 are these
            at_cls = dataclasses.replace(vision, E=vision.E.at[CLS].set(E), P=vision.P.at[0].set(P))
            found = first_block("vision", static, hyper, splits, dataclasses.replace(params, vision=at_cls), gates)
            return _size(found["gradient_EP"]) / _size(found["gradient_PP"])

        mE, P = vision.E[CLS], vision.P[0]
        left = fraction_left(static, hyper, self.step) * (first.E[CLS] - first.P[0])
        ratio, expected = of(mE, P), of(m * (mE + P + left) / (m + 1), (mE + P - m * left) / (m + 1))
        apart = _size(mE / m - P) / _size(P)
        return {"ratio": ratio, "deviation": jnp.abs(ratio / m - 1), "expected": expected, "apart": apart}


def ratio(run: Run, n_labels=None) -> xr.Dataset:
    """`Ratio` of all models, [model], in a row of pixels. Raises InputError for models whose E_cls - P_0 does not only decay."""
    run = of_labels(run, n_labels)
    _check_ungated(run)
    _check_decay(run)
    return _at_own_steps(run, Ratio, dict.fromkeys(("ratio", "deviation", "expected", "apart"), ()))


def fraction_left(static: Static, hyper: Hyper, step: int) -> jax.Array:
    """What weight decay leaves of an initial value after so many steps: prod (1 - lr_t wd)."""
    t = jnp.arange(1, step + 1)
    lr = hyper.lr * jnp.minimum(1.0, t / max(static.warmup_steps, 1))
    return jnp.exp(jnp.log1p(-lr * hyper.weight_decay).sum())


def _size(x: jax.Array) -> jax.Array:
    return jnp.sqrt((x * x).sum())


def _at_own_steps(run: Run, question, dims, coords=lambda static: {}) -> xr.Dataset:
    """The answers of all models to question(step), with the step at which each model stands."""
    steps = np.zeros(len(run.sweep.models), int)
    for program, at in zip(run.programs, run.at, strict=True):
        steps[program.rows] = at
    parts = [map_models(some_of(run, steps == step), question(step), dims, coords) for step in sorted(set(steps.tolist()))]
    return xr.concat(parts, "model").sortby("model")


def _check_ungated(run: Run) -> None:
    _check(run)
    for model in run.sweep.models:
        if model.gates != NONE:
            raise InputError(f"gauge: gates={model.gates!r}; expected {NONE!r}: the law is of training with all gates 1")


def _check_decay(run: Run) -> None:
    for model in run.sweep.models:
        if not model.decay_cls:
            raise InputError("gauge: decay_cls=False; expected True: the law is of E_cls and P_0 that decay alike")


def _check(run: Run) -> None:
    for program in run.programs:
        static = check_objective(program.static, "gauge")
        kind = positions.find(static.positions)
        if not (kind.trained and kind.cls_row and kind.layout(static.task_object.grid_shape) is None):
            raise InputError(f"gauge: positions={static.positions!r}; expected 'learned', where P_0 is trained beside E_cls")
    for model in run.sweep.models:
        if depths(model)["vision"] != 1:
            raise InputError(f"gauge: {describe_layers(model, 'vision')}; expected 1, where E_cls and P_0 enter as their sum")
