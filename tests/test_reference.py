"""Random programs: minisched runs them event by event as the reference does, and every cleanup runs.

The seed is printed; `MINISCHED_SEED=... pytest tests/test_reference.py` runs the same programs again.
"""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from math import inf
from pathlib import Path
from random import Random

import pytest
import reference
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.configuration import set_hypothesis_home_dir
from random_programs import LOCKS, Actor, Program, World, difference, listing, programs, smallest
from reference import Reference

from minisched import (
    Cancel,
    Cancelled,
    CancelScope,
    CurrentTask,
    Join,
    JoinAll,
    Lock,
    MoveOnAfter,
    Now,
    PriorityQueue,
    Queue,
    RLock,
    Shield,
    Sleep,
    Spawn,
    Timeout,
    Watcher,
    pace,
    testing,
)

FEW, MANY = 200, 5000  # programs; the rarest situation is in every 17th
MAX_PROGRAMS = 500  # until a wrong reference is found
SCOPES = {"move on": MoveOnAfter, "timeout": Timeout, "shield": Shield, "cancel": lambda _: CancelScope()}
PARKING = {"Sleep": "sleep", "Join": "join", "JoinAll": "join all", "Acquire": "acquire", "Put": "put", "Get": "get"}
PARKING["QueueJoin"] = "queue join"


class OnMinisched(Watcher):
    """One run of a program on minisched: translates the calls of its bodies into syscalls and plain calls."""

    def __init__(self, program):
        self.clock = testing.VirtualClock()
        self.world = World(Cancelled, self.clock.now)
        self.locks = [RLock() if number == 1 else Lock() for number in range(LOCKS)]
        self.queues = [(PriorityQueue if number == 1 else Queue)(size) for number, size in enumerate(program.sizes)]
        self.syscalls = {
            "pause": lambda: None,
            "sleep": Sleep,
            "now": Now,
            "me": CurrentTask,
            "spawn": lambda how, body: Spawn(self.drive(body), keep=how == "keep", daemon=how == "daemon"),
            "join": Join,
            "join all": JoinAll,
            "cancel": Cancel,
            "scope": lambda kind, seconds: SCOPES[kind](seconds),
            "acquire": lambda index: self.locks[index].acquire(),
            "put": lambda index, item: self.queues[index].put(item),
            "get": lambda index: self.queues[index].get(),
            "queue join": lambda index: self.queues[index].join(),
        }
        self.plain_calls = {
            "enter": lambda scope: scope.__enter__(),
            "leave": self.leave,
            "cancel scope": lambda scope, reason: scope.cancel(reason),
            "move": self.move,
            "hold": lambda lock: lock.__enter__(),
            "release": lambda lock, error: lock.__exit__(*exit_of(error)),
            "put now": lambda index, item: self.queues[index].put_nowait(item),
            "get now": lambda index: self.queues[index].get_nowait(),
            "close": lambda index: self.queues[index].close(),
            "done": lambda index: self.queues[index].task_done(),
            "work": self.work,
        }

    def run(self, body):
        return testing.run(self.drive(body), clock=self.clock, watch=[self], debug=False)

    def drive(self, body):
        step, value = body.send, None
        while True:
            try:
                name, *given = step(value)
            except StopIteration as end:
                return end.value
            step = body.send
            try:
                if name in self.plain_calls:
                    value = self.plain_calls[name](*given)
                else:
                    value = yield self.syscalls[name](*given)
            except GeneratorExit:
                body.close()
                raise
            except BaseException as error:
                step, value = body.throw, error

    def leave(self, scope, error):
        return None if scope.__exit__(*exit_of(error)) else error

    def move(self, scope, seconds):
        scope.deadline = self.clock.time + seconds

    def work(self, seconds):
        self.clock.time += seconds

    def park(self, task, call):
        self.world.note(task.path, f"parks in {PARKING[type(call).__name__]}")

    def exit(self, task):
        self.world.note(task.path, "ends", self.world.show_end(task.failure, task.cancelled_caught, task.result))


