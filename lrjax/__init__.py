"""lrjax: an open laboratory for left-right symmetry breaking in CLIP-style models, in JAX."""

__version__ = "0.1.0"
