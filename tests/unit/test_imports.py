"""No arrow back: every module imports from below it alone."""

import ast
import graphlib

import pytest

from conftest import ROOT

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("lrjax", "experiments")
    for path in (ROOT / folder).rglob("*.py")
}
LIBRARY = ("lrjax.",)
CONFIG = tuple(
    f"lrjax.{name}"
    for name in "terms kinds registry gates ablations metrics fields declarations validation config reference".split()
)
INTERFACES = ("lrjax.models.objectives", "lrjax.models.positions")  # they import no encoder, and validation asks them
# Who may not import what.
FORBIDDEN = [
    (LIBRARY, ("experiments",)),
    (CONFIG, ("lrjax.models", "lrjax.training", "lrjax.storage", "lrjax.analysis", "lrjax.plotting")),
    (
        ("lrjax.data",),
        (
            *(name for name in CONFIG if name != "lrjax.registry"),
            "lrjax.models",
            "lrjax.training",
            "lrjax.storage",
            "lrjax.analysis",
            "lrjax.plotting",
        ),
    ),
    (("lrjax.models",), ("lrjax.training", "lrjax.storage", "lrjax.analysis", "lrjax.plotting", "lrjax.benchmark")),
    (("lrjax.training",), ("lrjax.storage", "lrjax.analysis", "lrjax.plotting", "lrjax.benchmark")),
    (("lrjax.storage",), ("lrjax.analysis", "lrjax.plotting", "lrjax.benchmark", "lrjax.cli")),
    (("lrjax.analysis",), ("lrjax.benchmark", "lrjax.cli", "lrjax.explorer")),
    (("lrjax.explorer",), ("lrjax.benchmark", "lrjax.cli", "lrjax.plotting")),
    (("lrjax.models", "lrjax.training", "lrjax.plotting"), ("lrjax.cli",)),
    (("lrjax.data", "lrjax.models", "lrjax.training", "lrjax.storage", "lrjax.analysis", "lrjax.plotting"), ("lrjax.pretrained",)),
    (("lrjax.pretrained",), ("lrjax.cli", "lrjax.training", "lrjax.api", "lrjax.benchmark")),
]


def imports(name: str, also_in_functions: bool) -> set[str]:
    """The modules of this repository that a module imports."""
    tree = ast.parse(MODULES[name].read_text())
    found = set()
    for node in ast.walk(tree) if also_in_functions else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            of_package = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            names = {alias.name for alias in node.names if f"{node.module}.{alias.name}" not in MODULES}
            found |= of_package | ({node.module} if names else set())
    return found & set(MODULES)


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix.removesuffix(".") or name.startswith(prefix.removesuffix(".") + ".") for prefix in prefixes)


def arrows(who: tuple[str, ...], what: tuple[str, ...]) -> list[tuple[str, str]]:
    """The imports of `what` in modules of `who`, those inside functions too."""
    importers = [name for name in MODULES if within(name, who)]
    assert importers, f"there are no modules {who}"
    return [(name, to) for name in importers for to in imports(name, also_in_functions=True) if within(to, what)]


@pytest.mark.parametrize(("who", "what"), FORBIDDEN, ids=lambda part: part[0])
def test_no_module_imports_from_above(who, what):
    allowed = [("lrjax.validation", interface) for interface in INTERFACES]
    assert not set(arrows(who, what)) - set(allowed)


@pytest.mark.parametrize("interface", INTERFACES)
def test_an_interface_imports_no_encoder(interface):
    assert not any(within(name, ("lrjax.models",)) for name in imports(interface, also_in_functions=False))


def test_analyses_know_figures_only_where_a_result_is_drawn():
    assert {name for name, _ in arrows(("lrjax.analysis",), ("lrjax.plotting",))} <= {"lrjax.analysis.result"}


def test_imports_have_no_cycle():
    graph = {name: imports(name, also_in_functions=False) - {"lrjax"} for name in MODULES}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_arrows_are_seen_in_every_form_of_import():
    assert ("lrjax.storage.serialization", "lrjax.training.loop") in arrows(("lrjax.storage",), ("lrjax.training",)), (
        "from a.b import c"
    )
    assert ("experiments.common", "lrjax.cli") in arrows(("experiments",), ("lrjax.cli",)), "from a import b"
    assert ("lrjax.notebook", "lrjax") in arrows(("lrjax.notebook",), ("lrjax",)), "import a"


def test_files_and_functions_are_short():
    """At most 350 lines a file, but for tables of claims, and 50 a function."""
    sources = [path for folder in ("lrjax", "experiments", "tests") for path in (ROOT / folder).rglob("*.py")]
    long_files = {path.name: len(path.read_text().splitlines()) for path in sources if "claims" not in path.name}
    assert {name: lines for name, lines in long_files.items() if lines > 350} == {}
    functions = [
        (f"{path.name}: {node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [found for found in functions if found[1] > 50] == []
