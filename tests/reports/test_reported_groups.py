"""Groups and scopes: faults that others reported, and their siblings."""

from __future__ import annotations

import pickle
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from math import inf

import pytest

import minisched
from minisched import (
    Cancelled,
    CancelScope,
    CurrentTask,
    JoinAll,
    MoveOnAfter,
    Now,
    Sleep,
    Spawn,
    SyscallError,
    TaskGroup,
    TimedOut,
    Timeout,
    as_completed,
    gather,
    group,
    race,
    supervise,
)
from minisched.testing import VirtualClock, run


def nap(seconds, result=None):
    yield Sleep(seconds)
    return result


def failing(seconds, error):
    yield Sleep(seconds)
    raise error


async def logged(log, cleanup=0, error=None):
    """Sleep until cancelled; clean up for `cleanup` seconds, log the time, and perhaps fail."""
    try:
        await Sleep(inf)
    finally:
        await cleaned_up(log, cleanup)
        if error is not None:
            raise error


async def cleaned_up(log, seconds):
    from minisched import Shield

    with await Shield(None):
        await Sleep(seconds)
        log.append(await Now())


def raised(main):
    with pytest.raises(BaseException) as caught:
        run(main)
    return caught.value


# B: a group in an async generator.


def in_task_group(log, error=None):
    async def numbers():
        async with TaskGroup() as team:
            await team.spawn(logged(log, 2, error))
            for number in range(5):
                await Sleep(1)
                yield number

    return numbers()


def in_as_completed(log, error=None):
    async def numbers():
        async with as_completed(nap(1, 0), logged(log, 2, error)) as results:
            async for result in results:
                yield result

    return numbers()


@pytest.mark.parametrize("numbers", [in_task_group, in_as_completed])
def test_aclose_cancels_the_children_of_a_group_and_waits_for_them(numbers):
    """concurrency B: a TaskGroup in an async generator: `aclose` leaves its children running."""
    log = []

    async def main():
        async with aclosing(numbers(log)) as some:
            async for _ in some:
                break
        return await Now(), (await CurrentTask()).live_children

    assert run(main()) == (3, 0)
    assert log == [3]


def test_aclose_waits_for_the_children_when_the_consumer_fails():
    """concurrency B: the consumer handles its own error after the children have ended."""
    log = []

    async def main():
        try:
            async with aclosing(in_task_group(log)) as some:
                async for _ in some:
                    raise KeyError
        except KeyError:
            return await Now()

    assert run(main()) == 3


@pytest.mark.parametrize(("numbers", "grouped"), [(in_task_group, True), (in_as_completed, False)])
def test_aclose_raises_the_failures_of_children_that_clean_up(numbers, grouped):
    """concurrency B: a failure in the cleanup of a child is not lost."""
    error = ValueError("v")

    async def main():
        try:
            async with aclosing(numbers([], error)) as some:
                async for _ in some:
                    break
        except (ValueError, ExceptionGroup) as caught:
            return caught.exceptions if grouped else caught

    assert run(main()) == ((error,) if grouped else error)


def test_a_cancellation_during_aclose_waits_for_the_children():
    """concurrency B: the wait for the children cannot be cancelled, as at any other end of a group."""
    log = []

    async def main():
        with await MoveOnAfter(2) as scope:
            async with aclosing(in_task_group(log)) as some:
                async for _ in some:
                    break
            await Sleep(0)
        return scope.cancelled_caught, await Now()

    assert run(main()) == (True, 3)
    assert log == [3]


def test_aclose_of_nested_generators_ends_the_groups_from_inside_out():
    """concurrency B: each generator has its group."""
    log = []

    async def outer():
        async with TaskGroup() as team:
            await team.spawn(logged(log, 1))
            async with aclosing(in_task_group(log)) as some:
                async for number in some:
                    yield number

    async def main():
        async with aclosing(outer()) as some:
            async for _ in some:
                break
        return await Now()

    assert run(main()) == 4
    assert log == [3, 4]


def test_a_coroutine_that_is_closed_does_not_wait_for_the_group_of_its_asynccontextmanager():
    """concurrency B: the GeneratorExit goes on into an async generator, but began where no wait is possible."""
    log = []

    @asynccontextmanager
    async def crew():
        async with TaskGroup() as team:
            await team.spawn(logged(log, cleanup=1))
            yield

    async def body():
        async with crew():
            await Sleep(9)

    def main():
        inner, answer = body(), None
        while not isinstance(asked := inner.send(answer), Sleep):
            answer = yield asked
        yield Sleep(2)
        inner.close()
        return (yield Now())

    assert run(main()) == 2
    assert log == [3]


