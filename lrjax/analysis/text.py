"""How a caption is read: where EOT looks, and how far a swap of labels moves an embedding.

`attention`: EOT's pattern in every layer, by head, over the pair captions of held-out labels and of trained labels apart: its mean
and standard deviation over captions, that is over labels; `prefers_first`, the share of captions in which a head gives the label
named first more attention than the one named second, ties 1/2; and the `log_odds` of first against second, mean and standard
deviation. A head prefers a place *whatever the label* if it does so in at least WHATEVER of the captions (fixed before anything was
measured): SPEC's claim is that there is a head that attends to the first label whatever it is.

`swap`: the cosine of the embeddings of two facts ("x left of y") about held-out labels, by what the facts share.

First and second are places in the caption: "x left-of y" and "y right-of x" are one fact, so relation words are an axis.

Axes: r relation words, x, y labels, l layers, h heads, T = 4 tokens of a caption; p ordered pairs (facts), k layouts, e d_embed.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.heads import prefers
from lrjax.analysis.models import depth_of, map_models, position_names, row_of, tidy, traced
from lrjax.config import Hyper, Static
from lrjax.data.scenes import PAIR_CAPTION, captions_of, pair_caption_edits, render
from lrjax.data.splits import Splits
from lrjax.gates import Gates
from lrjax.models import encoder as encoders
from lrjax.models.clip import CLIP, embed_captions, embed_images, encoder_configs
from lrjax.models.interventions import Interventions
from lrjax.stats import Table
from lrjax.training.run import Run

WHATEVER = 0.95
SETS = ("heldout", "trained")
FACTS = ("same", "swapped", "one, same place", "one, other place", "none")  # what two facts share
KINDS = ("caption", "image")


def in_captions(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: attention and attention_sd [set, l, r, h, T]; prefers_first, log_odds, log_odds_sd [set, l, r, h]."""
    A, readout, encoder_config = static.n_labels_total, PAIR_CAPTION.readout, encoder_configs(static)["text"]
    traced(static, "text", "text")
    row_of(static, "text")
    label, word = jnp.arange(A), jnp.arange(static.n_relations)

    def one(ids):
        caches = encoders.run(params.text, Interventions(gates.text), ids, encoder_config, readout).caches
        pattern, scores = (jnp.stack([getattr(t, name)[:, readout] for t in caches]) for name in ("pattern", "attn_scores"))
        return {"attention": pattern, "log_odds": scores[..., 0] - scores[..., 2]}  # [l, h, T], [l, h]

    def of_left(x):
        ids = render(PAIR_CAPTION, pair_caption_edits(*jnp.broadcast_arrays(x, label[:, None], word)))
        return jax.vmap(jax.vmap(one))(ids)

    found = jax.lax.map(of_left, label)  # [x, y, r, l, h ...]
    found["prefers_first"] = prefers(found["attention"][..., 0], found["attention"][..., 2])
    trained = (label >= static.n_heldout) & (label < static.n_heldout + hyper.n_labels)
    member = jnp.stack([label < static.n_heldout, trained]).astype(jnp.float32)  # [set, label]
    weight = member[:, :, None] * member[:, None] * (label[:, None] != label[None])[None]
    weight = weight / weight.sum((1, 2), keepdims=True)

    def mean(values):  # labels beyond the model's own are finite too, and weigh nothing
        return jnp.moveaxis(jnp.einsum("sxy,xy...->s...", weight, values), 1, 2)

    def sd(values, centre):
        centre = jnp.moveaxis(centre, 2, 1)[:, None, None]
        squared = (values[None] - centre) ** 2
        return jnp.moveaxis(jnp.sqrt(jnp.einsum("sxy,sxy...->s...", weight, squared)), 1, 2)

    means = {name: mean(values) for name, values in found.items()}
    return means | {f"{name}_sd": sd(found[name], means[name]) for name in ("attention", "log_odds")}


