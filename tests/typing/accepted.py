"""The types of the public interface. Type checkers read this file; nothing runs it (`tests/typing/check.py`).

A generator keeps a type by `yield from`, an `async def` by `await`. The value of a bare `yield` is Any.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Literal, TypeVar, assert_type

import minisched.testing
from minisched import (
    NOT_YET,
    Accept,
    Barrier,
    Broadcast,
    Cancel,
    CancelScope,
    CapacityLimiter,
    ChildProcess,
    Close,
    Condition,
    Connect,
    CurrentTask,
    Event,
    FileOperation,
    Follower,
    FutureOperation,
    HostAddress,
    IncompleteRead,
    IncompleteWrite,
    InThread,
    Join,
    JoinAll,
    Kernel,
    LifoQueue,
    LimitExceeded,
    Listen,
    Lock,
    MoveOnAfter,
    Now,
    Open,
    OpenDatagram,
    Pause,
    Portal,
    PriorityQueue,
    Queue,
    Read,
    ReadAt,
    RecvFrom,
    RegularFile,
    Resolve,
    RLock,
    Selectable,
    Semaphore,
    SendTo,
    Service,
    Shield,
    Sleep,
    SleepUntil,
    Socket,
    Spawn,
    Stream,
    Submit,
    Sync,
    Syscall,
    Task,
    TaskGroup,
    Timeout,
    TlsConnection,
    UniversalQueue,
    WaitReadable,
    WaitSignal,
    Write,
    WriteAt,
    as_completed,
    follow,
    gather,
    group,
    open_connection,
    open_process,
    race,
    read_file,
    run,
    run_process,
    select,
    serve,
    serve_listeners,
    serve_unix,
    start_tls,
    supervise,
    write_file,
)

Answer = TypeVar("Answer")


def number() -> Generator[Any, Any, int]:
    yield
    return 1


async def text() -> str:
    await Pause()
    return "a"


async def flag(value: bool) -> bool:
    await Sleep(1)
    return value


# Tasks.


def tasks() -> Generator[Any, Any, None]:
    first = yield from Spawn(number())
    assert_type(first, Task[int])
    assert_type((yield from Join(first)), int)
    assert_type((yield from Join((yield from Spawn(text(), name="text", keep=True)))), str)
    assert_type(first.result, int | Any)  # None until the end, which a checker cannot know
    assert_type((yield from JoinAll()), None)
    assert_type((yield from Cancel(first, "late")), None)
    assert_type((yield from CurrentTask()).name, str)
    assert_type((yield from Now()), float)
    assert_type((yield from SleepUntil(3)), None)
    assert_type((yield Join(first)), Any)
    joined: int = yield Join(first)  # declared by hand
    assert_type(joined, int)
    several: list[Task] = [first, (yield from Spawn(text()))]  # a bare Task is a task with any result
    for task in several:
        assert_type((yield from Join(task)), Any)
    assert_type((yield from join_any(first)), object)


def join_any(task: Task[object]) -> Generator[Any, Any, object]:
    return (yield from Join(task))


async def tasks_by_await() -> None:
    first = await Spawn(number())
    assert_type(first, Task[int])
    assert_type(await Join(first), int)
    assert_type(await Join(await Spawn(text())), str)
    assert_type(await Now(), float)


def spawn_any(work: Callable[[], Generator[Any, Any, Answer]]) -> Generator[Any, Any, Answer]:
    task = yield from Spawn(work())
    return (yield from Join(task))


def generic_functions_keep_types() -> Generator[Any, Any, None]:
    assert_type((yield from spawn_any(number)), int)


def runs() -> None:
    assert_type(run(number()), int)
    assert_type(run(text(), debug=True), str)
    assert_type(run(gather(number(), text())), tuple[int, str])
    assert_type(run(race(number(), text())), int | str)
    assert_type(minisched.testing.run(number()), int)
    assert_type(minisched.testing.run(text()), str)


# Several at once.


def gathers(bodies: list[Generator[Any, Any, int]]) -> Generator[Any, Any, None]:
    assert_type((yield from gather(number())), tuple[int])
    first, second, third = yield from gather(number(), text(), flag(True))
    assert_type(first, int)
    assert_type(second, str)
    assert_type(third, bool)
    assert_type((yield from gather(*bodies)), list[int])
    assert_type((yield from gather(*(number() for _ in range(3)))), list[int])
    eight = gather(number(), text(), number(), text(), number(), text(), number(), text())
    assert_type((yield from eight), tuple[int, str, int, str, int, str, int, str])
    nine = gather(number(), number(), number(), number(), number(), number(), number(), number(), number())
    assert_type((yield from nine), list[int])
    outcomes = yield from gather(number(), text(), return_exceptions=True)
    assert_type(outcomes, tuple[int | BaseException, str | BaseException])
    assert_type((yield from gather(*bodies, return_exceptions=True)), list[int | BaseException])
    nested = yield from gather(gather(number(), text()), race(number(), text()))
    assert_type(nested, tuple[tuple[int, str], int | str])


async def gathers_by_await(bodies: Iterable[Coroutine[Any, Any, str]]) -> None:
    first, second = await gather(number(), text())
    assert_type(first, int)
    assert_type(second, str)
    assert_type(await gather(*bodies), list[str])
    assert_type(await race(text(), flag(False)), str | bool)
    assert_type(await race(*bodies), str)
    task = await Spawn(gather(number(), text()))
    assert_type(task, Task[tuple[int, str]])


def races(bodies: list[Generator[Any, Any, int]]) -> Generator[Any, Any, None]:
    assert_type((yield from race(number())), int)
    assert_type((yield from race(number(), number())), int)
    assert_type((yield from race(number(), text(), flag(True))), int | str | bool)
    assert_type((yield from race(*bodies)), int)


def show(value: int | str) -> None: ...


async def completions(bodies: list[Generator[Any, Any, int]]) -> None:
    await as_completed(number(), text()).for_each(show)
    async with as_completed(number(), text()) as results:
        async for result in results:
            assert_type(result, int | str)
    async with as_completed(*bodies) as numbers:
        async for result in numbers:
            assert_type(result, int)


async def groups() -> None:
    async with TaskGroup("workers") as children:
        task = await children.spawn(number())
        assert_type(task, Task[int])

    def body(children: TaskGroup) -> Generator[Any, Any, str]:
        task = yield from children.spawn(text())
        return (yield from Join(task))

    async def async_body(children: TaskGroup) -> str:
        return await Join(await children.spawn(text()))

    assert_type(await group(body), str | Any)  # None if `children.cancel()` cut it short
    assert_type(await group(async_body), str | Any)
    assert_type(await supervise(number, number, restarts=1), list[int | Any])


def selects(numbers: Queue[int], words: Queue[str]) -> Generator[Any, Any, None]:
    which, value = yield from select(numbers.get(), words.get(), Sleep(1))
    assert_type(value, int | str | None)
    assert_type(which, Literal[0, 1, 2])
    outcome = yield from select(numbers.get(), words.get())
    assert_type(outcome, tuple[Literal[0], int] | tuple[Literal[1], str])
    if outcome[0] == 0:
        assert_type(outcome[1], int)
    else:
        assert_type(outcome[1], str)
    gets = [numbers.get(), numbers.get()]
    assert_type((yield from select(*gets)), tuple[int, int])
    assert_type((yield select(numbers.get(), Sleep(1))), Any)


# Cancellation.


def scopes() -> Generator[Any, Any, int]:
    with (yield from MoveOnAfter(5)) as scope:
        yield from Sleep(1)
    assert_type(scope.cancelled_caught, bool)
    assert_type(scope.deadline, float)
    scope.deadline = math.inf
    with (yield from CancelScope()) as scope:
        scope.cancel("enough")
    assert_type(scope.cancel_called, bool)
    with (yield from Shield(None)):
        yield from Sleep(1)
    with (yield from Timeout(5)) as timeout:
        assert_type(timeout.deadline, float)
        return (yield from number())  # a block that raises TimedOut needs no `return` behind it


async def scopes_by_await() -> int:
    with await Timeout(None):
        with await Shield(1):
            return 2


# Primitives.


def queues() -> Generator[Any, Any, None]:
    numbers = Queue[int](3, name="numbers")
    assert_type(numbers, Queue[int])
    assert_type((yield from numbers.get()), int)
    assert_type(numbers.get_nowait(), int)
    assert_type((yield from numbers.put(1)), None)
    numbers.put_nowait(True)
    assert_type((yield from numbers.join()), None)
    declared: Queue[str] = Queue()
    assert_type((yield from declared.get()), str)
    assert_type((yield numbers.get()), Any)
    jobs = PriorityQueue[tuple[int, str]](key=lambda job: job[0])
    assert_type((yield from jobs.get()), tuple[int, str])
    assert_type((yield from LifoQueue[bytes]().get()), bytes)
    anything = Queue()  # a bare Queue is one of anything
    yield from anything.put(1)
    assert_type((yield from anything.get()), Any)
    yield from numbers.for_each(show)
    taken: Queue[int] = PriorityQueue[int]()
    assert_type((yield from taken.get()), int)


async def queues_by_await(words: Queue[str]) -> None:
    assert_type(await words.get(), str)
    assert_type(await words.put("a"), None)
    async for word in words:
        assert_type(word, str)


def universal_queues(words: UniversalQueue[str]) -> Generator[Any, Any, None]:
    numbers = UniversalQueue[int](3, name="numbers")
    assert_type((yield from numbers.get()), int)
    assert_type((yield from numbers.put(1)), None)
    assert_type(numbers.get_nowait(), int)
    assert_type(words.blocking_get(timeout=1), str)
    words.blocking_put("a", timeout=None)


async def universal_queues_by_await(words: UniversalQueue[str]) -> None:
    assert_type(await words.get(), str)
    assert_type(await words.put("a"), None)
    async for word in words:
        assert_type(word, str)


class Numbers(Queue[int]):
    """A queue of a user's own."""


