"""Run programs as a user does: in a process of their own, on a pipe or on a terminal.

No test sleeps to synchronise; a test waits for the output of the program. Each wait has a timeout, and
no process survives its test.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).parent.parent
SECONDS = 60  # timeout of each wait
SLOW_TURN = re.compile(r"^task .* has not yielded for more than .*\n", re.MULTILINE)  # of a debug run


def without_slow_turns(errors):
    """Return what a program wrote to standard error, without reports that a loaded machine may cause."""
    return SLOW_TURN.sub("", errors)


def environment(*first):
    """Return the environment of a program, with the folders `first` and this package first on its PYTHONPATH."""
    path = os.pathsep.join([*map(str, first), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


def command(arguments):
    """Return the command that runs Python with `arguments` and turns warnings into errors."""
    return [sys.executable, "-W", "error", *map(str, arguments)]


def finished(*arguments, cwd=ROOT, path=()):
    """Run Python to its end; return the completed process."""
    result = subprocess.run(
        command(arguments), capture_output=True, text=True, timeout=SECONDS, cwd=cwd, env=environment(*path)
    )
    result.stderr = without_slow_turns(result.stderr)
    return result


def assert_one_line(result, *parts):
    """Assert that a program ended with status 1 and a single line on standard error that contains all `parts`."""
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


@contextmanager
def started(*arguments, terminal=None, path=()):
    """Start Python; yield the Program. `terminal`: the stream that is a terminal, "stdout" or "stderr"."""
    master, slave = os.openpty() if terminal else (None, None)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **({terminal: slave} if terminal else {})}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the process would inherit an ignored Ctrl-C
    try:
        process = subprocess.Popen(command(arguments), cwd=ROOT, env=environment(*path), **streams)
    finally:
        signal.signal(signal.SIGINT, before)
        if terminal:
            os.close(slave)
    with process:
        try:
            yield Program(process, process.stdout.fileno() if master is None else master)
        finally:
            process.kill()
            if master is not None:
                os.close(master)


class Program:
    """A process, and its output so far on standard output or the terminal (`said`)."""

    def __init__(self, process, fd):
        self.process = process
        self.fd = fd
        self.said = ""

    def expect(self, pattern):
        """Read the output until it contains `pattern`; return the match."""
        deadline = monotonic() + SECONDS
        while not (match := re.search(pattern, self.said)):
            assert self._read(deadline - monotonic()), f"no {pattern!r} in {self.said!r}"
        return match

    def interrupt(self):
        """Send SIGINT, as Ctrl-C does, and wait for the end; return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self):
        """Read the rest of the output; return the exit status."""
        deadline = monotonic() + SECONDS
        while self._read(deadline - monotonic()):
            pass
        return self.process.wait(SECONDS)

    def errors(self):
        """Return the output on standard error, after the program has ended."""
        return without_slow_turns(self.process.stderr.read().decode())

    def _read(self, seconds):
        readable, _, _ = select.select([self.fd], [], [], max(seconds, 0))
        assert readable, f"no more output after {self.said!r}"
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the program has closed its end of the terminal
            data = b""
        self.said += data.decode()
        return data
