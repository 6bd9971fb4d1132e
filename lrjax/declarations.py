"""What a model and a sweep are: their fields, each declared once, and what follows from the declaration.

To add a field, add its line to `TracedFields` or `StaticFields`: its place there is what decides whether models that differ in it
share a program. Rules that hold between fields are in `lrjax.validation`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import struct

from lrjax.data import tasks
from lrjax.fields import Field, declared, field
from lrjax.gates import NONE, GateSchedule, canonical, parse_gates
from lrjax.kinds import DATA, LOSSES, NORMS, OBJECTIVES, POSITIONS, PRECISIONS, PROJECTIONS

MAX_MODELS = 1_000_000
MAX_STEPS = 2**31 - 1  # steps are counted in int32
MAX_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class TracedFields:
    """The fields in which models of one program may differ: each is an array of the program."""

    seed: int = field(0, "all random numbers of the model derive from it", low=0, high=MAX_SEED, dtype=np.uint32)
    n_labels: int = field(15, "N, the number of trained labels", low=2, high=1000)
    n2: int = field(10, "number of trained layouts of each ordered pair of labels; fewer than the task has", low=1)
    n1: int = field(5, "number of trained positions of each label; fewer than the task has", low=1)
    weight_decay: float = field(0.1, "weight decay of AdamW; a step multiplies by 1 - lr * weight_decay", low=0)
    lr: float = field(1e-3, "learning rate of AdamW after the warm-up", above=0)
    betas: tuple[float, float] = field(
        (0.9, 0.98), "decay rates of AdamW's two moments", low=0, below=1, columns=("beta1", "beta2")
    )
    e_scale: float = field(0.3, "standard deviation of token embeddings E before training", low=0)
    p_scale: float = field(0.02, "standard deviation of position embeddings P before training", low=0)
    logit_scale: float = field(1 / 0.07, "factor of cosine similarities in the loss before training", low=1e-3, high=100)
    zipf: float = field(0.0, "the k-th trained label occurs in proportion to k^-zipf; 0: all alike", low=0, high=8)
    caption_noise: float = field(0.0, "probability that a caption of training says the opposite", low=0, high=1)
    contrastive: float = field(1.0, "weight of the loss of images and captions", low=0)
    supervision: float = field(0.0, "weight of the loss of a head that says where objects are", low=0)
    token_multiplier: float = field(1.0, "encoders read E times this number; E itself is trained and decays", above=0, high=1000)
    decay_cls: bool = field(True, "whether weight decay acts on E of CLS in the vision encoder")
    gates: str = field(NONE, "gates of attention terms, as text; none: all are 1", canonical=canonical)


@dataclasses.dataclass(frozen=True)
class StaticFields:
    """The fields that fix a program: models that differ in one of them are compiled apart."""

    # encoders
    d_model: int = field(128, "dimensions of the residual stream", low=1, high=8192)
    n_heads: int = field(4, "attention heads of a layer", low=1, high=256)
    d_head: int = field(0, "dimensions of a head's queries, keys and values", zero="d_model / n_heads", low=0, high=1024)
    d_embed: int = field(128, "dimensions of the embeddings that the loss compares", low=1, high=8192)
    n_layers_vision: int = field(1, "layers of the vision encoder", low=1, high=24)
    n_layers_text: int = field(1, "layers of the text encoder", low=1, high=24)
    n_repeats: int = field(1, "how often the layers run, one pass after another, with the same weights", low=1, high=16)
    positions: str = field("learned", "kind of position encoding", choices=POSITIONS)
    layer_norm: bool = field(False, "whether LayerNorm stands at attention, at the MLP and at the readout")
    norm: str = field("pre", "where LayerNorm stands: before attention and MLP, or after their residuals", choices=NORMS)
    mlp_ratio: int = field(0, "width of the MLP divided by d_model", zero="no MLP", low=0, high=16)
    dropout: float = field(0.0, "rate in training, on E + P and on what attention and MLP write", low=0, below=1)
    projection: str = field("both", "which encoders end in a projection: both, or text alone", choices=PROJECTIONS)
    # data
    data: str = field("resampled", "data law: batches drawn anew, or epochs of a fixed, finite set", choices=DATA)
    distinct: bool = field(False, "whether all images of a label or pair differ in the fixed set")
    single_caption_length: int = field(3, "tokens of the caption of one object", choices=(3, 4))
    task: str = field("row", "the task and its options, such as grid:height=4,width=6; docs/guides/tasks.md lists all tasks")
    L: int = field(10, "pixels of the row; other tasks have options of their own", low=3, high=23)
    n_heldout: int = field(5, "number of labels that training shows alone, never in a pair", low=2, high=50)
    relations: str = field("left", "relation words of the captions: left, left+right, or others of the task")
    # loss and optimiser
    objective: str = field("contrastive", "what is trained: CLIP, or a decoder that says captions", choices=OBJECTIVES)
    pair_loss: str = field("softmax", "contrastive loss: CLIP's softmax or SigLIP's sigmoid", choices=LOSSES)
    hard_negatives: bool = field(False, "whether each image is also compared with its own caption, labels swapped")
    matmul_precision: str = field("float32", "precision of matrix products on accelerators; a CPU has float32", choices=PRECISIONS)
    batch_size: int = field(256, "images of a training step; an even number", low=2, high=65536)
    mask_repeats: bool = field(False, "whether equal captions of a batch are left out of each other's negatives")
    warmup_steps: int = field(10, "training steps in which the learning rate grows linearly from 0", low=0, high=2**24)
    eps: float = field(1e-8, "eps of AdamW", above=0)


@dataclasses.dataclass(frozen=True)
class Model(StaticFields, TracedFields):
    """Everything that defines one training run: a row of the table of models. The defaults are those of the recipe `fast`."""

    def __post_init__(self):
        if isinstance(self.gates, str):
            object.__setattr__(self, "gates", canonical(self.gates))  # one form: models of equal gates are equal


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Models, how long they train and how often they are evaluated.

    The length is a number of `steps`, with an evaluation every `eval_every`; or, of a finite set, a number of `epochs`, with
    `evaluations` of them at equal shares of a model's own training (`steps` and `eval_every` are not read then). Models of
    different N then end at different steps.

    Fields that say how a sweep is run, not what it is, do not count when sweeps are compared.
    """

    models: tuple[Model, ...]
    steps: int = field(3000, "training steps", low=1, high=MAX_STEPS)
    eval_every: int = field(300, "training steps between evaluations; a divisor of steps", low=1)
    slab: int = field(0, "number of models that train at a time", zero="as many as memory holds", low=0, compare=False)
    checkpoint_every: int = field(
        0, "training steps between checkpoints", zero="a checkpoint at every evaluation", low=0, compare=False
    )
    keep_checkpoints: int = field(
        2,
        "number of newest checkpoints of evaluations that stay; 1.7 MB a model and checkpoint",
        zero="all stay",
        low=0,
        compare=False,
    )
    epochs: int = field(0, "passes over the fixed set", zero="steps says how long", low=0)
    evaluations: int = field(10, "number of evaluations after the first, if epochs says how long", low=1)
    # Of a part of another sweep (`analysis.selection.some_of`): the whole, and the numbers that these models have in it.
    part_of: "Sweep | None" = dataclasses.field(default=None, compare=False, repr=False)
    numbers: tuple[int, ...] = dataclasses.field(default=(), compare=False, repr=False)

    def evaluated_at(self, model: Model) -> tuple[int, ...]:
        """The steps after which a model is evaluated, from 0 to its last."""
        if not self.epochs:
            return tuple(range(0, self.steps + 1, self.eval_every))
        last = self.epochs * steps_per_epoch(model)
        return tuple(round(i * last / self.evaluations) for i in range(self.evaluations + 1))

    @property
    def longest(self) -> int:
        """The steps of the model that trains longest."""
        return max(self.evaluated_at(model)[-1] for model in one_of_each(self.models))


