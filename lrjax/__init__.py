"""lrjax: an open laboratory for left-right symmetry breaking in CLIP-style models, in JAX."""

from lrjax import xla

__version__ = "0.1.0"
REPO_URL = "https://github.com/lrjax/lrjax"  # the one place that says where the repository is; notebooks and pages read it here

xla.import_jax()
xla.turn_off_ynn()
