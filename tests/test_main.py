"""The command line, run as a program."""

from __future__ import annotations

import os
import re
import socket

import pytest
from programs import assert_one_line, finished, started

from minisched import __version__

pytestmark = pytest.mark.slow  # each test runs a program

PROGRAM = """
from minisched import Sleep

def main():
    print("main")
    yield Sleep(0)
    return "a result"

def greet(name, mark="!"):
    yield
    print(repr(name + mark))

async def native(name):
    await Sleep(0)
    print("native", name)

def ordinary():
    raise AssertionError("must not be called")

if __name__ == "__main__":
    raise AssertionError("must not fire")
"""


@pytest.fixture
def program(tmp_path):
    """Return a function that writes a program and returns its path."""

    def write(text=PROGRAM, name="program.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def run(*arguments):
    return finished("-m", "minisched", *arguments)


def output_of(result):
    """Assert that a program has succeeded; return its output."""
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


# Running a file


def test_main_is_the_default_function_and_its_result_is_not_printed(program):
    assert output_of(run("run", program())) == "main\n"
    assert output_of(run("run", f"{program()}:")) == "main\n"


def test_a_file_that_was_changed_in_the_same_second_runs_as_it_is_now(program):
    for text in ("one", "two"):
        path = program(f"def main():\n    print({text!r})\n    yield\n")
        os.utime(path, (1e9, 1e9))
        assert output_of(run("run", path)) == f"{text}\n"
    assert os.listdir(path.parent) == [path.name]  # as Python does with a script


def test_a_named_function_receives_its_arguments_as_strings(program):
    assert output_of(run("run", f"{program()}:greet", "1")) == "'1!'\n"
    assert output_of(run("run", f"{program()}:greet", "Ada", "?")) == "'Ada?'\n"


def test_a_coroutine_function_is_run(program):
    assert output_of(run("run", f"{program()}:native", "Ada")) == "native Ada\n"


def test_a_file_can_import_its_neighbours_and_find_its_own_module(program):
    program("NAME = 'neighbour'", "neighbour.py")
    path = program(
        "from __future__ import annotations\nimport dataclasses, sys\nfrom neighbour import NAME\n"
        "@dataclasses.dataclass\nclass Point:\n    x: int\n"
        "def main():\n    yield\n    print(NAME, Point(1), __name__, sys.modules[__name__].main is main)\n"
    )
    assert output_of(run("run", path)) == "neighbour Point(x=1) program True\n"


def test_a_file_named_like_a_loaded_module_does_not_hide_it(program):
    path = program("def main():\n    import signal\n    yield\n    print(signal.SIGINT)\n", "signal.py")
    assert output_of(run("run", path)) == "2\n"


def test_a_file_name_may_contain_a_colon_and_lack_a_suffix(program):
    assert output_of(run("run", program(name="odd:name"))) == "main\n"


def test_options_after_the_file_are_arguments_of_the_function(program):
    assert output_of(run("run", f"{program()}:greet", "--trace")) == "'--trace!'\n"


def test_trace_prints_an_aligned_line_for_each_event_to_standard_error(program):
    result = run("run", "--trace", program())
    assert (result.returncode, result.stdout) == (0, "main\n")
    lines = result.stderr.splitlines()
    events = [re.match(r" *(\d+)  (.*?)  +((spawned|<-|->|ended).*)$", line) for line in lines]
    assert all(events), result.stderr
    assert len({event.start(3) for event in events}) == 1
    assert [event[3] for event in events[1:]] == [
        "<- None", "-> Sleep(0)", "<- None", "ended: returned 'a result'",
    ]  # fmt: skip


def test_a_syscall_that_is_never_run_causes_a_warning(program):
    result = run("run", program("from minisched import Sleep\ndef main():\n    Sleep(1)\n    yield\n"))
    assert result.returncode == 1
    assert "program.py:3 was never run" in result.stderr


# Mistakes


def test_a_missing_file_is_reported_in_one_line(tmp_path):
    assert_one_line(run("run", tmp_path / "nothing.py"), "no such file", "nothing.py")
    assert_one_line(run("run", tmp_path), "no such file")


def test_a_missing_function_is_reported_in_one_line_with_the_existing_ones(program):
    assert_one_line(run("run", f"{program()}:mian"), "no function 'mian'", "main, greet, native")


def test_an_ordinary_function_is_refused_in_one_line_and_not_called(program):
    assert_one_line(run("run", f"{program()}:ordinary"), "neither a generator function", "main, greet, native")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [([], "missing a required argument: 'name'"), (["a", "b", "c"], "too many positional arguments")],
)
def test_a_wrong_number_of_arguments_is_reported_in_one_line(program, arguments, why):
    result = run("run", f"{program()}:greet", *arguments)
    assert_one_line(result, "greet(name, mark='!')", f"given {len(arguments)} arguments", why)


