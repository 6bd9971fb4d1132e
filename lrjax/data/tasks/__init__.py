"""Tasks by name: `row`, or `grid:height=4,width=6`, a file of this folder and options of its TASK.

A new file of this folder is a new task. A task of your own that stands elsewhere is added to TASKS: its class, or where it stands.
"""

import dataclasses
import functools
import pkgutil
import re
from typing import Any

from lrjax.data.scenes import WORDS
from lrjax.data.tasks.base import Task
from lrjax.errors import InputError, suggest
from lrjax.registry import resolve

SHARED = ("base", "pairs")  # files that are no task
COMMON = tuple(field.name for field in dataclasses.fields(Task))
# name -> the class of the task, or where it stands, as module:attribute
TASKS: dict[str, Any] = {
    module.name: f"{__name__}.{module.name}:TASK" for module in pkgutil.iter_modules(__path__) if module.name not in SHARED
}


def names() -> list[str]:
    """The tasks that there are."""
    return sorted(TASKS)


@functools.cache
def make(text: str, **facts) -> Task:
    """The task that `text` names, with the `facts` that all tasks have. Raises InputError if there is no such task or option."""
    name, _, options = text.partition(":")
    if name not in names():
        expected = f"{suggest(name, names())}; expected one of {', '.join(names())}"
        raise InputError(f"config.task: {text!r}: {name!r} does not exist{expected}")
    kind = resolve(TASKS[name])
    known = {field.name: field.type for field in dataclasses.fields(kind) if field.name not in COMMON}
    given = {}
    for clause in options.split(",") if ":" in text else []:
        key, _, value = clause.partition("=")
        if key not in known:
            has = f"expected some of {', '.join(known)}" if known else f"{name} has no options"
            raise InputError(f"config.task: {text!r}: no option {key!r}{suggest(key, known)}; {has}")
        if not re.fullmatch("[0-9]{1,4}", value):
            raise InputError(f"config.task: {text!r}: {key}={value!r} is not possible; expected a whole number, 0..9999")
        if key in given:
            raise InputError(f"config.task: {text!r}: gives {key} twice; give each option once")
        given[key] = int(value)
    if facts["relations"] not in kind.RELATIONS:
        expected = " or ".join(map(repr, kind.RELATIONS))
        raise InputError(f"config.relations: {facts['relations']!r} is not possible; expected {expected} in task {name!r}")
    task = kind(**facts, **given)
    if unknown := [word for word in task.words if not WORDS.get(word, task.n_first) < task.n_first]:
        there = ", ".join(word for word, token in WORDS.items() if token < task.n_first)
        raise InputError(
            f"config.relations: {task.relations!r}: task {name!r} has no token for {unknown[0]!r}; expected words of {there}"
        )
    if problem := task.check():
        option, value, expected = problem
        raise InputError(f"config.task: {text!r}: {option}={value!r} is not possible; expected {expected}")
    return task
