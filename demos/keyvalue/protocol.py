"""RESP2, the protocol of Redis: bytes become commands, and answers become bytes. No socket, no task.

Shows: a parser without I/O. It takes bytes in pieces of any size, and the same bytes give the same commands, however
they are cut. Each length is checked before a byte of it is stored, so a client holds as much memory as it has sent.

Run it:  python demos/redis_server.py    (this file does nothing by itself)
"""

import re

MAX_LINE_BYTES = 64 * 1024  # of an inline command, and of a line with a length; as in Redis
MAX_BULK_BYTES = 512 * 1024 * 1024  # of one argument; as in Redis
MAX_WORDS = 1024 * 1024  # of one command; as in Redis
MAX_COMMAND_BYTES = 1024 * 1024 * 1024  # of all arguments together; as the query buffer of Redis

NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,18}")  # no sign +, no leading zero, no space: as Redis reads numbers
# Each byte has one way to match. A possessive quantifier would say that too, but Python 3.11.2 then searches for ever.
QUOTED = rb'"([^"\\]*(?:\\.[^"\\]*)*)"' + rb"|'([^'\\]*(?:\\(?:'|(?!'))[^'\\]*)*)'"
WORD = re.compile(rb"""([^\s"']*)(?:""" + QUOTED + rb""")?(?=\s|\Z)""", re.DOTALL)
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}

OK = b"+OK\r\n"
NULL = b"$-1\r\n"
NULL_ARRAY = b"*-1\r\n"


class ProtocolError(Exception):
    """Bytes that are not a command. The connection is closed, since the next command cannot be found."""


class Parser:
    """The commands in a stream of bytes, each one as a list of its words."""

    def __init__(self):
        self.buffer = bytearray()
        self.at = 0  # the first byte in the buffer that is not parsed
        self.words = []  # of the command that is being parsed
        self.missing = 0  # words of that command
        self.length = -1  # of its next word; -1 if that is not known yet
        self.size = 0  # of its words so far, in bytes

    def feed(self, data):
        """Add received bytes."""
        del self.buffer[: self.at]
        self.at = 0
        self.buffer += data

    def next_command(self):
        """Return the next command, or None if more bytes are needed; raise ProtocolError."""
        while not self.missing:
            line = self._line("mbulk count string" if self.buffer[self.at : self.at + 1] == b"*" else "inline request")
            if line is None:
                return None
            if line[:1] == b"*":
                self.missing = max(checked_length(line, MAX_WORDS, "multibulk"), 0)  # a negative one has no words
                self.words, self.size = [], 0
            elif words := split_words(line):
                return words
        return self._finish_words()

    def _finish_words(self):
        """Parse words until the command is complete, and return it; None if more bytes are needed."""
        buffer = self.buffer
        while self.missing:
            if self.length < 0 and not self._find_length():
                return None
            end = self.at + self.length
            if len(buffer) < end + 2:  # the line end behind the word belongs to it
                return None
            self.words.append(bytes(buffer[self.at : end]))
            self.at = end + 2
            self.length = -1
            self.missing -= 1
        return self.words

    def _find_length(self):
        """Parse the line with the length of the next word; return whether it is there."""
        line = self._line("bulk count string")
        if line is None:
            return False
        if line[:1] != b"$":
            raise ProtocolError(f"expected '$', got '{line[:1].decode('ascii', 'replace')}'")
        length = checked_length(line, MAX_BULK_BYTES, "bulk")
        self.size += length
        if length < 0 or self.size > MAX_COMMAND_BYTES:
            raise ProtocolError("invalid bulk length")
        self.length = length
        return True

    def _line(self, what):
        """Take and return the next line, or return None if its end is not there yet."""
        end = self.buffer.find(b"\n", self.at, self.at + MAX_LINE_BYTES + 1)
        if end < 0:
            if len(self.buffer) - self.at > MAX_LINE_BYTES:
                raise ProtocolError(f"too big {what}")
            return None
        line = bytes(self.buffer[self.at : end]).removesuffix(b"\r")
        self.at = end + 1
        return line


def checked_length(line, most, kind):
    """Return the number behind the first byte of a line; raise ProtocolError if it is none, or more than `most`."""
    number = whole(line[1:])
    if number is None or number > most:
        raise ProtocolError(f"invalid {kind} length")
    return number


def whole(text):
    """Return the integer of 64 bits that a text is, or None."""
    if NUMBER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def split_words(line):
    """Split an inline command into its words, which may be quoted: 'as they are', or "with \\x00, \\n and others"."""
    words = []
    line = line.strip()
    at = 0
    while at < len(line):
        found = WORD.match(line, at)
        if found is None:
            raise ProtocolError("unbalanced quotes in request")
        plain, double, single = found.groups()
        quoted = ESCAPE.sub(unescaped, double or b"") or (single or b"").replace(b"\\'", b"'")
        words.append(plain + quoted)
        at = found.end()
        at += len(line) - at - len(line[at:].lstrip())
    return words


def unescaped(found):
    """Return the byte that a backslash and what follows it stand for."""
    text = found[1]
    return bytes([int(text[1:], 16)]) if len(text) > 1 else ESCAPED.get(text, text)


# Answers.


def error(text):
    """Return an error. It is one line, whatever bytes of a client the text has."""
    return b"-%b\r\n" % re.sub(r"[\r\n]", " ", text).encode()


def integer(number):
    """Return an integer."""
    return b":%d\r\n" % number


def bulk(data):
    """Return bytes; None is the null of RESP2."""
    return NULL if data is None else b"$%d\r\n%b\r\n" % (len(data), data)


def bulks(items):
    """Return an array of bytes and nulls."""
    return b"*%d\r\n%b" % (len(items), b"".join(map(bulk, items)))


def array(answers):
    """Return an array of answers."""
    return b"*%d\r\n%b" % (len(answers), b"".join(answers))
