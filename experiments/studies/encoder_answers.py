"""What was asked of the sweeps of other encoders after their runs, and so is no claim: values of templates/encoders.md."""

import collections
from typing import Any

import numpy as np
import xarray as xr

from experiments.studies.claim_values import ORDER, SET, TOP1, N, of, per_model, rows_with
from experiments.studies.contrasts import KEPT, at, compounds, greatest, kept, reached, waits, zeroed
from experiments.studies.study import Study
from lrjax.analysis import text
from lrjax.gates import NONE
from lrjax.stats import ACCURACY, format_interval, format_share, groups, select


def values(study: Study) -> dict[str, Any]:
    """The values by name; None of a sweep that is not trained."""
    of_sweep = {
        "without_ep": ("training_ablation", without_ep),
        "one_head": ("heads", one_head),
        "turning": ("left_right", turning),
        "telling": ("left_right", telling),
        "transfer": ("positions", transfer),
        "deciding": ("depth", deciding),
        "together": ("depth", together),
    }
    return {name: values(study) if study.has(part) else None for name, (part, values) in of_sweep.items()}


def without_ep(study: Study) -> dict[str, str]:
    """Training without EP."""
    part = "training_ablation"
    wait = waits(study, part)
    without = lambda metric, n: format_interval(at(metric, n, gates="EP=0", less={"gates": NONE})(study, part), signed=True)
    lost = lambda term, n, gates: format_interval(zeroed(term, ORDER, n, gates=gates)(study, part), signed=True)
    return {
        "never": format_share(reached(study, part, "EP=0").isnull()),
        "wait": f"{np.median(wait):.0f}",
        "set_few": without(SET, 5),
        "set_many": without(SET, 25),
        "top1_few": without(TOP1, 5),
        "top1_many": without(TOP1, 25),
        "pp": lost("PP", N, "EP=0"),
        "pe": lost("PE", N, "EP=0"),
        "pe_with_ep": lost("PE", N, NONE),
        "bp_many": lost("BP", 25, "EP+PP=0"),
    }


def one_head(study: Study) -> dict[str, str]:
    """How one head of the default settings attends, to be compared with those that the search finds."""
    own = rows_with(study.answer("heads", "strongest"), n_heads=1, d_head=0, n_labels=N)
    return {"gradient": format_interval(abs(own["position_gradient"])), "spread": format_interval(own["label_spread"])}


def turning(study: Study) -> str:
    """In how many models of two text layers a head of the second turns to one label for one word, to the other for the other: how
    right-of is solved.
    """
    own = rows_with(study.answer("left_right", "text"), n_layers_text=2, layer=1, n_labels=N, set="heldout")
    left, right = (select(own, own["word"] == f"{word}-of") for word in ("left", "right"))  # rows of both: models, then heads
    first = left["prefers_first"] >= text.WHATEVER, right["prefers_first"] >= text.WHATEVER
    second = left["prefers_first"] <= 1 - text.WHATEVER, right["prefers_first"] <= 1 - text.WHATEVER
    turns = first[0] & second[1] | second[0] & first[1]
    return format_share(np.isin(np.unique(left["model"]), left["model"][turns]))


def telling(study: Study) -> dict[str, str]:
    """How the strongest path of each model tells the word: whether it does, and through what."""
    own = rows_with(study.answer("left_right", "text_paths"), n_layers_text=2, n_labels=N, exchanged="word")
    by_via = {via: select(own, own["via"] == via)["change"] for via in ("both", "pattern", "values")}  # rows of all: models, paths
    models = groups(select(own, own["via"] == "both"), ("model",)).values()
    strongest = [rows[by_via["both"][rows].argmin()] for rows in models]
    change = {via: changes[strongest] for via, changes in by_via.items()}
    return {
        "models": format_share(change["both"] <= -0.1),
        "through_pattern": format_interval(change["pattern"], signed=True),
        "through_values": format_interval(change["values"], signed=True),
    }


def transfer(study: Study) -> dict[str, Any]:
    """With what the order of rotary models goes, over models: their vision's gradient, or how steady text is over labels."""
    from scipy.stats import spearmanr

    lost = lambda term: format_interval(zeroed(term, ORDER, N, "text_variant", positions="rotary")(study, "positions"), signed=True)
    ranks = []
    for n in (N, 25):
        where = {"n_labels": n, "positions": "rotary"}
        order, steady, ratio = xr.align(  # answers lack models that diverged
            of(study.models("positions"), ORDER, **where),
            per_model(study.answer("positions", "text_layers"), "label_invariance", np.max, **where),
            of(study.answer("positions", "strongest"), "ratio", **where),
        )
        of_text, of_vision = (f"{spearmanr(order, other)[0]:.2f}" for other in (steady, ratio))
        ranks.append({"n_labels": n, "text": of_text, "vision": of_vision})
    return {"ranks": ranks, "ee": lost("EE"), "eb_bb": lost("EB+BB")}


def deciding(study: Study) -> list[dict[str, Any]]:
    """In how many deep models which layers decide: without their EP + PP + BP at most KEPT is left of the order that goes with that
    of all layers.
    """
    found = []
    for n_layers, n in groups(study.answer("depth", "by_layer"), ("n_layers_vision", "n_labels")):
        if n_layers == 1:
            continue
        counts = collections.Counter()
        where: dict[str, Any] = {"answer": "by_layer", "n_layers_vision": n_layers}
        left: list[Any] = [
            kept(f"vision.L{layer}:EP+PP+BP=0", n, floor="EP+PP+BP", **where)(study, "depth") for layer in range(n_layers)
        ]
        for of_model in np.array(xr.align(*left)).T:
            layers = " and ".join(f"layer {layer}" for layer in np.flatnonzero(of_model <= KEPT))
            counts["not learned" if np.isnan(of_model).any() else layers or "no layer alone"] += 1
        nothing = format_interval(zeroed("EP+PP+BP", ORDER, n, change=False, **where)(study, "depth"), within=ACCURACY)
        models = ", ".join(f"{layers} in {count}" for layers, count in sorted(counts.items()))
        found.append({"layers": n_layers, "n_labels": n, "models": models, "without": nothing})
    return found


def together(study: Study) -> list[dict[str, Any]]:
    """Where a gradient of the last layer could compound: models whose last layer has one, and another layer too."""
    found, layers = [], study.answer("depth", "layers")
    for n_layers, n in groups(layers, ("n_layers_vision", "n_labels")):
        if n_layers == 1:
            continue
        size = np.array(xr.align(*greatest(layers, n_layers, n)))
        both = (size[-1] > 1) & (size[:-1] > 1).any(0)
        gone = ", ".join(f"{share:.3f}" for share in np.asarray(compounds(n_layers, n)(study, "depth"))[both])
        found.append({"layers": n_layers, "n_labels": n, "models": f"{both.sum()} of {size.shape[1]}", "gone": gone})
    return found
