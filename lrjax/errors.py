"""The one exception a user can cause."""


class InputError(ValueError):
    """Something the user gave is wrong: the message is one line that names it, its value, what was expected and what to do."""


def suggest(word: str, known) -> str:
    """` (did you mean ...?)` if a known name is close to `word`, else nothing."""
    import difflib

    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(names), n=1)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""
