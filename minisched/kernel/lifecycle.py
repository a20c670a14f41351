"""The end of a task, and its consequences for children, parent and joiners.

Theory of operation. The kernel reports the end of a task's body (`Lifecycle.ended`). The task is then *ending*: it
waits for its children, then cancels its daemons and waits for them, and only then is it done. If its body failed or
was cancelled, its children are cancelled first. A done task passes a failure to its parent and wakes its joiners.
Since that may be all that an ending parent waits for, `ended` climbs to the parent in a loop, not by recursion: a
chain of any length can end.

Invariants:
1. A task never outlives its parent: it is done only when it has no children left.
2. No failure is lost: it goes to the parent, unless the task was spawned with `keep=True` and is joined.
3. No failure is kept for ever: one that was joined, or went to the parent's end, is dropped here.

Decision: there are two engines for children: this one for a task's own children, and `TaskGroup` for those of a block.
Because: they share little. A task waits for its children after its body, outside of any turn. A group waits in its
owner's body, by calls that a cancellation, `close` or a scope that is still open can interrupt. A failed child cancels
the whole task here, and there only the block; each kind of group decides that for itself.
Rejected: one engine, in which a task and a group count their children in the same way, and one call, JoinAll, waits for
those of either. It was tried, and compared with two engines just before `TaskGroup.start` came:

| measured | two engines | one engine |
|---|---|---|
| lines of the eight modules that changed | | 121 added, 135 deleted |
| lines of code in all modules concerned, without docstrings | 1,783 | 1,777 |
| instructions of `yield Join((yield Spawn(child())))`, two trials | 39,580 and 39,634 | 40,032 and 39,808 |
| bytes of a task | 264 | 272 |

The tests of tasks, groups, supervision and servers held, as did the reference interpreter, `cancel_everywhere` and the
tests of references that are kept. `on_done` remained, for portals and servers. The cost is small, and so is the gain:
14 lines, where 200 were expected. The instructions are those of `valgrind --tool=callgrind` for 30,000 spawns less
those for 10, in two copies of the package with the bytecode compiled before.

Decision: a task has one `on_done` and many `on_body_end`. Because: one place takes a failure, so one answer counts;
locks and signals only observe. Rejected: a list of observers for both, of which two could take the same failure.

Not here: the syscalls that spawn and join (`tasks/tasks`); groups of tasks (`tasks/taskgroup`).
"""

from __future__ import annotations

from functools import partial
from types import GeneratorType

from ..errors import Cancelled, TaskCancelled
from .misuse import add_hint, cancelled_without_scope
from .scoping import forget_canceller, leave
from .syscall import Service
from .tracebacks import (
    SPECIAL,
    closed_by_aclose,
    find,
    forget_cancellers,
    group_of,
    one_line,
    strip_own_frames,
    without_cancelled,
)
from .tree import DONE, ENDING
from .waiting import resume, task_of, throw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .kernel import Kernel
    from .scoping import Anonymous
    from .tree import Task
    from .waiting import Waiter

    Callback = Callable[[Task], object]

MAX_FINALLY_YIELDS = 20  # CPython allows 20 nested blocks, so at most 20 `finally` can yield one after the other


