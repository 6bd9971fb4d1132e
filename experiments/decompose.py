"""What are the attention scores made of? Maps and shares of every term, generalising beside non-generalising (Fig 5a-d, App F/G).

python -m experiments.decompose --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--encoder=vision|text] [--layer=0]
    [--format=png|svg|pdf]
"""

from absl import flags

from experiments import common
from lrjax import cli
from lrjax.analysis import decompose
from lrjax.analysis.models import tidy
from lrjax.errors import InputError
from lrjax.plotting import decompose as figures
from lrjax.stats import conditions, format_interval, format_table, groups
from lrjax.terms import TERMS

common.define_flags()
LAYER = flags.DEFINE_integer("layer", 0, "which layer the figures show; the tables have all", lower_bound=0)


def main() -> None:
    encoder = flags.FLAGS.encoder
    run = common.restore()
    answer = decompose.decompose(run, encoder)
    if LAYER.value not in answer.layer:
        raise InputError(
            f"--layer={LAYER.value}: the {encoder} encoder has {answer.sizes['layer']}; expected 0..{answer.sizes['layer'] - 1}"
        )
    shares = tidy(answer[[*decompose.SHARES]])
    print_shares(answer)
    common.write_table("shares", shares)
    common.write_table("term_maps", tidy(answer[["scores"]].mean("query") if answer.sizes["model"] > 64 else answer[["scores"]]))

    here = answer.sel(layer=LAYER.value)
    common.draw("terms_mean", figures.maps, here.mean("model"), f"mean over {answer.sizes['model']} models")
    tables = by_token(run, encoder) if LAYER.value == 0 else None
    for kind, row, title in common.examples(run):
        common.draw(f"terms_{kind}", figures.maps, here.isel(model=row), title)
        if tables is not None:
            common.draw(f"EP_by_label_{kind}", figures.by_label, tables.isel(model=row), encoder, title)
    common.draw("shares", figures.shares, here)


def by_token(run, encoder):
    """The maps by token and position; under rotary positions, where there are none, nothing but a line that says so."""
    try:
        return decompose.tables(run, encoder)
    except InputError as error:
        print(f"EP_by_label is not drawn: {error}")
        return None


def print_shares(answer) -> None:
    columns = {str(name): answer[name].values for name in answer.coords if answer[name].dims == ("model",)}
    by = conditions(columns, columns)
    kinds = {
        "share of the variance of scores, Cov(term, total) / Var(total)": (
            answer.share_all,
            answer.share_all.sel(term=list(decompose.LEARNED)).sum("term"),
        ),
        "ratio of standard deviations, std(term) / std(total)": (answer.std_ratio_all, answer.std_ratio_learned_all),
    }
    for kind, (of_term, of_learned) in kinds.items():
        rows = []
        for key, models in groups(columns, by).items():
            for layer in answer.layer.values:
                for which in answer.rows.values:
                    here = dict(layer=layer, rows=which)
                    cells = [format_interval(of_term.isel(model=models).sel(here | {"term": term})) for term in TERMS]
                    rows.append([*key, layer, which, *cells, format_interval(of_learned.isel(model=models).sel(here))])
        print(f"{kind}, all heads, scores centred per row; mean over seeds [95 % interval]")
        print(format_table([*by, "layer", "rows", *TERMS, "(E+P)W(E+P)"], rows))


if __name__ == "__main__":
    cli.run(main)
