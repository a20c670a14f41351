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

Not here: time, files, threads, signals; entering a scope (`scopes`); the end of a task (`tasks`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from contextvars import Context, copy_context
from itertools import repeat
from types import GenericAlias

from . import errors
from .errors import Cancelled, SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any, Generic, TypeVar

    Answer = TypeVar("Answer", covariant=True)
    Kind = TypeVar("Kind", bound="Service")

    class Asks(Generic[Answer]): ...
else:  # `typing` would be a seventh of the package's time to import
    Asks = type("Asks", (), {"__slots__": (), "__class_getitem__": classmethod(GenericAlias)})

READY, RUNNING, PARKED, ENDING, DONE = "ready", "running", "parked", "ending", "done"
CHILDLESS: dict[Scope, None] = {}  # nobody writes to it
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


class Scope:
    """A part of a task's life that can be cancelled; inert until it is entered (`scopes`)."""

    __slots__ = ("cancelled", "cause", "children", "own", "parent", "shield", "task")

    def __init__(self, *, shield: bool = False) -> None:
        self.task: Task | None = None  # whose life
        self.parent: Scope | None = None
        self.children = CHILDLESS  # in order; a dict of its own once there is one
        self.shield = shield  # nothing outside is seen from inside
        self.own: tuple[str | None, Task | None] | None = None  # asked to end: the reason, and by whom
        self.cause: tuple[str | None, Task | None] | None = None  # the outermost `own` in view
        self.cancelled = False  # it took a Cancelled, so what it held was cut short

    def hang(self, parent: Scope) -> None:
        """Become the youngest child of `parent`."""
        self.parent = parent
        if parent.children is CHILDLESS:
            parent.children = {}
        parent.children[self] = None

    def visible(self) -> tuple[str | None, Task | None] | None:
        """Return what `cause` has to be."""
        return (None if self.shield or self.parent is None else self.parent.cause) or self.own


class Task(Scope):
    """A generator and where it stands. A task is its own outermost scope."""

    __slots__ = (
        "kernel", "gen", "context", "name", "spawner", "ordinal", "keep", "daemon",  # fixed at the spawn
        "step", "value", "undo", "call", "place", "scope", "told", "swallowed",  # the kernel's
        "spawned", "live", "failed", "failure", "trace", "result",  # of its end: `tasks`
    )  # fmt: skip

    def __init__(self, kernel: Kernel, gen: Any, context: Context, name: str, spawner: Task | None) -> None:
        super().__init__()
        self.task = self  # this and `scope`, the innermost one, are cycles: `tasks` breaks them
        self.scope: Scope = self
        self.kernel = kernel
        self.gen = gen
        self.context = context
        self.name = name
        self.spawner = spawner
        self.ordinal, self.keep, self.daemon = 0, False, False
        self.step: Any = gen.send  # or `throw_in`, `cancel_in`; None while parked: 72 bytes less
        self.value: Any = None  # what `step` is given at the next turn
        self.undo: Callable[[], object] | None = None
        self.call: Syscall[Any] | None = None  # what it waits for, while parked
        self.place: str = READY
        self.told: object = None  # of which cancellation, and how often
        self.swallowed = 0
        self.spawned = self.live = 0  # children so far; living ones that it waits for
        self.failed: dict[Task, None] | None = None  # children whose failure it has to report
        self.failure: BaseException | None = None
        self.trace: Any = None  # the traceback that `failure` had
        self.result: Any = None

    @property
    def state(self) -> str:
        """One of ready, running, parked, ending, done."""
        return RUNNING if self.kernel.current is self else self.place

    @property
    def path(self) -> tuple[int, ...]:
        """The spawner's path and which child it is: the same in each run of a program."""
        path, task = [self.ordinal], self.spawner
        while task is not None:
            path.append(task.ordinal)
            task = task.spawner
        return tuple(reversed(path))

    def throw_in(self, thrown: tuple[BaseException, Any]) -> Any:
        """Raise an error at the task's yield, with the traceback it came with: the `step` for one turn."""
        self.step = self.gen.send
        return self.gen.throw(thrown[0].with_traceback(thrown[1]))

    def cancel_in(self, done: object) -> Any:
        """Raise Cancelled at the task's yield: a `step` for one turn. Made then: 100,000 at once took twice that."""
        cause = self.scope.cause or (None, None)
        self.swallowed = self.swallowed + 1 if cause is self.told else 1
        self.told, self.step = cause, self.gen.send
        return self.gen.throw(Cancelled(*cause, done))

    def __repr__(self) -> str:
        return f"<Task {'.'.join(map(str, self.path))} {self.name} {self.state}>"


class Kernel:
    """The ready queue, the tree of tasks and scopes, and the verbs that syscalls use.

    `ready` is anything with `append`, `popleft`, `__len__`, `__iter__`: another order is another
    scheduling policy. `ended(task, error)` is told when a body is over (error None: it returned).
    """

    def __init__(self, ended: Callable[[Task, BaseException | None], None], ready: Any = None) -> None:
        self.ended = ended
        self.ready: deque[Task] = deque[Task]() if ready is None else ready
        self.current: Task | None = None  # whose turn it is
        self.root = Scope()  # above main
        self.services: dict[type[Service], Service] = {}
        self.watch: Any = None  # a watch.Watcher, told of each event
        self.execute: Callable[[Syscall[Any], Kernel, Task], Any] | None = None  # called instead of `handle`
        self.fault: Any = None  # a broken rule, which ends the run

    def turns(self, limit: int) -> None:  # noqa: C901
        """Run turns until `limit` are over or nothing is ready.

        Inlined, over the bound on complexity: a call taken out of it costs a bare yield up to a fifth of its time.
        """
        ready, watch, execute = self.ready, self.watch, self.execute
        take, put = ready.popleft, ready.append
        for _ in repeat(None, limit):
            if not ready:
                break
            self.current = task = take()
            if watch is not None:
                watch.turn(task)
            try:
                call = task.context.run(task.step, task.value)
            except BaseException as error:
                self._over(task, error)
                continue
            # The one look at cancellation: after a checkpoint was yielded and before it happens.
            if task.scope.cause is not None and (call is None or getattr(call, "checkpoint", False)):
                self._deliver(task, call)
                continue
            if call is None:
                task.value = None
                if watch is not None:
                    watch.answer(task, None)
                put(task)
                continue
            task.place = RUNNING
            try:
                value = call.handle(self, task) if execute is None else execute(call, self, task)
            except BaseException as error:
                self._raised(task, call, error)
                continue
            if task.place is not RUNNING:  # parked, or woken again already
                task.call = call if task.place is PARKED else None  # pyright: ignore[reportUnnecessaryComparison]
                if watch is not None:
                    watch.park(task, call)
                if task.scope.cause is not None:  # cancelled by its own handler, before it parked
                    self._interrupt(task)
                continue
            task.place, task.value = READY, value
            if watch is not None:
                watch.answer(task, call)
            put(task)
        self.current = None
        if self.fault is not None:
            raise self.fault

    def _raised(self, task: Task, call: Any, error: BaseException) -> None:
        """Raise what came out of `handle` at the task's yield."""
        if self.fault is not None:
            raise self.fault
        if task.place is READY:
            raise self.misuse(f"{call!r} woke task {task.name!r}, then raised {error!r}: it can do one")
        error = errors.clean(error if isinstance(call, Syscall) else errors.not_a_syscall(task, call))
        if task.place is PARKED:  # it raised after it had parked
            _ = self.forget(task)
            self.throw(task, error)
        else:
            self._answer(task, call, task.throw_in, (error, error.__traceback__))

    def _answer(self, task: Task, call: Any, step: Any, value: Any) -> None:
        task.place, task.step, task.value = READY, step, value
        if self.watch is not None:
            self.watch.answer(task, call)
        self.ready.append(task)

    def _over(self, task: Task, error: BaseException) -> None:
        """The body has returned (PEP 479: any other StopIteration is a RuntimeError) or raised: next, its children."""
        failure, task.result = (None, error.value) if isinstance(error, StopIteration) else (errors.clean(error), None)
        task.place, task.step, task.value = ENDING, None, None
        self.ended(task, failure)

    def spawn(
        self, gen: Any, name: str | None = None, parent: Task | None = None, keep: bool = False, daemon: bool = False
    ) -> Task:
        """Make a task of `gen`, at the back of the ready queue, under `parent`'s innermost scope."""
        errors.check_body(gen, parent)
        scope, context = (self.root, copy_context()) if parent is None else (parent.scope, parent.context.copy())
        task = Task(self, gen, context, name or gen.__name__, parent)
        task.keep, task.daemon = keep, daemon
        if parent is not None:
            task.ordinal, parent.spawned = parent.spawned, parent.spawned + 1
            parent.live += not daemon
        task.hang(scope)
        task.cause = scope.cause
        self.ready.append(task)
        if self.watch is not None:
            self.watch.spawn(task)
        return task

    def park(self, task: Task, undo: Callable[[], object] | None) -> None:
        """Let the running task wait until somebody resumes it or throws into it.

        When it is cancelled, `undo()` forgets the wait, and returns what becomes `Cancelled.done`; None: that can't be.
        """
        if task.place is not RUNNING or task is not self.current:
            raise self.misuse(f"park: task {task.name!r} is {task.place}; a handler parks its own task, once")
        task.place, task.undo, task.step, task.value = PARKED, undo, None, None

    def resume(self, task: Task, value: Any = None) -> None:
        """End a park: the task's yield returns `value`, at its next turn."""
        if task.place is not PARKED:
            raise self.misuse(errors.NOT_PARKED.format(task.name, task.state))
        task.place, task.undo, task.call = READY, None, None
        task.step, task.value = task.gen.send, value
        self.ready.append(task)
        if self.watch is not None:
            self.watch.wake(task, self.current)

    def throw(self, task: Task, error: BaseException) -> None:
        """End a park: the task's yield raises `error`, at its next turn."""
        self.resume(task, (error, error.__traceback__))
        task.step = task.throw_in

    def service(self, kind: type[Kind]) -> Kind:
        """Return this kernel's one instance of `kind`, made now if there is none."""
        found: Any = self.services.get(kind)
        if found is None:
            found = self.services[kind] = kind(self)
        return found

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
            scope.cause, task = cause, scope.task
            if cause is not None and task is not None and task.scope is scope:
                self._interrupt(task)
            todo.extend(reversed(scope.children))

    def _interrupt(self, task: Task) -> None:
        if task.undo is not None:
            self.resume(task, self.forget(task))
            task.step = task.cancel_in

    def forget(self, task: Task) -> object:
        """Undo a parked task's wait; it still has to be woken."""
        undo, task.undo = task.undo, None
        try:
            return undo() if undo is not None else None
        except Exception as error:
            raise self.misuse(f"the undo of {task.call!r} in task {task.name!r} raised {error!r}") from error

    def _deliver(self, task: Task, call: Any) -> None:
        """Answer a checkpoint with Cancelled; close the task that has swallowed too many of them."""
        if task.told is not task.scope.cause or task.swallowed < MAX_SWALLOWED:
            return self._answer(task, call, task.cancel_in, None)
        error = SyscallError(errors.SWALLOWED.format(task.name, MAX_SWALLOWED))
        self.close_body(task, error)
        self._over(task, error)

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
            todo.extend(reversed(scope.children))

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
