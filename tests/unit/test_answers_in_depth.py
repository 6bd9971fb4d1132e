"""Every answer that studies ask, of models in depth: it is given, or refused by a message that names the field."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from conftest import tiny_model
from experiments.studies.answers import ANSWERS
from lrjax import config
from lrjax.analysis import depth, models, selection
from lrjax.analysis.ablate import ablate
from lrjax.errors import InputError
from lrjax.metrics import METRICS
from lrjax.models.clip import as_read, model_splits
from lrjax.training import loop
from lrjax.training.programs import init_program
from lrjax.training.run import History

# the printed model, small: two passes of one layer, no projection of images, dropout, a finite set
PRINTED = dict(n_labels=15, n_heads=4, n_heldout=3, L=5, n1=2, n2=3, batch_size=8, single_caption_length=4)
PRINTED |= dict(projection="text", n_repeats=2, data="fixed", dropout=0.1, d_model=8, d_embed=8)
KINDS = {
    "attention": {},
    "post": dict(layer_norm=True, norm="post"),
    "pre with an MLP": dict(layer_norm=True, mlp_ratio=2),
    "post with an MLP": dict(layer_norm=True, norm="post", mlp_ratio=2),
}
FIELDS = {field.name for field in dataclasses.fields(config.Model)}
RNG = np.random.default_rng(0)


def numbers(tree):
    """Arrays of random numbers, of the shapes and types of `tree`."""
    return jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(x.dtype), tree)


def trained_run(*several):
    """A run that looks trained: its parameters and history are random numbers, so that nothing is compiled."""
    run = loop.start(config.Sweep(several, steps=2, eval_every=1))
    run.states = [numbers(jax.eval_shape(lambda hyper, s=p.static: init_program(s, hyper), p.hyper)) for p in run.programs]
    n, metrics = len(several), ("loss", *METRICS)
    for p, state in zip(run.programs, run.states, strict=True):
        state.diverged_at[:] = -1
        assert len(p.evaluated_at) == 3
    run.history = History(metrics, [np.full(n, step) for step in range(3)], [RNG.random((n, len(metrics))) for _ in range(3)])
    run.at, run.evaluated = [2] * len(run.programs), [3] * len(run.programs)
    return run


@pytest.fixture
def traced(monkeypatch):
    """Questions are traced and not compiled: the answer has the right shape, and random numbers."""

    def ask(question, static, mesh, hyper, params, step):
        def one(hyper, params):
            return question(static, hyper, model_splits(static, hyper), as_read(hyper, params), hyper.gates.at(step))

        return numbers(jax.eval_shape(jax.vmap(one), hyper, params))

    monkeypatch.setattr(models, "_map_in_one_program", ask)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_given_or_refused_by_the_field(traced, kind):
    run = trained_run(*(tiny_model(seed=seed, **PRINTED | KINDS[kind]) for seed in (0, 1)))
    broken = {}
    for name, ask in ANSWERS.items():
        try:
            table = ask(run)
            if len({len(column) for column in table.values()}) != 1 or set(table["model"].tolist()) != {0, 1}:
                broken[name] = f"a table of models {table['model']}"
        except InputError as error:
            if not FIELDS & set(re.findall(r"(\w+)=", told := str(error))):
                broken[name] = told
        except Exception as error:
            broken[name] = repr(error)
    assert not broken


def test_a_layer_that_runs_twice_is_deep_and_one_that_runs_once_is_not():
    run = loop.start(config.Sweep((tiny_model(), tiny_model(n_repeats=2)), steps=1, eval_every=1))
    assert depth.deep(run, "vision").sweep.numbers == (1,)
    with pytest.raises(InputError, match="paths: n_layers_text=1, n_repeats=1 in every model"):
        depth.paths(depth.deep(selection.where(run, ["n_repeats=1"]), "text"), "text")


def test_images_that_a_task_does_not_have_are_named():
    run = loop.start(config.Sweep((tiny_model(),), steps=1, eval_every=1))
    with pytest.raises(InputError, match="sets: 'unseen_chain': task='row' has no such images"):
        ablate(run, sets=("unseen_pair", "unseen_chain"))
