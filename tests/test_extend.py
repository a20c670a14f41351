"""The five syscalls of demos/extend: each one works, and each wrong variant is detected."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from programs import ROOT, finished

from minisched import (
    Cancel,
    Cancelled,
    ClosedError,
    CurrentTask,
    Join,
    Now,
    Sleep,
    Spawn,
    TaskCancelled,
    Timers,
    gather,
)
from minisched.lab import leftovers
from minisched.testing import cancel_everywhere, run

FOLDER = ROOT / "demos" / "extend"
sys.path.insert(0, str(FOLDER))  # as for each of these files when it is run

import checked  # noqa: E402
import child_process  # noqa: E402
import cron  # noqa: E402
import directory_watcher  # noqa: E402
import lookup  # noqa: E402
import rate_limiter  # noqa: E402
import topics  # noqa: E402
import worker_pool  # noqa: E402
import zipped  # noqa: E402

LOADED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a slow machine is not a failure
WRONG = {
    (rate_limiter, "Forgetful"): "the undo given to `kernel.park` does not undo the wait",
    (directory_watcher, "LeftBehind"): "which was woken: remove the task from the service before you resume it",
    (worker_pool, "Hasty"): "was woken while it is ready, not parked",
    (cron, "Remembering"): "`handle` changed the syscall itself",
    (topics, "Stubborn"): "a cancellation did not wake it: park it with an undo",
    (child_process, "Leaky"): "when it is cancelled while parked, and completed later, it has left descriptor",
    (lookup, "WokenInAThread"): "thread",
    (zipped, "Deaf"): "Poller still holds its task, which was cancelled",
}
MODULES = [module for module, _ in WRONG]
names = [module.__name__ for module in MODULES]


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES, ids=names)
def test_a_file_prints_its_golden_output(module, golden):
    done = finished(f"demos/extend/{module.__name__}.py")
    assert (done.returncode, done.stderr) == (0, "")
    golden(done.stdout, f"extend/{module.__name__}")


@pytest.mark.parametrize(("module", "wrong"), WRONG, ids=names)
def test_check_syscall_passes_the_syscall_and_names_the_mistake_of_the_variant(module, wrong, monkeypatch):
    for right in module.CHECKED.keys() - {wrong}:
        assert checked.verdict(module.CHECKED[right]) == "passes"
    monkeypatch.setattr(leftovers, "GRACE_SECONDS", 0.05)  # a leak does not end by itself
    assert WRONG[module, wrong] in checked.verdict(module.CHECKED[wrong])


def test_every_file_of_the_folder_is_tested():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"checked"}
    assert files == set(names)


@pytest.mark.slow
def test_checked_can_be_run_for_any_file():
    done = finished("demos/extend/checked.py", "demos/extend/cron.py")
    assert done.returncode == 0 and "At: passes" in done.stdout
    assert finished("demos/extend/checked.py").returncode == 2


# The rate limiter.


def taking(bucket, log, tokens=1):
    yield bucket.acquire(tokens)
    log.append((yield Now()))


def test_a_bucket_gives_available_tokens_only_and_in_fifo_order():
    log = []

    def main():
        bucket = rate_limiter.Bucket(rate=10, capacity=4)
        for number, tokens in enumerate((3, 4, 1, 1)):
            yield Spawn(taking(bucket, log, tokens), str(number))

    run(main())
    assert log == pytest.approx(
        [0, 0.3, 0.4, 0.5]
    )  # the tasks that want one token wait behind the task that wants four


def test_a_cancelled_task_takes_no_token_and_delays_no_other_task():
    log = []

    def main():
        bucket = rate_limiter.Bucket(rate=1, capacity=3)
        yield bucket.acquire(3)
        greedy = yield Spawn(taking(bucket, log, 3), keep=True)
        yield Spawn(taking(bucket, log))
        yield Sleep(0.5)
        yield Cancel(greedy)

    run(main())
    assert log == [1.0]


def test_a_bucket_is_full_at_first_and_after_a_pause_and_never_holds_more():
    log = []

    def main():
        bucket = rate_limiter.Bucket(rate=1, capacity=2)
        yield Sleep(100)
        for _ in range(3):
            yield from taking(bucket, log)

    run(main())
    assert log == [100, 100, 101]


def test_a_bucket_is_full_again_in_the_next_run():
    bucket = rate_limiter.Bucket(rate=1, capacity=1)
    for _ in range(2):
        log = []
        run(taking(bucket, log))
        assert log == [0]


@settings(LOADED, max_examples=40)
@given(
    rate=some.floats(0.1, 1000), capacity=some.integers(1, 20),
    requests=some.lists(some.tuples(some.integers(1, 20), some.floats(0, 5)), max_size=20),
)  # fmt: skip
def test_in_no_interval_are_there_more_tokens_than_rate_and_capacity_allow(rate, capacity, requests):
    taken_at = []

    def one(bucket, tokens, begin):
        yield Sleep(begin)
        yield bucket.acquire(tokens)
        taken_at.append(((yield Now()), tokens))

    def main():
        bucket = rate_limiter.Bucket(rate, capacity)
        for tokens, begin in requests:
            yield Spawn(one(bucket, min(tokens, capacity), begin))

    run(main())
    assert len(taken_at) == len(requests)
    for first, (begin, _) in enumerate(taken_at):
        total = 0
        for end, tokens in taken_at[first:]:
            total += tokens
            assert total <= capacity + rate * (end - begin) + 1e-6


@pytest.mark.parametrize(("rate", "capacity"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1), (float("inf"), 1)])
def test_a_rate_or_capacity_that_is_not_positive_and_finite_is_refused(rate, capacity):
    with pytest.raises(ValueError, match="above 0"):
        rate_limiter.Bucket(rate, capacity)


@pytest.mark.parametrize("tokens", [0, -1, 4])
def test_a_number_of_tokens_that_the_bucket_can_never_hold_is_refused(tokens):
    with pytest.raises(ValueError, match="holds at most 3 tokens"):
        run(taking(rate_limiter.Bucket(1, 3), [], tokens))


def test_a_bucket_works_after_a_cancellation_at_any_moment():
    def main():
        bucket = rate_limiter.Bucket(rate=1)
        yield from gather(*(taking(bucket, []) for _ in range(3)))
        yield bucket.acquire()

    cancel_everywhere(main)


# The directory watcher.


def change(path, *steps):
    """Do the steps, one per second."""
    for step in steps:
        yield Sleep(1)
        step(path)


def watched(path, *steps, every=0.25, times=None):
    """Return the changes seen by a task that waits all the time, until all steps are done."""

    def main():
        directory = directory_watcher.Directory(path, every)
        yield Spawn(change(path, *steps))
        seen = []
        for _ in range(times or len(steps)):
            changes = yield directory_watcher.Changed(directory)
            seen.append(((yield Now()), *changes))
        return seen

    return run(main())


def test_created_written_and_removed_files_are_reported(tmp_path):
    seen = watched(
        tmp_path,
        lambda path: (path / "b").write_text("1"),
        lambda path: (path / "a").write_text("1"),
        lambda path: (path / "b").write_text("22"),
        lambda path: (path / "a").rename(path / "c"),
        lambda path: (path / "c").unlink(),
    )
    assert [changes for _, *changes in seen] == [
        [("b",), (), ()], [("a",), (), ()], [(), ("b",), ()], [("c",), (), ("a",)], [(), (), ("c",)],
    ]  # fmt: skip


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_reported(tmp_path):
    (tmp_path / "a").write_text("1")
    status = os.stat(tmp_path / "a")

    def replace(path):
        (path / "new").write_text("2")
        os.utime(path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
        (path / "new").replace(path / "a")

    ((_, *changes),) = watched(tmp_path, replace)
    assert changes == [(), ("a",), ()]


def test_changes_between_two_waits_are_returned_at_once_by_the_next_wait(tmp_path):
    def main():
        directory = directory_watcher.Directory(tmp_path)
        (tmp_path / "a").write_text("1")
        yield Sleep(10)
        return (yield directory_watcher.Changed(directory)).created, (yield Now())

    assert run(main()) == (("a",), 10)


def test_all_waiting_tasks_get_the_same_changes(tmp_path):
    def one(directory):
        return (yield directory_watcher.Changed(directory))

    def main():
        directory = directory_watcher.Directory(tmp_path)
        yield Spawn(change(tmp_path, lambda path: (path / "a").write_text("1")))
        return (yield from gather(*(one(directory) for _ in range(3))))

    assert {changes.created for changes in run(main())} == {("a",)}


def test_a_removed_directory_is_an_error_for_a_waiting_task(tmp_path):
    path = tmp_path / "inbox"
    path.mkdir()
    with pytest.raises(FileNotFoundError):
        watched(path, lambda path: path.rmdir())
    with pytest.raises(FileNotFoundError):
        directory_watcher.Directory(path)


def test_an_interval_of_zero_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has to be above 0"):
        directory_watcher.Directory(tmp_path, every=0)


# The pool of workers.


def working(seconds, result, log=None):
    yield Sleep(seconds)
    if log is not None:
        log.append(result)
    return result


def test_the_most_urgent_job_runs_first_and_equal_ones_in_fifo_order():
    log = []

    def main():
        pool = yield from worker_pool.start_pool(1)
        jobs = [("a", 2), ("b", 3), ("c", 1), ("d", 3), ("e", 1)]
        yield from gather(*(one(pool, name, priority) for name, priority in jobs))

    def one(pool, name, priority):
        return (yield worker_pool.Work(pool, working(1, name, log), priority))

    run(main())
    assert log == ["a", "c", "e", "b", "d"]


def test_as_many_jobs_run_at_once_as_there_are_workers():
    def one(pool):
        yield worker_pool.Work(pool, working(1, None))
        return (yield Now())

    def main():
        pool = yield from worker_pool.start_pool(3)
        return (yield from gather(*(one(pool) for _ in range(7))))

    assert run(main()) == [1, 1, 1, 2, 2, 2, 3]


def test_an_exception_of_a_job_is_raised_in_the_submitting_task_and_the_worker_continues():
    def broken():
        yield
        raise ValueError("no luck")

    def main():
        pool = yield from worker_pool.start_pool(1)
        with pytest.raises(ValueError, match="no luck"):
            yield worker_pool.Work(pool, broken())
        return (yield worker_pool.Work(pool, working(1, "done")))

    assert run(main()) == "done"


def test_an_abandoned_job_is_cancelled_or_never_starts():
    log = []

    def job(name):
        try:
            log.append(f"{name} starts")
            yield Sleep(10)
        except Cancelled:
            log.append(f"{name} cancelled")
            raise

    def one(pool, name):
        yield worker_pool.Work(pool, job(name))

    def main():
        pool = yield from worker_pool.start_pool(1)
        tasks = []
        for name in "ab":
            tasks.append((yield Spawn(one(pool, name), keep=True)))
        yield Sleep(1)
        for task in reversed(tasks):
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)
        return (yield worker_pool.Work(pool, working(1, "done")))

    assert run(main()) == "done"
    assert log == ["a starts", "a cancelled"]


def test_waiting_tasks_get_an_error_when_the_workers_have_ended():
    def owner(box):
        box.append((yield from worker_pool.start_pool(1)))
        yield Sleep(5)

    def one(pool):
        with pytest.raises(ClosedError) as raised:
            yield worker_pool.Work(pool, working(100, None))
        return str(raised.value), (yield Now())

    def main():
        box = []
        yield Spawn(owner(box))
        yield
        yield
        (running, _), (waiting, when) = yield from gather(one(box[0]), one(box[0]))
        assert "was cancelled while it ran working" in running
        assert "have ended" in waiting and when == 5
        yield from one(box[0])

    run(main())


def test_a_pool_without_workers_is_refused():
    with pytest.raises(ValueError, match="at least one worker"):
        run(worker_pool.start_pool(0))


def test_a_pool_works_after_a_cancellation_at_any_moment():
    def one(pool, number):
        return (yield worker_pool.Work(pool, working(1, number)))

    def main():
        pool = yield from worker_pool.start_pool(2)
        assert (yield from gather(*(one(pool, number) for number in range(3)))) == [0, 1, 2]

    cancel_everywhere(main, expected=(ClosedError,))  # where the workers are cancelled


# The wall clock.

MOMENTS = some.datetimes(datetime(2023, 1, 1), datetime(2029, 1, 1))


def field(low, high):
    """Return a strategy for expressions of a field."""
    number = some.integers(low, high)
    span = some.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    stepped = some.tuples(some.one_of(some.just("*"), span), some.integers(1, 30)).map(lambda p: f"{p[0]}/{p[1]}")
    one = some.one_of(number.map(str), span, stepped)
    return some.one_of(some.just("*"), some.lists(one, min_size=1, max_size=3).map(",".join))


EXPRESSIONS = some.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)).map(" ".join)


def field_matches(text, value, low, high):
    """Return whether a value matches a field, in the plainest way."""
    for part in text.split(","):
        span, _, step = part.partition("/")
        begin, _, end = span.partition("-")
        begin, end = (low, high) if span == "*" else (int(begin), int(end or (high if step else begin)))
        if begin <= value <= end and (value - begin) % int(step or 1) == 0:
            return True
    return False


def matches(expression, moment):
    """Return whether a minute matches an expression."""
    minute, hour, day, month, weekday = expression.split()
    by_month = field_matches(day, moment.day, 1, 31)
    by_week = any(field_matches(weekday, number, 0, 7) for number in {moment.isoweekday(), moment.isoweekday() % 7})
    either = not day.startswith("*") and not weekday.startswith("*")
    return (
        field_matches(minute, moment.minute, 0, 59)
        and field_matches(hour, moment.hour, 0, 23)
        and field_matches(month, moment.month, 1, 12)
        and (by_month or by_week if either else by_month and by_week)
    )


@settings(LOADED, max_examples=15)
@given(EXPRESSIONS, MOMENTS)
def test_the_next_time_matches_and_no_minute_before_it_does(expression, moment):
    try:
        schedule = cron.Schedule(expression)
    except ValueError:
        return  # with steps, the day of the month and the day of the week may never coincide
    due = schedule.next_after(moment)
    assert due > moment and due.second == due.microsecond == 0 and matches(expression, due)
    minute = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    two_days_later = minute + timedelta(days=2)
    while minute < min(due, two_days_later):
        assert not matches(expression, minute), minute
        minute += timedelta(minutes=1)


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("0 0 29 2 *", datetime(2096, 3, 1), datetime(2104, 2, 29)),  # 2100 has none
        ("* * 1 5 */7", datetime(2023, 1, 1), datetime(2033, 5, 1)),  # both kinds of day, since one begins with a star
        ("0 0 29 2 */7", datetime(2088, 3, 1), datetime(2128, 2, 29)),  # on a Sunday
        ("0 0 1 jan *", datetime(2027, 1, 1), datetime(2028, 1, 1)),
        ("5/20 * * * *", datetime(2027, 1, 1, 0, 26), datetime(2027, 1, 1, 0, 45)),
        ("0 0 * * 7", datetime(2027, 1, 1), datetime(2027, 1, 3)),
        ("0 0 31 * *", datetime(2027, 1, 31), datetime(2027, 3, 31)),
        ("59 23 31 12 *", datetime(2027, 12, 31, 23, 58, 59, 999999), datetime(2027, 12, 31, 23, 59)),
    ],
)
def test_the_next_time_in_hard_cases(expression, after, due):
    assert cron.Schedule(expression).next_after(after) == due


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("* * * *", "has 4 fields"),
        ("60 * * * *", "minute: '60'"),
        ("* 24 * * *", "hour: '24'"),
        ("* * 0 * *", "day of the month: '0'"),
        ("* * * juni *", "month: 'juni'.*or one of jan"),
        ("* * * * 8", "day of the week: '8'"),
        ("*/0 * * * *", "minute: '0' in .* is not a step"),
        ("*/ * * * *", "minute: '' in .* is not a step"),
        ("9-5 * * * *", "goes backwards"),
        ("1,,2 * * * *", "minute: ''"),
        ("-5 * * * *", "minute: ''"),
        ("0 0 30 2 *", "never comes"),
    ],
)
def test_a_wrong_expression_raises_an_error_that_names_the_field(expression, message):
    with pytest.raises(ValueError, match=message):
        cron.At(expression)


def test_no_minute_comes_twice_or_early():
    def main():
        yield cron.SetClock(datetime(2027, 1, 1, 0, 0, 30))
        seen = []
        for _ in range(3):
            seen.append((yield cron.At("* * * * *")))
        return seen, (yield Now())

    assert run(main()) == ([datetime(2027, 1, 1, 0, minute) for minute in (1, 2, 3)], 150)


@pytest.mark.parametrize(("jump", "when"), [(timedelta(hours=-1), 3600 + 3600), (timedelta(hours=3), 120)])
def test_a_wait_follows_a_wall_clock_that_is_set(jump, when):
    def set_clock():
        yield Sleep(90)
        yield cron.SetClock(datetime(2027, 1, 1, 11, 0) + timedelta(seconds=90) + jump)

    def main():
        yield cron.SetClock(datetime(2027, 1, 1, 11))
        yield Spawn(set_clock())
        due = yield cron.At("0 12 * * *")
        return due, (yield Now())

    assert run(main()) == (datetime(2027, 1, 1, 12), when)


def test_the_wall_clock_is_by_default_the_clock_of_the_machine():
    def main():
        kernel = (yield CurrentTask()).kernel
        return kernel.service(cron.WallClock).read

    assert run(main()) == datetime.now


# The topics.


def test_all_subscribers_get_each_item_in_order():
    def reader(log):
        with (yield topics.Subscribe("news")) as subscription:
            while (item := (yield subscription.next()).item) is not None:
                log.append(item)

    def main():
        logs = [], []
        for log in logs:
            yield Spawn(reader(log))
        yield
        for item in (1, 2, 3, None):
            assert (yield topics.Publish("news", item)) == 2
        assert (yield topics.Publish("weather", "rain")) == 0
        return logs

    assert run(main()) == ([1, 2, 3], [1, 2, 3])


def test_a_slow_subscriber_loses_the_oldest_items_and_gets_their_number():
    def main():
        with (yield topics.Subscribe("news", 2)) as subscription:
            for number in range(5):
                yield topics.Publish("news", number)
            return [(yield subscription.next()), (yield subscription.next())]

    assert run(main()) == [(3, 3), (4, 0)]


def test_an_item_given_to_a_task_before_its_cancellation_is_delivered():
    received = []

    def reader(subscription):
        received.append((yield subscription.next()).item)
        yield

    def main():
        with (yield topics.Subscribe("news")) as subscription:
            task = yield Spawn(reader(subscription), keep=True)
            yield
            topics_of = (yield CurrentTask()).kernel.service(topics.Topics)
            topics_of.publish("news", 1)
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)

    run(main())
    assert received == [1]


def test_an_ended_subscription_is_removed_and_raises_an_error_in_its_waiter():
    def reader(subscription):
        with pytest.raises(ClosedError, match="has ended"):
            yield subscription.next()

    def main():
        kernel = (yield CurrentTask()).kernel
        subscription = yield topics.Subscribe("news")
        yield Spawn(reader(subscription))
        yield
        subscription.end()
        subscription.end()
        yield from reader(subscription)
        assert kernel.service(topics.Topics).by_name == {}

    run(main())


def test_a_subscription_of_size_zero_is_refused():
    with pytest.raises(ValueError, match="at least one item"):
        topics.Subscribe("news", 0)


def test_no_timer_is_left_after_a_cancelled_wait(tmp_path):
    """Cancel each kind of wait: a timer that is left would keep the run alive."""

    def main():
        kernel = (yield CurrentTask()).kernel
        calls = [
            rate_limiter.Bucket(0.001).acquire(),
            directory_watcher.Changed(directory_watcher.Directory(tmp_path)),
            cron.At("0 0 1 1 *"),
        ]
        yield calls[0].bucket.acquire()
        for call in calls:
            task = yield Spawn(yielding(call), keep=True)
            yield
            yield Cancel(task)
            yield
        return [*kernel.service(Timers).alive()]

    assert run(main()) == []


def yielding(call):
    yield call
