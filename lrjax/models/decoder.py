"""An autoregressive reader in place of CLIP's text encoder: image tokens, then the caption, word by word, in one causal encoder.

The sequence is the image's tokens (without CLS), `[CLS]` as the beginning, and the words; what stands at a word predicts the next,
up to `[EOT]`. The image's tokens are what the vision encoder makes of them, projected, as in LLaVA (`autoregressive`), or the
reader's own embeddings of them (`autoregressive_raw`); all is trained end to end on the caption's cross-entropy. The text encoder's
gates of scores act where words look at image tokens, elsewhere they are 1; those of values on what image tokens tell (in several
layers, one another too).

Accuracies have the names of retrieval's: top-1 is greedy decoding that says what is true, order the likelihood of the true caption
above that of the swapped one, label set greedy decoding that names the right labels. There is no text -> image. And `named`: the
likelihood of the true caption above that with one label exchanged for another that is not seen, held out if it is held out, so that
a reader that is blind is at 1/2, whatever it likes to say; `alone`: greedy decoding that says of one object of several that it is
there, and no more.

Axes: n images, I image tokens, W words of a caption, T = I + W tokens of a sequence, v tokens that can be said, c captions.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lrjax.config import Hyper, Static
from lrjax.data.captions import all_captions, batch_words, words_of
from lrjax.data.scenes import BACKGROUND, CLS, EMPTY, EOT, TokenEdits, render
from lrjax.data.splits import Splits
from lrjax.data.tasks.base import Batch, EvalSet, Task
from lrjax.metrics import of_decoding
from lrjax.models import encoder, objectives
from lrjax.models.clip import CLIP, encoder_as_run, encoder_configs, rng_stream
from lrjax.models.interventions import Interventions, ModelInterventions

BLOCK = 256  # images read at a time
TIE = 1e-5  # log-likelihoods closer than this are equal: sums of a few logarithms of rounding 1e-6


def prefix(static: Static, params: CLIP, interventions: Interventions, images: TokenEdits, split: bool = True) -> jax.Array:
    """What the reader sees of images, edits [S, n]: ids of raw tokens, [n, I] or [n, I, c], or what a vision encoder makes of them
    by origin, [n, 3, I, d], so that what its tokens know of their place is P's in the reader too (its patterns, which depend on
    place as well, being what they are); its biases, which are no reader's, are E's. `interventions` are those in the vision
    encoder. Without `split` gates count as 1 (see `encoder.run_tokens`), and all is of the first origin.
    """
    ids = render(static.task_object.image, images)
    if "vision" not in objectives.of(static).encoders:
        return ids[:, 1:]
    vision, encoder_config = encoder_as_run(static, params, "vision"), encoder_configs(static)["vision"]

    def one(image, key):
        own = dataclasses.replace(interventions, dropout_key=key)
        residual = encoder.run(vision, own, image, encoder_config, 1, split=split, query_slice=slice(1, None)).residual_by_origin
        seen = encoder.projected(vision, encoder.normalise(vision.norm, residual))
        if len(seen) == 1:  # merged
            return encoder.of_origin_E(seen[0])
        return jnp.stack([seen[0] + seen[2], seen[1], jnp.zeros_like(seen[2])])

    return jax.vmap(one)(ids, keys_of(interventions, len(ids)))


def keys_of(interventions: Interventions, n: int) -> jax.Array | None:
    """The keys [n] from which the dropout of n sequences is drawn; None if there is no dropout."""
    return None if interventions.dropout_key is None else jax.random.split(interventions.dropout_key, n)


def run(
    static: Static, params: CLIP, interventions: Interventions, seen: jax.Array, words: jax.Array, split: bool = True
) -> encoder.EncoderOutput:
    """The decoder where the words [W] of a caption are to be said, each after those before it, of an image as `prefix` sees it.
    Gates act where words look at image tokens, whatever the mask of `interventions`.
    """
    before = jnp.concatenate([jnp.array([CLS]), words[:-1]])
    raw = jnp.issubdtype(seen.dtype, jnp.integer)
    n = seen.shape[0 if raw else 1]
    at = jnp.arange(n + len(words))
    looks = (at[:, None] >= n) & (at < n)[None]  # a word at an image token
    interventions, encoder_config = dataclasses.replace(interventions, gate_mask=looks), encoder_configs(static)["text"]
    of_words = slice(n, None)
    if raw:
        before = before if seen.ndim == 1 else jnp.pad(before[:, None], [(0, 0), (0, seen.shape[1] - 1)], constant_values=EMPTY)
        return encoder.run(
            params.text, interventions, jnp.concatenate([seen, before]), encoder_config, n, split=split, query_slice=of_words
        )
    tokens = jnp.concatenate([seen, encoder.of_origin_E(encoder.tokens_of(params.text, before))], 1)
    return encoder.run_tokens(params.text, interventions, tokens, encoder_config, n, split=split, query_slice=of_words)


def read(
    static: Static, params: CLIP, interventions: Interventions, seen: jax.Array, words: jax.Array, split: bool = True
) -> jax.Array:
    """Scores [W, v] of what may be said at each of the words [W] of a caption, see `run`."""
    residual = run(static, params, interventions, seen, words, split).residual_by_origin
    return encoder.projected(params.text, encoder.normalise(params.text.norm, residual.sum(0)[None])[0])


def sayable(static: Static, hyper: Hyper) -> jax.Array:
    """Which tokens [v] a model may say: all but the labels that it does not have."""
    return jnp.arange(encoder_configs(static)["text"].d_embed) < static.task_object.n_first + static.n_heldout + hyper.n_labels


def log_likelihood(
    static: Static,
    hyper: Hyper,
    params: CLIP,
    interventions: Interventions,
    seen: jax.Array,
    words: jax.Array,
    split: bool = True,
) -> jax.Array:
    """The log-probabilities [n, W] of captions [n, W] of images as `prefix` sees them; 0 beyond its end."""

    def one(seen, words, key):
        own = dataclasses.replace(interventions, dropout_key=key)
        logits = jnp.where(sayable(static, hyper), read(static, params, own, seen, words, split), -jnp.inf)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), words[:, None], 1)[:, 0]
        return jnp.where(words == BACKGROUND, 0, log_p)

    return jax.vmap(one)(seen, words, keys_of(interventions, len(words)))


def loss(static: Static, hyper: Hyper, params: CLIP, interventions: ModelInterventions, batch: Batch) -> jax.Array:
    """The mean cross-entropy of the words of a batch's captions."""
    words = batch_words(static.task_object, batch)
    seen = prefix(static, params, interventions.vision, batch.images, static.gated)
    found = log_likelihood(static, hyper, params, interventions.text, seen, words, static.gated)
    return -found.sum() / (words != BACKGROUND).sum()


