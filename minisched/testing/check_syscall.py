"""The conformance test for syscalls that wait: `minisched.testing.check_syscall`.

Theory of operation. Each trial is a run of its own. A task, the subject, yields the syscall and logs what happens to
it. Meanwhile the trial cancels the subject, completes the syscall, or does both, at one given moment. The trial then
compares the log with the expected one. Each failure, also of a rule or an invariant of the kernel, becomes one
sentence about the syscall that says what to change.

Not here: tests of the effect of a particular syscall, which its author writes. Cancellation of a whole program is
`cancel_everywhere`.
"""

from __future__ import annotations

import threading
from types import CoroutineType, GeneratorType

from ..bridges.wakeup import Wakeup
from ..errors import Cancelled, Deadlock, SyscallError, TaskCancelled
from ..kernel import Syscall
from ..kernel.numbers import check_seconds
from ..kernel.syscall import arguments
from ..kernel.tree import PARKED, READY
from ..kernel.watcher import Watcher
from ..lab.debug import Debug
from ..lab.leftovers import Resources
from ..loop import run
from ..tasks.clocks import VirtualClock
from ..tasks.tasks import CurrentTask, Join
from ..tasks.timers import SleepUntil, Timers
from .checker import Checker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from ..kernel import Kernel, Task


def check_syscall(make: Callable[[], Any], *, cancellable: bool = True, max_seconds: float = 5.0) -> None:
    """Assert that a syscall keeps the rules of cancellation at every moment, and leaves nothing behind.

    The syscall is completed; cancelled while parked, before it parks, and together with its parent; cancelled and
    completed in the same turn, in both orders; and closed when the run is aborted. Afterwards no service may hold
    the task, and no descriptor, thread or child process that the syscall has opened may be left. Each trial is a run in
    virtual time. A syscall that answers at once is checked for all that applies to it.

    Args:
        make: called for each trial; returns a fresh syscall that completes by itself in virtual time. Or a pair
            `(syscall, complete)`, where the plain call `complete()` ends the wait. Or `(syscall, complete, clean)`,
            where `clean()` is called at the end of each run. `make` may be a generator function, which can yield
            syscalls of its own first.
        cancellable: False for a wait that cannot be undone (`park(task, None)`): a cancellation has to wait until
            the syscall has completed.
        max_seconds: how long a trial may take, in real time. A longer one waits for a wake-up that never comes.

    Raises:
        AssertionError: says what is wrong, and usually what to change.
        TypeError: if `make` is not callable.

    Example:
        >>> from minisched import Event, Sleep
        >>> from minisched.testing import check_syscall
        >>> check_syscall(lambda: Sleep(1))
        >>> def make():
        ...     event = Event()
        ...     return event.wait(), event.set
        >>> check_syscall(make)
    """
    if not callable(make):
        raise TypeError(f"check_syscall takes a function that returns the syscall: check_syscall(lambda: {make!r})")
    first = Trial(make, max_seconds)
    done_at = first.completes()
    if not first.has_parked:
        Trial(make, max_seconds).answers_two_tasks()
        Trial(make, max_seconds).cancelled_before_it_parks(done_at, waits=False)
        return
    if cancellable:
        Trial(make, max_seconds).cancelled_while_parked(done_at)
        if (
            first.complete is not None or done_at > 0
        ):  # else a file completes it, and no deadline can fall into that turn
            Trial(make, max_seconds).cancelled_and_completed(done_at)
        Trial(make, max_seconds).ended_with_its_parent()
    else:
        Trial(make, max_seconds).cancelled_without_undo()
    Trial(make, max_seconds).cancelled_before_it_parks(done_at)
    Trial(make, max_seconds).completed_and_cancelled()
    Trial(make, max_seconds).aborted()


