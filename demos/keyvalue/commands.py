"""The commands on keys, with the answers and the errors of Redis: a function for each, and the table of all commands.

Shows: a table that a decorator fills. An entry says how many words a command takes and whether it changes keys, so
the server checks both in one place, and a function is what is special about its command.

Run it:  python demos/redis_server.py    (this file does nothing by itself)
"""

from collections import deque
from itertools import islice
from math import inf
from typing import NamedTuple

from .patterns import MAX_PATTERN_BYTES, matcher
from .protocol import MAX_BULK_BYTES, NULL, NULL_ARRAY, OK, array, bulk, bulks, integer, whole
from .store import HASH, KINDS, LIST, SET, STRING, CommandError

NOT_A_NUMBER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"
MOST, LEAST = 2**63 - 1, -(2**63)  # of a number: 64 bits
UNITS = {b"EX": 1000, b"PX": 1}  # of a time to live, in milliseconds
COMMANDS = {}  # by name, in capitals


class Command(NamedTuple):
    """A command: its function, and how many words follow its name. `of`: the kind of its first argument."""

    name: str
    function: object
    least: int
    most: float
    writes: bool
    of: str


def command(name, least=0, most=None, *, writes=False, of="store", more=False):
    """Return a decorator that adds a function to the table. `more`: any number of words may follow."""

    def add(function):
        limit = inf if more else least if most is None else most
        COMMANDS[name.encode()] = Command(name.lower(), function, least, limit, writes, of)
        return function

    return add


def number(word):
    """Return a word as an integer; CommandError if it is none of 64 bits."""
    value = whole(word)
    if value is None:
        raise CommandError(NOT_A_NUMBER)
    return value


# Strings.


@command("SET", 2, more=True, writes=True)
def set_(store, key, value, *options):
    """Set a key: EX or PX with a time to live, NX if there is no such key, XX if there is one, GET the old value."""
    deadline, flags = set_options(store, options)
    old = store.find(key, STRING if b"GET" in flags else None)
    answer = bulk(old) if b"GET" in flags else OK
    if (b"NX" in flags and old is not None) or (b"XX" in flags and old is None):
        return answer if b"GET" in flags else NULL
    if b"KEEPTTL" in flags:
        deadline = store.deadlines.get(key)
    store.put(key, value)
    store.set_deadline(key, deadline)
    store.changed(key, b"SET", key, value, *([] if deadline is None else [b"PXAT", b"%d" % deadline]))
    return answer


def set_options(store, options):
    """Return the deadline that the options of SET give, or None, and the set of its flags."""
    deadline, flags = None, set()
    words = iter(options)
    for word in words:
        option = word.upper()
        if option in (b"EX", b"PX", b"PXAT") and deadline is None:
            deadline = set_deadline_of(store, option, next(words, None))
        elif option in (b"NX", b"XX", b"GET", b"KEEPTTL"):
            flags.add(option)
        else:
            raise CommandError(SYNTAX)
    if {b"NX", b"XX"} <= flags or (deadline is not None and b"KEEPTTL" in flags):
        raise CommandError(SYNTAX)
    return deadline, flags


def set_deadline_of(store, option, word):
    """Return the deadline that a time in an option of SET gives."""
    if word is None:
        raise CommandError(SYNTAX)
    value = number(word)
    deadline = value * UNITS[option[:2]] + (0 if option.endswith(b"AT") else store.clock())
    if value <= 0 or deadline > MOST:
        raise CommandError("ERR invalid expire time in 'set' command")
    return deadline


@command("GET", 1)
def get(store, key):
    return bulk(store.find(key, STRING))


@command("MGET", 1, more=True)
def mget(store, *keys):
    values = [value if type(value) in STRING else None for value in map(store.find, keys)]
    if sum(map(len, filter(None, values))) > MAX_BULK_BYTES:  # a client may name one large value a million times
        raise CommandError("ERR the answer would be larger than 512 MB")
    return bulks(values)


