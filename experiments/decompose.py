"""What are the attention scores made of? Maps and shares of every term, generalising beside non-generalising (Fig 5a-d, App F/G).

python -m experiments.decompose --ckpt=runs/diversity [--labels=15] [--where=n_heads=4] [--encoder=vision|text] [--layer=0]
    [--format=png|svg|pdf]
"""

from absl import flags

from lrjax import answers, cli, sweep
from lrjax.analysis import decompose
from lrjax.analysis.models import tidy
from lrjax.attention import TERMS
from lrjax.errors import InputError
from lrjax.figures import decompose as figures
from lrjax.stats import conditions, format_interval, format_table, groups

answers.define_flags()
LAYER = flags.DEFINE_integer("layer", 0, "which layer the figures show; the tables have all", lower_bound=0)
GENERALISES, FAILS = 0.8, 0.6  # top-1 on unseen pairs of the two models that are drawn side by side


def main() -> None:
    encoder = flags.FLAGS.encoder
    run = answers.restore()
    answer = decompose.decompose(run, encoder)
    if LAYER.value not in answer.layer:
        raise InputError(
            f"--layer={LAYER.value}: the {encoder} encoder has {answer.sizes['layer']}; expected 0..{answer.sizes['layer'] - 1}"
        )
    shares = tidy(answer[["share", "share_all"]])
    print_shares(answer)
    answers.write_table("shares", shares)
    answers.write_table("term_maps", tidy(answer[["scores"]].mean("query") if answer.sizes["model"] > 64 else answer[["scores"]]))

    here = answer.sel(layer=LAYER.value)
    answers.draw("terms_mean", figures.maps, here.mean("model"), f"mean over {answer.sizes['model']} models")
    tables = by_token(run, encoder) if LAYER.value == 0 else None
    for kind, row, title in chosen(run, here):
        answers.draw(f"terms_{kind}", figures.maps, here.isel(model=row), title)
        if tables is not None:
            answers.draw(f"EP_by_label_{kind}", figures.by_label, tables.isel(model=row), encoder, title)
    answers.draw("shares", figures.shares, here)


def by_token(run, encoder):
    """The maps by token and position; under rotary positions, where there are none, nothing but a line that says so."""
    try:
        return decompose.tables(run, encoder)
    except InputError as error:
        print(f"EP_by_label is not drawn: {error}")
        return None


def chosen(run, here):
    """(kind, row, title) of the model that generalises most and of the one that fails most, if there are such."""
    if so_far := answers.unfinished(run):
        print(f"No model that generalises, or fails, is drawn: {so_far}")
        return
    accuracy = sweep.models_table(run)["unseen_pair"]
    for kind, row in zip(("generalises", "fails"), decompose.examples(accuracy, GENERALISES, FAILS), strict=True):
        if row is None:
            print(f"no model {kind}: none is drawn")
        else:
            of = here.isel(model=row)
            yield kind, row, f"the model that {kind} most, N = {int(of.n_labels)}, seed {int(of.seed)}, top-1 {accuracy[row]:.2f}"


def print_shares(answer) -> None:
    names = [*TERMS, "(E+P)W(E+P)"]
    rows = []
    columns = {str(name): answer[name].values for name in answer.coords if answer[name].dims == ("model",)}
    by = conditions(columns, columns)
    for key, models in groups(columns, by).items():
        for layer in answer.layer.values:
            for which in answer.rows.values:
                share = answer.share_all.isel(model=models).sel(layer=layer, rows=which)
                cells = [format_interval(share.sel(term=term)) for term in TERMS]
                rows.append([*key, layer, which, *cells, format_interval(share.sel(term=list(decompose.LEARNED)).sum("term"))])
    print("share of the variance of scores, Cov(term, total) / Var(total), all heads; mean over seeds [95 % interval]")
    print(format_table([*by, "layer", "rows", *names], rows))


if __name__ == "__main__":
    cli.run(main)
