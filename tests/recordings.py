"""A program recorded, and replayed without a world: for the tests of recordings."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from minisched.bridges import thread_pool
from minisched.lab import TextTrace, record, replay, world


def recording_path(tmp_path):
    """Return the path of a recording: a fixture."""
    return str(tmp_path / "run.jsonl")


def refused_world(monkeypatch):
    """Return a context without sockets, files, threads and a clock: a fixture."""

    def none(*args, **keywords):
        raise AssertionError("the replay has asked the operating system")

    @contextmanager
    def refuse():
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "__init__", none)
            patch.setattr(socket, "socketpair", none)
            patch.setattr(socket, "getaddrinfo", none)
            patch.setattr(thread_pool, "start_new_thread", none)
            patch.setattr(world.MonotonicClock, "now", none)
            patch.setattr(signal, "signal", none)
            patch.setattr(io, "FileIO", none)
            patch.setattr(os, "pread", none)
            yield

    return refuse


def outcome(function, *args):
    """Return what the function returns, or its error as text."""
    try:
        return function(*args)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def lines(path):
    """Return the lines of a recording, without the checksums."""
    found = map(json.loads, Path(path).read_text().splitlines())
    return [line for line in found if type(line) is dict or line[0] != "sum"]


class Log(list):
    """The lines of a trace, without descriptors: they are the same in two runs whose turns are the same."""

    def watch(self):
        return [TextTrace(lambda line: self.append(re.sub(r"file \d+", "file ...", line)))]


def same(make, path, no_world):
    """Record a program, replay it without a world, and return its result; the two have the same turns."""
    logs = Log(), Log()
    recorded = outcome(partial(record, watch=logs[0].watch()), make(), path)
    with no_world():
        replayed = outcome(partial(replay, watch=logs[1].watch()), make(), path)
    assert replayed == recorded, f"recorded {recorded!r}, replayed {replayed!r}"
    assert logs[0] == logs[1], [pair for pair in zip(*logs, strict=False) if pair[0] != pair[1]][:1]
    return recorded
