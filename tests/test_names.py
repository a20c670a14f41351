"""Looking host names up: Resolve, Names, and the calls that take a name. No look-up holds up the other tasks."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from concurrent.futures import Future

import pytest
from helpers import PATIENCE_SECONDS, Ask, left_in_cycles, nothing_is_left, parked, until  # noqa: F401
from helpers import run as run_in_virtual_time
from programs import started

from minisched import (
    Cancel,
    Connect,
    Deadlock,
    Event,
    HostAddress,
    InThread,
    Join,
    Listen,
    MoveOnAfter,
    Names,
    Network,
    Now,
    Read,
    Resolve,
    Sleep,
    Spawn,
    Syscall,
    TaskCancelled,
    TimedOut,
    Timeout,
    Timers,
    WouldBlock,
    Write,
    do_now,
    gather,
    run,
    select,
    serve,
)
from minisched.bridges import thread_pool
from minisched.bridges.thread_pool import Pool
from minisched.bridges.threads import Threads
from minisched.net import names
from minisched.net.listening import ListenAll
from minisched.testing import cancel_everywhere, check_syscall

outside_webassembly = pytest.mark.skipif(sys.platform == "emscripten", reason="addresses are those of the browser")

LOCAL = "127.0.0.1"
real = socket.getaddrinfo


@pytest.fixture(autouse=True)
def threads(nothing_is_left, monkeypatch):  # noqa: F811  # files are counted when the threads have ended
    """Yield the list of the threads that a test starts; assert that they end, also those that begin late."""
    started, ended, start = [], [], thread_pool.start_new_thread

    def start_new_thread(function, arguments):
        started.append(start(body, (function, arguments)))

    def body(function, arguments):
        try:
            function(*arguments)
        finally:
            ended.append(function)

    monkeypatch.setattr(thread_pool, "start_new_thread", start_new_thread)
    yield started
    clock = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if len(ended) == len(started):
            break
        clock.wait(0.01)
    assert len(ended) == len(started)


class Resolver:
    """A stand-in for `getaddrinfo`: each name is this machine, and blocks until the gate is open."""

    def __init__(self):
        self.gate = threading.Event()
        self.asked = []  # the names of the look-ups
        self.error = None

    def __call__(self, host, port, **keywords):
        if host is None or host[:1].isdigit() or ":" in host:
            return real(host, port, **keywords)
        if keywords["flags"] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked.append(host)
        assert self.gate.wait(PATIENCE_SECONDS), "the gate stayed shut"
        if self.error is not None:
            raise type(self.error)(*self.error.args)  # a new one, as getaddrinfo does
        return real(LOCAL, port, **keywords)


@pytest.fixture
def resolver(threads, monkeypatch):
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.gate.set()


class Simulated(Names):
    """A resolver in virtual time: names are answered by this table, after a second for each letter."""

    table = {"a": [LOCAL], "bb": [LOCAL, "::1"], "none": []}  # noqa: RUF012

    def start(self, host, port, *rest):
        future, timers = Future(), self.kernel.service(Timers)
        timer = timers.call_at(timers.now() + len(host), lambda: self.answer(future, host, port, rest))
        future.add_done_callback(lambda done: timer.cancel())  # if the look-up is left
        return future

    def answer(self, future, host, port, rest):
        if host in self.table:
            future.set_result([one for numeric in self.table[host] for one in self.known(numeric, port, *rest)])
        else:
            future.set_exception(socket.gaierror(socket.EAI_NONAME, f"nobody is called {host!r}"))


class Held(Names):
    """A resolver whose answers the test gives."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.futures = []

    def start(self, *query):
        self.futures.append(Future())
        return self.futures[-1]

    def answer(self):
        """Answer all look-ups: the host is this machine."""
        for future in self.futures:
            if future.set_running_or_notify_cancel():
                future.set_result(self.known(LOCAL, 0, socket.AF_UNSPEC, socket.SOCK_STREAM, 0))
        self.futures.clear()


def use(kind):
    """Return a syscall that replaces the resolver; it returns the new one."""

    def put(kernel):
        kernel.services[Names] = kind(kernel)
        return kernel.services[Names]

    return Ask(put)


def address_of(found):
    return [one.address for one in found]


def resolving(host):
    return (yield Resolve(host, 80))


# The results of Resolve.


