"""Reported faults of `serve_workers`: signals, reapers, threads, logs and workers that do not do their part."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from errno import ENOSYS

import pytest
import servers
from helpers import no_file_is_left_open, open_numbers  # noqa: F401
from programs import SECONDS, environment
from servers import asked, come_true, dial, lives, received
from test_workers import assert_all_ended, pid_at, pid_of, three, workers_of, working

from minisched import Sleep, serve_workers
from minisched.serving import processes, workers
from minisched.serving.processes import Process
from minisched.serving.stop_signals import StopSignals

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
path = servers.path
programs = pytest.mark.slow  # each of these tests runs several processes
linux = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")

NEVER = "minisched.serving.workers.AFTER_GRACE_SECONDS = 3600\n"
AT_ONCE = "minisched.serving.workers.AFTER_GRACE_SECONDS = 0.1\n"

NO_PAUSE = "minisched.serving.workers.FAST_DEATH_SECONDS = 0\n"  # before a worker is replaced

# A first process that reports, at its end, the things that it was to give back.
REPORTS = """
files = len(os.listdir("/dev/fd"))

def reports(*addresses, **options):
    try:
        serve_workers(handler, *addresses, ready=ready, **options)
    except BaseException as error:
        blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        handlers = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
        default = handlers == [signal.SIG_DFL] * 3 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        more = len(os.listdir("/dev/fd")) - files
        say("ended:", repr(error), blocked, default, signal.set_wakeup_fd(-1), more, "files")
        os._exit(0)
"""
GIVEN_BACK = r" \[\] True -1 0 files\n"

REAPER = """
import threading, time

def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)

threading.Thread(target=reap, daemon=True).start()
"""


def ends(program, status=143):
    """Wait for the end of a program, with a status and without a traceback."""
    assert program.wait() == status
    assert "Traceback" not in program.said + program.errors()


# Another reaper


@programs
@pytest.mark.parametrize("pidfd", [pytest.param(True, marks=linux), False], ids=["pidfd", "pid"])
def test_another_reaper_of_children_changes_nothing_but_the_known_status(pidfd, path):
    """world 6: ProcessLookupError, signals that stay blocked, open files, and signals to unknown processes."""
    without = "" if pidfd else "os.__dict__.pop('pidfd_open', None)\n"
    with working(f"{NO_PAUSE}{without}{REPORTS}{REAPER}reports(sys.argv[1], workers=3, grace=0.3)", path) as (
        program,
        _,
    ):
        victim = pid_at(path)
        os.kill(victim, signal.SIGKILL)
        program.expect(rf"worker {victim} (ended \(its status is unknown.*\)|was killed.*) after .* s; replacing it\n")
        come_true(lambda: len(workers_of(program.process.pid)) == 3, "three workers again")
        pids = workers_of(program.process.pid)
        program.process.terminate()
        program.expect(r"ended: SystemExit\(143\)" + GIVEN_BACK)
        ends(program, 0)
        assert_all_ended(program, pids)


@pytest.fixture(params=[pytest.param(True, marks=linux), False], ids=["pidfd", "pid"])
def child(request, monkeypatch):
    """A Process that waits for a signal, with a pidfd and without one."""
    if not request.param:
        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    process = processes.fork(pauses)
    assert (process.pidfd >= 0) == request.param
    yield process
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
    process.close()


def pauses():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    while True:
        signal.pause()


def refuse(*arguments):
    raise OSError(ENOSYS, "no such call")


def collected(pid):
    """End and collect a child, as another part of the program does."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_process_whose_pid_may_be_another_ones_gets_no_signal(child, monkeypatch):
    """world 6: the number of a worker that another reaper has collected may belong to a stranger."""
    collected(child.pid)
    sent = []
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    child.send(signal.SIGTERM)
    assert sent == []
    assert child.has_ended() and "status is unknown" in child.ending


