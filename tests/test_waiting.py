"""Waiting for several things at once: exactly one happens; each test in generator and in `async def` form."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest
from forms import add_async_forms, in_thread

from minisched import (
    Barrier,
    Broadcast,
    Cancel,
    Cancelled,
    ClosedError,
    CurrentTask,
    Deadlock,
    Event,
    Join,
    Lock,
    MoveOnAfter,
    Now,
    Pause,
    Primitive,
    Queue,
    Selectable,
    Semaphore,
    Sleep,
    SleepUntil,
    Spawn,
    SyscallError,
    TaskCancelled,
    Timeout,
    Timers,
    WouldBlock,
    select,
)
from minisched.family import Family
from minisched.testing import check_syscall, run
from minisched.waiting import NOT_YET, Choice, Primitives


class Getting:
    """One thing to wait for: how to bring it about, and whether that was of use to nobody."""

    answer = "item"

    def __init__(self):
        self.queue = Queue()

    def prepare(self):
        """Return what main yields first."""
        return Pause()

    def call(self, prepared):
        """Return the call that waits; `prepared` is what main was answered."""
        return self.queue.get()

    def happen(self):
        self.queue.put_nowait("item")

    def is_answer(self, value):
        return value == self.answer

    def unused(self):
        """Return whether it has happened for nobody."""
        return self.queue.get_nowait() == "item"


class Putting(Getting):
    answer = None

    def __init__(self):
        self.queue = Queue(1)
        self.queue.put_nowait("before")

    def call(self, prepared):
        return self.queue.put("item")

    def happen(self):
        self.queue.get_nowait()

    def unused(self):
        return self.queue.qsize() == 0


class Meeting(Putting):
    def __init__(self):
        self.queue = Queue(0)

    def happen(self):
        with suppress(WouldBlock):
            self.queue.get_nowait()


class Locking(Getting):
    def __init__(self):
        self.answer = self.lock = Lock()

    def prepare(self):
        return self.lock.acquire()

    def call(self, prepared):
        return self.lock.acquire()

    def happen(self):
        self.lock.release()

    def unused(self):
        return not self.lock.locked()


class Permitted(Getting):
    def __init__(self):
        self.semaphore = Semaphore(0)

    def is_answer(self, value):
        return value.semaphore is self.semaphore

    def call(self, prepared):
        return self.semaphore.acquire()

    def happen(self):
        self.semaphore.release()

    def unused(self):
        return self.semaphore.value == 1


class Happening(Getting):
    answer = None

    def __init__(self):
        self.event = Event()

    def call(self, prepared):
        return self.event.wait()

    def happen(self):
        self.event.set()

    def unused(self):
        return not list(self.event.waiting())


class Hearing(Getting):
    def __init__(self):
        self.broadcast = Broadcast()
        self.queue = self.broadcast.subscribe()

    def happen(self):
        self.broadcast.publish("item")


class Joining(Getting):
    answer = "result"

    def __init__(self):
        self.event = Event()

    def prepare(self):
        return Spawn(self.joined(), "joined", keep=True)

    def joined(self):
        yield self.event.wait()
        return "result"

    def call(self, prepared):
        return Join(prepared)

    def happen(self):
        self.event.set()

    def unused(self):
        return self.event.is_set()


class Sleeping(Getting):
    answer = None

    def __init__(self):
        pass

    def call(self, prepared):
        return Sleep(1)

    def happen(self):
        """Time passes by itself."""

    def unused(self):
        return True


LASTING = [Getting, Putting, Locking, Permitted, Happening, Hearing]  # it can have happened before somebody waits
AT_ONCE = [*LASTING, Meeting]  # who waits is woken in the turn in which it is brought about
KINDS = [*AT_ONCE, Joining, Sleeping]


def chooser(log, *calls):
    """Wait for one of several things; log what came of it and when."""
    try:
        log.append((yield select(*calls)))
    except (Cancelled, Exception) as error:
        log.append(error)
        raise
    finally:
        log.append((yield Now()))


def calls_of(things, victims):
    """Prepare things; return their calls. The tasks that are joined go to `victims`."""
    calls = []
    for thing in things:
        prepared = yield thing.prepare()
        calls.append(thing.call(prepared))
        if isinstance(thing, Joining):
            victims.append(prepared)
    return calls


def left(kernel, victims=()):
    """Return what services hold of tasks that wait, these aside."""
    timers, joiners = kernel.service(Timers), kernel.service(Family).joiners
    waiting = [task for task in kernel.service(Primitives).tasks() if task not in victims]
    return [*timers.alive(), *joiners, *waiting]


def ended(task):
    """Wait for the end of a task, however it ends; return what it raised."""
    try:
        yield Join(task)
    except Exception as error:
        return error


def result_of(seconds, result):
    """Sleep, then return a result, or raise it."""
    yield Sleep(seconds)
    if isinstance(result, Exception):
        raise result
    return result


# Exactly one.


@pytest.mark.parametrize("winning", KINDS)
@pytest.mark.parametrize("losing", KINDS)
def test_one_thing_happens_and_the_other_is_not_waited_for_any_more(winning, losing):
    winner, loser, log, victims = winning(), losing(), [], []

    def main():
        kernel = (yield CurrentTask()).kernel
        calls = yield from calls_of([loser, winner], victims)
        task = yield Spawn(chooser(log, *calls))
        yield
        assert task.state == "parked" and left(kernel, victims)
        winner.happen()
        yield Join(task)
        assert left(kernel, victims) == []
        loser.happen()
        yield Sleep(9)
        assert loser.unused()

    run(main())
    number, value = log[0]
    assert number == (0 if winning is losing is Sleeping else 1)
    assert winner.is_answer(value) and log[1] == (1 if winning is Sleeping else 0)


@pytest.mark.parametrize("first", LASTING)
@pytest.mark.parametrize("second", AT_ONCE)
def test_of_what_can_be_done_at_once_the_first_is_done_and_nothing_else(first, second):
    never, one, other = things = Getting(), first(), second()

    def main():
        calls = yield from calls_of(things, [])
        one.happen()
        other.happen()
        number, value = yield select(*calls)
        assert number == 1 and one.is_answer(value)
        assert other.unused() and not list(never.queue.waiting())
        return (yield Now())

    assert run(main()) == 0


@pytest.mark.parametrize("first", AT_ONCE)
@pytest.mark.parametrize("second", AT_ONCE)
def test_of_what_happens_in_the_same_turn_the_first_is_done_and_the_other_stays(first, second):
    one, other, log = first(), second(), []

    def main():
        calls = yield from calls_of([other, one], [])
        task = yield Spawn(chooser(log, *calls))
        yield
        one.happen()
        other.happen()
        assert other.unused()
        yield Join(task)

    run(main())
    assert log[0][0] == 1 and one.is_answer(log[0][1])


def test_of_two_items_in_one_turn_the_second_stays_in_its_queue():
    queue, log = Queue(), []

    def main():
        task = yield Spawn(chooser(log, queue.get(), Sleep(5), queue.get()))
        yield
        queue.put_nowait("a")
        queue.put_nowait("b")
        assert queue.qsize() == 1
        yield Join(task)
        return queue.get_nowait()

    assert run(main()) == "b" and log == [(0, "a"), 0]


def test_of_two_times_that_have_come_the_first_is_told():
    log = []

    def main():
        yield Spawn(chooser(log, SleepUntil(1), Sleep(1)))
        yield Spawn(chooser(log, Sleep(float("inf")), Sleep(1), SleepUntil(1)))
        yield Spawn(chooser(log, Sleep(1), Sleep(0), SleepUntil(-5)))
        yield Sleep(2)
        return left((yield CurrentTask()).kernel)

    assert run(main()) == [] and log == [(1, None), 0, (0, None), (1, None), 1, 1]


@pytest.mark.parametrize("kind", [*AT_ONCE, Joining, Sleeping])
def test_the_same_thing_twice_happens_once(kind):
    thing, log, victims = kind(), [], []

    def main():
        kernel = (yield CurrentTask()).kernel
        (call,) = yield from calls_of([thing], victims)
        task = yield Spawn(chooser(log, call, call))
        yield
        thing.happen()
        yield Join(task)
        assert left(kernel, victims) == []

    run(main())
    assert log[0][0] == 0 and thing.is_answer(log[0][1])


def test_a_task_does_not_meet_itself_in_a_queue():
    queue, log = Queue(0), []

    def main():
        first = yield Spawn(chooser(log, queue.put("mine"), queue.get()))
        yield Sleep(1)
        assert first.state == "parked"
        yield queue.put("another's")
        second = yield Spawn(chooser(log, queue.get(), queue.put("mine")))
        yield
        assert (yield queue.get()) == "mine"
        yield Join(second)
        return repr(queue)

    assert run(main()) == "<Queue #1: 0 of 0 items, 0 getting, 0 putting>"
    assert log == [(1, "another's"), 1, (1, None), 1]


# Joins.


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_task_that_has_ended_or_ends_is_one_of_the_things(seconds):
    error = ValueError("v")

    def main():
        for result in "returned", error:
            task = yield Spawn(result_of(seconds, result), keep=True)
            if not seconds:
                yield Sleep(1)
            try:
                assert (yield select(Sleep(9), Join(task))) == (1, "returned")
            except ValueError as raised:
                assert raised is error
        cancelled = yield Spawn(result_of(5, None), "victim")
        yield Cancel(cancelled)
        with pytest.raises(TaskCancelled, match="task 'victim' was cancelled"):
            yield select(Join(cancelled), Sleep(9))
        return (yield Now()), left((yield CurrentTask()).kernel)

    assert run(main()) == (2, [])  # and no failure is reported a second time


def test_a_join_that_would_be_for_ever_is_refused_among_others_too():
    queue = Queue()

    def main():
        me = yield CurrentTask()
        with pytest.raises(SyscallError, match="task 'main' joined itself"):
            yield select(queue.get(), Join(me))
        return list(queue.waiting())

    assert run(main()) == []


# Closed.


def test_a_closed_queue_is_an_error_if_nothing_before_it_can_be_done():
    closed, queue = Queue(name="closed"), Queue()
    closed.close()
    queue.put_nowait("a")

    def main():
        assert (yield select(queue.get(), closed.get())) == (0, "a")
        for call in closed.get(), closed.put("b"):
            with pytest.raises(ClosedError, match="queue closed is closed"):
                yield select(queue.get(), call)
        queue.put_nowait("b")
        with pytest.raises(ClosedError):
            yield select(closed.get(), queue.get())
        return queue.get_nowait()

    assert run(main()) == "b"


def test_a_queue_that_is_closed_ends_the_wait_for_all():
    queues, log = [Queue(), Queue(0), Queue()], []

    def main():
        one, two, three = queues
        task = yield Spawn(chooser(log, one.get(), two.put("a"), three.get(), two.put("b")), keep=True)
        yield
        two.close()
        three.close()
        error = yield from ended(task)
        return type(error), left((yield CurrentTask()).kernel)

    assert run(main()) == (ClosedError, []) and type(log[0]) is ClosedError


# Cancellation.


def test_a_select_that_is_cancelled_has_done_nothing():
    things, log, victims = [kind() for kind in KINDS], [], []

    def main():
        kernel = (yield CurrentTask()).kernel
        calls = yield from calls_of(things, victims)
        task = yield Spawn(chooser(log, *calls))
        yield
        kernel.cancel(task)
        assert left(kernel, victims) == []
        for thing in things:
            thing.happen()
        assert isinstance((yield from ended(task)), TaskCancelled)
        assert all(thing.unused() for thing in things)

    run(main())
    assert type(log[0]) is Cancelled


@pytest.mark.parametrize("kind", AT_ONCE)
def test_what_has_happened_in_the_turn_of_the_cancellation_has_happened(kind):
    thing, log = kind(), []

    def main():
        calls = yield from calls_of([Getting(), thing, Sleeping()], [])
        task = yield Spawn(chooser(log, *calls))
        yield
        thing.happen()
        task.kernel.cancel(task)
        yield from ended(task)

    run(main())
    assert log[0][0] == 1 and thing.is_answer(log[0][1])


def test_a_deadline_that_comes_first_in_its_turn_ends_a_select():
    queue = Queue()

    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield select(Sleep(1), queue.get())
        assert scope.cancelled
        with (yield MoveOnAfter(1)) as scope:
            answer = yield select(Sleep(0.5), queue.get())
        return answer, scope.cancelled, left((yield CurrentTask()).kernel)

    assert run(main()) == ((0, None), False, [])


def several():
    queue, event = Queue(), Event()
    return select(event.wait(), queue.get(), Sleep(100)), lambda: queue.put_nowait("item")


def several_that_time_ends():
    lock = Lock()
    yield Spawn(holder(lock))
    return select(Queue().get(), Queue(0).put("item"), Semaphore(0).acquire(), lock.acquire(), Sleep(50), Sleep(60))


def holder(lock):
    with (yield lock.acquire()):
        yield Sleep(10)


@pytest.mark.parametrize("make", [several, several_that_time_ends, lambda: select(Sleep(1))])
def test_select_passes_the_battery(make):
    check_syscall(make)


# What is refused, and what is said.


@pytest.mark.parametrize("thing", [Now(), 7, None, Queue()])
def test_what_can_not_be_one_of_several_is_refused_before_anything_happens(thing):
    queue = Queue()
    queue.put_nowait("a")

    def main():
        with pytest.raises(SyscallError, match=r"select takes calls like queue.get\(\), Sleep\(1\) or Join\(task\), n"):
            yield select(queue.get(), thing)
        return queue.get_nowait()

    assert run(main()) == "a"


def test_a_select_of_nothing_is_refused():
    def main():
        with pytest.raises(SyscallError, match="select needs one call or more to wait for"):
            yield select()

    run(main())


class Refusing(Selectable):
    """A call that can't be waited for."""

    __slots__ = ()

    def attempt(self, kernel, task):
        return NOT_YET

    def enlist(self, kernel, waiter):
        raise OSError("no more")


