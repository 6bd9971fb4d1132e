"""The paper's claims as contrasts with thresholds, and the verdict on each: fixed here, before any run.

A claim takes one value a model (a paired contrast where it compares; a truth value where it is about a share of models), and the
interval on which the paper's statement lies. Its verdict by SPEC: **agrees**, the 95 % interval of the mean (`stats.mean_interval`)
is on the paper's side; **differs**, it is wholly on the other side; **undecided**, it straddles; **not tested**, nothing was
measured. Claims of our own (`paper` is empty) are judged by the same rule.

Default labels of a contrast: N = 15, as in the paper's figures.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from experiments.studies.study import Study
from lrjax.ablations import described
from lrjax.analysis.decompose import LEARNED
from lrjax.analysis.gradient import carried, onsets, prediction, scale_ratio
from lrjax.analysis.regime import in_order
from lrjax.errors import InputError
from lrjax.gates import NONE
from lrjax.stats import ACCURACY, BOOTSTRAP, Table, cut, interval_text, joined, mean_interval, rule, select, total, undiverged

N = 15
NO_MODEL = "no model qualifies"  # what a page says of a claim if no model is what the claim is about
INF = float("inf")


class Estimate(NamedTuple):
    """A statistic that is no mean over models: its value, 95 % interval, number of models, and the rule of the interval."""

    value: float
    low: float
    high: float
    n: int
    rule: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """`values(study, part)`: one number a model, or one truth value where the claim is about a share of models. `part`: the sweep
    that the claim is asked of, or None if it is asked of every variant of the baseline (the default, paper_like).

    The paper's side is low <= mean <= high, -INF and INF where it has no end. A side between 0 and 1 is of an accuracy or a share,
    which lies there whatever is found: its 0 and 1 are no thresholds.
    """

    key: str
    finding: str
    paper: str
    contrast: str
    low: float
    high: float
    values: Callable[[Study, str], np.ndarray | xr.DataArray | Estimate] | None
    part: str | None = None
    note: str = ""

    @property
    def within(self) -> tuple[float, float] | None:
        """The ends of the scale, where intervals are cut for people: those of accuracies and shares; None of anything else."""
        return ACCURACY if self.low >= 0 and self.high <= 1 else None

    @property
    def thresholds(self) -> tuple[float, float]:
        """The ends of the paper's side that an interval can pass."""
        if self.within is None:
            return self.low, self.high
        return -INF if self.low == 0 else self.low, INF if self.high == 1 else self.high


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was measured of a claim: mean, 95 % interval (not cut), number of models, the verdict, and the rule of the interval."""

    claim: Claim
    part: str
    mean: float
    low: float
    high: float
    n: int
    verdict: str
    rule: str = ""
    missing: str = "not measured"  # why there is no value, where n is 0

    @property
    def shown(self) -> tuple[float, float]:
        """The interval for people: cut at the ends of the scale."""
        return cut((self.low, self.high), self.claim.within)


def judge(claim: Claim, study: Study, part: str | None = None) -> Verdict:
    """The verdict on a claim in one sweep."""
    sweep = part or claim.part or ""
    nothing = Verdict(claim, sweep, np.nan, np.nan, np.nan, 0, "not tested")
    if claim.values is None:
        return nothing
    try:
        values = claim.values(study, sweep)
    except NoModel:
        return dataclasses.replace(nothing, missing=NO_MODEL)
    except InputError:  # the sweep or the answer is not there
        return nothing
    if not isinstance(values, Estimate):
        values = np.asarray(values)
        values = Estimate(*mean_interval(values), int((~np.isnan(values)).sum()), rule(values))
    if values.n == 0:
        return dataclasses.replace(nothing, missing=NO_MODEL)
    return Verdict(claim, sweep, *values[:4], verdict_of(claim, values.low, values.high), values.rule)


def verdict_of(claim: Claim, low: float, high: float) -> str:
    """On which side of a claim an interval lies. A single number has none (NaN)."""
    least, most = claim.thresholds
    if least <= low and high <= most:
        return "agrees"
    return "differs" if high < least or low > most else "undecided"


def stated(verdict: Verdict) -> str:
    """`0.87 [0.86, 0.89]`, for a sentence."""
    if not verdict.n:
        return f"({verdict.missing})"
    return interval_text(verdict.mean, *verdict.shown, digits=2) + (" (one model)" if verdict.n == 1 else "")


def interval_of(verdict: Verdict) -> str:
    """`0.870 [0.860, 0.890]`, for a table."""
    return interval_text(verdict.mean, *verdict.shown) if verdict.n else verdict.missing


# ---- what is read from the tables, by seed: a difference is of the seeds that both have (answers lack diverged models) ----


class NoModel(InputError):
    """A table is there, and none of its models is what a claim is about."""


def rows_with(table: Table, **where) -> Table:
    """The rows where the columns have these values. Raises NoModel if there is none."""
    rows = np.ones(len(table["seed"]), bool)
    for name, value in where.items():
        rows &= table[name] == value if name in table else False
    if not rows.any():
        raise NoModel(f"report: no model with {where}")
    return select(table, rows)


def labelled(values: Sequence | np.ndarray, seeds: Sequence | np.ndarray) -> xr.DataArray:
    """Values, one a seed, in the order of seeds. Arithmetic on two of them pairs by seed and keeps the seeds that both have."""
    order = np.argsort(seeds, kind="stable")
    return xr.DataArray(np.asarray(values)[order], {"seed": np.asarray(seeds)[order]}, ["seed"])


def of(table: Table, metric: str, **where) -> xr.DataArray:
    """`metric` where the columns have these values, by seed."""
    part = rows_with(table, **where)
    return labelled(part[metric], part["seed"])


def accuracy(metric: str, n: int = N):
    """A trained accuracy at N = n."""
    return lambda study, part: of(study.models(part), metric, n_labels=n)


def ablated(ablation: str, metric: str, n: int = N, answer: str = "ablate"):
    """An accuracy under an ablation."""
    return lambda study, part: of(study.answer(part, answer), metric, n_labels=n, ablation=ablation)


def change(ablation: str, metric: str, n: int = N, answer: str = "ablate", base: str = NONE):
    """The paired change that an ablation makes."""
    at = lambda name: ablated(name, metric, n, answer)
    return lambda study, part: at(ablation)(study, part) - at(base)(study, part)


def gauge(cls: str, metric: str, ablation: str = "EP"):
    """The change that an ablation makes to the same function with its CLS vector in another place."""

    def values(study, part):
        table = study.answer(part, "gauge")
        return of(table, metric, n_labels=N, cls=cls, ablation=ablation) - of(table, metric, n_labels=N, cls=cls, ablation=NONE)

    return values


def by_label_count(metric: str, few: int, many: int):
    """The paired difference between two label counts."""
    return lambda study, part: of(study.models(part), metric, n_labels=many) - of(study.models(part), metric, n_labels=few)


def layout_effect(study: Study, part: str) -> xr.DataArray:
    """Top-1 at n2 = 40 less that at n2 = 1."""
    table = study.models("layouts")
    return of(table, "unseen_pair", n_labels=N, n2=40) - of(table, "unseen_pair", n_labels=N, n2=1)


def decay_effect(study: Study, part: str) -> xr.DataArray:
    """Top-1 with weight decay 0.1 less that without."""
    table = study.models("weight_decay")
    return of(table, "unseen_pair", weight_decay=0.1) - of(table, "unseen_pair", weight_decay=0.0)


def share_of(terms: tuple[str, ...], rows: str):
    """The share of the scores' variance in some terms, all heads."""

    def values(study, part):
        table = study.answer(part, "shares")
        return total(of(table, "share_all", n_labels=N, rows=rows, term=term, layer=0) for term in terms)

    return values


