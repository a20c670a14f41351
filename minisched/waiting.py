"""Who waits for what: calls that can be one of several, and the base of all that tasks wait at.

Theory of operation. A *waiter* is a parked task, or one branch of a task that waits for several
things at once (`select`): whoever wakes it calls `resume` or `throw` here and need not know which.
A call that can be such a branch has two halves: `attempt` gets the answer now, if it is to be had,
and `enlist` leaves word with who will have it. Locks, queues and groups are *primitives*: they hold
their waiters, in the order of their coming, and are woken by plain calls of other tasks.

Invariants:
1. Who waits at a primitive is parked; to wake it or to undo its wait is to take it out.
2. A primitive belongs to one run at a time, and only that run's thread wakes what waits at it.

Not here: what is waited for.
"""

from __future__ import annotations

from _thread import get_ident
from _weakref import ref  # as `_thread`: `weakref` and `threading` are slow to import
from abc import abstractmethod
from collections import OrderedDict

from .errors import SyscallError
from .kernel import Kernel, Service, Syscall, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol, TypeVar

    Answer = TypeVar("Answer", covariant=True)

    class Branch(Protocol):
        """One of the things that a task waits for at once."""

        task: Task

        def resume(self, value: Any) -> None:
            """Be what ends the wait, with an answer."""

        def throw(self, error: BaseException) -> None:
            """Be what ends the wait, with an error."""

    Waiter = Task | Branch

NOT_YET: Any = object()  # what `attempt` returns in place of an answer


class Primitives(Service):
    """The primitives that tasks of this run have used, for as long as they exist."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.known: dict[ref[Primitive], None] = {}
        self.made: dict[type[Primitive], int] = {}
        self.thread = get_ident()

    def add(self, primitive: Primitive) -> int:
        """Take note of a primitive; return which of its kind it is, from 1."""
        self.known[ref(primitive, self._gone)] = None
        number = self.made[type(primitive)] = self.made.get(type(primitive), 0) + 1
        return number

    def check_thread(self, verb: str, thing: object) -> None:
        """Raise SyscallError in any thread but the run's."""
        if self.thread != get_ident():
            raise SyscallError(f"{verb} of {thing!r} in another thread than its run's, where it could break a turn")

    def _gone(self, primitive: ref[Primitive]) -> None:
        self.known.pop(primitive, None)

    def own(self) -> Iterable[Primitive]:
        """Return those of them that no later run has taken over."""
        for known in list(self.known):
            primitive = known()
            if primitive is not None and primitive.kernel is self.kernel:
                yield primitive

    def tasks(self) -> Iterable[Task]:
        """Return the tasks that wait at a primitive."""
        for primitive in self.own():
            yield from map(task_of, primitive.waiting())

    def close(self) -> None:
        for primitive in self.own():
            primitive.leave_run()


class Selectable(Syscall["Answer"]):
    """A call that waits, and that can be one of several (`select`)."""

    __slots__ = ()

    @abstractmethod
    def attempt(self, kernel: Kernel, task: Task) -> Answer:
        """Return the answer, or raise it, if that can be done now; else return NOT_YET."""

    @abstractmethod
    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        """See to it that `waiter` is woken, by `resume` or `throw` of this module; return the undo."""

    def handle(self, kernel: Kernel, task: Task) -> Answer | None:
        answer = self.attempt(kernel, task)
        if answer is not NOT_YET:
            return answer
        kernel.park(task, self.enlist(kernel, task))
        return None


class Select(Syscall[tuple[int, "Any"]]):
    """Wait until one of several calls can be done, and do it: `select`."""

    __slots__ = ("calls",)

    def __init__(self, calls: tuple[Selectable[Any], ...]) -> None:
        self.calls = calls

    def handle(self, kernel: Kernel, task: Task) -> tuple[int, Any] | None:
        for call in self.calls:
            if not isinstance(call, Selectable):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SyscallError(f"select takes calls like queue.get(), Sleep(1) or Join(task), not {call!r}")
        if not self.calls:
            raise SyscallError("select needs one call or more to wait for")
        for number, call in enumerate(self.calls):
            answer = call.attempt(kernel, task)
            if answer is not NOT_YET:
                return number, answer
        choice = Choice(kernel, task)
        kernel.park(task, choice.undo)  # first: if one refuses to be waited for, the others are undone
        for number, call in enumerate(self.calls):
            choice.undos.append(call.enlist(kernel, One(choice, number)))
        return None

    def blockers(self) -> Iterable[Task]:
        """Return who is waited for, if it is one and the same for all that is waited for."""
        known = [list(getattr(call, "blockers", tuple)()) for call in self.calls]
        return known[0] if all(blockers == known[0] for blockers in known) else ()

    def __repr__(self) -> str:
        return f"select({', '.join(map(repr, self.calls))})"


