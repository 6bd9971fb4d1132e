"""The page docs/results/pretrained.md, from the tables that `experiments.pretrained` wrote of each model.

python -m experiments.studies.pretrained

A model's tables stand in docs/results/pretrained/NAME, where `experiments.studies.pretrained_tables` puts them. Models that could
not be had have empty rows, with the command that fills them.
"""

from pathlib import Path

import numpy as np

from experiments.studies import pretrained_claims, pretrained_terms
from experiments.studies.page import verdict_table
from experiments.studies.pretrained_values import (
    CONTROLS,
    FOCUS,
    FOLDER,
    RANDOM,
    RESULTS,
    WANTED,
    kinds,
    numbers,
    of_own_pictures,
    of_summaries,
    read,
    short,
)
from experiments.studies.templating import Grid, render
from experiments.studies.verdicts import interval_of
from lrjax.stats import ACCURACY, Table, format_interval, table_of, write_csv
from lrjax.storage.files import write_atomically

COLUMNS = {
    "slope_columns": "size of slope, columns",
    "slope_rows": "rows",
    "odd_columns": "odd share, columns",
    "odd_rows": "rows",
    "odd_shuffled": "shuffled",
    "net_columns": "net lean, columns",
    "net_rows": "rows",
    "cls_difference": "E_cls - P_0",
    "order": "order",
    "order_exchanged": "order, columns exchanged",
    "label_set": "label set",
}


def models(results: Path = RESULTS) -> Grid:
    """The table of models: one row a model; of those that were trained here one row a kind, means over seeds."""
    rows = [[title, *_cells([name], results)] for name, title in CONTROLS.items() if read(name, "summary", results)]
    for title, names in kinds(results).items():
        rows.append([f"{title}, mean of {len(names)} seeds" if len(names) > 1 else f"{title}, one seed", *_cells(names, results)])
    of_hub = {name.split("/")[1]: title for name, title in WANTED.items()}
    for folder, title in of_hub.items():
        rows.append([title, *_cells([folder], results)] if read(folder, "summary", results) else [f"{title}: not run", *_blank()])
    own = {*CONTROLS, *of_hub, *(name for names in kinds(results).values() for name in names)}
    others = sorted(path.parent.name for path in (results / FOLDER).glob("*/summary.csv") if path.parent.name not in own)
    return Grid(["model", *COLUMNS.values()], rows + [[name, *_cells([name], results)] for name in others])


def _blank() -> list[str]:
    return ["" for _ in COLUMNS]


def _cells(names: list[str], results: Path) -> list[str]:
    """The measures of a model, or their means over several."""
    return [short(float(values.mean())) if len(values := of_summaries(names, key, results)) else "" for key in COLUMNS]


def layers(name: str, results: Path = RESULTS) -> Grid | None:
    """The position gradient of one model, layer by layer, and the statistical shares of position in its keys and scores."""
    table, statistical = read(name, "gradient", results), read(name, "statistical", results)
    if table is None:
        return None
    columns = {
        "size of slope, columns": abs(table["slope_columns"]),
        "rows": abs(table["slope_rows"]),
        "odd share, columns": table["odd_columns"],
        "odd share, rows": table["odd_rows"],
    }
    if statistical is not None:
        columns["position in keys"] = statistical["keys_position"]
        columns["position in scores"] = statistical["scores_mean_position"]
    rows = []
    for layer in dict.fromkeys(table["layer"].tolist()):
        of = table["layer"] == layer
        rows.append([layer, *(short(float(np.nanmean(values[of]))) for values in columns.values())])
    return Grid(["layer", *columns], rows)


def leaning(name: str, results: Path = RESULTS) -> Grid | None:
    """The heads of one model that lean most."""
    table = read(name, "leaning", results)
    if table is None:
        return None
    shown, rows = ("slope_columns", "slope_columns_z", "odd_columns"), []
    for i, direction in enumerate(table["direction"]):
        rows.append([direction, table["layer"][i], table["head"][i], *(short(float(table[n][i])) for n in shown)])
    return Grid(["direction", "layer", "head", "slope, columns", "over shuffled", "odd share, columns"], rows)


MEASURES = {  # of the models that were trained here, from their summaries
    "slope_columns": "size of slope, columns",
    "odd_size_columns": "size of odd part, columns",
    "odd_size_rows": "rows",
    "order": "order, drawn probe",
}
OWN = {  # on their own kind of pictures: the things and the column of `trained.csv`
    ("trained", "order"): "order, things of the pairs",
    ("trained", "order_exchanged"): "the same, columns exchanged",
    ("held out", "order"): "order, things held out of pairs",
}


def trained(results: Path = RESULTS) -> Grid | None:
    """Means over seeds with 95 % intervals of the models that were trained here."""
    rows = []
    for title, names in kinds(results).items():
        own = [format_interval(of_own_pictures(names, *where, results), within=ACCURACY) for where in OWN]
        more = [
            format_interval(of_summaries(names, key, results), within=ACCURACY if key.startswith("order") else None)
            for key in MEASURES
        ]
        rows.append([title, len(names), *own, *more])
    return Grid(["model", "seeds", *OWN.values(), *MEASURES.values()], rows) if rows else None


