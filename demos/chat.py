"""A chat for `nc`: names, rooms, and nobody waits for who is too slow to read: they are told so, and cut.

Shows: a Broadcast for each room, which keeps its last lines, once for all; one task for what comes on a
connection and one for what goes out, which take turns at a Lock; a last word under a Shield to whoever is
cancelled: by the chat for being slow, by `serve` for being idle or because it stops.

Run it:  python demos/chat.py [--host HOST] [--port PORT | --unix PATH] [--room-size LINES] ...
Try it:  nc 127.0.0.1 7777, in two terminals or more
"""

import sys

from echo_server import limits_of, server_options, whereabouts

from minisched import (
    Broadcast,
    Cancel,
    Cancelled,
    CurrentTask,
    Event,
    Lock,
    Missed,
    MoveOnAfter,
    Read,
    Shield,
    Sleep,
    Spawn,
    Write,
    run,
    serve,
    serve_unix,
)

HELP = "/join ROOM, /who, /rooms, /quit; anything else is said in the room"
LINE = 1000  # bytes, at most
WORD = 20  # characters of the name of a person or a room, at most
PACE = 0.05  # seconds between two lines of a person: to paste a text does not push the others out
PATIENCE = 10.0  # seconds until a person is heard again who does not read
LAST_WORD = 1.0  # second, for the last line to somebody who is cut


class Room:
    """Who is in it, by name, and the last lines, for those who have still to read them."""

    def __init__(self, name, size):
        self.name = name
        self.people = {}
        self.lines = Broadcast(size)


class Person:
    """Somebody at the other end of a connection, served by `task`."""

    def __init__(self, conn, task):
        self.conn, self.task = conn, task
        self.came = b""  # and is not a line yet
        self.writing = Lock()
        self.heard_itself = Event()
        self.name = self.room = self.unread = None

    def line(self):
        """Return the next line, "" in place of one that is too long, None when no more will come."""
        too_long = False
        while (end := self.came.find(b"\n")) < 0:
            if len(self.came) > LINE:
                self.came, too_long = b"", True  # nothing is kept of such a line
            data = yield Read(self.conn, LINE)
            if not (data or self.came or too_long):
                return None
            self.came += data or b"\n"  # the last line may lack it
        line, self.came = self.came[:end], self.came[end + 1 :]
        if too_long or end > LINE:
            yield from self.tell(f"* That was not said: a line has {LINE} bytes at most.")
            return ""
        text = line.decode(errors="replace")
        return "".join(char if char.isprintable() else " " for char in text).strip()  # nothing that moves cursors

    def tell(self, text):
        """Write a line, when those before it are written."""
        with (yield self.writing.acquire()):
            yield Write(self.conn, f"{text}\n".encode())

    def say(self, text):
        """Let the room see a line, and wait until it comes round to this person: however many talk, none gets ahead."""
        self.heard_itself.clear()
        self.room.lines.publish((self.name, f"{self.name}: {text}"))
        with (yield MoveOnAfter(PATIENCE)):
            yield self.heard_itself.wait()

    def follow(self, unread):
        """Write what others say, as long as this person is in the room; have it cut when it has missed something."""

        def show(said):
            speaker, text = said
            if speaker == self.name:
                self.heard_itself.set()
            else:
                yield from self.tell(text)

        try:
            yield from unread.for_each(show)
        except Missed as missed:
            yield Cancel(self.task, f"you read too slowly, and missed {missed.count} lines")


