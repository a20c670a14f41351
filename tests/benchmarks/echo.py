"""Benchmarks of echo servers: the CPU time, system calls and latency of a message, and the throughput.

The server and the clients are processes of their own. The clients are a C program, or a Python program on a machine
without a C compiler. The Python program is slower than the servers, so its throughput and latency say little. The
server's CPU time and system calls do not depend on the clients.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .catalogue import BARE_TASKS, MINISCHED, RECORDED, Benchmark, Series, Values
from .processes import ANSWER_SECONDS, Process, ProcessFailed, ProcessTimeout, python

HERE = Path(__file__).parent
SERVERS = (
    *(
        MINISCHED,
        "C epoll",
        "bare epoll",
        BARE_TASKS,
        "uvloop protocol",
        "uvloop streams",
        "asyncio protocol",
        "asyncio streams",
    ),
    *("gevent", "trio", "curio", "threads"),
)
LINES = (MINISCHED, "uvloop streams", "asyncio streams", "gevent", "trio", "curio", "threads")
HALVES = (MINISCHED, "uvloop protocol", "uvloop streams", "asyncio protocol", "asyncio streams", "trio", "threads")
UDP_SERVERS = (
    *(MINISCHED, "bare epoll", "uvloop protocol", "asyncio protocol"),
    *("gevent", "trio", "curio", "threads"),
)
LOAD_SECONDS = 2.0  # in a round; the kernel samples user and system time 250 times a second
TRACED_SECONDS = 0.3  # of load under strace
IDLE_CONNECTIONS = 10_000
ROUNDS = 5
MORE_ROUNDS = 15  # of the load whose user time the README states: with 5 rounds its median varies too much
README_LOAD = (100, 1024)  # connections, bytes
LINE_BYTES = 64  # of a line
SIZE_NAMES = {64: "64B", 100: "100B", 1024: "1KB", 65536: "64KB"}
BUILD_DIRECTORY = tempfile.TemporaryDirectory(prefix="minisched-")  # removed when the interpreter ends


@dataclass(frozen=True)
class Echo(Benchmark):
    """A server under load: each of `connections` sends a message of `size` bytes and waits for the echo.

    With `halves`, the server answers in two writes, one after the other. With `lines`, the message consists of
    `lines` lines, and the server reads and answers one after the other.
    """

    connections: int
    size: int
    halves: bool = False
    lines: int = 0

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        syscalls: dict[str, float] = {}
        for _ in range(rounds):
            values: Values = {f"{self.name} syscalls": syscalls}
            for peer in peers:
                for name, value in self.round(peer, syscalls).items():
                    values.setdefault(f"{self.name} {name}", {})[peer] = value
            yield values

    def round(self, peer: str, syscalls: dict[str, float]) -> dict[str, float]:
        """Measure a new server process: two processes of one program can differ by a factor of two."""
        server, port = self.start(peer)
        with server, self.load(peer, port) as clients:
            clients.ask("0.1")  # warm up
            if peer not in syscalls and can_trace():
                syscalls[peer] = count_syscalls(server, clients)
            return under_load(server, clients)

    def start(self, peer: str, under: Sequence[str] = ()) -> tuple[Process, int]:
        """Start the server of a peer, perhaps `under` another command; return its process and its port."""
        module = "line_servers" if self.lines else "echo_servers"
        return start(peer, *["halves"] * self.halves, under=under, module=module)

    def load(self, peer: str, port: int) -> Process:
        """Start the clients of the server."""
        return load(peer, port, self.connections, self.size, self.size // self.lines if self.lines else 0)


@dataclass(frozen=True)
class UdpEcho(Echo):
    """A UDP server under load. There are few clients, so that their datagrams fit into the server's buffer."""

    def start(self, peer: str, under: Sequence[str] = ()) -> tuple[Process, int]:
        """Start the server of a peer, perhaps `under` another command; return its process and its port."""
        return start(peer, under=under, module="udp_servers")

    def load(self, peer: str, port: int) -> Process:
        """Start the clients."""
        return load(peer, port, self.connections, self.size, 0, "udp")


