"""A syscall of one's own: `yield Changed(directory)` waits until files come, go or are written.

Shows: state that outlives a call lives in a Service, here who waits for which directory; one timer serves all who
wait; what wakes a task forgets it, and so does the undo. Polling works everywhere, and for each file system.

Theory of operation. A directory is looked at when somebody begins to wait, and then at fixed times, as long as
somebody waits. What it held at the last look stays with the Directory: so nothing is missed between two waits, and
what changed in the meantime is told at once. A file is another one if its time of writing, its size or its number is
another: the time alone is too coarse on some file systems. A file that changes twice between two looks has changed
once.

Run it:    python demos/extend/directory_watcher.py
"""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from checked import show

from minisched import CurrentTask, Now, Service, Sleep, Spawn, Syscall, Timers
from minisched.testing import run


class Changes(NamedTuple):
    """Names of files that have come, that were written, and that have gone; each sorted."""

    created: tuple[str, ...]
    written: tuple[str, ...]
    removed: tuple[str, ...]


class Directory:
    """A directory, what it held at the last look, and how many seconds lie between two."""

    def __init__(self, path, every=0.5):
        if not every > 0:
            raise ValueError(f"between two looks at {path} there has to be some time, not {every} s")
        self.path = Path(path)
        self.every = every
        self.held = self.snapshot()

    def snapshot(self):
        """Return what tells a file from what it was, by name. Raises OSError if the directory is not there."""
        found = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # gone since it was listed
                found[entry.name] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found

    def changes(self):
        """Look; return the Changes since the last look, None if there are none."""
        before, self.held = self.held, self.snapshot()
        created, removed = self.held.keys() - before.keys(), before.keys() - self.held.keys()
        written = {name for name in self.held.keys() & before.keys() if self.held[name] != before[name]}
        found = Changes(*(tuple(sorted(names)) for names in (created, written, removed)))
        return found if any(found) else None


# The service: who waits.


class Looks(Service):
    """Who waits for which directory, and when it is next looked at."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.waiting = {}  # by directory: the tasks, in the order of their coming
        self.timers = {}  # by directory: the undo of the next look

    def tasks(self):
        return [task for tasks in self.waiting.values() for task in tasks]

    def add(self, directory, task):
        """Let a task wait for a change."""
        self.waiting.setdefault(directory, {})[task] = None
        if directory not in self.timers:
            self.plan(directory, self.kernel.service(Timers).now())

    def plan(self, directory, last):
        """Look again when it is time: from one look to the next, however late they come."""
        deadline = last + directory.every
        self.timers[directory] = self.kernel.service(Timers).call_at(deadline, lambda: self.look(directory, deadline))

    def look(self, directory, when=None):
        """Look at a directory, and wake all who wait for it if it has changed. A plain call."""
        try:
            found = directory.changes()
        except OSError as error:  # it is gone, or may not be read
            for task in self.taken(directory):
                self.kernel.throw(task, error)
            return
        if found is not None:
            for task in self.taken(directory):
                self.kernel.resume(task, found)
        elif when is not None:
            self.plan(directory, when)

    def taken(self, directory):
        """Return who waited: nobody does any more."""
        self.timers.pop(directory)()
        return list(self.waiting.pop(directory))

    def forget(self, directory, task):
        """Take back the wait of one."""
        waiting = self.waiting[directory]
        del waiting[task]
        if not waiting:
            self.taken(directory)


# The syscall.


class Changed(Syscall[Changes]):
    """Wait until a directory is not as it was at the last look; return the Changes.

    Raises OSError where it can't be looked at, since it is gone. Cancelled while
    parked: what changes later is told to the next one who waits.
    """

    __slots__ = ("directory",)
    world = True  # the answer comes from outside of the program
    service = Looks

    def __init__(self, directory):
        self.directory = directory

    def handle(self, kernel, task):
        looks = kernel.service(self.service)
        if self.directory not in looks.waiting:
            found = self.directory.changes()
            if found is not None:
                return found
        looks.add(self.directory, task)
        kernel.park(task, undo=lambda: looks.forget(self.directory, task))

    def __repr__(self):
        return f"{type(self).__name__}({self.directory.path.name})"


class Keeping(Looks):
    """Wrong: whoever is woken stays among those who wait."""

    def taken(self, directory):
        self.timers.pop(directory)()
        return list(self.waiting[directory])


class LeftBehind(Changed):
    """Wrong, since its service is."""

    __slots__ = ()
    service = Keeping


# The demonstration.


def write(path):
    """Do what somebody else does to the directory."""
    yield Sleep(1.2)
    (path / "notes.txt").write_text("one line\n")
    (path / "draft.txt").write_text("nothing yet\n")
    yield Sleep(2)
    (path / "notes.txt").write_text("another line\n")
    (path / "draft.txt").unlink()


def main():
    """Say what becomes of a directory, which is looked at twice in a second."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Directory(folder)
        yield Spawn(write(Path(folder)))
        for _ in range(2):
            changes = yield Changed(directory)
            print(f"  {(yield Now()):.1f} s: {changes}")


def written(kind):
    """Return what makes a call, what brings about what it waits for, and what cleans up."""

    def make():
        kernel = (yield CurrentTask()).kernel
        folder = tempfile.TemporaryDirectory()
        (Path(folder.name) / "inbox").mkdir()
        directory = Directory(Path(folder.name) / "inbox")

        def complete():
            (directory.path / "new.txt").write_text("new\n")
            if directory in kernel.service(kind.service).waiting:
                kernel.service(kind.service).look(directory)

        return kind(directory), complete, folder.cleanup

    return make


CHECKED = {"Changed": written(Changed), "LeftBehind": written(LeftBehind)}

if __name__ == "__main__":
    print("A directory in which somebody writes:")
    run(main())
    show(**CHECKED)
