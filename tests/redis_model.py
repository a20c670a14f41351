"""The counterparts of the Redis demo: a decoder, a plain model of its commands, and the matcher of Redis."""

from __future__ import annotations

import math

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_A_NUMBER = "ERR value is not an integer or out of range"


class Refused(Exception):
    """An error as an answer."""

    def __eq__(self, other):
        return isinstance(other, Refused) and str(self) == str(other)

    __hash__ = Exception.__hash__


def decoded(data):
    """Return the answers in some bytes: bytes, integers, None, lists, and Refused for errors. All bytes are used."""
    answers, at = [], 0
    while at < len(data):
        answer, at = decoded_one(data, at)
        answers.append(answer)
    return answers


def decoded_one(data, at):
    end = data.index(b"\r\n", at)
    kind, rest, at = data[at : at + 1], data[at + 1 : end], end + 2
    if kind == b"+":
        return rest, at
    if kind == b"-":
        return Refused(rest.decode()), at
    if kind == b":":
        return int(rest), at
    length = int(rest)
    if length < 0:
        return None, at
    if kind == b"$":
        assert data[at + length : at + length + 2] == b"\r\n"
        return data[at : at + length], at + length + 2
    assert kind == b"*"
    items = []
    for _ in range(length):
        item, at = decoded_one(data, at)
        items.append(item)
    return items, at


class Model:
    """The commands on keys in their plainest form: one dict of values and deadlines, and lists for lists."""

    def __init__(self):
        self.now = 1_000_000
        self.keys = {}  # [value, deadline]

    def ask(self, name, *words):
        """Return the answer to a command, decoded."""
        self.keys = {key: pair for key, pair in self.keys.items() if pair[1] > self.now}
        try:
            return getattr(self, name.lower())(*words)
        except Refused as error:
            return error

    def find(self, key, kind):
        value = self.keys[key][0] if key in self.keys else None
        if value is not None and type(value) is not kind:
            raise Refused(WRONG_TYPE)
        return value

    def value(self, key, default):
        """Return the value, which is set to a default if there is no such key."""
        if self.find(key, type(default)) is None:
            self.keys[key] = [default, math.inf]
        return self.keys[key][0]

    def set(self, key, value, *options):
        old = self.find(key, bytes) if b"GET" in options else None
        absent = key not in self.keys
        if (b"NX" in options and not absent) or (b"XX" in options and absent):
            return old
        deadline = self.keys[key][1] if b"KEEPTTL" in options and not absent else math.inf
        for unit, factor in ((b"EX", 1000), (b"PX", 1)):
            if unit in options:
                deadline = self.now + factor * int(options[options.index(unit) + 1])
        self.keys[key] = [value, deadline]
        return old if b"GET" in options else b"OK"

    def get(self, key):
        return self.find(key, bytes)

    def mget(self, *keys):
        return [self.keys[key][0] if key in self.keys and type(self.keys[key][0]) is bytes else None for key in keys]

    def append(self, key, data):
        value = self.value(key, b"") + data
        self.keys[key][0] = value
        return len(value)

    def incrby(self, key, change):
        value = self.find(key, bytes)
        try:
            number = int(value or b"0")
        except ValueError:
            number = None
        if number is None or b"%d" % number != (value or b"0") or not -(2**63) <= number < 2**63:
            raise Refused(NOT_A_NUMBER)
        number += int(change)
        if not -(2**63) <= number < 2**63:
            raise Refused("ERR increment or decrement would overflow")
        _ = self.value(key, b"")
        self.keys[key][0] = b"%d" % number
        return number

    def incr(self, key):
        return self.incrby(key, 1)

    def decr(self, key):
        return self.incrby(key, -1)

    def exists(self, *keys):
        return sum(key in self.keys for key in keys)

    def dbsize(self):
        return len(self.keys)

    def flushall(self):
        self.keys.clear()
        return b"OK"

    def expire(self, key, seconds):
        if key not in self.keys:
            return 0
        self.keys[key][1] = self.now + 1000 * int(seconds)
        return 1

    def persist(self, key):
        if key not in self.keys or self.keys[key][1] == math.inf:
            return 0
        self.keys[key][1] = math.inf
        return 1

    def pttl(self, key):
        if key not in self.keys:
            return -2
        return -1 if self.keys[key][1] == math.inf else self.keys[key][1] - self.now

    def lpush(self, key, *items):
        values = self.value(key, [])
        values[:0] = items[::-1]
        return len(values)

    def rpush(self, key, *items):
        values = self.value(key, [])
        values.extend(items)
        return len(values)

    def lpop(self, key, count=None):
        return self.pop(key, 0, count)

    def rpop(self, key, count=None):
        return self.pop(key, -1, count)

    def pop(self, key, place, count):
        values = self.find(key, list)
        if values is None:
            return None
        items = [values.pop(place) for _ in range(min(1 if count is None else int(count), len(values)))]
        if not values:
            del self.keys[key]
        return items[0] if count is None else items

    def lrange(self, key, first, last):
        values = self.find(key, list) or []
        first, last = (int(place) + (len(values) if int(place) < 0 else 0) for place in (first, last))
        return values[max(first, 0) : max(last + 1, 0)]

    def hset(self, key, field, value):
        values = self.value(key, {})
        new = field not in values
        values[field] = value
        return int(new)

    def hget(self, key, field):
        return (self.find(key, dict) or {}).get(field)

    def hgetall(self, key):
        return [word for pair in (self.find(key, dict) or {}).items() for word in pair]

    def sadd(self, key, *members):
        values = self.value(key, set())
        before = len(values)
        values |= set(members)
        return len(values) - before

    def smembers(self, key):
        return sorted(self.find(key, set) or set())


setattr(Model, "del", lambda self, *keys: sum(self.keys.pop(key, None) is not None for key in keys))


def matches(pattern, key):
    """Return whether a key matches a pattern: `stringmatchlen` of Redis (util.c), which takes exponential time."""
    while pattern and key:
        head = pattern[:1]
        if head == b"*":
            while pattern[1:2] == b"*":
                pattern = pattern[1:]
            return len(pattern) == 1 or any(matches(pattern[1:], key[at:]) for at in range(len(key) + 1))
        if head == b"[":
            found, pattern = in_bracket(pattern[1:], key[0])
            if not found:
                return False
        else:
            if head == b"\\" and len(pattern) >= 2:
                pattern = pattern[1:]
            if head != b"?" and pattern[0] != key[0]:
                return False
            pattern = pattern[1:]
        key = key[1:]
    return not key and not pattern.strip(b"*")


def in_bracket(pattern, char):
    """Return whether a character is in brackets, and the pattern behind them."""
    negated = pattern[:1] == b"^"
    pattern = pattern[negated:]
    found = False
    while pattern and pattern[:1] != b"]":
        if pattern[:1] == b"\\" and len(pattern) >= 2:
            found |= pattern[1] == char
            pattern = pattern[2:]
        elif len(pattern) >= 3 and pattern[1:2] == b"-":
            found |= min(pattern[0], pattern[2]) <= char <= max(pattern[0], pattern[2])
            pattern = pattern[3:]
        else:
            found |= pattern[0] == char
            pattern = pattern[1:]
    return found != negated, pattern[1:]
