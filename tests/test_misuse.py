"""Every sentence of misuse, as a list: the mistake, and the error that names its fix."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import sys
from contextlib import suppress

import pytest

from minisched import (
    Accept,
    Barrier,
    Cancel,
    Cancelled,
    CancelScope,
    CapacityLimiter,
    Condition,
    Connect,
    CurrentTask,
    InThread,
    Join,
    JoinAll,
    Listen,
    Lock,
    MoveOnAfter,
    Pause,
    Portal,
    Queue,
    Read,
    Semaphore,
    Shield,
    Sleep,
    SleepUntil,
    Socket,
    Spawn,
    Syscall,
    SyscallError,
    TaskGroup,
    Timeout,
    Write,
    as_completed,
    gather,
    group,
    race,
    run,
    select,
    supervise,
)

# The mistakes in a class: the error comes when the class is made.


@pytest.mark.parametrize("method", ["handle", "try_now", "add_waiter", "try_once", "open", "release"])
@pytest.mark.parametrize("keyword", ["", "async "])
def test_a_method_that_the_kernel_calls_is_not_a_generator_function(method, keyword):
    source = f"class Mine(Syscall):\n    {keyword}def {method}(self, *args):\n        yield 1\n"
    with pytest.raises(SyscallError, match=rf"^Mine.{method} has a `yield`, or is an `async def`, and would never run"):
        exec(source, {"Syscall": Syscall})


def test_a_coroutine_is_not_a_handler():
    with pytest.raises(SyscallError, match=r"^Mine\.handle has a `yield`, or is an `async def`"):

        class Mine(Syscall):
            async def handle(self, kernel, task):
                return 1


# The mistakes in a handler.


class Careless(Syscall):
    def __init__(self, mistake):
        self.mistake = mistake

    def handle(self, kernel, task):
        return self.mistake(kernel, task)

    def __repr__(self):
        return "Careless()"


def parks_and_returns(kernel, task):
    kernel.park(task, lambda: None)
    return 5


def wakes_itself_and_returns(kernel, task):
    kernel.park(task, lambda: None)
    kernel.resume(task, 1)
    return 5


def parks_twice(kernel, task):
    kernel.park(task, lambda: None)
    kernel.park(task, lambda: None)


def parks_another(kernel, task):
    kernel.park(kernel.spawn(nothing(), parent=task), lambda: None)


def nothing():
    yield


LOST = (
    "Careless() parked task 'main' and returned 5, which would be lost: return the answer, or park the task and pass "
    "the answer to `resume`"
)
HANDLERS = {
    parks_and_returns: LOST,
    wakes_itself_and_returns: LOST,
    parks_twice: "park: task 'main' is parked; a handler parks its own task, once",
    parks_another: "park: task 'nothing' is ready; a handler parks its own task, once",
}


@pytest.mark.parametrize("mistake", HANDLERS, ids=lambda mistake: mistake.__name__)
def test_a_mistake_in_a_handler(mistake):
    def main():
        yield Careless(mistake)

    with pytest.raises(SyscallError, match=f"^{re.escape(HANDLERS[mistake])}$"):
        run(main())


# The mistakes in a task.


CONTEXTS = [
    (Timeout(1), "Timeout"),
    (MoveOnAfter(1), "MoveOnAfter"),
    (Shield(1), "Shield"),
    (CancelScope(), "CancelScope"),
    (Portal(), "Portal"),
    (Listen(("127.0.0.1", 0)), "Listen"),
    (Connect(("127.0.0.1", 1)), "Connect"),
]


@pytest.mark.parametrize(("call", "name"), CONTEXTS, ids=lambda thing: thing if isinstance(thing, str) else "")
@pytest.mark.parametrize("form", ["generator", "coroutine"])
def test_a_with_on_a_call_that_was_not_yielded(call, name, form):
    """newcomer A2.9: a bare TypeError of Python's."""

    def generator():
        with call:
            yield

    async def coroutine():
        with call:
            await Pause()

    text = (
        f"`with {name}(...)` lacks a yield, so nothing has happened yet: write `with (yield {name}(...)):`, or in an "
        f"`async def` `async with {name}(...):`"
    )
    with pytest.raises(SyscallError, match=f"^{re.escape(text)}$"):
        run(generator() if form == "generator" else coroutine())


