"""The benchmarks work, and README.md of the benchmarks has the numbers that they count.

The sizes are small and there is one round, since these tests are not about speed. Tests that start processes are slow.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import costs, echo, instructions, processes, results, show, tables, tls, work
from benchmarks.catalogue import BARE_LOOP, MINISCHED, PEERS, Series, installed
from benchmarks.processes import Process, ProcessFailed, ProcessTimeout, python

import minisched
from minisched import Cancel, Join, Read, Sleep, Socket, Spawn, TaskCancelled, Write, gather

ROOT = Path(__file__).parents[1]
PACKAGE = str(Path(minisched.__file__).parent)
README = (ROOT / "tests/benchmarks/README.md").read_text(encoding="utf-8")
ALL_PEERS = bool(os.environ.get("MINISCHED_PEERS"))  # set in CI: every peer must be installed
BROKEN = {"curio"} if sys.version_info >= (3, 12) else set()
WORKS = [one for one in work.BENCHMARKS if isinstance(one, work.Work)]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="CPU time and memory are read from /proc")


def is_present(peer):
    """Return whether a peer can be measured; in CI, fail if it is not installed."""
    if peer in BROKEN:
        return False
    assert installed(peer) or not ALL_PEERS, f"{peer} is not installed"
    return installed(peer)


def measured(benchmark, peers, rounds=1):
    return list(benchmark.measure([peer for peer in peers if is_present(peer)], rounds))


def readme_table(name):
    """Return the rows of a table of README.md without its two header lines, as lists of cells."""
    table = README.partition(f"<!-- table {name} -->\n")[2].partition("<!-- end")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]


# Operations inside one process.


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", WORKS, ids=[one.name for one in WORKS])
def test_every_peer_does_the_same_number_of_operations(benchmark):
    size = max(benchmark.size // 100, 100)
    counts = {}
    for peer in filter(is_present, benchmark.peers):
        with work.worker(peer) as process:
            answer = process.ask(f"{benchmark.name} {size} 2")
        if answer != "none":
            counts[peer] = int(answer.split()[1])
    assert counts.keys() >= {MINISCHED, "asyncio"}
    assert counts == dict.fromkeys(counts, 2 * size)


@pytest.mark.slow
def test_a_round_in_which_the_peers_did_different_work_is_an_error(monkeypatch):
    monkeypatch.setattr(
        work, "worker", lambda peer: python(peer, "-c", f"input(); print(1.0, {len(peer)}, flush=True)")
    )
    with pytest.raises(work.DifferentWork, match=r"switch: .*'minisched': 9, 'asyncio': 7"):
        measured(replace(WORKS[0], fresh=True), [MINISCHED, "asyncio"])
    (values,) = measured(replace(WORKS[0], fresh=True), [MINISCHED, "bare loop"])
    assert values == {"switch": {MINISCHED: 1.0, "bare loop": 1.0}}


@pytest.mark.slow
def test_a_scale_has_a_series_for_each_number_of_tasks():
    (scale,) = [one for one in work.BENCHMARKS if one.name == "scale_switch"]
    (values,) = measured(replace(scale, sizes=(10, 100), series=scale.series[:2]), [MINISCHED])
    assert list(values) == ["scale_switch@10", "scale_switch@100"]


@pytest.mark.slow
def test_imports_are_timed_in_fresh_interpreters(monkeypatch):
    (benchmark,) = [one for one in work.BENCHMARKS if one.name == "import"]
    (values,) = measured(benchmark, [MINISCHED, "asyncio"])
    assert values["import"].keys() == {MINISCHED, "asyncio"} and 0 < min(values["import"].values()) < 10
    program = "import sys; before = '{0}' in sys.modules; import {0}; print(float(before))"
    monkeypatch.setattr(work, "IMPORT_PROGRAM", program)
    assert measured(benchmark, [MINISCHED, "asyncio"], 2) == [{"import": {MINISCHED: 0.0, "asyncio": 0.0}}] * 2


# Echo servers.


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False], ids=["load in C", "load in Python"])
def test_the_echo_server_of_every_peer_is_measured(compiler, monkeypatch):
    if compiler and not echo.has_compiler():
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(echo, "has_compiler", lambda: compiler)
    monkeypatch.setattr(echo, "LOAD_SECONDS", 0.05)
    monkeypatch.setattr(echo, "TRACED_SECONDS", 0.05)
    peers = [peer for peer in echo.SERVERS if compiler or peer != "C epoll"]
    (values,) = measured(echo.echo(3, 65536), peers)
    assert set(values["echo_3x64KB time"]) == set(filter(is_present, peers))
    assert all(value > 0 for value in values["echo_3x64KB p50"].values())
    if echo.can_trace():
        assert values["echo_3x64KB syscalls"][MINISCHED] > 2


@on_linux
@pytest.mark.slow
def test_the_tls_server_of_every_peer_is_measured(monkeypatch):
    monkeypatch.setattr(echo, "LOAD_SECONDS", 0.05)
    monkeypatch.setattr(echo, "TRACED_SECONDS", 0.05)
    for size in (1024, 65536):  # a record, and several
        (values,) = measured(tls.echo_tls(3, size), tls.SERVERS)
        assert set(values["echo_tls time"]) == set(filter(is_present, tls.SERVERS))


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False], ids=["load in C", "load in Python"])
def test_the_udp_server_of_every_peer_is_measured(compiler, monkeypatch):
    if compiler and not echo.has_compiler():
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(echo, "has_compiler", lambda: compiler)
    monkeypatch.setattr(echo, "LOAD_SECONDS", 0.05)
    monkeypatch.setattr(echo, "TRACED_SECONDS", 0.05)
    (benchmark,) = [one for one in echo.BENCHMARKS if one.name == "echo_udp"]
    (values,) = measured(benchmark, list(echo.UDP_SERVERS))
    assert set(values["echo_udp time"]) == set(filter(is_present, echo.UDP_SERVERS))
    assert all(value > 0 for value in values["echo_udp p50"].values())


@on_linux
@pytest.mark.slow
def test_every_server_answers_in_two_writes(monkeypatch):
    monkeypatch.setattr(echo, "LOAD_SECONDS", 0.2)
    monkeypatch.setattr(echo, "TRACED_SECONDS", 0.05)
    once, twice = (measured(echo.echo(1, 64, echo.HALVES, halves=halves), echo.HALVES)[0] for halves in (False, True))
    assert set(twice["echo_1x64B_halves p50"]) == set(filter(is_present, echo.HALVES))
    if echo.can_trace():  # uvloop sends both halves in one call
        assert twice["echo_1x64B_halves syscalls"][MINISCHED] > once["echo_1x64B syscalls"][MINISCHED] + 0.8


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False], ids=["load in C", "load in Python"])
def test_every_server_echoes_lines(compiler, monkeypatch):
    if compiler and not echo.has_compiler():
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(echo, "has_compiler", lambda: compiler)
    monkeypatch.setattr(echo, "LOAD_SECONDS", 0.1)
    monkeypatch.setattr(echo, "TRACED_SECONDS", 0.05)
    one, many = (measured(echo.echo_lines("echo_lines", lines), echo.LINES)[0] for lines in (1, 16))
    assert set(one["echo_lines time"]) == set(many["echo_lines time"]) == set(filter(is_present, echo.LINES))
    if echo.can_trace():  # each line is a write of its own
        assert many["echo_lines syscalls"][MINISCHED] > one["echo_lines syscalls"][MINISCHED] + 14


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False], ids=["load in C", "load in Python"])
def test_the_load_notices_a_wrong_echo(compiler, monkeypatch):
    if compiler and not echo.has_compiler():
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(echo, "has_compiler", lambda: compiler)
    program = """if True:
        import socket
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        one, two = listener.accept()[0], listener.accept()[0]
        from_one, from_two = one.recv(64), two.recv(64)
        two.sendall(from_one), one.sendall(from_two), one.recv(1)"""
    with python("wrong", "-c", program) as server, echo.load("wrong", int(server.line()), 2, 64) as clients:
        with pytest.raises(ProcessFailed, match="the echo differs from the message"):
            clients.ask("0.1")


@on_linux
@pytest.mark.slow
def test_idle_connections_are_measured(monkeypatch):
    monkeypatch.setattr(echo, "IDLE_CONNECTIONS", 200)
    monkeypatch.setattr(echo, "LOAD_SECONDS", 0.05)
    (idle,) = [one for one in echo.BENCHMARKS if one.name == "idle"]
    (values,) = measured(idle, [MINISCHED])
    assert set(values) == {series.name for series in idle.series}
    assert 500 < values["idle memory"][MINISCHED] < 50_000


# Processes.


@pytest.mark.slow
def test_a_failed_process_is_reported_with_its_last_line_of_error_output(monkeypatch):
    with python("trio", "-c", "import sys; sys.stderr.write('no\\nnot today\\n')") as process:
        with pytest.raises(ProcessFailed, match=r"^trio: not today$"):
            process.ask("anything")
    with Process("trio", "true") as process, pytest.raises(ProcessFailed, match="without an error message"):
        process.line()
    monkeypatch.setattr(processes, "ANSWER_SECONDS", 0.01)
    with Process("trio", "sleep", "60") as process, pytest.raises(ProcessTimeout, match=r"no answer within 0.01 s$"):
        process.line()
    assert process.process.poll() is not None


@on_linux
@pytest.mark.slow
def test_a_process_ends_with_its_parent():
    program = """if True:
        import os
        from benchmarks.processes import Process
        print(Process("it", "sleep", "600").pid, flush=True)
        os.kill(os.getpid(), 9)"""
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "tests", capture_output=True, text=True)
    assert finished.returncode == -9
    while is_running(int(finished.stdout)):
        pass


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Costs that can be counted.


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the table has the numbers of Python 3.11")
@pytest.mark.skipif(not (echo.has_compiler() and echo.can_trace()), reason="needs a C compiler and strace")
def test_the_readme_has_the_counted_costs_of_an_operation():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in list(costs.table())[2:]]
    documented = readme_table("costs")
    assert [row[:2] for row in documented] == [row[:2] for row in rows]
    for row, counted in zip(documented, rows, strict=True):
        assert [float(cell) for cell in row[2:]] == pytest.approx([float(cell) for cell in counted[2:]], abs=0.15), row


def calls_of_the_package(program, times):
    """Return how many calls of Python functions of the package a program makes for one of its `times` operations."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)

    def main():
        prepared = yield from program(times)
        sys.setprofile(count)
        try:
            yield from prepared
        finally:
            sys.setprofile(None)

    minisched.run(main(), debug=False)
    return calls / times


