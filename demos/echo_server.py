"""An echo server: one task for each connection, and on a terminal one more task for a status line.

Shows: `serve` runs a handler in a task of its own for each connection; a handler is a loop of `yield Read`
and `yield Write`; a daemon task shows figures of the kernel and of the handlers twice a second; `serve_workers`
serves in several processes, which add their totals up in shared memory; with --lines, a `Stream` reads lines up
to a limit.

Run it:  python demos/echo_server.py [--port PORT | --unix PATH] [--workers N] [--lines [BYTES]] [--self-signed] ...
         python demos/echo_server.py --udp [--host IP] [--port PORT]
Try it:  nc 127.0.0.1 7777, or python demos/echo_client.py --interactive; with TLS, openssl s_client
Look in: minisched run --trace demos/echo_server.py, or kill -USR1 PID while it runs
"""

import argparse
import errno
import mmap
import os
import shlex
import shutil
import signal
import sys
from contextlib import suppress
from functools import partial
from inspect import signature
from pathlib import Path
from time import monotonic

import console
import self_signed

from minisched import (
    CurrentTask,
    LimitExceeded,
    Now,
    OpenDatagram,
    Read,
    RecvFrom,
    SendTo,
    Sleep,
    Spawn,
    Stream,
    Write,
    run,
    serve,
    serve_unix,
    serve_workers,
)

CLIENT = Path(__file__).with_name("echo_client.py")
STATUS_SIGNAL = getattr(signal, "SIGUSR1", None)  # logs the connections and the tasks; Windows has no such signal
READ_BYTES = 65536
SLOTS = 65536  # of the totals: more than there are processes at a time
NUMBERS_BYTES = 3 * 8  # in a slot: the connections, reads and bytes of a process, as integers of 64 bits


class Totals:
    """The numbers of all processes, in memory that they share. Each one adds to a slot of its own, without a lock."""

    def __init__(self):
        self.numbers = memoryview(mmap.mmap(-1, SLOTS * NUMBERS_BYTES)).cast("Q")

    def add(self, *numbers):
        """Add the connections, reads and bytes."""
        first = 3 * (os.getpid() % SLOTS)
        for index, number in enumerate(numbers, first):
            self.numbers[index] += number

    def __iter__(self):
        return (sum(self.numbers[index::3]) for index in range(3))


class Echo:
    """The server's handler, and its counters: those of open connections, and the totals of ended ones."""

    def __init__(self, lines=None, tls=None):
        self.lines = lines  # the most bytes of a line; None: bytes are sent back as they come
        self.tls = tls  # a context for TLS, or None
        self.started = None  # the time at which the server began to listen
        self.open = self.reads = self.bytes = 0
        self.totals = Totals()

    def handle(self, conn):
        """Send back all bytes, or all lines, until the peer closes the connection."""
        read = Stream(conn, self.lines).readline if self.lines else partial(Read, conn, READ_BYTES)
        self.open += 1
        reads = size = 0
        try:
            while data := (yield read()):
                yield Write(conn, data)
                reads += 1
                size += len(data)
                self.reads += 1
                self.bytes += len(data)
        except LimitExceeded as error:
            yield from refuse(conn, f"{error}\n".encode())
        finally:
            self.open -= 1
            self.totals.add(1, reads, size)

    def live_line(self):
        """Update a status line on the terminal, twice a second."""
        kernel = (yield CurrentTask()).kernel
        then, reads, size = (yield Now()), 0, 0
        try:
            while True:
                yield Sleep(0.5)
                now = yield Now()
                parts = self.figures((self.reads - reads) / (now - then), (self.bytes - size) / (now - then), kernel)
                line = console.fitted(parts, console.columns(sys.stdout) - 1)  # in the last column, some terminals wrap
                console.say(f"\r{line}\x1b[K", end="")  # redraw the line and clear the rest of it
                then, reads, size = now, self.reads, self.bytes
        finally:
            console.say("\r\x1b[K", end="")

    def figures(self, reads, size, kernel):
        """Return the parts of the status line, the most important first. One Read may return several messages."""
        parts = [console.counted(self.open, "connection"), f"{reads:,.0f} reads/s", f"{console.size(size)}/s"]
        return [*parts, f"{console.counted(len(kernel.ready), 'task')} ready to run"]

    def ready(self, listener):
        """Print the address of the server, and note the time."""
        self.started = self.started or monotonic()
        announce(listener, self.tls)

    def print_totals(self):
        """Print what the server did from its start to its end, if it has started."""
        if self.started is None:
            return
        connections, reads, size = self.totals
        done = f"{console.counted(connections, 'connection')}, {console.counted(reads, 'read')}, {console.size(size)}"
        console.say(f"served {done} in {console.duration(monotonic() - self.started)}")


def refuse(conn, answer):
    """Send a last answer, and read on: a connection that is closed before would be reset, and the answer lost."""
    stream = Stream(conn)
    yield stream.write(answer)
    yield stream.write_eof()
    while (yield stream.read(READ_BYTES)):
        pass


def main(host="127.0.0.1", port=7777, unix=None, lines=None, tls=None, **limits):
    """Serve until cancelled, for example by Ctrl-C."""
    echo = Echo(lines, tls)
    if console.is_terminal(sys.stdout):
        yield Spawn(echo.live_line(), daemon=True)
    limits["status_signal"] = STATUS_SIGNAL
    try:
        if unix:
            yield from serve_unix(echo.handle, unix, tls=tls, ready=echo.ready, **limits)
        else:
            yield from serve(echo.handle, host, int(port), tls=tls, ready=echo.ready, **limits)
    finally:
        echo.print_totals()


