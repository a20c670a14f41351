"""Queues: FIFO order, room, closing, and no item is lost to a cancellation."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress

import pytest
from forms import in_thread
from sync_helpers import ended, getter, putter

from minisched import (
    Broadcast,
    Cancel,
    ClosedError,
    Deadlock,
    Join,
    MoveOnAfter,
    Now,
    Primitive,
    Queue,
    Sleep,
    Spawn,
    SyscallError,
    WouldBlock,
    select,
)
from minisched.kernel import Kernel
from minisched.kernel.lifecycle import Lifecycle
from minisched.sync.queues import Source
from minisched.testing import check_syscall, run

# Order and room.


@pytest.mark.parametrize("maxsize", [0, 1, 3, None])
@pytest.mark.parametrize("getters_first", [False, True])
def test_items_are_got_in_the_order_of_the_puts(maxsize, getters_first):
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


def test_a_put_into_an_unbounded_queue_never_waits():
    queue = Queue()

    def main():
        yield from putter(queue, [], *range(1000))
        assert (yield Now()) == 0 and queue.qsize() == 1000
        queue.put_nowait(1000)
        out = []
        yield from getter(queue, out, 1001)
        return out == list(range(1001))

    assert run(main()) is True


def test_a_put_into_a_full_queue_waits_for_room():
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


def test_a_put_does_not_overtake_waiting_putters():
    queue, out = Queue(1), []

    def main():
        yield queue.put("a")
        yield Spawn(putter(queue, [], "b"))
        yield
        assert (yield queue.get()) == "a"  # hands its room to the putter of b, before that one's turn
        with pytest.raises(WouldBlock):
            queue.put_nowait("c")
        yield Spawn(getter(queue, out, 2))
        yield queue.put("c")

    run(main())
    assert out == ["b", "c"]


def test_a_put_can_be_a_branch_of_select():
    queue = Queue(1)

    def main():
        assert (yield select(Sleep(1), queue.put("a"))) == (1, None)
        assert (yield select(Sleep(1), queue.put("b"))) == (0, None)
        return (yield queue.get()), queue.qsize()

    assert run(main()) == ("a", 0)


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


def test_waiting_getters_are_handed_items_in_fifo_order_before_their_turns():
    queue, out = Queue(), []

    def main():
        tasks = []
        for _ in range(3):
            tasks.append((yield Spawn(getter(queue, out))))
        yield
        for item in "abc":
            queue.put_nowait(item)
            assert queue.qsize() == 0  # each item was handed over
        with pytest.raises(WouldBlock, match="no item in <Queue #1: 0 of inf items, 0 getting, 0 putting>"):
            queue.get_nowait()
        for task in tasks:
            yield Join(task)

    run(main())
    assert out == [*"abc"]


def test_a_putter_and_a_getter_alternate_in_a_rendezvous():
    queue, log = Queue(0), []

    def main():
        yield Spawn(putter(queue, log, 1, 2))
        yield Spawn(getter(queue, log, 2))

    run(main())
    assert log == ["put 1", 1, "put 2", 2]


@pytest.mark.parametrize("maxsize", [-1, float("nan"), float("-inf")])
def test_a_negative_maxsize_raises_an_error(maxsize):
    with pytest.raises(ValueError, match=f"maxsize is a number of items, 0 or more, or None .*, not {maxsize!r}"):
        Queue(maxsize)


# The plain calls.


def test_plain_calls_raise_would_block_where_a_syscall_would_wait():
    queue = Queue(1)

    def main():
        queue.put_nowait("a")
        with pytest.raises(WouldBlock, match="no room in <Queue unused: 1 of 1 items, 0 getting, 0 putting>"):
            queue.put_nowait("b")
        assert queue.get_nowait() == "a"
        with pytest.raises(WouldBlock, match="no item in"):
            queue.get_nowait()
        yield Spawn(putter(queue, [], "c", "d"))
        yield
        assert (queue.get_nowait(), queue.get_nowait(), queue.qsize()) == ("c", "d", 0)

    run(main())


def test_plain_calls_meet_waiting_tasks_in_a_rendezvous():
    queue, log = Queue(0), []

    def main():
        with pytest.raises(WouldBlock):
            queue.put_nowait("without a getter")
        yield Spawn(getter(queue, log))
        yield
        queue.put_nowait("a")
        yield Spawn(putter(queue, log, "b"))
        yield
        assert queue.get_nowait() == "b"

    run(main())
    assert log == ["a", "put b"]


def test_a_queue_can_be_filled_and_emptied_outside_of_a_run_from_any_thread():
    queue = Queue(2, "mail")
    queue.put_nowait("a")
    assert in_thread(queue.put_nowait, "b") is None

    def main():
        return (yield queue.get())

    assert run(main()) == "a"
    assert in_thread(queue.get_nowait) == "b"
    assert isinstance(in_thread(queue.get_nowait), WouldBlock)
    assert repr(queue) == "<Queue mail: 0 of 2 items, 0 getting, 0 putting>"


def test_plain_calls_from_another_thread_raise_an_error_while_a_run_uses_the_queue():
    queue, broadcast = Queue(), Broadcast()
    calls = {"put_nowait": lambda: queue.put_nowait(1), "get_nowait": queue.get_nowait, "close": queue.close}

    def main():
        queue.put_nowait("a")
        yield queue.get()
        queue.put_nowait("a")
        idle, subscription = broadcast.subscribe(), broadcast.subscribe()  # no run uses the first
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


def test_a_source_without_a_take_method_is_not_implemented():
    with pytest.raises(NotImplementedError):
        Source().get_nowait()


# Closing.


def test_getters_of_a_closed_queue_receive_the_remaining_items_and_then_closed_error():
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


def test_a_put_into_a_closed_queue_raises_closed_error():
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


def test_a_close_raises_closed_error_in_waiting_getters_and_putters():
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
def test_a_close_wakes_waiters_in_fifo_order(kind):
    queue, log = Queue(0), []
    source = Broadcast().subscribe() if kind == "subscribers" else queue

    def waiting(name):
        with pytest.raises(ClosedError):
            yield queue.put(name) if kind == "putters" else source.get()
        log.append(name)

    def main():
        for name in "abc":
            yield Spawn(waiting(name))
        yield
        source.close()

    run(main())
    assert log == [*"abc"]


def test_a_getter_keeps_an_item_that_was_handed_over_in_the_turn_of_the_close():
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


def test_async_for_ends_when_the_queue_is_closed_and_empty():
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
        out.append((item, "without a wait"))

    def main():
        for number, work in enumerate((generator_function, async_def, function)):
            queue = Queue()
            queue.put_nowait(f"a{number}")
            queue.put_nowait(f"b{number}")
            queue.close()
            assert (yield from queue.for_each(work)) is None

    run(main())
    assert out == [("a0", 1), ("b0", 2), ("a1", 3), ("b1", 4), ("a2", "without a wait"), ("b2", "without a wait")]


@pytest.mark.parametrize("error", [ValueError("v"), ClosedError("of another queue")])
def test_for_each_passes_errors_of_the_work_and_can_be_called_again(error):
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


def test_for_each_yields_a_syscall_that_the_work_returns():
    queue, after = Queue(), []

    def main():
        for seconds in (1, 2):
            queue.put_nowait(seconds)
        queue.close()
        yield from queue.for_each(Sleep)
        after.append((yield Now()))

    run(main())
    assert after == [3]


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
    with suppress(WouldBlock):  # the putter has been cancelled
        queue.get_nowait()


@pytest.mark.parametrize("make", [waiting_to_get, waiting_to_put, waiting_to_meet])
def test_each_wait_passes_the_conformance_test(make):
    check_syscall(make)


def test_a_cancelled_getter_takes_no_item():
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


def test_a_getter_that_is_cancelled_in_the_turn_of_the_hand_over_keeps_the_item():
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
def test_the_item_of_a_cancelled_putter_is_not_put(maxsize):
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
def test_a_putter_that_is_cancelled_in_the_turn_in_which_its_item_is_taken_has_put_it(maxsize):
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
def test_cancellations_neither_lose_nor_duplicate_items(maxsize):
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
    put = [int(entry.split()[1]) for entry in log_in if entry != "Cancelled"]
    taken = [item for item in log_out if item != "Cancelled"] + got
    assert sorted(put) == sorted(taken) and len(put) > 10
    assert repr(queue).endswith("0 getting, 0 putting>")


def test_a_get_from_a_queue_without_putters_is_a_deadlock():
    queue = Queue(name="mail")

    def main():
        yield queue.get()

    with pytest.raises(Deadlock, match=r"main waits in Get\(<Queue mail: 0 of inf items, 1 getting, 0 putting>\)"):
        run(main())


# Many.


class Counting:
    """A waiter that counts the wake-ups of all waiters."""

    task, woken = None, 0

    def resume(self, value):
        Counting.woken += 1

    throw = resume


@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("queue_of", ["waiters", "putters"])
def test_many_waiters_are_woken_one_by_one_from_the_front_of_an_ordered_dict(queue_of, count):
    queue = Queue(0)
    queue.bind(Kernel(Lifecycle))
    Counting.woken = 0
    waiters = getattr(queue, queue_of)
    waiters.update((Counting(), number) for number in range(count))
    for number in range(count):
        if queue_of == "putters":
            assert queue.get_nowait() == number
        else:
            queue.put_nowait(number)
    assert Counting.woken == count and not waiters
    assert type(waiters) is OrderedDict  # a plain dict would search for its first item: O(n) each


def test_every_primitive_keeps_its_waiters_in_an_ordered_dict():
    assert type(Primitive().waiters) is OrderedDict  # for the same reason


# The work on the items.


def test_join_returns_at_once_if_nothing_was_put():
    def main():
        yield Queue().join()
        return (yield Now())

    assert run(main()) == 0


@pytest.mark.parametrize("maxsize", [0, 1, None])
def test_join_waits_for_a_task_done_for_each_item(maxsize):
    queue = Queue(maxsize)

    def worker():
        while True:
            yield queue.get()
            yield Sleep(1)
            queue.task_done()

    def main():
        yield Spawn(worker(), daemon=True)
        yield from putter(queue, [], *range(4))
        yield queue.join()
        return (yield Now()), queue.unfinished

    assert run(main()) == (4, 0)


def test_the_item_of_a_waiting_putter_does_not_count():
    queue = Queue(1)

    def main():
        yield queue.put("a")
        task = yield Spawn(putter(queue, [], "b"))
        yield Sleep(1)
        assert queue.unfinished == 1
        queue.get_nowait()
        assert queue.unfinished == 2  # the putter's item has moved up
        queue.task_done()
        queue.task_done()
        yield queue.join()
        yield Join(task)

    run(main())


def test_the_last_task_done_wakes_all_joiners_in_fifo_order():
    queue, log = Queue(), []

    def joiner(name):
        yield queue.join()
        log.append(name)

    def main():
        queue.put_nowait("item")
        queue.put_nowait("item")
        for name in "abc":
            yield Spawn(joiner(name))
        yield Sleep(1)
        queue.task_done()
        yield Sleep(1)
        assert log == [] and repr(queue).endswith("0 getting, 0 putting>")
        queue.task_done()

    run(main())
    assert log == ["a", "b", "c"]


def test_a_joiner_that_was_woken_goes_on_although_an_item_is_put_in_the_same_turn():
    queue = Queue()

    def joiner():
        yield queue.join()
        return (yield Now())

    def main():
        queue.put_nowait("first")
        task = yield Spawn(joiner())
        yield Sleep(1)
        queue.task_done()
        queue.put_nowait("second")
        return (yield Join(task))

    assert run(main()) == 1


def test_too_many_task_dones_are_an_error_and_change_nothing():
    queue = Queue(name="jobs")
    with pytest.raises(ValueError, match=r"task_done of <Queue jobs: .*> was called more often than items were put"):
        queue.task_done()
    queue.put_nowait("item")
    queue.task_done()
    with pytest.raises(ValueError, match="more often"):
        queue.task_done()
    assert queue.unfinished == 0


def test_a_closed_queue_is_joined_when_the_work_on_its_items_is_done():
    queue = Queue()

    def joiner():
        yield queue.join()
        return (yield Now())

    def main():
        queue.put_nowait("item")
        task = yield Spawn(joiner())
        yield Sleep(1)
        queue.close()
        with pytest.raises(ClosedError):
            queue.put_nowait("refused")
        yield Sleep(1)
        assert (yield queue.get()) == "item" and task.state == "parked"
        queue.task_done()
        return (yield Join(task))

    assert run(main()) == 2


def test_a_join_can_be_a_branch_and_a_cancelled_one_leaves_no_waiter():
    queue = Queue()

    def main():
        assert (yield select(Sleep(1), queue.join())) == (1, None)
        queue.put_nowait("item")
        assert (yield select(queue.join(), queue.join(), Sleep(1))) == (2, None)
        with (yield MoveOnAfter(1)) as scope:
            yield queue.join()
        return scope.cancelled_caught, len(queue.joiners)

    assert run(main()) == (True, 0)


def waiting_to_join():
    queue = Queue()
    queue.put_nowait("item")
    return queue.join(), lambda: queue.task_done() if queue.unfinished else None


def test_the_wait_for_the_work_passes_the_conformance_test():
    check_syscall(waiting_to_join)


def test_task_done_in_another_thread_is_an_error_and_a_queue_with_joiners_belongs_to_its_run():
    queue = Queue()

    def other():
        with pytest.raises(SyscallError, match="in use in another run"):
            yield queue.get()

    def joiner():
        yield queue.join()

    def main():
        queue.put_nowait("item")
        yield Spawn(joiner())
        yield Sleep(1)
        error = in_thread(queue.task_done)
        assert isinstance(error, SyscallError) and "in another thread" in str(error)
        assert in_thread(lambda: run(other())) is None
        queue.task_done()

    run(main())
