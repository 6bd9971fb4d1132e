"""One process, unless several were really started; whoever waits for others says for whom and how long."""

import subprocess
import sys

import jax
import pytest

from conftest import ENVIRONMENT, LIMIT, ROOT
from lrjax import hosts
from lrjax.errors import InputError

pytestmark = pytest.mark.slow

BATCH = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "n[1-2]"}
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_STEP_NODELIST": "n[1-2]"}
MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
MPI_4 = {**MPI, "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}
PREFIXES = ("SLURM_", "OMPI_", "TPU_", "KUBERNETES_", "JAX_COORDINATOR")


@pytest.fixture
def joined(monkeypatch):
    """With no launcher's variables: how jax was asked to join, call by call."""
    for name in [name for name in ENVIRONMENT if name.startswith(PREFIXES)]:
        monkeypatch.delenv(name, raising=False)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: calls.append((*args, *options.values())))
    return calls


def launch(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": ""},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2(x3)"},
        BATCH,
        {**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "4294967290"},  # the shell of salloc, where it is a step
        {**STEP, "SLURM_STEP_NUM_TASKS": ""},
        {**STEP, **MPI_4, "OMPI_COMM_WORLD_SIZE": "1"},  # mpirun -n 1, started by a step
        {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"},
    ],
)
def test_one_process_unless_a_launcher_started_several(joined, monkeypatch, capsys, variables):
    launch(monkeypatch, variables)
    hosts.join()
    assert joined == [] and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "variables, size, rank, method, said",
    [
        (STEP, 4, 2, "slurm", "SLURM_STEP_NUM_TASKS=4, SLURM_PROCID=2"),
        ({**STEP, "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "3"}, 3, 2, "slurm", "SLURM_STEP_NUM_TASKS=3, SLURM_PROCID=2"),
        ({**STEP, **MPI_4}, 2, 1, "ompi", "OMPI_COMM_WORLD_SIZE=2, OMPI_COMM_WORLD_RANK=1"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, None, None, None, "TPU_WORKER_HOSTNAMES=a,b"),
    ],
)
def test_who_waits_says_for_whom_and_how_long(joined, monkeypatch, capsys, variables, size, rank, method, said):
    launch(monkeypatch, variables)
    hosts.join()
    assert joined == [(None, size, rank, method, hosts.SECONDS + 60)]
    assert capsys.readouterr().err == f"{said}: waiting at most 300 s until all {size or 2} processes have started\n"
    hosts.join(num_processes=1)
    assert len(joined) == 1, "alone, as the flag says"


def test_flags_win_over_a_launcher(joined, monkeypatch):
    """It only says then which of a host's GPUs are this process's; jax looks for no other cluster."""
    hosts.join("n1:1234", 2, 0)
    launch(monkeypatch, STEP)
    hosts.join("n1:1234", 2, 0)
    assert joined == [("n1:1234", 2, 0, method, hosts.SECONDS + 60) for method in ("deactivate", "slurm")]


@pytest.mark.parametrize(
    "variables, said",
    [
        ({**STEP, "SLURM_STEP_NUM_TASKS": "2(x3)"}, r"SLURM_STEP_NUM_TASKS=2\(x3\): expected a whole number"),
        ({**STEP, "SLURM_PROCID": "-1"}, "SLURM_PROCID=-1: expected a whole number"),
        ({**STEP, "SLURM_PROCID": "4"}, "SLURM_PROCID=4: expected 0..3, below SLURM_STEP_NUM_TASKS=4"),
        ({**STEP, "SLURM_LOCALID": ""}, "SLURM_STEP_NUM_TASKS=4: .* SLURM_LOCALID is not set; start all processes with srun"),
        ({**STEP, "SLURM_PROCID": ""}, "SLURM_PROCID is not set; start all processes with srun"),
        (MPI, "OMPI_MCA_orte_hnp_uri is not set; give --coordinator, --num_processes and --process_id"),
        ({**MPI, "OMPI_COMM_WORLD_SIZE": "two"}, "OMPI_COMM_WORLD_SIZE=two: expected a whole number"),
    ],
)
def test_bad_values_of_a_launcher_are_named(joined, monkeypatch, variables, said):
    launch(monkeypatch, variables)
    with pytest.raises(InputError, match=said + ".*, or give --num_processes=1 to run this process alone$"):
        hosts.join()
    assert joined == []


@pytest.mark.parametrize("told", ["n1", ":1234", "n1:", "n1:port", "n1:99999"])
def test_a_bad_coordinator_is_named(joined, told):
    with pytest.raises(InputError, match=f"^--coordinator={told}: expected HOST:PORT of process 0"):
        hosts.join(told, 2, 0)


def test_what_jax_says_is_said_in_one_line(joined, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("UNKNOWN: Failed\nand more")

    monkeypatch.setattr(jax.distributed, "initialize", fails)
    with pytest.raises(InputError, match=r"^--num_processes=2, --process_id=0, .* cannot be joined \(UNKNOWN: Failed\); check"):
        hosts.join("n1:1234", 2, 0)


def test_one_process_of_several_ends_in_one_line_when_the_others_do_not_come():
    """For real: jax itself aborts with a stack trace."""
    ask = "from lrjax import hosts; hosts.SECONDS = 1; hosts.join()"
    environment = {**ENVIRONMENT, **STEP, "SLURM_STEP_NODELIST": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == (
        "error: SLURM_STEP_NUM_TASKS=4, SLURM_PROCID=2: after 1 s not all 4 processes have started; start all of them, "
        "or give --num_processes=1 to run this process alone"
    )