def decode(
    static: Static, hyper: Hyper, params: CLIP, interventions: Interventions, seen: jax.Array, length: int, split: bool = True
) -> jax.Array:
    """The words [n, W] that are likeliest one by one, of images as `prefix` sees them; background after `[EOT]`."""
    words = jnp.full((len(seen), length), BACKGROUND)
    ended = jnp.zeros(len(seen), bool)
    for i in range(length):
        logits = jax.vmap(lambda seen, words: read(static, params, interventions, seen, words, split))(seen, words)[:, i]
        best = jnp.where(sayable(static, hyper), logits, -jnp.inf).argmax(-1)
        words = words.at[:, i].set(jnp.where(ended, BACKGROUND, best))
        ended |= best == EOT
    return words


def evaluate(
    static: Static,
    hyper: Hyper,
    splits: Splits,
    params: CLIP,
    interventions: ModelInterventions,
    sets: tuple[str, ...],
    split: bool = True,
) -> dict[str, jax.Array]:
    """The accuracies of one model on `sets`, each [] in 0..1, as `evaluate.evaluate` names them; seen pairs on a fixed sample."""
    task = static.task_object
    words = words_of(task, all_captions(task, task.captions(hyper)))
    eval_sets = task.eval_sets(rng_stream(hyper.seed, "evaluation"), splits, hyper, False)
    metrics = {}
    for name in sets:
        of_set, alone = words[slice(*eval_sets[name].candidates)], words[: task.n_labels_total]
        found = retrieve_by_decoding(static, hyper, params, interventions, eval_sets[name], of_set, alone, split)
        metrics |= {metric.column: found[metric.suffix] for metric in of_decoding(name)}
    return metrics


