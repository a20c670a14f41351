"""Child processes: run_process and open_process with real programs. No child and no zombie is ever left."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from subprocess import CalledProcessError, TimeoutExpired

import helpers
import pytest
from helpers import PATIENCE_SECONDS, nothing_is_left  # noqa: F401
from programs import started
from test_second_signal import AtLine

import minisched
from minisched import (
    Cancel,
    ClosedError,
    CurrentTask,
    InThread,
    Join,
    LimitExceeded,
    Now,
    Read,
    Sleep,
    Socket,
    Spawn,
    SyscallError,
    TaskCancelled,
    TimedOut,
    Timeout,
    Timers,
    Write,
    gather,
    open_process,
    run_process,
    select,
)
from minisched.bridges import child_processes, children
from minisched.bridges.interrupt import Interrupts
from minisched.bridges.run_process import DEVNULL, PIPE
from minisched.lab.leftovers import Resources
from minisched.lab.leftovers import child_processes as children_of_this
from minisched.testing import cancel_everywhere, check_syscall

pytestmark = pytest.mark.skipif(os.name != "posix" or sys.platform == "emscripten", reason="processes of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc")

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"  # `sleep` ignores SIGTERM, too


SYSTEMS = ["pidfd group", "pidfd", "pid", "pid without waitid"]


@pytest.fixture(params=SYSTEMS)
def system(request, monkeypatch):
    """Play systems that have less: a Linux before 6.9, one before 5.3, and macOS."""
    if request.param != "pidfd group":
        monkeypatch.setattr(children, "has_group_signals", lambda pidfd: False)
    if request.param.startswith("pid "):
        monkeypatch.setattr(children, "WNOWAIT", 0)
    if not request.param.startswith("pidfd"):
        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    return request.param


def refuse(*arguments):
    raise OSError(errno.ENOSYS, "no such call")


def run(main):
    """Run in real time, with the checks of the tests."""
    return minisched.testing.run(main, clock=minisched.tasks.clocks.MonotonicClock())


def sh(text, *arguments):
    return ["sh", "-c", text, "sh", *arguments]


def alive(pid):
    """Return whether a process runs: it exists, and is not a zombie (of a container whose first process is slow)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def ends(pid):
    """Assert that a process ends soon."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives"
        time.sleep(0.002)


# run_process.


def test_the_output_and_the_status_of_a_program():
    def main():
        return (yield from run_process(sh("cat; echo oops >&2; exit 3"), input=b"in", check=False))

    result = run(main())
    assert (result.returncode, result.stdout, result.stderr) == (3, b"in", b"oops\n")
    assert isinstance(result, subprocess.CompletedProcess)


def test_run_process_is_awaited_in_an_async_def():
    async def main():
        return await run_process(["cat"], input=memoryview(b"in"))

    assert run(main()).stdout == b"in"


def test_input_and_output_that_fill_their_pipes_do_not_wait_for_each_other():
    data = helpers.pattern(1_000_000)

    def main():
        return (yield from run_process(sh("tee /dev/stderr"), input=data))

    result = run(main())
    assert result.stdout == result.stderr == data


def test_a_status_other_than_0_is_a_called_process_error_with_the_output():
    def main():
        return (yield from run_process(sh("echo out; echo reason >&2; exit 7")))

    with pytest.raises(CalledProcessError, match="status 7") as caught:
        run(main())
    assert (caught.value.returncode, caught.value.stdout, caught.value.stderr) == (7, b"out\n", b"reason\n")
    assert caught.value.__notes__ == ["reason\n"]


def test_the_status_of_a_killed_program_is_minus_the_signal():
    def main():
        return (yield from run_process(sh("kill -9 $$"), check=False))

    assert run(main()).returncode == -9


def test_a_child_that_closes_its_stdin_at_once_is_not_an_error():
    def main():
        return (yield from run_process(sh("exec 0<&-; echo done"), input=bytes(1_000_000)))

    assert run(main()).stdout == b"done\n"


def test_the_standard_input_is_empty_and_outputs_can_go_elsewhere(tmp_path):
    def main():
        with open(tmp_path / "out", "wb") as out:
            result = yield from run_process(sh("cat; echo x; echo y >&2"), stdout=out, stderr=subprocess.STDOUT)
        return result

    result = run(main())
    assert (result.stdout, result.stderr) == (None, None)
    assert (tmp_path / "out").read_bytes() == b"x\ny\n"


def test_the_directory_the_environment_and_other_options_of_popen(tmp_path):
    def main():
        umask = {"umask": 0o077}
        return (yield from run_process(sh("pwd; echo $A; umask"), cwd=tmp_path, env={"A": "b"}, **umask))

    assert run(main()).stdout.decode().split() == [str(tmp_path), "b", "0077"]


def test_a_timeout_ends_the_program_and_has_its_output():
    def main():
        yield from run_process(sh("echo so far; exec sleep 60"), timeout=0.1)

    with pytest.raises(TimeoutExpired) as caught:
        run(main())
    assert (caught.value.timeout, caught.value.stdout, caught.value.stderr) == (0.1, b"so far\n", b"")


def test_a_timeout_around_the_call_raises_timed_out():
    def main():
        with (yield Timeout(0.02)):
            yield from run_process(["sleep", "60"])

    with pytest.raises(TimedOut):
        run(main())


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_output_beyond_the_limit_ends_the_program(name):
    redirect = ">&2" if name == "stderr" else ""

    def main():
        yield from run_process(sh(f"exec yes {redirect}"), limit=100_000)

    with pytest.raises(LimitExceeded, match=f"^{name} of sh is longer than 100000 bytes: .*open_process$"):
        run(main())


def test_output_as_long_as_the_limit_is_not_beyond_it():
    def main():
        exact = yield from run_process(sh("printf 12345"), limit=5)
        unlimited = yield from run_process(sh("printf 12345"), limit=None)
        return exact.stdout, unlimited.stdout

    assert run(main()) == (b"12345", b"12345")


@linux
def test_a_grandchild_that_keeps_the_pipes_open_is_ended_after_the_grace(system):
    def main():
        before = yield Now()
        result = yield from run_process(sh("sleep 60 & echo $!"), grace=0.05)
        return int(result.stdout), (yield Now()) - before

    grandchild, seconds = run(main())
    if system == "pid without waitid":  # the child is collected by then, and its group may be another one
        os.kill(grandchild, signal.SIGTERM)
    ends(grandchild)
    assert seconds < 30


def test_output_that_a_grandchild_writes_after_the_end_of_the_child_is_read():
    def main():
        return (yield from run_process(sh("(sleep 0.1; echo late) & echo early")))

    assert run(main()).stdout == b"early\nlate\n"


@linux
def test_a_cancelled_run_process_ends_what_the_child_has_started(system, tmp_path):
    file = tmp_path / "pid"
    os.mkfifo(file)

    def main():
        task = yield Spawn(run_process(sh(f"sleep 60 & echo $! >{file}; wait"), grace=5), keep=True)
        pid = int((yield InThread(file.read_text)))
        yield Cancel(task)
        try:
            yield Join(task)
        except TaskCancelled:
            return pid, children_of_this()

    before = children_of_this()
    pid, after = run(main())
    ends(pid)
    assert after == before


@linux
def test_a_child_and_a_grandchild_that_ignore_sigterm_are_killed_after_the_grace(system):
    def main():
        def body(process):
            assert (yield Read(process.stdout, 6)) == b"ready\n"
            yield Sleep(0.02)
            return process, pids_of_group(process.pid)

        process, pids = yield from open_process(sh(STUBBORN), grace=0.1).use(body)
        return process.returncode, pids

    status, pids = run(main())
    assert status == (None if system == "pid without waitid" and status is None else -signal.SIGKILL)
    assert len(pids) == 2
    if system != "pid without waitid":
        for pid in pids:
            ends(pid)


def pids_of_group(pgid):
    """Return the processes of a group."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pgid and fields[0] != "Z":
            found.append(int(name))
    return found


