"""Non-blocking operations: try; if the operation would block, wait until the file is ready, and try again.

Theory of operation. A `FileOperation` is a call on a file, such as Read, Accept or one of your own. Its `try_once` does
the operation, or raises BlockingIOError. While the operation waits, a `PendingIO` stands for it. One object has three
roles: the state of the operation, which the file calls when it is ready; the holder of the waiter, a task or a branch
of `select`; and the undo that is called when the waiter gives up. The operation is tried as soon as the file is ready,
before the task has its turn. So a cancellation finds that the operation either has happened, and its result is already
delivered, or has not happened. There is no state in between in which something could be lost.

Invariants:
1. A PendingIO that waits is in the state of its file.
2. An operation that has happened is never undone, and its result wins over a later cancellation.
3. The result of `open` is passed to `release` once, however the operation ends.

Decision: the pending operation itself tries again, and wakes the waiter with the result.
Because: the task needs one turn. If another process was faster and took the data, the task is not woken at all.
Rejected: waking the task, which tries again in its own frame (curio, trio). That takes one more turn, and a turn is
wasted if another process has taken the data by then.

Not here: reading and writing (`files`); accepting and connecting (`sockets`).
"""

from __future__ import annotations

import errno
from abc import abstractmethod

from ..errors import BusyError, ClosedError
from ..kernel import Selectable
from ..kernel.generic import Answer
from ..kernel.waiting import NOT_YET, Begun, commit, resume, task_of, throw
from ._selectors2 import READ, WRITE, NotPollable
from .borrowed import as_file
from .filelike import CLOSED_WAITER, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter
    from .filelike import FileLike

VERBS = {READ: "read", WRITE: "write"}


class FileOperation(Selectable[Answer]):
    """A call on a file: it is tried at once, and while it would block, again each time the file is ready.

    Subclass it to add your own, with a `try_once`. The call can be yielded, and can be a branch of `select`. A
    cancelled call has not happened; one that has happened is not cancelled. The file may be a `Socket`, another
    file-like, a file descriptor, a plain socket, or any object with `fileno()`.

    `direction`: the direction that the operation waits for, `READ` (the default) or `WRITE`.

    An operation that needs something of its own, such as a descriptor or a child process, returns it from `open` and
    gives it back in `release`, which is called once, whatever happens.

    Args:
        file: the file.

    Raises:
        BusyError: another task waits for this direction of the file.
        ClosedError: the file is closed, now or while the task waits.
        TypeError: the object is not a file.

    Any error of `try_once` is raised as it is.

    Example:
        A syscall that reads a byte and leaves it there for the next read:

        >>> import socket
        >>> from minisched import FileOperation, Read, Socket, run
        >>> class Peek(FileOperation[bytes]):
        ...     def try_once(self, sock):
        ...         return socket.socket.recv(sock, 1, socket.MSG_PEEK)
        >>> def main(near, far):
        ...     with Socket(fileno=near.detach()) as near, far:
        ...         far.send(b"ab")
        ...         return (yield Peek(near)), (yield Read(near, 10))
        >>> run(main(*socket.socketpair()))
        (b'a', b'ab')
    """

    __slots__ = ("file",)
    external = True
    direction = READ

    def __init__(self, file: FileLike | Any) -> None:
        self.file = file

    def open(self, kernel: Kernel) -> Any:
        """Return the file that the operation is done on, at its beginning; by default, `self.file`.

        An operation that opens something returns that. It is passed to `try_once` and `release`.
        """
        return self.file

    @abstractmethod
    def try_once(self, file: Any, /) -> Answer:
        """Do the operation on what `open` returned, and return the result; raise BlockingIOError if it would block.

        A `wants` attribute of the BlockingIOError, READ or WRITE, is the direction to wait for in place of
        `direction`, as TLS needs; READ | WRITE waits for the first of both. Before a try that would block, nothing may
        have happened. The method is called between turns, and must not block.
        """

    def release(self, file: Any, /) -> None:
        """Give back the result of `open`: called once, at the end of the operation. By default it does nothing."""

    def _owns(self) -> bool:
        return type(self).release is not FileOperation.release  # pyright: ignore[reportUnknownMemberType]

    def wait_first(self, file: FileLike, /) -> bool:
        """Return whether to wait until the file is ready before the first try; by default, no."""
        return False

    def begin(self, kernel: Kernel) -> PendingIO:
        """Return the state of one operation; BusyError if another one waits for the same direction."""
        opened = self.open(kernel)
        try:
            file = as_file(kernel, opened)
            if file.file_state.waiter_for(self.direction) is not None:
                raise busy(file, self.direction)
            return PendingCall(kernel, file, self, opened)
        except BaseException:
            self.release(opened)
            raise

    def handle(self, kernel: Kernel, task: Task) -> Answer | None:
        pending = self.begin(kernel)
        answer = pending.try_now(self)
        if answer is not NOT_YET:
            return answer
        kernel.park(task, pending)
        return pending.wait(task)

    def try_now(self, kernel: Kernel, task: Task) -> Any:
        pending = self.begin(kernel)
        answer = pending.try_now(self)
        if answer is NOT_YET:
            if pending.progress():
                return Begun(pending.add_waiter)
            pending.release()
        return answer

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        pending = self.begin(kernel)
        tries = self._owns() or pending.file.file_state.crosses
        if not tries or self.wait_first(pending.file):
            return pending.add_waiter(kernel, waiter)
        pending.waiter = waiter
        pending.ready()  # the first try on the opened file, or one that says which event to wait for
        return pending

    def __repr__(self) -> str:
        return f"{type(self).__name__}({describe(self.file)})"


