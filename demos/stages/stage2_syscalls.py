"""Stage 2, syscalls: a task yields a request object, and the kernel sends it the answer.

Shows: a Task is a generator and its state: ready, running, parked or done. A syscall's `handle` returns the answer, or
parks the task until another part of the program resumes it. A failure ends one task, and is raised in its joiners.
The bug: joining a cancelled task hangs. `Cancel` closes the generator and drops the task. But only `turn` wakes
joiners, and a task that is closed by `Cancel` never ends in a turn. Stage 3 has one way to end for all tasks.

Run it:    python demos/stages/stage2_syscalls.py
"""

from collections import deque


class Task:
    """A generator and its state."""

    def __init__(self, gen, name):
        self.gen = gen
        self.name = name
        self.state = "ready"
        self.sent = None  # the value that its yield returns at its next turn
        self.error = None  # or the exception that its yield raises instead
        self.result = None
        self.failure = None
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
        self.resume(task)

    def turn(self):
        """Run the first ready task to its next yield, and handle the yielded syscall."""
        task = self.ready.popleft()
        if task.state == "done":
            return  # the task was cancelled while it was ready
        task.state = "running"
        error, task.error = task.error, None
        try:
            call = task.gen.throw(error) if error else task.gen.send(task.sent)
        except StopIteration as stop:
            task.result = stop.value
        except Exception as error:
            task.failure = error
        else:
            return self.answer(task, call)
        task.state = "done"
        self.tasks.remove(task)
        for joiner in task.joiners:
            wake_joiner(self, joiner, task)

    def answer(self, task, call):
        """Handle the syscall that a task has yielded."""
        try:
            value = call.handle(self, task) if call else None
        except Exception as error:
            self.throw(task, error)
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
    if task.failure:
        kernel.throw(joiner, task.failure)
    else:
        kernel.resume(joiner, task.result)


class Cancel(Syscall):
    """Close a task's generator, in whatever state the task is."""

    def __init__(self, task):
        self.task = task

    def handle(self, kernel, task):
        self.task.gen.close()
        self.task.state = "done"
        kernel.tasks.remove(self.task)


# The demonstration.


def count(name, most):
    for number in range(1, most + 1):
        print(f"  {name} {number}")
        yield
    return most


def broken():
    yield
    raise ValueError("no luck")


def main():
    ada = yield Spawn(count("Ada", 2), "Ada")
    bad = yield Spawn(broken(), "bad")
    print(f"  Ada counted to {(yield Join(ada))}")
    try:
        yield Join(bad)
    except ValueError as error:
        print(f"  the other task failed: {error}")


def bug():
    """Join a task that another task cancels."""
    ada = yield Spawn(count("Ada", 9), "Ada")
    yield Spawn(canceller(ada), "canceller")
    yield Join(ada)
    print("  never printed")


def canceller(task):
    yield
    yield Cancel(task)
    print("  Ada was cancelled")


def run(gen):
    """Run a task and its children; print which tasks wait for ever."""
    kernel = Kernel()
    kernel.spawn(gen)
    stuck = kernel.run()
    if stuck:
        print(f"  waiting for ever: {', '.join(stuck)}")


if __name__ == "__main__":
    print("Tasks yield syscalls and get answers:")
    run(main())
    print("-- the bug: joining a cancelled task hangs --")
    run(bug())
