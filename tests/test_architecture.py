"""The promises that the design makes about the source: imports, sizes, names, and what the documents say of it.

The layers are contracts of import-linter, in pyproject.toml. The tables of the documents are made by `tests/tables.py`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import tables

import minisched

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minisched"
FILES = sorted(file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 450
MAX_KERNEL_LINES = 450  # kernel/tree.py and kernel/kernel.py together
MAX_FUNCTION_LINES = 40  # without the docstring
MAX_ARCHITECTURE_LINES = 350
MAX_README_LINES = 130  # two screens

SLOW_TO_IMPORT = {"argparse", "ast", "asyncio", "dataclasses", "inspect", "logging", "re", "ssl", "threading", "typing"}
NOT_IMPORTED = ("__main__.py", "cli/", "lab/", "testing/")  # by `import minisched`
TOP_LEVEL = {
    *("minisched", "demos", "tests", "pyproject.toml", "ARCHITECTURE.md", "README.md", "LICENSE"),
    *("CHANGES.md", "CONTRIBUTING.md", ".ci", ".gitignore", ".pre-commit-config.yaml"),
}
# Private names of others that the package uses: those of the standard library, and of selectors2.
BORROWED = {
    *(("io/_selectors2.py", "_fd_to_key"), ("io/_selectors2.py", "_epoll")),
    ("lab/slow_turns.py", "_current_frames"),
    ("lab/explore/footprints.py", "_getframe"),
    ("lab/explore/tracking.py", "_getframe"),
    *(("net/sockets.py", "_accept"), ("loop.py", "_local"), ("serving/workers.py", "_exit")),
}


@cache
def tree(file: str) -> ast.Module:
    """Return the parsed source of a file of the package, each node with its `parent`."""
    parsed = ast.parse(source(file))
    for node in ast.walk(parsed):
        for child in ast.iter_child_nodes(node):
            child.parent = node
    return parsed


@cache
def nodes_of(file: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(file)))


@cache
def source(file: str) -> str:
    return (PACKAGE / file).read_text(encoding="utf-8")


@cache
def document(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def parents(node: ast.AST):
    """Return the nodes that a node stands in, the innermost first."""
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


def functions(file: str):
    """Return (node, dotted name) of every function."""
    for node in nodes_of(file):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            outer = [parent.name for parent in parents(node) if isinstance(parent, (ast.ClassDef, ast.FunctionDef))]
            yield node, ".".join([*reversed(outer), node.name])


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function, without its docstring."""
    first, *rest = node.body
    documented = ast.get_docstring(node) is not None and rest
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def in_every(files):
    """Make one test of a test for each of the files: a failure names the files."""

    def decorate(test):
        def test_all():
            failures = {}
            for file in files:
                try:
                    test(file)
                except AssertionError as error:
                    failures[file if isinstance(file, str) else file.name] = str(error)
            assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())

        test_all.__name__, test_all.__doc__ = test.__name__, test.__doc__
        return test_all

    return decorate