@outside_webassembly
def test_a_numeric_address_is_answered_at_once_without_a_thread(monkeypatch):
    monkeypatch.setattr(Pool, "submit", None)

    def main():
        kernel = yield Ask(lambda kernel: kernel)
        found = yield Resolve(LOCAL, 80)
        assert address_of(found) == [(LOCAL, 80)]
        assert isinstance(found[0], HostAddress)
        assert found[0][:4] == (socket.AF_INET, socket.SOCK_STREAM, found[0].proto, "")
        [found] = yield Resolve("::1", 80, type=socket.SOCK_DGRAM)
        assert (found.address, found.type) == (("::1", 80, 0, 0), socket.SOCK_DGRAM)
        assert address_of((yield Resolve("", 80, family=socket.AF_INET))) == [(LOCAL, 80)]
        wildcard = yield Resolve("", 80, family=socket.AF_INET, flags=socket.AI_PASSIVE)
        assert address_of(wildcard) == [("0.0.0.0", 80)]
        assert do_now(Resolve(LOCAL, 80))[0].address == (LOCAL, 80)
        assert (yield select(Event().wait(), Resolve(LOCAL, 80)))[0] == 1
        assert Threads not in kernel.services  # which would need descriptors

    run_in_virtual_time(main())


def test_localhost_is_found():
    def main():
        found = yield Resolve("localhost", 80, family=socket.AF_INET)
        with (yield Listen(("localhost", 0))) as listener, (yield Connect(("localhost", listener.address[1]))) as conn:
            return found[0].address, conn.peer == listener.address

    assert run(main()) == ((LOCAL, 80), True)


def test_a_name_asks_the_resolver_for_what_was_wanted(monkeypatch):
    asked = []

    def getaddrinfo(host, port, **keywords):
        asked.append((host, port, keywords))
        if keywords["flags"] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6, socket.SOCK_DGRAM, 17, "name", ("::1", port, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def main():
        return (yield Resolve("b\u00fccher.example", 80, family=10, type=2, flags=socket.AI_CANONNAME))

    found = run(main())
    assert found == [(socket.AF_INET6, socket.SOCK_DGRAM, 17, "name", ("::1", 80, 0, 0))]
    assert found[0].name == "name"
    assert [one[:2] for one in asked] == [("b\u00fccher.example", 80)] * len(asked)
    assert asked[0][2] == {"family": 10, "type": 2, "flags": socket.AI_CANONNAME | socket.AI_NUMERICHOST}
    assert asked[-1][2] == {"family": 10, "type": 2, "flags": socket.AI_CANONNAME}


def test_a_name_that_does_not_resolve_is_an_error_that_names_it(resolver):
    resolver.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    resolver.gate.set()

    def main():
        for call in (Resolve("nobody.invalid", 80), Connect(("nobody.invalid", 80)), Listen(("nobody.invalid", 80))):
            with pytest.raises(socket.gaierror, match=r"Temporary failure.*'nobody\.invalid'") as caught:
                yield call
            assert caught.value.errno == socket.EAI_AGAIN
        with pytest.raises(socket.gaierror, match=r"'nobody\.invalid'"):
            yield from serve(resolving, "nobody.invalid", 80)

    run(main())


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "www..example", ".", "\udcff", "a\0b"])
def test_a_name_that_can_not_be_encoded_fails_at_once_without_a_thread(host, monkeypatch):
    monkeypatch.setattr(Pool, "submit", None)

    def main():
        with pytest.raises(socket.gaierror, match="not known"):
            yield Resolve(host, 80)

    run(main())


@pytest.mark.parametrize(
    ("host", "port", "kind"),
    [
        (None, 80, TypeError),
        (b"a", 80, TypeError),
        ("a", "80", TypeError),
        ("a", True, TypeError),
        ("a", 65536, ValueError),
    ],
)
def test_wrong_arguments_are_refused(host, port, kind):
    def main():
        with pytest.raises(kind, match=r"address|port"):
            yield Resolve(host, port)

    run(main())


# Other tasks go on.


def ticks(resolver, times):
    """Count turns while a look-up goes on, then let it end."""
    yield from until(lambda: len(resolver.asked) == 1)
    for _ in range(times):
        yield
    assert not resolver.gate.is_set()
    resolver.gate.set()
    return times


def test_other_tasks_go_on_during_a_look_up(resolver):
    def main():
        return (yield from gather(resolving("example.org"), ticks(resolver, 100)))

    found, turns = run(main())
    assert address_of(found) == [(LOCAL, 80)] and turns == 100


def closing(call):
    with (yield call) as sock:
        return sock.address


