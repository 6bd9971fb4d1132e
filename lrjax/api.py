"""The way in from Python: load or train a sweep, filter it, take terms away, analyse, look into one model.

    import lrjax

    run = lrjax.load("runs/diversity")
    run.where(n_labels=15).ablate(["EP", "EP+PP+BP"])
    run.model(n_labels=15, seed=0).rank("h1 . . h2 . . . . . .")

Errors name arguments of these functions. Everything here is thin: the functions of `lrjax.analysis` do the work, and take
`Run.trained`.
"""

import contextlib
import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import pandas as pd
import xarray as xr
from flax import struct

from lrjax import arguments, devices, paths, program_cache, runner, surroundings
from lrjax.ablations import Ablation
from lrjax.analysis import registry
from lrjax.analysis.ablate import TERMS_BY, TESTED, ablate
from lrjax.analysis.gradient import columns
from lrjax.analysis.models import map_models
from lrjax.analysis.result import Result
from lrjax.analysis.selection import by_shape, having, healthy, merged
from lrjax.config import FIELDS, Hyper, Static, Sweep, get_config, make_sweep
from lrjax.data.splits import Splits
from lrjax.dimensions import inferred, shapes_of
from lrjax.errors import InputError, in_python
from lrjax.gates import NONE, Gates
from lrjax.metrics import SHOWN
from lrjax.model import Model
from lrjax.models.clip import CLIP, as_read, model_splits
from lrjax.plotting import ablation as ablation_figures
from lrjax.plotting import training as training_figures
from lrjax.storage import step_folders, workdir
from lrjax.training.run import Run as Trained
from lrjax.training.run import history_table, model_columns, models_table

Config = Mapping[str, Any] | ml_collections.ConfigDict | Sweep | str | Path


def load(path: str | Path) -> "Run":
    """A trained sweep.

    Args:
      path: the folder of `make sweep` or of `train`, its checkpoints, or one of them.

    Raises:
      InputError: there is no such folder, or no checkpoint in it can be used.
    """
    _start()
    with in_python():
        return Run(workdir.restore(path), paths.as_path(path))


def train(config: Config, folder: str | Path, resume: bool = True, overwrite: bool = False, quiet: bool = False) -> "Run":
    """Train a sweep in a folder to its end, with progress and checkpoints, as `python -m experiments.sweep` does.

    Args:
      config: what `lrjax.get_config(n_labels=(5, 15), seeds=4)` returns, a dict of its fields, a config file's path, or a Sweep.
      folder: where checkpoints and tables go. A finished sweep there is loaded, an unfinished one is continued.
      resume: whether an unfinished sweep of this config may be continued.
      overwrite: replace the sweep that the folder holds.
      quiet: show neither the plan nor progress.

    Returns:
      The run. It is unfinished if a signal (such as Ctrl-C) stopped it; the same call continues it.

    Raises:
      InputError: a field of the config is wrong, or the folder holds another sweep.
      SaveError: a save failed.
    """
    _start()
    with in_python(), surroundings.pinned():
        folder, wanted = paths.as_path(folder), sweep_of(config)
        run = workdir.open_run(folder, wanted, resume=resume and not overwrite, overwrite=overwrite)
        if not run.finished and runner.train(run, folder, (columns,), quiet):
            print(f"stopped at step {run.step}; the same call continues it")
    return load(folder)


def sweep_of(config: Config) -> Sweep:
    """The sweep that a config, a dict of its fields, or a config file says."""
    if isinstance(config, str | Path):
        path = paths.as_path(config)
        if not path.is_file():
            raise InputError(f"config={str(config)!r}: no such file; give a config file, or lrjax.get_config(...)")
        of_file = runpy.run_path(str(path))
        if "get_config" not in of_file:
            raise InputError(f"config={str(config)!r}: has no get_config(); give a config such as experiments/configs/smoke.py")
        config = of_file["get_config"]()
    elif not isinstance(config, Mapping | ml_collections.ConfigDict | Sweep):
        raise InputError(f"config={config!r}: is no config; give lrjax.get_config(...), a dict of its fields, or a config file")
    if isinstance(config, Sweep):
        return config
    fields: Any = get_config(**config) if isinstance(config, dict) else config
    return make_sweep(fields)


def _start() -> None:
    """Ready jax, once: every CPU core is a device, compiled programs are kept."""
    with contextlib.suppress(RuntimeError):  # jax has started already
        devices.use_all_cores()
    program_cache.use_compilation_cache()
    surroundings.start()


@struct.dataclass
class View:
    """What a question of `Run.map` sees of one model: parameters (E as the encoders read it), gates, splits, and its fields."""

    params: CLIP
    gates: Gates
    splits: Splits
    hyper: Hyper
    static: Static = struct.field(pytree_node=False)


