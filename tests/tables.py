"""The tables of the documents that are made from the source: `python -m tests.tables --update`.

A table stands in a document between `<!-- table NAME -->` and `<!-- end of table -->`:
- `map`: every file of the package. The first line of its docstring says what it is; the last cell is written by hand.
- `constants`: every number, and every tuple of numbers or names, that a module of the package keeps under an UPPER_CASE
  name, with the comment behind it (or above it), which says why it has this value.
- `copies`: every comment `Copy for speed of TWIN: gains N % of `BENCHMARK`.`
- `decisions`: every `Decision: TITLE.` in a comment or a docstring.
- `calls`: every syscall of the package (`tests/calls.py`).

`--update` also renews the listings that the Python listings of the README and of ARCHITECTURE.md print, and those that
are printed by `minisched`. Without it, the differences of the tables are printed.
`tests/test_architecture.py` compares the tables with the source, and `tests/test_readme.py` runs the listings.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import calls

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minisched"
DOCUMENTS = ("ARCHITECTURE.md", "CONTRIBUTING.md", "demos/extend/README.md")
WITH_LISTINGS = ("ARCHITECTURE.md", "README.md")
LISTING = re.compile(
    r"^(?:<!-- *(?P<what>[^\n]*?) *-->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
TABLE = re.compile(r"(?<=<!-- table )(?P<name>\w+)(?P<middle> -->\n)(?P<text>.*?)(?=<!-- end of table -->)", re.DOTALL)
TOP = {
    "": 0,
    "kernel": 1,
    "tasks": 2,
    "sync": 3,
    "io": 4,
    "bridges": 5,
    "net": 6,
    "serving": 7,
    "testing": 8,
    "lab": 9,
    "cli": 10,
}


class Constant(NamedTuple):
    """A constant of a module: its value as it is written there, and why it is so."""

    file: str
    name: str
    value: str
    why: str


def files() -> list[Path]:
    """Return the files of the package, room by room, as the code map has them."""
    return sorted(PACKAGE.rglob("*.py"), key=lambda file: (TOP.get(room(file), len(TOP)), file))


def room(file: Path) -> str:
    """Return the name of a file's room: the first folder of its path in the package."""
    first, *rest = file.relative_to(PACKAGE).parts
    return first if rest else ""


def shown(file: Path) -> str:
    """Return a file's path as the documents name it: in the package."""
    return file.relative_to(PACKAGE).as_posix()


# The facts of the source.


def constants() -> list[Constant]:
    """Return the constants of all modules."""
    return [constant for file in files() for constant in constants_of(file)]


def constants_of(file: Path) -> Iterator[Constant]:
    source = file.read_text(encoding="utf-8")
    statements = ast.parse(source).body
    assigned = {name: node for node in statements for name in names_of(node) if re.fullmatch(r"[A-Z][A-Z0-9_]*", name)}
    if not assigned:
        return
    name_of_module = ".".join(["minisched", *file.relative_to(PACKAGE).with_suffix("").parts])
    module = importlib.import_module(name_of_module.removesuffix(".__init__"))
    comments = comments_of(source)
    for name, node in assigned.items():
        if is_constant(getattr(module, name)) and not isinstance(node.value, ast.Name):
            written = ast.get_source_segment(source, node.value) or ""
            yield Constant(shown(file), name, flat(without_comments(written)), why(node, comments))


