"""The poller, cranked by hand with a selector in memory; then with real files, where that is the point."""

from __future__ import annotations

import gc
import os
from collections import namedtuple

import pytest
from helpers import Ask, Recording, no_file_is_left_open, pair, parked, run, until, watched  # noqa: F401

from minisched import BusyError, Join, Poller, Read, Spawn, WaitReadable, Watcher, Write
from minisched._selectors2 import selectors_of_platform
from minisched.family import ended
from minisched.kernel import Kernel
from minisched.poller import PATIENCE, READ, WRITE

Key = namedtuple("Key", "fd data")


class InMemory:
    """A selector without files: `events` is what its next `select` returns, an error what it raises."""

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


class Who:
    """A waiter that writes down what it hears; `then` is what it does about it."""

    task = None

    def __init__(self, then=None):
        self.heard = []
        self.then = then

    def ready(self):
        self.heard.append("ready")
        if self.then is not None:
            self.then()

    def closed(self):
        self.heard.append("closed")


@pytest.fixture
def poller():
    kernel = Kernel(ended)
    return Poller(kernel, InMemory())


def registered(poller):
    return {fd: events for fd, (events, _) in poller.selector.registered.items()}


def happens(poller, *events):
    poller.selector.events = list(events)
    return poller.select(0)


# Waiting


@pytest.mark.parametrize("lasting", [False, True])
def test_a_waiter_is_told_once_when_its_file_is_ready(poller, lasting):
    who, entry = Who(), poller.entry(7, lasting=lasting)
    poller.wait(entry, READ, who)
    assert happens(poller) == 0
    assert who.heard == []
    assert happens(poller, (7, READ)) == 1
    assert who.heard == ["ready"]
    assert entry.reader is None
    assert registered(poller) == ({7: READ} if lasting else {})


def test_a_waiter_that_is_told_may_wait_again_and_stays_registered(poller):
    entry, selector = poller.entry(7), poller.selector
    who = Who(then=lambda: poller.wait(entry, READ, who))
    poller.wait(entry, READ, who)
    selector.register = selector.unregister = None
    for _ in range(3):
        happens(poller, (7, READ))
    assert who.heard == ["ready"] * 3
    del selector.register, selector.unregister
    poller.forget(entry, READ)
    assert (registered(poller), poller.entries) == ({}, {})


def test_each_direction_has_a_waiter_of_its_own(poller):
    reader, writer, entry = Who(), Who(), poller.entry(7)
    poller.wait(entry, READ, reader)
    poller.wait(poller.entry(7), WRITE, writer)
    assert registered(poller) == {7: READ | WRITE}
    happens(poller, (7, WRITE))
    assert (reader.heard, writer.heard) == ([], ["ready"])
    assert registered(poller) == {7: READ}
    poller.wait(entry, WRITE, writer)
    happens(poller, (7, READ | WRITE))
    assert (reader.heard, writer.heard) == (["ready"], ["ready", "ready"])


@pytest.mark.parametrize("direction", [READ, WRITE])
def test_a_second_waiter_for_a_direction_is_refused_and_the_first_stays(poller, direction):
    first, entry = Who(), poller.entry(7)
    poller.wait(entry, direction, first)
    with pytest.raises(BusyError):
        poller.wait(entry, direction, Who())
    happens(poller, (7, direction))
    assert first.heard == ["ready"]


def test_a_lasting_entry_stays_registered_between_waits(poller):
    entry = poller.entry(7, lasting=True)
    for _ in range(3):
        poller.wait(entry, READ, Who())
        poller.forget(entry, READ)
    assert registered(poller) == {7: READ}


def test_any_other_is_registered_for_what_is_waited_for_and_no_more(poller):
    entry = poller.entry(7)
    poller.wait(entry, READ, Who())
    poller.wait(entry, WRITE, Who())
    poller.forget(entry, READ)
    assert registered(poller) == {7: WRITE}
    poller.forget(entry, WRITE)
    assert registered(poller) == {}


def test_a_waiter_that_ends_the_other_ones_wait_is_the_last_to_be_told(poller):
    entry = poller.entry(7, lasting=True)
    reader, writer = Who(then=lambda: poller.drop(entry)), Who()
    poller.wait(entry, READ, reader)
    poller.wait(entry, WRITE, writer)
    happens(poller, (7, READ | WRITE))
    assert (reader.heard, writer.heard) == (["ready"], ["closed"])
    assert (registered(poller), poller.entries) == ({}, {})


