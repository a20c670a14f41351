"""Bugs that other schedulers shipped: ours does not have them, and a stand-in that has one fails its test.

Each test is named after its report: gh and bpo are python/cpython's. Where a hand-over and the end of a wait
meet, they do so in one turn, in each order.
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
BATCH = 61  # turns between two looks at files and timers


def kinds(ours, *buggy, marks=()):
    """Test what is ours, and stand-ins which have to fail."""
    standing_in = (pytest.param(kind, id=getattr(kind, "__self__", kind).__name__) for kind in buggy)
    return pytest.mark.parametrize("kind", [pytest.param(ours, id="ours", marks=marks), *standing_in])


def meetings(ours, buggy, *, fails=ORDERS):
    """Test what is ours in every order, and a stand-in which has to fail in those of `fails`."""
    cases = [pytest.param(ours, order, id=f"ours-{order}") for order in ORDERS]
    return pytest.mark.parametrize(("kind", "order"), [*cases, *((buggy, order) for order in fails)])


def verdict(kind, says):
    """Expect a stand-in to fail, for the reason that `says` states, and what is ours not to."""
    return pytest.raises(AssertionError, match=says) if kind.__module__ == "standins" else nullcontext()


class Waits:
    """A task that waits in a scope of its own, so that it can be cancelled, or its time be over, in any turn."""

    def __init__(self, body):
        self.body = body

    def runs(self):
        with (yield MoveOnAfter(None)) as self.scope:
            yield from self.body

    def begins(self):
        """Let it come to where it waits."""
        self.task = yield Spawn(self.runs(), keep=True)
        yield from parked(self.task)

    def meets(self, order, give):
        """In this turn and this order, do the plain call `give` and end the wait."""
        steps = {"give": give, "cancel": self.cancel, "expire": self.expire}
        for step in order.split(", "):
            steps[step]()

    def cancel(self):
        self.task.kernel.cancel(self.task)

    def expire(self):
        self.scope.deadline = -inf

    def ends(self):
        with suppress(TaskCancelled):
            yield Join(self.task)


def in_time(body, says):
    """Run `body`, a call too; AssertionError if it has not ended after ten seconds."""
    with (yield MoveOnAfter(10)):
        return (yield from body)
    raise AssertionError(says)


def owning(lock, log, name):
    """Own a lock, or a permit, for a second."""
    with (yield from lock.acquire()):
        log.append(name)
        yield Sleep(1)
        log.append(f"{name} gave it back")


def call_at(deadline, what):
    """Have a plain call made by a timer."""
    return Ask(lambda kernel: kernel.service(Timers).call_at(deadline, what))


@pytest.fixture
def path():
    """Return a short path, in a directory of its own, that does not exist."""
    with tempfile.TemporaryDirectory() as directory:
        yield os.path.join(directory, "sock")


# Lost wake-ups.


def notified(condition, log, name):
    with (yield condition.acquire()):
        yield from condition.wait()
        log.append(name)


@meetings(Condition, standins.LossyCondition)
def test_gh_112202_a_notification_given_to_a_waiter_that_is_being_cancelled_is_not_lost(kind, order):
    log = []

    def main():
        condition = kind()
        first, second = Waits(notified(condition, log, "first")), Waits(notified(condition, log, "second"))
        yield from first.begins()
        yield from second.begins()
        with (yield condition.acquire()):
            first.meets(order, condition.notify)
        yield from first.ends()
        yield Sleep(1)
        yield Cancel(second.task)

    with verdict(kind, "the notification is lost"):
        run(main())
        assert log, "the notification is lost"
        assert log == (["first"] if order.startswith("give") else ["second"])


@kinds(Condition, standins.LossyCondition)
def test_gh_112202_nor_one_of_a_waiter_that_is_cancelled_when_it_waits_for_the_lock_already(kind):
    log = []

    def main():
        condition = kind()
        waiter = Waits(notified(condition, log, "notified"))
        yield from waiter.begins()
        with (yield condition.acquire()):
            condition.notify()
            yield from parked(waiter.task)
            waiter.cancel()
        yield from waiter.ends()

    with verdict(kind, "the notification is lost"):
        run(main())
        assert log == ["notified"], "the notification is lost"


# Locks that leak.


@meetings(Lock, standins.ForgetfulLock)
def test_bpo_27585_a_lock_whose_next_owner_is_cancelled_as_it_is_released_goes_to_the_one_after(kind, order):
    log = []

    def main():
        lock = kind()
        yield from lock.acquire()
        first, second = Waits(owning(lock, log, "first")), Waits(owning(lock, log, "second"))
        yield from first.begins()
        yield from second.begins()
        first.meets(order, lock.release)
        yield from in_time(second.ends(), "the second still waits for a lock that nobody has")

    with verdict(kind, "the second still waits for a lock that nobody has"):
        run(main())
        expected = ["second", "second gave it back"]
        assert log == (["first", *expected] if order.startswith("give") else expected)


@meetings(Lock, standins.LeakyLock)
def test_anyio_387_a_lock_handed_to_a_task_that_is_cancelled_in_the_same_turn_is_not_leaked(kind, order):
    log = []

    def main():
        lock = kind()
        yield from lock.acquire()
        waiter = Waits(owning(lock, log, "waiter"))
        yield from waiter.begins()
        waiter.meets(order, lock.release)
        yield from waiter.ends()
        yield from in_time(owning(lock, log, "main"), "the lock belongs to a task that is gone")

    with verdict(kind, "the lock belongs to a task that is gone"):
        run(main())
        assert log[-2:] == ["main", "main gave it back"]


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
        first = Waits(entering(lock).__await__())
        first.task = yield Spawn(first.runs(), keep=True)
        yield  # it has asked for the lock, and has its answer at its next turn
        first.meets(end, None)
        yield from first.ends()
        yield from in_time(owning(lock, log, "main"), "nobody is in the lock, and it is locked")

    with verdict(kind, "nobody is in the lock, and it is locked"):
        run(main())
        assert log == ["entered", "main", "main gave it back"]


# More owners than there may be.


@meetings(Lock, standins.DoubleLock, fails=GIVEN_LAST)
def test_gh_76915_a_lock_that_is_released_as_a_waiter_is_cancelled_has_one_owner(kind, order):
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
        tasks = [Waits(own(lock, name)) for name in "abc"]
        for task in tasks:
            yield from task.begins()
        tasks[0].meets(order, lock.release)
        for task in tasks:
            yield from task.ends()

    with verdict(kind, r"two tasks have the lock: \('b', 'c'\)"):
        run(main())
        for together in log:
            assert len(together) == 1, f"two tasks have the lock: {together}"
        assert log[-2:] == [("b",), ("c",)]


@kinds(Semaphore, standins.LateSemaphore)
def test_anyio_1170_a_permit_that_is_on_its_way_to_a_waiter_is_not_granted_to_another(kind):
    log = []

    def main():
        semaphore = kind(1)
        permit = yield semaphore.acquire()
        waiter = Waits(owning(semaphore, log, "waiter"))
        yield from waiter.begins()
        with permit:
            pass
        number, _ = yield select(semaphore.acquire(), Sleep(0))  # has the permit if there is one, else goes on
        assert number == 1, "two tasks have the one permit"
        yield from waiter.ends()
        assert semaphore.value == 1, f"of one permit, there are {semaphore.value}"

    with verdict(kind, "two tasks have the one permit"):
        run(main())
        assert log == ["waiter", "waiter gave it back"]


# Semaphores that are unfair, or stuck.


@kinds(Semaphore, standins.UnfairSemaphore)
def test_gh_90155_who_waits_for_a_permit_has_it_before_one_who_comes_later(kind):
    log = []

    def main():
        semaphore = kind(1)
        permit = yield from semaphore.acquire()
        waiter = Waits(owning(semaphore, log, "waiter"))
        yield from waiter.begins()
        with permit:
            pass
        yield from owning(semaphore, log, "main")
        yield from waiter.ends()

    with verdict(kind, "main had it first"):
        run(main())
        assert log[0] == "waiter", f"{log[0]} had it first"
        assert log[2:] == ["main", "main gave it back"]


@meetings(Semaphore, standins.StuckSemaphore)
def test_gh_90155_a_waiter_that_is_cancelled_as_a_permit_is_released_leaves_no_semaphore_that_hangs(kind, order):
    log = []

    def main():
        semaphore = kind(1)
        yield from semaphore.acquire()
        waiter = Waits(owning(semaphore, log, "waiter"))
        yield from waiter.begins()
        waiter.meets(order, semaphore.release)
        yield from waiter.ends()
        yield from in_time(owning(semaphore, log, "main"), "there is a permit, and nobody gets it")
        assert semaphore.value == 1, f"of one permit, there are {semaphore.value}"

    with verdict(kind, "there is a permit, and nobody gets it"):
        run(main())
        assert log == [*(["waiter"] if order.startswith("give") else []), "main", "main gave it back"]


# Lost items and connections.


def getting(queue, log):
    log.append((yield from queue.get()))
    yield Sleep(1)
    log.append("not reached")


@meetings(Queue, standins.LossyQueue)
def test_gh_68000_an_item_given_to_a_getter_that_is_cancelled_in_the_same_turn_is_not_lost(kind, order):
    log, rest = [], []

    def main():
        queue = kind()
        getter = Waits(getting(queue, log))
        yield from getter.begins()
        getter.meets(order, partial(queue.put_nowait, "item"))
        yield from getter.ends()
        if not log:
            yield from in_time(getting(queue, rest), "the item is lost")

    with verdict(kind, "the item is lost"):
        run(main())
        assert (log, rest[:1]) == ((["item"], []) if order.startswith("give") else ([], ["item"]))


@pytest.mark.parametrize("first", ["producer", "consumer", "timer"])
@kinds(Queue, standins.LossyQueue)
def test_gh_68000_nor_one_that_comes_at_the_moment_when_a_timeout_runs_out(kind, first):
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
        consumer = Waits(consume(queue))
        if first == "consumer":
            yield from consumer.begins()
        if first == "timer":
            yield call_at(3, partial(queue.put_nowait, "item"))
        else:
            yield from Waits(produce(queue)).begins()
        if first != "consumer":
            yield from consumer.begins()
        yield from in_time(consumer.ends(), "the item is lost")

    with verdict(kind, "the item is lost"):
        run(main())
        assert log == ["item"]


@meetings(Accept, standins.DroppingAccept, fails=GIVEN_LAST)
def test_gh_153761_a_connection_that_comes_as_its_accept_is_cancelled_is_not_dropped(kind, order, path):
    log = []

    def accepting(listener, name):
        with (yield kind(listener)):
            log.append(name)
            yield

    def main():
        with (yield Listen(path)) as listener, socket.socket(socket.AF_UNIX) as client:
            first = Waits(accepting(listener, "first"))
            yield from first.begins()
            connect = partial(client.connect, path)
            if order.startswith("give"):
                connect()
                yield from until(lambda: first.task.state == "ready")  # the connection is on its way to it
                connect = int
            first.meets(order, connect)
            yield from first.ends()
            if not log:
                yield Sleep(1)  # files are looked at
                yield from in_time(accepting(listener, "second"), "the connection is dropped")

    with verdict(kind, "the connection is dropped"):
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
        waiter = Waits(work(event))
        before, _, after = order.partition("deadline")
        calls = {"give": event.set, "cancel": waiter.cancel}
        for name in filter(None, before.split(", ")):
            yield call_at(3, calls[name])
        yield from waiter.begins()
        for name in filter(None, after.split(", ")):
            yield call_at(3, calls[name])
        yield from waiter.ends()
        return waiter.task

    with verdict(kind, "the cancellation was swallowed"):
        task = run(main(), clock=clock)
        assert clock.now() == 3, "the cancellation was swallowed"
        assert task.cancelled


# Storms at a listener.


class Looks(Watcher):
    """Counts turns and looks at the selector."""

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
def test_gh_151615_a_server_that_is_out_of_files_logs_it_once_and_tries_again_after_a_pause(
    kind, path, monkeypatch, caplog
):
    accept, clock, tries = Socket.try_accept, VirtualClock(), []

    def out_of_files_for_a_while(listener):
        if clock.now() < 5 and len(tries) < 50:  # bounded, so that a server that spins comes to its end
            tries.append(clock.now())
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(Socket, "try_accept", out_of_files_for_a_while)

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

    with verdict(kind, "tried 5 times at once"):
        assert run(main(), clock=clock) == b"x", "the server is gone"
        at_once = max(map(tries.count, tries))
        assert at_once == 1, f"tried {at_once} times at once"
        said = [record.getMessage() for record in caplog.records if "accept" in record.getMessage()]
        assert len(said) == 1, f"logged {len(said)} times: {said}"


@kinds(serve_unix, standins.slow_serve)
def test_gh_72093_a_backlog_is_not_taken_one_connection_each_time_that_files_are_looked_at(kind, path):
    count, log, looks = 40, [], Looks()

    def handler(conn):
        log.append(conn)
        yield Read(conn, 1)

    def main():
        server = yield from served(kind, handler, path)
        yield from parked(server)
        clients = [socket.socket(socket.AF_UNIX) for _ in range(count)]
        for client in clients:
            client.connect(path)
        before = looks.polls
        yield from until(lambda: len(log) == count)
        used = looks.polls - before
        yield Cancel(server)
        with suppress(TaskCancelled):
            yield Join(server)
        for client in clients:
            client.close()
        return used

    with verdict(kind, f"looked {count} times"):
        used = run(main(), watch=[looks])
        assert used < count / 4, f"looked {used} times for {count} connections"


# Starvation.


def flooding(lock, heard):
    """Be ready, and start tasks that are, until both are heard of who wait; a thousand times at most."""
    for _ in range(1000):
        if len(heard) == 2:
            return
        with (yield lock.acquire()):
            yield Spawn(nothing())


def nothing():
    yield Sleep(0)


@kinds(run, standins.greedy_run)
def test_curio_112_a_flood_of_ready_tasks_starves_neither_files_nor_timers(kind):
    clock, looks, heard = VirtualClock(), Looks(), []
    ours, plain = pair()

    def reading(conn):
        yield Read(conn, 1)
        heard.append(looks.turns)

    def sleeping():
        yield Sleep(1)
        heard.append(looks.turns)

    def main():
        lock = Lock()
        with ours as conn, plain:
            reader, sleeper = Waits(reading(conn)), Waits(sleeping())
            yield from reader.begins()
            yield from sleeper.begins()
            plain.send(b"x")
            clock.time += 2
            began = looks.turns
            for _ in range(2):
                yield Spawn(flooding(lock, heard))
            yield from reader.ends()
            yield from sleeper.ends()
            waited = max(heard) - began
            assert waited <= BATCH + 10, f"what was ready waited for {waited} turns"

    with verdict(kind, "waited for [0-9]{4} turns"):
        kind(main(), clock=clock, watch=[looks])


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

    with verdict(kind, "one had 100 turns in a row"):
        run(main())
        in_a_row = max(len(list(turns)) for _, turns in groupby(log))
        assert in_a_row <= 2, f"one had {in_a_row} turns in a row"  # 2: before the other began, and after it had ended


# Numbers of files that are used again.


class Pending(Socket):
    """A socket that is being connected, for ever: its buffers are full."""

    made = ()

    def __init__(self, *args, **keywords):
        ours, self.other = socket.socketpair()
        super().__init__(fileno=ours.detach())
        Pending.made = (self,)
        fill(self)

    def try_connect(self, address):
        raise BlockingIOError


def fill(sock):
    """Write to a socket until no byte more goes into it; return how many have."""
    written = 0
    for size in (10_000, 1):
        with suppress(BlockingIOError):
            while True:
                written += socket.socket.send(sock, bytes(size))
    return written


def use_again(number, file):
    """Return `number`, which is free, as that of a file of its own."""
    assert not is_open(number)
    assert fcntl.fcntl(file.fileno(), fcntl.F_DUPFD, number) == number
    return number


class Given(Network):
    def dial(self, address):
        return [(Pending, address)]


@kinds(Connect, standins.HalfClosingConnect)
def test_uvloop_738_a_socket_whose_connect_was_cancelled_does_not_close_who_has_its_number_now(kind):
    def connecting():
        yield kind("anywhere")

    def main():
        yield Ask(lambda kernel: kernel.services.update({Network: Given(kernel)}))
        waiter = Waits(connecting())
        yield from waiter.begins()
        (sock,) = Pending.made
        number = sock.fileno()
        waiter.cancel()
        yield from waiter.ends()
        new = use_again(number, sock.other)
        sock.close()  # as the collector does when it comes to it
        still_open = is_open(new)
        if still_open:
            os.close(new)
        sock.other.close()
        assert still_open, "who has the number now was closed"

    with verdict(kind, "who has the number now was closed"):
        run(main())


@kinds(Close, standins.CloseNumber)
def test_uvloop_763_a_file_that_is_closed_twice_does_not_close_who_has_its_number_now(kind):
    def main():
        reader, writer = os.pipe()
        with open(reader, "rb", 0) as file, open(writer, "wb", 0) as other:
            call = kind(file)
            yield call
            new = use_again(reader, other)
            yield call
            still_open = is_open(new)
            if still_open:
                with suppress(OSError):
                    file.close()
                os.close(new)
            else:
                os.dup2(other.fileno(), reader)  # for the `with` to close
        assert still_open, "who has the number now was closed"

    with verdict(kind, "who has the number now was closed"):
        run(main())


@kinds(Close, standins.SilentClose)
def test_trio_1272_who_waits_for_a_socket_that_is_closed_is_told_and_its_number_can_be_used_again(kind):
    log = []

    def reading(conn):
        try:
            yield Read(conn, 1)
        except ClosedError:
            log.append("told")

    def main():
        conn, plain = pair()
        with plain:
            waiter = Waits(reading(conn))
            yield from waiter.begins()
            number = conn.fileno()
            one, other = socket.socketpair()
            yield kind(conn)
            with one, other, Socket(fileno=use_again(number, one), peer="the new other") as new:
                other.send(b"y")
                yield from in_time(waiter.ends(), "it waits for ever")
                assert (yield from in_time(Read(new, 1), "nothing comes")) == b"y"

    with verdict(kind, "it waits for ever"):
        run(main())
        assert log == ["told"]


@kinds(WaitWritable, standins.BrittleWait)
def test_trio_1272_a_file_that_was_closed_behind_our_back_breaks_no_cancellation(kind):
    def waiting(call):
        with suppress(ClosedError):
            yield call

    def main():
        one, other = socket.socketpair()
        with one, other, one.dup():  # a duplicate, so that the selector goes on watching
            one.setblocking(False)
            fill(one)
            waiters = [Waits(waiting(call)) for call in (kind(one), WaitReadable(one))]
            for waiter in waiters:
                yield from waiter.begins()
            one.close()
            for waiter in waiters:
                waiter.cancel()
            for waiter in waiters:
                yield from in_time(waiter.ends(), "it waits for ever")

    with verdict(kind, "the run is broken"):
        try:
            run(main())
        except Exception as error:
            raise AssertionError(f"the run is broken: {error}") from error


# Two who wait for one thing.


@kinds(WaitWritable, standins.LastWait)
def test_gh_74116_the_second_who_waits_to_write_is_refused_and_the_first_goes_on(kind):
    log = []

    def draining(conn, name):
        try:
            yield kind(conn)
        except BusyError:
            log.append(f"{name} refused")
        else:
            log.append(f"{name} goes on")

    def main():
        conn, plain = pair()
        with conn, plain:
            rest = fill(conn)
            first, second = Waits(draining(conn, "first")), Waits(draining(conn, "second"))
            yield from first.begins()
            second.task = yield Spawn(second.runs(), keep=True)
            for _ in range(3):
                yield
            while rest:
                rest -= len(plain.recv(rest))
            for waiter in (first, second):
                yield from in_time(waiter.ends(), "one of them waits for ever")

    with verdict(kind, "one of them waits for ever"):
        run(main())
        assert log == ["second refused", "first goes on"]


# Killing, joining, cleaning up.


def for_ever():
    yield Sleep(inf)


def joined(task, log):
    with suppress(TaskCancelled):
        yield Join(task)
    log.append("joined")


@pytest.mark.parametrize("join_first", [True, False])
@kinds(run, standins.PyosLoop.run)
def test_pyos8_who_joins_a_task_that_is_killed_while_it_is_parked_goes_on(kind, join_first):
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

    with verdict(kind, "the joiner waits for ever"):
        kind(main())
        assert log == ["joined"], "the joiner waits for ever"


@kinds(run, standins.TaleLoop.run)
def test_a_tale_of_event_loops_7_who_joins_a_task_that_has_been_cancelled_and_is_gone_goes_on(kind):
    log = []

    def main():
        child = yield Spawn(for_ever())
        yield
        yield Cancel(child)
        for _ in range(3):
            yield
        yield from joined(child, log)

    with verdict(kind, "the joiner waits for ever"):
        kind(main())
        assert log == ["joined"], "the joiner waits for ever"


def moved_on(body, seconds):
    with (yield MoveOnAfter(seconds)):
        yield from body


@kinds(moved_on, standins.throwing_timeout)
def test_tinyio_what_was_begun_in_a_timeout_does_not_run_on_after_it(kind):
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
        assert ticks == 2, f"it ran on for {ticks - 2} seconds"

    with verdict(kind, "it ran on for 5 seconds"):
        run(main())
        assert log == ["tick", "tick", "timed out"]


@kinds(moved_on, standins.throwing_timeout)
def test_tinyio_and_its_cleanup_can_wait(kind):
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
        assert log == ["cleaned up"], "its cleanup was cut short"

    with verdict(kind, "its cleanup was cut short"):
        run(main())


@kinds(run, standins.BlueletLoop.run)
def test_bluelet_a_task_that_is_killed_runs_its_finally(kind):
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

    with verdict(kind, "without its cleanup"):
        kind(main())
        assert log == ["cleaned up", "joined"], "it was killed without its cleanup"


@kinds(run, standins.TinyLoop.run)
def test_bluelet_and_its_finally_can_wait(kind):
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

    with verdict(kind, "its cleanup was cut short"):
        kind(main())
        assert log == ["cleaned up", "joined"], "its cleanup was cut short"


# Tasks that vanish, or take others with them.


@kinds(run, standins.WeakLoop.run)
def test_gh_91887_a_task_that_nobody_holds_does_not_vanish(kind):
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

    with verdict(kind, "the task has vanished"):
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
        log.append("was ended")


def told(bad, log):
    try:
        yield Join(bad)
    except ZeroDivisionError:
        log.append("told")


@pytest.mark.parametrize("join_first", ["bad", "good"])
@kinds(run, standins.PyosLoop.run, standins.TinyioLoop.run)
def test_pyos8_and_tinyio_a_task_that_fails_ends_itself_tells_its_joiner_and_ends_no_other(kind, join_first):
    log = []

    def main():
        bad = yield Spawn(failing(), keep=True)
        good = yield Spawn(working(log), keep=True)
        if join_first == "bad":
            yield from told(bad, log)
        yield Join(good)
        if join_first == "good":
            yield from told(bad, log)

    with verdict(kind, "the failure of one task ended another"):
        with suppress(ZeroDivisionError):
            kind(main())
        expected = ["told", "worked"] if join_first == "bad" else ["worked", "told"]
        assert log == expected, f"the failure of one task ended another: {log}"
