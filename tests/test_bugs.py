"""Bugs that other schedulers shipped: minisched does not have them, and a stand-in that has one fails its test.

Each test is named after the report of its bug; `gh` and `bpo` are python/cpython's. Where a hand-over meets
the end of a wait, the two happen in one turn, in both orders.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import socket
import tempfile
from contextlib import nullcontext, suppress
from functools import partial
from itertools import groupby, permutations
from math import inf

import pytest
import standins
from helpers import Ask, is_open, no_file_is_left_open, pair, parked, until  # noqa: F401

from minisched import (
    Accept,
    BusyError,
    Cancel,
    Cancelled,
    Close,
    ClosedError,
    Condition,
    Connect,
    Event,
    Join,
    Listen,
    Lock,
    MoveOnAfter,
    Network,
    Queue,
    Read,
    Semaphore,
    Shield,
    Sleep,
    Socket,
    Spawn,
    TaskCancelled,
    TimedOut,
    Timeout,
    Timers,
    WaitReadable,
    WaitWritable,
    Watcher,
    Write,
    select,
    serve_unix,
)
from minisched.testing import VirtualClock, run

# "expire": the deadline of the scope in which the task waits.
ORDERS = ["give, cancel", "give, expire", "cancel, give", "expire, give"]
GIVEN_LAST = ORDERS[2:]
BATCH_TURNS = 61  # the most turns between two checks of the timers


def kinds(ours, *stand_ins, marks=()):
    """Parametrise a test over minisched, which passes, and stand-ins, which have to fail."""
    params = (pytest.param(kind, id=getattr(kind, "__self__", kind).__name__) for kind in stand_ins)
    return pytest.mark.parametrize("kind", [pytest.param(ours, id="ours", marks=marks), *params])


def meetings(ours, stand_in, *, fails=ORDERS):
    """Parametrise a test over minisched in every order, and a stand-in, which has to fail in the orders of `fails`."""
    cases = [pytest.param(ours, order, id=f"ours-{order}") for order in ORDERS]
    return pytest.mark.parametrize(("kind", "order"), [*cases, *((stand_in, order) for order in fails)])


def fails_if_stand_in(kind, message):
    """Expect a stand-in to fail with `message`, and minisched to pass."""
    return pytest.raises(AssertionError, match=message) if kind.__module__ == "standins" else nullcontext()


class Waiter:
    """A task in a scope of its own, so that it can be cancelled, or its deadline expire, in any turn."""

    def __init__(self, body):
        self.body = body

    def body_in_scope(self):
        with (yield MoveOnAfter(None)) as self.scope:
            yield from self.body

    def start(self):
        """Start the task and let it run until it is parked."""
        self.task = yield Spawn(self.body_in_scope(), keep=True)
        yield from parked(self.task)

    def meet(self, order, give):
        """Make the plain call `give` and end the wait, in this turn and in this order."""
        steps = {"give": give, "cancel": self.cancel, "expire": self.expire}
        for step in order.split(", "):
            steps[step]()

    def cancel(self):
        self.task.kernel.cancel(self.task)

    def expire(self):
        self.scope.deadline = -inf

    def join(self):
        with suppress(TaskCancelled):
            yield Join(self.task)


def in_time(body, message):
    """Run `body`, a generator or a syscall; raise AssertionError if it has not ended after ten seconds."""
    with (yield MoveOnAfter(10)):
        return (yield from body)
    raise AssertionError(message)


def owning(lock, log, name):
    """Own a lock or a permit for a second."""
    with (yield from lock.acquire()):
        log.append(name)
        yield Sleep(1)
        log.append(f"{name} released it")


def call_at(deadline, callback):
    """Schedule a plain call by a timer."""
    return Ask(lambda kernel: kernel.service(Timers).call_at(deadline, callback))


@pytest.fixture
def path():
    """Return a short path of no file, in a temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        yield os.path.join(directory, "sock")


# Lost wake-ups.


def notified(condition, log, name):
    with (yield condition.acquire()):
        yield from condition.wait()
        log.append(name)


