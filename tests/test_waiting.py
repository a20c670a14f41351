"""Tests of select: exactly one of several calls happens. Each test runs as a generator and as an `async def`."""

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
    CancelScope,
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
    resume,
    select,
)
from minisched.kernel.lifecycle import Lifecycle
from minisched.kernel.primitive import Primitives, check_caller
from minisched.kernel.waiting import NOT_YET
from minisched.tasks.select_calls import SelectWait
from minisched.testing import check_syscall, run


class Getting:
    """A call to wait for, how to make it possible, and whether it is still unused; here a get of a queue."""

    answer = "item"

    def __init__(self):
        self.queue = Queue()

    def prepare(self):
        """Return a syscall that main yields first."""
        return Pause()

    def call(self, prepared):
        """Return the call that waits; `prepared` is the answer to the syscall of `prepare`."""
        return self.queue.get()

    def happen(self):
        self.queue.put_nowait("item")

    def is_answer(self, value):
        return value == self.answer

    def unused(self):
        """Return whether the call became possible, and no task has made it."""
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
        """Do nothing: the time passes by itself."""

    def unused(self):
        return True


LASTING = [Getting, Putting, Locking, Permitted, Happening, Hearing]  # these can be possible before a task waits
AT_ONCE = [*LASTING, Meeting]  # `happen` wakes the waiter at once
KINDS = [*AT_ONCE, Joining, Sleeping]


def chooser(log, *calls):
    """Yield a select; log its answer or error, and the time."""
    try:
        log.append((yield select(*calls)))
    except (Cancelled, Exception) as error:
        log.append(error)
        raise
    finally:
        log.append((yield Now()))


def calls_of(things, victims):
    """Prepare things; return their calls. Append the tasks to be joined to `victims`."""
    calls = []
    for thing in things:
        prepared = yield thing.prepare()
        calls.append(thing.call(prepared))
        if isinstance(thing, Joining):
            victims.append(prepared)
    return calls


def registered(kernel, victims=()):
    """Return the timers, joiners and waiting tasks that services hold, without the victims."""
    timers, joiners = kernel.service(Timers), kernel.service(Lifecycle).joiners
    waiting = [task for task in kernel.service(Primitives).tasks() if task not in victims]
    return [*timers.alive(), *joiners, *waiting]


def ended(task):
    """Wait for the end of a task; return its exception, or None."""
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
def test_one_call_happens_and_the_wait_for_the_other_is_undone(winning, losing):
    winner, loser, log, victims = winning(), losing(), [], []

    def main():
        kernel = (yield CurrentTask()).kernel
        calls = yield from calls_of([loser, winner], victims)
        task = yield Spawn(chooser(log, *calls))
        yield
        assert task.state == "parked" and registered(kernel, victims)
        winner.happen()
        yield Join(task)
        assert registered(kernel, victims) == []
        loser.happen()
        yield Sleep(9)
        assert loser.unused()

    run(main())
    number, value = log[0]
    assert number == (0 if winning is losing is Sleeping else 1)
    assert winner.is_answer(value) and log[1] == (1 if winning is Sleeping else 0)


@pytest.mark.parametrize("first", LASTING)
@pytest.mark.parametrize("second", AT_ONCE)
def test_of_several_calls_that_can_be_done_at_once_only_the_first_happens(first, second):
    never, winner, loser = things = Getting(), first(), second()

    def main():
        calls = yield from calls_of(things, [])
        winner.happen()
        loser.happen()
        number, value = yield select(*calls)
        assert number == 1 and winner.is_answer(value)
        assert loser.unused() and not list(never.queue.waiting())
        return (yield Now())

    assert run(main()) == 0


@pytest.mark.parametrize("first", AT_ONCE)
@pytest.mark.parametrize("second", AT_ONCE)
def test_of_two_calls_that_become_possible_in_the_same_turn_only_the_first_happens(first, second):
    winner, loser, log = first(), second(), []

    def main():
        calls = yield from calls_of([loser, winner], [])
        task = yield Spawn(chooser(log, *calls))
        yield
        winner.happen()
        loser.happen()
        assert loser.unused()
        yield Join(task)

    run(main())
    assert log[0][0] == 1 and winner.is_answer(log[0][1])


