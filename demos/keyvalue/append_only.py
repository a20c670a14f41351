"""The append-only file: a record for each change, written before the change is acknowledged.

Shows: group commit. While a thread writes one group of records, and syncs it, the next group collects; so one fsync
serves all clients that wait, and the others go on. A group is written at a fixed offset. If that fails, it stays
pending and is written again there, and then synced: after a failed fsync, the system may have dropped its pages.

A record is a line, and the command as a client sends it. The line has the length of the command, its checksum, and the
checksum of both. So a record that a crash has cut short, which only the last one can be, differs from a damaged one.

Run it:  python demos/redis_server.py --append-only FILE    (this file does nothing by itself)
"""

import logging
import os
import re
import shlex
import stat
from zlib import crc32

from minisched import Event, InThread, MoveOnAfter, Shield, Sleep

from .protocol import Parser, ProtocolError, bulks

MAGIC = b"minisched append-only file, version 1\n"
HEADER = re.compile(rb"(([0-9a-f]{8}) ([0-9a-f]{8})) ([0-9a-f]{8})\n")
HEADER_BYTES = 27
RETRY_SECONDS = 1.0  # after a write that failed
SYNC_SECONDS = 1.0  # between two syncs, with `second`
CHUNK_BYTES = 1 << 20  # read at once
sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class AppendOnlyError(Exception):
    """A file that is not an append-only file, or is damaged, or in use."""


