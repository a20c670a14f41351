"""run_process: the whole life of a child process as one call, with its input and its output.

Theory of operation. Four tasks work in the block of `open_process`: one writes the input, two read the output, and one
waits for the end. So no pipe that is full keeps the child from going on. When the child has ended, the others may go on
for `grace` seconds: a process that the child has started may still have the pipes.

Invariants:
1. When the call returns or raises, the child has ended, and so have the processes of its group.
2. At most `limit` bytes of each output are kept, and one read more.

Decision: the result and the errors are those of `subprocess.run`. Because: they have all that there is to say about an
end (the command, the status, the output), and programs handle them already. Output beyond `limit` is a LimitExceeded,
as elsewhere in this package. Rejected: TimedOut for `timeout`, which has no output.

Decision: the standard input is empty by default, and the output is captured. Because: a child that reads the terminal
of a server would wait for ever, and the one thing that a program wants from a command is its output. Rejected: the
defaults of `subprocess.run`, which inherit all three.

Not here: how a process starts and ends (`child_processes`).
"""

from __future__ import annotations

from ..errors import LimitExceeded
from ..io.files import Read, Write, bytes_of
from ..kernel.numbers import check_count, check_seconds
from ..tasks.gather import gather
from ..tasks.scopes import CancelScope, MoveOnAfter
from ..tasks.tasks import awaitable
from ..tasks.timers import Now
from .child_processes import GRACE_SECONDS, PIPE, ChildProcess, open_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from os import PathLike
    from subprocess import CompletedProcess
    from typing import Any

    from ..io.filelike import Bytes
    from ..io.pipes import Pipe
    from ..tasks.scopes import CancelContext
    from .child_processes import Argument, Given

DEVNULL: int = -3  # as in `subprocess`
LIMIT_BYTES = 16 * 2**20  # the default of `limit`: more than a person reads, and little beside a machine's memory
READ_BYTES = 65536  # of one read: a pipe holds as many
NOTE_BYTES = 2000  # of the error output in the note of a CalledProcessError: a screen


