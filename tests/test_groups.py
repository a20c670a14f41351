"""Tests of gather, race and as_completed: results, failures, cancellation, the order of ends."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from leaks import run

from minisched import (
    Cancel,
    Cancelled,
    CancelScope,
    CurrentTask,
    Deadlock,
    Event,
    Join,
    JoinAll,
    MoveOnAfter,
    Now,
    Pause,
    Queue,
    Shield,
    Sleep,
    SleepUntil,
    Spawn,
    SyscallError,
    TaskCancelled,
    TimedOut,
    Timeout,
    as_completed,
    gather,
    group,
    race,
)
from minisched import run as run_unchecked  # without checks, which take long in deep chains
from minisched.kernel.lifecycle import Lifecycle
from minisched.testing import VirtualClock


def nap(seconds, result=None):
    yield Sleep(seconds)
    return result


def failing(seconds, error):
    yield Sleep(seconds)
    raise error


def cleaning(error):
    """Raise an error while cleaning up."""
    try:
        yield Sleep(9)
    finally:
        raise error


def logged(log, seconds, name, cleanup=0):
    """Sleep and log the end; after a cancellation, clean up for `cleanup` seconds."""
    try:
        yield Sleep(seconds)
        log.append(f"{name} done")
        return name
    except Cancelled as error:
        with (yield Shield(None)):
            yield Sleep(cleanup)
        log.append(f"{name} cancelled at {(yield Now()):g}: {error.reason}")
        raise


def swallowing(seconds, result):
    """Return the result even when cancelled."""
    try:
        yield Sleep(seconds)
    except Cancelled:
        pass
    return result


def cancelling(task_of, seconds=1):
    """Cancel the task that `task_of()` returns."""
    yield Sleep(seconds)
    yield Cancel(task_of(), "alone")


def myself(tasks, seconds=9):
    """Append the current task to `tasks`, and sleep."""
    tasks.append((yield CurrentTask()))
    yield Sleep(seconds)


def move(scope, at, deadline):
    """Set the deadline of a scope at the time `at`, when its timer is then the last one that was made."""
    yield SleepUntil(at)
    scope.deadline = deadline


def never():
    pytest.fail("the task should have been cancelled before this call")


def untouched():
    """Return whether the current task is in its own scope only, has no children and no failures of children."""
    task = yield CurrentTask()
    return task.scope is task and not task.live_children and task not in task.kernel.service(Lifecycle).failed


# gather: results.


def test_gather_returns_the_results_in_the_order_of_the_arguments():
    def main():
        return (yield from gather(nap(3, "a"), nap(1, "b"), nap(2, "c"))), (yield Now())

    assert run(main()) == (["a", "b", "c"], 3)


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_gather_without_arguments_returns_an_empty_list(return_exceptions):
    def main():
        return (yield from gather(return_exceptions=return_exceptions))

    assert run(main()) == []


def test_gather_takes_generators_and_coroutines_together():
    async def coroutine():
        await Sleep(1)
        return "coroutine"

    def main():
        return (yield from gather(nap(1, "generator"), coroutine()))

    assert run(main()) == ["generator", "coroutine"]


def test_gather_can_be_spawned_and_gathered():
    def main():
        task = yield Spawn(gather(nap(1, "a")))
        nested = yield from gather(gather(nap(1, "b"), nap(1, "c")), gather())
        return (yield Join(task)), nested, (yield Now())

    assert run(main()) == (["a"], [["b", "c"], []], 1)


def test_gather_waits_for_the_children_of_its_tasks():
    def parent():
        yield Spawn(nap(3))
        return "parent"

    def main():
        return (yield from gather(parent())), (yield Now())

    assert run(main()) == (["parent"], 3)


@pytest.mark.parametrize("take", [gather, race, lambda *bodies: as_completed(*bodies).for_each(print)])
def test_an_argument_that_is_not_a_fresh_task_is_refused_before_any_task_is_spawned(take):
    begun, kept = [], []

    def fresh():
        begun.append(1)
        yield
        never()

    def wrong(thing, message):
        first = fresh()
        with pytest.raises(SyscallError, match=message):
            yield from take(first, thing)
        kept.append(first)
        return (yield from untouched())

    def main():
        started = nap(1)
        started.send(None)
        kept.append(started)
        yield Pause()
        return [
            (yield from wrong(nap, "nap is a function, not a task: call it")),
            (yield from wrong(started, r"nap\(\) has been started already; a task needs a fresh one")),
            (yield from wrong(Sleep(1), r"Sleep\(1\) is a syscall, not a task")),
            (yield from wrong(None, "None is not a task: the function has run already")),
        ]

    assert (run(main()), begun) == ([True] * 4, [])
    for body in kept:
        body.close()


@pytest.mark.filterwarnings("ignore:.* was spawned twice:RuntimeWarning")
@pytest.mark.parametrize("take", [gather, race, lambda *bodies: as_completed(*bodies).for_each(print)])
def test_the_same_body_twice_is_refused_after_the_spawned_tasks_have_ended(take):
    log = []

    def main():
        body = logged(log, 9, "first", cleanup=1)
        with pytest.raises(SyscallError, match=r"logged\(\) has been started already; a task needs a fresh one"):
            yield from take(body, body)
        return (yield from untouched()), (yield Now())

    assert run(main()) == (True, 1)
    assert len(log) == 1 and log[0].startswith("first cancelled at 1: the block of <")


@pytest.mark.parametrize("depth", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_gathers_can_be_nested_deeply(depth):
    def link(number):
        if number == depth:
            yield Sleep(1)
            return [number]
        return (yield from gather(link(number + 1)))[0]

    def main():
        return (yield from gather(link(1), nap(0))), (yield Now())

    assert run_unchecked(main(), clock=VirtualClock()) == ([[depth], None], 1)


def test_a_failure_inside_nested_gathers_is_raised_itself():
    error = ValueError("v")

    def link(number):
        if number == 100:
            yield from failing(1, error)
        yield from gather(link(number + 1), nap(9))

    def main():
        with pytest.raises(ValueError) as caught:
            yield from link(1)
        return caught.value is error, (yield Now())

    assert run_unchecked(main(), clock=VirtualClock()) == (True, 1)


# gather: failures.


def test_gather_raises_the_first_failure_itself_when_the_others_have_ended():
    log = []
    error = ValueError("v")

    def main():
        with pytest.raises(ValueError) as caught:
            yield from gather(logged(log, 9, "a", cleanup=3), failing(1, error), logged(log, 9, "b", cleanup=2))
        assert caught.value is error and not hasattr(error, "__notes__")
        return (yield from untouched()), (yield Now())

    assert run(main()) == (True, 4)
    why = "task 'failing' of its group failed: ValueError: v"
    assert log == [f"b cancelled at 3: {why}", f"a cancelled at 4: {why}"]


def test_later_failures_become_notes_of_the_first():
    error = ValueError("first")

    def main():
        yield from gather(cleaning(KeyError("in cleaning up")), failing(1, error), failing(1, OSError("at once")))

    with pytest.raises(ValueError) as caught:
        run(main())
    assert caught.value is error
    assert error.__notes__ == [
        "task 'failing' of the same gather failed: OSError: at once",
        "task 'cleaning' of the same gather failed: KeyError: 'in cleaning up'",
    ]


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception whose attributes, notes and context cannot be set."""

    number: int


