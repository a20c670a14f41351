"""A client that keeps an echo server busy over many connections, and verifies every byte that comes back.

Shows: two tasks that share a connection, one writing while the other reads; that a task is cheap
(a writer is started whenever there is room for more messages in flight); what a failed task does to
the others (they are cancelled, and `run` raises its error).

Run it:  python demos/echo_client.py [--connections N] [--messages M] [--size BYTES] [--in-flight K]
         while python demos/echo_server.py runs. A progress bar: pip install minisched[demo]
"""

import contextlib
import socket
import sys
from array import array
from collections import deque
from time import perf_counter

from echo_server import address_options

from minisched import Connect, JoinAll, Read, Sleep, Spawn, Write, run


class EchoError(Exception):
    """The echo can't be had, or is not what was sent."""


class Tally:
    """What came back on all connections, and how long each message took, in seconds."""

    def __init__(self, total):
        self.total = total
        self.latencies = array("d")


class Connection:
    """Sends its messages, at most so many ahead of what came back, and verifies that."""

    def __init__(self, number, conn, options, tally):
        self.number = number
        self.conn = conn
        self.size, self.messages, self.in_flight = options.size, options.messages, options.in_flight
        self.tally = tally
        self.begun = deque()  # when each message in flight was written
        self.sent = self.answered = 0
        self.writing = False

    def message(self, number):
        """Return a message, which differs by connection and number (as far as its size allows)."""
        mark = b"%d.%d " % (number, self.number)
        return (mark * (self.size // len(mark) + 1))[: self.size]

    @contextlib.contextmanager
    def named(self):
        """Let an error say which connection it is of."""
        try:
            yield
        except OSError as error:
            raise EchoError(f"connection {self.number}: {error.strerror or error}") from error

    def converse(self):
        """Send all messages and read their echoes."""
        came = bytearray()
        with self.named():
            while self.answered < self.messages:
                if not self.writing and self.sent < self.messages:
                    self.writing = True
                    yield Spawn(self.write(), f"writer-{self.number}")
                came += yield from self.read()
                while len(came) >= self.size and self.begun:
                    self.verify(bytes(came[: self.size]))
                    del came[: self.size]
            self.conn.shutdown(socket.SHUT_WR)
            if came or (yield Read(self.conn, 1)):
                raise EchoError(f"connection {self.number}: more came back than was sent")

    def write(self):
        """Write messages as long as there is room for them in flight."""
        with self.named():
            while self.sent < self.messages and len(self.begun) < self.in_flight:
                message = self.message(self.sent)
                self.sent += 1
                self.begun.append(perf_counter())
                yield Write(self.conn, message)
        self.writing = False

    def read(self):
        """Return what came back, a byte at least."""
        data = yield Read(self.conn, 65536)
        if not data:
            raise EchoError(f"connection {self.number}: closed after {self.answered} of {self.messages} messages")
        return data

    def verify(self, echo):
        """Compare the next echo with what was sent, and note how long it took."""
        self.tally.latencies.append(perf_counter() - self.begun.popleft())
        expected = self.message(self.answered)
        if echo != expected:
            place = next(place for place in range(self.size) if echo[place] != expected[place])
            raise EchoError(
                f"connection {self.number}, message {self.answered}, byte {place}: "
                f"sent {expected[place : place + 1]!r}, got {echo[place : place + 1]!r}"
            )
        self.answered += 1


def main(options, tally):
    """Open all connections first, so that all are open at once; then use them. Return the seconds of that."""
    address = options.unix or (options.host, options.port)
    with contextlib.ExitStack() as stack:
        conns = []
        for _ in range(options.connections):
            try:
                conns.append(stack.enter_context((yield Connect(address))))
            except (OSError, ValueError) as error:
                where = options.unix or f"{options.host}:{options.port}"
                raise EchoError(f"{where}: {getattr(error, 'strerror', None) or error}") from error
        if sys.stderr.isatty():
            yield Spawn(progress_bar(tally), daemon=True)
        begun = perf_counter()
        for number, conn in enumerate(conns):
            yield Spawn(Connection(number, conn, options, tally).converse(), f"connection-{number}")
        yield JoinAll()
        return perf_counter() - begun


def progress_bar(tally):
    """Show how far it is, ten times a second; without rich, say how to get it."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        print("for a progress bar: pip install minisched[demo]", file=sys.stderr)
        return
    with Progress(console=Console(stderr=True), auto_refresh=False) as progress:
        bar = progress.add_task("messages", total=tally.total)
        try:
            while True:
                progress.update(bar, completed=len(tally.latencies), refresh=True)
                yield Sleep(0.1)
        finally:
            progress.update(bar, completed=len(tally.latencies), refresh=True)


def report(options, tally, seconds):
    """Print the result."""
    ordered = sorted(tally.latencies)
    p50, p90, p99 = (ordered[len(ordered) * percent // 100] * 1000 for percent in (50, 90, 99))
    print(f"connections  {options.connections}")
    print(f"messages     {len(ordered)}, every byte verified")
    print(f"bytes        {len(ordered) * options.size}")
    print(f"seconds      {seconds:.3f}")
    print(f"messages/s   {len(ordered) / seconds:.0f}")
    print(f"latency ms   p50 {p50:.3f}, p90 {p90:.3f}, p99 {p99:.3f}, max {ordered[-1] * 1000:.3f}")


def command_line():
    """Return the parser of the command line."""
    parser = address_options("Verify an echo server, and measure it.")
    parser.add_argument("--connections", type=count, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("--messages", type=count, default=100, metavar="M", help="of each; default: %(default)s")
    parser.add_argument("--size", type=count, default=64, metavar="BYTES", help="default: %(default)s")
    parser.add_argument("--in-flight", type=count, default=4, metavar="K", help="default: %(default)s")
    return parser


def count(text):
    """Return a number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def allow_many_files():
    """Let this process open as many files as it may: by default it is often 1,024, each connection being one."""
    try:
        import resource
    except ImportError:
        return  # Windows has no such limit
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        pass  # macOS refuses "unlimited": what it is will have to do


def measure(options):
    """Run the client; print its result, or end with a line that says what went wrong."""
    tally = Tally(options.connections * options.messages)
    try:
        seconds = run(main(options, tally))
    except (EchoError, ExceptionGroup) as error:
        first = error
        while isinstance(first, ExceptionGroup):  # a group for each task that the failure passed through
            first = first.exceptions[0]
        if not isinstance(first, EchoError):
            raise
        sys.exit(f"echo_client: {first}")
    report(options, tally, seconds)


if __name__ == "__main__":
    try:
        allow_many_files()
        measure(command_line().parse_args())
    except KeyboardInterrupt:
        sys.exit(130)
