"""The table of all syscalls (`tests/calls.py`): its facts, which come from the classes and their docstrings."""

from __future__ import annotations

import calls
import pytest

import minisched
from minisched import Selectable, Syscall

CALLS = calls.calls()


def by_name(name):
    return next(call for call in CALLS if call.name == name)


def test_each_public_syscall_that_can_be_yielded_is_in_the_table():
    public = {name for name in minisched.__all__ if is_syscall(getattr(minisched, name))}
    assert public - {call.name for call in CALLS} == {"Syscall", "Selectable", "FileOperation", "FutureOperation"}
    assert len({call.name for call in CALLS}) == len(CALLS)


def is_syscall(value):
    return isinstance(value, type) and issubclass(value, Syscall)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_the_docstring_of_a_call_that_waits_names_the_wake_up_and_no_other_docstring_does(call):
    assert bool(call.wakes) is call.waits
    assert len(call.wakes) < 80 and not call.wakes.startswith("the task")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_each_call_has_the_type_of_its_result(call):
    assert call.result


def test_facts_that_are_known():
    assert by_name("Sleep")[2:] == (True, True, True, "the deadline", "None", ("TypeError", "ValueError"), True)
    spawn = by_name("Spawn")
    assert (spawn.checkpoint, spawn.waits, spawn.selectable, spawn.result) == (False, False, False, "Task[T]")
    assert by_name("queue.get()").errors == ("ClosedError", "Lagged", "SyscallError")
    assert by_name("queue.get()").result == by_name("Join").result == "T"
    assert by_name("select").result == "tuple[int, Any]"
    assert by_name("group.spawn(body)").result == "Task[T]"
    assert by_name("condition.wait()").waits and not by_name("condition.wait()").selectable
    assert by_name("ListenAll").result == "list[Socket]"
    assert by_name("Portal").result == "OpenPortal"


def test_a_class_without_the_sentence_has_an_empty_cell():
    class Silent(Selectable[int]):
        """Wait. The task wakes some time."""

    assert calls.wakes_of(Silent.__doc__) == ""
    assert calls.wakes_of("Wait. Its end or `a.close()` wakes the task; so does x.") == "its end or `a.close()`"
    assert calls.wakes_of("Wait.\n\nExample:\n    A bell wakes the task.") == ""
    document = "Wait.\n\nRaises:\n    OSError, KeyError: both.\n    ValueError: one\n        Not: this.\n"
    assert calls.errors_of(document) == ("OSError", "KeyError", "ValueError")
    assert calls.result_of(Silent) == "int"
