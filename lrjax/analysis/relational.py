"""The paper's Section 5: is a head relational or label-specific, image by image? (Fig 5c, 5d)

In each two-object image of an unseen pair, in CLS's row of the first block, the right object's score is taken less the left one's:

    Delta_label   what the labels make of it: EE, as the paper prints it; from the sums, EE + PE + BE
    Delta_pe      what the places make of it: EP, as the paper prints it; from the sums, EP + PP + BP

A head is *relational* in an image if |Delta_label| < |Delta_pe| and Delta_pe has the sign of the direction in which the head leans;
otherwise it is label-specific there. The direction is that of the attention itself: the sign of P(attends right) - P(attends left)
over all these images, from the pattern, ties 1/2 (head_bias - 1/2 of `heads`). The mean of Delta_pe could be asked instead; then
the measure would not see that a head leans against its own EP. `directions_differ` says for which heads the two disagree.

What to know of the paper's claim, P(relational) ~ |P(attends right) - P(attends left)|. The image with the two labels exchanged has
the opposite Delta_label and the same Delta_pe, so images with |Delta_label| > |Delta_pe| attend right and left equally often.
Where positions are no function of labels (no LayerNorm before attention) the scores of the sums therefore give

    P(attends right) - P(attends left) = P(relational, to the right) - P(relational, to the left)        exactly,

and the claim can fail from the sums only by `against`, the images whose Delta_pe has the other sign. As printed, from EE and EP
alone, it can fail by what the other four terms do too.

Only the first block, and of a repeated encoder its first pass, is asked. Gates in force act. LayerNorm before attention divides the
terms by the norm of what is read, so they are read at the label and the place that they have in the image.

Axes: n images, h heads, m measures (printed, sums).
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.gradient import readout_scores
from lrjax.analysis.heads import object_attention, prefers
from lrjax.analysis.models import label_names, map_models, row_of, tidy
from lrjax.analysis.selection import some_of
from lrjax.config import Hyper, Static
from lrjax.data.scenes import Scene
from lrjax.data.splits import Splits
from lrjax.data.tasks.pairs import Pairs
from lrjax.errors import InputError
from lrjax.gates import Gates
from lrjax.models import positions
from lrjax.models.clip import CLIP, encoder_configs
from lrjax.stats import Table, groups, select, total
from lrjax.terms import POSITION_TERMS, TOKEN_TERMS
from lrjax.training.run import Run

MEASURES = {"printed": (("EE",), ("EP",)), "sums": (TOKEN_TERMS, POSITION_TERMS)}  # measure -> terms of Delta_label, of Delta_pe
DIRECTIONS = ("left", "neither", "right")


def unseen(static: Static) -> Scene:
    """The images that are asked [n]. Raises InputError if the model is of another task, or has no term of position alone."""
    row = row_of(static, "relational")
    if positions.find(static.positions).turns:
        raise InputError(
            f"relational: positions={static.positions!r}: EP is 0 and no term is of the place alone; expected another kind of "
            "position, or ask experiments.gradient"
        )
    return row.unseen()


def deltas(static: Static, params: CLIP, gates: Gates) -> tuple[jax.Array, jax.Array]:
    """Delta_label and Delta_pe [m, h, n], right object less left one, in every image of an unseen pair."""
    row, scenes = static.task_object, unseen(static)
    assert isinstance(row, Pairs)
    edits = row.image_edits(scenes)  # tokens and positions [2, n]: of the left object, of the right one
    scores = readout_scores(params.vision, gates.vision, encoder_configs(static)["vision"], row.image)

    def right_less_left(terms):
        score = total(scores[term] for term in terms)  # [h, v, p]
        left, right = (score[:, token, place] for token, place in zip(edits.tokens, edits.positions, strict=True))
        return right - left

    label, place = zip(*((right_less_left(a), right_less_left(b)) for a, b in MEASURES.values()), strict=True)
    return jnp.stack(label), jnp.stack(place)


def in_each_image(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: delta_label, delta_pe [m, h, n]; to_right [h, n], 1 where CLS attends to the right object more, 1/2 at a tie;
    the labels and positions of the objects [n].
    """
    label, place = deltas(static, params, gates)
    scenes = unseen(static)
    attention = object_attention(static, params, gates, scenes, layers=slice(0, 1))[:, 0]  # [n, h, 2]
    to_right = prefers(attention[..., 1], attention[..., 0]).T
    seen = {"left_label": scenes.left, "right_label": scenes.right, "left_place": scenes.i + 1, "right_place": scenes.j + 1}
    return {"delta_label": label, "delta_pe": place, "to_right": to_right} | seen