class PendingIO:
    """An operation that waits: its state, what the file calls when it is ready, and the undo of the wait."""

    __slots__ = ("file", "kernel", "waiter", "waits_for")
    direction: int  # the direction that the operation needs, unless its BlockingIOError names another
    file: FileLike
    kernel: Kernel
    waiter: Waiter  # set when the operation waits
    waits_for: int  # the direction in which it waits now; 0: it does not wait

    @property
    def task(self) -> Task:
        """The task that waits."""
        return task_of(self.waiter)

    def try_once(self) -> Any:
        """Do the operation, release everything, and return the result; raise BlockingIOError if it would block."""
        raise NotImplementedError

    def progress(self) -> Any:
        """Return how much is done of an operation that takes several tries; a false value if nothing is."""
        return None

    def release(self) -> None:
        """Give back what the operation has opened, once; by default, nothing."""

    def try_now(self, call: FileOperation[Any]) -> Any:
        """Return the result; NOT_YET if the operation has to wait."""
        try:
            return NOT_YET if call.wait_first(self.file) else self.try_once()
        except BlockingIOError as error:
            self._wait_for(error)
            return NOT_YET
        except BaseException:
            self.release()
            raise

    def _wait_for(self, error: BlockingIOError) -> None:
        """Note the event that the operation has to wait for."""
        self.waits_for = getattr(error, "wants", self.direction)
        if self.waits_for != self.direction:
            self.file.file_state.crosses = True

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        """Wait for the file; a parked `waiter` is woken with the result, perhaps at once. Return the undo."""
        self.wait(waiter)
        return self

    def wait(self, waiter: Waiter) -> None:
        """Register with the file; on an error, release everything and raise it. The waiter is parked already."""
        self.waiter = waiter
        try:
            return self.file.watch(self.kernel, self.waits_for, self)
        except NotPollable:
            error = self._repeat()
        except BusyError:
            error = busy(self.file, self.waits_for if self.waits_for in VERBS else self.direction)
        except BaseException as refused:
            error = refused
        if error is not None:
            self.waits_for = 0  # the operation is not registered, so there is nothing to undo
            self.release()
            try:
                raise error
            finally:
                del error  # a cycle: its traceback holds this frame
        return None

    def ready(self) -> None:
        """Try again: the file is ready."""
        try:
            result = self.try_once()
        except BlockingIOError as error:
            self._wait_again(error)
        except BaseException as error:
            self._fail(error)
        else:
            resume(self.kernel, self.waiter, result)

    def _wait_again(self, error: BlockingIOError) -> None:
        self._wait_for(error)
        if self.progress():
            commit(self.waiter)
        try:
            self.wait(self.waiter)
        except Exception as refused:
            throw(self.kernel, self.waiter, refused)

    def _repeat(self) -> BaseException | None:
        """Do the operation on a file that is always ready, as a regular file is; a Write takes several tries."""
        while True:
            before = self.progress()
            try:
                result = self.try_once()
            except BlockingIOError:
                if self.progress() == before:  # further tries would hold up every task, perhaps for ever
                    return BlockingIOError(errno.EAGAIN, f"{describe(self.file)} would block, and can't be polled")
            except BaseException as error:
                return error
            else:
                resume(self.kernel, self.waiter, result)
                return None

    def closed(self) -> None:
        """End the wait with ClosedError: the file was closed."""
        self._fail(ClosedError(f"{describe(self.file)} was closed while task {self.task.name!r} waited for it"))

    def _fail(self, error: BaseException) -> None:
        self.release()
        throw(self.kernel, self.waiter, error)

    def __call__(self) -> object:
        """Undo the wait; return the progress of the operation, for `Cancelled.done`."""
        waited_for, self.waits_for = self.waits_for, 0
        if waited_for:
            self.file.unwatch(self.kernel, waited_for)
            self.release()
        return self.progress()


class PendingCall(PendingIO):
    """A FileOperation that waits."""

    __slots__ = ("call", "direction", "opened")

    def __init__(self, kernel: Kernel, file: FileLike, call: FileOperation[Any], opened: Any) -> None:
        self.kernel = kernel
        self.file = file
        self.call = call
        self.opened = opened  # the result of `open`; None after its release
        self.direction = self.waits_for = call.direction

    def try_once(self) -> Any:
        """Do the operation, release everything, and return the result; raise BlockingIOError if it would block."""
        state = self.file.file_state
        result = self.call.try_once(self.opened)
        state.used = True
        self.release()
        return result

    def release(self) -> None:
        """Pass what was opened to the call's `release`, once."""
        opened, self.opened = self.opened, None
        if opened is not None:
            self.call.release(opened)


def busy(file: FileLike, direction: int) -> BusyError | ClosedError:
    """Return the error for using a direction that has a waiter: BusyError, or ClosedError for a closed file."""
    if file.file_state.waiter_for(direction) is CLOSED_WAITER:
        return ClosedError(f"the {describe(file).removeprefix('closed ')} is closed")
    return BusyError(f"another task waits to {VERBS[direction]} {describe(file)}; one at a time")
