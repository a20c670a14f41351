"""Servers under load, each a process beside its clients' processes: what takes seconds, and what has to be measured."""

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

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what a process uses is asked of /proc")
path = servers.path

# Clients in a process of their own. They say what they have to say on standard output.
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
    """Start a process of clients; give its Program."""
    with started("-c", CLIENTS + text, address[1], *arguments) as program:
        yield program


# A server that tells what it holds to the connection that asks, and what its limits of files are.
TELLS = f"""
sys.path.insert(0, {os.path.dirname(__file__)!r})
from helpers import Ask
from servers import held

def tells(conn):
    while data := (yield Read(conn, 65536)):
        yield Write(conn, (repr((yield Ask(held))) + "\\n").encode() if data == b"held?" else data)

until_interrupted(run, serve(tells, {LOCAL!r}, 0, grace=0, ready=ready))
"""


def what_it_holds(conn):
    """Return what the server holds beside this connection: the names of tasks without their numbers."""
    conn.sendall(b"held?")
    text = b""
    while not text.endswith(b"\n"):
        text += conn.recv(65536)
    return text


# Connections that come and go

LEAVE = """
for number in range(int(sys.argv[2])):
    sock = dial((host, port))
    if number % 3 == 1:
        sock.send(b"x")
    if number % 3 == 2:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    sock.close()
say("done")
"""


@pytest.mark.slow
@on_linux
def test_ten_thousand_connections_that_leave_at_once_leave_nothing():
    processes, each = 4, 2500
    with serving(TELLS) as (program, address), dial(address) as asks:
        assert asked(asks, b"x") == b"x"

        def wave(each):
            with ExitStack() as running:
                waves = [running.enter_context(clients(LEAVE, address, each)) for _ in range(processes)]
                for one in waves:
                    one.expect("done")

        wave(25)
        before, memory = settled_state(asks), memory_of(program.process.pid)
        wave(each)
        assert settled_state(asks) == before
        grown = memory_of(program.process.pid) - memory
        assert grown < 2_000_000, f"it has grown by {grown} bytes"
        assert program.interrupt() == 130
        assert program.said.count("\n") == 2, "it said more than where it listens, and that one was still there"
        assert program.errors() == ""


def settled_state(asks):
    """Return what a server holds, once that is the same as without any other connection."""
    states = []
    come_true(lambda: states.append(what_it_holds(asks)) or b"tells-" in states[-1], "it answers")
    come_true(lambda: states.append(what_it_holds(asks)) or states[-1].count(b"tells-") == 1, "the others are gone")
    return states[-1]


# Connections that stay, and say nothing

IDLE, ACTIVE, MESSAGES, ROUNDS = 5000, 50, 40, 9
FILES = IDLE + ACTIVE + 100

STAY = """
import resource, signal

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
conns = [dial((host, port)) for _ in range(int(sys.argv[2]))]
for conn in conns:
    conn.sendall(b"x")
for conn in conns:
    assert conn.recv(1) == b"x"
say("there")
signal.pause()
"""


def slowest_of_a_hundred(conns):
    """Return within which time 99 of 100 messages come back, of a round in which all connections talk at once."""
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


@pytest.mark.slow
@on_linux
def test_five_thousand_idle_connections_do_not_slow_down_fifty_active_ones(capsys):
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES:
        pytest.skip(f"a process may not open {FILES} files here (ulimit -Hn)")
    with ExitStack() as running:
        (_, one), (beside, two) = [running.enter_context(serving(ECHO)) for _ in range(2)]
        few, many = [[running.enter_context(dial(address)) for _ in range(ACTIVE)] for address in (one, two)]
        for conns in (few, many):
            _ = slowest_of_a_hundred(conns)
        memory = memory_of(beside.process.pid)
        running.enter_context(clients(STAY, two, IDLE)).expect("there")
        each = (memory_of(beside.process.pid) - memory) / IDLE
        pairs = [(slowest_of_a_hundred(few), slowest_of_a_hundred(many)) for _ in range(ROUNDS)]
    best = min(many for _, many in pairs) / min(few for few, _ in pairs)
    middle = median(many / few for few, many in pairs)
    with capsys.disabled():
        print(f"\n{IDLE} idle connections: {each:,.0f} bytes each; with them, 99 of 100 messages of {ACTIVE} others")
        print(f"take {middle:.2f} times as long in the median of {ROUNDS} rounds, {best:.2f} in the best ones")
    assert min(best, middle) <= 1.5
    assert each < 10_000


