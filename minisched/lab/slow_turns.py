"""Report turns that hold up the run: a blocking call or a long computation in a task (`run(debug=True)`).

Theory of operation. A debug run has a thread of its own, the watchdog, unless the level of the log hides its reports.
It looks at the run SAMPLES_PER_REPORT times in SLOW_SECONDS. If the same turn goes on all the time, it logs the task
and the line, while the turn still blocks.

Time is counted in samples. A process that was stopped (SIGSTOP) or a laptop that slept misses only one of them. On
Linux, the time in which the thread of the run was ready and got no processor does not count, so that a loaded machine
causes no reports. A run in a debugger is not reported: some frame has a trace function that is not coverage's.

A report can be wrong in three cases. Elsewhere than on Linux, a loaded machine makes a turn slow. The host of a virtual
machine may take the processor away, which the machine's own system counts as time on it. And a turn may wait for
Python's global lock, which a library in another thread holds.

Invariants:
1. A turn is reported once, and so is a line.
2. The thread ends with the run. Where a thread cannot be started, as in WebAssembly, nothing is reported.

Decision: reports are logged, to "minisched.debug". Because: they depend on the machine, and a program that turns
warnings into errors would fail on a slow one. Rejected: a RuntimeWarning, as for other mistakes.

Decision: a fork stops the thread before, and starts it again afterwards. Because: Python warns of a fork in a process
that has several threads. Rejected: no watchdog in a program that forks, which is not known beforehand.

Not here: callbacks between two turns, such as those of timers.
"""

from __future__ import annotations

import os
import sys
import threading
from _thread import allocate_lock, get_ident
from contextlib import suppress

from ..kernel import Kernel, Service
from ..kernel.tracebacks import PACKAGE
from ..kernel.tree import HANDLING
from ..kernel.watcher import Watcher
from .report import stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from ..kernel import Task

    Place = tuple[str, int, str]  # file, line, function

SLOW_SECONDS = 0.1  # as in asyncio: a person notices a longer pause
SAMPLES_PER_REPORT = 5  # of one turn, in SLOW_SECONDS
SAMPLE_NANOSECONDS = 1e9 * SLOW_SECONDS / SAMPLES_PER_REPORT  # the unit of Linux
STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
TEXT = (
    "task %r has not yielded for more than %g s and holds up all others, %s %s:%d (%s): make a blocking call by "
    "`yield InThread(...)`, and yield in the middle of a long computation"
)

watchdogs: dict[Watchdog, None] = {}  # those of all debug runs


class SlowTurns(Watcher):
    """Count the turns for the watchdog. `run(debug=True)` installs it.

    Example:
        >>> import logging, time
        >>> from minisched import run
        >>> def main():
        ...     time.sleep(0.2)
        ...     yield
        >>> reports = logging.Handler()
        >>> reports.emit = lambda record: print(record.getMessage().partition(" and ")[0])
        >>> logging.getLogger("minisched.debug").addHandler(reports)
        >>> logging.getLogger("minisched.debug").setLevel(logging.WARNING)
        >>> run(main(), watch=[SlowTurns()])
        task 'main' has not yielded for more than 0.1 s
        >>> logging.getLogger("minisched.debug").removeHandler(reports)
        >>> logging.getLogger("minisched.debug").setLevel(logging.ERROR)
    """

    watchdog: Watchdog

    def start(self, kernel: Kernel) -> None:
        self.watchdog = kernel.service(Watchdog)
        self.watchdog.begin()

    def turn(self, task: Task) -> None:
        self.watchdog.turn += 1


class Watchdog(Service):
    """The thread that looks at a run, and what it has seen."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.turn = 0  # the number of the current turn
        self.ident = get_ident()
        self.processor = Processor(f"/proc/self/task/{native_id()}/")
        self.seen = self.reported = -1  # the turn of the last sample, and that of the last report
        self.samples = 0.0  # of the turn `seen`
        self.places: dict[tuple[str, int], None] = {}  # that were reported
        self.ending = allocate_lock()  # held while the thread is to run
        self.thread: threading.Thread | None = None
        watchdogs[self] = None

    def begin(self) -> None:
        """Start the thread, unless it runs already, nothing would be logged, or the platform has no threads."""
        if self.thread is not None or not is_logged():
            return
        thread = threading.Thread(target=self.watch, name="minisched watchdog", daemon=True)
        _ = self.ending.acquire()
        self.processor.open()
        try:
            thread.start()
        except RuntimeError:
            self.ending.release()
            self.processor.close()
        else:
            self.thread = thread

    def end(self) -> None:
        """End the thread, and wait until it has ended."""
        thread, self.thread = self.thread, None
        if thread is not None:
            self.ending.release()
            thread.join()
            self.processor.close()

    def close(self) -> None:
        if watchdogs.pop(self, self) is None:  # otherwise this is a copy in a forked process, without the thread
            self.end()

    def watch(self) -> None:
        """Look at the run again and again. The thread runs this."""
        while not self.ending.acquire(timeout=SLOW_SECONDS / SAMPLES_PER_REPORT):
            self.sample()
        self.ending.release()

    def sample(self) -> None:
        """Look at the run once."""
        task, turn = self.kernel.current, self.turn
        if task is None or turn != self.seen:
            self.seen, self.samples = turn, 0.0
            if task is not None:
                _ = self.processor.samples()
            return
        self.samples += self.processor.samples()
        if self.samples >= SAMPLES_PER_REPORT and self.reported != turn:
            frame = sys._current_frames().get(self.ident)  # pyright: ignore[reportPrivateUsage]
            if frame is not None and turn == self.turn and not in_debugger(frame):
                self.reported = turn
                self.report(task, frame)

    def report(self, task: Task, frame: FrameType) -> None:
        """Log the task and the line, unless the line was logged before."""
        place = running_at(frame)
        where = "at"
        if place is None:
            where, place = "in the call that it yields at", yielded_at(task)
        elif task.state is HANDLING:
            where = "in the handler of its call, at"
        if place[:2] not in self.places:
            self.places[place[:2]] = None
            import logging  # imported here: most runs report nothing

            logging.getLogger("minisched.debug").warning(TEXT, task.name, SLOW_SECONDS, where, *place)


def is_logged() -> bool:
    """Return whether the log takes reports, as it does where nothing has imported `logging` yet."""
    logging = sys.modules.get("logging")
    return logging is None or logging.getLogger("minisched.debug").isEnabledFor(logging.WARNING)


def native_id() -> int:
    """Return the system's number of this thread; 0 where there is none, as in WebAssembly."""
    return threading.get_native_id() if hasattr(threading, "get_native_id") else 0


