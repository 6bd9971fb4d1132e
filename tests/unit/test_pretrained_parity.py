"""Pretrained models compute what their peers compute: transformers' classes, and OpenCLIP's.

What the peers computed of tiny models is committed (`tests/expected`), so that parity is held without torch. Where torch and
transformers are installed, the peers themselves are asked too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pretrained_by_hand as by_hand

pytest.importorskip("safetensors", reason="the extra `pretrained` is not installed")
pytest.importorskip("tokenizers", reason="the extra `pretrained` is not installed")

from lrjax import pretrained
from lrjax.pretrained import transformer
from lrjax.pretrained.model import run_one

KINDS = list(by_hand.CONFIGS)
# float32 has seven digits; two orders of the same sums differ by a few of the last ones. Logits are 20 times larger.
TOLERANCE = dict(atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module", params=KINDS)
def model_and_peer(request, tmp_path_factory):
    """A model read from a folder, and what its peer computed with the same weights."""
    expected = by_hand.read_expected(request.param)
    folder = by_hand.write_folder(tmp_path_factory.mktemp("weights") / request.param, request.param, expected["shapes"])
    return request.param, folder, pretrained.load(folder), expected


@pytest.mark.slow
def test_a_model_computes_what_its_peer_computed(model_and_peer):
    kind, _, model, expected = model_and_peer
    found = by_hand.computed_here(model)
    for name in (name for name in expected if name != "shapes"):
        np.testing.assert_allclose(found[name], expected[name], **TOLERANCE, err_msg=f"{kind} {name}")


@pytest.mark.slow
def test_a_stream_by_origin_computes_what_the_merged_one_does(model_and_peer):
    _, _, model, _ = model_and_peer
    pixels, _ = by_hand.inputs(text=False)
    config, params = model.config.vision, model.params.vision
    one = lambda p, gates: run_one(config, params, gates, False, p, 0).embedding
    merged = jax.jit(jax.vmap(lambda p: one(p, None)))(jnp.asarray(pixels))
    split = jax.jit(jax.vmap(lambda p: one(p, transformer.unit_gates(config))))(jnp.asarray(pixels))
    np.testing.assert_allclose(split, merged, **TOLERANCE)


def test_the_peer_of_today_computes_what_is_committed(model_and_peer):
    kind, folder, _, expected = model_and_peer
    pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[peers]'")
    pytest.importorskip("open_clip" if kind == "open_clip" else "transformers", reason="the extra `peers` is not installed")
    assert by_hand.shapes_of_peer(kind) == expected["shapes"]
    for name, array in by_hand.computed_by_peer(kind, folder).items():
        np.testing.assert_allclose(array, expected[name], **TOLERANCE, err_msg=f"{kind} {name}")
