"""The kernel: tasks, the syscalls they yield, and the turns that drive them.

Theory of operation. One *turn* takes the first task of the ready queue, sends it the answer it waits for, and looks
at what it yields next: nothing (to the back of the queue), or a syscall, whose `handle` returns the answer, raises it,
or *parks* the task and leaves word with somebody who will `resume` it or `throw` into it. Cancellation is a tree of
scopes, a task being its own outermost one: to cancel a scope marks what hangs under it, down to the shields, and wakes
who is parked there; others are told at each of their checkpoints.

Invariants, asserted by `Kernel.check`:
1. A live task is in one place: ready, running, parked, or ending (body over, children alive).
2. Only a parked task has an undo, and a call that it waits for; what a service says it may wake is parked.
3. What a scope sees of cancellation (`cause`) is what the tree says.

Not here: what tasks and scopes are (`tree`); time, files, threads, signals; entering a scope (`scopes`); what the end
of a task sets in motion (`family`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from contextvars import copy_context
from itertools import repeat, starmap
from types import GeneratorType, GenericAlias

from . import errors
from .errors import SyscallError
from .tree import DONE, ENDING, HANDLING, PARKED, READY, Scope, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any, Generic, TypeVar

    Answer = TypeVar("Answer", covariant=True)
    Kind = TypeVar("Kind", bound="Service")

    class Asks(Generic[Answer]): ...
else:  # `typing` would be a seventh of the package's time to import
    Asks = type("Asks", (), {"__slots__": (), "__class_getitem__": classmethod(GenericAlias)})

MAX_SWALLOWED = 1000  # Cancelleds of one cancellation, before the task is closed


class Syscall(Asks["Answer"], ABC):
    """A request that a task yields; it handles itself. Subclass it to add your own.

    `checkpoint`: a cancelled task is told so in place of this call.
    `world`: the answer comes from outside of the program (I/O, time, threads).
    """

    __slots__ = ()
    checkpoint = True
    world = False

    @abstractmethod
    def handle(self, kernel: Kernel, task: Task) -> Answer | None:
        """Return the answer, raise it, or `kernel.park(task, undo)`. Never change `self`: others may yield it, too."""

    def __iter__(self) -> Generator[Syscall[Answer], Any, Answer]:
        return (yield self)

    __await__ = __iter__

    def __repr__(self) -> str:
        names = (name for kind in reversed(type(self).__mro__) for name in vars(kind).get("__slots__", ()))
        return f"{type(self).__name__}({', '.join(repr(getattr(self, name, None)) for name in names)})"


class Service:
    """State that outlives a syscall: one instance a kernel, made on first use."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def pending(self) -> int:
        """Return how many parked tasks something outside of the program may still wake."""
        return 0

    def tasks(self) -> Iterable[Task]:
        """Return the parked tasks that this service may wake."""
        return ()

    def close(self) -> None:
        """Give back what is held; the run is over."""


