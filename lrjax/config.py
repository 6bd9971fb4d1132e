"""What a model and a sweep are: defaults, validation, and the split into static shapes and traced values.

A `Model` is one row of the table: everything that defines one training run. A `Sweep` is a list of models and how long they
train. Config files are flat ConfigDicts with the same names, where the fields of AXES are tuples whose product is the table.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import struct

from lrjax.data import tasks
from lrjax.errors import InputError, suggest
from lrjax.gates import ENCODERS, NONE, GateSchedule, canonical, check_gates, parse_gates
from lrjax.kinds import DATA, LEARNED, LOSSES, NORMS, OBJECTIVES, POSITIONS, PRECISIONS, PROJECTIONS


@dataclasses.dataclass(frozen=True)
class Model:
    """One training run, by SPEC's names and defaults. The first block varies inside one program; the others fix its shapes."""

    seed: int = 0
    n_labels: int = 15
    n2: int = 10
    n1: int = 5
    weight_decay: float = 0.1
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    e_scale: float = 0.3
    p_scale: float = 0.02
    logit_scale: float = 1 / 0.07  # at the start
    zipf: float = 0.0  # trained labels occur as rank^-zipf
    caption_noise: float = 0.0  # probability that a caption says the opposite
    contrastive: float = 1.0  # weight of the loss of images and captions
    supervision: float = 0.0  # weight of the loss of a head that is asked where objects are
    token_multiplier: float = 1.0  # the encoders read E times this; sqrt(d_model) in the code that the paper starts from
    decay_cls: bool = True  # whether weight decay acts on vision's E_cls
    gates: str = NONE
    # encoders
    d_model: int = 128
    n_heads: int = 4
    d_head: int = 0  # 0: d_model / n_heads
    d_embed: int = 128
    n_layers_vision: int = 1
    n_layers_text: int = 1
    n_repeats: int = 1  # how often the layers run, one after another, with the same weights (the paper's M_rep)
    positions: str = "learned"
    layer_norm: bool = False  # at attention, at the MLP and at the readout
    norm: str = "pre"  # where LayerNorm stands, if there is one: before attention and MLP, or after their residuals
    mlp_ratio: int = 0  # width of the MLP over d_model; 0: none
    dropout: float = 0.0  # rate, in training, on E + P, on what attention writes and on what the MLP writes
    projection: str = "both"  # which encoders have a projection: both, or text alone (then images live in d_model dimensions)
    # data
    data: str = "resampled"  # the data law: a batch drawn anew in every step, or a fixed, finite set that epochs go through
    distinct: bool = False  # of the fixed set: whether the images of one label or pair are all different
    single_caption_length: int = 3  # tokens of "x is in the image": 3, or the paper's 4
    task: str = "row"
    L: int = 10
    n_heldout: int = 5
    relations: str = "left"
    # loss and optimiser
    objective: str = "contrastive"
    pair_loss: str = "softmax"
    hard_negatives: bool = False  # beside the captions of a batch, each image has its own with labels exchanged
    matmul_precision: str = "float32"  # of products on accelerators; a CPU has no other
    batch_size: int = 256
    mask_repeats: bool = False
    warmup_steps: int = 10
    eps: float = 1e-8

    def __post_init__(self):
        if isinstance(self.gates, str):
            object.__setattr__(self, "gates", canonical(self.gates))  # one form: models of equal gates are equal


