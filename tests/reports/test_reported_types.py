"""The types of the public interface at run time. `tests/typing/` has those that type checkers see."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest
from helpers import run

from minisched import (
    Broadcast,
    FileOperation,
    FutureOperation,
    Join,
    LifoQueue,
    PriorityQueue,
    Queue,
    Selectable,
    Spawn,
    Syscall,
    Task,
    as_completed,
    gather,
    race,
    select,
)

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.parametrize("kind", [Queue, PriorityQueue, LifoQueue])
def test_a_queue_of_a_type_is_a_queue(kind):
    """newcomer A1.3: `Queue[int]()` raised TypeError."""
    queue = kind[int](1, name="numbers")
    assert type(queue) is kind and not hasattr(queue, "__dict__")

    def main():
        yield queue.put(1)
        return (yield queue.get())

    assert run(main()) == 1


def test_a_broadcast_of_a_type_is_a_broadcast():
    """newcomer A1.3: so did `Broadcast[int]()`."""
    broadcast = Broadcast[int](size=1)
    with broadcast.subscribe() as news:
        broadcast.publish(1)
        assert news.get_nowait() == 1


def test_a_class_of_a_users_own_derives_from_a_queue_of_a_type():
    class Jobs(Queue[int]):
        pass

    jobs = Jobs()
    jobs.put_nowait(1)
    assert jobs.get_nowait() == 1 and Jobs.__mro__[1] is Queue


@pytest.mark.parametrize("kind", [Task, Join, Spawn, Syscall, Selectable, FileOperation, FutureOperation])
def test_a_class_takes_the_type_of_its_result(kind):
    assert kind[int].__origin__ is kind


def test_a_task_has_no_dict_beside_its_slots():
    assert "__dict__" not in dir(Task())


def test_no_module_for_types_is_imported_at_run_time():
    code = "import sys, minisched; minisched.Queue[int](); print({'typing', 'typing_extensions'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("function", [gather, race, as_completed, select])
def test_a_function_with_types_by_position_is_a_plain_function(function):
    assert inspect.isfunction(function) and function.__doc__
    assert inspect.signature(function).parameters
