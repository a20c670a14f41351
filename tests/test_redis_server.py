"""The demo `redis_server.py`: its parser, patterns, commands and file, each alone, and sessions in this process."""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import closing, contextmanager
from threading import Event as ThreadEvent
from threading import Thread

import pytest
from helpers import nothing_is_left, pair, run, until  # noqa: F401
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from programs import ROOT
from redis_model import WRONG_TYPE, Model, Refused, decoded, matches

from minisched import Cancel, Join, Read, Sleep, Spawn, TaskCancelled, Write, gather
from minisched.testing import cancel_everywhere

sys.path.append(str(ROOT / "demos"))

from keyvalue import append_only, channels, protocol, sessions, store
from keyvalue.append_only import MAGIC, AppendOnlyError, AppendOnlyFile
from keyvalue.patterns import MAX_PATTERN_BYTES, matcher
from keyvalue.protocol import Parser, ProtocolError, bulks
from redis_server import Server

SERVER = ROOT / "demos" / "redis_server.py"
LOADED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


# The parser.


def parsed(*pieces):
    """Return the commands in pieces of a stream, and the text of the error that ends them, if one does."""
    parser, found = Parser(), []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (words := parser.next_command()) is not None:
                found.append(words)
    except ProtocolError as error:
        found.append(str(error))
    return found


def cut(data, places):
    """Return some bytes in pieces that end at these places."""
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]


WORDS = some.lists(some.binary(max_size=12), min_size=1, max_size=4)
NOISE = some.lists(some.sampled_from([b"*", b"$", b"1", b"2", b"-", b"\r\n", b"\n", b"a", b" ", b'"', b"'", b"\\"]))
STREAMS = some.lists(some.one_of(WORDS.map(bulks), some.just(b"PING x\r\n"), NOISE.map(b"".join)), max_size=6)


@settings(LOADED)
@given(some.lists(WORDS, max_size=5))
def test_the_parser_returns_the_commands_that_were_encoded(commands):
    assert parsed(b"".join(map(bulks, commands))) == commands


@settings(LOADED)
@given(STREAMS.map(b"".join), some.lists(some.integers(0, 10**6), max_size=8))
def test_any_split_of_the_bytes_gives_the_same_commands_and_the_same_error(data, places):
    whole = parsed(data)
    assert parsed(*cut(data, places)) == whole
    assert parsed(*(data[at : at + 1] for at in range(len(data)))) == whole


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"set a  1\r\n", [b"set", b"a", b"1"]),
        (b"\tping\n", [b"ping"]),
        (b'echo "a b\\n\\x00\\"\\\\" \r\n', [b"echo", b'a b\n\x00"\\']),
        (b"echo 'a b\\n\\'' x\r\n", [b"echo", b"a b\\n'", b"x"]),
        (b'set key"with space" ""\r\n', [b"set", b"keywith space", b""]),
    ],
)
def test_an_inline_command_is_split_as_redis_does(line, words):
    assert parsed(b"\r\n" + line) == [words]


