"""Stage 4, services: what outlives a call has a home in the kernel, and from there the world wakes tasks.

Shows: a Service, of which a kernel makes one when it is first asked for. Timers holds deadlines, Files a selector:
when nothing is ready, the loop asks them. A task that waits for time or bytes is parked, and costs nothing.
Time is a number here: when nobody is ready, it jumps to the next deadline.
The bug: a task that is cancelled while it sleeps is woken all the same when its time comes, in the middle of
something else. Whoever was to wake it was not told. Stage 5 has an undo for each wait.

Run it:    python demos/stages/stage4_services.py
"""

import heapq
import selectors
import socket
from collections import deque
from itertools import count


class Cancelled(BaseException):
    """The task was cancelled: it shall clean up and end."""


class Task:
    """A generator, and where it stands."""

    def __init__(self, gen, name):
        self.gen = gen
        self.name = name
        self.state = "ready"
        self.value = None  # what its yield returns next
        self.error = None  # what its yield raises next, in place of that
        self.result = None
        self.failure = None  # what it raised; Cancelled, if it was cancelled
        self.joiners = []


class Syscall:
    """A request; it handles itself."""

    def handle(self, kernel, task):
        """Return the answer, raise it, or park the task and leave word with who will wake it."""
        raise NotImplementedError


class Service:
    """State that outlives a syscall; a kernel has one of each kind."""

    def __init__(self, kernel):
        self.kernel = kernel

    def close(self):
        """Give back what is held; the run is over."""


class Kernel:
    """Tasks that take turns."""

    def __init__(self):
        self.ready = deque()
        self.tasks = []  # that are not done
        self.services = {}

    def service(self, kind):
        """Return the one instance of `kind`, made now if there is none."""
        if kind not in self.services:
            self.services[kind] = kind(self)
        return self.services[kind]

    def spawn(self, gen, name="main"):
        """Make a task, at the back of the queue."""
        task = Task(gen, name)
        self.tasks.append(task)
        self.ready.append(task)
        return task

    def park(self, task):
        """Let the task wait until somebody wakes it."""
        task.state = "parked"

    def resume(self, task, value=None):
        """Let the task's yield return `value`, at its next turn."""
        task.state = "ready"
        task.value = value
        self.ready.append(task)

    def throw(self, task, error):
        """Let the task's yield raise `error`, at its next turn."""
        task.error = error
        if task.state == "parked":
            self.resume(task)

    def turn(self):
        """Let the first task run to its next yield, and see to what it yields."""
        task = self.ready.popleft()
        task.state = "running"
        error, task.error = task.error, None
        try:
            call = task.gen.throw(error) if error else task.gen.send(task.value)
        except StopIteration as stop:
            self.finish(task, stop.value, None)
        except (Exception, Cancelled) as error:
            self.finish(task, None, error)
        else:
            self.answer(task, call)

    def finish(self, task, result, failure):
        """End a task, and tell those who wait for that."""
        task.state, task.result, task.failure = "done", result, failure
        self.tasks.remove(task)
        for joiner in task.joiners:
            tell(self, joiner, task)

    def answer(self, task, call):
        """Handle what a task has yielded."""
        try:
            value = call.handle(self, task) if call else None
        except Exception as error:
            task.error = error
            self.resume(task)
        else:
            if task.state == "running":
                self.resume(task, value)

    def wait(self):
        """Let the world wake somebody: a file that is ready, else the next timer, else the next file."""
        files, timers = self.service(Files), self.service(Timers)
        return files.poll(0) or timers.fire() or files.poll(None)

    def run(self):
        """Run until nothing can happen any more; return the names of those who wait for ever."""
        while self.ready or self.wait():
            while self.ready:
                self.turn()
        for service in self.services.values():
            service.close()
        return [task.name for task in self.tasks]


# The services.


