"""What `check_syscall` says of a syscall, in words: each file of this folder ends with it, right and wrong.

Shows: `minisched.testing.check_syscall` puts a call that waits through every moment at which a cancellation can
meet it, and says what is wrong.

Run it:    python demos/extend/checked.py FILE.py [FILE.py ...]
"""

import sys
import textwrap
from importlib import import_module
from pathlib import Path

from minisched.testing import check_syscall


def verdict(make):
    """Return what the battery says of the calls that `make` makes."""
    try:
        check_syscall(make)
    except AssertionError as error:
        return str(error)
    return "passes"


def show(**makes):
    """Print the verdict on each, by name."""
    print("What check_syscall says:")
    for name, make in makes.items():
        print(textwrap.fill(f"{name}: {verdict(make)}", 100, initial_indent="  ", subsequent_indent="    "))


def main(files):
    """Check what each file says is to be checked: its `CHECKED`, names and what makes the calls."""
    for file in files:
        path = Path(file)
        sys.path.insert(0, str(path.parent.absolute()))
        print(path.name)
        show(**import_module(path.stem).CHECKED)


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("checked.py: name a file that has a dict CHECKED, as rate_limiter.py has")
    main(sys.argv[1:])