def tracked() -> list[str]:
    """Return the files that git knows."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in names.split("\0") if name]


# Imports.


@pytest.mark.slow  # runs a program
def test_the_contracts_on_imports_are_kept():
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-W", "ignore", "-c", program, "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@in_every([file for file in FILES if not file.startswith(NOT_IMPORTED)])
def test_no_module_imports_a_slow_module_at_its_top(file):
    imported: set[str] = set()
    for node in nodes_of(file):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not for_types_only(node) and not in_function(node):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            imported |= {name.partition(".")[0] for name in names if isinstance(node, ast.Import) or not node.level}
    assert not imported & SLOW_TO_IMPORT


def test_importing_the_package_imports_nothing_slow_and_no_instrument():
    # Without site: an installed .pth file may import anything.
    program = f"import sys; sys.path[:] = {sys.path!r}; import minisched; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", program]
    loaded = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert "minisched.kernel.kernel" in loaded
    assert not {*loaded} & SLOW_TO_IMPORT
    rooms = tuple("minisched." + name.removesuffix(".py").removesuffix("/") for name in NOT_IMPORTED)
    assert not [name for name in loaded if name.startswith(rooms)]
    assert not {f"minisched.{module}" for module in minisched.LATER.values()} & {*loaded}


def test_names_that_are_imported_late_are_public_and_those_that_do_not_exist_are_errors():
    assert {*minisched.LATER} <= {*minisched.__all__} <= {*dir(minisched)}
    with pytest.raises(AttributeError, match=r"^module 'minisched' has no attribute 'no_such_name'$"):
        _ = minisched.no_such_name


# Sizes.


@in_every(FILES)
def test_a_file_is_short_enough_to_be_one_idea(file):
    assert len(source(file).splitlines()) <= MAX_FILE_LINES


def test_the_tree_and_the_kernel_are_read_in_one_sitting():
    sizes = {file: len(source(file).splitlines()) for file in ("kernel/tree.py", "kernel/kernel.py")}
    assert sum(sizes.values()) <= MAX_KERNEL_LINES, sizes


@in_every(FILES)
def test_a_function_fits_on_a_screen(file):
    lengths = {name: length(node) for node, name in functions(file)}
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES and name != "Kernel.turns"}


def test_only_the_inlined_turn_is_excused_from_the_bound_on_complexity():
    settings = tomllib.loads(document("pyproject.toml"))["tool"]["ruff"]["lint"]
    assert "C90" in settings["select"] and settings["mccabe"]["max-complexity"] == 8
    assert not any(rule.startswith("C90") for rule in settings["ignore"])
    excused = [
        (file, line.split("(")[0].strip())
        for file in FILES
        for line in source(file).splitlines()
        if re.search(r"#\s*(ruff: *)?noqa(?!: *[A-Z])|noqa.*C90", line)
    ]
    assert excused in ([], [("kernel/kernel.py", "def turns")])


@pytest.mark.parametrize(
    ("name", "bound"), [("ARCHITECTURE.md", MAX_ARCHITECTURE_LINES), ("README.md", MAX_README_LINES)]
)
def test_a_document_is_short_enough_to_be_read(name, bound):
    assert len(document(name).splitlines()) <= bound


# Names and docstrings.


@in_every(FILES)
def test_no_private_name_is_used_across_modules(file):
    used = [
        (node.lineno, node.attr)
        for node in nodes_of(file)
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
        and not (isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super")
    ] + [
        (node.lineno, alias.name)
        for node in nodes_of(file)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if is_private(alias.name)
    ]
    assert not [(line, name) for line, name in used if (file, name) not in BORROWED]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@in_every(FILES)
def test_the_first_line_of_a_module_is_one_sentence(file):
    text = ast.get_docstring(tree(file)) or ""
    first, *rest = text.split("\n")
    assert first.endswith(".") and ". " not in first and len(first.split()) > 1, first
    assert not rest or not rest[0], "an empty line comes after the first"


@in_every(FILES)
def test_public_classes_and_functions_have_docstrings(file):
    assert not [name for name in public_names(file) if name not in documented(file)]


def public_names(file: str):
    """Return the dotted names of the public classes and functions, except methods that are documented elsewhere."""
    for node in nodes_of(file):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if in_function(node) or for_types_only(node):
            continue
        names = [*reversed([p.name for p in parents(node) if isinstance(p, ast.ClassDef)]), node.name]
        if not any(name.startswith("_") for name in names) and node.name not in inherited_names(node):
            yield ".".join(names)


def documented(file: str) -> set[str]:
    """Return the dotted names of the classes and functions that have a docstring."""
    names = set()
    for node in nodes_of(file):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            outer = [parent.name for parent in parents(node) if isinstance(parent, ast.ClassDef)]
            names.add(".".join([*reversed(outer), node.name]))
    return names


def inherited_names(node: ast.AST) -> set[str]:
    """Return the names of methods that a base class or a protocol documents, for a method of a class."""
    outer = getattr(node, "parent", None)
    if isinstance(node, ast.ClassDef) or not isinstance(outer, ast.ClassDef):
        return set()
    names, todo = protocol_names(), [outer]
    while todo:
        for base in todo.pop().bases:
            inherited = classes().get(ast.unparse(base).partition("[")[0])
            if inherited is not None:
                names = names | {method.name for method in inherited.body if is_documented_method(method)}
                todo.append(inherited)
    return names


@cache
def classes() -> dict[str, ast.ClassDef]:
    """Return every class of the package, by name."""
    nodes = (node for file in FILES for node in nodes_of(file))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


@cache
def protocol_names() -> set[str]:
    """Return the names of the methods of the package's protocols."""
    protocols = [node for node in classes().values() if any(ast.unparse(base) == "Protocol" for base in node.bases)]
    return {method.name for node in protocols for method in node.body if isinstance(method, ast.FunctionDef)}