MAX_MODELS = 1_000_000
AXES = ("n_labels", "n2", "n1", "weight_decay", "lr", "betas", "e_scale", "p_scale", "logit_scale")
AXES += ("zipf", "caption_noise", "contrastive", "supervision", "token_multiplier", "decay_cls", "gates")  # beside seeds
TRACED = ("seed", *AXES)
STATIC = tuple(f.name for f in dataclasses.fields(Model) if f.name not in TRACED)
_TYPES = {f.name: f.type for f in dataclasses.fields(Model)}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Models, how long they train and how often they are evaluated. How that is run, not what it is: `slab`, how many train at a
    time (0: what memory holds), `checkpoint_every`, steps between checkpoints (0: one at every evaluation).

    The length is a number of `steps`, with an evaluation every `eval_every`; or, of a finite set, a number of `epochs`, with
    `evaluations` of them at equal shares of a model's own training (`steps` and `eval_every` are not read then). Models of
    different N then end at different steps.
    """

    models: tuple[Model, ...]
    steps: int = 3000
    eval_every: int = 300
    slab: int = dataclasses.field(default=0, compare=False)
    checkpoint_every: int = dataclasses.field(default=0, compare=False)
    epochs: int = 0
    evaluations: int = 10
    # Of a part of another sweep (`analysis.models.some_of`): the whole, and the numbers that these models have in it.
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


RUN = ("steps", "eval_every", "slab", "checkpoint_every", "epochs", "evaluations")


@dataclasses.dataclass(frozen=True)
class Static:
    """The static side of a program: a Model's STATIC fields, and the number of labels that its arrays are padded to."""

    n_labels_max: int
    gated: bool  # some gate is not 1, so deeper layers must keep the stream split
    noisy: bool  # some model is told captions that say the opposite
    supervised: bool  # some model has a head that is asked where objects are
    d_model: int
    n_heads: int
    d_head: int
    d_embed: int
    n_layers_vision: int
    n_layers_text: int
    n_repeats: int
    positions: str
    layer_norm: bool
    norm: str
    mlp_ratio: int
    dropout: float
    projection: str
    data: str
    distinct: bool
    single_caption_length: int
    L: int
    n_heldout: int
    relations: str
    task: str
    objective: str
    pair_loss: str
    hard_negatives: bool
    matmul_precision: str
    batch_size: int
    mask_repeats: bool
    warmup_steps: int
    eps: float

    @property
    def world(self) -> tasks.Task:
        """The task."""
        return tasks.make(self.task, **{name: getattr(self, name) for name in tasks.COMMON})

    @property
    def n_names(self) -> int:
        """A: how many labels exist, held-out ones first."""
        return self.n_heldout + self.n_labels_max

    @property
    def n_words(self) -> int:
        """R: how many relation words captions use."""
        return len(self.world.words)


@struct.dataclass
class Hyper:
    """The traced side of one model: its place on the axes that share a program."""

    seed: jax.Array
    n_labels: jax.Array
    n2: jax.Array
    n1: jax.Array
    weight_decay: jax.Array
    lr: jax.Array
    betas: jax.Array
    e_scale: jax.Array
    p_scale: jax.Array
    logit_scale: jax.Array
    zipf: jax.Array
    caption_noise: jax.Array
    contrastive: jax.Array
    supervision: jax.Array
    token_multiplier: jax.Array
    decay_cls: jax.Array
    gates: GateSchedule


def get_config(**changes) -> ml_collections.ConfigDict:
    """The flat ConfigDict of SPEC's defaults with `changes`: what a config file returns."""
    defaults = {f.name: f.default for f in dataclasses.fields(Model)}
    config = ml_collections.ConfigDict()
    # sweep: the table of models is the product of these tuples and the seeds
    config.seeds, config.first_seed = 8, 0
    config.n_labels = (5, 10, 15, 20, 25)
    for name in AXES[1:]:
        config[name] = (defaults[name],)
    config.scales = ()  # pairs (e_scale, p_scale), in place of the product of these two axes
    # run
    for name in RUN:
        config[name] = getattr(Sweep, name)
    # encoders, data, loss and optimiser: one value each; several values (from a config file) become several programs
    for name in STATIC:
        config[name] = defaults[name]
    with config.unlocked(), config.ignore_type():
        for name, value in changes.items():
            if name not in config:
                raise InputError(f"config.{name}: no such key{suggest(name, config)}; see lrjax/config.py for all keys")
            config[name] = value
    return config.lock()


