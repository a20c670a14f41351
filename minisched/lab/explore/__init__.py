"""Explore the schedules of a program: some of them, or each that differs.

Theory of operation. Round robin is one order of turns. A program that is right needs no particular one.

| file | content |
|---|---|
| `search` | `explore`: a portfolio of random orders, or all that differ; `Exploration`; the shrinking of a schedule |
| `portfolio` | random orders in three ways: random, PCT and POS |
| `schedule` | one run in a given schedule, and a schedule as text: "rr 12:0.2" |
| `acts` | choices that are not the task of a turn: a cancellation, the order of equal deadlines |
| `exhaustive` | a depth-first search with partial-order reduction; `check_reduction` |
| `footprints` | the touches of each turn, and which turns conflict |
| `tracking` | the hooks that see a touch |
| `liveness` | two watchers for what has to come about: `Eventually`, `NoStarvation` |
| `together` | two helpers of programs under exploration: `together`, `Shared` |
| `explain` | the failing run as lanes, the two lines whose order matters, and when it was too late |
| `checkpoint` | the state of an exhaustive exploration in a file |

Invariants:
1. The same schedule gives the same run; a program that depends on something else is reported as such.

Not here: faults of the operating system (`lab/faults`).
"""

from .checkpoint import BadCheckpoint
from .exhaustive import Reduction, check_reduction
from .liveness import Eventually, NoStarvation
from .schedule import BadSchedule
from .search import Exploration, explore
from .together import Shared, together

__all__ = [
    "BadCheckpoint",
    "BadSchedule",
    "Eventually",
    "Exploration",
    "NoStarvation",
    "Reduction",
    "Shared",
    "check_reduction",
    "explore",
    "together",
]