def main_udp(host="127.0.0.1", port=7777):
    """Send each datagram back to its sender, until cancelled; pass over senders that cannot be reached."""
    with (yield OpenDatagram((host, port))) as sock:
        where, nc, _ = whereabouts(sock)
        console.say(f"receiving datagrams at {where}; try: {nc.replace('nc', 'nc -u')} (Ctrl-C stops)")
        while True:
            data, sender = yield RecvFrom(sock)
            with suppress(OSError):
                yield SendTo(sock, data, sender)


def announce(listener, tls=None):
    """Print the address of the server, and how to try it."""
    where, nc, client = whereabouts(listener)
    if tls is None:
        python, program = (shlex.quote(os.path.relpath(path)) for path in (sys.executable, CLIENT))
        by_hand = "" if shutil.which("nc") else " --interactive"
        commands = f"{nc}, or: {python} {program} {client}{by_hand}"
    else:
        where, commands = f"{where} with TLS", self_signed.command(listener.address)
    console.say(f"listening on {where}; try: {commands} (Ctrl-C stops)")


def whereabouts(listener):
    """Return the address of a listener in three forms: as text, as a command with nc, and as command line options."""
    address = listener.address
    if isinstance(address, str):
        return address, f"nc -U {shlex.quote(address)}", f"--unix {shlex.quote(address)}"
    host, port = address[:2]
    return host_and_port(address), f"nc {host} {port}", f"--host {host} --port {port}"


def host_and_port(address):
    """Return an address as text: host:port, [host]:port for IPv6, or the path of a Unix socket."""
    if isinstance(address, str):
        return address
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_options(description):
    """Return an argument parser with the options for a server's address; the client uses it, too."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1", help="host name or address; default: %(default)s")
    text = "number from 0 to 65,535; default: %(default)s"
    parser.add_argument("--port", type=console.whole(0, 65535), default=7777, metavar="N", help=text)
    parser.add_argument("--unix", metavar="PATH", help="path of a Unix socket, in place of a host and a port")
    return parser


def server_options(description):
    """Return an argument parser with the address and the limits of a server. The defaults are those of `serve`."""
    parser = address_options(description)
    if STATUS_SIGNAL is not None:
        parser.epilog = "The signal USR1 (kill -USR1 PID) logs the connections and the tasks of the server."
    defaults = {name: parameter.default for name, parameter in signature(serve).parameters.items()}
    text = "number of connections served at once; default: 10,000, or as many as the limit of open files allows"
    parser.add_argument("--max-connections", type=console.whole(1), metavar="N", help=text)
    text = "close a connection after it has been idle for this long; inf: never; default: %(default)g"
    idle, default = console.seconds("more than 0"), defaults["idle_timeout"]
    parser.add_argument("--idle-timeout", type=idle, default=default, metavar="SECONDS", help=text)
    text = "time for open connections to finish when the server stops; inf: any time; default: %(default)g"
    parser.add_argument("--grace", type=console.seconds(), default=defaults["grace"], metavar="SECONDS", help=text)
    return parser


def limits_of(options):
    """Return the limits as keyword arguments for `serve`."""
    return {name: getattr(options, name) for name in ("max_connections", "idle_timeout", "grace")}


def fail(program, options, error):
    """Exit with one line about an address that cannot be used, or a limit that is out of range."""
    where = options.unix or host_and_port((options.host, options.port))
    text = getattr(error, "strerror", None) or str(error)
    in_use = getattr(error, "errno", None) == errno.EADDRINUSE and not options.unix
    hint = " (--port 0 takes any free port)" if in_use else ""
    sys.exit(f"{program}: {where}: {text}{hint}")


def serve_in_processes(options, tls=None):
    """Serve in several processes until Ctrl-C, and print their totals."""
    echo = Echo(options.lines, tls)
    address = options.unix or (options.host, options.port)
    try:
        limits = limits_of(options) | {"status_signal": STATUS_SIGNAL}
        serve_workers(echo.handle, address, workers=options.workers, tls=tls, ready=echo.ready, **limits)
    finally:
        echo.print_totals()


if __name__ == "__main__":
    parser = server_options("An echo server. Port 0 means any free port.")
    text = "number of processes; default: %(default)s"
    parser.add_argument("--workers", type=console.whole(1), default=1, metavar="N", help=text)
    text = "echo line by line; BYTES is the most in a line, with its newline; default: %(const)s"
    parser.add_argument("--lines", type=console.whole(1), nargs="?", const=65536, metavar="BYTES", help=text)
    parser.add_argument("--udp", action="store_true", help="echo datagrams: without connections, and their limits")
    self_signed.add_options(parser)
    options = parser.parse_args()
    if options.udp and (options.unix or options.workers > 1):
        parser.error("--udp takes a host and a port, and one process")
    with console.quiet_end():
        tls = self_signed.context_of(options)
        try:
            if options.udp:
                run(main_udp(options.host, options.port))
            elif options.workers == 1:
                run(main(options.host, options.port, options.unix, options.lines, tls, **limits_of(options)))
            else:
                serve_in_processes(options, tls)
        except (OSError, ValueError) as error:
            fail("echo_server", options, error)
