"""Lesson 8, long work in pieces: a server and its clients in one program, where a slow client delays nobody.

Shows: a protocol as a coroutine that receives bytes and yields bytes, without a socket; an event loop of a dozen
lines, whose tasks yield the socket that they wait for; then the same with Listen, Accept, Connect, Read and Write,
and a client that stops in the middle of a number while another client is served.

Run it:    python demos/lessons/lesson8_network.py
Watch it:  minisched run --trace demos/lessons/lesson8_network.py
"""

from argparse import ArgumentParser
from select import select
from socket import socketpair

from minisched import Accept, Connect, Event, Listen, Read, Spawn, Write, gather, run

MAX_READ_BYTES = 4096


def adding():
    """Receive lines with a number each, and yield a line with the total for each of them, as in lesson 2.

    The network may deliver half a line at a time, or three lines. An incomplete line is kept until the rest arrives.
    """
    total, rest, answer = 0, b"", b""
    while True:
        rest += yield answer
        *lines, rest = rest.split(b"\n")
        answer = b""
        for line in lines:
            total += int(line)
            answer += b"%d\n" % total


# By hand: tasks yield the socket that they want to read, and receive the bytes. (Their messages are short and always
# fit into the socket's buffer; a task with long messages would have to wait for that, too.)


def serve_one(conn):
    """Answer one client until it closes the connection."""
    adder = adding()
    next(adder)
    while data := (yield conn):
        conn.sendall(adder.send(data))


def ask(name, conn, numbers):
    """Send the numbers one by one, and wait for the answer to each."""
    for number in numbers:
        conn.sendall(b"%d\n" % number)
        total = yield conn
        print(f"  {name} sent {number}, the total is {total.decode().rstrip()}")


def event_loop(*bodies):
    """Wait for all sockets at once; send received bytes to the waiting body; close the socket of a body that ends."""
    waiting = {next(body): body for body in bodies}
    while waiting:
        readable, _, _ = select(list(waiting), [], [])
        for conn in readable:
            body = waiting.pop(conn)
            try:
                waiting[body.send(conn.recv(MAX_READ_BYTES))] = body
            except StopIteration:
                conn.close()


def by_hand():
    """Run two clients and two server tasks in one loop; a pair of sockets is a network of two."""
    print("An event loop of a dozen lines:")
    bodies = []
    for name, numbers in (("Ada", (1, 2, 3)), ("Grace", (10, 20))):
        near, far = socketpair()
        bodies += [serve_one(far), ask(name, near, numbers)]
    event_loop(*bodies)


# The same as tasks, on a real network.


def server(listener):
    """Accept connections, and serve each of them in a task of its own.

    `serve` does the same and adds limits, a log of failures, and a graceful shutdown.
    """
    with listener:
        while True:
            conn = yield Accept(listener)
            yield Spawn(add_for(conn))


def add_for(conn):
    """Answer one client until it closes the connection."""
    adder = adding()
    next(adder)
    with conn:
        while data := (yield Read(conn, MAX_READ_BYTES)):
            yield Write(conn, adder.send(data))


def answer(conn):
    """Read one line; return the number on it. (There is only one answer at a time.)"""
    line = b""
    while not line.endswith(b"\n"):
        data = yield Read(conn, MAX_READ_BYTES)
        if not data:
            raise ConnectionError("the server has closed the connection")
        line += data
    return int(line)


def quick(address, slow_has_started, quick_has_finished):
    """Send 1, 2 and 3, while the slow client is in the middle of a number."""
    yield slow_has_started.wait()
    with (yield Connect(address)) as conn:
        for number in (1, 2, 3):
            yield Write(conn, b"%d\n" % number)
            print(f"  the quick client sent {number}, the total is {(yield from answer(conn))}")
    quick_has_finished.set()


def slow(address, slow_has_started, quick_has_finished):
    """Send half a number, and the rest after the quick client has finished."""
    with (yield Connect(address)) as conn:
        yield Write(conn, b"10")
        print("  the slow client sent the first half of a number")
        slow_has_started.set()
        yield quick_has_finished.wait()
        yield Write(conn, b"00\n")
        print(f"  the slow client sent the second half, the total is {(yield from answer(conn))}")


def main():
    """Serve on a free port of this machine, and run both clients."""
    listener = yield Listen(("127.0.0.1", 0))
    yield Spawn(server(listener), daemon=True)  # the server is endless; a daemon is cancelled when main ends
    events = Event(), Event()
    yield from gather(quick(listener.address, *events), slow(listener.address, *events))


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    by_hand()
    print("Tasks:")
    run(main())

# Exercises (the end of lesson1_send.py says how to check them).
#
# 1. lesson8_exercise1(): a coroutine that receives bytes and yields bytes, as `adding` does: for each complete line, it
#    yields that line in capitals.
# 2. lesson8_exercise2(conn, lines): a task that sends each of `lines` (given without b"\n") over a connection, and
#    waits for its answer, also a line, which may come in pieces. It returns the list of answers, without b"\n".
# 3. lesson8_exercise3(conn, seconds): a task that sends back all bytes that it receives from a connection, until the
#    peer closes it or no bytes have come for `seconds` seconds. It returns the number of bytes. It does not close the
#    connection.
