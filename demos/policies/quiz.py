"""A quiz, as in the homework of OSTEP: given three jobs and a policy, what happens?

Shows: whether you have understood a policy. The seed determines the questions. On a terminal, the quiz asks for an
answer to each question; from a pipe, it reads a line for each. An answer is compared without regard to case and
punctuation, and to the order of jobs and of policies. `--solve` prints the answers in place of asking for them.

Run it:    python -m demos.policies --quiz [--seed N] [--policy NAME] [--solve]
"""

import re
from statistics import mean

from . import show
from .machine import simulate
from .workloads import random_jobs

FIGURES = ("response", "turnaround")


class Question:
    """A question, the form of an answer, the answer, and the function that gives an answer a form to compare."""

    def __init__(self, text, form, answer, compared):
        self.text, self.form, self.answer, self.compared = text, form, answer, compared

    def is_right(self, line):
        """Return whether a line has the right answer."""
        return self.compared(line.casefold()) == self.compared(self.answer.casefold())


def letters(text):
    """Return the jobs of a schedule."""
    return re.findall(r"[a-z-]", text)


def numbers_by_job(text):
    """Return the number of each job."""
    return {job: int(number) for job, number in re.findall(r"([a-z])\W*(\d+)", text)}


def number(text):
    """Return the numbers in a text: one, in a right answer."""
    return re.findall(r"\d+", text)


def policies_by_figure(text):
    """Return a set of policies for each figure, the figures in their order."""
    return [{*re.findall(r"\w+", part)} - {*FIGURES} for part in text.split(";")]


def quiz(policies, name, seed):
    """Return the lines about the jobs, and the questions; `policies` has a function that creates each policy."""
    jobs = random_jobs(seed)
    outcome = simulate(policies[name](jobs), jobs)
    lines = [f"Quiz {seed}, {name}. A turn is one unit of time. The jobs:"]
    for job in jobs:
        does = ", ".join(f"{'I/O' if number % 2 else 'computes'} {units}" for number, units in enumerate(job.bursts))
        known = f"priority {job.priority}, {job.tickets} ticket{'s' * (job.tickets != 1)}, deadline {job.deadline}"
        lines.append(f"  {job.name} arrives at {job.arrival}: {does}\n    ({known})")
    outcomes = {name: simulate(make(jobs), jobs) for name, make in policies.items()}
    best = "; ".join(f"{figure}: {' '.join(best_policies(outcomes, figure))}" for figure in FIGURES)
    ends, waits = each(outcome, lambda job: outcome.ended[job]), each(outcome, outcome.waiting)
    switches = str(outcome.switches())
    question = "Which policies have the best mean response and mean turnaround?"
    return lines, [
        Question("Which job runs in each unit of time (- for none)?", "A A B - C", show.order(outcome), letters),
        Question("When does each job end?", "A 9, B 4, C 12", ends, numbers_by_job),
        Question("How long is each job ready without running?", "A 3, B 0, C 5", waits, numbers_by_job),
        Question("How often does the processor switch from one job to another?", "4", switches, number),
        Question(question, "response: FIFO stride; turnaround: EDF", best, policies_by_figure),
    ]


def ask(policies, name, seed, solve):
    """Return the lines of a quiz, with the answers if `solve`."""
    lines, questions = quiz(policies, name, seed)
    for number, question in enumerate(questions, 1):
        lines += [f"{number}. {question.text}", f"   {question.answer}" if solve else ""]
    return lines


def play(policies, name, seed, source, prompt):
    """Print each question and read its answer from `source`; `prompt`: for a person, who needs an example."""
    lines, questions = quiz(policies, name, seed)
    print(*lines, sep="\n")
    given, right, ended = 0, 0, False
    for number, question in enumerate(questions, 1):
        print(f"{number}. {question.text}")
        if prompt and not ended:
            print(f"   For example: {question.form}\n   > ", end="", flush=True)
        line = "" if ended else source.readline()
        if not line:  # the end of the input: the other questions are only printed
            print()
            ended = True
            continue
        given += 1
        right += question.is_right(line)
        print("   right" if question.is_right(line) else f"   no: {question.answer}")
    if given:
        print(f"{right} of {len(questions)} answers are right")


def each(outcome, figure):
    """Return a figure for each job, as text."""
    return ", ".join(f"{name} {figure(name)}" for name in outcome.jobs)


def best_policies(outcomes, figure):
    """Return the names of the policies with the smallest mean of a figure."""
    means = {name: mean(getattr(outcome, figure)(job) for job in outcome.jobs) for name, outcome in outcomes.items()}
    return [name for name, value in means.items() if value == min(means.values())]
