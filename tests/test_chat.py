"""The chat: as people use it, each over a plain connection to the program, and in virtual time."""

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
WHO = "* Who are you?"
HELP = "/join ROOM, /who, /rooms, /quit; anything else is said in the room"
TOO_LONG = "* That was not said: a line has 1000 bytes at most."
STOPPED = "* Goodbye: the server has stopped."
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset
SPEAKERS, ROUNDS = 10, 15  # of a kilobyte for each: more than a Unix socket holds (100 of them)


@contextmanager
def chatting(*arguments):
    """Start a chat at a free port, or where `arguments` say; give it and a function that visits it."""
    with started(CHAT, *(arguments or ("--port", "0"))) as chat, ExitStack() as guests:
        found = chat.expect(
            r"listening on (\S+); try: nc (-U )?(\S+)( \d+)?, in two terminals or more \(Ctrl-C stops\)"
        )
        host, _, port = found[1].rpartition(":")
        address = (host, int(port)) if host else found[1]

        def visit(name=None):
            guest = guests.enter_context(Guest(address))
            assert guest.line() == WHO
            if name is not None:
                guest.say(name)
                guest.expect_room("lobby")
            return guest

        yield chat, visit


def ended(chat, cut=None):
    """Assert that Ctrl-C ends a chat, which says no more than how many it cut; `cut` is how many that has to be."""
    assert chat.interrupt() == 130
    assert chat.said.count("\n") == 1
    said = chat.errors()
    report = re.fullmatch(r"(the server has stopped; after 0 s of grace it cut (\d+) connections?: .*\n)?", said)
    assert report, said
    assert cut is None or int(report[2] or 0) == cut, said


class Guest:
    """Somebody who sends lines and reads lines, and waits for them, for 20 seconds at most."""

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
        assert re.fullmatch(rf"\* You are in {name}, one of {number or '[0-9]+'}\. {re.escape(HELP)}", self.line())

    def abort(self):
        """Go as a computer does that is switched off and on again."""
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self.close()

    def close(self):
        self.file.close()
        self.conn.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


# As people use it.


def test_what_one_says_the_others_see_and_who_comes_and_goes_is_told():
    with chatting() as (chat, visit):
        ada = visit("Ada")
        bob = visit("Bob")
        ada.expect("* Bob joins")
        cy = visit("Cy")
        for other in (ada, bob):
            other.expect("* Cy joins")
        bob.say("hello", "it is me")
        for other in (ada, cy):
            other.expect("Bob: hello", "Bob: it is me")
        bob.say("/quit", "not said any more")
        bob.expect("")  # no echo of what one has said oneself
        for other in (ada, cy):
            other.expect("* Bob leaves")
        ada.close()
        cy.expect("* Ada leaves")
        cy.close()
        ended(chat)


def test_a_name_is_asked_for_until_it_is_one_that_nobody_has():
    with chatting() as (chat, visit):
        ada = visit("Ada")
        other = visit()
        wrong = "* A name is a word of 20 letters at most. Who are you?"
        for name in ("", "  ", "Ada Lovelace", "/quit", "x" * 21):
            other.say(name)
            other.expect(wrong)
        other.say("Ada", "Bob")
        other.expect("* Ada is taken. Who are you?")
        other.expect_room("lobby", 2)
        ada.expect("* Bob joins")
        ada.say("/quit")
        other.expect("* Ada leaves")
        visit("Ada")  # it is free again
        other.expect("* Ada joins")
        ended(chat, cut=2)


def test_a_room_hears_only_itself_and_lasts_as_long_as_somebody_is_in_it():
    with chatting() as (chat, visit):
        ada, bob, cy = (visit(name) for name in ("Ada", "Bob", "Cy"))
        ada.expect("* Bob joins", "* Cy joins")
        bob.expect("* Cy joins")
        ada.say("/join tea")
        ada.expect_room("tea", 1)
        bob.expect("* Ada leaves")
        bob.say("/join tea")
        bob.expect_room("tea", 2)
        ada.expect("* Bob joins")
        cy.expect("* Ada leaves", "* Bob leaves")
        cy.say("is nobody here?", "/who", "/rooms")
        cy.expect("* In lobby: Cy", "* Rooms: lobby (1), tea (2)")
        ada.say("milk?")
        bob.expect("Ada: milk?")  # and nothing of the lobby
        bob.say("/who", "/join lobby")
        bob.expect("* In tea: Ada, Bob")
        bob.expect_room("lobby", 2)
        ada.expect("* Bob leaves")
        cy.expect("* Bob joins")
        ada.say("/quit")
        ada.expect("")
        cy.say("/rooms", "/quit")
        cy.expect("* Rooms: lobby (2)", "")
        bob.expect("* Cy leaves")
        bob.close()
        ended(chat)


