"""Attempts: something that a task wants done to a file, tried now, and again whenever the file is ready.

Theory of operation. An attempt is at once what is to be done, what waits for the file (a waiter of
`poller`), and the undo of that wait. Its action has happened, with the answer on its way to the
task, or it has not: there is nothing between that a cancellation could lose.

Not here: reading and writing (`files`), accepting and connecting (`sockets`).
"""

from __future__ import annotations

from .entries import CLOSED
from .errors import BusyError, ClosedError
from .foreign import describe
from .kernel import Kernel, Task
from .poller import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .foreign import File

DIRECTIONS = {READ: "read", WRITE: "write"}


def attempt(
    kernel: Kernel, task: Task, file: File, direction: int, action: Callable[[], Any], *, wait_first: bool = False
) -> Any:
    """Return what `action()` returns; if it would block, park `task` until it does not.

    The building block of a syscall on files: `action` raises BlockingIOError as
    long as it would block, with `wants` set where that is for another direction
    than `direction`. The action is never cut: it happened, or it is cancelled.
    """
    trying = Trying(task, file, direction, action)
    return trying.wait() if wait_first else trying.start()


class Attempt:
    """Something that a task wants done to a file: what waits for that, and the undo of the wait."""

    __slots__ = ("file", "task", "waits")
    direction: int  # of what is to be done

    def __init__(self, task: Task, file: File) -> None:
        self.task = task
        self.file = file
        self.waits = self.direction  # what it waits for now

    def action(self) -> Any:
        """Do it and return the answer; BlockingIOError if that can't be done now."""
        raise NotImplementedError

    def start(self) -> Any:
        """Do it now, or park the task until it can be done."""
        if self.file.entry.waiter(self.direction) is not None:
            raise busy(self.file, self.direction)
        try:
            return self.action()
        except BlockingIOError as error:
            self.waits = getattr(error, "wants", self.direction)
        return self.wait()

    def wait(self) -> Any:
        """Park the task until it can be done."""
        try:
            self.file.watch(self.task.kernel, self.waits, self)
        except BusyError:
            raise busy(self.file, self.waits) from None
        except PermissionError:  # epoll's word for a regular file, which is always ready
            return self._insist()
        self.task.kernel.park(self.task, self)
        return None

    def _insist(self) -> Any:
        while True:
            try:
                return self.action()
            except BlockingIOError:
                pass  # it writes in pieces

    def ready(self) -> None:
        """Try again."""
        try:
            value = self.action()
        except BlockingIOError as error:
            self._wait_again(getattr(error, "wants", self.direction))
        except BaseException as error:
            self.task.kernel.throw(self.task, error)
        else:
            self.task.kernel.resume(self.task, value)

    def _wait_again(self, direction: int) -> None:
        try:
            self.waits = direction
            self.file.watch(self.task.kernel, direction, self)
        except Exception as error:
            self.task.kernel.throw(self.task, error)

    def closed(self) -> None:
        """End the wait: the file was closed."""
        text = f"{describe(self.file)} was closed while task {self.task.name!r} waited for it"
        self.task.kernel.throw(self.task, ClosedError(text))

    def __call__(self) -> object:
        """Undo the wait; return how far the action came."""
        self.file.unwatch(self.task.kernel, self.waits)
        return None


class Trying(Attempt):
    """An attempt to call a function."""

    __slots__ = ("action", "direction")

    def __init__(self, task: Task, file: File, direction: int, action: Callable[[], Any]) -> None:
        self.direction = direction
        self.action = action
        super().__init__(task, file)


def busy(file: File, direction: int) -> BusyError | ClosedError:
    """Return the error for a task that would use what another waits for, or what is closed."""
    if file.entry is CLOSED:
        return ClosedError(f"the {describe(file).removeprefix('closed ')} is closed")
    return BusyError(f"another task waits to {DIRECTIONS[direction]} {describe(file)}; one at a time")
