"""The answers that studies ask of a sweep, by name: the function of a run whose table is kept."""

from collections.abc import Callable

from experiments.studies.measures import binding, curves, late_gain, monotone, pruned_of
from lrjax.analysis import align, decompose, depth, gauge, gradient, grid, heads, reader, relational, text, values
from lrjax.analysis.ablate import (
    ABLATIONS,
    CONTROLS,
    DOSES,
    GRID_ABLATIONS,
    TASK_ABLATIONS,
    ablate,
    ablate_terms,
    single_head_ablations,
)
from lrjax.analysis.models import tidy
from lrjax.analysis.selection import where
from lrjax.gates import NONE
from lrjax.stats import Table
from lrjax.training.run import Run, models_table

ROUTES = (NONE, "EP", "PP", "EP+PP", "EP+PP+BP", "VP", "EP+PP+BP+VP")  # places known by attending to them, and by reading there
# The same in the first block alone: behind an MLP there are no terms.
FIRST_BLOCK = {NONE: NONE} | {terms: f"vision.L0:{terms}=0" for terms in ROUTES[1:]}

# Answer -> what makes it. Ablations are of vision, evaluated on unseen pairs (and single objects where that is asked).
ANSWERS: dict[str, Callable[[Run], Table]] = {
    "ablate": lambda run: ablate(run, ABLATIONS),
    "single_head_ablations": single_head_ablations,
    "controls": lambda run: ablate(run, CONTROLS, sets=("unseen_pair",)),
    "doses": lambda run: ablate(run, DOSES, sets=("unseen_pair",)),
    "text_ablate": lambda run: ablate(run, ABLATIONS, encoder="text", sets=("unseen_pair",)),
    "ratio": lambda run: ablate(run, gauge.ABLATIONS, sets=("unseen_pair",)),
    "gauge": gauge.moved,
    "law": lambda run: tidy(gauge.law(run)),
    "monotone": monotone,
    "shares": lambda run: tidy(decompose.decompose(run)[["share_all"]]),
    "std_shares": lambda run: tidy(decompose.decompose(run)[["std_ratio_all", "std_ratio_learned_all"]]),
    "gradient": lambda run: tidy(gradient.gradient(run)),
    "strongest": lambda run: tidy(gradient.strongest(gradient.gradient(run))),
    "relational": lambda run: relational.head_table(relational.relational(run)),
    "heads": lambda run: heads.head_table(heads.heads(run)),
    "pruning": lambda run: heads.pruning(run, heads.heads(run)),
    "text": lambda run: text.head_table(text.attention(run)),
    "swap": lambda run: tidy(text.swap(run)),
    "align": lambda run: tidy(align.align(run)),
    "values": lambda run: tidy(values.ranked(values.values(run))),
    # of other encoders
    "variant": ablate_terms,
    "variant_frozen": lambda run: ablate_terms(run, frozen=True),
    "layers": lambda run: tidy(depth.layers(run)[["position_gradient", "label_invariance"]]),
    "layers_alone": lambda run: tidy(depth.layers(run, alone=True)[["position_gradient"]]),
    "layer_terms": lambda run: tidy(depth.layers(run)[["gradient"]]),
    "by_layer": depth.by_layer,
    "by_layer_frozen": lambda run: depth.by_layer(run, frozen=True),
    "pruning_of_four": lambda run: pruned_of(run, 4),
    "paths": lambda run: tidy(depth.paths(depth.deep(run, "vision"))),
    "text_single_head_ablations": lambda run: single_head_ablations(run, "text"),
    # of other tasks
    "late_gain": late_gain,
    "task_ablate": lambda run: ablate(run, TASK_ABLATIONS, sets=("unseen_pair",)),
    "grid_ablate": lambda run: ablate(run, (*TASK_ABLATIONS, *GRID_ABLATIONS), sets=("unseen_pair",)),
    "chain_ablate": lambda run: ablate(run, TASK_ABLATIONS, sets=("unseen_pair", "unseen_chain")),
    "reader_ablate": lambda run: ablate(run, TASK_ABLATIONS, encoder="text", sets=("unseen_pair",)),
    "chain_routes": lambda run: ablate(run, ROUTES, sets=("unseen_pair", "unseen_chain")),
    "reader_routes": lambda run: ablate(run, ROUTES, encoder="text", sets=("unseen_pair",)),
    "directions": lambda run: tidy(grid.best_heads(grid.directions(run))),
    "grid_heads": lambda run: tidy(grid.directions(run)[["gradient_horizontal", "gradient_vertical", "label_spread"]]),
    "grid_maps": lambda run: grid.best_maps(grid.directions(run), models_table(run)),
    "attends_to": lambda run: tidy(reader.reading(run)[["prefers_right", "attention_left", "attention_right"]]),
    "reading": lambda run: tidy(reader.attends_to(reader.reading(run))),
    "text_paths": lambda run: tidy(depth.paths(depth.deep(run, "text"), "text")),
    "text_variant": lambda run: ablate_terms(run, "text"),
    "text_layers": lambda run: tidy(depth.layers(run, "text")[["position_gradient", "label_invariance"]]),
    "rows": lambda run: tidy(gradient.rows_of_best(run)),
    # of the paper as printed
    "curves": curves,
    "routes": lambda run: ablate(run, ROUTES, sets=("unseen_pair",)),
    "first_block": lambda run: ablate(run, tuple(FIRST_BLOCK.values()), sets=("unseen_pair",)),
    "binding": binding,
    "law_decayed": lambda run: tidy(gauge.law(where(run, ["decay_cls=True"]))),
    "gauge_ratio": lambda run: tidy(gauge.ratio(where(run, ["decay_cls=True"]))),
    "query_law": lambda run: tidy(gauge.query_law(run)),
}

# These are an answer asked at every checkpoint of a sweep that keeps them, with the step of each model (`measures.over_time`).
OVER_TIME = {"routes_over_time": "routes", "binding_over_time": "binding"}
ANSWERS |= {name: ANSWERS[answer] for name, answer in OVER_TIME.items()}
