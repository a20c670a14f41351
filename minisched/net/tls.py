"""TLS connections: the handshake, and a file-like that encrypts what is written and decrypts what is read.

Theory of operation. A `TlsConnection` wraps another file-like, mostly a Socket. The standard library's `ssl` works on
two buffers in memory: ciphertext that has arrived, and ciphertext that has to be sent. A read decrypts the records that
are here, and otherwise takes more from the inner file-like. A write encrypts a batch and sends it before the next one.
Either may have to wait for the event of the other direction: the read for room, if an answer of TLS itself has to be
sent, and the write for bytes, if the peer renegotiates.

Invariants:
1. A byte counts as written when it is encrypted: from then on it is in the stream. A cancelled Write reports exactly
   these bytes. The part of their ciphertext that is not sent yet goes out first, with the next Read or Write.
2. A Write returns when all of its ciphertext is sent: no bytes are left behind that no task sends.
3. Ciphertext in memory is bounded: a batch that waits to be sent, a receive that waits to be decrypted, and a flight of
   the handshake. A peer that never reads, or sends without end, adds nothing to that.
4. The end of the stream is the peer's close_notify. An end without it raises TlsTruncated.

Decision: a write says at once how many bytes it has encrypted, also if they are not sent yet (`characters_written`).
Because: an encrypted record has its place in the stream, and bytes that are encrypted again are sent twice. Rejected: a
count of what is sent, which is ciphertext; a connection that refuses all writes after a cancelled one (trio).

Decision: a truncated stream is an error, unless the context has `ssl.OP_IGNORE_UNEXPECTED_EOF`. Because: an attacker
that cuts the connection could otherwise shorten a message unnoticed; and the option holds for all that use a context.
Rejected: an argument, as `suppress_ragged_eofs` of `SSLSocket`, which each function that connects would pass on.

Decision: a write that has taken bytes in tries the waiting read again, and a read the waiting write. Because: the event
that it waits for does not come a second time. Rejected: letting only reads take bytes in; a task that only writes could
then not renegotiate.

Not here: the sentences for OpenSSL's reasons (`tls_errors`); certificates and protocols, which are the context's.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from itertools import count

from ..errors import TimedOut, TlsError, TlsTruncated
from ..io._selectors2 import READ, WRITE
from ..io.filelike import FileWrapper, event_of
from ..io.nonblocking import FileOperation
from ..tasks.scopes import MoveOnAfter
from ..tasks.tasks import awaitable
from .tls_errors import UNEXPECTED_END, explained, reason_of, wrap_without_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator
    from typing import Any

    from ..io.filelike import Bytes, FileLike, PendingOperation
    from ..kernel import Kernel

HANDSHAKE_SECONDS = 30.0  # the default limit of a handshake; half of asyncio's
RECORD_BYTES = 1 << 14  # the most plaintext in a record (RFC 8446, section 5.1)
BATCH_BYTES = 4 * RECORD_BYTES  # encrypted and sent at a time
RECEIVE_BYTES = 1 << 16  # ciphertext taken in at a time
MAX_RECEIVES = 4  # in one try without a byte for the program: then other tasks have their turn
MAX_TRY_BYTES = 4 * BATCH_BYTES  # of a Write in one try, for the same reason


@awaitable
def start_tls(
    conn: FileLike,
    context: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    timeout: float | None = HANDSHAKE_SECONDS,
    received: bytes = b"",
) -> Generator[Any, Any, TlsConnection]:
    """Make a TLS connection of an open connection: do the handshake, and return the file-like to read and write.

    The end of the handshake, a failure or the timeout wakes the task. If the call raises after it has begun, also if
    the task is cancelled, it has closed `conn`, which is of no use any more. The TLS connection owns and closes `conn`.

    The context says all else: a certificate (`load_cert_chain`), one for each name that a client asks for
    (`sni_callback`), protocols (`set_alpn_protocols`).

    Args:
        conn: a Socket, or another file-like that carries bytes both ways.
        context: `ssl.create_default_context()` for a client; `ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)` for a server.
        server_side: whether this side is the server.
        server_hostname: of a client: the name that the server's certificate must have; sent to the server (SNI).
        timeout: the limit of the handshake in seconds; None for no limit.
        received: bytes that were read from `conn` already and belong to TLS, as a buffer may have after STARTTLS.

    Returns:
        A `TlsConnection`.

    Raises:
        TlsError: the handshake failed: the peer does not speak TLS, its certificate is refused, or the like.
        TimedOut: the handshake took longer than `timeout`.
        BusyError: another task waits to read `conn`.
        OSError: the connection is lost.
        TypeError, ValueError: an argument is wrong; `conn` stays open then.

    Example:
        >>> import socket, ssl
        >>> from minisched import Socket, TlsError, Write, run, start_tls
        >>> def main(near, far):
        ...     with Socket(fileno=near.detach()) as near, Socket(fileno=far.detach()) as far:
        ...         yield Write(far, b"220 a mail server that does not know of TLS")
        ...         try:
        ...             yield from start_tls(near, ssl.create_default_context(), server_hostname="example.org")
        ...         except TlsError as error:
        ...             print(error)
        >>> run(main(*socket.socketpair()))
        TLS with example.org: the peer does not speak TLS here
    """
    tls = TlsConnection(conn, context, server_side=server_side, server_hostname=server_hostname, received=received)
    limit = yield MoveOnAfter(timeout)
    try:
        with limit:
            yield Handshake(tls)
        if limit.cancelled_caught:
            raise TimedOut(f"{tls.prefix}: the handshake has taken more than {timeout:g} s")
    except BaseException:
        tls.inner.close()
        raise
    return tls


class Handshake(FileOperation[None]):
    """Do the handshake of a TLS connection; `start_tls` yields this call.

    The end of the handshake or its failure wakes the task.
    """

    __slots__ = ()

    def try_once(self, file: TlsConnection) -> None:
        file.try_handshake()


class TlsConnection(FileWrapper):
    """A TLS connection over another file-like, mostly a Socket. `start_tls` and `serve(tls=...)` make it.

    Read, Write and every other call on files use it; one task may read while another one writes. `close`, or the end
    of a `with` block, sends a close_notify, without waiting for that of the peer.

    Attributes:
        inner: the file-like below. Do not read or write it while TLS is used.

    Example:
        >>> import socket, ssl
        >>> from minisched import Read, Socket, Write, gather, run, start_tls
        >>> def talk(sock, context, **options):
        ...     with (yield from start_tls(sock, context, **options)) as tls:
        ...         yield Write(tls, b"hello")
        ...         return tls.version, (yield Read(tls, 100))
        >>> def main(near, far, server, client):
        ...     near, far = Socket(fileno=near.detach()), Socket(fileno=far.detach())
        ...     return (yield from gather(
        ...         talk(near, server, server_side=True), talk(far, client, server_hostname="example.org")
        ...     ))
        >>> import trustme  # makes certificates for tests
        >>> server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        >>> authority = trustme.CA()
        >>> authority.issue_cert("example.org").configure_cert(server)
        >>> authority.configure_trust(client)
        >>> run(main(*socket.socketpair(), server, client))
        [('TLSv1.3', b'hello'), ('TLSv1.3', b'hello')]
    """

    inner: Any

    def __init__(
        self,
        inner: FileLike,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        received: bytes = b"",
    ) -> None:
        import ssl  # imported here: slow, and most programs do not need it

        if not hasattr(context, "wrap_bio"):
            raise TypeError(f"TLS takes a context, such as ssl.create_default_context(), not {context!r}")
        if not hasattr(inner, "file_state"):
            raise TypeError(
                f"TLS takes a Socket, not {inner!r}; a plain socket is wrapped: Socket(fileno=sock.detach())"
            )
        if context.check_hostname and not server_side and not server_hostname:  # `ssl` would check nothing
            raise ValueError("TLS needs the server_hostname that the certificate must have, or check_hostname=False")
        if server_side and server_hostname:
            raise ValueError("server_hostname is for clients: a server chooses by the sni_callback of its context")
        super().__init__(inner)
        self.ssl = ssl
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = wrap_without_option(context, self.incoming, self.outgoing, server_side, server_hostname)
        _ = self.incoming.write(received)
        self.prefix = f"TLS with {server_hostname}" if server_hostname else "TLS"  # of error messages
        self.unsent = b""  # ciphertext: the rest of what `outgoing` had
        self.plain = b""  # bytes that were decrypted before a Read asked for them
        self.may_hold = True  # a read may return something without a byte from the inner file-like
        self.established = self.ended = self.eof_sent = False
        self.blocked_inside = (
            False  # the inner file-like is a TLS connection, and has taken ciphertext that it has to send
        )
        self.received_by_write = False
        self.failure: tuple[type[TlsError], str, str | None] | None = None

    @property
    def short_read_means_empty(self) -> bool:
        """True if the next Read may wait for the inner file-like before it tries."""
        return not self.may_hold and getattr(self.inner, "short_read_means_empty", False)

    @property
    def peer(self) -> Any:
        """The peer's address, as the inner file-like has it."""
        return getattr(self.inner, "peer", None)

    @property
    def address(self) -> Any:
        """This side's address, as the inner file-like has it."""
        return getattr(self.inner, "address", None)

    @property
    def version(self) -> str | None:
        """The version of the protocol, such as "TLSv1.3"."""
        return self.tls.version()

    @property
    def cipher(self) -> str | None:
        """The name of the cipher suite."""
        return (self.tls.cipher() or (None,))[0]

    @property
    def alpn(self) -> str | None:
        """The protocol of the application that both sides have chosen, such as "h2"; None if there is none."""
        return self.tls.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's certificate, as `ssl.SSLSocket.getpeercert` returns it; None if none was verified."""
        return self.tls.getpeercert() or None

    # Reading.

    def try_read(self, size: int, /) -> bytes:
        """Return up to `size` decrypted bytes, b"" after the peer's close_notify; raise BlockingIOError otherwise.

        Raises TlsTruncated at an end without close_notify, and TlsError if the peer breaks the protocol.
        """
        receives = count()
        try:
            while not (data := self._decrypted(size)) and not self.ended:
                self._receive(next(receives))
            return data
        finally:
            if self.inner.file_state.crosses:
                self._retry(WRITE)

    def _decrypted(self, size: int) -> bytes:
        """Return up to `size` bytes of the records that are here; b"" if there are none, or at the end."""
        if self.plain or not self.may_hold:
            data, self.plain = self.plain[:size], self.plain[size:]
            return data
        pieces: list[bytes] = []
        wanted = size
        try:
            while wanted and not self.ended:
                piece = self._call(self.tls.read, min(wanted, RECORD_BYTES))
                self.ended = not piece  # a close_notify
                pieces.append(piece)
                wanted -= len(piece)
                if wanted and not self.incoming.pending:
                    break
        except BlockingIOError:
            pass  # the last record is not whole
        except TlsError:
            if not pieces:
                raise
        self.may_hold = not wanted or self.ended or self.failure is not None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _receive(self, number: int) -> None:
        """Take in bytes, as the receive `number` of one try.

        If there are none, or at the number MAX_RECEIVES, send what has to be sent, and raise BlockingIOError.
        """
        try:
            if number == MAX_RECEIVES:
                raise BlockingIOError
            received = self.inner.try_read(RECEIVE_BYTES)
        except BlockingIOError as error:
            try:
                self._flush()
            except BlockingIOError:
                raise wants(error, READ | WRITE) from None
            raise wants(error, getattr(error, "wants", READ)) from None
        self.may_hold = True
        if received:
            _ = self.incoming.write(received)
        else:
            self.incoming.write_eof()

    # Writing.

    def try_write(self, data: Bytes, /) -> int:
        """Encrypt `data` and send it; return how much that is, MAX_TRY_BYTES at most.

        Raises BlockingIOError, with the number of bytes that are encrypted, if not all of their ciphertext is sent.
        """
        if self.eof_sent and data:
            raise BrokenPipeError(errno.EPIPE, f"{os.strerror(errno.EPIPE)}: write_eof has closed this direction")
        view, taken = memoryview(data), 0
        try:
            while True:
                self._flush()
                if taken == len(view) or taken >= MAX_TRY_BYTES:
                    return taken
                taken += self._encrypt(view[taken : taken + BATCH_BYTES])
        except BlockingIOError as error:
            error.characters_written = taken
            raise
        finally:
            if self.received_by_write:
                self.received_by_write = False
                self._retry(READ)

    def _encrypt(self, batch: memoryview) -> int:
        """Encrypt a batch; during a renegotiation, take in bytes of the peer first."""
        receives = count()
        while True:
            with suppress(BlockingIOError):
                return self._call(self.tls.write, batch)
            self._receive(next(receives))
            self.received_by_write = True

    def _flush(self) -> None:
        """Send all ciphertext; raise BlockingIOError, with the event to wait for, if it does not all fit."""
        if self.outgoing.pending:
            self.unsent += self.outgoing.read()
        while self.unsent or self.blocked_inside:
            try:
                sent = self.inner.try_write(self.unsent)
            except BlockingIOError as error:
                sent = getattr(error, "characters_written", 0)  # of another TLS connection, which sends it later
                self.blocked_inside = sent > 0 or self.blocked_inside
                self.unsent = self.unsent[sent:]
                raise wants(error, getattr(error, "wants", WRITE)) from None
            self.blocked_inside = False
            self.unsent = self.unsent[sent:]

    # The handshake, the end, and waiting.

    def try_handshake(self) -> None:
        """Go on with the handshake; raise BlockingIOError if it waits for the peer, TlsError if it fails."""
        receives = count()
        while True:
            try:
                self._call(self.tls.do_handshake)
                break
            except BlockingIOError:
                self.may_hold = False
                self._receive(next(receives))
        self._flush()
        self.established = self.may_hold = True

    def write_eof(self) -> None:
        """End this direction with a close_notify; the other one stays open. A plain call; a second one does nothing.

        Raises BlockingIOError if not all fits: the rest is sent by the next Read, by a Write of b"", or by `close`.
        """
        if not self.eof_sent:
            self.eof_sent = True
            self._add_close_notify()
        self._flush()

    def _add_close_notify(self) -> None:
        """Put a close_notify behind what has to be sent.

        `unwrap` of `ssl` calls SSL_shutdown twice. The second call looks for the peer's close_notify, and takes data of
        the peer for a fault. So it must find neither decrypted bytes nor records.
        """
        if self.tls.pending():
            self.plain += self.tls.read(self.tls.pending())
            self.may_hold = True
        records = self.incoming.read()
        with suppress(self.ssl.SSLError):
            _ = self.tls.unwrap()
        if records:
            _ = self.incoming.write(records)

    def close(self) -> None:
        """Send a close_notify, without waiting, and close the inner file-like, which ends the waits.

        Bytes that have arrived and were not read are dropped first: a socket that still has some sends a reset, by
        which the peer may lose what was sent before. A client of TLS 1.3 always gets some, the session tickets.
        """
        try:
            if self.established and self.failure is None:
                self.established = False
                with suppress(OSError):
                    self.write_eof()
                with suppress(OSError):
                    _ = self.inner.try_read(RECEIVE_BYTES)
        finally:
            self.inner.close()

    def watch(self, kernel: Kernel, direction: int, operation: PendingOperation, /) -> None:
        """Wait for the inner file-like; an operation that only waits for bytes is ready if some may be here."""
        if self.may_hold and direction == getattr(operation, "direction", direction) == READ:
            operation.ready()
        else:
            self.inner.watch(kernel, direction, operation)

    def _retry(self, direction: int) -> None:
        """Try the operation of the other direction again if it waits for bytes: this one may have taken them in."""
        operation: Any = self.file_state.waiter_for(direction)
        if operation is not None and operation.task is not None and event_of(operation, direction) & READ:
            waits_for, operation.waits_for = event_of(operation, direction), 0
            self.inner.unwatch(operation.task.kernel, waits_for)
            operation.ready()

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of `ssl`: BlockingIOError if it needs bytes of the peer, TlsError if it fails."""
        if self.failure is not None:
            raise self.failure[0](*self.failure[1:])
        try:
            return function(*args)
        except self.ssl.SSLWantReadError:
            raise BlockingIOError from None
        except self.ssl.SSLError as error:
            if isinstance(error, self.ssl.SSLZeroReturnError) and self.established:
                return b""
            raise self._failed(error) from error

    def _failed(self, error: ssl.SSLError) -> TlsError:
        """Return the error to raise, now and from now on; send the alert for the peer, if there is room."""
        reason = reason_of(error)
        ended = isinstance(error, (self.ssl.SSLEOFError, self.ssl.SSLZeroReturnError)) or reason == UNEXPECTED_END
        kind = TlsTruncated if ended and self.established else TlsError
        text = f"{self.prefix}: {explained(error, reason, ended, self.established)}"
        self.failure, self.may_hold = (kind, text, reason), True
        with suppress(OSError):
            self._flush()
        return kind(text, reason)


def wants(error: BlockingIOError, event: int) -> BlockingIOError:
    """Let an operation wait for `event`."""
    error.wants = event  # type: ignore[attr-defined]
    return error
