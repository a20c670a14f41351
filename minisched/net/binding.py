"""Binding listeners: at one address of a host, at all of them, or at a Unix path.

Invariants:
1. A socket that was created but not returned is closed, and its Unix path is removed.
2. A TCP listener has TCP_NODELAY, unless the program passes `nodelay=False`, and so have its connections.

Decision: `listen` opens one listener, at the first address of the host that this machine has, and `listen_all` one at
each of them. Both pass over an address only if the machine does not have it. Because: a client tries all addresses of
a name, and the first that answers should be this server. Rejected: passing over an address that is in use, where the
clients would reach another server.

Decision: IPv6 listeners take IPv6 connections only, as those of asyncio do. Because: `0.0.0.0` and `::` can then have
one port, and a peer's address is never an IPv4 address in the form of IPv6. Rejected: the default of the system,
which differs between systems.

Decision: each TCP socket has TCP_NODELAY, unless the program passes `nodelay=False`. Because: the second of two small
writes otherwise waits for the peer's delayed acknowledgement, which takes 40 ms. asyncio, trio and Go do the same.
A listener hands the option on to its connections, which saves a system call for each, and the first one is checked.
Rejected: leaving the option to the program, which would be slow without any error; trusting that each system hands it
on, which POSIX does not demand.

Not here: the syscalls (`listening`); the files at Unix paths (`unix_paths`).
"""

from __future__ import annotations

import errno
import os
import socket

from ..kernel.numbers import check_count
from .addresses import host_and_port, look_up, numeric_addresses, resolve, text_of, unix_path, with_address
from .sockets import Socket
from .unix_paths import bind_path, check_mode, ids_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .addresses import Address, Find

BACKLOG_CONNECTIONS = 1024  # connections that may wait for an Accept; the operating system may allow fewer
MAX_BACKLOG_CONNECTIONS = 2**31 - 1  # a C int
SAME_PORT_TRIES = 10  # to find a port that is free at all addresses
# Errors of an address that this machine does not have, such as one of IPv6 where IPv6 is switched off.
NOT_HERE_ERRNOS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


def listen(
    address: Address,
    backlog: int = BACKLOG_CONNECTIONS,
    *,
    reuse_port: bool = False,
    nodelay: bool = True,
    mode: int | None = None,
    owner: int | str | None = None,
    find: Find = look_up,
    make: Callable[..., Socket] = Socket,
) -> Socket:
    """Return a listening socket; raise OSError that names the address if it cannot be opened.

    `find` returns the addresses of a host; by default, a name blocks until it is known. `make` makes the socket.
    """
    backlog = min(check_count("Listen", "backlog", "connections", backlog), MAX_BACKLOG_CONNECTIONS)
    check_mode(mode)
    ids = ids_of(owner)
    path = unix_path(address)
    if path is not None:
        return listen_unix(path, backlog, mode, ids, make)
    if mode is not None or owner is not None:
        raise ValueError(f"mode and owner are those of a Unix path, and {address!r} is a TCP address")
    first_error: OSError | None = None
    for result in resolve(address, socket.AI_PASSIVE, find):
        try:
            return listen_tcp(result, backlog, reuse_port, nodelay, make)
        except OSError as error:
            first_error = first_error or error
            if error.errno not in NOT_HERE_ERRNOS:
                break
    assert first_error is not None, "there is a result for each name that can be resolved"
    raise with_address(first_error, text_of(address)) from None


def listen_tcp(result: Any, backlog: int, reuse_port: bool, nodelay: bool, make: Callable[..., Socket]) -> Socket:
    """Return a socket that listens at one result of getaddrinfo."""
    family, kind, proto, _, target = result
    sock = make(family, kind, proto)
    try:
        if os.name == "posix":  # on Windows, the option lets another program take the port over
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.checks_nodelay = True
        sock.bind(target)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unix(path: str, backlog: int, mode: int | None, ids: tuple[int, int], make: Callable[..., Socket]) -> Socket:
    """Return a socket that listens at a path or at an abstract name."""
    try:
        sock = make(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bind_path(sock, path, mode, ids)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise with_address(error, path) from None
    return sock


def listen_all(
    addresses: Iterable[Address], listen_at: Callable[[Address], Socket], find: Find = look_up
) -> list[Socket]:
    """Return listeners at all addresses of several hosts, which `listen_at` opens. On an error, none is left open.

    Each address that `listen_at` receives is numeric, or a path.

    An address that comes twice is listened at once. With port 0, all listeners get the port of the first, except for
    an address that comes twice. If no port is found that is free at all addresses, each gets its own.
    """
    hosts = [numeric_addresses(address, socket.AI_PASSIVE, find) for address in addresses]
    any_port = any(has_any_port(address) for host in hosts for address in host)
    for _ in range(SAME_PORT_TRIES if any_port else 0):
        try:
            return listen_at_hosts(hosts, listen_at, same_port=True)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return listen_at_hosts(hosts, listen_at, same_port=False)


def listen_at_hosts(
    hosts: list[list[Address]], listen_at: Callable[[Address], Socket], same_port: bool
) -> list[Socket]:
    """Return listeners at all addresses of the hosts; close those that are open if one cannot be opened."""
    listeners: list[Socket] = []
    try:
        for host in hosts:
            listen_at_host(host, listen_at, same_port, listeners)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def listen_at_host(
    host: list[Address], listen_at: Callable[[Address], Socket], same_port: bool, listeners: list[Socket]
) -> None:
    """Add a listener for each address of one host; pass over those that this machine does not have, but not all."""
    errors: list[OSError] = []
    for address in host:
        wanted = next_address(address, [listener.address for listener in listeners], same_port)
        if wanted is None:
            continue
        try:
            listeners.append(listen_at(wanted))
        except OSError as error:
            if error.errno not in NOT_HERE_ERRNOS:
                raise
            errors.append(error)
    if len(errors) == len(host):
        raise errors[0]


def next_address(address: Address, opened: list[Any], same_port: bool) -> Address | None:
    """Return where to listen next, with the port of the first listener in place of port 0; None: nowhere."""
    if address in opened:
        return None
    if same_port and opened and has_any_port(address) and isinstance(opened[0], tuple):
        parts: Any = address
        wanted: Any = (parts[0], opened[0][1], *parts[2:])
        return address if wanted in opened else wanted
    return address


def has_any_port(address: Address) -> bool:
    """Return whether the port of an address is chosen by the operating system."""
    return unix_path(address) is None and host_and_port(address)[1] == 0
