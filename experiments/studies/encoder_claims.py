"""Claims on each sweep of `study.ENCODERS`, with thresholds fixed before the runs; what was asked or worded after them says so.

Claims j, k, l, r and rotary are the paper's; the others are ours (`paper` is empty).
"""

from experiments.studies.claim_values import ORDER, SET, TOP1, N
from experiments.studies.contrasts import (
    at,
    best_kept,
    compounds,
    differs_in_size,
    kept,
    kept_alone,
    share,
    steadier,
    strongest_path,
    waits,
    zeroed,
)
from experiments.studies.verdicts import INF, Claim
from lrjax.gates import NONE

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
            ("ta_ep_5", "EP off from the first step, 5 labels: order as with it", "", "change of order, N = 5", -0.1, INF,
             at(ORDER, 5, gates="EP=0", less={"gates": NONE})),
            ("ta_ep_25", "EP off from the first step, 25 labels: order as with it", "", "change of order, N = 25", -0.1, INF,
             at(ORDER, 25, gates="EP=0", less={"gates": NONE})),
            ("ta_ep_pp", "EP and PP off: order is learned all the same", "", "order", 0.8, 1, at(ORDER, gates="EP+PP=0")),
            # written after the run, in place of BP's share of the gradient, which is 1 of necessity
            ("ta_ep_pp_bp", "EP and PP off: BP takes over (asked after the run)", "", "change of order with BP at zero", -INF,
             -0.15, zeroed("BP", ORDER, gates="EP+PP=0")),
            ("ta_all", "EP, PP and BP off: order stays near chance", "", "order", 0.45, 0.6, at(ORDER, gates="EP+PP+BP=0")),
            ("ta_all_set", "EP, PP and BP off: labels are named", "", "label set", 0.8, 1, at(SET, gates="EP+PP+BP=0")),
            ("ta_vp", "VP off: order is learned all the same", "", "order", 0.8, 1, at(ORDER, gates="VP=0")),
            ("ta_head", "EP off in one head: nothing is lost", "", "change of top-1", -0.1, INF,
             at(TOP1, gates="vision.h0:EP=0", less={"gates": NONE})),
            ("ta_anneal", "EP annealed away from step 2,000: the order is back by step 6,000", "", "change of order", -0.1, INF,
             at(ORDER, gates=RETRAINED, less={"gates": NONE})),
            ("ta_late", "EP on from step 3,000: PP keeps more than half of the gradient (worded after the run)", "", "share of EP",
             -0.2, 0.5,
             share("EP", gates=LATE)),
        ),
        "heads": (
            ("k", "One head trained from scratch fails (App K)", "fails", "top-1, n_heads = 1, d_head = 128", 0, 0.65,
             at(TOP1, n_heads=1, d_head=0)),
            ("k32", "One head of d_head = 32 from scratch fails (App K)", "fails",
             "top-1, n_heads = 1, d_head = 32", 0, 0.65, at(TOP1, n_heads=1, d_head=32)),
            ("k_more", "More heads help (d_head = 32)", "", "top-1 at 8 heads less 1", 0.05, INF,
             at(TOP1, n_heads=8, d_head=32, less={"n_heads": 1, "d_head": 32})),
            ("k_pruned", "Pruned after training to its best head a model fails (App K; asked after the run)", "fails",
             "top-1, best of four heads", 0, 0.65, best_kept(1)),
            ("k_pair", "Pruned after training to its best two heads a model keeps the skill (App K; asked after the run)", "yes",
             "top-1 of the best two of four heads, less all four", -0.1, INF,
             lambda study, part: best_kept(2)(study, part) - best_kept(4)(study, part)),
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
            ("j_one_few", "One text layer, 5 labels: chance too (asked after the run)", "chance", "order, one text layer, N = 5",
             0.45, 0.6, at(ORDER, 5, n_layers_text=1)),
            ("j_one_left", "One text layer: left-of by itself is at chance too", "", "order of left-of, one text layer", 0.45, 0.6,
             at(f"{ORDER}_left", n_layers_text=1)),
            ("j_one_right", "One text layer: and so is right-of", "", "order of right-of, one text layer", 0.45, 0.6,
             at(f"{ORDER}_right", n_layers_text=1)),
            ("j_right", "Two text layers learn right-of", "", "order of right-of, two text layers", 0.8, 1,
             at(f"{ORDER}_right", n_layers_text=2)),
            ("j", "Left+right captions: two text layers learn them (App J)", "yes", "order, two text layers", 0.8, 1,
             at(ORDER, n_layers_text=2)),
            ("j_path", "Two text layers: some path between two heads carries a tenth of the order", "",
             "greatest loss of order by one path, labels exchanged", -INF, -0.1, strongest_path("text_paths", N, n_layers_text=2)),
            # written after the run: what labels exchanged cannot show, that the word is told
            ("j_path_word", "Two text layers: some path tells the word (asked after the run)", "",
             "greatest loss of order by one path, the other word", -INF, -0.1,
             strongest_path("text_paths", N, "word", n_layers_text=2)),
        ),
        "depth": (
            ("l", "Gradients compound in two-layer vision (App L)", "left open",
             "share of layer 1's gradient that is gone without that of layer 0, N = 25", 0.2, INF, compounds(2)),
            ("l3", "Gradients compound in three layers (App L)", "left open",
             "share of layer 2's gradient that is gone without that of layer 0, N = 25", 0.2, INF, compounds(3)),
            ("l_steady", "Two layers: the second's gradient is the steadier over labels", "",
             "|mean| / sd over labels of s_j - s_i, best head of layer 1 less layer 0, N = 25", 0.1, INF, steadier(2)),
            ("l_top1", "Two layers generalise at 25 labels", "", "top-1, N = 25", 0.8, 1, at(TOP1, 25, n_layers_vision=2)),
            ("l_few", "Depth helps at 5 labels", "", "top-1 at N = 5, two layers less one", 0.05, INF,
             at(TOP1, 5, n_layers_vision=2, less={"n_layers_vision": 1})),
            ("l_zero", "Two layers: EP + PP + BP at zero in both is chance", "", "order, N = 25", 0.45, 0.55,
             zeroed("EP+PP+BP", ORDER, 25, "by_layer", False, n_layers_vision=2)),
            ("l_first", "Two layers: EP + PP + BP of the first is causal", "", "change of order, N = 25", -INF, -0.1,
             zeroed("vision.L0:EP+PP+BP=0", ORDER, 25, "by_layer", n_layers_vision=2)),
            ("l_path", "Two layers: some path between two heads carries a tenth of the order", "",
             "change of order by the strongest path, N = 25", -INF, -0.1, strongest_path("paths", 25, n_layers_vision=2)),
            ("l_last", "Two layers: EP + PP + BP of the last is causal", "", "change of order, N = 25", -INF, -0.1,
             zeroed("vision.L1:EP+PP+BP=0", ORDER, 25, "by_layer", n_layers_vision=2)),
        ),
        "norm_mlp": (
            ("r", "LayerNorm and MLP modify the mechanism (App R): EP", "yes",
             "|difference| in the share of order that EP at zero leaves, full block and neither, of seeds with an order "
             "of .8 in both (this added after the run)", 0.1, INF,
             differs_in_size(kept("EP", layer_norm=True, mlp_ratio=4), kept("EP", layer_norm=False, mlp_ratio=0))),
            ("r_sum", "LayerNorm and MLP modify the mechanism (App R): EP + PP + BP", "yes",
             "|difference| in the share of order that EP + PP + BP at zero leave, full block and neither, of seeds with an "
             "order of .8 in both (this added after the run)", 0.1, INF,
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
            ("rope_pi", "Rotary: the bias-position term EB + BB at zero takes the order away", "yes", "change of order", -INF,
             -0.15, zeroed("EB+BB", ORDER, positions="rotary")),
            ("rope_few", "Rotary positions generalise at fewer labels", "", "top-1 at N = 5, rotary less learned", 0.05, INF,
             at(TOP1, 5, positions="rotary", less={"positions": "learned"})),
            ("no_cls", "Without CLS's position PP is gone: EP at zero takes the order", "", "change of order", -INF, -0.3,
             zeroed("EP", ORDER, positions="learned_no_cls")),
            ("sinusoidal", "Fixed sinusoids generalise", "", "top-1", 0.8, 1, at(TOP1, positions="sinusoidal")),
            ("alibi", "A linear bias, given, is used: PP at zero takes the order away", "", "change of order", -INF, -0.15,
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