class Chat:
    """The people who have a name, and the rooms: the lobby, and those that somebody is in."""

    def __init__(self, room_size):
        self.room_size = room_size
        self.lobby = Room("lobby", room_size)
        self.rooms = {"lobby": self.lobby}
        self.people = {}

    def visit(self, conn):
        """Be the handler of a connection."""
        person = Person(conn, (yield CurrentTask()))
        try:
            if (yield from self.ask_name(person)):
                yield from self.join(person, "lobby")
                yield from self.listen(person)
        except Cancelled as cut:
            with (yield Shield(LAST_WORD)):
                yield from person.tell(f"* Goodbye: {cut.reason}.")
            raise
        finally:
            self.leave(person)
            self.people.pop(person.name, None)

    def ask_name(self, person):
        """Ask for a name until it is one that nobody has; return whether there is one."""
        yield from person.tell("* Who are you?")
        while (name := (yield from person.line())) is not None:
            if is_word(name) and name not in self.people:
                person.name = name
                self.people[name] = person
                return True
            wrong = f"{name} is taken" if is_word(name) else f"A name is a word of {WORD} letters at most"
            yield from person.tell(f"* {wrong}. Who are you?")
        return False

    def listen(self, person):
        """Do what a person asks for, and let the room see what it says, until it goes."""
        while (line := (yield from person.line())) is not None:
            match line.split():
                case ["/quit"]:
                    return
                case ["/join", name] if is_word(name):
                    yield from self.join(person, name)
                case ["/who"]:
                    yield from person.tell(f"* In {person.room.name}: {', '.join(person.room.people)}")
                case ["/rooms"]:
                    rooms = (f"{room.name} ({len(room.people)})" for room in self.rooms.values())
                    yield from person.tell(f"* Rooms: {', '.join(rooms)}")
                case [command, *_] if command.startswith("/"):
                    yield from person.tell(f"* {HELP}")
                case [_, *_]:
                    yield from person.say(line)
            yield Sleep(PACE)

    def join(self, person, name):
        """Move a person to a room, which is made if there is none of that name."""
        self.leave(person)
        room = person.room = self.rooms.setdefault(name, Room(name, self.room_size))
        room.people[person.name] = person
        room.lines.publish((person.name, f"* {person.name} joins"))
        person.unread = room.lines.subscribe(person.name)
        yield Spawn(person.follow(person.unread), f"{person.name} in {name}", daemon=True)
        yield from person.tell(f"* You are in {name}, one of {len(room.people)}. {HELP}")

    def leave(self, person):
        """Take a person out of its room, and forget the room if that was the last one there."""
        room, person.room = person.room, None
        if room is not None:
            del room.people[person.name]
            person.unread.close()  # which ends the task that follows
            room.lines.publish((person.name, f"* {person.name} leaves"))
            if not room.people and room is not self.lobby:
                del self.rooms[room.name]


def is_word(text):
    """Return whether it can be the name of a person or a room."""
    return len(text.split()) == 1 and len(text) <= WORD and not text.startswith("/")


def main(host="127.0.0.1", port=7777, unix=None, room_size=1000, **limits):
    """Serve until cancelled: Ctrl-C does that."""
    chat = Chat(int(room_size))
    if unix:
        yield from serve_unix(chat.visit, unix, ready=announce, **limits)
    else:
        yield from serve(chat.visit, host, int(port), ready=announce, **limits)


def announce(listener):
    """Say where the server listens, and how to try it."""
    where, nc, _ = whereabouts(listener)
    print(f"listening on {where}; try: {nc}, in two terminals or more (Ctrl-C stops)", flush=True)


if __name__ == "__main__":
    parser = server_options("Let people talk in rooms. Port 0: any free one.")
    said = "that a room keeps for those who read slowly; default: %(default)s"
    parser.add_argument("--room-size", type=int, default=1000, metavar="LINES", help=said)
    parser.set_defaults(idle_timeout=3600, grace=0)  # who only reads is idle, too; nobody is about to end
    options = parser.parse_args()
    try:
        run(main(options.host, options.port, options.unix, options.room_size, **limits_of(options)))
    except (OSError, ValueError) as error:  # the port is taken, or out of range; the path exists; a limit is none
        where = options.unix or f"{options.host}:{options.port}"
        sys.exit(f"chat: {where}: {getattr(error, 'strerror', None) or error}")
    except KeyboardInterrupt:
        sys.exit(130)
