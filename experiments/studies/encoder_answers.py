"""What the sweeps of other encoders say, in plain words that hold whatever the numbers are."""

import collections
from typing import Any

import numpy as np
import xarray as xr

from experiments.studies.claims import ORDER, SET, TOP1, N, Verdict, of, per_model, rows_with, stated
from experiments.studies.contrasts import KEPT, at, compounds, greatest, kept, reached, waits, zeroed
from experiments.studies.page import Page
from experiments.studies.study import Study
from lrjax.analysis import text
from lrjax.gates import NONE
from lrjax.stats import ACCURACY, format_interval, format_share, groups, select


def answer(page: Page, verdicts: dict[str, list[Verdict]], study: Study) -> None:
    """Write the answers on the page: verdicts' numbers, and what was asked after the runs."""
    said = lambda key: stated(verdicts[key][0])
    page.answer(
        "Trained without EP, which term takes over?",
        f"With EP off from the first step order at 15 labels is {said('ta_ep')}, and PP has {said('ta_ep_share')} of the gradient; "
        f"order changes by {said('ta_ep_5')} at 5 labels and by {said('ta_ep_25')} at 25. With PP off too order is "
        f"{said('ta_ep_pp')}, and BP at zero changes it by {said('ta_ep_pp_bp')}; with EP, PP and BP off it is {said('ta_all')} "
        f"(label set {said('ta_all_set')}): no score depends on position alone, and what is left is in the values. Annealed away "
        f"from step 2,000, order changes by {said('ta_anneal')}. {afterwards(study)} Mind the gauge: with one vision block E_cls "
        f"and P_0 enter as their sum, so EP off leaves the same gradient to PP, with the part of the CLS vector in P_0 that makes "
        f"it. Which of them has it is what initial scales make of it.",
    )
    page.answer(
        "Does it need several heads?",
        f"One head trained from scratch has a top-1 of {said('k')} (d_head 128) and {said('k32')} (d_head 32) at 15 "
        f"labels; the best head of four, kept after training, {said('k_pruned')} (the best two of four, less all four: "
        f"{said('k_pair')}); one head kept after 3,000 steps and retrained {said('k_retrained')}, the best of the four "
        f"{said('k_best')}. Eight heads of 32 less one: {said('k_more')}. {one_head(study)} What a random search over one-head "
        f"models finds is below.",
    )
    page.answer(
        "Where does the gradient form in depth, and what is causal?",
        f"With two vision layers top-1 at 25 labels is {said('l_top1')}; at 5 labels depth changes it by {said('l_few')}. "
        f"Of layer 1's gradient {said('l')} is gone without that of layer 0 (three layers: {said('l3')}), and steadiness over "
        f"labels changes by {said('l_steady')} from layer 0 to layer 1. EP + PP + BP of layer 0 at zero "
        f"changes order by {said('l_first')}, of layer 1 by {said('l_last')}; of both, order is {said('l_zero')}. The "
        f"strongest path between two heads changes it by {said('l_path')}. {deciding(study)} {together(study)}",
    )
    page.answer(
        "How is right-of solved?",
        f"With one text layer order is {said('j_one')} ({said('j_one_few')} at 5 labels), with two {said('j')} (right-of "
        f"{said('j_right')}). What a head of layer 0 tells one of layer 1, the strongest of 16 such paths, changes it by "
        f"{said('j_path')} if it is told of the caption with its labels exchanged, by {said('j_path_word')} if of the one with the "
        f"other word. {turning(study)} {telling(study)}",
    )
    page.answer(
        "Which kind of position offers generalisation at fewer labels?",
        f"Rotary positions reach a top-1 of {said('rope')} at 15 labels, and at 5 {said('rope_few')} more than learned ones; EB + "
        f"BB at zero changes their order by {said('rope_pi')}. Without CLS's row of P, EP at zero changes it by {said('no_cls')}. "
        f"Fixed sinusoids reach {said('sinusoidal')}, ALiBi {said('alibi_top1')} (PP at zero: {said('alibi')}); without positions "
        f"order is {said('none')}. {transfer(study)}",
    )


def afterwards(study: Study) -> str:
    """What was asked of training without EP after its run, and so is no claim."""
    part = "training_ablation"
    if not study.has(part):
        return ""
    wait, never = waits(study, part), format_share(reached(study, part, "EP=0").isnull())
    without = lambda metric, n: format_interval(at(metric, n, gates="EP=0", less={"gates": NONE})(study, part), signed=True)
    lost = lambda term, n, gates: format_interval(zeroed(term, ORDER, n, gates=gates)(study, part), signed=True)
    return (
        f"Found after the run: without EP {never} models never reach an order of .8 at 15 labels, and the median "
        f"wait of all is {np.median(wait):.0f} steps; the label set changes by {without(SET, 5)} at 5 labels and by "
        f"{without(SET, 25)} at 25, top-1 by {without(TOP1, 5)} and {without(TOP1, 25)}; PP at zero then changes order by "
        f"{lost('PP', N, 'EP=0')} at 15 labels, and PE at zero by {lost('PE', N, 'EP=0')} (trained with EP: "
        f"{lost('PE', N, NONE)}). With EP and PP off BP at zero changes it by {lost('BP', 25, 'EP+PP=0')} at 25."
    )


