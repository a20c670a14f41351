"""With debug on, a turn that holds up the run is logged with its task and line, while it does.

Most tests take the watchdog's samples themselves, in the middle of a turn, so that no time matters.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from minisched import Listen, Sleep, Spawn, Syscall, current_kernel, do_now, run, testing
from minisched.lab import slow_turns
from minisched.lab.slow_turns import SAMPLES_PER_REPORT, Processor, SlowTurns, Watchdog
from minisched.net import addresses

real_samples = Processor.samples


@pytest.fixture
def logged(monkeypatch):
    """Return the list of the logged lines; the thread of each watchdog takes no samples of its own."""
    logger, lines, reports = logging.getLogger("minisched.debug"), [], logging.Handler()
    reports.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(reports)
    monkeypatch.setattr(logger, "level", logging.WARNING)
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(Watchdog, "watch", lambda self: self.ending.acquire() and self.ending.release())
    monkeypatch.setattr(Processor, "samples", lambda self: 1.0)
    logger.manager._clear_cache()
    yield lines
    logger.removeHandler(reports)
    logger.manager._clear_cache()


def sample(times=SAMPLES_PER_REPORT + 1):
    """Take some samples; the first one only notes the turn."""
    watchdog = current_kernel().service(Watchdog)
    for _ in range(times):
        watchdog.sample()


def line_of(function, number):
    return f"{__file__}:{function.__code__.co_firstlineno + number} ({function.__qualname__})"


def text(where, task="main"):
    return (
        f"task {task!r} has not yielded for more than 0.1 s and holds up all others, {where}: make a blocking call by "
        "`yield InThread(...)`, and yield in the middle of a long computation"
    )


@pytest.mark.parametrize("play", [run, testing.run])
def test_a_turn_that_blocks_is_logged_with_its_task_and_line(logged, play):
    def worker():
        yield
        sample()

    def main():
        yield Spawn(worker(), "Ada")
        yield Sleep(0.001)

    play(main(), debug=True)
    assert logged == [text(f"at {line_of(sample, 4)}", "Ada")]


def test_there_is_no_thread_where_the_log_hides_the_reports(logged, monkeypatch):
    def main():
        yield
        return current_kernel().service(Watchdog).thread

    assert run(main(), debug=True) is not None
    monkeypatch.setattr(logging.getLogger("minisched.debug"), "level", logging.ERROR)
    logging.getLogger("minisched.debug").manager._clear_cache()
    assert run(main(), debug=True) is None


def test_fewer_samples_are_not_logged(logged):
    def main():
        for _ in range(5):
            sample(SAMPLES_PER_REPORT)
            yield

    run(main(), debug=True)
    assert logged == []


def test_a_turn_and_a_line_are_logged_once(logged):
    def main():
        sample(3 * SAMPLES_PER_REPORT)
        watchdog = current_kernel().service(Watchdog)
        watchdog.sample()  # another line of the same turn
        yield
        for _ in range(SAMPLES_PER_REPORT + 1):
            watchdog.sample()
        yield
        sample()

    run(main(), debug=True)
    assert logged == [text(f"at {line_of(sample, 4)}"), text(f"at {line_of(main, 6)}")]


class Blocks(Syscall):
    def handle(self, kernel, task):
        sample()


def test_a_handler_of_the_program_is_named(logged):
    def main():
        yield
        yield Blocks()

    run(main(), debug=True)
    assert logged == [text(f"in the handler of its call, at {line_of(sample, 4)}")]


def test_a_handler_of_the_package_is_named_by_the_yield(logged, monkeypatch):
    """The address of this machine is resolved in the run's thread: it needs no name server."""
    resolve = addresses.socket.getaddrinfo

    def slow(*arguments, **keywords):
        current_kernel().service(Watchdog).seen = -1
        for _ in range(SAMPLES_PER_REPORT + 1):
            current_kernel().service(Watchdog).sample()
        return resolve(*arguments, **keywords)

    library = slow.__code__.replace(co_filename=slow_turns.STANDARD_LIBRARY + "socket.py")
    slow.__code__ = library
    monkeypatch.setattr(addresses.socket, "getaddrinfo", slow)

    def main():
        with (yield Listen(("127.0.0.1", 0))):
            yield

    run(main(), debug=True)
    assert logged == [text(f"in the call that it yields at {line_of(main, 1)}")]


def test_a_wait_is_not_a_turn(logged):
    def main():
        watchdog = current_kernel().service(Watchdog)
        timers = []

        class Clock:
            now = staticmethod(time.monotonic)

            def wait(self, select, deadline):
                for _ in range(3 * SAMPLES_PER_REPORT):
                    watchdog.sample()
                select(0.0)

        from minisched import Timers

        current_kernel().service(Timers).clock = Clock()
        current_kernel().service(Timers).call_at(0, lambda: timers.append(sample(20)))
        yield Sleep(0.001)
        assert timers == [None]

    run(main(), debug=True)
    assert logged == []


