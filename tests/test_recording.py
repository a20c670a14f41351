"""The commands `record`, `replay` and `explore`, run as programs."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time

import pytest
from programs import ROOT, finished, started

DEMOS = ROOT / "demos"

pytestmark = pytest.mark.slow  # each test runs a program

PROGRAM = """
import os
import random

from minisched import Connect, InThread, Listen, Read, Sleep, Spawn, Cancel, Write, serve_listeners

def echo(conn):
    while data := (yield Read(conn, 100)):
        yield Write(conn, data)

def main(*names):
    with (yield Listen(("127.0.0.1", 0))) as listener:
        server = yield Spawn(serve_listeners(echo, listener))
        for name in {"Ada", "Grace", "Alan", "Edsger", *names}:
            with (yield Connect(listener.address)) as sock:
                yield Write(sock, name.encode())
                print((yield Read(sock, 100)), random.random(), (yield InThread(os.getpid)))
        yield Sleep(0.5)  # the handlers end
        yield Cancel(server)

def fails():
    yield Sleep(0.001)
    raise ValueError("as recorded")

def endless():
    while True:
        yield Sleep(0.001)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def run(folder, *arguments):
    return finished("-m", "minisched", *arguments, cwd=folder)


def record_endless(folder):
    return "-m", "minisched", "record", "-o", str(folder / "run.jsonl"), f"{folder}/program.py:endless"


def until_size(file, size):
    """Wait until a file has this size."""
    while not file.exists() or file.stat().st_size < size:
        time.sleep(0.01)


def test_a_replay_prints_what_the_recorded_run_has_printed(folder):
    recorded = run(folder, "record", "program.py", "Barbara")
    assert (recorded.returncode, recorded.stderr) == (0, "") and len(recorded.stdout.splitlines()) == 5
    for _ in range(2):
        again = run(folder, "replay", "run.jsonl")
        assert (again.returncode, again.stdout, again.stderr) == (0, recorded.stdout, "")
    traced = run(folder, "replay", "--trace", "run.jsonl")
    assert traced.stdout == recorded.stdout and "spawned 0 main" in traced.stderr


def test_the_header_says_how_to_run_the_program_again(folder):
    assert run(folder, "record", "-o", "other.jsonl", "program.py:fails").returncode == 1
    with open(folder / "other.jsonl") as file:
        header = json.loads(file.readline())
    version = sys.version.partition(" ")[0]
    assert (header["target"], header["args"], header["python"]) == ("program.py:fails", [], version)
    again = run(folder, "replay", "other.jsonl")
    assert again.returncode == 1 and again.stderr.endswith("ValueError: as recorded\n")


def test_a_changed_program_is_named_and_so_is_the_first_question_that_differs(folder):
    assert run(folder, "record", "program.py").returncode == 0
    (folder / "program.py").write_text(PROGRAM.replace("name.encode()", "name.lower().encode()"))
    again = run(folder, "replay", "run.jsonl")
    changed, diverged = again.stderr.splitlines()
    assert again.returncode == 1 and changed == "minisched: program.py has changed since the recording"
    assert diverged.startswith("minisched: diverged at line ") and "recorded 'write' of" in diverged
    assert diverged.endswith("by task 0 main at program.py:16 in main")


def test_a_program_that_is_killed_replays_up_to_there(folder):
    with started(*record_endless(folder)) as program:
        until_size(folder / "run.jsonl", 20_000)
        program.process.kill()
    again = run(folder, "replay", "run.jsonl")
    assert again.returncode == 0 and "the recorder was stopped there" in again.stderr