@meetings(Condition, standins.LossyCondition)
def test_gh_112202_a_notification_of_a_waiter_that_is_cancelled_in_the_same_turn_is_not_lost(kind, order):
    log = []

    def main():
        condition = kind()
        first, second = Waiter(notified(condition, log, "first")), Waiter(notified(condition, log, "second"))
        yield from first.start()
        yield from second.start()
        with (yield condition.acquire()):
            first.meet(order, condition.notify)
        yield from first.join()
        yield Sleep(1)
        yield Cancel(second.task)

    with fails_if_stand_in(kind, "the notification is lost"):
        run(main())
        assert log, "the notification is lost"
        assert log == (["first"] if order.startswith("give") else ["second"])


@kinds(Condition, standins.LossyCondition)
def test_gh_112202_a_notification_of_a_waiter_that_is_cancelled_during_the_reacquire_is_not_lost(kind):
    log = []

    def main():
        condition = kind()
        waiter = Waiter(notified(condition, log, "notified"))
        yield from waiter.start()
        with (yield condition.acquire()):
            condition.notify()
            yield from parked(waiter.task)
            waiter.cancel()
        yield from waiter.join()

    with fails_if_stand_in(kind, "the notification is lost"):
        run(main())
        assert log == ["notified"], "the notification is lost"


# Locks that leak.


@meetings(Lock, standins.ForgetfulLock)
def test_bpo_27585_a_release_in_the_turn_of_the_first_waiters_cancellation_reaches_the_second_waiter(kind, order):
    log = []

    def main():
        lock = kind()
        yield from lock.acquire()
        first, second = Waiter(owning(lock, log, "first")), Waiter(owning(lock, log, "second"))
        yield from first.start()
        yield from second.start()
        first.meet(order, lock.release)
        yield from in_time(second.join(), "the second still waits for a free lock")

    with fails_if_stand_in(kind, "the second still waits for a free lock"):
        run(main())
        expected = ["second", "second released it"]
        assert log == (["first", *expected] if order.startswith("give") else expected)


@meetings(Lock, standins.LeakyLock)
def test_anyio_387_a_lock_handed_to_a_task_that_is_cancelled_in_the_same_turn_is_not_leaked(kind, order):
    log = []

    def main():
        lock = kind()
        yield from lock.acquire()
        waiter = Waiter(owning(lock, log, "waiter"))
        yield from waiter.start()
        waiter.meet(order, lock.release)
        yield from waiter.join()
        yield from in_time(owning(lock, log, "main"), "the owner of the lock has ended")

    with fails_if_stand_in(kind, "the owner of the lock has ended"):
        run(main())
        assert log[-2:] == ["main", "main released it"]


@pytest.mark.parametrize("end", ["cancel", "expire"])
@kinds(Lock, standins.PausingLock)
def test_anyio_398_a_task_that_is_cancelled_as_it_enters_a_free_lock_does_not_leave_it_locked(kind, end):
    log = []

    async def entering(lock):
        async with lock:
            log.append("entered")
            await Sleep(1)
            log.append("not reached")

    def main():
        lock = kind()
        first = Waiter(entering(lock).__await__())
        first.task = yield Spawn(first.body_in_scope(), keep=True)
        yield  # the task has acquired the lock and gets the answer at its next turn
        first.meet(end, None)
        yield from first.join()
        yield from in_time(owning(lock, log, "main"), "the lock is locked without an owner")

    with fails_if_stand_in(kind, "the lock is locked without an owner"):
        run(main())
        assert log == ["entered", "main", "main released it"]


# Too many owners.


@meetings(Lock, standins.DoubleLock, fails=GIVEN_LAST)
def test_gh_76915_a_release_and_a_cancellation_in_one_turn_leave_the_lock_with_one_owner(kind, order):
    log, owners = [], []

    def own(lock, name):
        with (yield from lock.acquire()):
            owners.append(name)
            log.append(tuple(owners))
            try:
                yield Sleep(1)
            finally:
                owners.remove(name)

    def main():
        lock = kind()
        yield from lock.acquire()
        tasks = [Waiter(own(lock, name)) for name in "abc"]
        for task in tasks:
            yield from task.start()
        tasks[0].meet(order, lock.release)
        for task in tasks:
            yield from task.join()

    with fails_if_stand_in(kind, r"two tasks own the lock: \('b', 'c'\)"):
        run(main())
        for together in log:
            assert len(together) == 1, f"two tasks own the lock: {together}"
        assert log[-2:] == [("b",), ("c",)]


