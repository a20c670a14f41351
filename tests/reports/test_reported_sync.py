"""Reports about primitives and forgotten yields, each with the tests that keep it fixed."""

from __future__ import annotations

import inspect
import io
import socket
import warnings
import weakref
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import GeneratorType

import pytest

import minisched
from minisched import (
    Barrier,
    Broadcast,
    Cancel,
    CapacityLimiter,
    ClosedError,
    Condition,
    CurrentTask,
    Deadlock,
    Event,
    Follower,
    InThread,
    Join,
    LifoQueue,
    Lock,
    MoveOnAfter,
    Pause,
    Portal,
    PriorityQueue,
    Queue,
    RLock,
    Selectable,
    Semaphore,
    Sleep,
    Spawn,
    Syscall,
    SyscallError,
    TaskGroup,
    gather,
    run,
    select,
)
from minisched import testing as checked
from minisched.bridges.child_ends import ChildEnd
from minisched.lab import debug as debug_module


def warned(main, **options):
    """Run main with debug on; return the expression and the line that each warning names."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main, debug=True, **options)
    assert all(warning.category is RuntimeWarning for warning in caught), [str(warning.message) for warning in caught]
    return [(str(warning.message).split("`")[1], warning.lineno) for warning in caught]


def names(main, **options):
    return [name for name, _ in warned(main, **options)]


# A forgotten `yield` or `await`: concurrency N.


def test_a_forgotten_await_of_a_call_of_a_method_is_reported():
    """concurrency N: with debug on, a call that a method returns and that is never run is reported with its line."""

    async def main():
        queue, lock, event, permits = Queue(), Lock(), Event(), Semaphore(1)
        queue.put(1)
        lock.acquire()
        event.wait()
        permits.acquire()
        select(queue.get(), Sleep(1))
        Sleep(1)
        gather()
        async with TaskGroup() as group:
            group.spawn(Sleep(1))
        await Sleep(0)
        return queue.qsize(), lock.locked()

    first = main.__code__.co_firstlineno
    found = sorted(warned(main()), key=lambda pair: pair[1])
    assert found == [
        ("queue.put()", first + 2),
        ("lock.acquire()", first + 3),
        ("event.wait()", first + 4),
        ("permits.acquire()", first + 5),
        ("select()", first + 6),
        ("Sleep()", first + 7),
        ("gather()", first + 8),
        ("group.spawn()", first + 10),
    ]


@pytest.mark.parametrize("form", ["generator", "async"])
def test_the_warning_names_the_keyword_of_the_functions_form(form):
    """concurrency N: the remedy is `yield` in a generator, and `await` in an `async def`."""

    def generator():
        Queue().put(1)
        yield

    async def coroutine():
        Queue().put(1)

    with pytest.warns(RuntimeWarning) as caught:
        run(generator() if form == "generator" else coroutine(), debug=True)
    remedy = "`yield`" if form == "generator" else "`await`"
    assert str(caught[0].message).endswith(f"was never run; a missing {remedy}?")


# Each statement makes a call with the things below it and drops it.
STATEMENTS = {
    "Spawn": "Spawn(body())", "Join": "Join(task)", "JoinAll": "JoinAll()", "Cancel": "Cancel(task)",
    "CurrentTask": "CurrentTask()", "Pause": "Pause()", "Sleep": "Sleep(1)", "SleepUntil": "SleepUntil(1)",
    "Now": "Now()", "Timeout": "Timeout(1)", "MoveOnAfter": "MoveOnAfter(1)", "Shield": "Shield(1)",
    "CancelScope": "CancelScope()", "gather": "gather(body())", "race": "race(body())",
    "group": "group(body())", "supervise": "supervise(body)", "select": "select(Sleep(1))", "Read": "Read(file, 1)",
    "Write": "Write(file, b'')", "WaitReadable": "WaitReadable(file)", "WaitWritable": "WaitWritable(file)",
    "Close": "Close(file)", "Listen": "Listen('127.0.0.1', 0)", "Accept": "Accept(file)",
    "Connect": "Connect(('127.0.0.1', 1))", "OpenDatagram": "OpenDatagram(('127.0.0.1', 1))",
    "RecvFrom": "RecvFrom(file)", "SendTo": "SendTo(file, b'')", "UniversalQueue.get": "UniversalQueue().get()",
    "UniversalQueue.put": "UniversalQueue().put(1)", "InThread": "InThread(print)", "Submit": "Submit(pool, print)",
    "Portal": "Portal()", "WaitSignal": "WaitSignal(2)", "serve": "serve(print, '127.0.0.1', 0)",
    "serve_unix": "serve_unix(print, 'path')", "serve_listeners": "serve_listeners(print, [])",
    "TaskGroup.spawn": "group_of_tasks.spawn(body())",
    "TaskGroup.start": "group_of_tasks.start(body)", "Event.wait": "Event().wait()", "Lock.acquire": "lock.acquire()",
    "RLock.acquire": "RLock().acquire()", "Semaphore.acquire": "semaphores[0].acquire()",
    "CapacityLimiter.acquire": "CapacityLimiter(1).acquire()", "Condition.acquire": "condition.acquire()",
    "Condition.wait": "condition.wait()", "Condition.wait_for": "condition.wait_for(bool)",
    "Barrier.wait": "Barrier(2).wait()", "Queue.for_each": "queue.for_each(print)", "Queue.get": "queue.get()",
    "Queue.join": "queue.join()", "Queue.put": "queue.put(1)", "PriorityQueue.for_each": "ordered.for_each(print)",
    "PriorityQueue.get": "ordered.get()", "PriorityQueue.join": "ordered.join()", "PriorityQueue.put": "ordered.put(1)",
    "LifoQueue.for_each": "stack.for_each(print)", "LifoQueue.get": "stack.get()", "LifoQueue.join": "stack.join()",
    "Open": "Open('path')", "ReadAt": "ReadAt(file, 1, 0)", "WriteAt": "WriteAt(file, b'', 0)", "Sync": "Sync(file)",
    "read_file": "read_file('path')", "write_file": "write_file('path', b'')", "follow": "follow('path')",
    "Follower.read": "follower.read()", "Follower.readline": "follower.readline()",
    "run_process": "run_process(['true'])", "ChildProcess.use": "process.use(body)",
    "ChildProcess.wait": "process.wait()",
    "Resolve": "Resolve('127.0.0.1', 1)", "open_connection": "open_connection('127.0.0.1', 1)",
    "start_tls": "start_tls(file, None)", "Stream.read": "Stream(file).read(1)",
    "Stream.read_exactly": "Stream(file).read_exactly(1)", "Stream.read_until": "Stream(file).read_until(b'.')",
    "Stream.readline": "Stream(file).readline()", "Stream.write": "Stream(file).write(b'')",
    "Stream.write_eof": "Stream(file).write_eof()",
    "LifoQueue.put": "stack.put(1)", "Subscription.for_each": "news.for_each(print)", "Subscription.get": "news.get()",
}  # fmt: skip
# Generators, but no calls for a task to run; and the abstract classes.
NO_CALLS = {
    "Syscall", "Selectable", "FileOperation", "FutureOperation",
    "Kernel.tasks", "Task.children", "Scope.children", "Poller.tasks", "Poller.waiters",
    "ChildProcess.begin", "ChildProcess.end", "TaskGroup.all_ended", "TaskGroup.begin", "TaskGroup.end",
}  # fmt: skip


def returns_a_call(function):
    """Return whether a function is a generator function or `async def`, or is annotated to return a syscall."""
    annotation = str(function.__annotations__.get("return", "")).partition("[")[0]
    kind = function.__globals__.get(annotation)
    is_call = isinstance(kind, type) and issubclass(kind, Syscall)
    return is_call or annotation == "Generator" or bool(function.__code__.co_flags & (0x20 | 0x80 | 0x100))


def public_calls():
    """Return the names of all public classes, functions and methods whose result a task has to yield or await."""
    things = {name: getattr(minisched, name) for name in minisched.__all__ if callable(getattr(minisched, name))}
    things["Subscription"] = type(Broadcast().subscribe())
    for name, thing in things.items():
        if inspect.isfunction(thing):
            if returns_a_call(thing):
                yield name
        elif issubclass(thing, Syscall):
            yield name
        elif not issubclass(thing, BaseException):
            for method, function in inspect.getmembers(thing, inspect.isfunction):
                if not method.startswith("_") and returns_a_call(function):
                    yield f"{name}.{method}"


def test_every_public_callable_that_returns_a_call_is_in_the_table():
    """concurrency N: the table of the next test is complete."""
    assert {*public_calls()} - NO_CALLS <= {*STATEMENTS}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_forgotten_yield_of_each_public_call_is_reported(name, tmp_path):
    """concurrency N: each public callable that returns a call is reported if its result is dropped."""
    file = tmp_path / "program.py"
    file.write_text(f"def main():\n    yield\n    {STATEMENTS[name]}\n    yield\n", encoding="utf-8")
    first, second = socket.socketpair()
    with first, second, ThreadPoolExecutor(1) as pool:
        things = {"file": first, "pool": pool, "group_of_tasks": TaskGroup(), "lock": Lock(), "condition": Condition()}
        things |= {"queue": Queue(), "ordered": PriorityQueue(), "stack": LifoQueue(), "semaphores": [Semaphore(1)]}
        things |= {"news": Broadcast().subscribe(), "body": body, "task": None, "follower": Follower("path", 1)}
        things["process"] = process = minisched.open_process(["true"])
        process.child = ChildEnd(None, None, "a process")
        space = {**{name: getattr(minisched, name) for name in minisched.__all__}, **things}
        exec(compile(file.read_text(encoding="utf-8"), file, "exec"), space)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(space["main"](), debug=True)
    (warning,) = caught
    assert f"{STATEMENTS[name].partition('(')[0]}" in str(warning.message) or "coroutine" in str(warning.message)
    assert "never" in str(warning.message)


def body():
    yield


class Bell:
    """A user's own class, whose methods return calls in several ways."""

    __slots__ = ("queue",)

    def __init__(self):
        self.queue = Queue()

    def annotated(self) -> Syscall[object]:
        return self.queue.get()

    def plain(self):
        return self.queue.get()

    def generator(self):
        yield self.queue.get()

    def wrapped(self) -> GeneratorType:
        return self.generator()

    @property
    def rung(self):
        return self.queue.get()

    @staticmethod
    def static():
        return Sleep(1)

    def __call__(self):
        yield self.queue.get()


