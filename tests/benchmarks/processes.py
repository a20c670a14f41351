"""The processes that do the work: each peer has its own."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PR_SET_PDEATHSIG = 1  # of prctl(2)
PATIENCE = 15  # seconds that a peer may take for what others do in one


class Failed(Exception):
    """A process has ended, or can't do what it has to; the text says which, and what it said last."""


class Slow(Failed):
    """It would go on for minutes."""


class Process:
    """A program that answers a line on its standard input by one on its standard output."""

    def __init__(self, name: str, *command: str) -> None:
        self.name = name
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        pipe = subprocess.PIPE
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe would fill, since nobody reads it)
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=self.errors, text=True,
            preexec_fn=end_with_the_first,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The operating system's number of the process."""
        return self.process.pid

    def ask(self, line: str, patience: float | None = None) -> str:
        """Give it a line; return its answer. `patience`: seconds, if it may take longer than is usual."""
        assert self.process.stdin is not None
        try:
            print(line, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # what it said last is said below
        return self.line(patience)

    def line(self, patience: float | None = None) -> str:
        """Return the next line that it says."""
        assert self.process.stdout is not None
        patience = PATIENCE if patience is None else patience
        if not select.select([self.process.stdout], [], [], patience)[0]:
            raise Slow(f"{self.name}: it takes more than {patience} s")
        said = self.process.stdout.readline().strip()
        if not said:
            _ = self.process.wait()
            _ = self.errors.seek(0)
            *_, last = ["it ended without a word", *self.errors.read().strip().splitlines()]
            raise Failed(f"{self.name}: {last}")
        return said

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.errors.closed:
            return  # it was ended before
        self.process.kill()
        _ = self.process.communicate()
        self.errors.close()


def end_with_the_first() -> None:
    """Let this process be killed when the one that started it is: a server under load would go on for ever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def python(name: str, *arguments: str) -> Process:
    """Start this Python, at the root of the project."""
    return Process(name, sys.executable, *arguments)
