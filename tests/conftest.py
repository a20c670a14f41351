"""Fixtures of all tests, and the flag that updates the golden files."""

from __future__ import annotations

import gc
import logging
import signal
from pathlib import Path

import pytest

from minisched import testing

# A shell ignores SIGINT and SIGQUIT in its background jobs, and nohup SIGHUP. Programs that tests start inherit that.
for name, handler in {
    "SIGINT": signal.default_int_handler,
    "SIGQUIT": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}.items():
    signum = getattr(signal, name, None)  # Windows has not all of them
    if signum is not None and signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, handler)

# A turn of a test may be slow where the machine is: only the tests of such reports want them.
logging.getLogger("minisched.debug").setLevel(logging.ERROR)

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing with them"
    )


def pytest_collection_finish():
    gc.freeze()  # modules and tests live to the end: a collection inside a test visits only what the tests have made


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """After the last test of a file, freeze what pytest keeps of its tests, which is more than what a test makes."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture
def golden(request):
    """Return a function that compares a text with the golden file of a name."""
    update = request.config.getoption("--update-golden")

    def check(text, name):
        testing.golden(text, GOLDEN / f"{name}.txt", update=update)

    return check


@pytest.fixture(params=["generator", "coroutine"])
def waits(request):
    """Return a task body that yields each of the given calls and returns the last result: in both forms."""

    def by_generator(*calls):
        answer = None
        for call in calls:
            answer = yield call
        return answer

    async def by_coroutine(*calls):
        answer = None
        for call in calls:
            answer = await call
        return answer

    return {"generator": by_generator, "coroutine": by_coroutine}[request.param]
