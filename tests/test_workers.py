"""Several processes that serve at the same listeners: as programs, since it is all about processes."""

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
path = servers.path

NAMELESS = signal.SIGRTMIN + 1 if hasattr(signal, "SIGRTMIN") else signal.SIGALRM

# Workers that say which one has answered, and do what they are told to.
WORKERS = """
import minisched.workers

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
    say("first", os.getpid())
    until_interrupted(serve_workers, handler, *addresses, ready=ready, **options)
"""
THREE = f"main([({LOCAL!r}, 0)], workers=3, grace=3600)"


@contextmanager
def working(text, *arguments):
    """Start workers; give the program, the address, and at the end leave no process of the group behind."""
    with serving(WORKERS + text, *arguments) as (program, address):
        try:
            yield program, address
        finally:
            with suppress(ProcessLookupError):
                os.killpg(program.process.pid, signal.SIGKILL)


def who(address):
    """Return which worker answers."""
    with dial(address) as conn:
        return int(asked_who(conn))


def asked_who(conn):
    conn.sendall(b"who")
    return received(conn, 7)


def workers_of(first):
    """Return the processes that the first one has started, and that live. Linux."""
    with open(f"/proc/{first}/task/{first}/children") as file:
        return {pid for pid in map(int, file.read().split()) if lives(pid)}


def three(program):
    """Return the three workers, once they are there."""
    come_true(lambda: len(workers_of(program.process.pid)) == 3, "three workers")
    return workers_of(program.process.pid)


@contextmanager
def load(address, clients=4):
    """Let clients talk to a server all the time; give a list of what went wrong."""
    wrong, over = [], Event()

    def talk():
        while not over.is_set():
            try:
                with dial(address) as conn:
                    for _ in range(10):
                        assert asked(conn, b"hello") == b"hello"
            except (OSError, AssertionError) as error:
                wrong.append(error)

    threads = [Thread(target=talk) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        over.set()
        for thread in threads:
            thread.join(SECONDS)


def all_gone(program, them):
    """Assert that the first process has ended, and the others too."""
    assert program.process.poll() is not None
    assert [pid for pid in them if lives(pid)] == []


# Workers that die


def test_three_workers_share_the_connections():
    with working(THREE) as (program, address):
        them, seen = three(program), set()
        come_true(lambda: seen.add(who(address)) or seen == them, "each of them has answered")


def test_a_worker_that_is_killed_is_replaced_and_the_others_serve_on():
    with working(THREE) as (program, address):
        them = three(program)
        conns = [dial(address) for _ in range(30)]
        whose = [int(asked_who(conn)) for conn in conns]
        victim = whose[0]
        with load(address) as wrong:
            os.kill(victim, signal.SIGKILL)
            program.expect(rf"worker {victim} was ended by signal 9 \(Killed\) after \d+\.\d s, and is replaced\n")
            come_true(lambda: len(workers_of(program.process.pid)) == 3, "there are three again")
            assert three(program) > them - {victim}
            (new,) = three(program) - them
            come_true(lambda: who(address) == new, "the new one answers")
        for conn, worker in zip(conns, whose, strict=True):
            with conn:
                if worker == victim:
                    with suppress(ConnectionResetError):
                        assert conn.recv(1) == b""
                else:
                    assert int(asked_who(conn)) == worker
        assert all(isinstance(error, (ConnectionError, AssertionError)) for error in wrong)
        assert len(wrong) <= 4, "more than the victim's connections were broken off"


@pytest.mark.parametrize("signum", [signal.SIGTERM, NAMELESS], ids=["SIGTERM", "one without a name"])
def test_a_worker_that_is_told_to_end_is_replaced_too_and_takes_no_path_away(signum, path):
    with working("main([sys.argv[1]], workers=2)", path) as (program, _):
        victim = who(path)
        os.kill(victim, signum)
        program.expect(
            rf"worker {victim} (ended with status 143|was ended by signal \d+ \(.+\)) after .+ is replaced\n"
        )
        assert os.path.exists(path)
        assert who(path) != victim


DIES = "minisched.workers.run = lambda body: body.close() or os._exit(3)\n"  # as it begins


def test_a_worker_that_dies_at_once_is_replaced_only_after_a_pause():
    pause = 0.2
    text = f"{DIES}minisched.workers.AT_ONCE = {pause}; main([({LOCAL!r}, 0)], workers=1)"
    with working(text) as (program, _):
        program.expect(r"ended with status 3 after 0\.\d s, and is replaced\n")
        start = monotonic()
        program.expect(r"(?s)(is replaced\n.*){4}")
        assert monotonic() - start >= 2.9 * pause
        assert program.said.count("is replaced") == 4


def test_a_worker_that_lived_for_long_is_replaced_without_a_pause(path):
    with working("minisched.workers.AT_ONCE = 0; main([sys.argv[1]], workers=1)", path) as _:
        victim = who(path)
        os.kill(victim, signal.SIGKILL)
        assert who(path) != victim


def test_a_signal_does_not_wait_for_the_pause():
    with working(f"{DIES}minisched.workers.AT_ONCE = 3600; main([({LOCAL!r}, 0)], workers=2)") as (program, _):
        program.expect(r"(?s)(is replaced\n.*){2}")
        program.process.terminate()
        assert program.wait() == 143


def test_a_worker_that_can_not_be_started_now_is_started_later():
    text = """
fork, left = os.fork, [1, 1, 0, 0, 1]

def sometimes():
    if not left.pop(0):
        raise BlockingIOError(11, "no more processes")
    return fork()

os.fork, minisched.workers.AT_ONCE = sometimes, 0.1
main([sys.argv[1]], workers=2)
"""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "sock")
        with working(text, path) as (program, _):
            come_true(lambda: len(workers_of(program.process.pid)) == 2, "two workers")
            os.kill(who(path), signal.SIGKILL)
            program.expect(r"(?s)(can't start a worker: no more processes; trying again in 0\.1 s\n.*){2}")
            come_true(lambda: len(workers_of(program.process.pid)) == 2, "two workers again")
            program.process.terminate()
            assert program.wait() == 143