@kinds(Semaphore, standins.LateSemaphore)
def test_anyio_1170_a_permit_that_was_handed_to_a_waiter_is_not_granted_to_another_task(kind):
    log = []

    def main():
        semaphore = kind(1)
        permit = yield semaphore.acquire()
        waiter = Waiter(owning(semaphore, log, "waiter"))
        yield from waiter.start()
        with permit:
            pass
        number, _ = yield select(semaphore.acquire(), Sleep(0))  # takes the permit if there is one
        assert number == 1, "two tasks use the one permit"
        yield from waiter.join()
        assert semaphore.value == 1, f"the one permit has become {semaphore.value}"

    with fails_if_stand_in(kind, "two tasks use the one permit"):
        run(main())
        assert log == ["waiter", "waiter released it"]


# Semaphores that are unfair, or stuck.


@kinds(Semaphore, standins.UnfairSemaphore)
def test_gh_90155_a_waiter_gets_a_permit_before_a_task_that_comes_later(kind):
    log = []

    def main():
        semaphore = kind(1)
        permit = yield from semaphore.acquire()
        waiter = Waiter(owning(semaphore, log, "waiter"))
        yield from waiter.start()
        with permit:
            pass
        yield from owning(semaphore, log, "main")
        yield from waiter.join()

    with fails_if_stand_in(kind, "main got it first"):
        run(main())
        assert log[0] == "waiter", f"{log[0]} got it first"
        assert log[2:] == ["main", "main released it"]


@meetings(Semaphore, standins.StuckSemaphore)
def test_gh_90155_a_release_and_a_cancellation_in_one_turn_leave_the_semaphore_usable(kind, order):
    log = []

    def main():
        semaphore = kind(1)
        yield from semaphore.acquire()
        waiter = Waiter(owning(semaphore, log, "waiter"))
        yield from waiter.start()
        waiter.meet(order, semaphore.release)
        yield from waiter.join()
        yield from in_time(owning(semaphore, log, "main"), "there is a free permit that no task gets")
        assert semaphore.value == 1, f"the one permit has become {semaphore.value}"

    with fails_if_stand_in(kind, "there is a free permit that no task gets"):
        run(main())
        assert log == [*(["waiter"] if order.startswith("give") else []), "main", "main released it"]


# Lost items and connections.


def getting(queue, log):
    log.append((yield from queue.get()))
    yield Sleep(1)
    log.append("not reached")


@meetings(Queue, standins.LossyQueue)
def test_gh_68000_an_item_handed_to_a_getter_that_is_cancelled_in_the_same_turn_is_not_lost(kind, order):
    log, rest = [], []

    def main():
        queue = kind()
        getter = Waiter(getting(queue, log))
        yield from getter.start()
        getter.meet(order, partial(queue.put_nowait, "item"))
        yield from getter.join()
        if not log:
            yield from in_time(getting(queue, rest), "the item is lost")

    with fails_if_stand_in(kind, "the item is lost"):
        run(main())
        assert (log, rest[:1]) == ((["item"], []) if order.startswith("give") else ([], ["item"]))


@pytest.mark.parametrize("first", ["producer", "consumer", "timer"])
@kinds(Queue, standins.LossyQueue)
def test_gh_68000_an_item_that_comes_at_the_deadline_of_a_timeout_is_not_lost(kind, first):
    log = []

    def produce(queue):
        yield Sleep(3)
        queue.put_nowait("item")

    def consume(queue):
        while not log:
            with suppress(TimedOut):
                with (yield Timeout(3)):
                    log.append((yield from queue.get()))

    def main():
        queue = kind()
        consumer = Waiter(consume(queue))
        if first == "consumer":
            yield from consumer.start()
        if first == "timer":
            yield call_at(3, partial(queue.put_nowait, "item"))
        else:
            yield from Waiter(produce(queue)).start()
        if first != "consumer":
            yield from consumer.start()
        yield from in_time(consumer.join(), "the item is lost")

    with fails_if_stand_in(kind, "the item is lost"):
        run(main())
        assert log == ["item"]


@meetings(Accept, standins.DroppingAccept, fails=GIVEN_LAST)
def test_gh_153761_a_connection_that_comes_in_the_turn_of_its_accepts_cancellation_is_not_dropped(kind, order, path):
    log = []

    def accepting(listener, name):
        with (yield kind(listener)):
            log.append(name)
            yield

    def main():
        with (yield Listen(path)) as listener, socket.socket(socket.AF_UNIX) as client:
            first = Waiter(accepting(listener, "first"))
            yield from first.start()
            connect = partial(client.connect, path)
            if order.startswith("give"):
                connect()
                yield from until(lambda: first.task.state == "ready")  # the task has the connection
                connect = int
            first.meet(order, connect)
            yield from first.join()
            if not log:
                yield Sleep(1)  # the loop polls
                yield from in_time(accepting(listener, "second"), "the connection is dropped")

    with fails_if_stand_in(kind, "the connection is dropped"):
        run(main())
        assert log == (["first"] if order.startswith("give") else ["second"])


