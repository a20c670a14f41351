"""What minisched means, as a program: an interpreter that is slow and obvious, and shares no code with it.

Theory of operation. It runs bodies that yield tuples (`random_programs` makes them). Nothing is
cached and nothing is clever: whether a task is cancelled is found by walking up its scopes, each
time anew; timers are a list that is scanned; who waits stands in a list, first come first served;
who lives is found by looking at all tasks. Where this and the package differ, ARCHITECTURE.md says
who is wrong. Where that is silent, the package is followed, and `Silent:` says in which rule.

Not here: files, signals, threads; groups, events, `select`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from random_programs import LOCKS, World

if TYPE_CHECKING:
    from random_programs import Program

READY, RUNNING, PARKED, ENDING, DONE = "ready", "running", "parked", "ending", "done"
BATCH = 61  # turns between two looks at the timers
SLOW = 0.001  # seconds, more than which a batch should not take

# Answered within the turn, as plain calls are; and answered at the price of a turn, but no checkpoints.
PLAIN = {"enter", "leave", "cancel scope", "move", "hold", "release", "put now", "get now", "close", "work"}
NO_CHECKPOINT = {"spawn", "cancel", "me", "now", "scope"}


class Cancelled(BaseException):
    def __init__(self, reason: str, by: Task | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.by = by


class TaskCancelled(Exception):
    def __init__(self, task: Task, reason: str) -> None:
        super().__init__(reason)
        self.task = task
        self.reason = reason


class TimedOut(Exception):
    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope


class Deadlock(Exception):
    pass


class SyscallError(Exception):
    pass


class ClosedError(Exception):
    pass


class WouldBlock(Exception):
    pass


class Scope:
    """A part of a task's life that can be cancelled."""

    def __init__(self, kind: str, task: Task | None, seconds: float = inf) -> None:
        self.kind = kind
        self.task = task
        self.seconds = seconds
        self.deadline = inf
        self.parent: Scope | None = None
        self.children: list[Scope] = []  # scopes and tasks, the oldest first
        self.left = False
        self.shield = kind == "shield"
        self.asked: tuple[str, Task | None] | None = None  # to end: why, and by whom
        self.cancelled = False  # it took a Cancelled
        self.expired = False  # its own deadline was what cancelled it

    @property
    def cancel_called(self) -> bool:
        return self.asked is not None


class Task(Scope):
    """A body and where it stands; its own outermost scope."""

    def __init__(self, body: Any, spawner: Task | None, how: str) -> None:
        super().__init__("task", self)
        self.body = body
        self.spawner = spawner
        self.spawned = 0
        self.path: tuple[int, ...] = (0,)
        if spawner is not None:
            self.path = (*spawner.path, spawner.spawned)
            spawner.spawned += 1
        self.how = how  # plain, keep, daemon
        self.state = READY
        self.next: tuple[str, Any] = ("answer", None)  # what its next turn begins with: an answer, raise, or cancel
        self.scope: Scope = self  # the innermost one
        self.waits: tuple[list[Any], Any] | None = None  # while parked: in which list, as what
        self.joiners: list[Task] = []
        self.failed: list[Task] = []  # children whose failure it has to report
        self.failure: BaseException | None = None
        self.ended_by = ""  # the reason of the cancellation that it saw at its end
        self.result: Any = None


class Lock:
    def __init__(self) -> None:
        self.owner: Task | None = None
        self.waiting: list[Task] = []


class Queue:
    def __init__(self, size: int | None) -> None:
        self.size = inf if size is None else size
        self.items: list[Any] = []
        self.getting: list[Task] = []
        self.putting: list[tuple[Task, Any]] = []
        self.closed = False


