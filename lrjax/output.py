"""What is printed may have no reader: `| head -1` takes a line and goes, a disk with the log is full, a terminal is closed.

Results are in files, so that nothing of them depends on what is printed. What cannot be printed is dropped, and why is remembered.
"""

import os
import sys

SIGPIPE = 13  # as which a reader that has gone counts; Windows has no such signal


class Output:
    """A text stream that never fails: what cannot be written is dropped from then on, and `error` says why."""

    def __init__(self, stream):
        self.stream, self.error = stream, None

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        self._try(self.stream.flush)

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def _try(self, do, *args) -> None:
        try:
            do(*args)
        except OSError as error:
            self.error = self.error or error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # what is still buffered goes there
            os.close(nowhere)


def guard() -> None:
    """Let nothing that this process prints stop it. A stream that was closed before it began drops what it gets."""
    for descriptor in range(3):  # if free, the next file to be opened would take it, and be printed into
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        setattr(sys, name, Output(stream))


def reader_is_gone() -> bool:
    """Whether whoever read what is printed, such as `head`, has gone."""
    return isinstance(error(), BrokenPipeError)


def error() -> OSError | None:
    """Why what was printed could not be written, if that is so."""
    sys.stdout.flush()
    return getattr(sys.stdout, "error", None)
