"""Encoders of several layers: where the gradient forms, and which path through the layers is causal (App L, App J of the paper).

`layers`: the position gradient of every layer, by term, as it stands in scenes: the mean over unseen-pair images of s_j - s_i, the
readout's scores of the right object less the left one's (in text over captions, of the label named second less the first). Every
ordered pair of labels occurs, so what depends on labels alone cancels; with one block it is `gradient`'s position_gradient. Terms
of later layers are of the streams carried through frozen patterns: exact for attention-only models. `label_invariance` says how
little the gradient depends on labels: |mean| / sd over labels in one layout (in text, with one word), root mean square over
layouts. `alone`: the same with EP, PP and BP (`ablate.of_position`) of the first layer at zero, so that a later layer has the
gradient that it makes by itself; what is gone has formed on the first's.

`paths`: path patching. What a head (the *sender*) writes is replaced, in what one head of the next layer (the *receiver*) reads and
nowhere else, by what it writes in the swapped scene: same labels, other order. In text the counterpart of a caption says the
opposite too, with its labels exchanged or, where there are two words, with the other word (`exchanged`). It goes through the
receiver's pattern (its queries and keys), its values, or both. The order on unseen pairs that is lost is what goes that way: a path
that carried all of the order would turn it round, from order to 1 - order.

Axes: n images or captions, l layers, h heads, o origins, t tokens.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.ablations import Ablation, described
from lrjax.analysis.ablate import TERMS_BY, ablate, of_position
from lrjax.analysis.decompose import caches, unseen_sequences
from lrjax.analysis.gradient import readout_template
from lrjax.analysis.models import check_encoder, depth_of, describe_layers, map_models, row_of, traced
from lrjax.analysis.selection import by_shape, merged, of_labels, some_of
from lrjax.analysis.values import decided
from lrjax.config import Hyper, Static, depths
from lrjax.data.scenes import captions_of, pair_caption_edits, render, swapped
from lrjax.data.splits import Splits
from lrjax.errors import InputError
from lrjax.gates import ENCODERS, NONE, Gates
from lrjax.models.attention import attend
from lrjax.models.clip import CLIP, embed_captions, embed_images, encoder_configs
from lrjax.models.encoder import Encoder, EncoderConfig, l2_normalize, passes, projected
from lrjax.models.interventions import Interventions
from lrjax.stats import Table, groups
from lrjax.terms import GATES, TERMS, VALUES
from lrjax.training.run import Run

VIA = ("pattern", "values", "both")
# What a caption's counterpart says of (first, second, word): the opposite.
OPPOSITE = {"labels": lambda x, y, word: (y, x, word), "word": lambda x, y, word: (x, y, 1 - word)}


def in_layers(
    encoder: str, alone: bool, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates
) -> dict[str, jax.Array]:
    """The question: gradient [l, term, h]; its sum over terms, position_gradient [l, h]; and label_invariance [l, h]."""
    encoder_params, gate, readout = getattr(params, encoder), getattr(gates, encoder), readout_template(static, encoder).readout
    if alone:
        gate = gate.at[0, :, [GATES.index(term) for term in of_position(static)]].set(0)
    ids = unseen_sequences(static, encoder)
    if encoder == "vision":
        scenes = row_of(static, "depth").unseen()
        first, second, arranged = scenes.i + 1, scenes.j + 1, (-1, static.task_object.n_layouts)  # layouts run fastest
    else:
        first, second, arranged = jnp.zeros(len(ids), int), jnp.full(len(ids), 2), (static.n_relations, -1)  # words run slowest
    found = []
    for layer, cache in enumerate(caches(encoder_params, gate, static, encoder, ids)):
        factor = gate[layer][:, [GATES.index(term) for term in TERMS]].T
        row = cache.terms[:, :, :, readout] * factor[None, :, :, None]  # [n, term, h, t]
        at = lambda place, row=row: jnp.take_along_axis(row, place[:, None, None, None], -1)[..., 0]
        steps = at(second) - at(first)  # [n, term, h]
        total = steps.sum(1)
        of_labels = total.reshape(*arranged, total.shape[-1]).var(0 if encoder == "vision" else 1)
        steady = jnp.abs(total.mean(0)) / jnp.sqrt(of_labels.mean(0))
        found.append({"gradient": steps.mean(0), "position_gradient": total.mean(0), "label_invariance": steady})
    return jax.tree.map(lambda *x: jnp.stack(x), *found)


def layers(run: Run, encoder: str = "vision", n_labels=None, alone: bool = False) -> xr.Dataset:
    """`in_layers` of all models: gradient [model, layer, term, head], position_gradient, label_invariance [model, layer, head].

    Raises InputError for tasks that are no row.
    """
    run = of_labels(run, n_labels)
    for program in run.programs:
        row_of(program.static, "depth")
    dims = {"gradient": ("layer", "term", "head")} | dict.fromkeys(("position_gradient", "label_invariance"), ("layer", "head"))

    def coords(static):
        return {"layer": range(depth_of(static, encoder)), "term": TERMS, "head": range(static.n_heads)}

    return map_models(run, _LAYERS[check_encoder(encoder), alone], dims, coords)


def patched(
    encoder_params: Encoder, gates: jax.Array, ids: jax.Array, other: jax.Array, encoder_config: EncoderConfig, readout: int
) -> tuple[jax.Array, jax.Array]:
    """One sequence ids [T] and its counterpart `other` [T]: its embedding [e], and those with every path patched from the
    counterpart [l - 1, sender, receiver, via, e].
    """
    places, blocks = jnp.arange(len(ids)), passes(encoder_params, encoder_config)
    geometry = encoder_config.geometry(places, places)

    def block(layer, residual):
        """The streams after a block, and its pattern and values: apart, to be crossed."""
        after, cache = attend(blocks[layer], gates[layer], residual, geometry)
        assert cache is not None  # of residuals that are split
        return after, cache.pattern, cache.values

    def write(layer, pattern, values):
        """What each head writes [h, o, t, d]."""
        return jnp.einsum("hqt,othk,hkd->hoqd", pattern, values, blocks[layer].W_O)

    def rest(layer, residual):
        for deeper in range(layer, len(blocks)):
            residual = block(deeper, residual)[0]
        return l2_normalize(projected(encoder_params, residual.sum(0)[readout]))

    def receive(layer, residual, change):
        """Embeddings [receiver, via, e] when `change` [o, t, d] is added to what one head of a block reads."""
        (after, pattern, values), (_, p, v) = block(layer, residual), block(layer, residual + change)
        crossed = jnp.stack([write(layer, p, values), write(layer, pattern, v), write(layer, p, v)], 1)
        return jax.vmap(jax.vmap(lambda new: rest(layer + 1, after + new)))(crossed - write(layer, pattern, values)[:, None])

    begin = lambda ids: jnp.stack(
        [encoder_params.E[ids], encoder_params.P[: len(ids)], jnp.zeros_like(encoder_params.P[: len(ids)])]
    )
    here, there, found = begin(ids), begin(other), []
    clean = rest(0, here)
    for layer in range(len(blocks) - 1):
        (here, *own), (there, *others) = block(layer, here), block(layer, there)
        changes = write(layer, *others) - write(layer, *own)  # [sender, o, t, d]
        found.append(jax.lax.map(lambda change, layer=layer, here=here: receive(layer + 1, here, change), changes))
    return clean, jnp.stack(found)


def exchanged(static: Static, encoder: str) -> tuple[str, ...]:
    """How a counterpart differs from its scene or caption."""
    return ("labels", "word") if encoder == "text" and static.n_relations == 2 else ("labels",)


def in_paths(encoder: str, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: order on unseen pairs as it is [], and its change [exchanged, l - 1, sender, receiver, via]."""
    encoder_params, gate, encoder_config = getattr(params, encoder), getattr(gates, encoder), encoder_configs(static)[encoder]
    template, h = readout_template(static, encoder), static.n_heldout
    word, x, y = np.indices((static.n_relations, h, h)).reshape(3, -1)
    word, x, y = (jnp.asarray(values[x != y]) for values in (word, x, y))
    row, clean_captions = row_of(static, "depth"), jnp.indices((static.n_relations, h, h))
    scenes = row.unseen()
    one = lambda both: patched(encoder_params, gate, both[0], both[1], encoder_config, template.readout)
    if encoder == "vision":
        said, left, right = clean_captions
        captions = embed_captions(static, params, Interventions(gates.text), captions_of(left, left, right, said))[1]
        d = captions[:, scenes.left, scenes.right] - captions[:, scenes.right, scenes.left]  # [word, n, e]
        both = tuple(render(template, row.image_edits(s)) for s in (scenes, swapped(scenes)))
        clean, changed = jax.lax.map(one, both, batch_size=60)
        clean, changed = (decided(jnp.einsum("n...e,wne->wn...", z, d)).mean(0) for z in (clean, changed[:, None]))
    else:
        images = embed_images(static, params, Interventions(gates.vision), row.image_edits(scenes))  # [n, e]
        said = (x, y, word), *(OPPOSITE[name](x, y, word) for name in exchanged(static, encoder))
        own, *others = (render(template, pair_caption_edits(*caption)) for caption in said)
        found = [jax.lax.map(one, (own, other), batch_size=20) for other in others]
        clean, changed = found[0][0], jnp.stack([changed for _, changed in found], 1)
        number = jnp.zeros((static.n_relations, h, h), int).at[word, x, y].set(jnp.arange(len(x)))
        true, false = number[:, scenes.left, scenes.right], number[:, scenes.right, scenes.left]  # [word, n]
        margins = (jnp.einsum("wn...e,ne->wn...", z[true] - z[false], images) for z in (clean, changed))
        clean, changed = (decided(of_words).mean(0) for of_words in margins)
    return {"order": clean, "change": changed - clean}


