"""Tests of TaskGroup and group: the block outlives its children, and no failure is lost."""

from __future__ import annotations

import gc
import re
import threading
import weakref

import pytest
from forms import add_async_forms
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
    Lock,
    MoveOnAfter,
    Now,
    Pause,
    Shield,
    Sleep,
    SleepUntil,
    Spawn,
    SyscallError,
    TaskCancelled,
    TaskGroup,
    TimedOut,
    Timeout,
    Watcher,
    group,
    testing,
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
    except Cancelled as error:
        with (yield Shield(None)):
            yield Sleep(cleanup)
        log.append(f"{name} cancelled at {(yield Now())}: {error.reason}")
        raise


def mule():
    while True:
        try:
            yield Sleep(9)
        except Cancelled:
            pass


def move(scope, at, deadline):
    """Set the deadline of a scope at the time `at`, when its timer is then the last one that was made."""
    yield SleepUntil(at)
    scope.deadline = deadline


def never():
    pytest.fail("the task should have been cancelled before this call")


def raised(main, **keywords):
    """Return the exception that a run raises."""
    with pytest.raises(BaseException) as caught:
        run(main, **keywords)
    return caught.value


# The block.


def test_a_group_returns_the_result_of_its_body_when_all_children_have_ended():
    log = []

    def body(team):
        for seconds in (3, 1, 2):
            yield team.spawn(logged(log, seconds, str(seconds)))
        return "result"

    def main():
        return (yield from group(body)), (yield Now())

    assert run(main()) == (("result"), 3)
    assert log == ["1 done", "2 done", "3 done"]


def test_a_body_can_be_a_plain_function_and_a_group_can_be_empty():
    def main():
        result = yield from group(lambda team: repr(team))
        return result, (yield from group(lambda team: None, "crew")), (yield Now())

    assert run(main()) == ("<TaskGroup #1: 0 tasks alive>", None, 0)


def test_a_body_can_return_any_awaitable():
    def main():
        return (yield from group(lambda team: team.spawn(nap(1, "result")))).name, (yield Now())

    assert run(main()) == ("nap", 1)


def test_a_group_without_living_children_is_not_a_checkpoint():
    def body(team):
        with (yield Shield(None)):
            yield Join((yield team.spawn(at_once("child"))))
        return "body"

    def at_once(result):
        return result
        yield

    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            return (yield from group(body)), (yield from group(lambda team: "at once"))

    assert run(main()) == ("body", "at once")


def test_a_generator_in_place_of_a_body_function_is_refused():
    body = nap(1)

    def main():
        yield from group(body)

    with pytest.raises(SyscallError, match=r"group takes a function, which it calls itself, not <.* nap at"):
        run(main())
    body.close()


def test_spawn_returns_the_task_which_can_be_joined():
    def body(team):
        task = yield team.spawn(nap(1, "result"), "napper")
        return task.name, (yield Join(task)), (yield Join(task))

    def main():
        return (yield from group(body))

    assert run(main()) == ("napper", "result", "result")


def test_a_child_can_spawn_another_in_its_group():
    log = []

    def child(team):
        yield Sleep(1)
        yield team.spawn(logged(log, 1, "grandchild"))

    def body(team):
        yield team.spawn(child(team))

    def main():
        yield from group(body)
        return (yield Now())

    assert (run(main()), log) == (2, ["grandchild done"])


def test_a_group_waits_for_the_children_of_its_children():
    def child():
        yield Spawn(nap(2))

    def body(team):
        yield team.spawn(child())

    def main():
        yield from group(body)
        return (yield Now())

    assert run(main()) == 2


def test_a_task_outside_can_spawn_in_a_group_and_the_child_is_cancelled_with_the_group():
    log = []

    def outsider(teams):
        yield Sleep(1)
        yield teams[0].spawn(logged(log, 9, "child"))

    def body(team, teams):
        teams.append(team)
        yield Sleep(5)
        team.cancel("enough")

    def main():
        teams = []
        yield Spawn(outsider(teams))
        yield from group(lambda team: body(team, teams))
        return (yield Now())

    assert (run(main()), log) == (5, ["child cancelled at 5.0: enough"])


