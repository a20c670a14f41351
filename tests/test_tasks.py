"""Spawning, joining, cancelling; what the end of a task sets in motion."""

from __future__ import annotations

import traceback

import pytest

from minisched import (
    Cancel,
    Cancelled,
    CurrentTask,
    Deadlock,
    Join,
    JoinAll,
    Now,
    Pause,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
)
from minisched.family import Family
from minisched.kernel import Scope
from minisched.scopes import enter
from minisched.testing import check_syscall, run


def sleeper(seconds, result=None):
    yield Sleep(seconds)
    return result


def failing(seconds, error):
    yield Sleep(seconds)
    raise error


def logged(log, seconds, name):
    try:
        yield Sleep(seconds)
        log.append(f"{name} done")
    except Cancelled as error:
        log.append(f"{name} cancelled: {error}")
        raise


# Order.


def test_three_tasks_spawned_in_a_row_and_yielding_three_times():
    order = []

    def child(name):
        for number in range(3):
            order.append(f"{name}{number}")
            yield

    def main():
        for name in "abc":
            yield Spawn(child(name))

    run(main())
    assert " ".join(order) == "a0 a1 b0 a2 b1 c0 b2 c1 c2"


def test_pause_is_a_bare_yield():
    order = []

    def child(name, pause):
        for _ in range(2):
            order.append(name)
            yield pause

    def main():
        yield Spawn(child("a", Pause()))
        yield Spawn(child("b", None))

    run(main())
    assert order == ["a", "a", "b", "b"]


def test_a_task_has_the_name_of_its_function_or_the_one_it_is_given():
    def main():
        one = yield Spawn(sleeper(0))
        two = yield Spawn(sleeper(0), "second")
        return (yield CurrentTask()).name, one.name, two.name, one.path, two.path

    assert run(main()) == ("main", "sleeper", "second", (0, 0), (0, 1))


# Join.


@pytest.mark.parametrize("child_seconds", [0, 1])
def test_join_returns_the_result_however_often_and_whenever(child_seconds):
    def main():
        task = yield Spawn(sleeper(child_seconds, "result"))
        first = yield Join(task)
        yield Sleep(1)
        return first, (yield Join(task))

    assert run(main()) == ("result", "result")


