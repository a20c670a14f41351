"""Acts in explorations: cancellations and the order of equal deadlines, at random, exhaustively, and in a schedule."""

from __future__ import annotations

from functools import partial

import pytest
from corpus.reported import Victims
from test_exhaustive import PRIMITIVES

from minisched import (
    Deadlock,
    Event,
    Join,
    Lock,
    MoveOnAfter,
    Queue,
    Semaphore,
    Shield,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    TimedOut,
    Timeout,
    gather,
    group,
    race,
    select,
)
from minisched.kernel import Syscall
from minisched.lab import BadCheckpoint, BadSchedule, Shared, explore
from minisched.lab.explore.acts import CANCEL, TIMER
from minisched.lab.explore.exhaustive import ALL, RACES, Search
from minisched.lab.explore.tracking import tracked
from minisched.tasks.timers import Timers

# Programs: `wrong` fails with some act only, `right` with none.


def deadline_first(*, right):
    """A result and a timeout at the same instant: the wrong one takes it for granted that the timeout wins."""

    def main():
        try:
            with (yield Timeout(1)):
                yield Sleep(1)
        except TimedOut:
            return "timed out"
        assert right, "the sleep was over first"
        return "in time"

    return main()


def item_in_hand(*, right):
    """The wrong one is cancelled with an item in its hand."""
    queue, received = Queue(), []
    queue.put_nowait("item")

    def main():
        item = yield queue.get()
        if not right:
            yield
        received.append(item)

    def check():
        assert [*received, *queue.items] == ["item"], "the item was lost"

    return main(), check


def permit_kept(*, right):
    """The wrong one does not give its permit back when it is cancelled while it sleeps."""
    permits = Semaphore(1)

    def work():
        yield permits.acquire()
        try:
            yield Sleep(1)
        finally:
            if right:
                permits.release()
        if not right:
            permits.release()

    def main():
        yield from gather(work(), work())

    def check():
        assert permits.value == 1, "a permit is lost"

    return main(), check


def half_an_update(*, right):
    """The wrong one leaves two accounts out of balance when it is cancelled between the two steps."""
    accounts, lock = Shared(a=10, b=0), Lock()

    def move(amount):
        with (yield lock.acquire()):
            accounts.a -= amount
            if not right:
                yield
            accounts.b += amount

    def main():
        yield from gather(move(3), move(4))

    def check():
        assert accounts.a + accounts.b == 10, "money is lost"

    return main(), check


PROGRAMS = {
    deadline_first: {"deadlines": True},
    item_in_hand: {"cancellations": True},
    permit_kept: {"cancellations": True},
    half_an_update: {"cancellations": True},
}
ASKED = pytest.mark.parametrize(("program", "asked"), PROGRAMS.items(), ids=[program.__name__ for program in PROGRAMS])


@ASKED
def test_without_acts_no_order_of_turns_fails(program, asked):
    result = explore(partial(program, right=False), exhaustive=True)
    assert result.exhausted and result.schedule is None


@ASKED
@pytest.mark.parametrize("exhaustive", [False, True], ids=["portfolio", "exhaustive"])
def test_an_act_that_fails_is_found_shrunk_and_run_again(program, asked, exhaustive):
    result = explore(partial(program, right=False), exhaustive=exhaustive, **asked)
    assert type(result.error) is AssertionError
    word, *differences = result.schedule.split()
    assert word == "rr" and len(differences) == 1 and "!" in differences[0]
    again = explore(partial(program, right=False), schedule=result.schedule)
    assert str(again.error) == str(result.error) and again.schedule == result.schedule
    assert explore(partial(program, right=True), schedule=result.schedule).schedule is None
    assert f"schedule: {result.schedule}" in str(result)
    assert ("x" in "".join(result.lanes())) or "deadlines" in asked


@ASKED
def test_the_right_program_is_exhausted(program, asked):
    result = explore(partial(program, right=True), exhaustive=True, **asked)
    assert result.exhausted and result.schedule is None, result
    assert explore(partial(program, right=True), runs=300, **asked).schedule is None


