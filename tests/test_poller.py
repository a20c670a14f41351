"""The poller, step by step on a selector in memory; with real files where the operating system matters."""

from __future__ import annotations

import gc
import os
import socket
from collections import namedtuple

import pytest
from helpers import Ask, Recording, is_open, no_file_is_left_open, pair, parked, run, until, watched  # noqa: F401

from minisched import BusyError, Join, Poller, Read, Socket, Spawn, WaitReadable, Watcher, Write
from minisched.io._selectors2 import READ, WRITE, selectors_of_platform
from minisched.io.poller import MAX_UNCLAIMED_EVENTS
from minisched.kernel import Kernel
from minisched.kernel.lifecycle import Lifecycle

Key = namedtuple("Key", "fd data")


class InMemory:
    """A selector without files: its next `select` returns `events`, or raises it if it is an error."""

    def __init__(self):
        self.registered = {}
        self.events = []
        self.refuses = None

    def register(self, fd, events, data=None):
        assert fd not in self.registered
        self._put(fd, events, data)

    def modify(self, fd, events, data=None):
        assert fd in self.registered
        self._put(fd, events, data)

    def _put(self, fd, events, data):
        if self.refuses is not None:
            raise self.refuses
        self.registered[fd] = (events, data)

    def unregister(self, fd):
        del self.registered[fd]

    def select(self, timeout=None):
        events, self.events = self.events, []
        if isinstance(events, Exception):
            raise events
        return [(Key(fd, self.registered[fd][1]), mask & self.registered[fd][0]) for fd, mask in events]

    def close(self):
        self.registered = None


class Recorder:
    """A waiter that records its calls; `then()` is called when the file is ready."""

    task = None

    def __init__(self, then=None):
        self.calls = []
        self.then = then

    def ready(self):
        self.calls.append("ready")
        if self.then is not None:
            self.then()

    def closed(self):
        self.calls.append("closed")


@pytest.fixture
def poller():
    kernel = Kernel(Lifecycle)
    return Poller(kernel, InMemory())


@pytest.fixture
def open_fd():
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


def registered(poller):
    return {fd: events for fd, (events, _) in poller.selector.registered.items()}


def poll_with(poller, *events):
    poller.selector.events = list(events)
    return poller.select(0)


# Waiting


@pytest.mark.parametrize("persistent", [False, True])
def test_a_waiter_is_called_once_when_its_file_is_ready(poller, persistent):
    waiter, state = Recorder(), poller.state_of(7, persistent=persistent)
    poller.add_waiter(state, READ, waiter)
    assert poll_with(poller) == 0
    assert waiter.calls == []
    assert poll_with(poller, (7, READ)) == 1
    assert waiter.calls == ["ready"]
    assert state.reader is None
    assert registered(poller) == ({7: READ} if persistent else {})


def test_a_waiter_may_wait_again_when_it_is_called_and_the_file_stays_registered(poller):
    state, selector = poller.state_of(7), poller.selector
    waiter = Recorder(then=lambda: poller.add_waiter(state, READ, waiter))
    poller.add_waiter(state, READ, waiter)
    selector.register = selector.unregister = None
    for _ in range(3):
        poll_with(poller, (7, READ))
    assert waiter.calls == ["ready"] * 3
    del selector.register, selector.unregister
    poller.remove_waiter(state, READ)
    assert (registered(poller), poller.registered) == ({}, {})


def test_each_direction_has_a_waiter_of_its_own(poller):
    reader, writer, state = Recorder(), Recorder(), poller.state_of(7)
    poller.add_waiter(state, READ, reader)
    poller.add_waiter(poller.state_of(7), WRITE, writer)
    assert registered(poller) == {7: READ | WRITE}
    poll_with(poller, (7, WRITE))
    assert (reader.calls, writer.calls) == ([], ["ready"])
    assert registered(poller) == {7: READ}
    poller.add_waiter(state, WRITE, writer)
    poll_with(poller, (7, READ | WRITE))
    assert (reader.calls, writer.calls) == (["ready"], ["ready", "ready"])


@pytest.mark.parametrize("direction", [READ, WRITE])
def test_a_second_waiter_for_a_direction_is_refused_and_the_first_stays(poller, direction):
    first, state = Recorder(), poller.state_of(7)
    poller.add_waiter(state, direction, first)
    with pytest.raises(BusyError):
        poller.add_waiter(state, direction, Recorder())
    poll_with(poller, (7, direction))
    assert first.calls == ["ready"]


