"""Lesson 8, long work in pieces: a server and its clients in one program, and nobody waits for who is slow.

Shows: a coroutine that takes bytes and gives bytes, and knows no socket; an event loop of a dozen lines, whose tasks
yield the socket that they wait for; then the same by Listen, Accept, Connect, Read and Write, with a client that
stops in the middle of a number while another is served.

Run it:    python demos/lessons/lesson8_network.py
Watch it:  minisched run --trace demos/lessons/lesson8_network.py
"""

from select import select
from socket import socketpair

from minisched import Accept, Connect, Event, Listen, Read, Spawn, Write, gather, run

CHUNK = 4096  # bytes, at most, of one read


def adding():
    """Lesson 2 again: for bytes that are numbers on lines, give the total after each, on a line, too.

    The bytes come as the network brings them: half a line, or three. What is not whole yet is kept.
    """
    total, rest, answer = 0, b"", b""
    while True:
        rest += yield answer
        *lines, rest = rest.split(b"\n")
        answer = b""
        for line in lines:
            total += int(line)
            answer += b"%d\n" % total


# By hand: tasks that yield the socket they want to read, and are sent what came. (What they send is so short that
# it always finds room; otherwise they would have to wait for that, too.)


def serve_one(conn):
    """Answer one client until it has no more."""
    adder = adding()
    next(adder)
    while data := (yield conn):
        conn.sendall(adder.send(data))


def ask(name, conn, numbers):
    """Send number after number, each when the one before has been answered."""
    for number in numbers:
        conn.sendall(b"%d\n" % number)
        total = yield conn
        print(f"  {name} sent {number}, the total is {total.decode().rstrip()}")


def event_loop(*bodies):
    """Wait for all sockets at once; send what came to whoever waits for it; close the socket of one that has ended."""
    waiting = {next(body): body for body in bodies}
    while waiting:
        readable, _, _ = select(list(waiting), [], [])
        for conn in readable:
            body = waiting.pop(conn)
            try:
                waiting[body.send(conn.recv(CHUNK))] = body
            except StopIteration:
                conn.close()


def by_hand():
    """Two clients and what serves them: four tasks in one loop. A pair of sockets is a network for two."""
    print("An event loop of a dozen lines:")
    bodies = []
    for name, numbers in (("Ada", (1, 2, 3)), ("Grace", (10, 20))):
        here, there = socketpair()
        bodies += [serve_one(there), ask(name, here, numbers)]
    event_loop(*bodies)


# The same as tasks, on a real network.


def server(listener):
    """Accept whoever comes, and serve each in a task of its own.

    `serve` does that, and what a server needs besides: bounds, a log of failures, an end in two steps.
    """
    with listener:
        while True:
            conn = yield Accept(listener)
            yield Spawn(add_for(conn))


def add_for(conn):
    """Answer one client until it has no more."""
    adder = adding()
    next(adder)
    with conn:
        while data := (yield Read(conn, CHUNK)):
            yield Write(conn, adder.send(data))


def answer(conn):
    """Read up to the end of a line; return the number on it. (There is one answer at a time.)"""
    line = b""
    while not line.endswith(b"\n"):
        data = yield Read(conn, CHUNK)
        if not data:
            raise ConnectionError("the server has gone")
        line += data
    return int(line)


def quick(address, slow_has_begun, quick_is_done):
    """Send 1, 2 and 3, while somebody else is in the middle of a number."""
    yield slow_has_begun.wait()
    with (yield Connect(address)) as conn:
        for number in (1, 2, 3):
            yield Write(conn, b"%d\n" % number)
            print(f"  the quick one sent {number}, the total is {(yield from answer(conn))}")
    quick_is_done.set()


def slow(address, slow_has_begun, quick_is_done):
    """Send half a number, and the rest when the quick one has gone home."""
    with (yield Connect(address)) as conn:
        yield Write(conn, b"10")
        print("  the slow one sent the beginning of a number")
        slow_has_begun.set()
        yield quick_is_done.wait()
        yield Write(conn, b"00\n")
        print(f"  the slow one sent its end, the total is {(yield from answer(conn))}")


def main():
    """Serve on a free port of this machine; let both clients come."""
    listener = yield Listen(("127.0.0.1", 0))
    yield Spawn(server(listener), daemon=True)  # it would serve for ever: it is ended when main is
    events = Event(), Event()
    yield from gather(quick(listener.address, *events), slow(listener.address, *events))


if __name__ == "__main__":
    by_hand()
    print("Tasks:")
    run(main())

# Exercises (how to have them checked: see the end of lesson1_send.py).
#
# 1. lesson8_exercise1(): a coroutine that takes bytes and gives bytes, as `adding` does: for each whole line, that line
#    in capitals.
# 2. lesson8_exercise2(conn, lines): a task that sends each of `lines` (they come without b"\n") over a connection, and
#    waits for its answer, a line as well, which may come in pieces; it returns the list of answers, without b"\n".
# 3. lesson8_exercise3(conn, seconds): a task that sends back what comes on a connection, until the other side closes
#    it, or nothing has come for so many seconds; it returns how many bytes that were. The connection stays open.
