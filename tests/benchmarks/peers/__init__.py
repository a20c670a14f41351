"""The same work for each peer: a module has a function for each benchmark that the peer can do.

`NAME(size)` does `size` operations (the catalogue says what those are) and returns the seconds of
one, the start of the loop and of what is measured aside. Each is written as the peer's own manual
would have it: its stock loop, contexts, the collector as it is; nothing is left out that its users
would have.
"""

from __future__ import annotations

TASKS = 100  # that take turns
DEADLINES = 0.2  # seconds: the sleepers' deadlines come within these
DENSITY = 2e-6  # seconds for each sleeper, where their number varies
SWITCHES = 20  # of each task, where their number varies: its beginning and end are in the figure, too
LIMIT = 30  # seconds of a timeout that is never reached
LONG = 3600  # seconds that nobody sleeps to the end
