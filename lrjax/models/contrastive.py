"""The contrastive objectives, CLIP's and SigLIP's: images and captions are embedded apart, and embeddings are compared.

`pair_loss` says how (`losses`). With `supervision` a head that says where objects are is trained beside (`localization_head`).

Axes: B batch, W hard negatives, e d_embed.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from lrjax.config import Hyper, Model, Static
from lrjax.data.captions import all_captions, batch_words, of_kind, of_one
from lrjax.data.scenes import TokenEdits
from lrjax.data.splits import Splits
from lrjax.data.tasks.base import Batch, Captions, EvalSet, Task
from lrjax.metrics import Metric, of_retrieval
from lrjax.models import positions
from lrjax.models.clip import CLIP, embed_captions, embed_images, encoder_fields, rng_stream
from lrjax.models.encoder import EncoderConfig
from lrjax.models.interventions import ModelInterventions
from lrjax.models.localization_head import LocalizationHead
from lrjax.models.losses import PAIR_LOSSES, SOFTMAX, PairLoss
from lrjax.models.objectives import Objective
from lrjax.models.retrieval import Candidates, Embed, cut, retrieve

# The most sequences that evaluation embeds at a time. XLA compiles large arrays slowly for a TPU. With this bound the evaluation of
# the default sweep compiles in half the processor time.
EMBEDDED_AT_A_TIME = 128


@dataclasses.dataclass(frozen=True)
class Contrastive(Objective):
    """Embeddings of images and captions are compared by a loss of pairs; `heads` are auxiliary objectives of the same images."""

    pair_loss: PairLoss = SOFTMAX
    heads: tuple[LocalizationHead, ...] = ()

    def of(self, static: Static) -> "Contrastive":
        heads = (LocalizationHead(),) if static.supervised else ()
        of_config = self.pair_loss is SOFTMAX  # a subclass may have a loss of its own
        return dataclasses.replace(self, pair_loss=PAIR_LOSSES[static.pair_loss] if of_config else self.pair_loss, heads=heads)

    def check(self, model: Model, task: Task) -> None:
        """The fields of the contrastive objective are free."""

    def encoder_configs(self, static: Static) -> dict[str, EncoderConfig]:
        task, common = static.task_object, encoder_fields(static)
        layout = positions.find(static.positions).layout(task.grid_shape)  # `clip.encoder_as_run` lays P out
        rows = 0 if layout is None else layout.shape[1]
        n_positions, n_tokens = len(task.image.tokens), task.n_first + task.n_labels_total
        projects, layers = static.projection == "both", (static.n_layers_vision, static.n_layers_text)
        return {
            "vision": EncoderConfig(
                task.n_tokens, n_positions, layers[0], causal=False, position_rows=rows, projects=projects, **common
            ),
            "text": EncoderConfig(n_tokens, task.caption_length, layers[1], causal=True, **common),
        }

    def parameters(self, static: Static, hyper: Hyper) -> dict:
        added = {"bias": self.pair_loss.initial_bias(static.batch_size)}
        for head in self.heads:
            added |= head.parameters(static, jax.random.fold_in(rng_stream(hyper.seed, "init"), 2))
        return added

    def loss(self, static: Static, hyper: Hyper, params: CLIP, interventions: ModelInterventions, batch: Batch) -> jax.Array:
        task, split, dropped = static.task_object, static.gated, interventions.text.dropout_key is not None
        images = embed_images(static, params, interventions.vision, batch.images, split)
        # a one-object caption is a function of its label, and without dropout of nothing else: there are fewer labels than captions
        sequences = (of_one(task, batch.label if dropped else None), *zip(task.caption_templates, batch.captions, strict=True))
        if static.hard_negatives:
            sequences += tuple(zip(task.caption_templates, batch.hard_negatives, strict=True))
        of_label, *of_several = embed_captions(static, params, interventions.text, sequences, split)
        of_several, hard_negatives = of_several[: len(task.caption_templates)], of_several[len(task.caption_templates) :]
        of_label = of_label if dropped else jax.nn.one_hot(batch.label, task.n_labels_total) @ of_label
        captions = of_kind(batch.kind, [of_label, *of_several])
        negatives, has_negative = hard_negatives_of(batch.kind, hard_negatives) if hard_negatives else (None, None)
        same = repeats(task, batch) if static.mask_repeats else None
        loss = self.pair_loss(images, captions, params.log_scale, params.bias, same, negatives, has_negative)
        for head in self.heads:
            loss = head.added_to(loss, task, hyper, params, images, batch)
        return loss

    def evaluate(
        self,
        static: Static,
        hyper: Hyper,
        splits: Splits,
        params: CLIP,
        interventions: ModelInterventions,
        exhaustive: bool | jax.Array,
        sets: tuple[str, ...],
        split: bool,
    ) -> dict[str, jax.Array]:
        task = static.task_object
        captions = task.captions(hyper)
        of_captions = lambda template, edits: embed_captions(static, params, interventions.text, ((template, edits),), split)[0]
        every = all_captions(task, captions)
        embedded = jnp.concatenate([embed_in_blocks(partial(of_captions, template), edits) for template, edits in every])
        eval_sets = task.eval_sets(rng_stream(hyper.seed, "evaluation"), splits, hyper, exhaustive)
        embed = partial(embed_in_blocks, lambda images: embed_images(static, params, interventions.vision, images, split))
        metrics = {}
        for names in retrieved_together(task, eval_sets, sets):
            group = {name: eval_sets[name] for name in names}
            metrics |= self.measure(static, params, group, captions, embedded, embed)
        return metrics

    def measure(
        self, static: Static, params: CLIP, group: dict[str, EvalSet], captions: Captions, embedded: jax.Array, embed: Embed
    ) -> dict[str, jax.Array]:
        """The metrics of sets with the same candidates; `embedded` [c, e] are the embeddings of the task's captions."""
        task, eval_sets = static.task_object, list(group.values())
        among = slice(*eval_sets[0].candidates)
        exists, names = captions.exists[among], captions.names[:, among]
        in_set = jnp.stack([exists & task.of_set(name, names) for name in group])
        candidates = Candidates(embedded[among], exists, in_set, names)
        words, ways = breakdown_of(task, next(iter(group)))
        found, of_images = retrieve(candidates, eval_sets, embed, words, ways)
        metrics = {}
        for i, (name, eval_set) in enumerate(group.items()):
            of_set = {suffix: values[i] for suffix, values in found.items()}
            for head in self.heads:
                of_set |= head.metrics(name, task, params, of_images[i], eval_set)
            metrics |= {metric.column: of_set[metric.suffix] for metric in self.metrics(static, name)}
        return metrics

    def metrics(self, static: Static, name: str) -> tuple[Metric, ...]:
        words, ways = breakdown_of(static.task_object, name)
        return (*of_retrieval(name, (*words, *ways)), *(metric for head in self.heads for metric in head.measured(name)))

    def refusal(self, analysis: str) -> str | None:
        return "is no decoder; expected a sweep with an autoregressive objective" if analysis == "decoder" else None


