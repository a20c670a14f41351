"""Random programs, and the task bodies that perform them on any scheduler.

Theory of operation. A program is plain data: the steps of main, which contain the steps of the tasks
that it spawns. An `Actor` performs steps. It asks for each operation by yielding a tuple, such as
`("sleep", 2)` or `("enter", scope)`; the interpreter sends the answer or throws an error. So the same
body runs on the reference (`reference`) and on minisched (`test_reference`), and if the two agree,
they write the same trace. This module depends on neither of them.

Invariants:
1. A program is a function of its bytes: the same bytes give the same program.
2. Each body that has started notes its end, also if it is closed (`World.check_cleanups`).

Not here: the meaning of the operations.
"""

from __future__ import annotations

from itertools import zip_longest
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOCKS = 2  # the second is reentrant
QUEUES = 2  # the second takes the smallest item first
MAX_NESTED_STEPS = 3  # within a step of main
MARK = "because "  # the first word of a cancellation reason from a program, as opposed to one from a scheduler


class Boom(Exception):
    """Raised by a task of a program, to fail."""


class Program(NamedTuple):
    """The sizes of the queues (None: unbounded), whether main is sturdy (see `Actor`), and the steps of main."""

    sizes: tuple[int | None, ...]
    sturdy: bool
    main: tuple[Any, ...]


class Line(NamedTuple):
    """One event: the time, the task, the event and its outcome."""

    time: float
    path: tuple[int, ...]
    event: str
    outcome: str = ""

    def __str__(self) -> str:
        return f"{self.time:>4g}  {dotted(self.path):<8}  {self.event:<20} {self.outcome}".rstrip()


class World:
    """The state that the tasks of one run share, and the trace that they write."""

    def __init__(self, cancelled: type[BaseException], now: Callable[[], float]) -> None:
        self.cancelled_type = cancelled  # the class of the exception that a cancelled task gets
        self.now = now
        self.tasks: list[Any] = []
        self.scopes: list[Any] = []  # those that any task may cancel: not the shields
        self.names: dict[Any, str] = {}  # of scopes
        self.trace: list[Line] = []
        self.without_cleanup: set[tuple[int, ...]] = set()  # paths of the tasks whose body has started and not ended

    def note(self, path: tuple[int, ...], event: str, outcome: str = "") -> None:
        self.trace.append(Line(self.now(), path, event, outcome))

    def check_cleanups(self) -> None:
        """Assert, after the run, that the cleanup of each body has run."""
        paths = ", ".join(map(dotted, sorted(self.without_cleanup)))
        assert not paths, f"the cleanup of {paths} did not run"

    def show(self, answer: Any) -> str:
        """Return a text for an answer or an error; the same text for each scheduler."""
        if isinstance(answer, BaseException):
            return self.show_error(answer)
        if hasattr(answer, "path"):
            return f"task {dotted(answer.path)}"
        return repr(answer) if answer is None or isinstance(answer, (str, int, float)) else "an object"

    def show_error(self, error: BaseException) -> str:
        """Return the type of an error and its attributes; its message only where the program wrote it."""
        kind = type(error).__name__
        if isinstance(error, BaseExceptionGroup):
            return f"{kind}[{', '.join(map(self.show_error, error.exceptions))}]"
        details = [str(error)] if isinstance(error, (Boom, AssertionError)) else []
        reason, by = getattr(error, "reason", None), getattr(error, "by", None)
        details += [reason.partition(" (by task ")[0]] if reason is not None and reason.startswith(MARK) else []
        details += [f"by {dotted(by.path)}"] if by is not None else []
        details += [f"of {dotted(error.task.path)}"] if hasattr(error, "task") else []
        details += [self.names[error.scope]] if hasattr(error, "scope") else []
        return f"{kind}({', '.join(details)})"

    def show_end(self, error: BaseException | None, cancelled: bool, result: Any) -> str:
        """Return a text for the outcome of a task."""
        ending = f"failed: {self.show_error(error)}" if error is not None else f"returned {result!r}"
        return f"cancelled, {ending}" if cancelled else ending


def dotted(path: tuple[int, ...]) -> str:
    return ".".join(map(str, path))