# Cancellations that are swallowed.


def waiting_for(call, seconds):
    with (yield Timeout(seconds)):
        return (yield call)


SAME_MOMENT = [", ".join(order) for order in permutations(["give", "cancel", "deadline"])]


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        *(pytest.param(waiting_for, order, id=f"ours-{order}") for order in SAME_MOMENT),
        *((standins.swallowing_wait_for, order) for order in SAME_MOMENT if order.startswith("give")),
    ],
)
def test_gh_86296_a_cancellation_in_the_turn_of_the_answer_and_of_its_deadline_is_not_swallowed(kind, order):
    clock = VirtualClock()

    def work(event):
        yield from kind(event.wait(), 3)
        yield Sleep(100)

    def main():
        event = Event()
        waiter = Waiter(work(event))
        before, _, after = order.partition("deadline")
        calls = {"give": event.set, "cancel": waiter.cancel}
        for name in filter(None, before.split(", ")):
            yield call_at(3, calls[name])
        yield from waiter.start()
        for name in filter(None, after.split(", ")):
            yield call_at(3, calls[name])
        yield from waiter.join()
        return waiter.task

    with fails_if_stand_in(kind, "the cancellation was swallowed"):
        task = run(main(), clock=clock)
        assert clock.now() == 3, "the cancellation was swallowed"
        assert task.cancelled_caught


# Overload of a listener.


class Polls(Watcher):
    """Counts turns and polls."""

    turns = polls = 0

    def turn(self, task):
        self.turns += 1

    def poll(self, timeout, events):
        self.polls += 1


def served(serve, handler, path):
    """Start a server; return its task."""
    ready = []
    server = yield Spawn(serve(handler, path, ready=ready.append), "server", keep=True)
    yield from until(lambda: ready)
    return server


def echo(conn):
    while data := (yield Read(conn, 100)):
        yield Write(conn, data)


@kinds(serve_unix, standins.storming_serve)
def test_gh_151615_a_server_without_file_descriptors_logs_once_and_tries_again_after_a_pause(
    kind, path, monkeypatch, caplog
):
    accept, clock, tries = Socket.try_accept, VirtualClock(), []

    def out_of_fds_for_five_seconds(listener):
        if clock.now() < 5 and len(tries) < 50:  # bounded, so that a server that spins ends
            tries.append(clock.now())
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(Socket, "try_accept", out_of_fds_for_five_seconds)

    def main():
        server = yield from served(kind, echo, path)
        answer = b""
        with (yield Connect(path)) as conn, suppress(OSError):
            yield Write(conn, b"x")
            answer = yield Read(conn, 1)
        yield Cancel(server)
        with suppress(TaskCancelled, OSError):
            yield Join(server)
        return answer

    with fails_if_stand_in(kind, "tried 5 times in a moment"):
        assert run(main(), clock=clock) == b"x", "the server is gone"
        in_a_moment = max(map(tries.count, tries))
        assert in_a_moment == 1, f"tried {in_a_moment} times in a moment"
        messages = [record.getMessage() for record in caplog.records if "accept" in record.getMessage()]
        assert len(messages) == 1, f"logged {len(messages)} times: {messages}"


@kinds(serve_unix, standins.slow_serve)
def test_gh_72093_a_server_accepts_more_than_one_connection_of_a_backlog_at_each_poll(kind, path):
    count, log, polls = 40, [], Polls()

    def handler(conn):
        log.append(conn)
        yield Read(conn, 1)

    def main():
        server = yield from served(kind, handler, path)
        yield from parked(server)
        clients = [socket.socket(socket.AF_UNIX) for _ in range(count)]
        for client in clients:
            client.connect(path)
        before = polls.polls
        yield from until(lambda: len(log) == count)
        used = polls.polls - before
        yield Cancel(server)
        with suppress(TaskCancelled):
            yield Join(server)
        for client in clients:
            client.close()
        return used

    with fails_if_stand_in(kind, f"polled {count} times"):
        used = run(main(), watch=[polls])
        assert used < count / 4, f"polled {used} times for {count} connections"