@awaitable
def run_process(
    args: Sequence[Argument],
    *,
    input: Bytes | None = None,
    stdin: Given = DEVNULL,
    stdout: Given = PIPE,
    stderr: Given = PIPE,
    cwd: str | bytes | PathLike[str] | PathLike[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    check: bool = True,
    limit: int | None = LIMIT_BYTES,
    grace: float = GRACE_SECONDS,
    **options: Any,
) -> Generator[Any, Any, CompletedProcess[bytes]]:
    """Run a program to its end; return its exit status and output. Call it by `yield from`, or `await` it.

    The input is written and the output is read while the program runs. A cancellation, the timeout and an error end the
    program and what it has started: SIGTERM to its process group, and after `grace` seconds SIGKILL. The call waits for
    that. Processes that the program leaves behind in its group are ended likewise.

    Args:
        args: the program and its arguments, a list. No shell is involved.
        input: bytes for the standard input of the program, which is then closed. A program that does not read it all
            is not an error.
        stdin: without `input`: the standard input, as for `open_process`; by default it is empty.
        stdout, stderr: `subprocess.PIPE`, the default: the output is part of the result. Otherwise as for
            `open_process`, such as None, which is the output of this process.
        cwd, env, options: as for `open_process`.
        timeout: the seconds after which the program is ended; None: no limit.
        check: raise CalledProcessError for an exit status other than 0.
        limit: the most bytes of each output; None: no limit.
        grace: the seconds between SIGTERM and SIGKILL, and for output after the end of the program.

    Returns:
        A `subprocess.CompletedProcess`: `returncode`, negative for a signal; `stdout` and `stderr`, bytes, or None if
        they were not captured.

    Raises:
        subprocess.CalledProcessError: with `check`, for an exit status other than 0. It has the output, and a note with
            the end of the error output.
        subprocess.TimeoutExpired: after `timeout` seconds. It has the output so far.
        LimitExceeded: the output is longer than `limit` bytes.
        ChildProcessError: the exit status is unknown, as other code of the program has collected it.
        TypeError, ValueError, OSError: as for `open_process`.

    Example:
        >>> from minisched import run, run_process
        >>> def main():
        ...     result = yield from run_process(["tr", "a-z", "A-Z"], input=b"hello")
        ...     return result.returncode, result.stdout
        >>> run(main())
        (0, b'HELLO')
    """
    talk = Talk(input, stdin, limit)
    timeout = None if timeout is None else check_seconds("run_process", "timeout", timeout, optional=True)
    files: dict[str, Any] = {"stdin": talk.stdin, "stdout": stdout, "stderr": stderr}
    process = open_process(args, cwd=cwd, env=env, grace=grace, **files, **options)
    with (yield MoveOnAfter(timeout)) as scope:
        yield from process.use(talk.with_process)
    out, err = talk.output("stdout"), talk.output("stderr")
    from subprocess import CalledProcessError, CompletedProcess, TimeoutExpired  # imported here: slow to import

    if scope.cancelled_caught:
        assert timeout is not None
        raise TimeoutExpired(process.args, timeout, out, err)
    status = process.started("the status").outcome()
    if check and status:
        error = CalledProcessError(status, process.args, out, err)
        if err:
            error.add_note(err[-NOTE_BYTES:].decode(errors="replace"))
        raise error
    return CompletedProcess(process.args, status, out, err)


class Talk:
    """The input and the output of one process."""

    def __init__(self, input: Any, stdin: Given, limit: int | None) -> None:
        if input is not None and stdin != DEVNULL:
            raise ValueError("run_process takes `input` or `stdin`, and not both")
        if isinstance(input, str):
            raise TypeError("run_process: input is bytes, not str: encode it first")
        self.input = None if input is None else bytes_of(input)
        self.stdin = stdin if input is None else PIPE
        if limit is not None:
            limit = check_count("run_process", "limit", "bytes", limit, optional=True, endless=True)
        self.limit = limit
        self.pieces: dict[str, list[bytes]] = {}  # of the output, by the name of the pipe

    @awaitable
    def with_process(self, process: ChildProcess) -> Generator[Any, Any, None]:
        """Write, read and wait, all at once: the block of the process."""
        with (yield CancelScope()) as scope:
            tasks = [self.wait(process, scope)]
            if process.stdin is not None:
                tasks.append(self.write(process.stdin))
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
                if pipe is not None:
                    self.pieces[name] = []
                    tasks.append(self.read(name, pipe))
            _ = yield from gather(*tasks)

    @awaitable
    def wait(self, process: ChildProcess, scope: CancelContext) -> Generator[Any, Any, None]:
        """Wait for the process; then give the other tasks `grace` seconds."""
        yield process.wait()
        scope.deadline = (yield Now()) + process.grace

    @awaitable
    def write(self, pipe: Pipe) -> Generator[Any, Any, None]:
        """Write the input, as far as the process takes it."""
        assert self.input is not None
        try:
            yield Write(pipe, self.input)
        except BrokenPipeError:
            pass  # the process does not want the rest
        pipe.close()

    @awaitable
    def read(self, name: str, pipe: Pipe) -> Generator[Any, Any, None]:
        """Read an output to its end."""
        size, pieces = 0, self.pieces[name]
        while piece := (yield Read(pipe, READ_BYTES)):
            size += len(piece)
            pieces.append(piece)
            if self.limit is not None and size > self.limit:
                raise LimitExceeded(
                    f"{pipe.label} is longer than {self.limit} bytes: pass another `limit`, or read it in pieces by "
                    "open_process"
                )

    def output(self, name: str) -> bytes | None:
        """Return the output of this name, and forget its pieces; None if it was not captured."""
        pieces = self.pieces.pop(name, None)
        return None if pieces is None else b"".join(pieces)