def works():
    yield Pause()


async def works_too():
    await Pause()


def fails(make_body):
    """Return the error of a run whose main task is `make_body()`."""
    with pytest.raises((SyscallError, TypeError, ValueError)) as caught:
        run(make_body())
    return caught.value


def plain_with(thing):
    with thing:
        yield


async def async_with(thing):
    async with thing:
        pass


def yields(thing):
    yield thing


def yields_from(thing):
    yield from thing


async def awaits(thing):
    await thing


def goes_through(thing):
    for _ in thing:
        yield


def swallows():
    yield Cancel((yield CurrentTask()))
    while True:
        with suppress(Cancelled):
            yield


def sleeps(seconds):
    yield Sleep(seconds)


def enters_twice():
    scope = yield CancelScope()
    with scope, scope:
        yield


def enters_again():
    scope = yield CancelScope()
    for _ in range(2):
        with scope:
            yield


def leaves_out_of_order():
    outer, inner = (yield CancelScope()), (yield CancelScope())
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)


def spawns_again():
    body = works()
    next(body)
    yield Spawn(body)


def has_parent(task):
    yield
    task.kernel.spawn(works(), parent=task)


def spawns_below_a_task_that_is_done():
    done = yield Spawn(works())
    yield Join(done)
    yield from has_parent(done)


def joins_itself():
    yield Join((yield CurrentTask()))


def acquires_twice():
    lock = Lock("printer")
    yield lock.acquire()
    yield lock.acquire()


class Wordless(Syscall):
    """A call that cannot say what it is."""

    def __init__(self, mistake=None):
        self.mistake = mistake

    def handle(self, kernel, task):
        return self.mistake(kernel, task)

    def __repr__(self):
        raise ValueError("no text")


class WordlessThing:
    def __repr__(self):
        raise ValueError("no text")


def wakes_and_raises(kernel, task):
    kernel.park(task, None)
    kernel.resume(task)
    raise KeyError("late")


def parks_with_a_bad_undo(kernel, task):
    kernel.park(task, lambda: 1 / 0)


def cancels_a_bad_undo():
    child = yield Spawn(yields(Wordless(parks_with_a_bad_undo)))
    yield Cancel(child)


def no_text(name):
    return f"<{name}, whose __repr__ raised ValueError: no text>"