# Starvation.


def flooding(lock, woken_at):
    """Stay ready and spawn ready tasks until both waiters have gone on; a thousand times at most."""
    for _ in range(1000):
        if len(woken_at) == 2:
            return
        with (yield lock.acquire()):
            yield Spawn(nothing())


def nothing():
    yield Sleep(0)


@kinds(run, standins.greedy_run)
def test_curio_112_a_flood_of_ready_tasks_starves_neither_files_nor_timers(kind):
    clock, polls, woken_at = VirtualClock(), Polls(), []
    ours, plain = pair()

    def reading(conn):
        yield Read(conn, 1)
        woken_at.append(polls.turns)

    def sleeping():
        yield Sleep(1)
        woken_at.append(polls.turns)

    def main():
        lock = Lock()
        with ours as conn, plain:
            reader, sleeper = Waiter(reading(conn)), Waiter(sleeping())
            yield from reader.start()
            yield from sleeper.start()
            plain.send(b"x")
            clock.time += 2
            began = polls.turns
            for _ in range(2):
                yield Spawn(flooding(lock, woken_at))
            yield from reader.join()
            yield from sleeper.join()
            waited = max(woken_at) - began
            assert waited <= BATCH_TURNS + 10, f"a ready file or timer waited for {waited} turns"

    with fails_if_stand_in(kind, "waited for [0-9]{4} turns"):
        kind(main(), clock=clock, watch=[polls])


@kinds(Read, standins.eager_read)
def test_curio_106_a_file_that_is_always_ready_starves_no_task(kind):
    log = []

    def reading(conn, name):
        for _ in range(100):
            yield from kind(conn, 1)
            log.append(name)

    def main():
        pairs = [pair(), pair()]
        tasks = []
        for name, (conn, plain) in zip("ab", pairs, strict=True):
            plain.send(bytes(100))
            tasks.append((yield Spawn(reading(conn, name))))
        for task in tasks:
            yield Join(task)
        for conn, plain in pairs:
            conn.close()
            plain.close()

    with fails_if_stand_in(kind, "one task had 100 turns in a row"):
        run(main())
        in_a_row = max(len(list(turns)) for _, turns in groupby(log))
        assert in_a_row <= 2, (
            f"one task had {in_a_row} turns in a row"
        )  # 2: before the start and after the end of the other


# File descriptors that are reused.


class Pending(Socket):
    """A socket whose connect never completes: its buffers are full."""

    made = ()

    def __init__(self, *args, **keywords):
        ours, self.other = socket.socketpair()
        super().__init__(fileno=ours.detach())
        Pending.made = (self,)
        fill(self)

    def try_connect(self, address):
        raise BlockingIOError


def fill(sock):
    """Write to a socket until its buffer is full; return the number of bytes."""
    written = 0
    for size in (10_000, 1):
        with suppress(BlockingIOError):
            while True:
                written += socket.socket.send(sock, bytes(size))
    return written


def reuse(fd, file):
    """Make the free descriptor `fd` a duplicate of the file's; return it."""
    assert not is_open(fd)
    assert fcntl.fcntl(file.fileno(), fcntl.F_DUPFD, fd) == fd
    return fd


class PendingNetwork(Network):
    def dial(self, address):
        return [(Pending, address)]


@kinds(Connect, standins.HalfClosingConnect)
def test_uvloop_738_a_socket_whose_connect_was_cancelled_does_not_close_a_reused_fd(kind):
    def connecting():
        yield kind("anywhere")

    def main():
        yield Ask(lambda kernel: kernel.services.update({Network: PendingNetwork(kernel)}))
        waiter = Waiter(connecting())
        yield from waiter.start()
        (sock,) = Pending.made
        fd = sock.fileno()
        waiter.cancel()
        yield from waiter.join()
        new = reuse(fd, sock.other)
        sock.close()  # as the garbage collector does
        still_open = is_open(new)
        if still_open:
            os.close(new)
        sock.other.close()
        assert still_open, "the file that reuses the fd was closed"

    with fails_if_stand_in(kind, "the file that reuses the fd was closed"):
        run(main())


