"""Tests of CancelScope, MoveOnAfter, Timeout and Shield: the cancelled tasks, the times and the exceptions."""

from __future__ import annotations

import threading
from math import inf, nan

import pytest
from leaks import run

from minisched import (
    Cancel,
    Cancelled,
    CancelScope,
    CurrentTask,
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
    Timers,
    race,
)
from minisched.tasks.scopes import ScopeContext


def move(scope, at, deadline):
    """Set the deadline of a scope at the time `at`, when its timer is then the last one that was made."""
    yield SleepUntil(at)
    scope.deadline = deadline


def cancel(scope, at, reason=None):
    yield SleepUntil(at)
    scope.cancel(reason)


def timers_of(scope):
    timers = scope.owner.kernel.service(Timers)
    return timers.alive()


# Cancelling.


def test_cancel_ends_the_block_and_the_task_goes_on():
    def main():
        with (yield CancelScope()) as scope:
            assert (scope.cancel_called, scope.cancelled_caught) == (False, False)
            scope.cancel("enough")
            assert (scope.cancel_called, scope.cancelled_caught) == (True, False)
            yield Sleep(5)
            pytest.fail("the sleep should have been cancelled")
        yield Sleep(1)
        return scope.cancelled_caught, (yield Now())

    assert run(main()) == (True, 1)


def test_cancelled_has_the_reason_and_the_task_that_cancelled():
    def main():
        with (yield CancelScope()) as scope:
            yield Spawn(cancel(scope, 1, "enough"), "canceller")
            try:
                yield Sleep(5)
            except Cancelled as error:
                seen = error.reason, error.by.name, str(error)
                raise
        return seen

    assert run(main()) == ("enough", "canceller", "enough (by task 'canceller')")


def test_a_cancellation_by_a_deadline_names_no_task():
    def main():
        with (yield MoveOnAfter(1)):
            try:
                yield Sleep(5)
            except Cancelled as error:
                seen = error.reason, error.by, str(error)
                raise
        return seen

    assert run(main()) == ("its deadline has passed", None, "its deadline has passed")


def test_the_first_reason_is_kept():
    def main():
        with (yield MoveOnAfter(1)) as scope:
            scope.cancel("first")
            scope.cancel("second")
            try:
                yield
            except Cancelled:
                try:
                    with (yield Shield(None)):
                        yield Sleep(2)  # the deadline passes, too
                    yield
                except Cancelled as error:
                    assert error.reason == "first"
                    raise
        return scope.cancelled_caught

    assert run(main()) is True


def test_cancelling_a_scope_that_was_left_does_nothing():
    def main():
        with (yield CancelScope()) as scope:
            yield
        scope.cancel()
        yield
        return scope.cancel_called

    assert run(main()) is False


def test_a_child_can_cancel_the_scope_it_was_spawned_in():
    def main():
        with (yield CancelScope()) as scope:
            yield Spawn(cancel(scope, 1))
            yield Sleep(5)
        return scope.cancelled_caught, (yield Now())

    assert run(main()) == (True, 1)


def test_a_scope_can_not_be_cancelled_or_moved_in_another_thread():
    refused = []

    def elsewhere(scope):
        for meddle in (scope.cancel, lambda: setattr(scope, "deadline", 0)):
            try:
                meddle()
            except SyscallError as error:
                refused.append(str(error))

    def main():
        with (yield MoveOnAfter(9)) as scope:
            thread = threading.Thread(target=elsewhere, args=[scope])
            thread.start()
            thread.join()
            assert (scope.cancel_called, scope.deadline) == (False, 9)
            scope.cancel()
            yield

    run(main())
    where = "of <CancelContext of task 'main'> in another thread than its run's"
    assert [text.split(", ")[0] for text in refused] == [f"cancel {where}", f"moving the deadline {where}"]


# Entering and leaving.


@pytest.mark.parametrize("ask", [CancelScope, lambda: MoveOnAfter(1), lambda: Timeout(1), lambda: Shield(1)])
def test_a_scope_can_be_entered_once(ask):
    def main():
        scope = yield ask()
        with scope:
            with pytest.raises(SyscallError, match="a scope is entered once, and task 'main' has entered this one"):
                scope.__enter__()
        with pytest.raises(SyscallError, match="a scope is entered once"), scope:
            pytest.fail("entered")

    run(main())


