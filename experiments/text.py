"""Restore a sweep and ask how it reads captions: where EOT looks, and how far a swap of labels moves an embedding.

python -m experiments.text --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--format=png|svg|pdf]

The terms of the text encoder and their ablations: `python -m experiments.ablate_ep --encoder=text`.
"""

from experiments import common
from lrjax import cli
from lrjax.analysis import text
from lrjax.analysis.models import tidy
from lrjax.plotting import text as figures
from lrjax.stats import conditions, format_interval, format_table, groups, select
from lrjax.training.run import model_columns

common.define_flags(encoder=False)


def main() -> None:
    run = common.restore()
    columns = model_columns(run.sweep)
    by = conditions(columns, columns)
    answer, swap = text.attention(run), text.swap(run)
    heads = text.head_table(answer)
    print_heads(text.of_a_model(answer), by)
    print_swap(swap, by)
    common.write_table("text", heads)
    common.write_table("text_swap", tidy(swap))
    common.draw("text", figures.odds, heads)
    common.draw("text_attention", figures.attention, heads)
    common.draw("text_swap", figures.swap, tidy(swap[["cosine"]]))


def print_heads(together, by: tuple[str, ...]) -> None:
    table = tidy(together)
    has = {"n_first": "heads on first", "n_second": "heads on second"}
    lines = []
    for key, rows in groups(table, ("set", *by, "layer", "word")).items():
        counts = [table[name][rows] for name in has]
        lines.append([*key, len(rows), *map(format_interval, counts), *(format_interval(count > 0) for count in counts)])
    print(format_table(["labels", *by, "layer", "word", "models", *has.values(), "has first", "has second"], lines))
    print(
        f"Heads a model whose EOT prefers the label named first (second) in at least {text.WHATEVER:.0%} of the captions: mean over"
    )
    print("seeds, and share of models that have one [95 % interval].\n")


def print_swap(swap, by: tuple[str, ...]) -> None:
    cosine, moved = tidy(swap[["cosine"]]), tidy(swap[["moved"]])
    of_fact = {fact: select(cosine, cosine["fact"] == fact) for fact in text.FACTS}
    lines = []
    for key, rows in groups(moved, ("kind", *by)).items():
        cells = []
        for table in of_fact.values():
            own = groups(table, ("kind", *by)).get(key)
            cells.append("-" if own is None else format_interval(table["cosine"][own]))
        lines.append([*key, *cells, format_interval(moved["moved"][rows])])
    print(format_table(["kind", *by, *text.FACTS, "moved"], lines))
    print("Cosine of the embeddings of two facts about held-out labels by what they share (`same`: in another layout, or said with")
    print("the other word); moved = (1 - swapped) / (1 - none). Mean over seeds [95 % interval].\n")


if __name__ == "__main__":
    cli.run(main)
