"""Which way each head looks, and which heads a model can do without (Fig 4c, App K, Fig 22 of the paper).

`head_bias`: the share of unseen-pair images in which CLS gives the right object more attention than the left one, ties 1/2, from
the pattern itself (gates in force), in every layer; by the distance j - i of the objects and by their labels too. A head *leans*
left if its bias is below LEFT and right if it is above RIGHT; the two were fixed before anything was measured, at thirds: the
paper's right-leaning head attends right on about 67 % of images. `complementarity` is max - min of head_bias over a model's heads.

Pruning keeps a subset of heads: VE, VP and VB of the others are zero in every layer, b_O stays.

Axes: n images, l layers, h heads.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.ablations import COLUMNS
from lrjax.analysis.ablate import ablate
from lrjax.analysis.models import depth_of, label_names, map_models, row_of, tidy, traced
from lrjax.analysis.selection import by_shape, merged, of_labels
from lrjax.config import Hyper, Static
from lrjax.data.scenes import Scene, render
from lrjax.data.splits import Splits
from lrjax.data.tasks.pairs import Pairs
from lrjax.errors import InputError
from lrjax.gates import NONE, Gates
from lrjax.metrics import of_table
from lrjax.models import encoder as encoders
from lrjax.models.attention import EVERY
from lrjax.models.clip import CLIP, encoder_configs
from lrjax.models.interventions import Interventions
from lrjax.stats import Table, groups, select
from lrjax.terms import VALUES
from lrjax.training.run import Run

LEFT, RIGHT = 1 / 3, 2 / 3  # head_bias below: leans left; above: leans right
DIRECTIONS = ("both", "one", "neither")  # which ways heads lean: left and right, one of them, or not
MOST_HEADS = 8  # all subsets are evaluated: 255 of 8
BATCH = 1024  # images traced at a time
PAIR = ("left_label", "right_label")


def in_images(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: head_bias and the mean attention to the left and the right object [l, h]; bias_by_distance [l, h, L - 1] and
    bias_by_labels [l, h, x, y] of held-out labels x left of y, NaN at x = y.
    """
    row, _ = row_of(static, "heads"), traced(static, "vision", "heads")
    scenes = row.unseen()
    attention = object_attention(static, params, gates, scenes)  # [n, l, h, 2]
    to_right = prefers(attention[..., 1], attention[..., 0])  # [n, l, h]

    distance = (scenes.j - scenes.i)[:, None] == jnp.arange(1, static.L)[None]
    x, y = (labels.reshape(-1, row.n_layouts)[:, 0] for labels in (scenes.left, scenes.right))
    by_pair = to_right.reshape(len(x), -1, *to_right.shape[1:]).mean(1)  # [ordered pair, l, h]
    by_labels = jnp.full((static.n_heldout, static.n_heldout, *to_right.shape[1:]), jnp.nan).at[x, y].set(by_pair)
    return {
        "head_bias": to_right.mean(0),
        "attention_left": attention[..., 0].mean(0),
        "attention_right": attention[..., 1].mean(0),
        "bias_by_distance": jnp.einsum("nlh,nd->lhd", to_right, 1.0 * distance) / distance.sum(0)[None, None],
        "bias_by_labels": jnp.moveaxis(by_labels, (0, 1), (2, 3)),
    }


def object_attention(static: Static, params: CLIP, gates: Gates, scenes: Scene, layers: slice = EVERY) -> jax.Array:
    """CLS's attention to the left and the right object of scenes [n] of two objects, from the pattern: [n, l, h, 2]."""
    row, (encoder_config, readout) = static.task_object, (encoder_configs(static)["vision"], static.task_object.image.readout)

    def one(image):
        ids, places = image
        caches = encoders.run(params.vision, Interventions(gates.vision), ids, encoder_config, readout).caches[layers]
        return jnp.stack([cache.pattern[:, readout, places] for cache in caches])  # [l, h, 2]

    assert isinstance(row, Pairs)
    edits = row.image_edits(scenes)
    return jax.lax.map(one, (render(row.image, edits), edits.positions.T), batch_size=min(BATCH, len(scenes.i)))


def prefers(a: jax.Array, b: jax.Array) -> jax.Array:
    """1 where a > b, 0 where a < b, 1/2 at a tie, NaN where they are not numbers."""
    return jnp.where(a > b, 1.0, jnp.where(a < b, 0.0, jnp.where(a == b, 0.5, jnp.nan)))


def heads(run: Run, n_labels: Sequence[int] | None = None) -> xr.Dataset:
    """`in_images` of all models: head_bias, attention_left, attention_right [model, layer, head], bias_by_distance [..., distance],
    bias_by_labels [..., left_label, right_label].
    """
    per_head = ("layer", "head")
    dims = dict.fromkeys(("head_bias", "attention_left", "attention_right"), per_head)
    dims |= {"bias_by_distance": (*per_head, "distance"), "bias_by_labels": (*per_head, *PAIR)}

    def coords(static):
        names = label_names(static)[: static.n_heldout]
        axes = {"distance": range(1, static.L)} | dict.fromkeys(PAIR, names)
        return {"layer": range(depth_of(static, "vision")), "head": range(static.n_heads)} | axes

    return map_models(run, in_images, dims, coords, n_labels)


def head_table(answer: xr.Dataset) -> Table:
    """A row per model, layer and head: its bias, attention, lowest and highest bias on a pair of labels, and which way it leans."""
    by_labels = answer.bias_by_labels
    pairs = {"lowest_pair_bias": by_labels.min(PAIR), "highest_pair_bias": by_labels.max(PAIR)}
    table = tidy(answer[["head_bias", "attention_left", "attention_right"]].assign(pairs))
    bias = table["head_bias"]
    return table | {"bias_direction": np.select([bias < LEFT, bias > RIGHT], ["left", "right"], "neither")}


