"""The simulated network: unmodified servers and clients, in virtual time, with every trouble of a network."""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
from functools import partial
from xml.etree import ElementTree

import pytest

from minisched import (
    Accept,
    Cancel,
    ClosedError,
    Connect,
    DatagramTruncated,
    Deadlock,
    Event,
    Join,
    Listen,
    MoveOnAfter,
    Now,
    OpenDatagram,
    Read,
    RecvFrom,
    Resolve,
    SendTo,
    Sleep,
    Spawn,
    Stream,
    TaskCancelled,
    Write,
    gather,
    open_connection,
    run,
    select,
    serve,
)
from minisched.errors import BusyError
from minisched.lab import Shared, SimNet, explore, together
from minisched.lab.simnet.network import FIRST_FREE_PORT, MAX_PACKETS
from minisched.lab.simnet.sockets import CONNECT_SECONDS
from minisched.testing import VirtualClock

SAME = {"latency": (0.1, 0.1)}


def simulated(main, **options):
    """Run `main(net)` on a network; return its result."""
    net = SimNet(**options)
    return run(main(net), clock=VirtualClock(), services=net.services())


def echo(conn):
    while data := (yield Read(conn, 4096)):
        yield Write(conn, data)


def mute(conn):
    yield Sleep(math.inf)


def served(net, handler, name="server", **options):
    """Start a server on a host of its own; return its task."""
    ready = Event()
    with net.at(name):
        task = yield Spawn(serve(handler, "", 80, ready=lambda listener: ready.set(), **options), "serve", keep=True)
    yield ready.wait()
    return task


def stopped(server):
    yield Cancel(server)
    try:
        yield Join(server)
    except TaskCancelled:
        pass


def pair(net):
    """Return both ends of a connection."""
    with net.at("server"), (yield Listen(("", 0))) as listener:
        with net.at("client"):
            near = yield Connect(listener.address)
        return near, (yield Accept(listener))


# Streams.


def test_bytes_take_the_latency_and_arrive_in_order():
    def main(net):
        server = yield from served(net, echo)
        with net.at("client"), (yield Connect(("server", 80))) as conn:
            for number in range(10):
                yield Write(conn, b"%d" % number)
            data = b""
            while len(data) < 10:
                data += yield Read(conn, 100)
            now = yield Now()
            peer, here = conn.peer, conn.address
        yield from stopped(server)
        return data, now, peer, here[0]

    assert simulated(main, **SAME) == (b"0123456789", pytest.approx(0.4), ("10.0.0.1", 80), "10.0.0.2")


def many(net, seed_log):
    def client(number):
        with net.at(f"client {number}"), (yield Connect(("server", 80))) as conn:
            for message in range(20):
                data = b"%d.%d;" % (number, message)
                yield Write(conn, data)
                got = b""
                while len(got) < len(data):
                    got += yield Read(conn, 100)
                assert got == data
        seed_log.append(number)

    server = yield from served(net, echo)
    yield from gather(*(client(number) for number in range(20)))
    yield from stopped(server)
    return (yield Now())


def test_the_same_seed_gives_the_same_run():
    runs = []
    for seed in (1, 1, 2):
        net, log = SimNet(seed=seed, segment_bytes=3), []
        now = run(many(net, log), clock=VirtualClock(), services=net.services())
        runs.append((now, log, net.lines()))
    assert runs[0] == runs[1] and runs[0][1] != runs[2][1]
    assert sorted(runs[0][1]) == [*range(20)] and runs[0][0] < 10


def test_a_reader_that_does_not_read_fills_its_buffer_and_stops_the_writer():
    def main(net):
        near, far = yield from pair(net)
        with near, far:
            with (yield MoveOnAfter(10)) as scope:
                yield Write(near, bytes(1000))
            with (yield MoveOnAfter(10)) as second:
                yield Write(near, b"x")
            assert scope.cancelled_caught and second.cancelled_caught
            writing = yield Spawn(write_all(near, 500))
            data = b""
            while len(data) < 600:
                data += yield Read(far, 64)
            return len(data), (yield Join(writing))

    def write_all(conn, size):
        yield Write(conn, bytes(size))
        return "written"

    assert simulated(main, buffer_bytes=100) == (600, "written")


