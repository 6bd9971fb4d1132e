"""Shared fixtures: tiny models, one trained sweep for everything that only reads it, commands, and the compilation cache."""

import dataclasses
import functools
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Compiling is most of a tiny model's time, and none of the laws depends on the compiler's optimisations: here and in the commands
# that tests start they are off, and fusions are emitted the old, quicker way where this jaxlib still can. jax reads the variable
# when it is imported, and lrjax imports jax. With LRJAX_TEST_OPTIMISED=1 they stay on, as users run (`make test-optimised`).
AS_FOUND = dict(os.environ)
OPTIMISE = os.environ.get("LRJAX_TEST_OPTIMISED") == "1"
if not OPTIMISE:
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
from lrjax import xla  # noqa: E402

if not OPTIMISE and xla.knows(emitters := "xla_cpu_use_fusion_emitters"):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{emitters}=false"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

pytest.register_assert_rewrite(
    "encoders_by_hand", "figures_read", "pretrained_by_hand", "processors_by_hand", "studies_by_hand", "tokens_read"
)

# What takes a minute or more: `make test-long`.
long = pytest.mark.skipif(not os.environ.get("LRJAX_TEST_LONG"), reason="takes a minute or more: `make test-long`")

CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_numpy_rank_promotion", "raise")  # arrays of different rank meet where a line says so, or not at all

from lrjax import config, devices  # noqa: E402
from lrjax.models.clip import init_clip, model_splits  # noqa: E402
from lrjax.plotting import style  # noqa: E402
from lrjax.storage import workdir  # noqa: E402
from lrjax.training import loop  # noqa: E402
from lrjax.training.programs import init_program  # noqa: E402
from tokens_read import WORLDS, world_of  # noqa: E402

# A trace makes millions of small objects, few of them garbage: looking for it less often is a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)

TINY = dict(d_model=16, n_heads=2, d_embed=16, batch_size=32)


def tiny_model(**fields) -> config.Model:
    return config.Model(**{**TINY, "n_labels": 6, **fields})


def tiny_sweep(n_labels=(4, 6), seeds=2, **fields) -> config.Sweep:
    return config.make_sweep(config.get_config(n_labels=n_labels, seeds=seeds, **{"steps": 20, "eval_every": 10, **TINY, **fields}))


LONGEST = "faults report docs notebooks diverged training printed_model devices commands".split()
LONGEST += "paper_study task_study encoder_study resume".split()


