"""A fork inside a task of a running server: the child's run ends with an error, and the parent's goes on."""

from __future__ import annotations

import os
import re
import signal
from contextlib import contextmanager, suppress

import pytest
import servers
from helpers import no_file_is_left_open  # noqa: F401
from servers import asked, dial, lives, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")]
path = servers.path

# A server that forks on request, in a task or in a thread; the second argument says what the child does then.
SERVER = """
import warnings

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads

def forks():
    pid = os.fork()
    if not pid:
        child()
    return pid

def handler(conn):
    while data := (yield Read(conn, 65536)):
        if data == b"fork in a task":
            pid = os.fork()
            say("forked", pid or "child")
            yield Now()  # no checkpoint
        elif data == b"fork in a task, at once":
            say("forked", forks())
        elif data == b"fork in a thread":
            say("forked", (yield InThread(forks)))
        yield Write(conn, data)

def ticking():
    while True:
        yield Sleep(0.01)

def main():
    yield Spawn(ticking(), daemon=True)
    yield from serve_unix(handler, sys.argv[1], grace=0, ready=ready)

def child():
    if sys.argv[2] == "serve":
        try:
            run(serve_unix(echo, sys.argv[1] + "-2", grace=0, ready=lambda listener: say("child listens")))
        except KeyboardInterrupt:
            say("child was interrupted")
        except SystemExit as end:
            say("child ends with status", end.code)
    elif sys.argv[2] == "exit":
        sys.exit("child exits")
    os._exit(0)

parent = os.getpid()
try:
    run(main())
except SyscallError as error:
    assert os.getpid() != parent
    say("child:", error)
    child()
except KeyboardInterrupt:
    sys.exit(130)
"""
SENTENCE = (
    "this process was forked inside a task and has copies of the parent's files, timers and tasks; a run can't go on "
    "in both processes: fork before `run` (serve_workers), start programs with subprocess, or end the child with "
    "os._exit"
)


@contextmanager
def forked(path, then, where="task"):
    """Start a server with two connections, request a fork on one; yield the program, the connections and the child."""
    with serving(SERVER, path, then) as (program, _), dial(path) as asks, dial(path) as other:
        for _ in range(3):  # after that, both are registered
            assert asked(asks, b"before") == b"before"
            assert asked(other, b"before") == b"before"
        word = f"fork in a {where}".encode()
        assert asked(asks, word) == word
        child = int(program.expect(r"forked (\d+)\n")[1])
        try:
            yield program, asks, other, child
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def assert_untouched(program, path, asks, other):
    """Assert that the parent still serves both connections and new ones, and ends as usual."""
    for conn in (asks, other):
        assert asked(conn, b"after") == b"after"
    with dial(path) as new:
        assert asked(new, b"new") == b"new"
    assert os.path.exists(path)
    assert program.interrupt() == 130
    assert not os.path.exists(path)


def test_the_childs_run_ends_with_an_error_and_the_parents_goes_on(path):
    with forked(path, "end") as (program, asks, other, child):
        program.expect(re.escape(f"child: {SENTENCE}\n"))
        servers.come_true(lambda: not lives(child), "the child has ended")
        assert_untouched(program, path, asks, other)
        assert program.errors() == ""


def test_a_child_that_ends_by_sys_exit_does_not_disturb_the_parent(path):
    with forked(path, "exit") as (program, asks, other, child):
        program.expect("child: ")
        servers.come_true(lambda: not lives(child), "the child has ended")
        assert_untouched(program, path, asks, other)
        assert program.errors() == "child exits\n"


@pytest.mark.parametrize("where", ["task", "task, at once", "thread"])
@pytest.mark.parametrize(
    ("signum", "says"),
    [(signal.SIGINT, "child was interrupted"), (signal.SIGTERM, "child ends with status 143")],
    ids=["SIGINT", "SIGTERM"],
)
def test_the_child_may_begin_a_run_of_its_own_with_its_own_signals(where, signum, says, path):
    with forked(path, "serve", where) as (program, asks, other, child):
        program.expect("child listens\n")
        with dial(f"{path}-2") as conn:
            assert asked(conn, b"the child's") == b"the child's"
            for one in (asks, other):
                assert asked(one, b"beside it") == b"beside it"
            os.kill(child, signum)
            assert conn.recv(1) == b""
        program.expect(f"{says}\n")
        assert_untouched(program, path, asks, other)
        assert ("child:" in program.said) == (where == "task")
        assert program.errors() == ""
