"""Exploration of schedules: mistakes that round robin hides are found, shrunk, and run again."""

from __future__ import annotations

import itertools
import subprocess
import sys
from random import Random
from types import SimpleNamespace

import pytest
from corpus.classic import check_of_a_queue, lost_update, three_philosophers, two_locks
from corpus.reported import item_lost_at_a_cancellation, lost_notification

from minisched import (
    Deadlock,
    Event,
    Sleep,
    SyscallError,
    Timeout,
    gather,
)
from minisched.lab import BadSchedule, explore
from minisched.lab.explore.footprints import Event as Touches
from minisched.lab.explore.footprints import Footprints
from minisched.lab.explore.portfolio import Pct, Pos, predicted
from minisched.lab.explore.schedule import MAX_TURNS, Chooser, Schedule, one_run
from minisched.lab.explore.tracking import tracked

BUGS = [lost_update, two_locks, three_philosophers, check_of_a_queue, item_lost_at_a_cancellation, lost_notification]


def make(program, fixed):
    return lambda: program(fixed)


@pytest.mark.parametrize("program", BUGS)
def test_round_robin_does_not_show_the_mistake(program):
    assert explore(make(program, False), runs=1).schedule is None


@pytest.mark.parametrize("program", BUGS)
def test_the_mistake_is_found_and_its_schedule_fails_again(program):
    result = explore(make(program, False))
    assert result.runs < 400 and result.schedule.startswith("rr ")
    again = explore(make(program, False), schedule=result.schedule)
    assert again.schedule == result.schedule and type(again.error) is type(result.error)
    assert explore(make(program, True), schedule="rr").schedule is None


@pytest.mark.parametrize("program", BUGS)
def test_a_schedule_is_as_short_as_possible(program):
    schedule = explore(make(program, False)).schedule
    word, *differences = schedule.split()
    assert len(differences) <= 12
    for left_out in range(len(differences)):
        shorter = Schedule(" ".join([word, *differences[:left_out], *differences[left_out + 1 :]]), strict=False)
        outcome = one_run(make(program, False), shorter)
        assert outcome.error is None or len(outcome.differences) >= len(differences)


@pytest.mark.parametrize("program", BUGS)
def test_the_program_without_the_mistake_has_no_failure(program):
    result = explore(make(program, True), runs=200)
    assert (result.schedule, result.runs, result.aborted) == (None, 200, 0), result


