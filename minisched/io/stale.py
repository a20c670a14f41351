"""File descriptors that were closed outside the scheduler.

Theory of operation. A file descriptor is only an index. When a program closes it without `Close`, the operating system
gives the same number to the next file that is opened, and the selector does not report it. The package's own sockets
are unregistered before they are closed. For all other files there are three defences:

- A *one-shot* descriptor is registered for one wait only. If it refers to another file later, or to none, it is
  *stale*: its waiters get ClosedError. epoll registers open files, so it is asked whether it still has this one: a
  FIFO that was opened again, or another eventfd, has the same inode, and is another open file. Other selectors
  register numbers. There, the identity (device and inode) is recorded and compared; a file that was opened again with
  the same inode takes the place of the old one, and its bytes go to the task that waits for the descriptor.
- One-shot descriptors are checked once in STALE_CHECK_SECONDS while there are any, since a selector does not report a
  descriptor that was closed.
- While a duplicate of a closed descriptor is open (`os.dup`), epoll reports the closed one for ever, and it cannot be
  unregistered. After MAX_EMPTY_POLLS polls in a row that returned early and woke no task, the poller makes a new
  selector.

Decision: only one-shot descriptors are checked regularly.
Because: a check is a system call. The owner of a persistent descriptor calls `Poller.drop` in time. If it does not, the
check is made when another task waits for the same number.

Not here: asking the selector (`_selectors2.watches`); waking the waiters of a stale descriptor (`Poller.drop`).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .filelike import FileState

STALE_CHECK_SECONDS = 1.0  # between two checks of the one-shot descriptors
MAX_EMPTY_POLLS = 10  # in a row, before the poller makes a new selector


def identity(fd: int) -> tuple[int, int] | None:
    """Return the device and inode of the file that `fd` refers to; None if it is not open."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def has_other_identity(state: FileState) -> bool:
    """Return whether the descriptor is closed, or has another inode than when it was registered."""
    current = identity(state.fd)
    return current is None or (state.identity is not None and current != state.identity)
