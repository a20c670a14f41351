"""Child processes that answer line by line. Each peer is measured in processes of its own."""

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
ANSWER_SECONDS = 15  # the timeout of an answer that usually takes a second or two


class ProcessFailed(Exception):
    """A process has ended or cannot do its work; the text names the peer and has its last line of error output."""


class ProcessTimeout(ProcessFailed):
    """A process has not answered in time."""


class Process:
    """A program that answers each line on its standard input with a line on its standard output."""

    def __init__(self, name: str, *command: str) -> None:
        self.name = name
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        pipe = subprocess.PIPE
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe that nothing reads would fill up)
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=self.errors, text=True,
            preexec_fn=end_with_the_parent,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process ID."""
        return self.process.pid

    def ask(self, line: str, timeout: float | None = None) -> str:
        """Send a line and return the answer; `timeout` is in seconds, ANSWER_SECONDS by default."""
        assert self.process.stdin is not None
        try:
            print(line, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # `line` reports why the process has ended
        return self.line(timeout)

    def line(self, timeout: float | None = None) -> str:
        """Return the next line of standard output."""
        assert self.process.stdout is not None
        timeout = ANSWER_SECONDS if timeout is None else timeout
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            raise ProcessTimeout(f"{self.name}: no answer within {timeout} s")
        answer = self.process.stdout.readline().strip()
        if not answer:
            _ = self.process.wait()
            _ = self.errors.seek(0)
            *_, last = ["the process ended without an error message", *self.errors.read().strip().splitlines()]
            raise ProcessFailed(f"{self.name}: {last}")
        return answer

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.errors.closed:
            return  # the process was ended before
        self.process.kill()
        _ = self.process.communicate()
        self.errors.close()


def end_with_the_parent() -> None:
    """Ask the kernel to kill this process when its parent ends: a server under load would run for ever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def python(name: str, *arguments: str) -> Process:
    """Start this Python interpreter in the root directory of the project."""
    return Process(name, sys.executable, *arguments)