def test_calls_of_a_users_own_methods_are_reported_with_and_without_annotations():
    """concurrency N: the kind is an un-yielded call as a statement, however the expression makes it."""
    bell, bells, own = Bell(), {"a": [Bell()]}, partial(Sleep, 1)
    ready = True

    def main():
        bell.annotated()
        bell.plain()
        bell.rung  # noqa: B018
        Bell.static()
        bells["a"][0].plain()
        own()
        (lambda: Sleep(1))()
        ready and bell.plain()
        ready or bell.plain()
        bell.plain() if ready else None
        getattr(bell, "plain")()  # noqa: B009
        bell.generator()
        bell()
        yield

    found = [line - main.__code__.co_firstlineno for _, line in warned(main())]
    assert sorted(found) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13]


def test_a_plain_function_that_is_annotated_to_return_a_generator_is_reported():
    """concurrency N: a function that returns another's generator says so in its annotation."""

    def wrapped() -> Generator[object]:
        return body()

    def main():
        wrapped()
        yield

    assert names(main()) == ["wrapped()"]


def test_a_plain_helper_function_and_a_generator_in_a_slot_are_searched_too():
    """concurrency N: the statement is found in whichever function it stands."""

    class Holder:
        __slots__ = ("condition", "queue")

        def __init__(self):
            self.condition = Condition()
            self.queue = Queue()

        def add(self, item):
            self.queue.put(item)

        def run(self):
            self.condition.wait()
            self.add(1)
            yield

    assert sorted(names(Holder().run())) == ["self.condition.wait()", "self.queue.put()"]