def test_only_the_first_of_many_failures_is_put_into_a_sentence():
    class Failure(Exception):
        def __init__(self, number):
            self.number = number

        def __str__(self):
            described.append(self.number)
            return f"failure {self.number}"

    def fails(number):
        raise Failure(number)
        yield

    def body(group):
        for number in range(5):
            yield group.spawn(fails(number))
        yield Sleep(9)

    described = []
    error = raised(group(body))
    assert [failure.number for failure in error.exceptions] == [0, 1, 2, 3, 4]
    assert described == [0]


def test_an_ordinary_child_spawned_in_the_block_is_not_waited_for_but_cancelled_with_the_group():
    log = []

    def body(seconds):
        yield Spawn(logged(log, 5, f"beside {seconds}"))
        yield Sleep(seconds)
        if seconds == 2:
            raise KeyError

    def main():
        yield from group(lambda team: body(1))
        with pytest.raises(ExceptionGroup):
            yield from group(lambda team: body(2))
        log.append((yield Now()))

    run(main())
    message = "beside 2 cancelled at 3.0: the block of <TaskGroup #2: 0 tasks alive> raised KeyError"
    assert log == [3, message, "beside 1 done"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_group_can_be_used_only_inside_its_block(when):
    message = {
        "before": "<TaskGroup crew: 0 tasks alive> has not been entered yet: write `async with`",
        "after": "<TaskGroup crew: 0 tasks alive> has ended: its block was left",
    }[when]

    def main():
        team = TaskGroup("crew")
        if when == "after":
            yield from team.begin()
            assert (yield from team.end(None)) is None
        body = nap(1)
        with pytest.raises(SyscallError, match=message):
            yield team.spawn(body)
        body.close()
        with pytest.raises(SyscallError, match=message):
            team.cancel()
        with pytest.raises(SyscallError, match=message):
            yield from team.end(None)

    run(main())


def test_a_group_has_one_block_even_if_two_tasks_enter_it_at_once():
    outcomes = []

    def user(team, event):
        yield event.wait()
        try:
            yield from team.begin()
        except SyscallError as error:
            outcomes.append(str(error))
        else:
            outcomes.append("entered")
            yield from team.end(None)
        task = yield CurrentTask()
        outcomes.append(task.scope is task)

    def main():
        team, event = TaskGroup(), Event()
        for _ in range(2):
            yield Spawn(user(team, event))
        event.set()
        yield JoinAll()
        yield from user(team, event)

    run(main())
    refused = "<TaskGroup #1: 0 tasks alive> was entered before: make another one"
    assert outcomes == ["entered", refused, True, True, refused, True]


@pytest.mark.parametrize("body", [nap, None, Sleep(1)])
def test_spawning_anything_but_a_task_is_refused_and_the_group_goes_on(body):
    def block(team):
        with pytest.raises(SyscallError, match="not a task"):
            yield team.spawn(body)
        return len(team.alive), (yield Join((yield team.spawn(nap(1, "went on")))))

    def main():
        return (yield from group(block))

    assert run(main()) == (0, "went on")


def test_the_reprs_of_a_group_and_a_spawn_name_the_group_and_the_body():
    def body(team):
        calls = team.spawn(nap(1)), team.spawn(nap(1), "napper")
        yield calls[0]
        yield calls[1]
        yield Pause()
        return [repr(team), *map(repr, calls)]

    def main():
        return (yield from group(body, "crew"))

    team = "<TaskGroup crew: 2 tasks alive>"
    assert run(main()) == [team, f"SpawnIn({team}, nap)", f"SpawnIn({team}, napper)"]


def test_the_deadlock_report_names_the_owner_of_a_group_that_can_not_end():
    event = Event("never")

    def waiter():
        yield event.wait()

    def body(team):
        yield team.spawn(waiter())

    def main():
        yield from group(body, "crew")

    text = str(raised(main()))
    assert "0 main waits in AllEnded(<TaskGroup crew: 1 tasks alive>)" in text
    assert "0.0 waiter waits in EventWait(" in text


def test_the_deadlock_report_shows_a_cycle_through_a_group():
    lock = Lock()

    def waiter():
        yield lock.acquire()

    def body(team):
        yield team.spawn(waiter())

    def main():
        with (yield lock.acquire()):
            yield from group(body)

    assert re.search("a cycle: .*main -> .*waiter -> .*main", str(raised(main())))


# Failures.


def test_a_failed_child_cancels_the_others_and_the_body_and_its_failure_is_raised_in_a_group():
    log = []
    error = ValueError("v")

    def body(team):
        yield team.spawn(logged(log, 9, "sibling", cleanup=2))
        yield team.spawn(failing(1, error), "culprit")
        yield from logged(log, 9, "body")

    def main():
        with pytest.raises(ExceptionGroup, match=r"^failures in <TaskGroup crew: 0 tasks alive>") as caught:
            yield from group(body, "crew")
        assert caught.value.exceptions == (error,)
        return (yield Now())

    assert run(main()) == 3
    why = "task 'culprit' of its group failed: ValueError: v"
    assert log == [f"body cancelled at 1.0: {why}", f"sibling cancelled at 3.0: {why}"]


def test_a_failure_after_the_end_of_the_body_cancels_the_other_children():
    error = ValueError("v")

    def body(team):
        yield team.spawn(nap(9))
        yield team.spawn(failing(1, error))
        return "dropped"

    def main():
        with pytest.raises(ExceptionGroup) as caught:
            yield from group(body)
        return caught.value.exceptions == (error,), (yield Now())

    assert run(main()) == (True, 1)


def cleaning(error):
    """Raise an error while cleaning up."""
    try:
        yield Sleep(9)
    finally:
        raise error


def test_the_bodys_error_comes_first_and_the_childrens_follow_in_the_order_in_which_they_ended():
    errors = [KeyError("body"), ValueError("one"), OSError("two"), TypeError("three")]

    def body(team):
        yield team.spawn(cleaning(errors[3]))
        yield team.spawn(failing(1, errors[1]))
        yield team.spawn(failing(1, errors[2]))
        try:
            yield Sleep(9)
        finally:
            raise errors[0]

    def main():
        yield from group(body)

    assert list(raised(main()).exceptions) == errors[:3] + errors[3:]


def test_an_error_of_the_body_cancels_the_children_and_is_raised_in_a_group():
    log = []
    error = KeyError("k")

    def body(team):
        yield team.spawn(logged(log, 9, "child", cleanup=1))
        yield Sleep(1)
        raise error

    def main():
        with pytest.raises(ExceptionGroup) as caught:
            yield from group(body, "crew")
        return caught.value.exceptions == (error,), (yield Now())

    assert run(main()) == (True, 2)
    assert log == ["child cancelled at 2.0: the block of <TaskGroup crew: 1 tasks alive> raised KeyError: 'k'"]


def test_a_failure_that_the_body_has_joined_is_raised_once():
    error = ValueError("v")

    def body(team):
        task = yield team.spawn(failing(1, error))
        with (yield Shield(None)):
            yield Join(task)

    def main():
        yield from group(body)

    assert raised(main()).exceptions == (error,)


def test_a_failure_that_the_body_has_caught_is_raised_nevertheless():
    error = ValueError("v")

    def body(team):
        task = yield team.spawn(failing(1, error))
        with (yield Shield(None)):
            with pytest.raises(ValueError):
                yield Join(task)
        return "dropped"

    def main():
        yield from group(body)

    assert raised(main()).exceptions == (error,)


def test_a_cancelled_that_except_star_put_into_a_group_is_not_raised():
    errors = ValueError("child"), KeyError("body")

    def body(team):
        yield team.spawn(failing(1, errors[0]))
        try:
            yield Sleep(9)
        except Cancelled as error:
            raise BaseExceptionGroup("of the body", [error, errors[1]]) from None

    def main():
        yield from group(body)

    own, childs = raised(main()).exceptions
    assert (own.exceptions, childs) == ((errors[1],), errors[0])


def test_a_group_in_a_group_passes_its_failure_on():
    error = ValueError("v")

    def inner(team):
        yield team.spawn(failing(1, error))

    def outer(team):
        yield team.spawn(group(inner))
        yield team.spawn(nap(9))

    def main():
        with pytest.raises(ExceptionGroup) as caught:
            yield from group(outer)
        return caught.value.exceptions[0].exceptions == (error,), (yield Now())

    assert run(main()) == (True, 1)


def test_the_owner_of_a_failed_group_is_not_cancelled_afterwards():
    def body(team):
        yield team.spawn(failing(1, ValueError("v")))

    def main():
        with pytest.raises(ExceptionGroup):
            yield from group(body)
        task = yield CurrentTask()
        yield Sleep(1)  # main is not cancelled
        return task.scope is task, task.kernel.service(Lifecycle).failed.get(task), task.live_children

    assert run(main()) == (True, None, 0)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["child", "body", "shielded"])
