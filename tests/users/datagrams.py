"""A user's syscalls: receive and send datagrams on a plain socket."""

import socket
from typing import Any

from minisched import WRITE, FileOperation


class RecvFrom(FileOperation["tuple[bytes, Any]"]):
    """Wait for a datagram; return its bytes and its sender."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        self.file = sock
        self.size = size

    def try_once(self, file: socket.socket) -> "tuple[bytes, Any]":
        return file.recvfrom(self.size, socket.MSG_DONTWAIT)


class SendTo(FileOperation[int]):
    """Send a datagram; return its length."""

    direction = WRITE

    def __init__(self, sock: socket.socket, data: bytes, address: Any) -> None:
        self.file = sock
        self.data = data
        self.address = address

    def try_once(self, file: socket.socket) -> int:
        return file.sendto(self.data, socket.MSG_DONTWAIT, self.address)