def test_join_raises_what_a_kept_task_raised_itself_each_time_with_its_own_traceback():
    error = ValueError("v")

    def joiner(task):
        with pytest.raises(ValueError) as caught:
            yield Join(task)
        assert caught.value is error
        return [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    def main():
        task = yield Spawn(failing(1, error), keep=True)
        tasks = []
        for _ in range(2):
            tasks.append((yield Spawn(joiner(task))))
        seen = [(yield from joiner(task))]
        for joining in tasks:
            seen.append((yield Join(joining)))
        seen.append((yield from joiner(task)))
        return seen

    seen = run(main())
    assert [names[-1] for names in seen] == ["failing"] * 4
    assert [names.count("failing") for names in seen] == [1] * 4
    assert [len(names) for names in seen] == [2] * 4


def test_join_on_a_cancelled_task_raises_task_cancelled_which_is_an_ordinary_exception():
    def main():
        task = yield Spawn(sleeper(10), "victim")
        yield Cancel(task, "no need")
        for _ in range(2):
            with pytest.raises(TaskCancelled, match="task 'victim' was cancelled: no need") as caught:
                yield Join(task)
            assert caught.value.task is task and isinstance(caught.value, Exception)

    run(main())


def test_joining_a_task_killed_while_parked_returns_at_once():
    def joiner(task):
        with pytest.raises(TaskCancelled):
            yield Join(task)
        return (yield Now())

    def main():
        task = yield Spawn(sleeper(100))
        joining = yield Spawn(joiner(task))
        yield Sleep(1)
        yield Cancel(task)
        return (yield Join(joining))

    assert run(main()) == 1


def test_a_task_that_was_cancelled_and_returns_all_the_same_has_a_result():
    def stubborn():
        try:
            yield Sleep(10)
        except Cancelled:
            return "saved"

    def main():
        task = yield Spawn(stubborn())
        yield Pause()
        yield Cancel(task)
        return (yield Join(task))

    assert run(main()) == "saved"


def test_a_cancelled_joiner_leaves_the_joined_task_alone():
    def main():
        task = yield Spawn(sleeper(2, "result"))
        joining = yield Spawn(joiner(task))
        other = yield Spawn(joiner(task))
        yield Pause()
        yield Cancel(joining)
        return (yield Join(task)), (yield Join(other)), joining.cancelled

    def joiner(task):
        return (yield Join(task))

    assert run(main()) == ("result", "result", True)


@pytest.mark.parametrize("who", ["itself", "'main', which waits for its end"])
def test_joining_oneself_or_an_ancestor_is_refused(who):
    def child(main_task):
        me = yield CurrentTask()
        with pytest.raises(SyscallError, match=f"task 'child' joined {who}: that would wait for ever"):
            yield Join(me if who == "itself" else main_task)

    def main():
        yield Spawn(child((yield CurrentTask())))

    run(main())


@pytest.mark.parametrize("verb", [Join, Cancel])
def test_what_is_no_task_of_this_run_is_refused(verb):
    others = []

    def other():
        others.append((yield CurrentTask()))

    run(other())

    def main():
        with pytest.raises(SyscallError, match=f"{verb.__name__}: task 'other' belongs to another `run`"):
            yield verb(others[0])
        with pytest.raises(SyscallError, match=f"{verb.__name__} takes a task, which is what `yield Spawn"):
            yield verb(7)

    run(main())


def test_join_all_waits_for_children_in_the_middle_of_a_body_but_not_for_daemons():
    def main():
        yield JoinAll()
        yield Spawn(sleeper(1))
        yield Spawn(sleeper(3))
        yield Spawn(sleeper(9), daemon=True)
        yield JoinAll()
        return (yield Now())

    assert run(main()) == 3


def test_join_all_can_be_cancelled_and_asked_again():
    def parent(log):
        yield Spawn(logged(log, 2, "child"))
        try:
            yield JoinAll()
        except Cancelled:
            log.append("parent")
            raise

    def main():
        log = []
        task = yield Spawn(parent(log))
        yield Sleep(1)
        yield Cancel(task, "late")
        with pytest.raises(TaskCancelled):
            yield Join(task)
        return log

    assert run(main()) == ["parent", "child cancelled: late (by task 'main')"]


# Nothing outlives its parent.


def test_a_task_whose_body_returned_waits_for_its_children():
    states = []

    def parent():
        yield Spawn(sleeper(2))
        return "result"

    def main():
        task = yield Spawn(parent())
        yield Sleep(1)
        states.append(task.state)
        result = yield Join(task)
        return result, (yield Now())

    assert (run(main()), states) == (("result", 2), ["ending"])


def test_daemons_are_cancelled_once_nothing_else_lives_and_waited_for():
    log = []

    def daemon():
        try:
            yield Sleep(100)
        except Cancelled as error:
            log.append(str(error))
            raise
        finally:
            log.append("cleanup")

    def main():
        yield Spawn(daemon(), daemon=True)
        yield Spawn(logged(log, 1, "child"))

    run(main())
    assert log == ["child done", "its parent 'main' has ended (by task 'main')", "cleanup"]


def test_a_daemon_may_have_children():
    log = []

    def daemon():
        yield Spawn(logged(log, 100, "grandchild"))
        yield Sleep(100)

    def main():
        yield Spawn(daemon(), daemon=True)
        yield Sleep(1)

    run(main())
    assert log == ["grandchild cancelled: its parent 'main' has ended (by task 'main')"]


def test_a_task_that_failed_cancels_its_children_and_waits_for_them():
    log = []

    def main():
        yield Spawn(logged(log, 10, "child"))
        yield Sleep(1)
        raise ValueError("v")

    with pytest.raises(ValueError, match="v"):
        run(main())
    assert log == ["child cancelled: its parent 'main' did not return (by task 'main')"]


def test_an_ending_task_that_is_cancelled_cancels_its_children():
    log = []

    def parent():
        yield Spawn(logged(log, 10, "child"))
        return "result"

    def main():
        task = yield Spawn(parent())
        yield Sleep(1)
        yield Cancel(task, "late")
        return (yield Join(task))

    assert (run(main()), log) == ("result", ["child cancelled: late (by task 'main')"])


def test_the_tree_is_cancelled_oldest_first_and_parents_before_children():
    log = []

    def parent(name):
        yield Spawn(logged(log, 10, f"{name}-1"))
        yield Spawn(logged(log, 10, f"{name}-2"))
        yield from logged(log, 10, name)

    def top():
        yield Spawn(parent("a"))
        yield Spawn(parent("b"))
        yield from logged(log, 10, "top")

    def main():
        task = yield Spawn(top())
        yield Sleep(1)
        yield Cancel(task)

    run(main())
    assert [line.split()[0] for line in log] == ["top", "a", "a-1", "a-2", "b", "b-1", "b-2"]


@pytest.mark.parametrize("end", ["returns", "fails", "is cancelled"])
def test_a_chain_of_3000_tasks_that_each_spawned_the_next_ends_without_recursion(end):
    def link(depth):
        if depth:
            yield Spawn(link(depth - 1))
        elif end == "fails":
            raise ValueError("the last")
        elif end == "is cancelled":
            yield Sleep(1000)

    def main():
        task = yield Spawn(link(3000), keep=True)
        yield Sleep(1)
        yield Cancel(task)
        try:
            yield Join(task)
        except ExceptionGroup as group:
            return innermost(group)
        return "returned"

    # A body that had returned before it was cancelled keeps its result: only the last one waits.
    expected = {"returns": "returned", "fails": ("the last", 3000), "is cancelled": "returned"}
    assert run(main()) == expected[end]


def innermost(error):
    """Return the text of what is in groups in groups, and how deep."""
    depth = 0
    while isinstance(error, ExceptionGroup):
        error, depth = error.exceptions[0], depth + 1
    return str(error), depth


# No failure is lost.


def test_a_childs_failure_cancels_its_parent_and_ends_it_with_a_group():
    log = []

    def main():
        yield Spawn(failing(1, ValueError("v")), "child")
        yield from logged(log, 10, "main")

    with pytest.raises(ExceptionGroup, match="children of task 'main' failed") as caught:
        run(main())
    assert [repr(error) for error in caught.value.exceptions] == ["ValueError('v')"]
    assert log == ["main cancelled: its child 'child' failed: ValueError: v (by task 'child')"]


def test_the_group_has_ones_own_error_first_and_the_childrens_in_the_order_of_their_ends():
    def late(error):
        try:
            yield Sleep(100)
        except Cancelled:
            raise error from None

    def main():
        yield Spawn(late(KeyError("second")))
        yield Spawn(failing(1, ValueError("first")))
        yield from late(OSError("own"))

    with pytest.raises(ExceptionGroup, match="task 'main' failed, and children of it") as caught:
        run(main())
    assert [str(error) for error in caught.value.exceptions] == ["own", "first", "'second'"]


def test_a_childs_failure_is_not_taken_for_a_cancellation_of_the_parent():
    def parent():
        yield Spawn(failing(1, ValueError("v")))
        yield Sleep(10)

    def main():
        task = yield Spawn(parent(), keep=True)
        with pytest.raises(ExceptionGroup):
            yield Join(task)
        return task.cancelled

    assert run(main()) is False


def test_the_parent_that_joins_is_cancelled_rather_than_told_twice():
    def main():
        task = yield Spawn(failing(1, ValueError("v")))
        try:
            yield Join(task)
        except Cancelled:
            raise
        except ValueError:
            pytest.fail("the failure is the parent's by now")

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert len(caught.value.exceptions) == 1


def test_an_error_that_is_ones_own_and_a_childs_is_there_once():
    error = ValueError("v")

    def main():
        yield Spawn(failing(1, error))
        try:
            yield Sleep(10)
        except Cancelled:
            raise error from None

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert caught.value.exceptions == (error,)


def test_the_failure_of_a_kept_task_waits_for_join():
    def main():
        task = yield Spawn(failing(1, ValueError("v")), keep=True)
        yield Sleep(5)
        with pytest.raises(ValueError, match="v"):
            yield Join(task)
        return "handled"

    assert run(main()) == "handled"


def test_a_kept_failure_that_nobody_joined_is_in_the_parents_group_at_its_end():
    def main():
        yield Spawn(failing(1, ValueError("v")), keep=True)
        yield Sleep(5)
        return "lost"

    with pytest.raises(ExceptionGroup, match="children of task 'main' failed"):
        run(main())


def test_a_kept_failure_that_was_joined_is_forgotten_by_the_parent():
    def main():
        me = yield CurrentTask()
        for _ in range(3):
            task = yield Spawn(failing(1, ValueError("v")), keep=True)
            yield Sleep(2)
            assert list(me.kernel.service(Family).failed[me]) == [task]
            with pytest.raises(ValueError, match="v"):
                yield Join(task)
            assert me not in me.kernel.service(Family).failed

    run(main())


def test_a_daemons_failure_counts_like_any_other():
    def main():
        yield Spawn(failing(1, ValueError("v")), daemon=True)
        yield Sleep(5)

    with pytest.raises(ExceptionGroup):
        run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_in_any_task_cancel_main_and_run_raises_that_very_object(kind):
    error, log = kind("now"), []

    def main():
        yield Spawn(failing(1, error))
        yield from logged(log, 10, "main")

    with pytest.raises(kind) as caught:
        run(main())
    assert caught.value is error
    assert log == [f"main cancelled: {kind.__name__} (by task 'failing')"]


def test_the_failure_of_main_while_it_is_interrupted_is_the_cause():
    def main():
        yield Spawn(failing(1, KeyboardInterrupt()))
        try:
            yield Sleep(10)
        finally:
            raise ValueError("cleanup")

    with pytest.raises(KeyboardInterrupt) as caught:
        run(main())
    assert repr(caught.value.__cause__) == "ValueError('cleanup')"


def test_the_first_of_two_interrupts_is_raised():
    def second():
        try:
            yield Sleep(10)
        except Cancelled:
            raise SystemExit(2) from None

    def main():
        yield Spawn(second())
        yield Spawn(failing(1, SystemExit(1)))
        yield Sleep(10)

    with pytest.raises(SystemExit) as caught:
        run(main())
    assert caught.value.code == 1


def test_a_base_exception_is_a_failure_too():
    class Odd(BaseException):
        pass

    def main():
        yield Spawn(failing(1, Odd()))
        yield Sleep(5)

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main())
    assert not isinstance(caught.value, ExceptionGroup)


