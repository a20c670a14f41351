"""curio's TaskGroup, on that of minisched.

A body around the body of each task notes its end. So the group knows the first task to end, and the order of the ends.
"""

from __future__ import annotations

import minisched

from .errors import NotOffered
from .tasks import AT_ONCE, Running, Task, instantiate, spawn, tasks


class TaskGroup:
    def __init__(self, tasks=(), *, wait=all):
        if tasks:
            raise NotOffered("a group of tasks that exist already: a child belongs to its spawner")
        self.group, self.policy = minisched.TaskGroup(), wait
        self.members, self.daemons = [], []
        self.ends = minisched.Queue()
        self.completed, self.joined, self.begun = None, False, False

    async def begin(self):
        if not self.begun:
            self.begun = True
            await self.group.begin()

    async def body(self, coro):
        result = failed = None
        try:
            result = await coro
        except BaseException:
            failed = True
            raise
        finally:
            self.note_end(coro, result, failed)
        return result

    def note_end(self, coro, result, failed):
        inner = Running.kernel.current
        task = tasks.get(inner) or Task(inner, coro)
        if self.completed is None and (self.policy is not object or failed or result is not None):
            self.completed = task
        self.ends.put_nowait(task)
        if self.policy is any or (self.policy is object and result is not None):
            self.group.cancel()

    async def spawn(self, corofunc, *args, daemon=False):
        self.check_not_joined()
        await self.begin()
        if daemon:
            task = await spawn(corofunc, *args, daemon=True)
            self.daemons.append(task)
            return task
        coro = instantiate(corofunc, args)
        call = self.group.spawn(self.body(coro), getattr(coro, "__name__", None))
        kernel = Running.kernel
        inner = call.handle(kernel, kernel.current) if AT_ONCE else await call
        task = tasks.get(inner) or Task(inner, coro)  # the task may have ended by now
        task.taskgroup = self
        self.members.append(task)
        return task

    async def spawn_thread(self, *args):
        from .threads import run_in_thread

        self.check_not_joined()
        return await self.spawn(run_in_thread, *args)

    async def add_task(self, task):
        self.check_not_joined()
        if task.taskgroup is not None:
            raise RuntimeError("Task is already part of a group")
        raise NotOffered("a group of tasks that exist already: a child belongs to its spawner")

    def check_not_joined(self):
        if self.joined:
            raise RuntimeError("Task group already joined")

    async def next_done(self):
        if not self.members:
            return None
        task = await self.ends.get()
        await task.wait()
        self.members.remove(task)
        return task

    async def next_result(self):
        task = await self.next_done()
        if task is None:
            raise RuntimeError("No task available")
        return task.result

    def __aiter__(self):
        return self

    async def __anext__(self):
        task = await self.next_done()
        if task is None:
            raise StopAsyncIteration
        return task

    async def cancel_remaining(self):
        await self.begin()
        for task in self.members + self.daemons:
            await task.cancel(blocking=False)
        for task in self.members + self.daemons:
            await task.wait()

    async def join(self):
        await self.begin()
        await self.close(None)

    async def close(self, error):
        """Wait for the tasks; return the error that the block raises."""
        if self.policy is None or (self.policy is any and self.completed is not None):
            self.group.cancel()
        rest = await self.group.end(error)
        self.joined = True
        for task in self.daemons:
            await task.cancel()
        if isinstance(error, Exception):
            return error
        if error is None and isinstance(rest, BaseExceptionGroup):
            return None  # curio raises the failure of a task when its result is read
        return rest

    async def __aenter__(self):
        await self.begin()
        return self

    async def __aexit__(self, kind, error, trace):
        rest = await self.close(error)
        if rest is not None and rest is not error:
            raise rest
        return rest is None

    def joined_members(self):
        if not self.joined:
            raise RuntimeError("Task group not yet terminated")
        return list(self.members)

    @property
    def result(self):
        self.joined_members()
        if self.completed is None:
            raise RuntimeError("No task successfully completed")
        return self.completed.result

    @property
    def exception(self):
        self.joined_members()
        return self.completed.exception if self.completed else None

    @property
    def results(self):
        return [task.result for task in self.joined_members()]

    @property
    def exceptions(self):
        return [task.exception for task in self.joined_members()]

    @property
    def tasks(self):
        return self.members
