"""Other worlds: the claims on them and their page; gradients in two dimensions; where a reader looks."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from test_encoders import drawn, measured

from conftest import TINY, shake, tiny_model, tiny_sweep, untrained
from experiments.configs import autoregressive_wide
from experiments.studies import task_claims, tasks
from experiments.studies.claims import judge
from experiments.studies.study import TASKS, Study, rise
from lrjax import config, stats
from lrjax.analysis import ablate, grid
from lrjax.analysis import reader as reading
from lrjax.analysis.ablate import GRID_ABLATIONS, TASK_ABLATIONS
from lrjax.analysis.gradient import NAMES
from lrjax.data import tasks as tasks_of
from lrjax.data.scenes import BACKGROUND, EOT, IN_IMAGE, LEFT_OF
from lrjax.data.tasks.base import all_captions, words_of
from lrjax.errors import InputError
from lrjax.models import clip, decoder
from lrjax.models.interventions import Interventions, ModelInterventions
from lrjax.plotting import tasks as task_figures
from lrjax.storage import results, workdir
from lrjax.training import loop, retrieval
from lrjax.training.run import history_table, model_columns


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study of other worlds with drawn numbers; what is taken away was learned (.8 or more)."""
    ablated = {"ablation": (*TASK_ABLATIONS, *GRID_ABLATIONS)}, None
    answers = dict.fromkeys(("task_ablate", "grid_ablate", "chain_ablate", "reader_ablate"), ablated)
    answers |= {
        "rise": ({}, None),
        "strongest": ({}, NAMES),
        "directions": ({}, ("ratio_least", "apart", "head_across", "head_down")),
        "monotone": ({}, ("monotone",)),
        "grid_heads": ({"head": range(4)}, ("gradient_across", "gradient_down", "label_spread")),
        "grid_maps": ({"head": range(4), "row": (1, 2), "column": (1, 2, 3)}, ("score", "gradient_across", "gradient_down")),
        "looks": ({"word": ("first", "second"), "head": range(4)}, ("prefers_right",)),
        "reading": ({}, ("turns", "gradient_first", "gradient_second")),
    }
    return drawn(tmp_path_factory.mktemp("study"), TASKS, answers, measured, low=0.8)


@pytest.mark.slow
def test_every_claim_finds_its_models_in_its_sweep(study):
    """What a claim selects exists in the config that the sweep is trained from: 2 values each, one a seed."""
    assert len({claim.key for claim in tasks.CLAIMS}) == len(tasks.CLAIMS)
    for claim in tasks.CLAIMS:
        verdict = judge(claim, study, claim.part)
        assert verdict.n == 2 and claim.low < claim.high, f"{claim.key}: {verdict}"


@pytest.mark.slow
@pytest.mark.usefixtures("coarse_figures")
def test_the_page_has_every_world_and_one_table(study, tmp_path):
    tasks.build(study, tmp_path / "report", None)
    page = (tmp_path / "report" / "tasks.html").read_text()
    assert all(f'<article id="{claim.key}">' in page for claim in tasks.CLAIMS)
    assert page.count("<figure>") == len([*(tmp_path / "report" / "figures").iterdir()]) > 2 * len(TASKS)
    assert autoregressive_wide.get_config().d_model == tasks.WIDE and len(tasks.parameters()) == 4
    assert {*TASKS, "all"} == {p.stem for p in (tmp_path / "report" / "tasks").iterdir()}
    rows = tasks.table(study)
    assert {row["task"] for row in rows} == {tasks.TITLES[part] for part in TASKS} and len({len(row) for row in rows}) == 1
    tasks.build(Study(tmp_path / "empty", TASKS), tmp_path / "other", None)
    assert (tmp_path / "other" / "tasks.md").read_text().count("is not trained yet") == len(TASKS)