def test_an_exception_with_read_only_attributes_is_raised_with_its_notes():
    error = Frozen(1)

    def main():
        with pytest.raises(Frozen) as caught:
            yield from gather(failing(1, error), cleaning(ValueError("second")), cleaning(Frozen(3)))
        return caught.value is error, (yield from untouched())

    assert run(main()) == (True, True)
    assert error.__notes__ == [
        "task 'cleaning' of the same gather failed: ValueError: second",
        "task 'cleaning' of the same gather failed: Frozen: 3",
    ]


def test_async_with_raises_an_exception_with_read_only_attributes():
    async def main():
        async with as_completed(failing(1, Frozen(1)), nap(9)) as results:
            async for _ in results:
                never()

    with pytest.raises(Frozen):
        run(main())


def test_a_note_of_an_exception_group_names_its_members_their_notes_and_causes():
    errors = [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])]
    errors[0].add_note("a note of it")
    errors[0].__cause__ = OSError("why")

    def main():
        with pytest.raises(TypeError, match="first") as caught:
            yield from gather(failing(1, TypeError("first")), cleaning(ExceptionGroup("outer", errors)))
        return caught.value.__notes__

    (note,) = run(main())
    assert note.splitlines() == [
        "task 'cleaning' of the same gather failed: ExceptionGroup: outer (2 sub-exceptions)",
        "  ValueError: one",
        "  a note of it",
        "  from OSError: why",
        "  ExceptionGroup: inner (1 sub-exception)",
        "  KeyError: 'two'",
    ]