class Lifecycle(Service):
    """The joiners of each task, callbacks at its end, and failures that a parent will raise.

    `on_body_end[task]` are called as soon as the body has returned or raised, while children may still be alive.
    `on_done[task]` is called when the task and its children have ended; if it returns True, the failure is handled and
    does not go to the parent. `quit` is the KeyboardInterrupt or SystemExit that a task raised: it ends the run.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.joiners: dict[Task, dict[Waiter, None]] = {}  # by the task that they wait for
        self.joining_all: dict[Task, None] = {}
        self.on_body_end: dict[Task, dict[Callback, None]] = {}
        self.on_done: dict[Task, Callable[[Task], bool]] = {}
        self.failed: dict[Task, dict[Task, None]] = {}  # children whose failure a parent will raise, by the parent
        self.quit: BaseException | None = None
        self.last_reason: Anonymous = (None, None)  # of the last cancelled task that ended, shared with the next one

    def tasks(self) -> Iterable[Task]:
        """Return the tasks that are parked in Join and JoinAll."""
        yield from self.joining_all
        for joiners in self.joiners.values():
            yield from map(task_of, joiners)

    def ended(self, task: Task, raised: BaseException) -> None:
        """Handle the end of a body. The kernel calls this.

        The task is retired unless it waits for children. If its parent was waiting only for this task, the parent is
        retired too, and so on upwards.

        Args:
            task: the task whose body has ended.
            raised: the exception that left the body; StopIteration means that it returned.
        """
        task.state = ENDING
        task.step = task.sent = None
        if type(raised) is StopIteration and task.scope is task:
            task.result = raised.value
        else:
            self._body_raised(task, raised)
        if self.on_body_end:
            self._run_body_end_callbacks(task)
        while task.last_child is None:
            parent = task.spawner
            self._retire(task, parent)
            if parent is None or parent.state is not ENDING:
                return
            task = parent
        if task.live_children == 0:  # only daemons are left; the end of the last one continues here
            self.kernel.cancel(task, f"its parent {task.name!r} has ended", task)

    def _body_raised(self, task: Task, raised: BaseException) -> None:
        """Record how a body ended that raised, or returned inside a scope; cancel its children if it did not return."""
        if type(raised) is Cancelled and task.scope is task and task.effective is not None:  # as nearly always
            raised.__traceback__ = None  # nobody reads it; freeing frames is most of the cost of a mass cancellation
            task.cancelled_caught = True
        else:
            self._record_end(task, raised)
        if task.last_child is not None and (task.cancelled_caught or task.failure is not None):
            self.kernel.cancel(task, f"its parent {task.name!r} did not return", task)

    def _record_end(self, task: Task, raised: BaseException) -> None:
        """Leave the scopes of a body that has ended, and record its result or its error."""
        gen = task.gen
        if gen.gi_suspended if type(gen) is GeneratorType else gen.cr_suspended:
            close_body(task, raised)  # a signal handler of the program's raised just after the body had yielded
        error: BaseException | None = raised
        if issubclass(type(raised), StopIteration):
            error, task.result = None, raised.value  # type: ignore[attr-defined]
        while task.scope is not task:  # scopes that were entered without `with`
            error = leave(task.scope, error)
        if error is not None:
            self._record_error(task, error)

    def _record_error(self, task: Task, error: BaseException) -> None:
        """Make an error the task's failure. In a cancelled task, Cancelled is not a failure."""
        error = strip_own_frames(error)
        forget_cancellers(error)
        add_hint(error)
        if find(error, *SPECIAL) is None:
            task.failure = error
            return
        quits = find(error, KeyboardInterrupt, SystemExit)
        if quits is not None:
            self.interrupt(quits, task)
            if quits is error:  # in a group, the other errors must not be lost
                task.cancelled_caught = True
                return
        rest = without_cancelled(error)
        if rest is error:
            task.failure = error
        elif task.effective is None:
            task.failure = cancelled_without_scope(task, find(error, Cancelled))
            task.failure.__cause__ = error
        else:
            error.__traceback__ = None
            task.failure, task.cancelled_caught = rest, True

    def _retire(self, task: Task, parent: Task | None) -> None:
        """Remove a task from the tree, since it is done, and notify those that wait for that."""
        if self.failed and task in self.failed:
            task.failure = self._group(task, list(self.failed.pop(task)))
        if task.failure is not None:
            task.cancelled_caught, task.result = False, None
            task.failure_traceback = task.failure.__traceback__
        if parent is not None and not task.daemon:
            parent.live_children -= 1
        task.state = DONE
        task.detach()
        if self.kernel.watch is not None:
            self.kernel.watch.exit(task)
        # None in place of `del`, which takes ten times as long for a slot. No reference cycle is left.
        task.scope = task.gen = task.context = None  # type: ignore[assignment]
        if task.effective is not None:
            task.deliveries = None
            self.last_reason = forget_canceller(task, self.last_reason)
        if task.failure is not None or self.joiners or self.on_done:
            self._notify(task)
        if self.joining_all and parent in self.joining_all and parent.live_children == 0:
            del self.joining_all[parent]
            self.kernel.resume(parent)

    def _notify(self, task: Task) -> None:
        """Notify `on_done` of a task's end, then the parent if the task failed, then the joiners.

        Decision: a parent is cancelled before the joiners of a failed child wake. Because: a parent that waits in Join
        then receives Cancelled and ends with the group of failures; woken first, it could handle an error that ends it
        all the same. `keep=True` is the way to handle it. Rejected: joiners first.
        """
        handled = task in self.on_done and self.on_done.pop(task)(task)
        if task.failure is not None and not handled and not (task.keep and task in self.joiners):
            self._pass_failure_to_parent(task, task.failure)
        joiners = self.joiners.get(task, {})  # looked up now: the cancellation of the parent removed some
        for joiner in list(joiners):
            if joiner in joiners:  # waking one branch of a `select` removes its other branches
                self._remove_joiner(task, joiner)
                error = failure(task)
                if error is not None:
                    throw(self.kernel, joiner, error)
                else:
                    resume(self.kernel, joiner, task.result)

    def _pass_failure_to_parent(self, task: Task, error: BaseException) -> None:
        parent = task.spawner
        if parent is not None:
            self.failed.setdefault(parent, {})[task] = None
            if not task.keep:
                self.kernel.cancel(parent, f"its child {task.name!r} failed: {one_line(error)}", task)

    def _group(self, task: Task, failed: list[Task]) -> BaseException:
        """Return a task's own failure and its children's as one group, in this order."""
        errors = [child.failure for child in failed if child.failure is not None and child.failure is not task.failure]
        if task.failure is None:
            return group_of(f"children of task {task.name!r} failed", errors)
        return group_of(f"task {task.name!r} failed, and children of it", [task.failure, *errors])

    def _run_body_end_callbacks(self, task: Task) -> None:
        for callback in list(self.on_body_end.pop(task, ())):
            _ = callback(task)

    def add_body_end_callback(self, task: Task, callback: Callback) -> None:
        """Register `callback(task)`, which is called as soon as the body of `task` is over."""
        self.on_body_end.setdefault(task, {})[callback] = None

    def remove_body_end_callback(self, task: Task, callback: Callback) -> None:
        """Remove such a callback."""
        del self.on_body_end[task][callback]
        if not self.on_body_end[task]:
            del self.on_body_end[task]

    def move_body_end_callback(self, callback: Callback, task: Task, to: Task | None) -> None:
        """Register a callback of `task` for another task in its place, or for none."""
        if to is not None and to not in self.on_body_end and len(self.on_body_end[task]) == 1:
            self.on_body_end[to] = self.on_body_end.pop(task)
            return
        self.remove_body_end_callback(task, callback)
        if to is not None:
            self.add_body_end_callback(to, callback)

    def add_joiner(self, task: Task, joiner: Waiter) -> Callable[[], object]:
        """Register `joiner`, which is woken at the end of `task`; return the undo."""
        self.joiners.setdefault(task, {})[joiner] = None
        return partial(self._remove_joiner, task, joiner)

    def _remove_joiner(self, task: Task, joiner: Waiter) -> None:
        joiners = self.joiners[task]
        del joiners[joiner]
        if not joiners:
            del self.joiners[task]

    def take_failure_for_join(self, task: Task) -> BaseException:
        """Return the error that a Join of this failed task raises. The parent's end need not report it again."""
        parent = task.spawner
        if task.keep and parent in self.failed:
            _ = self.failed[parent].pop(task, None)
            if not self.failed[parent]:
                del self.failed[parent]
        assert task.failure is not None
        return BaseException.with_traceback(task.failure, task.failure_traceback)

    def interrupt(self, error: BaseException, by: Task | None) -> None:
        """Cancel main because of a KeyboardInterrupt or SystemExit, which `run` then raises."""
        if self.quit is None:
            self.quit = error
        elif self.quit is not error:
            self.quit.add_note(f"{'nobody' if by is None else f'task {by.name!r}'} raised {error!r}, too")
        for main in [*self.kernel.root.children()]:
            self.kernel.cancel(main, type(error).__name__, by)

    def close(self) -> None:
        """Call `on_done` of tasks that never ended, since the run was aborted."""
        while self.on_done:
            task, on_done = self.on_done.popitem()
            _ = on_done(task)
        self.failed.clear()


