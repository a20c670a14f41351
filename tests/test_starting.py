"""Tests of `group.start`: a task that says when it has started."""

from __future__ import annotations

import gc
from contextvars import ContextVar
from functools import partial
from math import inf

import pytest

import minisched
from minisched import (
    Cancel,
    Cancelled,
    Connect,
    CurrentTask,
    Deadlock,
    JoinAll,
    MoveOnAfter,
    Now,
    Read,
    Shield,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    TaskGroup,
    Timeout,
    Write,
    as_completed,
    group,
    serve,
)
from minisched.testing import VirtualClock, cancel_everywhere, run


async def server(started, seconds=1, value=None, log=None, cleanup=0, error=None):
    """Start for `seconds`, say so, and run until cancelled; clean up for `cleanup` seconds and perhaps fail."""
    try:
        await Sleep(seconds)
        if value is None:
            started()
        else:
            started(value)
        await Sleep(inf)
    except Cancelled as cancelled:
        with await Shield(None):
            await Sleep(cleanup)
        if log is not None:
            log.append((await Now(), cancelled.reason))
        if error is not None:
            raise error from None
        raise


async def failing(started, error, seconds=1):
    await Sleep(seconds)
    raise error


def test_start_waits_until_the_task_has_started_and_returns_its_value():
    async def main():
        async with TaskGroup() as team:
            assert await team.start(server, 2, "value") == "value"
            assert await Now() == 2
            assert await team.start(server, name="another") is None
            assert len(team.alive) == 2
            team.cancel()
        return await Now()

    assert run(main()) == 3


def test_start_works_in_a_generator():
    def main():
        def body(team):
            return (yield from team.start(child, "value"))

        def child(started, value):
            started(value)
            yield Sleep(5)

        return (yield from group(body)), (yield Now())

    assert run(main()) == ("value", 5)


def test_a_task_may_start_in_its_first_turn_and_end_in_it():
    async def child(started):
        started("value")

    async def main():
        async with TaskGroup() as team:
            return await team.start(child)

    assert run(main()) == "value"


def test_a_failure_before_the_start_is_raised_by_start_and_leaves_the_group_alone():
    error = ValueError("v")

    async def main():
        async with TaskGroup() as team:
            await team.spawn(server(lambda: None, 3, log=log))
            with pytest.raises(ValueError) as caught:
                await team.start(failing, error)
            assert caught.value is error
            assert (await Now(), len(team.alive)) == (1, 1)
            await Sleep(4)
            team.cancel()
        return await Now()

    log = []
    assert run(main()) == 5
    assert log == [(5, None)]


def test_a_failure_in_the_first_turn_is_raised_by_start():
    def child(started):
        raise ValueError("v")
        yield

    async def main():
        async with TaskGroup() as team:
            with pytest.raises(ValueError, match="v"):
                await team.start(child)
        return "done"

    assert run(main()) == "done"


def test_a_failure_after_the_start_ends_the_group():
    error = ValueError("v")

    async def child(started):
        started()
        await Sleep(1)
        raise error

    async def main():
        async with TaskGroup() as team:
            await team.start(child)
            await Sleep(9)

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert caught.value.exceptions == (error,)


def test_a_task_that_ends_without_saying_so_is_an_error():
    async def child(started):
        await Sleep(1)

    async def main():
        async with TaskGroup() as team:
            with pytest.raises(SyscallError, match="task 'child' ended before it called `started`: call it"):
                await team.start(child)
        return "done"

    assert run(main()) == "done"


def test_a_task_that_is_cancelled_alone_before_it_has_started_is_an_error():
    async def child(started, tasks):
        tasks.append(await CurrentTask())
        await Sleep(9)

    async def main():
        tasks = []

        async def cancels():
            await Sleep(1)
            await Cancel(tasks[0], "not now")

        async with TaskGroup() as team:
            await team.spawn(cancels())
            with pytest.raises(TaskCancelled, match="not now"):
                await team.start(child, tasks)
        return await Now()

    assert run(main()) == 1


def test_a_cancellation_of_the_starter_cancels_the_task_and_waits_for_its_end():
    log = []

    async def main():
        async with TaskGroup() as team:
            with await MoveOnAfter(2) as scope:
                await team.start(partial(server, seconds=9, log=log, cleanup=3), name="server")
            assert (scope.cancelled_caught, len(team.alive), await Now()) == (True, 0, 5)
        return "went on"

    assert run(main()) == "went on"
    assert log == [
        (5, "task 'main', which starts it, was cancelled (by task 'main')".removesuffix(" (by task 'main')"))
    ]


