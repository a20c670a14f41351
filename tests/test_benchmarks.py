"""The benchmark suite works: on little work and one round, since nothing here is about speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import costs, echo, processes, results, show, work
from benchmarks.catalogue import LIMIT, OURS, PEERS, Series, installed
from benchmarks.processes import Failed, Process, python

ROOT = Path(__file__).parents[1]
ALL = bool(os.environ.get("MINISCHED_PEERS"))  # in a step of CI: each peer has to be there, where it works at all
BROKEN = {"curio"} if sys.version_info >= (3, 12) else set()
WORKS = [one for one in work.BENCHMARKS if isinstance(one, work.Work)]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what a process uses is asked of /proc")


def there(peer):
    """Return whether a peer can be measured; where all have to be there, fail if it is not."""
    if peer in BROKEN:
        return False
    assert installed(peer) or not ALL, f"{peer} is not installed"
    return installed(peer)


def measured(benchmark, peers, rounds=1):
    return list(benchmark.measure([peer for peer in peers if there(peer)], rounds))


@pytest.mark.parametrize("benchmark", WORKS, ids=[one.name for one in WORKS])
def test_the_same_work_is_done_for_each_peer(benchmark):
    small = replace(benchmark, size=max(benchmark.size // 100, 100), anew=False)
    (values,) = measured(small, benchmark.peers)
    (found,) = values.values()
    assert {OURS, "asyncio"} <= set(found) <= set(benchmark.peers)
    assert all(value >= 0 for value in found.values())


def test_processes_are_made_anew_where_that_is_asked_for_and_now_and_then_where_not(monkeypatch):
    made = []
    monkeypatch.setattr(work, "worker", lambda peer: made.append(peer) or python(peer, "-m", work.WORKER, "bare"))
    benchmark = replace(WORKS[0], size=100)
    assert len(measured(benchmark, [LIMIT], work.SAME + 1)) == work.SAME + 1
    assert made == [LIMIT] * 2
    made.clear()
    measured(replace(benchmark, anew=True), [LIMIT], 3)
    assert made == [LIMIT] * 3


def test_no_process_is_left_when_one_breaks_off(monkeypatch):
    made = []

    def worker(peer):
        broken = "raise SystemExit('no')" if peer == "trio" else "while True: print(input() and 1, flush=True)"
        made.append(python(peer, "-c", broken))
        return made[-1]

    monkeypatch.setattr(work, "worker", worker)
    for anew in (True, False):
        with pytest.raises(Failed, match="trio: no"):
            list(replace(WORKS[0], size=100, anew=anew).measure([OURS, "trio", "asyncio"], 1))
    assert all(process.process.poll() is not None for process in made) and len(made) == 6


def test_a_scale_has_a_series_for_each_number_of_tasks():
    for one in work.BENCHMARKS:
        if isinstance(one, work.Scale):
            few = replace(one, sizes=one.sizes[:2], series=one.series[:2])
            (values,) = measured(few, [OURS])
            assert list(values) == [f"{one.name}@10", f"{one.name}@100"]


def test_imports_are_timed_in_fresh_interpreters():
    (one,) = [one for one in work.BENCHMARKS if one.name == "import"]
    (values,) = measured(one, [OURS, "asyncio"])
    assert set(values["import"]) == {OURS, "asyncio"}


@on_linux
@pytest.mark.parametrize("compiler", [True, False], ids=["in C", "in Python"])
def test_an_echo_server_of_each_peer_is_put_under_load(compiler, monkeypatch):
    if compiler and not echo.has_compiler():
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(echo, "has_compiler", lambda: compiler)
    monkeypatch.setattr(echo, "SECONDS", 0.05)
    monkeypatch.setattr(echo, "TRACED", 0.05)
    peers = [peer for peer in echo.SERVERS if compiler or peer != "C epoll"]
    (values,) = measured(replace(echo.echo(3, 65536), rounds=1), peers)
    assert set(values["echo_3x64KB time"]) == {peer for peer in peers if there(peer)}
    if echo.can_trace():
        assert values["echo_3x64KB calls"][OURS] > 2


@on_linux
def test_idle_connections_are_counted(monkeypatch):
    monkeypatch.setattr(echo, "IDLE", 50)
    monkeypatch.setattr(echo, "SECONDS", 0.05)
    (idle,) = [one for one in echo.BENCHMARKS if one.name == "idle"]
    (values,) = measured(idle, [OURS])
    assert set(values) == {series.name for series in idle.series}


# The processes


def test_a_process_that_breaks_off_says_its_last_words():
    with python("it", "-c", "import sys; sys.stderr.write('no\\nnot today\\n')") as process:
        with pytest.raises(Failed, match=r"^it: not today$"):
            process.ask("anything")
    with Process("it", "true") as process, pytest.raises(Failed, match="without a word"):
        process.line()


@on_linux
def test_a_process_ends_with_the_one_that_started_it():
    program = """if True:
        import os
        from benchmarks.processes import Process
        print(Process("it", "sleep", "600").pid, flush=True)
        os.kill(os.getpid(), 9)"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == -9
    while is_running(int(done.stdout)):
        pass


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# What is counted


