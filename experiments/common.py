"""What every analysis command shares: which sweep it asks, and where its answer goes.

    common.define_flags()                                  # --ckpt --labels --where --out --format --encoder
    ...
    run = common.restore()
    common.write_table("shares", table)
    common.draw("shares", figures.shares, answer)

An answer is a CSV under `analysis/` and figures under `figures/` of the sweep's workdir (or of --out), each with a record of what
it was computed from (`results`). Every flag that is given, and the step where --ckpt names one, is part of a file's name: another
question never overwrites an answer, nor does another checkpoint in the folder of --out, nor anything a file of the user's.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import flags

from lrjax import cli
from lrjax.analysis import decompose, depth
from lrjax.analysis.ablate import ablate, single_head_ablations
from lrjax.analysis.models import check_encoder, tidy
from lrjax.analysis.selection import fields_of, healthy, of_labels, where
from lrjax.gates import NONE
from lrjax.metrics import ends
from lrjax.plotting import encoders as figures
from lrjax.plotting.style import Figure
from lrjax.stats import Table, format_interval, format_table, groups, least
from lrjax.storage import results, step_folders, workdir
from lrjax.training.run import Run, divergences, models_table

FORMATS = ("png", "svg", "pdf")
GENERALISES, FAILS = 0.8, 0.6  # top-1 on unseen pairs of the two models that are drawn side by side
SHORT = {
    "labels": "N",
    "heads": "h",
    "frozen": "frozen",
    "ablations": "zero-",
}  # what flags are called in a file's name, in this order
_checkpoint = ""  # the identity of what `restore` has restored


def define_flags(encoder: bool = True, frozen: bool = False) -> None:
    """--ckpt, --labels, --where, --out, --format; --encoder where an analysis is of one encoder, --frozen where it ablates."""
    cli.define_path("ckpt", None, "a workdir of experiments.sweep, its checkpoints, or one step", required=True)
    flags.DEFINE_list("labels", None, "only models with these numbers of labels, such as 15 or 5,25")
    flags.DEFINE_string("where", None, "only models with these fields, joined by ;, such as 'n_heads=4;seed=3;gates=EP=0'")
    cli.define_path("out", None, "folder for figures and tables (default: the workdir)")
    flags.DEFINE_enum("format", "png", FORMATS, "format of the figures")
    if encoder:
        flags.DEFINE_string("encoder", "vision", "vision or text")
    if frozen:
        flags.DEFINE_bool("frozen", False, "keep LayerNorm's scales as they are without the ablation")


def restore() -> Run:
    """The run of --ckpt, or the part of it that --where and --labels choose, without the models that have diverged: which these are
    is printed. Raises InputError if there is no such thing.
    """
    n_labels = cli.whole_numbers("labels", flags.FLAGS.labels, "5,15")
    check_encoder(getattr(flags.FLAGS, "encoder", "vision"))
    workdir.output(Path(flags.FLAGS.ckpt), flags.FLAGS.out)  # what cannot be written is said before any work
    global _checkpoint
    run, _checkpoint = workdir.restore_identified(Path(flags.FLAGS.ckpt))
    run = of_labels(where(run, chosen_by()), n_labels)
    asked = healthy(run)
    if gone := divergences(run):
        print(gone)
    return asked


def given() -> dict[str, object]:
    """The flags that decide what is asked, but for the checkpoint: those of the command that differ from their defaults."""
    known = flags.FLAGS.flags_by_module_dict()
    shared = [flag for flag in known[__name__] if flag.name not in ("ckpt", "out", "format")]
    return {flag.name: flag.value for flag in (*shared, *known.get(sys.argv[0], ())) if flag.value != flag.default}


def unfinished(run: Run) -> str:
    """What to say where a finished sweep is asked for; nothing if it is one."""
    if run.finished:
        return ""
    at = f"--ckpt={flags.FLAGS.ckpt}: is unfinished (step {run.step} of {run.sweep.longest})"
    return f"{at}; train it to its end with experiments.sweep --resume, or give its last step"


def chosen_by() -> list[str]:
    """The fields of --where, in one order."""
    return [] if flags.FLAGS.where is None else fields_of(flags.FLAGS.where)


def models_of(run: Run) -> Table:
    """A row per model: its axes and its trained accuracies; those of this step where training has not ended."""
    return models_table(run) if run.finished else ablate(run, (NONE,))


def examples(run: Run) -> Iterator[tuple[str, int, str]]:
    """(kind, row, title) of the model that generalises most and of the one that fails most on unseen pairs, for figures of a model
    each; a line is printed in the place of one that is not there.
    """
    if so_far := unfinished(run):
        print(f"No model that generalises, or fails, is drawn: {so_far}")
        return
    models = models_table(run)
    accuracy = models["unseen_pair"]
    for kind, row in zip(("generalises", "fails"), decompose.examples(accuracy, GENERALISES, FAILS), strict=True):
        if row is None:
            print(f"no model {kind}: none is drawn")
        else:
            of = f"N = {models['n_labels'][row]}, seed {models['seed'][row]}, top-1 {accuracy[row]:.2f}"
            yield kind, row, f"the model that {kind} most, {of}"


def print_summary(table: Table, by: tuple[str, ...], measures: dict[str, str], changes: bool = False) -> None:
    """Print `measures` (column -> name) of a table by the columns `by`: mean over models [95 % interval]. What is without an
    ablation stands first. `changes`: a column named as an accuracy holds what is changed in it.
    """
    ordered = sorted(groups(table, by).items(), key=lambda group: (group[0][:-1], group[0][-1] != NONE))
    interval = lambda metric, rows: format_interval(table[metric][rows], within=None if changes else ends(metric))
    lines = [[*key, len(rows), *(interval(metric, rows) for metric in measures)] for key, rows in ordered]
    print(format_table([*by, "models", *measures.values()], lines))
    print("Mean over models [95 % interval].\n")


def place(folder: str, name: str, suffix: str) -> tuple[Path, results.Record]:
    """Where an answer goes, `folder`/name.suffix in the workdir of --ckpt with what was asked in its name, and its record."""
    ckpt, asked = Path(flags.FLAGS.ckpt).resolve(), given()
    encoder = asked.pop("encoder", "")
    parts = [name, encoder, f"step{ckpt.name}" if step_folders.is_step(ckpt) else ""]
    parts += ["-".join(re.sub("[^a-zA-Z0-9_.+@]", "-", text.replace("=", "")) for text in chosen_by())]
    for flag in (name for name in (*SHORT, *sorted(asked.keys() - SHORT.keys() - {"where"})) if name in asked):
        value = asked[flag]
        text = "-".join(map(str, value)) if isinstance(value, list) else "" if value is True else str(value)
        parts.append(SHORT.get(flag, f"{flag}-") + text)
    file = "_".join(filter(None, parts)).replace(" ", "-").replace("/", "-")
    script = getattr(sys.modules["__main__"].__spec__, "name", __name__)
    record = results.Record(_checkpoint, f"command: {name}", given(), results.code_of_modules((script,)))
    output = workdir.output(Path(flags.FLAGS.ckpt), flags.FLAGS.out)
    own = output.resolve() == workdir.root(Path(flags.FLAGS.ckpt)).resolve()  # elsewhere, several sweeps may answer
    return results.place(output / folder / f"{file}.{suffix}", record, any_checkpoint=own), record


def print_strongest_effects(name: str, run: Run, encoder: str, by: tuple[str, ...]) -> None:
    """Print, write and draw which ablation of a single head costs most, `name`_single_head_ablations, and which path between two
    heads, `name`_paths.
    """
    write_table(f"{name}_single_head_ablations", each := single_head_ablations(run, encoder))
    strongest = depth.strongest_effects(each, encoder, by)
    print_summary(strongest, (*by, "layer", "term"), {"unseen_pair_order": "change of order, the head that costs most"}, True)
    deeper = depth.deep(run, encoder)
    if not deeper.programs:
        return
    if any(program.static.layer_norm for program in deeper.programs):
        print("Paths are not asked: layer_norm=True: they are followed through attention alone.")
        return
    paths = tidy(depth.paths(deeper, encoder)[["change"]])
    write_table(f"{name}_paths", paths)
    strongest = least(paths, ("model", "exchanged", "layer", "via"), "change")  # a value a model: its paths are no sample
    print_summary(strongest, (*by, "exchanged", "layer", "via"), {"change": "change of order, the strongest path"})
    draw(f"{name}_paths", figures.paths, paths)


def write_table(name: str, table: Table) -> Path:
    """Write an answer's CSV and print where it is."""
    csv, record = place("analysis", name, "csv")
    results.write(csv, table, record)
    print(csv)
    return csv


def draw(name: str, figure: Callable[..., Figure], *args, **kwargs) -> Path:
    """Draw `figure(*args, path, **kwargs)` in the format of --format and print where it is."""
    path, record = place("figures", name, flags.FLAGS.format)
    figure(*args, path=path, **kwargs)
    results.sign(path, record)
    print(path)
    return path