def test_the_notes_of_a_later_failure_are_not_lost():
    def main():
        with pytest.raises(TypeError, match="first") as caught:
            yield from gather(
                failing(1, TypeError("first")), gather(cleaning(ValueError("second")), cleaning(KeyError("third")))
            )
        return caught.value.__notes__

    (note,) = run(main())
    assert note.splitlines() == [
        "task 'gather' of the same gather failed: ValueError: second",
        "  task 'cleaning' of the same gather failed: KeyError: 'third'",
    ]


def test_an_error_that_two_tasks_raise_is_not_a_note_of_itself():
    error = ValueError("v")

    def main():
        with pytest.raises(ValueError) as caught:
            yield from gather(failing(1, error), failing(1, error))
        return caught.value is error

    assert run(main()) is True
    assert not hasattr(error, "__notes__")


def test_after_an_early_failure_the_other_tasks_run_to_their_first_checkpoint():
    log = []

    def failing_at_once():
        if log is not None:
            raise ValueError("v")
        yield

    def late():
        log.append("begun")
        yield
        never()

    def main():
        with pytest.raises(ValueError):
            yield from gather(failing_at_once(), late(), late())

    run(main())
    assert log == ["begun", "begun"]


def test_a_task_of_a_gather_that_is_cancelled_alone_counts_as_failed():
    tasks, log = [], []

    def main():
        with pytest.raises(TaskCancelled, match="task 'myself' was cancelled: alone") as caught:
            yield from gather(myself(tasks), logged(log, 9, "sibling"), cancelling(tasks.pop))
        return caught.value.task.name

    assert run(main()) == "myself"
    assert log == ["sibling cancelled at 1: task 'myself' of its group was cancelled"]


def test_an_exception_that_is_false_as_a_boolean_is_raised():
    class Empty(Exception):
        def __len__(self):
            return 0

    def main():
        with pytest.raises(Empty):
            yield from gather(nap(9), failing(1, Empty()))
        return "raised"

    assert run(main()) == "raised"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_keyboard_interrupt_in_a_gather_ends_the_run(kind):
    log = []

    def main():
        yield from gather(failing(1, kind()), logged(log, 9, "sibling", cleanup=1))

    with pytest.raises(kind):
        run(main())
    assert log == [f"sibling cancelled at 2: {kind.__name__}"]


def test_a_failure_keeps_its_own_context():
    def fails_twice():
        try:
            yield from failing(1, KeyError("first"))
        except KeyError:
            raise ValueError("second")  # noqa: B904

    def main():
        with pytest.raises(ValueError) as caught:
            yield from gather(fails_twice(), nap(9))
        return repr(caught.value.__context__)

    assert run(main()) == "KeyError('first')"


# gather: return_exceptions.


def test_with_return_exceptions_a_failure_is_returned_in_its_place():
    error = ValueError("v")

    def main():
        results = yield from gather(nap(3, "a"), failing(1, error), nap(2, "c"), return_exceptions=True)
        return results, (yield Now()), (yield from untouched())

    assert run(main()) == (["a", error, "c"], 3, True)


