"""Tests of the tree of scopes: shields, visibility, swallowing, and the children of a scope that is left."""

from __future__ import annotations

from contextlib import suppress

import pytest

from minisched import Cancel, CancelScope, Join, JoinAll, Pause, Sleep, Spawn, Syscall, SyscallError, TaskCancelled, run
from minisched.errors import Cancelled
from minisched.kernel import Scope
from minisched.kernel import kernel as kernel_module
from minisched.kernel.scoping import enter, leave
from minisched.kernel.tracebacks import without_cancelled
from minisched.tasks.timers import Timers
from minisched.testing import run as run_virtually


class Within(Syscall["Scoped"]):
    """Return a scope as a context manager, built with `enter` and `leave` as an extension would build it."""

    __slots__ = ("seconds", "shield")
    checkpoint = False

    def __init__(self, seconds=None, shield=False):
        self.seconds = seconds
        self.shield = shield

    def handle(self, kernel, task):
        return Scoped(kernel, task, self.seconds, self.shield)


class Scoped(Scope):
    def __init__(self, kernel, owner, seconds, shield):
        super().__init__(shield=shield)
        self.kernel, self.owner, self.seconds, self.timer = kernel, owner, seconds, None

    def __enter__(self):
        enter(self.owner, self)
        if self.seconds is not None:
            timers = self.kernel.service(Timers)
            self.timer = timers.call_at(timers.now() + self.seconds, self.cancel)
        return self

    def __exit__(self, kind, error, trace):
        if self.timer is not None:
            self.timer()
        rest = leave(self, error)
        if rest is not None and rest is not error:
            raise rest from None
        return rest is not error

    def cancel(self):
        self.kernel.cancel(self, "the scope's")


def test_a_cancelled_scope_swallows_its_cancelled_and_the_task_goes_on():
    def main():
        with (yield Within(1)) as scope:
            yield Sleep(5)
        yield
        return scope.cancelled_caught, scope.requested

    assert run_virtually(main()) == (True, ("the scope's", None))


def test_a_deadline_before_the_wake_up_cuts_the_body_short_and_a_cancellation_after_it_does_not():
    def main():
        with (yield Within(1)) as scope:
            yield Sleep(1)  # a later timer than the scope's, for the same time: the deadline fires first
        return scope.cancelled_caught

    def kept():
        with (yield Within(2)) as scope:
            yield Sleep(1)
            scope.cancel()
        return scope.cancelled_caught, scope.requested is not None

    assert run_virtually(main()) is True
    assert run_virtually(kept()) == (False, True)


def test_the_outermost_cancelled_scope_swallows_the_cancelled():
    log = []

    def main():
        with (yield Within()) as outer:
            with (yield Within()) as inner:
                inner.cancel()
                outer.cancel()
                yield
            log.append("not reached")
        log.append("outside")
        yield
        return outer.cancelled_caught, inner.cancelled_caught

    assert (run_virtually(main()), log) == ((True, False), ["outside"])


def test_a_cancelled_inner_scope_swallows_the_cancelled_if_the_outer_is_not_cancelled():
    def main():
        with (yield Within()) as outer:
            with (yield Within()) as inner:
                inner.cancel()
                yield
            yield Pause()
        return outer.cancelled_caught, inner.cancelled_caught

    assert run_virtually(main()) == (False, True)


def test_a_shield_hides_a_cancellation_from_outside_until_it_is_left():
    log = []

    def main():
        with (yield Within()) as outer:
            try:
                with (yield Within(shield=True)):
                    outer.cancel()
                    yield Sleep(1)
                    log.append("shielded")
                yield
                log.append("not reached")
            except Cancelled:
                log.append("cancelled")
                raise
        return outer.cancelled_caught

    assert (run_virtually(main()), log) == (True, ["shielded", "cancelled"])


def test_a_task_that_waits_behind_a_shield_is_not_woken():
    def shielded():
        with (yield Within(shield=True)) as shield:
            yield Sleep(2)
        return shield.kernel.service(Timers).now()

    def main():
        task = yield Spawn(shielded())
        yield Sleep(1)
        yield Cancel(task)
        return (yield Join(task))

    assert run_virtually(main()) == 2


def test_a_scope_that_is_entered_in_a_cancelled_scope_is_cancelled():
    def main():
        with (yield Within()) as outer:
            outer.cancel()
            with (yield Within()):
                yield
            pytest.fail("the outer scope swallows the Cancelled")
        return outer.cancelled_caught

    assert run_virtually(main()) is True


def test_a_timeout_in_a_shield_in_a_cancelled_scope_swallows_its_own_cancelled():
    def main():
        with (yield Within()) as outer:
            outer.cancel()
            with (yield Within(shield=True)):
                with (yield Within(1)) as inner:
                    yield Sleep(5)
            return inner.cancelled_caught, outer.cancelled_caught

    assert run_virtually(main()) == (True, False)


def test_a_shield_does_not_hide_its_own_cancellation():
    def main():
        with (yield Within(shield=True)) as scope:
            scope.cancel()
            yield
        return scope.cancelled_caught

    assert run_virtually(main()) is True


def test_a_lifted_shield_lets_the_cancellation_in():
    def main():
        with (yield Within()) as outer:
            with (yield Within(shield=True)) as shield:
                outer.cancel()
                timers = shield.kernel.service(Timers)

                def lift():
                    shield.shield = False
                    shield.kernel.propagate(shield)

                timers.call_at(timers.now() + 1, lift)
                yield Sleep(5)
        return outer.cancelled_caught, timers.now()

    assert run_virtually(main()) == (True, 1)


