"""The boundary: each question of the loop to the world outside goes through one object, as `world.ask(kind, ...)`.

Theory of operation. A run asks the operating system for the time, for files that are ready, for bytes, and for what
threads and signals have left. The services of this module, which `World.services` gives to `run(services=...)`, put
each of these questions to a `World`. This class answers them by asking the operating system: the run is as any other.
A `Recorder` notes each answer, and a `Player` gives the answers that were noted (`record`). Between two questions, a
run depends on nothing outside, so the same answers give the same run.

A question has a kind, the number of the thing that is asked, a function that asks the operating system, and arguments.
A question that this function asks in its turn is a part of the first one. So a Listen is one question, however many
system calls it makes.

Invariants:
1. A world that is not real (`World.real`) calls no function that it is given, and opens no file, socket or thread.
2. Each question of the package's own to the operating system that can change the order of turns, or the result of a
   call, is asked here, or refused by a sentence that names it. A program that calls the methods of `socket.socket`
   itself goes past the world.

Decision: the boundary is that of the loop and the operating system, and not that of a program and its syscalls.
Because: the answer of `Accept` may be a hundred tasks, a deadline is not a syscall, and the length of a batch of turns
depends on the time. Rejected: a log of the results of syscalls, from which nobody would spawn the handlers of `serve`.

Not here: sockets (`world_sockets`) and files (`world_files`); recording and replaying (`record`); the format (`tape`).
"""

from __future__ import annotations

from _thread import get_ident
from concurrent.futures import Future
from functools import partial

from ..bridges.interrupt import Interrupts
from ..bridges.opening import Files, close_result
from ..bridges.signals import Signals
from ..bridges.threads import Threads, outcome_of, wake
from ..bridges.wakeup import Wakeup
from ..io._selectors2 import READ
from ..io.borrowed import BorrowedFiles
from ..io.poller import Poller
from ..kernel.waiting import task_of
from ..net.names import Names
from ..net.network import Network
from ..tasks.clocks import MAX_WAIT_SECONDS, MonotonicClock
from ..tasks.timers import Timers
from .tape import THINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from ..io._selectors2 import Poll
    from ..io.filelike import FileState
    from ..kernel import Kernel
    from ..kernel.waiting import Waiter
    from ..tasks.clocks import Clock

CLOCK, POLLER, WAKEUP, NETWORK, NAMES, THREADS, FILES, BORROWED = range(len(THINGS))


class World:
    """The world outside a run. This one is the operating system; a subclass answers in another way.

    Attributes:
        real: whether questions reach the operating system.
        whole: whether each question has to be asked, as a recording needs it. Otherwise datagrams, the files of other
            file-likes, and calls of other threads go past the world.
        checks: how often the loop has checked for calls and interrupts, and found none, since the last question.
    """

    real = True
    whole = False

    def __init__(self) -> None:
        self.checks = 0
        self.kernel: Kernel | None = None
        self.things = len(THINGS)  # the number of the next socket or file

    def ask(self, kind: str, thing: Any, do: Callable[..., Any], *args: Any) -> Any:
        """Return the answer to a question, or raise it. `do(thing, *args)` asks the operating system."""
        return do(thing, *args)

    def future(self, kind: str, thing: Any, start: Callable[..., Future[Any]], *args: Any) -> Future[Any]:
        """Ask for the future of `start(thing, *args)`. In a world that is not real, it is never done."""
        made: list[Future[Any]] = []
        self.ask(kind, thing, lambda *question: made.append(start(*question)), *args)
        return made[0] if made else Future()

    def next_number(self) -> int:
        """Return the number of a new socket or file."""
        self.things += 1
        return self.things - 1

    def note(self, kind: str, *values: Any) -> None:
        """Note an event that nothing asked for: a call of another thread, a signal."""

    def notified(self, kind: str) -> list[Any] | None:
        """Return the values of the next event of a world that is not real, if it is of this kind; otherwise None."""
        raise NotImplementedError

    def refuse(self, what: str) -> NoReturn:
        """End the run: it does something that this world does not know."""
        assert self.kernel is not None
        raise self.kernel.broken_rule(what)

    def services(self, clock: Clock | None = None) -> dict[type[Any], Callable[[Kernel], Any]]:
        """Return the services of a run in this world, for `run(services=...)`; a `clock` takes the place of its own."""
        from .world_files import WorldBorrowedFiles, WorldFiles  # imported here: a cycle
        from .world_sockets import WorldNames, WorldNetwork

        kinds: dict[type[Any], Any] = {
            Timers: partial(WorldTimers, clock=clock),
            Poller: WorldPoller,
            Wakeup: WorldWakeup,
            Interrupts: WorldInterrupts,
            Threads: WorldThreads,
            Signals: WorldSignals,
            Names: WorldNames,
            Network: WorldNetwork,
            Files: WorldFiles,
            BorrowedFiles: WorldBorrowedFiles,
        }
        return {kind: partial(make, world=self) for kind, make in kinds.items()}


