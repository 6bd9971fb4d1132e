"""Is there a configuration in which a task is learned? A random search by successive halving over what the recipe fixes.

python -m experiments.search --config=experiments/configs/printed_tasks.py:siglip --workdir=runs/search_siglip
    [--configurations=64 --keep=8 --confirm=1] [--metric=unseen_pair_order] [--ranges=lr=3e-5:1e-3,e_scale=.01:1]
    [--shapes=batch_size=50:100]

The model is the config's of most labels. `screen` trains all configurations, `full` the best --keep of them, `confirm` the best
--confirm with 16 fresh seeds, read at the step where they were best. A second call goes on where the first was stopped.
"""

from pathlib import Path

from absl import flags

from experiments.studies.search import define_budget, search
from lrjax import cli
from lrjax.analysis.search import Space, parse_ranges, parse_shapes
from lrjax.config import make_static, make_sweep
from lrjax.errors import InputError, suggest
from lrjax.training.retrieval import metric_names

CONFIG = cli.define_config(Path(__file__).parent / "configs" / "printed_tasks.py")
WORKDIR = cli.define_path("workdir", "runs/search", "folder of the three sweeps and the tables")
RANGES = flags.DEFINE_list(
    "ranges",
    ["lr=3e-5:1e-3", "weight_decay=0.02:2", "e_scale=0.01:1", "p_scale=0.01:1", "token_multiplier=1:11.3"],
    "fields that are drawn, and from where to where (log-uniformly)",
)
SHAPES = flags.DEFINE_list(
    "shapes", ["batch_size=50:100:200", "hard_negatives=False:True"], "fields that take these values in turn"
)
METRIC = flags.DEFINE_string("metric", "unseen_pair", "the accuracy that ranks configurations, a column of history.csv")
BUDGET = define_budget(configurations=64, keep=8, confirmed=1, screen_steps=4000, steps=16_000, every=1000)


def main() -> None:
    base = max(make_sweep(CONFIG.value).models, key=lambda model: model.n_labels)
    static = make_static([base])
    if METRIC.value not in (metrics := metric_names(static, static.task_object.SETS)):
        hint = suggest(METRIC.value, metrics)
        raise InputError(f"--metric={METRIC.value}: is no accuracy of this config{hint}; expected a column of its history.csv")
    space = Space(base, parse_ranges(RANGES.value), parse_shapes(SHAPES.value), METRIC.value)
    search(Path(WORKDIR.value), space, BUDGET())


if __name__ == "__main__":
    cli.run(main)
