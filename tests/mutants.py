"""Named one-line mutations of the core, each of which some test has to notice: `python -m tests.mutants [NAME ...]`.

A mutant is the package with one fragment replaced. It is *killed* when a test of the module fails or
hangs; one that survives says that nothing tests that line, or that the line does nothing.
`--list` names them all.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS = 60  # a mutant that runs for so long hangs: killed; and so does one that takes much longer than without it
SLOWER = 3  # times as long, and
AT_LEAST = 10  # seconds
AT_ONCE = 2

# What is mutated, and the tests that have to notice.
TESTS = {
    "tree": ["test_kernel.py", "test_scopes.py", "test_tasks.py"],
    "kernel": ["test_kernel.py", "test_scopes.py", "test_tasks.py"],
    "waiting": ["test_waiting.py", "test_locks.py"],
    "clocks": ["test_timers.py"],
    "timers": ["test_timers.py"],
    "scopes": ["test_scopes.py", "test_timeouts.py", "test_kernel.py", "test_tasks.py", "test_taskgroup.py"],
    "family": ["test_tasks.py", "test_locks.py"],
    "tasks": ["test_tasks.py"],
    "locks": ["test_locks.py"],
    "sync": ["test_sync.py"],
    "queues": ["test_queues.py"],
    "taskgroup": ["test_taskgroup.py", "test_groups.py"],
    "groups": ["test_groups.py"],
    "supervision": ["test_supervision.py"],
    "loop": ["test_loop.py", "test_wakeup.py", "test_second_signal.py", "test_fork.py"],
    "entries": ["test_files.py", "test_poller.py"],
    "poller": ["test_poller.py", "test_files.py", "test_traps.py"],
    "attempts": ["test_files.py"],
    "files": ["test_files.py"],
    "foreign": ["test_files.py", "test_traps.py"],
    "network": ["test_sockets.py", "test_workers.py", "test_files.py", "test_limits.py"],
    "server": ["test_serve.py", "test_limits.py", "test_listening.py", "test_hostile.py", "test_exhaustion.py"],
    "serve": ["test_serve.py", "test_listening.py", "test_limits.py"],
    "workers": ["test_workers.py"],
    "threads": ["test_threads.py"],
    "signals": ["test_signals.py"],
    "wakeup": ["test_wakeup.py", "test_second_signal.py"],
    "watch": ["test_watch.py"],
}


# Those that touch cancellation and that a program can show: the reference interpreter alone has to find them, too.
REFERENCE = "test_reference.py"
SEED = "1"  # of its random programs, so that each run of this finds the same
BY_REFERENCE = """
kernel: a bare yield is no checkpoint
kernel: every call is a checkpoint
kernel: a child hangs under the task, not its innermost scope
kernel: a child of a cancelled scope is not told
kernel: an undo is dropped
tree: a shield lets cancellation through
tree: the innermost cancellation comes first
kernel: a task behind a shield is woken
kernel: a second cancellation replaces the first
scopes: a child is not handed outward
scopes: a child that is handed outward is cancelled no more
scopes: the innermost cancelled scope swallows
scopes: a scope that took nothing says that it did
scopes: a scope entered after a cancellation is not told
scopes: a timeout that is left goes off
scopes: a deadline in the past does not count
scopes: a lifted shield still shields
family: joiners of a cancelled task get a result
family: a failing task lets its children go on
family: a failing child lets its parent go on
family: a stray Cancelled passes for a cancellation
""".strip().splitlines()


# Of which module, and what happens there; the fragment, which occurs once; what takes its place.
MUTANTS = """
kernel: the limit on turns is ignored
- limit if ready else 0
+ 1000 if ready else 0

kernel: a bare yield returns the answer before
- task.value = None
-                 if watch is not None:
+ if watch is not None:

