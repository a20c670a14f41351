"""The plugin for pytest: tests and fixtures in the scheduler, marks, seeds, leaks and recordings.

Each test writes a file of tests and runs pytest on it, in this process.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from textwrap import dedent

import pytest

from minisched.testing import Provide, fixture

pytest_plugins = "pytester"

ARGUMENTS = ("-p", "minisched.testing.pytest_plugin", "-p", "no:cacheprovider")
HEAD = """
import os
import threading

import pytest

from minisched import *
from minisched.lab import Shared, together
from minisched.testing import Provide, fixture
"""


class Ended:
    """A run of pytest that has ended: the outcome of each test by its name, and the text."""

    def __init__(self, result):
        self.text = result.stdout.str()
        self.errors = result.stderr.str()
        found = re.findall(r"^\S+::(\S+) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)", self.text, re.MULTILINE)
        self.outcomes = {name.rpartition("::")[2]: outcome.lower() for name, outcome in found}

    def __contains__(self, text):
        return text in self.text

    def command(self):
        """Return the arguments of the last command that the report gives."""
        return shlex.split(re.findall(r"^ +pytest (.*)$", self.text, re.MULTILINE)[-1])


@pytest.fixture
def run(pytester, monkeypatch):
    """Return a function that runs pytest on a file of tests, with no plugin but ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run_tests(source, *arguments, ini=""):
        pytester.makeini(f"[pytest]\nminisched_mode = {ini or 'strict'}\n")
        pytester.makepyfile(test_file=HEAD + dedent(source))
        return Ended(pytester.runpytest_inprocess(*ARGUMENTS, "-v", *arguments))

    return run_tests


# The form of a test.


def test_generators_and_coroutines_run_on_a_virtual_clock(run):
    ended = run(
        """
        @pytest.mark.minisched
        def test_generator():
            yield Sleep(3600)
            assert (yield Now()) == 3600

        @pytest.mark.minisched
        async def test_coroutine():
            await Sleep(3600)
            assert await Now() == 3600
        """
    )
    assert ended.outcomes == {"test_generator": "passed", "test_coroutine": "passed"}


def test_a_failed_assertion_is_shown_with_the_lines_of_the_test_only(run):
    ended = run(
        """
        @pytest.mark.minisched
        def test_fails():
            yield
            value = 2
            assert value == 3
        """
    )
    assert ended.outcomes == {"test_fails": "failed"}
    assert "assert 2 == 3" in ended
    assert ">       assert value == 3" in ended
    assert "minisched/kernel" not in ended and "pytest_plugin.py" not in ended


def test_methods_parameters_and_the_fixtures_of_pytest(run):
    ended = run(
        """
        pytestmark = pytest.mark.minisched

        @pytest.fixture
        def number():
            return 4

        class TestClass:
            @pytest.mark.parametrize("n", [1, 2])
            def test_method(self, n, number, tmp_path):
                yield
                assert number == 4 and tmp_path.is_dir()
                assert n == 1

            @staticmethod
            def test_static():
                yield

            async def test_coroutine(self):
                await Sleep(1)

        def test_plain():
            pass
        """
    )
    assert ended.outcomes == {
        "test_method[1]": "passed",
        "test_method[2]": "failed",
        "test_static": "passed",
        "test_coroutine": "passed",
        "test_plain": "passed",
    }


def test_a_test_can_be_skipped_from_within_in_each_kind_of_run(run):
    ended = run(
        """
        def skips():
            yield
            pytest.skip("not here")

        @pytest.mark.minisched
        def test_run():
            yield from skips()

        @pytest.mark.explore
        def test_explored():
            yield from skips()

        @pytest.mark.cancel_everywhere
        def test_cancelled():
            yield from skips()

        @pytest.mark.minisched
        @pytest.mark.xfail(strict=True)
        def test_fails():
            yield
            assert False
        """
    )
    assert ended.outcomes["test_run"] == "skipped"
    assert ended.outcomes["test_explored"] == "skipped"
    assert ended.outcomes["test_cancelled"] == "skipped"
    assert ended.outcomes["test_fails"] == "xfail"


