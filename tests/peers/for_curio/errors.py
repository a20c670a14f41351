"""The errors of curio, and NotOffered, which marks what minisched has no counterpart of."""

from __future__ import annotations

import minisched


class NotOffered(Exception):
    """Raised by a name of curio that has no counterpart in minisched."""


class CurioError(Exception): ...


class TaskError(CurioError): ...


class UncaughtTimeoutError(CurioError): ...


class SyncIOError(CurioError): ...


class AsyncOnlyError(CurioError): ...


class ResourceBusy(CurioError): ...


class ReadResourceBusy(ResourceBusy): ...


class WriteResourceBusy(ResourceBusy): ...


CancelledError = TaskCancelled = TimeoutCancellationError = minisched.Cancelled
TaskTimeout = minisched.TimedOut


def missing(name):
    """Return a class that stands for a name without a counterpart."""

    def refuse(self, *_, **__):
        raise NotOffered(name)

    return type(name, (), {"__init__": refuse})
