"""The run that a thread is in: anyio's calls name neither the kernel nor the task."""

from __future__ import annotations

import threading

import minisched

here = threading.local()


def kernel():
    return here.kernel


def task():
    """Return the running task."""
    return here.kernel.current


def now():
    """Return the time of the run, in seconds."""
    return here.kernel.service(minisched.Timers).now()


async def checkpoint_if_cancelled():
    if task().scope.effective is not None:
        await minisched.Pause()
