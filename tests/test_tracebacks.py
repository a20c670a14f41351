"""Tracebacks: they show the user's frames, and of this package only `run`."""

from __future__ import annotations

import traceback

import pytest

from minisched import (
    Accept,
    Cancelled,
    Join,
    Lock,
    MoveOnAfter,
    Queue,
    Sleep,
    Spawn,
    SyscallError,
    TaskGroup,
    TimedOut,
    Timeout,
    gather,
    group,
    race,
)
from minisched.testing import run


def shown(error):
    """Return the names of the functions in a traceback after `run`; assert that all are in this file."""
    names = [(frame.filename == __file__, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    start = max(index for index, (_, name) in enumerate(names) if name == "run")
    assert all(in_test or name == "run" for in_test, name in names), names
    return [name for _, name in names[start + 1 :]]


def fails(wait):
    yield from wait()


def raised():
    yield
    raise ValueError("deep")


def thrown():
    yield Sleep(-1)


def three_deep(wait):
    yield from fails(wait)


def outermost(wait):
    yield from three_deep(wait)


async def outermost_coroutine(wait):
    class Waits:
        def __await__(self):
            return three_deep(wait)

    await Waits()


@pytest.mark.parametrize("wait", [raised, thrown])
@pytest.mark.parametrize("main", [outermost, outermost_coroutine])
def test_an_error_three_deep_shows_the_users_frames(main, wait):
    with pytest.raises(ValueError) as caught:
        run(main(wait))
    assert shown(caught.value) == [main.__name__, "three_deep", "fails", wait.__name__]


def test_a_joined_error_shows_the_frames_of_both_tasks():
    def main():
        task = yield Spawn(outermost(raised), keep=True)
        yield Join(task)

    with pytest.raises(ValueError) as caught:
        run(main())
    assert shown(caught.value) == ["main", "outermost", "three_deep", "fails", "raised"]


@pytest.mark.parametrize("together", [gather, race])
def test_an_error_through_a_group_shows_the_users_frames(together):
    def main():
        yield from together(outermost(raised), outermost(raised))

    with pytest.raises(ValueError) as caught:
        run(main())
    assert shown(caught.value) == ["main", "outermost", "three_deep", "fails", "raised"]


def test_a_group_and_each_error_in_it_show_the_users_frames():
    def body(group):
        yield group.spawn(outermost(raised))

    def main():
        yield from group(body)

    async def coroutine():
        async with TaskGroup() as tasks:
            await tasks.spawn(outermost(raised))

    for program in (main, coroutine):
        with pytest.raises(ExceptionGroup) as caught:
            run(program())
        assert shown(caught.value) == [program.__name__]
        frames = traceback.extract_tb(caught.value.exceptions[0].__traceback__)
        assert [frame.name for frame in frames] == ["outermost", "three_deep", "fails", "raised"]


def test_a_timeout_shows_its_with():
    def main():
        with (yield Timeout(1)):
            yield Sleep(2)

    with pytest.raises(TimedOut) as caught:
        run(main())
    assert shown(caught.value) == ["main"]
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_refused_plain_call_shows_where_it_was_made():
    lock, queue = Lock(), Queue()

    def releases():
        yield lock.acquire()
        lock.release()
        lock.release()

    def puts():
        queue.close()
        yield queue.put(1)

    for main in (releases, puts):
        with pytest.raises(Exception, match=r"was released|is closed") as caught:
            run(main())
        assert shown(caught.value) == [main.__name__]


def test_a_broken_rule_shows_where_the_syscall_was_yielded():
    def main():
        yield Accept

    with pytest.raises(SyscallError) as caught:
        run(main())
    assert shown(caught.value) == ["main"]


def test_cancelled_shows_where_the_task_waited():
    seen = []

    def waits():
        try:
            yield Sleep(5)
        except Cancelled as error:
            seen.append([frame.name for frame in traceback.extract_tb(error.__traceback__)])
            raise

    def main():
        with (yield MoveOnAfter(1)):
            yield from waits()

    run(main())
    assert seen == [["waits"]]


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_an_error_whose_text_raises_is_shown_by_its_class(kind):
    class Wordless(Exception):
        def __str__(self):
            raise kind

    def fails():
        yield Sleep(1)
        raise Wordless

    def waits():
        try:
            yield Sleep(5)
        except Cancelled as error:
            reasons.append(error.reason)
            raise

    def body(team):
        yield team.spawn(fails())
        yield from waits()

    reasons = []
    with pytest.raises(ExceptionGroup):
        run(group(body))
    assert reasons == ["task 'fails' of its group failed: Wordless: <its text cannot be printed>"]


class Whole(BaseExceptionGroup):
    """A group that cannot be split."""

    def derive(self, errors):
        raise TypeError("no part of it")


@pytest.mark.parametrize("others", [[], [ValueError("v"), KeyError("k")]])
def test_a_scope_takes_its_cancelled_out_of_a_group_that_cannot_be_split(others):
    def main():
        scope = yield MoveOnAfter(1)
        try:
            with scope:
                try:
                    yield Sleep(5)
                except Cancelled as error:
                    raise Whole("whole", [BaseExceptionGroup("inner", [error]), *others]) from None
        except BaseExceptionGroup as rest:  # here, since pytest splits groups
            return scope.cancelled_caught, rest.message, rest.exceptions
        return scope.cancelled_caught, None, ()

    text = f"Whole: whole ({len(others) + 1} sub-exceptions)" if others else None
    assert run(main()) == (True, text, tuple(others))
