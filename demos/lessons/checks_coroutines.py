"""Checks of the exercises of lessons 1 to 6, each a function that is given a solution.

Shows: how a coroutine is tested, by hand; and how a task is, in virtual time, without waiting.

Run it:    python demos/lessons/checks.py FILE    (this file does nothing by itself)
"""

from inspect import getgeneratorstate

from expect import Answer, begun, expect, outcome

from minisched import Cancel, Join, Now, Sleep, Spawn, TaskCancelled
from minisched.testing import run

# Lesson 1: send.


def check_lesson1_exercise1(solution):
    evens = []
    coroutine = begun(solution(evens))
    for number in (1, 2, 3, 4, 6, 0):
        coroutine.send(number)
    expect("the list, after 1, 2, 3, 4, 6 and 0", evens, [2, 4, 6, 0])


def check_lesson1_exercise2(solution):
    @solution
    def collect(name, into):
        while True:
            into.append((name, (yield)))

    into = []
    one, other = collect("one", into), collect("other", into=into)
    other.send(1)
    one.send(2)
    expect("what two coroutines got", into, [("other", 1), ("one", 2)])


class Guest:
    """A coroutine that takes so many values, writes down who got which, and when something was sent too late."""

    def __init__(self, name, count, log):
        self.body = self.take(name, count, log)
        self.log = log

    def take(self, name, count, log):
        for _ in range(count):
            log.append((name, (yield)))

    def send(self, value):
        if getgeneratorstate(self.body) == "GEN_CLOSED":
            self.log.append("sent to one that had ended")
        return self.body.send(value)

    def __next__(self):
        return self.send(None)


def check_lesson1_exercise3(solution):
    log = []
    solution([Guest("none", 0, log), Guest("one", 1, log), Guest("many", 9, log)], ["a", "b", "c"])
    expect("who got what", log, [("one", "a"), ("many", "a"), ("many", "b"), ("many", "c")])


# Lesson 2: yield.


def check_lesson2_exercise1(solution):
    coroutine = solution()
    expect("what comes out for 2, 4 and 9", [coroutine.send(x) for x in (None, 2, 4, 9)], [None, 2, 3, 5])


def check_lesson2_exercise2(solution):
    coroutine = solution()
    expect("what comes out for 1, 2 and 3", [coroutine.send(x) for x in (None, 1, 2, 3)], [None, None, 1, 2])


def check_lesson2_exercise3(solution):
    calls = [Answer("yes"), Now(), Sleep(3), Now()]
    expect(f"the answers to {calls}", run(solution(calls)), ["yes", 0.0, None, 3.0])


# Lesson 3: close.


def check_lesson3_exercise1(solution):
    log = []
    coroutine = begun(solution(log))
    coroutine.send(1)
    coroutine.close()
    expect("the log of one that was closed", log, [1, "closed"])
    log.clear()
    coroutine = begun(solution(log))
    coroutine.send(1)
    expect("throw(ValueError())", outcome(coroutine.throw, ValueError()), ("raises", "ValueError"))
    expect("the log of one that had an exception", log, [1])


def check_lesson3_exercise2(solution):
    def notes(log):
        try:
            while True:
                log.append((yield))
        except BaseException as error:
            log.append(type(error).__name__)
            raise

    for error in (None, KeyError("in the block")):
        log, came = [], None
        try:
            with solution(notes(log)) as coroutine:
                coroutine.send(1)
                if error:
                    raise error
        except KeyError as raised:
            came = raised
        expect("what the coroutine was told", log, [1, "GeneratorExit"])
        expect("what came out of the block", came, error)


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

    expect("the log, and when it had ended, cancelled at 5", run(main()), (["bye", "cancelled"], 7.0))


# Lesson 4: throw.


def check_lesson4_exercise1(solution):
    coroutine = solution()
    expect("next", outcome(next, coroutine), ("gives", 0))
    expect("send(5)", outcome(coroutine.send, 5), ("gives", 5))
    expect("throw(ValueError())", outcome(coroutine.throw, ValueError()), ("gives", 0))
    expect("send(2) after that", outcome(coroutine.send, 2), ("gives", 2))
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
        expect(f"what becomes of {outcomes} in three attempts", got, wanted)
        expect(f"how many of {outcomes} are left", len(calls), left)


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
    expect("what the bodies got, in order", log, ["caught", "b", "a"])


# Lesson 5: yield from.


def check_lesson5_exercise1(solution):
    coroutine = begun(solution())
    for number in (1, 2, None, 10):
        expect(f"send({number})", outcome(coroutine.send, number), ("gives", None))
    expect("the last None", outcome(coroutine.send, None), ("returns", (3, 10)))


def check_lesson5_exercise2(solution):
    def inner():
        got = yield "begun"
        try:
            yield got
        except ValueError as error:
            got = yield f"caught {error}"
        return got

    coroutine = solution(inner())
    expect("next", outcome(next, coroutine), ("gives", "begun"))
    expect("whether it is written out", coroutine.gi_yieldfrom, None)
    expect("send(1)", outcome(coroutine.send, 1), ("gives", 1))
    expect("throw", outcome(coroutine.throw, ValueError("x")), ("gives", "caught x"))
    expect("send(2)", outcome(coroutine.send, 2), ("returns", 2))


def check_lesson5_exercise3(solution):
    tree, given = [1, [2, [3, []]], 4], []

    def collect():
        given.append((yield from map_each(solution(tree))))

    def map_each(generator):
        while True:
            try:
                given.append(next(generator))
            except StopIteration as stop:
                return stop.value
            yield

    for _ in collect():
        pass
    expect(f"what {tree} gives, and then returns", given, [1, 2, 3, 4, 4])


def check_lesson5_exercise4(solution):
    def wait(seconds):
        yield Sleep(seconds)
        return seconds

    def main():
        return (yield from solution([wait(3), wait(1), wait(2)])), (yield Now())

    expect("what came of waits of 3, 1 and 2 s, and after how long", run(main()), ([3, 1, 2], 3.0))


# Lesson 6: return.


def check_lesson6_exercise1(solution):
    expect("what 'abcd' gives", list(solution("abcd")), [("a", "b"), ("c", "d")])
    generator = solution("abc")
    expect("the first of 'abc'", outcome(next, generator), ("gives", ("a", "b")))
    expect("the second of 'abc'", outcome(next, generator), ("raises", "ValueError"))


def check_lesson6_exercise2(solution):
    def three(result):
        for _ in range(3):
            yield "something else"
        return result

    expect("what is returned", [solution(three(9)), solution(three(None))], [9, None])


def check_lesson6_exercise3(solution):
    for numbers, wanted in (((2, 0, 2), [["a", "b"], [], ["c", "-"]]), ((3, 1), [["a", "b", "c"], ["-"]])):
        coroutine = begun(solution("abc", "-"))
        expect(f"what {numbers} give", [coroutine.send(number) for number in numbers], wanted)
        expect("the next", outcome(coroutine.send, 1), ("returns", 3))