def failure(task: Task) -> BaseException | None:
    """Return the error that a request for a done task's result raises; None if the task returned."""
    if task.failure is not None:
        return BaseException.with_traceback(task.failure, task.failure_traceback)
    return task_cancelled(task) if task.cancelled_caught else None


def task_cancelled(task: Task) -> TaskCancelled:
    """Return the error that a request for the result of a cancelled task raises."""
    return TaskCancelled(task, task.effective[0] if task.effective is not None else None)


def close_body(task: Task, error: BaseException) -> None:
    """Close the task's generator, in its context. Exceptions of its cleanup become notes of `error`.

    The task is ending from now on, and cannot wait. A block in an async generator that it closes itself looks at that.
    """
    task.kernel.current = task
    task.state = ENDING
    for _ in range(MAX_FINALLY_YIELDS):
        try:
            return task.context.run(task.gen.close)
        except BaseException as problem:
            error.add_note(f"task {task.name!r} raised {problem!r} when it was closed")


def can_wait(owner: Task, closing: BaseException) -> bool:
    """Return whether a block of `owner` can wait while it handles this GeneratorExit.

    Decision: the block looks where the GeneratorExit began. Because: `aclose` of an async generator lets it wait, and
    `close` of a generator or coroutine ends it with a RuntimeError at its next `yield`; Python does not tell the two
    apart otherwise. Rejected: to wait never, which left the children of a generator running that was closed as Python's
    documentation asks (`contextlib.aclosing`); to wait always, which broke the end of an aborted run. A coroutine
    that a program closes by hand, and that closes such a generator, gets Python's RuntimeError, as for any wait there.
    """
    return owner.kernel.current is owner and owner.state is not ENDING and closed_by_aclose(closing)
