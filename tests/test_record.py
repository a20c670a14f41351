"""Recordings: a real run, replayed from its file without the world, and each way in which a replay can differ."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers import nothing_is_left, pair  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from recordings import lines, outcome, recording_path, refused_world, same

from minisched import (
    Cancel,
    Connect,
    InThread,
    Join,
    Listen,
    MoveOnAfter,
    Now,
    OpenDatagram,
    Portal,
    Read,
    Resolve,
    Sleep,
    Spawn,
    Submit,
    Syscall,
    SyscallError,
    TimedOut,
    Timeout,
    UniversalQueue,
    WaitSignal,
    Wakeup,
    Write,
    current_kernel,
    errors,
    gather,
    run,
    run_process,
    select,
    serve_listeners,
    start_tls,
)
from minisched.bridges.threads import Threads
from minisched.io.filelike import FileState
from minisched.io.poller import Poller
from minisched.lab import BadRecording, Diverged, RecordingEnded, record, replay, world
from minisched.lab.tape import EXCEPTIONS, NotRecordable, TapeWriter, decode, encode
from minisched.net.addresses import HostAddress
from minisched.net.names import NotKnownYet

LOCAL = ("127.0.0.1", 0)
path = pytest.fixture(recording_path)
no_world = pytest.fixture(refused_world)


def echo(conn):
    while data := (yield Read(conn, 65536)):
        yield Write(conn, data)


# The same run.


def many_connections(log):
    """50 connections, threads, timeouts and resets."""

    def client(address, number):
        with (yield Connect(address)) as sock:
            for message in range(5):
                yield Write(sock, b"%d of %d" % (message, number))
                log.append((yield Read(sock, 100)))
            if number % 10 == 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # the close is a reset
            if number % 7 == 0:
                log.append((yield InThread(divmod, number, 7)))

    def main():
        with (yield Listen(LOCAL)) as listener:
            server = yield Spawn(serve_listeners(echo, listener))
            yield from gather(*(client(listener.address, number) for number in range(50)))
            try:
                with (yield Timeout(0.02)):
                    yield Sleep(60)
            except TimedOut as error:
                log.append(str(error))
            yield Cancel(server)
            return (yield Now())

    return main


def test_50_connections_with_threads_timeouts_and_resets_replay_exactly(path, no_world):
    logs = [], []
    made = iter(logs)
    time_at_the_end = same(lambda: many_connections(next(made))(), path, no_world)
    assert type(time_at_the_end) is float
    assert logs[0] == logs[1] and len(logs[0]) == 250 + 8 + 1


def test_a_large_write_in_many_steps_replays_exactly(path, no_world):
    def reader(address):
        with (yield Connect(address)) as sock:
            total = 0
            while data := (yield Read(sock, 100_000)):
                total += len(data)
            return total

    def main():
        with (yield Listen(LOCAL)) as listener:
            task = yield Spawn(reader(listener.address), keep=True)
            with (yield from accepted(listener)) as conn:
                yield Write(conn, bytes(5_000_000))
            return (yield Join(task))

    assert same(main, path, no_world) == 5_000_000


def accepted(listener):
    from minisched import Accept

    return (yield Accept(listener))


def test_a_server_at_a_path_replays_exactly(path, no_world, tmp_path):
    def main():
        with (yield Listen(str(tmp_path / "socket"), mode=0o600)) as listener:
            server = yield Spawn(serve_listeners(echo, listener))
            with (yield Connect(listener.address)) as sock:
                yield Write(sock, b"hello")
                answer = yield Read(sock, 100)
            yield Cancel(server)
            return answer, sock.peer

    answer, _ = same(main, path, no_world)
    assert answer == b"hello" and not (tmp_path / "socket").exists()


def test_a_refused_connection_replays_exactly(path, no_world):
    def main():
        with (yield Listen(LOCAL)) as listener:
            address = listener.address
        yield Connect(address)

    assert same(main, path, no_world).startswith("ConnectionRefusedError: [Errno 111]")


def test_a_replay_asks_no_name_server(path, no_world):
    def main():
        found = yield Resolve("localhost", 80, family=socket.AF_INET)
        with (yield Listen(("localhost", 0))) as listener:
            return [one.address for one in found], listener.address[0]

    assert same(main, path, nullcontext) == ([("127.0.0.1", 80)], "127.0.0.1")


def fails():
    raise KeyError("no such key")


def test_the_results_and_errors_of_threads_replay_exactly(path, no_world):
    def stops():
        raise StopIteration

    def main():
        try:
            yield InThread(stops)
        except RuntimeError as error:
            assert str(error) == "the function raised StopIteration"
        answers = yield InThread(lambda: {"a": [1, 2.5, None, True], ("b", 2): b"bytes"})
        with ThreadPoolExecutor(1) as executor:
            answers["sum"] = yield Submit(executor, sum, [1, 2])
        try:
            yield InThread(fails)
        except KeyError as error:
            answers["error"] = str(error)
        with (yield MoveOnAfter(0.01)):
            yield InThread(time.sleep, 0.05, abandon=True)
        yield Sleep(0.1)  # its answer comes, and is dropped
        released = threading.Event()
        winner = yield select(InThread(released.wait, 20), Sleep(0.01))
        released.set()
        return answers, winner

    answers, winner = same(main, path, no_world)
    assert answers["sum"] == 3 and answers["error"] == "'no such key'" and winner == (1, None)


@pytest.fixture
def harmless_signal():
    """Let SIGUSR1 do nothing, also when it comes after the run."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_call_that_can_not_begin_replays_exactly(path, no_world):
    def main():
        try:
            yield InThread("text")
        except SyscallError as error:
            return str(error), (yield InThread(sum, [1, 2]))

    assert same(main, path, no_world)[1] == 3


