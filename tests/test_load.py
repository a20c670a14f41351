"""Servers under load, each a process beside its clients' processes: slow tests, and tests that measure."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from contextlib import ExitStack, contextmanager
from statistics import median
from threading import Event, Thread
from time import monotonic, perf_counter

import pytest
import servers
from helpers import no_file_is_left_open  # noqa: F401
from programs import SECONDS, started
from servers import ECHO, LOCAL, PREFACE, RESET, asked, come_true, dial, memory_of, received, serving

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
pytestmark = pytest.mark.slow  # each test runs programs
path = servers.path

# The start of each program of clients. They report on standard output.
CLIENTS = f"""
import os, selectors, socket, struct, sys, time

LINGER = {RESET!r}

def dial(address):
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout({SECONDS})
    sock.connect(address)
    return sock

def say(*words):
    print(*words, flush=True)

host, port = {LOCAL!r}, int(sys.argv[1])
"""


@contextmanager
def clients(text, address, *arguments):
    """Start a process of clients; give its `Program`."""
    with started("-c", CLIENTS + text, address[1], *arguments) as program:
        yield program


# A server that reports what its run holds to a client that sends "held?".
REPORTING = f"""
sys.path.insert(0, {os.path.dirname(__file__)!r})
from helpers import Ask
from servers import held

def reporter(conn):
    while data := (yield Read(conn, 65536)):
        yield Write(conn, (repr((yield Ask(held))) + "\\n").encode() if data == b"held?" else data)

until_interrupted(run, serve(reporter, {LOCAL!r}, 0, grace=0, ready=ready))
"""


def held_by_server(conn):
    """Return the server's report of what its run holds."""
    conn.sendall(b"held?")
    text = b""
    while not text.endswith(b"\n"):
        text += conn.recv(65536)
    return text


# Short connections

LEAVING = """
for number in range(int(sys.argv[2])):
    sock = dial((host, port))
    if number % 3 == 1:
        sock.send(b"x")
    if number % 3 == 2:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    sock.close()
say("done")
"""


@on_linux
def test_ten_thousand_short_connections_leave_nothing_behind():
    processes, each = 4, 2500
    with serving(REPORTING) as (program, address), dial(address) as asker:
        assert asked(asker, b"x") == b"x"

        def wave(each):
            with ExitStack() as running:
                waves = [running.enter_context(clients(LEAVING, address, each)) for _ in range(processes)]
                for program_of_clients in waves:
                    program_of_clients.expect("done")

        wave(25)
        before, memory = settled_state(asker), memory_of(program.process.pid)
        wave(each)
        assert settled_state(asker) == before
        grown = memory_of(program.process.pid) - memory
        assert grown < 2_000_000, f"the server has grown by {grown} bytes"
        assert program.interrupt() == 130
        assert program.said.count("\n") == 2, "the server logged more than its address and one open connection"
        assert program.errors() == ""


def settled_state(asker):
    """Return what a server holds, after all other connections have ended."""
    states = []
    come_true(lambda: states.append(held_by_server(asker)) or b"reporter-" in states[-1], "the server answers")
    come_true(
        lambda: states.append(held_by_server(asker)) or states[-1].count(b"reporter-") == 1,
        "the other connections have ended",
    )
    return states[-1]


# Idle connections

IDLE_CONNECTIONS, ACTIVE_CONNECTIONS, MESSAGES, ROUNDS = 5000, 50, 40, 9
FILES = IDLE_CONNECTIONS + ACTIVE_CONNECTIONS + 100

STAYING = """
import resource, signal

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
conns = [dial((host, port)) for _ in range(int(sys.argv[2]))]
for conn in conns:
    conn.sendall(b"x")
for conn in conns:
    assert conn.recv(1) == b"x"
say("connected")
signal.pause()
"""


