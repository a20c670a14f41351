"""The lessons: their output, their exercises and solutions, the checks of wrong solutions, and their documents."""

from __future__ import annotations

import ast
import re
import select
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest
from programs import ROOT, finished
from test_readme import LISTING

from minisched import testing
from minisched.testing import VirtualClock

FOLDER = ROOT / "demos" / "lessons"
LESSONS = sorted((path.stem for path in FOLDER.glob("lesson*.py")), key=lambda name: int(re.search(r"\d+", name)[0]))
DOCUMENTS = ("README.md", "README.ko.md")
QUICK = ("lesson1_send", "lesson6_return", "lesson7_files", "lesson8_network")  # lessons whose tasks do not sleep

# Consecutive lines that each lesson has to print.
PROMISED = {
    "lesson1_send": "  received 1\n  received 2\n  received 3\n",
    "lesson2_yield": "  next    -> 0\n  send(1) -> 1\n  send(2) -> 3\n  send(3) -> 6\n",
    "lesson3_close": f"  {' '.join(map(str, range(20)))}\n  the coroutine is closed\n",
    "lesson4_throw": "  throw -> 190\n",
    "lesson5_yield_from": "  the total is 55\n  the total is 5050\n",
    "lesson6_return": "  RuntimeError('generator raised StopIteration'), because of StopIteration(55)\n",
    "lesson7_files": "  the sum is 4999950000; turns of the other body meanwhile: 6\n",
    "lesson9_schedules": "  a a b b: the counter is 2\n  a b a b: the counter is 1\n",
    "lesson10_recording": "  the counter is 1 again\n  the call in the thread was made: False\n",
    "lesson8_network": "  the slow client sent the second half, the total is 1000\n",
}

ONE_BY_ONE = """\
done = []
    for path in paths:
        done.append((yield from call(path)))
    return done"""

# Changes that make a solution wrong: the exercise, a fragment of its solution, and the replacement.
MISTAKES = [
    ("lesson1_exercise1", "% 2 == 0", "% 2 == 1"),
    ("lesson1_exercise1", "% 2 == 0", "in (2, 4, 6)"),
    ("lesson1_exercise2", "next(coroutine)", "pass"),
    ("lesson1_exercise2", "(*args, **keywords)\n", "(*args)\n"),
    ("lesson1_exercise3", "survives(coroutine, value)]", "survives(coroutine, value) or True]"),
    ("lesson1_exercise3", "[coroutine for coroutine in coroutines if survives(coroutine, None)]", "coroutines"),
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
    ("lesson6_exercise3", "(wanted - len(taken))", "wanted"),
    ("lesson6_exercise3", "count += len(taken)", "count = len(taken)"),
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
    ("lesson9_exercise1", "orders //= factorial(own)", "orders //= own"),
    ("lesson9_exercise1", "factorial(sum(turns))", "factorial(len(turns))"),
    ("lesson9_exercise2", "results.add(result())", "results = {result()}"),
    ("lesson9_exercise2", "for body in order", "for body in sorted(order)"),
    ("lesson9_exercise3", "with (yield account.lock.acquire()):", "if True:"),
    ("lesson9_exercise3", "        yield\n", "        pass\n"),
    ("lesson9_exercise3", "balance < amount", "balance <= amount + 3"),
    ("lesson10_exercise1", "(result, tape) == recorded(make(), repeat)", "result == recorded(make(), repeat)[0]"),
    ("lesson10_exercise1", "recorded(make(), repeat)", "recorded(make(), answer)"),
    ("lesson10_exercise2", "return len(tape) + 1", "return None"),
    ("lesson10_exercise2", "            return number\n        sent", "            return None\n        sent"),
    ("lesson10_exercise2", "enumerate(tape, 1)", "enumerate(tape)"),
    ("lesson10_exercise3", "replay(make(), path)", "record(make(), path)"),
]