kernel: a bare yield is no checkpoint
- (call is None or getattr(
+ (call is not None and getattr(

kernel: every call is a checkpoint
- getattr(call, "checkpoint", False)
+ True

kernel: a broken rule that was caught is forgotten
- self.current = None
-         if self.fault is not None:
+ self.current = None
+         if False:

kernel: a handler can't say what is waited for
- if task.place is parked and task.call is None:
+ if task.place is parked:

watch: what the undo returned passes for the answer
- task.step in (Task.cancel_in, task.cancel_in)
+ task.step == Task.cancel_in

kernel: a woken task may be woken again
- if task.place is not PARKED:
+ if task.place not in (PARKED, READY):

kernel: a task may be parked twice
- if task.value is not HANDLING or task is not self.current:
+ if task is not self.current:

kernel: the last task ends, and another one is asked for
- ended(task, error)
-                 if not ready:
+ ended(task, error)
+                 if False:

kernel: the last task is closed, and another one is asked for
- self._deliver(task, call)
-                 if not ready:
+ self._deliver(task, call)
+                 if False:

kernel: the last task parks, and another one is asked for
- self._interrupt(task)
-                 if not ready:
+ self._interrupt(task)
+                 if False:

kernel: a handler that raises leaves its wait behind
-             _ = self.forget(task)
+             pass

tree: a thrown error loses its traceback
- thrown[0].with_traceback(thrown[1])
+ thrown[0]

kernel: the context is shared with the parent
- parent.context.copy()
+ parent.context

kernel: a child hangs under the task, not its innermost scope
- = parent.scope, parent.context.copy(), parent.spawned
+ = parent, parent.context.copy(), parent.spawned

kernel: a child of a cancelled scope is not told
- task.parent, task.cause = above, above.cause
+ task.parent, task.cause = above, None

kernel: a daemon is waited for
-             if not daemon:
+             if True:

kernel: the error of close is lost
- error.add_note(
+ str(

kernel: an undo is dropped
- undo, task.undo = task.undo, None
+ undo, task.undo = None, None

kernel: an undo is called twice
- return undo() if undo
+ return (undo(), undo())[1] if undo

tree: how far a cancelled call came is lost
- Cancelled(*cause, done)
+ Cancelled(*cause)

tree: a shield lets cancellation through
- parent.cause is None or self.shield
+ parent.cause is None

tree: the innermost cancellation comes first
- return self.own if parent
+ return self.own if self.own or parent

kernel: a task behind a shield is woken
- and task.scope is scope and task.undo is not None:
+ and task.undo is not None:

kernel: a wait without an undo is given up
- and task.scope is scope and task.undo is not None:
+ and task.scope is scope and task.place is PARKED:

kernel: a task that its own handler cancels sleeps on
- if task.undo is not None and task.scope.cause is not None:  # cancelled by its handler
+ if False:  # cancelled by its handler

kernel: a second cancellation replaces the first
- if scope.own is None and not
+ if not

kernel: cancelling a task that is done marks it
- left = scope.place is DONE if isinstance(scope, Task) else
+ left = False if isinstance(scope, Task) else

kernel: cancelling a scope that was left marks it
- else scope.task is not None and scope.parent is None
+ else False

kernel: one Cancelled too few may be swallowed
- told[1] < MAX_SWALLOWED
+ told[1] < MAX_SWALLOWED - 1

tree: Cancelleds of all cancellations are added up
- and self.told[0] is cause else 1
+ else 1

scopes: a child is not handed outward
-         child.hang(outer)
+         pass

scopes: a child that is handed outward is cancelled no more
-         child.own = child.own or own
+         pass

scopes: the innermost cancelled scope swallows
- scope.own if scope.cause is scope.own else None
+ scope.own

scopes: a scope may be left out of order
-  or task.scope is not scope:
+ :

scopes: a scope that took nothing says that it did
- scope.cancelled = rest is not error
+ scope.cancelled = True

scopes: a scope may be entered twice
- if scope.task is not None:
+ if False:

scopes: a scope entered after a cancellation is not told
-             self.cause = self.visible()
+             pass

family: the failure of a kept child that nobody joins is lost
- not (task.keep and task in self.joiners)
+ not task.keep

family: a failure that was dealt with is the parent's all the same
- is not None and not dealt_with and not
+ is not None and not

family: a failure that was joined late is stated twice
- self.failed[parent].pop(task, None)
+ self.failed[parent].get(task)

family: joiners are not woken
- for joiner in list(joiners):
+ for joiner in ():

family: joiners of a cancelled task get a result
- if task.cancelled:
+ if False:

tasks: a task may join its ancestor
- if ancestor is self.task:
+ if False:

family: daemons are not cancelled
- self.kernel.cancel(task, f"its parent {task.name!r} has ended", task)
+ pass

family: a failing task lets its children go on
- (task.cancelled or task.failure is not None)
+ task.cancelled

family: a failing child lets its parent go on
- if not task.keep:
+ if False:

family: a parent does not wait for its children
- while task.live == 0:
+ while True:

family: JoinAll returns after the first child
- and parent.live == 0 and parent in
+ and parent in

tasks: a cancelled JoinAll is not forgotten
- partial(joining.pop, task)
+ partial(joining.get, task)

family: failures are stated in the wrong order
- list(self.failed.pop(task))
+ list(reversed(self.failed.pop(task)))

family: a stray Cancelled passes for a cancellation
- if task.cause is None:
+ if False:

family: a scope that was not left hides its Cancelled
- error = leave(task.scope, error)
+ leave(task.scope, error)

family: KeyboardInterrupt in a task is not raised by run
-             self.quit = error
+             pass

timers: a clock is told the timer
- return float(near[-1])
+ return near[-1]

timers: ties fire in reverse
-     timers.sort()
-     timers.reverse()
+     timers.sort(reverse=True)

timers: those that come late to a slot come first
-             self.near.reverse()
-             self.near += late
+             self.near += late

timers: a timer fires early
- if near[-1] > now:
+ if near[-1] > now + 0.5:

timers: what is late to its slot waits for the next one
- if number <= self.opened:
+ if False:

timers: a slot is opened too late
- self.first <= now * SLOTS:
+ self.first < now * SLOTS - 1:

timers: what one raises loses the others
- what = self._taken()  # before
+ what, near[:] = self._taken(), []  # before

timers: forgotten ones are kept until their time comes
- if self.forgotten > SWEPT and
+ if False and

timers: a limit that was left goes off
- if limited.timer is not LOOSE:
+ if False:

timers: a sorted timer can't be taken back
-             self.what = None
-             self.timers.forgotten += 1
+             self.timers.forgotten += 1

clocks: a wait may be longer than a day
- min(max(deadline - monotonic(), 0.0), DAY)
+ max(deadline - monotonic(), 0.0)

timers: NaN is taken for a duration
- if not self > 0:
+ if self < 0:

timers: for ever is a deadline
-         if deadline < inf:
-             timer.what = what
+         if True:
+             timer.what = what

loop: a batch has no bound
- turns(self.batch)
+ turns(sys.maxsize)

loop: a slow batch is not halved
- max(self.batch // 2, 1)
+ self.batch

loop: a batch stays small
- min(self.batch * 2, BATCH)
+ self.batch

loop: files are looked at after each batch
- seen = left <= 0 and len(
+ seen = len(

loop: ready tasks keep files waiting
- or ended >= until
+ or False

loop: files wait for 10 ms while few tasks are ready
- if seen or wanted
+ if wanted

loop: files are looked at where there are none
- seen = left <= 0 and len(poller.entries) > poller.silent
+ seen = left <= 0

loop: a thread waits while tasks are ready
- if seen or wanted
+ if seen

loop: timers wait for files
-             timers.fire()
-             started = now()
+             started = now()

loop: who waits for a file counts for nothing
- if deadline is None and not any(
+ if deadline is None or not any(

loop: the first Ctrl-C ends the run at once
-             if wakeup.interrupts > 1:
+             if wakeup.interrupts > 0:

loop: run may be called inside run
- _thread.busy = INSIDE
+ pass

loop: an abandoned run closes parents first
- list(reversed(list(self.kernel.tasks())))
+ list(self.kernel.tasks())

loop: an abandoned run undoes no wait
- _ = self.kernel.forget(task)
+ pass

loop: hooks are not put back
- sys.set_asyncgen_hooks(*self.hooks)
+ pass

poller: two may wait for one direction
- if entry.waiter(direction) is not None:
+ if False:

poller: a refused file stays known
-                 self.drop(entry)
-                 raise
+                 raise

poller: events that nobody waits for are not counted
- entry.misses += 1
+ pass

poller: events that nobody waits for are tolerated once more
- entry.misses < PATIENCE
+ entry.misses <= PATIENCE

poller: events in a row are not in a row
- entry.reader, entry.misses = None, 0
+ entry.reader = None

poller: what is read at once uses up the patience
- entry.short, entry.misses = False, 1
+ entry.short, entry.misses = False, entry.misses + 1

poller: what is read at once uses up the patience to write
- entry.short, entry.misses = False, 0
+ entry.short = False

poller: it is not known that a file can be read without waiting
-                     entry.short, entry.misses = False, 1
+                     entry.misses = 1

poller: what can be written to is taken for what can be read
- if events & READ and entry.short:  # it
+ if entry.short:  # it

poller: a task that has not had its turn uses up the patience
- PATIENCE + len(self.kernel.ready)
+ PATIENCE

poller: who was told is told again
- waiter, entry.writer = entry.writer, None
+ waiter = entry.writer

poller: closing wakes nobody
- waiter.closed()
+ pass

poller: a foreign file stays registered
-         if not entry.lasting:
-             self._relax(entry)
-         elif missed:
+         if False:
+             self._relax(entry)
+         elif missed:

poller: a reused number is told of what the old file had
-         if entry.since == self.looks:
+         if False:

poller: the event of a reused number is not looked at closely
- if mask != IN or entry.since >= looks:
+ if mask != IN:

poller: the new file of a reused number is never told
- self.looks = looks = self.looks + 1
+ looks = self.looks

poller: who is no task keeps a deadlock from being seen
- return self.waiting - self.silent
+ return self.waiting

poller: who waited for a reused number is not told
-                     self.drop(other)
+                     pass

entries: what is closed can be waited for
- CLOSED.reader = CLOSED.writer = taken
+ pass

entries: who waits to read is taken for who waits to write
- return self.reader if direction == READ else self.writer
+ return self.reader or self.writer

attempts: what is closed is said to be waited for
- if file.entry is CLOSED:
+ if False:

foreign: a number's reuse is not seen while it is waited for
- if entry is not None and entry.file is not None and entry.file != identity(fd):
+ if False:

foreign: a file in blocking mode is tried before it is ready
- self.entry.short = self.blocking
+ pass

network: a closed connection is waited for
- return self.entry is not CLOSED and self.entry.wanted() != 0
+ return self.entry.wanted() != 0

network: a closed socket whose number is open is waited for
- if known is CLOSED or self.fileno() < 0:
+ if self.fileno() < 0:

network: what the last read has said is forgotten in the next run
- self.entry.short, self.entry.active = known.short, known.active
+ pass

poller: who waited is still there in the next run
- entry.events = 0
-             entry.reader = entry.writer = None
+ entry.events = 0

network: the entry of another run is used
- self.entry = poller.entry(self.fileno(), lasting=True)
+ self.entry.poller = poller

files: a second reader may try
- if entry.reader is not None:
+ if False:

files: a second writer may try
- if entry.writer is not None:
+ if False:

files: what a short write left is lost
- return Writing(task, file, data, written).wait()
+ return written

attempts: what came in vain is an answer
-         except BlockingIOError as error:
-             self._wait_again(
+         except BlockingIOError as error:
+             self.kernel.resume(self.task) or str(

attempts: an undone wait is still watched
- self.file.unwatch(self.task.kernel, self.waits)
+ pass

waiting: who waits is woken in another thread, too
- if self.kernel is not None and self.thread != get_ident():
+ if False:

waiting: of two calls that can be done both are
- return number, answer
+ done = number, answer
+         if self.calls and "done" in locals():
+             return done

waiting: the losers of a select wait on
- if number != but:
+ if False:

waiting: a primitive is used by two runs at once
- if self.kernel is not None and self.in_use():
+ if False:

scopes: a timeout that is left goes off
-             if timer is not None and timer.what is not None:
-                 timer.forget()
+             pass

scopes: a deadline in the past does not count
- if self._deadline <= timers.now():
+ if self._deadline < 0:

scopes: a timeout says so, whatever the cause
- self.expired = self.expired or self.own is None
+ self.expired = True

scopes: a lifted shield still shields
- self.shield = False
+ pass

scopes: a scope is entered by another task
- if kernel.current is not task or self.task is not None:
+ if self.task is not None:

scopes: a member hangs under a timeout of its group's owner
-         child.hang(scope)
+         child.hang(child.parent)

family: who waits for an ended task's lock is not told
- for tell in [told] if callable(told) else list(told):
+ for tell in []:

locks: the lock goes to the last who waits
- waiter, _ = self.waiters.popitem(last=False)
-         self.owner
+ waiter, _ = self.waiters.popitem()
+         self.owner

locks: a lock with waiters is free between two owners
- self.owner = waiter if isinstance(waiter, Task) else waiter.task
+ self.owner = None

locks: anybody releases a lock
- return self.owner is not None and self.owner.kernel.current is self.owner
+ return True

locks: a cancelled wait for a condition comes back without the lock
-             yield Reacquire(self.lock)
-             raise
+             raise

locks: the wait for the lock after a condition can be cancelled
- checkpoint = False
+ checkpoint = True

sync: an event wakes one
- while self.waiters and kernel is not None:
+ if self.waiters and kernel is not None:

sync: a permit is granted twice
- self.semaphore.value -= 1
+ pass

sync: a barrier lets one too few through
- len(barrier.waiters) + 1 < barrier.parties
+ len(barrier.waiters) + 2 < barrier.parties

queues: an item goes into the buffer past those who wait
- if self.waiters and self.kernel is not None:
+ if False:

queues: a putter's item is lost
-             items.append(item)
-             resume
+             resume

queues: a closed queue is closed to getters at once
-         if items:
-             return items.popleft()
-         if self.closed:
-             raise self._closed()
+         if self.closed:
+             raise self._closed()
+         if items:
+             return items.popleft()

queues: a cancelled putter's item is put
- Leaving(self.queue.putters, waiter)
+ Leaving({waiter: None}, waiter)

queues: a slow subscriber is not told
- if behind > kept:
+ if False:

taskgroup: a group is left before its children have ended
- while self.alive:  # again
+ while False:  # again

taskgroup: a failing child does not end the group
- and self.note(child):
+ and self.note(child) and False:

taskgroup: the body's own error is lost
- errors = [] if own is None else [own]
+ errors = []

groups: a race has no winner
- or child is self.winner
+ or False

groups: results come in the order of the ends
- for child in team.members]
+ for child in reversed(team.members)]

supervision: a failing child is not started again
- if child.failure is None:
+ if True:

supervision: old failures count for ever
- while recent[0] < now - within:
+ while False:

poller: a number that is reported for ever is borne with
- if self.vain >= VAIN:
+ if False:

network: a path that is somebody else's is removed
- if (found.st_dev, found.st_ino) == file:
+ if True:

network: a forked process removes the path
- if process == os.getpid():
+ if True:

network: who waits for a socket that is closed is not told
-             self._leave()
-         finally:
+             pass
+         finally:

server: a connection outlives its handler
- self.connections.pop(child).conn.close()
+ self.connections.pop(child)

server: a handler's failure is the server's
-         log_failure(child.name, self.connections[child].conn, child.failure)
-         return False
+         return super().note(child)

server: there are more connections than allowed
- room = min(AT_ONCE, server.max_connections - len(server.alive))
+ room = AT_ONCE

server: without files it ends
- if error.errno not in EXHAUSTED:
+ if True:

server: that no files are left is said again and again
- if not self.exhausted:
+ if True:

server: without files it spins
- yield Sleep(PAUSE)
+ yield

server: a connection that was lost before it was accepted ends it
- if error.errno in GONE or isinstance(
+ if isinstance(

server: the idle stay
- if connection.idle_for(now) >= limit and
+ if False and

server: a byte does not start the count again
- if self.conn.entry.active or not self.conn
+ if not self.conn

server: who does something else is idle
- or not self.conn.is_waited_for()
+ or False

server: handlers are cancelled with it
- with (yield Shield(None)):
-             yield from self.begin()
+ with (yield Shield(0)):
+             yield from self.begin()

server: grace is for ever
- with (yield MoveOnAfter(self.grace)):
+ with (yield MoveOnAfter(None)):

server: who was cut is not said
- self.say_who_is_cut()
+ pass

server: the limit of files stays low
- resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
+ pass

serve: a stopping server still listens
- listener.close()
-         server.stopping.set()
+ pass
+         server.stopping.set()

serve: SIGTERM does not stop it
- yield TakeSigterm()
+ yield

workers: one that dies is not replaced
-             else:
-                 self.replace(mask)
+             else:
+                 pass

workers: one that dies at once is replaced at once
- if lived < AT_ONCE:
+ if False:

workers: they stay when the first process is killed
- _ = yield Spawn(watch_over(lifeline), "lifeline", daemon=True)
+ _ = lifeline

workers: clients may connect to a stopping server
- _ = self.stop_listening()
+ pass

workers: a signal does not stop them
- self.tell(signal.SIGTERM)
+ pass

threads: a cancellation does not wait for the thread
- partial(self._abandon, task) if abandon else None
+ partial(self._abandon, task)

threads: nothing is abandoned
- partial(self._abandon, task) if abandon else None
+ None

threads: the function does not see the context
- partial(task.context.copy().run, checked(self.function), *self.args)
+ partial(checked(self.function), *self.args)

threads: a run with an open portal is a deadlock
- return len(self.waiting) + len(self.portals)
+ return len(self.waiting)

threads: there is no limit to them
- min(self.busy, LIMIT)
+ self.busy

threads: a portal that is closed answers nobody
- future.set_exception(ClosedError("the portal was closed
+ str(ClosedError("the portal was closed

signals: what was there is not restored
- _ = signal.signal(signum, signal.SIG_DFL if before is None else before)
+ pass

signals: one that comes between two waits is lost
- self.come[task][signum] = None
+ pass

signals: to wait for one is a deadlock
- return len(self.waiting)
+ return 0

wakeup: a wakeup that is gone still counts
- self.kernel.service(Poller).silent -= 1
+ pass

wakeup: a second Ctrl-C is raised in our own lines
- or called.f_code not in CALLERS:
+ or False:

wakeup: a second Ctrl-C is raised in a handler
- and task.value is not HANDLING)
+ and True)

wakeup: a second Ctrl-C waits for a task that spins
- (self.interrupts == 2 and self._in_body(frame))
+ False

wakeup: a third Ctrl-C waits
- self.interrupts > 2 or
+ False or

wakeup: Ctrl-C stays ours after the run
- _ = signal.signal(signum, usual)
+ pass

loop: a forked run goes on
- _ = kernel.misuse(FORKED)
+ pass

loop: what a third Ctrl-C broke off hides it
- if self.wakeup.interrupts > 1 and isinstance(error, Exception):
+ if False:
"""


class Mutant(NamedTuple):
    """`old` occurs once in the module, and is replaced by `new`."""

    module: str
    name: str
    old: str
    new: str


# Runs pytest on the mutated copy in argv[1], and nothing else: neither an installed minisched nor all memory.
DRIVER = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
except ImportError:
    pass
import minisched, pytest
assert minisched.__file__.startswith(sys.argv[1]), f"{minisched.__file__} is not the mutated copy"
sys.exit(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def main() -> int:
    """Run the mutants that are named, or all of them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a mutant's name, a part of it, or a module")
    parser.add_argument("--list", action="store_true", help="name them and exit")
    wanted = parser.parse_args()
    mutants = [m for m in all_mutants() if not wanted.names or any(n == m.module or n in m.name for n in wanted.names)]
    if wanted.list:
        print(*(f"{mutant.module:<8} {mutant.name}" for mutant in mutants), sep="\n")
        return 0
    if not mutants:
        parser.error(f"no mutant is called {' or '.join(wanted.names)}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        broken = unmutated_failures(Path(folder), pool, {mutant.module for mutant in mutants})
        if broken:
            print(*broken, sep="\n")
            return 1
        tried = [(mutant, TESTS[mutant.module]) for mutant in mutants]
        tried += [(mutant, [REFERENCE]) for mutant in mutants if f"{mutant.module}: {mutant.name}" in BY_REFERENCE]
        killed = sum(pool.map(lambda trial: report(*trial, Path(folder)), tried))
    print(f"{killed} of {len(tried)} killed in {time.monotonic() - started:.0f} s")
    return 0 if killed == len(tried) else 1


def all_mutants() -> list[Mutant]:
    """Return what the table says."""
    mutants: list[Mutant] = []
    for entry in MUTANTS.strip().split("\n\n"):
        title, *lines = entry.splitlines()
        module, _, name = title.partition(": ")
        old, new = ("\n".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
        mutants.append(Mutant(module, name, old, new))
    return mutants


def unmutated_failures(folder: Path, pool: ThreadPoolExecutor, modules: set[str]) -> list[str]:
    """Return what keeps the mutants from proving anything: tests that fail without them, fragments that are gone."""
    wrong = [f"{mutant.module}: {mutant.name}: {problem}" for mutant in all_mutants() if (problem := misfit(mutant))]
    known = {f"{mutant.module}: {mutant.name}" for mutant in all_mutants()}
    wrong += [f"{name}: there is no such mutant" for name in BY_REFERENCE if name not in known]
    needed = dict.fromkeys([REFERENCE, *(name for module in sorted(modules) for name in TESTS[module])])
    wrong += [f"tests/{name} is not there" for name in needed if not (ROOT / "tests" / name).exists()]
    if wrong:
        return wrong
    fates = pool.map(lambda module: timed(module, copy(folder / f"unmutated-{module}")), sorted(modules))
    return [f"without any mutation: {fate}" for fate in fates if fate]


def timed(module: str, place: Path) -> str | None:
    """Run the tests of a module that is not mutated; take note of how long a mutant may take."""
    start = time.monotonic()
    fate = run_tests(place, TESTS[module])
    patience[module] = min(max((time.monotonic() - start) * SLOWER, AT_LEAST), SECONDS)
    return fate


patience: dict[str, float] = {}  # seconds


def misfit(mutant: Mutant) -> str | None:
    """Return why a mutant can't be made; None if it can."""
    found = (ROOT / "minisched" / f"{mutant.module}.py").read_text().count(mutant.old)
    return None if found == 1 else f"{mutant.old!r} occurs {found} times, not once"


def report(mutant: Mutant, tests: list[str], folder: Path) -> bool:
    """Run tests on a mutant, print its fate, and return whether it was killed."""
    place = copy(folder / re.sub(r"\W+", "-", f"{mutant.module} {mutant.name} {tests[0]}"))
    module = place / "minisched" / f"{mutant.module}.py"
    module.write_text(module.read_text().replace(mutant.old, mutant.new))
    fate = run_tests(place, tests, SECONDS if tests == [REFERENCE] else patience[mutant.module])
    print(f"{mutant.module:<8} {mutant.name:<58} {fate or 'SURVIVED'}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    return fate is not None


def copy(place: Path) -> Path:
    """Copy what the tests need to `place`; return it."""
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in ("minisched", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def run_tests(place: Path, tests: list[str], seconds: float = SECONDS) -> str | None:
    """Run tests on the package in `place`; return what killed it, None if it lives."""
    # realpath: where the temporary folder is a link, modules say where it leads.
    command = [sys.executable, "-c", DRIVER, os.path.realpath(place), *(f"tests/{name}" for name in tests)]
    # -c puts the working directory first on the path: before any installed minisched.
    process = subprocess.Popen(
        command, cwd=os.path.realpath(place), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        env={key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"} | {"MINISCHED_SEED": SEED},
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return "killed: it hangs"
    finally:
        kill_group(process)
    if process.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", output, re.MULTILINE)
    if process.returncode == 1 and failed:
        return f"killed by {failed[1]}"
    if "INTERNALERROR" in output or process.returncode < 0 or "KeyboardInterrupt" in output:
        return f"killed: pytest broke off (status {process.returncode})"
    raise RuntimeError(f"pytest did not run in {place}:\n{output}")


def kill_group(process: subprocess.Popen[str]) -> None:
    """End a process and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()


if __name__ == "__main__":
    sys.exit(main())
