"""Instruments: observe a run while it happens, and describe it when it fails.

`trace` prints one line for each event (`TextTrace`). `timeline` shows a column for each task and a row for each
turn (`Timeline`, with `plain` and `coloured` to print rows). `report` describes a task (`label`, `stack`) and a
deadlock. `debug` warns of generators and syscalls that are created and never run (`Debug`), `handling` of scopes that
are never entered and of handlers that change their call (`Handling`). `slow_turns` logs turns that hold up the run
(`SlowTurns`). `run(debug=True)` installs these three.

`record` and `replay` run a program again with the answers of its world; `faults` changes these answers; `simnet` is a
network in memory; `explore` runs a program in other orders of turns.

Each instrument is a `Watcher` or is called by one; `run(main, watch=[...])` installs it.

Invariant, tested: importing a module outside `lab`, `testing` and `cli` does not import this package. The loop imports
`report` only for a deadlock, and `debug` only for `run(debug=True)`.

Example:
    >>> from minisched import Sleep, run
    >>> from minisched.lab import TextTrace
    >>> def main():
    ...     yield Sleep(0)
    >>> run(main(), watch=[TextTrace(print)])
        0  -               spawned 0 main
        1  0 main          <- None
        1  0 main          -> Sleep(0)
        2  0 main          <- None
        2  0 main          ended: returned None
"""

from .debug import Debug
from .explore import (
    BadCheckpoint,
    BadSchedule,
    Eventually,
    Exploration,
    NoStarvation,
    Reduction,
    Shared,
    check_reduction,
    explore,
    together,
)
from .faults import Faults, faults_everywhere
from .handling import Handling
from .record import Diverged, RecordingEnded, record, replay
from .report import label, stack
from .simnet import SimNet
from .slow_turns import SlowTurns
from .tape import BadRecording
from .timeline import Timeline, coloured, plain
from .trace import TextTrace

__all__ = [
    "BadCheckpoint",
    "BadRecording",
    "BadSchedule",
    "Debug",
    "Diverged",
    "Eventually",
    "Exploration",
    "Faults",
    "Handling",
    "NoStarvation",
    "RecordingEnded",
    "Reduction",
    "Shared",
    "SimNet",
    "SlowTurns",
    "TextTrace",
    "Timeline",
    "check_reduction",
    "coloured",
    "explore",
    "faults_everywhere",
    "label",
    "plain",
    "record",
    "replay",
    "stack",
    "together",
]