class Reference:
    """One run."""

    def __init__(self, program: Program) -> None:
        self.time = 0.0
        self.world = World(Cancelled, lambda: self.time)
        self.tasks: list[Task] = []
        self.ready: list[Task] = []
        self.timers: list[tuple[float, Any]] = []  # when and whom, in the order in which they were made
        self.joining_all: list[Task] = []
        self.locks = [Lock() for _ in range(LOCKS)]
        self.queues = [Queue(size) for size in program.sizes]
        self.batch = BATCH
        self.deadlock: Deadlock | None = None

    # The loop: Wait, Fire, Run.

    def run(self, body: Any) -> Any:
        main = self.add(body, None, "plain", None)
        while main.state != DONE:
            self.wait(main)
            self.fire()
            self.run_batch()
        if self.deadlock is not None:
            raise self.deadlock from main.failure
        return self.do_result(main)

    def wait(self, main: Task) -> None:
        if self.ready:
            return
        if self.timers:
            self.time = max(self.time, min(deadline for deadline, _ in self.timers))
            return
        if self.deadlock is None:  # nothing is ready, and nothing will be: a deadlock, after which cleanup runs
            self.deadlock = Deadlock()
            self.cancel(main, "deadlock", None)
        if not self.ready:  # Silent: what can't even clean up is closed, children before parents
            for task in reversed(self.tree(main)):
                if task.state != ENDING:
                    task.body.close()
            raise self.deadlock

    def tree(self, scope: Scope) -> list[Task]:
        below = [task for child in scope.children for task in self.tree(child)]
        return [scope, *below] if isinstance(scope, Task) else below

    def fire(self) -> None:
        due = [timer for timer in self.timers if timer[0] <= self.time]
        for timer in sorted(due, key=lambda timer: timer[0]):  # ties: first come, first served
            if timer not in self.timers:
                continue  # another that was due has taken it back
            self.timers.remove(timer)
            if isinstance(timer[1], Task):
                self.wake(timer[1], "answer", None)
            else:
                self.over(timer[1])

    def run_batch(self) -> None:
        if not self.ready:  # Silent: a batch without a turn does not make the next one longer
            return
        began = self.time  # in virtual time, a turn takes as long as its task says that it works
        for _ in range(self.batch):
            if self.ready:
                self.turn(self.ready.pop(0))
        slow = self.time - began > SLOW
        self.batch = max(self.batch // 2, 1) if slow else min(self.batch * 2, BATCH)

    def turn(self, task: Task) -> None:
        """From a resume to the next yield that costs a turn."""
        task.state = RUNNING
        kind, value = task.next
        if kind == "cancel":
            # Silent: it says what is seen at this turn, which another cancellation may have changed meanwhile.
            kind, value = "raise", Cancelled(*self.seen_from(task.scope))
        while True:
            try:
                call = task.body.throw(value) if kind == "raise" else task.body.send(value)
            except StopIteration as end:
                return self.body_over(task, end.value, None)
            except BaseException as error:
                return self.body_over(task, None, error)
            if call[0] not in PLAIN:
                return self.syscall(task, *call)
            kind, value = self.attempt(task, *call)

    def syscall(self, task: Task, name: str, *given: Any) -> None:
        if name not in NO_CHECKPOINT and self.seen_from(task.scope) is not None:
            task.next = ("cancel", None)  # in its place: it does not happen
        else:
            task.next = self.attempt(task, name, *given)
        if task.state == PARKED:
            self.world.note(task.path, f"parks in {name}")
        else:
            task.state = READY
            self.ready.append(task)

    def attempt(self, task: Task, name: str, *given: Any) -> tuple[str, Any]:
        try:
            return "answer", getattr(self, f"do_{name.replace(' ', '_')}")(task, *given)
        except BaseException as error:
            return "raise", error

    def park(self, task: Task, line: list[Any], place: Any) -> None:
        line.append(place)
        task.state, task.waits = PARKED, (line, place)

    def wake(self, task: Task, kind: str, value: Any) -> None:
        """Whoever calls this has taken the task out of the list in which it waited."""
        assert task.state == PARKED
        task.state, task.waits, task.next = READY, None, (kind, value)
        self.ready.append(task)

    # Cancellation.

    def seen_from(self, scope: Scope | None) -> tuple[str, Task | None] | None:
        """Return what the outermost cancelled scope was asked, as far as shields let one see."""
        seen = None
        while scope is not None:
            seen = scope.asked or seen
            scope = None if scope.shield else scope.parent
        return seen

    def cancel(self, scope: Scope, reason: str, by: Task | None) -> None:
        # Silent: the second time, what was said the first time stays. What is over can't be cancelled.
        over = scope.state == DONE if isinstance(scope, Task) else scope.left
        if scope.asked is None and not over:
            scope.asked = (reason, by)
            self.interrupt(scope)

    def interrupt(self, scope: Scope) -> None:
        """Wake who is parked in `scope` or below and sees a cancellation now.

        Those who are ready have a result on its way: they get that, and Cancelled at their next checkpoint.
        Silent: from the top down, the oldest first, where a child counts from its spawn, a scope from
        its `with`, and a child that was handed outward from then.
        """
        task = scope.task
        if task is not None and task.scope is scope and task.waits is not None and self.seen_from(scope) is not None:
            line, place = task.waits
            line.remove(place)
            self.wake(task, "cancel", None)
        for child in scope.children:
            self.interrupt(child)

    # Tasks, and their ends.

    def add(self, body: Any, spawner: Task | None, how: str, scope: Scope | None) -> Task:
        task = Task(body, spawner, how)
        self.tasks.append(task)
        if scope is not None:
            self.hang(task, scope)
        self.ready.append(task)
        return task

    def hang(self, child: Scope, parent: Scope) -> None:
        child.parent = parent
        parent.children.append(child)

    def do_me(self, task: Task) -> Task:
        return task

    def do_now(self, task: Task) -> float:
        return self.time

    def do_spawn(self, task: Task, how: str, body: Any) -> Task:
        return self.add(body, task, how, task.scope)

    def do_pause(self, task: Task) -> None:
        pass

    def do_sleep(self, task: Task, seconds: float) -> None:
        if seconds > 0:
            self.park(task, self.timers, (self.time + seconds, task))

    def do_cancel(self, task: Task, other: Task, reason: str) -> None:
        self.cancel(other, reason, task)

    def do_join(self, task: Task, other: Task) -> Any:
        if other.state == DONE:
            if other.how == "keep" and other.spawner is not None and other in other.spawner.failed:
                other.spawner.failed.remove(other)  # stated here, so not there
            return self.do_result(other)
        if task.path[: len(other.path)] == other.path:
            raise SyscallError("it joins itself or an ancestor")
        self.park(task, other.joiners, task)
        return None

    def do_join_all(self, task: Task) -> None:
        if self.awaited(task):
            self.park(task, self.joining_all, task)

    def do_result(self, task: Task) -> Any:
        if task.failure is not None:
            raise task.failure
        if task.cancelled:
            raise TaskCancelled(task, task.ended_by)
        return task.result

    def living(self, task: Task) -> list[Task]:
        return [child for child in self.tasks if child.spawner is task and child.state != DONE]

    def awaited(self, task: Task) -> list[Task]:
        return [child for child in self.living(task) if child.how != "daemon"]

    def body_over(self, task: Task, result: Any, error: BaseException | None) -> None:
        task.state, task.result = ENDING, result
        if error is not None:
            rest = without_cancelled(error)
            if rest is error:
                task.failure = error
            elif self.seen_from(task) is None:  # Silent: a Cancelled that it kept from a scope that was left
                task.failure = SyscallError("a stray Cancelled")
                task.failure.__cause__ = error
            else:
                task.cancelled, task.failure = True, rest
            if task.cancelled or task.failure is not None:
                self.cancel(task, "its parent did not return", task)
        self.end_if_alone(task)

    def end_if_alone(self, task: Task) -> None:
        if task.state != ENDING or self.awaited(task):
            return
        if self.living(task):  # daemons
            self.cancel(task, "its parent has ended", task)
            return
        self.end(task)
        parent = task.spawner
        if parent is not None:
            if not self.awaited(parent) and parent in self.joining_all:  # Silent: told after those who join the task
                self.joining_all.remove(parent)
                self.wake(parent, "answer", None)
            self.end_if_alone(parent)

    def end(self, task: Task) -> None:
        """Tell of the end: the parent first, if it is a failure, and then those who join the task."""
        if task.failed:
            # Silent: one's own error is there once, also if it is a child's.
            errors = [child.failure for child in task.failed if child.failure is not task.failure]
            own = [task.failure] if task.failure is not None else []
            task.failure = BaseExceptionGroup("failed", [*own, *errors])
        task.cancelled = task.cancelled and task.failure is None
        if task.cancelled:
            task.ended_by, _ = self.seen_from(task) or ("", None)
        task.state = DONE
        if task.parent is not None:
            task.parent.children.remove(task)
        self.world.note(task.path, "ends", self.world.show_end(task.failure, task.cancelled, task.result))
        parent = task.spawner
        # A failure that is kept for Join, and is joined, is stated there.
        if task.failure is not None and parent is not None and not (task.how == "keep" and task.joiners):
            parent.failed.append(task)
            if task.how != "keep":
                self.cancel(parent, "its child failed", task)
        while task.joiners:  # the parent's cancellation may have taken some away
            self.wake(task.joiners.pop(0), *self.attempt(task, "result"))

    # Scopes.

    def do_scope(self, task: Task, kind: str, seconds: float) -> Scope:
        return Scope(kind, task, inf if kind == "cancel" else seconds)

    def do_enter(self, task: Task, scope: Scope) -> None:
        self.hang(scope, task.scope)
        task.scope = scope
        self.set_deadline(scope, min(scope.deadline, self.time + scope.seconds))

    def do_move(self, task: Task, scope: Scope, seconds: float) -> None:
        # Silent: a deadline that was set before the `with` takes the place of the seconds from the `with` on.
        scope.seconds = inf
        self.set_deadline(scope, self.time + seconds)

    def set_deadline(self, scope: Scope, deadline: float) -> None:
        scope.deadline = deadline
        if scope.parent is None or scope.left:
            return
        self.forget_deadline(scope)
        if deadline <= self.time:
            self.over(scope)  # Silent: at once, not at the next Fire
        elif deadline < inf:
            self.timers.append((deadline, scope))

    def forget_deadline(self, scope: Scope) -> None:
        for timer in [timer for timer in self.timers if timer[1] is scope]:
            self.timers.remove(timer)

    def over(self, scope: Scope) -> None:
        """Do what is to be done at the deadline."""
        if scope.kind == "shield":
            scope.shield = False
            self.interrupt(scope)
        else:
            scope.expired = scope.expired or scope.asked is None
            self.cancel(scope, "its time is over", None)

    def do_cancel_scope(self, task: Task, scope: Scope, reason: str) -> None:
        self.cancel(scope, reason, task)

    def do_leave(self, task: Task, scope: Scope, error: BaseException | None) -> BaseException | None:
        """Return what of the error goes on outside."""
        outer = scope.parent
        assert task.scope is scope and outer is not None
        takes = scope.asked is not None and self.seen_from(scope) is scope.asked  # it is the outermost
        scope.left, task.scope = True, outer
        outer.children.remove(scope)
        for child in scope.children:
            # What was cancelled with its scope stays cancelled.
            child.asked = child.asked or (scope.asked if takes else None)
            self.hang(child, outer)
            self.interrupt(child)
        self.forget_deadline(scope)
        rest = without_cancelled(error) if takes else error
        scope.cancelled = rest is not error
        if scope.cancelled and rest is None and scope.kind == "timeout" and scope.expired:
            raise TimedOut(scope)  # Silent: not if other errors than Cancelled are left, which go on
        return rest

    def do_work(self, task: Task, seconds: float) -> None:
        self.time += seconds

    # Locks and queues.

    def do_acquire(self, task: Task, index: int) -> Lock:
        lock = self.locks[index]
        if lock.owner is task:
            raise SyscallError("it has the lock already")
        if lock.owner is None:
            lock.owner = task
        else:
            self.park(task, lock.waiting, task)
        return lock

    def do_hold(self, task: Task, lock: Lock) -> None:
        assert lock.owner is task

    def do_release(self, task: Task, lock: Lock, error: BaseException | None) -> None:
        assert lock.owner is task
        lock.owner = None
        if lock.waiting:
            lock.owner = lock.waiting.pop(0)
            self.wake(lock.owner, "answer", lock)

    def do_put(self, task: Task, index: int, item: Any) -> None:
        try:
            self.do_put_now(task, index, item)
        except WouldBlock:
            self.park(task, self.queues[index].putting, (task, item))

    def do_put_now(self, task: Task, index: int, item: Any) -> None:
        queue = self.queues[index]
        if queue.closed:
            raise ClosedError
        if queue.getting:
            self.wake(queue.getting.pop(0), "answer", item)
        elif len(queue.items) < queue.size:
            queue.items.append(item)
        else:
            raise WouldBlock

    def do_get(self, task: Task, index: int) -> Any:
        try:
            return self.do_get_now(task, index)
        except WouldBlock:
            self.park(task, self.queues[index].getting, task)

    def do_get_now(self, task: Task, index: int) -> Any:
        queue = self.queues[index]
        if queue.putting:
            putter, item = queue.putting.pop(0)
            queue.items.append(item)
            self.wake(putter, "answer", None)
        if queue.items:
            return queue.items.pop(0)
        raise ClosedError if queue.closed else WouldBlock

    def do_close(self, task: Task, index: int) -> None:
        queue = self.queues[index]
        queue.closed = True
        while queue.getting:
            self.wake(queue.getting.pop(0), "raise", ClosedError())
        while queue.putting:
            self.wake(queue.putting.pop(0)[0], "raise", ClosedError())


def without_cancelled(error: BaseException | None) -> BaseException | None:
    """Return what is left of an error, which may be a group of groups, without each Cancelled in it."""
    if isinstance(error, Cancelled):
        return None
    if not isinstance(error, BaseExceptionGroup):
        return error
    cancelled, rest = error.split(Cancelled)
    return error if cancelled is None else rest
