"""The files of a folder as answers to HTTP requests: paths, conditions, ranges and lists of names.

Shows: a path from a stranger is opened name by name, each relative to the open directory before it (`dir_fd`), and no
symbolic link below the folder is followed. So no path leaves the folder, even if its files are renamed meanwhile.
Everything here may block, and is called in a thread; nothing here knows a connection.

Decision: a symbolic link, a device, a FIFO, and a name that begins with a dot do not exist for a client (404).
Because: a folder of a site often has a `.git` or an `.env`, and the same rule covers `..`. Rejected: following links
that stay inside the folder. Another process may replace such a link after its check.

Decision: a request for several ranges is answered with the whole file, as RFC 9110 allows (14.2).
Because: such a request is rare, and its answer would be a body in parts. Rejected: the first range alone. A client
takes that for the answer to all of them.

Not here: If-Match and If-Unmodified-Since, which are for writes; compression; a cache.

Run it:  python demos/http_server.py    (this file does nothing by itself)
"""

import errno
import html
import io
import mimetypes
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from stat import S_ISDIR, S_ISREG
from time import time
from urllib.parse import quote, unquote_to_bytes

CHUNK_BYTES = 65536  # of a file that are read at once: all that an answer holds in memory
MAX_NAMES = 10_000  # in a list of a directory
INDEX = b"index.html"
# O_NONBLOCK: no wait for the writer of a FIFO that has taken the place of a file after its check.
FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
STATUS = {  # for an error of the operating system; any other one is a 500
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG), HTTPStatus.NOT_FOUND),
    **dict.fromkeys((errno.EACCES, errno.EPERM), HTTPStatus.FORBIDDEN),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), HTTPStatus.SERVICE_UNAVAILABLE),
}


@dataclass
class Answer:
    """A status, headers, and a body of `size` bytes: `body` has the first ones, `file` the others from `position`."""

    status: HTTPStatus
    headers: list = field(default_factory=list)
    size: int = 0
    body: bytes = b""
    file: object = None
    position: int = 0

    def close(self):
        """Close the file, if there is one."""
        if self.file is not None:
            self.file.close()


def text_answer(status, text=None, *headers, kind="text/plain; charset=utf-8", head=False):
    """Return an answer with a short text, by default the status; of an answer to HEAD, the headers alone."""
    body = (f"{status.value} {status.phrase}\n" if text is None else text).encode(errors="replace")
    headers = [*headers, ("Content-Type", kind), ("Content-Length", str(len(body)))]
    return Answer(status, headers, 0 if head else len(body), b"" if head else body)


def find(folder, target, headers, head=False):
    """Return the answer to GET or HEAD. `target` is that of the request, `headers` a dict; all are bytes."""
    try:
        names, is_directory = names_of(target)
        with opened(folder, names) as (fd, info):
            if S_ISREG(info.st_mode):
                if is_directory:
                    raise NotADirectoryError(errno.ENOTDIR, "a slash after the name of a file")
                return file_answer(fd, info, names[-1], headers, head)
            if not is_directory:  # the links in its page are relative to it; names have no empty one: no //host here
                where = "/" + "/".join(quote(name) for name in names) + "/"
                return text_answer(HTTPStatus.MOVED_PERMANENTLY, None, ("Location", where), head=head)
            try:
                with opened(folder, [*names, INDEX]) as (index, info):
                    return file_answer(index, info, INDEX, headers, head)
            except (FileNotFoundError, IsADirectoryError):
                return text_answer(HTTPStatus.OK, list_of(fd), kind="text/html; charset=utf-8", head=head)
    except OSError as error:
        return text_answer(HTTPStatus(STATUS.get(error.errno, 500)), head=head)


def names_of(target):
    """Return the names in the path of a request, and whether it ends with a slash. FileNotFoundError: no such path."""
    found = re.fullmatch(rb"(?i)(?:https?://[^/?]*)?(/[^?]*)?(?:\?.*)?", target)  # also with the name of the server
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "not a path")
    *names, last = map(unquote_to_bytes, (found[1] or b"/").split(b"/"))
    names = [name for name in (*names, last) if name]
    for name in names:
        if name.startswith(b".") or b"/" in name or b"\0" in name:
            raise FileNotFoundError(errno.ENOENT, "no file below the folder has such a name")
    return names, not last