@linux
def test_a_process_that_was_collected_before_its_pidfd_was_opened_has_none(monkeypatch):
    """world 6: between the fork and the pidfd, the pid may already be another one's."""
    pid = os.fork() or os._exit(0)
    os.waitpid(pid, 0)
    monkeypatch.setattr(os, "pidfd_open", lambda _, open=os.pidfd_open: open(os.getpid()))  # this process, no child
    stranger = Process(pid)
    assert (stranger.pidfd, stranger.has_ended()) == (-1, True)


def test_a_process_ends_and_reports_its_status(child):
    assert not child.has_ended()
    child.send(signal.SIGTERM)
    come_true(child.has_ended, "the child has ended")
    assert child.ending == "was killed by signal 15 (Terminated)"


@linux
def test_a_process_whose_pidfd_was_closed_is_found_by_its_pid(child):
    """world 6, own: a program that closes all descriptors (`os.closerange`) closes those of the package, too."""
    if child.pidfd >= 0:
        os.close(child.pidfd)
    assert not child.has_ended() and child.pidfd == -1
    child.send(signal.SIGTERM)
    come_true(child.has_ended, "the child has ended")


def test_an_error_of_waitpid_other_than_no_child_means_not_known_yet(child, monkeypatch):
    """world 6, own: errors of `waitpid`."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "waitpid", refuse)
        patch.setattr(os, "waitid", refuse, raising=False)
        assert not child.has_ended()
    assert not child.has_ended()


@programs
def test_a_first_process_whose_descriptors_were_closed_goes_on_and_stops(path):
    """world 6, own: one thread closes all descriptors behind the first process's back."""
    text = """
import threading

def close():
    for fd in map(int, os.listdir("/dev/fd")):
        if fd > 2:
            try:
                os.close(fd)
            except OSError:
                pass
    say("closed")

def handler(conn):
    yield Write(conn, b"%07d" % os.getpid())

def closes(listener):
    ready(listener)
    threading.Timer(0.5, close).start()

serve_workers(handler, sys.argv[1], workers=1, ready=closes)
"""
    with working(text, path) as (program, _):
        program.expect("closed")
        program.process.terminate()
        assert program.wait() == 143


# Signals and threads


@programs
def test_a_signal_while_the_first_process_logs_stops_it_although_it_has_another_thread(path):
    """world 7: SIGTERM went to the other thread, with its default action."""
    text = """
import threading, time

class Slow(logging.Handler):
    def emit(self, record):
        say("logging")
        time.sleep(0.5)

logging.getLogger().addHandler(Slow())
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
main([sys.argv[1]], workers=2)
"""
    with working(text, path) as (program, _):
        os.kill(pid_at(path), signal.SIGKILL)
        program.expect("logging")
        program.process.terminate()
        ends(program)
        assert not os.path.exists(path)


@programs
def test_a_log_handler_that_blocks_is_ended_by_the_second_signal(path):
    """world 7, load-faults F15: a log that nobody reads held up the first process and every signal."""
    text = """
import time

class Blocks(logging.Handler):
    def emit(self, record):
        say("logging")
        time.sleep(3600)

logging.getLogger().addHandler(Blocks())
main([sys.argv[1]], workers=2)
"""
    with working(text, path) as (program, _):
        os.kill(pid_at(path), signal.SIGKILL)
        program.expect("logging")
        program.process.terminate()
        come_true(lambda: "logging" in program.said, "the first signal")
        program.process.terminate()
        while program.process.poll() is None:  # the two signals may have counted as one
            with suppress(ProcessLookupError):
                program.process.terminate()
            with suppress(Exception):
                program.process.wait(0.2)
        assert program.process.returncode == 143
        assert not os.path.exists(path)


