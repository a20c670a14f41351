"""The chat demo: with clients on real connections to the program, and in virtual time."""

from __future__ import annotations

import importlib
import re
import signal
import socket
import struct
from contextlib import ExitStack, contextmanager

import pytest
from helpers import no_file_is_left_open, run, until  # noqa: F401
from programs import ROOT, assert_one_line, finished, started

from minisched import Cancel, Join, Now, Read, Sleep, Socket, Spawn, TaskCancelled, Timeout, Write, serve_unix
from minisched.testing import cancel_everywhere

CHAT = ROOT / "demos" / "chat.py"
QUESTION = "* What is your name?"
WRONG_NAME = "* A name is one word of at most 20 letters. What is your name?"
HELP = "Commands: /join ROOM, /who, /rooms, /quit. All other lines go to the room."
TOO_LONG = "* Line not sent: it is longer than 1000 bytes."
STOPPED = "* Goodbye: the server has stopped."
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset
SPEAKERS, ROUNDS = 10, 15  # lines of a kilobyte each; together more than a Unix socket buffers (100 of them)


@contextmanager
def chatting(*arguments):
    """Start a chat with `arguments`, or at a free port; yield it and a function that connects a guest."""
    with started(CHAT, *(arguments or ("--port", "0"))) as chat, ExitStack() as guests:
        match = chat.expect(
            r"listening on (\S+); try: nc (-U )?(\S+)( \d+)?, in two terminals or more \(Ctrl-C stops\)"
        )
        host, _, port = match[1].rpartition(":")
        address = (host, int(port)) if host else match[1]

        def visit(name=None):
            guest = guests.enter_context(Guest(address))
            assert guest.line() == QUESTION
            if name is not None:
                guest.say(name)
                guest.expect_room("lobby")
            return guest

        yield chat, visit


def ended(chat, cut=None):
    """Assert that Ctrl-C ends a chat, which logs at most how many connections it cut; `cut` is the expected number."""
    assert chat.interrupt() == 130
    _, *lines = chat.said.splitlines()
    for line in lines:
        assert re.fullmatch(r"\S{1,20} (joins|leaves) \((127\.0\.0\.1:\d+|a Unix socket)\); (\d+|nobody is) here", line)
    assert sum(" joins " in line for line in lines) == sum(" leaves " in line for line in lines)
    log = chat.errors()
    report = re.fullmatch(r"(the server has stopped; after 0 s of grace it cancelled (\d+) connections?: .*\n)?", log)
    assert report, log
    assert cut is None or int(report[2] or 0) == cut, log


class Guest:
    """A client that sends and reads lines, with a timeout of 20 seconds."""

    def __init__(self, address):
        self.conn = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.conn.settimeout(20)
        self.conn.connect(address)
        self.file = self.conn.makefile("rb")

    def send(self, data):
        self.conn.sendall(data)

    def say(self, *lines):
        self.send("".join(f"{line}\n" for line in lines).encode())

    def line(self):
        """Return the next line, "" at the end."""
        return self.file.readline().decode().removesuffix("\n")

    def expect(self, *lines):
        assert [self.line() for _ in lines] == list(lines)

    def expect_room(self, name, number=None):
        assert re.fullmatch(rf"\* You are in {name} \({number or '[0-9]+'}\)\. {re.escape(HELP)}", self.line())

    def abort(self):
        """Reset the connection."""
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self.close()

    def close(self):
        self.file.close()
        self.conn.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


# On real connections.


@pytest.mark.slow
def test_people_see_the_lines_the_arrivals_and_the_departures_of_the_others():
    with chatting() as (chat, visit):
        ada = visit("Ada")
        bob = visit("Bob")
        ada.expect("* Bob joins")
        cy = visit("Cy")
        for other in (ada, bob):
            other.expect("* Cy joins")
        bob.say("hello", "hello again")
        for other in (ada, cy):
            other.expect("Bob: hello", "Bob: hello again")
        bob.say("/quit", "ignored after quit")
        bob.expect("")  # no echo of a person's own lines
        for other in (ada, cy):
            other.expect("* Bob leaves")
        ada.close()
        cy.expect("* Ada leaves")
        cy.close()
        ended(chat)