def test_a_persistent_file_stays_registered_between_waits(poller):
    state = poller.state_of(7, persistent=True)
    for _ in range(3):
        poller.add_waiter(state, READ, Recorder())
        poller.remove_waiter(state, READ)
    assert registered(poller) == {7: READ}


def test_a_one_shot_file_is_registered_only_for_directions_with_a_waiter(poller):
    state = poller.state_of(7)
    poller.add_waiter(state, READ, Recorder())
    poller.add_waiter(state, WRITE, Recorder())
    poller.remove_waiter(state, READ)
    assert registered(poller) == {7: WRITE}
    poller.remove_waiter(state, WRITE)
    assert registered(poller) == {}


def test_a_waiter_that_closes_the_file_ends_the_wait_of_the_other(poller):
    state = poller.state_of(7, persistent=True)
    reader, writer = Recorder(then=lambda: poller.drop(state)), Recorder()
    poller.add_waiter(state, READ, reader)
    poller.add_waiter(state, WRITE, writer)
    poll_with(poller, (7, READ | WRITE))
    assert (reader.calls, writer.calls) == (["ready"], ["closed"])
    assert (registered(poller), poller.registered) == ({}, {})


# Events without a waiter


def test_an_event_without_a_waiter_is_tolerated_a_few_times_and_then_unregistered(poller):
    state = poller.state_of(7, persistent=True)
    poller.add_waiter(state, READ, Recorder())
    poller.remove_waiter(state, READ)
    for _ in range(MAX_UNCLAIMED_EVENTS):
        poll_with(poller, (7, READ))
    assert registered(poller) == {7: READ}
    poll_with(poller, (7, READ))
    assert (registered(poller), poller.registered) == ({}, {})


def test_a_task_can_wait_again_for_a_file_that_was_unregistered(poller):
    test_an_event_without_a_waiter_is_tolerated_a_few_times_and_then_unregistered(poller)
    waiter, state = Recorder(), poller.state_of(7, persistent=True)
    for _ in range(2):  # the second time with the state that was unregistered
        poller.add_waiter(state, READ, waiter)
        assert (registered(poller), poller.registered, list(poller.waiters())) == ({7: READ}, {7: state}, [waiter])
        poll_with(poller, (7, READ))
        poller.remove_waiter(state, READ)
        for _ in range(MAX_UNCLAIMED_EVENTS + 1):
            poll_with(poller, (7, READ))
        assert registered(poller) == {}
    assert waiter.calls == ["ready", "ready"]


def test_an_event_with_a_waiter_resets_the_count_of_unclaimed_events(poller):
    state = poller.state_of(7, persistent=True)
    for _ in range(3):
        poller.add_waiter(state, READ, Recorder())
        poll_with(poller, (7, READ))
        for _ in range(MAX_UNCLAIMED_EVENTS):
            poll_with(poller, (7, READ))
        assert registered(poller) == {7: READ}


def test_while_tasks_are_ready_one_more_unclaimed_event_is_tolerated_for_each(poller):
    state = poller.state_of(7, persistent=True)
    poller.add_waiter(state, READ, Recorder())
    poller.remove_waiter(state, READ)
    poller.kernel.ready.extend(range(10))
    for _ in range(MAX_UNCLAIMED_EVENTS + 10):
        poll_with(poller, (7, READ))
        assert registered(poller) == {7: READ}
    poll_with(poller, (7, READ))
    assert registered(poller) == {}


@pytest.mark.parametrize("events", [READ, READ | WRITE])
def test_an_unclaimed_read_event_lets_the_next_read_try_at_once(poller, events):
    state = poller.state_of(7, persistent=True)
    state.drained = True
    poller.add_waiter(state, WRITE, Recorder())
    poller.remove_waiter(state, WRITE)
    poller.add_waiter(state, READ, Recorder())
    poll_with(poller, (7, READ))
    assert state.drained, "the event had a waiter"
    poll_with(poller, (7, WRITE))
    assert state.drained, "the file can only be written to"
    poll_with(poller, (7, events))
    assert not state.drained


