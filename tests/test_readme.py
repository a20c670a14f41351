"""The commands and the Python listings of the documents work.

A listing is a fenced block. An HTML comment on the line before gives its kind:
- ```python: the test runs it, after the Python listings before it in the same document;
- ```python with `<!-- runs until Ctrl-C -->`: an echo server at port 7777, independent of other listings;
- ```python with `<!-- from PATH -->`: an excerpt of that file;
- any other with `<!-- prints -->`: the output of the Python listing before it;
- any other with `<!-- printed by COMMAND -->`: the output of `minisched` or `python` with the given arguments;
- ```sh: commands. The first two of README.md set up the echo server and the tests; those of the demos are run
  where the project is installed.

`python -m tests.tables --update` renews the printed listings of README.md and ARCHITECTURE.md.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import finished
from tables import LISTING

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    *("README.md", "ARCHITECTURE.md", "demos/lessons/README.md", "demos/lessons/README.ko.md"),
    *("demos/extend/README.md", "demos/stages/README.md", "demos/policies/README.md", "demos/keyvalue/README.md"),
)
SECONDS = 300  # for a command that should take a few


class Listing(NamedTuple):
    """A fenced block, and the comment before it."""

    language: str
    what: str
    text: str


def listings(document: str) -> list[Listing]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [Listing(found["language"], found["what"] or "", found["text"]) for found in LISTING.finditer(text)]


def commands() -> list[str]:
    """Return the commands of README.md, each on one line."""
    blocks = [listing.text.replace("\\\n", "") for listing in listings("README.md") if listing.language == "sh"]
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]


# Without running anything.


def test_ci_runs_the_readmes_test_command_word_for_word():
    in_ci = re.findall(r'^TEST_COMMAND="(.*)"$', (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert in_ci == [commands()[1]]


def test_the_readme_begins_with_the_echo_server_and_the_tests():
    first, second = commands()[:2]
    assert first.startswith("python3 -m venv .venv && ") and first.endswith(" demos/echo_server.py")
    assert second.startswith("python3 -m venv .venv && ") and second.endswith(".venv/bin/pytest")


def test_pre_commit_has_the_versions_of_ci():
    tools = re.findall(r"^\S+==\S+$", (ROOT / ".ci" / "tools.txt").read_text(encoding="utf-8"), re.MULTILINE)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert {*re.findall(r'"([^"]+==[^"]+)"', hooks)} == {
        tool for tool in tools if not tool.startswith(("mypy==", "pdoc=="))
    }


# The listings.


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_python_listings_run_and_print_the_listings_after_them(document):
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    if document.startswith("demos/lessons/") and not hasattr(select, "epoll"):
        pytest.skip("without epoll, a read of a regular file waits first, which gives other tasks more turns")
    for number, listing in enumerate(listings(document), 1):
        if listing.what == "prints":
            assert printed.rstrip() == listing.text.rstrip(), f"the output of listing {number - 1} of {document}"
        elif listing.language == "python" and not listing.what:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(listing.text, f"<listing {number} of {document}>", "exec"), names)
            printed = out.getvalue()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_excerpts_of_a_document_stand_in_their_files(document):
    for listing in listings(document):
        if listing.what.startswith("from "):
            source = (ROOT / listing.what.removeprefix("from ")).read_text(encoding="utf-8")
            assert flat(listing.text) in flat(source), f"{listing.what}:\n{listing.text}"


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_printed_listing_is_the_output_of_its_command(document):
    for listing in listings(document):
        if listing.what.startswith("printed by "):
            _, _, program, *arguments = listing.what.split()
            done = finished(*(["-m", "minisched"] if program == "minisched" else []), *arguments)
            assert (done.returncode, done.stderr, done.stdout) == (0, "", listing.text), listing.what


def flat(text: str) -> str:
    """Return `text` without the indentation of its lines and without empty ones."""
    return "\n" + "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())


def test_every_comment_before_a_listing_has_a_known_kind():
    known = re.compile(r"|prints|printed by (minisched|python) [\w./ -]+|runs until Ctrl-C|from [\w./-]+")
    assert not [x.what for document in DOCUMENTS for x in listings(document) if not known.fullmatch(x.what)]


@pytest.mark.slow
def test_the_readmes_echo_server_echoes_and_ends_with_ctrl_c():
    (server,) = (listing.text for listing in listings("README.md") if listing.what == "runs until Ctrl-C")
    assert server.count("7777") == 1
    # The listing prints nothing, so the syscall prints the address.
    program = f"""