class Actor:
    """The body of one task. A scheduler runs `play`; each `do_...` performs one kind of step."""

    def __init__(self, world: World, path: tuple[int, ...], sturdy: bool) -> None:
        self.world = world
        self.path = path
        self.sturdy = sturdy  # True if the body goes on after an error, except for a Boom
        self.spawned = 0
        self.names_made = 0
        self.kept: BaseException | None = None  # a Cancelled to raise after the scope, or at the end of the body

    def note(self, event: str, outcome: str = "") -> None:
        self.world.note(self.path, event, outcome)

    def name(self) -> str:
        """Return a text that is unique in the run."""
        self.names_made += 1
        return f"{dotted(self.path)}/{self.names_made}"

    def play(self, steps):
        self.note("starts")
        self.world.without_cleanup.add(self.path)
        try:
            if self.path == (0,):
                self.world.tasks.append((yield from self.ask("me")))
            yield from self.do_all(steps)
            if self.kept is not None:
                raise self.kept
        except GeneratorExit:
            self.note("is closed")
            raise
        finally:
            self.world.without_cleanup.remove(self.path)
        return self.names_made

    def do_all(self, steps):
        for kind, *rest in steps:
            try:
                yield from getattr(self, f"do_{kind}")(*rest)
            except Exception as error:
                if not self.sturdy or isinstance(error, Boom):
                    raise

    def ask(self, *call, text=None):
        """Yield a call and note its outcome."""
        text = text or " ".join(map(str, call))
        try:
            answer = yield call
        except GeneratorExit:
            raise
        except BaseException as error:
            self.note(text, f"raised {self.world.show(error)}")
            raise
        self.note(text, self.world.show(answer))
        return answer

    def error_of(self, steps):
        """Perform steps; return the error that they raise, or None."""
        try:
            yield from self.do_all(steps)
        except GeneratorExit:
            raise
        except BaseException as error:
            return error
        return None

    # Steps, each with its name in a program.

    def do_pause(self, times):
        for _ in range(times):
            yield from self.ask("pause")

    def do_sleep(self, seconds):
        yield from self.ask("sleep", seconds)

    def do_now(self):
        yield from self.ask("now")

    def do_work(self, seconds, times):
        for _ in range(times):
            yield from self.ask("work", seconds)
            if times > 1:
                yield from self.ask("pause")

    def do_spawn(self, how, sturdy, steps):
        child = Actor(self.world, (*self.path, self.spawned), sturdy)
        self.spawned += 1
        task = yield from self.ask("spawn", how, child.play(steps), text=f"spawn {how}")
        self.world.tasks.append(task)

    def do_join(self, index):
        task = pick(self.world.tasks, index)
        yield from self.ask("join", task, text=f"join {dotted(task.path)}")

    def do_join_all(self):
        yield from self.ask("join all")

    def do_cancel(self, index):
        task = pick(self.world.tasks, index)
        yield from self.ask("cancel", task, MARK + self.name(), text=f"cancel {dotted(task.path)}")

    def do_scope(self, kind, seconds, steps):
        name = f"{kind} {self.name()}"
        scope = yield from self.ask("scope", kind, seconds)
        self.world.names[scope] = name
        if kind != "shield":
            self.world.scopes.append(scope)
        yield "enter", scope
        error = yield from self.error_of(steps)
        try:
            error = yield "leave", scope, error
        except Exception as raised:
            error = raised
        called = "" if kind == "shield" or not scope.cancel_called else "called "
        caught = "cancelled " if scope.cancelled_caught else ""
        self.note(f"leaves {name}", f"{called}{caught}{self.world.show(error)}")
        if error is None:
            error, self.kept = self.kept, None
        if error is not None:
            raise error

    def do_cancel_scope(self, index):
        if self.world.scopes:
            scope = pick(self.world.scopes, index)
            text = f"cancel {self.world.names[scope]}"
            yield from self.ask("cancel scope", scope, MARK + self.name(), text=text)

    def do_move(self, index, seconds):
        """Move a deadline."""
        if self.world.scopes:
            scope = pick(self.world.scopes, index)
            yield from self.ask("move", scope, seconds, text=f"move {self.world.names[scope]} {seconds}")

    def do_lock(self, index, steps):
        lock = yield from self.ask("acquire", index)
        yield "hold", lock
        error = yield from self.error_of(steps)
        yield from self.ask("release", lock, error, text=f"release {index}")
        if error is not None:
            raise error

    def do_put(self, index, wait):
        yield from self.ask("put" if wait else "put now", index, self.name())

    def do_get(self, index, wait):
        yield from self.ask("get" if wait else "get now", index)

    def do_close(self, index):
        yield from self.ask("close", index)

    def do_done(self, index):
        yield from self.ask("done", index)

    def do_queue_join(self, index):
        yield from self.ask("queue join", index)

    def do_fail(self):
        yield from ()
        raise Boom(self.name())

    def do_try(self, how, steps, more):
        error = yield from self.error_of(steps)
        if error is not None:
            self.note(f"{how}:", self.world.show(error))
            error = error if how == "finally" else self.handled(error, how)
        if error is None or how == "finally":
            yield from self.do_all(more)
        if error is not None:
            raise error

    def do_clean(self, seconds, steps):
        """Perform steps, then a cleanup that waits, in a shield, as a well-behaved task does."""
        yield from self.do_try("finally", steps, (("scope", "shield", inf, (("sleep", seconds),)),))

    def handled(self, error, how):
        """Return the error to raise in place of `error`, or None to swallow it."""
        if not isinstance(error, self.world.cancelled_type):
            return error
        if how == "wrap":  # as `except*` does
            return BaseExceptionGroup("wrapped", [error, Boom(self.name())])
        if how == "replace":
            return Boom(self.name())
        if how == "keep":
            self.kept = error
        return None


