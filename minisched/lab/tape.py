"""The file of a recording: lines of JSON in blocks, each with a checksum.

Theory of operation. The first line is the header: an object with the versions of the format, of Python and of
minisched, and what the caller adds. Each further line is a list. It is an answer of the world, as `[kind, number,
arguments..., answer]`, or an event, as `[kind, checks, values...]`. A block of lines ends with `["sum",
crc32]`, the checksum of its bytes, and is written at once. So a recorder that is killed leaves whole blocks, and at
most one that was cut.

Values are those of JSON, and one object for each other kind: `{"b": base64}` for bytes, `{"t": [...]}` for a tuple,
`{"d": [[key, value], ...]}` for a dict, `{"h": [...]}` for a HostAddress, `{"f": [...]}` for a file that was opened,
`{"socket": ...}` for a socket, and `{"e": name, "a": arguments}` for an exception of a closed table.

Invariants:
1. Reading a recording runs no code that the recording names.
2. A line that was changed is found; a block that was cut at the end of the file is read as far as its lines are whole.

Rejected: pickle, which runs code, and which another version of Python may not read.

Not here: the questions (`world`); the two worlds that write and read (`record`).
"""

from __future__ import annotations

import builtins
import io
import json
import os
import platform
import socket
import zlib
from base64 import b64decode, b64encode
from io import FileIO

from .. import __version__, errors
from ..io._selectors2 import NotPollable
from ..net.addresses import HostAddress
from ..net.names import NotKnownYet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

FORMAT_VERSION = 1  # the version of the format
BLOCK_LINES = 512  # written at once; a recorder that is killed loses no more than these
OTHERS = {"gaierror": socket.gaierror, "NotKnownYet": NotKnownYet, "NotPollable": NotPollable}
EXCEPTIONS: dict[str, Any] = {
    name: kind
    for names in (vars(builtins), vars(errors), vars(io), OTHERS)
    for name, kind in names.items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}


# The things that are asked in a run, by number. Sockets and files follow, in the order in which they are made.
THINGS = (
    "the clock",
    "the poller",
    "the wake-up",
    "the network",
    "the names",
    "the threads",
    "the files",
    "a descriptor",
)
EVENTS = ("seen", "take", "own", "thread", "signal", "interrupts")  # that nothing has asked for
WRITES = ("write", "write file", "pwrite", "write at")  # questions whose first argument is bytes


class NotRecordable(TypeError):
    """A value that a recording has no form for."""


class BadRecording(ValueError):
    """A file that is not a recording, or one that was changed. The text names the line.

    Example:
        >>> import tempfile
        >>> from minisched.lab import BadRecording, replay
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     try:
        ...         replay(iter(()), file.name)
        ...     except BadRecording as error:
        ...         print(str(error).partition(" is ")[2])
        not a recording: its first line is not the header of one
    """


def encode(value: Any) -> Any:
    """Return a value as JSON has it; raise NotRecordable for one of another kind."""
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType]
    if value is None or kind in (bool, float, str):
        return value
    if kind is list:
        return list(map(encode, value))
    if kind in FORMS:
        tag, content = FORMS[kind]
        return {tag: content(value)}
    if isinstance(value, int):  # also a member of an IntEnum, as those of `socket` are
        return int(value)
    if isinstance(value, BaseException):
        return encode_error(value)
    raise NotRecordable(f"{kind.__name__} has no form in a recording")


def encode_bytes(value: Any) -> str:
    """Return bytes as text."""
    return b64encode(value).decode()


def encode_all(values: Any) -> list[Any]:
    """Return values as JSON has them."""
    return list(map(encode, values))


FORMS: dict[type[Any], tuple[str, Callable[[Any], Any]]] = {
    **dict.fromkeys((bytes, bytearray, memoryview), ("b", encode_bytes)),
    tuple: ("t", encode_all),
    HostAddress: ("h", encode_all),
    dict: ("d", lambda value: list(map(encode_all, value.items()))),
    FileIO: ("f", lambda raw: [raw.fileno(), encode(os.fspath(raw.name)), raw.mode, position_of(raw)]),
}


def encode_error(error: BaseException) -> Any:
    """Return an exception as JSON has it."""
    name = type(error).__name__
    if EXCEPTIONS.get(name) is not type(error):
        raise NotRecordable(f"the exception {name} has no form in a recording")
    arguments = list(error.args)
    if isinstance(error, NotKnownYet):
        arguments = [error.query]
    elif isinstance(error, OSError) and error.filename is not None and len(arguments) == 2:
        arguments.append(error.filename)
    return {"e": name, "a": [encode(one) for one in arguments]}


def decode(form: Any) -> Any:
    """Return the value that JSON has in this form."""
    if isinstance(form, list):
        return decode_all(form)
    if not isinstance(form, dict):
        return form
    items: list[tuple[str, Any]] = [*form.items()]  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
    tag, content = items[0]
    if tag == "b":
        return b64decode(content, validate=True)
    if tag == "d":
        return dict(map(decode_all, content))
    if tag == "e":
        return EXCEPTIONS[content](*decode_all(items[1][1]))
    return {"t": tuple, "h": host_address, "f": recorded_file}[tag](decode_all(content))