def make_sweep(config: Mapping[str, Any]) -> Sweep:
    """The sweep of a flat config: the product of its axes, seeds innermost. Raises InputError on the first bad field."""
    if not isinstance(config, Mapping | ml_collections.ConfigDict):
        raise InputError(f"--config: get_config() returned {type(config).__name__}; expected a ConfigDict or a dict")
    config = dict(config)
    known = get_config()
    for name in config:
        if name not in known:
            raise InputError(f"config.{name}: no such key{suggest(name, known)}; see lrjax/config.py for all keys")
    config = dict(known) | config
    seeds, first_seed = (_cast(name, config[name], int) for name in ("seeds", "first_seed"))
    _require("seeds", seeds, 1 <= seeds <= 100_000, "1 or more (up to 100000)")
    _require("first_seed", first_seed, 0 <= first_seed <= 2**32 - seeds, f"0..{2**32 - seeds}, so that all seeds are below 2^32")
    axes = {name: _axis(name, config[name]) for name in (*STATIC, *AXES)}
    scales = _scales(config["scales"], axes)
    n_models = seeds * math.prod(len(values) for values in axes.values()) * len(scales or (1,))
    if n_models > MAX_MODELS:
        raise InputError(f"config: the product of seeds and axes is {n_models} models; expected at most {MAX_MODELS}")
    rows = itertools.product(scales or ({},), *axes.values(), range(first_seed, first_seed + seeds))
    models = tuple(Model(**dict(zip((*axes, "seed"), row, strict=True)) | scale) for scale, *row in rows)
    sweep = Sweep(models, **{name: _cast(name, config[name], int) for name in RUN})
    validate(sweep)
    _refuse_equal_gates(models)
    return sweep


def validate(sweep: Sweep) -> None:
    """Raise InputError that names the field, its value and what is right, if any model or the run is not possible."""
    _validate_length(sweep)
    _require("slab", sweep.slab, sweep.slab >= 0, "0 (what memory holds) or a number of models")
    if not sweep.models:
        raise InputError("models: the sweep is empty; give at least one model")
    for model in one_of_each(sweep.models):
        validate_model(model)
        check_gates(model.gates, sweep.evaluated_at(model)[-1])
        if not sweep.epochs:
            continue
        _require("epochs", sweep.epochs, model.data == "fixed", "0 where data = 'resampled', which has no epochs: give steps")
        last, n = sweep.epochs * steps_per_epoch(model), model.n_labels
        _require("epochs", sweep.epochs, last < 2**31, f"fewer: {last} steps at n_labels = {n}, of at most {2**31 - 1}")
        _require("evaluations", sweep.evaluations, sweep.evaluations <= last, f"at most the {last} steps of n_labels = {n}")


def _validate_length(sweep: Sweep) -> None:
    """The same for how long a sweep is."""
    steps, every, often = sweep.steps, sweep.eval_every, sweep.checkpoint_every
    _require("epochs", sweep.epochs, sweep.epochs >= 0, "0 (config.steps says how long) or more")
    _require("evaluations", sweep.evaluations, sweep.evaluations >= 1, "1 or more")
    _require("checkpoint_every", often, often >= 0, "0 (every evaluation) or a number of steps")
    if sweep.epochs:
        return
    _require("eval_every", every, every >= 1, "1 or more")
    _require("steps", steps, 1 <= steps <= 2**31 - 1, "1 or more (up to 2147483647)")
    _require("steps", steps, steps % every == 0, f"a multiple of eval_every = {every}")
    fits = often == 0 or every % often == 0 or often % every == 0
    _require("checkpoint_every", often, fits, f"0 (every evaluation), or a divisor or multiple of eval_every = {every}")


def one_of_each(models: Sequence[Model]) -> list[Model]:
    """One model of those that differ in their seed alone."""
    return list({dataclasses.replace(model, seed=0): model for model in models}.values())


def steps_per_epoch(model: Model) -> int:
    """The batches of one epoch of a finite set; a last one that would not be full is left out."""
    return make_static([model]).world.n_items(model.n_labels, model.n1, model.n2) // model.batch_size


