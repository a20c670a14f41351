"""A syscall of one's own: `yield Work(pool, job())` has a job done by one of a few workers, the most urgent first.

Shows: a call that hands something to another task, and waits for what becomes of it. Its undo takes the job back:
out of the queue if nobody has begun it, else by cancelling it, in a scope that the worker is in for that. What a job
raises is raised to who asked for it, and the worker lives on.

Run it:    python demos/extend/worker_pool.py
"""

import heapq
from itertools import count

from checked import show

from minisched import CancelScope, ClosedError, CurrentTask, Now, Primitive, Sleep, Spawn, Syscall, gather
from minisched.testing import run

# What tasks wait at: workers for a job, and others for what becomes of theirs.


class Job:
    """Something to be done, and who waits for it."""

    def __init__(self, body, priority, task):
        self.body = body
        self.priority = priority
        self.task = task  # None: it was given up, or is answered
        self.scope = None  # of the worker, while it is done

    def answered(self, kernel, result=None, error=None):
        """Wake who waits, if somebody still does."""
        task, self.task = self.task, None
        if task is not None and error is not None:
            kernel.throw(task, error)
        elif task is not None:
            kernel.resume(task, result)


class Pool(Primitive):
    """Jobs in a queue, the smallest priority first; of the same, first come, first served."""

    __slots__ = ("closed", "jobs", "numbers", "open", "workers")

    def __init__(self, name=None):
        super().__init__(name)
        self.jobs = []  # a heap of (priority, number, job)
        self.open = {}  # jobs that somebody waits for
        self.numbers = count()
        self.workers = 0
        self.closed = False

    def waiting(self):
        yield from self.waiters
        for job in self.open:
            if job.task is not None:
                yield job.task

    def submit(self, job):
        """Give a job to a worker that has none, or else let it wait for one."""
        self.open[job] = None
        if self.waiters:
            worker, _ = self.waiters.popitem(last=False)
            self.kernel.resume(worker, job)
        else:
            heapq.heappush(self.jobs, (job.priority, next(self.numbers), job))

    def next_job(self):
        """Return the most urgent job that somebody waits for, None if there is none."""
        while self.jobs:
            _, _, job = heapq.heappop(self.jobs)
            if job.task is not None:
                return job
        return None

    def give_up(self, job):
        """Nobody waits for this any more: it is cancelled if it has begun, and else never begins."""
        job.task = None
        del self.open[job]
        if job.scope is not None:
            self.kernel.cancel(job.scope, "nobody waits for it any more")
        else:
            job.body.close()

    def done(self, job, result=None, error=None):
        """Say what has become of a job."""
        if self.open.pop(job, self) is None:
            job.answered(self.kernel, result, error)

    def worker_gone(self):
        """With the last worker goes the pool: whoever waits for a job of it is told."""
        self.workers -= 1
        if not self.workers:
            self.closed = True
            for job in list(self.open):
                job.body.close()
                self.done(job, error=ClosedError(f"{self!r} has no worker any more"))


# The syscalls.


class NextJob(Syscall[Job]):
    """Wait for the most urgent job of a pool. Cancelled while parked: it takes none."""

    __slots__ = ("pool",)

    def __init__(self, pool):
        self.pool = pool

    def handle(self, kernel, task):
        job = self.pool.next_job()
        if job is None:
            kernel.park(task, undo=self.pool.enlist(task))
        return job


class Work(Syscall[object]):
    """Have a job, a generator, done by a worker of a pool; return its result, or raise what it raises.

    Of the jobs that wait, the one with the smallest `priority` is done first.
    ClosedError if the workers have gone. Cancelled while parked: the job is
    cancelled, or never begins.
    """

    __slots__ = ("body", "pool", "priority")

    def __init__(self, pool, body, priority=0):
        self.pool = pool
        self.body = body
        self.priority = priority

    def handle(self, kernel, task):
        if self.pool.closed or self.pool.kernel is not kernel:
            self.body.close()
            raise ClosedError(f"{self.pool!r} has no worker: start_pool starts some, for as long as their parent runs")
        job = Job(self.body, self.priority, task)
        kernel.park(task, undo=lambda: self.pool.give_up(job))
        self.pool.submit(job)

    def __repr__(self):
        return f"{type(self).__name__}({self.body.__name__}, {self.priority})"


class Hasty(Work):
    """Wrong: the job itself wakes who waits for it, and then the worker does so again."""

    __slots__ = ()

    def handle(self, kernel, task):
        Work(self.pool, self.waking(kernel, task), self.priority).handle(kernel, task)

    def waking(self, kernel, task):
        result = yield from self.body
        kernel.resume(task, result)


# The functions.


def start_pool(workers, name=None):
    """Start so many workers below the task that calls this (`yield from`); return the Pool. They end with that task."""
    if workers < 1:
        raise ValueError(f"a pool of {workers} workers would do nothing")
    pool = Pool(name)
    pool.join_run((yield CurrentTask()).kernel)
    for number in range(workers):
        pool.workers += 1
        yield Spawn(worker(pool), f"worker {number}", daemon=True)
    return pool


def worker(pool):
    """Do one job after another."""
    try:
        while True:
            job = yield NextJob(pool)
            if job.task is None:
                continue  # it was given up on its way here
            with (yield CancelScope()) as job.scope:
                yield from do(pool, job)
    finally:
        pool.worker_gone()


def do(pool, job):
    """Do a job, and say what has become of it."""
    try:
        result = yield from job.body
    except Exception as error:
        pool.done(job, error=error)
    except BaseException:  # Cancelled: the worker is, or only this job
        pool.done(job, error=ClosedError(f"{pool!r} was ended while it did {job.body.__name__}"))
        raise
    else:
        pool.done(job, result)


# The demonstration.


def job(name, seconds):
    """Take some time."""
    print(f"  {(yield Now()):.0f} s: {name} begins")
    yield Sleep(seconds)
    if name == "broken":
        raise ValueError("it can't be done")
    return name


def submit(pool, name, priority):
    """Have a job done, and say what came of it."""
    try:
        done = yield Work(pool, job(name, 1), priority)
    except ValueError as error:
        done = f"{name}: {error}"
    print(f"  {(yield Now()):.0f} s: {done}")


def main():
    """Two workers and five jobs, all asked for at once."""
    pool = yield from start_pool(2)
    jobs = [("some day", 9), ("soon", 2), ("urgent", 1), ("broken", 2), ("at once", 0)]
    yield from gather(*(submit(pool, name, priority) for name, priority in jobs))


def working(kind):
    """Return what makes a call: a job of a second, for a pool of one."""

    def quiet():
        yield Sleep(1)

    def make():
        pool = yield from start_pool(1)
        return kind(pool, quiet())

    return make


CHECKED = {"Work": working(Work), "Hasty": working(Hasty)}

if __name__ == "__main__":
    print("Two workers:")
    run(main())
    show(**CHECKED)