def names_of(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def is_constant(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(item, (int, float, str)) for item in value)
    return type(value) in (int, float)


def comments_of(source: str) -> dict[int, tuple[bool, str]]:
    """Return each comment by its line: whether it stands alone there, and its text."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: (not token.line[: token.start[1]].strip(), token.string.lstrip("# "))
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def why(node: ast.stmt, comments: dict[int, tuple[bool, str]]) -> str:
    """Return the comment in the statement's lines, or the lines of comment right above it."""
    lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    texts = [comments[line][1] for line in lines if line in comments]
    line = node.lineno - 1
    while not any(text and not text.startswith("pyright:") for text in texts) and comments.get(line, (False, ""))[0]:
        above = []
        while comments.get(line, (False, ""))[0]:
            above.insert(0, comments[line][1])
            line -= 1
        return flat(" ".join(above))
    return flat(" ".join(text for text in texts if not text.startswith(("pyright:", "type:", "noqa"))))


def without_comments(text: str) -> str:
    return "\n".join(line.partition("  #")[0] for line in text.splitlines())


def decisions() -> list[tuple[str, str]]:
    """Return (title, file) of each decision."""
    return [
        (title_of(text), shown(file))
        for file in files()
        for text in paragraphs(file.read_text(encoding="utf-8"), r"(?<!\w)Decision: ")
    ]


def paragraphs(source: str, begin: str) -> Iterator[str]:
    """Return the text after each `begin`, to the end of its paragraph, on one line."""
    for found in re.finditer(begin, source):
        lines = []
        for line in source[found.end() :].split("\n"):
            stripped = line.strip().lstrip("#").strip() if lines else line.strip()
            if not stripped or (lines and re.match(r"(Because|Rejected|Decision): ", stripped)):
                break
            lines.append(stripped)
        yield " ".join(lines)


def title_of(text: str) -> str:
    """Return the first sentence, without its full stop."""
    return re.split(r"\.(?=\s|\"\"\"|$)", text, maxsplit=1)[0]


def copies() -> list[tuple[str, str, str, str]]:
    """Return (where, twin, gain, benchmarks) of each copy for speed."""
    found = []
    for file in files():
        source = file.read_text(encoding="utf-8")
        for text in paragraphs(source, r"Copy for speed of "):
            parts = re.match(r"(?P<twin>.*?): .*?\b(gains|saves) (?P<share>.*?) of (?P<benchmarks>.*)", title_of(text))
            twin, share, benchmarks = parts.group("twin", "share", "benchmarks") if parts else (title_of(text), "", "")
            line = source[: source.index("Copy for speed of " + twin[:20])].count("\n") + 1
            found.append((f"`{owner(source, line)}` ({shown(file)})", twin, share, benchmarks))
    return found


def owner(source: str, line: int) -> str:
    """Return the dotted name of the innermost class or function that a line stands in."""
    names: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        named = isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if named and node.lineno <= line <= (node.end_lineno or 0):
            names.append((node.lineno, node.name))
    return ".".join(name for _, name in sorted(names)) or "the module"


# The tables.


def map_table(old: str) -> Iterator[str]:
    yield from ("| file | content | invariant, or absence |", "|---|---|---|")
    kept = {row[0].strip("`"): row[2] for row in rows(old)}
    for file in files():
        name = shown(file)
        if name.count("/") > 1 and file.name != "__init__.py":
            continue  # the `__init__.py` of a part of a room names its files
        parsed = ast.parse(file.read_text(encoding="utf-8"))
        if len(parsed.body) == 1:
            continue  # a docstring alone: the `__init__.py` of most rooms
        docstring = ast.get_docstring(parsed) or ""
        what = flat(docstring.partition("\n\n")[0]).removesuffix(".")
        yield row_of(f"`{name}`", what, kept.get(name) or first_invariant(docstring))


def first_invariant(docstring: str) -> str:
    """Return the first numbered line of a docstring, for a file whose row is new."""
    found = re.search(r"^1\. (.*?)(?=^\d\. |^$|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return flat(found[1]).removesuffix(".") if found else ""


def constants_table(old: str) -> Iterator[str]:
    yield from ("| constant | value | file | why |", "|---|---|---|---|")
    for constant in constants():
        yield row_of(f"`{constant.name}`", f"`{constant.value}`", constant.file, constant.why)


def copies_table(old: str) -> Iterator[str]:
    yield from ("| copy | its plain twin | gain, by `python -m tests.benchmarks` |", "|---|---|---|")
    for where, twin, share, benchmarks in copies():
        yield row_of(where, twin, f"{share} of {benchmarks}")


def decisions_table(old: str) -> Iterator[str]:
    yield from ("| room | decisions, by file |", "|---|---|")
    rooms: dict[str, dict[str, list[str]]] = {}
    for title, file in decisions():
        room = file.split("/")[0] if "/" in file else "minisched"
        rooms.setdefault(room, {}).setdefault(file, []).append(title)
    for room, files in rooms.items():
        yield row_of(room, " · ".join(f"**{file}**: {'; '.join(found)}" for file, found in files.items()))


MAKERS = {
    "map": map_table,
    "constants": constants_table,
    "copies": copies_table,
    "decisions": decisions_table,
    "calls": calls.table,
}


def row_of(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def flat(text: str) -> str:
    return " ".join(text.split())


def updated(text: str) -> str:
    """Return a document with its tables as the source has them."""

    def made(found: re.Match[str]) -> str:
        lines = MAKERS[found["name"]](found["text"])
        return found["name"] + found["middle"] + "".join(f"{line}\n" for line in lines)

    return TABLE.sub(made, text)


def differences(document: str) -> str:
    """Return what `--update` would change in a document."""
    old = (ROOT / document).read_text(encoding="utf-8")
    return "\n".join(
        difflib.unified_diff(old.splitlines(), updated(old).splitlines(), document, "the source", "", "", 0)
    )


def reprinted(text: str) -> str:
    """Return a document with its printed listings as its programs print them now."""
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""

    def listing(found: re.Match[str]) -> str:
        nonlocal printed
        head, old = found[0][: found.start("text") - found.start()], found["text"]
        if found["what"] == "prints":
            return head + printed.rstrip() + "\n```"
        if found["what"] and found["what"].startswith("printed by minisched "):
            command = [sys.executable, "-m", *found["what"].split()[2:]]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            return head + done.stdout + "```"
        if found["language"] == "python" and not found["what"]:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(old, "<listing>", "exec"), names)
            printed = out.getvalue()
        return found[0]

    return LISTING.sub(listing, text)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--update"]):
        print(__doc__)
        return 2
    changes = [difference for document in DOCUMENTS if (difference := differences(document))]
    if not arguments:
        print(*changes, sep="\n")
        return 1 if changes else 0
    for change, documents in ((updated, DOCUMENTS), (reprinted, WITH_LISTINGS)):
        for document in documents:
            path = ROOT / document
            path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
