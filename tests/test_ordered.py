"""Priority queues and stacks: the order of items, ties, and items that cannot be ordered."""

from __future__ import annotations

import heapq
import random

import pytest
from sync_helpers import getter, putter

from minisched import Join, LifoQueue, MoveOnAfter, PriorityQueue, Sleep, Spawn, WouldBlock, select
from minisched.testing import check_syscall, run


class Rank:
    """An item with `<` only, and an equality that raises."""

    def __init__(self, number, name):
        self.number = number
        self.name = name

    def __lt__(self, other):
        return self.number < other.number

    def __eq__(self, other):
        raise AssertionError("compared by ==")

    __hash__ = None


def drained(queue):
    items = []
    while queue.qsize():
        items.append(queue.get_nowait())
    return items


def filled(kind, items, **options):
    queue = kind(**options)
    for item in items:
        queue.put_nowait(item)
    return queue


# Order.


def test_the_smallest_item_comes_first():
    assert drained(filled(PriorityQueue, [3, 1, 2, 0])) == [0, 1, 2, 3]


def test_the_newest_item_of_a_stack_comes_first():
    queue = filled(LifoQueue, "abc")
    assert queue.get_nowait() == "c"
    queue.put_nowait("d")
    assert drained(queue) == ["d", "b", "a"]


def test_equal_items_leave_in_fifo_order_and_need_less_than_alone():
    queue = filled(PriorityQueue, [Rank(number % 3, number) for number in range(12)])
    assert [item.name for item in drained(queue)] == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]


def test_a_key_gives_the_priority_and_the_items_are_not_compared():
    jobs = [(2, {"name": "a"}), (1, {"name": "b"}), (2, {"name": "c"}), (1, {"name": "d"})]
    queue = filled(PriorityQueue, jobs, key=lambda job: job[0])
    assert [job["name"] for _, job in drained(queue)] == ["b", "d", "a", "c"]


def test_the_order_is_that_of_a_heap_over_priorities_and_arrivals():
    rng = random.Random(7)
    queue, heap = PriorityQueue(key=lambda item: item[0]), []
    for arrival in range(5000):
        if heap and rng.random() < 0.45:
            assert queue.get_nowait() == heapq.heappop(heap)
        else:
            item = (rng.randrange(20), arrival)
            queue.put_nowait(item)
            heapq.heappush(heap, item)
    assert drained(queue) == sorted(heap)


# Items that cannot be ordered.


@pytest.mark.parametrize("bad", [{"a": 1}, None, "text", 1j])
def test_an_item_that_cannot_be_compared_is_refused_and_changes_nothing(bad):
    queue = filled(PriorityQueue, [5, 3, 4])

    def main():
        with pytest.raises(TypeError, match=f"cannot order an item of type {type(bad).__name__}: .*pass `key=`"):
            queue.put_nowait(bad)
        with pytest.raises(TypeError, match="cannot order"):
            yield queue.put(bad)
        with pytest.raises(TypeError, match="cannot order"):
            yield select(queue.put(bad), Sleep(1))
        yield queue.put(1)
        return queue.qsize(), queue.unfinished

    assert run(main()) == (4, 4)
    assert drained(queue) == [1, 3, 4, 5]


def test_a_get_compares_nothing():
    class Touchy(Rank):
        allowed = True

        def __lt__(self, other):
            assert self.allowed
            return super().__lt__(other)

    queue = filled(PriorityQueue, [Touchy(number, number) for number in (3, 1, 2)])
    Touchy.allowed = False
    assert [item.name for item in drained(queue)] == [1, 2, 3]


def test_an_error_of_the_key_passes_through_and_changes_nothing():
    queue = filled(PriorityQueue, [{"rank": 2}, {"rank": 1}], key=lambda item: item["rank"])
    with pytest.raises(KeyError, match="rank"):
        queue.put_nowait({})
    assert [item["rank"] for item in drained(queue)] == [1, 2]


