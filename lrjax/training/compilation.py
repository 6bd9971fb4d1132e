"""The programs of a run, compiled side by side in threads.

jax keeps a program that was traced, lowered and compiled where a call of the same function looks for it. So the loop calls its
functions as if nothing had been compiled ahead, and finds the programs there (tests/unit/test_compilation.py counts).
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import jax

from lrjax import devices, surroundings
from lrjax.config import Static
from lrjax.training.programs import Measure
from lrjax.training.run import Run
from lrjax.training.tracing import EVALUATION, INITIAL, SPLITS, TRAIN, tracers

PATIENCE = 5.0  # seconds that the loop waits for a program before it says so

Waiting = Callable[[str, int, int], None]  # (name of the program, programs that are ready, all programs)


class Compilation:
    """What is compiled ahead for a run: the programs of each static shape that training from where the run stands will call."""

    def __init__(self, pool: ThreadPoolExecutor, run: Run, measures: tuple[Measure, ...], on_waiting: Waiting):
        self.on_waiting = on_waiting
        self.futures: dict[tuple[Static, str], Future[None]] = {}
        for static, name, trace in wanted(run, measures):
            self.futures[static, name] = pool.submit(_compile, trace)

    def wait_for(self, static: Static, *names: str) -> None:
        """Return when programs of one shape are compiled. Raises what compiling raised."""
        for name in names:
            if future := self.futures.get((static, name)):
                while wait([future], PATIENCE).not_done:
                    self.on_waiting(name, sum(future.done() for future in self.futures.values()), len(self.futures))
                future.result()


@contextlib.contextmanager
def side_by_side(run: Run, measures: tuple[Measure, ...], on_waiting: Waiting) -> Iterator[Compilation]:
    """Compile in threads while the block trains. A program that no thread has begun when the block ends is not compiled.

    Several processes compile one program at a time, in one order: on GPUs they share the work of choosing kernels, and each waits
    for the others' part of the same program.
    """
    pool = ThreadPoolExecutor(devices.n_compiling() if jax.process_count() == 1 else 1)
    try:
        yield Compilation(pool, run, measures, on_waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def wanted(run: Run, measures: tuple[Measure, ...]) -> list[tuple[Static, str, Callable[[], jax.stages.Traced]]]:
    """The programs that are yet to be called: static shape, name and what traces each.

    The first training chunk comes first: it takes longest, and no step is made before all programs of its shape are compiled. Of
    the others those that are called first come first.
    """
    first, mesh = {}, devices.mesh()
    for i, program in enumerate(run.programs):
        if run.evaluated[i] < len(program.evaluated_at):
            first.setdefault(program.static, (program, set()))[1].update(_to_call(run, i))
    found = []
    with surroundings.pinned():
        traces = {static: tracers(program, mesh, measures) for static, (program, _) in first.items()}
    for name in (INITIAL, SPLITS, EVALUATION, TRAIN):
        for static, (_, names) in first.items():
            if name in names:
                found.append((static, name, traces[static][name]))
    chunks = [i for i, (_, name, _) in enumerate(found) if name == TRAIN]
    if chunks:
        found.insert(0, found.pop(chunks[0]))
    return found


def _to_call(run: Run, i: int) -> set[str]:
    """Names of the programs that training of program i from where it stands will call."""
    names = {SPLITS, EVALUATION} | ({INITIAL} if run.states[i] is None else set())
    return names | ({TRAIN} if run.at[i] < run.programs[i].evaluated_at[-1] else set())


def _compile(trace: Callable[[], jax.stages.Traced]) -> None:
    """Compile a program, unless this process has few memory maps left: the loop forgets programs then, and compiles by itself."""
    if devices.maps_are_short():
        return
    with surroundings.pinned():
        trace().lower().compile()