def under_load(server: Process, clients: Process) -> dict[str, float]:
    """Return the CPU time, the throughput and the latency of a message."""
    user, system = cpu_time(server.pid)
    messages, seconds, median, slowest = map(float, clients.ask(str(LOAD_SECONDS)).split())
    user_now, system_now = cpu_time(server.pid)
    user, system = (user_now - user) / messages, (system_now - system) / messages
    figures = {"time": seconds / messages, "p50": median, "p99": slowest}
    return figures | {"user": user, "system": system, "cpu": user + system}


@dataclass(frozen=True)
class Idle(Benchmark):
    """Many idle connections, and one that sends messages."""

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        for _ in range(rounds):
            values: Values = {}
            for peer in peers:
                for name, value in self.round(peer).items():
                    values.setdefault(f"{self.name} {name}", {})[peer] = value
            yield values

    def round(self, peer: str) -> dict[str, float]:
        """Return the memory of an idle connection, and the costs of a message on the busy one."""
        server, port = start(peer)
        with server, load(peer, port, 1, 1024) as clients:
            clients.ask("0.1")
            before = memory_of(server.pid)
            with load(peer, port, IDLE_CONNECTIONS, 1) as idle:
                idle.ask("0", 20 * ANSWER_SECONDS)  # one message on each connection
                memory = (memory_of(server.pid) - before) / IDLE_CONNECTIONS
                busy = under_load(server, clients)
        return {"memory": memory, "cpu": busy["cpu"], "p50": busy["p50"]}


@dataclass(frozen=True)
class ScaleConnections(Benchmark):
    """The CPU time of a message, among more and more busy connections."""

    sizes: tuple[int, ...]

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        parts = [
            Echo(series.name, self.description, 1, self.peers, connections=size, size=1024, series=())
            for size, series in zip(self.sizes, self.series, strict=True)
        ]
        for _ in range(rounds):
            values: Values = {}
            for part in parts:
                for measured in part.measure(peers, 1):
                    values[part.name] = measured[f"{part.name} cpu"]
            yield values


def start(peer: str, *options: str, under: Sequence[str] = (), module: str = "echo_servers") -> tuple[Process, int]:
    """Start the server of a peer, perhaps `under` another command; return its process and its port."""
    if peer == "C epoll":
        server = Process(peer, *under, compiled("epoll.c"))
    else:
        name = peer.replace(" ", "_")
        server = Process(peer, *under, sys.executable, "-m", f"tests.benchmarks.{module}", name, *options)
    try:
        return server, int(server.line(5 * ANSWER_SECONDS))
    except BaseException:
        server.__exit__()
        raise


def load(peer: str, port: int, connections: int, size: int, line: int = 0, *options: str) -> Process:
    """Start the clients of a server and wait until they are connected; an error of theirs is reported as the peer's.

    With `line`, their messages consist of lines of that many bytes.
    """
    arguments = (str(port), str(connections), str(size), str(line), *options)
    if has_compiler():
        clients = Process(peer, compiled("load.c"), *arguments)
    else:
        clients = python(peer, "-m", "tests.benchmarks.load", *arguments)
    try:
        assert clients.line(20 * ANSWER_SECONDS) == "ready"
    except BaseException:
        clients.__exit__()
        raise
    return clients


def has_compiler() -> bool:
    """Return whether there is a C compiler."""
    return shutil.which("cc") is not None


@cache
def compiled(name: str, *options: str) -> str:
    """Compile a C program and return its path."""
    if not has_compiler():
        raise ProcessFailed(f"{name} needs a C compiler, `cc`")
    program = str(Path(BUILD_DIRECTORY.name, name.removesuffix(".c")))
    _ = subprocess.run(["cc", "-O2", *options, "-o", program, str(HERE / name)], check=True)
    return program


def cpu_time(pid: int) -> tuple[float, float]:
    """Return the user CPU time and the system CPU time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@cache
def can_trace() -> bool:
    """Return whether strace is installed and may trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


