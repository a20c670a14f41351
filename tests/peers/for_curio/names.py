"""`install`: make `import curio` mean the adapter; and curio's kernel."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import minisched

from . import errors, groups, processes, sync, tasks, threads, time
from .errors import NotOffered, missing
from .tasks import Running, instantiate

NAMES = {  # of curio's modules that the adapter replaces
    "errors": (
        "CurioError CancelledError TaskTimeout TaskError SyncIOError ResourceBusy ReadResourceBusy WriteResourceBusy "
        "TimeoutCancellationError UncaughtTimeoutError TaskCancelled AsyncOnlyError"
    ),
    "task": "Task ContextTask TaskGroup current_task spawn disable_cancellation check_cancellation set_cancellation",
    "time": "clock sleep timeout_after ignore_after",
    "sync": "Event UniversalEvent Lock RLock Semaphore Condition Result UniversalResult",
    "queue": "Queue PriorityQueue LifoQueue UniversalQueue",
    "traps": "_read_wait _write_wait _io_release _io_waiting _future_wait _get_kernel _scheduler_wait _scheduler_wake",
    "workers": "run_in_process run_in_thread run_in_executor block_in_thread",
    "kernel": "Kernel run",
}
OWN = ("meta", "thread", "socket", "io", "ssl", "network", "file", "channel")  # curio's own, imported from the checkout
UNIVERSAL = {"sync": ("UniversalEvent", "UniversalResult"), "queue": ("UniversalQueue",)}  # over `_future_wait`


class Kernel:
    over = False

    def __init__(self, *, debug=None, taskcls=None, **options):
        if debug or options:
            raise NotOffered("options of curio's kernel")

    def run(self, corofunc=None, *args, shutdown=False):
        if self.over:
            raise RuntimeError("Can't run a kernel that's been shut down")
        self.over = shutdown
        if corofunc is not None:
            return self.run_main(instantiate(corofunc, args))
        if not shutdown:
            raise NotOffered("a kernel that goes on in a later run")
        return None

    def run_main(self, main):
        from curio.meta import _locals  # by which curio's `asyncioable` knows its caller

        async def begin():
            Running.kernel = (await minisched.CurrentTask()).kernel
            return await main

        inside = getattr(_locals, "running", False)
        _locals.running = True
        try:
            return minisched.run(begin())
        except minisched.SyscallError as error:
            raise RuntimeError(str(error)) from error
        finally:
            _locals.running = inside

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over = True


def run(corofunc, *args, **options):
    if options:
        raise NotOffered("options of curio's run")
    return Kernel().run(corofunc, *args)


def install(checkout):
    """Make `import curio` mean the adapter, with the rest from a checkout of curio."""
    package = ModuleType("curio")
    package.__path__ = [f"{checkout}/curio"]
    sys.modules["curio"] = package
    ours = {"Kernel": Kernel, "run": run}
    for module in (errors, tasks, groups, time, sync, threads, processes):
        ours.update(vars(module))
    exported = {}
    for part, names in NAMES.items():
        module = sys.modules[f"curio.{part}"] = ModuleType(f"curio.{part}")
        setattr(package, part, module)
        module.__all__ = names.split()
        for name in module.__all__:
            setattr(module, name, ours.get(name) or missing(name))
    for part, names in UNIVERSAL.items():
        own = load(f"curio.own_{part}", f"{checkout}/curio/{part}.py")
        for name in names:
            setattr(sys.modules[f"curio.{part}"], name, getattr(own, name))
    for part in (*NAMES, *OWN):
        module = import_module(f"curio.{part}")
        if part not in ("traps", "meta", "socket", "io", "ssl"):
            exported.update({name: getattr(module, name) for name in module.__all__})
    vars(package).update(exported)
    package.__all__ = list(exported)


def load(name, path):
    """Import a file of curio under a name of its own, beside the module that replaces it."""
    spec = spec_from_file_location(name, path)
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