def percentile_99_seconds(conns):
    """Return the time in which 99 of 100 messages come back, while all connections talk at once."""
    times = []
    for _ in range(MESSAGES):
        sent = []
        for conn in conns:
            sent.append(perf_counter())
            conn.sendall(b"x" * 100)
        for conn, start in zip(conns, sent, strict=True):
            assert len(received(conn, 100)) == 100
            times.append(perf_counter() - start)
    return sorted(times)[len(times) * 99 // 100]


@on_linux
def test_five_thousand_idle_connections_do_not_slow_down_fifty_active_ones(capsys):
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES:
        pytest.skip(f"a process may not open {FILES} files here (ulimit -Hn)")
    with ExitStack() as running:
        (_, one), (beside, two) = [running.enter_context(serving(ECHO)) for _ in range(2)]
        few, many = [
            [running.enter_context(dial(address)) for _ in range(ACTIVE_CONNECTIONS)] for address in (one, two)
        ]
        for conns in (few, many):
            _ = percentile_99_seconds(conns)
        memory = memory_of(beside.process.pid)
        running.enter_context(clients(STAYING, two, IDLE_CONNECTIONS)).expect("connected")
        each = (memory_of(beside.process.pid) - memory) / IDLE_CONNECTIONS
        pairs = [(percentile_99_seconds(few), percentile_99_seconds(many)) for _ in range(ROUNDS)]
    best_ratio = min(many for _, many in pairs) / min(few for few, _ in pairs)
    median_ratio = median(many / few for few, many in pairs)
    with capsys.disabled():
        print(f"\n{IDLE_CONNECTIONS} idle connections take {each:,.0f} bytes each. Beside them, 99 of 100 messages of")
        print(
            f"{ACTIVE_CONNECTIONS} active ones take {median_ratio:.2f} times as long in the median of {ROUNDS} rounds,"
        )
        print(f"{best_ratio:.2f} times in the best rounds")
    assert min(best_ratio, median_ratio) <= 1.5
    assert each < 10_000


# Signals at random moments

SIGNALS, SERVERS = 200, 4
MAX_STOP_SECONDS = 20

# A server with handlers that echo and handlers that sleep; its argument is the grace period.
SLEEPING = f"""
def handler(conn):
    while data := (yield Read(conn, 65536)):
        if data == b"sleep":
            yield Write(conn, data)
            yield Sleep(3600)
        yield Write(conn, data)

until_interrupted(run, serve(handler, {LOCAL!r}, 0, grace=float(sys.argv[1]), ready=ready))
"""
REPORT = re.compile(
    r"listening at \d+\n"
    r"(the server stops; \d+ connections? may take [\d.]+ s to finish \(a second signal stops at once\)\n)?"
    r"(the server has stopped; after [\d.]+ s of grace it cancelled \d+ connections?: .*\n)?"
)


def talk(address, stop):
    """Connect, talk and leave, again and again, until `stop` is set or the server has ended."""
    while not stop.is_set():
        try:
            with dial(address) as conn:
                for _ in range(5):
                    if not asked(conn, b"hello"):
                        return
        except ConnectionError:
            return


@contextmanager
def load(addresses):
    """Let two clients talk to each server; give the event that stops them."""
    stop = Event()
    threads = [Thread(target=talk, args=(address, stop)) for address in addresses for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)


def signal_once(random):
    """Send a signal to each of some servers under load, at random moments; return what went wrong."""
    with ExitStack() as running:
        programs = [running.enter_context(started("-c", PREFACE + SLEEPING, 0.2)) for _ in range(SERVERS)]
        addresses = [(LOCAL, int(program.expect(r"listening at (\d+)\n")[1])) for program in programs]
        with load(addresses) as stop:
            sent = []
            for program in programs:
                _ = stop.wait(random.uniform(0, 0.02))
                sent.append((program, random.choice([signal.SIGINT, signal.SIGTERM]), monotonic()))
                program.process.send_signal(sent[-1][1])
            return [problem_of(*entry) for entry in sent]


def signal_twice(random, signum):
    """Stop a server with a long grace period, and a random moment later stop it at once; return what went wrong."""
    with serving(SLEEPING, 3600) as (program, address), dial(address) as sleeper, dial(address) as talker:
        assert asked(sleeper, b"sleep") == b"sleep"
        program.process.send_signal(signum)
        program.expect("the server stops")
        for _ in range(random.randrange(10)):
            assert asked(talker, b"still served") == b"still served"
        talker.sendall(b"this is in the socket buffer")
        start = monotonic()
        program.process.send_signal(signum)
        return [problem_of(program, signum, start)]


def problem_of(program, signum, start):
    """Wait for the end of a program; return None if it ended as it should, else what it did."""
    status, took, said, errors = program.wait(), monotonic() - start, program.said, program.errors()
    if status == 128 + signum and took < MAX_STOP_SECONDS and REPORT.fullmatch(said) and errors == "":
        return None
    return signal.Signals(signum).name, status, f"{took:.1f} s", said, errors


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_a_server_at_once(signum):
    assert signal_twice(random.Random(1), signum) == [None]


def test_a_signal_at_any_moment_stops_a_server_cleanly_and_a_second_one_at_once(capsys):
    seed = random.randrange(1 << 32)
    with capsys.disabled():
        print(f"\n{SIGNALS} signals: seed {seed}")
    numbers, problems = random.Random(seed), []
    for _ in range(SIGNALS // (SERVERS + 1)):
        problems += signal_once(numbers)
        problems += signal_twice(numbers, numbers.choice([signal.SIGINT, signal.SIGTERM]))
    assert [problem for problem in problems if problem is not None] == [], f"seed {seed}"
