"""Every primitive, group and demo, cancelled at every point: nothing is lost, leaked or left waiting.

Each program comes with a check that holds wherever it was cancelled: the items that went in came out, the semaphore
has its permits, no lock has an owner. If one task alone is cancelled, its partner may wait for ever: that Deadlock is
expected, and the check must hold all the same. The number of runs grows with the square of a program's size, so the
quick suite has small programs, and the slow tests have the same ones in a larger size.
"""

from __future__ import annotations

import runpy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from minisched import (
    Barrier,
    Broadcast,
    CapacityLimiter,
    ClosedError,
    Condition,
    Deadlock,
    Event,
    Join,
    Lagged,
    LifoQueue,
    LimitExceeded,
    Lock,
    MoveOnAfter,
    Now,
    PriorityQueue,
    Queue,
    RLock,
    Semaphore,
    Shield,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    TaskGroup,
    TimedOut,
    Timeout,
    as_completed,
    gather,
    group,
    race,
    select,
    supervise,
)
from minisched.testing import cancel_everywhere

PROGRAMS = []


def program(*expected, small=None, large=None, slow=False):
    """Register a program, and the exceptions that it may raise when it is cancelled.

    With `small` and `large`, `make` takes a size; the large program is a slow test of its own.
    """

    def register(make):
        name = make.__name__
        if small is None:
            add(name, make, expected, slow)
        else:
            add(name, partial(make, small), expected, slow)
            add(f"{name}, large", partial(make, large), expected, True)
        return make

    return register


def add(name, make, expected, slow):
    PROGRAMS.append(pytest.param(make, expected, id=name, marks=[pytest.mark.slow] if slow else []))


@program()
def a_lock_of_generators():
    lock, inside, most = Lock(), [], []

    def user():
        with (yield lock.acquire()):
            inside.append(1)
            most.append(len(inside))
            try:
                yield Sleep(1)
            finally:
                inside.pop()

    def check():
        assert not lock.locked() and not inside and max(most, default=0) <= 1

    return gather(user(), user(), user()), check


@program()
def a_lock_of_coroutines():
    lock, most = Lock(), []

    async def user():
        async with lock:
            most.append(lock.owner)
            await Sleep(1)
            assert lock.owner is most[-1]

    def check():
        assert not lock.locked()

    return gather(user(), user(), user()), check


@program(Deadlock)
def a_condition():
    condition, items, got = Condition(), [], []

    def getter():
        with (yield condition.acquire()):
            yield from condition.wait_for(lambda: items)
            got.append(items.pop())

    def putter():
        for number in range(2):
            yield Sleep(1)
            with (yield condition.acquire()):
                items.append(number)
                condition.notify()

    put = []

    def main():
        yield from gather(getter(), getter(), putter())
        put.append(2)

    def check():
        assert not condition.lock.locked() and not condition.waiters
        assert not put or sorted(got) == [0, 1]

    return main(), check


@program(Deadlock)
def a_condition_over_a_reentrant_lock():
    condition, items, depths = Condition(RLock()), [], []

    def getter():
        with (yield condition.acquire()), (yield condition.acquire()):
            try:
                yield from condition.wait_for(lambda: items)
                items.pop()
            finally:
                depths.append(condition.lock.depth)

    def putter():
        for number in range(2):
            yield Sleep(1)
            with (yield condition.acquire()):
                items.append(number)
                condition.notify()

    def check():
        assert not condition.lock.locked() and not condition.waiters and condition.lock.depth == 1
        assert all(depth == 2 for depth in depths)

    return gather(getter(), getter(), putter()), check


@program(Deadlock)
def an_event():
    event, went = Event(), []

    def waiter():
        yield event.wait()
        went.append(event.is_set())

    def setter():
        yield Sleep(1)
        event.set()

    def check():
        assert all(went) and not event.waiters

    return gather(waiter(), waiter(), setter()), check


