"""Exhaustive exploration: it finds each mistake of the corpus, ends on the right variants, and loses no order."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest
from corpus import CORPUS
from corpus.generated import plan, program
from corpus.reported import Victims, cancelled_later

from minisched import (
    Barrier,
    Broadcast,
    Cancel,
    CancelScope,
    CapacityLimiter,
    Condition,
    CurrentTask,
    Event,
    Join,
    JoinAll,
    LifoQueue,
    Lock,
    MoveOnAfter,
    Now,
    Primitive,
    PriorityQueue,
    Queue,
    RLock,
    Semaphore,
    Sleep,
    Spawn,
    SyscallError,
    Timeout,
    Timers,
    as_completed,
    gather,
    group,
    race,
    run,
    select,
)
from minisched.kernel import Task
from minisched.lab import BadCheckpoint, Shared, check_reduction, explore, together
from minisched.lab.explore import schedule
from minisched.lab.explore.exhaustive import ALL, RACES, SLEEP_SETS, Search
from minisched.lab.explore.footprints import Footprints
from minisched.lab.explore.tracking import only_counts, tracked
from minisched.tasks.gather import CollectAll, Completions, FailFast, Race
from minisched.tasks.scopes import ScopeContext
from minisched.tasks.supervision import Supervision
from minisched.tasks.taskgroup import TaskGroup


def name_of(case):
    return getattr(case.program, "__name__", None) or f"{case.program.args[0]}_philosophers"


SMALL = [case for case in CORPUS if case.space < 1000]
LARGE = [case for case in CORPUS if case.space >= 1000]


# The corpus.


@pytest.mark.parametrize("case", [*SMALL, *(pytest.param(case, marks=pytest.mark.slow) for case in LARGE)], ids=name_of)
def test_the_mistake_is_found_and_the_program_without_it_is_exhausted(case):
    assert explore(case.wrong, runs=1).schedule is None, "round robin shows the mistake"
    found = explore(case.wrong, exhaustive=True, runs=case.budget)
    assert found.schedule is not None and not found.exhausted
    again = explore(case.wrong, schedule=found.schedule)
    assert type(again.error) is type(found.error)
    right = explore(case.right, exhaustive=True, runs=case.space)
    assert (right.schedule, right.exhausted, right.left) == (None, True, 0)


@pytest.mark.parametrize("case", CORPUS, ids=name_of)
def test_the_portfolio_finds_the_mistake_too(case):
    assert explore(case.wrong, runs=5000).schedule is not None


@pytest.mark.parametrize("case", SMALL, ids=name_of)
@pytest.mark.slow
def test_three_searches_of_the_corpus_agree(case):
    result = check_reduction(case.wrong, runs=3000)
    assert result.agrees is not False, result
    assert result.complete[RACES] and result.complete[SLEEP_SETS]
    assert result.traces[RACES] == result.traces[SLEEP_SETS]
    assert result.runs[SLEEP_SETS] <= 2 * len(result.traces[SLEEP_SETS])  # few are run twice


# Random programs.


def differing(seeds, tasks, length, runs):
    """Compare the searches of random programs; return how many could be compared, and the plans that differ."""
    compared, different = 0, []
    for seed in seeds:
        result = check_reduction(program(plan(seed, tasks, length)), runs=runs)
        compared += result.agrees is not None
        if result.agrees is False:
            different.append((seed, plan(seed, tasks, length), str(result)))
    return compared, different


def test_three_searches_of_a_few_random_programs_agree():
    compared, different = differing(range(30), 2, 1, 200)
    assert different == [] and compared >= 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "tasks", "length", "runs", "least"),
    [
        *((range(45 * part, 45 * (part + 1)), 2, 1, 400, 30) for part in range(6)),
        (range(20), 2, 2, 500, 8),
        (range(20, 40), 2, 2, 500, 8),
        (range(20), 3, 1, 700, 4),
    ],
)
def test_three_searches_of_200_random_programs_agree(seeds, tasks, length, runs, least):
    compared, different = differing(seeds, tasks, length, runs)
    assert different == [] and compared >= least  # the others have more orders than that


def cancel_and_child(fixed=True):
    """A cancellation touches a child that has ended, too: in the other order, the child would have been cancelled."""

    def child():
        yield

    def parent():
        yield Spawn(child())
        yield

    def main():
        tasks = yield Victims(parent())
        yield from together(cancelled_later(tasks[0], 0))

    return main()


def daemon_and_parent():
    """The end of a daemon and that of its parent's body do not commute: the second may cancel the first."""

    def daemon():
        yield

    def parent():
        yield Spawn(daemon(), daemon=True)
        yield

    def main():
        yield from together(parent())

    return main()