def test_hypothesis_gives_the_arguments(run):
    pytest.importorskip("hypothesis")
    ended = run(
        """
        from hypothesis import given, settings, strategies

        @pytest.mark.minisched
        @settings(max_examples=20, database=None, deadline=None)
        @given(n=strategies.integers(0, 100))
        def test_holds(n):
            yield Sleep(n)
            assert (yield Now()) == n

        @pytest.mark.minisched
        @settings(max_examples=200, database=None, deadline=None)
        @given(n=strategies.integers(0, 100))
        async def test_fails(n):
            await Sleep(n)
            assert await Now() < 42
        """
    )
    assert ended.outcomes == {"test_holds": "passed", "test_fails": "failed"}
    assert "n=42" in ended


def test_without_a_mark_pytest_does_what_it_does(run):
    source = """
        async def test_coroutine():
            pass

        @pytest.mark.minisched
        def test_plain():
            assert True
        """
    assert run(source).outcomes["test_plain"] == "passed"
    assert "async def functions are not natively supported" in run(source)
    ended = run("def test_generator():\n    yield Sleep(1)\n")
    assert ended.outcomes.get("test_generator") != "passed"
    assert "'yield' keyword" in ended or "yield tests were removed" in ended  # by the version of pytest


def test_in_auto_mode_no_mark_is_needed_and_those_of_other_plugins_are_left_to_them(run):
    ended = run(
        """
        def test_generator():
            yield Sleep(1)

        async def test_coroutine():
            assert await Now() == 0

        @pytest.mark.trio
        async def test_of_another_plugin():
            raise OSError("not run by us")

        def test_plain():
            pass
        """,
        ini="auto\nmarkers = trio",
    )
    assert (
        ended.outcomes["test_generator"] == ended.outcomes["test_coroutine"] == ended.outcomes["test_plain"] == "passed"
    )
    assert "not run by us" not in ended


def test_an_unknown_mode_is_an_error_of_usage(run):
    ended = run("", ini="automatic")
    assert "minisched_mode is auto or strict, not 'automatic'" in ended.errors


def test_the_arguments_of_a_mark_have_names_that_exist(run):
    ended = run(
        """
        @pytest.mark.explore(100)
        def test_without_a_name():
            yield

        @pytest.mark.minisched(clock=None)
        def test_of_another_name():
            yield
        """
    )
    assert ended.outcomes == {"test_without_a_name": "failed", "test_of_another_name": "failed"}
    assert "the arguments of the mark explore have names: explore(runs=" in ended
    assert "'clock'" in ended


def test_a_test_in_real_time_waits(run):
    ended = run(
        """
        import time

        @pytest.mark.minisched(real_time=True)
        def test_waits():
            before = time.monotonic()
            yield Sleep(0.02)
            assert time.monotonic() - before >= 0.02
        """
    )
    assert ended.outcomes == {"test_waits": "passed"}


# Fixtures.


def test_fixtures_of_each_form_have_values(run):
    ended = run(
        """
        @fixture
        def by_generator():
            yield Sleep(1)
            yield Provide("generator")

        @fixture
        def by_return():
            yield Sleep(1)
            return "returned"

        @fixture
        async def by_coroutine():
            await Sleep(1)
            return "coroutine"

        @fixture
        async def by_async_generator():
            await Sleep(1)
            yield "async generator"

        @fixture(name="renamed", params=[1, 2])
        def of_parameters(request, by_return):
            yield
            return request.param, by_return

        @fixture
        def none():
            yield Provide(None)

        @fixture
        def a_call():
            yield Provide(Sleep(5))

        @pytest.mark.minisched
        def test_values(by_generator, by_return, by_coroutine, by_async_generator, renamed, none, a_call):
            assert (by_generator, by_return, by_coroutine) == ("generator", "returned", "coroutine")
            assert by_async_generator == "async generator" and renamed[1] == "returned"
            assert none is None and isinstance(a_call, Sleep)
            assert (yield Now()) == 4

        class TestMethods:
            @fixture
            def of_method(self):
                yield
                return type(self).__name__

            @pytest.mark.minisched
            async def test_method(self, of_method):
                assert of_method == "TestMethods"
        """
    )
    assert ended.outcomes == {"test_values[1]": "passed", "test_values[2]": "passed", "test_method": "passed"}