def per_model(table: Table, column: str, measure: Callable[[np.ndarray], float | bool], **where) -> xr.DataArray:
    """`measure` of each model's values of a column, where the other columns have these values, by seed."""
    part = rows_with(table, **where)
    seeds = np.unique(part["seed"])
    return labelled([measure(part[column][part["seed"] == seed]) for seed in seeds], seeds)


def leaning(study: Study, part: str) -> xr.DataArray:
    """Whether a model has heads that lean left and heads that lean right (thresholds of `analysis.heads`)."""
    both = lambda leans: {"left", "right"} <= set(leans)
    return per_model(study.answer(part, "heads"), "leans", both, n_labels=N, layer=0)


def kept_heads(best_of: Callable[[Table], np.ndarray]):
    """Top-1 of the best subset of heads that `best_of` allows, less that of all heads."""

    def values(study, part):
        table = study.answer(part, "pruning")
        table = select(table, table["n_labels"] == N)
        best = per_model(select(table, best_of(table)), "unseen_pair", np.max)
        return best - of(table, "unseen_pair", n_kept=table["n_kept"].max(initial=0))

    return values


def single_head_top1(study: Study, part: str) -> xr.DataArray:
    """Top-1 with one head kept, the mean over the heads of each model."""
    return per_model(study.answer(part, "pruning"), "unseen_pair", np.mean, n_labels=N, n_kept=1)