def test_a_syscall_that_is_yielded_twice_returns_two_scopes():
    def main():
        call = MoveOnAfter(1)
        for _ in range(2):
            with (yield call) as scope:
                yield Sleep(5)
            assert scope.cancelled_caught
        return (yield Now())

    assert run(main()) == 2


def test_the_time_of_a_scope_counts_from_its_entry():
    def main():
        scope = yield MoveOnAfter(2)
        assert (scope.deadline, timers_of(scope)) == (inf, [])
        yield Sleep(5)
        with scope:
            assert scope.deadline == 7
            yield Sleep(9)
        return scope.cancelled_caught, (yield Now())

    assert run(main()) == (True, 7)


def test_a_scope_that_was_cancelled_before_its_entry_cancels_from_the_entry_on():
    def main():
        scope = yield CancelScope()
        scope.cancel()
        yield Sleep(1)
        with scope:
            yield Sleep(1)
            pytest.fail("the sleep should have been cancelled")
        return scope.cancelled_caught

    assert run(main()) is True


@pytest.mark.parametrize("ask", [CancelScope, lambda: MoveOnAfter(1), lambda: Timeout(1), lambda: Shield(1), Pause])
def test_yielding_and_entering_a_scope_are_not_checkpoints(ask):
    def main():
        with (yield CancelScope()) as outer:
            outer.cancel()
            scope = yield ask()
            assert ask is not Pause
            with scope:
                pass
            return "through"
        return "cut short"

    assert run(main()) == ("cut short" if ask is Pause else "through")


def test_a_scope_can_only_be_entered_and_left_by_the_task_that_yielded_it():
    message = "a scope of task 'main' was entered or left by another task, or between turns: each task asks for its own"

    def other(scope):
        with pytest.raises(SyscallError, match=message):
            scope.__enter__()
        yield

    def leaver(scope):
        with pytest.raises(SyscallError, match=message):
            scope.__exit__(None, None, None)
        yield

    def main():
        scope = yield MoveOnAfter(1)
        yield Spawn(other(scope))
        with scope:
            yield Spawn(leaver(scope))
            yield Sleep(5)
        return scope.cancelled_caught

    assert run(main()) is True


def test_a_scope_can_not_be_entered_after_its_run():
    def main():
        return (yield CancelScope())

    with pytest.raises(SyscallError, match="a scope of task 'main' was entered or left"), run(main()):
        pass


def test_leaving_scopes_out_of_order_is_refused_and_both_still_work():
    def main():
        outer, inner = (yield MoveOnAfter(3)), (yield MoveOnAfter(2))
        outer.__enter__()
        inner.__enter__()
        with pytest.raises(SyscallError, match="left out of order: leave scopes in the reverse order"):
            outer.__exit__(None, None, None)
        with pytest.raises(Cancelled) as caught:
            yield Sleep(9)
        assert (yield Now()) == 2
        assert inner.__exit__(Cancelled, caught.value, None) is True
        with pytest.raises(Cancelled) as caught:
            yield Sleep(9)
        assert outer.__exit__(Cancelled, caught.value, None) is True
        return (yield Now()), timers_of(outer)

    assert run(main()) == (3, [])


def test_an_async_generator_that_yields_across_a_with_gets_an_error_that_explains_it():
    async def numbers():
        with await MoveOnAfter(1):
            yield 1

    async def main():
        with pytest.raises(SyscallError, match=r"left out of order: .*don't `yield` across a `with` in a generator"):
            with await MoveOnAfter(2):
                one = numbers()
                assert await anext(one) == 1
        await one.aclose()

    run(main())


def test_an_async_generator_that_is_exhausted_may_yield_across_a_with():
    async def numbers():
        with await MoveOnAfter(1) as scope:
            yield 1
        assert not scope.cancelled_caught

    async def main():
        return [number async for number in numbers()], await Now()

    assert run(main()) == ([1], 0)


