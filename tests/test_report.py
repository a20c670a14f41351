"""What is said of a task: its stack, who it waits for, a cycle."""

from __future__ import annotations

from minisched import CurrentTask, Pause, Sleep, Spawn, Syscall
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
