"""Record a real run, and replay it offline: the same answers of the world give the same run.

Theory of operation. `record` runs a program in a world that notes each answer (`world`, `tape`). `replay` runs it again
in a world that has only these answers: no socket is opened, no thread is started, and no time passes. Each question of
the replay is compared with the one that was recorded. The first that differs ends the run with Diverged, whatever the
program catches.

How can a replay differ? The program has changed, or it depends on something that it did not ask the loop for: a random
number, `time.time()`, the order of a set, a file that it has opened by itself, or an object that a function of InThread
has changed. That function is not called again: only its result is known.

Invariants:
1. A replay that has diverged gives no answer but those of its cleanup: its run ends with Diverged.
2. A call that can't be recorded ends the recorded run, by a sentence that names it.

A second Ctrl-C is raised in any line of the program, and can't be repeated. A recording ends there.

Not here: the questions (`world`, `world_sockets`); the form of the answers (`tape`).
"""

from __future__ import annotations

import json
import os
import zlib
from base64 import b64encode
from functools import partial

from ..errors import SyscallError
from ..kernel.tracebacks import PACKAGE
from ..kernel.watcher import Watcher
from ..loop import run
from .report import label, stack
from .tape import BadRecording, NotRecordable, TapeReader, TapeWriter, arguments, decode, described, encode
from .world import World
from .world_sockets import WorldSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence
    from typing import Any, TypeVar

    from ..kernel import Syscall, Task
    from ..tasks.clocks import Clock

    Result = TypeVar("Result")
    Program = Generator[Any, Any, Result] | Coroutine[Any, Any, Result]

# The calls of these modules ask the world for something that has no form in a recording.
NOT_RECORDABLE = {
    "minisched.bridges.child_processes": "processes are outside of the run",
    "minisched.bridges.portal": "other threads call functions of the run through it",
    "minisched.bridges.universal_queue": "other threads use the queue, too",
    "minisched.net.datagrams": "only sockets with connections are recorded",
    "minisched.net.tls": "the keys of TLS are random",
}
ENDS = ("cut", "raised")  # of a recording before the end of its run
FLUSH_SECONDS = 0.1  # a block is written when the loop waits, but not more often than this


class Diverged(SyscallError):
    """A replay has asked another question than the recorded run. The text has both, the task, the file and the line.

    Example:
        >>> import tempfile
        >>> from minisched import Now, run
        >>> from minisched.lab import Diverged, record, replay
        >>> def main(times):
        ...     for _ in range(times):
        ...         yield Now()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record(main(2), folder + "/run.jsonl")
        ...     try:
        ...         replay(main(3), folder + "/run.jsonl")
        ...     except Diverged:
        ...         print("the third question is a new one")
        the third question is a new one
    """


class RecordingEnded(SyscallError):
    """The replay is at the end of a recording that was cut, as by a recorder that was killed.

    Example:
        >>> import os, tempfile
        >>> from minisched import Now
        >>> from minisched.lab import RecordingEnded, record, replay
        >>> def main():
        ...     yield Now()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record(main(), folder + "/run.jsonl")
        ...     os.truncate(folder + "/run.jsonl", os.path.getsize(folder + "/run.jsonl") - 1)
        ...     try:
        ...         replay(main(), folder + "/run.jsonl")
        ...     except RecordingEnded:
        ...         print("replayed up to there")
        replayed up to there
    """


def record(
    main: Program[Result],
    path: str | os.PathLike[str],
    *,
    clock: Clock | None = None,
    watch: Sequence[Watcher] = (),
    debug: bool = False,
    **header: Any,
) -> Result:
    """Run a program, and write the answers of the operating system to a file; return its result.

    The run is as one of `minisched.run`, with the same errors, at less than twice the CPU time
    (`python -m tests.benchmarks echo_50x64B`). It can use the clock, TCP and Unix sockets, files, pipes and other
    descriptors, host names, InThread and Submit, WaitSignal and Ctrl-C. Results of threads can be None, numbers, str,
    bytes, lists, tuples and dicts of these, and exceptions of Python and of minisched. Paths are compared by their last
    component.

    Args:
        main: the generator or coroutine of the first task.
        path: the file. One that exists is overwritten.
        clock: a clock that gives the same times again, such as a VirtualClock; by default the machine's, recorded.
        watch: observers, as for `run`.
        debug: whether to find mistakes of the program, as for `run`.
        header: values that JSON can write, for the first line of the file.

    Raises:
        SyscallError: the program does something that can't be recorded, and the text names it; or the disk is full. The
            file is whole up to there.
        OSError: the file can't be opened, or its end can't be written.

    Example:
        >>> import tempfile
        >>> from minisched import InThread, Now, run
        >>> from minisched.lab import record, replay
        >>> def main():
        ...     return (yield InThread(sum, [1, 2])), (yield Now())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recorded = record(main(), folder + "/run.jsonl")
        ...     recorded == replay(main(), folder + "/run.jsonl")
        True
    """
    try:
        recorder = Recorder(TapeWriter(os.fspath(path), header))
    except BaseException:
        main.close()
        raise
    try:
        return run(main, services=recorder.services(clock), watch=[Refusals(recorder), *watch], debug=debug)
    finally:
        recorder.close()


