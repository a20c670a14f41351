"""The traps of file descriptors, on real files and on every selector of the platform.

Other traps are tested elsewhere: in `test_poller.py` (a registered socket is garbage collected and its descriptor
reused), `test_sockets.py` (Python warns of it), `test_files.py` (two tasks read one file; a file is closed while a
task reads it; a descriptor becomes another Socket) and `test_bugs.py` (trio #1272: closed outside the
scheduler, then cancelled).
"""

from __future__ import annotations

import gc
import os
import socket
from time import monotonic

import pytest
from helpers import Ask, Recording, no_file_is_left_open, pair, parked, until  # noqa: F401

from minisched import (
    ClosedError,
    Join,
    MoveOnAfter,
    Poller,
    Read,
    Sleep,
    Socket,
    Spawn,
    WaitReadable,
    WaitWritable,
    Watcher,
    run,
)
from minisched.io import poller
from minisched.io._selectors2 import default_selector, selectors_of_platform
from minisched.io.poller import MAX_EMPTY_POLLS, MAX_UNCLAIMED_EVENTS

STALE_CHECK_SECONDS = 0.03  # in these tests
# Selectors that watch the open file, not the descriptor, until its last descriptor is closed.
BY_OPEN_FILE = {"EpollSelector"}


@pytest.fixture(params=selectors_of_platform())
def selector(request):
    """Return a selector of each kind."""
    return selectors_of_platform()[request.param]()


@pytest.fixture(autouse=True)
def check_often(monkeypatch):
    monkeypatch.setattr(poller, "STALE_CHECK_SECONDS", STALE_CHECK_SECONDS)


class Polls(Watcher):
    """Records how many events each poll has returned."""

    def __init__(self):
        self.events = []

    def poll(self, timeout, events):
        self.events.append(events)


def reading(file):
    return (yield Read(file, 100))


def ticking(seconds):
    while True:
        yield Sleep(seconds)


def closed_in_time(task):
    """Assert that a task gets ClosedError after a few checks; return after how many seconds."""
    start = monotonic()
    with pytest.raises(ClosedError, match=f"was closed while task '{task.name}' waited for it"):
        with (yield MoveOnAfter(100 * STALE_CHECK_SECONDS)):
            yield Join(task)
    return monotonic() - start


# Closed outside the scheduler


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("call", [lambda fd: Read(fd, 100), WaitReadable], ids=["Read", "WaitReadable"])
def test_a_reader_gets_closed_error_when_its_descriptor_is_closed_outside_the_scheduler(call, busy, selector):
    def waiting(fd):
        yield call(fd)

    def main():
        if busy:
            yield Spawn(ticking(STALE_CHECK_SECONDS / 10), daemon=True)
        reader, writer = os.pipe()
        task = yield Spawn(waiting(reader), keep=True)
        yield from parked(task)
        os.close(reader)
        yield from closed_in_time(task)
        os.close(writer)

    run(main(), selector=selector)


def test_a_writer_gets_closed_error_when_its_descriptor_is_closed_outside_the_scheduler(selector):
    def waiting(fd):
        yield WaitWritable(fd)

    def main():
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        task = yield Spawn(waiting(writer), keep=True)
        yield from parked(task)
        os.close(writer)
        yield from closed_in_time(task)
        os.close(reader)

    run(main(), selector=selector)


def test_a_waiter_receives_nothing_of_the_file_that_reuses_its_descriptor(selector):
    def main():
        reader, writer = os.pipe()
        task = yield Spawn(reading(reader), keep=True)
        yield from parked(task)
        os.close(reader)
        new, other = os.pipe()
        assert new == reader
        os.write(other, b"for the new owner")
        yield from closed_in_time(task)
        assert os.read(new, 100) == b"for the new owner"
        for fd in (writer, new, other):
            os.close(fd)

    run(main(), selector=selector)


def test_a_task_can_wait_for_a_socket_that_reuses_a_descriptor(selector):
    def main():
        reader, writer = os.pipe()
        task = yield Spawn(reading(reader), keep=True)
        yield from parked(task)
        os.close(reader)
        ours, plain = pair()
        with ours, plain:
            if ours.fileno() != reader:
                fd = ours.detach()
                assert os.dup2(fd, reader) == reader
                os.close(fd)
                ours = Socket(fileno=reader, peer="the other")
            with ours:
                new = yield Spawn(reading(ours))
                yield from parked(new)
                yield from closed_in_time(task)
                plain.send(b"for the new owner")
                assert (yield Join(new)) == b"for the new owner"
        os.close(writer)

    run(main(), selector=selector)


