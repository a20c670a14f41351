"""Random programs, and what the bodies of their tasks do, whoever runs them.

Theory of operation. A program is plain data: what main does, step by step, which includes what the
tasks do that it spawns. An `Actor` does that, and asks for each thing by yielding a tuple, such as
`("sleep", 2)` or `("enter", scope)`; whoever runs it answers, or throws an error in. So the same
body runs on the reference (`reference`) and on minisched (`test_reference`), and both write the
same trace, if they agree. Nothing here knows either of them.

Not here: what any of it means.
"""

from __future__ import annotations

from itertools import zip_longest
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOCKS = 2
QUEUES = 2
DEPTH = 3  # of steps within a step of main
MARKED = "because "  # how a reason begins that the program gave


class Boom(Exception):
    """What a task of a program raises to fail."""


class Program(NamedTuple):
    """The sizes of its queues (None: any number of items), whether main is sturdy (`Actor`), and what main does."""

    sizes: tuple[int | None, ...]
    sturdy: bool
    main: tuple[Any, ...]


class Line(NamedTuple):
    """One event: when, to which task, what, and what came of it."""

    time: float
    path: tuple[int, ...]
    what: str
    outcome: str = ""

    def __str__(self) -> str:
        return f"{self.time:>4g}  {dotted(self.path):<8}  {self.what:<20} {self.outcome}".rstrip()


class World:
    """What the tasks of one run share, and the trace that they write."""

    def __init__(self, cancelled: type[BaseException], now: Callable[[], float]) -> None:
        self.cancelled = cancelled  # the class that is thrown into a task that is cancelled
        self.now = now
        self.tasks: list[Any] = []
        self.scopes: list[Any] = []  # those that anybody may cancel
        self.names: dict[Any, str] = {}  # of scopes
        self.trace: list[Line] = []

    def note(self, path: tuple[int, ...], what: str, outcome: str = "") -> None:
        self.trace.append(Line(self.now(), path, what, outcome))

    def show(self, answer: Any) -> str:
        """Return a text for an answer or an error that does not depend on who gave it."""
        if isinstance(answer, BaseException):
            return self.show_error(answer)
        if hasattr(answer, "path"):
            return f"task {dotted(answer.path)}"
        return repr(answer) if answer is None or isinstance(answer, (str, int, float)) else "a thing"

    def show_error(self, error: BaseException) -> str:
        """Return the type of an error and what it knows; its words are left out where they are not the program's."""
        kind = type(error).__name__
        if isinstance(error, BaseExceptionGroup):
            return f"{kind}[{', '.join(map(self.show_error, error.exceptions))}]"
        known = [str(error)] if isinstance(error, (Boom, AssertionError)) else []
        reason, by = getattr(error, "reason", None), getattr(error, "by", None)
        known += [reason] if reason is not None and reason.startswith(MARKED) else []
        known += [f"by {dotted(by.path)}"] if by is not None else []
        known += [f"of {dotted(error.task.path)}"] if hasattr(error, "task") else []
        known += [self.names[error.scope]] if hasattr(error, "scope") else []
        return f"{kind}({', '.join(known)})"

    def show_end(self, error: BaseException | None, cancelled: bool, result: Any) -> str:
        """Return a text for how a task has ended."""
        ending = f"failed: {self.show_error(error)}" if error is not None else f"returned {result!r}"
        return f"cancelled, {ending}" if cancelled else ending


def dotted(path: tuple[int, ...]) -> str:
    return ".".join(map(str, path))


