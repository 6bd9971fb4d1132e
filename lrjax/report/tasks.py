"""Other worlds: claims on each sweep of `study.TASKS`, with thresholds fixed before the runs, their table, and their page."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lrjax.analysis.gradient import GENERALISES
from lrjax.clip import n_parameters, shaped
from lrjax.config import OBJECTIVES, Model
from lrjax.evaluate import MEASURES
from lrjax.figures import encoders as figures
from lrjax.figures import worlds
from lrjax.figures.style import shrink
from lrjax.report.build import how, verdict_table
from lrjax.report.claims import INF, ORDER, SET, TOP1, Claim, judge, of
from lrjax.report.contrasts import Values, at, zeroed
from lrjax.report.page import Page
from lrjax.report.sections import section, summary, trained
from lrjax.report.study import Study
from lrjax.stats import Table, format_interval, groups, mean_interval, select, write_csv

FEW, MANY = 5, 25
LEFT, ABOVE, CHAIN = "unseen_pair_order_left", "unseen_pair_order_above", "unseen_chain"
POSITION = "EP+PP+BP"


def grown(metric: str = TOP1, **where) -> Values:
    """An accuracy at many labels less that at few, paired by seed."""
    return lambda study, part: at(metric, MANY, **where)(study, part) - at(metric, FEW, **where)(study, part)


def asked(answer: str, column: str, n: int = MANY, **where) -> Values:
    """A column of an answer."""
    return lambda study, part: of(study.answer(part, answer), column, n_labels=n, **where)


def gradient_present(n: int, **where) -> Values:
    """|position gradient| over label spread of each model's best head."""
    return asked("strongest", "ratio", n, **where)


def against_clip(n: int, **where) -> Values:
    """Top-1 less that of CLIP (softmax, no hard negatives) with the same seeds."""

    def values(study, part):
        return at(TOP1, n, **where)(study, part) - at(TOP1, n, pair_loss="softmax", hard_negatives=False)(study, "losses")

    return values