class Trial(Watcher):
    """One run in which a task, the subject, yields the syscall; `log` has what happened to the subject."""

    def __init__(self, make: Callable[[], Any], max_seconds: float) -> None:
        self.make = make
        self.max_seconds = min(check_seconds("check_syscall", "max_seconds", max_seconds), threading.TIMEOUT_MAX)
        self.resources: Resources | None = None  # from the moment before the call is yielded
        self.log: list[str] = []
        self.cancel_on_wake = self.has_parked = False
        self.clock = VirtualClock()
        self.call: Any = None
        self.verdict: AssertionError | None = None
        self.subject: Task
        self.complete: Callable[[], object] | None = None
        self.clean: Callable[[], object] | None = None

    # The subject, and the events of its run.

    def start(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def wake(self, task: Task, by: Task | None) -> None:
        if self.cancel_on_wake and task is self.subject:
            self.kernel.cancel(task, "in the turn of its result")

    def park(self, task: Task, call: Syscall[Any]) -> None:
        self.has_parked = self.has_parked or task is getattr(self, "subject", None)

    def _body(self) -> Generator[Any, Any, None]:
        try:
            result = yield self.call
            self.log.append("result")
            if isinstance(result, GeneratorType | CoroutineType):
                self._wrong("handle() returned a generator: it must be a plain function, which can't yield")
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
        self.before = arguments(self.call)
        if not isinstance(self.call, Syscall):
            raise AssertionError(f"make() must return a syscall, not {self.call!r}")
        if self.complete is not None and not callable(self.complete):
            raise AssertionError(f"complete must be a function to call, not {self.complete!r}")
        me = yield CurrentTask()
        self.resources = Resources()
        self.subject = self.kernel.spawn(self._body(), "subject", me, keep=True)

    def _park(self, at_once: bool = False) -> Generator[Any, Any, None]:
        """Spawn the subject, and run it until it is parked; with `at_once`, a call without `complete` need not park."""
        yield from self._spawn()
        while self.subject.state == READY and not self.log:
            yield
        if self.kernel.fault is not None:  # by another thread, at any moment
            raise self.kernel.fault
        if self.subject.state != PARKED and (self.complete is not None or not at_once):
            self._wrong(f"its task did not park ({self._log()}): this conformance test is for syscalls that wait")

    def _finish(self, done_at: float | None = None) -> Generator[Any, Any, None]:
        """Wait until the subject has ended; check that no service holds it.

        With `done_at`, the syscall was cancelled: complete it now, too late, and let its time pass.
        """
        try:
            yield Join(self.subject)
        except Exception:
            pass  # the log has it
        if done_at is not None:
            self._complete()
            yield SleepUntil(done_at + 1)
        for kind, service in self.kernel.services.items():
            if self.subject in list(service.tasks()):
                self._wrong(f"{kind.__name__} still holds its task, which is {self.subject.state}")

    def _complete(self) -> None:
        """Complete the syscall; does nothing if it completes by itself."""
        if self.complete is not None:
            done = self.complete()
            if isinstance(done, Syscall | GeneratorType | CoroutineType):
                self._wrong(f"complete() returned {done!r}, which was never run: complete() must be a plain call")

    def _run(self, program: Callable[[], Generator[Any, Any, object]], moment: str) -> None:
        """Run a trial; explain an error that ends it."""
        watchdog = threading.Timer(self.max_seconds, self._hangs, [moment])
        watchdog.daemon = True
        try:
            watchdog.start()
        except RuntimeError:
            pass  # there are no threads here, so nothing wakes a task from one
        try:
            _ = run(program(), clock=self.clock, watch=[Checker(), self, Debug()], debug=False)
        except TaskCancelled:
            pass  # the trial cancelled the main task
        except BaseException as error:
            self._explain(error, moment)
            raise
        finally:
            watchdog.cancel()
            if self.clean is not None:
                _ = self.clean()
        left = self.resources.left() if self.resources is not None else ""
        if left:
            self._wrong(f"{moment}, it has left {left} open: give it back in every end, at the undo too")

    def _hangs(self, moment: str) -> None:
        """End a trial that takes too long. This is called in a thread of its own."""

        def fail() -> None:
            self._wrong(
                f"{moment}, nothing has happened for {self.max_seconds:g} s of real time: is it woken from another "
                "thread? There, call `kernel.service(Wakeup).call(function)`; the function then wakes it"
            )

        self.kernel.service(Wakeup).call(fail)

    def _explain(self, error: BaseException, moment: str) -> None:
        """Raise the AssertionError that explains an error of the run; return if there is no explanation."""
        if self.verdict is not None:
            raise self.verdict from None  # later errors are consequences
        if isinstance(error, Deadlock):
            self._wrong(f"{moment}, its task was never woken: nothing called kernel.resume or kernel.throw")
        if isinstance(error, SyscallError):
            self._wrong(f"{moment}, a rule of the kernel was broken: {error}")
        if isinstance(error, AssertionError) and hasattr(self, "subject"):  # of the checker
            self._wrong(f"{moment}, {str(error).partition('<Task')[0]}its task, {self._why_held()}")

    def _why_held(self) -> str:
        """Explain why a service still holds the subject, which is not parked."""
        subject = self.subject
        sent: Any = subject.sent
        if subject.effective is not None:
            return "which was cancelled: the undo given to `kernel.park` does not undo the wait"
        if self.has_parked:
            return "which was woken: remove the task from the service before you resume it"
        if subject.step == subject.throw_in:
            return f"although `handle` raised {sent[0]!r}"
        return "which is not parked: call `kernel.park(task, undo)`"

    def _wrong(self, problem: str) -> None:
        self.verdict = AssertionError(f"{self.call!r}: {problem}")
        raise self.verdict from None

    def _log(self) -> str:
        return ", then ".join(self.log) or "nothing"

    def _expect(self, *wanted: str, moment: str, hint: str) -> None:
        if self.log != list(wanted):
            self._wrong(f"{moment}, its task saw: {self._log()}; expected: {', then '.join(wanted)}. {hint}")

    # The trials.

    def completes(self) -> float:
        """Let the syscall complete; return the time at which it did."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park(at_once=True)
            self._complete()
            yield from self._finish()

        self._run(program, "when it completes")
        if arguments(self.call) != self.before:
            self._wrong(
                "`handle` changed the syscall itself: two tasks may yield the same one, so keep its state in a service"
            )
        self._expect("result", moment="when it completes", hint="Does the code that ends the wait call kernel.resume?")
        return self.clock.now()

    def cancelled_while_parked(self, done_at: float) -> None:
        """Cancel the subject while it is parked; complete the syscall later, which must have no effect."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            self.kernel.cancel(self.subject, "while parked")
            if self.subject.state == PARKED:
                self._wrong("a cancellation did not wake it: park it with an undo, or pass cancellable=False")
            yield from self._finish(done_at)

        moment = "when it is cancelled while parked, and completed later"
        self._run(program, moment)
        self._expect("cancelled", moment=moment, hint="Does the undo remove the task from the waiters?")

    def cancelled_and_completed(self, done_at: float) -> None:
        """Let a deadline expire, and then complete the syscall, in the same turn."""

        def program() -> Generator[Any, Any, None]:
            timers = self.kernel.service(Timers)
            deadline = done_at if done_at > timers.now() else timers.now() + 1
            _ = timers.call_at(deadline, lambda: self.kernel.cancel(self.subject, "the deadline"))
            yield from self._park()
            if self.complete is not None:
                _ = timers.call_at(deadline, self._complete)
            yield from self._finish(done_at)

        moment = "when its deadline expires just before it is completed, in the same turn"
        self._run(program, moment)
        self._expect("cancelled", moment=moment, hint="Does the undo remove the task from the waiters?")

    def answers_two_tasks(self) -> None:
        """Yield the same call in two tasks."""

        def program() -> Generator[Any, Any, None]:
            yield from self._spawn()
            yield from self._body()
            yield from self._finish()

        moment = "when two tasks yield it"
        self._run(program, moment)
        self._expect("result", "result", moment=moment, hint="Two tasks may yield the same call.")

    def cancelled_before_it_parks(self, done_at: float, waits: bool = True) -> None:
        """Cancel the subject before its first turn."""

        def program() -> Generator[Any, Any, None]:
            yield from self._spawn()
            self.kernel.cancel(self.subject, "before it parked")
            yield from self._finish(done_at)

        moment = "when its task is cancelled before it yields the call"
        self._run(program, moment)
        if not (waits or self.call.checkpoint):
            return self._expect("result", "cancelled later", moment=moment, hint="Its `checkpoint` is False.")
        self._expect("cancelled", moment=moment, hint="A syscall that waits is a checkpoint: leave `checkpoint` True.")
        return None

    def completed_and_cancelled(self) -> None:
        """Cancel the subject when its result is already queued; the result must be delivered."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            self.cancel_on_wake = True
            self._complete()
            yield from self._finish()

        moment = "when it is completed, and cancelled in the same turn"
        self._run(program, moment)
        self._expect("result", "cancelled later", moment=moment, hint="The result must not be lost.")

    def cancelled_without_undo(self) -> None:
        """Cancel a wait that cannot be undone; its result is delivered, and the next checkpoint raises Cancelled."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            self.kernel.cancel(self.subject, "while it cannot be undone")
            self._complete()
            yield from self._finish()

        moment = "when it is cancelled while its wait cannot be undone"
        self._run(program, moment)
        self._expect("result", "cancelled later", moment=moment, hint="Is it parked with undo=None?")

    def ended_with_its_parent(self) -> None:
        """Cancel the main task, as a first Ctrl-C does."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            me = yield CurrentTask()
            self.kernel.cancel(me, "shutdown")
            yield

        moment = "when its parent is cancelled"
        self._run(program, moment)
        self._expect("cancelled", moment=moment, hint="Is Cancelled caught somewhere?")

    def aborted(self) -> None:
        """Abort the run, as a second Ctrl-C does."""

        class Aborted(BaseException):
            pass

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            self.kernel.fault = Aborted()
            yield

        moment = "when the run is aborted"
        try:
            self._run(program, moment)
        except Aborted as end:
            notes = "; ".join(getattr(end, "__notes__", ()))
            if notes:
                self._wrong(f"{moment}, {notes}")
        self._expect("closed", moment=moment, hint="The kernel closes its generator then.")