@kinds(Close, standins.CloseFd)
def test_uvloop_763_a_file_that_is_closed_twice_does_not_close_a_reused_fd(kind):
    def main():
        reader, writer = os.pipe()
        with open(reader, "rb", 0) as file, open(writer, "wb", 0) as other:
            call = kind(file)
            yield call
            new = reuse(reader, other)
            yield call
            still_open = is_open(new)
            if still_open:
                with suppress(OSError):
                    file.close()
                os.close(new)
            else:
                os.dup2(other.fileno(), reader)  # for the `with` to close
        assert still_open, "the file that reuses the fd was closed"

    with fails_if_stand_in(kind, "the file that reuses the fd was closed"):
        run(main())


@kinds(Close, standins.SilentClose)
def test_trio_1272_closing_a_socket_wakes_its_waiter_and_its_fd_can_be_reused(kind):
    log = []

    def reading(conn):
        try:
            yield Read(conn, 1)
        except ClosedError:
            log.append("got the error")

    def main():
        conn, plain = pair()
        with plain:
            waiter = Waiter(reading(conn))
            yield from waiter.start()
            fd = conn.fileno()
            one, other = socket.socketpair()
            yield kind(conn)
            with one, other, Socket(fileno=reuse(fd, one), peer="the new other") as new:
                other.send(b"y")
                yield from in_time(waiter.join(), "the waiter waits for ever")
                assert (yield from in_time(Read(new, 1), "no byte comes")) == b"y"

    with fails_if_stand_in(kind, "the waiter waits for ever"):
        run(main())
        assert log == ["got the error"]


@kinds(WaitWritable, standins.BrittleWait)
def test_trio_1272_a_wait_for_a_file_that_was_closed_outside_the_scheduler_can_be_cancelled(kind):
    def waiting(call):
        with suppress(ClosedError):
            yield call

    def main():
        one, other = socket.socketpair()
        with one, other, one.dup():  # a duplicate, so that epoll still reports the file
            one.setblocking(False)
            fill(one)
            waiters = [Waiter(waiting(call)) for call in (kind(one), WaitReadable(one))]
            for waiter in waiters:
                yield from waiter.start()
            one.close()
            for waiter in waiters:
                waiter.cancel()
            for waiter in waiters:
                yield from in_time(waiter.join(), "the waiter waits for ever")

    with fails_if_stand_in(kind, "the run is broken"):
        try:
            run(main())
        except Exception as error:
            raise AssertionError(f"the run is broken: {error}") from error


# Two waiters for one file.


@kinds(WaitWritable, standins.LastWait)
def test_gh_74116_a_second_waiter_for_writing_gets_busy_error_and_the_first_goes_on(kind):
    log = []

    def draining(conn, name):
        try:
            yield kind(conn)
        except BusyError:
            log.append(f"{name} got BusyError")
        else:
            log.append(f"{name} goes on")

    def main():
        conn, plain = pair()
        with conn, plain:
            rest = fill(conn)
            first, second = Waiter(draining(conn, "first")), Waiter(draining(conn, "second"))
            yield from first.start()
            second.task = yield Spawn(second.body_in_scope(), keep=True)
            for _ in range(3):
                yield
            while rest:
                rest -= len(plain.recv(rest))
            for waiter in (first, second):
                yield from in_time(waiter.join(), "one of the waiters waits for ever")

    with fails_if_stand_in(kind, "one of the waiters waits for ever"):
        run(main())
        assert log == ["second got BusyError", "first goes on"]


# Cancelling, joining, cleaning up.


def for_ever():
    yield Sleep(inf)


def joined(task, log):
    with suppress(TaskCancelled):
        yield Join(task)
    log.append("joined")


@pytest.mark.parametrize("join_first", [True, False])
@kinds(run, standins.PyosLoop.run)
def test_pyos8_a_joiner_of_a_task_that_is_cancelled_while_parked_goes_on(kind, join_first):
    log = []

    def main():
        child = yield Spawn(for_ever())
        yield
        if join_first:
            yield Spawn(joined(child, log))
            yield
            yield Cancel(child)
        else:
            yield Cancel(child)
            yield from joined(child, log)

    with fails_if_stand_in(kind, "the joiner waits for ever"):
        kind(main())
        assert log == ["joined"], "the joiner waits for ever"


