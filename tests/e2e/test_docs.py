"""README, CONTRIBUTING and the pages of docs: their Python and commands run as printed, and their links lead somewhere.

A block under `<!-- not run by tests: WHY -->` is not executed; its commands, flags, configs and files are checked all the same.
"""

import ast
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import lrjax
from conftest import QUICK, ROOT, SMOKE, many_commands
from experiments import main
from lrjax import config, kinds
from lrjax.analysis import registry
from lrjax.data import tasks
from lrjax.models.clip import init_clip

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RESULTS = sorted((ROOT / "docs/results").glob("*.md"))  # those are generated
PAGES = [page for page in PAGES if ROOT / "docs/results" not in page.parents]
REGISTRIES = (kinds.POSITIONS, kinds.OBJECTIVES, tasks.TASKS, registry.ANALYSES)
COMMANDS = ROOT / "docs/reference/commands.md"
NOT_RUN = "<!-- not run by tests: "


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


def blocks(page: Path, language: str, executed: bool = False) -> list[tuple[int, str]]:
    """The blocks of code of a page in one language: the line at which each begins, and its text. `executed`: without those that
    are not run by tests.
    """
    text = page.read_text()
    found = re.finditer(rf"(^{NOT_RUN}\S[^\n]* -->\n)?^```{language}\n(.*?)^```$", text, re.M | re.S)
    return [(text[: block.start(2)].count("\n"), block[2]) for block in found if not (executed and block[1])]


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.fixture
def alone(tmp_path, monkeypatch, swept):
    """A folder for what blocks write, which has a sweep in runs/diversity, and registries that are afterwards as they were."""
    shutil.copytree(swept[0], tmp_path / "runs/diversity")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    before = [dict(entries) for entries in REGISTRIES]
    yield
    for entries, was in zip(REGISTRIES, before, strict=True):
        entries.clear()
        entries.update(was)
    tasks.make.cache_clear()
    plt.close("all")


def executed(page: Path, monkeypatch) -> list[dict]:
    """What a page's names are after each of its blocks. Tracebacks have the line numbers of the page."""
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = []
    for line, code in blocks(page, "python", executed=True):
        if page.stem != "extend":  # the tiny sweep has models of 4 and 6 labels
            code = code.replace("n_labels=15", "n_labels=6")
        exec(compile("\n" * line + code, str(page), "exec"), vars(module))
        names.append(dict(vars(module)))
    return names


def check_extend(names: list[dict]) -> None:
    """What the guide adds trains, and does what the page says."""
    runs = {name: lrjax.load(f"runs/{name}") for name in ("random_rows", "right_first", "attract")}
    losses = {name: run.history.query("step > 0")["loss"] for name, run in runs.items()}
    assert all(run.step == 4 for run in runs.values())
    assert all(len(loss) == 4 and np.isfinite(loss).all() for loss in losses.values())

    static, rows = fields_of(runs["random_rows"], "positions")
    first, last = rows
    assert static == "random_rows"
    np.testing.assert_allclose(first.vision.P, last.vision.P, rtol=1e-6, err_msg="P is not trained")
    assert abs(first.vision.P.std() - 0.3) < 0.1 and (first.vision.E != last.vision.E).any(), "P is as large as tokens"

    order = names[-1]["model"].rank("h1 . . h2 . . . . . .").set_index("caption")["is"]
    assert order["h2 is on the right of h1"] == "true" and order["h1 is on the right of h2"] == "swapped"

    assert (losses["attract"] < 2).all(), "distances of unit vectors; CLIP's loss would begin above log 32"

    found = names[-1]["found"].to_xarray()
    assert found["length"].dims == ("model", "position") and found["position"].values[:2].tolist() == ["CLS", "1"]
    expected = np.linalg.norm(runs["attract"].trained.states[0].params.vision.P, axis=-1)
    np.testing.assert_allclose(found["length"], expected, rtol=1e-5)
    assert lrjax.analyses().loc["norms", "function"] == "page_extend.norms"


def fields_of(run, field: str):
    """A static field of a run's first program, and the parameters of its first model before and after training."""
    program, state = run.trained.programs[0], run.trained.states[0]
    one = lambda tree: jax.tree.map(lambda x: np.asarray(x)[0], tree)
    first = init_clip(program.static, one(program.hyper))
    return getattr(program.static, field), (jax.device_get(first), one(state.params))


