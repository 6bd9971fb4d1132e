"""Two routes by which an image can say what stands left: attention by position, and position values weighed by label.

Take an image s of a pair of labels and the image s' in which the two objects have changed places, with embeddings y and y' before
the norm. With d = true caption - swapped caption of s, the margin of s is m = y . d / n and that of s' is m' = - y' . d / n (see
`analysis.values`). n is the geometric mean of the norms of y and y': no sign of a margin changes, and what is alike in y and y'
cancels in m + m'. Then

    both are decided rightly if and only if   (m + m') / 2  >  |m - m'| / 2 ,

the *binding* of labels to places above the *favour* that the captions enjoy whatever stands where. Only what differs between s and
s' can bind. What heads write is a sum over places t of pattern_t (label value + position value), and so the binding is the sum of

- the *attention route*: label values (VE), weighed by an attention that depends on where the label stands (EP + PP + BP);
- the *value route*: position values (VP), weighed by an attention that depends on which label stands there (EE + PE + BE);
- what is read of CLS, which changes with the attention alone, and is small. b_V cancels, since a pattern sums to 1.

Two consequences, for one block (tests/laws/test_routes.py). If scores know no position and values know no position, s and s' have
the same embedding: order is exactly 1/2. If scores know neither positions nor labels, likewise.

How the value route binds. If scores know no position, a head gives labels x and y attention a_x and a_y wherever they stand, and
its part of the binding is (a_x - a_y) / 2 times (V_i - V_j) W_O W_proj . d / n. So d must point, along the direction in which
position values differ, to the side that a_x - a_y says: the *text* must know which of two labels the image encoder attends to
more. It can learn that label by label, and hence for pairs that it has never seen. `agreement` measures it: the cosine, over
ordered pairs of held-out labels, of a_x - a_y and of d along that direction. 1: the text knows it in every pair; 0: it does not.
It tells how the route works, not whether it is right: a head whose part of the binding is above 0 has an agreement above 0.

Where order is near chance the mean margin is near 0, and the shares of the routes mean nothing: read `order` first.

Axes: s samples (an image and a relation word), p ordered pairs of held-out labels with a relation word, h heads, o origins of
values, t source positions.
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from lrjax.analysis.models import map_models
from lrjax.analysis.values import ROLES, contributions, decided, samples
from lrjax.config import Hyper, Static
from lrjax.data.splits import Splits
from lrjax.errors import InputError
from lrjax.gates import Gates
from lrjax.models import encoder as encoders
from lrjax.models.clip import CLIP, encoder_configs
from lrjax.models.interventions import Interventions
from lrjax.terms import VALUES
from lrjax.training.run import Run

CLS, LEFT, RIGHT = (ROLES["vision"].index(name) for name in ("CLS", "left object", "right object"))
LABEL_VALUES, POSITION_VALUES = VALUES.index("VE"), VALUES.index("VP")


def measure(static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
    """The routes of one model; see `routes` for what is returned."""
    _check(static)
    ids, d, role = samples("vision", static, params, gates)
    config = encoder_configs(static)["vision"]
    one = lambda ids, d: contributions(params.vision, gates.vision, ids, d, config, 0)
    fixed, heads, norm = jax.vmap(one)(ids, d)
    norm = _by_pair(static, norm)
    norm = jnp.sqrt(norm * norm[:, _exchanged(static)]).reshape(-1)
    heads = heads[:, 0] / norm[:, None, None, None]  # [s, h, o, t], of the one block
    margin = fixed.sum(1) / norm + heads.sum((1, 2, 3))
    of_pixels = jnp.where((role == CLS)[:, None, None], 0, heads).sum(3)  # [s, h, o]
    label_values, position_values = of_pixels[..., LABEL_VALUES], of_pixels[..., POSITION_VALUES]
    return {
        "binding": margin.mean(),
        "favour": _favour(static, margin),
        "order": decided(margin),
        "share_attention": label_values.sum(1).mean() / margin.mean(),
        "share_value": position_values.sum(1).mean() / margin.mean(),
        "order_attention": decided(label_values.sum(1)),
        "order_value": decided(position_values.sum(1)),
        "value_of_head": position_values.mean(0),
        "agreement": _agreement(static, params, gates, ids, d, role),
    }


def _check(static: Static) -> None:
    """Raise InputError unless heads alone write to CLS, and position values are the same in every image."""
    for name in ("n_layers_vision", "n_repeats", "layer_norm", "mlp_ratio"):
        if (value := getattr(static, name)) > (name.startswith("n_")):
            expected = "one block without LayerNorm and MLP, where position values are the same in every image"
            raise InputError(f"routes: {name}={value}: does not apply to this vision encoder; expected {expected}")


def _by_pair(static: Static, x: jax.Array) -> jax.Array:
    """[s, ...] -> [relation words, ordered pairs, layouts, ...], in the order of `Row.unseen`."""
    pairs = static.n_heldout * (static.n_heldout - 1)
    return x.reshape(static.n_relations, pairs, -1, *x.shape[1:])


def _exchanged(static: Static) -> np.ndarray:
    """For every ordered pair of held-out labels the number of the pair with its labels exchanged."""
    n = static.n_heldout
    number = lambda x, y: x * (n - 1) + y - (y > x)
    x, y = (labels[~np.eye(n, dtype=bool)] for labels in np.indices((n, n)))
    return number(y, x)


def _favour(static: Static, margin: jax.Array) -> jax.Array:
    """The root mean square of half the difference between the margins of an image and of the image with objects exchanged."""
    margin = _by_pair(static, margin)
    return jnp.sqrt(jnp.mean(((margin - margin[:, _exchanged(static)]) / 2) ** 2))


def _agreement(static: Static, params: CLIP, gates: Gates, ids: jax.Array, d: jax.Array, role: jax.Array) -> jax.Array:
    """By head the cosine of attention to x less that to y with the captions' difference along the position values; see above."""
    config = encoder_configs(static)["vision"]
    patterns, values = jax.vmap(lambda ids: _head_reads(params, gates, ids, config))(ids)
    at = lambda place: jnp.einsum("sht,st->sh", patterns, (role == place).astype(patterns.dtype))
    preference = _by_pair(static, at(LEFT) - at(RIGHT)).mean(2)  # x stands left
    preference = (preference - preference[:, _exchanged(static)]) / 2  # and right: what is due to places cancels
    left_less_right = jnp.einsum("hte,st->he", values[0], (role == LEFT) - 1.0 * (role == RIGHT))
    coordinate = _by_pair(static, d)[:, :, 0] @ left_less_right.T  # [relation word, pair, head]
    dot = lambda a, b: (a * b).sum((0, 1))
    return dot(preference, coordinate) / jnp.sqrt(dot(preference, preference) * dot(coordinate, coordinate))


