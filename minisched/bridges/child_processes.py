"""Child processes: `open_process`, a block with a child process, its pipes, and the group that ends with the block.

Theory of operation. Entering the block starts the child, by `subprocess.Popen`, as the leader of a session and of a
process group. The processes that the child starts are in this group, too. The end of the block closes the pipes, and
sends SIGTERM to the group. When the child and the rest of the group have ended, or after `grace` seconds, it sends
SIGKILL. The exit status is collected last (`children`). This end is shielded from cancellation.

Invariants:
1. When the block has been left, the child has ended, its status is collected, and its pipes are closed.
2. A run that is aborted kills the groups of its children, and collects the children, before `run` raises.

Decision: the child is started in the run's thread. Because: Popen holds the GIL until the new program runs (vfork), so
that another thread does not help the other tasks. It takes 0.5 to 1 ms (`python -m tests.benchmarks processes`).
Rejected: InThread.

Decision: the child has a session of its own, and not only a group. Because: a group in the background that reads the
terminal is stopped by SIGTTIN, and the child would hang; in another session, it gets an error. Ctrl-C at the terminal
reaches the run alone, which cancels the tasks, and these end their children. Rejected: the group of this process, whose
signals would reach this process, too.

Not here: the whole life of a process as one call (`run_process`); waiting for its end (`child_ends`); signals to a
group without a race (`children`).
"""

from __future__ import annotations

import os
import signal

from ..errors import SyscallError
from ..io.pipes import Pipe
from ..kernel import Service, Syscall
from ..kernel.generic import Answer
from ..kernel.lifecycle import can_wait
from ..kernel.numbers import check_seconds
from ..kernel.primitive import check_caller
from ..kernel.waiting import task_of
from ..tasks.scopes import MoveOnAfter, Shield
from ..tasks.taskgroup import check_function
from ..tasks.tasks import awaitable, finished
from ..tasks.timers import Sleep
from .child_ends import FIRST_CHECK_SECONDS, ChildEnd, WaitProcess
from .children import Leader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from os import PathLike
    from types import TracebackType
    from typing import IO, Any, NoReturn, Self

    from ..kernel import Kernel, Task
    from ..tasks.tasks import Body

    Argument = str | bytes | PathLike[str] | PathLike[bytes]
    Given = int | IO[Any] | None  # a file that the child gets

PIPE: int = -1  # as in `subprocess`, which is slow to import
GRACE_SECONDS = 3.0  # the default of `grace`, as that of a server
OPTIONS = (
    "executable",
    "extra_groups",
    "group",
    "pass_fds",
    "pipesize",
    "restore_signals",
    "umask",
    "user",
)  # of Popen
NO_SHELL = (
    "{0}: args is a list, such as ['ls', '-l', path], not {1!r}: only a shell splits a text, and it runs each command "
    "in it, also one that hides in a name; where a shell is meant, pass ['sh', '-c', text]"
)