def validate_model(model: Model) -> None:
    """The same for one model."""
    m = model
    for name in ("weight_decay", "lr", "e_scale", "p_scale", "zipf", "contrastive", "supervision", "eps"):
        value = getattr(m, name)
        _require(name, value, 0 <= value <= float(np.finfo(np.float32).max), "a finite number, not negative")
    _require("lr", m.lr, np.float32(m.lr) > 0, "a finite number above 0")
    _require("logit_scale", m.logit_scale, 1e-3 <= m.logit_scale <= 100, "0.001..100, where it is clipped")
    _require("caption_noise", m.caption_noise, 0 <= m.caption_noise <= 1, "a probability, 0..1")
    _require("contrastive", m.contrastive, m.contrastive == 1 or m.supervision > 0, "1 where there is no supervision")
    _require("zipf", m.zipf, m.zipf <= 8, "0 (all labels alike)..8")
    _require("objective", m.objective, m.objective in OBJECTIVES, " or ".join(map(repr, OBJECTIVES)))
    if m.objective != "contrastive":
        for name in ("pair_loss", "hard_negatives", "mask_repeats", "contrastive", "supervision"):
            default = getattr(Model, name)
            _require(name, getattr(m, name), getattr(m, name) == default, f"{default!r}: of the contrastive objective alone")
        _require("positions", m.positions, m.positions != "row_column", "another kind: a reader has one row of P a token")
    _require("pair_loss", m.pair_loss, m.pair_loss in LOSSES, " or ".join(map(repr, LOSSES)))
    _require("eps", m.eps, np.float32(m.eps) > 0, "a finite number above 0")
    _require("e_scale", m.e_scale, m.e_scale + m.p_scale > 0, "e_scale or p_scale above 0")
    _require("betas", m.betas, all(0 <= beta < 1 for beta in m.betas), "two numbers in [0, 1)")
    _require("L", m.L, 3 <= m.L <= 23, "3..23 pixels")
    _require("n_labels", m.n_labels, 2 <= m.n_labels <= 1000, "2 or more labels (up to 1000)")
    _require("n_heldout", m.n_heldout, 2 <= m.n_heldout <= 50, "2..50 held-out labels")
    _validate_world(m, make_static([m]).world)
    _require("batch_size", m.batch_size, 2 <= m.batch_size <= 65536 and m.batch_size % 2 == 0, "an even number, 2..65536")
    for name, top in (("d_model", 8192), ("d_embed", 8192), ("n_heads", 256), ("n_layers_vision", 24), ("n_layers_text", 24)):
        _require(name, getattr(m, name), 1 <= getattr(m, name) <= top, f"1..{top}")
    fits = m.d_head > 0 or m.d_model % m.n_heads == 0
    _require("d_model", m.d_model, fits, f"a multiple of n_heads = {m.n_heads}, or config.d_head given")
    _require("d_head", m.d_head, 0 <= m.d_head <= 1024, "1..1024, or 0: d_model / n_heads")
    _require("mlp_ratio", m.mlp_ratio, 0 <= m.mlp_ratio <= 16, "0 (no MLP)..16")
    _require("e_scale", m.e_scale, m.e_scale > 0 or m.positions in LEARNED, "above 0 where positions are not learned")
    _require("positions", m.positions, m.positions in POSITIONS, " or ".join(map(repr, POSITIONS)))
    d_head = m.d_head or m.d_model // m.n_heads
    _require("d_head", d_head, m.positions != "rotary" or d_head % 2 == 0, "an even number, to rotate pairs")
    _require("warmup_steps", m.warmup_steps, 0 <= m.warmup_steps <= 2**24, "0 or more")
    _require("matmul_precision", m.matmul_precision, m.matmul_precision in PRECISIONS, " or ".join(map(repr, PRECISIONS)))
    _require("seed", m.seed, 0 <= m.seed < 2**32, "a seed in 0..4294967295")
    for name, known in (("data", DATA), ("norm", NORMS), ("projection", PROJECTIONS)):
        _require(name, getattr(m, name), getattr(m, name) in known, " or ".join(map(repr, known)))
    _require("token_multiplier", m.token_multiplier, 0 < m.token_multiplier <= 1000, "a number above 0 (up to 1000)")
    _require("n_repeats", m.n_repeats, 1 <= m.n_repeats <= 16, "1..16")
    _require("dropout", m.dropout, 0 <= m.dropout < 1, "a rate, 0..1 without 1")
    equal = m.projection == "both" or m.d_embed == m.d_model
    _require("d_embed", m.d_embed, equal, f"d_model = {m.d_model}, where projection = 'text'")
    _require("single_caption_length", m.single_caption_length, m.single_caption_length in (3, 4), "3 or 4 tokens")
    of_fixed = m.data == "fixed"
    _require("distinct", m.distinct, of_fixed or not m.distinct, "False where data is resampled: its places are all different")
    _require("zipf", m.zipf, not of_fixed or m.zipf == 0, "0 where data = 'fixed': every label and pair has as many images")
    enough = not of_fixed or steps_per_epoch(m) >= 1
    _require("batch_size", m.batch_size, enough, "at most the number of images of the finite set")
    schedule = gate_schedule(m)
    if m.mlp_ratio:
        for gates in (schedule.g0, schedule.g1):
            deeper = all((getattr(gates, encoder)[1:] == 1).all() for encoder in ENCODERS)
            _require(
                "gates", m.gates, deeper, f"gates of layer 0 alone (.L0): with mlp_ratio = {m.mlp_ratio} later terms do not exist"
            )


