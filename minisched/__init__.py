"""minisched: a cooperative task scheduler whose kernel can be read in one sitting.

`__all__` has three groups of names. *Run it*: `run`, `serve` and the syscalls that a task yields. *Write it*: the
exceptions. *Extend it*: `Syscall`, `Service`, the kernel and the services.

Decision: a module that few programs need is imported at the first use of its names (LATER). Because: `import minisched`
takes at most half the time of `import asyncio`. Rejected: names that are not in `minisched`, which are harder to find.

PYTEST_DONT_REWRITE: pytest rewrites the asserts of a package with a plugin, and warns if it was imported before.
"""

# Run it: `run`, and the syscalls that a task yields.
from .bridges.signals import WaitSignal
from .bridges.threads import FutureOperation, InThread, Submit
from .bridges.wakeup import Wakeup
from .errors import (
    BusyError,
    Cancelled,
    ClosedError,
    DatagramTruncated,
    Deadlock,
    IncompleteRead,
    IncompleteWrite,
    Lagged,
    LimitExceeded,
    SyscallError,
    TaskCancelled,
    TimedOut,
    TlsError,
    TlsTruncated,
    WouldBlock,
)
from .io._selectors2 import READ, WRITE
from .io.filelike import FileLike, FileState, FileWrapper
from .io.files import Close, Read, WaitReadable, WaitWritable, Write
from .io.nonblocking import FileOperation
from .io.poller import Poller
from .kernel import Kernel, Scope, Selectable, Service, Syscall, Task
from .kernel.current import cancel_requested, current_kernel, current_task
from .kernel.primitive import Primitive
from .kernel.waiting import NOT_YET, resume, throw
from .kernel.watcher import Watcher
from .loop import run
from .net.addresses import HostAddress
from .net.dialing import Connect
from .net.listening import Accept, Listen
from .net.names import Names, Resolve
from .net.network import Network
from .net.sockets import Socket
from .sync.conditions import Condition
from .sync.events import Barrier, Event
from .sync.locks import Lock, RLock
from .sync.queues import Queue
from .sync.semaphore import Semaphore

# Extend it: the public interface that all of the above is written with.
from .tasks.do_now import do_now
from .tasks.gather import as_completed, gather, race
from .tasks.scopes import CancelScope, MoveOnAfter, Shield, Timeout
from .tasks.select_calls import select
from .tasks.taskgroup import TaskGroup, group
from .tasks.tasks import Cancel, CurrentTask, Join, JoinAll, Pause, Spawn
from .tasks.timers import Now, Sleep, SleepUntil, Timers

__version__ = "0.1.0"

__all__ = [
    # run it
    "run", "serve", "serve_unix", "serve_listeners", "serve_workers", "server_status",
    "Spawn", "Join", "JoinAll", "Cancel", "CurrentTask", "Pause",
    "current_task", "current_kernel", "cancel_requested", "do_now",
    "Sleep", "SleepUntil", "Now",
    "Timeout", "MoveOnAfter", "Shield", "CancelScope",
    "gather", "race", "group", "TaskGroup", "as_completed", "supervise",
    "Event", "Lock", "RLock", "Semaphore", "CapacityLimiter", "Condition", "Barrier",
    "Queue", "PriorityQueue", "LifoQueue", "Broadcast", "select",
    "Read", "Write", "WaitReadable", "WaitWritable", "Close", "Stream",
    "Open", "RegularFile", "ReadAt", "WriteAt", "Sync", "read_file", "write_file", "follow", "Follower",
    "Listen", "Accept", "Connect", "Resolve", "open_connection", "HostAddress", "Socket", "start_tls", "TlsConnection",
    "OpenDatagram", "RecvFrom", "SendTo",
    "InThread", "Submit", "Portal", "UniversalQueue", "WaitSignal",
    "run_process", "open_process", "ChildProcess",
    # write it
    "Cancelled", "TaskCancelled", "TimedOut", "Deadlock", "SyscallError", "BusyError", "ClosedError", "LimitExceeded",
    "IncompleteRead", "IncompleteWrite", "Lagged", "DatagramTruncated", "WouldBlock", "TlsError", "TlsTruncated",
    # extend it
    "Syscall", "Selectable", "NOT_YET", "resume", "throw", "Service", "Primitive", "Kernel", "Task", "Scope",
    "Timers", "Poller", "Network", "Names", "Watcher", "Wakeup",
    "FileOperation", "FutureOperation", "FileLike", "FileWrapper", "FileState", "READ", "WRITE",
]  # fmt: skip

# By name: the module of each name that is imported at its first use.
LATER = {
    "Follower": "bridges.follow",
    "follow": "bridges.follow",
    "Open": "bridges.opening",
    "ReadAt": "bridges.regular_files",
    "RegularFile": "bridges.regular_files",
    "Sync": "bridges.regular_files",
    "WriteAt": "bridges.regular_files",
    "read_file": "bridges.whole_files",
    "write_file": "bridges.whole_files",
    "ChildProcess": "bridges.child_processes",
    "open_process": "bridges.child_processes",
    "run_process": "bridges.run_process",
    "UniversalQueue": "bridges.universal_queue",
    "Stream": "io.streams",
    "open_connection": "net.connecting",
    "OpenDatagram": "net.datagrams",
    "RecvFrom": "net.datagrams",
    "SendTo": "net.datagrams",
    "TlsConnection": "net.tls",
    "start_tls": "net.tls",
    "serve": "serving.serve",
    "serve_listeners": "serving.serve",
    "serve_unix": "serving.serve",
    "server_status": "serving.status",
    "serve_workers": "serving.workers",
    "Broadcast": "sync.broadcast",
    "CapacityLimiter": "sync.limiter",
    "LifoQueue": "sync.ordered",
    "PriorityQueue": "sync.ordered",
    "supervise": "tasks.supervision",
    "Portal": "bridges.portal",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .bridges.child_processes import ChildProcess, open_process
    from .bridges.follow import Follower, follow
    from .bridges.opening import Open
    from .bridges.portal import Portal
    from .bridges.regular_files import ReadAt, RegularFile, Sync, WriteAt
    from .bridges.run_process import run_process
    from .bridges.universal_queue import UniversalQueue
    from .bridges.whole_files import read_file, write_file
    from .io.streams import Stream
    from .net.connecting import open_connection
    from .net.datagrams import OpenDatagram, RecvFrom, SendTo
    from .net.tls import TlsConnection, start_tls
    from .serving.serve import serve, serve_listeners, serve_unix
    from .serving.status import server_status
    from .serving.workers import serve_workers
    from .sync.broadcast import Broadcast
    from .sync.limiter import CapacityLimiter
    from .sync.ordered import LifoQueue, PriorityQueue
    from .tasks.supervision import supervise


def __getattr__(name: str) -> object:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # imported here: not needed until then

    value = globals()[name] = getattr(import_module(f"{__name__}.{LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *LATER})
