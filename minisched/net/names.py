"""Looking host names up: Resolve, the replaceable Names service, and calls that need an address for a name.

Theory of operation. A look-up is a call of `getaddrinfo` in a thread, since the system's resolver blocks. Numeric
addresses need none: they are known at once. A call such as Listen asks `Names.find` for the addresses of its host. If
they are not known, `find` raises NotKnownYet. The call then parks its task, and a `LookUp` waits for the answer of the
thread. With the answer at hand, it makes the call again, and wakes the task with the result. So the code that opens
sockets is plain code, and is the same for a name and for a number.

To replace the resolver, as a simulated network does, call `run(main, services={Names: ...})`.

Invariants:
1. No look-up blocks the run's thread.
2. An answer is used by the call that has asked for it, and is not kept.
3. A look-up that was left wakes no task; one that has not begun is never made.

Decision: look-ups have threads of their own, MAX_RESOLVER_THREADS at most. Because: a name server that does not answer
holds each thread for half a minute, and the threads of `InThread` have to go on; a look-up can't be stopped, so
abandoned ones count, too. Rejected: the threads of `InThread`, which 32 dead names would use up; a thread for each
look-up, of which 10,000 clients of a dead server make as many.

Decision: `getaddrinfo` resolves the names. Because: it alone knows the names of this machine, of the local network
and of the name servers, in the order that the administrator has set, and RFC 6724 sorts its answers. Rejected: an own
client of DNS, which would have to know all of that; a cache, as only the resolver knows how long an answer holds.

Decision: the service has two methods, `known` for hosts that need no look-up, and `start` for the others. Because: a
call has to find out whether it would wait, without beginning anything (`select`, `do_now`). Rejected: one method that
returns the answer or a future: a call that only asks would begin a look-up, and leave it.

Not here: the call of `getaddrinfo` (`addresses`); several addresses at once (`connecting`).
"""

from __future__ import annotations

import socket
from abc import abstractmethod
from functools import partial

from ..bridges.thread_pool import Pool
from ..bridges.threads import Threads
from ..kernel import Selectable, Service
from ..kernel.generic import Answer
from ..kernel.waiting import NOT_YET, resume, task_of, throw
from .addresses import host_and_port, look_up, unknown_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter
    from .addresses import HostAddress

    Query = tuple[str, int, int, int, int]  # host, port, family, type, flags

MAX_RESOLVER_THREADS = 32  # as many as InThread has


class NotKnownYet(Exception):
    """The addresses of a host are not known: the call has to wait for their look-up."""

    def __init__(self, query: Query) -> None:
        super().__init__(f"the host {query[0]!r} needs a look-up first")
        self.query = query


