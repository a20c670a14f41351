"""An echo server: one task for each connection, and on a terminal one more that shows what goes on.

Shows: `serve` makes a task of a handler for each connection; a handler is a loop of `yield Read`
and `yield Write`; a daemon task looks at the kernel twice a second, while the others work;
`serve_workers` does the same in several processes.

Run it:  python demos/echo_server.py [--host HOST] [--port PORT | --unix PATH] [--workers N] [--grace SECONDS] ...
Try it:  nc 127.0.0.1 7777, or python demos/echo_client.py
Look in: minisched run --trace demos/echo_server.py
"""

import argparse
import os
import sys

from minisched import CurrentTask, Now, Read, Sleep, Spawn, Write, run, serve, serve_unix, serve_workers


class Echo:
    """The server's handler and what it counts; a message is what one Read brought."""

    def __init__(self):
        self.connections = self.messages = self.bytes = 0

    def handle(self, conn):
        """Send back what comes, until the other side has no more."""
        self.connections += 1
        try:
            while data := (yield Read(conn, 65536)):
                yield Write(conn, data)
                self.messages += 1
                self.bytes += len(data)
        finally:
            self.connections -= 1

    def live_line(self):
        """Keep one line of the terminal up to date."""
        kernel = (yield CurrentTask()).kernel
        then, messages, size = (yield Now()), 0, 0
        try:
            while True:
                yield Sleep(0.5)
                now = yield Now()
                seconds, then = now - then, now
                parked = sum(1 for task in kernel.tasks() if task.state == "parked")
                line = (
                    f"connections {self.connections}, messages/s {(self.messages - messages) / seconds:,.0f}, "
                    f"bytes/s {(self.bytes - size) / seconds:,.0f}, tasks ready {len(kernel.ready)}, parked {parked}"
                )
                print(f"\r{line}\x1b[K", end="", flush=True)  # back to the left, and clear the rest of the line
                messages, size = self.messages, self.bytes
        finally:
            print()


def main(host="127.0.0.1", port=7777, unix=None, **limits):
    """Serve until cancelled: Ctrl-C does that."""
    echo = Echo()
    if sys.stdout.isatty():
        yield Spawn(echo.live_line(), daemon=True)
    if unix:
        yield from serve_unix(echo.handle, unix, ready=announce, **limits)
    else:
        yield from serve(echo.handle, host, int(port), ready=announce, **limits)


def announce(listener):
    """Say where the server listens, and how to try it."""
    where, nc, client = whereabouts(listener)
    python = os.path.relpath(sys.executable)
    print(f"listening on {where}; try: {nc}, or: {python} demos/echo_client.py {client} (Ctrl-C stops)", flush=True)


def whereabouts(listener):
    """Return where a server listens, as it is said, as it is said to nc, and as options."""
    address = listener.address
    if isinstance(address, str):
        return address, f"nc -U {address}", f"--unix {address}"
    host, port = address[:2]
    return f"{host}:{port}", f"nc {host} {port}", f"--host {host} --port {port}"


def address_options(description):
    """Return a parser that knows where a server listens; the client's begins with it too."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=7777, help="default: %(default)s")
    parser.add_argument("--unix", metavar="PATH", help="a Unix path instead of a host and a port")
    return parser


def server_options(description):
    """Return a parser that knows the limits of a server, too, each with the name and the default that `serve` has."""
    parser = address_options(description)
    parser.add_argument("--max-connections", type=int, metavar="N", help="default: 10,000, or as files allow")
    said = "after which a connection that waits for its peer in vain is cut; inf: never; default: %(default)g"
    parser.add_argument("--idle-timeout", type=float, default=600, metavar="SECONDS", help=said)
    said = "that connections have to come to their ends when the server is stopped; default: %(default)g"
    parser.add_argument("--grace", type=float, default=5, metavar="SECONDS", help=said)
    return parser


def limits_of(options):
    """Return the limits as `serve` takes them."""
    return {name: getattr(options, name) for name in ("max_connections", "idle_timeout", "grace")}


if __name__ == "__main__":
    parser = server_options("Send back whatever comes. Port 0: any free one.")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    options = parser.parse_args()
    try:
        if options.workers == 1:
            run(main(options.host, options.port, options.unix, **limits_of(options)))
        else:
            address = options.unix or (options.host, options.port)
            serve_workers(Echo().handle, address, workers=options.workers, ready=announce, **limits_of(options))
    except (OSError, ValueError) as error:  # the port is taken, or out of range; the path exists; a limit is none
        where = options.unix or f"{options.host}:{options.port}"
        sys.exit(f"echo_server: {where}: {getattr(error, 'strerror', None) or error}")
    except KeyboardInterrupt:
        sys.exit(130)
