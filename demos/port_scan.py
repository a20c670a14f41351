"""A port scanner: which TCP ports of this machine take connections?

Shows: a task for each port, of which a CapacityLimiter lets some connect at a time; a Timeout for each attempt, which
ends in one of three ways (open, closed, silent); a host name, resolved without blocking the run; and a
report of what was found so far, after Ctrl-C too.

Run it:  python demos/port_scan.py [PORTS] [--at-once N] [--timeout SECONDS]
Try it:  python demos/port_scan.py 7000-8000, while python demos/echo_server.py runs
"""

import argparse
import errno
import socket
import sys
from ipaddress import ip_address
from time import perf_counter

import console

from minisched import CapacityLimiter, Connect, Resolve, TimedOut, Timeout, group, run

NO_FILES_ERRNOS = (errno.EMFILE, errno.ENFILE)
OPEN, CLOSED, SILENT = "open", "closed", "silent"


class ScanError(Exception):
    """The host cannot be scanned, or the scan cannot go on."""


class Scan:
    """The scan of one address, and the answers of its ports so far."""

    def __init__(self, address, ports, at_once, timeout):
        self.address = address
        self.ports = ports
        self.limiter = CapacityLimiter(at_once)
        self.timeout = timeout
        self.answers = {}  # by port: OPEN, CLOSED or SILENT

    def probe_all(self, team):
        """Start a task for each port. They wait for each other at the limiter."""
        for port in self.ports:
            yield team.spawn(self.probe(port), f"port {port}")

    def probe(self, port):
        """Connect to a port, and note how it answers."""
        with (yield self.limiter.acquire()):
            try:
                with (yield Timeout(self.timeout)):
                    conn = yield Connect((*self.address[:1], port, *self.address[2:]))
            except TimedOut:
                self.answers[port] = SILENT
            except ConnectionRefusedError:
                self.answers[port] = CLOSED
            except OSError as error:
                if error.errno in NO_FILES_ERRNOS:
                    raise ScanError(f"{error.strerror}: try a smaller --at-once") from None
                self.answers[port] = SILENT  # for example "no route to host", which a firewall may send
            else:
                conn.close()
                self.answers[port] = OPEN

    def report(self, seconds):
        """Print the open ports, with the services that usually have them, and a summary."""
        for port in sorted(self.answers):
            if self.answers[port] is OPEN:
                print(f"{port:6}  open  {service_of(port)}".rstrip())
        counts = [f"{list(self.answers.values()).count(answer):,} {answer}" for answer in (OPEN, CLOSED, SILENT)]
        stopped = "" if len(self.answers) == len(self.ports) else f" of {len(self.ports):,}"
        ports = console.counted(len(self.answers), "port")
        print(f"{ports}{stopped} in {console.duration(seconds)}: {', '.join(counts)}")


def service_of(port):
    """Return the name of the service that usually has a port, "" if there is none."""
    try:
        return socket.getservbyport(port, "tcp")
    except OSError:
        return ""


def address_of(host, anywhere):
    """Look a host up; return its first address. Refuse any that is not this machine's own, unless `anywhere`."""
    try:
        found = yield Resolve(host, 0)
    except OSError as error:
        raise ScanError(error.strerror) from None
    address = found[0].address
    if not (anywhere or ip_address(address[0].partition("%")[0]).is_loopback):
        raise ScanError(
            f"{host} is another machine. If its owner agrees to a scan, name it by --host {host}. Nothing was sent."
        )
    return address


def main(options):
    """Scan the ports, and report what was found, even if Ctrl-C ends the scan."""
    host = options.host or options.target
    address = yield from address_of(host, anywhere=options.host is not None)
    scan = Scan(address, options.ports, options.at_once, options.timeout)
    name = host if host == address[0] else f"{host} ({address[0]})"
    print(f"scanning {console.counted(len(scan.ports), 'port')} of {name}, {options.at_once:,} at once")
    start = perf_counter()
    try:
        yield from group(scan.probe_all)
    finally:
        scan.report(perf_counter() - start)


def port_list(text):
    """Return the ports that a text names, such as "22,80,8000-8100", in order and each once; an argparse type."""
    port = console.whole(1, 65535)
    ports = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start, end = port(first), port(last if dash else first)
        if start > end:
            raise argparse.ArgumentTypeError(f"expected a range from a lower to a higher port, not {part!r}")
        ports.update(dict.fromkeys(range(start, end + 1)))
    return list(ports)


def command_line():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(description="Find the TCP ports of this machine that take connections.")
    text = "ports such as 80, 1-1024 or 22,80,8000-8100; default: 1-1024"
    parser.add_argument("ports", type=port_list, nargs="?", default="1-1024", metavar="PORTS", help=text)
    text = "a name or address of this machine; default: %(default)s"
    parser.add_argument("target", nargs="?", default="127.0.0.1", metavar="HOST", help=text)
    text = "scan another machine, whose owner agrees to it"
    parser.add_argument("--host", metavar="HOST", help=text)
    text = "number of attempts at a time; default: %(default)s"
    parser.add_argument("--at-once", type=console.whole(1, 10_000), default=100, metavar="N", help=text)
    text = "time for a port to answer; default: %(default)g"
    timeout = console.seconds("more than 0")
    parser.add_argument("--timeout", type=timeout, default=1.0, metavar="SECONDS", help=text)
    return parser


def result_of(body):
    """Run a main task; exit with one line for a ScanError."""
    try:
        run(body)
    except (ScanError, ExceptionGroup) as error:
        first = console.first_error(error)
        if not isinstance(first, ScanError):
            raise
        sys.exit(f"port_scan: {first}")


if __name__ == "__main__":
    options = command_line().parse_args()
    with console.quiet_end():
        result_of(main(options))
