"""Reports from the tests of other libraries, which `python -m tests.peers` runs on minisched."""

from __future__ import annotations

import pytest
from helpers import run

from minisched import ClosedError, Portal, SyscallError


def open_portal():
    with (yield Portal()) as portal:
        return portal


def test_the_portal_of_an_ended_run_is_closed_for_the_thread_that_the_run_was_in():
    """peers, anyio's test_run_sync_closed_event_loop: the call raises ClosedError, as in every other thread.

    It raised SyscallError, with the advice to call the function in the run's own thread.
    """
    portal = run(open_portal())
    with pytest.raises(ClosedError):
        portal.call(print, "not called")
    with pytest.raises(ClosedError):
        portal.spawn(open_portal)


def test_the_portal_of_an_ended_run_is_closed_in_a_later_run_of_the_same_thread():
    """peers, anyio's test_run_sync_closed_event_loop: a later run in the same thread is not the portal's run."""
    portal = run(open_portal())

    def later():
        yield
        with pytest.raises(ClosedError):
            portal.call(print, "not called")

    run(later())


def test_the_own_thread_of_a_run_that_goes_on_is_refused():
    """peers, anyio's test_run_sync_closed_event_loop: while the run goes on, the call would wait for itself."""

    def main():
        with (yield Portal()) as portal, pytest.raises(SyscallError, match="just call the function"):
            portal.call(print, "not called")

    run(main())