def test_with_return_exceptions_a_task_cancelled_alone_gives_a_task_cancelled():
    tasks = []

    def main():
        results = yield from gather(myself(tasks), cancelling(tasks.pop), nap(2, "c"), return_exceptions=True)
        return [str(result) for result in results]

    assert run(main()) == ["task 'myself' was cancelled: alone", "None", "c"]


def test_with_return_exceptions_a_cancellation_from_outside_is_raised():
    log = []

    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield from gather(logged(log, 9, "a", cleanup=1), cleaning(ValueError("v")), return_exceptions=True)
            never()
        return scope.cancelled_caught, (yield Now())

    assert (run(main()), log) == ((True, 2), ["a cancelled at 2: its deadline has passed"])


# gather: cancelled from outside.


def test_a_cancelled_gather_waits_for_the_cleanup_of_its_tasks():
    log = []

    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(1)):
                yield from gather(logged(log, 9, "a", cleanup=3), logged(log, 0.5, "b"), logged(log, 9, "c"))
        return (yield Now()), (yield from untouched())

    assert run(main()) == (4, True)
    assert log == ["b done", "c cancelled at 1: its deadline has passed", "a cancelled at 4: its deadline has passed"]


def test_a_failure_in_the_cleanup_of_a_cancelled_gather_is_raised():
    error = ValueError("v")

    def main():
        with (yield MoveOnAfter(1)):
            with pytest.raises(ValueError) as caught:
                yield from gather(nap(9), cleaning(error))
        return caught.value is error

    assert run(main()) is True


def test_a_deadline_after_the_last_end_in_the_same_turn_loses_no_result():
    def main():
        with (yield MoveOnAfter(None)) as scope:
            yield Spawn(move(scope, 1, 1))  # its turn comes before the nap's, which has woken by then
            results = yield from gather(nap(0.5, "a"), nap(1, "b"))
            return results, scope.cancel_called
        never()

    assert run(main()) == (["a", "b"], True)


def test_a_deadline_before_the_last_end_in_the_same_turn_loses_no_item():
    """The task that waits for the item is cancelled, so the item stays in the queue."""

    def putter(queue):
        yield Sleep(0.5)
        yield SleepUntil(1)  # a later timer than the scope's
        queue.put_nowait("item")

    def getter(queue):
        return (yield queue.get())

    def main():
        queue = Queue()
        task = yield Spawn(putter(queue))
        with (yield MoveOnAfter(1)) as scope:
            yield from gather(getter(queue), nap(0.5))
            never()
        yield Join(task)
        return scope.cancelled_caught, queue.qsize()

    assert run(main()) == (True, 1)


def test_in_nested_gathers_a_deadline_in_the_turn_of_the_last_end_loses_no_result():
    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(None)) as scope:
                yield Spawn(move(scope, 1, 1))
                results = yield from gather(gather(nap(1, "a"), nap(1, "b")), nap(0, "c"))
                yield
                never()
        return results, (yield Now())

    assert run(main()) == ([["a", "b"], "c"], 1)


def test_results_of_tasks_that_return_despite_a_cancellation_are_returned_and_the_next_checkpoint_raises():
    def main():
        with (yield MoveOnAfter(1)) as scope:
            results = yield from gather(swallowing(9, "a"), swallowing(9, "b"))
            try:
                yield
            except Cancelled:
                results.append("told")
                raise
            never()
        return results, scope.cancelled_caught

    assert run(main()) == (["a", "b", "told"], True)


def test_if_one_task_was_cut_short_the_results_of_the_others_are_dropped():
    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield from gather(swallowing(9, "a"), nap(9))
            never()
        return scope.cancelled_caught

    assert run(main()) is True


def test_a_gather_in_a_shielded_finally_is_not_cancelled():
    log = []

    def main():
        with (yield MoveOnAfter(1)) as scope:
            try:
                yield Sleep(9)
            finally:
                with (yield Shield(5)):
                    log.append((yield from gather(nap(2, "a"), nap(1, "b"))))
        return scope.cancelled_caught, (yield Now())

    assert (run(main()), log) == ((True, 3), [["a", "b"]])


