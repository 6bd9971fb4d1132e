"""Registries: dicts from the names that configs use to what they name, or to the text `module:attribute` that says where it stands.

A text costs no import until its name is asked for. A notebook may put the thing itself there:
`kinds.POSITIONS["mine"] = Mine()`.
"""

import importlib
from typing import Any


def resolve(entry: Any) -> Any:
    """What an entry of a registry stands for: the object that `module:attribute` names, or the entry itself if it is no text."""
    if not isinstance(entry, str):
        return entry
    module, _, attribute = entry.partition(":")
    return getattr(importlib.import_module(module), attribute)
