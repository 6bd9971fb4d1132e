"""The search for one head (`analysis.one_head`), stage by stage in a folder: sweeps that are there are not trained again."""

from pathlib import Path

from experiments.studies.stages import ONE_HEAD
from lrjax import cli
from lrjax.analysis import gradient, heads, one_head
from lrjax.analysis.models import tidy
from lrjax.analysis.selection import healthy
from lrjax.config import Sweep
from lrjax.metrics import ends
from lrjax.plotting import encoders as figures
from lrjax.stats import Table, format_interval, format_table, groups, interval_text, joined, share_interval
from lrjax.training.run import Run, history_table, models_table

SLAB = 64  # models that train at a time
HOW = ("position_gradient", "label_spread", "ratio", "share_EP", "share_PP", "share_BP", "lean", "unseen_pair_order")


def search(
    folder: Path, configurations=512, keep=64, confirmed=3, screen_steps=1000, steps=3000, every=250, suffix: str = "png"
) -> None:
    """Screen, train the best in full, confirm the best of these with fresh seeds; print and write what each stage found."""
    screened, screen = stage(folder, "screen", one_head.draw(configurations), screen_steps, every)
    trained, full = stage(folder, "full", one_head.chosen(screened.sweep, screen, keep), steps, every)
    succeed = lambda top1: int((top1 > gradient.GENERALISES).sum())
    print(f"\nsucceed (top-1 above {gradient.GENERALISES}) while screened: {said(screen['unseen_pair'])} of {len(screen['model'])}")
    print(
        f"of the best {len(full['model'])}, trained in full: {succeed(full['unseen_pair'])} at their best step, "
        f"{succeed(full['at_the_end'])} at the last"
    )
    if confirmed:
        confirm(folder, trained.sweep, full, confirmed, every)
    print(figures.search(screen, full, one_head.RANGES, folder / f"one_head.{suffix}"))


def stage(folder: Path, name: str, models, steps: int, every: int) -> tuple[Run, Table]:
    """Train configurations; the run, and `best` of its history, written and printed."""
    run = cli.train_in(folder / name, Sweep(tuple(models), steps, every, SLAB), (gradient.columns,))
    table = one_head.best(history_table(run), run.sweep)
    tell(folder, name, table)
    return run, table


def confirm(folder: Path, trained: Sweep, full: Table, n: int, every: int) -> None:
    """The best n configurations with fresh seeds; and how those that succeed do it."""
    models, steps = one_head.chosen(trained, full, n, one_head.FRESH), full["step"][:n]
    run = cli.train_in(folder / "confirm", Sweep(tuple(models), int(steps.max()), every, SLAB), (gradient.columns,))
    tell(folder, "confirm", one_head.confirmed(history_table(run), steps, len(one_head.FRESH)))
    asked = healthy(run)
    found = gradient.carried(tidy(gradient.strongest(gradient.gradient(asked))))
    found = joined(found, tidy(heads.heads(asked)[["head_bias"]]), ["head_bias"])
    table = joined(models_table(run), found, [name for name in (*HOW, "head_bias") if name in found])
    ONE_HEAD.write(folder, "how", table)
    print(
        "\nhow: of each confirmed configuration the seeds that succeed and those that fail, at the last step (mean [95 % interval])"
    )
    print(format_table(*how(table)))


def how(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what HOW says of the seeds of each configuration that succeed, and of those that fail. Gradients have no
    direction here: `lean` is how far from one half the share of images is in which the head prefers the right object.
    """
    table = table | {"position_gradient": abs(table["position_gradient"]), "lean": abs(table["head_bias"] - 0.5)}
    configurations, lines = groups(table, tuple(one_head.RANGES)), []
    for i, rows in enumerate(sorted(configurations.values(), key=min)):
        succeeds = table["unseen_pair"][rows] > gradient.GENERALISES
        for name, chosen in (("succeed", rows[succeeds]), ("fail", rows[~succeeds])):
            if len(chosen):
                lines.append([str(i), name, str(len(chosen)), *(format_interval(table[c][chosen], within=ends(c)) for c in HOW)])
    return ["configuration", "", "seeds", *HOW], lines


def tell(folder: Path, name: str, table: Table) -> None:
    """Write and print a stage's table."""
    path = ONE_HEAD.write(folder, name, table)
    print(f"\n{name}: best first")
    print(format_table([*table], [[f"{column[i]:.3g}" for column in table.values()] for i in range(min(10, len(table["step"])))]))
    print(path)


def said(top1) -> str:
    """The share of models that succeed, with its interval, for people."""
    return interval_text(*share_interval(top1 > gradient.GENERALISES), digits=2)
