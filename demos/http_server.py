"""An HTTP server for the files of a folder; it answers a POST with the size and the SHA-256 of what was sent.

Shows: h11 knows the protocol and does no I/O, so a handler only moves bytes between it and the connection. The limits
of connections are those of `serve`; one timeout of its own ends a client that sends its headers byte by byte. Files
are opened and read in threads. When the server stops, idle connections are closed at once, and the others after
their answer. Every request is a line on standard output, in the common log format. `http_files.py` knows the files.

Not here: a limit on the size of an upload, since nothing of it is stored; a log that goes on if its reader does not.

Needs h11: pip install -e '.[demo]'
Run it:    python demos/http_server.py [FOLDER] [--port PORT | --unix PATH] [--tls CERT KEY | --self-signed] ...
Try it:    curl -i 127.0.0.1:7777, or curl --data-binary @FILE 127.0.0.1:7777
"""

import contextlib
import os
import sys
from email.utils import formatdate
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from math import inf
from time import strftime

import console
import self_signed
from echo_server import STATUS_SIGNAL, fail, limits_of, server_options, whereabouts
from http_files import CHUNK_BYTES, find, text_answer

from minisched import Cancelled, Event, InThread, MoveOnAfter, Now, Read, Spawn, Stream, Write, run, serve, serve_unix

try:
    import h11
except ImportError as error:
    sys.exit(f"http_server.py needs h11: pip install -e '.[demo]' ({error})")

READ_BYTES = 16384
MAX_HEAD_BYTES = 16384  # of a request line and its headers; up to READ_BYTES more may arrive with the last of them
HEAD_SECONDS = 10.0  # from the first byte of a request to the end of its headers
IDLE_SECONDS = 30.0  # for `serve`: between two requests, and wherever else no byte moves
LINGER_SECONDS = 1.0  # for the client to read an answer, before the connection is closed


class Site:
    """A folder, the connections that wait for a request, and whether the server stops."""

    def __init__(self, folder=".", head_seconds=HEAD_SECONDS, log=console.say):
        self.folder, self.log = folder, log
        self.head_seconds = inf if head_seconds is None else head_seconds
        self.idle = {}  # the scopes of these waits
        self.stops = False

    def handle(self, conn):
        """Answer the requests of a connection, one after the other: also those that arrive together."""
        client = Client(conn, self)
        try:
            while (request := (yield from client.request())) is not None:
                yield from client.answer(request)
                if client.http.our_state is not h11.DONE:  # one of the two wants to close, or the file ended early
                    break
                client.http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            yield from client.refuse(error)
        yield from hang_up(conn)

    def end_idle_connections(self):
        """Wait until the server is cancelled; then close the connections that wait for a request."""
        try:
            yield Event().wait()
        except Cancelled:
            self.stops = True
            for wait in list(self.idle):
                wait.cancel("the server stops")
            raise


