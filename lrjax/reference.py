"""The page docs/reference/config.md, made from the declarations of fields: `python -m lrjax.reference` writes it."""

import inspect
from collections.abc import Mapping
from pathlib import Path

from lrjax.config import AXES, FIELDS, N_LABELS, STATIC, TABLE_FIELDS
from lrjax.declarations import RUN_FIELDS
from lrjax.fields import PAIR, Field
from lrjax.validation import RULES

PAGE = Path(__file__).parents[1] / "docs/reference/config.md"
TYPES = {int: "whole number", float: "number", PAIR: "two numbers", bool: "True or False", str: "text", tuple: "tuple of pairs"}
HEAD = """\
<!-- Written by `python -m lrjax.reference` from the declarations in lrjax/declarations.py and lrjax/config.py. Do not edit. -->

# Keys of a config

A config is a flat `ConfigDict`: what the function `get_config()` of a config file returns, or
`lrjax.config.get_config(lr=(1e-3, 1e-4))` in Python. On the command line each key is a flag:
`--config.d_model=64`, `--config.lr="(1e-3,1e-4)"`.
"""


def page() -> str:
    """The whole page, in Markdown."""
    traced = {name: FIELDS[name] for name in AXES}
    static = {name: FIELDS[name] for name in STATIC}
    sections = [
        HEAD,
        section(
            "Which models are trained",
            "The table of models is the product of the axes below and the seeds.",
            TABLE_FIELDS,
        ),
        section(
            "Axes",
            "Each is a tuple of values, or one value. Models that differ in these fields alone train as one program: the values "
            f"are traced. The default is that of a `Model`; a config that does not name `n_labels` has {N_LABELS}.",
            traced,
        ),
        section(
            "Static fields",
            "Each is one value; in a config file it may be a tuple, and is an axis then. Models that differ in one of these fields "
            "are compiled as different programs.",
            static,
        ),
        section("Length of training", "How long all models train, and how they are run.", RUN_FIELDS),
        rules(),
    ]
    return "\n".join(sections)


def section(title: str, text: str, fields: Mapping[str, Field]) -> str:
    """A section of the page: a heading, a paragraph and a table with a row for each field."""
    rows = ["| key | type | default | possible values | meaning |", "|---|---|---|---|---|"]
    for of_field in fields.values():
        cells = (f"`{of_field.name}`", TYPES[of_field.type], f"`{of_field.default!r}`", possible(of_field), of_field.meaning)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([f"## {title}", "", text, "", *rows, ""])


def possible(of_field: Field) -> str:
    """The possible values of a field, where its type does not say them."""
    if of_field.choices:
        return ", ".join(f"`{choice!r}`" for choice in of_field.choices)
    return of_field.expected if of_field.type in (int, float, PAIR) else ""


def rules() -> str:
    """The section of the rules between fields: the docstring of each."""
    lines = [f"- {inspect.getdoc(rule)}" for rule in RULES]
    return "\n".join(["## Rules between fields", "", *lines, ""])


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
    print(PAGE)