async def broadcasts() -> None:
    news = Broadcast[str](size=2)
    news.publish("a")
    with news.subscribe("reader") as subscription:
        assert_type(await subscription.get(), str)
        assert_type(subscription.get_nowait(), str)
        async for item in subscription:
            assert_type(item, str)
    assert_type(await Numbers().get(), int)


def locks() -> Generator[Any, Any, None]:
    assert_type((yield from Event().wait()), None)
    assert_type(Event("set").is_set(), bool)
    assert_type((yield from Barrier(2).wait()), int)
    with (yield from Lock().acquire()) as lock:
        assert_type(lock, Lock)
    with (yield from Semaphore(2).acquire()):
        pass
    with (yield from CapacityLimiter(2).acquire()):
        pass
    condition = Condition(RLock())
    with (yield from condition.acquire()):
        assert_type((yield from condition.wait()), None)
        assert_type((yield from condition.wait_for(lambda: "true")), str)


async def locks_by_await(condition: Condition) -> int:
    async with Lock() as lock:
        assert_type(lock, Lock)
        async with Semaphore(1), CapacityLimiter(1), condition:
            return 1


# Child processes.


def talks(process: ChildProcess) -> Generator[Any, Any, tuple[bytes, int]]:
    assert process.stdin is not None and process.stdout is not None
    yield Write(process.stdin, b"in")
    process.send_signal(15, group=True)
    return (yield from Read(process.stdout, 100)), (yield from process.wait())


