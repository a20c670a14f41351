"""curio's calls in other processes. minisched has none.

Each call has a process of its own, and a cancellation kills the process.
"""

from __future__ import annotations

import os
import pickle
from multiprocessing import get_context

import minisched

# Not forked from this process, which has threads: a fork would copy the locks that they hold.
PROCESSES = get_context("forkserver")


async def run_in_process(function, *args):
    ours, theirs = PROCESSES.Pipe(duplex=False)
    call = pickle.dumps((function, args))
    process = PROCESSES.Process(target=answer, args=(theirs, os.environ["CURIO"], call), daemon=True)
    with ours:
        with theirs:
            process.start()
        try:
            await minisched.WaitReadable(ours.fileno())
            result, error = ours.recv()
        finally:
            process.kill()
            process.join()
    if error is not None:
        raise error
    return result


def answer(sender, checkout, call):
    """Make a call, in the other process, and send its result or its error."""
    from .names import install

    install(checkout)  # first: the function comes from a file that imports curio
    function, args = pickle.loads(call)
    try:
        sender.send((function(*args), None))
    except BaseException as error:
        sender.send((None, error))
