"""Descriptions of tasks and of deadlocks: stacks, blockers, cycles."""

from __future__ import annotations

import pytest

from minisched import CurrentTask, Deadlock, Event, Join, Lock, Pause, Sleep, Spawn, Syscall, gather
from minisched.kernel import Kernel
from minisched.kernel.lifecycle import Lifecycle
from minisched.lab.report import cycle, label, stack
from minisched.testing import run


class WaitFor(Syscall[None]):
    """Wait for other tasks, as a waiter of a lock waits for its owner."""

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

    kernel = Kernel(Lifecycle)
    tasks = [kernel.spawn(body(call), f"t{number}") for number, call in enumerate(calls)]
    kernel.turns(10_000)
    return tasks


def test_a_cycle_of_tasks_that_wait_for_each_other_is_found():
    calls = [WaitFor() for _ in range(5)]
    tasks = waiting(calls)
    for waits, blocker in [(0, 1), (1, 2), (2, 3), (3, 1), (4, 0)]:
        calls[waits].tasks.append(tasks[blocker])
    assert [task.name for task in cycle(tasks, {})] == ["t1", "t2", "t3"]


def test_two_tasks_that_wait_for_the_same_one_do_not_form_a_cycle():
    calls = [WaitFor() for _ in range(4)]
    tasks = waiting(calls)
    for waits, blocker in [(0, 1), (0, 2), (1, 3), (2, 3)]:
        calls[waits].tasks.append(tasks[blocker])
    assert cycle(tasks, {}) == []


def test_a_cycle_of_thousands_is_found_without_recursion():
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
        "  0 main waits for its children, its body has ended",
        "  0.0 Ada waits in Acquire(<Lock right: held by task 'Grace', 1 waiting>), for 0.1 Grace",
        "  0.1 Grace waits in Acquire(<Lock left: held by task 'Ada', 1 waiting>), for 0.0 Ada",
        "  a cycle: 0.0 Ada -> 0.1 Grace -> 0.0 Ada",
    ]


def test_the_report_names_at_most_four_blockers_and_marks_those_whose_body_has_ended():
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
    assert "  0 main waits in Join(parent), for 0.0 parent (its body has ended)" in lines
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


def test_the_report_shows_the_lines_of_the_yield_from_chain():
    event = Event()

    def inner():
        yield event.wait()

    def main():
        yield from inner()

    with pytest.raises(Deadlock) as caught:
        run(main())
    frames = [line.strip().partition(" (")[0] for line in str(caught.value).splitlines() if line.startswith("    ")]
    assert [name.rpartition(".")[2] for name in frames] == ["main", "inner"]


def test_the_report_shows_no_frames_of_the_package():
    event = Event()

    def child():
        yield event.wait()

    def main():
        yield from gather(child())

    with pytest.raises(Deadlock) as caught:
        run(main())
    frames = [line.strip() for line in str(caught.value).splitlines() if line.startswith("    ")]
    assert [frame.partition(" (")[0].rpartition(".")[2] for frame in frames] == ["main", "child"]
    assert all(__file__ in frame for frame in frames)


class Unprintable(WaitFor):
    __slots__ = ()

    def __repr__(self):
        raise ZeroDivisionError("in a repr")


def test_a_syscall_whose_repr_fails_does_not_hide_the_deadlock():
    def main():
        yield Unprintable()

    assert report_of(main())[1:] == [
        "  0 main waits in <Unprintable, whose __repr__ raised ZeroDivisionError: in a repr>"
    ]


class Puzzled(WaitFor):
    __slots__ = ()

    def blockers(self):
        if self.tasks:
            return self.tasks
        raise ZeroDivisionError("in blockers")

    def __repr__(self):
        return "Puzzled()"


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ((), ", whose `blockers` raised ZeroDivisionError: in blockers"),
        ((5, None), ", whose `blockers` returned [5, None]"),
        ((Unprintable(),), ", whose `blockers` returned <list, whose __repr__ raised ZeroDivisionError: in a repr>"),
    ],
)
def test_a_syscall_whose_blockers_fail_does_not_hide_the_deadlock(tasks, text):
    def main():
        yield Puzzled(*tasks)

    (line,) = report_of(main())[1:]
    assert line == f"  0 main waits in Puzzled(){text}"


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(16, ".".join("0" * 16)), (18, f"{'0.' * 8}(2 more).{'.'.join('0' * 8)}")],
    ids=["16 ordinals", "18 ordinals"],
)
def test_a_label_shows_a_path_of_16_ordinals_in_full_and_the_ends_of_a_longer_one(depth, expected):
    def chain(depth):
        if depth > 1:
            return (yield from chain_of_children(depth))
        return label((yield CurrentTask()))

    def chain_of_children(depth):
        return (yield Join((yield Spawn(chain(depth - 1), "child"))))

    assert run(chain(depth)) == f"{expected} child"