def test_a_scope_has_no_effect_until_it_is_entered():
    def main():
        scope = yield Within()
        scope.cancel()
        yield Pause()
        with scope:
            yield
        return scope.cancelled_caught

    assert run_virtually(main()) is True


def test_a_scope_is_entered_once():
    def main():
        scope = yield Within()
        with scope:
            pass
        with pytest.raises(SyscallError, match="a scope is entered once, and task 'main' has entered this one"), scope:
            pass

    run_virtually(main())


def test_leaving_a_scope_out_of_order_is_refused():
    def main():
        outer, inner = (yield Within()), (yield Within())
        outer.__enter__()
        inner.__enter__()
        with pytest.raises(SyscallError, match="left out of order: leave scopes in the reverse order"):
            outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)
        outer.__exit__(None, None, None)
        with pytest.raises(SyscallError, match="left out of order"):
            leave(Scope(), None)

    run_virtually(main())


def test_a_scope_that_is_never_left_ends_with_its_task():
    def main():
        (yield Within()).__enter__()
        yield

    def cancelled():
        scope = (yield Within()).__enter__()
        scope.cancel()
        yield

    assert run_virtually(main()) is run_virtually(cancelled()) is None  # the unleft scope swallows its Cancelled, too


def test_a_child_belongs_to_the_scope_it_was_spawned_in():
    log = []

    def child():
        try:
            yield Sleep(10)
        except Cancelled as error:
            log.append(error.reason)
            raise

    def main():
        with (yield Within(1)):
            yield Spawn(child())
            yield Sleep(10)
        yield JoinAll()
        return (yield Within()).kernel.service(Timers).now()

    assert (run_virtually(main()), log) == (1, ["the scope's"])


def test_leaving_a_scope_moves_its_children_to_the_enclosing_scope():
    log = []

    def child():
        yield Sleep(10)
        log.append("child")

    def main():
        with (yield Within()):
            task = yield Spawn(child())
        log.append(task.parent is task.spawner)
        with (yield Within()) as other:
            other.cancel()
        return "left"

    assert (run_virtually(main()), log) == ("left", [True, "child"])


def test_a_child_of_a_cancelled_scope_stays_cancelled_when_the_scope_is_left():
    log = []

    def child():
        for _ in range(3):
            try:
                yield
            except Cancelled:
                log.append("cancelled")

    def main():
        with (yield Within()) as scope:
            yield Spawn(child())
            scope.cancel()
        yield JoinAll()

    run_virtually(main())
    assert log == ["cancelled"] * 2


def test_the_scope_removes_a_cancelled_that_except_star_put_into_a_group():
    def main():
        with pytest.raises(ExceptionGroup) as caught:
            with (yield Within()) as scope:
                scope.cancel()
                try:
                    try:
                        raise ExceptionGroup("of the body", [ValueError("v"), KeyError("k")])
                    except* KeyError:
                        yield
                except BaseExceptionGroup as group:
                    assert without_cancelled(group) is not group
                    raise
        assert scope.cancelled_caught
        return [type(error) for error in flat(caught.value)]

    def flat(group):
        for error in group.exceptions:
            yield from flat(error) if isinstance(error, BaseExceptionGroup) else [error]

    assert run_virtually(main()) == [ValueError]


def test_another_error_passes_a_cancelled_scope():
    scopes = []

    def main():
        with (yield Within()) as scope:
            scopes.append(scope)
            scope.cancel()
            raise ValueError("v")

    with pytest.raises(ValueError, match="v"):
        run_virtually(main())
    assert scopes[0].cancelled_caught is False


def test_a_main_task_that_cancels_itself_ends_the_run_with_task_cancelled():
    def main():
        (yield Within()).owner.kernel.cancel((yield Within()).owner, "enough")
        yield

    with pytest.raises(TaskCancelled, match="task 'main' was cancelled: enough"):
        run(main())


def test_an_exception_group_without_cancelled_passes_a_cancelled_scope_unchanged():
    group, scopes = ExceptionGroup("g", [ValueError("v")]), []

    def main():
        with (yield Within()) as scope:
            scopes.append(scope)
            scope.cancel()
            raise group

    with pytest.raises(ExceptionGroup) as caught:
        run_virtually(main())
    assert (caught.value is group, scopes[0].cancelled_caught) == (True, False)


def test_cancelling_a_scope_that_was_left_does_nothing_even_if_its_task_is_done():
    kept = []

    def child():
        with (yield Within()) as scope:
            kept.append(scope)
            yield

    def main():
        yield Join((yield Spawn(child())))
        kept[0].cancel()
        return kept[0].requested

    assert run_virtually(main()) is None


def test_the_cancelleds_of_different_requests_are_not_added_up(monkeypatch):
    """Only a task that swallows many Cancelleds of one request is closed."""
    monkeypatch.setattr(kernel_module, "MAX_DELIVERIES", 5)

    def main():
        with (yield CancelScope()) as outer, (yield CancelScope()) as inner:
            for scope in (inner, outer):  # the request of the outer one counts from then on
                scope.cancel()
                for _ in range(4):
                    with suppress(Cancelled):
                        yield
        return "done"

    assert run(main()) == "done"
