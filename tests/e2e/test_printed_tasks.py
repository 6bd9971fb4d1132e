"""The study of tasks under the printed recipe: its configs, its rule of length, its claims and their page."""

from pathlib import Path

import numpy as np
import pytest

from experiments.configs import printed_tasks as configs
from experiments.studies import length, printed_claims, printed_mechanism, printed_search, printed_tasks
from experiments.studies.answers import ROUTES
from experiments.studies.paper_values import SETTLED
from experiments.studies.study import PRINTED_TASKS, Study, config_of, sweep_of
from experiments.studies.verdicts import judge
from lrjax import stats
from lrjax.analysis.gradient import NAMES
from lrjax.analysis.relational import MEASURES
from lrjax.errors import InputError
from studies_by_hand import crossed, drawn, measured

SOME = {name: PRINTED_TASKS[name] for name in ("row", "three", "three_large", "reader", "siglip_large")}
ROOT = Path(__file__).parents[2]


def test_every_variant_is_the_printed_recipe_with_one_thing_changed():
    for name, part in PRINTED_TASKS.items():
        models = sweep_of(config_of(part), 4, part.most_seeds, quick=False).models
        model = models[0]
        assert (model.data, model.lr, model.weight_decay, model.warmup_steps) == ("fixed", 1e-4, 0.2, 0)
        assert model.batch_size == (100 if "+" in model.relations or model.relations == "all" else 50)
        assert (model.e_scale, model.p_scale) == ((1, 1) if name.endswith("_large") else (0.02, 0.088))
        assert {m.n_labels for m in models} == {5, 15} and len(models) == 8
    assert set(printed_claims.TITLES) == set(configs.VARIANTS) == set(printed_tasks.QUICK)
    with pytest.raises(ValueError, match="'grids' is no variant; expected one of row, grid"):
        configs.get_config("grids")


class Trained:
    """A study whose sweeps move by .1 in the last third until they have made so many steps."""

    def __init__(self, folder, still_at):
        self.folder, self.still_at, self.asked = folder, still_at, []

    def path(self, part):
        return self.folder / part

    def train(self, part, sweep):
        self.asked.append(sweep.steps)
        (self.path(part)).mkdir(exist_ok=True)
        (self.path(part) / "config.json").write_text(f'{{"steps": {sweep.steps}}}')

    def history(self, part):
        moves = 0.1 if self.asked[-1] < self.still_at else SETTLED / 2
        columns = {"model": np.arange(2), "n_labels": np.array([5, 15])}
        table = crossed(columns, evaluation=(0, 1, 2, 3))
        return table | {"unseen_pair": np.where(table["evaluation"] == 3, 0.5 + moves, 0.5)}


