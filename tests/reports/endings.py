"""The ways in which a scope, a group, a wait and a task end: one generator function for each, which handles the end.

Each function takes `local`, and calls it for an object that a frame, a result or a failure holds. When the function has
returned, nothing may hold such an object. `test_reported_endings` runs each function in `async def` form, too, which
it makes of the syntax tree: so nothing here is `async def`, and each wait is a `yield` or a `yield from`.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from math import inf

from minisched import (
    Barrier,
    Broadcast,
    Cancel,
    Cancelled,
    CancelScope,
    CapacityLimiter,
    ClosedError,
    Condition,
    CurrentTask,
    Event,
    InThread,
    Join,
    JoinAll,
    Lagged,
    LimitExceeded,
    Lock,
    MoveOnAfter,
    Portal,
    PriorityQueue,
    Queue,
    RLock,
    Semaphore,
    Shield,
    Sleep,
    SleepUntil,
    Spawn,
    Submit,
    SyscallError,
    TaskCancelled,
    TimedOut,
    Timeout,
    WouldBlock,
    as_completed,
    gather,
    group,
    race,
    select,
    supervise,
)

# The children.


def returns(local, seconds=1):
    kept = local()
    yield Sleep(seconds)
    return kept


def fails(local, seconds=1, error=ValueError):
    kept = local()
    yield Sleep(seconds)
    raise error(local(), kept)


def fails_at_once(local):
    kept = local()
    raise ValueError(kept)
    yield


def waits(local):
    kept = local()
    yield Sleep(inf)
    return kept


def fails_in_cleanup(local):
    kept = local()
    try:
        yield Sleep(inf)
    finally:
        raise KeyError(kept)


def fails_from_cancelled(local):
    kept = local()
    try:
        yield Sleep(inf)
    except Cancelled as cancelled:
        raise KeyError(kept) from cancelled


def cleans_up(local):
    kept = local()
    try:
        yield Sleep(inf)
    finally:
        with (yield Shield(5)):
            yield Sleep(1)
        kept = [kept]


def cancels(local, scope, seconds=1):
    kept = local()
    yield Sleep(seconds)
    scope.cancel("enough")
    return kept


def cancels_task(local, task, seconds=1):
    kept = local()
    yield Sleep(seconds)
    yield Cancel(task, "enough")
    return kept


def swallows(local):
    kept = local()
    for _ in range(3):
        with suppress(Cancelled):
            yield Sleep(inf)
    return kept


def raises_group(local):
    kept = local()
    try:
        yield Sleep(inf)
    except Cancelled as cancelled:
        error = BaseExceptionGroup("both", [ValueError(kept), cancelled])
    try:
        raise error
    finally:
        del error


CHILDREN = [returns, fails, fails_at_once, waits, fails_in_cleanup, fails_from_cancelled, cleans_up, swallows]


# Scopes.


def a_timeout_passes_in_a_frame_below(local):
    def fetch():
        kept = local()
        with (yield Timeout(1)):
            yield Sleep(5)
        return kept

    try:
        yield from fetch()
    except TimedOut:
        pass


def a_timeout_passes(local):
    kept = local()
    try:
        with (yield Timeout(1)) as scope:
            yield Sleep(5)
    except TimedOut as error:
        assert error.scope is scope and kept


def a_timeout_of_zero_passes(local):
    try:
        with (yield Timeout(0)):
            yield from waits(local)
    except TimedOut:
        pass


def a_timeout_passes_with_a_group_of_errors(local):
    try:
        with (yield Timeout(1)):
            yield from raises_group(local)
    except* ValueError:
        pass


def a_move_on_passes_with_a_group_of_errors(local):
    def below():
        with (yield MoveOnAfter(1)):
            yield from raises_group(local)

    try:
        yield from below()
    except* ValueError:
        pass


def a_move_on_passes(local):
    with (yield MoveOnAfter(1)) as scope:
        yield from waits(local)
    assert scope.cancelled_caught


def a_move_on_passes_unseen(local):
    with (yield MoveOnAfter(1)) as scope:
        with suppress(Cancelled):
            yield from waits(local)
    assert not scope.cancelled_caught


def a_scope_is_cancelled_by_itself(local):
    with (yield CancelScope()) as scope:
        kept = local()
        scope.cancel("enough")
        yield kept and Sleep(1)


def a_scope_is_cancelled_by_a_child(local):
    with (yield CancelScope()) as scope:
        yield Spawn(cancels(local, scope))
        yield from waits(local)


def a_scope_is_cancelled_by_a_child_unseen(local):
    with (yield CancelScope()) as scope:
        yield Spawn(cancels(local, scope))
        yield from swallows(local)


def a_scope_is_cancelled_by_a_child_as_the_block_ends(local):
    with (yield CancelScope()) as scope:
        yield Spawn(cancels(local, scope))
        yield Sleep(1)


def a_scope_is_cancelled_by_a_task_that_lives_on(local):
    def canceller(scope):
        yield Sleep(1)
        scope.cancel()
        return local()

    with (yield CancelScope()) as scope:
        task = yield Spawn(canceller(scope))
        yield from waits(local)
    yield Join(task)
    del task
    return scope


def a_scope_is_cancelled_before_its_with(local):
    scope = yield CancelScope()
    scope.cancel()
    with scope:
        yield from waits(local)


def a_scope_fails(local):
    def below():
        kept = local()
        with (yield CancelScope()) as scope:
            scope.cancel()
            raise ValueError(kept)

    try:
        yield from below()
    except ValueError:
        pass


def a_scope_is_left_with_living_children(local):
    with (yield CancelScope()) as scope:
        yield Spawn(returns(local))
        yield Spawn(waits(local))
        yield
        scope.cancel()
    yield JoinAll()


def an_inner_timeout_passes_with_the_outer_one(local):
    try:
        with (yield Timeout(1)):
            with (yield Timeout(1)):
                yield from waits(local)
    except TimedOut:
        pass


def an_outer_scope_is_cancelled_in_inner_ones(local):
    with (yield CancelScope()) as outer:
        yield Spawn(cancels(local, outer))
        with (yield Timeout(50)), (yield MoveOnAfter(60)):
            yield from waits(local)


def a_shield_hides_a_cancellation(local):
    with (yield MoveOnAfter(1)):
        with (yield Shield(5)):
            kept = local()
            yield Sleep(2)
        yield kept and Sleep(1)


def a_shield_is_lifted(local):
    with (yield MoveOnAfter(1)):
        with (yield Shield(2)):
            yield from waits(local)


def a_shield_in_a_cleanup(local):
    with (yield MoveOnAfter(1)):
        yield from cleans_up(local)


def a_timeout_in_a_shield_passes(local):
    with (yield MoveOnAfter(1)):
        try:
            with (yield Shield(9)), (yield Timeout(3)):
                yield from waits(local)
        except TimedOut:
            pass
        yield from waits(local)


def a_deadline_is_moved(local):
    with (yield CancelScope()) as scope:
        scope.deadline = 1e6
        scope.deadline = 0.0
        yield from waits(local)


def a_timed_out_is_handled_in_a_timeout(local):
    try:
        with (yield Timeout(2)):
            try:
                with (yield Timeout(1)):
                    yield from waits(local)
            except TimedOut:
                yield from waits(local)
    except TimedOut:
        pass


# Tasks.


def a_child_ends_in_each_way(local):
    for child in CHILDREN:
        task = yield Spawn(child(local), keep=True)
        yield Sleep(0.5)
        yield Cancel(task, "enough")
        with suppress(ValueError, KeyError, TaskCancelled):
            yield Join(task)
        task = None


def a_failed_child_is_joined(local):
    try:
        yield Join((yield Spawn(fails(local), keep=True)))
    except ValueError:
        pass


def a_failed_child_is_joined_when_it_is_done(local):
    def below():
        kept = local()
        joined = Join((yield Spawn(fails(local), keep=True)))
        yield Sleep(5)
        call, joined = [joined], None
        yield call.pop()
        return kept

    try:
        yield from below()
    except ValueError:
        pass


def a_failed_child_is_joined_by_two(local):
    def joiner(tasks):
        kept = local()
        with suppress(ValueError):
            yield Join(tasks.pop())
        return kept

    task = yield Spawn(fails(local), keep=True)
    for _ in range(2):
        yield Spawn(joiner([task]))
    del task
    yield JoinAll()


def a_failing_joiner(local):
    def joiner(tasks):
        kept = local()
        yield Join(tasks.pop())
        return kept

    try:
        yield Join((yield Spawn(joiner([(yield Spawn(fails(local), keep=True))]), keep=True)))
    except ValueError:
        pass


def a_cancelled_joiner(local):
    task = yield Spawn(waits(local))
    with (yield MoveOnAfter(1)):
        yield Join(task)
    yield Cancel(task)
    del task


def a_cancelled_child_is_joined(local):
    task = yield Spawn(waits(local))
    yield
    yield Cancel(task, "enough")
    try:
        yield Join(task)
    except TaskCancelled as error:
        assert error.task is task
    del task


def a_child_is_cancelled_before_its_first_turn(local):
    def canceller():
        yield
        return local()

    task = yield Spawn(canceller())
    yield Cancel(task)
    del task


def a_child_fails_and_its_parent(local):
    def parent():
        kept = local()
        yield Spawn(fails(local))
        yield Spawn(fails_in_cleanup(local))
        yield Spawn(cleans_up(local), daemon=True)
        yield from fails_in_cleanup(lambda: [kept])

    try:
        yield Join((yield Spawn(parent(), keep=True)))
    except* (ValueError, KeyError):
        pass


def a_child_times_out(local):
    def child():
        kept = local()
        with (yield Timeout(1)) as scope:
            yield Sleep(5)
        return kept, scope

    with suppress(TimedOut):
        yield Join((yield Spawn(child(), keep=True)))


def a_child_fails_after_its_scopes(local):
    def child():
        kept = local()
        with (yield Timeout(5)) as first:
            yield
        with (yield CancelScope()) as second:
            second.cancel()
        with (yield MoveOnAfter(1)) as third:
            yield Sleep(5)
        raise ValueError(kept, first.deadline, third.cancelled_caught)

    with suppress(ValueError):
        yield Join((yield Spawn(child(), keep=True)))


def a_child_fails_after_it_has_used_primitives(local):
    limiter, permits, lock, again = CapacityLimiter(1), Semaphore(1), Lock(), RLock()
    queue = PriorityQueue(key=id)

    def child():
        kept = local()
        with (yield limiter.acquire()) as token, (yield permits.acquire()) as permit, (yield lock.acquire()) as held:
            with (yield again.acquire()) as once, (yield again.acquire()) as twice:
                yield queue.put(local())
                with suppress(WouldBlock):
                    queue.put_nowait(queue.get_nowait())
                    queue.task_done()
                    yield queue.get()
                    queue.task_done()
                    yield queue.join()
                    queue.get_nowait()
        with (yield Portal()) as portal:
            yield Sleep(1)
        raise ValueError(kept, token.used, permit.used, held.name, once, twice, portal.pending_requests)

    with suppress(ValueError):
        yield Join((yield Spawn(child(), keep=True)))
    return limiter, permits, lock, again, queue


def a_wait_for_a_token_is_cancelled(local):
    limiter = CapacityLimiter(1)
    yield limiter.acquire()
    with (yield MoveOnAfter(1)):
        yield limiter.acquire(borrower=local())
    yield select(limiter.acquire(borrower=local()), Sleep(1))
    limiter.release()
    return limiter


def a_child_cancels_its_own_children_and_fails(local):
    def child():
        kept = local()
        yield Cancel((yield Spawn(fails_in_cleanup(local))))
        yield Cancel((yield Spawn(fails_from_cancelled(local))))
        yield Sleep(1)
        return kept

    try:
        yield Join((yield Spawn(child(), keep=True)))
    except* KeyError:
        pass


def a_daemon_ends_with_its_parent(local):
    def parent():
        yield Spawn(cleans_up(local), daemon=True)
        yield Spawn(fails_in_cleanup(local), daemon=True, keep=True)
        yield
        return local()

    try:
        yield Join((yield Spawn(parent(), keep=True)))
    except* KeyError:
        pass


def a_task_cancels_itself(local):
    def child():
        kept = local()
        yield Cancel((yield CurrentTask()))
        yield kept and Sleep(1)

    with suppress(TaskCancelled):
        yield Join((yield Spawn(child())))


def a_task_raises_cancelled_of_its_own(local):
    def child():
        raise Cancelled(local())
        yield

    with suppress(SyscallError):
        yield Join((yield Spawn(child(), keep=True)))


def a_task_raises_a_group_with_cancelled(local):
    task = yield Spawn(raises_group(local), keep=True)
    yield
    yield Cancel(task, "enough")
    try:
        yield Join([task, task := None][0])
    except* ValueError:
        pass


def a_task_yields_no_syscall(local):
    def child():
        kept = local()
        yield [kept]

    def calls():
        yield kept_call(local())

    for body in (child, calls):
        with suppress(SyscallError, TypeError):
            yield Join((yield Spawn(body(), keep=True)))


def kept_call(kept):
    odd = Odd()
    odd.kept = kept
    return odd


class Odd:
    """No Syscall, but with a `handle`, which takes no arguments; a call of it fails."""

    handle = staticmethod(Sleep(1).__repr__)


def a_task_leaves_a_scope_without_with(local):
    def child():
        kept = local()
        (yield Timeout(5)).__enter__()
        yield Sleep(1)
        return kept

    yield Join((yield Spawn(child())))


def a_task_ends_with_a_kept_task(local):
    """A done task that is kept holds neither its canceller nor its scopes."""

    def child():
        with (yield CancelScope()) as scope:
            yield Spawn(cancels(local, scope))
            yield Sleep(inf)
        yield Sleep(inf)

    task = yield Spawn(child())
    yield Spawn(cancels_task(local, task, 3))
    yield Sleep(5)
    return task


def a_child_swallows_too_many(local):
    def child():
        kept = local()
        while kept:
            with suppress(Cancelled):
                yield Sleep(inf)

    task = yield Spawn(child(), keep=True)
    yield
    yield Cancel(task)
    with suppress(SyscallError):
        yield Join([task, task := None][0])


# Groups.


def one_group(local, *children):
    def body(tasks):
        kept = local()
        for child in children:
            yield tasks.spawn(child(local))
        return kept

    with (yield MoveOnAfter(20)):
        try:
            yield from group(body)
        except* (ValueError, KeyError):
            pass


def one_gather(local, *children):
    with (yield MoveOnAfter(20)):
        with suppress(ValueError, KeyError):
            yield from gather(*(child(local) for child in children))


def one_gather_that_returns_exceptions(local, *children):
    with (yield MoveOnAfter(20)):
        yield from gather(*(child(local) for child in children), return_exceptions=True)


def one_race(local, *children):
    with (yield MoveOnAfter(20)):
        with suppress(ValueError, KeyError):
            yield from race(*(child(local) for child in children))


def one_as_completed(local, *children):
    with (yield MoveOnAfter(20)):
        with suppress(ValueError, KeyError):
            yield from as_completed(*(child(local) for child in children)).for_each(lambda result: [local(), result])


def one_timeout_around_a_gather(local, *children):
    try:
        with (yield Timeout(1)):
            with suppress(ValueError, KeyError):
                yield from gather(*(child(local) for child in children))
    except TimedOut:
        pass


def one_supervision(local, *children):
    for restarts in (0, 2):
        with (yield MoveOnAfter(20)):
            with suppress(LimitExceeded, KeyError):
                makers = [lambda child=child: child(local) for child in children]
                yield from supervise(*makers, restarts=restarts, within=60)


def combinations():
    """Return each kind of group with each pair of children, the second one of those that fail or wait."""
    kinds = [one_group, one_gather, one_gather_that_returns_exceptions, one_race, one_as_completed]
    for kind in (*kinds, one_timeout_around_a_gather, one_supervision):
        for first in CHILDREN:
            for second in (fails, waits, fails_in_cleanup):
                yield kind.__name__, (first.__name__, second.__name__)


def as_completed_is_left_by_an_error(local):
    def work(result):
        raise ValueError(local(), result)

    with suppress(ValueError):
        yield from as_completed(returns(local), waits(local)).for_each(work)


def each_supervision_of_each_child(local):
    for child in CHILDREN:
        for restarts in (0, 2):
            with (yield MoveOnAfter(20)):
                with suppress(LimitExceeded, KeyError):
                    yield from supervise(
                        lambda child=child: child(local), lambda: waits(local), restarts=restarts, within=60
                    )


def a_supervisor_gets_a_bad_maker(local):
    bodies = [fails(local)]
    for restarts in (1, 3):
        with suppress(SyscallError, ValueError, LimitExceeded, IndexError):
            yield from supervise(lambda: bodies[0], restarts=restarts)


def a_group_cancels_itself(local):
    def body(tasks):
        yield tasks.spawn(waits(local))
        yield tasks.spawn(cleans_up(local))
        yield tasks.spawn(cancels(local, tasks))
        yield from waits(local)

    yield from group(body)


def a_group_is_cancelled_from_outside(local):
    def owner():
        kept = local()
        yield from gather(waits(local), cleans_up(local))
        return kept

    task = yield Spawn(owner())
    yield Sleep(1)
    yield Cancel(task)
    with suppress(TaskCancelled):
        yield Join([task, task := None][0])


def groups_are_nested(local):
    def inner(tasks):
        yield tasks.spawn(fails(local))
        yield from gather(waits(local), fails_in_cleanup(local))

    def outer(tasks):
        kept = local()
        yield tasks.spawn(waits(local))
        yield from group(inner)
        return kept

    try:
        yield from group(outer)
    except* (ValueError, KeyError):
        pass


def the_block_of_a_group_fails(local):
    def body(tasks):
        kept = local()
        yield tasks.spawn(waits(local))
        raise ValueError(kept)

    try:
        yield from group(body)
    except* ValueError:
        pass


def the_block_of_a_group_raises_a_group_with_cancelled(local):
    def body(tasks):
        yield tasks.spawn(cancels(local, tasks))
        yield from raises_group(local)

    try:
        yield from group(body)
    except* ValueError:
        pass


def a_group_is_kept_after_its_end(local):
    kept = []

    def body(tasks):
        kept.append(tasks)
        yield tasks.spawn(fails(local))
        yield tasks.spawn(returns(local))

    try:
        yield from group(body)
    except* ValueError:
        pass
    return kept


def an_end_of_as_completed_is_kept(local):
    results = as_completed(fails(local), returns(local, 0.5))
    with suppress(ValueError):
        yield from results.for_each(lambda result: None)
    return results


def a_gather_of_bodies_that_are_no_tasks(local):
    body = waits(local)
    with suppress(SyscallError):
        yield from gather(body, body)
    del body


def one_exception_is_raised_by_many(local):
    error = ValueError(local())

    def child():
        yield Sleep(1)
        raise error

    for _ in range(3):
        with suppress(ValueError):
            yield from gather(child(), child())
    error.__traceback__ = None


# Waits at primitives, and `select`.


def each_wait_at_a_primitive_is_cancelled(local):
    for wait in list(primitive_waits(local)):
        try:
            with (yield Timeout(1)):
                yield wait
        except TimedOut:
            pass
        with (yield MoveOnAfter(1)):
            yield select(wait, SleepUntil(1e9))
        yield select(wait, Sleep(1))
        del wait


class Named(str):
    """A name, with an object that it holds."""


def primitive_waits(local):
    """Return a wait at each primitive."""

    def name():
        named = Named("named")
        named.kept = local()
        return named

    queue = Queue(0, name=name())
    return [
        Event(name()).wait(),
        queue.get(),
        queue.put(local()),
        Semaphore(0, name=name()).acquire(),
        Barrier(2, name=name()).wait(),
    ]


def a_wait_for_a_lock_is_cancelled(local):
    lock = Lock()

    def owner():
        with (yield lock.acquire()):
            yield from returns(local, 9)

    task = yield Spawn(owner())
    yield
    for _ in range(2):
        with (yield MoveOnAfter(1)):
            yield lock.acquire()
        yield select(lock.acquire(), Sleep(1))
    yield Join(task)
    del task
    return lock


def a_lock_is_abandoned(local):
    lock = Lock()

    def owner():
        kept = local()
        yield lock.acquire()
        yield Sleep(2)
        return kept

    yield Spawn(owner())
    yield
    for _ in range(2):
        with suppress(SyscallError):
            yield lock.acquire()


def a_wait_for_a_condition_is_cancelled(local):
    condition = Condition()

    def waiter():
        kept = local()
        with (yield condition.acquire()):
            yield from condition.wait()
        return kept

    def predicate():
        raise ValueError(local())

    for _ in range(2):
        with (yield MoveOnAfter(1)):
            yield from waiter()
    with suppress(ValueError):
        with (yield condition.acquire()):
            yield from condition.wait_for(predicate)
    with suppress(SyscallError):
        yield from condition.wait()
    return condition


def a_queue_is_closed(local):
    queue = Queue(1)

    def getter():
        kept = local()
        with suppress(ClosedError):
            yield queue.get()
        return kept

    def putter():
        with suppress(ClosedError):
            while True:
                yield queue.put(local())

    yield Spawn(getter())
    yield Spawn(putter())
    yield Spawn(putter())
    yield Sleep(1)
    queue.close()
    yield from queue.for_each(lambda item: None)
    for call in (queue.get(), queue.put(local())):
        with suppress(ClosedError):
            yield call
        del call
    with suppress(ClosedError):
        yield queue.get()
    return queue


def the_work_of_for_each_fails(local):
    queue = Queue()

    def work(item):
        raise ValueError(local(), item)
        yield

    queue.put_nowait(local())
    with suppress(ValueError):
        yield from queue.for_each(work)
    return queue


def a_subscriber_lags(local):
    broadcast = Broadcast(1)
    with broadcast.subscribe() as news:
        with (yield MoveOnAfter(1)):
            yield news.get()
        for _ in range(3):
            broadcast.publish(local())
        with suppress(Lagged):
            yield news.get()
        yield news.get()
        yield Spawn(cancels_later(local, broadcast))
        with suppress(ClosedError):
            yield news.get()
    return news


def cancels_later(local, broadcast):
    yield Sleep(1)
    broadcast.items.clear()
    broadcast.close()
    return local()


def a_select_has_a_failing_branch(local):
    event, queue = Event(), Queue()

    def closer():
        yield Sleep(1)
        queue.close()
        return local()

    yield Spawn(closer())
    with suppress(ClosedError):
        yield select(event.wait(), queue.get(), Sleep(5))
    with suppress(ValueError):
        yield select(event.wait(), Join((yield Spawn(fails(local), keep=True))))
    return event, queue


def a_select_of_two_joins(local):
    yield select(Join((yield Spawn(returns(local, 2)))), Join((yield Spawn(returns(local, 1)))))
    with (yield MoveOnAfter(1)):
        yield select(Join((yield Spawn(returns(local, 5)))), Join((yield Spawn(cleans_up(local)))))
    yield JoinAll()


def a_semaphore_hands_over(local):
    semaphore = Semaphore(1)

    def holder():
        kept = local()
        with (yield semaphore.acquire()):
            yield Sleep(1)
        return kept

    yield from gather(holder(), holder(), holder())
    return semaphore


# Threads.


def a_thread_answers(local):
    yield InThread(lambda: local())


def a_thread_fails(local):
    def call():
        kept = local()
        raise ValueError(kept)

    def below():
        kept = local()
        yield InThread(call)
        return kept

    with suppress(ValueError):
        yield from below()


def a_thread_raises_stop_iteration(local):
    def call():
        kept = local()
        raise StopIteration(kept)

    with suppress(RuntimeError):
        yield InThread(call)


class Executor:
    """Makes each call at once."""

    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        try:
            return future
        finally:
            del future


def a_submitted_call_fails(local):
    def call():
        kept = local()
        raise ValueError(kept)

    with suppress(ValueError):
        yield Submit(Executor(), call)
    yield Submit(Executor(), local)


class Last:
    """Sets an event when it is freed."""

    def __init__(self, ended):
        self.ended = ended

    def __del__(self):
        self.ended.set()


def an_abandoned_thread_fails(local):
    go, ended = threading.Event(), threading.Event()

    def call(last):
        kept = local()
        go.wait(20)
        raise ValueError(kept)

    with (yield MoveOnAfter(1)):
        yield InThread(call, Last(ended), abandon=True)
    go.set()
    yield InThread(ended.wait, 20)


def a_portal_fails_and_answers(local):
    def in_thread(portal):
        kept = local()
        with suppress(ValueError):
            portal.call(raise_it)
        with suppress(ValueError):
            portal.spawn(fails, local, 0).result()
        portal.spawn(returns, local, 0).result()
        return kept

    def raise_it():
        raise ValueError(local())

    with (yield Portal()) as portal:
        yield InThread(in_thread, portal)
    return portal


HELPERS = ["cancels", "cancels_later", "cancels_task", "raises_group"]
ENDINGS = [
    "a_timeout_passes_in_a_frame_below",
    "a_timeout_passes",
    "a_timeout_of_zero_passes",
    "a_timeout_passes_with_a_group_of_errors",
    "a_move_on_passes_with_a_group_of_errors",
    "a_move_on_passes",
    "a_move_on_passes_unseen",
    "a_scope_is_cancelled_by_itself",
    "a_scope_is_cancelled_by_a_child",
    "a_scope_is_cancelled_by_a_child_unseen",
    "a_scope_is_cancelled_by_a_child_as_the_block_ends",
    "a_scope_is_cancelled_by_a_task_that_lives_on",
    "a_scope_is_cancelled_before_its_with",
    "a_scope_fails",
    "a_scope_is_left_with_living_children",
    "an_inner_timeout_passes_with_the_outer_one",
    "an_outer_scope_is_cancelled_in_inner_ones",
    "a_shield_hides_a_cancellation",
    "a_shield_is_lifted",
    "a_shield_in_a_cleanup",
    "a_timeout_in_a_shield_passes",
    "a_deadline_is_moved",
    "a_timed_out_is_handled_in_a_timeout",
    "a_child_ends_in_each_way",
    "a_failed_child_is_joined",
    "a_failed_child_is_joined_when_it_is_done",
    "a_failed_child_is_joined_by_two",
    "a_failing_joiner",
    "a_cancelled_joiner",
    "a_cancelled_child_is_joined",
    "a_child_is_cancelled_before_its_first_turn",
    "a_child_fails_and_its_parent",
    "a_child_times_out",
    "a_child_fails_after_its_scopes",
    "a_child_fails_after_it_has_used_primitives",
    "a_wait_for_a_token_is_cancelled",
    "a_child_cancels_its_own_children_and_fails",
    "a_daemon_ends_with_its_parent",
    "a_task_cancels_itself",
    "a_task_raises_cancelled_of_its_own",
    "a_task_raises_a_group_with_cancelled",
    "a_task_yields_no_syscall",
    "a_task_leaves_a_scope_without_with",
    "a_task_ends_with_a_kept_task",
    "a_child_swallows_too_many",
    "as_completed_is_left_by_an_error",
    "each_supervision_of_each_child",
    "a_supervisor_gets_a_bad_maker",
    "a_group_cancels_itself",
    "a_group_is_cancelled_from_outside",
    "groups_are_nested",
    "the_block_of_a_group_fails",
    "the_block_of_a_group_raises_a_group_with_cancelled",
    "a_group_is_kept_after_its_end",
    "an_end_of_as_completed_is_kept",
    "a_gather_of_bodies_that_are_no_tasks",
    "one_exception_is_raised_by_many",
    "each_wait_at_a_primitive_is_cancelled",
    "a_wait_for_a_lock_is_cancelled",
    "a_lock_is_abandoned",
    "a_wait_for_a_condition_is_cancelled",
    "a_queue_is_closed",
    "the_work_of_for_each_fails",
    "a_subscriber_lags",
    "a_select_has_a_failing_branch",
    "a_select_of_two_joins",
    "a_semaphore_hands_over",
    "a_thread_answers",
    "a_thread_fails",
    "a_thread_raises_stop_iteration",
    "a_submitted_call_fails",
    "an_abandoned_thread_fails",
    "a_portal_fails_and_answers",
]
