"""Stage 4, services: state that outlives a syscall lives in the kernel, and outside events wake tasks from there.

Shows: the kernel creates each Service on first use. `Timers` holds deadlines, and `Files` holds a selector. When no
task is ready, the loop asks both. A task that waits for a deadline or for bytes is parked and costs nothing.
Time is only a number here: when no task is ready, it jumps to the next deadline.
The bug: a task is cancelled while it sleeps, and its old timer stays. The timer wakes the task later, in the middle
of another wait. Stage 5 adds an undo to each wait.

Run it:    python demos/stages/stage4_services.py
"""

import heapq
import selectors
import socket
from collections import deque
from itertools import count


class Cancelled(BaseException):
    """Raised in a cancelled task, which should clean up and finish."""


class Task:
    """A generator and its state."""

    def __init__(self, gen, name):
        self.gen = gen
        self.name = name
        self.state = "ready"
        self.sent = None  # the value that its yield returns at its next turn
        self.error = None  # or the exception that its yield raises instead
        self.result = None
        self.failure = None  # the exception that ended it; Cancelled if it was cancelled
        self.joiners = []


class Syscall:
    """A request to the kernel. Each kind has its own `handle`."""

    def handle(self, kernel, task):
        """Return the answer, raise an exception, or park the task and register it with a waker."""
        raise NotImplementedError


class Service:
    """State that outlives a syscall. A kernel has one instance of each kind."""

    def __init__(self, kernel):
        self.kernel = kernel

    def close(self):
        """Release resources at the end of the run."""


class Kernel:
    """Tasks that take turns."""

    def __init__(self):
        self.ready = deque()
        self.tasks = []  # those that are not done
        self.services = {}

    def service(self, kind):
        """Return the kernel's instance of `kind`, creating it on first use."""
        if kind not in self.services:
            self.services[kind] = kind(self)
        return self.services[kind]

    def spawn(self, gen, name="main"):
        """Create a task and put it at the back of the ready queue."""
        task = Task(gen, name)
        self.tasks.append(task)
        self.ready.append(task)
        return task

    def park(self, task):
        """Suspend the task until `resume` or `throw` is called for it."""
        task.state = "parked"

    def resume(self, task, value=None):
        """Make the task ready; its yield will return `value`."""
        task.state = "ready"
        task.sent = value
        self.ready.append(task)

    def throw(self, task, error):
        """Make the task ready; its yield will raise `error`."""
        task.error = error
        if task.state == "parked":
            self.resume(task)

    def turn(self):
        """Run the first ready task to its next yield, and handle the yielded syscall."""
        task = self.ready.popleft()
        task.state = "running"
        error, task.error = task.error, None
        try:
            call = task.gen.throw(error) if error else task.gen.send(task.sent)
        except StopIteration as stop:
            self.finish(task, stop.value, None)
        except (Exception, Cancelled) as error:
            self.finish(task, None, error)
        else:
            self.answer(task, call)

    def finish(self, task, result, failure):
        """Finish a task and wake its joiners."""
        task.state, task.result, task.failure = "done", result, failure
        self.tasks.remove(task)
        for joiner in task.joiners:
            wake_joiner(self, joiner, task)

    def answer(self, task, call):
        """Handle the syscall that a task has yielded."""
        try:
            value = call.handle(self, task) if call else None
        except Exception as error:
            task.error = error
            self.resume(task)
        else:
            if task.state == "running":
                self.resume(task, value)

    def wait(self):
        """Wait for the next event: a file that is ready, else the next deadline, else the next file."""
        files, timers = self.service(Files), self.service(Timers)
        return files.poll(0) or timers.fire() or files.poll(None)

    def run(self):
        """Run until nothing can happen any more; return the names of the tasks that are still waiting."""
        while self.ready or self.wait():
            while self.ready:
                self.turn()
        for service in self.services.values():
            service.close()
        return [task.name for task in self.tasks]


# The services.


