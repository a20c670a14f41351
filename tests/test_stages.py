"""The stages: each runs, each shows its bug, and the next one does not have it."""

from __future__ import annotations

import ast
import re
import socket
import sys
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise

import pytest
from programs import ROOT, finished

FOLDER = ROOT / "demos" / "stages"
FILES = sorted(FOLDER.glob("stage*.py"))
PAIRS = [*pairwise(FILES)]


def load(file):
    """Import a stage from where it lies."""
    spec = spec_from_file_location(file.stem, file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STAGES = [load(file) for file in FILES]


def lines_of_code(file):
    """Return how many lines of a file are code: no docstrings, comments or empty lines."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return len({node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt) and not is_docstring(node)})


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def ran(stage, gen):
    """Run a task of a stage; return it, and the names of those who wait for ever."""
    kernel = stage.Kernel()
    task = kernel.spawn(gen)
    return task, kernel.run()


# Each of them.


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_stage_runs_and_prints_what_works_and_then_its_bug(file, golden):
    done = finished(file)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("-- the bug: " in done.stdout) == (file != FILES[-1])
    golden(done.stdout, f"stages/{file.stem}")


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_stage_stands_alone(file):
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported <= {"heapq", "selectors", "socket", "collections", "itertools"}


def test_there_are_six_to_eight_and_each_is_longer_than_the_one_before():
    lengths = [lines_of_code(file) for file in FILES]
    assert 6 <= len(FILES) <= 8
    assert lengths == sorted(lengths) and lengths[-1] < 300


def test_the_first_ones_scheduler_has_twenty_lines_at_most():
    (kernel,) = (node for node in ast.parse(FILES[0].read_text()).body if isinstance(node, ast.ClassDef))
    assert kernel.end_lineno - kernel.lineno < 20


@pytest.mark.parametrize(("one", "two"), PAIRS, ids=[one.stem for one, _ in PAIRS])
def test_what_a_stage_has_the_next_one_has_too(one, two):
    assert public(one) <= public(two)


def public(file):
    """Return the names of a stage's classes and of their methods, but not of its demonstration."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            found |= {node.name, *(f"{node.name}.{name}" for name in methods)}
    return found


def test_the_last_ones_kernel_has_the_verbs_of_minisched():
    for verb in ("spawn", "park", "resume", "throw", "cancel", "service"):
        assert hasattr(STAGES[-1].Kernel, verb)


# The bug of each, and its mend in the next.


def test_one_that_fails_takes_all_along_and_from_the_second_stage_on_only_itself():
    def broken():
        yield
        raise ValueError("no luck")

    def count(log):
        for number in range(3):
            log.append(number)
            yield

    log = []
    kernel = STAGES[0].Kernel()
    kernel.spawn(broken())
    kernel.spawn(count(log))
    with pytest.raises(ValueError, match="no luck"):
        kernel.run()
    assert log == [0]
    log = []
    kernel = STAGES[1].Kernel()
    kernel.spawn(broken())
    kernel.spawn(count(log))
    assert kernel.run() == [] and log == [0, 1, 2]


def joining_a_cancelled_task(stage):
    def victim():
        while True:
            yield

    def canceller(task):
        yield
        yield stage.Cancel(task)

    def main():
        task = yield stage.Spawn(victim(), "victim")
        yield stage.Spawn(canceller(task), "canceller")
        try:
            yield stage.Join(task)
        except RuntimeError as error:
            return str(error)

    task, stuck = ran(stage, main())
    return stuck, task.result


def test_to_join_a_cancelled_task_hangs_and_from_the_third_stage_on_returns():
    assert joining_a_cancelled_task(STAGES[1]) == (["main"], None)
    assert joining_a_cancelled_task(STAGES[2]) == ([], "victim was cancelled")


def turns_of(stage, gen):
    """Return how many turns a task and what it spawns take."""
    kernel = stage.Kernel()
    turns, turn = [], kernel.turn
    kernel.turn = lambda: turns.append(1) or turn()
    kernel.spawn(gen)
    assert kernel.run() == []
    return len(turns)


def test_who_waits_for_bytes_takes_turns_all_the_time_and_from_the_fourth_stage_on_two():
    def asking(conn, other):
        for _ in range(100):
            try:
                return conn.recv(10)
            except BlockingIOError:
                yield
        other.send(b"hello")

    def waiting(conn, other):
        other.send(b"hello")
        yield STAGES[3].WaitReadable(conn)
        assert conn.recv(10) == b"hello"

    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        assert turns_of(STAGES[2], asking(here, there)) == 101
        assert here.recv(10) == b"hello"
        assert turns_of(STAGES[3], waiting(here, there)) == 2


def sleeping_after_a_cancellation(stage):
    woken = []

    def sleeper():
        try:
            yield stage.Sleep(60)
        except stage.Cancelled:
            yield stage.Sleep(100)
            woken.append((yield stage.Now()))

    def main():
        task = yield stage.Spawn(sleeper(), "sleeper")
        yield stage.Sleep(1)
        yield stage.Cancel(task)

    try:
        ran(stage, main())
    except ValueError:
        woken.append("broken")
    return woken


def test_who_was_cancelled_in_its_sleep_is_woken_too_early_and_from_the_fifth_stage_on_in_time():
    assert sleeping_after_a_cancellation(STAGES[3]) == [60, "broken"]
    assert sleeping_after_a_cancellation(STAGES[4]) == [101]


def handing_over(stage):
    got = []

    def getter(name, queue):
        got.append((name, (yield stage.Get(queue))))

    def impatient(task):
        yield
        yield stage.Cancel(task)

    def main():
        queue = stage.Queue()
        first = yield stage.Spawn(getter("first", queue), "first")
        second = yield stage.Spawn(getter("second", queue), "second")
        yield stage.Spawn(impatient(first), "impatient")
        yield stage.Put(queue, "item")
        yield
        yield
        yield stage.Cancel(second)

    _, stuck = ran(stage, main())
    assert stuck == []
    return got


def test_an_item_is_lost_with_a_cancelled_getter_and_from_the_sixth_stage_on_delivered():
    assert handing_over(STAGES[4]) == []
    assert handing_over(STAGES[5]) == [("first", "item")]


def reading_beside_a_flood(stage):
    turns = []

    def spinner():
        for number in range(1000):
            turns.append(number)
            yield

    def reader(conn):
        yield stage.WaitReadable(conn)
        return len(turns)

    def main(conn):
        task = yield stage.Spawn(reader(conn), "reader")
        yield stage.Spawn(spinner(), "spinner")
        return (yield stage.Join(task))

    here, there = socket.socketpair()
    with here, there:
        there.send(b"hello")
        return ran(stage, main(here))[0].result


def test_a_flood_of_ready_tasks_starves_a_reader_and_from_the_seventh_stage_on_does_not():
    assert reading_beside_a_flood(STAGES[5]) == 1000
    assert reading_beside_a_flood(STAGES[6]) <= STAGES[6].BATCH


def a_child_of_a_cancelled_parent(stage):
    log = []

    def child():
        for _ in range(5):
            log.append((yield stage.Now()))
            yield stage.Sleep(1)

    def parent():
        yield stage.Spawn(child(), "child")
        yield stage.Sleep(60)

    def main():
        task = yield stage.Spawn(parent(), "parent")
        yield stage.Sleep(1.5)
        yield stage.Cancel(task)

    ran(stage, main())
    return log


def test_a_child_outlives_its_parent_and_in_the_last_stage_does_not():
    assert a_child_of_a_cancelled_parent(STAGES[6]) == [0, 1, 2, 3, 4]
    assert a_child_of_a_cancelled_parent(STAGES[7]) == [0, 1]


def test_in_the_last_stage_a_failure_is_the_parents_and_ends_the_other_children():
    stage, log = STAGES[7], []

    def broken():
        yield stage.Sleep(1)
        raise ValueError("no luck")

    def other():
        try:
            yield stage.Sleep(60)
        finally:
            log.append((yield stage.Now()))

    def main():
        yield stage.Spawn(broken(), "broken")
        yield stage.Spawn(other(), "other")

    task, stuck = ran(stage, main())
    assert (stuck, log) == ([], [1])
    assert [str(error) for error in task.failure.exceptions] == ["no luck"]


def test_in_the_last_stage_a_tree_may_be_deeper_than_python_recurses():
    stage = STAGES[7]

    def deeper(below):
        if below:
            yield stage.Spawn(deeper(below - 1), str(below))
        else:
            yield stage.Sleep(60)

    def main():
        task = yield stage.Spawn(deeper(sys.getrecursionlimit() * 2), "top")
        yield stage.Sleep(1)
        yield stage.Cancel(task)
        yield stage.Join(task)
        return (yield stage.Now())

    task, stuck = ran(stage, main())
    assert (stuck, task.result) == ([], 1)


# The document.


def test_the_document_names_each_stage_and_what_it_names_exists():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \d+ \| `(stage\w+\.py)`", text, re.MULTILINE) == [file.name for file in FILES]
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").glob("test_*.py"))
    assert not [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in tests]
    assert not [name for name in re.findall(r"`((?:minisched|demos)/[\w/]+\.py)`", text) if not (ROOT / name).exists()]
