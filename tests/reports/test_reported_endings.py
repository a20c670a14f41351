"""Objects that are kept too long: results, failures, frames and tasks, after they were dealt with.

Each function of `endings` is one way in which a scope, a group, a wait or a task ends. A task runs it, in both forms,
with the garbage collector off, and then lives on. Neither the task nor a reference cycle may hold anything of it.
"""

from __future__ import annotations

import ast
import gc
import inspect
import logging
import socket
import sys
import traceback
import types
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import endings
import pytest
from forms import Awaiting

from minisched import (
    Cancel,
    Cancelled,
    CancelScope,
    CurrentTask,
    Deadlock,
    Event,
    InThread,
    Join,
    JoinAll,
    Lock,
    MoveOnAfter,
    Pause,
    Portal,
    Queue,
    Sleep,
    Spawn,
    Syscall,
    TaskGroup,
    TimedOut,
    Timeout,
    Write,
    as_completed,
    gather,
    race,
    run,
    supervise,
)
from minisched.testing import VirtualClock

PATIENCE_SECONDS = 20
PYTEST_THREADS = set(sys._current_frames())  # the main thread, and under pytest-xdist one that never ends

released = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="Python 3.14, which the package does not claim yet, keeps some frames longer"
)


class Local:
    """An object to which weak references can be made; `where` is the function that made it."""

    __slots__ = ("__weakref__", "where")


class Locals:
    """Makes objects, and says which of them are alive."""

    def __init__(self):
        self.made = []

    def __call__(self):
        local = Local()
        local.where = sys._getframe(1).f_code.co_name
        self.made.append(weakref.ref(local))
        return local

    def alive(self):
        """Return where the living objects were made. A thread may take a moment to drop its last one."""
        end = monotonic() + PATIENCE_SECONDS
        while set(sys._current_frames()) - PYTEST_THREADS and self.names() and monotonic() < end:
            sleep(0.001)
        return self.names()

    def names(self):
        """Return where the objects were made that are alive now."""
        return [local.where for local in [made() for made in self.made] if local is not None]


@contextmanager
def no_collector():
    """Switch the garbage collector off, after it has found everything."""
    while gc.collect():
        pass  # a collection may run a finalizer that leaves more garbage
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def coroutine_forms():
    """Return the functions of `endings`, with `await` in place of `yield`."""
    path = Path(endings.__file__)
    tree = Awaiting().visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    made = {"__name__": endings.__name__, "__file__": str(path), "Pause": Pause}
    exec(compile(tree, str(path), "exec"), made)
    return made


def shapes():
    """Return each way to end, in both forms."""
    coroutines = coroutine_forms()
    for name in endings.ENDINGS:
        yield pytest.param(types.coroutine(vars(endings)[name]), id=f"{name}, generator")
        yield pytest.param(coroutines[name], id=f"{name}, coroutine")
    for kind, children in endings.combinations():
        for form, module in (("generator", vars(endings)), ("coroutine", coroutines)):

            def shape(local, kind=kind, children=children, module=module):
                return types.coroutine(module[kind])(local, *[module[child] for child in children])

            yield pytest.param(shape, id=f"{kind} of {' and '.join(children)}, {form}")


# The forms that only an `async def` has.


async def an_async_with_of_a_group(local, *children):
    kept = local()
    with await MoveOnAfter(20):
        try:
            async with TaskGroup() as group:
                for child in children:
                    await group.spawn(child(local))
                await Sleep(3)
        except* (ValueError, KeyError):
            pass
    return group, kept is None


async def an_async_with_of_a_group_that_raises(local, *children):
    try:
        async with TaskGroup() as group:
            for child in children:
                await group.spawn(child(local))
            await Sleep(0.5)
            raise ValueError(local())
    except* (ValueError, KeyError):
        pass
    return group


async def an_async_with_of_a_group_that_is_cancelled(local, *children):
    with await MoveOnAfter(20), suppress(BaseExceptionGroup):
        async with TaskGroup() as group:
            for child in children:
                await group.spawn(child(local))
            await Sleep(0.5)
            group.cancel("enough")
            await Sleep(1)
    return group


async def an_async_for_of_as_completed(local, *children):
    with await MoveOnAfter(20), suppress(ValueError, KeyError):
        async with as_completed(*(child(local) for child in children)) as results:
            async for result in results:
                assert result
    return results


async def an_async_for_of_as_completed_that_is_left(local, *children):
    with await MoveOnAfter(20), suppress(ValueError, KeyError):
        async with as_completed(*(child(local) for child in children)) as results:
            async for _ in results:
                break
    return results


async def an_async_for_of_as_completed_that_raises(local, *children):
    with await MoveOnAfter(20), suppress(ValueError, KeyError):
        async with as_completed(*(child(local) for child in children)) as results:
            raise ValueError(local())
    return results


