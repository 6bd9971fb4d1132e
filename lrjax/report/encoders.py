"""Other encoders: answers in plain words, verdicts, tables and figures of the sweeps of `study.ENCODERS`, as a page."""

import collections
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lrjax.analysis import depth, one_head
from lrjax.analysis.gradient import carried
from lrjax.clip import n_parameters, shaped
from lrjax.config import Model
from lrjax.figures import encoders as figures
from lrjax.figures.style import shrink
from lrjax.gates import NONE
from lrjax.report import search
from lrjax.report.build import how, verdict_table
from lrjax.report.claims import ORDER, SET, TOP1, N, Verdict, judge, stated
from lrjax.report.contrasts import KEPT, at, kept, reached, waits, zeroed
from lrjax.report.encoder_claims import CLAIMS
from lrjax.report.page import Page
from lrjax.report.sections import section, summary, trained
from lrjax.report.study import Study
from lrjax.stats import Table, format_interval, groups, mean_interval, read_csv, select, write_csv

TITLES = {
    "training_ablation": "Training without EP",
    "heads": "Number and size of heads",
    "pruned": "Pruned and retrained",
    "left_right": "Left-of and right-of",
    "depth": "Depth",
    "norm_mlp": "LayerNorm and MLP",
    "norm_depth": "LayerNorm in depth",
    "positions": "Kinds of position",
    "width": "Width",
}
AXES = {
    "training_ablation": ("gates",),
    "heads": ("n_heads", "d_head"),
    "pruned": ("gates",),
    "left_right": ("n_layers_text",),
    "depth": ("n_layers_vision",),
    "norm_mlp": ("layer_norm", "mlp_ratio"),
    "norm_depth": ("n_layers_vision",),
    "positions": ("positions",),
    "width": ("d_model", "d_head"),
}


def build(study: Study, folder: Path, seconds: Table | None, searched: Path) -> list[Path]:
    """Write encoders.html, encoders.md, encoders.csv (verdicts), encoders/*.csv (accuracies by condition) and figures."""
    page = Page("Other encoders: is the gradient a property of one block, or of attention?")
    page.text(
        "Every variant is a configuration of the same encoder. Verdicts as in the main report: a 95 % interval over seeds against "
        "a threshold that was in the code before the run, where it does not say otherwise. N = 15 unless said. Each sweep holds "
        "its own baseline, so contrasts are paired by seed.",
        "quiet",
    )
    verdicts = {claim.key: [judge(claim, study, claim.part)] for claim in CLAIMS}
    three_questions(page, verdicts, study)
    for part in trained(page, study, TITLES, "make encoders"):
        models = study.models(part)
        words = tuple(name for name in (f"{ORDER}_left", f"{ORDER}_right") if name in models)
        table = summary(models, ("n_labels", *AXES[part]), words)
        section(page, part, drawn(study, part, folder / "figures"), verdicts, table, folder / "encoders")
        if part == "width":
            page.text(smallest(models))
        for answer in study.parts[part].answers:
            if answer.startswith(("variant", "by_layer")):
                ablated(page, study, part, answer, folder)
        for encoder, answer in {"depth": {"vision": "each"}, "left_right": {"text": "text_each"}}.get(part, {}).items():
            causes(page, study, part, encoder, answer, folder)
    one_head_section(page, searched, folder)
    how(page, "`make encoders` makes all of this.", seconds)
    write_csv(folder / "encoders.csv", verdict_table(verdicts))
    return [*page.write(folder, "encoders.md", "encoders.html"), folder / "encoders.csv"]


def afterwards(study: Study) -> str:
    """What was asked of training without EP after its run, and so is no claim."""
    part = "training_ablation"
    if not study.has(part):
        return ""
    wait, never = waits(study, part), int(np.isnan(reached(study, part, "EP=0")).sum())
    without = lambda metric, n: format_interval(at(metric, n, gates="EP=0", less={"gates": NONE})(study, part), signed=True)
    lost = lambda term, n, gates: format_interval(zeroed(term, ORDER, n, gates=gates)(study, part), signed=True)
    return (
        f"Found after the run: without EP {never} of {len(wait)} models never reach an order of .8 at 15 labels, and the median "
        f"wait of all is {np.median(wait):.0f} steps; the label set changes by {without(SET, 5)} at 5 labels and by "
        f"{without(SET, 25)} at 25, top-1 by {without(TOP1, 5)} and {without(TOP1, 25)}; PP at zero then changes order by "
        f"{lost('PP', N, 'EP=0')} at 15 labels. With EP and PP off BP at zero changes it by {lost('BP', 25, 'EP+PP=0')} at 25."
    )