FIELDS: dict[str, Field] = declared(Model)
RUN_FIELDS: dict[str, Field] = declared(Sweep)
TRACED = tuple(declared(TracedFields))
AXES = tuple(name for name in TRACED if name != "seed")
STATIC = tuple(declared(StaticFields))
RUN = tuple(RUN_FIELDS)
AXIS_COLUMNS = tuple(column for name in AXES for column in FIELDS[name].columns)  # of tables
LENGTH = tuple(f.name for f in dataclasses.fields(Sweep) if f.name in RUN and f.compare)  # what a sweep is, beside its models


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(StaticFields):
    """The static side of a program: the static fields of its models, and what must be known of all its models together."""

    n_labels_max: int  # the number of labels that arrays are padded to
    gated: bool  # some gate is not 1, so deeper layers must keep the stream split
    noisy: bool  # some model is told captions that say the opposite
    zipfian: bool  # some model's labels occur by Zipf's law
    supervised: bool  # some model has a head that says where objects are

    @property
    def task_object(self) -> tasks.Task:
        """The task."""
        return tasks.make(self.task, **{name: getattr(self, name) for name in tasks.COMMON})

    @property
    def n_labels_total(self) -> int:
        """A: how many labels exist, held-out ones first."""
        return self.n_heldout + self.n_labels_max

    @property
    def n_relations(self) -> int:
        """R: how many relation words captions use."""
        return len(self.task_object.words)


