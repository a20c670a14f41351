"""Reports on the demos and the command line, as a newcomer sees them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios

import pytest
from programs import ROOT, SECONDS, Program, command, environment, finished, started, without_slow_turns

DEMOS = ROOT / "demos"
SERVER, CLIENT, CHAT = DEMOS / "echo_server.py", DEMOS / "echo_client.py", DEMOS / "chat.py"
HELLO, CHECKS = DEMOS / "hello.py", DEMOS / "lessons" / "checks.py"
MOVES = re.compile(r"\x1b\[[0-9;]*[mK]")  # colours, and the clearing of a line


@pytest.fixture
def demo(monkeypatch):
    """Return a function that imports a demo by its name."""
    monkeypatch.syspath_prepend(DEMOS)

    def load(name):
        module = __import__(name)
        for other in ("console", "echo_server", "chat_names", "chat", "echo_client", name):
            monkeypatch.delitem(sys.modules, other, raising=False)
        return module

    return load


@contextlib.contextmanager
def on_terminal(columns, *arguments, typed=b""):
    """Start Python with all its streams on a terminal of some columns; yield the Program."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    variables = environment()
    del variables["COLUMNS"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command(arguments), cwd=ROOT, env=variables, stdin=slave, stdout=slave, stderr=slave)
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(slave)
    with process:
        try:
            program = Program(process, master)
            program.type = lambda data: os.write(master, data)
            yield program
        finally:
            process.kill()
            os.close(master)


def with_closed(closed, *arguments, interrupt=None):
    """Run Python without some standard streams, 1 or 2; return the status and what the others have received."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command(arguments), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: [os.close(fd) for fd in closed],
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            if interrupt is not None:
                interrupt()
                process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    return process.returncode, output.decode(), without_slow_turns(errors.decode())


def can_connect(port):
    """Wait until a server listens at a port."""
    from time import monotonic, sleep

    end = monotonic() + SECONDS
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert monotonic() < end, "no server"
        sleep(0.02)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def talk(port, data=b"hello"):
    """Send data to the echo server and read it back; wait for the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as conn:
        conn.sendall(data)
        conn.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: conn.recv(100), b""))