@pytest.mark.usefixtures("harmless_signal")
def test_signals_replay_exactly(path, no_world):
    def main():
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
        if not replaying:
            timer.start()
        return (yield WaitSignal(signal.SIGUSR1)), (yield select(WaitSignal(signal.SIGUSR2), Sleep(0.01)))

    replaying = False
    recorded = record(main(), path)
    replaying = True
    with no_world():
        assert replay(main(), path) == recorded == (signal.SIGUSR1, (1, None))


def test_ctrl_c_replays_exactly(path, no_world):
    cleaned = []

    def main():
        if not replaying:
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            yield Sleep(60)
        finally:
            cleaned.append((yield Now()))

    replaying = False
    assert outcome(record, main(), path) == "KeyboardInterrupt: "
    replaying = True
    with no_world():
        assert outcome(replay, main(), path) == "KeyboardInterrupt: "
    assert cleaned[0] == cleaned[1]


def test_a_ctrl_c_in_the_last_turn_replays_exactly(path):
    def main():
        yield Sleep(0)
        if not replaying:
            os.kill(os.getpid(), signal.SIGINT)

    replaying = False
    assert outcome(record, main(), path) == "KeyboardInterrupt: "
    replaying = True
    assert outcome(replay, main(), path) == "KeyboardInterrupt: "


def test_a_second_ctrl_c_ends_the_recording(path):
    def main():
        if replaying:
            yield Sleep(60)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            yield Sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    replaying = False
    assert outcome(record, main(), path) == "KeyboardInterrupt: "
    assert lines(path)[-1][:3] == ["raised", 0, 2]


def test_a_coroutine_and_its_async_generators_replay_exactly(path, no_world):
    async def numbers():
        try:
            for number in range(10):
                await Sleep(0.001)
                yield number
        finally:
            closed.append("closed")

    async def main():
        async for number in numbers():
            if number == 3:
                break
        await Sleep(0.01)

    closed = []
    same(main, path, no_world)
    assert closed == ["closed", "closed"]