def replay(
    main: Program[Result],
    path: str | os.PathLike[str],
    *,
    clock: Clock | None = None,
    watch: Sequence[Watcher] = (),
    debug: bool = False,
) -> Result:
    """Run a program with the answers of a recording; return its result, or raise the error of the recorded run.

    Args:
        main: the generator or coroutine of the first task, as it was recorded.
        path: the file that `record` has written.
        clock: the kind of clock that was given to `record`.
        watch: observers, as for `run`.
        debug: whether to find mistakes of the program, as for `run`.

    Raises:
        Diverged: the program asks another question than the recorded run.
        RecordingEnded: the recording was cut, and this is its end.
        BadRecording: the file is not a recording, or was changed.
        OSError: the file can't be read.

    Example:
        A program that has changed diverges:

        >>> import tempfile
        >>> from minisched import InThread, Listen
        >>> from minisched.lab import Diverged, record, replay
        >>> def main(changed):
        ...     yield InThread(sum, [1, 2])
        ...     if changed:
        ...         yield Listen(("127.0.0.1", 0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record(main(False), folder + "/run.jsonl")
        ...     try:
        ...         replay(main(True), folder + "/run.jsonl")
        ...     except Diverged as error:
        ...         print("a new question" if ", now 'listen' of the network" in str(error) else error)
        a new question
    """
    player = Player(TapeReader(os.fspath(path)))
    try:
        result = run(main, services=player.services(clock), watch=watch, debug=debug)
        player.finish()
    except BaseException as error:
        if player.fault is None or error is player.fault:
            raise
        raise player.fault from error
    finally:
        player.tape.close()
    return result


class Refusals(Watcher):
    """Ends a run at a call that can't be recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        if type(call).__module__ in NOT_RECORDABLE:
            self.park(task, call)

    def park(self, task: Task, call: Syscall[Any] | None) -> None:
        reason = NOT_RECORDABLE.get(type(call).__module__)
        if reason is not None and not self.recorder.over:
            self.recorder.over = True
            self.recorder.refused = f"{call!r} of task {task.name!r} can't be recorded: {reason}"
            _ = task.kernel.broken_rule(self.recorder.refused)


class Recorder(World):
    """A world that asks the operating system, and notes the answers."""

    whole = True

    def __init__(self, tape: TapeWriter) -> None:
        super().__init__()
        self.tape = tape
        self.inside = False  # a question is being answered; the questions that its answer needs are a part of it
        self.time = self.flushed_at = 0.0
        self.over = False  # the rest of the run can't be repeated
        self.refused: str | None = None  # why a call could not be recorded

    def ask(self, kind: str, thing: Any, do: Callable[..., Any], *args: Any) -> Any:
        """Return the answer of the operating system, and note it."""
        if self.inside:
            return do(thing, *args)
        self.inside = True
        try:
            answer = do(thing, *args)
        except Exception as error:
            self._write(kind, thing, args, error)
            raise
        finally:
            self.inside = False
        self._write(kind, thing, args, answer)
        return answer

    def _write(self, kind: str, thing: Any, args: tuple[Any, ...], answer: Any) -> None:
        self.checks = 0
        if self.over:
            return
        # The four commonest lines are made by hand: `json.dumps` takes several times as long for them.
        if kind == "now":
            self.time = answer
            self._line(f'["now",0,{answer!r}]')
        elif kind == "read" and type(answer) is bytes:
            self._line(f'["read",{thing.number},{args[0]},{{"b":"{b64encode(answer).decode()}"}}]')
        elif kind == "write" and type(answer) is int:
            self._line(f'["write",{thing.number},{len(args[0])},{zlib.crc32(args[0])},{answer}]')
        elif kind == "poll" and type(answer) is list:
            events = ",".join(map("[%d,%d]".__mod__, answer))  # pyright: ignore[reportUnknownArgumentType]
            self._line(f'["poll",{thing.number},[{events}]]')
            if self.time - self.flushed_at > FLUSH_SECONDS:
                self.flushed_at = self.time
                self._written(self.tape.flush)
        else:
            self._write_any(kind, [thing.number, *arguments(kind, args)], answer)

    def _write_any(self, kind: str, start: list[Any], *values: Any) -> None:
        try:
            text = json.dumps([kind, *start, *map(form, values)], separators=(",", ":"))
        except NotRecordable as problem:
            self.refuse(f"{kind}: {problem}, so this run can't be recorded; it is recorded up to here")
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        self._written(partial(self.tape.line, text))

    def _written(self, write: Callable[[], None]) -> None:
        """Write to the file; an error of the disk ends the run, and is not one of the call that was recorded."""
        try:
            write()
        except OSError as error:
            self.refuse(f"the recording can't be written: {error}")

    def note(self, kind: str, *values: Any) -> None:
        """Note an event."""
        checks, self.checks = self.checks, 0
        if not self.over:
            self._write_any(kind, [checks], *values)
        if kind == "raised":
            self.over = True

    def refuse(self, what: str) -> Any:
        """End the run: the rest can't be recorded."""
        self.over, self.refused = True, what
        super().refuse(what)

    def close(self) -> None:
        """Write the end of the recording."""
        if not self.over:
            self.tape.line('["end"]')
        self.tape.close()


