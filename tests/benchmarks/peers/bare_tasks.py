"""The other limit: the least that tasks take which have a context, and make calls that are objects.

It has minisched's shape and nothing else: no cancellation, no parents, no names, no look at what was
yielded, an error ends everything, nothing is said of who waits for what. So it tells what the shape
itself costs; what minisched takes beyond that, it takes for what is left out here.
"""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from select import EPOLLIN, epoll
from time import monotonic, perf_counter

from ..rss import used_memory
from . import LONG, TASKS


class Task:
    """A generator, its context, and what it is given next."""

    __slots__ = ("context", "joiner", "step", "value")

    def __init__(self, gen):
        self.step = gen.send
        self.context = copy_context()
        self.value = self.joiner = None


class Loop:
    """Tasks take turns; who reads is told by epoll."""

    def __init__(self):
        self.ready = deque()
        self.timers = []
        self.readers = {}  # by number: who is told
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
            if call is None:
                task.value = None
                ready.append(task)
            elif call.handle(self, task):  # it need not wait
                ready.append(task)

    def serve(self, listener, body):
        """Run a task for each connection, for ever."""
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
    """Who is told of new connections."""

    def __init__(self, listener, body):
        self.listener, self.body = listener, body

    def ready(self, loop):
        sock, _ = self.listener.accept()
        loop.watch(sock)
        _ = loop.spawn(self.body(Connection(sock)))


class Connection:
    """A socket, and whether it was read to the end."""

    def __init__(self, sock):
        self.sock, self.fd, self.short = sock, sock.fileno(), False


class Sleep(float):
    """A point in time is all that there is to say of it."""

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
        return True


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
        while sent < len(self.data):  # its peer reads: this does not last
            try:
                sent += self.conn.sock.send(self.data[sent:])
            except BlockingIOError:
                pass
        return True


def timed(*bodies):
    """Run tasks to their ends; return the seconds that takes."""
    loop = Loop()
    for body in bodies:
        _ = loop.spawn(body)
    start = perf_counter()
    loop.turns()
    return perf_counter() - start


def switch(size):
    def body():
        for _ in range(size // TASKS):
            yield

    return timed(*(body() for _ in range(TASKS))) / size


def syscall(size):
    def body():
        for _ in range(size // TASKS):
            yield Sleep(0)

    return timed(*(body() for _ in range(TASKS))) / size


def nothing():
    return
    yield


def spawn(size):
    def main():
        for _ in range(size):
            task = yield Spawn(nothing())
            yield Join(task)

    return timed(main()) / size


def memory(size):
    def sleeper():
        yield Sleep(LONG)

    def main():
        before = used_memory()
        for _ in range(size):
            yield Spawn(sleeper())
        yield
        taken.append(used_memory() - before)

    taken = []
    timed(main())
    return taken[0] / size