def count_syscalls(server: Process, clients: Process) -> float:
    """Return the number of system calls for each message; strace makes the server several times slower."""
    with tempfile.NamedTemporaryFile("r") as report:
        command = ["strace", "-c", "-f", "-o", report.name, "-p", str(server.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            if "attached" not in (output := strace.stderr.readline()):
                raise ProcessFailed(f"strace: {output.strip()}")
            try:
                messages = int(clients.ask(str(TRACED_SECONDS)).split()[0])
                strace.send_signal(signal.SIGINT)
                _ = strace.wait(ANSWER_SECONDS)
            except (ProcessTimeout, subprocess.TimeoutExpired):
                strace.kill()  # for example, a thousand threads that all stop at each system call
                raise ProcessTimeout(f"{server.name}: system calls not counted within {ANSWER_SECONDS} s") from None
        *_, total = report.read().strip().splitlines()
    return int(total.split()[3]) / messages  # the fields are: % time, seconds, usecs/call, calls


def echo(connections: int, size: int, peers: tuple[str, ...] = SERVERS, *, halves: bool = False) -> Echo:
    """Return the benchmark of one load."""
    size_name = SIZE_NAMES[size]
    name, load = f"echo_{connections}x{size_name}", f"{connections} connections x {size_name}"
    if halves:
        name, load = f"{name}_halves", f"{load}, answered in two writes"
    rounds = MORE_ROUNDS if (connections, size) == README_LOAD else ROUNDS
    return Echo(
        name, load, rounds, peers, connections=connections, size=size, halves=halves, series=figures(name, load)
    )


def figures(name: str, load: str) -> tuple[Series, ...]:
    """Return the series of one load."""
    return (
        Series(f"{name} user", f"{load}: user CPU time of the server for a message"),
        Series(f"{name} system", f"{load}: system CPU time of the server for a message"),
        Series(f"{name} cpu", f"{load}: both together"),
        Series(f"{name} syscalls", f"{load}: system calls of the server for a message", "syscalls"),
        Series(f"{name} time", f"{load}: 1 / throughput"),
        Series(f"{name} p50", f"{load}: latency, median"),
        Series(f"{name} p99", f"{load}: latency, 99th percentile"),
    )


def udp_echo(connections: int, size: int) -> UdpEcho:
    """Return the benchmark of one load of datagrams."""
    name, load = "echo_udp", f"{connections} clients x {SIZE_NAMES[size]} by UDP"
    series = figures(name, load)
    return UdpEcho(name, load, ROUNDS, UDP_SERVERS, connections=connections, size=size, series=series)


def echo_lines(name: str, lines: int) -> Echo:
    """Return the benchmark of a server that echoes lines; of a message with several, it has to find the ends."""
    connections, _ = README_LOAD
    load = f"{connections} connections x {lines} line{'s' * (lines > 1)} of {LINE_BYTES}B"
    series = [
        Series(f"{name} user", f"{load}: user CPU time of the server for all of them"),
        Series(f"{name} cpu", f"{load}: user and system CPU time"),
        Series(f"{name} syscalls", f"{load}: system calls of the server", "syscalls"),
        Series(f"{name} time", f"{load}: 1 / throughput"),
        Series(f"{name} p50", f"{load}: latency, median"),
        Series(f"{name} p99", f"{load}: latency, 99th percentile"),
    ]
    size = lines * LINE_BYTES
    return Echo(name, load, ROUNDS, LINES, connections=connections, size=size, lines=lines, series=tuple(series))


CONNECTIONS = (10, 100, 1_000, 10_000)
BENCHMARKS: list[Benchmark] = []
if sys.platform == "linux":  # CPU time and memory are read from /proc
    BENCHMARKS = [
        *(echo(connections, size) for connections in (1, 100, 1000) for size in (100, 1024, 65536)),
        echo(5_000, 64, tuple(peer for peer in SERVERS if peer != "threads")),
        echo(1, 64, HALVES, halves=True),
        echo(50, 64, (MINISCHED, RECORDED)),
        echo_lines("echo_lines", 1),
        echo_lines("echo_lines_16", 16),
        udp_echo(10, 1024),
        Idle(
            "idle",
            f"{IDLE_CONNECTIONS:,} idle connections",
            3,
            tuple(peer for peer in SERVERS if peer != "threads"),
            series=(
                Series("idle memory", "memory of one of 10,000 idle connections", "bytes"),
                Series("idle cpu", "one busy connection among them: CPU time of the server for a message"),
                Series("idle p50", "one busy connection among them: latency, median"),
            ),
        ),
        ScaleConnections(
            "scale_echo",
            "busy connections",
            3,
            (MINISCHED, "asyncio streams", "bare epoll"),
            sizes=CONNECTIONS,
            series=tuple(
                Series(f"scale_echo@{size}", f"{size:,} busy connections: CPU time of the server for a message of 1 KB")
                for size in CONNECTIONS
            ),
        ),
    ]