class Actor:
    """The body of one task: `play` is to be run; each `do_...` is one kind of step."""

    def __init__(self, world: World, path: tuple[int, ...], sturdy: bool) -> None:
        self.world = world
        self.path = path
        self.sturdy = sturdy  # it goes on after an error, unless it is a Boom
        self.spawned = 0
        self.made = 0  # names given so far
        self.late: BaseException | None = None  # a Cancelled that is raised after the scope, or at the end of the body

    def note(self, what: str, outcome: str = "") -> None:
        self.world.note(self.path, what, outcome)

    def name(self) -> str:
        """Return a text that no other step has."""
        self.made += 1
        return f"{dotted(self.path)}/{self.made}"

    def play(self, steps):
        self.note("starts")
        try:
            if self.path == (0,):
                self.world.tasks.append((yield from self.ask("me")))
            yield from self.do_all(steps)
            if self.late is not None:
                raise self.late
        except GeneratorExit:
            self.note("is closed")
            raise
        return self.made

    def do_all(self, steps):
        for kind, *rest in steps:
            try:
                yield from getattr(self, f"do_{kind}")(*rest)
            except Exception as error:
                if not self.sturdy or isinstance(error, Boom):
                    raise

    def ask(self, *call, text=None):
        """Yield a call and note what comes of it."""
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
        """Do steps; return what they raise, None if they come to their end."""
        try:
            yield from self.do_all(steps)
        except GeneratorExit:
            raise
        except BaseException as error:
            return error
        return None

    # Steps, each named as it is in a program.

    def do_pause(self, times):
        for _ in range(times):
            yield from self.ask("pause")

    def do_sleep(self, seconds):
        yield from self.ask("sleep", seconds)

    def do_now(self):
        yield from self.ask("now")

    def do_work(self, seconds):
        yield from self.ask("work", seconds)

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
        yield from self.ask("cancel", task, MARKED + self.name(), text=f"cancel {dotted(task.path)}")

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
        self.note(f"leaves {name}", f"{called}{'cancelled ' if scope.cancelled else ''}{self.world.show(error)}")
        if error is None:
            error, self.late = self.late, None
        if error is not None:
            raise error

    def do_cancel_scope(self, index):
        if self.world.scopes:
            scope = pick(self.world.scopes, index)
            text = f"cancel {self.world.names[scope]}"
            yield from self.ask("cancel scope", scope, MARKED + self.name(), text=text)

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

    def do_fail(self):
        yield from ()
        raise Boom(self.name())

    def do_try(self, how, steps, more):
        error = yield from self.error_of(steps)
        if error is not None:
            self.note(f"{how}:", self.world.show(error))
            error = error if how == "finally" else self.made_of(error, how)
        if error is None or how == "finally":
            yield from self.do_all(more)
        if error is not None:
            raise error

    def do_clean(self, seconds, steps):
        """Do as a task should that has something to clean up, which takes its time."""
        yield from self.do_try("finally", steps, (("scope", "shield", inf, (("sleep", seconds),)),))

    def made_of(self, error, how):
        """Return what is raised in place of an error, None if it is swallowed."""
        if not isinstance(error, self.world.cancelled):
            return error
        if how == "wrap":  # as `except*` does
            return BaseExceptionGroup("wrapped", [error, Boom(self.name())])
        if how == "replace":
            return Boom(self.name())
        if how == "keep":
            self.late = error
        return None


def pick(things: list[Any], index: int) -> Any:
    """Return one of the things that are there so far, counted from the youngest; that one, if there are not so many."""
    return things[-1 - index] if index < len(things) else things[-1]


# How programs are made.

LIMITS = (1, 2, 3, 0, 4, inf)
SECONDS = (1, 2, 3, 0, 4)
ANY = range(6)  # which task or scope, from the youngest on
EITHER = (0, 0, 0, 1)
# Of each kind, how many there are in about a hundred, and the values it can have.
KINDS = {
    "pause": (4, (1, 1, 2, 70)),
    "sleep": (14, SECONDS),
    "now": (1,),
    "put": (7, EITHER, (True, True, False)),
    "get": (7, EITHER, (True, True, False)),
    "join": (6, ANY),
    "join_all": (2,),
    "work": (1, (1, 2)),
    "move": (2, ANY, SECONDS),
    "cancel_scope": (4, ANY),
    "cancel": (4, ANY),
    "close": (1, EITHER),
    "fail": (1,),
    "lock": (12, EITHER),
    "try": (9, ("finally", "swallow", "keep", "finally", "swallow", "keep", "wrap", "replace")),
    "clean": (5, SECONDS),
    "scope": (17, ("timeout", "move on", "shield", "timeout", "cancel"), LIMITS),
    "spawn": (8, ("plain", "keep", "daemon", "keep"), (True, True, False)),
}
NESTS = {"lock": 1, "try": 2, "clean": 1, "scope": 1, "spawn": 1}  # how many lists of steps are in it
# A program is about all of it, or about one thing above all: then, there are so many of these instead.
THEMES = (
    {},
    {"scope": 36, "cancel_scope": 12, "spawn": 20, "clean": 12, "try": 18, "lock": 3, "put": 2, "get": 2, "sleep": 24},
    {"spawn": 20, "join": 24, "fail": 8, "cancel": 8, "join_all": 6, "lock": 3, "put": 2, "get": 2, "scope": 8},
    {"put": 48, "get": 36, "close": 4, "cancel": 6, "lock": 2, "scope": 10, "spawn": 12, "try": 4, "join": 2},
    {"lock": 36, "cancel": 8, "spawn": 14, "put": 2, "get": 2, "scope": 12, "join": 2},
    {"work": 10, "pause": 12, "sleep": 24, "scope": 24, "put": 2, "get": 2, "lock": 4},
)


