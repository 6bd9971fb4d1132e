"""The regime map: what counts as agreement, on histories made by hand; and the whole search on tiny models."""

import dataclasses

import jax
import numpy as np
import pytest

import figures_read
from conftest import TINY
from lrjax.analysis import regime
from lrjax.config import validate
from lrjax.data.scenes import render
from lrjax.models import encoder as encoders
from lrjax.models.clip import encoder_configs, unit_gates
from lrjax.models.interventions import Interventions
from lrjax.plotting.regime import regime_map
from lrjax.training import loop
from lrjax.training.run import history_table


def test_head_bias_is_that_of_the_attention_pattern(tiny):
    """From tables, against the pattern of encoder.run on every unseen pair, under gates that are not 1."""
    static, _, params, _ = tiny
    gates = unit_gates(static)
    gates = gates.replace(vision=jax.random.uniform(jax.random.key(0), gates.vision.shape))
    row = static.task_object
    s, ids = jax.device_get(jax.jit(lambda: (row.unseen(), render(row.image, row.image_edits(row.unseen()))))())
    shape = encoder_configs(static)["vision"]
    run = lambda one: encoders.run(params.vision, Interventions(gates.vision), one, shape, 0).caches[0].pattern[:, 0]
    pattern, n = np.asarray(jax.jit(jax.vmap(run))(ids)), np.arange(len(ids))  # [n, h, t]
    expected = (pattern[n, :, s.j + 1] > pattern[n, :, s.i + 1]).mean(0)
    np.testing.assert_allclose(
        jax.jit(lambda: regime.head_bias(static, params, gates))(), expected, atol=3 / len(ids)
    )  # scores that tie to rounding
    assert ((expected > 0) & (expected < 1)).any()


def history(**changes):
    """One configuration, N = 5 and 15, one seed, three evaluations: the paper's finding, with changes."""
    n = 6
    base = {name: np.full(n, value) for name, value in (("e_scale", 1.0), ("p_scale", 0.1), ("lr", 1e-3), ("weight_decay", 0.1))}
    base |= {"n1": np.full(n, 5), "n2": np.full(n, 10), "model": np.repeat([0, 1], 3), "n_labels": np.repeat([5, 15], 3)}
    base |= {"step": np.tile([0, 250, 500], 2), "single": np.tile([0, 1.0, 1], 2), "seen_pair": np.tile([0, 0.9, 1], 2)}
    base |= {"unseen_pair": np.array([0, 0.1, 0.1, 0, 0.6, 0.9]), "unseen_pair_label_set": np.full(n, 0.95)}
    base |= {"ep_zero": np.full(n, 0.5), "ep_zero_label_set": np.full(n, 0.95), "pp_zero": np.array([0, 0.1, 0.1, 0, 0.6, 0.88])}
    base |= {"pe_zero": np.array([0, 0.1, 0.1, 0, 0.6, 0.9]), "bias_low": np.full(n, 0.3), "bias_high": np.full(n, 0.7)}
    return base | changes


def test_the_papers_finding_agrees_in_every_row_at_its_best_step():
    best = regime.best_steps(regime.read(history()))
    assert len(best["step"]) == 1 and best["step"][0] == 500 and best["agree"][0] == len(regime.ROWS) and best["shortfall"][0] == 0


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ("top1_many", {"unseen_pair": np.array([0, 0.1, 0.1, 0, 0.6, 0.7])}),
        ("top1_few", {"unseen_pair": np.array([0, 0.5, 0.5, 0, 0.6, 0.9])}),
        ("ep_top1", {"ep_zero": np.full(6, 0.85)}),
        ("ep_set", {"ep_zero_label_set": np.full(6, 0.5)}),
        ("pp_idle", {"pp_zero": np.full(6, 0.5)}),
        ("pe_idle", {"pe_zero": np.full(6, 0.5)}),
        ("both_ways", {"bias_low": np.full(6, 0.5)}),
        ("phases", {"single": np.array([0, 0.5, 1, 0, 0.5, 1.0]), "seen_pair": np.array([0, 0.5, 1, 0, 0.5, 1.0])}),
    ],
)
def test_each_row_can_fail_alone(row, changes):
    best = regime.best_steps(regime.read(history(**changes)))
    failed = {name for name in regime.ROWS if not best["agrees_" + name][0]}
    assert row in failed and failed <= {row, "phases"}
    assert best["shortfall"][0] > 0


def test_a_model_that_learned_nothing_has_nothing_to_lose():
    dead = {"unseen_pair": np.zeros(6), "ep_zero": np.zeros(6), "pp_zero": np.zeros(6), "pe_zero": np.zeros(6)}
    best = regime.best_steps(regime.read(history(**dead)))
    assert best["agree"][0] == 1 and best["agrees_top1_few"][0]


def test_draws_are_log_uniform_valid_and_the_same_every_time():
    drawn = regime.draw(300)
    assert drawn == regime.draw(300) and len(set(drawn)) == 300
    validate(regime.sweep_of(drawn, range(2), 750, 250))
    for name, (low, high) in regime.RANGES.items():
        values = np.array([getattr(model, name) for model in drawn])
        assert low <= values.min() and values.max() <= high
        if name not in regime.INTEGERS:  # the median of a log-uniform draw is the geometric mean, within 5 standard errors
            middle = np.log(low * high) / 2
            assert abs(np.median(np.log(values)) - middle) < 5 * np.log(high / low) / 2 / np.sqrt(300)


@pytest.mark.slow
def test_the_search_trains_reads_and_draws():
    configurations = [dataclasses.replace(model, **TINY) for model in regime.draw(2)]
    wanted = regime.sweep_of(configurations, range(1), 20, 10)
    run = loop.advance(loop.start(wanted), measures=(regime.signature,))
    values = regime.read(history_table(run))
    assert len(values["step"]) == 2 * 3 and set(regime.ROWS) <= set(values)
    best = regime.best_steps(values)
    assert len(best["step"]) == 2 and (best["step"] > 0).all()
    chosen = regime.configurations(best, 1)
    assert [getattr(chosen[0], name) for name in regime.RANGES] == [best[name][0] for name in regime.RANGES]
    again = regime.at_steps_of(values, best)  # the same run read at its own best steps
    for name in ("step", "top1_many", "agree"):
        np.testing.assert_array_equal(again[name], best[name])
    figure = regime_map(dict(best), best)  # what was screened has no names of its own
    places = set(zip(best["p_scale"].tolist(), best["e_scale"].tolist(), strict=True))
    for axis, (name, (text, *_)) in zip(figure.axes, regime.ROWS.items(), strict=False):
        assert " ".join(axis.get_title().split()) == text and axis.get_xscale() == axis.get_yscale() == "log"
        series = figures_read.series(axis)
        holds = {tuple(place) for place in series["holds"].tolist()}
        assert holds == {
            place
            for place, yes in zip(
                zip(best["p_scale"].tolist(), best["e_scale"].tolist(), strict=True), best["agrees_" + name], strict=True
            )
            if yes
        }
        assert holds | {tuple(place) for place in series["does not hold"].tolist()} == places
