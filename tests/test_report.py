"""What is said of a task: its stack, who it waits for, a cycle."""

from __future__ import annotations

import pytest

from minisched import CurrentTask, Deadlock, Event, Join, Lock, Pause, Sleep, Spawn, Syscall, gather
from minisched.family import ended
from minisched.kernel import Kernel
from minisched.report import cycle, label, stack
from minisched.testing import run


class WaitFor(Syscall[None]):
    """Waits for other tasks, as a lock waits for its owner."""

    __slots__ = ("tasks",)

    def __init__(self, *tasks):
        self.tasks = list(tasks)

    def handle(self, kernel, task):
        kernel.park(task, lambda: None)

    def blockers(self):
        return self.tasks


def waiting(calls):
    """Return tasks that are parked in the given calls."""

    def body(call):
        yield call

    kernel = Kernel(ended)
    tasks = [kernel.spawn(body(call), f"t{number}") for number, call in enumerate(calls)]
    kernel.turns(10_000)
    return tasks


def test_a_ring_of_tasks_that_wait_for_each_other_is_found():
    calls = [WaitFor() for _ in range(5)]
    tasks = waiting(calls)
    for waits, blocker in [(0, 1), (1, 2), (2, 3), (3, 1), (4, 0)]:
        calls[waits].tasks.append(tasks[blocker])
    assert [task.name for task in cycle(tasks, {})] == ["t1", "t2", "t3"]


def test_where_two_wait_for_the_same_there_is_no_ring():
    calls = [WaitFor() for _ in range(4)]
    tasks = waiting(calls)
    for waits, blocker in [(0, 1), (0, 2), (1, 3), (2, 3)]:
        calls[waits].tasks.append(tasks[blocker])
    assert cycle(tasks, {}) == []


def test_a_ring_of_thousands_is_found_without_recursion():
    calls = [WaitFor() for _ in range(3000)]
    tasks = waiting(calls)
    for number, call in enumerate(calls):
        call.tasks.append(tasks[(number + 1) % 3000])
    assert len(cycle(tasks, {})) == 3000


def test_the_stack_follows_yield_from_and_await_to_the_innermost_line():
    def innermost():
        yield Sleep(1)

    def middle():
        yield from innermost()

    class Awaitable:
        def __await__(self):
            yield from middle()

    async def outermost():
        await Awaitable()

    def main():
        task = yield Spawn(outermost())
        yield Pause()
        return [(name.split(".")[-1], file == __file__) for file, _, name in stack(task)], label(task)

    expected = [(name, True) for name in ("outermost", "__await__", "middle", "innermost")]
    assert run(main()) == (expected, "0.0 outermost")


def test_a_task_that_is_done_has_no_stack():
    def main():
        def child():
            yield

        task = yield Spawn(child())
        yield Sleep(1)
        return stack(task), (yield CurrentTask()).name

    assert run(main()) == ([], "main")


def report_of(main):
    with pytest.raises(Deadlock) as caught:
        run(main)
    return [line for line in str(caught.value).splitlines() if not line.startswith("    ")]


def test_a_deadlock_of_locks_names_their_owners_and_the_cycle():
    left, right = Lock("left"), Lock("right")

    def taker(one, other):
        with (yield one.acquire()):
            yield
            with (yield other.acquire()):
                pass

    def main():
        yield Spawn(taker(left, right), "Ada")
        yield Spawn(taker(right, left), "Grace")

    assert report_of(main()) == [
        "2 parked, none ready, no deadline, and nothing outside can wake any of them",
        "  0 main waits for its children, its body being over",
        "  0.0 Ada waits in Acquire(<Lock right: held by task 'Grace', 1 waiting>), for 0.1 Grace",
        "  0.1 Grace waits in Acquire(<Lock left: held by task 'Ada', 1 waiting>), for 0.0 Ada",
        "  a cycle: 0.0 Ada -> 0.1 Grace -> 0.0 Ada",
    ]


def test_the_report_names_a_few_of_those_who_are_waited_for_and_says_when_one_has_no_body_any_more():
    event = Event("never")

    def child():
        yield event.wait()

    def parent():
        yield Spawn(child(), "child")

    def main():
        one = yield Spawn(parent(), "parent")
        yield Spawn(gather(*(child() for _ in range(6))), "many")
        yield Join(one)

    lines = report_of(main())
    assert "  0 main waits in Join(parent), for 0.0 parent (its body is over)" in lines
    (many,) = (line for line in lines if line.startswith("  0.1 many"))
    assert many.endswith(", for 0.1.0 child, 0.1.1 child, 0.1.2 child, 0.1.3 child and 2 more")


def test_a_cycle_through_a_group_and_a_lock_is_found():
    lock = Lock("the only one")

    def child():
        with (yield lock.acquire()):
            pass

    def main():
        with (yield lock.acquire()):
            yield from gather(child())

    assert report_of(main())[-1] == "  a cycle: 0 main -> 0.0 child -> 0 main"


def test_the_stack_of_a_task_follows_its_yield_from():
    event = Event()

    def inner():
        yield event.wait()

    def main():
        yield from inner()

    with pytest.raises(Deadlock) as caught:
        run(main())
    frames = [line.strip().partition(" (")[0] for line in str(caught.value).splitlines() if line.startswith("    ")]
    assert [name.rpartition(".")[2] for name in frames] == ["main", "inner"]