def pick(things: list[Any], index: int) -> Any:
    """Return the thing at `index`, counted from the newest; the newest itself if there are not that many."""
    return things[-1 - index] if index < len(things) else things[-1]


# Making programs.

TIMEOUTS_SECONDS = (1, 2, 3, 0, 4, inf)
SLEEPS_SECONDS = (1, 2, 3, 0, 4, 0.004)
# 1.5 and 3 ms lie on both sides of BATCH_BUDGET_SECONDS. Two hundred such turns shrink the batches to one or
# two turns. So the trace shows the size of a batch by the turn after which a due timer fires.
WORK_SECONDS = (1, 0.0015, 2, 0.003)
WORK_TIMES = (1, 1, 1, 200)
ANY = range(6)  # the index of a task or a scope, counted from the newest
EITHER = (0, 0, 0, 1)  # the index of a lock or a queue
# Of each kind of step: its number among about a hundred steps, and the possible values of its arguments.
KINDS = {
    "pause": (4, (1, 1, 2, 70)),
    "sleep": (14, SLEEPS_SECONDS),
    "now": (1,),
    "put": (7, EITHER, (True, True, False)),
    "get": (7, EITHER, (True, True, False)),
    "join": (6, ANY),
    "join_all": (2,),
    "work": (1, WORK_SECONDS, WORK_TIMES),
    "move": (2, ANY, TIMEOUTS_SECONDS[:-1]),
    "cancel_scope": (4, ANY),
    "cancel": (4, ANY),
    "close": (2, EITHER),
    "done": (4, EITHER),
    "queue_join": (2, EITHER),
    "fail": (1,),
    "lock": (12, EITHER),
    "try": (9, ("finally", "swallow", "keep", "finally", "swallow", "keep", "wrap", "replace")),
    "clean": (5, TIMEOUTS_SECONDS[:-1]),
    "scope": (17, ("timeout", "move on", "shield", "timeout", "cancel"), TIMEOUTS_SECONDS),
    "spawn": (8, ("plain", "keep", "daemon", "keep"), (True, True, False)),
}
NESTS = {"lock": 1, "try": 2, "clean": 1, "scope": 1, "spawn": 1}  # the number of lists of steps in a step
# A program has a theme: everything, or one topic. The numbers of a theme replace those of KINDS.
THEMES = (
    {},
    {"scope": 36, "cancel_scope": 12, "spawn": 20, "clean": 12, "try": 18, "lock": 3, "put": 2, "get": 2, "sleep": 24},
    {"spawn": 20, "join": 24, "fail": 8, "cancel": 8, "join_all": 6, "lock": 3, "put": 2, "get": 2, "scope": 8},
    {"put": 48, "get": 36, "close": 10, "cancel": 6, "lock": 2, "scope": 10, "spawn": 12, "try": 4, "join": 2},
    {
        "put": 36,
        "get": 24,
        "done": 16,
        "queue_join": 10,
        "close": 8,
        "lock": 2,
        "scope": 10,
        "spawn": 12,
        "try": 4,
        "join": 2,
    },
    {"lock": 36, "cancel": 8, "spawn": 14, "put": 2, "get": 2, "scope": 12, "join": 2},
    {"work": 10, "pause": 12, "sleep": 24, "scope": 24, "put": 2, "get": 2, "lock": 4},
)


