"""Copy a folder, some files at a time, with a progress bar. Ctrl-C leaves no half file.

Shows: regular files, which are read and written without holding up the progress bar; a fixed number of workers that
share one iterator, so that memory and open files stay bounded; and cleanup at a cancellation: each file is written
under another name and renamed when it is whole. Symbolic links are copied as links, and never followed. FIFOs, sockets
and devices are not copied, but named at the end.

Run it:  python demos/copy_files.py SOURCE TARGET [--at-once N]
         For the progress bar: pip install -e '.[demo]'
Try it:  python demos/copy_files.py demos /tmp/copy-of-demos
"""

import argparse
import contextlib
import os
import shutil
import stat
import sys
from pathlib import Path
from time import perf_counter

import console

from minisched import InThread, Open, Read, Spawn, Write, gather, run

PIECE_BYTES = 1 << 20  # read and written at once


class CopyError(Exception):
    """A file or folder that can't be copied: its path and the reason."""


class Plan:
    """The contents of a folder: the relative paths of its folders, files and links, and the bytes of all files."""

    def __init__(self, source):
        self.folders = []
        self.files = []
        self.links = []
        self.others = []
        self.bytes = 0
        for folder, folders, files in os.walk(source, onerror=raise_error):
            self.folders.append(Path(folder).relative_to(source))
            for name in (*folders, *files):
                self._add(Path(folder, name), source)

    def _add(self, path, source):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            return  # a folder of its own in the walk
        kinds = {stat.S_IFREG: self.files, stat.S_IFLNK: self.links}
        kinds.get(stat.S_IFMT(status.st_mode), self.others).append(path.relative_to(source))
        self.bytes += status.st_size * stat.S_ISREG(status.st_mode)


class Copy:
    """One copy of a folder: `run` returns the plan when all of it is done."""

    def __init__(self, source, target, at_once, show=None):
        self.source = source
        self.target = target
        self.at_once = at_once
        self.show = show  # called with this copy once the plan is known; returns the body of a task
        self.plan = None
        self.bytes_done = 0
        self.parts = 0  # names of unfinished files that were given out

    def run(self):
        """Copy everything; the first error ends all of it."""
        with named_errors(self.source):
            self.plan = yield InThread(Plan, self.source)
            yield InThread(self.make_folders)
        if self.show is not None:
            yield Spawn(self.show(self), daemon=True)
        paths = iter([*self.plan.files, *self.plan.links])
        links = set(self.plan.links)
        yield from gather(*(self.work(paths, links) for _ in range(self.at_once)))
        yield InThread(self.finish_folders)
        return self.plan

    def work(self, paths, links):
        """Copy one path after the other: each worker takes the next one."""
        for path in paths:
            with named_errors(self.source / path):
                yield from self.copy_link(path) if path in links else self.copy_file(path)

    def copy_file(self, path):
        """Copy a file under another name, then rename it. A cancellation and an error remove the unfinished file."""
        part = self.part_of(path)
        try:
            with (yield Open(self.source / path)) as reader, (yield Open(part, "x")) as writer:
                while data := (yield Read(reader, PIECE_BYTES)):
                    yield Write(writer, data)
                    self.bytes_done += len(data)
            yield InThread(shutil.copystat, self.source / path, part)
            yield InThread(os.replace, part, self.target / path)
        except BaseException:
            part.unlink(missing_ok=True)  # a plain call: a task that is cancelled, or closed, can't wait for a thread
            raise

    def copy_link(self, path):
        """Make the same link."""
        part = self.part_of(path)
        try:
            yield InThread(os.symlink, os.readlink(self.source / path), part)
            yield InThread(os.replace, part, self.target / path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def part_of(self, path):
        """Return a name for an unfinished file, beside its target."""
        self.parts += 1
        return (self.target / path).with_name(f".copy-{os.getpid()}-{self.parts}.part")

    def make_folders(self):
        """Make all folders; called in a thread."""
        for folder in self.plan.folders:
            made = self.target / folder
            if folder != Path() and made.is_symlink():
                raise CopyError(f"{made}: is a symbolic link, which leads out of the target")
            with named_errors(made):
                made.mkdir(parents=True, exist_ok=True)

    def finish_folders(self):
        """Give the folders the modes and times of the originals, the inner ones first; called in a thread."""
        for folder in reversed(self.plan.folders):
            shutil.copystat(self.source / folder, self.target / folder)


@contextlib.contextmanager
def named_errors(path):
    """Let an OSError become a CopyError with the path."""
    try:
        yield
    except OSError as error:
        raise CopyError(f"{path}: {error.strerror or error}") from error


def raise_error(error):
    """Raise the error of a folder that can't be read; `os.walk` would leave the folder out."""
    raise error


def progress_bar(copy):
    """Show how many bytes are copied."""
    return console.progress_bar("bytes", copy.plan.bytes, lambda: copy.bytes_done)


def checked(source, target):
    """Raise CopyError if the source is not a folder, or the target is in it."""
    if not source.is_dir():
        raise CopyError(f"{source}: not a folder")
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or outer in inner.parents:
        raise CopyError(f"{target}: is in the folder to be copied")


def main(source, target, at_once=8):
    """Copy a folder and print what was copied; exit with status 1 if something was left out, or failed."""
    source, target = Path(source), Path(target)
    start = perf_counter()
    try:
        checked(source, target)
        show = progress_bar if console.is_terminal(sys.stderr) else None
        plan = run(Copy(source, target, at_once, show).run())
    except CopyError as error:
        sys.exit(f"copy_files: {error}")
    files, links = console.counted(len(plan.files), "file"), console.counted(len(plan.links), "link")
    seconds = console.duration(perf_counter() - start)
    print(f"copied {files} and {links}, {console.size(plan.bytes)}, in {seconds}")
    for path in plan.others:
        print(f"copy_files: {source / path}: not copied, since it is neither a file nor a link", file=sys.stderr)
    sys.exit(1 if plan.others else 0)


def command_line():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(description="Copy a folder, some files at a time.")
    parser.add_argument("source", help="the folder to copy")
    parser.add_argument("target", help="the new folder; files that are there already are replaced")
    text = "number of files that are copied at a time; default: %(default)s"
    parser.add_argument("--at-once", type=console.whole(1, 1000), default=8, metavar="N", help=text)
    return parser


if __name__ == "__main__":
    options = command_line().parse_args()
    with console.quiet_end():
        main(options.source, options.target, options.at_once)
