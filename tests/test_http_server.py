"""The HTTP demo: its files, its protocol in virtual time, and as a program with clients of other authors."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from hashlib import sha256
from http import HTTPStatus
from itertools import cycle
from time import perf_counter
from typing import NamedTuple

import pytest

pytest.importorskip("h11")

from helpers import nothing_is_left, open_numbers, pattern, run  # noqa: F401
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from programs import ROOT, SECONDS, assert_one_line, finished, started
from servers import begun, dial, lives, memory_of, settled, stopped
from test_real_clients import client

from minisched import Cancel, Connect, Join, Now, Read, Sleep, Socket, Spawn, Watcher, Write, serve_unix
from minisched.testing import cancel_everywhere

sys.path.insert(0, str(ROOT / "demos"))  # as for the demo when it is run

import http_files
import http_server

SERVER = ROOT / "demos" / "http_server.py"
PAGE = b"<h1>Hello</h1>\n"
LARGE = pattern(1 << 20)
SECRET = b"outside of the folder\n"
HOST = b"Host: localhost\r\n\r\n"


@pytest.fixture
def folder(tmp_path):
    """Return a folder with files, beside a file that is not in it."""
    (tmp_path / "secret.txt").write_bytes(SECRET)
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "page.html").write_bytes(PAGE)
    (site / "digits.txt").write_bytes(b"0123456789")
    (site / "empty.bin").touch()
    (site / "large.bin").write_bytes(LARGE)
    (site / "sub" / "index.html").write_bytes(b"the index")
    return site


class Reply(NamedTuple):
    """An answer as a client receives it; `headers` by their names in lower case."""

    status: int
    headers: dict
    body: bytes


def replies(data, head=False):
    """Return the answers in the bytes that a server has sent; `head`: they are answers to HEAD."""
    found = []
    while data:
        lines, _, data = data.partition(b"\r\n\r\n")
        first, *rest = lines.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
        size = 0 if head else int(headers.get("content-length", 0))
        found.append(Reply(int(first.split()[1]), headers, data[:size]))
        data = data[size:]
    return found


def ends():
    """Return both ends of a connection with small buffers."""
    pair = []
    for plain in socket.socketpair():
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        pair.append(Socket(fileno=plain.detach(), peer=("192.0.2.1", 4711)))
    return pair


def handler(site, conn):
    """Serve a connection and close it, as `serve` does."""
    with conn:
        yield from site.handle(conn)


def site_of(folder, **options):
    """Return a Site with its log lines as `lines`."""
    lines = []
    site = http_server.Site(folder, log=lines.append, **options)
    site.lines = lines
    return site


def rest_of(conn):
    """Read to the end of a connection."""
    data = b""
    while more := (yield Read(conn, 65536)):
        data += more
    return data


def play(site, client):
    """Run `client(conn)` on a connection to the site, in virtual time."""

    def main():
        ours, theirs = ends()
        yield Spawn(handler(site, ours), "handler")
        with theirs:
            return (yield from client(theirs))

    return run(main())


def received(site, *pieces):
    """Send pieces to the site, each when the one before was read; return all bytes that the site sends."""

    def send(conn):
        for piece in pieces:
            try:
                yield Write(conn, piece)
            except ConnectionError:
                break
            yield
        conn.shutdown(socket.SHUT_WR)

    def talk(conn):
        sender = yield Spawn(send(conn), "sender")  # beside the reader: the site may write before it reads on
        data = yield from rest_of(conn)
        yield Join(sender)
        return data

    return play(site, talk)


def get(folder, target, *headers, method=b"GET"):
    """Return the reply to a single request."""
    request = b"%b %b HTTP/1.1\r\n%b" % (method, target, b"".join(line + b"\r\n" for line in headers))
    (reply,) = replies(received(site_of(folder), request + HOST), method == b"HEAD")
    return reply


# Files.


def test_a_file_is_sent_with_its_type_its_length_and_its_date(folder):
    os.utime(folder / "page.html", (784111777, 784111777))
    reply = get(folder, b"/page.html?a=b")
    assert (reply.status, reply.body) == (200, PAGE)
    assert reply.headers.pop("date") and reply.headers.pop("etag")
    assert reply.headers == {
        "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT",
        "accept-ranges": "bytes",
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(PAGE)),
    }


def test_a_file_that_is_larger_than_a_read_is_sent_whole(folder):
    assert get(folder, b"/large.bin").body == LARGE
    assert get(folder, b"http://localhost/large.bin").body == LARGE


@pytest.mark.parametrize("target", [b"/page.html", b"/", b"/sub", b"/nothing"])
def test_the_answer_to_head_has_the_headers_of_get_and_no_body(folder, target):
    whole, head = get(folder, target), get(folder, target, method=b"HEAD")
    for reply in (whole, head):
        del reply.headers["date"]
    assert head == (whole.status, whole.headers, b"")
    assert int(whole.headers["content-length"]) == len(whole.body) > 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "image/png"),
        ("a.TXT", "text/plain; charset=utf-8"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("data:,x", "application/octet-stream"),
        ("ü ?#%.html", "text/html; charset=utf-8"),
    ],
)
def test_the_name_decides_on_the_type(folder, name, kind):
    (folder / name).write_bytes(PAGE)
    reply = get(folder, b"/" + http_files.quote(name).encode())
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, kind, PAGE)


OUTSIDE = [
    b"/../secret.txt", b"/../../../../../../../../etc/passwd", b"/sub/../../secret.txt", b"/%2e%2e/secret.txt",
    b"/%2E./secret.txt", b"/..%2fsecret.txt", b"/sub%2f..%2f..%2fsecret.txt", b"/%2fetc%2fpasswd", b"//etc/passwd",
    b"/etc/passwd", b"\\..\\secret.txt", b"/page.html%00", b"/%00", b"/sub/.%00./secret.txt",
    b"/large.bin/../page.html", b"/link", b"/linked/secret.txt", b"/around/link", b"/inside", b"/fifo", b"/socket",
    b"/./page.html", b"/.hidden", b"/.git/config", b"/page.html/", b"/page.html/page.html", b"/nothing",
    b"/nothing/", b"/" + b"x" * 300, b"/%zz", b"page.html", b"*", b"ftp://localhost/page.html",
    b"http:/page.html",
]  # fmt: skip


@pytest.mark.parametrize("target", OUTSIDE, ids=lambda target: target[:30].decode())
def test_a_path_that_leads_to_no_file_of_the_folder_is_not_found(folder, target):
    (folder / "link").symlink_to("../secret.txt")
    (folder / "linked").symlink_to("..")
    (folder / "around").symlink_to(".")
    (folder / "inside").symlink_to("page.html")
    os.mkfifo(folder / "fifo")
    (folder / ".git").mkdir()
    for name in (".hidden", ".git/config"):
        (folder / name).write_bytes(SECRET)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.path.relpath(folder / "socket"))
        reply = get(folder, target)
    assert (reply.status, reply.body) == (404, b"404 Not Found\n")


@given(
    some.binary(max_size=60).map(lambda path: b"/" + path.translate(None, bytes(range(33)) + bytes(range(127, 256))))
)
def test_no_path_leaves_the_folder(path):
    try:
        names, _ = http_files.names_of(path)
    except FileNotFoundError:
        return
    assert not [name for name in names if name in (b"", b".", b"..") or b"/" in name or b"\0" in name]


@pytest.mark.parametrize("kind", ["link", "linked folder", "fifo", "vanished"])
def test_a_name_that_changes_its_meaning_after_the_check_is_not_found(folder, monkeypatch, kind):
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "index.html").write_bytes(SECRET)
    target = folder / ("sub" if kind == "linked folder" else "page.html")
    stat = os.stat

    def then_changed(name, *arguments, **keywords):
        found = stat(name, *arguments, **keywords)
        if os.fsencode(name) == os.fsencode(target.name):
            monkeypatch.undo()
            target.rename(folder / "moved")
            if kind == "fifo":
                os.mkfifo(target)
            elif kind != "vanished":
                target.symlink_to(outside if kind == "linked folder" else "../secret.txt")
        return found

    monkeypatch.setattr(http_files.os, "stat", then_changed)
    assert get(folder, b"/sub/index.html" if kind == "linked folder" else b"/page.html").status == 404


def test_the_folder_itself_may_be_a_link_which_is_followed_for_each_request(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "current").symlink_to("site")
    assert get(tmp_path / "current", b"/page.html").body == PAGE
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("other")
    assert get(tmp_path / "current", b"/page.html").status == 404
    (tmp_path / "current").unlink()
    assert get(tmp_path / "current", b"/").status == 404


@pytest.mark.parametrize(
    ("number", "status"), [(errno.EACCES, 403), (errno.EMFILE, 503), (errno.EIO, 500), (errno.ENAMETOOLONG, 404)]
)
def test_an_error_of_the_system_has_a_status(folder, monkeypatch, number, status):
    def fails(*arguments, **keywords):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(http_files, "opened", fails)
    assert get(folder, b"/page.html").status == status


# Folders.


def test_a_folder_without_a_slash_is_redirected_and_never_to_another_host(folder):
    (folder / "example.org").mkdir()
    assert get(folder, b"/sub").headers["location"] == "/sub/"
    reply = get(folder, b"//example.org")
    assert (reply.status, reply.headers["location"]) == (301, "/example.org/")
    (folder / "a?b\r\nc").mkdir()
    assert get(folder, b"/a%3fb%0d%0ac").headers["location"] == "/a%3Fb%0D%0Ac/"


def test_the_index_of_a_folder_is_sent_in_place_of_its_list(folder):
    assert get(folder, b"/sub/").body == b"the index"
    assert get(folder, b"/sub/", b"Range: bytes=4-").body == b"index"
    (folder / "sub" / "index.html").unlink()
    (folder / "sub" / "index.html").symlink_to("../../secret.txt")
    assert get(folder, b"/sub/").body == b"<!DOCTYPE html>\n<title>Files</title>\n<ul>\n</ul>\n"
    (folder / "sub" / "index.html").unlink()
    (folder / "sub" / "index.html").mkdir()
    assert b"index.html/" in get(folder, b"/sub/").body


def test_each_link_in_a_list_leads_to_its_file(folder):
    names = [
        "a b",
        "<i>&amp;",
        'it\'s "q"',
        "x?y#z",
        "100%",
        "data:x",
        "ü",
        "\\",
        os.fsdecode(b"\xff\xfe"),
        "new\nline",
    ]
    for number, name in enumerate(names):
        (folder / "sub" / name).write_text(f"number {number}")
    (folder / "sub" / "deep").mkdir()
    (folder / "sub" / ".hidden").touch()
    (folder / "sub" / "link").symlink_to("index.html")
    (folder / "sub" / "index.html").rename(folder / "sub" / "index.txt")
    page = get(folder, b"/sub/").body
    links = re.findall(rb'<li><a href="([^"]*)">([^<]*)</a>', page)
    assert len(links) == page.count(b"<li>") == len(names) + 2
    assert not [text for _, text in links if b"hidden" in text or b"link" in text]
    bodies = {get(folder, b"/sub/" + link).body for link, _ in links if link not in (b"deep/", b"index.txt")}
    assert bodies == {b"number %d" % number for number in range(len(names))}


def test_a_list_has_at_most_a_number_of_names(folder, monkeypatch):
    monkeypatch.setattr(http_files, "MAX_NAMES", 3)
    assert get(folder, b"/").body.count(b"<li>") == 3


# Ranges and conditions.


OUT_OF_RANGE = f"416 {HTTPStatus(416).phrase}\n".encode()  # the phrase depends on the version of Python


@pytest.mark.parametrize(
    ("value", "status", "where", "body"),
    [
        (b"bytes=0-", 206, "bytes 0-9/10", b"0123456789"),
        (b"bytes=2-5", 206, "bytes 2-5/10", b"2345"),
        (b"bytes=9-9", 206, "bytes 9-9/10", b"9"),
        (b"bytes=8-999999999999999999", 206, "bytes 8-9/10", b"89"),
        (b"bytes=-3", 206, "bytes 7-9/10", b"789"),
        (b"Bytes= -30 ", 206, "bytes 0-9/10", b"0123456789"),
        (b"bytes=10-", 416, "bytes */10", OUT_OF_RANGE),
        (b"bytes=999999999999-", 416, "bytes */10", OUT_OF_RANGE),
        (b"bytes=-0", 416, "bytes */10", OUT_OF_RANGE),
        *((value, 200, None, b"0123456789") for value in (
            b"bytes=5-2", b"bytes=0-1,4-5", b"bytes=-", b"bytes", b"", b"lines=1-2", b"bytes=a-b", b"bytes=1",
            b"bytes=+1-2", b"bytes=1-2-3", b"bytes=--1", b"bytes=" + b"9" * 5000 + b"-",
        )),
    ],
)  # fmt: skip
def test_a_single_range_is_sent_and_any_other_range_is_ignored(folder, value, status, where, body):
    reply = get(folder, b"/digits.txt", b"Range: " + value)
    assert (reply.status, reply.headers.get("content-range"), reply.body) == (status, where, body)
    assert get(folder, b"/digits.txt", b"Range: " + value, method=b"HEAD").status == 200


def test_a_range_of_a_large_file_is_sent_whole(folder):
    assert get(folder, b"/large.bin", b"Range: bytes=5-900000").body == LARGE[5:900_001]
    assert get(folder, b"/empty.bin", b"Range: bytes=0-").headers["content-range"] == "bytes */0"
    assert get(folder, b"/empty.bin").body == b""


def test_a_range_is_sent_only_of_the_version_that_the_client_has(folder):
    reply = get(folder, b"/digits.txt")
    tag, date = reply.headers["etag"].encode(), reply.headers["last-modified"].encode()
    for version, status in ((tag, 206), (date, 206), (b'"other"', 200), (formatdate(0, usegmt=True).encode(), 200)):
        assert get(folder, b"/digits.txt", b"Range: bytes=2-3", b"If-Range: " + version).status == status


def test_a_file_that_the_client_has_is_not_sent_again(folder):
    reply = get(folder, b"/digits.txt")
    tag, date = reply.headers["etag"].encode(), reply.headers["last-modified"].encode()
    old = formatdate(0, usegmt=True).encode()
    for headers, status in (
        ([b"If-Modified-Since: " + date], 304),
        ([b"If-Modified-Since: " + date.replace(b"GMT", b"+0000")], 304),
        ([b"If-Modified-Since: " + old], 200),
        ([b"If-Modified-Since: yesterday"], 200),
        ([b"If-None-Match: " + tag], 304),
        ([b'If-None-Match: "a", W/' + tag], 304),
        ([b"If-None-Match: *"], 304),
        ([b'If-None-Match: "a"'], 200),
        ([b'If-None-Match: "a"', b"If-Modified-Since: " + date], 200),  # the tag counts alone
        ([b"If-None-Match: " + tag, b"If-Modified-Since: " + old, b"Range: bytes=2-3"], 304),
    ):
        again = get(folder, b"/digits.txt", *headers)
        assert (again.status, again.body) == (status, b"0123456789" if status == 200 else b"")
        assert again.headers["etag"].encode() == tag
        assert get(folder, b"/digits.txt", *headers, method=b"HEAD").status == status
    (folder / "digits.txt").write_bytes(b"9876543210")
    os.utime(folder / "digits.txt", (1, 1))
    assert get(folder, b"/digits.txt", b"If-None-Match: " + tag).body == b"9876543210"


@pytest.mark.parametrize("seconds", [2**33, 2**31, -5, 253402300800])
def test_a_date_that_no_header_can_have_is_replaced(folder, seconds):
    os.utime(folder / "page.html", (seconds, seconds))
    assert re.fullmatch(
        r"\w{3}, \d\d \w{3} (1970|20\d\d) [\d:]{8} GMT", get(folder, b"/page.html").headers["last-modified"]
    )


@given(some.text(alphabet="GMT+-0123456789:, SunNov/abc\xff", max_size=40))
def test_a_malformed_date_changes_nothing(text):
    assert http_files.is_unchanged({b"if-modified-since": text.encode("latin-1")}, b'"a"', 2**40) is False


# The protocol.


def test_requests_that_arrive_together_are_answered_in_order(folder):
    site = site_of(folder)
    requests = [
        b"GET /%b HTTP/1.1\r\n" % name + HOST for name in (b"page.html", b"nothing", b"large.bin", b"digits.txt")
    ]
    answers = replies(received(site, b"".join(requests)))
    assert [answer.body for answer in answers] == [PAGE, b"404 Not Found\n", LARGE, b"0123456789"]
    assert not [answer for answer in answers if "connection" in answer.headers]
    assert len(site.lines) == 4


def test_a_request_may_arrive_byte_by_byte(folder):
    data = b"GET /digits.txt HTTP/1.1\r\n" + HOST + b"POST / HTTP/1.1\r\nContent-Length: 3\r\n" + HOST + b"abc"
    answers = replies(received(site_of(folder), *(bytes([byte]) for byte in data)))
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[1].body.startswith(b"3 bytes, sha256 ba7816bf")


@pytest.mark.parametrize("head", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST])
def test_a_connection_is_closed_if_the_client_wants_it(folder, head):
    (answer,) = replies(received(site_of(folder), head + b"GET / HTTP/1.1\r\n" + HOST))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_a_client_that_closes_its_half_gets_its_answers_and_a_silent_one_gets_none(folder):
    site = site_of(folder)
    assert received(site) == b""
    assert site.lines == []


@pytest.mark.parametrize(
    ("method", "status"), [(b"PUT", 405), (b"DELETE", 405), (b"OPTIONS", 405), (b"BREW", 405), (b"CONNECT", 405)]
)
def test_other_methods_are_refused_and_the_connection_is_kept(folder, method, status):
    again = b"GET /digits.txt HTTP/1.1\r\n" + HOST
    first, second = replies(received(site_of(folder), b"%b / HTTP/1.1\r\n" % method + HOST + again))
    assert (first.status, first.headers["allow"], second.status) == (status, "GET, HEAD, POST", 200)


def test_an_upgrade_is_ignored(folder):
    upgrade = b"GET /digits.txt HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + HOST
    assert [answer.status for answer in replies(received(site_of(folder), upgrade * 2))] == [200, 200]


def chunked(*chunks):
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


POSTS = [
    (b"Content-Length: 5\r\n", b"hello", b"hello"),
    (b"Content-Length: 0\r\n", b"", b""),
    (b"", b"", b""),
    (b"Content-Length: %d\r\n" % len(LARGE), LARGE, LARGE),
    (b"Transfer-Encoding: chunked\r\n", chunked(b"he", b"llo"), b"hello"),
    (b"Transfer-Encoding: chunked\r\n", chunked(), b""),
    (b"Transfer-Encoding: chunked\r\n", chunked(*[b"x"] * 5000), b"x" * 5000),
    (b"Transfer-Encoding: chunked\r\n", chunked(LARGE)[:-2] + b"Trailer: x\r\n\r\n", LARGE),
]


@pytest.mark.parametrize(("header", "data", "body"), POSTS)
def test_an_upload_is_answered_with_its_size_and_its_sum(folder, header, data, body):
    post = b"POST /anywhere HTTP/1.1\r\n" + header + HOST + data
    first, second = replies(received(site_of(folder), post + b"GET /digits.txt HTTP/1.1\r\n" + HOST))
    assert (first.status, first.headers.get("connection")) == (200, None)
    unit = "byte" if len(body) == 1 else "bytes"
    assert first.body.decode() == f"{len(body):,} {unit}, sha256 {sha256(body).hexdigest()}\n"
    assert second.body == b"0123456789"


def test_small_chunks_of_an_upload_hold_up_no_other_task(folder):
    turns = []

    def other():
        while True:
            turns.append(1)
            yield

    def talk(conn):
        yield Spawn(other(), daemon=True)
        data = chunked(*[b"x"] * 2000)
        yield Write(conn, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + data)
        return (yield Read(conn, 1000))

    assert b"200 OK" in play(site_of(folder), talk)
    assert len(turns) > 2000


def test_a_client_that_waits_for_100_continue_gets_it_before_it_sends(folder):
    def talk(conn):
        yield Write(conn, b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n" + HOST)
        between = yield Read(conn, 1000)
        yield Write(conn, b"hello")
        return between, (yield Read(conn, 1000))

    between, answer = play(site_of(folder), talk)
    assert between == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"\r\n\r\n5 bytes, sha256 2cf24dba" in answer


@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_a_body_that_nobody_wants_is_not_read(folder, method):
    waiting = b"%b /digits.txt HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n" % method + HOST
    (answer,) = replies(received(site_of(folder), waiting))
    assert (answer.status, answer.headers["connection"]) == ({b"GET": 200, b"PUT": 405}[method], "close")
    endless = b"%b /digits.txt HTTP/1.1\r\nContent-Length: 999999999999\r\n" % method + HOST + LARGE
    assert replies(received(site_of(folder), endless))[0].status == answer.status


BAD = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # the beginning of TLS
    (b"hello\r\n\r\n", 400),
    (b"\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /\x7f HTTP/1.1\r\n" + HOST, 400),
    (b"GET /\xff HTTP/1.1\r\n" + HOST, 400),
    (b"GET / HTTP/x\r\n" + HOST, 400),
    (b"GET / HTTP/1.1\r\nName with spaces: x\r\n" + HOST, 400),
    (b"GET / HTTP/1.1\r\nA: b\0c\r\n" + HOST, 400),
    (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n" + HOST, 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 9%b\r\n" % (b"9" * 30) + HOST, 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n" + HOST, 400),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + HOST, 501),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"zz\r\n", 400),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"3\r\nhello\r\n", 400),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"1;" + b"x" * 40_000, 431),
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n" + HOST + b"he", 400),  # and no more
    (b"GET / HTTP/1.1\r\nHost", 400),  # and no more
    (b"GET /" + b"x" * 40_000, 431),
    (b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000, 431),
    (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 40_000, 431),
]


@pytest.mark.parametrize(("data", "status"), BAD, ids=[repr(data[:70]) for data, _ in BAD])
def test_malformed_requests_get_an_error_and_the_end(folder, data, status):
    site = site_of(folder)
    good = b"GET /digits.txt HTTP/1.1\r\n" + HOST
    first, second = replies(received(site, good + data))
    assert first.status == 200
    assert (second.status, second.headers["connection"]) == (status, "close")
    assert len(site.lines) == 2


PIECES = [
    b"GET /page.html HTTP/1.1\r\n", b"GET /large.bin HTTP/1.0\r\n", b"POST / HTTP/1.1\r\n", b"PUT /sub HTTP/1.1\r\n",
    b"Host: a\r\n", b"\r\n", b"\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"abc", b"\n", b"\0",
    b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: x\r\n", b"Range: bytes=5-\r\n", b"3\r\nabc\r\n",
    b"0\r\n\r\n",
]  # fmt: skip
requests = some.lists(some.sampled_from(PIECES) | some.binary(max_size=5), max_size=25)
usual = some.sampled_from(PIECES[:4]).map(lambda line: [line + b"Host: a\r\n"])


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.lists(requests | usual, max_size=6), some.booleans())
def test_any_bytes_get_well_formed_answers_with_a_line_each(folder, lists, separate):
    site, pieces = site_of(folder), [piece for each in lists for piece in each]
    answers = replies(received(site, *(pieces if separate else [b"".join(pieces)])))
    assert {answer.status for answer in answers} <= {100, 200, 206, 301, 400, 405, 416, 431, 501}
    assert len(site.lines) == len([answer for answer in answers if answer.status != 100])
    assert site.idle == {}


@settings(deadline=None)
@given(
    some.text("/.%20ab?#:\\" + "é", max_size=40).map(lambda path: b"/" + path.encode()),
    some.dictionaries(
        some.sampled_from([b"range", b"if-range", b"if-none-match", b"if-modified-since"]), some.binary(max_size=30)
    ),
    some.booleans(),
)
def test_any_target_and_any_header_has_an_answer(target, headers, head):
    answer = http_files.find(ROOT / "demos", target, headers, head)
    answer.close()
    assert answer.status in (200, 206, 301, 304, 404, 416)


def test_a_request_after_the_last_one_is_not_answered(folder):
    last = b"GET /digits.txt HTTP/1.1\r\nConnection: close\r\n" + HOST
    assert len(replies(received(site_of(folder), last * 5))) == 1
    assert len(replies(received(site_of(folder), b"what?\r\n\r\n" + last))) == 1


# Files that change.


def changing(folder, change):
    """Request a large file and change it while it is sent; return the length in the headers, and the body."""

    def talk(conn):
        yield Write(conn, b"GET /large.bin HTTP/1.1\r\n" + HOST)
        data = yield Read(conn, 1000)
        change(folder / "large.bin")
        conn.shutdown(socket.SHUT_WR)
        return data + (yield from rest_of(conn))

    site = site_of(folder)
    head, _, body = play(site, talk).partition(b"\r\n\r\n")
    assert len(site.lines) == 1
    return int(re.search(rb"Content-Length: (\d+)", head)[1]), body, site.lines[0]


def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(folder):
    length, body, line = changing(folder, lambda path: os.truncate(path, 100_000))
    assert length == len(LARGE) and len(body) < length
    assert LARGE.startswith(body[:65536]) and line.endswith(f" 200 {len(body)}")


def test_of_a_file_that_grows_no_more_is_sent_than_was_promised(folder):
    def grow(path):
        with path.open("ab") as file:
            file.write(LARGE)

    assert changing(folder, grow)[:2] == (len(LARGE), LARGE)


def test_a_file_that_is_removed_while_it_is_sent_is_sent_whole(folder):
    assert changing(folder, os.unlink)[:2] == (len(LARGE), LARGE)


def test_a_file_that_cannot_be_read_ends_the_connection_alone(folder, monkeypatch):
    def fails(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def make_unreadable(path):
        monkeypatch.setattr(http_server.os, "pread", fails)

    with pytest.raises(ExceptionGroup) as caught:  # `serve` logs it, and goes on
        changing(folder, make_unreadable)
    assert [error.errno for error in caught.value.exceptions] == [errno.EIO]


# Limits.


def test_headers_that_arrive_too_slowly_end_the_connection(folder):
    site = site_of(folder, head_seconds=5)

    def talk(conn):
        yield Write(conn, b"GET /digits.txt HTTP/1.1\r\n" + HOST)
        first = yield Read(conn, 1000)
        yield Sleep(100)  # between two requests, `serve` alone decides
        for byte in b"GET /di":  # the sixth second is the last one
            yield Write(conn, bytes([byte]))
            yield Sleep(0.9)
        return first, (yield from rest_of(conn))

    first, rest = play(site, talk)
    assert first.startswith(b"HTTP/1.1 200 OK")
    (answer,) = replies(rest)
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert site.lines[1].endswith('"-" 408 20')


@pytest.mark.parametrize("sends", [False, True])
def test_after_the_last_answer_a_client_has_a_second_to_close_the_connection(folder, sends):
    def talk(conn):
        yield Write(conn, b"what?\r\n\r\n")
        (answer,) = replies((yield from rest_of(conn)))
        assert answer.status == 400
        with pytest.raises(ConnectionError):
            for _ in range(20):
                if sends:
                    yield Write(conn, b"x")
                yield Sleep(0.1)
            yield Write(conn, b"x")
        return (yield Now())

    assert play(site_of(folder), talk) == pytest.approx(1.1 if sends else 2)


def served(site, body, **limits):
    """Serve the site at a Unix path in virtual time; run `body(path)` beside it, and stop the server."""
    path = str(site.folder.parent / "socket")

    def main():
        server, _ = yield from begun(lambda ready: serving(path, ready))
        try:
            return (yield from body(path, server))
        finally:
            yield from stopped(server)

    def serving(path, ready):
        yield Spawn(site.end_idle_connections(), daemon=True)
        yield from serve_unix(site.handle, path, ready=ready, **limits)

    return run(main())


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n" + HOST + b"he"])
def test_a_silent_client_is_closed_by_the_idle_timeout(folder, sent):
    def body(path, server):
        with (yield Connect(path)) as conn:
            if sent:
                yield Write(conn, sent)
            return (yield from rest_of(conn))

    assert served(site_of(folder), body, idle_timeout=30) == b""


def test_a_stopping_server_closes_idle_connections_at_once_and_answers_the_others(folder):
    site = site_of(folder)

    def body(path, server):
        with (yield Connect(path)) as idle, (yield Connect(path)) as fresh, (yield Connect(path)) as busy:
            yield Write(idle, b"GET /digits.txt HTTP/1.1\r\n" + HOST)
            yield Read(idle, 1000)
            yield Write(busy, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n" + HOST + b"he")
            yield settled()
            assert len(site.idle) == 2
            yield Cancel(server)
            assert (yield Read(idle, 1000)) == (yield Read(fresh, 1000)) == b""
            yield Write(busy, b"llo")
            (answer,) = replies((yield from rest_of(busy)))
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert site.idle == {}

    served(site, body, grace=None, idle_timeout=None)  # no deadline, which virtual time may reach while a thread works


def test_a_connection_that_is_accepted_when_the_server_stops_is_closed(folder):
    site = site_of(folder)
    site.stops = True
    assert play(site, rest_of) == b""


def turns_of_a_request(site, slow, sends):
    """Return how many turns the tasks have during a request among slow clients: if each of them sends, or none."""
    counter = Turns()

    def client(conn):
        yield Write(conn, b"GET /digits.txt HTTP/1.1\r\n" + HOST)
        return (yield Read(conn, 1000))

    def main():
        with ExitStack() as conns:
            others = []
            for _ in range(slow):
                ours, theirs = ends()
                others.append(conns.enter_context(theirs))
                yield Spawn(handler(site, ours), daemon=True)
                yield Write(theirs, b"GET /digits.txt HTTP/1.1\r\n")
            ours, theirs = ends()
            conns.enter_context(theirs)
            yield Spawn(handler(site, ours), daemon=True)
            yield settled()
            before = counter.count
            for conn in others if sends else ():
                yield Write(conn, b"x")
            assert (yield from client(theirs)).endswith(b"0123456789")
            return counter.count - before

    return run(main(), watch=[counter])


class Turns(Watcher):
    """Counts turns."""

    count = 0

    def turn(self, task):
        self.count += 1


@pytest.mark.slow
def test_a_slow_client_costs_a_quick_one_a_turn_for_each_byte_and_nothing_while_it_is_silent(folder):
    site = site_of(folder, head_seconds=None)
    alone = turns_of_a_request(site, 0, sends=False)
    assert turns_of_a_request(site, 200, sends=False) == alone
    assert turns_of_a_request(site, 200, sends=True) <= alone + 200 + 200  # those of this test that send, too


# The log.

LINE = r"192\.0\.2\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "


def test_each_request_is_a_line_in_the_common_log_format(folder):
    site = site_of(folder)
    received(site, b"GET /digits.txt HTTP/1.1\r\n" + HOST + b"HEAD /nothing HTTP/1.1\r\n" + HOST + b"bad\r\n\r\n")
    lines = [r'"GET /digits\.txt HTTP/1\.1" 200 10', r'"HEAD /nothing HTTP/1\.1" 404 -', '"-" 400 16']
    assert len(site.lines) == 3
    for line, expected in zip(site.lines, lines, strict=True):
        assert re.fullmatch(LINE + expected, line)


def test_no_client_can_forge_a_line(folder):
    site = site_of(folder)
    received(site, b'GET /"\\%0a"%22 HTTP/1.1\r\n' + HOST)
    assert re.fullmatch(LINE + r'"GET /\\x22\\x5c%0a\\x22%22 HTTP/1\.1" 404 14', site.lines[0])
    forger = http_server.Client(Socket(), site)
    forger.conn.close()
    forger.line = b"\r\n\x1b[2J\x7f\xff\xe2\x80\xae"  # h11 accepts none of these; the log would not, either
    forger.log(200, 0)
    assert site.lines[1].endswith('"\\x0d\\x0a\\x1b[2J\\x7f\\xff\\xe2\\x80\\xae" 200 -')
    assert site.lines[1].startswith("- - - [")


# Cancellation.


@pytest.mark.slow
def test_a_cancellation_at_any_point_leaves_nothing_behind(folder):
    os.truncate(folder / "large.bin", 100_000)

    def talk(end):
        with end:
            yield Write(end, b"GET /large.bin HTTP/1.1\r\n" + HOST)
            yield Write(end, b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n" + HOST + b"hello")
            end.shutdown(socket.SHUT_WR)
            yield from rest_of(end)

    def make():
        site, before = site_of(folder), open_numbers()

        def main():
            ours, theirs = ends()
            yield Spawn(handler(site, ours), "handler")
            yield Spawn(talk(theirs), "client")

        def check():
            assert site.idle == {}
            assert open_numbers() == before

        return main(), check

    assert cancel_everywhere(make, expected=(ConnectionError,)) > 30


# The program, with clients of other authors.


@contextmanager
def serving(folder, *arguments):
    """Start the server for a folder; yield its Program and its port."""
    with started(SERVER, folder, "--port", "0", *arguments) as server:
        port = server.expect(
            r"listening on 127\.0\.0\.1:(\d+); try: curl -i http://127\.0\.0\.1:\1/ \(Ctrl-C stops\)\n"
        )[1]
        yield server, int(port)


def ended(server):
    """Assert that Ctrl-C ends the server, and that it has reported no failure; return its log lines."""
    assert server.interrupt() == 130
    # The server may not have seen yet that the last client has closed its connection.
    assert re.fullmatch(r"(the server stops; \d+ connections? may take 3 s to finish .*\n)?", server.errors())
    return server.said.splitlines()[1:]


def curl(*arguments, data=None):
    """Run curl; return its standard output."""
    command = [client("curl"), "--silent", "--show-error", "--max-time", str(SECONDS), *map(str, arguments)]
    done = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.slow
def test_curl_receives_files_ranges_and_conditions(folder, tmp_path):
    with serving(folder) as (server, port):
        url = f"http://127.0.0.1:{port}"
        assert curl(f"{url}/large.bin") == LARGE
        assert curl("--range", "100-199", f"{url}/large.bin") == LARGE[100:200]
        assert curl("--range", "-7", f"{url}/digits.txt") == b"3456789"
        assert curl("--location", f"{url}/sub") == b"the index"
        (tmp_path / "part").write_bytes(LARGE[:1000])
        curl("--continue-at", "-", "--output", tmp_path / "part", f"{url}/large.bin")
        assert (tmp_path / "part").read_bytes() == LARGE
        curl("--remote-time", "--output", tmp_path / "copy", f"{url}/digits.txt")
        assert curl("--time-cond", tmp_path / "copy", "--write-out", "%{http_code}", f"{url}/digits.txt") == b"304"
        curl("--etag-save", tmp_path / "tag", "--output", os.devnull, f"{url}/digits.txt")
        assert curl("--etag-compare", tmp_path / "tag", "--write-out", "%{http_code}", f"{url}/digits.txt") == b"304"
        assert b"HTTP/1.1 200 OK\r\n" in curl("--head", f"{url}/digits.txt")
        for path in ("../secret.txt", "..%2fsecret.txt", "sub/../../secret.txt"):
            assert curl("--path-as-is", "--write-out", "%{http_code}", f"{url}/{path}") == b"404 Not Found\n404"
        assert curl("--http2", f"{url}/digits.txt") == b"0123456789"
        assert curl("--http1.0", f"{url}/digits.txt") == b"0123456789"
        assert len(ended(server)) == 16


@pytest.mark.slow
def test_curl_keeps_its_connection(folder):
    with serving(folder) as (server, port):
        url = f"http://127.0.0.1:{port}/digits.txt"
        shown = curl("--write-out", " %{num_connects}\n", url, url, url)
        assert shown == b"0123456789 1\n0123456789 0\n0123456789 0\n"
        ended(server)


@pytest.mark.slow
def test_curl_sends_chunks_and_waits_for_100_continue(folder):
    answer = b"1,048,576 bytes, sha256 %b\n" % sha256(LARGE).hexdigest().encode()
    with serving(folder) as (server, port):
        url = f"http://127.0.0.1:{port}/upload"
        assert curl("--data-binary", "@-", url, data=LARGE) == answer
        assert curl("--header", "Transfer-Encoding: chunked", "--data-binary", "@-", url, data=LARGE) == answer
        waiting = ("--header", "Expect: 100-continue", "--expect100-timeout", SECONDS)
        assert curl(*waiting, "--include", "--data-binary", "@-", url, data=LARGE).startswith(
            b"HTTP/1.1 100 Continue\r\n"
        )
        put = curl("--upload-file", "-", "--write-out", "%{http_code}", url, data=LARGE)
        assert put == b"405 Method Not Allowed\n405"
        ended(server)


@pytest.mark.slow
def test_curl_reads_at_a_unix_path(folder, tmp_path):
    path = tmp_path / "socket"
    with started(SERVER, folder, "--unix", path) as server:
        server.expect(f"listening on {path}; try: curl -i --unix-socket {path} http://localhost/ ")
        assert curl("--unix-socket", path, "http://localhost/digits.txt") == b"0123456789"
        (line,) = ended(server)
        assert line.startswith("- - - [") and line.endswith('"GET /digits.txt HTTP/1.1" 200 10')
    assert not path.exists()


@pytest.mark.slow
def test_curl_speaks_https_and_a_plain_request_is_refused(folder):
    answer = b"1,048,576 bytes, sha256 %b\n" % sha256(LARGE).hexdigest().encode()
    with started(SERVER, folder, "--port", "0", "--self-signed") as server:
        port = server.expect(r"try: curl -ik https://127\.0\.0\.1:(\d+)/ ")[1]
        url = f"https://127.0.0.1:{port}/digits.txt"
        assert curl("--insecure", f"https://127.0.0.1:{port}/large.bin") == LARGE
        assert curl("--insecure", "--range", "2-4", url) == b"234"
        shown = curl("--insecure", "--write-out", " %{num_connects}\n", url, url)
        assert shown == b"0123456789 1\n0123456789 0\n"
        assert curl("--insecure", "--data-binary", "@-", url, data=LARGE) == answer
        put = curl("--insecure", "--upload-file", "-", "--write-out", "%{http_code}", url, data=LARGE)
        assert put == b"405 Method Not Allowed\n405"  # the answer comes although not all was read
        with socket.create_connection(("127.0.0.1", int(port)), SECONDS) as plain:
            plain.sendall(b"GET /digits.txt HTTP/1.1\r\n\r\n")
            assert b"0123456789" not in plain.recv(1000)
        assert curl("--insecure", url) == b"0123456789"
        assert server.interrupt() == 130


@pytest.mark.slow
def test_wrk_meets_no_error_on_200_connections(folder):
    with serving(folder, "--quiet") as (server, port):
        command = [
            client("wrk"),
            "-t2",
            "-c200",
            "-d3s",
            "--timeout",
            str(SECONDS),
            f"http://127.0.0.1:{port}/page.html",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert (done.returncode, done.stderr) == (0, "")
        assert int(re.search(r"(\d+) requests in", done.stdout)[1]) > 200
        assert "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout, done.stdout
        assert ended(server) == []


@pytest.mark.slow
def test_httpx_receives_all_in_one_connection(folder):
    httpx = pytest.importorskip("httpx")
    with serving(folder) as (server, port), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as web:
        assert web.get("/large.bin").content == LARGE
        page = web.get("/page.html")
        assert (page.text.encode(), page.encoding) == (PAGE, "utf-8")
        assert web.get("/page.html", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
        assert web.get("/large.bin", headers={"Range": "bytes=1-2"}).content == LARGE[1:3]
        assert web.post("/", content=iter([LARGE, LARGE])).text.startswith("2,097,152 bytes")
        assert web.get("/sub", follow_redirects=True).content == b"the index"
        assert b"digits.txt" in web.get("/").content
        assert web.get("/%ff").status_code == 404
        with web.stream("GET", "/large.bin") as left:
            next(left.iter_raw())  # and leave: this one connection is closed
        assert web.get("/digits.txt").text == "0123456789"
        web.close()
        assert len(ended(server)) == 11


# The program, with clients that mean no good.


@pytest.mark.slow
def test_a_header_line_of_a_gigabyte_costs_little_memory(folder):
    with serving(folder) as (server, port):
        with dial(("127.0.0.1", port)) as conn:
            conn.sendall(b"GET /digits.txt HTTP/1.1\r\n" + HOST)
            assert conn.recv(1000).endswith(b"0123456789")
            before, answer = memory_of(server.process.pid), b""
            conn.sendall(b"GET /digits.txt HTTP/1.1\r\nA: ")
            try:
                for _ in range(1024):
                    conn.sendall(bytes(b"x" * 1024 * 1024))
            except ConnectionError:
                pass  # the server has read enough
            try:
                answer = conn.recv(1000)
            except ConnectionError:
                pass
            assert memory_of(server.process.pid) - before < 10 << 20
        assert b"431 " in answer or answer == b""
        assert curl(f"http://127.0.0.1:{port}/digits.txt") == b"0123456789"
        assert [line.rsplit('" ')[-1] for line in ended(server)] == ["200 10", "431 36", "200 10"]


@pytest.mark.slow
def test_clients_that_never_read_cost_little_memory(folder):
    with (folder / "sparse.bin").open("wb") as file:
        file.truncate(1 << 30)
    with serving(folder, "--grace", "0") as (server, port), ExitStack() as conns:
        assert curl("--range", "0-99999", f"http://127.0.0.1:{port}/sparse.bin") == bytes(100_000)
        before = memory_of(server.process.pid)
        for _ in range(100):
            conn = conns.enter_context(dial(("127.0.0.1", port)))
            conn.sendall((b"GET /sparse.bin HTTP/1.1\r\n" + HOST) * 100)
            assert conn.recv(15) == b"HTTP/1.1 200 OK"
        assert curl(f"http://127.0.0.1:{port}/digits.txt") == b"0123456789"
        assert memory_of(server.process.pid) - before < 100 << 20  # that is 1 MB each, threads included
        conns.close()
        assert curl(f"http://127.0.0.1:{port}/digits.txt") == b"0123456789"
        assert server.interrupt() == 130


def seconds_of(conn, meanwhile=lambda: None):
    """Return the time that a quick client needs for 40 requests; `meanwhile` is called before every second one."""
    began = perf_counter()
    for number in range(40):
        if number % 2:
            meanwhile()
        conn.sendall(b"GET /digits.txt HTTP/1.1\r\n" + HOST)
        data = b""
        while not data.endswith(b"0123456789"):
            data += conn.recv(1000) or pytest.fail("the server has closed the connection")
    return perf_counter() - began


@pytest.mark.slow
def test_200_slow_clients_do_not_slow_a_quick_one_by_a_factor_of_2(folder):
    """The best of many measurements counts, with and without slow clients, so that a busy machine fails nothing."""
    with serving(folder, "--quiet", "--grace", "0", "--head-timeout", "inf") as (server, port), ExitStack() as conns:
        quick = conns.enter_context(dial(("127.0.0.1", port)))
        alone = min(seconds_of(quick) for _ in range(40))
        slow = [conns.enter_context(dial(("127.0.0.1", port))) for _ in range(200)]
        for conn in slow[::2]:
            conn.sendall(b"GET /large.bin HTTP/1.1\r\n" + HOST)
        turns = cycle(enumerate(slow))

        def next_byte():
            """Let the next of the slow clients send or read a little: 2,000 do so in a second, as 200 at 10 bytes/s."""
            number, conn = next(turns)
            conn.send(b"G") if number % 2 else conn.recv(1)

        among = min(seconds_of(quick, next_byte) for _ in range(40))
        assert among < 2 * alone
        conns.close()
        assert server.interrupt() == 130


# The command line.


@pytest.mark.slow
def test_a_wrong_option_is_a_one_line_error(folder, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert_one_line(finished(SERVER, "--port", port), f"http_server: 127.0.0.1:{port}: Address already in use")
    assert_one_line(finished(SERVER, folder / "page.html"), "http_server: ", "page.html: not a folder")
    refused = finished(SERVER, "--head-timeout", "0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "argument --head-timeout: expected seconds, more than 0, or inf for no limit, not '0'" in refused.stderr
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "h11.py").write_text("raise ModuleNotFoundError('no h11')")
    assert_one_line(finished(SERVER, path=[tmp_path / "lib"]), "http_server.py needs h11: pip install -e '.[demo]'")


@pytest.mark.slow
def test_help_names_the_folder_and_the_limits():
    shown = finished(SERVER, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for part in (
        "FOLDER",
        "--port",
        "--host",
        "--unix",
        "--head-timeout",
        "--idle-timeout",
        "--max-connections",
        "--quiet",
    ):
        assert part in shown.stdout


@pytest.mark.slow
def test_the_server_can_be_run_and_traced_by_the_command_line(folder):
    with started("-m", "minisched", "run", "--trace", SERVER, folder, "127.0.0.1", "0") as server:
        port = server.expect(r"listening on 127\.0\.0\.1:(\d+)")[1]
        assert curl(f"http://127.0.0.1:{port}/digits.txt") == b"0123456789"
        assert server.interrupt() == 130
        assert "InThread(find)" in server.errors()


@pytest.mark.slow
def test_a_killed_client_leaves_no_line_but_its_own(folder):
    with (folder / "sparse.bin").open("wb") as file:
        file.truncate(1 << 30)
    with serving(folder) as (server, port):
        command = [client("curl"), "--silent", "--limit-rate", "1k", f"http://127.0.0.1:{port}/sparse.bin"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as killed:
            assert killed.stdout.read(1)
            killed.kill()
        assert not lives(killed.pid)
        assert curl(f"http://127.0.0.1:{port}/digits.txt") == b"0123456789"
        assert len(ended(server)) == 2