@programs
@pytest.mark.parametrize("handler", ["error", "filter"])
def test_a_log_that_fails_does_not_end_the_first_process(handler, path):
    """world 12, load-faults F9: in the first process, too, the failure of a log is no reason to end."""
    text = f"""
class Full(logging.Handler):
    def emit(self, record):
        raise OSError(28, "No space left on device")

def buggy(record):
    raise KeyError("filter")

if {handler!r} == "error":
    logging.getLogger().addHandler(Full())
else:
    logging.getLogger("minisched").addFilter(buggy)
main([sys.argv[1]], workers=2)
"""
    with working(NO_PAUSE + text, path) as (program, _):
        victim = pid_at(path)
        os.kill(victim, signal.SIGKILL)
        come_true(lambda: len(workers_of(program.process.pid) - {victim}) == 2, "a new worker")
        program.process.terminate()
        assert program.wait() == 143
        assert f"worker {victim} was killed by signal 9" in program.errors()  # not silent


@programs
def test_a_stdout_that_fails_does_not_end_the_first_process(path):
    """load-faults F7, F13: the flush before a fork met a stream of the program's own."""
    text = """
class Stream:
    def write(self, text): pass
    def flush(self): raise RuntimeError("no flush")

def breaks(listener):
    ready(listener)
    sys.stdout = Stream()

try:
    serve_workers(handler, sys.argv[1], workers=2, ready=breaks)
finally:
    sys.stdout = sys.__stdout__
"""
    with working(text, path) as (program, _):
        victim = pid_at(path)
        os.kill(victim, signal.SIGKILL)
        come_true(lambda: pid_at(path) != victim, "a new worker")
        program.process.terminate()
        ends(program)


@programs
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_workers_serve_and_stop_without_the_standard_streams(closed, path):
    """load-faults F7, F13, world 36: a first process and workers whose files 0, 1 and 2 are closed."""
    text = """
import sys
import minisched.serving.workers
from minisched import Read, Write, serve_workers

minisched.serving.workers.FAST_DEATH_SECONDS = 0

def handler(conn):
    data = yield Read(conn, 100)
    if data == b"end":
        raise SystemExit("a message that no stream takes")
    yield Write(conn, data)

serve_workers(handler, sys.argv[1], workers=1)
"""
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", text, path]
    with subprocess.Popen(command, env=environment()) as process:
        try:
            come_true(lambda: listens(path), "a listener")
            with dial(path) as conn:
                conn.sendall(b"end")
                assert conn.recv(1) == b""
            with dial(path) as conn:  # served by the replacement
                assert asked(conn, b"hello") == b"hello"
            process.terminate()
            assert process.wait(SECONDS) == 143
        finally:
            process.kill()  # the block waits for its end
    assert not os.path.exists(path)


def listens(path):
    """Return whether a server listens at a path; between its bind and its listen, the path exists already."""
    try:
        dial(path).close()
    except OSError:
        return False
    return True


@programs
def test_an_exception_of_a_signal_handler_of_the_program_gives_the_workers_their_grace(path):
    """world 6, own: an exception in the first process killed the workers without any grace."""
    text = (
        """
def handler(conn):
    while data := (yield Read(conn, 65536)):
        if data == b"slow":
            yield Sleep(0.3)
        yield Write(conn, data)

class Alarm(Exception): pass

def ring(*_):
    raise Alarm

signal.signal(signal.SIGUSR1, ring)
"""
        + REPORTS
    )
    with working(text + "reports(sys.argv[1], workers=2)", path) as (program, _), dial(path) as conn:
        assert asked(conn, b"x") == b"x"
        conn.sendall(b"slow")
        program.process.send_signal(signal.SIGUSR1)
        assert received(conn, 4) == b"slow"
        conn.close()
        program.expect(r"ended: Alarm\(\)" + GIVEN_BACK)
        ends(program, 0)
        assert not os.path.exists(path)


@programs
def test_a_sigchld_handler_of_the_program_stays_in_place(path):
    """world 6, own: the program's own children are still reported to it."""
    text = """
import subprocess, threading

signal.signal(signal.SIGCHLD, lambda *_: say("a child has ended"))
threading.Timer(0.3, lambda: say("status", subprocess.run(["sh", "-c", "exit 5"]).returncode)).start()
main([sys.argv[1]], workers=1)
"""
    with working(NO_PAUSE + text, path) as (program, _):
        program.expect(r"a child has ended")
        program.expect(r"status 5")
        victim = pid_at(path)
        os.kill(victim, signal.SIGKILL)
        program.expect(rf"worker {victim} was killed")
        come_true(lambda: pid_at(path) != victim, "a new worker")
        program.process.terminate()
        ends(program)


