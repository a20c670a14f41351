"""Where files run out, for a server in a process of its own that may have few of them."""

from __future__ import annotations

import select
import sys
from contextlib import ExitStack

import pytest
from helpers import no_file_is_left_open  # noqa: F401
from programs import started
from servers import LOCAL, asked, dial, seconds_of_cpu, serving

resource = pytest.importorskip("resource", reason="this platform has no limit of files")

# What comes first in a program: how many files it may have, as it is told by its first two arguments.
FEW = """
import resource, sys

resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
"""
LIMITS = f"""
options = {{"max_connections": int(sys.argv[3])}} if len(sys.argv) > 3 else {{}}

def tells(listener):
    say("may have", *resource.getrlimit(resource.RLIMIT_NOFILE))
    ready(listener)

until_interrupted(run, serve(echo, {LOCAL!r}, 0, ready=tells, grace=0, **options))
"""


def test_the_soft_limit_of_files_is_raised_to_the_hard_one_at_the_start():
    with serving(FEW + LIMITS, 64, 512) as (program, _):
        assert program.said.startswith("may have 512 512\n")
        assert program.interrupt() == 130


def test_a_hard_limit_that_is_too_low_for_what_is_asked_for_is_said():
    with serving(FEW + LIMITS, 64, 128, 100) as (program, _):
        assert program.said.splitlines()[0] == (
            "max_connections is 100, but this process may open only 128 files: raise the limit (ulimit -Hn)"
        )


# A server whose handlers take more files each than its limits foresee, and which has nothing to say before that. It
# does not import `logging`: that would itself take files.
TAKES = f"""
import os
from minisched import *
from minisched import server

def takes(conn):
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

server.PAUSE = 0.05
run(serve(takes, {LOCAL!r}, 0, grace=0, ready=lambda listener: print("listening at", listener.address[1], flush=True)))
"""
QUIET = 0.7  # seconds: many pauses


@pytest.mark.skipif(sys.platform != "linux", reason="what a process uses is asked of /proc")
def test_a_server_without_files_says_so_once_and_waits_quietly_and_serves_again_when_there_are_some():
    with started("-c", FEW + TAKES, 128, 128, terminal="stderr") as program, ExitStack() as closing:
        address = LOCAL, int(program.process.stdout.readline().split()[-1])
        conns = []
        for number in range(60):
            conns.append(closing.enter_context(dial(address)))
            if number < 15:  # these take 6 files each
                assert asked(conns[-1], b"served") == b"served"
        program.expect(r"can't accept, with \d+ connections: Too many open files; trying again each 0.05 s\r\n")
        used = seconds_of_cpu(program.process.pid)
        more, _, _ = select.select([program.fd], [], [], QUIET)
        assert more == [], "it said more"
        assert seconds_of_cpu(program.process.pid) - used < QUIET / 5, "it does not wait, but spins"
        assert asked(conns[0], b"served") == b"served"
        for conn in conns[:-1]:
            conn.close()
        assert asked(conns[-1], b"served, too") == b"served, too"
        with dial(address) as new:
            assert asked(new, b"and who comes now") == b"and who comes now"
        program.process.terminate()
        program.wait()
        assert program.said.count("can't accept") == 1
        assert "Traceback" not in program.said