class Doze(Syscall):
    """Sleep for a second, and log how the wait ends."""

    def __init__(self, log):
        self.log = log

    def handle(self, kernel, task):
        timer = kernel.service(Timers).wake_at(1, task)
        kernel.park(task, undo=lambda: (timer.cancel(), self.log.append("undone")))


def test_a_task_is_cancelled_before_its_first_turn_between_turns_and_in_its_wait():
    logs = set()

    def program():
        log = []

        def main():
            log.append("begin")
            yield
            log.append("first")
            yield Doze(log)
            log.append("dozed")
            yield

        return main(), lambda: logs.add(tuple(log))

    assert explore(program, exhaustive=True, cancellations=True).exhausted
    assert logs == {
        ("begin",),
        ("begin", "first"),
        ("begin", "first", "undone"),
        ("begin", "first", "dozed"),
    }


def test_one_task_is_cancelled_at_most_and_each_one_in_some_run():
    cancelled = []

    def program():
        cancelled.append([])

        def work(name):
            try:
                yield Sleep(1)
            except BaseException:
                cancelled[-1].append(name)
                raise

        def main():
            yield Spawn(work("first"), keep=True)
            yield Spawn(work("second"), keep=True)
            yield Sleep(2)

        return main()

    assert explore(program, exhaustive=True, cancellations=True).exhausted
    found = {tuple(sorted(names)) for names in cancelled}
    assert found == {(), ("first",), ("second",), ("first", "second")}  # both, if main is cancelled


def test_each_of_several_timers_fires_first_in_some_run():
    found = set()

    def program():
        slept = {}

        def work(name):
            with (yield MoveOnAfter(1)) as scope:
                yield Sleep(1)
            slept[name] = not scope.cancelled_caught

        def main():
            yield from gather(work("a"), work("b"))
            found.add((slept["a"], slept["b"]))

        return main()

    assert explore(program, exhaustive=True, deadlines=True).exhausted
    assert found == {(False, False), (False, True), (True, False), (True, True)}


def test_sleeping_tasks_have_no_order_of_deadlines():
    def naps():
        yield Sleep(1)

    def main():
        yield from gather(naps(), naps(), naps())

    asked = explore(main, exhaustive=True, deadlines=True)
    assert asked.exhausted and asked.runs == explore(main, exhaustive=True).runs


# The reduction of cancellations: the same outcomes as without any reduction.


class Unreduced(Search):
    """A search that tries each cancellation at each point."""

    def __init__(self, kinds):
        super().__init__(ALL, kinds)

    def _outcomes(self, kind, labels):
        return [*range(len(labels))]


def outcomes(search, program):
    """Return the logs of all runs of a search."""
    found, more = set(), True
    with tracked():
        while more:
            log = []
            outcome = search.run(partial(program, log))
            if outcome is not None:
                found.add((*log, type(outcome.error).__name__))
            more = search.advance()
    return found


def waits_in_a_lock(log):
    lock = Lock()

    def work(name):
        try:
            with (yield lock.acquire()):
                yield
                log.append(name)
        finally:
            log.append(f"end of {name}")

    yield from gather(work("a"), work("b"))


def waits_for_an_item(log):
    queue = Queue()

    def consume():
        log.append((yield queue.get()))

    def produce():
        yield queue.put("item")
        log.append(queue.qsize())

    yield from gather(consume(), produce())


def has_a_shield(log):
    def work():
        with (yield Shield()):
            yield
            log.append("shielded")
        yield
        log.append("after")

    def main(team):
        yield team.spawn(work())
        yield
        log.append("main")

    yield from group(main)


def selects(log):
    event, queue = Event(), Queue()

    def work():
        log.append((yield from select(event.wait(), queue.get()))[0])

    def sets():
        queue.put_nowait(1)
        yield
        event.set()

    yield from gather(work(), sets())


def races(log):
    def work(name, turns):
        for _ in range(turns):
            yield
        log.append(name)
        return name

    log.append((yield from race(work("a", 1), work("b", 2))))


