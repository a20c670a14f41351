"""A quiz, as in the homeworks of OSTEP: here are three jobs and a policy; what happens?

Shows: whether you have understood a policy. The questions come from a seed, and `--solve` answers them.

Run it:    python -m demos.policies --quiz [--seed N] [--policy NAME] [--solve]
"""

from statistics import mean

from . import show
from .machine import simulate
from .workloads import random_jobs

FIGURES = ("response", "turnaround")


def ask(policies, name, seed, solve):
    """Return the lines of a quiz on the policy `name`; `policies` makes each for a list of jobs."""
    jobs = random_jobs(seed)
    outcome = simulate(policies[name](jobs), jobs)
    lines = [f"Quiz {seed}, {name}. A turn is one unit of time. The jobs:"]
    for job in jobs:
        does = ", ".join(f"{'I/O' if number % 2 else 'computes'} {units}" for number, units in enumerate(job.bursts))
        known = f"priority {job.priority}, {job.tickets} ticket{'s' * (job.tickets != 1)}, deadline {job.deadline}"
        lines.append(f"  {job.name} arrives at {job.arrival}: {does} ({known})")
    outcomes = {name: simulate(make(jobs), jobs) for name, make in policies.items()}
    best = "; ".join(f"{figure}: {' '.join(those_with_the_least(outcomes, figure))}" for figure in FIGURES)
    questions = [
        ("Who runs in each unit of time (- for nobody)?", show.order(outcome)),
        ("When does each job end?", each(outcome, lambda job: outcome.ended[job])),
        ("How long does each wait while it is ready?", each(outcome, outcome.waiting)),
        ("How often does the processor go from one job to another?", str(outcome.switches())),
        ("Which policies have the best mean response, which the best mean turnaround?", best),
    ]
    for number, (question, answer) in enumerate(questions, 1):
        lines += [f"{number}. {question}", f"   {answer}" if solve else ""]
    return lines


def each(outcome, figure):
    """Return a figure of each job."""
    return ", ".join(f"{name} {figure(name)}" for name in outcome.jobs)


def those_with_the_least(outcomes, figure):
    """Return the names of the policies under which the mean of a figure is the smallest."""
    means = {name: mean(getattr(outcome, figure)(job) for job in outcome.jobs) for name, outcome in outcomes.items()}
    return [name for name, value in means.items() if value == min(means.values())]