class WorldTimers(Timers):
    """The timers of a run whose clock asks the world."""

    def __init__(self, kernel: Kernel, world: World, clock: Clock | None = None) -> None:
        world.kernel = kernel
        super().__init__(kernel, clock or WorldClock(world))


class WorldClock:
    """The machine's clock, asked through the world."""

    number = CLOCK

    def __init__(self, world: World) -> None:
        self.world = world

    def now(self) -> float:
        """Return the time in seconds."""
        return self.world.ask("now", self, read_clock)

    def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
        """Wait for files until `deadline`, at most a day."""
        seconds = MAX_WAIT_SECONDS if deadline is None else deadline - self.now()
        _ = select(min(max(seconds, 0.0), MAX_WAIT_SECONDS))


def read_clock(clock: WorldClock) -> float:
    """Return the time of the machine."""
    return MonotonicClock.now()


class WorldPoller(Poller):
    """A poller that asks the world which files are ready. In a world that is not real, it has no selector."""

    number = POLLER

    def __init__(self, kernel: Kernel, world: World) -> None:
        self.world = world
        super().__init__(kernel, None if world.real else NoSelector())

    @property
    def poll(self) -> Poll:  # type: ignore[override]
        """Ask the world which files are ready."""
        return self.asked

    @poll.setter
    def poll(self, poll: Poll) -> None:  # type: ignore[override]
        def poll_now(poller: WorldPoller, timeout: float | None) -> list[tuple[int, int]]:
            return poll(timeout)

        self.asked: Poll = partial(self.world.ask, "poll", self, poll_now)

    def is_stale(self, state: FileState) -> bool:
        """Ask whether a descriptor was closed, or refers to another file now."""

        def ask(poller: Poller) -> bool:
            return Poller.is_stale(poller, state)

        return self.world.ask("stale", self, ask)

    def watch(self, state: FileState, old_events: int) -> None:
        """Ask whether a descriptor that is not the run's own can be watched."""

        def ask(poller: Poller) -> None:
            Poller.watch(poller, state, old_events)

        if state.persistent:
            ask(self)
        else:
            self.world.ask("watch", self, ask)

    def borrow(self, fd: int) -> FileState:
        """Refuse the file of another file-like, unless it may go past the world."""
        if not self.world.whole:
            return super().borrow(fd)
        self.world.refuse(f"file {fd} is not a socket or a file of this run, so its bytes can't be recorded")


class NoSelector:
    """The selector of a world that is not real: it accepts each number and is never asked."""

    def register(self, fileobj: int, events: int, data: Any = None, /) -> None:
        """Do nothing."""

    modify = register

    def unregister(self, fileobj: int, /) -> None:
        """Do nothing."""

    def select(self, timeout: float | None = None, /) -> list[Any]:
        """Return no event: the world is asked in place of this."""
        return []

    def close(self) -> None:
        """Do nothing."""


