"""Bridges between a run and the world outside of it: other threads, and signals.

The files:
- `threads`: InThread and Submit; `thread_pool`: the threads that InThread uses.
- `portal`: Portal, for calls from other threads; `request`: the future of such a call.
- `universal_queue`: UniversalQueue, which tasks, threads and asyncio code share; `tickets`: those that wait for it.
- `signals`: WaitSignal.
- `interrupt`: Ctrl-C and SIGTERM, which cancel main.
- `wakeup`: how a thread or a signal ends the loop's wait. The files above are built on it.

Not here: files (`io`), and other processes, for which any `concurrent.futures.Executor` will do.
"""
