"""For tests, ours and yours: a virtual clock, a checked run, golden traces, a battery for syscalls.

Theory of operation. `run` is `minisched.run` on a clock that jumps to the next deadline as soon as
nothing is ready, so that no test ever waits, with the kernel's invariants asserted after every turn
(sampled once there are more than 1,000 tasks). `check_syscall` puts a syscall through each moment
at which a cancellation can meet it, each in a run of its own, and says in words what went wrong.

Not here: pytest. All of this works in any test runner.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from types import GeneratorType

from .errors import Cancelled, Deadlock, SyscallError, TaskCancelled
from .kernel import PARKED, READY, Syscall, Task
from .loop import run as run_in_real_time
from .tasks import CurrentTask, Join
from .timers import SleepUntil, Timers
from .watch import TextTrace, Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence
    from typing import Any, TypeVar

    from ._selectors2 import Selector
    from .kernel import Kernel
    from .timers import Clock

    Result = TypeVar("Result")
    Program = Generator[Any, Any, Result] | Coroutine[Any, Any, Result]

FEW = 1000  # tasks: with more, the invariants are asserted now and then
NOW_AND_THEN = 997  # turns; a prime, so as not to beat in time with the program


class VirtualClock:
    """A clock that stands still while anything can run, and then jumps to the next deadline.

    Files are looked at before each jump, but not waited for: a program that
    waits for the real world and for a deadline at once meets its deadline.
    """

    def __init__(self, start: float = 0.0) -> None:
        self.time = start

    def now(self) -> float:
        """Return the virtual time in seconds."""
        return self.time

    def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
        """Jump to `deadline`; with none, wait for files in real time."""
        if deadline is None:
            select(None)
        elif not select(0.0):
            self.time = max(self.time, deadline)


class Checker(Watcher):
    """Asserts the kernel's invariants before each turn."""

    def __init__(self) -> None:
        self.turns = self.live = 0

    def start(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def spawn(self, task: Task) -> None:
        self.live += 1

    def exit(self, task: Task) -> None:
        self.live -= 1

    def turn(self, task: Task) -> None:
        self.turns += 1
        if self.live <= FEW or self.turns % NOW_AND_THEN == 0:
            self.kernel.check()


def run(
    main: Program[Result],
    *,
    ready: Any = None,
    clock: Clock | None = None,
    selector: Selector | None = None,
    watch: Sequence[Watcher] = (),
    debug: bool = True,
) -> Result:
    """Run as `minisched.run` does, in virtual time unless a clock is given, asserting the kernel's invariants."""
    clock = VirtualClock() if clock is None else clock
    return run_in_real_time(main, ready=ready, clock=clock, selector=selector, watch=[Checker(), *watch], debug=debug)


def trace(main: Program[object]) -> str:
    """Return the text trace of a run in virtual time, with its outcome as the last line.

    >>> from minisched import Sleep
    >>> def main():
    ...     yield Sleep(2)
    >>> print(trace(main()))
        0  -               spawned 0 main
        1  0 main          <- None
        1  0 main          -> Sleep(2) parked
        1  -               woke 0 main
        2  0 main          <- None
        2  0 main          ended: returned None
    returned None
    """
    lines: list[str] = []
    try:
        outcome = f"returned {run(main, watch=[TextTrace(lines.append)])!r}"
    except BaseException as error:
        outcome = f"raised {type(error).__name__}: {error}"
    return "\n".join([*lines, outcome])


def golden(text: str, path: str | Path, *, update: bool = False) -> None:
    """Assert that `text` is what the file at `path` holds.

    With `update`, or MINISCHED_UPDATE_GOLDEN set in the environment, it is
    written there instead: read the difference before you commit it.
    """
    path = Path(path)
    if update or os.environ.get("MINISCHED_UPDATE_GOLDEN"):
        path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    wanted = path.read_text(encoding="utf-8").splitlines()
    got = text.rstrip("\n").splitlines()
    difference = "\n".join(difflib.unified_diff(wanted, got, str(path), "this run", lineterm=""))
    assert not difference, f"the trace is not the golden one any more (update it if that is right):\n{difference}"


def check_syscall(make: Callable[[], Any], *, cancellable: bool = True) -> None:
    """Put a blocking syscall through every moment at which a cancellation can meet it.

    `make()` returns a fresh syscall that completes by itself in virtual time;
    or `(syscall, complete)`, where the plain call `complete()` brings about
    what it waits for; or `(syscall, complete, clean)`, where `clean()` is
    called at the end of each run. It may be a generator function, to yield
    syscalls of its own first. `cancellable=False` is for a wait that can't be
    given up (`park(task, None)`): a cancellation has to wait for its end.

    Raises AssertionError, which says in words what is wrong.

    >>> from minisched import Sleep
    >>> check_syscall(lambda: Sleep(1))
    """
    done_at = Trial(make).completes()
    if cancellable:
        Trial(make).cancelled_while_parked(done_at)
        Trial(make).cancelled_and_completed(done_at)
        Trial(make).ended_with_its_parent()
    else:
        Trial(make).cancelled_in_vain()
    Trial(make).cancelled_before_it_parks(done_at)
    Trial(make).completed_and_cancelled()
    Trial(make).ended_at_once()


class Trial(Watcher):
    """One run of a syscall by a task, the subject, and what became of it: `log`."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.log: list[str] = []
        self.cancel_on_wake = False
        self.clock = VirtualClock()
        self.call: Any = None
        self.verdict: AssertionError | None = None
        self.subject: Task
        self.complete: Callable[[], object] | None = None
        self.clean: Callable[[], object] | None = None

    # What the subject does, and what happens to it.

    def start(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def wake(self, task: Task, by: Task | None) -> None:
        if self.cancel_on_wake and task is self.subject:
            self.kernel.cancel(task, "in the turn of its result")

    def _body(self) -> Generator[Any, Any, None]:
        try:
            yield self.call
            self.log.append("result")
        except Cancelled:
            self.log.append("cancelled")
            raise
        except GeneratorExit:
            self.log.append("closed")
            raise
        except Exception as error:
            self.log.append(f"raised {error!r}")
        try:
            yield
        except Cancelled:
            self.log.append("cancelled later")
            raise

    def _spawn(self) -> Generator[Any, Any, None]:
        made = self.make()
        if isinstance(made, GeneratorType):
            made = yield from made  # pyright: ignore[reportUnknownVariableType]
        parts: list[Any] = [*made, None, None] if isinstance(made, tuple) else [made, None, None]
        self.call, self.complete, self.clean = parts[:3]
        assert isinstance(self.call, Syscall), f"make() has to return a syscall, not {self.call!r}"
        me = yield CurrentTask()
        self.subject = self.kernel.spawn(self._body(), "subject", me, keep=True)

    def _park(self) -> Generator[Any, Any, None]:
        """Bring the subject to where it waits."""
        yield from self._spawn()
        while self.subject.state == READY and not self.log:
            yield
        if self.subject.state != PARKED:
            self._wrong(f"it did not park ({self._log()}): this battery is for syscalls that wait")

    def _finish(self, done_at: float | None = None) -> Generator[Any, Any, None]:
        """Wait for the subject; let what it waited for come, in vain; see that nothing is left of it."""
        try:
            yield Join(self.subject)
        except Exception:
            pass  # the log says it
        if done_at is not None:
            if self.complete is not None:
                self.complete()
            yield SleepUntil(done_at + 1)
        for kind, service in self.kernel.services.items():
            if self.subject in list(service.tasks()):
                self._wrong(f"{kind.__name__} still holds its task, which is {self.subject.state}")

    def _run(self, program: Callable[[], Generator[Any, Any, object]], moment: str) -> None:
        """Run a trial; put into words what breaks it."""
        try:
            run(program(), clock=self.clock, watch=[self])
        except TaskCancelled:
            pass  # main was: that is what was tried
        except BaseException as error:
            self._put_into_words(error, moment)
            raise
        finally:
            if self.clean is not None:
                self.clean()

    def _put_into_words(self, error: BaseException, moment: str) -> None:
        if self.verdict is not None:
            raise self.verdict from None  # whatever else came of giving the trial up
        if isinstance(error, Deadlock):
            self._wrong(f"{moment}, its task was never woken: nobody resumed it or threw into it")
        if isinstance(error, SyscallError):
            self._wrong(f"{moment}, a rule of the kernel was broken: {error}")

    def _wrong(self, what: str) -> None:
        self.verdict = AssertionError(f"{self.call!r}: {what}")
        raise self.verdict from None

    def _log(self) -> str:
        return ", then ".join(self.log) or "nothing"

    def _expect(self, *wanted: str, moment: str, otherwise: str) -> None:
        if self.log != list(wanted):
            self._wrong(f"{moment}, its task saw: {self._log()}; expected: {', then '.join(wanted)}. {otherwise}")

    # The trials.

    def completes(self) -> float:
        """It gives a result; return when."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            if self.complete is not None:
                self.complete()
            yield from self._finish()

        self._run(program, "when it completes")
        self._expect("result", moment="when it completes", otherwise="Does what ends the wait call kernel.resume?")
        return self.clock.now()

    def cancelled_while_parked(self, done_at: float) -> None:
        """It gives up its wait, for good."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            self.kernel.cancel(self.subject, "while parked")
            if self.subject.place == PARKED:
                self._wrong("a cancellation did not wake it: park it with an undo, or say cancellable=False")
            yield from self._finish(done_at)

        moment = "when it is cancelled while parked, and what it waited for comes later"
        self._run(program, moment)
        self._expect("cancelled", moment=moment, otherwise="Does the undo forget the wait?")

    def cancelled_and_completed(self, done_at: float) -> None:
        """A deadline comes first, and what it waited for in the same turn."""

        def program() -> Generator[Any, Any, None]:
            timers = self.kernel.service(Timers)
            deadline = done_at if done_at > timers.now() else timers.now() + 1
            timers.call_at(deadline, lambda: self.kernel.cancel(self.subject, "the deadline"))
            yield from self._park()
            if self.complete is not None:
                timers.call_at(deadline, self.complete)
            yield from self._finish(done_at)

        if self._completes_by_files(done_at):
            return
        moment = "when its deadline comes, and in the same turn what it waited for"
        self._run(program, moment)
        self._expect("cancelled", moment=moment, otherwise="Does the undo forget the wait?")

    def _completes_by_files(self, done_at: float) -> bool:
        """Whether it completes by itself and takes no virtual time: then no deadline can come in the same turn."""
        made = self.make()
        alone = not isinstance(made, (tuple, GeneratorType))
        return alone and done_at == 0

    def cancelled_before_it_parks(self, done_at: float) -> None:
        """Its task is cancelled before it runs at all."""

        def program() -> Generator[Any, Any, None]:
            yield from self._spawn()
            self.kernel.cancel(self.subject, "before it parked")
            yield from self._finish(done_at)

        moment = "when its task was cancelled before it yielded the call"
        self._run(program, moment)
        self._expect(
            "cancelled", moment=moment, otherwise="A call that waits is a checkpoint: leave `checkpoint` True."
        )

    def completed_and_cancelled(self) -> None:
        """Its result is on its way when a cancellation comes: it is not lost."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            self.cancel_on_wake = True
            if self.complete is not None:
                self.complete()
            yield from self._finish()

        moment = "when a cancellation comes in the turn of its result"
        self._run(program, moment)
        self._expect("result", "cancelled later", moment=moment, otherwise="The result must not be lost.")

    def cancelled_in_vain(self) -> None:
        """A wait that can't be given up ends with its result, and the cancellation comes after it."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            self.kernel.cancel(self.subject, "in vain")
            if self.complete is not None:
                self.complete()
            yield from self._finish()

        moment = "when it is cancelled, which has to wait"
        self._run(program, moment)
        self._expect("result", "cancelled later", moment=moment, otherwise="Is it parked with undo=None?")

    def ended_with_its_parent(self) -> None:
        """Main is cancelled, as by a first Ctrl-C."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            me = yield CurrentTask()
            self.kernel.cancel(me, "shutdown")
            yield

        moment = "when its parent is cancelled"
        self._run(program, moment)
        self._expect("cancelled", moment=moment, otherwise="Does it let Cancelled pass?")

    def ended_at_once(self) -> None:
        """The run is broken off, as by a second Ctrl-C."""

        class BrokenOff(BaseException):
            pass

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            self.kernel.fault = BrokenOff()
            yield

        moment = "when the run is broken off"
        try:
            self._run(program, moment)
        except BrokenOff as end:
            notes = "; ".join(getattr(end, "__notes__", ()))
            if notes:
                self._wrong(f"{moment}, {notes}")
        self._expect("closed", moment=moment, otherwise="Its generator is closed then.")


__all__ = ["Checker", "VirtualClock", "check_syscall", "golden", "run", "trace"]
