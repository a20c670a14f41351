"""The scheduling policies of demos/policies: their promises, and the simulated machine."""

from __future__ import annotations

import subprocess
import sys
from math import inf

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from programs import ROOT, environment, finished

from minisched import JoinAll, Sleep, Spawn, testing

sys.path.insert(0, str(ROOT))

from demos.policies import quiz, show
from demos.policies.__main__ import main, policies
from demos.policies.machine import Job, simulate
from demos.policies.policies import EDF, FIFO, Feedback, Known, Lottery, Priority, Stride
from demos.policies.workloads import WORKLOADS, random_jobs

LOADED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a slow machine is not a failure
NAMES = [*policies(0)]


def jobs_of(*bursts, **fields):
    """Return jobs A, B, ... that all arrive at 0."""
    return [Job(name, 0, burst, **fields) for name, burst in zip("ABCDEFGH", bursts, strict=False)]


def chart(policy, jobs):
    return "".join(simulate(policy, jobs).chart)


# The machine and its figures.


def test_a_turn_is_a_unit_and_fifo_is_round_robin():
    assert chart(FIFO(), jobs_of((3,), (1,), (2,))) == "ABCACA"


def test_io_takes_units_without_the_processor():
    assert chart(FIFO(), jobs_of((1, 3, 1), (2,))) == "ABB.A"


def test_a_job_that_arrives_at_the_end_of_a_turn_runs_before_the_job_of_that_turn():
    assert chart(FIFO(), [Job("A", 0, (3,)), Job("B", 1, (1,))]) == "ABAA"


def test_no_job_runs_before_it_arrives():
    assert chart(FIFO(), [Job("A", 2, (1,))]) == "..A"


def test_the_figures_of_a_small_case_are_those_computed_by_hand():
    # A B A B A I/O I/O A. B arrives at 1 and runs at once, because A's first turn has ended.
    outcome = simulate(FIFO(), [Job("A", 0, (3, 2, 1)), Job("B", 1, (2,))])
    assert "".join(outcome.chart) == "ABABA..A"
    assert [outcome.response(name) for name in "AB"] == [0, 0]
    assert [outcome.turnaround(name) for name in "AB"] == [8, 3]
    assert [outcome.waiting(name) for name in "AB"] == [2, 1]
    assert outcome.switches() == 4
    # A had 4 of 6 units, and B had 2 of 3: the same share.
    assert outcome.fairness() == pytest.approx(1)


def test_jains_index_is_one_for_equal_shares_and_less_for_others():
    assert simulate(FIFO(), jobs_of((1,))).fairness() == 1
    outcome = simulate(Priority({"B": 1}, aging=inf), jobs_of((99,), (1,)))
    # The shares are 99/99 and 1/100: their sum squared, over twice the sum of their squares.
    assert outcome.fairness() == pytest.approx((1 + 0.01) ** 2 / (2 * (1 + 0.0001)))


def test_a_job_that_ends_after_its_deadline_is_late():
    assert simulate(FIFO(), [Job("A", 0, (3,), deadline=3)]).late() == 0
    assert simulate(FIFO(), [Job("A", 0, (3,), deadline=2)]).late() == 1


@pytest.mark.parametrize("bursts", [(), (1, 1), (0,), (1, -1, 1)])
def test_invalid_bursts_are_refused(bursts):
    with pytest.raises(ValueError, match="job A has bursts"):
        simulate(FIFO(), [Job("A", 0, bursts or (0,))])


def test_fifo_makes_the_same_trace_as_the_default_queue():
    def child(seconds):
        yield
        yield Sleep(seconds)

    def program():
        for seconds in (3, 1, 2):
            yield Spawn(child(seconds))
        yield JoinAll()

    def traced(ready):
        lines = []
        testing.run(program(), ready=ready, watch=[testing.TextTrace(lines.append)])
        return lines

    assert traced(FIFO()) == traced(None)


BURSTS = some.integers(0, 2).flatmap(lambda more: some.tuples(*[some.integers(1, 6)] * (2 * more + 1)))
JOBS = some.lists(
    some.tuples(some.integers(0, 10), BURSTS, some.integers(0, 3), some.integers(1, 4), some.integers(1, 60)),
    min_size=1,
    max_size=6,
)