def test_a_debugger_is_not_reported(logged, monkeypatch):
    def main():
        frame = sys._getframe()
        frame.f_trace = lambda *event: None
        sample()
        frame.f_trace = None
        yield
        module = {"__name__": "pdb", "sample": sample}
        exec("def interaction(): sample()", module)
        module["interaction"]()
        assert logged == []
        yield
        sample()

    run(main(), debug=True)
    assert len(logged) == 1

    sys._getframe().f_trace = type("CTracer", (), {"__module__": "coverage", "__call__": lambda *event: None})()
    assert not slow_turns.in_debugger(sys._getframe())
    sys._getframe().f_trace = None

    monitoring = SimpleNamespace(DEBUGGER_ID=0, get_tool=lambda tool: "pydevd")
    monkeypatch.setattr(sys, "monitoring", monitoring, raising=False)
    assert slow_turns.in_debugger(sys._getframe())


def test_the_time_without_a_processor_does_not_count(logged, monkeypatch):
    counted = iter([0.0, *[0.5] * 9, 1.0])
    monkeypatch.setattr(Processor, "samples", lambda self: next(counted))

    def main():
        sample(10)
        assert logged == []
        sample(1)
        assert len(logged) == 1
        yield

    run(main(), debug=True)


def test_the_use_of_the_processors_is_read_from_linux(tmp_path: Path):
    def write(state, ran, waited):
        (tmp_path / "stat").write_text(f"1 (a) (b)) {state} 1 1", encoding="ascii")
        (tmp_path / "schedstat").write_text(f"{int(ran * 1e6)} {int(waited * 1e6)} 7\n", encoding="ascii")
        return processor.samples()

    processor = Processor(f"{tmp_path}/")
    processor.open()
    assert processor.samples() == 1.0  # no such files
    (tmp_path / "schedstat").write_text("0 0 0", encoding="ascii")
    processor.open()
    assert processor.samples() == 1.0  # only one of them
    (tmp_path / "stat").write_text("1 (a) S", encoding="ascii")
    processor.open()
    assert write("S", 0, 0) == 1.0  # the thread sleeps
    assert write("S", 20, 0) == 1.0  # the thread computes
    assert write("S", 30, 10) == 0.5  # the thread shares a processor
    assert write("S", 30, 110) <= 0.0  # the thread had none
    assert write("R", 30, 110) == 0.0  # the thread still has none
    assert write("R", 110, 110) == 4.0  # the thread computed for several samples
    (tmp_path / "stat").write_text("", encoding="ascii")
    assert processor.samples() == 1.0
    processor.close()
    assert processor.samples() == 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="the files are those of Linux")
def test_the_watchdog_opens_no_file_while_the_tasks_run_and_reads_none_of_theirs(logged, monkeypatch):
    """load-faults: a handler closed the number of its socket; the watchdog's next file had it, and then read a client's
    bytes, or closed the client's connection."""

    monkeypatch.setattr(Processor, "samples", real_samples)

    def main():
        yield
        watchdog = current_kernel().service(Watchdog)
        assert len(watchdog.processor.files) == 2
        files = os.listdir("/dev/fd")
        assert watchdog.processor.samples() > 0
        assert os.listdir("/dev/fd") == files
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"kept")
            for file in watchdog.processor.files:
                os.dup2(ours.fileno(), file)
            assert watchdog.processor.samples() == 1.0
            assert ours.recv(10) == b"kept"

    before = os.listdir("/dev/fd")
    run(main(), debug=True)
    assert os.listdir("/dev/fd") == before


def watchdog_threads():
    return [thread for thread in threading.enumerate() if thread.name == "minisched watchdog"]


def test_a_real_turn_is_logged_while_it_blocks():
    """The turn goes on until the line is logged."""
    seen = threading.Event()
    reports = logging.Handler()
    reports.emit = lambda record: seen.set()
    logger = logging.getLogger("minisched.debug")
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addHandler(reports)

    def main():
        for _ in range(2000):
            time.sleep(0.01)
            if seen.is_set():
                break
        yield

    try:
        run(main(), debug=True)
    finally:
        logger.removeHandler(reports)
        logger.setLevel(level)
    assert seen.is_set()


def test_the_thread_ends_with_the_run_and_other_runs_have_none(logged):
    def main():
        yield
        return len(watchdog_threads())

    assert [run(main(), debug=debug) for debug in (True, False)] == [1, 0]
    assert watchdog_threads() == []
    assert not slow_turns.watchdogs


def test_a_platform_without_threads_has_no_watchdog(logged, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)

    def main():
        yield
        return len(watchdog_threads())

    assert run(main(), debug=True) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="can't fork")
def test_a_fork_meets_no_watchdog(logged):
    """Python 3.12 warns of a fork in a process with several threads, and warnings are errors here."""

    def main():
        yield
        threads = []
        child = os.fork()
        if child == 0:
            os._exit(len(watchdog_threads()) + len(slow_turns.watchdogs))
        threads.append(len(watchdog_threads()))
        _, status = os.waitpid(child, 0)
        yield
        return threads, os.waitstatus_to_exitcode(status)

    assert run(main(), debug=True) == ([1], 0)
    assert watchdog_threads() == []


def test_a_plain_call_in_a_turn_is_a_part_of_it(logged):
    def main():
        do_now(Blocks())
        yield

    run(main(), watch=[SlowTurns()], debug=True)  # two watchers have one watchdog
    assert logged == [text(f"in the handler of its call, at {line_of(sample, 4)}")]