# The echo server.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, r"1 connection, \d+ reads/s, \d+ bytes?/s, \d+ tasks? ready to run"),
        (60, r"1 connection, \d+ reads/s, \d+ bytes?/s(, \d+ tasks? ready to run)?"),
        (40, r"1 connection, \d+ reads/s, \d+ bytes?/s"),
    ],
)
def test_the_live_line_fits_the_terminal(columns, line):
    """newcomer A3.15, A3.16: the live line was longer than a terminal, and called reads messages."""
    with on_terminal(columns, SERVER, "--port", "0") as server:
        port = int(server.expect(r"listening on 127\.0\.0\.1:(\d+);")[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            server.expect(rf"\r{line}\x1b\[K")
        assert server.interrupt() == 130
    shown = re.findall(r"\r([^\r\n]*)\x1b\[K", server.said)
    assert shown and max(map(len, shown)) < columns


def test_figures_of_any_size_fit_any_width(demo):
    """newcomer A3.15: under load, the live line had 83 characters and more."""
    console, server = demo("console"), demo("echo_server")
    echo = server.Echo()
    echo.open = 10_000
    kernel = type("Kernel", (), {"ready": range(9_999)})
    for width in range(1, 120):
        line = console.fitted(echo.figures(1_264_434.2, 15.8e9, kernel), width)
        assert len(line) <= width
    assert line == "10,000 connections, 1,264,434 reads/s, 16 GB/s, 9,999 tasks ready to run"
    assert console.fitted(["1 connection", "2 reads/s", "3 bytes/s"], 23) == "1 connection, 2 reads/s"
    assert console.fitted(["1 connection", "2 reads/s"], 4) == "1 co"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_totals_stay_after_the_load(workers):
    """newcomer A3.17, B (`--workers 2`): after the load all figures were 0, and Ctrl-C printed no total."""
    with started(SERVER, "--port", "0", "--workers", workers) as server:
        port = int(server.expect(r"listening on 127\.0\.0\.1:(\d+);")[1])
        for _ in range(3):
            assert talk(port) == b"hello"
        assert server.interrupt() == 130
        assert re.search(r"\nserved 3 connections, 3 reads, 15 bytes in \d[\d.]* s\n$", server.said)
        assert server.errors() == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (5_800_711, "5.8 MB"), (19_200_000, "19 MB"),
     (9_949, "9.9 kB"), (9_951, "10 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"), (5e15, "5,000 TB")],
)  # fmt: skip
def test_a_size_is_readable(demo, number, text):
    """newcomer A3.15: "bytes/s 5,800,711"."""
    assert demo("console").size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (4.21, "4.2 s"),
        (9.96, "10 s"),
        (42, "42 s"),
        (119.4, "119 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_a_duration_is_readable(demo, seconds, text):
    """newcomer A3.17: "served 1,000 connections, 300,000 reads, 19 MB in 42 s"."""
    assert demo("console").duration(seconds) == text


@pytest.mark.parametrize("text", ["inf", "None", "none", "1e999", "Infinity"])
def test_no_limit_can_be_typed(demo, text):
    """newcomer B, bad options: `--grace -1` named None, which nobody can type."""
    server = demo("echo_server")
    options = server.server_options("").parse_args(["--grace", text, "--idle-timeout", text])
    assert (options.grace, options.idle_timeout) == (None, None)


@pytest.mark.slow
def test_no_message_of_the_command_line_shows_a_tuple():
    """newcomer B, bad options: `--workers 0` printed "(('127.0.0.1', 7777),)"."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for program in ([SERVER], [SERVER, "--workers", 2], [CHAT], ["-m", "minisched", "echo"]):
            result = finished(*program, "--port", port)
            assert f"127.0.0.1:{port}: Address already in use" in result.stderr and "('" not in result.stderr
            assert result.returncode == 1
            assert ("--port 0 takes any free port" in result.stderr) == (program[0] != "-m")
    for arguments in (["--workers", 0], ["--port", 65536], ["--grace", "nan"], ["--max-connections", "many"]):
        result = finished(SERVER, *arguments)
        assert result.returncode == 2 and "(" not in result.stderr.splitlines()[-1]


# Closed streams, and the end.

RUNS = [
    *([HELLO], [DEMOS / "pipeline.py"], [DEMOS / "timeouts.py", "--only", "nested"], [CHECKS, CHECKS]),
    *(["-m", "minisched", "trace", HELLO], ["-m", "minisched", "run", "--trace", HELLO]),
    ["-m", "demos.policies", "--workload", "tickets"],
]
SERVERS = [[SERVER], [SERVER, "--workers", 2], [CHAT], ["-m", "minisched", "echo"]]


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)], ids=str)
@pytest.mark.parametrize("arguments", RUNS, ids=str)
def test_a_program_runs_without_its_streams(arguments, closed):
    """load-faults F7: `>&-` ended with an AttributeError; `run --trace 2>&-` traced to standard output."""
    whole = finished(*arguments)
    assert (whole.returncode, "Traceback" in whole.stderr) == (0, False)
    status, output, errors = with_closed(closed, *arguments)
    assert (status, output, errors) == (0, "" if 1 in closed else whole.stdout, "" if 2 in closed else whole.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)], ids=str)
@pytest.mark.parametrize("arguments", SERVERS, ids=str)
def test_a_server_serves_without_its_streams(arguments, closed):
    """load-faults F7: the echo server died with standard output closed."""
    port = free_port()
    status, _, errors = with_closed(closed, *arguments, "--port", port, interrupt=lambda: can_connect(port))
    assert (status, errors) == (130, "")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", SERVERS, ids=str)
def test_a_server_serves_on_when_nobody_reads_its_output(arguments):
    """load-faults F7, siblings: the reader of standard output is gone, or the disk is full."""
    port = free_port()
    with started(*arguments, "--port", port) as server:
        server.process.stdout.close()
        can_connect(port)
        if arguments[0] == SERVER:
            assert talk(port) == b"hello"
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(SECONDS) == 130
        assert server.errors() == ""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [RUNS[0], RUNS[1], *RUNS[4:6]], ids=str)
def test_a_program_ends_silently_when_the_reader_of_its_output_is_gone(arguments):
    """load-faults F7, sibling: `| head` printed a traceback."""
    with started(*arguments) as program:
        program.process.stdout.close()
        assert program.process.wait(SECONDS) == 141
        assert "Traceback" not in program.errors()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "until"),
    [([HELLO], "hello from Grace"), ([DEMOS / "timeouts.py"], "quick"), ([SERVER, "--port", 0], "listening")],
    ids=str,
)
def test_ctrl_c_is_quiet(arguments, until):
    """newcomer B, `--help` of demos: Ctrl-C in hello.py printed a traceback."""
    with started(*arguments) as program:
        program.expect(until)
        assert program.interrupt() == 130
        assert program.errors() == ""


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted({*DEMOS.glob("*.py"), *(DEMOS / "lessons").glob("lesson*.py"), CHECKS,
                                         *(DEMOS / "extend").glob("*.py")}), ids=lambda file: file.name)  # fmt: skip
def test_every_demo_answers_help(file):
    """newcomer B, `--help` of demos: hello.py ran instead."""
    if '__name__ == "__main__"' not in file.read_text(encoding="utf-8"):
        return
    result = finished(file, "--help")
    assert (result.returncode, result.stderr) == (0, "") and result.stdout.startswith(f"usage: {file.name} [-h]")
    assert "cut" not in result.stdout and "in vain" not in result.stdout


# The client by hand.


def by_hand(port, typed):
    return subprocess.run(
        command([CLIENT, "--port", port, "--interactive"]),
        input=typed, capture_output=True, cwd=ROOT, env=environment(), timeout=SECONDS,
    )  # fmt: skip


@pytest.mark.slow
def test_lines_that_are_typed_are_answered():
    """newcomer B, nc: without nc, there was no way to talk to a server by hand."""
    with started(SERVER, "--port", "0") as server:
        port = int(server.expect(r"listening on 127\.0\.0\.1:(\d+);")[1])
        text = b"hello\n" * 50_000 + b"no newline"
        for typed in (b"", b"hi\n", text):
            done = by_hand(port, typed)
            assert (done.returncode, done.stdout, done.stderr) == (0, typed, b"")
        with on_terminal(80, CLIENT, "--port", port, "--interactive") as program:
            program.expect("type lines; Ctrl-D ends\r\n")
            program.type(b"hi\n")
            program.expect("hi\r\nhi\r\n")
            program.type(b"\x04")
            assert program.wait() == 0
    assert b"Connection refused" in by_hand(port, b"").stderr


@pytest.mark.slow
@pytest.mark.parametrize("abort", [False, True])
def test_a_server_that_goes_away_is_reported(abort):
    """newcomer A3.22, interactive client: the end of the server is one line, and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        port = listener.getsockname()[1]
        with on_terminal(80, CLIENT, "--port", port, "--interactive") as program:
            conn, _ = listener.accept()
            program.expect("Ctrl-D ends\r\n")
            if abort:
                conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.close()
            assert program.wait() == 1
    reason = "the connection is lost: Connection reset by peer" if abort else "the server has closed the connection"
    assert program.said.endswith(f"echo_client: 127.0.0.1:{port}: {reason}\r\n")
    assert "Traceback" not in program.said


# The chat.


INVISIBLE_NAMES = ["\u3164", "\u2800", "\u115f", "\u1160", "\uffa0", "\u0301", "\u00a8", ""]
MISLEADING_NAMES = [
    *("\u0301a", "a\ufe0f", "a\u200d", "\u202eadA", "v\u0456ctim", "1\u0335", "a" + "\u0335" * 4),
    *("Ada:", "*", "a b", "-a", "/a", "x" * 21),
]


@pytest.mark.parametrize("name", INVISIBLE_NAMES + MISLEADING_NAMES, ids=ascii)
def test_a_name_that_misleads_is_refused(demo, name):
    """load-faults F13: names that cannot be seen, and a name with one letter of another script, were taken."""
    names = demo("chat_names")
    assert names.problem(names.normal(name)) is not None


@pytest.mark.parametrize(
    "name", ["Ada", "Élodie", "Иван", "김철수", "李明", "たなか太郎", "देवी", "مريم", "O'Neil", "R2-D2", "x_y.z"]
)
def test_a_name_of_any_script_is_accepted(demo, name):
    """load-faults F13: the check must not refuse the names of people."""
    names = demo("chat_names")
    assert names.problem(names.normal(name)) is None


FULLWIDTH = "".join(chr(ord(char) + 0xFEE0) for char in "victim")
CYRILLIC_ACE, MATHEMATICAL = "\u0430\u0441\u0435", "\U0001d4ff\U0001d4f2\U0001d4ec"


@pytest.mark.parametrize(
    ("name", "other"),
    [(FULLWIDTH, "victim"), ("Victim", "victim"), ("v1ctim", "victim"), ("vlctim", "victim"),
     ("vict\u0131m", "victim"), ("B0b", "Bob"),
     ("vict\u00edm", "victim"), (CYRILLIC_ACE, "ace"), (MATHEMATICAL, "vic"), ("\u0391\u039d\u039d\u0391", "ANNA")],
)  # fmt: skip
def test_names_that_look_alike_are_recognised(demo, name, other):
    """load-faults F13: `victim` in fullwidth or with a Cyrillic letter was another name."""
    names = demo("chat_names")
    directory = names.Directory()
    directory[other] = "the person"
    assert directory.like(names.normal(name)) == "the person"
    del directory[other]
    assert directory.like(names.normal(name)) is None
    assert directory == {} and directory.names == {}


def test_different_names_do_not_look_alike(demo):
    """load-faults F13: only lookalikes are refused."""
    looks = demo("chat_names").looks
    names = ["Ada", "Bob", "Cy", "Иван", "김철수", "李明", "देवी", "दवा", "Arno", "Anna"]
    assert len({looks(name) for name in names}) == len(names)


@pytest.mark.slow
def test_the_operator_sees_who_comes_and_goes_and_no_forged_line(tmp_path):
    """newcomer B, chat: the operator saw nothing; load-faults F6: a Unix peer's path must not forge a line."""
    path = tmp_path / "chat"
    with started(CHAT, "--unix", path) as chat:
        chat.expect("listening on ")
        with socket.socket(socket.AF_UNIX) as guest:
            guest.settimeout(SECONDS)
            guest.bind(os.path.relpath(tmp_path / "c\nroot joins\x1b[2J"))
            guest.connect(str(path))
            guest.sendall(b"\x1bAda\n")
            chat.expect(r"\nAda joins \(a Unix socket\); 1 here\n")
        chat.expect(r"\nAda leaves \(a Unix socket\); nobody is here\n")
        assert chat.interrupt() == 130
    assert chat.said.count("\n") == 3 and "\x1b" not in chat.said


# The command line.


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 60, 40])
def test_the_picture_of_a_run_fits_the_terminal(columns):
    """newcomer A3.20: the legend wrapped within words, and the last of three tasks had no column."""
    with on_terminal(columns, "-m", "minisched", "trace", HELLO) as program:
        assert program.wait() == 0
    lines = MOVES.sub("", program.said).split("\r\n")
    assert max(map(len, lines)) <= columns
    legend = "\n".join(line[6:] for line in lines[: lines.index("hello from Ada") - 1])
    for sign in ("+ spawned", "^ woken", "<- given", "-> yielded", ": waits", "| ready", "x cancelled"):
        assert sign in legend
    piped = finished("-m", "minisched", "trace", HELLO).stdout.splitlines()
    assert columns < 80 or lines == [*piped, ""]  # the picture of README.md


