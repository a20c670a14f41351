"""The demo `redis_server.py` as a program: redis-cli, redis-benchmark, the library redis, SIGKILL, a full disk."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from threading import Thread
from time import monotonic

import pytest
from programs import ROOT, SECONDS, assert_one_line, finished, started
from redis_model import Refused, decoded
from servers import LOCAL, come_true, dial, memory_of, received
from test_readme import listings

sys.path.append(str(ROOT / "demos"))

from keyvalue.append_only import MAGIC, encoded
from keyvalue.protocol import bulks

pytestmark = pytest.mark.slow  # each test runs programs

SERVER = ROOT / "demos" / "redis_server.py"
FULL = Refused("MISCONF Errors writing to the AOF file: No space left on device")
MEGABYTE_BYTES = 1 << 20


@contextmanager
def serving(*arguments, first=(SERVER,)):
    """Start the server at a free port; yield its Program and its address."""
    with started(*first, "--port", 0, *arguments) as server:
        port = server.expect(r"listening on 127\.0\.0\.1:(\d+); try: redis-cli -p \1 \(Ctrl-C stops\)\n")[1]
        yield server, (LOCAL, int(port))


def ended(server):
    """Assert that Ctrl-C ends the server, and that it has reported nothing but the connections that it cut."""
    assert server.interrupt() == 130
    lines = [line for line in server.errors().splitlines() if "of grace it cancelled" not in line]
    assert lines == []


def program(name):
    """Return the path of a program of Redis; if it is not installed, skip the test, or fail it where CI is set."""
    path = shutil.which(name)
    if path is None:
        why = f"{name} is not installed (Debian's package is redis-tools)"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return path


def ask(conn, *commands):
    """Send commands, each one a line of words; return their answers, decoded."""
    conn.sendall(b"".join(bulks(line.split()) for line in commands))
    return answers(conn, len(commands))


def answers(conn, count):
    """Receive until there are `count` answers; return them, decoded."""
    data = b""
    while True:
        try:
            found = decoded(data)
        except (ValueError, AssertionError):
            found = []  # one of them is not complete
        if len(found) >= count:
            return found
        more = conn.recv(65536)
        assert more, f"the connection ended after {data!r}"
        data += more


# Clients of other authors.


def test_redis_cli_sends_commands_and_prints_their_answers():
    lines = {
        "PING": "PONG", "SET a 1 EX 100": "OK", "INCR a": "2", "TTL a": "100", "RPUSH l x y": "2",
        "LRANGE l 0 -1": "x\ny", "HSET h f v": "1",
        "HGETALL h": "f\nv", 'SET q "a b\\n"': "OK", "APPEND q c": "5", "GET q": "a b\nc",
        "GET l": "WRONGTYPE Operation against a key holding the wrong kind of value\n", "EXISTS a l none": "2",
        "SELECT 0": "OK", "SUBSCRIBE": "ERR wrong number of arguments for 'subscribe' command\n", "DEL a l": "2",
        "CONFIG GET appendonly": "appendonly\nno", "KEYS [h-q]": None, "FLUSHALL": "OK", "KEYS *": "",
    }  # fmt: skip
    with serving() as (server, (_, port)):
        command = [program("redis-cli"), "-p", str(port)]
        result = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=SECONDS)
        assert (result.returncode, result.stderr) == (0, "")
        keys = next(keys for keys in ("h\nq", "q\nh") if keys in result.stdout)
        expected = "".join(f"{keys if answer is None else answer}\n" for answer in lines.values())
        assert result.stdout == expected
        ended(server)


def test_the_session_in_the_readme_is_what_redis_cli_shows():
    (session,) = (listing.text for listing in listings("demos/keyvalue/README.md") if listing.language == "text")
    lines = [line.removeprefix("> ") for line in session.splitlines() if line.startswith("> ")]
    with serving() as (server, (_, port)):
        command = [program("redis-cli"), "--no-raw", "-p", str(port)]
        result = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=SECONDS)
        assert result.stdout == re.sub(r"^> .*\n", "", session, flags=re.MULTILINE)
        ended(server)


@pytest.mark.parametrize(
    "options", [(), ("--fsync", "always"), ("--fsync", "second")], ids=["memory", "always", "second"]
)
def test_redis_benchmark_runs_to_the_end_without_an_error(tmp_path, options):
    arguments = ("--append-only", tmp_path / "log", *options) if options else ()
    with serving(*arguments) as (server, (_, port)):
        command = [
            program("redis-benchmark"),
            "-p",
            str(port),
            *["-t", "ping,set,get,incr,lpush,lrange", "-c", "50", "-P", "16"],
        ]
        result = subprocess.run([*command, "-n", "10000", "-q"], capture_output=True, text=True, timeout=3 * SECONDS)
        assert (result.returncode, result.stderr) == (0, "")
        assert len(re.findall(r"[\d.]+ requests per second, p50=", result.stdout)) == 11
        assert "rror" not in result.stdout
        ended(server)


@pytest.fixture(scope="module")
def library():
    """Return the library redis, an extra of the tests."""
    return pytest.importorskip("redis")


def test_the_library_redis_in_threads(library):
    with serving() as (server, (host, port)):
        failures = []

        def work(number):
            try:
                with library.Redis(host, port, protocol=2) as client:
                    for count in range(100):
                        client.incr("count")
                        client.set(f"key {number}", count, ex=100)
                        assert client.get(f"key {number}") == b"%d" % count
                        pipe = client.pipeline(transaction=False)
                        pipe.rpush(f"list {number}", count, "\r\n").lpop(f"list {number}")
                        pipe.hset("hash", mapping={number: count}).sadd("set", number)
                        assert len(pipe.execute()) == 4
            except BaseException as error:
                failures.append(error)

        threads = [Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert failures == []
        with library.Redis(host, port, protocol=2) as client:
            assert client.get("count") == b"800"
            assert client.smembers("set") == {b"%d" % number for number in range(8)}
            assert client.hgetall("hash") == {b"%d" % number: b"99" for number in range(8)}
            assert client.llen("list 0") == 100 and 98 < client.ttl("key 0") <= 100
            assert sorted(client.keys("key [0-3]")) == [b"key %d" % number for number in range(4)]
            with pytest.raises(library.ResponseError, match="WRONGTYPE"):
                client.incr("hash")
        ended(server)


def test_the_library_redis_subscribes_and_publishes(library):
    with serving() as (server, (host, port)):
        with library.Redis(host, port, protocol=2) as client, client.pubsub() as news:
            news.subscribe("a", "b")
            assert [news.get_message(timeout=SECONDS)["data"] for _ in range(2)] == [1, 2]
            assert client.publish("b", b"\xff") == 1
            message = news.get_message(timeout=SECONDS)
            assert (message["channel"], message["data"]) == (b"b", b"\xff")
            news.unsubscribe()
            assert [news.get_message(timeout=SECONDS)["data"] for _ in range(2)] == [1, 0]
        ended(server)


# SIGKILL.


def sets_until_killed(address, number, acknowledged, pipelined):
    """Send SETs, `pipelined` of them at a time, until the server is gone; note the acknowledged ones."""
    with dial(address) as conn:
        try:
            for first in range(0, 10**9, pipelined):
                keys = [b"%d:%d" % (number, first + more) for more in range(pipelined)]
                found = ask(conn, *(b"SET %b %b" % (key, key[::-1]) for key in keys))
                assert found == [b"OK"] * pipelined
                acknowledged.extend(keys)
        except (ConnectionError, AssertionError):
            pass


def test_no_acknowledged_change_is_lost_by_sigkill_and_a_torn_record_is_dropped(tmp_path):
    path, acknowledged = tmp_path / "log", []
    pauses = random.Random(1)
    for _ in range(20):
        with serving("--append-only", path, "--fsync", "always") as (server, address):
            with dial(address) as conn:
                assert ask(conn, *(b"GET " + key for key in acknowledged)) == [key[::-1] for key in acknowledged]
            acknowledged = []
            with dial(address) as conn:
                assert ask(conn, b"FLUSHALL") == [b"OK"]
            new = [[] for _ in range(4)]
            clients = [
                Thread(target=sets_until_killed, args=(address, number, new[number], 1 + 5 * (number % 2)))
                for number in range(4)
            ]
            for client in clients:
                client.start()
            least = pauses.randrange(20, 200)
            come_true(lambda least=least, new=new: sum(map(len, new)) > least, "acknowledged changes")
            server.process.send_signal(signal.SIGKILL)
            for client in clients:
                client.join(SECONDS)
            server.wait()
            torn = re.sub(
                r".*: the last record, at offset \d+, is torn: its \d+ bytes are dropped\n", "", server.errors()
            )
            assert torn == ""
            acknowledged = [key for keys in new for key in keys]
        if pauses.random() < 0.5:  # the system writes a group as a whole: a power failure would not
            with open(path, "ab") as file:
                record = encoded([b"SET", b"torn", b"x"])
                file.write(record[: pauses.randrange(1, len(record))])


def test_a_torn_last_record_is_dropped_with_a_line_in_the_log(tmp_path):
    path = tmp_path / "log"
    kept = MAGIC + encoded([b"SET", b"a", b"1"])
    path.write_bytes(kept + encoded([b"SET", b"a", b"2"])[:-3])
    with serving("--append-only", path) as (server, address):
        assert server.said.startswith(f"1 change loaded from {path} in ")
        with dial(address) as conn:
            assert ask(conn, b"GET a", b"SET b 1") == [b"1", b"OK"]
        assert server.interrupt() == 130
        torn = len(encoded([b"SET", b"a", b"2"])) - 3
        assert (
            server.errors()
            == f"{path}: the last record, at offset {len(kept)}, is torn: its {torn} bytes are dropped\n"
        )
    assert path.read_bytes() == kept + encoded([b"SET", b"b", b"1"])


def test_a_deadline_is_a_point_in_time_across_a_restart(tmp_path):
    path = tmp_path / "log"
    with serving("--append-only", path) as (server, address), dial(address) as conn:
        assert ask(conn, b"SET a 1 EX 100", b"SET b 1 PX 1", b"SET c 1", b"EXPIRE c 50") == [b"OK"] * 3 + [1]
        server.process.terminate()  # a graceful stop, as by Ctrl-C
        assert server.wait() == 143
    with serving("--append-only", path) as (server, address), dial(address) as conn:
        first, gone, second = ask(conn, b"PTTL a", b"GET b", b"PTTL c")
        assert (first <= 100_000, gone, second <= 50_000) == (True, None, True) and min(first, second) > 0
        ended(server)


# A full disk.

LIMITED = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); del sys.argv[0]; "
LIMITED += "sys.path.insert(0, 'demos'); runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.mark.parametrize("fsync", ["always", "second"])
def test_a_file_that_cannot_grow_refuses_changes_and_loses_none_that_was_acknowledged(tmp_path, fsync):
    path, acknowledged = tmp_path / "log", []
    large = Refused("MISCONF Errors writing to the AOF file: File too large")
    with serving("--append-only", path, "--fsync", fsync, first=("-c", LIMITED, SERVER)) as (server, address):
        with dial(address) as conn:
            for number in range(100):
                (answer,) = ask(conn, b"SET %d " % number + b"x" * 500)
                if answer != b"OK":
                    break
                acknowledged.append(b"%d" % number)
            assert answer == large and len(acknowledged) > 30
            assert ask(conn, b"SET a 1", b"DEL 0", b"GET 0", b"PING") == [large, large, b"x" * 500, b"PONG"]
            assert ask(conn, b"INFO persistence")[0].splitlines()[3] == b"aof_last_write_status:err"
        assert server.interrupt() == 130
        assert "File too large; changes are refused until the file can be written" in server.errors()
    with serving("--append-only", path) as (server, address), dial(address) as conn:
        assert ask(conn, *(b"GET " + key for key in acknowledged)) == [b"x" * 500] * len(acknowledged)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_refuses_changes_until_there_is_room(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        other = tmp_path / "other"
        other.write_bytes(bytes(40_000))
        with (
            serving("--append-only", tmp_path / "log", "--fsync", "always") as (server, address),
            dial(address) as conn,
        ):
            count = 0
            while (found := ask(conn, b"SET %d " % count + b"x" * 500)) == [b"OK"]:
                count += 1
            assert found == [FULL] and count > 5
            other.unlink()
            come_true(lambda: ask(conn, b"SET after 1") == [b"OK"], "room on the disk")
            assert server.interrupt() == 130
        with serving("--append-only", tmp_path / "log") as (server, address), dial(address) as conn:
            assert ask(conn, *(b"EXISTS %d" % number for number in range(count)), b"GET after") == [*[1] * count, b"1"]
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


# Hostile clients.


def test_an_endless_line_is_answered_and_cut_and_costs_little_memory():
    with serving() as (server, address):
        with dial(address) as other:
            assert ask(other, b"PING") == [b"PONG"]
            before = memory_of(server.process.pid)
            with dial(address) as conn:
                sent = 0
                try:
                    while sent < 1 << 30:
                        sent += conn.send(bytes(b"a" * MEGABYTE_BYTES))
                except ConnectionError:
                    pass
                assert sent < 1 << 30
            with dial(address) as conn:
                conn.sendall(b"a" * 100_000)
                assert received(conn, 100) == b"-ERR Protocol error: too big inline request\r\n"
            assert ask(other, b"PING") == [b"PONG"]
            assert memory_of(server.process.pid) - before < 20 * MEGABYTE_BYTES
        ended(server)


def test_announced_lengths_cost_no_memory():
    with serving() as (server, address), dial(address) as other:
        assert ask(other, b"PING") == [b"PONG"]
        before = memory_of(server.process.pid)
        conns = [dial(address) for _ in range(50)]
        for conn in conns:
            conn.sendall(b"*1048576\r\n$536870912\r\nabc")
        assert ask(other, b"PING") == [b"PONG"]
        assert memory_of(server.process.pid) - before < 20 * MEGABYTE_BYTES
        for conn in conns:
            conn.close()
        ended(server)


def test_a_client_that_never_reads_has_bounded_memory_and_holds_up_no_other():
    with serving() as (server, address), dial(address) as other:
        assert ask(other, b"SET k " + b"x" * 100_000) == [b"OK"]
        with dial(address) as deaf:
            deaf.setblocking(False)
            request = bulks([b"GET", b"k"]) * 10_000
            before = memory_of(server.process.pid)
            try:
                for _ in range(100):
                    deaf.send(request)
            except BlockingIOError:
                pass
            for _ in range(100):
                assert ask(other, b"PING") == [b"PONG"]
            assert memory_of(server.process.pid) - before < 30 * MEGABYTE_BYTES
        ended(server)


def test_a_subscriber_that_never_reads_is_cut_and_holds_up_no_publisher():
    with serving() as (server, address), dial(address) as publisher:
        with dial(address) as deaf:
            assert ask(deaf, b"SUBSCRIBE news") == [[b"subscribe", b"news", 1]]
            before = memory_of(server.process.pid)
            counts = []
            for _ in range(200):
                counts += ask(publisher, b"PUBLISH news " + b"x" * MEGABYTE_BYTES)
            assert counts[0] == 1 and counts[-1] == 0
            assert memory_of(server.process.pid) - before < 60 * MEGABYTE_BYTES
        assert server.interrupt() == 130
        assert re.search(
            r"^127\.0\.0\.1:\d+ is disconnected: it does not read its messages$", server.errors(), re.MULTILINE
        )


def test_slow_clients_do_not_slow_a_fast_one():
    with serving() as (server, address), dial(address) as fast:
        slow = [dial(address) for _ in range(200)]
        for number, conn in enumerate(slow):
            conn.sendall(bulks([b"SET", b"slow", b"x" * 100])[: 5 + number % 80])  # a part of a command, and no more
        began = monotonic()
        for _ in range(1000):
            assert ask(fast, b"INCR count")[0] > 0
        assert monotonic() - began < SECONDS
        for conn in slow:
            conn.close()
        ended(server)


# The program.


def test_redis_cli_connects_to_a_server_at_a_unix_path(tmp_path):
    path = tmp_path / "sock"
    with started(SERVER, "--unix", path) as server:
        server.expect(f"listening on {path}; try: redis-cli -s {path} ")
        command = [program("redis-cli"), "-s", str(path), "ECHO", "hi"]
        assert subprocess.run(command, capture_output=True, text=True, timeout=SECONDS).stdout == "hi\n"
        assert server.interrupt() == 130
        assert server.errors() == ""


def test_help_and_wrong_options_and_files(tmp_path):
    shown = finished(SERVER, "--help")
    assert shown.returncode == 0 and "--append-only FILE" in shown.stdout and "default: 6379" in shown.stdout
    wrong = finished(SERVER, "--fsync", "never")
    assert wrong.returncode == 2 and "invalid choice: 'never'" in wrong.stderr
    diary = tmp_path / "diary"
    diary.write_text("dear diary")
    assert_one_line(finished(SERVER, "--append-only", diary), f"redis_server: {diary}: this is not an append-only file")
    assert_one_line(finished(SERVER, "--append-only", tmp_path), f"redis_server: {tmp_path}: Is a directory")
    damaged = tmp_path / "damaged"
    records = encoded([b"SET", b"a", b"1"]), encoded([b"SET", b"a", b"2"])
    damaged.write_bytes(MAGIC + records[0].replace(b"SET", b"GET") + records[1])
    said = f"{damaged}: the record at offset {len(MAGIC)} is damaged: its checksum is wrong"
    assert_one_line(finished(SERVER, "--append-only", damaged), said, f"`truncate -s {len(MAGIC)} {damaged}` keeps")
    with socket.create_server((LOCAL, 0)) as other:
        port = other.getsockname()[1]
        assert_one_line(finished(SERVER, "--port", port, "--append-only", tmp_path / "new"), "Address already in use")
    with serving("--append-only", tmp_path / "new"):
        assert_one_line(finished(SERVER, "--append-only", tmp_path / "new"), "another server uses this file")