SENTENCES = {
    # A yield, or a part of it, is missing.
    "Sleep is a class: a call is missing? (Sleep(...))": lambda: yields_from(Sleep),
    "Read is a class: a call is missing? (Read(...))": lambda: awaits(Read),
    "task 'yields' yielded the class Sleep; a call is missing? (yield Sleep(...))": lambda: yields(Sleep),
    "task 'yields' yielded the function works; a call is missing? (yield from works(...))": lambda: yields(works),
    "task 'yields' yielded the function get; a call is missing? (yield from get(...))": lambda: yields(Queue().get),
    "task 'yields' yielded a generator, works(); a missing `from`? (yield from works())": lambda: yields(works()),
    "task 'yields' yielded a coroutine, works_too(); in a generator, `yield from` a generator": lambda: yields(
        works_too()
    ),
    "task 'yields' yielded 5, which is not a syscall; was it the result of a call, as of sock.recv(10)? Ask for it "
    "instead: yield Read(sock, 10)": lambda: yields(5),
    "task 'yields' yielded [Sleep(1)], which is not a syscall; yield a Syscall, or nothing to let others run": (
        lambda: yields([Sleep(1)])
    ),
    f"task 'yields' yielded {no_text('WordlessThing')}, which is not a syscall; yield a Syscall, or nothing to let "
    "others run": lambda: yields(WordlessThing()),
    # A thing is not a task.
    "Sleep(1) is a syscall, not a task: yield it, or put it in a generator function": lambda: gather(Sleep(1)),
    "Sleep(2) is a syscall, not a task: yield it, or put it in a generator function": lambda: yields(Spawn(Sleep(2))),
    "Sleep(3) is a syscall, not a task: yield it, or put it in a generator function": lambda: race(Sleep(3)),
    "works is a function, not a task: call it, works(...)": lambda: yields(Spawn(works)),
    "None is not a task: the function has run already, since there is no `yield` in it": lambda: yields(Spawn(None)),
    "5 is not a task: a task is what a generator function or an `async def` returns": lambda: yields(Spawn(5)),
    "works() has been started already; a task needs a fresh one: call works(...) again": spawns_again,
    "group takes a function, which it calls itself, not Sleep(1)": lambda: group(Sleep(1)),
    "supervise takes a function, which it calls itself, not Sleep(1)": lambda: supervise(Sleep(1)),
    "Join takes a task, which is what `yield Spawn(...)` returns, not 5": lambda: yields(Join(5)),
    "task 'joins_itself' joined itself: that would wait for ever": joins_itself,
    "task 'works' is done: it can have no more children": spawns_below_a_task_that_is_done,
    # A block does not wait.
    "`with lock:` does not wait for the lock: use `with (yield lock.acquire()):`, or `async with lock:`": (
        lambda: plain_with(Lock())
    ),
    "`with semaphore:` does not wait for a permit: use `with (yield semaphore.acquire()):`, or `async with "
    "semaphore:`": lambda: plain_with(Semaphore(1)),
    "`with limiter:` does not wait for a token: use `with (yield limiter.acquire()):`, or `async with limiter:`": (
        lambda: plain_with(CapacityLimiter(1))
    ),
    "`with condition:` does not wait for the lock: use `with (yield condition.acquire()):`, or `async with "
    "condition:`": lambda: plain_with(Condition()),
    "`with TaskGroup(...):` does not wait for the children: use `yield from group(body)`, or `async with "
    "TaskGroup(...):`": lambda: plain_with(TaskGroup()),
    "`with as_completed(...):` does not wait for the tasks: use `yield from as_completed(...).for_each(work)`, or "
    "`async with as_completed(...):`": lambda: plain_with(as_completed(works())),
    "a Queue has no block: yield one of its calls": lambda: plain_with(Queue()),
    "`async with Sleep(...)` got None, which is not a context manager: write `await Sleep(...)`": (
        lambda: async_with(Sleep(0))
    ),
    "a Queue is not iterable: yield one of its calls; `async for`, or `yield from` its `for_each`, takes items one by "
    "one, if it has some": lambda: goes_through(Queue()),
    "a Lock is not iterable: yield one of its calls; `async for`, or `yield from` its `for_each`, takes items one by "
    "one, if it has some": lambda: yields_from(Lock()),
    # A rule of scopes, locks and cancellations is broken.
    "a scope is entered once, and task 'enters_twice' has entered this one: make another": enters_twice,
    "a scope is entered once, and this one was left: make another": enters_again,
    "a scope was left out of order: leave scopes in the reverse order of entering them, and don't `yield` across a "
    "`with` in a generator that is used as an iterator": leaves_out_of_order,
    "task 'swallows' swallowed 1000 Cancelleds of one cancellation and was closed: let Cancelled pass, or raise it "
    "again after cleaning up": swallows,
    "task 'acquires_twice' owns <Lock printer: held by task 'acquires_twice', 0 waiting> already and would wait for "
    "itself": acquires_twice,
    "select takes calls like queue.get(), Sleep(1) or Join(task), not JoinAll()": lambda: yields(select(JoinAll())),
    "select needs one call or more to wait for": lambda: yields(select()),
    # A number is wrong.
    "Sleep: seconds is a number of seconds, 0 or more, not -1.0": lambda: yields(Sleep(-1)),
    "Sleep: seconds is a number of seconds, 0 or more, not '1' (str)": lambda: sleeps("1"),  # in a debug run
    "Sleep: seconds is a number of seconds, 0 or more, not True (bool)": lambda: sleeps(True),
    "Timeout: seconds is a number of seconds, 0 or more, or None for no limit, not '1' (str)": (
        lambda: yields(Timeout("1"))
    ),
    "MoveOnAfter: seconds is a number of seconds, 0 or more, or None for no limit, not True (bool)": (
        lambda: yields(MoveOnAfter(True))
    ),
    "SleepUntil: deadline is a time in seconds, not 'now' (str)": lambda: yields(SleepUntil("now")),
    "Queue: maxsize is a number of items, 0 or more, or None for no limit, not '5' (str)": lambda: Queue("5"),
    "Semaphore: value is a number of permits, 0 or more, not -1": lambda: Semaphore(-1),
    "Barrier: parties is a number of tasks, 1 or more, not 0": lambda: Barrier(0),
    "Read: size is a number of bytes, 1 or more, not '10' (str)": lambda: yields(Read(0, "10")),
    # A call in a thread, on a file.
    "pass the function and its arguments separately, InThread(f, x), not 5": lambda: yields(InThread(5)),
    "an address is (host, port), as in ('127.0.0.1', 80), or a path, not '127.0.0.1:80'; for that path, pass a Path": (
        lambda: yields(Listen("127.0.0.1:80"))
    ),
    "Read can't use SSLSocket, which decrypts bytes that no poll reports: make it from a Socket by "
    "start_tls(sock, context), which takes the same context": lambda: encrypted(lambda sock: Read(sock, 10)),
    "Write can't use SSLSocket, which decrypts bytes that no poll reports: make it from a Socket by "
    "start_tls(sock, context), which takes the same context": lambda: encrypted(lambda sock: Write(sock, b"data")),
    # A handler breaks a rule; it cannot even say what it is.
    f"{no_text('Wordless')} parked task 'yields' and returned 5, which would be lost: return the answer, or park the "
    "task and pass the answer to `resume`": lambda: yields(Wordless(parks_and_returns)),
    f"{no_text('Wordless')} woke task 'yields', then raised KeyError('late'): it can do one": lambda: yields(
        Wordless(wakes_and_raises)
    ),
    f"the undo of {no_text('Wordless')} in task 'yields' raised ZeroDivisionError('division by zero')": (
        cancels_a_bad_undo
    ),
}