def last_end_and_another():
    """The consequence of the last of two ends races with a task that the first of them has woken."""
    event, shared = Event(), Shared(seen=None)

    def setter():
        event.set()
        return
        yield

    def parent():
        yield Spawn(setter())
        yield Spawn(pause_once())

    def pause_once():
        yield

    def main():
        tasks = yield Victims(parent())
        yield event.wait()
        shared.seen = tasks[0].state

    return main()


def two_joins():
    def child():
        yield

    def main():
        first, second = yield Victims(child(), child())
        yield select(Join(first), Join(second))

    return main()


def deadlines():
    """A sleep and a scope with the same deadline: their timers fire in the order of their creation."""
    event = Event()

    def sleeper():
        yield Sleep(1)

    def parent():
        with (yield MoveOnAfter(1)):
            yield Spawn(sleeper())
            yield event.wait()

    def main():
        yield from together(parent(), sleeper())

    return main()


@pytest.mark.parametrize("make", [cancel_and_child, daemon_and_parent, last_end_and_another, two_joins, deadlines])
def test_three_searches_of_a_hard_program_agree(make):
    result = check_reduction(make, runs=3000)
    assert result.agrees, result
    assert len(result.traces[ALL]) > 1 or make is deadlines


# Programs that are right in one order only, for a reason that is easily overlooked.


def first_failure():
    def child(number):
        yield
        raise ValueError(number)

    def parent():
        yield Victims(child(1), child(2))

    def main():
        (task,) = yield Victims(parent())
        try:
            yield Join(task)
        except ExceptionGroup as failures:
            assert [error.args for error in failures.exceptions] == [(1,), (2,)]

    return main()


def first_winner():
    def child(number):
        yield
        return number

    def main():
        assert (yield from race(child(1), child(2))) == 1

    return main()


def first_completion():
    def child(number):
        yield
        return number

    def main():
        numbers = []
        yield from as_completed(child(1), child(2)).for_each(numbers.append)
        assert numbers == [1, 2]

    return main()


def first_timer():
    """A callback and a timeout at the same time: the timer that was created first fires first."""
    event = Event()

    def set_it(kernel):
        timers = kernel.service(Timers)
        timers.call_at(timers.now() + 1, lambda: event.set())  # which touches the event when it fires
        return
        yield

    def wait():
        with (yield Timeout(1)):
            yield event.wait()

    def main():
        kernel = (yield CurrentTask()).kernel
        yield from together(set_it(kernel), wait())

    return main()


def scope_that_was_left():
    shared = Shared(scope=None)

    def cancelled():
        with (yield CancelScope()) as scope:
            shared.scope = scope
            scope.cancel()
            yield
        yield

    def look():
        for _ in range(4):
            yield
        assert shared.scope is None or shared.scope.cancelled_caught

    def main():
        yield from together(cancelled(), look())

    return main()


def last_deadline():
    def main():
        with (yield MoveOnAfter(20)) as scope:

            def move(deadline):
                scope.deadline = deadline
                yield

            yield from gather(move(5.0), move(10.0))
            yield Sleep(30)
        assert (yield Now()) == 10

    return main()


def deleted_attribute(look):
    def program():
        shared = Shared(value=1)

        def delete():
            yield
            del shared.value

        def read():
            yield
            assert not look(shared)

        def main():
            yield from together(delete(), read())

        return main()

    return program


def state_of_a_task(look):
    def program():
        def child():
            yield

        def main():
            (task,) = yield Victims(child())
            yield from together(reader(task))

        def reader(task):
            yield
            assert look(task)

        return main()

    return program