def _validate_world(m: Model, world: tasks.Task) -> None:
    """The same for what depends on the task."""
    places, layouts, least = world.n_places, world.n_layouts, world.together
    told = m.supervision == 0 or (world.one_token and not world.extent)  # of two places one comes first
    _require("supervision", m.supervision, told, "0: the head is asked of objects of one token each, in a row, and of nothing else")
    for name in ("n_labels", "n_heldout"):
        enough = getattr(m, name) >= least
        _require(name, getattr(m, name), enough, f"{least} or more labels, which stand together in task {m.task!r}")
    _require("n1", m.n1, 1 <= m.n1 <= places - 1, f"1..{places - 1}, so that some of the {places} positions are held out")
    _require("n2", m.n2, 1 <= m.n2 <= layouts - 1, f"1..{layouts - 1}, so that some of the {layouts} layouts are held out")
    has_rows = m.positions != "row_column" or world.extent is not None
    _require("positions", m.positions, has_rows, "a task of two dimensions for rows and columns, such as config.task='grid'")
    if m.objective != "contrastive":
        says_one = len(world.said) == 1
        _require("objective", m.objective, says_one, f"'contrastive': images of task {m.task!r} are told in several ways")
        raw = m.objective.endswith("raw") and world.image.adds
        _require("objective", m.objective, not raw, f"'autoregressive': patches of task {m.task!r} are no words")


def gate_schedule(model: Model) -> GateSchedule:
    """The gates of one model, from their text."""
    return parse_gates(model.gates, depths(model), model.n_heads)


def _refuse_equal_gates(models: Sequence[Model]) -> None:
    """Raise InputError that names two texts of gates, if they are the same gates in a model of the sweep."""
    shape = ("n_heads", "n_layers_vision", "n_layers_text", "n_repeats")
    found: dict[tuple, str] = {}
    for model in {(m.gates, *(getattr(m, name) for name in shape)): m for m in models}.values():
        sizes = tuple(getattr(model, name) for name in shape)
        digest = hashlib.sha256(b"".join(array.tobytes() for array in jax.tree.leaves(gate_schedule(model)))).digest()
        if (other := found.setdefault((sizes, digest), model.gates)) != model.gates:
            where = ", ".join(f"{name} = {size}" for name, size in zip(shape, sizes, strict=True))
            raise InputError(f"config.gates: {other!r} and {model.gates!r} are the same in a model of {where}; give one of them")


