"""A syscall of a user on a descriptor of its own: `yield WaitProcess(process)` waits for the end of a child process.

Shows: `FileOperation` with something that it owns. `open` gets a descriptor that becomes readable when the process ends
(`pidfd_open` of Linux), `try_once` asks for the exit status, and `release` closes the descriptor, whether the process
has ended, the task was cancelled, or another call of a `select` was faster.

Run it:    python demos/extend/child_process.py
"""

import os
import subprocess
import sys
from argparse import ArgumentParser

from checked import show

from minisched import FileOperation, Sleep, gather, run, select

# The syscall.


class WaitProcess(FileOperation[int]):
    """Wait for the end of a child process, a `subprocess.Popen`; return its exit status."""

    __slots__ = ("process",)

    def __init__(self, process):
        self.process = process

    def open(self, kernel):
        return os.pidfd_open(self.process.pid)

    def try_once(self, pidfd):
        status = self.process.poll()
        if status is None:
            raise BlockingIOError
        return status

    def release(self, pidfd):
        os.close(pidfd)

    def __repr__(self):
        return "WaitProcess()"


class Leaky(WaitProcess):
    """Wrong: it closes the descriptor when the process has ended, but not if the wait ends in another way."""

    __slots__ = ()

    def try_once(self, pidfd):
        status = super().try_once(pidfd)
        os.close(pidfd)
        return status

    def release(self, pidfd):
        pass


# The demonstration.


def child(seconds, status):
    """Start a child process that sleeps, and then exits with a status."""
    code = f"import sys, time; time.sleep({seconds}); sys.exit({status})"
    return subprocess.Popen([sys.executable, "-c", code])


def status_of(process):
    """Wait for a process."""
    return (yield WaitProcess(process))


def ticker():
    """Show that other tasks run meanwhile."""
    for _ in range(3):
        yield Sleep(0.1)
        print("  tick")


def main():
    """Wait for two processes at once, and for a third one with a limit."""
    statuses = yield from gather(status_of(child(0.25, 3)), status_of(child(0, 0)), ticker())
    print(f"  two children have exited with {statuses[0]} and {statuses[1]}")
    slow = child(60, 0)
    number, _ = yield select(WaitProcess(slow), Sleep(0.1))
    print("  the third one is too slow" if number == 1 else "  the third one has ended")
    slow.kill()
    print(f"  killed: {(yield WaitProcess(slow))}")


def waiting(kind):
    """Return a function that creates a syscall, with functions that complete it and clean up."""

    def make():
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        return kind(process), process.kill, lambda: (process.kill(), process.communicate())

    return make


CHECKED = {"WaitProcess": waiting(WaitProcess), "Leaky": waiting(Leaky)}

if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    if not hasattr(os, "pidfd_open"):
        sys.exit("child_process.py: this system has no pidfd_open")
    print("Three child processes:")
    run(main())
    show(**CHECKED)