def test_fixtures_are_torn_down_in_reverse_order_and_each_is_set_up_once(run):
    ended = run(
        """
        log = []

        @fixture
        def base():
            log.append("base")
            yield Provide(log)
            yield Sleep(1)
            log.append("end of base")

        @fixture
        async def left(base):
            base.append("left")
            yield
            base.append("end of left")

        @fixture
        def right(base):
            base.append("right")
            yield Provide()
            base.append("end of right")

        @pytest.mark.minisched
        def test_diamond(left, right, base):
            yield
            assert base == ["base", "left", "right"]

        def test_order():
            assert log == ["base", "left", "right", "end of right", "end of left", "end of base"]
        """
    )
    assert ended.outcomes == {"test_diamond": "passed", "test_order": "passed"}


def test_each_run_of_a_test_has_fixtures_of_its_own(run):
    ended = run(
        """
        runs = []

        @fixture
        async def queue():
            runs.append(1)
            return Queue()

        @pytest.mark.explore(runs=10)
        @pytest.mark.cancel_everywhere
        def test_each(queue):
            assert queue.qsize() == 0
            yield queue.put("item")

        def test_count():
            assert len(runs) > 11
        """
    )
    assert ended.outcomes == {"test_each": "passed", "test_count": "passed"}


def test_an_error_of_the_test_passes_through_its_fixtures_and_is_never_lost(run):
    ended = run(
        """
        seen = []

        @fixture
        def swallows():
            try:
                yield Provide(1)
            except LookupError as error:
                seen.append(error)

        @pytest.mark.minisched
        def test_fails(swallows):
            yield
            raise LookupError("of the test")

        def test_seen():
            assert str(seen[0]) == "of the test"
        """
    )
    assert ended.outcomes == {"test_fails": "failed", "test_seen": "passed"}
    assert "LookupError: of the test" in ended


def test_a_fixture_holds_a_scope_around_the_test(run):
    ended = run(
        """
        @fixture
        def limit():
            with (yield Timeout(5)):
                yield Provide()

        @fixture
        def cut():
            with (yield MoveOnAfter(5)):
                yield Provide()

        @fixture
        async def server():
            with await Listen(("127.0.0.1", 0)) as listener:
                async with TaskGroup() as tasks:
                    await tasks.spawn(serves(listener))
                    yield listener.address
                    tasks.cancel()

        def serves(listener):
            while True:
                with (yield Accept(listener)) as connection:
                    yield Write(connection, (yield Read(connection, 100)))

        @pytest.mark.minisched
        def test_is_served(server):
            for _ in range(2):
                with (yield Connect(server)) as connection:
                    yield Write(connection, b"hello")
                    assert (yield Read(connection, 100)) == b"hello"

        @pytest.mark.minisched
        def test_ends_in_time(limit):
            yield Sleep(4)

        @pytest.mark.minisched
        def test_takes_longer(limit):
            yield Sleep(6)

        @pytest.mark.minisched
        def test_is_cut(cut):
            yield Sleep(6)
        """
    )
    assert ended.outcomes == {
        "test_is_served": "passed",
        "test_ends_in_time": "passed",
        "test_takes_longer": "failed",
        "test_is_cut": "failed",
    }
    assert "TimedOut: task 'test_takes_longer' timed out: 5 s have passed" in ended
    assert "the test was cut short: a scope of a fixture was cancelled" in ended


def test_an_error_of_a_setup_and_one_of_a_teardown_fail_the_test(run):
    ended = run(
        """
        @fixture
        def breaks():
            yield Sleep(1)
            raise OSError("in setup")

        @fixture
        async def breaks_late():
            yield 1
            raise OSError("in teardown")

        @pytest.mark.minisched
        def test_setup(breaks):
            yield

        @pytest.mark.minisched
        def test_teardown(breaks_late):
            yield
        """
    )
    assert ended.outcomes == {"test_setup": "failed", "test_teardown": "failed"}
    assert "OSError: in setup" in ended and "OSError: in teardown" in ended