LOOKS = {
    "hasattr": deleted_attribute(lambda shared: hasattr(shared, "value")),
    "repr of a Shared": deleted_attribute(lambda shared: "value" in repr(shared)),
    "vars": deleted_attribute(lambda shared: "value" in vars(shared)),
    "state_name": state_of_a_task(lambda task: task.state_name == "done"),
    "repr of a task": state_of_a_task(lambda task: "done" in repr(task)),
    "tasks": state_of_a_task(lambda task: task not in [*task.kernel.tasks()]),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_shared_state_is_seen(look):
    assert explore(LOOKS[look], exhaustive=True).schedule is not None


@pytest.mark.parametrize(
    "make", [first_failure, first_winner, first_completion, first_timer, scope_that_was_left, last_deadline]
)
def test_an_order_that_is_easily_overlooked_is_found(make):
    result = explore(make, exhaustive=True)
    assert result.schedule not in (None, "rr"), result


def test_turns_at_different_times_do_not_change_places():
    def program():
        lock = Lock()

        def now():
            lock.locked()
            yield

        def later():
            yield Sleep(1)
            lock.locked()

        def main():
            yield from together(now(), later())

        return main()

    result = explore(program, exhaustive=True)
    assert (result.runs, result.exhausted) == (1, True)


def footprints_of(program):
    """Return the footprints of each turn in round robin, each with its trigger."""
    footprints = Footprints()
    with tracked():
        assert schedule.one_run(program, schedule.Chooser(), footprints=footprints).error is None
    footprints.end_turn()
    return [[(event.trigger, event.footprint) for event in events] for events in footprints.steps]


def test_the_footprints_of_a_spawn_a_lock_and_a_cancellation():
    def program():
        lock, event = Lock(), Event()

        def child():
            yield event.wait()

        def main():
            task = yield Spawn(child(), keep=True)
            lock.locked()
            yield Cancel(task)
            yield JoinAll()

        return main()

    main, child, of_main, of_child = "task 0", "task 0.0", "children of task 0", "children of task 0.0"
    assert footprints_of(program) == [
        [(None, {main: "write", child: "write", of_main: "end"})],
        [(None, {child: "write", "Event 1": "write"})],
        [(None, {main: "write", "Lock 1": "write", child: "write", of_child: "read", "Event 1": "write"})],
        [
            (None, {child: "write", of_child: "end"}),
            (of_child, {of_child: "write", child: "write", of_main: "end"}),
        ],
        [(None, {main: "write", of_main: "end"}), (of_main, {of_main: "write", main: "write"})],
        [(None, {main: "write", of_main: "end"}), (of_main, {of_main: "write", main: "write"})],
    ]


def test_the_end_of_a_child_counts_where_its_order_does_not_matter():
    class Child:
        def __init__(self, failure=None, cancelled_caught=False):
            self.failure = failure
            self.cancelled_caught = cancelled_caught

    returned, failed, cancelled = Child(), Child(ValueError()), Child(cancelled_caught=True)
    for kind in (TaskGroup, FailFast, CollectAll):
        ends = [only_counts(kind("group"), child) for child in (returned, failed, cancelled)]
        assert ends == [True, False, False], kind
    assert not any(only_counts(kind, returned) for kind in (Race("race"), Completions(()), Supervision("supervised")))


def test_children_that_only_end_have_one_order():
    def child():
        yield

    def main():
        yield from together(*(child() for _ in range(5)))

    result = explore(lambda: main(), exhaustive=True)
    assert (result.runs, result.cut_short, result.exhausted) == (1, 0, True)


# The package's own primitives, with a cancellation at each point.


def mutex(make):
    def program():
        lock, shared = make(), Shared(inside=0)

        def work():
            with (yield lock.acquire()):
                shared.inside += 1
                try:
                    assert shared.inside == 1
                    yield
                finally:
                    shared.inside -= 1

        return work(), work(), lambda: not lock.locked() if hasattr(lock, "locked") else True

    return program


def rendezvous(maxsize, kind=Queue):
    def program():
        queue, shared = kind(maxsize), Shared(put=0, got=0)

        def put():
            yield queue.put(1)
            shared.put += 1

        def get():
            with (yield MoveOnAfter(1)):
                yield queue.get()
                shared.got += 1

        def check():
            return shared.got <= shared.put + 1 and shared.put - shared.got <= len(queue.items) + 1

        def putter():
            with (yield MoveOnAfter(1)):
                yield from put()

        return putter(), get(), check

    return program


def an_event():
    event = Event()

    def wait():
        yield event.wait()

    def set_it():
        event.set()
        yield

    return wait(), set_it(), event.is_set


def a_barrier():
    barrier, shared = Barrier(2), Shared(passed=0)

    def arrive():
        with (yield MoveOnAfter(1)) as scope:
            yield barrier.wait()
        shared.passed += not scope.cancelled_caught

    return arrive(), arrive(), lambda: shared.passed in (0, 1, 2)


def a_condition():
    condition, shared = Condition(), Shared(ready=False)

    def wait():
        with (yield condition.acquire()):
            while not shared.ready:
                yield from condition.wait()

    def notify():
        with (yield condition.acquire()):
            shared.ready = True
            condition.notify_all()

    return wait(), notify(), lambda: shared.ready


def a_limiter():
    limiter = CapacityLimiter(1)

    def work():
        with (yield limiter.acquire()):
            yield

    return work(), work(), lambda: limiter.available_tokens == 1


def a_broadcast():
    news = Broadcast()

    def hear():
        with news.subscribe() as subscription:
            with (yield MoveOnAfter(1)):
                yield subscription.get()

    def tell():
        yield
        news.publish("item")

    return hear(), tell(), lambda: not news.subscriptions


def a_select():
    first, second = Queue(), Queue()

    def choose():
        yield select(first.get(), second.get())

    def put():
        yield second.put(2)
        yield first.put(1)

    return choose(), put(), lambda: 1 <= first.qsize() + second.qsize() <= 2


def a_group():
    shared = Shared(ended=0)

    def child():
        try:
            yield
        finally:
            shared.ended += 1

    def body(children):
        yield children.spawn(child())
        yield children.spawn(child())

    def other():
        yield

    return group(body), other(), lambda: shared.ended in (0, 1, 2)


def a_gather():
    def child():
        yield

    def work():
        yield from gather(child(), child())

    return work(), child(), lambda: True


def a_race():
    def child():
        yield

    def work():
        yield from race(child(), child())

    return work(), child(), lambda: True


def a_timeout():
    queue = Queue()

    def get():
        try:
            with (yield Timeout(1)):
                yield queue.get()
        except TimeoutError:
            queue.put_nowait("late")

    def put():
        yield Sleep(1)
        yield queue.put("item")

    return get(), put(), lambda: queue.qsize() <= 2


PRIMITIVES = {
    "Lock": mutex(Lock),
    "RLock": mutex(RLock),
    "Semaphore": mutex(lambda: Semaphore(1)),
    "CapacityLimiter": a_limiter,
    "Queue": rendezvous(1),
    "Queue(0)": rendezvous(0),
    "PriorityQueue": rendezvous(1, PriorityQueue),
    "LifoQueue": rendezvous(1, LifoQueue),
    "Event": an_event,
    "Barrier": a_barrier,
    "Condition": a_condition,
    "Broadcast": a_broadcast,
    "select": a_select,
    "group": a_group,
    "gather": a_gather,
    "race": a_race,
    "Timeout": a_timeout,
}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_each_order_of_two_tasks_and_a_cancellation_is_right(name):
    def program():
        first, second, right = PRIMITIVES[name]()

        def main():
            tasks = yield Victims(first, second)
            yield from together(cancelled_later(tasks[0], 0))
            for task in tasks:
                assert task.failure is None, task.failure

        def check():
            assert right()

        return main(), check

    result = explore(program, exhaustive=True)
    assert (result.schedule, result.exhausted) == (None, True), result
    assert result.runs > 2


# The text of an exploration, its checkpoints, and its end.


def bank(late=3):
    account = Shared(balance=0)

    def deposit(turns):
        for _ in range(turns):
            yield
        before = account.balance
        yield
        account.balance = before + 1

    def main():
        yield from together(deposit(0), deposit(late))

    def check():
        assert account.balance == 2, "a deposit is lost"

    return main(), check


def test_a_failure_names_the_two_lines_and_when_it_was_too_late():
    result = explore(bank, exhaustive=True)
    first_line, *lines = str(result).splitlines()
    lines = lines[lines.index(f"schedule: {result.schedule}") :]
    assert first_line == "run 2 fails (exhaustive): AssertionError: a deposit is lost"
    first, last = (bank.__code__.co_firstlineno + line for line in (6, 8))
    assert lines[1] == (f"Shared 1.balance: task 0.1 at {__file__}:{first} comes before task 0.0 at {__file__}:{last}")
    turn = int(lines[2].split()[4].rstrip(":"))
    assert lines[2].startswith("too late after turn ") and "all of 20 random orders of the rest fail" in lines[2]
    assert 2 < turn < 9 and lines[3] == ""


def test_a_program_that_always_fails_was_too_late_from_the_beginning_on():
    def main():
        yield from together(wait(), wait())

    def wait():
        yield Event().wait()

    text = str(explore(main, exhaustive=True))
    assert text.startswith("run 1 fails (exhaustive): Deadlock") and "too late from the beginning on" in text


def test_an_exploration_says_what_it_has_seen_and_what_is_left():
    right = next(case for case in CORPUS if name_of(case) == "lost_update").right
    whole = explore(right, exhaustive=True)
    assert str(whole) == (
        f"no schedule fails: all {whole.runs - whole.cut_short} that differ were run, and {whole.cut_short} that equal "
        "one of them were cut short. Differences are seen in tasks, primitives, deadlines and Shared, and in no "
        "other variables."
    )
    part = explore(right, exhaustive=True, runs=20)
    assert (part.runs, part.exhausted, part.schedule) == (20, False, None) and part.left > 10
    assert f"no run of 20 has failed (exhaustive); about {part.left} are left. Differences" in str(part)


def test_an_endless_run_proves_nothing(monkeypatch):
    monkeypatch.setattr(schedule, "MAX_TURNS", 50)

    def main():
        while True:
            yield

    result = explore(main, exhaustive=True)
    assert (result.aborted, result.exhausted) == (1, True)
    assert "no run of 1 has failed, 1 of them aborted" in str(result)


@pytest.mark.parametrize("step", [1, 7])
def test_an_exploration_goes_on_at_its_checkpoint(step, tmp_path):
    right = next(case for case in CORPUS if name_of(case) == "lost_update").right
    whole, file, calls = explore(right, exhaustive=True), tmp_path / "state.json", 0
    while True:
        part = explore(right, exhaustive=True, runs=step, checkpoint=file)
        calls += 1
        if part.exhausted:
            break
        assert os.listdir(tmp_path) == ["state.json"]
    assert (part.runs, part.cut_short) == (whole.runs, whole.cut_short) and calls >= whole.runs // step
    assert os.listdir(tmp_path) == []


def test_a_failure_after_a_checkpoint_is_found_and_ends_it(tmp_path):
    file, philosophers = tmp_path / "state.json", CORPUS[3].wrong
    whole = explore(philosophers, exhaustive=True)
    part = explore(philosophers, exhaustive=True, runs=whole.runs - 3, checkpoint=file)
    assert part.schedule is None and file.exists()
    rest = explore(philosophers, exhaustive=True, runs=5, checkpoint=file)
    assert (rest.schedule, rest.runs) == (whole.schedule, whole.runs) and not file.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"version": 3}',
        '{"version": 2, "kinds": [], "runs": 1, "cut_short": 0, "aborted": 0}',
        '{"version": 2, "kinds": [], "runs": "x", "cut_short": 0, "aborted": 0, "frames": []}',
        '{"version": 2, "kinds": [], "runs": 1, "cut_short": 0, "aborted": 0, "frames": [{"ready": ["0"]}]}',
        '{"version": 2, "kinds": [], "runs": 1, "cut_short": 0, "aborted": 0, "frames": [7]}',
        '{"version": 2, "kinds": [], "runs": 1, "cut_short": 0, "aborted": 0, "frames": []}',
    ],
)
def test_another_file_in_place_of_a_checkpoint_is_refused_and_kept(text, tmp_path):
    file = tmp_path / "state.json"
    file.write_text(text)
    with pytest.raises(BadCheckpoint, match="is not a checkpoint of an exploration"):
        explore(bank, exhaustive=True, checkpoint=file)
    assert file.read_text() == text