CONTRASTIVE = Contrastive()


def embed_in_blocks(embed: Embed, edits: TokenEdits) -> jax.Array:
    """`embed` of sequences, given by their edits [S, n], a block at a time: [n, e]. All blocks have one size.

    The last block is filled up with edits of token 0. Their embeddings are cut off.
    """
    n = edits.tokens.shape[-1]
    n_blocks = -(-n // EMBEDDED_AT_A_TIME)
    if n_blocks == 1:
        return embed(edits)
    blocks = jax.tree.map(lambda x: jnp.moveaxis(cut(x, -(-n // n_blocks)), 2, 1), edits)  # [blocks, S, sequences of a block]
    embedded = jax.lax.map(embed, blocks)
    return embedded.reshape(-1, embedded.shape[-1])[:n]


def breakdown_of(task: Task, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """By what the order of an evaluation set is told apart: words, and ways to get a caption wrong."""
    return tuple(task.metric_breakdown(name)), tuple(task.HARD_NEGATIVES.get(name, ()))


def retrieved_together(task: Task, eval_sets: dict[str, EvalSet], names: Sequence[str]) -> list[list[str]]:
    """The evaluation sets of these names in groups with the same candidates, shapes and breakdown."""
    groups: dict = {}
    for name in names:
        asked = eval_sets[name]
        shapes = asked.hard_negatives.shape[:-1], len(asked.labels)
        groups.setdefault((asked.candidates, shapes, breakdown_of(task, name)), []).append(name)
    return list(groups.values())


def hard_negatives_of(kind: jax.Array | None, hard_negatives: list[jax.Array]) -> tuple[jax.Array, jax.Array | None]:
    """Embeddings [W, e] of the swapped captions of the last W images, and which of these have one (None: all)."""
    if kind is None:
        return jnp.concatenate(hard_negatives), None
    return of_kind(jnp.maximum(kind - 1, 0), list(hard_negatives)), kind > 0


def repeats(task: Task, batch: Batch) -> jax.Array:
    """Which captions of a batch are the same, [B, B]."""
    ids = batch_words(task, batch)
    return (ids[:, None] == ids[None]).all(-1)