def test_each_mistake_with_a_fixture_has_a_sentence(run):
    ended = run(
        """
        @fixture
        def value():
            yield Provide(1)

        @pytest.fixture
        def of_pytest(value):
            return value.real

        @fixture
        def provides_twice():
            yield Provide(1)
            yield Provide(2)

        @pytest.mark.minisched
        def test_of_pytest(of_pytest):
            yield

        def test_plain(value):
            pass

        @pytest.mark.minisched
        def test_outside():
            yield Provide(1)

        @pytest.mark.minisched
        def test_twice(provides_twice):
            yield
        """
    )
    assert set(ended.outcomes.values()) == {"failed", "error"}
    assert "the fixture 'value' has a value only in the run of a test" in ended
    assert "the fixture 'value' runs in the scheduler, and so do tests that use it" in ended
    assert "Provide(1) outside of a fixture" in ended
    assert "the fixture 'provides_twice' provides a second value" in ended


def test_a_fixture_is_a_generator_or_a_coroutine_and_has_no_scope():
    with pytest.raises(TypeError, match=r"neither a generator nor an `async def`: use pytest.fixture"):
        fixture(len)
    with pytest.raises(TypeError, match="a fixture in the scheduler has no scope"):
        fixture(scope="module")
    assert Provide("value").value == "value"


# Leaks.


def test_a_leak_fails_its_test(run):
    ended = run(
        """
        import subprocess, sys

        kept = []
        done = threading.Event()

        @pytest.mark.minisched
        def test_descriptor():
            yield
            kept.extend(os.pipe())

        @pytest.mark.minisched
        def test_thread():
            yield
            thread = threading.Thread(target=done.wait, name="left over", daemon=True)
            thread.start()

        @pytest.mark.minisched
        def test_child():
            yield
            kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

        @pytest.mark.minisched(leaks=False)
        def test_that_may():
            yield
            kept.extend(os.pipe())

        def test_nothing_is_left():
            done.set()
            for thing in kept:
                if isinstance(thing, int):
                    os.close(thing)
                else:
                    thing.stdin.close()
                    thing.wait()
        """
    )
    assert ended.outcomes.pop("test_that_may") == ended.outcomes.pop("test_nothing_is_left") == "passed"
    assert set(ended.outcomes.values()) == {"failed"}
    assert "the test left behind: descriptor" in ended
    assert "the test left behind: thread 'left over'" in ended
    assert "the test left behind: descriptor" in ended and "child process" in ended


def test_a_deadlock_is_a_failure_and_a_call_that_is_dropped_is_reported(run):
    ended = run(
        """
        @pytest.mark.minisched
        def test_waits():
            yield Event().wait()

        @pytest.mark.minisched
        def test_drops():
            Queue().put(1)
            yield
        """
    )
    assert ended.outcomes == {"test_waits": "failed", "test_drops": "failed"}
    assert "0 test_waits waits in EventWait(" in ended
    assert re.search(r"`Queue\(\)\.put\(\)` made at \S+test_file.py:\d+ was never run; a missing `yield`\?", ended.text)


# The marks of many runs.

LOST_UPDATE = """
    def add(counter, late):
        for _ in range(late):
            yield
        value = counter.value
        yield
        counter.value = value + 1
    """


def test_an_exploration_fails_with_lanes_and_with_the_command_of_its_schedule(run):
    source = dedent(LOST_UPDATE) + dedent(
        """
        @pytest.mark.explore
        def test_count():
            counter = Shared(value=0)
            print("a run begins")
            yield from gather(add(counter, 0), add(counter, 3))
            assert counter.value == 2, f"{counter.value} in place of 2"
        """
    )
    ended = run(source)
    assert ended.outcomes == {"test_count": "failed"}
    assert "AssertionError: 1 in place of 2" in ended
    assert "schedule: rr " in ended and "Only this schedule:" in ended
    assert ended.text.count("a run begins") == ended.text.count('print("a run begins")') + 1
    again = run(source, *ended.command())
    assert again.outcomes == {"test_count": "failed"}
    assert "run 1 fails" in again
    other = run(source, "--minisched-schedule=rr")
    assert other.outcomes == {"test_count": "passed"}