class Services(dict["type[Any]", "Any"]):
    """The services of a kernel, by their kind: made when they are first asked for."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def __missing__(self, kind: type[Kind]) -> Kind:
        made = self[kind] = kind(self.kernel)
        return made


class Kernel:
    """The ready queue, the tree of tasks and scopes, and the verbs that syscalls use.

    `ready` is anything with `append`, `popleft`, `__len__`, `__iter__`: another order is another
    scheduling policy. `ended(task, error)` is told when a body is over: what it raised, which is a
    StopIteration with the result if it returned (any other is a RuntimeError by then: PEP 479).
    """

    def __init__(self, ended: Callable[[Task, BaseException], None], ready: Any = None) -> None:
        self.ended = ended
        self.ready: deque[Task] = deque[Task]() if ready is None else ready
        self.current: Task | None = None  # whose turn it is
        self.root = Scope()  # above main
        self.services = Services(self)
        self.watch: Any = None  # a watch.Watcher, told of each event
        self.execute: Callable[[Syscall[Any], Kernel, Task], Any] | None = None  # called instead of `handle`
        self.fault: Any = None  # a broken rule, which ends the run

    def turns(self, limit: int) -> None:  # noqa: C901
        """Run turns until `limit` are over or nothing is ready.

        Inlined, over the bound on complexity: a call taken out of it costs a bare yield up to a fifth of its time.
        """
        ready, watch, execute = self.ready, self.watch, self.execute
        handling, parked, ended = HANDLING, PARKED, self.ended
        # `popleft` is called from C, 4 % of a bare yield: so where no task is put back, one looks if there is another.
        tasks = starmap(ready.popleft, repeat((), limit if ready else 0))
        # That a turn begins is told on the way here, if anybody watches: not to ask for that is 3 % of a bare yield.
        for task in tasks if watch is None else self._watched(tasks, watch):
            self.current = task
            try:
                call = task.context.run(task.step, task.value)
            except BaseException as error:
                task.place = ENDING
                task.step = task.value = None
                ended(task, error)
                if not ready:
                    break
                continue
            # The one look at cancellation: after a checkpoint was yielded and before it happens.
            if task.scope.cause is not None and (call is None or getattr(call, "checkpoint", False)):
                self._deliver(task, call)
                if not ready:
                    break
                continue
            if call is None:
                task.value = None
                if watch is not None:
                    watch.answer(task, None)
                ready.append(task)
                continue
            task.value = handling
            try:
                value = call.handle(self, task) if execute is None else execute(call, self, task)
            except BaseException as error:
                self._raised(task, call, error)
                continue
            if task.value is not handling:  # parked, or woken again already
                if task.place is parked and task.call is None:  # pyright: ignore[reportUnnecessaryComparison]
                    task.call = call
                if watch is not None:
                    watch.park(task, call)
                if task.undo is not None and task.scope.cause is not None:  # cancelled by its handler, before it parked
                    self._interrupt(task)
                if not ready:
                    break
                continue
            task.value = value
            if watch is not None:
                watch.answer(task, call)
            ready.append(task)
        self.current = None
        if self.fault is not None:
            raise self.fault

    def _watched(self, tasks: Iterable[Task], watch: Any) -> Iterator[Task]:
        """Return the tasks, each after the watch has been told of its turn."""
        for task in tasks:
            self.current = task
            watch.turn(task)
            yield task

    def _raised(self, task: Task, call: Any, error: BaseException) -> None:
        """Raise what came out of `handle` at the task's yield."""
        if self.fault is not None:
            raise self.fault
        if task.place is READY and task.value is not HANDLING:
            raise self.misuse(f"{call!r} woke task {task.name!r}, then raised {error!r}: it can do one")
        error = errors.clean(error if isinstance(call, Syscall) else errors.not_a_syscall(task, call))
        if task.place is PARKED:  # it raised after it had parked
            _ = self.forget(task)
            self.throw(task, error)
        else:
            self._answer(task, call, task.throw_in, (error, error.__traceback__))

    def _answer(self, task: Task, call: Any, step: Any, value: Any) -> None:
        task.step, task.value = step, value
        if self.watch is not None:
            self.watch.answer(task, call)
        self.ready.append(task)

    def spawn(
        self, gen: Any, name: str | None = None, parent: Task | None = None, keep: bool = False, daemon: bool = False
    ) -> Task:
        """Make a task of `gen`, at the back of the ready queue, under `parent`'s innermost scope."""
        if type(gen) is not GeneratorType or gen.gi_suspended or gen.gi_running:
            errors.check_body(gen)  # pyright: ignore[reportUnknownArgumentType]
        # No `__init__`, nor a call of `hang`, and assignments in long rows: a spawn takes three quarters of the time.
        task = Task()
        task.kernel, task.gen, task.step = self, gen, gen.send
        task.name, task.spawner = name or gen.__name__, parent
        task.keep, task.daemon = keep, daemon
        task.place, task.scope = READY, task
        task.value = task.undo = task.call = task.told = task.failure = task.youngest = task.younger = task.own = None
        task.spawned = task.live = 0
        task.cancelled = False
        if parent is None:
            above, task.context, task.ordinal = self.root, copy_context(), 0
        elif parent.place is DONE:
            raise SyscallError(errors.CHILDLESS.format(parent.name))
        else:
            above, task.context, task.ordinal = parent.scope, parent.context.copy(), parent.spawned
            parent.spawned += 1
            if not daemon:
                parent.live += 1
        task.parent, task.cause = above, above.cause
        task.older = older = above.youngest
        if older is not None:
            older.younger = task
        above.youngest = task
        self.ready.append(task)
        if self.watch is not None:
            self.watch.spawn(task)
        return task

    def park(self, task: Task, undo: Callable[[], object] | None) -> None:
        """Let the running task wait until somebody resumes it or throws into it.

        When it is cancelled, `undo()` forgets the wait, and returns what becomes `Cancelled.done`; None: that can't be.
        What it waits for, `task.call`, is the call; a handler may set it then to what says the same and is kept anyway.
        """
        if task.value is not HANDLING or task is not self.current:
            stands = task.place if task.place is PARKED else task.state
            raise self.misuse(f"park: task {task.name!r} is {stands}; a handler parks its own task, once")
        task.place = PARKED
        task.undo = undo
        task.step = task.value = None

    def resume(self, task: Task, value: Any = None) -> None:
        """End a park: the task's yield returns `value`, at its next turn."""
        if task.place is not PARKED:
            raise self.misuse(errors.NOT_PARKED.format(task.name, task.state))
        task.place = READY
        task.undo = task.call = None
        task.step = task.gen.send
        task.value = value
        self.ready.append(task)
        if self.watch is not None:
            self.watch.wake(task, self.current)

    def throw(self, task: Task, error: BaseException) -> None:
        """End a park: the task's yield raises `error`, at its next turn."""
        self.resume(task, (error, error.__traceback__))
        task.step = task.throw_in

    def service(self, kind: type[Kind]) -> Kind:
        """Return this kernel's one instance of `kind`, made now if there is none."""
        return self.services[kind]

    def misuse(self, text: str) -> SyscallError:
        """Return the error for a broken rule of the kernel: `run` ends with it, whoever catches it."""
        error = SyscallError(text)
        self.fault = self.fault or error
        return error

    def cancel(self, scope: Scope, reason: str | None = None, by: Task | None = None) -> None:
        """Cancel `scope` and what hangs under it, down to the shields; twice is the same as once.

        A parked task's wait is undone and it is thrown Cancelled. One that is ready or running
        gets what is on its way, and Cancelled at its next checkpoint. O(scopes below).
        """
        left = scope.place is DONE if isinstance(scope, Task) else scope.task is not None and scope.parent is None
        if scope.own is None and not left:
            scope.own = (reason, by)
            if self.watch is not None:
                self.watch.cancel(scope)
            self.spread(scope)

    def spread(self, scope: Scope) -> None:
        """Bring `cause` up to date in `scope` and below, after its `own` or `shield` has changed."""
        todo = [scope]
        while todo:
            scope = todo.pop()
            cause = scope.visible()
            if cause is scope.cause:
                continue
            scope.cause = cause
            task = scope if isinstance(scope, Task) else scope.task
            if cause is not None and task is not None and task.scope is scope and task.undo is not None:
                self._interrupt(task)
            if scope.youngest is not None:
                todo.extend(scope.children())

    def _interrupt(self, task: Task) -> None:
        done = self.forget(task)
        self.resume(task, task if done is None else done)
        # Most often not bound: one object for each of many that are cancelled at once wakes the collector.
        task.step = Task.cancel_in if done is None else task.cancel_in

    def forget(self, task: Task) -> object:
        """Undo a parked task's wait; it still has to be woken."""
        undo, task.undo = task.undo, None
        try:
            return undo() if undo is not None else None
        except Exception as error:
            raise self.misuse(f"the undo of {task.call!r} in task {task.name!r} raised {error!r}") from error

    def _deliver(self, task: Task, call: Any) -> None:
        """Answer a checkpoint with Cancelled; close the task that has swallowed too many of them."""
        told = task.told
        if told is None or told[0] is not task.scope.cause or told[1] < MAX_SWALLOWED:
            return self._answer(task, call, Task.cancel_in, task)
        error = SyscallError(errors.SWALLOWED.format(task.name, MAX_SWALLOWED))
        self.close_body(task, error)
        task.place, task.step, task.value = ENDING, None, None
        self.ended(task, error)

    def close_body(self, task: Task, error: BaseException) -> None:
        """Close the task's generator, in its context; what goes wrong is noted on `error`."""
        self.current = task
        for _ in range(20):  # again after each `finally` that yields, as many as may be within each other
            try:
                return task.context.run(task.gen.close)
            except BaseException as problem:
                error.add_note(f"task {task.name!r} raised {problem!r} when it was closed")

    def tasks(self) -> Iterator[Task]:
        """Return every live task, parents first, in the order in which they were spawned."""
        todo: list[Scope] = [self.root]
        while todo:
            scope = todo.pop()
            if isinstance(scope, Task):
                yield scope
            todo.extend(scope.children())

    def check(self) -> None:
        """Assert the invariants at the top of this file. O(tasks)."""
        assert len(queued := set(self.ready)) == len(self.ready), f"queued twice: {list(self.ready)}"
        for task in self.tasks():
            assert (task in queued) == (task.state is READY), f"{task} is misplaced"
            assert task.place is PARKED or (task.undo is None and task.call is None), f"{task} has an undo"
            scope: Scope | None = task.scope
            while scope is not None and scope is not task.parent:
                assert scope.cause is scope.visible(), f"{task} does not see its cancellation"
                scope = scope.parent
        for service in self.services.values():
            for task in service.tasks():
                assert task.place is PARKED, f"{type(service).__name__} still holds {task}"
