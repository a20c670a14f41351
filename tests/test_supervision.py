"""Tests of supervise: restarts of failed tasks, the limit, makers, cancellation."""

from __future__ import annotations

import logging
from math import inf, nan

import pytest
from leaks import run

from minisched import (
    Cancel,
    Cancelled,
    CancelScope,
    CurrentTask,
    Deadlock,
    Event,
    LimitExceeded,
    MoveOnAfter,
    Now,
    Shield,
    Sleep,
    Spawn,
    SyscallError,
    TimedOut,
    Timeout,
    supervise,
)
from minisched.kernel.lifecycle import Lifecycle


def nap(seconds, result=None):
    yield Sleep(seconds)
    return result


def failing(seconds, error):
    yield Sleep(seconds)
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


def cleaning(error):
    """Raise an error while cleaning up."""
    try:
        yield Sleep(9)
    finally:
        raise error


def failing_first(times, seconds, result, starts):
    """Fail as often as `times` says, each time after `seconds`; then return the result."""
    starts.append((yield Now()))
    yield Sleep(seconds)
    if len(starts) <= times:
        raise ValueError(f"failure {len(starts)}")
    return result


def never():
    pytest.fail("the task should have been cancelled before this call")


def untouched():
    """Return whether the current task is in its own scope only, has no children and no failures of children."""
    task = yield CurrentTask()
    return task.scope is task and not task.live_children and task not in task.kernel.service(Lifecycle).failed


# Restarts.


def test_the_results_are_in_the_order_of_the_makers():
    def main():
        results = yield from supervise(lambda: nap(3, "a"), lambda: nap(1, "b"), lambda: nap(2, "c"))
        return results, (yield Now()), (yield from untouched())

    assert run(main()) == (["a", "b", "c"], 3, True)


def test_supervise_without_makers_returns_at_once():
    def main():
        return (yield from supervise()), (yield Now())

    assert run(main()) == ([], 0)


def test_a_failed_task_is_restarted_at_once_and_its_last_result_counts():
    starts = []

    def main():
        results = yield from supervise(lambda: failing_first(2, 1, "result", starts), lambda: nap(9, "b"))
        return results, (yield Now())

    assert run(main()) == (["result", "b"], 9)
    assert starts == [0, 1, 2]


def test_only_a_failed_task_is_restarted():
    made = []

    def maker(name, body):
        def make():
            made.append(name)
            return body()

        return make

    starts = []

    def main():
        yield from supervise(
            maker("short", lambda: nap(0.5)),
            maker("failing", lambda: failing_first(2, 1, None, starts)),
            maker("long", lambda: nap(9)),
        )

    run(main())
    assert made == ["short", "failing", "long", "failing", "failing"]


def test_a_restarted_task_keeps_its_name():
    names = []

    def named():
        names.append((yield CurrentTask()).name)
        if len(names) < 2:
            raise ValueError

    def main():
        yield from supervise(named)

    run(main())
    assert names == ["named", "named"]


def test_a_failure_of_a_tasks_child_is_a_failure_of_the_task():
    starts = []

    def parent():
        starts.append(1)
        yield Spawn(nap(1) if len(starts) > 1 else failing(1, ValueError("v")))
        yield Sleep(9)
        return "result"

    def main():
        return (yield from supervise(parent))

    assert (run(main()), len(starts)) == (["result"], 2)


def test_a_task_that_is_cancelled_alone_is_not_restarted_and_has_no_result():
    tasks, made = [], []

    def child():
        made.append(1)
        tasks.append((yield CurrentTask()))
        yield Sleep(9)
        return "result"

    def canceller():
        yield Sleep(1)
        yield Cancel(tasks[0])

    def main():
        return (yield from supervise(child, canceller, lambda: nap(3, "c"))), (yield Now())

    assert run(main()) == ([None, None, "c"], 3)
    assert len(made) == 1


