"""A server under all attacks at once, for a minute: no verified byte is lost, and nothing is left behind.

The environment variable MINISCHED_ATTACK_SECONDS makes it shorter or longer.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from time import monotonic, sleep

import pytest
from helpers import no_file_is_left_open  # noqa: F401
from programs import SECONDS, started
from servers import LOCAL, RESET, come_true, dial, serving

pytestmark = [
    pytest.mark.slow,  # a minute
    pytest.mark.skipif(sys.platform != "linux", reason="files and threads of a process are read from /proc"),
]
ATTACK_SECONDS = float(os.environ.get("MINISCHED_ATTACK_SECONDS", "60"))
IDLE_SECONDS = max(5.0, ATTACK_SECONDS / 6)  # an idle_timeout that the verified clients never reach
VERIFIED_CONNECTIONS = 500  # no byte of them is lost
MAX_FILES = VERIFIED_CONNECTIONS + 150  # of the server: fewer than all attackers together need

# The server. The first bytes of a connection choose what its handler does.
SERVER = f"""
import gc, resource, threading, time
sys.path.insert(0, {os.path.dirname(__file__)!r})
from helpers import Ask
from servers import held
from minisched import testing

resource.setrlimit(resource.RLIMIT_NOFILE, ({MAX_FILES}, {MAX_FILES}))
os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600), 2)

class Full(logging.Handler):
    def emit(self, record):
        raise OSError(28, "No space left on device")

class BadText(Exception):
    __str__ = __repr__ = property(lambda self: 1 / 0)

class BadNotes(Exception):
    __notes__ = property(lambda self: 1 / 0)

def deep():
    error = ValueError("deepest")
    for level in range(2000):
        error = ExceptionGroup("level", [error])
    return error

FAILURES = [deep, BadText, BadNotes, MemoryError, StopIteration, lambda: Cancelled("own"),
            lambda: ConnectionResetError(104, "\\nCRITICAL forged")]

def child(depth):
    if depth == 0:
        raise ValueError("a child")
    yield Spawn(child(depth - 1))
    yield Sleep(100)

def handler(conn):
    data = yield Read(conn, 65536)
    if data[:1] == b"!":
        return (yield from ATTACKS[data[1:2]](conn, data[2:]))
    while data:
        yield Write(conn, data)
        data = yield Read(conn, 65536)

def fails(conn, number):
    raise FAILURES[int(number) % len(FAILURES)]()
    yield

def has_failing_children(conn, number):
    yield Spawn(child(20))
    yield Sleep(100)

def writes_without_end(conn, data):
    while True:
        yield Write(conn, bytes(65536))

def opens_more_files(conn, data):
    copies = []
    try:
        for _ in range(2):
            copies.append(os.dup(conn.fileno()))
        yield Read(conn, 100)
    finally:
        for fd in copies:
            os.close(fd)

def closes_its_number(conn, data):
    os.close(conn.fileno())
    return  # at once: in the next turn, the number may be that of another connection
    yield

def uses_a_thread(conn, data):
    yield InThread(time.sleep, 0.01)
    yield Write(conn, b"done")

def reports(conn, data):
    state = yield Ask(held)
    names = [name for name in state["tasks"] if not name.startswith("handler-")]
    yield Write(conn, repr((names, len(state["tasks"]), len(state["watched"]), len(state["files"]))).encode())

ATTACKS = {{b"f": fails, b"c": has_failing_children, b"w": writes_without_end, b"g": opens_more_files,
           b"n": closes_its_number, b"t": uses_a_thread, b"h": reports}}

def files():
    return sorted(os.listdir("/dev/fd"))

def living_tasks():
    return [thing.name for thing in gc.get_objects() if type(thing) is Task and thing.state != "done"]

logging.getLogger().handlers[:] = [Full()]
before = files()
try:
    run(serve(handler, {LOCAL!r}, 0, max_connections=5000, idle_timeout={IDLE_SECONDS}, grace=1, ready=ready,
              status_signal=signal.SIGUSR1))
except SystemExit as end:
    status = end.code
gc.collect()
end = time.monotonic() + 20
while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < end:
    time.sleep(0.01)
try:
    children = os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    children = None