class Children(Service):
    """The child processes of a run that were not collected yet, and the tasks that wait for their ends."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.alive: dict[ChildProcess, None] = {}

    def tasks(self) -> Iterable[Task]:
        return [task_of(waiter) for process in self.alive for waiter in process.started("a wait").waiters]

    def close(self) -> None:
        """Kill what is left."""
        for child in list(self.alive):
            child.kill_now()


class ChildProcess:
    """A child process, inside the block of `open_process`.

    `send_signal`, `terminate` and `kill` are plain calls, in the run's thread. They do nothing when the process has
    ended, and never reach another one, even if its pid was given away. After the block, `returncode` stays.

    Attributes:
        args: the arguments.
        pid: the process id, and the number of the process group; 0 before the start.
        stdin: the pipe to the child's standard input, for Write; None without one. `process.stdin.close()` is its end.
        stdout, stderr: the pipes from the child's output, for Read; None without one.

    Example:
        >>> from minisched import open_process, run
        >>> async def main():
        ...     async with open_process(["sleep", "60"]) as process:
        ...         process.terminate()
        ...         return await process.wait()
        >>> run(main())
        -15
    """

    def __init__(self, args: list[Argument], options: dict[str, Any], grace: float) -> None:
        self.args = args
        self.options = options  # of Popen
        self.grace = grace
        self.pid = 0
        self.stdin: Pipe | None = None
        self.stdout: Pipe | None = None
        self.stderr: Pipe | None = None
        self.owner: Task | None = None  # while the block is open
        self.child: ChildEnd | None = None  # from the start on

    def start(self, kernel: Kernel, task: Task) -> None:
        """Start the process, as that of a block of `task`."""
        if self.child is not None:
            raise SyscallError(f"{self!r} was started before: call open_process again")
        if os.name != "posix":
            raise OSError(f"{self!r}: this system has no process groups, or no pipes that can be polled")
        from subprocess import Popen  # imported here: slow to import

        popen: Any = Popen(self.args, bufsize=0, start_new_session=True, **self.options)
        self.child = ChildEnd(kernel, Leader(popen.pid), repr(self))
        popen.returncode = 0  # the leader collects the child; without this, Popen would
        self.owner, self.pid = task, popen.pid
        kernel.service(Children).alive[self] = None
        for name in ("stdin", "stdout", "stderr"):
            file: Any = getattr(popen, name)
            setattr(self, name, None if file is None else Pipe(kernel, file, f"{name} of {self.name}"))

    @property
    def name(self) -> str:
        """The name of the program, for messages."""
        return os.path.basename(os.fsdecode(self.args[0]))

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the number of a signal; None while the process runs, or if it is unknown."""
        child = self.child
        return child.leader.returncode if child is not None and child.leader.has_ended() else None

    def wait(self) -> WaitProcess:
        """Return a call that waits for the end of the process: `status = yield process.wait()`.

        The end of the process wakes the task; several tasks may wait. A cancellation ends the wait, and not the
        process. A child that fills its pipe waits for a reader: read its output first, or meanwhile.

        Returns:
            The exit status, or minus the number of the signal that ended the process.

        Raises:
            ChildProcessError: the process has ended, and its exit status is unknown, since other code of the program
                has collected it (`os.waitpid(-1, 0)`), or the program ignores SIGCHLD.
            SyscallError: before the block is entered, and in another run.
        """
        return WaitProcess(self.started("a wait"))

    def send_signal(self, signum: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to its whole group.

        Args:
            signum: the signal.
            group: send it also to what the process has started, except for what has left the group, as a daemon does.

        Raises:
            PermissionError: this process may not signal the child, which runs for another user.
            SyscallError: before the start, and in another thread than the run's.
        """
        child = self.started("a signal")
        check_caller(child.kernel, "send_signal", self)
        if not group:
            child.leader.send(signum)
        elif self.owner is not None:
            _ = child.leader.send_to_group(signum)

    def terminate(self) -> None:
        """Send SIGTERM to the process and all of its group."""
        self.send_signal(signal.SIGTERM, group=True)

    def kill(self) -> None:
        """Send SIGKILL to the process and all of its group."""
        self.send_signal(signal.SIGKILL, group=True)

    @awaitable
    def use(self, body: Callable[[ChildProcess], Body[Answer]]) -> Generator[Any, Any, Answer]:
        """Run `body(process)` as the block of this process, and end the process; return the result of the body.

        Call it by `yield from`. This is the `async with` of a generator.

        Args:
            body: a generator function or an `async def` with one parameter, the process.
        """
        check_function(body, "use")
        yield from self.begin()
        error = None
        try:
            return (yield from finished(body(self)))
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                yield from self.end(error)
            finally:
                del error  # this frame is in its traceback: leave no cycle

    @awaitable
    def begin(self) -> Generator[Any, Any, None]:
        """Start the process: the begin of the block."""
        before = self.child
        try:
            yield StartProcess(self)
        except BaseException:
            if self.child is not before:  # the task was closed before its next turn
                self.kill_now()
            raise

    @awaitable
    def end(self, error: BaseException | None) -> Generator[Any, Any, None]:
        """End the process and its group, at the end of the block, which raised `error`."""
        owner = self.owner
        if owner is None or (isinstance(error, GeneratorExit) and not can_wait(owner, error)):
            return self.kill_now()
        try:
            self._close_pipes()
            if not self.started("the end").leader.is_alone():
                with (yield Shield(None)):
                    yield from self._end_group()
        except BaseException:  # the second Ctrl-C, or the run is aborted
            self.kill_now()
            raise
        return self._forget()

    @awaitable
    def _end_group(self) -> Generator[Any, Any, None]:
        leader = self.started("the end").leader
        self._send_to_group(signal.SIGTERM)
        with (yield MoveOnAfter(self.grace)):
            yield from self._ended()
            seconds = FIRST_CHECK_SECONDS
            while leader.group_remains():
                yield Sleep(seconds)
                seconds *= 2
        self._send_to_group(signal.SIGKILL)
        yield from self._ended()
        leader.collect()

    @awaitable
    def _ended(self) -> Generator[Any, Any, None]:
        try:
            yield self.wait()
        except ChildProcessError:
            pass  # the status is unknown, and the process has ended

    def _send_to_group(self, signum: int) -> None:
        try:
            _ = self.started("a signal").leader.send_to_group(signum)
        except PermissionError:
            pass  # a set-user-ID program, or one of another user, ends by itself

    def kill_now(self) -> None:
        """Kill the group and collect the child, without a task that could wait."""
        if self.child is not None and self.owner is not None:
            if not self.child.leader.kill_now():
                import warnings  # imported here: a rare case

                warnings.warn(f"{self!r} has not ended after SIGKILL", ResourceWarning, stacklevel=2)
            self._close_pipes()
            self._forget()

    def _close_pipes(self) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    def _forget(self) -> None:
        child = self.started("the end")
        self.owner = None
        child.wake()
        child.leader.close()
        _ = child.kernel.service(Children).alive.pop(self, None)

    def started(self, what: str) -> ChildEnd:
        """Return the child; SyscallError, which names `what`, before it is started."""
        if self.child is None:
            raise SyscallError(
                f"{what} of {self!r}, which has not been started: write `async with open_process(...) as process:`, or "
                "in a generator `yield from open_process(...).use(body)`"
            )
        return self.child

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self.end(error)
        finally:
            del error, trace  # this frame is in the traceback: leave no cycle

    def __enter__(self) -> NoReturn:
        raise SyscallError(
            f"{self!r}: the end of the block waits for the process: write `async with`, or in a generator "
            "`yield from open_process(...).use(body)`"
        )

    def __exit__(self, *exception: object) -> None: ...

    def __repr__(self) -> str:
        return f"<ChildProcess {self.name}>"


class StartProcess(Syscall[None]):
    """Start the process of a block; `async with open_process(...)` yields this call."""

    __slots__ = ("process",)

    def __init__(self, process: ChildProcess) -> None:
        self.process = process

    def handle(self, kernel: Kernel, task: Task) -> None:
        self.process.start(kernel, task)


def open_process(
    args: Sequence[Argument],
    *,
    stdin: Given = PIPE,
    stdout: Given = PIPE,
    stderr: Given = None,
    cwd: str | bytes | PathLike[str] | PathLike[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    grace: float = GRACE_SECONDS,
    **options: Any,
) -> ChildProcess:
    """Return a block with a child process: `async with open_process(args) as process:`.

    In a generator, call `yield from open_process(args).use(body)`, which runs `body(process)` as the block. The block
    starts the process, in a session and a process group of its own. Its end closes the pipes, and ends the process and
    what it has started: SIGTERM to the group, and after `grace` seconds SIGKILL. It waits for that, also when the task
    is cancelled. So first yield `process.wait()` if the process is to end by itself. A group without a child that is
    alive gets SIGKILL at once on systems older than Linux 6.9. A process that is started in the block of another one
    is not in its group.

    Args:
        args: the program and its arguments, a list. No shell is involved.
        stdin: the child's standard input: `subprocess.PIPE`, a pipe that is `process.stdin`; None, that of this
            process; `subprocess.DEVNULL`; or a file in blocking mode.
        stdout, stderr: the child's output, likewise; `stderr=subprocess.STDOUT`: the same as `stdout`. Each pipe has to
            be read: a child that fills it waits.
        cwd: the child's working directory; None: that of this process.
        env: the child's environment variables; None: those of this process.
        grace: the seconds between SIGTERM and SIGKILL, at the end of the block.
        options: `pass_fds`, `umask`, `user`, `group`, `extra_groups`, `executable`, `pipesize`, `restore_signals` of
            `subprocess.Popen`.

    Returns:
        A `ChildProcess`, for one block.

    Raises:
        TypeError, ValueError: for wrong arguments.
        FileNotFoundError, NotADirectoryError, PermissionError: from the block: there is no such program or directory,
            or it is not executable.
        OSError: from the block: for other errors of the system, such as too many open files.

    Example:
        >>> from minisched import Read, Write, open_process, run
        >>> def main():
        ...     def body(process):
        ...         yield Write(process.stdin, b"a line")
        ...         process.stdin.close()
        ...         return (yield Read(process.stdout, 100)), (yield process.wait())
        ...     return (yield from open_process(["cat"]).use(body))
        >>> run(main())
        (b'a line', 0)
    """
    grace = check_seconds("open_process", "grace", grace)
    files = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    return ChildProcess(
        check_args("open_process", args), {**files, "cwd": cwd, "env": env, **check(options, files)}, grace
    )


def check_args(call: str, args: Any) -> list[Any]:
    """Return the arguments as a list; raise TypeError or ValueError, which says what to pass instead."""
    if hasattr(args, "__fspath__") or isinstance(args, (str, bytes)):
        raise TypeError(NO_SHELL.format(call, args))
    found: list[Any] = list(args)
    if not found:
        raise ValueError(f"{call}: args is a list of the program and its arguments, and this one is empty")
    for argument in found:
        if not (hasattr(argument, "__fspath__") or isinstance(argument, (str, bytes))):
            raise TypeError(f"{call}: args are str, bytes or paths, not {argument!r} ({type(argument).__name__})")
        if b"\0" in os.fsencode(argument):
            raise ValueError(f"{call}: no argument contains a NUL, and {argument!r} does")
    return found


def check(options: dict[str, Any], files: dict[str, Any]) -> dict[str, Any]:
    """Return the options; raise TypeError for one that is not passed on to Popen, and for a file that can't be shared.

    A non-blocking file that the child shares would be non-blocking for the child, too.
    """
    for name in options:
        if name not in OPTIONS:
            why = "" if name != "shell" else ": pass ['sh', '-c', text], where a shell is meant"
            why = why or (": output is bytes, which `bytes.decode` makes a str" if name in ("text", "encoding") else "")
            raise TypeError(f"a child process has no option {name!r}{why}")
    for name, file in files.items():
        if hasattr(file, "file_state"):
            raise TypeError(
                f"{name}: {file!r} is in non-blocking mode, which the child would share: pass a descriptor, a plain "
                "file or socket, or an end of os.pipe()"
            )
    return options
