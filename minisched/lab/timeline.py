"""A timeline of a run: a column for each task and a row for each turn.

Theory of operation. A row is one turn. The column of the task that runs shows what woke it, what the turn gave it and
what it yielded. The columns of other tasks show what the turn did to them, or else their state: `:` waits, `|` is
ready. Events between two turns (of the loop) appear in the row of the second one. When a task has ended, its column
is free for the next new task. A task for which no column is free shares the last one with the task there. As long as it
is shared, its cells have the names of their tasks. A text that is longer than its column uses the columns to its right,
where they are empty.

Invariants:
1. A row is shown only after its turn has ended, and before the first event of the next one.
2. A task keeps its column until it has ended.

Not here: the output, since the caller's `show` receives each row as a list of cells. `plain` and `coloured` are two
ways to print a row.
"""

from __future__ import annotations

from textwrap import wrap

from ..kernel import Task
from ..kernel.numbers import check_count
from ..kernel.tracebacks import safe_repr
from ..kernel.tree import ENDING, PARKED
from ..kernel.watcher import Watcher
from .report import label
from .trace import ending, next_input, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel import Kernel, Scope, Syscall

    Cell = tuple[str, int, bool]  # a text, padded to the column's width; the column's number; whether its task ran

    Row = list[Cell]

COLUMN_CHARACTERS = 24  # the default width of a column: three fit on a terminal of 80 characters
NUMBER_CHARACTERS = 6  # for the number of the turn, in front of the columns
COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red")
LEGEND = (  # two rows, each of which fits into three columns: a terminal of 80 characters
    "a column is a task, a row is a turn",
    "+ spawned  ^ woken  <- given  -> yielded  : waits  | ready  x cancelled",
)
NO_BREAK = "\N{NO-BREAK SPACE}"


class Timeline(Watcher):
    """Show a run as a column for each task and a row for each turn.

    A watcher: give it to `run(watch=[...])`, and call `finish()` after the run, which shows the last row. The first
    two rows are a legend.

    Args:
        show: called as `show(number, row)` for each row. `number` is the turn's number as text, and `row` a list of
            cells `(text, column, ran)`; `plain(number, row)` makes one line of them.
        most: the number of columns; tasks that find no free column share the last one.
        width: characters of a column.

    Example:
        >>> from minisched import Sleep, Spawn
        >>> from minisched.lab import Timeline, plain
        >>> from minisched.testing import run
        >>> def child():
        ...     yield Sleep(1)
        >>> def main():
        ...     yield Spawn(child(), "a")
        ...     yield Sleep(2)
        >>> rows = []
        >>> timeline = Timeline(lambda number, row: rows.append(plain(number, row)))
        >>> run(main(), watch=[timeline])
        >>> timeline.finish()
        >>> for row in rows[2:]:
        ...     print(row)
           1  + 0 main -> Spawn(a)    + 0.0 a
           2  |                       -> Sleep(1) :
           3  <- task 0.0 a -> Sle... :
           4  :                       ^loop returned None
           5  ^loop returned None
    """

    def __init__(self, show: Callable[[str, Row], object], most: int = 8, width: int = COLUMN_CHARACTERS) -> None:
        self.show = show
        self.most: int = max(check_count("Timeline", "most", "columns", most), 1)
        self.width: int = check_count("Timeline", "width", "characters", width, least=1)
        self.turn_number = 0
        self.running: Task | None = None  # the task whose turn the current row shows
        self.events: list[str] = []  # of that task
        self.marks: dict[int, list[str]] = {}  # events of other tasks in this row, by column
        self.columns: list[Task | None] = []
        self.column_of: dict[Task, int] = {}
        self.sharing: set[Task] = set()  # the tasks without a column of their own
        self.ended: list[Task] = []  # tasks whose columns become free after this row
        self.woken_by: dict[Task, str] = {}  # for tasks that are woken and have not run yet

    def start(self, kernel: Kernel) -> None:
        for number, text in enumerate(legend(self.width * self.most)):
            _ = self.show("" if number else "turn", [(text, 0, False)])

    def spawn(self, task: Task) -> None:
        free = [number for number, user in enumerate(self.columns) if user is None]
        column = free[0] if free else len(self.columns)
        if column < self.most:
            self.columns[column : column + 1] = [task]
            self.column_of[task] = column
        else:
            self.sharing.add(task)
        self._mark(task, f"+ {label(task)}")

    def turn(self, task: Task) -> None:
        self.finish()
        self.turn_number += 1
        self.running = task
        waker = self.woken_by.pop(task, None)
        column = self._column(task)
        marks = [] if self._is_shared(column) else self.marks.pop(column, [])
        sent = next_input(task)
        self.events = [
            *marks,
            *([] if waker is None else [f"^{waker}"]),
            *([] if sent == "None" else [f"<- {sent}"]),
        ]

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        self.events.append("-> yield" if call is None else f"-> {short(call)}")

    def park(self, task: Task, call: Syscall[Any]) -> None:
        self.events.append(f"-> {safe_repr(call)} :")

    def wake(self, task: Task, by: Task | None) -> None:
        self.woken_by[task] = "loop" if by is None else label(by).partition(" ")[0]
        if by is not None and task is not self.running:
            self._mark(task, "^")

    def cancel(self, scope: Scope) -> None:
        reason, _ = scope.requested or (None, None)
        task = scope if isinstance(scope, Task) else scope.task  # pyright: ignore[reportUnknownVariableType]
        mark = "x" if isinstance(scope, Task) else "x its scope"
        if task is not None:
            self._mark(task, f"{mark}: {reason}" if reason else mark)  # pyright: ignore[reportUnknownArgumentType]

    def exit(self, task: Task) -> None:
        self._mark(task, ending(task))
        self.ended.append(task)

    def poll(self, timeout: float | None, events: int) -> None:
        self.finish()  # later events are between two turns

    def finish(self) -> None:
        """Show the row of the last turn, if it has not been shown yet. Call it after the run."""
        if self.running is not None:
            if self.running.state == ENDING:
                self.events.append("its body has ended")
            _ = self.show(f"{self.turn_number:>{NUMBER_CHARACTERS - 2}}", self._row(self.running))
            self.running, self.events, self.marks = None, [], {}
        for task in self.ended:
            _ = self.woken_by.pop(task, None)
            self.sharing.discard(task)
            column = self.column_of.pop(task, None)
            if column is not None:
                self.columns[column] = None
        self.ended.clear()

    def _column(self, task: Task) -> int:
        return self.column_of.get(task, self.most - 1)

    def _mark(self, task: Task, event: str) -> None:
        if task is self.running:
            self.events.append(event)
        else:
            column = self._column(task)
            named = self._is_shared(column) and not event.startswith("+")  # which has the name already
            self.marks.setdefault(column, []).append(f"{label(task)} {event};" if named else event)

    def _is_shared(self, column: int) -> bool:
        return bool(self.sharing) and column == self.most - 1

    def _row(self, running: Task) -> Row:
        texts = {column: state_sign(task) for column, task in enumerate(self.columns) if task is not None}
        current = self._column(running)
        texts |= {column: " ".join(marks) for column, marks in self.marks.items()}
        texts[current] = " ".join(self.events)
        if self._is_shared(current):
            named = (
                texts[current] if self.events[:1] == [f"+ {label(running)}"] else f"{label(running)} {texts[current]}"
            )
            texts[current] = " ".join([named, *self.marks.get(current, [])])
        starts = sorted({0, *texts})
        ends = [*starts[1:], self.most]
        return [
            (fitted(texts.get(start, ""), self.width * (end - start)), start, start == current)
            for start, end in zip(starts, ends, strict=True)
        ]


