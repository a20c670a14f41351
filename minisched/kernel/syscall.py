"""The two classes that an extension subclasses: Syscall, a request, and Service, state that outlives requests.

Theory of operation. A task yields a `Syscall`. The kernel calls its `handle`, which returns the answer, raises an
error, or parks the task. State that outlives one call lives in a `Service`, of which a kernel has one instance per
class, created at the first use. This package uses nothing else of the kernel than an extension can.

Not here: the kernel's verbs (`kernel`); calls that can be a branch of `select` (`waiting`).
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

from . import blocks
from .generic import Answer, Answering
from .misuse import check_methods, class_of_calls, not_a_context
from .tracebacks import safe_repr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType
    from typing import Any, NoReturn, TypeVar

    from .kernel import Kernel
    from .tree import Task

    Kind = TypeVar("Kind", bound="Service")


class SyscallClass(ABCMeta):
    """The class of the classes of syscalls: it names the call that is missing in `yield from Sleep`."""

    def __iter__(cls) -> NoReturn:
        raise class_of_calls(cls)

    __await__ = __iter__


class Syscall(Answering[Answer], metaclass=SyscallClass):
    """A request that a task yields. It handles itself. Subclass it to add your own.

    `checkpoint`: whether a cancelled task receives Cancelled in place of the answer (default: yes).
    `external`: whether the answer comes from outside the program (I/O, time, threads); instruments read it.

    Example:
        >>> from minisched import Syscall, run
        >>> class Double(Syscall[int]):
        ...     __slots__ = ("number",)
        ...     def __init__(self, number):
        ...         self.number = number
        ...     def handle(self, kernel, task):
        ...         return 2 * self.number
        >>> def main():
        ...     return (yield Double(21))
        >>> run(main())
        42
    """

    __slots__ = ()
    checkpoint = True
    external = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        check_methods(cls)

    @abstractmethod
    def handle(self, kernel: Kernel, task: Task) -> Answer | None:
        """Return the answer, raise it, or call `kernel.park(task, undo)` and return None.

        The kernel calls this once for each time that the call is yielded. `handle` is a plain function: it neither
        yields nor blocks. It must not change `self`, since several tasks may yield the same object.

        Args:
            kernel: the kernel of this run.
            task: the task that yielded the call.
        """

    def __iter__(self) -> Generator[Syscall[Answer], Any, Answer]:
        try:
            return (yield self)
        except BaseException:
            del self  # this frame is in the error's traceback, and a Join has the task that failed: leave no cycle
            raise

    __await__ = __iter__

    def __enter__(self) -> NoReturn:
        raise not_a_context(self)

    def __exit__(self, *exception: object) -> None: ...

    async def __aenter__(self) -> Answer:
        return blocks.begin(self, await self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return blocks.end(self, kind, error, trace)
        finally:
            del error, trace  # an exception raised here has this frame in its traceback: leave no cycle

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(safe_repr, arguments(self).values()))})"


class Service:
    """State that outlives a syscall. `kernel.service(Kind)` returns the one instance of a kernel.

    Example:
        >>> from minisched import CurrentTask, Service, run
        >>> class Hits(Service):
        ...     def __init__(self, kernel):
        ...         super().__init__(kernel)
        ...         self.count = 0
        >>> def main():
        ...     kernel = (yield CurrentTask()).kernel
        ...     kernel.service(Hits).count += 1
        ...     return kernel.service(Hits).count
        >>> run(main())
        1
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def pending(self) -> int:
        """Return how many parked tasks an event outside the program may still wake.

        The event loop asks each service before it waits. If all return 0, nothing is ready and no deadline is set,
        the run ends with a Deadlock.
        """
        return 0

    def tasks(self) -> Iterable[Task]:
        """Return the parked tasks that this service may wake, for checks and reports."""
        return ()

    def close(self) -> None:
        """Release what the service holds. The run calls this once, at its end."""


class Services(dict["type[Any]", "Any"]):
    """The services of a kernel by class; a missing one is created at its first use."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def __missing__(self, kind: type[Kind]) -> Kind:
        service = self[kind] = kind(self.kernel)
        return service

    def replace(self, kind: Any, make: Any) -> None:
        """Let `make(kernel)` be the service of the class `kind`."""
        if not (isinstance(kind, type) and issubclass(kind, Service)):
            raise TypeError(f"run: a key of services is a class of services, not {kind!r}")
        if kind in self:
            raise TypeError(f"run: {kind.__name__} was made before the one in services: is it further down there?")
        if not callable(make):
            raise TypeError(f"run: services[{kind.__name__}] is a function that takes the kernel, not {make!r}")
        service = make(self.kernel)
        if not isinstance(service, Service):
            raise TypeError(f"run: services[{kind.__name__}] returned {service!r}, which is not a Service")
        self[kind] = service


def arguments(call: object) -> dict[str, Any]:
    """Return what a syscall holds, by name: its slots, those of base classes first, then its other attributes."""
    found: dict[str, Any] = {}
    for kind in reversed(type(call).__mro__):
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                private = name.startswith("__") and not name.endswith("__")
                found[name] = getattr(call, f"_{kind.__name__.lstrip('_')}{name}" if private else name, None)
    return found | getattr(call, "__dict__", {})