def test_a_task_that_ends_with_scopes_open_leaves_no_timer():
    def careless():
        (yield MoveOnAfter(5)).__enter__()
        (yield Timeout(6)).__enter__()
        yield

    def main():
        with (yield CancelScope()) as scope:
            yield Spawn(careless())
            yield JoinAll()
            return timers_of(scope)

    assert run(main()) == []


@pytest.mark.parametrize("kind", [MoveOnAfter, Timeout, Shield])
def test_leaving_a_scope_in_any_way_cancels_its_timer(kind):
    def main():
        with (yield kind(5)) as scope:
            yield Sleep(1)
        with pytest.raises(KeyError):
            with (yield kind(5)):
                raise KeyError
        with (yield CancelScope()) as outer:
            outer.cancel()
            with (yield kind(5)):
                raise Cancelled
        scope.deadline = 7
        assert scope.deadline == 7
        return timers_of(scope), (yield Now())

    assert run(main()) == ([], 1)


def test_cancelling_a_task_inside_a_timeout_cancels_the_timer():
    def waiter():
        with (yield Timeout(50)):
            yield Sleep(9)

    def main():
        task = yield Spawn(waiter())
        yield
        yield Cancel(task)
        yield JoinAll()
        with (yield CancelScope()) as scope:
            return timers_of(scope)

    assert run(main()) == []


def test_the_repr_of_a_scope_names_its_task():
    def main():
        with (yield CancelScope()) as scope, (yield Shield(1)) as shield:
            return repr(scope), repr(shield)

    assert run(main()) == ("<CancelContext of task 'main'>", "<ShieldContext of task 'main'>")


def test_a_subclass_of_scope_context_has_to_implement_expire():
    def main():
        with pytest.raises(NotImplementedError), ScopeContext((yield CurrentTask()), 0):
            pytest.fail("entered")
        yield

    run(main())


# Seconds and deadlines.


@pytest.mark.parametrize("kind", [MoveOnAfter, Timeout, Shield])
@pytest.mark.parametrize("seconds", [-1, -inf, nan])
def test_negative_seconds_and_nan_are_refused_at_the_yield(kind, seconds):
    def main():
        with pytest.raises(ValueError, match=f"a number of seconds, 0 or more, or None for no limit, not {seconds!r}"):
            yield kind(seconds)
        return "went on"

    assert run(main()) == "went on"


@pytest.mark.parametrize("kind", [MoveOnAfter, Timeout])
@pytest.mark.parametrize("seconds", [None, inf])
def test_none_and_infinity_mean_no_deadline(kind, seconds):
    def main():
        with (yield kind(seconds)) as scope:
            assert (scope.deadline, timers_of(scope)) == (inf, [])
            yield Sleep(10**9)
        return scope.cancelled_caught

    assert run(main()) is False


def never():
    pytest.fail("the task should have been cancelled before this call")


@pytest.mark.parametrize("wait", [None, Sleep(0), Sleep(1), Pause(), JoinAll()], ids=repr)
def test_zero_seconds_cancel_at_the_first_checkpoint(wait):
    def main():
        with (yield MoveOnAfter(0)) as scope:
            assert scope.cancel_called
            task = yield CurrentTask()
            now = yield Now()
            if wait is None:
                yield
            else:
                yield wait
            never()
        return scope.cancelled_caught, task.name, now

    assert run(main()) == (True, "main", 0)


def test_zero_seconds_without_a_checkpoint_interrupt_nothing():
    def main():
        with (yield Timeout(0)) as scope:
            yield Now()
        return scope.cancel_called, scope.cancelled_caught

    assert run(main()) == (True, False)


MOVES = [
    (7, 7),
    (3, 3),
    (2, 2),
    (1, 2),
    (-inf, 2),
    (inf, None),
    (None, None),
    (5, 5),
]  # moved from 5, at time 2: deadline, end


@pytest.mark.parametrize(("deadline", "end"), MOVES)
@pytest.mark.parametrize("by", ["itself", "another"])
def test_a_deadline_can_be_moved_inside_the_with(deadline, end, by):
    def main():
        with (yield MoveOnAfter(5)) as scope:
            if by == "another":
                yield Spawn(move(scope, 2, deadline))
            else:
                yield SleepUntil(2)
                scope.deadline = deadline
                assert scope.deadline == (inf if deadline is None else deadline)
                assert len(timers_of(scope)) == (end not in (None, 2))
            yield Sleep(50)
        return (yield Now()) if scope.cancelled_caught else None

    assert run(main()) == end