def test_when_one_thing_can_not_be_waited_for_none_is():
    queue, barrier = Queue(), Barrier(3)

    def main():
        kernel = (yield CurrentTask()).kernel
        with pytest.raises(OSError, match="no more"):
            yield select(queue.get(), Sleep(5), Refusing())
        assert left(kernel) == []
        with pytest.raises(SyscallError, match="is to wait twice"):
            yield select(queue.get(), barrier.wait(), barrier.wait())
        assert left(kernel) == []
        queue.put_nowait("a")
        return (yield select(queue.get(), Sleep(5)))

    assert run(main()) == (0, "a")


def test_two_tasks_may_yield_the_same_select():
    queue, log = Queue(), []
    call = select(queue.get(), Sleep(1))

    def waiting():
        log.append((yield call))

    def main():
        yield Spawn(waiting())
        yield Spawn(waiting())
        yield
        assert repr(call) == "select(Get(<Queue #1: 0 of inf items, 2 getting, 0 putting>), Sleep(1))"
        queue.put_nowait("a")

    run(main())
    assert log == [(0, "a"), (1, None)]


def test_who_is_waited_for_is_known_if_it_is_the_same_for_all():
    lock, blockers = Lock(), []

    def main():
        task = yield Spawn(holder(lock))
        other = yield Spawn(result_of(1, None))
        yield
        for calls in [Join(task)], [Join(task), lock.acquire()], [Join(task), Join(other)], [Join(task), Sleep(1)]:
            blockers.append([blocker.name for blocker in select(*calls).blockers()])

    run(main())
    assert blockers == [["holder"], ["holder"], [], []]


