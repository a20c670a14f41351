"""Bare tasks: a limit. The smallest scheduler with the shape of minisched, and without its features.

A task has a context, and a syscall is an object that handles itself. There is no tree of tasks, no name, no check of
the yielded object and no report. A task can be cancelled while it sleeps, and never else; an error ends the run. So
this limit shows the cost of the shape. The difference to minisched is the cost of the features.
"""

# ruff: noqa: B007  (the last value of a loop variable is reported after the loop)
from __future__ import annotations

from collections import deque
from contextvars import copy_context
from select import EPOLLIN, epoll
from time import monotonic, perf_counter

from ..rss import used_memory
from . import ENDLESS_SECONDS, TASKS, finished


class Stopped(BaseException):
    """Raised in a cancelled task, and in the task that joins it."""


class Task:
    """A generator, its context, and the value that its next turn receives."""

    __slots__ = ("context", "joiner", "step", "value")

    def __init__(self, gen):
        self.step = gen.send
        self.context = copy_context()
        self.value = self.joiner = None


class Loop:
    """Ready tasks take turns; epoll wakes tasks that read."""

    def __init__(self):
        self.ready = deque()
        self.timers = []
        self.readers = {}  # by fd: the object whose `ready` is called
        self.epoll = epoll()

    def spawn(self, gen):
        task = Task(gen)
        self.ready.append(task)
        return task

    def turns(self):
        """Run turns until nothing is ready."""
        ready = self.ready
        while ready:
            task = ready.popleft()
            try:
                call = task.context.run(task.step, task.value)
            except StopIteration as end:
                task.step, task.value = None, end.value
                if task.joiner is not None:
                    ready.append(task.joiner)
                continue
            except Stopped as stopped:
                task.step, task.value = None, stopped.with_traceback(None)
                continue
            if call is None:
                task.value = None
                ready.append(task)
            elif call.handle(self, task):  # the task does not wait
                ready.append(task)

    def serve(self, listener, body):
        """Run a task for each connection; never return."""
        self.watch(listener, Accepting(listener, body))
        while True:
            for fd, _ in self.epoll.poll():
                self.readers[fd].ready(self)
            self.turns()

    def watch(self, sock, reader=None):
        sock.setblocking(False)
        self.readers[sock.fileno()] = reader
        self.epoll.register(sock, EPOLLIN)


class Accepting:
    """The reader of a listener: it accepts connections and spawns their tasks."""

    def __init__(self, listener, body):
        self.listener, self.body = listener, body

    def ready(self, loop):
        sock, _ = self.listener.accept()
        loop.watch(sock)
        _ = loop.spawn(self.body(Connection(sock)))


class Connection:
    """A socket; `short` is set when the last read emptied it."""

    def __init__(self, sock):
        self.sock, self.fd, self.short = sock, sock.fileno(), False


class Sleep(float):
    """A sleep is its number of seconds."""

    __slots__ = ()

    def handle(self, loop, task):
        if not self:
            return True
        loop.timers.append((monotonic() + self, task))
        return False


class Spawn:
    __slots__ = ("gen",)

    def __init__(self, gen):
        self.gen = gen

    def handle(self, loop, task):
        task.value = loop.spawn(self.gen)
        return True


class Join:
    __slots__ = ("task",)

    def __init__(self, task):
        self.task = task

    def handle(self, loop, task):
        if self.task.step is not None:
            self.task.joiner = task
            return False
        task.value = self.task.value
        if type(task.value) is Stopped:
            throw_into(task)
        return True


class Cancel:
    __slots__ = ("task",)

    def __init__(self, task):
        self.task = task

    def handle(self, loop, task):
        self.task.value = Stopped()
        throw_into(self.task)
        loop.ready.append(self.task)
        task.value = None
        return True


def throw_into(task):
    """Let the next turn of a task raise its value."""

    def throw(error):
        task.step = send
        return send.__self__.throw(error)

    send, task.step = task.step, throw


class Read:
    __slots__ = ("conn", "size", "task")

    def __init__(self, conn, size):
        self.conn, self.size = conn, size

    def handle(self, loop, task):
        self.task = task
        if not self.conn.short:
            try:
                self.read()
                return True
            except BlockingIOError:
                pass
        loop.readers[self.conn.fd] = self
        return False

    def read(self):
        self.task.value = data = self.conn.sock.recv(self.size)
        self.conn.short = len(data) < self.size
        if not data:
            self.conn.sock.close()

    def ready(self, loop):
        self.read()
        loop.ready.append(self.task)


class Write:
    __slots__ = ("conn", "data")

    def __init__(self, conn, data):
        self.conn, self.data = conn, data

    def handle(self, loop, task):
        sent = self.conn.sock.send(self.data)
        while sent < len(self.data):  # the client reads, so this is short
            try:
                sent += self.conn.sock.send(self.data[sent:])
            except BlockingIOError:
                pass
        return True


def timed(*bodies):
    """Run tasks until all have ended; return the seconds that they took."""
    loop = Loop()
    for body in bodies:
        _ = loop.spawn(body)
    start = perf_counter()
    loop.turns()
    return perf_counter() - start


def switch(size):
    def body():
        for turn in range(size // TASKS):
            yield
        finished(turn + 1)

    return timed(*(body() for _ in range(TASKS)))


def syscall(size):
    def body():
        for turn in range(size // TASKS):
            yield Sleep(0)
        finished(turn + 1)

    return timed(*(body() for _ in range(TASKS)))


def same(number):
    return number
    yield


def spawn(size):
    def main():
        for number in range(size):
            task = yield Spawn(same(number))
            result = yield Join(task)
        finished(result + 1)

    return timed(main())


def cancel_each(size):
    def sleeper():
        yield Sleep(ENDLESS_SECONDS)

    def main():
        tasks = []
        for _ in range(size):
            tasks.append((yield Spawn(sleeper())))
        cancelled = 0
        start = perf_counter()
        for task in tasks:
            yield Cancel(task)
            try:
                yield Join(task)
            except Stopped:
                cancelled += 1
        used.append(perf_counter() - start)
        finished(cancelled)

    used = []
    timed(main())
    return used[0]


def memory(size):
    def sleeper():
        yield Sleep(ENDLESS_SECONDS)

    def main():
        before = used_memory()
        for number in range(size):
            yield Spawn(sleeper())
        yield
        used.append(used_memory() - before)
        finished(number + 1)

    used = []
    timed(main())
    return used[0]