@pytest.mark.slow
def test_the_chat_asks_for_a_name_until_it_is_valid_and_free():
    with chatting() as (chat, visit):
        ada = visit("Ada")
        other = visit()
        for name in ("", "  ", "Ada Lovelace", "x" * 21):
            other.say(name)
            other.expect(WRONG_NAME)
        other.say("/quit")
        other.expect("* A name has letters, digits, and - _ . ' only. What is your name?")
        other.say("Ada", "Bob")
        other.expect("* Ada is taken. What is your name?")
        other.expect_room("lobby", 2)
        ada.expect("* Bob joins")
        ada.say("/quit")
        other.expect("* Ada leaves")
        visit("Ada")  # the name is free again
        other.expect("* Ada joins")
        ended(chat, cut=2)


@pytest.mark.slow
def test_a_room_sees_only_its_own_lines_and_exists_while_it_has_members():
    with chatting() as (chat, visit):
        ada, bob, cy = (visit(name) for name in ("Ada", "Bob", "Cy"))
        ada.expect("* Bob joins", "* Cy joins")
        bob.expect("* Cy joins")
        ada.say("/join tea")
        ada.expect_room("tea", 1)
        bob.expect("* Ada moves to tea")
        bob.say("/join tea")
        bob.expect_room("tea", 2)
        ada.expect("* Bob comes from lobby")
        cy.expect("* Ada moves to tea", "* Bob moves to tea")
        cy.say("hello?", "/who", "/rooms")
        cy.expect("* In lobby: Cy", "* Rooms: lobby (1), tea (2)")
        ada.say("milk?")
        bob.expect("Ada: milk?")  # and no line of the lobby
        bob.say("/who", "/join lobby")
        bob.expect("* In tea: Ada, Bob")
        bob.expect_room("lobby", 2)
        ada.expect("* Bob moves to lobby")
        cy.expect("* Bob comes from tea")
        ada.say("/quit")
        ada.expect("")
        cy.say("/rooms", "/quit")
        cy.expect("* Rooms: lobby (2)", "")
        bob.expect("* Cy leaves")
        bob.close()
        ended(chat)


@pytest.mark.slow
def test_a_wrong_command_is_answered_with_what_is_wrong_and_is_not_published():
    with chatting() as (chat, visit):
        ada, bob = visit("Ada"), visit("Bob")
        ada.expect("* Bob joins")
        for line in ("/", "/hello", "  /who?"):
            bob.say(line)
            bob.expect(f"* There is no command {line.strip()}. {HELP}")
        for line, answer in {
            "/join": "Not moved: which room? Write /join ROOM.",
            "/join two words": "Not moved: a room's name is one word.",
            "/join " + "x" * 21: "Not moved: a name is one word of at most 20 letters.",
            "/join /": "Not moved: a name has letters, digits, and - _ . ' only.",
            "/join lobby": "You are in lobby already.",
            "/join LOBBY": "You are in lobby already.",
            "/who now": "Write /who alone: no word follows it.",
        }.items():
            bob.say(line)
            bob.expect(f"* {answer}")
        bob.say("", "   ", "a/b")
        ada.expect("Bob: a/b")
        bob.say("/quit")
        ada.expect("* Bob leaves")
        ada.close()
        ended(chat)


@pytest.mark.slow
def test_a_line_that_is_too_long_is_dropped_and_the_next_one_is_published():
    with chatting() as (chat, visit):
        ada, bob = visit("Ada"), visit("Bob")
        ada.expect("* Bob joins")
        bob.say("x" * 1000, "y" * 1001, "z" * 1_000_000, "good")
        bob.expect(TOO_LONG, TOO_LONG)
        ada.expect("Bob: " + "x" * 1000, "Bob: good")
        cy = visit()
        cy.say("x" * 5000, "Cy")
        cy.expect(TOO_LONG, WRONG_NAME)
        cy.expect_room("lobby", 3)
        cy.send(b"x" * 5000)  # without a newline
        cy.conn.shutdown(socket.SHUT_WR)
        cy.expect(TOO_LONG, "")
        ada.expect("* Cy joins", "* Cy leaves")
        ended(chat, cut=2)


