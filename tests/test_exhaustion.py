"""Servers that run out of file descriptors, each in a process of its own with a low limit."""

from __future__ import annotations

import select
import sys
from contextlib import ExitStack

import pytest
from helpers import no_file_is_left_open  # noqa: F401
from programs import started
from servers import LOCAL, asked, dial, seconds_of_cpu, serving

pytestmark = pytest.mark.slow  # each test runs a program
resource = pytest.importorskip("resource", reason="this platform has no limit of files")

# The start of each program: its first two arguments are the soft and the hard limit of open files.
LOW_LIMIT = """
import resource, sys

resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
"""
LIMITS = f"""
options = {{"max_connections": int(sys.argv[3])}} if len(sys.argv) > 3 else {{}}

def report(listener):
    say("may open", *resource.getrlimit(resource.RLIMIT_NOFILE))
    ready(listener)

until_interrupted(run, serve(echo, {LOCAL!r}, 0, ready=report, grace=0, **options))
"""


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one_at_the_start():
    with serving(LOW_LIMIT + LIMITS, 64, 512) as (program, _):
        assert program.said.startswith("may open 512 512\n")
        assert program.interrupt() == 130


def test_a_hard_limit_below_max_connections_is_logged():
    with serving(LOW_LIMIT + LIMITS, 64, 128, 100) as (program, _):
        assert program.said.splitlines()[0] == (
            "max_connections is 100, but this process may open only 128 files: raise the limit (ulimit -Hn)"
        )


# A server whose handlers open more files than its limits allow for, and which logs nothing before that. The program
# does not import `logging`: the server has to import it before the file descriptors run out.
GREEDY = f"""
import os
from minisched import *
from minisched.serving import connections as server

def greedy(conn):
    copies = []
    try:
        for _ in range(5):
            copies.append(os.dup(conn.fileno()))
    except OSError:
        pass
    try:
        while data := (yield Read(conn, 100)):
            yield Write(conn, data)
    finally:
        for fd in copies:
            os.close(fd)

server.PAUSE_SECONDS = 0.05
run(serve(greedy, {LOCAL!r}, 0, grace=0, ready=lambda listener: print("listening at", listener.address[1], flush=True)))
"""
QUIET_SECONDS = 0.7  # many pauses


@pytest.mark.skipif(sys.platform != "linux", reason="the CPU time of a process is read from /proc")
def test_a_server_without_file_descriptors_logs_that_once_waits_without_spinning_and_recovers():
    with started("-c", LOW_LIMIT + GREEDY, 128, 128, terminal="stderr") as program, ExitStack() as closing:
        address = LOCAL, int(program.process.stdout.readline().split()[-1])
        conns = []
        for number in range(60):
            conns.append(closing.enter_context(dial(address)))
            if number < 15:  # these take 6 files each
                assert asked(conns[-1], b"served") == b"served"
        program.expect(r"can't accept \(\d+ connections open\): Too many open files; retrying every 0.05 s\r\n")
        used = seconds_of_cpu(program.process.pid)
        more, _, _ = select.select([program.fd], [], [], QUIET_SECONDS)
        assert more == [], "the server logged more"
        assert seconds_of_cpu(program.process.pid) - used < QUIET_SECONDS / 5, "it spins"
        assert asked(conns[0], b"served") == b"served"
        for conn in conns[:-1]:
            conn.close()
        assert asked(conns[-1], b"served, too") == b"served, too"
        with dial(address) as new:
            assert asked(new, b"a new client") == b"a new client"
        program.process.terminate()
        program.wait()
        assert program.said.count("can't accept") == 1
        assert "Traceback" not in program.said