def depths(of: Model | Static) -> dict[str, int]:
    """How many blocks a sequence passes in each encoder: its layers, as often as they are repeated."""
    return {"vision": of.n_layers_vision * of.n_repeats, "text": of.n_layers_text * of.n_repeats}


def make_static(models: Sequence[Model]) -> Static:
    """The static side of models that agree in their STATIC fields."""
    fields = {name: getattr(models[0], name) for name in STATIC}
    gated, supervised = any(m.gates != NONE for m in models), any(m.supervision > 0 for m in models)
    noisy = any(m.caption_noise > 0 for m in models)
    return Static(max(m.n_labels for m in models), gated, noisy, supervised, **fields)


def make_hyper(model: Model) -> Hyper:
    """The traced side of one model, as NumPy values of fixed types."""
    kinds = {int: np.int32, float: np.float32, tuple[float, float]: np.float32, bool: np.bool_}
    values = {name: np.asarray(getattr(model, name), kinds[_TYPES[name]]) for name in AXES if name != "gates"}
    return Hyper(seed=np.uint32(model.seed), gates=gate_schedule(model), **values)


def _axis(name: str, value: Any) -> tuple:
    """The values of a field, each cast to the field's type; a single value is an axis of one."""
    kind = _TYPES[name]
    single = not isinstance(value, (tuple, list)) or (kind == tuple[float, float] and _is_pair(value))
    values = (value,) if single else tuple(value)
    if not values:
        raise InputError(f"config.{name}: the axis is empty; give at least one value, such as ({getattr(Model, name)!r},)")
    cast = tuple(_cast(name, v, kind) for v in values)
    cast = tuple(map(canonical, cast)) if name == "gates" else cast
    if len(set(cast)) < len(cast):
        raise InputError(f"config.{name}: {value!r} repeats a value; give each value once")
    return cast


def _scales(pairs: Any, axes: Mapping[str, tuple]) -> list[dict[str, float]]:
    """The pairs of initial scales of a config as fields of models; none if the axes e_scale and p_scale say."""
    many = isinstance(pairs, (tuple, list))
    if many and not pairs:
        return []
    cast = [_cast("scales", pair, tuple[float, float]) for pair in ((pairs,) if not many or _is_pair(pairs) else pairs)]
    for name in ("e_scale", "p_scale"):
        _require(name, axes[name], axes[name] == (getattr(Model, name),), "the default beside config.scales, which has both")
    if len(set(cast)) < len(cast):
        raise InputError(f"config.scales: {pairs!r} repeats a value; give each value once")
    return [{"e_scale": e, "p_scale": p} for e, p in cast]


def _is_pair(value) -> bool:
    return len(value) == 2 and not any(isinstance(v, (tuple, list)) for v in value)


def _cast(name: str, value: Any, kind: type) -> Any:
    """`value` as the field's type, if it loses nothing."""
    if kind == tuple[float, float]:
        if isinstance(value, (tuple, list)) and _is_pair(value):
            return tuple(_cast(name, v, float) for v in value)
        expected = "two numbers, such as (0.9, 0.98)"
    elif kind in (str, bool):
        if isinstance(value, kind):
            return value
        expected = {str: "text", bool: "True or False"}[kind]
    else:
        expected = {int: "a whole number", float: "a finite number"}[kind]
        if isinstance(value, str) and value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
            value = float(value)
        is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if is_number and (kind is float or (math.isfinite(value) and int(value) == value)):
            with contextlib.suppress(OverflowError):
                return kind(value)
    raise InputError(f"config.{name}: {value!r} is not possible; expected {expected}")


def _require(name: str, value: Any, ok: bool, expected: str) -> None:
    if not ok:
        raise InputError(f"config.{name}: {value!r} is not possible; expected {expected}")
