"""Benchmarks of echo servers: what a message costs the server, and how long it takes, under a load from outside.

The load comes from a C program that is compiled for it; where there is no compiler, from one in
Python, which is slower than the servers and so says little of how much they could bear. What a
message costs the server in processor time and in system calls does not depend on that.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .catalogue import OURS, SHAPE, Benchmark, Series, Values
from .processes import PATIENCE, Failed, Process, Slow, python

HERE = Path(__file__).parent
SERVERS = (
    *(OURS, "C epoll", "bare epoll", SHAPE, "uvloop protocol", "uvloop streams", "asyncio protocol", "asyncio streams"),
    *("gevent", "trio", "curio", "threads"),
)
SECONDS = 2.0  # of load in a round; who uses the processor, the program or the system, is seen 250 times a second
TRACED = 0.3  # seconds of load under strace
IDLE = 10_000
ROUNDS = 5
PROMISED = (100, 1024)  # connections, bytes: what is said elsewhere of its own time needs more rounds
MORE_ROUNDS = 15  # of five, ours was 0.54 to 0.80 of asyncio's protocol; of fifteen, 0.70 to 0.73 (echo_100x1KB)
CALLED = {100: "100B", 1024: "1KB", 65536: "64KB"}
BUILT = tempfile.TemporaryDirectory(prefix="minisched-")  # gone when the interpreter ends


@dataclass(frozen=True)
class Echo(Benchmark):
    """A server under load: so many connections, that each send a message of so many bytes and wait for it."""

    connections: int
    size: int

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        calls: dict[str, float] = {}
        for _ in range(rounds):
            values: Values = {f"{self.name} calls": calls}
            for peer in peers:
                for name, value in self.round(peer, calls).items():
                    values.setdefault(f"{self.name} {name}", {})[peer] = value
            yield values

    def round(self, peer: str, calls: dict[str, float]) -> dict[str, float]:
        """Put a server under load, a new one: of two that run the same, one is up to twice as fast as the other."""
        server, port = start(peer)
        with server, load(peer, port, self.connections, self.size) as clients:
            clients.ask("0.1")  # the first time does not count
            if peer not in calls and can_trace():
                calls[peer] = traced(server, clients)
            return under_load(server, clients)


def under_load(server: Process, clients: Process) -> dict[str, float]:
    """Return what a message costs the server, and how long it takes."""
    user, system = processor_time(server.pid)
    messages, seconds, median, slowest = map(float, clients.ask(str(SECONDS)).split())
    user_now, system_now = processor_time(server.pid)
    user, system = (user_now - user) / messages, (system_now - system) / messages
    figures = {"time": seconds / messages, "p50": median, "p99": slowest}
    return figures | {"user": user, "system": system, "processor": user + system}


@dataclass(frozen=True)
class Idle(Benchmark):
    """Many connections that say nothing, and one among them that talks."""

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        found: dict[str, tuple[float, list[tuple[float, float]]]] = {}
        for peer in peers:
            server, port = start(peer)
            with server, load(peer, port, 1, 1024) as clients:
                clients.ask("0.1")
                before = memory_of(server.pid)
                with load(peer, port, IDLE, 1) as idle:
                    idle.ask("0", patience=20 * PATIENCE)  # each is served once
                    held = (memory_of(server.pid) - before) / IDLE
                    found[peer] = held, [one_among_many(server, clients) for _ in range(rounds)]
        for number in range(rounds):
            yield {
                "idle memory": {peer: held for peer, (held, _) in found.items()},
                "idle processor": {peer: active[number][0] for peer, (_, active) in found.items()},
                "idle p50": {peer: active[number][1] for peer, (_, active) in found.items()},
            }


def one_among_many(server: Process, clients: Process) -> tuple[float, float]:
    """Return the processor time of a message, and the median time that one takes."""
    before = sum(processor_time(server.pid))
    messages, _, median, _ = map(float, clients.ask(str(SECONDS)).split())
    return (sum(processor_time(server.pid)) - before) / messages, median


@dataclass(frozen=True)
class ScaleConnections(Benchmark):
    """What a message costs the server, among more and more connections that all talk."""

    sizes: tuple[int, ...]

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        parts = [
            Echo(series.name, self.what, 1, self.peers, connections=size, size=1024, series=())
            for size, series in zip(self.sizes, self.series, strict=True)
        ]
        for _ in range(rounds):
            values: Values = {}
            for part in parts:
                for measured in part.measure(peers, 1):
                    values[part.name] = measured[f"{part.name} processor"]
            yield values


def start(peer: str) -> tuple[Process, int]:
    """Start a peer's server; return its process and its port."""
    if peer == "C epoll":
        server = Process(peer, compiled("epoll.c"))
    else:
        server = python(peer, "-m", "tests.benchmarks.echo_servers", peer.replace(" ", "_"))
    try:
        return server, int(server.line())
    except BaseException:
        server.__exit__()
        raise


