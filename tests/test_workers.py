"""`serve_workers`: several processes that serve at the same listeners, each test in a program of its own."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic

import pytest
import servers
from helpers import no_file_is_left_open, open_numbers  # noqa: F401
from programs import SECONDS
from servers import LOCAL, asked, come_true, dial, lives, received, serving

from minisched import Sleep, SyscallError, run, serve_workers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
programs = pytest.mark.slow  # each of these tests runs several processes
path = servers.path

UNNAMED_SIGNAL = signal.SIGRTMIN + 1 if hasattr(signal, "SIGRTMIN") else signal.SIGALRM

# Workers that answer with their pid, and obey commands.
WORKERS = """
import minisched.serving.workers

os.setpgid(0, 0)  # a process group of its own, as a shell makes for a terminal

def handler(conn):
    while data := (yield Read(conn, 65536)):
        if data == b"who":
            data = b"%07d" % os.getpid()
        elif data == b"sleep":
            yield Sleep(3600)
        elif data == b"end":
            raise SystemExit(7)
        yield Write(conn, data)

def main(addresses, **options):
    say("arbiter", os.getpid())
    until_interrupted(serve_workers, handler, *addresses, ready=ready, **options)
"""
THREE = f"main([({LOCAL!r}, 0)], workers=3, grace=3600)"


@contextmanager
def working(text, *arguments):
    """Start workers; give the program and the address, and at the end kill what is left of the process group."""
    with serving(WORKERS + text, *arguments) as (program, address):
        try:
            yield program, address
        finally:
            with suppress(ProcessLookupError):
                os.killpg(program.process.pid, signal.SIGKILL)


def pid_at(address):
    """Return the pid of the worker that answers at an address."""
    with dial(address) as conn:
        return pid_of(conn)


def pid_of(conn):
    """Return the pid of the worker that serves a connection."""
    conn.sendall(b"who")
    return int(received(conn, 7))


def workers_of(arbiter):
    """Return the pids of the living workers of an arbiter. Linux."""
    with open(f"/proc/{arbiter}/task/{arbiter}/children") as file:
        return {pid for pid in map(int, file.read().split()) if lives(pid)}


def three(program):
    """Wait for three workers; return their pids."""
    come_true(lambda: len(workers_of(program.process.pid)) == 3, "three workers")
    return workers_of(program.process.pid)


@contextmanager
def load(address, clients=4):
    """Let clients talk to a server all the time; give a list of the errors."""
    errors, stop = [], Event()

    def talk():
        while not stop.is_set():
            try:
                with dial(address) as conn:
                    for _ in range(10):
                        assert asked(conn, b"hello") == b"hello"
            except (OSError, AssertionError) as error:
                errors.append(error)

    threads = [Thread(target=talk) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)


def assert_all_ended(program, pids):
    """Assert that the arbiter and its workers have ended."""
    assert program.process.poll() is not None
    assert [pid for pid in pids if lives(pid)] == []


# Workers that die


@programs
def test_three_workers_share_the_connections():
    with working(THREE) as (program, address):
        pids, seen = three(program), set()
        come_true(lambda: seen.add(pid_at(address)) or seen == pids, "each worker has answered")


@programs
def test_a_killed_worker_is_replaced_and_the_others_go_on_serving():
    with working(THREE) as (program, address):
        pids = three(program)
        conns = [dial(address) for _ in range(30)]
        servers_of = [pid_of(conn) for conn in conns]
        victim = servers_of[0]
        with load(address) as errors:
            os.kill(victim, signal.SIGKILL)
            program.expect(rf"worker {victim} was killed by signal 9 \(Killed\) after \d+\.\d s; replacing it\n")
            come_true(lambda: len(workers_of(program.process.pid)) == 3, "three workers again")
            assert three(program) > pids - {victim}
            (new,) = three(program) - pids
            come_true(lambda: pid_at(address) == new, "the new worker answers")
        for conn, worker in zip(conns, servers_of, strict=True):
            with conn:
                if worker == victim:
                    with suppress(ConnectionResetError):
                        assert conn.recv(1) == b""
                else:
                    assert pid_of(conn) == worker
        assert all(isinstance(error, (ConnectionError, AssertionError)) for error in errors)
        assert len(errors) <= 4, "connections of other workers were lost"


@programs
@pytest.mark.parametrize("signum", [signal.SIGTERM, UNNAMED_SIGNAL], ids=["SIGTERM", "a signal without a name"])
def test_a_signalled_worker_is_replaced_and_does_not_remove_the_path(signum, path):
    with working("main([sys.argv[1]], workers=2)", path) as (program, _):
        victim = pid_at(path)
        os.kill(victim, signum)
        program.expect(
            rf"worker {victim} (ended with status 143|was killed by signal \d+ \(.+\)) after .+; replacing it\n"
        )
        assert os.path.exists(path)
        assert pid_at(path) != victim


DIES = "minisched.serving.workers.run = lambda body: body.close() or os._exit(3)\n"  # at its start


@programs
def test_a_worker_that_dies_fast_is_replaced_only_after_a_pause():
    pause = 0.2
    text = f"{DIES}minisched.serving.workers.RESPAWN_PAUSE_SECONDS = {pause}; main([({LOCAL!r}, 0)], workers=1)"
    with working(text) as (program, _):
        program.expect(r"ended with status 3 after 0\.\d s; replacing it\n")
        start = monotonic()
        program.expect(r"(?s)(replacing it\n.*){4}")
        assert monotonic() - start >= 2.9 * pause
        assert program.said.count("replacing it") == 4


FAST_DEATH_IS_0 = (
    "minisched.serving.workers.FAST_DEATH_SECONDS, minisched.serving.workers.RESPAWN_PAUSE_SECONDS = 0, 3600\n"
)


@programs
def test_a_worker_that_lived_long_enough_is_replaced_without_a_pause(path):
    with working(FAST_DEATH_IS_0 + "main([sys.argv[1]], workers=1)", path) as _:
        victim = pid_at(path)
        os.kill(victim, signal.SIGKILL)
        assert pid_at(path) != victim


@programs
def test_a_signal_stops_the_workers_during_the_pause():
    with working(
        f"{DIES}minisched.serving.workers.RESPAWN_PAUSE_SECONDS = 3600; main([({LOCAL!r}, 0)], workers=2)"
    ) as (program, _):
        program.expect(r"(?s)(replacing it\n.*){2}")
        program.process.terminate()
        assert program.wait() == 143


@programs
def test_a_failed_fork_of_a_replacement_is_retried():
    text = """