def test_two_forgotten_calls_in_one_line_are_both_reported_and_a_loop_reports_once():
    """concurrency N: a warning stands for a statement, not for a line, and is given once."""

    def main():
        queue = Queue()
        for _ in range(3):
            queue.put(1); queue.get()  # fmt: skip  # noqa: E702
            yield

    assert names(main()) == ["queue.put()", "queue.get()"]


def test_a_call_that_spans_lines_and_one_in_a_nested_function_are_reported_once():
    """concurrency N: the static and the dynamic search share one list of places."""

    def main():
        def inner():
            Sleep(1)
            Queue().put(
                1,
            )
            yield

        yield from inner()

    first = main.__code__.co_firstlineno
    assert sorted(warned(main()), key=lambda pair: pair[1]) == [("Sleep()", first + 2), ("Queue().put()", first + 3)]


def test_a_call_that_a_portal_brings_back_to_a_thread_is_reported():
    """concurrency N: `portal.call(queue.put, 1)` returns a syscall, and runs nothing."""
    queue = Queue()

    def in_thread(portal):
        portal.call(queue.put, 1)

    def main():
        with (yield Portal()) as portal:
            yield InThread(in_thread, portal)

    assert names(main()) == ["portal.call()"]


def test_a_forgotten_call_in_the_last_turn_and_without_source_is_reported():
    """concurrency N: the end of the run reports what its last turn dropped."""
    space = {"Queue": Queue}
    exec("def main():\n    yield\n    queue = Queue()\n    queue.put(1)\n", space)
    assert warned(space["main"]()) == [("Put()", 4)]