def cancelling_each(times):
    def sleeper():
        yield Sleep(3600)

    def cancels(tasks):
        for task in tasks:
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)

    tasks = []
    for _ in range(times):
        tasks.append((yield Spawn(sleeper())))
    return cancels(tasks)


def asking_and_answering(times):
    def answers(sock):
        with sock:
            while data := (yield Read(sock, 100)):
                yield Write(sock, data)

    def asks(sock):
        with sock:
            for _ in range(times):
                yield Write(sock, b"x")
                assert (yield Read(sock, 100)) == b"x"

    ours, theirs = (Socket(fileno=sock.detach(), peer="pair") for sock in socket.socketpair())
    yield Spawn(answers(theirs))
    return asks(ours)


def failing_together(times):
    def failing():
        raise ValueError
        yield

    def gathers():
        with pytest.raises(ValueError):
            yield from gather(*(failing() for _ in range(times)))

    return gathers()
    yield


@pytest.mark.parametrize(
    ("program", "most"), [(cancelling_each, 30), (asking_and_answering, 65), (failing_together, 41)]
)
def test_an_operation_makes_no_more_calls_than_when_it_was_measured(program, most):
    """load-faults, Load: in these operations, another library was faster; calls of functions are most of their cost."""
    assert most / 2 < calls_of_the_package(program, 200) < most


