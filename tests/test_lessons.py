"""The lessons: what they print, their exercises and solutions, whether a wrong one is caught, and their documents."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest
from programs import ROOT, SECONDS, environment, finished
from test_readme import LISTING

from minisched import testing
from minisched.testing import VirtualClock

FOLDER = ROOT / "demos" / "lessons"
LESSONS = sorted(path.stem for path in FOLDER.glob("lesson*.py"))
DOCUMENTS = ("README.md", "README.ko.md")
QUICK = ("lesson1_send", "lesson6_return", "lesson7_files", "lesson8_network")  # those whose tasks do not sleep

# What must be printed, whatever else is: these lines stand together.
PROMISED = {
    "lesson1_send": "  received 1\n  received 2\n  received 3\n",
    "lesson2_yield": "  next    -> 0\n  send(1) -> 1\n  send(2) -> 3\n  send(3) -> 6\n",
    "lesson3_close": f"  {' '.join(map(str, range(20)))}\n  the coroutine is closed\n",
    "lesson4_throw": "  throw -> 190\n",
    "lesson5_yield_from": "  the total is 55\n  the total is 5050\n",
    "lesson6_return": "  RuntimeError('generator raised StopIteration'), because of StopIteration(55)\n",
    "lesson7_files": "  the sum is 4999950000; turns of somebody else meanwhile: 6\n",
    "lesson8_network": "  the slow one sent its end, the total is 1000\n",
}

ONE_BY_ONE = """\
done = []
    for path in paths:
        done.append((yield from call(path)))
    return done"""

# Each makes a solution wrong: the exercise, what stands in the solution, and what is put in its place.
MISTAKES = [
    ("lesson1_exercise1", "% 2 == 0", "% 2 == 1"),
    ("lesson1_exercise1", "% 2 == 0", "in (2, 4, 6)"),
    ("lesson1_exercise2", "next(coroutine)", "pass"),
    ("lesson1_exercise2", "(*args, **keywords)\n", "(*args)\n"),
    ("lesson1_exercise3", "goes_on(coroutine, value)]", "goes_on(coroutine, value) or True]"),
    ("lesson1_exercise3", "[coroutine for coroutine in coroutines if goes_on(coroutine, None)]", "coroutines"),
    ("lesson2_exercise1", "None, 0, 0", "0, 0, 0"),
    ("lesson2_exercise1", "mean = total / count", "mean = total"),
    ("lesson2_exercise2", "latest, (yield before)", "latest, (yield latest)"),
    ("lesson2_exercise3", "answers.append((yield call))", "answers.insert(0, (yield call))"),
    ("lesson2_exercise3", "answers.append((yield call))", "answers.append(call)\n        yield"),
    ("lesson3_exercise1", "except GeneratorExit:", "finally:"),
    ("lesson3_exercise1", 'log.append("closed")', "pass"),
    ("lesson3_exercise2", "next(coroutine)", "pass"),
    ("lesson3_exercise2", "coroutine.close()", "pass"),
    ("lesson3_exercise2", "coroutine.close()", "coroutine.throw(StopAsyncIteration)"),
    ("lesson3_exercise2", "finally:", "except KeyError:"),
    ("lesson3_exercise3", "yield Sleep(2)", "pass"),
    ("lesson3_exercise3", "Shield(10)", "MoveOnAfter(10)"),
    ("lesson3_exercise3", "        raise", "        pass"),
    ("lesson4_exercise1", "            total = 0", "            pass"),
    ("lesson4_exercise1", "except ValueError", "except Exception"),
    ("lesson4_exercise2", "attempts - 1", "attempts"),
    ("lesson4_exercise2", "attempts - 1", "attempts - 2"),
    ("lesson4_exercise2", "except OSError", "except Exception"),
    ("lesson4_exercise3", "body.throw, error", "body.send, error"),
    ("lesson4_exercise3", "ready.popleft()", "ready.pop()"),
    ("lesson5_exercise1", ", (yield from accumulate())", ", 10"),
    ("lesson5_exercise2", "step, value = inner.send, None", "return (yield from inner)"),
    ("lesson5_exercise2", "inner.throw, error", "inner.send, error"),
    ("lesson5_exercise2", "return stop.value", "return None"),
    ("lesson5_exercise3", "count += yield from", "yield from"),
    ("lesson5_exercise3", "yield item", "yield [item]"),
    ("lesson5_exercise4", "tasks.append((yield Spawn(body)))", "results.append((yield from body))"),
    ("lesson5_exercise4", "results.append(", "results.insert(0, "),
    ("lesson6_exercise1", 'raise ValueError(f"{first!r} is left over") from None', "return"),
    ("lesson6_exercise1", "raise ValueError", "raise StopIteration"),
    ("lesson6_exercise2", "return stop.value", "return stop"),
    ("lesson6_exercise3", "return count", "raise StopIteration(count)"),
    ("lesson6_exercise3", "(wanted - len(given))", "wanted"),
    ("lesson6_exercise3", "count += len(given)", "count = len(given)"),
    ("lesson7_exercise1", "if rest:", "if not rest:"),
    ("lesson7_exercise1", "(rest + chunk)", "chunk"),
    ("lesson7_exercise1", "file.read(size)", "file.read()"),
    ("lesson7_exercise2", "Read(source, size)", "Read(source, 10 * size)"),
    ("lesson7_exercise2", "copied +=", "copied ="),
    ("lesson7_exercise2", "Write(target, data)", "Write(target, data.lower())"),
    ("lesson7_exercise3", "map(call, paths)", "map(call, reversed(paths))"),
    ("lesson7_exercise3", "return (yield from gather(*map(call, paths)))", ONE_BY_ONE),
    ("lesson8_exercise1", ".upper()", ""),
    ("lesson8_exercise1", "rest += yield answer", "rest = yield answer"),
    ("lesson8_exercise2", 'not answer.endswith(b"\\n")', "not answer"),
    ("lesson8_exercise2", 'line + b"\\n"', "line"),
    ("lesson8_exercise2", "answers.append(answer.removesuffix", "answers.append(answer.lstrip"),
    ("lesson8_exercise3", "MoveOnAfter(seconds)", "MoveOnAfter(3 * seconds)"),
    ("lesson8_exercise3", "count +=", "count ="),
    ("lesson8_exercise3", "return count", "conn.close()\n            return count"),
]


@pytest.fixture(scope="module")
def modules():
    """Return a function that imports a file of the lessons, as if from beside it; forget all of them in the end."""
    before = {*sys.modules}
    sys.path.insert(0, str(FOLDER))
    yield import_module
    sys.path.remove(str(FOLDER))
    for name in {*sys.modules} - before:
        if getattr(sys.modules[name], "__file__", None) and str(FOLDER) in sys.modules[name].__file__:
            del sys.modules[name]


def source(name):
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def exercises(lesson):
    """Return the numbers and names of the exercises that a lesson ends with."""
    return re.findall(r"^# (\d)\. (\w+)\(", source(lesson).partition("\n# Exercises")[2], re.MULTILINE)


def broken(name, old, new):
    """Return the source of the solutions with `new` in the place of `old` in the solution `name`."""
    text = source("solutions")
    (node,) = (node for node in ast.parse(text).body if getattr(node, "name", None) == name)
    solution = ast.get_source_segment(text, node)
    assert solution.count(old) == 1, f"{old!r} stands {solution.count(old)} times in {name}"
    return text.replace(solution, solution.replace(old, new))


# The lessons.


@pytest.fixture(scope="module")
def results():
    """Return what became of each lesson, and of those that do not sleep when they are traced; a few at once."""
    commands = {lesson: [FOLDER / f"{lesson}.py"] for lesson in LESSONS}
    commands |= {f"{name} traced": ["-m", "minisched", "run", "--trace", FOLDER / f"{name}.py"] for name in QUICK}
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands, pool.map(lambda command: finished(*command), commands.values()), strict=True))


def test_there_are_eight_lessons_in_order():
    assert [lesson.partition("_")[0] for lesson in LESSONS] == [f"lesson{number}" for number in range(1, 9)]


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_prints_what_it_should(results, golden, lesson):
    result = results[lesson]
    assert (result.returncode, result.stderr) == (0, "")
    golden(result.stdout, f"lessons/{lesson}")
    assert PROMISED[lesson] in result.stdout


def of_tasks(printed):
    """Return what the tasks of a lesson have printed: what comes after the last heading."""
    return re.split(r"^(?=\S).*\n", printed, flags=re.MULTILINE)[-1]


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_tasks_of_a_lesson_do_the_same_with_the_invariants_asserted(results, modules, capsys, lesson):
    module = modules(lesson)
    watch = [module.Sends("number_task")] if lesson == "lesson1_send" else []
    watch += [module.Throws()] if lesson == "lesson4_throw" else []
    testing.run(module.main(), clock=VirtualClock(), watch=watch)
    assert capsys.readouterr().out == of_tasks(results[lesson].stdout) != ""


@pytest.mark.parametrize("lesson", QUICK)
def test_the_tasks_of_a_lesson_can_be_traced_by_the_command_line(results, lesson):
    result = results[f"{lesson} traced"]
    printed = of_tasks(results[lesson].stdout).splitlines(keepends=True)
    assert result.stdout == "".join(line for line in printed if not line.startswith("  the kernel calls"))
    assert result.returncode == 0 and "spawned 0 main" in result.stderr and "Traceback" not in result.stderr


def test_the_faults_that_are_shown_end_as_the_lessons_say(results):
    assert "IndentationError in line 4: expected an indented block" in results["lesson3_close"].stdout
    assert "no beginning: cannot access local variable 'total'" in results["lesson4_throw"].stdout
    assert "the wrong coroutine: it has no total, and RuntimeError('the end')" in results["lesson4_throw"].stdout


# The exercises.


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_ends_in_two_to_four_exercises_named_after_it(lesson):
    number = lesson.partition("_")[0]
    found = exercises(lesson)
    assert 2 <= len(found) <= 4
    assert found == [(str(index), f"{number}_exercise{index}") for index in range(1, len(found) + 1)]


def test_each_exercise_has_a_solution_a_check_and_mistakes_and_the_other_way_round(modules):
    stated = [name for lesson in LESSONS for _, name in exercises(lesson)]
    functions = [node.name for node in ast.parse(source("solutions")).body if isinstance(node, ast.FunctionDef)]
    assert [name for name in functions if name.startswith("lesson")] == stated
    assert [*modules("checks").CHECKS] == stated
    assert {name for name, _, _ in MISTAKES} == {*stated}


@pytest.mark.parametrize("command", [["solutions.py"], ["checks.py", "solutions.py"]])
def test_all_solutions_are_right(command):
    result = finished(*command, cwd=FOLDER)
    *each, last = result.stdout.splitlines()
    assert (result.returncode, result.stderr, last) == (0, "", f"{len(each)} of {len(each)} exercises are solved")
    assert each == [f"{name}: right" for lesson in LESSONS for _, name in exercises(lesson)]


@pytest.mark.parametrize(("name", "old", "new"), MISTAKES)
def test_a_wrong_solution_is_caught(modules, monkeypatch, capsys, name, old, new):
    checks = modules("checks")
    if new is ONE_BY_ONE:  # then the others never come, however long one waits for them
        monkeypatch.setattr(modules("checks_world"), "PATIENCE", 0.01)
    solutions = {"__name__": "solutions"}
    exec(compile(broken(name, old, new), "broken solutions", "exec"), solutions)
    assert checks.check_all({name: solutions[name]}, partly=True) == 1
    assert f"{name}: wrong: " in capsys.readouterr().out


def test_what_is_not_there_is_a_mistake_only_in_the_solutions(modules, capsys):
    checks = modules("checks")
    found = vars(modules("solutions")).copy()
    del found["lesson2_exercise1"]
    assert checks.check_all(found) == 1
    assert checks.check_all(found, partly=True) == 0
    assert capsys.readouterr().out.count("lesson2_exercise1: not there\n") == 2


def test_ones_own_file_is_checked(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def lesson1_exercise1(evens):\n    while True:\n        evens.append((yield))\n")
    result = finished(FOLDER / "checks.py", file)
    assert (result.returncode, result.stderr) == (1, "")
    wrong = "the list, after 1, 2, 3, 4, 6 and 0: [1, 2, 3, 4, 6, 0] in place of [2, 4, 6, 0]"
    assert result.stdout.startswith(f"lesson1_exercise1: wrong: {wrong}\nlesson1_exercise2: not there\n")


def test_checks_without_a_file_say_how_they_are_used(tmp_path):
    for arguments in ([], [tmp_path / "nothing.py"]):
        result = finished(FOLDER / "checks.py", *arguments)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "usage: python demos/lessons/checks.py FILE\n"


# The documents.


def blocks(document):
    """Return (what the comment before it says, language, text) of each fenced block."""
    text = (FOLDER / document).read_text(encoding="utf-8")
    return [(found["what"] or "", found["language"], found["text"]) for found in LISTING.finditer(text)]


def commands():
    return [line for _, language, text in blocks("README.md") if language == "sh" for line in text.splitlines()]


def test_both_documents_have_the_same_listings():
    assert blocks(DOCUMENTS[0]) == blocks(DOCUMENTS[1])
    assert len(blocks(DOCUMENTS[0])) > 3 * len(LESSONS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_names_every_lesson(document):
    text = (FOLDER / document).read_text(encoding="utf-8")
    named = re.findall(r"`(lesson\w+)\.py`", text)
    assert named == LESSONS
    assert not [lesson for lesson in LESSONS if f"python demos/lessons/{lesson}.py\n" not in text]


def test_the_documents_name_each_other():
    for document, other in (DOCUMENTS, DOCUMENTS[::-1]):
        assert f"]({other})" in (FOLDER / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_documents_runs(command):
    ran, count = re.subn(r"^(\.venv/bin/)?python3?(?= )", sys.executable, command)
    assert count == 1
    done = subprocess.run(
        ["bash", "-c", ran], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