def three_questions(page: Page, verdicts: dict[str, list[Verdict]], study: Study) -> None:
    """What the sweeps say: numbers, in plain words that hold whatever they are."""
    said = lambda key: stated(verdicts[key][0])
    page.answer(
        "Trained without EP, which term takes over?",
        f"With EP off from the first step order at 15 labels is {said('ta_ep')}, and PP has {said('ta_ep_share')} of the gradient; "
        f"order changes by {said('ta_ep_5')} at 5 labels and by {said('ta_ep_25')} at 25. With PP off too order is "
        f"{said('ta_ep_pp')}, and BP at zero changes it by {said('ta_ep_pp_bp')}; with EP, PP and BP off it is {said('ta_all')} "
        f"(label set {said('ta_all_set')}): no score depends on position alone, and what is left is in the values. Annealed away "
        f"from step 2,000, order changes by {said('ta_anneal')}. {afterwards(study)} Mind the gauge: with one vision block E_cls "
        f"and P_0 enter as their sum, so EP off leaves the same gradient to PP, with the CLS vector in P_0. Which of them has it "
        f"is what initial scales make of it.",
    )
    page.answer(
        "Does it need several heads?",
        f"One head trained from scratch has a top-1 of {said('k')} (d_head 128) and {said('k32')} (d_head 32) at 15 "
        f"labels; one head kept after 3,000 steps and retrained {said('k_retrained')}, the best of the four "
        f"{said('k_best')}. Eight heads of 32 less one: {said('k_more')}. What a random search over one-head models finds "
        f"is below.",
    )
    page.answer(
        "Where does the gradient form in depth, and what is causal?",
        f"With two vision layers top-1 at 25 labels is {said('l_top1')}; at 5 labels depth changes it by {said('l_few')}. "
        f"Of layer 1's gradient {said('l')} is gone without that of layer 0 (three layers: {said('l3')}), and steadiness over "
        f"labels changes by {said('l_steady')} from layer 0 to layer 1. EP + PP + BP of layer 0 at zero "
        f"changes order by {said('l_first')}, of layer 1 by {said('l_last')}; of both, order is {said('l_zero')}. The "
        f"strongest path between two heads changes it by {said('l_path')}. {deciding(study)}",
    )
    page.answer(
        "How is right-of solved?",
        f"With one text layer order is {said('j_one')}, with two {said('j')} (right-of {said('j_right')}). What a head of layer 0 "
        f"tells one of layer 1 changes it by {said('j_path')} if it is told of the caption with its labels exchanged, by "
        f"{said('j_path_word')} if of the one with the other word: what goes from layer to layer is the word.",
    )


def deciding(study: Study) -> str:
    """In how many deep models which layers decide: without their EP + PP + BP at most KEPT of the order above chance is left. Asked
    after the run, and so no claim.
    """
    if not study.has("depth"):
        return ""
    told = []
    for n_layers, n in groups(study.answer("depth", "by_layer"), ("n_layers_vision", "n_labels")):
        if n_layers == 1:
            continue
        counts, where = collections.Counter(), {"answer": "by_layer", "n_layers_vision": n_layers}
        left = [kept(f"vision.L{layer}:EP+PP+BP=0", n, **where)(study, "depth") for layer in range(n_layers)]
        for of_model in np.array(left).T:
            counts[" and ".join(f"layer {layer}" for layer in np.flatnonzero(of_model <= KEPT)) or "no layer"] += 1
        told.append(f"{n_layers} layers, N = {n}: " + ", ".join(f"{layers} in {count}" for layers, count in sorted(counts.items())))
    return (
        f"Found after the run: without which layer's gradient at most {KEPT} of the order above chance is left. {'; '.join(told)}."
    )


def smallest(models: Table) -> str:
    """The model of fewest parameters that generalises at N = 15: the lower end of its top-1's interval is above .8."""
    at_n = select(models, models["n_labels"] == N)
    found = []
    for (d_model, d_head), rows in groups(at_n, ("d_model", "d_head")).items():
        mean, low, high = mean_interval(at_n[TOP1][rows])
        if low > one_head.GENERALISES:
            found.append(
                (n_parameters(shaped(Model(n_labels=N, d_model=d_model, d_head=d_head))), d_model, d_head, mean, low, high)
            )
    if not found:
        return f"None of these generalises at N = {N}: no interval of top-1 lies above {one_head.GENERALISES}."
    size, d_model, d_head, mean, low, high = min(found)
    return (
        f"The smallest that generalises at N = {N} (all of its interval above {one_head.GENERALISES}) has d_model = {d_model}, "
        f"d_head = {d_head}, {size:,} parameters: top-1 {mean:.2f} [{low:.2f}, {high:.2f}]. d_embed and initial scales are the "
        "same at all widths."
    )


