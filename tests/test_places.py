"""Systems and folders unlike the usual: without POSIX, without a home, with names that are not UTF-8, with `~`."""

import subprocess
import sys

from conftest import ENVIRONMENT, ROOT, tiny_sweep
from lrjax import workdir

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