def test_other_tasks_go_on_while_listen_and_connect_look_a_name_up(resolver):
    def main():
        address, _ = yield from gather(closing(Listen(("example.org", 0))), ticks(resolver, 50))
        resolver.gate.clear()
        resolver.asked.clear()
        with (yield Listen((LOCAL, 0))) as listener:
            yield from gather(closing(Connect(("example.org", listener.address[1]))), ticks(resolver, 50))
        return address[0]

    assert run(main()) == LOCAL


def test_other_tasks_go_on_while_a_server_looks_its_names_up(resolver):
    def echo(conn):
        yield Write(conn, (yield Read(conn, 10)))

    def serving():
        ready, found = Event(), []

        def began(listener):
            found.append(listener.address)
            ready.set()

        server = yield Spawn(serve(echo, ["one.example", "two.example", LOCAL], 0, ready=began), keep=True)
        yield ready.wait()
        with (yield Connect(found[0])) as conn:
            yield Write(conn, b"hello")
            answer = yield Read(conn, 10)
        yield Cancel(server)
        with pytest.raises(TaskCancelled):
            yield Join(server)
        return answer

    def main():
        return (yield from gather(serving(), ticks(resolver, 50)))

    assert run(main()) == [b"hello", 50]
    assert resolver.asked == ["one.example", "two.example"]


def test_a_server_that_is_cancelled_during_its_look_up_opens_nothing(resolver):
    def main():
        server = yield Spawn(serve(resolving, "example.org", 0, ready=pytest.fail), keep=True)
        yield from until(lambda: resolver.asked)
        yield Cancel(server)
        with pytest.raises(TaskCancelled):
            yield Join(server)

    run(main())


def test_one_call_of_select_is_a_connect_by_name(resolver):
    def main():
        with (yield Listen((LOCAL, 0))) as listener:
            port = listener.address[1]
            assert (yield select(Connect(("example.org", port)), Sleep(0))) == (1, None)
            assert (yield select(Listen(("example.org", 0)), Sleep(0))) == (1, None)
            resolver.gate.set()
            which, conn = yield select(Event().wait(), Connect(("example.org", port)))
            with conn:
                assert (which, conn.peer) == (1, listener.address)
            which, other = yield select(Event().wait(), Listen(("example.org", 0)))
            with other:
                assert (which, other.address[0]) == (1, LOCAL)

    run(main())


def test_a_connect_by_name_tries_the_next_address(monkeypatch):
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        refusing = sock.getsockname()[1]
    table = {"both.example": ["127.0.0.2", LOCAL]}

    class Table(Names):
        def start(self, host, port, *rest):
            future = Future()
            future.set_result([one for numeric in table[host] for one in self.known(numeric, port, *rest)])
            return future

    def main():
        yield use(Table)
        with (yield Listen((LOCAL, 0))) as listener:
            with (yield Connect(("both.example", listener.address[1]))) as conn:
                assert conn.peer == listener.address
        with pytest.raises(ConnectionRefusedError, match=LOCAL):
            yield Connect(("both.example", refusing))

    run(main())


def test_do_now_takes_a_numeric_address_and_no_name(resolver):
    def main():
        with do_now(Listen((LOCAL, 0))) as listener:
            assert listener.address[0] == LOCAL
        with pytest.raises(WouldBlock):
            do_now(Listen(("example.org", 0)))
        yield

    run(main())
    assert resolver.asked == []


# Cancellation.


def test_a_cancelled_look_up_is_left_at_once_and_its_answer_is_dropped(resolver):
    def waiting(call):
        yield call

    def main():
        for call in (Resolve("a.example", 80), Connect(("b.example", 80)), Listen(("c.example", 0))):
            task = yield Spawn(waiting(call), keep=True)
            yield from parked(task)
            assert repr(task.call).startswith(type(call).__name__)
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)
        with pytest.raises(TimedOut):
            with (yield Timeout(0.001)):
                yield Connect(("d.example", 80))
        threads = yield Ask(lambda kernel: kernel.service(Threads))
        assert not threads.waiting
        yield from until(lambda: len(resolver.asked) == 4)
        resolver.gate.set()
        yield from until(lambda: len(threads.wakeup.calls) == 0)
        return sorted(resolver.asked)

    assert run(main()) == ["a.example", "b.example", "c.example", "d.example"]


def test_a_look_up_that_was_left_does_not_prevent_a_deadlock(resolver):
    def main():
        with (yield MoveOnAfter(1)):
            yield Resolve("example.org", 80)
        yield Event().wait()

    with pytest.raises(Deadlock):
        run_in_virtual_time(main())