def test_tasks_that_fail_in_the_same_turn_are_all_restarted():
    starts = [], [], []

    def main():
        return (yield from supervise(*(lambda log=log: failing_first(1, 1, "result", log) for log in starts)))

    assert run(main()) == ["result"] * 3
    assert starts == ([0, 1], [0, 1], [0, 1])


def test_a_failure_is_logged_with_its_traceback(caplog):
    starts = []

    def main():
        yield from supervise(lambda: failing_first(1, 1, None, starts), restarts=2, within=10)

    run(main())
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("minisched", logging.ERROR)
    message = "task 'failing_first' failed and is started again (1 of at most 2 within 10 s)"
    assert record.getMessage() == message
    assert str(record.exc_info[1]) == "failure 1" and "in failing_first" in caplog.text


def test_a_return_is_not_logged(caplog):
    def main():
        yield from supervise(lambda: nap(1))

    run(main())
    assert caplog.records == []


# The limit.


@pytest.mark.parametrize("restarts", [0, 1, 3])
def test_more_failures_than_the_limit_raise_limit_exceeded(restarts):
    starts = []

    def main():
        with pytest.raises(LimitExceeded) as caught:
            yield from supervise(lambda: failing_first(99, 1, None, starts), restarts=restarts, within=5)
        return caught.value, (yield Now()), (yield from untouched())

    error, now, clean = run(main())
    assert (len(starts), now, clean) == (restarts + 1, restarts + 1, True)
    assert str(error) == f"task 'failing_first' failed, and there were {restarts} restarts within 5 s"
    assert str(error.__cause__) == f"failure {restarts + 1}"


def test_failures_before_the_window_do_not_count():
    starts = []

    def main():
        return (yield from supervise(lambda: failing_first(9, 3, "result", starts), restarts=1, within=2.9))

    assert run(main()) == ["result"]
    assert len(starts) == 10


def test_the_window_moves_with_the_last_failure():
    seconds = [3, 1, 3, 1, 1]  # between the failures; three within 5 s: the last ones, at 7, 8 and 9
    ends = []

    def child():
        yield Sleep(seconds[len(ends)])
        ends.append((yield Now()))
        raise ValueError(len(ends))

    def main():
        yield from supervise(child, restarts=2, within=3.5)

    with pytest.raises(LimitExceeded) as caught:
        run(main())
    assert ends == [3, 4, 7, 8, 9] and caught.value.__cause__.args == (5,)


def test_a_failure_at_the_very_start_of_the_window_counts():
    starts = []

    def main():
        yield from supervise(lambda: failing_first(9, 3, None, starts), restarts=1, within=3)

    with pytest.raises(LimitExceeded):
        run(main())
    assert starts == [0, 3]


def test_a_window_of_zero_seconds_counts_failures_of_the_same_time():
    starts, logs = [], ([], [])

    def main():
        yield from supervise(lambda: failing_first(5, 1, None, starts), restarts=1, within=0)
        yield from supervise(*(lambda log=log: failing_first(1, 1, None, log) for log in logs), restarts=1, within=0)

    with pytest.raises(LimitExceeded):
        run(main())
    assert starts == [0, 1, 2, 3, 4, 5] and logs == ([6, 7], [6])


def test_the_failures_of_all_tasks_count_together():
    logs = [], []

    def main():
        yield from supervise(*(lambda log=log: failing_first(1, 1, None, log) for log in logs), restarts=1)

    with pytest.raises(LimitExceeded):
        run(main())


def test_infinity_means_no_limit(caplog):
    starts = []

    def main():
        return (yield from supervise(lambda: failing_first(50, 0.01, "result", starts), restarts=inf, within=inf))

    assert run(main()) == ["result"]
    assert "(50 of at most inf within inf s)" in caplog.text


@pytest.mark.parametrize("limits", [{"restarts": -1}, {"within": -0.1}, {"within": nan}, {"restarts": nan}])
def test_a_negative_limit_and_nan_are_refused(limits):
    def main():
        with pytest.raises(ValueError, match=r"supervise: (restarts|within) is a number of .*, 0 or more, not"):
            yield from supervise(never, **limits)
        return (yield from untouched())

    assert run(main()) is True