# Workers that do not react

STUCK = """
def handler(conn):
    data = yield Read(conn, 65536)
    yield Write(conn, data)
    if data == b"C":
        sum(range(10**12))
    elif data == b"S":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        yield Sleep(3600)
"""


@programs
@pytest.mark.parametrize("how", [b"C", b"S"], ids=["in C code", "stopped"])
@pytest.mark.parametrize(
    ("constants", "signals"),
    [
        (AT_ONCE + "minisched.serving.workers.SECOND_SIGNAL_SECONDS = 3600\n", 1),
        (NEVER + "minisched.serving.workers.SECOND_SIGNAL_SECONDS = 0.1\n", 2),
        (NEVER + "minisched.serving.workers.SECOND_SIGNAL_SECONDS = 3600\n", 3),
    ],
    ids=["after the grace", "after the second signal", "at the third signal"],
)
def test_a_worker_that_does_not_react_is_killed(how, constants, signals, path):
    """world 8, load-faults F4: however many signals came, the first process waited for such a worker."""
    with working(f"{constants}{STUCK}main([sys.argv[1]], workers=2, grace=0)", path) as (program, _):
        come_true(lambda: len(workers_of(program.process.pid)) == 2, "two workers")
        pids = workers_of(program.process.pid)
        with dial(path) as conn:
            assert asked(conn, how) == how
            program.process.terminate()
            come_true(lambda: not os.path.exists(path), "the first signal has been handled")
            for _ in range(signals - 1):
                come_true(lambda: pending(program) == 0, "the signal has been handled")
                program.process.terminate()
            program.expect(r"worker \d+ does not stop; killing it\n")
            ends(program)
        assert_all_ended(program, pids)


def pending(program):
    """Return the number of SIGTERMs that a process has yet to handle. Linux."""
    with open(f"/proc/{program.process.pid}/status") as file:
        masks = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd"))]
    return sum(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)


@programs
def test_without_a_limit_of_grace_no_worker_is_killed_at_the_first_signal(path):
    """load-faults F4: `grace=None` promises no limit."""
    with working(f"{AT_ONCE}main([sys.argv[1]], workers=1, grace=None)", path) as (program, _), dial(path) as conn:
        victim = pid_of(conn)
        program.process.terminate()
        program.expect("may take any time to finish")
        assert asked(conn, b"still served") == b"still served"
        conn.close()
        ends(program)
        assert "killing" not in program.said and not lives(victim)


def test_a_worker_that_the_operating_system_cannot_kill_is_left_behind_and_named(child, monkeypatch, caplog):
    """load-faults F4: a worker in an uninterruptible call of the kernel."""
    monkeypatch.setattr(child, "send", lambda signum: None)
    monkeypatch.setattr(workers, "KILL_SECONDS", 0.0)
    with StopSignals() as signals:
        arbiter = workers.Arbiter(None, [], signals)
        arbiter.workers = [workers.Worker(child, 0)]
        arbiter.close()
    assert caplog.messages == [
        f"worker {child.pid} does not stop; killing it",
        f"worker {child.pid} can't be killed; leaving it behind",
    ]


# Unix paths


@programs
def test_a_path_that_cannot_be_removed_does_not_take_the_grace_away(path):
    """load-faults F1: `serve_workers` ended with a traceback, and killed its workers without any grace."""
    text = """
def handler(conn):
    data = yield Read(conn, 65536)
    yield Write(conn, data)
    yield Sleep(0.3)
    yield Write(conn, data)

main([sys.argv[1]], workers=2)
"""
    folder = os.path.dirname(path)
    with working(text, path) as (program, _), dial(path) as conn:
        assert asked(conn, b"hello") == b"hello"
        os.rename(folder, folder + ".moved")
        with open(folder, "w"):  # a file in place of the folder: no permission can help
            pass
        program.process.terminate()
        assert received(conn, 5) == b"hello"
        conn.close()
        ends(program)
    os.unlink(folder)
    os.rename(folder + ".moved", folder)