@pytest.mark.parametrize("events", [READ, READ | WRITE])
def test_events_of_a_file_that_is_read_in_between_are_not_counted_as_unclaimed(poller, events):
    state = poller.state_of(7, persistent=True)
    poller.add_waiter(state, WRITE, Recorder())
    poller.remove_waiter(state, WRITE)
    poller.add_waiter(state, READ, Recorder())
    poll_with(poller, (7, READ))
    for _ in range(10 * MAX_UNCLAIMED_EVENTS):
        poll_with(poller, (7, events))
        state.drained = True  # as a read that takes all there is does
        assert registered(poller) == {7: READ | WRITE}
    for _ in range(MAX_UNCLAIMED_EVENTS):
        poll_with(poller, (7, events))
        assert registered(poller) == {7: READ | WRITE}
    poll_with(poller, (7, events))
    assert registered(poller) == {}


def test_interest_in_writing_goes_away_after_the_writing(poller):
    state, reader = poller.state_of(7, persistent=True), Recorder()
    poller.add_waiter(state, READ, reader)
    poller.add_waiter(state, WRITE, Recorder())
    poller.remove_waiter(state, WRITE)
    for _ in range(MAX_UNCLAIMED_EVENTS + 1):
        poll_with(poller, (7, WRITE))
    assert registered(poller) == {7: READ}
    poll_with(poller, (7, READ))
    assert reader.calls == ["ready"]


def test_a_wait_that_begins_when_the_interest_shrinks_is_kept(poller):
    state, late = poller.state_of(7, persistent=True), Recorder(then=lambda: poller.add_waiter(state, WRITE, late))
    reader = Recorder(then=lambda: poller.add_waiter(state, WRITE, late))
    poller.add_waiter(state, WRITE, Recorder())
    poller.remove_waiter(state, WRITE)
    for _ in range(MAX_UNCLAIMED_EVENTS):
        poll_with(poller, (7, WRITE))
    poller.add_waiter(state, READ, reader)
    state.unclaimed = MAX_UNCLAIMED_EVENTS
    poll_with(poller, (7, READ | WRITE))
    assert registered(poller) == {7: WRITE}
    assert (reader.calls, late.calls) == (["ready"], ["ready"])


# Closed files


def test_drop_calls_both_waiters_and_unregisters_the_descriptor(poller):
    state, reader, writer = poller.state_of(7, persistent=True), Recorder(), Recorder()
    poller.add_waiter(state, READ, reader)
    poller.add_waiter(state, WRITE, writer)
    poller.drop(state)
    assert (reader.calls, writer.calls) == (["closed"], ["closed"])
    assert (registered(poller), poller.registered) == ({}, {})
    poller.drop(state)  # to drop it again does nothing
    assert reader.calls == ["closed"]


@pytest.mark.parametrize(("was", "now"), [(True, True), (False, True)])  # True: persistent
def test_the_new_file_of_a_reused_descriptor_is_not_taken_for_the_old(poller, was, now):
    old, new = Recorder(), Recorder()
    poller.add_waiter(poller.state_of(7, persistent=was), READ, old)
    state = poller.state_of(7, persistent=now)
    assert not state.wanted()
    poller.add_waiter(state, READ, new)
    assert (old.calls, poller.registered) == (["closed"], {7: state})
    poll_with(poller, (7, READ))
    assert (old.calls, new.calls) == (["closed"], ["ready"])


def test_a_borrowed_wait_leaves_the_waiter_of_the_owner_alone(poller, open_fd):
    reader, writer, fd = Recorder(), Recorder(), open_fd
    owned = poller.state_of(fd, persistent=True)
    poller.add_waiter(owned, READ, reader)
    borrowed = poller.borrow(fd)
    poller.add_waiter(borrowed, WRITE, writer)
    with pytest.raises(BusyError):
        poller.add_waiter(poller.borrow(fd), READ, Recorder())
    poll_with(poller, (fd, WRITE))
    assert (reader.calls, writer.calls) == ([], ["ready"])
    assert (owned.reader, poller.registered) == (reader, {fd: owned})


def test_the_state_of_an_owner_without_waiters_is_not_borrowed(poller, open_fd):
    fd, waiter = open_fd, Recorder()
    owned = poller.state_of(fd, persistent=True)
    poller.add_waiter(owned, READ, Recorder())
    poller.remove_waiter(owned, READ)  # the owner may have been garbage collected since
    borrowed = poller.borrow(fd)
    poller.add_waiter(borrowed, READ, waiter)
    assert (borrowed is owned, poller.registered) == (False, {fd: borrowed})
    poll_with(poller, (fd, READ))
    assert waiter.calls == ["ready"]