def one_head(study: Study) -> str:
    """How one head of SPEC's settings attends, to be compared with those that the search finds."""
    if not study.has("heads"):
        return ""
    own = rows_with(study.answer("heads", "strongest"), n_heads=1, d_head=0, n_labels=N)
    size, spread = format_interval(abs(own["position_gradient"])), format_interval(own["label_spread"])
    return f"The one head of 128 has a gradient of {size} and a label spread of {spread} at 15 labels."


def turning(study: Study) -> str:
    """In how many models of two text layers a head of the second turns to one label for one word, to the other for the other: how
    right-of is solved. Asked after the run, and so no claim.
    """
    if not study.has("left_right"):
        return ""
    own = rows_with(study.answer("left_right", "text"), n_layers_text=2, layer=1, n_labels=N, set="heldout")
    left, right = (select(own, own["word"] == f"{word}-of") for word in ("left", "right"))  # rows of both: models, then heads
    first = left["prefers_first"] >= text.WHATEVER, right["prefers_first"] >= text.WHATEVER
    second = left["prefers_first"] <= 1 - text.WHATEVER, right["prefers_first"] <= 1 - text.WHATEVER
    turns = first[0] & second[1] | second[0] & first[1]
    turning_models = np.isin(np.unique(left["model"]), left["model"][turns])
    return (
        f"Found after the run: in {format_share(turning_models)} models of 15 labels a head of layer 1 "
        f"prefers the label named first in {text.WHATEVER:.0%} or more of the held-out captions with one word, and the one named "
        f"second in as many with the other."
    )


def telling(study: Study) -> str:
    """How the strongest path of each model tells the word: whether it does, and through what. Asked after the run."""
    if not study.has("left_right"):
        return ""
    own = rows_with(study.answer("left_right", "text_paths"), n_layers_text=2, n_labels=N, exchanged="word")
    by_via = {via: select(own, own["via"] == via)["change"] for via in ("both", "pattern", "values")}  # rows of all: models, paths
    models = groups(select(own, own["via"] == "both"), ("model",)).values()
    strongest = [rows[by_via["both"][rows].argmin()] for rows in models]
    change = {via: changes[strongest] for via, changes in by_via.items()}
    return (
        f"Told the other word, the strongest path costs a tenth of the order or more in {format_share(change['both'] <= -0.1)} of "
        f"them; it changes order by {format_interval(change['pattern'], signed=True)} through the pattern and by "
        f"{format_interval(change['values'], signed=True)} through the values."
    )


def transfer(study: Study) -> str:
    """With what the order of rotary models goes, over models: their vision's gradient, or how steady text is over labels. Asked
    after the run, and so no claim.
    """
    from scipy.stats import spearmanr

    if not study.has("positions"):
        return ""
    lost = lambda term: format_interval(zeroed(term, ORDER, N, "text_variant", positions="rotary")(study, "positions"), signed=True)
    told = []
    for n in (N, 25):
        where = {"n_labels": n, "positions": "rotary"}
        order, steady, ratio = xr.align(  # answers lack models that diverged
            of(study.models("positions"), ORDER, **where),
            per_model(study.answer("positions", "text_layers"), "steadiness", np.max, **where),
            of(study.answer("positions", "strongest"), "ratio", **where),
        )
        told.append(f"{spearmanr(order, steady)[0]:.2f} ({n} labels; with vision's ratio {spearmanr(order, ratio)[0]:.2f})")
    return (
        "Found after the run: both towers are rotary. Rank correlation, over models, of order with how steady over held-out labels "
        f"the steadiest head of text tells first from second: {' and '.join(told)}. EE of text at zero changes order by "
        f"{lost('EE')}, EB + BB of text by {lost('EB+BB')}, at 15 labels."
    )


def deciding(study: Study) -> str:
    """In how many deep models which layers decide: without their EP + PP + BP at most KEPT is left of the order that goes with that
    of all layers. Asked after the run, and so no claim.
    """
    if not study.has("depth"):
        return ""
    told = []
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
        told.append(
            f"{n_layers} layers, N = {n}: "
            + ", ".join(f"{layers} in {count}" for layers, count in sorted(counts.items()))
            + f" (order without that of any layer: {nothing})"
        )
    return (
        f"Found after the run: which layer's gradient it is without which at most {KEPT} is left of the order that those of all "
        f"layers make. {'; '.join(told)}."
    )


def together(study: Study) -> str:
    """Where a gradient of the last layer could compound: models whose last layer has one, and another layer too. Asked after the
    run.
    """
    if not study.has("depth"):
        return ""
    told, layers = [], study.answer("depth", "layers")
    for n_layers, n in groups(layers, ("n_layers_vision", "n_labels")):
        if n_layers == 1:
            continue
        size = np.array(xr.align(*greatest(layers, n_layers, n)))
        both = (size[-1] > 1) & (size[:-1] > 1).any(0)
        gone = ", ".join(f"{share:.3f}" for share in np.asarray(compounds(n_layers, n)(study, "depth"))[both])
        told.append(
            f"{n_layers} layers, N = {n}: {both.sum()} of {size.shape[1]}" + f" (of the last's is gone: {gone})" * bool(gone)
        )
    return f"Models whose last layer and another have a gradient above 1: {'; '.join(told)}."
