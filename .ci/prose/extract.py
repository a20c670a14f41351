"""Write the prose of files as Markdown with the same line numbers: `python extract.py FOLDER FILE...`.

The prose of a Python file is: docstrings, comments, strings of three words or more, the names of tests, and the names
of constants that hold a number. Each piece becomes an item of a Markdown list, because an item may follow another one
without a blank line. A name becomes words, a value inside an f-string becomes a code span, and code is left out.
Pieces that share a line go to different layers: FOLDER/0/path, FOLDER/1/path, ... Other files are copied to layer 0.
"""

import ast
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path

MIN_WORDS = 3  # a shorter string is a format or a label
DIRECTIVE = re.compile(r"#\s*(noqa|type:|pyright:|pragma:|fmt:|ruff:)|#!|#\W*$")
LITERAL = ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop

Piece = tuple[int, list[str]]  # the number of the first line, and the lines


def comments(source: str) -> Iterator[Piece]:
    """Yield each comment; successive lines of nothing but a comment are one piece."""
    block: Piece = (0, [])
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        number, text = token.start[0], token.string.lstrip("#").removeprefix(" ")
        alone = token.line.lstrip().startswith("#")
        if alone and number == block[0] + len(block[1]):
            block[1].append(text)
            continue
        yield block
        block = number, [text]
        if not alone:
            yield block
            block = (0, [])
    yield block


def docstring(node: ast.AST) -> Piece | None:
    """Return the text of a string that is a statement of its own, without its indentation and without doctests."""
    text = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else None
    if not isinstance(text, str):
        return None
    first, _, rest = text.partition("\n")
    lines = [first, *textwrap.dedent(rest).split("\n")]
    doctest = False
    for number, line in enumerate(lines):
        doctest = line.strip().startswith(">>>") or (doctest and line.strip() != "")
        if doctest:
            lines[number] = ""
    return node.lineno, lines


def message(node: ast.AST) -> str:
    """Return the text of a string literal on one line; the empty string for any other node and for a program."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(part.value if isinstance(part, ast.Constant) else "`value`" for part in node.values)
    else:
        return ""
    return text.strip() if len(text.split()) >= MIN_WORDS and "\n" not in text.strip() else ""


def test_claim(name: str) -> str:
    """Return the name of a test as a sentence. A name has no hyphens, so "wake-up" gets its own back."""
    return name.removeprefix("test_").replace("wake_up", "wake-up").replace("_", " ").capitalize()


def constant(node: ast.AST) -> str:
    """Return the name of a constant that is assigned a number; the empty string for any other node."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
        parts = [part for part in ast.walk(node.value) if not isinstance(part, LITERAL)]
        if all(isinstance(part, ast.Constant) and type(part.value) in (int, float) for part in parts):
            return node.targets[0].id
    return ""


def pieces(source: str) -> Iterator[Piece]:
    """Yield all prose of a module, in no order."""
    yield from comments(source)
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if piece := docstring(node):
            yield piece
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.lineno, [test_claim(node.name)]
        if name := constant(node):
            yield node.lineno, [f"Constant {name.replace('_', ' ').lower()}"]
        if line := message(node):
            yield node.lineno, [line]
        if not isinstance(node, ast.JoinedStr):
            nodes += ast.iter_child_nodes(node)


def layers(source: str) -> Iterator[str]:
    """Yield Markdown until each piece is in it; a file without prose is one empty layer."""
    length = source.count("\n") + 1
    left = sorted(piece for piece in pieces(source) if any(piece[1]))
    while True:
        lines, later, free = [""] * length, [], 1
        for start, text in left:
            if start < free:
                later.append((start, text))
                continue
            free = start + len(text)
            for number, line in enumerate(text, start - 1):
                if number < length:
                    lines[number] = (("- " if number == start - 1 else "  ") + line).rstrip()
        yield "\n".join(lines)
        left = later
        if not left:
            return


def main(folder: str, *paths: str) -> None:
    for path in paths:
        inside = Path(path).resolve().relative_to(Path.cwd())  # ValueError: the target would be outside of the folder
        source = inside.read_text(encoding="utf-8")
        for number, text in enumerate(layers(source) if inside.suffix == ".py" else [source]):
            target = Path(folder, str(number), inside)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