def test_the_same_seed_finds_the_same_schedule():
    results = [explore(make(three_philosophers, False), seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert results[0].schedule == results[1].schedule and results[0].runs == results[1].runs
    assert len({result.runs for result in results}) > 1


def test_an_exploration_says_what_it_has_found():
    result = explore(make(two_locks, False))
    text = str(result)
    assert text.startswith(f"run {result.runs} fails (portfolio of random, PCT and POS, seed 0): Deadlock: ")
    assert f"\nschedule: {result.schedule}\n" in text and "0.0" in text and "Lock first" in text
    assert isinstance(result.error, Deadlock)
    assert str(explore(make(two_locks, True), runs=7)).startswith("no run of 7 has failed (")


def test_a_regression_is_a_test_that_fails(tmp_path):
    (tmp_path / "program.py").write_text(
        "from minisched import gather\n"
        "def program():\n"
        "    seen = []\n"
        "    def child(number):\n"
        "        yield\n"
        "        seen.append(number)\n"
        "    def main():\n"
        "        yield from gather(child(1), child(2))\n"
        "    def check():\n"
        "        assert seen == [1, 2]\n"
        "    return main(), check\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        from program import program
    finally:
        sys.path.remove(str(tmp_path))
    result = explore(program)
    test = f"from minisched.lab import explore\nfrom program import program\n\n\n{result.regression('program')}"
    names = {}
    exec(test, names)
    with pytest.raises(AssertionError, match="fails"):
        names["test_program_in_the_schedule_that_failed"]()


def test_pct_runs_the_task_with_the_highest_priority_until_it_lowers_it():
    tasks = [SimpleNamespace(path=(0, number)) for number in range(3)]
    pct = Pct(Random(1), 9, ())
    pct.changes = {2, 4}
    chosen = [pct.choose(tasks, turn) for turn in range(1, 6)]
    assert chosen[0] == chosen[1] and chosen[2] == chosen[3] and len({*chosen}) == 3, chosen


def test_pos_keeps_the_order_of_turns_without_a_conflict():
    """Partial-order sampling: a new priority for the turns in conflict with the one that runs, and for no others."""
    tasks = [SimpleNamespace(path=(0, number)) for number in range(3)]
    prediction = {("task 0.0", 0): [Touches({"lock": "write"})], ("task 0.1", 0): [Touches({"lock": "write"})]}
    pos = Pos(Random(4), 9, (), prediction)
    pos.priorities = {("task 0.0", 0): 1.0, ("task 0.1", 0): 0.9, ("task 0.2", 0): 0.8}
    assert pos.choose(tasks, 1) == 0
    assert pos.priorities == {("task 0.0", 0): 1.0, ("task 0.2", 0): 0.8}
    assert pos.choose(tasks[2:], 2) == 0 and pos.turns == {"task 0.0": 1, "task 0.2": 1}


def test_the_prediction_has_the_turns_of_round_robin():
    footprints = Footprints()
    with tracked():
        one_run(make(check_of_a_queue, True), Chooser(), footprints=footprints)
    prediction = predicted(footprints)
    assert {name for name, _ in prediction} == {"task 0", "task 0.0", "task 0.1"}
    assert sum(map(len, footprints.steps)) == sum(map(len, prediction.values()))
    assert "Queue 1" in prediction["task 0.0", 0][0].footprint


# Other programs.


def test_a_failure_in_round_robin_is_found_in_the_first_run():
    def main():
        yield
        raise KeyError("always")

    result = explore(main)
    assert (result.runs, result.schedule, repr(result.error)) == (1, "rr", "KeyError('always')")


def test_an_expected_exception_is_not_a_failure():
    def main():
        with (yield Timeout(1)):
            yield Event().wait()

    assert explore(main, runs=5, expected=(TimeoutError,)).schedule is None


def test_a_program_that_never_ends_is_aborted():
    def main():
        while True:
            yield

    result = explore(main, runs=3)
    assert (result.runs, result.aborted, result.schedule) == (3, 3, None)
    assert f"3 of them aborted after {MAX_TURNS:,} turns" in str(result)


def test_a_program_that_is_not_the_same_in_each_run_is_reported():
    numbers = itertools.count()

    def main():
        yield
        if next(numbers) == 2:
            raise KeyError("the third time")

    with pytest.raises(SyscallError, match="the program is not the same in each run: schedule rr"):
        explore(main)


@pytest.mark.parametrize("exhaustive", [False, True])
def test_each_schedule_can_be_run_twice(exhaustive):
    numbers = itertools.count()

    def main():
        for _ in range(next(numbers) % 2):  # one turn more each second time
            yield
        yield

    assert explore(make(lost_update, True), runs=20, twice=True, exhaustive=exhaustive).schedule is None
    if not exhaustive:
        with pytest.raises(SyscallError, match=r"schedule rr has taken 2 turns and returned, and then 3 turns and"):
            explore(lambda: main(), runs=9, twice=True)
        return

    def other():
        yield
        if next(numbers):
            raise KeyError("the second time")

    with pytest.raises(SyscallError, match=r"and returned, and then 2 turns and raised KeyError"):
        explore(lambda: other(), twice=True, exhaustive=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_ends_the_exploration(error):
    def main():
        yield
        raise error

    with pytest.raises(error):
        explore(main)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ("", "a schedule begins with rr, and this is ''"),
        ("12:0.1", "a schedule begins with rr"),
        ("rr 12", "'12' in the schedule is not of the form TURN:PATH"),
        ("rr x:0.1", "'x:0.1' in the schedule is not of the form"),
        ("rr 12:", "'12:' in the schedule is not of the form"),
        ("rr 900:0.1", "runs task 0.1 at turn 900, and the program has ended after"),
        ("rr 4:0.7", "runs task 0.7 at turn 4, and ready are 0"),
    ],
)
def test_a_schedule_that_is_malformed_or_does_not_fit_is_refused(schedule, text):
    with pytest.raises(BadSchedule) as raised:
        explore(make(lost_update, False), schedule=schedule)
    assert text in str(raised.value)


def test_deadlines_and_sleeps_are_in_virtual_time():
    def nap(seconds):
        yield Sleep(seconds)

    def main():
        yield from gather(nap(1000), nap(2000))

    assert explore(main, runs=50).schedule is None
    assert Chooser().choose([], 1) == 0


def test_a_run_without_exploration_does_not_import_it():
    program = "import sys, minisched; print('minisched.lab.explore' in sys.modules, 'random' in sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode or done.stdout.startswith("False")
