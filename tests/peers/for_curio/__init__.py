"""curio's names on minisched, so that curio's own tests run unchanged.

`names.install(checkout)` makes `import curio` mean this. Errors, tasks, groups, time limits, synchronization, queues,
calls in threads and processes, traps and the kernel are written here. The modules `io`, `socket`, `network`, `ssl`,
`file`, `channel`, `thread`, `subprocess` and `meta` are curio's own, from the checkout. They wait by WaitReadable and
WaitWritable. The adapter uses public names of minisched; where it does not, a comment says so.

With `SPAWN=at_once` in the environment, `spawn` is the kernel's verb, a plain call. A task then goes on before the
first turn of its child, as in curio.
"""