def processes() -> Generator[Any, Any, None]:
    assert_type((yield from run_process(["ls", b"-l", Path()], input=b"", timeout=1)), CompletedProcess[bytes])
    assert_type((yield from open_process(["ls"], stdin=None, env={"A": "b"}).use(talks)), tuple[bytes, int])


async def processes_by_await() -> None:
    assert_type(await run_process(("ls",), stderr=None, umask=0), CompletedProcess[bytes])
    async with open_process(["ls"]) as process:
        assert_type(process, ChildProcess)
        assert_type(await process.wait(), int)
        assert_type(process.returncode, int | None)


# Threads.


def with_defaults(first: int, second: str = "") -> bytes:
    return b""


def threads(threads: ThreadPoolExecutor, processes: ProcessPoolExecutor) -> Generator[Any, Any, None]:
    assert_type((yield from InThread(with_defaults, 1)), bytes)
    assert_type((yield from InThread(with_defaults, 1, "a", abandon=True)), bytes)
    assert_type((yield from InThread(time.sleep, 0.1)), None)
    assert_type((yield from InThread(divmod, 17, 5)), tuple[int, int])
    assert_type((yield from InThread(lambda: 3)), int)
    assert_type((yield from InThread(os.getpid)), int)
    assert_type((yield from InThread(open, "file")).readline(), str)
    assert_type(len((yield from InThread(socket.getaddrinfo, "localhost", 80))), int)
    assert_type((yield from InThread(asyncio.run, text())), str)
    assert_type((yield from Submit(threads, math.factorial, 20)), int)
    assert_type((yield from Submit(processes, with_defaults, 1, abandon=True)), bytes)