def test_the_first_item_is_compared_with_none_and_the_second_is_refused():
    queue = filled(PriorityQueue, [{}])
    with pytest.raises(TypeError):
        queue.put_nowait({})
    assert queue.get_nowait() == {} and queue.qsize() == 0


def test_a_waiting_putter_whose_item_is_refused_gets_the_error_and_the_next_moves_up():
    queue = filled(PriorityQueue, [2, 3], maxsize=2)

    def main():
        bad = yield Spawn(putter(queue, [], "text"), keep=True)
        good = yield Spawn(putter(queue, [], 1))
        yield Sleep(1)
        assert (yield queue.get()) == 2  # the getter has its item, whatever becomes of the putters
        with pytest.raises(TypeError, match="cannot order an item of type str"):
            yield Join(bad)
        yield Join(good)
        return drained(queue), queue.unfinished

    assert run(main()) == ([1, 3], 4 - 1)


# Waiting.


@pytest.mark.parametrize("kind", [PriorityQueue, LifoQueue])
def test_an_item_goes_straight_to_a_waiting_getter(kind):
    queue, log = kind(), []

    def main():
        yield Spawn(getter(queue, log, 2))
        yield Sleep(1)
        yield queue.put({})
        yield queue.put({})

    run(main())
    assert log == [{}, {}]


@pytest.mark.parametrize("kind", [PriorityQueue, LifoQueue])
def test_a_get_takes_an_item_of_the_buffer_and_the_first_putter_moves_up(kind):
    queue = filled(kind, [5], maxsize=1)

    def main():
        for item in 9, 1:
            yield Spawn(putter(queue, [], item))
        yield Sleep(1)
        return [(yield queue.get()), (yield queue.get()), (yield queue.get())]

    # The putter of 9 came first, so 9 gets the room, and is taken before 1 has got any.
    assert run(main()) == [5, 9, 1]


@pytest.mark.parametrize("kind", [PriorityQueue, LifoQueue])
def test_a_rendezvous_takes_the_putters_in_order_of_arrival(kind):
    queue = kind(0)

    def main():
        with pytest.raises(WouldBlock):
            queue.put_nowait(1)
        for item in 2, 1, 3:
            yield Spawn(putter(queue, [], item))
        yield Sleep(1)
        return [(yield queue.get()), (yield queue.get()), (yield queue.get())]

    assert run(main()) == [2, 1, 3]


@pytest.mark.parametrize("kind", [PriorityQueue, LifoQueue])
def test_a_cancelled_putter_leaves_no_item(kind):
    queue = filled(kind, [1], maxsize=1)

    def main():
        with (yield MoveOnAfter(1)):
            yield queue.put(0)
        return drained(queue)

    assert run(main()) == [1]


@pytest.mark.parametrize(("kind", "expected"), [(PriorityQueue, [1, 2, 3]), (LifoQueue, [1, 3, 2])])
def test_a_closed_queue_gives_its_items_in_its_order(kind, expected):
    queue, log = filled(kind, [2, 3, 1]), []

    async def main():
        queue.close()
        async for item in queue:
            log.append(item)

    run(main())
    assert log == expected


def waiting_to_put(kind):
    def make():
        queue = filled(kind, [1], maxsize=1)
        return queue.put(2), lambda: drained(queue)

    return make


def waiting_to_get(kind):
    def make():
        queue = kind()
        return queue.get(), lambda: queue.put_nowait(1)

    return make


@pytest.mark.parametrize("kind", [PriorityQueue, LifoQueue])
@pytest.mark.parametrize("make", [waiting_to_put, waiting_to_get])
def test_each_wait_passes_the_conformance_test(make, kind):
    check_syscall(make(kind))


@pytest.mark.parametrize("kind", [PriorityQueue, LifoQueue])
def test_the_room_is_checked_as_in_a_queue(kind):
    with pytest.raises(ValueError, match="maxsize is a number of items, 0 or more"):
        kind(-1)
    assert repr(kind(2, name="jobs")) == f"<{kind.__name__} jobs: 0 of 2 items, 0 getting, 0 putting>"