@pytest.fixture(scope="module")
def modules():
    """Return a function that imports a file of the lessons by its name; remove those modules at the end."""
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
    """Return the number, the name and the arguments of each exercise at the end of a lesson."""
    return re.findall(r"^# (\d)\. (\w+)(\([\w*, ]*\))", source(lesson).partition("\n# Exercises")[2], re.MULTILINE)


def broken(name, old, new):
    """Return the source of the solutions, with `old` replaced by `new` in the solution `name`."""
    text = source("solutions")
    (node,) = (node for node in ast.parse(text).body if getattr(node, "name", None) == name)
    solution = ast.get_source_segment(text, node)
    assert solution.count(old) == 1, f"{old!r} occurs {solution.count(old)} times in {name}"
    return text.replace(solution, solution.replace(old, new))


# The lessons.


@pytest.fixture(scope="module")
def results():
    """Return the result of each lesson, and of the traced runs of QUICK; two processes at a time."""
    commands = {lesson: [FOLDER / f"{lesson}.py"] for lesson in LESSONS}
    commands |= {f"{name} traced": ["-m", "minisched", "run", "--trace", FOLDER / f"{name}.py"] for name in QUICK}
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands, pool.map(lambda command: finished(*command), commands.values()), strict=True))


def test_there_are_ten_lessons_in_order():
    assert [lesson.partition("_")[0] for lesson in LESSONS] == [f"lesson{number}" for number in range(1, 11)]


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_prints_its_golden_output(results, golden, lesson):
    result = results[lesson]
    assert (result.returncode, result.stderr) == (0, "")
    golden(result.stdout, f"lessons/{lesson}")
    assert PROMISED[lesson] in result.stdout


def of_tasks(printed):
    """Return the output of the tasks of a lesson: the lines after the last heading."""
    return re.split(r"^(?=\S).*\n", printed, flags=re.MULTILINE)[-1]


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_tasks_of_a_lesson_print_the_same_in_a_checked_run_in_virtual_time(modules, capsys, lesson):
    module = modules(lesson)
    expected = (ROOT / "tests" / "golden" / "lessons" / f"{lesson}.txt").read_text(encoding="utf-8")
    watch = [module.Sends("number_task")] if lesson == "lesson1_send" else []
    watch += [module.Throws()] if lesson == "lesson4_throw" else []
    testing.run(module.main(), clock=VirtualClock(), watch=watch)
    assert capsys.readouterr().out == of_tasks(expected) != ""


@pytest.mark.slow
@pytest.mark.parametrize("lesson", QUICK)
def test_the_tasks_of_a_lesson_can_be_traced_by_the_command_line(results, lesson):
    result = results[f"{lesson} traced"]
    printed = of_tasks(results[lesson].stdout).splitlines(keepends=True)
    assert result.stdout == "".join(line for line in printed if not line.startswith("  the kernel calls"))
    assert result.returncode == 0 and "spawned 0 main" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_the_mistakes_in_the_lessons_end_as_their_text_says(results):
    assert "IndentationError in line 4: expected an indented block" in results["lesson3_close"].stdout
    assert "no initial total: cannot access local variable 'total'" in results["lesson4_throw"].stdout
    assert (
        "the wrong coroutine: no total, and `throw` raises RuntimeError('the end')" in results["lesson4_throw"].stdout
    )


# The exercises.


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_ends_in_two_to_four_exercises_named_after_it(lesson):
    number = lesson.partition("_")[0]
    names = [(index, name) for index, name, _ in exercises(lesson)]
    assert 2 <= len(names) <= 4
    assert names == [(str(index), f"{number}_exercise{index}") for index in range(1, len(names) + 1)]


def test_exercises_solutions_checks_and_mistakes_have_the_same_names(modules):
    stated = [name for lesson in LESSONS for _, name, _ in exercises(lesson)]
    functions = [node.name for node in ast.parse(source("solutions")).body if isinstance(node, ast.FunctionDef)]
    assert [name for name in functions if name.startswith("lesson")] == stated
    assert [*modules("checks").CHECKS] == stated
    assert {name for name, _, _ in MISTAKES} == {*stated}