async def threads_by_await() -> None:
    assert_type(await InThread(with_defaults, 1), bytes)
    which, value = await select(InThread(with_defaults, 1), Sleep(1))
    assert_type(which, Literal[0, 1])
    assert_type(value, bytes | None)


def portals() -> Generator[Any, Any, int]:
    def double(value: int) -> Generator[Any, Any, int]:
        yield
        return 2 * value

    with (yield from Portal()) as portal:
        assert_type(portal.call(with_defaults, 1, second="a"), bytes)
        assert_type(portal.spawn(double, 21, name="double"), Future[int])
        assert_type(portal.spawn(text).result(), str)
        return 1


# Files, the network, servers.


async def files(sock: Socket, context: ssl.SSLContext) -> None:
    assert_type(await Read(sock, 10), bytes)
    assert_type(await Write(sock, b"a"), int)
    assert_type(await WaitReadable(3), None)
    assert_type(await Close(sock), None)
    with await Listen(("127.0.0.1", 0)) as listener:
        assert_type(await Accept(listener), Socket)
        assert_type(await Connect(listener.address), Socket)
    with await start_tls(sock, ssl.create_default_context(), server_hostname="a") as tls:
        assert_type(await Read(tls, 10), bytes)
    async with OpenDatagram(("127.0.0.1", 0)) as sock:
        assert_type(sock.address, Any)
        assert_type(await RecvFrom(sock), tuple[bytes, Any])
        assert_type(await SendTo(sock, b"a", sock.address), int)
    assert_type(await Resolve("example.org", 80), list[HostAddress])
    assert_type(await open_connection("example.org", 80), Socket)
    assert_type(await open_connection("example.org", 443, tls=True), TlsConnection)
    assert_type(await open_connection("example.org", 443, tls=context, server_hostname="a"), TlsConnection)
    which, value = await select(Resolve("", 80), Sleep(1))
    assert_type((which, value), tuple[Literal[0, 1], list[HostAddress] | None])
    assert_type(await WaitSignal(2), int)


async def regular_files(path: str) -> None:
    async with Open(path, "r+") as file:
        assert_type(file, RegularFile)
        assert_type(file.position, int)
        assert_type(await Read(file, 100), bytes)
        assert_type(await ReadAt(file, 100, 0), bytes)
        assert_type(await WriteAt(file, b"x", 0), int)
        assert_type(await Sync(file), None)
    assert_type(await read_file(path, limit=100), bytes)
    assert_type(await write_file(path, b"x"), None)
    with await follow(path) as follower:
        assert_type(await follower.readline(), bytes)
        assert_type(await follower.read(), bytes)
        async for line in follower:
            assert_type(line, bytes)