@pytest.mark.parametrize("segment", [1, 7, 65536])
def test_a_long_write_arrives_in_segments(segment):
    def main(net):
        near, far = yield from pair(net)
        with near, far:
            yield Write(near, bytes(range(256)))
            near.write_eof()
            with Stream(far) as stream:
                return (yield stream.read_exactly(256)), (yield stream.read(1)), len(net.packets)

    data, end, packets = simulated(main, segment_bytes=segment)
    assert (data, end) == (bytes(range(256)), b"") and packets == 3 + -(-256 // segment)


def test_the_bandwidth_bounds_the_bytes_of_a_second():
    def main(net):
        near, far = yield from pair(net)
        with near, far:
            began = yield Now()
            yield Write(near, bytes(10_000))
            data = b""
            while len(data) < 10_000:
                data += yield Read(far, 4096)
            return (yield Now()) - began

    assert simulated(main, bandwidth=1000, segment_bytes=100, **SAME) == pytest.approx(10.1)


def test_a_close_is_read_as_the_end_after_all_bytes():
    def main(net):
        near, far = yield from pair(net)
        with far:
            yield Write(near, b"last")
            near.close()
            near.close()
            with pytest.raises(ClosedError):
                yield Read(near, 1)
            return (yield Read(far, 100)), (yield Read(far, 100))

    assert simulated(main) == (b"last", b"")


def test_one_direction_may_end_before_the_other():
    def main(net):
        near, far = yield from pair(net)
        with near, far:
            near.write_eof()
            near.write_eof()
            with pytest.raises(BrokenPipeError):
                yield Write(near, b"more")
            end = yield Read(far, 1)
            yield Write(far, b"answer")
            return end, (yield Read(near, 100))

    assert simulated(main) == (b"", b"answer")


def test_bytes_for_a_closed_socket_reset_the_connection():
    def main(net):
        near, far = yield from pair(net)
        with near:
            far.close()
            yield Write(near, b"too late")
            yield Sleep(1)
            with pytest.raises(ConnectionResetError):
                yield Read(near, 1)
            with pytest.raises(BrokenPipeError):
                yield Write(near, b"later still")
            return (yield Read(near, 1))

    assert simulated(main) == b""


def test_a_close_before_all_is_read_resets_the_connection():
    def main(net):
        near, far = yield from pair(net)
        with near:
            yield Write(near, b"unread")
            yield Sleep(1)
            far.close()
            with pytest.raises(ConnectionResetError):
                yield Read(near, 1)

    simulated(main)


def test_a_reset_reaches_this_side_at_once_and_the_other_one_later():
    def main(net):
        near, far = yield from pair(net)
        with near, far:
            reading = [(yield Spawn(outcome(near))), (yield Spawn(outcome(far)))]
            yield Sleep(1)
            net.reset(near)
            return (yield Join(reading[0])), (yield Join(reading[1]))

    def outcome(conn):
        try:
            yield Read(conn, 1)
        except ConnectionResetError:
            return (yield Now())

    first, second = simulated(main, **SAME)
    assert second - first == pytest.approx(0.1)


def test_a_wait_ends_with_a_close_and_a_second_one_is_refused():
    def main(net):
        near, far = yield from pair(net)
        with far:
            task = yield Spawn(reader(near), keep=True)
            yield Sleep(1)
            with pytest.raises(BusyError):
                yield Read(near, 1)
            near.close()
            with pytest.raises(ClosedError):
                yield Join(task)
            assert not near.is_waited_for() and near.label == "closed socket" and near.fileno() == -1

    def reader(conn):
        yield Read(conn, 1)

    simulated(main)


def test_a_read_can_be_one_of_several_calls():
    def main(net):
        near, far = yield from pair(net)
        with near, far:
            first = yield select(Read(near, 10), Sleep(1))
            yield Write(far, b"bytes")
            return first, (yield select(Read(near, 10), Sleep(1)))

    assert simulated(main) == ((1, None), (0, b"bytes"))


# Connecting.


def test_nobody_listens():
    def main(net):
        with pytest.raises(ConnectionRefusedError, match=r"10\.0\.0\.1"):
            yield Connect(("server", 81))
        return (yield Now())

    assert simulated(main, **SAME) == pytest.approx(0.2)


def test_a_connect_through_a_partition_fails_after_a_while():
    def main(net):
        with net.at("server"):
            listener = yield Listen(("", 80))
        net.partition(["client"], ["server"])
        with listener, net.at("client"):
            with pytest.raises(OSError, match=r"10\.0\.0\.1") as raised:
                yield Connect(("server", 80))
        return raised.value.errno, (yield Now())

    number, now = simulated(main)
    assert number == errno.ETIMEDOUT and CONNECT_SECONDS <= now < CONNECT_SECONDS + 2


def test_a_full_backlog_answers_when_there_is_room():
    def main(net):
        with (yield Listen(("server", 80), backlog=1)) as listener:
            with (yield Connect(("server", 80))) as first:
                second = yield Spawn(connected())
                yield Sleep(3)
                assert second.state == "parked"
                with (yield Accept(listener)) as far:
                    assert far.peer == first.address
                return (yield Join(second))

    def connected():
        with (yield Connect(("server", 80))):
            return "connected"

    assert simulated(main) == "connected"


def test_a_cancelled_connect_leaves_nothing():
    def main(net):
        with (yield Listen(("server", 80))) as listener:
            with (yield MoveOnAfter(0.05)) as scope:
                yield Connect(("server", 80))
            yield Sleep(5)
            with (yield MoveOnAfter(1)):
                with (yield Accept(listener)):
                    return "accepted"
            return scope.cancelled_caught

    assert simulated(main, **SAME) is True


def test_an_address_is_used_once_and_free_after_the_close():
    def main(net):
        with (yield Listen(("server", 80))):
            with pytest.raises(OSError, match=r"10\.0\.0\.1:80") as raised:
                yield Listen(("server", 80))
            assert raised.value.errno == errno.EADDRINUSE
            with (yield Listen(("other", 80))), (yield Listen(("server", 0))) as free:
                assert free.address[1] > FIRST_FREE_PORT
                with (yield Listen(("server", free.address[1] + 1))), (yield Listen(("server", 0))) as next_free:
                    assert next_free.address[1] == free.address[1] + 2
        with (yield Listen(("server", 80))) as again:
            return again.address

    assert simulated(main) == ("10.0.0.1", 80)


def test_unix_paths_and_names_are_simulated_too(tmp_path):
    path = tmp_path / "socket"

    def main(net):
        with (yield Listen(path)) as listener, (yield Connect(path)) as near, (yield Accept(listener)) as far:
            yield Write(near, b"bytes")
            assert (yield Read(far, 10)) == b"bytes" and not path.exists()
        with (yield Listen(("example.org", 80))) as listener:
            [found] = yield Resolve("example.org", 80)
            with (yield from open_connection("example.org", 80)) as conn:
                return found.address == listener.address == conn.peer, found.family == socket.AF_INET

    assert simulated(main) == (True, True)


def test_a_closed_listener_resets_the_connections_that_wait():
    def main(net):
        listener = yield Listen(("server", 80))
        with (yield Connect(("server", 80))) as near:
            yield Sleep(1)
            listener.close()
            with pytest.raises(ConnectionResetError):
                yield Read(near, 1)

    simulated(main)


# Servers.


def test_a_partition_holds_a_stream_up_until_it_is_healed():
    def main(net):
        server = yield from served(net, echo)
        with net.at("client"), (yield Connect(("server", 80))) as conn:
            net.partition(["client"], ["server"])
            yield Write(conn, b"first")
            with (yield MoveOnAfter(30)) as scope:
                yield Read(conn, 100)
            net.heal()
            data = yield Read(conn, 100)
        yield from stopped(server)
        return scope.cancelled_caught, data, (yield Now()) < 31

    assert simulated(main) == (True, b"first", True)


@pytest.mark.parametrize("latency", [(0.1, 0.1), (0.01, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_keeps_its_order_through_partitions(latency, seed):
    def main(net):
        near, far = yield from pair(net)
        with near, far:
            for number in range(30):
                yield Write(near, bytes([number]))
                yield Sleep(net.random.uniform(0, 0.2))
                if number % 3 == 1:
                    net.partition(["client"], ["server"])
                elif number % 3 == 2:
                    net.heal()
            near.write_eof()
            data = b""
            while part := (yield Read(far, 100)):
                data += part
            return data

    assert simulated(main, seed=seed, latency=latency) == bytes(range(30))


def test_a_connect_whose_answer_is_held_up_fails_after_a_while():
    def main(net):
        def cut():
            yield Sleep(0.15)
            net.partition(["client"], ["server"])

        with net.at("server"):
            listener = yield Listen(("", 80))
        yield Spawn(cut())
        with listener, net.at("client"):
            with pytest.raises(OSError, match=os.strerror(errno.ETIMEDOUT)):
                yield Connect(("server", 80))
            now = yield Now()
            net.heal()
            with (yield Accept(listener)) as conn:
                with pytest.raises(ConnectionResetError):
                    yield Read(conn, 1)
        return now

    assert CONNECT_SECONDS <= simulated(main, **SAME) < CONNECT_SECONDS + 2


@pytest.mark.parametrize("buffer_bytes", [1000, 65536, 10**7])
def test_tls_reads_and_writes_at_the_same_time(buffer_bytes):
    pytest.importorskip("trustme")
    from certificates import client_context, server_context

    size = 300_000

    def main(net):
        ready = Event()
        with net.at("server"):
            body = serve(echo, "", 443, ready=lambda listener: ready.set(), tls=server_context())
            server = yield Spawn(body, keep=True)
        yield ready.wait()
        with net.at("client"):
            tls = client_context()
            conn = yield from open_connection("server", 443, tls=tls, server_hostname="example.org")
        with conn:
            writing, got = (yield Spawn(write_all(conn))), 0
            while got < size:
                got += len((yield Read(conn, 4096)))
            yield Join(writing)
        yield from stopped(server)
        return got

    def write_all(conn):
        yield Write(conn, bytes(size))

    assert simulated(main, buffer_bytes=buffer_bytes, latency=(0.001, 0.002)) == size


def test_the_window_opens_again_when_a_partition_is_healed():
    def main(net):
        near, far = yield from pair(net)
        with near, far:
            yield Write(near, bytes(100))
            yield Sleep(1)
            net.partition(["client"], ["server"])
            yield Read(far, 100)
            writing = yield Spawn(write_more(near))
            yield Sleep(10)
            waited = writing.state == "parked"
            net.heal()
            return waited, (yield Join(writing))

    def write_more(conn):
        return (yield Write(conn, bytes(100)))

    assert simulated(main, buffer_bytes=100) == (True, 100)


def test_a_half_open_connection_ends_by_the_idle_timeout():
    def main(net):
        ended = []

        def handler(conn):
            try:
                yield Read(conn, 1)
            finally:
                ended.append((yield Now()))

        server = yield from served(net, handler, idle_timeout=100)
        with net.at("client"):
            conn = yield Connect(("server", 80))
        net.partition(["client"], ["server"])
        conn.close()
        yield Sleep(200)
        yield from stopped(server)
        return ended

    (ended,) = simulated(main)
    assert 100 <= ended <= 115


def test_a_deadlock_of_a_client_and_a_server_is_reported():
    def main(net):
        yield from served(net, mute, idle_timeout=None)
        with (yield Connect(("server", 80))) as conn:
            yield Read(conn, 1)

    with pytest.raises(Deadlock, match=r"main waits in Read\(socket, 1\)"):
        simulated(main)


def test_a_client_may_be_cancelled_at_any_time():
    def program():
        net = SimNet(seed=1)

        def client():
            with net.at("client"), (yield Connect(("server", 80))) as conn:
                yield Write(conn, b"hello")
                assert (yield Read(conn, 5)) == b"hello"

        def main():
            server = yield from served(net, echo)
            task = yield Spawn(client(), keep=True)
            yield Sleep(net.random.uniform(0, 0.3))
            yield Cancel(task)
            yield from stopped(task)
            yield Sleep(1)
            yield from stopped(server)

        def check():
            assert not net.listeners

        return main(), check, net.services()

    assert explore(program, runs=100).schedule is None


# Datagrams.


def datagrams(net, count):
    """Send numbered datagrams; return the numbers that have arrived."""
    with (yield OpenDatagram(("server", 53))) as there, (yield OpenDatagram(remote=("server", 53))) as here:
        for number in range(count):
            assert (yield SendTo(here, b"%d" % number)) == len(str(number))
        got = []
        with (yield MoveOnAfter(5)):
            while True:
                data, sender = yield RecvFrom(there)
                assert sender == here.address
                got.append(int(data))
        return got


def test_datagrams_get_lost_come_twice_and_overtake_each_other():
    got = simulated(partial(datagrams, count=200), seed=3, loss=0.2, duplicates=0.2)
    assert 120 < len({*got}) < 190 and len(got) > len({*got}) and got != sorted(got)
    assert simulated(partial(datagrams, count=200), seed=3, loss=0.2, duplicates=0.2) == got
    assert simulated(partial(datagrams, count=20), **SAME) == [*range(20)]
    assert simulated(partial(datagrams, count=20), loss=1.0) == []


def test_datagrams_have_the_errors_of_real_ones():
    def main(net):
        with (yield OpenDatagram(("server", 53))) as there, (yield OpenDatagram(remote=("server", 54))) as here:
            with pytest.raises(OSError, match="65,508 bytes"):
                yield SendTo(here, bytes(65508))
            with pytest.raises(OSError, match=os.strerror(errno.EDESTADDRREQ)):
                yield SendTo(there, b"bytes")
            yield Write(here, b"bytes")
            yield Sleep(1)
            with pytest.raises(ConnectionRefusedError):
                yield SendTo(here, b"bytes")
            yield SendTo(there, b"long text", there.address)
            with pytest.raises(DatagramTruncated) as raised:
                yield RecvFrom(there, 4)
            net.partition(["server"], ["client"])
            with net.at("client"), (yield OpenDatagram()) as other:
                yield SendTo(other, b"lost", ("server", 53))
            with (yield MoveOnAfter(5)) as scope:
                yield Read(there, 100)
            return raised.value.data, scope.cancelled_caught

    assert simulated(main) == (b"long", True)


def test_a_full_inbox_drops_datagrams():
    def main(net):
        with (yield OpenDatagram(("server", 53))) as there, (yield OpenDatagram(remote=("server", 53))) as here:
            for _ in range(5):
                yield SendTo(here, bytes(40))
            yield Sleep(1)
            return len(there.inbox)

    assert simulated(main, buffer_bytes=100) == 2


# Packets, arguments, exploration.


def test_the_packets_are_listed_with_their_times_hosts_and_fates():
    net = SimNet(latency=(0.4, 0.4))

    def main():
        near, far = yield from pair(net)
        with near, far:
            yield Write(near, b"hello")
            yield Read(far, 100)
            net.partition(["client"], ["server"])
            with net.at("client"), (yield MoveOnAfter(0.5)):
                yield Connect(("server", 80))

    run(main(), clock=VirtualClock(), services=net.services())
    lines = net.lines()
    assert lines[:3] == [
        "  0.000000  client:49154 -> server:49153  connect  at 0.400000",
        "  0.400000  server:49153 -> client:49154  connected  at 0.800000",
        "  0.800000  client:49154 -> server:49153  5 bytes  at 1.200000",
    ]
    assert lines[3] == "  1.200000  client:49155 -> server:80  connect  lost"


def test_the_page_shows_each_packet_and_no_name_breaks_out_of_it():
    net = SimNet(latency=(0.5, 0.5))
    hostile = "</title><script>alert(1)</script>"

    def main():
        with net.at(hostile), (yield Listen(("", 80))) as listener:
            with net.at("client"), (yield Connect((hostile, 80))) as near, (yield Accept(listener)):
                yield Write(near, b"hello")
                net.partition(["client"], [hostile])
                with (yield MoveOnAfter(0.5)):
                    yield Connect((hostile, 80))

    run(main(), clock=VirtualClock(), services=net.services())
    text = net.page()
    page = ElementTree.fromstring(text.partition("\n")[2].replace('<meta charset="utf-8">', ""))
    labels = [element.text for element in page.iter("text")]
    assert labels[:2] == ["client", hostile] and "0.000000  connect" in labels and "1.000000  connect  lost" in labels
    titles = [element.text for element in page.iter("title")]
    assert titles[1].endswith(f" -> {hostile}:80  connect  at 0.500000") and len(titles) == 1 + len(net.packets)
    assert "script" not in {element.tag for element in page.iter()}


def test_no_more_packets_are_kept_than_said(monkeypatch):
    monkeypatch.setattr("minisched.lab.simnet.network.MAX_PACKETS", 10)
    net = SimNet()
    run(datagrams(net, 25), clock=VirtualClock(), services=net.services())
    assert len(net.lines()) == 11 and net.lines()[-1] == "and 15 more, which were not kept"
    assert "<p>And 15 more, which were not kept.</p>" in net.page() and "<h1>10 packets</h1>" in net.page()
    assert MAX_PACKETS == 10_000


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"latency": (2, 1)}, "the least latency is 2"),
        ({"latency": (-1, 1)}, "latency"),
        ({"latency": ("1", 2)}, "latency"),
        ({"bandwidth": 0}, "bandwidth is bytes in a second"),
        ({"buffer_bytes": 0}, "buffer_bytes"),
        ({"segment_bytes": 1.5}, "segment_bytes"),
        ({"loss": 2}, "loss is a share from 0 to 1, not 2"),
        ({"duplicates": -0.1}, "duplicates is a share"),
        ({"loss": math.nan}, "loss is a share"),
    ],
)
def test_an_argument_out_of_its_bounds_is_refused(options, text):
    with pytest.raises((TypeError, ValueError), match=text):
        SimNet(**options)