def test_the_message_for_an_option_after_the_file_says_where_options_belong(program):
    assert_one_line(run("run", program(), "--trace"), "options come before FILE")


@pytest.mark.parametrize("arguments", [[], ["run"], ["walk"], ["echo", "--port", "many"]])
def test_an_unknown_command_is_refused_with_the_usage(arguments):
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: minisched")


def test_an_exception_of_the_program_prints_its_traceback_and_exits_with_1(program):
    result = run("run", program("def main():\n    yield\n    1 / 0\n"))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Traceback")
    assert "program.py" in result.stderr
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_the_exit_status_of_the_program_is_kept(program):
    assert run("run", program("def main():\n    yield\n    raise SystemExit(3)\n")).returncode == 3


def test_the_version_is_printed():
    assert output_of(run("--version")) == f"minisched {__version__}\n"


# Ctrl-C

WAITS = """
from minisched import Sleep, Spawn

def child():
    try:
        yield Sleep(1000)
    finally:
        print("child cleaned up")

def main():
    yield Spawn(child())
    try:
        print("ready")
        yield Sleep(1000)
    finally:
        {cleanup}
"""


def test_ctrl_c_runs_the_cleanup_and_exits_silently_with_130(program):
    with started("-m", "minisched", "run", program(WAITS.format(cleanup="print('main cleaned up')"))) as running:
        running.expect("ready\n")
        assert running.interrupt() == 130
        assert sorted(running.said.splitlines()) == ["child cleaned up", "main cleaned up", "ready"]
        assert running.errors() == ""


def test_ctrl_c_does_not_hide_a_failure_of_the_cleanup(program):
    with started("-m", "minisched", "run", program(WAITS.format(cleanup="1 / 0"))) as running:
        running.expect("ready\n")
        assert running.interrupt() == 130
        assert "ZeroDivisionError" in running.errors()


# The echo server


def test_echo_prints_its_address_and_sends_data_back():
    with started("-m", "minisched", "echo", "--port", "0") as server:
        port = int(server.expect(r"^listening on 127\.0\.0\.1:(\d+); try: nc 127\.0\.0\.1 \1 \(Ctrl-C stops\)\n$")[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
            assert server.interrupt() == 130
            assert conn.recv(100) == b""
        stopping, cancelled = server.errors().splitlines()  # the report, and nothing else
        assert stopping == "the server stops; 1 connection may take 3 s to finish (a second signal stops at once)"
        assert cancelled.startswith(
            "the server has stopped; after 3 s of grace it cancelled 1 connection: echo-1 of 127.0.0.1:"
        )


def test_echo_removes_its_unix_path_at_the_end(tmp_path):
    path = tmp_path / "echo"
    with started("-m", "minisched", "echo", "--unix", path) as server:
        server.expect(f"^listening on {path}; try: nc -U {path}")
        with socket.socket(socket.AF_UNIX) as conn:
            conn.settimeout(20)
            conn.connect(str(path))
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
        assert server.interrupt() == 130
        assert server.errors() == ""
    assert not path.exists()


def test_echo_reports_a_port_in_use_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_one_line(run("echo", "--port", port), f"127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_echo_reports_a_port_out_of_range_in_one_line(port):
    assert_one_line(run("echo", "--port", port), f"port {port} is out of range")


def test_echo_refuses_an_existing_path_in_one_line_and_does_not_change_it(tmp_path):
    path = tmp_path / "mine"
    path.write_text("kept")
    assert_one_line(run("echo", "--unix", path), f"{path}: Address already in use")
    assert path.read_text() == "kept"
