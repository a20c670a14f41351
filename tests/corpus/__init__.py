"""Programs with one mistake each, and without it, for the explorer.

`CORPUS` lists them by the class of mistake: those that other schedulers have shipped (the reports are named: "gh-" and
"bpo-" are of CPython) and the classic ones. Each is a function of `fixed` that returns a fresh main and a check. Round
robin runs the wrong variant without a failure. The explorer finds one within `budget` runs, and exhausts the right
variant within `space` runs.

Not here: accept storms, starvation, and files that are closed twice by number. They are mistakes in any order of turns:
`tests/test_bugs.py`, `test_exhaustion.py` and `test_limits.py` have them.
"""

from __future__ import annotations

from typing import NamedTuple

from . import classic, reported


class Case(NamedTuple):
    """A program of the corpus, with bounds on the runs of an exhaustive exploration."""

    program: object
    budget: int  # until the mistake is found
    space: int  # to exhaust the program without the mistake

    def wrong(self):
        return self.program(False)

    def right(self):
        return self.program(True)


CORPUS = [
    Case(classic.lost_update, 10, 200),
    Case(classic.two_locks, 10, 30),
    Case(classic.three_philosophers, 100, 300),
    Case(classic.four_philosophers, 500, 2_000),
    Case(classic.five_philosophers, 2_000, 6_000),
    Case(classic.check_of_a_queue, 10, 30),
    Case(classic.check_of_an_event, 10, 30),
    Case(classic.bounded_buffer, 1_000, 5_000),
    Case(reported.lost_notification, 100, 500),
    Case(reported.lock_leaks_at_a_cancellation, 100, 500),
    Case(reported.too_many_grants, 20, 200),
    Case(reported.woken_without_another_look, 100, 500),
    Case(reported.item_lost_at_a_cancellation, 20, 100),
    Case(reported.cancellation_swallowed, 20, 100),
    Case(reported.hang_at_the_end, 20, 100),
    Case(reported.closed_twice, 10, 50),
    Case(reported.two_winners, 20, 200),
    Case(reported.result_read_too_soon, 10, 50),
]
