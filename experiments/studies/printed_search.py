"""What searches found where a task is not learned by the printed recipe: rows of the page, from tables of `experiments.search`.

They stand in a folder for each variant, docs/results/printed_tasks/search/NAME. They rank by the accuracy that says whether a task
is learned (`metrics_of`).
"""

from pathlib import Path

from experiments.studies.printed_claims import TITLES, metrics_of
from experiments.studies.stages import SEARCH
from lrjax.analysis.gradient import GENERALISES
from lrjax.analysis.search import ACCURACIES
from lrjax.errors import InputError
from lrjax.plotting.style import in_short
from lrjax.stats import Table, interval_text

RESULTS = (*ACCURACIES, "model", "seed", "step", "at_the_end")  # columns of a stage that are no fields of a configuration


def rows(folder: Path) -> list[dict[str, str]]:
    """A row a search that came to its end."""
    found = {variant: SEARCH.tables(folder / variant) for variant in TITLES}
    return [row_of(variant, tables) for variant, tables in found.items() if "confirm" in tables]


def row_of(variant: str, tables: dict[str, Table]) -> dict[str, str]:
    """What a search found: how many of its configurations generalise, the best of them, and what fresh seeds say of it."""
    screen, full, confirm = (tables[stage] for stage in ("screen", "full", "confirm"))
    metric = metrics_of(variant)[0]
    if metric not in confirm:
        raise InputError(f"search/{variant}/confirm.csv: does not rank by {metric}; search with --metric={metric}")
    generalise = lambda table, column: f"{int((table[column] > GENERALISES).sum())} of {len(table['model'])}"
    mean, low, high, order = (float(confirm[name][0]) for name in (metric, "low", "high", "order"))
    found = "yes" if low > GENERALISES else "no" if high < GENERALISES else "undecided"
    return {
        "task": TITLES[variant],
        "screened: generalise at their best step": generalise(screen, metric),
        "the best in full: at their best step": generalise(full, metric),
        "at the last step": generalise(full, "at_the_end"),
        "best configuration": configuration_of(full, metric),
        "step": f"{int(confirm['step'][0]):,}",
        "its top-1": f"{full[metric][0]:.2f}",
        "fresh seeds: top-1": f"{interval_text(mean, low, high, digits=2)} ({int(confirm['seeds'][0])} seeds)",
        "order of pairs": f"{order:.2f}",
        "a recipe is found": found,
    }


def configuration_of(table: Table, metric: str) -> str:
    """The fields of the best configuration, for people."""
    fields = [name for name in table if name not in (*RESULTS, metric)]
    return ", ".join(f"{name} = {in_short(table[name][0].item())}" for name in fields)