def test_instructions_are_counted_for_each_peer_that_takes_part(monkeypatch):
    monkeypatch.setattr(instructions, "warmed_up", lambda benchmark, peers: {*peers} - {"trio"})
    monkeypatch.setattr(instructions, "instructions", lambda benchmark, peer: 1000.0 * len(peer))
    (switch,) = [one for one in work.BENCHMARKS if one.name == "switch"]
    assert list(instructions.table([switch, echo.echo(1, 100)], [MINISCHED, "asyncio protocol", "trio"])) == [
        "| benchmark | minisched | asyncio protocol | trio |",
        "|---|---|---|---|",
        "| `switch` | 9,000 | - | - |",
        "| `echo_1x100B` | 9,000 | 16,000 | - |",
    ]


@on_linux
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_instructions_are_those_of_an_operation_without_the_start_and_the_end(monkeypatch):
    (switch,) = [one for one in work.BENCHMARKS if one.name == "switch"]
    assert 500 < instructions.instructions(switch, BARE_LOOP) < 10_000
    monkeypatch.setattr(instructions, "OPERATIONS", 100)
    if echo.has_compiler():
        assert 1_000 < instructions.instructions(echo.echo(1, 100), "bare epoll") < 50_000


# Results.


def some_results():
    found = results.Results()
    series = (Series("switch", "the first"), Series("memory", "the second", "bytes"))
    for ours, theirs in [(1.0, 3.0), (2.0, 4.0), (1.0, 2.5)]:
        found.add(series, {"switch": {MINISCHED: ours, "asyncio": theirs}, "memory": {"asyncio": 5.0, MINISCHED: 10.0}})
    return found


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds():
    found = some_results()
    assert found.ratios() == {"switch": {"asyncio": 2.5}, "memory": {"asyncio": 0.5}}
    assert (found.value("switch", MINISCHED), found.value("switch", "trio")) == (1.0, None)
    assert found.ratio("switch", "trio") is None and found.ratio("spawn", "asyncio") is None


