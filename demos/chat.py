"""A chat server for `nc`, with names and rooms. A client that reads too slowly gets a message and is disconnected.

Shows: each room has a Broadcast, which stores its last lines in one copy for all members; each connection has one
task that reads and one that writes what others say, and a Lock keeps their lines apart; a goodbye under a
Shield, when the chat cancels a slow reader, or when `serve` cancels an idle client or shuts down. The operator sees a
line for each person who comes or goes. `chat_names.py` decides what a name is.

Run it:  python demos/chat.py [--host HOST] [--port PORT | --unix PATH] [--room-size LINES] ...
Try it:  nc 127.0.0.1 7777, in two terminals or more
"""

import console
from chat_names import Directory, normal, problem
from echo_server import STATUS_SIGNAL, fail, host_and_port, limits_of, server_options, whereabouts

from minisched import (
    Broadcast,
    Cancel,
    Cancelled,
    CurrentTask,
    Event,
    Lagged,
    LimitExceeded,
    Lock,
    MoveOnAfter,
    Shield,
    Sleep,
    Spawn,
    Stream,
    Write,
    run,
    serve,
    serve_unix,
)

HELP = "Commands: /join ROOM, /who, /rooms, /quit. All other lines go to the room."
PLAIN_COMMANDS = ("/who", "/rooms", "/quit")  # which take no argument
MAX_LINE_BYTES = 1000
PACE_SECONDS = 0.05  # between two lines of a person: a pasted text does not push the others' lines out
ECHO_SECONDS = 10.0  # until the next line of a person who does not read is accepted
GOODBYE_SECONDS = 1.0  # for the last line to a person who is disconnected


class Room:
    """The members of a room by name, and its last lines."""

    def __init__(self, name, size):
        self.name = name
        self.people = {}
        self.lines = Broadcast(size)


class Person:
    """The person at the other end of a connection; `task` serves it."""

    def __init__(self, conn, task):
        self.conn, self.task = conn, task
        self.stream = Stream(conn)
        self.writing = Lock()
        self.saw_own_line = Event()
        self.name = self.room = self.unread = None

    def line(self):
        """Return the next line, "" instead of a line that is too long, and None at the end."""
        line, too_long = None, False
        while line is None:
            try:
                line = yield self.stream.readline(MAX_LINE_BYTES + 1)  # with its newline
            except LimitExceeded:
                too_long = True
                yield self.stream.read(MAX_LINE_BYTES)  # drop this part of the line
        if too_long:
            yield from self.tell(f"* Line not sent: it is longer than {MAX_LINE_BYTES} bytes.")
            return ""
        if not line:
            return None
        text = line.decode(errors="replace")
        return "".join(char if char.isprintable() else " " for char in text).strip()  # no escape sequences

    def tell(self, text):
        """Write a line, after the lines that are being written."""
        with (yield self.writing.acquire()):
            yield Write(self.conn, f"{text}\n".encode())

    def say(self, text):
        """Publish a line in the room, and wait until it comes back: so no person can publish faster than it reads."""
        self.saw_own_line.clear()
        self.room.lines.publish((self.name, f"{self.name}: {text}"))
        with (yield MoveOnAfter(ECHO_SECONDS)):
            yield self.saw_own_line.wait()

    def follow(self, unread):
        """Write the lines of others until this person leaves the room; cancel it if it has missed lines."""

        def show(entry):
            speaker, text = entry
            if speaker == self.name:
                self.saw_own_line.set()
            else:
                yield from self.tell(text)

        try:
            yield from unread.for_each(show)
        except Lagged as error:
            yield Cancel(self.task, f"you read too slowly and missed {error.count} lines")


