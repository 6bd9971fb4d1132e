"""What a run calls is compiled ahead, once, and only what it will call."""

import contextlib
import logging
import threading

import jax
import numpy as np
import pytest

from conftest import tiny_model, tiny_sweep, untrained
from lrjax import config, devices
from lrjax.training import compilation, loop, tracing
from lrjax.training.programs import evaluate_program, init_program, split_program, train_chunk
from lrjax.training.run import history_table

PROGRAMS = (init_program, split_program, train_chunk, evaluate_program)


@contextlib.contextmanager
def counted():
    """(name of a program, name of the thread) of everything that is compiled in a block, as jax's log has it."""
    found, logger = [], logging.getLogger("jax._src.dispatch")
    handler = logging.Handler()
    handler.emit = lambda record: found.append((record.getMessage(), threading.current_thread().name))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def compiled(found: list, threads: bool) -> list[str]:
    """The names of the programs of a sweep that were compiled in threads of the pool, or in the loop's."""
    names = [function.__name__ for function in PROGRAMS]
    of = lambda message: next((name for name in names if "Finished XLA compilation" in message and f"({name})" in message), None)
    return sorted(name for message, thread in found if (thread.startswith("ThreadPool")) == threads and (name := of(message)))


@pytest.mark.slow
def test_a_run_finds_its_programs_compiled():
    """Each program of a run is compiled by one thread of the pool, and by no call of the loop; the run is the same."""
    wanted = tiny_sweep(n_labels=(3,), d_model=12, steps=40)
    for function in PROGRAMS:
        function.clear_cache()
    with counted() as found:
        run = loop.advance(loop.start(wanted))
    assert compiled(found, threads=False) == []
    assert compiled(found, threads=True) == ["evaluate_program", "init_program", "split_program", "train_chunk"]
    again = loop.advance(loop.start(wanted))
    for name, column in history_table(run).items():
        np.testing.assert_array_equal(column, history_table(again)[name])


def names_of(run) -> list[str]:
    return [name for _, name, _ in compilation.wanted(run, ())]


def test_what_is_called_first_comes_first_after_what_takes_longest():
    run = loop.start(config.Sweep((tiny_model(), tiny_model(n_heads=1)), steps=20, eval_every=10))
    first, second = (program.static for program in run.programs)
    (longest, name, _), *others = compilation.wanted(run, ())
    assert (longest, name) == (first, tracing.TRAIN)
    assert [static for static, _, _ in others] == [first, second] * 3 + [second]
    assert names_of(run)[1:] == [tracing.INITIAL] * 2 + [tracing.SPLITS] * 2 + [tracing.EVALUATION] * 2 + [tracing.TRAIN]


def test_a_run_that_goes_on_compiles_what_is_left(trained):
    """A run at its last step only evaluates; a finished one compiles nothing."""
    _, run = trained
    assert names_of(run) == []
    begun = loop.start(run.sweep)
    assert names_of(begun) == [tracing.TRAIN, tracing.INITIAL, tracing.SPLITS, tracing.EVALUATION]
    begun.states, begun.at, begun.evaluated = run.states, run.at, [2] * len(run.programs)
    assert names_of(begun) == [tracing.SPLITS, tracing.EVALUATION]


def test_what_compiling_raises_is_raised_where_the_program_is_waited_for(monkeypatch):
    def fails():
        raise MemoryError("no room to compile")

    run = untrained(tiny_model())
    static = run.programs[0].static
    monkeypatch.setattr(compilation, "wanted", lambda run, measures: [(static, tracing.TRAIN, fails)])
    with compilation.side_by_side(run, (), lambda *waiting: None) as programs:
        programs.wait_for(static, tracing.INITIAL)  # which nobody compiles ahead
        with pytest.raises(MemoryError, match="no room to compile"):
            programs.wait_for(static, tracing.TRAIN)


def test_a_long_wait_is_told_and_what_nobody_wants_any_more_is_not_compiled(monkeypatch):
    """One thread, two programs: the second is cancelled when training stops while the first compiles."""
    go, begun, told = threading.Event(), [], []

    def slow():
        begun.append("first")
        go.wait(60)
        return jax.jit(lambda x: x).trace(1.0)

    run = untrained(tiny_model())
    static = run.programs[0].static
    jobs = [(static, tracing.INITIAL, slow), (static, tracing.TRAIN, lambda: begun.append("second"))]
    monkeypatch.setattr(compilation, "wanted", lambda run, measures: jobs)
    monkeypatch.setattr(compilation.devices, "n_compiling", lambda: 1)
    monkeypatch.setattr(compilation, "PATIENCE", 0.01)

    def on_waiting(*waiting):
        told.append(waiting)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), compilation.side_by_side(run, (), on_waiting) as programs:
        try:
            programs.wait_for(static, tracing.INITIAL)
        finally:
            threading.Timer(0.1, go.set).start()
    assert told == [(tracing.INITIAL, 0, 2)] * 3 and begun == ["first"]


@pytest.mark.parametrize(
    ("platform", "batch_size", "sizes"),
    [
        ("tpu", devices.eval_batch_size, {1: 1, 16: 16, 25: 5, 40: 10, 37: 16}),
        ("cpu", devices.eval_batch_size, {1: 1, 40: 1}),
        ("tpu", devices.train_batch_size, {40: 40}),
        ("cpu", devices.train_batch_size, {5: 5, 20: 5, 40: 8, 13: 8}),
    ],
)
def test_models_go_through_a_program_in_batches_of_one_size(monkeypatch, platform, batch_size, sizes):
    """A last batch of another size is compiled once more, so it is there only where no size divides the models (13, 37)."""
    monkeypatch.setattr(devices, "platform_of", lambda mesh: platform)
    assert {models: batch_size(models) for models in sizes} == sizes