def check_readme(names: list[dict]) -> None:
    first = names[0]
    assert first["model"].rank("h1 . . h2 . . . . . .").shape == (121, 3) and first["found"].name == "ablate"
    assert first["cache"]["vision.0.pattern"].dims == ("head", "query", "key")


CHECKS = {
    "README": check_readme,
    "docs/guides/extend": check_extend,
}  # what is asked of the names of a page, beside that its blocks run


NEEDS = {"pretrained": ("safetensors", "tokenizers")}  # packages of extras


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page, alone, monkeypatch):
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package, reason="the extra `pretrained` is not installed")
    names = executed(page, monkeypatch)
    CHECKS.get(name_of(page), lambda names: None)(names)


def lines_of(page: Path, executed: bool = False) -> list[str]:
    """The command lines of a page; several in one line, joined with &&, are several."""
    code = "".join(code for _, code in blocks(page, "sh", executed))
    words = [line for line in code.splitlines() if line and not line.startswith("#")]
    return [part.strip() for line in words for part in line.split("&&")]


def test_the_commands_of_the_pages_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    lines = [(page, line) for page in (*PAGES, *RESULTS) for line in lines_of(page)]
    assert len(lines) > 40 and not any(lines_of(page, executed=True) for page in RESULTS)
    for page, line in lines:
        assert exists(words := shlex.split(line, comments=True), targets), f"{name_of(page)}: {line}"
        assert not (unknown := unknown_flags(words)), f"{name_of(page)}: {line}: {unknown}"


def test_no_command_hides_in_a_block_of_text():
    for page in {*PAGES, *RESULTS} - {COMMANDS}:  # that one has synopses
        text = "".join(code for _, code in blocks(page, "text"))
        assert not re.search(r"^(make|lrjax|python|\.venv/bin/python|pip) ", text, re.M), name_of(page)


def test_the_configs_of_the_pages_are_possible():
    lines = [line for page in PAGES for line in lines_of(page) if re.search(r"make sweep|experiments\.sweep", line)]
    assert len(lines) > 10
    for line in lines:
        assert len(sweep_of_line(shlex.split(line, comments=True)).models) > 0, line


@pytest.mark.slow
def test_the_commands_of_the_pages_run(swept, tmp_path):
    """On one tiny sweep, the one that `swept` trained by the command that the guide prints, with fewer steps."""
    lines = [line for page in PAGES for line in lines_of(page, executed=True)]
    sweeps = [line for line in lines if "experiments.sweep" in line]
    assert sweeps == [f".venv/bin/python -m experiments.sweep {SMOKE} --workdir=runs/smoke"] and QUICK[0] == SMOKE
    commands = []
    for line in {line.split()[2]: line for line in lines}.values():  # one line of each command: starting each takes seconds
        program, _, module, *arguments = shlex.split(line.replace("--labels=15", "--labels=6"), comments=True)
        if line in sweeps:
            continue
        assert program == ".venv/bin/python" and "--ckpt=runs/diversity" in arguments, line
        answers = tmp_path / str(len(commands))
        kept = [word for word in arguments if not word.startswith("--ckpt=")]
        commands.append((module.removeprefix("experiments."), [f"--ckpt={swept[0]}", f"--out={answers}", *kept]))
    assert len(commands) >= 3
    for done in many_commands(commands):
        assert done.returncode == 0, f"{done.args}: {done.stderr}"


def flags_by_command() -> dict[str, set[str]]:
    """The flags of each command, as the generated page lists them; "" has those of every command."""
    found, name = {"": set()}, ""
    for line in COMMANDS.read_text().splitlines():
        if line.startswith("### "):
            found[name := line.removeprefix("### ")] = set()
        elif line.startswith("| `--"):
            found[name].add(line.split("`")[1].removeprefix("--"))
    return found


def unknown_flags(words: list[str]) -> list[str]:
    """The flags of a command line that its command does not have."""
    if words[0] == "make":
        target, words = words[1], [w for word in words if word.startswith("ARGS=") for w in shlex.split(word.removeprefix("ARGS="))]
        module = target
    elif "-m" in words:
        module = words[words.index("-m") + 1].removeprefix("experiments.")
    else:
        return []
    known = flags_by_command()
    if module not in known:
        return []
    of_config = {f"config.{key}" for key in config.get_config()}
    flags = [word.removeprefix("--").partition("=")[0] for word in words if word.startswith("--")]
    return [flag for flag in flags if flag not in known[""] | known[module] | of_config]


