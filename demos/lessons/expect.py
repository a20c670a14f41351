"""Helpers for the checks of the exercises.

Shows: how to test one step of a coroutine, with all its possible outcomes.

Run it:    python demos/lessons/checks.py FILE    (this file does nothing by itself)
"""

from minisched import Syscall


class Wrong(Exception):
    """Raised when a solution does not do what the exercise asks for."""


def expect(what, got, wanted):
    """Raise Wrong, with a description of the difference, unless `got` equals `wanted`."""
    if got != wanted:
        raise Wrong(f"{what}: got {got!r}, expected {wanted!r}")


def started(coroutine):
    """Advance a coroutine to its first `yield` and return it."""
    next(coroutine)
    return coroutine


def outcome(step, *args):
    """Run one step of a coroutine; return ("yields", value), ("returns", value) or ("raises", exception name)."""
    try:
        return "yields", step(*args)
    except StopIteration as stop:
        return "returns", stop.value
    except Exception as error:
        return "raises", type(error).__name__


class Answer(Syscall):
    """A syscall whose answer is `value`; an exception is raised instead."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def handle(self, kernel, task):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value