def legend(width: int) -> list[str]:
    """Return the legend, wrapped between its signs, or at words where one does not fit into `width` characters."""
    signs = [sign.replace(" ", NO_BREAK) for sign in LEGEND[1].split("  ")]
    lines = [*wrap(LEGEND[0], width), *wrap("  ".join(signs), width)]
    return [line.replace(NO_BREAK, " ") for line in lines]


def fitted(text: str, width: int) -> str:
    """Return a text padded, or cut with `...`, to the width of its column."""
    return (text if len(text) < width else f"{text[: max(width - 4, 0)]}...").ljust(width)


def state_sign(task: Task) -> str:
    """Return the sign of a task without an event in this row: `:` if it waits, `|` if it is ready."""
    return ":" if task.state in (PARKED, ENDING) else "|"


def plain(number: str, row: Row) -> str:
    """Return a row of a `Timeline` as one line of text.

    Example:
        >>> plain("   1", [("|       ", 0, False), ("-> yield", 1, True)])
        '   1  |       -> yield'
    """
    return f"{number:<{NUMBER_CHARACTERS}}{''.join(text for text, _, _ in row)}".rstrip()


def coloured() -> Callable[[str, Row], object]:
    """Return a `show` function for `Timeline` that prints each column in its own colour, with `rich`.

    Raises:
        ImportError: if `rich` is not installed (`pip install 'minisched[demo]'`).

    Example:
        >>> from minisched import Sleep, run
        >>> from minisched.lab import Timeline, coloured
        >>> def main():
        ...     yield Sleep(0)
        >>> timeline = Timeline(coloured())
        >>> run(main(), watch=[timeline])  # doctest: +ELLIPSIS
        turn  a column is a task, a row is a turn
              + spawned ...
           1  + 0 main -> Sleep(0)
        >>> timeline.finish()
           2  returned None
    """
    from rich.console import Console
    from rich.text import Text

    console = Console()

    def show(number: str, row: Row) -> None:
        line = Text()
        _ = line.append(f"{number:<{NUMBER_CHARACTERS}}", "dim")
        for text, column, ran in row:
            colour = COLOURS[column % len(COLOURS)]
            _ = line.append(text, f"bold {colour}" if ran else f"dim {colour}" if text.strip() in ":|" else colour)
        line.rstrip()
        console.print(line, no_wrap=True, overflow="ignore", crop=False)

    return show
