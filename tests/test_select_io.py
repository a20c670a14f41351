"""select over files, signals and threads: exactly one call happens, and the others lose nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import permutations

import pytest
from helpers import Recording, no_file_is_left_open, pair, parked, run, until  # noqa: F401

from minisched import (
    Accept,
    BusyError,
    Cancel,
    Cancelled,
    Close,
    ClosedError,
    Connect,
    Event,
    FileOperation,
    FutureOperation,
    InThread,
    Join,
    Listen,
    Queue,
    Read,
    Sleep,
    Socket,
    Spawn,
    Submit,
    TaskCancelled,
    TimedOut,
    Timeout,
    WaitReadable,
    WaitSignal,
    WaitWritable,
    Write,
    select,
)
from minisched.testing import VirtualClock, cancel_everywhere, check_syscall

BIG_BYTES = 4_000_000


def taker(calls, log):
    log.append((yield select(*calls)))


def test_the_first_readable_socket_wins_and_the_other_keeps_its_bytes():
    def main():
        a, far_a = pair()
        b, far_b = pair()
        with a, far_a, b, far_b:
            yield Write(far_a, b"a")
            yield Write(far_b, b"b")
            assert (yield select(Read(b, 9), Read(a, 9))) == (0, b"b")
            assert (yield select(Read(b, 9), Read(a, 9))) == (1, b"a")
            assert a.file_state.wanted() == b.file_state.wanted() == 0

    run(main())


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_sockets_that_become_readable_in_the_same_turn_exactly_one_is_read(first):
    def main():
        a, far_a = pair()
        b, far_b = pair()
        with a, far_a, b, far_b:
            log = []
            task = yield Spawn(taker([Read(a, 9), Read(b, 9)], log))
            yield from parked(task)
            for far, data in [(far_a, b"a"), (far_b, b"b")][:: 1 if first == 0 else -1]:
                far.send(data)
            yield Join(task)
            ((number, data),) = log
            assert data == (b"a", b"b")[number]
            other = (b, a)[number]
            assert (yield Read(other, 9)) == (b"b", b"a")[number]

    run(main())


def several(kind, near, listener, stop):
    calls = {"read": Read(near, 9), "accept": Accept(listener), "stop": stop.wait(), "sleep": Sleep(5)}
    return [calls[name] for name in kind]


@pytest.mark.parametrize("kind", list(permutations(["read", "accept", "stop", "sleep"], 3)), ids="-".join)
def test_a_read_an_accept_an_event_and_a_sleep_in_any_order(kind):
    def main():
        near, far = pair()
        stop = Event()
        with near, far, (yield Listen(("127.0.0.1", 0))) as listener:
            for happening in kind:
                log = []
                task = yield Spawn(taker(several(kind, near, listener, stop), log))
                yield from parked(task)
                if happening == "read":
                    yield Write(far, b"x")
                elif happening == "accept":
                    client = socket.create_connection(listener.address)
                elif happening == "stop":
                    stop.set()
                yield Join(task)
                stop.clear()
                ((number, answer),) = log
                assert kind[number] == happening
                if happening == "accept":
                    answer.close()
                    client.close()
            assert near.file_state.wanted() == listener.file_state.wanted() == 0

    run(main())


def test_a_lost_read_and_a_lost_accept_leave_all_for_the_next():
    def main():
        near, far = pair()
        queue = Queue()
        with near, far, (yield Listen(("127.0.0.1", 0))) as listener:
            log = []
            task = yield Spawn(taker([Read(near, 9), Accept(listener), queue.get()], log))
            yield from parked(task)
            queue.put_nowait("item")  # wakes the task before anything comes
            far.send(b"x")
            with socket.create_connection(listener.address):
                yield Join(task)
                assert log == [(2, "item")]
                assert (yield Read(near, 9)) == b"x"
                (yield Accept(listener)).close()

    run(main())


def test_a_write_wins_with_its_first_byte_and_is_done_as_a_whole():
    def main():
        near, far = pair()
        with near, far:
            log = []
            task = yield Spawn(taker([Sleep(0.01), Write(near, bytes(BIG_BYTES))], log))
            yield Sleep(0.1)  # the Sleep of the select would be over
            assert not log
            got = 0
            while got < BIG_BYTES:
                got += len((yield Read(far, 1_000_000)))
            yield Join(task)
            assert log == [(1, BIG_BYTES)]

    run(main())


def test_a_write_to_a_full_socket_loses_and_has_written_nothing():
    def main():
        near, far = pair()
        with near, far:
            filled = 0
            try:
                while True:
                    filled += near.try_write(bytes(100_000))
            except BlockingIOError:
                pass
            assert (yield select(Write(near, b"lost"), Sleep(0))) == (1, None)
            log = []
            task = yield Spawn(taker([Write(near, b"lost"), Sleep(0.01)], log))
            yield Join(task)
            assert log == [(1, None)]
            got = 0
            while got < filled:
                got += len((yield Read(far, 1_000_000)))
            with pytest.raises(BlockingIOError):
                far.recv(1, socket.MSG_DONTWAIT)

    run(main())


def test_a_write_that_begins_while_it_waits_wins_too():
    def main():
        near, far = pair()
        with near, far:
            filled = 0
            try:
                while True:
                    filled += near.try_write(bytes(100_000))
            except BlockingIOError:
                pass
            stop = Event()
            log = []
            task = yield Spawn(taker([stop.wait(), Write(near, bytes(BIG_BYTES))], log))
            yield from parked(task)
            got = len((yield Read(far, 1_000_000)))
            yield from until(lambda: not stop.waiters)  # the first byte has gone: no other branch can win
            stop.set()
            while got < filled + BIG_BYTES:
                got += len((yield Read(far, 1_000_000)))
            yield Join(task)
            assert log == [(1, BIG_BYTES)]

    run(main())


def test_a_cancelled_select_says_how_much_its_write_has_written():
    def main():
        near, far = pair()
        with near, far:
            try:
                with (yield Timeout(0.01)):
                    try:
                        yield select(Write(near, bytes(BIG_BYTES)), Event().wait())
                    except Cancelled as cancelled:
                        written = cancelled.written
                        raise
            except TimedOut:
                pass
            assert 0 < written < BIG_BYTES
            got = 0
            while got < written:
                got += len((yield Read(far, 1_000_000)))
            with pytest.raises(BlockingIOError):
                far.recv(1, socket.MSG_DONTWAIT)

    run(main())


def test_connect_in_a_select():
    def main():
        with (yield Listen(("127.0.0.1", 0))) as listener:
            address = listener.address
            number, sock = yield select(Event().wait(), Connect(address))
            assert number == 1
            sock.close()
            (yield Accept(listener)).close()
        with pytest.raises(ConnectionRefusedError):
            yield select(Event().wait(), Connect(address))

    run(main())


def test_a_connect_that_loses_closes_its_socket():
    def main():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            assert (yield select(Connect(listener.getsockname()), Sleep(0))) == (1, None)
            waiting = []
            for _ in range(8):  # once the backlog is full, a connection stays under way
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
                waiting.append(sock)
            number, _ = yield select(Connect(listener.getsockname()), Sleep(60))
            for sock in waiting:
                sock.close()
            return number

    assert run(main()) == 1


def test_a_connect_to_a_path_is_made_at_once(tmp_path):
    def main():
        with (yield Listen(tmp_path / "s")) as listener:
            number, sock = yield select(Event().wait(), Connect(tmp_path / "s"), Event().wait())
            assert number == 1
            sock.close()
            (yield Accept(listener)).close()

    run(main())


def test_readiness_in_a_select():
    def main():
        near, far = pair()
        with near, far:
            assert (yield select(WaitReadable(near), WaitWritable(near))) == (1, None)
            yield Write(far, b"x")
            assert (yield select(WaitReadable(near), Sleep(5))) == (0, None)

    run(main())


def test_a_regular_file_in_a_select(tmp_path):
    (tmp_path / "f").write_bytes(b"data")
    fd = os.open(tmp_path / "f", os.O_RDWR)

    def main():
        assert (yield select(Sleep(5), Read(fd, 2))) == (1, b"da")
        assert (yield select(Sleep(5), WaitReadable(fd))) == (1, None)
        assert (yield select(Sleep(5), Write(fd, bytes(100_000)))) == (1, 100_000)
        yield Close(fd)

    run(main())


def test_a_plain_socket_and_a_number_in_a_select():
    def main():
        near, far = socket.socketpair()
        reader, writer = os.pipe()
        with near, far:
            log = []
            task = yield Spawn(taker([Read(reader, 9), Read(near, 9)], log))
            yield from parked(task)
            os.write(writer, b"x")
            yield Join(task)
            assert log == [(0, b"x")]
            far.send(b"y")
            assert (yield select(Read(reader, 9), Read(near, 9))) == (1, b"y")
        yield Close(reader)
        yield Close(writer)

    run(main())


def test_a_closed_file_ends_the_select_with_its_error():
    def main():
        near, far = pair()
        with far:
            log = []

            def reader():
                try:
                    yield select(Read(near, 9), Sleep(5))
                except ClosedError as error:
                    log.append(str(error))

            task = yield Spawn(reader())
            yield from parked(task)
            near.close()
            yield Join(task)
            assert log == ["socket was closed while task 'reader' waited for it"]

    run(main())


def test_the_same_direction_twice_is_busy_and_leaves_nothing_behind():
    def main():
        near, far = pair()
        with near, far:
            with pytest.raises(BusyError):
                yield select(Read(near, 9), Read(near, 9))
            assert near.file_state.wanted() == 0
            yield Write(far, b"x")
            assert (yield Read(near, 9)) == b"x"

    run(main())


def test_a_signal_in_a_select():
    def main():
        assert (yield select(WaitSignal(signal.SIGUSR1), Sleep(0.001))) == (1, None)
        signal.raise_signal(signal.SIGUSR1)  # between two waits of its owner: it is kept
        assert (yield select(WaitSignal(signal.SIGUSR1), Sleep(5))) == (0, signal.SIGUSR1)
        log = []
        task = yield Spawn(taker([WaitSignal(signal.SIGUSR1), WaitSignal(signal.SIGUSR1, signal.SIGUSR2)], log))
        yield from parked(task)
        signal.raise_signal(signal.SIGUSR1)
        yield Join(task)
        assert log == [(0, signal.SIGUSR1)]

    run(main())


def test_a_thread_in_a_select():
    release = threading.Event()

    def main():
        assert (yield select(InThread(divmod, 17, 5), Event().wait())) == (0, (3, 2))
        assert (yield select(InThread(release.wait), Sleep(0.01))) == (1, None)
        release.set()
        with pytest.raises(ZeroDivisionError):
            yield select(Event().wait(), InThread(divmod, 1, 0))

    run(main())


def test_an_executor_in_a_select():
    def main(executor):
        assert (yield select(Event().wait(), Submit(executor, divmod, 17, 5))) == (1, (3, 2))

    with ThreadPoolExecutor() as executor:
        run(main(executor))


def test_a_future_that_loses_is_cancelled():
    futures = []

    class Ask(FutureOperation[int]):
        __slots__ = ()

        def start(self, kernel, task):
            futures.append(Future())
            return futures[-1]

    def cancelled():
        yield select(Ask(), Event().wait())

    def main():
        assert (yield select(Ask(), Sleep(0.001))) == (1, None)
        task = yield Spawn(cancelled())
        yield from parked(task)
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        return [future.cancelled() for future in futures]

    assert run(main()) == [True, True]


def test_a_select_of_everything_obeys_a_cancellation_at_each_point():
    def program():
        near, far = pair()
        other, far_other = pair()
        queue = Queue()
        with near, far, other, far_other:
            yield Spawn(writer(far, queue))
            total = []
            for _ in range(2):
                _, answer = yield select(Read(near, 1), queue.get(), Read(other, 1), Sleep(1))
                total.append(answer)
            return total

    def writer(far, queue):
        yield Write(far, b"x")
        yield queue.put("item")

    cancel_everywhere(program)


@pytest.mark.parametrize(
    "make",
    [
        lambda near, far, listener: (select(Read(near, 9), Sleep(60)), lambda: far.send(b"x")),
        lambda near, far, listener: (select(Sleep(60), WaitReadable(near)), lambda: far.send(b"x")),
    ],
)
def test_a_select_over_files_passes_the_conformance_test(make):
    sockets = []

    def event():
        near, far = pair()
        sockets.extend([near, far])
        return make(near, far, None)

    check_syscall(event)
    for sock in sockets:
        sock.close()


def test_in_virtual_time_a_select_over_a_file_and_a_sleep_takes_the_deadline():
    def main():
        near, far = pair()
        with near, far:
            return (yield select(Read(near, 9), Sleep(3600)))

    assert run(main(), clock=VirtualClock()) == (1, None)


# An operation gives back its property once, however it ends.


class Owner(FileOperation[bytes]):
    """Reads from a duplicate of a descriptor, which it owns."""

    __slots__ = ("fail", "log")

    def __init__(self, file, log, fail=None):
        self.file, self.log, self.fail = file, log, fail

    def open(self, kernel):
        fd = os.dup(self.file.fileno())
        self.log.append("open")
        return fd

    def try_once(self, fd):
        data = os.read(fd, 9)
        if self.fail is not None:
            raise self.fail
        return data

    def release(self, fd):
        os.close(fd)
        self.log.append("release")


@pytest.mark.parametrize("in_select", [False, True])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("parks", [False, True])
def test_the_property_of_an_operation_is_released_when_it_succeeds_or_fails(parks, fails, in_select):
    def owner(near, log, outcomes):
        call = Owner(near, log, ValueError("on purpose") if fails else None)
        try:
            outcomes.append((yield select(Event().wait(), call) if in_select else call))
        except ValueError as error:
            outcomes.append(str(error))

    def main():
        near, far = pair()
        log, outcomes = [], []
        with near, far:
            if not parks:
                far.send(b"x")
            task = yield Spawn(owner(near, log, outcomes))
            if parks:
                yield from parked(task)
                far.send(b"x")
            yield Join(task)
        assert outcomes == ["on purpose" if fails else (1, b"x") if in_select else b"x"]
        assert log == ["open", "release"] * (len(log) // 2)
        assert log

    run(main())


@pytest.mark.parametrize("in_select", [False, True])
def test_the_property_of_an_operation_is_released_when_it_is_cancelled(in_select):
    def owner(near, log):
        call = Owner(near, log)
        yield select(Event().wait(), call) if in_select else call

    def main():
        near, far = pair()
        log = []
        with near, far:
            task = yield Spawn(owner(near, log))
            yield from parked(task)
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)
        assert log == ["open", "release"] * (len(log) // 2)
        assert log

    run(main())


def test_the_property_of_an_operation_is_released_when_another_call_wins():
    def main():
        near, far = pair()
        log = []
        with near, far:
            assert (yield select(Owner(near, log), Sleep(0))) == (1, None)
            assert log == ["open", "release"]
            assert (yield select(Owner(near, log), Sleep(1))) == (1, None)
        assert log == ["open", "release"] * 3

    run(main())


@pytest.mark.parametrize("in_select", [False, True])
def test_the_property_of_an_operation_is_released_when_the_selector_refuses_it(in_select):
    recording = Recording()

    def main():
        near, far = pair()
        log = []
        with near, far:
            recording.errors["register"] = OSError("no more of these")
            call = Owner(near, log)
            with pytest.raises(OSError, match="no more of these"):
                yield select(Sleep(1), call) if in_select else call
        assert log == ["open", "release"] * (2 if in_select else 1)

    run(main(), selector=recording)


def test_the_property_of_an_operation_is_released_when_a_later_wait_is_refused():
    recording = Recording()

    class Both(Owner):
        """Waits to read, and then to write, which the selector refuses."""

        __slots__ = ()

        def try_once(self, fd):
            try:
                os.read(fd, 9)
            except BlockingIOError:
                raise
            recording.errors["modify"] = recording.errors["register"] = OSError("no more of these")
            error = BlockingIOError()
            error.wants = 2
            raise error

    def owner(near, log):
        with pytest.raises(OSError, match="no more of these"):
            yield Both(near, log)

    def main():
        near, far = pair()
        log = []
        with near, far:
            task = yield Spawn(owner(near, log))
            yield from parked(task)
            far.send(b"x")
            yield Join(task)
        assert log == ["open", "release"]

    run(main(), selector=recording)


def test_an_object_that_is_not_a_file_is_released_too():
    class Opens(Owner):
        __slots__ = ()

        def open(self, kernel):
            self.log.append("open")
            return "no file"

        def release(self, opened):
            assert opened == "no file"
            self.log.append("release")

    def main():
        log = []
        with pytest.raises(TypeError, match="is not a file"):
            yield Opens(None, log)
        assert log == ["open", "release"]

    run(main())


# Each point of a cancellation: a byte, a connection or a signal is received, or is still there.


def left(try_once):
    """Return what is left, by calls of `try_once` until it would block."""
    found = []
    try:
        while True:
            found.append(try_once())
    except BlockingIOError:
        return found


def two_reads(pairs, received):
    for _ in range(2):
        received.append((yield select(*(Read(near, 9) for near, _ in pairs))))


def feeder(body, *feeds):
    """Spawn a body, feed it in one turn when it has parked, and end it."""
    task = yield Spawn(body, keep=True)
    yield Sleep(1)
    for feed in feeds:
        feed()
    yield Sleep(1)
    yield Cancel(task)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_reads_a_cancellation_at_each_point_loses_no_byte(order):
    def make():
        pairs, received = [pair(), pair()], []
        feeds = [lambda number=number: pairs[number][1].send(b"ab"[number : number + 1]) for number in order]

        def check():
            got = dict(received)
            rests = [b"".join(left(lambda near=near: near.try_read(1))) for near, _ in pairs]
            for sock in [*pairs[0], *pairs[1]]:
                sock.close()
            assert [got.get(number, b"") + rests[number] for number in (0, 1)] in ([b"a", b"b"], [b"", b""])

        return feeder(two_reads(pairs, received), *feeds), check

    assert cancel_everywhere(make) > 5


def accepts(listener, stop, accepted):
    while True:
        number, answer = yield select(Accept(listener), stop.wait())
        if number == 1:
            return
        accepted.append(answer)


@pytest.mark.parametrize("stop_first", [False, True])
def test_an_accept_beside_an_event_loses_no_connection_at_each_point_of_a_cancellation(stop_first):
    def make():
        listener, stop = Socket(socket.AF_INET, socket.SOCK_STREAM), Event()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        clients, accepted = [], []
        feeds = [lambda: clients.append(socket.create_connection(listener.address)), stop.set]

        def check():
            waiting = left(listener.try_accept)
            lost = len(clients) - len(accepted) - len(waiting)
            for sock in [*clients, *accepted, *waiting, listener]:
                sock.close()
            assert lost == 0, "a connection was lost"

        return feeder(accepts(listener, stop, accepted), *feeds[:: -1 if stop_first else 1]), check

    assert cancel_everywhere(make) > 5


def waits_for_a_signal(got):
    for _ in range(3):
        got.append((yield select(WaitSignal(signal.SIGUSR1), Sleep(0.6))))


def test_a_signal_beside_a_sleep_is_received_once_at_each_point_of_a_cancellation():
    def make():
        got = []

        def ring():
            if signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL:  # otherwise the signal has no owner
                signal.raise_signal(signal.SIGUSR1)

        def check():
            assert got.count((0, signal.SIGUSR1)) <= 1
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

        return feeder(waits_for_a_signal(got), ring), check

    assert cancel_everywhere(make) > 5
