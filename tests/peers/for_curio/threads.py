"""curio's calls in threads and executors, and its traps: the requests that its own modules make of the kernel."""

from __future__ import annotations

import minisched

from .errors import NotOffered, ReadResourceBusy, WriteResourceBusy


async def run_in_thread(function, *args, call_on_cancel=None):
    try:
        return await minisched.InThread(function, *args, abandon=True)
    except minisched.Cancelled:
        if call_on_cancel:
            raise NotOffered("call_on_cancel") from None
        raise


block_in_thread = run_in_thread  # curio's begins no two calls of one function at once, to save threads


async def run_in_executor(executor, function, *args):
    return await minisched.Submit(executor, function, *args, abandon=True)


def descriptor(file):
    return file if isinstance(file, int) else file.fileno()


async def _read_wait(file):
    try:
        await minisched.WaitReadable(descriptor(file))
    except minisched.BusyError as error:
        raise ReadResourceBusy(str(error)) from None


async def _write_wait(file):
    try:
        await minisched.WaitWritable(descriptor(file))
    except minisched.BusyError as error:
        raise WriteResourceBusy(str(error)) from None


async def _io_release(file):
    """Do nothing: the poller keeps no file for which no task waits."""


async def _io_waiting(file):
    raise NotOffered("a list of the tasks that wait for a file")


class Given:
    """An executor whose only future exists already."""

    def __init__(self, future, event):
        self.future, self.event = future, event

    def submit(self, *_):
        if self.event is not None:
            self.event.set()
        return self.future


async def _future_wait(future, event=None):
    return await minisched.Submit(Given(future, event), len, abandon=True)


async def _get_kernel():
    raise NotOffered("_get_kernel")


async def _scheduler_wait(sched, state):
    raise NotOffered("the base of curio's own primitives")


_scheduler_wake = _scheduler_wait
