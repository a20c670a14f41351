"""What all tests share: the flag that updates the golden traces."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from minisched import testing

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts a job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write the golden traces anew")


@pytest.fixture
def golden(request):
    """Assert that a text is the golden one of a name."""
    update = request.config.getoption("--update-golden")

    def check(text, name):
        testing.golden(text, GOLDEN / f"{name}.txt", update=update)

    return check


@pytest.fixture(params=["generator", "coroutine"])
def waits(request):
    """Return a task that yields each of the given calls and returns the last answer: in both forms."""

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
