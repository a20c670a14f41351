"""`python -m demos.policies`: run one workload under each policy; print a table and charts.

Shows: no policy is the best for everything.

Run it:    python -m demos.policies [--workload NAME] [--policy NAME] [--seed N] [--plot FILE] [--quiz [--solve]]
"""

import argparse
import sys
from pathlib import Path

from ..console import quiet_end
from . import quiz, show
from .machine import simulate
from .policies import EDF, FIFO, Feedback, Lottery, Priority, Stride
from .workloads import WORKLOADS


def policies(seed):
    """Return functions that create each policy for a list of jobs, by name."""
    return {
        "FIFO": lambda jobs: FIFO(),
        "priority": lambda jobs: Priority({job.name: job.priority for job in jobs}),
        "lottery": lambda jobs: Lottery({job.name: job.tickets for job in jobs}, seed=seed),
        "stride": lambda jobs: Stride({job.name: job.tickets for job in jobs}),
        "feedback": lambda jobs: Feedback(),
        "EDF": lambda jobs: EDF({job.name: job.deadline for job in jobs}),
    }


def options(arguments):
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m demos.policies", description="Compare scheduling policies.")
    parser.add_argument("--workload", choices=WORKLOADS, default="mix", help="default: %(default)s")
    parser.add_argument("--policy", choices=policies(0), help="only this policy, with details of each job")
    parser.add_argument("--seed", type=int, default=1, help="for the lottery and the quiz; default: %(default)s")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the charts as .svg or .png")
    parser.add_argument("--quiz", action="store_true", help="ask for answers about a policy and three jobs")
    parser.add_argument("--solve", action="store_true", help="print the quiz with its answers")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command; return the exit status."""
    asked = options(arguments)
    makers = policies(asked.seed)
    if asked.quiz or asked.solve:
        policy = asked.policy or "FIFO"
        if asked.solve or sys.stdin is None:
            print(*quiz.ask(makers, policy, asked.seed, asked.solve), sep="\n")
        else:
            quiz.play(makers, policy, asked.seed, sys.stdin, sys.stdin.isatty())
        return 0
    jobs = WORKLOADS[asked.workload]
    chosen = [asked.policy] if asked.policy else list(makers)
    outcomes = {name: simulate(makers[name](jobs), jobs) for name in chosen}
    for name, outcome in outcomes.items():
        print(name, *show.chart(outcome), "", sep="\n")
    if asked.policy:
        print(*show.details(outcomes[asked.policy]), "", sep="\n")
    print(*show.table(outcomes), sep="\n")
    return draw(outcomes, asked.plot) if asked.plot else 0


def draw(outcomes, file):
    """Draw the charts; return the exit status."""
    try:
        show.plot(outcomes, file)
    except ImportError:
        print("--plot needs matplotlib: pip install -e '.[bench]'", file=sys.stderr)
    except (OSError, ValueError) as error:  # a missing folder, or an unknown format
        print(f"{file}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    with quiet_end():
        sys.exit(main())
