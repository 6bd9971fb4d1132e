"""Other encoders: claims on each sweep of `study.ENCODERS`, with thresholds fixed before the runs but for two that say so, and
their page.

Rows j, k, l, r and rotary of SPEC's table are the paper's; the others are ours (`paper` is empty).
"""

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
from lrjax.report.claims import INF, ORDER, SET, TOP1, Claim, N, Verdict, judge, stated
from lrjax.report.contrasts import (
    at,
    compounds,
    differs_in_size,
    kept,
    kept_alone,
    reached,
    share,
    steadier,
    strongest_path,
    waits,
    zeroed,
)
from lrjax.report.page import Page
from lrjax.report.sections import section, summary, trained
from lrjax.report.study import Study
from lrjax.stats import Table, format_interval, groups, mean_interval, read_csv, select, write_csv

RETRAINED, LATE = "EP=1>0@2000-2500", "EP=0>1@3000-3001"
CLAIMS: tuple[Claim, ...] = tuple(
    Claim(key, finding, paper, contrast, low, high, values, part)
    for part, rows in {
        "training_ablation": (
            ("ta_ep", "EP off from the first step: order is learned all the same", "", "order", 0.8, 1, at(ORDER, gates="EP=0")),
            ("ta_ep_share", "EP off from the first step: PP carries the gradient", "",
             "share of PP", 0.5, 1.5, share("PP", gates="EP=0")),
            ("ta_ep_wait", "EP off from the first step: order comes no later", "",
             "steps to order .8, less those with EP (never: 6,000)", -300, 300, waits),
            ("ta_ep_5", "EP off from the first step, 5 labels: order as with it", "", "change of order, N = 5", -0.1, 1,
             at(ORDER, 5, gates="EP=0", less={"gates": NONE})),
            ("ta_ep_25", "EP off from the first step, 25 labels: order as with it", "", "change of order, N = 25", -0.1, 1,
             at(ORDER, 25, gates="EP=0", less={"gates": NONE})),
            ("ta_ep_pp", "EP and PP off: order is learned all the same", "", "order", 0.8, 1, at(ORDER, gates="EP+PP=0")),
            # written after the run, in place of BP's share of the gradient, which is 1 of necessity
            ("ta_ep_pp_bp", "EP and PP off: BP takes over (asked after the run)", "", "change of order with BP at zero", -1, -0.15,
             zeroed("BP", ORDER, gates="EP+PP=0")),
            ("ta_all", "EP, PP and BP off: order stays near chance", "", "order", 0.45, 0.6, at(ORDER, gates="EP+PP+BP=0")),
            ("ta_all_set", "EP, PP and BP off: labels are named", "", "label set", 0.8, 1, at(SET, gates="EP+PP+BP=0")),
            ("ta_vp", "VP off: order is learned all the same", "", "order", 0.8, 1, at(ORDER, gates="VP=0")),
            ("ta_head", "EP off in one head: nothing is lost", "", "change of top-1", -0.1, 1,
             at(TOP1, gates="vision.h0:EP=0", less={"gates": NONE})),
            ("ta_anneal", "EP annealed away from step 2,000: the order is back by step 6,000", "", "change of order", -0.1, 1,
             at(ORDER, gates=RETRAINED, less={"gates": NONE})),
            ("ta_late", "EP on from step 3,000: PP keeps more than half of the gradient", "", "share of EP", -0.2, 0.5,
             share("EP", gates=LATE)),
        ),
        "heads": (
            ("k", "One head trained from scratch fails (App K)", "fails", "top-1, n_heads = 1, d_head = 128", 0, 0.65,
             at(TOP1, n_heads=1, d_head=0)),
            ("k32", "One head of d_head = 32 from scratch fails (App K)", "fails",
             "top-1, n_heads = 1, d_head = 32", 0, 0.65, at(TOP1, n_heads=1, d_head=32)),
            ("k_more", "More heads help (d_head = 32)", "", "top-1 at 8 heads less 1", 0.05, 1,
             at(TOP1, n_heads=8, d_head=32, less={"n_heads": 1, "d_head": 32})),
        ),
        "pruned": (
            ("k_retrained", "One head kept and retrained fails (App K)", "fails", "top-1, mean over the head kept", 0, 0.65,
             kept_alone(False)),
            ("k_best", "The best head kept and retrained fails (App K)", "fails",
             "top-1 of the best head kept, by model", 0, 0.65, kept_alone(True)),
        ),
        "left_right": (
            ("j_one", "Left+right captions: one text layer is at chance (App J)", "chance", "order, one text layer", 0.45, 0.6,
             at(ORDER, n_layers_text=1)),
            ("j_one_left", "One text layer: left-of by itself is at chance too", "", "order of left-of, one text layer", 0.45, 0.6,
             at(f"{ORDER}_left", n_layers_text=1)),
            ("j_one_right", "One text layer: and so is right-of", "", "order of right-of, one text layer", 0.45, 0.6,
             at(f"{ORDER}_right", n_layers_text=1)),
            ("j_right", "Two text layers learn right-of", "", "order of right-of, two text layers", 0.8, 1,
             at(f"{ORDER}_right", n_layers_text=2)),
            ("j", "Left+right captions: two text layers learn them (App J)", "yes", "order, two text layers", 0.8, 1,
             at(ORDER, n_layers_text=2)),
            ("j_path", "Two text layers: some path between two heads carries a tenth of the order", "",
             "greatest loss of order by one path, labels exchanged", -1, -0.1, strongest_path("text_paths", N, n_layers_text=2)),
            # written after the run: what labels exchanged cannot show, that the word is told
            ("j_path_word", "Two text layers: some path tells the word (asked after the run)", "",
             "greatest loss of order by one path, the other word", -1, -0.1,
             strongest_path("text_paths", N, "word", n_layers_text=2)),
        ),
        "depth": (
            ("l", "Gradients compound in two-layer vision (App L)", "left open",
             "share of layer 1's gradient that is gone without that of layer 0, N = 25", 0.2, INF, compounds(2)),
            ("l3", "Gradients compound in three layers (App L)", "left open",
             "share of layer 2's gradient that is gone without that of layer 0, N = 25", 0.2, INF, compounds(3)),
            ("l_steady", "Two layers: the second's gradient is the steadier over labels", "",
             "steadiness |mean| / sd over labels of s_j - s_i, best head of layer 1 less layer 0, N = 25", 0.1, INF, steadier(2)),
            ("l_top1", "Two layers generalise at 25 labels", "", "top-1, N = 25", 0.8, 1, at(TOP1, 25, n_layers_vision=2)),
            ("l_few", "Depth helps at 5 labels", "", "top-1 at N = 5, two layers less one", 0.05, 1,
             at(TOP1, 5, n_layers_vision=2, less={"n_layers_vision": 1})),
            ("l_zero", "Two layers: EP + PP + BP at zero in both is chance", "", "order, N = 25", 0.45, 0.55,
             zeroed("EP+PP+BP", ORDER, 25, "by_layer", False, n_layers_vision=2)),
            ("l_first", "Two layers: EP + PP + BP of the first is causal", "", "change of order, N = 25", -1, -0.1,
             zeroed("vision.L0:EP+PP+BP=0", ORDER, 25, "by_layer", n_layers_vision=2)),
            ("l_path", "Two layers: some path between two heads carries a tenth of the order", "",
             "change of order by the strongest path, N = 25", -1, -0.1, strongest_path("paths", 25, n_layers_vision=2)),
            ("l_last", "Two layers: EP + PP + BP of the last is causal", "", "change of order, N = 25", -1, -0.1,
             zeroed("vision.L1:EP+PP+BP=0", ORDER, 25, "by_layer", n_layers_vision=2)),
        ),
        "norm_mlp": (
            ("r", "LayerNorm and MLP modify the mechanism (App R): EP", "yes",
             "|difference| in the share of order that EP at zero leaves, full block and neither", 0.1, INF,
             differs_in_size(kept("EP", layer_norm=True, mlp_ratio=4), kept("EP", layer_norm=False, mlp_ratio=0))),
            ("r_sum", "LayerNorm and MLP modify the mechanism (App R): EP + PP + BP", "yes",
             "|difference| in the share of order that EP + PP + BP at zero leave, full block and neither", 0.1, INF,
             differs_in_size(kept("EP+PP+BP", layer_norm=True, mlp_ratio=4),
                             kept("EP+PP+BP", layer_norm=False, mlp_ratio=0))),
            ("r_top1", "The full block generalises", "", "top-1", 0.8, 1, at(TOP1, layer_norm=True, mlp_ratio=4)),
            ("r_zero", "The full block: the position gradient at zero is chance", "", "order", 0.45, 0.6,
             zeroed("EP+PP+BP", ORDER, change=False, layer_norm=True, mlp_ratio=4)),
            ("r_frozen", "Frozen or not, LayerNorm's scale decides nothing", "",
             "order with EP + PP + BP at zero, scales recomputed less frozen", -0.05, 0.05,
             lambda study, part: zeroed("EP+PP+BP", ORDER, change=False, layer_norm=True, mlp_ratio=4)(study, part)
             - zeroed("EP+PP+BP", ORDER, N, "variant_frozen", False, layer_norm=True, mlp_ratio=4)(study, part)),
        ),
        "norm_depth": (
            ("rd_frozen", "LayerNorm in two layers: frozen or not, its scale decides nothing", "",
             "order with EP + PP + BP of layer 0 at zero, scales recomputed less frozen", -0.05, 0.05,
             lambda study, part: zeroed("vision.L0:EP+PP+BP=0", ORDER, N, "by_layer", False, n_layers_vision=2)(study, part)
             - zeroed("vision.L0:EP+PP+BP=0", ORDER, N, "by_layer_frozen", False, n_layers_vision=2)(study, part)),
        ),
        "positions": (
            ("rope", "Rotary positions generalise", "yes", "top-1", 0.8, 1, at(TOP1, positions="rotary")),
            ("rope_pi", "Rotary: the bias-position term EB + BB at zero takes the order away", "yes", "change of order", -1, -0.15,
             zeroed("EB+BB", ORDER, positions="rotary")),
            ("rope_few", "Rotary positions generalise at fewer labels", "", "top-1 at N = 5, rotary less learned", 0.05, 1,
             at(TOP1, 5, positions="rotary", less={"positions": "learned"})),
            ("no_cls", "Without CLS's position PP is gone: EP at zero takes the order", "", "change of order", -1, -0.3,
             zeroed("EP", ORDER, positions="learned_no_cls")),
            ("sinusoidal", "Fixed sinusoids generalise", "", "top-1", 0.8, 1, at(TOP1, positions="sinusoidal")),
            ("alibi", "A linear bias, given, is used: PP at zero takes the order away", "", "change of order", -1, -0.15,
             zeroed("PP", ORDER, positions="alibi")),
            ("alibi_top1", "A linear bias, given, generalises", "", "top-1", 0.8, 1, at(TOP1, positions="alibi")),
            ("none", "Without positions order is chance", "", "order", 0.49, 0.51, at(ORDER, positions="none")),
        ),
        "width": (
            ("width", "A model of width 32 generalises", "", "top-1, d_model = 32, d_head = 8", 0.8, 1,
             at(TOP1, d_model=32, d_head=8)),
            ("width_16", "A model of width 16 does not", "", "top-1, d_model = 16, d_head = 8", 0, 0.65,
             at(TOP1, d_model=16, d_head=8)),
        ),
    }.items()
    for key, finding, paper, contrast, low, high, values in rows
)  # fmt: skip

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
        f"strongest path between two heads changes it by {said('l_path')}.",
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
    axis, table = AXES[part][0], study.answer(part, answer)
    rows = []
    for key, index in groups(table, ("n_labels", axis)).items():
        found = depth.causal(select(table, index), encoder)
        write_csv(folder / "encoders" / f"{part}_causes_{axis}{key[1]}_N{key[0]}.csv", found)
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