def test_a_keyboard_interrupt_ends_the_run_after_the_cleanup(kind, where):
    log = []
    error = kind()

    def body(team):
        yield team.spawn(logged(log, 9, "sibling", cleanup=1))
        if where == "body":
            yield from failing(1, error)
        yield team.spawn(failing(1, error))
        yield Sleep(9)

    def main():
        if where == "shielded":
            with (yield Shield(3)):
                yield from group(body)
        yield from group(body)

    assert raised(main()) is error
    at = "4.0" if where == "shielded" else "2.0"
    assert [line.split(":")[0] for line in log] == [f"sibling cancelled at {at}"]


def test_a_child_that_swallows_each_cancelled_is_closed_and_its_error_is_in_the_group():
    def body(team):
        yield team.spawn(mule(), "mule")
        yield Sleep(1)
        team.cancel()

    def main():
        yield from group(body)

    (error,) = raised(main()).exceptions
    assert str(error).startswith("task 'mule' swallowed 1000 Cancelleds of one cancellation")


def test_an_owner_that_swallows_each_cancelled_is_closed_and_its_childrens_failures_are_not_lost():
    log = []
    error = ValueError("v")

    def body(team):
        yield team.spawn(failing(1, error))
        yield team.spawn(logged(log, 9, "sibling", cleanup=1))
        yield from mule()

    def main():
        yield from group(body)

    own, childs = raised(main()).exceptions
    assert str(own).startswith("task 'main' swallowed 1000 Cancelleds")
    assert childs is error
    assert log == ["sibling cancelled at 2.0: task 'failing' of its group failed: ValueError: v"]