class WorldWakeup(Wakeup):
    """The calls of other threads, and interrupts: events that nothing asks for."""

    number = WAKEUP

    def __init__(self, kernel: Kernel, world: World) -> None:
        self.world = world
        self.arrived = False
        self.ident = get_ident()
        super().__init__(kernel)

    @property
    def unseen(self) -> bool:  # type: ignore[override]
        """True if a call or an interrupt has arrived. The loop reads this, and each check is counted."""
        world = self.world
        seen = self.arrived if world.real else world.notified("seen") is not None
        if not seen:
            world.checks += 1
        elif world.real:
            world.note("seen")
        return seen

    @unseen.setter
    def unseen(self, arrived: bool) -> None:
        self.arrived = arrived

    def take(self) -> tuple[int, bool]:
        """Return how many calls there are to make, and whether there is an interrupt to handle."""
        interrupts = self.kernel.service(Interrupts)
        if self.world.real:
            calls, interrupted = super().take()
            self.world.note("take", calls, interrupts.count if interrupted else 0, interrupts.signum)
            return calls, interrupted
        calls, count, signum = self.world.notified("take") or (0, 0, 0)
        if count:
            interrupts.count, interrupts.signum = count, signum
        return calls, bool(count)

    def run_calls(self, count: int) -> None:
        """Make the calls: those of threads and signals note themselves, and the program has scheduled the others."""
        for _ in range(count):
            if not self.world.real and self._answered():
                continue
            call = self.calls.popleft()
            if self.world.real and not isinstance(call, Notification):
                if isinstance(call, Foreign) and self.world.whole:
                    self.world.refuse(f"{call.function!r} is called by another thread, which can't be recorded")
                self.world.note("own")
            _ = call()

    def _answered(self) -> bool:
        """Deliver the next event, if it is the answer of a thread, or a signal; return False if it is another call."""
        answer = self.world.notified("thread")
        if answer is not None:
            self.kernel.service(Threads).answer(*answer)  # type: ignore[attr-defined]
            return True
        signal = self.world.notified("signal")
        if signal is not None:
            self.kernel.service(Signals).deliver(*signal)  # type: ignore[attr-defined]
            return True
        if self.world.notified("own") is None or not self.calls:
            self.world.refuse("a call that was recorded is not made")
        return False

    def call(self, function: Callable[[], object]) -> None:
        """Schedule a call. One of another thread is foreign to the run, unless it brings an answer."""
        known = get_ident() == self.ident or isinstance(function, Notification)
        super().call(function if known else Foreign(function))

    def wake(self) -> None:
        """End the loop's wait, if it waits for the real world."""
        if self.world.real:
            super().wake()

    def open(self) -> None:
        """Make the socket pair; in a world that is not real, register its number with the poller."""
        if self.sender is not None:
            return
        fd = self.world.ask("pair", self, open_pair)
        if self.world.real:
            return
        poller = self.kernel.service(Poller)
        self.file_state = poller.state_of(fd, persistent=True)
        poller.add_waiter(self.file_state, READ, self)
        poller.internal_waiters += 1
        self.sender = NoSelector()  # type: ignore[assignment]  # anything that has a `close`

    def ready(self) -> None:
        """Empty the pair, if there is one, and wait again."""
        if self.world.real:
            return super().ready()
        assert self.file_state is not None
        return self.kernel.service(Poller).add_waiter(self.file_state, READ, self)


