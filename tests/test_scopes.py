"""The tree of scopes: shields, visibility, who swallows, what is handed outward."""

from __future__ import annotations

import pytest

from minisched import Cancel, Join, JoinAll, Pause, Sleep, Spawn, Syscall, SyscallError, TaskCancelled, run
from minisched.errors import Cancelled, without_cancelled
from minisched.kernel import Scope
from minisched.scopes import enter, leave
from minisched.testing import run as run_virtually
from minisched.timers import Timers


class Within(Syscall["Scoped"]):
    """A scope as a context manager: what a user's extension, or ours, makes of `enter` and `leave`."""

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


def test_a_cancelled_scope_takes_its_cancelled_and_the_task_goes_on():
    def main():
        with (yield Within(1)) as scope:
            yield Sleep(5)
        yield
        return scope.cancelled, scope.own

    assert run_virtually(main()) == (True, ("the scope's", None))


def test_a_body_that_finishes_in_the_turn_of_its_deadline_was_not_cancelled():
    def main():
        with (yield Within(1)) as scope:
            yield Sleep(1)  # made after the scope's timer: the deadline comes first
        return scope.cancelled

    def kept():
        with (yield Within(2)) as scope:
            yield Sleep(1)
            scope.cancel()
        return scope.cancelled, scope.own is not None

    assert run_virtually(main()) is True
    assert run_virtually(kept()) == (False, True)


def test_the_outermost_cancelled_scope_takes_it():
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
        return outer.cancelled, inner.cancelled

    assert (run_virtually(main()), log) == ((True, False), ["outside"])


def test_an_inner_scope_takes_its_own_while_the_outer_is_not_cancelled():
    def main():
        with (yield Within()) as outer:
            with (yield Within()) as inner:
                inner.cancel()
                yield
            yield Pause()
        return outer.cancelled, inner.cancelled

    assert run_virtually(main()) == (False, True)


def test_a_shield_hides_what_is_outside_and_no_longer():
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
        return outer.cancelled

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


def test_a_scope_that_is_entered_in_a_cancelled_one_is_cancelled():
    def main():
        with (yield Within()) as outer:
            outer.cancel()
            with (yield Within()):
                yield
            pytest.fail("the outer scope takes it")
        return outer.cancelled

    assert run_virtually(main()) is True


def test_a_timeout_within_a_shield_within_a_cancelled_scope_takes_its_own():
    def main():
        with (yield Within()) as outer:
            outer.cancel()
            with (yield Within(shield=True)):
                with (yield Within(1)) as inner:
                    yield Sleep(5)
            return inner.cancelled, outer.cancelled

    assert run_virtually(main()) == (True, False)


def test_a_shield_that_is_cancelled_itself_is_cancelled():
    def main():
        with (yield Within(shield=True)) as scope:
            scope.cancel()
            yield
        return scope.cancelled

    assert run_virtually(main()) is True


def test_a_lifted_shield_lets_the_cancellation_in():
    def main():
        with (yield Within()) as outer:
            with (yield Within(shield=True)) as shield:
                outer.cancel()
                timers = shield.kernel.service(Timers)

                def lift():
                    shield.shield = False
                    shield.kernel.spread(shield)

                timers.call_at(timers.now() + 1, lift)
                yield Sleep(5)
        return outer.cancelled, timers.now()

    assert run_virtually(main()) == (True, 1)


def test_a_scope_is_inert_until_it_is_entered():
    def main():
        scope = yield Within()
        scope.cancel()
        yield Pause()
        with scope:
            yield
        return scope.cancelled

    assert run_virtually(main()) is True


def test_a_scope_is_entered_once():
    def main():
        scope = yield Within()
        with scope:
            pass
        with pytest.raises(SyscallError, match="a scope is entered once, and task 'main' has entered this one"), scope:
            pass

    run_virtually(main())


def test_a_scope_that_is_left_out_of_order_says_so():
    def main():
        one, two = (yield Within()), (yield Within())
        one.__enter__()
        two.__enter__()
        with pytest.raises(SyscallError, match="left out of order: leave scopes in the reverse order"):
            one.__exit__(None, None, None)
        two.__exit__(None, None, None)
        one.__exit__(None, None, None)
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

    assert run_virtually(main()) is run_virtually(cancelled()) is None  # the scope takes its Cancelled all the same


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


def test_leaving_a_scope_hands_its_children_outward():
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


def test_a_child_that_was_cancelled_with_its_scope_stays_cancelled_when_it_is_handed_outward():
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


def test_except_star_wraps_cancelled_in_a_group_and_the_scope_takes_it_out():
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
        assert scope.cancelled
        return [type(error) for error in flat(caught.value)]

    def flat(group):
        for error in group.exceptions:
            yield from flat(error) if isinstance(error, BaseExceptionGroup) else [error]

    assert run_virtually(main()) == [ValueError]


def test_other_errors_pass_a_cancelled_scope():
    scopes = []

    def main():
        with (yield Within()) as scope:
            scopes.append(scope)
            scope.cancel()
            raise ValueError("v")

    with pytest.raises(ValueError, match="v"):
        run_virtually(main())
    assert scopes[0].cancelled is False


def test_main_that_is_cancelled_from_inside_is_task_cancelled():
    def main():
        (yield Within()).owner.kernel.cancel((yield Within()).owner, "enough")
        yield

    with pytest.raises(TaskCancelled, match="task 'main' was cancelled: enough"):
        run(main())


def test_a_group_without_cancelled_passes_a_cancelled_scope_untouched():
    group, scopes = ExceptionGroup("g", [ValueError("v")]), []

    def main():
        with (yield Within()) as scope:
            scopes.append(scope)
            scope.cancel()
            raise group

    with pytest.raises(ExceptionGroup) as caught:
        run_virtually(main())
    assert (caught.value is group, scopes[0].cancelled) == (True, False)


def test_to_cancel_a_scope_that_was_left_does_nothing_even_if_its_task_is_done():
    kept = []

    def child():
        with (yield Within()) as scope:
            kept.append(scope)
            yield

    def main():
        yield Join((yield Spawn(child())))
        kept[0].cancel()
        return kept[0].own

    assert run_virtually(main()) is None
