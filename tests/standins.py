"""Stand-ins: bugs that other schedulers shipped, each in a few lines.

Theory of operation. `test_bugs` runs each of its tests on minisched and on the stand-in that has the
bug, and asserts that the test fails there. Most stand-ins extend minisched. They have the shape of the
reported code, and none of its text. asyncio raises a cancellation that comes after the hand-over
in place of the answer. minisched never does: there, the stand-ins add a bare `yield`, at which Cancelled
is raised. Where the scheduler itself had the bug, the stand-in is a subclass of `TinyLoop`.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import weakref
from collections import deque
from contextlib import suppress
from math import inf

from minisched import (
    Accept,
    Cancel,
    Cancelled,
    Condition,
    Connect,
    CurrentTask,
    Event,
    Join,
    Kernel,
    Listen,
    MoveOnAfter,
    Network,
    Poller,
    Read,
    Semaphore,
    Service,
    Shield,
    Sleep,
    Spawn,
    Syscall,
    TimedOut,
    Timeout,
    Timers,
    WaitReadable,
    WaitWritable,
)
from minisched.io._selectors2 import READ, WRITE
from minisched.io.borrowed import as_file
from minisched.kernel.lifecycle import Lifecycle
from minisched.kernel.tree import DONE
from minisched.kernel.waiting import resume
from minisched.net.dialing import Dialing
from minisched.sync.semaphore import Permit
from minisched.tasks.tasks import awaitable

# Locks, semaphores and conditions.


class LossyCondition(Condition):
    """A notification is used up once a waiter is notified: if that waiter is cancelled, it is lost."""

    __slots__ = ("queue",)

    def __init__(self):
        super().__init__()
        self.queue = deque()

    def wait(self):
        woken = Event()
        self.queue.append(woken)
        self.lock.release()
        try:
            yield woken.wait()
        finally:
            with (yield Shield(None)):
                yield self.lock.acquire()
        yield

    def notify(self, count=1):
        for _ in range(min(count, len(self.queue))):
            self.queue.popleft().set()


class StandIn:
    """A lock, or one permit, that a `with` releases: `with (yield from lock.acquire()):`, or `async with lock:`."""

    def __init__(self):
        self.locked = False
        self.queue = deque()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.release()

    async def __aenter__(self):
        return await self.acquire()

    async def __aexit__(self, *error):
        self.release()


class ForgetfulLock(StandIn):
    """A release wakes the first waiter, which acquires in its own turn; if it was cancelled, the next is not woken."""

    def acquire(self):
        while self.locked:
            woken = Event()
            self.queue.append(woken)
            yield woken.wait()
            yield
        self.locked = True
        return self

    def release(self):
        self.locked = False
        if self.queue:
            self.queue.popleft().set()


class LeakyLock(StandIn):
    """A release hands the lock over; a new owner that is cancelled in that turn never releases it."""

    def acquire(self):
        if self.locked:
            woken = Event()
            self.queue.append(woken)
            yield woken.wait()
            yield
        self.locked = True
        return self

    def release(self):
        if self.queue:
            self.queue.popleft().set()
        else:
            self.locked = False


class PausingLock(StandIn):
    """A free lock is acquired at once, before a checkpoint, where a cancellation leaves it locked."""

    @awaitable
    def acquire(self):
        while self.locked:
            yield Sleep(1)
        self.locked = True
        yield  # other tasks run, and one of them cancels this one
        yield
        return self

    def release(self):
        self.locked = False


class DoubleLock(StandIn):
    """A cancelled waiter that finds the lock free wakes another waiter, beside the one that the release woke."""

    def __init__(self):
        super().__init__()
        self.queue = {}

    def acquire(self):
        task = yield CurrentTask()
        if self.locked:
            self.queue[task] = woken = Event()
            try:
                yield woken.wait()
                yield
            except Cancelled:
                if not self.locked:
                    self.wake_first()
                raise
            finally:
                del self.queue[task]
        self.locked = True
        return self

    def release(self):
        self.locked = False
        self.wake_first()

    def wake_first(self):
        for task, woken in self.queue.items():
            if not woken.is_set() and task.scope.effective is None:
                return woken.set()


class LateSemaphore(Semaphore):
    """A permit that was handed over counts as free until the turn of its new owner."""

    __slots__ = ()

    def release(self):
        self.value += 1
        if self.waiters:
            resume(self.kernel, self.waiters.popitem(last=False)[0], LatePermit(self))


class LatePermit(Permit):
    __slots__ = ()

    def __enter__(self):
        self.semaphore.value -= 1
        return super().__enter__()


class UnfairSemaphore(StandIn):
    """A woken waiter checks again, and finds that a later task has taken the permit."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def acquire(self):
        while not self.value:
            woken = Event()
            self.queue.append(woken)
            yield woken.wait()
        self.value -= 1
        return self

    def release(self):
        self.value += 1
        if self.queue:
            self.queue.popleft().set()


