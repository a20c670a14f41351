"""The stages: each one runs and shows its bug, and the next stage does not have that bug."""

from __future__ import annotations

import ast
import re
import socket
import sys
from difflib import unified_diff
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise

import pytest
from programs import ROOT, finished

FOLDER = ROOT / "demos" / "stages"
FILES = sorted(FOLDER.glob("stage*.py"))
PAIRS = [*pairwise(FILES)]


def load(file):
    """Import a stage from its path."""
    spec = spec_from_file_location(file.stem, file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STAGES = [load(file) for file in FILES]


def lines_of_code(file):
    """Return the number of statements in a file, without docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return len({node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt) and not is_docstring(node)})


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def ran(stage, gen):
    """Run a task of a stage; return the task, and the names of the tasks that wait for ever."""
    kernel = stage.Kernel()
    task = kernel.spawn(gen)
    return task, kernel.run()


# All stages.


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_stage_prints_its_demonstration_and_then_its_bug(file, golden):
    done = finished(file)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("-- the bug: " in done.stdout) == (file != FILES[-1])
    golden(done.stdout, f"stages/{file.stem}")


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_stage_imports_the_standard_library_only(file):
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported <= {"heapq", "selectors", "socket", "collections", "itertools"}


def test_there_are_six_to_eight_stages_and_each_is_longer_than_the_one_before():
    lengths = [lines_of_code(file) for file in FILES]
    assert 6 <= len(FILES) <= 8
    assert lengths == sorted(lengths) and lengths[-1] < 300


def test_the_first_scheduler_has_at_most_twenty_lines():
    (kernel,) = (node for node in ast.parse(FILES[0].read_text()).body if isinstance(node, ast.ClassDef))
    assert kernel.end_lineno - kernel.lineno < 20


@pytest.mark.parametrize(("one", "two"), PAIRS, ids=[one.stem for one, _ in PAIRS])
def test_a_stage_keeps_the_classes_and_methods_of_the_stage_before(one, two):
    assert public(one) <= public(two)


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_neighbouring_stages_differ_as_the_golden_diff_says(number, golden):
    # Stages 4 to 8 repeat most of their lines. A fix in one of them only changes a diff; a fix in all of them does not.
    texts = [file.read_text(encoding="utf-8").splitlines(keepends=True) for file in FILES[number - 1 : number + 1]]
    names = [f"demos/stages/{file.name}" for file in FILES[number - 1 : number + 1]]
    diff = [line if line[:2] != "@@" else "@@\n" for line in unified_diff(*texts, *names)]  # without line numbers
    golden("".join(diff), f"stages/diff-{number}-{number + 1}")


def public(file):
    """Return the names of a stage's classes and of their methods, without its demonstration."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            names |= {node.name, *(f"{node.name}.{name}" for name in methods)}
    return names


def test_the_last_kernel_has_the_verbs_of_minisched():
    for verb in ("spawn", "park", "resume", "throw", "cancel", "service"):
        assert hasattr(STAGES[-1].Kernel, verb)


# The bug of each stage, and its fix in the next one.


def test_a_failing_task_ends_all_tasks_in_stage_1_and_only_itself_from_stage_2_on():
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


def test_joining_a_cancelled_task_hangs_in_stage_2_and_raises_from_stage_3_on():
    assert joining_a_cancelled_task(STAGES[1]) == (["main"], None)
    assert joining_a_cancelled_task(STAGES[2]) == ([], "victim was cancelled")


def turns_of(stage, gen):
    """Return how many turns a task and its children take."""
    kernel = stage.Kernel()
    turns, turn = [], kernel.turn
    kernel.turn = lambda: turns.append(1) or turn()
    kernel.spawn(gen)
    assert kernel.run() == []
    return len(turns)


def test_waiting_for_bytes_takes_a_turn_per_attempt_in_stage_3_and_two_turns_from_stage_4_on():
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

    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        assert turns_of(STAGES[2], asking(near, far)) == 101
        assert near.recv(10) == b"hello"
        assert turns_of(STAGES[3], waiting(near, far)) == 2


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


def test_a_task_cancelled_in_its_sleep_wakes_too_early_in_stage_4_and_on_time_from_stage_5_on():
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


def test_an_item_is_lost_with_a_cancelled_getter_in_stage_5_and_delivered_from_stage_6_on():
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

    near, far = socket.socketpair()
    with near, far:
        far.send(b"hello")
        return ran(stage, main(near))[0].result


def test_a_flood_of_ready_tasks_starves_a_reader_in_stage_6_and_not_from_stage_7_on():
    assert reading_beside_a_flood(STAGES[5]) == 1000
    assert reading_beside_a_flood(STAGES[6]) <= STAGES[6].BATCH_TURNS


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


def test_a_child_outlives_its_parent_in_stage_7_and_not_in_stage_8():
    assert a_child_of_a_cancelled_parent(STAGES[6]) == [0, 1, 2, 3, 4]
    assert a_child_of_a_cancelled_parent(STAGES[7]) == [0, 1]


def test_in_stage_8_a_failure_ends_the_parent_and_its_other_children():
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


def test_in_stage_8_a_tree_may_be_deeper_than_the_recursion_limit():
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


def test_the_document_names_each_stage_and_names_existing_files():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \d+ \| `(stage\w+\.py)`", text, re.MULTILINE) == [file.name for file in FILES]
    paths = re.findall(r"`((?:minisched|demos|tests)/[\w/]+\.py)`", text)
    assert len(paths) > len(FILES)
    assert not [path for path in paths if not (ROOT / path).exists()]
    diffs = sorted(file.name for file in (ROOT / "tests" / "golden" / "stages").glob("diff-*.txt"))
    assert [f"`{name}`" in text for name in (diffs[0], diffs[-1])] == [True, True]
