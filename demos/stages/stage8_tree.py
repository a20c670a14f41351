"""Stage 8, a tree: nothing outlives its parent, a cancellation goes down the tree, and a failure up.

Shows: a task whose body is over is *ending* until its children are done. To cancel it is to cancel all below it. A
child's failure is its parent's: the parent is cancelled, and ends with the failures of its children. All of this is in
`finish` and `cancel`, and both are loops, since a tree may be deep.

This is minisched's kernel.py, in small. What it has beyond: scopes within a task, each a node of the tree, and shields;
a context for each task; calls that are told of by a watcher, a check of its own invariants, and a sentence for each
mistake; `keep` for failures that wait for a Join, and daemons; the deadlock's report; coroutines; and a turn that is
written out, for speed. Clock, files and the loop are in files of their own there.

Run it:    python demos/stages/stage8_tree.py
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

    def __init__(self, gen, name, parent):
        self.gen = gen
        self.name = name
        self.parent = parent
        self.children = []  # that are not done
        self.failed = []  # failures of those that are
        self.state = "ready"
        self.value = None  # what its yield returns next
        self.error = None  # what its yield raises next, in place of that
        self.undo = None  # while it is parked: forgets what it waits for
        self.cancelled = False
        self.result = None
        self.failure = None  # what it raised; Cancelled, if it was cancelled
        self.joiners = []


class Syscall:
    """A request; it handles itself. `checkpoint`: a cancelled task is told so in its place."""

    checkpoint = True

    def handle(self, kernel, task):
        """Return the answer, raise it, or park the task and leave word with who will wake it."""
        raise NotImplementedError


BATCH = 61  # turns between two looks at the world


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

    def spawn(self, gen, name="main", parent=None):
        """Make a task, at the back of the queue, below its parent."""
        task = Task(gen, name, parent)
        if parent:
            parent.children.append(task)
            task.cancelled = parent.cancelled
        self.tasks.append(task)
        self.ready.append(task)
        return task

    def park(self, task, undo):
        """Let the task wait until somebody wakes it; `undo()` forgets that wait."""
        task.state = "parked"
        task.undo = undo

    def resume(self, task, value=None):
        """Let the task's yield return `value`, at its next turn."""
        task.state = "ready"
        task.undo = None
        task.value = value
        self.ready.append(task)

    def throw(self, task, error):
        """Let the task's yield raise `error`, at its next turn."""
        task.error = error
        self.resume(task)

    def cancel(self, task):
        """Let a task, and all below it, be told at each checkpoint that it shall end; now, if it is parked."""
        todo = [task]
        while todo:
            task = todo.pop()
            task.cancelled = True
            if task.undo:
                task.undo()
                self.throw(task, Cancelled())
            todo.extend(task.children)

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
        """End a task when its children have: then tell those who wait for that, and its parent; and so on, upwards."""
        task.state, task.result, task.failure = "ending", result, failure
        if failure:
            self.cancel(task)
        while task and task.state == "ending" and not task.children:
            self.retire(task)
            task = task.parent

    def retire(self, task):
        """Take a task out of the tree; what failed below it is its failure."""
        if task.failed:
            own = [task.failure] if isinstance(task.failure, Exception) else []
            task.failure = ExceptionGroup(f"in task {task.name}", own + task.failed)
        task.state = "done"
        self.tasks.remove(task)
        if task.parent:
            task.parent.children.remove(task)
            if isinstance(task.failure, Exception):
                task.parent.failed.append(task.failure)
                self.cancel(task.parent)
        for joiner in list(task.joiners):  # those who are left: the parent may have been cancelled just now
            tell(self, joiner, task)

    def answer(self, task, call):
        """Handle what a task has yielded."""
        if task.cancelled and (call is None or call.checkpoint):
            return self.throw(task, Cancelled())
        try:
            value = call.handle(self, task) if call else None
        except Exception as error:
            task.error = error
            self.resume(task)
        else:
            if task.state == "running":
                self.resume(task, value)

    def wait(self):
        """Let the world wake somebody: files that are ready; if nobody is, the next timer, or else the next file."""
        files, timers = self.service(Files), self.service(Timers)
        return files.poll(0) or bool(self.ready) or timers.fire() or files.poll(None)

    def run_batch(self):
        """Run until nothing is ready, but only so many turns."""
        for _ in range(BATCH):
            if not self.ready:
                break
            self.turn()

    def run(self):
        """Run until nothing can happen any more; return the names of those who wait for ever."""
        while self.wait():
            self.run_batch()
        for service in self.services.values():
            service.close()
        return [task.name for task in self.tasks]