@pytest.mark.slow
def test_lines_are_found_wherever_the_network_splits_them():
    with chatting() as (chat, visit):
        ada, bob = visit("Ada"), visit()
        bob.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in "Bob\r\nhällo\n".encode():
            bob.send(bytes([byte]))
        bob.expect_room("lobby", 2)
        ada.expect("* Bob joins", "Bob: hällo")
        bob.send(b"one\ntwo\r\n\nthr")
        ada.expect("Bob: one", "Bob: two")
        bob.send(b"ee\n/quit\n")
        ada.expect("Bob: three", "* Bob leaves")
        ada.close()
        ended(chat)


@pytest.mark.slow
def test_invalid_bytes_and_control_characters_are_replaced():
    with chatting() as (chat, visit):
        ada, bob = visit("Ada"), visit("Bob")
        ada.expect("* Bob joins")
        bob.send(b"\xff\xfe and \xe2\x82 and \x1b[2J\rAda: hello\x07\x00\t.\xe2\x80\xae\n")
        ada.expect("Bob: \ufffd\ufffd and \ufffd and  [2J Ada: hello   .")
        visit("\x1bCy\x07").close()
        ada.expect("* Cy joins", "* Cy leaves")
        ada.close()
        bob.close()
        ended(chat)


@pytest.mark.slow
def test_after_the_end_of_the_input_the_last_line_is_published_and_the_answers_are_sent():
    with chatting() as (chat, visit):
        ada, bob = visit("Ada"), visit()
        bob.send(b"Bob\n/who\nbye")  # as `printf ... | nc` does
        bob.conn.shutdown(socket.SHUT_WR)
        bob.expect_room("lobby", 2)
        bob.expect("* In lobby: Ada, Bob", "")
        ada.expect("* Bob joins", "Bob: bye", "* Bob leaves")
        silent = visit()
        silent.conn.shutdown(socket.SHUT_WR)
        silent.expect("")
        ada.close()
        ended(chat)


@pytest.mark.slow
def test_an_incomplete_line_before_a_reset_is_not_published():
    with chatting() as (chat, visit):
        ada, bob, nameless = visit("Ada"), visit("Bob"), visit()
        ada.expect("* Bob joins")
        bob.say("hello")
        ada.expect("Bob: hello")
        bob.send(b"half a li")
        bob.abort()
        ada.expect("* Bob leaves")
        nameless.send(b"half a na")
        nameless.abort()
        visit("Bob")
        ada.expect("* Bob joins")
        ended(chat, cut=2)


@pytest.mark.slow
def test_no_person_is_cut_because_all_speak_at_once():
    people, lines = 80, 8
    with chatting("--port", "0", "--room-size", people + 10) as (chat, visit):
        speakers = []
        for number in range(people):
            speakers.append(visit(f"G{number}"))
            for speaker in speakers[:-1]:
                speaker.expect(f"* G{number} joins")
        for speaker in speakers:
            speaker.say(*map(str, range(lines)))
        for number, speaker in enumerate(speakers):
            lines_seen = sorted(speaker.line() for _ in range((people - 1) * lines))
            others = (other for other in range(people) if other != number)
            assert lines_seen == sorted(f"G{other}: {line}" for other in others for line in range(lines))
        ended(chat, cut=people)


def fill(speakers, rounds=ROUNDS):
    """Let each speaker send a long line and read the lines of the others, in several rounds."""
    for number in range(rounds):
        for speaker in speakers:
            speaker.say(f"{number} " + "x" * 980)
        for speaker in speakers:
            lines = [speaker.line() for _ in range(len(speakers) - 1)]
            assert all(re.fullmatch(rf"G\d: {number} x{{980}}", line) for line in lines), lines


@contextmanager
def chatting_with_a_guest_that_does_not_read(path):
    """Yield a chat whose rooms store few lines, a guest that has not read any, and guests that have sent many."""
    with chatting("--unix", path, "--room-size", 20) as (chat, visit):
        slow, speakers = visit("Slow"), [visit(f"G{number}") for number in range(SPEAKERS)]
        for number, speaker in enumerate(speakers):
            speaker.expect(*(f"* G{later} joins" for later in range(number + 1, SPEAKERS)))
        fill(speakers)
        yield chat, slow, speakers


