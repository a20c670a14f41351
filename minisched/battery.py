"""A battery for blocking syscalls, ours and yours: `minisched.testing.check_syscall`.

Theory of operation. Each trial is a run of its own: a task, the subject, yields the syscall and
logs what it sees, while the trial cancels it, completes it, or does both, at one given moment.
Where the kernel, or the log, says that something is wrong, that is put into words.

Not here: what a syscall is for; that its author tests.
"""

from __future__ import annotations

from types import CoroutineType, GeneratorType

from .clocks import VirtualClock
from .errors import Cancelled, Deadlock, SyscallError, TaskCancelled
from .kernel import PARKED, READY, Syscall, Task
from .loop import run
from .tasks import CurrentTask, Join
from .timers import SleepUntil, Timers
from .watch import Checker, Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from .kernel import Kernel


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
    if not callable(make):
        raise TypeError(f"check_syscall takes a function that makes the call: check_syscall(lambda: {make!r})")
    first = Trial(make)
    done_at = first.completes()
    if cancellable:
        Trial(make).cancelled_while_parked(done_at)
        if first.complete is not None or done_at > 0:  # else files complete it: no deadline comes in the same turn
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
        self.cancel_on_wake = self.has_parked = False
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

    def park(self, task: Task, call: Syscall[Any]) -> None:
        self.has_parked = self.has_parked or task is getattr(self, "subject", None)

    def _body(self) -> Generator[Any, Any, None]:
        try:
            result = yield self.call
            self.log.append("result")
            if isinstance(result, GeneratorType | CoroutineType):
                self._wrong("handle() returned a generator: it is a plain function, which can't yield")
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
        self.before = slots(self.call)
        assert isinstance(self.call, Syscall), f"make() has to return a syscall, not {self.call!r}"
        assert self.complete is None or callable(self.complete), f"complete is a plain call, not {self.complete!r}"
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
            self._complete()
            yield SleepUntil(done_at + 1)
        for kind, service in self.kernel.services.items():
            if self.subject in list(service.tasks()):
                self._wrong(f"{kind.__name__} still holds its task, which is {self.subject.state}")

    def _complete(self) -> None:
        """Bring about what the subject waits for; nothing to do, if it completes by itself."""
        if self.complete is not None:
            done = self.complete()
            if isinstance(done, Syscall | GeneratorType | CoroutineType):
                self._wrong(f"complete() returned {done!r}, which nobody ran: it is a plain call")

    def _run(self, program: Callable[[], Generator[Any, Any, object]], moment: str) -> None:
        """Run a trial; put into words what breaks it."""
        try:
            _ = run(program(), clock=self.clock, watch=[Checker(), self], debug=True)
        except TaskCancelled:
            pass  # main was: that is what was tried
        except BaseException as error:
            self._put_into_words(error, moment)
            raise
        finally:
            if self.clean is not None:
                _ = self.clean()

    def _put_into_words(self, error: BaseException, moment: str) -> None:
        if self.verdict is not None:
            raise self.verdict from None  # whatever else came of giving the trial up
        if isinstance(error, Deadlock):
            self._wrong(f"{moment}, its task was never woken: nobody resumed it or threw into it")
        if isinstance(error, SyscallError):
            self._wrong(f"{moment}, a rule of the kernel was broken: {error}")
        if isinstance(error, AssertionError) and hasattr(self, "subject"):  # of Kernel.check
            self._wrong(f"{moment}, {str(error).partition('<Task')[0]}its task, {self._why_held()}")

    def _why_held(self) -> str:
        """Say why a service still holds the subject, which is not parked."""
        subject = self.subject
        thrown: Any = subject.value
        if subject.cause is not None:
            return "which was cancelled: the undo given to `kernel.park` does not forget the wait"
        if self.has_parked:
            return "which was woken: what wakes it has to forget it, too"
        if subject.step == subject.throw_in:
            return f"although `handle` raised {thrown[0]!r}"
        return "which is not parked: call `kernel.park(task, undo)`"

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
            self._complete()
            yield from self._finish()

        self._run(program, "when it completes")
        if slots(self.call) != self.before:
            self._wrong(
                "`handle` changed the syscall itself: two tasks may yield the same one, so its state goes elsewhere"
            )
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
            _ = timers.call_at(deadline, lambda: self.kernel.cancel(self.subject, "the deadline"))
            yield from self._park()
            if self.complete is not None:
                _ = timers.call_at(deadline, self._complete)
            yield from self._finish(done_at)

        moment = "when its deadline comes, and in the same turn what it waited for"
        self._run(program, moment)
        self._expect("cancelled", moment=moment, otherwise="Does the undo forget the wait?")

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
            self._complete()
            yield from self._finish()

        moment = "when a cancellation comes in the turn of its result"
        self._run(program, moment)
        self._expect("result", "cancelled later", moment=moment, otherwise="The result must not be lost.")

    def cancelled_in_vain(self) -> None:
        """A wait that can't be given up ends with its result, and the cancellation comes after it."""

        def program() -> Generator[Any, Any, None]:
            yield from self._park()
            self.kernel.cancel(self.subject, "in vain")
            self._complete()
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


def slots(call: object) -> dict[str, object]:
    """Return what a syscall holds, by name."""
    names = [name for kind in type(call).__mro__ for name in vars(kind).get("__slots__", ())]
    return {**{name: getattr(call, name, None) for name in names}, **getattr(call, "__dict__", {})}