class Choice:
    """What a task in a `select` waits for, until one thing has happened."""

    __slots__ = ("kernel", "task", "undos")

    def __init__(self, kernel: Kernel, task: Task) -> None:
        self.kernel = kernel
        self.task = task
        self.undos: list[Callable[[], object]] = []

    def undo(self, but: int | None = None) -> None:
        """Wait for none of them any more."""
        undos, self.undos = self.undos, []  # each leads back here: leave no cycle to the collector
        for number, undo in enumerate(undos):
            if number != but:
                _ = undo()


class One:
    """One branch of a choice: a waiter."""

    __slots__ = ("choice", "number", "task")

    def __init__(self, choice: Choice, number: int) -> None:
        self.choice = choice
        self.number = number
        self.task = choice.task

    def resume(self, value: Any) -> None:
        """This is the one."""
        self.choice.undo(self.number)
        self.choice.kernel.resume(self.task, (self.number, value))

    def throw(self, error: BaseException) -> None:
        """This is the one, and it fails."""
        self.choice.undo(self.number)
        self.choice.kernel.throw(self.task, error)


class Leaving:
    """The undo of a wait in a line: one object, where a `partial` is three for the collector to look at."""

    __slots__ = ("line", "waiter")

    def __init__(self, line: OrderedDict[Waiter, Any], waiter: Waiter) -> None:
        self.line = line
        self.waiter = waiter

    def __call__(self) -> None:
        del self.line[self.waiter]


class Primitive:
    """What tasks wait at. Its plain calls, between two yields, wake them."""

    __slots__ = ("__weakref__", "kernel", "name", "thread", "waiters")

    def __init__(self, name: str | None = None) -> None:
        self.kernel: Kernel | None = None  # of the run that uses it
        self.thread = 0
        self.name = name
        self.waiters: OrderedDict[Waiter, Any] = OrderedDict()  # the first came first; each with what it brought

    def waiting(self) -> Iterable[Waiter]:
        """Return all who wait here."""
        return self.waiters

    def in_use(self) -> bool:
        """Return whether it can't be taken to another run."""
        return next(iter(self.waiting()), None) is not None

    def join_run(self, kernel: Kernel) -> None:
        """Belong to the run of `kernel` from here on; SyscallError if it is in use in another."""
        if self.kernel is kernel:
            return
        if self.kernel is not None and self.in_use():
            raise SyscallError(f"{self!r} is in use in another run: make one for each run")
        primitives = kernel.service(Primitives)
        self.kernel, self.thread = kernel, primitives.thread
        number = primitives.add(self)
        self.name = self.name or f"#{number}"

    def leave_run(self) -> None:
        """Belong to no run any more: it is over. Who waits still was broken off in a wait that has no undo."""
        self.kernel = None
        self.waiters.clear()

    def here(self, verb: str) -> Kernel | None:
        """Return the kernel, None if no run uses this now; SyscallError in any thread but the run's."""
        if self.kernel is not None and self.thread != get_ident():
            self.kernel.service(Primitives).check_thread(verb, self)
        return self.kernel

    def enlist(self, waiter: Waiter, brought: Any = None) -> Callable[[], object]:
        """Let `waiter` be the last in the line; return the undo."""
        self.waiters[waiter] = brought
        return Leaving(self.waiters, waiter)

    def state(self) -> str:
        """Say what there is to say of it."""
        return f"{len(self.waiters)} waiting"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or 'unused'}: {self.state()}>"


def resume(kernel: Kernel, waiter: Waiter, value: Any = None) -> None:
    """Wake a waiter with an answer."""
    if isinstance(waiter, Task):
        kernel.resume(waiter, value)
    else:
        waiter.resume(value)


def throw(kernel: Kernel, waiter: Waiter, error: BaseException) -> None:
    """Wake a waiter with an error."""
    if isinstance(waiter, Task):
        kernel.throw(waiter, error)
    else:
        waiter.throw(error)


def task_of(waiter: Waiter) -> Task:
    """Return the task that waits."""
    return waiter if isinstance(waiter, Task) else waiter.task


def select(*calls: Selectable[Any]) -> Select:
    """Wait for several things at once: `number, value = yield select(queue.get(), Sleep(1))`.

    Exactly one of the calls happens: the first, in their order, that can be
    done now, else the one that first can be; its number and its answer are
    returned, or its error raised. For gets, puts, sleeps, joins, locks, events,
    semaphores, barriers; SyscallError for what can't be one of several, and for
    none. Cancelled while parked: none has happened.
    """
    return Select(calls)
