"""The eager PyTorch baseline: one model, its training loop as one would write it, on PyTorch's own layers and AdamW.

Attention is written out (products and softmax): on sequences this short it is a tenth faster than nn.MultiheadAttention on CPU.

torch is an extra that lrjax never needs: it is imported by the functions that use it. Batches are handed over ready, so that
the loop's time has no sampling in it. Parameters come from lrjax, so that losses can be compared number by number.

Axes: B batch, T tokens, s steps.
"""

# PyTorch is optional.
# pyright: reportMissingImports=false

import functools
import importlib.util
import math

import jax
import numpy as np

from lrjax.benchmark.dense import Batch
from lrjax.config import Hyper, Static
from lrjax.models.clip import CLIP, MAX_LOG_SCALE
from lrjax.models.encoder import Encoder


def available() -> bool:
    """Whether torch is installed."""
    return importlib.util.find_spec("torch") is not None


@functools.cache
def default_threads() -> int:
    """torch's own choice, before anything here changes it."""
    import torch

    return torch.get_num_threads()


def device():
    """The GPU if torch has one, else the CPU with torch's own number of threads."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_encoder(static: Static, encoder_params: Encoder):
    """A torch module with the parameters of `encoder_params`."""
    from torch import nn

    d, e = static.d_model, static.d_embed

    def linear(kernel, bias, n_out):
        layer = nn.Linear(d, n_out, bias=bias is not None)
        _set(layer.weight, np.asarray(kernel).reshape(d, n_out).T)
        if bias is not None:
            _set(layer.bias, np.ravel(bias))
        return layer

    def block(b):
        parts = {"Q": (b.W_Q, b.b_Q), "K": (b.W_K, b.b_K), "V": (b.W_V, b.b_V), "O": (b.W_O, b.b_O)}
        return nn.ModuleDict({name: linear(*part, d) for name, part in parts.items()})

    tokens, positions = nn.Embedding(*encoder_params.E.shape), nn.Embedding(*encoder_params.P.shape)
    _set(tokens.weight, encoder_params.E)
    _set(positions.weight, encoder_params.P)
    blocks = nn.ModuleList(map(block, encoder_params.blocks))
    return nn.ModuleDict({"E": tokens, "P": positions, "blocks": blocks, "project": linear(encoder_params.W_proj, None, e)})


def make_model(static: Static, params: CLIP):
    """A torch module with the parameters of one model."""
    import torch
    from torch import nn

    model = nn.ModuleDict({"vision": make_encoder(static, params.vision), "text": make_encoder(static, params.text)})
    model.register_parameter("log_scale", nn.Parameter(torch.tensor(float(params.log_scale))))
    return model.to(device())


def to_torch(batches: Batch) -> tuple:
    """Batches as torch tensors on the device, same axes."""
    import torch

    return tuple(torch.tensor(np.asarray(x), dtype=torch.long, device=device()) for x in jax.tree.leaves(batches))


def attend(block, x, mask, n_heads: int):
    """What one block of attention adds to x [B, T, d]; keys where mask [T, T] is True are not seen."""
    Q, K, V = (block[name](x).unflatten(-1, (n_heads, -1)).transpose(1, 2) for name in "QKV")  # [B, h, T, k]
    scores = Q @ K.transpose(-1, -2) / math.sqrt(Q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(mask, -math.inf)
    return block["O"]((scores.softmax(-1) @ V).transpose(1, 2).flatten(-2))


def embed(static: Static, encoder_params, ids, readout, causal: bool):
    """Unit embeddings [B, e] of sequences ids [B, T], read out at tokens [B]."""
    import torch

    T = ids.shape[1]
    mask = torch.ones(T, T, dtype=torch.bool, device=ids.device).triu(1) if causal else None
    x = encoder_params["E"](ids) + encoder_params["P"].weight[:T]
    for block in encoder_params["blocks"]:
        x = x + attend(block, x, mask, static.n_heads)
    x = encoder_params["project"](x[torch.arange(len(ids), device=ids.device), readout])
    return torch.nn.functional.normalize(x, dim=-1)


def loss(static: Static, model, images, captions, readout):
    """CLIP's loss of one batch: images [B, L + 1], captions [B, 4], readout [B]."""
    import torch

    images = embed(static, model["vision"], images, torch.zeros_like(readout), causal=False)
    captions = embed(static, model["text"], captions, readout, causal=True)
    logits = model.log_scale.exp() * images @ captions.T
    labels = torch.arange(len(logits), device=logits.device)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


def make_optimiser(static: Static, hyper: Hyper, model):
    """torch's AdamW (its default implementation on the device) with lrjax's warm-up: (optimiser, schedule)."""
    import torch

    betas = tuple(float(beta) for beta in hyper.betas)
    settings = dict(lr=float(hyper.lr), betas=betas, eps=static.eps, weight_decay=float(hyper.weight_decay))
    optimiser = torch.optim.AdamW(model.parameters(), **settings)
    warmup = max(static.warmup_steps, 1)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda count: min(1.0, (count + 1) / warmup))


def train(static: Static, model, optimiser, schedule, batches: tuple, threads: int | None = None) -> float:
    """One step for each of the batches [s, ...]; the loss of the last (which waits for the device)."""
    import torch

    torch.set_num_threads(threads or default_threads())
    value = torch.tensor(math.nan)
    for batch in zip(*batches, strict=True):
        optimiser.zero_grad()
        value = loss(static, model, *batch)
        value.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.log_scale.clamp_(max=float(MAX_LOG_SCALE))
    return float(value.detach())


def _set(parameter, values) -> None:
    """Write values into a torch parameter."""
    import torch

    with torch.no_grad():
        parameter.copy_(torch.tensor(np.asarray(values)))
