"""Claims on each task, encoder and loss under the printed recipe (`study.PRINTED_TASKS`), the same of all; thresholds fixed before
the runs. Ablations are judged by the seeds that know the order in .8 of cases or more without them.
"""

from experiments.studies.claim_values import ORDER, TOP1
from experiments.studies.contrasts import LEARNED, at, zeroed
from experiments.studies.study import PRINTED_TASKS
from experiments.studies.verdicts import INF, Claim

FEW, MANY = 5, 15
POSITION = "EP+PP+BP"  # attention by position
CHAIN = "unseen_chain"
TITLES = {
    "row": "One row, the paper's own testbed",
    "grid": "4 x 4 grids, two words",
    "grid_words": "4 x 4 grids, four words",
    "patches": "Patches of 2 x 2 pixels",
    "three": "Three objects",
    "left_right": "Left and right captions, two text layers",
    "layers": "Two vision layers",
    "norm_mlp": "LayerNorm and MLP",
    "rotary": "Rotary positions",
    "siglip": "SigLIP's loss",
    "reader": "A decoder that reads a vision encoder's tokens",
    "reader_raw": "A decoder that reads raw tokens",
}
WITHOUT_P = ("rotary",)  # of these no term at zero takes positions away
THE_PAPER = ("row", "grid", "three", "left_right", "layers", "norm_mlp", "rotary", "reader")  # what it says replicates


def variant_of(part: str) -> str:
    """The variant that a sweep of the study trains."""
    return part.removesuffix("_large")


def is_large(part: str) -> bool:
    """Whether the models of a sweep begin from N(0, 1)."""
    return part != variant_of(part)


def initial_values_of(part: str) -> str:
    """The initial values of a sweep, for people."""
    return "N(0, 1)" if is_large(part) else "small"


def title_of(part: str) -> str:
    """The name of a sweep for people."""
    return TITLES[variant_of(part)] + (", large initial values" if is_large(part) else "")


def metrics_of(part: str) -> tuple[str, str]:
    """The columns of the accuracy that says whether a task generalises, and of its order."""
    return (CHAIN, f"{CHAIN}_order") if variant_of(part) == "three" else (TOP1, ORDER)


def answer_of(part: str) -> str:
    """The answer that holds the ablations of a sweep."""
    return next(answer for answer in PRINTED_TASKS[part].answers if answer.endswith("routes"))


def of_part(part: str) -> tuple[Claim, ...]:
    """The claims on one sweep."""
    title, (top1, order), answer = title_of(part), metrics_of(part), answer_of(part)
    paper = "replicates" if variant_of(part) in THE_PAPER else ""
    grown = lambda study, name: at(top1, MANY)(study, name) - at(top1, FEW)(study, name)
    has_p = variant_of(part) not in WITHOUT_P
    taken = lambda terms, change: zeroed(terms, order, MANY, answer, change, least=LEARNED) if has_p else None
    rows = (
        ("many", "generalises at 15 labels so far", paper, "top-1, N = 15", 0.8, 1, at(top1, MANY)),
        ("order", "the order is known at 15 labels so far", paper, "order, N = 15", 0.8, 1, at(order, MANY)),
        ("few", "5 labels are enough so far", "", "top-1, N = 5", 0.8, 1, at(top1, FEW)),
        ("labels", "15 labels are ahead of 5 so far", "", "top-1, N = 15 less N = 5", 0.1, INF, grown),
        ("ep", "EP at zero takes order away", paper, "change of order, N = 15", -INF, -0.15,
         taken("EP", change=True)),
        ("zero", "without attention by position the order is chance", "", "order with EP + PP + BP at zero, N = 15", 0.45, 0.6,
         taken(POSITION, change=False)),
    )  # fmt: skip
    return tuple(
        Claim(f"{part}_{key}", f"{title}: {finding}", said, contrast, low, high, values, part)
        for key, finding, said, contrast, low, high, values in rows
    )


CLAIMS = tuple(claim for part in PRINTED_TASKS for claim in of_part(part))