@pytest.mark.slow
def test_a_deadlock_prints_its_report_alone():
    """newcomer A3.20: 12 lines of traceback stood before the report of a deadlock."""
    for name in ("run", "trace"):
        result = finished("-m", "minisched", name, DEMOS / "dining_philosophers.py")
        assert result.returncode == 1 and result.stderr.startswith("Deadlock: 6 parked, none ready")
        assert result.stderr.endswith("-> 0.0 Plato\n") and "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_traceback_begins_in_the_program(tmp_path):
    """newcomer A3.20, sibling: the traceback of a program began with frames of runpy and of the command line."""
    file = tmp_path / "program.py"
    file.write_text("def main():\n    yield\n    raise ValueError('no luck')\n")
    for name in ("run", "trace"):
        lines = finished("-m", "minisched", name, file).stderr.splitlines()
        assert lines[0] == "Traceback (most recent call last):" and lines[1].startswith(f'  File "{file}", line 3')
        assert lines[-1] == "ValueError: no luck"


@pytest.mark.slow
def test_a_listing_that_calls_run_when_it_is_loaded_is_one_line(tmp_path):
    """newcomer A3.20, sibling: README's first listing, given to `minisched run`, printed a traceback."""
    file = tmp_path / "listing.py"
    file.write_text("from minisched import Sleep, run\n\ndef main():\n    yield Sleep(0)\n\nrun(main())\n")
    result = finished("-m", "minisched", "run", file)
    assert (result.returncode, result.stdout) == (1, "")
    advice = 'put that under `if __name__ == "__main__":`'
    assert result.stderr == f"minisched: {file} calls run(...) while it is loaded: {advice}\n"


