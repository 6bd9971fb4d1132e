"""Functions of lrjax, each compiled whole.

Outside a program jax compiles every operation of every shape by itself, some 40 ms each; a test that calls a function of many
operations takes it from here.
"""

import jax

from lrjax.analysis import decompose, depth
from lrjax.models import attention, clip, decoder, encoder
from lrjax.training import retrieval, step

init_clip = jax.jit(clip.init_clip, static_argnums=0)
model_splits = jax.jit(clip.model_splits, static_argnums=0)
init_state = jax.jit(step.init_state, static_argnums=0)
init_encoder = jax.jit(encoder.init, static_argnums=1)
run_encoder = jax.jit(encoder.run, static_argnums=(3, 4), static_argnames="split")
attend = jax.jit(attention.attend)
caches = jax.jit(decompose.caches, static_argnums=(2, 3))
patched = jax.jit(depth.patched, static_argnums=(4, 5))
embed_images = jax.jit(clip.embed_images, static_argnums=(0, 4))
prefix = jax.jit(decoder.prefix, static_argnums=(0, 4))
read = jax.jit(decoder.read, static_argnums=(0, 5))
decode = jax.jit(decoder.decode, static_argnums=(0, 5))
log_likelihood = jax.jit(decoder.log_likelihood, static_argnums=0)
evaluate = jax.jit(retrieval.evaluate, static_argnums=(0, 5, 6))


def _batch(static, hyper, key, n):
    """A batch of n images of one model."""
    return static.task_object.batch(key, clip.model_splits(static, hyper), hyper, n)


draw_batch = jax.jit(_batch, static_argnums=(0, 3))
