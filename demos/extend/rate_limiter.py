"""A syscall of one's own: `yield bucket.acquire()` waits until a token bucket has a token.

Shows: something that tasks wait at is a Primitive, which holds its waiters in the order of their coming; a timer
wakes the first; the undo takes a waiter out and lets the next one come up. And what happens if it does not.

Theory of operation. The bucket is never counted. All that is kept is when it would be full again if nobody took
any more: to take n tokens moves that by n/rate, and is allowed as long as it is at most capacity/rate from now. So
nothing is added up, and nothing drifts. (The virtual scheduling form of the Generic Cell Rate Algorithm, ITU-T
I.371; the bucket of tokens is J. Turner's, 1986.)

Run it:    python demos/extend/rate_limiter.py
"""

from math import inf, isfinite

from checked import show

from minisched import Now, Primitive, Spawn, Syscall, Timers
from minisched.testing import run

# What tasks wait at.


class Bucket(Primitive):
    """Tokens, of which `rate` come each second, up to `capacity`; it is full at first. FIFO."""

    __slots__ = ("capacity", "full_at", "rate", "timer")

    def __init__(self, rate, capacity=1, name=None):
        if not (isfinite(rate) and rate > 0 and isfinite(capacity) and capacity > 0):
            raise ValueError(f"a bucket needs a rate and a capacity above 0, not {rate} and {capacity}")
        super().__init__(name)
        self.rate = rate
        self.capacity = capacity
        self.full_at = -inf
        self.timer = None  # of the first who waits

    def acquire(self, tokens=1):
        """Return the call that waits for so many tokens."""
        return Acquire(self, tokens)

    def leave_run(self):
        super().leave_run()
        self.full_at, self.timer = -inf, None  # the next run has another clock

    def free_at(self, tokens, now):
        """Return when so many tokens are there, if nobody takes others before."""
        return max(self.full_at, now) + (tokens - self.capacity) / self.rate

    def take(self, tokens, now):
        """Take tokens that are there."""
        self.full_at = max(self.full_at, now) + tokens / self.rate

    def look_after_the_first(self, timers):
        """Let the first who waits be woken in time. Who takes nothing any more is nobody's hindrance."""
        if self.timer is not None:
            self.timer()
        self.timer = None
        if self.waiters:
            _, tokens = next(iter(self.waiters.items()))
            self.timer = timers.call_at(self.free_at(tokens, timers.now()), lambda: self.wake_the_first(timers))

    def wake_the_first(self, timers):
        """Give the first who waits what it waits for; it was time."""
        task, tokens = self.waiters.popitem(last=False)
        self.take(tokens, timers.now())
        self.timer = None
        timers.kernel.resume(task)
        self.look_after_the_first(timers)


# The syscall.


class Acquire(Syscall[None]):
    """Wait for tokens of a bucket, and take them: in the order of asking, whoever wants how many.

    A ValueError if they are more than the bucket ever holds. Cancelled while parked: none were taken.
    """

    __slots__ = ("bucket", "tokens")

    def __init__(self, bucket, tokens=1):
        self.bucket = bucket
        self.tokens = tokens

    def handle(self, kernel, task):
        bucket, timers = self.bucket, kernel.service(Timers)
        if not 0 < self.tokens <= bucket.capacity:
            raise ValueError(f"{bucket!r} holds {bucket.capacity} tokens at most: it can't give {self.tokens}")
        bucket.join_run(kernel)
        if not bucket.waiters and bucket.free_at(self.tokens, timers.now()) <= timers.now():
            return bucket.take(self.tokens, timers.now())
        leave = bucket.enlist(task, self.tokens)

        def undo():
            leave()
            bucket.look_after_the_first(timers)

        kernel.park(task, undo)
        if len(bucket.waiters) == 1:
            bucket.look_after_the_first(timers)


class Forgetful(Acquire):
    """Wrong: the undo forgets nothing, so that a token goes to a task which waits no more."""

    __slots__ = ()

    def handle(self, kernel, task):
        bucket, timers = self.bucket, kernel.service(Timers)
        bucket.join_run(kernel)
        bucket.enlist(task, self.tokens)
        kernel.park(task, undo=lambda: None)
        bucket.look_after_the_first(timers)


# The demonstration.


def ask(bucket, name, times):
    """Take a token, so many times; say when."""
    for _ in range(times):
        yield bucket.acquire()
        print(f"  {(yield Now()):.1f} s: {name}")


def main():
    """Two tasks share a bucket of three tokens, of which two come each second."""
    bucket = Bucket(rate=2, capacity=3)
    yield Spawn(ask(bucket, "Ada", 4))
    yield Spawn(ask(bucket, "Grace", 3))


def emptied(kind):
    """Return what makes a call that has to wait: another has taken all there was."""

    def make():
        bucket = Bucket(rate=1)
        yield bucket.acquire()
        return kind(bucket)

    return make


CHECKED = {"Acquire": emptied(Acquire), "Forgetful": emptied(Forgetful)}

if __name__ == "__main__":
    print("Three tokens at once, then two each second:")
    run(main())
    show(**CHECKED)