def driven(call, until):
    """Drive a call until it yields a syscall of the name `until`, and close it, as a wrapper of calls may do."""
    inner, answer = call.__await__() if hasattr(call, "__await__") else call, None
    while type(asked := inner.send(answer)).__name__ != until:
        answer = yield asked
    inner.close()


def test_a_closed_group_cancels_its_children_and_leaves_them_to_its_task():
    log = []
    error = ValueError("v")

    def breaking():
        try:
            yield Sleep(9)
        except Cancelled:
            raise error from None

    def body(team):
        yield team.spawn(breaking())
        yield team.spawn(logged(log, 9, "sibling", cleanup=3))
        yield Sleep(2)

    def main():
        yield from driven(group(body, "team"), "Sleep")
        task = yield CurrentTask()
        log.append((task.scope is task, task.live_children))  # the other child has had its turn already
        yield JoinAll()
        log.append((yield Now()))

    assert raised(main()).exceptions == (error,)
    reason = "the block of <TaskGroup team: 2 tasks alive> raised GeneratorExit"
    assert log == [(True, 1), f"sibling cancelled at 3.0: {reason}", 3]


def test_a_group_that_another_task_closes_leaves_its_children_running():
    log = []

    def body(team):
        yield team.spawn(logged(log, 2, "child"))
        yield Event().wait()

    def closes(inner):
        yield Sleep(1)
        with pytest.raises(SyscallError, match="entered or left by another task, or between turns"):
            inner.close()

    def main():
        inner, answer = group(body), None
        yield Spawn(closes(inner))
        with (yield MoveOnAfter(3)):
            while True:
                answer = yield inner.send(answer)

    with pytest.raises(SyscallError, match="out of order"):
        run(main())
    assert log == ["child done"]


