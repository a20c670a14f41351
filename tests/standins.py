"""Bugs that other schedulers shipped, each in a few lines: `test_bugs` asserts that its tests notice them.

Most are written as an extension of ours would be, with the shape of the reported code and none of its
text. asyncio raises a cancellation that comes after the hand-over in place of the answer; here, a bare
`yield` between the two lets it in. Where a scheduler as such had the bug, there is one of its own: `TinyLoop`.
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
from minisched.family import ended
from minisched.foreign import as_file
from minisched.kernel import DONE
from minisched.poller import READ, WRITE
from minisched.sockets import Dialing
from minisched.sync import Permit
from minisched.tasks import awaitable
from minisched.waiting import resume

# Locks and friends.


class LossyCondition(Condition):
    """A notification is over once it has been given: if who was given it raises, nobody has it."""

    __slots__ = ("line",)

    def __init__(self):
        super().__init__()
        self.line = deque()

    def wait(self):
        woken = Event()
        self.line.append(woken)
        self.lock.release()
        try:
            yield woken.wait()
        finally:
            with (yield Shield(None)):
                yield self.lock.acquire()
        yield

    def notify(self, count=1):
        for _ in range(min(count, len(self.line))):
            self.line.popleft().set()


class StandIn:
    """A lock, or one permit, that a `with` gives back: `with (yield from lock.acquire()):`, or `async with lock:`."""

    def __init__(self):
        self.locked = False
        self.line = deque()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.release()

    async def __aenter__(self):
        return await self.acquire()

    async def __aexit__(self, *error):
        self.release()


class ForgetfulLock(StandIn):
    """Who releases it wakes the first, who takes it in its own turn; if that one is gone, the next sleeps on."""

    def acquire(self):
        while self.locked:
            woken = Event()
            self.line.append(woken)
            yield woken.wait()
            yield
        self.locked = True
        return self

    def release(self):
        self.locked = False
        if self.line:
            self.line.popleft().set()


class LeakyLock(StandIn):
    """It is handed over, but who was handed it and is cancelled never gives it back."""

    def acquire(self):
        if self.locked:
            woken = Event()
            self.line.append(woken)
            yield woken.wait()
            yield
        self.locked = True
        return self

    def release(self):
        if self.line:
            self.line.popleft().set()
        else:
            self.locked = False


class PausingLock(StandIn):
    """A free lock is taken at once, and after that comes a checkpoint, where a cancellation leaves it locked."""

    @awaitable
    def acquire(self):
        while self.locked:
            yield Sleep(1)
        self.locked = True
        yield  # lets others run, and one of them cancels it
        yield
        return self

    def release(self):
        self.locked = False


class DoubleLock(StandIn):
    """A cancelled waiter that finds it unlocked wakes another: besides the one who was woken by the release."""

    def __init__(self):
        super().__init__()
        self.line = {}

    def acquire(self):
        task = yield CurrentTask()
        if self.locked:
            self.line[task] = woken = Event()
            try:
                yield woken.wait()
                yield
            except Cancelled:
                if not self.locked:
                    self.wake_first()
                raise
            finally:
                del self.line[task]
        self.locked = True
        return self

    def release(self):
        self.locked = False
        self.wake_first()

    def wake_first(self):
        for task, woken in self.line.items():
            if not woken.is_set() and task.scope.cause is None:
                return woken.set()


class LateSemaphore(Semaphore):
    """The permit that is handed over is counted as free until its new owner has its turn."""

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
    """Who is woken looks again, and finds the permit gone to one who came later."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def acquire(self):
        while not self.value:
            woken = Event()
            self.line.append(woken)
            yield woken.wait()
        self.value -= 1
        return self

    def release(self):
        self.value += 1
        if self.line:
            self.line.popleft().set()


class StuckSemaphore(UnfairSemaphore):
    """Nobody may jump in while one is being woken; if that one is cancelled, nobody may for ever."""

    waking = False

    def acquire(self):
        while self.waking or not self.value:
            woken = Event()
            self.line.append(woken)
            yield woken.wait()
            yield
            self.waking = False
        self.value -= 1
        return self

    def release(self):
        self.waking = bool(self.line)
        super().release()


# Items and connections.


class LossyQueue:
    """An item goes to the first getter, whether or not that one is still there to take it."""

    def __init__(self):
        self.items = deque()
        self.getters = deque()

    def get(self):
        if self.items:
            return self.items.popleft()
        woken, given = Event(), []
        self.getters.append((woken, given))
        yield woken.wait()
        yield
        return given[0]

    def put_nowait(self, item):
        if self.getters:
            woken, given = self.getters.popleft()
            given.append(item)
            woken.set()
        else:
            self.items.append(item)


