"""Programs that tests run as a user does: in a process of their own, on a pipe or on a terminal.

Nothing sleeps to synchronise: a test waits for what the program says. Everything is bounded, and
every process is gone at the end.
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
SECONDS = 60  # after which a test has failed


def environment(*first):
    """Return the environment of a program: the folders `first` and this package come first on its path."""
    path = os.pathsep.join([*map(str, first), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


def command(arguments):
    """Return the command that runs Python with `arguments`, any warning being an error."""
    return [sys.executable, "-W", "error", *map(str, arguments)]


def finished(*arguments, cwd=ROOT, path=()):
    """Run Python to its end; return its `returncode`, `stdout` and `stderr`."""
    return subprocess.run(
        command(arguments), capture_output=True, text=True, timeout=SECONDS, cwd=cwd, env=environment(*path)
    )


def assert_one_line(result, *parts):
    """Assert that a program has ended with status 1 and one line on standard error, which has all `parts` in it."""
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


@contextmanager
def started(*arguments, terminal=None, path=()):
    """Start Python; give the Program. `terminal`: "stdout" or "stderr", which is then a terminal."""
    master, slave = os.openpty() if terminal else (None, None)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **({terminal: slave} if terminal else {})}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # an ignored Ctrl-C would be inherited
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
    """A process, and what it has said so far on its standard output or terminal."""

    def __init__(self, process, fd):
        self.process = process
        self.fd = fd
        self.said = ""

    def expect(self, pattern):
        """Read until `pattern` is found in what was said; return the match."""
        deadline = monotonic() + SECONDS
        while not (found := re.search(pattern, self.said)):
            assert self._read(deadline - monotonic()), f"no {pattern!r} in {self.said!r}"
        return found

    def interrupt(self):
        """Press Ctrl-C and wait for the end; return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self):
        """Read all that is still said; return the exit status."""
        deadline = monotonic() + SECONDS
        while self._read(deadline - monotonic()):
            pass
        return self.process.wait(SECONDS)

    def errors(self):
        """Return what was said on standard error, once the program has ended."""
        return self.process.stderr.read().decode()

    def _read(self, seconds):
        readable, _, _ = select.select([self.fd], [], [], max(seconds, 0))
        assert readable, f"nothing more came after {self.said!r}"
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # a terminal whose other side is closed
            data = b""
        self.said += data.decode()
        return data