def test_in_a_cancelled_scope_each_task_of_a_gather_runs_to_its_first_checkpoint():
    log = []

    def main():
        with (yield CancelScope()) as scope:
            scope.cancel("enough")
            yield from gather(logged(log, 1, "a"), logged(log, 1, "b"))
            never()
        return scope.cancelled_caught, (yield Now())

    assert run(main()) == (True, 0)
    assert log == ["a cancelled at 0: enough", "b cancelled at 0: enough"]


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_cancelled_gather_whose_last_task_returns_at_once_has_no_results(return_exceptions):
    """The first task has ended, cancelled, before the gather waits."""

    def at_once():
        if return_exceptions is None:
            yield
        return "result"

    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            yield from gather(nap(1), at_once(), at_once(), return_exceptions=return_exceptions)
            never()
        return scope.cancelled_caught

    assert run(main()) is True


def test_with_return_exceptions_a_task_cancelled_before_the_wait_is_in_its_place():
    def alone():
        yield Cancel((yield CurrentTask()), "by itself")
        yield

    def main():
        results = yield from gather(alone(), nap(0), nap(0), nap(1), return_exceptions=True)
        return [str(result) for result in results]

    assert run(main()) == ["task 'alone' was cancelled: by itself", "None", "None", "None"]


def test_a_task_of_a_gather_that_swallows_each_cancelled_is_named():
    def mule():
        while True:
            try:
                yield Sleep(9)
            except Cancelled:
                pass

    def main():
        with (yield MoveOnAfter(1)):
            with pytest.raises(SyscallError, match="task 'mule' swallowed 1000 Cancelleds of one cancellation"):
                yield from gather(mule(), nap(9))
        return (yield Now())

    assert run(main()) == 1


# race.


def test_race_returns_the_first_result_when_the_others_have_ended():
    log = []

    def main():
        winner = yield from race(logged(log, 9, "a", cleanup=2), nap(1, "winner"), logged(log, 9, "b"))
        return winner, (yield Now()), (yield from untouched())

    assert run(main()) == ("winner", 3, True)
    why = "task 'nap' of its group returned"
    assert log == [f"b cancelled at 1: {why}", f"a cancelled at 3: {why}"]


def test_a_race_of_one_is_won_by_it():
    def main():
        return (yield from race(nap(1, "alone"))), (yield Now())

    assert run(main()) == ("alone", 1)


def test_in_a_race_that_is_won_at_once_the_others_run_to_their_first_checkpoint():
    log = []

    def at_once():
        if log is None:
            yield
        return None

    def late():
        log.append("begun")
        yield
        never()

    def main():
        return (yield from race(at_once(), late()))

    assert (run(main()), log) == (None, ["begun"])


def test_a_race_without_arguments_is_refused():
    def main():
        with pytest.raises(SyscallError, match="a race needs at least one task: without any, it would never end"):
            yield from race()
        return (yield from untouched())

    assert run(main()) is True


def test_a_race_whose_first_end_is_a_failure_raises_it():
    log = []
    error = ValueError("v")

    def main():
        with pytest.raises(ValueError) as caught:
            yield from race(failing(1, error), logged(log, 9, "a", cleanup=1), nap(9))
        return caught.value is error, (yield Now())

    assert run(main()) == (True, 2)
    assert log == ["a cancelled at 2: task 'failing' of its group failed: ValueError: v"]


def test_a_race_whose_first_end_is_a_failure_raises_it_even_if_another_returns():
    error = ValueError("v")

    def main():
        with pytest.raises(ValueError) as caught:
            yield from race(failing(1, error), nap(1, "in the same turn"), swallowing(9, "late"))
        return caught.value is error

    assert run(main()) is True


def test_a_race_whose_first_end_is_a_task_cancelled_alone_raises_task_cancelled():
    tasks = []

    def main():
        with pytest.raises(TaskCancelled, match="task 'myself' was cancelled: alone") as caught:
            yield from race(myself(tasks), cancelling(tasks.pop), nap(9))
        return caught.value.task.name

    assert run(main()) == "myself"


