"""Interrupts: the effect of Ctrl-C, and of other signals that end the run in the same way (`serve` adds SIGTERM).

Theory of operation. The first interrupt is only counted. The loop sees the count in its next Wait phase and cancels
main, so that every `finally` runs; `run` then raises KeyboardInterrupt. The second interrupt does not wait for that
cleanup, which may take for ever. If user code is running, the interrupt is raised there at once. Inside the scheduler
it is not, because an interrupted step could leave a file open or a waiter registered; the loop raises it in its next
Wait phase. From the third interrupt on, the program's handlers and callbacks count as user code, too: the loop may
never come back from them.

How does the handler know whether user code is running? Python gives it the frame that was interrupted. From there it
follows the callers. A frame of a file outside the package belongs to the user, or to a library that the user or the
package calls. The first frame of the package that the handler meets on the way out decides. If it is one of the four
functions that resume a body (`BODY_CALLERS`), the interrupted code is a body, or was called by one. If it is any other
function of the package, the package itself called the code, as it calls the function of a `Queue.for_each`.
`Kernel.turns` calls both bodies and handlers, and there the task's state decides: it is HANDLING while its syscall is
handled. For the third interrupt, one frame of the program's on the way to the package's is enough. The
standard library's frames do not count, because the package calls it as well: half of `socket.accept` loses a file.

This couples the module to the kernel: each function that calls a body has to be listed in `BODY_CALLERS`, also after
it is split or renamed. `tests/test_second_signal.py` fails if one is missing: it interrupts a server at each line of
the package.

Invariants:
1. A handler that the program has set, before or during the run, is never replaced.
2. After the run, each signal has the handler that it had before, however many interrupts arrive.
3. No interrupt is raised in the package's own lines, except in one that blocks for STUCK_SECONDS; it is only counted.

Decision: the place at which the second interrupt arrives decides whether it is raised, not a flag that the user sets.
Because: this also stops code that never yields again, and it never breaks the kernel's state.
Rejected: trio's `enable_ki_protection`, a mark in the frames of user code and of the package, for which each function
of the package would need a decorator; raising at once anywhere, which left sockets open (the same test); raising the
third one anywhere, which in 5 of 1,200 runs left a file, a handler or the wake-up fd of the signal module behind.

Decision: an exception that a signal handler of the program's raises while a syscall is handled ends the run at once.
Because: the handler of the syscall was interrupted between any two lines, and may have registered a wake-up for a task
that never parked. Rejected: raising it at the task's yield; the wake-up then came later, as a broken rule of the kernel
that blamed an extension.

Not here: the wake-up of a loop that waits when the signal comes (`wakeup`); a task that waits for a signal (`signals`).
"""

from __future__ import annotations

import os
import signal
from functools import partial
from types import MethodType

from ..kernel import Kernel, Service, Task
from ..kernel.lifecycle import close_body
from ..kernel.tracebacks import PACKAGE
from ..kernel.tree import HANDLING
from ..tasks.clocks import MonotonicClock
from .wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Any

STUCK_SECONDS = 1.0  # since the second interrupt: a loop that has not seen it by then is blocked in one line
STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep

# The functions that resume a task's body: the code that they call is user code.
BODY_CALLERS = [function.__code__ for function in (Kernel.turns, Task.throw_in, Kernel.raise_cancelled, close_body)]


class Interrupts(Service):
    """The interrupts of a run. `Wakeup.interrupted`: the loop has yet to handle the last one."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.wakeup = kernel.service(Wakeup)
        self.count = 0
        self.stuck_from = 0.0  # the time, on the machine's clock, from which on the loop is believed to be blocked
        self.closing = False  # main is done, or was aborted: only the steps that close the run are left
        self.signum: int = signal.SIGINT  # of the last one
        self._restores: list[Callable[[], None]] = []

    def install(self) -> None:
        """Handle Ctrl-C from now on, unless the program has its own handler or this is not the main thread."""
        self.handle_signal(signal.SIGINT, signal.default_int_handler)

    def handle_signal(self, signum: int, default: Any) -> None:
        """Let the signal interrupt the run, as Ctrl-C does, if its handler is `default` and this is the main thread."""
        if signal.getsignal(signum) != default:
            return
        self._restores.append(partial(self._restore, signum, default))  # first: a signal may arrive between the two
        try:
            _ = signal.signal(signum, self._on_signal)
        except ValueError:
            _ = self._restores.pop()  # another thread: signals are the main thread's

    def _restore(self, signum: int, default: Any) -> None:
        if signal.getsignal(signum) == self._on_signal:  # otherwise the program has set a handler during the run
            _ = signal.signal(signum, default)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Handle an interrupt: count it, wake the loop, and raise the second one, or a later one, in user code."""
        self.count += 1
        self.signum = signum
        self.wakeup.interrupt()  # this also wakes the loop: the wake-up fd of `signal` may be another one by now
        if self.count == 2:
            self.stuck_from = MonotonicClock.now() + STUCK_SECONDS
        if self.count > 1 and (self._in_user_code(frame) or self._stuck()):
            raise self.error()

    def _stuck(self) -> bool:
        return self.count > 2 and not self.closing and MonotonicClock.now() >= self.stuck_from

    def _in_user_code(self, frame: FrameType | None) -> bool:
        """Return whether `frame` belongs to a task's body or to code that the body calls, not to the package.

        From the third interrupt on, a handler or a callback of the program's counts as well.
        """
        caller, theirs = frame, False
        while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
            theirs = theirs or not of_standard_library(caller.f_code)
            caller = caller.f_back
        if self.count > 2 and theirs:
            return True
        if caller is None or caller is frame or caller.f_code not in BODY_CALLERS:
            return False
        task = self.kernel.current
        return caller.f_code is not Kernel.turns.__code__ or (task is not None and task.state is not HANDLING)

    def error(self) -> BaseException:
        """Return the exception of `run`: KeyboardInterrupt, or SystemExit with the status that shells report."""
        return KeyboardInterrupt() if self.signum == signal.SIGINT else SystemExit(128 + self.signum)

    def close(self) -> None:
        """Restore the handlers. May be called again, if an exception interrupted it."""
        while self._restores:
            self._restores[-1]()
            _ = self._restores.pop()


def of_standard_library(code: CodeType) -> bool:
    """Return whether `code` belongs to a module of the standard library."""
    name = code.co_filename
    return name.startswith("<frozen ") or (name.startswith(STANDARD_LIBRARY) and "-packages" not in name)


def ends_run(error: BaseException) -> bool:
    """Return whether `error`, which came out of the handler of a syscall, ends the run at once."""
    return isinstance(error, KeyboardInterrupt) or raised_by_signal_handler(error)  # Python's own handler has no frame


def raised_by_signal_handler(error: BaseException) -> bool:
    """Return whether `error` came from a signal handler of the program's, which Python calls between any two lines."""
    codes: dict[Any, None] | None = None
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(PACKAGE):  # otherwise, most errors would ask for every handler
            codes = codes or dict.fromkeys(map(code_of, map(signal.getsignal, signal.valid_signals())))
            if code in codes:
                return True
        trace = trace.tb_next
    return False


def code_of(handler: Any) -> CodeType | None:
    """Return the code of a signal handler; None for one that is not written in Python."""
    function: Any = handler
    while isinstance(function, partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(function, MethodType):
        return code_of(function.__func__)
    called = getattr(function, "__class__", None)  # an object that can be called
    return getattr(function, "__code__", None) or getattr(vars(called).get("__call__"), "__code__", None)
