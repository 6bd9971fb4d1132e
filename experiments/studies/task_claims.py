"""Claims on each sweep of `study.TASKS`, with thresholds fixed before the runs unless AFTER is said. What was not learned cannot be
taken away: claims on ablations are judged by the seeds whose accuracy without is .8 or more.
"""

from typing import Any

import numpy as np

from experiments.studies.claim_values import ORDER, SET, TOP1, of
from experiments.studies.contrasts import LEARNED, Values, at, differs_in_size, zeroed
from experiments.studies.study import TASKS
from experiments.studies.verdicts import INF, Claim
from lrjax.gates import NONE
from lrjax.metrics import Metric

FEW, MANY = 5, 25
NAMED = "unseen_pair_named"  # of readers, in place of the label set: greedy decoding may never say what was only seen alone
CHAIN = "unseen_chain"
POSITION = "EP+PP+BP"
AFTER = " (asked after the run)"


def ablations(part: str) -> str:
    """The answer that holds the ablations of a sweep."""
    return next(answer for answer in TASKS[part].answers if answer.endswith("_ablate"))


def grown(metric: str = TOP1, **where) -> Values:
    """An accuracy at many labels less that at few, paired by seed."""
    return lambda study, part: at(metric, MANY, **where)(study, part) - at(metric, FEW, **where)(study, part)


def asked(answer: str, column: str, n: int = MANY, **where) -> Values:
    """A column of an answer."""
    return lambda study, part: of(study.answer(part, answer), column, n_labels=n, **where)


def taken(ablation: str, metric: str, n: int = MANY, change: bool = True, of: str | None = None, **where) -> Values:
    """`zeroed`, of the seeds that have learned what is taken away: the metric, or `of`."""

    def values(study, part):
        return zeroed(ablation, metric, n, ablations(part), change, least=LEARNED, of_metric=of, **where)(study, part)

    return values


def greater(column: str, n: int, less: tuple[str | None, dict], **where) -> Values:
    """log2 of |a column| of each model's best head (`gradient.strongest`), less that of the models of `less`: the name of a sweep
    (None: this one) and fields. The `ratio` of position gradient to label spread may grow by either.
    """

    def values(study, part):
        other, fields = less
        of_sweep = lambda sweep, fields: np.log2(np.abs(asked("strongest", column, n, **fields)(study, sweep)))
        return of_sweep(part, where) - of_sweep(other or part, fields)

    return values


def less_of(metric: str, n: int, sweep: str, fields: dict, **where) -> Values:
    """An accuracy less that of another sweep's models with `fields` and the same seeds."""
    return lambda study, part: at(metric, n, **where)(study, part) - at(metric, n, **fields)(study, sweep)


def needs_less(**where) -> Values:
    """What many labels add to top-1 over few, less what they add for CLIP's loss in the same sweep."""
    return lambda study, part: grown(**where)(study, part) - grown(**PLAIN)(study, part)


GRID: dict[str, Any] = {"positions": "learned", "n_layers_text": 2}
WORDS: dict[str, Any] = {"n_layers_text": 2}
PLAIN = {"pair_loss": "softmax", "hard_negatives": False}
CLIP_OF = "zipf", {"zipf": 0.0}  # the sweep, and the fields, of CLIP as it is
RAW: dict[str, Any] = {"objective": "autoregressive_raw"}
LLAVA: dict[str, Any] = {"objective": "autoregressive"}
READERS = ("a", "A reader of a vision encoder's tokens", LLAVA), ("a_raw", "One of raw tokens", RAW)
SIZES = {  # as many places as a grid allows to be equal: 36, 36, 36, and 49 of patches
    "size=1": "grid:height=6,width=6,size=1",
    "size=2": "grid:height=7,width=7,size=2",
    "size=3": "grid:height=8,width=8,size=3",
    "size=2, patch=2": "grid:height=8,width=8,size=2,patch=2",
    "size=3, patch=3": "grid:height=9,width=9,size=3,patch=3",
}
LONGER = ("", "Objects of 2 x 2", SIZES["size=2"]), ("_patch", "Patches of 2 x 2", SIZES["size=2, patch=2"])


