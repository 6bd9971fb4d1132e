"""Values of the claims on the paper's own experiment, a value a seed: what a claim compares with its threshold.

A value is a function of a study and the name of its sweep, as in `contrasts`. Contrasts are paired by seed. What is read from the
answer `curves` is of single evaluations; trained accuracies are means of the last three.
"""

import numpy as np

from experiments.studies.claim_values import ORDER, TOP1, N, of, per_model, rows_with
from experiments.studies.contrasts import LEARNED, Values, at
from experiments.studies.study import Study
from lrjax.analysis.gradient import GENERALISES
from lrjax.analysis.heads import LEFT, RIGHT
from lrjax.analysis.regime import in_order
from lrjax.errors import InputError
from lrjax.plotting.paper import KNOWN
from lrjax.stats import Table, groups, select, total
from lrjax.training.run import REPORTED

FEW, MANY = 5, N  # labels that the paper's Fig 3 sets against each other, in all measurements of the printed recipe
FAILS = 0.25  # top-1 up to which a model counts as near chance: the threshold of `claims` at 5 labels
PASSED = 0.5  # top-1 that says when a model generalises: half way
SETTLED = 0.02  # a condition has finished if its mean top-1 moved by less in the last third of training
BySeed = dict[int, float]


def by_seed(table: Table, column: str, **where) -> BySeed:
    """A column of the rows with these fields, one a seed."""
    part = rows_with(table, **where)
    return dict(zip(part["seed"].tolist(), part[column].tolist(), strict=True))


def less(one: BySeed, other: BySeed) -> np.ndarray:
    """The differences of the seeds that both have: models that diverged are in no answer."""
    return np.array([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())])


def grown(metric: str = TOP1, **where) -> Values:
    """An accuracy at many labels less that at few."""
    return lambda study, part: at(metric, MANY, **where)(study, part) - at(metric, FEW, **where)(study, part)


def grown_more(where: dict, than: dict, metric: str = TOP1) -> Values:
    """What many labels add over few under one condition, less what they add under another."""
    return lambda study, part: grown(metric, **where)(study, part) - grown(metric, **than)(study, part)


def crossed(metric: str, many: dict, few: dict) -> Values:
    """An accuracy at many labels under one condition less that at few labels under another."""
    return lambda study, part: at(metric, MANY, **many)(study, part) - at(metric, FEW, **few)(study, part)


def equal_epochs(metric: str = TOP1, **where) -> Values:
    """An accuracy at many labels, at the end, less that at few labels after as many epochs, read from the same training: the
    learning rate is constant, so that a longer training's earlier steps are a shorter one's.
    """

    def values(study: Study, part: str) -> np.ndarray:
        curves = study.answer(part, "curves")
        many, few = (rows_with(curves, n_labels=n, **where) for n in (MANY, FEW))
        last = many["epoch"].max()
        then = few["epoch"][np.abs(few["epoch"] - last).argmin()]
        return less(by_seed(many, metric, epoch=last), by_seed(few, metric, epoch=then))

    return values


# ---- the mechanism ----


def leaning(**where) -> Values:
    """Whether a model has heads that lean left and heads that lean right (thresholds of `analysis.heads`)."""

    def values(study, part):
        table = rows_with(study.answer(part, "heads"), n_labels=N, layer=0, **where)
        both = lambda bias: bool((bias < LEFT).any() and (bias > RIGHT).any())
        return per_model(table, "head_bias", both)

    return values


def asked(answer: str, column: str, n: int = N, **where) -> Values:
    """A column of an answer of one row a model."""
    return lambda study, part: of(study.answer(part, answer), column, n_labels=n, **where)


def share_of(terms: tuple[str, ...], **where) -> Values:
    """The share of some terms in the scores' variance, all heads, each term's share added."""

    def values(study, part):
        table = rows_with(study.answer(part, "shares"), n_labels=N, layer=0, **where)
        return total(of(table, "share_all", term=term) for term in terms)

    return values


def std_share(**where) -> Values:
    """The standard deviation of (E+P) W_QK (E+P)^T over that of the scores, all heads, as the paper's App D has it."""

    def values(study, part):
        table = with_columns(study, part, "std_shares", "std_ratio_learned_all")
        # a value a model that stands beside every term
        return per_model(table, "std_ratio_learned_all", np.nanmean, n_labels=N, layer=0, **where)

    return values


def with_columns(study: Study, part: str, answer: str, *columns: str) -> Table:
    """An answer with these columns. Raises InputError, which makes a claim "not tested", if the study does not ask it, or if it
    lacks one of them.
    """
    if answer not in study.parts[part].answers:
        raise InputError(f"report: {part}: is not asked {answer!r}")
    table = study.answer(part, answer)
    for name in columns:
        if name not in table:
            raise InputError(f"report: {answer}: has no column {name!r}")
    return table


