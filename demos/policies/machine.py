"""A simulated machine: one processor; a turn of a job takes one unit of time, and I/O takes time without the processor.

Shows: a ready queue that wraps another one. All jobs are tasks from the start. The machine keeps back the jobs that
have not arrived or that are in I/O, and lets the policy choose among the others. Time is exact, because the machine
counts turns and reads no clock.

Run it:    python -m demos.policies
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, pairwise
from math import inf

from minisched import JoinAll, Spawn, Syscall, Watcher
from minisched.testing import run

IDLE = "."  # in the chart: no job runs


@dataclass(frozen=True)
class Job:
    """The work of one task, and its properties for the policies."""

    name: str
    arrival: int
    bursts: tuple[int, ...]  # units of processor, I/O, processor, ...; ends with the processor
    priority: int = 0
    tickets: int = 1
    deadline: float = inf

    @property
    def work(self):
        """Return the units of CPU time."""
        return sum(self.bursts[::2])

    @property
    def io(self):
        """Return the units of I/O."""
        return sum(self.bursts[1::2])


@dataclass
class Outcome:
    """The result of a workload under one policy."""

    chart: list[str] = field(default_factory=list)  # the name of the job that ran, for each unit of time
    started: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    def response(self, name):
        """Return the units from the arrival to the first turn."""
        return self.started[name] - self.jobs[name].arrival

    def turnaround(self, name):
        """Return the units from the arrival to the end."""
        return self.ended[name] - self.jobs[name].arrival

    def waiting(self, name):
        """Return the units in which the job was ready and did not run."""
        return self.turnaround(name) - self.jobs[name].work - self.jobs[name].io

    def late(self):
        """Return the number of jobs that ended after their deadline."""
        return sum(self.ended[name] > job.deadline for name, job in self.jobs.items())

    def switches(self):
        """Return how often the processor changed from one job to another."""
        names = [name for name in self.chart if name != IDLE]
        return sum(before != after for before, after in pairwise(names))

    def fairness(self):
        """Return Jain's index (R. Jain, D. Chiu and W. Hawe, 1984): 1/n if one job gets all, 1 if all get the same.

        The index compares the jobs' shares per ticket. The share of a job is its work, divided by the sum of its
        work and its waiting.
        """
        shares = [job.work / (job.work + self.waiting(name)) / job.tickets for name, job in self.jobs.items()]
        return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


class IO(Syscall):
    """Spend `units` units of time in I/O: not ready, without the processor."""

    __slots__ = ("units",)

    def __init__(self, units):
        self.units = units

    def handle(self, kernel, task):
        kernel.ready.block(task, self.units)


class Machine(Watcher):
    """A ready queue that wraps a policy and counts time, and a watcher that records the ends."""

    def __init__(self, policy, jobs):
        self.policy = policy
        self.now = 0
        self.later = []  # a heap of (time, number, task): jobs that have not arrived, or are in I/O
        self.numbers = count()
        self.blocked = {}  # tasks that start their I/O after this turn, and its length
        self.others = []  # tasks that are not jobs: they take no time and run first
        self.outcome = Outcome(jobs={job.name: job for job in jobs})

    # The queue.

    def append(self, task):
        job = self.outcome.jobs.get(task.name)
        if job is None:
            self.others.append(task)
            return
        self.admit()  # a job that arrives at the end of this turn is queued before the job that has run
        time = self.now + self.blocked.pop(task, 0)
        if task.name not in self.outcome.started:
            time = max(time, job.arrival)
        if time > self.now:
            heappush(self.later, (time, next(self.numbers), task))
        else:
            self.policy.append(task)

    def admit(self):
        """Pass the jobs whose time has come to the policy."""
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
        """Start the I/O of a task after this turn."""
        self.blocked[task] = units

    # The watcher.

    def exit(self, task):
        if task.name in self.outcome.jobs:
            self.outcome.ended[task.name] = self.now


def body(job):
    """Do the work of a job. Each turn is one unit; it ends at a yield, a syscall, or the end of the body."""
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
            raise ValueError(f"job {job.name} has bursts {job.bursts}: use units above 0, the processor first and last")
    machine = Machine(policy, jobs)

    def main():
        for job in jobs:
            yield Spawn(body(job), job.name)
        yield JoinAll()

    run(main(), ready=machine, watch=[machine])
    return machine.outcome