# Patience


def test_an_event_that_nobody_waits_for_is_tolerated_a_few_times_and_then_unregistered(poller):
    entry = poller.entry(7, lasting=True)
    poller.wait(entry, READ, Who())
    poller.forget(entry, READ)
    for _ in range(PATIENCE):
        happens(poller, (7, READ))
    assert registered(poller) == {7: READ}
    happens(poller, (7, READ))
    assert (registered(poller), poller.entries) == ({}, {})


def test_waits_work_again_after_that(poller):
    test_an_event_that_nobody_waits_for_is_tolerated_a_few_times_and_then_unregistered(poller)
    who, entry = Who(), poller.entry(7, lasting=True)
    for _ in range(2):  # the second time with the entry that was given up
        poller.wait(entry, READ, who)
        assert (registered(poller), poller.entries, list(poller.waiters())) == ({7: READ}, {7: entry}, [who])
        happens(poller, (7, READ))
        poller.forget(entry, READ)
        for _ in range(PATIENCE + 1):
            happens(poller, (7, READ))
        assert registered(poller) == {}
    assert who.heard == ["ready", "ready"]


def test_an_event_that_is_waited_for_restores_the_patience(poller):
    entry = poller.entry(7, lasting=True)
    for _ in range(3):
        poller.wait(entry, READ, Who())
        happens(poller, (7, READ))
        for _ in range(PATIENCE):
            happens(poller, (7, READ))
        assert registered(poller) == {7: READ}


def test_while_tasks_are_ready_the_patience_is_for_a_turn_of_each(poller):
    entry = poller.entry(7, lasting=True)
    poller.wait(entry, READ, Who())
    poller.forget(entry, READ)
    poller.kernel.ready.extend(range(10))
    for _ in range(PATIENCE + 10):
        happens(poller, (7, READ))
        assert registered(poller) == {7: READ}
    happens(poller, (7, READ))
    assert registered(poller) == {}


@pytest.mark.parametrize("missed", [READ, READ | WRITE])
def test_a_file_that_turns_out_to_be_ready_can_be_read_without_waiting(poller, missed):
    entry = poller.entry(7, lasting=True)
    entry.short = True
    poller.wait(entry, WRITE, Who())
    poller.forget(entry, WRITE)
    poller.wait(entry, READ, Who())
    happens(poller, (7, READ))
    assert entry.short, "it was waited for"
    happens(poller, (7, WRITE))
    assert entry.short, "it is not to be read"
    happens(poller, (7, missed))
    assert not entry.short


@pytest.mark.parametrize("missed", [READ, READ | WRITE])
def test_an_event_of_what_is_read_without_waiting_does_not_use_up_the_patience(poller, missed):
    entry = poller.entry(7, lasting=True)
    poller.wait(entry, WRITE, Who())
    poller.forget(entry, WRITE)
    poller.wait(entry, READ, Who())
    happens(poller, (7, READ))
    for _ in range(10 * PATIENCE):
        happens(poller, (7, missed))
        entry.short = True  # as a read does that takes all there is
        assert registered(poller) == {7: READ | WRITE}
    for _ in range(PATIENCE):
        happens(poller, (7, missed))
        assert registered(poller) == {7: READ | WRITE}
    happens(poller, (7, missed))
    assert registered(poller) == {}


def test_interest_in_writing_goes_away_after_the_writing(poller):
    entry, reader = poller.entry(7, lasting=True), Who()
    poller.wait(entry, READ, reader)
    poller.wait(entry, WRITE, Who())
    poller.forget(entry, WRITE)
    for _ in range(PATIENCE + 1):
        happens(poller, (7, WRITE))
    assert registered(poller) == {7: READ}
    happens(poller, (7, READ))
    assert reader.heard == ["ready"]


def test_a_wait_that_begins_when_the_patience_ends_is_kept(poller):
    entry, late = poller.entry(7, lasting=True), Who(then=lambda: poller.wait(entry, WRITE, late))
    reader = Who(then=lambda: poller.wait(entry, WRITE, late))
    poller.wait(entry, WRITE, Who())
    poller.forget(entry, WRITE)
    for _ in range(PATIENCE):
        happens(poller, (7, WRITE))
    poller.wait(entry, READ, reader)
    entry.misses = PATIENCE
    happens(poller, (7, READ | WRITE))
    assert registered(poller) == {7: WRITE}
    assert (reader.heard, late.heard) == (["ready"], ["ready"])


