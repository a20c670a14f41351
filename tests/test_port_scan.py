"""The demo `port_scan.py`: its answers, its bounds, its refusals, and its output."""

from __future__ import annotations

import argparse
import errno
import re
import socket
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from helpers import Ask, nothing_is_left, run  # noqa: F401
from programs import ROOT, assert_one_line, finished, started
from test_connecting import Simulation

from minisched import Cancel, Join, Listen, Names, Network, Now, Sleep, Spawn, TaskCancelled
from minisched.testing import cancel_everywhere

outside_webassembly = pytest.mark.skipif(sys.platform == "emscripten", reason="there are no sockets")

DEMO = ROOT / "demos" / "port_scan.py"
LOCAL = "127.0.0.1"


@pytest.fixture
def demo(monkeypatch):
    """Return the module of the demo."""
    monkeypatch.syspath_prepend(DEMO.parent)
    module = __import__("port_scan")
    for name in ("console", "port_scan"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return module


def options_of(ports, **changes):
    usual = {"ports": ports, "target": LOCAL, "host": None, "at_once": 100, "timeout": 1.0}
    return SimpleNamespace(**usual | changes)


class Ports(Network):
    """A network in virtual time: after how many seconds each port answers, and how."""

    def __init__(self, kernel, answers):
        super().__init__(kernel)
        self.outcomes, self.begun, self.open, self.most = answers, [], [], 0

    def dial(self, address):
        def make_socket():
            sock = Simulation(self.kernel, self)
            self.most = max(self.most, len(self.open))
            return sock

        return [(make_socket, (address[1],))]  # a Simulation looks its outcome up by the first part


def scanned(demo, answers, networks, **changes):
    """Scan the ports of a simulated network."""

    def put(kernel):
        kernel.services[Network] = network = Ports(kernel, answers)
        networks.append(network)

    yield Ask(put)
    yield from demo.main(options_of(list(answers), **changes))


@outside_webassembly
def test_a_port_is_open_closed_or_silent(demo, capsys):
    answers = {
        22: 0.5,
        9999: (0.1, errno.ECONNREFUSED),
        80: 0,
        7: 1.5,
        8: (0, errno.EHOSTUNREACH),
    }
    networks = []
    run(scanned(demo, answers, networks))
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "scanning 5 ports of 127.0.0.1, 100 at once"
    assert [re.sub(" +", " ", line.strip()) for line in lines[:-1]] == ["22 open ssh", "80 open http"]
    assert re.fullmatch(r"5 ports in [\d.]+ s: 2 open, 1 closed, 2 silent", lines[-1])
    assert networks[0].open == []
    assert all(len(line) < 80 for line in [head, *lines])


def test_the_attempts_at_a_time_are_bounded(demo, capsys):
    answers = {port: 0.5 for port in range(1, 101)}
    networks = []

    def main():
        yield from scanned(demo, answers, networks, at_once=10)
        return (yield Now())

    assert run(main()) == 5.0
    assert networks[0].most == 10
    assert networks[0].begun[0][0] == 0 and len(networks[0].begun) == 100


def test_a_scan_that_is_cancelled_reports_what_it_has_found(demo, capsys):
    answers = {port: port for port in range(1, 6)}
    networks = []

    def main():
        task = yield Spawn(scanned(demo, answers, networks, timeout=100), keep=True)
        yield Sleep(2.5)
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)

    run(main())
    assert re.search(r"^2 ports of 5 in .*: 2 open, 0 closed, 0 silent$", capsys.readouterr().out, re.MULTILINE)
    assert networks[0].open == []


def test_nothing_is_left_wherever_a_scan_is_cancelled(demo):
    def make():
        networks = []
        answers = {1: 0.5, 2: (0.1, errno.ECONNREFUSED), 3: 2}

        def check():
            assert all(network.open == [] for network in networks)

        return scanned(demo, answers, networks, at_once=2), check

    assert cancel_everywhere(make) > 10