def test_a_torn_checkpoint_is_refused(tmp_path):
    file = tmp_path / "state.json"
    explore(CORPUS[3].right, exhaustive=True, runs=20, checkpoint=file)
    text = file.read_text()
    for length in range(0, len(text) - 1, len(text) // 50):
        file.write_text(text[:length])
        with pytest.raises(BadCheckpoint):
            explore(CORPUS[3].right, exhaustive=True, checkpoint=file)
    file.write_text(text.replace('"version": 2', '"version": 3', 1))
    with pytest.raises(BadCheckpoint, match="its version is 3, and this is version 2"):
        explore(CORPUS[3].right, exhaustive=True, checkpoint=file)
    task = json.loads(text)["frames"][-1]["task"]
    file.write_text(text.replace(f'"task": "{task}"', '"task": "0.99"'))
    with pytest.raises(BadCheckpoint, match=r"task 0\.99 is not ready in it"):
        explore(CORPUS[3].right, exhaustive=True, checkpoint=file)


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    file = tmp_path / "state.json"
    explore(CORPUS[3].right, exhaustive=True, runs=20, checkpoint=file)
    with pytest.raises(SyscallError, match="the program is not the same in each run: at turn"):
        explore(CORPUS[2].right, exhaustive=True, checkpoint=file)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    file = tmp_path / "state.json"
    explore(CORPUS[3].right, exhaustive=True, runs=5, checkpoint=file)
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            explore(CORPUS[3].right, exhaustive=True, runs=5, checkpoint=file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["state.json"]


def test_a_checkpoint_needs_an_exhaustive_exploration(tmp_path):
    with pytest.raises(TypeError, match="only an exhaustive exploration has a checkpoint"):
        explore(bank, checkpoint=tmp_path / "state.json")


@pytest.mark.parametrize("late", [0, 1])
def test_a_program_that_is_not_the_same_in_each_run_is_refused(late):
    numbers = itertools.count()

    def program():
        lock, other, number = Lock(), Lock(), next(numbers)

        def work():
            for _ in range(late if number else 0):
                yield  # so that other tasks are ready
            with (yield (other if number and not late else lock).acquire()):
                yield

        def main():
            yield from together(work(), work())

        return main()

    with pytest.raises(SyscallError, match="the program is not the same in each run: at turn"):
        explore(program, exhaustive=True)


def test_an_exploration_leaves_no_hooks_behind():
    classes = [Primitive, Broadcast, Shared, ScopeContext, TaskGroup, Task, Lock, Queue]
    before = [dict(vars(kind)) for kind in classes]
    explore(bank, exhaustive=True)
    with pytest.raises(KeyboardInterrupt):
        explore(interrupted, exhaustive=True)
    assert [dict(vars(kind)) for kind in classes] == before
    account = Shared(balance=1)
    account.balance += 1
    assert repr(account) == "Shared(balance=2)"


def interrupted():
    def main():
        yield
        raise KeyboardInterrupt

    return main()


def test_a_failure_of_the_program_itself_is_raised_and_hooks_are_removed():
    def program():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        explore(program, exhaustive=True)
    assert "__getattribute__" not in vars(Primitive)


def test_a_lock_from_before_the_run_has_the_same_name_in_each_run():
    lock = Lock("of the module")

    def program():
        def work():
            with (yield lock.acquire()):
                yield

        def main():
            yield from together(work(), work())

        return main()

    result = explore(program, exhaustive=True)
    assert result.exhausted and result.runs > 1


def test_runs_inside_an_exploration_that_are_not_explored_are_as_always():
    def program():
        def main():
            yield from together(*(task() for _ in range(2)))

        def task():
            yield

        return main()

    with tracked():
        assert run(program()) is None
    search = Search()
    with tracked():
        assert search.run(program).error is None
        names = {name for frame in search.frames for event in frame.events for name in event.footprint}
    assert names == {*(f"{kind}task {path}" for kind in ("", "children of ") for path in ("0", "0.0", "0.1"))}


def test_an_endless_program_has_no_traces(monkeypatch):
    monkeypatch.setattr(schedule, "MAX_TURNS", 50)

    def main():
        while True:
            yield

    result = check_reduction(main, runs=3)
    assert result.agrees is None and "not compared: a search did not end" in str(result)


def test_the_class_of_an_error_may_be_made_in_each_run():
    def program():
        class Mine(Exception):
            def __str__(self):
                raise RuntimeError

        def main():
            yield
            raise Mine

        return main()

    result = explore(program, exhaustive=True, twice=True)
    assert result.schedule == "rr" and "run 1 fails (exhaustive): <Mine, whose __repr__ raised" not in str(result)
    assert "run 1 fails (exhaustive): Mine()" in str(result)


@pytest.mark.parametrize("runs", [0, -1, 1.5, "many"])
def test_a_wrong_number_of_runs_is_refused(runs):
    with pytest.raises((TypeError, ValueError), match="runs"):
        explore(bank, runs=runs)


def test_together_starts_all_or_none():
    started = []

    def task(number):
        started.append(number)
        yield
        return number

    def main():
        with pytest.raises(SyscallError, match="None is not a task"):
            yield from together(task(1), None)
        return started[:], (yield from together(task(2), task(3)))

    assert run(main()) == ([], [2, 3])


def test_a_use_of_shared_values_outside_of_an_exploration_is_plain():
    shared = Shared(first=1)
    shared.second = [shared.first]
    assert (repr(shared), shared.second) == ("Shared(first=1, second=[1])", [1])


def test_the_explorer_is_not_imported_by_a_program_that_does_not_use_it():
    program_text = (
        "import sys, minisched; print([name for name in sys.modules if 'exhaustive' in name or 'footpr' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program_text], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