LEARNED = {"positions": "learned"}
CLAIMS: tuple[Claim, ...] = tuple(
    Claim(key, finding, paper, contrast, low, high, values, part)
    for part, rows in {
        "grid": (
            ("g", "4 x 4 grids generalise at 25 labels", "replicates", "top-1, N = 25", 0.8, 1, at(TOP1, MANY, **LEARNED)),
            ("g_labels", "Grids: label diversity drives it", "replicates", "top-1, N = 25 less N = 5", 0.1, 1, grown(**LEARNED)),
            ("g_ep", "Grids: EP at zero takes order away and keeps the set", "replicates", "change of order, N = 25", -1, -0.15,
             zeroed("EP", ORDER, MANY, "grid_ablate", **LEARNED)),
            ("g_ep_set", "Grids: EP at zero keeps the label set", "replicates", "change of label set, N = 25", -0.1, 1,
             zeroed("EP", SET, MANY, "grid_ablate", **LEARNED)),
            ("g_zero", "Grids: the position gradient at zero is chance", "", "order with EP + PP + BP at zero, N = 25", 0.45, 0.6,
             zeroed(POSITION, ORDER, MANY, "grid_ablate", False, **LEARNED)),
            ("g_across", "Its part across at zero takes left-of away", "", "order of left-of, N = 25", 0.45, 0.6,
             zeroed(f"across {POSITION}", LEFT, MANY, "grid_ablate", False, **LEARNED)),
            ("g_across_keeps", "and leaves above", "", "change of order of above, N = 25", -0.1, 1,
             zeroed(f"across {POSITION}", ABOVE, MANY, "grid_ablate", **LEARNED)),
            ("g_down", "Its part down at zero takes above away", "", "order of above, N = 25", 0.45, 0.6,
             zeroed(f"down {POSITION}", ABOVE, MANY, "grid_ablate", False, **LEARNED)),
            ("g_down_keeps", "and leaves left-of", "", "change of order of left-of, N = 25", -0.1, 1,
             zeroed(f"down {POSITION}", LEFT, MANY, "grid_ablate", **LEARNED)),
            ("g_apart", "The two gradients are in different heads", "", "|own| / (|own| + |other|), N = 25", 0.8, 1,
             asked("directions", "apart", **LEARNED)),
            ("g_rows", "Embeddings of rows and columns help", "", "top-1 at N = 15, rows and columns less one a token", 0.05, 1,
             at(TOP1, 15, positions="row_column", less=LEARNED)),
        ),
        "grid_words": (
            ("gw_one", "Four words: one text layer is at chance", "", "order, N = 25", 0.45, 0.6, at(ORDER, MANY, n_layers_text=1)),
            ("gw", "Four words: two text layers learn them", "replicates", "order, N = 25", 0.8, 1,
             at(ORDER, MANY, n_layers_text=2)),
        ),
        "grid_objects": tuple(
            (f"go_{size.translate(str.maketrans('=,', '__'))}", f"Objects and patches of several pixels ({size}) generalise", "",
             "top-1, N = 25", 0.8, 1, at(TOP1, MANY, task=f"grid:height=6,width=6,{size}"))
            for size in ("size=2", "size=3", "size=2,patch=2", "size=3,patch=3")
        ),
        "three": (
            ("t_pair", "Three objects: captions of pairs generalise", "replicates", "top-1 (3 captions are true), N = 25", 0.8, 1,
             at(TOP1, MANY)),
            ("t_chain", "Three objects: chains generalise", "", "top-1 of chains, N = 25", 0.8, 1, at(CHAIN, MANY)),
            ("t_labels", "Three objects: label diversity drives it", "replicates", "top-1 of chains, N = 25 less N = 5", 0.1, 1,
             grown(CHAIN)),
            ("t_ep", "Three objects: EP at zero takes order away", "", "change of the order of chains, N = 25", -1, -0.15,
             zeroed("EP", f"{CHAIN}_order", MANY, "chain_ablate")),
            ("t_zero", "Three objects: the position gradient at zero is chance", "", "order of chains, N = 25", 0.45, 0.6,
             zeroed(POSITION, f"{CHAIN}_order", MANY, "chain_ablate", False)),
            ("t_errors", "Neighbours are confused more than ends", "",
             "order against x, z exchanged less against neighbours exchanged, N = 25", 0.02, 1,
             lambda study, part: at(f"{CHAIN}_order_zyx", MANY)(study, part)
             - (at(f"{CHAIN}_order_yxz", MANY)(study, part) + at(f"{CHAIN}_order_xzy", MANY)(study, part)) / 2),
        ),
        "supervision": (
            ("s_few", "Supervision helps at 5 labels", "", "top-1, weight 1 less 0, N = 5", 0.05, 1,
             at(TOP1, FEW, supervision=1.0, less={"supervision": 0.0})),
            ("s_many", "and does not hurt at 25", "", "top-1, weight 1 less 0, N = 25", -0.05, 1,
             at(TOP1, MANY, supervision=1.0, less={"supervision": 0.0})),
            ("s_gradient", "Supervision makes the gradient greater against label spread", "",
             "|gradient| over label spread, weight 1 less 0, N = 5", 0, INF,
             lambda study, part: gradient_present(FEW, supervision=1.0)(study, part)
             - gradient_present(FEW, supervision=0.0)(study, part)),
            ("s_ep", "With supervision EP at zero still takes order away", "", "change of order, weight 1, N = 25", -1, -0.15,
             zeroed("EP", ORDER, MANY, "task_ablate", supervision=1.0)),
        ),
        "supervision_alone": (
            ("sa_told", "Supervision alone: the head knows the order of unseen pairs at 5 labels", "", "order told, N = 5", 0.8, 1,
             at("unseen_pair_order_told", FEW)),
            ("sa_zero", "Supervision alone: the position scores at zero are chance", "", "order told with them at zero, N = 25",
             0.45, 0.6, zeroed(POSITION, "unseen_pair_order_told", MANY, "task_ablate", False)),
            ("sa_share", "The contrastive loss adds nothing to it", "", "order told, alone less with it, N = 5", -0.05, 1,
             lambda study, part: at("unseen_pair_order_told", FEW)(study, part)
             - at("unseen_pair_order_told", FEW, supervision=1.0)(study, "supervision")),
            ("sa_gradient", "Supervision alone makes the gradient", "", "|gradient| over label spread, N = 5", 1, INF,
             gradient_present(FEW)),
        ),
        "autoregressive": (
            ("a", "A reader of a vision encoder's tokens generalises at 25 labels (App O)", "replicates", "greedy decoding, N = 25",
             0.8, 1, at(TOP1, MANY, objective="autoregressive")),
            ("a_labels", "A reader: label diversity drives it (App O)", "replicates", "greedy decoding, N = 25 less N = 5", 0.1, 1,
             grown(objective="autoregressive")),
            ("a_raw", "A reader of raw tokens generalises at 25 labels", "", "greedy decoding, N = 25", 0.8, 1,
             at(TOP1, MANY, objective="autoregressive_raw")),
            ("a_ep", "EP of the reader at zero takes order away", "", "change of order, N = 25", -1, -0.15,
             zeroed("EP", ORDER, MANY, "reader_ablate", objective="autoregressive_raw")),
            ("a_zero", "The reader's position gradient at zero is chance", "", "order with EP + PP + BP at zero, N = 25", 0.45, 0.6,
             zeroed(POSITION, ORDER, MANY, "reader_ablate", False, objective="autoregressive_raw")),
            ("a_look", "A head looks left when the first label is to be said", "", "share of images, best head, N = 25", 0.8, 1,
             asked("reading", "looks_left", objective="autoregressive_raw")),
            ("a_clip", "A reader needs fewer labels than CLIP", "", "top-1 at N = 5 less CLIP's", 0.05, 1,
             against_clip(FEW, objective="autoregressive")),
        ),
        "losses": (
            ("sl", "SigLIP generalises at 25 labels", "", "top-1, N = 25", 0.8, 1,
             at(TOP1, MANY, pair_loss="sigmoid", hard_negatives=False)),
            ("sl_few", "SigLIP needs label diversity as CLIP does", "", "top-1, N = 25 less N = 5", 0.1, 1,
             grown(pair_loss="sigmoid", hard_negatives=False)),
            ("h_few", "Hard negatives do away with the need for diversity", "", "top-1 at N = 5", 0.8, 1,
             at(TOP1, FEW, pair_loss="softmax", hard_negatives=True)),
            ("h_order", "Hard negatives help order at 5 labels", "", "order at N = 5, with less without", 0.02, 1,
             at(ORDER, FEW, pair_loss="softmax", hard_negatives=True, less={"pair_loss": "softmax", "hard_negatives": False})),
        ),
        "caption_noise": (
            ("n_10", "One caption in ten is wrong: order is learned all the same", "", "order, N = 25", 0.8, 1,
             at(ORDER, MANY, caption_noise=0.1)),
            ("n_30", "Three in ten: order is learned all the same", "", "order, N = 25", 0.8, 1,
             at(ORDER, MANY, caption_noise=0.3)),
            ("n_gradient", "Noise makes the gradient smaller against label spread", "", "the ratio, p = .3 less 0", -INF, 0,
             lambda study, part: gradient_present(MANY, caption_noise=0.3)(study, part)
             - gradient_present(MANY, caption_noise=0.0)(study, part)),
        ),
        "nearer": (
            ("near", "A relation without left and right generalises too", "", "top-1, N = 25", 0.8, 1, at(TOP1, MANY)),
            ("near_zero", "and the position scores at zero are chance", "", "order with EP + PP + BP at zero, N = 25", 0.45, 0.6,
             zeroed(POSITION, ORDER, MANY, "task_ablate", False)),
            ("near_gradient", "but there is no left-right gradient", "", "|gradient| over label spread, N = 25", 0, 0.5,
             gradient_present(MANY)),
        ),
        "zipf": (
            ("z_1", "Unbalanced labels (z = 1) cost top-1", "", "top-1, z = 1 less 0, N = 25", -1, -0.05,
             at(TOP1, MANY, zipf=1.0, less={"zipf": 0.0})),
            ("z_order", "and leave order", "", "order, z = 1 less 0, N = 25", -0.05, 1,
             at(ORDER, MANY, zipf=1.0, less={"zipf": 0.0})),
        ),
        "distractors": (
            ("d_4", "Four distractors: generalises at 25 labels", "", "top-1, N = 25", 0.8, 1,
             at(TOP1, MANY, task="row:distractors=4")),
            ("d_gradient", "Four distractors: the gradient is there", "", "|gradient| over label spread, N = 25", 1, INF,
             gradient_present(MANY, task="row:distractors=4")),
        ),
    }.items()
    for key, finding, paper, contrast, low, high, values in rows
)  # fmt: skip