def test_a_cycle_through_a_select_is_reported():
    def one(box):
        yield Sleep(1)
        yield select(Join(box[0]))

    def main():
        box = []
        task = yield Spawn(one(box), "one")
        box.append((yield Spawn(other(task), "other")))

    def other(task):
        yield Join(task)

    with pytest.raises(Deadlock, match=r"waits in select\(Join\(other\)\)[\s\S]*a cycle: .*one -> .*other -> .*one"):
        run(main())


def test_nothing_of_a_select_is_left_to_the_collector():
    queue = Queue()

    def main():
        task = yield Spawn(chooser([], queue.get(), Sleep(100)), keep=True)
        yield
        yield Cancel(task)
        yield from ended(task)
        for _ in range(3):
            yield select(Sleep(1), queue.get())

    gc.collect()
    gc.disable()
    try:
        run(main())
        assert not [thing for thing in gc.get_objects() if type(thing) is Choice]
    finally:
        gc.enable()


# Primitives.


def test_a_primitive_that_another_run_has_taken_over_is_not_this_runs_any_more():
    event, seen = Event(), []

    def main():
        with (yield MoveOnAfter(1)):
            yield event.wait()
        kernel = (yield CurrentTask()).kernel
        seen.append(in_thread(lambda: run(other(kernel))))

    def other(kernel):
        yield Spawn(waiting())
        yield
        tasks = list(kernel.service(Primitives).tasks()), list((yield CurrentTask()).kernel.service(Primitives).tasks())
        event.set()
        return [[task.name for task in waiting] for waiting in tasks]

    def waiting():
        yield event.wait()

    run(main())
    assert seen == [[[], ["waiting"]]]


