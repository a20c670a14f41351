"""The keys of the server, their values and their deadlines. A value is bytes, a list, a hash or a set.

Shows: expiry in two ways. A key that is used after its deadline is dropped then; a task drops the keys that nobody
uses (`expire_due`). Each change is recorded as a command that gives the same result at any later time: so a time to
live is recorded as a deadline, and an expiry as a DEL.

Run it:  python demos/redis_server.py    (this file does nothing by itself)
"""

from collections import deque
from heapq import heapify, heappop, heappush

STRING, LIST, HASH, SET = (bytes, bytearray), (deque,), (dict,), (set,)  # a bytearray, where APPEND has made it
KINDS = {bytes: b"string", bytearray: b"string", deque: b"list", dict: b"hash", set: b"set"}
MAX_STALE_ENTRIES = 1000  # of deadlines that were changed since, beyond as many as there are deadlines


class CommandError(Exception):
    """A command that cannot be done; the text is the answer."""


class Store:
    """The keys. `clock` returns the milliseconds since 1970; `record` takes a change, and returns its position."""

    def __init__(self, clock, record=None):
        self.clock = clock
        self.record = record
        self.values = {}
        self.deadlines = {}  # in milliseconds, of the keys that have one
        self.due = []  # a heap of (deadline, key); some are stale
        self.unsafe = {}  # the keys whose last change may not be in the file yet, and its position there
        self.need = 0  # the position that has to be safe before the last command may be answered
        self.expired = 0

    def find(self, key, kind=None):
        """Return the value of a key, or None; CommandError if it is not of this kind."""
        if key in self.deadlines and self.deadlines[key] <= self.clock():
            self.expire(key)
        if self.unsafe:
            self.need = max(self.need, self.unsafe.get(key, 0))
        value = self.values.get(key)
        if value is not None and kind is not None and type(value) not in kind:
            raise CommandError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def put(self, key, value):
        """Set the value of a key; it keeps its deadline."""
        self.values[key] = value

    def discard(self, key):
        """Remove a key with its deadline."""
        del self.values[key]
        self.deadlines.pop(key, None)

    def set_deadline(self, key, deadline):
        """Let a key expire at a time in milliseconds since 1970; None for never."""
        if deadline is None:
            self.deadlines.pop(key, None)
            return
        self.deadlines[key] = deadline
        heappush(self.due, (deadline, key))
        if len(self.due) > 2 * len(self.deadlines) + MAX_STALE_ENTRIES:
            self.due = [(deadline, key) for key, deadline in self.deadlines.items()]
            heapify(self.due)

    def changed(self, key, *words):
        """Record a change of a key as a command. It is not safe until the record is."""
        if self.record is not None:
            self.need = self.unsafe[key] = self.record(words)

    def saved(self, position):
        """Note that all records up to a position of the file are safe."""
        self.unsafe = {key: needed for key, needed in self.unsafe.items() if needed > position}

    def expire(self, key):
        """Drop a key whose deadline has passed. No client has to wait for the record: the deadline is in the file."""
        self.discard(key)
        self.expired += 1
        if self.record is not None:
            self.record((b"DEL", key))

    def expire_due(self, most):
        """Drop up to `most` keys whose deadlines have passed; return whether there may be more."""
        now = self.clock()
        for _ in range(most):
            if not self.due or self.due[0][0] > now:
                return False
            deadline, key = heappop(self.due)
            if self.deadlines.get(key) == deadline:
                self.expire(key)
        return True

    def keys(self):
        """Return all keys; those whose deadline has passed are dropped first."""
        while self.expire_due(MAX_STALE_ENTRIES):
            pass
        self.need = max(self.unsafe.values(), default=0)
        return list(self.values)

    def clear(self):
        """Remove all keys."""
        self.need = max(self.unsafe.values(), default=0)
        if self.values and self.record is not None:
            self.need = self.record((b"FLUSHALL",))
            self.unsafe.update(dict.fromkeys(self.values, self.need))
        self.values.clear()
        self.deadlines.clear()
        self.due.clear()