@pytest.mark.slow
def test_a_slow_reader_gets_a_message_and_is_cut_and_the_others_continue(tmp_path):
    path = tmp_path / "chat"
    with chatting_with_a_guest_that_does_not_read(path) as (chat, slow, speakers):
        lines = list(iter(slow.line, ""))
        most = SPEAKERS * ROUNDS
        assert lines[:SPEAKERS] == [f"* G{number} joins" for number in range(SPEAKERS)]
        missed = re.fullmatch(r"\* Goodbye: you read too slowly and missed (\d+) lines\.", lines[-1])
        assert missed, lines[-1]
        assert len(lines) - 1 - SPEAKERS + int(missed[1]) + 20 == most  # written, missed, and still stored at the end
        for speaker in speakers:
            speaker.expect("* Slow leaves")
        fill(speakers, 2)
        ended(chat, cut=SPEAKERS)
    assert not path.exists()


@pytest.mark.slow
def test_leaving_with_unread_lines_is_not_a_failure(tmp_path):
    with chatting_with_a_guest_that_does_not_read(tmp_path / "chat") as (chat, slow, speakers):
        slow.close()
        for speaker in speakers:
            speaker.expect("* Slow leaves")
        ended(chat, cut=SPEAKERS)


@pytest.mark.slow
def test_ctrl_c_sends_a_goodbye_to_all_connections_and_does_not_wait_for_a_guest_that_does_not_read(tmp_path):
    with chatting_with_a_guest_that_does_not_read(tmp_path / "chat") as (chat, slow, speakers):
        nameless = Guest(str(tmp_path / "chat"))
        with nameless:
            nameless.expect(QUESTION)
            speakers[0].send(b"half a li")
            speakers[1].say("/join tea")
            speakers[1].expect_room("tea", 1)
            for speaker in speakers[:1] + speakers[2:]:
                speaker.expect("* G1 moves to tea")
            ended(chat, cut=SPEAKERS + 2)
            nameless.expect(STOPPED, "")
            for speaker in speakers:
                assert speaker.file.read().decode().splitlines()[0] == STOPPED
            assert slow.file.read()
    assert not (tmp_path / "chat").exists()


@pytest.mark.slow
def test_connections_that_end_within_the_grace_period_are_not_cut():
    with chatting("--port", "0", "--grace", "60") as (chat, visit):
        ada, bob = visit("Ada"), visit("Bob")
        chat.process.send_signal(signal.SIGINT)
        ada.expect("* Bob joins")
        bob.say("is it over?", "/quit")
        ada.expect("Bob: is it over?", "* Bob leaves")
        ada.say("/quit")
        ada.expect("")
        assert chat.wait() == 130
        assert "cut" not in chat.errors()


@pytest.mark.slow
def test_a_wrong_option_is_a_one_line_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert_one_line(finished(CHAT, "--port", port), f"chat: 127.0.0.1:{port}: Address already in use")
    (tmp_path / "mine").write_text("kept")
    assert_one_line(finished(CHAT, "--unix", tmp_path / "mine"), "chat: ", "mine: Address already in use")
    assert (tmp_path / "mine").read_text() == "kept"
    for option, text, wrong in (
        ("--room-size", "0", "a number of at least 1"),
        ("--grace", "nan", "seconds, 0 or more, or inf for no limit"),
    ):
        refused = finished(CHAT, "--port", 0, option, text)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"argument {option}: expected {wrong}, not '{text}'" in refused.stderr


@pytest.mark.slow
def test_the_chat_can_be_run_and_traced_by_the_command_line(tmp_path):
    with started("-m", "minisched", "run", "--trace", CHAT, "127.0.0.1", "0", tmp_path / "chat", "5") as chat:
        chat.expect("listening on .*chat; ")
        with Guest(str(tmp_path / "chat")) as ada:
            ada.expect(QUESTION)
            ada.say("Ada")
            ada.expect_room("lobby", 1)
        assert chat.interrupt() == 130
        assert "Ada in lobby" in chat.errors()


# In virtual time.


@pytest.fixture
def chat(monkeypatch):
    """Return the demo as a module."""
    monkeypatch.syspath_prepend(CHAT.parent)
    return importlib.import_module("chat")


def play(body):
    """Run in virtual time, with a timeout of two hours."""

    def main():
        with (yield Timeout(7200)):
            return (yield from body)

    return run(main())