class Timers(Service):
    """The deadlines, and the task to wake at each of them."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.now = 0
        self.timers = []  # a heap of (deadline, number, task); equal deadlines are served in FIFO order
        self.numbers = count()

    def wake_at(self, deadline, task):
        """Schedule a wake-up at `deadline`."""
        heapq.heappush(self.timers, (deadline, next(self.numbers), task))

    def fire(self):
        """Move the clock to the next deadline and wake its tasks; return False if there is no deadline."""
        if not self.timers:
            return False
        self.now = self.timers[0][0]
        while self.timers and self.timers[0][0] <= self.now:
            _, _, task = heapq.heappop(self.timers)
            self.kernel.resume(task)
        return True


class Files(Service):
    """The selector, and the task that waits for each file."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.selector = selectors.DefaultSelector()

    def wake_when_readable(self, file, task):
        """Wake the task when `file` is readable."""
        self.selector.register(file, selectors.EVENT_READ, task)

    def poll(self, seconds):
        """Wait up to `seconds` for files and wake their tasks; return whether any file was ready."""
        events = self.selector.select(seconds) if self.selector.get_map() else []
        for key, _ in events:
            self.selector.unregister(key.fileobj)
            self.kernel.resume(key.data)
        return bool(events)

    def close(self):
        self.selector.close()


# The syscalls.


class Spawn(Syscall):
    """Start a task and return it."""

    def __init__(self, gen, name):
        self.gen = gen
        self.name = name

    def handle(self, kernel, task):
        return kernel.spawn(self.gen, self.name)


class Join(Syscall):
    """Wait for a task to finish; return its result, or raise its exception."""

    def __init__(self, task):
        self.task = task

    def handle(self, kernel, task):
        kernel.park(task)
        if self.task.state == "done":
            wake_joiner(kernel, task, self.task)
        else:
            self.task.joiners.append(task)


def wake_joiner(kernel, joiner, task):
    """Wake a joiner with the outcome of a task."""
    if isinstance(task.failure, Cancelled):
        kernel.throw(joiner, RuntimeError(f"{task.name} was cancelled"))  # not Cancelled: the joiner is not
    elif task.failure:
        kernel.throw(joiner, task.failure)
    else:
        kernel.resume(joiner, task.result)


class Cancel(Syscall):
    """Raise Cancelled at the task's yield; the task finishes after its cleanup."""

    def __init__(self, task):
        self.task = task

    def handle(self, kernel, task):
        if self.task.state != "done":
            kernel.throw(self.task, Cancelled())


class Sleep(Syscall):
    """Wait for `seconds` seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def handle(self, kernel, task):
        kernel.park(task)
        timers = kernel.service(Timers)
        timers.wake_at(timers.now + self.seconds, task)


class Now(Syscall):
    """Return the current time."""

    def handle(self, kernel, task):
        return kernel.service(Timers).now


class WaitReadable(Syscall):
    """Wait until a file is readable."""

    def __init__(self, file):
        self.file = file

    def handle(self, kernel, task):
        kernel.park(task)
        kernel.service(Files).wake_when_readable(self.file, task)


# The demonstration.


def reader(conn):
    """Wait for bytes, in one syscall."""
    yield WaitReadable(conn)
    return conn.recv(100)


def sender(conn):
    """Send bytes after a long time."""
    yield Sleep(500)
    conn.send(b"hello")


def main():
    near, far = socket.socketpair()
    with near, far:
        task = yield Spawn(reader(near), "reader")
        yield Spawn(sender(far), "sender")
        data = yield Join(task)
        print(f"  at {(yield Now())} s, the reader got {data!r}")


def sleeper():
    try:
        yield Sleep(60)
    except Cancelled:
        print(f"  at {(yield Now())} s, it is cancelled, and sleeps for another 100 s")
        yield Sleep(100)
        print(f"  at {(yield Now())} s, it is awake")


def canceller(task):
    yield Sleep(1)
    yield Cancel(task)


def bug():
    """Cancel a sleeping task."""
    task = yield Spawn(sleeper(), "sleeper")
    yield Spawn(canceller(task), "canceller")
    yield Join(task)


def run(gen):
    """Run a task and its children; print which tasks wait for ever."""
    kernel = Kernel()
    kernel.spawn(gen)
    stuck = kernel.run()
    if stuck:
        print(f"  waiting for ever: {', '.join(stuck)}")


if __name__ == "__main__":
    print("One task waits for bytes, another for a deadline:")
    run(main())
    print("-- the bug: a cancelled sleeper wakes too early from its next sleep --")
    try:
        run(bug())
    except ValueError:
        print("  at 101 s, its second timer wakes a task that has ended: the kernel fails")