@pytest.mark.parametrize(("deadline", "end"), MOVES)
def test_a_deadline_that_is_set_before_the_with_replaces_the_seconds(deadline, end):
    def main():
        scope = yield MoveOnAfter(5)
        scope.deadline = deadline
        assert timers_of(scope) == []
        yield Sleep(2)
        with scope:
            yield Sleep(50)
        return (yield Now()) if scope.cancelled_caught else None

    assert run(main()) == end


def test_a_cancel_scope_can_be_given_a_deadline():
    def main():
        with (yield CancelScope()) as scope:
            scope.deadline = 3
            yield Sleep(5)
        return scope.cancelled_caught, (yield Now())

    assert run(main()) == (True, 3)


def test_nan_is_refused_as_a_deadline_and_the_old_deadline_stays():
    def main():
        with (yield MoveOnAfter(5)) as scope:
            with pytest.raises(ValueError, match="deadline is a time in seconds, or infinity or None for no limit"):
                scope.deadline = nan
            yield Sleep(50)
        return scope.deadline, (yield Now())

    assert run(main()) == (5, 5)


@pytest.mark.parametrize("wrong", ["5", True, 5j, [5]], ids=type)
def test_a_value_that_is_not_a_time_is_refused_before_the_entry_and_the_old_deadline_stays(wrong):
    def main():
        with pytest.raises(TypeError):
            yield MoveOnAfter(wrong)
        with (yield MoveOnAfter(5)) as scope:
            with pytest.raises(TypeError):
                scope.deadline = wrong
            yield Sleep(50)
        return scope.deadline, (yield Now())

    assert run(main()) == (5, 5)


def test_moving_a_deadline_that_has_passed_does_not_revoke_the_cancellation():
    def main():
        with (yield MoveOnAfter(0)) as scope:
            scope.deadline = inf
            yield Sleep(1)
            never()
        return scope.cancelled_caught

    assert run(main()) is True


@pytest.mark.parametrize("deadline", [-1, 2])
def test_a_timeout_whose_deadline_comes_twice_has_timed_out(deadline):
    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(1)) as scope:
                try:
                    yield Sleep(9)
                finally:
                    scope.deadline = deadline
                    with (yield Shield(None)):
                        yield Sleep(3)
        return (yield Now())

    assert run(main()) == 4


# Timeout.


def test_timeout_raises_timed_out_with_its_scope():
    def main():
        with pytest.raises(TimedOut, match=r"^task 'main' timed out: 1.5 s have passed$") as caught:
            with (yield Timeout(1.5)) as scope:
                yield Sleep(5)
        error = caught.value
        assert error.scope is scope and scope.cancelled_caught and isinstance(error, TimeoutError)
        assert error.__cause__ is None and error.__suppress_context__  # the Cancelled is not shown
        return (yield Now())

    assert run(main()) == 1.5


def test_timed_out_says_that_a_moved_deadline_has_passed():
    def main():
        with pytest.raises(TimedOut, match=r"^task 'main' timed out: its deadline has passed$"):
            with (yield Timeout(5)) as scope:
                scope.deadline = 1
                yield Sleep(5)
        return (yield Now())

    assert run(main()) == 1


def test_a_timeout_that_was_cancelled_before_its_deadline_has_not_timed_out():
    def main():
        with (yield Timeout(1)) as scope:
            yield Spawn(cancel(scope, 0.5))
            try:
                yield Sleep(9)
            finally:
                with (yield Shield(None)):
                    yield Sleep(5)
        return scope.cancelled_caught, (yield Now())

    assert run(main()) == (True, 5.5)


def test_a_timeout_that_is_cancelled_after_its_deadline_has_timed_out():
    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(1)) as scope:
                try:
                    yield Sleep(9)
                finally:
                    scope.cancel("too late")

    run(main())