class Visitor:
    """The client's end of a connection, and the task of the chat that serves the other end."""

    def __init__(self, conn, task):
        self.conn = conn
        self.task = task
        self.buffer = b""

    def say(self, *lines):
        yield Write(self.conn, "".join(f"{line}\n" for line in lines).encode())

    def line(self):
        """Return the next line, "" at the end."""
        while b"\n" not in self.buffer and (data := (yield Read(self.conn, 65536))):
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def lines(self, number):
        lines = []
        for _ in range(number):
            lines.append((yield from self.line()))
        return lines

    def go(self):
        self.conn.shutdown(socket.SHUT_WR)
        while (yield from self.line()):
            pass
        yield Join(self.task)


def ends():
    """Return both ends of a connection with small buffers."""
    pair = []
    for plain in socket.socketpair():
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        pair.append(Socket(fileno=plain.detach(), peer="the other"))
    return pair


def handler(hall, conn):
    """Serve a connection of the chat `hall`, and close it, as a server does."""
    with conn:
        yield from hall.visit(conn)


def visit(stack, hall, name):
    """Connect to the chat `hall` and join its lobby; return the Visitor."""
    ours, theirs = ends()
    visitor = Visitor(stack.enter_context(theirs), (yield Spawn(handler(hall, ours), keep=True)))
    yield from visitor.say(name)
    assert (yield from visitor.lines(2))[0] == QUESTION
    return visitor


def test_pasted_lines_are_published_slowly_enough_for_all_to_read_them(chat):
    hall = chat.Chat(3)

    def main():
        with ExitStack() as stack:
            ada = yield from visit(stack, hall, "Ada")
            bob = yield from visit(stack, hall, "Bob")
            assert (yield from ada.line()) == "* Bob joins"
            since = yield Now()
            yield from bob.say(*map(str, range(100)))
            assert (yield from ada.lines(100)) == [f"Bob: {number}" for number in range(100)]
            assert (yield Now()) - since == pytest.approx(99 * chat.PACE_SECONDS)
            yield from bob.go()
            yield from ada.go()

    play(main())


def test_a_room_stores_no_more_lines_than_its_size_and_cuts_a_reader_that_falls_behind(chat):
    hall = chat.Chat(7)

    def main():
        with ExitStack() as stack:
            slow = yield from visit(stack, hall, "Slow")
            fast = yield from visit(stack, hall, "Fast")
            for number in range(1000):
                yield from fast.say(f"{number} " + "x" * 900)
                yield Sleep(1)
                assert len(hall.lobby.lines.items) <= 7
            assert list(hall.lobby.people) == ["Slow", "Fast"]  # its buffers are full, and it has not got the goodbye
            lines = []
            while line := (yield from slow.line()):
                lines.append(line)
            with pytest.raises(TaskCancelled, match="you read too slowly"):
                yield Join(slow.task)
            missed = 1000 - 7 - (len(lines) - 2)  # without "* Fast joins" and the goodbye
            assert lines[0] == "* Fast joins"
            assert lines[-1] == f"* Goodbye: you read too slowly and missed {missed} lines."
            assert (yield from fast.line()) == "* Slow leaves"
            assert (list(hall.lobby.people), list(hall.people)) == (["Fast"], ["Fast"])
            assert len(hall.lobby.lines.subscriptions) == 1
            yield from fast.go()

    play(main())


def test_an_endless_line_does_not_fill_the_buffer(chat):
    hall = chat.Chat(7)

    def main():
        with ExitStack() as stack:
            ada = yield from visit(stack, hall, "Ada")
            for _ in range(100):
                yield Write(ada.conn, b"x" * 2 * chat.MAX_LINE_BYTES)
                yield Sleep(1)
                assert hall.people["Ada"].stream.available <= chat.MAX_LINE_BYTES + 1
            ada.conn.shutdown(socket.SHUT_WR)
            assert (yield from ada.lines(2)) == [TOO_LONG, ""]

    play(main())


def test_an_answer_waits_for_the_line_that_is_being_written(chat):
    hall = chat.Chat(1000)

    def main():
        with ExitStack() as stack:
            slow = yield from visit(stack, hall, "Slow")
            quick = yield from visit(stack, hall, "Quick")
            for _ in range(100):
                yield from quick.say("x" * 900)
                yield Sleep(1)
            yield from slow.say("/who", "done")
            yield Sleep(1)
            lines = yield from slow.lines(102)
            assert sorted(lines) == ["* In lobby: Slow, Quick", "* Quick joins", *["Quick: " + "x" * 900] * 100]
            assert lines.index("* In lobby: Slow, Quick") < 100
            assert (yield from quick.line()) == "Slow: done"
            yield from slow.go()
            yield from quick.go()

    play(main())