def test_of_a_thousand_cancelled_look_ups_few_are_made(resolver, threads):
    def main():
        tasks = []
        for number in range(1000):
            tasks.append((yield Spawn(resolving(f"host-{number}.example"), keep=True)))
        yield from parked(*tasks)
        for task in tasks:
            yield Cancel(task)
        for task in tasks:
            with pytest.raises(TaskCancelled):
                yield Join(task)
        assert len(threads) == names.MAX_RESOLVER_THREADS
        resolver.gate.set()
        return address_of((yield Resolve("last.example", 80)))

    assert run(main()) == [(LOCAL, 80)]
    assert len(resolver.asked) <= names.MAX_RESOLVER_THREADS + 1


@pytest.mark.slow
def test_ten_thousand_hung_look_ups_make_few_threads_and_leave_in_thread_alone(resolver, threads):
    def main():
        for number in range(10_000):
            yield Spawn(resolving(f"host-{number}.example"), daemon=True)
        assert len(threads) == names.MAX_RESOLVER_THREADS
        return (yield InThread(sum, [1, 2]))

    assert run(main()) == 3
    assert len(resolver.asked) <= names.MAX_RESOLVER_THREADS


class BreakOff(Syscall[None]):
    def handle(self, kernel, task):
        kernel.fault = KeyboardInterrupt()
        raise kernel.fault


def test_a_run_that_is_aborted_leaves_its_look_ups(resolver):
    def connecting():
        yield Connect(("example.org", 80))

    def main():
        yield from parked((yield Spawn(connecting())), (yield Spawn(resolving("example.org"))))
        yield BreakOff()

    with pytest.raises(KeyboardInterrupt):
        run(main())


