"""The model axis over devices and slabs: the same models, whatever they run on. Real devices are counted at jax's start, so the
eight of these tests live in a process of their own.
"""

import dataclasses
import signal
import socket
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from conftest import ENVIRONMENT, LIMIT, ROOT, SMOKE, TINY, tiny_sweep
from lrjax import config, devices
from lrjax.stats import select
from lrjax.storage import checkpoint, serialization, step_folders, workdir
from lrjax.training import loop, memory
from lrjax.training.programs import make_programs, train_chunk
from lrjax.training.run import history_table, models_table

pytestmark = pytest.mark.slow

EIGHT = """
    import re, sys
    sys.path[:0] = ["tests", "tests/unit"]
    import jax
    jax.config.update("jax_num_cpu_devices", 8)
    import conftest
    import jax.numpy as jnp, numpy as np
    from lrjax import devices
    from lrjax.training import loop
    from lrjax.training.programs import init_program, make_programs, split_program, train_chunk
    from lrjax.training.run import models_table
    from test_compilation import compiled, counted

    program, = make_programs(conftest.tiny_sweep(n_labels=(3, 4, 5, 6), seeds=3), n_devices=8)
    assert len(program.rows) == 12 and len(program.hyper.seed) == 16, "padded to divide"

    def losses(mesh):
        hyper = devices.shard_to_devices(program.hyper, mesh)
        splits, states = split_program(program.static, hyper, mesh), init_program(program.static, hyper, mesh)
        args = program.static, hyper, splits, states, jnp.int32(0), 20, mesh
        text = train_chunk.lower(*args).compile().as_text()
        states, losses = train_chunk(*args)
        assert len(losses.sharding.device_set) == len(states.params.vision.E.sharding.device_set) == mesh.size
        return devices.gather_to_host(losses), text

    one, eight = losses(devices.mesh(1)), losses(devices.mesh(8))
    assert eight[0].shape == (16, 20)
    print("difference", abs(one[0] - eight[0]).max())
    np.testing.assert_array_equal(eight[0][11], eight[0][15])
    collectives = re.findall(r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter", eight[1])
    print("collectives", len(collectives))

    # a whole run, in slabs of 8 on 8 devices, gives the table of all 12 models
    import dataclasses
    wanted = dataclasses.replace(conftest.tiny_sweep(n_labels=(3, 4, 5, 6), seeds=3, steps=10), slab=8)
    with counted() as found:
        run = loop.advance(loop.start(wanted))
    print("compiled by the loop", compiled(found, threads=False))
    assert [len(p.rows) for p in run.programs] == [8, 4] and all(len(p.hyper.seed) == 8 for p in run.programs)
    print("losses", " ".join(map(str, models_table(run)["loss"])))
"""


def test_eight_devices_agree_with_one_and_never_talk():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(EIGHT)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "compiled by the loop []" in done.stdout, "slabs on all devices are called as they were compiled ahead"
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert float(told["difference"]) < 1e-5 and told["collectives"] == "0"
    here = models_table(loop.advance(loop.start(tiny_sweep(n_labels=(3, 4, 5, 6), seeds=3, steps=10))))["loss"]
    np.testing.assert_allclose(np.array(told["losses"].split(), float), here, atol=1e-5)


@pytest.mark.parametrize("slab", [1, 3, 4, 100])
def test_slabs_of_a_program_are_equal_in_shape_and_hold_every_model_once(slab):
    programs = make_programs(config.make_sweep(config.get_config(n_labels=(5, 9), seeds=5)), slab)
    assert len({p.static for p in programs}) == 1, "one padding, so one compilation"
    assert len({len(p.hyper.seed) for p in programs}) == 1 and len(programs[0].hyper.seed) <= slab
    assert np.concatenate([p.rows for p in programs]).tolist() == list(range(10))