def load(peer: str, port: int, connections: int, size: int) -> Process:
    """Start the clients of a peer's server, and let them connect. What goes wrong with them is the peer's."""
    arguments = (str(port), str(connections), str(size))
    if has_compiler():
        clients = Process(peer, compiled("load.c"), *arguments)
    else:
        clients = python(peer, "-m", "tests.benchmarks.load", *arguments)
    try:
        assert clients.line(patience=20 * PATIENCE) == "ready"
    except BaseException:
        clients.__exit__()
        raise
    return clients


def has_compiler() -> bool:
    """Return whether there is a C compiler."""
    return shutil.which("cc") is not None


@cache
def compiled(name: str, *options: str) -> str:
    """Compile a C program; return where it is."""
    if not has_compiler():
        raise Failed(f"{name} needs a C compiler, called cc")
    program = str(Path(BUILT.name, name.removesuffix(".c")))
    _ = subprocess.run(["cc", "-O2", *options, "-o", program, str(HERE / name)], check=True)
    return program


def processor_time(pid: int) -> tuple[float, float]:
    """Return the seconds of processor time that a process has used, its own and the operating system's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def memory_of(pid: int) -> int:
    """Return the bytes that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@cache
def can_trace() -> bool:
    """Return whether system calls can be counted."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


def traced(server: Process, clients: Process) -> float:
    """Return how many system calls a message costs the server. Being watched slows it down several times."""
    with tempfile.NamedTemporaryFile("r") as report:
        command = ["strace", "-c", "-f", "-o", report.name, "-p", str(server.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            if "attached" not in (said := strace.stderr.readline()):
                raise Failed(f"strace: {said.strip()}")
            try:
                messages = int(clients.ask(str(TRACED)).split()[0])
                strace.send_signal(signal.SIGINT)
                _ = strace.wait(PATIENCE)
            except (Slow, subprocess.TimeoutExpired):
                strace.kill()  # a thousand threads, say, each of which stops at each call
                raise Slow(f"{server.name}: it takes more than {PATIENCE} s to count its system calls") from None
        *_, total = report.read().strip().splitlines()
    return int(total.split()[3]) / messages  # after the share of the time, seconds, and usecs a call


def echo(connections: int, size: int) -> Echo:
    """Return the benchmark of a load."""
    called = CALLED[size]
    name, what = f"echo_{connections}x{called}", f"{connections} connections x {called}"
    figures = [
        Series(f"{name} user", f"{what}: the server's own processor time for a message"),
        Series(f"{name} system", f"{what}: the operating system's, for it"),
        Series(f"{name} processor", f"{what}: both"),
        Series(f"{name} calls", f"{what}: system calls for a message", "calls"),
        Series(f"{name} time", f"{what}: time for each message, of the throughput"),
        Series(f"{name} p50", f"{what}: from a message to its end, the median"),
        Series(f"{name} p99", f"{what}: the same, of the slowest of a hundred"),
    ]
    rounds = MORE_ROUNDS if (connections, size) == PROMISED else ROUNDS
    return Echo(name, what, rounds, SERVERS, connections=connections, size=size, series=tuple(figures))


CONNECTIONS = (10, 100, 1_000, 10_000)
BENCHMARKS: list[Benchmark] = []
if sys.platform == "linux":  # what a process uses is asked of /proc
    BENCHMARKS = [
        *(echo(connections, size) for connections in (1, 100, 1000) for size in CALLED),
        Idle(
            "idle",
            f"{IDLE:,} connections that say nothing",
            5,
            tuple(peer for peer in SERVERS if peer != "threads"),
            series=(
                Series("idle memory", "memory for each of 10,000 idle connections", "bytes"),
                Series("idle processor", "one that talks among them: processor time for a message"),
                Series("idle p50", "one that talks among them: from a message to its end, the median"),
            ),
        ),
        ScaleConnections(
            "scale_echo",
            "connections that all talk",
            3,
            (OURS, "asyncio streams", "bare epoll"),
            sizes=CONNECTIONS,
            series=tuple(
                Series(f"scale_echo@{size}", f"{size:,} connections: processor time for a message of 1 KB")
                for size in CONNECTIONS
            ),
        ),
    ]