@program(small=3, large=5)
def a_semaphore(users):
    semaphore, inside = Semaphore(2, maximum=2), []

    def user():
        with (yield semaphore.acquire()):
            inside.append(1)
            try:
                assert len(inside) <= 2
                yield Sleep(1)
            finally:
                inside.pop()

    def check():
        assert semaphore.value == 2 and not inside

    return gather(*(user() for _ in range(users))), check


@program(small=3, large=5)
def a_limiter(users):
    limiter, inside = CapacityLimiter(1), []

    def user():
        with (yield limiter.acquire()):
            inside.append(1)
            try:
                assert len(inside) <= 2
                yield Sleep(1)
            finally:
                inside.pop()

    def changer():
        for total in 2, 1, 2:
            yield Sleep(1)
            limiter.total_tokens = total

    def check():
        assert limiter.borrowed_tokens == 0 and not limiter.waiters and not inside

    return gather(changer(), *(user() for _ in range(users))), check


@program(Deadlock)
def a_barrier():
    barrier, numbers = Barrier(2), []

    def comer():
        yield Sleep(1)
        numbers.append((yield barrier.wait()))

    def check():
        assert not barrier.waiters and sorted(numbers) in ([], [0], [1], [0, 1])

    return gather(comer(), comer()), check


def queue_program(queue, items):
    put, got = [], []

    def putter(name):
        for number in range(items):
            yield queue.put((name, number))
            put.append((name, number))
            yield Sleep(number)

    def getter():
        while True:
            try:
                got.append((yield queue.get()))
            except ClosedError:
                return
            yield Sleep(1)

    def main():
        consumer = yield Spawn(getter())
        try:
            yield from gather(putter("a"), putter("b"))
        finally:
            queue.close()
        yield Join(consumer)

    def check():
        # A cancelled getter keeps an item that it was handed; a cancelled put that was undone never happened.
        assert sorted([*got, *queue.items]) == sorted(put)
        assert queue.unfinished == len(put)

    return main(), check


@program(Deadlock, ClosedError, small=1, large=3)
def a_queue_of_one(items):
    return queue_program(Queue(1), items)


@program(Deadlock, ClosedError, small=2, large=3)
def a_rendezvous(items):
    return queue_program(Queue(0), items)


@program(Deadlock, ClosedError, small=1, large=2)
def a_priority_queue_of_one(items):
    return queue_program(PriorityQueue(1), items)


@program(Deadlock, ClosedError, small=1, large=2)
def a_stack_of_one(items):
    return queue_program(LifoQueue(1), items)


@program(Deadlock)
def a_queue_that_is_joined():
    queue, done = Queue(1), []

    def worker():
        while True:
            item = yield queue.get()
            try:
                yield Sleep(1)
                done.append(item)
            finally:
                queue.task_done()

    def main():
        yield Spawn(worker(), daemon=True)
        for number in range(2):
            yield queue.put(number)
        yield queue.join()
        assert queue.unfinished == 0

    def check():
        assert queue.unfinished == len(queue.items) and not queue.joiners

    return main(), check


@program(ClosedError, small=1, large=3)
def a_queue_without_bound(items):
    return queue_program(Queue(), items)


@program(Deadlock, ClosedError)
def a_queue_of_coroutines():
    queue, put, got = Queue(1), [], []

    async def putter():
        try:
            for number in range(3):
                await queue.put(number)
                put.append(number)
        finally:
            queue.close()

    async def getter():
        async for item in queue:
            got.append(item)
            await Sleep(1)

    def check():
        assert [*got, *queue.items] == put

    return gather(putter(), getter()), check