def test_a_failure_in_the_cleanup_of_a_cancelled_start_ends_the_group():
    error = ValueError("v")

    async def main():
        async with TaskGroup() as team:
            with await MoveOnAfter(2):
                await team.start(partial(server, seconds=9, cleanup=3, error=error), name="server")

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert caught.value.exceptions == (error,)


def test_a_task_that_says_so_during_its_cancellation_has_not_started():
    async def child(started):
        try:
            await Sleep(9)
        finally:
            started("too late")

    async def main():
        async with TaskGroup() as team:
            with await MoveOnAfter(2) as scope:
                pytest.fail(await team.start(child))
            return scope.cancelled_caught, len(team.alive)

    assert run(main()) == (True, 0)


def test_a_start_that_has_happened_wins_over_a_cancellation_in_the_same_turn():
    async def child(started, scopes):
        await Sleep(1)
        started("value")
        scopes[0].cancel()
        await Sleep(inf)

    async def main():
        scopes = []
        async with TaskGroup() as team:
            with await MoveOnAfter(None) as scope:
                scopes.append(scope)
                value = await team.start(child, scopes)
            alive = len(team.alive)
            team.cancel()
        return value, alive

    assert run(main()) == ("value", 1)


def test_a_cancelled_starter_starts_nothing():
    async def main():
        async with TaskGroup() as team:
            with await MoveOnAfter(0):
                await team.start(lambda started: pytest.fail("called"))
            return len(team.alive)

    assert run(main()) == 0


def test_a_cancellation_of_the_group_ends_the_start():
    log = []

    async def stops(team):
        await Sleep(1)
        team.cancel()

    async def main():
        async with TaskGroup() as team:
            await team.spawn(stops(team))
            await team.start(partial(server, seconds=9, log=log, cleanup=2), name="server")
        return await Now()

    assert run(main()) == 3
    assert [time for time, _ in log] == [3]


def test_a_task_outside_the_group_may_start_one_in_it_and_gets_its_cancellation():
    async def owner(teams):
        async with TaskGroup() as team:
            teams.append(team)
            await Sleep(1)
            team.cancel("no more")

    async def main():
        teams = []
        await Spawn(owner(teams))
        await Sleep(0)
        with pytest.raises(TaskCancelled, match="no more"):
            await teams[0].start(server, 9)
        return await Now()

    assert run(main()) == 1


@pytest.mark.parametrize("when", ["before the block", "after the block"])
def test_a_group_that_is_not_entered_starts_nothing(when):
    async def main():
        team = TaskGroup()
        if when == "after the block":
            async with team:
                pass
        with pytest.raises(SyscallError, match=r"has not been entered yet|has ended"):
            await team.start(lambda started: pytest.fail("called"))

    run(main())


def test_started_is_called_once_and_not_after_the_end():
    calls = []

    async def child(started):
        calls.append(started)
        started()
        with pytest.raises(SyscallError, match="a second time, or after the end of its task"):
            started()

    async def main():
        async with TaskGroup() as team:
            await team.start(child)
        with pytest.raises(SyscallError, match="a second time, or after the end of its task"):
            calls[0]()

    run(main())


def test_started_is_called_in_the_task_and_not_before_it_exists():
    def child(started):
        started()

    async def main():
        async with TaskGroup() as team:
            with pytest.raises(SyscallError, match="called before its task exists"):
                await team.start(child)
            with pytest.raises(SyscallError, match="takes a function"):
                await team.start(server(print))
            with pytest.raises(SyscallError, match="None is not a task"):
                await team.start(lambda started: None)
            with pytest.raises(ZeroDivisionError):
                await team.start(lambda started: 1 / 0)

    with pytest.warns(RuntimeWarning, match="never awaited"):
        run(main())


def test_started_is_refused_in_another_thread():
    from minisched import InThread

    async def child(started):
        with pytest.raises(SyscallError, match="in another thread"):
            await InThread(started)
        started("here")

    async def main():
        async with TaskGroup() as team:
            return await team.start(child)

    assert run(main()) == "here"


def test_the_ready_of_a_server_is_a_started():
    async def echo(conn):
        while data := await Read(conn, 100):
            await Write(conn, data)

    async def main():
        async with TaskGroup() as team:
            listener = await team.start(lambda started: serve(echo, "127.0.0.1", 0, ready=started))
            with await Connect(listener.address) as conn:
                await Write(conn, b"hello")
                answer = await Read(conn, 100)
            team.cancel()
        return answer

    assert run(main()) == b"hello"


def test_a_failure_of_a_server_that_cannot_listen_is_raised_by_start():
    async def main():
        async with TaskGroup() as team:
            with pytest.raises(OSError, match=r"256\.0\.0\.1"):
                await team.start(lambda started: serve(print, "256.0.0.1", 0, ready=started))
        return "done"

    assert run(main()) == "done"


