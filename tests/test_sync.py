"""Events, semaphores and barriers; each test in generator and in `async def` form."""

from __future__ import annotations

import pytest
from forms import add_async_forms, in_thread

from minisched import (
    Barrier,
    Cancel,
    Deadlock,
    Event,
    Join,
    Lock,
    MoveOnAfter,
    Now,
    Queue,
    Semaphore,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    Watcher,
    select,
    sync,
)
from minisched.testing import check_syscall, run


def logged(call, log, name):
    """Yield a call, log the answer."""
    answer = yield call
    log.append((name, answer))


def holder(semaphore, log, name, seconds=0.0):
    """Have a permit for a while."""
    with (yield semaphore.acquire()):
        log.append(name)
        yield Sleep(seconds)


def ended(task):
    """Wait for the end of a task, however it ends."""
    try:
        yield Join(task)
    except TaskCancelled:
        pass


def test_locks_and_conditions_are_found_here_too():
    assert sync.Lock is Lock and sync.Condition.__module__ == "minisched.locks"


# Events.


def test_set_lets_all_go_on_in_the_order_of_their_coming():
    event, log = Event(), []

    def main():
        tasks = []
        for name in "abc":
            tasks.append((yield Spawn(logged(event.wait(), log, name))))
        yield Sleep(1)
        assert (event.is_set(), log, repr(event)) == (False, [], "<Event #1: 3 waiting>")
        event.set()
        for task in tasks:
            yield Join(task)
        assert (event.is_set(), repr(event)) == (True, "<Event #1: set>")

    run(main())
    assert log == [("a", None), ("b", None), ("c", None)]


def test_who_comes_after_the_event_does_not_wait_until_it_is_cleared():
    event = Event()

    def main():
        event.set()
        event.set()
        yield event.wait()
        assert (yield Now()) == 0
        event.clear()
        with (yield MoveOnAfter(1)) as scope:
            yield event.wait()
        return scope.cancelled, event.is_set()

    assert run(main()) == (True, False)


def test_an_event_that_is_set_and_cleared_in_one_turn_has_woken_who_waited():
    event, log = Event(), []

    def main():
        yield Spawn(logged(event.wait(), log, "before"))
        yield
        event.set()
        event.clear()
        yield Spawn(logged(event.wait(), log, "after"), daemon=True)
        yield Sleep(1)

    run(main())
    assert log == [("before", None)]


def test_an_event_may_be_set_before_any_run_from_any_thread():
    event = Event("go")
    assert in_thread(event.set) is None and event.is_set() and repr(event) == "<Event go: set>"

    def main():
        yield event.wait()
        return "went"

    assert run(main()) == "went"
    assert in_thread(event.clear) is None  # and after it
    assert repr(event) == "<Event go: 0 waiting>" and repr(Event()) == "<Event unused: 0 waiting>"


def test_a_cancelled_waiter_is_forgotten_by_the_event():
    event, log = Event(), []

    def main():
        tasks = []
        for name in "ab":
            tasks.append((yield Spawn(logged(event.wait(), log, name))))
        yield
        yield Cancel(tasks[0])
        assert repr(event) == "<Event #1: 1 waiting>"
        event.set()
        yield from ended(tasks[0])

    run(main())
    assert log == [("b", None)]


def test_an_event_that_is_never_set_is_a_deadlock_and_can_be_used_again():
    event = Event()

    def main():
        yield event.wait()

    with pytest.raises(Deadlock, match="EventWait"):
        run(main())
    event.set()
    run(main())


# Semaphores.


class MostAtOnce(Watcher):
    """Looks at each turn how many permits are out."""

    def __init__(self, inside):
        self.inside = inside
        self.most = 0

    def turn(self, task):
        self.most = max(self.most, len(self.inside))


def test_a_semaphore_never_grants_more_than_it_has_and_in_the_order_of_asking():
    semaphore, log, inside = Semaphore(2), [], []

    def worker(number):
        with (yield semaphore.acquire()):
            inside.append(number)
            log.append(number)
            yield Sleep(1 + number % 3)
            inside.remove(number)

    def main():
        for number in range(10):
            yield Spawn(worker(number))

    most = MostAtOnce(inside)
    run(main(), watch=[most])
    assert (most.most, semaphore.value, log) == (2, 2, list(range(10)))


def test_a_permit_goes_straight_to_the_first_who_waits_and_nobody_jumps_the_queue():
    semaphore, log = Semaphore(1), []

    def main():
        with (yield semaphore.acquire()):
            yield Spawn(holder(semaphore, log, "waiter"))
            yield
        assert repr(semaphore) == "<Semaphore #1: 0 waiting>"  # it is taken already
        yield from holder(semaphore, log, "main")

    run(main())
    assert log == ["waiter", "main"] and repr(semaphore) == "<Semaphore #1: 1 permits>"