@pytest.mark.slow
@pytest.mark.usefixtures("coarse_figures")
def test_a_sweep_that_is_gone_keeps_its_place_in_the_page(study, tmp_path, monkeypatch):
    monkeypatch.setattr(workdir, "identity", lambda path: "step 3000, as if it were there")
    own = Study(tmp_path / "own", TASKS)

    def write(where, part, change=lambda table: table):
        """The tables of a sweep, as if it had been trained there and asked."""
        stats.write_csv(where.path(part) / "models.csv", change(study.models(part)))
        for name in TASKS[part].answers:
            assert not where.has(part) or where.archived(part)
            path, record = where._result(part, name)
            results.write(path, change(study.answer(part, name)), record)

    for part in TASKS:
        write(own, part)
    kept, times = tmp_path / "report" / "tasks", lambda **took: {"what": np.array([*took]), "seconds": np.array([*took.values()])}
    stats.write_csv(own.folder / "times.csv", times(zipf=60.0, three=120.0))
    dataclasses.replace(own, kept=kept).keep()
    again = Study(tmp_path / "runs", TASKS, kept)
    assert tasks.table(again) == tasks.table(study)
    # a sweep that is trained here, its answers too, is shown from here; one that is not whole yet, from what was kept
    assert again.tables("zipf") == kept / "zipf"
    write(again, "zipf", lambda table: table | {"unseen_pair": np.zeros(len(table["seed"]))})
    stats.write_csv(again.folder / "times.csv", times(zipf=30.0, grid=40.0))
    assert again.tables("zipf") == again.path("zipf") and (again.models("zipf")["unseen_pair"] == 0).all()
    # the times are those of what is shown: of grid, which is not whole here, nothing was kept
    assert dict(zip(*(again.times()[name].tolist() for name in ("what", "seconds")), strict=True)) == {"three": 120.0, "zipf": 30.0}
    again.keep()
    after = Study(tmp_path / "nothing", TASKS, kept)
    assert (after.models("zipf")["unseen_pair"] == 0).all() and (after.models("three")["unseen_pair"] > 0).all()


def test_sweeps_are_compared_by_the_seeds_that_both_have():
    one = {"seed": np.array([0, 1, 2, 3]), "n_labels": np.full(4, 25), "top1": np.array([0.0, 0.1, 0.2, 0.3])}
    other = {"seed": np.array([3, 5, 1, 1]), "n_labels": np.array([25, 25, 25, 5]), "top1": np.array([0.5, 0.6, 0.7, 0.8])}
    tables = SimpleNamespace(models={"one": one, "other": other}.get)
    np.testing.assert_allclose(task_claims.less_of("top1", 25, "other", {})(tables, "one"), [0.1 - 0.7, 0.3 - 0.5])


def test_grids_of_several_sizes_are_drawn_each_as_large_as_it_is():
    """What the smaller grid of a sweep does not have is NaN in its scores, and is in no table."""
    scores = np.full((2, 1, 1, 3, 3), np.nan)  # model, term, head, row, column
    scores[0, ..., :2, :2] = [[-20], [20]]
    scores[1] = [[-3], [0], [3]]
    dims = {"scores": ("model", "term", "head", "row", "column")} | dict.fromkeys(
        ("gradient_across", "gradient_down"), ("model", "head")
    )
    columns = {"model": np.arange(2), "n_labels": np.full(2, 5), "task": np.array(["grid:height=2", "grid:height=3"])}
    axes = {name: ("model", values) for name, values in columns.items()}
    places = {"head": [0], "row": [1, 2, 3], "column": [1, 2, 3]}
    data = {name: (of, scores if name == "scores" else np.zeros((2, 1))) for name, of in dims.items()}
    table = grid.best_maps(xr.Dataset(data, axes | places), columns | {"unseen_pair": np.zeros(2)})
    assert len(table["score"]) == 4 + 9
    images = [axis.images[0] for axis in task_figures.maps(table).axes if axis.images]
    assert [image.get_array().shape for image in images] == [(2, 2), (3, 3)]
    assert [image.get_clim() for image in images] == [(-20, 20), (-3, 3)]


def test_what_rose_at_the_end_of_training(trained):
    """Of evaluations at steps 0, 10, 20: the last less the one nearest to 70 % of the steps, by model."""
    run = trained[1]
    assert [set(steps) for steps in run.history.steps] == [{0}, {10}, {20}]
    values, found = np.stack(run.history.values), rise(run)  # [evaluation, model, metric]
    for i, name in enumerate(run.history.metrics):
        np.testing.assert_allclose(found[name], values[2, :, i] - values[1, :, i])
    assert found["seed"].tolist() == [0, 1, 0, 1] and found["n_labels"].tolist() == [4, 4, 6, 6]