@pytest.mark.slow
def test_the_usage_says_that_arguments_are_optional():
    """newcomer B, `minisched --help`: "required: FILE[:FUNCTION], ARGS", and "..." for ARGS."""
    for name in ("run", "trace"):
        errors = finished("-m", "minisched", name).stderr
        assert errors.endswith("error: the following arguments are required: FILE[:FUNCTION]\n")
        assert "FILE[:FUNCTION] [ARGS ...]" in errors
        assert finished("-m", "minisched", name, HELLO).returncode == 0
    text = finished("-m", "minisched", "--help").stdout
    assert all(f"    {name}" in text for name in ("run", "trace", "new-syscall", "echo"))


@pytest.mark.slow
def test_new_syscall_says_how_to_make_its_folder(tmp_path):
    """newcomer B, new-syscall: a missing folder was "No such file or directory" of a file."""
    folder = tmp_path / "my syscalls"
    result = finished("-m", "minisched", "new-syscall", "NextTick", "--folder", folder)
    line = f"minisched: {folder}: No such file or directory; make the folder first: mkdir -p '{folder}'\n"
    assert (result.returncode, result.stderr) == (1, line)
    subprocess.run(["sh", "-c", line.rpartition(": ")[2]], check=True)
    assert finished("-m", "minisched", "new-syscall", "NextTick", "--folder", folder).returncode == 0
    again = finished("-m", "minisched", "new-syscall", "NextTick", "--folder", folder)
    assert again.returncode == 1 and "choose another name" in again.stderr