def test_a_deadlock_replays_exactly(path, no_world):
    def main():
        with (yield Listen(LOCAL)) as listener, (yield Connect(listener.address)):
            from minisched import Event

            yield Event().wait()

    assert "none ready, no deadline" in same(main, path, no_world)


# Runs that differ.


def steps(*calls):
    for call in calls:
        _ = yield call


def test_a_changed_byte_of_a_write_is_named_with_its_task_and_line(path):
    def main(data):
        with (yield Listen(LOCAL)) as listener, (yield Connect(listener.address)) as sock:
            try:
                yield Write(sock, data)
            except Exception:
                pass  # the program catches it, and the run ends all the same

    record(main(b"hello"), path)
    with pytest.raises(Diverged) as raised:
        replay(main(b"hallo"), path)
    found = Path(path).read_text().splitlines()
    number = next(number for number, line in enumerate(found, 1) if line.startswith('["write"'))
    assert str(raised.value).startswith(
        f"diverged at line {number} of {path}: recorded 'write' of socket or file 2 with [5, "
    )
    assert "now 'write' of socket or file 2 with [5, " in str(raised.value)
    assert f"by task 0 main at {__file__}:" in str(raised.value) and str(raised.value).endswith(
        "in " + main.__qualname__
    )


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ([Sleep(0.001)], [], "the run has ended, and the recorded one went on with 'now' of the clock"),
        ([], [Sleep(0.001)], "recorded the event 'interrupts', now 'now' of the clock"),
        ([Now()], [InThread(int)], "recorded 'now' of the clock, now 'begin' of the threads"),
    ],
)
def test_a_run_that_is_longer_or_shorter_diverges(first, second, text, path):
    record(steps(*first), path)
    with pytest.raises(Diverged, match=r"^diverged at line \d+ of ") as raised:
        replay(steps(*second), path)
    assert text in str(raised.value)


def test_a_socket_that_is_closed_later_diverges(path):
    def main(early):
        with (yield Listen(LOCAL)) as listener:
            if early:
                listener.close()
            yield Sleep(0.001)

    record(main(True), path)
    with pytest.raises(Diverged, match=r"recorded 'close' of socket or file 1, now 'now' of the clock"):
        replay(main(False), path)


def test_a_thread_that_is_not_asked_again_diverges(path):
    record(steps(InThread(int), Sleep(0.001)), path)
    with pytest.raises(Diverged):
        replay(steps(Sleep(0.001), InThread(int)), path)


def recorded_bytes(path):
    record(many_connections([])(), path)
    return Path(path).read_bytes()


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 11])
def test_each_changed_byte_of_a_recording_is_found(step, path):
    def main():
        with (yield Listen(LOCAL)) as listener, (yield Connect(listener.address)) as sock:
            yield Write(sock, b"hello")
            return (yield InThread(sum, [1, 2]))

    record(main(), path)
    data = Path(path).read_bytes()
    for place in range(0, len(data), step):
        changed = bytearray(data)
        changed[place] ^= 1
        Path(path).write_bytes(changed)
        cut = place >= data.rindex(b"[")  # a checksum that was changed leaves its block without one
        expected = (BadRecording, RecordingEnded, Diverged) if cut else BadRecording
        with pytest.raises(expected, match=r"line|not a recording|version"):
            replay(main(), path)


@pytest.mark.parametrize("text", ["", "{}", "[]\n", '{"kind": "trace"}\n', '{"kind": "recording", "minisched": 2}\n'])
def test_a_file_that_is_not_a_recording_is_refused(text, path):
    Path(path).write_text(text)
    with pytest.raises(BadRecording, match=r"is not a recording|version 2 of the format"):
        replay(steps(), path)