def encrypted(make_call):
    """Yield a call on an SSLSocket."""
    with ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="localhost") as sock:
        yield make_call(sock)


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.filterwarnings("ignore:.*spawned.*:RuntimeWarning")
def test_a_mistake_and_its_sentence(text):
    assert str(fails(SENTENCES[text])) == text


def test_a_socket_that_another_thread_closes():
    with Socket() as sock:

        def main():
            with (yield MoveOnAfter(60)):
                yield Spawn(closes())
                yield Accept(sock)

        def closes():
            yield Pause()
            yield InThread(sock.close)

        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with pytest.raises(BaseException) as caught:
            run(main())
    assert "in another thread than its run's, where it could break a turn: let Portal.call make the call" in repr(
        caught.value
    )


async def sleeps_in_asyncio():
    await asyncio.sleep(0.01)


async def gathers_in_asyncio():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        await asyncio.gather(sleeps_in_asyncio())
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
        asyncio.set_event_loop(None)
        loop.close()


async def waits_for_a_future_of_asyncio():
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


async def sleeps_in_trio():
    trio = pytest.importorskip("trio")
    await trio.sleep(0.01)


@pytest.mark.skipif(sys.platform == "emscripten", reason="an event loop of asyncio always runs there")
@pytest.mark.parametrize("body", [sleeps_in_asyncio, gathers_in_asyncio, waits_for_a_future_of_asyncio, sleeps_in_trio])
def test_a_call_of_asyncio_or_trio(body):
    with pytest.raises((SyscallError, RuntimeError)) as caught:
        run(body())
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert "calls of asyncio or trio need their own event loop; here, await Sleep(1), gather(...) and the like" in text