def test_a_command_that_is_none_is_answered_with_those_that_are_and_nothing_is_said():
    with chatting() as (chat, visit):
        ada, bob = visit("Ada"), visit("Bob")
        ada.expect("* Bob joins")
        for line in ("/", "/hello", "/join", "/join two words", "/join " + "x" * 21, "/join /", "/who now", "  /who?"):
            bob.say(line)
            bob.expect(f"* {HELP}")
        bob.say("", "   ", "a/b")
        ada.expect("Bob: a/b")
        bob.say("/quit")
        ada.expect("* Bob leaves")
        ada.close()
        ended(chat)


def test_a_line_that_is_too_long_is_not_said_and_the_next_one_is():
    with chatting() as (chat, visit):
        ada, bob = visit("Ada"), visit("Bob")
        ada.expect("* Bob joins")
        bob.say("x" * 1000, "y" * 1001, "z" * 1_000_000, "good")
        bob.expect(TOO_LONG, TOO_LONG)
        ada.expect("Bob: " + "x" * 1000, "Bob: good")
        cy = visit()
        cy.say("x" * 5000, "Cy")
        cy.expect(TOO_LONG, "* A name is a word of 20 letters at most. Who are you?")
        cy.expect_room("lobby", 3)
        cy.send(b"x" * 5000)  # and never an end of it
        cy.conn.shutdown(socket.SHUT_WR)
        cy.expect(TOO_LONG, "")
        ada.expect("* Cy joins", "* Cy leaves")
        ended(chat, cut=2)


def test_lines_are_found_wherever_they_are_cut():
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


def test_what_is_no_text_is_replaced_and_moves_no_cursor():
    with chatting() as (chat, visit):
        ada, bob = visit("Ada"), visit("Bob")
        ada.expect("* Bob joins")
        bob.send(b"\xff\xfe and \xe2\x82 and \x1b[2J\rAda: hello\x07\x00\t.\xe2\x80\xae\n")
        ada.expect("Bob: \ufffd\ufffd and \ufffd and  [2J Ada: hello   .")
        visit("\x1b[2JCy").close()
        ada.expect("* [2JCy joins", "* [2JCy leaves")
        ada.close()
        bob.close()
        ended(chat)


def test_who_has_nothing_more_to_say_has_said_the_last_line_too_and_reads_the_answers():
    with chatting() as (chat, visit):
        ada, bob = visit("Ada"), visit()
        bob.send(b"Bob\n/who\nbye")  # as `printf ... | nc` does
        bob.conn.shutdown(socket.SHUT_WR)
        bob.expect_room("lobby", 2)
        bob.expect("* In lobby: Ada, Bob", "")
        ada.expect("* Bob joins", "Bob: bye", "* Bob leaves")
        nobody = visit()
        nobody.conn.shutdown(socket.SHUT_WR)
        nobody.expect("")
        ada.close()
        ended(chat)


def test_who_is_torn_off_in_the_middle_of_a_line_has_not_said_it():
    with chatting() as (chat, visit):
        ada, bob, nobody = visit("Ada"), visit("Bob"), visit()
        ada.expect("* Bob joins")
        bob.say("hello")
        ada.expect("Bob: hello")
        bob.send(b"half a li")
        bob.abort()
        ada.expect("* Bob leaves")
        nobody.send(b"half a na")
        nobody.abort()
        visit("Bob")
        ada.expect("* Bob joins")
        ended(chat, cut=2)


@pytest.mark.slow
def test_nobody_is_cut_because_all_speak_at_once():
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
            said = sorted(speaker.line() for _ in range((people - 1) * lines))
            others = (other for other in range(people) if other != number)
            assert said == sorted(f"G{other}: {line}" for other in others for line in range(lines))
        ended(chat, cut=people)


def fill(speakers, rounds=ROUNDS):
    """Let each speaker say a long line, each read those of the others, and so on."""
    for number in range(rounds):
        for speaker in speakers:
            speaker.say(f"{number} " + "x" * 980)
        for speaker in speakers:
            said = [speaker.line() for _ in range(len(speakers) - 1)]
            assert all(re.fullmatch(rf"G\d: {number} x{{980}}", line) for line in said), said


@contextmanager
def chatting_with_somebody_who_does_not_read(path):
    """Give a chat whose rooms keep few lines, one guest who has not read what others said, and those."""
    with chatting("--unix", path, "--room-size", 20) as (chat, visit):
        slow, speakers = visit("Slow"), [visit(f"G{number}") for number in range(SPEAKERS)]
        for number, speaker in enumerate(speakers):
            speaker.expect(*(f"* G{later} joins" for later in range(number + 1, SPEAKERS)))
        fill(speakers)
        yield chat, slow, speakers


