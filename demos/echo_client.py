"""A client that keeps an echo server busy over many connections and verifies every byte.

Shows: two tasks share a connection, one writes while the other reads; tasks are cheap (a writer starts
whenever more messages may be in flight); a task that fails cancels the others, and `run` raises its
exception. With --interactive, one task reads the keyboard and another one reads the connection.

Run it:  python demos/echo_client.py [--connections N] [--messages M] [--size BYTES] [--in-flight K]
         while python demos/echo_server.py runs. For a progress bar: pip install -e '.[demo]'
Try it:  python demos/echo_client.py --interactive, to type lines and read the answers, as with nc
"""

import contextlib
import socket
import sys
from array import array
from collections import deque
from time import perf_counter

import console
from echo_server import address_options, host_and_port

from minisched import Connect, JoinAll, Read, Spawn, Write, run


class EchoError(Exception):
    """The connection failed, or the echo differs from the message."""


class Tally:
    """The latencies of all messages on all connections, in seconds."""

    def __init__(self, total):
        self.total = total
        self.latencies = array("d")


class Connection:
    """One connection: sends messages, with at most `in_flight` unanswered ones, and verifies their echoes."""

    def __init__(self, number, conn, options, tally):
        self.number = number
        self.conn = conn
        self.size, self.messages, self.in_flight = options.size, options.messages, options.in_flight
        self.tally = tally
        self.started = deque()  # the time at which each message in flight was sent
        self.sent = self.answered = 0
        self.writing = False

    def message(self, number):
        """Return message `number`; its text depends on the connection and the number, as far as the size allows."""
        mark = b"%d.%d " % (number, self.number)
        return (mark * (self.size // len(mark) + 1))[: self.size]

    @contextlib.contextmanager
    def named_errors(self):
        """Add the number of the connection to an OSError."""
        try:
            yield
        except OSError as error:
            raise EchoError(f"connection {self.number}: {error.strerror or error}") from error

    def converse(self):
        """Send all messages and verify their echoes."""
        received = bytearray()
        with self.named_errors():
            while self.answered < self.messages:
                if not self.writing and self.sent < self.messages:
                    self.writing = True
                    yield Spawn(self.write(), f"writer-{self.number}")
                received += yield from self.read()
                while len(received) >= self.size and self.started:
                    self.verify(bytes(received[: self.size]))
                    del received[: self.size]
            self.conn.shutdown(socket.SHUT_WR)
            if received or (yield Read(self.conn, 1)):
                raise EchoError(f"connection {self.number}: received more than was sent")

    def write(self):
        """Send messages until `in_flight` of them are unanswered."""
        with self.named_errors():
            while self.sent < self.messages and len(self.started) < self.in_flight:
                message = self.message(self.sent)
                self.sent += 1
                self.started.append(perf_counter())
                yield Write(self.conn, message)
        self.writing = False

    def read(self):
        """Return the next bytes from the server, at least one."""
        data = yield Read(self.conn, 65536)
        if not data:
            raise EchoError(f"connection {self.number}: closed after {self.answered} of {self.messages} messages")
        return data

    def verify(self, echo):
        """Compare the next echo with its message, and record the latency."""
        self.tally.latencies.append(perf_counter() - self.started.popleft())
        expected = self.message(self.answered)
        if echo != expected:
            index = next(index for index in range(self.size) if echo[index] != expected[index])
            raise EchoError(
                f"connection {self.number}, message {self.answered}, byte {index}: "
                f"sent {expected[index : index + 1]!r}, got {echo[index : index + 1]!r}"
            )
        self.answered += 1


def connect(options):
    """Return a connection to the server."""
    try:
        return (yield Connect(options.unix or (options.host, options.port)))
    except (OSError, ValueError) as error:
        raise EchoError(f"{where(options)}: {getattr(error, 'strerror', None) or error}") from error


def where(options):
    """Return the address of the server as text."""
    return options.unix or host_and_port((options.host, options.port))


def main(options, tally):
    """Open all connections, then use them all at once; return the seconds of the second step."""
    with contextlib.ExitStack() as stack:
        conns = []
        for _ in range(options.connections):
            conns.append(stack.enter_context((yield from connect(options))))
        if console.is_terminal(sys.stderr):
            yield Spawn(console.progress_bar("messages", tally.total, lambda: len(tally.latencies)), daemon=True)
        start = perf_counter()
        for number, conn in enumerate(conns):
            yield Spawn(Connection(number, conn, options, tally).converse(), f"connection-{number}")
        yield JoinAll()
        return perf_counter() - start


class Talk:
    """A conversation by hand: a task sends what is typed, and another one prints what the server sends."""

    def __init__(self, options):
        self.options = options
        self.ended = False  # the input has ended, so the server is expected to close the connection

    def main(self):
        """Talk until the input and the connection have ended."""
        if sys.stdin is None:
            raise EchoError("--interactive needs a standard input")
        with (yield from connect(self.options)) as conn:
            if console.is_terminal(sys.stdin):
                print(f"connected to {where(self.options)}: type lines; Ctrl-D ends", file=sys.stderr)
            try:
                yield Spawn(self.send_input(conn), "keyboard", daemon=True)
                while data := (yield Read(conn, 65536)):
                    self.print_bytes(data)
            except OSError as error:
                raise self.server_gone(error) from error
        if not self.ended:
            raise EchoError(f"{where(self.options)}: the server has closed the connection")

    def send_input(self, conn):
        """Send what is typed, line by line, until the end of the input."""
        while data := (yield Read(sys.stdin.fileno(), 65536)):
            try:
                yield Write(conn, data)
            except OSError as error:
                raise self.server_gone(error) from error
        self.ended = True
        conn.shutdown(socket.SHUT_WR)

    def server_gone(self, error):
        """Return the error of a connection that is lost."""
        return EchoError(f"{where(self.options)}: the connection is lost: {error.strerror or error}")

    def print_bytes(self, data):
        """Write bytes to standard output at once."""
        if sys.stdout is not None:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()


def report(options, tally, seconds):
    """Print the measurements."""
    ordered = sorted(tally.latencies)
    p50, p90, p99 = (ordered[len(ordered) * percent // 100] * 1000 for percent in (50, 90, 99))
    print(f"connections  {options.connections}")
    print(f"messages     {len(ordered)}, every byte verified")
    print(f"bytes        {len(ordered) * options.size}")
    print(f"seconds      {seconds:.3f}")
    print(f"messages/s   {len(ordered) / seconds:.0f}")
    print(f"latency ms   p50 {p50:.3f}, p90 {p90:.3f}, p99 {p99:.3f}, max {ordered[-1] * 1000:.3f}")


def command_line():
    """Return the argument parser."""
    parser = address_options("Verify and measure an echo server, or talk to any server by hand.")
    count = console.whole(1)
    text = "number of connections; default: %(default)s"
    parser.add_argument("--connections", type=count, default=100, metavar="N", help=text)
    text = "number of messages per connection; default: %(default)s"
    parser.add_argument("--messages", type=count, default=100, metavar="M", help=text)
    text = "bytes of a message; default: %(default)s"
    parser.add_argument("--size", type=count, default=64, metavar="BYTES", help=text)
    text = "messages that a connection sends before it waits for an answer; default: %(default)s"
    parser.add_argument("--in-flight", type=count, default=4, metavar="K", help=text)
    text = "send the lines that you type, and print the answers; Ctrl-D ends"
    parser.add_argument("--interactive", action="store_true", help=text)
    return parser


def allow_many_files():
    """Raise the limit of open files to its maximum. The default is often 1,024, and each connection needs one."""
    try:
        import resource
    except ImportError:
        return  # Windows has no such limit
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        pass  # macOS refuses "unlimited"; keep the current limit


def result_of(body):
    """Run a main task and return its result; exit with one line for an EchoError."""
    try:
        return run(body)
    except (EchoError, ExceptionGroup) as error:
        first = console.first_error(error)  # there is a group for each parent task of the failed one
        if not isinstance(first, EchoError):
            raise
        sys.exit(f"echo_client: {first}")


def measure(options):
    """Run the client and print its measurements."""
    allow_many_files()
    tally = Tally(options.connections * options.messages)
    seconds = result_of(main(options, tally))
    report(options, tally, seconds)


if __name__ == "__main__":
    options = command_line().parse_args()
    with console.quiet_end():
        if options.interactive:
            result_of(Talk(options).main())
        else:
            measure(options)