# Signals at random moments

SIGNALS, AT_ONCE = 200, 4
IN_TIME = 20  # seconds

# It serves what talks and what sleeps; the argument says how long both may take to end.
SERVES = f"""
def talks(conn):
    while data := (yield Read(conn, 65536)):
        if data == b"sleep":
            yield Write(conn, data)
            yield Sleep(3600)
        yield Write(conn, data)

until_interrupted(run, serve(talks, {LOCAL!r}, 0, grace=float(sys.argv[1]), ready=ready))
"""
REPORT = re.compile(
    r"listening at \d+\n"
    r"(the server stops; \d+ connections? may take [\d.]+ s to end \(a second signal stops at once\)\n)?"
    r"(the server has stopped; after [\d.]+ s of grace it cut \d+ connections?: .*\n)?"
)


def talk(address, over):
    """Come, talk, and leave, again and again, until `over`, or the server is gone."""
    while not over.is_set():
        try:
            with dial(address) as conn:
                for _ in range(5):
                    if not asked(conn, b"hello"):
                        return
        except ConnectionError:
            return


@contextmanager
def load(addresses):
    """Let two clients talk to each server; give what says that it is over."""
    over = Event()
    threads = [Thread(target=talk, args=(address, over)) for address in addresses for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield over
    finally:
        over.set()
        for thread in threads:
            thread.join(SECONDS)


def signal_once(random):
    """Send a signal to each of some servers under load, at random moments; return what was wrong."""
    with ExitStack() as running:
        programs = [running.enter_context(started("-c", PREFACE + SERVES, 0.2)) for _ in range(AT_ONCE)]
        addresses = [(LOCAL, int(program.expect(r"listening at (\d+)\n")[1])) for program in programs]
        with load(addresses) as over:
            sent = []
            for program in programs:
                _ = over.wait(random.uniform(0, 0.02))
                sent.append((program, random.choice([signal.SIGINT, signal.SIGTERM]), monotonic()))
                program.process.send_signal(sent[-1][1])
            return [what_was_wrong(*one) for one in sent]


def signal_twice(random, signum):
    """Stop a server that would wait for long, and then at once, a random moment later; return what was wrong."""
    with serving(SERVES, 3600) as (program, address), dial(address) as sleeper, dial(address) as talker:
        assert asked(sleeper, b"sleep") == b"sleep"
        program.process.send_signal(signum)
        program.expect("the server stops")
        for _ in range(random.randrange(10)):
            assert asked(talker, b"still served") == b"still served"
        talker.sendall(b"and this is on its way")
        start = monotonic()
        program.process.send_signal(signum)
        return [what_was_wrong(program, signum, start)]


def what_was_wrong(program, signum, start):
    status, took, said, errors = program.wait(), monotonic() - start, program.said, program.errors()
    if status == 128 + signum and took < IN_TIME and REPORT.fullmatch(said) and errors == "":
        return None
    return signal.Signals(signum).name, status, f"{took:.1f} s", said, errors


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_waits_for_its_connections_ends_at_once_at_a_second_signal(signum):
    assert signal_twice(random.Random(1), signum) == [None]


@pytest.mark.slow
def test_a_signal_at_any_moment_is_a_clean_end_and_a_second_one_an_end_at_once(capsys):
    seed = random.randrange(1 << 32)
    with capsys.disabled():
        print(f"\n{SIGNALS} signals: seed {seed}")
    numbers, wrong = random.Random(seed), []
    for _ in range(SIGNALS // (AT_ONCE + 1)):
        wrong += signal_once(numbers)
        wrong += signal_twice(numbers, numbers.choice([signal.SIGINT, signal.SIGTERM]))
    assert [one for one in wrong if one is not None] == [], f"seed {seed}"
