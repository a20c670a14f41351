"""Growth: the work for n things is O(n log n), whatever happens to them.

The work is counted, not timed: the lines that Python runs, the comparisons of objects of the package, which also counts
searches in lists, and the bytes that are allocated, which also counts copies of lists. (Bytes need a C compiler.)
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import sys
from contextlib import aclosing
from math import inf, log
from pathlib import Path

import pytest

import minisched
from minisched import (
    Accept,
    Barrier,
    Broadcast,
    Cancel,
    Cancelled,
    CancelScope,
    ClosedError,
    Condition,
    Connect,
    CurrentTask,
    Deadlock,
    Event,
    InThread,
    Join,
    JoinAll,
    Listen,
    Lock,
    MoveOnAfter,
    Portal,
    Queue,
    Read,
    Semaphore,
    Shield,
    Sleep,
    Spawn,
    TaskCancelled,
    TaskGroup,
    Timeout,
    Timers,
    Write,
    as_completed,
    gather,
    group,
    race,
    select,
    serve_listeners,
    supervise,
)
from minisched.kernel import Scope
from minisched.lab.trace import TextTrace
from minisched.tasks.timers import Timer
from minisched.testing import VirtualClock

NUMBERS = (100, 400)  # of things: in the first program and in the second
SLACK_FACTORS = 1.1  # above n log n
COMPARISON_LINES = 4  # the lines that a comparison counts as, so that a search in a list shows
FEW_THINGS = 40  # for what needs a file, a thread or a level of the call stack each


# The programs. Each takes the number of things.


def nap(seconds=1, result=None):
    yield Sleep(seconds)
    return result


def failing(seconds=1, error=ValueError):
    yield Sleep(seconds)
    raise error("x")


def forever():
    yield Sleep(inf)


def ignoring(call, errors=BaseExceptionGroup):
    """Run a call, and drop its error."""
    try:
        yield from call
    except errors:
        pass


def children(n):
    for number in range(n):
        yield Spawn(nap(number % 7))


def children_at_once(n):
    for _ in range(n):
        yield Spawn(nap())
    yield JoinAll()


def children_that_fail(n):
    for _ in range(n):
        yield Spawn(failing())
    yield Sleep(9)


def children_that_fail_and_are_joined(n):
    tasks = []
    for _ in range(n):
        tasks.append((yield Spawn(failing(), keep=True)))
    for task in tasks:
        yield from ignoring(join(task), ValueError)


def children_that_fail_and_are_kept(n):
    for _ in range(n):
        yield Spawn(failing(), keep=True)


def join(task):
    return (yield Join(task))


def daemons(n):
    for _ in range(n):
        yield Spawn(forever(), daemon=True)
    yield


def cancelled_one_by_one(n):
    tasks = []
    for _ in range(n):
        tasks.append((yield Spawn(forever())))
    for task in tasks:
        yield Cancel(task)
        yield


def cancelled_one_by_one_from_the_last(n):
    tasks = []
    for _ in range(n):
        tasks.append((yield Spawn(forever())))
    for task in reversed(tasks):
        yield Cancel(task)
        yield


def cancelled_at_once(n):
    with (yield MoveOnAfter(1)):
        for _ in range(n):
            yield Spawn(forever())
        yield JoinAll()


def joined_by_many(n):
    task = yield Spawn(nap(5))
    for _ in range(n):
        yield Spawn(join(task))


def joiners_of_a_failure(n):
    task = yield Spawn(failing(5), keep=True)
    for _ in range(n):
        yield Spawn(ignoring(join(task), ValueError))


def joiners_cancelled_one_by_one(n):
    task = yield Spawn(nap(5))
    joiners = []
    for _ in range(n):
        joiners.append((yield Spawn(join(task))))
    yield
    for joiner in joiners:
        yield Cancel(joiner)
        yield


def joins_in_a_chain(n):
    task = yield Spawn(nap(5))
    for _ in range(n):
        task = yield Spawn(join(task))


def nested(n):
    if n:
        yield Spawn(nested(n - 1))
    yield Sleep(1)


def nested_that_fail(n):
    try:
        if n:
            yield Spawn(nested_that_fail(n - 1))
        yield Sleep(1 if n == 0 else 9)
    finally:
        raise ValueError


def nested_that_join(n):
    if n:
        yield Join((yield Spawn(nested_that_join(n - 1))))
    yield Sleep(1)


def nested_that_are_cancelled(n):
    with (yield MoveOnAfter(1)):
        yield Spawn(nested_forever(n))
        yield JoinAll()


def nested_forever(n):
    if n:
        yield Spawn(nested_forever(n - 1))
    yield Sleep(inf)


def gather_that_returns(n):
    yield from gather(*(nap() for _ in range(n)))


def gather_that_fails(n):
    yield from ignoring(gather(*(failing() for _ in range(n))), ValueError)


def gather_that_fails_in_cleanup(n):
    def member():
        try:
            yield Sleep(inf)
        except Cancelled:
            raise ValueError("x") from None

    yield from ignoring(gather(failing(), *(member() for _ in range(n))), ValueError)


def gather_with_exceptions(n):
    yield from gather(*(failing() for _ in range(n)), return_exceptions=True)


def gathers_nested(n):
    if n == 0:
        yield from failing()
    yield from gather(gathers_nested(n - 1), failing_in_cleanup())


def failing_in_cleanup():
    try:
        yield Sleep(inf)
    except Cancelled:
        raise ValueError("x") from None


def gathers_nested_handled(n):
    yield from ignoring(gathers_nested(n), ValueError)


def race_that_is_won(n):
    yield from race(nap(1), *(forever() for _ in range(n)))


def race_that_fails(n):
    yield from ignoring(race(*(failing() for _ in range(n))), ValueError)


def as_completed_that_returns(n):
    yield from as_completed(*(nap(number % 5) for number in range(n))).for_each(lambda result: None)


def as_completed_that_fails(n):
    yield from ignoring(as_completed(*(failing() for _ in range(n))).for_each(id), ValueError)


def group_that_returns(n):
    def body(team):
        for number in range(n):
            yield team.spawn(nap(number % 3))

    yield from group(body)


def group_that_fails(n):
    def body(team):
        for _ in range(n):
            yield team.spawn(failing())

    yield from ignoring(group(body))


def group_cancelled_one_by_one(n):
    def body(team):
        tasks = []
        for _ in range(n):
            tasks.append((yield team.spawn(forever())))
        for task in tasks:
            yield Cancel(task)
            yield

    yield from group(body)


def group_of_groups(n):
    def body(team):
        for _ in range(n):
            yield team.spawn(group(lambda inner: group_member(inner)))

    def group_member(inner):
        yield inner.spawn(nap())

    yield from group(body)


def group_of_groups_that_fail(n):
    def body(team):
        for _ in range(n):
            yield team.spawn(group(group_member))

    def group_member(inner):
        yield inner.spawn(failing())

    yield from ignoring(group(body))


def groups_nested(n):
    def body(team):
        if n:
            yield team.spawn(groups_nested(n - 1))

    yield from group(body)


def groups_nested_that_fail(n):
    def body(team):
        if n:
            yield team.spawn(groups_nested_that_fail(n - 1))
        yield Sleep(1)
        raise ValueError

    yield from group(body)


def starts_in_a_group(n):
    def body(team):
        for _ in range(n):
            yield from team.start(child)
        team.cancel()

    def child(started):
        started()
        yield Sleep(inf)

    yield from group(body)


def starts_that_fail(n):
    def body(team):
        for _ in range(n):
            yield from ignoring(team.start(lambda started: failing()), ValueError)

    yield from group(body)


def restarts_of_one_task(n):
    left = [n]

    def maker():
        yield Sleep(1)
        if left[0]:
            left[0] -= 1
            raise ValueError

    yield from supervise(maker, restarts=inf)


def restarts_of_many_tasks(n):
    def maker_of():
        failures = [ValueError]

        def maker():
            yield Sleep(1)
            if failures:
                raise failures.pop()

        return maker

    yield from supervise(*(maker_of() for _ in range(n)), restarts=inf, within=inf)


def timers_set_and_fired(n):
    timers = (yield CurrentTask()).kernel.service(Timers)
    for number in range(n):
        timers.call_at(number * 0.003, int)
    yield Sleep(n)


def timers_set_and_cancelled(n):
    timers = (yield CurrentTask()).kernel.service(Timers)
    timeouts = [timers.call_at(1 + number * 0.003, int) for number in range(n)]
    yield Sleep(0.5)
    for timer in timeouts:
        timer.cancel()
        yield Sleep(0.0001)


def timers_at_one_instant(n):
    for _ in range(n):
        yield Spawn(nap(1))


def timers_of_one_bucket(n):
    """Deadlines that are so near to each other that they are sorted together, each of which sets another one."""

    def sleeper(number):
        yield Sleep(1 + number * 1e-6)
        yield Sleep(number % 17 * 1e-6)

    for number in range(n):
        yield Spawn(sleeper(number))


def deadlines_moved(n):
    with (yield MoveOnAfter(5)) as scope:
        for number in range(n):
            scope.deadline = 100 + number
            yield Sleep(0.001)


def deadlines_of_many_moved(n):
    scopes = []

    def child():
        with (yield MoveOnAfter(5)) as scope:
            scopes.append(scope)
            yield Sleep(inf)

    for _ in range(n):
        yield Spawn(child())
    yield
    for _ in range(2):
        for number, scope in enumerate(scopes):
            scope.deadline = 1 + number * 0.001
            yield


def timeouts_one_after_the_other(n):
    for _ in range(n):
        with (yield Timeout(30)):
            yield


def timeouts_that_expire(n):
    for _ in range(n):
        with (yield MoveOnAfter(1)):
            yield Sleep(inf)


def nested_scopes(n):
    if n:
        with (yield MoveOnAfter(n)):
            yield from nested_scopes(n - 1)
    else:
        yield Sleep(0.5)


def nested_scopes_cancelled(n):
    with (yield CancelScope()) as scope:
        scope.deadline = 1
        yield from nested_scopes_forever(n)


def nested_scopes_forever(n):
    if n:
        with (yield Shield(None)) if n == FEW_THINGS // 2 else (yield CancelScope()):
            yield from nested_scopes_forever(n - 1)
    else:
        yield Sleep(5)


def deep_yield_from(n):
    if n:
        return (yield from deep_yield_from(n - 1))
    for _ in range(5):
        yield


def deep_yield_from_cancelled(n):
    with (yield MoveOnAfter(1)):
        yield from deep_yield_from_forever(n)


def deep_yield_from_forever(n):
    if n:
        return (yield from deep_yield_from_forever(n - 1))
    yield Sleep(inf)


def getters_served(n):
    queue = Queue()
    for _ in range(n):
        yield Spawn(one(queue.get()))
    yield
    for number in range(n):
        yield queue.put(number)


def one(call):
    return (yield call)


def cancelled(n, call, order=1):
    """Cancel n tasks, one by one, that each wait in `call()`."""
    tasks = []
    for _ in range(n):
        tasks.append((yield Spawn(one(call()))))
    yield
    for task in tasks[::order]:
        yield Cancel(task)
        yield


def getters_cancelled(n):
    yield from cancelled(n, Queue().get)


def getters_cancelled_from_the_last(n):
    yield from cancelled(n, Queue().get, -1)


def putters_cancelled(n):
    queue = Queue(0)
    yield from cancelled(n, lambda: queue.put(1))


def putters_served(n):
    queue = Queue(1)
    for number in range(n):
        yield Spawn(one(queue.put(number)))
    for _ in range(n):
        yield queue.get()


def queue_closed(n):
    queue = Queue()
    for _ in range(n):
        yield Spawn(ignoring(one(queue.get()), ClosedError))
    yield
    queue.close()


def queue_filled_and_emptied(n):
    queue = Queue()
    for number in range(n):
        queue.put_nowait(number)
    queue.close()
    yield from queue.for_each(lambda item: None)


def lock_waiters_served(n):
    lock = Lock()

    def user():
        with (yield lock.acquire()):
            yield

    for _ in range(n):
        yield Spawn(user())


def lock_waiters_cancelled(n):
    lock = Lock()
    with (yield lock.acquire()):
        yield from cancelled(n, lock.acquire)


def many_locks_of_one_task(n):
    locks = [Lock() for _ in range(n)]
    for lock in locks:
        yield lock.acquire()
    for lock in locks:
        lock.release()


def permits_served(n):
    permits = Semaphore(0)
    for _ in range(n):
        yield Spawn(one(permits.acquire()))
    yield
    for _ in range(n):
        permits.release()
        yield


def permit_waiters_cancelled(n):
    yield from cancelled(n, Semaphore(0).acquire)


def event_set(n):
    event = Event()
    for _ in range(n):
        yield Spawn(one(event.wait()))
    yield
    event.set()


def event_waiters_cancelled(n):
    yield from cancelled(n, Event().wait)


def barrier_of_many(n):
    barrier = Barrier(n)
    for _ in range(n):
        yield Spawn(one(barrier.wait()))


def barrier_waiters_cancelled(n):
    yield from cancelled(n, Barrier(n + 1).wait)


def condition_notified_one_by_one(n):
    condition = Condition()

    def waiter():
        with (yield condition.acquire()):
            yield from condition.wait()

    for _ in range(n):
        yield Spawn(waiter())
    yield Sleep(1)
    for _ in range(n):
        with (yield condition.acquire()):
            condition.notify()
        yield


def condition_notified_at_once(n):
    condition = Condition()

    def waiter():
        with (yield condition.acquire()):
            yield from condition.wait()

    for _ in range(n):
        yield Spawn(waiter())
    yield Sleep(1)
    with (yield condition.acquire()):
        condition.notify_all()


def condition_waiters_cancelled(n):
    condition, tasks = Condition(), []

    def waiter():
        with (yield condition.acquire()):
            yield from condition.wait()

    for _ in range(n):
        tasks.append((yield Spawn(waiter())))
    yield Sleep(1)
    for task in tasks:
        yield Cancel(task)
        yield


def broadcast_to_many(n):
    news = Broadcast()
    for _ in range(n):
        yield Spawn(one(news.subscribe().get()))
    yield
    news.publish("item")


def broadcast_of_many_items(n):
    news = Broadcast(n)
    subscription = news.subscribe()
    for number in range(n):
        news.publish(number)
    for _ in range(n):
        yield subscription.get()


def broadcast_readers_come_and_go(n):
    news = Broadcast()
    readers = [news.subscribe() for _ in range(n)]
    for reader in readers:
        reader.close()
    yield


def broadcast_waiters_cancelled(n):
    yield from cancelled(n, Broadcast().subscribe().get)


def select_of_many_branches(n):
    queues = [Queue() for _ in range(n)]
    task = yield Spawn(one(select(*(queue.get() for queue in queues), Sleep(5))))
    yield
    queues[n // 2].put_nowait(1)
    yield Join(task)


def selects_at_one_queue(n):
    queue, event = Queue(), Event()
    for _ in range(n):
        yield Spawn(one(select(queue.get(), event.wait(), Sleep(5))))
    yield
    for number in range(n // 2):
        queue.put_nowait(number)
        yield
    event.set()


def selects_cancelled(n):
    queue, event = Queue(), Event()
    yield from cancelled(n, lambda: select(queue.get(), event.wait(), Sleep(5)))


def selects_one_after_the_other(n):
    queue, event = Queue(), Event()
    for _ in range(n):
        yield select(queue.get(), event.wait(), Sleep(0.001))


def yields(n):
    for _ in range(n):
        yield


def many_primitives(n):
    for _ in range(n):
        lock = Lock()
        with (yield lock.acquire()):
            yield


async def async_generators(n):
    async def numbers():
        yield 1
        yield 2

    kept = []
    for number in range(n):
        some = numbers()
        kept.append(some)
        async for _ in some:
            break
        if number % 2:
            async with aclosing(some):
                pass


async def task_groups_in_generators(n):
    async def numbers():
        async with TaskGroup() as team:
            await team.spawn(forever())
            yield 1

    for _ in range(n):
        async with aclosing(numbers()) as some:
            async for _ in some:
                break


def deadlock_of_many(n):
    event = Event()
    for _ in range(n):
        yield Spawn(one(event.wait()))


def deadlock_handled(n):
    return deadlock_of_many(n)


def aborted(n):
    for _ in range(n):
        yield Spawn(forever())
    yield
    (yield CurrentTask()).kernel.broken_rule("stop here")


def traced(n):
    for _ in range(n):
        yield Spawn(nap())


def portal_calls(n):
    def calls(portal):
        for _ in range(n):
            portal.call(int)

    with (yield Portal()) as portal:
        yield InThread(calls, portal)


def portal_tasks(n):
    def calls(portal):
        for future in [portal.spawn(nap, 0) for _ in range(n)]:
            future.result()

    with (yield Portal()) as portal:
        yield InThread(calls, portal)


def calls_in_threads(n):
    yield from gather(*(one(InThread(int)) for _ in range(n)))


def connections(n):
    with (yield Listen(("127.0.0.1", 0))) as listener:
        pairs = []
        for _ in range(n):
            near = yield Connect(listener.address)
            pairs.append((near, (yield Accept(listener))))
        for _, far in pairs:
            yield Spawn(one(Read(far, 10)))
        yield
        for near, _ in pairs:
            yield Write(near, b"x")
        yield JoinAll()
        for near, far in pairs:
            near.close()
            far.close()


def readers_cancelled(n):
    with (yield Listen(("127.0.0.1", 0))) as listener:
        pairs, tasks = [], []
        for _ in range(n):
            near = yield Connect(listener.address)
            pairs.append((near, (yield Accept(listener))))
        for _, far in pairs:
            tasks.append((yield Spawn(one(Read(far, 10)))))
        yield
        for task in tasks:
            yield Cancel(task)
            yield
        for near, far in pairs:
            near.close()
            far.close()


def connections_served(n):
    def echo(conn):
        while data := (yield Read(conn, 10)):
            yield Write(conn, data)

    listener = yield Listen(("127.0.0.1", 0))
    address = listener.address
    server = yield Spawn(serve_listeners(echo, listener, idle_timeout=None), keep=True)
    conns = []
    for _ in range(n):
        conns.append((yield Connect(address)))
    for conn in conns:
        yield Write(conn, b"x")
        yield Read(conn, 10)
    for conn in conns:
        conn.close()
    yield Cancel(server)
    yield from ignoring(join(server), TaskCancelled)


SHAPES = [
    *(children, children_at_once, children_that_fail, children_that_fail_and_are_joined, daemons),
    *(children_that_fail_and_are_kept, cancelled_one_by_one, cancelled_one_by_one_from_the_last, cancelled_at_once),
    *(joined_by_many, joiners_of_a_failure, joiners_cancelled_one_by_one, joins_in_a_chain),
    *(nested, nested_that_fail, nested_that_join, nested_that_are_cancelled),
    *(gather_that_returns, gather_that_fails, gather_that_fails_in_cleanup, gather_with_exceptions),
    *(race_that_is_won, race_that_fails, as_completed_that_returns, as_completed_that_fails),
    *(group_that_returns, group_that_fails, group_cancelled_one_by_one, group_of_groups, group_of_groups_that_fail),
    *(groups_nested, groups_nested_that_fail, gathers_nested_handled, starts_in_a_group, starts_that_fail),
    *(restarts_of_one_task, restarts_of_many_tasks),
    *(timers_set_and_fired, timers_set_and_cancelled, timers_at_one_instant, timers_of_one_bucket),
    *(deadlines_moved, deadlines_of_many_moved, timeouts_one_after_the_other, timeouts_that_expire),
    *(getters_served, getters_cancelled, getters_cancelled_from_the_last, putters_served, putters_cancelled),
    *(queue_closed, queue_filled_and_emptied, lock_waiters_served, lock_waiters_cancelled, many_locks_of_one_task),
    *(permits_served, permit_waiters_cancelled, event_set, event_waiters_cancelled),
    *(barrier_of_many, barrier_waiters_cancelled, condition_notified_one_by_one, condition_notified_at_once),
    *(condition_waiters_cancelled, broadcast_to_many, broadcast_of_many_items, broadcast_readers_come_and_go),
    *(broadcast_waiters_cancelled, select_of_many_branches, selects_at_one_queue, selects_cancelled),
    *(selects_one_after_the_other, yields, many_primitives, async_generators, task_groups_in_generators),
    *(deadlock_of_many, aborted, traced),
]
SMALL_SHAPES = [
    *(nested_scopes, nested_scopes_cancelled, deep_yield_from, deep_yield_from_cancelled),
    *(portal_calls, portal_tasks, calls_in_threads, connections, readers_cancelled, connections_served),
]
IN_REAL_TIME = {portal_calls, portal_tasks, calls_in_threads, connections, readers_cancelled, connections_served}


def execute(shape, n):
    """Run one program; drop the error that it ends with, which the shape is about."""
    options = {} if shape in IN_REAL_TIME else {"clock": VirtualClock()}
    if shape is traced:
        options["watch"] = [TextTrace([].append)]
    try:
        minisched.run(shape(n), **options, debug=False)
    except (ValueError, BaseExceptionGroup, Deadlock, minisched.SyscallError):
        pass


# Counting.


class Work:
    """The lines that Python runs in this thread in the package, and the comparisons of tasks, scopes and timers.

    An error that passes through n tasks has a traceback of n entries, and each task looks at all of them: Python adds
    the entries, and does not say which of them are new. `frames` says whether that is counted, too.
    """

    def __init__(self, frames=True):
        self.count = 0
        self.ignored = () if frames else ("strip_own_frames", "first_user_frame")

    def __enter__(self):
        def compares(self_, other):
            self.count += COMPARISON_LINES
            return self_ is other

        def is_less(self_, other):
            self.count += COMPARISON_LINES
            return float.__lt__(self_, other)

        Scope.__eq__, Scope.__hash__ = compares, object.__hash__
        Timer.__lt__ = is_less
        self.previous = sys.gettrace()
        sys.settrace(self.calls)
        return self

    def __exit__(self, *error):
        sys.settrace(self.previous)
        del Scope.__eq__, Scope.__hash__, Timer.__lt__

    def calls(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE) or frame.f_code.co_name in self.ignored:
            return None
        self.count += 1
        return self.lines

    def lines(self, frame, event, argument):
        self.count += event == "line"
        return self.lines


PACKAGE = os.path.dirname(minisched.__file__)


def growth(shape, numbers):
    """Return how much more work the second number of things is than the first, and how much it may be."""
    counts = []
    for n in (8, *numbers):  # the first run imports
        with Work(frames=shape is not gathers_nested_handled) as work:
            execute(shape, n)
        counts.append(work.count)
    small, large = numbers
    return counts[2] / counts[1], large * log(large) / (small * log(small)) * SLACK_FACTORS


@pytest.fixture(autouse=True)
def quiet(caplog):
    logging.getLogger("minisched").setLevel(logging.CRITICAL + 1)
    yield
    logging.getLogger("minisched").setLevel(logging.NOTSET)


@pytest.mark.slow  # a trace function counts the lines
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("shape", [*SHAPES, *SMALL_SHAPES], ids=lambda shape: shape.__name__)
def test_the_work_for_n_things_is_n_log_n(shape):
    """concurrency G: a gather in which many fail is quadratic; the other shapes are its siblings."""
    grown, allowed = growth(shape, (FEW_THINGS, 4 * FEW_THINGS) if shape in SMALL_SHAPES else NUMBERS)
    assert grown <= allowed, f"four times as many {shape.__name__}: {grown:.1f} times the work"


# Bytes.

MANY = (400, 1600)  # of things: so many that a copy of a list of them is larger than all that one of them allocates
COUNTER = Path(__file__).parents[1] / "benchmarks" / "allocations.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")


def print_bytes(library):
    """Print the bytes that each shape allocates, for both numbers. Runs in a process of its own."""
    logging.disable(logging.CRITICAL)
    counter = ctypes.CDLL(library)
    counter.counted_bytes.restype = ctypes.c_longlong
    python = ctypes.pythonapi
    counter.count_from_here(python.PyMem_GetAllocator, python.PyMem_SetAllocator)
    for shape in [*SHAPES, *SMALL_SHAPES]:
        figures = []
        for n in (8, *((FEW_THINGS, 4 * FEW_THINGS) if shape in SMALL_SHAPES else MANY)):
            before = counter.counted_bytes()
            execute(shape, n)
            figures.append(counter.counted_bytes() - before)
        print(shape.__name__, *figures[1:], flush=True)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None or os.name != "posix", reason="needs a C compiler")
def test_the_bytes_that_n_things_allocate_are_n_log_n(tmp_path):
    """concurrency G: the notes of a gather were copied for each failure, which no count of lines shows."""
    library = tmp_path / "allocations.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, COUNTER], check=True)
    program = f"from test_reported_growth import print_bytes; print_bytes({str(library)!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(PACKAGE).parent)])}
    out = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    small, large = MANY
    allowed = large * log(large) / (small * log(small)) * SLACK_FACTORS
    ratios = {name: int(more) / int(less) for name, less, more in map(str.split, out.stdout.splitlines())}
    assert len(ratios) == len(SHAPES) + len(SMALL_SHAPES)
    assert {name: f"{ratio:.1f}" for name, ratio in ratios.items() if ratio > allowed} == {}
