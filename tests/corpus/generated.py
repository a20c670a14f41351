"""Random programs of two or three tasks, to compare the searches of the explorer on.

A program is a plan: for each task a few operations. Each is a tuple of a kind and arguments, so that a failing plan can
be read. All of a program's variables are primitives, tasks or `Shared`.
"""

from __future__ import annotations

from random import Random

from minisched import (
    Broadcast,
    Cancel,
    Condition,
    Event,
    Join,
    JoinAll,
    Lock,
    MoveOnAfter,
    Queue,
    Semaphore,
    Shield,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    WouldBlock,
    gather,
    group,
    race,
    select,
)
from minisched.kernel import Syscall
from minisched.lab import Shared

SIMPLE = ("lock", "read", "write", "put", "get", "set", "wait", "semaphore", "sleep", "select", "condition", "fail")
OF_TASKS = ("cancel", "join", "look")
AROUND_ONE = ("limit", "spawn", "daemon", "shield")
AROUND_TWO = ("gather", "race", "group")
KINDS = (*SIMPLE, "broadcast", *OF_TASKS, *AROUND_ONE, *AROUND_TWO)


def plan(seed, tasks, length):
    """Return a random plan."""
    random = Random(seed)

    def operation(nested):
        kind = random.choice(KINDS)
        if kind in OF_TASKS:
            return kind, random.randrange(tasks)
        if kind not in AROUND_ONE + AROUND_TWO:
            return kind, random.randrange(2)
        if nested:
            return ("turn",)
        return kind, *(operation(True) for _ in range(1 + (kind in AROUND_TWO)))

    return [[operation(False) for _ in range(length)] for _ in range(tasks)]


class Start(Syscall):
    """Spawn the tasks of a program in one turn, and put them into a list before the first of them runs."""

    __slots__ = ("bodies", "tasks")
    checkpoint = False

    def __init__(self, bodies, tasks):
        self.bodies = bodies
        self.tasks = tasks

    def handle(self, kernel, task):
        self.tasks += [kernel.spawn(body, None, task, True) for body in self.bodies]


class World:
    """The things that the tasks of one run share, and the operations of the tasks."""

    def __init__(self):
        self.locks = [Lock(), Lock()]
        self.shared = Shared(value=0)
        self.queue = Queue(1)
        self.event = Event()
        self.slots = Semaphore(1)
        self.changed = Condition()
        self.news = Broadcast()
        self.tasks = []

    def run(self, operations):
        for kind, *arguments in operations:
            yield from getattr(self, f"do_{kind}")(*arguments)

    def do_turn(self):
        yield

    def do_lock(self, which):
        with (yield self.locks[which].acquire()):
            yield

    def do_read(self, _):
        assert self.shared.value is not None
        yield

    def do_write(self, value):
        self.shared.value = value
        yield

    def do_put(self, item):
        yield self.queue.put(item)

    def do_get(self, _):
        yield self.queue.get()

    def do_set(self, _):
        self.event.set()
        return
        yield

    def do_wait(self, _):
        yield self.event.wait()

    def do_semaphore(self, _):
        with (yield self.slots.acquire()):
            yield

    def do_sleep(self, seconds):
        yield Sleep(seconds)

    def do_select(self, _):
        yield select(self.queue.get(), self.event.wait())

    def do_condition(self, notifies):
        with (yield self.changed.acquire()):
            if notifies:
                self.changed.notify()
            else:
                yield from self.changed.wait()

    def do_fail(self, number):
        raise ValueError(number)
        yield

    def do_broadcast(self, publishes):
        if publishes:
            self.news.publish("item")
            return
        with self.news.subscribe() as subscription:
            yield
            try:
                subscription.get_nowait()
            except WouldBlock:
                pass

    def do_cancel(self, which):
        yield Cancel(self.tasks[which])

    def do_join(self, which):
        try:
            yield Join(self.tasks[which])
        except (SyscallError, TaskCancelled, ValueError):
            pass

    def do_look(self, which):
        if self.tasks[which].state == "done":
            yield

    def do_limit(self, inner):
        with (yield MoveOnAfter(1)):
            yield from self.run([inner])

    def do_shield(self, inner):
        with (yield Shield()):
            yield from self.run([inner])

    def do_spawn(self, inner):
        yield Spawn(self.run([inner]))

    def do_daemon(self, inner):
        yield Spawn(self.run([inner]), daemon=True)

    def do_gather(self, one, two):
        yield from gather(self.run([one]), self.run([two]))

    def do_race(self, one, two):
        yield from race(self.run([one]), self.run([two]))

    def do_group(self, one, two):
        def body(children):
            yield children.spawn(self.run([one]))
            yield children.spawn(self.run([two]))

        yield from group(body)


def program(operations):
    """Return a program that runs a plan."""

    def make():
        world = World()

        def main():
            yield Start([world.run(each) for each in operations], world.tasks)
            yield JoinAll()

        return main()

    return make