CONTRASTED = {
    "slope_columns": "size of slope, columns",
    "odd_size_columns": "size of odd part, columns",
    "odd_columns": "odd share, columns",
    "net_columns": "net lean, columns",
}


def contrasts(results: Path = RESULTS) -> Grid | None:
    """Plain less mirrored, paired by seed, of the models that were trained here: which measure tells the two kinds apart?"""
    by_n: dict[str, list[list[str]]] = {}
    for title, names in kinds(results).items():
        by_n.setdefault(title.split(", ")[1], []).append(names)
    rows = []
    for key, said in CONTRASTED.items():
        row = [said]
        for pair in by_n.values():
            values = [of_summaries(names, key, results) for names in pair]
            whole = len(values) == 2 and len(values[0]) == len(values[1]) > 0
            row.append(format_interval(values[0] - values[1], signed=True) if whole else "")
        rows.append(row)
    return Grid(["plain less mirrored", *by_n], rows) if len(by_n) else None


def by_seed(results: Path = RESULTS) -> Grid | None:
    """The same, one row a model."""
    rows = []
    for names in kinds(results).values():
        for name in names:
            own = [short(float(of_own_pictures([name], *where, results)[0])) for where in OWN]
            measured = [of_summaries([name], key, results) for key in MEASURES]
            rows.append([name, *own, *(short(float(values[0])) if len(values) else "" for values in measured)])
    return Grid(["model", *OWN.values(), *MEASURES.values()], rows) if rows else None


def by_distance(results: Path = RESULTS) -> Grid | None:
    """Order of the drawn probe by the distance of the two things, of the models that were trained here: means over templates and
    seeds.
    """
    rows, distances = [], []
    for title, names in kinds(results).items():
        tables = [table for name in names if (table := read(name, "probe_by_distance", results))]
        if tables:
            distances = sorted(set(tables[0]["distance"].tolist()))
            order = [np.mean([_order_at(table, distance) for table in tables]) for distance in distances]
            rows.append([title, *(short(float(value)) for value in order)])
    return Grid(["model", *(f"distance {n}" for n in distances)], rows) if rows else None


def _order_at(table: Table, distance: int) -> float:
    """Order at a distance with the model's own position rows, the mean over templates."""
    return float(table["order"][(table["positions"] == "own") & (table["distance"] == distance)].mean())


def parity(results: Path = RESULTS) -> Grid | None:
    """How far lrjax is from its peers, by class of model."""
    path = results / FOLDER / "parity.csv"
    if not path.is_file():
        return None
    table = table_of(path.read_bytes())
    outputs = [name for name in table if name != "class"]
    rows = [
        [kind, *("" if np.isnan(table[n][i]) else f"{table[n][i]:.1e}" for n in outputs)] for i, kind in enumerate(table["class"])
    ]
    return Grid(["class", *(name.replace("_", " ") for name in outputs)], rows)


def _means(names: list[str], results: Path) -> dict[str, float]:
    """Means over seeds that the page's sentences name; nothing of no models."""
    if not names:
        return {}
    found = {key: of_summaries(names, key, results).mean() for key in MEASURES}
    return found | {column: of_own_pictures(names, "trained", column, results).mean() for column in ("order", "order_exchanged")}


def page(results: Path = RESULTS) -> str:
    """The page, whose prose is in templates/pretrained.md."""
    found = list(kinds(results).values())
    plain, mirrored = (next((names for names in found[::-1] if ("mirrored" in names[0]) == it), []) for it in (False, True))
    found_verdicts = pretrained_claims.verdicts(results)
    values = {
        "models": models(results),
        "hub": {name: name.split("/")[1] for name in WANTED},
        "graph": numbers(FOCUS, "graph", results),
        "terms": pretrained_terms.terms(results),
        "effects": pretrained_terms.effects(results),
        "sum_errors": pretrained_terms.sum_errors(results),
        "claims": pretrained_claims.grid(found_verdicts),
        "focus": found_verdicts["focus_odd"][0],
        "interval": interval_of,
        "origins": pretrained_terms.origins_by_layer(FOCUS, results),
        "layers": layers(FOCUS, results),
        "leaning": leaning(FOCUS, results),
        "figures": f"{FOLDER}/{FOCUS}",
        "trained": trained(results),
        "contrasts": contrasts(results),
        "by_seed": by_seed(results),
        "by_distance": by_distance(results),
        "plain": _means(plain, results),
        "mirrored": _means(mirrored, results),
        "leaning_name": plain[0] if plain else "",
        "leaning_plain": leaning(plain[0], results) if plain else None,
        "mirrored_name": mirrored[0] if mirrored else "",
        "gates": [pretrained_terms.gates(names[0], results) if names else None for names in (plain, mirrored)],
        "parity": parity(results),
        "cost": numbers(RANDOM, "summary", results),
        "short": lambda value: short(float(value)),
        "power": lambda value: f"{value:.0e}",
    }
    return render("pretrained.md", values)


def main() -> None:
    """Write the page, and its verdicts as a table."""
    write_csv(RESULTS / FOLDER / "verdicts.csv", verdict_table(pretrained_claims.verdicts()))
    write_atomically(RESULTS / f"{FOLDER}.md", page())
    print(RESULTS / f"{FOLDER}.md")


if __name__ == "__main__":
    main()