def test_a_failure_in_the_cleanup_of_a_losing_task_is_raised():
    errors = ValueError("one"), KeyError("two")

    def main():
        with pytest.raises(ValueError) as caught:
            yield from race(nap(1, "winner"), cleaning(errors[0]), cleaning(errors[1]))
        return caught.value is errors[0]

    assert run(main()) is True
    assert errors[0].__notes__ == ["task 'cleaning' of the same race failed: KeyError: 'two'"]


def test_the_result_of_a_losing_task_is_dropped():
    def main():
        return (yield from race(nap(1, "winner"), nap(1, "in the same turn"), swallowing(9, "late")))

    assert run(main()) == "winner"


def test_a_cancelled_race_waits_for_the_cleanup_of_its_tasks():
    log = []

    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield from race(logged(log, 9, "a", cleanup=2), logged(log, 9, "b"))
            never()
        return scope.cancelled_caught, (yield Now())

    assert run(main()) == (True, 3)
    assert log == ["b cancelled at 1: its deadline has passed", "a cancelled at 3: its deadline has passed"]


def test_a_winner_before_a_cancellation_in_the_same_turn_has_won():
    log = []

    def main():
        with (yield MoveOnAfter(None)) as scope:
            yield Spawn(move(scope, 1, 1))  # its turn comes before the nap's, which has woken by then
            winner = yield from race(nap(1, "winner"), logged(log, 9, "a", cleanup=1))
            return winner, scope.cancel_called, (yield Now())
        never()

    assert (run(main()), log) == (("winner", True, 2), ["a cancelled at 2: its deadline has passed"])


def test_a_winner_is_not_lost_to_a_cancellation_while_the_losing_tasks_clean_up():
    def main():
        with (yield MoveOnAfter(2)) as scope:
            winner = yield from race(nap(1, "winner"), logged([], 9, "a", cleanup=5))
            return winner, scope.cancel_called, (yield Now())
        never()

    assert run(main()) == ("winner", True, 6)


def test_a_race_cancelled_before_the_first_end_in_the_same_turn_has_no_winner():
    def main():
        with (yield MoveOnAfter(1)) as scope:  # its timer is the first one of this time
            yield from race(nap(1, "late"), nap(1, "late"))
            never()
        return scope.cancelled_caught

    assert run(main()) is True


# as_completed.


def test_for_each_receives_the_results_in_the_order_of_the_ends():
    got = []

    def main():
        yield from as_completed(nap(3, "c"), nap(1, "a"), nap(2, "b")).for_each(got.append)
        return (yield Now()), (yield from untouched())

    assert (run(main()), got) == ((3, True), ["a", "b", "c"])


def test_for_each_loses_no_result_while_its_work_waits():
    got = []

    def work(result):
        yield Sleep(5)
        got.append((result, (yield Now())))

    def main():
        yield from as_completed(nap(3, "c"), nap(1, "a"), nap(2, "b")).for_each(work)

    run(main())
    assert got == [("a", 6), ("b", 11), ("c", 16)]


def test_for_each_without_bodies_does_nothing():
    def main():
        yield from as_completed().for_each(never)
        return "done"

    assert run(main()) == "done"


def test_for_each_refuses_anything_but_a_function():
    bodies = nap(1), nap(2)

    def main():
        yield from as_completed(bodies[0]).for_each(bodies[1])

    with pytest.raises(SyscallError, match=r"for_each takes a function, which it calls itself, not <.* nap at"):
        run(main())
    for body in bodies:
        body.close()


def test_for_each_raises_the_first_failure_itself_when_the_others_have_ended():
    got, log = [], []
    error = ValueError("v")

    def main():
        with pytest.raises(ValueError) as caught:
            crew = nap(1, "a"), failing(2, error), logged(log, 9, "c", cleanup=1), cleaning(KeyError("k"))
            yield from as_completed(*crew).for_each(got.append)
        return caught.value is error, (yield Now())

    assert (run(main()), got, len(log)) == ((True, 3), ["a"], 1)
    assert error.__notes__ == ["task 'cleaning' of the same as_completed failed: KeyError: 'k'"]


