"""What a trained model loses when attention terms are taken away at inference (Fig 5e, App H, App I, App K of the paper).

All ablations of all models of a program are one XLA program: an ablation (`lrjax.ablations`) is a row of gates. It is written

    EP+PP            these terms at zero, in the encoder and heads asked for
    EP=0.5           scaled: dose-response
    mean EE          in place of a term of vision its mean over all unseen-pair images, position by position (one block only)
    random EP        in place of a term of vision a random row of equal norm, centred as softmax sees it (one block only)
    horizontal EP+PP+BP    of a grid: the part of these terms' CLS row that depends on the column alone, at zero (one block)
    vertical EP+PP+BP      the part that depends on the row alone
    horizontal EP=0.5      half of the part stays; so with `mean` and `random`: half is replaced
    vision.h0:EP=0   any gates, as in `lrjax.gates`; `;` joins

on top of the gates that the model was trained with. EP, PP and BP of the CLS row are the same in every image, so their mean is
themselves; what zero-ablating them takes away is a fixed preference for positions.

A caution that belongs to every result on EP: in a one-block vision encoder CLS stands only at position 0, so E_cls and P_0 enter
only as their sum, and how the position gradient of the CLS row divides between EP and PP is set by initial scales and weight decay,
not learned. Read EP beside PP, BP and their sum; `gauge` makes the point.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.ablations import CONTROL_KINDS, DIRECTIONS, Ablation, described, labelled
from lrjax.analysis.decompose import unseen_sequences
from lrjax.analysis.gradient import readout_scores, readout_template
from lrjax.analysis.grid import grid_shape_of, parts, position_rows
from lrjax.analysis.models import check_encoder, depth_of, describe_layers, map_models, row_of, tidy, traced
from lrjax.analysis.selection import by_shape, merged, of_labels
from lrjax.config import Hyper, Static, depths
from lrjax.data.splits import Splits
from lrjax.errors import InputError, suggest
from lrjax.gates import NONE, Gates, check_heads, once, schedule_of
from lrjax.metrics import GIVEN_SET, LABEL_SET, TOP1
from lrjax.models import objectives, positions
from lrjax.models.clip import CLIP, encoder_configs, rng_stream
from lrjax.models.interventions import ModelInterventions
from lrjax.stats import Table
from lrjax.terms import POSITION_TERMS, ROW_CONSTANT, TERMS, VALUES
from lrjax.training.retrieval import evaluate, metric_names
from lrjax.training.run import Run

ABLATIONS = (NONE, "EE", "EP", "PE", "PP", "BE", "BP", "VP", "EP+PP", "EP+BP", "EP+PP+BP", "EP+VP")
VARIANT_ABLATIONS = (NONE, "EE", "EP", "PE", "PP", "BE", "BP", "EB", "BB", "EB+BB", "EP+PP+BP", "VP")  # of other encoders
TASK_ABLATIONS = (NONE, "EE", "EP", "PP", "BP", "EP+PP+BP", "VP")  # of other tasks
GRID_ABLATIONS = tuple(f"{part} {terms}" for terms in ("EP", "EP+PP+BP") for part in ("horizontal", "vertical"))
CONTROLS = (NONE, "EP", "random EP", "mean EP", "EP+PP+BP", "random EP+PP+BP", "EE", "mean EE", "BE", "mean BE")
DOSES = (
    NONE,
    *(f"{terms}={dose:g}" for terms in ("EP", "EP+PP+BP") for dose in (1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0)),
)
# Static fields that decide which layers, heads and terms exist.
TERMS_BY = ("n_heads", "n_layers_vision", "n_layers_text", "n_repeats", "mlp_ratio", "positions", "layer_norm")
TESTED = ("single", "unseen_pair")  # sets of images that an ablation is evaluated on by default
READOUT_TERMS = tuple(term for term in TERMS if term not in ROW_CONSTANT)


@dataclasses.dataclass(frozen=True)
class Ablate:
    """The question: metrics [a] of one model under every one of `ablations`. `encoder` and `heads` are the place of those that are
    given as text without one.
    """

    ablations: tuple[str | Ablation, ...]
    encoder: str = "vision"
    heads: tuple[int, ...] | None = None
    sets: tuple[str, ...] = TESTED
    frozen: bool = False

    @functools.cached_property
    def records(self) -> dict[str, Ablation]:
        """The ablations by their labels. Raises InputError if a text describes no ablation."""
        return labelled(self.ablations, self.encoder, self.heads)

    def __call__(self, static: Static, hyper: Hyper, splits: Splits, params: CLIP, gates: Gates) -> dict[str, jax.Array]:
        factors_and_weights = self.factors_and_weights(static)
        controlled = {name for name, weight in factors_and_weights[1].items() if weight.any()}

        def one(args):
            factor, weights = args
            ablated = jax.tree.map(jnp.multiply, gates, factor)
            done = ModelInterventions.of_gates(ablated, norm_gates=gates if self.frozen else None)
            if controlled:
                shift = controls(static, hyper, params, gates, {name: weights[name] for name in controlled})
                done = dataclasses.replace(done, vision=dataclasses.replace(done.vision, score_shift=shift))
            return evaluate(static, hyper, splits, params, done, True, self.sets)

        return jax.lax.map(one, factors_and_weights)

    def factors_and_weights(self, static: Static) -> tuple[Gates, dict[str, np.ndarray]]:
        """Factors on the gates [a, depth, h, 12] of both encoders; for every control weights [a, h, 6] of READOUT_TERMS.
        Raises InputError on what does not exist.
        """
        layers = depths(static)
        check_heads(self.heads or (), static.n_heads, "--heads")
        objective = objectives.of(static)
        if self.frozen and not objective.frozen_norms:
            raise InputError(f"--frozen: objective={static.objective!r}: has no frozen scales; leave it out")
        if self.encoder not in objective.encoders:
            has_none, expected = f"objective={static.objective!r}: has no {self.encoder} encoder", objective.encoders[0]
            raise InputError(f"--encoder={self.encoder}: {has_none}; expected --encoder={expected}")
        rows, shape = [], (len(self.records), static.n_heads, len(READOUT_TERMS))
        weights = {name: np.zeros(shape, np.float32) for name in CONTROL_KINDS}
        for a, (text, ablation) in enumerate(self.records.items()):
            gated = [part for part in ablation.parts if part.control not in DIRECTIONS]  # those take away what no gate touches
            gates = once([part.clause for part in gated])
            rows.append(schedule_of(gates, layers, static.n_heads, f"--ablations: {text!r}").g0)
            for part in ablation.parts:
                if part.control != NONE:
                    self._check_control(static, text, part, layers)
                    at = np.ix_([a], part.heads or range(static.n_heads), [READOUT_TERMS.index(term) for term in part.terms])
                    weights[part.control][at] = 1 - part.scale
            if static.mlp_ratio and any((getattr(rows[-1], name)[1:] != 1).any() for name in layers):
                raise InputError(
                    f"mlp_ratio={static.mlp_ratio}: after an MLP there are no terms, so {text!r} cannot be taken away beyond layer "
                    "0; ask of that, --ablations=[encoder].L0:TERMS=0"
                )
        return jax.tree.map(lambda *x: np.stack(x), *rows), weights

    def _check_control(self, static: Static, text: str, ablation: Ablation, layers: dict[str, int]) -> None:
        """Raises InputError if nothing can stand in the place of what one ablation of `text` takes away."""
        if ablation.control in DIRECTIONS:
            grid_shape_of(static, f"--ablations: {text!r}")
        else:
            row_of(static, f"--ablations: {text!r}")
        if self.frozen:
            raise InputError(f"--ablations: {text!r}: is no gate, so LayerNorm's scales cannot be frozen under it; leave one out")
        if ablation.encoder != "vision" or layers["vision"] != 1:
            where = f"--encoder={ablation.encoder}" if ablation.encoder != "vision" else describe_layers(static, "vision")
            raise InputError(f"--ablations: {text!r} needs one block of vision, not {where}: no other row is read; leave it out")
        check_heads(ablation.heads, static.n_heads, f"--ablations: {text!r}")
        possible = POSITION_TERMS if ablation.control in DIRECTIONS else READOUT_TERMS
        for term in ablation.terms:
            if term not in possible:
                what = "has no direction" if term in READOUT_TERMS else "is no row of scores"
                raise InputError(f"--ablations: {text!r}: {term} {what}; expected terms of {' '.join(possible)}")


def controls(static: Static, hyper: Hyper, params: CLIP, gates: Gates, weights: dict[str, jax.Array]) -> jax.Array:
    """What is put in the CLS row for terms taken out, [h, p]. weights [h, 6] by control: how much of each term's mean over
    unseen-pair images (`mean`), or of a random row with the norm of that mean, both centred (`random`); on a grid, how much of each
    term's horizontal part, and its vertical one, is taken away.
    """
    if static.task_object.grid_shape:
        rows, taken = position_rows(static, params, gates)[0], 0
        for name, weight in weights.items():
            for term, row in rows.items():
                taken += weight[:, READOUT_TERMS.index(term), None] * parts(row, static.task_object.grid_shape)[name]
        return jnp.pad(-taken, [(0, 0), (1, 0)])
    mean, random = (weights.get(name, jnp.zeros((static.n_heads, len(READOUT_TERMS)))) for name in ("mean", "random"))
    ids = unseen_sequences(static, "vision")  # [n, T]
    scores = readout_scores(params.vision, gates.vision, encoder_configs(static)["vision"], readout_template(static, "vision"))
    rows = [scores[t][:, ids, jnp.arange(ids.shape[1])].mean(1) for t in READOUT_TERMS]
    rows = jnp.stack(rows, 1)  # [h, 6, T]
    kept = jnp.einsum("ht,htp->hp", mean, rows)
    own = jnp.einsum("ht,htp->hp", random, rows)
    noise = jax.random.normal(jax.random.fold_in(rng_stream(hyper.seed, "evaluation"), 1), own.shape)
    own, noise = (x - x.mean(-1, keepdims=True) for x in (own, noise))
    norm = lambda x: jnp.sqrt((x * x).sum(-1, keepdims=True))
    return kept + noise * norm(own) / norm(noise)


def ablate(
    run: Run,
    ablations: Sequence[str | Ablation] = ABLATIONS,
    encoder: str = "vision",
    heads: Sequence[int] | None = None,
    n_labels: Sequence[int] | None = None,
    sets: Sequence[str] = TESTED,
    frozen: bool = False,
) -> Table:
    """A row per model and ablation: the model's axes, the label `ablation` and its record as columns (`ablations.COLUMNS`), and the
    metrics of `sets`, exhaustive; and unseen_pair_order_given_set, top-1 where the label set is right. `frozen`: LayerNorm's scales
    stay as they are without the ablation, so that its effect is that of the terms alone. Raises InputError on what does not exist.
    """
    check_encoder(encoder)
    run = of_labels(run, n_labels)
    question = Ablate(tuple(ablations), encoder, None if heads is None else tuple(heads), tuple(sets), frozen)
    for program in run.programs:  # bad input fails before any work
        question.factors_and_weights(program.static)
        task, there = program.static.task, program.static.task_object.SETS
        if missing := [name for name in sets if name not in there]:
            raise InputError(f"sets: {missing[0]!r}: task={task!r} has no such images{suggest(missing[0], there)}")
    metrics = list(dict.fromkeys(name for program in run.programs for name in metric_names(program.static, question.sets)))
    answer = map_models(run, question, dict.fromkeys(metrics, ("ablation",)), lambda static: {"ablation": list(question.records)})
    table = tidy(answer)
    if TOP1.set in sets:
        top1, label_set = table[TOP1.column], table[LABEL_SET.column]
        with np.errstate(invalid="ignore", divide="ignore"):
            table[GIVEN_SET.column] = np.where(label_set > 0, top1 / label_set, np.nan).astype(np.float32)
    axes = {name: column for name, column in table.items() if name not in (*metrics, GIVEN_SET.column)}
    return described(axes, question.records) | {name: table[name] for name in table if name not in axes}


def existing(static: Static, encoder: str) -> tuple[str, ...]:
    """The terms of scores that tell keys apart, and values by origin. Without P there is none of a position but ALiBi's PP; a key's
    bias tells nothing, unless it turns with its place (rotary) or, in depth, is divided by its token's norm (LayerNorm).
    """
    kind, deep = positions.find(static.positions), depth_of(static, encoder) > 1
    constant = () if kind.turns or (static.layer_norm and deep) else ROW_CONSTANT
    placed = deep or encoder == "text" or kind.cls_row  # a query has a place
    has_origins = lambda term: kind.has_P or "P" not in term or term in kind.position_terms
    scores = tuple(term for term in TERMS if has_origins(term) and (placed or term[0] != "P") and term not in constant)
    return scores + VALUES[: 1 + kind.has_P]


def of_position(static: Static) -> tuple[str, ...]:
    """The terms with which a score depends on the position of the key whatever its token is. Without such terms: those of a trained
    P, which are then 0.
    """
    return tuple(positions.find(static.positions).position_terms or POSITION_TERMS)


def each(static: Static, encoder: str = "vision", terms: Sequence[str] | None = None) -> tuple[Ablation, ...]:
    """Ablations of each head of each layer alone: every one of `terms` (None: those that exist), and the head pruned (its values at
    zero). None names the layer where there is only one.
    """
    depth = traced(static, encoder, "ablate")
    layers = [(layer,) for layer in range(depth)] if depth > 1 else [()]
    asked = (*((term,) for term in (existing(static, encoder) if terms is None else terms)), VALUES)
    places = [(layer, (head,)) for layer in layers for head in range(static.n_heads)]
    one = lambda taken, layer, head: Ablation(taken, encoder=encoder, layers=layer, heads=head)
    return Ablation(encoder=encoder), *(one(taken, *place) for place in places for taken in asked)


def single_head_ablations(run: Run, encoder: str = "vision", n_labels: Sequence[int] | None = None) -> Table:
    """`ablate`'s table of `each`, on unseen pairs, of models of any depth and number of heads."""
    ask = lambda part: ablate(part, each(part.programs[0].static, encoder), encoder, sets=("unseen_pair",))
    return merged([ask(part) for part in by_shape(of_labels(run, n_labels), *TERMS_BY)])


def ablate_terms(run: Run, encoder: str = "vision", n_labels: Sequence[int] | None = None, frozen: bool = False) -> Table:
    """`ablate`'s table of VARIANT_ABLATIONS, as far as their terms exist, on unseen pairs, of models of any kind."""

    def ask(part: Run) -> Table:
        there = existing(part.programs[0].static, encoder)
        names = [label for label, asked in labelled(VARIANT_ABLATIONS).items() if not asked.terms or set(asked.terms) & set(there)]
        return ablate(part, names, encoder, sets=("unseen_pair",), frozen=frozen)

    return merged([ask(part) for part in by_shape(of_labels(run, n_labels), *TERMS_BY)])
