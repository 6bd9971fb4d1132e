"""What the report rests on: sweeps, and the answers that analyses give of them, each a CSV that is made once.

A study is a folder with a workdir per sweep; an answer is `<sweep>/study/<name>.csv`, with its record (`results`). An answer that
was computed from the sweep's checkpoint by the code that is here is not made again; any other is never read. The tables alone can
be archived elsewhere, so that a page can be made again where the sweeps are not. Where the folder has a sweep of a part, which may
be another one than the archive's, the archive is not read.
"""

import contextlib
import dataclasses
import importlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.configs.printed_tasks import VARIANTS
from experiments.studies.answers import ANSWERS, OVER_TIME
from experiments.studies.measures import over_time
from lrjax import cli, runner, stats
from lrjax.analysis import gradient
from lrjax.analysis.factors import explained
from lrjax.analysis.selection import healthy
from lrjax.config import Sweep, make_sweep
from lrjax.errors import InputError
from lrjax.gates import in_steps
from lrjax.stats import Table
from lrjax.storage import files, results, workdir


@dataclasses.dataclass(frozen=True)
class Part:
    """One sweep of a study: its config, the most seeds that it takes, and the answers asked of it.

    A config is `file`, a name in experiments/configs, or `file:argument of get_config`. A part that is `left_out` takes days on
    a CPU. It is made only if --only names it.
    """

    config: str
    answers: tuple[str, ...] = ()
    most_seeds: int = 100_000
    left_out: bool = False

    @property
    def command(self) -> str:
        """The command that trains the sweep alone."""
        file, colon, argument = self.config.partition(":")
        return f"make sweep CONFIG=experiments/configs/{file}.py{colon}{argument}"


WHOLE = (
    "ablate",
    "single_head_ablations",
    "controls",
    "doses",
    "text_ablate",
    "gauge",
    "law",
    "monotone",
    "shares",
    "gradient",
    "strongest",
)
WHOLE += ("heads", "pruning", "text", "swap", "align", "values")
PARTS: dict[str, Part] = {
    "default": Part("diversity", WHOLE),
    "paper_like": Part("paper_like", WHOLE),
    "weight_decay": Part("weight_decay", ("strongest",)),
    "ratio": Part("scale_ratio", ("ratio", "gradient", "strongest")),
    "layouts": Part("layouts", (), 8),
    "phases": Part("phases"),
    "align": Part("align", ("align",), 4),
}

# Other encoders: each sweep holds its own baseline.
ENCODERS: dict[str, Part] = {
    "training_ablation": Part("training_ablation", ("strongest", "variant"), 8),
    "heads": Part("heads", ("strongest", "heads", "pruning_of_four"), 8),
    "pruned": Part("pruned", ("strongest",), 8),
    "left_right": Part("left_right", ("text", "text_single_head_ablations", "text_paths"), 8),
    "depth": Part("depth", ("layers", "layers_alone", "layer_terms", "by_layer", "single_head_ablations", "paths"), 8),
    "norm_mlp": Part("norm_mlp", ("strongest", "variant", "variant_frozen"), 8),
    "norm_depth": Part("norm_depth", ("by_layer", "by_layer_frozen"), 8),
    "positions": Part("positions", ("strongest", "variant", "text_variant", "text_layers", "rows"), 8),
    "width": Part("width", (), 8),
}

# Other tasks and losses.
GRIDS = ("directions", "grid_heads", "grid_maps", "grid_ablate")
ALONG_ROW = ("strongest", "task_ablate")
TASKS: dict[str, Part] = {
    name: Part(name, ("late_gain", *answers), 8)
    for name, answers in {
        "grid": GRIDS,
        "grid_words": GRIDS,
        "grid_objects": GRIDS,
        "grid_layouts": GRIDS,
        "three": ("strongest", "chain_ablate"),
        "three_hard": ("strongest", "chain_ablate"),
        "supervision": ("monotone", *ALONG_ROW),
        "supervision_alone": ("monotone", *ALONG_ROW),
        "autoregressive": ("reading", "attends_to", "reader_ablate"),
        "autoregressive_wide": ("reader_ablate",),
        "losses": ALONG_ROW,
        "caption_noise": ALONG_ROW,
        "nearer": ALONG_ROW,
        "zipf": ALONG_ROW,
        "distractors": ALONG_ROW,
    }.items()
}