@pytest.mark.parametrize("close", ["swallows", "aborted"])
def test_a_body_that_the_kernel_closes_cancels_the_groups_of_its_generators(close):
    """concurrency B: where the block cannot wait, since the kernel closes the task, nothing is awaited."""
    log = []

    async def main():
        async with aclosing(in_task_group(log)) as some:
            async for _ in some:
                if close == "aborted":
                    (await CurrentTask()).kernel.broken_rule("stop here")
                while True:
                    try:
                        (await CurrentTask()).kernel.cancel(await CurrentTask())
                        await Sleep(1)
                    except Cancelled:
                        pass

    async def top():
        await Spawn(main())
        await JoinAll()

    error = raised(top())
    texts = [str(error), *map(str, getattr(error, "exceptions", ())), *getattr(error, "__notes__", ())]
    assert not [text for text in texts if "ignored GeneratorExit" in text]
    assert log == ([] if close == "aborted" else [3])


def test_an_asynccontextmanager_around_a_group_ends_it_when_its_block_fails():
    """concurrency B, a variant that was right: the generator is left by an error, not by a GeneratorExit."""
    log = []

    @asynccontextmanager
    async def team():
        async with TaskGroup() as children:
            yield children

    async def main():
        try:
            async with team() as children:
                await children.spawn(logged(log, 1))
                await Sleep(1)
                raise KeyError
        except* KeyError:
            pass
        return await Now()

    assert run(main()) == 2


# C: the GeneratorExit of a child.


@pytest.mark.parametrize("call", [gather, race, lambda *bodies: as_completed(*bodies).for_each(print)])
@pytest.mark.parametrize("error", [ValueError("v"), GeneratorExit("g")])
def test_the_failure_of_a_child_that_raises_generator_exit_is_raised_once(call, error):
    """concurrency C: a child's GeneratorExit is taken for the owner's closing."""

    def main():
        try:
            yield from call(failing(1, error))
        except BaseException as caught:
            assert caught is error
        return "fine"

    assert run(main()) == "fine"


def test_a_generator_exit_among_the_failures_of_a_task_group_is_a_failure():
    """concurrency C: the group raises it with the others."""
    error = GeneratorExit("g")

    async def main():
        async with TaskGroup() as team:
            await team.spawn(failing(1, error))

    assert raised(main()).exceptions == (error,)


# H: a Cancelled of another scope.


def test_a_timeout_left_in_a_generator_is_reported_through_a_group():
    """concurrency H: the timeout of an async generator ends the block of a TaskGroup, quietly."""

    async def numbers():
        with await Timeout(3):
            for number in range(10):
                await Sleep(1)
                yield number

    async def work():
        async with TaskGroup():
            async with aclosing(numbers()) as some:
                async for _ in some:
                    await Sleep(5)

    async def main():
        await work()
        pytest.fail("the block was cut short")

    error = raised(main())
    assert isinstance(error, SyscallError)
    assert "left before" in str(error) and "`yield` across a `with` in a generator" in str(error)
    assert isinstance(error.__cause__, Cancelled)


@pytest.mark.parametrize("block", ["TaskGroup", "group", "as_completed", "for_each", "MoveOnAfter"])
def test_a_cancelled_that_no_scope_has_sent_passes_through_a_block(block):
    """concurrency H: `raise Cancelled` in a TaskGroup ends its block, quietly."""
    log = []

    async def cancels(_):
        raise Cancelled("mine")

    async def main():
        match block:
            case "TaskGroup":
                async with TaskGroup() as team:
                    await team.spawn(logged(log, 1))
                    await Sleep(1)
                    await cancels(team)
            case "group":
                await group(cancels)
            case "as_completed":
                async with as_completed(nap(1)):
                    await cancels(None)
            case "for_each":
                await as_completed(nap(1)).for_each(cancels)
            case "MoveOnAfter":
                with await MoveOnAfter(5):
                    await cancels(None)
        pytest.fail("the block was cut short")

    error = raised(main())
    assert isinstance(error, SyscallError) and "no scope had sent it" in str(error)
    assert log == ([2] if block == "TaskGroup" else [])  # the block waited for its child


def test_an_old_cancelled_that_is_raised_again_passes_through_a_group():
    """concurrency H: it is the Cancelled of a scope that was left before."""

    async def main():
        old = None
        with await MoveOnAfter(1):
            try:
                await Sleep(5)
            except Cancelled as error:
                old = error
                raise
        async with TaskGroup():
            raise old

    assert "left before" in str(raised(main()))


