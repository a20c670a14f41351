"""The time of `import minisched` against that of `import asyncio`, in fresh interpreters, one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

OTHER = "asyncio"
UNIT = (1e3, "ms")
BOUND = 0.6
ROUNDS = 40
ROOT = Path(__file__).parents[2]
PROGRAM = "from time import perf_counter as now; began = now(); import {0}; print(now() - began)"


def rounds():
    """Return (seconds to import minisched, asyncio) for each round."""
    seconds("minisched"), seconds("asyncio")  # the first time, the compiled files are written
    for _ in range(ROUNDS):
        yield seconds("minisched"), seconds("asyncio")


def seconds(name: str) -> float:
    """Return how long a fresh interpreter takes to import a module."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    program = [sys.executable, "-c", PROGRAM.format(name)]
    return float(subprocess.run(program, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout)