def test_a_sweep_in_slabs_is_the_same_sweep(trained):
    _, whole = trained
    train_chunk.clear_cache()
    run = loop.advance(loop.start(dataclasses.replace(whole.sweep, slab=3)))
    assert [len(p.rows) for p in run.programs] == [2, 2] and train_chunk._cache_size() == 1
    assert run.sweep == whole.sweep, "slabs are how a sweep runs, not what it is"
    loss = lambda run: select(history_table(run), slice(4, None))["loss"]
    np.testing.assert_allclose(loss(run), loss(whole), atol=1e-5)
    # a slab is a part of what is stored, and is restored as it was trained
    again = serialization.run_from_parts(*serialization.run_to_parts(run))
    assert again.slab == 3 and [len(p.rows) for p in again.programs] == [2, 2]
    np.testing.assert_array_equal(again.states[1].params.vision.E, run.states[1].params.vision.E)


def test_memory_is_counted_per_model():
    small, large = (memory.bytes_of_models(config.make_static([config.Model(d_model=d)]), 1) for d in (32, 512))
    assert 1e6 < small < large < 1e8
    of = lambda n: memory.bytes_of_models(config.make_static([config.Model()]), n)
    assert of(8) == 8 * of(1)
    assert of(32) - of(24) == of(24) - of(16), "on a CPU eight take their steps at a time: more models add what they hold alone"
    default = config.make_sweep(config.get_config(seeds=1))
    assert memory.models_that_fit(default) > 100
    assert "plan: 5 models, 15,000 model-steps on 1 cpu device, 1 program" in loop.plan(loop.start(default))


def two_processes(folder, srun=False, **changes):
    """A sweep over two hosts that are this one: the command of one host alone, and the processes. They know of each other by flags,
    or by the variables of SLURM's `srun`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [f"--config.{key}={value}" for key, value in {**TINY, **changes, "n_labels": "(4,6)"}.items()]
    run = [sys.executable, "-m", "experiments.sweep", SMOKE, f"--workdir={folder}", *arguments]
    step = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}
    two_each = ENVIRONMENT | {"JAX_NUM_CPU_DEVICES": "2"}
    pipes = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def start(i):
        if srun:
            variables = step | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "JAX_COORDINATOR_PORT": str(port)}
            return subprocess.Popen(run, env=two_each | variables, **pipes)
        flags = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={i}")
        return subprocess.Popen([*run, *flags], env=two_each, **pipes)

    return run, [start(0), start(1)]


def test_two_processes_train_one_sweep_and_one_process_restores_it(tmp_path):
    """For real, through jax.distributed on loopback, as SLURM's srun starts them: the tables are those of one process."""
    run, both = two_processes(tmp_path / "w", srun=True, steps=10, eval_every=10)
    told = [process.communicate(timeout=LIMIT) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert "step 10/10" in told[0][0] and "n_labels" in told[0][0], "process 0 prints"
    assert "step" not in told[1][0] and "n_labels" not in told[1][0], "and it alone"
    restored = workdir.restore(tmp_path / "w")
    alone = loop.advance(loop.start(tiny_sweep(steps=10)))
    assert restored.sweep == alone.sweep
    loss = lambda run: models_table(run)["loss"]
    np.testing.assert_allclose(loss(restored), loss(alone), atol=1e-5)
    norms = [np.linalg.norm(run.states[0].params.vision.E, axis=(1, 2)) for run in (restored, alone)]
    np.testing.assert_allclose(*norms, rtol=1e-5)
    again = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and "is finished" in again.stdout


def test_one_of_two_processes_is_taken_away_and_both_save_and_stop(tmp_path):
    _, both = two_processes(tmp_path / "w", steps=200_000, eval_every=200_000)
    for line in both[0].stdout:
        if line.startswith("step 0/"):
            break
    both[1].send_signal(signal.SIGTERM)
    told = [process.communicate(timeout=LIMIT) for process in both]
    assert [process.returncode for process in both] == [143, 143], told
    assert "SIGTERM: stopped; continue with: " in told[0][0]
    newest = step_folders.saved_steps(tmp_path / "w/checkpoints")[-1]
    assert step_folders.place_of(newest)[0] == 0 and checkpoint.load(newest), "as far as both had come"


def test_compiled_programs_are_forgotten_before_memory_maps_run_out():
    """Far from the limit nothing is; at it everything is, and what is asked again is compiled again."""
    double = jax.jit(lambda x: 2 * x)
    double(1.0)
    devices.clear_caches_if_needed()
    assert double._cache_size() == 1
    devices.clear_caches_if_needed(limit=10)
    assert double._cache_size() == 0
    assert double(1.0) == 2
