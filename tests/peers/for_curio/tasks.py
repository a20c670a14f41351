"""curio's tasks, and the shields against cancellation."""

from __future__ import annotations

import os
from contextlib import suppress

import minisched

from .errors import NotOffered, TaskError

AT_ONCE = os.environ.get("SPAWN") == "at_once"


class Running:
    """The run that goes on; curio's calls do not name it."""

    kernel = None


tasks = {}  # the Task of each task of minisched


def instantiate(function, args):
    from curio import meta

    return meta.instantiate_coroutine(function, *args)


class Task:
    made = 0

    def __init__(self, inner, coro, daemon=False):
        Task.made += 1
        self.id, self.inner, self.coro, self.daemon = Task.made, inner, coro, daemon
        self.name = getattr(coro, "__qualname__", str(coro))
        self.joined, self.taskgroup = False, None
        tasks[inner] = self

    @property
    def terminated(self):
        return self.inner.state == "done"

    @property
    def cancelled(self):
        return self.terminated and self.inner.cancelled_caught

    @property
    def state(self):
        return "TERMINATED" if self.terminated else self.inner.state.upper()

    @property
    def exception(self):
        if not self.terminated:
            raise RuntimeError("Task not terminated")
        return self.inner.failure or (minisched.Cancelled() if self.cancelled else None)

    @property
    def result(self):
        error = self.exception
        if error is not None:
            raise error
        self.joined = True
        return self.inner.result

    async def wait(self):
        """Wait for the end of the task, whatever it is."""
        with suppress(Exception):  # a Cancelled of the waiter is none
            await minisched.Join(self.inner)

    async def join(self):
        self.joined = True
        if self.taskgroup is not None and self in self.taskgroup.members:
            self.taskgroup.members.remove(self)
        try:
            return await minisched.Join(self.inner)
        except minisched.Cancelled:
            raise
        except minisched.TaskCancelled as error:
            raise TaskError("Task crash") from minisched.Cancelled(error.reason)
        except BaseException as error:
            raise TaskError("Task crash") from error

    async def cancel(self, *, exc=None, blocking=True):
        if exc is not None and exc is not minisched.Cancelled:
            raise NotOffered("a cancellation by an exception of the caller's choice")
        self.joined = True
        await minisched.Cancel(self.inner)
        if blocking:
            await self.wait()

    def where(self):
        frame = getattr(self.inner.gen, "cr_frame", None)
        return (frame.f_code.co_filename, frame.f_lineno) if frame else (None, None)

    def traceback(self):
        return f"{self.where()}"

    def __repr__(self):
        return f"Task(id={self.id}, name={self.name!r}, state={self.state!r})"


ContextTask = Task  # each task of minisched has a context


async def spawn(corofunc, *args, daemon=False):
    coro = instantiate(corofunc, args)
    if AT_ONCE:
        kernel = Running.kernel
        return Task(kernel.spawn(coro, None, kernel.current, keep=True, daemon=daemon), coro, daemon)
    return Task(await minisched.Spawn(coro, keep=True, daemon=daemon), coro, daemon)


async def current_task():
    inner = await minisched.CurrentTask()
    return tasks.get(inner) or Task(inner, inner.gen)


class FromThreads:
    """A context manager for `async with`, and for `with` in an asynchronous thread of curio."""

    def __enter__(self):
        from curio.thread import AWAIT

        return AWAIT(self.__aenter__())

    def __exit__(self, *error):
        from curio.thread import AWAIT

        return AWAIT(self.__aexit__(*error))


shields = {}  # the open shields of each task of minisched


class DisableCancellation(FromThreads):
    async def __aenter__(self):
        self.task = await minisched.CurrentTask()
        self.shield = await minisched.Shield(None)
        shields.setdefault(self.task, []).append(self.shield.__enter__())
        return self

    async def __aexit__(self, *error):
        shields[self.task].pop()
        return self.shield.__exit__(*error)


def disable_cancellation(coro=None, *args):
    if coro is None:
        return DisableCancellation()

    async def shielded():
        async with DisableCancellation():
            return await instantiate(coro, args)

    return shielded()


async def check_cancellation(exc=None):
    open_shields = shields.get(await minisched.CurrentTask())
    if not open_shields:
        await minisched.Pause()
        return None
    request = open_shields[0].parent.effective
    return minisched.Cancelled(*request) if request is not None else None


async def set_cancellation(exc):
    raise NotOffered("set_cancellation")