# open_process.


def test_a_conversation_in_a_generator(system):
    def main():
        def body(process):
            yield Write(process.stdin, b"one")
            first = yield Read(process.stdout, 100)
            yield Write(process.stdin, b"two")
            process.stdin.write_eof()
            return first, (yield Read(process.stdout, 100)), (yield Read(process.stdout, 100)), (yield process.wait())

        return (yield from open_process(["cat"]).use(body))

    assert run(main()) == (b"one", b"two", b"", 0)


def test_a_conversation_in_an_async_def(system):
    async def main():
        async with open_process(["cat"]) as process:
            await Write(process.stdin, b"one")
            answer = await Read(process.stdout, 100)
            assert process.returncode is None
        ended = process.returncode in (0, -signal.SIGTERM)  # by the end of its input, or by the signal
        return answer, ended, process.stdin.closed, process.stdout.closed, process.stderr

    assert run(main()) == (b"one", True, True, True, None)


def test_a_child_has_a_session_and_a_group_of_its_own():
    def main():
        def body(process):
            yield Sleep(0)
            return process.pid, os.getpgid(process.pid), os.getsid(process.pid)

        return (yield from open_process(["sleep", "60"]).use(body))

    pid, pgid, sid = run(main())
    assert pid == pgid == sid


def test_several_tasks_wait_for_one_process_in_order_and_a_select_may_give_up(system):
    def main():
        woken = []

        def waits(process, name):
            status = yield process.wait()
            woken.append(name)
            return status

        def body(process):
            assert (yield select(process.wait(), Sleep(0))) == (1, None)
            first = yield Spawn(waits(process, "first"))
            second = yield Spawn(waits(process, "second"))
            yield Spawn(waits(process, "cancelled"), daemon=True)
            yield
            process.send_signal(signal.SIGINT)
            assert (yield select(process.wait(), process.wait())) == (0, -signal.SIGINT)
            return (yield Join(first)), (yield Join(second)), woken[:2], (yield process.wait())

        return (yield from open_process(["sleep", "60"]).use(body))

    assert run(main()) == (-2, -2, ["first", "second"], -2)


