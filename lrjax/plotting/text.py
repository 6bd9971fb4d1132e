"""Figures of how captions are read: where EOT looks, and how far a swap of labels moves an embedding."""

from pathlib import Path

import numpy as np

from lrjax.analysis.models import CAPTION_POSITIONS
from lrjax.analysis.text import FACTS
from lrjax.plotting.style import COLOURS, MARKERS, Figure, beside, grid, headline, legend, line, save, styled
from lrjax.stats import ACCURACY, Table, groups, select

ROWS = ("layer", "word")  # a panel each, where they vary
WHATEVER = {
    "first": "prefers the first label, whatever it is",
    "second": "prefers the second, whatever it is",
    "neither": "neither",
}


@styled
def odds(table: Table, path: Path | None = None) -> Figure:
    """The log odds of first against second label of every head: mean and standard deviation over pairs of labels, held-out ones and
    trained ones. From `text.head_table`.
    """
    named = np.where(table["set"] == "heldout", "held-out", table["set"])
    figure, panels = grid(table | {"labels": named}, ("labels", *ROWS), height=2.3)
    n_heads = len(set(table["head"].tolist()))
    for axis, part in panels:
        seeds = np.unique(part["seed"])
        for h in range(n_heads):
            rows = select(part, part["head"] == h)
            x = beside(seeds, rows["seed"], h, n_heads)
            style = dict(color=COLOURS[h % 7], marker=MARKERS[h % 7], ms=4, lw=1, ls="none", label=f"head {h}")
            axis.errorbar(x, rows["log_odds"], rows["log_odds_sd"], **style)
        axis.axhline(0, color="0.4", lw=0.8, ls=(0, (1, 2)))
        axis.set(xlabel="seed", ylabel="log odds of EOT's attention:\nfirst over second label")
        axis.set_xticks(range(len(seeds)), seeds)
        axis.grid(axis="x", visible=False)
    legend(figure, panels)
    headline(
        figure,
        "Which label each head of EOT prefers: mean and standard deviation over pairs of labels (a bar off 0: whatever the label)",
    )
    return save(figure, path)


@styled
def attention(table: Table, path: Path | None = None) -> Figure:
    """EOT's mean attention to each token, by what a head prefers; captions of held-out labels. From `text.head_table`."""
    table = select(table, table["set"] == "heldout")
    tokens = [name for name in CAPTION_POSITIONS if f"attention_sd_{name}" in table]
    figure, panels = grid(table, ROWS)
    for axis, part in panels:
        for k, (kind, label) in enumerate(WHATEVER.items()):
            rows = select(part, part["whatever"] == kind)
            if len(rows["model"]):
                x = np.arange(len(tokens)) + (k - 1) * 0.08
                line(axis, x, [rows[f"attention_{token}"] for token in tokens], k, label, ACCURACY)
        axis.set(xlabel="token of the caption", ylabel="EOT's attention", ylim=(-0.03, 1.03))
        axis.set_xticks(range(len(tokens)), tokens)
    legend(figure, panels)
    headline(figure, "Where EOT looks, captions of unseen pairs: mean over heads, 95 % interval, heads as dots")
    return save(figure, path)


@styled
def swap(table: Table, path: Path | None = None) -> Figure:
    """The cosine of two facts by what they share: captions and images."""
    facts = [fact for fact in FACTS if not np.isnan(table["cosine"][table["fact"] == fact]).all()]
    figure, panels = grid(table)
    for axis, part in panels:
        for k, (kind,) in enumerate(groups(part, ("kind",))):
            own = select(part, part["kind"] == kind)
            known = [f for f in facts if not np.isnan(own["cosine"][own["fact"] == f]).all()]
            x = [facts.index(f) + (k - 0.5) * 0.12 for f in known]
            line(axis, x, [own["cosine"][own["fact"] == f] for f in known], k, f"{kind}s")
        axis.set(xlabel="what two facts share", ylabel="cosine of embeddings")
        axis.set_xticks(range(len(facts)), [fact.replace(", ", ",\n") for fact in facts], rotation=40, ha="right", size=8)
    legend(figure, panels)
    headline(figure, "Swap test on unseen pairs, 'x left of y' against another fact: mean over seeds, 95 % interval")
    return save(figure, path)
