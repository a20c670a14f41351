"""Mistakes that type checkers must report: each line with the comment `# error`, and no other line.

Nothing runs this file. `tests/typing/check.py` compares the comments with the reports of pyright and mypy. A line of
which one of the two approves has the name of the other: `# error: pyright`.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from minisched import (
    Broadcast,
    Cancel,
    Event,
    FileOperation,
    InThread,
    Join,
    LifoQueue,
    MoveOnAfter,
    Now,
    Pause,
    Portal,
    PriorityQueue,
    Queue,
    Read,
    Selectable,
    Sleep,
    Socket,
    Spawn,
    Submit,
    Syscall,
    Task,
    TaskGroup,
    Timeout,
    as_completed,
    gather,
    group,
    race,
    run,
    select,
    serve,
    supervise,
)


def number() -> Generator[Any, Any, int]:
    yield
    return 1


async def text() -> str:
    await Pause()
    return "a"


def wants_str(value: str) -> None: ...


def tasks() -> Generator[Any, Any, None]:
    task = yield from Spawn(number())
    wants_str((yield from Join(task)))  # error
    wrong: Task[str] = task  # error
    yield from Join(wrong)
    yield from Join(number())  # error
    yield from Spawn(number)  # error
    yield from Cancel(number())  # error
    wants_str((yield from Now()))  # error
    wants_str(task.name.upper)  # error


async def tasks_by_await() -> None:
    wants_str(await Join(await Spawn(number())))  # error
    await Spawn(number(), keep="yes")  # error
    await Sleep("1")  # error
    await 5  # error


def runs() -> None:
    wants_str(run(number()))  # error
    run(number)  # error
    run(Sleep(1))  # error


def gathers(bodies: list[Generator[Any, Any, int]]) -> Generator[Any, Any, None]:
    first, second = yield from gather(number(), text())
    wants_str(first)  # error
    wants_str(second)
    _one, _two, _three = yield from gather(number(), text())  # error
    wants_str((yield from gather(*bodies))[0])  # error
    tried, _ = yield from gather(text(), text(), return_exceptions=True)
    wants_str(tried)  # error
    yield from gather(number, text())  # error
    yield from gather(bodies)  # error
    yield from gather(Sleep(1))  # error
    wants_str((yield from race(number(), text())))  # error
    yield from race(number(), 5)  # error
    yield from as_completed(number(), text()).for_each(wants_str)  # error


async def groups() -> None:
    async with as_completed(number()) as results:
        async for result in results:
            wants_str(result)  # error
    async with TaskGroup() as children:
        wants_str(await Join(await children.spawn(number())))  # error
        await children.spawn(number)  # error
    await group(number())  # error
    await supervise(number())  # error


def selects(numbers: Queue[int]) -> Generator[Any, Any, None]:
    _, value = yield from select(numbers.get(), Sleep(1))
    wants_str(value)  # error
    yield from select(number())  # error
    yield from select(Now(), Sleep(1))  # error
    outcome = yield from select(numbers.get(), InThread(str, 1))
    if outcome[0] == 0:
        wants_str(outcome[1])  # error
    else:
        wants_str(outcome[1])


def scopes() -> Generator[Any, Any, int]:  # error
    with (yield from Timeout("5")):  # error
        yield
    with (yield from MoveOnAfter(5)) as scope:
        scope.deadline = "now"  # error
        scope.cancel(5)  # error
        return 1


def after_move_on() -> Generator[Any, Any, int]:  # error
    with (yield from MoveOnAfter(5)):
        yield from Sleep(1)
        return 1


def queues() -> Generator[Any, Any, None]:
    numbers = Queue[int](3)
    wants_str((yield from numbers.get()))  # error
    wants_str(numbers.get_nowait())  # error
    yield from numbers.put("a")  # error
    numbers.put_nowait("a")  # error
    yield from numbers.for_each(wants_str)  # error
    wider: Queue[object] = numbers  # error
    wider.close()
    wants_str((yield from PriorityQueue[int]().get()))  # error
    PriorityQueue[int](key=wants_str)  # error
    yield from LifoQueue[str]().put(5)  # error
    Event().set("value")  # error
    Queue[int]("3")  # error


async def broadcasts(words: Queue[int]) -> None:
    async for word in words:
        wants_str(word)  # error
    news = Broadcast[int]()
    news.publish("a")  # error
    with news.subscribe() as subscription:
        wants_str(await subscription.get())  # error


def threads(executor: ThreadPoolExecutor) -> Generator[Any, Any, None]:
    yield from InThread(wants_str, 5)  # error
    yield from InThread(wants_str)  # error
    yield from InThread(wants_str, "a", "b")  # error
    yield from InThread(time.sleep(1))  # error
    wants_str((yield from InThread(len, "a")))  # error
    yield from Submit(executor, wants_str, 5)  # error
    yield from Submit(wants_str, "a")  # error


def portals() -> Generator[Any, Any, None]:
    with (yield from Portal()) as portal:
        portal.call(wants_str, 5)  # error
        portal.spawn(wants_str, "a")  # error
        wants_str(portal.spawn(number).result())  # error


def no_handler(conn: Socket) -> int:
    return 1


def handler_of_a_path(path: str) -> Generator[Any, Any, None]:
    yield


async def servers(sock: Socket) -> None:
    wants_str(await Read(sock, 10))  # error
    await serve(no_handler, "", 80)  # error
    await serve(handler_of_a_path, "", 80)  # error
    await serve(handler_of_a_path(""), "", 80)  # error


class WrongAnswer(Syscall[int]):
    def handle(self, kernel: object, task: object) -> str:  # error
        return "a"


class WrongTry(FileOperation[bytes]):
    def try_once(self, file: object, /) -> str:  # error
        return "a"


class WrongNow(Selectable[int]):
    def try_now(self, kernel: object, task: object) -> str:  # error
        return "a"