BAD = {
    "bulk length of 2**63": (b"*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
    "bulk length of -5": (b"*1\r\n$-5\r\n", "invalid bulk length"),
    "bulk length that is text": (b"*1\r\n$five\r\n", "invalid bulk length"),
    "bulk length with a sign": (b"*1\r\n$+5\r\n", "invalid bulk length"),
    "no bulk length": (b"*1\r\n$\r\n", "invalid bulk length"),
    "bulk of over 512 MB": (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    "multibulk of 2**31": (b"*2147483648\r\n", "invalid multibulk length"),
    "multibulk of a long number": (b"*" + b"9" * 60_000 + b"\r\n", "invalid multibulk length"),
    "multibulk that is text": (b"*x\r\n", "invalid multibulk length"),
    "no bulk": (b"*1\r\n:5\r\n", "expected '$', got ':'"),
    "empty line for a bulk": (b"*1\r\n\r\n", "expected '$', got ''"),
    "inline line without end": (b"a" * 70_000, "too big inline request"),
    "multibulk line without end": (b"*" + b"1" * 70_000, "too big mbulk count string"),
    "bulk line without end": (b"*1\r\n$" + b"1" * 70_000, "too big bulk count string"),
    "a quote that is open": (b'set "a\r\n', "unbalanced quotes in request"),
    "a quote inside a word": (b'set "a"b\r\n', "unbalanced quotes in request"),
}


@pytest.mark.parametrize(("data", "text"), BAD.values(), ids=BAD)
def test_bad_input_is_an_error_with_the_text_of_redis(data, text):
    assert parsed(bulks([b"PING"]) + data) == [[b"PING"], text]


def test_a_length_that_is_allowed_stores_nothing_before_the_bytes_come():
    parser = Parser()
    parser.feed(b"*1048576\r\n$536870912\r\nabc")
    assert parser.next_command() is None
    assert len(parser.buffer) < 100 and parser.words == []


def test_the_bytes_of_one_command_have_a_bound(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_COMMAND_BYTES", 10)
    assert parsed(bulks([b"12345", b"67890"])) == [[b"12345", b"67890"]]
    assert parsed(bulks([b"12345", b"678901"])) == ["invalid bulk length"]


def test_no_command_and_a_negative_number_of_words_are_passed_over():
    assert parsed(b"*0\r\n*-1\r\n\r\n" + bulks([b"PING"])) == [[b"PING"]]


# The patterns.

PATTERNS = some.lists(some.sampled_from([b"*", b"?", b"a", b"b", b"[", b"]", b"^", b"-", b"\\", b"z"]), max_size=9)


@settings(LOADED, max_examples=200)
@given(PATTERNS.map(b"".join), some.lists(some.sampled_from([b"a", b"b", b"z", b"-", b"\\", b"^", b"]"]), max_size=6))
def test_a_pattern_matches_what_it_matches_in_redis(pattern, key):
    key = b"".join(key)
    assert bool(matcher(pattern)(key)) == matches(pattern, key)


def test_a_pattern_matches_any_bytes():
    assert matcher(b"*\n?[\x80-\xff]")(b"a\r\n\n\n\xe9") and not matcher(b"a")(b"a\n") and not matcher(b"[^\n]")(b"\n")


def test_a_hostile_pattern_takes_bounded_time():
    stars = (b"*a" * MAX_PATTERN_BYTES)[: MAX_PATTERN_BYTES - 1] + b"b"
    run = b"*" + b"a" * (MAX_PATTERN_BYTES - 3) + b"b*"
    for pattern in (stars, run):
        assert not matcher(pattern)(b"a" * 20_000)  # a plain search of all ways never ends
    assert asked(quiet_server(), b"KEYS", stars + b"b") == Refused("ERR the pattern is longer than 128 bytes")


# The commands.


class Clock:
    """The time of a store, in milliseconds."""

    def __init__(self):
        self.now = 1_000_000

    def __call__(self):
        return self.now


def quiet_server(log=None):
    """Return a server without a run, whose clock stands still."""
    server = Server(log)
    server.store.clock = Clock()
    return server


def asked(server, *words):
    """Do a command without a connection; return its answer, decoded."""
    session = sessions.Session(server, None, None)
    answer, _ = server.do(session, list(words))
    (found,) = decoded(answer)
    return found


NUMBERS = some.sampled_from([b"0", b"1", b"-1", b"2", b"-3", b"9223372036854775807", b"-9223372036854775808"])
KEYS = some.sampled_from([b"a", b"b", b"c"])
DATA = some.one_of(NUMBERS, some.sampled_from([b"", b"x", b"01", b" 1", b"\xff\r\n"]))
PLACES = some.sampled_from([b"0", b"1", b"-1", b"2", b"-3", b"7"])
LENGTHS = some.sampled_from([b"1", b"3"])
OPTIONS = some.one_of(
    some.just(()), some.sampled_from([(b"NX",), (b"XX",), (b"GET",), (b"KEEPTTL",), (b"XX", b"GET", b"KEEPTTL")]),
    some.tuples(some.sampled_from([b"EX", b"PX"]), some.sampled_from([b"1", b"500"])),
)  # fmt: skip
COMMANDS = some.one_of(
    some.tuples(some.just("SET"), KEYS, DATA, OPTIONS).map(lambda words: (*words[:3], *words[3])),
    some.tuples(some.sampled_from(["GET", "INCR", "DECR", "DEL", "EXISTS", "PTTL", "PERSIST"]), KEYS),
    some.tuples(some.sampled_from(["LPOP", "RPOP", "HGETALL", "SMEMBERS"]), KEYS),
    some.tuples(some.sampled_from(["APPEND", "LPUSH", "RPUSH", "SADD", "HGET"]), KEYS, DATA),
    some.tuples(some.sampled_from(["LPUSH", "RPUSH", "SADD", "HSET"]), KEYS, DATA, DATA),
    some.tuples(some.just("INCRBY"), KEYS, NUMBERS),
    some.tuples(some.just("EXPIRE"), KEYS, LENGTHS),
    some.tuples(some.sampled_from(["LPOP", "RPOP"]), KEYS, some.sampled_from([b"0", b"1", b"2"])),
    some.tuples(some.just("LRANGE"), KEYS, PLACES, PLACES),
    some.tuples(some.sampled_from(["MGET", "EXISTS", "DEL"]), KEYS, KEYS),
    some.sampled_from([("DBSIZE",), ("FLUSHALL",), ("SLEEP", 400), ("SLEEP", 1000), ("EXPIRE DUE",)]),
)


def state(server):
    """Return the values and deadlines of the keys that have not expired."""
    keys = server.store.keys()
    return {key: (server.store.values[key], server.store.deadlines.get(key)) for key in keys}


@settings(LOADED, max_examples=150)
@given(some.lists(COMMANDS, max_size=40))
def test_the_commands_answer_as_a_plain_model_and_their_records_make_the_same_keys(commands):
    server, model, records = quiet_server(), Model(), []

    def record(words):
        records.append(list(words))
        return len(records)

    server.store.record = record
    for name, *words in commands:
        if name == "SLEEP":
            server.store.clock.now += words[0]
            model.now += words[0]
        elif name == "EXPIRE DUE":
            server.store.expire_due(2)
        else:
            answer = asked(server, name.encode(), *words)
            assert (sorted(answer) if name == "SMEMBERS" and type(answer) is list else answer) == model.ask(
                name, *words
            )
    kept = state(server)
    again = quiet_server()
    again.store.clock.now = 0
    for words in records:
        again.redo(words)
    again.store.clock.now = server.store.clock.now
    assert state(again) == kept


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("get a b", "ERR wrong number of arguments for 'get' command"),
        ("HSET h a", "ERR wrong number of arguments for 'hset' command"),
        ("HSET h a b c", "ERR wrong number of arguments for 'hset' command"),
        ("GET list", WRONG_TYPE),
        ("INCR list", WRONG_TYPE),
        ("APPEND list x", WRONG_TYPE),
        ("LPUSH a x", WRONG_TYPE),
        ("HGETALL a", WRONG_TYPE),
        ("SADD a x", WRONG_TYPE),
        ("INCR text", "ERR value is not an integer or out of range"),
        ("INCR most", "ERR increment or decrement would overflow"),
        ("DECR least", "ERR increment or decrement would overflow"),
        ("SET a 1 EX", "ERR syntax error"),
        ("SET a 1 NX XX", "ERR syntax error"),
        ("SET a 1 EX 1 PX 1", "ERR syntax error"),
        ("SET a 1 EX 1 KEEPTTL", "ERR syntax error"),
        ("SET a 1 FOR EVER", "ERR syntax error"),
        ("SET a 1 EX x", "ERR value is not an integer or out of range"),
        ("SET a 1 EX 0", "ERR invalid expire time in 'set' command"),
        ("SET a 1 PX -1", "ERR invalid expire time in 'set' command"),
        ("SET a 1 EX 9223372036854775807", "ERR invalid expire time in 'set' command"),
        ("EXPIRE a 9223372036854775807", "ERR invalid expire time in 'expire' command"),
        ("EXPIRE a 1.5", "ERR value is not an integer or out of range"),
        ("LPOP list -1", "ERR value is out of range, must be positive"),
        ("LRANGE list a b", "ERR value is not an integer or out of range"),
        ("SELECT 1", "ERR DB index is out of range"),
        ("SELECT one", "ERR value is not an integer or out of range"),
        ("FLUSHALL NOW", "ERR syntax error"),
        ("HELLO 3", "ERR unknown command 'HELLO', with args beginning with: '3' "),
        ("CONFIG SET save x", "ERR only CONFIG GET is supported"),
        ("CLIENT KILL x", "ERR unknown subcommand or wrong number of arguments for 'KILL'"),
    ],
)
def test_a_wrong_command_has_the_error_of_redis_and_changes_nothing(words, text):
    server = quiet_server()
    for line in ("SET a 1", "RPUSH list x", "SET text y", f"SET most {2**63 - 1}", f"SET least {-(2**63)}"):
        asked(server, *line.encode().split())
    before = state(server)
    server.store.record = None
    assert asked(server, *words.encode().split()) == Refused(text)
    assert state(server) == before


def test_an_error_is_one_line_whatever_the_client_has_sent():
    answer = str(asked(quiet_server(), b"NO\r\n+SUCH", b"\xff" * 1000))
    assert (
        answer.startswith(r"ERR unknown command 'NO  +SUCH', with args beginning with: '\xff\xff") and len(answer) < 300
    )


def test_small_commands_answer():
    server = quiet_server()
    answers = {
        "PING": b"PONG", "PING hi": b"hi", "ECHO hi": b"hi", "SELECT 0": b"OK", "SET k v": b"OK", "TYPE k": b"string",
        "RPUSH l 1": 1, "TYPE l": b"list", "LLEN l": 1, "TYPE none": b"none", "DBSIZE": 2, "COMMAND DOCS": [],
        "CLIENT SETINFO lib-name x": b"OK", "CLIENT SETNAME x": b"OK", "CONFIG GET append*": [
            b"appendonly", b"no", b"appendfsync", b"no"], "PUBLISH nobody x": 0, "EXPIRE k 100": 1, "TTL k": 100,
        "EXPIRE k -1": 1, "GET k": None, "TTL k ": -2, "TTL l": -1, "KEYS *": [b"l"], "FLUSHDB": b"OK",
    }  # fmt: skip
    assert {line: asked(server, *line.encode().split()) for line in answers} == answers


def test_info_names_its_sections_and_can_be_asked_for_one():
    server = quiet_server()
    assert asked(server, b"INFO").startswith(b"# Server\r\nredis_version:5.0.0\r\n")
    assert asked(server, b"INFO", b"CLIENTS") == b"# Clients\r\nconnected_clients:0\r\n"


def test_keys_that_nobody_uses_expire_and_stale_deadlines_do_not_pile_up():
    server = quiet_server()
    for number in range(5000):
        asked(server, b"SET", b"busy", b"x", b"PX", b"%d" % (10_000 + number))
    assert len(server.store.due) <= store.MAX_STALE_ENTRIES + 3
    asked(server, b"SET", b"other", b"x", b"PX", b"10")
    server.store.clock.now += 20_000
    while server.store.expire_due(100):
        pass
    assert server.store.values == server.store.deadlines == {} and server.store.expired == 2


def test_one_large_value_is_not_multiplied_by_an_answer(monkeypatch):
    monkeypatch.setattr("keyvalue.commands.MAX_BULK_BYTES", 1000)
    server = quiet_server()
    asked(server, b"SET", b"k", b"x" * 400)
    assert asked(server, b"MGET", b"k", b"k") == [b"x" * 400] * 2
    assert asked(server, *[b"MGET", b"k", b"k", b"k"]) == Refused("ERR the answer would be larger than 512 MB")
    assert asked(server, b"APPEND", b"k", b"x" * 601) == Refused(
        "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    )
    assert asked(server, b"APPEND", b"k", b"x" * 600) == 1000


# The append-only file, without a server.


@pytest.fixture
def path(tmp_path):
    if sys.platform == "emscripten":
        pytest.skip("WebAssembly has no locks of files")
    return tmp_path / "log"


RECORDS = [[b"SET", b"a", b"1"], [b"SET", b"b", b"\r\n\xff"], [b"DEL", b"a"]]


def write_records(path, records=RECORDS):
    """Write an append-only file; return the offsets of its records, and its end."""
    parts = [MAGIC, *map(append_only.encoded, records)]
    path.write_bytes(b"".join(parts))
    return [sum(map(len, parts[:count])) for count in range(1, len(parts) + 1)]


def loaded(path):
    """Return the records in a file, as a server loads them."""
    with closing(AppendOnlyFile(path)) as log:
        found = []
        assert log.load(found.append) == len(found)
        return found


def test_a_new_file_is_empty_and_records_are_loaded_in_order(path):
    assert loaded(path) == []
    write_records(path)
    assert loaded(path) == RECORDS


def test_a_torn_last_record_is_dropped_with_a_line_in_the_log(path, caplog):
    *_, last, end = write_records(path)
    data = path.read_bytes()
    for size in range(last + 1, end):
        caplog.clear()
        path.write_bytes(data[:size])
        assert loaded(path) == RECORDS[:-1]
        line = f"{path}: the last record, at offset {last}, is torn: its {size - last} bytes are dropped"
        assert caplog.messages == [line]
        assert path.read_bytes() == data[:last]
    caplog.clear()
    assert loaded(path) == RECORDS[:-1] and caplog.messages == []


def test_zeros_behind_the_last_record_are_dropped(path):
    *_, end = write_records(path)
    os.truncate(path, end + 5000)
    assert loaded(path) == RECORDS
    assert path.stat().st_size == end


def test_a_changed_byte_of_any_record_is_an_error_that_names_its_offset_and_changes_nothing(path):
    offsets = write_records(path)
    data = path.read_bytes()
    for at in range(offsets[0], offsets[-1]):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        path.write_bytes(damaged)
        begin = max(offset for offset in offsets if offset <= at)
        with pytest.raises(AppendOnlyError, match=f"the record at offset {begin} is damaged"):
            loaded(path)
        assert path.read_bytes() == damaged


def test_zeros_in_the_middle_are_damage(path):
    offsets = write_records(path)
    data = path.read_bytes()
    path.write_bytes(data[: offsets[1]] + bytes(40) + data[offsets[1] :])
    with pytest.raises(AppendOnlyError, match=f"offset {offsets[1]} .*truncate -s {offsets[1]} "):
        loaded(path)


def test_a_file_of_another_kind_is_refused_and_not_changed(path, tmp_path):
    path.write_text("my diary")
    with pytest.raises(AppendOnlyError, match="not an append-only file; it is not changed"):
        AppendOnlyFile(path)
    assert path.read_text() == "my diary"
    with pytest.raises(AppendOnlyError, match="Is a directory"):
        AppendOnlyFile(tmp_path)
    with pytest.raises(AppendOnlyError, match="a regular file"):
        AppendOnlyFile("/dev/null")


def test_a_file_whose_first_line_is_torn_is_written_again(path):
    path.write_bytes(MAGIC[:7])
    assert loaded(path) == []
    assert path.read_bytes() == MAGIC


def test_a_file_that_another_server_uses_is_refused(path):
    with closing(AppendOnlyFile(path)), pytest.raises(AppendOnlyError, match="another server uses this file"):
        AppendOnlyFile(path)


@pytest.mark.parametrize("words", [[b"GET", b"a"], [b"NONE"], [b"SET", b"a"], [b"INCRBY", b"a", b"x"]])
def test_a_record_that_changes_nothing_is_damage(path, words):
    offset, _ = write_records(path, [words])
    with closing(AppendOnlyFile(path)) as log, pytest.raises(AppendOnlyError, match=f"at offset {offset} .*be done"):
        Server(log)


# A server in this process.


class Client:
    """A client of a session: its end of a socket pair."""

    def __init__(self, sock):
        self.sock = sock

    def send(self, *commands):
        yield Write(self.sock, b"".join(bulks(line.split()) for line in commands))

    def answers(self, count):
        """Read until there are `count` answers; return them, decoded."""
        data = b""
        while True:
            try:
                found = decoded(data)
            except (ValueError, AssertionError):
                found = []
            if len(found) >= count:
                assert len(found) == count
                return found
            more = yield Read(self.sock, 65536)
            assert more, f"the connection ended after {data!r}"
            data += more

    def ask(self, *commands):
        yield from self.send(*commands)
        return (yield from self.answers(len(commands)))


@contextmanager
def connections(count):
    """Yield `count` pairs of a server's connection and a client."""
    pairs = [pair() for _ in range(count)]
    try:
        yield [(conn, Client(plain)) for conn, plain in pairs]
    finally:
        for conn, plain in pairs:
            conn.close()
            plain.close()


def with_clients(count, body, log=None):
    """Run a server with clients in virtual time, and `body(server, *clients)`; then stop them."""

    def main():
        server = Server(log)
        with connections(count) as pairs:
            if log is not None:
                yield Spawn(log.write_groups())
                log.running = True
            handlers = []
            for conn, _ in pairs:
                handlers.append((yield Spawn(server.handle(conn), keep=True)))
            try:
                return (yield from body(server, *(client for _, client in pairs)))
            finally:
                for handler in handlers:
                    yield Cancel(handler)
                    try:
                        yield Join(handler)
                    except (TaskCancelled, ConnectionError):
                        pass
                if log is not None:
                    log.stop()

    return run(main())


def test_all_commands_of_one_read_are_answered_by_one_write(monkeypatch):
    written = []

    def counted(conn, data):
        written.append(data)
        return Write(conn, data)

    monkeypatch.setattr(sessions, "Write", counted)

    def body(server, client):
        return (yield from client.ask(b"SET a 1", b"INCR a", b"GET a", b"NONE", b"PING"))

    assert with_clients(1, body)[:3] == [b"OK", 2, b"2"]
    assert len(written) == 1


def test_a_batch_has_a_bound_in_commands_and_in_bytes(monkeypatch):
    monkeypatch.setattr(sessions, "BATCH_COMMANDS", 3)
    monkeypatch.setattr(sessions, "BATCH_BYTES", 100)
    session = sessions.Session(quiet_server(), None, None)
    session.parser.feed(b"PING\r\n" * 4)
    assert [len(session.next_batch()[0]) for _ in range(3)] == [3, 1, 0]
    session.parser.feed(bulks([b"ECHO", b"x" * 200]) * 2)
    assert [len(session.next_batch()[0]) for _ in range(3)] == [1, 1, 0]


@pytest.mark.parametrize("data", [data for data, _ in BAD.values()], ids=BAD)
def test_bad_input_is_answered_after_the_commands_before_it_and_ends_the_connection(data):
    def body(server, client):
        def sends():
            try:
                yield Write(client.sock, b"PING\r\n" + data + b"\r\nPING\r\n" * 10)
            except ConnectionError:
                pass

        yield Spawn(sends())
        received = b""
        while more := (yield Read(client.sock, 65536)):
            received += more
        client.sock.shutdown(socket.SHUT_WR)
        return decoded(received)

    pong, error = with_clients(1, body)
    assert pong == b"PONG" and str(error).startswith("ERR Protocol error: ")


def test_quit_answers_and_ends_the_connection():
    def body(server, client):
        yield Write(client.sock, b"PING\r\nQUIT\r\nPING\r\n")
        found = yield from client.answers(2)
        return found, (yield Read(client.sock, 1))

    assert with_clients(1, body) == ([b"PONG", b"OK"], b"")


def test_a_message_reaches_the_subscribers_of_its_channel():
    def body(server, one, two):
        first = yield from one.ask(b"SUBSCRIBE news", b"PING")
        sent = yield from two.ask(b"PUBLISH news hello", b"PUBLISH other x")
        message = yield from one.answers(1)
        second = yield from one.ask(b"GET a", b"UNSUBSCRIBE news", b"UNSUBSCRIBE", b"GET a")
        assert server.channels.by_name == {}
        return first, sent, message, second

    first, sent, message, second = with_clients(2, body)
    assert first == [[b"subscribe", b"news", 1], [b"pong", b""]]
    assert (sent, message) == ([1, 0], [[b"message", b"news", b"hello"]])
    refused, *rest = second
    assert str(refused).startswith("ERR Can't execute 'get': only (P|S)SUBSCRIBE")
    assert rest == [[b"unsubscribe", b"news", 0], [b"unsubscribe", None, 0], None]


def test_a_subscriber_that_does_not_read_is_cut_and_holds_up_no_publisher(monkeypatch, caplog):
    monkeypatch.setattr(channels, "MAX_UNREAD_BYTES", 100_000)

    def body(server, slow, quick, publisher):
        for client in (slow, quick):
            yield from client.ask(b"SUBSCRIBE news")
        counts = []
        for _ in range(100):
            counts += yield from publisher.ask(b"PUBLISH news " + b"x" * 10_000)
            yield from quick.answers(1)
        assert len(server.channels.by_name[b"news"]) == 1
        return counts

    counts = with_clients(3, body)
    assert counts[0] == 2 and counts[-1] == 1
    assert caplog.messages == ["a Unix client is disconnected: it does not read its messages"]


def test_a_client_that_does_not_read_is_not_read_from():
    def body(server, client):
        yield from client.ask(b"SET k " + b"x" * 60_000)
        sent = yield Spawn(client.send(*[b"GET k"] * 50_000), keep=True)
        yield Sleep(1)
        assert server.commands < 2000  # the buffers of the system, and one batch
        yield Cancel(sent)
        with pytest.raises(TaskCancelled):
            yield Join(sent)

    with_clients(1, body)


# Group commit.


class Disk:
    """Stands for `write_at`: it blocks while `open` is not set, and raises `error`."""

    def __init__(self, monkeypatch):
        self.really, self.groups = append_only.write_at, []
        self.open, self.error = ThreadEvent(), None
        self.begun = self.allowed = 0  # groups that were begun, and those that do not fail
        self.open.set()
        monkeypatch.setattr(append_only, "write_at", self)

    def __call__(self, fd, data, offset, sync):
        self.begun += 1
        assert self.open.wait(20)
        if self.error is not None and self.begun > self.allowed:
            self.really(fd, data[: len(data) // 2], offset, False)
            raise self.error
        self.groups.append(data)
        self.really(fd, data, offset, sync)


def test_commands_are_in_the_file_before_they_are_acknowledged_and_share_an_fsync(path, monkeypatch):
    log, disk = AppendOnlyFile(path, "always"), None

    def body(server, *clients):
        nonlocal disk
        disk = Disk(monkeypatch)
        disk.open.clear()
        for number, client in enumerate(clients):
            yield from client.send(b"SET %d x" % number, b"GET %d" % number)
        yield from until(lambda: len(log.pending) == len(clients))
        assert disk.groups == []
        disk.open.set()
        return (yield from gather(*(client.answers(2) for client in clients)))

    assert with_clients(20, body, log) == [[b"OK", b"x"]] * 20
    assert len(disk.groups) <= 2
    assert loaded(path) == [[b"SET", b"%d" % number, b"x"] for number in range(20)]


def test_reads_of_others_go_on_during_an_fsync_but_not_those_of_a_change_that_is_not_safe(path, monkeypatch):
    log = AppendOnlyFile(path, "always")

    def body(server, writer, other, third):
        yield from writer.ask(b"SET old 1")
        disk = Disk(monkeypatch)
        disk.open.clear()
        yield from writer.send(b"SET new 1")
        yield from until(lambda: b"new" in server.store.values)
        assert (yield from other.ask(b"GET old", b"PING")) == [b"1", b"PONG"]
        yield from third.send(b"GET old", b"GET new")
        yield from until(lambda: server.commands == 6)
        yield Sleep(0)
        with pytest.raises(BlockingIOError):
            third.sock.recv(1, socket.MSG_DONTWAIT)
        disk.open.set()
        answers = yield from third.answers(2)
        assert server.store.unsafe == {}
        return answers, (yield from writer.answers(1))

    assert with_clients(3, body, log) == ([b"1", b"1"], [b"OK"])


@pytest.mark.parametrize("fsync", ["always", "second", "no"])
def test_the_file_is_synced_before_an_acknowledgement_only_if_that_is_asked_for(path, monkeypatch, fsync):
    synced = []
    monkeypatch.setattr(append_only, "sync_data", lambda fd: synced.append(os.fstat(fd).st_size))
    log = AppendOnlyFile(path, fsync)
    synced.clear()  # of the new file

    def body(server, client):
        for count in range(1, 4):
            assert (yield from client.ask(b"INCR a")) == [count]
            assert path.stat().st_size == log.safe == log.position
            assert synced[-1:] == ([log.safe] if fsync == "always" else [])

    with_clients(1, body, log)
    assert synced[-1] == path.stat().st_size  # at the stop


def test_a_flush_of_no_keys_waits_for_the_changes_that_removed_them(path):
    with closing(AppendOnlyFile(path, "always")) as log:
        server = Server(log)
        session = sessions.Session(server, None, None)
        needs = [
            server.do(session, [name, b"a"][:size])[1] for name, size in ((b"INCR", 2), (b"DEL", 2), (b"FLUSHALL", 1))
        ]
        assert needs[0] < needs[1] == needs[2] == log.position
        server.store.saved(log.position)
        assert server.do(session, [b"FLUSHALL"])[1] == 0


@pytest.mark.parametrize("fsync", ["always", "second", "no"])
def test_after_a_write_that_fails_changes_are_refused_until_the_file_can_be_written(path, monkeypatch, caplog, fsync):
    log = AppendOnlyFile(path, fsync)
    full = Refused("MISCONF Errors writing to the AOF file: No space left on device")

    def body(server, one, two):
        assert (yield from one.ask(b"SET a 1", b"SET b 1")) == [b"OK"] * 2
        disk = Disk(monkeypatch)
        disk.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert (yield from one.ask(b"GET b", b"SET a 2", b"GET a", b"PING")) == [b"1", full, full, b"PONG"]
        assert (yield from two.ask(b"SET c 1", b"GET a", b"GET b", b"GET c")) == [full, full, b"1", None]
        assert [b"SET", b"a", b"2"] not in records_now(path)
        disk.error = None
        yield from until_answered(one, b"SET d 1")
        return (yield from two.ask(b"GET a", b"GET d"))

    assert with_clients(2, body, log) == [b"2", b"1"]  # the first change was refused late: it is done all the same
    assert [line for line in caplog.messages if "changes are refused" in line] == [
        f"{path}: [Errno 28] No space left on device; changes are refused until the file can be written"
    ]
    assert loaded(path) == [
        [b"SET", key, value] for key, value in zip(b"a b a d".split(), b"1 1 2 1".split(), strict=True)
    ]


@pytest.mark.slow
def test_an_answer_to_a_safe_change_stands_beside_one_that_is_refused(path, monkeypatch):
    log = AppendOnlyFile(path, "always")

    def body(server, one, two):
        disk = Disk(monkeypatch)
        disk.open.clear()
        disk.error, disk.allowed = OSError(errno.EIO, "broken"), 1
        yield from one.send(b"SET a 1")
        yield from until(lambda: disk.begun)
        yield from two.send(b"GET a", b"SET b 1", b"GET none")
        yield from until(lambda: b"b" in server.store.values)
        disk.open.set()
        found = yield from two.answers(3)
        disk.error = None
        return (yield from one.answers(1)), found

    refused = Refused("MISCONF Errors writing to the AOF file: broken")
    assert with_clients(2, body, log) == ([b"OK"], [b"1", refused, None])


@pytest.mark.slow
def test_a_subscription_begins_with_its_confirmation_also_behind_a_change_that_waits(path, monkeypatch):
    log = AppendOnlyFile(path, "always")

    def body(server, one, two):
        disk = Disk(monkeypatch)
        disk.open.clear()
        yield from one.send(b"SET a 1", b"SUBSCRIBE news")
        yield from until(lambda: disk.begun)
        early = yield from two.ask(b"PUBLISH news early")
        disk.open.set()
        found = yield from one.answers(2)
        late = yield from two.ask(b"PUBLISH news late")
        return early, found, late, (yield from one.answers(1))

    early, found, late, message = with_clients(2, body, log)
    assert (early, late) == ([0], [1])
    assert found == [b"OK", [b"subscribe", b"news", 1]] and message == [[b"message", b"news", b"late"]]


def until_answered(client, line):
    """Send a command until it is not refused."""
    while isinstance((yield from client.ask(line))[0], Refused):
        yield Sleep(0.5)


def records_now(path):
    """Return the whole records in a file that is in use."""
    found, log = [], AppendOnlyFile.__new__(AppendOnlyFile)
    log.path = path
    with open(path, "rb") as file:
        file.seek(len(MAGIC))
        while (words := log.next_record(file, 0)) is not None:
            found.append(words)
    return found


@pytest.mark.slow
def test_changes_are_synced_each_second_and_a_sync_that_fails_refuses_changes(path, monkeypatch):
    log, synced = AppendOnlyFile(path, "second"), []

    def sync(fd):
        synced.append(fd)
        if len(synced) == 2:
            raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(append_only, "sync_data", sync)

    def body(server, client):
        each_second = yield Spawn(log.sync_each_second(), daemon=True, keep=True)
        yield from client.ask(b"SET a 1", b"SET b 1")
        yield Sleep(1.5)
        yield from until(lambda: len(synced) == 1)  # virtual time waits for no thread
        yield Sleep(5)
        yield from client.ask(b"SET a 2")
        yield Sleep(1.5)
        yield from until(lambda: log.sync_error is not None)
        refused = yield from client.ask(b"SET a 3")
        yield Sleep(1.5)
        yield from until(lambda: log.sync_error is None)
        found = yield from client.ask(b"SET a 4", b"GET a")
        yield Cancel(each_second)
        with pytest.raises(TaskCancelled):
            yield Join(each_second)
        return refused, found

    assert with_clients(1, body, log) == ([Refused("MISCONF Errors writing to the AOF file: broken")], [b"OK", b"4"])
    assert len(synced) == 4  # the last one at the stop


def test_records_that_are_pending_at_the_stop_are_written(path, monkeypatch):
    log = AppendOnlyFile(path, "no")

    def body(server, client):
        disk = Disk(monkeypatch)
        disk.open.clear()
        yield from client.send(b"SET a 1")
        yield from until(lambda: log.pending)
        Thread(target=disk.open.set).start()

    with_clients(1, body, log)
    assert loaded(path) == [[b"SET", b"a", b"1"]]


def test_a_cancellation_at_any_point_loses_no_acknowledged_change_and_leaves_no_file(tmp_path):
    paths = (tmp_path / f"log{number}" for number in range(10**6))

    def make():
        path, acknowledged = next(paths), []

        def serving(server, conn):
            try:
                yield from server.handle(conn)
            finally:
                conn.close()

        def main():
            log = AppendOnlyFile(path, "always")
            try:
                server = Server(log)
                yield Spawn(log.write_groups())
                log.running = True
                conn, sock = pair()
                with sock:
                    yield Spawn(serving(server, conn))
                    yield from Client(sock).ask(b"SET a x")
                    acknowledged.append([b"SET", b"a", b"x"])
            finally:
                log.stop()

        def check():
            assert loaded(path)[: len(acknowledged)] == acknowledged

        return main(), check

    assert cancel_everywhere(make, expected=(AssertionError, ConnectionError)) > 20
