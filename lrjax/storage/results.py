"""Results that cannot go stale: each table lies beside a record of what it was computed from.

    record = results.Record(checkpoint, "gradient", arguments, results.code_of(gradient))
    results.write(folder / "analysis/gradient.csv", table, record)   # the table, then gradient.csv.json, its record
    results.read(folder / "analysis/gradient.csv", record)           # the table; InputError if it was computed from anything else

A record names the checkpoint by its arrays, the analysis, its arguments, and the source code that can influence its numbers, which
is found by following imports: when code changes, so does the record that a reader expects. The code is the one that was there when
the process began: an edit during a long run changes no record of that run. It holds the digest of its table too,
so that a table and another table's record are never taken for one. Figures have records as well; they say which files are ours.
"""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import inspect
import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import lrjax
from lrjax.errors import InputError, warn
from lrjax.stats import Table, csv_text, table_of
from lrjax.storage import files

FOLDERS = ("analysis", "study", "figures")  # of a workdir: results of commands, results of studies, figures
SUFFIX = ".json"  # a record is named like its file, with this
WAITS = (0.1, 0.2)  # seconds until a file and its record that do not belong together are read again

_ENTRY = re.compile(r"\w+(\.\w+)+:\w+")  # of a registry: where an object stands


@dataclasses.dataclass(frozen=True)
class Record:
    """What a result is computed from.

    checkpoint: `checkpoint.identity` of the parameters.
    analysis: its name.
    arguments: what it was asked, as JSON can say it.
    code: `code_of` what computes it.
    """

    checkpoint: str
    analysis: str
    arguments: Mapping[str, object]
    code: str
    version: str = lrjax.__version__

    def same_question(self, other: Mapping) -> bool:
        """Whether another record is of the same analysis with the same arguments, of whatever checkpoint and code."""
        return (other.get("analysis"), other.get("arguments")) == (self.analysis, _plain(self.arguments))


def write(path: Path, table: Table, record: Record) -> None:
    """Write a table and its record, both atomically. Raises OSError if one cannot be written."""
    content = csv_text(table).encode()
    files.write_atomically(path, content)
    sign(path, record, content)


def sign(path: Path, record: Record, content: bytes | None = None) -> None:
    """Write the record of a file that is there; `content`: what was written to it, if others may be writing too."""
    digest = _digest(path.read_bytes() if content is None else content)
    files.write_atomically(_beside(path), json.dumps(dataclasses.asdict(record) | {"digest": digest}, indent=1) + "\n")


def read(path: Path, record: Record) -> Table:
    """The table that was computed from exactly this. Raises InputError, which says what differs, if there is no such table."""
    content, reason = _look(path, record)
    if reason:
        raise InputError(f"{path}: {reason}; make it again with the command that makes it")
    return table_of(content)


def holds(path: Path, record: Record) -> bool:
    """Whether `read` would find the table."""
    return not _look(path, record)[1]


def read_record(path: Path) -> dict | None:
    """The record of a file, if there is one that describes it as it is."""
    try:
        return _pair(path)[1]
    except OSError:
        return None


def place(path: Path, record: Record, any_checkpoint: bool = True) -> Path:
    """Where to write a result: `path`, or a name of its own beside it where something else is: the result of another analysis or of
    other arguments, that of another checkpoint unless `any_checkpoint`, or a file that no record describes as it is, which is the
    user's and of which a line says that it is kept. So nothing is ever overwritten but an earlier answer to the same question.
    """
    asked = [record.analysis, _plain(record.arguments), *([] if any_checkpoint else [record.checkpoint])]
    taken = path
    while not _free(taken, record, any_checkpoint):
        own = _digest(json.dumps([asked, taken.name], sort_keys=True).encode())[:12]
        taken = path.with_name(f"{path.stem}_{own}{path.suffix}")
    return taken


def _free(path: Path, record: Record, any_checkpoint: bool) -> bool:
    """Whether a result may be written to a path. A line says so if a user's own file is there."""
    if not path.exists() and not _beside(path).exists():
        return True
    there = None
    with contextlib.suppress(OSError):  # of a folder, or of a file that may not be read: neither is ours
        there = _pair(path)[1] if path.exists() else _record_of(path)
    if there is None:
        warn(f"{path}: kept, no record says that lrjax made it; the result is written beside it")
        return False
    return _same(there, record, any_checkpoint)


def _same(there: Mapping, record: Record, any_checkpoint: bool) -> bool:
    return record.same_question(there) and (any_checkpoint or there["checkpoint"] == record.checkpoint)


def remove(workdir: Path) -> list[Path]:
    """Remove the results and figures of a workdir, and what killed writers have left there. A file that no record describes as it
    is stays: it is the user's. Returns these files.
    """
    for folder in (workdir, *(workdir / name for name in FOLDERS)):
        for path in files.stale_tmp_files(folder):
            path.unlink(missing_ok=True)
    stay = []
    for folder in (workdir / name for name in FOLDERS if (workdir / name).is_dir()):
        for beside in folder.glob(f"*{SUFFIX}"):
            path = beside.with_name(beside.name.removesuffix(SUFFIX))
            if record := _record_of(path):
                if path.is_file() and record["digest"] == _digest(path.read_bytes()):
                    path.unlink()
                beside.unlink()
        stay += [path for path in sorted(folder.iterdir()) if path.is_file()]
    return stay