def test_for_each_raises_a_failure_that_is_the_last_end():
    got = []
    error = ValueError("v")

    def main():
        with pytest.raises(ValueError) as caught:
            yield from as_completed(nap(1, "a"), failing(2, error)).for_each(got.append)
        return caught.value is error

    assert (run(main()), got) == (True, ["a"])


def test_for_each_raises_the_error_of_its_work_and_cancels_the_remaining_tasks():
    log = []
    error = ValueError("v")

    def work(result):
        yield Sleep(1)
        raise error

    def main():
        with pytest.raises(ValueError) as caught:
            yield from as_completed(nap(1), logged(log, 9, "b", cleanup=1), cleaning(KeyError("k"))).for_each(work)
        return caught.value is error, (yield Now()), (yield from untouched())

    assert run(main()) == (True, 3, True)
    assert log[0].startswith("b cancelled at 3: the block of <Completions as_completed: 2 tasks alive> raised Value")
    assert error.__notes__ == ["task 'cleaning' of the same as_completed failed: KeyError: 'k'"]


def test_a_cancelled_for_each_waits_for_the_cleanup_of_its_tasks():
    got, log = [], []

    def main():
        with (yield MoveOnAfter(2)) as scope:
            yield from as_completed(nap(1, "a"), logged(log, 9, "b", cleanup=1)).for_each(got.append)
            never()
        return scope.cancelled_caught, (yield Now())

    assert (run(main()), got, len(log)) == ((True, 3), ["a"], 1)


def test_a_task_cancelled_alone_is_not_a_failure_of_a_closed_owner():
    tasks = []

    def work(result):
        with (yield Shield(None)):
            yield Sleep(3)
        raise KeyError

    def driven(call):
        """Drive a call until it waits for the cleanup of its children, and close it."""
        inner, answer = call, None
        while type(asked := inner.send(answer)).__name__ != "CancelledEnded":
            answer = yield asked
        inner.close()

    def main():
        crew = nap(0.5), myself(tasks), cancelling(tasks.pop), logged([], 9, "sibling", cleanup=5)
        yield from driven(as_completed(*crew).for_each(work))
        task = yield CurrentTask()
        yield JoinAll()
        return task.scope is task, (yield Now())

    assert run(main()) == (True, 6)


def test_completions_can_be_used_once():
    def main():
        results = as_completed(nap(1))
        yield from results.for_each(lambda result: None)
        with pytest.raises(
            SyscallError, match="<Completions as_completed: 0 tasks alive> was entered before: make another"
        ):
            yield from results.for_each(never)
        return (yield from untouched())

    assert run(main()) is True


def test_the_deadlock_report_names_the_owner_of_results_that_never_arrive():
    def waiter(event):
        yield event.wait()

    def main():
        yield from as_completed(waiter(Event())).for_each(never)

    with pytest.raises(Deadlock, match=r"main waits in NextEnded\(<Completions as_completed: 1 tasks alive>\)"):
        run(main())


def test_async_for_receives_the_results_in_the_order_of_the_ends():
    async def main():
        got = []
        async with as_completed(nap(3, "c"), nap(1, "a"), nap(2, "b")) as results:
            async for result in results:
                got.append((result, await Now()))
                await Sleep(1.5)
        return got

    assert run(main()) == [("a", 1), ("b", 2.5), ("c", 4)]


def test_async_for_without_bodies_ends_at_once():
    async def main():
        async with as_completed() as results:
            async for _ in results:
                never()
        return "done"

    assert run(main()) == "done"


def test_leaving_async_for_early_waits_for_the_remaining_tasks():
    log = []

    async def main():
        async with as_completed(nap(1, "a"), logged(log, 5, "b")) as results:
            async for result in results:
                got = result
                break
        return got, await Now()

    assert (run(main()), log) == (("a", 5), ["b done"])


def test_a_second_async_for_continues_the_first():
    async def main():
        got = []
        async with as_completed(nap(1, "a"), nap(2, "b"), nap(3, "c")) as results:
            got.append(await anext(results))
            async for result in results:
                got.append(result)
                break
            got += [result async for result in results]
            got += [result async for result in results]
        return got

    assert run(main()) == ["a", "b", "c"]


