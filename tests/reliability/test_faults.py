"""Faults as they happen to processes: killed, told to stop, out of disk, two at a time, not allowed to write."""

import fcntl
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from conftest import ENVIRONMENT, LIMIT, QUICK, ROOT, SMALL, command, many_commands, tiny_sweep
from lrjax import cli, devices, output
from lrjax.errors import InputError
from lrjax.storage import step_folders, workdir
from lrjax.training.stop import Stop

pytestmark = pytest.mark.slow

LONG = (*SMALL, "--config.steps=80000", "--config.eval_every=40000", "--config.checkpoint_every=200")


@pytest.fixture(autouse=True)
def heeded():
    """Tests that run in the background ignore SIGINT, under nohup SIGHUP, and so would what they start."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_kills_at_random_moments_leave_an_undisturbed_run():
    """One at any moment, one in a save; with all optimisations of XLA in `make test-optimised`. Models of the fixed set have
    epochs, so that they end at different steps; those of the resampled one, which end together, are stopped at every chunk in
    test_resume.
    """
    done = command("torture", "--data=fixed", "--kills=2")
    assert done.returncode == 0 and "2 of 2 kills identical" in done.stdout, done.stdout + done.stderr


def place(folder: Path) -> tuple[int, int]:
    """How far a sweep has saved: the step of an evaluation, and steps past it."""
    saved = step_folders.saved_steps(folder / "checkpoints")
    return step_folders.place_of(saved[-1]) if saved else (0, 0)


def stop(run: list[str], folder: Path, by: signal.Signals) -> str:
    """Start a sweep, stop it once it has trained and saved more than there was; the last line that it printed."""
    before = place(folder)
    process = subprocess.Popen(run, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while place(folder) <= before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(by)
    printed, complained = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + by, complained
    assert complained == f"{by.name}: stopping after this chunk; saving\n"
    return printed.splitlines()[-1]


def test_sigterm_and_sigint_save_and_say_how_to_go_on(tmp_path):
    """With --deterministic, which a CPU takes without a word."""
    folder = tmp_path / "ein Lauf ü"
    run = [sys.executable, "-m", "experiments.sweep", *LONG, f"--workdir={folder}", "--deterministic"]
    said, first = stop(run, folder, signal.SIGTERM), place(folder)
    assert said.startswith("SIGTERM: stopped; continue with: ") and first[1] > 0, "between two evaluations"
    again = shlex.split(said.partition("continue with: ")[2])
    assert again == [*run, "--resume"]
    said = stop(again, folder, signal.SIGINT)
    assert said == f"SIGINT: stopped; continue with: {shlex.join(again)}" and place(folder) > first


def test_a_signal_that_comes_while_hosts_agree_is_not_lost(monkeypatch):
    numbers = iter([signal.SIGTERM, 0])

    def agree(number):
        if comes := next(numbers):
            os.kill(os.getpid(), comes)
        return number

    monkeypatch.setattr(devices, "max_over_hosts", agree)
    with Stop() as stop:
        assert not stop() and stop() and stop.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_signals_of_terminals_and_schedulers_ask_to_stop(capfd):
    """Those that machines send come more than once: a second one must not end what the first one has begun to save."""
    usual = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]
    before = [signal.getsignal(number) for number in usual]
    for number in usual:
        with Stop() as stop:
            assert not stop()
            for _ in range(1 if number in (signal.SIGTERM, signal.SIGINT) else 3):
                os.kill(os.getpid(), number)
            assert stop() and stop.number == number
        assert capfd.readouterr().err == f"{number.name}: stopping after this chunk; saving\n"
    assert [signal.getsignal(number) for number in usual] == before


def test_a_second_ctrl_c_ends_at_once_and_nohup_is_respected():
    with pytest.raises(KeyboardInterrupt), Stop():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop() and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_full_disk_is_an_error_at_the_end_and_room_completes_the_run(swept, tmp_path):
    """No file may grow beyond 50 kB, which tables and JSON never do and checkpoints do."""
    arguments = (*QUICK, f"--workdir={tmp_path}/w")
    done = command("sweep", *arguments, before=("bash", "-c", 'ulimit -f 50; exec "$0" "$@"'))
    assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith("step 20/20"), "it goes on training"
    *warned, error = done.stderr.splitlines()  # JAX, in its own words, of its compilation cache too
    assert [line.partition(" could not be saved")[0] for line in warned if line.startswith("warning: ")] == [
        f"warning: {tmp_path}/w/checkpoints/{step}:" for step in (0, 10, 20, 20)
    ]
    assert error.startswith("error: ") and "the last save failed: make room, then continue with: " in error
    assert list((tmp_path / "w/checkpoints").iterdir()) == [], "nothing half-written takes what room there is"
    done = subprocess.run(shlex.split(error.partition("continue with: ")[2]), cwd=ROOT, env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 0 and b"compilation cache" not in done.stderr, "no part of a program is kept"
    for name in ("models.csv", "history.csv"):
        assert (tmp_path / "w" / name).read_bytes() == (swept[0] / name).read_bytes()


def test_results_do_not_depend_on_who_reads_what_is_printed(swept, tmp_path):
    """`| head -1`, a log on a full disk, a terminal that has gone: everything is written; training that nobody follows is saved."""
    folder, ablate = tmp_path / "w", ("--ablations=EP", "--labels=4")
    shutil.copytree(swept[0], tmp_path / "finished", ignore=shutil.ignore_patterns("ablate_ep*"))  # of other tests
    gone, full, sweep = [1, ""], [1, "/dev/full"], (*QUICK, f"--workdir={folder}")
    stopped, resumed, analysed, helped, logged = many_commands(
        [
            ("sweep", sweep, gone),
            ("sweep", (*sweep, "--resume"), [2, ""]),
            ("ablate_ep", (f"--ckpt={tmp_path}/finished", *ablate), gone, [2, ""]),
            ("ablate_ep", ("--help",), gone),
            ("ablate_ep", (f"--ckpt={tmp_path}/finished", *ablate, f"--out={tmp_path}/out"), full),
        ],
    )
    assert stopped.returncode == 141 and step_folders.saved_steps(folder / "checkpoints"), stopped.stderr
    assert stopped.stderr.startswith("SIGPIPE: stopped; continue with: ") and stopped.stderr.endswith("--resume\n")
    assert resumed.returncode == 0 and "step 20/20" in resumed.stdout
    for name in ("models.csv", "history.csv"):
        assert (folder / name).read_bytes() == (swept[0] / name).read_bytes()
    assert analysed.returncode == 141 and (analysed.stdout, analysed.stderr) == ("", "")
    assert "Traceback" not in helped.stderr and "error" not in helped.stderr
    assert logged.returncode == 1 and logged.stderr == (
        "error: standard output: could not be written (No space left on device); all files of this command were written\n"
    )
    for where in (tmp_path / "finished", tmp_path / "out"):
        assert (where / "analysis/ablate_ep_N4_zero-EP.csv").is_file() and (where / "figures/ablate_ep_N4_zero-EP.png").is_file()


def test_a_run_that_nobody_follows_is_drawn_if_it_is_finished(monkeypatch, tmp_path):
    """The reader goes at the last evaluation."""
    monkeypatch.setattr(output, "reader_is_gone", lambda: folder.exists() and run.finished)
    run, folder = None, tmp_path / "w"
    run = workdir.open_run(folder, tiny_sweep(steps=10))
    cli.train(run, folder)
    assert step_folders.saved_steps(folder / "checkpoints")[-1].name == "10"


def test_streams_that_were_closed_before_the_start_drop_what_they_get():
    """Nor is a file printed into that is opened later."""
    ask = (
        "import os, sys; from lrjax import output; output.guard(); print('lost'); print('lost', file=sys.stderr); "
        "sys.stdout.flush(); assert not sys.stderr.isatty() and os.open(os.devnull, os.O_RDONLY) > 2"
    )
    done = subprocess.run(["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, ask], cwd=ROOT, env=ENVIRONMENT)
    assert done.returncode == 0


def test_two_sweeps_never_share_a_workdir_and_a_kill_leaves_no_lock(tmp_path):
    workdir.open_run(tmp_path / "w", tiny_sweep())
    workdir._locks.clear()  # this process lets go
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = subprocess.Popen([sys.executable, "-c", hold, tmp_path / "w/lock"], **pipes)
    other.stdout.readline()
    for flags in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(InputError, match="another process is writing there; wait until it ends, or give another folder"):
            workdir.open_run(tmp_path / "w", tiny_sweep(), **flags)
    other.kill()
    other.wait()
    workdir.open_run(tmp_path / "w", tiny_sweep(), resume=True)
    with open(tmp_path / "w/lock") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("name", ["analysis", "figures"])
def test_a_folder_of_answers_that_cannot_be_written_is_said_before_any_work(name, tmp_path, monkeypatch):
    """In the workdir or in --out, which themselves can be written."""
    folder = tmp_path / "w"
    (folder / "checkpoints/20").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    assert workdir.output(folder) == folder and workdir.output(folder, str(tmp_path / "out")) == tmp_path / "out"
    (folder / name).mkdir()
    (tmp_path / "out" / name).write_text("a file of the user's")
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != name and may(path, mode))
    with pytest.raises(InputError, match=f"w/{name}: cannot be written; give a folder that can with --out$"):
        workdir.output(folder)
    with pytest.raises(InputError, match=f"^--out=.*out: its {name} cannot be written; give a folder that can with --out$"):
        workdir.output(folder, str(tmp_path / "out"))


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_can_be_analysed(swept):
    """As a user who may read but not write, through a relative path with a space, a symbolic link and an umlaut."""
    with tempfile.TemporaryDirectory(dir=ROOT) as outside:  # a folder of pytest's is closed to other users
        folder = Path(outside)
        shutil.copytree(swept[0], folder / "a run")
        (folder / "Lauf ü").symlink_to("a run")
        (folder / "out").mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.name == "out" else path.stat().st_mode & ~0o222 | (0o555 if path.is_dir() else 0o444))
        nobody = {"before": ("setpriv", "--bounding-set=-dac_override,-dac_read_search")} if os.geteuid() == 0 else {}
        ablate = ("ablate_ep", f"--ckpt={(folder / 'Lauf ü').relative_to(ROOT)}", "--ablations=EP", "--labels=4")
        done = command(*ablate, **nobody)
        assert done.returncode == 2 and "cannot be written; give a folder that can with --out\n" in done.stderr, done.stderr
        done = command(*ablate, f"--out={folder}/out", **nobody)
        assert done.returncode == 0 and (folder / "out/analysis/ablate_ep_N4_zero-EP.csv").is_file(), done.stderr
        done = command("sweep", *QUICK, f"--workdir={folder}/a run", **nobody)
        assert done.returncode == 2 and "cannot be written (Permission denied)" in done.stderr, done.stderr
        folder.chmod(stat.S_IRWXU)
        for path in folder.rglob("*"):
            path.chmod(stat.S_IRWXU)
