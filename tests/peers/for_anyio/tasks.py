"""Facts of a task, as anyio reports them."""

from __future__ import annotations

from anyio import TaskInfo


class MinischedTaskInfo(TaskInfo):
    __slots__ = ("task",)

    def has_pending_cancellation(self):
        return self.task.scope is not None and self.task.scope.effective is not None


def info(task):
    """Return what anyio reports of a task."""
    parent = task.spawner and id(task.spawner)
    facts = MinischedTaskInfo(id(task), parent, task.name, task.gen)
    facts.task = task
    return facts