# Files that are closed


def test_drop_wakes_both_directions_and_forgets_the_number(poller):
    entry, reader, writer = poller.entry(7, lasting=True), Who(), Who()
    poller.wait(entry, READ, reader)
    poller.wait(entry, WRITE, writer)
    poller.drop(entry)
    assert (reader.heard, writer.heard) == (["closed"], ["closed"])
    assert (registered(poller), poller.entries) == ({}, {})
    poller.drop(entry)  # again does nothing
    assert reader.heard == ["closed"]


@pytest.mark.parametrize(("was", "now"), [(True, True), (True, False), (False, True)])  # True: one of ours
def test_the_new_file_of_a_reused_number_is_not_taken_for_the_old(poller, was, now):
    old, new = Who(), Who()
    poller.wait(poller.entry(7, lasting=was), READ, old)
    entry = poller.entry(7, lasting=now)
    assert not entry.wanted()
    poller.wait(entry, READ, new)
    assert (old.heard, poller.entries) == (["closed"], {7: entry})
    happens(poller, (7, READ))
    assert (old.heard, new.heard) == (["closed"], ["ready"])


def test_a_number_that_is_reused_while_others_are_told_is_not_told_of_the_old_files_event(poller):
    def reuse():
        poller.drop(poller.entries[8])
        poller.wait(poller.entry(8, lasting=True), READ, new)

    old, new = Who(), Who()
    poller.wait(poller.entry(7, lasting=True), READ, Who(then=reuse))
    poller.wait(poller.entry(8, lasting=True), READ, old)
    assert happens(poller, (7, READ), (8, READ)) == 2
    assert (old.heard, new.heard) == (["closed"], [])
    happens(poller, (8, READ))
    assert new.heard == ["ready"]


def test_a_number_that_is_dropped_while_others_are_told_is_passed_over(poller):
    other = Who()
    poller.wait(poller.entry(7, lasting=True), READ, Who(then=lambda: poller.drop(poller.entries[8])))
    poller.wait(poller.entry(8, lasting=True), READ, other)
    assert happens(poller, (7, READ), (8, READ)) == 2
    assert other.heard == ["closed"]


def test_what_the_selector_refuses_is_not_kept(poller):
    poller.selector.refuses = PermissionError()
    with pytest.raises(PermissionError):
        poller.wait(poller.entry(7), READ, Who())
    assert (registered(poller), poller.entries, list(poller.waiters())) == ({}, {}, [])


def test_the_other_waiter_of_a_file_that_is_refused_is_told(poller):
    entry, reader = poller.entry(7), Who()
    poller.wait(entry, READ, reader)
    poller.selector.refuses = OSError()
    with pytest.raises(OSError):
        poller.wait(entry, WRITE, Who())
    assert (reader.heard, registered(poller), poller.entries) == (["closed"], {}, {})


def test_an_end_of_a_wait_never_fails_and_the_other_waiter_is_told(poller):
    entry, reader = poller.entry(7), Who()
    poller.wait(entry, READ, reader)
    poller.wait(entry, WRITE, Who())
    poller.selector.refuses = OSError()
    poller.forget(entry, WRITE)
    assert (reader.heard, registered(poller), poller.entries) == (["closed"], {}, {})


def test_numbers_that_were_closed_are_dropped_when_the_selector_fails(poller):
    closed, still_open = os.pipe()
    os.close(closed)
    gone, here = Who(), Who()
    poller.wait(poller.entry(closed), READ, gone)
    poller.wait(poller.entry(still_open), WRITE, here)
    poller.selector.events = OSError("one of them is bad")
    assert poller.select(0) == 0
    assert (gone.heard, here.heard) == (["closed"], [])
    assert registered(poller) == {still_open: WRITE}
    os.close(still_open)


def test_a_selector_that_fails_for_another_reason_is_no_busy_loop(poller):
    poller.selector.events = ValueError("out of order")
    with pytest.raises(ValueError, match="out of order"):
        poller.select(0)


# What is said of it


