"""All primitives: async forms, threads, runs, names and the examples in their docstrings."""

from __future__ import annotations

import doctest

import pytest
from forms import in_thread
from sync_helpers import logged

from minisched import (
    Barrier,
    Broadcast,
    CapacityLimiter,
    Condition,
    Event,
    LifoQueue,
    Lock,
    MoveOnAfter,
    PriorityQueue,
    Queue,
    RLock,
    Semaphore,
    Sleep,
    Spawn,
    SyscallError,
)
from minisched.sync import broadcast, conditions, events, limiter, locks, ordered, queues, semaphore
from minisched.sync.broadcast import Subscription
from minisched.sync.limiter import Token
from minisched.sync.semaphore import Permit
from minisched.testing import run

# Threads, runs and names.


def test_plain_calls_from_another_thread_raise_an_error_and_change_nothing():
    event, permits = Event(), Semaphore(0)
    calls = {"set": event.set, "clear": event.clear, "release": permits.release}

    def main():
        yield Spawn(logged(event.wait(), [], "a"))
        yield Spawn(logged(permits.acquire(), [], "b"))
        yield
        for verb, call in calls.items():
            error = in_thread(call)
            assert isinstance(error, SyscallError)
            assert str(error).startswith(f"{verb} of <") and "in another thread than its run's" in str(error)
        assert (event.is_set(), permits.value, repr(event)) == (False, 0, "<Event #1: 1 waiting>")
        event.set()
        permits.release()

    run(main())


@pytest.mark.parametrize(
    ("thing", "wait"), [(Event(), "wait"), (Semaphore(0), "acquire"), (Barrier(2), "wait"), (Queue(), "get")]
)
def test_a_primitive_with_waiters_in_another_run_raises_an_error_until_that_run_ends(thing, wait):
    call = getattr(thing, wait)()

    def other():
        yield call

    def main():
        with (yield MoveOnAfter(1)):
            yield Spawn(logged(call, [], "a"))
            yield
            error = in_thread(lambda: run(other()))
            assert isinstance(error, SyscallError) and "is in use in another run: make one for each run" in str(error)
            yield Sleep(2)
        with (yield MoveOnAfter(1)) as scope:
            yield call
        return scope.cancelled_caught

    for _ in range(2):
        assert run(main()) is True
    assert repr(thing).startswith(f"<{type(thing).__name__} #1: ")


def test_a_primitive_without_a_name_is_numbered_by_its_first_run_per_type():
    def main():
        named = []
        for thing in Semaphore(1), Semaphore(1), Semaphore(1, name="seats"), Event(), Semaphore(1):
            yield thing.wait() if isinstance(thing, Event) and not thing.set() else thing.acquire()
            named.append(thing)
        return [thing.name for thing in named]

    assert run(main()) == ["#1", "#2", "seats", "#1", "#4"]


# In an `async def`.


def free_lock():
    return Lock().acquire()


def free_condition():
    return Condition().acquire()


def free_semaphore():
    return Semaphore(1).acquire()


def free_rlock():
    return RLock().acquire()


def limiter_with_a_token():
    return CapacityLimiter(1).acquire()


def queue_without_work():
    return LifoQueue().join()


def ordered_queue_with_room():
    return PriorityQueue().put("item")


def set_event():
    event = Event()
    event.set()
    return event.wait()


def barrier_for_one():
    return Barrier(1).wait()


def queue_with_room():
    return Queue().put("item")


def queue_with_an_item():
    queue = Queue()
    queue.put_nowait("item")
    return queue.get()


def subscription_with_an_item():
    source = Broadcast()
    subscription = source.subscribe()
    source.publish("item")
    return subscription.get()


def closed_queue():
    queue = Queue()
    queue.close()
    return queue.for_each(print)


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (free_lock, Lock),
        (free_condition, Lock),
        (free_semaphore, Permit),
        (free_rlock, RLock),
        (limiter_with_a_token, Token),
        (queue_without_work, type(None)),
        (ordered_queue_with_room, type(None)),
        (set_event, type(None)),
        (barrier_for_one, int),
        (queue_with_room, type(None)),
        (queue_with_an_item, str),
        (subscription_with_an_item, str),
        (closed_queue, type(None)),
    ],
)
def test_each_call_can_be_awaited(make, answer):
    async def main():
        return type(await make())

    assert run(main()) is answer


def test_wait_and_wait_for_of_a_condition_can_be_awaited():
    condition, log = Condition(), []

    async def waiter():
        async with condition:
            log.append(await condition.wait())
            log.append(await condition.wait_for(lambda: "true already"))

    async def main():
        await Spawn(waiter())
        await Sleep(1)
        async with condition:
            condition.notify()

    run(main())
    assert log == [None, "true already"]


# Documentation.


@pytest.mark.parametrize("module", [broadcast, conditions, events, limiter, locks, ordered, queues, semaphore])
def test_the_examples_in_the_docstrings_print_what_they_show(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


PUBLIC = [
    *(Barrier, Broadcast, CapacityLimiter, Condition, Event, LifoQueue, Lock, PriorityQueue, Queue, RLock, Semaphore),
    Subscription,
]


@pytest.mark.parametrize("kind", PUBLIC)
def test_each_public_class_and_method_has_an_example(kind):
    methods = [
        method
        for base in kind.__mro__
        if base.__module__.startswith("minisched.sync")
        for name, method in vars(base).items()
        if not name.startswith("_") and callable(method) and name not in FOR_SUBCLASSES
    ]
    assert [thing.__qualname__ for thing in (kind, *methods) if ">>> " not in (thing.__doc__ or "")] == []


# Called by syscalls and by `Primitive`, not by users.
FOR_SUBCLASSES = {
    "add_waiter", "hand_over", "in_use", "make_buffer", "offer", "state", "take", "try_acquire", "watch_owner",
    "unbind", "wake_waiters", "waiting",
}  # fmt: skip
