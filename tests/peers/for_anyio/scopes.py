"""anyio's cancel scopes and task groups, on those of minisched."""

from __future__ import annotations

import math
from contextvars import copy_context

from anyio import CancelScope as AnyioScope
from anyio._core._tasks import TaskHandle
from anyio.abc import TaskGroup as AnyioGroup
from anyio.abc._tasks import call_for_coroutine, get_callable_name, get_coro_name

import minisched
from minisched.tasks.scopes import CancelContext  # not public: a scope that is made without a yield

from .current import checkpoint_if_cancelled, kernel, now, task


def shielded():
    """Return a scope that hides the cancellations outside of it."""
    return CancelContext(task(), None, shield=True)


class CancelScope(AnyioScope):
    """A scope that any task may make, and the task that enters it owns."""

    __slots__ = ("entered", "hidden", "inner", "requested", "when")

    def __new__(cls, *args, **keywords):
        return object.__new__(cls)

    def __init__(self, *, deadline=math.inf, shield=False, inner=None):
        self.inner = inner  # minisched's, from the entry on
        self.requested = False  # cancelled before the entry
        self.deadline = deadline
        self.hidden = shield

    def __enter__(self):
        if self.inner is not None:
            raise RuntimeError("Each CancelScope may only be used for a single 'with' block")
        inner = CancelContext(task(), None, shield=self.hidden)
        inner.deadline = self.when
        if self.requested:
            inner.cancel()
        self.inner = inner.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        if self.inner is None:
            raise RuntimeError("This cancel scope is not active")
        try:
            return self.inner.__exit__(kind, error, trace)
        except minisched.SyscallError as misuse:
            raise RuntimeError(str(misuse)) from error

    def cancel(self, reason=None):
        if self.inner is None:
            self.requested = True
        else:
            self.inner.cancel(reason)

    @property
    def deadline(self):
        return self.when if self.inner is None else self.inner.deadline

    @deadline.setter
    def deadline(self, deadline):
        if math.isnan(deadline):
            raise ValueError("deadline must not be NaN")
        self.when = float(deadline)
        if self.inner is not None:
            self.inner.deadline = self.when

    @property
    def cancel_called(self):
        if self.inner is None:
            return self.requested
        is_inside = self.inner.parent is not None
        return self.inner.cancel_called or (is_inside and self.inner.deadline <= now())

    @property
    def cancelled_caught(self):
        return self.inner is not None and self.inner.cancelled_caught

    @property
    def shield(self):
        return self.hidden if self.inner is None else self.inner.shield

    @shield.setter
    def shield(self, shield):
        if not isinstance(shield, bool):
            raise TypeError("shield must be a bool")
        self.hidden = shield
        if self.inner is not None:
            self.inner.shield = shield
            kernel().propagate(self.inner)


class TaskStatus:
    """The object by which a task says that it has started; `begin` lets it say so to minisched."""

    def __init__(self, tell):
        self.tell = tell
        self.called = self.begun = False
        self.value = None

    def started(self, value=None):
        if self.called:
            raise RuntimeError("called 'started' twice on the same task status")
        self.called, self.value = True, value
        if self.begun:
            self.tell(value)

    def begin(self):
        """Pass on a call that was made while the coroutine was created."""
        self.begun = True
        if self.called:
            self.tell(self.value)


class TaskGroup(AnyioGroup):
    def __init__(self):
        self.group = minisched.TaskGroup()
        self.cancel_scope = None
        self.entered = self.active = False

    async def __aenter__(self):
        if self.entered:
            raise RuntimeError("TaskGroup cannot be entered more than once")
        self.entered = True
        await self.group.begin()
        self.cancel_scope = CancelScope(inner=self.group.scope)
        self.active = True
        return self

    async def __aexit__(self, kind, error, trace):
        try:
            await minisched.Pause()  # in anyio, the end of a block is a checkpoint
        except minisched.Cancelled as cancelled:
            error = error or cancelled
        try:
            return await self.group.__aexit__(type(error), error, error and error.__traceback__)
        finally:
            self.active = False
            del error, trace

    def check_active(self, coroutine=None):
        if not self.active:
            if coroutine is not None:
                coroutine.close()
            raise RuntimeError("This task group is not active; no new tasks can be started.")

    def spawn(self, body, name, context=None):
        """Start a task, by a plain call. Outside of any task, the owner spawns it."""
        spawned = self.group.spawn_child(task() or self.group.scope.owner, body, name)
        spawned.context = context or copy_context()
        return spawned

    def create_task(self, coro, *, name=None, context=None):
        if not hasattr(coro, "send"):
            raise TypeError(f"expected a coroutine, got {type(coro).__qualname__}")
        self.check_active(coro)
        handle = TaskHandle(coro, get_coro_name(coro, name))
        self.spawn(handle._run_coro(), handle.name, context)
        return handle

    async def start(self, func, *args, name=None, return_handle=False):
        self.check_active()
        name = get_callable_name(func, name)
        handle = None

        async def body(tell):
            nonlocal handle
            status = TaskStatus(tell)
            handle = TaskHandle(call_for_coroutine(func, args, task_status=status), name)
            status.begin()
            await handle._run_coro()

        try:
            value = await self.group.start(body, name=name)
        except minisched.SyscallError as misuse:
            raise RuntimeError("Child exited without calling task_status.started()") from misuse
        except minisched.TaskCancelled:
            await checkpoint_if_cancelled()
            raise RuntimeError("Child exited without calling task_status.started()") from None
        if return_handle:
            handle._start_value = value
        return handle if return_handle else value
