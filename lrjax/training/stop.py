"""Asked to end: signals become a flag that training looks at after every chunk.

SIGTERM   SLURM, LSF, PBS and Kubernetes at the end of the time, or when another job needs the machine
SIGINT    Ctrl-C; the first signal of LSF's `bkill`
SIGHUP    the terminal has gone, as when ssh is lost
SIGUSR1   SGE before it suspends, and at a soft time limit; the usual choice for SLURM's `--signal`
SIGUSR2   LSF at the end of the time; SGE before it kills
SIGXCPU   the limit of CPU time; the system repeats it every second

SIGQUIT stays what it is, a way to quit at once; SIGPWR is sent to a system's first process alone. A reader of what is
printed that has gone (`| head -1`) counts as SIGPIPE: nobody waits for more.

JAX and Orbax do this only for SIGTERM under `jax.distributed`, and at an evaluation; machines are taken away without either.
"""

import contextlib
import os
import signal

from lrjax import devices, output

NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))  # those that this platform has
BY_PEOPLE = (signal.SIGTERM, signal.SIGINT)  # whoever sends a second one does not want to wait; the others are repeated by machines


class Stop:
    """`with Stop() as stop:` stop() says whether this process, or any of several hosts, was asked to end; `number` by which signal.

    A second SIGTERM or SIGINT does what signals do. A signal that is ignored, as SIGHUP is under `nohup`, stays ignored.
    """

    def __init__(self):
        self.number, self._asked = 0, 0

    def __enter__(self) -> "Stop":
        found = {number: signal.getsignal(number) for number in SIGNALS}
        self._before = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
        for number in self._before:
            signal.signal(number, self._ask)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        asked = self._asked or (output.SIGPIPE if output.reader_is_gone() else 0)
        self.number = devices.max_over_hosts(asked)  # two variables: a signal may come while the hosts agree
        return self.number > 0

    def _ask(self, number, frame) -> None:
        first, self._asked = not self._asked, number
        if number in BY_PEOPLE:
            signal.signal(number, self._before[number])
        if first or number in BY_PEOPLE:
            with contextlib.suppress(OSError):  # the terminal may have gone
                os.write(
                    2, f"{signal.Signals(number).name}: stopping after this chunk; saving\n".encode()
                )  # print is not reentrant
