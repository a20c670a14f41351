"""`python -m minisched`: run the command line (`minisched.cli`)."""

import sys

from .cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
