"""Print the verdict of `check_syscall` on a correct syscall and on a wrong one, for each file of this folder.

Shows: `minisched.testing.check_syscall` cancels a waiting syscall at every possible moment, and describes the first
broken rule.

Run it:    python demos/extend/checked.py FILE.py [FILE.py ...]
"""

import argparse
import sys
import textwrap
from importlib import import_module
from pathlib import Path

from minisched.testing import check_syscall


def verdict(make):
    """Return the verdict on the syscall that `make` returns."""
    try:
        check_syscall(make)
    except AssertionError as error:
        return str(error)
    return "passes"


def show(**makes):
    """Print the verdict on each syscall, by name."""
    print("The verdict of check_syscall:")
    for name, make in makes.items():
        print(textwrap.fill(f"{name}: {verdict(make)}", 80, initial_indent="  ", subsequent_indent="    "))


def main(files):
    """Check the syscalls of each file: its dict `CHECKED` has their names, and functions that create them."""
    for file in files:
        path = Path(file)
        sys.path.insert(0, str(path.parent.absolute()))
        print(path.name)
        show(**import_module(path.stem).CHECKED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", metavar="FILE", nargs="+", help="a file with a dict CHECKED, such as rate_limiter.py")
    main(parser.parse_args().files)
