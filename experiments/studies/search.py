"""A search (`analysis.search`), stage by stage in a folder: sweeps that are there are not trained again."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments.studies.stages import ONE_HEAD, SEARCH, Search
from lrjax import cli
from lrjax.analysis import gradient, heads, one_head
from lrjax.analysis.models import tidy
from lrjax.analysis.search import FRESH, Space, best, chosen, confirmed, draw
from lrjax.analysis.selection import healthy
from lrjax.config import Model, Sweep
from lrjax.metrics import ends
from lrjax.plotting import encoders as figures
from lrjax.stats import Table, format_interval, format_table, groups, interval_text, joined, share_interval
from lrjax.storage import workdir
from lrjax.training.run import Run, history_table, models_table

SLAB = 64  # models that train at a time
HOW = ("position_gradient", "label_spread", "ratio", "share_EP", "share_PP", "share_BP", "lean", "unseen_pair_order")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much a search trains.

    Attributes:
      configurations: how many are screened.
      keep: how many of the best are trained in full.
      confirmed: how many of the best of these are trained with fresh seeds.
      screen_steps, steps: training steps of the screening, and in full.
      every: training steps between evaluations.
    """

    configurations: int = 512
    keep: int = 64
    confirmed: int = 3
    screen_steps: int = 1000
    steps: int = 3000
    every: int = 250


def define_budget(**defaults: int) -> Callable[[], Budget]:
    """The flags of a `Budget`; call what it returns once they are parsed."""
    default = Budget(**defaults)
    whole = lambda name, value, meaning, least=1: flags.DEFINE_integer(name, value, meaning, lower_bound=least)
    holders = {
        "configurations": whole("configurations", default.configurations, "how many are drawn"),
        "keep": whole("keep", default.keep, "how many of them are trained in full"),
        "confirmed": whole("confirm", default.confirmed, "how many of these are confirmed with fresh seeds", 0),
        "screen_steps": whole("screen_steps", default.screen_steps, "steps of the screening"),
        "steps": whole("steps", default.steps, "steps in full"),
        "every": whole("eval_every", default.every, "steps between evaluations"),
    }
    return lambda: Budget(**{name: int(holder.value or 0) for name, holder in holders.items()})


def search(folder: Path, space: Space, budget: Budget, records: Search = SEARCH) -> tuple[Table, Table]:
    """Screen, train the best in full, confirm the best of these with fresh seeds; print and write what each stage found.

    Returns:
      The tables of the screening and of the full training (`analysis.search.best`).
    """
    show = lambda name, table: print_table(folder, name, table, records)

    def stage(name: str, models: list[Model], steps: int) -> tuple[Run, Table]:
        run = cli.train_in(folder / name, Sweep(tuple(models), steps, budget.every, SLAB), (gradient.columns,))
        show(name, table := best(space, history_table(run), run.sweep))
        return run, table

    screened, screen = stage("screen", draw(space, budget.configurations), budget.screen_steps)
    trained, full = stage("full", chosen(screened.sweep, screen, budget.keep), budget.steps)
    succeed = lambda accuracy: int((accuracy > gradient.GENERALISES).sum())
    print(
        f"\nsucceed ({space.metric} above {gradient.GENERALISES}) while screened: {said(screen[space.metric])} of "
        f"{len(screen['model'])}"
    )
    print(
        f"of the best {len(full['model'])}, trained in full: {succeed(full[space.metric])} at their best step, "
        f"{succeed(full['at_the_end'])} at the last"
    )
    found = "found" if len(full["model"]) and (full[space.metric] > gradient.GENERALISES).any() else "not found"
    print(f"{found} in {budget.configurations} configurations")
    if budget.confirmed:
        models, steps = chosen(trained.sweep, full, budget.confirmed, FRESH), full["step"][: budget.confirmed]
        wanted = Sweep(tuple(models), int(steps.max()), budget.every, SLAB)
        run = cli.train_in(folder / "confirm", wanted, (gradient.columns,))
        show("confirm", confirmed(space, history_table(run), steps, len(FRESH)))
    return screen, full


def search_for_one_head(folder: Path, budget: Budget, suffix: str = "png") -> None:
    """The search for one head, how those that succeed do it, and its figure."""
    space = one_head.SPACE
    screen, full = search(folder, space, budget, ONE_HEAD)
    if budget.confirmed:
        explain(folder)
    print(figures.search(screen, full, dict(space.ranges), folder / f"one_head.{suffix}"))


def explain(folder: Path) -> None:
    """How the confirmed models of one head that succeed do it, against those that fail; printed and written."""
    run = workdir.restore(folder / "confirm")
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
    configurations, lines = groups(table, tuple(one_head.SPACE.ranges)), []
    for i, rows in enumerate(sorted(configurations.values(), key=min)):
        succeeds = table["unseen_pair"][rows] > gradient.GENERALISES
        for name, of_kind in (("succeed", rows[succeeds]), ("fail", rows[~succeeds])):
            if len(of_kind):
                lines.append([str(i), name, str(len(of_kind)), *(format_interval(table[c][of_kind], within=ends(c)) for c in HOW)])
    return ["configuration", "", "seeds", *HOW], lines


def print_table(folder: Path, name: str, table: Table, records: Search) -> None:
    """Write and print a stage's table."""
    path = records.write(folder, name, table)
    print(f"\n{name}" + (", best first:" if "at_the_end" in table else ", as chosen:"))
    cell = lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)
    rows = [[cell(column[i].item()) for column in table.values()] for i in range(min(10, len(table["step"])))]
    print(format_table([*table], rows))
    print(path)


def said(accuracy) -> str:
    """The share of models that succeed, with its interval, for people."""
    return interval_text(*share_interval(accuracy > gradient.GENERALISES), digits=2)
