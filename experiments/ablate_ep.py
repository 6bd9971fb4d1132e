"""Restore a sweep and zero attention terms at inference: what does left-right discrimination rest on? (Fig 5e, App H, App I)

python -m experiments.ablate_ep --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--encoder=vision|text] [--heads=0,2]
    [--ablations=EP,EP+PP,EP=0.5,random EP] [--ablations=doses|controls|each|recognition] [--images=single,unseen_pair] [--frozen]
"""

from absl import flags

from experiments import common
from lrjax import cli
from lrjax.analysis.ablate import ABLATIONS, CONTROLS, DOSES, TERMS_BY, ablate, each
from lrjax.analysis.selection import by_shape, merged
from lrjax.config import Static, depths
from lrjax.errors import InputError
from lrjax.gates import NONE
from lrjax.metrics import GIVEN_SET, LABEL_SET, SETS, SHOWN, Metric, tabled
from lrjax.models import objectives, positions
from lrjax.plotting import ablation as figures
from lrjax.stats import ACCURACY, Table, conditions, counted, format_interval, format_table, groups, select
from lrjax.training.run import model_columns

common.define_flags(frozen=True)
HEADS = flags.DEFINE_list("heads", None, "only these heads, such as 0,2")
TERMS = flags.DEFINE_list(
    "ablations",
    None,
    "what to take away: terms joined with + (EP+PP), scaled (EP=0.5), replaced (`mean EE`, `random EP`), any gates; or one of "
    f"controls, doses, each (head and term), recognition (default: {','.join(ABLATIONS[1:])})",
)
IMAGES = flags.DEFINE_list("images", ["single", "unseen_pair"], f"sets of images to evaluate: {', '.join(SETS)}")
RECOGNITION = {metric.column: metric.name for metric in (LABEL_SET, Metric("unseen_pair", "labels"), GIVEN_SET)}
GAUGE = """\
Mind the gauge: in a one-block vision encoder E_cls and P_0 enter only as their sum, so how the position gradient divides between
EP and PP is set by initial scales and weight decay, not learned. Read EP beside PP, BP and EP+PP+BP."""


TURNED = ("EB", "BB", "EB+BB")  # row-constant, and so idle, where positions do not turn queries and keys


def main() -> None:
    heads, images = cli.whole_numbers("heads", HEADS.value), IMAGES.value
    if TERMS.value is not None and not any(TERMS.value):
        raise InputError("--ablations=: is empty; expected terms such as EP,EP+PP")
    if bad := [name for name in images if name not in SETS] or ([] if "unseen_pair" in images else ["unseen_pair is missing"]):
        raise InputError(f"--images={','.join(images)}: {bad[0]}; expected unseen_pair, and single or seen_pair if you like")
    encoder = flags.FLAGS.encoder
    run = common.restore()

    def of_part(part):
        named = {"controls": CONTROLS, "doses": DOSES, "recognition": ABLATIONS}
        if "each" in (TERMS.value or ()):
            named["each"] = each(part.programs[0].static, encoder)
        usual = (*ABLATIONS, *TURNED) if positions.find(part.programs[0].static.positions).turns else ABLATIONS
        asked = [text for given in TERMS.value or usual for text in named.get(given, (given,))]
        return ablate(part, (NONE, *asked), encoder, heads, sets=images, frozen=flags.FLAGS.frozen)

    table = merged([of_part(part) for part in by_shape(run, *TERMS_BY)])
    measures = RECOGNITION if TERMS.value == ["recognition"] else SHOWN
    which = "all heads" if heads is None else f"heads {','.join(map(str, heads))}"
    where = f"{encoder} encoder, {which}, step {run.step}"
    print_tables(table, tuple(model_columns(run.sweep)), where, measures if measures is RECOGNITION else tabled(table))
    print(*dict.fromkeys(cautions(program.static, encoder) for program in run.programs), sep="\n")

    common.write_table("ablate_ep", table)
    common.draw("ablate_ep", figures.ablation, table, f"Terms taken away at inference: {where}", measures)


def print_tables(table: Table, axes: tuple[str, ...], where: str, measures: dict[str, str]) -> None:
    by = conditions(table, axes)
    for key, rows in groups(table, by).items():
        part = select(table, rows)
        base = select(part, part["ablation"] == NONE)
        condition = ", ".join(f"{name} = {value}" for name, value in zip(by, key, strict=True))
        print(f"\n{condition}: {where}, {counted(base['unseen_pair'])} seeds")
        lines = []
        for ablation in dict.fromkeys(part["ablation"].tolist()):
            ablated = select(part, part["ablation"] == ablation)
            cells = []
            for metric in measures:
                change = "" if ablation == NONE else format_interval(ablated[metric] - base[metric], signed=True)
                cells += [format_interval(ablated[metric], within=ACCURACY), change]
            lines.append([ablation, *cells])
        print(format_table(["zero", *(cell for name in measures.values() for cell in (name, "- none"))], lines))
    print("\nUnseen pairs; mean over seeds [95 % interval]; `- none`: paired difference to the baseline.")
    print("The baseline is this step alone; models.csv has the mean of the last three evaluations.\n")


def cautions(static: Static, encoder: str) -> str:
    """What to mind of a kind of encoder."""
    if caution := objectives.of(static).caution(encoder):
        return caution
    kind = positions.find(static.positions)
    if kind.caution:
        return f"positions={static.positions!r}: {kind.caution}"
    if not kind.trained:
        return "P is fixed: EP and PP are what initial scales make of it."
    if encoder == "text":
        return "EOT stands where captions end, at two positions: there is no gauge between EP and PP."
    has_gauge = depths(static)["vision"] == 1 and kind.cls_row
    return GAUGE if has_gauge else "Several layers, or no P_0: there is no gauge between EP and PP."


if __name__ == "__main__":
    cli.run(main)
