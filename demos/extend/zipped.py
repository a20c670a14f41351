"""A file of a user that wraps another one: everything that is written to `Zipped(sock)` goes out compressed.

Shows: a file-like, with which Read, Write, `select` and `serve` work. It has the state and the waits of the inner file
(`FileWrapper`). `try_read` may return less than there is, and keeps the rest itself. `try_write` counts
bytes as written when their compressed form has gone out.

Run it:    python demos/extend/zipped.py
"""

import socket
import zlib
from argparse import ArgumentParser

from checked import show

from minisched import FileWrapper, Read, Socket, Spawn, Write, run

PIECE_BYTES = 65536  # compressed at once

# The file-like.


class Zipped(FileWrapper):
    """A compressed stream over an inner file-like, such as a Socket."""

    label = "zipped socket"

    def __init__(self, inner):
        super().__init__(inner)
        self.inflater = zlib.decompressobj()
        self.deflater = zlib.compressobj()
        self.unsent = b""  # compressed bytes that the inner file has not taken yet
        self.accepted = 0  # bytes of the waiting Write that `unsent` stands for

    def try_read(self, size):
        """Return up to `size` bytes; raise BlockingIOError if the inner file has none, and nothing is left over."""
        while True:
            data = self.inflater.decompress(self.inflater.unconsumed_tail, size)
            if data:
                return data
            received = self.inner.try_read(PIECE_BYTES)
            if not received:
                return b""
            data = self.inflater.decompress(received, size)
            if data:
                return data

    def try_write(self, data):
        """Write a piece, and return its length once its compressed form is sent; raise BlockingIOError until then."""
        if not self.unsent:
            piece = data[:PIECE_BYTES]
            self.unsent = self.deflater.compress(piece) + self.deflater.flush(zlib.Z_SYNC_FLUSH)
            self.accepted = len(piece)
        while self.unsent:
            self.unsent = self.unsent[self.inner.try_write(self.unsent) :]
        accepted, self.accepted = self.accepted, 0
        return accepted or self.try_write(data)  # the sent bytes belonged to a Write that was cancelled

    def unwatch(self, kernel, direction):
        """Give up a wait. The rest of a cancelled Write goes out before the next one."""
        super().unwatch(kernel, direction)
        if self.file_state.writer is None:
            self.accepted = 0


class Deaf(Zipped):
    """Wrong: a cancelled wait stays registered with the inner file."""

    def unwatch(self, kernel, direction):
        pass


# The demonstration.


def zipped_pair(kind=Zipped):
    """Return the two ends of a compressed connection."""
    return [kind(Socket(fileno=end.detach(), peer="pair")) for end in socket.socketpair()]


def sender(end, data):
    """Send everything, and close."""
    with end:
        yield Write(end, data)
        print(f"  sent {len(data):,} bytes")


def main():
    """Send a long, dull text, and count what goes through the wire."""
    near, far = zipped_pair()
    yield Spawn(sender(near, b"the same again, " * 100_000))
    wire, received = Counted(far.inner), 0
    far.inner = wire
    with far:
        while data := (yield Read(far, 100_000)):
            received += len(data)
    print(f"  received {received:,} bytes, in {wire.count:,} on the wire")


class Counted(FileWrapper):
    """A file-like that counts the bytes that are read from the inner one."""

    def __init__(self, inner):
        super().__init__(inner)
        self.count = 0

    def try_read(self, size):
        """Read, and count."""
        data = super().try_read(size)
        self.count += len(data)
        return data


def waiting(kind):
    """Return a function that creates a Read, with functions that complete it and clean up."""

    def make():
        near, far = zipped_pair(kind)
        return Read(near, 100), lambda: far.try_write(b"hello"), lambda: (near.close(), far.close())

    return make


CHECKED = {"Zipped": waiting(Zipped), "Deaf": waiting(Deaf)}

if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    print("A compressed connection:")
    run(main())
    show(**CHECKED)