# Tasks, encoders and losses under the recipe that the paper prints; CLIP's small initial values, and large ones.
CHAINS, DECODES = ("curves", "chain_routes"), ("curves", "reader_routes")
ASKED = {"three": CHAINS, "reader": DECODES, "reader_raw": DECODES}
ASKED |= {name: ("curves", "routes", "directions") for name in ("grid", "grid_words", "patches")}
ASKED |= {name: ("curves", "routes", "strongest", "heads", "relational") for name in ("row", "siglip", "left_right")}
PRINTED_TASKS: dict[str, Part] = {
    name: Part(f"printed_tasks:{name}", ASKED.get(variant, ("curves", "routes")), 8)
    for variant in VARIANTS
    for name in (variant, f"{variant}_large")
}

# The paper as printed.
PRINTED = ("curves", "ablate", "routes", "gauge", "law", "gauge_ratio", "query_law", "monotone", "shares", "strongest")
PRINTED += ("heads", "pruning", "text", "align", "relational", "std_shares", "binding", "routes_over_time", "binding_over_time")
BETWEEN = ("curves", "ablate", "routes", "strongest", "law", "gauge_ratio")
OF_FULL_MODEL = ("curves", "first_block")
PAPER: dict[str, Part] = {
    "paper_mechanism": Part("paper_mechanism:5,15", PRINTED, 16),
    "paper_mechanism_10": Part("paper_mechanism:10", BETWEEN, 8),
    "paper_mechanism_20": Part("paper_mechanism:20", (*BETWEEN, "align"), 8),
    "initial_values": Part("initial_values", ("curves", "routes", "strongest", "query_law", "binding"), 4),
    "forgetting": Part("forgetting", ("curves",), 4),
    "forgetting_scales": Part("forgetting_scales", ("curves",), 4),
    "confounds": Part("confounds", ("curves",), 8),
    "confounds_images": Part("confounds_images", ("curves",), 8),
    "multiplier": Part("multiplier", ("curves", "ratio", "gauge", "law_decayed", "gauge_ratio", "query_law", "strongest"), 4),
    "paper": Part("paper:5,15", OF_FULL_MODEL, 4, left_out=True),
    "paper_10": Part("paper:10", OF_FULL_MODEL, 4, left_out=True),
    "paper_20": Part("paper:20", OF_FULL_MODEL, 4, left_out=True),
    "paper_layouts": Part("paper_layouts:8000", ("curves",), 4, left_out=True),
}


