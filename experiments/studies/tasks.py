"""Other worlds: one table of all sweeps of `study.TASKS`, answers in plain words, verdicts and figures, as a page."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import xarray as xr

from experiments.studies.build import how, verdict_table
from experiments.studies.claims import ORDER, SET, TOP1
from experiments.studies.contrasts import KEPT, at, kept
from experiments.studies.page import RULE, Page
from experiments.studies.sections import answered, section, summary, trained
from experiments.studies.study import Study
from experiments.studies.task_claims import CHAIN, CLAIMS, FEW, MANY, NAMED, POSITION, SIZES, ablations, asked, taken
from lrjax.analysis.gradient import GENERALISES
from lrjax.config import Model
from lrjax.data import tasks
from lrjax.data.scenes import Scene
from lrjax.data.tasks.pairs import Pairs
from lrjax.kinds import OBJECTIVES
from lrjax.metrics import I2T, SHOWN, Metric, of_table
from lrjax.models.clip import n_parameters, param_shapes
from lrjax.plotting import encoders as figures
from lrjax.plotting import tasks as task_figures
from lrjax.plotting.style import CONDITIONS, shrink
from lrjax.stats import (
    ACCURACY,
    Table,
    conditions,
    format_interval,
    format_share,
    groups,
    mean_interval,
    select,
    varying,
    write_csv,
)

TITLES = {
    "grid": "Grids",
    "grid_words": "Grids with four words",
    "grid_objects": "Objects and patches of several pixels",
    "grid_layouts": "Objects and patches for longer, in more layouts",
    "three": "Three objects",
    "three_hard": "Three objects with hard negatives",
    "supervision": "Explicit supervision",
    "supervision_alone": "Supervision alone",
    "autoregressive": "Autoregressive readers",
    "autoregressive_wide": "A reader of CLIP's size",
    "losses": "SigLIP and hard negatives",
    "caption_noise": "Noisy captions",
    "nearer": "Nearer to the middle",
    "zipf": "Unbalanced labels",
    "distractors": "Distractors",
}
RATIO = {"directions": "ratio_least", "strongest": "ratio"}  # answer -> its |gradient| over label spread; readers have none
TOLD: dict[str, tuple[str, str]] = dict.fromkeys(("three", "three_hard"), (CHAIN, f"{CHAIN}_order"))
TOLD |= {"supervision_alone": ("unseen_pair_order_told", "unseen_pair_order_told")}
OWN_NAMES = {CHAIN: "chain", "unseen_pair_order_told": "pair_order_told"}  # of these, as the table has them
SETS = {"three": f"{CHAIN}_label_set", "three_hard": f"{CHAIN}_label_set", "supervision_alone": None}  # where it is not `SET`
SETS |= dict.fromkeys(("autoregressive", "autoregressive_wide"), NAMED)
OF_CHAINS = {f"{CHAIN}_order": "order of chains", CHAIN: "top-1 of chains", f"{CHAIN}_label_set": "label set of chains"}
MEASURED = {  # what figures of accuracies show where it is not SHOWN
    "three": OF_CHAINS,
    "three_hard": OF_CHAINS,
    "supervision_alone": {"unseen_pair_order_told": "order told", "unseen_pair_place": "places told"},
}
IN_SET = f"N = {MANY}, in set"  # a column: among the captions of the set alone
WIDE = 200  # d_model of configs/autoregressive_wide.py
CHANCE = (
    "Chance: order .5, also told by a head or by likelihood. Top-1 among the C captions of a model with A = N + 5 labels and R "
    "words, C = A + R A (A - 1): the number of true ones over C (1 with one word); label set 2 R / C; in text -> image the share "
    "of a set's images of which a caption is true. Three objects: a pair 3 / (A + A (A - 1)), its label set twice that, and of "
    "an image's three labels a pair names two at most; a chain 1 / (A (A - 1) (A - 2)), its label set six times that. In set: "
    "among the captions of unseen pairs alone C = 20 R, among those of unseen chains 60. A place: "
    "1 in their number, and .5 for a head that sees both places and not which is whose. Greedy decoding, which may say any "
    "token, is below 1 / C. A task generalises from N on if the mean of its measure over seeds is .8 or more there and at more "
    "labels; ablations and the gradient are asked of the seeds whose order is .8 or more. Accuracies are means of the last "
    "three evaluations, ablations are of the last parameters: a model near .8 may be below it in one and above in the other."
)
NOTES = {
    "grid": (
        "EP beside PP and BP, and their sum: CLS stands at one place, so E_cls and P_0 enter as their sum in one block,"
        " and how the gradient divides between EP and PP is a convention of initial scales (see the gauge in the main "
        "report). It is so in every task. With one text layer a caption is a sum of what its word and each of its labels say, so "
        "left and above cannot take different sides: where one object is left of and below the other, one of two is wrong."
    ),
    "grid_layouts": (
        "Asked after the sweep before: twice its steps, and ten times its layouts a pair. Up to step 3,000 models of 20 layouts "
        "are those of that sweep, but for rounding."
    ),
    "three": (
        "Seen triples are a fixed sample of 1,024, unseen ones every sixth layout with its mirror image. Of the chain's wrong "
        "orders yxz and xzy confuse two neighbours, zyx three pairs."
    ),
    "supervision": (
        "The head learns in full whatever the weight, which is what the encoder feels: at weight 0 it is a probe of CLIP's "
        "embedding. It has a row of its own for every label, and learns that of a held-out label from images of one object, which "
        "never ask it to tell one object from the other. What it is told of trained pairs in new layouts is the control."
    ),
    "three_hard": (
        "Asked after the sweep without them, where names are learned and order is not: a batch hardly ever has a caption of the "
        "same labels in another order. A chain's negative is the chain reversed, zyx, one of five wrong ones."
    ),
    "autoregressive": (
        "Seen pairs are a fixed sample of 2,048. A reader has a gauge of its own: the token that begins a caption "
        "stands at one place too. What a vision encoder's tokens know of their place is P's in the reader too, patterns of the "
        "vision encoder as they are. Terms at zero are those of words that look at image tokens, so with them goes how much words "
        "look at images at all: a reader that is blind has an order of .5 too, and tells no labels apart. `named` asks that, in "
        "place of the label set: whether the true caption is likelier than with one label exchanged for one that is not seen, held "
        "out if it is held out (chance .5). Greedy decoding may say anything, retrieval chooses among captions: compare order "
        "rather than top-1 with CLIP's (its row: unbalanced labels, zipf = 0). The gradient is judged by order alone."
    ),
    "losses": (
        "Captions of a batch that are equal are no negatives of one another here (`mask_repeats`): at 5 labels each is there six "
        "times, and SigLIP would take the repeats for wrong. That alone makes a difference: CLIP as it is counts repeats, as in "
        "all other sweeps. At 5 labels the swapped captions are in the batch anyway. SigLIP without hard negatives does not "
        "generalise, so that more labels add less to it says nothing on what it needs."
    ),
}
# Questions, and answers with verdicts by key, of N = 25 unless said.
ANSWERS = {
    "Two dimensions: a gradient across and one down, in different heads?": (
        "4 x 4 grids reach a top-1 of {g}; the position gradient at zero leaves an order of {g_zero}. Its part "
        "across at zero leaves {g_across} of left and changes above by {g_across_keeps}; its part down leaves "
        "{g_down} of above and changes left by {g_down_keeps}. Heads keep to one direction with "
        "{g_apart} of their gradient (by chance .67); the strongest two are different in {g_heads} of models (by "
        "chance .75). Objects of 1, 2, 3 pixels a side reach a top-1 of {go_size_1}, {go_size_2}, "
        "{go_size_3}, seen by patches of their size {go_size_2_patch_2} (2) and {go_size_3_patch_3} (3). "
        "Of objects of 2 x 2 the part across at zero leaves {go_2_across} of left and changes above by "
        "{go_2_across_keeps}. Twice the steps change the order of patches of 2 x 2 by {gl_patch_steps}, ten times "
        "the layouts by {gl_patch_layouts} (asked after the run)."
    ),
    "Three objects?": (
        "Captions of pairs reach {t_pair}, chains {t_chain}; EP at zero changes the order of chains by "
        "{t_ep}, EP + PP + BP leave {t_zero}. With hard negatives (asked after the run) chains reach "
        "{th_chain}, and EP + PP + BP at zero leave an order of {th_zero}."
    ),
    "How much of the generalisation comes from the contrastive loss?": (
        "Without it, a head that is told where objects are knows the order of {sa_told} of unseen pairs at 5 labels, "
        "{sa_share} more than with it; a probe of CLIP's embedding knows that of {s_probe} at 25, and of "
        "{s_seen_probe} of trained pairs in new layouts: it does not carry over to labels that it saw alone. Supervision "
        "changes top-1 by {s_few} at 5 labels and by {s_many} at 25, and alone it makes a gradient that is 2 to "
        "the {sa_gradient} times CLIP's over label spread."
    ),
    "Autoregressive models?": (
        "A reader of a vision encoder's tokens decodes {a} of unseen pairs right, one of raw tokens {a_raw}, of "
        "CLIP's size {a_wide}: labels that were only seen alone they say alone, in {a_alone} and "
        "{a_raw_alone} of images. But likelihood tells what they see: their order by it is {a_order}, "
        "{a_raw_order} and {a_wide_order}. With EP + PP + BP at zero, where words look at the image, it is "
        "{a_zero} and {a_raw_zero} (labels told apart: {a_set} and {a_raw_set}). "
        "The gradient turns with the word in {a_gradient} and {a_raw_gradient} of models. At 5 labels order "
        "is above CLIP's by {a_clip_order} with a vision encoder and by {a_wide_clip} at CLIP's size "
        "without."
    ),
    "Does the need for label diversity go away?": (
        "At 5 labels CLIP's loss with hard negatives, repeats masked, reaches a top-1 of {h_few}; what 25 labels add to "
        "that of 5 changes by {h_need} with hard negatives, and by {slh_need} with SigLIP too. SigLIP alone is "
        "at {sl} at 25 labels."
    ),
    "Noise and nuisances?": (
        "Order is {n_10} with a tenth of the captions wrong and {n_30} with three tenths. Unbalanced labels "
        "(z = 1) change top-1 by {z_1} and order by {z_order}. With four distractors top-1 is {d_4}."
    ),
}


def build(study: Study, folder: Path, seconds: Table | None) -> list[Path]:
    """Write tasks.html, tasks.md, tasks.csv (verdicts), tasks/*.csv (accuracies by condition; `all`: the table) and figures."""
    page = Page("Other worlds: does the mechanism survive outside the one-dimensional testbed?")
    page.text(
        "A task gives scenes, captions, splits and questions; encoders, sweeps and analyses are the same. Verdicts as in the main "
        "report: a 95 % interval over seeds against a threshold that was in the code before the run. What was not learned cannot "
        f"be taken away: ablations are judged by the seeds that do it right in .8 of cases or more without. {RULE}",
        "quiet",
    )
    verdicts = answered(page, study, CLAIMS, ANSWERS)
    page.heading("All of them in one table")
    rows = table(study)
    if rows:
        write_csv(folder / "tasks" / "all.csv", {name: np.array([row[name] for row in rows]) for name in rows[0]})
        page.table(list(rows[0]), [list(map(str, row.values())) for row in rows])
    page.text(CHANCE, "quiet")
    for part in trained(page, study, TITLES, "make tasks"):
        page.text(note(part), "quiet")
        models = study.models(part)
        accuracies = summary(models, conditions(models, CONDITIONS), special(models))
        section(page, part, drawn(study, part, folder / "figures"), verdicts, accuracies, folder / "tasks")
    how(page, "`make tasks` makes all of this.", seconds)
    write_csv(folder / "tasks.csv", verdict_table(verdicts))
    return [*page.write(folder, "tasks.md", "tasks.html"), folder / "tasks.csv"]


def note(part: str) -> str:
    """What a reader must know of a sweep."""
    if part == "grid_objects":
        counts = ", ".join(f"{true_captions(task, 'left+above'):.2f} ({size})" for size, task in SIZES.items())
        return f"One object has 36 places, with patches 49. Captions that are true of an image of two: {counts}."
    if part == "zipf":
        names = ", ".join(f"{effective_labels(z, MANY):.1f} (z = {z:g})" for z in (0.0, 0.5, 1.0, 1.5))
        return f"How many equally frequent labels 25 are worth (exp of the entropy): {names}."
    more = ""
    if part == "autoregressive":
        more = " Parameters at 25 labels: " + ", ".join(f"{name} {n:,}" for name, n in parameters().items()) + "."
    return NOTES.get(part, "") + more


def true_captions(text: str, relations: str) -> float:
    """How many captions are true of an image of two objects, on average over layouts."""
    task = tasks.make(text, n_heldout=5, n_labels_max=MANY, L=10, relations=relations)
    i, j = task.layouts.T
    scenes = Scene(np.zeros_like(i), np.ones_like(i), i, j)
    # in one program, and fetched: nothing moves between host and device unasked (JAX_TRANSFER_GUARD)
    assert isinstance(task, Pairs)
    return float(jax.device_get(jax.jit(lambda: task.relations_of(scenes)[2].sum(0).mean())()))


def effective_labels(z: float, n: int) -> float:
    """exp of the entropy of labels 1..n that occur as r^-z."""
    p = np.arange(1, n + 1.0) ** -z
    p /= p.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def table(study: Study) -> list[dict[str, str]]:
    """A row per task and condition: mean top-1 over seeds by N, at most labels in set too, and from how many labels on it
    generalises; how much it still rose in the last 30 % of training; then `mechanism`.
    """
    rows = []
    for part in TITLES:
        if not study.has(part):
            continue
        models = study.models(part)
        axes = varying(models, CONDITIONS)
        metric = TOLD.get(part, (TOP1, ORDER))[0]
        for key, index in groups(models, axes).items():
            where = dict(zip(axes, key, strict=True))
            own = select(models, index)
            by_n = {n: np.nanmean(own[metric][i]) for (n,), i in sorted(groups(own, ("n_labels",)).items())}
            generalises = [n for n in by_n if all(value >= GENERALISES for other, value in by_n.items() if other >= n)]
            row = {"task": TITLES[part], "condition": ", ".join(f"{name}={value}" for name, value in where.items())}
            row["measure"] = SHOWN.get(metric) or OWN_NAMES[metric]
            row |= {f"N = {n}": f"{by_n[n]:.2f}" if n in by_n else "" for n in (FEW, 15, MANY)}
            in_set = own.get(f"{metric}_in_set", np.full(len(index), np.nan))[own["n_labels"] == MANY]
            row[IN_SET] = "" if np.isnan(in_set).all() else f"{np.nanmean(in_set):.2f}"
            row["generalises from N"] = "-" if len(by_n) == 1 else str(generalises[0]) if generalises else "none"
            row["rose at the end"] = f"{np.nanmean(asked('rise', metric, MANY, **where)(study, part)):+.2f}"
            rows.append(row | mechanism(study, part, where))
    if not any(row[IN_SET] for row in rows):  # tables of an older version
        rows = [{name: cell for name, cell in row.items() if name != IN_SET} for row in rows]
    return rows


def mechanism(study: Study, part: str, where: dict) -> dict[str, str]:
    """The last columns of `table`, at N = 25: order; what EP, and all of the position gradient, at zero change in it and in the
    label set; in how many of the models that order (.8 or more) the gradient is there: above the label spread, and carrying order;
    their share has Wilson's interval.
    """
    metric, label_set = TOLD.get(part, (TOP1, ORDER))[1], SETS.get(part, SET)
    order = at(metric, MANY, **where)(study, part)
    row = {"order": format_interval(order, within=ACCURACY)}
    for name, terms in {"EP at zero": "EP", "EP + PP + BP at zero": POSITION}.items():
        for what, measure in {"order": metric, "label set": label_set}.items():
            change = taken(terms, measure, of=metric, **where)(study, part) if measure else np.array([np.nan])
            row[f"{name}: {what}"] = "not learned" if np.isnan(change).all() else format_interval(change, signed=True)
    left = kept(POSITION, MANY, metric, answer=ablations(part), **where)(study, part)
    assert isinstance(left, xr.DataArray)  # by seed
    left = left.dropna("seed")
    there = abs(left) <= KEPT
    source = next((answer for answer in RATIO if answer in study.parts[part].answers), None)
    ratio = "" if source else "; order alone"
    if source and len(left):
        spread = asked(source, RATIO[source], MANY, **where)(study, part)
        assert isinstance(spread, xr.DataArray)
        there = there & (spread > 1)
        mean, low, high = mean_interval(spread.sel(seed=there["seed"]))  # of the same models
        ratio = f"; over label spread {mean:.1f} [{low:.1f}, {high:.1f}]"
    return row | {"gradient": f"in {format_share(there)}{ratio}"}


def special(models: Table) -> tuple[str, ...]:
    """The other generalisations, and the accuracies that a task has beside the usual ones: by word, of chains, told by a head."""
    own = [metric.column for metric in of_table(models) if metric.direction == I2T and is_special(metric)]
    return "single", "seen_pair", *(name for name in own if not np.isnan(models[name]).all())


def is_special(metric: Metric) -> bool:
    """Whether a metric is one that few tasks have, of what `special` lists."""
    of_head = metric.measure in ("order_told", "place")
    if metric.set == "seen_pair":
        return of_head
    of_pairs = metric.set == "unseen_pair" and (bool(metric.word) or of_head or metric.measure in ("named", "alone"))
    return of_pairs or metric.set == CHAIN


def parameters() -> dict[str, int]:
    """How many parameters a model of 25 labels trains, by objective. A reader of raw tokens has no use for its vision encoder."""
    params = {objective: param_shapes(Model(n_labels=MANY, objective=objective)) for objective in OBJECTIVES}
    raw = {"autoregressive_raw": params["autoregressive_raw"].text}
    wide = Model(n_labels=MANY, objective="autoregressive_raw", d_model=WIDE)
    raw[f"autoregressive_raw, d_model = {WIDE}"] = param_shapes(wide).text
    return {name: n_parameters(tree) for name, tree in (params | raw).items()}


def drawn(study: Study, part: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, caption) of the figures of a sweep."""
    models, title = study.models(part), TITLES[part]
    axes = varying(models, CONDITIONS) or ("n_labels",)
    draw = lambda name, figure, *args: shrink(figure(*args), folder / f"tasks_{part}{name}.png")
    caption = f"{title}: mean over seeds, 95 % interval, seeds as dots. `make sweep CONFIG=experiments/configs/{part}.py`"
    shown = MEASURED.get(part, SHOWN)
    yield draw("", figures.conditions, models, axes, f"{title}: unseen", shown, "accuracy, unseen"), caption
    answers = study.parts[part].answers
    if "strongest" in answers:
        measure = {"ratio": "|gradient| over label spread"}
        args = study.answer(part, "strongest"), axes, f"{title}: the best head", measure, measure["ratio"]
        yield draw("_gradient", figures.conditions, *args), "Is the gradient there? `experiments.gradient`"
    if "grid_maps" in answers:
        yield (
            draw("_taken", task_figures.taken, study.answer(part, "grid_ablate")),
            "What each direction of the gradient does. `experiments.ablate_ep`",
        )
        yield draw("_directions", task_figures.directions, study.answer(part, "grid_heads")), "In which heads? `experiments.grid`"
        yield draw("_maps", task_figures.maps, study.answer(part, "grid_maps")), "The scores by position. `experiments.grid`"
    if "looks" in answers:
        yield draw("_looks", task_figures.looks, study.answer(part, "looks")), "Where a reader looks. `experiments.reader`"
