"""Tasks, time and structured concurrency: the syscalls that need no file.

| file | contents |
|---|---|
| `tasks.py` | Spawn, Join, JoinAll, Cancel, CurrentTask, Pause |
| `clocks.py` | the machine's clock, the virtual clock, and the interface of a clock |
| `timers.py` | Timers, the service of all deadlines; Sleep, SleepUntil, Now |
| `scopes.py` | CancelScope, MoveOnAfter, Timeout, Shield: parts of a task that can be cancelled |
| `taskgroup.py` | TaskGroup and `group`: child tasks that a block waits for |
| `gather.py` | `gather`, `race`, `as_completed`: a fixed set of tasks at once |
| `supervision.py` | `supervise`: tasks that are restarted when they fail |
| `select_calls.py` | `select`: the first of several calls |
| `do_now.py` | `do_now`: a call that is answered at once, without a yield |

Reading them takes 50 minutes. Begin with `timers`, which has the shape of every other service, and go on with `tasks`,
`scopes` and `taskgroup`.

Not here: the end of a task (`kernel/lifecycle.py`); the tree of scopes (`kernel/tree.py`); locks, events and queues
(`sync`). All public names are imported from `minisched` itself.
"""