TITLES = {
    "grid": "Grids",
    "grid_words": "Grids with four words",
    "grid_objects": "Objects and patches of several pixels",
    "three": "Three objects",
    "supervision": "Explicit supervision",
    "supervision_alone": "Supervision alone",
    "autoregressive": "Autoregressive readers",
    "losses": "SigLIP and hard negatives",
    "caption_noise": "Noisy captions",
    "nearer": "Nearer to the middle",
    "zipf": "Unbalanced labels",
    "distractors": "Distractors",
}
AXES = {
    "grid": ("positions",),
    "grid_words": ("n_layers_text",),
    "grid_objects": ("task",),
    "supervision": ("supervision",),
    "autoregressive": ("objective",),
    "losses": ("pair_loss", "hard_negatives"),
    "caption_noise": ("caption_noise",),
    "zipf": ("zipf",),
    "distractors": ("task",),
}
ABLATED = {"grid": "grid_ablate", "grid_words": "grid_ablate", "grid_objects": "grid_ablate", "autoregressive": "reader_ablate"}
ABLATED |= {"three": "chain_ablate"}
PRESENT = {  # which answer says whether the gradient is there, and in which column
    **dict.fromkeys(("grid", "grid_words", "grid_objects"), ("directions", "ratio_least")),
    "autoregressive": ("reading", "looks_left"),
}
TOLD = {"three": (CHAIN, f"{CHAIN}_order"), "supervision_alone": ("unseen_pair_order_told", "unseen_pair_order_told")}
CHANCE = (
    "Chance: order .5, also told by a head or by likelihood. Top-1 among the C captions of a model with A = N + 5 "
    "labels and R words, C = A + R A (A - 1): the number of true ones over C, 1 with one word, 1.6 with left and above;"
    " label set 2 R / C; in text -> image 1 in the number of images of a set. Three objects: a pair 3 / (A + A (A - "
    "1)), its label set twice that, and of an image's three labels a pair names two at most; a chain 1 / (A (A - 1) (A "
    "- 2)), its label set six times that. A place: 1 in their number. Greedy decoding, which may say any token, is "
    "below 1 / C."
)
NOTES = {
    "grid": (
        "EP beside PP and BP, and their sum: CLS stands at one place, so E_cls and P_0 enter as their sum in one block,"
        " and how the gradient divides between EP and PP is a convention of initial scales (see the gauge in the main "
        "report). It is so in every task."
    ),
    "grid_objects": (
        "Sizes differ in more than size: of 630, 228 and 30 layouts for sides of 1, 2 and 3 pixels 20 are trained, and "
        "8 of 36, 25 and 16 places."
    ),
    "three": ("Seen triples are a fixed sample of 1,024, unseen ones every sixth layout."),
    "autoregressive": (
        "Seen pairs are a fixed sample of 2,048. A reader has a gauge of its own: the token that begins a caption "
        "stands at one place too."
    ),
}


