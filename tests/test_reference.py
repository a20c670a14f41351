"""Random programs run on minisched event by event as the reference interpreter says; the seed is printed.

`MINISCHED_SEED=... pytest tests/test_reference.py` runs the same programs again.
"""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.configuration import set_hypothesis_home_dir
from random_programs import LOCKS, Actor, World, difference, listing, programs, smallest
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
    Queue,
    Shield,
    Sleep,
    Spawn,
    Timeout,
    Watcher,
    testing,
)

FEW, MANY = 500, 5000  # programs
SCOPES = {"move on": MoveOnAfter, "timeout": Timeout, "shield": Shield, "cancel": lambda _: CancelScope()}
PARKING = {"Sleep": "sleep", "Join": "join", "JoinAll": "join all", "Acquire": "acquire", "Put": "put", "Get": "get"}


class OnMinisched(Watcher):
    """One run of a program on minisched: what its bodies ask for, in the package's own words."""

    def __init__(self, program):
        self.clock = testing.VirtualClock()
        self.world = World(Cancelled, self.clock.now)
        self.locks = [Lock() for _ in range(LOCKS)]
        self.queues = [Queue(size) for size in program.sizes]
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
        self.world.note(task.path, "ends", self.world.show_end(task.failure, task.cancelled, task.result))


def exit_of(error):
    """Return what a `with` gives to `__exit__`."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def played(program, interpreter):
    """Return the trace of a program, the outcome being its last line."""
    world = interpreter.world
    try:
        outcome = world.show(interpreter.run(Actor(world, (0,), program.sturdy).play(program.main)))
    except Exception as error:
        cause = f" from {world.show(error.__cause__)}" if error.__cause__ is not None else ""
        outcome = f"raised {world.show(error)}{cause}"
    world.note((), "outcome", outcome)
    return world.trace


def compare(program, specification):
    """Assert that a program runs as the specification, an interpreter of it, says; return the trace."""
    expected = played(program, specification)
    both = difference(expected, played(program, OnMinisched(program)), ("reference", "minisched"))
    if both is not None:
        raise AssertionError(f"\n{listing(program)}\n\n{both}")
    return expected


class Counted(Reference):
    """The reference, which also says what is interesting of a program."""

    def __init__(self, program):
        super().__init__(program)
        self.kinds = set()
        self.woken = {}

    def seen_from(self, scope):
        seen, outside = super().seen_from(scope), scope
        while seen is None and outside is not None:
            if outside.asked is not None:
                self.kinds.add("a shield that holds a cancellation off")
            outside = outside.parent
        return seen

    def wake(self, task, kind, value):
        super().wake(task, kind, value)
        self.woken[task] = kind

    def wins(self, task):
        """Return whether a task is about to get a result that was on its way when it was cancelled."""
        return self.woken.get(task, "cancel") != "cancel" and self.seen_from(task.scope) is not None

    def turn(self, task):
        if self.wins(task):
            self.kinds.add("a result that was on its way when the cancellation came")
        self.woken.pop(task, None)
        super().turn(task)

    def do_leave(self, task, scope, error):
        if scope.children:
            self.kinds.add("a child that is handed outward")
        return super().do_leave(task, scope, error)


# What the trace says of a program in which it happens.
MARKS = {
    "a cancellation that is delivered": r"raised Cancelled",
    "a Cancelled that is swallowed": r"swallow: +Cancelled",
    "a timeout that fires": r"TimedOut",
    "a lock that is waited for": r"parks in acquire",
    "a putter that waits": r"parks in put",
    "a getter that waits": r"parks in get",
    "a joiner that waits": r"parks in join$",
    "a task that was joined and cancelled": r"raised TaskCancelled",
    "a queue that is closed to who uses it": r"raised ClosedError",
    "a failure in a group": r"Group\[",
    "a deadlock": r"raised Deadlock",
}
KINDS = [
    *MARKS,
    "a shield that holds a cancellation off",
    "a result that was on its way when the cancellation came",
    "a child that is handed outward",
]


def check_programs(count, specification=Counted):
    """Compare `count` random programs; return how many there were of each kind."""
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
        suppress_health_check=list(HealthCheck),  # a slow machine is no failure
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
        if specification is not Counted:  # it is wrong, and it is enough to know that
            raise
    if differing:
        program = smallest(differing[-1], differs)
        compare(program, Reference(program))
    return kinds


def differs(program):
    """Return whether a program does not run as the reference says."""
    try:
        compare(program, Reference(program))
    except AssertionError:
        return True
    return False


@pytest.fixture(autouse=True)
def no_files_of_hypothesis_here(tmp_path):
    set_hypothesis_home_dir(tmp_path)


def test_a_few_random_programs_run_event_by_event_as_the_reference_says():
    kinds = check_programs(FEW)
    assert [kind for kind in KINDS if not kinds[kind]] == []


@pytest.mark.slow
def test_many_random_programs_run_event_by_event_as_the_reference_says():
    kinds = check_programs(MANY)
    assert {kind: kinds[kind] for kind in KINDS if kinds[kind] < MANY * 0.02} == {}


# A reference that is wrong in one thing stands for a package that is.


class ShieldsLeak(Counted):
    def seen_from(self, scope):
        seen = None
        while scope is not None:
            seen, scope = scope.asked or seen, scope.parent
        return seen


class TheInnermostTakes(Counted):
    def seen_from(self, scope):
        while scope is not None and scope.asked is None:
            scope = None if scope.shield else scope.parent
        return None if scope is None else scope.asked


class ACancellationBeatsAResult(Counted):
    def turn(self, task):
        if self.wins(task):
            task.next = ("cancel", None)
        super().turn(task)


class TheLastReasonStays(Counted):
    def cancel(self, scope, reason, by):
        scope.asked = None
        super().cancel(scope, reason, by)


class TheYoungestIsToldFirst(Counted):
    def interrupt(self, scope):
        scope.children.reverse()
        super().interrupt(scope)
        scope.children.reverse()


class TiesFireInReverse(Counted):
    def fire(self):
        self.timers.reverse()
        super().fire()
        self.timers.reverse()


class ALockIsGivenToTheYoungest(Counted):
    def do_release(self, task, lock, error):
        lock.waiting.reverse()
        super().do_release(task, lock, error)
        lock.waiting.reverse()


WRONG = [
    ShieldsLeak,
    TheInnermostTakes,
    ACancellationBeatsAResult,
    TheLastReasonStays,
    TheYoungestIsToldFirst,
    TiesFireInReverse,
    ALockIsGivenToTheYoungest,
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_few_programs_are_enough_to_tell_a_wrong_reference_from_the_right_one(wrong):
    with pytest.raises(AssertionError, match=r"reference +\| minisched[^>]*=>"):
        check_programs(FEW, wrong)


def test_the_reference_has_nothing_of_the_package():
    tests = Path(__file__).parent
    imported = set()
    for name in ("reference.py", "random_programs.py"):
        for node in ast.walk(ast.parse((tests / name).read_text(encoding="utf-8"))):
            imported |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            imported |= {"." * node.level + (node.module or "")} if isinstance(node, ast.ImportFrom) else set()
    assert imported == {"__future__", "collections.abc", "hypothesis", "itertools", "math", "random_programs", "typing"}