def test_calls_that_are_stored_and_yielded_later_are_not_reported():
    """concurrency N: no false alarm for a call that is kept, passed on, bound to a name, or run later."""
    queue = Queue()

    def again(call):
        return call

    def main():
        kept = queue.put("a")
        again(kept)
        again(again(kept))
        _ = queue.put("bound to a name")
        print(Sleep(1), file=io.StringIO())
        yield kept
        yield kept
        yield queue.get()
        yield queue.put(Bell().plain())
        yield queue.get()
        (yield queue.get())  # the item is a call, which is the program's own
        yield select(queue.get(), Sleep(0.001))

    assert names(main()) == []


def test_calls_that_are_taken_out_of_a_container_are_not_reported():
    """concurrency N: the value of `calls.pop()` is a call that the program has stored."""
    queue = Queue()
    jobs = {"later": [queue.put("a"), queue.put("b")], "never": Sleep(5)}

    def main():
        calls = [queue.put("c"), queue.put("d")]
        for call in calls:
            yield call
            break
        calls.pop()
        jobs.pop("never")
        holders = [[Sleep(1)]]
        holders[0].pop()
        while jobs["later"]:
            yield jobs["later"].pop()

    assert names(main()) == []


def test_a_call_that_was_run_is_not_reported_when_the_object_that_holds_it_is_dropped():
    """concurrency N: a task has yielded the call, alone or in a select."""

    class Job:
        def __init__(self):
            self.call = Sleep(0)

    jobs = [Job(), Job()]

    def forget():
        return jobs.pop()

    def main():
        yield jobs[0].call
        yield select(jobs[1].call, Sleep(1))
        forget()
        forget()

    assert names(main()) == []


def test_a_generator_that_a_program_steps_by_hand_is_not_reported():
    """concurrency N: `next(generator)` returns a call that the generator has yielded."""

    class Stepper:
        __slots__ = ("steps",)

    def steps():
        yield Sleep(0)
        yield Sleep(1)
        yield Sleep(2)

    def main():
        stepper = Stepper()
        stepper.steps = steps()
        next(stepper.steps)
        stepper.steps.send(None)
        [stepper][0].steps.send(None)
        stepper.steps.close()
        yield

    assert names(main()) == []


