"""minisched: a cooperative scheduler, small enough to be read in one sitting.

Run it: `run`, and the syscalls a task yields. Write it: errors, `serve`. Extend it: `Syscall`,
`Service` and the kernel's verbs.
"""

# Run it: what a task yields, and who runs it.
from .attempts import attempt
from .errors import (
    BusyError,
    Cancelled,
    ClosedError,
    Deadlock,
    LimitExceeded,
    Missed,
    SyscallError,
    TaskCancelled,
    TimedOut,
    WouldBlock,
)
from .files import Close, Read, WaitReadable, WaitWritable, Write

# Extend it: the public interface that all of the above is written with.
from .groups import as_completed, gather, group, race
from .kernel import Kernel, Scope, Service, Syscall, Task
from .loop import run
from .network import Network, Socket
from .poller import Poller
from .queues import Broadcast, Queue
from .scopes import CancelScope, MoveOnAfter, Shield, Timeout
from .serve import serve, serve_listeners, serve_unix
from .signals import WaitSignal
from .sockets import Accept, Connect, Listen
from .supervision import supervise
from .sync import Barrier, Condition, Event, Lock, Semaphore
from .taskgroup import TaskGroup
from .tasks import Cancel, CurrentTask, Join, JoinAll, Pause, Spawn
from .threads import InThread, Portal, Submit
from .timers import Now, Sleep, SleepUntil, Timers
from .waiting import Primitive, Selectable, select
from .watch import TextTrace, Watcher
from .workers import serve_workers

__version__ = "0.1.0"

__all__ = [
    # run it
    "run", "serve", "serve_unix", "serve_listeners", "serve_workers",
    "Spawn", "Join", "JoinAll", "Cancel", "CurrentTask", "Pause",
    "Sleep", "SleepUntil", "Now",
    "Timeout", "MoveOnAfter", "Shield", "CancelScope",
    "gather", "race", "group", "TaskGroup", "as_completed", "supervise",
    "Event", "Lock", "Semaphore", "Condition", "Barrier", "Queue", "Broadcast", "select",
    "Read", "Write", "WaitReadable", "WaitWritable", "Close",
    "Listen", "Accept", "Connect", "Socket",
    "InThread", "Submit", "Portal", "WaitSignal",
    # write it
    "Cancelled", "TaskCancelled", "TimedOut", "Deadlock", "SyscallError", "BusyError", "ClosedError", "LimitExceeded",
    "Missed", "WouldBlock",
    # extend it
    "Syscall", "Selectable", "Service", "Primitive", "Kernel", "Task", "Scope",
    "Timers", "Poller", "Network", "Watcher", "TextTrace", "attempt",
]  # fmt: skip
