"""The page docs/reference/commands.md, made from the flags of the commands: `python -m experiments.reference` writes it.

A flag belongs to the process, so each command is imported with those of the others taken away.
"""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from absl import flags

import experiments
from experiments import main as console
from lrjax import cli
from lrjax.storage.files import write_atomically

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/commands.md"
TRAIN = ("sweep", "search", "one_head", "regime")
OTHER = ("benchmark", "compile_for", "accelerator_check", "torture")
GROUPS = {
    "Train": TRAIN,
    "Ask a trained sweep": ("ablate_ep", *console.ANALYSES, "explorer"),
    "Studies": console.REPORTS,
    "Models that others trained": ("pretrained",),
    "Measure lrjax": OTHER,
}
HEAD = """\
<!-- Written by `python -m experiments.reference` from the flags of the commands. Do not edit. -->

# Commands

Every command is `python -m experiments.NAME`, with the Python of `.venv` or one that has lrjax. Where lrjax is installed there are
short forms, which work in any folder: `lrjax sweep`, `lrjax search`, `lrjax ablate`, `lrjax explorer`, `lrjax pretrained`,
`lrjax benchmark`, `lrjax analyze NAME` and `lrjax report NAME`. Bad input ends in one line and exit code 2. `--help` prints the
flags. A flag of yes or no is turned off as `--noNAME`. The targets of `make` are listed by `make` alone.
"""


def page() -> str:
    """The whole page, in Markdown."""
    imported = {name: flags_of(name) for names in GROUPS.values() for name in names}
    of_all = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(cli)}
    parts = [HEAD, "## Flags of every command\n", table(of_all.values())]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        for name in names:
            text, own = imported[name]
            parts += [f"### {name}\n", described(text), table(own)]
    return "\n".join(parts)


def flags_of(name: str) -> tuple[str, list[flags.Flag]]:
    """The docstring of a command's module, and its own flags, which are taken away again."""
    before = set(flags.FLAGS)
    module = importlib.import_module(f"experiments.{name}")
    new = sorted(set(flags.FLAGS) - before)
    found = [flags.FLAGS[flag] for flag in new]
    for flag in new:
        delattr(flags.FLAGS, flag)
    for group in GROUPS.values():  # commands that import one another define the other's flags once more
        for other in group:
            sys.modules.pop(f"experiments.{other}", None)
            experiments.__dict__.pop(other, None)
    return module.__doc__ or "", found


def described(docstring: str) -> str:
    """A docstring as Markdown: lines of usage as code, the rest as it is."""
    paragraphs = []
    for paragraph in docstring.strip().split("\n\n"):
        paragraphs.append(f"```text\n{paragraph}\n```" if paragraph.startswith("python -m") else paragraph)
    return "\n\n".join(paragraphs) + "\n"


def table(own: Iterable[flags.Flag]) -> str:
    """A row a flag: its name, default and help."""
    rows = ["| flag | default | meaning |", "|---|---|---|"]
    for flag in own:
        value = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
        default = "" if value is None else f"`{value}`"
        meaning = " ".join((flag.help or "").replace(f"{ROOT}/", "").split()).replace("|", "\\|").replace("<", "&lt;")
        rows.append(f"| `--{flag.name}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n" if len(rows) > 2 else ""


if __name__ == "__main__":
    write_atomically(PAGE, page())
    print(PAGE)
