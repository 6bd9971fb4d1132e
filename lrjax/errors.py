"""What can go wrong that is no bug, and how it is said: in one line."""

import sys


class InputError(ValueError):
    """Something the user gave is wrong: the message is one line that names it, its value, what was expected and what to do."""


class Unusable(InputError):
    """A checkpoint that cannot be used, though an older one may: it is damaged, or does not fit here. (what, what to do)."""

    def __str__(self) -> str:
        return "; ".join(self.args)


class SaveError(Exception):
    """A save failed, by no fault of the run, which may go on: the message is one line. What was saved before is as it was."""


def warn(message: str) -> None:
    """Say something that a user should know, but that stops nothing."""
    print("warning:", " ".join(message.split()), file=sys.stderr, flush=True)


def suggest(word: str, known) -> str:
    """` (did you mean ...?)` if a known name is close to `word`, else nothing."""
    import difflib

    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(names), n=1)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""