class StuckSemaphore(UnfairSemaphore):
    """No task may acquire while a waiter is being woken; if that waiter is cancelled, none ever may."""

    waking = False

    def acquire(self):
        while self.waking or not self.value:
            woken = Event()
            self.queue.append(woken)
            yield woken.wait()
            yield
            self.waking = False
        self.value -= 1
        return self

    def release(self):
        self.waking = bool(self.queue)
        super().release()


# Items and connections.


class LossyQueue:
    """An item goes to the first getter, even if that getter has been cancelled."""

    def __init__(self):
        self.items = deque()
        self.getters = deque()

    def get(self):
        if self.items:
            return self.items.popleft()
        woken, handed_over = Event(), []
        self.getters.append((woken, handed_over))
        yield woken.wait()
        yield
        return handed_over[0]

    def put_nowait(self, item):
        if self.getters:
            woken, handed_over = self.getters.popleft()
            handed_over.append(item)
            woken.set()
        else:
            self.items.append(item)


class DroppingAccept(Accept):
    """Its undo drops the task and leaves the poller registered, which accepts the next connection and closes it."""

    __slots__ = ()

    def handle(self, kernel, task):
        accepting = Accepting(kernel, task, self.file)
        kernel.park(task, accepting.give_up)


class Accepting:
    def __init__(self, kernel, task, listener):
        self.kernel, self.task, self.listener = kernel, task, listener
        listener.watch(kernel, READ, self)

    def give_up(self):
        self.task = None

    def ready(self):
        conn = self.listener.try_accept()
        if self.task is None:
            conn.close()
        else:
            self.kernel.resume(self.task, conn)

    def closed(self):
        assert self.task is None


def storming_serve(handler, path, *, ready):
    """Out of file descriptors, try again for the rest of the backlog and log each failure."""
    with (yield Listen(path)) as listener:
        ready(listener)
        while True:
            yield WaitReadable(listener)
            for _ in range(5):
                try:
                    conn = listener.try_accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    logging.getLogger("minisched").error("accept: %s", error)
                else:
                    yield Spawn(closing(handler, conn))
            yield Sleep(1)


def slow_serve(handler, path, *, ready):
    """Accept one connection at each poll that reports some."""
    with (yield Listen(path)) as listener:
        ready(listener)
        while True:
            yield WaitReadable(listener)
            yield Spawn(closing(handler, listener.try_accept()))


def closing(handler, conn):
    with conn:
        yield from handler(conn)


# Time, and the ends of tasks.


def swallowing_wait_for(call, seconds):
    """Wait for a call; if there is an answer, drop a cancellation that came with it."""
    with (yield Timeout(seconds)):
        answer = yield call
    yield Uncancel()
    return answer


