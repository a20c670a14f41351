"""A pytest plugin for Python in WebAssembly, which has no sockets, pipes, threads or processes.

No list names the tests that need them. Each test runs, and its requests for a missing resource are recorded. A test
that fails after such a request is skipped, with the resource as the reason, and so is a file whose imports fail.
`--at-least` is the number of tests that must pass, so that a package which asks for a socket in every run fails.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import warnings
from concurrent.futures.process import ProcessPoolExecutor

import hypothesis
import pytest

EVENTS = {  # audit events that show the request for a resource
    "socket.__new__": "a socket",
    "_thread.start_new_thread": "a thread",
    "_thread.start_joinable_thread": "a thread",
    "os.fork": "a process",
    "os.kill": "a signal",
}
wanted = {}  # the requests of the running test: an ordered set


def note(event, arguments):
    if event in EVENTS:
        wanted[EVENTS[event]] = None
    elif event == "import" and arguments[0] == "resource":
        wanted["limits of resources"] = None


def noting(what, function):
    def call(*arguments, **keywords):
        wanted[what] = None
        return function(*arguments, **keywords)

    return call


def missing(module, what):
    """Record a request for an attribute that the module has on other platforms, such as `socket.AF_UNIX`."""

    def ask(name):
        wanted[what] = None
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    module.__getattr__ = ask


def no_pipe():
    """Refuse to make a pipe: there are pipes, but a wait for one never ends."""
    wanted["a pipe"] = None
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


sys.addaudithook(note)
os.pipe = no_pipe
socket.socketpair = noting("a pair of sockets", socket.socketpair)
for kind in (subprocess.Popen, ProcessPoolExecutor):
    kind.__init__ = noting("a process", kind.__init__)
missing(os, "a system call")
missing(signal, "a signal")
missing(socket, "a socket")
hypothesis.settings.load_profile("ci")  # a slow example is not an error


def pytest_addoption(parser):
    parser.addoption("--at-least", type=int, default=0, help="the number of tests that must pass")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        skip(report, item.path, call.excinfo.value)
    if call.when == "teardown":
        wanted.clear()
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if report.failed:
        skip(report, collector.path)
    wanted.clear()
    return report


def skip(report, path, error=None):
    """Turn a report into that of a skipped test, if a missing resource was requested."""
    needs = list(wanted) or getattr(error, "needs", None)
    if needs:
        report.outcome = "skipped"
        report.longrepr = (os.fspath(path), 0, f"Skipped: it needs {' and '.join(needs)}")
        if error is not None:
            error.needs = needs  # a fixture raises the same error in the next test that uses it


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown():
    """Collect the garbage of a failed test silently, so that its warnings do not appear in a later test."""
    if wanted and hasattr(sys, "last_exc"):
        for name in ("last_exc", "last_value", "last_traceback", "last_type"):
            sys.__dict__.pop(name, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    passed, least = len(reporter.stats.get("passed", ())), session.config.getoption("--at-least")
    if passed < least:
        reporter.write_line(
            f"\nOnly {passed} tests passed, fewer than {least}: which resource do the others request?", red=True
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
