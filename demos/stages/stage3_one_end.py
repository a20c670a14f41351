"""Stage 3, one way to end: every task ends in `finish`, and a cancellation is an exception raised at its yield.

Shows: `finish` is the only way to end, and it wakes the joiners. A cancelled task is not closed from outside. It is
woken with Cancelled, cleans up, and ends in a turn of its own like any other task. Cancelled is a BaseException, so
that an `except Exception` does not catch it by mistake.
The bug: a task that waits for an outside event, a time or some bytes, has to try again and again. It is always ready,
and the processor is never idle. In stage 4, outside events wake tasks.

Run it:    python demos/stages/stage3_one_end.py
"""

import socket
from collections import deque


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


class Kernel:
    """Tasks that take turns."""

    def __init__(self):
        self.ready = deque()
        self.tasks = []  # those that are not done

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

    def run(self):
        """Run until no task is ready; return the names of the tasks that are still waiting."""
        while self.ready:
            self.turn()
        return [task.name for task in self.tasks]


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


# The demonstration.


def count(name, most):
    try:
        for number in range(1, most + 1):
            print(f"  {name} {number}")
            yield
    finally:
        print(f"  {name} cleans up")
    return most


def canceller(task):
    yield
    yield Cancel(task)


def main():
    """Join a task that another task cancels."""
    ada = yield Spawn(count("Ada", 9), "Ada")
    yield Spawn(canceller(ada), "canceller")
    try:
        yield Join(ada)
    except RuntimeError as error:
        print(f"  {error}")


def reader(conn):
    """Wait for bytes by trying again and again."""
    attempts = 1
    while True:
        try:
            data = conn.recv(100)
        except BlockingIOError:
            attempts += 1
            yield
        else:
            return f"{data!r} after {attempts} attempts"


def sender(conn):
    """Send bytes after a long time."""
    for _ in range(500):
        yield
    conn.send(b"hello")


def bug():
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        task = yield Spawn(reader(near), "reader")
        yield Spawn(sender(far), "sender")
        print(f"  the reader got {(yield Join(task))}")


def run(gen):
    """Run a task and its children; print which tasks wait for ever."""
    kernel = Kernel()
    kernel.spawn(gen)
    stuck = kernel.run()
    if stuck:
        print(f"  waiting for ever: {', '.join(stuck)}")


if __name__ == "__main__":
    print("A task is cancelled, and its joiner is woken:")
    run(main())
    print("-- the bug: a task can wait for bytes only by trying again and again --")
    run(bug())