def test_a_cancelled_that_no_scope_sent_is_a_failure_that_says_so():
    def main():
        yield Pause()
        raise Cancelled("made up")

    with pytest.raises(SyscallError, match="task 'main' raised a Cancelled that no scope had sent it"):
        run(main())


def test_an_error_in_a_group_with_cancelled_is_split_out_at_the_tasks_end():
    def victim():
        try:
            yield Sleep(10)
        except Cancelled as cancelled:
            raise BaseExceptionGroup("mixed", [cancelled, ValueError("v")]) from None

    def main():
        task = yield Spawn(victim(), keep=True)
        yield Sleep(1)
        yield Cancel(task)
        with pytest.raises(ExceptionGroup, match="mixed") as caught:
            yield Join(task)
        return [repr(error) for error in caught.value.exceptions], task.cancelled

    assert run(main()) == (["ValueError('v')"], False)


def test_a_cancelled_task_is_no_failure_of_its_parent():
    def main():
        task = yield Spawn(sleeper(10))
        yield Sleep(1)
        yield Cancel(task)
        yield Sleep(1)
        return "fine"

    assert run(main()) == "fine"


def test_main_may_cancel_itself_and_run_raises_task_cancelled():
    def main():
        yield Cancel((yield CurrentTask()), "done here")
        yield

    with pytest.raises(TaskCancelled, match="task 'main' was cancelled: done here"):
        run(main())


