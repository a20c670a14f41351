"""A part of an anyio backend on minisched, over which anyio's own tests run unchanged.

It has runs, cancel scopes, task groups, events, locks, semaphores, capacity limiters, worker threads, and calls from
these threads into the run. It has no sockets, processes or signals. `plugin` makes it the only backend of a pytest run.
The adapter uses public names of minisched; where it does not, a comment says so.
"""
