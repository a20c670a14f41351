"""The backend: anyio's interface to an event loop, for minisched."""

from __future__ import annotations

import math
from contextvars import copy_context
from functools import partial

import anyio._core._eventloop as eventloop
from anyio import NoEventLoopError, RunFinishedError
from anyio.abc import TestRunner
from anyio.abc._eventloop import AsyncBackend

import minisched

from . import current
from .current import here, kernel, task
from .scopes import CancelScope, TaskGroup, shielded
from .synchronization import CapacityLimiter, Event, Lock, Semaphore
from .tasks import info

DEFAULT_THREADS = 40  # as in anyio's other backends


class Token:
    """A handle on a run, for other threads."""

    def __init__(self, portal):
        self.portal = portal
        self.wakeup = kernel().service(minisched.Wakeup)

    def ask(self, request):
        """Return `request(portal)`; RunFinishedError if the run has ended."""
        try:
            return request(self.portal)
        except minisched.ClosedError as error:
            raise RunFinishedError from error


def in_library(function, *args):
    """Call a function in a copy of this thread's context in which minisched is the current library."""
    context = copy_context()
    context.run(eventloop.set_current_async_library, "minisched")
    return context.run(function, *args)


async def awaited(function, args):
    return await function(*args)


async def host(ready):
    """Own the tasks that other threads spawn with the token of the run, or after their caller has abandoned them."""
    with await minisched.Portal() as portal:
        here.host, here.token = task(), Token(portal)
        ready.set()
        await minisched.Event().wait()


class Runner(TestRunner):
    """Runs each test, and each fixture, in a run of its own."""

    def __init__(self, **options):
        self.options = options

    def __exit__(self, kind, error, trace): ...

    def is_running(self):
        return getattr(here, "kernel", None) is not None

    def run_asyncgen_fixture(self, fixture_func, kwargs):
        raise NotImplementedError("an async generator fixture lives longer than a run")

    def run_fixture(self, fixture_func, kwargs):
        return Backend.run(fixture_func, (), kwargs, {})

    def run_test(self, test_func, kwargs):
        Backend.run(test_func, (), kwargs, {})


class Backend(AsyncBackend):
    @classmethod
    def run(cls, func, args, kwargs, options):
        async def main():
            here.kernel, here.limiter = (await minisched.CurrentTask()).kernel, None
            ready = minisched.Event()
            await minisched.Spawn(host(ready), daemon=True)
            await ready.wait()
            return await func(*args, **kwargs)

        main.__name__ = f"{func.__module__}.{func.__qualname__}" if hasattr(func, "__qualname__") else "main"
        try:
            return minisched.run(main(), **options)
        finally:
            here.kernel = None

    @classmethod
    def current_token(cls):
        return here.token

    @classmethod
    def current_time(cls):
        return current.now()

    @classmethod
    def cancelled_exception_class(cls):
        return minisched.Cancelled

    @classmethod
    async def checkpoint(cls):
        await minisched.Pause()

    @classmethod
    async def checkpoint_if_cancelled(cls):
        await current.checkpoint_if_cancelled()

    @classmethod
    async def cancel_shielded_checkpoint(cls):
        with shielded():
            await minisched.Pause()

    @classmethod
    async def sleep(cls, delay):
        await minisched.Sleep(delay)

    @classmethod
    def create_cancel_scope(cls, *, deadline=math.inf, shield=False):
        return CancelScope(deadline=deadline, shield=shield)

    @classmethod
    def current_effective_deadline(cls):
        deadline, scope = math.inf, task().scope
        if scope.effective is not None:
            return -math.inf
        while scope is not None:
            deadline = min(deadline, getattr(scope, "deadline", math.inf))
            if scope.shield:
                break
            scope = scope.parent
        return deadline

    @classmethod
    def create_task_group(cls):
        return TaskGroup()

    @classmethod
    def create_event(cls):
        if getattr(here, "kernel", None) is None:
            raise NoEventLoopError
        return Event()

    @classmethod
    def create_lock(cls, *, fast_acquire):
        return Lock(fast_acquire=fast_acquire)

    @classmethod
    def create_semaphore(cls, initial_value, *, max_value=None, fast_acquire=False):
        return Semaphore(initial_value, max_value=max_value, fast_acquire=fast_acquire)

    @classmethod
    def create_capacity_limiter(cls, total_tokens):
        return CapacityLimiter(total_tokens)

    # Other threads.

    @classmethod
    async def run_sync_in_worker_thread(cls, func, args, abandon_on_cancel=False, limiter=None):
        await minisched.Pause()
        async with limiter or cls.current_default_thread_limiter():
            if abandon_on_cancel:
                return await cls.run_in_thread(func, args, here.token, True)
            with await minisched.Portal() as portal:  # the tasks that the thread spawns are children of this task
                return await cls.run_in_thread(func, args, Token(portal), False)

    @classmethod
    async def run_in_thread(cls, func, args, token, abandon):
        caller = task()

        def call():
            here.token, here.caller = token, caller
            with eventloop.claim_worker_thread(cls, token):
                eventloop.set_current_async_library(None)  # in the copy of the context that `InThread` makes
                try:
                    return func(*args), False
                except minisched.Cancelled:
                    return None, True

        result, cancelled = await minisched.InThread(call, abandon=abandon)
        if cancelled:
            await minisched.Pause()
        return result

    @classmethod
    def check_cancelled(cls):
        scope = here.caller.scope or here.caller  # a task that has ended has no scope inside itself
        if scope.effective is not None:
            raise minisched.Cancelled(*scope.effective)

    @classmethod
    def run_sync_from_thread(cls, func, args, token):
        return in_library((token or here.token).ask, lambda portal: portal.call(func, *args))

    @classmethod
    def run_async_from_thread(cls, func, args, token):
        spawned = in_library((token or here.token).ask, lambda portal: portal.spawn(awaited, func, args))
        try:
            return spawned.result()
        except minisched.TaskCancelled as error:
            raise minisched.Cancelled(error.reason) from None

    @classmethod
    def run_sync_soon(cls, func, args, token):
        if token.portal.threads.run_ended:  # not public
            raise RunFinishedError
        token.wakeup.call(partial(copy_context().run, func, *args))

    @classmethod
    def current_default_thread_limiter(cls):
        if here.limiter is None:
            here.limiter = CapacityLimiter(DEFAULT_THREADS)
        return here.limiter

    # Files and tasks.

    @classmethod
    async def wait_readable(cls, obj):
        await minisched.WaitReadable(obj)

    @classmethod
    async def wait_writable(cls, obj):
        await minisched.WaitWritable(obj)

    @classmethod
    def get_current_task(cls):
        return info(task())

    @classmethod
    def get_running_tasks(cls):
        return [info(each) for each in kernel().tasks() if each is not here.host]

    @classmethod
    async def wait_all_tasks_blocked(cls):
        await minisched.Pause()
        while len(kernel().ready):
            await minisched.Pause()

    @classmethod
    def create_test_runner(cls, options):
        return Runner(**options)


Backend.__abstractmethods__ = frozenset()  # the others raise NotImplementedError