def test_wait_passes_the_conformance_test(system):
    def make():
        process = open_process(["sleep", "60"])
        yield from process.begin()
        return process.wait(), process.kill, process.kill_now

    check_syscall(make)


def test_signals_go_to_the_child_or_to_its_group(tmp_path):
    def main():
        def body(process):
            grandchild = int((yield Read(process.stdout, 100)))
            process.send_signal(signal.SIGUSR1)
            assert (yield Read(process.stdout, 100)) == b"got it\n"
            before = alive(grandchild)
            process.terminate()
            return before, (yield process.wait())

        program = sh("sleep 60 & trap 'echo got it' USR1; trap 'exit 5' TERM; echo $!; while :; do wait; done")
        return (yield from open_process(program).use(body))

    assert run(main()) == (True, 5)


def test_kill_sends_sigkill_to_the_group():
    def main():
        def body(process):
            yield Read(process.stdout, 100)
            process.kill()
            return (yield process.wait())

        return (yield from open_process(sh(STUBBORN)).use(body))

    assert run(main()) == -signal.SIGKILL


def test_no_signal_goes_anywhere_after_the_end_of_the_block(monkeypatch):
    def main():
        process = open_process(["true"])
        yield from process.use(lambda process: process.wait())
        sent = []
        for module, name in ((os, "kill"), (os, "killpg"), (signal, "pidfd_send_signal")):
            monkeypatch.setattr(module, name, lambda *arguments: sent.append(arguments), raising=False)
        process.send_signal(signal.SIGTERM)
        process.terminate()
        process.kill()
        return sent, (yield process.wait())

    assert run(main()) == ([], 0)


def test_a_body_that_fails_ends_the_process_first():
    def main():
        def body(process):
            yield Sleep(0)
            seen.append(process)
            raise ValueError("own")

        seen = []
        with pytest.raises(ValueError, match="own"):
            yield from open_process(["sleep", "60"]).use(body)
        return seen[0].returncode

    assert run(main()) == -signal.SIGTERM


def test_a_closed_pipe_wakes_its_reader():
    def main():
        def reads(process):
            with pytest.raises(ClosedError, match=r"^stdout of sleep was closed while task 'reads' waited for it$"):
                yield Read(process.stdout, 1)
            with pytest.raises(ClosedError, match="closed"):
                yield Read(process.stdout, 1)

        def body(process):
            task = yield Spawn(reads(process))
            yield
            process.stdout.close()
            process.stdout.close()
            yield Join(task)
            with pytest.raises(ClosedError, match=r"^stdout of sleep is closed$"):
                process.stdout.fileno()
            return repr(process.stdout)

        return (yield from open_process(["sleep", "60"]).use(body))

    assert run(main()) == "<Pipe stdout of sleep (closed)>"


def test_a_reader_that_waits_when_the_block_ends_gets_closed_error():
    def main():
        def reads(process):
            with pytest.raises(ClosedError):
                yield Read(process.stdout, 1)

        def body(process):
            tasks.append((yield Spawn(reads(process))))
            yield

        tasks = []
        yield from open_process(["sleep", "60"]).use(body)
        yield Join(tasks[0])

    run(main())


# Wrong arguments, and programs that can't be started.