def test_of_two_items_in_the_same_turn_the_second_stays_in_the_queue():
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


def test_of_two_deadlines_at_the_same_time_the_first_call_happens():
    log = []

    def main():
        yield Spawn(chooser(log, SleepUntil(1), Sleep(1)))
        yield Spawn(chooser(log, Sleep(float("inf")), Sleep(1), SleepUntil(1)))
        yield Spawn(chooser(log, Sleep(1), Sleep(0), SleepUntil(-5)))
        yield Sleep(2)
        return registered((yield CurrentTask()).kernel)

    assert run(main()) == [] and log == [(1, None), 0, (0, None), (1, None), 1, 1]


@pytest.mark.parametrize("kind", [*AT_ONCE, Joining, Sleeping])
def test_a_select_of_the_same_call_twice_makes_it_once(kind):
    thing, log, victims = kind(), [], []

    def main():
        kernel = (yield CurrentTask()).kernel
        (call,) = yield from calls_of([thing], victims)
        task = yield Spawn(chooser(log, call, call))
        yield
        thing.happen()
        yield Join(task)
        assert registered(kernel, victims) == []

    run(main())
    assert log[0][0] == 0 and thing.is_answer(log[0][1])


def test_a_put_and_a_get_of_the_same_select_do_not_meet():
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
def test_a_join_in_a_select_happens_before_and_after_the_end_of_the_task(seconds):
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
        return (yield Now()), registered((yield CurrentTask()).kernel)

    assert run(main()) == (2, [])  # and no failure is reported a second time


def test_a_join_of_the_task_itself_is_refused_in_a_select():
    queue = Queue()

    def main():
        me = yield CurrentTask()
        with pytest.raises(SyscallError, match="task 'main' joined itself"):
            yield select(queue.get(), Join(me))
        return list(queue.waiting())

    assert run(main()) == []


# Closed.


def test_a_closed_queue_raises_if_no_earlier_call_can_be_done():
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


def test_closing_a_queue_ends_the_wait_for_all_calls():
    queues, log = [Queue(), Queue(0), Queue()], []

    def main():
        one, two, three = queues
        task = yield Spawn(chooser(log, one.get(), two.put("a"), three.get(), two.put("b")), keep=True)
        yield
        two.close()
        three.close()
        error = yield from ended(task)
        return type(error), registered((yield CurrentTask()).kernel)

    assert run(main()) == (ClosedError, []) and type(log[0]) is ClosedError


# Cancellation.


def test_of_a_cancelled_select_no_call_happens():
    things, log, victims = [kind() for kind in KINDS], [], []

    def main():
        kernel = (yield CurrentTask()).kernel
        calls = yield from calls_of(things, victims)
        task = yield Spawn(chooser(log, *calls))
        yield
        kernel.cancel(task)
        assert registered(kernel, victims) == []
        for thing in things:
            thing.happen()
        assert isinstance((yield from ended(task)), TaskCancelled)
        assert all(thing.unused() for thing in things)

    run(main())
    assert type(log[0]) is Cancelled


@pytest.mark.parametrize("kind", AT_ONCE)
def test_a_call_that_happened_in_the_turn_of_the_cancellation_returns_its_answer(kind):
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


def test_a_deadline_before_a_call_in_the_same_turn_ends_the_select():
    queue = Queue()

    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield select(Sleep(1), queue.get())
        assert scope.cancelled_caught
        with (yield MoveOnAfter(1)) as scope:
            answer = yield select(Sleep(0.5), queue.get())
        return answer, scope.cancelled_caught, registered((yield CurrentTask()).kernel)

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
def test_select_passes_the_conformance_test(make):
    check_syscall(make)


# Errors and texts.


