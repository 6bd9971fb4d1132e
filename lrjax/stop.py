"""Asked to end: SIGTERM (a machine is taken away) and SIGINT (Ctrl-C) become a flag that training looks at after every chunk.

JAX and Orbax do this only under `jax.distributed`, and at an evaluation; machines are taken away without either.
"""

import os
import signal

from lrjax import devices

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """`with Stop() as stop:` stop() says whether this process, or any of several hosts, was asked to end; `number` by which signal.

    The second signal of a kind does what signals do.
    """

    def __init__(self):
        self.number, self._asked = 0, 0

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        self.number = devices.largest(self._asked)  # two variables: a signal may come while the hosts agree
        return self.number > 0

    def _ask(self, number, frame) -> None:
        self._asked = number
        signal.signal(number, self._before[number])
        os.write(2, f"{signal.Signals(number).name}: stopping after this chunk; saving\n".encode())  # print is not reentrant
