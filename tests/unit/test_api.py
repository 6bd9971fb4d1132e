"""The way in from Python: DESIGN's snippet runs, and each name does what it says."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import lrjax
from conftest import tiny_model, tiny_sweep, untrained
from experiments.studies.measures import over_time
from lrjax.analysis.ablate import ablate
from lrjax.analysis.gradient import gradient
from lrjax.analysis.result import Result
from lrjax.errors import InputError, in_python
from lrjax.models.clip import embed_images
from lrjax.models.interventions import Interventions
from lrjax.storage import workdir
from lrjax.terms import ROW_CONSTANT, TERMS
from lrjax.training.run import models_table

SCENE = "h1 . . h2 . . . . . ."


@pytest.fixture(scope="module")
def run(trained):
    return lrjax.load(trained[0])


@pytest.fixture(scope="module")
def model(run):
    return run.model(n_labels=6, seed=0)


@pytest.mark.slow
def test_the_snippet_of_the_way_in(trained):
    """As README and DESIGN print it."""
    run = lrjax.load(trained[0])
    assert len(repr(run).splitlines()) == 3 and "4 models" in repr(run)
    assert list(run.models.index) == [0, 1, 2, 3] and len(run.history) == 3 * 4
    part = run.where(n_labels=6)
    found = part.ablate(["EP", "EP+PP+BP"])
    assert set(found.to_dataframe()["ablation"]) == {"none", "EP", "EP+PP+BP"}
    assert part.analyze("gradient").name == "gradient"
    model = run.model(n_labels=6, seed=0)
    out, cache = model.run_with_cache(SCENE)
    assert cache["vision.0.terms"].sel(term="EP").dims == ("head", "query", "key") == cache["vision.0.pattern"].dims
    np.testing.assert_allclose(np.linalg.norm(out), 1, atol=1e-6)
    assert model.rank(SCENE)["is"].value_counts()["true"] == 1
    norms = run.map(lambda m: {"norm": jnp.linalg.norm(m.params.vision.E[lrjax.CLS])})
    assert norms["norm"].dims == ("model",) and norms.sizes["model"] == 4


def test_a_part_has_the_rows_of_the_whole(run):
    part = run.where(n_labels=6, seed=(0, 1))
    assert part.models.equals(run.models[run.models["n_labels"] == 6])
    assert len(part) == 2 and set(part.history["n_labels"]) == {6}
    assert part.ablate("EP").to_dataframe()["model"].drop_duplicates().tolist() == part.models.index.tolist()


@pytest.mark.slow
def test_results_are_those_of_the_library(trained, run):
    library = ablate(workdir.restore(trained[0]), ("none", "EP"))
    found = run.ablate("EP").to_dataframe()
    np.testing.assert_array_equal(found["unseen_pair_order"], library["unseen_pair_order"])
    xr.testing.assert_identical(run.analyze("gradient", encoder="text").to_xarray(), gradient(workdir.restore(trained[0]), "text"))
    assert run.models["unseen_pair"].tolist() == models_table(trained[1])["unseen_pair"].tolist()


def test_a_summary_has_means_and_intervals_that_hold_them(run):
    summary = run.ablate(["EP"]).summary()
    assert list(summary.index.names) == ["n_labels", "ablation"] and (summary["models"] == 2).all()
    order = summary[["unseen_pair_order_low", "unseen_pair_order", "unseen_pair_order_high"]].to_numpy()
    assert (np.diff(order, axis=1) >= 0).all() and (order >= 0).all() and (order <= 1).all()
    frame = run.ablate(["EP"]).to_dataframe()
    mean = frame[(frame["n_labels"] == 6) & (frame["ablation"] == "EP")]["unseen_pair_order"].mean()
    np.testing.assert_allclose(summary.loc[(6, "EP"), "unseen_pair_order"], mean, rtol=1e-6)


@pytest.mark.slow
def test_differences_are_paired_by_model(run):
    found = run.ablate(["EP", "PP"])
    frame = found.to_dataframe().pivot(index="model", columns="ablation", values="unseen_pair_order")
    expected = (frame["PP"] - frame["none"])[[2, 3]].mean()
    differences = found.differences()
    np.testing.assert_allclose(differences.loc[(6, "PP"), "unseen_pair_order"], expected, atol=1e-6)
    assert set(differences.index.get_level_values("ablation")) == {"EP", "PP"}
    with pytest.raises(InputError, match="no baseline"):
        run.analyze("gradient").differences()


def test_a_table_as_arrays_holds_the_same_numbers(run):
    found = run.ablate(["EP", "PP"])
    arrays, frame = found.to_xarray(), found.to_dataframe()
    assert arrays["unseen_pair"].dims == ("model", "ablation") and arrays["n_labels"].dims == ("model",)
    row = frame[(frame["model"] == 2) & (frame["ablation"] == "PP")]
    assert float(arrays["unseen_pair"].sel(model=2, ablation="PP")) == row["unseen_pair"].item()


@pytest.mark.slow
def test_every_analysis_answers_or_says_why_not(run):
    """Each that applies has its measures, a summary, arrays and a figure; the others name the field that is in the way."""
    refused = []
    for name in lrjax.analyses().index:
        try:
            found = run.analyze(name)
        except InputError as error:
            refused.append((name, str(error)))
            continue
        assert set(found.measures) <= set(found.summary()) and set(found.measures) <= set(found.to_dataframe())
        assert "model" in found.to_xarray().dims and found.plot().axes and name in repr(found)
    assert [name for name, _ in refused] == ["decoder", "grid"]
    assert "objective" in refused[0][1] and "task" in refused[1][1]


def test_a_result_draws_into_the_callers_axes(run):
    from matplotlib.figure import Figure

    figure = Figure()
    axis = figure.subplots()
    found = run.ablate(["EP"])
    assert found.plot(ax=axis) is figure and axis.get_ylabel() == "unseen pair order"
    means = [line.get_ydata()[0] for line in axis.get_lines() if len(line.get_ydata())]
    assert np.isclose(means[0], found.summary()["unseen_pair_order"].iloc[0])
    assert [text.get_text() for text in axis.get_xticklabels()] == ["none", "EP"]
    assert found.plot()._repr_png_().startswith(b"\x89PNG"), "a notebook shows it"


def test_the_terms_of_a_cache_sum_to_its_scores(model):
    _, cache = model.run_with_cache(SCENE)
    kept = [term for term in TERMS if term not in ROW_CONSTANT]
    np.testing.assert_allclose(cache["vision.0.terms"].sel(term=kept).sum("term"), cache["vision.0.scores"], atol=1e-5)
    np.testing.assert_allclose(cache["vision.0.pattern"].sum("key"), 1, atol=1e-6)
    assert cache["vision.0.pattern"]["key"].values[0] == "CLS"


@pytest.mark.slow
def test_the_embedding_is_the_one_that_retrieval_uses(model):
    from lrjax.data import text

    task = model.static.task_object
    edits = task.render(*text.read_scene(task, SCENE, 6))
    expected = embed_images(model.static, model.params, Interventions(model.gates.vision), edits)
    np.testing.assert_allclose(model.run_with_cache(SCENE)[0], expected, atol=1e-5)


def test_a_rank_holds_every_caption_of_the_model_once(model):
    ranked = model.rank(SCENE)
    assert len(ranked) == 11 + 11 * 10 and ranked["caption"].is_unique
    assert (np.diff(ranked["similarity"]) <= 0).all()
    assert ranked[ranked["is"] == "true"]["caption"].item() == "h1 is on the left of h2"
    assert ranked[ranked["is"] == "swapped"]["caption"].item() == "h2 is on the left of h1"
    caption = ranked["caption"][0]
    similarity = float(model.run_with_cache(SCENE)[0].dot(model.run_with_cache(caption)[0]))
    np.testing.assert_allclose(similarity, ranked["similarity"][0], atol=1e-5)


def test_an_ablated_model_has_the_gates_and_leaves_the_first_alone(model):
    without = model.ablate("EP", heads=[1])
    _, cache = without.run_with_cache(SCENE)
    kept = [term for term in TERMS if term not in ROW_CONSTANT]
    terms = cache["vision.0.terms"].sel(term=kept)
    weights = xr.where(terms["term"] == "EP", xr.where(terms["head"] == 1, 0, 1), 1)
    np.testing.assert_allclose(
        (terms * weights).sum("term").transpose(*cache["vision.0.scores"].dims), cache["vision.0.scores"], atol=1e-5
    )
    assert (np.asarray(model.gates.vision) == 1).all() and "ablated: EP" in repr(without)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with all checkpoints of a sweep whose models train for 12 and for 16 steps."""
    fixed = dict(data="fixed", epochs=4, evaluations=2, batch_size=8, n1=2, n2=2, n_heldout=3, n_labels=(3, 4), seeds=1)
    folder = tmp_path_factory.mktemp("kept") / "run"
    lrjax.train(tiny_sweep(**fixed, keep_checkpoints=0), folder, quiet=True)
    return folder


