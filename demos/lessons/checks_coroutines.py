"""Checks for the exercises of lessons 1 to 6: each function checks one solution.

Shows: how to test a coroutine by hand, and a task in virtual time, without waiting.

Run it:    python demos/lessons/checks.py FILE    (this file does nothing by itself)
"""

from inspect import getgeneratorstate

from expect import Answer, expect, outcome, started

from minisched import Cancel, Join, Now, Sleep, Spawn, TaskCancelled
from minisched.testing import run

# Lesson 1: send.


def check_lesson1_exercise1(solution):
    evens = []
    coroutine = started(solution(evens))
    for number in (1, 2, 3, 4, 6, 0):
        coroutine.send(number)
    expect("the list, after 1, 2, 3, 4, 6 and 0", evens, [2, 4, 6, 0])


def check_lesson1_exercise2(solution):
    @solution
    def collect(name, into):
        while True:
            into.append((name, (yield)))

    into = []
    first, second = collect("first", into), collect("second", into=into)
    second.send(1)
    first.send(2)
    expect("the values that two coroutines received", into, [("second", 1), ("first", 2)])


class Guest:
    """A coroutine that receives `count` values; it logs each of them, and each value sent after its end."""

    def __init__(self, name, count, log):
        self.body = self.take(name, count, log)
        self.log = log

    def take(self, name, count, log):
        for _ in range(count):
            log.append((name, (yield)))

    def send(self, value):
        if getgeneratorstate(self.body) == "GEN_CLOSED":
            self.log.append("sent to a coroutine that had ended")
        return self.body.send(value)

    def __next__(self):
        return self.send(None)


def check_lesson1_exercise3(solution):
    log = []
    solution([Guest("none", 0, log), Guest("one", 1, log), Guest("many", 9, log)], ["a", "b", "c"])
    expect("which coroutine received what", log, [("one", "a"), ("many", "a"), ("many", "b"), ("many", "c")])


# Lesson 2: yield.


def check_lesson2_exercise1(solution):
    coroutine = solution()
    expect(
        "the output for next, send(2), send(4) and send(9)",
        [coroutine.send(x) for x in (None, 2, 4, 9)],
        [None, 2, 3, 5],
    )


def check_lesson2_exercise2(solution):
    coroutine = solution()
    expect(
        "the output for next, send(1), send(2) and send(3)",
        [coroutine.send(x) for x in (None, 1, 2, 3)],
        [None, None, 1, 2],
    )


def check_lesson2_exercise3(solution):
    calls = [Answer("yes"), Now(), Sleep(3), Now()]
    expect(f"the answers to {calls}", run(solution(calls)), ["yes", 0.0, None, 3.0])


# Lesson 3: close.


def check_lesson3_exercise1(solution):
    log = []
    coroutine = started(solution(log))
    coroutine.send(1)
    coroutine.close()
    expect("the log of a closed coroutine", log, [1, "closed"])
    log.clear()
    coroutine = started(solution(log))
    coroutine.send(1)
    expect("throw(ValueError())", outcome(coroutine.throw, ValueError()), ("raises", "ValueError"))
    expect("the log after an exception", log, [1])


def check_lesson3_exercise2(solution):
    def notes(log):
        try:
            while True:
                log.append((yield))
        except BaseException as error:
            log.append(type(error).__name__)
            raise

    for error in (None, KeyError("in the block")):
        log, caught = [], None
        try:
            with solution(notes(log)) as coroutine:
                coroutine.send(1)
                if error:
                    raise error
        except KeyError as raised:
            caught = raised
        expect("the log of the coroutine", log, [1, "GeneratorExit"])
        expect("the exception that left the block", caught, error)


def check_lesson3_exercise3(solution):
    def main():
        log = []
        task = yield Spawn(solution(log), keep=True)
        yield Sleep(5)
        yield Cancel(task)
        try:
            yield Join(task)
        except TaskCancelled:
            log.append("cancelled")
        return log, (yield Now())

    expect("the log and the time of the end, cancelled at 5 s", run(main()), (["bye", "cancelled"], 7.0))


# Lesson 4: throw.