@command("APPEND", 2, writes=True)
def append(store, key, data):
    value = store.find(key, STRING)
    if len(value or b"") + len(data) > MAX_BULK_BYTES:
        raise CommandError("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    if type(value) is not bytearray:
        value = bytearray(value or b"")
        store.put(key, value)
    value += data
    store.changed(key, b"APPEND", key, data)
    return integer(len(value))


def add_to(store, key, change):
    """Add to the integer that a key has; a missing one counts as 0."""
    value = number(bytes(store.find(key, STRING) or b"0")) + change
    if not LEAST <= value <= MOST:
        raise CommandError("ERR increment or decrement would overflow")
    store.put(key, b"%d" % value)
    store.changed(key, b"INCRBY", key, b"%d" % change)
    return integer(value)


@command("INCR", 1, writes=True)
def incr(store, key):
    return add_to(store, key, 1)


@command("DECR", 1, writes=True)
def decr(store, key):
    return add_to(store, key, -1)


@command("INCRBY", 2, writes=True)
def incrby(store, key, change):
    return add_to(store, key, number(change))


# Keys.


@command("DEL", 1, more=True, writes=True)
def del_(store, *keys):
    found = 0
    for key in keys:
        if store.find(key) is not None:
            store.discard(key)
            store.changed(key, b"DEL", key)
            found += 1
    return integer(found)


@command("EXISTS", 1, more=True)
def exists(store, *keys):
    return integer(sum(store.find(key) is not None for key in keys))


@command("TYPE", 1)
def type_(store, key):
    value = store.find(key)
    return b"+%b\r\n" % (b"none" if value is None else KINDS[type(value)])


@command("KEYS", 1)
def keys(store, pattern):
    if len(pattern) > MAX_PATTERN_BYTES:
        raise CommandError(f"ERR the pattern is longer than {MAX_PATTERN_BYTES} bytes")
    return bulks(list(filter(matcher(pattern), store.keys())))


@command("DBSIZE")
def dbsize(store):
    return integer(len(store.keys()))


@command("FLUSHALL", 0, 1, writes=True)
def flushall(store, mode=b"SYNC"):
    if mode.upper() not in (b"SYNC", b"ASYNC"):
        raise CommandError(SYNTAX)
    store.clear()
    return OK


command("FLUSHDB", 0, 1, writes=True)(flushall)


# Deadlines.


def expire_at(store, key, deadline, name):
    """Set the deadline of a key; one that has passed removes the key."""
    if not LEAST <= deadline <= MOST:
        raise CommandError(f"ERR invalid expire time in '{name}' command")
    if store.find(key) is None:
        return integer(0)
    if deadline <= store.clock():
        store.discard(key)
        store.changed(key, b"DEL", key)
    else:
        store.set_deadline(key, deadline)
        store.changed(key, b"PEXPIREAT", key, b"%d" % deadline)
    return integer(1)


@command("EXPIRE", 2, writes=True)
def expire(store, key, seconds):
    return expire_at(store, key, store.clock() + number(seconds) * 1000, "expire")


@command("PEXPIRE", 2, writes=True)
def pexpire(store, key, milliseconds):
    return expire_at(store, key, store.clock() + number(milliseconds), "pexpire")


@command("PEXPIREAT", 2, writes=True)
def pexpireat(store, key, deadline):
    return expire_at(store, key, number(deadline), "pexpireat")


@command("PERSIST", 1, writes=True)
def persist(store, key):
    if store.find(key) is None or key not in store.deadlines:
        return integer(0)
    store.set_deadline(key, None)
    store.changed(key, b"PERSIST", key)
    return integer(1)


def time_to_live(store, key):
    """Return the milliseconds that a key has, -1 for one that does not expire, -2 for none."""
    if store.find(key) is None:
        return -2
    return max(store.deadlines[key] - store.clock(), 0) if key in store.deadlines else -1


@command("TTL", 1)
def ttl(store, key):
    left = time_to_live(store, key)
    return integer(left if left < 0 else (left + 500) // 1000)


@command("PTTL", 1)
def pttl(store, key):
    return integer(time_to_live(store, key))


# Lists.


def push(store, name, key, items):
    """Add items to an end of a list."""
    values = store.find(key, LIST)
    if values is None:
        values = deque()
        store.put(key, values)
    (values.extendleft if name == b"LPUSH" else values.extend)(items)
    store.changed(key, name, key, *items)
    return integer(len(values))


@command("LPUSH", 2, more=True, writes=True)
def lpush(store, key, *items):
    return push(store, b"LPUSH", key, items)


@command("RPUSH", 2, more=True, writes=True)
def rpush(store, key, *items):
    return push(store, b"RPUSH", key, items)


def pop(store, name, key, count):
    """Take items from an end of a list; an empty list is removed."""
    most = 1 if count is None else number(count)
    if most < 0:
        raise CommandError("ERR value is out of range, must be positive")
    values = store.find(key, LIST)
    if values is None:
        return NULL if count is None else NULL_ARRAY
    take = values.popleft if name == b"LPOP" else values.pop
    items = [take() for _ in range(min(most, len(values)))]
    if not values:
        store.discard(key)
    if items:
        store.changed(key, name, key, b"%d" % len(items))
    return bulk(items[0]) if count is None else bulks(items)


@command("LPOP", 1, 2, writes=True)
def lpop(store, key, count=None):
    return pop(store, b"LPOP", key, count)


@command("RPOP", 1, 2, writes=True)
def rpop(store, key, count=None):
    return pop(store, b"RPOP", key, count)


@command("LLEN", 1)
def llen(store, key):
    return integer(len(store.find(key, LIST) or ()))


@command("LRANGE", 3)
def lrange(store, key, first, last):
    first, last = number(first), number(last)
    values = store.find(key, LIST) or deque()
    size = len(values)
    first = max(first + size if first < 0 else first, 0)
    end = min(last + size if last < 0 else last, size - 1) + 1
    if first >= end:
        return bulks([])
    if first <= size - end:
        return bulks(list(islice(values, first, end)))
    return bulks(list(islice(reversed(values), size - end, size - first))[::-1])  # a deque is walked from an end


# Hashes and sets.


@command("HSET", 3, more=True, writes=True)
def hset(store, key, *pairs):
    if len(pairs) % 2:
        raise CommandError("ERR wrong number of arguments for 'hset' command")
    values = store.find(key, HASH)
    if values is None:
        values = {}
        store.put(key, values)
    before = len(values)
    values.update(zip(pairs[::2], pairs[1::2], strict=True))
    store.changed(key, b"HSET", key, *pairs)
    return integer(len(values) - before)


@command("HGET", 2)
def hget(store, key, field):
    return bulk((store.find(key, HASH) or {}).get(field))


@command("HGETALL", 1)
def hgetall(store, key):
    return bulks([word for pair in (store.find(key, HASH) or {}).items() for word in pair])


@command("SADD", 2, more=True, writes=True)
def sadd(store, key, *members):
    values = store.find(key, SET)
    if values is None:
        values = set()
        store.put(key, values)
    before = len(values)
    values.update(members)
    if len(values) > before:
        store.changed(key, b"SADD", key, *members)
    return integer(len(values) - before)


@command("SMEMBERS", 1)
def smembers(store, key):
    return bulks(list(store.find(key, SET) or ()))


@command("COMMAND", 0, more=True)
def command_(store, *words):
    """Answer the question of redis-cli about all commands: it then completes none of them."""
    return integer(len(COMMANDS)) if [word.upper() for word in words] == [b"COUNT"] else array([])
