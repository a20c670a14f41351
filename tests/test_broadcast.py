"""Broadcasts: each subscriber receives each item, or Lagged."""

from __future__ import annotations

import math
from random import Random

import pytest
from sync_helpers import ended, getter

from minisched import (
    Broadcast,
    ClosedError,
    Join,
    Lagged,
    Now,
    Sleep,
    Spawn,
    WouldBlock,
    select,
)
from minisched.testing import check_syscall, run


def test_each_subscriber_receives_each_item_from_its_subscription_on():
    broadcast, logs = Broadcast(), [[], [], []]

    def main():
        broadcast.publish("before any subscription")
        yield Spawn(getter(broadcast.subscribe(), logs[0], 4))
        yield Spawn(getter(broadcast.subscribe("second"), logs[1], 4))
        yield
        broadcast.publish("a")  # to both, which wait
        broadcast.publish("b")  # into the buffer: neither has had a turn
        late = broadcast.subscribe()
        yield Sleep(1)
        broadcast.publish("c")
        yield Spawn(getter(late, logs[2], 2))
        yield Sleep(1)
        broadcast.publish("d")

    run(main())
    assert logs == [[*"abcd"], [*"abcd"], [*"cd"]]


def test_a_slow_subscriber_gets_lagged_once_and_goes_on_with_the_oldest_kept_item():
    broadcast = Broadcast(3)
    slow, quick = broadcast.subscribe(), broadcast.subscribe()

    def main():
        for number in range(5):
            broadcast.publish(number)
            assert (yield quick.get()) == number
        with pytest.raises(Lagged, match="2 items came and went unseen") as caught:
            yield slow.get()
        assert caught.value.count == 2
        assert [(yield slow.get()), slow.get_nowait(), (yield slow.get())] == [2, 3, 4]
        with pytest.raises(WouldBlock):
            slow.get_nowait()
        for number in range(4):
            broadcast.publish(number)
        with pytest.raises(Lagged, match="1 items"):
            slow.get_nowait()
        broadcast.publish(4)
        with pytest.raises(Lagged, match="1 items"):
            yield slow.get()
        assert slow.get_nowait() == 2

    run(main())


def test_a_broadcast_keeps_size_items_and_refuses_a_size_below_1():
    broadcast = Broadcast(2)
    subscription = broadcast.subscribe()
    broadcast.publish("a")
    broadcast.publish("b")
    assert (subscription.get_nowait(), subscription.get_nowait()) == ("a", "b")
    for size in 0, -1:
        with pytest.raises(ValueError, match=f"size is a number of items, 1 or more, not {size!r}"):
            Broadcast(size)


def test_two_waiters_at_one_subscription_share_its_items():
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


def test_subscribers_of_a_closed_broadcast_receive_the_remaining_items_and_then_closed_error():
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


def test_a_closed_subscription_receives_no_item_and_is_removed():
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


def test_a_cancelled_subscriber_keeps_what_it_was_handed_and_takes_no_other_item():
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


def test_async_for_and_for_each_over_a_subscription_raise_lagged_and_can_go_on():
    broadcast, seen = Broadcast(2), []

    async def by_async_for(subscription):
        async for item in subscription:
            seen.append(item)

    async def by_for_each(subscription):
        await subscription.for_each(seen.append)

    async def reader(loop):
        subscription = broadcast.subscribe()
        await Sleep(1)
        with pytest.raises(Lagged):
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


def test_a_get_from_a_subscription_can_be_a_branch_of_select():
    broadcast = Broadcast(1)
    subscription = broadcast.subscribe()

    def main():
        assert (yield select(subscription.get(), Sleep(1))) == (1, None)
        broadcast.publish("a")
        broadcast.publish("b")
        with pytest.raises(Lagged):
            yield select(subscription.get(), Sleep(1))
        assert (yield select(Sleep(1), subscription.get())) == (1, "b")
        broadcast.close()
        with pytest.raises(ClosedError):
            yield select(Sleep(1), subscription.get())
        return (yield Now())

    assert run(main()) == 1


def waiting_for_a_broadcast():
    broadcast = Broadcast()
    return broadcast.subscribe().get(), lambda: broadcast.publish("news")


def test_a_get_from_a_subscription_passes_the_conformance_test():
    check_syscall(waiting_for_a_broadcast)


@pytest.mark.parametrize("size", [1, 2, 3, 7, math.inf])
def test_random_gets_return_the_items_of_a_plain_list(size):
    random, broadcast, published = Random(1), Broadcast(size), []
    subscription, position = broadcast.subscribe(), 0
    for number in range(400):
        if random.random() < 0.5:
            broadcast.publish(number)
            published.append(number)
            continue
        missed = max(len(published) - position - size, 0)
        if missed:
            with pytest.raises(Lagged, match=f"{missed} items"):
                subscription.get_nowait()
            position += missed
        elif position < len(published):
            assert subscription.get_nowait() == published[position]
            position += 1
    assert position > 100