def reads_first(study: Study, part: str) -> xr.DataArray:
    """Whether a head of a model's EOT prefers the label named first whatever the labels (`analysis.text`)."""
    first = lambda whatever: "first" in set(whatever)
    return per_model(study.answer(part, "text"), "whatever", first, n_labels=N, set="heldout", word="left-of")


def aligned(n: int):
    """Retrieval of held-out labels across encoders after the rotation less before it."""

    def values(study, part):
        table = study.answer(part, "align")
        at = lambda fit: of(table, "retrieval", n_labels=n, space="E", fit=fit)
        return at("rotation") - at("before")

    return values


def phases_in_order(study: Study, part: str) -> np.ndarray:
    """Whether a model reaches .8 in single objects, then in seen pairs, then (strictly) in unseen pairs. Diverged ones are left
    out.
    """
    history = undiverged(study.history("phases"), [TOP1])
    if not len(history["step"]):
        return np.array([], bool)
    return in_order(history)[history["step"] == history["step"].max()]


def gradient_before_skill(study: Study, part: str) -> np.ndarray:
    """Whether a model's gradient is half grown strictly before its unseen-pair top-1 is half way. Diverged ones are left out."""
    history = undiverged(study.history("phases"), [TOP1])
    share = lambda model: onsets(select(history, history["model"] == model))["gradient_first"][0]  # of one model: 0 or 1
    return np.array([share(model) == 1 for model in np.unique(history["model"])], bool)


def ratios(study: Study, part: str) -> tuple[np.ndarray, Table]:
    """The best head's ratio, and the accuracies, of the models of a sweep and of the sweep of initial scales, joined by the number
    of the model: the answer lacks those that diverged.
    """
    names = ("unseen_pair_order", "unseen_pair", "unseen_pair_label_set")
    parts = [joined(study.answer(sweep, "strongest"), study.models(sweep), names) for sweep in (part, "ratio")]
    models = {name: np.concatenate([table[name] for table in parts]) for name in ("ratio", "n_labels", *names)}
    return models.pop("ratio"), models


def predicts(metric: str):
    """Spearman's rank correlation of the best head's ratio with an accuracy, over all models of the sweep and of the sweep of
    initial scales. No mean over seeds, and no closed form: Fisher's takes models of one kind, and these are of many conditions. Its
    interval is the percentile bootstrap over models, of which there are hundreds.
    """

    def values(study, part):
        ratio, models = ratios(study, part)

        def correlation(rows) -> float:
            found = prediction(ratio[rows], select(models, rows))
            return float(found["rank_correlation"][found["accuracy"].tolist().index(metric)])

        rng, n = np.random.default_rng(0), len(ratio)
        low, high = np.quantile([correlation(rng.integers(n, size=n)) for _ in range(500)], (0.025, 0.975))
        return Estimate(correlation(np.arange(n)), low, high, n, BOOTSTRAP)

    return values


