"""How an autoregressive reader looks at an image while it speaks: at which object, by which term.

Of the first block, at the two words that predict a label: `first` (what begins the caption) and `second` (the relation word).
`prefers_right`: share of unseen-pair images in which a head attends more to the right object than to the left one, when the true
caption is read. `gradient`: mean over image tokens i < j of s_j - s_i, of EP, PP and BP, the mean over these images. What a vision
encoder's tokens know of their place is of origin P here too, its patterns being what they are.

Axes: w words, h heads, I image tokens, n scenes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.gradient import ramp
from lrjax.analysis.heads import prefers
from lrjax.analysis.models import check_objective, map_models, row_of, traced, with_trained_P
from lrjax.config import Hyper, Static
from lrjax.data.captions import words_of
from lrjax.data.scenes import PAIR_CAPTION, pair_caption_edits
from lrjax.data.splits import Splits
from lrjax.gates import Gates
from lrjax.models import decoder
from lrjax.models.clip import CLIP
from lrjax.models.interventions import Interventions
from lrjax.terms import POSITION_TERMS, TERMS
from lrjax.training.run import Run

WORDS = {"first": 0, "second": 2}  # label -> the word that it is predicted from: what begins a caption, the relation
BATCH = 300  # images traced at a time


def in_reading(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The question: prefers_right [w, h], attention to the left and to the right object [w, h], gradient [w, term, h]."""
    check_objective(static, "decoder")
    with_trained_P(static, "decoder")
    row = row_of(static, "decoder")
    traced(static, "text", "decoder")
    scenes, n = row.unseen(), static.L
    words = words_of(row, ((PAIR_CAPTION, pair_caption_edits(scenes.left, scenes.right, jnp.zeros_like(scenes.left))),))
    rows = np.array(list(WORDS.values())) - words.shape[1]  # from the end: a last block is computed at words alone
    terms = np.array([TERMS.index(term) for term in POSITION_TERMS])

    def one(args):
        images, words, places = args
        seen = decoder.prefix(static, params, Interventions(gates.vision), jax.tree.map(lambda x: x[:, None], images))[0]
        (cache, *_) = decoder.run(static, params, Interventions(gates.text), seen, words).caches
        gradient = (cache.terms[terms] * gates.text[0][:, terms].T[..., None, None])[:, :, rows, :n] @ ramp(n)  # [term, h, w]
        return cache.pattern[:, rows][:, :, places], gradient  # [h, w, side]

    places = jnp.stack([scenes.i, scenes.j], -1)
    images = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), row.image_edits(scenes))
    attention, gradients = jax.lax.map(one, (images, words, places), batch_size=BATCH)
    attention = jnp.moveaxis(attention, 2, 1)  # [n, w, h, side]
    found = {"prefers_right": prefers(attention[..., 1], attention[..., 0]).mean(0)}
    found |= {f"attention_{side}": attention[..., k].mean(0) for k, side in enumerate(("left", "right"))}
    return found | {"gradient": jnp.moveaxis(gradients.mean(0), -1, 0)}


def reading(run: Run, n_labels=None) -> xr.Dataset:
    """`in_reading` of all models: prefers_right, attention_left, attention_right [model, word, head], gradient [model, word, term,
    head].
    """
    dims = dict.fromkeys(("prefers_right", "attention_left", "attention_right"), ("word", "head"))
    axes = {"word": list(WORDS), "term": POSITION_TERMS}
    dims |= {"gradient": ("word", "term", "head")}
    return map_models(run, in_reading, dims, lambda static: axes | {"head": range(static.n_heads)}, n_labels)


def attends_to(answer: xr.Dataset) -> xr.Dataset:
    """Where a decoder's main head attends, the head of each model that attends most to objects.

    Returns:
      By model: `attends_to_left`, the share of images in which the head attends more to the left object at the word before the
      first label; `attends_to_right`, more to the right object at the word before the second. `bias_shift` is their sum less 1: 1
      if the head attends to the object that is named next, 0 if its bias is the same at both words. `gradient_first` and
      `gradient_second` are its position gradient, EP + PP + BP, at each word.
    """
    mass = (answer.attention_left + answer.attention_right).mean("word")
    best = mass.fillna(-1).argmax("head")
    of_best = lambda values: (values.isel(head=best).drop_vars("head").sel(word=word, drop=True) for word in WORDS)
    first, second = of_best(answer.prefers_right)
    found = {"attends_to_left": 1 - first, "attends_to_right": second, "bias_shift": second - first}
    gradients = zip(WORDS, of_best(answer.gradient.sum("term", skipna=False)), strict=True)
    return xr.Dataset(found | {f"gradient_{word}": values for word, values in gradients})