def test_a_group_closed_while_it_waits_cancels_its_children_and_leaves_them_to_its_task():
    log = []

    def body(team):
        yield team.spawn(logged(log, 9, "child", cleanup=1))

    def main():
        yield from driven(group(body, "team"), "AllEnded")
        task = yield CurrentTask()
        left = task.scope is task, task.live_children
        yield JoinAll()
        return left, task.live_children, (yield Now())

    assert run(main()) == ((True, 1), 0, 1)
    assert log == ["child cancelled at 1.0: the block of <TaskGroup team: 1 tasks alive> was closed"]


def test_a_failure_recorded_before_the_group_was_closed_goes_to_its_task():
    error = ValueError("v")

    def body(team):
        yield team.spawn(failing(1, error))
        yield team.spawn(logged([], 9, "sibling", cleanup=5))
        with (yield Shield(None)):
            yield Sleep(2)
        raise KeyError

    def main():
        yield from driven(group(body), "CancelledEnded")
        with (yield Shield(None)):
            yield JoinAll()
        return (yield Now())

    assert raised(main()).exceptions == (error,)


@pytest.mark.parametrize("of", ["a child", "the body"])
def test_a_body_that_leaves_a_scope_open_gets_an_error_whose_cause_has_the_failures(of):
    error = ValueError("v")

    def body(team):
        (yield MoveOnAfter(5)).__enter__()
        if of == "the body":
            raise error
        yield team.spawn(failing(1, error))

    def main():
        with pytest.raises(SyscallError, match="left out of order") as caught:
            yield from group(body)
        return caught.value.__cause__.exceptions

    assert run(main()) == (error,)


# Cancelling.


@pytest.mark.parametrize("canceller_is", ["body", "child", "outsider"])
def test_cancel_ends_a_group_without_an_error(canceller_is):
    log = []

    def canceller(teams):
        yield Sleep(1)
        teams[0].cancel("enough")

    def body(team, teams):
        teams.append(team)
        yield team.spawn(logged(log, 9, "child", cleanup=1))
        if canceller_is == "child":
            yield team.spawn(canceller(teams))
        elif canceller_is == "body":
            yield from canceller(teams)
        yield from logged(log, 9, "body")

    def main():
        teams = []
        if canceller_is == "outsider":
            yield Spawn(canceller(teams))
        return (yield from group(lambda team: body(team, teams))), (yield Now())

    assert run(main()) == (None, 2)
    assert log == ["body cancelled at 1.0: enough", "child cancelled at 2.0: enough"]


@pytest.mark.parametrize("children", [0, 1])
def test_the_result_of_the_body_is_returned_if_the_group_is_cancelled_after_it(children):
    def body(team):
        for _ in range(children):
            yield team.spawn(nap(9))
        yield Sleep(1)
        team.cancel()
        return "result"

    def main():
        return (yield from group(body)), (yield Now())

    assert run(main()) == ("result", 1)


def test_cancel_is_refused_in_another_thread():
    refused = []

    def elsewhere(team):
        try:
            team.cancel()
        except SyscallError as error:
            refused.append(str(error))

    def body(team):
        thread = threading.Thread(target=elsewhere, args=[team])
        thread.start()
        thread.join()
        yield Sleep(1)
        return "went on"

    def main():
        return (yield from group(body))

    assert run(main()) == "went on"
    assert "in another thread than its run's" in refused[0]