class Client:
    """A connection, and the state of the protocol on it."""

    def __init__(self, conn, site):
        self.conn, self.site = conn, site
        self.http = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        self.line = b"-"  # the first line of the request
        self.complete = False  # the whole request was read

    def request(self):
        """Return the next request; None at the end of the connection, or if the server stops while it is idle."""
        self.line, self.complete = b"-", False
        event = self.http.next_event()
        if event is h11.NEED_DATA:
            event = yield from self.wait_for_request()
        if type(event) is not h11.Request:
            return None
        self.line = b"%b %b HTTP/%b" % (event.method, event.target, event.http_version)
        return event

    def wait_for_request(self):
        """Wait for the first byte of a request as long as `serve` allows, and for the rest of its headers less long."""
        if self.site.stops:
            return None
        with (yield MoveOnAfter(None)) as limit:
            self.site.idle[limit] = True
            try:
                data = yield Read(self.conn, READ_BYTES)
            finally:
                del self.site.idle[limit]
            self.http.receive_data(data)
            limit.deadline = (yield Now()) + self.site.head_seconds
            return (yield from self.event())
        if self.http.trailing_data[0]:
            raise h11.RemoteProtocolError("the headers took too long", error_status_hint=HTTPStatus.REQUEST_TIMEOUT)
        return None

    def event(self):
        """Return the next event of the client. Bytes are read only when h11 has none left."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data((yield Read(self.conn, READ_BYTES)))
        return event

    def answer(self, request):
        """Answer a request."""
        if request.method == b"POST":
            answer = yield from self.measure_upload()
        else:
            self.complete = type(self.http.next_event()) is h11.EndOfMessage  # else it has a body, which is not read
            if request.method in (b"GET", b"HEAD"):
                head, headers = request.method == b"HEAD", dict(request.headers)
                answer = yield InThread(find, self.site.folder, request.target, headers, head)
            else:
                answer = text_answer(HTTPStatus.METHOD_NOT_ALLOWED, None, ("Allow", "GET, HEAD, POST"))
        yield from self.send(answer)

    def measure_upload(self):
        """Read the body of a request; return an answer with its size and its SHA-256."""
        if self.http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, reason="Continue", headers=[])
            yield Write(self.conn, self.http.send(go_on))
        digest, size = sha256(), 0
        while type(event := (yield from self.event())) is h11.Data:
            digest.update(event.data)
            size += len(event.data)
            yield  # a read may bring thousands of small chunks: let others have their turns
        self.complete = True
        return text_answer(HTTPStatus.OK, f"{console.counted(size, 'byte')}, sha256 {digest.hexdigest()}\n")

    def send(self, answer):
        """Send an answer and close its file. If the file ends early, the connection ends without the rest."""
        sent, closes = 0, self.site.stops or not self.complete
        headers = [*answer.headers, ("Date", formatdate(usegmt=True)), *([("Connection", "close")] if closes else [])]
        try:
            status, reason = answer.status.value, answer.status.phrase
            head = self.http.send(h11.Response(status_code=status, reason=reason, headers=headers))
            yield Write(self.conn, head + self.http.send(h11.Data(data=answer.body)))
            sent = len(answer.body)
            while sent < answer.size:
                data = yield from read_at(answer.file, min(CHUNK_BYTES, answer.size - sent), answer.position + sent)
                if not data:  # the file was truncated meanwhile; one that grows is read up to its former size
                    self.http.send_failed()
                    return
                yield Write(self.conn, self.http.send(h11.Data(data=data)))
                sent += len(data)
            self.http.send(h11.EndOfMessage())
        finally:
            answer.close()
            self.log(answer.status.value, sent)

    def refuse(self, error):
        """Answer bytes that are not a request."""
        if self.http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            yield from self.send(text_answer(HTTPStatus(error.error_status_hint)))

    def log(self, status, size):
        """Log a request in the common log format. A client can forge no line, since its text is escaped."""
        peer = self.conn.peer
        host = peer[0] if isinstance(peer, tuple) else "-"
        text = "".join(chr(byte) if 31 < byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in self.line)
        self.site.log(f'{host} - - [{strftime("%d/%b/%Y:%H:%M:%S %z")}] "{text}" {status} {size or "-"}')


def read_at(file, size, position):
    """Read at a position of a file, which may block."""
    return (yield InThread(os.pread, file.fileno(), size, position))


def hang_up(conn):
    """Let the client read the last answer: to close a connection with unread bytes would take the answer back."""
    with contextlib.suppress(OSError), (yield MoveOnAfter(LINGER_SECONDS)):
        stream = Stream(conn)
        yield stream.write_eof()
        while (yield stream.read(READ_BYTES)):
            pass


def main(folder=".", host="127.0.0.1", port=7777, unix=None, head_timeout=HEAD_SECONDS, quiet=False, **limits):
    """Serve until cancelled, for example by Ctrl-C."""
    site = Site(folder, head_timeout, (lambda line: None) if quiet else console.say)
    ready = partial(announce, secure=limits.get("tls") is not None)
    limits = {"idle_timeout": IDLE_SECONDS, "status_signal": STATUS_SIGNAL, "ready": ready, **limits}
    yield Spawn(site.end_idle_connections(), daemon=True)
    if unix:
        yield from serve_unix(site.handle, unix, **limits)
    else:
        yield from serve(site.handle, host, int(port), **limits)


def announce(listener, secure=False):
    """Print the address of the server, and how to try it."""
    where, _, options = whereabouts(listener)
    curl, scheme = ("curl -ik", "https") if secure else ("curl -i", "http")
    unix = where[0] in "/@"
    at = f"{options.replace('--unix', '--unix-socket')} {scheme}://localhost/" if unix else f"{scheme}://{where}/"
    console.say(f"listening on {where}; try: {curl} {at} (Ctrl-C stops)")


if __name__ == "__main__":
    parser = server_options("An HTTP server for the files of a folder. Port 0 means any free port.")
    parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="default: the current folder")
    text = "time from the first byte of a request to the end of its headers; inf: any time; default: %(default)g"
    timeout = console.seconds("more than 0")
    parser.add_argument("--head-timeout", type=timeout, default=HEAD_SECONDS, metavar="SECONDS", help=text)
    parser.add_argument("--quiet", action="store_true", help="log no requests")
    self_signed.add_options(parser)
    parser.set_defaults(idle_timeout=IDLE_SECONDS)
    options = parser.parse_args()
    if os.open not in os.supports_dir_fd:
        sys.exit("http_server: this system cannot open a file relative to a folder, and so cannot keep clients in one")
    if not os.path.isdir(options.folder):
        sys.exit(f"http_server: {options.folder}: not a folder")
    where = (options.folder, options.host, options.port, options.unix)
    with console.quiet_end():
        tls = self_signed.context_of(options)
        try:
            run(main(*where, options.head_timeout, options.quiet, tls=tls, **limits_of(options)))
        except (OSError, ValueError) as error:
            fail("http_server", options, error)
