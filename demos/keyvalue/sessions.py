"""A session: the commands of one connection, in batches, and the commands about the connection and the server.

Shows: pipelining. All commands that one read has brought are done in one turn, and answered by one write; a batch has
a bound in commands and in bytes, so that no client holds up the others, or the memory.

Run it:  python demos/redis_server.py    (this file does nothing by itself)
"""

import socket

from minisched import MoveOnAfter, Read, Write

from .commands import COMMANDS, NOT_A_NUMBER, command
from .patterns import matcher
from .protocol import NULL, OK, Parser, ProtocolError, array, bulk, bulks, error, integer, whole
from .store import CommandError

READ_BYTES = 64 * 1024
BATCH_COMMANDS = 500  # done in one turn: some milliseconds
BATCH_BYTES = 1024 * 1024  # of answers: then they are written
LINGER_SECONDS = 1.0  # for a client to read the last answer, before the connection is closed
LINGER_BYTES = 1024 * 1024  # that are read meanwhile, and dropped
MAX_NAME_BYTES = 32  # of a command
SHOWN_BYTES = 128  # of the words of an unknown command, in the error
IN_CHANNELS = ("ping", "subscribe", "unsubscribe", "quit")  # commands for a session that has subscriptions


class Session:
    """One connection, its task, its subscriptions, and its commands that are not done."""

    def __init__(self, server, conn, task, name="a client"):
        self.server, self.conn, self.task, self.name = server, conn, task, name
        self.number = server.connections
        self.parser = Parser()
        self.held = None  # a SUBSCRIBE behind other commands: it begins the next batch
        self.closing = False
        self.channels = {}
        self.outbox = None  # from the first SUBSCRIBE on, it has all answers and messages

    def serve(self):
        """Answer the commands of the connection until it ends."""
        while not self.closing and (data := (yield Read(self.conn, READ_BYTES))):
            self.parser.feed(data)
            while (batch := self.next_batch())[0]:
                answers = yield from self.server.until_safe(*batch)
                yield from self.send(b"".join(answers))
        if self.closing:
            yield from self.linger()

    def next_batch(self):
        """Do the commands that are here, up to a limit; return their answers, and the positions that have to be safe.

        The confirmation of a SUBSCRIBE comes before any message. So it begins a batch, and waits for no file.
        """
        answers, needs, size = [], {}, 0
        while len(answers) < BATCH_COMMANDS and size < BATCH_BYTES and not self.closing:
            try:
                words = self.held or self.parser.next_command()
            except ProtocolError as wrong:
                self.closing = True
                answers.append(error(f"ERR Protocol error: {wrong}"))
                break
            if words is None:
                break
            self.held = words if answers and words[0][:10].upper() == b"SUBSCRIBE" else None
            if self.held:
                break
            answer, need = self.server.do(self, words)
            if need:
                needs[len(answers)] = need
            answers.append(answer)
            size += len(answer)
        return answers, needs

    def send(self, data):
        """Send answers, and wait until they are written: a client that does not read is not read from."""
        if self.outbox is None:
            yield Write(self.conn, data)
        else:
            yield from self.outbox.until_written(self.outbox.put(data))

    def linger(self):
        """Let the client read the last answer: if bytes of a client are left unread, a close throws the answer away."""
        self.conn.shutdown(socket.SHUT_WR)
        left = LINGER_BYTES
        with (yield MoveOnAfter(LINGER_SECONDS)):
            while left > 0 and (data := (yield Read(self.conn, READ_BYTES))):
                left -= len(data)

    def refusal(self, words):
        """Return the error of a command that is not in the table, has too few or too many words, or is not possible."""
        name, *rest = words
        known = COMMANDS.get(name.upper()) if len(name) <= MAX_NAME_BYTES else None
        if known is None:
            shown = "".join(f"'{text(word[:SHOWN_BYTES])}' " for word in rest)[:SHOWN_BYTES]
            return error(f"ERR unknown command '{text(name[:SHOWN_BYTES])}', with args beginning with: {shown}")
        if not known.least <= len(rest) <= known.most:
            return error(f"ERR wrong number of arguments for '{known.name}' command")
        allowed = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
        return error(f"ERR Can't execute '{known.name}': {allowed}")


def text(word):
    """Return a word of a client as text; other bytes are shown as numbers."""
    return word.decode("utf-8", "backslashreplace")


# Commands about the connection.


@command("PING", 0, 1, of="session")
def ping(session, *words):
    if session.channels:
        return bulks([b"pong", *(words or [b""])])
    return bulk(words[0]) if words else b"+PONG\r\n"


@command("ECHO", 1, of="session")
def echo(session, word):
    return bulk(word)


@command("QUIT", more=True, of="session")
def quit_(session, *words):
    session.closing = True
    return OK


@command("SELECT", 1, of="session")
def select(session, word):
    index = whole(word)
    if index != 0:  # there is one database
        raise CommandError(NOT_A_NUMBER if index is None else "ERR DB index is out of range")
    return OK


@command("CLIENT", 1, more=True, of="session")
def client(session, name, *words):
    """Take what client libraries say about themselves when they connect."""
    match name.upper(), len(words):
        case (b"SETNAME", 1) | (b"SETINFO", 2):
            return OK
        case b"GETNAME", 0:
            return NULL
        case b"ID", 0:
            return integer(session.number)
    raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{text(name[:SHOWN_BYTES])}'")


@command("CONFIG", 1, more=True, of="session")
def config(session, name, *patterns):
    """Answer CONFIG GET, with which redis-benchmark begins; no setting can be changed."""
    if name.upper() != b"GET" or not patterns:
        raise CommandError("ERR only CONFIG GET is supported")
    settings = session.server.settings()
    found = {key: settings[key] for pattern in patterns for key in filter(matcher(pattern.lower()), settings)}
    return array([bulk(word) for pair in found.items() for word in pair])


@command("INFO", more=True, of="session")
def info(session, *sections):
    wanted = {section.lower() for section in sections} - {b"all", b"default", b"everything"}
    parts = []
    for title, values in session.server.info().items():
        if not wanted or title.lower().encode() in wanted:
            parts.append("".join([f"# {title}\r\n", *(f"{key}:{value}\r\n" for key, value in values.items())]))
    return bulk("\r\n".join(parts).encode())
