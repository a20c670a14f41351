"""The same operations for each peer: a module has a function for each benchmark that the peer can do.

`NAME(size)` does `size` operations and returns the seconds that they took, without the start and the end of the
event loop; `memory` returns bytes. The bodies report to `finished` how many operations they did, so that different
work is noticed. Each function is written as the manual of the peer recommends: with its stock event loop, its
contexts, and the garbage collector as it is.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager

TASKS = 100  # that take turns
MAX_SLEEP_SECONDS = 0.2
SLEEP_PER_TASK_SECONDS = 2e-6  # the longest sleep for each task, where the number of tasks varies
SWITCHES = 20  # of each task, where the number of tasks varies: the figure includes its start and its end
TIMEOUT_SECONDS = 30  # never reached
BLOCK_BYTES = 4096  # of one read of a file
BLOCKS = 256  # of the file: 1 MiB, which stays in the page cache
PROGRAM = ("echo", "x")  # writes two bytes
ENDLESS_SECONDS = 3600  # of a sleep that is never waited out

counts: list[int] = []  # of operations, from each body that has finished
finished = counts.append


@contextmanager
def file_of_blocks():
    """Make a file whose blocks are in the page cache; return its path. A tmpfs has no RWF_NOWAIT, which shows."""
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        file.write(bytes(BLOCKS * BLOCK_BYTES))
        yield file.name