class Foreign:
    """A call that another thread has scheduled, and that answers no question of the run."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function

    def __call__(self) -> object:
        return self.function()


class Notification(partial[None]):
    """A call that notes itself: the answer of a thread, or a signal."""


def open_pair(wakeup: WorldWakeup) -> int:
    """Make the socket pair; return the number of its receiver."""
    Wakeup.open(wakeup)
    assert wakeup.receiver is not None
    return wakeup.receiver.fileno()


class WorldThreads(Threads):
    """The calls in other threads, each with a number. In a world that is not real, no call is made."""

    number = THREADS

    def __init__(self, kernel: Kernel, world: World) -> None:
        self.world = world
        self.begun = 0  # calls
        self.by_number: dict[int, Waiter] = {}
        self.numbers: dict[Future[Any], int] = {}
        super().__init__(kernel)

    def begin(self, waiter: Waiter, start: Callable[[], Future[Any]], *, on_file: bool = False) -> Callable[[], object]:
        """Begin a call; return the undo. A call on a file asks the world by itself."""
        future = start() if on_file else self.world.future("begin", self, lambda *_: start())
        self.begun += 1
        if self.world.real:
            self.numbers[future] = self.begun
            return self.add_waiter(waiter, future)
        self.by_number[self.begun] = waiter
        self.waiting[waiter] = None  # type: ignore[assignment]
        return partial(self._abandon, waiter)

    def add_waiter(self, waiter: Waiter, future: Future[Any]) -> Callable[[], object]:
        """Wake `waiter` with the answer of `future`; refuse a future that did not come by `begin`."""
        if future not in self.numbers and not self.world.whole:
            return super().add_waiter(waiter, future)
        if future not in self.numbers:
            future.add_done_callback(close_result)
            _ = future.cancel()
            call = getattr(waiter, "call", None) or task_of(waiter).call
            self.world.refuse(f"{call!r} waits for a future of its own, which can't be recorded")
        future.add_done_callback(lambda done: self.wakeup.call(Notification(self._deliver, waiter, done)))
        self.waiting[waiter] = future
        return partial(self._abandon, waiter)

    def _deliver(self, waiter: Waiter, future: Future[Any]) -> None:
        number = self.numbers.pop(future, None)
        if number is not None:  # otherwise the call is not one that the world knows
            failed, value = outcome_of(future) if self.waiting.get(waiter) is future else (False, None)
            self.world.note("thread", number, failed, value)
        super()._deliver(waiter, future)

    def _abandon(self, waiter: Waiter) -> None:
        if self.world.real:
            super()._abandon(waiter)
        else:
            del self.waiting[waiter]

    def answer(self, number: int, failed: bool, value: Any) -> None:
        """Give a waiter the outcome that was recorded, unless it has abandoned its call."""
        waiter = self.by_number.pop(number)
        if waiter not in self.waiting:
            return
        del self.waiting[waiter]
        wake(self.kernel, waiter, failed, value)


class WorldSignals(Signals):
    """The signals that tasks wait for. In a world that is not real, no handler is set."""

    def __init__(self, kernel: Kernel, world: World) -> None:
        self.world = world
        super().__init__(kernel)

    def _set_handler(self, signum: int) -> None:
        if self.world.real:
            super()._set_handler(signum)
        else:
            self.previous[signum] = None

    def _on_signal(self, signum: int, frame: Any) -> None:
        self.wakeup.call(Notification(self._deliver, signum))

    def _deliver(self, signum: int) -> None:
        self.world.note("signal", signum)
        self.deliver(signum)

    def deliver(self, signum: int) -> None:
        """Wake the owners of a signal."""
        super()._deliver(signum)


class WorldInterrupts(Interrupts):
    """Ctrl-C, and other signals that end the run. In a world that is not real, no handler is set."""

    def __init__(self, kernel: Kernel, world: World) -> None:
        self.world = world
        super().__init__(kernel)

    def handle_signal(self, signum: int, default: Any) -> None:
        """Let the signal interrupt the run."""
        if self.world.real:
            super().handle_signal(signum, default)

    def _on_signal(self, signum: int, frame: Any) -> None:
        try:
            super()._on_signal(signum, frame)
        except BaseException:
            self.world.note("raised", self.count, signum)  # in a line of the program that nothing can name
            raise

    def close(self) -> None:
        """Restore the handlers; the number of interrupts decides how the run ends."""
        if self.world.real:
            self.world.note("interrupts", self.count, self.signum)
        else:
            self.count, self.signum = self.world.notified("interrupts") or (self.count, self.signum)
        super().close()
