"""Checks exercises: is a solution right, and if not, what does it do in place of what it should?

Shows: a file of yours is run, and the functions in it that are named as exercises are put to the test. What is not
there yet is no mistake.

Run it:    python demos/lessons/checks.py FILE
"""

import sys
from pathlib import Path
from runpy import run_path

import checks_coroutines
import checks_world
from expect import Wrong

from minisched import Cancelled

CHECKS = {
    name.removeprefix("check_"): check
    for module in (checks_coroutines, checks_world)
    for name, check in vars(module).items()
    if name.startswith("check_")
}


def check_all(solutions, partly=False):
    """Check the functions in a dict; print what became of each; return the exit status. `partly`: some will do."""
    right = wrong = 0
    for name, check in CHECKS.items():
        if name not in solutions:
            wrong += not partly
            print(f"{name}: not there")
            continue
        try:
            check(solutions[name])
        except (Exception, Cancelled) as error:
            wrong += 1
            print(f"{name}: wrong: {error if isinstance(error, Wrong) else repr(error)}")
        else:
            right += 1
            print(f"{name}: right")
    print(f"{right} of {len(CHECKS)} exercises are solved")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit("usage: python demos/lessons/checks.py FILE")
    sys.exit(check_all(run_path(sys.argv[1]), partly=True))