def relational_gap(measure: str, n: int = N, **where) -> Values:
    """How far P(relational) of a head is from |P(right) - P(left)|, the mean over a model's heads. `measure`: "printed" (EE against
    EP alone), or "sums" (of all terms that tell labels, and places, apart).
    """
    columns = (f"relational_{measure}", "attends_right", "attends_left")

    def values(study, part):
        table = with_columns(study, part, "relational", *columns)
        relational, right, left = (table[name] for name in columns)
        return per_model(table | {"gap": np.abs(relational - np.abs(right - left))}, "gap", np.mean, n_labels=n, **where)

    return values


def gradient_above_spread(generalises: bool, **where) -> Values:
    """Whether the best head's position gradient is above its label spread, of the models of all N that generalise, or of those
    that are near chance.
    """

    def values(study, part):
        models, best = study.models(part), study.answer(part, "strongest")
        top1 = dict(zip(models["model"].tolist(), models[TOP1].tolist(), strict=True))
        best = rows_with(best, **where)
        found = np.array([top1[model] for model in best["model"].tolist()])
        return best["ratio"][found >= GENERALISES if generalises else found <= FAILS] > 1

    return values


def of_subsets(n_heads_kept: int, measure, **where) -> Values:
    """`measure` of the top-1 of all subsets of so many heads, by model."""
    return lambda study, part: per_model(
        study.answer(part, "pruning"), TOP1, measure, n_labels=N, n_heads_kept=n_heads_kept, **where
    )


def best_pair(**where) -> Values:
    """Top-1 of the best two heads that lean both ways, less that of all heads, of the models that have such heads."""

    def values(study, part):
        table = rows_with(study.answer(part, "pruning"), n_labels=N, **where)
        pairs = rows_with(table, n_heads_kept=2, directions="both")
        best = {seed: pairs[TOP1][rows].max() for (seed,), rows in groups(pairs, ("seed",)).items()}
        return less(best, by_seed(table, TOP1, n_heads_kept=int(table["n_heads_kept"].max())))

    return values


def reads_first(**where) -> Values:
    """Whether a head of a model's EOT prefers the label named first whatever the labels (`analysis.text`)."""

    def values(study, part):
        first = lambda whatever: "first" in set(whatever)
        return per_model(study.answer(part, "text"), "whatever", first, n_labels=N, set="heldout", word="left-of", **where)

    return values


def aligned(n: int, **where) -> Values:
    """Retrieval of held-out labels across encoders after the rotation less before it."""

    def values(study, part):
        found = rows_with(study.answer(part, "align"), n_labels=n, space="E", **where)
        return less(*(by_seed(found, "retrieval", fit=fit) for fit in ("rotation", "before")))

    return values


def skills_in_order(**where) -> Values:
    """Whether a model reaches .8 in single objects, then in seen pairs, then (strictly) in unseen pairs; of the models that reach
    it in unseen pairs.
    """

    def values(study, part):
        curves = rows_with(study.answer(part, "curves"), n_labels=N, **where)
        last, done = curves["step"] == curves["step"].max(), in_order(curves)
        reached = {model: curves[TOP1][rows].max() >= GENERALISES for (model,), rows in groups(curves, ("model",)).items()}
        return done[last][[reached[model] for model in curves["model"][last].tolist()]]

    return values


# ---- which term carries the gradient ----


def ep_share(multiplier: float, **where) -> Values:
    """EP's share of the gradient of EP and PP, in each model's best head."""

    def values(study, part):
        found = rows_with(study.answer(part, "strongest"), n_labels=N, token_multiplier=multiplier, **where)
        ep, pp = (of(found, f"gradient_{term}") for term in ("EP", "PP"))
        return ep / (ep + pp)

    return values


def off_gauge(multiplier: float, **where) -> Values:
    """EP's share of EP and PP less m / (m + 1), which it is where E_cls = P_0."""
    return lambda study, part: ep_share(multiplier, **where)(study, part) - multiplier / (multiplier + 1)


def off_query_law(multiplier: float, **where) -> Values:
    """BP's share of what each model's best head has learned of the position gradient, over that of `gauge.query_law`, less 1."""

    def values(study, part):
        rows = dict(n_labels=N, token_multiplier=multiplier, strongest=1) | where
        share, predicted = (of(study.answer(part, "query_law"), name, **rows) for name in ("share", "predicted"))
        return share / predicted - 1

    return values


def difference(one: Values, other: Values) -> Values:
    """A value less another of the same seeds."""
    return lambda study, part: one(study, part) - other(study, part)


# ---- when ----


