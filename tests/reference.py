"""The reference: an executable specification of minisched, slow and obvious, that shares no code with it.

Theory of operation. The reference interprets bodies that yield tuples (made by `random_programs`).
It caches nothing. Each check for a cancellation walks up the scopes. Timers are a list that is
scanned, waiters are lists in FIFO order, and living children are found by a scan of all tasks. Where
the reference and the package differ, ARCHITECTURE.md decides which is wrong. For rules that
ARCHITECTURE.md leaves open, the reference follows the package; a comment `Unspecified:` states each.

Invariants:
1. Imports nothing of minisched.
2. BATCH_TURNS and BATCH_BUDGET_SECONDS equal those of `minisched.loop` (`test_reference` compares them).

Not here: files, signals, threads; groups, events, `select`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from random_programs import LOCKS, World

if TYPE_CHECKING:
    from random_programs import Program

READY, RUNNING, PARKED, ENDING, DONE = "ready", "running", "parked", "ending", "done"
BATCH_TURNS = 61  # the most turns between two checks of the timers
BATCH_BUDGET_SECONDS = 0.002  # a batch that takes longer is slow: the next one has half the turns

# Plain calls are answered within the turn. Calls that are not checkpoints cost a turn, but raise no Cancelled.
PLAIN = {"enter", "leave", "cancel scope", "move", "hold", "release", "put now", "get now", "close", "done", "work"}
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
        self.requested: tuple[str, Task | None] | None = None  # the reason of its cancellation and the canceller
        self.cancelled_caught = False  # True once it has caught a Cancelled
        self.expired = False  # True if its own deadline cancelled it

    @property
    def cancel_called(self) -> bool:
        return self.requested is not None


class Task(Scope):
    """A body and its state; its own outermost scope."""

    def __init__(self, body: Any, spawner: Task | None, how: str) -> None:
        super().__init__("task", self)
        self.body = body
        self.spawner = spawner
        self.spawned = 0
        self.path: tuple[int, ...] = (0,)
        if spawner is not None:
            self.path = (*spawner.path, spawner.spawned)
            spawner.spawned += 1
        self.how = how  # plain, keep or daemon
        self.state = READY
        self.next: tuple[str, Any] = (
            "answer",
            None,
        )  # how its next turn starts: answer, raise, cancel
        self.scope: Scope = self  # the innermost scope
        self.waits: tuple[list[Any], Any] | None = None  # while parked: the list that it waits in, and its entry there
        self.joiners: list[Task] = []
        self.failed: list[Task] = []  # children whose failures it has to report
        self.failure: BaseException | None = None
        self.ended_by = ""  # the reason of the cancellation in effect at its end
        self.result: Any = None


class Lock:
    def __init__(self, reentrant: bool) -> None:
        self.reentrant = reentrant
        self.depth = 0  # how often the owner has acquired it
        self.owner: Task | None = None
        self.waiting: list[Task] = []


class Queue:
    def __init__(self, size: int | None, by_priority: bool) -> None:
        self.by_priority = by_priority
        self.unfinished = 0
        self.joining: list[Task] = []
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
        self.timers: list[tuple[float, Any]] = []  # deadlines, each with a task or a scope, in order of creation
        self.joining_all: list[Task] = []
        self.locks = [Lock(reentrant=number == 1) for number in range(LOCKS)]
        self.queues = [Queue(size, by_priority=number == 1) for number, size in enumerate(program.sizes)]
        self.batch = BATCH_TURNS
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
        if self.deadlock is None:  # nothing is ready, and nothing ever will be: cancel main, so that cleanup runs
            self.deadlock = Deadlock()
            self.cancel(main, "deadlock", None)
        if not self.ready:  # Unspecified: bodies that cannot clean up are closed, children before parents
            for task in reversed(self.tree(main)):
                if task.state != ENDING:
                    task.body.close()
            raise self.deadlock from main.failure

    def tree(self, scope: Scope) -> list[Task]:
        tasks = [task for child in scope.children for task in self.tree(child)]
        return [scope, *tasks] if isinstance(scope, Task) else tasks

    def fire(self) -> None:
        due = [timer for timer in self.timers if timer[0] <= self.time]
        for timer in sorted(due, key=lambda timer: timer[0]):  # stable: ties fire in FIFO order
            if timer not in self.timers:
                continue  # an earlier one of the due timers has cancelled it
            self.timers.remove(timer)
            if isinstance(timer[1], Task):
                self.wake(timer[1], "answer", None)
            else:
                self.expire(timer[1])

    def run_batch(self) -> None:
        if not self.ready:  # Unspecified: an empty batch does not make the next batch longer
            return
        began = self.time  # in virtual time, a turn takes as long as the task's `work`
        for _ in range(self.batch):
            if self.ready:
                self.turn(self.ready.pop(0))
        slow = self.time - began > BATCH_BUDGET_SECONDS
        self.batch = max(self.batch // 2, 1) if slow else min(self.batch * 2, BATCH_TURNS)

    def turn(self, task: Task) -> None:
        """From a resume to the next yield that costs a turn."""
        task.state = RUNNING
        kind, value = task.next
        if kind == "cancel":
            # Unspecified: the reason is the one in effect at this turn, not at the cancellation.
            kind, value = "raise", Cancelled(*self.effective_in(task.scope))
        while True:
            try:
                call = task.body.throw(value) if kind == "raise" else task.body.send(value)
            except StopIteration as end:
                return self.body_ended(task, end.value, None)
            except BaseException as error:
                return self.body_ended(task, None, error)
            if call[0] not in PLAIN:
                return self.syscall(task, *call)
            kind, value = self.attempt(task, *call)

    def syscall(self, task: Task, name: str, *given: Any) -> None:
        if name not in NO_CHECKPOINT and self.effective_in(task.scope) is not None:
            task.next = ("cancel", None)  # in place of the call, which does not happen
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

    def park(self, task: Task, queue: list[Any], entry: Any) -> None:
        queue.append(entry)
        task.state, task.waits = PARKED, (queue, entry)

    def wake(self, task: Task, kind: str, value: Any) -> None:
        """Make a parked task ready; the caller has removed it from the list that it waited in."""
        assert task.state == PARKED
        task.state, task.waits, task.next = READY, None, (kind, value)
        self.ready.append(task)

    # Cancellation.

    def effective_in(self, scope: Scope | None) -> tuple[str, Task | None] | None:
        """Return the request of the outermost cancelled scope in view; shields bound the view."""
        request = None
        while scope is not None:
            request = scope.requested or request
            scope = None if scope.shield else scope.parent
        return request

    def cancel(self, scope: Scope, reason: str, by: Task | None) -> None:
        # Unspecified: a second cancellation keeps the first reason. A scope that was left cannot be cancelled.
        has_ended = scope.state == DONE if isinstance(scope, Task) else scope.left
        if scope.requested is None and not has_ended:
            scope.requested = (reason, by)
            self.interrupt(scope)

    def interrupt(self, scope: Scope) -> None:
        """Wake the parked tasks in `scope` and below for which a cancellation is in effect now.

        Ready tasks have a result already queued: they receive it, and Cancelled at their next checkpoint.
        Unspecified: from the top down, the oldest first. A task counts from its spawn, a scope from
        its `with`, and a child that was reparented to the enclosing scope from that moment.
        """
        task = scope.task
        if task is not None and task.scope is scope and task.waits is not None and self.effective_in(scope) is not None:
            queue, entry = task.waits
            queue.remove(entry)
            self.wake(task, "cancel", None)
        for child in scope.children:
            self.interrupt(child)

    # Tasks, and their ends.

    def add(self, body: Any, spawner: Task | None, how: str, scope: Scope | None) -> Task:
        task = Task(body, spawner, how)
        self.tasks.append(task)
        if scope is not None:
            self.attach(task, scope)
        self.ready.append(task)
        return task

    def attach(self, child: Scope, parent: Scope) -> None:
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
                other.spawner.failed.remove(other)  # the joiner reports the failure, not the parent
            return self.do_result(other)
        if task.path[: len(other.path)] == other.path:
            raise SyscallError("the task joins itself or an ancestor")
        self.park(task, other.joiners, task)
        return None

    def do_join_all(self, task: Task) -> None:
        if self.awaited(task):
            self.park(task, self.joining_all, task)

    def do_result(self, task: Task) -> Any:
        if task.failure is not None:
            raise task.failure
        if task.cancelled_caught:
            raise TaskCancelled(task, task.ended_by)
        return task.result

    def living(self, task: Task) -> list[Task]:
        return [child for child in self.tasks if child.spawner is task and child.state != DONE]

    def awaited(self, task: Task) -> list[Task]:
        return [child for child in self.living(task) if child.how != "daemon"]

    def body_ended(self, task: Task, result: Any, error: BaseException | None) -> None:
        task.state, task.result = ENDING, result
        if error is not None:
            rest = without_cancelled(error)
            if rest is error:
                task.failure = error
            elif self.effective_in(task) is None:  # Unspecified: a Cancelled of a scope that the body has left
                task.failure = SyscallError("a stray Cancelled")
                task.failure.__cause__ = error
            else:
                task.cancelled_caught, task.failure = True, rest
            if task.cancelled_caught or task.failure is not None:
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
            if not self.awaited(parent) and parent in self.joining_all:  # Unspecified: woken after the joiners
                self.joining_all.remove(parent)
                self.wake(parent, "answer", None)
            self.end_if_alone(parent)

    def end(self, task: Task) -> None:
        """Finish a task: cancel its parent first, if the task failed, and then wake its joiners."""
        if task.failed:
            # Unspecified: the task's own error occurs once, also if a child raised the same one.
            errors = [child.failure for child in task.failed if child.failure is not task.failure]
            own = [task.failure] if task.failure is not None else []
            task.failure = BaseExceptionGroup("failed", [*own, *errors])
        task.cancelled_caught = task.cancelled_caught and task.failure is None
        if task.cancelled_caught:
            task.ended_by, _ = self.effective_in(task) or ("", None)
        task.state = DONE
        if task.parent is not None:
            task.parent.children.remove(task)
        self.world.note(task.path, "ends", self.world.show_end(task.failure, task.cancelled_caught, task.result))
        parent = task.spawner
        # A failure that is kept for Join is reported by the joiners, if there are any.
        if task.failure is not None and parent is not None and not (task.how == "keep" and task.joiners):
            parent.failed.append(task)
            if task.how != "keep":
                self.cancel(parent, "its child failed", task)
        while task.joiners:  # the parent's cancellation may have removed some
            self.wake(task.joiners.pop(0), *self.attempt(task, "result"))

    # Scopes.

    def do_scope(self, task: Task, kind: str, seconds: float) -> Scope:
        return Scope(kind, task, inf if kind == "cancel" else seconds)

    def do_enter(self, task: Task, scope: Scope) -> None:
        self.attach(scope, task.scope)
        task.scope = scope
        self.set_deadline(scope, min(scope.deadline, self.time + scope.seconds))

    def do_move(self, task: Task, scope: Scope, seconds: float) -> None:
        # Unspecified: a deadline that was set before the `with` replaces the timeout.
        scope.seconds = inf
        self.set_deadline(scope, self.time + seconds)

    def set_deadline(self, scope: Scope, deadline: float) -> None:
        scope.deadline = deadline
        if scope.parent is None or scope.left:
            return
        self.forget_deadline(scope)
        if deadline <= self.time:
            self.expire(scope)  # Unspecified: at once, not at the next Fire
        elif deadline < inf:
            self.timers.append((deadline, scope))

    def forget_deadline(self, scope: Scope) -> None:
        for timer in [timer for timer in self.timers if timer[1] is scope]:
            self.timers.remove(timer)

    def expire(self, scope: Scope) -> None:
        """Lift a shield or cancel a scope at its deadline."""
        if scope.kind == "shield":
            scope.shield = False
            self.interrupt(scope)
        else:
            scope.expired = scope.expired or scope.requested is None
            self.cancel(scope, "its deadline has passed", None)

    def do_cancel_scope(self, task: Task, scope: Scope, reason: str) -> None:
        self.cancel(scope, reason, task)

    def do_leave(self, task: Task, scope: Scope, error: BaseException | None) -> BaseException | None:
        """Leave a scope; return what remains of the error outside."""
        outer = scope.parent
        assert task.scope is scope and outer is not None
        catches = scope.requested is not None and self.effective_in(scope) is scope.requested  # the outermost
        scope.left, task.scope = True, outer
        outer.children.remove(scope)
        for child in scope.children:
            # A child that was cancelled with its scope stays cancelled.
            child.requested = child.requested or (scope.requested if catches else None)
            self.attach(child, outer)
            self.interrupt(child)
        self.forget_deadline(scope)
        rest = without_cancelled(error) if catches else error
        scope.cancelled_caught = rest is not error
        if scope.cancelled_caught and rest is None and scope.kind == "timeout" and scope.expired:
            raise TimedOut(scope)  # Unspecified: not if other errors than Cancelled remain, which pass through
        return rest

    def do_work(self, task: Task, seconds: float) -> None:
        self.time += seconds

    # Locks and queues.

    def do_acquire(self, task: Task, index: int) -> Lock:
        lock = self.locks[index]
        if lock.owner is task and not lock.reentrant:
            raise SyscallError("the task owns the lock already")
        if lock.owner is None or lock.owner is task:
            lock.owner = task
            lock.depth += 1
        else:
            self.park(task, lock.waiting, task)
        return lock

    def do_hold(self, task: Task, lock: Lock) -> None:
        assert lock.owner is task

    def do_release(self, task: Task, lock: Lock, error: BaseException | None) -> None:
        assert lock.owner is task
        lock.depth -= 1
        if lock.depth:
            return
        lock.owner = None
        if lock.waiting:
            lock.owner, lock.depth = lock.waiting.pop(0), 1
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
        queue.unfinished += 1

    def do_get(self, task: Task, index: int) -> Any:
        try:
            return self.do_get_now(task, index)
        except WouldBlock:
            self.park(task, self.queues[index].getting, task)

    def do_get_now(self, task: Task, index: int) -> Any:
        queue = self.queues[index]
        taken = None
        if queue.items:
            taken = min(queue.items) if queue.by_priority else queue.items[0]
            queue.items.remove(taken)
        if queue.putting:
            putter, item = queue.putting.pop(0)
            queue.unfinished += 1
            self.wake(putter, "answer", None)
            if taken is None:  # a rendezvous
                taken = item
            else:
                queue.items.append(item)
        if taken is None:
            raise ClosedError if queue.closed else WouldBlock
        return taken

    def do_done(self, task: Task, index: int) -> None:
        queue = self.queues[index]
        if not queue.unfinished:
            raise ValueError
        queue.unfinished -= 1
        while queue.joining and not queue.unfinished:
            self.wake(queue.joining.pop(0), "answer", None)

    def do_queue_join(self, task: Task, index: int) -> None:
        queue = self.queues[index]
        if queue.unfinished:
            self.park(task, queue.joining, task)

    def do_close(self, task: Task, index: int) -> None:
        queue = self.queues[index]
        queue.closed = True
        while queue.getting:
            self.wake(queue.getting.pop(0), "raise", ClosedError())
        while queue.putting:
            self.wake(queue.putting.pop(0)[0], "raise", ClosedError())


def without_cancelled(error: BaseException | None) -> BaseException | None:
    """Return an error, perhaps a group of groups, without its Cancelled exceptions; None if nothing remains."""
    if isinstance(error, Cancelled):
        return None
    if not isinstance(error, BaseExceptionGroup):
        return error
    cancelled, rest = error.split(Cancelled)
    return error if cancelled is None else rest