def test_an_exploration_takes_arguments_and_a_check(run):
    ended = run(
        dedent(LOST_UPDATE)
        + dedent(
            """
        @pytest.mark.explore(exhaustive=True, expected=LookupError)
        @pytest.mark.parametrize("tasks", [1, 2])
        def test_count(tasks):
            counter = Shared(value=0)
            def main():
                yield from gather(*(add(counter, late) for late in range(tasks)))
            def check():
                assert counter.value == tasks
            return main(), check

        @pytest.mark.explore(runs=5, expected=(LookupError,))
        def test_expected():
            yield
            raise LookupError

        @pytest.mark.explore
        def test_nothing():
            pass
        """
        )
    )
    assert ended.outcomes == {
        "test_count[1]": "passed",
        "test_count[2]": "failed",
        "test_expected": "passed",
        "test_nothing": "failed",
    }
    assert "test_nothing returns None: it is a generator or an `async def`, or returns its main task" in ended


def test_a_cancellation_at_each_point(run):
    ended = run(
        """
        @pytest.mark.cancel_everywhere
        class TestItems:
            def test_kept(self):
                queue, received = Queue(), []
                queue.put_nowait("item")
                def main():
                    received.append((yield queue.get()))
                def check():
                    assert [*received, *queue.items] == ["item"]
                return main(), check

            def test_lost(self):
                queue, received = Queue(), []
                queue.put_nowait("item")
                def main():
                    item = yield queue.get()
                    yield
                    received.append(item)
                def check():
                    assert [*received, *queue.items] == ["item"], "the item was lost"
                return main(), check
        """
    )
    assert ended.outcomes == {"test_kept": "passed", "test_lost": "failed"}
    assert "was cancelled" in ended and "the item was lost" in ended


def test_each_fault_at_each_place(run):
    ended = run(
        """
        def talk():
            with (yield Listen(("127.0.0.1", 0))) as listener, (yield Connect(listener.address)) as connection:
                yield Write(connection, b"hello")

        @pytest.mark.faults_everywhere(expected=(OSError,), kinds=("write",))
        def test_expected():
            yield from talk()

        @pytest.mark.faults_everywhere
        def test_unexpected():
            try:
                yield from talk()
            except OSError:
                assert False, "a lost connection"
        """
    )
    assert ended.outcomes == {"test_expected": "passed", "test_unexpected": "failed"}
    assert re.search(r"AssertionError: \w+ at \w+ 1: AssertionError\(.a lost connection", ended.text)


# Seeds.


@pytest.mark.parametrize(
    ("seeds", "names"),
    [
        (None, ["test_seed"]),
        ("2", ["test_seed[seed0]", "test_seed[seed1]"]),
        ("3,17", ["test_seed[seed3]", "test_seed[seed17]"]),
        ("7-8", ["test_seed[seed7]", "test_seed[seed8]"]),
    ],
)
def test_seeds_are_parameters(run, seeds, names):
    source = """
        @pytest.mark.minisched
        def test_seed(minisched_seed, request):
            yield
            assert str(minisched_seed) in request.node.name or minisched_seed == 0
        """
    ended = run(source, *([] if seeds is None else [f"--minisched-seeds={seeds}"]))
    assert ended.outcomes == dict.fromkeys(names, "passed")


@pytest.mark.parametrize("seeds", ["many", "3-", "9-7", "0", "1,,2", "-1"])
def test_a_text_without_seeds_is_an_error_of_usage(run, seeds):
    ended = run("", f"--minisched-seeds={seeds}")
    assert "ERROR: --minisched-seeds" in ended.errors


def test_a_seed_is_that_of_the_exploration(run):
    ended = run(
        dedent(LOST_UPDATE)
        + dedent(
            """
        @pytest.mark.explore
        def test_count(minisched_seed):
            counter = Shared(value=0)
            yield from gather(add(counter, 0), add(counter, 3))
            assert counter.value == 2
        """
        ),
        "--minisched-seeds=11-12",
    )
    assert "POS, seed 11)" in ended and "POS, seed 12)" in ended