def attention(run: Run, n_labels: Sequence[int] | None = None) -> xr.Dataset:
    """`in_captions` of all models: attention, attention_sd [model, set, layer, word, head, token]; prefers_first, log_odds,
    log_odds_sd [model, set, layer, word, head].
    """
    dims = {
        name: ("set", "layer", "word", "head", *(("token",) if name.startswith("attention") else ()))
        for name in ("attention", "attention_sd", "prefers_first", "log_odds", "log_odds_sd")
    }

    def coords(static):
        words = [f"{word}-of" for word in static.task_object.words]
        axes = {"set": SETS, "layer": range(depth_of(static, "text")), "word": words}
        return axes | {"head": range(static.n_heads), "token": position_names(static, "text")}

    return map_models(run, in_captions, dims, coords, n_labels)


def head_table(answer: xr.Dataset) -> Table:
    """A row per model, set, layer, word and head: mean and standard deviation of attention to each token (columns), the log odds
    of first against second, and which label the head prefers whatever it is (`whatever`).
    """
    columns = {
        f"{name}_{token}": answer[name].sel(token=token, drop=True)
        for name in ("attention", "attention_sd")
        for token in answer.token.values
    }
    table = tidy(answer[["prefers_first", "log_odds", "log_odds_sd"]].assign(columns))
    first = table["prefers_first"]
    return table | {"whatever": np.select([first >= WHATEVER, first <= 1 - WHATEVER], ["first", "second"], "neither")}


def of_a_model(answer: xr.Dataset) -> xr.Dataset:
    """How many of a model's heads prefer the first, and the second, label whatever the labels: [model, set, layer, word]. NaN where
    a model does not have the layer or the word.
    """
    first = answer.prefers_first
    counts = {"n_first": (first >= WHATEVER).sum("head"), "n_second": (first <= 1 - WHATEVER).sum("head")}
    return xr.Dataset(counts).where(first.notnull().any("head"))


def facts_share(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What each two of the facts (left, right) [p] share: numbers into FACTS, [p, p]."""
    same_left, same_right = left[:, None] == left, right[:, None] == right
    crossed = (left[:, None] == right) * 1 + (right[:, None] == left)
    conditions = [same_left & same_right, crossed == 2, same_left | same_right, crossed == 1]
    return np.select(conditions, range(4), 4)


def of_facts(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: the mean `cosine` [kind, fact] of KINDS by FACTS, NaN where there are no two. Captions are over all relation
    words, and `same` is the same fact in the other word. Images are of one layout, and `same` is the same fact in another layout.
    """
    row = row_of(static, "text")
    scenes, n_layouts = row.unseen(), row.n_layouts
    left, right = (labels.reshape(-1, n_layouts)[:, 0] for labels in (scenes.left, scenes.right))  # [p]
    share = facts_share(*np.nonzero(~np.eye(static.n_heldout, dtype=bool)))  # the order of `unseen`

    words = jnp.broadcast_arrays(left, right, jnp.arange(static.n_relations)[:, None])
    captions = embed_captions(static, params, Interventions(gates.text), captions_of(left, *words))[1]  # [r, p, e]
    images = embed_images(static, params, Interventions(gates.vision), row.image_edits(scenes)).reshape(len(left), n_layouts, -1)
    images = jnp.swapaxes(images, 0, 1)  # [k, p, e]

    def any_two(embeddings):  # [n, p, e] -> [p, p]: over any two instances, that differ if they are of one fact
        n, mean = len(embeddings), embeddings.mean(0)
        cosine = mean @ mean.T
        return jnp.where(share == 0, (n * cosine - 1) / (n - 1) if n > 1 else jnp.nan, cosine)

    same_layout = jnp.einsum("kpe,kqe->pq", images, images) / n_layouts
    grams = any_two(captions), jnp.where(share == 0, any_two(images), same_layout)
    kinds = [share == fact for fact in range(len(FACTS))]
    return {"cosine": jnp.stack([jnp.stack([gram[kind].mean() for kind in kinds]) for gram in grams])}


def swap(run: Run, n_labels: Sequence[int] | None = None) -> xr.Dataset:
    """`of_facts` of all models: cosine [model, kind, fact]; and `moved` [model, kind], how far a swap of labels moves an embedding
    as a share of how far two other labels do: (1 - cosine of swapped) / (1 - cosine of none).
    """
    found = map_models(run, of_facts, {"cosine": ("kind", "fact")}, lambda static: {"kind": KINDS, "fact": FACTS}, n_labels)
    gone = 1 - found.cosine
    return found.assign(moved=gone.sel(fact="swapped") / gone.sel(fact="none"))
