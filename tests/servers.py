"""What the tests of servers share: servers in virtual time and in processes, their clients, and what they cost."""

from __future__ import annotations

import logging
import os
import socket
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from helpers import open_numbers, until
from programs import SECONDS, started

from minisched import Cancel, Join, Poller, Read, Sleep, Spawn, TaskCancelled, Timers, Write

LOCAL = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset

# What the programs share. What is logged goes to standard output: standard error has to stay empty.
PREFACE = """
import logging, os, signal, socket, sys
from minisched import *

logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # one write: others say things, too
    sys.stdout.flush()

def ready(listener):
    say("listening at", listener.address if isinstance(listener.address, str) else listener.address[1])

def echo(conn):
    while data := (yield Read(conn, 65536)):
        yield Write(conn, data)

def until_interrupted(main, *arguments, **keywords):
    try:
        main(*arguments, **keywords)
    except KeyboardInterrupt:
        sys.exit(130)
"""
ECHO = f"until_interrupted(run, serve(echo, {LOCAL!r}, 0, ready=ready))"


@pytest.fixture
def path():
    """Return a short path, in a directory of its own, that does not exist."""
    with tempfile.TemporaryDirectory() as directory:
        yield os.path.join(directory, "sock")


@pytest.fixture
def said(caplog):
    """Return a function that gives what has been logged so far, without the sentence that a server stops."""
    caplog.set_level(logging.INFO, "minisched")
    return lambda: [text for text in caplog.messages if not text.startswith("the server stops")]


# In virtual time


def echo(conn):
    while data := (yield Read(conn, 65536)):
        yield Write(conn, data)


def begun(body, *, listeners=1):
    """Start what `body(ready)` makes; return its task and its listeners."""
    ready = []
    server = yield Spawn(body(ready.append), "server", keep=True)
    yield from until(lambda: len(ready) == listeners)
    return server, ready


def stopped(server):
    """Stop a server; wait for its end."""
    yield Cancel(server)
    with pytest.raises(TaskCancelled):
        yield Join(server)


def settled():
    """Wait until everybody else waits: virtual time passes only then."""
    return Sleep(0.001)


def handlers(kernel):
    """Return the tasks that serve a connection."""
    return [task for task in kernel.tasks() if task.name.endswith(tuple("0123456789"))]


# In a process


@contextmanager
def serving(text, *arguments, path=()):
    """Start a server; give its Program, and the address where it listens."""
    with started("-c", PREFACE + text, *arguments, path=path) as program:
        where = program.expect(r"listening at (.+)\n")[1]
        yield program, (LOCAL, int(where)) if where.isdigit() else where


def dial(address):
    """Return a blocking socket that is connected; whatever it does takes a minute at most."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    try:
        sock.settimeout(SECONDS)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def client_of(address):
    """Return a socket that is connected, and never blocks: for a server in the same thread."""
    client = dial(address)
    client.setblocking(False)
    return client


def asked(conn, word):
    """Send a word to an echo server; return what comes back."""
    conn.sendall(word)
    return received(conn, len(word))


def received(conn, size):
    """Return so many bytes, less at the end."""
    data = bytearray()
    while len(data) < size and (more := conn.recv(size - len(data))):
        data += more
    return bytes(data)


def reset(sock):
    """Close a connection in such a way that the other side is told of a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def held(kernel):
    """Return all that a run holds, to be compared with what it holds later."""
    poller, timers = kernel.service(Poller), kernel.service(Timers)
    return {
        "tasks": [task.name for task in kernel.tasks()],
        "timers": len(timers.alive()),
        "watched": sorted(poller.entries),
        "registered": sorted(poller.selector.get_map()),
        "foreign": len(poller.foreign),
        "files": open_numbers(),
    }


def seconds_of_cpu(pid):
    """Return what a process has used so far. Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid):
    """Return the bytes that a process has in memory. Linux."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def lives(pid):
    """Return whether a process exists that has not ended. Linux knows of one that nobody has waited for."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


def come_true(condition, what):
    """Ask again until `condition()` is true, of another process, which tells us nothing. Bounded."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, f"it never came true: {what}"
