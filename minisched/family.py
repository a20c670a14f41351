"""What happens when a task ends: to its children, its parent, and those who wait for it.

Theory of operation. The kernel says that a task's body is over (`Family.ended`). The task is then
*ending*: it waits for its children, next for its daemons, which it cancels, and only then is it
done. A failure cancels the children first. A done task tells its parent and its joiners, which may
end the parent in turn: `settle` climbs in a loop, so that a chain of any length can end.

Invariants:
1. Nothing outlives its parent: a task is done only when it has no children left.
2. No failure is lost: it is the parent's, unless `keep=True` and somebody has joined the task.
3. No failure is kept for ever: what was joined, or has ended with its parent, is forgotten.

Not here: the calls that spawn and join (`tasks`); groups of tasks (`groups`).
"""

from __future__ import annotations

from functools import partial

from .errors import SyscallError, TaskCancelled, brief, find, without_cancelled
from .kernel import DONE, ENDING, Kernel, Service, Task
from .scopes import leave
from .waiting import resume, task_of, throw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .waiting import Waiter


class Family(Service):
    """Who waits for whose end, and what an end sets in motion.

    `at_end[task](task)` is called when the task is done, its children too; it
    returns whether it has dealt with the failure, which is then nobody else's.
    Each of `at_body_end[task]` is called when its body is over, whether or not
    it has to wait for children.
    `quit` is the KeyboardInterrupt or SystemExit that a task raised: it ends the run.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.joiners: dict[Task, dict[Waiter, None]] = {}  # by the task they wait for
        self.joining_all: dict[Task, None] = {}
        self.at_end: dict[Task, Callable[[Task], bool]] = {}
        self.at_body_end: dict[Task, dict[Callable[[Task], object], None]] = {}
        self.quit: BaseException | None = None

    def tasks(self) -> Iterable[Task]:
        """Return the tasks parked in Join and JoinAll."""
        yield from self.joining_all
        for joiners in self.joiners.values():
            yield from map(task_of, joiners)

    def ended(self, task: Task, error: BaseException | None) -> None:
        """Take note of the end of a body; `error` is what it raised, None if it returned."""
        while task.scope is not task:  # a scope that was entered without `with`
            error = leave(task.scope, error)
        quits = None if error is None else find(error, KeyboardInterrupt, SystemExit)
        if quits is not None:
            self.interrupt(quits, task)
            if quits is error:  # else it is in a group, with others that must not be lost
                error, task.cancelled = None, True
        if error is not None:
            task.failure = self._own_failure(task, error)
        if task.children and (task.cancelled or task.failure is not None):
            self.kernel.cancel(task, f"its parent {task.name!r} did not return", task)
        for tell in self.at_body_end.pop(task, ()):
            _ = tell(task)
        self.settle(task)

    def interrupt(self, error: BaseException, by: Task | None) -> None:
        """Cancel main for a KeyboardInterrupt or SystemExit, which `run` then raises."""
        if self.quit is None:
            self.quit = error
        elif self.quit is not error:
            self.quit.add_note(f"{'nobody' if by is None else f'task {by.name!r}'} raised {error!r}, too")
        for main in list(self.kernel.root.children or ()):
            self.kernel.cancel(main, type(error).__name__, by)

    def _own_failure(self, task: Task, error: BaseException) -> BaseException | None:
        """Return what of a body's `error` is a failure; Cancelled is none, if the task was cancelled."""
        rest = without_cancelled(error)
        if rest is error:
            return error
        error.__traceback__ = None  # of no use to anybody: most of the cost of ending many tasks at once
        if task.cause is None:
            stray = SyscallError(f"task {task.name!r} raised a Cancelled that no scope had sent it")
            stray.__cause__ = error
            return stray
        task.cancelled = True
        return rest

    def settle(self, task: Task) -> None:
        """Retire a task that waits for nobody any more; and its parent, if that was all it waited for; and so on."""
        while task.place == ENDING and task.live == 0:
            if task.children:  # daemons: they are told, and the last of them comes back here
                self.kernel.cancel(task, f"its parent {task.name!r} has ended", task)
                return
            self._finish(task)
            parent = task.spawner
            if parent is None:
                return
            if parent.live == 0 and parent in self.joining_all:
                del self.joining_all[parent]
                self.kernel.resume(parent)
            task = parent

    def _finish(self, task: Task) -> None:
        """Take a task out of the tree that waits for nobody; tell its parent, then its joiners."""
        if task.failed:
            task.failure = self._group(task, list(task.failed))
            task.failed = None
        self._retire(task)
        if task.failure is not None:
            task.trace = task.failure.__traceback__
        dealt_with = task in self.at_end and self.at_end.pop(task)(task)
        if task.failure is not None and not dealt_with and not (task.keep and task in self.joiners):
            self._tell_parent(task, task.failure)
        joiners = self.joiners.get(task, {})  # looked up now: the cancellation took some away
        for joiner in list(joiners):
            if joiner in joiners:  # else it was another branch of a `select` that has been told
                self._forget(task, joiner)
                self._tell(joiner, task)

    def _tell(self, joiner: Waiter, task: Task) -> None:
        error = failure(task)
        if error is not None:
            throw(self.kernel, joiner, error)
        else:
            resume(self.kernel, joiner, task.result)

    def _tell_parent(self, task: Task, error: BaseException) -> None:
        parent = task.spawner
        if parent is not None:
            parent.failed = parent.failed or {}
            parent.failed[task] = None
            if not task.keep:
                self.kernel.cancel(parent, f"its child {task.name!r} failed: {brief(error)}", task)

    def _group(self, task: Task, failed: list[Task]) -> BaseException:
        """Return a task's own failure and its children's as one group, in this order."""
        errors = [child.failure for child in failed if child.failure is not None and child.failure is not task.failure]
        if task.failure is None:
            return BaseExceptionGroup(f"children of task {task.name!r} failed", errors)
        return BaseExceptionGroup(f"task {task.name!r} failed, and children of it", [task.failure, *errors])

    def _retire(self, task: Task) -> None:
        assert task.parent is not None and not task.children
        del task.parent.children[task]
        if task.spawner is not None and not task.daemon:
            task.spawner.live -= 1
        task.place = DONE
        task.cancelled = task.cancelled and task.failure is None
        if self.kernel.watch is not None:
            self.kernel.watch.exit(task)
        del task.task, task.scope, task.gen, task.context  # leaves no cycle to the collector

    def close(self) -> None:
        """Call the `at_end` of what never ended: the run was broken off."""
        while self.at_end:
            task, at_end = self.at_end.popitem()
            _ = at_end(task)

    def join(self, task: Task, joiner: Waiter) -> Callable[[], object]:
        """Tell `joiner` of the end of `task`; return the undo."""
        self.joiners.setdefault(task, {})[joiner] = None
        return partial(self._forget, task, joiner)

    def _forget(self, task: Task, joiner: Waiter) -> None:
        joiners = self.joiners[task]
        del joiners[joiner]
        if not joiners:
            del self.joiners[task]


def ended(task: Task, error: BaseException | None) -> None:
    """Be the kernel's hook for the end of a body."""
    task.kernel.service(Family).ended(task, error)


def failure(task: Task) -> BaseException | None:
    """Return what is raised to who asks for the result of a task that is done; None if it has one."""
    if task.failure is not None:
        return task.failure.with_traceback(task.trace)
    if task.cancelled:
        return TaskCancelled(task, task.cause[0] if task.cause is not None else None)
    return None