def async_shapes():
    """Return each of these, with pairs of children."""
    shapes = [
        *(an_async_with_of_a_group, an_async_with_of_a_group_that_raises, an_async_with_of_a_group_that_is_cancelled),
        *(an_async_for_of_as_completed, an_async_for_of_as_completed_that_is_left),
        an_async_for_of_as_completed_that_raises,
    ]
    for shape in shapes:
        for kind, children in endings.combinations():
            if kind == "one_gather":

                def with_children(local, shape=shape, children=children):
                    return shape(local, *[vars(endings)[child] for child in children])

                yield pytest.param(with_children, id=f"{shape.__name__} of {' and '.join(children)}")


@pytest.fixture(autouse=True, scope="module")
def old_objects_are_not_visited():
    """Let a collection visit the objects of these tests alone, as in `conftest`, which another module may undo."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def quiet():
    """Log no failure: pytest keeps the records, and with them the frames."""
    logger = logging.getLogger("minisched")
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(logging.NOTSET)


@released
@pytest.mark.parametrize("shape", [*shapes(), *async_shapes()])
def test_a_task_that_lives_on_keeps_nothing_of_what_has_ended(shape):
    """concurrency D and E, peer-suites 2: no cycle is left, and the task holds no result, failure or frame."""
    found = []

    async def main():
        for first in (True, False):  # the first time fills caches
            locals_ = Locals()
            kept = await shape(locals_)
            await Sleep(0.01)
            await Sleep(0.01)
            found.append((locals_.alive(), 0 if first else gc.collect()))
            gc.collect()
            del kept

    with no_collector():
        run(main(), clock=VirtualClock(), debug=False)
    assert found == [([], 0), ([], 0)]


def test_each_ending_is_one_of_the_table():
    """A function of `endings` that is in no list would not be tried."""
    functions = {function for name, function in inspect.getmembers(endings, inspect.isgeneratorfunction)}
    own = {function.__name__ for function in functions if function.__module__ == endings.__name__}
    groups = {kind for kind, _ in endings.combinations()}
    children = {child.__name__ for child in endings.CHILDREN}
    assert own - {"combinations"} == {*endings.ENDINGS, *endings.HELPERS} | children | groups


# The end of a run.


def main_fails(local):
    kept = local()
    with (yield MoveOnAfter(9)) as scope:
        yield Sleep(1)
    raise ValueError(kept, scope.cancelled_caught)


def main_times_out(local):
    kept = local()
    with (yield Timeout(1)) as scope:
        yield Sleep(3)
    return kept, scope


def a_child_of_main_fails(local):
    yield Spawn(endings.fails(local))
    yield Sleep(5)


def a_kept_child_of_main_fails(local):
    yield Spawn(endings.fails(local), keep=True)
    yield Sleep(5)


def main_is_interrupted(local):
    kept = local()
    yield Sleep(1)
    raise KeyboardInterrupt(kept)


def a_child_is_interrupted_and_main_fails(local):
    yield Spawn(main_is_interrupted(local))
    yield from endings.fails_in_cleanup(local)


def main_exits(local):
    kept = local()
    yield Sleep(1)
    raise SystemExit(kept)


def main_hangs(local):
    yield Spawn(endings.fails_in_cleanup(local))
    kept = local()
    yield Event().wait()
    return kept


def main_hangs_for_ever(local):
    kept = local()
    while kept:
        with suppress(Cancelled):
            yield Event().wait()


def main_is_cancelled_by_its_child(local):
    main = yield CurrentTask()
    yield Spawn(endings.cancels_task(local, main))
    del main
    yield from endings.waits(local)


def a_rule_is_broken(local):
    yield Spawn(endings.waits(local))
    yield
    yield Breaks()


class Breaks(Syscall):
    """Wakes a task that is not parked."""

    def handle(self, kernel, task):
        kernel.resume(task)


async def main_is_a_group_that_fails(local):
    async with TaskGroup() as group:
        await group.spawn(endings.fails(local))
        await Sleep(5)


RUNS = [
    *(main_fails, main_times_out, a_child_of_main_fails, a_kept_child_of_main_fails, main_is_interrupted),
    *(a_child_is_interrupted_and_main_fails, main_exits, main_hangs, main_hangs_for_ever),
    *(main_is_cancelled_by_its_child, a_rule_is_broken, main_is_a_group_that_fails),
]


@released
@pytest.mark.parametrize("main", RUNS)
def test_a_run_that_has_raised_keeps_nothing(main):
    """concurrency E, at the end of a run: when its error has been handled, its frames are freed at once."""
    made = Locals()
    with no_collector():
        try:
            run(main(made), clock=VirtualClock(), debug=False)
        except BaseException as error:
            assert type(error) is not Deadlock or "parked" in str(error)
        else:
            pytest.fail("the run has returned")
        assert made.alive() == []


# Waits that go on.


def test_a_task_that_waits_for_the_next_item_does_not_keep_the_last_one():
    """concurrency D: `for_each` drops an item before it waits."""
    queue, made = Queue(), Locals()

    def main():
        yield Spawn(queue.for_each(lambda item: None), daemon=True)
        queue.put_nowait(made())
        yield Sleep(1)
        return made.alive()

    with no_collector():
        assert run(main(), clock=VirtualClock(), debug=False) == []


def test_as_completed_does_not_keep_the_last_result():
    """concurrency D: `for_each` drops a result before it waits for the next."""
    made, alive = Locals(), []

    def main():
        yield Spawn(look())
        yield from as_completed(endings.returns(made), endings.returns(made, 9)).for_each(lambda result: None)

    def look():
        yield Sleep(5)
        alive.append([name for name in made.alive() if name == "returns"])

    with no_collector():
        run(main(), clock=VirtualClock(), debug=False)
    assert alive == [["returns"]]  # of the task that runs


def test_a_supervisor_does_not_keep_the_last_failure():
    """concurrency D: `supervise` drops a failed task when it has replaced it."""
    made, alive = Locals(), []

    def look():
        yield Sleep(5)
        alive.append(made.alive())

    def flaky():
        return endings.waits(made) if made.made else endings.fails(made)

    def main():
        yield Spawn(look())
        with (yield MoveOnAfter(9)):
            yield from supervise(flaky)

    with no_collector():
        run(main(), clock=VirtualClock(), debug=False)
    assert alive == [["waits"]]  # of the task that runs


def test_a_done_task_that_is_kept_does_not_keep_its_canceller():
    """concurrency D: a done task names why it was cancelled, and does not hold who did it."""
    made = Locals()

    def main():
        task = yield Spawn(endings.swallows(made))
        yield Spawn(endings.cancels_task(made, task))
        yield Sleep(3)
        other = yield Spawn(endings.waits(made))
        yield Spawn(endings.cancels_task(made, other))
        yield Sleep(3)
        return task.state, other.state, sorted(made.alive()), other.requested

    with no_collector():
        assert run(main(), clock=VirtualClock(), debug=False) == ("done", "done", ["swallows"], ("enough", None))


# The contents of errors.


@pytest.mark.parametrize("nested", [False, True])
def test_a_timed_out_says_how_far_a_write_came(nested):
    """peer-suites 1: TimedOut has `done` and `written`, as Cancelled has."""
    ours, theirs = socket.socketpair()

    def main():
        try:
            with (yield Timeout(0.05)), (yield MoveOnAfter(60 if nested else None)):
                yield Write(ours, bytes(10_000_000))
        except TimedOut as error:
            return error.written, error.done

    with ours, theirs:
        written, done = run(main())
        theirs.setblocking(False)
        received = 0
        with suppress(BlockingIOError):
            while True:
                received += len(theirs.recv(1_000_000))
    assert written == done == received > 0


def test_a_timed_out_in_a_group_of_cancelleds_says_how_far_a_write_came():
    """peer-suites 1: `except*` wraps the Cancelled in a group."""
    ours, theirs = socket.socketpair()

    def main():
        try:
            with (yield Timeout(0.05)):
                try:
                    yield Write(ours, bytes(10_000_000))
                except* ValueError:
                    pytest.fail("no ValueError was raised")
                except* Cancelled:
                    raise
        except TimedOut as error:
            return error.written

    with ours, theirs:
        assert run(main()) > 0


def test_a_timed_out_of_another_call_has_written_nothing():
    """peer-suites 1: as with Cancelled, `written` is 0 if the call is not a Write."""

    def main():
        try:
            with (yield Timeout(1)):
                yield Sleep(5)
        except TimedOut as error:
            return error.written, error.done

    assert run(main(), clock=VirtualClock()) == (0, None)
    assert (TimedOut().written, TimedOut().done) == (0, None)


@pytest.mark.parametrize("ask", [CancelScope, lambda: MoveOnAfter(60), lambda: Timeout(60)])
@pytest.mark.parametrize("outer", [None, KeyError("handled")])
def test_the_rest_of_a_group_that_a_scope_lets_through_has_its_own_context(ask, outer):
    """peer-suites 3: the Cancelled that the scope has taken is not kept as the context of the rest."""

    def body():
        with (yield ask()) as scope:
            scope.cancel()
            try:
                yield
            except Cancelled as cancelled:
                group = BaseExceptionGroup("two", [ValueError(), cancelled])
            group.__context__ = outer
            group.__cause__ = outer
            raise group

    with pytest.raises(ExceptionGroup) as caught:
        run(body())
    rest = caught.value
    assert [type(error) for error in rest.exceptions] == [ValueError]
    assert (rest.__context__, rest.__cause__) == (outer, outer)


def test_a_timed_out_does_not_keep_the_frames_of_its_block():
    """peer-suites 3, of a TimedOut: the Cancelled that the scope has taken is not its context."""
    made = Locals()

    def main():
        try:
            with (yield Timeout(1)):
                yield from endings.waits(made)
        except TimedOut as error:
            timed_out = error
        yield
        return made.alive(), timed_out.__context__, timed_out.__suppress_context__

    with no_collector():
        assert run(main(), clock=VirtualClock(), debug=False) == ([], None, True)


def test_a_failure_names_the_canceller_in_its_context():
    """concurrency E: the context of a failed cleanup names the canceller, which it does not hold."""

    def main():
        task = yield Spawn(endings.fails_in_cleanup(object), keep=True)
        yield
        yield Cancel(task, "enough")
        try:
            yield Join(task)
        except KeyError as error:
            return str(error.__context__), error.__context__.by

    assert run(main(), clock=VirtualClock()) == ("enough (by task 'main')", None)


def test_a_scope_that_was_left_can_still_be_asked():
    """concurrency E: a scope that was left holds no task, and nothing of what it answers is missing."""

    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield Sleep(5)
        scope.cancel()
        scope.deadline = 7
        return scope.cancel_called, scope.cancelled_caught, scope.deadline, repr(scope), scope.owner.name

    told = run(main(), clock=VirtualClock())
    assert told == (True, True, 7, "<CancelContext that was left>", "that has left the scope")


def test_a_second_join_in_the_handler_sets_the_traceback_back():
    """concurrency J: as the docstring of Join says, since one object is raised by each Join."""

    async def failing():
        raise ValueError

    async def main(again):
        task = await Spawn(failing(), keep=True)

        async def inner():
            await Join(task)

        try:
            await inner()
        except ValueError:
            if again:
                with suppress(ValueError):
                    await Join(task)
            raise

    def frames(again):
        with pytest.raises(ValueError) as caught:
            run(main(again))
        return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)][-3:]

    assert (frames(False), frames(True)) == (["main", "inner", "failing"], ["run", "main", "failing"])
    assert "sets its traceback back" in Join.__doc__


@pytest.mark.parametrize("times", [3, 30])
def test_joins_of_one_failed_task_do_not_add_up(times):
    """concurrency 22: the traceback of a failure does not grow, and holds no earlier joiner."""
    made = Locals()

    def joiner(task):
        kept = made()
        with suppress(ValueError):
            yield Join(task)
        return kept

    def main():
        task = yield Spawn(endings.fails(object), keep=True)
        for _ in range(times):
            yield Spawn(joiner(task))
            yield JoinAll()
        return len(made.alive())

    with no_collector():
        assert run(main(), clock=VirtualClock(), debug=False) <= 1  # the last one: see `Join`


def test_one_handled_race_each_does_not_add_up_in_sleepers():
    """concurrency D: of 20 tasks that have run a race each and sleep on, none keeps the winner's result."""
    made = Locals()

    def handler():
        yield from race(endings.returns(made), endings.waits(object))
        yield from gather(endings.returns(made))
        yield Sleep(1000)

    def main():
        for _ in range(20):
            yield Spawn(handler())
        yield Sleep(10)
        return made.alive()

    with no_collector():
        assert run(main(), clock=VirtualClock(), debug=False) == []