def test_a_recording_that_was_cut_anywhere_replays_up_to_there(path):
    data = recorded_bytes(path)
    main = many_connections([])
    whole = replay(main(), path)
    first = data.index(b"\n") + 1
    for size in [*range(first, len(data), len(data) // 23), len(data) - 1]:
        Path(path).write_bytes(data[:size])
        result = outcome(replay, many_connections([])(), path)
        assert result != whole and str(result).startswith("RecordingEnded: the recording ends at line ")


def test_the_file_of_a_program_that_waits_has_all_but_the_last_moments(path):
    def main():
        for _ in range(4):
            yield Sleep(0.06)
        return len(lines(path))

    assert record(main(), path) > 5


@pytest.mark.slow
def test_a_recorder_that_is_killed_leaves_what_it_has_recorded(path, tmp_path):
    program = tmp_path / "endless.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            from minisched import Sleep
            from minisched.lab import record, replay

            def main():
                for number in range(10**9):
                    yield Sleep(0.001)

            if __name__ == "__main__":
                record(main(), sys.argv[1])
            """
        )
    )
    process = subprocess.Popen([sys.executable, program, path], cwd=Path(__file__).parents[1])
    while not os.path.exists(path) or os.path.getsize(path) < 20_000:
        time.sleep(0.01)
    process.kill()
    process.wait()
    turns = []

    def main():
        for number in range(10**9):
            yield Sleep(0.001)
            turns.append(number)

    with pytest.raises(RecordingEnded, match="the recorder was stopped there"):
        replay(main(), path)
    assert len(turns) > 100


def test_an_instrument_costs_nothing_where_it_is_not_used():
    program = "import sys, minisched; print([name for name in sys.modules if name.startswith('minisched.lab')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Refusals.


class Custom(Exception):
    pass


def raises_custom():
    raise Custom


def opens_a_portal():
    with (yield Portal()) as portal:
        yield Spawn(in_thread(portal))
        yield Sleep(60)


def in_thread(portal):
    threading.Thread(target=lambda: outcome(portal.call, print)).start()
    yield


def waits_for_a_thread():
    queue = UniversalQueue()
    threading.Thread(target=queue.blocking_put, args=[1]).start()
    yield queue.get()


def runs_a_process():
    yield from run_process(["true"])


def calls_from_a_thread():
    kernel = current_kernel()
    kernel.service(Wakeup).open()
    thread = threading.Thread(target=kernel.service(Wakeup).call, args=[print])
    thread.start()
    thread.join()
    yield Sleep(60)


class OtherFile:
    """A file-like of the program, which reads by itself."""

    def __init__(self, sock):
        self.sock = sock
        self.file_state = FileState()
        self.label = "other file"

    def try_read(self, size):
        return self.sock.recv(size, socket.MSG_DONTWAIT)

    def watch(self, kernel, direction, operation):
        self.file_state = kernel.service(Poller).borrow(self.sock.fileno())
        kernel.service(Poller).add_waiter(self.file_state, direction, operation)

    def unwatch(self, kernel, direction):
        kernel.service(Poller).remove_waiter(self.file_state, direction)


def borrows():
    near, far = socket.socketpair()
    with near, far:
        yield Read(OtherFile(near), 1)


class WaitForFuture(Syscall):
    def __init__(self, future):
        self.future = future

    def handle(self, kernel, task):
        kernel.park(task, kernel.service(Threads).add_waiter(task, self.future))


def waits_for_a_future():
    with ThreadPoolExecutor(1) as pool:
        yield WaitForFuture(pool.submit(int))


def begins_tls():
    import ssl

    with (yield Listen(LOCAL)) as listener, (yield Connect(listener.address)) as sock:
        yield from start_tls(sock, ssl.create_default_context(), server_hostname="localhost")


def detaches():
    with (yield Listen(LOCAL)) as listener:
        listener.detach()


REFUSED = {
    "a result of another class": (lambda: steps(InThread(object)), "thread: object has no form in a recording"),
    "an exception of another class": (lambda: steps(InThread(raises_custom)), "the exception Custom has no form"),
    "datagrams": (lambda: steps(OpenDatagram(local=LOCAL)), "datagrams can't be recorded"),
    "a portal": (opens_a_portal, r"Portal\(\) of task 'opens_a_portal' can't be recorded: other threads call"),
    "a universal queue": (waits_for_a_thread, "can't be recorded: other threads use the queue, too"),
    "a process": (runs_a_process, r"can't be recorded(: processes are outside|)"),
    "a call of another thread": (calls_from_a_thread, "is called by another thread, which can't be recorded"),
    "the file of another file-like": (borrows, r"file \d+ is not a socket or a file of this run"),
    "a future of its own": (waits_for_a_future, r"of its own, which can't be recorded"),
    "TLS": (begins_tls, "can't be recorded: the keys of TLS are random"),
    "a descriptor that is given away": (detaches, "is detached"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_call_that_can_not_be_recorded_ends_the_run_with_a_sentence_that_names_it(name, path):
    make, text = REFUSED[name]
    with pytest.raises(SyscallError, match=text):
        record(make(), path)
    assert lines(path)[0]["kind"] == "recording" and lines(path)[-1] != ["end"]


def test_a_file_that_can_not_be_written_is_an_error_before_the_run(tmp_path):
    async def main():
        raise AssertionError

    with pytest.raises(IsADirectoryError):  # without a warning that main was never awaited
        record(main(), tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_ends_the_run_and_not_the_call_that_was_recorded():
    caught = []

    def main():
        for _ in range(2000):
            try:
                yield Sleep(0.0001)
            except OSError as error:
                caught.append(error)

    with pytest.raises(OSError, match="No space left on device"):  # of the header
        record(main(), "/dev/full")

    class Filling(TapeWriter):
        def write(self, text):
            if "now" in text:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(text)

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(sys.modules["minisched.lab.record"], "TapeWriter", Filling)
        with pytest.raises(SyscallError, match=r"the recording can't be written: .*No space left on device"):
            record(main(), folder + "/run.jsonl")
    assert caught == []


def test_values_of_the_header_do_not_replace_its_own(path):
    record(steps(), path, kind="mine", note="kept")
    assert replay(steps(), path) is None and lines(path)[0]["note"] == "kept"


# The form of values.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.tuples(st.integers()), inner)
    ),
)


@pytest.mark.slow
@given(VALUES)
def test_each_value_is_the_same_after_a_recording(value):
    again = decode(json.loads(json.dumps(encode(value))))
    assert again == value and type(again) is type(value)


def test_a_value_of_each_kind_is_the_same_after_a_recording():
    value = {"a": [None, True, 1, 2.5, "text", b"bytes", ("tuple", (1,))], ("b", 2): {}, 3: []}
    assert decode(json.loads(json.dumps(encode(value)))) == value


def test_addresses_and_exceptions_are_the_same_after_a_recording():
    address = HostAddress(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
    assert decode(json.loads(json.dumps(encode(address)))) == address
    for error in (
        ConnectionResetError(104, "reset"), OSError(2, "no such file", "name"), socket.gaierror(-2, "unknown"),
        errors.ClosedError("closed"), ValueError("a", 1), NotKnownYet(("host", 80, 0, 1, 0)),
    ):  # fmt: skip
        again = decode(json.loads(json.dumps(encode(error))))
        assert (type(again), again.args, str(again)) == (type(error), error.args, str(error))


@pytest.mark.parametrize("value", [object(), {1}, Custom("x"), [Custom], {"a": object()}])
def test_a_value_of_another_kind_has_no_form(value):
    with pytest.raises(NotRecordable, match="has no form in a recording"):
        encode(value)


def test_the_table_of_exceptions_is_closed():
    assert "Custom" not in EXCEPTIONS
    with pytest.raises(KeyError):
        decode({"e": "SystemExit", "a": []})


def test_a_real_world_that_is_not_recorded_runs_as_ever():
    def main():
        with (yield Listen(LOCAL)) as listener, (yield Connect(listener.address)) as sock:
            yield Write(sock, b"x")
            return (yield InThread(sum, [1, 2])), listener.label

    assert run(main(), services=world.World().services()) == (3, "listener")