def test_the_hints_to_install_work_in_each_shell():
    """newcomer A3.21: hints named PyPI, where the package is not, and unquoted brackets, which zsh refuses."""
    files = [*DEMOS.rglob("*.py"), *DEMOS.rglob("*.md"), *(ROOT / "tests").glob("*.py"), ROOT / "README.md"]
    hints = [hint for file in files for hint in re.findall(r"pip install [^\n)]*\[", file.read_text(encoding="utf-8"))]
    assert len(hints) > 5
    assert {*hints} <= {"pip install -e '.[", "pip install -q -e '.["}


# Learning.


@pytest.mark.slow
def test_the_checks_show_the_readers_own_line(tmp_path):
    """newcomer A4.25: "wrong: StopIteration()" named no line of the reader's file."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def lesson1_exercise3(coroutines, values):\n    for coroutine in coroutines:\n        next(coroutine)\n"
        "def lesson1_exercise2(function):\n    def start(*args):\n        return function(*args)\n    return start\n"
        "def lesson2_exercise2():\n    latest = None\n    while True:\n        latest = yield latest\n"
    )
    result = finished(CHECKS, mine)
    assert (result.returncode, result.stderr) == (1, "")
    wrong = dict(re.findall(r"^(\w+): wrong: (.*)$", result.stdout, re.MULTILINE))
    assert wrong["lesson1_exercise3"] == "StopIteration, in line 3 of mine.py: next(coroutine)"
    assert re.fullmatch(
        r"TypeError: .*'into', when the check did this: .*collect\(.*into=into\)", wrong["lesson1_exercise2"]
    )
    inputs = "the output for next, send(1), send(2) and send(3)"
    assert wrong["lesson2_exercise2"] == f"{inputs}: got [None, 1, 2, 3], expected [None, None, 1, 2]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "error"),
    [("def f(:\n", "SyntaxError: invalid syntax\n"), ("1 / 0\n", "line 1 of mine.py: 1 / 0\n")],
    ids=["syntax", "error"],
)
def test_a_file_that_cannot_be_run_is_explained(tmp_path, text, error):
    """newcomer A4.25, sibling: an error of the reader's file itself printed frames of runpy."""
    (tmp_path / "mine.py").write_text(text)
    result = finished(CHECKS, tmp_path / "mine.py")
    assert result.returncode == 1 and result.stderr.endswith(error) and "runpy" not in result.stderr


@pytest.mark.slow
def test_ctrl_c_in_an_endless_exercise_names_its_line(tmp_path):
    """newcomer A4.25, sibling: a solution that never yields can only be interrupted."""
    (tmp_path / "mine.py").write_text(
        "def lesson1_exercise1(evens):\n    print('begun', flush=True)\n    while True:\n        pass\n    yield\n"
    )
    with started(CHECKS, tmp_path / "mine.py") as program:
        program.expect("begun\n")
        assert program.interrupt() == 130
        assert re.search(r"lesson1_exercise1: stopped by Ctrl-C, in line [234] of mine\.py: ", program.said)
        assert program.errors() == ""