def test_lines_of_a_person_that_does_not_read_are_delayed(chat):
    hall = chat.Chat(1000)

    def main():
        with ExitStack() as stack:
            slow = yield from visit(stack, hall, "Slow")
            quick = yield from visit(stack, hall, "Quick")
            for _ in range(100):
                yield from quick.say("x" * 900)
                yield Sleep(1)
            since = yield Now()
            yield from slow.say("one", "two", "three")
            for number, line in enumerate(("one", "two", "three")):
                assert (yield from quick.line()) == f"Slow: {line}"
                assert (yield Now()) - since == pytest.approx(number * (chat.ECHO_SECONDS + chat.PACE_SECONDS))
            yield from slow.go()
            yield from quick.go()

    play(main())


def test_the_goodbye_takes_a_second_at_most(chat):
    hall = chat.Chat(7)

    def main():
        with ExitStack() as stack:
            slow = yield from visit(stack, hall, "Slow")
            quick = yield from visit(stack, hall, "Quick")
            for _ in range(100):
                yield from quick.say("x" * 900)
                yield Sleep(1)
            since = yield Now()
            for visitor, seconds in ((quick, 0), (slow, chat.GOODBYE_SECONDS)):
                yield Cancel(visitor.task, "closing time")
                with pytest.raises(TaskCancelled):
                    yield Join(visitor.task)
                assert (yield Now()) - since == seconds
            assert (yield from quick.line()) == "* Goodbye: closing time."
            assert (hall.people, hall.lobby.people, hall.lobby.lines.subscriptions) == ({}, {}, {})

    play(main())


def test_an_idle_person_gets_the_reason_in_the_goodbye(chat, tmp_path):
    path, ready = str(tmp_path / "chat"), []

    def main():
        body = serve_unix(chat.Chat(7).visit, path, idle_timeout=60, ready=ready.append)
        server = yield Spawn(body, keep=True)
        yield from until(lambda: ready)
        with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as conn:
            conn.try_connect(path)
            idle = Visitor(conn, None)
            lines = yield from idle.lines(3)
            assert 60 <= (yield Now()) <= 76
        yield Cancel(server)
        with pytest.raises(TaskCancelled):
            yield Join(server)
        return lines

    assert play(main()) == [QUESTION, "* Goodbye: its connection was idle for 60 s.", ""]


def test_a_room_is_removed_with_its_last_member_and_the_lobby_never(chat):
    hall = chat.Chat(7)

    def main():
        with ExitStack() as stack:
            ada = yield from visit(stack, hall, "Ada")
            for number in range(100):
                yield from ada.say(f"/join room-{number}")
                assert (yield from ada.line()).startswith(f"* You are in room-{number} (1).")
                assert list(hall.rooms) == ["lobby", f"room-{number}"]
                assert hall.rooms[f"room-{number}"].lines.size == 7
            yield from ada.say("/quit")
            yield Join(ada.task)
            assert (list(hall.rooms), hall.people) == (["lobby"], {})

    play(main())


@pytest.mark.slow
def test_a_cancellation_at_any_point_leaves_no_person_and_no_room_behind(chat):
    def talk(end, name):
        with end:
            visitor = Visitor(end, None)
            yield from visitor.say(name, f"hello from {name}", "/join tea", "/who", "bye")
            end.shutdown(socket.SHUT_WR)
            while (yield from visitor.line()):
                pass

    def make():
        hall = chat.Chat(7)

        def main():
            for name in ("Ada", "Bob"):
                ours, theirs = ends()
                yield Spawn(handler(hall, ours))
                yield Spawn(talk(theirs, name))

        def check():
            assert (hall.people, list(hall.rooms), hall.lobby.people) == ({}, ["lobby"], {})
            assert hall.lobby.lines.subscriptions == {}

        return main(), check

    assert cancel_everywhere(make, expected=(ConnectionError,)) > 100