@pytest.mark.parametrize("thing", [Now(), 7, None, Queue()])
def test_a_call_that_is_not_selectable_is_refused_before_any_call_happens(thing):
    queue = Queue()
    queue.put_nowait("a")

    def main():
        with pytest.raises(SyscallError, match=r"select takes calls like queue.get\(\), Sleep\(1\) or Join\(task\), n"):
            yield select(queue.get(), thing)
        return queue.get_nowait()

    assert run(main()) == "a"


def test_a_select_without_calls_is_refused():
    def main():
        with pytest.raises(SyscallError, match="select needs one call or more to wait for"):
            yield select()

    run(main())


class Refusing(Selectable):
    """A call that raises when a waiter is to be registered."""

    __slots__ = ()

    def try_now(self, kernel, task):
        return NOT_YET

    def add_waiter(self, kernel, waiter):
        raise OSError("no more")


def test_if_one_call_refuses_a_waiter_the_waits_for_the_others_are_undone():
    queue, barrier = Queue(), Barrier(3)

    def main():
        kernel = (yield CurrentTask()).kernel
        with pytest.raises(OSError, match="no more"):
            yield select(queue.get(), Sleep(5), Refusing())
        assert registered(kernel) == []
        with pytest.raises(SyscallError, match="waits twice"):
            yield select(queue.get(), barrier.wait(), barrier.wait())
        assert registered(kernel) == []
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


def test_a_select_names_its_blockers_if_they_are_the_same_for_all_calls():
    lock, blockers = Lock(), []

    def main():
        task = yield Spawn(holder(lock))
        other = yield Spawn(result_of(1, None))
        yield
        for calls in [Join(task)], [Join(task), lock.acquire()], [Join(task), Join(other)], [Join(task), Sleep(1)]:
            blockers.append([blocker.name for blocker in select(*calls).blockers()])

    run(main())
    assert blockers == [["holder"], ["holder"], [], []]


def test_the_deadlock_report_shows_a_cycle_through_a_select():
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


def test_a_select_leaves_no_garbage_for_the_garbage_collector():
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
        assert not [thing for thing in gc.get_objects() if type(thing) is SelectWait]
    finally:
        gc.enable()


# Primitives.


def test_a_primitive_that_another_run_uses_now_no_longer_belongs_to_this_run():
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


def test_the_end_of_a_run_does_not_affect_a_primitive_that_another_run_uses_now():
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


def test_a_call_is_refused_in_any_thread_but_the_runs():
    def main():
        kernel = (yield CurrentTask()).kernel
        check_caller(kernel, "cancel", "a thing")
        error = in_thread(check_caller, kernel, "cancel", "a thing")
        assert isinstance(error, SyscallError) and str(error).startswith("cancel of 'a thing' in another thread than")

    run(main())


def test_the_repr_of_a_primitive_has_its_name_and_state():
    assert repr(Primitive()) == "<Primitive unused: 0 waiting>"
    assert repr(Primitive("own")) == "<Primitive own: 0 waiting>"


def test_a_timeout_around_a_select_raises_timed_out():
    def main():
        with pytest.raises(TimeoutError, match="1 s have passed"):
            with (yield Timeout(1)):
                yield select(Queue().get(), Event().wait())

    run(main())


def test_a_call_that_wakes_its_task_at_once_has_nothing_to_undo():
    class AtOnce(Selectable):
        def try_now(self, kernel, task):
            return NOT_YET

        def add_waiter(self, kernel, waiter):
            resume(kernel, waiter, "answer")
            woken.append(waiter)
            return lambda: undone.append("undone")

    def main():
        with (yield CancelScope()) as scope:
            yield Spawn(canceller(scope))
            answers.append((yield AtOnce()))
            yield Event().wait()
        return scope.cancelled_caught

    def canceller(scope):
        while not woken:
            yield
        assert (woken[0].state, woken[0].undo) == ("ready", None)
        scope.cancel()

    woken, undone, answers = [], [], []
    assert run(main()) is True
    assert (undone, answers) == ([], ["answer"])


def test_not_yet_is_shown_by_its_name():
    assert f"{NOT_YET}" == "NOT_YET"


add_async_forms(globals())