@pytest.mark.slow
def test_a_run_at_earlier_steps_of_its_training(kept):
    """With keep_checkpoints=0 all evaluations stay, and a part of a run is the same part at each of them."""
    run = lrjax.load(kept)
    assert run.steps == [0, 8, 16] and run.step == 16
    part = run.where(n_labels=4)
    then = part.at(8)
    assert then.step == 8 and len(then) == 1 and len(then.history) == 2 and not then.trained.finished
    first, last = (r.map(lambda m: {"x": m.params.vision.E[lrjax.CLS, 0]})["x"].item() for r in (then, part))
    assert first != last
    with pytest.raises(InputError, match=r"step=15: no checkpoint of this step .* expected one of 0, 8, 16"):
        run.at(15)


@pytest.mark.slow
def test_an_answer_over_time_has_every_evaluation_and_each_model_s_own_step(kept):
    found = pd.DataFrame(over_time(kept, models_table)).set_index(["n_labels", "evaluation"])
    assert found["step"].to_dict() == {(3, 0): 0, (3, 1): 6, (3, 2): 12, (4, 0): 0, (4, 1): 8, (4, 2): 16}


@pytest.mark.slow
def test_training_from_python_is_the_commands_training(trained, tmp_path):
    wanted = tiny_sweep()
    run = lrjax.train(wanted, tmp_path / "mine", quiet=True)
    for name in ("models.csv", "history.csv"):
        table = (tmp_path / "mine" / name).read_text().splitlines()
        assert table[0].startswith(("model,", "step,")) and len(table) > 4
    np.testing.assert_allclose(run.models["unseen_pair"], models_table(trained[1])["unseen_pair"], atol=1e-6)
    before = run.history
    again = lrjax.train(wanted, tmp_path / "mine", quiet=True)
    assert again.history.equals(before), "a finished sweep is loaded"
    with pytest.raises(InputError, match=r"folder=.*holds another sweep \(n_labels"):
        lrjax.train(tiny_sweep(n_labels=(4, 5)), tmp_path / "mine", quiet=True)
    with pytest.raises(InputError, match=r"config\.n_label: no such key \(did you mean 'n_labels'\?\)"):
        lrjax.train({"n_label": (4, 5)}, tmp_path / "other")