def test_a_run_without_debug_pays_nothing_and_the_end_of_a_debug_run_takes_the_finalizer_away():
    """concurrency N: syscalls have a finalizer only while a debug run lasts."""

    def main():
        Queue().put(1)
        yield
        return hasattr(Syscall, debug_module.FINALIZER)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(main(), debug=False) is False
    with pytest.warns(RuntimeWarning):
        assert run(main(), debug=True) is True
    assert not hasattr(Syscall, debug_module.FINALIZER)
    assert not debug_module.watching and not debug_module.handled


def test_two_debug_runs_at_once_share_the_finalizer():
    """concurrency N: the end of one debug run leaves that of another thread at work."""

    def other():
        yield

    def main():
        yield InThread(run, other())
        Queue().put(1)
        yield

    assert names(main()) == ["Queue().put()"]


def test_the_search_keeps_no_locals_alive():
    """concurrency N: a frame in which a call was dropped is not kept by the warning."""

    def helper():
        bell = Queue()
        reference = weakref.ref(bell)
        bell.put(1)
        return reference

    def main():
        reference = helper()
        yield
        return reference()

    with pytest.warns(RuntimeWarning):
        assert run(main(), debug=True) is None


# Primitives that curio's tests use, or that a backend for anyio needs: peer-suites.


def test_queues_have_other_orders():
    """peer-suites, curio: `PriorityQueue` and `LifoQueue`."""

    def main(queue):
        for item in 2, 1, 3:
            yield queue.put(item)
        return [(yield queue.get()), (yield queue.get()), (yield queue.get())]

    assert checked.run(main(PriorityQueue())) == [1, 2, 3]
    assert checked.run(main(LifoQueue())) == [3, 1, 2]


def test_a_queue_waits_for_the_work_on_its_items():
    """peer-suites, curio: `task_done` and `join` of a queue."""
    queue, log = Queue(), []

    def worker():
        while True:
            item = yield queue.get()
            yield Sleep(1)
            log.append(item)
            queue.task_done()

    def main():
        yield Spawn(worker(), daemon=True)
        for item in "ab":
            yield queue.put(item)
        yield queue.join()
        return log

    assert checked.run(main()) == ["a", "b"]


def test_a_reentrant_lock_nests():
    """peer-suites, curio: `RLock`."""
    lock = RLock()

    def main():
        with (yield lock.acquire()), (yield lock.acquire()):
            pass
        return lock.locked()

    assert checked.run(main()) is False


@pytest.mark.parametrize("make", [Lock, RLock, Condition, partial(Semaphore, 1), partial(CapacityLimiter, 1)])
def test_each_primitive_that_is_acquired_has_a_form_that_does_not_wait(make):
    """peer-suites, anyio: `acquire_nowait` of locks and semaphores."""
    thing = make()

    def other():
        with pytest.raises(minisched.WouldBlock, match="`acquire` waits for"):
            thing.acquire_nowait()
        yield

    def main():
        with thing.acquire_nowait():
            yield Spawn(other())
            yield Pause()
        with thing.acquire_nowait():  # the first `with` has released it
            return "done"

    assert checked.run(main()) == "done"


def test_the_limit_of_a_limiter_can_change():
    """peer-suites, anyio: a capacity limiter, with holders and a number that changes."""
    limiter, log = CapacityLimiter(1), []

    def user(name):
        async def body():
            async with limiter:
                log.append(name)
                await Sleep(10)

        return body()

    def main():
        for name in "abc":
            yield Spawn(user(name))
        yield Sleep(1)
        assert log == ["a"] and limiter.borrowed_tokens == 1
        limiter.total_tokens = 3
        yield Sleep(1)
        return log

    assert checked.run(main()) == ["a", "b", "c"]


# Rows of the concurrency report that were right, and that no test held.


