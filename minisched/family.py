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

from .errors import Cancelled, SyscallError, TaskCancelled, brief, clean, find, without_cancelled
from .kernel import DONE, ENDING, Kernel, Service, Task
from .scopes import leave
from .waiting import resume, task_of, throw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .waiting import Waiter

    Tell = Callable[[Task], object]


class Family(Service):
    """Who waits for whose end, and what an end sets in motion.

    `at_end[task](task)` is called when the task is done, its children too; it
    returns whether it has dealt with the failure, which is then nobody else's.
    What `at_body_end[task]` is, or each of what is in that dict, is called
    when its body is over, whether or not it has to wait for children.
    `quit` is the KeyboardInterrupt or SystemExit that a task raised: it ends the run.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.joiners: dict[Task, dict[Waiter, None]] = {}  # by the task they wait for
        self.joining_all: dict[Task, None] = {}
        self.at_end: dict[Task, Callable[[Task], bool]] = {}
        self.at_body_end: dict[Task, Tell | dict[Tell, None]] = {}
        self.failed: dict[Task, dict[Task, None]] = {}  # children whose failure it has to report, by their parent
        self.quit: BaseException | None = None
        kernel.ended = self.ended

    def tasks(self) -> Iterable[Task]:
        """Return the tasks parked in Join and JoinAll."""
        yield from self.joining_all
        for joiners in self.joiners.values():
            yield from map(task_of, joiners)

    def ended(self, task: Task, raised: BaseException) -> None:
        """Take note of the end of a body, which has `raised` a StopIteration if it returned.

        The task is retired, if it waits for nobody any more; and its parent, if that was all it waited for; and so on.
        """
        if type(raised) is StopIteration and task.scope is task:
            task.value = raised.value
        else:
            self._raised(task, raised)
        if self.at_body_end and task in self.at_body_end:
            self._tell_body_end(task)
        while task.live == 0:
            if task.youngest is not None:  # daemons: they are told, and the last of them comes back here
                self.kernel.cancel(task, f"its parent {task.name!r} has ended", task)
                return
            parent = task.spawner
            self._retire(task, parent)
            if task.failure is not None or self.joiners or self.at_end:
                self._tell_all(task)
            if self.joining_all and parent is not None and parent.live == 0 and parent in self.joining_all:
                del self.joining_all[parent]
                self.kernel.resume(parent)
            if parent is None or parent.place is not ENDING:
                return
            task = parent

    def _raised(self, task: Task, raised: BaseException) -> None:
        """Take note of a body that did not just return, and cancel the children of one that failed."""
        error: BaseException | None = raised
        if isinstance(raised, StopIteration):
            error, task.value = None, raised.value
        while task.scope is not task:  # a scope that was entered without `with`
            error = leave(task.scope, error)
        if error is not None:
            self._take(task, error)
        if task.youngest is not None and (task.cancelled or task.failure is not None):
            self.kernel.cancel(task, f"its parent {task.name!r} did not return", task)

    def _take(self, task: Task, error: BaseException) -> None:
        """Make an error a task's failure; Cancelled is none, if the task was cancelled."""
        if type(error) is Cancelled and task.cause is not None:  # with nothing else: how most that are cancelled end
            error.__traceback__ = None  # of no use to anybody: most of the cost of ending many tasks at once
            task.cancelled = True
            return
        error = clean(error)
        quits = find(error, KeyboardInterrupt, SystemExit)
        if quits is not None:
            self.interrupt(quits, task)
            if quits is error:  # else it is in a group, with others that must not be lost
                task.cancelled = True
                return
        rest = without_cancelled(error)
        if rest is error:
            task.failure = error
        elif task.cause is None:
            task.failure = SyscallError(f"task {task.name!r} raised a Cancelled that no scope had sent it")
            task.failure.__cause__ = error
        else:
            error.__traceback__ = None
            task.failure, task.cancelled = rest, True

    def _tell_body_end(self, task: Task) -> None:
        told = self.at_body_end.pop(task)
        for tell in [told] if callable(told) else list(told):
            _ = tell(task)

    def tell_body_end(self, task: Task, tell: Tell) -> None:
        """Have `tell(task)` called when the body of `task` is over."""
        known = self.at_body_end.setdefault(task, tell)
        if known is not tell:  # most often it is the only one, as the lock that a task has
            if callable(known):
                known = self.at_body_end[task] = {known: None}
            known[tell] = None

    def keep_body_end(self, task: Task, tell: Tell) -> None:
        """Take that back."""
        known = self.at_body_end[task]
        if not callable(known):
            del known[tell]
        if callable(known) or not known:
            del self.at_body_end[task]

    def interrupt(self, error: BaseException, by: Task | None) -> None:
        """Cancel main for a KeyboardInterrupt or SystemExit, which `run` then raises."""
        if self.quit is None:
            self.quit = error
        elif self.quit is not error:
            self.quit.add_note(f"{'nobody' if by is None else f'task {by.name!r}'} raised {error!r}, too")
        for main in [*self.kernel.root.children()]:
            self.kernel.cancel(main, type(error).__name__, by)

    def _retire(self, task: Task, parent: Task | None) -> None:
        """Take a task out of the tree."""
        if self.failed and task in self.failed:
            task.failure = self._group(task, list(self.failed.pop(task)))
        if task.failure is not None:
            task.cancelled, task.value = False, task.failure.__traceback__
        if parent is not None and not task.daemon:
            parent.live -= 1
        task.place = DONE
        older, younger = task.older, task.younger  # what `unhang` does: to call it is 1 % of a spawn
        if younger is not None:
            younger.older, task.younger = older, None
        else:
            task.parent.youngest = older  # pyright: ignore[reportOptionalMemberAccess]
        if older is not None:
            older.younger, task.older = younger, None
        if self.kernel.watch is not None:
            self.kernel.watch.exit(task)
        # Leaves no cycle to the collector. (`del` of a slot takes ten times as long.)
        task.scope = task.gen = task.context = None  # type: ignore[assignment]

    def _tell_all(self, task: Task) -> None:
        """Tell of the end of a task: first who asked to be told, then its parent, if it failed, then its joiners."""
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
            self.failed.setdefault(parent, {})[task] = None
            if not task.keep:
                self.kernel.cancel(parent, f"its child {task.name!r} failed: {brief(error)}", task)

    def _group(self, task: Task, failed: list[Task]) -> BaseException:
        """Return a task's own failure and its children's as one group, in this order."""
        errors = [child.failure for child in failed if child.failure is not None and child.failure is not task.failure]
        if task.failure is None:
            return BaseExceptionGroup(f"children of task {task.name!r} failed", errors)
        return BaseExceptionGroup(f"task {task.name!r} failed, and children of it", [task.failure, *errors])

    def stated(self, task: Task) -> BaseException:
        """Return what a Join of a task that did not return has to raise: it need not be said at its parent's end."""
        parent = task.spawner
        if task.keep and parent in self.failed:
            _ = self.failed[parent].pop(task, None)
            if not self.failed[parent]:
                del self.failed[parent]
        error = failure(task)
        assert error is not None
        return error

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


def ended(task: Task, error: BaseException) -> None:
    """Be the kernel's hook for the end of a body."""
    task.kernel.service(Family).ended(task, error)


def failure(task: Task) -> BaseException | None:
    """Return what is raised to who asks for the result of a task that is done; None if it has one."""
    if task.failure is not None:
        return task.failure.with_traceback(task.value)
    if task.cancelled:
        return TaskCancelled(task, task.cause[0] if task.cause is not None else None)
    return None