def test_spawning_in_a_group_of_another_run_is_refused():
    seen = []

    def stranger(team):
        body = nap(1)
        with pytest.raises(SyscallError, match=r"spawn of <TaskGroup .*> in another thread than its run's"):
            yield team.spawn(body)
        body.close()
        seen.append(len(team.alive))

    def body(team):
        thread = threading.Thread(target=run, args=[stranger(team)])
        thread.start()
        thread.join()
        yield Pause()

    def main():
        yield from group(body)

    run(main())
    assert seen == [0]


def test_a_task_spawned_in_a_cancelled_group_runs_to_its_first_checkpoint():
    log = []

    def late():
        log.append("begun")
        yield
        never()

    def body(team):
        team.cancel()
        yield team.spawn(late())
        log.append("spawned")

    def main():
        yield from group(body)

    run(main())
    assert log == ["begun", "spawned"]


def test_cancelling_one_child_does_not_end_the_group():
    log = []

    def body(team):
        task = yield team.spawn(nap(9))
        yield team.spawn(logged(log, 2, "sibling"))
        yield Sleep(1)
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        return "result"

    def main():
        return (yield from group(body)), (yield Now())

    assert (run(main()), log) == (("result", 2), ["sibling done"])


def test_a_cancellation_from_outside_cancels_body_and_children_and_is_raised_when_they_have_ended():
    log = []

    def body(team):
        yield team.spawn(logged(log, 9, "child", cleanup=3))
        yield from logged(log, 9, "body", cleanup=1)

    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield from group(body)
            never()
        return scope.cancelled_caught, (yield Now())

    assert run(main()) == (True, 4)
    why = "its deadline has passed"
    assert log == [f"body cancelled at 2.0: {why}", f"child cancelled at 4.0: {why}"]


def test_a_timeout_around_a_group_that_waits_for_its_children_raises_timed_out():
    log = []

    def body(team):
        yield team.spawn(logged(log, 9, "child", cleanup=3))

    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(1)):
                yield from group(body)
        return (yield Now())

    assert (run(main()), len(log)) == (4, 1)


def test_a_failure_during_the_cleanup_after_a_cancellation_from_outside_is_raised_in_its_place():
    error = ValueError("v")

    def body(team):
        yield team.spawn(cleaning(error))
        yield Sleep(9)

    def main():
        with (yield MoveOnAfter(1)):
            with pytest.raises(ExceptionGroup) as caught:
                yield from group(body)
        return caught.value.exceptions

    assert run(main()) == (error,)


def test_a_cancellation_after_the_last_end_in_the_same_turn_waits_for_the_next_checkpoint():
    def body(team):
        yield team.spawn(nap(1))
        return "result"

    def main():
        with (yield MoveOnAfter(None)) as scope:
            yield Spawn(move(scope, 1, 1))  # spawned before the child: its turn comes first, but after the timers
            result = yield from group(body)
            assert scope.cancel_called
            return result
        never()

    assert run(main()) == "result"


def test_a_cancellation_before_the_last_end_in_the_same_turn_cuts_the_child_short():
    log = []

    def body(team):
        yield team.spawn(logged(log, 1, "child"))
        return "result"

    def main():
        with (yield MoveOnAfter(1)) as scope:  # its timer is the first
            yield from group(body)
            never()
        return scope.cancelled_caught

    assert (run(main()), log) == (True, ["child cancelled at 1.0: its deadline has passed"])


def test_a_cancellation_that_interrupts_no_child_is_raised_at_the_next_checkpoint():
    def patient():
        with (yield Shield(None)):
            yield Sleep(3)

    def body(team):
        yield team.spawn(patient())
        return "result"

    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(1)):
                result = yield from group(body)
                now = yield Now()
                yield
                never()
        return result, now

    assert run(main()) == ("result", 3)


