"""The autoregressive objectives: a decoder reads an image and says its caption, word by word (`decoder`).

Its image tokens are those that a vision encoder makes (AUTOREGRESSIVE) or its own embeddings of the image (RAW).
"""

import dataclasses

import jax

from lrjax.config import Hyper, Model, Static
from lrjax.data.splits import Splits
from lrjax.data.tasks.base import Batch, Task
from lrjax.fields import require
from lrjax.gates import ENCODERS
from lrjax.metrics import Metric, of_decoding
from lrjax.models import decoder, positions
from lrjax.models.clip import CLIP, encoder_fields
from lrjax.models.encoder import EncoderConfig
from lrjax.models.interventions import ModelInterventions
from lrjax.models.objectives import Objective

ANALYSES = ("decoder", "ablate")  # those that know decoders; others compare embeddings of images and captions


@dataclasses.dataclass(frozen=True)
class Autoregressive(Objective):
    """The cross-entropy of the words of captions, of a decoder of raw image tokens or of those of a vision encoder."""

    raw: bool = False
    full_sequences = True
    frozen_norms = False

    @property
    def encoders(self) -> tuple[str, ...]:
        """The text encoder, which is the decoder; raw tokens come from no vision encoder."""
        return ENCODERS[1:] if self.raw else ENCODERS

    def check(self, model: Model, task: Task) -> None:
        super().check(model, task)
        expected = "another kind: a decoder has one row of P for each token"
        require("positions", model.positions, positions.find(model.positions).layout(task.grid_shape) is None, expected)
        expected = f"'contrastive': images of task {model.task!r} have captions of several forms"
        require("objective", model.objective, len(task.caption_templates) == 1, expected)
        expected = f"'autoregressive': patches of task {model.task!r} are no words"
        require("objective", model.objective, not (self.raw and task.image.adds), expected)

    def encoder_configs(self, static: Static) -> dict[str, EncoderConfig]:
        task, common = static.task_object, encoder_fields(static)
        n_positions, n_tokens = len(task.image.tokens), task.n_first + task.n_labels_total
        projects, layers = static.projection == "both", (static.n_layers_vision, static.n_layers_text)
        vision, text = {**common, "d_embed": static.d_model}, {**common, "d_embed": n_tokens}
        return {
            "vision": EncoderConfig(task.n_tokens, n_positions, layers[0], causal=False, projects=projects, **vision),
            "text": EncoderConfig(task.n_tokens, n_positions - 1 + task.caption_length, layers[1], causal=True, **text),
        }

    def loss(self, static: Static, hyper: Hyper, params: CLIP, interventions: ModelInterventions, batch: Batch) -> jax.Array:
        return decoder.loss(static, hyper, params, interventions, batch)

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
        return decoder.evaluate(static, hyper, splits, params, interventions, sets, split)

    def metrics(self, static: Static, name: str) -> tuple[Metric, ...]:
        return of_decoding(name)

    def refusal(self, analysis: str) -> str | None:
        return None if analysis in ANALYSES else "is a decoder; expected CLIP, or ask experiments.reader"

    def caution(self, encoder: str) -> str | None:
        if encoder != "text":
            return None
        return "What begins a reader's caption stands at one place: there EP and PP have a gauge too; read their sum."


AUTOREGRESSIVE, RAW = Autoregressive(), Autoregressive(raw=True)