from minisched.net.listening import ListenAll
def handle(self, kernel, task, handle=ListenAll.handle):
    listeners = handle(self, kernel, task)
    print("listening on %s:%s" % listeners[0].address, flush=True)
    return listeners
ListenAll.handle = handle
{server.replace("7777", "0")}"""
    with Server([sys.executable, "-c", program], ROOT, dict(os.environ)) as running:
        assert running.echoes(b"hello")
        assert running.interrupted() == 130
    assert running.errors == ""


# The Korean document has the commands of the English one: see test_lessons.
@pytest.mark.slow
@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name[:6] == "demos/" and name[-6:] != ".ko.md"])
def test_the_commands_of_the_demos_succeed(document, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    blocks = [listing.text for listing in listings(document) if listing.language == "sh"]
    assert blocks
    for command in "".join(blocks).splitlines():
        done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, timeout=SECONDS)
        assert done.returncode == (1 if command.startswith("diff ") else 0), (command, done.stderr)


# The commands, in a fresh clone.


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Return a folder with the tracked files, as they are in the working tree."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("clone")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture
def environment(tmp_path):
    """Return the environment of a new user: the path of programs, and the settings of pip."""
    names = [name for name in os.environ if name.startswith("PIP_") or name.upper().endswith("_PROXY")]
    kept = {name: os.environ[name] for name in ["PATH", *names]}
    config = Path.home() / ".config" / "pip" / "pip.conf"
    if config.exists():
        kept.setdefault("PIP_CONFIG_FILE", str(config))
    return {**kept, "HOME": str(tmp_path), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.mark.slow
def test_the_first_command_starts_an_echo_server_that_ctrl_c_ends(clone, environment):
    command = f"{commands()[0]} --port 0"  # 7777 may be in use on the machine of the tests
    with Server(["bash", "-c", command], clone, environment) as running:
        assert running.echoes(b"hello")
        assert running.interrupted() == 130
    assert "Traceback" not in running.errors


@pytest.mark.slow
def test_the_second_command_runs_the_tests(clone, environment):
    # Not all tests: this one would run itself. CI runs the whole command, in a fresh copy for each Python.
    environment["PYTEST_ADDOPTS"] = "-m 'not slow' -k 'test_kernel or test_loop or test_report'"
    assert re.search(r"\b\d+ passed\b", succeed(commands()[1], clone, environment))


@pytest.mark.slow
def test_every_other_command_of_the_readme_succeeds(clone, environment):
    set_up = commands()[1].removesuffix(" && .venv/bin/pytest")
    for command in [set_up, *commands()[2:]]:
        succeed(command, clone, environment)


def succeed(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a shell command; return its output."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


class Server:
    """An echo server in a process group of its own, as on a terminal, which prints its address."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.limit = threading.Timer(SECONDS, self.signal, [signal.SIGKILL])
        self.errors = ""

    def __enter__(self):
        self.limit.start()
        try:
            self.address = self.find_address()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.limit.cancel()
        self.limit.join()
        if self.process.returncode is None:
            self.signal(signal.SIGKILL)
        if not self.process.stdout.closed:
            self.process.communicate()

    def find_address(self) -> tuple[str, int]:
        """Read the output of the server until it prints its address."""
        for line in self.process.stdout:
            if address := re.search(r"listening on (\S+):(\d+)", line):
                return address[1], int(address[2])
        raise AssertionError(f"the server ended before it listened: {self.process.stderr.read()}")

    def echoes(self, data: bytes) -> bool:
        """Return whether a client receives the bytes that it sends."""
        with socket.create_connection(self.address, timeout=SECONDS) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(4096), b"")) == data

    def interrupted(self) -> int:
        """Press Ctrl-C; return the exit status."""
        self.signal(signal.SIGINT)
        _, self.errors = self.process.communicate()
        return self.process.returncode

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
