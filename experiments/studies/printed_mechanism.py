"""What carries the order, in the sweeps of the page on tasks at the paper's length that have learned one."""

import numpy as np
import xarray as xr

from experiments.studies.claim_values import leaning, of, rows_with
from experiments.studies.contrasts import LEARNED, zeroed
from experiments.studies.printed_claims import (
    MANY,
    POSITION,
    TITLES,
    WITHOUT_P,
    answer_of,
    initial_values_of,
    metrics_of,
    variant_of,
)
from experiments.studies.study import PRINTED_TASKS, Study
from lrjax.analysis import relational
from lrjax.analysis.relational import MEASURES
from lrjax.gates import NONE
from lrjax.stats import ACCURACY, format_interval

TERMS = ("EP", "PP", POSITION, "VP")
NOT_ASKED = "–"


def table(study: Study) -> list[dict[str, str]]:
    """A row a sweep in which a model knows the order at MANY labels, in .8 of cases or more: what terms at zero leave of the order
    of these models, and how their heads share the work.
    """
    rows = []
    for part in filter(study.has, PRINTED_TASKS):
        known = knowing(study, part)
        if not known.size:
            continue
        row = {"task": TITLES[variant_of(part)], "initial values": initial_values_of(part), "models": str(known.size)}
        row |= {f"order without {terms}": left(study, part, terms) for terms in TERMS}
        row |= {
            "heads lean both ways": of_heads(study, part, known),
            **{f"P(relational) less preference, {measure}": of_relational(study, part, known, measure) for measure in MEASURES},
            "horizontal and vertical: two heads": of_directions(study, part, known),
        }
        rows.append(row)
    return rows


def order_without(study: Study, part: str, terms: str) -> xr.DataArray:
    """The order that an ablation leaves at MANY labels, of the seeds that know it in .8 of cases or more without."""
    order = zeroed(terms, metrics_of(part)[1], MANY, answer_of(part), change=False, least=LEARNED)(study, part)
    assert isinstance(order, xr.DataArray)  # by seed
    return order.dropna("seed")


def knowing(study: Study, part: str) -> xr.DataArray:
    """The seeds that know the order at MANY labels."""
    return order_without(study, part, NONE).seed


def left(study: Study, part: str, terms: str) -> str:
    """What an ablation leaves of the order at MANY labels, over the models that know it; their number."""
    if variant_of(part) in WITHOUT_P:
        return "no P"
    order = order_without(study, part, terms)
    return f"{format_interval(order.values, within=ACCURACY, digits=2)} ({order.size})" if order.size else "not learned"


def of_heads(study: Study, part: str, known: xr.DataArray) -> str:
    """In how many models a head of the first layer leans left and another right."""
    if "heads" not in PRINTED_TASKS[part].answers:
        return NOT_ASKED
    return counted(leaning(study, part).sel(seed=known))


def of_relational(study: Study, part: str, known: xr.DataArray, measure: str) -> str:
    """P(relational) by a measure less |P(attends right) - P(attends left)|, of each model's head that leans most."""
    if "relational" not in PRINTED_TASKS[part].answers:
        return NOT_ASKED
    found = relational.of_a_model(study.answer(part, "relational"))
    gap = of(rows_with(found, heads="leans most"), f"gap_{measure}", n_labels=MANY).sel(seed=known)
    return format_interval(gap.values, digits=2)


def of_directions(study: Study, part: str, known: xr.DataArray) -> str:
    """In how many models of grids the strongest horizontal gradient and the strongest vertical one are in different heads."""
    if "directions" not in PRINTED_TASKS[part].answers:
        return NOT_ASKED
    table = study.answer(part, "directions")
    horizontal, vertical = (of(table, f"head_{way}", n_labels=MANY).sel(seed=known) for way in ("horizontal", "vertical"))
    return counted(horizontal != vertical)


def counted(yes: xr.DataArray) -> str:
    """How many of so many models."""
    return f"{int(np.sum(yes.values))} of {yes.size}"
