"""The page of pretrained models comes from committed tables."""

import shutil

import jax
import numpy as np
import pytest

pytest.importorskip("safetensors", reason="the extra `pretrained` is not installed")
pytest.importorskip("tokenizers", reason="the extra `pretrained` is not installed")

from conftest import ROOT
from experiments.studies import pretrained, pretrained_claims, pretrained_tables, pretrained_terms, pretrained_values
from lrjax import InputError
from lrjax.pretrained import train
from lrjax.stats import read_csv, write_csv
from lrjax.storage import results


def test_the_page_has_the_numbers_of_the_committed_tables():
    """If this fails, run `python -m experiments.studies.pretrained`."""
    assert (ROOT / "docs/results/pretrained.md").read_text() == pretrained.page()


def test_a_model_that_was_not_run_has_an_empty_row_and_its_command():
    page = pretrained.page()
    for hub, title in pretrained.WANTED.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {title}: not run")]
        assert not set(row.partition("not run")[2]) - {"|", " "}
        assert f"python -m experiments.pretrained --weights={hub} " in page


@pytest.mark.slow
def test_a_model_that_was_run_has_its_row_filled(tmp_path):
    """Its tables are put there by `pretrained_tables --take`."""
    shutil.copytree(pretrained.RESULTS / pretrained.FOLDER, tmp_path / pretrained.FOLDER)
    out = tmp_path / "clip-vit-base-patch32"
    shutil.copytree(pretrained.RESULTS / pretrained.FOLDER / pretrained.RANDOM, out / "analysis")
    pretrained_tables.take(out, tmp_path)
    page = pretrained.page(tmp_path)
    assert "OpenAI CLIP ViT-B/32: not run" not in page and "\n| OpenAI CLIP ViT-B/32 | 0." in page
    with pytest.raises(InputError, match=r"has no analysis/summary\.csv"):
        pretrained_tables.take(tmp_path / "none", tmp_path)


def test_what_is_taken_is_the_last_analysis_of_a_folder(tmp_path):
    """Of an earlier one with other arguments the tables have the plain names, and of an interrupted one there is no summary."""
    out, folder = tmp_path / "mine", tmp_path / pretrained.FOLDER / "mine"
    folder.mkdir(parents=True)
    (folder / "gates_frozen.csv").write_text("model\nof an earlier take\n")

    def write(name, value, **arguments):
        record = results.Record("checkpoint", f"pretrained: {name}", arguments, "code")
        path = results.place(out / f"analysis/{name}.csv", record)
        results.write(path, {"model": np.array([value])}, record)
        return path

    for name in ("gradient", "leaning", "summary"):
        write(name, "few", pairs=1)
    write("leaning", "stopped", pairs=9)
    for name in ("gradient", "summary"):
        assert write(name, "many", pairs=4).stem != name
    pretrained_tables.take(out, tmp_path)
    assert {path.name for path in folder.iterdir()} == {"gradient.csv", "summary.csv"}, (
        "of no other analysis, nor of an earlier take"
    )
    assert {read_csv(path)["model"][0] for path in folder.iterdir()} == {"many"}


@pytest.mark.slow
def test_every_table_of_the_page_is_written_by_the_command(tmp_path, monkeypatch):
    """The trained controls from their training on; the analysis is of a test of its own."""
    monkeypatch.setattr(pretrained_tables, "analyse", lambda weights, out, *more: None)
    monkeypatch.setattr(pretrained_tables, "take", lambda out, results: None)
    (tmp_path / pretrained.FOLDER).mkdir()
    sizes = dict(n_heldout=2, steps=0, batch_size=8, n_layers=1, n_heads=2, d_model=16, d_mlp=16, image_size=16, columns=3)
    pretrained_tables.make_trained(tmp_path / "study", tmp_path, [3], 1, **sizes)
    found, committed = (
        read_csv(folder / pretrained.FOLDER / pretrained_values.TRAINED) for folder in (tmp_path, pretrained.RESULTS)
    )
    assert list(found) == list(committed)
    assert found["model"].tolist() == ["drawn_3_seed0"] * 2 + ["drawn_3_mirrored_seed0"] * 2
    assert found["things"].tolist() == ["trained", "held out"] * 2 and found["mirrored"].tolist() == [False, False, True, True]
    again = train.Recipe(n_labels=3, **(pretrained_tables.SMALL | sizes | dict(steps=3)))
    with pytest.raises(InputError, match="drawn_3_seed0: was trained otherwise"):
        pretrained_tables.trained(again, tmp_path / "study/weights")


def test_claims_are_judged_by_the_committed_tables_and_not_without(tmp_path):
    found = pretrained_claims.verdicts()
    things = {title.split(", ")[1].split()[0] for title in pretrained.kinds()}
    of_trained = {f"{key}_{n}" for key in ("order", "exchanged", "chance", "vanishes", "gates") for n in things}
    assert set(found) == {"focus_odd", "focus_size"} | of_trained
    page = pretrained.page()
    assert all(f"**{verdict.verdict}**" in page for (verdict,) in found.values()) and "**Asked after the run**" in page
    assert {verdict.verdict for (verdict,) in pretrained_claims.verdicts(tmp_path).values()} == {"not tested"}


def test_the_horizontal_odd_share_is_judged_layer_by_layer(tmp_path):
    """Means over heads of columns less rows: 0.1 less 0.3 in one layer, 0.2 less 0.3 in the other."""
    columns = dict(layer=[0, 0, 1, 1], odd_columns=[0.0, 0.2, 0.1, 0.3], odd_rows=[0.3] * 4, odd_size_columns=[1.0] * 4)
    table = {name: np.array(values) for name, values in columns.items()} | {"odd_size_rows": np.zeros(4)}
    write_csv(tmp_path / pretrained.FOLDER / pretrained.FOCUS / "gradient.csv", table)
    found = pretrained_claims.verdicts(tmp_path)
    (odd,), (size,) = found["focus_odd"], found["focus_size"]
    assert (odd.n, round(odd.mean, 9), odd.verdict) == (2, -0.15, "undecided") and (size.mean, size.verdict) == (1.0, "differs")


def test_gates_sums_and_terms_are_of_both_encoders_of_every_model_that_is_trained_here():
    for grid in (pretrained_terms.terms(), pretrained_terms.effects(), pretrained_terms.sum_errors()):
        of = {(row[0].split(", mean")[0], row[1]) for row in grid.rows}
        assert {(title, given) for title in pretrained.kinds() for given in ("images", "texts")} <= of
    for names in pretrained.kinds().values():
        grid = pretrained_terms.gates(names[0])
        assert grid is not None and {row[0] for row in grid.rows} == {"images", "texts"} and len(grid.rows) == 12
    assert pretrained_terms.gates("none") is None and pretrained_terms.origins_by_layer("none") is None


def test_the_random_control_has_the_parameters_of_vit_b32():
    """151,277,313, as OpenAI's has."""
    config = pretrained_tables.vit_b32()
    params = jax.eval_shape(lambda: train.initial(config, jax.random.key(0)))
    assert sum(array.size for array in jax.tree.leaves(params)) == 151_277_313


def test_numbers_that_are_not_there_are_empty():
    assert pretrained.short(float("nan")) == "" and pretrained.short(None) == "" and pretrained.short(0.5) == "0.500"