def test_who_reads_too_slowly_is_told_so_and_cut_and_the_others_go_on(tmp_path):
    path = tmp_path / "chat"
    with chatting_with_somebody_who_does_not_read(path) as (chat, slow, speakers):
        lines = list(iter(slow.line, ""))
        most = SPEAKERS * ROUNDS
        assert lines[:SPEAKERS] == [f"* G{number} joins" for number in range(SPEAKERS)]
        missed = re.fullmatch(r"\* Goodbye: you read too slowly, and missed (\d+) lines\.", lines[-1])
        assert missed, lines[-1]
        assert len(lines) - 1 - SPEAKERS + int(missed[1]) + 20 == most  # written, missed, and kept at the end
        for speaker in speakers:
            speaker.expect("* Slow leaves")
        fill(speakers, 2)
        ended(chat, cut=SPEAKERS)
    assert not path.exists()


def test_who_goes_without_having_read_what_waits_is_no_failure(tmp_path):
    with chatting_with_somebody_who_does_not_read(tmp_path / "chat") as (chat, slow, speakers):
        slow.close()
        for speaker in speakers:
            speaker.expect("* Slow leaves")
        ended(chat, cut=SPEAKERS)


def test_ctrl_c_says_goodbye_to_everybody_wherever_they_are_and_waits_no_longer_for_who_does_not_read(tmp_path):
    with chatting_with_somebody_who_does_not_read(tmp_path / "chat") as (chat, slow, speakers):
        nameless = Guest(str(tmp_path / "chat"))
        with nameless:
            nameless.expect(WHO)
            speakers[0].send(b"half a li")
            speakers[1].say("/join tea")
            speakers[1].expect_room("tea", 1)
            for speaker in speakers[:1] + speakers[2:]:
                speaker.expect("* G1 leaves")
            ended(chat, cut=SPEAKERS + 2)
            nameless.expect(STOPPED, "")
            for speaker in speakers:
                assert speaker.file.read().decode().splitlines()[0] == STOPPED
            assert slow.file.read()
    assert not (tmp_path / "chat").exists()


def test_with_a_grace_those_who_go_meanwhile_are_not_cut():
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


def test_what_can_not_be_had_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_one_line(finished(CHAT, "--port", port), f"chat: 127.0.0.1:{port}: Address already in use")
    (tmp_path / "mine").write_text("kept")
    assert_one_line(finished(CHAT, "--unix", tmp_path / "mine"), "chat: ", "mine: Address already in use")
    assert (tmp_path / "mine").read_text() == "kept"
    assert_one_line(finished(CHAT, "--port", 0, "--room-size", 0), "a broadcast keeps one item or more, not 0")
    assert_one_line(finished(CHAT, "--port", 0, "--grace", "nan"), "grace is a number of seconds")


def test_the_chat_can_be_run_and_traced_by_the_command_line(tmp_path):
    with started("-m", "minisched", "run", "--trace", CHAT, "127.0.0.1", "0", tmp_path / "chat", "5") as chat:
        chat.expect("listening on .*chat; ")
        with Guest(str(tmp_path / "chat")) as ada:
            ada.expect(WHO)
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
    """Run in virtual time, for two hours at most."""

    def main():
        with (yield Timeout(7200)):
            return (yield from body)

    return run(main())


class Visitor:
    """The other end of a connection that a chat has."""

    def __init__(self, conn, task):
        self.conn = conn
        self.task = task
        self.came = b""

    def say(self, *lines):
        yield Write(self.conn, "".join(f"{line}\n" for line in lines).encode())

    def line(self):
        """Return the next line, "" at the end."""
        while b"\n" not in self.came and (data := (yield Read(self.conn, 65536))):
            self.came += data
        line, _, self.came = self.came.partition(b"\n")
        return line.decode()

    def lines(self, number):
        came = []
        for _ in range(number):
            came.append((yield from self.line()))
        return came

    def go(self):
        self.conn.shutdown(socket.SHUT_WR)
        while (yield from self.line()):
            pass
        yield Join(self.task)


def ends():
    """Return both ends of a connection that holds little."""
    pair = []
    for plain in socket.socketpair():
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        pair.append(Socket(fileno=plain.detach(), peer="the other"))
    return pair


def handler(hall, conn):
    """Be a visit to the chat `hall`; close the connection, as a server does."""
    with conn:
        yield from hall.visit(conn)


