"""A user's file-like: TLS over a Socket, by the standard library's `ssl` and two buffers in memory."""

import ssl
from collections.abc import Callable
from typing import Any

from minisched import READ, WRITE, FileOperation, FileWrapper, Kernel, Socket


class Tls(FileWrapper):
    """A TLS connection over a Socket. `yield Handshake(tls)` first; then Read and Write use it in both directions."""

    def __init__(self, sock: Socket, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        super().__init__(sock)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self.unsent = b""
        self.accepted = 0  # bytes of the waiting Write that `unsent` stands for

    def flush(self) -> None:
        """Send what is encrypted; raise BlockingIOError, with the event to wait for, if that is not all."""
        self.unsent += self.outgoing.read()
        while self.unsent:
            try:
                self.unsent = self.unsent[self.inner.try_write(self.unsent) :]
            except BlockingIOError as error:
                raise wants(error, WRITE) from None

    def step(self, call: Callable[..., Any], *args: Any) -> Any:
        """Ask the ssl object, and feed it until it answers."""
        while True:
            self.flush()
            try:
                return call(*args)
            except ssl.SSLWantReadError:
                self.flush()
            try:
                received = self.inner.try_read(65536)
            except BlockingIOError as error:
                raise wants(error, READ) from None
            self.incoming.write(received) if received else self.incoming.write_eof()

    def try_read(self, size: int, /) -> bytes:
        try:
            return self.step(self.ssl.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    def try_write(self, data: "bytes | bytearray | memoryview", /) -> int:
        if not self.accepted:
            self.accepted = self.step(self.ssl.write, data[:16384])
        self.flush()
        accepted, self.accepted = self.accepted, 0
        return accepted

    def unwatch(self, kernel: Kernel, direction: int, /) -> None:
        super().unwatch(kernel, direction)
        if self.file_state.writer is None:
            self.accepted = 0  # of a cancelled Write; the rest of its record goes out before the next one


class Handshake(FileOperation[None]):
    """Agree on the keys."""

    def try_once(self, file: Tls) -> None:
        file.step(file.ssl.do_handshake)
        file.flush()


def wants(error: BlockingIOError, direction: int) -> BlockingIOError:
    """Say which event the operation waits for."""
    error.wants = direction  # type: ignore[attr-defined]
    return error