def test_a_sleep_of_no_time_asks_for_memory_once_and_for_no_system_call():
    if not echo.has_compiler():
        pytest.skip("needs a C compiler")
    assert round(costs.allocations(OURS, "syscall")) == 1
    assert round(costs.allocations("asyncio", "spawn")) > round(costs.allocations(OURS, "spawn")) > 1
    if echo.can_trace():
        assert costs.system_calls(OURS, "syscall") < 0.01  # files are looked at by time, too
        assert costs.system_calls("asyncio", "spawn") > 1


def test_the_architecture_says_what_an_operation_costs():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    _, _, table = text.partition("`python -m tests.benchmarks.costs`")
    said = {name: what for name, what in costs.OPERATIONS.items() if f"| {what} |" in table}
    assert said == costs.OPERATIONS


# The results


def some_results():
    found = results.Results()
    series = (Series("switch", "the first"), Series("memory", "the second", "bytes"))
    for ours, theirs in [(1.0, 3.0), (2.0, 4.0), (1.0, 2.5)]:
        found.add(series, {"switch": {OURS: ours, "asyncio": theirs}, "memory": {"asyncio": 5.0, OURS: 10.0}})
    return found


def test_the_result_is_the_median_of_the_ratios_in_each_round():
    found = some_results()
    assert found.ratio("switch", "asyncio") == 2.5
    assert found.ratios() == {"switch": {"asyncio": 2.5}, "memory": {"asyncio": 0.5}}
    assert (found.value("switch", OURS), found.value("switch", "trio")) == (1.0, None)
    assert found.ratio("switch", "trio") is None


def test_results_are_what_they_were_when_they_are_read_again(tmp_path):
    found, file = some_results(), tmp_path / "results.json"
    found.save(file)
    again = results.read(file)
    assert (again.series, again.values, again.ratios()) == (found.series, found.values, found.ratios())


def test_what_is_below_the_floor_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FLOOR", tmp_path / "floor.json")
    found = some_results()
    results.write_floor(found)
    assert results.below_the_floor(found) == []
    found.values["switch"][OURS] = [2.0, 4.0, 2.0]
    (said,) = results.below_the_floor(found)
    assert said == "switch: asyncio takes 1.25 times as long as minisched; 2.20 is the floor"


