"""Section 5's measure: relational or label-specific, image by image, on encoders made by hand and against whole sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures_read
from conftest import many_commands, tiny_model, untrained
from encoders_by_hand import encoder_with
from experiments.studies.answers import ANSWERS
from lrjax import stats
from lrjax.analysis import decompose, heads, relational
from lrjax.errors import InputError
from lrjax.gates import parse_gates
from lrjax.models import encoder as encoders
from lrjax.models.clip import as_read, encoder_configs, unit_gates
from lrjax.models.interventions import Interventions
from lrjax.plotting import relational as figures
from lrjax.terms import GATES

in_images = jax.jit(relational.in_images, static_argnums=0)
NO_PLACE, NO_LABEL = "EP+PP+BP=0", "EE+PE+BE=0"


def by_hand(tiny, by_pixel, by_label):
    """`in_images` of one head whose CLS scores pixels (EP) and held-out labels (EE) so: arrays [m] and numbers."""
    static, hyper, params, splits = tiny
    gates = unit_gates(static).replace(vision=np.ones((1, 1, len(GATES)), np.float32))
    params = params.replace(vision=encoder_with(static, by_pixel, by_label))
    found = in_images(static, hyper, splits, params, gates)
    return {name: np.asarray(value)[..., 0] for name, value in found.items()}


def test_a_case_counted_by_hand(tiny):
    """Pixels score 0, 1, .. 9 and labels 0, 1.4, 2.8, 4.2, 5.6: an image of distance d is decided by its place if the labels differ
    by less than d: 1.4 where d > 1, 2.8 where d > 2, 4.2 where d > 4, 5.6 where d > 5. There are 10 - d layouts of distance d.
    """
    found = by_hand(tiny, np.arange(10.0), 1.4 * np.arange(5))
    layouts_above = {1.4: 36, 2.8: 28, 4.2: 15, 5.6: 10}
    pairs = {1.4: 4, 2.8: 3, 4.2: 2, 5.6: 1}
    share = 2 * sum(pairs[x] * layouts_above[x] for x in pairs) / 900
    np.testing.assert_allclose(found["relational_right"], [share, share], rtol=1e-6)
    np.testing.assert_array_equal(found["relational_left"], 0)
    np.testing.assert_allclose(found["mean_delta_pe"], 11 / 3, rtol=1e-5)
    np.testing.assert_allclose(found["size_delta_label"], 2.8, rtol=1e-5)  # pairs of 5 differ by 2 steps on average
    # what is not decided by the place is decided by the label, half each way
    np.testing.assert_allclose(found["attends_right"] - found["attends_left"], share, atol=1e-6)
    np.testing.assert_allclose(found["attends_right"] + found["attends_left"], 1, rtol=1e-6)


def test_the_mirror_of_a_head_leans_the_other_way(tiny):
    by_pixel = np.array([0, 2, 1, 3, 5, 4, 6, 7, 9, 8.0])  # some layouts point left
    right, left = (by_hand(tiny, sign * by_pixel, 0.7 * np.arange(5)) for sign in (1, -1))
    assert (right["relational_right"] > right["relational_left"]).all() and (right["relational_left"] > 0).all()
    for a, b in (("relational_right", "relational_left"), ("attends_right", "attends_left")):
        np.testing.assert_array_equal(right[a], left[b])
        np.testing.assert_array_equal(right[b], left[a])
    np.testing.assert_array_equal(right["mean_delta_pe"], -left["mean_delta_pe"])


def test_a_head_of_places_alone_is_relational_in_every_image_and_one_of_labels_in_none(tiny):
    places, labels = by_hand(tiny, np.arange(10.0), np.zeros(5)), by_hand(tiny, np.zeros(10), np.arange(5.0))
    np.testing.assert_array_equal(places["relational_right"], 1)
    assert places["attends_right"] == 1
    np.testing.assert_array_equal([labels["relational_right"], labels["relational_left"]], 0)
    assert labels["attends_right"] == labels["attends_left"]


@pytest.fixture(scope="module")
def gated():
    """Models without positions, without labels, with both, in training and so in force; all parameters moved."""
    return untrained(
        *(tiny_model(gates=gates, token_multiplier=m, n_heads=4) for gates in (NO_PLACE, NO_LABEL, "none") for m in (1.0, 4.0))
    )


@pytest.mark.slow
def test_gates_in_force_decide(gated):
    table = relational.head_table(relational.relational(gated))
    of = lambda gates: stats.select(table, table["gates"] == gates)
    without = of(NO_PLACE)
    assert (without["relational_sums"] == 0).all() and (without["against_sums"] == 0).all()
    assert (without["bias_direction"] == "neither").all() and (without["difference"] == 0).all()
    without = of(NO_LABEL)
    np.testing.assert_allclose(without["relational_sums"] + without["against_sums"], 1, rtol=1e-6)
    assert (without["relational_sums"] >= 0.5).all()


def test_the_paper_s_claim_is_an_identity_of_the_sums(gated):
    """Images with exchanged labels cancel: P(right) - P(left) is what is relational to the right less to the left."""
    answer = relational.relational(gated)
    sums = answer.sel(measure="sums")
    np.testing.assert_allclose(
        answer.attends_right - answer.attends_left, sums.relational_right - sums.relational_left, atol=2.5 / 900
    )  # one image whose scores tie within rounding
    table = relational.head_table(answer)
    leans = table["bias_direction"] != "neither"
    np.testing.assert_allclose(table["gap_sums"][leans], table["against_sums"][leans], atol=2.5 / 900)
    assert (abs(table["gap_printed"]) > 0.05).any(), "EE and EP alone are another measure"


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant", [{}, {"layer_norm": True}, {"layer_norm": True, "norm": "post", "n_repeats": 2, "mlp_ratio": 2}]
)
def test_deltas_sum_to_what_attention_adds(variant):
    """Delta_label + Delta_pe, from the sums, against the scores of whole sequences; EB, PB and BB do not tell objects apart."""
    run = untrained(tiny_model(token_multiplier=3.0, **variant))
    (program,), (state,) = run.programs, run.states
    static, hyper = program.static, jax.tree.map(lambda x: x[0], program.hyper)
    params = as_read(hyper, jax.tree.map(lambda x: jnp.asarray(x[0]), state.params))
    gates = jax.tree.map(
        jnp.asarray,
        parse_gates(
            "vision.h0:EP=0.5;vision.h1:PE=-2",
            {"vision": encoder_configs(static)["vision"].depth, "text": encoder_configs(static)["text"].depth},
            2,
        ).at(0),
    )
    label, place = jax.jit(relational.deltas, static_argnums=0)(static, params, gates)
    scenes, ids = jax.device_get(jax.jit(lambda: (static.task_object.unseen(), decompose.unseen_sequences(static, "vision")))())
    run_one = jax.jit(
        lambda ids: encoders.run(params.vision, Interventions(gates.vision), ids, encoder_configs(static)["vision"], 0).caches[0]
    )
    for n in (0, 333, 899):
        row = np.asarray(run_one(ids[n]).attn_scores[:, 0])
        expected = row[:, scenes.j[n] + 1] - row[:, scenes.i[n] + 1]
        # float32 sums of 16 products in another order
        np.testing.assert_allclose((label + place)[1, :, n], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_attention_is_that_of_heads(shaken):
    answer = relational.relational(shaken)
    assert answer.relational_right.dims == ("model", "measure", "head") and answer.measure.values.tolist() == ["printed", "sums"]
    np.testing.assert_allclose(answer.attends_right, heads.heads(shaken).head_bias.isel(layer=0), atol=1e-6)


def test_a_study_can_ask_it(shaken):
    table = ANSWERS["relational"](shaken)
    assert len(table["model"]) == 4 * 2 and {"relational_printed", "relational_sums", "difference", "bias_direction"} <= set(table)
    ratios = ANSWERS["std_shares"](shaken)
    assert {"std_ratio_all", "std_ratio_learned_all", "rows", "term"} <= set(ratios)


@pytest.mark.slow
def test_images_of_one_model_make_its_shares(shaken):
    answer = relational.relational(shaken)
    images = relational.images(shaken, 2)
    assert int(images.model) == 2 and images.sizes == {"measure": 2, "head": 2, "image": 900}
    fits = (abs(images.delta_label) < abs(images.delta_pe)) & (images.delta_pe > 0)
    np.testing.assert_allclose(fits.mean("image"), answer.relational_right.isel(model=2), atol=1e-6)
    assert set(images.left_label.values) == {"h1", "h2", "h3", "h4", "h5"} and (images.left_label != images.right_label).all()
    assert (images.left_place < images.right_place).all() and images.left_place.min() == 1 and images.right_place.max() == 10
    exchanged = images.to_dataframe().reset_index()
    exchanged = exchanged[(exchanged.measure == "printed") & (exchanged["head"] == 0)].set_index(
        ["left_label", "right_label", "left_place", "right_place"]
    )
    a, b = exchanged.loc[("h1", "h4", 2, 7)], exchanged.loc[("h4", "h1", 2, 7)]
    np.testing.assert_allclose([a.delta_label, a.delta_pe], [-b.delta_label, b.delta_pe], rtol=1e-5)


@pytest.mark.slow
def test_who_cannot_be_asked_is_named():
    with pytest.raises(InputError, match=r"relational: positions='rotary': EP is 0 and no term is of the place alone"):
        relational.relational(untrained(tiny_model(positions="rotary")))
    with pytest.raises(InputError, match=r"relational: task='grid"):
        relational.relational(untrained(tiny_model(task="grid:height=2,width=2")))


def test_a_model_that_is_not_a_number_has_no_shares(tiny):
    static, hyper, params, splits = tiny
    broken = params.replace(vision=params.vision.replace(P=params.vision.P * jnp.nan))
    found = in_images(static, hyper, splits, broken, unit_gates(static))
    assert all(np.isnan(value).all() for name, value in found.items() if name != "size_delta_label")


@pytest.mark.slow
def test_tables_of_heads_and_models():
    """Numbers of heads may differ; a model's rows are the mean over its heads and its head that leans most."""
    run = untrained(tiny_model(n_heads=1), tiny_model(n_heads=4, n_layers_vision=2, mlp_ratio=2))
    table = relational.head_table(relational.relational(run))
    assert table["model"].tolist() == [0, 1, 1, 1, 1] and table["head"].tolist() == [0, 0, 1, 2, 3]
    sides = np.where(table["difference"] > 0, "right", np.where(table["difference"] < 0, "left", "neither"))
    assert table["bias_direction"].tolist() == sides.tolist()
    differ = (table["mean_delta_pe_printed"] > 0) != (table["difference"] > 0)
    assert (table["directions_differ_printed"] == differ).all()
    by_model = relational.of_a_model(table)
    assert by_model["heads"].tolist() == ["all", "leans most"] * 2 and by_model["n_heads"].tolist() == [1, 1, 4, 4]
    np.testing.assert_allclose(by_model["gap_sums"][2], table["gap_sums"][1:].mean(), rtol=1e-6)
    assert by_model["size"][3] == abs(table["difference"][1:]).max()