@pytest.mark.parametrize("function", [run_process, open_process])
def test_a_text_of_a_shell_is_refused(function):
    def main():
        yield from function("ls -l; rm x")

    with pytest.raises(TypeError, match=r"args is a list.*not 'ls -l; rm x'.*pass \['sh', '-c', text\]"):
        run(main())


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ([], ValueError, "this one is empty"),
        (["ls", 5], TypeError, r"str, bytes or paths, not 5 \(int\)"),
        (["ls", "a\0b"], ValueError, "no argument contains a NUL"),
        (["no-such-program"], FileNotFoundError, "'no-such-program'"),
        (["/etc/passwd"], PermissionError, "'/etc/passwd'"),
        ([Path("/etc/passwd")], PermissionError, "/etc/passwd"),
        ([b"/no/such"], FileNotFoundError, "/no/such"),
    ],
)
def test_a_program_that_cannot_be_started_is_a_clear_error(args, error, text):
    def main():
        yield from run_process(args)

    with pytest.raises(error, match=text):
        run(main())


def test_a_directory_that_is_missing_is_named(tmp_path):
    def main():
        yield from run_process(["true"], cwd=tmp_path / "gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        run(main())


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"shell": True}, TypeError, r"no option 'shell': pass \['sh'"),
        ({"text": True}, TypeError, "no option 'text': output is bytes"),
        ({"start_new_session": False}, TypeError, "no option 'start_new_session'$"),
        ({"input": "text"}, TypeError, "encode it first"),
        ({"input": b"", "stdin": None}, ValueError, "`input` or `stdin`, and not both"),
        ({"limit": -1}, ValueError, "limit is a number of bytes"),
        ({"timeout": -1}, ValueError, "timeout is a number of seconds"),
        ({"grace": None}, TypeError, "grace is a number of seconds"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_started(keywords, error, text):
    def main():
        yield from run_process(["true"], **keywords)

    with pytest.raises(error, match=text):
        run(main())


def test_a_file_in_non_blocking_mode_is_not_shared():
    def main(sock, other):
        with sock, other:
            yield from run_process(["cat"], stdin=sock)

    sock, other = helpers.pair()
    assert isinstance(sock, Socket)
    with pytest.raises(TypeError, match=r"stdin: .*is in non-blocking mode, which the child would share"):
        run(main(sock, other))


def test_a_process_is_used_in_its_block_and_once():
    def main():
        process = open_process(["true"])
        for call in (process.terminate, process.wait):
            with pytest.raises(SyscallError, match="has not been started: write `async with open_process"):
                call()
        with pytest.raises(SyscallError, match="the end of the block waits for the process: write `async with`"):
            with process:
                pass
        with pytest.raises(SyscallError, match="use takes a function"):
            yield from process.use(None)
        yield from process.use(lambda process: process.wait())
        with pytest.raises(SyscallError, match="was started before: call open_process again"):
            yield from process.use(lambda process: process.wait())
        return process

    process = run(main())
    assert repr(process) == "<ChildProcess true>"

    def other():
        yield process.wait()

    with pytest.raises(SyscallError, match="belongs to another run"):
        run(other())


def test_a_second_block_of_a_process_is_refused_and_leaves_the_first_alone():
    def main():
        def body(process):
            with pytest.raises(SyscallError, match="was started before"):
                yield from process.begin()
            process.send_signal(signal.SIGINT)
            return (yield process.wait())

        return (yield from open_process(["sleep", "60"]).use(body))

    assert run(main()) == -signal.SIGINT


def test_the_constants_are_those_of_subprocess():
    assert (PIPE, DEVNULL) == (subprocess.PIPE, subprocess.DEVNULL)


def test_another_system_gets_an_error(monkeypatch):
    def main():
        with monkeypatch.context() as patch:
            patch.setattr(child_processes.os, "name", "nt")
            with pytest.raises(OSError, match="no process groups"):
                yield from open_process(["true"]).begin()

    run(main())


# The program around the run: signals, other reapers, forks.


def test_a_program_that_ignores_sigchld_gets_an_error_and_no_wrong_status(system):
    def main():
        with pytest.raises(ChildProcessError, match="<ChildProcess sh> has ended with an unknown status"):
            yield from run_process(sh("exit 3"), check=False)
        process = open_process(["sleep", "60"])
        yield from process.use(lambda process: Sleep(0))
        return process.returncode

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run(main()) is None
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_another_reaper_may_take_the_status(system, monkeypatch):
    """The group of a child that others have collected gets no signal, unless the system names it by the pidfd."""

    def main():
        def body(process):
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            with pytest.raises(ChildProcessError, match="unknown status"):
                yield process.wait()
            for name in ("kill", "killpg"):
                monkeypatch.setattr(os, name, lambda *arguments: sent.append(arguments))
            process.send_signal(signal.SIGTERM)
            process.terminate()

        sent = []
        yield from open_process(["sleep", "60"], grace=0.1).use(body)
        return sent

    assert run(main()) == []


def test_a_status_that_is_taken_between_the_end_and_the_collection_is_kept(system):
    if system == "pid without waitid":
        pytest.skip("the end is seen by collecting it")

    def main():
        def body(process):
            status = yield process.wait()
            os.waitpid(process.pid, 0)
            return status

        process = open_process(sh("exit 4"), grace=0.1)
        return (yield from process.use(body)), process.returncode

    assert run(main()) == (4, 4)


@linux
def test_a_pidfd_that_the_program_closes_is_replaced_by_the_pid():
    def main():
        def body(process):
            task = yield Spawn(iter_wait(process))
            yield
            os.close(process.child.leader.pidfd)
            os.kill(process.pid, signal.SIGKILL)
            return (yield Join(task))

        return (yield from open_process(["sleep", "60"]).use(body))

    def iter_wait(process):
        return (yield process.wait())

    assert run(main()) == -9


def test_a_run_that_is_aborted_kills_its_children(system):
    def main():
        def body(process):
            kernel = (yield CurrentTask()).kernel
            timers = kernel.service(Timers)
            timers.call_at(timers.now() + 0.02, fail)
            processes.append(process)
            yield Sleep(60)

        yield from open_process(sh(STUBBORN)).use(body)

    def fail():
        raise ZeroDivisionError

    processes = []
    with pytest.raises(ZeroDivisionError):
        run(main())
    assert processes[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize(("grace", "cleanup"), [(60, 0.02), (0, 60)])
def test_a_cancelled_block_gives_its_process_the_grace(grace, cleanup):
    def main():
        def body(process):
            yield Read(process.stdout, 100)
            tasks[0].kernel.cancel(tasks[0])
            yield Sleep(60)

        process = open_process(
            sh(f"trap 'sleep {cleanup}; exit 9' TERM; echo ready; while :; do sleep 0.01; done"), grace=grace
        )
        tasks = [(yield Spawn(process.use(body), keep=True))]
        with pytest.raises(TaskCancelled):
            yield Join(tasks[0])
        return process.returncode

    assert run(main()) == (9 if grace else -signal.SIGKILL)


def test_a_process_whose_block_is_never_left_is_killed_at_the_end_of_the_run(system):
    def main():
        process = open_process(["sleep", "60"])
        yield from process.begin()
        return process

    process = run(main())
    assert process.returncode == -signal.SIGKILL
    assert process.stdin.closed and process.stdout.closed


def test_a_wait_that_the_system_refuses_ends_the_process(monkeypatch):
    def main():
        def body(process):
            yield Read(process.stdout, 100)
            monkeypatch.setattr(minisched.Poller, "add_waiter", no_memory)
            with pytest.raises(OSError, match="no memory"):
                yield process.wait()
            processes.append(process)

        yield from open_process(sh(STUBBORN)).use(body)

    def no_memory(*arguments):
        raise OSError(errno.ENOMEM, "no memory")

    processes = []
    with pytest.raises(OSError, match="no memory"):
        run(main())
    assert processes[0].returncode == -signal.SIGKILL


def test_a_block_that_is_closed_kills_its_process():
    def block(processes):
        def body(process):
            processes.append(process)
            yield Sleep(60)

        yield from open_process(["sleep", "60"]).use(body)

    def main():
        processes = []
        generator = block(processes)
        call = next(generator)
        while not processes:
            answer = yield call
            call = generator.send(answer)
        generator.close()
        return processes[0].returncode

    assert run(main()) == -signal.SIGKILL


def test_an_async_generator_that_is_closed_ends_its_process_with_a_grace():
    async def lines():
        async with open_process(sh("trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done")) as process:
            processes.append(process)
            while data := await Read(process.stdout, 100):
                yield data

    async def main():
        generator = lines()
        async for line in generator:
            assert line == b"ready\n"
            break
        await generator.aclose()
        return processes[0].returncode

    processes = []
    assert run(main()) == 9


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks beside threads
def test_a_fork_of_this_process_leaves_the_children_alone():
    def main():
        def body(process):
            pid = os.fork()
            if not pid:
                try:
                    yield Sleep(60)
                finally:
                    process.child.leader.send_to_group(signal.SIGKILL)
                    process.kill_now()
                    os._exit(0)
            os.waitpid(pid, 0)
            yield Sleep(0)
            return process.returncode

        return (yield from open_process(["sleep", "60"]).use(body))

    assert run(main()) is None


@linux
def test_a_zombie_is_not_a_member_of_a_group():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, process_group=0) as process:
        assert children.has_member(process.pid)
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not children.has_member(process.pid)


@pytest.mark.slow
def test_the_second_ctrl_c_kills_a_child_that_ignores_sigterm(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
            from minisched import Read, Sleep, open_process, run

            def main():
                def body(process):
                    yield Read(process.stdout, 100)
                    print("pid", process.pid, flush=True)
                    try:
                        yield Sleep(60)
                    finally:
                        print("cancelled", flush=True)
                yield from open_process({sh(STUBBORN)}, grace=600).use(body)

            run(main())
            """)
    )
    with started(program) as one:
        pid = int(one.expect(r"pid (\d+)\n")[1])
        one.process.send_signal(signal.SIGINT)
        one.expect("cancelled")
        assert alive(pid)
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(60) == -signal.SIGINT
        ends(pid)


@pytest.mark.slow
def test_the_second_ctrl_c_at_any_line_of_the_package_leaves_no_child():
    before, number, ends = Resources(), 1, {}
    while (found := interrupted_at(number)) is not None:
        where, outcome = found
        ends[outcome] = where
        assert before.left() == "", f"the second Ctrl-C at {where} leaves something"
        number += LINES_PER_STEP
    assert number > 500
    assert ends.keys() == {"KeyboardInterrupt()"}


LINES_PER_STEP = 7  # each line would take a minute


def interrupted_at(number):
    """Run processes, with the second Ctrl-C at one line of the package; return the line and the outcome, or None."""
    points = []

    def main():
        def body(process):
            yield Write(process.stdin, b"in")
            assert (yield Read(process.stdout, 100)) == b"in"
            yield select(process.wait(), Sleep(0))

        kernel = (yield CurrentTask()).kernel
        kernel.service(Interrupts).count = 1
        points.append(AtLine(number, kernel))
        with points[0]:
            yield from open_process(["cat"], grace=60).use(body)
            yield from run_process(["cat"], input=b"in")

    try:
        minisched.run(main(), debug=False)
        outcome = "nothing"
    except BaseException as error:
        outcome = repr(error)
    finally:
        sys.settrace(None)
    gc.collect()
    return None if points[0].where is None else (points[0].where, outcome)


# Cancellation at each point.


def no_child():
    assert not [pid for pid in children_of_this() if pid not in children_before], "a child is left"


children_before = set()


@pytest.mark.slow
def test_run_process_cancelled_at_every_point_leaves_nothing():
    children_before.update(children_of_this())

    def make():
        async def main():
            result = await run_process(["cat"], input=b"in", grace=0.001)
            assert result.stdout == b"in"

        return main(), no_child

    before = Resources()
    assert cancel_everywhere(make, expected=(CalledProcessError, AssertionError)) > 30
    gc.collect()
    assert before.left() == ""


@pytest.mark.parametrize(
    "system",
    [name if name == SYSTEMS[0] else pytest.param(name, marks=pytest.mark.slow) for name in SYSTEMS],
    indirect=True,
)
def test_open_process_cancelled_at_every_point_leaves_nothing(system):
    children_before.update(children_of_this())

    def make():
        def main():
            def body(process):
                yield from gather(reads(process), writes(process))
                yield process.wait()

            yield from open_process(["cat"]).use(body)

        def reads(process):
            while (yield Read(process.stdout, 100)):
                pass

        def writes(process):
            yield Write(process.stdin, b"in")
            process.stdin.close()

        return main(), no_child

    before = Resources()
    assert cancel_everywhere(make, expected=(ClosedError,)) > 20
    assert before.left() == ""


def test_many_processes_at_once():
    def main():
        results = yield from gather(*(run_process(["cat"], input=b"%d" % number) for number in range(20)))
        return [result.stdout for result in results]

    before = threading.active_count()
    assert run(main()) == [b"%d" % number for number in range(20)]
    assert threading.active_count() == before
