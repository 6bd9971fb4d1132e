"""Any value in any field of a config is accepted, or answered in one line that names the field. Nothing is compiled to say so.

LRJAX_FUZZ=5000 python -m pytest tests/reliability/test_fuzz.py tries as many examples (default 100).
"""

import json
import os
import re
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from conftest import TINY, tiny_sweep
from lrjax.config import AXES, RUN, STATIC, make_sweep, validate
from lrjax.errors import InputError
from lrjax.kinds import DATA, LOSSES, NORMS, OBJECTIVES, POSITIONS, PROJECTIONS
from lrjax.storage import checkpoint, serialization, workdir
from lrjax.training.programs import init_program, make_programs, split_program, train_chunk

FIELDS = ("seeds", "first_seed", "scales", *RUN, *AXES, *STATIC)
TASKS = ("row", "row:distractors=2", "grid", "grid:height=6,size=2,patch=2", "grid:size=9", "three", "nearer")
EXAMPLES, SHAPES = int(os.environ.get("LRJAX_FUZZ", 100)), 3
TABLE = tiny_sweep(betas=((0.9, 0.98), (0.5, 0.6)))
many = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=EXAMPLES == 100
)

numbers = st.one_of(st.integers(), st.integers(-3, 70), st.floats(), st.floats(0, 2), st.fractions(), st.decimals())
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["none", "left", "left+right", "nan", "-inf", "1e999", "float32", "True", "", "²", "١"]),
    st.from_regex(
        r"((vision|text)?(\.[Lh][0-9²]{1,3}){0,2}:)?[EPBV]{2}(\+[EP]{2})?=[-0-9.e²n]{1,4}(>[0-9.]{1,3}@[0-9²]{1,9}-[0-9]{1,20})?",
        fullmatch=True,
    ),
)
arrays = st.sampled_from(
    [np.float32(0.5), np.int64(3), np.array(4), np.array([1, 2]), np.array([]), np.bool_(True), np.float64("nan")]
)
scalars = st.one_of(numbers, texts, arrays, st.none(), st.booleans(), st.binary(max_size=3), st.complex_numbers())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
        st.sets(texts, max_size=2),
    ),
    max_leaves=4,
)
likely = {  # values that are often possible, so that the accepted are many and the rarer rules are reached
    **{
        name: st.integers(1, 60)
        for name in ("n_labels", "n2", "n1", "L", "n_heldout", "d_model", "n_heads", "d_embed", "batch_size")
    },
    **{name: st.integers(0, 20) for name in ("d_head", "mlp_ratio")},
    "positions": st.one_of(st.sampled_from(tuple(POSITIONS)), texts),
    **{name: st.booleans() for name in ("layer_norm", "hard_negatives", "distinct", "decay_cls")},
    **{name: st.floats(0, 2) for name in ("zipf", "caption_noise", "contrastive", "supervision")},
    "task": st.one_of(st.sampled_from(TASKS), st.from_regex(r"(row|grid|three):[a-z]{1,6}=[-0-9a-z²]{0,5}", fullmatch=True), texts),
    "objective": st.one_of(st.sampled_from(tuple(OBJECTIVES)), texts),
    "pair_loss": st.one_of(st.sampled_from(LOSSES), texts),
    **{
        name: st.one_of(st.sampled_from(known), texts)
        for name, known in (("data", DATA), ("norm", NORMS), ("projection", PROJECTIONS))
    },
    "scales": st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), max_size=2),
    "token_multiplier": st.floats(0, 12),
    "dropout": st.floats(0, 1),
    "n_repeats": st.integers(1, 4),
    "single_caption_length": st.integers(2, 5),
    "logit_scale": st.floats(0, 120),
    **{name: st.floats(0, 1) for name in ("weight_decay", "lr", "e_scale", "p_scale", "eps")},
    **{name: st.integers(1, 4) for name in ("n_layers_vision", "n_layers_text", "seeds", "first_seed")},
    **{name: st.integers(0, 1000) for name in (*RUN, "warmup_steps")},
    "gates": texts,
    "relations": texts,
    "matmul_precision": texts,
    "mask_repeats": st.booleans(),
    "betas": st.tuples(st.floats(0, 1), st.floats(0, 1)),
}
possible = {"eval_every": 1, "L": 23, "n1": 1, "n2": 1, "n_heads": 1}  # with these most likely values are possible
changes = st.lists(st.sampled_from(FIELDS), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: st.one_of(likely[name], likely[name], values, st.lists(likely[name], max_size=2)) for name in names}
    )
)
configs = st.one_of(changes, changes.map(lambda changed: possible | changed))


def names_a_field(error: InputError) -> bool:
    """One short line that begins with the field."""
    text = str(error)
    field = re.match(r"config\.(\w+): |(gates)[: ]|(config): the product of seeds and axes", text)
    return bool(field) and field[field.lastindex] in (*FIELDS, "config") and "\n" not in text and len(text) < 500


@many
@given(configs)
def test_a_config_is_accepted_or_its_field_is_named(config):
    try:
        accepted = make_sweep(config)
    except InputError as error:
        assert names_a_field(error), str(error)
        event("refused")
        return
    event("accepted")
    validate(accepted)
    assert accepted == serialization.sweep_from_json(json.loads(json.dumps(serialization.sweep_to_json(accepted)))), (
        "and survives its checkpoint"
    )


@pytest.mark.slow
def test_accepted_configs_of_different_shapes_train():
    """The first accepted ones of a few shapes small enough to compile in seconds make 2 steps with finite parameters."""
    small = st.fixed_dictionaries(
        {name: st.integers(low, high) for name, (low, high) in dict(n_labels=(2, 6), n1=(1, 4), n2=(1, 5), L=(5, 9)).items()}
        | {name: st.sampled_from(choices) for name, choices in dict(batch_size=(2, 10), d_model=(4, 12), n_heads=(1, 4)).items()}
        | {"relations": st.sampled_from(["left", "left+right"]), "gates": st.sampled_from(["none", "text:EP=0", "VP=1>0@0-1"])}
        | {"n_layers_vision": st.integers(1, 2), "mask_repeats": st.booleans(), "n_heldout": st.integers(2, 3)}
    )
    ran = []

    @settings(max_examples=SHAPES, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(small)
    def train(config):
        (program,) = make_programs(make_sweep(TINY | config | {"seeds": 1}))
        parts = (part(program.static, program.hyper) for part in (split_program, init_program))
        states, losses = train_chunk(program.static, program.hyper, *parts, jnp.int32(0), 2)
        assert losses.shape == (1, 2) and jnp.isfinite(losses).all() and (states.diverged_at == -1).all()
        ran.append(program.static)

    train()
    assert len(set(ran)) >= SHAPES - 1


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=2)),
    max_leaves=4,
)


@many
@given(st.data())
def test_a_config_json_is_a_sweep_or_is_refused(data):
    """Checkpoints and config.json are data from anywhere: any value in any place of one, and no other exception."""
    found = {"format": checkpoint.FORMAT, "versions": {}, **serialization.sweep_to_json(TABLE)}
    inside = data.draw(st.booleans())
    target = found["models"] if inside else found
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(json_values)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(found))
        try:
            workdir.open_run(Path(folder), TABLE, resume=True)
            event("accepted")
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
            event("refused")
        workdir._locks.clear()  # thousands of open files