def regular_files_by_yield(path: str) -> Generator[Any, Any, None]:
    with (yield from Open(path)) as file:
        assert_type(file, RegularFile)
        _, data = yield from select(ReadAt(file, 100, 0), Sleep(1))
        assert_type(data, bytes | None)
    assert_type((yield from read_file(path)), bytes)
    assert_type((yield from follow(path)), Follower)


async def streams(conn: Socket) -> None:
    with Stream(conn, limit=100) as stream, Stream(3), Stream(socket.socket()):
        assert_type(stream, Stream)
        assert_type(await stream.readline(), bytes)
        assert_type(await stream.read_until(b"--", limit=10), bytes)
        assert_type(await stream.read_exactly(3), bytes)
        assert_type(await stream.read(3), bytes)
        assert_type(await stream.write(memoryview(b"a")), int)
        assert_type(await stream.write_eof(), None)
        assert_type(await select(stream.readline(), Sleep(1)), tuple[Literal[0], bytes] | tuple[Literal[1], None])
        async for line in stream:
            assert_type(line, bytes)
        try:
            await stream.readline()
        except (IncompleteRead, LimitExceeded) as error:
            assert_type(error.available, int)
        except IncompleteWrite as cut:
            assert_type(cut.written + cut.size, int)


def lines(stream: Stream) -> Generator[Any, Any, None]:
    while line := (yield from stream.readline()):
        assert_type(line, bytes)


def handler(conn: Socket) -> Generator[Any, Any, None]:
    while data := (yield from Read(conn, 10)):
        yield from Write(conn, data)


async def async_handler(conn: Socket) -> None:
    await Write(conn, b"a")


async def tls_handler(conn: TlsConnection) -> None:
    assert_type(conn.alpn, str | None)


async def servers(listener: Socket) -> None:
    assert_type(await serve(handler, "", 80, ready=lambda listener: print(listener.address)), None)
    await serve(async_handler, ["::", "0.0.0.0"], 80, grace=None)
    await serve_unix(tls_handler, "path", tls=ssl.create_default_context())
    server = await Spawn(serve_listeners(async_handler, listener))
    assert_type(server, Task[None])


# Syscalls of a user's own.


class Hits(Service):
    count = 0


class Hit(Syscall[int]):
    def handle(self, kernel: Kernel, task: Task) -> int:
        hits = kernel.service(Hits)
        hits.count += 1
        return hits.count


class First(Selectable[Answer]):
    def __init__(self, items: list[Answer]) -> None:
        self.items = items

    def try_now(self, kernel: Kernel, task: Task) -> Answer:
        return self.items[0] if self.items else NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: object) -> Callable[[], object]:
        return lambda: None


class Peek(FileOperation[bytes]):
    def try_once(self, file: socket.socket, /) -> bytes:
        return file.recv(1, socket.MSG_PEEK)


class Answered(FutureOperation[str]):
    def start(self, kernel: Kernel, task: Task) -> Future[str]:
        return Future()


async def own() -> None:
    assert_type(await Hit(), int)
    assert_type(await First([1.5]), float)
    assert_type(await Peek(3), bytes)
    assert_type(await Answered(), str)
    which, value = await select(Peek(3), First(["a"]))
    assert_type((which, value), tuple[Literal[0, 1], bytes | str])


async def stream(queue: Queue[int]) -> AsyncIterator[int]:
    async for item in queue:
        yield item


async def after_a_block_that_was_cut_short() -> int:
    with await MoveOnAfter(5):
        return 1
    return 2  # reached: the scope may have swallowed a Cancelled