def half_dose(study: Study, part: str) -> np.ndarray:
    """The gate of EP at which half of the order that EP carries is lost (linear between doses)."""
    table = described(study.answer(part, "doses"))
    table = rows_with(table, n_labels=N, terms="EP", control=NONE)
    dose = table["scale"]
    found = []
    for seed in np.unique(table["seed"]):
        rows = np.flatnonzero(table["seed"] == seed)
        rows = rows[np.argsort(dose[rows])]
        order = np.maximum.accumulate(table["unseen_pair_order"][rows])
        found.append(np.interp((order[0] + order[-1]) / 2, order, dose[rows]))
    return np.array(found)


def carried_by(term: str, ratio: float):
    """The share of the position gradient that a term carries at one ratio of initial scales."""

    def values(study, part):
        table = carried(study.answer("ratio", "strongest"))
        return of(table, f"share_{term}", n_labels=N, ratio_EP=ratio)

    return values


def ratio_change(ablation: str, ratio: float):
    """The change of order that an ablation makes at one ratio of initial scales."""

    def values(study, part):
        table = study.answer("ratio", "ratio")
        table = table | {"ratio_EP": scale_ratio(table)}
        at = lambda name: of(table, "unseen_pair_order", n_labels=N, ratio_EP=ratio, ablation=name)
        return at(ablation) - at(NONE)

    return values


def explained_by(factor: str):
    """The share of the variance of top-1 over N x n2 that a factor explains, with its interval (`factors.explained`)."""

    def values(study, part):
        shares = study.grid()
        i = shares["factor"].tolist().index(factor)
        return Estimate(shares["share"][i], shares["low"][i], shares["high"][i], int(shares["models"][i]), BOOTSTRAP)

    return values


# ---- the claims ----

