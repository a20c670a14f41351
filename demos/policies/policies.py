"""The policies: each is a queue with `append`, `popleft`, `__len__` and `__iter__`: all that a kernel asks for.

Shows: that a policy is an order. A task is appended when it is spawned, when it is woken, and after each of its turns
that has not ended or parked it; so a turn is the quantum here. A policy knows tasks by their names (`by_name`), and
counts time in turns: it needs no clock.

Run it:    python -m demos.policies
"""

from collections import deque
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random


class FIFO(deque):
    """First come, first served: round robin, since a task comes again after each turn. O(1). What minisched does.

    Everybody waits for as long as there are others; nobody starves.
    """


class Known(dict):
    """What a policy remembers of tasks that may come again; those that have ended are swept out now and then."""

    def __init__(self):
        super().__init__()
        self.enough = 64

    def __setitem__(self, task, value):
        super().__setitem__(task, value)
        if len(self) > self.enough:
            for ended in [one for one in self if one.state == "done"]:
                del self[ended]
            self.enough = 2 * len(self) + 64


class Ordered:
    """A queue in the order of `key(task)`, the smallest first; of the same, first come, first served. O(log tasks)."""

    def __init__(self):
        self.heap = []
        self.numbers = count()
        self.turns = 0  # so far

    def key(self, task):
        """Return where a task comes."""
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
    """The most urgent first, with aging: who has waited for `aging` turns is one more urgent than it was.

    `by_name`: priorities, of which 0 is the most urgent. Everybody ages alike, so that the order of two who wait never
    changes, and where one comes is known when it comes. Without aging (infinite), who is not urgent starves while
    others are always ready. (Aging, as in the CTSS of MIT and in Linux up to 2.4, is what keeps it from that.)
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

    `by_name`: deadlines, on any one clock; who has none comes last. Meets all deadlines wherever that can be done on
    one processor. Where it can't, one late task makes others late.
    """

    def __init__(self, by_name=()):
        super().__init__()
        self.by_name = dict(by_name)

    def key(self, task):
        return self.by_name.get(task.name, inf)


class Stride(Ordered):
    """Shares by tickets, without chance (C. A. Waldspurger and W. E. Weihl, 1995).

    `by_name`: tickets. Each turn costs a task its *stride*, the inverse of its tickets; who has paid least is next. Who
    comes back begins where the others are: it has saved nothing while it waited. Off by a turn at most, at any time.
    """

    WHOLE = 1 << 20  # the stride of one ticket

    def __init__(self, by_name=(), default=1):
        super().__init__()
        self.by_name = dict(by_name)
        self.default = default
        self.paid = Known()
        self.least = 0  # what the one had paid who was last chosen

    def key(self, task):
        return max(self.paid.get(task, 0), self.least)

    def popleft(self):
        self.least = self.heap[0][0]
        task = super().popleft()
        self.paid[task] = self.least + self.WHOLE // self.by_name.get(task.name, self.default)
        return task


class Lottery:
    """Shares by tickets, by chance (C. A. Waldspurger and W. E. Weihl, 1994). O(tasks).

    `by_name`: tickets. Each turn a ticket is drawn of those that are ready: over many turns each has its share, and
    over few it may have bad luck; who has a ticket never starves.
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
        (place,) = self.random.choices(range(len(weights)), weights)
        return self.tasks.pop(place)

    def __len__(self):
        return len(self.tasks)

    def __iter__(self):
        return iter(self.tasks)


class Feedback:
    """Multi-level feedback: it learns who is interactive (F. J. Corbato and others, 1962). O(levels).

    The rules are those of OSTEP, chapter 8. The highest level that is not empty is served, round robin. A task begins
    at the top, and goes down a level when it has used up its `allotment` of turns there, in one piece or in many: so
    to give up the processor just before the end wins nothing. After `boost` turns all are at the top again, so that
    nobody starves, and who has become interactive is seen to be.
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
        """Put all at the top."""
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
