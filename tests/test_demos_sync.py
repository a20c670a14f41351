"""The demos of locks, queues, pipelines and timeouts: run as programs, in virtual time, and cancelled."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import pytest
from programs import ROOT, finished, started

from minisched import Cancel, Deadlock, Join, Sleep, Spawn, TaskCancelled
from minisched.testing import VirtualClock, run

NAMES = ("dining_philosophers", "producer_consumer", "pipeline", "timeouts")
# The moments at which a demo is cancelled: every n-th one, and the turns between it and the cancellation.
MOMENTS = [
    pytest.param((3, (0, 3)), id="some moments"),
    pytest.param((1, (0, 1, 2, 3, 5)), id="all moments", marks=pytest.mark.slow),
]

DEADLOCK = """\
Everybody takes the left fork first.
Plato has fork 1
Hypatia has fork 2
Avicenna has fork 3
Kant has fork 4
Arendt has fork 5

(the report)

forks on the table: 5
"""

FIXED = """\
Everybody takes the fork with the lower number first.
Plato has fork 1
Hypatia has fork 2
Avicenna has fork 3
Kant has fork 4
Kant has fork 5, too, and eats meal 1
Avicenna has fork 4, too, and eats meal 1
Kant has fork 4
Hypatia has fork 3, too, and eats meal 1
Kant has fork 5, too, and eats meal 2
Kant gets up
Avicenna has fork 3
Plato has fork 2, too, and eats meal 1
Avicenna has fork 4, too, and eats meal 2
Hypatia has fork 2
Arendt has fork 1
Arendt has fork 5, too, and eats meal 1
Plato has fork 1
Avicenna gets up
Hypatia has fork 3, too, and eats meal 2
Hypatia gets up
Plato has fork 2, too, and eats meal 2
Plato gets up
Arendt has fork 1
Arendt has fork 5, too, and eats meal 2
Arendt gets up
all philosophers have eaten
forks on the table: 5
"""

BAKERY = """\
bakers              customers             |one = for each loaf then on the shelf
(While a baker waits, a loaf that is taken is replaced by the baker's at once.)
Ana puts Ana's 1                          |=
Ana puts Ana's 2                          |==
Ben puts Ben's 1                          |==
                    Xenia takes Ana's 1   |==
Ana puts Ana's 3                          |==
                    Yves takes Ana's 2    |==
Ben puts Ben's 2                          |==
                    Xenia takes Ben's 1   |==
Ana puts Ana's 4                          |==
Ana is done
                    Xenia takes Ana's 3   |==
Ben puts Ben's 3                          |==
                    Xenia takes Ben's 2   |==
Ben puts Ben's 4                          |==
Ben is done
                    Yves takes Ana's 4    |==
                    Xenia takes Ben's 3   |=
                    Xenia takes Ben's 4   |
                    Xenia goes home
                    Yves goes home
8 put, 8 taken, 0 left
the balance is right
"""

PIPELINE = """\
read 1
read 2
            parse 1
read 3
            parse 2
read 4
                        add 1
            parse 3
read 5
                        add 2
            parse 4
read 6
                        add 3
            parse 5
read 7
                        add 4
            parse 6
read 8
                        add 5
            parse 7
read 9
                        add 6
            parse 8
                        add 7
            parse 9
                        add 8
                        add 9
totals: 6 apples, 11 pears, 10 plums
lines:  read 9, parse 9, add 9
stages: read, parse and add are done
"""

FAILURE = """\
lines:  read 6, parse 4, add 2
stages: parse failed, read and add were cancelled
"""
FAILING = PIPELINE.split("                        add 3\n")[0] + FAILURE

TIMEOUTS = """\
timeout: Timeout raises TimedOut when its time is up.
  a quick answer: 42
  no answer: task 'main' timed out: 0.1 s have passed
move_on: MoveOnAfter ends its block, and the program continues.
  2 of 3 answers: the time was up before the last one
idle: A deadline that moves at each answer limits each pause.
  an answer
  an answer
  an answer
  an answer
  no further answer: task 'main' timed out: its deadline has passed
cleanup: Cancellation persists, so a cleanup that has to wait needs a Shield.
  sent a goodbye and got an answer
  continued after the block
nested: If two timeouts expire at once, the outer one counts.
  the outer timeout was raised; the inner one had expired, too
retry: Retry, with a pause that doubles each time.
  attempt 1: timed out; the next one in 0.05 s
  attempt 2: timed out; the next one in 0.1 s
  attempt 3: 42
"""


def path(name):
    return ROOT / "demos" / f"{name}.py"


def load(name):
    """Import a demo as a module whose `run` uses virtual time."""
    spec = spec_from_file_location(name, path(name))
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "demos")
        spec.loader.exec_module(module)
    module.run = run
    return module


@pytest.fixture
def demos():
    return SimpleNamespace(**{name: load(name) for name in NAMES})


def without_report(printed):
    """Replace the text of a deadlock report, which contains paths and line numbers."""
    return re.sub(r"^Deadlock: (.+\n)+", "(the report)\n", printed, flags=re.MULTILINE)


class LateClock(VirtualClock):
    """A clock on which turns take time, too, and some waits end late."""

    def __init__(self, seed):
        super().__init__()
        self.random = random.Random(seed)

    def now(self):
        self.time += self.random.random() * 1e-5
        return self.time

    def wait(self, select, deadline):
        super().wait(select, deadline)
        self.time += self.random.choice((0, 0, 0.001, 0.02)) * self.random.random()


def end_by_cancellation(body, seconds, turns):
    """Run `body`, and cancel it `turns` turns after `seconds` seconds; return how it ended."""

    def main():
        task = yield Spawn(body, keep=True)
        yield Sleep(seconds)
        for _ in range(turns):
            yield
        yield Cancel(task)
        try:
            yield Join(task)
        except TaskCancelled:
            return "cancelled"
        return "returned"

    return run(main())


def moments(step, end, chosen):
    """Return the chosen moments of those every `step` seconds from `end` down to 0, each with a number of turns."""
    every, turns = chosen
    return [(number * step, later) for number in range(round(end / step), -1, -every) for later in turns]


def assert_both_ends_were_seen(ends):
    assert {*ends} == {"cancelled", "returned"}


# As programs.


@pytest.fixture(scope="module")
def results():
    """Return the results of all demos, run in real time, four processes at a time."""
    commands = {name: [path(name)] for name in NAMES}
    commands |= {f"{name} traced": ["-m", "minisched", "run", "--trace", path(name)] for name in NAMES}
    commands |= {
        "dining_philosophers deadlock": [path("dining_philosophers"), "--deadlock"],
        "dining_philosophers fixed": [path("dining_philosophers"), "--fixed"],
        "pipeline fail": [path("pipeline"), "--fail"],
        "timeouts nested": [path("timeouts"), "--only", "nested"],
    }
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(commands, pool.map(lambda command: finished(*command), commands.values()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("dining_philosophers", f"{DEADLOCK}\n{FIXED}"),
        ("dining_philosophers deadlock", DEADLOCK),
        ("dining_philosophers fixed", FIXED),
        ("producer_consumer", BAKERY),
        ("pipeline", PIPELINE),
        ("timeouts", TIMEOUTS),
        ("timeouts nested", "".join(TIMEOUTS.splitlines(keepends=True)[14:16])),
    ],
)
def test_a_demo_prints_the_same_in_real_time(results, name, printed):
    result = results[name]
    assert (result.returncode, without_report(result.stdout), result.stderr) == (0, printed, "")


@pytest.mark.slow
def test_a_failing_pipeline_prints_the_reason_in_one_line(results):
    result = results["pipeline fail"]
    error = "pipeline: line 5: 'pears many' is not a fruit and a number\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, FAILING, error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "status", "printed"),
    [
        ("dining_philosophers", 1, "\n".join(DEADLOCK.splitlines()[1:6]) + "\n"),
        ("producer_consumer", 0, BAKERY),
        ("pipeline", 0, PIPELINE),
        ("timeouts", 0, TIMEOUTS),
    ],
)
def test_a_demo_can_be_traced_by_the_command_line(results, name, status, printed):
    result = results[f"{name} traced"]
    assert (result.returncode, result.stdout) == (status, printed)
    assert "spawned 0 main" in result.stderr
    assert ("\nDeadlock: 6 parked" in result.stderr) == (status == 1)
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_help_describes_the_demo(name):
    result = finished(path(name), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: {name}.py [-h]") and ".\n\noptions:\n" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dining_philosophers", ["--meals", "-1"], "argument --meals: expected a number of at least 0, not '-1'"),
        ("dining_philosophers", ["--fixed", "--deadlock"], "argument --deadlock: not allowed with argument --fixed"),
        ("producer_consumer", ["--room", "1.5"], "argument --room: expected a number of at least 0, not '1.5'"),
        ("producer_consumer", ["--loaves", ""], "argument --loaves: expected a number of at least 0, not ''"),
        ("pipeline", ["--room", "-1"], "argument --room: expected a number of at least 0, not '-1'"),
        ("pipeline", ["--times", "two"], "argument --times: expected a number of at least 0, not 'two'"),
        ("timeouts", ["--only", "lunch"], "argument --only: invalid choice: 'lunch' (choose from "),
    ],
)
def test_a_wrong_option_is_one_line_after_the_usage(name, arguments, message):
    result = finished(path(name), *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    usage, error = result.stderr.splitlines()
    assert usage.startswith(f"usage: {name}.py ") and error.startswith(f"{name}.py: error: {message}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "until", "end"),
    [
        ("dining_philosophers", ["--fixed", "--meals", 1000], "eats meal 3\n", ""),
        ("producer_consumer", ["--loaves", 1000], "Yves takes .*\n", "the balance is right\n"),
        ("pipeline", ["--times", 1000], "add 2\n", "stages: read, parse and add were cancelled\n"),
        ("timeouts", [], "a quick answer: 42\n", ""),
    ],
)
def test_ctrl_c_ends_a_demo_without_an_error(name, arguments, until, end):
    with started(path(name), *arguments) as running:
        running.expect(until)
        assert running.interrupt() == 130
        assert running.errors() == ""
        assert running.said.endswith(end)


# In virtual time.


def test_the_philosophers_print_a_deadlock_and_then_a_complete_dinner(demos, capsys):
    demos.dining_philosophers.show(False, 2)
    assert without_report(capsys.readouterr().out) == DEADLOCK
    demos.dining_philosophers.show(True, 2)
    assert capsys.readouterr().out == FIXED


def test_the_deadlock_report_names_the_waiters_the_forks_their_owners_and_the_cycle(demos):
    with pytest.raises(Deadlock) as caught:
        run(demos.dining_philosophers.main())
    report, names = str(caught.value), [*demos.dining_philosophers.PHILOSOPHERS]
    for seat, name in enumerate(names):
        right = (seat + 1) % 5
        assert f"0.{seat} {name} waits in Acquire(<Lock fork {right + 1}: held by task '{names[right]}'" in report
    assert re.search("cycle: .*" + " -> .*".join([*names, names[0]]), report)


def test_the_bakery_prints_each_put_and_each_take(demos, capsys):
    run(demos.producer_consumer.main())
    assert capsys.readouterr().out == BAKERY


@pytest.mark.parametrize("room", [0, 1, 2, 5])
def test_the_shelf_never_exceeds_its_size_and_all_loaves_are_eaten(demos, capsys, room):
    run(demos.producer_consumer.main(room, 6))
    printed = capsys.readouterr().out
    assert printed.endswith("12 put, 12 taken, 0 left\nthe balance is right\n")
    assert max(map(len, re.findall(r"\|(=*)$", printed, re.MULTILINE))) == room
    assert max(map(len, printed.splitlines())) <= 80


def test_the_pipeline_prints_the_lines_in_the_column_of_each_stage(demos, capsys):
    run(demos.pipeline.main())
    assert capsys.readouterr().out == PIPELINE


def test_a_failure_ends_the_pipeline_and_its_last_stage_has_no_result(demos, capsys):
    with pytest.raises(ExceptionGroup) as caught:
        run(demos.pipeline.main(fail="yes"))
    (error,) = caught.value.exceptions
    assert isinstance(error, demos.pipeline.BadLine)
    assert str(error) == "line 5: 'pears many' is not a fruit and a number"
    assert capsys.readouterr().out == FAILING


def test_without_items_closing_the_queues_ends_all_tasks(demos, capsys):
    run(demos.producer_consumer.main(loaves=0))
    assert "Xenia goes home\n" in (printed := capsys.readouterr().out)
    assert printed.endswith("Yves goes home\n0 put, 0 taken, 0 left\nthe balance is right\n")
    run(demos.pipeline.main(times=0))
    assert capsys.readouterr().out.startswith("totals: \nlines:  read 0, parse 0, add 0\n")


@pytest.mark.parametrize("room", [0, 1, 3])
def test_the_first_stage_is_ahead_of_the_last_by_the_items_in_queues_and_stages(demos, capsys, room):
    run(demos.pipeline.main(room, times=2))
    read = added = most = 0
    for line in capsys.readouterr().out.splitlines():
        read, added = read + line.startswith("read"), added + line.strip().startswith("add")
        most = max(most, read - added)
    assert (read, added, most) == (18, 18, 2 * room + 2)  # two queues, and one line in each of the later stages


def test_the_timeouts_print_their_effects(demos, capsys):
    run(demos.timeouts.main())
    assert capsys.readouterr().out == TIMEOUTS


@pytest.mark.parametrize("seeds", [3, pytest.param(25, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_demo_prints_the_same_if_its_waits_end_late(demos, capsys, name, seeds):
    bodies = {
        "dining_philosophers": lambda: demos.dining_philosophers.main("fixed"),
        "producer_consumer": demos.producer_consumer.main,
        "pipeline": demos.pipeline.main,
        "timeouts": demos.timeouts.main,
    }
    texts = set()
    for seed in range(seeds):
        run(bodies[name](), clock=LateClock(seed))
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1


# Cancelled.


@pytest.mark.parametrize("chosen", MOMENTS)
def test_cancelled_philosophers_put_their_forks_down(demos, chosen):
    demo, ends = demos.dining_philosophers, []
    for seconds, turns in moments(0.04, 1.5, chosen):
        forks = demo.lay_the_table()
        ends.append(end_by_cancellation(demo.dinner(forks, fixed=True), seconds, turns))
        assert [fork.owner for fork in forks] == [None] * 5, (seconds, turns)
        assert not any(fork.waiters for fork in forks)
    assert_both_ends_were_seen(ends)


@pytest.mark.parametrize("chosen", MOMENTS)
def test_no_loaf_is_lost_at_whatever_moment_the_bakery_is_cancelled(demos, capsys, monkeypatch, chosen):
    demo, bakeries, ends = demos.producer_consumer, [], []

    class RecordedBakery(demo.Bakery):
        def __init__(self, room, loaves):
            super().__init__(room, loaves)
            bakeries.append(self)

        def balance(self):
            self.left = [*self.shelf.items]
            super().balance()

    monkeypatch.setattr(demo, "Bakery", RecordedBakery)
    for seconds, turns in moments(0.1, 1.5, chosen):
        ends.append(end_by_cancellation(demo.main(), seconds, turns))
        bakery = bakeries[-1]
        assert sorted(bakery.put) == sorted(bakery.taken + bakery.left), (seconds, turns)
        assert capsys.readouterr().out.endswith(f"{len(bakery.left)} left\nthe balance is right\n")
    assert len(bakeries) == len(ends)
    assert_both_ends_were_seen(ends)


@pytest.mark.parametrize("chosen", MOMENTS)
def test_no_line_is_lost_between_stages_at_whatever_moment_they_are_cancelled(demos, capsys, monkeypatch, chosen):
    demo, pipelines, ends, dropped = demos.pipeline, [], [], set()

    class RecordedPipeline(demo.Pipeline):
        def __init__(self, room):
            super().__init__(room)
            pipelines.append(self)

    monkeypatch.setattr(demo, "Pipeline", RecordedPipeline)
    for seconds, turns in moments(0.1, 1, chosen):
        ends.append(end_by_cancellation(demo.main(), seconds, turns))
        pipeline, printed = pipelines[-1], capsys.readouterr().out
        read, parse, add = pipeline.done.values()
        raw, parsed = pipeline.raw, pipeline.parsed
        in_stages = (read - raw.qsize() - parse, parse - parsed.qsize() - add)  # lines in the two later stages
        assert {*in_stages} <= {0, 1}, (seconds, turns)
        assert [number for number, *_ in raw.items] == [*range(read - raw.qsize() + 1, read + 1)]
        assert [number for number, *_ in parsed.items] == [*range(parse - parsed.qsize() + 1, parse + 1)]
        assert sum(pipeline.totals.values()) == sum(int(line.split()[1]) for line in demo.LINES[:add])
        assert ("totals" in printed) == (ends[-1] == "returned")
        assert "parked" not in printed and "ready" not in printed
        dropped.add(in_stages)
    assert len(pipelines) == len(ends) and dropped >= {(0, 0), (1, 1)}
    assert_both_ends_were_seen(ends)


@pytest.mark.parametrize("chosen", MOMENTS)
def test_a_cancellation_is_never_mistaken_for_a_timeout_and_waits_for_the_cleanup(demos, capsys, chosen):
    ends = []
    for seconds, turns in moments(0.05, 2, chosen):
        ends.append(end_by_cancellation(demos.timeouts.main(), seconds, turns))
        printed = capsys.readouterr().out
        assert TIMEOUTS.startswith(printed), (seconds, turns)
        assert not printed.endswith("needs a Shield.\n")
    assert_both_ends_were_seen(ends)