def test_every_image_is_drawn_at_its_two_differences(gated):
    images = relational.images(gated, 0)
    figure = figures.scatter(images, "title")
    panels = [(measure, head) for measure in figures.TERMS for head in images["head"].values]
    for axis, (measure, head) in zip(figure.axes, panels, strict=True):
        assert axis.get_xlabel().endswith(figures.TERMS[measure][1]) and axis.get_title() == f"head {head}"
        place, label = (images[name].sel(measure=measure, head=head).values for name in ("delta_pe", "delta_label"))
        to_right, series = images.to_right.sel(head=head).values, figures_read.series(axis)
        for name, chosen in (("attends right", to_right > 0.5), ("attends left", to_right < 0.5)):
            assert (name in series) == chosen.any()
            if chosen.any():
                np.testing.assert_allclose(series[name], np.stack([place, label], 1)[chosen], rtol=1e-6)


def test_the_share_of_relational_images_is_drawn_beside_what_each_head_prefers(gated):
    table = relational.head_table(relational.relational(gated))
    own = stats.select(table, table["model"] == 0)
    bars, claim = figures.bars(own, "title"), figures.claim(table)
    series = figures_read.series(bars.axes[0])
    assert figures_read.tick_labels(bars.axes[0]) == [f"head {head}" for head in own["head"]]
    for name, label in (figures.BARS | {"difference": "P(attends right) - P(attends left)"}).items():
        np.testing.assert_allclose(series[label][:, 1], own[name], rtol=1e-6)
    shown = [figures_read.series(axis) for axis in claim.axes]
    for name, label in figures.BARS.items():
        dots = sorted(tuple(dot) for series in shown for dot in series[label].tolist())
        np.testing.assert_allclose(dots, sorted(zip(abs(table["difference"]), table[name], strict=True)), rtol=1e-6)


@pytest.mark.slow
def test_the_command_writes_what_it_says(trained, tmp_path):
    folder, _ = trained
    step = folder / "checkpoints" / "10"
    commands = [("relational", [f"--ckpt={x}", "--labels=4", "--format=svg", f"--out={tmp_path}"]) for x in (folder, step)]
    for done in many_commands(commands):
        assert done.returncode == 0, done.stderr
        assert "P(relational), printed" in done.stdout
    assert "is unfinished (step 10 of 20)" in done.stdout
    of_tables = stats.read_csv(tmp_path / "analysis/relational_N4.csv")
    assert of_tables["model"].tolist() == [0, 0, 1, 1] and {"relational_printed", "gap_sums", "bias_direction"} <= set(of_tables)
    images = stats.read_csv(tmp_path / "analysis/relational_images_fails_N4.csv")
    assert len(images["delta_pe"]) == 2 * 2 * 900
    names = {f"relational{kind}_N4.svg" for kind in ("", "_scatter_fails", "_bars_fails")}
    assert names <= {path.name for path in (tmp_path / "figures").iterdir()}
