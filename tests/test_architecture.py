"""What the design promises of the source: who imports whom, how large things are, what is documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minisched"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))

# Who imports whom when the package runs, from the bottom up. Imports inside functions count.
IMPORTS: dict[str, set[str]] = {
    "errors": set(),
    "tree": {"errors"},
    "kernel": {"errors", "tree"},
    "waiting": {"errors", "kernel"},
    "_lent": set(),
    "clocks": set(),
    "timers": {"kernel", "waiting", "_lent", "clocks"},
    "scopes": {"errors", "kernel", "timers", "waiting"},
    "family": {"errors", "kernel", "scopes", "waiting"},
    "tasks": {"errors", "kernel", "family", "waiting"},
    "locks": {"errors", "kernel", "family", "tasks", "waiting"},
    "sync": {"errors", "kernel", "locks", "waiting"},
    "queues": {"errors", "kernel", "tasks", "waiting"},
    "taskgroup": {"errors", "kernel", "family", "scopes", "tasks", "waiting"},
    "groups": {"errors", "kernel", "family", "taskgroup", "tasks"},
    "supervision": {"errors", "kernel", "family", "groups", "tasks", "timers"},
    "_selectors2": {"_lent"},
    "entries": {"_selectors2"},
    "poller": {"errors", "kernel", "entries", "_selectors2"},
    "foreign": {"errors", "kernel", "entries", "poller"},
    "attempts": {"errors", "kernel", "entries", "poller", "foreign"},
    "files": {"errors", "kernel", "poller", "foreign", "attempts"},
    "network": {"errors", "kernel", "entries", "poller"},
    "sockets": {"errors", "kernel", "poller", "foreign", "attempts", "network"},
    "wakeup": {"errors", "kernel", "poller"},
    "server": {"kernel", "attempts", "network", "poller", "scopes", "sync", "taskgroup", "tasks", "timers"},
    "serve": {"kernel", "groups", "network", "scopes", "server", "sockets", "tasks", "wakeup"},
    "threads": {"errors", "kernel", "family", "wakeup"},
    "signals": {"errors", "kernel", "family", "wakeup"},
    "report": {"kernel", "tasks"},
    "watch": {"errors", "kernel", "report"},
    "columns": {"kernel", "report", "watch"},
    "debug": {"kernel", "watch"},
    "loop": {"errors", "kernel", "family", "timers", "waiting", "poller", "wakeup", "report", "watch", "debug"},
    "workers": {"errors", "files", "loop", "network", "serve", "server", "tasks"},
    "__init__": {
        *(
            "errors",
            "kernel",
            "tasks",
            "timers",
            "poller",
            "attempts",
            "files",
            "network",
            "sockets",
            "serve",
            "watch",
            "loop",
        ),
        *("waiting", "scopes", "sync", "queues", "taskgroup", "groups", "supervision", "threads", "signals", "workers"),
    },
    "battery": {"errors", "kernel", "tasks", "clocks", "timers", "watch", "loop"},
    "injection": {"errors", "kernel", "family", "clocks", "timers", "watch", "loop"},
    "testing": {"clocks", "watch", "loop", "battery", "injection"},
    "starter": set(),
    "__main__": {"columns", "loop", "serve", "starter", "__init__"},
}

# What only type checkers import, where it is not in the table above.
IMPORTS_FOR_TYPES: dict[str, set[str]] = {
    "errors": {"kernel"},
    "tree": {"kernel"},
    "entries": {"kernel", "poller"},
    "loop": {"_selectors2", "clocks"},
    "__main__": {"watch"},
    "supervision": {"taskgroup"},
    "testing": {"_selectors2"},
}

SLOW_TO_IMPORT = {"argparse", "ast", "asyncio", "dataclasses", "inspect", "logging", "threading", "typing"}
MAY_BE_SLOW = {"__main__", "battery", "injection", "testing"}  # what `import minisched` does not import
TOP_LEVEL = {
    *("minisched", "demos", "tests", "pyproject.toml", "ARCHITECTURE.md", "README.md", "LICENSE", "CHANGES.md"),
    *("CONTRIBUTING.md", ".ci", ".gitignore", ".pre-commit-config.yaml"),
}
# Private names of the standard library: (module, name).
BORROWED = {("network", "_accept"), ("loop", "_local"), ("workers", "_exit")}


@cache
def tree(module: str) -> ast.Module:
    """Return the parsed source of a module of the package, each node with its `parent`."""
    parsed = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(parsed):
        for child in ast.iter_child_nodes(node):
            child.parent = node
    return parsed


def parents(node: ast.AST):
    """Return what a node stands in, the innermost first."""
    while (node := getattr(node, "parent", None)) is not None:
        yield node


def for_types_only(node: ast.AST) -> bool:
    """Return whether a node stands under `if TYPE_CHECKING:`."""
    child = node
    for parent in parents(node):
        if isinstance(parent, ast.If) and isinstance(parent.test, ast.Name) and parent.test.id == "TYPE_CHECKING":
            return child in parent.body
        child = parent
    return False


def in_function(node: ast.AST) -> bool:
    return any(isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef)) for parent in parents(node))


def imported(module: str):
    """Return (node, name of the module of the package, None) or (node, None, name of another module)."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, None, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node, None, (node.module or "").partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module.partition(".")[0], None
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node, alias.name if alias.name in MODULES else "__init__", None


