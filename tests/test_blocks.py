"""`async with call:`: one rule for every call whose answer is a context manager."""

from __future__ import annotations

import gc
import weakref

import pytest

from minisched import (
    Accept,
    Cancel,
    Cancelled,
    CancelScope,
    Connect,
    CurrentTask,
    InThread,
    Join,
    Listen,
    Lock,
    MoveOnAfter,
    Now,
    Pause,
    Portal,
    Read,
    Semaphore,
    Shield,
    Sleep,
    Spawn,
    Syscall,
    SyscallError,
    TaskCancelled,
    TaskGroup,
    TimedOut,
    Timeout,
    Write,
)
from minisched.testing import run


def test_the_block_of_a_timeout_is_cut_short():
    """newcomer A2.9: locks and groups had an `async with`, and timeouts had none."""

    async def main():
        with pytest.raises(TimedOut) as caught:
            async with Timeout(2) as scope:
                await Sleep(60)
        assert caught.value.scope is scope and scope.cancelled_caught
        return await Now()

    assert run(main()) == 2.0


@pytest.mark.parametrize("make", [CancelScope, lambda: MoveOnAfter(5), lambda: Timeout(5)])
def test_a_block_that_is_cancelled_goes_on_after_it(make):
    async def main():
        async with make() as scope:
            scope.cancel("enough")
            await Sleep(1)
        task = await CurrentTask()
        return scope.cancelled_caught and task.scope is task

    assert run(main())


def test_a_shield_hides_a_cancellation():
    async def main():
        async with MoveOnAfter(1) as outer:
            async with Shield(5):
                await Sleep(2)
            await Pause()
        return outer.cancelled_caught, await Now()

    assert run(main()) == (True, 2.0)


def test_two_tasks_may_use_one_call_at_the_same_time():
    timeout = Timeout(2)

    async def worker(seconds):
        async with timeout as scope:
            await Sleep(seconds)
        return scope

    async def main():
        tasks = [await Spawn(worker(seconds), keep=True) for seconds in (1, 3, 1.5)]
        first, third = await Join(tasks[0]), await Join(tasks[2])
        assert first is not third
        with pytest.raises(TimedOut):
            await Join(tasks[1])

    run(main())


def test_one_call_may_be_nested_in_itself():
    scope = CancelScope()

    async def main():
        async with scope as outer:
            async with scope as inner:
                inner.cancel()
                await Sleep(1)
            assert inner.cancelled_caught and not outer.cancel_called
            outer.cancel()
            await Sleep(1)
        return outer.cancelled_caught

    assert run(main())


def test_sockets_are_closed_at_the_end_of_the_block():
    async def main():
        async with Listen(("127.0.0.1", 0)) as listener:
            async with Connect(listener.address) as near, Accept(listener) as far:
                await Write(near, b"hello")
                assert await Read(far, 10) == b"hello"
        return [sock.fileno() for sock in (listener, near, far)]

    assert run(main()) == [-1, -1, -1]


def test_a_portal_is_open_in_the_block():
    async def main():
        async with Portal() as portal:
            return await InThread(portal.call, sum, (1, 2))

    assert run(main()) == 3


@pytest.mark.parametrize("make", [Lock, lambda: Semaphore(1)])
def test_the_acquire_of_a_primitive_is_released_at_the_end_of_the_block(make):
    async def main():
        primitive = make()
        free = None
        for _ in range(2):
            async with primitive.acquire():
                assert primitive.state() != free
            free = primitive.state()

    run(main())


class Noted(Syscall):
    """A call of a program's own, whose answer is a context manager."""

    def __init__(self, swallow=False, fail=""):
        self.log = []
        self.swallow = swallow
        self.fail = fail

    def handle(self, kernel, task):
        return Context(self)


class Context:
    def __init__(self, call):
        self.call = call

    def __enter__(self):
        if self.call.fail == "enter":
            raise OSError("enter")
        self.call.log.append("entered")
        return "value"

    def __exit__(self, kind, error, trace):
        self.call.log.append(kind)
        if self.call.fail == "exit":
            raise OSError("exit")
        return self.call.swallow


def test_the_block_is_that_of_the_answer():
    call, swallowing = Noted(), Noted(swallow=True)

    async def main():
        async with call as value:
            assert value == "value"
        async with swallowing:
            raise KeyError
        with pytest.raises(ZeroDivisionError):
            async with call:
                raise ZeroDivisionError

    run(main())
    assert call.log == ["entered", None, "entered", ZeroDivisionError]
    assert swallowing.log == ["entered", KeyError]


@pytest.mark.parametrize("fail", ["enter", "exit"])
def test_an_error_of_the_answer_passes_and_no_block_is_left(fail):
    async def main():
        task = await CurrentTask()
        with pytest.raises(OSError, match=fail):
            async with Noted(fail=fail):
                await Pause()
        return task.scope is task

    assert run(main())


def test_a_child_that_outlives_the_block_goes_on():
    async def child():
        await Sleep(5)
        return "done"

    async def main():
        async with Noted():
            task = await Spawn(child())
        return await Join(task)

    assert run(main()) == "done"


def test_a_cancellation_of_the_task_passes_the_block():
    call = Noted()

    async def child():
        async with call, MoveOnAfter(5):
            await Sleep(60)

    async def main():
        task = await Spawn(child())
        await Pause()
        await Cancel(task)
        with pytest.raises(TaskCancelled):
            await Join(task)

    run(main())
    assert call.log == ["entered", Cancelled]


def test_a_run_that_is_aborted_leaves_the_blocks():
    call = Noted()

    async def child():
        async with Timeout(5), call, TaskGroup(), Noted(fail="exit"):
            await Sleep(60)

    class Bad(Syscall):
        def handle(self, kernel, task):
            raise kernel.broken_rule("the end")

    async def main():
        await Spawn(child())
        await Sleep(1)
        await Bad()

    with pytest.raises(SyscallError, match="the end") as caught:
        run(main())
    assert call.log == ["entered", ExceptionGroup]
    (note,) = caught.value.__notes__
    assert note.startswith("task 'child' raised ExceptionGroup") and "OSError('exit')" in note


def test_a_scope_that_is_left_open_in_the_block_is_an_error():
    async def main():
        with pytest.raises(SyscallError, match=r"^a scope was left out of order"):
            async with Timeout(5):
                (await CancelScope()).__enter__()

    run(main())


def test_an_async_generator_may_not_be_left_between_turns():
    async def items():
        async with Timeout(5):
            yield 1

    async def other(generator):
        async with MoveOnAfter(9) as scope:
            with pytest.raises(SyscallError, match=r"^a scope was left out of order"):
                await generator.aclose()
            scope.cancel()
            await Pause()
        assert scope.cancelled_caught

    async def main():
        generator = items()
        await anext(generator)
        await Join(await Spawn(other(generator)))

    run(main())


def test_the_answer_is_freed_with_its_block():
    async def main():
        async with Noted():
            answer = weakref.ref((await CurrentTask()).scope.answer)
        return answer()

    gc.disable()
    try:
        assert run(main()) is None
    finally:
        gc.enable()


def test_a_call_is_never_changed():
    async def main():
        call = MoveOnAfter(1)
        async with call:
            await Pause()
        return call.seconds, call.__slots__

    assert run(main()) == (1, ("seconds",))