def test_a_timeout_whose_cancelled_was_swallowed_has_not_timed_out():
    def main():
        with (yield Timeout(1)) as scope:
            try:
                yield Sleep(9)
            except Cancelled:
                pass
        return scope.cancel_called, scope.cancelled_caught, (yield Now())

    assert run(main()) == (True, False, 1)


def test_a_swallowed_cancelled_comes_again_at_the_next_checkpoint():
    def main():
        told = 0
        with pytest.raises(TimedOut):
            with (yield Timeout(1)):
                for _ in range(3):
                    try:
                        yield Sleep(9)
                    except Cancelled:
                        told += 1
                yield
        return told, (yield Now())

    assert run(main()) == (3, 1)


def test_another_error_passes_an_expired_timeout():
    def main():
        with pytest.raises(ValueError, match="in cleaning up") as caught:
            with (yield Timeout(1)) as scope:
                try:
                    yield Sleep(9)
                finally:
                    raise ValueError("in cleaning up")
        return scope.cancelled_caught, type(caught.value.__context__)

    assert run(main()) == (False, Cancelled)


def test_timed_out_can_be_caught_and_the_task_goes_on_outside_of_the_scope():
    def main():
        log = []
        for seconds in (9, 0.5, 9):
            try:
                with (yield Timeout(1)):
                    yield Sleep(seconds)
                    log.append("slept")
            except TimedOut:
                yield Sleep(3)
                log.append((yield Now()))
        return log

    assert run(main()) == [4, "slept", 8.5]


# In one turn.


@pytest.mark.parametrize("outer_kind", [MoveOnAfter, Timeout])
@pytest.mark.parametrize("inner_kind", [MoveOnAfter, Timeout])
@pytest.mark.parametrize("first", ["outer", "inner"])
def test_of_two_deadlines_in_the_same_turn_the_outer_one_swallows_the_cancelled(outer_kind, inner_kind, first):
    def nested(scopes):
        with (yield outer_kind(None)) as outer:
            with (yield inner_kind(None)) as inner:
                scopes += [outer, inner]
                for scope in scopes if first == "outer" else reversed(scopes):
                    scope.deadline = 1  # timers with the same deadline fire in order of arrival
                yield Sleep(9)
            never()

    def main():
        scopes = []
        timed_out = None
        try:
            yield from nested(scopes)
        except TimedOut as error:
            timed_out = error.scope
        outer, inner = scopes
        assert timed_out is (outer if outer_kind is Timeout else None)
        assert inner.cancel_called and outer.cancel_called
        return outer.cancelled_caught, inner.cancelled_caught, (yield Now())

    assert run(main()) == (True, False, 1)


def test_an_outer_deadline_during_the_cleanup_of_the_inner_one_wins():
    def main():
        with (yield MoveOnAfter(2)) as outer:
            with (yield Timeout(1)) as inner:
                try:
                    yield Sleep(9)
                finally:
                    with (yield Shield(None)):
                        yield Sleep(5)
            never()
        return outer.cancelled_caught, inner.cancelled_caught

    assert run(main()) == (True, False)


def test_an_inner_deadline_during_the_cleanup_of_the_outer_one_changes_nothing():
    def main():
        with (yield MoveOnAfter(1)) as outer:
            with (yield Timeout(2)) as inner:
                try:
                    yield Sleep(9)
                finally:
                    with (yield Shield(None)):
                        yield Sleep(5)
            never()
        return outer.cancelled_caught, inner.cancelled_caught

    assert run(main()) == (True, False)


def test_an_inner_timeout_does_not_affect_the_outer_scope():
    def main():
        with (yield MoveOnAfter(2)) as outer:
            with pytest.raises(TimedOut) as caught:
                with (yield Timeout(1)) as inner:
                    yield Sleep(9)
            assert caught.value.scope is inner
            yield Sleep(9)
            never()
        return outer.cancelled_caught, inner.cancelled_caught

    assert run(main()) == (True, True)


@pytest.mark.parametrize("kind", [MoveOnAfter, Timeout])
def test_an_item_that_arrives_in_the_turn_of_the_deadline_before_it_is_received(kind):
    def putter(queue):
        yield SleepUntil(1)
        queue.put_nowait("item")

    def main():
        queue = Queue()
        yield Spawn(putter(queue))
        yield
        with (yield kind(None)) as scope:
            yield Spawn(move(scope, 1, 1))  # its turn comes after the putter's
            item = yield queue.get()
        return item, scope.cancel_called, scope.cancelled_caught

    assert run(main()) == ("item", True, False)