class Processor:
    """The use that a thread makes of the processors. Only Linux tells.

    Decision: both files stay open while the watchdog runs, and are read by `pread`. Because: a task may close a number
    that a socket has freed. A file of another thread that comes and goes could have that number at this time, and then
    take bytes of the next connection. Rejected: to open the files for each sample.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory  # of the thread
        self.files: list[int] = []
        self.last = (0, 0)  # nanoseconds on a processor, and ready without one

    def open(self) -> None:
        """Open the files of the thread, if there are any."""
        try:
            for name in ("schedstat", "stat"):
                self.files.append(os.open(self.directory + name, os.O_RDONLY))
        except OSError:
            self.close()

    def close(self) -> None:
        """Close them, also one that the program has closed already."""
        while self.files:
            with suppress(OSError):
                os.close(self.files.pop())

    def samples(self) -> float:
        """Return how long the thread has run or slept since the last call, in samples; not how long it was ready."""
        try:
            schedstat, stat = [os.pread(file, 4096, 0) for file in self.files]
            ran, waited = map(int, schedstat.split()[:2])
            ready = stat.rpartition(b")")[2].split()[0] == b"R"
        except (OSError, ValueError, IndexError):
            return 1.0
        (ran_before, waited_before), self.last = self.last, (ran, waited)
        if ready and ran == ran_before:  # `waited` includes this wait only when the thread runs again
            return 0.0
        return max(ran - ran_before, SAMPLE_NANOSECONDS - (waited - waited_before)) / SAMPLE_NANOSECONDS


def running_at(frame: FrameType) -> Place | None:
    """Return the innermost line of the program in the turn that `frame` is in; None in a handler of the package."""
    for caller in callers(frame):
        code = caller.f_code
        if code is Kernel.turns.__code__:
            break
        if not is_library(code.co_filename):
            return code.co_filename, caller.f_lineno, code.co_qualname
    return None


def is_library(file: str) -> bool:
    """Return whether a file is not the program's: one of this package or of the standard library."""
    return file.startswith((PACKAGE, "<frozen ")) or (file.startswith(STANDARD_LIBRARY) and "-packages" not in file)


def yielded_at(task: Task) -> Place:
    """Return the innermost line of the program in which a task has yielded."""
    places = [place for place in reversed(stack(task)) if not place[0].startswith(PACKAGE)]
    return places[0] if places else ("<unknown>", 0, task.name)


def in_debugger(frame: FrameType) -> bool:
    """Return whether a debugger traces the thread that runs `frame`, or is asking its user."""
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
        return True
    return any(is_traced(caller) or caller.f_globals.get("__name__") in ("bdb", "pdb") for caller in callers(frame))


def is_traced(frame: FrameType) -> bool:
    """Return whether a frame has a trace function, other than that of the package coverage, which stops nowhere."""
    trace = frame.f_trace
    module = getattr(trace, "__module__", None) or type(trace).__module__  # of a function, or of a class in C
    return trace is not None and not str(module).startswith("coverage")


def callers(frame: FrameType | None) -> Iterator[FrameType]:
    """Return a frame, its caller, and so on."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def before_fork() -> None:
    """End the threads of all watchdogs. Python calls this."""
    for watchdog in [*watchdogs]:
        watchdog.end()


def after_fork() -> None:
    """Start them again."""
    for watchdog in [*watchdogs]:
        watchdog.begin()


if hasattr(os, "register_at_fork"):  # not on Windows, which can't fork
    os.register_at_fork(before=before_fork, after_in_parent=after_fork, after_in_child=watchdogs.clear)
