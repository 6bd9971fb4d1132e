"""The one exception a user can cause."""


class InputError(ValueError):
    """Something the user gave is wrong: the message is one line that names it, its value, what was expected and what to do."""


def suggest(word: str, known) -> str:
    """` (did you mean ...?)` if a known name is close to `word`, else nothing."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