def distance_table(answer: xr.Dataset) -> Table:
    """A row per model, layer, head and distance: bias_by_distance, and which way the head leans over all distances."""
    heads, table = head_table(answer), tidy(answer[["bias_by_distance"]])
    key = ("model", "layer", "head")
    directions = dict(zip(zip(*(heads[name].tolist() for name in key), strict=True), heads["bias_direction"].tolist(), strict=True))
    of_rows = zip(*(table[name].tolist() for name in key), strict=True)
    return table | {"bias_direction": np.array([directions[row] for row in of_rows])}


def of_a_model(answer: xr.Dataset) -> xr.Dataset:
    """What a model's heads are together, [model, layer]: how many lean left and right; complementarity; the strongest lean,
    |head_bias - 1/2|, of one head. NaN in a layer that a model does not have.
    """
    bias = answer.head_bias
    has = bias.notnull().any("head")
    return xr.Dataset(
        {
            "n_left": (bias < LEFT).sum("head").where(has),
            "n_right": (bias > RIGHT).sum("head").where(has),
            "complementarity": bias.max("head") - bias.min("head"),
            "strongest_lean": abs(bias - 0.5).max("head"),
        }
    )


def subsets(n_heads: int) -> tuple[tuple[int, ...], ...]:
    """Every non-empty subset of heads, smallest first. Raises InputError above MOST_HEADS heads."""
    if n_heads > MOST_HEADS:
        raise InputError(
            f"n_heads={n_heads}: has {2**n_heads - 1} subsets of heads; expected at most {MOST_HEADS} heads; "
            "leave pruning out (--nopruning)"
        )
    return tuple(kept for size in range(1, n_heads + 1) for kept in itertools.combinations(range(n_heads), size))


def keep(kept: Sequence[int], n_heads: int, gate: str = "0") -> str:
    """The gates, as text, that prune all heads of vision but `kept`; `gate` may say when in training."""
    pruned = [f"h{h}" for h in range(n_heads) if h not in kept]
    return f"{'.'.join(['vision', *pruned])}:{'+'.join(VALUES)}={gate}" if pruned else NONE


def pruning(run: Run, answer: xr.Dataset, n_labels: Sequence[int] | None = None) -> Table:
    """What a model can do with some of its heads alone.

    All subsets of all models are one program; models that differ in n_heads have subsets of their own.

    Args:
      run: the models.
      answer: of `heads`, for the biases of heads before pruning.
      n_labels: the numbers of labels wanted; None: all.

    Returns:
      A row per model and subset of heads: the model's axes, `heads_kept`, `n_heads_kept`; the lowest and highest head_bias of the
      kept heads (of all layers), their `spread` and `directions`; the metrics of `ablate`.
    """
    parts = []
    for part in by_shape(of_labels(run, n_labels), "n_heads"):
        n_heads = part.programs[0].static.n_heads
        kept_by_text = {keep(kept, n_heads): kept for kept in subsets(n_heads)}
        table = ablate(part, tuple(kept_by_text))
        parts.append(_with_bias(table, kept_by_text, answer.head_bias))
    return merged(parts)


def _with_bias(table: Table, kept_by_text: dict[str, tuple[int, ...]], bias: xr.DataArray) -> Table:
    """A table of `ablate` with the bias composition of the heads that each row keeps."""
    n = len(table["model"])
    found = {"heads_kept": np.empty(n, object), "n_heads_kept": np.zeros(n, int), "directions": np.empty(n, object)}
    found |= {name: np.full(n, np.nan, np.float32) for name in ("lowest_bias", "highest_bias", "spread")}
    for text, kept in kept_by_text.items():
        rows = table["ablation"] == text
        own = bias.sel(model=table["model"][rows], head=list(kept))
        low, high = own.min(("layer", "head")).values, own.max(("layer", "head")).values
        leaning = 1 * (low < LEFT) + (high > RIGHT)
        columns = {
            "lowest_bias": low,
            "highest_bias": high,
            "spread": high - low,
            "n_heads_kept": len(kept),
            "heads_kept": "+".join(map(str, kept)),
        }
        for name, values in (columns | {"directions": np.array(DIRECTIONS[::-1])[leaning]}).items():
            found[name][rows] = values
    found |= {name: found[name].astype(str) for name in ("heads_kept", "directions")}
    metrics = {metric.column: table[metric.column] for metric in of_table(table)}
    axes = {name: column for name, column in table.items() if name not in (*metrics, "ablation", *COLUMNS)}
    return axes | found | metrics


def whole(table: Table) -> Table:
    """The rows of a table of `pruning` that keep all heads: a row per model."""
    return select(table, np.append(table["model"][1:] != table["model"][:-1], True))


def by_composition(table: Table) -> Table:
    """A table of `pruning`, averaged over the subsets of a model that agree in `n_heads_kept` and `directions`: a row per model and
    such group, with `subsets`, their number. The subsets of one model are not independent: intervals are over models, these rows.
    """
    rows = list(groups(table, ("model", "n_heads_kept", "directions")).values())
    first = [index[0] for index in rows]
    found: Table = {"subsets": np.array([len(index) for index in rows])}
    measured = [metric.column for metric in of_table(table)]
    for name, column in table.items():
        if name in measured:
            found[name] = np.array([column[index].mean() for index in rows])
        elif name not in ("heads_kept", "lowest_bias", "highest_bias", "spread"):
            found[name] = column[first]
    return found