def test_pending_counts_the_tasks_and_nobody_else(poller):
    one, two = Who(), Who()
    one.task = two.task = object()
    poller.wait(poller.entry(7), READ, one)
    poller.wait(poller.entry(8), WRITE, two)
    poller.wait(poller.entry(9), READ, Who())
    poller.silent += 1  # as who is no task says of itself
    assert poller.pending() == 2
    assert list(poller.tasks()) == [one.task, two.task]
    assert len(list(poller.waiters())) == 3


def test_a_watcher_is_told_of_each_poll(poller):
    class Polls(Watcher):
        seen = ()

        def poll(self, timeout, events):
            self.seen = (*self.seen, (timeout, events))

    poller.kernel.watch = Polls()
    poller.wait(poller.entry(7), READ, Who())
    happens(poller, (7, READ))
    happens(poller)
    assert poller.kernel.watch.seen == ((0, 1), (0, 0))


def test_after_the_end_a_socket_is_closed_without_ado(poller):
    entry = poller.entry(7, lasting=True)
    poller.wait(entry, READ, Who())
    poller.forget(entry, READ)
    poller.close()
    assert (poller.entries, poller.selector.registered) == ({}, None)
    poller.drop(entry)


@pytest.mark.parametrize("end", [Poller.close, Poller.abandon])
def test_nobody_is_left_waiting_where_another_run_would_find_him(poller, end):
    entry = poller.entry(7, lasting=True)
    poller.wait(entry, READ, Who())
    poller.wait(entry, WRITE, Who())
    end(poller)
    assert (entry.wanted(), entry.events, poller.pending()) == (0, 0, 0)
    poller.forget(entry, READ)  # whose task is closed then
    poller.selector.close()


# With real files


def test_our_socket_is_registered_once_however_often_it_is_read():
    recording = Recording()

    def main():
        ours, plain = pair()
        number = ours.fileno()
        with ours, plain:
            reader = yield Spawn(reads(ours, 20))
            for _ in range(20):
                yield from parked(reader)
                plain.send(b"x")
                yield from until(lambda: reader.state != "parked")
            yield Join(reader)
        return recording.count(number)

    assert run(main(), selector=recording) == ["register", "unregister"]


def reads(sock, times):
    for _ in range(times):
        yield Read(sock, 1000)


def test_a_foreign_file_is_registered_for_each_wait():
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


def test_a_task_whose_file_was_given_up_in_the_meantime_can_wait_again():
    def reader(ours):
        yield WaitReadable(ours)
        poller = yield Ask(lambda kernel: kernel.service(Poller))
        yield from until(lambda: ours.fileno() not in poller.entries)
        first = yield Read(ours, 1000)
        return first + (yield Read(ours, 1000))

    def main():
        ours, plain = pair()
        with ours, plain:
            task = yield Spawn(reader(ours))
            plain.send(b"first, ")
            poller = yield Ask(lambda kernel: kernel.service(Poller))
            yield from until(lambda: isinstance(task.call, Read))
            assert poller.pending() == 1  # else the loop would take it for a deadlock
            plain.send(b"second")
            return (yield Join(task))

    assert run(main()) == b"first, second"


def test_a_socket_that_is_dropped_leaves_nothing_to_the_next_owner_of_its_number():
    def drops():
        ours, other = pair()
        other.close()
        number = ours.fileno()
        assert (yield Read(ours, 1)) == b""
        assert (yield Read(ours, 1)) == b""  # waits first, and is registered for that
        return number

    def main():
        task = yield Spawn(drops())
        with pytest.warns(ResourceWarning, match="unclosed"):
            number = yield Join(task)
            gc.collect()
        assert (yield Ask(watched)) == [number]  # the poller has not been told
        ours, other = pair()
        with ours, other:
            assert ours.fileno() == number
            reader = yield Spawn(reads(ours, 1))
            yield from parked(reader)
            yield Write(other, b"x")
            yield Join(reader)

    run(main())


def test_a_dropped_socket_does_not_disturb_a_selector_that_is_told_of_its_number(selector_by_number):
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
        yield from until(lambda: not set(dropped) & set(poller.entries))

    run(main(), selector=selector_by_number())


@pytest.fixture(params=["SelectSelector", "PollSelector"])
def selector_by_number(request):
    selectors = selectors_of_platform()
    if request.param not in selectors:
        pytest.skip("not on this platform")
    return selectors[request.param]