@settings(LOADED, max_examples=50)
@given(JOBS, some.sampled_from(NAMES))
def test_each_job_does_all_its_work_and_the_processor_is_not_idle_without_need(drawn, name):
    jobs = [Job(f"job{number}", *fields) for number, fields in enumerate(drawn)]
    outcome = simulate(policies(1)[name](jobs), jobs)  # this run checks the kernel's invariants at each turn
    for job in jobs:
        assert outcome.chart.count(job.name) == job.work
        assert outcome.started[job.name] >= job.arrival
        assert outcome.waiting(job.name) >= 0
    if all(not job.io for job in jobs):
        assert outcome.chart.count(".") == idle_units(jobs)


def idle_units(jobs):
    """Return the number of units in which no job is ready, under any policy."""
    now = idle = 0
    for job in sorted(jobs, key=lambda job: job.arrival):
        idle += max(job.arrival - now, 0)
        now = max(now, job.arrival) + job.work
    return idle


@pytest.mark.parametrize("name", NAMES)
def test_a_queue_returns_each_appended_task_once(name):
    class Stub:
        def __init__(self, name):
            self.name, self.state = name, "ready"

    tasks = [Stub(job.name) for job in WORKLOADS["mix"]]
    queue = policies(1)[name](WORKLOADS["mix"])
    for number, task in enumerate(tasks, 1):
        queue.append(task)
        assert len(queue) == number
    assert {*queue} == {*tasks}
    assert {queue.popleft() for _ in tasks} == {*tasks}
    assert len(queue) == 0 and not [*queue]


# The promises of each policy.


def test_the_most_urgent_job_runs_first_and_equal_ones_take_turns():
    assert chart(Priority({"A": 1, "B": 0, "C": 0}), jobs_of((2,), (2,), (2,))) == "BCBCAA"


def test_without_aging_a_job_that_is_not_urgent_starves_and_with_aging_its_wait_is_bounded():
    jobs = jobs_of((5,), (200,))
    alone = chart(Priority({"A": 3}, aging=inf), jobs)
    assert alone == "B" * 200 + "A" * 5
    aged = simulate(Priority({"A": 3}, aging=10), jobs)
    assert aged.response("A") == 30
    assert aged.ended["A"] <= 5 * 31


def test_a_lottery_gives_each_job_about_its_share_and_depends_on_the_seed_only():
    jobs = [Job(name, 0, (3000,), tickets=tickets) for name, tickets in (("A", 1), ("B", 3))]
    drawn = chart(Lottery({"A": 1, "B": 3}, seed=5), jobs)
    assert 0.22 < drawn[:3000].count("A") / 3000 < 0.28
    assert drawn == chart(Lottery({"A": 1, "B": 3}, seed=5), jobs)
    assert drawn != chart(Lottery({"A": 1, "B": 3}, seed=6), jobs)


def test_stride_gives_each_job_its_share_within_one_turn_at_any_time():
    tickets = {"A": 1, "B": 2, "C": 3}
    drawn = chart(Stride(tickets), [Job(name, 0, (60,)) for name in tickets])
    for units in range(1, 100):
        for name, share in tickets.items():
            assert abs(drawn[:units].count(name) - units * share / 6) <= 1, (units, name)


def test_under_stride_a_job_collects_no_credit_while_it_waits():
    # B is in I/O for 50 units. After that it gets no more than half of the turns.
    drawn = chart(Stride(), jobs_of((100,), (1, 50, 30)))
    back = drawn.index("B", 10)
    assert drawn[back : back + 20].count("B") == 10


def test_under_feedback_an_interactive_job_waits_less_than_under_round_robin():
    jobs = [*jobs_of((40,), (40,), (40,)), Job("shell", 12, (1, 9) * 3 + (1,))]
    feedback, fifo = simulate(Feedback(boost=1000), jobs), simulate(FIFO(), jobs)
    assert feedback.waiting("shell") == 0 < fifo.waiting("shell")


def test_under_feedback_giving_up_the_processor_just_before_the_end_of_the_allotment_gains_nothing():
    # B is in I/O for one unit after every three. It uses its allotment in pieces, and moves down all the same.
    jobs = [Job("A", 0, (30,)), Job("B", 0, (3, 1) * 9 + (3,))]
    drawn = chart(Feedback(boost=10_000), jobs)
    assert abs(drawn[:40].count("A") - drawn[:40].count("B")) <= 4