class Player(World):
    """A world that has only the answers of a recording."""

    real = False
    whole = True

    def __init__(self, tape: TapeReader) -> None:
        super().__init__()
        self.tape = tape
        self.fault: Exception | None = None
        self.number = 1  # of the line that was read last
        self.line: list[Any] | None = None  # the next one, once it was read
        self.time = 0.0

    def peek(self) -> list[Any]:
        """Return the next line."""
        line = self.line
        if line is None:
            try:
                self.number, line = next(self.tape.lines, (self.number, ["cut"]))
            except BadRecording as error:
                self._end(error)
                raise
            self.line = line
        return line

    def ask(self, kind: str, thing: Any, do: Callable[..., Any], *args: Any) -> Any:
        """Return or raise the answer that was recorded for this question."""
        if self.fault is not None:
            return self._after_the_end(kind)
        question = [kind, thing.number, *arguments(kind, args)]
        recorded = self.peek()
        if recorded[:-1] != question:
            self._diverge(question)
        self.line, self.checks = None, 0
        answer = self._restored(recorded[-1])
        if isinstance(answer, BaseException):
            raise answer
        if kind == "now":
            self.time = answer
        return answer

    def notified(self, kind: str) -> list[Any] | None:
        """Return the values of the next event, if it is of this kind, and came after as many checks."""
        if self.fault is not None or self.peek()[:2] != [kind, self.checks]:
            return None
        values = list(map(self._restored, self.peek()[2:]))
        self.line, self.checks = None, 0
        return values

    def _restored(self, answer: Any) -> Any:
        """Return an answer of the recording as a value."""
        if isinstance(answer, dict) and "socket" in answer:
            properties, peer = answer["socket"]  # pyright: ignore[reportUnknownVariableType]
            return WorldSocket(self, peer=decode(peer), recorded=properties)  # pyright: ignore[reportUnknownArgumentType]
        return decode(answer)

    def _diverge(self, question: list[Any]) -> None:
        """End the run: the question is not the one that was recorded."""
        recorded = self.peek()
        if recorded[0] in ENDS:
            self._end(self.cut(recorded[0]))
        self._end(
            Diverged(
                f"diverged at line {self.number} of {self.tape.path}: recorded {described(recorded[:-1])}, "
                f"now {described(question)}, by {self._asker()}"
            )
        )

    def cut(self, how: str) -> RecordingEnded:
        """Return the error for the end of a recording that is not the end of its run."""
        reason = "a second Ctrl-C was raised in the program" if how == "raised" else "the recorder was stopped"
        return RecordingEnded(f"the recording ends at line {self.number}: {reason} there")

    def _end(self, fault: Exception) -> None:
        """End the run with this error, whatever the program catches."""
        self.fault = fault
        if self.kernel is not None:
            _ = self.kernel.broken_rule(str(fault))
        raise fault

    def _asker(self) -> str:
        """Return the task that asks, and where it is."""
        task = None if self.kernel is None else self.kernel.current
        if task is None:
            return "the loop"
        places = [place for place in stack(task) if not place[0].startswith(PACKAGE)]
        return f"task {label(task)}" + "".join(" at {}:{} in {}".format(*place) for place in places[-1:])

    def refuse(self, what: str) -> Any:
        """End the run: the recorded run has not done this."""
        recorded = self.peek()
        if recorded[0] in ENDS:
            self._end(self.cut(recorded[0]))
        self._end(self.fault or Diverged(f"diverged at line {self.number} of {self.tape.path}: {what}"))

    def _after_the_end(self, kind: str) -> Any:
        """Answer a question of the cleanup, after the replay has ended: the time stands still, and nothing is ready."""
        if kind == "now":
            return self.time
        if kind == "poll":
            return []
        if kind == "close":
            return None
        assert self.fault is not None
        raise self.fault

    def finish(self) -> None:
        """Raise Diverged if the run has ended before the recorded one."""
        recorded = self.peek()
        if recorded[0] in ENDS:
            raise self.cut(recorded[0])
        if recorded != ["end"]:
            raise Diverged(
                f"diverged at line {self.number} of {self.tape.path}: the run has ended, "
                f"and the recorded one went on with {described(recorded[:-1])}"
            )


def form(value: Any) -> Any:
    """Return a value as a recording has it; a socket by its properties."""
    if isinstance(value, WorldSocket):
        return {"socket": [value.properties, encode(value.peer)]}
    return encode(value)
