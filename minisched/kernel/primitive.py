"""Primitive: the base class of locks, events, queues and groups, where tasks wait for each other.

Theory of operation. A primitive holds its waiters in the order of their arrival. To wait is a syscall; to wake is a
plain call that a task makes between two yields, such as `lock.release()` or `queue.put_nowait(item)`. A primitive
belongs to the run that uses it first, until that run ends; then another run may use it.

Invariants:
1. A task that waits at a primitive is parked; waking it, or undoing its wait, removes it.
2. A primitive belongs to one run at a time, and only that run's thread wakes its waiters.

Decision: plain calls are allowed between turns too, in the run's thread: by a timer's callback, or by a call that
another thread has scheduled in the loop. Because: a waiter is woken in the same way there. Rejected: inside turns only,
which refused `call_at(deadline, event.set)` and gained nothing.

Not here: `select`, and waiters as such (`waiting`).
"""

from __future__ import annotations

from _thread import get_ident
from _weakref import ref  # `weakref` itself is slow to import
from collections import OrderedDict

from ..errors import SyscallError
from .current import kernels
from .misuse import not_iterable, plain_with
from .syscall import Service
from .waiting import task_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

    from .kernel import Kernel
    from .tree import Task
    from .waiting import Waiter


class Primitives(Service):
    """The primitives that this run has used, as long as the program holds them."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.references: dict[ref[Primitive], None] = {}
        self.counts: dict[type[Primitive], int] = {}

    def add(self, primitive: Primitive) -> int:
        """Register a primitive; return its number among those of its class, from 1."""
        self.references[ref(primitive, self._collected)] = None
        number = self.counts[type(primitive)] = self.counts.get(type(primitive), 0) + 1
        return number

    def _collected(self, reference: ref[Primitive]) -> None:
        self.references.pop(reference, None)

    def bound_here(self) -> Iterable[Primitive]:
        """Return the primitives that still belong to this run."""
        for reference in list(self.references):
            primitive = reference()
            if primitive is not None and primitive.kernel is self.kernel:
                yield primitive

    def tasks(self) -> Iterable[Task]:
        """Return the tasks that wait at a primitive."""
        for primitive in self.bound_here():
            yield from map(task_of, primitive.waiting())

    def close(self) -> None:
        for primitive in self.bound_here():
            primitive.unbind()


class LeaveQueue:
    """The undo of a wait: it removes the waiter from its queue. O(1).

    Decision: the undo of a wait at a primitive is one small object. Because: among 100,000 waiting tasks, most of the
    cost is the garbage collector's, which visits each object again and again (`scale_cancel`). Rejected: a `partial`,
    which is three objects.
    """

    __slots__ = ("queue", "waiter")

    def __init__(self, queue: OrderedDict[Waiter, Any], waiter: Waiter) -> None:
        self.queue = queue
        self.waiter = waiter

    def __call__(self) -> None:
        del self.queue[self.waiter]


class Primitive:
    """A place where tasks wait, and whose plain calls wake them. Subclass it to add your own.

    Decision: waiters are an OrderedDict. Because: waking 100,000 waiters one by one is linear, and a waiter can leave
    from the middle. Rejected: a dict, which searches for its first key from the start each time, so that this is
    quadratic; a deque, which cannot drop a waiter from the middle without a search.

    Args:
        name: a name for messages and reports; None: a number.

    Example:
        >>> from minisched import Primitive, Selectable, Spawn, run
        >>> from minisched.kernel.waiting import NOT_YET, resume
        >>> class Bell(Primitive):
        ...     def heard(self):
        ...         return Heard(self)
        ...     def ring(self):
        ...         kernel = self.check_caller("ring")
        ...         while self.waiters:
        ...             resume(kernel, self.waiters.popitem(last=False)[0], "ding")
        >>> class Heard(Selectable[str]):
        ...     def __init__(self, bell):
        ...         self.bell = bell
        ...     def try_now(self, kernel, task):
        ...         self.bell.bind(kernel)
        ...         return NOT_YET
        ...     def add_waiter(self, kernel, waiter):
        ...         return self.bell.add_waiter(waiter)
        >>> def listen(bell):
        ...     print((yield bell.heard()))
        >>> def main():
        ...     bell = Bell()
        ...     yield Spawn(listen(bell))
        ...     yield
        ...     bell.ring()
        >>> run(main())
        ding
    """

    __slots__ = ("__weakref__", "kernel", "name", "waiters")

    def __init__(self, name: str | None = None) -> None:
        self.kernel: Kernel | None = None  # of the run that uses it
        self.name = name
        self.waiters: OrderedDict[Waiter, Any] = OrderedDict()  # each with what it brought, such as an item to put

    def waiting(self) -> Iterable[Waiter]:
        """Return all waiters. A subclass with more than one queue of waiters overrides this."""
        return self.waiters

    def in_use(self) -> bool:
        """Return whether another run must not take this primitive over."""
        return next(iter(self.waiting()), None) is not None

    def bind(self, kernel: Kernel) -> None:
        """Let this primitive belong to the run of `kernel`. SyscallError if it is in use in another run."""
        if self.kernel is kernel:
            return
        if self.kernel is not None and self.in_use():
            raise SyscallError(f"{self!r} is in use in another run: make one for each run")
        self.kernel = kernel
        number = kernel.service(Primitives).add(self)
        self.name = self.name or f"#{number}"

    def unbind(self) -> None:
        """Let this primitive belong to no run. The waiters that are left ended with their run."""
        self.kernel = None
        self.waiters.clear()

    def check_caller(self, verb: str) -> Kernel | None:
        """Return the kernel of the run that uses this, or None. SyscallError in any thread but that run's."""
        kernel = self.kernel
        if kernel is not None and kernel.check_caller is not None:
            kernel.check_caller(verb, self)
        return kernel

    def running_task(self, verb: str) -> Task:
        """Return the running task, for a plain call that acts for it, and bind this to its run.

        SyscallError if no task runs in this thread, or if this is in use in another run.
        """
        kernel = kernels.get(get_ident())
        if kernel is None or kernel.current is None:
            raise SyscallError(f"{verb} of {self!r} outside of any task: only a task can own it")
        self.bind(kernel)
        return kernel.current

    def add_waiter(self, waiter: Waiter, brought: Any = None) -> Callable[[], object]:
        """Append `waiter` to the waiters; return the undo."""
        self.waiters[waiter] = brought
        return LeaveQueue(self.waiters, waiter)

    def state(self) -> str:
        """Return the state for messages and reports."""
        return f"{len(self.waiters)} waiting"

    def __enter__(self) -> Any:
        raise plain_with(self)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...

    def __iter__(self) -> NoReturn:
        raise not_iterable(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or 'unused'}: {self.state()}>"


def check_caller(kernel: Kernel, verb: str, thing: object) -> None:
    """Raise SyscallError if a plain call is made where it could break a turn: in another thread than the run's."""
    if kernel.check_caller is not None:
        kernel.check_caller(verb, thing)
