"""The kernel, behind one door: the names that an extension imports.

Read `tree` (scopes and tasks) and `kernel` (the ready queue, turns, verbs) first. `syscall` has the two base classes of
extensions, `scoping` entering and leaving a scope, `lifecycle` the end of a task, `waiting` waiters and `Selectable`,
`primitive` the base class of locks, queues and groups, `watcher` the interface of observers, `current` the running
task of a thread, `blocks` the `async with` of a call, `misuse` the sentences of misuse.
"""

from .kernel import Kernel
from .syscall import Service, Syscall
from .tree import Scope, Task
from .waiting import Selectable

__all__ = ["Kernel", "Scope", "Selectable", "Service", "Syscall", "Task"]