def build(study: Study, folder: Path, seconds: Table | None) -> list[Path]:
    """Write tasks.html, tasks.md, tasks.csv (verdicts), tasks/*.csv (accuracies by condition; `all`: the table) and figures."""
    page = Page("Other worlds: does the mechanism survive outside the one-dimensional testbed?")
    page.text(
        "A task gives scenes, captions, splits and questions; encoders, sweeps and analyses are the same. Verdicts as in the main "
        "report: a 95 % interval over seeds against a threshold that was in the code before the run.",
        "quiet",
    )
    page.heading("All of them in one table")
    rows = table(study)
    if rows:
        write_csv(folder / "tasks" / "all.csv", {name: np.array([row[name] for row in rows]) for name in rows[0]})
        page.table(list(rows[0]), [list(map(str, row.values())) for row in rows])
    page.text(CHANCE, "quiet")
    verdicts = {claim.key: [judge(claim, study, claim.part)] for claim in CLAIMS}
    for part in trained(page, study, TITLES, "make tasks"):
        if part in NOTES:
            page.text(NOTES[part], "quiet")
        models = study.models(part)
        accuracies = summary(models, ("n_labels", *AXES.get(part, ())), special(models))
        section(page, part, drawn(study, part, folder / "figures"), verdicts, accuracies, folder / "tasks")
        if part == "autoregressive":
            page.text("Parameters at 25 labels: " + ", ".join(f"{name} {n:,}" for name, n in parameters().items()) + ".", "quiet")
    how(page, "`make tasks` makes all of this.", seconds)
    write_csv(folder / "tasks.csv", verdict_table(verdicts))
    return [*page.write(folder, "tasks.md", "tasks.html"), folder / "tasks.csv"]