GRID = dict(task="grid:height=3,width=4", relations="left+above", n2=5)


def test_a_row_of_scores_is_what_depends_on_the_column_on_the_row_and_on_both():
    y, x = np.indices((3, 4)).reshape(2, -1)
    rng = np.random.default_rng(0)
    by_column, by_row = rng.normal(size=4)[x], rng.normal(size=3)[y]
    found = grid.parts(jnp.array(by_column + by_row + 5), (3, 4))
    np.testing.assert_allclose(found["across"], by_column - by_column.mean(), atol=1e-6)
    np.testing.assert_allclose(found["down"], by_row - by_row.mean(), atol=1e-6)
    np.testing.assert_allclose(found["rest"], 0, atol=1e-6)
    scores = jnp.array(rng.normal(size=12))
    np.testing.assert_allclose(sum(grid.parts(scores, (3, 4)).values()), scores - scores.mean(), atol=1e-6)


@pytest.fixture(scope="module")
def grids():
    """Two grids with every parameter moved: a row of P a token, and one a row and one a column."""
    return untrained(*(tiny_model(**GRID, positions=kind) for kind in ("learned", "row_column")))


def test_rows_and_columns_have_no_rest(grids):
    """Scores are linear in P: a sum of a row's and a column's embedding scores as a sum of both. Float32, scores of order 1."""
    found = grid.directions(grids)
    np.testing.assert_allclose(found.share.sum("part"), 1, atol=1e-5)
    rest = found.share.sel(part="rest")
    assert (rest.sel(model=0) > 0.05).all() and (rest.sel(model=1) < 1e-9).all()


def test_a_gradient_is_the_mean_step_to_the_right_and_down(grids):
    found = grid.directions(grids).isel(model=0, head=0)
    total = found.scores.sum("term").values
    steps = lambda s: np.mean([s[..., b] - s[..., a] for a in range(s.shape[-1]) for b in range(a + 1, s.shape[-1])])
    np.testing.assert_allclose(found.gradient_across, steps(total), rtol=1e-4)
    np.testing.assert_allclose(found.gradient_down, steps(total.T), rtol=1e-4)


