"""A syscall of a user: `yield bucket.acquire()` waits until a token bucket has a token.

Shows: an object at which tasks wait is a Primitive, which keeps its waiters in FIFO order; a timer wakes the first
waiter; the undo removes a waiter and lets the next one come up. And the effect of an undo that does not.

Theory of operation. The bucket does not count its tokens. It stores one time: when it will be full again if no more
tokens are taken. Taking n tokens moves this time by n/rate, and is allowed if the result is at most capacity/rate from
now. So nothing has to be added up periodically, and rounding errors do not accumulate. (This is the virtual scheduling
form of the Generic Cell Rate Algorithm, ITU-T I.371; the token bucket is by J. Turner, 1986.)

Run it:    python demos/extend/rate_limiter.py
"""

from argparse import ArgumentParser
from math import inf, isfinite

from checked import show

from minisched import Now, Primitive, Spawn, Syscall, Timers
from minisched.testing import run

# The primitive.


class Bucket(Primitive):
    """A token bucket: `rate` new tokens per second, up to `capacity`. It starts full, and serves its waiters FIFO."""

    __slots__ = ("capacity", "full_at", "rate", "timer")

    def __init__(self, rate, capacity=1, name=None):
        if not (isfinite(rate) and rate > 0 and isfinite(capacity) and capacity > 0):
            raise ValueError(f"a bucket needs a rate and a capacity above 0, not {rate} and {capacity}")
        super().__init__(name)
        self.rate = rate
        self.capacity = capacity
        self.full_at = -inf
        self.timer = None  # the function that cancels the timer of the first waiter

    def acquire(self, tokens=1):
        """Return the syscall that waits for `tokens` tokens."""
        return Acquire(self, tokens)

    def unbind(self):
        super().unbind()
        self.full_at, self.timer = -inf, None  # the next run has another clock

    def free_at(self, tokens, now):
        """Return the time at which `tokens` tokens are available."""
        return max(self.full_at, now) + (tokens - self.capacity) / self.rate

    def take(self, tokens, now):
        """Take tokens that are available."""
        self.full_at = max(self.full_at, now) + tokens / self.rate

    def schedule_first(self, timers):
        """Set the timer for the first waiter, if there is one."""
        if self.timer is not None:
            self.timer()
        self.timer = None
        if self.waiters:
            _, tokens = next(iter(self.waiters.items()))
            self.timer = timers.call_at(self.free_at(tokens, timers.now()), lambda: self.wake_first(timers))

    def wake_first(self, timers):
        """Take the tokens for the first waiter and wake it."""
        task, tokens = self.waiters.popitem(last=False)
        self.take(tokens, timers.now())
        self.timer = None
        timers.kernel.resume(task)
        self.schedule_first(timers)


# The syscall.


class Acquire(Syscall[None]):
    """Wait for tokens of a bucket and take them, in FIFO order, whatever their number.

    Raises ValueError for more tokens than the bucket can hold. A cancelled task takes no token.
    """

    __slots__ = ("bucket", "tokens")

    def __init__(self, bucket, tokens=1):
        self.bucket = bucket
        self.tokens = tokens

    def handle(self, kernel, task):
        bucket, timers = self.bucket, kernel.service(Timers)
        if not 0 < self.tokens <= bucket.capacity:
            raise ValueError(f"{bucket!r} holds at most {bucket.capacity} tokens and cannot give {self.tokens}")
        bucket.bind(kernel)
        if not bucket.waiters and bucket.free_at(self.tokens, timers.now()) <= timers.now():
            return bucket.take(self.tokens, timers.now())
        leave = bucket.add_waiter(task, self.tokens)

        def undo():
            leave()
            bucket.schedule_first(timers)

        kernel.park(task, undo)
        if len(bucket.waiters) == 1:
            bucket.schedule_first(timers)


class Forgetful(Acquire):
    """Wrong: the undo leaves the task in the queue, so that a token goes to a task that no longer waits."""

    __slots__ = ()

    def handle(self, kernel, task):
        bucket, timers = self.bucket, kernel.service(Timers)
        bucket.bind(kernel)
        bucket.add_waiter(task, self.tokens)
        kernel.park(task, undo=lambda: None)
        bucket.schedule_first(timers)


# The demonstration.


def ask(bucket, name, times):
    """Take a token `times` times; print the time of each."""
    for _ in range(times):
        yield bucket.acquire()
        print(f"  {(yield Now()):.1f} s: {name}")


def main():
    """Let two tasks share a bucket of three tokens, with two new tokens per second."""
    bucket = Bucket(rate=2, capacity=3)
    yield Spawn(ask(bucket, "Ada", 4))
    yield Spawn(ask(bucket, "Grace", 3))


def emptied(kind):
    """Return a function that creates a syscall for an empty bucket, which has to wait."""

    def make():
        bucket = Bucket(rate=1)
        yield bucket.acquire()
        return kind(bucket)

    return make


CHECKED = {"Acquire": emptied(Acquire), "Forgetful": emptied(Forgetful)}

if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    print("Three tokens at once, then two per second:")
    run(main())
    show(**CHECKED)