def pytest_collection_modifyitems(items):
    """The longest files first, as measured: a file stays on one worker, and the other would wait for a long one at the end."""
    ranks = {f"test_{name}": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def inodes(step: Path) -> dict[str, int]:
    """The files of the parts of a checkpoint, by their place in it."""
    return {p.relative_to(step).as_posix(): p.stat().st_ino for p in (step / "state").rglob("*") if p.is_file()}


@pytest.fixture(scope="module", autouse=True)
def room():
    """A process that runs many files would end with more memory maps than Linux allows."""
    devices.clear_caches_if_needed()


@pytest.fixture
def blank_figures(monkeypatch):
    """Pages carry many figures: they are drawn, and what is saved of each is one pixel."""
    blank = io.BytesIO()
    Image.new("RGB", (1, 1)).save(blank, "PNG")
    monkeypatch.setattr(style, "_rendered", lambda figure, format: blank.getvalue())


@pytest.fixture(scope="session")
def tiny():
    """static, hyper, params, splits of one model with every parameter away from 0."""
    model = tiny_model(e_scale=1.0, p_scale=0.7)
    static, hyper = config.make_static([model]), config.make_hyper(model)
    params, splits = jax.jit(lambda hyper: (init_clip(static, hyper), model_splits(static, hyper)))(hyper)
    return static, hyper, shake(params), splits


def shake(params, seed=1, models=0):
    """Add noise to every parameter: biases start at 0, and a law that holds at 0 proves little. Leaves may have an axis of `models`
    first, which get the same noise. Noise is drawn in one size and cut: of many shapes, jax would compile a program each.
    """
    leaves, tree = jax.tree.flatten(params)
    sizes = [np.size(x) // (models or 1) for x in leaves]
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noise = np.asarray(jax.vmap(lambda key: jax.random.normal(key, (max(4096, *sizes),)))(keys))
    moved = lambda x, row, n: jnp.asarray(np.asarray(x) + np.float32(0.3) * row[:n].reshape(np.shape(x)[bool(models) :]))
    return jax.tree.unflatten(tree, [moved(*each) for each in zip(leaves, noise, sizes, strict=True)])


def shake_run(run):
    """A run with every parameter moved, so that every term and head matters."""
    states = [s.replace(params=shake(s.params, models=len(s.params.log_scale))) for s in run.states]
    return dataclasses.replace(run, states=states)


def untrained(*models):
    """A run of models at their first step, every parameter moved."""
    run = loop.start(config.Sweep(models, steps=1, eval_every=1))
    states = [jax.device_get(init_program(p.static, p.hyper)) for p in run.programs]
    return shake_run(dataclasses.replace(run, states=states))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tiny sweep trained into a workdir: (workdir, run)."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    run = workdir.open_run(folder, tiny_sweep())
    loop.advance(run, on_evaluation=partial(workdir.save, folder))
    return folder, run


@pytest.fixture(scope="session")
def shaken(trained):
    """The trained sweep with every parameter moved, so that every term matters."""
    return shake_run(trained[1])


SMOKE = "--config=experiments/configs/smoke.py"
# The models of `trained`: what one test compiles, the commands of others find in the cache.
SMALL = (SMOKE, "--config.n_labels=(4,6)", *(f"--config.{name}={value}" for name, value in TINY.items()))
QUICK = (*SMALL, "--config.steps=20")
# Settings of jax that change numbers, each at a value that is not lrjax's, and those that make jax strict: commands of tests
# run among them.
HOSTILE = {
    "jax_enable_x64": True,
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_random_seed_offset": 7,
    "jax_default_matmul_precision": "bfloat16",
    "jax_softmax_custom_jvp": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_transfer_guard": "disallow",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
}
HOSTILE_VARIABLES = {name.upper(): str(value) for name, value in HOSTILE.items()}
# One device, as in the tests' own process, so that both have the same programs: a command makes every core one (`OPTIMISED`).
ENVIRONMENT = {**os.environ, **HOSTILE_VARIABLES, "JAX_COMPILATION_CACHE_DIR": CACHE, "JAX_NUM_CPU_DEVICES": "1"}
OPTIMISED = {**AS_FOUND, "JAX_COMPILATION_CACHE_DIR": CACHE}
LIMIT = 3600  # seconds a process may take: it ends what hangs; on a busy machine a minute of work takes many


def command(module, *arguments, before=(), env=ENVIRONMENT):
    """Run `python -m experiments.<module> ARGUMENTS`, after the words `before`, as a user would."""
    run = [*before, sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, env=env)


FORKS = """
import json, os, runpy, sys, traceback
import jax, experiments.studies.build, experiments.studies.search  # and nearly all else, so that a fork need not import it

def closed():
    reader, writer = os.pipe()
    os.close(reader)
    return writer

def run(out, err, module, arguments, elsewhere, settings):
    os.environ.update(settings)
    for name in settings.keys() & {"JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_NUM_CPU_DEVICES"}:  # read when jax was imported
        jax.config.update(name.lower(), int(settings[name]) if "NUM" in name else settings[name])
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), stream)
    for stream, path in elsewhere:
        os.dup2(os.open(path, os.O_WRONLY) if path else closed(), stream)
    sys.argv[1:], code = arguments, 0
    try:
        runpy.run_module(f"experiments.{module}", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        code = traceback.print_exc() or 1
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)  # at once: to take an interpreter of so many modules down is most of such a command's time

for line in sys.stdin:  # no backend of jax is up here, so a fork is a process like any other
    if not (child := os.fork()):
        run(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@functools.cache
def forks(variables):
    """A process that has imported what commands import, and forks for each: it ends with this one, which holds its input."""
    run = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS]
    return subprocess.Popen(run, cwd=ROOT, env=dict(variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def many_commands(commands, settings=(), env=ENVIRONMENT):
    """`command` of many (module, arguments, ...), one after another, without a start of Python for each. After the arguments may
    come pairs: the number of a stream, and the file it is to be written to; "" is a pipe whose reader has gone. `settings`:
    variables of the environment of each, if they have any.
    """
    process, ended = forks(tuple(env.items())), []
    for (module, arguments, *elsewhere), own in zip(commands, settings or [{}] * len(commands), strict=True):
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            sent = str(out), str(err), module, [str(argument) for argument in arguments], elsewhere, own
            print(json.dumps(sent), file=process.stdin, flush=True)
            code = process.stdout.readline()
            assert code, "the process that forks has ended"
            ended.append(subprocess.CompletedProcess((module, arguments), int(code), out.read_text(), err.read_text()))
    return ended


def one_command(module, *arguments):
    """`command` without a start of Python."""
    return many_commands([(module, arguments)])[0]


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """A sweep trained by its command, QUICK: (workdir, what it printed)."""
    folder = tmp_path_factory.mktemp("cli") / "a run"
    done = command("sweep", *QUICK, f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(params=WORLDS)
def world(request):
    return world_of(request.param)


@pytest.fixture
def with_distractors():
    return world_of("row, distractors")


def train_in(folder, wanted, **flags):
    run = workdir.open_run(folder, wanted, **flags)
    return loop.advance(run, on_evaluation=partial(workdir.save, folder))