def test_a_wait_for_the_new_file_of_a_descriptor_is_not_busy(selector):
    def main():
        reader, writer = os.pipe()
        old = yield Spawn(reading(reader), "old", keep=True)
        yield from parked(old)
        os.close(reader)
        again, other = os.pipe()
        assert again == reader
        new = yield Spawn(reading(again), "new", keep=True)
        os.write(other, b"for the new one")
        try:
            assert (yield Join(new)) == b"for the new one"
            yield from closed_in_time(old)
        finally:
            for fd in (writer, again, other):
                os.close(fd)

    run(main(), selector=selector)


# Closed while a duplicate is open


@pytest.mark.parametrize("pause", [STALE_CHECK_SECONDS, STALE_CHECK_SECONDS / 20], ids=["idle", "busy"])
def test_a_descriptor_closed_while_a_duplicate_is_open_does_not_make_the_loop_spin(pause, selector):
    polls = Polls()

    def main():
        ours, plain = socket.socketpair()
        ours.setblocking(False)
        with plain, ours.dup():
            task = yield Spawn(reading(ours), keep=True)
            yield from parked(task)
            ours.close()
            plain.send(b"readable from now on")
            with pytest.raises((ClosedError, OSError)):
                yield Join(task)
            before = len(polls.events)
            for _ in range(5):
                yield Sleep(pause)
            assert len(polls.events) - before < 50, "the loop spins"
        assert (yield Ask(lambda kernel: kernel.service(Poller).selector is selector)) is (
            type(selector).__name__ not in BY_OPEN_FILE
        )

    run(main(), watch=[polls], selector=selector)


class NeedsArgument(Recording):
    """A selector that can't be made without an argument."""

    def __init__(self, inner):
        super().__init__(inner)


def test_a_selector_that_can_not_be_renewed_stays_in_use():
    selector = NeedsArgument(default_selector())

    def main():
        ours, plain = socket.socketpair()
        ours.setblocking(False)
        with plain, ours.dup():
            task = yield Spawn(reading(ours), keep=True)
            yield from parked(task)
            ours.close()
            plain.send(b"readable from now on")
            with pytest.raises((ClosedError, OSError)):
                yield Join(task)
            calls = len(selector.calls)
            yield Sleep(STALE_CHECK_SECONDS)
            assert len(selector.calls) - calls > 2 * MAX_EMPTY_POLLS, (
                "the old selector did not report the closed descriptor"
            )

    run(main(), selector=selector)


# Readable, without a reader


def test_readable_sockets_without_a_reader_are_unregistered_after_a_few_events(selector):
    count, polls = 400, Polls()

    def main():
        pairs = [pair() for _ in range(count)]
        for ours, plain in pairs:
            task = yield Spawn(reading(ours), keep=True)
            yield from parked(task)
            plain.send(b"once")
            assert (yield Join(task)) == b"once"
        for _, plain in pairs:
            plain.send(b"again, without a reader")
        before = len(polls.events)
        yield Sleep(STALE_CHECK_SECONDS)
        counts = polls.events[before:]
        assert counts.count(count) <= MAX_UNCLAIMED_EVENTS + 1
        yield Sleep(STALE_CHECK_SECONDS)
        assert polls.events[-1] == 0, "each poll still returns unclaimed events"
        assert len(polls.events) - before < 20
        ours, plain = pairs[7]
        assert (yield Read(ours, 100)) == b"again, without a reader"
        task = yield Spawn(reading(ours))
        yield from parked(task)
        plain.send(b"registered again")
        assert (yield Join(task)) == b"registered again"
        for ours, plain in pairs:
            ours.close()
            plain.close()

    run(main(), watch=[polls], selector=selector)


# Garbage collected


def test_the_peer_of_a_garbage_collected_socket_reads_the_end(selector):
    def drops():
        ours, plain = pair()
        with (yield MoveOnAfter(0.001)):
            yield Read(ours, 1)  # this registers it
        return plain

    def main():
        with pytest.warns(ResourceWarning, match="unclosed"):
            plain = yield from drops()
            yield  # the Cancelled, which refers to the frame, is delivered now
            gc.collect()
        with plain:
            plain.setblocking(False)
            assert plain.recv(1) == b""
        yield Sleep(STALE_CHECK_SECONDS)

    run(main(), selector=selector)