def host_address(parts: list[Any]) -> HostAddress:
    """Return an address, with a family and a type as `socket.getaddrinfo` returns them."""
    family, kind, *rest = parts
    return HostAddress(socket.AddressFamily(family), socket.SocketKind(kind), *rest)


def recorded_file(parts: list[Any]) -> RecordedFile:
    """Return a file that was opened in the recorded run."""
    return RecordedFile(*parts)


def position_of(raw: FileIO) -> int:
    """Return the position of a file; 0 for one that has none."""
    return raw.tell() if raw.seekable() else 0


class RecordedFile:
    """A file that was opened in the recorded run, without a descriptor: in place of its FileIO."""

    def __init__(self, fd: int, name: Any, mode: str, position: int) -> None:
        self.fd, self.name, self.mode, self.position = fd, name, mode, position

    def fileno(self) -> int:
        """Return the descriptor that the file had."""
        return self.fd

    def readable(self) -> bool:
        """Return whether the mode allows reading."""
        return "r" in self.mode or "+" in self.mode

    def writable(self) -> bool:
        """Return whether the mode allows writing."""
        return self.mode != "rb"

    def tell(self) -> int:
        """Return the position that the file had."""
        return self.position

    def close(self) -> None:
        """Do nothing."""


def decode_all(forms: Any) -> list[Any]:
    """Return the values of a list of forms."""
    return list(map(decode, forms))


class TapeWriter:
    """Writes a recording. `line` takes what `json` can write; a block is written when it is full, and by `flush`."""

    def __init__(self, path: str, header: dict[str, Any]) -> None:
        self.file = open(path, "wb", buffering=0)  # noqa: SIM115  (closed by `close`)
        self.lines: list[str] = []
        versions = {
            "minisched": FORMAT_VERSION,
            "kind": "recording",
            "version": __version__,
            "python": platform.python_version(),
        }
        self.lines.append(json.dumps(header | versions))
        try:
            self.flush()
        except BaseException:
            self.close()
            raise

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append(text)
        if len(self.lines) >= BLOCK_LINES:
            self.flush()

    def flush(self) -> None:
        """Write the lines that there are, and their checksum."""
        if self.lines:
            block = "\n".join(self.lines) + "\n"
            self.lines.clear()
            self.write(f'{block}["sum",{zlib.crc32(block.encode())}]\n')

    def write(self, text: str) -> None:
        """Write text at once, in as many steps as the system needs."""
        rest = memoryview(text.encode())
        while rest:
            rest = rest[self.file.write(rest) :]

    def close(self) -> None:
        """Write the rest, and close the file."""
        try:
            self.flush()
        finally:
            self.file.close()


class TapeReader:
    """Reads a recording: `header`, and then the lines in order, each with its number in the file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines = self._checked_lines()
        _, first = next(self.lines, (1, None))
        self.header: dict[str, Any] = first if isinstance(first, dict) else {}
        if self.header.get("kind") != "recording":
            raise BadRecording(f"{path} is not a recording: its first line is not the header of one")
        if self.header.get("minisched") != FORMAT_VERSION:
            text = f"{path} has version {self.header.get('minisched')!r} of the format"
            raise BadRecording(f"{text}, and this minisched reads version {FORMAT_VERSION}")

    def _checked_lines(self) -> Generator[tuple[int, Any], None, None]:
        """Yield the lines of each block whose checksum is right; of a block that was cut, those that are whole."""
        block: list[tuple[int, Any]] = []
        first, checksum = 1, 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # the line was being written when the recorder was killed
                parsed = self._parse(number, line)
                if type(parsed) is not list or parsed[:1] != ["sum"]:
                    block.append((number, parsed))  # pyright: ignore[reportUnknownArgumentType]
                    checksum = zlib.crc32(line, checksum)
                    continue
                if parsed[1:] != [checksum]:
                    raise BadRecording(
                        f"{self.path} was changed: one of the lines {first} to {number} is not as written"
                    )
                yield from block
                block, first, checksum = [], number + 1, 0
        yield from (line for line in block if line[1] != ["end"])  # an end that was not checked is none

    def close(self) -> None:
        """Close the file."""
        self.lines.close()

    def _parse(self, number: int, line: bytes) -> Any:
        try:
            return json.loads(line)
        except ValueError as error:
            if number == 1:
                raise BadRecording(f"{self.path} is not a recording: its first line is not JSON") from None
            raise BadRecording(f"{self.path} was changed: line {number} is not JSON: {error}") from None


def arguments(kind: str, args: tuple[Any, ...]) -> list[Any]:
    """Return the arguments of a question as they are recorded, and compared."""
    if kind == "poll":
        return []  # the timeout follows from the time and the deadlines
    if kind in WRITES:
        return [len(args[0]), zlib.crc32(args[0]), *args[1:]]  # the bytes themselves are the program's
    return list(map(encode, args))


def described(line: list[Any]) -> str:
    """Return a question as text: its kind, the thing that is asked, and the arguments."""
    kind: str = line[0]
    rest: list[Any] = line[1:]
    if kind in EVENTS or not rest:
        return f"the event {kind!r}"
    number: int = rest.pop(0)
    thing = THINGS[number] if number < len(THINGS) else f"socket or file {number - len(THINGS) + 1}"
    text = f"{kind!r} of {thing}"
    return f"{text} with {json.dumps(rest)}" if rest else text
