"""A look inside: a run as one column for each task and one row for each turn.

Theory of operation. A row is what happened in one turn: in the column of the task that ran, what woke
it, what it was given and what it yielded; in the others' columns, what that did to them; and where
nothing happened, whether they are ready or wait. What the loop does between two turns is in the
second one's row. A column is free again when its task has ended; those for whom none is free share
the last one, each by name.

Not here: which paper: `show` is given the pieces of each row.
"""

from __future__ import annotations

from .kernel import ENDING, PARKED, Kernel, Scope, Syscall, Task
from .report import label
from .watch import Watcher, answered, ending, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Piece = tuple[str, int, bool]  # a text, as wide as its column; which column; whether its task ran
    Row = list[Piece]

WIDE = 24  # characters of a column: three fit on a terminal of 80
NUMBER = 6  # characters of the number of a turn
COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red")
LEGEND = (
    "a column is a task, a row a turn: + spawned  ^ woken by  <- given  -> yielded  : waits  | is ready  x cancelled"
)


class Columns(Watcher):
    """Tell `show` of each row: the number of the turn, and for each column (text, which, whether it ran).

    `most`: columns, the last being for those who find no other; `width`: characters of each.
    """

    def __init__(self, show: Callable[[str, Row], object], most: int = 8, width: int = WIDE) -> None:
        self.show = show
        self.most = max(most, 1)
        self.width = width
        self.number = 0
        self.ran: Task | None = None  # whose turn the row is
        self.own: list[str] = []  # what happened to it
        self.marks: dict[int, list[str]] = {}  # what happened to others, by column
        self.columns: list[Task | None] = []
        self.place: dict[Task, int] = {}
        self.gone: list[Task] = []  # their columns are free after this row
        self.woken: dict[Task, str] = {}  # and not yet run: by whom

    def start(self, kernel: Kernel) -> None:
        _ = self.show("turn", [(LEGEND, 0, False)])

    def spawn(self, task: Task) -> None:
        free = [number for number, has in enumerate(self.columns) if has is None]
        column = free[0] if free else len(self.columns)
        if column < self.most - 1:
            self.columns[column : column + 1] = [task]
            self.place[task] = column
        self._mark(task, f"+ {label(task)}" if task in self.place else "+")

    def turn(self, task: Task) -> None:
        self.finish()
        self.number += 1
        self.ran = task
        by = self.woken.pop(task, None)
        before = self.marks.pop(self._column(task), []) if task in self.place else []
        given = answered(task)
        self.own = [
            *before,
            *([] if by is None else [f"^{by}"]),
            *([] if given == "None" else [f"<- {given}"]),
        ]

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        self.own.append("-> yield" if call is None else f"-> {short(call)}")

    def park(self, task: Task, call: Syscall[Any]) -> None:
        self.own.append(f"-> {call!r} :")

    def wake(self, task: Task, by: Task | None) -> None:
        self.woken[task] = "loop" if by is None else label(by).partition(" ")[0]
        if by is not None and task is not self.ran:
            self._mark(task, "^")

    def cancel(self, scope: Scope) -> None:
        reason, _ = scope.own or (None, None)
        task = scope if isinstance(scope, Task) else scope.task
        what = "x" if isinstance(scope, Task) else "x its scope"
        if task is not None:
            self._mark(task, f"{what}: {reason}" if reason else what)

    def exit(self, task: Task) -> None:
        self._mark(task, ending(task))
        self.gone.append(task)

    def poll(self, timeout: float | None, events: int) -> None:
        self.finish()  # what happens now is between two turns

    def finish(self) -> None:
        """Show the row that is complete; at the end of a run, the last one."""
        if self.ran is not None:
            if self.ran.place is ENDING:
                self.own.append("its body is over")
            _ = self.show(f"{self.number:>{NUMBER - 2}}", self._row(self.ran))
            self.ran, self.own, self.marks = None, [], {}
        for task in self.gone:
            _ = self.woken.pop(task, None)
            column = self.place.pop(task, None)
            if column is not None:
                self.columns[column] = None
        self.gone.clear()

    def _column(self, task: Task) -> int:
        return self.place.get(task, self.most - 1)

    def _mark(self, task: Task, what: str) -> None:
        if task is self.ran:
            self.own.append(what)
        elif task in self.place:
            self.marks.setdefault(self.place[task], []).append(what)
        else:
            self.marks.setdefault(self.most - 1, []).append(f"{label(task)} {what};")

    def _row(self, ran: Task) -> Row:
        texts = {column: lifeline(task) for column, task in enumerate(self.columns) if task is not None}
        texts |= {column: " ".join(marks) for column, marks in self.marks.items()}
        here = self._column(ran)
        if ran in self.place:
            texts[here] = " ".join(self.own)
        else:
            texts[here] = " ".join([label(ran), *self.own, *self.marks.get(here, [])])
        last = max(texts)
        row = [(fitted(texts.get(column, ""), self.width), column, column == here) for column in range(last)]
        return [*row, (fitted(texts[last], self.width * (self.most - last)), last, last == here)]


def fitted(text: str, width: int) -> str:
    """Return a text as wide as its column, cut short if it has to be."""
    return (text if len(text) < width else f"{text[: max(width - 4, 0)]}...").ljust(width)


def lifeline(task: Task) -> str:
    """Return the sign of a task to which nothing happens: that it waits, or is ready."""
    return ":" if task.place in (PARKED, ENDING) else "|"


def plain(number: str, row: Row) -> str:
    """Return a row as a line of text."""
    return f"{number:<{NUMBER}}{''.join(text for text, _, _ in row)}".rstrip()


def coloured() -> Callable[[str, Row], object]:
    """Return what prints a row, each column in a colour of its own. Raises ImportError if there is no `rich`."""
    from rich.console import Console
    from rich.text import Text

    console = Console()

    def show(number: str, row: Row) -> None:
        line = Text()
        _ = line.append(f"{number:<{NUMBER}}", "dim")
        for text, column, ran in row:
            colour = COLOURS[column % len(COLOURS)]
            _ = line.append(text, f"bold {colour}" if ran else f"dim {colour}" if text.strip() in ":|" else colour)
        line.rstrip()
        console.print(line, no_wrap=True, overflow="ignore", crop=False)

    return show