def test_past_the_limit_the_other_tasks_have_ended_before_limit_exceeded_is_raised():
    log = []

    def main():
        with pytest.raises(LimitExceeded) as caught:
            makers = (lambda: logged(log, 9, "a", cleanup=3)), lambda: failing(1, ValueError("v"))
            yield from supervise(*makers, lambda: cleaning(KeyError("k")), restarts=0)
        return caught.value.__notes__, (yield Now())

    assert run(main()) == (["task 'cleaning' of the same supervise failed: KeyError: 'k'"], 4)
    assert len(log) == 1
    assert log[0].startswith("a cancelled at 4: the block of <Supervision supervise: 2 tasks alive> raised LimitEx")


def test_of_failures_in_the_same_turn_those_past_the_limit_are_notes():
    def main():
        one, two, three = ValueError("one"), ValueError("two"), ValueError("three")
        yield from supervise(lambda: failing(1, one), lambda: failing(1, two), lambda: failing(1, three), restarts=1)

    with pytest.raises(LimitExceeded) as caught:
        run(main())
    assert str(caught.value.__cause__) == "two"
    assert caught.value.__notes__ == ["task 'failing' of the same supervise failed: ValueError: three"]


# Makers.


def test_a_generator_in_place_of_a_maker_is_refused_before_any_maker_is_called():
    body = nap(1)

    def main():
        with pytest.raises(SyscallError, match=r"supervise takes a function, which it calls itself, not <.* nap at"):
            yield from supervise(never, body)
        return (yield from untouched())

    assert run(main()) is True
    body.close()


def test_a_maker_that_returns_no_task_is_refused():
    def main():
        with pytest.raises(SyscallError, match="None is not a task: the function has run already"):
            yield from supervise(lambda: None)
        return (yield from untouched())

    assert run(main()) is True


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        (
            "the same",
            SyscallError,
            "task 'failing' cannot be restarted: its maker returned a task that has ended; make a fresh one",
        ),
        ("no task", SyscallError, "None is not a task: the function has run already"),
        ("an error", OSError, "out of workers"),
    ],
)
def test_a_maker_that_returns_no_fresh_task_at_a_restart_ends_the_supervisor(second, error, message):
    log, made = [], []

    def make():
        if made and second == "an error":
            raise OSError("out of workers")
        if made and second == "no task":
            return None
        made[:] = made or [failing(1, ValueError("v"))]
        return made[0]

    def main():
        with pytest.raises(error, match=message):
            yield from supervise(make, lambda: logged(log, 9, "sibling", cleanup=1))
        return (yield from untouched())

    assert run(main()) is True
    assert len(log) == 1 and log[0].startswith("sibling cancelled at 2: ")


# Cancelling.


def test_a_cancelled_supervisor_waits_for_the_cleanup_and_restarts_no_task():
    log, starts = [], []

    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(2.5)):
                makers = (lambda: failing_first(99, 1, None, starts)), lambda: logged(log, 9, "b", cleanup=2)
                yield from supervise(*makers)
        return (yield Now()), (yield from untouched())

    assert run(main()) == (4.5, True)
    assert (starts, log) == ([0, 1, 2], ["b cancelled at 4.5: its deadline has passed"])


def test_a_failure_in_the_cleanup_of_a_cancelled_supervisor_is_raised():
    error = ValueError("v")

    def main():
        with (yield MoveOnAfter(1)):
            with pytest.raises(ValueError) as caught:
                yield from supervise(lambda: cleaning(error), lambda: nap(9))
        return caught.value is error

    assert run(main()) is True


