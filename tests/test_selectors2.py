"""The import of selectors2, its contained faults, and the same programs on every selector of the platform."""

from __future__ import annotations

import collections
import os
import resource
import selectors
import socket
import subprocess
import sys

import pytest
from helpers import Recording, no_file_is_left_open, pair, parked, run, until  # noqa: F401

from minisched import Accept, Cancel, ClosedError, Connect, Join, Listen, Read, Sleep, Spawn, TaskCancelled, Write
from minisched.io import _selectors2 as module
from minisched.io._selectors2 import (
    READ,
    WRITE,
    NotPollable,
    default_selector,
    discard,
    events_of,
    poll_of,
    selectors_of_platform,
    set_events,
)

STANDARD = {
    f"standard-{name}": getattr(selectors, name)
    for name in ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector")
    if hasattr(selectors, name)
}
KINDS = {**selectors_of_platform(), **STANDARD}
BY_SELECT = [kind for name, kind in KINDS.items() if name.endswith("SelectSelector")]
BY_EPOLL = [kind for name, kind in KINDS.items() if name.endswith("EpollSelector")]
HIGH_FD = 1500  # over FD_SETSIZE


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def selector(request):
    made = request.param()
    yield made
    made.close()


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def keys(selector):
    return {fd: key.events for fd, key in selector.get_map().items()}


# The import