CORRELATION = "The interval of a rank correlation is the percentile bootstrap over models, which are of many conditions."
TOP1, ORDER, SET = "unseen_pair", "unseen_pair_order", "unseen_pair_label_set"
CLAIMS = (
    Claim(
        "diversity",
        "Unseen-pair top-1 grows with the number of labels (Fig 3)",
        "near chance at few labels, about .9 at 15",
        "top-1 at N = 25 less top-1 at N = 5, paired by seed",
        0.2,
        INF,
        by_label_count(TOP1, 5, 25),
    ),
    Claim("few", "At 5 labels top-1 is near chance (Fig 3)", "near chance", "top-1 at N = 5", 0, 0.25, accuracy(TOP1, 5)),
    Claim("many", "At 15 labels top-1 is about .9 (Fig 3)", "about .9", "top-1 at N = 15", 0.8, 1, accuracy(TOP1)),
    Claim(
        "layouts",
        "Layout diversity barely matters (Fig 3)",
        "almost no effect",
        "top-1 at n2 = 40 less n2 = 1, N = 15, paired",
        -0.15,
        0.15,
        layout_effect,
        "layouts",
    ),
    Claim(
        "variance",
        "Labels, not layouts, explain unseen-pair accuracy (Fig 3)",
        "almost no effect of layouts",
        "share of the variance of top-1 over N x n2 in {1, 10, 40} that n2 explains",
        0,
        0.1,
        explained_by("n2"),
        "layouts",
        note="The interval of a share of a variance is the percentile bootstrap over seeds: it is no mean, and has no closed form.",
    ),
    Claim("single", "One object at held-out positions is recognised", "near 1", "single at N = 15", 0.97, 1, accuracy("single")),
    Claim(
        "seen", "Trained pairs in held-out layouts are recognised", "near 1", "seen_pair at N = 15", 0.97, 1, accuracy("seen_pair")
    ),
    Claim(
        "what_fails",
        "What fails at 5 labels is the label set, not the order",
        "",
        "order less label set at N = 5",
        0.1,
        INF,
        lambda study, part: accuracy(ORDER, 5)(study, part) - accuracy(SET, 5)(study, part),
    ),
    Claim(
        "ep_top1",
        "EP at zero in vision: top-1 falls to about .5 (Fig 5e)",
        ".9 to .5",
        "top-1 with EP at zero, N = 15",
        0.35,
        0.65,
        ablated("EP", TOP1),
    ),
    Claim(
        "ep_order",
        "EP at zero in vision takes the order away (Fig 5e)",
        "order at chance",
        "change of order, N = 15",
        -INF,
        -0.15,
        change("EP", ORDER),
    ),
    Claim(
        "ep_set",
        "EP at zero keeps the label set (App H, Fig 16)",
        "kept",
        "change of label set, N = 15",
        -0.1,
        INF,
        change("EP", SET),
    ),
    Claim(
        "ee",
        "EE at zero is general damage: the label set is gone",
        "",
        "label set with EE at zero, N = 15",
        0,
        0.1,
        ablated("EE", SET),
    ),
    Claim(
        "pe",
        "PE at zero has no effect",
        "no effect",
        "change of top-1, N = 15",
        -0.06,
        0.06,
        change("PE", TOP1),
        note="EE : PE divides as EP : PP does, by the gauge: read EE + PE too.",
    ),
    Claim(
        "pe_order", "PE at zero has no effect on order", "no effect", "change of order, N = 15", -0.06, 0.06, change("PE", ORDER)
    ),
    Claim("pp", "PP at zero has no effect", "no effect", "change of top-1, N = 15", -0.06, 0.06, change("PP", TOP1)),
    Claim("bp", "BP at zero is a moderate drop", "moderate drop", "change of top-1, N = 15", -0.4, -0.05, change("BP", TOP1)),
    Claim("ep_vp", "EP and VP at zero: top-1 about .5 (App I)", "about .5", "top-1, N = 15", 0.35, 0.65, ablated("EP+VP", TOP1)),
    Claim(
        "monotone",
        "The CLS row of EP is monotone from left to right (Fig 5)",
        "monotone",
        "|rank correlation| of EP with the pixel, each model's head of the strongest EP, N = 15",
        0.95,
        1,
        lambda study, part: of(study.answer(part, "monotone"), "monotone", n_labels=N),
    ),
    Claim(
        "share",
        "Scores are mostly (E+P) W_QK (E+P)^T",
        "76 to 91 % of the variance",
        "share of EE + EP + PE + PP in the scores' variance, all rows and heads, N = 15",
        0.76,
        0.91,
        share_of(LEARNED, "all"),
    ),
    Claim(
        "heads",
        "Heads specialise: some lean left, some right (Fig 4c)",
        "one head right on 67 % of pairs, the others left",
        "share of models with a head below 1/3 and one above 2/3, N = 15",
        0.5,
        1,
        leaning,
    ),
    Claim(
        "one_head",
        "One head kept after training is not enough (App K, Fig 22)",
        "about .5",
        "top-1 with one head kept, N = 15",
        0,
        0.65,
        single_head_top1,
    ),
    Claim(
        "two_heads",
        "Two complementary heads keep the skill (App K, Fig 22)",
        "kept",
        "top-1 of the best pair of heads that lean both ways, less all heads, N = 15",
        -0.1,
        INF,
        kept_heads(lambda t: (t["n_kept"] == 2) & (t["directions"] == "both")),
    ),
    Claim(
        "decay",
        "Weight decay helps (App B, Fig 10)",
        "helps",
        "top-1 at weight decay 0.1 less 0, N = 15, paired",
        0.05,
        INF,
        decay_effect,
        "weight_decay",
    ),
    Claim(
        "phases",
        "Skills come in phases: single, seen pair, unseen pair (App C)",
        "in this order",
        "share of models that reach .8 in this order, N = 15",
        0.8,
        1,
        phases_in_order,
        "phases",
    ),
    Claim(
        "text_first",
        "A text head attends to the first label whatever it is",
        "yes",
        "share of models with a head of EOT that prefers the first label in 95 % of held-out captions, N = 15",
        0.5,
        1,
        reads_first,
    ),
    Claim(
        "align",
        "Label embeddings of image and text align after a rotation fitted on trained labels",
        "yes",
        "retrieval of held-out labels after the rotation less before, N = 25",
        0.2,
        INF,
        aligned(25),
    ),
    Claim(
        "align_many",
        "The same where the rotation is determined by many labels",
        "yes",
        "retrieval of held-out labels after the rotation less before, N = 200",
        0.2,
        INF,
        aligned(200),
        "align",
    ),
    Claim("o", "2-D grids, three objects, autoregression (App O)", "replicate", "not measured yet", 0, 0, None, "default"),
)