# Recordings.

FAILS_ONCE = """
    import random

    @pytest.mark.minisched
    def test_passes():
        yield Now()

    @pytest.mark.minisched
    def test_fails():
        number = yield InThread(random.random)
        yield Sleep(1)
        assert number > 2
    """


def test_a_recording_is_kept_of_a_test_that_fails(run, pytester):
    ended = run(FAILS_ONCE, "--minisched-record=kept")
    assert ended.outcomes == {"test_passes": "passed", "test_fails": "failed"}
    assert os.listdir(pytester.path / "kept") == ["test_file.py_test_fails.jsonl"]
    number = re.search(r"assert (0\.\d+) > 2", ended.text)[1]
    again = run(FAILS_ONCE, *ended.command())
    assert f"assert {number} > 2" in again
    assert again.outcomes == {"test_fails": "failed"}


def test_a_replay_of_a_test_that_has_changed_says_so(run):
    ended = run(FAILS_ONCE, "--minisched-record=kept")
    again = run(FAILS_ONCE.replace("Sleep(1)", "InThread(random.random)"), *ended.command())
    assert "Diverged: diverged at line" in again


def test_a_replay_runs_the_recorded_test_only(run):
    run(FAILS_ONCE, "--minisched-record=kept")
    again = run(FAILS_ONCE, "--minisched-replay=kept/test_file.py_test_fails.jsonl")
    assert again.outcomes == {"test_fails": "failed"} and "1 deselected" in again
    other = run(
        FAILS_ONCE.replace("test_fails", "test_fails_too"), "--minisched-replay=kept/test_file.py_test_fails.jsonl"
    )
    assert "is a recording of test_file.py::test_fails, which is not a test here" in other.errors


def test_a_file_that_is_not_a_recording_is_an_error_of_usage(run, pytester):
    assert "No such file" in run(FAILS_ONCE, "--minisched-replay=missing.jsonl").errors
    (pytester.path / "text.jsonl").write_text("text\n")
    assert "is not a recording" in run(FAILS_ONCE, "--minisched-replay=text.jsonl").errors


def test_a_mistake_that_only_a_debug_run_finds_is_found_in_the_replay(run):
    source = """
        @pytest.mark.minisched
        def test_drops():
            Queue().put(1)
            yield Now()
        """
    ended = run(source, "--minisched-record=kept")
    again = run(source, *ended.command())
    assert "was never run" in ended and "was never run" in again


def test_a_test_that_cannot_be_recorded_runs_without(run, pytester):
    ended = run(
        """
        calls = []

        @pytest.mark.minisched
        def test_opens():
            with (yield OpenDatagram(("127.0.0.1", 0))):
                pass
            calls.append(1)
            assert len(calls) == 2
        """,
        "--minisched-record=kept",
    )
    assert ended.outcomes == {"test_opens": "failed"}
    assert "can't be recorded" in ended
    assert os.listdir(pytester.path / "kept") == []


def test_the_names_of_recordings_fit_a_file_system(run, pytester):
    ended = run(
        """
        @pytest.mark.minisched
        @pytest.mark.parametrize("text", ["a/b", "x" * 300, "-", "é\\n"])
        def test_fails(text):
            yield
            assert False
        """,
        "--minisched-record=kept",
    )
    assert len(os.listdir(pytester.path / "kept")) == 4
    assert "OSError" not in ended


# The entry point.


@pytest.mark.slow
def test_a_package_may_be_imported_before_pytest(pytester):
    pytester.makepyfile(test_file="def test_plain():\n    pass\n")
    code = "import sys, minisched, pytest; sys.exit(pytest.main(['-p', 'no:anyio', '-W', 'error']))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=pytester.path, capture_output=True, text=True, check=False)
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.slow
def test_an_installed_package_has_the_plugin(pytester):
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(
        test_file=HEAD
        + dedent(
            """
            @pytest.mark.minisched
            def test_generator():
                yield Sleep(3600)
            """
        )
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:anyio", "-p", "no:cacheprovider", "-W", "error", "--strict-markers"],
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