def test_an_item_that_arrives_in_the_turn_of_the_deadline_after_it_stays_in_the_queue():
    def putter(queue):
        yield Sleep(0.5)
        yield SleepUntil(1)  # a later timer than the scope's
        queue.put_nowait("item")

    def main():
        queue = Queue()
        yield Spawn(putter(queue))
        with (yield MoveOnAfter(1)) as scope:
            yield queue.get()
            never()
        yield JoinAll()
        return scope.cancelled_caught, queue.qsize()

    assert run(main()) == (True, 1)


# except*.


def fan_out(*errors):
    """Raise a group of the errors and the Cancelled of a checkpoint, as `except*` makes it."""
    try:
        raise ExceptionGroup("of the body", [*errors, KeyError("k")])
    except* KeyError:
        yield Sleep(9)


def test_an_exception_group_of_cancelled_alone_becomes_timed_out():
    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(1)) as scope:
                try:
                    yield Sleep(9)
                except* ValueError:
                    never()
        return scope.cancelled_caught

    assert run(main()) is True


def test_the_rest_of_an_exception_group_has_a_note_that_the_block_timed_out():
    error = ValueError("v")

    def main():
        with pytest.raises(ExceptionGroup) as caught:
            with (yield Timeout(1)) as scope:
                yield from fan_out(error)
        assert scope.cancelled_caught
        return caught.value

    group = run(main())
    assert group.subgroup(lambda one: one is error) and not group.subgroup(Cancelled)
    assert group.__notes__ == ["task 'main' timed out: 1 s have passed, too"]


@pytest.mark.parametrize("kind", [CancelScope, lambda: Timeout(5)])
def test_the_rest_of_an_exception_group_has_no_note_if_the_block_did_not_time_out(kind):
    def main():
        with pytest.raises(ExceptionGroup) as caught:
            with (yield kind()) as scope:
                scope.cancel()
                yield from fan_out(ValueError("v"))
        assert scope.cancelled_caught
        return caught.value

    assert not hasattr(run(main()), "__notes__")


def test_the_rest_of_an_exception_group_keeps_its_cause():
    cause = KeyError("why")

    def main():
        with pytest.raises(ExceptionGroup) as caught:
            with (yield CancelScope()) as scope:
                scope.cancel()
                try:
                    yield
                except Cancelled as error:
                    raise BaseExceptionGroup("of the body", [error, ValueError("v")]) from cause
        return caught.value.__cause__

    assert run(main()) is cause


def test_an_exception_group_without_cancelled_passes_an_expired_timeout_without_a_note():
    group = ExceptionGroup("of the body", [ValueError("v")])

    def main():
        with pytest.raises(ExceptionGroup) as caught:
            with (yield Timeout(0)):
                yield Now()
                raise group
        return caught.value

    assert run(main()) is group and not hasattr(group, "__notes__")


# Shield.


def test_a_shield_lets_the_cleanup_in_a_finally_wait():
    log = []

    def worker():
        try:
            yield Sleep(9)
        finally:
            with (yield Shield(5)):
                yield Sleep(2)
                log.append((yield Now()))
            yield
            never()

    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield from worker()
        return scope.cancelled_caught, (yield Now())

    assert (run(main()), log) == ((True, 3), [3])


@pytest.mark.parametrize(("seconds", "end"), [(0, 1), (2, 3), (7, 6), (None, 6), (inf, 6)])
def test_a_shield_is_lifted_after_its_seconds(seconds, end):
    def main():
        with (yield MoveOnAfter(1)) as scope:
            try:
                yield Sleep(9)
            finally:
                try:
                    with (yield Shield(seconds)) as shield:
                        yield Sleep(5)
                finally:
                    lifted = yield Now()
        return scope.cancelled_caught, shield.cancelled_caught, lifted

    assert run(main()) == (True, False, end)


