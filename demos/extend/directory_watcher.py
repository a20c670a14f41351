"""A syscall of a user: `yield Changed(directory)` waits until files are created, written or removed.

Shows: state that outlives a syscall lives in a Service, here the waiting tasks by directory; one timer serves all
tasks that wait for a directory; both the wake-up and the undo remove a task from the list. Polling works on every
system and every file system.

Theory of operation. The service scans a directory when a task starts to wait, and then at fixed intervals while any
task waits. The Directory keeps the result of the last scan. So no change is missed between two waits: the next wait
returns it at once. A file counts as written if its modification time, its size or its inode number has changed; the
time alone is too coarse on some file systems. Two changes of a file between two scans count as one.

Run it:    python demos/extend/directory_watcher.py
"""

import os
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import NamedTuple

from checked import show

from minisched import CurrentTask, Now, Service, Sleep, Spawn, Syscall, Timers
from minisched.testing import run


class Changes(NamedTuple):
    """The names of files that were created, written and removed; each tuple is sorted."""

    created: tuple[str, ...]
    written: tuple[str, ...]
    removed: tuple[str, ...]


class Directory:
    """A directory, its files at the last scan, and the seconds between two scans."""

    def __init__(self, path, every=0.5):
        if not every > 0:
            raise ValueError(f"the time between two scans of {path} has to be above 0, not {every} s")
        self.path = Path(path)
        self.every = every
        self.files = self.snapshot()

    def snapshot(self):
        """Return the time, size and inode number of each file, by name. Raises OSError if the scan fails."""
        files = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # removed since it was listed
                files[entry.name] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return files

    def changes(self):
        """Scan the directory; return the Changes since the last scan, or None."""
        before, self.files = self.files, self.snapshot()
        created, removed = self.files.keys() - before.keys(), before.keys() - self.files.keys()
        written = {name for name in self.files.keys() & before.keys() if self.files[name] != before[name]}
        changes = Changes(*(tuple(sorted(names)) for names in (created, written, removed)))
        return changes if any(changes) else None


# The service: the waiting tasks.


class Scans(Service):
    """The waiting tasks and the timer of the next scan, by directory."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.waiting = {}  # by directory: the waiting tasks, in FIFO order
        self.timers = {}  # by directory: the function that cancels the next scan

    def tasks(self):
        return [task for tasks in self.waiting.values() for task in tasks]

    def add(self, directory, task):
        """Add a task to the waiters of a directory."""
        self.waiting.setdefault(directory, {})[task] = None
        if directory not in self.timers:
            self.schedule(directory, self.kernel.service(Timers).now())

    def schedule(self, directory, last):
        """Schedule the next scan, relative to the deadline of the last one, so that a delay does not add up."""
        deadline = last + directory.every
        self.timers[directory] = self.kernel.service(Timers).call_at(deadline, lambda: self.scan(directory, deadline))

    def scan(self, directory, deadline=None):
        """Scan a directory, and wake its waiters if it has changed. A plain call; the timer passes its deadline."""
        try:
            changes = directory.changes()
        except OSError as error:  # the directory was removed, or is not readable
            for task in self.pop_waiters(directory):
                self.kernel.throw(task, error)
            return
        if changes is not None:
            for task in self.pop_waiters(directory):
                self.kernel.resume(task, changes)
        elif deadline is not None:
            self.schedule(directory, deadline)

    def pop_waiters(self, directory):
        """Cancel the next scan; remove and return the waiters."""
        self.timers.pop(directory)()
        return list(self.waiting.pop(directory))

    def remove(self, directory, task):
        """Remove one waiter."""
        waiting = self.waiting[directory]
        del waiting[task]
        if not waiting:
            self.pop_waiters(directory)


# The syscall.


class Changed(Syscall[Changes]):
    """Wait until a directory differs from its last scan; return the Changes.

    Raises OSError if the scan fails, for example because the directory was
    removed. After a cancellation, the next wait returns later changes.
    """

    __slots__ = ("directory",)
    external = True  # the wake-up comes from outside the program
    service = Scans

    def __init__(self, directory):
        self.directory = directory

    def handle(self, kernel, task):
        scans = kernel.service(self.service)
        if self.directory not in scans.waiting:
            changes = self.directory.changes()
            if changes is not None:
                return changes
        scans.add(self.directory, task)
        kernel.park(task, undo=lambda: scans.remove(self.directory, task))

    def __repr__(self):
        return f"{type(self).__name__}({self.directory.path.name})"


class KeepingScans(Scans):
    """Wrong: a woken task stays in the list of waiters."""

    def pop_waiters(self, directory):
        self.timers.pop(directory)()
        return list(self.waiting[directory])


class LeftBehind(Changed):
    """Wrong, because its service is wrong."""

    __slots__ = ()
    service = KeepingScans


# The demonstration.


def write(path):
    """Write and remove files, as another program would."""
    yield Sleep(1.2)
    (path / "notes.txt").write_text("one line\n")
    (path / "draft.txt").write_text("nothing yet\n")
    yield Sleep(2)
    (path / "notes.txt").write_text("another line\n")
    (path / "draft.txt").unlink()


def main():
    """Print the changes of a directory, which is scanned twice a second."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Directory(folder)
        yield Spawn(write(Path(folder)))
        for _ in range(2):
            changes = yield Changed(directory)
            changed = "; ".join(f"{kind} {', '.join(names)}" for kind, names in changes._asdict().items() if names)
            print(f"  {(yield Now()):.1f} s: {changed}")


def written(kind):
    """Return a function that creates a syscall, with a function that completes it and one that cleans up."""

    def make():
        kernel = (yield CurrentTask()).kernel
        folder = tempfile.TemporaryDirectory()
        (Path(folder.name) / "inbox").mkdir()
        directory = Directory(Path(folder.name) / "inbox")

        def complete():
            (directory.path / "new.txt").write_text("new\n")
            if directory in kernel.service(kind.service).waiting:
                kernel.service(kind.service).scan(directory)

        return kind(directory), complete, folder.cleanup

    return make


CHECKED = {"Changed": written(Changed), "LeftBehind": written(LeftBehind)}

if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    print("A directory in which another task writes:")
    run(main())
    show(**CHECKED)
