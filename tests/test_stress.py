"""Random programs: whatever tasks do to each other, the invariants hold, every cleanup runs, and a run can be repeated.

The seed is printed; `MINISCHED_SEED=... pytest tests/test_stress.py` runs the same programs again.
"""

from __future__ import annotations

import os
from random import Random

from minisched import (
    Cancel,
    Cancelled,
    Deadlock,
    Join,
    JoinAll,
    Sleep,
    Spawn,
    Syscall,
    SyscallError,
    TaskCancelled,
    TextTrace,
    testing,
)
from minisched.kernel import Scope
from minisched.scopes import enter, leave

PROGRAMS = 300


class Boom(Exception):
    pass


class Enter(Syscall[Scope]):
    """Enter a scope, perhaps a shield."""

    __slots__ = ("shield",)
    checkpoint = False

    def __init__(self, shield):
        self.shield = shield

    def handle(self, kernel, task):
        scope = Scope(shield=self.shield)
        enter(task, scope)
        return scope


class Program:
    """What one seed makes: tasks that spawn, sleep, join, cancel, fail, and enter scopes, at random."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.tasks, self.begun, self.cleaned = [], 0, 0

    def body(self, depth):
        self.begun += 1
        try:
            for _ in range(self.random.randrange(5)):
                yield from self.step(depth)
            return depth
        finally:
            self.cleaned += 1

    def step(self, depth):
        choice = self.random.random()
        if choice < 0.35 and depth < 4:
            options = {"keep": self.random.random() < 0.4, "daemon": self.random.random() < 0.2}
            self.tasks.append((yield Spawn(self.body(depth + 1), **options)))
        elif choice < 0.55:
            yield Sleep(self.random.randrange(4))
        elif choice < 0.65 and self.tasks:
            yield from self.join(self.random.choice(self.tasks))
        elif choice < 0.75 and self.tasks:
            yield Cancel(self.random.choice(self.tasks), "at random")
        elif choice < 0.85:
            yield from self.scoped(depth)
        elif choice < 0.9:
            raise Boom
        elif choice < 0.95:
            yield JoinAll()
        else:
            yield

    def join(self, task):
        try:
            yield Join(task)
        except (Boom, ExceptionGroup, TaskCancelled, SyscallError):
            pass

    def scoped(self, depth):
        scope = yield Enter(self.random.random() < 0.3)
        error = None
        try:
            if self.random.random() < 0.4:
                scope.task.kernel.cancel(scope, "the scope's")
            yield from self.step(depth)
        except (Boom, Cancelled, BaseExceptionGroup) as raised:
            error = raised
        rest = leave(scope, error)
        if rest is not None:
            raise rest

    def run(self):
        """Return the trace, with the outcome as its last line."""
        lines = []
        try:
            lines.append(repr(testing.run(self.body(0), watch=[TextTrace(lines.append)])))
        except (Boom, ExceptionGroup, TaskCancelled, Deadlock) as error:
            lines.append(type(error).__name__)
        return lines


def test_random_programs_keep_the_invariants_run_every_cleanup_and_can_be_repeated():
    seed = int(os.environ.get("MINISCHED_SEED") or Random().randrange(10**9))
    print(f"MINISCHED_SEED={seed}")
    outcomes = {}
    for number in range(PROGRAMS):
        one, two = Program(f"{seed}-{number}"), Program(f"{seed}-{number}")
        trace = one.run()
        assert trace == two.run(), f"program {number} of seed {seed} ran otherwise the second time"
        assert one.begun == one.cleaned, f"program {number} of seed {seed} left a cleanup out"
        outcomes[trace[-1]] = outcomes.get(trace[-1], 0) + 1
    assert {"0", "Boom", "ExceptionGroup"} <= set(outcomes), outcomes
