"""Locks, events, semaphores and queues: how tasks wait for each other.

| file | contents |
|---|---|
| `locks.py` | `Lock` and `RLock`: one owner at a time |
| `conditions.py` | `Condition`: waiting, under a lock, for another task's change |
| `events.py` | `Event` and `Barrier`: tasks that wait for one moment |
| `semaphore.py` | `Semaphore`: a number of permits without owners |
| `limiter.py` | `CapacityLimiter`: a number of tokens that may change, with borrowers |
| `queues.py` | `Queue`: each item goes to one task; `Source`, the base of queues and subscriptions |
| `ordered.py` | `PriorityQueue` and `LifoQueue`: the smallest item first, or the newest |
| `broadcast.py` | `Broadcast` and `Subscription`: each item goes to every subscriber |

Not here: `Primitive`, the base class of all of these (`kernel/primitive.py`); `select`, which waits
for the first of several calls (`tasks/select_calls.py`).
"""