@pytest.mark.slow
@pytest.mark.parametrize("command", [["solutions.py"], ["checks.py", "solutions.py"]])
def test_all_solutions_are_right(command):
    result = finished(*command, cwd=FOLDER)
    *each, last = result.stdout.splitlines()
    assert (result.returncode, result.stderr, last) == (0, "", f"{len(each)} of {len(each)} exercises are solved")
    assert each == [f"{name}: right" for lesson in LESSONS for _, name, _ in exercises(lesson)]


@pytest.mark.parametrize(("name", "old", "new"), MISTAKES)
def test_a_wrong_solution_is_caught(modules, monkeypatch, capsys, name, old, new):
    if "10 * size" in new and not hasattr(select, "epoll"):
        pytest.skip("without epoll, a read of a regular file waits first, which gives other tasks more turns")
    checks = modules("checks")
    if new is ONE_BY_ONE:  # the other threads never start, so a short wait is enough
        monkeypatch.setattr(modules("checks_world"), "BARRIER_SECONDS", 0.01)
    solutions = {"__name__": "solutions"}
    exec(compile(broken(name, old, new), "broken solutions", "exec"), solutions)
    assert checks.check_all({name: solutions[name]}, partly=True) == 1
    assert f"{name}: wrong: " in capsys.readouterr().out


def test_a_missing_exercise_is_an_error_only_in_the_solutions(modules, capsys):
    checks = modules("checks")
    functions = vars(modules("solutions")).copy()
    del functions["lesson2_exercise1"]
    assert checks.check_all(functions) == 1
    assert checks.check_all(functions, partly=True) == 0
    assert capsys.readouterr().out.count("lesson2_exercise1: missing\n") == 2


@pytest.mark.slow
def test_a_readers_own_file_is_checked(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def lesson1_exercise1(evens):\n    while True:\n        evens.append((yield))\n")
    result = finished(FOLDER / "checks.py", file)
    assert (result.returncode, result.stderr) == (1, "")
    wrong = "the list, after 1, 2, 3, 4, 6 and 0: got [1, 2, 3, 4, 6, 0], expected [2, 4, 6, 0]"
    assert result.stdout.startswith(f"lesson1_exercise1: wrong: {wrong}\nlesson1_exercise2: missing\n")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["the following arguments are required: FILE", "there is no file nothing.py: write"])
def test_the_checks_say_what_is_wrong_with_their_argument(wrong):
    result = finished(FOLDER / "checks.py", *(["nothing.py"] if "nothing" in wrong else []))
    assert (result.returncode, result.stdout) == (2, "")
    usage, error = result.stderr.splitlines()
    assert usage == "usage: checks.py [-h] FILE" and error.startswith(f"checks.py: error: {wrong}")


# The documents.


def blocks(document):
    """Return (the comment before it, language, text) of each fenced block."""
    text = (FOLDER / document).read_text(encoding="utf-8")
    return [(found["what"] or "", found["language"], found["text"]) for found in LISTING.finditer(text)]


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


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_names_existing_files(document):
    text = (FOLDER / document).read_text(encoding="utf-8")
    assert not [path for path in re.findall(r"`(minisched/[\w/]+\.py)`", text) if not (ROOT / path).exists()]
    assert not [link for link in re.findall(r"\]\(([\w./]+)\)", text) if not (FOLDER / link).exists()]


def test_the_korean_document_states_all_exercises_with_their_arguments():
    text = (FOLDER / "README.ko.md").read_text(encoding="utf-8")
    stated = re.findall(r"^(\d)\. `(\w+_exercise\d)(\([\w*, ]*\))`: \S", text, re.MULTILINE)
    assert stated == [exercise for lesson in LESSONS for exercise in exercises(lesson)]
