"""Stage 3, one end: a task ends in one place, whatever ends it; to cancel it is to raise Cancelled at its yield.

Shows: `finish`, the only way out: it tells those who wait. A cancelled task is not closed behind its back: it is woken
with Cancelled, cleans up, and ends like any other, in a turn of its own. That Cancelled is a BaseException keeps an
`except Exception` from taking it by mistake.
The bug: who waits for something outside of the program, for time or for bytes, has to ask over and over: it is always
ready, and the processor is never idle. Stage 4 lets the world wake tasks.

Run it:    python demos/stages/stage3_one_end.py
"""

import socket
from collections import deque


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


class Kernel:
    """Tasks that take turns."""

    def __init__(self):
        self.ready = deque()
        self.tasks = []  # that are not done

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

    def run(self):
        """Run until nothing is ready; return the names of those who wait for ever."""
        while self.ready:
            self.turn()
        return [task.name for task in self.tasks]


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
    """Wait for the end of a task that somebody else cancels."""
    ada = yield Spawn(count("Ada", 9), "Ada")
    yield Spawn(canceller(ada), "canceller")
    try:
        yield Join(ada)
    except RuntimeError as error:
        print(f"  {error}")


def reader(conn):
    """Wait for bytes, as well as that goes."""
    asked = 1
    while True:
        try:
            data = conn.recv(100)
        except BlockingIOError:
            asked += 1
            yield
        else:
            return f"{data!r}, after asking {asked} times"


def sender(conn):
    """Take long before it sends something."""
    for _ in range(500):
        yield
    conn.send(b"hello")


def bug():
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        task = yield Spawn(reader(here), "reader")
        yield Spawn(sender(there), "sender")
        print(f"  the reader got {(yield Join(task))}")


def run(gen):
    """Run a task and what it spawns; say who waits for ever."""
    kernel = Kernel()
    kernel.spawn(gen)
    stuck = kernel.run()
    if stuck:
        print(f"  for ever wait: {', '.join(stuck)}")


if __name__ == "__main__":
    print("A task is cancelled, and whoever waits for its end is told:")
    run(main())
    print("-- the bug: to wait for the world is to ask over and over --")
    run(bug())
