"""The patterns of KEYS: `*`, `?`, `[a-z]`, `[^a]`, and a backslash before a character that stands for itself.

Shows: how a pattern of a stranger is matched in bounded time. The part between two stars is searched from left to
right, and the first place is right if any place is. So a regular expression with atomic groups never goes back, and the
time is at most the length of the key times that of the pattern. A plain one takes far longer for `*a*a*a*a*a*b`.

Run it:  python demos/redis_server.py    (this file does nothing by itself)
"""

import re

MAX_PATTERN_BYTES = 128  # a longer one is refused: with this, a megabyte of keys takes some 0.3 s at worst
BACKSLASH, STAR, QUESTION, BRACKET, CLOSING = b"\\*?[]"


def matcher(pattern):
    """Return a function that tells whether a key matches a pattern, as Redis does."""
    parts = [b""]  # the regular expressions between stars
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == STAR:
            parts.append(b"")
        elif char == QUESTION:
            parts[-1] += b"."
        elif char == BRACKET:
            members, at = bracket(pattern, at)
            parts[-1] += members
        else:
            if char == BACKSLASH and at < len(pattern):
                char = pattern[at]
                at += 1
            parts[-1] += byte(char)
    first, *inner = parts
    if inner:
        *inner, last = inner
        first += b"".join(b"(?>.*?%b)" % part for part in inner if part) + b".*" + last
    return re.compile(first, re.DOTALL).fullmatch


def bracket(pattern, at):
    """Return the expression for the characters in brackets, which begin at `at`, and the position behind them.

    As in Redis, the end of the pattern closes the brackets, and `[z-a]` is `[a-z]`.
    """
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members = set()
    while at < len(pattern) and pattern[at] != CLOSING:
        if pattern[at] == BACKSLASH and at + 1 < len(pattern):
            members.add(pattern[at + 1])
            at += 2
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            members.update(range(low, high + 1))
            at += 3
        else:
            members.add(pattern[at])
            at += 1
    inside = b"".join(map(byte, sorted(members)))
    if not members:
        return (b"." if negated else b"(?!)"), at + 1
    return b"[%b%b]" % (b"^" if negated else b"", inside), at + 1


def byte(char):
    """Return the expression for one byte."""
    return b"\\x%02x" % char