def test_a_started_task_has_the_context_of_its_starter():
    request = ContextVar("request", default="none")

    async def child(started):
        started(request.get())

    async def starter(team, seen):
        request.set("request 7")
        seen.append(await team.start(child))

    async def main():
        seen = []
        async with TaskGroup() as team:
            await team.spawn(starter(team, seen))
        return seen

    assert run(main()) == ["request 7"]


def test_as_completed_may_start_further_tasks():
    async def child(started):
        started()
        await Sleep(1)
        return "further"

    async def first():
        await Sleep(5)
        return "first"

    async def main():
        found = []
        async with as_completed(first()) as results:
            await results.start(child)
            async for result in results:
                found.append(result)
        return found

    assert run(main()) == ["further", "first"]


def test_a_deadlock_report_names_the_task_that_is_not_started():
    async def child(started):
        await Sleep(inf)

    async def main():
        async with TaskGroup() as team:
            await team.start(child)

    with pytest.raises(Deadlock, match=r"main waits in StartTask\(<TaskGroup #1: 1 tasks alive>, child\)"):
        run(main())


def test_a_starter_that_is_closed_leaves_its_task_to_the_group():
    log = []

    def starter(team):
        inner, answer = team.start(partial(server, seconds=9, log=log, cleanup=1), name="server"), None
        with (yield MoveOnAfter(2)):
            try:
                while True:
                    answer = yield inner.send(answer)
            finally:
                inner.close()

    def main():
        yield from group(starter)
        return (yield Now())

    assert run(main()) == 3
    assert log == [(3, "task 'main', which starts it, was closed")]


def test_an_aborted_run_closes_a_start():
    async def main():
        async with TaskGroup() as team:
            await team.spawn(stops())
            await team.start(server, 9)

    async def stops():
        await Sleep(1)
        (await CurrentTask()).kernel.broken_rule("stop here")

    with pytest.raises(SyscallError, match="stop here") as caught:
        run(main())
    assert not getattr(caught.value, "__notes__", [])


def test_a_starter_is_woken_when_the_owner_of_the_group_was_closed():
    log = []

    def owner(teams):
        def body(team):
            teams.append(team)
            yield Sleep(inf)

        inner, answer = group(body), None
        while not isinstance(asked := inner.send(answer), Sleep):
            answer = yield asked
        yield Sleep(2)
        inner.close()

    async def main():
        teams = []
        await Spawn(owner(teams))
        await Sleep(1)
        with pytest.raises(TaskCancelled):
            await teams[0].start(partial(server, seconds=9, log=log, cleanup=1), name="server")
        return await Now()

    assert run(main()) == 3
    assert [time for time, _ in log] == [3]


def test_a_start_that_is_cancelled_at_any_point_leaves_nothing():
    def make():
        async def main():
            async with TaskGroup() as team:
                with await Timeout(9):
                    await team.start(partial(server, seconds=1, cleanup=1), name="server")
                await team.start(partial(server, seconds=2, cleanup=1), name="server")
                team.cancel()
            await JoinAll()

        return main()

    assert cancel_everywhere(make) > 10


@pytest.mark.parametrize("outcome", ["fails first", "says nothing", "fails later", "is cancelled"])
def test_a_start_leaves_no_reference_cycle(outcome):
    async def child(started):
        if outcome == "fails later":
            started()
            await Sleep(1)
        if outcome != "says nothing":
            await Sleep(1)
            raise ValueError

    async def main():
        try:
            async with TaskGroup() as team:
                with await MoveOnAfter(0.5 if outcome == "is cancelled" else None):
                    await team.start(child)
                await Sleep(5)
        except (ValueError, SyscallError, ExceptionGroup):
            pass

    async def several():
        await main()
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await main()
            await Sleep(0)
            return gc.collect()
        finally:
            gc.enable()

    assert minisched.run(several(), clock=VirtualClock()) == 0


def test_a_start_that_is_closed_before_it_begins_starts_nothing():
    def body(team):
        start = team.start(lambda started: pytest.fail("called"))
        assert repr(next(start)).startswith("StartTask(")
        start.close()
        return len(team.alive)
        yield

    assert run(group(body)) == 0


def test_a_deadlock_report_names_the_task_whose_cleanup_a_cancelled_start_waits_for():
    async def child(started):
        try:
            await Sleep(inf)
        finally:
            with await Shield(None):
                await Sleep(inf)

    async def main():
        async with TaskGroup() as team:
            with await MoveOnAfter(1):
                await team.start(child)

    waits = r"main waits in StartCancelled\(StartTask\(<TaskGroup #1: 1 tasks alive>, child\)\)"
    with pytest.raises(Deadlock, match=waits):
        run(main())