class Uncancel(Syscall[None]):
    """Withdraw the cancellation of the task that yields this."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel, task):
        task.requested = None
        kernel.propagate(task)


def throwing_timeout(body, seconds):
    """Run `body` for `seconds`; then throw into it once, and leave it alone."""
    task = yield Spawn(body, keep=True)
    with (yield MoveOnAfter(seconds)):
        yield Join(task)
    with suppress(TimedOut):
        task.gen.throw(TimedOut())


def greedy_run(main, *, clock, watch):
    """Run turns as long as a task is ready; only then poll files and fire timers."""
    kernel = Kernel(Lifecycle)
    (kernel.watch,) = watch
    timers = kernel.services[Timers] = Timers(kernel, clock)
    poller = kernel.service(Poller)
    task = kernel.spawn(main)
    try:
        kernel.turns(sys.maxsize)
        while task.state != DONE:
            timers.clock.wait(poller.select, timers.next_deadline())
            timers.fire()
            kernel.turns(sys.maxsize)
    finally:
        poller.close()
    if task.failure is not None:
        raise task.failure


def eager_read(file, size):
    """Read available bytes at once, without a yield."""
    try:
        return file.try_read(size)
    except BlockingIOError:
        return (yield Read(file, size))


class TinyLoop:
    """A round-robin loop of generators that yield nothing, or Spawn, Join, Cancel or Sleep.

    A kill closes the generator. Each subclass has a bug in one of these methods.
    """

    def __init__(self):
        self.ready = deque()  # generators, each with the value to send
        self.sleeping = []  # generators, each with its wake-up time
        self.joining = {}
        self.results = {}
        self.time = 0

    @classmethod
    def run(cls, main):
        loop = cls()
        loop.ready.append((main, None))
        while loop.ready or loop.wake_next():
            loop.turn(*loop.ready.popleft())

    def turn(self, task, value):
        try:
            call = task.throw(value) if isinstance(value, Exception) else task.send(value)
        except StopIteration as end:
            self.end(task, end.value)
        except Exception as error:
            self.fail(task, error)
        else:
            self.handle(task, call)

    def handle(self, task, call):
        if isinstance(call, Join):
            self.join(call.task, task)
        elif isinstance(call, Sleep):
            self.sleep(task, self.time + call.seconds)
        elif isinstance(call, Cancel):
            self.kill(call.task)
            self.ready.append((task, None))
        elif isinstance(call, Spawn):
            self.ready += (call.gen, None), (task, call.gen)
        else:
            self.ready.append((task, None))

    def join(self, task, joiner):
        if task in self.results:
            self.ready.append((joiner, self.results[task]))
        else:
            self.joining.setdefault(task, []).append(joiner)

    def end(self, task, result):
        self.results[task] = result
        self.ready += ((joiner, result) for joiner in self.joining.pop(task, ()))

    def fail(self, task, error):
        self.end(task, error)

    def kill(self, task):
        self.forget(task)
        with suppress(RuntimeError):  # raised if the task yields in its `finally`
            task.close()
        self.end(task, None)

    def forget(self, task):
        self.ready = deque(entry for entry in self.ready if entry[0] is not task)
        self.sleeping = [entry for entry in self.sleeping if entry[1] is not task]

    def sleep(self, task, until):
        self.sleeping.append((until, task))

    def wake_next(self):
        """Wake the first sleeper; return whether there is one."""
        first = min(self.sleeping, key=lambda entry: entry[0], default=(inf, None))
        if first[0] == inf:
            return False
        self.sleeping.remove(first)
        self.time = first[0]
        self.ready.append((first[1], None))
        return True


class PyosLoop(TinyLoop):
    """pyos8: a kill closes the generator, and its end shows at its next turn only; a failure ends `run`."""

    def kill(self, task):
        task.close()

    def fail(self, task, error):
        raise error


class TaleLoop(TinyLoop):
    """a-tale-of-event-loops: a join waits for the end of a task, even if the task has ended."""

    def join(self, task, joiner):
        self.joining.setdefault(task, []).append(joiner)


class BlueletLoop(TinyLoop):
    """Bluelet: a kill drops the task without closing it."""

    def kill(self, task):
        self.forget(task)
        self.end(task, None)


class TinyioLoop(TinyLoop):
    """tinyio: a failure is thrown into every generator."""

    def fail(self, task, error):
        for other in [*(entry[0] for entry in self.ready), *(entry[1] for entry in self.sleeping)]:
            with suppress(Exception, StopIteration):
                other.throw(RuntimeError("cancelled"))
        raise error


class WeakLoop(TinyLoop):
    """asyncio: the garbage collector can free a task that is not done."""

    def sleep(self, task, until):
        self.sleeping.append((until, weakref.ref(task)))

    def forget(self, task):
        raise NotImplementedError

    def turn(self, task, value):
        task = task() if isinstance(task, weakref.ref) else task
        if task is not None:
            super().turn(task, value)


# Files.


class HalfClosingConnect(Connect):
    """A cancellation closes the file descriptor, but not the socket object."""

    __slots__ = ()

    def open(self, kernel):
        return HalfClosing(kernel.service(Network).dial(self.address))


class HalfClosing(Dialing):
    def close(self):
        if self.sock is not None:
            os.close(self.sock.fileno())


class CloseFd(Syscall[None]):
    """Close the file descriptor that the file had when the call was made."""

    __slots__ = ("fd",)
    checkpoint = False

    def __init__(self, file):
        self.fd = file.fileno()

    def handle(self, kernel, task):
        os.close(self.fd)


class SilentClose(Syscall[None]):
    """Close a socket without waking its waiters."""

    __slots__ = ("sock",)
    checkpoint = False

    def __init__(self, sock):
        self.sock = sock

    def handle(self, kernel, task):
        socket.socket.close(self.sock)


class BrittleWait(WaitWritable):
    """Its undo assumes that the file is registered with the selector."""

    __slots__ = ()

    def handle(self, kernel, task):
        super().handle(kernel, task)
        undo, fd, selector = task.undo, as_file(kernel, self.file).fd, kernel.service(Poller).selector

        def unregister():
            undo()
            selector.modify(fd, READ)

        task.undo = unregister


class LastWait(Syscall[None]):
    """Wait until a file is writable; of several waiters, only the last is woken."""

    __slots__ = ("file",)

    def __init__(self, file):
        self.file = file

    def handle(self, kernel, task):
        draining = kernel.service(Draining)
        draining.waiter = task
        if draining.file is None:
            draining.file = self.file
            self.file.watch(kernel, WRITE, draining)
        kernel.park(task, lambda: None)


class Draining(Service):
    task = waiter = file = None

    def ready(self):
        self.kernel.resume(self.waiter)
