"""Maps and shares of the attention terms (Fig 5a-d, App F/G of the paper)."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.patches import Rectangle

from lrjax.analysis.decompose import LEARNED
from lrjax.plotting.style import COLOURS, PANEL, Figure, headline, legend_below, line, save, styled, subplots
from lrjax.stats import groups
from lrjax.terms import ROW_CONSTANT, TERMS

SHOWN = tuple(term for term in TERMS if term not in ROW_CONSTANT)


@styled
def maps(answer: xr.Dataset, title: str, path: Path | None = None) -> Figure:
    """`scores` [term, head, query, key] of one model or a mean: a row a term, a column a head; in each row of scores its mean taken
    away, since softmax does. The readout's row is outlined.
    """
    total = answer.scores.sel(term=list(SHOWN)).sum("term", min_count=1).expand_dims(term=["sum"])
    shown = xr.concat([answer.scores.sel(term=list(SHOWN)), total], "term")
    shown = shown - shown.mean("key")
    n_heads, n_terms, n_queries = shown.sizes["head"], shown.sizes["term"], shown.sizes["query"]
    figure, axes = subplots(n_terms, n_heads, figsize=(2 * PANEL, 7.2 / max(n_heads, 3) * n_terms + 1.4), squeeze=False)
    keys, queries, heads, terms = (shown.coords[name].values for name in ("key", "query", "head", "term"))
    readout = 0 if n_queries > 4 else n_queries - 1
    for column, head in zip(axes.T, heads, strict=True):
        limit = float(np.nanmax(np.abs(np.asarray(shown.sel(head=head))))) or 1.0
        for axis, term in zip(column, terms, strict=True):
            image = axis.imshow(shown.sel(head=head, term=term), cmap="PuOr", vmin=-limit, vmax=limit)
            axis.add_patch(Rectangle((-0.5, readout - 0.5), shown.sizes["key"], 1, fill=False, lw=0.8, ec="black"))
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        column[0].set_title(f"head {head}")
        column[-1].set_xlabel(f"key: {keys[0]} .. {keys[-1]}", size=8)
        figure.colorbar(image, ax=list(column), location="bottom", shrink=0.9, label="score, row\nmean removed")
    for axis, term in zip(axes[:, 0], terms, strict=True):
        axis.set_ylabel(f"{term}\nquery: {queries[0]} .. {queries[-1]}", size=8)
    headline(figure, f"What each attention term scores, images of unseen pairs; the readout's row is outlined: {title}")
    return save(figure, path)


@styled
def by_label(tables: xr.Dataset, encoder: str, title: str, path: Path | None = None) -> Figure:
    """EP of one model, E W_QK P^T: a row a label (and the readout token), a column a key position; a panel a head. (Fig 5)"""
    readout = "CLS" if encoder == "vision" else "EOT"
    n_special = 6
    named = tables.query_token.values[n_special:]
    labels = [name for name in named if not name.isdigit() or int(name) <= tables.n_labels]  # not those of padding
    figure, axes = subplots(
        2,
        tables.sizes["head"],
        figsize=(2 * PANEL, 5),
        squeeze=False,
        height_ratios=(3, 1.4),
        sharex=True,
        sharey="row",
    )
    places = np.arange(tables.sizes["key_position"])
    ep = tables.EP - tables.EP.mean("key_position")
    limit = float(abs(ep.sel(query_token=labels)).max())
    for axis, below, head in zip(*axes, tables["head"].values, strict=True):
        image = axis.imshow(ep.sel(head=head, query_token=labels), cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        axis.set(title=f"head {head}", yticks=[])
        axis.grid(False)
        below.plot(places, ep.sel(head=head, query_token=readout), marker="o", ms=3, color=COLOURS[0])
        below.axhline(0, color="0.6", lw=0.8)
        below.set_xticks(places[::5], tables.key_position.values[::5])
        below.set_xlabel("key")
    axes[0, 0].set_ylabel(f"query: labels {labels[0]} .. {labels[-1]}")
    axes[1, 0].set_ylabel(f"query: {readout}")
    figure.colorbar(image, ax=axes[0], label="EP score, row mean removed")
    headline(figure, f"EP = E W_QK P$^T$, by label and key position: {title}")
    return save(figure, path)


@styled
def shares(answer: xr.Dataset, path: Path | None = None) -> Figure:
    """What each term holds of the scores, against N: its share of the variance (above), and the ratio of standard deviations
    (below); of the readout row and of all rows; seeds as dots. (E+P)W(E+P) is EE + EP + PE + PP.
    """
    figure, axes = subplots(2, 2, figsize=(2 * PANEL, 6.2), sharex=True, sharey="row")
    names = {"readout": "readout row", "all": "all rows"}
    by_n = groups({"n": answer.n_labels.values}, ("n",))
    learned = answer.share_all.sel(term=list(LEARNED)).sum("term")
    kinds = ((answer.share_all, learned), (answer.std_ratio_all, answer.std_ratio_learned_all))
    for row, (of_term, of_learned) in zip(axes, kinds, strict=True):
        for axis, rows in zip(row, names, strict=True):
            lines = {term: of_term.sel(term=term) for term in SHOWN} | {"(E+P)W(E+P)": of_learned}
            for k, (term, share) in enumerate(lines.items()):
                values = share.sel(rows=rows).values
                line(axis, [n for (n,) in by_n], [values[i] for i in by_n.values()], k, term)
            axis.axhline(0, color="0.6", lw=0.8)
            axis.set_xticks([n for (n,) in by_n])
    for above, below, name in zip(*axes, names.values(), strict=True):
        above.set(title=name)
        below.set(xlabel="number of training labels N")
    axes[0, 0].set_ylabel("share of the scores' variance")
    axes[1, 0].set_ylabel("ratio of standard deviations")
    legend_below(figure, *axes[0, 0].get_legend_handles_labels())
    headline(figure, "What each term holds of the scores: mean over seeds, 95 % interval, seeds as dots")
    return save(figure, path)
