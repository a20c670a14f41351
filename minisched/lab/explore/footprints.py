"""Footprints: the touches of each turn of a run, by which an explorer knows which turns can change places.

Theory of operation. Two turns that touch nothing in common have the same result in either order. While a run is
explored, `Footprints` notes for each turn the names of what it touches: tasks, primitives (locks, queues, groups),
timers with the same deadline, and the attributes of `Shared`. Nothing in a primitive knows of this: `tracked` installs
`__getattribute__` in the base classes, which sees every access. A name is the same in each run: a task's path,
or the task that made a primitive and how many it had made before.

Each touch has a mode. Two touches of a name conflict unless both have the same mode, other than WRITE. So reads change
places. So do the ends of children: each takes one from a count that their parent, or their group, waits for. The
consequence of the last end, such as the wake-up of the parent, is an event of its own, with a footprint of its own. Its
`trigger` is the name of the count: it comes after each end that counts, and no matter which of them was the last.

    turn of child 1     turn of child 2                    turn of child 2     turn of child 1
    {parent: END}       {parent: END}                      {parent: END}       {parent: END}
                        wake-up {parent: WRITE}      is                        wake-up {parent: WRITE}

An act of the loop while no task is ready, such as to fire a timer, begins a new *epoch*. Turns of two epochs cannot
change places, since no turn of the later one was possible before.

Invariants:
1. A footprint has everything that the turn has touched, of what is tracked; it may have more.
2. A woken task brings what its wait has touched: the undo of a wait (`select`) changes that, too.

Decision: the ends of children commute. Because: n children have one order, and not n!. Rejected: to let the ends of
children commute without an event of its own for the wake-up. It lost schedules, as `check_reduction` shows: the turns
after the wake-up were then in conflict with the last end alone.

Decision: a touch is found by `__getattribute__`. Because: a plain call, such as `queue.qsize()`, touches, too.
Rejected: the fields of calls, which miss those: of 20 orders of a check before an act, 8 were left.

Not here: the search that uses footprints (`exhaustive`). Plain variables of the program are in no footprint, unless
they are attributes of a `Shared`.
"""

from __future__ import annotations

import sys

from ...kernel import Kernel, Syscall, Task
from ...kernel.syscall import arguments
from ...kernel.tracebacks import PACKAGE
from ...kernel.tree import DONE, ENDING
from ...kernel.watcher import Watcher
from ...tasks.tasks import JoinAll
from ..report import path_of, stack
from ..slow_turns import is_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from ...kernel import Scope
    from ...tasks.taskgroup import TaskGroup

    Place = tuple[str, int]  # file, line

WRITE, READ, END, SLEEP, SCOPE = "write", "read", "end", "sleep", "scope"
MAX_NESTED_CALLS = 4  # such as select(Join(task)), which has two


class Event:
    """A turn, or the consequence of the last of several ends: it happens at once.

    `footprint`: the mode of each touch by its name. `trigger`: the name of the count that is complete, or None.
    """

    __slots__ = ("footprint", "trigger")

    def __init__(self, footprint: dict[str, str], trigger: str | None = None) -> None:
        self.footprint = footprint
        self.trigger = trigger

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and (self.footprint, self.trigger) == (other.footprint, other.trigger)

    __hash__ = None  # type: ignore[assignment]

    def conflicts(self, other: Event) -> bool:
        """Return whether the order of both events matters."""
        first, second = self.footprint, other.footprint
        if len(second) < len(first):
            first, second = second, first
        for name, mode in first.items():
            mode_there = second.get(name)
            if mode_there is not None and (mode_there != mode or mode == WRITE):
                return True
        return False

    def clashes(self, other: Event) -> Iterator[str]:
        """Yield the names for which the order of both events matters."""
        for name, mode in self.footprint.items():
            if other.footprint.get(name, mode) != mode or (mode == WRITE and name in other.footprint):
                yield name

    def counts_for(self, other: Event) -> bool:
        """Return whether this is one of the ends that the other event comes after."""
        return other.trigger is not None and self.footprint.get(other.trigger) == END