fork, left = os.fork, [1, 1, 0, 0, 1]

def sometimes():
    if not left.pop(0):
        raise BlockingIOError(11, "no more processes")
    return fork()

os.fork = sometimes
minisched.serving.workers.FAST_DEATH_SECONDS = minisched.serving.workers.RESPAWN_PAUSE_SECONDS = 0.1
main([sys.argv[1]], workers=2)
"""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "sock")
        with working(text, path) as (program, _):
            come_true(lambda: len(workers_of(program.process.pid)) == 2, "two workers")
            os.kill(pid_at(path), signal.SIGKILL)
            program.expect(r"(?s)(can't start a worker: no more processes; retrying in 0\.1 s\n.*){2}")
            come_true(lambda: len(workers_of(program.process.pid)) == 2, "two workers again")
            program.process.terminate()
            assert program.wait() == 143


@programs
def test_a_failed_fork_at_the_start_raises_and_leaves_no_worker_behind(path):
    text = """
fork, left = os.fork, [1, 1, 0]

def sometimes():
    if not left.pop(0):
        raise BlockingIOError(11, "no more processes")
    return fork()

os.fork = sometimes
try:
    serve_workers(handler, sys.argv[1], workers=3, ready=ready)
except BlockingIOError:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        say("no child is left")
"""
    with working(text, path) as (program, _):
        program.expect("no child is left")
        assert program.wait() == 0
        assert not os.path.exists(path)


@programs
def test_workers_run_without_a_standard_output(path):
    text = """
def closes(listener):
    ready(listener)
    sys.stdout = None

serve_workers(handler, sys.argv[1], workers=2, ready=closes)
"""
    with working(text, path) as (program, _):
        _ = pid_at(path)
        program.process.terminate()
        assert program.wait() == 143
        assert program.errors() == ""


@programs
def test_a_worker_that_cannot_flush_its_output_does_not_stop_the_others(path):
    text = """
def handler(conn):
    if (yield Read(conn, 1)) == b"!":
        reader, writer = os.pipe()
        os.close(reader)
        sys.stdout = open(writer, "w")
        sys.stdout.write("no process reads this")
        raise SystemExit(7)
    yield Write(conn, b"%07d" % os.getpid())
    yield Read(conn, 1)

