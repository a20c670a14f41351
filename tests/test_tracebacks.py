"""What a traceback shows: the user's frames, and of ours none but `run`."""

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
    """Return the names of the functions in a traceback that are not the test's own, from `run` on."""
    names = [(frame.filename == __file__, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    start = max(index for index, (_, name) in enumerate(names) if name == "run")
    assert all(ours or name == "run" for ours, name in names), names
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


def test_an_error_that_is_joined_shows_both_tasks():
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


def test_a_plain_call_that_is_refused_shows_where_it_was_made():
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


def test_a_broken_rule_shows_where_the_call_was_yielded():
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
