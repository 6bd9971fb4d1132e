"""How much memory and how many FLOPs a model takes, counted: what decides on the size of slabs and of chunks of steps."""

import bisect
import functools
from functools import partial

import jax
from jax.sharding import Mesh

from lrjax import devices, surroundings
from lrjax.config import STATIC, Model, Static, Sweep, make_hyper, make_static
from lrjax.models import objectives
from lrjax.models.clip import encoder_configs, init_clip, model_splits, n_parameters
from lrjax.models.encoder import EncoderConfig
from lrjax.training import flops
from lrjax.training.programs import Program

USED = 0.6  # of the devices' memory, which the counted bytes of models may fill
FLOAT, WORKSPACE = 4, 2**25  # bytes of a number, and of what a GPU's library of products asks for
# Numbers kept for the backward pass, least squares over what XLA says of the shipped configs. Of a pair of image and caption; of a
# number of an embedding. Of a sequence read from tables: over the width of its stream and heads; of a head, over rows of tables.
PAIR, EMBEDDED, STREAM, ROW = 2.2, 3.4, 1.35, 1.4
# Over d_model: of a token in a layer; of one that is only looked at; in LayerNorm; in dropout. Of an MLP's width; of a pattern.
TOKEN, LOOKED_AT, NORM, DROPOUT, MLP, PATTERN = 5, 5.8, 1.2, 12, 2.2, 4
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
        groups.setdefault(tuple(getattr(model, name) for name in STATIC), []).append(model)
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
    """Memory of n models on one device in training, counted: parameters, moments of the optimiser and splits of all, twice where
    some take their steps at a time; gradients and activations of those that do; and a GPU's room for products.

    XLA's own figures are within 30 % of it (docs/development/performance.md), but a TPU's, which leave out memory on the chip.
    """
    parameters, splits = _sizes(static)
    at_once = devices.train_batch_size(n, mesh)
    held = n * (3 * FLOAT * parameters + splits) * (1 if at_once == n else 2)
    of_step = at_once * FLOAT * (parameters + round(activations(static)))
    return held + of_step + (WORKSPACE if devices.platform_of(mesh) in ("gpu", "cuda") else 0)


@functools.lru_cache
def _sizes(static: Static) -> tuple[int, int]:
    """The number of parameters of a model, and the bytes of its splits."""
    model = Model(**{name: getattr(static, name) for name in STATIC})
    params, splits = (jax.eval_shape(partial(of, static), make_hyper(model)) for of in (init_clip, model_splits))
    return n_parameters(params), sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(splits))


def activations(static: Static) -> float:
    """How many numbers a step of one model keeps for its backward pass: those of each encoder, and of a loss of pairs the B x B
    logits and the embeddings.
    """
    objective, B = objectives.of(static), static.batch_size
    captions = B // 2 * (1 + static.hard_negatives) + (B // 2 if static.dropout else static.n_labels_total)
    sequences = {"vision": B, "text": B if objective.full_sequences else captions}
    kept = 0 if objective.full_sequences else PAIR * B**2 + EMBEDDED * B * static.d_embed
    for name in objective.encoders:
        encoder_config = encoder_configs(static)[name]
        if encoder_config.depth == 1 and not static.dropout and not objective.full_sequences:
            kept += sequences[name] * of_tables(encoder_config)
        else:
            kept += sequences[name] * of_layers(encoder_config, objective.full_sequences and name == "vision")
    return kept


def of_tables(encoder_config: EncoderConfig) -> float:
    """Of a sequence that one block reads from tables (`models.lookup_tables`)."""
    h, d = encoder_config.n_heads, encoder_config.d_model
    rows = encoder_config.n_positions + encoder_config.n_tokens
    return STREAM * (d + h * encoder_config.k) + ROW * h * rows + MLP * encoder_config.mlp_ratio * d


def of_layers(encoder_config: EncoderConfig, every_token: bool) -> float:
    """Of a sequence in all layers, the last of which computes the readout alone, or `every_token`."""
    T, d, m = encoder_config.n_positions, encoder_config.d_model, encoder_config.mlp_ratio * encoder_config.d_model
    either = NORM * d * encoder_config.layer_norm + DROPOUT * d * (encoder_config.dropout > 0)
    whole = TOKEN * d + MLP * m + PATTERN * encoder_config.n_heads * T + either
    last = whole if every_token else LOOKED_AT * d + either
    return T * (encoder_config.depth - 1) * whole + T * last + MLP * m