@contextmanager
def opened(folder, names):
    """Open a file or a directory below a folder; the value is its descriptor and its status."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            check_kind(os.stat(name, dir_fd=fd, follow_symlinks=False))  # to open a device may have an effect
            outer, fd = fd, os.open(name, FLAGS, dir_fd=fd)
            os.close(outer)
        yield fd, check_kind(os.fstat(fd))
    finally:
        os.close(fd)


def check_kind(info):
    """Return the status of a file or a directory; FileNotFoundError for anything else."""
    if not (S_ISREG(info.st_mode) or S_ISDIR(info.st_mode)):
        raise FileNotFoundError(errno.ENOENT, "neither a file nor a directory")
    return info


def file_answer(fd, info, name, headers, head):
    """Return the answer with a file or a range of it, or the status that a condition of the request leads to."""
    if S_ISDIR(info.st_mode):
        raise IsADirectoryError(errno.EISDIR, "an index that is a directory")
    size, modified = info.st_size, max(0, min(int(info.st_mtime), int(time())))  # no date is in the future
    tag, date = f'"{info.st_mtime_ns:x}-{size:x}"', formatdate(modified, usegmt=True)
    shared = [("ETag", tag), ("Last-Modified", date), ("Accept-Ranges", "bytes")]
    if is_unchanged(headers, tag.encode(), modified):
        return Answer(HTTPStatus.NOT_MODIFIED, shared)
    status, start, stop = HTTPStatus.OK, 0, size
    same = headers.get(b"if-range", tag.encode()) in (tag.encode(), date.encode())
    if not head and same and (found := byte_range(headers.get(b"range", b""), size)) is not None:
        start, stop = found
        if start >= stop:
            where = ("Content-Range", f"bytes */{size}")
            return text_answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, None, where)
        status = HTTPStatus.PARTIAL_CONTENT
        shared.append(("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
    shared += [("Content-Type", kind_of(name)), ("Content-Length", str(stop - start))]
    if head:
        return Answer(status, shared)
    answer = Answer(status, shared, stop - start, os.pread(fd, min(stop - start, CHUNK_BYTES), start), None, start)
    if len(answer.body) < answer.size:
        answer.file = io.FileIO(os.dup(fd))
    return answer


def is_unchanged(headers, tag, modified):
    """Return whether the client has this version of a file already (RFC 9110, 13.1.2 and 13.1.3)."""
    if (tags := headers.get(b"if-none-match")) is not None:
        return tags.strip() == b"*" or tag in (each.strip().removeprefix(b"W/") for each in tags.split(b","))
    try:
        return modified <= parsedate_to_datetime(headers[b"if-modified-since"].decode("latin-1")).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):  # no date, or none that can be read
        return False


def byte_range(value, size):
    """Return start and stop of a single range, or None; start is not below stop if no byte is in the range."""
    found = re.fullmatch(rb"(?i)bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", value)
    if found is None or not any(found.groups()):
        return None
    first, last = (int(digits) if digits else None for digits in found.groups())
    if first is None:
        return max(size - last, 0), size
    if last is None:
        return first, size
    return (first, min(last + 1, size)) if first <= last else None


def kind_of(name):
    """Return the content type of a file, by its name."""
    kind, encoding = mimetypes.guess_type("/" + os.fsdecode(name))  # with the slash, no name counts as an address
    if kind is None or encoding is not None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def list_of(fd):
    """Return a page with the names in a directory, as far as they can be requested."""
    names = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if len(names) == MAX_NAMES:
                break
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                names.append(f"{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                names.append(entry.name)
    rows = [f'<li><a href="{quote(os.fsencode(name), safe="/")}">{html.escape(name)}</a>\n' for name in sorted(names)]
    return f"<!DOCTYPE html>\n<title>Files</title>\n<ul>\n{''.join(rows)}</ul>\n"