def others(task: Task, hyper: Hyper, labels: jax.Array) -> jax.Array:
    """Two other labels for each of an image's labels [k]: the next one and the previous one that the image does not show, [2, k].
    Held-out labels form one circle and trained labels another. Over all images of a blind decoder the exchange therefore raises as
    many captions as it lowers. A label stands for itself where there is no other one.
    """
    h = task.n_heldout

    def step(label, way):
        return jnp.where(label < h, (label + way) % h, h + (label - h + way) % hyper.n_labels)

    def beside(way):
        found = step(labels, way)
        for _ in labels:
            seen = (found[:, None] == labels[None]).any(1) & (found != labels)
            found = jnp.where(seen, step(found, way), found)
        return found

    return jnp.stack([beside(1), beside(-1)])


def retrieve_by_decoding(
    static: Static,
    hyper: Hyper,
    params: CLIP,
    interventions: ModelInterventions,
    eval_set: EvalSet,
    words: jax.Array,
    alone: jax.Array,
    split: bool,
) -> dict[str, jax.Array]:
    """Accuracies of one set of images, by suffix; words [c, W] of the captions by number, `alone` [A, W] of those of one object."""
    counts = (eval_set.weight > 0)[None] & eval_set.is_true  # [R, n]
    token = lambda label: static.task_object.n_first + label[..., None, None]

    def above(own, other):  # [R] over [..., R]; a tie counts 1/2
        own = jnp.broadcast_to(own, other.shape)
        return jnp.where(jnp.abs(own - other) <= TIE, 0.5, own > other)

    def one(images, true, hard_negatives, labels):  # one image: edits [S], numbers [R] and [F, R], labels [k]
        seen = prefix(static, params, interventions.vision, jax.tree.map(lambda x: x[:, None], images), split)
        decoded = decode(static, hyper, params, interventions.text, seen, words.shape[1], split)[0]
        every, of_true = words[jnp.append(true, hard_negatives)], words[true][None]  # [1, R, W]
        renamed = jnp.where(of_true == token(labels), token(others(static.task_object, hyper, labels)), of_true)  # [2, k, R, W]
        sequences = jnp.concatenate([every, renamed.reshape(-1, words.shape[1])])
        repeated = jnp.repeat(seen, len(sequences), 0)
        likely = log_likelihood(static, hyper, params, interventions.text, repeated, sequences, split).sum(-1)
        own, other, of_renamed = jnp.split(likely, [len(true), len(every)])
        order = above(own, other.reshape(hard_negatives.shape)).mean(0)
        is_other = (renamed != of_true[None]).any(-1)  # a caption of two of three labels keeps one
        named = (above(own, of_renamed.reshape(is_other.shape)) * is_other).sum((0, 1)) / is_other.sum((0, 1))
        is_decoded = (every == decoded[None]).all(-1)
        mixed = is_decoded[len(true) :].reshape(hard_negatives.shape).any(0)
        of_one = (alone[labels] == decoded[None]).all(-1).any()
        return is_decoded[: len(true)], mixed, order, named, of_one, jnp.isfinite(likely[: len(every)]).all()

    args = jax.tree.map(
        lambda x: jnp.moveaxis(x, -1, 0), (eval_set.images, eval_set.true, eval_set.hard_negatives, eval_set.labels)
    )
    right, mixed, order, named, of_one, finite = jax.lax.map(lambda args: one(*args), args, batch_size=BLOCK)
    of_pair = (eval_set.hard_negatives != eval_set.true[None]).any(0)
    label_set = ((right.T | mixed.T) & of_pair | right.T & counts).any(0)  # whatever the word: it may be one that does not hold

    def mean(credit):  # [n] or [R, n]
        weights = eval_set.weight[None] * counts if credit.ndim == 2 else eval_set.weight
        value = jnp.where(weights > 0, credit * weights, 0).sum() / weights.sum()
        return jnp.where(jnp.where(eval_set.weight > 0, finite, True).all(), value, jnp.nan)

    found = {"": (right.T & counts).any(0), "_order": order.T, "_label_set": label_set, "_named": named.T, "_alone": of_one}
    return {suffix: mean(1.0 * credit) for suffix, credit in found.items()}
