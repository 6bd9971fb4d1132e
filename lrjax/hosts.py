"""Several processes, one per host or per GPU, that share the model axis: whether there are several, and how they meet.

A process is one of several if its flags say so, or if a launcher has really started several: `srun` (a job step, not a batch script
or the shell of `salloc`, which have most of SLURM's variables too), `mpirun` of Open MPI, or the TPU runtime of a pod.
"""

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable

import jax

from lrjax import surroundings
from lrjax.errors import InputError

SECONDS = 300  # that the processes wait for each other
ALONE = "give --num_processes=1 to run this process alone"


@dataclasses.dataclass(frozen=True)
class Launcher:
    """What started several processes, as jax calls it, and the variables in which it says so."""

    method: str | None
    size: str
    rank: str
    needed: tuple[str, ...]  # without which jax does not find the first process
    hint: str


SLURM = Launcher(
    "slurm",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_PROCID",
    ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_LOCALID"),
    "start all processes with srun",
)
OPEN_MPI = Launcher(
    "ompi",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK",
    ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_LOCAL_RANK"),  # Open MPI 5 has no such address
    "give --coordinator, --num_processes and --process_id",
)


def join(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Make this process one of several: as told, or where a launcher has started several. Before jax starts.

    `num_processes=1` alone: whatever a launcher says, this process is the only one. Process 0 alone prints and writes; the others
    fall silent. If the others do not come within SECONDS, the process ends with one line. Raises InputError if the arguments or the
    launcher's variables do not fit, or if jax cannot start.
    """
    alone = coordinator is None and process_id is None and num_processes == 1
    if not alone:
        _join(coordinator, num_processes, process_id)
    surroundings.start()  # before the first question, which would start jax
    if jax.process_count() > 1 and jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if coordinator or num_processes is not None or process_id is not None:
        _check(coordinator, num_processes, process_id)
        who = f"--num_processes={num_processes}, --process_id={process_id}, --coordinator={coordinator}"
        launched = next((launcher for launcher in (OPEN_MPI, SLURM) if all(map(os.environ.get, launcher.needed))), None)
        method = launched.method if launched else "deactivate"  # which of a host's GPUs are this process's
        _meet(who, num_processes or 1, lambda: _initialize(coordinator, num_processes, process_id, method))
    elif "OMPI_COMM_WORLD_SIZE" in os.environ:  # first: mpirun may itself have been started by srun
        _join_launched(OPEN_MPI)
    elif (_whole_number(SLURM.size) or 1) > 1:
        _join_launched(SLURM)
    elif "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
        names = os.environ["TPU_WORKER_HOSTNAMES"]
        _meet(f"TPU_WORKER_HOSTNAMES={names}", names.count(",") + 1, lambda: _initialize(None, None, None, None))


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if not coordinator or num_processes is None or process_id is None:
        raise InputError("--coordinator, --num_processes and --process_id go together; give all three, or none on a cluster")
    if not 0 <= process_id < num_processes:
        raise InputError(f"--process_id={process_id}: expected 0..{num_processes - 1}, below --num_processes={num_processes}")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"--coordinator={coordinator}: expected HOST:PORT of process 0, such as node1:12345")


def _join_launched(launcher: Launcher) -> None:
    """Join the processes that a launcher started, if they are several."""
    size = _whole_number(launcher.size) or 1
    if size == 1:
        return
    rank = _whole_number(launcher.rank)
    said = f"{launcher.size}={size}"
    if missing := [name for name in (launcher.rank, *launcher.needed) if not os.environ.get(name)]:
        raise InputError(
            f"{said}: says that {size} processes were started, but {missing[0]} is not set; {launcher.hint}, or {ALONE}"
        )
    if rank is None or rank >= size:
        raise InputError(f"{launcher.rank}={rank}: expected 0..{size - 1}, below {said}; {launcher.hint}, or {ALONE}")
    _meet(f"{said}, {launcher.rank}={rank}", size, lambda: _initialize(None, size, rank, launcher.method))


def _whole_number(name: str) -> int | None:
    """The number that a variable holds; None if the variable is not set or empty."""
    value = os.environ.get(name, "").strip()
    if value and not value.isdecimal():
        raise InputError(f"{name}={value}: expected a whole number, as launchers set it; unset it, or {ALONE}")
    return int(value) if value else None


def _initialize(coordinator: str | None, num_processes: int | None, process_id: int | None, method: str | None) -> None:
    jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        cluster_detection_method=method,
        initialization_timeout=SECONDS + 60,  # after ours: when jax's own is over it aborts the process with a stack trace
    )


def _meet(who: str, size: int, initialize: Callable[[], None]) -> None:
    """Say who is waited for, and wait; end with one line if it takes longer than SECONDS. Ctrl-C ends the wait at once."""
    print(f"{who}: waiting at most {SECONDS} s until all {size} processes have started", file=sys.stderr, flush=True)
    timer = threading.Timer(
        SECONDS, _give_up, (who, size)
    )  # jax waits outside of Python, where no signal and no exception reaches it
    timer.daemon = True
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    timer.start()
    try:
        initialize()
    except Exception as error:  # of jax, of its runtime, of what finds the first process
        first = (str(error).strip().splitlines() or [repr(error)])[0]
        raise InputError(f"{who}: the processes cannot be joined ({first}); check these values, or {ALONE}") from error
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, interrupt)


def _give_up(who: str, size: int) -> None:
    """Called in another thread while jax waits, so that nothing but the end of the process is possible."""
    print(f"error: {who}: after {SECONDS} s not all {size} processes have started; start all of them, or {ALONE}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(2)
