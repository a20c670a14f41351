"""With debug on, scopes that are never entered and handlers that change their calls cause warnings."""

from __future__ import annotations

import gc
import warnings

import pytest

from minisched import (
    Cancel,
    CancelScope,
    Connect,
    InThread,
    Join,
    MoveOnAfter,
    Pause,
    Portal,
    Service,
    Shield,
    Sleep,
    Spawn,
    Syscall,
    SyscallError,
    TaskCancelled,
    TaskGroup,
    Timeout,
    do_now,
    run,
)

SCOPES = [Timeout(1), MoveOnAfter(1), Shield(1), CancelScope(), Portal()]


def warned(main, **options):
    """Return the warnings of a run: the text, and the line after the first one of `main`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main(), debug=True, **options)
        gc.collect()
    first = main.__code__.co_firstlineno
    return [(str(warning.message), warning.lineno - first) for warning in caught]


def never_entered(call, line, main):
    place = f"{__file__}:{main.__code__.co_firstlineno + line}"
    return [
        (
            f"the answer of {call!r} at {place} was dropped, and its block never entered: write `with (yield "
            f"{call!r}):`, or in an `async def` `async with {call!r}:`",
            line,
        )
    ]


@pytest.mark.parametrize("call", SCOPES, ids=repr)
def test_a_dropped_scope_is_named_with_its_line(call):
    def main():
        yield
        yield call
        yield Sleep(0)

    async def coroutine():
        await Pause()
        await call

    def bound():
        scope = yield call  # noqa: F841
        yield Sleep(0)

    def plain():
        yield
        do_now(call)

    assert warned(main) == never_entered(call, 2, main)
    assert warned(coroutine) == never_entered(call, 2, coroutine)
    assert warned(bound) == never_entered(call, 1, bound)
    assert warned(plain) == never_entered(call, 2, plain)


def test_a_line_is_named_once():
    def main():
        for _ in range(3):
            yield Timeout(1)

    assert warned(main) == never_entered(Timeout(1), 2, main)


def test_the_innermost_line_of_the_program_is_named():
    def limit():
        yield Timeout(1)

    async def main():
        async with TaskGroup() as group:
            await group.spawn(limit())

    ((_, line),) = warned(main)
    assert line == limit.__code__.co_firstlineno + 1 - main.__code__.co_firstlineno


def entered_at_once():
    for call in SCOPES:
        with (yield call):
            yield
        with do_now(call):
            yield


async def entered_by_async_with():
    for call in SCOPES:
        async with call:
            await Pause()


def stored_and_entered_later():
    scopes = []
    for call in SCOPES:
        scopes.append((yield call))
    yield Sleep(0.001)
    for scope in scopes:
        with scope:
            yield


def an_error_comes_first():
    """The task meets an error between the yield and the block."""
    for _ in range(2):
        try:
            scope = yield Timeout(1)
            with (yield Connect(("127.0.0.1", 1))), scope:
                yield
        except OSError:
            scope = None


def a_cancellation_comes_first():
    def child():
        scope = yield Timeout(60)
        yield Sleep(60)
        with scope:
            yield

    task = yield Spawn(child())
    yield Sleep(0)
    yield Cancel(task)
    try:
        yield Join(task)
    except TaskCancelled:
        yield


def a_failure_comes_first():
    def child():
        scope = yield Timeout(60)
        int("no number")
        with scope:
            yield

    task = yield Spawn(child(), keep=True)
    try:
        yield Join(task)
    except ValueError:
        del task  # and with it the error, whose traceback has the frame of the child
    yield Sleep(0)
    gc.collect()
    yield Sleep(0)


async def a_group_is_entered_twice():
    async def enter(group):
        async with group:
            await Pause()

    group = TaskGroup()
    await enter(group)
    with pytest.raises(SyscallError, match="was entered before"):
        await enter(group)


def in_another_thread():
    def other():
        run(entered_at_once(), debug=True)

    yield InThread(other)
    with (yield Timeout(1)):
        yield


RIGHT = [
    entered_at_once,
    entered_by_async_with,
    stored_and_entered_later,
    an_error_comes_first,
    a_cancellation_comes_first,
    a_failure_comes_first,
    a_group_is_entered_twice,
    in_another_thread,
]


@pytest.mark.parametrize("main", RIGHT, ids=lambda main: main.__name__)
def test_a_scope_that_is_entered_or_that_an_error_keeps_from_it_causes_no_warning(main):
    assert warned(main) == []


def test_a_run_that_is_aborted_causes_no_warning():
    class Bad(Syscall):
        def handle(self, kernel, task):
            raise kernel.broken_rule("the end")

    def child():
        scope = yield Timeout(60)
        yield Sleep(60)
        with scope:
            yield

    def main():
        yield Spawn(child())
        yield Sleep(0)
        yield Spawn(child())
        yield Bad()

    with warnings.catch_warnings(), pytest.raises(SyscallError, match="the end"):
        warnings.simplefilter("error")
        run(main(), debug=True)


def test_the_finalizer_is_removed_with_the_run():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(entered_at_once(), debug=True)

        def main():
            yield Timeout(1)

        run(main(), debug=False)
    assert not caught


class Counter(Syscall):
    def __init__(self):
        self.count = 0

    def handle(self, kernel, task):
        self.count += 1
        self.other = task
        return self.count


class Sealed(Syscall):
    __slots__ = ("answer",)

    def handle(self, kernel, task):
        self.answer = 5


class Removing(Syscall):
    def __init__(self):
        self.value = 1

    def handle(self, kernel, task):
        del self.value


CHANGES = {Counter: "`self.count` and `self.other`", Sealed: "`self.answer`", Removing: "`self.value`"}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_handler_that_changes_its_call_is_named(kind):
    def main():
        for _ in range(3):
            yield kind()

    code = kind.handle.__code__
    text = (
        f"{kind.__name__}.handle at {__file__}:{code.co_firstlineno} has changed {CHANGES[kind]}, and several tasks "
        "may yield the same call: keep what changes in a Service, or in an object for each wait"
    )
    assert [text for text, _ in warned(main)] == [text]


def test_a_handler_that_changes_a_service_causes_no_warning():
    class Hits(Service):
        count = 0

    class Hit(Syscall):
        def __init__(self):
            self.log = []

        def handle(self, kernel, task):
            kernel.service(Hits).count += 1
            self.log.append(task)  # the call still has the same list

    def main():
        yield Hit()

    assert warned(main) == []


def test_a_warning_that_is_an_error_ends_the_run():
    def main():
        yield Timeout(1)
        yield Sleep(0)

    with warnings.catch_warnings(), pytest.raises(RuntimeWarning, match="never entered"):
        warnings.simplefilter("error")
        run(main(), debug=True)


def test_an_instrument_that_has_the_handlers_keeps_them():
    from minisched.kernel.watcher import Watcher

    class Replay(Watcher):
        def start(self, kernel):
            kernel.execute = lambda call, kernel, task: "replayed"

    def main():
        return (yield Sleep(60))

    assert run(main(), watch=[Replay()], debug=True) == "replayed"
