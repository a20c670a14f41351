"""What the documents tell the reader to do works: their commands, and their Python listings.

A listing is a fenced block; an HTML comment on the line before says what it is:
- ```python: it is run, after the ones before it in the same document;
- ```python with `<!-- runs until Ctrl-C -->`: an echo server at port 7777, which stands alone;
- ```python with `<!-- from PATH -->`: these lines stand in that file;
- any other with `<!-- prints -->`: what the Python listing before it prints;
- any other with `<!-- printed by COMMAND -->`: what that prints, `minisched` or `python` with its arguments;
- ```sh: commands. The first two of README.md set up the echo server and the tests; those of the demos are run
  where the project is installed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
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

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    *("README.md", "ARCHITECTURE.md", "demos/lessons/README.md", "demos/lessons/README.ko.md"),
    *("demos/extend/README.md", "demos/stages/README.md", "demos/policies/README.md"),
)
LISTING = re.compile(
    r"^(?:<!-- *(?P<what>.*?) *-->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
SECONDS = 300  # for what should take a few


class Listing(NamedTuple):
    """A fenced block, and what the comment before it says."""

    language: str
    what: str
    text: str


def listings(document: str) -> list[Listing]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [Listing(found["language"], found["what"] or "", found["text"]) for found in LISTING.finditer(text)]


def commands() -> list[str]:
    """Return the commands of README.md, with what is continued on a line of its own put back."""
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


def test_pre_commit_has_the_tools_of_ci():
    tools = re.findall(r"^\S+==\S+$", (ROOT / ".ci" / "tools.txt").read_text(encoding="utf-8"), re.MULTILINE)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert tools and {*re.findall(r'"([^"]+==[^"]+)"', hooks)} == {*tools}


# The listings.


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_python_listings_run_and_print_what_the_document_says(document):
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for number, listing in enumerate(listings(document), 1):
        if listing.what == "prints":
            assert printed.rstrip() == listing.text.rstrip(), f"what listing {number - 1} of {document} prints"
        elif listing.language == "python" and not listing.what:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(listing.text, f"<listing {number} of {document}>", "exec"), names)
            printed = out.getvalue()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_excerpts_stand_in_the_files_they_are_from(document):
    for listing in listings(document):
        if listing.what.startswith("from "):
            source = (ROOT / listing.what.removeprefix("from ")).read_text(encoding="utf-8")
            assert flat(listing.text) in flat(source), f"{listing.what}:\n{listing.text}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_command_prints_is_what_the_document_says(document):
    for listing in listings(document):
        if listing.what.startswith("printed by "):
            _, _, program, *arguments = listing.what.split()
            done = finished(*(["-m", "minisched"] if program == "minisched" else []), *arguments)
            assert (done.returncode, done.stderr, done.stdout) == (0, "", listing.text), listing.what


def flat(text: str) -> str:
    """Return `text` without the indentation of its lines and without empty ones."""
    return "\n" + "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())


def test_a_comment_before_a_listing_is_one_that_is_understood():
    known = re.compile(r"|prints|printed by (minisched|python) [\w./ -]+|runs until Ctrl-C|from [\w./-]+")
    assert not [x.what for document in DOCUMENTS for x in listings(document) if not known.fullmatch(x.what)]


def test_the_readmes_echo_server_echoes_and_ends_with_ctrl_c():
    (server,) = (listing.text for listing in listings("README.md") if listing.what == "runs until Ctrl-C")
    assert server.count("7777") == 1
    # The listing prints nothing, so what it listens at is said by the syscall.
    program = f"""
from minisched import Listen
def handle(self, kernel, task, handle=Listen.handle):
    listener = handle(self, kernel, task)
    print("listening on %s:%s" % listener.address, flush=True)
    return listener
Listen.handle = handle
{server.replace("7777", "0")}"""
    with Server([sys.executable, "-c", program], ROOT, dict(os.environ)) as running:
        assert running.echoes(b"hello")
        assert running.interrupted() == -signal.SIGINT
    assert running.errors.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document.startswith("demos/")])
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
    """Return the environment of somebody who has just come: where programs are, and how pip reaches its index."""
    names = [name for name in os.environ if name.startswith("PIP_") or name.upper().endswith("_PROXY")]
    kept = {name: os.environ[name] for name in ["PATH", *names]}
    config = Path.home() / ".config" / "pip" / "pip.conf"
    if config.exists():
        kept.setdefault("PIP_CONFIG_FILE", str(config))
    return {**kept, "HOME": str(tmp_path), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.mark.slow
def test_the_first_command_starts_an_echo_server_that_ctrl_c_ends(clone, environment):
    command = f"{commands()[0]} --port 0"  # 7777 may be taken, where the tests run
    with Server(["bash", "-c", command], clone, environment) as running:
        assert running.echoes(b"hello")
        assert running.interrupted() == 130
    assert "Traceback" not in running.errors


@pytest.mark.slow
def test_the_second_command_runs_the_tests(clone, environment):
    # Not all: this test would run itself, for ever; and CI runs the command in full, in a fresh copy for each Python.
    environment["PYTEST_ADDOPTS"] = "-m 'not slow' -k 'test_kernel or test_loop or test_report'"
    assert re.search(r"\b\d+ passed\b", succeed(commands()[1], clone, environment))


@pytest.mark.slow
def test_every_other_command_of_the_readme_succeeds(clone, environment):
    set_up = commands()[1].removesuffix(" && .venv/bin/pytest")
    for command in [set_up, *commands()[2:]]:
        if ".ci/run" not in command:  # which runs this test
            succeed(command, clone, environment)


def succeed(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a shell command; return what it prints."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


class Server:
    """An echo server in a process group of its own, as on a terminal, which says where it is listening."""

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
        """Read what the server prints until it says where it listens."""
        for line in self.process.stdout:
            if found := re.search(r"listening on (\S+):(\d+)", line):
                return found[1], int(found[2])
        raise AssertionError(f"it ended before it listened: {self.process.stderr.read()}")

    def echoes(self, data: bytes) -> bool:
        """Return whether a client gets back what it sends."""
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