def test_in_a_cancelled_scope_each_task_runs_to_its_first_checkpoint():
    log = []

    def main():
        with (yield CancelScope()) as scope:
            scope.cancel("enough")
            yield from supervise(lambda: logged(log, 9, "a"), lambda: logged(log, 9, "b"))
            never()
        return scope.cancelled_caught

    assert run(main()) is True
    assert log == ["a cancelled at 0: enough", "b cancelled at 0: enough"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_keyboard_interrupt_ends_the_run_without_a_restart(kind):
    log, made = [], []

    def interrupted():
        made.append(1)
        yield from failing(1, kind())

    def main():
        yield from supervise(interrupted, lambda: logged(log, 9, "sibling", cleanup=1))

    with pytest.raises(kind):
        run(main())
    assert (len(made), len(log)) == (1, 1)


def test_a_child_that_swallows_each_cancelled_is_named():
    def mule():
        while True:
            try:
                yield Sleep(9)
            except Cancelled:
                pass

    def main():
        with (yield MoveOnAfter(1)):
            with pytest.raises(SyscallError, match="task 'mule' swallowed 1000 Cancelleds of one cancellation"):
                yield from supervise(mule)
        return (yield Now())

    assert run(main()) == 1


def test_a_closed_supervisor_passes_its_unreported_failures_to_its_task():
    errors = ValueError("one"), KeyError("two")

    def driven(call):
        """Drive a call until it waits for the next end, let its children end, and close it."""
        inner, answer = call, None
        while type(asked := inner.send(answer)).__name__ != "NextEnded":
            answer = yield asked
        yield Sleep(2)
        inner.close()

    def main():
        yield from driven(supervise(lambda: failing(1, errors[0]), lambda: nap(1), lambda: failing(1, errors[1])))
        return (yield from untouched())

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert caught.value.exceptions == errors


def test_a_supervisor_in_a_shield_runs_on():
    starts = []

    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            with (yield Shield(None)):
                return (yield from supervise(lambda: failing_first(1, 1, "result", starts)))

    assert run(main()) == ["result"]


# Supervisors of supervisors.


def test_a_supervisor_can_be_supervised():
    starts = []

    def inner():
        return (yield from supervise(lambda: failing_first(3, 1, "result", starts), restarts=1))

    def main():
        return (yield from supervise(inner, lambda: nap(1, "b"), restarts=1)), (yield Now())

    assert run(main()) == ([["result"], "b"], 4)
    assert starts == [0, 1, 2, 3]


def test_a_maker_can_return_a_supervisor():
    starts = []

    def main():
        makers = (lambda: supervise(lambda: failing_first(1, 1, "result", starts))), lambda: nap(1, "b")
        return (yield from supervise(*makers))

    assert run(main()) == [["result"], "b"]


def test_the_limit_exceeded_of_a_supervisor_is_a_failure_for_its_supervisor():
    log, starts = [], []

    def inner():
        yield from supervise(lambda: failing_first(99, 1, None, starts), restarts=1)

    def main():
        yield from supervise(inner, lambda: logged(log, 99, "b", cleanup=1), restarts=1)

    with pytest.raises(LimitExceeded, match="task 'inner' failed, and there were 1 restarts") as caught:
        run(main())
    assert len(starts) == 4
    assert isinstance(caught.value.__cause__, LimitExceeded)
    assert str(caught.value.__cause__.__cause__) == "failure 4"
    assert len(log) == 1 and log[0].startswith("b cancelled at 5: ")


def test_the_deadlock_report_names_the_owner_of_a_hanging_supervisor():
    def waiter(event):
        yield event.wait()

    def main():
        yield from supervise(lambda: waiter(Event()))

    with pytest.raises(Deadlock, match=r"main waits in NextEnded\(<Supervision supervise: 1 tasks alive>\)"):
        run(main())


def test_supervise_can_be_awaited_and_restarts_coroutines():
    starts = []

    async def worker():
        starts.append(await Now())
        await Sleep(1)
        if len(starts) < 2:
            raise ValueError
        return "result"

    async def main():
        return await supervise(worker)

    assert (run(main()), starts) == (["result"], [0, 1])