class AppendOnlyFile:
    """An open append-only file. `fsync`: "always", before an acknowledgement; "second", each second; "no".

    A position is an offset in the file, where a record ends or will end.
    """

    def __init__(self, path, fsync="second", on_safe=lambda position: None):
        self.path = path
        self.fsync = fsync
        self.on_safe = on_safe  # called with the position up to which all records are safe
        self.fd = opened(path)
        self.safe = self.position = len(MAGIC)
        self.pending = []  # the records between these two positions
        self.write_error = self.sync_error = None
        self.unsynced = self.stopped = self.running = False
        self.wanted, self.stopping, self.group_done = Event(), Event(), Event()

    @property
    def error(self):
        """The error because of which no change is accepted, or None."""
        return self.write_error or self.sync_error

    def load(self, apply):
        """Call `apply(words)` for each record; drop a torn last one. Return the number of records."""
        size = os.fstat(self.fd).st_size
        count, at = 0, len(MAGIC)
        with open(self.fd, "rb", closefd=False) as file:
            file.seek(at)
            while (words := self.next_record(file, at)) is not None:
                try:
                    apply(words)
                except Exception as error:
                    raise self.damaged(at, f"its command cannot be done: {error}") from error
                count += 1
                at = file.tell()
        if at < size:
            text = "%s: the last record, at offset %d, is torn: its %d bytes are dropped"
            logging.getLogger("redis_server").warning(text, self.path, at, size - at)
            os.ftruncate(self.fd, at)
            os.fsync(self.fd)
        self.safe = self.position = at
        return count

    def next_record(self, file, at):
        """Return the words of the record at this offset; None at the end of the file, and for a torn record."""
        header = file.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            return None
        found = HEADER.fullmatch(header)
        if found is None or crc32(found[1]) != int(found[4], 16):
            if not header.strip(b"\0") and only_zeros(file):
                return None  # after a power failure, the file may have its new length and not its new bytes
            raise self.damaged(at, "its first line is wrong")
        length = int(found[2], 16)
        command = file.read(length)
        if len(command) < length:
            return None
        if crc32(command) != int(found[3], 16):
            raise self.damaged(at, "its checksum is wrong")
        return only_command(command)

    def damaged(self, at, why):
        """Return the error for a damaged record."""
        fix = f"`truncate -s {at} {shlex.quote(str(self.path))}` keeps what is before it"
        return AppendOnlyError(f"{self.path}: the record at offset {at} is damaged: {why}. {fix}")

    def append(self, words):
        """Add a record for a command; return its position. A plain call.

        After `stop`, the only changes are expiries, which the deadlines in the file say already.
        """
        if self.stopped:
            return self.position
        record = encoded(words)
        self.pending.append(record)
        self.position += len(record)
        self.wanted.set()
        return self.position

    def until_safe(self, position):
        """Wait until all records up to a position are safe; return whether they are: False after an error."""
        while self.safe < position and self.write_error is None:
            yield self.group_done.wait()
        return self.safe >= position

    def write_groups(self):
        """Write records until `stop`, and close the file; the body of a task. A cancellation has no effect on it."""
        try:
            with (yield Shield(None)):
                while not self.stopped or self.pending:
                    yield self.wanted.wait()
                    self.wanted.clear()
                    if self.pending:
                        yield from self.write_group()
                    if self.write_error is not None:
                        if self.stopped:
                            break
                        with (yield MoveOnAfter(RETRY_SECONDS)):
                            yield self.stopping.wait()
                        self.wanted.set()
                yield from self.last_sync()
        finally:
            self.close()

    def write_group(self):
        """Write the pending records, and wake the tasks that wait for them."""
        count, group = len(self.pending), b"".join(self.pending)
        try:
            yield InThread(write_at, self.fd, group, self.safe, self.fsync == "always")
        except (OSError, RuntimeError) as error:  # a RuntimeError: no thread can be started
            self.report(error if self.write_error is None else None)
            self.write_error = error
        else:
            del self.pending[:count]
            self.safe += len(group)
            self.write_error = None
            self.unsynced = self.fsync != "always"
            self.on_safe(self.safe)
        done, self.group_done = self.group_done, Event()
        done.set()

    def sync_each_second(self):
        """Sync what is written, once a second, until cancelled; the body of a task."""
        while self.fsync == "second":
            yield Sleep(SYNC_SECONDS)
            if not self.stopped and (self.unsynced or self.sync_error is not None):
                yield from self.sync()

    def sync(self):
        """Sync what is written."""
        self.unsynced = False
        try:
            yield InThread(sync_data, self.fd)
        except (OSError, RuntimeError) as error:
            self.report(error if self.sync_error is None else None)
            self.sync_error = error
        else:
            self.sync_error = None

    def last_sync(self):
        """Sync the file when the server stops; log how many changes could not be written."""
        if self.unsynced:
            yield from self.sync()
        if self.pending:
            text = "%s: %d changes that no client has got acknowledged are not in the file"
            logging.getLogger("redis_server").error(text, self.path, len(self.pending))

    def report(self, error):
        """Log an error of the file, once until the next success."""
        if error is not None:
            text = "%s: %s; changes are refused until the file can be written"
            logging.getLogger("redis_server").error(text, self.path, error)

    def stop(self):
        """Let the writer end when it has written all; close the file if it has never run. A plain call."""
        self.stopped = True
        self.stopping.set()
        self.wanted.set()
        if not self.running:
            self.close()

    def close(self):
        """Close the file. A second call has no effect."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def opened(path):
    """Open an append-only file, or make one, and lock it; return its descriptor."""
    try:
        return open_locked(path)
    except OSError as error:
        raise AppendOnlyError(f"{path}: {error.strerror}") from error


def open_locked(path):
    """Open an append-only file as `opened` does; OSError from the system."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise AppendOnlyError(f"{path}: an append-only file is a regular file")
        lock(fd, path)
        begin_file(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def lock(fd, path):
    """Lock a file until it is closed, so that no other server writes to it."""
    try:
        import fcntl  # imported here: Windows has no such module, and the server can do without a file
    except ImportError:
        raise AppendOnlyError(f"{path}: this system has no locks of files (flock): serve without a file") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AppendOnlyError(f"{path}: another server uses this file") from None


def begin_file(fd, path):
    """Write the first line of a new file; refuse a file with another first line."""
    begins = os.pread(fd, len(MAGIC), 0)
    if begins == MAGIC:
        return
    if not MAGIC.startswith(begins):
        raise AppendOnlyError(f"{path}: this is not an append-only file; it is not changed")
    write_at(fd, MAGIC, 0, sync=True)
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(folder)  # otherwise, a power failure may take the name of the new file away
    finally:
        os.close(folder)


def write_at(fd, data, offset, sync):
    """Write all of the data at an offset, and sync it. Called in a thread."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
    if sync:
        sync_data(fd)


def encoded(words):
    """Return a command as a record."""
    command = bulks(words)
    numbers = b"%08x %08x" % (len(command), crc32(command))
    return b"%b %08x\n%b" % (numbers, crc32(numbers), command)


def only_command(data):
    """Return the words of the one command in some bytes. They have a checksum, so they are what `encoded` made."""
    parser = Parser()
    parser.feed(data)
    words = parser.next_command()
    if words is None:
        raise ProtocolError("no command")
    return words


def only_zeros(file):
    """Return whether the rest of a file has no other byte than zero."""
    while chunk := file.read(CHUNK_BYTES):
        if chunk.strip(b"\0"):
            return False
    return True