def test_a_sweep_is_trained_on_by_half_of_its_steps_while_it_moves(tmp_path):
    sweep = sweep_of(config_of(PRINTED_TASKS["row"]), 1, 1, quick=False)
    study = Trained(tmp_path, still_at=32_000)
    length.train_on(study, "row", sweep, most_steps=48_000)  # pyright: ignore[reportArgumentType]
    assert study.asked == [16_000, 24_000, 32_000]
    length.train_on(study, "row", sweep, most_steps=48_000)  # pyright: ignore[reportArgumentType]
    assert study.asked[3:] == [32_000], "a second call goes on from there, and finds that it is finished"
    never = Trained(tmp_path / "other", still_at=10**9)
    never.folder.mkdir()
    length.train_on(never, "row", sweep, most_steps=30_000)  # pyright: ignore[reportArgumentType]
    assert never.asked == [16_000, 24_000], "--steps is not passed"
    with pytest.raises(InputError, match="--steps=8000: is less than the 16000 that row trains at least"):
        length.train_on(never, "row", sweep, most_steps=8_000)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Some sweeps of the study with drawn numbers; what is taken away was learned (.8 or more)."""
    of_measures = [f"{name}_{m}" for name in ("relational", "against", "gap", "directions_differ") for m in MEASURES]
    answers = {name: ({"ablation": ROUTES}, None) for name in ("routes", "chain_routes", "reader_routes")}
    answers |= {"curves": ({"step": (16_000,), "evaluation": (0, 1, 2)}, ("epoch", "unseen_pair", "unseen_chain"))}
    answers |= {"strongest": ({}, NAMES), "heads": ({"layer": (0,), "head": (0, 1)}, ("bias_direction",))}
    answers |= {"relational": ({"head": (0, 1)}, ("difference", *of_measures))}
    made = drawn(tmp_path_factory.mktemp("study"), SOME, answers, measured, low=0.8)
    return Study(made.folder, PRINTED_TASKS, kept=made.kept)


@pytest.mark.slow
@pytest.mark.usefixtures("blank_figures")
def test_the_page_has_every_sweep_that_is_trained_and_says_which_are_not(study, tmp_path):
    for part in SOME:
        for claim in printed_claims.of_part(part):
            assert judge(claim, study, part).n == 2, claim.key
    report = tmp_path / "report"
    for name in ("tasks", "encoders"):
        (report / name).parent.mkdir(exist_ok=True)
        (report / name).symlink_to(ROOT / "docs/results" / name)
    printed_tasks.build(study, report, None)
    page = (report / "printed_tasks.md").read_text()
    assert page.count("Not tested: the sweep") == len(PRINTED_TASKS) - len(SOME)
    rows = printed_tasks.table(study, printed_tasks.judged(study, printed_claims.CLAIMS), report)
    assert [(row["task"], row["initial values"]) for row in rows] == [
        (printed_claims.TITLES[printed_claims.variant_of(part)], "N(0, 1)" if part.endswith("_large") else "small")
        for part in PRINTED_TASKS
        if part in SOME
    ]
    assert all(f"| {row['task']} |" in page for row in rows)


@pytest.fixture
def by_hand(monkeypatch, tmp_path):
    """A study of one row and of grids, two seeds, by hand: the first model knows the order, the second does not."""
    models = crossed({"model": np.arange(4), "n_labels": np.array([5, 5, 15, 15]), "seed": np.array([0, 1, 0, 1])})
    order = {"none": [1.0, 1.0, 0.9, 0.7], "EP": [1.0, 1.0, 0.85, 0.7], "PP": [0.5, 0.5, 0.6, 0.5]}
    order |= {"EP+PP+BP": [0.5, 0.5, 0.5, 0.5], "VP": [1.0, 1.0, 0.8, 0.6]}
    routes = crossed(models, ablation=tuple(order))
    routes |= {"unseen_pair_order": np.array([order[a][m] for a, m in zip(routes["ablation"], routes["model"], strict=True)])}
    heads = crossed(models, layer=(0,), head=(0, 1))
    heads |= {"bias_direction": np.where(heads["head"] == 0, "left", "right")}
    of_heads = crossed(models, head=(0, 1))
    of_heads |= {"difference": np.where(of_heads["head"] == 0, -0.9, 0.2)}
    for name in ("relational", "against", "gap", "directions_differ"):
        of_heads |= {f"{name}_{measure}": of_heads["difference"] + k for k, measure in enumerate(MEASURES)}
    directions = models | {"head_horizontal": np.array([0, 0, 1, 1]), "head_vertical": np.array([0, 0, 2, 1])}
    answers = {"routes": routes, "heads": heads, "relational": of_heads, "directions": directions}
    study = Study(tmp_path, PRINTED_TASKS)
    monkeypatch.setattr(Study, "has", lambda self, part: part in ("row", "grid"))
    monkeypatch.setattr(Study, "answer", lambda self, part, name: answers[name])
    return study


def test_the_mechanism_is_of_the_models_that_know_the_order(by_hand):
    """At 15 labels that is the first of two models: its order, its two heads, and its head that leans most (the first, -.9)."""
    row, grid = printed_mechanism.table(by_hand)
    assert row["models"] == grid["models"] == "1"
    assert [row[f"order without {terms}"] for terms in ("EP", "PP", "EP+PP+BP", "VP")] == [
        "0.85 (1)",
        "0.60 (1)",
        "0.50 (1)",
        "0.80 (1)",
    ]
    assert row["heads lean both ways"] == "1 of 1" and grid["heads lean both ways"] == printed_mechanism.NOT_ASKED
    assert [row[f"P(relational) less preference, {measure}"] for measure in MEASURES] == ["-0.90", "0.10"]
    assert grid["horizontal and vertical: two heads"] == "1 of 1"


def test_a_search_has_a_row_once_it_is_confirmed(tmp_path):
    """Three objects are searched by chains: 2 of 4 configurations generalise while screened, none of its fresh seeds do."""
    folder = tmp_path / "three"
    stage = lambda *chains: {
        "model": np.arange(len(chains)),
        "seed": np.arange(len(chains)),
        "batch_size": np.full(len(chains), 50),
        "lr": np.full(len(chains), 3e-4),
        "step": np.full(len(chains), 4000),
        "unseen_pair": np.zeros(len(chains)),
        "unseen_chain": np.array(chains),
        "at_the_end": np.zeros(len(chains)),
    }
    stats.write_csv(folder / "screen.csv", stage(0.9, 0.81, 0.8, 0.1))
    stats.write_csv(folder / "full.csv", stage(0.95, 0.5))
    assert not printed_search.rows(tmp_path), "it has not come to its end"
    values = {"step": 12_000, "seeds": 16, "unseen_chain": 0.7, "low": 0.6, "high": 0.79, "order": 0.75}
    confirm = lambda values: stats.write_csv(folder / "confirm.csv", {name: np.array([value]) for name, value in values.items()})
    confirm(values)
    (row,) = printed_search.rows(tmp_path)
    assert row["task"] == "Three objects" and row["a recipe is found"] == "no"
    assert row["screened: generalise at their best step"] == "2 of 4"
    assert (row["the best in full: at their best step"], row["at the last step"]) == ("1 of 2", "0 of 2")
    assert row["best configuration"] == "batch_size = 50, lr = 0.0003" and row["its top-1"] == "0.95"
    assert row["fresh seeds: top-1"] == "0.70 [0.60, 0.79] (16 seeds)"
    confirm(values | {"high": 0.85})
    assert printed_search.rows(tmp_path)[0]["a recipe is found"] == "undecided"
    confirm({"unseen_pair" if name == "unseen_chain" else name: value for name, value in values.items()})
    with pytest.raises(InputError, match="does not rank by unseen_chain; search with --metric=unseen_chain"):
        printed_search.rows(tmp_path)