def _head_reads(params: CLIP, gates: Gates, ids: jax.Array, config) -> tuple[jax.Array, jax.Array]:
    """CLS's pattern [h, t] in one image, and what each head would write of each place's position value, as embedded [h, t, e]."""
    cache = encoders.run(params.vision, Interventions(gates.vision), ids, config, 0).caches[0]
    (block,) = encoders.passes(params.vision, config)
    written = jnp.einsum("thk,hkd->htd", cache.values[POSITION_VALUES], block.W_O)
    return cache.pattern[:, 0], written if params.vision.W_proj is None else written @ params.vision.W_proj


def routes(run: Run, n_labels=None) -> xr.Dataset:
    """By which route each model's images say what stands left, on all unseen pairs.

    Args:
      run: trained models whose vision encoder is one block without LayerNorm and MLP, of task "row".
      n_labels: only models with these numbers of labels.

    Returns:
      By model, in cosines (up to the norm n): `binding`, the mean margin; `favour`, the root mean square of what a caption is
      favoured by whatever stands where; `order`. `share_attention` and `share_value`: the shares of the two routes in the mean
      margin; what is read of CLS has the rest. `order_attention` and `order_value`: order if one route decided alone.
      By model and head: `value_of_head`, the head's part of the value route, and `agreement` (see the module's docstring).

    Raises:
      InputError: the models have another task, or a vision encoder of more than one block, with LayerNorm or with an MLP.
    """
    names = ("binding", "favour", "order", "share_attention", "share_value", "order_attention", "order_value")
    dims: dict[str, tuple[str, ...]] = {name: () for name in names}
    dims |= {name: ("head",) for name in ("value_of_head", "agreement")}
    return map_models(run, measure, dims, lambda static: {"head": range(static.n_heads)}, n_labels)


def of_strongest(found: xr.Dataset) -> xr.Dataset:
    """`routes` with the agreement of the head that has the largest part of the value route, in place of all heads."""
    head = found["value_of_head"].argmax("head")
    agreement = found["agreement"].isel(head=head).drop_vars("head")
    return found.drop_vars(("value_of_head", "agreement", "head")).assign(agreement=agreement)