def passed(curves: Table, level: float = PASSED, **where) -> BySeed:
    """The first evaluated step at which top-1 is `level` or more, by seed; NaN if it never is."""
    part, found = rows_with(curves, **where), {}
    for (seed,), rows in groups(part, ("seed",)).items():
        steps = part["step"][rows][part[TOP1][rows] >= level]
        found[seed] = float(steps.min()) if len(steps) else np.nan
    return found


def or_last(steps: BySeed, curves: Table) -> BySeed:
    """Steps with that of the last evaluation in place of never: what is later is at least that."""
    return {seed: float(curves["step"].max()) if np.isnan(step) else step for seed, step in steps.items()}


def ever_passed(**where) -> Values:
    """Whether a model's top-1 ever is .5 or more."""
    return lambda study, part: np.array([not np.isnan(s) for s in passed(study.answer(part, "curves"), **where).values()])


def later(slow: dict, fast: dict, never_is_last: bool = True) -> Values:
    """log2 of how many times later top-1 is .5 under one condition than under another. Never counts as the last step, which makes
    a difference less, or is left out.
    """

    def values(study, part):
        curves = study.answer(part, "curves")
        steps = (passed(curves, **where) for where in (slow, fast))
        steps = (or_last(of_one, curves) if never_is_last else of_one for of_one in steps)
        return less(*({seed: np.log2(step) for seed, step in of_one.items()} for of_one in steps))

    return values


def clock(study: Study, part: str, lr: float, weight_decay: float, **where) -> BySeed:
    """lr wd steps at which top-1 is .5, by seed; NaN if it never is."""
    steps = passed(study.answer(part, "curves"), weight_decay=weight_decay, **where)
    return {seed: lr * weight_decay * step for seed, step in steps.items()}


def moved(curves: Table, axes: tuple[str, ...], metric: str = TOP1) -> dict[tuple, float]:
    """By condition the change of a mean accuracy from the evaluation nearest to two thirds of training to the last."""
    last = int(curves["evaluation"].max())
    at_end, before = (select(curves, curves["evaluation"] == i) for i in (last, round(last * 2 / 3)))
    return {key: float(np.mean(at_end[metric][rows]) - np.mean(before[metric][rows])) for key, rows in groups(at_end, axes).items()}


def settled(curves: Table, metric: str = TOP1) -> bool:
    """Whether the mean of an accuracy moved by less than SETTLED in the last third of training, at every number of labels."""
    return all(abs(change) < SETTLED for change in moved(curves, ("n_labels",), metric).values())


def order_left(ablation: str, n: int = N, answer: str = "routes", **where) -> Values:
    """The order on unseen pairs that an ablation leaves."""
    return lambda study, part: of(study.answer(part, answer), ORDER, n_labels=n, ablation=ablation, **where)


def route(column: str, n: int = N, **where) -> Values:
    """A column of the answer `binding`, of the seeds that have learned the order."""

    def values(study, part):
        table = with_columns(study, part, "binding", column, "order")
        return of(table, column, n_labels=n, **where).where(of(table, "order", n_labels=n, **where) >= LEARNED)

    return values


def one_route(part_of_margin: float = 0.8, **where) -> Values:
    """Whether one of the two routes alone makes most of the margin, of the models of all N that know the order."""

    def values(study, part):
        table = rows_with(with_columns(study, part, "binding", "share_attention", "share_value", "order"), **where)
        most = np.maximum(table["share_attention"], table["share_value"])
        return most[table["order"] >= KNOWN] >= part_of_margin

    return values


def agreement_of_value_route(**where) -> Values:
    """`agreement` of the models of all N that know the order mostly by the value route."""

    def values(study, part):
        table = rows_with(with_columns(study, part, "binding", "share_value", "order", "agreement"), **where)
        return table["agreement"][(table["order"] >= KNOWN) & (table["share_value"] > 0.5)]

    return values


def lost(by_values: bool, n: int = N, **where) -> Values:
    """The greatest order in training less that at the end (the mean of the last three evaluations), of the models that have known
    the order and end on the value route, or on the attention route.
    """

    def values(study, part):
        binding = rows_with(with_columns(study, part, "binding", "share_value", "share_attention"), n_labels=n, **where)
        on_values = dict(
            zip(binding["model"].tolist(), (binding["share_value"] > binding["share_attention"]).tolist(), strict=True)
        )
        curves = rows_with(study.answer(part, "curves"), n_labels=n, **where)
        order = {model: curves[ORDER][rows] for (model,), rows in groups(curves, ("model",)).items()}
        known = {model: of_one for model, of_one in order.items() if of_one.max() >= KNOWN and on_values.get(model) is by_values}
        return np.array([of_one.max() - of_one[-REPORTED:].mean() for of_one in known.values()])

    return values