@dataclasses.dataclass(frozen=True)
class Study:
    """A folder of trained sweeps and their answers. `kept`: an archive, a folder with the tables (models.csv and answers, not
    histories) of sweeps that may not be in it any more.
    """

    folder: Path
    parts: Mapping[str, Part] = dataclasses.field(default_factory=lambda: PARTS)
    kept: Path | None = None

    def kept_in(self, part: str = "") -> Path:
        """The folder of the archive, or that of one sweep in it. Raises ValueError if this study has no archive."""
        if self.kept is None:
            raise ValueError("this study has no archive")
        return self.kept / part

    def path(self, part: str) -> Path:
        """The workdir of a sweep."""
        return self.folder / part

    def has(self, part: str) -> bool:
        """Whether a sweep's tables are there: it is trained, with all its answers, or archived."""
        return self._whole(part) or self.archived(part)

    def archived(self, part: str) -> bool:
        """Whether a sweep's tables are read from the archive: it has them, and the folder has no sweep of this part."""
        return self._is_kept(part) and not (self.path(part) / "config.json").is_file() and not self._whole(part)

    def archive_notes(self) -> Iterator[str]:
        """A line for each part of which the archive is read, or is not read because of a sweep that is not whole."""
        for part in filter(self._is_kept, self.parts):
            if self.archived(part):
                yield f"{part}: its tables are the archived ones of {self.kept_in(part)}"
            elif not self._whole(part):
                there = f"{self.path(part)} holds a sweep without all its answers"
                yield f"{part}: {there}; the archive {self.kept_in(part)} is not read"

    def tables(self, part: str) -> Path:
        """The folder of a sweep's tables: its workdir, or the archive's."""
        return self.kept_in(part) if self.archived(part) else self.path(part)

    def models(self, part: str) -> Table:
        """models.csv of a sweep that is trained. Raises InputError if it is not, or not to its end."""
        return _models(self.tables(part))

    def history(self, part: str) -> Table:
        """history.csv of a sweep that is trained."""
        _models(self.path(part))
        return _read(self.path(part) / "history.csv")

    def answer(self, part: str, name: str) -> Table:
        """An answer that was made. Raises InputError if it is not there, or was computed from anything else than what is there."""
        if self.archived(part):
            return _read(self._in_archive(part, name))
        return results.read(*self._result(part, name))

    def layouts(self) -> Table:
        """Models over N x n2: the layouts sweep, and the default's of the same seeds for its n2."""
        ends, middle = self.models("layouts"), self.models("default")
        middle = stats.select(middle, np.isin(middle["seed"], np.unique(ends["seed"])))
        return {name: np.concatenate([ends[name], middle[name]]) for name in ends if name in middle}

    def grid(self) -> Table:
        """`factors.explained` of top-1 over N x n2."""
        table = self.layouts()
        shares = explained(table, "unseen_pair")
        return shares | {"models": np.full(len(shares["factor"]), len(table["seed"]))}

    def train(self, part: str, sweep: Sweep) -> None:
        """Train a sweep to its end, if it is not there."""
        run = runner.open_in(self.path(part), sweep)
        if run.finished:
            return workdir.write_tables(self.path(part), run)  # which a process that was killed may not have written
        print(f"\n{part}", flush=True)
        with self.clock(f"{part}: training"):
            cli.train(run, self.path(part), (gradient.columns,), resume="")

    def make(self, part: str, names: Sequence[str]) -> list[str]:
        """Make the answers that are not there, or were computed from anything else than what is there; returns their names."""
        missing = [name for name in names if not results.holds(*self._result(part, name))]
        if not missing:
            return missing
        run, checkpoint = workdir.restore_identified(self.path(part))
        run = healthy(run)
        for name in missing:
            path, record = self._result(part, name, checkpoint)
            with self.clock(f"{part}: {name}"):
                answer = ANSWERS[name]
                results.write(path, over_time(self.path(part), answer) if name in OVER_TIME else answer(run), record)
        return missing

    def keep(self) -> None:
        """Copy the tables of every sweep that is whole in the folder to the archive `kept`, and the times. Beside a sweep's tables
        made_from.json says of which checkpoint they are.
        """
        times = self.times()
        for part in (part for part in self.parts if self._whole(part)):
            (made_from := self.kept_in(part) / "made_from.json").unlink(missing_ok=True)  # the tables change first
            stats.write_csv(self.kept_in(part) / "models.csv", _models(self.path(part)))
            for name in self.parts[part].answers:
                stats.write_csv(self._in_archive(part, name), results.read(*self._result(part, name)))
            files.write_atomically(made_from, json.dumps({"checkpoint": workdir.identity(self.path(part))}) + "\n")
        if times:
            stats.write_csv(self.kept_in() / "times.csv", times)

    @contextlib.contextmanager
    def clock(self, what: str):
        """Add the time that a block takes to the table of times, times.csv."""
        began = time.monotonic()
        try:
            yield
        finally:
            table = _times(self.folder)
            table[what] = round(table.get(what, 0.0) + time.monotonic() - began, 1)
            print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)
            stats.write_csv(self.folder / "times.csv", _columns(table))

    def times(self) -> Table | None:
        """What took how long: columns what, seconds; of each sweep where its tables are. None if nothing was timed."""
        kept = _times(self.kept) if self.kept else {}
        elsewhere = [part for part in self.parts if self.archived(part)]
        of_kept = {what: seconds for what, seconds in kept.items() if what.split(":")[0] in elsewhere}
        table = of_kept | {what: s for what, s in _times(self.folder).items() if what.split(":")[0] not in elsewhere}
        return _columns(table) if table else None

    def _is_kept(self, part: str) -> bool:
        """Whether the archive has a sweep's tables."""
        there = self.kept is not None and _trained(self.kept / part)
        return there and all(self._in_archive(part, name).is_file() for name in self.parts[part].answers)

    def _whole(self, part: str) -> bool:
        """Whether a sweep is trained here and has all its answers."""
        try:
            return _trained(self.path(part)) and all(results.holds(*self._result(part, name)) for name in self.parts[part].answers)
        except InputError:  # no checkpoint can be used
            return False

    def _result(self, part: str, name: str, checkpoint: str | None = None) -> tuple[Path, results.Record]:
        """Where an answer of a sweep is, and what it is to be computed from: `checkpoint`, or the one that is there."""
        checkpoint = checkpoint or workdir.identity(self.path(part))
        record = results.Record(checkpoint, f"study: {name}", results.as_argument(ANSWERS[name]), results.code_of(ANSWERS[name]))
        return self.path(part) / "study" / f"{name}.csv", record

    def _in_archive(self, part: str, name: str) -> Path:
        return self.kept_in(part) / "analysis" / f"{name}.csv"