def two_gradients(key: str, title: str, where: dict, after: str = "") -> tuple:
    """Claims on a sweep of grids: each direction of the position gradient, taken away, takes its own words away and leaves the
    others.
    """
    rows = []
    for way, word, other in (("horizontal", "left", "above"), ("vertical", "above", "left")):
        own, others = (Metric("unseen_pair", "order", word=one).column for one in (word, other))
        rows.append(
            (
                f"{key}_{way}",
                f"{title}: the {way} part of the gradient at zero takes {word} away{after}",
                "",
                f"order of {word}, N = 25",
                0.45,
                0.6,
                taken(f"{way} {POSITION}", own, change=False, **where),
            )
        )
        rows.append(
            (
                f"{key}_{way}_keeps",
                f"{title}: the {way} part of the gradient at zero leaves {other}{after}",
                "",
                f"change of order of {other}, N = 25",
                -0.1,
                INF,
                taken(f"{way} {POSITION}", others, **where),
            )
        )
    return tuple(rows)


CLAIMS: tuple[Claim, ...] = tuple(
    Claim(key, finding, paper, contrast, low, high, values, part)
    for part, rows in {
        "grid": (
            ("g", "4 x 4 grids generalise at 25 labels", "replicates", "top-1, N = 25", 0.8, 1, at(TOP1, MANY, **GRID)),
            ("g_labels", "Grids: label diversity drives it", "replicates", "top-1, N = 25 less N = 5", 0.1, INF, grown(**GRID)),
            ("g_one", "One text layer cannot tell left from above: order is that of a diagonal, .81", "", "order, N = 25", 0.77,
             0.85, at(ORDER, MANY, positions="learned", n_layers_text=1)),
            ("g_ep", "Grids: EP at zero takes order away", "replicates", "change of order, N = 25", -INF, -0.15,
             taken("EP", ORDER, **GRID)),
            ("g_ep_set", "Grids: EP at zero keeps the label set", "replicates", "change of label set, N = 25", -0.1, INF,
             taken("EP", SET, **GRID)),
            ("g_zero", "Grids: the position gradient at zero is chance", "", "order with EP + PP + BP at zero, N = 25", 0.45, 0.6,
             taken(POSITION, ORDER, change=False, **GRID)),
            *two_gradients("g", "Grids", GRID),
            ("g_apart", "The two gradients are in different heads (four heads of random gradients: .67)", "",
             "|own| / (|own| + |other|), N = 25", 0.8, 1, asked("directions", "apart", **GRID)),
            ("g_heads", "Their strongest heads are two (by chance in .75 of models)", "", "share of models, N = 25", 0.8, 1,
             lambda study, part: asked("directions", "head_horizontal", **GRID)(study, part)
             != asked("directions", "head_vertical", **GRID)(study, part)),
            ("g_rows", "Embeddings of rows and columns help", "", "top-1 at N = 15, rows and columns less one a token", 0.05, INF,
             at(TOP1, 15, positions="row_column", n_layers_text=2, less=GRID)),
        ),
        "grid_words": (
            ("gw_one", "Four words: one text layer is at chance", "", "order, N = 25", 0.45, 0.6, at(ORDER, MANY, n_layers_text=1)),
            ("gw_one_set", "Four words: one text layer names the labels", "", "label set, N = 25", 0.8, 1,
             at(SET, MANY, n_layers_text=1)),
            ("gw", "Four words: two text layers learn them", "replicates", "order, N = 25", 0.8, 1, at(ORDER, MANY, **WORDS)),
            ("gw_zero", "Four words: the position gradient at zero is chance", "", "order with EP + PP + BP at zero, N = 25",
             0.45, 0.6, taken(POSITION, ORDER, change=False, **WORDS)),
        ),
        "grid_objects": (
            *((f"go_{size.replace('=', '_').replace(', ', '_')}", f"Objects of several pixels ({size}) generalise", "",
               "top-1, N = 25", 0.8, 1, at(TOP1, MANY, task=task)) for size, task in SIZES.items()),
            *two_gradients("go_2", "Objects of 2 x 2", {"task": SIZES["size=2"]}),
            *two_gradients("go_patch", "Patches of 2 x 2", {"task": SIZES["size=2, patch=2"]}),
            *two_gradients("go_3", "Objects of 3 x 3", {"task": SIZES["size=3"]}, AFTER),
            *two_gradients("go_patch_3", "Patches of 3 x 3", {"task": SIZES["size=3, patch=3"]}, AFTER),
            *((f"go_apart_{k}", f"Objects of {k} x {k}: the two gradients are in different heads{AFTER}", "",
               "|own| / (|own| + |other|), N = 25", 0.8, 1, asked("directions", "apart", task=SIZES[f"size={k}"]))
              for k in (1, 2, 3)),
            *((f"go_patch_apart_{k}", f"Patches of {k} x {k}: the two gradients are one, a diagonal{AFTER}", "",
               "|own| / (|own| + |other|), N = 25 (.5: both alike)", 0, 0.6,
               asked("directions", "apart", task=SIZES[f"size={k}, patch={k}"]))
              for k in (2, 3)),
            *((f"go_patch_seen_{k}", f"Patches of {k} x {k}: the order of trained pairs is learned in new layouts{AFTER}", "",
               "order of seen pairs, N = 25", 0.9, 1, at("seen_pair_order", MANY, task=SIZES[f"size={k}, patch={k}"]))
              for k in (2, 3)),
        ),
        "grid_layouts": (
            *((f"gl{key}", f"{what} generalise in twice as many steps{AFTER}", "", "top-1, N = 25, n2 = 20", 0.8, 1,
               at(TOP1, MANY, task=task, n2=20)) for key, what, task in LONGER),
            *((f"gl{key}_steps", f"{what}: twice as many steps help order{AFTER}", "", "order, 6,000 steps less 3,000, N = 25",
               0.05, INF, less_of(ORDER, MANY, "grid_objects", {"task": task}, task=task, n2=20)) for key, what, task in LONGER),
            *((f"gl{key}_more", f"{what}: twice as many steps help top-1{AFTER}", "", "top-1, 6,000 steps less 3,000, N = 25",
               0.05, INF, less_of(TOP1, MANY, "grid_objects", {"task": task}, task=task, n2=20)) for key, what, task in LONGER),
            ("gl_patch_seen", f"Patches of 2 x 2: twice as many steps help the order of trained pairs{AFTER}", "",
             "order of seen pairs, 6,000 steps less 3,000, N = 25", 0.05, INF,
             less_of("seen_pair_order", MANY, "grid_objects", {"task": LONGER[1][2]}, task=LONGER[1][2], n2=20)),
            *((f"gl{key}_layouts", f"{what}: ten times the layouts help order{AFTER}", "", "order, n2 = 200 less 20, N = 25", 0.05,
               INF, at(ORDER, MANY, task=task, n2=200, less={"task": task, "n2": 20})) for key, what, task in LONGER),
            *(claim for key, what, task in LONGER
              for claim in two_gradients(f"gl{key}", f"{what} in ten times the layouts", {"task": task, "n2": 200}, AFTER)),
        ),
        "three": (
            ("t_pair", "Three objects: captions of pairs generalise", "replicates", "top-1 (3 captions are true), N = 25", 0.8, 1,
             at(TOP1, MANY)),
            ("t_chain", "Three objects: chains generalise", "", "top-1 of chains, N = 25", 0.8, 1, at(CHAIN, MANY)),
            ("t_labels", "Three objects: top-1 of chains grows with labels", "", "top-1 of chains, N = 25 less N = 5", 0.1, INF,
             grown(CHAIN)),
            ("t_order", f"Three objects: the order of chains grows with labels, not their naming alone{AFTER}", "",
             "order of chains, N = 25 less N = 5", 0.1, INF,
             grown(f"{CHAIN}_order")),
            ("t_ep", "Three objects: EP at zero takes order away", "", "change of the order of chains, N = 25", -INF, -0.15,
             taken("EP", f"{CHAIN}_order")),
            ("t_zero", "Three objects: the position gradient at zero is chance", "", "order of chains, N = 25", 0.45, 0.6,
             taken(POSITION, f"{CHAIN}_order", change=False)),
            ("t_side", "One side is confused more than the other", "",
             "|order against x, y exchanged less against y, z exchanged|, N = 25", 0.02, INF,
             differs_in_size(at(f"{CHAIN}_order_yxz", MANY), at(f"{CHAIN}_order_xzy", MANY))),
        ),
        "three_hard": (
            ("th_chain", f"Three objects with hard negatives: chains generalise{AFTER}", "", "top-1 of chains, N = 25", 0.8, 1,
             at(CHAIN, MANY)),
            ("th_order", f"Three objects with hard negatives: the order of chains is known{AFTER}", "", "order of chains, N = 25",
             0.8, 1, at(f"{CHAIN}_order", MANY)),
            ("th_labels", f"Three objects with hard negatives: top-1 of chains grows with labels{AFTER}", "",
             "top-1 of chains, N = 25 less N = 5", 0.1, INF, grown(CHAIN)),
            ("th_ep", f"Three objects with hard negatives: EP at zero takes order away{AFTER}", "",
             "change of the order of chains, N = 25",
             -INF, -0.15, taken("EP", f"{CHAIN}_order")),
            ("th_zero", f"Three objects with hard negatives: the position gradient at zero is chance{AFTER}", "",
             "order of chains, N = 25",
             0.45, 0.6, taken(POSITION, f"{CHAIN}_order", change=False)),
        ),
        "supervision": (
            ("s_few", "Supervision helps at 5 labels", "", "top-1, weight 1 less 0, N = 5", 0.05, INF,
             at(TOP1, FEW, supervision=1.0, less={"supervision": 0.0})),
            ("s_many", "Supervision does not hurt at 25 labels", "", "top-1, weight 1 less 0, N = 25", -0.05, INF,
             at(TOP1, MANY, supervision=1.0, less={"supervision": 0.0})),
            ("s_probe", "A probe of CLIP's embedding knows the order of unseen pairs", "", "order located, weight 0, N = 25",
             0.8, 1, at("unseen_pair_order_located", MANY, supervision=0.0)),
            *((f"s_seen{key}", f"{who} knows the order of trained pairs in new layouts{AFTER}", "",
               f"order located, weight {weight:g}, N = 25", 0.8, 1, at("seen_pair_order_located", MANY, supervision=weight))
              for key, who, weight in (("_probe", "A probe of CLIP's embedding", 0.0), ("", "A head that trains it too", 1.0))),
            ("s_probe_few", "At 5 labels a probe knows as much of unseen pairs as a head that trains it too", "",
             "order located, weight 0 less 1, N = 5",
             -0.05, INF, at("unseen_pair_order_located", FEW, supervision=0.0, less={"supervision": 1.0})),
            ("s_gradient", "Supervision makes the gradient greater over label spread", "",
             "log2 of |gradient| over label spread, weight 1 less 0, N = 5", 0, INF,
             greater("ratio", FEW, (None, {"supervision": 0.0}), supervision=1.0)),
            ("s_ep", "With supervision EP at zero still takes order away", "", "change of order, weight 1, N = 25", -INF, -0.15,
             taken("EP", ORDER, supervision=1.0)),
        ),
        "supervision_alone": (
            ("sa_located", "Supervision alone: the head knows the order of unseen pairs at 5 labels", "", "order located, N = 5",
             0.8, 1, at("unseen_pair_order_located", FEW)),
            ("sa_zero", "Supervision alone: the position scores at zero are chance", "", "order located with them at zero, N = 25",
             0.45, 0.6, taken(POSITION, "unseen_pair_order_located", change=False)),
            ("sa_share", "The contrastive loss adds nothing to what the head knows of unseen pairs", "",
             "order located, alone less with it, N = 5", -0.05, INF,
             less_of("unseen_pair_order_located", FEW, "supervision", {"supervision": 1.0})),
            ("sa_gradient", "Supervision alone makes a gradient that is half of CLIP's over label spread, or more", "",
             "log2 of |gradient| over label spread, less CLIP's, N = 25", -1, INF,
             greater("ratio", MANY, ("supervision", {"supervision": 0.0}))),
            *((f"sa_size_{n}",
               f"Supervision alone makes a gradient that is half of CLIP's in itself at {n} labels, or more{AFTER}", "",
               f"log2 of |gradient|, less CLIP's, N = {n}", -1, INF,
               greater("position_gradient", n, ("supervision", {"supervision": 0.0}))) for n in (FEW, MANY)),
            ("sa_monotone", "Supervision alone makes a gradient that rises from one end to the other", "",
             "|rank correlation| of EP with the pixel, N = 25", 0.9, 1,
             asked("monotone", "monotone")),
        ),
        "autoregressive": (
            ("a", "A reader of a vision encoder's tokens generalises at 25 labels (App O)", "replicates", "greedy decoding, N = 25",
             0.8, 1, at(TOP1, MANY, **LLAVA)),
            ("a_order", "A reader of a vision encoder's tokens tells the order", "replicates", "order by likelihood, N = 25",
             0.8, 1, at(ORDER, MANY, **LLAVA)),
            ("a_labels", "A reader: label diversity drives it (App O)", "replicates", "greedy decoding, N = 25 less N = 5", 0.1,
             INF, grown(**LLAVA)),
            ("a_raw", "A reader of raw tokens generalises at 25 labels", "", "greedy decoding, N = 25", 0.8, 1,
             at(TOP1, MANY, **RAW)),
            ("a_raw_order", "A reader of raw tokens tells the order", "", "order by likelihood, N = 25", 0.8, 1,
             at(ORDER, MANY, **RAW)),
            ("a_ep", "EP at zero takes order away from a reader of raw tokens", "", "change of order, N = 25", -INF, -0.15,
             taken("EP", ORDER, **RAW)),
            ("a_raw_zero", "A reader of raw tokens: the position scores at zero are chance", "",
             "order with EP + PP + BP at zero, N = 25", 0.45, 0.6, taken(POSITION, ORDER, change=False, **RAW)),
            ("a_zero", "A reader of a vision encoder's tokens: the position scores at zero are chance", "",
             "order with EP + PP + BP at zero, N = 25", 0.45, 0.6, taken(POSITION, ORDER, change=False, **LLAVA)),
            *((f"{key}_set", f"{who}, the position scores at zero: labels are told apart all the same{AFTER}", "",
               "change of named (chance .5) with EP + PP + BP at zero, N = 25", -0.1, INF,
               taken(POSITION, NAMED, of=ORDER, **where))
              for key, who, where in READERS),
            *((f"{key}_alone", f"{who} says of labels that were only seen alone that they are there, and no more{AFTER}", "",
               "share of unseen pairs, N = 25", 0.5, 1, zeroed(NONE, "unseen_pair_alone", MANY, "reader_ablate", False, **where))
              for key, who, where in READERS),
            ("a_bias_shift", "The head that attends most to objects attends left for the first label, right for the second", "",
             "attends right at the second word less at the first, N = 25", 0.5, INF, asked("reading", "bias_shift", **RAW)),
            *((f"{key}_gradient", f"{who}: its gradient falls to the right at the first label and rises at the second{AFTER}", "",
               "share of models, N = 25", 0.8, 1,
               lambda study, part, where=where: (asked("reading", "gradient_first", **where)(study, part) < 0)
               & (asked("reading", "gradient_second", **where)(study, part) > 0))
              for key, who, where in (("a_raw", "That head", RAW), ("a", "That of a reader of a vision encoder's tokens", LLAVA))),
            ("a_clip", "A reader needs fewer labels than CLIP: greedy decoding against retrieval", "", "top-1 at N = 5 less CLIP's",
             0.05, INF, less_of(TOP1, FEW, *CLIP_OF, **LLAVA)),
            ("a_clip_order", "A reader needs fewer labels than CLIP in order alone", "", "order at N = 5 less CLIP's", 0.05, INF,
             less_of(ORDER, FEW, *CLIP_OF, **LLAVA)),
        ),
        "autoregressive_wide": (
            ("a_wide", "A reader of raw tokens of CLIP's size generalises at 25 labels", "", "greedy decoding, N = 25", 0.8, 1,
             at(TOP1, MANY)),
            ("a_wide_order", "A reader of raw tokens of CLIP's size tells the order", "", "order by likelihood, N = 25", 0.8, 1,
             at(ORDER, MANY)),
            ("a_wide_clip", "A reader of raw tokens of CLIP's size tells the order better than CLIP at 5 labels", "",
             "order at N = 5 less CLIP's", 0.05, INF,
             less_of(ORDER, FEW, *CLIP_OF)),
        ),
        "losses": (
            ("sl", "SigLIP generalises at 25 labels", "", "top-1, N = 25", 0.8, 1,
             at(TOP1, MANY, pair_loss="sigmoid", hard_negatives=False)),
            ("sl_need", "More labels add less to SigLIP", "", "top-1, N = 25 less N = 5, less the same of softmax", -INF, -0.1,
             needs_less(pair_loss="sigmoid", hard_negatives=False)),
            ("h_few", "Hard negatives do away with the need for diversity", "", "top-1 at N = 5", 0.8, 1,
             at(TOP1, FEW, pair_loss="softmax", hard_negatives=True)),
            ("h_need", "More labels add less to hard negatives", "", "top-1, N = 25 less N = 5, less the same without", -INF,
             -0.1, needs_less(pair_loss="softmax", hard_negatives=True)),
            ("slh_need", "More labels add less to SigLIP with hard negatives", "",
             "top-1, N = 25 less N = 5, less the same of softmax without", -INF, -0.1,
             needs_less(pair_loss="sigmoid", hard_negatives=True)),
            ("slh", f"SigLIP with hard negatives generalises at 25 labels{AFTER}", "", "top-1, N = 25", 0.8, 1,
             at(TOP1, MANY, pair_loss="sigmoid", hard_negatives=True)),
            *((f"masked_{n}", f"That repeats are masked changes top-1 at {n} labels{AFTER}", "",
               f"top-1 less CLIP's as it is, N = {n}", low, high, less_of(TOP1, n, *CLIP_OF, **PLAIN))
              for n, low, high in ((FEW, -INF, -0.05), (MANY, 0.05, INF))),
            ("masked_order", f"That repeats are masked costs order at 5 labels{AFTER}", "", "order less CLIP's as it is, N = 5",
             -INF, -0.05, less_of(ORDER, FEW, *CLIP_OF, **PLAIN)),
            ("h_order", "Hard negatives help order at 15 labels", "", "order, with less without", 0.02, INF,
             at(ORDER, pair_loss="softmax", hard_negatives=True, less=PLAIN)),
        ),
        "caption_noise": (
            ("n_10", "One caption in ten is wrong: order is learned all the same", "", "order, N = 25", 0.8, 1,
             at(ORDER, MANY, caption_noise=0.1)),
            ("n_30", "Three in ten: order is learned all the same", "", "order, N = 25", 0.8, 1,
             at(ORDER, MANY, caption_noise=0.3)),
            ("n_gradient", "Noise makes the gradient less over label spread", "",
             "log2 of |gradient| over label spread, p = .3 less 0, N = 25", -INF, 0,
             greater("ratio", MANY, (None, {"caption_noise": 0.0}), caption_noise=0.3)),
            ("n_size", f"Noise makes the gradient less in itself{AFTER}", "", "log2 of |gradient|, p = .3 less 0, N = 25", -INF, 0,
             greater("position_gradient", MANY, (None, {"caption_noise": 0.0}), caption_noise=0.3)),
            *((f"n_cost_{n}", f"One in ten costs order less than .05 at {n} labels{AFTER}", "", f"order, p = .1 less 0, N = {n}",
               -0.05, INF, at(ORDER, n, caption_noise=0.1, less={"caption_noise": 0.0})) for n in (FEW, 15, MANY)),
        ),
        "nearer": (
            ("near", "A relation without left and right generalises too", "", "top-1, N = 25", 0.8, 1, at(TOP1, MANY)),
            ("near_zero", "Nearer: the position scores at zero are chance", "", "order with EP + PP + BP at zero, N = 25",
             0.45, 0.6, taken(POSITION, ORDER, change=False)),
            ("near_gradient", "Nearer: there is no left-right gradient", "", "|gradient| over label spread, N = 25", -INF, 0.5,
             asked("strongest", "ratio")),
        ),
        "zipf": (
            ("z_1", "Unbalanced labels (z = 1) cost top-1", "", "top-1, z = 1 less 0, N = 25", -INF, -0.05,
             at(TOP1, MANY, zipf=1.0, less={"zipf": 0.0})),
            ("z_order", "Unbalanced labels (z = 1) leave order", "", "order, z = 1 less 0, N = 25", -0.05, INF,
             at(ORDER, MANY, zipf=1.0, less={"zipf": 0.0})),
            ("z_15", f"Very unbalanced labels (z = 1.5) cost top-1 at 15 labels{AFTER}", "",
             "top-1, z = 1.5 less 0, N = 15", -INF, -0.05, at(TOP1, 15, zipf=1.5, less={"zipf": 0.0})),
        ),
        "distractors": (
            ("d_4", "Four distractors: generalises at 25 labels", "", "top-1, N = 25", 0.8, 1,
             at(TOP1, MANY, task="row:distractors=4")),
            ("d_gradient", "Four distractors: a gradient that is half of that without over label spread, or more", "",
             "log2 of |gradient| over label spread, less that without, N = 25", -1, INF,
             greater("ratio", MANY, (None, {"task": "row"}), task="row:distractors=4")),
            ("d_size", f"Four distractors: a gradient that is half of that without in itself, or more{AFTER}", "",
             "log2 of |gradient|, less that without, N = 25", -1, INF,
             greater("position_gradient", MANY, (None, {"task": "row"}), task="row:distractors=4")),
            ("d_6", f"Six distractors cost top-1{AFTER}", "", "top-1, six less none, N = 25", -INF, -0.05,
             at(TOP1, MANY, task="row:distractors=6", less={"task": "row"})),
        ),
    }.items()
    for key, finding, paper, contrast, low, high, values in rows
)  # fmt: skip
