"""The async generators of a run: closed when they are dropped unfinished, and at the end of the run.

Theory of operation. Python calls two hooks (`sys.set_asyncgen_hooks`): `begun` when an async generator is iterated for
the first time, and `dropped` when one that is not exhausted is about to be garbage collected, which may
happen in any thread. Its cleanup has to run in the run's thread. So `dropped` only appends the generator to a
deque and schedules `close_dropped` in the loop. No task is left that could wait in that cleanup: a
generator that awaits something there is not closed, and a ResourceWarning says so.

Invariants:
1. After the run, no async generator that was begun in it is open, except those that wait in their cleanup.
2. After the run, the previous hooks are restored.

Not here: generators that are tasks, which the loop closes itself (`Loop._abandon`).
"""

from __future__ import annotations

import sys
import warnings
from _weakref import ref  # the core of `weakref`: quicker to import
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from typing import Any


class AsyncGenerators:
    """The async generators that a run has begun, and those of them that were dropped."""

    def __init__(self, schedule: Callable[[Callable[[], object]], object]) -> None:
        self.schedule = schedule  # calls a function in the run's thread, soon: `Wakeup.call`
        self.previous_hooks = sys.get_asyncgen_hooks()
        self.open: dict[ref[AsyncGenerator[Any, Any]], None] = {}
        self.to_close: deque[AsyncGenerator[Any, Any]] = deque()

    def install(self) -> None:
        """Set the hooks of this thread."""
        sys.set_asyncgen_hooks(self.begun, self.dropped)

    def begun(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Register a generator that is iterated for the first time."""
        self.open[ref(generator, lambda collected: self.open.pop(collected, None))] = None

    def dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Schedule the closing of a generator that was dropped. The garbage collector calls this in any thread."""
        self.to_close.append(generator)
        _ = self.schedule(self.close_dropped)

    def close_dropped(self) -> None:
        """Close the generators that were dropped; warn of those that fail or wait in their cleanup.

        A KeyboardInterrupt or SystemExit of a cleanup is raised when all are closed, and so is a warning that the
        program has turned into an error.
        """
        raised: list[BaseException] = []
        while self.to_close:
            try:
                close_generator(self.to_close.popleft())
            except BaseException as error:
                raised.append(error)
        if raised:
            try:
                raise raised[0]
            finally:
                raised.clear()  # a cycle: the traceback of an error holds this frame

    def close(self) -> None:
        """Restore the hooks and close every generator that is still open: the run has ended. May be called again."""
        sys.set_asyncgen_hooks(*self.previous_hooks)
        self.to_close.extend(generator for begun in list(self.open) if (generator := begun()) is not None)
        self.close_dropped()


def close_generator(generator: AsyncGenerator[Any, Any]) -> None:
    """Close a generator that was dropped; warn if it fails or waits in its cleanup."""
    try:
        generator.aclose().send(None)
    except StopIteration:
        return
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        problem = f"raised {error!r} when it was closed"
    else:
        problem = "waits in its cleanup; use contextlib.aclosing, so that a task can wait there"
    name = getattr(generator, "__qualname__", generator)
    warnings.warn(f"async generator {name} was dropped before its end and {problem}", ResourceWarning, stacklevel=1)