def test_a_lifted_shield_cancels_nothing_if_nothing_outside_is_cancelled():
    def main():
        with (yield Shield(1)):
            yield Sleep(3)
        return (yield Now())

    assert run(main()) == 3


def test_a_cancellation_after_the_shield_was_lifted_arrives():
    def main():
        with (yield MoveOnAfter(2)):
            with (yield Shield(1)):
                yield Sleep(9)
        return (yield Now())

    assert run(main()) == 2


@pytest.mark.parametrize(("deadline", "end"), [(3, 3), (1.5, 1.5), (0, 1), (None, 9), (7, 7)])
def test_the_deadline_of_a_shield_can_be_moved(deadline, end):
    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            try:
                with (yield Shield(5)) as shield:
                    yield SleepUntil(1)
                    shield.deadline = deadline
                    yield SleepUntil(9)
            finally:
                lifted = yield Now()
        return lifted

    assert run(main()) == end


def test_moving_the_deadline_does_not_restore_a_lifted_shield():
    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            with (yield Shield(0)) as shield:
                shield.deadline = 5
                yield
                never()
        return scope.cancelled_caught

    assert run(main()) is True


def test_a_cancellation_during_a_shield_is_raised_at_the_next_checkpoint_after_it():
    def main():
        with (yield MoveOnAfter(1)) as scope:
            with (yield Shield(None)):
                yield Sleep(3)
            now = yield Now()
            yield
            never()
        return scope.cancelled_caught, now

    assert run(main()) == (True, 3)


def test_a_cancellation_arrives_only_when_both_of_two_shields_are_lifted():
    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            try:
                with (yield Shield(3)):
                    with (yield Shield(1)):
                        yield Sleep(9)
            finally:
                lifted = yield Now()
        return lifted

    assert run(main()) == 3


def test_an_error_passes_a_shield():
    def main():
        with pytest.raises(ValueError, match="v"):
            with (yield Shield(None)):
                raise ValueError("v")
        with pytest.raises(Cancelled), (yield Shield(None)):
            raise Cancelled  # sent by no scope; a shield swallows no Cancelled
        yield

    run(main())


def test_a_timeout_in_a_shield_in_a_cancelled_scope_raises_timed_out():
    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            with (yield Shield(None)):
                with pytest.raises(TimedOut):
                    with (yield Timeout(1)):
                        yield Sleep(9)
                yield Sleep(1)
            return (yield Now()), scope.cancelled_caught

    assert run(main()) == (2, False)


def test_a_timeout_in_a_shield_that_is_lifted_in_the_same_turn_does_not_raise_timed_out():
    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            with (yield Shield(1)):
                with (yield Timeout(1)) as inner:
                    yield Sleep(9)
        return scope.cancelled_caught, inner.cancelled_caught

    assert run(main()) == (True, False)


def test_a_shield_does_not_hide_a_cancellation_within_it():
    def main():
        with (yield Shield(None)):
            with (yield MoveOnAfter(1)) as inner:
                yield Sleep(9)
        return inner.cancelled_caught

    assert run(main()) is True


def test_a_shield_hides_the_cancellation_of_its_task():
    log = []

    def worker():
        with (yield Shield(None)):
            yield Sleep(2)
            log.append("done")
        yield
        never()

    def main():
        task = yield Spawn(worker())
        yield Sleep(1)
        yield Cancel(task)
        yield JoinAll()
        return task.cancelled_caught

    assert (run(main()), log) == (True, ["done"])


# Children.


def sleeper(log, seconds=9):
    try:
        yield Sleep(seconds)
        log.append("done")
    except Cancelled as error:
        log.append(error.reason)
        raise


def test_a_child_is_cancelled_with_the_scope_it_was_spawned_in():
    log = []

    def main():
        with (yield MoveOnAfter(1)):
            yield Spawn(sleeper(log))
            yield JoinAll()
        return (yield Now())

    assert (run(main()), log) == (1, ["its deadline has passed"])


def test_a_child_that_outlives_its_scope_moves_to_the_enclosing_scope():
    log = []

    def main():
        with (yield MoveOnAfter(5)):
            with (yield MoveOnAfter(1)) as inner:
                yield Spawn(sleeper(log))
            assert timers_of(inner) and inner.last_child is None
            yield JoinAll()
        return (yield Now())

    assert (run(main()), log) == (5, ["its deadline has passed"])


