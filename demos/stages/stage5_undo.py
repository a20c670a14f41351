"""Stage 5, the undo: each wait comes with a function that takes it back, and a cancellation calls that first.

Shows: `park(task, undo)`. A task can be taken out of every list, timer and selector in which it waits. So only one
event wakes it: the event it waits for, or a cancellation. Also a Queue, whose getters wait in FIFO order.
The bug: an item is lost. A getter has received it and is ready, but is cancelled before its turn. Cancelled replaces
the item, and no task has it. In stage 6, a syscall that has happened is never cancelled.

Run it:    python demos/stages/stage5_undo.py
"""

import heapq
import selectors
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
        self.undo = None  # while parked: takes back the wait
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

    def park(self, task, undo):
        """Suspend the task until it is woken; `undo()` takes back the wait if the task is cancelled."""
        task.state = "parked"
        task.undo = undo

    def resume(self, task, value=None):
        """Make the task ready; its yield will return `value`."""
        task.state = "ready"
        task.undo = None
        task.sent = value
        self.ready.append(task)

    def throw(self, task, error):
        """Make the task ready; its yield will raise `error`."""
        task.error = error
        if task.state == "parked":
            self.resume(task)

    def cancel(self, task):
        """Raise Cancelled at the task's yield."""
        if task.undo:
            task.undo()
        if task.state != "done":
            self.throw(task, Cancelled())

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
        self.timers = []  # a heap of [deadline, number, task]; equal deadlines are served in FIFO order
        self.numbers = count()

    def wake_at(self, deadline, task):
        """Schedule a wake-up at `deadline`; return its undo."""
        timer = [deadline, next(self.numbers), task]
        heapq.heappush(self.timers, timer)
        return lambda: self.forget(timer)

    def forget(self, timer):
        self.timers.remove(timer)
        heapq.heapify(self.timers)

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
        """Wake the task when `file` is readable; return the undo."""
        self.selector.register(file, selectors.EVENT_READ, task)
        return lambda: self.selector.unregister(file)

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
        kernel.park(task, undo=lambda: self.task.joiners.remove(task))
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
        kernel.cancel(self.task)


class Sleep(Syscall):
    """Wait for `seconds` seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def handle(self, kernel, task):
        timers = kernel.service(Timers)
        kernel.park(task, undo=timers.wake_at(timers.now + self.seconds, task))


class Now(Syscall):
    """Return the current time."""

    def handle(self, kernel, task):
        return kernel.service(Timers).now


class WaitReadable(Syscall):
    """Wait until a file is readable."""

    def __init__(self, file):
        self.file = file

    def handle(self, kernel, task):
        kernel.park(task, undo=kernel.service(Files).wake_when_readable(self.file, task))


class Queue:
    """Items, or the tasks that wait for an item, both in FIFO order."""

    def __init__(self):
        self.items = deque()
        self.getters = deque()

    def put(self, kernel, item):
        """Hand the item to the first getter, or store it if no getter waits."""
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
    """Wait for an item from a queue."""

    def __init__(self, queue):
        self.queue = queue

    def handle(self, kernel, task):
        if self.queue.items:
            return self.queue.items.popleft()
        self.queue.getters.append(task)
        kernel.park(task, undo=lambda: self.queue.getters.remove(task))


# The demonstration.


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


def main():
    """Cancel a sleeping task."""
    task = yield Spawn(sleeper(), "sleeper")
    yield Spawn(canceller(task), "canceller")
    yield Join(task)


def getter(name, queue):
    print(f"  {name} got {(yield Get(queue))}")


def impatient(task):
    """Cancel a task at the second turn."""
    yield
    yield Cancel(task)


def bug():
    """Put an item for the first getter, and cancel that getter before its turn."""
    queue = Queue()
    first = yield Spawn(getter("the first", queue), "the first")
    yield Spawn(getter("the second", queue), "the second")
    yield Spawn(impatient(first), "impatient")
    yield Put(queue, "the only item")


def run(gen):
    """Run a task and its children; print which tasks wait for ever."""
    kernel = Kernel()
    kernel.spawn(gen)
    stuck = kernel.run()
    if stuck:
        print(f"  waiting for ever: {', '.join(stuck)}")


if __name__ == "__main__":
    print("A task is cancelled while it sleeps, and sleeps again:")
    run(main())
    print("-- the bug: the only item is lost --")
    run(bug())