def embeddings_of(model):
    return {"x": model.params.vision.E}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda run: run.where(n_labels=7), ["n_labels=7", "n_labels=4 or 6"]),
        (lambda run: run.where(n_label=6), ["n_label=6", "'n_labels'"]),
        (lambda run: run.model(n_labels=6), ["2 models", "seed: 0, 1"]),
        (lambda run: run.ablate("EX"), ["terms", "'EX'", "EE EP"]),
        (lambda run: run.ablate("EP", heads=[9]), ["heads", "9"]),
        (lambda run: run.ablate("EP", encoder="visoin"), ["encoder='visoin'", "'vision'"]),
        (lambda run: run.analyze("gradiant"), ["'gradiant'", "'gradient'"]),
        (lambda run: run.analyze("gradient", encode="text"), ["encode", "'encoder'"]),
        (lambda run: run.model(n_labels=6, seed=0).run_with_cache("h1 is on the left of 9"), ["h1 is on the left of 9"]),
        (lambda run: run.model(n_labels=6, seed=0).rank("h1 is on the left of h2"), ["is a caption"]),
        (lambda run: run.model(n_labels=6, seed=0).ablate("mean EE"), ["terms='mean EE'", "run.ablate"]),
        (lambda run: lrjax.load("nowhere"), ["path=nowhere", "no such folder"]),
        (lambda run: lrjax.load(""), ["path=''", "is empty"]),
        (lambda run: lrjax.load(None), ["path=None", "is no path"]),
        (lambda run: run.where(seed=[]), ["seed=[]", "is empty"]),
        (lambda run: run.where(seed=True), ["seed=True", "seed=0 or 1"]),
        (lambda run: run.where(n_labels="6"), ["n_labels='6'", "is a text", "a whole number, such as n_labels=6"]),
        (lambda run: run.where(gates=3), ["gates=3", "is no text"]),
        (lambda run: run.ablate([]), ["terms=[]", "is empty"]),
        (lambda run: run.ablate(["EP", 3]), ["terms=3", "is no ablation"]),
        (lambda run: run.ablate("EP", heads=[]), ["heads=[]"]),
        (lambda run: run.ablate("EP", heads="0"), ["heads='0'"]),
        (lambda run: run.ablate("EP", sets=["single"]), ["sets=['single']", "'unseen_pair'"]),
        (lambda run: run.ablate("EP", encoder=None), ["encoder=None"]),
        (lambda run: run.analyze(None), ["name=None"]),
        (lambda run: run.ablate("EP").summary(by="nope"), ["by='nope'", "n_labels"]),
        (lambda run: run.ablate("EP").summary(by=[]), ["by=[]"]),
        (lambda run: run.map(lambda m: None), ["metric_fn", "NoneType"]),
        (lambda run: run.map(3), ["metric_fn=3", "is no function"]),
        (lambda run: run.map(lambda m: {}), ["metric_fn", "an empty dict"]),
        (lambda run: run.map(lambda m: {1: m.params.vision.E}), ["metric_fn", "name=1"]),
        (lambda run: run.map(lambda m: {"x": "text"}), ["metric_fn", "'x' is str"]),
        (lambda run: run.map(embeddings_of, dims={"x": ("token",)}), ["dims", "'x' has 2 dimensions"]),
        (lambda run: run.map(embeddings_of, dims={"y": ("token",)}), ["dims", "'y' is no array", "one of x"]),
        (lambda run: run.map(embeddings_of, dims={"x": "token"}), ["dims", "'token'", "no sequence"]),
        (lambda run: run.map(embeddings_of, dims={"x": ("a", "a")}), ["dims", "repeats"]),
        (lambda run: run.map(embeddings_of, dims={"x": ("seed", "a")}), ["dims", "'seed'", "already"]),
        (lambda run: run.map(embeddings_of, dims=["a"]), ["dims=['a']", "a dict"]),
        (lambda run: run.at([20]), ["step=[20]"]),
        (lambda run: run.ablate("EP", frozen="yes"), ["frozen='yes'", "True or False"]),
        (lambda run: run.model(n_labels=6, seed=0).ablate("EP", encoder="t"), ["encoder='t'", "vision or text"]),
        (lambda run: run.analyze("gradient", run=3), ["run", "no such option"]),
        (lambda run: run.analyze("decoder"), ["decoder", "is no decoder"]),
        (lambda run: lrjax.Ablation(("EP",), heads=0), ["heads=0"]),
        (lambda run: lrjax.Ablation(("EP",), layers=("a",)), ["layers=('a',)"]),
        (lambda run: lrjax.Ablation(("EP",), scale="x"), ["scale='x'"]),
        (lambda run: lrjax.train(None, "somewhere"), ["config=None", "is no config"]),
        (lambda run: run.model(n_labels=6, seed=0).ablate(["EP"]), ["terms=['EP']", "is no ablation"]),
        (lambda run: run.model(n_labels=6, seed=0).run_with_cache(3), ["scene=3", "is no text"]),
        (lambda run: run.model(n_labels=6, seed=0).rank(SCENE, 2.5), ["n=2.5"]),
    ],
)
def test_errors_name_the_argument(run, wrong, told):
    with pytest.raises(InputError) as error:
        wrong(run)
    assert all(part in str(error.value) for part in told) and "--" not in str(error.value)