def test_a_group_in_a_shield_is_not_cancelled_from_outside():
    log = []

    def body(team):
        yield team.spawn(logged(log, 2, "child"))
        return "cleaned"

    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            try:
                yield
            finally:
                with (yield Shield(None)):
                    log.append((yield from group(body)))
        return (yield Now())

    assert (run(main()), log) == (2, ["child done", "cleaned"])


def last_end(event):
    """Set an event in the last turn of this child: the task that waits for it has its turn before the owner."""
    with (yield Shield(None)):
        yield Sleep(1)
    event.set()


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_group_waits_for_a_task_spawned_between_the_last_end_and_the_owners_turn(cancelled):
    log = []

    def stranger(teams, event):
        yield event.wait()
        yield teams[0].spawn(logged(log, 2, "late", cleanup=1))
        log.append("spawned")

    def body(team, teams, event):
        teams.append(team)
        yield team.spawn(last_end(event))
        if cancelled:
            team.cancel("enough")

    def main():
        teams, event = [], Event()
        yield Spawn(stranger(teams, event))
        yield from group(lambda team: body(team, teams, event))
        log.append((yield Now()))
        return len(teams[0].alive)

    assert run(main()) == 0
    assert log == (["spawned", "late cancelled at 2.0: enough", 2] if cancelled else ["spawned", "late done", 3])


# Scopes.


def test_a_child_spawned_in_an_inner_scope_of_the_owner_belongs_to_the_groups_scope():
    log = []

    def body(team):
        with (yield MoveOnAfter(1)) as inner:
            yield team.spawn(logged(log, 3, "child"))
            yield Sleep(9)
        return inner.cancelled_caught, inner.last_child is None

    def main():
        return (yield from group(body)), (yield Now())

    assert (run(main()), log) == (((True, True), 3), ["child done"])


def test_a_child_spawned_in_a_cancelled_inner_scope_is_not_cancelled():
    log = []

    def body(team):
        with (yield CancelScope()) as inner:
            inner.cancel()
            yield team.spawn(logged(log, 1, "child"))
            yield

    def main():
        yield from group(body)

    run(main())
    assert log == ["child done"]


def test_a_child_spawned_in_a_shield_of_the_owner_is_not_shielded():
    log = []

    def body(team):
        with (yield Shield(None)):
            yield team.spawn(logged(log, 9, "child"))
            team.cancel("enough")
            yield Sleep(1)
            log.append("body")

    def main():
        yield from group(body)

    run(main())
    assert log == ["child cancelled at 0.0: enough", "body"]


def test_a_body_that_cleans_up_can_spawn_in_its_group():
    log = []

    def helper():
        with (yield Shield(None)):
            yield Sleep(2)
            log.append("helped")

    def body(team):
        try:
            yield Sleep(9)
        finally:
            yield team.spawn(helper())

    def main():
        with (yield MoveOnAfter(1)):
            yield from group(body)
        return (yield Now())

    assert (run(main()), log) == (3, ["helped"])


# Many children.

SIZES = pytest.mark.parametrize("size", [100, pytest.param(1000, marks=pytest.mark.slow)])


class Result:
    """A result to which weak references can be made."""


@SIZES
def test_ended_children_and_their_results_are_not_kept(size):
    results = []

    def child(number):
        yield Sleep(number % 3)
        result = Result()
        results.append(weakref.ref(result))
        return result

    def body(team):
        for number in range(size):
            yield team.spawn(child(number))
            if number % 50 == 49:
                yield Sleep(5)
                assert (len(team.alive), len(team.failed), len(team.waiters)) == (0, 0, 0)
        gc.collect()
        owner = yield CurrentTask()
        failed = owner.kernel.service(Lifecycle).failed.get(owner)
        return sum(result() is not None for result in results), failed, owner.live_children, team.scope.last_child

    def main():
        return (yield from group(body))

    assert run(main()) == (0, None, 0, None)
    assert len(results) == size


class Wakes(Watcher):
    """Count the wake-ups of main."""

    def __init__(self):
        self.count = 0

    def wake(self, task, by):
        self.count += task.spawner is None


