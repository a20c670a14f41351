"""Addresses: their forms, and what `getaddrinfo` knows of a host.

An address is `(host, port)` for TCP, or a path (str, bytes or Path) for a Unix socket. Each form that `getsockname`
returns is an address, too: four parts for IPv6, and bytes that begin with a NUL for an abstract name of Linux.

Decision: a str or bytes that reads like `host:port`, an IP address or a URL is refused; a Path is always a path.
Because: `Listen("127.0.0.1:80")` made a Unix socket of that name in the current directory, and no error said so.
Rejected: taking such a str for a TCP address. The same str would then be a path or not, depending on its letters.

Not here: look-ups of a run, which never block it (`names`); sockets (`sockets`); files at Unix paths (`unix_paths`).
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NamedTuple

    class Parts(NamedTuple):
        """The parts of a HostAddress."""

        family: int
        type: int
        proto: int
        name: str
        address: Any

    Find = Callable[[str, int, int, int, int], "list[HostAddress]"]
    Address = tuple[str, int] | tuple[str, int, int, int] | str | bytes | os.PathLike[str]
else:
    Parts = namedtuple("Parts", "family type proto name address")  # `typing` is slow to import

PORT_BITS = 16  # a port is a number of 16 bits
MAX_PORT_DIGITS = len("65535")  # a longer number after a colon belongs to a path
FLOW_INFO_BITS = 20  # the length of the flow label in an IPv6 header
SCOPE_ID_BITS = 32  # the length of the index of a network interface
NUMERIC_HOST_FLAG = int(socket.AI_NUMERICHOST)  # a plain number: Python adds two of its flags slowly
HAS_ABSTRACT_NAMES = sys.platform in ("linux", "android")
MAX_PATH_BYTES = 107 if HAS_ABSTRACT_NAMES else 103  # the length of `sun_path`, without the last NUL


class HostAddress(Parts):
    """One address of a host, and the kind of socket for it.

    It has the five parts of a result of `socket.getaddrinfo`, in their order.

    Attributes:
        family, type, proto: the first arguments of a Socket for this address.
        name: the official name of the host, if `socket.AI_CANONNAME` has asked for it; otherwise "".
        address: `(host, port)` with a numeric host, and two parts more for IPv6, as Connect and Listen take it.

    Example:
        >>> from minisched import Resolve
        >>> from minisched.testing import run
        >>> def main():
        ...     [found] = yield Resolve("127.0.0.1", 80)
        ...     return found.family.name, found.address
        >>> run(main())
        ('AF_INET', ('127.0.0.1', 80))
    """

    __slots__ = ()


def unix_path(address: object) -> str | None:
    """Return the path of a Unix address, and None for any other address; raise an error that names a wrong path."""
    if not isinstance(address, (str, bytes, os.PathLike)):
        return None
    path = os.fsdecode(address)  # pyright: ignore[reportUnknownArgumentType]
    abstract = path.startswith("\0")
    if not path or not (abstract or isinstance(address, os.PathLike)):
        refuse_tcp_text(path)
    if not abstract and "\0" in path:
        raise ValueError(f"a path has no NUL byte, and {path!r} has one")
    if abstract and not HAS_ABSTRACT_NAMES:
        raise ValueError(f"{path!r} is an abstract name, which only Linux has: use a path")
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError as error:
        raise ValueError(f"the path {path!r} can't be encoded: {error.reason}") from None
    if size > MAX_PATH_BYTES + abstract:  # an abstract name ends without a NUL
        text = f"AF_UNIX path too long ({size} bytes; this system takes {MAX_PATH_BYTES + abstract})"
        raise OSError(errno.ENAMETOOLONG, text, path)
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets", path)
    return path


def refuse_tcp_text(path: str) -> None:
    """Raise ValueError for an empty path, and for one that was probably meant as a TCP address."""
    host, colon, port = path.rpartition(":")
    if is_numeric(path):
        meant = (path, 80)
    elif colon and port.isdecimal() and len(port) <= MAX_PORT_DIGITS and "/" not in path:
        meant = (host.strip("[]"), int(port))
    elif not path or "://" in path:
        meant = ("127.0.0.1", 80)
    else:
        return
    raise ValueError(
        f"an address is (host, port), as in {meant!r}, or a path, not {path!r}; for that path, pass a Path"
    )


def is_numeric(host: str) -> bool:
    """Return whether a text is an IP address."""
    try:
        _ = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def host_and_port(address: object) -> tuple[str, int, list[int]]:
    """Return (host, port, rest) of a TCP address; raise TypeError or ValueError that names a wrong one.

    The rest is empty, or has the flow information and the scope id of an IPv6 address.
    """
    parts: list[Any] = [*address] if isinstance(address, (tuple, list)) else []
    numbers = parts[1:]
    if not (isinstance(parts and parts[0], str) and 1 <= len(numbers) <= 3 and all(map(is_int, numbers))):
        raise TypeError(f"an address is (host, port), as in ('127.0.0.1', 80), or a path, not {address!r}")
    names, bits = ("port", "flow info", "scope id"), (PORT_BITS, FLOW_INFO_BITS, SCOPE_ID_BITS)
    for name, number, length in zip(names, numbers, bits, strict=False):
        if not 0 <= number < 1 << length:
            limits = f"a {name} is a number from 0 to {(1 << length) - 1}"
            raise ValueError(f"{name} {number} is out of range: {limits}, not as in {address!r}")
    port, *rest = numbers
    return parts[0], port, rest


def is_int(value: object) -> bool:
    """Return whether a value is an int and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def look_up(host: str, port: int, family: int, type: int, flags: int, *, now: bool = False) -> list[HostAddress]:
    """Return the addresses of a host, as `getaddrinfo` does; raise OSError that names the host if it has none.

    A name blocks until it is known, perhaps for seconds. With `now`, nothing blocks: [] stands for a name.
    """
    if "\0" in host:  # getaddrinfo would read the name only up to there, and find another host
        raise unknown_host(host)
    if now and host:
        flags = int(flags) | NUMERIC_HOST_FLAG
    try:
        results = socket.getaddrinfo(host or None, port, family=family, type=type, flags=flags)
    except socket.gaierror as error:
        if now:
            return []
        raise socket.gaierror(error.errno, f"{error.strerror}: {host!r}") from None
    except UnicodeError:  # the codec `idna` refuses a label that is empty or has more than 63 characters
        raise unknown_host(host) from None
    except OSError as error:  # such as too many open files, with the name of a file of the standard library
        raise with_address(error, text_of((host, port))) from None
    if not (results or now):
        raise unknown_host(host)
    return [HostAddress(*result) for result in results]


