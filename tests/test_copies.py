"""Each copy for speed does what its plain twin does (ARCHITECTURE.md has the table of copies).

A twin takes the place of the copy for one run. Random programs, or a conversation over sockets, must then write the
same trace, event by event.
"""

from __future__ import annotations

import re
import socket
from math import inf
from pathlib import Path

import pytest
from helpers import no_file_is_left_open  # noqa: F401
from hypothesis import HealthCheck, Phase, given, seed, settings
from random_programs import difference, listing, programs
from test_reference import OnMinisched, hypothesis_files_in_a_temporary_folder, played  # noqa: F401

from minisched import (
    Cancel,
    FileOperation,
    Join,
    OpenDatagram,
    Poller,
    Read,
    RecvFrom,
    SendTo,
    Socket,
    Spawn,
    Stream,
    TaskCancelled,
    Watcher,
    Write,
    gather,
)
from minisched.io import _selectors2, poller
from minisched.io.incoming import StreamRead
from minisched.kernel import Kernel, Scope, Task
from minisched.kernel.scoping import enter, leave
from minisched.lab import TextTrace
from minisched.net.datagrams import DatagramCall
from minisched.tasks.scopes import ScopeContext
from minisched.tasks.timers import Timers
from minisched.testing import run

ROOT = Path(__file__).parents[1]
PROGRAMS = 50


def plain_enter(scope):
    """Enter a scope by the general function."""
    task = scope.owner
    enter(task, scope)
    if scope.seconds < inf or scope._deadline < inf:
        timers = task.kernel.service(Timers)
        scope._deadline = min(scope._deadline, timers.now() + scope.seconds)
        scope._start_timer(timers)
    return scope


def plain_exit(scope, kind, error, trace):
    """Leave a scope by the general function."""
    rest = leave(scope, error)
    return rest is not error and scope.swallow(rest, error)


def plain_handle(call, kernel, task):
    """Read, write, receive or send as every other operation on a file."""
    return FileOperation.handle(call, kernel, task)


def plain_select(self, timeout):
    """Poll, and dispatch each event."""
    nothing_to_poll = timeout == 0 and len(self.registered) <= (self.internal_waiters if self.kernel.ready else 0)
    events = [] if nothing_to_poll else self._poll(timeout)
    self.generation += 1
    for fd, mask in events:
        if fd in self.registered:
            state = self.registered[fd]
            self.dispatch(state, _selectors2.events_of(mask) & state.events)
    if self.kernel.watch is not None:
        self.kernel.watch.poll(timeout, len(events))
    return len(events)


def plain_poll_of(selector):
    """Poll by `select` of the selector."""
    return lambda timeout: [(key.fd, _selectors2.mask_of(events)) for key, events in selector.select(timeout)]


IN_PROGRAMS = {
    "`ScopeContext.__enter__`": (ScopeContext, "__enter__", plain_enter),
    "`ScopeContext.__exit__`": (ScopeContext, "__exit__", plain_exit),
}
ON_SOCKETS = {
    "`Read.handle`": (Read, "handle", plain_handle),
    "`Write.handle`": (Write, "handle", plain_handle),
    "`Poller.select`": (Poller, "select", plain_select),
    "`poll_by_epoll`": (poller, "poll_of", plain_poll_of),
}
ON_DATAGRAMS = {"`DatagramCall.handle`": (DatagramCall, "handle", plain_handle)}
ON_STREAMS = {"`StreamRead.handle`": (StreamRead, "handle", plain_handle)}
BY_FIELDS = "`Kernel.spawn`"


def test_each_copy_of_the_architecture_is_compared_with_its_twin():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("<!-- table copies -->")[2].partition("<!-- end of table -->")[0]
    assert set(re.findall(r"^\| (`[^`]+`) \(", table, re.MULTILINE)) == {
        *IN_PROGRAMS,
        *ON_SOCKETS,
        *ON_DATAGRAMS,
        *ON_STREAMS,
        BY_FIELDS,
    }


def each_program(check):
    """Call `check(program)` for random programs, the same ones in each run."""

    @seed(1)
    @settings(
        max_examples=PROGRAMS,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs())
    def checked(program):
        check(program)

    checked()


@pytest.mark.parametrize("copy", IN_PROGRAMS)
def test_a_program_runs_the_same_with_the_plain_twin(copy):
    kind, name, twin = IN_PROGRAMS[copy]
    used = []

    def counted(*arguments):
        used.append(copy)
        return twin(*arguments)

    def check(program):
        usual = played(program, OnMinisched(program))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, name, counted)
            plain = played(program, OnMinisched(program))
        assert difference(usual, plain, ("copy", "twin")) is None, listing(program)

    each_program(check)
    assert len(used) > 20


