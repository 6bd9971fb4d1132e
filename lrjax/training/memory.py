"""How much memory and how many FLOPs a model takes, counted: what decides on the size of slabs and of chunks of steps."""

import bisect
import functools
from functools import partial

import jax
from jax.sharding import Mesh

from lrjax import devices, surroundings
from lrjax.config import STATIC, Model, Static, Sweep, make_hyper, make_static, static_fields
from lrjax.models import objectives
from lrjax.models.clip import encoder_configs, init_clip, model_splits, n_parameters
from lrjax.models.encoder import EncoderConfig
from lrjax.training import flops
from lrjax.training.programs import Program

USED = 0.6  # of the devices' memory, which the counted bytes of models may fill
WORKSPACE = 2**25  # bytes that a GPU's library of products asks for
# How many numbers a step keeps for its backward pass. They are least squares over XLA's own figures for the shipped configs.
PAIR = 2.2  # for a pair of an image and a caption of the batch
EMBEDDED = 3.4  # for a number of an embedding
STREAM = 1.35  # for a number of the stream, and of what heads gather, of a sequence that is read from tables
ROW = 1.4  # for a head and a row of tables, of such a sequence
TOKEN = 5  # for a number of a token that a layer computes
LOOKED_AT = 5.8  # for a number of a token that gives a last layer its key and its value alone
NORM = 1.2  # for a number that passes LayerNorm
DROPOUT = 12  # for a number that passes dropout
MLP = 2.2  # for a unit of an MLP
PATTERN = 4  # for a key in the pattern of a head
CHUNK, CHUNK_SECONDS = 50, 5  # steps between two looks of the host, at most; how long they may last


def models_that_fit(sweep: Sweep, mesh: Mesh | None = None, memory: int = 0) -> int:
    """How many models 60 % of the devices' memory holds, and of how many a step is short, by the largest model of the sweep.

    Args:
        sweep: the models.
        mesh: the devices; None: all that jax has here.
        memory: bytes of memory of all devices together; 0: ask the devices here.
    """
    n_devices = mesh.size if mesh else jax.device_count()
    short = int(CHUNK_SECONDS * devices.slow_flops(mesh) // max(map(flops_of_model, static_sides(sweep))))
    largest = largest_models(sweep)
    room = USED * (memory or devices.memory()) / n_devices
    each = bisect.bisect_right(range(short), room, key=lambda n: bytes_of_models(largest, n, mesh)) - 1
    return max(1, min(each * n_devices, short))


def largest_models(sweep: Sweep) -> Static:
    """The static side of the models of a sweep that take most memory."""
    return max(static_sides(sweep), key=lambda static: bytes_of_models(static, 1))


def static_sides(sweep: Sweep) -> list[Static]:
    """The static sides of a sweep's programs."""
    groups: dict[tuple, list[Model]] = {}
    for model in sweep.models:
        groups.setdefault(static_fields(model), []).append(model)
    return list(map(make_static, groups.values()))


def flops_of_model(static: Static) -> int:
    """FLOPs of one training step of one model, counted."""
    return flops.total(flops.lrjax_counts(static)).flops


def chunk_steps(program: Program, mesh: Mesh | None = None) -> int:
    """How many steps are made before the host looks again: so few that they are soon over on a slow machine, since a stop waits for
    them. The number is computed from shapes and not from measured times, so a sweep compiles once. No result depends on it. mesh:
    as of `models_that_fit`.
    """
    flops_of_step = flops_of_model(program.static) * len(program.hyper.seed)
    return int(min(CHUNK, max(1, CHUNK_SECONDS * devices.slow_flops(mesh) // flops_of_step)))


@surroundings.pinned()
def bytes_of_models(static: Static, n: int, mesh: Mesh | None = None) -> int:
    """Memory of n models on one device in training, counted.

    All n models hold parameters, moments of the optimiser and splits, and hold them twice where they take their steps in batches.
    The models of one batch hold gradients and activations. A GPU has a workspace.

    For a CPU and a GPU XLA's own figure is within 30 % of the count (docs/development/performance.md). For a TPU XLA's figure is
    lower, since it leaves out memory on the chip.
    """
    parameters, splits = _sizes(static)
    at_once = devices.train_batch_size(n, mesh)
    held = n * (3 * flops.FLOAT * parameters + splits) * (1 if at_once == n else 2)
    of_step = at_once * flops.FLOAT * (parameters + round(activations(static)))
    return held + of_step + (WORKSPACE if devices.platform_of(mesh) in ("gpu", "cuda") else 0)


@functools.lru_cache
def _sizes(static: Static) -> tuple[int, int]:
    """The number of parameters of a model, and the bytes of its splits."""
    model = Model(**{name: getattr(static, name) for name in STATIC})
    params, splits = (jax.eval_shape(partial(of, static), make_hyper(model)) for of in (init_clip, model_splits))
    return n_parameters(params), sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(splits))


def activations(static: Static) -> float:
    """How many numbers a step of one model keeps for its backward pass: those of its encoders, and those of a loss of pairs."""
    objective, B, shapes = objectives.of(static), static.batch_size, encoder_configs(static)
    captions = B // 2 * (1 + static.hard_negatives) + (B // 2 if static.dropout else static.n_labels_total)
    sequences = {"vision": B, "text": B if objective.full_sequences else captions}
    kept = 0 if objective.full_sequences else PAIR * B**2 + EMBEDDED * B * static.d_embed
    for name in objective.encoders:
        if flops.reads_tables(static, shapes[name]):
            kept += sequences[name] * of_tables(shapes[name])
        else:
            kept += sequences[name] * of_layers(shapes[name], objective.full_sequences and name == "vision")
    return kept


def of_tables(encoder_config: EncoderConfig) -> float:
    """What one block keeps of a sequence that it reads from tables (`models.lookup_tables`)."""
    h, d = encoder_config.n_heads, encoder_config.d_model
    rows = encoder_config.n_positions + encoder_config.n_tokens
    return STREAM * (d + h * encoder_config.k) + ROW * h * rows + MLP * encoder_config.mlp_ratio * d


def of_layers(encoder_config: EncoderConfig, every_token: bool) -> float:
    """What all layers keep of a sequence. The last layer computes the readout alone, or `every_token`."""
    T, d, m = encoder_config.n_positions, encoder_config.d_model, encoder_config.mlp_ratio * encoder_config.d_model
    either = NORM * d * encoder_config.layer_norm + DROPOUT * d * (encoder_config.dropout > 0)
    whole = TOKEN * d + MLP * m + PATTERN * encoder_config.n_heads * T + either
    last = whole if every_token else LOOKED_AT * d + either
    return T * (encoder_config.depth - 1) * whole + T * last + MLP * m