MetricFn = Callable[[View], Mapping[str, jax.Array]]


class Run:
    """A trained sweep, or a part of it.

    Attributes:
      trained: the run as lrjax's own functions take it.
      folder: where it was loaded from.
      chosen: the fields by which `where` chose it from the whole.
    """

    def __init__(self, trained: Trained, folder: Path | None = None, chosen: Mapping[str, Any] | None = None):
        self.trained, self.folder, self.chosen = trained, folder, dict(chosen or {})

    @property
    def models(self) -> pd.DataFrame:
        """One row a model: the axes of the sweep, where it diverged, and its accuracies (means of the last three evaluations)."""
        return pd.DataFrame({name: _plain(column) for name, column in models_table(self.trained).items()}).set_index("model")

    @property
    def history(self) -> pd.DataFrame:
        """One row an evaluation and model: step, the axes of the sweep, loss and accuracies."""
        return pd.DataFrame(history_table(self.trained))

    @property
    def step(self) -> int:
        """The training step that was loaded."""
        return self.trained.step

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints that the folder holds, which `at` loads. Train with keep_checkpoints=0 to keep all."""
        return list(self._checkpoints)

    @property
    def _checkpoints(self) -> dict[int, Path]:
        """The checkpoints of evaluations that the folder holds, by step."""
        found = [] if self.folder is None else workdir.evaluations(self.folder)
        return {step_folders.step_of(path): path for path in found}

    def at(self, step: int) -> "Run":
        """The same models at an earlier step of their training.

        Args:
          step: one of `steps`. Where models train for different numbers of steps, it is that of the longest training. Of an earlier
            step `history` has the accuracies; `models` has those of trained models alone.

        Raises:
          InputError: the folder holds no checkpoint of this step.
        """
        found, step = self._checkpoints, arguments.number("step", step, "one of `steps`", least=0)
        if step not in found:
            held = ", ".join(map(str, found)) or "none"
            raise InputError(f"step={step!r}: no checkpoint of this step is in {self.folder}; expected one of {held}")
        with in_python():
            return Run(workdir.restore(found[step]), self.folder).where(**self.chosen)

    def where(self, **fields) -> "Run":
        """The part of the run whose models have these fields.

        Args:
          **fields: fields of a model, such as n_labels=15, seed=(0, 1), gates="EP=0"; several values mean any of them.
            docs/reference/config.md lists all fields.

        Raises:
          InputError: there is no such field, or no such model.
        """
        run = self.trained
        for name, value in fields.items():
            run = having(run, name, value)
        return Run(run, self.folder, self.chosen | fields)

    def ablate(
        self,
        terms: str | Ablation | Sequence[str | Ablation],
        encoder: str = "vision",
        heads: Sequence[int] | None = None,
        sets: Sequence[str] = TESTED,
        frozen: bool = False,
    ) -> Result:
        """Evaluate all models with attention terms taken away at inference, beside the same models untouched.

        Args:
          terms: such as "EP", ["EP", "EP+PP+BP"], "EP=0.5", "mean EE" (`lrjax.analysis.ablate` has them all); or records, such
            as lrjax.Ablation(("EP",), scale=0.5, heads=(0,)).
          encoder: "vision" or "text".
          heads: numbers of the heads that lose them; all if not given.
          sets: sets of images to evaluate; "unseen_pair" must be among them.
          frozen: use the LayerNorm scales of the forward pass without the ablation.

        Returns:
          A result with a column `ablation` ("none" for untouched), columns of what it is (`terms`, `scale`, `control`, `encoder`,
          `layer`, `head`, `heads`), and one a metric.

        Raises:
          InputError: there is no such term, encoder, head or set.
        """
        with in_python():
            asked = (NONE, *arguments.ablations(terms))
            options: dict[str, Any] = dict(
                heads=arguments.heads(heads), sets=arguments.sets(sets), frozen=arguments.flag("frozen", frozen)
            )
            options["encoder"] = arguments.encoder(encoder)
            table = merged([ablate(part, asked, **options) for part in by_shape(self._healthy(), *TERMS_BY)])
        title = f"Terms taken away at inference: {encoder} encoder, step {self.step}"
        draw = lambda found: ablation_figures.ablation(found.table, title, SHOWN)
        return Result("ablate", table, tuple(SHOWN), ("ablation",), draw, baseline=("ablation", NONE))

    def analyze(self, name: str, /, **options) -> Result:
        """Ask one analysis of all models that have not diverged; `lrjax.analyses()` lists them.

        Args:
          name: such as "gradient".
          **options: of that analysis, such as encoder="text".

        Raises:
          InputError: there is no such analysis or option, or it does not apply to these models.
        """
        with in_python():
            return registry.analyze(self._healthy(), name, **options)

    def model(self, **fields) -> Model:
        """The one model that has these fields, such as n_labels=15, seed=0.

        Raises:
          InputError: no model has them, or several do; then the message says by which fields these differ.
        """
        run = self.where(**fields).trained
        if len(run.sweep.models) != 1:
            differ = [name for name in FIELDS if len({getattr(m, name) for m in run.sweep.models}) > 1]
            values = {name: sorted({getattr(m, name) for m in run.sweep.models})[:8] for name in differ}
            more = "; ".join(f"{name}: {', '.join(map(str, found))}" for name, found in values.items())
            raise InputError(f"model({_as_text(fields)}): {len(run.sweep.models)} models have these fields; give more of {more}")
        (program,), (state,), (at,) = run.programs, run.states, run.at
        assert state is not None  # of a run that was loaded
        hyper, params = jax.tree.map(lambda x: x[0], (program.hyper, state.params))
        with surroundings.pinned():
            splits = jax.jit(model_splits, static_argnums=0)(program.static, hyper)
            read, gates = as_read(hyper, params), hyper.gates.at(at)
        return Model(run.sweep.models[0], program.static, hyper, read, splits, gates, at)

    def map(
        self, metric_fn: Callable[[View], Mapping[str, jax.Array]], dims: Mapping[str, Sequence[str]] | None = None
    ) -> xr.Dataset:
        """Any question to every model, as one program.

        Args:
          metric_fn: a pure function of one model, such as lambda m: {"norm": jnp.linalg.norm(m.params.vision.E[lrjax.CLS])}.
          dims: names of the dimensions of its arrays, such as {"norm": ()}. Those that are not given are inferred from sizes where
            only one kind of dimension has this size (head, token, position, ...), and are numbered otherwise.

        Returns:
          Its arrays, `model` first, with the axes of the sweep as coordinates.
        """

        def question(static, hyper, splits, params, gates) -> dict[str, jax.Array]:
            return arguments.measured(metric_fn(View(params, gates, splits, hyper, static)))

        arguments.metric_fn(metric_fn)
        run = self._healthy()
        shapes = {p.static: shapes_of(question, p, s) for p, s in zip(run.programs, run.states, strict=True)}
        first = run.programs[0].static
        found = arguments.dims(dims, shapes[first], ("model", *FIELDS, *shapes[first]))
        for name, shape in shapes[first].items():
            found.setdefault(name, inferred(name, shape, first))

        def coords(static: Static) -> dict[str, range]:  # so that models of other shapes have NaN where they have nothing
            sizes = {dim: size for name, shape in shapes[static].items() for dim, size in zip(found[name], shape, strict=True)}
            return {dim: range(size) for dim, size in sizes.items()}

        with in_python():
            return map_models(run, question, found, coords)

    def plot(self):
        """Fig 3 of the paper: accuracies against the number of labels; for an unfinished run `plot_history` is there."""
        if not self.trained.finished:
            raise InputError(
                f"plot: step {self.step} of {self.trained.sweep.longest}: is not the last; train it to its end, or plot_history"
            )
        return training_figures.fig3(models_table(self.trained))

    def plot_history(self):
        """The three generalisations during training, a panel a number of labels (App C of the paper)."""
        return training_figures.phases(history_table(self.trained))

    def _healthy(self) -> Trained:
        with in_python():
            return healthy(self.trained)

    def __len__(self) -> int:
        return len(self.trained.sweep.models)

    def __repr__(self) -> str:
        sweep, run = self.trained.sweep, self.trained
        axes = {name: column for name, column in model_columns(sweep).items() if name != "model" and len(set(column.tolist())) > 1}
        varied = ", ".join(f"{name} {_values(column)}" for name, column in axes.items()) or "no axis varies"
        varied += f"; where {_as_text(self.chosen)}" if self.chosen else ""
        where_it_is = "an earlier step" if self.steps[-1:] > [run.step] else "unfinished"
        state = f"step {run.step}" + ("" if run.finished else f" of {sweep.longest} ({where_it_is})")
        where = "" if self.folder is None else f"\n  in {self.folder}"
        return f"lrjax.Run: {len(self)} model{'s' if len(self) > 1 else ''}, {state}\n  {varied}{where}"


def _plain(column: np.ndarray) -> np.ndarray:
    """A column as pandas takes it: NaN where it is masked."""
    return np.ma.filled(column.astype(float), np.nan) if isinstance(column, np.ma.MaskedArray) else column


def _values(column: np.ndarray) -> str:
    values = sorted(set(column.tolist()), key=lambda v: (str(type(v)), v))
    return ", ".join(map(str, values)) if len(values) < 7 else f"{values[0]}..{values[-1]} ({len(values)})"


def _as_text(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())