def test_maps_are_of_the_best_model_of_each_condition(grids):
    answer = grid.directions(grids)
    models = model_columns(grids.sweep) | {"unseen_pair": np.array([0.2, np.nan])}
    found = grid.best_maps(answer, models)
    assert set(found["model"].tolist()) == {0, 1}, "they differ in positions, so each is the best of its own"
    assert len(found["score"]) == 2 * 2 * 12
    of_head = (found["model"] == 0) & (found["head"] == 1)
    total = answer.scores.sum("term").sel(model=0, head=1)
    np.testing.assert_allclose(found["score"][of_head], (total - total.mean()).values.ravel(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["gradient_down"][of_head], answer.gradient_down.sel(model=0, head=1), rtol=1e-6)


def test_without_across_and_down_pixels_score_alike_where_rows_and_columns_are_all(grids):
    """The rest is 0 there, so both parts away leave the mean: a preference for CLS over pixels, and for none among these."""
    question = ablate.Ablate(("across EP+PP+BP", "down EP+PP+BP"), sets=("unseen_pair",))
    program, state = grids.programs[1], grids.states[1]
    static, hyper, params = program.static, *(jax.tree.map(lambda x: x[0], tree) for tree in (program.hyper, state.params))
    gates, images = clip.unit_gates(static), static.world.image_edits(static.world.unseen())
    weights = {name: question.worlds(static)[1][name].sum(0) for name in ("across", "down")}
    assert np.array_equal(ablate.Ablate(("down EP+PP+BP=0.25",)).worlds(static)[1]["down"][0], 0.75 * weights["down"]), "a dose"
    embed = lambda shift: clip.embed_images(static, params, Interventions(gates.vision, score_shift=shift), images)
    row = sum(grid.position_rows(static, params, gates)[0].values())
    flat = jnp.pad(row.mean(-1, keepdims=True) - row, [(0, 0), (1, 0)])
    taken = {name: ablate.controls(static, hyper, params, gates, {name: weights[name]}) for name in weights}
    both = ablate.controls(static, hyper, params, gates, weights)
    np.testing.assert_allclose(both, flat, atol=1e-5)  # float32, scores of order 1
    np.testing.assert_allclose(both, taken["across"] + taken["down"], atol=1e-5)
    assert all(abs(embed(shift) - embed(both)).max() > 0.01 for shift in (0 * both, *taken.values()))


@pytest.mark.slow
def test_a_direction_at_zero_is_that_of_columns_or_rows_all_alike():
    """Through `ablate`, on top of the model's own gates: with VP at zero P acts in scores alone, and where P has a row a row and
    one a column, `across` at zero equals P with the mean of its columns in place of each. Of a thousand images one may change
    sides by rounding. P is large, lest it make no difference.
    """
    run = untrained(tiny_model(**GRID, positions="row_column", gates="vision:VP=0", p_scale=6.0))
    table = ablate.ablate(run, ("none", "across EP+PP+BP", "down EP+PP+BP"), sets=("unseen_pair",))
    program, state = run.programs[0], run.states[0]
    static, hyper, params = program.static, *(jax.tree.map(lambda x: x[0], tree) for tree in (program.hyper, state.params))
    splits, P, columns = clip.model_splits(static, hyper), params.vision.P, slice(1 + 3, None)  # of P: CLS, 3 rows, 4 columns
    flat = {"none": P, "across": P.at[columns].set(P[columns].mean(0)), "down": P.at[1:4].set(P[1:4].mean(0))}
    found = {}
    for row, (name, P) in enumerate(flat.items()):
        alike = params.replace(vision=params.vision.replace(P=P))
        asked = retrieval.evaluate(static, hyper, splits, alike, ModelInterventions(), True, ("unseen_pair",))
        found[name] = {metric: table[metric][row] for metric in asked}
        for metric, value in asked.items():
            np.testing.assert_allclose(found[name][metric], value, atol=1e-3, err_msg=f"{name}: {metric}")
    for name, other in (("none", "across"), ("none", "down"), ("across", "down")):
        assert max(abs(found[name][metric] - found[other][metric]) for metric in asked) > 0.005


def test_a_ratio_is_of_the_head_that_has_it_and_apart_says_how_much_it_keeps_to_itself():
    """By hand: head 0 has a gradient across of 6 and down of 2, head 1 of 1 and 9, of label spreads 2 and 3."""
    axes = {"model": [0], "head": [0, 1]}
    values = {"gradient_across": [6.0, -1.0], "gradient_down": [-2.0, 9.0], "label_spread": [2.0, 3.0]}
    answer = xr.Dataset({name: (("model", "head"), [value]) for name, value in values.items()}, axes)
    found = grid.best_heads(answer).isel(model=0)
    assert (found.ratio_across, found.ratio_down, found.ratio_least) == (3, 3, 3)
    assert (found.head_across, found.head_down) == (0, 1)
    np.testing.assert_allclose(found.apart, (6 / 8 + 9 / 10) / 2)
    alike = grid.best_heads(answer.assign(gradient_down=answer.gradient_across)).isel(model=0)
    assert alike.apart == 0.5 and alike.head_across == alike.head_down == 0


def test_a_grid_is_no_row_and_a_row_no_grid(grids, trained):
    with pytest.raises(
        InputError, match=r"--ablations: 'mean EE': task='grid:height=3,width=4': is asked of the row of pixels alone"
    ):
        ablate.ablate(grids, ("mean EE",))
    with pytest.raises(InputError, match="--ablations: 'across EP': task='row': has one dimension"):
        ablate.ablate(trained[1], ("across EP",))
    with pytest.raises(InputError, match="--ablations: 'across EE': EE has no direction; expected terms of EP PP BP"):
        ablate.ablate(grids, ("across EE",))
    with pytest.raises(
        InputError, match=r"--ablations: 'accross EP' is not an ablation \(did you mean 'across'\?\); expected TERMS"
    ):
        ablate.ablate(grids, ("accross EP",))
    patched = untrained(tiny_model(task="grid:height=4,width=4,patch=2", relations="left", n2=5, layer_norm=True))
    with pytest.raises(InputError, match="grid: layer_norm=True, task='grid:height=4,width=4,patch=2': with LayerNorm a patch's"):
        grid.directions(patched)
    turned = untrained(tiny_model(objective="autoregressive_raw", positions="rotary"))
    with pytest.raises(InputError, match="reader: positions='rotary': expected one of 'learned'"):
        reading.reading(turned)


# ---- readers ----


@pytest.fixture(scope="module", params=["autoregressive", "autoregressive_raw"])
def spoken(request):
    """static, hyper, params, gates, a batch of one reader with every parameter moved."""
    model = tiny_model(objective=request.param)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params = shake(clip.init_clip(static, hyper))
    batch = static.world.batch(jax.random.key(0), clip.model_splits(static, hyper), hyper, 16)
    return static, hyper, params, clip.unit_gates(static), batch


def logits_of(spoken, words, image=0):
    static, _, params, gates, batch = spoken
    seen = decoder.prefix(static, params, Interventions(gates.vision), batch.images)[image]
    return np.asarray(decoder.read(static, params, Interventions(gates.text), seen, words))


def test_a_word_is_predicted_from_the_words_before_it_alone(spoken):
    words = jnp.array([8, LEFT_OF, 9, EOT])
    before, after = logits_of(spoken, words), logits_of(spoken, words.at[2].set(10))
    np.testing.assert_array_equal(before[:3], after[:3])
    assert abs(before[3] - after[3]).max() > 1e-3


def test_all_captions_of_all_labels_have_probability_at_most_one(spoken):
    """So what can be said of an image sums to less than 1; and labels that a model does not have cannot be said."""
    static, hyper, params, gates, batch = spoken
    task = static.world
    asked = task.captions(hyper)
    words = words_of(task, all_captions(task, asked))[asked.exists]
    seen = decoder.prefix(static, params, Interventions(gates.vision), batch.images)[:1]
    repeated = jnp.repeat(seen, len(words), 0)
    total = jnp.exp(decoder.log_likelihood(static, hyper, params, Interventions(gates.text), repeated, words).sum(-1)).sum()
    assert 0 < total < 1
    wide = config.make_static([tiny_model(objective=static.objective), tiny_model(objective=static.objective, n_labels=9)])
    assert decoder.sayable(wide, hyper).sum() == decoder.sayable(static, hyper).sum() < len(decoder.sayable(wide, hyper))


def test_greedy_words_are_the_likeliest_one_by_one(spoken):
    static, hyper, params, gates, batch = spoken
    seen = decoder.prefix(static, params, Interventions(gates.vision), batch.images)
    said = np.asarray(decoder.decode(static, hyper, params, Interventions(gates.text), seen, 4))
    for image in (0, 9):
        logits = logits_of(spoken, jnp.array(said[image]), image)
        end = np.flatnonzero(said[image] == EOT)[0] + 1 if (said[image] == EOT).any() else 4
        np.testing.assert_array_equal(logits.argmax(-1)[:end], said[image, :end])


def test_others_are_the_labels_beside_that_are_not_seen():
    """Of 4 held out, 0..3, and 5 trained, 4..8: in a circle, past what is seen; itself where there is no other."""
    task = tasks_of.make("row", n_heldout=4, n_labels_max=9, L=10, relations="left")
    hyper = config.make_hyper(tiny_model(n_labels=5))
    of = lambda *labels: np.asarray(decoder.others(task, hyper, jnp.array(labels))).tolist()
    assert of(0, 2) == [[1, 3], [3, 1]] and of(3, 0) == [[1, 1], [2, 2]]
    assert of(4, 5) == [[6, 6], [8, 8]] and of(8) == [[4], [7]]
    assert of(0, 1, 2) == [[3, 3, 3], [3, 3, 3]]
    few = dataclasses.replace(task, n_heldout=2)
    assert np.asarray(decoder.others(few, hyper, jnp.array([0, 1]))).tolist() == [[0, 1], [0, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("spoken", ["autoregressive_raw"], indirect=True)
def test_a_blind_reader_names_by_chance_and_one_that_sees_does_not(spoken):
    """With image tokens at zero nothing of an image is told, and of as many captions as fall by another label one rises: 1/2, to
    rounding of float32 means. What it says of one image it says of all.
    """
    static, hyper, params, gates, _ = spoken
    splits = clip.model_splits(static, hyper)
    blind = gates.replace(text=gates.text.at[..., -3:].set(0))  # values
    found = {
        name: decoder.evaluate(static, hyper, splits, params, ModelInterventions.of_gates(of), ("unseen_pair",))
        for name, of in (("sees", gates), ("blind", blind))
    }
    np.testing.assert_allclose(found["blind"]["unseen_pair_named"], 0.5, atol=1e-6)
    np.testing.assert_allclose(found["blind"]["unseen_pair_order"], 0.5, atol=1e-6)
    assert abs(found["sees"]["unseen_pair_named"] - 0.5) > 1e-3
    assert found["blind"]["unseen_pair_alone"] in (0, np.float32(0.4)), "of 10 pairs of 5 labels 4 have the one that it says"


@pytest.mark.parametrize("spoken", ["autoregressive_raw"], indirect=True)
def test_what_is_said_of_one_object_alone_is_counted(spoken, monkeypatch):
    """A reader that says "2 [in-image] [EOT]" whatever it sees: wrong of every pair, and of one object in 4 of 10 pairs of 5."""
    static, hyper, params, gates, _ = spoken
    label = static.world.n_first + 2
    said = jnp.array([label, IN_IMAGE, EOT, BACKGROUND])
    monkeypatch.setattr(decoder, "decode", lambda *args: said[None])
    splits, done = clip.model_splits(static, hyper), ModelInterventions.of_gates(gates)
    found = decoder.evaluate(static, hyper, splits, params, done, ("single", "unseen_pair"))
    np.testing.assert_allclose(found["unseen_pair_alone"], 0.4, atol=1e-6)
    assert found["unseen_pair"] == found["unseen_pair_label_set"] == 0
    assert 0 < found["single"] < 0.2


@pytest.mark.parametrize("layers", [1, 2])
def test_a_reader_is_the_same_whether_its_streams_are_split_or_not(layers):
    """With gates at 1 the terms are but a way to compute scores; with every bias away from 0. Float32 logits of order 10. Of raw
    tokens what is merged is looked up too, where there are fewer tokens than d_model.
    """
    model = tiny_model(objective="autoregressive_raw", n_layers_text=layers, d_model=32)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params, gates = shake(clip.init_clip(static, hyper)), clip.unit_gates(static)
    residual, words = shake(jnp.zeros((3, static.L, static.d_model))).at[2].set(0), jnp.array([8, LEFT_OF, 9, EOT])
    for seen in (residual, jnp.zeros(static.L, int).at[1].set(9).at[4].set(8)):
        split, merged = (decoder.read(static, params, Interventions(gates.text), seen, words, split) for split in (True, False))
        np.testing.assert_allclose(split, merged, atol=2e-4)


def test_what_image_tokens_know_of_their_place_is_of_origin_P():
    """By origin they sum to what the vision encoder gives; without P in the vision encoder nothing is P's."""
    model = tiny_model(objective="autoregressive")
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params, gates = shake(clip.init_clip(static, hyper)), clip.unit_gates(static)
    images = static.world.batch(jax.random.key(0), clip.model_splits(static, hyper), hyper, 4).images
    split, merged = (decoder.prefix(static, params, Interventions(gates.vision), images, split) for split in (True, False))
    np.testing.assert_allclose(split.sum(1), merged.sum(1), atol=1e-4)  # float32, sums of order 10
    assert split[:, 1].std(1).min() > 0 and not split[:, 2].any() and not merged[:, 1:].any()
    nowhere = params.replace(vision=params.vision.replace(P=0 * params.vision.P))
    assert not decoder.prefix(static, nowhere, Interventions(gates.vision), images)[:, 1].any()


def test_gates_of_a_reader_act_where_words_look_at_the_image(spoken):
    """A gate changes what is said; but not what the first layer passes between words alone: with image tokens masked it is idle."""
    static, _, params, gates, batch = spoken
    words = jnp.array([8, LEFT_OF, 9, EOT])
    seen = decoder.prefix(static, params, Interventions(gates.vision), batch.images)[0]
    zero = gates.replace(text=gates.text.at[..., :9].set(0))
    read = lambda gates, seen: np.asarray(decoder.read(static, params, Interventions(gates.text), seen, words))
    assert abs(read(zero, seen) - read(gates, seen)).max() > 1e-3
    nothing = seen[:, :0] if seen.ndim == 3 else seen[:0]
    np.testing.assert_allclose(read(zero, nothing), read(gates, nothing), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["autoregressive", "autoregressive_raw"])
def test_a_reader_learns_and_its_accuracies_have_names(objective):
    changes = dict(objective=objective, n_labels=(4,), seeds=1, steps=60, eval_every=30, lr=0.01)
    run = loop.advance(loop.start(tiny_sweep(**changes)))
    history = history_table(run)
    assert history["loss"][-1] < history["loss"][1] - 0.1
    assert 0 <= history["unseen_pair_order"][-1] <= 1 and np.isnan(history["unseen_pair_t2i"]).all()
    table = ablate.ablate(run, ("none", "EP"), encoder="text")
    assert set(table["ablation"].tolist()) == {"none", "EP"} and "unseen_pair_t2i" not in table


def test_a_head_leans_as_it_looks():
    """By hand: head 1 looks most at objects; before the first label more at the right one in .2 of images, before the second in
    .9.
    """
    axes, dims = {"model": [0], "word": ["first", "second"], "head": [0, 1]}, ("model", "word", "head")
    values = {
        "prefers_right": [[1.0, 0.2], [0.0, 0.9]],
        "attention_left": [[0.1, 0.6], [0.1, 0.1]],
        "attention_right": [[0.3, 0.1], [0.0, 0.7]],
    }
    answer = xr.Dataset({name: (dims, [value]) for name, value in values.items()}, axes)
    of_terms = xr.DataArray([[[[5.0, -1.0], [5.0, -2.0]], [[5.0, 3.0], [5.0, 4.0]]]], dims=("model", "word", "term", "head"))
    found = reading.leans(answer.assign(gradient=of_terms)).isel(model=0)
    np.testing.assert_allclose([found.looks_left, found.looks_right, found.turns], [0.8, 0.9, 0.7])
    assert (found.gradient_first, found.gradient_second) == (-3, 7)


def test_a_reader_looks_where_its_pattern_says():
    """A raw reader whose words seek what stands far right, or far left: P is a ramp along one direction, which queries find at the
    relation word and shun where the caption begins. Its gradient there is (mean step of the ramp) x scale / sqrt(d_head).
    """
    run = untrained(tiny_model(objective="autoregressive_raw", n_heads=2))
    params = jax.tree.map(jnp.zeros_like, run.states[0].params)
    L, d_head = 10, 8
    text = params.text
    P = text.P.at[:, :L, 0].set(jnp.arange(L)).at[:, L, 1].set(-1.0).at[:, L + 2, 1].set(1.0)
    (block,) = text.blocks
    block = block.replace(W_Q=block.W_Q.at[:, 1, 0, 0].set(3.0), W_K=block.W_K.at[:, 0, 0, 0].set(1.0))
    state = run.states[0].replace(params=params.replace(text=text.replace(P=P, blocks=(block,))))
    found = reading.reading(dataclasses.replace(run, states=[state])).isel(model=0)
    assert found.prefers_right.sel(head=0).values.tolist() == [0, 1]
    np.testing.assert_allclose(found.prefers_right.sel(head=1), 0.5)  # it looks at all alike
    step = np.mean([j - i for i in range(L) for j in range(i + 1, L)])
    expected = step * 3 / d_head**0.5
    np.testing.assert_allclose(found.gradient.sel(head=0, term="PP"), [-expected, expected], rtol=1e-5)
    assert not found.gradient.sel(head=0, term=["EP", "BP"]).any() and not found.gradient.sel(head=1).any()
    right, left = (found[f"attention_{side}"].sel(head=0).values for side in ("right", "left"))
    assert right[1] > left[1] and left[0] > right[0]


def test_a_reader_takes_no_contrastive_options():
    with pytest.raises(
        InputError, match="hard_negatives: True is not possible; expected False: of the contrastive objective alone"
    ):
        config.validate_model(config.Model(**TINY, objective="autoregressive", hard_negatives=True))