def test_a_cancelled_of_an_outer_scope_reaches_it_through_a_group_inside_a_shield():
    """concurrency H: a Cancelled that is raised again behind a shield was swallowed there, and the scope kept none."""
    from minisched import Shield

    async def main():
        with await MoveOnAfter(1) as scope:
            try:
                await Sleep(5)
            except Cancelled:
                with await Shield(None):
                    async with TaskGroup():
                        raise
            pytest.fail("the Cancelled was swallowed inside the shield")
        return scope.cancelled_caught

    assert run(main())


def test_a_failure_of_a_child_wins_over_a_cancelled_that_no_scope_has_sent():
    """concurrency H: no failure is lost beside it."""
    error = ValueError("v")

    async def main():
        async with TaskGroup() as team:
            await team.spawn(logged([], 1, error))
            await Sleep(1)
            raise Cancelled("mine")

    assert raised(main()).exceptions == (error,)


@pytest.mark.parametrize("outer", [CancelScope, lambda: Timeout(1)])
def test_a_group_swallows_no_cancelled_of_a_scope_outside(outer):
    """concurrency H, what was right: a Cancelled of an outer scope passes."""

    async def main():
        try:
            with await outer() as scope:
                async with TaskGroup() as team:
                    await team.spawn(nap(9))
                    if scope.deadline == inf:
                        scope.cancel()
                    await Sleep(9)
                pytest.fail("the outer scope was cancelled")
        except TimedOut:
            pass
        return scope.cancelled_caught

    assert run(main())


# I: contextvars.

request = ContextVar("request", default="none")


def test_a_child_of_a_group_has_the_context_of_its_spawner():
    """concurrency I: `group.spawn` copies the owner's context, not the spawner's."""
    seen = []

    async def log(how):
        seen.append((how, request.get()))
        request.set("changed")

    async def handler(team):
        request.set("request 7")
        await Spawn(log("Spawn"))
        await team.spawn(log("spawn"))
        await Sleep(1)
        seen.append(("spawner", request.get()))

    async def main():
        request.set("main's")
        async with TaskGroup() as team:
            await team.spawn(log("owner"))
            await team.spawn(handler(team))

    run(main())
    assert seen == [("owner", "main's"), ("Spawn", "request 7"), ("spawn", "request 7"), ("spawner", "request 7")]


# K and G: notes.


@pytest.mark.parametrize("call", [gather, race])
def test_the_notes_of_an_exception_that_is_raised_again_do_not_grow(call):
    """concurrency K: an exception that is raised by one group after the other has the notes of the last one."""
    error = ValueError("cached")
    error.add_note("the program's own")

    def main(name):
        yield from call(failing(1, error), failing(1, KeyError(name)))

    for number in range(5):
        assert raised(main(number)) is error
        own, note = error.__notes__
        assert own == "the program's own" and f"KeyError: {number}" in note
    assert raised(failing_alone(call, error)) is error
    assert error.__notes__ == ["the program's own"]


def failing_alone(call, error):
    yield from call(failing(1, error))


def test_the_notes_of_nested_groups_are_all_kept():
    """concurrency K: the notes of a group inside, which began later, belong to the same failure."""
    error = ValueError("v")

    def inner():
        yield from gather(failing(1, error), failing(1, KeyError("inner")))

    def main():
        yield from gather(inner(), logged([], 1, KeyError("outer")))

    notes = raised(main()).__notes__
    assert [note.rpartition(" ")[2] for note in notes] == ["'inner'", "'outer'"]
    assert pickle.loads(pickle.dumps(notes)) == notes


@pytest.mark.parametrize("call", [gather, race, lambda *bodies: as_completed(*bodies).for_each(print)])
def test_a_hundred_failures_get_a_note_and_the_others_a_number(call):
    """concurrency G: a gather in which many fail is quadratic, and its report has a line for each."""

    def main():
        yield from call(*(failing(1, ValueError(number)) for number in range(300)))

    notes = raised(main()).__notes__
    assert len(notes) == 101
    assert notes[99] == f"task 'failing' of the same {notes[99].split()[5]} failed: ValueError: 100"
    assert notes[100] == "and 199 more tasks failed"


def test_the_notes_of_groups_that_are_nested_deep_are_a_hundred_at_most():
    """concurrency G: each level adds a note to the one failure that passes through all of them."""

    def nested(depth):
        if depth == 0:
            yield from failing(1, ValueError("v"))
        yield from gather(nested(depth - 1), logged([], 0, KeyError(depth)))

    notes = raised(nested(150)).__notes__
    assert len(notes) == 101 and notes[100] == "and 50 more tasks failed"
    assert pickle.loads(pickle.dumps(notes)) == notes