# The services.


class Timers(Service):
    """Who is woken when."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.now = 0
        self.timers = []  # a heap of [deadline, number, task]: of the same deadline, first come, first served
        self.numbers = count()

    def wake_at(self, deadline, task):
        """Resume a task at a deadline; return the undo."""
        timer = [deadline, next(self.numbers), task]
        heapq.heappush(self.timers, timer)
        return lambda: self.forget(timer)

    def forget(self, timer):
        self.timers.remove(timer)
        heapq.heapify(self.timers)

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
        """Resume a task when it can read; return the undo."""
        self.selector.register(file, selectors.EVENT_READ, task)
        return lambda: self.selector.unregister(file)

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
    """Start a task; return it. No checkpoint: what is handed to it is in good hands."""

    checkpoint = False

    def __init__(self, gen, name):
        self.gen = gen
        self.name = name

    def handle(self, kernel, task):
        return kernel.spawn(self.gen, self.name, task)


class Join(Syscall):
    """Wait for the end of a task; return its result, or raise what it raised."""

    def __init__(self, task):
        self.task = task

    def handle(self, kernel, task):
        kernel.park(task, undo=lambda: self.task.joiners.remove(task))
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
    """Cancel a task; it ends when it has cleaned up. No checkpoint."""

    checkpoint = False

    def __init__(self, task):
        self.task = task

    def handle(self, kernel, task):
        kernel.cancel(self.task)


class Sleep(Syscall):
    """Wait so many seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def handle(self, kernel, task):
        timers = kernel.service(Timers)
        kernel.park(task, undo=timers.wake_at(timers.now + self.seconds, task))


class Now(Syscall):
    """Return what time it is. No checkpoint."""

    checkpoint = False

    def handle(self, kernel, task):
        return kernel.service(Timers).now


class WaitReadable(Syscall):
    """Wait until there is something to read."""

    def __init__(self, file):
        self.file = file

    def handle(self, kernel, task):
        kernel.park(task, undo=kernel.service(Files).wake_when_readable(self.file, task))


class Queue:
    """Items, or those who wait for one, in the order of their coming."""

    def __init__(self):
        self.items = deque()
        self.getters = deque()

    def put(self, kernel, item):
        """Hand an item to the first who waits; else keep it."""
        if self.getters:
            kernel.resume(self.getters.popleft(), item)
        else:
            self.items.append(item)


class Put(Syscall):
    """Put an item into a queue."""

    def __init__(self, queue, item):
        self.queue = queue
        self.item = item

    def handle(self, kernel, task):
        self.queue.put(kernel, self.item)


class Get(Syscall):
    """Wait for an item of a queue."""

    def __init__(self, queue):
        self.queue = queue

    def handle(self, kernel, task):
        if self.queue.items:
            return self.queue.items.popleft()
        self.queue.getters.append(task)
        kernel.park(task, undo=lambda: self.queue.getters.remove(task))


# The demonstration.


def child(conn):
    """Say something each second."""
    while True:
        conn.send(b"I am here")
        print(f"  at {(yield Now())} s, the child is there")
        yield Sleep(1)


def parent(children):
    """Start a child; both use one connection, which is closed when both are done with it."""
    here, there = socket.socketpair()
    with here, there:
        children.append((yield Spawn(child(here), "child")))
        yield Join(children[0])


def main():
    """Cancel a task that has a child."""
    children = []
    task = yield Spawn(parent(children), "parent")
    yield Sleep(1.5)
    yield Cancel(task)
    try:
        yield Join(task)
    except RuntimeError as error:
        print(f"  at {(yield Now())} s, {error}, and the child is {children[0].state}")


def broken():
    yield Sleep(1)
    raise ValueError("no luck")


def sleeper():
    try:
        yield Sleep(60)
    finally:
        print(f"  at {(yield Now())} s, the other child is cancelled")


def failing():
    """Start two children, of which one fails."""
    yield Spawn(broken(), "broken")
    yield Spawn(sleeper(), "sleeper")


def run(gen):
    """Run a task and what it spawns; say who waits for ever, and how it failed."""
    kernel = Kernel()
    main = kernel.spawn(gen)
    stuck = kernel.run()
    if stuck:
        print(f"  for ever wait: {', '.join(stuck)}")
    if main.failure:
        print(f"  {main.failure!r}")


if __name__ == "__main__":
    print("A task that has a child is cancelled:")
    run(main())
    print("A child fails:")
    run(failing())