CALLS = {
    "Resolve": lambda: Resolve("example.org", 80),
    "Listen": lambda: Listen(("example.org", 0)),
    "ListenAll": lambda: ListenAll([("example.org", 0), (LOCAL, 0)]),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_by_name_passes_the_conformance_test(name):
    opened = []

    class Recorded(Network):
        def listen(self, address, backlog, **options):
            opened.append(super().listen(address, backlog, **options))
            return opened[-1]

    def close():
        for sock in opened:
            sock.close()

    def make():
        held = yield use(Held)
        yield Ask(lambda kernel: kernel.services.update({Network: Recorded(kernel)}))
        return CALLS[name](), held.answer, close

    check_syscall(make)


@pytest.mark.parametrize("host", [LOCAL, "localhost"])
def test_resolve_passes_the_conformance_test(host):
    check_syscall(lambda: Resolve(host, 80))


def test_a_connect_by_name_passes_the_conformance_test():
    class Local(Network):
        """A network in which each address leads to the end of a pair."""

        def dial(self, address):
            self.find(address[0], address[1], socket.AF_UNSPEC, socket.SOCK_STREAM, 0)
            return [(Pair, "pair")]

    from minisched import Socket

    class Pair(Socket):
        def __init__(self):
            near, self.far = socket.socketpair()
            super().__init__(fileno=near.detach())
            made.append(self)

        def try_connect(self, address):
            return self

        def close(self):
            super().close()
            self.far.close()

    made = []

    def make():
        held = yield use(Held)
        yield Ask(lambda kernel: kernel.services.update({Network: Local(kernel)}))
        return Connect(("example.org", 80)), held.answer, lambda: [sock.close() for sock in made]

    check_syscall(make)
    assert made


def test_nothing_is_lost_wherever_a_listen_or_a_connect_by_name_is_cancelled():
    def make():
        listeners = []

        class Recorded(Network):
            def listen(self, address, backlog, **options):
                listeners.append(super().listen(address, backlog, **options))
                return listeners[-1]

        def main():
            yield use(Simulated)
            yield Ask(lambda kernel: kernel.services.update({Network: Recorded(kernel)}))
            with (yield Listen(("a", 0))) as listener:
                yield Resolve("bb", 80)
                with (yield Connect(("a", listener.address[1]))):
                    yield

        def check():
            assert [listener.fileno() for listener in listeners] in ([], [-1])

        return main(), check

    assert cancel_everywhere(make) > 8


# The service.


def test_a_simulated_resolver_answers_in_virtual_time():
    def main():
        yield use(Simulated)
        assert len((yield Resolve("bb", 80))) == 2
        assert (yield Now()) == 2
        with (yield Listen(("a", 0))) as listener:
            assert (yield Now()) == 3
            yield Resolve("a", 0, flags=socket.AI_PASSIVE)  # no answer is kept
            assert (yield Now()) == 4
            with (yield Connect(("a", listener.address[1]))):
                assert (yield Now()) == 5
        listeners = yield ListenAll([("a", 0), ("bb", 0), ("a", 0)])
        assert (yield Now()) == 8  # one look-up for each name
        for listener in listeners:
            listener.close()
        with pytest.raises(socket.gaierror, match="'unknown'"):
            yield Resolve("unknown", 80)
        with (yield MoveOnAfter(1)) as scope:
            yield Connect(("bb", 80))
        assert scope.cancelled_caught

    run_in_virtual_time(main())


@pytest.mark.parametrize("call", [Resolve("none", 80), Connect(("none", 80)), Listen(("none", 80))], ids=repr)
def test_a_resolver_that_answers_with_nothing_is_an_unknown_host(call):
    def main():
        yield use(Simulated)
        with pytest.raises(socket.gaierror, match="not known: 'none'"):
            yield call

    run_in_virtual_time(main())


def test_a_resolver_may_know_names_at_once_or_fail_at_once(monkeypatch):
    monkeypatch.setattr(Pool, "submit", None)

    class Table(Names):
        def known(self, host, port, *rest):
            if host == "broken":
                raise OSError("the table is broken")
            return super().known({"example.org": LOCAL}.get(host, host), port, *rest)

        def start(self, *query):
            raise RuntimeError("can't start new thread")

    def main():
        yield use(Table)
        assert address_of((yield Resolve("example.org", 80))) == [(LOCAL, 80)]
        with (yield Listen(("example.org", 0))) as listener:
            with (yield Connect(("example.org", listener.address[1]))) as conn:
                assert conn.peer == listener.address
        for call in (Resolve("broken", 80), Connect(("broken", 80)), Listen(("broken", 80))):
            with pytest.raises(OSError, match="the table is broken"):
                yield call
        for call in (Resolve("other", 80), Connect(("other", 80)), Listen(("other", 80))):
            with pytest.raises(RuntimeError, match="can't start"):
                yield call
            with pytest.raises(RuntimeError, match="can't start"):
                yield select(Event().wait(), call)

    run_in_virtual_time(main())


def test_a_network_that_needs_no_names_looks_none_up(monkeypatch):
    monkeypatch.setattr(Names, "known", None)

    class Redirected(Network):
        def dial(self, address):
            assert address == ("example.org", 80)
            raise OSError("nobody is there")

    def main():
        yield Ask(lambda kernel: kernel.services.update({Network: Redirected(kernel)}))
        with pytest.raises(OSError, match="nobody is there"):
            yield Connect(("example.org", 80))

    run_in_virtual_time(main())


def test_a_network_may_lead_one_name_to_another():
    class Redirected(Network):
        def dial(self, address):
            return super().dial(("a", self.port))

    def main():
        yield use(Simulated)
        network = yield Ask(lambda kernel: kernel.services.setdefault(Network, Redirected(kernel)))
        with (yield Listen((LOCAL, 0))) as listener:
            network.port = listener.address[1]
            with (yield Connect(("example.org", 80))) as conn:
                return conn.peer == listener.address

    assert run_in_virtual_time(main())


HANGING = """
import socket, sys, threading
from minisched import Connect, Resolve, Sleep, run, select

def hangs(host, port, **keywords):
    if keywords["flags"] & socket.AI_NUMERICHOST:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    threading.Event().wait()

def main():
    print((yield select(Resolve("example.org", 80), Sleep(0.01))), flush=True)
    if sys.argv[1] == "interrupted":
        yield Connect(("example.org", 80))

socket.getaddrinfo = hangs
try:
    run(main())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("ends", 0), ("interrupted", 130)])
def test_a_program_ends_though_a_look_up_hangs_for_ever(how, status):
    with started("-c", HANGING, how) as program:
        program.expect(r"\(1, None\)")
        assert (program.interrupt() if how == "interrupted" else program.wait()) == status
        assert program.errors() == ""


def test_a_failed_look_up_is_in_no_reference_cycle(resolver):
    resolver.gate.set()
    resolver.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def main():
        for call in (Connect, Listen, lambda address: Resolve(*address)):
            try:
                yield call(("example.org", 80))
            except OSError:
                pass
        return left_in_cycles()

    gc.collect()
    gc.disable()
    try:
        assert run(main()) == []
    finally:
        gc.enable()
