"""What can go wrong that is no bug, and how it is said: in one line."""

import contextlib
import re
import sys
from collections.abc import Iterator


class InputError(ValueError):
    """Something the user gave is wrong: the message is one line that names it, its value, what was expected and what to do."""


class Unusable(InputError):
    """A checkpoint that cannot be used, though an older one may: it is damaged, or does not fit here. (what, what to do)."""

    def __str__(self) -> str:
        return "; ".join(self.args)


class SaveError(Exception):
    """A save failed, by no fault of the run, which may go on: the message is one line. What was saved before is as it was."""


def first_line(cause) -> str:
    """What an error says, shortened: its first line, or its type if it says nothing."""
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0][:200]


def warn(message: str) -> None:
    """Say something that a user should know, but that stops nothing."""
    print("warning:", " ".join(message.split()), file=sys.stderr, flush=True)


def suggest(word: str, known) -> str:
    """` (did you mean ...?)` if a known name is close to `word`, else nothing."""
    import difflib

    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(names), n=1)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""


# How arguments are called on the command line, and in Python.
_IN_PYTHON = {
    r"a workdir of experiments\.sweep": "the folder of lrjax.train",
    r"replace it with --overwrite of experiments\.sweep": "replace the sweep with overwrite=True of lrjax.train",
    r"ask experiments\.reader": "ask run.analyze('decoder')",
    r"ask experiments\.(\w+)": r"ask run.analyze('\1')",
    r"--ckpt=": "path=",
    r"--ckpt:": "run:",
    r"--workdir=": "folder=",
    r"--labels=": "n_labels=",
    r"--where=(\w+)=": r"\1=",
    r"--config\b": "config",
    r"--(ablations)": "terms",
    r"--(resume|overwrite|frozen)(?![=\w])": r"\1=True",
    r"--(\w+)": r"\1",
}


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Have an InputError from inside speak of arguments, not of flags of the command line."""
    try:
        yield
    except InputError as error:
        for flag, argument in _IN_PYTHON.items():
            # a flag stands at the beginning or after a space: what a user gave may hold what looks like one
            error.args = tuple(re.sub(rf"(?<!\S){flag}", argument, text) for text in error.args)
        raise


@contextlib.contextmanager
def on_command_line(**flags: str) -> Iterator[None]:
    """Have an InputError from inside that begins with an argument of Python speak of a flag of the command line.

    Args:
        **flags: The flag of each argument: with folder="weights", `folder='x': no such folder` is `--weights=x: no such folder`.
    """
    try:
        yield
    except InputError as error:
        for argument, flag in flags.items():
            message = re.sub(rf"^{argument}=(?:'([^']*)'|([^:]*)):", rf"--{flag}=\1\2:", str(error))
            if message != str(error):
                raise InputError(message) from error
        raise