threads = len(os.listdir("/proc/self/task"))
say("ended with", status, "files", files() == before, "threads", threads, "children", children, "tasks", living_tasks())
"""

# The start of both programs of clients: their arguments are the port, and for how many seconds they run.
CLIENTS = f"""
import os, random, selectors, socket, sys, threading, time

PORT, END = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
PATIENCE = {SECONDS}

def dial():
    sock = socket.create_connection(({LOCAL!r}, PORT), PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock

def say(*words):
    print(*words, flush=True)
"""

VERIFYING = (
    CLIENTS
    + """
class Client:
    def __init__(self, number):
        self.sock, self.rest, self.expected, self.due = dial(), b"", b"", 0.0
        self.head = b"v%d " % number
        self.messages = 0
        self.sock.setblocking(False)

    def begin(self, now):
        message = self.head + os.urandom(random.choice([1, 10, 100, 1000, 20000]))
        self.rest = self.expected = message

    def write(self):
        try:
            self.rest = self.rest[self.sock.send(self.rest):]
        except BlockingIOError:
            pass

    def read(self, now):
        data = self.sock.recv(65536)
        assert data, f"{self.head} was cut off after {self.messages} messages"
        assert self.expected.startswith(data), f"{self.head} has got other bytes than it sent"
        self.expected = self.expected[len(data):]
        if not self.expected:
            self.messages += 1
            self.due = now + random.uniform(0.05, 1)

clients = [Client(number) for number in range(int(sys.argv[3]))]
selector = selectors.DefaultSelector()
for client in clients:
    selector.register(client.sock, selectors.EVENT_READ, client)
say("connected")
now, last = time.monotonic(), END + PATIENCE
while now < END or any(client.expected for client in clients):
    assert now < last, f"no answer: {[client.head for client in clients if client.expected]}"
    for client in clients:
        if not client.expected and client.due <= now < END:
            client.begin(now)
        if client.rest:
            client.write()
    for key, _ in selector.select(0.02):
        key.data.read(now)
    now = time.monotonic()
for client in clients:
    client.sock.setblocking(True)
    client.sock.settimeout(PATIENCE)
    client.sock.shutdown(socket.SHUT_WR)
for client in clients:
    assert client.sock.recv(1) == b"", "more than was sent"
    client.sock.close()
counts = [client.messages for client in clients]
say("verified", sum(counts), "messages, at least", min(counts), "each")
"""
)

ATTACKING = (
    CLIENTS
    + f"""
RESET = {RESET!r}
# Idle connections are cut off after IDLE_SECONDS and up to a quarter more, each of the nine checks later by what the
# server was stopped meanwhile, which is a quarter of the time.
UNTIL_CUT_OFF = 2 * {IDLE_SECONDS}
ALL_BUFFERS = 20_000_000  # more than the kernel holds of a connection

def received(sock):
    data = bytearray()
    while more := sock.recv(65536):
        data += more
    return bytes(data)

def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()

def resets():
    for size in (0, 1, 1000):
        sock = dial()
        sock.sendall(b"r" * size)
        reset(sock)

def half_closes():
    with dial() as sock:
        sent = b"h" + os.urandom(random.randrange(5000))
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        assert received(sock) == sent, "a client that closed its sending half has lost bytes"

def writes_single_bytes():
    with dial() as sock:
        sent = b"s" + os.urandom(20)
        for byte in sent:
            sock.sendall(bytes([byte]))
            time.sleep(0.005)
        sock.shutdown(socket.SHUT_WR)
        assert received(sock) == sent, "a client that wrote byte by byte has lost bytes"

def never_reads():
    socks = [dial() for _ in range(5)]
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # it does not grow while we read
        sock.sendall(b"!w")
    time.sleep(UNTIL_CUT_OFF)
    for sock in socks:
        with sock:
            last = time.monotonic() + PATIENCE
            while not ended(sock, ALL_BUFFERS):  # the server has begun again, since we read: so it had not cut it off
                assert time.monotonic() < last, "a client that does not read is not cut off"
                time.sleep(UNTIL_CUT_OFF)

def says_nothing():
    socks = [dial() for _ in range(10)]
    for sock in socks:
        with sock:
            ended(sock)

def ended(sock, size=1 << 40):
    while size > 0:
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            return True
        if not data:
            return True
        size -= len(data)
    return False

def makes_handlers_fail():
    for kind in (b"!f%d" % random.randrange(100), b"!c", b"!n"):
        with dial() as sock:
            sock.sendall(kind)
            ended(sock)

def uses_threads():
    with dial() as sock:
        sock.sendall(b"!t")
        assert received(sock) == b"done", "a handler with a thread has not answered"

def exhausts_files():
    socks = [dial() for _ in range(120)]
    for sock in socks:
        try:
            sock.sendall(random.choice([b"!g", b"x"]))
        except ConnectionError:
            pass  # its handler had no file left
    time.sleep(0.3)
    for sock in socks:
        random.choice([reset, socket.socket.close])(sock)

def again_and_again(attack):
    while time.monotonic() < END:
        attack()
        counts[attack.__name__] = counts.get(attack.__name__, 0) + 1
        time.sleep(0.02)

counts, problems = {{}}, []
threading.excepthook = lambda problem: problems.append(repr(problem.exc_value))
attacks = [resets, half_closes, writes_single_bytes, never_reads, says_nothing, makes_handlers_fail, uses_threads,
           exhausts_files]
threads = [threading.Thread(target=again_and_again, args=(attack,), name=attack.__name__) for attack in attacks]
for thread in threads:
    thread.daemon = True
    thread.start()
for thread in threads:
    thread.join(max(END + PATIENCE - time.monotonic(), 1))
    if thread.is_alive():
        problems.append(f"{{thread.name}} does not end")
say("attacked", counts, "problems", problems)
"""
)


def state_of(address):
    """Return the names of the server's tasks without handlers, and the numbers of its tasks, waits and files."""
    with dial(address) as conn:
        conn.sendall(b"!h")
        text = b""
        while data := conn.recv(65536):
            text += data
    return text.decode()


def signals_until(end, process, numbers):
    """Stop and continue a process, and send it harmless signals, until a time."""
    while monotonic() < end:
        sleep(numbers.uniform(0, 0.5))
        process.send_signal(numbers.choice([signal.SIGUSR1, signal.SIGWINCH, signal.SIGCHLD, signal.SIGCONT]))
        if numbers.random() < 0.2:
            process.send_signal(signal.SIGSTOP)
            sleep(numbers.uniform(0, 1))
            process.send_signal(signal.SIGCONT)


def test_a_server_under_all_attacks_at_once_loses_no_verified_byte_and_leaves_nothing_behind(tmp_path, capsys):
    """load-faults, all of them at once: resets, half-closes, silence, failures, no files, a full log, and signals."""
    seed = random.randrange(1 << 32)
    log = tmp_path / "log"
    with serving(SERVER, log) as (server, address):
        before = state_of(address)
        port = str(address[1])
        with (
            started("-c", VERIFYING, port, ATTACK_SECONDS, VERIFIED_CONNECTIONS) as verified,
            started("-c", ATTACKING, port, ATTACK_SECONDS) as attackers,
        ):
            verified.expect("connected\n")
            signals_until(monotonic() + ATTACK_SECONDS, server.process, random.Random(seed))
            assert verified.wait() == 0, verified.errors()
            messages = verified.expect(r"verified \d+ messages, at least (\d+) each\n")
            attack = attackers.expect(r"attacked (.*) problems (.*)\n")
            assert attackers.wait() == 0, attackers.errors()
        assert attack[2] == "[]", attack[0]
        assert int(messages[1]) > 0
        come_true(lambda: state_of(address) == before, "all handlers have ended, and their files are closed")
        server.process.terminate()
        assert server.wait() == 0, log.read_text()
    ending = server.expect("ended with .*")[0]
    assert ending == "ended with 143 files True threads 1 children None tasks []", log.read_text()
    text = log.read_text()
    assert re.search("can't accept .*Too many open files", text), "the server never lacked files"
    assert "ValueError: deepest" in text and "server up" in text
    assert "\nCRITICAL" not in text
    with capsys.disabled():
        print(f"\n{messages[0].strip()} on {VERIFIED_CONNECTIONS} connections, beside {attack[1]} (seed {seed})")