@programs
def test_a_listener_that_cannot_be_closed_does_not_keep_the_next_one_open(path):
    """load-faults F1: the close of a listener raises whatever it likes."""
    text = """
from minisched.net.unix_paths import BoundPath

def fails(bound):
    if bound.path == sys.argv[1]:
        raise RuntimeError("no")
    remove(bound)

remove, BoundPath.remove = BoundPath.remove, fails
main(sys.argv[1:], workers=1)
"""
    with working(text, path, path + "2") as (program, _):
        come_true(lambda: os.path.exists(path + "2"), "both paths")
        pid_at(path)
        program.process.terminate()
        assert program.wait() == 143
        assert "can't close a listener: no" in program.said
        assert not os.path.exists(path + "2")
    os.unlink(path)


@programs
def test_sighup_ends_the_first_process_as_sigterm_does(path):
    """load-faults F8: a closed terminal left the path behind, and its workers got no grace."""
    with working("main([sys.argv[1]], workers=3, grace=3600)", path) as (program, _), dial(path) as conn:
        pids = three(program)
        pid_of(conn)
        os.killpg(program.process.pid, signal.SIGHUP)  # as a terminal does
        program.expect("may take 3600 s to finish")
        assert asked(conn, b"still served") == b"still served"
        conn.close()
        ends(program, 129)
        assert_all_ended(program, pids)
        assert not os.path.exists(path)


@programs
@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: say('reload')"], ids=["nohup", "own handler"])
def test_sighup_stays_what_the_program_has_made_of_it(handler, path):
    """load-faults F8: nohup, and programs that reload at SIGHUP."""
    with working(f"signal.signal(signal.SIGHUP, {handler})\nmain([sys.argv[1]], workers=1)", path) as (program, _):
        victim = pid_at(path)
        program.process.send_signal(signal.SIGHUP)
        if "reload" in handler:
            program.expect("reload")
        assert pid_at(path) == victim
        program.process.terminate()
        ends(program)


@programs
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGQUIT])
def test_workers_remove_the_path_of_a_first_process_that_is_gone(signum, path):
    """load-faults F8: after kill -9 or SIGQUIT of the first process, the next start was refused."""
    with working("main([sys.argv[1]], workers=3, grace=0)", path) as (program, _):
        pids = three(program)
        program.process.send_signal(signum)
        program.wait()
        come_true(lambda: not any(map(lives, pids)), "the workers have ended")
        assert not os.path.exists(path)


@programs
def test_a_worker_that_computes_ends_some_time_after_its_first_process(path):
    """load-faults F13: after kill -9 of the first process, workers in a computing handler stayed."""
    text = f"""{AT_ONCE}
def handler(conn):
    yield Write(conn, b"%07d" % os.getpid())
    while True:
        pass

main([sys.argv[1]], workers=1, grace=0)
"""
    with working(text, path) as (program, _), dial(path) as conn:
        worker = int(received(conn, 7))
        program.process.kill()
        program.wait()
        come_true(lambda: not lives(worker), "the worker has ended")
        assert not os.path.exists(path)
        assert "does not stop, and is ended" in program.said


# Workers that fail


def test_the_pause_before_a_new_worker_doubles_up_to_a_limit():
    """load-faults, a worker that fails at its start: a constant second, without an end."""
    pauses = [workers.pause_after(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 8, 10**9)]
    assert pauses == [1, 1, 2, 4, 8, 16, 30, 30, 30]


