"""Fetch the tests of another library, and run them on minisched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

HERE = Path(__file__).parent
TESTS = HERE.parent
LOG = "log.txt"  # the output of the last run of a suite
PROCESSES = 4  # that run tests at once; most of these tests sleep
DOWNLOAD_SECONDS = 120  # after which a download has failed
RUN_SECONDS = 150  # after which a run of a suite has failed


class Suite(NamedTuple):
    name: str
    version: str
    arguments: tuple[str, ...]  # for pytest
    settings: str  # of pytest, as in `pytest.ini`
    tests: str = "tests"  # the folder of the tests in the distribution

    @property
    def list(self) -> Path:
        return HERE / f"{self.name}.txt"


SUITES = (
    Suite(
        "curio",
        "1.6",
        # curio's own conftest makes curio's kernel; `-p no:anyio`: curio's tests are coroutines for its own kernel
        ("-p", "peers.for_curio.plugin", "--noconftest", "-p", "no:anyio", "--timeout", "10"),
        "markers = internet: needs the internet",
    ),
    Suite(
        "anyio",
        "4.16.0",
        ("-p", "peers.for_anyio.plugin", "--timeout", "10"),
        "anyio_mode = auto\nmarkers = network: needs the internet",
    ),
)


class Unavailable(Exception):
    """Raised if the distribution of a suite cannot be downloaded."""


def fetch(suite: Suite, folder: Path) -> Path:
    """Download the source distribution of a suite, and unpack it; return its folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", suite.name, "--dest", str(folder), f"{suite.name}=={suite.version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(str(error)) from error
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or ["pip says nothing"])[-1])
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def prepare(suite: Suite, source: Path, folder: Path) -> None:
    """Copy the tests of a suite into a folder of their own, beside the settings of pytest."""
    shutil.copytree(source / suite.tests, folder / suite.tests)
    (folder / "pytest.ini").write_text(f"[pytest]\n{suite.settings}\n", encoding="utf-8")


def run(
    suite: Suite,
    source: Path,
    folder: Path,
    *,
    only: Iterable[str] | None = None,
    leave_out: Iterable[str] = (),
    processes: int = PROCESSES,
    environment: Mapping[str, str] = {},
) -> dict[str, str]:
    """Run tests of a suite; return the outcome of each case by its name, without the folder of the tests."""
    prefix = f"{suite.tests}/"
    result = folder / "outcomes.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "peers.recorder", *suite.arguments]
    command += ["-n", str(processes), "--tb=short", "-W", "ignore"]
    command += [prefix + name for name in only] if only is not None else [suite.tests]
    command += [f"--ignore={prefix}{name}" for name in leave_out if "::" not in name]  # a file that cannot be imported
    path = [str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path), "CURIO": str(source)}
    settings |= {"PEERS_OUTCOMES": str(result), "PEERS_LEFT_OUT": json.dumps([prefix + name for name in leave_out])}
    settings |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "", "PYTHONUNBUFFERED": ""}  # "": as if not set
    with open(folder / LOG, "w", encoding="utf-8") as log:
        run_pytest(command, folder, settings, log)
    if not result.exists():
        raise RuntimeError((folder / LOG).read_text(encoding="utf-8"))
    outcomes = json.loads(result.read_text(encoding="utf-8"))
    return {case.removeprefix(prefix): outcome for case, outcome in outcomes.items()}


def run_pytest(command: list[str], folder: Path, settings: Mapping[str, str], log: IO[str]) -> None:
    """Run pytest in a process group of its own; kill the whole group if it takes too long."""
    output = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=folder, env=settings, start_new_session=True, **output) as pytest:
        try:
            pytest.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            log.write(f"pytest was killed after {RUN_SECONDS} seconds.\n")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(pytest.pid, signal.SIGKILL)