def test_a_semaphore_of_nothing_waits_for_the_first_release_by_anybody():
    semaphore, log = Semaphore(0), []

    def main():
        task = yield Spawn(holder(semaphore, log, "a", seconds=1))
        yield
        assert repr(semaphore) == "<Semaphore #1: 1 waiting>"
        semaphore.release()
        semaphore.release()
        assert semaphore.value == 1
        yield Join(task)

    run(main())
    assert log == ["a"] and semaphore.value == 2


@pytest.mark.parametrize("maximum", [1, 2])
def test_a_semaphore_with_a_maximum_is_not_released_above_it(maximum):
    semaphore = Semaphore(1, maximum, "seats")

    def main():
        with (yield semaphore.acquire()):
            pass
        for _ in range(maximum - 1):
            semaphore.release()
        with pytest.raises(SyscallError, match=rf"<Semaphore seats: {maximum} permits> was released more often than"):
            semaphore.release()
        return semaphore.value

    assert run(main()) == maximum


@pytest.mark.parametrize(("value", "maximum"), [(-1, None), (2, 1), (float("nan"), None), (1, float("nan"))])
def test_a_semaphore_starts_with_0_permits_up_to_its_maximum(value, maximum):
    with pytest.raises(ValueError, match=rf"starts with 0 permits or more, up to its maximum, not {value!r}"):
        Semaphore(value, maximum)


def test_a_part_of_a_permit_is_none():
    semaphore = Semaphore(1.5)

    def main():
        yield semaphore.acquire()
        with (yield MoveOnAfter(1)) as scope:
            yield semaphore.acquire()
        return scope.cancelled

    assert run(main()) is True


def test_a_permit_is_given_back_once_whether_its_block_fails_or_not():
    semaphore = Semaphore(1)

    def main():
        permit = yield semaphore.acquire()
        with pytest.raises(ValueError, match="v"), permit:
            raise ValueError("v")
        with pytest.raises(SyscallError, match=r"a permit of <Semaphore #1: 1 permits> is used in one `with`: acq"):
            with permit:
                pytest.fail("it has been given back")
        with (yield semaphore.acquire()) as permit:
            with pytest.raises(SyscallError, match="is used in one `with`"), permit:
                pytest.fail("it is in use")
        return semaphore.value

    assert run(main()) == 1


def test_async_with_has_a_permit_and_gives_it_back_on_an_error_too():
    semaphore, log = Semaphore(1), []

    async def worker(name):
        async with semaphore:
            log.append(name)
            await Sleep(1)
            raise ValueError(name)

    async def main():
        tasks = [await Spawn(worker(name), keep=True) for name in "ab"]
        for task in tasks:
            with pytest.raises(ValueError, match=r"[ab]"):
                await Join(task)
            log.append(await Now())

    run(main())
    assert log == ["a", "b", 1, 2] and semaphore.value == 1


@pytest.mark.parametrize("first", ["release", "cancel"])
def test_no_permit_is_lost_when_it_comes_in_the_turn_of_a_cancellation(first):
    semaphore, log = Semaphore(0), []

    def main():
        task = yield Spawn(holder(semaphore, log, "a", seconds=9))
        yield
        if first == "release":
            semaphore.release()
        task.kernel.cancel(task)
        if first == "cancel":
            semaphore.release()
        yield from ended(task)
        return semaphore.value, (yield Now())

    assert run(main()) == (1, 0)
    assert log == (["a"] if first == "release" else [])


def test_a_cancelled_waiter_does_not_hold_up_those_behind_it():
    semaphore, log = Semaphore(0), []

    def main():
        tasks = []
        for name in "abc":
            tasks.append((yield Spawn(holder(semaphore, log, name))))
        yield
        yield Cancel(tasks[0])
        semaphore.release()
        yield from ended(tasks[0])

    run(main())
    assert log == ["b", "c"] and semaphore.value == 1


def test_a_task_that_waits_for_two_semaphores_takes_one_permit():
    one, two = Semaphore(0), Semaphore(0)

    def chooser():
        number, permit = yield select(one.acquire(), two.acquire(), two.acquire())
        with permit:
            yield
        return number

    def main():
        task = yield Spawn(chooser())
        yield
        two.release()
        one.release()
        return (yield Join(task)), one.value, two.value

    assert run(main()) == (1, 1, 1)


# Barriers.


def comer(barrier, log, name):
    log.append((name, (yield barrier.wait()), (yield Now())))


def test_a_barrier_opens_when_all_have_come_and_says_which_one_each_was():
    barrier, log = Barrier(3), []

    def main():
        for round_number in range(2):  # it can be used again and again
            for name in "ab":
                yield Spawn(comer(barrier, log, f"{name}{round_number}"))
            yield Sleep(1)
            assert repr(barrier) == "<Barrier #1: 2 of 3 waiting>"
            yield from comer(barrier, log, f"c{round_number}")

    run(main())
    assert log == [("a0", 0, 1), ("b0", 1, 1), ("c0", 2, 1), ("a1", 0, 2), ("b1", 1, 2), ("c1", 2, 2)]