@pytest.mark.parametrize("chances", [{"latency": (0.1, 0.1)}, {}])
def test_turns_that_use_the_network_do_not_change_places_unseen(chances):
    def program():
        net, shared = SimNet(seed=5, **chances), Shared(first=None)

        def listen(name):
            try:
                with (yield Listen(("server", 80))):
                    yield
            except OSError:
                shared.first = name

        def main():
            yield from together(listen("first"), listen("second"))

        def check():
            assert shared.first == "second"

        return main(), check, net.services()

    assert explore(program, exhaustive=True).schedule is not None


@pytest.mark.parametrize("fixed", [False, True])
def test_a_server_is_explored_on_the_network(fixed):
    """Two clients of a server that counts its visitors: read, wait, write."""

    def program():
        net, shared = SimNet(seed=1, latency=(0, 0)), Shared(visitors=0)

        def handler(conn):
            before = shared.visitors
            if not fixed:
                yield
            shared.visitors = before + 1
            yield Write(conn, b"welcome")

        def client(late):
            yield Sleep(late)
            with (yield Connect(("server", 80))) as conn:
                assert (yield Read(conn, 7)) == b"welcome"

        def main():
            server = yield from served(net, handler)
            yield Join((yield Spawn(together(client(0), client(0)))))
            yield from stopped(server)
            assert shared.visitors == 2

        return main(), None, net.services()

    result = explore(program, runs=60)
    assert (result.schedule is None) is fixed, result


@pytest.mark.parametrize("clients", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_server_is_right_in_each_order_of_turns(clients, caplog):
    caplog.set_level(logging.CRITICAL, "minisched")  # a server logs the connections that it cancels

    def program():
        net, answers = SimNet(latency=(0, 0)), []

        def client():
            with (yield Connect(("server", 7))) as conn:
                yield Write(conn, b"x")
                answers.append((yield Read(conn, 10)))

        def main():
            ready = Event()
            server = yield Spawn(serve(echo, "server", 7, ready=lambda listener: ready.set(), grace=0))
            yield ready.wait()
            for _ in range(clients):
                yield Spawn(client())
            yield Sleep(1)  # the end of the server is in no order with the clients
            yield Cancel(server)

        def check():
            assert answers == [b"x"] * clients

        return main(), check, net.services()

    result = explore(program, exhaustive=True)
    assert (result.schedule, result.exhausted) == (None, True), result
    assert result.runs > 100
