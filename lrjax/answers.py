"""What every analysis command shares: which sweep it asks, and where its answer goes.

    answers.define_flags()                                  # --ckpt --labels --where --out --format --encoder
    ...
    run = answers.restore()
    answers.write_table("shares", table)
    answers.draw("shares", figures.shares, answer)

An answer is a CSV under `analysis/` and figures under `figures/` of the sweep's workdir (or of --out). Filters, and the step where
--ckpt names one, are part of a file's name: another question never overwrites an answer.
"""

import re
from collections.abc import Callable
from pathlib import Path

from absl import flags

from lrjax import checkpoint, cli, workdir
from lrjax.analysis import depth
from lrjax.analysis.ablate import ablate, ablate_each
from lrjax.analysis.models import check_encoder, fields_of, healthy, of_labels, tidy, where
from lrjax.errors import InputError
from lrjax.figures import encoders as figures
from lrjax.gates import NONE
from lrjax.stats import Table, format_interval, format_table, groups, least, write_csv
from lrjax.sweep import Run, divergences, models_table

FORMATS = ("png", "svg", "pdf")


def define_flags(encoder: bool = True, frozen: bool = False) -> None:
    """--ckpt, --labels, --where, --out, --format; --encoder where an analysis is of one encoder, --frozen where it ablates."""
    flags.DEFINE_string("ckpt", None, "a workdir of experiments.sweep, its checkpoints, or one step", required=True)
    flags.DEFINE_list("labels", None, "only models with these numbers of labels, such as 15 or 5,25")
    flags.DEFINE_string("where", None, "only models with these fields, joined by ;, such as 'n_heads=4;seed=3;gates=EP=0'")
    flags.DEFINE_string("out", None, "folder for figures and tables (default: the workdir)")
    flags.DEFINE_enum("format", "png", FORMATS, "format of the figures")
    if encoder:
        flags.DEFINE_string("encoder", "vision", "vision or text")
    if frozen:
        flags.DEFINE_bool("frozen", False, "keep LayerNorm's scales as they are without the ablation")


def restore() -> Run:
    """The run of --ckpt, or the part of it that --where and --labels choose, without the models that have diverged: which these are
    is printed. Raises InputError if there is no such thing.
    """
    if not flags.FLAGS.ckpt:
        raise InputError("--ckpt=: expected a workdir of experiments.sweep, its checkpoints, or one step")
    n_labels = cli.whole_numbers("labels", flags.FLAGS.labels, "5,15")
    check_encoder(getattr(flags.FLAGS, "encoder", "vision"))
    workdir.output(Path(flags.FLAGS.ckpt), flags.FLAGS.out)  # what cannot be written is said before any work
    run = of_labels(where(workdir.restore(Path(flags.FLAGS.ckpt)), chosen_by()), n_labels)
    asked = healthy(run)
    if gone := divergences(run):
        print(gone)
    return asked


def unfinished(run: Run) -> str:
    """What to say where a finished sweep is asked for; nothing if it is one."""
    if run.finished:
        return ""
    at = f"--ckpt={flags.FLAGS.ckpt}: is unfinished (step {run.step} of {run.sweep.steps})"
    return f"{at}; train it to its end with experiments.sweep --resume, or give its last step"


def chosen_by() -> list[str]:
    """The fields of --where, in one order."""
    return [] if flags.FLAGS.where is None else fields_of(flags.FLAGS.where)


def models_of(run: Run) -> Table:
    """A row per model: its axes and its trained accuracies; those of this step where training has not ended."""
    return models_table(run) if run.finished else ablate(run, (NONE,))


def tell_by(table: Table, by: tuple[str, ...], measures: dict[str, str]) -> None:
    """Print `measures` (column -> name) of a table by the columns `by`: mean over models [95 % interval]. What is without an
    ablation stands first.
    """
    ordered = sorted(groups(table, by).items(), key=lambda group: (group[0][:-1], group[0][-1] != NONE))
    lines = [
        [*key, len(rows), *(format_interval(table[metric][rows].astype(float)) for metric in measures)] for key, rows in ordered
    ]
    print(format_table([*by, "models", *measures.values()], lines))
    print("Mean over models [95 % interval].\n")


def path(folder: str, name: str, suffix: str, filters: dict[str, object] | None = None) -> Path:
    """Where an answer goes: `folder`/name.suffix in the workdir of --ckpt, its filters in its name."""
    encoder, ckpt = getattr(flags.FLAGS, "encoder", "vision"), Path(flags.FLAGS.ckpt).resolve()
    name += "" if encoder == "vision" else f"_{encoder}"
    chosen = {"step": ckpt.name if checkpoint.is_step(ckpt) else None}
    chosen |= {"": "-".join(re.sub("[^a-zA-Z0-9_.+@]", "-", text.replace("=", "")) for text in chosen_by())}
    chosen |= {"N": "-".join(flags.FLAGS.labels) if flags.FLAGS.labels else None, **(filters or {})}
    name += "".join(f"_{what}{value}" for what, value in chosen.items() if value)
    return workdir.output(Path(flags.FLAGS.ckpt), flags.FLAGS.out) / folder / f"{name}.{suffix}"


def tell_causes(name: str, run: Run, encoder: str, by: tuple[str, ...]) -> None:
    """Which (layer, head, term) is causal, and which path between two heads: print, write, draw it as `name`_each, `name`_paths."""
    write_table(f"{name}_each", each := ablate_each(run, encoder))
    causes = depth.causal(each, encoder, by)
    tell_by(causes, (*by, "layer", "term"), {"unseen_pair_order": "change of order, the head that costs most"})
    deeper = depth.deep(run, encoder)
    if not deeper.programs:
        return
    if any(program.static.layer_norm for program in deeper.programs):
        print("Paths are not asked: layer_norm=True: they are followed through attention alone.")
        return
    paths = tidy(depth.paths(deeper, encoder)[["change"]])
    write_table(f"{name}_paths", paths)
    strongest = least(paths, ("model", "exchanged", "layer", "via"), "change")  # a value a model: its paths are no sample
    tell_by(strongest, (*by, "exchanged", "layer", "via"), {"change": "change of order, the strongest path"})
    draw(f"{name}_paths", figures.paths, paths)


def write_table(name: str, table: Table, filters: dict[str, object] | None = None) -> Path:
    """Write an answer's CSV and print where it is."""
    csv = path("analysis", name, "csv", filters)
    write_csv(csv, table)
    print(csv)
    return csv


def draw(name: str, figure: Callable[..., Path], *args, filters: dict[str, object] | None = None, **kwargs) -> Path:
    """Draw `figure(*args, path, **kwargs)` in the format of --format and print where it is."""
    drawn = figure(*args, path("figures", name, flags.FLAGS.format, filters), **kwargs)
    print(drawn)
    return drawn