@SIZES
def test_many_children_wake_their_owner_once(size):
    wakes = Wakes()

    def body(team):
        for number in range(size):
            yield team.spawn(nap(number % 7))

    def main():
        yield from group(body)
        return (yield Now())

    assert (run(main(), watch=[wakes]), wakes.count) == (6, 1)


@SIZES
def test_many_failures_in_the_same_turn_are_all_raised(size):
    def body(team):
        for number in range(size):
            yield team.spawn(cleaning(ValueError(number)))
        raise KeyError

    def main():
        yield from group(body)

    own, *others = raised(main()).exceptions
    assert (type(own), [error.args[0] for error in others]) == (KeyError, list(range(size)))


# async with.


async def sleeps(seconds):
    await Sleep(seconds)


def test_async_with_waits_for_the_children():
    async def main():
        async with TaskGroup("crew") as team:
            assert repr(team) == "<TaskGroup crew: 0 tasks alive>"
            task = await team.spawn(nap(2, "result"))
            await team.spawn(sleeps(3))
        return await Join(task), await Now()

    assert run(main()) == ("result", 3)


def test_async_with_raises_the_failures_of_the_children_and_the_body_in_a_group():
    errors = KeyError("body"), ValueError("child")

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with TaskGroup() as team:
                await team.spawn(failing(1, errors[1]))
                try:
                    await Sleep(9)
                finally:
                    raise errors[0]
        assert caught.value.exceptions == errors
        assert caught.value.__context__ is None  # without the repair it would be the KeyError
        return await Now()

    assert run(main()) == 1


def test_async_with_is_cut_short_by_a_failure():
    error = ValueError("v")

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with TaskGroup() as team:
                await team.spawn(failing(1, error))
                await Sleep(9)
                never()
        return caught.value.exceptions, await Now()

    assert run(main()) == ((error,), 1)


def test_async_with_ends_without_an_error_when_the_group_is_cancelled():
    async def main():
        async with TaskGroup() as team:
            await team.spawn(sleeps(9))
            team.cancel()
            await Sleep(9)
            never()
        return await Now()

    assert run(main()) == 0


def test_async_with_raises_a_cancellation_from_outside():
    log = []

    async def main():
        with await MoveOnAfter(1) as scope:
            async with TaskGroup() as team:
                await team.spawn(logged(log, 9, "child", cleanup=1))
                await Sleep(9)
            never()
        return scope.cancelled_caught, await Now()

    assert (run(main()), log) == ((True, 2), ["child cancelled at 2.0: its deadline has passed"])


def test_async_with_that_is_left_early_waits_for_the_children():
    async def main():
        for number in range(3):
            async with TaskGroup() as team:
                await team.spawn(sleeps(2))
                if number == 1:
                    break
        return number, await Now()

    assert run(main()) == (1, 4)


def test_a_second_async_with_of_the_same_group_is_refused():
    async def main():
        team = TaskGroup()
        async with team:
            pass
        with pytest.raises(SyscallError, match="was entered before: make another one"):
            async with team:
                never()

    run(main())


def test_a_closed_async_with_leaves_its_children_to_its_task():
    error = ValueError("v")

    async def main():
        async with TaskGroup() as team:
            await team.spawn(failing(1, error))
            while True:
                try:
                    await Sleep(9)
                except Cancelled:
                    pass

    own, childs = raised(main()).exceptions
    assert (type(own), childs) == (SyscallError, error)


@pytest.mark.parametrize("where", ["in its body", "waiting for its children"])
def test_an_aborted_run_closes_its_groups(where):
    def stuck():
        with (yield Shield(None)):
            yield Event().wait()

    def body(team):
        yield team.spawn(stuck())
        if where == "in its body":
            yield from stuck()

    def main():
        yield from group(body)

    with pytest.raises(Deadlock) as caught:
        testing.run(main())
    assert not hasattr(caught.value, "__notes__")  # closing it raised nothing


add_async_forms(globals())