class Chat:
    """The people by name, and the rooms: the lobby, and all rooms with members."""

    def __init__(self, room_size):
        self.room_size = room_size
        self.lobby = Room("lobby", room_size)
        self.rooms, self.people = Directory(), Directory()
        self.rooms["lobby"] = self.lobby

    def visit(self, conn):
        """Serve one connection."""
        person = Person(conn, (yield CurrentTask()))
        try:
            if (yield from self.ask_name(person)):
                yield from self.join(person, "lobby")
                yield from self.listen(person)
        except Cancelled as cancelled:
            with (yield Shield(GOODBYE_SECONDS)):
                yield from person.tell(f"* Goodbye: {cancelled.reason}.")
            raise
        finally:
            self.leave(person, "leaves")
            if person.name is not None:
                del self.people[person.name]
                self.tell_operator(person, "leaves")

    def ask_name(self, person):
        """Ask for a name until it is valid and free; return False if the connection ends before that."""
        yield from person.tell("* What is your name?")
        while (line := (yield from person.line())) is not None:
            name = normal(line)
            wrong = problem(name)
            if wrong is None and (other := self.people.like(name)) is not None:
                wrong = f"{name} is taken" if name == other.name else f"{name} looks like {other.name}, who is here"
            if wrong is None:
                person.name = name
                self.people[name] = person
                self.tell_operator(person, "joins")
                return True
            yield from person.tell(f"* {wrong}. What is your name?")
        return False

    def tell_operator(self, person, does):
        """Print a line about a person. Names are printable, and an address that a peer has chosen is not printed."""
        peer = person.conn.peer
        where = "a Unix socket" if not peer or isinstance(peer, (str, bytes)) else host_and_port(peer)
        here = "nobody is here" if not self.people else f"{len(self.people):,} here"
        console.say(f"{person.name} {does} ({where}); {here}")

    def listen(self, person):
        """Run the commands of a person and publish its lines, until it leaves."""
        while (line := (yield from person.line())) is not None:
            match line.split():
                case ["/quit"]:
                    return
                case ["/join", *names]:
                    yield from self.enter(person, names)
                case ["/who"]:
                    yield from person.tell(f"* In {person.room.name}: {', '.join(person.room.people)}")
                case ["/rooms"]:
                    rooms = (f"{room.name} ({len(room.people)})" for room in self.rooms.values())
                    yield from person.tell(f"* Rooms: {', '.join(rooms)}")
                case [command, *_] if command.startswith("/"):
                    alone = f"Write {command} alone: no word follows it."
                    wrong = alone if command in PLAIN_COMMANDS else f"There is no command {command}. {HELP}"
                    yield from person.tell(f"* {wrong}")
                case [_, *_]:
                    yield from person.say(line)
            yield Sleep(PACE_SECONDS)

    def enter(self, person, names):
        """Move a person to the room that the arguments of /join name, or say what is wrong with them."""
        if len(names) != 1:
            wrong = "which room? Write /join ROOM" if not names else "a room's name is one word"
            yield from person.tell(f"* Not moved: {wrong}.")
            return
        name = normal(names[0])
        if (wrong := problem(name)) is not None:
            yield from person.tell(f"* Not moved: {wrong[0].lower()}{wrong[1:]}.")
        elif self.rooms.like(name) is person.room:
            yield from person.tell(f"* You are in {person.room.name} already.")
        else:
            yield from self.join(person, name)

    def join(self, person, name):
        """Move a person to a room, creating the room if none has a name that looks like this one."""
        room, before = self.rooms.like(name), person.room
        if room is None:
            room = self.rooms[name] = Room(name, self.room_size)
        self.leave(person, f"moves to {room.name}")
        person.room = room
        room.people[person.name] = person
        came = "joins" if before is None else f"comes from {before.name}"
        room.lines.publish((person.name, f"* {person.name} {came}"))
        person.unread = room.lines.subscribe(person.name)
        yield Spawn(person.follow(person.unread), f"{person.name} in {room.name}", daemon=True)
        yield from person.tell(f"* You are in {room.name} ({len(room.people)}). {HELP}")

    def leave(self, person, does):
        """Remove a person from its room, and remove the room if it is empty, except for the lobby."""
        room, person.room = person.room, None
        if room is not None:
            del room.people[person.name]
            person.unread.close()  # this ends the task in `follow`
            room.lines.publish((person.name, f"* {person.name} {does}"))
            if not room.people and room is not self.lobby:
                del self.rooms[room.name]


def main(host="127.0.0.1", port=7777, unix=None, room_size=1000, **limits):
    """Serve until cancelled, for example by Ctrl-C."""
    chat = Chat(int(room_size))
    limits["status_signal"] = STATUS_SIGNAL
    if unix:
        yield from serve_unix(chat.visit, unix, ready=announce, **limits)
    else:
        yield from serve(chat.visit, host, int(port), ready=announce, **limits)


def announce(listener):
    """Print the address of the server, and how to try it."""
    where, nc, _ = whereabouts(listener)
    console.say(f"listening on {where}; try: {nc}, in two terminals or more (Ctrl-C stops)")


if __name__ == "__main__":
    parser = server_options("A chat server with rooms. Port 0 means any free port.")
    text = "number of lines that a room stores for slow readers; default: %(default)s"
    parser.add_argument("--room-size", type=console.whole(1), default=1000, metavar="LINES", help=text)
    # A person who only reads counts as idle, so its timeout is long. A chat has no end of its own: no grace.
    parser.set_defaults(idle_timeout=3600, grace=0)
    options = parser.parse_args()
    with console.quiet_end():
        try:
            run(main(options.host, options.port, options.unix, options.room_size, **limits_of(options)))
        except (OSError, ValueError) as error:
            fail("chat", options, error)
