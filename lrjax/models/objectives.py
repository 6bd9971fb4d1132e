"""What a model is trained on, and everything that follows from it: one interface, and objectives by name.

An objective is a frozen dataclass with the methods of `Objective`. To add one, write it in a file of its own and add its line to
`lrjax.kinds.OBJECTIVES`; no other code asks which objective a model has. This file imports no encoder, so that encoders may ask it.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import jax

from lrjax.data.tasks.base import Task
from lrjax.fields import require
from lrjax.gates import ENCODERS
from lrjax.kinds import OBJECTIVES
from lrjax.registry import resolve

if TYPE_CHECKING:
    from lrjax.config import Hyper, Model, Static
    from lrjax.data.splits import Splits
    from lrjax.data.tasks.base import Batch
    from lrjax.metrics import Metric
    from lrjax.models.clip import CLIP
    from lrjax.models.encoder import EncoderConfig
    from lrjax.models.interventions import ModelInterventions

OF_CONTRASTIVE = ("pair_loss", "hard_negatives", "mask_repeats", "contrastive", "supervision")  # fields that no other reads


class Objective:
    """What a model is trained on.

    Attributes:
        full_sequences: Whether it reads every token of a sequence, not the readout alone: then encoders are not tabled.
        frozen_norms: Whether its evaluation knows interventions with frozen scales of LayerNorm.
    """

    full_sequences: ClassVar[bool] = False
    frozen_norms: ClassVar[bool] = True

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders that the objective trains."""
        return ENCODERS

    def of(self, static: "Static") -> "Objective":
        """The objective as the other fields of the models make it: its kind of loss, its auxiliary heads."""
        return self

    def check(self, model: "Model", task: Task) -> None:
        """Raises InputError that names the field, if the objective is not possible with a model's other fields and its task."""
        for name in OF_CONTRASTIVE:
            value, default = getattr(model, name), getattr(type(model), name)
            require(name, value, value == default, f"{default!r}: of the contrastive objective alone")

    def encoder_configs(self, static: "Static") -> dict[str, "EncoderConfig"]:
        """The shapes of both encoders: what each reads, and how it is read out."""
        raise NotImplementedError

    def parameters(self, static: "Static", hyper: "Hyper") -> dict[str, Any]:
        """Initial values of the fields of `CLIP` that the objective adds to the encoders and the logit scale."""
        return {}

    def loss(
        self, static: "Static", hyper: "Hyper", params: "CLIP", interventions: "ModelInterventions", batch: "Batch"
    ) -> jax.Array:
        """The loss [] of one model on one batch of training."""
        raise NotImplementedError

    def evaluate(
        self,
        static: "Static",
        hyper: "Hyper",
        splits: "Splits",
        params: "CLIP",
        interventions: "ModelInterventions",
        exhaustive: bool | jax.Array,
        sets: tuple[str, ...],
        split: bool,
    ) -> dict[str, jax.Array]:
        """The metrics [] of one model on evaluation sets: the columns of `metrics`.

        exhaustive: all images of a set, not a fixed sample. split: whether the residual stream is kept by origin, as gates need.
        """
        raise NotImplementedError

    def metrics(self, static: "Static", name: str) -> tuple["Metric", ...]:
        """What is measured of the evaluation set `name`."""
        raise NotImplementedError

    def refusal(self, analysis: str) -> str | None:
        """Why an analysis does not apply to models of this objective: the end of a sentence. None if it applies."""
        return None

    def caution(self, encoder: str) -> str | None:
        """What a reader of ablations of an encoder must mind under this objective. None: nothing but what all models have."""
        return None


def find(name: str) -> Objective:
    """The objective of that name in `lrjax.kinds.OBJECTIVES`. Raises KeyError if there is none."""
    return resolve(OBJECTIVES[name])


def of(static: "Static") -> Objective:
    """The objective of models of one static side."""
    return find(static.objective).of(static)