def test_the_end_of_a_run_that_lost_a_primitive_to_another_leaves_it_alone():
    event, log = Event(), []

    def first():
        with (yield MoveOnAfter(1)):
            yield event.wait()
        log.append(in_thread(lambda: run(second())))

    def second():
        yield Spawn(waiting())
        yield
        event.set()

    def waiting():
        yield event.wait()
        log.append("woken")

    run(first())
    assert log == ["woken", None] and event.kernel is None


def test_only_the_threads_other_than_the_runs_are_refused():
    def main():
        primitives = (yield CurrentTask()).kernel.service(Primitives)
        primitives.check_thread("cancel", "a thing")
        error = in_thread(primitives.check_thread, "cancel", "a thing")
        assert isinstance(error, SyscallError) and str(error).startswith("cancel of 'a thing' in another thread than")

    run(main())


def test_a_primitive_says_what_it_is():
    assert repr(Primitive()) == "<Primitive unused: 0 waiting>"
    assert repr(Primitive("own")) == "<Primitive own: 0 waiting>"


def test_a_timeout_of_a_select_is_told_as_any_other():
    def main():
        with pytest.raises(TimeoutError, match="1 s are over"):
            with (yield Timeout(1)):
                yield select(Queue().get(), Event().wait())

    run(main())


add_async_forms(globals())