def deep(run: Run, encoder: str) -> Run:
    """The models of a run that pass two blocks or more in an encoder: layers, or repeats of one."""
    return some_of(run, [depths(model)[encoder] > 1 for model in run.sweep.models])


def by_layer(run: Run, n_labels=None, frozen: bool = False) -> Table:
    """`ablate`'s table of vision's EP + PP + BP (or what there is of the kind) at zero, for every query, in one layer alone and in
    all; models of any depth.
    """

    def ask(part: Run) -> Table:
        static = part.programs[0].static
        terms = of_position(static)
        in_layer = (Ablation(terms, layers=(layer,)) for layer in range(depth_of(static, "vision")))
        return ablate(part, (NONE, Ablation(terms), *in_layer), sets=("unseen_pair",), frozen=frozen)

    return merged([ask(part) for part in by_shape(of_labels(run, n_labels), *TERMS_BY)])


def paths(run: Run, encoder: str = "vision", n_labels=None) -> xr.Dataset:
    """`in_paths` of all models: order [model], change [model, exchanged, layer, sender, receiver, via]; `layer` is the receiver's.

    Raises InputError for encoders of one layer, which have no paths, and for LayerNorm and MLP, which this does not follow.
    """
    run = of_labels(run, n_labels)
    if not run.programs:  # of `deep`
        alone = f"n_layers_{encoder}=1, n_repeats=1"
        raise InputError(f"paths: {alone} in every model: expected two layers or more of attention alone, where heads read heads")
    for program in run.programs:
        s = program.static
        if traced(s, encoder, "paths") < 2 or s.layer_norm or s.mlp_ratio:
            raise InputError(
                f"paths: {describe_layers(s, encoder)}, layer_norm={s.layer_norm}, mlp_ratio={s.mlp_ratio}: "
                "expected two layers or more of attention alone, where heads read what heads wrote"
            )

    def coords(static):
        heads = range(static.n_heads)
        layers = range(1, depth_of(static, encoder))
        return {"exchanged": exchanged(static, encoder), "layer": layers, "sender": heads, "receiver": heads, "via": VIA}

    dims = {"order": (), "change": ("exchanged", "layer", "sender", "receiver", "via")}
    return map_models(run, _PATHS[check_encoder(encoder)], dims, coords)