def in_images(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: shares of images [m, h] in which |Delta_label| < |Delta_pe| and Delta_pe points to the right (left); the mean
    of Delta_pe and the mean sizes of both; shares of images [h] in which CLS attends to the right (left) object more.
    """
    found = in_each_image(static, hyper, splits, params, gates)
    label, place, to_right = (found[name] for name in ("delta_label", "delta_pe", "to_right"))
    known = jnp.isfinite(label) & jnp.isfinite(place)
    share = lambda true: jnp.where(known, 1.0 * true, jnp.nan).mean(-1)
    by_place = jnp.abs(label) < jnp.abs(place)
    return {
        "relational_right": share(by_place & (place > 0)),
        "relational_left": share(by_place & (place < 0)),
        "mean_delta_pe": place.mean(-1),
        "size_delta_pe": jnp.abs(place).mean(-1),
        "size_delta_label": jnp.abs(label).mean(-1),
        "attends_right": to_right.mean(-1),
        "attends_left": (1 - to_right).mean(-1),
    }


BY_MEASURE = ("relational_right", "relational_left", "mean_delta_pe", "size_delta_pe", "size_delta_label")
BY_HEAD = ("attends_right", "attends_left")


def relational(run: Run, n_labels=None) -> xr.Dataset:
    """`in_images` of all models: BY_MEASURE [model, measure, head], BY_HEAD [model, head]."""
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(BY_MEASURE, ("measure", "head"))
    dims |= dict.fromkeys(BY_HEAD, ("head",))
    return map_models(run, in_images, dims, lambda s: {"measure": list(MEASURES), "head": range(s.n_heads)}, n_labels)


def images(run: Run, row: int) -> xr.Dataset:
    """`in_each_image` of one model, the row-th of the run: delta_label, delta_pe [measure, head, image], to_right [head, image],
    and the names and places of the objects [image].
    """
    part = some_of(run, np.arange(len(run.sweep.models)) == row)
    per_image, objects = ("measure", "head", "image"), ("left_label", "right_label", "left_place", "right_place")
    dims = {"delta_label": per_image, "delta_pe": per_image, "to_right": ("head", "image")} | dict.fromkeys(objects, ("image",))
    coords = lambda s: {"measure": list(MEASURES), "head": range(s.n_heads)}
    found = map_models(part, in_each_image, dims, coords).isel(model=0)
    names = np.array(label_names(part.programs[0].static))
    return found.assign({name: ("image", names[found[name].values]) for name in objects[:2]})


def head_table(answer: xr.Dataset) -> Table:
    """A row per model and head, from `relational`'s answer.

    lean, difference: where the head leans, and P(attends right) - P(attends left).
    relational_M, against_M: shares of images that are relational by measure M, and that would be if the head leaned the other way.
    gap_M: relational_M - |difference|, which the paper claims to be about 0. directions_differ_M: whether the mean of Delta_pe
    points elsewhere than the head leans (then against_M is P(relational) of who takes that mean for the direction).
    """
    difference = answer.attends_right - answer.attends_left
    lean = np.sign(difference)
    found = {"attends_right": answer.attends_right, "attends_left": answer.attends_left, "difference": difference}
    for measure in answer.measure.values:
        of = answer.sel(measure=measure).drop_vars("measure")
        right, left = of.relational_right, of.relational_left
        none = xr.zeros_like(right).where(right.notnull())
        found[f"relational_{measure}"] = xr.where(lean > 0, right, xr.where(lean < 0, left, none))
        found[f"against_{measure}"] = xr.where(lean > 0, left, xr.where(lean < 0, right, right + left))
        found[f"gap_{measure}"] = found[f"relational_{measure}"] - abs(difference)
        found |= {f"{name}_{measure}": of[name] for name in ("mean_delta_pe", "size_delta_pe", "size_delta_label")}
    table = tidy(xr.Dataset(found))
    lean = np.sign(table["difference"])
    differ = {f"directions_differ_{m}": np.sign(table[f"mean_delta_pe_{m}"]) != lean for m in answer.measure.values.tolist()}
    return table | differ | {"bias_direction": np.array(DIRECTIONS)[1 + np.nan_to_num(lean).astype(int)]}


def by_head(run: Run, n_labels=None) -> Table:
    """`head_table` of all models of a run."""
    return head_table(relational(run, n_labels))


def of_a_model(table: Table) -> Table:
    """Two rows per model of a table of `head_table`: `heads` = "all", the mean over its heads, which are no independent sample; and
    "leans most", its head of the greatest |difference|, whose number is `head`. `size`: |difference|.
    """
    table = table | {"size": abs(table["difference"])}
    of_measures = {f"{name}_{measure}" for name in ("relational", "against", "gap", "directions_differ") for measure in MEASURES}
    measured = [name for name in table if name in of_measures or name == "size"]
    axes = list(table)[: list(table).index("head")]
    lines = []
    for rows in groups(table, ("model",)).values():
        own = select(table, rows)
        most = int(np.argmax(own["size"]))
        of_model = {name: own[name][0] for name in axes}
        lines.append(of_model | {"heads": "all", "head": -1} | {name: own[name].mean() for name in measured})
        lines.append(of_model | {"heads": "leans most", "head": own["head"][most]} | {name: own[name][most] for name in measured})
    return {name: np.array([line[name] for line in lines]) for name in lines[0]}
