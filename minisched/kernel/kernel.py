"""The kernel: the ready queue, the turns of tasks, and the verbs that syscalls use.

Theory of operation. In one *turn*, the kernel takes the first ready task, sends it the answer to its last yield, and
handles what it yields next. A bare `yield` puts the task at the back of the queue. A syscall handles itself: `handle`
returns the answer, raises an error, or *parks* the task until `resume` or `throw` is called for it. Cancelling a scope
marks all scopes below it, down to the shields, and wakes the parked tasks there.

Invariants, asserted by `testing/checker`:
1. A living task is in one place: ready, running, parked, or ending (its body has ended, its children are alive).
2. Only a parked task has an undo and a call; each task that a service may wake is parked.
3. `scope.effective` is what the tree says.

Not here: clocks, files, signals, threads; the tree itself (`tree`); the consequences of a task's end (`lifecycle`).
"""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from itertools import repeat, starmap
from types import GeneratorType

from ..errors import Cancelled, SyscallError
from . import misuse
from .lifecycle import close_body
from .syscall import Services, Syscall
from .tracebacks import strip_own_frames
from .tree import DONE, HANDLING, PARKED, READY, Scope, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .syscall import Kind
    from .watcher import Watcher

MAX_DELIVERIES = 1000  # Cancelleds of one request, at checkpoints, that a task may swallow before the kernel closes it


