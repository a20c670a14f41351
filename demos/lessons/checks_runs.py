"""Checks for the exercises of lessons 9 and 10: each function checks one solution.

Shows: how to test a task in all schedules, and a function that runs a program twice.

Run it:    python demos/lessons/checks.py FILE    (this file does nothing by itself)
"""

from pathlib import Path
from random import random
from tempfile import TemporaryDirectory

from expect import Wrong, expect

from minisched import InThread, Lock
from minisched.lab import Shared, explore, replay, together

# Lesson 9: schedules.


def check_lesson9_exercise1(solution):
    for turns, wanted in (([], 1), ([3], 1), ([1, 1], 2), ([2, 2], 6), ([2, 0, 1], 3), ([10, 10, 10], 5550996791340)):
        expect(f"the number of orders for {turns}", solution(turns), wanted)


def check_lesson9_exercise2(solution):
    def make():
        values = []

        def body(name, turns):
            for _ in range(turns - 1):
                yield
            values.append(name)

        return [body("a", 1), body("b", 2)], lambda: "".join(values)

    expect("the results for turns [1, 2]", solution(make, [1, 2]), {"ab", "ba"})

    def make_lost_update():
        counter = []

        def body():
            before = len(counter)
            yield
            counter[:] = range(before + 1)

        return [body(), body()], lambda: len(counter)

    expect("the results of a lost update", solution(make_lost_update, [2, 2]), {1, 2})


def check_lesson9_exercise3(solution):
    balances, turns = set(), set()

    def program():
        account, answers = Shared(balance=10), []
        account.lock = Lock()

        def take(amount):
            body, sent, pauses = solution(account, amount), None, 0
            while True:
                try:
                    call = body.send(sent)
                except StopIteration as end:
                    answers.append(end.value)
                    break
                pauses += call is None
                sent = yield call
            turns.add(pauses)

        def check():
            balances.add(account.balance)
            expect("whether both tasks took 7 of 10", sorted(map(str, answers)), ["False", "True"])
            expect("the balance at the end", account.balance, 3)

        def main():
            yield from together(take(7), take(7))

        return main(), check

    result = explore(program, exhaustive=True)
    if result.error is not None:
        raise Wrong(f"in schedule {result.schedule!r}, {result.error}") from result.error
    expect("whether there is a bare `yield` between the look and the change", min(turns) > 0, True)


# Lesson 10: a run that happened once.


def asking(questions, result=sum):
    """Return a function that makes a coroutine, which asks these questions and returns the result of the answers."""

    def make():
        answers = []
        for question in questions:
            answers.append((yield question))
        return result(answers)

    return make


def check_lesson10_exercise1(solution):
    asked = []

    def answer(question):
        asked.append(question)
        return random()

    expect("the same coroutine twice", solution(asking("abc"), answer), True)
    expect("the questions that were put to the world", asked, list("abc"))
    made = iter([asking("abc")(), asking("abe")()])
    expect("a coroutine that asks another question", solution(lambda: next(made), answer), False)
    made = iter([asking("ab")(), asking("abc")()])
    expect("a coroutine that asks once more", solution(lambda: next(made), answer), False)
    made = iter([asking("abc", len)(), asking("ab", lambda _: 3)()])
    expect("a coroutine that asks once less", solution(lambda: next(made), answer), False)
    expect("a coroutine with a random result", solution(asking("a", lambda _: random()), answer), False)


def check_lesson10_exercise2(solution):
    tape = [("a", 1), ("b", 2)]
    for questions, wanted in (("ab", None), ("ac", 2), ("ba", 1), ("a", 2), ("abc", 3), ("", 1)):
        expect(f"the number for the questions {questions!r}", solution(asking(questions), tape), wanted)
    expect("the number if nothing was recorded, and nothing is asked", solution(asking(""), []), None)


def check_lesson10_exercise3(solution):
    calls = []

    def ask():
        calls.append(1)
        return random()

    def make():
        return (yield InThread(ask))

    with TemporaryDirectory() as folder:
        path = Path(folder, "run.jsonl")
        recorded, replayed = solution(make, path)
        expect("whether both results are the same", recorded == replayed, True)
        expect("the number of calls in a thread", len(calls), 1)
        expect("the result of another replay of the file", replay(make(), path), recorded)