class Choices:
    """Choices made by bytes, one each; once they are used up, the first of what there is."""

    def __init__(self, data: bytes) -> None:
        self.rest = iter(data)

    def among(self, options: Sequence[Any]) -> Any:
        return options[next(self.rest, 0) * len(options) // 256]

    def steps(self, kinds: Sequence[str], depth: int, counts: Sequence[int]) -> tuple[Any, ...]:
        """Make some steps of these kinds, within each other down to a depth."""
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
    spawns = [choices.step("spawn", kinds, DEPTH) for _ in range(choices.among((0, 2, 3, 4, 5)))]
    return Program(sizes, sturdy, (*spawns, *choices.steps(kinds, DEPTH, (0, 1, 2, 3, 4, 5, 6, 7, 8))))


def programs() -> st.SearchStrategy[Program]:
    """Return a strategy for programs.

    All choices of a program are one draw: of lists of steps, hypothesis would make variations, with parts repeated,
    so that most programs were like others; and to draw them would take longer than to run them.
    """
    return st.binary(min_size=300, max_size=600).map(program)


def smallest(program: Program, differs: Callable[[Program], bool]) -> Program:
    """Return what is left of a program that differs when whatever can be left out is left out.

    Hypothesis can't do that here: to it, a program is a row of bytes.
    """
    while True:
        for main in smaller(program.main):
            less = program._replace(main=main)
            if differs(less):
                program = less
                break
        else:
            return program


def smaller(steps: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Return steps with one of them left out, or less within one, or a simpler value in one."""
    for number, (kind, *rest) in enumerate(steps):
        before, after = steps[:number], steps[number + 1 :]
        yield (*before, *after)
        for place, part in enumerate(rest):
            if isinstance(part, tuple):
                yield (*before, *part, *after)
                others = list(smaller(part))
            else:
                simplest = KINDS[kind][1 + place][0]
                others = [simplest] if part != simplest else []
            for other in others:
                yield (*before, (kind, *rest[:place], other, *rest[place + 1 :]), *after)


# What is said of a program, and of a difference.


def listing(program: Program) -> str:
    """Return the text of a program."""
    queues = " and ".join("any number" if size is None else str(size) for size in program.sizes)
    lines = [f"queues of {queues}; main{', sturdy' if program.sturdy else ''}:"]
    return "\n".join([*lines, *lines_of(program.main, "    ")])


def lines_of(steps: tuple[Any, ...], indent: str) -> Iterator[str]:
    """Return the texts of steps, what is within them indented; a second list of steps comes after `then`."""
    for kind, *rest in steps:
        lists = [part for part in rest if isinstance(part, tuple)]
        yield f"{indent}{' '.join([kind, *(str(part) for part in rest if not isinstance(part, tuple))])}"
        for number, within in enumerate(lists):
            if number:
                yield f"{indent}  then"
            yield from lines_of(within, indent + "    ")


def difference(one: list[Any], two: list[Any], titles: tuple[str, str], around: int = 8) -> str | None:
    """Return two traces side by side, around the first line that differs; None if none does."""
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