def _look(path: Path, record: Record) -> tuple[bytes, str]:
    """The content of a file, and why the file is not what `record` describes ("" if it is)."""
    try:
        content, there = _pair(path)
    except OSError as error:
        return b"", f"cannot be read ({error.strerror})" if path.exists() else "is not there"
    if there is None:
        return content, "has no record of what it was computed from"
    wanted = _plain(dataclasses.asdict(record))
    other = [name for name in wanted if there.get(name) != wanted[name]]
    return content, f"was computed from another {', another '.join(other)}" if other else ""


def _pair(path: Path) -> tuple[bytes, dict | None]:
    """The content of a file, and its record if one describes it as it is. A writer replaces the file, then the record: they are
    read again, in case one is between the two. Raises OSError if the file cannot be read.
    """
    for wait in (0, *WAITS):
        if wait:
            time.sleep(wait)
        content, there = path.read_bytes(), _record_of(path)
        if there and there["digest"] == _digest(content):
            return content, there
    return content, None


def _record_of(path: Path) -> dict | None:
    """The record beside a file, if there is one of ours."""
    try:
        data = json.loads(_beside(path).read_bytes())
    except (OSError, ValueError):
        return None
    fields = {"digest", *(field.name for field in dataclasses.fields(Record))}
    return data if isinstance(data, dict) and fields <= set(data) else None


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _plain(value):
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value))


# ---- the version of an analysis: the source code that can influence it ----


def as_argument(function: Callable) -> dict[str, str]:
    """A function for a record's arguments: the source of a lambda, which holds them, or its name."""
    return {"function": _source_of(function).strip() if function.__name__ == "<lambda>" else function.__qualname__}


@functools.cache
def code_of(function: Callable) -> str:
    """A digest of the source of everything that can influence what a function returns, within the packages lrjax and its own.

    Of a named function that is its module and, transitively, what that imports. A lambda is its own source and, of what its module
    imports, only what it names, so that a table of lambdas can grow.
    """
    module, own = function.__module__, ""
    roots = [module]
    if function.__name__ == "<lambda>":
        own, imported = _source_of(function), _imports(module)
        roots = sorted(
            {imported.get(name, module) for name in _names(function.__code__) if name in {*function.__globals__, *imported}}
        )
    return code_of_modules(tuple(roots), own)


@functools.cache
def code_of_modules(modules: tuple[str, ...], own: str = "") -> str:
    """A digest of the source of modules and of all that they import; `own`: more source."""
    return _digest(json.dumps([own, sorted(sources(modules).items())]).encode())


def sources(modules: Iterable[str]) -> dict[str, str]:
    """Digests of the source of modules and, transitively, of what they import within the packages lrjax and their own, by name."""
    packages = {"lrjax", *(name.partition(".")[0] for name in modules)}
    found, todo = {}, list(modules)
    while todo:
        name = todo.pop()
        if name in found or name.partition(".")[0] not in packages or not (file := _file(name)):
            continue
        found[name] = _digest(file.content)
        todo += [*_imports(name).values(), *_registered(name), name.rpartition(".")[0]]
        package = name if file.is_package else name.rpartition(".")[0]
        if {"importlib", "pkgutil"} & {*_imports(name).values()} and "." in package:  # it may import any of its folder, by name
            todo += [other for other in _package(package.partition(".")[0]) if other.rpartition(".")[0] == package]
    return found


class _File(NamedTuple):
    """A source file, as it was when it was read. is_package: it is an `__init__.py`."""

    content: bytes
    is_package: bool


@functools.cache
def _package(name: str) -> dict[str, _File]:
    """The sources of all modules of a package, by module; none if it is not imported. They are read once for a process."""
    found = {}
    for folder in getattr(sys.modules.get(name), "__path__", ()):
        for path in Path(folder).rglob("*.py"):
            names = path.relative_to(folder).with_suffix("").parts
            if path.is_file() and not any(part.startswith(".") for part in names):  # hidden ones are copies that editors keep
                is_package = names[-1] == "__init__"
                module = ".".join((name, *names[: len(names) - is_package]))
                if is_package or module not in found:
                    found[module] = _File(path.read_bytes(), is_package)
    return found


def _file(module: str) -> _File | None:
    """The source of a module; None if there is none."""
    package = module.partition(".")[0]
    return _package(package).get(module) if package in sys.modules else None


def _source_of(function: Callable) -> str:
    """The source of a function, as it was when the process began if it is in a package."""
    if not (file := _file(function.__module__)):
        return inspect.getsource(function)
    lines = io.StringIO(file.content.decode(), newline=None).readlines()
    return "".join(inspect.getblock(lines[function.__code__.co_firstlineno - 1 :]))


@functools.cache
def _imports(module: str) -> dict[str, str]:
    """What a module imports, wherever it does: the name that it has there -> the module that it comes from."""
    found, file = {}, _file(module)
    tree = ast.parse(file.content if file else b"")
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.asname or name.name.partition(".")[0]: name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            of = lambda name, base=node.module: f"{base}.{name}" if _file(f"{base}.{name}") else base
            found |= {name.asname or name.name: of(name.name) for name in node.names}
    return found


@functools.cache
def _registered(module: str) -> tuple[str, ...]:
    """The modules that a module's registries name, as "module:attribute": `lrjax.registry` imports them when they are asked for."""
    file = _file(module)
    tree = ast.parse(file.content if file else b"")
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return tuple(text.partition(":")[0] for text in texts if _ENTRY.fullmatch(text))


def _names(code: CodeType) -> Iterable[str]:
    """The names that code looks up, in functions within it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


# Now, before anyone edits what this process runs. Any other package is read when it is first asked for.
for _name in ("lrjax", "experiments"):
    if _name in sys.modules:
        _package(_name)