def got(queue):
    """Get an item, or return the name of the error."""
    try:
        return (yield queue.get())
    except ClosedError:
        return "closed"


def test_closing_a_queue_wakes_all_its_getters():
    """concurrency 24 (gh-117531): closing a queue leaves no getter blocked, and no item is lost."""
    queue = Queue(1)

    def main():
        closing = Spawn(closer())
        yield closing
        return (yield from gather(*(got(queue) for _ in range(3))))

    def closer():
        yield Sleep(1)
        yield queue.put(1)
        queue.close()

    assert checked.run(main()) == [1, "closed", "closed"]


def test_closing_a_queue_refuses_its_putters_and_keeps_its_items():
    """concurrency 24 (gh-117531): a waiting putter gets ClosedError; the items that were put can still be got."""
    queue = Queue(1)

    def putter():
        yield queue.put("refused")

    def main():
        yield queue.put("kept")
        task = yield Spawn(putter(), keep=True)
        yield Sleep(1)
        queue.close()
        with pytest.raises(ClosedError):
            yield Join(task)
        return (yield from got(queue)), (yield from got(queue))

    assert checked.run(main()) == ("kept", "closed")


def test_an_event_that_is_set_between_two_cancellations_has_happened():
    """concurrency 27 (anyio#536): the waiter of a set event goes on, and is cancelled at its next checkpoint."""
    event, log = Event(), []

    def waiter():
        yield event.wait()
        log.append("went on")
        yield Sleep(1)
        log.append("not reached")

    def main():
        task = yield Spawn(waiter(), keep=True)
        yield Sleep(1)
        event.set()
        yield Cancel(task)
        yield Cancel(task)
        with pytest.raises(minisched.TaskCancelled):
            yield Join(task)
        return log

    assert checked.run(main()) == ["went on"]


def test_four_selects_that_put_and_get_meet_in_a_rendezvous():
    """concurrency, asides: tasks that offer to put and to get at once pair up, and none meets itself."""
    queue, log = Queue(0), []

    def peer(name):
        number, value = yield select(queue.put(name), queue.get())
        log.append((name, value if number else None))

    def main():
        yield from gather(*(peer(name) for name in "abcd"))

    checked.run(main())
    pairs = {name: value for name, value in log if value is not None}
    assert len(pairs) == 2 and sorted([*pairs, *pairs.values()]) == [*"abcd"]


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_one_lock_twice_in_a_select_is_acquired_once(kind):
    """concurrency, asides: the second branch leaves the wait queue with the first."""
    lock = kind()

    def chooser():
        number, same = yield select(lock.acquire(), lock.acquire())
        with same:
            return number, len(lock.waiters)

    def main():
        with (yield lock.acquire()):
            task = yield Spawn(chooser())
            yield Sleep(1)
        result = yield Join(task)
        return result, lock.locked()

    assert checked.run(main()) == ((0, 0), False)


def test_two_locks_that_are_released_in_one_turn_go_to_their_waiters():
    """concurrency, asides: each hand-over finds its own waiter, also if one task waits for both."""
    one, two = Lock(), Lock()

    def chooser():
        number, lock = yield select(one.acquire(), two.acquire())
        with lock:
            return number

    def main():
        with (yield one.acquire()), (yield two.acquire()):
            tasks = []
            for _ in range(2):
                tasks.append((yield Spawn(chooser())))
            yield Sleep(1)
        numbers = [(yield Join(tasks[0])), (yield Join(tasks[1]))]
        return numbers, one.locked(), two.locked()

    assert checked.run(main()) == ([1, 0], False, False)


def test_a_barrier_in_a_select_counts_as_an_arrival_until_another_branch_wins():
    """concurrency, asides: a barrier as a branch."""
    barrier = Barrier(2)

    def late():
        yield Sleep(2)
        with (yield MoveOnAfter(1)) as scope:
            yield barrier.wait()
        return scope.cancelled_caught

    def main():
        task = yield Spawn(late())
        first = yield select(barrier.wait(), Sleep(1))
        return first, (yield Join(task))

    assert checked.run(main()) == ((1, None), True)


