"""Liveness: bounds in rounds on what has to come about, in runs and in explorations."""

from __future__ import annotations

import pytest

from minisched import Condition, Event, Queue, Sleep, Spawn, gather, run
from minisched.lab import Eventually, NoStarvation, Shared, explore
from minisched.testing import VirtualClock, cancel_everywhere


def handshake(*, right):
    """One task waits for the other one by polling. The wrong other one does nothing if it comes first."""

    def program():
        shared = Shared(asked=False, answered=False)

        def asks():
            shared.asked = True
            while not shared.answered:
                yield

        def answers():
            while right and not shared.asked:
                yield
            shared.answered = shared.asked
            yield

        def main():
            yield from gather(asks(), answers())

        bound = Eventually(lambda: shared.answered, rounds=10, text="there is an answer")
        return main(), None, {}, [bound]

    return program


def test_an_endless_wait_is_a_failure_in_some_order():
    result = explore(handshake(right=False))
    assert str(result.error) == "not within 10 rounds: there is an answer"
    assert explore(handshake(right=False), schedule=result.schedule).schedule == result.schedule


def test_an_unfair_order_is_not_a_failure_of_the_program(monkeypatch):
    from minisched.lab.explore import schedule, search

    for module in (schedule, search):
        monkeypatch.setattr(module, "MAX_TURNS", 300)
    result = explore(handshake(right=True), runs=60)
    assert result.schedule is None and result.aborted > 0  # PCT lets the polling task run for ever


def test_a_condition_has_to_hold_in_each_stretch_of_rounds():
    state = []

    def main(pauses):
        for pause in pauses:
            for _ in range(pause):
                yield
            state.append(1)
            yield
            state.clear()

    run(main([5, 5, 5]), watch=[Eventually(lambda: state, rounds=7)])
    with pytest.raises(AssertionError, match="not within 7 rounds: the condition holds"):
        run(main([5, 9, 5]), watch=[Eventually(lambda: state, rounds=7)])


def test_a_round_has_a_turn_of_each_ready_task():
    bound = Eventually(lambda: True, rounds=1)

    def spins(turns):
        for _ in range(turns):
            yield

    def main():
        yield from gather(spins(10), spins(10), spins(10))

    run(main(), watch=[bound])
    assert 10 <= bound.round <= 16


class ReaderPreference:
    """A lock for readers and writers: the wrong one lets readers in while a writer waits."""

    def __init__(self, right):
        self.condition, self.right = Condition(), right
        self.readers = self.writers = 0

    def read(self):
        with (yield self.condition.acquire()):
            while self.right and self.writers:
                yield from self.condition.wait()
            self.readers += 1
        yield Sleep(1)
        with (yield self.condition.acquire()):
            self.readers -= 1
            self.condition.notify_all()

    def write(self):
        with (yield self.condition.acquire()):
            self.writers += 1
            while self.readers:
                yield from self.condition.wait()
            self.writers -= 1
            self.condition.notify_all()


@pytest.mark.parametrize("right", [False, True])
def test_a_writer_that_starves_among_readers_is_named(right):
    lock = ReaderPreference(right)

    def reads(late):
        yield Sleep(late)
        for _ in range(50):
            yield from lock.read()

    def main():
        yield Spawn(reads(0))
        yield Spawn(reads(0.5))
        yield Sleep(0.25)
        yield from lock.write()

    watch = [Eventually(lambda: lock.writers == 0, rounds=60, text="the writer has written")]
    if right:
        return run(main(), clock=VirtualClock(), watch=watch)
    with pytest.raises(AssertionError, match="not within 60 rounds: the writer has written"):
        run(main(), clock=VirtualClock(), watch=watch)


def test_a_task_that_waits_for_another_one_too_long_is_named():
    queue = Queue()

    def main():
        yield Spawn(waits())
        for _ in range(30):
            yield
        queue.put_nowait("late")

    def waits():
        yield queue.get()

    run(main(), watch=[NoStarvation(rounds=50)])
    with pytest.raises(AssertionError, match=r"task 0\.0 waits has waited for more than 20 rounds in Get\("):
        run(main(), watch=[NoStarvation(rounds=20)])


def test_waits_for_time_and_those_of_daemons_do_not_count():
    def main():
        yield Spawn(sleeps())
        yield Spawn(serves(), daemon=True)
        for _ in range(30):
            yield

    def sleeps():
        yield Sleep(0.001)

    def serves():
        yield Event().wait()

    run(main(), watch=[NoStarvation(rounds=5)])


def test_trials_take_the_watchers_of_a_program():
    made = []

    def make():
        def main():
            yield
            yield

        made.append(Eventually(lambda: True, rounds=1))
        return main(), None, {}, [made[-1]]

    assert cancel_everywhere(make) == len(made) and all(bound.kernel is not None for bound in made)


@pytest.mark.parametrize(("rounds", "error"), [(0, ValueError), (1.5, TypeError), (None, TypeError)])
def test_a_wrong_number_of_rounds_is_refused(rounds, error):
    with pytest.raises(error, match="NoStarvation"):
        NoStarvation(rounds=rounds)
    with pytest.raises(error, match="Eventually"):
        Eventually(bool, rounds=rounds)
