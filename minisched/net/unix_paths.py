"""The paths of Unix sockets: made, taken over from a dead server, given a mode and an owner, and removed.

Theory of operation. Binding a socket makes a file at its path, and closing the socket leaves the file there. A
listener therefore removes its path just before it closes. A process that was killed leaves a *stale* path, which is a
socket file that no open socket is bound to. A listener takes it over.

Invariants:
1. A path is removed by the process that made it, or if it is stale. It is never removed if it is a file of another
   kind, or if a socket is bound to it.
2. No client can connect before the path has its mode and its owner, since the socket listens only then. On Linux, no
   client can send to a datagram socket before that, since its path has no permissions until then.
3. The umask, which belongs to all threads, is never changed.

Decision: listeners that take over a path lock its directory (`flock`), from the test whether it is stale to the bind.
Because: of two servers that start at once, the slower one would remove the path that the faster one has just bound.
Rejected: a file beside the path as the lock, which would be left there; binding at another name and renaming it to the
path, since both sides of each connection would report the other name.

Decision: the test connects a datagram socket. Because: the system then compares the types of the two sockets, and
refuses with EPROTOTYPE if a stream socket is bound there, and with ECONNREFUSED if none is. Rejected: connecting a
stream socket. The server would see a connection, and one that has not called `listen` yet would count as dead.

Decision: a path that cannot be removed is logged, and closing the listener goes on. Because: a program that has given
up its privileges has to close its listeners all the same, and the next start takes the path over. Rejected: raising
the error, which a server that stops could only log, too.

Not here: the forms of a path (`addresses`); the sockets (`sockets`, `network`).
"""

from __future__ import annotations

import errno
import os
import select
import socket
from stat import S_ISSOCK

from .addresses import is_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .sockets import Socket

ID_BITS = 32  # the length of the id of a user or a group; with all bits set, it means "no change"
LOCK_TRIES = 100  # to lock a directory in which another listener is taking over a path
LOCK_PAUSE_SECONDS = 0.001  # between two of these tries; a takeover takes some 50 microseconds


class BoundPath:
    """A path that a listener has made in this process: it gets its mode and owner, and is removed at the end."""

    __slots__ = ("file", "path", "process")

    def __init__(self, path: str) -> None:
        # The current directory may be another one at the end. `..` stays, since it may follow a link.
        self.path = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
        self.process = os.getpid()  # a forked process closes its copy, and the listener goes on
        self.file = identity(path)

    def set_access(self, mode: int | None, owner: tuple[int, int]) -> None:
        """Set the mode and the owner, unless they are None and -1; follow no link that has replaced the file."""
        if owner != (-1, -1):
            os.chown(self.path, *owner, follow_symlinks=False)
        if mode is not None:
            try:
                os.chmod(self.path, mode, follow_symlinks=False)
            except NotImplementedError:  # by the C library; or the path is a link now
                if identity(self.path) != self.file:
                    raise FileNotFoundError(errno.ENOENT, "another file has replaced the socket", self.path) from None
                os.chmod(self.path, mode)

    def remove(self) -> None:
        """Remove the path, if it is still the file that the listener made. Call this before the socket is closed.

        As long as the socket is open, no other listener takes the path over, and no new file has the same inode.
        """
        try:
            if self.process == os.getpid() and identity(self.path) == self.file:
                os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            import logging  # imported here: `import minisched` is to stay quick

            logging.getLogger("minisched").warning("can't remove the socket %r: %s", self.path, error.strerror)


def bind_path(sock: Socket, path: str, mode: int | None, ids: tuple[int, int], *, early: bool = False) -> None:
    """Bind a socket to a path or an abstract name; give the path its mode and owner, and let `sock.close` remove it.

    With `early`, clients can use the socket as soon as it is bound, so the path has no permissions until then.
    """
    if path.startswith("\0"):
        if (mode, ids) != (None, (-1, -1)):
            raise ValueError(f"an abstract name such as {path!r} has neither mode nor owner: anyone can connect")
        return bind(sock, path)
    if early and mode is not None:
        try:
            os.chmod(sock.fileno(), 0)  # of the socket: its path is made with no other permissions (Linux)
        except OSError:
            pass  # another system does not have this
    bind(sock, path)
    sock.bound = BoundPath(path)
    return sock.bound.set_access(mode, ids)


def bind(sock: socket.socket, path: str) -> None:
    """Bind a socket to a path; take the path over if it is stale. The OSError gives the reason."""
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or path.startswith("\0"):
            raise
        taken = error
    else:
        return
    try:
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    except PermissionError:  # the directory can't be locked
        raise taken from None
    try:
        if not (lock(directory) and remove_stale(path)):
            raise taken
        sock.bind(path)
    finally:
        unlock(directory)


def remove_stale(path: str) -> bool:
    """Remove a stale path; return whether the path is free now. The directory is locked."""
    try:
        if not S_ISSOCK(os.lstat(path).st_mode) or not is_stale(path):
            return False
        os.unlink(path)
    except FileNotFoundError:  # its owner, or another program, has removed it
        pass
    return True


def is_stale(path: str) -> bool:
    """Return whether no socket is bound to a socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        error = probe.connect_ex(path)
    return error == errno.ECONNREFUSED


def lock(directory: int) -> bool:
    """Lock an open directory; return whether that was possible."""
    import fcntl  # imported here: Windows has none

    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _ = select.select((), (), (), LOCK_PAUSE_SECONDS)
        except OSError:  # a network file system may not have locks
            break
        else:
            return True
    return False


def unlock(directory: int) -> None:
    """Unlock a directory and close it. The lock ends even if a process was forked meanwhile, which has a copy."""
    import fcntl

    try:
        fcntl.flock(directory, fcntl.LOCK_UN)
    finally:
        os.close(directory)


def identity(path: str) -> tuple[int, int]:
    """Return the device and the inode of a path itself, not of what it links to."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def check_mode(mode: object) -> None:
    """Raise TypeError or ValueError for a mode that is not None and not one of permissions."""
    if mode is None:
        return
    if not is_int(mode):
        raise TypeError(f"mode is a number, as in 0o660, not {mode!r}")
    if not 0 <= mode <= 0o777:  # type: ignore[operator]
        raise ValueError(f"mode is a number from 0 to 0o777, not {mode!r}: 660 is written 0o660")


def ids_of(owner: object) -> tuple[int, int]:
    """Return (uid, gid) of an owner as `chown` writes it, -1 for what stays; raise an error that names a wrong one."""
    if owner is None:
        return -1, -1
    if is_int(owner):
        owner = str(owner)
    if not isinstance(owner, str) or owner in ("", ":"):
        raise TypeError(f"owner is a user id, or a str as in 'user', 'user:group' or ':group', not {owner!r}")
    import grp  # imported here: Windows has neither
    import pwd

    user, _, group = owner.partition(":")
    try:
        uid = -1 if not user else int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        gid = -1 if not group else int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise ValueError(f"owner {owner!r}: this system has no such user or group") from None
    if max(uid, gid) >= (1 << ID_BITS) - 1:
        raise ValueError(f"owner {owner!r}: an id is a number from 0 to {(1 << ID_BITS) - 2}")
    return uid, gid
