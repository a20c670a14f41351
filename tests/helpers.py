"""What the tests that touch the operating system share."""

from __future__ import annotations

import os
import socket
from time import monotonic

import pytest

from minisched import Poller, Socket, Syscall, Watcher, testing
from minisched._selectors2 import default_selector
from minisched.wakeup import Wakeup


@pytest.fixture(autouse=True)
def no_file_is_left_open():
    before = open_numbers()
    yield
    assert open_numbers() == before


def open_numbers():
    """Return the numbers of the open files."""
    return sorted(os.listdir("/dev/fd"))


def is_open(fd):
    """Return whether a number is that of an open file."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def run(main, **keywords):
    """Run in virtual time; at the end, no file is watched but those of ours that are open."""
    ends = Ends()
    try:
        return testing.run(main, watch=[ends, *keywords.pop("watch", ())], **keywords)
    finally:
        assert ends.left == [], f"still watched: {ends.left}"


class Ends(Watcher):
    def start(self, kernel):
        self.kernel = kernel
        self.left = []

    def exit(self, task):
        if task.spawner is None:
            entries = self.kernel.service(Poller).entries
            self.left = [fd for fd, entry in entries.items() if not (entry.lasting and is_open(fd))]


def watched(kernel):
    """Return the numbers that the poller watches, the wake-up socket's aside."""
    wakeup = kernel.service(Wakeup)
    return [fd for fd, entry in kernel.service(Poller).entries.items() if entry is not wakeup.entry]


class Ask(Syscall[object]):
    """Return what `question(kernel)` returns."""

    __slots__ = ("question",)
    checkpoint = False

    def __init__(self, question):
        self.question = question

    def handle(self, kernel, task):
        return self.question(kernel)


def until(condition):
    """Let the others run until `condition()` is true."""
    end = monotonic() + 20
    while not condition():
        assert monotonic() < end, "it never came true"
        yield


def parked(*tasks):
    """Let the others run until the tasks are parked."""
    return until(lambda: all(task.state == "parked" for task in tasks))


def pair():
    """Return a Socket and a plain blocking socket that are connected."""
    ours, plain = socket.socketpair()
    return Socket(fileno=ours.detach(), peer="the other"), plain


def pattern(size):
    """Return bytes that are different at each place within a long way."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


class Recording:
    """A selector that writes down what it is asked to do; `errors` says what it refuses."""

    def __init__(self, inner=None):
        self.inner = inner or default_selector()
        self.calls = []
        self.errors = {}

    def _do(self, name, fd, *rest):
        self.calls.append((name, fd))
        if name in self.errors:
            raise self.errors.pop(name)
        return getattr(self.inner, name)(fd, *rest)

    def register(self, fd, events, data=None):
        return self._do("register", fd, events, data)

    def modify(self, fd, events, data=None):
        return self._do("modify", fd, events, data)

    def unregister(self, fd):
        return self._do("unregister", fd)

    def select(self, timeout=None):
        return self._do("select", timeout)

    def close(self):
        self.inner.close()

    def count(self, fd):
        """Return what was asked for a number, in order."""
        return [name for name, number in self.calls if number == fd and name != "select"]
