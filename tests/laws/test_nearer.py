"""The guide's example: a task in a file of its own."""

import jax
import numpy as np
import pytest

from conftest import ROOT, tiny_model
from lrjax import config
from lrjax.data.scenes import FIRST_LABEL
from lrjax.models.clip import model_splits


@pytest.mark.slow
def test_who_is_named_first_is_nearer_to_the_middle():
    model = tiny_model(task="nearer", relations="nearer", batch_size=400)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    draw = jax.jit(lambda hyper: static.task_object.batch(jax.random.key(0), model_splits(static, hyper), hyper, 400))
    batch = jax.device_get(draw(hyper))
    tokens, places = batch.images.tokens[:, 200:], batch.images.positions[:, 200:] - 1
    first, _, second = batch.captions[0].tokens
    place = lambda token: np.where(tokens[0] == token, *places)
    away = lambda token: np.abs(place(token) - (static.L - 1) / 2)
    assert (first >= FIRST_LABEL).all() and (away(first) < away(second)).all()
    assert set(np.sign(place(first) - place(second))) == {-1, 1}, "be it left or right"


def test_the_guide_shows_the_file_as_it_is():
    code = (ROOT / "lrjax/data/tasks/nearer.py").read_text()
    assert f"```python\n{code}```" in (ROOT / "docs/guides/extend.md").read_text()
