"""A machine to try policies on: one processor, a turn of a job is one unit of time, and I/O takes units without it.

Shows: a queue of ready tasks that wraps another. Jobs are tasks from the beginning; the machine holds back those that
have not arrived yet, or are in I/O, and lets the policy choose among the others. So time is exact: it is counted
here, in turns, and no clock is asked.

Run it:    python -m demos.policies
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, pairwise
from math import inf

from minisched import JoinAll, Spawn, Syscall, Watcher
from minisched.testing import run

IDLE = "."  # in the chart: nobody runs


@dataclass(frozen=True)
class Job:
    """What one task does: units of the processor, of I/O, of the processor, and so on; and what policies go by."""

    name: str
    arrival: int
    bursts: tuple[int, ...]  # processor, I/O, processor, ...; ends with the processor
    priority: int = 0
    tickets: int = 1
    deadline: float = inf

    @property
    def work(self):
        """Units of the processor."""
        return sum(self.bursts[::2])

    @property
    def io(self):
        """Units of I/O."""
        return sum(self.bursts[1::2])


@dataclass
class Outcome:
    """What became of the jobs under one policy."""

    chart: list[str] = field(default_factory=list)  # who ran, in each unit of time
    started: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    def response(self, name):
        """Units from the arrival to the first turn."""
        return self.started[name] - self.jobs[name].arrival

    def turnaround(self, name):
        """Units from the arrival to the end."""
        return self.ended[name] - self.jobs[name].arrival

    def waiting(self, name):
        """Units in which it was ready and did not run."""
        return self.turnaround(name) - self.jobs[name].work - self.jobs[name].io

    def late(self):
        """How many jobs ended after their deadline."""
        return sum(self.ended[name] > job.deadline for name, job in self.jobs.items())

    def switches(self):
        """How often somebody else ran than before."""
        ran = [name for name in self.chart if name != IDLE]
        return sum(one != two for one, two in pairwise(ran))

    def fairness(self):
        """Jain's index (R. Jain, D. Chiu and W. Hawe, 1984), from 1/n, one has all, to 1, all have the same.

        Of what: the share of the processor that a job had while it wanted it (its work over its work and waiting),
        for each of its tickets.
        """
        shares = [job.work / (job.work + self.waiting(name)) / job.tickets for name, job in self.jobs.items()]
        return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


class IO(Syscall):
    """Be in I/O for so many units: not ready for that time, without the processor."""

    __slots__ = ("units",)

    def __init__(self, units):
        self.units = units

    def handle(self, kernel, task):
        kernel.ready.block(task, self.units)


class Machine(Watcher):
    """A ready queue around a policy's, with a time; and the watcher that takes notes."""

    def __init__(self, policy, jobs):
        self.policy = policy
        self.now = 0
        self.later = []  # a heap of (when, number, task): not arrived, or in I/O
        self.numbers = count()
        self.blocked = {}  # tasks that are about to go there, and for how long
        self.others = []  # no jobs: they take no time, and come first
        self.outcome = Outcome(jobs={job.name: job for job in jobs})

    # The queue.

    def append(self, task):
        job = self.outcome.jobs.get(task.name)
        if job is None:
            self.others.append(task)
            return
        self.admit()  # who arrives at the end of this turn comes before the one whose turn it was
        when = self.now + self.blocked.pop(task, 0)
        if task.name not in self.outcome.started:
            when = max(when, job.arrival)
        if when > self.now:
            heappush(self.later, (when, next(self.numbers), task))
        else:
            self.policy.append(task)

    def admit(self):
        """Let the policy have all whose time has come."""
        while self.later and self.later[0][0] <= self.now:
            self.policy.append(heappop(self.later)[2])

    def popleft(self):
        if self.others:
            return self.others.pop(0)
        self.admit()
        while not self.policy:
            self.outcome.chart.append(IDLE)
            self.now += 1
            self.admit()
        task = self.policy.popleft()
        self.outcome.started.setdefault(task.name, self.now)
        self.outcome.chart.append(task.name)
        self.now += 1
        return task

    def __len__(self):
        return len(self.others) + len(self.policy) + len(self.later)

    def __iter__(self):
        yield from self.others
        yield from self.policy
        yield from (task for _, _, task in self.later)

    def block(self, task, units):
        """Let a task be in I/O after this turn."""
        self.blocked[task] = units

    # The watcher.

    def exit(self, task):
        if task.name in self.outcome.jobs:
            self.outcome.ended[task.name] = self.now


def body(job):
    """Do the work of a job: a turn is a unit, and its end is a yield, a call, or the end of all."""
    for number, units in enumerate(job.bursts):
        if number % 2:
            yield IO(units)
        else:
            for _ in range(units - 1):
                yield


def simulate(policy, jobs):
    """Run jobs under a policy; return the Outcome."""
    for job in jobs:
        if len(job.bursts) % 2 == 0 or min(job.bursts) < 1:
            raise ValueError(f"job {job.name} does {job.bursts}: it takes units above 0, the processor first and last")
    machine = Machine(policy, jobs)

    def main():
        for job in jobs:
            yield Spawn(body(job), job.name)
        yield JoinAll()

    run(main(), ready=machine, watch=[machine])
    return machine.outcome
