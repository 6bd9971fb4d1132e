"""Tables of terms, of gates and of sum errors on the page of pretrained models: of images and of texts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.studies.pretrained_values import CONTROLS, RESULTS, WANTED, kinds, read, short
from experiments.studies.templating import Grid
from lrjax.pretrained.terms import ORIGINS, TERMS
from lrjax.stats import Table, format_interval, select

ENCODERS = {"vision": "images", "text": "texts"}
SUM = "EP+PP+MP+BP"  # what `experiments.pretrained` sets on a whole head


def shown(results: Path = RESULTS) -> Iterator[tuple[str, list[str]]]:
    """The models of the page that have tables, and their titles: the models of a kind that was trained here are one."""
    of_hub = {name.split("/")[1]: title for name, title in WANTED.items()}
    yield from ((title, [name]) for name, title in (CONTROLS | of_hub).items() if read(name, "summary", results))
    for title, names in kinds(results).items():
        yield f"{title}, mean of {len(names)} seeds" if len(names) > 1 else title, names


def by_encoder(names: list[str], table: str, results: Path) -> Iterator[tuple[str, list[Table]]]:
    """Of each encoder what it is given, and its rows of a table of some models."""
    found = [whole for name in names if (whole := read(name, table, results)) and "encoder" in whole]
    for encoder, given in ENCODERS.items():
        parts = [select(whole, whole["encoder"] == encoder) for whole in found]
        if parts := [part for part in parts if len(part["model"])]:
            yield given, parts


def terms(results: Path = RESULTS) -> Grid:
    """The share of each term in the variance of the readout's scores: means over heads, layers and seeds."""
    rows = []
    for title, names in shown(results):
        for given, parts in by_encoder(names, "terms_by_layer", results):
            of = lambda term, parts=parts: np.mean([part["share"][part["term"] == term].mean() for part in parts])
            rows.append([title, given, *(f"{of(term):.2f}" for term in TERMS)])
    return Grid(["model", "of", *TERMS], rows)


def origins_by_layer(name: str, results: Path = RESULTS) -> Grid | None:
    """Layer by layer the share of the terms by the key's origin, and by the query's: means over heads, of images."""
    found = dict(by_encoder([name], "terms_by_layer", results))
    if "images" not in found:
        return None
    (table,), rows = found["images"], []
    for layer in dict.fromkeys(table["layer"].tolist()):
        of = select(table, table["layer"] == layer)
        share = dict(zip(of["term"].tolist(), of["share"].tolist(), strict=True))
        by_key = [sum(share[query + key] for query in ORIGINS) for key in ORIGINS]
        by_query = [sum(share[query + key] for key in ORIGINS) for query in ORIGINS]
        rows.append([layer, *(f"{value:.2f}" for value in by_key + by_query)])
    return Grid(["layer", *(f"key {o}" for o in ORIGINS), *(f"query {o}" for o in ORIGINS)], rows)


def gates(name: str, results: Path = RESULTS, n: int = 3) -> Grid | None:
    """The strongest gates of one model: the heads whose position terms are set to zero, and single gates, `n` of each kind."""
    rows = []
    tables = [dict(by_encoder([name], f"gates_{kind}", results)) for kind in ("recomputed", "frozen")]
    if not all(tables):
        return None
    for given, (anew,) in tables[0].items():
        (frozen,) = tables[1][given]
        is_sum = anew["term"] == SUM
        for at in (*np.flatnonzero(is_sum)[:n], *np.flatnonzero(~is_sum)[:n]):
            place = [given, anew["layer"][at], anew["head"][at], anew["term"][at]]
            rows.append([*place, *(signed(float(table[key][at])) for table in (anew, frozen) for key in ("first_order", "change"))])
    return Grid(["of", "layer", "head", "at zero", "first order", "measured", "frozen: first order", "frozen: measured"], rows)


def effects(results: Path = RESULTS) -> Grid:
    """How much the strongest gates of the models of a kind change the mean margin, in size: means over seeds, 95 % intervals."""
    rows = []
    for title, names in shown(results):
        anew, frozen = (dict(by_encoder(names, f"gates_{kind}", results)) for kind in ("recomputed", "frozen"))
        for given, parts in anew.items():
            whole = np.array([abs(part["margin"][0] - part["change"][0]) for part in parts])
            sizes = [strongest_change(of, is_sum) for of in (parts, frozen[given]) for is_sum in (True, False)]
            cells = [format_interval(values) if len(names) > 1 else short(float(values[0])) for values in (whole, *sizes)]
            rows.append([title, given, *cells])
    head, gate = f"strongest head, {SUM} at zero", "strongest single gate"
    return Grid(["model", "of", "mean margin", head, gate, "frozen: head", "frozen: gate"], rows)


def strongest_change(parts: list[Table], is_sum: bool) -> np.ndarray:
    """The size of the change that the gate of the greatest first-order effect makes, a value a model."""
    return np.array([abs(part["change"][(part["term"] == SUM) == is_sum][0]) for part in parts])


def sum_errors(results: Path = RESULTS) -> Grid:
    """How far sums over origins are from the whole: the greatest over layers and seeds, and the layer where it is."""
    rows = []
    for title, names in shown(results):
        for given, parts in by_encoder(names, "sum_errors", results):
            cells = []
            for column in ("scores", "values"):
                worst = max(parts, key=lambda part, column=column: part[column].max())
                at = int(worst[column].argmax())
                cells += [f"{worst[column][at]:.1e}", worst["layer"][at]]
            rows.append([title, given, len(parts[0]["layer"]), *cells])
    return Grid(["model", "of", "layers", "scores", "in layer", "values", "in layer"], rows)


def signed(value: float) -> str:
    """A change, with its sign."""
    return f"{value:+.1e}" if 0 < abs(value) < 5e-4 else f"{value:+.3f}"
