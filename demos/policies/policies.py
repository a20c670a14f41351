"""The policies: each is a queue with `append`, `popleft`, `__len__` and `__iter__`, the methods that the kernel needs.

Shows: a policy is an order of the ready tasks. The kernel appends a task when it is spawned, when it is woken, and
after each turn in which it neither ended nor parked. So the quantum is one turn. A policy identifies tasks by their
names (`by_name`) and counts time in turns, without a clock.

Run it:    python -m demos.policies
"""

from collections import deque
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random


class FIFO(deque):
    """First in, first out: round robin, since a task is appended again after each turn. O(1). minisched's default.

    Each task waits for all tasks before it; no task starves.
    """


class Known(dict):
    """Data about tasks that may come again. Entries of ended tasks are removed when the size has doubled."""

    def __init__(self):
        super().__init__()
        self.cleanup_size = 64

    def __setitem__(self, task, value):
        super().__setitem__(task, value)
        if len(self) > self.cleanup_size:
            for ended in [task for task in self if task.state == "done"]:
                del self[ended]
            self.cleanup_size = 2 * len(self) + 64


class Ordered:
    """A queue in the order of `key(task)`: the smallest first, equal keys in FIFO order. O(log tasks)."""

    def __init__(self):
        self.heap = []
        self.numbers = count()
        self.turns = 0  # so far

    def key(self, task):
        """Return the sort key of a task."""
        raise NotImplementedError

    def append(self, task):
        heappush(self.heap, (self.key(task), next(self.numbers), task))

    def popleft(self):
        self.turns += 1
        return heappop(self.heap)[2]

    def __len__(self):
        return len(self.heap)

    def __iter__(self):
        return (task for _, _, task in self.heap)


class Priority(Ordered):
    """The most urgent task first, with aging: the priority of a task improves by one in `aging` turns of waiting.

    `by_name`: priorities; 0 is the most urgent. All waiting tasks age at the same rate, so the order of two of them
    never changes, and a task's key is known when it is appended. Without aging (`inf`), a task that is not urgent
    starves while more urgent ones are ready. (CTSS at MIT and Linux up to 2.4 used aging against that.)
    """

    def __init__(self, by_name=(), default=0, aging=16):
        super().__init__()
        self.by_name = dict(by_name)
        self.default = default
        self.aging = aging

    def key(self, task):
        priority = self.by_name.get(task.name, self.default)
        return (priority, self.turns) if self.aging == inf else (priority * self.aging + self.turns,)


class EDF(Ordered):
    """Earliest deadline first (C. L. Liu and J. W. Layland, 1973).

    `by_name`: deadlines, all on the same clock; a task without one comes last. EDF meets all deadlines if that is
    possible on one processor. If it is not, one late task makes others late.
    """

    def __init__(self, by_name=()):
        super().__init__()
        self.by_name = dict(by_name)

    def key(self, task):
        return self.by_name.get(task.name, inf)


class Stride(Ordered):
    """Shares by tickets, without chance (C. A. Waldspurger and W. E. Weihl, 1995).

    `by_name`: tickets. Each turn costs a task its *stride*, the inverse of its tickets, and the task that has paid
    least is next. A task that comes back after a wait starts at the level of the others, without credit for the time
    that it waited. At any time, a share is off by at most one turn.
    """

    STRIDE_UNITS = 1 << 20  # of a task with one ticket

    def __init__(self, by_name=(), default=1):
        super().__init__()
        self.by_name = dict(by_name)
        self.default = default
        self.paid = Known()
        self.least = 0  # the sum that the latest chosen task had paid

    def key(self, task):
        return max(self.paid.get(task, 0), self.least)

    def popleft(self):
        self.least = self.heap[0][0]
        task = super().popleft()
        self.paid[task] = self.least + self.STRIDE_UNITS // self.by_name.get(task.name, self.default)
        return task


class Lottery:
    """Shares by tickets, by chance (C. A. Waldspurger and W. E. Weihl, 1994). O(tasks).

    `by_name`: tickets. Each turn, one ticket of the ready tasks is drawn. Over many turns each task gets its share;
    over a few turns it may have bad luck. A task with a ticket never starves.
    """

    def __init__(self, by_name=(), default=1, seed=0):
        self.by_name = dict(by_name)
        self.default = default
        self.random = Random(seed)
        self.tasks = []

    def append(self, task):
        self.tasks.append(task)

    def popleft(self):
        weights = [self.by_name.get(task.name, self.default) for task in self.tasks]
        (index,) = self.random.choices(range(len(weights)), weights)
        return self.tasks.pop(index)

    def __len__(self):
        return len(self.tasks)

    def __iter__(self):
        return iter(self.tasks)


class Feedback:
    """Multi-level feedback: it learns which tasks are interactive (F. J. Corbato and others, 1962). O(levels).

    The rules are those of OSTEP, chapter 8. The highest level that is not empty is served, round robin. A task starts
    at the top, and moves down a level when it has used its `allotment` of turns there, in one piece or in several. So
    a task gains nothing if it gives up the processor just before the end of its allotment. Every `boost` turns, all
    tasks move to the top again: no task starves, and a task that has become interactive is noticed.
    """

    def __init__(self, levels=3, allotment=4, boost=60):
        self.levels = [deque() for _ in range(levels)]
        self.allotment = allotment
        self.boost = boost
        self.turns = 0
        self.used = Known()  # (level, turns there), by task

    def append(self, task):
        level, turns = self.used.get(task, (0, 0))
        if turns >= self.allotment and level < len(self.levels) - 1:
            level, turns = level + 1, 0
        self.used[task] = level, turns
        self.levels[level].append(task)

    def popleft(self):
        self.turns += 1
        if self.turns % self.boost == 0:
            self.lift()
        level = next(number for number, tasks in enumerate(self.levels) if tasks)
        task = self.levels[level].popleft()
        self.used[task] = level, self.used[task][1] + 1
        return task

    def lift(self):
        """Move all tasks to the top level."""
        for tasks in self.levels[1:]:
            self.levels[0].extend(tasks)
            tasks.clear()
        self.used.clear()
        for task in self.levels[0]:
            self.used[task] = 0, 0

    def __len__(self):
        return sum(map(len, self.levels))

    def __iter__(self):
        return (task for tasks in self.levels for task in tasks)