def visit(stack, hall, name):
    """Visit the chat `hall` and go to its lobby; return the Visitor."""
    ours, theirs = ends()
    visitor = Visitor(stack.enter_context(theirs), (yield Spawn(handler(hall, ours), keep=True)))
    yield from visitor.say(name)
    assert (yield from visitor.lines(2))[0] == WHO
    return visitor


def test_a_paste_is_said_at_a_pace_at_which_nobody_misses_any_of_it(chat):
    hall = chat.Chat(3)

    def main():
        with ExitStack() as stack:
            ada = yield from visit(stack, hall, "Ada")
            bob = yield from visit(stack, hall, "Bob")
            assert (yield from ada.line()) == "* Bob joins"
            since = yield Now()
            yield from bob.say(*map(str, range(100)))
            assert (yield from ada.lines(100)) == [f"Bob: {number}" for number in range(100)]
            assert (yield Now()) - since == pytest.approx(99 * chat.PACE)
            yield from bob.go()
            yield from ada.go()

    play(main())


def test_a_room_keeps_no_more_than_its_size_for_who_never_reads_and_cuts_whoever_falls_behind(chat):
    hall = chat.Chat(7)

    def main():
        with ExitStack() as stack:
            slow = yield from visit(stack, hall, "Slow")
            fast = yield from visit(stack, hall, "Fast")
            for number in range(1000):
                yield from fast.say(f"{number} " + "x" * 900)
                yield Sleep(1)
                assert len(hall.lobby.lines.items) <= 7
            assert list(hall.lobby.people) == ["Slow", "Fast"]  # its buffers are full, and it has not been told
            lines = []
            while line := (yield from slow.line()):
                lines.append(line)
            with pytest.raises(TaskCancelled, match="you read too slowly"):
                yield Join(slow.task)
            missed = 1000 - 7 - (len(lines) - 2)  # * Fast joins, and the goodbye
            assert lines[0] == "* Fast joins"
            assert lines[-1] == f"* Goodbye: you read too slowly, and missed {missed} lines."
            assert (yield from fast.line()) == "* Slow leaves"
            assert (list(hall.lobby.people), list(hall.people)) == (["Fast"], ["Fast"])
            assert len(hall.lobby.lines.subscriptions) == 1
            yield from fast.go()

    play(main())


def test_of_a_line_without_an_end_no_more_is_kept_than_a_line_may_have(chat):
    hall = chat.Chat(7)

    def main():
        with ExitStack() as stack:
            ada = yield from visit(stack, hall, "Ada")
            for _ in range(100):
                yield Write(ada.conn, b"x" * 2 * chat.LINE)
                yield Sleep(1)
                assert len(hall.people["Ada"].came) <= 2 * chat.LINE
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


def test_who_does_not_read_is_not_heard_for_a_while(chat):
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
                assert (yield Now()) - since == pytest.approx(number * (chat.PATIENCE + chat.PACE))
            yield from slow.go()
            yield from quick.go()

    play(main())


def test_the_last_word_takes_a_second_at_most(chat):
    hall = chat.Chat(7)

    def main():
        with ExitStack() as stack:
            slow = yield from visit(stack, hall, "Slow")
            quick = yield from visit(stack, hall, "Quick")
            for _ in range(100):
                yield from quick.say("x" * 900)
                yield Sleep(1)
            since = yield Now()
            for visitor, seconds in ((quick, 0), (slow, chat.LAST_WORD)):
                yield Cancel(visitor.task, "it is late")
                with pytest.raises(TaskCancelled):
                    yield Join(visitor.task)
                assert (yield Now()) - since == seconds
            assert (yield from quick.line()) == "* Goodbye: it is late."
            assert (hall.people, hall.lobby.people, hall.lobby.lines.subscriptions) == ({}, {}, {})

    play(main())


def test_who_is_idle_is_told_why_it_is_cut(chat, tmp_path):
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

    assert play(main()) == [WHO, "* Goodbye: its connection was idle for 60 s.", ""]


def test_a_room_is_forgotten_with_the_last_who_is_in_it_and_the_lobby_never(chat):
    hall = chat.Chat(7)

    def main():
        with ExitStack() as stack:
            ada = yield from visit(stack, hall, "Ada")
            for number in range(100):
                yield from ada.say(f"/join room-{number}")
                assert (yield from ada.line()).startswith(f"* You are in room-{number}, one of 1.")
                assert list(hall.rooms) == ["lobby", f"room-{number}"]
                assert hall.rooms[f"room-{number}"].lines.items.maxlen == 7
            yield from ada.say("/quit")
            yield Join(ada.task)
            assert (list(hall.rooms), hall.people) == (["lobby"], {})

    play(main())


def test_whoever_is_cancelled_wherever_nobody_and_no_room_is_left_behind(chat):
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