main([sys.argv[1]], workers=2)
"""
    with working(text, path) as (program, _):
        arbiter = program.process.pid
        come_true(lambda: len(workers_of(arbiter)) == 2, "two workers")
        pids = workers_of(arbiter)
        with dial(path) as conn:
            conn.sendall(b"!")
            victim = int(program.expect(r"worker (\d+) ended with status 7 ")[1])
        assert workers_of(arbiter) >= pids - {victim}


@programs
def test_workers_are_replaced_where_sigchld_was_ignored(path):
    with working("signal.signal(signal.SIGCHLD, signal.SIG_IGN); main([sys.argv[1]], workers=2)", path) as (program, _):
        os.kill(pid_at(path), signal.SIGKILL)
        program.expect("replacing it")
        program.process.terminate()
        assert program.wait() == 143


# Stopping


@programs
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_arbiter_stops_all_workers_under_load(signum, path):
    with working("main([sys.argv[1]], workers=3, grace=0)", path) as (program, _):
        pids = three(program)
        with dial(path) as conn, load(path):
            pid_of(conn)
            program.process.send_signal(signum)
            assert program.wait() == 128 + signum
            assert conn.recv(1) == b""
        assert_all_ended(program, pids)
        assert not os.path.exists(path)
        assert program.errors() == ""


@programs
def test_ctrl_c_in_a_terminal_stops_gracefully_and_a_second_one_at_once(path):
    with working("main([sys.argv[1]], workers=3, grace=3600)", path) as (program, _):
        pids, seen, conns = three(program), set(), []
        while seen != pids:  # until each worker has a connection
            conns.append(dial(path))
            seen.add(pid_of(conns[-1]))
        os.killpg(program.process.pid, signal.SIGINT)
        program.expect(r"(?s)(the server stops; \d+ connections? may take 3600 s to finish.*){3}")
        come_true(lambda: not os.path.exists(path), "no other client can connect")
        for conn in conns:
            assert asked(conn, b"still served") == b"still served"
        assert three(program) == pids
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait() == 130
        for conn in conns:
            assert conn.recv(1) == b""
            conn.close()
        assert_all_ended(program, pids)
        assert program.errors() == ""


@programs
def test_workers_stop_by_themselves_when_the_arbiter_is_killed():
    with working(f"main([({LOCAL!r}, 0)], workers=3, grace=0)") as (program, address):
        pids = three(program)
        with dial(address) as conn:
            pid_of(conn)
            program.process.kill()
            assert conn.recv(1) == b""
            program.wait()
        come_true(lambda: not any(map(lives, pids)), "the workers have ended")
        for pid in pids:
            assert f"the arbiter process is gone: worker {pid} stops\n" in program.said
        assert program.errors() == ""


@programs
def test_signal_handlers_and_mask_are_restored_at_the_end(path):
    text = """
signal.signal(signal.SIGCHLD, previous := lambda *_: None)
try:
    serve_workers(handler, sys.argv[1], workers=2, ready=ready)
except KeyboardInterrupt:
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert signal.getsignal(signal.SIGCHLD) is previous
    say("restored")
"""
    with working(text, path) as (program, _):
        pid_at(path)
        assert program.interrupt() == 0
        program.expect("restored")
        assert program.errors() == ""


# Refused arguments


@pytest.fixture
def no_fork(monkeypatch):
    """Make any fork a failure."""

    def fork():
        raise AssertionError("it forked")

    monkeypatch.setattr(os, "fork", fork)


def handler(conn):
    yield Sleep(1)


def test_serve_workers_is_refused_inside_a_run(no_fork, path):
    def main():
        yield
        with pytest.raises(SyscallError, match="a kernel can't be forked: call it in place of `run"):
            serve_workers(handler, path, workers=2)

    run(main())


def test_serve_workers_is_refused_in_another_thread(no_fork, path):
    refused = []

    def call():
        with pytest.raises(ValueError, match="main thread"):
            serve_workers(handler, path, workers=2)
        refused.append(True)

    thread = Thread(target=call)
    thread.start()
    thread.join(SECONDS)
    assert refused == [True]
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"workers": 0}, ValueError), ({"workers": -1}, ValueError), ({}, TypeError), ({"workers": 1, "x": 1}, TypeError)],
)
def test_invalid_options_are_refused_before_any_fork(options, error, no_fork, path):
    with pytest.raises(error):
        serve_workers(handler, path, **options)
    assert not os.path.exists(path)


def test_an_address_that_cannot_be_bound_raises_before_any_fork(no_fork, path):
    with pytest.raises(OSError, match="no/such/folder"):
        serve_workers(handler, path, "/no/such/folder/sock", workers=2)
    assert not os.path.exists(path)