def test_saved_results_are_loaded_unchanged(tmp_path):
    found, file = some_results(), tmp_path / "results.json"
    found.missing["trio"], found.too_slow["switch"] = "not installed", {"curio": "no answer within 15 s"}
    found.save(file)
    assert results.load(file) == found


def test_ratios_below_the_floor_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FLOOR", tmp_path / "floor.json")
    results.FLOOR.write_text('{"2.7": {}}')
    found = some_results()
    assert "has no ratios for Python" in results.below_the_floor(found)[0]
    found.values["memory"]["asyncio"] = [0.0, 0.0, 0.0]  # a ratio of 0 has no floor
    results.write_floor(found)
    assert json.loads(results.FLOOR.read_text())[results.VERSION] == {"switch": {"asyncio": 2.2}, "memory": {}}
    assert results.below_the_floor(found) == []
    found.values["switch"][MINISCHED] = [2.0, 4.0, 2.0]
    assert results.below_the_floor(found) == [
        "switch: asyncio needs 1.25 times as much as minisched; the floor is 2.20"
    ]


def test_the_committed_floor_names_series_and_peers_of_the_benchmarks():
    names = {series.name for one in command.BENCHMARKS.values() for series in one.series}
    for version, floor in json.loads(results.FLOOR.read_text()).items():
        assert version in ("3.11", "3.12", "3.13")
        assert set(floor) <= names
        for by_peer in floor.values():
            assert set(by_peer) <= set(PEERS)
            assert all(ratio > 0 for ratio in by_peer.values())


def test_the_ratios_in_the_readme_are_those_of_the_committed_floor():
    floors = json.loads(results.FLOOR.read_text())
    expected = [
        [label, peer, *(floors[version].get(name, {}).get(peer, 0) / results.FLOOR_RATIO for version in floors)]
        for label, name, peers in tables.RATIOS
        for peer in peers
    ]
    documented = readme_table("ratios")
    assert [row[:2] for row in documented] == [row[:2] for row in expected]
    for row, ratios in zip(documented, expected, strict=True):
        compared = [(float(cell), ratio) for cell, ratio in zip(row[2:-1], ratios[2:], strict=True) if ratio]
        assert all(cell == pytest.approx(ratio, rel=0.08) for cell, ratio in compared), row


def test_the_goals_in_the_readme_are_those_of_the_tables():
    found, floor = results.Results(), json.loads(results.FLOOR.read_text())["3.11"]
    for name in {name for name, _, _ in tables.GOALS} & {*floor}:
        ratios = {peer: ratio / results.FLOOR_RATIO for peer, ratio in floor[name].items()}
        found.add((Series(name, ""),), {name: {MINISCHED: 1.0, **ratios}})
    assert readme_table("goals") == [
        [cell.strip() for cell in line.strip("|").split("|")] for line in list(tables.goals(found))[2:]
    ]


