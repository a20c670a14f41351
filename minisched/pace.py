"""The pace of the loop: how many turns it runs before it fires timers, and before it polls files again.

Theory of operation. One *round* of the loop's Run phase runs tasks in *batches* of turns, and due timers are
fired between two batches. Two questions are decided here, from the time alone and without any I/O.

How large is a batch? BATCH_TURNS, as in Go and tokio. Turns that are slow would make timers late, so a batch
that took longer than BATCH_BUDGET_SECONDS is followed by one of half the size, and a quick one by one of twice the
size, up to BATCH_TURNS again.

When is the round over? When each task that was ready at its beginning has had a turn. A poll that comes sooner
mostly reports sockets whose tasks have not run yet, and reports them again and again: with 1,000 busy
connections, 16 events for each message in place of one (`python -m tests.benchmarks echo_1000x1KB`). But files
do not wait longer than MAX_POLL_DELAY_SECONDS, however many tasks are ready. Go polls its network after 10 ms
at the latest, too. If the poller watches no file, there is nothing to poll for, and only the delay ends the
round.

Invariant: neither ready tasks, nor slow ones, nor ready files can starve timers, files or tasks.

Decision: timers are fired after each batch, files are polled once in a round.
Because: firing timers costs one reading of the clock, and polling costs a system call.
Rejected: a poll after each batch, as first designed (see above); a bound of 2 ms on the round, which 1,000
ready tasks pass each time.

Not here: the other reasons to end a round, such as a call from another thread (`loop`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_TURNS = 61  # as in Go and tokio
BATCH_BUDGET_SECONDS = 0.002  # a batch that takes longer is halved: 61 slow turns would make timers 100 ms late
MAX_POLL_DELAY_SECONDS = 0.01  # between two polls, while ready tasks have not had their turn


class Pace:
    """The size of the next batch, and whether the round goes on. `now` returns the time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.batch = BATCH_TURNS  # turns of the current batch
        self.waiting = 0  # tasks that were ready when the round began, and have not had their turn
        self.batch_began = self.poll_at = 0.0

    def begin_round(self, ready: int) -> int:
        """Begin a round with `ready` ready tasks; return the size of its first batch."""
        self.waiting = ready
        self.batch_began = self.now()
        self.poll_at = self.batch_began + MAX_POLL_DELAY_SECONDS
        return self.batch

    def begin_batch(self) -> int:
        """Begin another batch of the same round; return its size."""
        self.batch_began = self.now()
        return self.batch

    def more(self, files: bool) -> bool:
        """End a batch; return whether the round goes on. `files`: the poller watches some."""
        now = self.now()
        self.waiting -= self.batch
        if now - self.batch_began > BATCH_BUDGET_SECONDS:
            self.batch = max(self.batch // 2, 1)
        elif self.batch < BATCH_TURNS:
            self.batch = min(self.batch * 2, BATCH_TURNS)
        return now < self.poll_at and not (files and self.waiting <= 0)