class Choices:
    """Choices among options, by one byte each; the first option once the bytes are used up."""

    def __init__(self, data: bytes) -> None:
        self.rest = iter(data)

    def among(self, options: Sequence[Any]) -> Any:
        return options[next(self.rest, 0) * len(options) // 256]

    def steps(self, kinds: Sequence[str], depth: int, counts: Sequence[int]) -> tuple[Any, ...]:
        """Return steps of these kinds, nested down to a depth."""
        kinds = kinds if depth else [kind for kind in kinds if kind not in NESTS]
        return tuple(self.step(self.among(kinds), kinds, depth) for _ in range(self.among(counts)))

    def step(self, kind: str, kinds: Sequence[str], depth: int) -> tuple[Any, ...]:
        values = [self.among(options) for options in KINDS[kind][1:]]
        counts = (0, 2, 3, 4, 5, 6) if kind == "spawn" else (0, 1, 1, 2, 2, 3)
        return (kind, *values, *(self.steps(kinds, depth - 1, counts) for _ in range(NESTS.get(kind, 0))))


def program(data: bytes) -> Program:
    """Return the program that the bytes choose."""
    choices = Choices(data)
    theme = choices.among(THEMES)
    kinds = [kind for kind, (weight, *_) in KINDS.items() for _ in range(theme.get(kind, weight))]
    sizes = tuple(choices.among((0, 1, 0, 1, 2, None)) for _ in range(QUEUES))
    sturdy = choices.among((True, True, True, False))
    spawns = [choices.step("spawn", kinds, MAX_NESTED_STEPS) for _ in range(choices.among((0, 2, 3, 4, 5)))]
    return Program(sizes, sturdy, (*spawns, *choices.steps(kinds, MAX_NESTED_STEPS, (0, 1, 2, 3, 4, 5, 6, 7, 8))))


def programs() -> st.SearchStrategy[Program]:
    """Return a strategy for programs.

    All choices of a program are one draw. From lists of steps, hypothesis would make variations with
    repeated parts, so that most programs resembled each other; and drawing them would take longer
    than running them.
    """
    return st.binary(min_size=300, max_size=600).map(program)


def smallest(program: Program, differs: Callable[[Program], bool]) -> Program:
    """Return a smallest program that still differs, by leaving out and simplifying steps.

    Hypothesis cannot do that here: it sees a program as bytes, not as steps.
    """
    while True:
        for main in smaller(program.main):
            candidate = program._replace(main=main)
            if differs(candidate):
                program = candidate
                break
        else:
            return program


def smaller(steps: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield variants of steps: without one of them, with less inside of one, or with a simpler value in one."""
    for number, (kind, *rest) in enumerate(steps):
        before, after = steps[:number], steps[number + 1 :]
        yield (*before, *after)
        for place, part in enumerate(rest):
            if isinstance(part, tuple):
                yield (*before, *part, *after)
                variants = list(smaller(part))
            else:
                simplest = KINDS[kind][1 + place][0]
                variants = [simplest] if part != simplest else []
            for variant in variants:
                yield (*before, (kind, *rest[:place], variant, *rest[place + 1 :]), *after)


# Texts of programs and of differences.


def listing(program: Program) -> str:
    """Return the text of a program."""
    queues = " and ".join("any size" if size is None else f"size {size}" for size in program.sizes)
    lines = [f"queues of {queues}; main{', sturdy' if program.sturdy else ''}:"]
    return "\n".join([*lines, *lines_of(program.main, "    ")])


def lines_of(steps: tuple[Any, ...], indent: str) -> Iterator[str]:
    """Yield the texts of steps, nested steps indented; a second list of steps follows the word `then`."""
    for kind, *rest in steps:
        lists = [part for part in rest if isinstance(part, tuple)]
        yield f"{indent}{' '.join([kind, *(str(part) for part in rest if not isinstance(part, tuple))])}"
        for number, nested in enumerate(lists):
            if number:
                yield f"{indent}  then"
            yield from lines_of(nested, indent + "    ")


def difference(one: list[Any], two: list[Any], titles: tuple[str, str], around: int = 8) -> str | None:
    """Return two traces side by side, around the first line that differs; None if they are equal."""
    pairs = [(str(left), str(right)) for left, right in zip_longest(one, two, fillvalue="")]
    first = next((number for number, (left, right) in enumerate(pairs) if left != right), None)
    if first is None:
        return None
    shown = range(max(0, first - around), min(len(pairs), first + around + 1))
    width = max(len(pairs[number][0]) for number in shown)
    lines = [f"   {titles[0]:<{width}} | {titles[1]}"]
    for number in shown:
        left, right = pairs[number]
        lines.append(f"{'=>' if number == first else '  '} {left:<{width}} | {right}")
    return "\n".join(lines)
