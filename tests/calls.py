"""The table of all syscalls of the package, made from the classes and their docstrings (`tests/tables.py` writes it).

The class says whether a call is a checkpoint, can be a branch of `select`, and has its answer from outside; its bases
say the type of the result; the code of its `handle`, whether it waits. The docstring says the rest: the names in the
section `Raises:`, and the subject of the sentence "... wakes the task". Where a method makes the call, as `queue.get()`
makes a Get, that is the docstring of the method.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

import minisched
from minisched import Selectable, Syscall

PACKAGE = Path(minisched.__file__).parent
WAKES = re.compile(r"(?:^|[.:;] )((?:[^.:;`]|`[^`]*`)+?) wakes? the task(?=[.,;])")
MADE_BY = re.compile(r"(?:made by|first half of) `([^`]+)`|`([^`]+)` returns this call")
NO = "\N{EN DASH}"
HEAD = ("call", "checkpoint", "waits", "in `select`", "woken by", "result", "errors", "from outside")


class Call(NamedTuple):
    """The facts of one syscall."""

    name: str  # as a program writes it
    kind: type[Syscall]
    checkpoint: bool
    waits: bool
    selectable: bool
    wakes: str
    result: str
    errors: tuple[str, ...]
    external: bool


def kinds() -> list[type[Syscall]]:
    """Return the concrete syscalls of the package: the public ones in their order, then the others by module."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.stem != "__main__":
            parts = file.relative_to(PACKAGE).with_suffix("").parts
            importlib.import_module(".".join(["minisched", *parts]).removesuffix(".__init__"))
    found = [kind for kind in subclasses(Syscall) if kind.__module__.startswith("minisched.")]
    found = [kind for kind in found if not inspect.isabstract(kind)]
    public = [getattr(minisched, name) for name in minisched.__all__]
    rest = sorted((kind for kind in found if kind not in public), key=lambda kind: (kind.__module__, line_of(kind)))
    return [kind for kind in public if kind in found] + rest


def subclasses(kind: type) -> Iterator[type]:
    for derived in dict.fromkeys(kind.__subclasses__()):
        yield derived
        yield from subclasses(derived)


def line_of(kind: type) -> int:
    return inspect.getsourcelines(kind)[1]


def calls() -> list[Call]:
    """Return the facts of each syscall."""
    found: dict[type, Call] = {}
    for kind in kinds():
        documents = [document for base in kind.__mro__ if issubclass(base, Syscall) for document in documents_of(base)]
        found[kind] = Call(
            name=name_of(kind),
            kind=kind,
            checkpoint=kind.checkpoint,
            waits=issubclass(kind, Selectable) or parks(kind),
            selectable=issubclass(kind, Selectable),
            wakes=next(filter(None, map(wakes_of, documents)), ""),
            result=result_of(kind),
            errors=next(filter(None, map(errors_of, documents)), ()),
            external=kind.external,
        )
    return list(found.values())


def parks(kind: type[Syscall]) -> bool:
    """Return whether `handle`, or a method of the class that it calls, parks the task."""
    names, seen = {"handle"}, set()
    while names - seen:
        name = (names - seen).pop()
        seen.add(name)
        method = getattr(kind, name, None)
        names |= {*method.__code__.co_names} if isinstance(method, FunctionType) else set()
    return "park" in names


def name_of(kind: type[Syscall]) -> str:
    made = MADE_BY.search(flat(kind.__doc__ or ""))
    if kind.__name__ in minisched.__all__ or made is None:
        return kind.__name__
    return next(filter(None, made.groups()))


def documents_of(kind: type) -> list[str]:
    """Return the docstring of a class, and those of the functions and methods that make it."""
    return [vars(kind).get("__doc__") or "", *(function.__doc__ or "" for function in makers_of(kind))]


def makers_of(kind: type) -> list[FunctionType]:
    """Return the functions and methods of the module that return such a call, by their annotations."""
    values = [value for value in vars(sys.modules[kind.__module__]).values() if hasattr(value, "__module__")]
    owners = [value for value in values if value.__module__ == kind.__module__]
    inner = [value for owner in owners for value in (owner, *getattr(owner, "__dict__", {}).values())]
    functions = [value for value in inner if isinstance(value, FunctionType)]
    return [one for one in functions if one.__annotations__.get("return", "").partition("[")[0] == kind.__name__]


def wakes_of(document: str) -> str:
    """Return the subject of the sentence "... wakes the task"."""
    found = WAKES.search(flat(document.partition("Example:")[0]))
    return found[1][0].lower() + found[1][1:] if found else ""


def errors_of(document: str) -> tuple[str, ...]:
    """Return the names in the section `Raises:`."""
    section = re.search(r"^Raises:\n((?: .*\n|\n)*)", inspect.cleandoc(document) + "\n", re.MULTILINE)
    names = re.findall(r"^    ((?:[A-Z]\w+(?:, )?)+):", section[1] if section else "", re.MULTILINE)
    return tuple(name for line in names for name in line.split(", "))


def result_of(kind: type) -> str:
    """Return the type in the brackets of the nearest base that has some."""
    for base in kind.__mro__:
        for generic in vars(base).get("__orig_bases__", ()):
            if isinstance(generic.__origin__, type) and issubclass(generic.__origin__, Syscall):
                argument = generic.__args__[0]
                if argument is None or argument is type(None):
                    return "None"
                made = [brackets(maker.__annotations__["return"]) for maker in makers_of(kind)]
                return shown(next(filter(None, made), argument) if argument == "Answer" else argument)
    return ""


def shown(argument: object) -> str:
    """Return a type as a program writes it, with T for a type variable, which is a str at run time."""
    text = argument.__qualname__ if isinstance(argument, type) and not hasattr(argument, "__args__") else str(argument)
    return re.sub(r"\b(?:Answer|Item|Result)\b", "T", re.sub(r"\w+\.|'", "", text))


def brackets(annotation: str) -> str:
    return annotation.partition("[")[2].removesuffix("]")


def table(old: str) -> Iterator[str]:
    """Return the lines of the table."""
    yield "| " + " | ".join(HEAD) + " |"
    yield "|---" * len(HEAD) + "|"
    for call in calls():
        errors = ", ".join(call.errors)
        flags = ["yes" if flag else NO for flag in (call.checkpoint, call.waits, call.selectable)]
        cells = [f"`{call.name}`", *flags, call.wakes or NO, f"`{call.result}`", errors or NO]
        yield "| " + " | ".join([*cells, "yes" if call.external else NO]) + " |"


def flat(text: str) -> str:
    return " ".join(text.split())
