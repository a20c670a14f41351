"""What the checks of the exercises are made of.

Shows: how one step of a coroutine is tested, with everything that can come out of it.

Run it:    python demos/lessons/checks.py FILE    (this file does nothing by itself)
"""

from minisched import Syscall


class Wrong(Exception):
    """A solution does not do what it should."""


def expect(what, got, wanted):
    """Say what is wrong, if it is not what is wanted."""
    if got != wanted:
        raise Wrong(f"{what}: {got!r} in place of {wanted!r}")


def begun(coroutine):
    """Return a coroutine, which stands at its first `yield`."""
    next(coroutine)
    return coroutine


def outcome(step, *args):
    """Do one step of a coroutine; return ("gives", value), ("returns", value) or ("raises", name of the error)."""
    try:
        return "gives", step(*args)
    except StopIteration as stop:
        return "returns", stop.value
    except Exception as error:
        return "raises", type(error).__name__


class Answer(Syscall):
    """Be answered what was given; an exception is raised."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def handle(self, kernel, task):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value