def check_lesson4_exercise1(solution):
    coroutine = solution()
    expect("next", outcome(next, coroutine), ("yields", 0))
    expect("send(5)", outcome(coroutine.send, 5), ("yields", 5))
    expect("throw(ValueError())", outcome(coroutine.throw, ValueError()), ("yields", 0))
    expect("send(2) after that", outcome(coroutine.send, 2), ("yields", 2))
    expect("throw(KeyError())", outcome(coroutine.throw, KeyError()), ("raises", "KeyError"))


def check_lesson4_exercise2(solution):
    for outcomes, wanted, left in (
        ([OSError("1"), OSError("2"), "done", "no more"], "done", 1),
        ([OSError("1"), OSError("2"), OSError("3"), "no more"], "OSError('3')", 1),
        ([ValueError("1"), "no more"], "ValueError('1')", 1),
    ):
        calls = list(map(Answer, outcomes))
        try:
            got = run(solution(lambda calls=calls: calls.pop(0), 3))
        except Exception as error:
            got = repr(error)
        expect(f"the outcome of three attempts with {outcomes}", got, wanted)
        expect(f"the number of unused outcomes of {outcomes}", len(calls), left)


def check_lesson4_exercise3(solution):
    log = []

    def careful():
        try:
            yield lambda: 1 / 0
        except ZeroDivisionError:
            log.append("caught")
        log.append((yield lambda: "a"))

    def other():
        log.append((yield lambda: "b"))

    solution(careful(), other())
    expect("the values that the bodies logged, in order", log, ["caught", "b", "a"])


# Lesson 5: yield from.


def check_lesson5_exercise1(solution):
    coroutine = started(solution())
    for number in (1, 2, None, 10):
        expect(f"send({number})", outcome(coroutine.send, number), ("yields", None))
    expect("the last None", outcome(coroutine.send, None), ("returns", (3, 10)))


def check_lesson5_exercise2(solution):
    def inner():
        got = yield "started"
        try:
            yield got
        except ValueError as error:
            got = yield f"caught {error}"
        return got

    coroutine = solution(inner())
    expect("next", outcome(next, coroutine), ("yields", "started"))
    expect("the target of its `yield from` (there should be none)", coroutine.gi_yieldfrom, None)
    expect("send(1)", outcome(coroutine.send, 1), ("yields", 1))
    expect("throw", outcome(coroutine.throw, ValueError("x")), ("yields", "caught x"))
    expect("send(2)", outcome(coroutine.send, 2), ("returns", 2))


def check_lesson5_exercise3(solution):
    tree, values = [1, [2, [3, []]], 4], []

    def collect():
        values.append((yield from collect_each(solution(tree))))

    def collect_each(generator):
        while True:
            try:
                values.append(next(generator))
            except StopIteration as stop:
                return stop.value
            yield

    for _ in collect():
        pass
    expect(f"the values for {tree}, and then the return value", values, [1, 2, 3, 4, 4])


def check_lesson5_exercise4(solution):
    def wait(seconds):
        yield Sleep(seconds)
        return seconds

    def main():
        return (yield from solution([wait(3), wait(1), wait(2)])), (yield Now())

    expect("the results of waits of 3, 1 and 2 s, and the time", run(main()), ([3, 1, 2], 3.0))


# Lesson 6: return.


def check_lesson6_exercise1(solution):
    expect("the pairs of 'abcd'", list(solution("abcd")), [("a", "b"), ("c", "d")])
    generator = solution("abc")
    expect("the first of 'abc'", outcome(next, generator), ("yields", ("a", "b")))
    expect("the second of 'abc'", outcome(next, generator), ("raises", "ValueError"))


def check_lesson6_exercise2(solution):
    def three(result):
        for _ in range(3):
            yield "something else"
        return result

    expect("the return values", [solution(three(9)), solution(three(None))], [9, None])


def check_lesson6_exercise3(solution):
    for numbers, wanted in (((2, 0, 2), [["a", "b"], [], ["c", "-"]]), ((3, 1), [["a", "b", "c"], ["-"]])):
        coroutine = started(solution("abc", "-"))
        expect(f"the lists for {numbers}", [coroutine.send(number) for number in numbers], wanted)
        expect("the next step", outcome(coroutine.send, 1), ("returns", 3))
