"""Check solutions of the exercises: name the right ones, and explain the errors of the others.

Shows: your file is run, and each function in it that has the name of an exercise is checked. A missing exercise is
reported, but is not an error. An exception is shown with the line of your file that it came through last. Ctrl-C
shows the line at which your code was, for example in an endless loop.

Run it:    python demos/lessons/checks.py FILE
"""

import argparse
import linecache
import sys
import traceback
from pathlib import Path
from runpy import run_path

import checks_coroutines
import checks_runs
import checks_world
from expect import Wrong

from minisched import Cancelled

CHECKS = {
    name.removeprefix("check_"): check
    for module in (checks_coroutines, checks_world, checks_runs)
    for name, check in vars(module).items()
    if name.startswith("check_")
}


def check_all(solutions, partly=False):
    """Check the functions in a dict; print a line for each; return the exit status. `partly`: some may be missing."""
    right = wrong = 0
    for name, check in CHECKS.items():
        if name not in solutions:
            wrong += not partly
            print(f"{name}: missing")
            continue
        try:
            check(solutions[name])
        except Wrong as error:
            wrong += 1
            print(f"{name}: wrong: {error}")
        except KeyboardInterrupt as error:
            print(f"{name}: stopped by Ctrl-C, {place(error, solutions)}")
            return 130
        except (Exception, Cancelled, SystemExit) as error:
            wrong += 1
            print(f"{name}: wrong: {describe(error)}, {place(error, solutions)}")
        else:
            right += 1
            print(f"{name}: right")
    print(f"{right} of {len(CHECKS)} exercises are solved")
    return 1 if wrong else 0


def describe(error):
    """Return the type and the text of an exception; of a group, those of its first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "".join(traceback.format_exception_only(error)).strip()


def place(error, solutions):
    """Return the last line of the student's file in a traceback; if there is none, the line of the check."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    places = [(frame.f_code.co_filename, number) for frame, number in traceback.walk_tb(error.__traceback__)]
    yours = [place for place in places if place[0] == solutions.get("__file__")]
    checks = [place for place in places if Path(place[0]).stem in (checks_coroutines.__name__, checks_world.__name__)]
    if not (yours or checks):
        return "outside of your file"
    file, number = (yours or checks)[-1]
    line = linecache.getline(file, number).strip()
    return f"in line {number} of {Path(file).name}: {line}" if yours else f"when the check did this: {line}"


def load(file):
    """Run the student's file; return its names. Exit with one line, or with the syntax error, if it cannot be run."""
    try:
        return run_path(file)
    except SyntaxError as error:
        sys.exit("".join(traceback.format_exception_only(error)).rstrip())
    except KeyboardInterrupt as error:
        print(f"stopped by Ctrl-C, {place(error, {'__file__': file})}")
        sys.exit(130)
    except Exception as error:
        sys.exit(f"{file} cannot be run: {describe(error)}, {place(error, {'__file__': file})}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check your solutions of the exercises.")
    parser.add_argument("file", metavar="FILE", help="a file with your functions, under the names of the exercises")
    file = parser.parse_args().file
    if not Path(file).is_file():
        parser.error(f"there is no file {file}: write your functions into a file, and give its path here")
    sys.exit(check_all(load(file), partly=True))
