"""A random search by successive halving: what is drawn, and how its command reads ranges."""

import math

import numpy as np
import pytest

from lrjax.analysis.search import Space, best, draw, parse_ranges, parse_shapes
from lrjax.config import Model, Sweep
from lrjax.errors import InputError

SPACE = Space(Model(n_labels=5, task="three"), {"lr": (1e-4, 1e-2)}, {"hard_negatives": (False, True)}, metric="unseen_chain")


def test_configurations_are_the_base_with_ranges_drawn_and_shapes_in_turn():
    models = draw(SPACE, 400)
    assert {model.task for model in models} == {"three"} and [model.seed for model in models] == list(range(400))
    assert [model.hard_negatives for model in models] == [False, True] * 200
    logs = np.log10([model.lr for model in models])
    assert logs.min() >= -4 and logs.max() <= -2
    assert abs(logs.mean() + 3) < 4 * 2 / math.sqrt(12 * 400), "log-uniform: its mean within four standard errors"
    assert draw(SPACE, 3) == models[:3], "more configurations begin as fewer"


def test_a_stage_is_ranked_by_the_accuracy_that_is_searched_for():
    sweep = Sweep(tuple(draw(SPACE, 2)), steps=20, eval_every=10)
    history = {"model": np.tile([0, 1], 3), "step": np.repeat([0, 10, 20], 2)}
    history |= dict.fromkeys(("unseen_pair", "unseen_pair_order", "unseen_pair_label_set"), np.array([1, 0, 0.9, 0, 0.9, 0]))
    history |= {"unseen_chain": np.array([1, 1, 0.1, 0.5, 0.2, 0.3])}
    table = best(SPACE, history, sweep)
    np.testing.assert_array_equal(table["model"], [1, 0])
    np.testing.assert_array_equal(table["step"], [10, 20])
    np.testing.assert_array_equal(table["unseen_chain"], [0.5, 0.2])
    np.testing.assert_array_equal(table["at_the_end"], [0.3, 0.2])
    np.testing.assert_array_equal(table["hard_negatives"], [True, False])


def test_ranges_and_shapes_are_read_from_text():
    assert parse_ranges(["lr=3e-5:1e-3", "token_multiplier=1:11.3"]) == {"lr": (3e-5, 1e-3), "token_multiplier": (1.0, 11.3)}
    assert parse_shapes(["batch_size=50:100", "hard_negatives=True"]) == {"batch_size": (50, 100), "hard_negatives": (True,)}


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_ranges, "lrr=1:2", "--ranges=lrr=1:2: 'lrr' is no field that can be searched \\(did you mean 'lr'"),
        (parse_ranges, "n2=1:2", "--ranges=n2=1:2: 'n2' is no field"),
        (parse_ranges, "lr=2:1", "--ranges=lr=2:1: expected the least and the greatest"),
        (parse_ranges, "lr=0:1", "config.lr: 0.0 is not possible"),
        (parse_ranges, "lr=1e-3", "--ranges=lr=1e-3: expected the least and the greatest"),
        (parse_shapes, "batch_size=many", "--shapes=batch_size=many: expected values of batch_size joined by colons"),
        (parse_shapes, "seed=1:2", "--shapes=seed=1:2: 'seed' is no field"),
    ],
)
def test_a_bad_range_is_refused_by_name(parse, text, said):
    with pytest.raises(InputError, match=said):
        parse([text])
