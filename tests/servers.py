"""Helpers for tests of servers: servers in virtual time and in processes, their clients, and their resources."""

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

# The common beginning of all server programs. They log to standard output, since standard error has to stay empty.
PREFACE = """
import logging, os, signal, socket, sys
from minisched import *

logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # a single write, since other processes write, too
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
    """Return a short path that does not exist, in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        yield os.path.join(directory, "sock")


@pytest.fixture
def said(caplog):
    """Return a function that returns the messages logged so far, except for "the server stops"."""
    caplog.set_level(logging.INFO, "minisched")
    return lambda: [text for text in caplog.messages if not text.startswith("the server stops")]


# In virtual time.


def echo(conn):
    while data := (yield Read(conn, 65536)):
        yield Write(conn, data)


def begun(body, *, listeners=1):
    """Spawn the server `body(ready)`; return its task and its listeners when all of them listen."""
    ready = []
    server = yield Spawn(body(ready.append), "server", keep=True)
    yield from until(lambda: len(ready) == listeners)
    return server, ready


def stopped(server):
    """Cancel a server and wait until it has finished."""
    yield Cancel(server)
    with pytest.raises(TaskCancelled):
        yield Join(server)


def settled():
    """Return a sleep that ends when all other tasks wait: only then does virtual time pass."""
    return Sleep(0.001)


def handlers(kernel):
    """Return the tasks that serve connections."""
    return [task for task in kernel.tasks() if task.name.endswith(tuple("0123456789"))]


# In a process.


@contextmanager
def serving(text, *arguments, path=()):
    """Start a server; yield its Program and its address."""
    with started("-c", PREFACE + text, *arguments, path=path) as program:
        address = program.expect(r"listening at (.+)\n")[1]
        yield program, (LOCAL, int(address)) if address.isdigit() else address


def dial(address):
    """Return a connected blocking socket with a timeout."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    try:
        sock.settimeout(SECONDS)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def client_of(address):
    """Return a connected non-blocking socket, for a server in the same thread."""
    client = dial(address)
    client.setblocking(False)
    return client


def asked(conn, word):
    """Send a word to an echo server; return the echo."""
    conn.sendall(word)
    return received(conn, len(word))


def received(conn, size):
    """Receive `size` bytes, or fewer at the end of the stream."""
    data = bytearray()
    while len(data) < size and (more := conn.recv(size - len(data))):
        data += more
    return bytes(data)


def reset(sock):
    """Close a connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def held(kernel):
    """Return the tasks, timers and files of a run, to be compared with those at a later time."""
    poller, timers = kernel.service(Poller), kernel.service(Timers)
    return {
        "tasks": [task.name for task in kernel.tasks()],
        "timers": len(timers.alive()),
        "watched": sorted(poller.registered),
        "registered": sorted(poller.selector.get_map()),
        "foreign": len(poller.one_shot),
        "files": open_numbers(),
    }


def seconds_of_cpu(pid):
    """Return the CPU seconds that a process has used so far. Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid):
    """Return the resident memory of a process in bytes. Linux only."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def lives(pid):
    """Return whether a process is running. On Linux, an unreaped process (a zombie) does not count."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


def come_true(condition, what):
    """Poll `condition()`, which asks about another process, until it is true. With a timeout."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, f"timed out, waiting for: {what}"
