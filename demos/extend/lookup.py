"""A syscall of a user that is answered by another thread: `yield Lookup("example.org")`.

Shows: `FutureOperation`, for an answer that comes as a future; `Wakeup`, for a thread that has no future; a service
that counts the tasks which wait for an answer from outside (`pending`), so that the run is not taken for a deadlock.

Run it:    python demos/extend/lookup.py
"""

import threading
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor

from checked import show

from minisched import NOT_YET, FutureOperation, Selectable, Service, Sleep, Wakeup, resume, run, select

NAMES = {"example.org": "192.0.2.1", "example.net": "192.0.2.2"}  # a name server that is always there


def ask_server(name):
    """Look a name up. It blocks, as `socket.getaddrinfo` does."""
    threading.Event().wait(0.05)
    return NAMES[name]


# The first form: the library returns a future.


class Resolver(Service):
    """The threads that look names up, as long as the run lasts."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.executor = ThreadPoolExecutor(2)

    def close(self):
        self.executor.shutdown()


class Lookup(FutureOperation[str]):
    """Look a host name up; return its address. A cancellation does not wait for the answer."""

    __slots__ = ("name",)
    abandon = True

    def __init__(self, name):
        self.name = name

    def start(self, kernel, task):
        return kernel.service(Resolver).executor.submit(ask_server, self.name)


# The second form: the library calls a function in a thread of its own.


class Answers(Service):
    """The waiters of Ask. `pending` says that something outside of the run may still wake them."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.waiting = {}

    def pending(self):
        return len(self.waiting)

    def deliver(self, waiter, answer):
        """Wake a waiter with its answer, unless it has given up. The loop calls this, in the run's thread."""
        if self.waiting.pop(waiter, None) is not None:
            resume(self.kernel, waiter, answer)


class Ask(Selectable[str]):
    """Look a host name up; return its address."""

    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name

    def try_now(self, kernel, task):
        return NOT_YET

    def add_waiter(self, kernel, waiter):
        answers, wakeup = kernel.service(Answers), kernel.service(Wakeup)
        wakeup.open()  # now, because it fails if no descriptor is left
        answers.waiting[waiter] = self.name
        self.begin(lambda: wakeup.call(lambda: answers.deliver(waiter, NAMES[self.name])))
        return lambda: answers.waiting.pop(waiter)

    def begin(self, done):
        """Start the work; `done` is called in another thread."""
        threading.Timer(0.05, done).start()


class WokenInAThread(Ask):
    """Wrong: the thread wakes the task itself. The loop waits on, and the two threads may break a turn."""

    __slots__ = ()

    def add_waiter(self, kernel, waiter):
        answers = kernel.service(Answers)
        answers.waiting[waiter] = self.name
        self.begin(lambda: wake(answers, waiter))
        return lambda: answers.waiting.pop(waiter)


def wake(answers, waiter):
    """Do it wrong; the error that minisched raises in the thread is of no interest here."""
    try:
        answers.deliver(waiter, "lost")
    except Exception:
        pass


# The demonstration.


def main():
    """Look names up in both ways, and give one up."""
    print("  by a future:", (yield Lookup("example.org")))
    print("  by a call: ", (yield Ask("example.net")))
    number, _ = yield select(Lookup("example.org"), Sleep(0.001))
    print("  too slow" if number == 1 else "  quick enough")


CHECKED = {kind.__name__: lambda kind=kind: kind("example.org") for kind in (Lookup, Ask, WokenInAThread)}

if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    print("Host names:")
    run(main())
    show(**CHECKED)
