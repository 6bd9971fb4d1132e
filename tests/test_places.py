"""Systems and folders unlike the usual: without POSIX, without a home, with names that are not UTF-8, with `~`."""

import getpass
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from conftest import ENVIRONMENT, ROOT, tiny_sweep
from lrjax import cli, paths, workdir
from lrjax.errors import InputError

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
    importlib.import_module(module.name)
from lrjax import devices
devices.use_all_cores()
assert devices.memory() == devices.UNTOLD and devices.machine()["threads"] == os.cpu_count()
devices.make_room()
"""


def test_every_module_can_do_without_posix():
    done = subprocess.run([sys.executable, "-c", WITHOUT_POSIX], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
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
    assert (
        parsed(["--out=./~/x"]) == "./~/x"
        and parsed(["--out=a~/~"]) == "a~/~"
        and parsed([]) == "runs/x"
        and parsed(["--out="]) == ""
    )
    assert parsed([f"--out=~{getpass.getuser()}/x"]) == f"{Path(f'~{getpass.getuser()}').expanduser()}/x"
    with pytest.raises(flags.IllegalFlagValueError, match="--out=~nobody-such-user/x: '~nobody-such-user': there is no such user"):
        parsed(["--out=~nobody-such-user/x"])
    assert paths.as_path("~/x") == Path("/home/me/x") and paths.as_path(Path("~/x")) == Path("~/x")
    with pytest.raises(InputError, match="/home/me/runs: no such folder"):
        workdir.restore("~/runs")


def test_every_flag_of_a_path_is_one():
    for file in (*ROOT.glob("experiments/*.py"), *ROOT.glob("lrjax/*.py")):
        defined = re.findall(r'DEFINE_string\(\s*"(\w+)",[^,]*,([^\n]*)', file.read_text())
        assert [name for name, text in defined if re.search("folder|file|write|where the plot|workdir", text)] == [], file.name
