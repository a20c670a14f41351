"""SUBSCRIBE and PUBLISH: the channels, and the messages that each subscriber has not received yet.

Shows: a publisher that waits for nobody. A message goes into the outbox of each subscriber, whose own task writes it. A
subscriber that does not read has a bounded outbox: when it is full, the client is disconnected.

Run it:  python demos/redis_server.py    (this file does nothing by itself)
"""

import logging

from minisched import Cancel, Event, Spawn, Write, do_now

from .commands import command
from .protocol import bulk, bulks, integer

MAX_UNREAD_BYTES = 8 * 1024 * 1024  # of messages to one subscriber: one that has more is disconnected


class Outbox:
    """The bytes to be written to a client that messages may reach at any time; one task writes them, in order."""

    def __init__(self, conn):
        self.conn = conn
        self.parts = []
        self.put_bytes = self.written_bytes = 0
        self.wanted, self.progress = Event(), Event()

    def put(self, data):
        """Add bytes; return how many have been put so far."""
        self.parts.append(data)
        self.put_bytes += len(data)
        self.wanted.set()
        return self.put_bytes

    def until_written(self, position):
        """Wait until as many bytes are written."""
        while self.written_bytes < position:
            yield self.progress.wait()

    def write_all(self):
        """Write what is put, until cancelled."""
        while True:
            yield self.wanted.wait()
            self.wanted.clear()
            data = b"".join(self.parts)
            self.parts.clear()
            yield Write(self.conn, data)
            self.written_bytes += len(data)
            done, self.progress = self.progress, Event()
            done.set()


class Channels:
    """The subscribers of each channel, in the order in which they came."""

    def __init__(self):
        self.by_name = {}

    def add(self, session, name):
        """Subscribe a session to a channel."""
        if session.outbox is None:
            session.outbox = Outbox(session.conn)
            do_now(Spawn(session.outbox.write_all(), "outbox", daemon=True))
        session.channels[name] = None
        self.by_name.setdefault(name, {})[session] = None

    def remove(self, session, name):
        """End a subscription, if there is one; a channel without subscribers is discarded."""
        if name in session.channels:
            del session.channels[name]
            del self.by_name[name][session]
            if not self.by_name[name]:
                del self.by_name[name]

    def leave(self, session):
        """End all subscriptions of a session."""
        for name in list(session.channels):
            self.remove(session, name)

    def publish(self, name, data):
        """Send data to the subscribers of a channel; return their number. A plain call that never waits."""
        sessions = list(self.by_name.get(name, ()))
        message = bulks([b"message", name, data])
        for session in sessions:
            outbox = session.outbox
            if outbox.put(message) - outbox.written_bytes > MAX_UNREAD_BYTES:
                self.cut(session)
        return len(sessions)

    def cut(self, session):
        """End a session that does not read its messages."""
        self.leave(session)
        logging.getLogger("redis_server").warning("%s is disconnected: it does not read its messages", session.name)
        do_now(Cancel(session.task, "the subscriber does not read its messages"))


def confirmation(word, name, session):
    """Return the answer for one channel: the number of those that the session has now follows."""
    return b"*3\r\n%b%b%b" % (bulk(word), bulk(name), integer(len(session.channels)))


@command("SUBSCRIBE", 1, more=True, of="session")
def subscribe(session, *names):
    answers = []
    for name in names:
        session.server.channels.add(session, name)
        answers.append(confirmation(b"subscribe", name, session))
    return b"".join(answers)


@command("UNSUBSCRIBE", more=True, of="session")
def unsubscribe(session, *names):
    answers = []
    for name in names or [*session.channels] or [None]:
        session.server.channels.remove(session, name)
        answers.append(confirmation(b"unsubscribe", name, session))
    return b"".join(answers)


@command("PUBLISH", 2, of="session")
def publish(session, name, data):
    return integer(session.server.channels.publish(name, data))
