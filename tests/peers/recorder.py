"""A pytest plugin that leaves tests out, and writes the outcome of each other one to a file, for `suites`.

`PEERS_LEFT_OUT` in the environment has the names of tests, as a list has them; `PEERS_OUTCOMES` names the file.
"""

from __future__ import annotations

import json
import os

from .lists import names_of

outcomes = {}


def pytest_collection_modifyitems(config, items):
    left_out = {*json.loads(os.environ["PEERS_LEFT_OUT"])}
    dropped = [item for item in items if left_out & {*names_of(item.nodeid)}]  # `--deselect` drops what only begins so
    items[:] = [item for item in items if item not in dropped]
    config.hook.pytest_deselected(items=dropped)


def pytest_runtest_logreport(report):
    """Note the worst outcome of the three parts of a test: setup, call, teardown."""
    if report.failed:
        outcomes[report.nodeid] = "failed"
    elif report.skipped or report.when == "call":
        outcomes.setdefault(report.nodeid, report.outcome)


def pytest_sessionfinish(session):
    if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers report to the one process that has all outcomes
        with open(os.environ["PEERS_OUTCOMES"], "w", encoding="utf-8") as file:
            json.dump(outcomes, file)