@kinds(run, standins.TaleLoop.run)
def test_a_tale_of_event_loops_7_a_join_of_a_task_that_was_cancelled_and_has_ended_returns(kind):
    log = []

    def main():
        child = yield Spawn(for_ever())
        yield
        yield Cancel(child)
        for _ in range(3):
            yield
        yield from joined(child, log)

    with fails_if_stand_in(kind, "the joiner waits for ever"):
        kind(main())
        assert log == ["joined"], "the joiner waits for ever"


def moved_on(body, seconds):
    with (yield MoveOnAfter(seconds)):
        yield from body


@kinds(moved_on, standins.throwing_timeout)
def test_tinyio_a_task_that_was_spawned_in_a_timeout_does_not_outlive_it(kind):
    log = []

    def ticking():
        while True:
            yield Sleep(1)
            log.append("tick")

    def working():
        yield Spawn(ticking())
        yield Sleep(100)

    def main():
        yield from kind(working(), 2.5)
        log.append("timed out")
        yield Sleep(5)
        ticks = log.count("tick")
        assert ticks == 2, f"the task outlived the timeout by {ticks - 2} seconds"

    with fails_if_stand_in(kind, "the task outlived the timeout by 5 seconds"):
        run(main())
        assert log == ["tick", "tick", "timed out"]


@kinds(moved_on, standins.throwing_timeout)
def test_tinyio_the_cleanup_of_a_task_that_timed_out_can_wait(kind):
    log = []

    def working():
        try:
            yield Sleep(100)
        finally:
            with (yield Shield(10)):
                yield Sleep(1)
            log.append("cleaned up")

    def main():
        yield from kind(working(), 2.5)
        assert log == ["cleaned up"], "its cleanup was interrupted"

    with fails_if_stand_in(kind, "its cleanup was interrupted"):
        run(main())


@kinds(run, standins.BlueletLoop.run)
def test_bluelet_a_cancelled_task_runs_its_finally(kind):
    log = []

    def child():
        try:
            yield Sleep(inf)
        finally:
            log.append("cleaned up")

    def main():
        task = yield Spawn(child())
        yield
        yield Cancel(task)
        yield from joined(task, log)

    with fails_if_stand_in(kind, "without its cleanup"):
        kind(main())
        assert log == ["cleaned up", "joined"], "the task ended without its cleanup"


@kinds(run, standins.TinyLoop.run)
def test_bluelet_the_finally_of_a_cancelled_task_can_wait(kind):
    log = []

    def child():
        try:
            yield Sleep(inf)
        finally:
            with (yield Shield(5)):
                yield Sleep(1)
            log.append("cleaned up")

    def main():
        task = yield Spawn(child())
        yield
        yield Cancel(task)
        yield from joined(task, log)

    with fails_if_stand_in(kind, "its cleanup was interrupted"):
        kind(main())
        assert log == ["cleaned up", "joined"], "its cleanup was interrupted"


# Tasks that vanish, or take others with them.


@kinds(run, standins.WeakLoop.run)
def test_gh_91887_a_task_without_references_does_not_vanish(kind):
    log = []

    def child():
        yield Sleep(5)
        log.append("done")

    def main():
        yield Spawn(child())
        for _ in range(3):
            yield
        gc.collect()
        yield Sleep(10)

    with fails_if_stand_in(kind, "the task has vanished"):
        kind(main())
        assert log == ["done"], "the task has vanished"


def failing():
    yield Sleep(1)
    raise ZeroDivisionError("of one task")


def working(log):
    try:
        yield Sleep(2)
        log.append("worked")
    except (Exception, Cancelled):
        log.append("ended early")


def joining(bad, log):
    try:
        yield Join(bad)
    except ZeroDivisionError:
        log.append("got the error")


@pytest.mark.parametrize("join_first", ["bad", "good"])
@kinds(run, standins.PyosLoop.run, standins.TinyioLoop.run)
def test_pyos8_and_tinyio_a_failure_reaches_the_joiner_and_ends_no_other_task(kind, join_first):
    log = []

    def main():
        bad = yield Spawn(failing(), keep=True)
        good = yield Spawn(working(log), keep=True)
        if join_first == "bad":
            yield from joining(bad, log)
        yield Join(good)
        if join_first == "good":
            yield from joining(bad, log)

    with fails_if_stand_in(kind, "the failure of one task ended another"):
        with suppress(ZeroDivisionError):
            kind(main())
        expected = ["got the error", "worked"] if join_first == "bad" else ["worked", "got the error"]
        assert log == expected, f"the failure of one task ended another: {log}"