def test_the_boost_of_feedback_prevents_starvation():
    def shells():
        return [Job(f"shell{number}", 8 + 2 * number, (2,)) for number in range(100)]

    jobs = [Job("A", 0, (20,)), *shells()]
    assert simulate(Feedback(boost=10_000), jobs).ended["A"] > 200
    assert simulate(Feedback(boost=20), jobs).ended["A"] < 200


def test_only_edf_meets_all_deadlines_of_the_workload():
    jobs = WORKLOADS["deadlines"]
    late = {name: simulate(make(jobs), jobs).late() for name, make in policies(1).items()}
    assert late.pop("EDF") == 0
    assert min(late.values()) > 0


@given(some.lists(some.tuples(some.integers(0, 10), some.integers(1, 5), some.integers(0, 10)), max_size=6, min_size=1))
@settings(LOADED, max_examples=50)
def test_edf_is_late_only_if_the_work_until_a_deadline_exceeds_the_time(drawn):
    jobs = [
        Job(f"job{number}", arrival, (work,), deadline=arrival + work + slack)
        for number, (arrival, work, slack) in enumerate(drawn)
    ]
    outcome = simulate(EDF({job.name: job.deadline for job in jobs}), jobs)
    feasible = all(
        sum(job.work for job in jobs if begin <= job.arrival and job.deadline <= end) <= end - begin
        for begin in {job.arrival for job in jobs}
        for end in {job.deadline for job in jobs}
        if begin < end
    )
    assert (outcome.late() == 0) == feasible


def test_data_of_tasks_that_have_ended_are_removed():
    class Stub:
        def __init__(self, state):
            self.state = state

    known, alive = Known(), Stub("ready")
    known[alive] = 1
    for _ in range(10_000):
        known[Stub("done")] = 2
    assert alive in known and len(known) < 200


# The command.


def command(*arguments):
    return finished("-m", "demos.policies", *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--workload", "deadlines"], ["--quiz"], ["--quiz", "--solve"]])
def test_the_command_prints_its_golden_output(arguments, golden):
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    golden(done.stdout, "policies/" + ("_".join(arguments).replace("--", "") or "mix"))


def test_a_single_policy_prints_the_figures_of_each_job(capsys):
    assert main(["--workload", "convoy", "--policy", "stride"]) == 0
    output = capsys.readouterr().out
    assert "arrival" in output and "FIFO" not in output


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--workload", "what"], ["--policy", "what"], ["--seed", "x"], ["more"]])
def test_a_wrong_argument_is_an_error_with_the_usage(arguments):
    done = command(*arguments)
    assert done.returncode == 2 and "error:" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NAMES)
def test_the_quiz_hides_the_answer_of_each_question_unless_asked(name, seed):
    asked, solved = (quiz.ask(policies(seed), name, seed, solve) for solve in (False, True))
    assert len(asked) == len(solved)
    hidden = [number for number, (line, answer) in enumerate(zip(asked, solved, strict=True)) if line != answer]
    assert len(hidden) == 5 and all(asked[number] == "" and solved[number].strip() for number in hidden)
    jobs = random_jobs(seed)
    assert " ".join(simulate(policies(seed)[name](jobs), jobs).chart).replace(".", "-") in solved[hidden[0]]


@pytest.mark.slow
def test_a_plot_is_the_same_each_time(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install -e '.[bench]'")
    for name in ("one.svg", "two.svg", "three.png"):
        assert main(["--plot", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.svg").read_text() == (tmp_path / "two.svg").read_text()
    assert (tmp_path / "three.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_plot_that_cannot_be_drawn_is_a_one_line_error(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install -e '.[bench]'")
    for file in (tmp_path / "nowhere" / "one.svg", tmp_path / "one.what"):
        done = command("--plot", file)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and file.name in done.stderr


@pytest.mark.slow
def test_without_matplotlib_the_error_names_the_package_to_install(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('none')")
    process = [sys.executable, "-m", "demos.policies", "--plot", str(tmp_path / "one.svg")]
    done = subprocess.run(process, capture_output=True, text=True, cwd=ROOT, env=environment(tmp_path))
    assert (done.returncode, done.stderr) == (1, "--plot needs matplotlib: pip install -e '.[bench]'\n")


def test_a_long_chart_is_split_into_lines():
    lines = show.chart(simulate(FIFO(), jobs_of((120,), (130,))))
    assert max(map(len, lines)) <= 10 + 2 + show.CHART_UNITS
    assert sum(line.count("#") for line in lines) == 250
