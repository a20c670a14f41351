"""An echo server: one task for each connection, and on a terminal one more that shows what goes on.

Shows: `serve` makes a task of a handler for each connection; a handler is a loop of `yield Read`
and `yield Write`; a daemon task looks at the kernel twice a second, while the others work.

Run it:  python demos/echo_server.py [--host HOST] [--port PORT | --unix PATH]
Try it:  nc 127.0.0.1 7777, or python demos/echo_client.py
Look in: minisched run --trace demos/echo_server.py
"""

import argparse
import os
import sys

from minisched import CurrentTask, Now, Read, Sleep, Spawn, Write, run, serve, serve_unix


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


def main(host="127.0.0.1", port=7777, unix=None):
    """Serve until cancelled: Ctrl-C does that."""
    echo = Echo()
    if sys.stdout.isatty():
        yield Spawn(echo.live_line(), daemon=True)
    if unix:
        yield from serve_unix(echo.handle, unix, ready=announce)
    else:
        yield from serve(echo.handle, host, int(port), ready=announce)


def announce(listener):
    """Say where the server listens, and how to try it."""
    address = listener.address
    if isinstance(address, str):
        where, tool, client = address, f"nc -U {address}", f"--unix {address}"
    else:
        host, port = address[:2]
        where, tool, client = f"{host}:{port}", f"nc {host} {port}", f"--host {host} --port {port}"
    python = os.path.relpath(sys.executable)
    print(f"listening on {where}; try: {tool}, or: {python} demos/echo_client.py {client} (Ctrl-C stops)", flush=True)


def address_options(description):
    """Return a parser that knows where a server listens; the client's begins with it too."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=7777, help="default: %(default)s")
    parser.add_argument("--unix", metavar="PATH", help="a Unix path instead of a host and a port")
    return parser


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


if __name__ == "__main__":
    options = address_options("Send back whatever comes. Port 0: any free one.").parse_args()
    allow_many_files()
    try:
        run(main(options.host, options.port, options.unix))
    except (OSError, ValueError) as error:  # the port is taken, or out of range; the path exists
        where = options.unix or f"{options.host}:{options.port}"
        sys.exit(f"echo_server: {where}: {getattr(error, 'strerror', None) or error}")
    except KeyboardInterrupt:
        sys.exit(130)