@program(Lagged, small=3, large=5)
def a_broadcast(count):
    broadcast, seen = Broadcast(2), {}

    def reader(name, pause):
        with broadcast.subscribe() as subscription:
            items = seen.setdefault(name, [])
            try:
                while True:
                    try:
                        items.append((yield subscription.get()))
                    except Lagged as lagged:
                        items.extend(
                            range(items[-1] + 1, items[-1] + 1 + lagged.count) if items else range(lagged.count)
                        )
                    yield Sleep(pause)
            except ClosedError:
                return

    def writer():
        try:
            for number in range(count):
                yield Sleep(1)
                broadcast.publish(number)
        finally:
            broadcast.close()

    def check():
        assert not broadcast.subscriptions
        assert all(items == list(range(len(items))) for items in seen.values())

    return gather(reader("fast", 0), reader("slow", 4), writer()), check


@program(Deadlock, ClosedError, small=1, large=2)
def a_select(items):
    one, two, put, got = Queue(0), Queue(1), [], []

    def putter(queue, name):
        for number in range(items):
            yield queue.put((name, number))
            put.append((name, number))
            yield Sleep(1)

    def chooser():
        for _ in range(3 * items):
            number, value = yield select(one.get(), two.get(), Sleep(2))
            if number < 2:
                got.append(value)

    def check():
        assert sorted([*got, *one.items, *two.items]) == sorted(put)
        assert not one.waiters and not two.waiters

    return gather(putter(one, "one"), putter(two, "two"), chooser()), check


@program()
def a_select_of_a_put():
    one, two, put = Queue(0), Queue(0), []

    def chooser():
        number, _ = yield select(one.put("item"), two.put("item"), Sleep(3))
        put.extend(["item"] * (number < 2))

    got = []

    def getter(queue):
        with (yield MoveOnAfter(2)):
            got.append((yield queue.get()))

    return gather(chooser(), getter(one), getter(two)), lambda: check_equal(got, put)


def check_equal(one, two):
    assert one == two


class Counted:
    """Bodies of tasks that count how many have begun and how many have cleaned up; the cleanup waits."""

    def __init__(self):
        self.begun = self.ended = 0

    def body(self, seconds, error=None):
        self.begun += 1
        try:
            yield Sleep(seconds)
            if error is not None:
                raise error
            return seconds
        finally:
            with (yield Shield(5)):
                yield Sleep(1)
            self.ended += 1

    async def coroutine(self, seconds):
        self.begun += 1
        try:
            await Sleep(seconds)
        finally:
            with await Shield(5):
                await Sleep(1)
            self.ended += 1

    def check(self):
        assert self.begun == self.ended


@program()
def a_gather():
    counted = Counted()

    def main():
        try:
            results = yield from gather(counted.body(2), counted.body(1))
        finally:
            counted.check()
        assert results == [2, 1]

    return main(), counted.check


@program(ValueError)
def a_gather_that_fails():
    counted = Counted()

    def main():
        try:
            yield from gather(counted.body(2), counted.body(1, ValueError("of one")), counted.body(3))
        finally:
            counted.check()

    return main(), counted.check


@program()
def a_gather_in_a_shielded_finally():
    counted = Counted()

    def main():
        try:
            yield Sleep(1)
        finally:
            with (yield Shield(None)):
                yield from gather(counted.coroutine(1), counted.coroutine(2), return_exceptions=True)
            assert counted.begun == counted.ended == 2

    return main(), counted.check


@program()
def a_race():
    counted = Counted()

    def main():
        try:
            result = yield from race(counted.body(2), counted.body(1))
        finally:
            counted.check()
        assert result in (1, 2)

    return main(), counted.check


@program()
def a_group():
    counted = Counted()

    def body(group):
        yield group.spawn(counted.body(2))
        yield Sleep(1)
        yield group.spawn(counted.body(2))

    def main():
        try:
            yield from group(body)
        finally:
            counted.check()

    return main(), counted.check


@program(ValueError)
def a_task_group_of_coroutines():
    counted = Counted()

    async def main():
        try:
            async with TaskGroup() as group:
                await group.spawn(counted.coroutine(3))
                await group.spawn(counted.body(1, ValueError("of one")))
                await Sleep(2)
        finally:
            counted.check()

    return main(), counted.check


