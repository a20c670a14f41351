"""Files: wait until the operating system is ready, then read or write.

| file | contents |
|---|---|
| `filelike` | start here: the methods of a file-like, the state of a file, and its waiters |
| `poller` | the one selector of a run, and which waiter an event wakes |
| `stale` | file descriptors that were closed outside the scheduler |
| `nonblocking` | an operation that is tried, and tried again when the file is ready: `FileOperation` |
| `files` | Read, Write, WaitReadable, WaitWritable, Close |
| `borrowed` | files that the scheduler does not own: an int, a plain socket, a pipe |
| `nowait` | reads and writes that never wait, for a descriptor in whatever mode it is |
| `_selectors2` | the selectors2 package, imported when it is first needed, with its faults contained |
"""
