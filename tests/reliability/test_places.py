"""Systems and folders unlike the usual: without POSIX, without a home, with names that are not UTF-8, with `~`."""

import getpass
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags

from conftest import ENVIRONMENT, OPTIMISED, QUICK, ROOT, command, tiny_sweep
from lrjax import cli, paths, program_cache
from lrjax.errors import InputError, SaveError
from lrjax.storage import checkpoint, workdir

WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys
import jax, absl.app, orbax.checkpoint, flax, optax, xarray, matplotlib.figure, scipy.special, tqdm  # theirs may use what they find

MODULES = ("fcntl", "resource", "pwd", "grp", "termios")

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in MODULES:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in ("sysconf", "sched_getaffinity", "posix_fallocate", "fork", "geteuid", "getuid", "statvfs"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGXCPU", "SIGKILL"):
    delattr(signal, name)

import lrjax
for module in pkgutil.walk_packages(lrjax.__path__, "lrjax."):
    if module.name != "lrjax.explorer.widget":  # it needs the extra `widget`
        importlib.import_module(module.name)
from lrjax import devices
devices.use_all_cores()
assert devices.memory() == devices.UNTOLD and devices.machine()["threads"] == os.cpu_count()
devices.clear_caches_if_needed()
"""


@pytest.mark.slow
def test_every_module_can_do_without_posix():
    done = subprocess.run([sys.executable, "-c", WITHOUT_POSIX], cwd=ROOT, env=OPTIMISED, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    workdir.open_run(tmp_path / "w", tiny_sweep())
    assert "cannot be locked on this file system (No locks available); let no other sweep write there" in capsys.readouterr().err


def parsed(argument):
    """What a flag of a path makes of its argument."""
    values = flags.FlagValues()
    cli.define_path("out", "runs/x", "a folder", flag_values=values)
    values(["program", *argument])
    return values.out


def test_paths_are_expanded_as_in_a_shell(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert parsed(["--out=~/a run"]) == parsed(["--out", "~/a run"]) == "/home/me/a run" and parsed(["--out=~"]) == "/home/me"
    assert parsed(["--out=./~/x"]) == "./~/x" and parsed(["--out=a~/~"]) == "a~/~" and parsed([]) == "runs/x"
    assert parsed([f"--out=~{getpass.getuser()}/x"]) == f"{Path(f'~{getpass.getuser()}').expanduser()}/x"
    with pytest.raises(flags.IllegalFlagValueError, match="--out=~nobody-such-user/x: '~nobody-such-user': there is no such user"):
        parsed(["--out=~nobody-such-user/x"])
    for empty in (["--out="], ["--out", ""]):  # a variable of the shell that is not set
        with pytest.raises(flags.IllegalFlagValueError, match="--out=: the path is empty; give a folder or file, such as"):
            parsed(empty)
    assert paths.as_path("~/x") == Path("/home/me/x") and paths.as_path(Path("~/x")) == Path("~/x")
    with pytest.raises(InputError, match="/home/me/runs: no such folder"):
        workdir.restore("~/runs")


def test_every_flag_of_a_path_is_one():
    files = [*ROOT.glob("experiments/**/*.py"), *ROOT.glob("lrjax/**/*.py")]
    assert len(files) > 100
    for file in files:
        defined = re.findall(r'DEFINE_string\(\s*"(\w+)",[^,]*,([^\n]*)', file.read_text())
        assert [name for name, text in defined if re.search("folder|file|write|where the plot|workdir", text)] == [], file.name


LATIN = os.fsdecode(b"Lauf \xfc")  # as an old disk or archive may have it: not UTF-8


def test_a_folder_may_have_a_name_that_is_not_utf8(trained, tmp_path):
    folder = tmp_path / LATIN
    shutil.copytree(trained[0], folder)
    here, there = workdir.restore(folder), workdir.restore(trained[0])
    jax.tree.map(np.testing.assert_array_equal, here.states[0].params, there.states[0].params)
    checkpoint.save(folder / "again", 1, {"a": {"x": np.arange(3)}}, {"of": "mine"})
    arrays, meta = checkpoint.load(folder / "again" / "1")
    assert arrays["a"]["x"].tolist() == [0, 1, 2] and meta["of"] == "mine"


def test_where_such_a_name_cannot_be_used_it_is_the_name_that_is_blamed(trained, tmp_path, monkeypatch):
    folder = tmp_path / LATIN
    shutil.copytree(trained[0], folder)

    def refuse(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    blames = "its name is not UTF-8 in this locale, and a temporary link to it cannot be made .no links here.; rename it"
    with pytest.raises(InputError, match=blames) as refused:
        workdir.restore(folder)
    assert type(refused.value) is InputError and "damaged" not in str(refused.value) and "copy" not in str(refused.value)
    with pytest.raises(SaveError, match="its name is not UTF-8"):  # the line is cut at 200 characters, the path may be long
        checkpoint.save(folder / "again", 1, {"a": {"x": np.arange(3)}}, {})


@pytest.mark.slow
def test_a_c_locale_can_use_any_folder(tmp_path):
    """Where Python reads, writes and prints ASCII alone: an umlaut, and a home in `~`."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    done = command("sweep", *QUICK, "--workdir=~/Lauf ü", env={**ENVIRONMENT, **locale, "HOME": str(tmp_path)})
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert f"{tmp_path}/Lauf ü/models.csv\n" in done.stdout
    assert len(workdir.restore(tmp_path / "Lauf ü").states) == 1


@pytest.mark.parametrize("folder", [None, LATIN])
def test_without_a_home_programs_are_not_kept(tmp_path, monkeypatch, capsys, folder):
    """As of a container's user, who has neither HOME nor a passwd entry; or with a home whose name jax cannot open."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", (lambda: tmp_path / folder) if folder else no_home)
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        program_cache.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    said = capsys.readouterr().err
    assert said.startswith("warning: ") and said.count("\n") == 1
    assert said.endswith("compiled programs are not kept; to keep them, set JAX_COMPILATION_CACHE_DIR to another folder\n")
