"""Stage 2, syscalls: a task yields a request, an object that handles itself, and is sent the answer.

Shows: a Task is a generator and where it stands: ready, running, parked, done. `handle` returns the answer, or parks
the task, whom somebody resumes later (or throws into). What a task raises is its own affair, and its joiners'.
The bug: to join a task that was cancelled hangs. `Cancel` closes the generator and forgets the task; those who wait
for its end are told by `turn`, and only if the end came in a turn. Stage 3 has one way to end, for all.

Run it:    python demos/stages/stage2_syscalls.py
"""

from collections import deque


class Task:
    """A generator, and where it stands."""

    def __init__(self, gen, name):
        self.gen = gen
        self.name = name
        self.state = "ready"
        self.value = None  # what its yield returns next
        self.error = None  # what its yield raises next, in place of that
        self.result = None
        self.failure = None
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
        self.resume(task)

    def turn(self):
        """Let the first task run to its next yield, and see to what it yields."""
        task = self.ready.popleft()
        if task.state == "done":
            return  # it was cancelled while it was ready
        task.state = "running"
        error, task.error = task.error, None
        try:
            call = task.gen.throw(error) if error else task.gen.send(task.value)
        except StopIteration as stop:
            task.result = stop.value
        except Exception as error:
            task.failure = error
        else:
            return self.answer(task, call)
        task.state = "done"
        self.tasks.remove(task)
        for joiner in task.joiners:
            tell(self, joiner, task)

    def answer(self, task, call):
        """Handle what a task has yielded."""
        try:
            value = call.handle(self, task) if call else None
        except Exception as error:
            self.throw(task, error)
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
    if task.failure:
        kernel.throw(joiner, task.failure)
    else:
        kernel.resume(joiner, task.result)


class Cancel(Syscall):
    """End a task, wherever it stands."""

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
        print(f"  the other one failed: {error}")


def bug():
    """Wait for the end of a task that somebody else cancels."""
    ada = yield Spawn(count("Ada", 9), "Ada")
    yield Spawn(canceller(ada), "canceller")
    yield Join(ada)
    print("  never printed")


def canceller(task):
    yield
    yield Cancel(task)
    print("  Ada was cancelled")


def run(gen):
    """Run a task and what it spawns; say who waits for ever."""
    kernel = Kernel()
    kernel.spawn(gen)
    stuck = kernel.run()
    if stuck:
        print(f"  for ever wait: {', '.join(stuck)}")


if __name__ == "__main__":
    print("A task asks, and is answered:")
    run(main())
    print("-- the bug: to join a task that was cancelled hangs --")
    run(bug())