@programs
def test_workers_that_fail_at_their_start_are_replaced_after_growing_pauses(path):
    """load-faults, a worker that fails at its start: the log says how long the pause is."""
    text = """
minisched.serving.workers.run = lambda body: body.close() or os._exit(3)
minisched.serving.workers.RESPAWN_PAUSE_SECONDS = 0.01
main([sys.argv[1]], workers=1)
"""
    with working(text, path) as (program, _):
        for failures, pause in ((2, r"0\.01"), (3, r"0\.02"), (4, r"0\.04"), (5, r"0\.08")):
            program.expect(
                rf"workers die at their start \({failures} in a row, .*\): the next one starts in {pause} s\n"
            )
        program.process.terminate()
        ends(program)


@programs
@pytest.mark.parametrize("code", ["2**40", "-1", "None", "'the reason'"])
def test_no_exit_status_lets_a_worker_return_into_the_first_process_program(code, path):
    """world 6, own: `os._exit` refuses large numbers, and the worker went on as a second first process."""
    status = {"2**40": 0, "-1": 255, "None": 0, "'the reason'": 1}[code]
    text = f"""
def handler(conn):
    data = yield Read(conn, 65536)
    if data == b"end":
        raise SystemExit({code})
    yield Write(conn, b"%07d" % os.getpid())

main([sys.argv[1]], workers=1)
"""
    with working(NO_PAUSE + text, path) as (program, _):
        with dial(path) as conn:
            conn.sendall(b"end")
            assert conn.recv(1) == b""
        program.expect(rf"worker \d+ ended with status {status} after")
        assert os.path.exists(path)
        come_true(lambda: pid_at(path), "a new worker")
        program.process.terminate()
        assert program.wait() == 143
        assert program.errors() == ("the reason\n" if status == 1 else "")


@programs
@linux
def test_a_subreaper_collects_orphans_and_leaves_the_programs_children_alone(path):
    """world 22: PID 1 and orphans, which stayed zombies; without being at odds with 6."""
    text = """
import ctypes, subprocess, threading
import minisched.serving.processes as processes

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to this process, as to PID 1
processes.ORPHAN_SECONDS = 0.1

early = subprocess.Popen(["sh", "-c", "exit 6"])  # a child of the main thread, too

def handler(conn):
    reader, writer = os.pipe()
    for _ in range(5):
        if os.fork() == 0:  # its child is an orphan
            if os.fork() == 0:
                os.write(writer, b"%07d" % os.getpid())
            os._exit(0)
        os.wait()
    numbers = b""
    while len(numbers) < 35:
        numbers += os.read(reader, 35)
    yield Write(conn, numbers)

def own():
    signals.acquire()  # after the fork: a fork in the middle of a Popen would hold it up
    child = subprocess.Popen(["sh", "-c", "exit 5"])
    say("own child", child.pid)
    signals.acquire()
    say("status", child.wait())

signals = threading.Semaphore(0)
signal.signal(signal.SIGUSR1, lambda *_: signals.release())

def starts(listener):
    ready(listener)
    threading.Thread(target=own, daemon=True).start()

try:
    serve_workers(handler, sys.argv[1], workers=1, ready=starts)
finally:
    say("early", early.wait())
"""
    with working(text, path) as (program, _):
        with dial(path) as conn:
            orphans = received(conn, 35)
        program.process.send_signal(signal.SIGUSR1)
        program.expect("own child")
        orphans = [int(orphans[at : at + 7]) for at in range(0, 35, 7)]
        come_true(lambda: not any(map(exists, orphans)), "no orphan is left, not even as a zombie")
        program.process.send_signal(signal.SIGUSR1)
        program.expect("status 5")
        program.process.terminate()
        program.expect("early 6")
        ends(program)


def exists(pid):
    """Return whether a process is in the table of processes; a zombie is."""
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


# The start, in this process: nothing is forked


@pytest.fixture
def nothing_changes(monkeypatch):
    """Make any fork a failure, and compare the signal state before and after the test."""
    monkeypatch.setattr(os, "fork", refuse)
    default = signal.signal(signal.SIGTERM, escapes)
    before = signal_state()
    yield
    assert signal_state() == before
    signal.signal(signal.SIGTERM, default)


def escapes(signum, frame):
    raise AssertionError("SIGTERM was not handled, and would have ended the tests")