OURS = (
    Claim(
        "gauge_law",
        "The gauge: E_cls - P_0 only decays, whatever is learned",
        "",
        "relative deviation of E_cls - P_0 from its initial value x prod(1 - lr wd)",
        -INF,
        1e-4,
        lambda study, part: study.answer(part, "law")["deviation"],
    ),
    Claim(
        "gauge_p",
        "The gauge: the same function, its CLS vector wholly in P_0, loses nothing when EP is zero",
        "",
        "change of order with EP at zero, N = 15",
        -0.02,
        0.02,
        gauge("wholly P_0", ORDER),
    ),
    Claim(
        "gauge_e",
        "The gauge: the same function, its CLS vector wholly in E_cls, loses its order when EP is zero",
        "",
        "change of order with EP at zero, N = 15",
        -INF,
        -0.15,
        gauge("wholly E_cls", ORDER),
    ),
    Claim(
        "gauge_free",
        "Free of the gauge: the position gradient at zero leaves order at chance",
        "",
        "order with EP, PP and BP at zero, N = 15",
        0.45,
        0.55,
        ablated("EP+PP+BP", ORDER),
    ),
    Claim(
        "gauge_free_set",
        "Free of the gauge: and keeps the label set",
        "",
        "change of label set with EP, PP and BP at zero, N = 15",
        -0.1,
        INF,
        change("EP+PP+BP", SET),
    ),
    Claim(
        "ratio_large",
        "Initial scales decide: at E:P = 64 EP carries the gradient",
        "",
        "share of EP in the gradient, N = 15",
        0.8,
        1.2,
        carried_by("EP", 64.0),
        "ratio",
    ),
    Claim(
        "ratio_small",
        "Initial scales decide: at E:P = 1/4 it does not",
        "",
        "share of EP in the gradient, N = 15",
        -0.2,
        0.4,
        carried_by("EP", 0.25),
        "ratio",
    ),
    Claim(
        "ratio_ablate",
        "Initial scales decide: at E:P = 1 zeroing EP costs little order",
        "",
        "change of order, N = 15",
        -0.1,
        0.05,
        ratio_change("EP", 1.0),
        "ratio",
    ),
    Claim(
        "predict_order",
        "|gradient| / label spread predicts order",
        "",
        "rank correlation over models",
        0.5,
        INF,
        predicts(ORDER),
        note=CORRELATION,
    ),
    Claim(
        "predict_top1",
        "|gradient| / label spread predicts top-1",
        "",
        "rank correlation over models",
        0.5,
        INF,
        predicts(TOP1),
        note=CORRELATION,
    ),
    Claim(
        "first",
        "The gradient grows before the skill",
        "",
        "share of models whose gradient is half grown strictly before top-1 is",
        0.5,
        1,
        gradient_before_skill,
        "phases",
    ),
    Claim(
        "dose",
        "Dose-response: half of what EP carries is lost between a quarter and three quarters of its gate",
        "",
        "gate of EP at half loss of order, N = 15",
        0.25,
        0.75,
        half_dose,
    ),
    Claim(
        "control",
        "A random row of EP's norm in its place does worse than nothing",
        "",
        "order with a random row less order with EP at zero, N = 15",
        -INF,
        -0.02,
        change("random EP", ORDER, answer="controls", base="EP"),
    ),
)