def test_ctrl_c_ends_the_recording_and_its_replay(folder):
    with started(*record_endless(folder)) as program:
        until_size(folder / "run.jsonl", 5_000)
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(60) == 130
    again = run(folder, "replay", "run.jsonl")
    assert (again.returncode, again.stdout, again.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["replay", "none.jsonl"], "none.jsonl: No such file or directory"),
        (["replay", "program.py"], "program.py is not a recording: its first line is not JSON"),
        (["replay", "plain.jsonl"], "plain.jsonl does not name its program: replay it by minisched.lab.replay"),
        (["record", "-o", "none/run.jsonl", "program.py"], "none/run.jsonl: No such file or directory"),
        (["record", "none.py"], "no such file: none.py"),
    ],
)
def test_a_mistake_is_one_line(arguments, text, folder):
    from minisched import Sleep
    from minisched.lab import record

    def main():
        yield Sleep(0)

    record(main(), folder / "plain.jsonl")
    done = run(folder, *arguments)
    assert done.returncode == 1 and done.stderr.startswith(f"minisched: {text}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("header", [{"target": 5}, {"args": "abc"}, {"args": [5]}, {"random_seed": "x"}])
def test_a_header_of_another_kind_is_one_line(header, folder):
    from minisched.lab import record

    def main():
        yield

    whole = {"target": "program.py", "args": [], "random_seed": 1, "hash_seed": "no number"}
    record(main(), folder / "crafted.jsonl", **(whole | header))
    done = run(folder, "replay", "crafted.jsonl")
    assert done.returncode == 1 and done.stderr.startswith("minisched: crafted.jsonl does not name its program")


def test_the_seed_of_hashes_may_be_given(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "7")
        assert run(folder, "record", "program.py").returncode == 0
    header = json.loads((folder / "run.jsonl").read_text().partition("\n")[0])
    assert header["hash_seed"] == "7"
    assert run(folder, "replay", "run.jsonl").returncode == 0


BUG = """
from minisched import Lock, gather

def main():
    first, second = Lock("first"), Lock("second")
    def both(one, other, late):
        for _ in range(late):
            yield
        with (yield one.acquire()):
            yield
            with (yield other.acquire()):
                print("of each run")
    yield from gather(both(first, second, 0), both(second, first, 4))

number = 5
"""


def test_explore_shows_the_run_that_fails_and_its_schedule_fails_again(folder):
    (folder / "bug.py").write_text(BUG)
    found = run(folder, "explore", "bug.py")
    assert found.returncode == 1 and found.stderr == "" and "\nschedule: rr " in found.stdout
    assert "def test_main_in_the_schedule_that_failed():" in found.stdout and "of each run" not in found.stdout
    (schedule,) = [line for line in found.stdout.splitlines() if line.startswith("schedule: ")]
    again = run(folder, "explore", "--schedule", schedule.removeprefix("schedule: "), "bug.py:main")
    assert again.returncode == 1 and "run 1 fails" in again.stdout
    (folder / "bug.py").write_text(BUG.replace("both(second, first, 4)", "both(first, second, 4)"))
    fixed = run(folder, "explore", "--runs", "50", "--seed", "3", "bug.py")
    assert (
        fixed.returncode == 0 and "no run of 50 has failed (portfolio of random, PCT and POS, seed 3)" in fixed.stdout
    )


ALL_ORDERS = """
from minisched import Lock
from minisched.lab import Shared, together

def main():
    lock, shared = Lock(), Shared(value=0)
    def add():
        with (yield lock.acquire()):
            before = shared.value
            yield
            shared.value = before + 1
    def run():
        yield from together(add(), add())
        assert shared.value == 2
    return run()
"""


def test_explore_runs_all_orders_and_goes_on_at_a_checkpoint(folder):
    (folder / "right.py").write_text(ALL_ORDERS)
    (folder / "wrong.py").write_text(ALL_ORDERS.replace("        with (yield lock.acquire()):", "        if True:"))
    done = run(folder, "explore", "--exhaustive", "right.py")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("no schedule fails: all ")
    part = run(folder, "explore", "--exhaustive", "--runs", "2", "--checkpoint", "state", "right.py")
    assert (part.returncode, part.stderr) == (0, "") and part.stdout.startswith("no run of 2 has failed (exhaustive)")
    whole = run(folder, "explore", "--exhaustive", "--checkpoint", "state", "right.py")
    assert whole.stdout == done.stdout and not (folder / "state").exists()
    found = run(folder, "explore", "--exhaustive", "wrong.py")
    assert found.returncode == 1 and "(exhaustive): AssertionError" in found.stdout
    assert "\nShared 1.value: task 0.0 at wrong.py:11 comes before task 0.1 at wrong.py:11\n" in found.stdout
    acts = run(folder, "explore", "--exhaustive", "--cancellations", "--deadlines", "right.py")
    assert acts.returncode == 1 and "!cancel-0." in acts.stdout
    assert "(exhaustive, with a cancellation and any order of equal deadlines): AssertionError" in acts.stdout
    compared = run(folder, "explore", "--check-reduction", "wrong.py")
    assert (compared.returncode, compared.stderr) == (0, "") and compared.stdout.endswith("the traces agree\n")
    endless = run(folder, "explore", "--check-reduction", "--runs", "2", "wrong.py")
    assert endless.returncode == 1 and endless.stdout.endswith("not compared: a search did not end\n")


@pytest.mark.slow
def test_a_mistake_in_the_chat_is_found_on_a_simulated_network_and_fails_again(folder):
    right = run(folder, "explore", "--runs", "100", str(DEMOS / "explore_chat.py"))
    assert (right.returncode, right.stderr) == (0, "") and right.stdout.startswith("no run of 100 has failed")
    for name in ("explore_chat", "chat", "chat_names", "console", "echo_server", "self_signed"):
        shutil.copy(DEMOS / f"{name}.py", folder)
    chat = (folder / "chat.py").read_text()
    line = "                self.people[name] = person\n"
    assert chat.count(line) == 1
    (folder / "chat.py").write_text(chat.replace(line, f"                yield\n{line}"))
    found = run(folder, "explore", "explore_chat.py")
    assert (found.returncode, found.stderr) == (1, "") and "AssertionError: 2 people are called ada\n" in found.stdout
    (schedule,) = [text for text in found.stdout.splitlines() if text.startswith("schedule: ")]
    again = run(folder, "explore", "--schedule", schedule.removeprefix("schedule: "), "explore_chat.py")
    assert again.returncode == 1 and "run 1 fails" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--checkpoint", "state", "bug.py"], "--checkpoint needs --exhaustive"),
        (
            ["--exhaustive", "--checkpoint", "bug.py", "bug.py"],
            "bug.py is not a checkpoint of an exploration: Expecting value: line 2 column 1 (char 1)",
        ),
        (["--exhaustive", "--checkpoint", "no/state", "--runs", "1", "bug.py"], "no/state: No such file or directory"),
        (["none.py"], "no such file: none.py"),
        (["bug.py:number"], "bug.py has no function 'number'"),
        (["bug.py:nothing"], "bug.py has no function 'nothing'"),
        (["--schedule", "12:0", "bug.py"], "a schedule begins with rr, and this is '12:0'"),
    ],
)
def test_a_mistake_in_a_call_of_explore_is_one_line(arguments, text, folder):
    (folder / "bug.py").write_text(BUG)
    done = run(folder, "explore", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"minisched: {text}\n")