class Timers(Service):
    """Who is woken when."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.now = 0
        self.timers = []  # a heap of (deadline, number, task): of the same deadline, first come, first served
        self.numbers = count()

    def wake_at(self, deadline, task):
        """Resume a task at a deadline."""
        heapq.heappush(self.timers, (deadline, next(self.numbers), task))

    def fire(self):
        """Go to the next deadline, and wake whose it is; return whether there is one."""
        if not self.timers:
            return False
        self.now = self.timers[0][0]
        while self.timers and self.timers[0][0] <= self.now:
            _, _, task = heapq.heappop(self.timers)
            self.kernel.resume(task)
        return True


class Files(Service):
    """Who waits for which file."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.selector = selectors.DefaultSelector()

    def wake_when_readable(self, file, task):
        """Resume a task when it can read."""
        self.selector.register(file, selectors.EVENT_READ, task)

    def poll(self, seconds):
        """Wait so long for files, and wake whose they are; return whether there was one."""
        found = self.selector.select(seconds) if self.selector.get_map() else []
        for key, _ in found:
            self.selector.unregister(key.fileobj)
            self.kernel.resume(key.data)
        return bool(found)

    def close(self):
        self.selector.close()


# The syscalls.
# The syscalls.


class Spawn(Syscall):
    """Start a task; return it."""

    def __init__(self, gen, name):
        self.gen = gen
        self.name = name

    def handle(self, kernel, task):
        return kernel.spawn(self.gen, self.name)


class Join(Syscall):
    """Wait for the end of a task; return its result, or raise what it raised."""

    def __init__(self, task):
        self.task = task

    def handle(self, kernel, task):
        kernel.park(task)
        if self.task.state == "done":
            tell(kernel, task, self.task)
        else:
            self.task.joiners.append(task)


def tell(kernel, joiner, task):
    """Tell a joiner what became of a task."""
    if isinstance(task.failure, Cancelled):
        kernel.throw(joiner, RuntimeError(f"{task.name} was cancelled"))  # a Cancelled would look like its own
    elif task.failure:
        kernel.throw(joiner, task.failure)
    else:
        kernel.resume(joiner, task.result)


class Cancel(Syscall):
    """Raise Cancelled where a task stands; it ends when it has cleaned up."""

    def __init__(self, task):
        self.task = task

    def handle(self, kernel, task):
        if self.task.state != "done":
            kernel.throw(self.task, Cancelled())


class Sleep(Syscall):
    """Wait so many seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def handle(self, kernel, task):
        kernel.park(task)
        timers = kernel.service(Timers)
        timers.wake_at(timers.now + self.seconds, task)


class Now(Syscall):
    """Return what time it is."""

    def handle(self, kernel, task):
        return kernel.service(Timers).now


class WaitReadable(Syscall):
    """Wait until there is something to read."""

    def __init__(self, file):
        self.file = file

    def handle(self, kernel, task):
        kernel.park(task)
        kernel.service(Files).wake_when_readable(self.file, task)


# The demonstration.


def reader(conn):
    """Wait for bytes: once."""
    yield WaitReadable(conn)
    return conn.recv(100)


def sender(conn):
    """Take long before it sends something."""
    yield Sleep(500)
    conn.send(b"hello")


def main():
    here, there = socket.socketpair()
    with here, there:
        task = yield Spawn(reader(here), "reader")
        yield Spawn(sender(there), "sender")
        data = yield Join(task)
        print(f"  at {(yield Now())} s, the reader got {data!r}")


def sleeper():
    try:
        yield Sleep(60)
    except Cancelled:
        print(f"  at {(yield Now())} s, it is cancelled, and sleeps for 100 s more")
        yield Sleep(100)
        print(f"  at {(yield Now())} s, it is awake")


def canceller(task):
    yield Sleep(1)
    yield Cancel(task)


def bug():
    """Cancel a task that sleeps."""
    task = yield Spawn(sleeper(), "sleeper")
    yield Spawn(canceller(task), "canceller")
    yield Join(task)


def run(gen):
    """Run a task and what it spawns; say who waits for ever."""
    kernel = Kernel()
    kernel.spawn(gen)
    stuck = kernel.run()
    if stuck:
        print(f"  for ever wait: {', '.join(stuck)}")


if __name__ == "__main__":
    print("A task waits for bytes, another for time:")
    run(main())
    print("-- the bug: who was cancelled while it slept is woken too early from the next sleep --")
    try:
        run(bug())
    except ValueError:
        print("  at 101 s, its other timer wakes it once more, after its end: the kernel breaks")
