"""Files and functions are short enough to be read at once: 350 lines and 50 lines, with their docstrings and decorators."""

import ast

import pytest

from conftest import ROOT

CODE = [path for folder in ("lrjax", "experiments") for path in (ROOT / folder).rglob("*.py")]
TESTS = list((ROOT / "tests").rglob("*.py"))


def too_long(text: str, most: int = 50) -> list[str]:
    """The functions of more than `most` lines in a module."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    first = lambda function: min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return [function.name for function in functions if (function.end_lineno or 0) - first(function) >= most]


def test_no_file_is_long_but_tables_of_claims():
    long = {path.name for path in (*CODE, *TESTS) if len(path.read_text().splitlines()) > 350}
    assert {name for name in long if not name.endswith("claims.py")} == set()


@pytest.mark.parametrize("folder", ["lrjax", "experiments"])
def test_no_function_is_long(folder):
    modules = [path for path in CODE if path.is_relative_to(ROOT / folder)]
    assert len(modules) > 50
    assert {path.name: found for path in modules if (found := too_long(path.read_text()))} == {}


def test_a_long_function_is_found():
    body = "    x = 1\n" * 49
    assert too_long(f"def short():\n{body}") == [] and too_long(f"@cached\ndef long():\n{body}") == ["long"]