def exit_of(error):
    """Return the arguments that a `with` passes to `__exit__`."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def played(program, interpreter):
    """Run a program; assert that every cleanup has run, and return the trace, whose last line is the outcome."""
    world = interpreter.world
    try:
        outcome = world.show(interpreter.run(Actor(world, (0,), program.sturdy).play(program.main)))
    except Exception as error:
        # The causes of a failure hold no canceller: its name stands in the reason.
        cause = (
            f" from {re.sub(', by [0-9.]+', '', world.show(error.__cause__))}" if error.__cause__ is not None else ""
        )
        outcome = f"raised {world.show(error)}{cause}"
    world.check_cleanups()
    world.note((), "outcome", outcome)
    return world.trace


def compare(program, specification):
    """Assert that minisched runs a program as the specification, an interpreter, does; return the trace."""
    expected = played(program, specification)
    both = difference(expected, played(program, OnMinisched(program)), ("reference", "minisched"))
    if both is not None:
        raise AssertionError(f"\n{listing(program)}\n\n{both}")
    return expected


class Counted(Reference):
    """The reference, which also collects the interesting situations of a program."""

    def __init__(self, program):
        super().__init__(program)
        self.kinds = set()
        self.woken = {}

    def effective_in(self, scope):
        request, outside = super().effective_in(scope), scope
        while request is None and outside is not None:
            if outside.requested is not None:
                self.kinds.add("a shield that blocks a cancellation")
            outside = outside.parent
        return request

    def wake(self, task, kind, value):
        super().wake(task, kind, value)
        self.woken[task] = kind

    def wins(self, task):
        """Return whether a cancelled task is about to receive a result that was queued before."""
        return self.woken.get(task, "cancel") != "cancel" and self.effective_in(task.scope) is not None

    def turn(self, task):
        if self.wins(task):
            self.kinds.add("a result that was queued when the cancellation came")
        self.woken.pop(task, None)
        super().turn(task)

    def do_leave(self, task, scope, error):
        if scope.children:
            self.kinds.add("a child that is reparented to the enclosing scope")
        return super().do_leave(task, scope, error)


# Situations, each with its pattern in the trace.
MARKS = {
    "a cancellation that is delivered": r"raised Cancelled",
    "a Cancelled that is swallowed": r"swallow: +Cancelled",
    "a timeout that fires": r"TimedOut",
    "a lock that has a waiter": r"parks in acquire",
    "a putter that waits": r"parks in put",
    "a getter that waits": r"parks in get",
    "a wait for the work on a queue": r"parks in queue join",
    "too many ends of work": r"done \d +raised ValueError",
    "a joiner that waits": r"parks in join$",
    "a task that was joined and cancelled": r"raised TaskCancelled",
    "a use of a closed queue": r"raised ClosedError",
    "a failure in a group": r"Group\[",
    "a deadlock": r"raised Deadlock",
}
KINDS = [
    *MARKS,
    "a shield that blocks a cancellation",
    "a result that was queued when the cancellation came",
    "a child that is reparented to the enclosing scope",
]


def check_programs(count, specification=Counted):
    """Compare `count` random programs; return the number of programs with each situation."""
    number = int(os.environ.get("MINISCHED_SEED") or Random().randrange(10**9))
    print(f"MINISCHED_SEED={number}")
    kinds, differing = Counter(), []

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),  # a slow machine is not a failure
    )
    @given(programs())
    def agrees(program):
        expected = specification(program)
        try:
            text = "\n".join(map(str, compare(program, expected)))
        except AssertionError:
            differing.append(program)
            raise
        kinds.update(kind for kind, mark in MARKS.items() if re.search(mark, text, re.MULTILINE))
        kinds.update(expected.kinds)

    try:
        agrees()
    except AssertionError:
        if specification is not Counted:  # a wrong one: the difference is what the test expects
            raise
    if differing:
        program = smallest(differing[-1], differs)
        compare(program, Reference(program))
    return kinds


def differs(program):
    """Return whether minisched runs a program otherwise than the reference."""
    try:
        compare(program, Reference(program))
    except AssertionError:
        return True
    return False


@pytest.fixture(autouse=True)
def hypothesis_files_in_a_temporary_folder(tmp_path):
    set_hypothesis_home_dir(tmp_path)


def test_a_few_random_programs_run_event_by_event_as_in_the_reference():
    kinds = check_programs(FEW)
    assert [kind for kind in KINDS if not kinds[kind]] == []


@pytest.mark.slow
def test_many_random_programs_run_event_by_event_as_in_the_reference():
    kinds = check_programs(MANY)
    assert {kind: kinds[kind] for kind in KINDS if kinds[kind] < MANY * 0.02} == {}


# Wrong references: each differs from the reference in one rule, as a wrong package would.


class ShieldsLeak(Counted):
    def effective_in(self, scope):
        request = None
        while scope is not None:
            request, scope = scope.requested or request, scope.parent
        return request


class TheInnermostScopeCatches(Counted):
    def effective_in(self, scope):
        while scope is not None and scope.requested is None:
            scope = None if scope.shield else scope.parent
        return None if scope is None else scope.requested


class ACancellationBeatsAResult(Counted):
    def turn(self, task):
        if self.wins(task):
            task.next = ("cancel", None)
        super().turn(task)


class TheLastReasonWins(Counted):
    def cancel(self, scope, reason, by):
        scope.requested = None
        super().cancel(scope, reason, by)


class TheYoungestIsCancelledFirst(Counted):
    def interrupt(self, scope):
        scope.children.reverse()
        super().interrupt(scope)
        scope.children.reverse()


class TiesFireInReverse(Counted):
    def fire(self):
        self.timers.reverse()
        super().fire()
        self.timers.reverse()


class ALockGoesToTheLastWaiter(Counted):
    def do_release(self, task, lock, error):
        lock.waiting.reverse()
        super().do_release(task, lock, error)
        lock.waiting.reverse()


class APriorityQueueIsFifo(Counted):
    def __init__(self, program):
        super().__init__(program)
        self.queues[1].by_priority = False


class AnInnerReleaseFreesTheLock(Counted):
    def do_release(self, task, lock, error):
        if lock.owner is task:
            lock.depth = 1
            super().do_release(task, lock, error)


class EachEndOfWorkWakesTheJoiners(Counted):
    def do_done(self, task, index):
        super().do_done(task, index)
        while self.queues[index].joining:
            self.wake(self.queues[index].joining.pop(0), "answer", None)


WRONG = [
    ShieldsLeak,
    TheInnermostScopeCatches,
    ACancellationBeatsAResult,
    TheLastReasonWins,
    TheYoungestIsCancelledFirst,
    TiesFireInReverse,
    ALockGoesToTheLastWaiter,
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_few_programs_find_the_difference_of_a_wrong_reference(wrong):
    with pytest.raises(AssertionError, match=r"reference +\| minisched[^>]*=>"):
        check_programs(MAX_PROGRAMS, wrong)


# Situations that are rare in random programs. The child's item is the smaller one, and is put second.
PUT, GET = ("put", 1, True), ("get", 1, True)
PUTS = Program((0, None), True, (PUT, ("spawn", "plain", True, (PUT,)), ("sleep", 1), GET))
NESTS_A_LOCK = ("spawn", "plain", True, (("lock", 1, (("lock", 1, ()), ("sleep", 2))),))
NESTED = Program((0, 0), True, (NESTS_A_LOCK, ("sleep", 1), ("lock", 1, ())))
JOINS = ("spawn", "plain", True, (("queue_join", 0),))
WORKED = Program((None, 0), True, (("put", 0, True), ("put", 0, True), JOINS, ("sleep", 1), ("done", 0), ("sleep", 1)))


@pytest.mark.parametrize(
    ("program", "wrong"),
    [(PUTS, APriorityQueueIsFifo), (NESTED, AnInnerReleaseFreesTheLock), (WORKED, EachEndOfWorkWakesTheJoiners)],
)
def test_a_program_shows_the_difference_of_a_wrong_reference(program, wrong):
    compare(program, Counted(program))
    with pytest.raises(AssertionError, match=r"reference +\| minisched[^>]*=>"):
        compare(program, wrong(program))


def test_the_reference_imports_nothing_of_the_package():
    tests = Path(__file__).parent
    imported = set()
    for name in ("reference.py", "random_programs.py"):
        for node in ast.walk(ast.parse((tests / name).read_text(encoding="utf-8"))):
            imported |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            imported |= {"." * node.level + (node.module or "")} if isinstance(node, ast.ImportFrom) else set()
    assert imported == {"__future__", "collections.abc", "hypothesis", "itertools", "math", "random_programs", "typing"}


# The budget of a batch: the time after which a batch of turns counts as slow, and the next one is halved.


def test_the_reference_and_the_loop_have_the_same_batch_constants():
    assert pace.BATCH_TURNS == reference.BATCH_TURNS
    assert pace.BATCH_BUDGET_SECONDS == reference.BATCH_BUDGET_SECONDS


# Turns of 1.5 ms beside timers of 4 and 7 ms. The batches shrink until they alternate between one turn (within
# the budget) and two turns (over it). The turns between two timers show this in the trace.
BUSY = ("spawn", "plain", True, (("work", 0.0015, 200),))
SLEEPER = ("spawn", "plain", True, (("sleep", 0.2), *[("sleep", 0.004), ("sleep", 0.007)] * 8))
SHOWS_THE_BUDGET = Program(sizes=(0, 0), sturdy=True, main=(BUSY, SLEEPER))


def test_batches_shrink_and_grow_around_the_budget_as_in_the_reference():
    compare(SHOWS_THE_BUDGET, Counted(SHOWS_THE_BUDGET))


@pytest.mark.parametrize("seconds", [0.001, 0.0014, 0.0031, 0.004, 0.02])
def test_another_budget_makes_another_trace(seconds, monkeypatch):
    monkeypatch.setattr(pace, "BATCH_BUDGET_SECONDS", seconds)
    assert differs(SHOWS_THE_BUDGET)


# Cleanups.

# Main waits in a shield for an item that never comes: a deadlock that no cancellation ends.
HANGS = Program(sizes=(0, 0), sturdy=True, main=(("scope", "shield", inf, (("get", 0, True),)),))


class LeavesBodiesOpen(Counted):
    def tree(self, scope):
        return []


def test_a_task_that_hangs_in_a_shield_is_closed():
    assert "0         is closed" in "\n".join(map(str, compare(HANGS, Counted(HANGS))))


def test_a_cleanup_that_does_not_run_fails_the_comparison():
    with pytest.raises(AssertionError, match="the cleanup of 0 did not run"):
        played(HANGS, LeavesBodiesOpen(HANGS))