def test_a_part_says_by_what_it_was_chosen(run):
    part = run.where(n_labels=6)
    assert "where n_labels=6" in repr(part) and "where n_labels=6, seed=1" in repr(part.where(seed=1))
    assert "seed=1" in repr(part.model(seed=1))


@pytest.mark.slow
def test_a_question_to_models_of_several_shapes_has_nan_where_there_is_nothing():
    models = [tiny_model(seed=seed, n_heads=heads) for seed in (0, 1) for heads in (1, 2)]
    run = lrjax.Run(untrained(*models))
    found = run.map(lambda m: {"ones": jnp.ones(m.static.n_heads)}, dims={"ones": ("head",)})
    assert found.sizes == {"model": 4, "head": 2}
    assert np.isnan(found["ones"].sel(head=1)).values.tolist() == [True, False, True, False]


def test_differences_of_an_analysis_with_a_baseline(run):
    each = run.analyze("single_head_ablations").differences()
    assert "none" not in each.index.get_level_values("ablation") and len(each) > 10
    moved = run.analyze("gauge").differences()
    assert set(moved.index.names) == {"n_labels", "ablation", "cls"}


def test_a_summary_is_printed_whole_in_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    names = [f"accuracy_{i}" for i in range(12)]
    columns = {"model": np.arange(2), "n_labels": np.full(2, 5), "seed": np.arange(2)}
    summary = Result("test", columns | {name: np.array([0.25, 0.75]) for name in names}, tuple(names)).summary()
    printed = repr(summary)
    assert all(name in printed for name in summary.columns) and "..." not in printed
    assert all(f"{name}_low" in summary._repr_html_() for name in names)


def test_what_a_user_gave_is_not_rewritten():
    with pytest.raises(InputError, match="path=/tmp/my--labels=3: no such folder"), in_python():
        raise InputError("--ckpt=/tmp/my--labels=3: no such folder")


def test_flags_become_arguments():
    with pytest.raises(InputError, match=r"^folder=x: continue it with resume=True, terms, n_labels=3, or config$"), in_python():
        raise InputError("--workdir=x: continue it with --resume, --ablations, --labels=3, or --config")


def test_the_way_in_is_a_dozen_names_and_costs_nothing_until_it_is_used():
    assert len([name for name in dir(lrjax) if name in lrjax.__all__]) <= 12
    with pytest.raises(AttributeError):
        _ = lrjax.no_such_name
