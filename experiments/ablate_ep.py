"""Restore a sweep and zero attention terms at inference: what does left-right discrimination rest on? (Fig 5e, App H, App I)

python -m experiments.ablate_ep --ckpt=runs/diversity [--labels=15] [--encoder=vision|text] [--heads=0,2]
"""

from pathlib import Path

from absl import flags

from lrjax import cli, figures, workdir
from lrjax.analysis.ablate import ABLATIONS, ablate
from lrjax.errors import InputError
from lrjax.gates import NONE
from lrjax.stats import Table, counted, format_interval, format_table, groups, select, varying, write_csv
from lrjax.sweep import model_columns

CKPT = flags.DEFINE_string("ckpt", None, "a workdir of experiments.sweep, its checkpoints, or one step", required=True)
LABELS = flags.DEFINE_list("labels", None, "only models with these numbers of labels, such as 15 or 5,25")
ENCODER = flags.DEFINE_string("encoder", "vision", "vision or text")
HEADS = flags.DEFINE_list("heads", None, "only these heads, such as 0,2")
TERMS = flags.DEFINE_list("ablations", None, f"what to set to zero, each terms joined with + (default: {','.join(ABLATIONS[1:])})")
OUT = flags.DEFINE_string("out", None, "folder for figures and tables (default: the workdir)")
MEASURES = {"unseen_pair_order": "order", "unseen_pair": "top-1", "unseen_pair_label_set": "label set"}
GAUGE = """\
Mind the gauge: in a one-block vision encoder E_cls and P_0 enter only as their sum, so how the position gradient divides between
EP and PP is set by initial scales and weight decay, not learned. Read EP beside PP, BP and EP+PP+BP."""


def main() -> None:
    labels, heads = cli.whole_numbers("labels", LABELS.value), cli.whole_numbers("heads", HEADS.value)
    if TERMS.value is not None and not any(TERMS.value):
        raise InputError("--ablations=: is empty; expected terms such as EP,EP+PP")
    ablations = tuple(dict.fromkeys((NONE, *(TERMS.value or ABLATIONS))))
    path = Path(CKPT.value)
    folder = workdir.output(path, OUT.value)
    run = workdir.restore(path)
    table = ablate(run, ablations, ENCODER.value, heads, labels)
    which = "all heads" if heads is None else f"heads {','.join(HEADS.value)}"
    where = f"{ENCODER.value} encoder, {which}, step {run.step}"
    print_tables(table, tuple(model_columns(run.sweep)), where)

    name = "ablate_ep" + ("" if ENCODER.value == "vision" else f"_{ENCODER.value}")
    filters = ("N", LABELS.value), ("h", HEADS.value), ("zero-", TERMS.value)
    name += "".join(f"_{what}{'-'.join(values)}" for what, values in filters if values)  # another question is another file
    csv = folder / "analysis" / f"{name}.csv"
    write_csv(csv, table)
    print(csv)
    print(figures.ablation(table, folder / "figures" / f"{name}.png", f"Terms set to zero at inference: {where}"))


def print_tables(table: Table, axes: tuple[str, ...], where: str) -> None:
    by = ("n_labels", *(name for name in varying(table, axes) if name not in ("model", "seed", "n_labels")))
    for key, rows in groups(table, by).items():
        part = select(table, rows)
        base = select(part, part["ablation"] == NONE)
        condition = ", ".join(f"{name} = {value}" for name, value in zip(by, key, strict=True))
        print(f"\n{condition}: {where}, {counted(base['unseen_pair'])} seeds")
        lines = []
        for ablation in dict.fromkeys(part["ablation"].tolist()):
            ablated = select(part, part["ablation"] == ablation)
            cells = []
            for metric in MEASURES:
                change = "" if ablation == NONE else format_interval(ablated[metric] - base[metric], signed=True)
                cells += [format_interval(ablated[metric]), change]
            lines.append([ablation, *cells])
        print(format_table(["zero", *(cell for name in MEASURES.values() for cell in (name, "- none"))], lines))
    print("\nUnseen pairs; mean over seeds [95 % interval]; `- none`: paired difference to the baseline.")
    print(f"The baseline is this step alone; models.csv has the mean of the last three evaluations.\n{GAUGE}\n")


if __name__ == "__main__":
    cli.run(main)
