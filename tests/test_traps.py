"""The traps of file numbers, on real files and on every selector of the platform.

Others are elsewhere: `test_poller.py` (a registered socket that is dropped, and its number used again),
`test_sockets.py` (it is warned about), `test_files.py` (two tasks that read one file, a file closed while it
is read, a number that becomes another Socket), `test_bugs.py` (trio #1272: closed behind our back, and cancelled).
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
    poller,
    run,
)
from minisched._selectors2 import default_selector, selectors_of_platform
from minisched.poller import PATIENCE, VAIN

LOOK = 0.03  # seconds, in these tests
# They hold the file, not its number, and forget it when its last number is closed.
BY_DESCRIPTION = {"EpollSelector", "Epoll"}


@pytest.fixture(params=selectors_of_platform())
def selector(request):
    """Return a selector of each kind."""
    return selectors_of_platform()[request.param]()


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(poller, "LOOK", LOOK)


class Polls(Watcher):
    """Remembers how many events each look at files has brought."""

    def __init__(self):
        self.events = []

    def poll(self, timeout, events):
        self.events.append(events)


def reading(file):
    return (yield Read(file, 100))


def ticking(seconds):
    while True:
        yield Sleep(seconds)


def told_in_time(task):
    """Assert that a task gets ClosedError after a few looks."""
    start = monotonic()
    with pytest.raises(ClosedError, match=f"was closed while task '{task.name}' waited for it"):
        with (yield MoveOnAfter(100 * LOOK)):
            yield Join(task)
    return monotonic() - start


# Closed behind our back


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("call", [lambda fd: Read(fd, 100), WaitReadable], ids=["Read", "WaitReadable"])
def test_who_waits_for_a_number_that_is_closed_behind_our_back_is_told(call, busy, selector):
    def waiting(fd):
        yield call(fd)

    def main():
        if busy:
            yield Spawn(ticking(LOOK / 10), daemon=True)
        reader, writer = os.pipe()
        task = yield Spawn(waiting(reader), keep=True)
        yield from parked(task)
        os.close(reader)
        yield from told_in_time(task)
        os.close(writer)

    run(main(), selector=selector)


def test_who_waits_to_write_is_told_too(selector):
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
        yield from told_in_time(task)
        os.close(reader)

    run(main(), selector=selector)


def test_a_number_that_is_another_files_now_brings_its_old_waiter_nothing_of_it(selector):
    def main():
        reader, writer = os.pipe()
        task = yield Spawn(reading(reader), keep=True)
        yield from parked(task)
        os.close(reader)
        new, other = os.pipe()
        assert new == reader
        os.write(other, b"for the new owner")
        yield from told_in_time(task)
        assert os.read(new, 100) == b"for the new owner"
        for number in (writer, new, other):
            os.close(number)

    run(main(), selector=selector)


def test_a_socket_of_ours_that_has_the_number_now_is_waited_for_as_any_other(selector):
    def main():
        reader, writer = os.pipe()
        task = yield Spawn(reading(reader), keep=True)
        yield from parked(task)
        os.close(reader)
        ours, plain = pair()
        with ours, plain:
            if ours.fileno() != reader:
                number = ours.detach()
                assert os.dup2(number, reader) == reader
                os.close(number)
                ours = Socket(fileno=reader, peer="the other")
            with ours:
                new = yield Spawn(reading(ours))
                yield from parked(new)
                yield from told_in_time(task)
                plain.send(b"for the new owner")
                assert (yield Join(new)) == b"for the new owner"
        os.close(writer)

    run(main(), selector=selector)


def test_a_task_that_waits_for_the_new_file_of_a_number_is_no_second_one(selector):
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
            yield from told_in_time(old)
        finally:
            for number in (writer, again, other):
                os.close(number)

    run(main(), selector=selector)


# Closed, while a copy of it is open


@pytest.mark.parametrize("pause", [LOOK, LOOK / 20], ids=["idle", "busy"])
def test_a_number_that_is_closed_while_a_copy_is_open_makes_nothing_spin(pause, selector):
    polls = Polls()

    def main():
        ours, plain = socket.socketpair()
        ours.setblocking(False)
        with plain, ours.dup():
            task = yield Spawn(reading(ours), keep=True)
            yield from parked(task)
            ours.close()
            plain.send(b"that is readable from now on")
            with pytest.raises((ClosedError, OSError)):
                yield Join(task)
            before = len(polls.events)
            for _ in range(20):
                yield Sleep(pause)
            assert len(polls.events) - before < 100, "it spins"
        assert (yield Ask(lambda kernel: kernel.service(Poller).selector is selector)) is (
            type(selector).__name__ not in BY_DESCRIPTION
        )

    run(main(), watch=[polls], selector=selector)


class Special(Recording):
    """A selector that can't be made without an argument."""

    def __init__(self, inner):
        super().__init__(inner)


def test_a_selector_that_can_not_be_made_anew_goes_on():
    selector = Special(default_selector())

    def main():
        ours, plain = socket.socketpair()
        ours.setblocking(False)
        with plain, ours.dup():
            task = yield Spawn(reading(ours), keep=True)
            yield from parked(task)
            ours.close()
            plain.send(b"that is readable from now on")
            with pytest.raises((ClosedError, OSError)):
                yield Join(task)
            calls = len(selector.calls)
            yield Sleep(LOOK)
            assert len(selector.calls) - calls > 2 * VAIN, "it was not asked in vain"

    run(main(), selector=selector)


# Readable, and nobody reads


def test_sockets_that_nobody_reads_are_unregistered_after_a_few_events(selector):
    count, polls = 400, Polls()

    def main():
        pairs = [pair() for _ in range(count)]
        for ours, plain in pairs:
            task = yield Spawn(reading(ours), keep=True)
            yield from parked(task)
            plain.send(b"once")
            assert (yield Join(task)) == b"once"
        for _, plain in pairs:
            plain.send(b"again, and nobody reads that")
        before = len(polls.events)
        yield Sleep(LOOK)
        looks = polls.events[before:]
        assert looks.count(count) <= PATIENCE + 1
        yield Sleep(LOOK)
        assert polls.events[-1] == 0, "each look still brings what nobody wants"
        assert len(polls.events) - before < 20
        ours, plain = pairs[7]
        assert (yield Read(ours, 100)) == b"again, and nobody reads that"
        task = yield Spawn(reading(ours))
        yield from parked(task)
        plain.send(b"it is registered again")
        assert (yield Join(task)) == b"it is registered again"
        for ours, plain in pairs:
            ours.close()
            plain.close()

    run(main(), watch=[polls], selector=selector)


# Dropped


def test_the_peer_of_a_registered_socket_that_is_dropped_sees_the_end(selector):
    def drops():
        ours, plain = pair()
        with (yield MoveOnAfter(0.001)):
            yield Read(ours, 1)  # it is registered by that
        return plain

    def main():
        with pytest.warns(ResourceWarning, match="unclosed"):
            plain = yield from drops()
            yield  # until then, the Cancelled is on its way
            gc.collect()
        with plain:
            plain.setblocking(False)
            assert plain.recv(1) == b""
        yield Sleep(LOOK)

    run(main(), selector=selector)
