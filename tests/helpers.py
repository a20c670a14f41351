"""Helpers of the tests that use the operating system: runs that leave no file behind, sockets, recording selectors."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import tempfile
import warnings
from time import monotonic, sleep

import pytest

from minisched import Poller, Socket, Syscall, Watcher, testing
from minisched.bridges.wakeup import Wakeup
from minisched.io._selectors2 import default_selector
from minisched.lab.leftovers import Resources

# In WebAssembly there is no other thread or process, so waiting longer is useless.
PATIENCE_SECONDS = 0.1 if sys.platform == "emscripten" else 20


@pytest.fixture(autouse=True)
def no_file_is_left_open():
    before = open_numbers()
    if before != last_seen:  # a test without this fixture ran in between
        collect_garbage()
        before = open_numbers()
    yield
    assert open_numbers() == before
    last_seen[:] = before


def collect_garbage():
    """Collect the garbage of earlier tests, which may hold open files, without a warning of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def settled(look, expected):
    """Wait until `look()` returns what is expected; fail after 20 seconds."""
    end = monotonic() + PATIENCE_SECONDS
    while look() != expected:
        assert monotonic() < end, f"{look()} in place of {expected}"
        sleep(0.001)


last_seen: list[str] = []  # the open file descriptors after the last test with that fixture


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path_factory, monkeypatch):
    """Fail if a test leaves a file descriptor, a thread, a child process, a signal handler or a temporary file.

    A thread may still close the file of an abandoned call.
    """
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    collect_garbage()
    before, handlers = Resources(), signal_handlers()
    yield
    end = monotonic() + PATIENCE_SECONDS
    while left := before.left():
        assert monotonic() < end, f"left: {left}"
    assert signal_handlers() == handlers
    assert os.listdir(folder) == []


def signal_handlers():
    """Return the handler of each signal."""
    return {signum: signal.getsignal(signum) for signum in sorted(signal.valid_signals())}


def open_numbers():
    """Return the open file descriptors."""
    return sorted(os.listdir("/dev/fd"))


def is_open(fd):
    """Return whether `fd` is open."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def run(main, **keywords):
    """Run in virtual time; assert that at the end only open Sockets are registered with the poller."""
    ends = Ends()
    try:
        return testing.run(main, watch=[ends, *keywords.pop("watch", ())], **keywords)
    finally:
        assert ends.left == [], f"still watched: {ends.left}"


class Ends(Watcher):
    """Records, when main ends, which descriptors are still registered and should not be."""

    def start(self, kernel):
        self.kernel = kernel
        self.left = []

    def exit(self, task):
        if task.spawner is None:
            states = self.kernel.service(Poller).registered
            self.left = [fd for fd, state in states.items() if not (state.persistent and is_open(fd))]


def watched(kernel):
    """Return the descriptors that the poller watches, without the loop's own."""
    wakeup = kernel.service(Wakeup)
    return [fd for fd, state in kernel.service(Poller).registered.items() if state is not wakeup.file_state]


def open_wakeup(kernel):
    """Open the descriptors of the loop itself, before a test counts those of the process."""
    kernel.service(Wakeup).open()


class Ask(Syscall[object]):
    """Return what `question(kernel)` returns."""

    __slots__ = ("question",)
    checkpoint = False

    def __init__(self, question):
        self.question = question

    def handle(self, kernel, task):
        return self.question(kernel)


def until(condition):
    """Yield until `condition()` is true; fail after 20 seconds."""
    end = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < end, "the condition did not become true within 20 s"
        yield


def parked(*tasks):
    """Yield until all the tasks are parked."""
    return until(lambda: all(task.state == "parked" for task in tasks))


def pair():
    """Return a Socket and a plain blocking socket, connected to each other."""
    ours, plain = socket.socketpair()
    return Socket(fileno=ours.detach(), peer="the other"), plain


def pattern(size):
    """Return `size` bytes in which every 4 aligned bytes are unique."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


def left_in_cycles():
    """Return the errors and the objects of the package that only a collection of garbage frees.

    Call it in a run, whose kernel is not garbage yet.
    """
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = [(one, type(one)) for one in gc.garbage]
        return [
            one for one, kind in kinds if issubclass(kind, BaseException) or kind.__module__.startswith("minisched")
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


class Recording:
    """A selector that records its calls; a call in `errors` raises, once."""

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
        """Return the names of the calls for a descriptor, in order."""
        return [name for name, argument in self.calls if argument == fd and name != "select"]