def test_a_scan_without_descriptors_names_the_option(demo):
    with pytest.raises(ExceptionGroup) as caught:
        run(scanned(demo, {1: (0, errno.EMFILE)}, []))
    (error,) = caught.value.exceptions
    assert isinstance(error, demo.ScanError) and "--at-once" in str(error)


class Elsewhere(Names):
    """A resolver that knows one name of another machine, and one of this machine."""

    def known(self, host, port, *rest):
        return super().known({"far.example": "192.0.2.1", "near.example": LOCAL}.get(host, host), port, *rest)


def looking_up(demo, host, anywhere):
    yield Ask(lambda kernel: kernel.services.update({Names: Elsewhere(kernel)}))
    return (yield from demo.address_of(host, anywhere))


@outside_webassembly
@pytest.mark.parametrize("host", ["far.example", "192.0.2.1", "2001:db8::1"])
def test_another_machine_is_refused_unless_it_is_named_by_host(demo, host):
    with pytest.raises(demo.ScanError, match=r"another machine.*--host"):
        run(looking_up(demo, host, False))
    assert run(looking_up(demo, host, True))[0] in ("192.0.2.1", "2001:db8::1")


@outside_webassembly
@pytest.mark.parametrize("host", ["near.example", LOCAL, "127.1.2.3", "::1"])
def test_this_machine_is_not_refused(demo, host):
    assert run(looking_up(demo, host, False))


def test_the_ports_of_an_ipv6_address_are_scanned(demo, capsys):
    def main():
        try:
            listener = yield Listen(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        with listener:
            yield from demo.main(options_of([listener.address[1]], target="::1"))

    run(main())
    assert "1 open" in capsys.readouterr().out


def test_the_ports_of_an_argument(demo):
    assert demo.port_list("22,80,8000-8002,80") == [22, 80, 8000, 8001, 8002]
    for wrong in ("", "0", "65536", "5-1", "1-", "-1", "1,,2", "http"):
        with pytest.raises(argparse.ArgumentTypeError):
            demo.port_list(wrong)


# The program.


@pytest.mark.slow
def test_the_program_finds_a_listener_of_this_machine():
    with socket.create_server((LOCAL, 0)) as listener, socket.socket() as bound:
        bound.bind((LOCAL, 0))  # no program listens there, and no other one can
        port = listener.getsockname()[1]
        result = finished(DEMO, f"{port},{bound.getsockname()[1]}", "localhost")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(rf"^ *{port}  open", result.stdout, re.MULTILINE)
    assert "1 open, 1 closed, 0 silent" in result.stdout


@pytest.mark.slow
def test_the_program_ends_with_one_line_for_a_host_that_it_can_not_scan():
    assert_one_line(finished(DEMO, "1-10", "192.0.2.1"), "port_scan: 192.0.2.1 is another machine")
    assert_one_line(finished(DEMO, "1-10", "nobody..invalid"), "port_scan: ", "'nobody..invalid'")


@pytest.mark.slow
def test_the_program_explains_its_options():
    result = finished(DEMO, "--help")
    assert result.returncode == 0 and "--at-once" in result.stdout
    result = finished(DEMO, "5-1")
    assert result.returncode == 2 and "not '5-1'" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux drops connections to a listener whose backlog is full")
def test_the_program_reports_after_ctrl_c():
    with socket.socket() as listener, ExitStack() as clients:
        listener.bind((LOCAL, 0))
        listener.listen(0)
        for _ in range(4):  # more than the backlog takes: the port is silent from then on
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        with started(DEMO, listener.getsockname()[1], "--timeout", "inf") as program:
            program.expect("scanning 1 port of")
            assert program.interrupt() == 130
            assert re.search(r"0 ports of 1 in .*: 0 open, 0 closed, 0 silent", program.said)
            assert program.errors() == ""