def stubborn(log):
    """Log the reason of each of three Cancelleds."""
    for _ in range(3):
        try:
            yield Sleep(9)
        except Cancelled as error:
            log.append(error.reason)


def test_a_child_of_a_cancelled_scope_stays_cancelled_after_the_scope_was_left():
    log = []

    def main():
        with (yield CancelScope()) as scope:
            yield Spawn(stubborn(log))
            scope.cancel("enough")
        yield JoinAll()
        return (yield Now())

    assert (run(main()), log) == (0, ["enough"] * 3)


@pytest.mark.parametrize("scope_cancelled", [False, True])
def test_a_child_that_was_cancelled_alone_keeps_its_own_reason(scope_cancelled):
    log = []

    def main():
        with (yield CancelScope()) as scope:
            task = yield Spawn(stubborn(log))
            yield Cancel(task, "alone")
            if scope_cancelled:
                scope.cancel("enough")
        yield JoinAll()
        return task.requested[0], (yield Now())

    assert run(main()) == ("alone", 0)
    assert log == ["alone"] * 3


def test_a_child_spawned_in_a_shield_is_shielded_until_the_shield_is_left():
    log = []

    def main():
        with (yield CancelScope()) as scope:
            with (yield Shield(None)):
                yield Spawn(sleeper(log, 1), "short")
                yield Spawn(sleeper(log), "long")
                scope.cancel("enough")
                yield Sleep(2)
            yield JoinAll()
        return (yield Now())

    assert (run(main()), log) == (2, ["done", "enough"])


def test_a_lifted_shield_lets_the_cancellation_through_to_the_children():
    log = []

    def main():
        with (yield CancelScope()) as scope:
            with (yield Shield(1)):
                yield Spawn(sleeper(log))
                scope.cancel("enough")
                yield JoinAll()
        return (yield Now())

    assert (run(main()), log) == (1, ["enough"])


# Swallowed Cancelleds.


def mule(count):
    while True:
        try:
            yield Sleep(9)
        except Cancelled:
            count.append(1)


@pytest.mark.parametrize("kind", [MoveOnAfter, Timeout])
def test_a_task_that_swallows_each_cancelled_is_closed_and_named(kind):
    count = []

    def stubborn():
        with (yield kind(1)):
            with (yield MoveOnAfter(99)):
                yield from mule(count)

    def main():
        yield Spawn(stubborn(), "the mule")
        yield JoinAll()

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert str(caught.value.exceptions[0]).startswith("task 'the mule' swallowed 1000 Cancelleds of one cancellation")
    assert len(count) == 1001  # the first one ended a wait, and the others came at checkpoints


def test_checkpoints_in_a_shield_do_not_count_as_swallowed_cancelleds():
    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            with (yield Shield(None)):
                for _ in range(1100):
                    yield
            return "done"

    assert run(main()) == "done"


def test_a_race_with_a_task_that_swallows_each_cancelled_ends_with_its_error():
    count = []

    def main():
        yield from race(mule(count), sleeper([], 1))

    with pytest.raises(SyscallError, match="task 'mule' swallowed 1000 Cancelleds"):
        run(main())
    assert len(count) == 1001  # the first one ended a wait, and the others came at checkpoints


def test_a_main_task_cancelled_inside_a_scope_ends_the_run_with_task_cancelled():
    def main():
        with (yield CancelScope()) as scope:
            yield Cancel((yield CurrentTask()), "enough")
            yield
        assert not scope.cancelled_caught

    with pytest.raises(TaskCancelled, match="task 'main' was cancelled: enough"):
        run(main())


@pytest.mark.parametrize("kind", [CancelScope, MoveOnAfter, Timeout, Shield])
def test_each_call_can_be_awaited(kind):
    async def main():
        with await (kind() if kind is CancelScope else kind(1)) as scope:
            await Sleep(0.5)
        return scope.cancelled_caught if kind is not Shield else scope.shield, await Now()

    assert run(main()) == (kind is Shield, 0.5)
