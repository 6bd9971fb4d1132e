"""The commands as a user runs them: a whole small sweep and its ablation; and every bad input answered in one line."""

import csv
import json
import shutil
from importlib.metadata import version

import numpy as np
import pytest

import figures_read
from conftest import QUICK, ROOT, command, many_commands, one_command
from lrjax import stats
from lrjax.plotting import style

pytestmark = pytest.mark.slow


def read(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_a_sweep_writes_and_prints_what_it_says(swept):
    folder, printed = swept
    written = {p.name for p in folder.iterdir()} - {"analysis"}  # which other tests of this sweep make
    assert written == {"config.json", "lock", "checkpoints", "models.csv", "history.csv", "figures"}
    assert style.COLOURS[0].lower() in figures_read.colours(folder / "figures/fig3.png"), "one condition"
    four = {colour.lower() for colour in style.COLOURS[:4]}
    assert four <= figures_read.colours(folder / "figures/phases.png"), "single, seen pair, unseen pair, its order"
    models, history = read(folder / "models.csv"), read(folder / "history.csv")
    assert len(models) == 4 and len(history) == 4 * 3
    columns = "loss single seen_pair seen_pair_order unseen_pair unseen_pair_in_set unseen_pair_order unseen_pair_label_set".split()
    assert {*columns, "seed", "n_labels", "n2", "lr", "gates", "single_t2i", "unseen_pair_order_t2i"} <= set(models[0])
    assert {*columns, "step", "model"} <= set(history[0])
    assert json.loads((folder / "config.json").read_text())["versions"]["jax"] == version("jax")
    for n in ("4", "6"):  # a line of the printed table
        own = [row for row in models if row["n_labels"] == n]
        expected = [stats.format_interval(np.float32([row[name] for row in own]), within=stats.ACCURACY) for name in columns[4:7]]
        assert any(line.split()[0] == n and all(text in line for text in expected) for line in printed.splitlines() if line)
    assert "step 20/20" in printed and "model-steps/s" in printed and "fig3.png" in printed


def test_a_second_run_prints_its_table_again(swept):
    folder, printed = swept
    before = (folder / "models.csv").read_bytes()
    again = one_command("sweep", *QUICK, f"--workdir={folder}")
    assert again.returncode == 0 and "is finished" in again.stdout
    assert again.stdout.splitlines()[-9:] == printed.splitlines()[-9:]
    assert (folder / "models.csv").read_bytes() == before


def test_the_ablation_needs_nothing_but_the_checkpoint(swept):
    folder, _ = swept
    done = command("ablate_ep", f"--ckpt={folder}")
    assert done.returncode == 0, done.stderr
    for name in "none EE EP PE PP BE BP VP EP+PP EP+BP EP+PP+BP EP+VP".split():
        assert f"\n{name:>8}  " in done.stdout
    rows = read(folder / "analysis/ablate_ep.csv")
    assert len(rows) == 4 * 12
    own, without = (
        np.array([float(row["unseen_pair_order"]) for row in rows if row["ablation"] == name and row["n_labels"] == "4"])
        for name in ("none", "EP")
    )
    assert any(stats.format_interval(without - own, signed=True) in line for line in done.stdout.splitlines() if " EP  " in line)
    assert {"n_labels", "seed", "ablation", "unseen_pair", "unseen_pair_order", "unseen_pair_label_set"} <= set(rows[0])
    three = {colour.lower() for colour in style.COLOURS[:3]}
    assert three <= figures_read.colours(folder / "figures/ablate_ep.png"), "order, top-1, label set"
    assert {"fig3.png.json", "phases.png.json", "ablate_ep.png.json"} <= {p.name for p in (folder / "figures").iterdir()}
    # the steps of one run, a filter and the text encoder: other files, so nothing is overwritten
    step = folder / "checkpoints" / "20"
    done = one_command("ablate_ep", f"--ckpt={step}", "--labels=4", "--encoder=text", "--heads=0", "--ablations=EP,EE+PP")
    assert done.returncode == 0, done.stderr
    assert "n_labels = 6:" not in done.stdout and "text encoder, heads 0" in done.stdout
    assert (
        len(read(folder / "analysis/ablate_ep_text_step20_N4_h0_zero-EP-EE+PP.csv")) == 2 * 3
        and len(read(folder / "analysis/ablate_ep.csv")) == 48
    )


ANALYSES = "align decompose factors gauge gradient heads ratio text values ablate_ep".split()
ANALYSES += "training_ablation left_right depth variants grid reader relational".split()


def bad_files(tmp, folder):
    """Make the broken files and folders that `bad` names; a copy of the folder whose checkpoints are truncated is returned."""
    truncated = tmp / "truncated"
    shutil.copytree(folder, truncated)
    for step in (truncated / "checkpoints").iterdir():
        largest = max((p for p in step.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-100])
    (tmp / "stop" / "20+5").mkdir(parents=True)
    (tmp / "empty").mkdir()
    (tmp / "broken.py").write_text("def get_config(:\n")
    (tmp / "exits.py").write_text("raise SystemExit(3)\n")
    (tmp / "junk.py").write_text("def get_config():\n    return 5\n")
    return truncated


def bad(tmp, folder):
    """(command, arguments, what the one line must say)."""
    truncated = bad_files(tmp, folder)
    return bad_sweeps(tmp, folder, truncated) + bad_analyses(tmp, folder, truncated)


def bad_sweeps(tmp, folder, truncated):
    """As of `bad`: of `sweep`, `search` and `reproduce`."""
    new = f"--workdir={tmp}/new"
    return [
        ("sweep", [new, "--config.n_label=5"], "--config.n_label=5: no such key (did you mean 'n_labels'?)"),
        ("sweep", [new, "--config.nonsense=5"], "--config.nonsense=5: no such key"),
        ("sweep", [new, "--wrokdir=x"], "Unknown command line flag 'wrokdir'. Did you mean: workdir ?"),
        ("sweep", [new, "stray"], "'stray': stray argument"),
        ("sweep", [], "--workdir"),
        (
            "sweep",
            ["--workdir=~no-such-user/x"],
            "--workdir=~no-such-user/x: '~no-such-user': there is no such user; give the folder",
        ),
        ("sweep", [new, "--config=~no-such-user/x.py"], "--config=~no-such-user/x.py: '~no-such-user': there is no such user"),
        ("sweep", [new, "--config", "~no-such-user/x.py"], "--config=~no-such-user/x.py: '~no-such-user': there is no such user"),
        ("sweep", [new, "--config=no.py"], "--config=no.py: no such file"),
        ("sweep", [new, "--config=no.py:three"], "--config=no.py:three: no such file"),
        ("sweep", [new, "--config=experiments/configs/printed_tasks.py:no"], "printed_tasks.py:no: ValueError: 'no' is no variant"),
        ("search", [new, "--metric=unseen_pairs"], "unseen_pairs: is no accuracy of this config (did you mean 'unseen_pair'"),
        ("sweep", [new, f"--config={tmp}/broken.py"], "broken.py: invalid syntax"),
        ("sweep", [new, f"--config={tmp}/exits.py"], "exits.py: 3"),
        ("sweep", [new, f"--config={tmp}/junk.py"], "get_config() returned int; expected a ConfigDict"),
        ("sweep", ["--workdir", "config", "--config.seeds=0"], "config.seeds: 0 is not possible; expected 1..100000"),
        ("sweep", [new, "--config.lr=nan"], "config.lr: nan is not possible; expected a finite number"),
        ("sweep", [new, "--config.lr=1e39"], "config.lr: 1e+39 is not possible; expected a finite number"),
        ("sweep", [new, "--config.n_labels=1"], "config.n_labels: 1 is not possible; expected 2..1000"),
        ("sweep", [new, "--config.n2=45"], "config.n2: 45 is not possible; expected 1..44"),
        ("sweep", [new, "--config.lr=(0.1,-1)"], "config.lr: -1.0 is not possible; expected a finite number above 0"),
        ("sweep", [new, "--config.d_model=12.5"], "--config.d_model=12.5: expected a whole number"),
        ("sweep", [new, "--config.n_labels=()"], "config.n_labels: the axis is empty"),
        ("sweep", [new, "--config.gates=EQ=0"], "term 'EQ' does not exist"),
        ("sweep", [*QUICK, f"--workdir={folder}", "--config.lr=0.5"], "holds another sweep (lr is 0.001 there, 0.5 here)"),
        ("sweep", [*QUICK, f"--workdir={truncated}", "--resume"], "bring back a copy, or start again with --overwrite"),
        ("sweep", [f"--workdir={tmp}/broken.py/x"], "broken.py/x: cannot be written (Not a directory)"),
        ("sweep", [new, "--config.checkpoint_every=7"], "config.checkpoint_every: 7 is not possible; expected 0"),
        ("sweep", ["--workdir="], "--workdir=: the path is empty; give a folder or file"),
        (
            "sweep",
            [new, "--config.gates=EP=1>0@5000-6000"],
            "gates: 'EP=1>0@5000-6000' never acts in 3000 steps of training; start it earlier",
        ),
        (
            "reproduce",
            [f"--study={tmp}/study", "--only=defualt"],
            "--only=defualt: is no sweep of the study; expected some of default",
        ),
        ("sweep", [new, "--config.positions=rope"], "config.positions: 'rope' is not possible; expected 'learned' or"),
        ("sweep", [new, "--config.task=gird"], "config.task: 'gird': 'gird' does not exist (did you mean 'grid'?)"),
    ]


def bad_analyses(tmp, folder, truncated):
    """As of `bad`: of the other commands."""
    return [
        (
            "ablate_ep",
            [f"--ckpt={folder}", "--out", "~no-such-user"],
            "--out=~no-such-user: '~no-such-user': there is no such user",
        ),
        ("ablate_ep", [f"--ckpt={tmp}/nowhere"], "nowhere: no such folder"),
        ("ablate_ep", [f"--ckpt={tmp}/empty"], "empty: holds no checkpoint"),
        ("ablate_ep", [f"--ckpt={truncated}"], "is not what was saved); no older step can be used either"),
        ("ablate_ep", [f"--ckpt={truncated}/checkpoints/20"], "checkpoints/20: damaged checkpoint (state/"),
        ("ablate_ep", [f"--ckpt={tmp}/stop/20+5"], "20+5: a stop between two evaluations"),
        ("ablate_ep", [f"--ckpt={folder}", f"--out={tmp}/broken.py/x"], "broken.py/x: cannot be written"),
        ("ablate_ep", [f"--ckpt={folder}", "--heads=4"], "--heads: head 4 is out of range; expected 0..1"),
        ("ablate_ep", [f"--ckpt={folder}", "--heads=a"], "--heads=a: expected whole numbers"),
        ("ablate_ep", [f"--ckpt={folder}", "--labels=4,4", f"--out={tmp}/made"], "--labels=4,4: repeats a number; give each once"),
        ("ablate_ep", ["--ckpt="], "--ckpt=: the path is empty; give a folder or file"),
        (
            "factors",
            [f"--ckpt={folder}/checkpoints/10"],
            "/checkpoints/10: is unfinished (step 10 of 20); train it to its end with",
        ),
        ("ablate_ep", [f"--ckpt={folder}", "--labels=15"], "--labels=15: no model has so many labels; expected some of 4, 6"),
        ("ablate_ep", [f"--ckpt={folder}", "--encoder=txt"], "--encoder=txt: does not exist (did you mean 'text'?)"),
        ("ablate_ep", [f"--ckpt={folder}", "--ablations=EP+XX"], "--ablations: term 'XX' does not exist"),
        ("ablate_ep", [f"--ckpt={folder}", "--images=single"], "--images=single: unseen_pair is missing"),
        ("values", [f"--ckpt={truncated}"], "no older step can be used either"),
        ("decompose", [f"--ckpt={folder}", "--layer=1"], "--layer=1: the vision encoder has 1; expected 0..0"),
        ("ratio", [f"--ckpt={folder}"], "--ckpt: all models have the same initial scales; give a sweep such as"),
        ("factors", [f"--ckpt={folder}"], "--axes=n_labels,n2: n2 takes one value"),
        ("factors", [f"--ckpt={folder}", "--axes=n_labels"], "--axes=n_labels: expected two columns of models.csv"),
        (
            "depth",
            [f"--ckpt={folder}", "--frozen", "--encoder=text"],
            "--frozen, --encoder=text: whole layers are ablated in vision",
        ),
        ("variants", [f"--ckpt={folder}", "--where=d_head=3"], "--where=d_head=3: no model has it; expected d_head=0"),
        ("regime", [f"--workdir={tmp}/regime", "--configurations=0"], "--configurations"),
        ("encoders", [f"--study={tmp}/study", "--only=default"], "expected some of training_ablation"),
        ("encoders", [f"--study={tmp}/study", "--only="], "--only=: is empty; expected some of training_ablation"),
        ("grid", [f"--ckpt={folder}"], "grid: task='row': has one dimension; expected a sweep of task 'grid'"),
        (
            "reader",
            [f"--ckpt={folder}"],
            "decoder: objective='contrastive': is no decoder; expected a sweep with an autoregressive",
        ),
        ("ablate_ep", [f"--ckpt={folder}", "--ablations=vertical EP"], "--ablations: 'vertical EP': task='row': has one dimension"),
    ]


@pytest.mark.parametrize(
    ("name", "tables", "figures"),
    [
        ("decompose", ["shares", "term_maps"], {"shares": {"readout row", "EP"}, "terms_mean": {"EP", "sum"}}),
        (
            "gradient",
            ["gradient", "gradient_predicts", "gradient_onset"],
            {"gradient_predicts": {"order, unseen pairs", "N = 4", "N = 6"}, "gradient_phases": {"single", "seen pair"}},
        ),
        ("gauge", ["gauge", "gauge_law", "gauge_ratio", "query_law"], {"gauge": {"N = 4 labels", "N = 6 labels", "none", "EP"}}),
        (
            "variants",
            ["variants", "variants_ablate"],
            {"variants": {"order", "top-1", "label set"}, "variants_ablate": {"none", "EP", "what is taken away"}},
        ),
    ],
)
def test_an_analysis_prints_and_writes_its_answer(swept, tmp_path, name, tables, figures):
    folder, _ = swept
    done = one_command(name, f"--ckpt={folder}", f"--out={tmp_path}", "--format=svg")
    assert done.returncode == 0, done.stderr
    assert "n_labels" in done.stdout
    assert {p.stem for p in (tmp_path / "analysis").glob("*.csv")} == set(tables)
    drawn = {p.stem: p for p in (tmp_path / "figures").iterdir() if p.suffix != ".json"}  # each has a record beside it
    assert all(path.suffix == ".svg" for path in drawn.values())
    for figure, words in figures.items():
        assert words <= set(figures_read.texts(drawn[figure])), figure
    assert {"model", "n_labels", "seed"} <= set(read(tmp_path / "analysis" / f"{tables[0]}.csv")[0])


def test_what_an_unfinished_sweep_has_no_answer_to_is_said(swept, tmp_path):
    step = swept[0] / "checkpoints" / "10"
    commands = [(name, [f"--ckpt={step}", "--labels=4", f"--out={tmp_path}"]) for name in ("gradient", "decompose")]
    for done in many_commands(commands):
        assert done.returncode == 0, done.stderr
        assert f": --ckpt={step}: is unfinished (step 10 of 20); train it to its end with experiments.sweep --resume" in done.stdout


def test_every_analysis_opens_its_checkpoint_through_one_door():
    """So that each answers a bad path as `bad` says of two of them: starting all ten is minutes."""
    for name in ANALYSES:
        source = (ROOT / "experiments" / f"{name}.py").read_text()
        assert "common.define_flags(" in source and source.count("common.restore()") == 1 and "workdir.restore" not in source, name
    others = {p.stem for p in (ROOT / "experiments").glob("*.py")} - {*ANALYSES}
    assert others == {
        "__init__",
        "accelerator_check",
        "compile_for",
        "main",
        "benchmark",
        "common",
        "encoders",
        "explorer",
        "one_head",
        "paper",
        "pretrained",
        "printed_tasks",
        "reference",
        "regime",
        "reproduce",
        "search",
        "sweep",
        "tasks",
        "torture",
    }, "a new command is in one of these lists"


@pytest.mark.parametrize("flag", ["--help", "--helpshort"])
def test_help_is_printed_and_is_no_error(flag):
    helped = command("ratio", flag)
    assert (helped.returncode, helped.stderr) == (0, "") and "--ckpt" in helped.stdout


def test_bad_input_ends_in_one_line_and_touches_nothing(swept, tmp_path):
    folder, _ = swept
    cases = bad(tmp_path, folder)
    before = {p: p.stat().st_mtime_ns for p in [*tmp_path.rglob("*"), *folder.rglob("*")] if p.is_file()}
    results = many_commands([case[:2] for case in cases])
    for (module, arguments, says), done in zip(cases, results, strict=True):
        told = f"{module} {arguments}: {done.stderr}"
        assert done.returncode == 2, told
        assert says in done.stderr and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, told
        assert done.stdout == "", told
    assert {p: p.stat().st_mtime_ns for p in [*tmp_path.rglob("*"), *folder.rglob("*")] if p.is_file()} == before
    assert not (tmp_path / "new").exists() and not (tmp_path / "made").exists()
