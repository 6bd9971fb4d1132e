"""The regime map: in which corner of the hyper-parameters does one find what the paper found?

The paper does not print its initial scales, and they decide what one finds. Configurations drawn log-uniformly are trained at
N = 5 and N = 15, and `signature`, recorded at every evaluation, tells which rows of the paper's joint finding hold, so that the
number of steps is read off the trajectory. Thresholds are in ROWS, fixed before any run. What an ablation does, and how heads lean,
is asked only where there is something to lose: NaN, which agrees with nothing, where top-1 at N = 15 is below LEARNED.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.analysis.ablate import Ablate
from lrjax.analysis.gradient import readout_scores, readout_template
from lrjax.analysis.models import row_of
from lrjax.config import Hyper, Model, Static, Sweep
from lrjax.data.splits import Splits
from lrjax.gates import Gates
from lrjax.models.clip import CLIP, encoder_configs
from lrjax.stats import Table, groups, select, total

FEW, MANY = 5, 15  # the two label counts of every configuration
RANGES = {  # of the log-uniform draw
    "e_scale": (0.02, 3.0),
    "p_scale": (0.005, 1.0),
    "lr": (5e-4, 5e-3),
    "weight_decay": (0.01, 1.0),
    "n1": (2, 9),
    "n2": (1, 40),
}
INTEGERS = ("n1", "n2")

# Row of the signature -> what it is, and the interval that its value, a mean over seeds, must lie in.
ROWS: dict[str, tuple[str, float, float]] = {
    "top1_many": (f"top-1 at N={MANY} is about .9", 0.8, 1.0),
    "top1_few": (f"top-1 at N={FEW} is near chance", 0.0, 0.25),
    "ep_top1": ("EP at zero: top-1 about .5", 0.35, 0.65),
    "ep_set": ("EP at zero: label set kept (change)", -0.1, 1.0),
    "pp_idle": ("PP at zero: no effect (|change| of top-1)", 0.0, 0.06),
    "pe_idle": ("PE at zero: no effect (|change| of top-1)", 0.0, 0.06),
    "both_ways": ("heads lean both ways (share of models)", 0.5, 1.0),
    "phases": ("phases in order (share of models)", 0.5, 1.0),
}
SHARES = ("both_ways", "phases")  # the rows that are shares of models
FRESH = range(100, 116)  # seeds of the confirmation
LEAN = 0.6  # a head leans right if it prefers the right object in more than this share of unseen-pair images; left below 1 - LEAN
LEARNED = 0.5
_ABLATED = Ablate(("EP", "PP", "PE"), sets=("unseen_pair",))


def head_bias(static: Static, params: CLIP, gates: Gates) -> jax.Array:
    """SPEC's head_bias [h] of a one-block vision encoder, from the readout row's tables: a higher score is more attention."""
    by_term = readout_scores(params.vision, gates.vision, encoder_configs(static)["vision"], readout_template(static, "vision"))
    scores = total(by_term.values())
    row = row_of(static, "regime")
    s = row.unseen()
    score = lambda label, pixel: scores[:, label + row.n_first, pixel + 1]
    left, right = score(s.left, s.i), score(s.right, s.j)
    return jnp.where(left == right, 0.5, right > left).mean(-1)


def signature(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The measure [] of one model: top-1 and label set of unseen pairs with EP, PP, PE at zero; the least and the greatest
    head_bias.
    """
    found = _ABLATED(static, hyper, splits, params, gates)
    bias = head_bias(static, params, gates)
    columns = {f"{str(name).lower()}_zero": found["unseen_pair"][i] for i, name in enumerate(_ABLATED.ablations)}
    return columns | {"ep_zero_label_set": found["unseen_pair_label_set"][0], "bias_low": bias.min(), "bias_high": bias.max()}