def test_a_note_on_a_group_of_many_errors_has_a_hundred_lines():
    """concurrency G: so has one note on a failure with many errors of its own."""
    many = ExceptionGroup("many", [ValueError(number) for number in range(1000)])

    def main():
        yield from gather(failing(1, KeyError()), failing(1, many))

    (note,) = raised(main()).__notes__
    assert note.count("\n") == 100


# L: failures of nested tasks.


def plain(depth):
    """A chain of tasks, of which the last one fails."""
    if depth:
        yield Spawn(plain(depth - 1))
        yield Sleep(100)
    raise ValueError(depth)


def each_fails(depth):
    """A chain of tasks, each of which fails."""
    try:
        if depth:
            yield Spawn(each_fails(depth - 1))
            yield Sleep(100)
    finally:
        raise ValueError(depth)


def with_siblings(depth):
    """A chain of tasks, each of which has other children that fail, before and after the one that has children.

    The last but one task is cancelled before it has spawned the second of them.
    """
    if depth:
        for _ in range(2):
            yield Spawn(failing(0, ValueError(depth)), keep=True)
        yield Spawn(with_siblings(depth - 1))
        yield Spawn(failing(0, ValueError(depth)), keep=True)
        yield Sleep(100)
    raise ValueError(depth)


async def task_groups(depth):
    """A chain of tasks, each with a TaskGroup in which the next one fails."""
    if depth:
        async with TaskGroup() as team:
            await team.spawn(task_groups(depth - 1))
    raise ValueError(depth)


SHAPES = {plain: lambda depth: 1, each_fails: lambda depth: depth + 1, with_siblings: lambda depth: 3 * depth}


@pytest.mark.parametrize("depth", [5, 1000, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", [plain, each_fails, with_siblings, task_groups])
def test_the_failures_of_tasks_nested_thousands_deep_can_be_handled(shape, depth):
    """concurrency L: nested failures nest groups without limit, on which `except*` raises RecursionError."""
    handled = []
    try:
        minisched.run(shape(depth), clock=VirtualClock())  # without the checks, which look at each task in each turn
    except* ValueError as caught:
        handled.append(caught)
    (error,) = handled
    assert repr(error) and error.split(KeyError)[0] is None
    numbers = leaves(error)
    assert len(numbers) == SHAPES.get(shape, lambda depth: 1)(depth)
    if shape is each_fails:
        assert numbers == [*range(depth, -1, -1)]  # the own error of each task, then those of its children


def leaves(error):
    found, todo = [], [error]
    while todo:
        member = todo.pop()
        if isinstance(member, BaseExceptionGroup):
            todo.extend(reversed(member.exceptions))
        else:
            found.append(member.args[0])
    return found


def test_python_prints_the_innermost_failure_of_nested_tasks():
    """concurrency L: Python prints groups that are ten deep, and no error inside deeper ones."""
    import traceback

    text = "".join(traceback.format_exception(raised(plain(50))))
    assert "ValueError: 0" in text and "max_group_depth" not in text


def test_a_few_levels_of_nested_failures_show_which_task_has_failed():
    """concurrency L: the groups are not flat where they need not be."""
    error = raised(plain(3))
    for _ in range(3):
        assert str(error) == "children of task 'plain' failed (1 sub-exception)"
        (error,) = error.exceptions
    assert isinstance(error, ValueError)


def test_a_group_of_a_class_of_its_own_is_passed_on_whole():
    """concurrency L: a group with fields of its own keeps them, however deep it is."""

    class Mine(ExceptionGroup):
        pass

    own = Mine("mine", [ValueError(1)])

    def chain(depth):
        if depth:
            yield Spawn(chain(depth - 1))
            yield Sleep(9)
        raise own

    error = raised(chain(40))
    while type(error) is not Mine:
        (error,) = error.exceptions
    assert error is own


def test_the_failures_of_supervised_tasks_that_close_are_passed_on():
    """concurrency B: `supervise` is a group, too, and `close` lets it wait for nothing."""
    log = []

    def main():
        inner, answer = supervise(lambda: logged(log, 1)), None
        while type(asked := inner.send(answer)).__name__ != "NextEnded":
            answer = yield asked
        yield Sleep(2)
        inner.close()
        yield JoinAll()
        return (yield Now())

    assert run(main()) == 3