def test_tasks_that_cancel_each_other_do_not_starve_the_rest():
    def fighter(others, log):
        try:
            while True:
                yield
                for other in others:
                    yield Cancel(other)
        except Cancelled:
            log.append("down")
            raise

    def main():
        tasks, log = [], []
        for _ in range(2):
            tasks.append((yield Spawn(fighter(tasks, log))))
        yield Sleep(1)
        return log

    assert run(main()) == ["down", "down"]


def test_two_tasks_that_join_each_other_are_a_deadlock_not_a_hang():
    def one(box):
        yield Sleep(1)
        yield Join(box[1])

    def two(box):
        yield Join(box[0])

    def main():
        box = []
        box.append((yield Spawn(one(box), "one")))
        box.append((yield Spawn(two(box), "two")))

    with pytest.raises(Deadlock, match=r"a cycle: 0.0 one -> 0.1 two -> 0.0 one"):
        run(main())


def child_then_join():
    task = yield Spawn(sleeper(1))
    return Join(task)


def test_the_answer_of_join_all_wins_over_a_cancellation_in_the_same_turn():
    log = []

    def parent():
        yield Spawn(sleeper(1))
        yield JoinAll()
        log.append("joined")
        try:
            yield
        except Cancelled:
            log.append("cancelled later")
            raise

    def main():
        task = yield Spawn(parent())
        for _ in range(3):
            yield
        yield Sleep(1)  # asked for after the child's: its end has woken the parent when this task runs
        assert task.state == "ready"
        yield Cancel(task)

    run(main())
    assert log == ["joined", "cancelled later"]


def test_join_passes_the_battery():
    check_syscall(child_then_join)


