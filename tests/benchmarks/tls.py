"""Benchmarks of echo servers with TLS: 1.3, with a certificate of an elliptic curve.

The server and the clients are processes of their own. The clients are a Python program, which takes more time for a
message than the servers. So only the server's CPU time says much.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .catalogue import MINISCHED, Benchmark, Series
from .echo import ANSWER_SECONDS, Echo
from .processes import Process, python

SERVERS = (
    *(MINISCHED, "uvloop protocol", "uvloop streams", "asyncio protocol", "asyncio streams"),
    *("trio", "threads"),
)


@dataclass(frozen=True)
class EchoTls(Echo):
    """A server with TLS under load."""

    def start(self, peer: str, under: Sequence[str] = ()) -> tuple[Process, int]:
        """Start the server of a peer; return its process and its port."""
        server = Process(peer, *under, sys.executable, "-m", "tests.benchmarks.tls_servers", peer.replace(" ", "_"))
        try:
            return server, int(server.line(5 * ANSWER_SECONDS))
        except BaseException:
            server.__exit__()
            raise

    def load(self, peer: str, port: int) -> Process:
        """Start the clients of a server, and wait until they are connected."""
        clients = python(peer, "-m", "tests.benchmarks.tls_load", str(port), str(self.connections), str(self.size))
        try:
            assert clients.line(20 * ANSWER_SECONDS) == "ready"
        except BaseException:
            clients.__exit__()
            raise
        return clients


def echo_tls(connections: int, size: int, peers: tuple[str, ...] = SERVERS) -> EchoTls:
    """Return the benchmark of one load."""
    load = f"{connections} connections x {size:,} bytes with TLS"
    figures = (
        Series("echo_tls user", f"{load}: user CPU time of the server for a message"),
        Series("echo_tls system", f"{load}: system CPU time of the server for a message"),
        Series("echo_tls cpu", f"{load}: both together"),
        Series("echo_tls syscalls", f"{load}: system calls of the server for a message", "syscalls"),
        Series("echo_tls time", f"{load}: 1 / throughput"),
        Series("echo_tls p50", f"{load}: latency, median"),
        Series("echo_tls p99", f"{load}: latency, 99th percentile"),
    )
    return EchoTls("echo_tls", load, 5, peers, connections=connections, size=size, series=figures)


BENCHMARKS: list[Benchmark] = [echo_tls(100, 1024)] if sys.platform == "linux" else []
