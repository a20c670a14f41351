"""A syscall of a user: `yield Work(pool, job())` runs a job in one of a few workers, the most urgent job first.

Shows: a syscall that hands a job to another task and waits for its outcome. Its undo removes the job from the queue, or
cancels it if a worker has started it; the worker runs each job in a cancellation scope of its own for that. An
exception of a job is raised in the task that has submitted it, and the worker continues.

Run it:    python demos/extend/worker_pool.py
"""

import heapq
from argparse import ArgumentParser
from itertools import count

from checked import show

from minisched import CancelScope, ClosedError, CurrentTask, Now, Primitive, Sleep, Spawn, Syscall, gather
from minisched.testing import run

# The primitive: workers wait at it for jobs, and other tasks wait for the outcome of their jobs.


class Job:
    """A job, and the task that waits for its outcome."""

    def __init__(self, body, priority, task):
        self.body = body
        self.priority = priority
        self.task = task  # None after the job was answered or abandoned
        self.scope = None  # the worker's scope, while the job runs

    def answer(self, kernel, result=None, error=None):
        """Wake the waiting task, if there still is one."""
        task, self.task = self.task, None
        if task is not None and error is not None:
            kernel.throw(task, error)
        elif task is not None:
            kernel.resume(task, result)


class Pool(Primitive):
    """A queue of jobs: the smallest priority first, equal priorities in FIFO order."""

    __slots__ = ("closed", "jobs", "numbers", "open", "workers")

    def __init__(self, name=None):
        super().__init__(name)
        self.jobs = []  # a heap of (priority, number, job)
        self.open = {}  # the jobs for which a task waits
        self.numbers = count()
        self.workers = 0
        self.closed = False

    def waiting(self):
        yield from self.waiters
        for job in self.open:
            if job.task is not None:
                yield job.task

    def submit(self, job):
        """Give a job to an idle worker, or put it into the queue."""
        self.open[job] = None
        if self.waiters:
            worker, _ = self.waiters.popitem(last=False)
            self.kernel.resume(worker, job)
        else:
            heapq.heappush(self.jobs, (job.priority, next(self.numbers), job))

    def next_job(self):
        """Return the most urgent job for which a task waits, or None."""
        while self.jobs:
            _, _, job = heapq.heappop(self.jobs)
            if job.task is not None:
                return job
        return None

    def give_up(self, job):
        """Abandon a job: cancel it if it has started; otherwise it never starts."""
        job.task = None
        del self.open[job]
        if job.scope is not None:
            self.kernel.cancel(job.scope, "its result is no longer needed")
        else:
            job.body.close()

    def done(self, job, result=None, error=None):
        """Report the outcome of a job."""
        if self.open.pop(job, self) is None:
            job.answer(self.kernel, result, error)

    def worker_gone(self):
        """Count a worker that has ended. With the last one the pool closes, and its waiting tasks get a ClosedError."""
        self.workers -= 1
        if not self.workers:
            self.closed = True
            for job in list(self.open):
                job.body.close()
                self.done(job, error=ClosedError(f"all workers of {self!r} have ended"))


# The syscalls.


class NextJob(Syscall[Job]):
    """Wait for the most urgent job of a pool. A cancelled task takes no job."""

    __slots__ = ("pool",)

    def __init__(self, pool):
        self.pool = pool

    def handle(self, kernel, task):
        job = self.pool.next_job()
        if job is None:
            kernel.park(task, undo=self.pool.add_waiter(task))
        return job


class Work(Syscall[object]):
    """Run a job, a generator, in a worker of a pool; return its result, or raise its exception.

    The waiting job with the smallest `priority` runs first. Raises ClosedError
    if the workers have ended. A cancellation cancels the job as well; a job
    that is still in the queue never starts.
    """

    __slots__ = ("body", "pool", "priority")

    def __init__(self, pool, body, priority=0):
        self.pool = pool
        self.body = body
        self.priority = priority

    def handle(self, kernel, task):
        if self.pool.closed or self.pool.kernel is not kernel:
            self.body.close()
            raise ClosedError(f"{self.pool!r} has no workers: start_pool starts them, and they end with their parent")
        job = Job(self.body, self.priority, task)
        kernel.park(task, undo=lambda: self.pool.give_up(job))
        self.pool.submit(job)

    def __repr__(self):
        return f"{type(self).__name__}({self.body.__name__}, {self.priority})"


class Hasty(Work):
    """Wrong: the job itself wakes the waiting task, and then the worker wakes it again."""

    __slots__ = ()

    def handle(self, kernel, task):
        Work(self.pool, self.waking(kernel, task), self.priority).handle(kernel, task)

    def waking(self, kernel, task):
        result = yield from self.body
        kernel.resume(task, result)


# The functions.


def start_pool(workers, name=None):
    """Start `workers` tasks below the calling task (`yield from`), and return their Pool. They end with that task."""
    if workers < 1:
        raise ValueError(f"a pool needs at least one worker, not {workers}")
    pool = Pool(name)
    pool.bind((yield CurrentTask()).kernel)
    for number in range(workers):
        pool.workers += 1
        yield Spawn(worker(pool), f"worker {number}", daemon=True)
    return pool


def worker(pool):
    """Run one job after the other."""
    try:
        while True:
            job = yield NextJob(pool)
            if job.task is None:
                continue  # the job was abandoned after this worker received it, before this turn
            with (yield CancelScope()) as job.scope:
                yield from do(pool, job)
    finally:
        pool.worker_gone()


def do(pool, job):
    """Run a job and report its outcome."""
    try:
        result = yield from job.body
    except Exception as error:
        pool.done(job, error=error)
    except BaseException:  # the worker was cancelled, or only this job
        pool.done(job, error=ClosedError(f"a worker of {pool!r} was cancelled while it ran {job.body.__name__}"))
        raise
    else:
        pool.done(job, result)


# The demonstration.


def job(name, seconds):
    """Sleep for some time."""
    print(f"  {(yield Now()):.0f} s: {name} starts")
    yield Sleep(seconds)
    if name == "broken":
        raise ValueError("the job can't be done")
    return name


def submit(pool, name, priority):
    """Submit a job and print its outcome."""
    try:
        outcome = f"{(yield Work(pool, job(name, 1), priority))} is done"
    except ValueError as error:
        outcome = f"{name} failed: {error}"
    print(f"  {(yield Now()):.0f} s: {outcome}")


def main():
    """Submit five jobs at once to two workers."""
    pool = yield from start_pool(2)
    jobs = [("some day", 9), ("soon", 2), ("urgent", 1), ("broken", 2), ("at once", 0)]
    yield from gather(*(submit(pool, name, priority) for name, priority in jobs))


def working(kind):
    """Return a function that creates a syscall: a job of one second, for a pool of one worker."""

    def quiet():
        yield Sleep(1)

    def make():
        pool = yield from start_pool(1)
        return kind(pool, quiet())

    return make


CHECKED = {"Work": working(Work), "Hasty": working(Hasty)}

if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    print("Two workers:")
    run(main())
    show(**CHECKED)