def test_a_descriptor_that_is_reused_during_dispatch_does_not_receive_the_old_files_event(poller):
    def reuse():
        poller.drop(poller.registered[8])
        poller.add_waiter(poller.state_of(8, persistent=True), READ, new)

    old, new = Recorder(), Recorder()
    poller.add_waiter(poller.state_of(7, persistent=True), READ, Recorder(then=reuse))
    poller.add_waiter(poller.state_of(8, persistent=True), READ, old)
    assert poll_with(poller, (7, READ), (8, READ)) == 2
    assert (old.calls, new.calls) == (["closed"], [])
    poll_with(poller, (8, READ))
    assert new.calls == ["ready"]


def test_a_file_that_is_dropped_during_dispatch_is_skipped(poller):
    other = Recorder()
    poller.add_waiter(
        poller.state_of(7, persistent=True), READ, Recorder(then=lambda: poller.drop(poller.registered[8]))
    )
    poller.add_waiter(poller.state_of(8, persistent=True), READ, other)
    assert poll_with(poller, (7, READ), (8, READ)) == 2
    assert other.calls == ["closed"]


def test_a_file_that_the_selector_refuses_is_not_registered(poller):
    poller.selector.refuses = PermissionError()
    with pytest.raises(PermissionError):
        poller.add_waiter(poller.state_of(7), READ, Recorder())
    assert (registered(poller), poller.registered, list(poller.waiters())) == ({}, {}, [])


def test_the_other_waiter_of_a_refused_file_is_called(poller):
    state, reader = poller.state_of(7), Recorder()
    poller.add_waiter(state, READ, reader)
    poller.selector.refuses = OSError()
    with pytest.raises(OSError):
        poller.add_waiter(state, WRITE, Recorder())
    assert (reader.calls, registered(poller), poller.registered) == (["closed"], {}, {})


def test_removing_a_waiter_never_raises_and_the_other_waiter_is_called(poller):
    state, reader = poller.state_of(7), Recorder()
    poller.add_waiter(state, READ, reader)
    poller.add_waiter(state, WRITE, Recorder())
    poller.selector.refuses = OSError()
    poller.remove_waiter(state, WRITE)
    assert (reader.calls, registered(poller), poller.registered) == (["closed"], {}, {})


def test_closed_descriptors_are_dropped_when_the_selector_fails(poller):
    closed, still_open = os.pipe()
    os.close(closed)
    closed_one, open_one = Recorder(), Recorder()
    poller.add_waiter(poller.state_of(closed), READ, closed_one)
    poller.add_waiter(poller.state_of(still_open), WRITE, open_one)
    poller.selector.events = OSError("one of them is bad")
    assert poller.select(0) == 0
    assert (closed_one.calls, open_one.calls) == (["closed"], [])
    assert registered(poller) == {still_open: WRITE}
    os.close(still_open)


def test_a_selector_that_fails_for_another_reason_raises(poller):
    poller.selector.events = ValueError("out of order")
    with pytest.raises(ValueError, match="out of order"):
        poller.select(1)


# Reports, and the end


def test_pending_counts_tasks_and_not_internal_waiters(poller):
    one, two = Recorder(), Recorder()
    one.task = two.task = object()
    poller.add_waiter(poller.state_of(7), READ, one)
    poller.add_waiter(poller.state_of(8), WRITE, two)
    poller.add_waiter(poller.state_of(9), READ, Recorder())
    poller.internal_waiters += 1  # as the loop's wake-up does
    assert poller.pending() == 2
    assert list(poller.tasks()) == [one.task, two.task]
    assert len(list(poller.waiters())) == 3


def test_a_watcher_receives_each_poll(poller):
    class Polls(Watcher):
        seen = ()

        def poll(self, timeout, events):
            self.seen = (*self.seen, (timeout, events))

    poller.kernel.watch = Polls()
    poller.add_waiter(poller.state_of(7), READ, Recorder())
    poll_with(poller, (7, READ))
    poll_with(poller)
    assert poller.kernel.watch.seen == ((0, 1), (0, 0))


def test_a_file_can_be_dropped_after_the_poller_is_closed(poller):
    state = poller.state_of(7, persistent=True)
    poller.add_waiter(state, READ, Recorder())
    poller.remove_waiter(state, READ)
    poller.close()
    assert (poller.registered, poller.selector.registered) == ({}, None)
    poller.drop(state)