def test_selectors2_is_imported_with_the_first_selector_and_collections_mapping_is_removed_again():
    program = (
        "import collections, sys\n"
        "import minisched\n"
        "assert 'selectors2' not in sys.modules\n"
        "minisched.io._selectors2.default_selector().close()\n"
        "assert 'selectors2' in sys.modules\n"
        "assert not hasattr(collections, 'Mapping')\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_failing_import_removes_collections_mapping_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "selectors2", None)
    with pytest.raises(ImportError):
        module.load.__wrapped__()
    assert not hasattr(collections, "Mapping")


def test_an_existing_collections_mapping_is_left_alone(monkeypatch):
    monkeypatch.setattr(collections, "Mapping", collections.abc.Mapping, raising=False)
    module.load.__wrapped__()
    assert collections.Mapping is collections.abc.Mapping


def test_the_events_are_those_of_selectors2_and_of_the_standard_library():
    for library in (module.load(), selectors):
        assert (library.EVENT_READ, library.EVENT_WRITE) == (READ, WRITE)


def test_the_default_selector_is_one_of_the_platforms():
    selector = default_selector()
    selector.close()
    assert type(selector) in selectors_of_platform().values()


@pytest.mark.skipif("EpollSelector" not in selectors_of_platform(), reason="this platform has no epoll")
def test_polling_epoll_directly_returns_what_its_select_returns():
    class Derived(selectors_of_platform()["EpollSelector"]):
        """Not polled directly, since it might have a `select` of its own."""

    kinds = selectors_of_platform()["EpollSelector"], Derived
    direct, plain = (kind() for kind in kinds)
    pairs = [socket.socketpair() for _ in range(4)]
    for number, (near, far) in enumerate(pairs):
        for selector in (direct, plain):
            selector.register(near.fileno(), READ | WRITE if number % 2 else READ, number)
        if number in (1, 2):
            far.send(b"x")
        if number == 3:
            far.close()
    polls = [poll_of(selector) for selector in (direct, plain)]
    assert [poll.__name__ for poll in polls] == ["poll_epoll", "<lambda>"]
    for timeout in (0, 0.0, -1, 0.0001, None):
        results = [{(fd, events_of(mask)) for fd, mask in poll(timeout)} for poll in polls]
        assert results[0] == results[1] != set()
    for selector in (direct, plain):
        selector.close()
    for near, far in pairs:
        near.close()
        far.close()


@pytest.mark.parametrize("timeout", [-1, -0.001, 0, 0.0001])
def test_a_poll_with_a_negative_timeout_does_not_wait_for_ever(timeout):
    selector = default_selector()
    assert poll_of(selector)(timeout) == []
    selector.close()


# Contained faults


def test_set_events_registers_and_modifies(selector, pipe):
    reader, _ = pipe
    set_events(selector, reader, 0, READ)
    assert keys(selector) == {reader: READ}
    set_events(selector, reader, READ, READ | WRITE)
    assert keys(selector) == {reader: READ | WRITE}
    discard(selector, reader)
    assert keys(selector) == {}


@pytest.mark.parametrize("epoll", BY_EPOLL)
def test_a_regular_file_leaves_no_key_in_epoll(epoll, tmp_path):
    selector = epoll()
    with open(tmp_path / "regular", "wb", buffering=0) as file:
        with pytest.raises(NotPollable):
            set_events(selector, file.fileno(), 0, READ)
        assert keys(selector) == {}
    selector.close()


@pytest.mark.parametrize("epoll", BY_EPOLL)
def test_a_modify_that_fails_halfway_leaves_no_key(epoll, tmp_path, pipe):
    selector = epoll()
    reader, _ = pipe
    set_events(selector, reader, 0, READ)
    with open(tmp_path / "regular", "wb", buffering=0) as file:
        os.dup2(file.fileno(), reader)  # the descriptor becomes another file, unknown to the selector
    with pytest.raises(OSError):
        set_events(selector, reader, READ, READ | WRITE)
    assert keys(selector) == {}
    selector.close()


def test_a_stale_key_does_not_block_a_reused_descriptor(selector, pipe):
    reader, writer = os.pipe()
    selector.register(reader, READ, "stale")
    os.dup2(pipe[0], reader)  # the same descriptor, another file
    set_events(selector, reader, 0, READ)
    os.write(pipe[1], b"x")
    assert [(key.fd, key.data, mask) for key, mask in selector.select(5)] == [(reader, None, READ)]  # not the stale one
    os.close(reader)
    os.close(writer)


def test_a_lost_key_is_registered_again(selector, pipe):
    reader, _ = pipe
    set_events(selector, reader, READ, READ | WRITE)
    assert keys(selector) == {reader: READ | WRITE}


@pytest.mark.parametrize("epoll", BY_EPOLL)
def test_a_regular_file_in_place_of_a_stale_key_leaves_no_key(epoll, tmp_path, pipe):
    selector = epoll()
    reader, _ = pipe
    selector.register(reader, READ, "stale")
    with open(tmp_path / "regular", "wb", buffering=0) as file:
        os.dup2(file.fileno(), reader)
    with pytest.raises(NotPollable):
        set_events(selector, reader, 0, READ)
    assert keys(selector) == {}
    selector.close()


def test_discard_ignores_unknown_closed_and_invalid_descriptors(selector):
    reader, writer = os.pipe()
    set_events(selector, reader, 0, READ)
    os.close(reader)
    os.close(writer)
    for fd in (reader, writer, -1):
        discard(selector, fd)
    assert keys(selector) == {}


@pytest.fixture
def high_fd(pipe):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft <= HIGH_FD:
        if hard <= HIGH_FD:
            pytest.skip("this system allows too few files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (HIGH_FD + 1, hard))
    os.dup2(pipe[0], HIGH_FD)
    yield HIGH_FD
    os.close(HIGH_FD)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("by_select", BY_SELECT)
def test_select_refuses_a_descriptor_over_fd_setsize_at_once(by_select, high_fd):
    selector = by_select()
    with pytest.raises(ValueError):
        set_events(selector, high_fd, 0, READ)
    assert keys(selector) == {}
    assert selector.select(0) == []
    selector.close()


@pytest.mark.parametrize("by_select", BY_SELECT)
def test_a_wait_for_a_descriptor_over_fd_setsize_raises_and_other_waits_go_on(by_select, high_fd, pipe):
    def main():
        with pytest.raises(ValueError):
            yield Read(high_fd, 1)
        os.write(pipe[1], b"x")
        return (yield Read(pipe[0], 1))

    assert run(main(), selector=by_select()) == b"x"


# The same programs on every selector


def test_an_echo_over_a_socket_pair(kind):
    def echo(conn):
        with conn:
            while data := (yield Read(conn, 100)):
                yield Write(conn, data)

    def main():
        ours, plain = pair()
        with plain:
            yield Spawn(echo(ours))
            for word in (b"one", b"two", b"three"):
                yield Write(plain, word)
                assert (yield Read(plain, 100)) == word
            plain.shutdown(socket.SHUT_WR)
            return (yield Read(plain, 100))

    assert run(main(), selector=kind()) == b""


def test_connect_and_accept(kind):
    def server(listener):
        with (yield Accept(listener)) as conn:
            yield Write(conn, b"hello")

    def main():
        with (yield Listen(("127.0.0.1", 0))) as listener:
            task = yield Spawn(server(listener))
            with (yield Connect(listener.address)) as conn:
                data = yield Read(conn, 100)
                yield Join(task)
                return data

    assert run(main(), selector=kind()) == b"hello"


def test_a_deadline_is_met_while_a_task_waits_for_a_file(kind):
    def main():
        ours, plain = pair()
        with ours, plain:
            task = yield Spawn(one_read(ours), keep=True)
            yield Sleep(3600)
            assert task.state == "parked"
            yield Write(plain, b"late")
            return (yield Join(task))

    def one_read(sock):
        return (yield Read(sock, 100))

    assert run(main(), selector=kind()) == b"late"


def test_a_cancelled_wait_leaves_the_file_usable(kind):
    def main():
        ours, plain = pair()
        with ours, plain:
            task = yield Spawn(one_read(ours), keep=True)
            yield from parked(task)
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)
            yield Write(plain, b"next")
            return (yield Read(ours, 100))

    def one_read(sock):
        yield Read(sock, 100)

    assert run(main(), selector=kind()) == b"next"


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind not in BY_EPOLL])
@pytest.mark.parametrize("both", [False, True], ids=["reader", "reader and writer"])
def test_a_descriptor_closed_outside_the_scheduler_wakes_its_waiters(kind, both):
    recording = Recording()

    def waiter(fd, errors):
        try:
            yield Read(fd, 1)
        except (ClosedError, OSError) as error:
            errors.append(type(error))

    def writer(fd, errors):
        try:
            yield Write(fd, b"x" * 10_000_000)
        except (ClosedError, OSError) as error:
            errors.append(type(error))

    def main():
        ours, plain = socket.socketpair()
        ours.setblocking(False)
        errors = []
        with plain:
            tasks = [(yield Spawn(waiter(ours.fileno(), errors)))]
            if both:
                tasks.append((yield Spawn(writer(ours.fileno(), errors))))
            yield from parked(*tasks)
            os.close(ours.detach())
            recording.calls.clear()
            yield from until(lambda: len(errors) == len(tasks))
        return len([call for call in recording.calls if call[0] == "select"])

    recording.inner.close()
    recording.inner = kind()
    assert run(main(), selector=recording) < 10
