"""selectors2 made importable, its faults contained, and every selector of the platform under the same programs."""

from __future__ import annotations

import collections
import os
import resource
import selectors
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Recording, no_file_is_left_open, pair, parked, run, until  # noqa: F401

from minisched import Accept, Cancel, ClosedError, Connect, Join, Listen, Read, Sleep, Spawn, TaskCancelled, Write
from minisched import _selectors2 as module
from minisched._selectors2 import (
    READ,
    WRITE,
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
HIGH = 1500  # over FD_SETSIZE


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


def test_the_import_lends_collections_mapping_and_takes_it_back():
    program = (
        "import collections, sys\n"
        "import minisched\n"
        "assert 'selectors2' in sys.modules\n"
        "assert not hasattr(collections, 'Mapping')\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def run_again():
    """Run the module's lines again, in a namespace of their own."""
    source = Path(module.__file__).read_text()
    exec(compile(source, module.__file__, "exec"), {"__name__": module.__name__, "__package__": "minisched"})


def test_a_failing_import_takes_it_back_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "selectors2", None)
    with pytest.raises(ImportError):
        run_again()
    assert not hasattr(collections, "Mapping")


def test_a_mapping_that_is_there_is_left_alone(monkeypatch):
    monkeypatch.setattr(collections, "Mapping", collections.abc.Mapping, raising=False)
    run_again()
    assert collections.Mapping is collections.abc.Mapping


def test_the_default_is_one_of_the_platforms_selectors():
    selector = default_selector()
    selector.close()
    assert type(selector) in selectors_of_platform().values()


@pytest.mark.skipif("Epoll" not in selectors_of_platform(), reason="no epoll on this platform")
def test_where_there_is_epoll_the_default_is_ours():
    selector = default_selector()
    selector.close()
    assert type(selector).__name__ == "Epoll"


@pytest.mark.skipif("Epoll" not in selectors_of_platform(), reason="no epoll on this platform")
def test_ours_says_what_selectors2s_says():
    kinds = selectors_of_platform()
    ours, theirs = kinds["Epoll"](), kinds["EpollSelector"]()
    pairs = [socket.socketpair() for _ in range(4)]
    for number, (one, other) in enumerate(pairs):
        for selector in (ours, theirs):
            selector.register(one.fileno(), READ | WRITE if number % 2 else READ, number)
        if number in (1, 2):
            other.send(b"x")
        if number == 3:
            other.close()
    for timeout in (0, 0.0, -1, 0.0001, None):
        said = [{(fd, events_of(mask)) for fd, mask in poll_of(selector)(timeout)} for selector in (ours, theirs)]
        assert said[0] == said[1] != set()
    for selector in (ours, theirs):
        selector.close()
    for one, other in pairs:
        one.close()
        other.close()


# Faults, contained


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
        with pytest.raises(PermissionError):
            set_events(selector, file.fileno(), 0, READ)
        assert keys(selector) == {}
    selector.close()


@pytest.mark.parametrize("epoll", BY_EPOLL)
def test_a_modify_that_fails_halfway_leaves_no_key(epoll, tmp_path, pipe):
    selector = epoll()
    reader, _ = pipe
    set_events(selector, reader, 0, READ)
    with open(tmp_path / "regular", "wb", buffering=0) as file:
        os.dup2(file.fileno(), reader)  # behind its back, the number becomes another file's
    with pytest.raises(OSError):
        set_events(selector, reader, READ, READ | WRITE)
    assert keys(selector) == {}
    selector.close()


def test_a_stale_key_does_not_block_a_number_that_is_reused(selector, pipe):
    reader, writer = os.pipe()
    selector.register(reader, READ, "stale")
    os.dup2(pipe[0], reader)  # the same number, another file
    set_events(selector, reader, 0, READ)
    os.write(pipe[1], b"x")
    assert [(key.fd, key.data, mask) for key, mask in selector.select(5)] == [(reader, None, READ)]  # not the stale one
    os.close(reader)
    os.close(writer)


def test_a_key_that_got_lost_is_registered_anew(selector, pipe):
    reader, _ = pipe
    set_events(selector, reader, READ, READ | WRITE)
    assert keys(selector) == {reader: READ | WRITE}


@pytest.mark.parametrize("epoll", BY_EPOLL)
def test_what_is_refused_in_place_of_a_stale_key_leaves_none_either(epoll, tmp_path, pipe):
    selector = epoll()
    reader, _ = pipe
    selector.register(reader, READ, "stale")
    with open(tmp_path / "regular", "wb", buffering=0) as file:
        os.dup2(file.fileno(), reader)
    with pytest.raises(PermissionError):
        set_events(selector, reader, 0, READ)
    assert keys(selector) == {}
    selector.close()


def test_discard_bears_what_is_unknown_closed_or_no_number(selector):
    reader, writer = os.pipe()
    set_events(selector, reader, 0, READ)
    os.close(reader)
    os.close(writer)
    for fd in (reader, writer, -1):
        discard(selector, fd)
    assert keys(selector) == {}


@pytest.fixture
def high_number(pipe):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft <= HIGH:
        if hard <= HIGH:
            pytest.skip("this system does not allow for so many files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (HIGH + 1, hard))
    os.dup2(pipe[0], HIGH)
    yield HIGH
    os.close(HIGH)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("by_select", BY_SELECT)
def test_select_refuses_a_number_over_fd_setsize_at_once(by_select, high_number):
    selector = by_select()
    with pytest.raises(ValueError):
        set_events(selector, high_number, 0, READ)
    assert keys(selector) == {}
    assert selector.select(0) == []
    selector.close()


@pytest.mark.parametrize("by_select", BY_SELECT)
def test_a_task_that_waits_for_a_number_over_fd_setsize_is_told_and_the_others_go_on(by_select, high_number, pipe):
    def main():
        with pytest.raises(ValueError):
            yield Read(high_number, 1)
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


def test_a_deadline_is_met_while_a_file_is_waited_for(kind):
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
def test_who_waits_for_a_number_that_is_closed_behind_our_back_is_told(kind, both):
    recording = Recording()

    def waiter(fd, heard):
        try:
            yield Read(fd, 1)
        except (ClosedError, OSError) as error:
            heard.append(type(error))

    def writer(fd, heard):
        try:
            yield Write(fd, b"x" * 10_000_000)
        except (ClosedError, OSError) as error:
            heard.append(type(error))

    def main():
        ours, plain = socket.socketpair()
        ours.setblocking(False)
        heard = []
        with plain:
            tasks = [(yield Spawn(waiter(ours.fileno(), heard)))]
            if both:
                tasks.append((yield Spawn(writer(ours.fileno(), heard))))
            yield from parked(*tasks)
            os.close(ours.detach())
            recording.calls.clear()
            yield from until(lambda: len(heard) == len(tasks))
        return len([call for call in recording.calls if call[0] == "select"])

    recording.inner.close()
    recording.inner = kind()
    assert run(main(), selector=recording) < 10