def is_documented_method(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and bool(ast.get_docstring(node))


# Files and documents.


def test_the_top_level_holds_only_what_belongs_there():
    assert {name.partition("/")[0] for name in tracked()} <= TOP_LEVEL


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_every_file_that_a_document_names_exists(name):
    names = set(re.findall(r"(?<![\w/.])((?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml|txt|json|svg))\b", document(name)))
    places = [ROOT, PACKAGE, ROOT / "tests", ROOT / "demos"]
    missing = [name for name in sorted(names) if not any((place / name).is_file() for place in places)]
    assert not [name for name in missing if not name.endswith("test_next_tick.py")]  # `new-syscall` makes that one


@pytest.mark.slow
@pytest.mark.parametrize("name", tables.DOCUMENTS)
def test_the_tables_of_a_document_say_what_the_source_says(name):
    difference = tables.differences(name)
    assert not difference, f"run `python -m tests.tables --update`, and read what it changes:\n{difference}"


@pytest.mark.parametrize("table", sorted(tables.MAKERS))
def test_each_table_stands_in_one_document(table):
    assert sum(document(name).count(f"<!-- table {table} -->\n") for name in tables.DOCUMENTS) == 1


def test_every_file_of_the_package_has_its_invariant_or_absence_in_the_code_map():
    (old,) = (found["text"] for found in tables.TABLE.finditer(document("ARCHITECTURE.md")) if found["name"] == "map")
    assert not [cells[0] for cells in tables.rows(old) if not cells[2]]


def test_a_part_of_a_room_names_its_files():
    for folder in {file.rpartition("/")[0] for file in FILES if file.count("/") > 1}:
        listed = re.findall(r"^\| `(\w+)` \|", ast.get_docstring(tree(f"{folder}/__init__.py")), re.MULTILINE)
        assert sorted(listed) == sorted(file.stem for file in (PACKAGE / folder).glob("[!_]*.py"))


@pytest.mark.slow
def test_every_number_has_a_comment_that_gives_its_reason():
    assert not [constant for constant in tables.constants() if constant.value[0] not in "([" and not constant.why]


def test_every_copy_for_speed_names_its_gain_and_its_benchmark():
    assert not [where for where, twin, gain, measured in tables.copies() if not (twin and gain and measured)]


@in_every(FILES)
def test_every_decision_gives_its_reason(file):
    assert len(re.findall(r"\bDecision:\s", source(file))) == len(re.findall(r"\bBecause:\s", source(file)))


@in_every(sorted((ROOT / "demos").rglob("*.py")))
def test_a_demo_begins_with_what_it_shows_and_how_to_run_it(file):
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first, *rest = text.split("\n")
    assert first.endswith((".", "?")) and not (rest and rest[0]), first
    assert re.search(r"^Shows: ", text, re.MULTILINE) and re.search(r"^Run it: +\S", text, re.MULTILINE)


def test_every_test_and_benchmark_that_a_document_names_exists():
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("*.py"))
    for name in ("ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"):
        text = document(name)
        assert not [test for test in re.findall(r"\btest_\w+\b(?!\.py|/)", text) if f"def {test}" not in tests]
        measured = re.findall(r"-m tests\.benchmarks ((?:[a-z]\w* ?)+)", text)
        assert {name for names in measured for name in names.split()} <= {*benchmarks()}


def benchmarks() -> list[str]:
    """Return the names that `python -m tests.benchmarks` accepts."""
    from benchmarks.__main__ import BENCHMARKS

    return [part for name in BENCHMARKS for part in (name, name.partition("_")[0])]


def test_the_architecture_lists_every_public_call_that_is_not_a_checkpoint():
    sentence = document("ARCHITECTURE.md").partition("These are not checkpoints:")[2].partition(". Every other")[0]
    listed = {{"group.spawn": "SpawnIn"}.get(name, name) for name in re.findall(r"`([\w.]+)`", sentence)}
    declared = {name for name, node in classes().items() if any(map(declares_no_checkpoint, node.body))}
    assert listed == declared & {*minisched.__all__, "SpawnIn"}


def declares_no_checkpoint(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node) == "checkpoint = False"
