"""UniversalQueue: items that tasks, threads and asyncio code put and get, in one run or in several."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from helpers import Recording, nothing_is_left, parked, run, until  # noqa: F401

import minisched
from minisched import (
    Cancel,
    ClosedError,
    CurrentTask,
    Event,
    InThread,
    Join,
    MoveOnAfter,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    TimedOut,
    UniversalQueue,
    WouldBlock,
    do_now,
    gather,
    select,
)
from minisched.bridges.tickets import Tickets
from minisched.testing import cancel_everywhere, check_syscall

outside_webassembly = pytest.mark.skipif(
    sys.platform == "emscripten", reason="there are no threads, and one event loop of asyncio"
)

SECONDS = 20  # the patience of a test with threads


@contextmanager
def thread(function, *args):
    """Run a function in a thread, which is joined at the end; yield a future of its result."""
    with ThreadPoolExecutor(1) as executor:
        yield executor.submit(function, *args)


def waits(queue, getting=0, putting=0):
    """Return whether `getting` getters and `putting` putters wait."""
    return len(queue.getters) == getting and len(queue.putters) == putting


def wait_until(condition):
    """Wait in a thread, without an event for it."""
    for _ in range(SECONDS * 1000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("the condition did not become true")


def getting(queue, log):
    log.append((yield queue.get()))


def putting(queue, item):
    yield queue.put(item)


def selecting(*calls):
    return (yield select(*calls))


def drained(queue):
    """Return the items of a queue."""
    items = []
    while queue.qsize():
        items.append(queue.get_nowait())
    return items


def clean(queue):
    """Assert that nothing waits and no place is reserved."""
    assert waits(queue) and not queue.reserved and not queue.returned and not queue.lock.locked(), queue


# Tasks.


def test_items_pass_in_order_and_a_full_queue_lets_putters_wait():
    def producer(queue):
        for number in range(10):
            yield queue.put(number)
            assert queue.qsize() <= 2
        queue.close()

    async def consumer(queue):
        return [item async for item in queue]

    def main():
        queue = UniversalQueue(2)
        _, items = yield from gather(producer(queue), consumer(queue))
        clean(queue)
        return items

    assert run(main()) == list(range(10))


def test_get_passes_the_conformance_test():
    def make():
        queue = UniversalQueue()
        return queue.get(), lambda: queue.put_nowait("item")

    check_syscall(make)


def test_get_passes_the_conformance_test_with_another_thread():
    def make():
        queue = UniversalQueue()

        def complete():
            with thread(queue.blocking_put, "item") as done:
                done.result()

        return queue.get(), complete

    check_syscall(make)


def test_put_passes_the_conformance_test():
    def make():
        queue = UniversalQueue(1)
        queue.put_nowait("first")
        return queue.put("second"), lambda: drained(queue)

    check_syscall(make)


def test_calls_that_need_not_wait_are_answered_at_once():
    def main():
        queue = UniversalQueue(1)
        yield
        do_now(queue.put("item"))
        with pytest.raises(WouldBlock):
            do_now(queue.put("another"))
        return do_now(queue.get())

    assert run(main()) == "item"


def test_an_item_handed_to_a_cancelled_task_goes_to_the_next_getter():
    def main():
        queue, log = UniversalQueue(), []
        first = yield Spawn(getting(queue, log), keep=True)
        second = yield Spawn(getting(queue, log))
        yield from parked(first, second)
        queue.put_nowait("item")
        yield Cancel(first)  # before its run has woken it
        yield Join(second)
        with pytest.raises(TaskCancelled):
            yield Join(first)
        clean(queue)
        return log

    assert run(main()) == ["item"]


def test_an_item_handed_to_a_cancelled_task_returns_to_the_front_of_the_queue():
    def main():
        queue, log = UniversalQueue(1), []
        task = yield Spawn(getting(queue, log), keep=True)
        yield from parked(task)
        queue.put_nowait("first")
        queue.put_nowait("second")
        yield Cancel(task)
        assert repr(queue) == "<UniversalQueue: 2 of 1 items, 0 getting, 0 putting>"
        assert (yield queue.get()) == "first"
        with pytest.raises(WouldBlock):
            queue.put_nowait("third")
        return drained(queue)

    assert run(main()) == ["second"]


def test_a_cancelled_put_has_put_nothing_even_if_there_was_room_already():
    def main():
        queue = UniversalQueue(1)
        queue.put_nowait("first")
        cancelled = yield Spawn(putting(queue, "cancelled"), keep=True)
        other = yield Spawn(putting(queue, "other"))
        yield from parked(cancelled, other)
        assert queue.get_nowait() == "first"
        with pytest.raises(WouldBlock):
            queue.put_nowait("faster")  # the place is reserved
        yield Cancel(cancelled)
        yield Join(other)
        clean(queue)
        return drained(queue)

    assert run(main()) == ["other"]


def test_a_branch_of_select_that_loses_takes_and_puts_nothing():
    def main():
        full, empty, event = UniversalQueue(1), UniversalQueue(), Event()
        full.put_nowait("first")
        task = yield Spawn(selecting(full.put("second"), empty.get(), event.wait()))
        yield from parked(task)
        event.set()
        full.get_nowait()
        empty.put_nowait("item")
        assert (yield Join(task)) == (2, None)
        clean(full)
        clean(empty)
        empty.put_nowait("more")
        assert (yield select(Event().wait(), empty.get())) == (1, "item")
        return drained(full), drained(empty)

    assert run(main()) == ([], ["more"])


class Trade:
    """Producers and consumers in a run, of which each may be cancelled anywhere; nothing is lost or doubled."""

    def __init__(self):
        self.queue = UniversalQueue(1)
        self.put, self.got = [], []

    def producer(self, items):
        for item in items:
            yield self.queue.put(item)
            self.put.append(item)
            yield Sleep(1)

    def consumer(self):
        while True:
            with (yield MoveOnAfter(3)):
                self.got.append((yield self.queue.get()))
                continue
            return

    def main(self):
        bodies = [self.producer("ab"), self.producer("cd"), self.consumer(), self.consumer()]
        tasks = []
        for body in bodies:
            tasks.append((yield Spawn(body, keep=True)))
        for task in tasks:
            try:
                yield Join(task)
            except TaskCancelled:
                pass

    def check(self):
        clean(self.queue)
        assert Counter(self.put) == Counter(self.got + drained(self.queue))


def test_nothing_is_lost_or_doubled_wherever_a_program_is_cancelled():
    def make():
        trade = Trade()
        return trade.main(), trade.check

    assert cancel_everywhere(make) > 50


# Threads.


def test_a_thread_and_a_task_pass_items_in_both_directions():
    def answer(questions, answers):
        for _ in range(5):
            answers.blocking_put(questions.blocking_get(SECONDS) * 2, SECONDS)

    def main():
        questions, answers = UniversalQueue(1), UniversalQueue(1)
        log = []
        with thread(answer, questions, answers):
            for number in range(5):
                yield questions.put(number)
                log.append((yield answers.get()))
        clean(questions)
        clean(answers)
        return log

    assert minisched.run(main()) == [0, 2, 4, 6, 8]


@outside_webassembly
def test_a_timeout_of_a_thread_leaves_nothing_behind():
    queue = UniversalQueue(1)
    with pytest.raises(TimedOut, match=r"blocking_get timed out: 0.001 s have passed"):
        queue.blocking_get(0.001)
    with pytest.raises(TimedOut, match="blocking_get timed out: 0 s"):
        queue.blocking_get(timeout=0)
    queue.blocking_put("item", 0)
    with pytest.raises(TimedOut, match="blocking_put"):
        queue.blocking_put("another", timeout=0.001)
    clean(queue)
    assert queue.blocking_get(float("inf")) == "item"


@outside_webassembly
@pytest.mark.parametrize("error", [KeyboardInterrupt, TimedOut])
def test_an_exception_between_the_wake_up_of_a_thread_and_its_end_gives_the_ticket_back(error, monkeypatch):
    class Gate:
        """A lock that is released, and then raises: Ctrl-C, or a timeout that has just expired."""

        release = staticmethod(lambda: None)

        def acquire(self, timeout=-1):
            if timeout == 9:
                change(queue)
                assert queue.reserved or not queue.qsize()
                if error is KeyboardInterrupt:
                    raise error
                return False
            return True

    monkeypatch.setattr("minisched.bridges.universal_queue.allocate_lock", Gate)
    queue, change = UniversalQueue(1), lambda queue: queue.put_nowait("item")
    with pytest.raises(error):
        queue.blocking_get(9)
    clean(queue)
    change = UniversalQueue.get_nowait
    with pytest.raises(error):
        queue.blocking_put("cancelled", 9)
    clean(queue)
    assert queue.qsize() == 0


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_a_timeout_is_a_number_of_seconds(timeout, error):
    queue = UniversalQueue()
    with pytest.raises(error, match="blocking_get: timeout is a number of seconds"):
        queue.blocking_get(timeout)


@outside_webassembly
def test_a_blocking_call_in_a_thread_of_tasks_is_refused():
    async def coroutine(queue):
        queue.blocking_put("item")

    def main(queue):
        yield
        queue.blocking_get()

    queue = UniversalQueue()
    with pytest.raises(SyscallError, match="blocking_get would hold up every task of this thread"):
        run(main(queue))
    with pytest.raises(SyscallError, match=r"blocking_put would hold up .* yield or await `put`"):
        asyncio.run(coroutine(queue))


def test_a_task_may_let_a_thread_of_its_run_wait():
    def main():
        queue = UniversalQueue()
        task = yield Spawn(in_thread(queue))
        yield from until(lambda: waits(queue, getting=1))
        yield queue.put("item")
        return (yield Join(task))

    def in_thread(queue):
        return (yield InThread(queue.blocking_get))

    assert minisched.run(main()) == "item"


def test_a_task_may_wait_for_a_thread_without_a_deadlock_or_polling():
    selector = Recording()

    def later(queue):
        wait_until(lambda: waits(queue, getting=1))
        before = selector.calls.count(("select", None))
        threading.Event().wait(0.05)
        polls = selector.calls.count(("select", None)) - before
        queue.put_nowait(polls)

    def main():
        queue = UniversalQueue()
        with thread(later, queue):
            return (yield queue.get())

    assert minisched.run(main(), selector=selector, debug=False) <= 2


def test_a_thread_that_waits_keeps_no_run_alive():
    queue = UniversalQueue()
    with thread(queue.blocking_get) as item:
        wait_until(lambda: waits(queue, getting=1))

        def main():
            yield Sleep(1)
            return "done"

        assert run(main()) == "done"
        assert not item.done()
        queue.put_nowait("item")
        assert item.result(SECONDS) == "item"


@pytest.mark.parametrize("aborted", [False, True])
def test_a_run_that_ends_leaves_no_waiter(aborted):
    queue, full = UniversalQueue(), UniversalQueue(1)
    full.put_nowait("item")

    def fail():
        raise SystemExit

    def main():
        kernel = (yield CurrentTask()).kernel
        for body in (getting(queue, []), putting(full, "another")):
            yield from parked((yield Spawn(body, daemon=True)))
        assert kernel.service(Tickets).pending() == 2
        queue.put_nowait("handed over")
        if aborted:
            fail()

    try:
        run(main())
    except SystemExit:
        assert aborted
    clean(queue)
    clean(full)
    assert (drained(queue), drained(full)) == (["handed over"], ["item"])


# asyncio.


@outside_webassembly
def test_asyncio_code_awaits_the_same_calls():
    async def main():
        queue = UniversalQueue(1)
        await queue.put("a")
        second = asyncio.ensure_future(queue.put("b"))
        await asyncio.sleep(0)
        assert waits(queue, putting=1)
        assert await queue.get() == "a"
        await second
        queue.close()
        return [item async for item in queue]

    assert asyncio.run(main()) == ["b"]


@outside_webassembly
@pytest.mark.parametrize("served", [False, True])
def test_a_cancelled_wait_of_asyncio_loses_and_adds_nothing(served):
    async def main():
        empty, full = UniversalQueue(), UniversalQueue(1)
        full.put_nowait("first")
        waiting = [asyncio.ensure_future(call) for call in (empty.get(), full.put("cancelled"))]
        await asyncio.sleep(0)
        assert waits(empty, getting=1) and waits(full, putting=1)
        if served:
            empty.put_nowait("item")
            full.get_nowait()
        for future in waiting:
            future.cancel()
        await asyncio.wait(waiting)
        assert all(future.cancelled() for future in waiting)
        clean(empty)
        clean(full)
        return drained(empty), drained(full)

    assert asyncio.run(main()) == ((["item"], []) if served else ([], ["first"]))


@outside_webassembly
def test_a_timeout_of_asyncio_ends_the_wait():
    async def main():
        queue = UniversalQueue()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(queue.get(), 0.001)
        clean(queue)

    asyncio.run(main())


@outside_webassembly
def test_getters_of_an_event_loop_that_was_closed_are_passed_over():
    async def getter():
        return await queue.get()

    queue = UniversalQueue(1)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(getter()) for _ in range(2000)]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert waits(queue, getting=2000)
    for task in tasks:
        task._log_destroy_pending = False
    queue.put_nowait("item")
    clean(queue)
    assert queue.get_nowait() == "item"
    del task
    tasks.clear()
    gc.collect()


@outside_webassembly
def test_a_coroutine_that_is_closed_while_the_lock_is_held_gives_its_ticket_back():
    """The garbage collector may do that in the middle of an operation of the same thread."""

    async def main():
        queue = UniversalQueue()
        coroutine = awaited(queue.get())
        coroutine.send(None)
        assert waits(queue, getting=1)
        with queue.lock:
            coroutine.close()
        queue.put_nowait("item")
        clean(queue)
        return drained(queue)

    assert asyncio.run(main()) == ["item"]


def test_a_ticket_is_given_back_even_while_the_lock_is_held():
    def main():
        queue, log = UniversalQueue(), []
        task = yield Spawn(getting(queue, log), keep=True)
        yield from parked(task)
        with queue.lock:  # by another thread, or by an operation of this one that a garbage collection has interrupted
            yield Cancel(task)
            assert len(queue.returned) == 1
        queue.put_nowait("item")
        clean(queue)
        return drained(queue)

    assert run(main()) == ["item"]


@outside_webassembly
def test_a_call_is_awaited_where_there_are_tasks_only():
    queue = UniversalQueue()
    queue.put_nowait("item")
    waiting = queue.get().__await__()
    with pytest.raises(RuntimeError, match="no running event loop"):
        next(waiting)
    assert queue.get_nowait() == "item"


# All of them.


@contextmanager
def waiting_in_turn(queue, kinds, start):
    """Let a waiter of each kind begin to wait, one after the other; yield the futures of their results."""
    with ThreadPoolExecutor(len(kinds)) as executor:
        futures = []
        for kind in kinds:
            before = len(queue.getters) + len(queue.putters)
            futures.append(executor.submit(start, kind, queue, len(futures)))
            wait_until(lambda: len(queue.getters) + len(queue.putters) == before + 1)  # noqa: B023
        yield futures


KINDS = ["task", "thread", "asyncio", "asyncio", "thread", "task", "asyncio", "task", "thread"]


async def awaited(call):
    return await call


def get_in(kind, queue, number):
    return perform(kind, queue.get(), queue.blocking_get)


def put_in(kind, queue, number):
    return perform(kind, queue.put(number), lambda: queue.blocking_put(number))


def perform(kind, call, blocking):
    if kind == "thread":
        return blocking()
    return (minisched.run if kind == "task" else asyncio.run)(awaited(call))


def test_getters_of_all_kinds_are_served_in_order_of_arrival():
    queue = UniversalQueue()
    with waiting_in_turn(queue, KINDS, get_in) as results:
        for number in range(len(KINDS)):
            queue.put_nowait(number)
        assert [result.result(SECONDS) for result in results] == list(range(len(KINDS)))
    clean(queue)


def test_putters_of_all_kinds_are_served_in_order_of_arrival():
    queue = UniversalQueue(1)
    queue.put_nowait("first")
    with waiting_in_turn(queue, KINDS, put_in) as results:
        got = [queue.blocking_get(SECONDS) for _ in range(len(KINDS) + 1)]
        assert got == ["first", *range(len(KINDS))]
        assert [result.result(SECONDS) for result in results] == [None] * len(KINDS)
    clean(queue)


@pytest.mark.parametrize("start", [get_in, put_in])
def test_a_close_wakes_waiters_of_all_kinds_and_leaves_the_items(start):
    queue = UniversalQueue(1, name="mail")
    if start is put_in:
        queue.put_nowait("item")
    with waiting_in_turn(queue, KINDS, start) as results:
        queue.close()
        queue.close()
        for result in results:
            assert isinstance(result.exception(SECONDS), ClosedError)
    clean(queue)
    with pytest.raises(ClosedError, match="queue mail is closed"):
        queue.put_nowait("late")
    if start is put_in:
        assert queue.blocking_get() == "item"
    for kind in ("task", "thread", "asyncio"):
        with pytest.raises(ClosedError):
            get_in(kind, queue, 0)
        with pytest.raises(ClosedError):
            put_in(kind, queue, 0)


def test_a_putter_whose_place_was_reserved_when_the_queue_was_closed_has_put_nothing():
    def main():
        queue = UniversalQueue(1)
        queue.put_nowait("first")
        task = yield Spawn(putting(queue, "late"), keep=True)
        yield from parked(task)
        queue.get_nowait()
        queue.close()
        with pytest.raises(ClosedError):
            yield Join(task)
        clean(queue)
        with pytest.raises(ClosedError):
            yield queue.get()

    run(main())


@pytest.mark.parametrize("maxsize", [0, -1, 1.5, "1", True, float("nan")])
def test_maxsize_is_an_integer_from_1(maxsize):
    with pytest.raises((TypeError, ValueError), match="UniversalQueue: maxsize is a number of items, 1 or more"):
        UniversalQueue(maxsize)
    assert UniversalQueue(None).maxsize == UniversalQueue(float("inf")).maxsize == float("inf")


# Conservation.


class Market:
    """Producers and consumers of all kinds, which time out at random; each item that was put is got once."""

    def __init__(self, seed, items):
        self.random = random.Random(seed)
        self.items = items
        self.queue = UniversalQueue(3)
        self.put, self.got = [], []

    def patience(self):
        """Return the seconds of a wait, most of which are too short."""
        return self.random.choice([60, 0, 0.0001, 0.001])

    # A producer tries to put each number once; a consumer gets items until the queue is closed.

    def thread_puts(self, name):
        for number in range(self.items):
            try:
                self.queue.blocking_put((name, number), self.patience())
            except TimedOut:
                continue
            self.put.append((name, number))

    def thread_gets(self, name):
        while True:
            try:
                self.got.append(self.queue.blocking_get(self.patience()))
            except TimedOut:
                continue
            except ClosedError:
                return

    def task_puts(self, name):
        for number in range(self.items):
            with (yield MoveOnAfter(self.patience())):
                yield self.queue.put((name, number))
                self.put.append((name, number))

    def task_gets(self, name):
        while not self.queue.closed or self.queue.qsize():
            with (yield MoveOnAfter(self.patience())):
                try:
                    self.got.append((yield self.queue.get()))
                except ClosedError:
                    return

    async def asyncio_puts(self, name):
        for number in range(self.items):
            await within(self.patience(), self.asyncio_put((name, number)))

    async def asyncio_put(self, item):
        await self.queue.put(item)
        self.put.append(item)

    async def asyncio_gets(self, name):
        while not self.queue.closed or self.queue.qsize():
            await within(self.patience(), self.asyncio_get())

    async def asyncio_get(self):
        try:
            self.got.append(await self.queue.get())
        except ClosedError:
            pass

    def trade(self):
        """Let two runs, two event loops and two threads of each side trade."""
        starts = {"thread": lambda body, name: body(name), "task": two_in_a_run, "asyncio": two_in_a_loop}
        with ThreadPoolExecutor(12) as executor:

            def begin(verb):
                sides = [(kind, copy) for kind in starts for copy in range(2)]
                return [
                    executor.submit(starts[kind], getattr(self, f"{kind}_{verb}"), f"{kind} {copy}")
                    for kind, copy in sides
                ]

            consumers, producers = begin("gets"), begin("puts")
            for producer in producers:
                producer.result(SECONDS)
            self.queue.close()
            for consumer in consumers:
                consumer.result(SECONDS)


def two_in_a_run(body, name):
    minisched.run(gather(body(f"{name} a"), body(f"{name} b")), debug=False)


def two_in_a_loop(body, name):
    async def main():
        await asyncio.gather(body(f"{name} a"), body(f"{name} b"))

    asyncio.run(main())


async def within(seconds, coroutine):
    """Cancel a coroutine after some time; unlike `wait_for`, drop no result that came meanwhile."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


@pytest.mark.parametrize("seed", range(3))
def test_each_item_is_got_once_by_threads_runs_and_event_loops_together(seed):
    market = Market(seed, items=100)
    market.trade()
    assert len(market.put) > 100, "nearly all puts have timed out"
    assert Counter(market.got + drained(market.queue)) == Counter(market.put)
    clean(market.queue)