def test_a_queue_that_its_own_for_each_fills_ends_when_it_is_closed():
    """concurrency, asides: `work` may put into the queue that calls it."""
    queue, seen = Queue(), []

    def work(item):
        seen.append(item)
        if item < 3:
            queue.put_nowait(item + 1)
        else:
            queue.close()

    def main():
        queue.put_nowait(0)
        yield from queue.for_each(work)
        return seen

    assert checked.run(main()) == [0, 1, 2, 3]


def test_a_predicate_may_notify():
    """concurrency, asides: `wait_for` calls the predicate with the lock, so that it may notify others."""
    condition, log = Condition(), []

    def waiter(name):
        def predicate():
            condition.notify()
            return len(log) > 1

        with (yield condition.acquire()):
            yield from condition.wait_for(predicate)
            log.append(name)

    def main():
        yield Spawn(waiter("a"))
        yield Sleep(1)
        log.extend(["x", "y"])
        with (yield condition.acquire()):
            condition.notify_all()
        yield Sleep(1)
        return log

    assert checked.run(main()) == ["x", "y", "a"]


def test_a_condition_whose_waiter_is_joined_by_the_owner_of_its_lock_is_reported_as_a_cycle():
    """concurrency, asides: the waiter was notified and needs the lock, whose owner waits for the waiter."""
    condition = Condition()

    def waiter():
        with (yield condition.acquire()):
            yield from condition.wait()

    def main():
        task = yield Spawn(waiter())
        yield Sleep(1)
        with (yield condition.acquire()):
            condition.notify()
            yield Join(task)

    with pytest.raises(Deadlock, match=r"a cycle: 0 main -> 0.0 waiter -> 0 main"):
        checked.run(main())


def test_readers_of_a_broadcast_of_size_one_get_each_item_if_they_keep_up():
    """concurrency, asides: a waiting reader gets the item although the buffer holds one."""
    broadcast, log = Broadcast(1), []

    def reader(name):
        with broadcast.subscribe() as news:
            yield from news.for_each(lambda item: log.append((name, item)))

    def main():
        for name in "ab":
            yield Spawn(reader(name))
        yield Sleep(1)
        for item in 1, 2:
            broadcast.publish(item)
            yield Sleep(1)
        broadcast.close()

    checked.run(main())
    assert log == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


@pytest.mark.parametrize("make", [Lock, RLock, Event, Queue, PriorityQueue, LifoQueue, partial(CapacityLimiter, 1)])
def test_a_primitive_can_be_taken_to_a_second_run(make):
    """concurrency, asides: a primitive belongs to a run until that ends."""
    thing = make()

    def main():
        if isinstance(thing, Event):
            thing.set()
            yield thing.wait()
        elif isinstance(thing, Queue):
            yield thing.put(1)
            yield thing.get()
        else:
            with (yield thing.acquire()):
                assert thing.in_use()
        return (yield CurrentTask()).kernel is thing.kernel

    assert checked.run(main()) is checked.run(main()) is True


class Never(Selectable[None]):
    def try_now(self, kernel, task):
        return minisched.kernel.waiting.NOT_YET

    def add_waiter(self, kernel, waiter):
        raise SyscallError("refused")


def test_a_branch_that_cannot_be_added_leaves_no_waiter_at_the_others():
    """concurrency, asides: after an error of one branch, the queue and the limiter have no waiter left."""
    queue, limiter = Queue(), CapacityLimiter(0)

    def main():
        with pytest.raises(SyscallError, match="refused"):
            yield select(queue.get(), limiter.acquire(), Never())
        queue.put_nowait(1)
        with pytest.raises(SyscallError, match="refused"):
            yield select(queue.join(), limiter.acquire(), Never())
        return len(queue.waiters), len(queue.joiners), len(limiter.waiters)

    assert checked.run(main()) == (0, 0, 0)