def own_imports(module: str, *, types: bool) -> set[str]:
    return {own for node, own, _ in imported(module) if own and for_types_only(node) == types}


def others_imports(module: str, *, types: bool | None = None) -> set[str]:
    return {name for node, _, name in imported(module) if name and types in (None, for_types_only(node))}


def functions(module: str):
    """Return (node, dotted name) of every function."""
    for node in ast.walk(tree(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            outer = [parent.name for parent in parents(node) if isinstance(parent, (ast.ClassDef, ast.FunctionDef))]
            yield node, ".".join([*reversed(outer), node.name])


def tracked() -> list[str]:
    """Return the files that git knows."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in names.split("\0") if name]


# Imports.


def test_the_import_table_is_what_is_imported():
    assert {module: own_imports(module, types=False) for module in MODULES} == IMPORTS


def test_the_table_of_imports_for_types_is_what_is_imported():
    found = {module: own_imports(module, types=True) - IMPORTS[module] for module in MODULES}
    assert {module: names for module, names in found.items() if names} == IMPORTS_FOR_TYPES


def test_imports_run_one_way():
    below: set[str] = set()
    for module, names in IMPORTS.items():
        assert names <= below, f"{module} imports what stands above it: {sorted(names - below)}"
        below.add(module)


def test_the_kernel_knows_only_errors_and_neither_clock_nor_file_nor_thread():
    assert own_imports("kernel", types=False) | own_imports("kernel", types=True) == {"errors", "tree"}
    assert own_imports("tree", types=False) | own_imports("tree", types=True) == {"errors", "kernel"}
    worldly = {"time", "select", "selectors", "selectors2", "socket", "threading", "_thread", "signal", "os", "random"}
    assert not (others_imports("kernel") | others_imports("tree")) & worldly


@pytest.mark.parametrize(
    ("name", "importers"),
    [
        ("selectors2", {"_selectors2"}),
        ("sortedcontainers", {"timers"}),
        ("time", {"clocks", "workers"}),
        ("random", set()),
    ],
)
def test_what_enters_from_outside_enters_in_one_place(name, importers):
    assert {module for module in MODULES if name in others_imports(module)} == importers


@pytest.mark.parametrize("module", [module for module in MODULES if module not in MAY_BE_SLOW])
def test_no_module_imports_at_its_top_what_is_slow_to_import(module):
    at_top = {name for node, _, name in imported(module) if name and not for_types_only(node) and not in_function(node)}
    assert not at_top & SLOW_TO_IMPORT


def test_to_import_the_package_is_to_import_nothing_slow():
    # Without site: what an installed .pth file imports is not ours.
    program = f"import sys; sys.path[:] = {sys.path!r}; import minisched; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", program]
    loaded = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert "minisched.kernel" in loaded
    assert not {*loaded} & SLOW_TO_IMPORT
    assert not {f"minisched.{module}" for module in MAY_BE_SLOW} & {*loaded}


# Sizes.


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_sitting(module):
    lines = len((PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines())
    assert lines <= (400 if module == "kernel" else 320)


@pytest.mark.parametrize("module", MODULES)
def test_a_function_fits_on_a_screen(module):
    long = {name: node.end_lineno - node.lineno + 1 for node, name in functions(module)}
    assert not {name: lines for name, lines in long.items() if lines > 40 and name != "Kernel.turns"}


def test_no_function_is_excused_from_the_bound_on_complexity_but_the_inlined_turn():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "C90" in settings["select"] and settings["mccabe"]["max-complexity"] == 8
    assert not any(rule.startswith("C90") for rule in settings["ignore"])
    excused = [
        (module, line.split("(")[0].strip())
        for module in MODULES
        for line in (PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines()
        if re.search(r"#\s*(ruff: *)?noqa(?!: *[A-Z])|noqa.*C90", line)
    ]
    assert excused == [("kernel", "def turns")]


# Names and words.


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_is_used_across_modules(module):
    used = [
        (node.lineno, node.attr)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
        and not (isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super")
    ] + [
        (node.lineno, alias.name)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if is_private(alias.name)
    ]
    assert not [(line, name) for line, name in used if (module, name) not in BORROWED]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_in_one_sentence(module):
    text = ast.get_docstring(tree(module)) or ""
    first, *rest = text.split("\n")
    assert first.endswith(".") and ". " not in first, first
    assert not rest or not rest[0], "an empty line comes after the first"


@pytest.mark.parametrize("module", MODULES)
def test_what_is_public_is_documented(module):
    assert not [name for name in public_names(module) if name not in documented(module)]


def public_names(module: str):
    """Return the dotted names of the public classes and functions, but for those that a document elsewhere covers."""
    for node in ast.walk(tree(module)):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if in_function(node) or for_types_only(node):
            continue
        names = [*reversed([p.name for p in parents(node) if isinstance(p, ast.ClassDef)]), node.name]
        if not any(name.startswith("_") for name in names) and node.name not in inherited_names(module, node):
            yield ".".join(names)


def documented(module: str) -> set[str]:
    """Return the dotted names of the classes and functions that have a docstring."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            outer = [parent.name for parent in parents(node) if isinstance(parent, ast.ClassDef)]
            found.add(".".join([*reversed(outer), node.name]))
    return found


def inherited_names(module: str, node: ast.AST) -> set[str]:
    """Return the names of methods that a base class documents, or a protocol says, which a class need not name."""
    outer = getattr(node, "parent", None)
    if isinstance(node, ast.ClassDef) or not isinstance(outer, ast.ClassDef):
        return set()
    names, todo = protocol_names(), [outer]
    while todo:
        for base in todo.pop().bases:
            known = classes().get(ast.unparse(base).partition("[")[0])
            if known is not None:
                names = names | {method.name for method in known.body if is_documented_method(method)}
                todo.append(known)
    return names


@cache
def classes() -> dict[str, ast.ClassDef]:
    """Return every class of the package, by name."""
    nodes = (node for module in MODULES for node in ast.walk(tree(module)))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


@cache
def protocol_names() -> set[str]:
    """Return the names of the methods of the package's protocols."""
    protocols = [node for node in classes().values() if any(ast.unparse(base) == "Protocol" for base in node.bases)]
    return {method.name for node in protocols for method in node.body if isinstance(method, ast.FunctionDef)}


def is_documented_method(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and bool(ast.get_docstring(node))


# Files.


def test_only_what_belongs_there_lies_at_the_top():
    assert {name.partition("/")[0] for name in tracked()} <= TOP_LEVEL


def test_every_file_that_the_architecture_names_exists():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/.])((?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml|txt))\b", text))
    places = [ROOT, PACKAGE, ROOT / "tests", ROOT / "demos"]
    assert not [name for name in sorted(named) if not any((place / name).is_file() for place in places)]


@pytest.mark.parametrize("file", sorted((ROOT / "demos").rglob("*.py")), ids=lambda file: file.name)
def test_every_file_of_the_demos_begins_with_what_it_shows_and_how_to_run_it(file):
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first, *rest = text.split("\n")
    assert first.endswith((".", "?")) and not (rest and rest[0]), first
    assert re.search(r"^Shows: ", text, re.MULTILINE) and re.search(r"^Run it: +\S", text, re.MULTILINE)


def test_every_test_and_benchmark_that_a_document_names_exists():
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("*.py"))
    for document in ("ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        assert not [name for name in re.findall(r"\btest_\w+\b(?!\.py|/)", text) if f"def {name}" not in tests]
        measured = re.findall(r"-m tests\.benchmarks ((?:[a-z]\w* ?)+)", text)
        assert {name for names in measured for name in names.split()} <= {*benchmarks()}


def benchmarks() -> list[str]:
    """Return the names by which benchmarks can be asked for."""
    from benchmarks.__main__ import BENCHMARKS

    return [part for name in BENCHMARKS for part in (name, name.partition("_")[0])]


def test_the_architecture_names_every_file_of_the_package():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert not [module for module in MODULES if not re.search(rf"(?<!\w){module}\.py\b", text)]


def test_the_architecture_names_every_call_that_is_no_checkpoint():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    sentence = text.partition("Not checkpoints are:")[2].partition(". Every other")[0]
    named = {{"group.spawn": "SpawnIn"}.get(name, name) for name in re.findall(r"`([\w.]+)`", sentence)}
    found = {name for name, node in classes().items() if any(map(is_no_checkpoint, node.body))}
    assert found - NOT_PUBLIC == named


# Calls that only our own functions make: two waits that can't be given up, and what a server does between two accepts.
NOT_PUBLIC = {"Reacquire", "CancelledEnded", "TakeSigterm"}


def is_no_checkpoint(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node) == "checkpoint = False"