class SpawnedPlainly(Watcher):
    """Compares the fields of each new task with those of a new scope that is attached by the general method."""

    spawns = 0

    def spawn(self, task):
        self.spawns += 1
        parent, sibling = task.parent, task.prev_sibling
        plain = Scope()
        plain.attach(parent)  # after the task: its previous sibling
        assert plain.prev_sibling is task and parent.last_child is plain and task.next_sibling is plain
        plain.detach()
        task.detach()
        assert parent.last_child is sibling and (sibling is None or sibling.next_sibling is None)
        task.attach(parent)
        assert (task.parent, task.prev_sibling, parent.last_child) == (parent, sibling, task)
        assert task.effective is task.effective_now()
        fresh = Scope()
        for field in ("requested", "cancelled_caught", "last_child", "next_sibling", "shield"):
            assert getattr(task, field) == getattr(fresh, field), field
        missing = [field for field in Task.__slots__ if not hasattr(task, field)]
        assert missing == ["failure_traceback"]  # set when the task ends


def test_a_spawned_task_has_the_fields_of_an_attached_scope():
    spawns = 0

    def check(program):
        nonlocal spawns
        watcher = SpawnedPlainly()
        interpreter = OnMinisched(program)
        spawn = Kernel.spawn

        def watched(kernel, *arguments, **keywords):
            task = spawn(kernel, *arguments, **keywords)
            watcher.spawn(task)
            return task

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Kernel, "spawn", watched)
            played(program, interpreter)
        spawns += watcher.spawns

    each_program(check)
    assert spawns > PROGRAMS


def conversation():
    """Return the trace and the result of two tasks that talk over a socket pair, in small and in large pieces."""
    ours, theirs = (Socket(fileno=end.detach(), peer="peer") for end in socket.socketpair())

    def echo():
        while data := (yield Read(theirs, 4096)):
            yield Write(theirs, data)
        theirs.shutdown(socket.SHUT_WR)

    def talk():
        total = 0
        for size in (1, 4096, 300_000, 10):
            writer = yield Spawn(send(size))
            left = size
            while left:
                left -= len((yield Read(ours, 4096)))
            yield Join(writer)
            total += size
        waiting = yield Spawn(receive(), keep=True)
        yield
        yield Cancel(waiting)
        with pytest.raises(TaskCancelled):
            yield Join(waiting)
        ours.shutdown(socket.SHUT_WR)
        return total, (yield Read(ours, 1))

    def send(size):
        yield Write(ours, bytes(size))

    def receive():
        yield Read(ours, 1)

    lines = []
    with ours, theirs:
        result = run(gather(talk(), echo()), watch=[TextTrace(lines.append)])
    return lines, result


def exchange():
    """Return the trace and the result of two tasks that exchange datagrams; some of them have to wait."""

    def echo(sock):
        while True:
            data, sender = yield RecvFrom(sock)
            yield SendTo(sock, data, sender)

    def talk():
        got = []
        with (yield OpenDatagram(("127.0.0.1", 0))) as server, (yield OpenDatagram(remote=server.address)) as client:
            task = yield Spawn(echo(server), "echo", keep=True)
            for count in (1, 5):
                for number in range(count):
                    yield SendTo(client, b"%d" % number)
                for _ in range(count):
                    got.append((yield RecvFrom(client))[0])
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)
        return got

    lines = []
    result = run(talk(), watch=[TextTrace(lines.append)])
    return [re.sub(r"\d{3,}", "PORT", line) for line in lines], result


def lines_of_text():
    """Return the trace and the result of two tasks that exchange lines; some of them have to wait."""
    ours, theirs = socket.socketpair()

    def echo():
        with Stream(Socket(fileno=theirs.detach(), peer="peer")) as stream:
            while line := (yield stream.readline()):
                yield stream.write(line)

    def talk():
        got = []
        with Stream(Socket(fileno=ours.detach(), peer="peer")) as stream:
            for text in (b"one\n", b"two\nthree\nfo", b"ur\n"):
                yield stream.write(text)
                for _ in range(text.count(b"\n")):
                    got.append((yield stream.readline()))
            yield stream.write_eof()
            got.append((yield stream.read(1)))
        return got

    lines = []
    result = run(gather(talk(), echo()), watch=[TextTrace(lines.append)])
    return lines, result


TALKS = {**dict.fromkeys(ON_SOCKETS, conversation), **dict.fromkeys(ON_DATAGRAMS, exchange)} | dict.fromkeys(
    ON_STREAMS, lines_of_text
)


@pytest.mark.parametrize("copy", TALKS)
def test_a_conversation_over_sockets_runs_the_same_with_the_plain_twin(copy, monkeypatch):
    talk = TALKS[copy]
    usual = talk()
    kind, name, twin = (ON_SOCKETS | ON_DATAGRAMS | ON_STREAMS)[copy]
    used = []

    def counted(*arguments):
        used.append(copy)
        return twin(*arguments)

    monkeypatch.setattr(kind, name, counted)
    assert talk() == usual and used