def sleeps(log):
    def work():
        with (yield MoveOnAfter(1)) as scope:
            yield Sleep(1)
            log.append("slept")
        log.append(scope.cancelled_caught)

    yield Spawn(work(), keep=True)
    yield Sleep(1)
    log.append("main")


@pytest.mark.parametrize("program", [waits_in_a_lock, waits_for_an_item, has_a_shield, selects, races, sleeps])
@pytest.mark.parametrize("kinds", [[CANCEL], [CANCEL, TIMER]], ids="+".join)
def test_the_reduction_loses_no_outcome(program, kinds):
    reduced, all_runs = Search(RACES, kinds), Unreduced(kinds)
    assert outcomes(reduced, program) == outcomes(all_runs, program)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_each_primitive_of_the_package_is_right_with_a_cancellation_at_any_point(name):
    def program():
        first, second, right = PRIMITIVES[name]()

        def main():
            tasks = yield Victims(first, second)
            for task in tasks:
                try:
                    yield Join(task)
                except TaskCancelled:
                    pass

        def check():
            assert right() or waits_for_the_second

        return main(), check

    waits_for_the_second = name in ("Condition", "select")  # a first task waits for its second one for ever
    expected = (Deadlock,) if waits_for_the_second else ()
    large = name in ("gather", "group", "race")  # of more than two tasks, which takes over 20,000 runs
    asked = {"cancellations": True, "deadlines": True, "runs": 1000 if large else None}
    result = explore(program, exhaustive=True, expected=expected, **asked)
    assert (result.schedule, result.exhausted) == (None, not large), result
    assert "exhaustive, with a cancellation and any order of equal deadlines)" in str(result)


# Schedules and checkpoints.


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ("rr 1!", "'1!' in the schedule is not of the form TURN:PATH or TURN!ACT"),
        ("rr 1!explode-0", "'1!explode-0' in the schedule is not of the form"),
        ("rr 1.x!cancel-0", "'1.x!cancel-0' in the schedule is not of the form"),
        ("rr 1!cancel-0.7", "the schedule has cancel-0.7 after turn 1, and there are -, cancel-0"),
        ("rr 99!cancel-0", "the schedule has cancel-0 after turn 99, and the program has no such choice there"),
        ("rr 1.4!timer-1", "the schedule has timer-1 after turn 1, and the program has no such choice there"),
    ],
)
def test_an_act_that_does_not_fit_is_refused(schedule, text):
    with pytest.raises(BadSchedule) as raised:
        explore(partial(deadline_first, right=True), schedule=schedule)
    assert text in str(raised.value)


def test_a_checkpoint_goes_on_with_its_acts(tmp_path):
    program = partial(half_an_update, right=True)
    whole = explore(program, exhaustive=True, cancellations=True)
    file, parts = tmp_path / "state.json", 0
    while True:
        result = explore(program, exhaustive=True, cancellations=True, checkpoint=file, runs=whole.runs // 7 + 1)
        parts += 1
        if result.exhausted:
            break
        with pytest.raises(BadCheckpoint, match="the acts there are"):
            explore(program, exhaustive=True, checkpoint=file)
    assert parts > 5 and (result.runs, result.cut_short) == (whole.runs, whole.cut_short)


def test_a_run_with_acts_is_the_same_twice():
    result = explore(partial(permit_kept, right=True), runs=60, twice=True, cancellations=True, deadlines=True)
    assert result.schedule is None


@pytest.mark.parametrize("asked", [{"deadlines": True}, {"cancellations": True, "deadlines": True}])
def test_acts_that_differ_from_run_to_run_are_refused_whatever_the_program_may_raise(asked):
    runs = []

    def main():
        runs.append(1)
        with (yield MoveOnAfter(1)):
            if len(runs) > 1:  # one timer more
                with (yield MoveOnAfter(1)):
                    yield Sleep(1)
            else:
                yield
                yield Sleep(1)

    with pytest.raises(SyscallError, match="the program is not the same in each run"):
        explore(main, exhaustive=True, expected=(SyscallError,), **asked)
