"""The scheduling policies of demos/policies: what each promises, and the machine that they are tried on."""

from __future__ import annotations

import subprocess
import sys
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as some
from programs import ROOT, environment, finished

from minisched import JoinAll, Sleep, Spawn, testing

sys.path.insert(0, str(ROOT))

from demos.policies import quiz, show
from demos.policies.__main__ import main, policies
from demos.policies.machine import Job, simulate
from demos.policies.policies import EDF, FIFO, Feedback, Known, Lottery, Priority, Stride
from demos.policies.workloads import WORKLOADS, random_jobs

NAMES = [*policies(0)]


def jobs_of(*bursts, **fields):
    """Return jobs A, B, ... which all come at 0."""
    return [Job(name, 0, burst, **fields) for name, burst in zip("ABCDEFGH", bursts, strict=False)]


def chart(policy, jobs):
    return "".join(simulate(policy, jobs).chart)


# The machine and its figures.


def test_turns_are_units_and_round_robin_is_what_a_kernel_does_anyway():
    assert chart(FIFO(), jobs_of((3,), (1,), (2,))) == "ABCACA"


def test_io_takes_units_without_the_processor():
    assert chart(FIFO(), jobs_of((1, 3, 1), (2,))) == "ABB.A"


def test_who_arrives_at_the_end_of_a_turn_comes_before_the_one_whose_turn_it_was():
    assert chart(FIFO(), [Job("A", 0, (3,)), Job("B", 1, (1,))]) == "ABAA"


def test_nobody_runs_before_it_arrives():
    assert chart(FIFO(), [Job("A", 2, (1,))]) == "..A"


def test_the_figures_of_a_small_case_are_those_reckoned_by_hand():
    # A B A B A I/O I/O A; B is there at 1: it waits for nobody then, since A's first turn is over.
    outcome = simulate(FIFO(), [Job("A", 0, (3, 2, 1)), Job("B", 1, (2,))])
    assert "".join(outcome.chart) == "ABABA..A"
    assert [outcome.response(name) for name in "AB"] == [0, 0]
    assert [outcome.turnaround(name) for name in "AB"] == [8, 3]
    assert [outcome.waiting(name) for name in "AB"] == [2, 1]
    assert outcome.switches() == 4
    # A had 4 of 6, B 2 of 3 of the units in which it wanted the processor: the same.
    assert outcome.fairness() == pytest.approx(1)


def test_jains_index_is_one_for_equals_and_less_where_one_has_more():
    assert simulate(FIFO(), jobs_of((1,))).fairness() == 1
    outcome = simulate(Priority({"B": 1}, aging=inf), jobs_of((99,), (1,)))
    # The shares are 99/99 and 1/100: their sum squared, over twice the sum of their squares.
    assert outcome.fairness() == pytest.approx((1 + 0.01) ** 2 / (2 * (1 + 0.0001)))


def test_late_is_who_ends_after_its_deadline():
    assert simulate(FIFO(), [Job("A", 0, (3,), deadline=3)]).late() == 0
    assert simulate(FIFO(), [Job("A", 0, (3,), deadline=2)]).late() == 1


@pytest.mark.parametrize("bursts", [(), (1, 1), (0,), (1, -1, 1)])
def test_a_job_that_makes_no_sense_is_refused(bursts):
    with pytest.raises(ValueError, match="job A does"):
        simulate(FIFO(), [Job("A", 0, bursts or (0,))])


def test_fifo_makes_the_same_trace_as_no_policy_at_all():
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


@given(JOBS, some.sampled_from(NAMES))
def test_under_each_policy_each_job_does_all_its_work_and_nobody_is_idle_in_vain(drawn, name):
    jobs = [Job(f"job{number}", *fields) for number, fields in enumerate(drawn)]
    outcome = simulate(policies(1)[name](jobs), jobs)  # the kernel's invariants are asserted at each turn
    for job in jobs:
        assert outcome.chart.count(job.name) == job.work
        assert outcome.started[job.name] >= job.arrival
        assert outcome.waiting(job.name) >= 0
    if all(not job.io for job in jobs):
        assert outcome.chart.count(".") == idle_units(jobs)


def idle_units(jobs):
    """Return in how many units there is nothing to do, whatever the policy."""
    now = idle = 0
    for job in sorted(jobs, key=lambda job: job.arrival):
        idle += max(job.arrival - now, 0)
        now = max(now, job.arrival) + job.work
    return idle


@pytest.mark.parametrize("name", NAMES)
def test_a_queue_holds_what_was_appended_and_gives_each_once(name):
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


# What each policy promises.


def test_the_most_urgent_is_first_and_equals_take_turns():
    assert chart(Priority({"A": 1, "B": 0, "C": 0}), jobs_of((2,), (2,), (2,))) == "BCBCAA"


def test_without_aging_who_is_not_urgent_starves_and_with_it_it_waits_for_so_long_at_most():
    jobs = jobs_of((5,), (200,))
    alone = chart(Priority({"A": 3}, aging=inf), jobs)
    assert alone == "B" * 200 + "A" * 5
    aged = simulate(Priority({"A": 3}, aging=10), jobs)
    assert aged.response("A") == 30
    assert aged.ended["A"] <= 5 * 31