class Names(Service):
    """The service that knows the addresses of hosts. Subclass it to replace the resolver.

    Connect, Listen, `serve`, Resolve and `open_connection` ask it.

    Example:
        A simulated network, in which `example.org` is this machine, and the answer takes a second:

        >>> from concurrent.futures import Future
        >>> from minisched import Names, Now, Resolve, Timers
        >>> from minisched.testing import run
        >>> class Simulated(Names):
        ...     def start(self, host, port, *rest):
        ...         future, timers = Future(), self.kernel.service(Timers)
        ...         found = self.known({"example.org": "127.0.0.1"}[host], port, *rest)
        ...         timer = timers.call_at(timers.now() + 1, lambda: future.set_result(found))
        ...         future.add_done_callback(lambda done: timer.cancel())  # if the look-up is left
        ...         return future
        >>> def main():
        ...     [found] = yield Resolve("example.org", 80)
        ...     return found.address, (yield Now())
        >>> run(main(), services={Names: Simulated})
        (('127.0.0.1', 80), 1.0)
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.pool = Pool(MAX_RESOLVER_THREADS)
        self.answers: dict[Query, list[HostAddress]] = {}  # of the call that is made again

    def known(self, host: str, port: int, family: int, type: int, flags: int) -> list[HostAddress]:
        """Return the addresses of a host that needs no wait, such as a numeric one; [] for any other.

        The arguments are those of Resolve; host "" is this machine. The method must not block. It may raise an error.
        """
        return look_up(host, port, family, type, flags, now=True)

    def start(self, host: str, port: int, family: int, type: int, flags: int) -> Future[list[HostAddress]]:
        """Begin to look a host up; return the future of its addresses, or of an OSError. It must not block."""
        return self.pool.submit(partial(look_up, host, port, family, type, flags))

    def find(self, host: str, port: int, family: int, type: int, flags: int) -> list[HostAddress]:
        """Return the addresses of a host; raise NotKnownYet if that needs a look-up."""
        query = (host, port, family, type, flags)
        found = self.answers.get(query) if self.answers else None
        found = found or self.known(*query)
        if not found:
            raise NotKnownYet(query)
        return found

    def call_again(self, function: Callable[[], Answer], answers: dict[Query, list[HostAddress]]) -> Answer:
        """Return what `function()` returns, for which `find` knows these answers."""
        self.answers = answers
        try:
            return function()
        finally:
            self.answers = {}

    def close(self) -> None:
        """End the threads when their look-ups are done."""
        self.pool.close()


class LookUp:
    """The wait of a call for its names: it is the waiter of each look-up, and the undo of the wait.

    `function` makes the call, or raises NotKnownYet. Its result, or its error, wakes `waiter`.
    """

    __slots__ = ("answers", "function", "kernel", "query", "task", "undo", "waiter")

    def __init__(self, kernel: Kernel, waiter: Waiter, function: Callable[[], Any]) -> None:
        self.kernel = kernel
        self.waiter = waiter
        self.task = task_of(waiter)
        self.function = function
        self.answers: dict[Query, list[HostAddress]] = {}
        self.query: Query
        self.undo: Callable[[], object] | None = None  # which refers to this object

    def go_on(self) -> None:
        """Make the call, and wake the waiter; or begin the next look-up."""
        names = self.kernel.service(Names)
        try:
            try:
                result = names.call_again(self.function, self.answers)
            except NotKnownYet as needed:
                self.query = needed.query
                threads = self.kernel.service(Threads)  # first, since it fails if no descriptor is left
                self.undo = threads.begin(self, partial(names.start, *self.query))
                return
        except BaseException as error:
            self.throw(error)
        else:
            resume(self.kernel, self.waiter, result)

    def resume(self, value: list[HostAddress]) -> None:
        """Go on: the look-up has ended."""
        self.undo = None
        if value:
            self.answers[self.query] = value
            self.go_on()
        else:
            self.throw(unknown_host(self.query[0]))

    def throw(self, error: BaseException) -> None:
        """Fail: the look-up has failed."""
        self.undo = None
        throw(self.kernel, self.waiter, error)

    def commit(self) -> None:
        """Do nothing: a look-up happens in one step."""

    def __call__(self) -> None:
        """Leave the look-up."""
        undo, self.undo = self.undo, None
        assert undo is not None
        _ = undo()


class ByName(Selectable[Answer]):
    """A call that may need the look-up of a host name first. A subclass has an `answer`."""

    __slots__ = ()
    external = True

    @abstractmethod
    def answer(self, kernel: Kernel) -> Answer:
        """Return the answer, or raise it. NotKnownYet, which `Names.find` raises, makes the call wait and ask again."""

    def try_now(self, kernel: Kernel, task: Task) -> Any:
        try:
            return self.answer(kernel)
        except NotKnownYet:
            return NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        look_up = LookUp(kernel, waiter, partial(self.answer, kernel))
        look_up.go_on()
        return look_up


class Resolve(ByName["list[HostAddress]"]):
    """Look the addresses of a host up, as `socket.getaddrinfo` does, without blocking the other tasks.

    A numeric address, and host "" for this machine, are answered at once. A name is resolved in a thread. The end of
    the look-up wakes the task. A cancelled task leaves at once: the thread goes on, and its answer is dropped. At most
    32 look-ups go on at a time, abandoned ones included; further ones wait, in order of arrival.

    Args:
        host: a name, also an international one, or a numeric address.
        port: the port that the addresses get.
        family: `socket.AF_INET` or `socket.AF_INET6`, for addresses of this family only; by default of both.
        type: `socket.SOCK_DGRAM` for datagrams.
        flags: `socket.AI_...`; with AI_PASSIVE, host "" stands for all addresses of this machine, to listen at.

    Returns:
        A list of at least one HostAddress, the best one first, as the operating system sorts them.

    Raises:
        OSError: the host is unknown or malformed, or no name server answers (`socket.gaierror`). The text names
            the host. Or no file descriptor is left for the wake-up of the loop.
        RuntimeError: the system can't start a thread.
        TypeError, ValueError: the host is not a str, or the port is not a number from 0 to 65535.

    Example:
        >>> from minisched import Resolve, run
        >>> def main():
        ...     found = yield Resolve("localhost", 80)
        ...     return [one.address[:2] for one in found if one.family.name == "AF_INET"]
        >>> run(main())
        [('127.0.0.1', 80)]
    """

    __slots__ = ("family", "flags", "host", "port", "type")

    def __init__(
        self,
        host: str,
        port: int,
        *,
        family: int = socket.AF_UNSPEC,
        type: int = socket.SOCK_STREAM,
        flags: int = 0,
    ) -> None:
        self.host = host
        self.port = port
        self.family = family
        self.type = type
        self.flags = flags

    def answer(self, kernel: Kernel) -> list[HostAddress]:
        host, port, _ = host_and_port((self.host, self.port))
        return kernel.service(Names).find(host, port, self.family, self.type, self.flags)

    def __repr__(self) -> str:
        return f"Resolve({self.host!r}, {self.port!r})"