class DroppingAccept(Accept):
    """Its undo forgets the task, but not what the poller will do: accept the next connection, for nobody."""

    __slots__ = ()

    def handle(self, kernel, task):
        accepting = Accepting(kernel, task, self.listener)
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
    """Out of files, go on trying for the rest of the backlog, and log each."""
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
    """Take one connection each time that the selector tells of some."""
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
    """Wait for a call; if there is an answer, never mind what else was asked meanwhile."""
    with (yield Timeout(seconds)):
        answer = yield call
    yield Uncancel()
    return answer


class Uncancel(Syscall[None]):
    """Take back the cancellation of the task that asks."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel, task):
        task.own = None
        kernel.spread(task)


def throwing_timeout(body, seconds):
    """Run `body` for so long; throw into it, once, and look no more at it."""
    task = yield Spawn(body, keep=True)
    with (yield MoveOnAfter(seconds)):
        yield Join(task)
    with suppress(TimedOut):
        task.gen.throw(TimedOut())


def greedy_run(main, *, clock, watch):
    """Run turns for as long as a task is ready; only then look at files and timers."""
    kernel = Kernel(ended)
    (kernel.watch,) = watch
    timers = kernel.services[Timers] = Timers(kernel, clock)
    poller = kernel.service(Poller)
    task = kernel.spawn(main)
    try:
        kernel.turns(sys.maxsize)
        while task.place != DONE:
            timers.clock.wait(poller.select, timers.next_deadline())
            timers.fire()
            kernel.turns(sys.maxsize)
    finally:
        poller.close()
    if task.failure is not None:
        raise task.failure


def eager_read(file, size):
    """Read at once what is there, without a word to the scheduler."""
    try:
        return file.try_read(size)
    except BlockingIOError:
        return (yield Read(file, size))


class TinyLoop:
    """A round-robin loop of generators that yield nothing, or Spawn, Join, Cancel or Sleep.

    It kills by closing. Each of its subclasses has a bug in one of these methods.
    """

    def __init__(self):
        self.ready = deque()  # generators, each with what it is sent
        self.sleeping = []  # each with when it wakes
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
        with suppress(RuntimeError):  # it has yielded in its `finally`
            task.close()
        self.end(task, None)

    def forget(self, task):
        self.ready = deque(entry for entry in self.ready if entry[0] is not task)
        self.sleeping = [entry for entry in self.sleeping if entry[1] is not task]

    def sleep(self, task, until):
        self.sleeping.append((until, task))

    def wake_next(self):
        """Let the first sleeper go on; return whether there is one."""
        first = min(self.sleeping, key=lambda entry: entry[0], default=(inf, None))
        if first[0] == inf:
            return False
        self.sleeping.remove(first)
        self.time = first[0]
        self.ready.append((first[1], None))
        return True


class PyosLoop(TinyLoop):
    """pyos8: to kill is to close the generator, whose end is noticed at its next turn; a failure ends `run`."""

    def kill(self, task):
        task.close()

    def fail(self, task, error):
        raise error


class TaleLoop(TinyLoop):
    """A-tale-of-event-loops: who joins waits for the end, which may be past."""

    def join(self, task, joiner):
        self.joining.setdefault(task, []).append(joiner)


class BlueletLoop(TinyLoop):
    """Bluelet: to kill is to look no more at it."""

    def kill(self, task):
        self.forget(task)
        self.end(task, None)


class TinyioLoop(TinyLoop):
    """Tinyio: a failure is thrown into every generator."""

    def fail(self, task, error):
        for other in [*(entry[0] for entry in self.ready), *(entry[1] for entry in self.sleeping)]:
            with suppress(Exception, StopIteration):
                other.throw(RuntimeError("cancelled"))
        raise error


class WeakLoop(TinyLoop):
    """asyncio: a task that nobody holds can go, although it is not done."""

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
    """Cancelled, it closes the number, and the socket does not know."""

    __slots__ = ()

    def handle(self, kernel, task):
        return HalfClosing(kernel, task, kernel.service(Network).dial(self.address)).start()


class HalfClosing(Dialing):
    __slots__ = ()

    def __call__(self):
        self.sock.unwatch(self.kernel, WRITE)
        os.close(self.sock.fileno())


class CloseNumber(Syscall[None]):
    """Close the number that the file had when it was asked for."""

    __slots__ = ("number",)
    checkpoint = False

    def __init__(self, file):
        self.number = file.fileno()

    def handle(self, kernel, task):
        os.close(self.number)


class SilentClose(Syscall[None]):
    """Close a socket and tell nobody."""

    __slots__ = ("sock",)
    checkpoint = False

    def __init__(self, sock):
        self.sock = sock

    def handle(self, kernel, task):
        socket.socket.close(self.sock)


class BrittleWait(WaitWritable):
    """Its undo takes it for granted that the selector knows the file."""

    __slots__ = ()

    def handle(self, kernel, task):
        super().handle(kernel, task)
        undo, fd, selector = task.undo, as_file(kernel, self.file).fd, kernel.service(Poller).selector

        def forget():
            undo()
            selector.modify(fd, READ)

        task.undo = forget


class LastWait(Syscall[None]):
    """Wait until a file can be written to; of several who wait, the last is remembered."""

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