def unknown_host(host: str) -> socket.gaierror:
    """Return the error for a host that has no address."""
    return socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host!r}")


def resolve(address: Address, flags: int, find: Find = look_up) -> list[Any]:
    """Return the results of `find` for a TCP address; raise OSError that names the host if there is none.

    An address of three or four parts is one of IPv6, and its results have the same flow information and scope id.
    """
    host, port, rest = host_and_port(address)
    results = find(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM, flags)
    if rest:
        results = [with_rest(result, rest) for result in results if result[0] == socket.AF_INET6]
        if not results:
            raise unknown_host(host)
    return results


def with_rest(result: Any, rest: list[int]) -> Any:
    """Return a result of getaddrinfo with the flow information and the scope id of the address, where it has any."""
    host, port, flow_info, scope_id = result[4]
    flow, scope = (*rest, 0)[:2]
    return (*result[:4], (host, port, flow or flow_info, scope or scope_id))


def numeric_addresses(address: Address, flags: int, find: Find = look_up) -> list[Address]:
    """Return the addresses of a host, each once, in the order of the resolver; a path is its own only address."""
    if unix_path(address) is not None:
        return [address]
    return list(dict.fromkeys(result[4] for result in resolve(address, flags, find)))


def text_of(address: Address) -> str:
    """Return a TCP address as it is written in messages: `host:port`, or `[host]:port` for IPv6."""
    host, port, _ = host_and_port(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def with_address(error: BaseException, address: str) -> BaseException:
    """Return an OSError that names the address, in place of one that does not; any other error as it is."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, address)
    return error