class Footprints(Watcher):
    """The footprints of one run: `steps[n]` are the events of turn n + 1, and `epochs[n]` is its epoch.

    With `lines`, `places` has the line of the program at which a turn has touched a name for the first time.
    """

    def __init__(self, *, lines: bool = False) -> None:
        self.steps: list[list[Event]] = []
        self.epochs: list[int] = []
        self.places: dict[tuple[int, str], Place] = {}
        self.lines = lines
        self.kernel: Kernel | None = None
        self.epoch = 0
        self.idle = False  # the loop acts, and no task was ready when it began
        self.event: Event | None = None  # the one that happens now
        self.of_call: dict[str, str] | None = None  # touches of the call that is handled
        self.parked: dict[Task, tuple[dict[str, str], object]] = {}  # the touches of its wait, and its call
        self.counting: str | None = None  # the group whose count an end is taken from: all touches are END
        self.running: Task | None = None
        self.names: dict[int, str] = {}  # by identity
        self.kept: list[object] = []  # so that no identity is used again
        self.made: dict[str, int] = {}  # by the class and the task that makes

    # Names.

    def name(self, thing: object) -> str:
        """Return the name of a task, or of a thing that was made in this run."""
        name = self.names.get(id(thing))
        if name is None:
            name = f"task {path_of(thing)}" if type(thing) is Task else outside.name(thing)
            self.names[id(thing)] = name
            self.kept.append(thing)
        return name

    def children_of(self, task: Task) -> str:
        """Return the name of the count of a task's children."""
        return f"children of {self.name(task)}"

    def known_as(self, thing: object, name: str) -> None:
        """Give a thing a name."""
        self.names[id(thing)] = name
        self.kept.append(thing)

    def created(self, thing: object) -> None:
        """Name a new thing."""
        task = None if self.kernel is None else self.kernel.current
        by = "" if task is None else f" of {self.name(task)}"
        kind = f"{type(thing).__name__}{by}"
        number = self.made[kind] = self.made.get(kind, 0) + 1
        self.known_as(thing, f"{type(thing).__name__} {number}{by}")

    # Touches.

    def touch(self, name: str, mode: str = WRITE) -> None:
        """Note that the current event has touched something."""
        event = self.event
        if event is None or self._loop_acts():
            return
        mode = mode if self.counting is None else END
        merge(event.footprint, name, mode)
        if self.of_call is not None:
            merge(self.of_call, name, mode)
        if self.lines:
            key = len(self.steps) - 1, name
            if key not in self.places and (place := self._place()) is not None:
                self.places[key] = place

    def _loop_acts(self, woken: int = 0) -> bool:
        """Return whether the loop does this while no task is ready, apart from one that it has just woken."""
        kernel = self.kernel
        return kernel is not None and kernel.current is None and (self.idle or len(kernel.ready) <= woken)

    def _place(self) -> Place | None:
        """Return the line of the program that runs, or at which the running task has yielded its call."""
        frame = program_frame(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        if frame is not None:
            return frame.f_code.co_filename, frame.f_lineno
        task = None if self.kernel is None else self.kernel.current
        places = [] if task is None else [place for place in stack(task) if not is_library(place[0])]
        return (places[-1][0], places[-1][1]) if places else None

    def near(self, names: set[str]) -> set[str]:
        """Return the paths of the living tasks that touches concern, by themselves, their waits or descendants."""
        if self.kernel is None:
            return set()
        found: set[str] = set()
        for task in self.kernel.tasks():
            waits_for, _ = self.parked.get(task, ({}, None))
            if not names.isdisjoint({self.name(task), self.children_of(task), *waits_for}):
                above: Task | None = task
                while above is not None:
                    found.add(path_of(above))
                    above = above.spawner
        return found

    # Events of the run.

    def start(self, kernel: Kernel) -> None:
        self.kernel = kernel
        kernel.execute = self._execute

    def _execute(self, call: Any, kernel: Kernel, task: Task) -> Any:
        """Handle a call; the tasks in its fields are touched by it, as Join touches one."""
        self.of_call = {}
        for joined in tasks_in(call, MAX_NESTED_CALLS):
            self.touch(self.name(joined), READ)
            if joined.failure is not None and joined.spawner is not None:  # Join takes the failure away from the parent
                self.touch(self.children_of(joined.spawner))
        answer = call.handle(kernel, task)
        if isinstance(call, JoinAll):
            self.touch(self.children_of(task), END)
            if task.live_children == 0:
                self._all_have_ended(task)
        return answer

    def turn(self, task: Task) -> None:
        self.idle, self.of_call, self.running = False, None, task
        self.event = Event({self.name(task): WRITE})
        self.steps.append([self.event])
        self.epochs.append(self.epoch)

    def end_turn(self) -> None:
        """Note that the turn has ended the body of its task, if it has: this counts for the end of the task."""
        task = self.running
        if task is not None and task.state in (ENDING, DONE):
            merge(self.steps[-1][0].footprint, self.children_of(task), END)

    def spawn(self, task: Task) -> None:
        self.touch(self.name(task))
        if task.spawner is not None:
            self.touch(self.children_of(task.spawner), END if task.spawner is self.running else WRITE)

    def park(self, task: Task, call: Syscall[Any]) -> None:
        self.parked[task] = self.of_call or {}, call
        self.of_call = None

    def wake(self, task: Task, by: Task | None) -> None:
        touched, call = self.parked.pop(task, ({}, None))
        if self._loop_acts(woken=1):
            return self._begin_epoch()
        event, counting, self.counting = self.event, self.counting, None
        if counting is not None:
            self._set_off(counting)
        elif isinstance(call, JoinAll) and task.live_children == 0:
            self._set_off(self.children_of(task))
        for name, mode in {**touched, self.name(task): WRITE}.items():
            self.touch(name, mode)
        self.event, self.counting = event, counting
        return None

    def _all_have_ended(self, task: Task) -> None:
        """Note that a JoinAll that need not wait comes after all ends."""
        event = self.event
        self._set_off(self.children_of(task))
        self.touch(self.name(task))
        self.event = event

    def cancel(self, scope: Scope) -> None:
        if self._loop_acts():
            return self._begin_epoch()
        task = scope.task
        if task is not None and task is scope and task.state is ENDING and task.live_children == 0:  # of its daemons
            self.end_turn()
            self._set_off(self.children_of(task))
        todo = [scope]
        while todo:
            below = todo.pop()
            if below.task is not None:
                self.touch(self.name(below.task))
                self.touch(self.children_of(below.task), READ)  # one that has ended would be cancelled, too
            todo.extend(below.children())
        return None

    def exit(self, task: Task) -> None:
        self.end_turn()
        self._set_off(self.children_of(task))
        self.touch(self.name(task))
        if task.spawner is not None:
            counts = task.failure is None and not task.daemon  # the end of the parent's body cancels a living daemon
            self.touch(self.children_of(task.spawner), END if counts else WRITE)

    def _begin_epoch(self) -> None:
        if not self.idle:
            self.idle = True
            self.epoch += 1

    def _set_off(self, count: str) -> None:
        """Begin the consequence of the last of several ends."""
        if self.steps:
            self.event = Event({count: WRITE}, count)
            self.steps[-1].append(self.event)

    def count(self, group: TaskGroup, change: Callable[[], Any]) -> Any:
        """Call `change()`, by which a group counts one child more or less, and does nothing else."""
        self.counting = self.name(group)
        try:
            return change()
        finally:
            self.counting = None


class Outside:
    """The names of things that were made before the run, such as a lock of a module."""

    def __init__(self) -> None:
        self.things: dict[int, tuple[object, str]] = {}

    def name(self, thing: object) -> str:
        """Return the name of a thing, the same in each run."""
        if id(thing) not in self.things:
            self.things[id(thing)] = thing, f"{type(thing).__name__} {len(self.things) + 1} from before the run"
        return self.things[id(thing)][1]


outside = Outside()


def merge(footprint: dict[str, str], name: str, mode: str) -> None:
    """Add a touch; two different modes are a WRITE."""
    footprint[name] = mode if footprint.get(name, mode) == mode else WRITE


def tasks_in(value: Any, nesting: int) -> Iterator[Task]:
    """Yield the tasks in the fields of a call, in the calls there, and so on."""
    if isinstance(value, Task):
        yield value
    elif nesting > 0:
        parts: Any = ()
        if Syscall in type(value).__mro__:
            parts = arguments(value).values()
        elif type(value) in (tuple, list):
            parts = value
        for part in parts:
            yield from tasks_in(part, nesting - 1)


def in_package(frame: FrameType) -> bool:
    """Return whether a frame is one of this package."""
    return frame.f_code.co_filename.startswith(PACKAGE)


def program_frame(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of the program in the turn that `frame` is in; None in a handler of the package."""
    while frame is not None and frame.f_code is not Kernel.turns.__code__:
        if not is_library(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None
