"""Stage 6, checkpoints: to be cancelled is a state, which a task is told of at its yields; what has happened, has.

Shows: `cancelled` stays true. A parked task is woken with Cancelled; one that is ready gets what is on its way to it,
an item, say, and is told at its next checkpoint, before the call that it yields there happens, and again at each one
after that. So nothing is lost, and who swallows a Cancelled gets another. (Nor can it wait while it cleans up:
minisched has shields for that.) It is looked at in one place, `answer`.
The bug: a flood of ready tasks starves all who wait for the world: it is asked only when nobody is ready. Stage 7 asks
now and then.

Run it:    python demos/stages/stage6_checkpoints.py
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
        """Let a task be told at each of its checkpoints that it shall end; now, if it is parked."""
        task.cancelled = True
        if task.undo:
            task.undo()
            self.throw(task, Cancelled())

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
        return kernel.spawn(self.gen, self.name)


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


def getter(name, queue):
    print(f"  {name} got {(yield Get(queue))}")


def impatient(task):
    """Cancel a task, in the turn after the next."""
    yield
    yield Cancel(task)


def main():
    """Put an item for the first who waits, and cancel that one before its turn."""
    queue = Queue()
    first = yield Spawn(getter("the first", queue), "the first")
    second = yield Spawn(getter("the second", queue), "the second")
    yield Spawn(impatient(first), "impatient")
    yield Put(queue, "the only item")
    yield Cancel(second)


def spinner(turns, log):
    """Be always ready."""
    for number in range(turns):
        log["turns"] = number + 1
        yield


def reader(conn, log):
    yield WaitReadable(conn)
    print(f"  the reader got {conn.recv(100)!r} after {log['turns']} turns of the other")


def bug():
    """Wait for bytes that are there, beside a task that is always ready."""
    here, there = socket.socketpair()
    with here, there:
        there.send(b"hello")
        log = {}
        task = yield Spawn(reader(here, log), "reader")
        yield Spawn(spinner(1000, log), "spinner")
        yield Join(task)


def run(gen):
    """Run a task and what it spawns; say who waits for ever."""
    kernel = Kernel()
    kernel.spawn(gen)
    stuck = kernel.run()
    if stuck:
        print(f"  for ever wait: {', '.join(stuck)}")


if __name__ == "__main__":
    print("A task that has been handed an item is cancelled:")
    run(main())
    print("-- the bug: a flood of ready tasks starves who waits for a file --")
    run(bug())