class Kernel:
    """The ready queue, the tree of tasks and scopes, and the verbs that syscalls use.

    Args:
        lifecycle: a service class whose `ended(task, error)` is called with the error that left a body.
        ready: a queue with `append`, `popleft`, `__len__` and `__iter__`; another order is another policy.

    Example:
        >>> from minisched import CurrentTask, run
        >>> def main():
        ...     return [task.name for task in (yield CurrentTask()).kernel.tasks()]
        >>> run(main())
        ['main']
    """

    def __init__(self, lifecycle: type[Any], ready: Any = None) -> None:
        self.ready: deque[Task] = deque[Task]() if ready is None else ready
        self.current: Task | None = None  # the running task
        self.cancel_step = self.raise_cancelled  # the `step` that raises Cancelled
        self.root = Scope()  # above main
        self.services = Services(self)
        self.ended: Callable[[Task, BaseException], None] = self.services[lifecycle].ended
        self.watch: Watcher | None = None
        self.execute: Callable[[Syscall[Any], Kernel, Task], Any] | None = None  # called in place of `handle`
        self.check_caller: Callable[[str, object], None] | None = None  # raises where a plain call is not allowed
        self.ends_run: Callable[[BaseException], bool] = lambda error: False  # asked about errors out of `handle`
        self.fault: BaseException | None = None  # a broken rule, which ends the run

    def turns(self, limit: int) -> None:  # noqa: C901
        """Run turns until `limit` are over or no task is ready.

        Discussion. Why one long function? Here, a call or store costs several percent of `switch`. So a running task's
        state is still READY; it is HANDLING once it has yielded a call. `starmap` calls `popleft` in C (10 % of
        `switch`). It must not meet an empty queue: each branch puts the task back, or comes to the test at the bottom.
        """
        ready, watch, execute, handling, ready_state = self.ready, self.watch, self.execute, HANDLING, READY
        for task in starmap(ready.popleft, repeat((), limit if ready else 0)):
            self.current = task
            if watch is not None:
                watch.turn(task)
            try:
                call = task.context.run(task.step, task.sent)
            except BaseException as error:
                self.ended(task, error)
            else:
                # The one place where a task that is not parked meets a cancellation: at a checkpoint, before its call.
                if task.scope.effective is not None and (call is None or getattr(call, "checkpoint", False)):
                    self._deliver_cancelled(task, call)
                elif call is None:
                    task.sent = None
                    if watch is not None:
                        watch.answer(task, None)
                    ready.append(task)
                    continue
                else:
                    task.state = handling
                    try:
                        answer = call.handle(self, task) if execute is None else execute(call, self, task)
                    except BaseException as error:
                        self._raised(task, call, strip_own_frames(error))
                    else:
                        if task.state is handling:
                            task.state = ready_state
                            task.sent = answer
                            if watch is not None:
                                watch.answer(task, call)
                            ready.append(task)
                            continue
                        self._parked(task, call, answer)
            if not ready:
                break
        self.current = task = call = None  # the frames of an error may hold this one: see `minisched.loop.Loop`
        if self.fault is not None:
            raise self.fault

    def _deliver_cancelled(self, task: Task, call: Any) -> None:
        """Answer a checkpoint with Cancelled; close a task that has swallowed too many of them."""
        request, before = task.scope.effective, task.deliveries
        count = 1 if before is None or before[0] is not request else before[1] + 1
        if count <= MAX_DELIVERIES:
            task.deliveries = (request, count)
            return self._answer(task, call, self.cancel_step, None)
        error = SyscallError(misuse.SWALLOWED.format(task.name, MAX_DELIVERIES))
        close_body(task, error)
        return self.ended(task, error)

    def _raised(self, task: Task, call: Any, error: BaseException) -> None:
        """Raise what came out of `handle` at the task's yield."""
        self.fault = self.fault or (error if self.ends_run(error) else None)
        if self.fault is not None:
            raise self.fault
        if task.state is READY:
            raise self.broken_rule(misuse.woke_and_raised(call, task, error)) from error
        error = error if Syscall in type(call).__mro__ else misuse.yielded_no_syscall(task, call, error)
        if task.state is PARKED:  # `handle` parked the task, then raised
            _ = self.undo_wait(task)
            self.throw(task, error)
        else:
            self._answer(task, call, task.throw_in, (error, error.__traceback__))

    def _answer(self, task: Task, call: Any, step: Any, sent: Any) -> None:
        task.state, task.step, task.sent = READY, step, sent
        if self.watch is not None:
            self.watch.answer(task, call)
        self.ready.append(task)

    def _parked(self, task: Task, call: Any, answer: object) -> None:
        """Note the call of a task that its handler has parked, and perhaps woken again."""
        if answer is not None:
            raise self.broken_rule(misuse.lost_answer(call, task, answer))
        if task.state is PARKED and task.call is None:
            task.call = call
        if self.watch is not None:
            self.watch.park(task, call)
        if task.undo is not None and task.scope.effective is not None:  # cancelled by the handler before it parked
            self._abort_wait(task)

    def spawn(
        self, gen: Any, name: str | None = None, parent: Task | None = None, keep: bool = False, daemon: bool = False
    ) -> Task:
        """Create a task of `gen` at the back of the ready queue, under `parent`'s innermost scope."""
        if type(gen) is not GeneratorType or gen.gi_suspended or gen.gi_running:
            misuse.check_body(gen)  # pyright: ignore[reportUnknownArgumentType]
        # Copy for speed of `Scope.__init__` and `Scope.attach`: gains a quarter of `spawn`.
        task = Task()
        task.kernel = self
        task.gen = gen
        task.step = gen.send
        task.name = name or gen.__name__
        task.spawner = parent
        task.keep = keep
        task.daemon = daemon
        task.state = READY
        task.scope = task
        task.sent = task.undo = task.call = task.deliveries = task.last_child = task.next_sibling = None
        task.result = task.failure = task.requested = None
        task.children_spawned = task.live_children = 0
        task.cancelled_caught = False
        if parent is None:
            above, task.context, task.ordinal = self.root, copy_context(), 0
        elif parent.state is DONE:
            raise SyscallError(misuse.CHILDLESS.format(parent.name))
        else:
            above, task.context, task.ordinal = parent.scope, parent.context.copy(), parent.children_spawned
            parent.children_spawned += 1
            parent.live_children += not daemon
        task.parent, task.effective = above, above.effective
        task.prev_sibling = prev = above.last_child
        if prev is not None:
            prev.next_sibling = task
        above.last_child = task
        self.ready.append(task)
        if self.watch is not None:
            self.watch.spawn(task)
        return task

    def park(self, task: Task, undo: Callable[[], object] | None) -> None:
        """Let the running task wait until `resume` or `throw` is called for it. For `handle` alone.

        `undo()` is called at a cancellation. It gives up the wait, so that nothing wakes the task later; its result
        becomes `Cancelled.done`. With None for `undo`, the wait cannot be cancelled.
        """
        if task.state is not HANDLING or task is not self.current:
            raise self.broken_rule(misuse.PARKED_WRONGLY.format(task.name, task.state_name))
        task.state = PARKED
        task.undo = undo
        task.step = task.sent = None

    def resume(self, task: Task, value: Any = None) -> None:
        """Wake a parked task: its yield returns `value` at its next turn. SyscallError if it is not parked."""
        if task.state is not PARKED:
            raise self.broken_rule(misuse.NOT_PARKED.format(task.name, task.state_name))
        task.state = READY
        task.undo = task.call = None
        task.step, task.sent = task.gen.send, value
        self.ready.append(task)
        if self.watch is not None:
            self.watch.wake(task, self.current)

    def throw(self, task: Task, error: BaseException) -> None:
        """Wake a parked task: its yield raises `error` at its next turn. SyscallError if it is not parked."""
        self.resume(task, (error, error.__traceback__))
        task.step = task.throw_in

    def service(self, kind: type[Kind]) -> Kind:
        """Return this kernel's one instance of the service class `kind`, created at the first call."""
        return self.services[kind]

    def broken_rule(self, text: str) -> SyscallError:
        """Record a broken rule, which ends the run even if the error is caught; return the error to raise."""
        error = SyscallError(text)
        self.fault = self.fault or error
        return error

    def cancel(self, scope: Scope, reason: str | None = None, by: Task | None = None) -> None:
        """Cancel `scope`, or a task, and everything below, down to the shields. A second call changes nothing.

        A parked task's wait is undone. A ready task first receives its queued answer. O(scopes below).
        """
        over = scope.state is DONE if isinstance(scope, Task) else scope.task is not None and scope.parent is None
        if scope.requested is None and not over:  # over: a task is done, or a scope was entered and left
            scope.requested = (reason, by)
            if self.watch is not None:
                self.watch.cancel(scope)  # pyright: ignore[reportUnknownArgumentType]
            self.propagate(scope)  # pyright: ignore[reportUnknownArgumentType]

    def propagate(self, scope: Scope) -> None:
        """Update `effective` in `scope` and below. Call this after changing `requested`, `shield` or `parent`."""
        todo = [scope]
        while todo:
            scope = todo.pop()
            request, task = scope.effective_now(), scope.task
            if request is scope.effective:
                continue
            scope.effective = request
            if request is not None and task is not None and task.scope is scope and task.undo is not None:
                self._abort_wait(task)
            if scope.last_child is not None:
                todo.extend(scope.children())

    def _abort_wait(self, task: Task) -> None:
        self.resume(task, self.undo_wait(task))
        task.step = self.cancel_step

    def raise_cancelled(self, done: object = None) -> Any:
        """Raise Cancelled at the running task's yield. The `step` of one turn.

        Decision: a Cancelled is created in the turn that raises it, and all tasks share this step. Because: one object
        for each of 50,000 tasks makes the garbage collector walk all (`cancel`). Rejected: creating it in `cancel`.
        """
        task: Any = self.current
        request, step, task.step = task.scope.effective or (None, None), task.gen.throw, task.gen.send
        box = [Cancelled(request[0], request[1], done)]
        del self, task, request, done  # the frames of the error hold this one: see `minisched.loop.Loop`
        return step(box.pop())

    def undo_wait(self, task: Task) -> object:
        """Call a parked task's undo, which gives up its wait; return what it returned. The task stays parked."""
        undo, task.undo = task.undo, None
        try:
            return undo() if undo is not None else None
        except Exception as error:
            raise self.broken_rule(misuse.broken_undo(task, error)) from error

    def tasks(self) -> Iterator[Task]:
        """Return every living task: parents before children, children in the order of their spawns."""
        todo: list[Scope] = [self.root]
        while todo:
            scope = todo.pop()
            if isinstance(scope, Task):
                yield scope
            todo.extend(scope.children())