def ablated(page: Page, study: Study, part: str, answer: str, folder: Path) -> None:
    """What an ablation does in each condition: on the page at 15 labels (or the most there are), at all in a CSV."""
    table, by = study.answer(part, answer), ("n_labels", *AXES[part], "ablation")
    none = {model: i for i, model in enumerate(table["model"].tolist()) if table["ablation"][i] == NONE}
    base = [none[model] for model in table["model"].tolist()]
    change = lambda metric, rows: format_interval((table[metric] - table[metric][base])[rows], signed=True)
    lines = [
        [*key, format_interval(table[ORDER][rows]), change(ORDER, rows), change(SET, rows)]
        for key, rows in groups(table, by).items()
    ]
    header = [*by, "order", "change of order", "change of label set"]
    write_csv(folder / "encoders" / f"{part}_{answer}.csv", dict(zip(header, map(np.array, zip(*lines, strict=True)), strict=True)))
    n = N if N in table["n_labels"] else table["n_labels"].max()
    frozen = ", scales of LayerNorm frozen" if answer.endswith("frozen") else ""
    page.text(f"Terms at zero in vision{frozen}, N = {n}: mean over models [95 % interval].")
    page.table(header[1:], [[str(cell) for cell in line[1:]] for line in lines if line[0] == n])


def causes(page: Page, study: Study, part: str, encoder: str, answer: str, folder: Path) -> None:
    """Which single (layer, head, term) is causal, by depth and N: of each model the head that costs most."""
    page.text(
        f"Single ablations in {encoder}: change of order when one term of one head of one layer is zero, of each model's head that "
        "costs most (the least of four, so below 0 even where heads are noise); and what that does to the label set. Mean over "
        "models [95 % interval]; the ten greatest."
    )
    axis, rows = AXES[part][0], []
    table = depth.causal(study.answer(part, answer), encoder, ("n_labels", axis))
    write_csv(folder / "encoders" / f"{part}_causes.csv", table)
    for key, index in groups(table, ("n_labels", axis)).items():
        found = select(table, index)
        by_term = groups(found, ("layer", "term"))
        for (layer, term), own in sorted(by_term.items(), key=lambda item: np.nanmean(found[ORDER][item[1]]))[:10]:
            rows.append([*map(str, key), str(layer), term, *(format_interval(found[m][own], signed=True) for m in (ORDER, SET))])
    page.table(["n_labels", axis, "layer", "term", "order", "label set"], rows)


def drawn(study: Study, part: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, caption) of the figures of a sweep."""
    models, title = study.models(part), TITLES[part]
    draw = lambda name, figure, *args: shrink(figure(*args, folder / f"encoders_{name}.png"))
    caption = f"{title}: mean over seeds, 95 % interval, seeds as dots. `make sweep CONFIG=experiments/configs/{part}.py`"
    yield draw(part, figures.accuracies, models, AXES[part], title), caption
    if part == "training_ablation":
        yield draw("order_in_training", figures.order_in_training, study.history(part)), "The same in training: how fast."
        found = carried(study.answer(part, "strongest"))
        yield draw("shares", figures.shares, found, AXES[part]), "Which term has the gradient. `experiments.training_ablation`"
    if part == "depth":
        yield draw("layers", figures.layers, study.answer(part, "layers")), "Where the gradient forms. `experiments.depth`"
        yield draw("paths", figures.paths, study.answer(part, "paths")), "Which path is causal. `experiments.depth`"
    if part == "left_right":
        yield draw("text_paths", figures.paths, study.answer(part, "text_paths")), "Paths in text. `experiments.left_right`"


def one_head_section(page: Page, found_in: Path, report: Path) -> None:
    """What the search for one head found; its tables go to `report`."""
    page.heading("Can one head in one layer succeed?")
    if not (found_in / "full.csv").is_file():
        page.text("Not tested: the search was not made yet (`make encoders ARGS=--only=one_head`).")
        return
    found = {name: found_in / f"{name}.csv" for name in ("screen", "full", "confirm", "how")}
    tables = {name: read_csv(path) for name, path in found.items() if path.is_file()}
    for name, table in tables.items():
        write_csv(report / "encoders" / f"one_head_{name}.csv", table)
    figure = figures.search(tables["screen"], tables["full"], one_head.RANGES, report / "figures" / "encoders_one_head.png")
    screened, trained_in_full = (len(tables[name]["model"]) for name in ("screen", "full"))
    caption = f"{screened} configurations screened, the best {trained_in_full} trained in full. `python -m experiments.one_head`"
    page.figure(shrink(figure), caption)
    succeed = lambda name, column=TOP1: int((tables[name][column] > one_head.GENERALISES).sum())
    page.text(
        f"Of {screened} configurations drawn at random {search.said(tables['screen'][TOP1])} (share, 95 % interval) have a top-1 "
        f"above {one_head.GENERALISES} at some evaluation of the screening. Of the best {trained_in_full} by then, picked, so that "
        f"no interval is due, {succeed('full')} have it at their best step of a full training, {succeed('full', 'at_the_end')} at "
        f"the last."
    )
    if "confirm" in tables:
        t = tables["confirm"]
        rows = [[f"{column[i]:.3g}" for column in t.values()] for i in range(len(t["step"]))]
        page.table([*t], rows)
    if "how" in tables:
        page.text(
            "How: the fresh seeds at the last step, those that generalise there beside those that do not (mean [95 % interval], "
            "over seeds and configurations)."
        )
        page.table(*search.how(tables["how"]))
