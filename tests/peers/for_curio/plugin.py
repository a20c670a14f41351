"""A pytest plugin that runs curio's tests on minisched: `pytest -p peers.for_curio.plugin --noconftest`.

curio's own conftest is left out, since it makes curio's kernel. `CURIO` in the environment names the checkout.
"""

from __future__ import annotations

import os
import socket
from multiprocessing.forkserver import ensure_running

import pytest

from .names import Kernel, install

install(os.environ["CURIO"])
ensure_running()  # the server that `run_in_process` forks from: its start takes longer than the tests expect


@pytest.fixture(scope="session")
def kernel():
    return Kernel()


@pytest.fixture
def portno():
    """Return a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]
