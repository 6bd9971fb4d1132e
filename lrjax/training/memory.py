"""How much memory and how many FLOPs a model takes, counted: what decides on the size of slabs and of chunks of steps."""

import bisect
import functools
from functools import partial

import jax
from jax.sharding import Mesh

from lrjax import devices, surroundings
from lrjax.config import Model, Static, Sweep, make_hyper, make_static
from lrjax.models import objectives
from lrjax.models.clip import encoder_configs, model_splits, n_parameters, param_shapes
from lrjax.models.encoder import EncoderConfig
from lrjax.training import flops
from lrjax.training.programs import Program

USED = 0.6  # of the devices' memory, which the counted bytes of models may fill
FLOAT, WORKSPACE = 4, 2**25  # bytes of a number, and of what a GPU's library of products asks for
# Numbers kept for the backward pass, by what XLA says of the shipped configs. Of a pair of image and caption; of a number of an
# embedding. Over d_model: of a token in a layer; of one only looked at; in LayerNorm; in dropout. Over its width: in an MLP.
PER_PAIR, PER_EMBEDDED = 3.5, 5
ATTENTION, KEYS_AND_VALUES, NORM, DROPOUT, MLP = 7, 4.5, 2.5, 2, 3.5
CHUNK, CHUNK_SECONDS = 50, 5  # steps between two looks of the host, at most; how long they may last


def models_that_fit(sweep: Sweep, mesh: Mesh | None = None, memory: int = 0) -> int:
    """How many models 60 % of the devices' memory holds, and of how many a step is short, by the largest model of the sweep.

    Args:
        sweep: the models.
        mesh: the devices; None: all that jax has here.
        memory: bytes of memory of all devices together; 0: ask the devices here.
    """
    n_devices = mesh.size if mesh else jax.device_count()
    short = int(CHUNK_SECONDS * devices.slow_flops(mesh) // max(map(flops_of_model, one_of_each_shape(sweep))))
    largest = largest_model(sweep)
    room = USED * (memory or devices.memory()) / n_devices
    each = bisect.bisect_right(range(short), room, key=lambda n: bytes_of_models(largest, n, mesh)) - 1
    return max(1, min(each * n_devices, short))


def largest_model(sweep: Sweep) -> Model:
    """The model of a sweep that takes most memory."""
    return max(one_of_each_shape(sweep).values(), key=lambda model: bytes_of_models(model, 1))


def one_of_each_shape(sweep: Sweep) -> dict[Static, Model]:
    """A model of each static side, of which memory and FLOPs are functions."""
    return {make_static([model]): model for model in sweep.models}


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


def bytes_of_models(model: Model, n: int, mesh: Mesh | None = None) -> int:
    """Memory of n models like `model` on one device in training, counted: parameters, moments of the optimiser and splits of all,
    twice where some take their steps at a time; gradients and activations of those that do; and a GPU's room for products.

    XLA's own figures are within 30 % of it (docs/development/performance.md), but a TPU's, which leave out memory on the chip.
    """
    parameters, splits, kept = _sizes(model)
    at_once = devices.train_batch_size(n, mesh)
    held = n * (3 * FLOAT * parameters + splits) * (1 if at_once == n else 2)
    return held + at_once * FLOAT * (parameters + kept) + (WORKSPACE if devices.platform_of(mesh) in ("gpu", "cuda") else 0)


@functools.lru_cache
@surroundings.pinned()
def _sizes(model: Model) -> tuple[int, int, int]:
    """Numbers of parameters, bytes of splits, and numbers that are kept for the backward pass, of a model."""
    static = make_static([model])
    splits = jax.tree.leaves(jax.eval_shape(partial(model_splits, static), make_hyper(model)))
    return n_parameters(param_shapes(model)), sum(x.size * x.dtype.itemsize for x in splits), int(activations(static))


def activations(static: Static) -> float:
    """How many numbers a step of one model keeps for its backward pass: those of each encoder, and of a loss of pairs the B x B
    logits and the embeddings.
    """
    objective, B, half = objectives.of(static), static.batch_size, static.batch_size // 2
    captions = half * (1 + static.hard_negatives) + (half if static.dropout else static.n_labels_total)
    if objective.full_sequences:
        captions, kept = B, 0
    else:
        kept = PER_PAIR * B**2 + PER_EMBEDDED * B * static.d_embed
    sequences, edits = {"vision": B, "text": captions}, {"vision": static.task_object.n_edits, "text": 3}
    for name in objective.encoders:
        encoder_config = encoder_configs(static)[name]
        if encoder_config.depth == 1 and not static.dropout and not objective.full_sequences:
            kept += of_tables(encoder_config, sequences[name], edits[name])
        else:
            kept += of_layers(encoder_config, sequences[name], objective.full_sequences and name == "vision")
    return kept


def of_tables(encoder_config: EncoderConfig, n: int, n_edits: int) -> float:
    """Of one block that reads n sequences from tables (`models.lookup_tables`)."""
    T, m = encoder_config.n_positions, encoder_config.mlp_ratio * encoder_config.d_model
    return n * (n_edits * (T + encoder_config.n_tokens) + 2 * encoder_config.n_heads * (T + n_edits) + MLP * m)


def of_layers(encoder_config: EncoderConfig, n: int, every_token: bool) -> float:
    """Of the layers of n sequences, the last of which computes the readout alone, or `every_token`."""
    T, d, m = encoder_config.n_positions, encoder_config.d_model, encoder_config.mlp_ratio * encoder_config.d_model
    norm, dropout = NORM * d * encoder_config.layer_norm, DROPOUT * d * (encoder_config.dropout > 0)
    whole = ATTENTION * d + norm + MLP * m + dropout + 2 * encoder_config.n_heads * T
    last = whole if every_token else KEYS_AND_VALUES * d + norm + dropout
    return n * (T * (encoder_config.depth - 1) * whole + T * last + MLP * m)