def test_a_portal_that_is_entered_once_more_belongs_to_the_task_that_enters_it():
    """concurrency E: a closed portal holds no task, and can still be opened again."""

    def spawn(portal):
        return portal.spawn(endings.returns, object, 0).result()

    def main():
        portal = yield Portal()
        for _ in range(2):
            with portal:
                owner = portal.owner
                yield InThread(spawn, portal)
        return owner is (yield CurrentTask()), portal.owner

    assert run(main(), debug=False) == (True, None)


def test_a_thread_that_fails_frees_its_frames():
    """concurrency E: an error that a thread passes to a task is in no cycle."""
    made = Locals()

    def call():
        kept = made()
        raise ValueError(kept)

    def main():
        with suppress(ValueError):
            yield InThread(call)
        yield Sleep(0)
        return made.alive()

    with no_collector():
        assert run(main(), debug=False) == []


def test_a_lock_whose_owner_failed_frees_the_frames_of_its_waiters():
    """concurrency E: a waiter that got the error of an abandoned lock is freed."""
    made, lock = Locals(), Lock()

    def main():
        yield from endings.a_lock_is_abandoned(made)
        yield Spawn(endings.returns(made))
        yield Sleep(5)
        return lock.locked(), made.alive()

    with no_collector():
        assert run(main(), clock=VirtualClock(), debug=False) == (False, [])
