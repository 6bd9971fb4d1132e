"""lrjax: an open laboratory for left-right symmetry breaking in CLIP-style models, in JAX.

run = lrjax.load("runs/diversity")                  # or lrjax.train(lrjax.get_config(n_labels=(5, 15)), "runs/mine")
run.models, run.history                             # DataFrames
run.where(n_labels=15).ablate(["EP", "EP+PP+BP"])   # a result: .summary(), .plot(), .to_dataframe(), .to_xarray()
run.analyze("gradient")                             # lrjax.analyses() lists them
model = run.model(n_labels=15, seed=0)
out, cache = model.run_with_cache("h1 . . h2 . . . . . .")
model.rank("h1 . . h2 . . . . . .")
"""

from typing import TYPE_CHECKING

from lrjax import xla

if TYPE_CHECKING:
    from lrjax.ablations import Ablation
    from lrjax.analysis.registry import analyses
    from lrjax.api import Run, load, train
    from lrjax.config import get_config
    from lrjax.data.scenes import CLS
    from lrjax.errors import InputError
    from lrjax.model import Model

__version__ = "1.0.0rc1"
REPO_URL = "https://github.com/lrjax/lrjax"  # the one place that says where the repository is; notebooks and pages read it here

# The names of the way in and the modules that have them: imported when first asked for, so that a command starts fast.
_WAY_IN = {
    "load": "api",
    "train": "api",
    "Run": "api",
    "Model": "model",
    "Ablation": "ablations",
    "analyses": "analysis.registry",
    "get_config": "config",
    "CLS": "data.scenes",
    "InputError": "errors",
    "export": "pretrained.export",
}
_MODULES = ("pretrained",)  # modules that are read as attributes, imported when first asked for too
__all__ = ["CLS", "REPO_URL", "Ablation", "InputError", "Model", "Run", "__version__", "analyses", "get_config", "load", "train"]

xla.import_jax()
xla.turn_off_ynn()


def __getattr__(name: str):
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"lrjax.{name}")
    if name not in _WAY_IN:
        raise AttributeError(f"module 'lrjax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lrjax.{_WAY_IN[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