def signal_state():
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
    return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ()), fd, open_numbers()


def handler(conn):
    yield Sleep(1)


def serve(path, ready):
    serve_workers(handler, path, workers=2, ready=ready)


def test_a_ready_callback_that_fails_leaves_nothing_behind(nothing_changes, path):
    """world 6, own: the first process's `ready` fails."""

    def ready(listener):
        raise RuntimeError("ready failed")

    with pytest.raises(RuntimeError, match="ready failed"):
        serve(path, ready)
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("signum", "error"),
    [(signal.SIGTERM, SystemExit(143)), (signal.SIGHUP, SystemExit(129)), (signal.SIGINT, KeyboardInterrupt())],
    ids=["SIGTERM", "SIGHUP", "SIGINT"],
)
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_signal_during_ready_stops_before_any_fork(nothing_changes, signum, error, swallowed, path):
    """world 7: SIGTERM during `ready` had its default action, and left the path behind."""
    reached = []

    def ready(listener):
        try:
            signal.raise_signal(signum)
            reached.append("the next line")
        except BaseException:
            if not swallowed:
                raise

    with pytest.raises(type(error)) as raised:
        serve(path, ready)
    assert raised.value.args == error.args
    assert reached == [] and not os.path.exists(path)


def test_a_signal_that_the_program_has_blocked_stops_the_server_all_the_same(nothing_changes, path):
    """world 6, own: signals that the program has blocked before are blocked again afterwards."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])
    try:
        signal.raise_signal(signal.SIGTERM)  # the signal waits for its delivery
        with pytest.raises(SystemExit, match="143"):
            serve(path, None)
        assert {signal.SIGTERM, signal.SIGCHLD} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_the_run_of_a_program_whose_own_wake_up_fd_was_closed_ends_as_any_other(nothing_changes, path):
    """world 14: the wake-up fd that was there before is gone."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)

    def ready(listener):
        os.close(writer)
        signal.raise_signal(signal.SIGTERM)

    try:
        with pytest.raises(SystemExit, match="143"):
            serve(path, ready)
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        os.close(reader)


def test_a_handler_that_ready_has_set_stays_and_an_ignored_ctrl_c_stays_ignored(monkeypatch, path):
    """world 6, own: a handler of the program's own is not replaced by an older one."""

    def own(signum, frame):
        raise AssertionError

    before = [(signum, signal.getsignal(signum)) for signum in (signal.SIGTERM, signal.SIGINT)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def ready(listener):
        signal.signal(signal.SIGTERM, own)
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError

    try:
        with pytest.raises(RuntimeError):
            serve(path, ready)
        assert signal.getsignal(signal.SIGTERM) is own and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for signum, previous in before:
            signal.signal(signum, previous)


def test_a_start_without_file_descriptors_leaves_nothing_behind(nothing_changes, monkeypatch, path):
    """load-faults, EMFILE: no descriptor for the pipe of the signals, or for that of the workers."""
    for allowed in (0, 1):
        with monkeypatch.context() as patch:
            left = [os.pipe] * allowed
            patch.setattr(os, "pipe", lambda left=left: (left.pop() if left else refuse)())
            with pytest.raises(OSError, match="no such call"):
                serve(path, None)
        assert not os.path.exists(path)
        with tempfile.NamedTemporaryFile():
            pass


def test_a_line_that_the_log_refuses_goes_to_stderr_if_there_is_one(monkeypatch, capsys):
    """world 12, load-faults F13: the last resort of a log that fails is standard error."""

    class Log:
        def error(self, *arguments):
            raise OSError("full")

    monkeypatch.setattr(workers, "logger", Log)
    workers.log("worker %d", 1)
    assert capsys.readouterr().err == "worker 1 (the log failed: OSError('full'))\n"
    monkeypatch.setattr("sys.stderr", None)
    workers.log("worker %d", 1)
    monkeypatch.setattr(Log, "error", lambda *_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        workers.log("worker %d", 1)