def test_the_tables_of_the_readme_are_printed_from_saved_results(tmp_path, capsys):
    found, file = some_results(), tmp_path / "results.json"
    for count, value in [(100, 2.0), (100_000, 3.0)]:
        found.add((Series(f"scale_sleep@{count}", "s"),), {f"scale_sleep@{count}": {MINISCHED: value}})
    found.save(file)
    tables.main([str(file), str(file)])
    printed = capsys.readouterr().out
    assert "| a bare yield | asyncio | 2.5 | 2.5 | `switch` |\n" in printed
    assert "| memory of a sleeping task | - | asyncio | 2.0 | - | `memory` |\n" in printed
    assert "| a sleep | minisched | 100,000 | 100 | 1.5 | `scale_sleep` |\n" in printed
    assert printed.count("|---") == 5 + 5 + 6 + 6


def test_each_series_is_shown_relative_to_minisched_and_to_its_limit(capsys):
    found = some_results()
    found.add((Series("depth_1", "the third"),), {"depth_1": {MINISCHED: 3.0, BARE_LOOP: 2.0, "trio": 14.0}})
    for table in show.tables(found):
        show.console().print(table)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row] == [
        ["switch: the first", "1,000,000 us", "2.50"],
        ["memory: the second", "10 bytes", "0.50"],
        ["depth_1: the third", "3,000,000 us", "0.67", "4.67"],
        ["depth_1: the third", "2,000,000 us", "1.50", "7.00"],
    ]


@pytest.mark.slow
def test_equal_results_give_equal_pictures(tmp_path):
    if not ALL_PEERS:
        pytest.importorskip("matplotlib", reason="needs matplotlib: pip install -e '.[bench]'")
    from benchmarks import picture

    found = some_results()
    found.add((Series("echo_1x1KB time", "t"),), {"echo_1x1KB time": {MINISCHED: 1.0, "C epoll": 0.5}})
    for size in (10, 100):
        found.add((Series(f"scale_switch@{size}", "s"),), {f"scale_switch@{size}": {MINISCHED: 1e-6, "asyncio": 2e-6}})
    for name in ("one.svg", "two.svg", "one.png"):
        picture.draw(found, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text() and len(drawn.splitlines()) < 300
    assert all(f">{text}</text>" in drawn for text in ("switch", "1 x 1KB", "asyncio: switch"))
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


# The command.


@pytest.mark.slow
def test_the_command_measures_saves_and_loads(tmp_path):
    file = str(tmp_path / "results.json")
    printed = run("switch", "depth_1", "--rounds", "1", "--peers", "asyncio,bare loop", "--save", file)
    assert "switch" in printed and "depth_1" in printed
    assert run("--load", file) == printed


def run(*arguments):
    """Run the command and return its output."""
    process = [sys.executable, "-m", "tests.benchmarks", *arguments]
    finished = subprocess.run(process, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


@pytest.mark.parametrize("arguments", [["twisted"], ["--peers", "twisted"]], ids=["benchmark", "peer"])
def test_unknown_names_are_refused(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert re.search("there is no (benchmark|peer) 'twisted': choose from", capsys.readouterr().err)


def test_the_benchmarks_are_listed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--list"])
    assert command.main() == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [*command.BENCHMARKS] and {"switch", "scale_cancel"} <= {*listed}


@pytest.mark.parametrize("error", [ProcessFailed, ProcessTimeout])
def test_a_failing_peer_is_left_out_and_reported(error, monkeypatch):
    def measure(self, peers, rounds):
        if "trio" in peers:
            raise error("trio: too slow")
        yield {"switch": dict.fromkeys(peers, 1.0)}

    monkeypatch.setattr(work.Work, "measure", measure)
    found = results.Results(missing={"tinyio": "not installed"})
    peers = [MINISCHED, "trio", "asyncio", "tinyio"]
    assert not command.measure_one(WORKS[0], peers, 1, found, lambda: None)
    assert command.measure_one(WORKS[0], peers, 1, found, lambda: None)
    where = " in switch" if error is ProcessTimeout else ""  # a timeout is about one benchmark only
    assert found.left_out() == ["tinyio was not measured: not installed", f"trio was not measured{where}: too slow"]
    assert set(found.values["switch"]) == {MINISCHED, "asyncio"}


def test_a_failure_of_minisched_is_raised(monkeypatch):
    error = ProcessFailed(f"{MINISCHED}: no")
    monkeypatch.setattr(work.Work, "measure", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(ProcessFailed) as raised:
        command.measure_one(WORKS[0], [MINISCHED], 1, results.Results(), lambda: None)
    assert raised.value is error
