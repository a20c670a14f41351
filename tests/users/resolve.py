"""A user's syscall: look a host name up in a thread."""

import socket
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from minisched import FutureOperation, Kernel, Service, Task


class Resolver(Service):
    """The threads that look names up."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.executor = ThreadPoolExecutor(4)

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)


class Resolve(FutureOperation["list[Any]"]):
    """Look a host name up; return the addresses, as `getaddrinfo` does."""

    abandon = True

    def __init__(self, host: str, port: int = 0) -> None:
        self.host = host
        self.port = port

    def start(self, kernel: Kernel, task: Task) -> "Future[Any]":
        return kernel.service(Resolver).executor.submit(socket.getaddrinfo, self.host, self.port)
