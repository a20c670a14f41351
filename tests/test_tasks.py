"""Tests of Spawn, Join, JoinAll, Cancel, CurrentTask and Pause, and of what happens when a task ends."""

from __future__ import annotations

import inspect
import sys
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
from minisched.kernel import Scope
from minisched.kernel.lifecycle import Lifecycle
from minisched.kernel.scoping import enter
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


LENGTHS = pytest.mark.parametrize("length", [200, pytest.param(3000, marks=pytest.mark.slow)])


@pytest.fixture
def few_frames():
    """Leave Python 100 frames until it raises RecursionError: any recursion along a longer chain of tasks fails."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    yield
    sys.setrecursionlimit(limit)


# Order.


def test_three_tasks_take_their_turns_in_the_order_of_their_spawns():
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
        first = yield Spawn(sleeper(0))
        second = yield Spawn(sleeper(0), "second")
        return (yield CurrentTask()).name, first.name, second.name, first.path, second.path

    assert run(main()) == ("main", "sleeper", "second", (0, 0), (0, 1))


# Join.


@pytest.mark.parametrize("child_seconds", [0, 1])
def test_join_returns_the_result_each_time_before_and_after_the_end(child_seconds):
    def main():
        task = yield Spawn(sleeper(child_seconds, "result"))
        first = yield Join(task)
        yield Sleep(1)
        return first, (yield Join(task))

    assert run(main()) == ("result", "result")


def test_join_raises_the_same_exception_each_time_with_the_traceback_of_the_failure():
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


def test_joining_a_task_cancelled_while_parked_returns_at_once():
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


def test_a_cancelled_task_that_returns_nevertheless_has_a_result():
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
        return (yield Join(task)), (yield Join(other)), joining.cancelled_caught

    def joiner(task):
        return (yield Join(task))

    assert run(main()) == ("result", "result", True)


@pytest.mark.parametrize("joined", ["itself", "'main', which waits for its end"])
def test_joining_the_task_itself_or_an_ancestor_is_refused(joined):
    def child(main_task):
        me = yield CurrentTask()
        with pytest.raises(SyscallError, match=f"task 'child' joined {joined}: that would wait for ever"):
            yield Join(me if joined == "itself" else main_task)

    def main():
        yield Spawn(child((yield CurrentTask())))

    run(main())


@pytest.mark.parametrize("verb", [Join, Cancel])
def test_join_and_cancel_refuse_anything_but_a_task_of_this_run(verb):
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


def test_join_all_can_be_cancelled():
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


# Structured concurrency: a task ends after its children.


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


def test_daemons_are_cancelled_and_waited_for_when_no_other_child_is_left():
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


@LENGTHS
@pytest.mark.parametrize("end", ["returns", "fails", "is cancelled"])
def test_a_chain_of_tasks_that_each_spawned_the_next_ends_without_recursion(few_frames, end, length):
    def link(depth):
        if depth:
            yield Spawn(link(depth - 1))
        elif end == "fails":
            raise ValueError("the last")
        elif end == "is cancelled":
            yield Sleep(1000)

    def main():
        task = yield Spawn(link(length), keep=True)
        yield Sleep(1)
        yield Cancel(task)
        try:
            yield Join(task)
        except ExceptionGroup as group:
            return innermost(group)
        return "returned"

    # A body that returned before the cancellation keeps its result: only the last task of the chain is cancelled.
    expected = {"returns": "returned", "fails": ("the last", True), "is cancelled": "returned"}
    assert run(main()) == expected[end]


def innermost(error):
    """Return the text of the error inside nested groups, and whether they are at most as deep as Python prints them."""
    depth = 0
    while isinstance(error, ExceptionGroup):
        error, depth = error.exceptions[0], depth + 1
    return str(error), depth <= 10


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


def test_the_group_has_the_tasks_own_error_first_and_then_the_childrens_in_the_order_in_which_they_ended():
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


def test_a_parent_that_a_childs_failure_ended_counts_as_failed_not_as_cancelled():
    def parent():
        yield Spawn(failing(1, ValueError("v")))
        yield Sleep(10)

    def main():
        task = yield Spawn(parent(), keep=True)
        with pytest.raises(ExceptionGroup):
            yield Join(task)
        return task.cancelled_caught

    assert run(main()) is False


def test_a_parent_that_joins_a_failing_child_is_cancelled_and_does_not_get_the_failure_from_join():
    def main():
        task = yield Spawn(failing(1, ValueError("v")))
        try:
            yield Join(task)
        except Cancelled:
            raise
        except ValueError:
            pytest.fail("Join raised the failure, which belongs to the parent")

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert len(caught.value.exceptions) == 1


def test_an_error_raised_by_a_task_and_its_child_is_in_the_group_once():
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


def test_a_kept_failure_that_was_never_joined_is_in_the_parents_group():
    def main():
        yield Spawn(failing(1, ValueError("v")), keep=True)
        yield Sleep(5)
        return "lost"

    with pytest.raises(ExceptionGroup, match="children of task 'main' failed"):
        run(main())


def test_the_parent_discards_a_kept_failure_that_was_joined():
    def main():
        me = yield CurrentTask()
        for _ in range(3):
            task = yield Spawn(failing(1, ValueError("v")), keep=True)
            yield Sleep(2)
            assert list(me.kernel.service(Lifecycle).failed[me]) == [task]
            with pytest.raises(ValueError, match="v"):
                yield Join(task)
            assert me not in me.kernel.service(Lifecycle).failed

    run(main())


def test_the_failure_of_a_daemon_counts_like_any_other():
    def main():
        yield Spawn(failing(1, ValueError("v")), daemon=True)
        yield Sleep(5)

    with pytest.raises(ExceptionGroup):
        run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_keyboard_interrupt_or_system_exit_in_any_task_cancels_main_and_run_raises_it(kind):
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


def test_a_cancelled_that_no_scope_sent_is_a_failure():
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
        return [repr(error) for error in caught.value.exceptions], task.cancelled_caught

    assert run(main()) == (["ValueError('v')"], False)


def test_the_cancellation_of_a_child_is_not_a_failure_of_its_parent():
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
        yield Sleep(1)  # a later timer than the child's: the end of the child has woken the parent when this task runs
        assert task.state == "ready"
        yield Cancel(task)

    run(main())
    assert log == ["joined", "cancelled later"]


def test_join_passes_the_conformance_test():
    check_syscall(child_then_join)


def test_the_repr_of_each_call_names_its_task():
    def main():
        task = yield Spawn(sleeper(0), "child")
        return [repr(call) for call in (Spawn(sleeper(0)), Join(task), Cancel(task), JoinAll(), CurrentTask(), Pause())]

    body = ["Spawn(sleeper)", "Join(child)", "Cancel(child)", "JoinAll()", "CurrentTask()", "Pause()"]
    assert run(main()) == body


def test_an_on_done_callback_receives_the_task_and_may_take_its_failure():
    called = []

    def main():
        lifecycle = (yield CurrentTask()).kernel.service(Lifecycle)
        for deals in (True, False):
            task = yield Spawn(failing(1, ValueError("v")), keep=True)
            lifecycle.on_done[task] = lambda task, deals=deals: called.append(task.failure) or deals
            yield Spawn(sleeper(5))
            yield Sleep(2)
            assert lifecycle.on_done == {}

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert len(called) == 2 and caught.value.exceptions == (called[1],)


def test_the_on_done_callback_of_a_task_that_never_ended_is_called_at_the_end_of_the_run():
    called = []

    def main():
        task = yield CurrentTask()
        task.kernel.service(Lifecycle).on_done[task] = lambda task: called.append(task.name)
        task.kernel.broken_rule("stop here")

    with pytest.raises(SyscallError, match="stop here"):
        run(main())
    assert called == ["main"]


def test_a_group_without_cancelled_is_a_failure_like_any_other():
    group = ExceptionGroup("g", [ValueError(1)])

    def main():
        yield
        raise group

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert caught.value is group


@LENGTHS
def test_the_nested_group_of_a_long_chain_can_be_joined_and_passed_on(few_frames, length):
    def deep(depth):
        if depth:
            yield Spawn(deep(depth - 1))
        else:
            yield
            raise ValueError("the last")

    def main():
        yield Join((yield Spawn(deep(length), keep=True)))

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert innermost(caught.value) == ("the last", True)


def test_a_keyboard_interrupt_in_an_exception_group_ends_the_run_and_the_other_errors_are_kept():
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


def test_a_done_task_can_have_no_children():
    def main():
        task = yield Spawn(sleeper(0))
        yield Join(task)
        with pytest.raises(SyscallError, match="task 'sleeper' is done: it can have no more children"):
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


def test_the_same_interrupt_raised_by_two_tasks_is_raised_once_without_a_note():
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


def test_a_cancelled_that_an_unleft_scope_swallows_is_not_a_failure():
    def child():
        scope, task = Scope(), (yield CurrentTask())
        enter(task, scope)
        task.kernel.cancel(scope, "forgotten")
        yield

    def main():
        return (yield Join((yield Spawn(child()))))

    assert run(main()) is None


@pytest.mark.parametrize("kind", [Spawn, Join, JoinAll, Cancel, CurrentTask, Pause])
def test_each_call_can_be_awaited(kind):
    async def main():
        task = await Spawn(sleeper(1, "result"))
        calls = {Spawn: (sleeper(0),), Join: (task,), Cancel: (task,)}
        answer = await kind(*calls.get(kind, ()))
        return getattr(answer, "name", answer), await Now()

    answers = {Spawn: ("sleeper", 0), Join: ("result", 1), JoinAll: (None, 1), CurrentTask: ("main", 0)}
    assert run(main()) == answers.get(kind, (None, 0))
