"""Queues and broadcasts: order, room, closing, and that no item is lost; in generator and in `async def` form."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress

import pytest
from forms import add_async_forms, in_thread

from minisched import (
    Broadcast,
    Cancel,
    Cancelled,
    ClosedError,
    CurrentTask,
    Deadlock,
    Join,
    Missed,
    MoveOnAfter,
    Now,
    Primitive,
    Queue,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    WouldBlock,
    select,
)
from minisched.kernel import Kernel
from minisched.queues import Feed
from minisched.testing import check_syscall, run


def getter(queue, log, count=1):
    """Get items; log each, and how it ends, if that is not well."""
    try:
        for _ in range(count):
            log.append((yield queue.get()))
    except (Cancelled, ClosedError) as end:
        log.append(type(end).__name__)
        raise


def putter(queue, log, *items):
    """Put items; log each that was put, and how it ends, if that is not well."""
    try:
        for item in items:
            yield queue.put(item)
            log.append(f"put {item}")
    except (Cancelled, ClosedError) as end:
        log.append(type(end).__name__)
        raise


def ended(task):
    """Wait for the end of a task, however it ends."""
    try:
        yield Join(task)
    except (TaskCancelled, ClosedError):
        pass


# Order and room.


@pytest.mark.parametrize("maxsize", [0, 1, 3, None])
@pytest.mark.parametrize("getters_first", [False, True])
def test_items_come_out_in_the_order_of_the_puts(maxsize, getters_first):
    queue, out = Queue(maxsize), []

    def main():
        bodies = [getter(queue, out, 4), getter(queue, out, 4), putter(queue, [], *range(4)), late_putter()]
        for body in bodies if getters_first else reversed(bodies):
            yield Spawn(body)

    def late_putter():
        yield Sleep(1)
        yield from putter(queue, [], *range(4, 8))

    run(main())
    assert out == list(range(8)) and queue.qsize() == 0


def test_an_unbounded_queue_has_room_for_all():
    queue = Queue()

    def main():
        yield from putter(queue, [], *range(1000))
        assert (yield Now()) == 0 and queue.qsize() == 1000
        queue.put_nowait(1000)
        out = []
        yield from getter(queue, out, 1001)
        return out == list(range(1001))

    assert run(main()) is True


def test_a_bounded_queue_makes_its_putters_wait_until_there_is_room():
    queue, log = Queue(2), []

    def main():
        yield Spawn(putter(queue, log, *"abcd"))
        yield Sleep(1)
        assert log == ["put a", "put b"]
        assert repr(queue) == "<Queue #1: 2 of 2 items, 0 getting, 1 putting>"
        assert (yield queue.get()) == "a"
        assert queue.qsize() == 2  # the putter's item has moved up
        yield Sleep(1)
        assert log == ["put a", "put b", "put c"]
        assert [(yield queue.get()), (yield queue.get()), (yield queue.get())] == [*"bcd"]

    run(main())
    assert log[-1] == "put d"


def test_who_puts_while_others_wait_to_put_comes_after_them():
    queue, out = Queue(1), []

    def main():
        yield queue.put("a")
        yield Spawn(putter(queue, [], "b"))
        yield
        assert (yield queue.get()) == "a"  # the putter of b has its room, before its turn
        with pytest.raises(WouldBlock):
            queue.put_nowait("c")
        yield Spawn(getter(queue, out, 2))
        yield queue.put("c")

    run(main())
    assert out == ["b", "c"]


def test_in_a_rendezvous_a_put_waits_for_a_get():
    queue, log = Queue(0), []

    def main():
        task = yield Spawn(putter(queue, log, "a"))
        yield Sleep(1)
        assert (log, queue.qsize(), task.state) == ([], 0, "parked")
        assert (yield queue.get()) == "a"
        assert queue.qsize() == 0
        yield Join(task)
        yield Spawn(getter(queue, log))
        yield
        yield queue.put("b")
        assert (yield Now()) == 1

    run(main())
    assert log == ["put a", "b"]


def test_getters_get_in_the_order_of_their_coming_and_before_they_have_run():
    queue, out = Queue(), []

    def main():
        tasks = []
        for _ in range(3):
            tasks.append((yield Spawn(getter(queue, out))))
        yield
        for item in "abc":
            queue.put_nowait(item)
            assert queue.qsize() == 0  # handed over
        with pytest.raises(WouldBlock, match="nothing to get from <Queue #1: 0 of inf items, 0 getting, 0 putting>"):
            queue.get_nowait()
        for task in tasks:
            yield Join(task)

    run(main())
    assert out == [*"abc"]


def test_one_putter_and_one_getter_take_turns_in_a_rendezvous():
    queue, log = Queue(0), []

    def main():
        yield Spawn(putter(queue, log, 1, 2))
        yield Spawn(getter(queue, log, 2))

    run(main())
    assert log == ["put 1", 1, "put 2", 2]


@pytest.mark.parametrize("maxsize", [-1, float("nan"), -0.5])
def test_sizes_are_0_or_more(maxsize):
    with pytest.raises(ValueError, match=rf"a queue is for 0 or more items, or None for any number, not {maxsize!r}"):
        Queue(maxsize)


# The plain calls.


def test_plain_calls_do_what_can_be_done_without_waiting():
    queue = Queue(1)

    def main():
        queue.put_nowait("a")
        with pytest.raises(WouldBlock, match="no room in <Queue unused: 1 of 1 items, 0 getting, 0 putting>"):
            queue.put_nowait("b")
        assert queue.get_nowait() == "a"
        with pytest.raises(WouldBlock, match="nothing to get"):
            queue.get_nowait()
        yield Spawn(putter(queue, [], "c", "d"))
        yield
        assert (queue.get_nowait(), queue.get_nowait(), queue.qsize()) == ("c", "d", 0)

    run(main())


def test_plain_calls_meet_in_a_rendezvous_who_waits():
    queue, log = Queue(0), []

    def main():
        with pytest.raises(WouldBlock):
            queue.put_nowait("nobody waits for it")
        yield Spawn(getter(queue, log))
        yield
        queue.put_nowait("a")
        yield Spawn(putter(queue, log, "b"))
        yield
        assert queue.get_nowait() == "b"

    run(main())
    assert log == ["a", "put b"]


def test_a_queue_may_be_filled_and_emptied_before_and_after_a_run_from_any_thread():
    queue = Queue(2, "mail")
    queue.put_nowait("a")
    assert in_thread(queue.put_nowait, "b") is None

    def main():
        return (yield queue.get())

    assert run(main()) == "a"
    assert in_thread(queue.get_nowait) == "b"
    assert isinstance(in_thread(queue.get_nowait), WouldBlock)
    assert repr(queue) == "<Queue mail: 0 of 2 items, 0 getting, 0 putting>"


def test_plain_calls_from_another_thread_are_refused_while_a_run_uses_the_queue():
    queue, broadcast = Queue(), Broadcast()
    calls = {"put_nowait": lambda: queue.put_nowait(1), "get_nowait": queue.get_nowait, "close": queue.close}

    def main():
        queue.put_nowait("a")
        yield queue.get()
        queue.put_nowait("a")
        idle, subscription = broadcast.subscribe(), broadcast.subscribe()  # the first is in no run
        yield Spawn(getter(subscription, []), daemon=True)
        yield
        calls["get_nowait of a subscription"] = subscription.get_nowait
        calls["publish"] = lambda: broadcast.publish("b")
        calls["close of a subscription"] = subscription.close
        calls["close of a broadcast"] = broadcast.close
        for verb, call in calls.items():
            error = in_thread(call)
            assert isinstance(error, SyscallError)
            assert str(error).startswith(f"{verb.partition(' ')[0]} of <") and "in another thread than" in str(error)
        assert (queue.get_nowait(), queue.closed) == ("a", False)
        assert (broadcast.published, broadcast.closed, idle.closed, subscription.closed) == (0, False, False, False)
        assert list(broadcast.subscriptions) == [idle, subscription]

    run(main())


def test_a_feed_of_ones_own_has_to_say_what_is_taken():
    with pytest.raises(NotImplementedError):
        Feed().get_nowait()


# Closing.


def test_getters_of_a_closed_queue_see_what_is_left_and_then_closed_error():
    queue = Queue(name="mail")

    def main():
        queue.put_nowait("a")
        queue.put_nowait("b")
        queue.close()
        assert repr(queue) == "<Queue mail: 2 of inf items, 0 getting, 0 putting, closed>"
        assert ((yield queue.get()), queue.get_nowait()) == ("a", "b")
        for _ in range(2):
            with pytest.raises(ClosedError, match=r"^queue mail is closed$"):
                yield queue.get()
            with pytest.raises(ClosedError, match="queue mail is closed"):
                queue.get_nowait()

    run(main())


def test_nothing_is_put_into_a_closed_queue():
    queue = Queue()
    queue.close()
    queue.close()

    def main():
        with pytest.raises(ClosedError, match="queue #1 is closed"):
            yield queue.put("a")
        with pytest.raises(ClosedError):
            queue.put_nowait("a")

    with pytest.raises(ClosedError, match=r"^queue is closed$"):
        queue.put_nowait("a")
    run(main())
    assert queue.qsize() == 0


def test_who_waits_when_the_queue_is_closed_gets_closed_error():
    empty, full, log = Queue(), Queue(1), []

    def main():
        yield full.put("a")
        tasks = []
        for body in [getter(empty, log), getter(empty, log), putter(full, log, "b"), putter(full, log, "c")]:
            tasks.append((yield Spawn(body, keep=True)))
        yield
        for queue in empty, full, full:
            queue.close()
        for task in tasks:
            with pytest.raises(ClosedError):
                yield Join(task)
        assert (yield full.get()) == "a"
        with pytest.raises(ClosedError):  # b and c were never in it
            yield full.get()

    run(main())
    assert log == ["ClosedError"] * 4


@pytest.mark.parametrize("kind", ["getters", "putters", "subscribers"])
def test_they_are_told_in_the_order_of_their_coming(kind):
    queue, log = Queue(0), []
    feed = Broadcast().subscribe() if kind == "subscribers" else queue

    def waiting(name):
        with pytest.raises(ClosedError):
            yield queue.put(name) if kind == "putters" else feed.get()
        log.append(name)

    def main():
        for name in "abc":
            yield Spawn(waiting(name))
        yield
        feed.close()

    run(main())
    assert log == [*"abc"]


def test_an_item_that_was_handed_over_in_the_turn_of_the_close_has_come():
    queue, log = Queue(), []

    def main():
        task = yield Spawn(getter(queue, log, 2))
        yield
        queue.put_nowait("a")
        queue.close()
        yield from ended(task)

    with pytest.raises(ExceptionGroup):
        run(main())
    assert log == ["a", "ClosedError"]


def test_async_for_goes_on_until_the_queue_is_closed_and_empty():
    queue, out = Queue(1), []

    async def consumer():
        async for item in queue:
            out.append(item)
        out.append("end")

    async def main():
        await Spawn(consumer())
        for item in range(3):
            await queue.put(item)
            await Sleep(1)
        await queue.put(3)
        queue.close()

    run(main())
    assert out == [0, 1, 2, 3, "end"]


def test_for_each_calls_a_function_a_generator_function_or_an_async_def():
    out = []

    def generator_function(item):
        yield Sleep(1)
        out.append((item, (yield Now())))

    async def async_def(item):
        await Sleep(1)
        out.append((item, await Now()))

    def function(item):
        out.append((item, "at once"))

    def main():
        for number, work in enumerate((generator_function, async_def, function)):
            queue = Queue()
            queue.put_nowait(f"a{number}")
            queue.put_nowait(f"b{number}")
            queue.close()
            assert (yield from queue.for_each(work)) is None

    run(main())
    assert out == [("a0", 1), ("b0", 2), ("a1", 3), ("b1", 4), ("a2", "at once"), ("b2", "at once")]


@pytest.mark.parametrize("error", [ValueError("v"), ClosedError("another's")])
def test_for_each_raises_what_the_work_raises_and_may_be_called_again(error):
    queue, out = Queue(), []

    def work(item):
        yield
        if item == "b":
            raise error
        out.append(item)

    def main():
        for item in "abc":
            queue.put_nowait(item)
        with pytest.raises(type(error)) as caught:
            yield from queue.for_each(work)
        assert caught.value is error
        queue.close()
        yield from queue.for_each(work)

    run(main())
    assert out == ["a", "c"]


# Cancellation.


def waiting_to_get():
    queue = Queue()
    return queue.get(), lambda: queue.put_nowait("item")


def waiting_to_put():
    queue = Queue(1)
    queue.put_nowait("first")
    return queue.put("item"), lambda: take_if_any(queue)


def waiting_to_meet():
    queue = Queue(0)
    return queue.put("item"), lambda: take_if_any(queue)


def take_if_any(queue):
    with suppress(WouldBlock):  # who was to put it has been cancelled
        queue.get_nowait()


def waiting_for_news():
    broadcast = Broadcast()
    return broadcast.subscribe().get(), lambda: broadcast.publish("news")


@pytest.mark.parametrize("make", [waiting_to_get, waiting_to_put, waiting_to_meet, waiting_for_news])
def test_each_wait_passes_the_battery(make):
    check_syscall(make)


def test_a_cancelled_getter_takes_nothing():
    queue, log = Queue(), []

    def main():
        first = yield Spawn(getter(queue, log))
        yield Spawn(getter(queue, log))
        yield
        first.kernel.cancel(first)
        queue.put_nowait("a")  # in the same turn: it goes to the other
        yield from ended(first)

    run(main())
    assert log == ["Cancelled", "a"]


def test_a_getter_that_was_handed_an_item_and_is_cancelled_in_the_same_turn_has_it():
    queue, log = Queue(), []

    def main():
        first = yield Spawn(getter(queue, log, 2))
        yield
        queue.put_nowait("a")
        first.kernel.cancel(first)
        queue.put_nowait("b")
        yield from ended(first)
        return queue.get_nowait()

    assert run(main()) == "b" and log == ["a", "Cancelled"]


@pytest.mark.parametrize("maxsize", [0, 1])
def test_the_item_of_a_cancelled_putter_was_never_in_the_queue(maxsize):
    queue, log = Queue(maxsize), []

    def main():
        if maxsize:
            yield queue.put("a")
        first = yield Spawn(putter(queue, log, "b"))
        yield Spawn(putter(queue, log, "c"))
        yield
        first.kernel.cancel(first)
        out = [queue.get_nowait() for _ in range(1 + maxsize)]  # in the same turn
        yield from ended(first)
        with pytest.raises(WouldBlock):
            queue.get_nowait()
        return out

    assert run(main()) == [*"ac"][1 - maxsize :]
    assert log == ["Cancelled", "put c"]


@pytest.mark.parametrize("maxsize", [0, 1])
def test_a_putter_whose_item_was_taken_and_who_is_cancelled_in_the_same_turn_has_put_it(maxsize):
    queue, log = Queue(maxsize), []

    def main():
        if maxsize:
            yield queue.put("a")
        first = yield Spawn(putter(queue, log, "b", "c"))
        yield
        out = [queue.get_nowait()]
        first.kernel.cancel(first)
        yield from ended(first)
        if maxsize:
            out.append(queue.get_nowait())
        with pytest.raises(WouldBlock):
            queue.get_nowait()
        return out

    assert run(main()) == [*"ab"][1 - maxsize :]
    assert log == ["put b", "Cancelled"]


@pytest.mark.parametrize("maxsize", [0, 1, 2, None])
def test_whoever_is_cancelled_items_in_are_items_out(maxsize):
    queue, log_in, log_out, got = Queue(maxsize), [], [], []

    def main():
        workers = []
        for number in range(6):
            workers.append((yield Spawn(putter(queue, log_in, *range(number * 10, number * 10 + 10)))))
            workers.append((yield Spawn(getter(queue, log_out, 7))))
        for number in range(0, 12, 3):
            yield
            yield Cancel(workers[number])
            yield Cancel(workers[-number])
        with (yield MoveOnAfter(1)):
            while True:
                got.append((yield queue.get()))
        for worker in workers:
            yield Cancel(worker)
        for worker in workers:
            yield from ended(worker)
        while queue.qsize():
            got.append(queue.get_nowait())

    run(main())
    put = [int(said.split()[1]) for said in log_in if said != "Cancelled"]
    taken = [item for item in log_out if item != "Cancelled"] + got
    assert sorted(put) == sorted(taken) and len(put) > 10
    assert repr(queue).endswith("0 getting, 0 putting>")


def test_a_queue_that_nobody_feeds_is_a_deadlock():
    queue = Queue(name="mail")

    def main():
        yield queue.get()

    with pytest.raises(Deadlock, match=r"main waits in Get\(<Queue mail: 0 of inf items, 1 getting, 0 putting>\)"):
        run(main())


# Many.


class Counting:
    """A waiter that counts how often anybody was woken."""

    task, woken = None, 0

    def resume(self, value):
        Counting.woken += 1

    throw = resume


@pytest.mark.parametrize("line", ["waiters", "putters"])
def test_a_hundred_thousand_waiters_are_woken_one_by_one_from_the_front_of_an_ordered_dict(line):
    queue, count = Queue(0), 100_000
    queue.join_run(Kernel(lambda task, error: None))
    Counting.woken = 0
    waiters = getattr(queue, line)
    waiters.update((Counting(), number) for number in range(count))
    for number in range(count):
        if line == "putters":
            assert queue.get_nowait() == number
        else:
            queue.put_nowait(number)
    assert Counting.woken == count and not waiters
    assert type(waiters) is OrderedDict  # a plain dict looks for its first item beyond all that were taken: O(n) each


def test_every_primitive_has_its_waiters_in_an_ordered_dict():
    assert type(Primitive().waiters) is OrderedDict  # as above


# Broadcasts.


def test_each_subscriber_sees_each_item_from_its_subscription_on():
    broadcast, logs = Broadcast(), [[], [], []]

    def main():
        broadcast.publish("nobody sees it")
        yield Spawn(getter(broadcast.subscribe(), logs[0], 4))
        yield Spawn(getter(broadcast.subscribe("second"), logs[1], 4))
        yield
        broadcast.publish("a")  # to both, who wait
        broadcast.publish("b")  # to nobody: they have not had their turn
        late = broadcast.subscribe()
        yield Sleep(1)
        broadcast.publish("c")
        yield Spawn(getter(late, logs[2], 2))
        yield Sleep(1)
        broadcast.publish("d")

    run(main())
    assert logs == [[*"abcd"], [*"abcd"], [*"cd"]]


def test_a_slow_subscriber_is_told_once_how_many_it_missed_and_goes_on_with_the_oldest_kept():
    broadcast = Broadcast(3)
    slow, quick = broadcast.subscribe(), broadcast.subscribe()

    def main():
        for number in range(5):
            broadcast.publish(number)
            assert (yield quick.get()) == number
        with pytest.raises(Missed, match="2 items came and went unseen") as caught:
            yield slow.get()
        assert caught.value.count == 2
        assert [(yield slow.get()), slow.get_nowait(), (yield slow.get())] == [2, 3, 4]
        with pytest.raises(WouldBlock):
            slow.get_nowait()
        for number in range(4):
            broadcast.publish(number)
        with pytest.raises(Missed, match="1 items"):
            slow.get_nowait()
        broadcast.publish(4)
        with pytest.raises(Missed, match="1 items"):
            yield slow.get()
        assert slow.get_nowait() == 2

    run(main())


def test_a_broadcast_keeps_as_many_items_as_it_is_told():
    broadcast = Broadcast(2)
    subscription = broadcast.subscribe()
    broadcast.publish("a")
    broadcast.publish("b")
    assert (subscription.get_nowait(), subscription.get_nowait()) == ("a", "b")
    for size in 0, -1:
        with pytest.raises(ValueError, match=f"a broadcast keeps one item or more, not {size!r}"):
            Broadcast(size)


def test_two_who_wait_at_one_subscription_share_its_items():
    broadcast, log = Broadcast(), []
    subscription = broadcast.subscribe()

    def main():
        yield Spawn(getter(subscription, log))
        yield Spawn(getter(subscription, log))
        yield
        broadcast.publish("a")
        assert repr(subscription) == "<Subscription #1: 1 waiting>"
        broadcast.publish("b")
        yield

    run(main())
    assert log == ["a", "b"]


def test_subscribers_of_a_closed_broadcast_see_what_is_left_and_then_closed_error():
    broadcast, log = Broadcast(), []

    def main():
        behind = broadcast.subscribe()
        waiting = []
        with broadcast.subscribe() as subscription:
            for _ in range(2):
                waiting.append((yield Spawn(getter(subscription, log), keep=True)))
            yield
            broadcast.publish("a")
            broadcast.close()
            broadcast.close()
            yield Join(waiting[0])
            with pytest.raises(ClosedError, match="the broadcast is closed"):
                yield Join(waiting[1])
        with pytest.raises(ClosedError, match="the broadcast is closed"):
            broadcast.publish("b")
        assert (yield behind.get()) == "a"
        for subscription in behind, broadcast.subscribe():
            with pytest.raises(ClosedError, match="the broadcast is closed"):
                yield subscription.get()

    run(main())
    assert log == ["a", "ClosedError"]


def test_who_has_unsubscribed_sees_no_more_and_is_forgotten():
    broadcast, log = Broadcast(), []

    def main():
        with broadcast.subscribe() as subscription:
            task = yield Spawn(getter(subscription, log), keep=True)
            yield
            assert list(broadcast.subscriptions) == [subscription]
            broadcast.publish("a")
            broadcast.publish("b")
        assert not broadcast.subscriptions
        subscription.close()
        yield Join(task)
        with pytest.raises(ClosedError, match="the subscription is closed"):
            yield subscription.get()
        other = broadcast.subscribe()
        task = yield Spawn(getter(other, log), keep=True)
        yield
        other.close()
        with pytest.raises(ClosedError, match="the subscription is closed"):
            yield Join(task)

    run(main())
    assert log == ["a", "ClosedError"]


def test_a_cancelled_subscriber_has_seen_nothing_or_what_it_was_given():
    broadcast, log = Broadcast(), []
    subscription = broadcast.subscribe()

    def main():
        first = yield Spawn(getter(subscription, log, 2))
        yield
        first.kernel.cancel(first)
        broadcast.publish("a")
        yield from ended(first)
        second = yield Spawn(getter(subscription, log, 9))
        yield Sleep(1)
        broadcast.publish("b")
        second.kernel.cancel(second)
        broadcast.publish("c")
        yield from ended(second)
        return (yield subscription.get())

    assert run(main()) == "c"
    assert log == ["Cancelled", "a", "b", "Cancelled"]


def test_async_for_and_for_each_over_a_subscription_end_with_missed_and_can_go_on():
    broadcast, seen = Broadcast(2), []

    async def by_async_for(subscription):
        async for item in subscription:
            seen.append(item)

    async def by_for_each(subscription):
        await subscription.for_each(seen.append)

    async def reader(loop):
        subscription = broadcast.subscribe()
        await Sleep(1)
        with pytest.raises(Missed):
            await loop(subscription)
        await loop(subscription)
        seen.append("end")

    async def main():
        for loop in by_async_for, by_for_each:
            await Spawn(reader(loop))
        await Sleep(0)
        for item in "abc":
            broadcast.publish(item)
        await Sleep(2)
        broadcast.publish("d")
        broadcast.close()

    run(main())
    assert seen == [*"bbccdd", "end", "end"]


def test_one_of_several_waits_may_be_that_for_news():
    broadcast = Broadcast(1)
    subscription = broadcast.subscribe()

    def main():
        assert (yield select(subscription.get(), Sleep(1))) == (1, None)
        broadcast.publish("a")
        broadcast.publish("b")
        with pytest.raises(Missed):
            yield select(subscription.get(), Sleep(1))
        assert (yield select(Sleep(1), subscription.get())) == (1, "b")
        broadcast.close()
        with pytest.raises(ClosedError):
            yield select(Sleep(1), subscription.get())
        return (yield Now()), (yield CurrentTask()).state

    assert run(main()) == (1, "running")


def test_work_may_return_a_syscall_which_is_then_done():
    queue, after = Queue(), []

    def main():
        for seconds in (1, 2):
            queue.put_nowait(seconds)
        queue.close()
        yield from queue.for_each(Sleep)
        after.append((yield Now()))

    run(main())
    assert after == [3]


add_async_forms(globals())