def sweep_of_line(words: list[str]):
    """The sweep that a command line trains: its config file with the keys of its flags."""
    words = [w for word in words for w in (shlex.split(word.removeprefix("ARGS=")) if word.startswith("ARGS=") else [word])]
    given = dict(word.removeprefix("--").partition("=")[::2] for word in words if "=" in word)
    file = given.get("config", given.get("CONFIG", "experiments/configs/diversity.py"))
    file, _, name = file.partition(":")
    wanted = dict(config_of(ROOT / file, *filter(None, [name])))
    for flag, value in given.items():
        if flag.startswith("config."):
            wanted[flag.removeprefix("config.")] = literal(value)
    return config.make_sweep(wanted)


def config_of(file: Path, *name: str):
    """What a config file gives, of several configs the one of a name."""
    module = types.ModuleType(file.stem)
    exec(file.read_text(), vars(module))
    return module.get_config(*name)


def literal(text: str):
    """A value of the command line: Python's, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def exists(words: list[str], targets: list[str]) -> bool:
    """Whether a command line names a target of make, a command of lrjax, a module, or tests that there are."""
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word) or words[0] == "make"]  # variables before a command
    program, *rest = words[1:] if words[0] == "srun" else words
    if program in ("git", "cd", "unzip") or rest[:2] == ["-m", "pip"]:
        return True
    if program == "make":
        files = [word.partition("=")[2].partition(":")[0] for word in rest if word.startswith("CONFIG=")]
        return rest[0] in targets and all((ROOT / file).is_file() for file in files)
    if program == "lrjax":
        return is_module(main.module_of(rest)[0])
    if rest[:2] == ["-m", "pytest"]:
        return all((ROOT / word).is_file() for word in rest[2:] if not word.startswith("-"))
    if program.endswith("python") and rest[0].endswith(".py"):
        return (ROOT / rest[0]).is_file()
    return program.endswith("python") and rest[0] == "-m" and is_module(rest[1])


def is_module(name: str) -> bool:
    """Whether the repository has the module."""
    return (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()


def test_commands_that_do_not_exist_are_found():
    for line in (
        "make sweeps",
        "make sweep CONFIG=no.py",
        "make sweep CONFIG=no.py:name",
        "python tests/no.py",
        "python -m experiments.no",
        "python -m pytest tests/no.py",
        "rm -r runs",
    ):
        assert not exists(shlex.split(line), ["sweep"]), line
    with pytest.raises(SystemExit):
        exists(["lrjax", "analyse"], ["sweep"])


def test_flags_that_do_not_exist_are_found():
    assert unknown_flags(shlex.split("python -m experiments.heads --ckpt=x --frozen --labels=5")) == ["frozen"]
    assert unknown_flags(shlex.split("make sweep ARGS='--config.sedes=4 --resume'")) == ["config.sedes"]


def test_the_page_of_commands_is_what_their_flags_say():
    """If this fails, run `python -m experiments.reference`. In a process of its own: flags belong to a process."""
    made = [sys.executable, "-c", "from experiments import reference; print(reference.page(), end='')"]
    done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == COMMANDS.read_text()


def test_every_block_of_code_says_its_language():
    for page in PAGES:
        opened = re.findall(r"^```(.*)$", page.read_text(), re.M)[::2]
        assert set(opened) <= {"python", "sh", "text", "bibtex"}, page


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.removeprefix(f"{lrjax.REPO_URL}/blob/main/").partition("#")
        if path.startswith("http"):
            continue
        base = ROOT if link.startswith("http") else page.parent
        target = (base / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), link


def test_the_tests_that_the_pages_name_exist():
    defined = {path.stem: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(test_\w+): (test_\w+)`", (ROOT / "docs/guides/reliability.md").read_text())
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}(" in defined[file], f"{file}: {test}"


def test_readme_shows_a_block_of_the_guide():
    """README's snippet is a part of a block that the tests execute, and its links are headings of the page."""
    readme, guide = ((ROOT / name).read_text() for name in ("README.md", "docs/guides/extend.md"))
    section = readme.partition("\n## Extend\n")[2].partition("\n## ")[0]
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)
    assert snippet in guide
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", guide, re.M)}
    assert set(re.findall(r"docs/guides/extend.md#([a-z-]+)", readme)) <= anchors and len(anchors) == 4