def draw(n: int, seed: int = 0) -> list[Model]:
    """n configurations as models of seed 0 and N = MANY: SPEC's defaults with the fields of RANGES drawn log-uniformly."""
    rng = np.random.default_rng(seed)
    columns = {}
    for name, (low, high) in RANGES.items():
        values = np.exp(rng.uniform(np.log(low), np.log(high), n))
        columns[name] = [int(v) for v in values] if name in INTEGERS else [float(f"{v:.4g}") for v in values]
    return [Model(n_labels=MANY, **dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def sweep_of(configurations: Sequence[Model], seeds: Sequence[int], steps: int, eval_every: int, slab: int = 0) -> Sweep:
    """Every configuration at N = FEW and MANY with all seeds; a configuration's models stand together."""
    models = [dataclasses.replace(c, n_labels=n, seed=s) for c in configurations for n in (FEW, MANY) for s in seeds]
    return Sweep(tuple(models), steps, eval_every, slab)


def read(history: Table) -> Table:
    """A row per configuration and evaluation step: the configuration's fields, `step`, and the value of every row of ROWS."""
    fields = tuple(RANGES)
    history = history | {"reached": in_order(history)}
    lines = []
    for key, rows in groups(history, (*fields, "step")).items():
        part = select(history, rows)
        few, many = (select(part, part["n_labels"] == n) for n in (FEW, MANY))
        top1 = many["unseen_pair"]
        both = (many["bias_low"] < 1 - LEAN) & (many["bias_high"] > LEAN)
        values = {
            "top1_many": np.mean(top1),
            "top1_few": np.mean(few["unseen_pair"]),
            "ep_top1": np.mean(many["ep_zero"]),
            "ep_set": np.mean(many["ep_zero_label_set"] - many["unseen_pair_label_set"]),
            "pp_idle": np.abs(np.mean(many["pp_zero"] - top1)),
            "pe_idle": np.abs(np.mean(many["pe_zero"] - top1)),
            "both_ways": np.mean(both),
            "phases": np.mean(many["reached"]),
        }
        if np.mean(top1) < LEARNED:
            values |= dict.fromkeys(("ep_top1", "ep_set", "pp_idle", "pe_idle", "both_ways"), np.nan)
        lines.append(dict(zip((*fields, "step"), key, strict=True)) | values)
    return {name: np.array([line[name] for line in lines]) for name in lines[0]}


def in_order(history: Table, level: float = 0.8) -> np.ndarray:
    """For every row of a history: has its model by then reached `level` in single, then in seen pairs, then in unseen pairs?

    Several at one evaluation count as in order only if unseen pairs come strictly last.
    """
    reached = np.zeros(len(history["step"]), bool)
    for rows in groups(history, ("model",)).values():
        rows = rows[np.argsort(history["step"][rows])]
        first = []
        for metric in ("single", "seen_pair", "unseen_pair"):
            above = history[metric][rows] >= level
            first.append(np.argmax(above) if above.any() else len(rows))
        in_order = first[0] <= first[1] < first[2] < len(rows)
        reached[rows[first[2] :]] = in_order
    return reached


def agreements(values: Table) -> Table:
    """For every row of `read`'s table which of ROWS agree (bool), and `shortfall`, how far the others are off, 0 if all agree."""
    agree, shortfall = {}, np.zeros(len(values["step"]))
    for name, (_, low, high) in ROWS.items():
        value = values[name]
        agree[name] = (value >= low) & (value <= high)
        off = np.maximum(np.maximum(low - value, value - high), 0)
        shortfall += np.where(np.isnan(off), 1, off)
    return agree | {"agree": np.sum([agree[name] for name in ROWS], 0), "shortfall": shortfall}


def best_steps(values: Table) -> Table:
    """`values` and its agreements at each configuration's best step, best first: most rows agree, then least shortfall, then the
    greatest difference between N = MANY and N = FEW.
    """
    table = ranked(judged(values))
    table = select(table, table["step"] > 0)
    seen, keep = set(), []
    for i, key in enumerate(zip(*(table[name].tolist() for name in RANGES), strict=True)):
        if key not in seen:
            seen.add(key)
            keep.append(i)
    return select(table, np.array(keep))


def judged(values: Table) -> Table:
    """`values` with its `agreements`, those of rows named agrees_<row>."""
    return values | {("agrees_" + k if k in ROWS else k): v for k, v in agreements(values).items()}


def at_steps_of(values: Table, chosen: Table) -> Table:
    """`values`, judged, at the step where each row of `chosen` (another run of the same configurations) was best: nothing is
    picked.
    """
    keys = list(zip(*(values[name].tolist() for name in (*RANGES, "step")), strict=True))
    wanted = zip(*(chosen[name].tolist() for name in (*RANGES, "step")), strict=True)
    return ranked(judged(select(values, np.array([keys.index(key) for key in wanted if key in keys]))))


def ranked(table: Table) -> Table:
    """A judged table, best first."""
    return select(table, np.lexsort((table["top1_few"] - table["top1_many"], table["shortfall"], -table["agree"])))


def configurations(table: Table, n: int) -> list[Model]:
    """The first n rows of `best_steps`' table as configurations."""
    found = []
    for i in range(min(n, len(table["step"]))):
        fields: dict[str, Any] = {name: int(table[name][i]) if name in INTEGERS else float(table[name][i]) for name in RANGES}
        found.append(Model(n_labels=MANY, **fields))
    return found