# One object an encoder, made once: equal questions compile once.
_PATHS = {encoder: partial(in_paths, encoder) for encoder in ENCODERS}
_LAYERS = {(encoder, alone): partial(in_layers, encoder, alone) for encoder in ENCODERS for alone in (False, True)}


def strongest_effects(table: Table, encoder: str = "vision", by: tuple[str, ...] = ("n_labels",)) -> Table:
    """The head whose ablation costs most order, of each model, layer and term (`pruned`: all that a head writes).

    Args:
      table: of `single_head_ablations`.
      encoder: `vision` or `text`.
      by: the model's columns that the rows have.

    Returns:
      A row per model, layer and term: the change of order, and what the same ablation does to the label set.
    """
    table, lines = described(table), []
    of_one_head = (table["encoder"] == encoder) & ~np.isnan(table["head"])
    layers = np.nan_to_num(table["layer"]).astype(int)  # none is named where there is one
    terms = np.where(table["terms"] == "+".join(VALUES), "pruned", table["terms"])
    for rows in groups(table, ("model",)).values():
        base = rows[table["terms"][rows] == NONE][0]
        found: dict = {}
        for row in rows[of_one_head[rows]]:
            key = int(layers[row]), str(terms[row])
            loss = {m: table[m][row] - table[m][base] for m in ("unseen_pair_order", "unseen_pair_label_set")}
            found[key] = min((found.get(key, loss), loss), key=lambda x: np.nan_to_num(x["unseen_pair_order"]))
        for (layer, term), loss in found.items():
            lines.append({name: table[name][base] for name in ("model", *by)} | {"layer": layer, "term": term} | loss)
    return {name: np.array([line[name] for line in lines]) for name in lines[0]}
