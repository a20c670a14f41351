"""The workloads: jobs that show the differences between policies.

Shows: `mix`: two interactive jobs and two that only compute; `convoy`: a long job, and short jobs that arrive just
after it; `deadlines`: three periodic jobs, each of which has to end before its next period; `tickets`: three jobs that
compute, with 1, 2 and 3 tickets.

Run it:    python -m demos.policies --workload NAME
"""

from random import Random

from .machine import Job

INTERACTIVE = (1, 4) * 5 + (1,)  # one unit of the processor, four units of I/O, and so on


def periodic(name, period, work, until, priority):
    """Return the jobs of a periodic task; each has to end before the next period."""
    return [
        Job(f"{name}{number}", begin, (work,), priority=priority, deadline=begin + period)
        for number, begin in enumerate(range(0, until, period))
    ]


WORKLOADS = {
    "mix": [
        Job("editor", 0, INTERACTIVE, priority=0, tickets=3, deadline=40),
        Job("shell", 3, INTERACTIVE, priority=0, tickets=3, deadline=45),
        Job("build", 0, (25,), priority=1, tickets=2, deadline=60),
        Job("backup", 0, (25,), priority=2, tickets=1, deadline=80),
    ],
    "convoy": [
        Job("long", 0, (24,), priority=1, tickets=1, deadline=60),
        Job("a", 1, (3,), tickets=2, deadline=12),
        Job("b", 2, (3,), tickets=2, deadline=14),
        Job("c", 3, (3,), tickets=2, deadline=16),
    ],
    "deadlines": [*periodic("audio", 3, 2, 24, 0), *periodic("video", 8, 2, 24, 1), *periodic("log", 12, 1, 24, 2)],
    "tickets": [Job(name, 0, (40,), tickets=tickets) for name, tickets in (("one", 1), ("two", 2), ("three", 3))],
}


def random_jobs(seed):
    """Return three jobs for the quiz."""
    random = Random(seed)
    names = "ABC"
    return [
        Job(
            name,
            random.randrange(4) if name != "A" else 0,
            (random.randrange(1, 5), random.randrange(1, 5), random.randrange(1, 5))
            if random.random() < 0.4
            else (random.randrange(2, 8),),
            priority=random.randrange(3),
            tickets=random.randrange(1, 4),
            deadline=random.randrange(10, 30),
        )
        for name in names
    ]