def table(study: Study) -> list[dict[str, str]]:
    """A row per task and condition: from how many labels on it generalises (mean top-1 over seeds), what EP and all of the position
    gradient at zero change in the order at the most labels, and whether the gradient is there.
    """
    rows = []
    for part in TITLES:
        if not study.has(part):
            continue
        models, axes = study.models(part), AXES.get(part, ())
        for key, index in groups(models, axes).items():
            where = dict(zip(axes, key, strict=True))
            own = select(models, index)
            metric = TOLD.get(part, (TOP1, ORDER))[0]
            by_n = {n: np.nanmean(own[metric][i]) for (n,), i in sorted(groups(own, ("n_labels",)).items())}
            generalises = [n for n in by_n if all(value >= GENERALISES for other, value in by_n.items() if other >= n)]
            row = {"task": TITLES[part], "condition": ", ".join(f"{name}={value}" for name, value in where.items())}
            row["measure"] = MEASURES.get(metric, metric.removeprefix("unseen_"))
            row |= {f"N = {n}": f"{by_n[n]:.2f}" if n in by_n else "" for n in (FEW, 15, MANY)}
            row["generalises from N"] = str(generalises[0]) if generalises else "none"
            rows.append(row | mechanism(study, part, where))
    return rows


def mechanism(study: Study, part: str, where: dict) -> dict[str, str]:
    """The last columns of `table`."""
    metric = TOLD.get(part, (TOP1, ORDER))[1]
    lost = lambda terms: zeroed(terms, metric, MANY, ABLATED.get(part, "task_ablate"), **where)(study, part)
    names = {"EP at zero: order": "EP", "EP + PP + BP at zero: order": POSITION}
    change = {name: format_interval(lost(terms), signed=True) for name, terms in names.items()}
    answer, column = PRESENT.get(part, ("strongest", "ratio"))
    found = asked(answer, column, MANY, **where)(study, part)
    there = {"looks_left": "looks left, share of images"}.get(column, "gradient over label spread")
    mean, low, high = mean_interval(found)
    return change | {"gradient": f"{there} {mean:.2f} [{low:.2f}, {high:.2f}]"}


def special(models: Table) -> tuple[str, ...]:
    """The accuracies on unseen pairs that a task has beside the usual ones: by word, of chains, told by a head."""
    begin = ("unseen_pair_order_", "unseen_chain", "unseen_pair_place")
    return tuple(name for name in models if name.startswith(begin) and "t2i" not in name and not np.isnan(models[name]).all())


def parameters() -> dict[str, int]:
    """How many parameters a model of 25 labels trains, by objective. A reader of raw tokens has no use for its vision encoder."""
    params = {objective: shaped(Model(n_labels=MANY, objective=objective)) for objective in OBJECTIVES}
    params["autoregressive_raw"] = params["autoregressive_raw"].text
    return {objective: n_parameters(tree) for objective, tree in params.items()}


def drawn(study: Study, part: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, caption) of the figures of a sweep."""
    models, title, axes = study.models(part), TITLES[part], AXES.get(part, ("n_labels",))
    draw = lambda name, figure, *args: shrink(figure(*args, folder / f"tasks_{part}{name}.png"))
    caption = f"{title}: mean over seeds, 95 % interval, seeds as dots. `make sweep CONFIG=experiments/configs/{part}.py`"
    yield draw("", figures.accuracies, models, axes, title), caption
    answers = study.parts[part].answers
    if "strongest" in answers:
        measure = {"ratio": "|gradient| over label spread"}
        args = study.answer(part, "strongest"), axes, f"{title}: the best head", measure, measure["ratio"]
        yield draw("_gradient", figures.conditions, *args), "Is the gradient there? `experiments.gradient`"
    if "grid_maps" in answers:
        yield draw("_directions", worlds.directions, study.answer(part, "grid_heads")), "In which heads? `experiments.grid`"
        yield draw("_maps", worlds.maps, study.answer(part, "grid_maps")), "The scores by position. `experiments.grid`"
    if "looks" in answers:
        yield draw("_looks", worlds.looks, study.answer(part, "looks")), "Where a reader looks. `experiments.reader`"