def test_a_lottery_gives_each_about_its_share_and_is_the_same_for_a_seed():
    jobs = [Job(name, 0, (3000,), tickets=tickets) for name, tickets in (("A", 1), ("B", 3))]
    drawn = chart(Lottery({"A": 1, "B": 3}, seed=5), jobs)
    assert 0.22 < drawn[:3000].count("A") / 3000 < 0.28
    assert drawn == chart(Lottery({"A": 1, "B": 3}, seed=5), jobs)
    assert drawn != chart(Lottery({"A": 1, "B": 3}, seed=6), jobs)


def test_stride_gives_each_its_share_at_each_moment_up_to_a_turn():
    tickets = {"A": 1, "B": 2, "C": 3}
    drawn = chart(Stride(tickets), [Job(name, 0, (60,)) for name in tickets])
    for units in range(1, 100):
        for name, share in tickets.items():
            assert abs(drawn[:units].count(name) - units * share / 6) <= 1, (units, name)


def test_under_stride_nobody_saves_turns_while_it_waits():
    # B is in I/O for 50 units, and then has no more than its half.
    drawn = chart(Stride(), jobs_of((100,), (1, 50, 30)))
    back = drawn.index("B", 10)
    assert drawn[back : back + 20].count("B") == 10


def test_feedback_lets_who_is_interactive_respond_sooner_than_round_robin_does():
    jobs = [*jobs_of((40,), (40,), (40,)), Job("shell", 12, (1, 9) * 3 + (1,))]
    feedback, fifo = simulate(Feedback(boost=1000), jobs), simulate(FIFO(), jobs)
    assert feedback.waiting("shell") == 0 < fifo.waiting("shell")


def test_under_feedback_to_give_up_the_processor_just_before_the_allotment_ends_wins_nothing():
    # B is in I/O for a unit after each three: it has used up its allotment in pieces all the same, and sinks.
    jobs = [Job("A", 0, (30,)), Job("B", 0, (3, 1) * 9 + (3,))]
    drawn = chart(Feedback(boost=10_000), jobs)
    assert abs(drawn[:40].count("A") - drawn[:40].count("B")) <= 4


def test_the_boost_of_feedback_saves_from_starvation():
    def shells():
        return [Job(f"shell{number}", 8 + 2 * number, (2,)) for number in range(100)]

    jobs = [Job("A", 0, (20,)), *shells()]
    assert simulate(Feedback(boost=10_000), jobs).ended["A"] > 200
    assert simulate(Feedback(boost=20), jobs).ended["A"] < 200


def test_edf_meets_the_deadlines_that_can_be_met_and_no_other_policy_here_does():
    jobs = WORKLOADS["deadlines"]
    late = {name: simulate(make(jobs), jobs).late() for name, make in policies(1).items()}
    assert late.pop("EDF") == 0
    assert min(late.values()) > 0


@given(some.lists(some.tuples(some.integers(0, 10), some.integers(1, 5), some.integers(0, 10)), max_size=6, min_size=1))
def test_edf_is_late_only_where_the_work_until_a_deadline_is_more_than_the_time(drawn):
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


def test_what_is_known_of_tasks_that_have_ended_is_swept_out():
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


@pytest.mark.parametrize("arguments", [[], ["--workload", "deadlines"], ["--quiz"], ["--quiz", "--solve"]])
def test_what_it_prints(arguments, golden):
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    golden(done.stdout, "policies/" + ("_".join(arguments).replace("--", "") or "mix"))


def test_one_policy_shows_each_job(capsys):
    assert main(["--workload", "convoy", "--policy", "stride"]) == 0
    said = capsys.readouterr().out
    assert "arrival" in said and "FIFO" not in said


@pytest.mark.parametrize("arguments", [["--workload", "what"], ["--policy", "what"], ["--seed", "x"], ["more"]])
def test_what_is_not_understood_is_said(arguments):
    done = command(*arguments)
    assert done.returncode == 2 and "error:" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", NAMES)
def test_the_quiz_has_an_answer_to_each_question_and_hides_it_unless_asked(name, seed):
    asked, solved = (quiz.ask(policies(seed), name, seed, solve) for solve in (False, True))
    assert len(asked) == len(solved)
    hidden = [number for number, (one, two) in enumerate(zip(asked, solved, strict=True)) if one != two]
    assert len(hidden) == 5 and all(asked[number] == "" and solved[number].strip() for number in hidden)
    jobs = random_jobs(seed)
    assert " ".join(simulate(policies(seed)[name](jobs), jobs).chart).replace(".", "-") in solved[hidden[0]]


def test_a_plot_is_drawn_and_is_the_same_each_time(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install minisched[bench]")
    for name in ("one.svg", "two.svg", "three.png"):
        assert main(["--plot", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.svg").read_text() == (tmp_path / "two.svg").read_text()
    assert (tmp_path / "three.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_can_not_be_drawn_is_one_line(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install minisched[bench]")
    for file in (tmp_path / "nowhere" / "one.svg", tmp_path / "one.what"):
        done = command("--plot", file)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and file.name in done.stderr


def test_without_matplotlib_it_is_said_what_to_install(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('none')")
    process = [sys.executable, "-m", "demos.policies", "--plot", str(tmp_path / "one.svg")]
    done = subprocess.run(process, capture_output=True, text=True, cwd=ROOT, env=environment(tmp_path))
    assert (done.returncode, done.stderr) == (1, "--plot needs matplotlib: pip install 'minisched[bench]'\n")


def test_a_long_chart_is_broken_into_lines():
    lines = show.chart(simulate(FIFO(), jobs_of((120,), (130,))))
    assert max(map(len, lines)) <= 10 + 2 + show.WIDE
    assert sum(line.count("#") for line in lines) == 250