def _trained(path: Path) -> bool:
    table = path / "models.csv"
    return table.is_file() and b"unseen_pair" in table.read_bytes().partition(b"\n")[0].split(b",")


def _models(path: Path) -> Table:
    table = _read(path / "models.csv")
    if "unseen_pair" not in table:
        raise InputError(f"{path / 'models.csv'}: its sweep is not trained to its end; go on with the command that began it")
    return table


def _times(folder: Path) -> dict[str, float]:
    path = folder / "times.csv"
    table = stats.read_csv(path) if path.is_file() else {"what": np.array([], str), "seconds": np.array([], float)}
    return dict(zip(table["what"].tolist(), table["seconds"].tolist(), strict=True))


def _columns(times: dict[str, float]) -> Table:
    return {"what": np.array(list(times)), "seconds": np.array(list(times.values()), float)}


def _read(path: Path) -> Table:
    if not path.is_file():
        raise InputError(
            f"{path}: is not there; run the study that makes it first, such as `make reproduce` or `make printed-tasks`"
        )
    return stats.read_csv(path)


def config_of(part: Part) -> ConfigDict:
    """The config of a part of a study."""
    name, *argument = part.config.split(":")
    return importlib.import_module(f"experiments.configs.{name}").get_config(*argument)


def sweep_of(config, seeds: int, most_seeds: int, quick: bool, epochs: int = 0) -> Sweep:
    """The sweep of a config with so many seeds; `quick`: 2 seeds, few steps, to see that all works (its numbers mean nothing);
    `epochs`: how many, if not 0, where the length is a number of epochs.
    """
    changes: dict[str, Any] = {"seeds": min(seeds, most_seeds)}
    if config["epochs"] and epochs:
        changes["epochs"] = epochs
    if quick:
        small = {"d_model": 32, "d_embed": 32} | ({"batch_size": 64} if config["data"] == "resampled" else {})
        changes = {"seeds": 2, "steps": 60, "eval_every": 20}
        if config["epochs"]:
            changes = {"seeds": 2, "epochs": 2, "evaluations": 3}
        else:
            changes["gates"] = tuple(in_steps(text, changes["steps"] / config["steps"]) for text in config["gates"])
        changes |= {name: value for name, value in small.items() if not isinstance(config[name], tuple)}
    return make_sweep(dict(config) | changes)