def test_async_for_raises_a_failure_itself_at_the_end_of_the_block():
    error = ValueError("v")

    async def main():
        got = []
        with pytest.raises(ValueError) as caught:
            async with as_completed(nap(1, "a"), failing(2, error), nap(9)) as results:
                async for result in results:
                    got.append(result)
                never()
        return caught.value is error, got, await Now()

    assert run(main()) == (True, ["a"], 2)


def test_async_with_keeps_the_context_of_a_failure():
    def fails_twice():
        try:
            yield from failing(1, KeyError("first"))
        except KeyError:
            raise ValueError("second")  # noqa: B904

    async def main():
        with pytest.raises(ValueError) as caught:
            async with as_completed(fails_twice(), nap(9)) as results:
                async for _ in results:
                    never()
        return repr(caught.value.__context__)

    assert run(main()) == "KeyError('first')"


def test_async_with_raises_the_blocks_error_itself_and_cancels_the_remaining_tasks():
    error = ValueError("v")
    log = []

    async def main():
        with pytest.raises(ValueError) as caught:
            async with as_completed(nap(1), logged(log, 9, "b", cleanup=1)) as results:
                async for _ in results:
                    raise error
        return caught.value is error, await Now()

    assert (run(main()), len(log)) == ((True, 2), 1)


def test_async_for_in_a_shield_ends_when_no_result_is_left():
    error = ValueError("v")

    async def main():
        got = []
        with pytest.raises(ValueError) as caught:
            async with as_completed(failing(1, error), logged([], 9, "b", cleanup=2), nap(0.5, "c")) as results:
                with await Shield(None):
                    async for result in results:
                        got.append(result)
                    got.append(await Now())
        return caught.value is error, got

    assert run(main()) == (True, ["c", 3])


def test_async_for_outside_of_its_block_is_refused():
    async def main():
        body = nap(1)
        results = as_completed(body)
        with pytest.raises(SyscallError, match="has not been entered yet: write `async with`"):
            async for _ in results:
                never()
        async with results:
            pass
        with pytest.raises(SyscallError, match="has ended: its block was left"):
            async for _ in results:
                never()

    run(main())


def test_another_task_than_the_owner_receives_no_result():
    async def thief(results):
        with pytest.raises(
            SyscallError, match=r"only task 'main' receives the results of .*, and task 'thief' asked for one"
        ):
            await anext(results)

    async def main():
        async with as_completed(nap(1, "a")) as results:
            await Spawn(thief(results))
            return [result async for result in results]

    assert run(main()) == ["a"]


def test_a_cancelled_async_for_waits_for_the_cleanup_of_its_tasks():
    log = []

    async def main():
        with await MoveOnAfter(1) as scope:
            async with as_completed(logged(log, 9, "a", cleanup=2)) as results:
                async for _ in results:
                    never()
        return scope.cancelled_caught, await Now()

    assert (run(main()), log) == ((True, 3), ["a cancelled at 3: its deadline has passed"])


def test_groups_of_all_kinds_can_be_nested():
    def body(team):
        task = yield team.spawn(race(nap(9), gather(nap(1, "a"), nap(2, "b"))))
        return (yield Join(task))

    def main():
        got = []
        yield from as_completed(group(body), gather(race(nap(1, "c")))).for_each(got.append)
        return got, (yield Now())

    assert run(main()) == ([["c"], ["a", "b"]], 2)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda results: gather(nap(2, "a"), nap(1, "b")), (["a", "b"], [], 2)),
        (lambda results: race(nap(2, "a"), nap(1, "b")), ("b", [], 1)),
        (lambda results: as_completed(nap(2, "a"), nap(1, "b")).for_each(results.append), (None, ["b", "a"], 2)),
    ],
    ids=["gather", "race", "as_completed"],
)
def test_each_function_can_be_awaited(call, expected):
    async def main():
        results = []
        return await call(results), results, await Now()

    assert run(main()) == expected