def test_who_comes_again_in_the_turn_in_which_the_barrier_opens_waits_for_the_next_round():
    barrier, log = Barrier(2), []

    def runner(name):
        for _ in range(3):
            log.append(f"{name}{yield barrier.wait()}")

    def main():
        yield Spawn(runner("a"))
        yield Spawn(runner("b"))

    run(main())
    assert [sorted(log[number : number + 2]) for number in (0, 2, 4)] == [["a0", "b1"]] * 3


def test_a_barrier_for_one_is_open():
    barrier = Barrier(1)

    def main():
        return (yield barrier.wait()), (yield barrier.wait())

    assert run(main()) == (0, 0)


@pytest.mark.parametrize("parties", [0, -1])
def test_a_barrier_is_for_one_task_or_more(parties):
    with pytest.raises(ValueError, match=f"a barrier is for one task or more, not {parties}"):
        Barrier(parties)


def test_a_cancelled_waiter_has_not_come_to_the_barrier():
    barrier, log = Barrier(3, "start"), []

    def main():
        first = yield Spawn(comer(barrier, log, "a"))
        yield Spawn(comer(barrier, log, "b"))
        yield
        yield Cancel(first)
        yield from ended(first)
        yield Spawn(comer(barrier, log, "c"))
        yield Sleep(1)
        assert repr(barrier) == "<Barrier start: 2 of 3 waiting>"
        yield from comer(barrier, log, "d")

    run(main())
    assert log == [("b", 0, 1), ("c", 1, 1), ("d", 2, 1)]


def test_who_is_cancelled_in_the_turn_in_which_the_barrier_opens_has_come():
    barrier, log = Barrier(2), []

    def main():
        task = yield Spawn(comer(barrier, log, "a"))
        yield
        yield Spawn(comer(barrier, log, "b"))
        assert task.state == "ready"
        yield Cancel(task)
        yield from ended(task)

    run(main())
    assert log == [("a", 0, 0), ("b", 1, 0)]


def test_one_who_waits_for_other_things_too_comes_to_the_barrier_once():
    barrier = Barrier(3)

    def twice():
        with pytest.raises(SyscallError, match=r"task 'twice' is to wait twice at <Barrier #1: 1 of 3 .*comes once"):
            yield select(barrier.wait(), Sleep(5), barrier.wait())
        return repr(barrier)

    def chooser():
        return (yield select(Sleep(5), barrier.wait()))

    def main():
        assert (yield Join((yield Spawn(twice())))) == "<Barrier #1: 0 of 3 waiting>"
        tasks = []
        for _ in range(2):
            tasks.append((yield Spawn(chooser())))
        yield
        assert (yield barrier.wait()) == 2
        return (yield Join(tasks[0])), (yield Join(tasks[1])), (yield Now())

    assert run(main()) == ((1, 0), (1, 1), 0)


# All of them.


def waiting_at_an_event():
    event = Event()
    return event.wait(), event.set


def waiting_at_a_semaphore():
    semaphore = Semaphore(0)
    return semaphore.acquire(), semaphore.release


def waiting_at_a_barrier():
    barrier = Barrier(2)
    yield Spawn(coming_later(barrier), daemon=True)
    return barrier.wait()


def coming_later(barrier):
    yield Sleep(1)
    yield barrier.wait()


@pytest.mark.parametrize("make", [waiting_at_an_event, waiting_at_a_semaphore, waiting_at_a_barrier])
def test_each_wait_passes_the_battery(make):
    check_syscall(make)


def test_plain_calls_from_another_thread_are_refused_and_do_nothing():
    event, semaphore = Event(), Semaphore(0)
    calls = {"set": event.set, "clear": event.clear, "release": semaphore.release}

    def main():
        yield Spawn(logged(event.wait(), [], "a"))
        yield Spawn(logged(semaphore.acquire(), [], "b"))
        yield
        for verb, call in calls.items():
            error = in_thread(call)
            assert isinstance(error, SyscallError)
            assert str(error).startswith(f"{verb} of <") and "in another thread than its run's" in str(error)
        assert (event.is_set(), semaphore.value, repr(event)) == (False, 0, "<Event #1: 1 waiting>")
        event.set()
        semaphore.release()

    run(main())


@pytest.mark.parametrize(
    ("thing", "wait"), [(Event(), "wait"), (Semaphore(0), "acquire"), (Barrier(2), "wait"), (Queue(), "get")]
)
def test_what_another_run_waits_at_is_refused_until_that_is_over(thing, wait):
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
        return scope.cancelled

    for _ in range(2):
        assert run(main()) is True
    assert repr(thing).startswith(f"<{type(thing).__name__} #1: ")


def test_each_has_the_number_among_its_kind_that_a_run_gave_it_or_its_name():
    def main():
        named = []
        for thing in Semaphore(1), Semaphore(1), Semaphore(1, name="seats"), Event(), Semaphore(1):
            yield thing.wait() if isinstance(thing, Event) and not thing.set() else thing.acquire()
            named.append(thing)
        return [thing.name for thing in named]

    assert run(main()) == ["#1", "#2", "seats", "#1", "#4"]


add_async_forms(globals())