@pytest.mark.parametrize("end", [Poller.close, Poller.abandon])
def test_no_waiter_is_left_for_another_run_to_find(poller, end):
    state = poller.state_of(7, persistent=True)
    poller.add_waiter(state, READ, Recorder())
    poller.add_waiter(state, WRITE, Recorder())
    end(poller)
    assert (state.wanted(), state.events, poller.pending()) == (0, 0, 0)
    poller.remove_waiter(state, READ)  # as the undo of its task does afterwards
    poller.selector.close()


# With real files


def test_a_socket_is_registered_once_however_often_it_is_read():
    recording = Recording()

    def main():
        ours, plain = pair()
        fd = ours.fileno()
        with ours, plain:
            reader = yield Spawn(reads(ours, 20))
            for _ in range(20):
                yield from parked(reader)
                plain.send(b"x")
                yield from until(lambda: reader.state != "parked")
            yield Join(reader)
        return recording.count(fd)

    assert run(main(), selector=recording) == ["register", "unregister"]


def reads(sock, times):
    for _ in range(times):
        yield Read(sock, 1000)


def test_a_borrowed_file_is_registered_for_each_wait():
    recording = Recording()

    def main():
        ours, plain = pair()
        with ours, plain:
            reader = yield Spawn(reads(plain, 3))
            for _ in range(3):
                yield from parked(reader)
                yield Write(ours, b"x")
                yield from until(lambda: reader.state != "parked")
            yield Join(reader)
            return recording.count(plain.fileno())

    assert run(main(), selector=recording) == ["register", "unregister"] * 3


def test_a_task_whose_file_was_unregistered_meanwhile_can_wait_again():
    def reader(ours):
        yield WaitReadable(ours)
        poller = yield Ask(lambda kernel: kernel.service(Poller))
        yield from until(lambda: ours.fileno() not in poller.registered)
        first = yield Read(ours, 1000)
        return first + (yield Read(ours, 1000))

    def main():
        ours, plain = pair()
        with ours, plain:
            task = yield Spawn(reader(ours))
            plain.send(b"first, ")
            poller = yield Ask(lambda kernel: kernel.service(Poller))
            yield from until(lambda: isinstance(task.call, Read))
            assert poller.pending() == 1  # otherwise the loop would report a deadlock
            plain.send(b"second")
            return (yield Join(task))

    assert run(main()) == b"first, second"


def pair_at(fd):
    """Return a connected pair as `pair` does, the first of which has a given descriptor that is free."""
    first, other = socket.socketpair()
    if first.fileno() == fd:
        return Socket(fileno=first.detach(), peer="the other"), other
    if other.fileno() == fd:
        return Socket(fileno=other.detach(), peer="the other"), first
    with first:
        assert not is_open(fd)
        return Socket(fileno=os.dup2(first.fileno(), fd, inheritable=False), peer="the other"), other


def test_a_socket_that_is_garbage_collected_does_not_disturb_the_next_owner_of_its_descriptor():
    def drops():
        ours, other = pair()
        other.close()
        fd = ours.fileno()
        assert (yield Read(ours, 1)) == b""
        assert (yield Read(ours, 1)) == b""  # this one waits first, and registers the socket
        return fd

    def main():
        task = yield Spawn(drops())
        with pytest.warns(ResourceWarning, match="unclosed"):
            fd = yield Join(task)
            gc.collect()
        assert (yield Ask(watched)) == [fd]  # the poller does not know that it is gone
        ours, other = pair_at(fd)
        with ours, other:
            reader = yield Spawn(reads(ours, 1))
            yield from parked(reader)
            yield Write(other, b"x")
            yield Join(reader)

    run(main(), debug=False)  # in a debug run, the watchdog reads files, and takes the descriptor meanwhile


def test_a_socket_that_is_garbage_collected_is_unregistered_from_a_selector_that_watches_descriptors(
    selector_by_number,
):
    def drops():
        ours, other = pair()
        other.close()
        yield Read(ours, 1)
        yield Read(ours, 1)

    def main():
        task = yield Spawn(drops())
        with pytest.warns(ResourceWarning, match="unclosed"):
            yield Join(task)
            gc.collect()
        dropped = yield Ask(watched)
        yield from until_gone(dropped)

    def until_gone(dropped):
        poller = yield Ask(lambda kernel: kernel.service(Poller))
        yield from until(lambda: not set(dropped) & set(poller.registered))

    run(main(), selector=selector_by_number())


@pytest.fixture(params=["SelectSelector", "PollSelector"])
def selector_by_number(request):
    selectors = selectors_of_platform()
    if request.param not in selectors:
        pytest.skip("not on this platform")
    return selectors[request.param]