@program()
def an_as_completed():
    counted, results = Counted(), []

    def main():
        try:
            yield from as_completed(counted.body(2), counted.body(1)).for_each(results.append)
        finally:
            counted.check()

    def check():
        counted.check()
        assert results in ([], [1], [1, 2])

    return main(), check


@program(LimitExceeded, ValueError)
def a_supervisor():
    counted, left = Counted(), [ValueError("once")]

    def main():
        try:
            yield from supervise(lambda: counted.body(1, left.pop() if left else None), lambda: counted.body(2))
        finally:
            counted.check()

    return main(), counted.check


@program(TimedOut)
def nested_timeouts():
    counted = Counted()

    def main():
        with (yield MoveOnAfter(3)) as outer:
            try:
                with (yield Timeout(1)):
                    yield from counted.body(5)
            except TimedOut:
                pass
            with (yield Shield(1)):
                yield from counted.body(1)
            yield from counted.body(5)
        assert outer.cancelled_caught and (yield Now()) >= 3

    return main(), counted.check


@program()
def a_joined_child():
    counted = Counted()

    def main():
        task = yield Spawn(counted.body(1), keep=True)
        yield Spawn(counted.body(5), daemon=True)
        try:
            yield Join(task)
        except TaskCancelled:
            pass

    return main(), counted.check


@program(SyscallError)
def a_lock_that_its_owner_does_not_release():
    lock, errors = Lock(), []

    def careless():
        yield lock.acquire()
        yield Sleep(1)

    def waiter():
        try:
            with (yield lock.acquire()):
                pass
        except SyscallError as error:
            errors.append(error)

    def check():
        assert not lock.waiters

    return gather(careless(), waiter(), return_exceptions=True), check


def demo(name):
    """Return the names that a demo defines."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "demos" / f"{name}.py")))


@program(slow=True)
def the_demo_hello():
    return demo("hello").main(), lambda: None


def philosophers(fixed):
    dining = demo("dining_philosophers")
    forks = dining.lay_the_table()
    return dining.dinner(forks, fixed, 1), lambda: check_equal([fork.locked() for fork in forks], [False] * 5)


@program(Deadlock, slow=True)
def the_demo_dining_philosophers():
    return philosophers(False)


@program(Deadlock, slow=True)  # at the barrier, if one of them never comes
def the_demo_dining_philosophers_fixed():
    return philosophers(True)


@program(Deadlock, TaskCancelled, ClosedError, slow=True)
def the_demo_producer_consumer():
    bakery = demo("producer_consumer").Bakery(1, 2)
    main = group(bakery.open)
    return main, lambda: check_equal(sorted(bakery.put), sorted([*bakery.taken, *bakery.shelf.items]))


@program(Deadlock, slow=True)
def the_demo_pipeline():
    pipeline = demo("pipeline").Pipeline(1)
    lines = ["apple 1", "pear 2", "apple 3"]

    def start(team):
        for stage in (pipeline.read(lines), pipeline.parse(), pipeline.add()):
            yield team.spawn(stage)

    def check():
        read, parsed, added = pipeline.done.values()
        # A line between two stages is in the queue, or is the one that the cancelled stage was working on.
        assert read - parsed - len(pipeline.raw.items) in (0, 1)
        assert parsed - added - len(pipeline.parsed.items) in (0, 1)
        assert sum(pipeline.totals.values()) == sum((1, 2, 3)[:added])

    return group(start), check


@program(TimedOut, ConnectionError, slow=True)
def the_demo_timeouts():
    return demo("timeouts").main(), lambda: None


@pytest.mark.parametrize(("make", "expected"), PROGRAMS)
def test_nothing_is_lost_wherever_a_program_is_cancelled(make, expected):
    assert cancel_everywhere(make, expected=expected) > 10