def test_a_worker_that_can_not_be_started_at_the_beginning_is_an_error_which_leaves_nobody_behind(path):
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
        say("nobody is left")
"""
    with working(text, path) as (program, _):
        program.expect("nobody is left")
        assert program.wait() == 0
        assert not os.path.exists(path)


def test_it_works_without_a_standard_output(path):
    text = """
def closes(listener):
    ready(listener)
    sys.stdout = None

serve_workers(handler, sys.argv[1], workers=2, ready=closes)
"""
    with working(text, path) as (program, _):
        _ = who(path)
        program.process.terminate()
        assert program.wait() == 143
        assert program.errors() == ""


def test_a_worker_that_can_not_write_out_what_it_printed_ends_nobody_else(path):
    text = """
def handler(conn):
    if (yield Read(conn, 1)) == b"!":
        reader, writer = os.pipe()
        os.close(reader)
        sys.stdout = open(writer, "w")
        sys.stdout.write("nobody reads this")
        raise SystemExit(7)
    yield Write(conn, b"%07d" % os.getpid())
    yield Read(conn, 1)

main([sys.argv[1]], workers=2)
"""
    with working(text, path) as (program, _):
        first = program.process.pid
        come_true(lambda: len(workers_of(first)) == 2, "two workers")
        them = workers_of(first)
        with dial(path) as conn:
            conn.sendall(b"!")
            victim = int(program.expect(r"worker (\d+) ended with status 7 ")[1])
        assert workers_of(first) >= them - {victim}


def test_it_works_where_the_ends_of_children_are_ignored(path):
    with working("signal.signal(signal.SIGCHLD, signal.SIG_IGN); main([sys.argv[1]], workers=2)", path) as (program, _):
        os.kill(who(path), signal.SIGKILL)
        program.expect("is replaced")
        program.process.terminate()
        assert program.wait() == 143


# How they stop


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_first_process_stops_all_under_load(signum, path):
    with working("main([sys.argv[1]], workers=3, grace=0)", path) as (program, _):
        them = three(program)
        with dial(path) as conn, load(path):
            asked_who(conn)
            program.process.send_signal(signum)
            assert program.wait() == 128 + signum
            assert conn.recv(1) == b""
        all_gone(program, them)
        assert not os.path.exists(path)
        assert program.errors() == ""


def test_ctrl_c_in_a_terminal_stops_in_two_steps_and_the_second_at_once(path):
    with working("main([sys.argv[1]], workers=3, grace=3600)", path) as (program, _):
        them, seen, conns = three(program), set(), []
        while seen != them:  # a connection to each of them
            conns.append(dial(path))
            seen.add(int(asked_who(conns[-1])))
        os.killpg(program.process.pid, signal.SIGINT)
        program.expect(r"(?s)(the server stops; \d+ connections? may take 3600 s to end.*){3}")
        come_true(lambda: not os.path.exists(path), "nobody else can connect")
        for conn in conns:
            assert asked(conn, b"still served") == b"still served"
        assert three(program) == them
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait() == 130
        for conn in conns:
            assert conn.recv(1) == b""
            conn.close()
        all_gone(program, them)
        assert program.errors() == ""


def test_workers_whose_first_process_is_killed_stop_by_themselves():
    with working(f"main([({LOCAL!r}, 0)], workers=3, grace=0)") as (program, address):
        them = three(program)
        with dial(address) as conn:
            asked_who(conn)
            program.process.kill()
            assert conn.recv(1) == b""
            program.wait()
        come_true(lambda: not any(map(lives, them)), "they are gone")
        for pid in them:
            assert f"the first process is gone: worker {pid} stops\n" in program.said
        assert program.errors() == ""


def test_afterwards_signals_are_as_they_were(path):
    text = """
signal.signal(signal.SIGCHLD, came := lambda *_: None)
try:
    serve_workers(handler, sys.argv[1], workers=2, ready=ready)
except KeyboardInterrupt:
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert signal.getsignal(signal.SIGCHLD) is came
    say("as they were")
"""
    with working(text, path) as (program, _):
        who(path)
        assert program.interrupt() == 0
        program.expect("as they were")
        assert program.errors() == ""


# What is refused


@pytest.fixture
def no_fork(monkeypatch):
    """Let a fork be a failure."""

    def fork():
        raise AssertionError("it forked")

    monkeypatch.setattr(os, "fork", fork)


def handler(conn):
    yield Sleep(1)


def test_inside_a_run_it_is_refused(no_fork, path):
    def main():
        yield
        with pytest.raises(SyscallError, match="a kernel can't be forked: call it in place of `run"):
            serve_workers(handler, path, workers=2)

    run(main())


def test_in_another_thread_it_is_refused(no_fork, path):
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
def test_options_that_are_none_are_refused_before_anything_is_forked(options, error, no_fork, path):
    with pytest.raises(error):
        serve_workers(handler, path, **options)
    assert not os.path.exists(path)


def test_an_address_that_can_not_be_had_is_an_error_before_anything_is_forked(no_fork, path):
    with pytest.raises(OSError, match="no/such/folder"):
        serve_workers(handler, path, "/no/such/folder/sock", workers=2)
    assert not os.path.exists(path)