def test_what_the_tasks_calls_look_like():
    def main():
        task = yield Spawn(sleeper(0), "child")
        return [repr(call) for call in (Spawn(sleeper(0)), Join(task), Cancel(task), JoinAll(), CurrentTask(), Pause())]

    body = ["Spawn(sleeper)", "Join(child)", "Cancel(child)", "JoinAll()", "CurrentTask()", "Pause()"]
    assert run(main()) == body


def test_what_is_to_be_called_at_a_tasks_end_is_told_and_may_deal_with_its_failure():
    told = []

    def main():
        family = (yield CurrentTask()).kernel.service(Family)
        for deals in (True, False):
            task = yield Spawn(failing(1, ValueError("v")), keep=True)
            family.at_end[task] = lambda task, deals=deals: told.append(task.failure) or deals
            yield Spawn(sleeper(5))
            yield Sleep(2)
            assert family.at_end == {}

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert len(told) == 2 and caught.value.exceptions == (told[1],)


def test_what_is_to_be_called_at_the_end_of_a_task_that_never_ended_is_called_at_the_end_of_the_run():
    told = []

    def main():
        task = yield CurrentTask()
        task.kernel.service(Family).at_end[task] = lambda task: told.append(task.name)
        task.kernel.misuse("stop here")

    with pytest.raises(SyscallError, match="stop here"):
        run(main())
    assert told == ["main"]


def test_a_group_without_cancelled_is_a_failure_like_any_other():
    group = ExceptionGroup("g", [ValueError(1)])

    def main():
        yield
        raise group

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert caught.value is group


def test_the_group_of_a_chain_of_3000_may_be_joined_and_passed_on():
    def deep(depth):
        if depth:
            yield Spawn(deep(depth - 1))
        else:
            yield
            raise ValueError("the last")

    def main():
        yield Join((yield Spawn(deep(3000), keep=True)))

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert innermost(caught.value) == ("the last", 3000)


def test_a_keyboard_interrupt_in_a_group_ends_the_run_and_the_others_are_not_lost():
    def main():
        yield
        raise BaseExceptionGroup("g", [ValueError("v"), KeyboardInterrupt()])

    with pytest.raises(KeyboardInterrupt) as caught:
        run(main())
    assert "ValueError('v')" in repr(caught.value.__cause__)


def test_the_cause_of_a_system_exit_is_kept_and_a_second_one_is_noted():
    def second():
        try:
            yield Sleep(10)
        except Cancelled:
            raise SystemExit(5) from None

    def main():
        yield Spawn(second())
        yield Pause()
        try:
            raise KeyError("k")
        except KeyError as error:
            raise SystemExit(3) from error

    with pytest.raises(SystemExit) as caught:
        run(main())
    assert (caught.value.code, repr(caught.value.__cause__)) == (3, "KeyError('k')")
    assert caught.value.__notes__ == ["task 'second' raised SystemExit(5), too"]


def test_a_task_that_is_done_can_have_no_children_any_more():
    def main():
        task = yield Spawn(sleeper(0))
        yield Join(task)
        with pytest.raises(SyscallError, match="task 'sleeper' is done: it can have no children any more"):
            task.kernel.spawn(sleeper(0), parent=task)

    run(main())


def test_a_cycle_through_join_all_and_ending_tasks_is_reported():
    def child(box):
        yield Sleep(1)
        yield Join(box[1])

    def parent(box):
        yield Spawn(child(box), "child")
        yield JoinAll()

    def other(box):
        yield Join(box[0])

    def main():
        box = []
        box.append((yield Spawn(parent(box), "parent")))
        box.append((yield Spawn(other(box), "other")))

    with pytest.raises(Deadlock, match=r"a cycle: 0.0 parent -> 0.0.0 child -> 0.1 other -> 0.0 parent"):
        run(main())


def test_the_same_interrupt_raised_by_two_tasks_is_one():
    error = SystemExit(1)

    def second():
        try:
            yield Sleep(10)
        except Cancelled:
            raise error from None

    def main():
        yield Spawn(second())
        yield Pause()
        raise error

    with pytest.raises(SystemExit) as caught:
        run(main())
    assert caught.value is error and not hasattr(error, "__notes__")


def test_what_a_scope_that_was_never_left_takes_is_no_failure():
    def child():
        scope, task = Scope(), (yield CurrentTask())
        enter(task, scope)
        task.kernel.cancel(scope, "forgotten")
        yield

    def main():
        return (yield Join((yield Spawn(child()))))

    assert run(main()) is None