def test_the_quiz_asks_and_judges(capsys):
    """newcomer A4.26: the quiz printed its questions and ended."""
    import io

    from demos.policies import quiz
    from demos.policies.__main__ import policies

    _, questions = quiz.quiz(policies(1), "FIFO", 1)
    right = "".join(f"{question.answer.upper()}\n" for question in questions)
    for lines, verdict in ((right, "5 of 5 answers are right"), ("no\n" * 5, "0 of 5 answers are right")):
        quiz.play(policies(1), "FIFO", 1, io.StringIO(lines), prompt=False)
        assert capsys.readouterr().out.endswith(f"{verdict}\n")
    quiz.play(policies(1), "FIFO", 1, io.StringIO(right.splitlines()[0] + "\n"), prompt=True)
    asked = capsys.readouterr().out
    assert asked.count("   > ") == 2 and "   right\n" in asked and asked.endswith("1 of 5 answers are right\n")
    ends = questions[1]
    assert ends.is_right("C 8; b: 7, a 6") and not ends.is_right("A 6, B 7") and not ends.is_right("A 7, B 6, C 8")
    best = questions[4]
    assert best.is_right("feedback, fifo, stride; priority") and not best.is_right("priority; feedback fifo stride")


@pytest.mark.slow
def test_the_quiz_prompts_on_a_terminal():
    """newcomer A4.26: a person at a terminal waited for a prompt."""
    with on_terminal(80, "-m", "demos.policies", "--quiz") as program:
        program.expect("> $")
        program.type(b"a - - b c a b c\n")
        program.expect("   right\r\n2\\. .*\r\n.*\r\n   > $")
        program.type(b"\x04")
        assert program.wait() == 0
    assert "1 of 5 answers are right" in program.said
    assert max(len(line) for line in program.said.split("\r\n")) <= 80


def test_jain_is_explained_where_the_column_is():
    """newcomer A4.26: the legend of the table was a pointer into a source file."""
    readme = (DEMOS / "policies" / "README.md").read_text(encoding="utf-8")
    assert "| Jain | fairness" in readme and "docstrings of `machine.py`" not in readme


def test_the_tables_of_the_benchmarks_are_labelled():
    """newcomer A4.27: two tables with the same columns did not say which one README's figures are."""
    pytest.importorskip("rich", reason="needs rich: pip install -e '.[demo]'")
    from test_benchmarks import show, some_results

    from tests.benchmarks.catalogue import BARE_LOOP, MINISCHED

    titles = {
        base: show.table(some_results(), [], (MINISCHED, BARE_LOOP), base).title for base in (MINISCHED, BARE_LOOP)
    }
    assert titles[MINISCHED].startswith("Relative to minisched (as in tests/benchmarks/README.md)")
    assert titles[BARE_LOOP].startswith(f"Relative to {BARE_LOOP} (how close each peer is to a limit)")


# The log of a server.


@pytest.mark.parametrize(
    ("peer", "text"),
    [(("127.0.0.1", 47518), "127.0.0.1:47518"), (("::1", 80, 0, 0), "[::1]:80"),
     (("fe80::1%eth0", 80, 0, 2), "[fe80::1%eth0]:80"),
     ("", "a Unix peer"), (None, "a Unix peer"), ("dir/c\nCRITICAL", r"'dir/c\\nCRITICAL'"), (b"\0x", r"b'\\x00x'")],
)  # fmt: skip
def test_a_peer_is_named_as_host_and_port(peer, text):
    """newcomer B, Ctrl-C: "it cut 1 connection: handle-1001 of ('127.0.0.1', 47518)": a Python tuple."""
    from types import SimpleNamespace

    from minisched.serving.log import peer_name

    assert peer_name(SimpleNamespace(peer=peer)) == text.replace("\\\\", "\\")


@pytest.mark.slow
@pytest.mark.parametrize("program", [[SERVER], [SERVER, "--workers", 2], [CHAT]], ids=str)
def test_a_signal_shows_what_a_running_demo_does(program):
    """newcomer A3.22: no demo showed `kernel.tasks()` of a running server."""
    with started(*program, "--port", "0") as server:
        port = int(server.expect(r"listening on 127\.0\.0\.1:(\d+);")[1])
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as conn:
            conn.sendall(b"Ada\n")
            assert conn.recv(100)
            server.process.send_signal(signal.SIGUSR1)
            log = b""
            while not re.search(rb" of 127\.0\.0\.1:\d+, \d+ s old: waits in Read(Line)?\(", log):
                log += os.read(server.process.stderr.fileno(), 65536)
        assert server.interrupt() == 130