def _traced_arrays() -> Any:
    """A dataclass with the traced fields, each an array; of gates `Hyper` says the type."""
    return dataclasses.make_dataclass("TracedArrays", [(name, jax.Array) for name in TRACED if name != "gates"], frozen=True)


@struct.dataclass
class Hyper(_traced_arrays()):
    """The traced side of one model: every field of `TracedFields` as an array [] of the field's type (betas: [2])."""

    gates: GateSchedule


def static_fields(model: Model) -> tuple:
    """The values of a model's static fields. Models that agree in them share a program's compilation."""
    return tuple(getattr(model, name) for name in STATIC)


def make_static(models: Sequence[Model]) -> Static:
    """The static side of models that agree in their static fields."""
    return Static(
        **{name: getattr(models[0], name) for name in STATIC},
        n_labels_max=max(m.n_labels for m in models),
        gated=any(m.gates != NONE for m in models),
        noisy=any(m.caption_noise > 0 for m in models),
        zipfian=any(m.zipf > 0 for m in models),
        supervised=any(m.supervision > 0 for m in models),
    )


def make_hyper(model: Model) -> Hyper:
    """The traced side of one model, as NumPy arrays."""
    arrays = {name: FIELDS[name].array(getattr(model, name)) for name in TRACED if name != "gates"}
    return Hyper(gates=gate_schedule(model), **arrays)


def gate_schedule(model: Model) -> GateSchedule:
    """The gates of one model, from their text."""
    return parse_gates(model.gates, depths(model), model.n_heads)


def depths(of: StaticFields) -> dict[str, int]:
    """How many blocks a sequence passes in each encoder: its layers, as often as they are repeated."""
    return {"vision": of.n_layers_vision * of.n_repeats, "text": of.n_layers_text * of.n_repeats}


def one_of_each(models: Sequence[Model]) -> list[Model]:
    """One model of those that differ in their seed alone."""
    return list({dataclasses.replace(model, seed=0): model for model in models}.values())


def steps_per_epoch(model: Model) -> int:
    """The batches of one epoch of a finite set; a last one that would not be full is left out."""
    return make_static([model]).task_object.n_items(model.n_labels, model.n1, model.n2) // model.batch_size