def test_nothing_is_no_floor(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FLOOR", tmp_path / "floor.json")
    found = some_results()
    found.values["memory"]["asyncio"] = [0.0, 0.0, 0.0]
    results.write_floor(found)
    assert json.loads(results.FLOOR.read_text())[results.VERSION] == {"switch": {"asyncio": 2.2}, "memory": {}}


def test_a_version_without_a_floor_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FLOOR", tmp_path / "floor.json")
    results.FLOOR.write_text('{"2.7": {}}')
    assert "says nothing of Python" in results.below_the_floor(some_results())[0]


def test_the_floor_that_is_committed_is_of_what_can_be_measured():
    names = {series.name for one in command.BENCHMARKS.values() for series in one.series}
    for version, floor in json.loads(results.FLOOR.read_text()).items():
        assert version in ("3.11", "3.12", "3.13")
        assert set(floor) <= names
        for by_peer in floor.values():
            assert set(by_peer) <= set(PEERS)
            assert all(ratio > 0 for ratio in by_peer.values())


def test_a_table_shows_each_series_beside_each_peer(capsys):
    for table in show.tables(some_results()):
        show.console().print(table)
    said = capsys.readouterr().out
    assert "switch: the first" in said and "2.50" in said and "10 bytes" in said


def test_another_table_shows_each_series_beside_its_limit(capsys):
    found = some_results()
    found.add((Series("depth_1", "the third"),), {"depth_1": {OURS: 3.0, LIMIT: 2.0, "trio": 14.0}})
    assert (found.ratio("depth_1", OURS, LIMIT), found.ratio("depth_1", "trio", LIMIT)) == (1.5, 7.0)
    for table in show.tables(found):
        show.console().print(table)
    said = capsys.readouterr().out
    assert said.count("depth_1: the third") == 2 and said.count("switch: the first") == 1
    assert f"as much, as {LIMIT}" in " ".join(said.split()) and "7.00" in said


def test_a_picture_is_drawn_of_all_there_is(tmp_path):
    if not ALL:
        pytest.importorskip("matplotlib", reason="needs matplotlib: pip install minisched[bench]")
    from benchmarks import plot

    found = some_results()
    found.add((Series("echo_1x1KB time", "t"),), {"echo_1x1KB time": {OURS: 1.0, "C epoll": 0.5}})
    for size in (10, 100):
        found.add((Series(f"scale_switch@{size}", "s"),), {f"scale_switch@{size}": {OURS: 1e-6, "asyncio": 2e-6}})
    plot.draw(found, tmp_path / "one.svg")
    plot.draw(found, tmp_path / "two.svg")
    plot.draw(found, tmp_path / "one.png")
    assert (tmp_path / "one.svg").read_text() == (tmp_path / "two.svg").read_text()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


# The command


def run(*arguments):
    process = [sys.executable, "-m", "tests.benchmarks", *map(str, arguments)]
    return subprocess.run(process, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_command_measures_shows_saves_and_reads(tmp_path):
    file = tmp_path / "results.json"
    done = run("switch", "depth_1", "--rounds", 1, "--peers", "asyncio,bare loop", "--json", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "switch" in done.stdout and "depth_1" in done.stdout
    again = run("--read", file)
    assert (again.returncode, again.stdout) == (0, done.stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["what"], "there is no benchmark 'what'"), (["--peers", "twisted"], "there is no peer 'twisted'")],
)
def test_what_there_is_not_is_refused(arguments, said):
    done = run(*arguments)
    assert done.returncode == 2 and said in done.stderr


def test_all_there_is_can_be_listed():
    done = run("--list")
    assert done.returncode == 0
    assert {"switch", "echo_100x1KB", "idle", "scale_cancel"} <= {line.split()[0] for line in done.stdout.splitlines()}


def test_a_peer_that_is_not_installed_or_breaks_off_is_left_out_by_name(monkeypatch):
    def broken(peers, rounds):
        if "trio" in peers:
            raise Failed("trio: it does not work today")
        yield {"switch": dict.fromkeys(peers, 1.0)}

    class Broken:
        name, rounds, peers, series = "switch", 1, (OURS, "trio", "asyncio"), (Series("switch", "the first"),)
        measure = staticmethod(broken)

    found = results.Results()
    found.missing["tinyio"] = "it is not installed"
    while not command.attempted(Broken, list(PEERS), 1, found, lambda: None):
        pass
    assert found.missing == {"tinyio": "it is not installed", "trio": "it does not work today"}
    assert set(found.values["switch"]) == {OURS, "asyncio"}


def test_a_peer_that_takes_for_ever_is_left_out_of_one_benchmark(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.01)
    sleepy = replace(WORKS[0], size=100)

    def measure(peers, rounds):
        if "trio" in peers:
            with python("trio", "-c", "import time; time.sleep(60)") as process:
                process.ask("anything")
        yield {"switch": dict.fromkeys(peers, 1.0)}

    object.__setattr__(sleepy, "measure", measure)
    found = results.Results()
    while not command.attempted(sleepy, [OURS, "trio"], 1, found, lambda: None):
        pass
    assert found.left_out() == ["switch without trio: it takes more than 0.01 s"] and not found.missing
    assert set(found.values["switch"]) == {OURS}


def test_if_minisched_breaks_off_that_is_an_error():
    class Broken:
        name, rounds, peers, series = "switch", 1, (OURS,), ()

        @staticmethod
        def measure(peers, rounds):
            raise Failed(f"{OURS}: it does not work today")
            yield

    with pytest.raises(Failed):
        command.attempted(Broken, [OURS], 1, results.Results(), lambda: None)
