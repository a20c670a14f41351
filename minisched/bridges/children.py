"""The children of this process: their ends, and signals to them and to their process groups, without a race.

Theory of operation. Where the operating system has them (Linux), a *pidfd* refers to the process itself. It is ready
when the process has ended, even if other code has collected the exit status. A signal by it reaches this process or
none. Elsewhere, a pid is used only after a check that the child is still there.

A `Leader` leads a process group, whose number is its pid. The number is not given away while the exit status waits to
be collected. So `has_ended` leaves it there (WNOWAIT), and `collect` takes it when no signal to the group is to follow.
Linux 6.9 sends a signal to the group by the pidfd, also when the leader was collected. Before Python 3.13, macOS can
only collect: the group gets no signal after the end of its leader.

Invariants:
1. No signal goes to a process that is not the child, even if its pid was given to another one, nor to another group.
2. A child whose exit status another part of the program has collected counts as ended.
3. A process that was forked from this one sends no signal to the group of a Leader.

Not here: waiting for the end (`child_processes`); the decision to send a signal; a member that leaves the group, as a
daemon does; orphans (`serving/processes`).
"""

from __future__ import annotations

import errno
import os
import signal

KILL_SECONDS = 5.0  # a process that SIGKILL has not ended by then is in a call of the kernel that does not end
PIDFD_SIGNAL_PROCESS_GROUP = 4  # a flag of `pidfd_send_signal`, from Linux 6.9 on
WNOWAIT: int = os.WNOWAIT if hasattr(os, "waitid") else 0  # macOS has no `waitid` before Python 3.13
UNKNOWN_ENDING = "ended (its status is unknown: another part of the program has collected it)"


class Process:
    """A child of this process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ending = ""  # the end, as part of a sentence; empty until then
        self.returncode: int | None = None  # as that of `subprocess`; None until the end, and if it is unknown
        self.watched = True  # when its pidfd is ready, it can be collected
        self.pidfd = -1  # -1 without one: then the pid is used
        try:
            self.pidfd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            return  # not Linux, an old one, no descriptor left, or the process is gone
        if self.has_ended() and self.is_unknown():
            self.close()  # the pidfd may be that of another process by now

    def has_ended(self) -> bool:
        """Return whether the process has ended; collect its exit status if nothing else has."""
        if not self.ending:
            self.ending = self._collect()
        return bool(self.ending)

    def is_unknown(self) -> bool:
        """Return whether the process has ended, and other code has collected its status."""
        return self.ending == UNKNOWN_ENDING

    def is_watched(self) -> bool:
        """Return whether a wait for its pidfd ends when the process has."""
        return self.watched and self.pidfd >= 0

    def _collect(self, leave: int = 0, block: bool = False) -> str:
        """Return the end of the process, "" before; collect its exit status, unless `leave` is WNOWAIT."""
        options = leave if block else leave | os.WNOHANG
        try:
            if self.pidfd >= 0:
                try:
                    return self._ended(os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | options))
                except ChildProcessError:
                    raise
                except OSError as error:
                    if error.errno != errno.EBADF:  # Linux 5.3 has pidfds that `waitid` does not know
                        self.close()
                    self.pidfd = -1  # the program has closed the descriptor, which may belong to another file now
            if leave:
                return self._ended(os.waitid(os.P_PID, self.pid, os.WEXITED | options))
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:
            return UNKNOWN_ENDING
        except OSError:
            return ""  # not known now; ask again
        return self._describe(os.waitstatus_to_exitcode(status)) if pid else ""

    def _ended(self, result: os.waitid_result | None) -> str:
        if result is None:
            return ""
        return self._describe(result.si_status if result.si_code == os.CLD_EXITED else -result.si_status)

    def _describe(self, code: int) -> str:
        self.returncode = code
        return describe_exit(code)

    def send(self, signum: int) -> None:
        """Send a signal, unless the process has ended; OSError if that is not permitted."""
        if self.has_ended():
            return
        try:
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, signum)
            else:
                os.kill(self.pid, signum)
        except ProcessLookupError:
            pass  # the process ended just now

    def close(self) -> None:
        """Close the pidfd."""
        if self.pidfd >= 0:
            fd, self.pidfd = self.pidfd, -1
            try:
                os.close(fd)
            except OSError:
                pass  # the program has closed it


class Leader(Process):
    """A child that leads a process group of its own, and whose exit status is collected last."""

    def __init__(self, pid: int) -> None:
        self.creator = os.getpid()
        self.collected = False  # from then on, only the pidfd says which group is meant
        super().__init__(pid)
        self.reaches_group = self.pidfd >= 0 and has_group_signals(self.pidfd)

    def has_ended(self, block: bool = False) -> bool:
        """Return whether the process has ended; leave its exit status where it is, so that the pid stays taken.

        `block`: wait for the end.
        """
        if not self.ending:
            self.ending = self._collect(WNOWAIT, block)
            self.collected = self.is_unknown() or (bool(self.ending) and not WNOWAIT)
        return bool(self.ending)

    def collect(self) -> None:
        """Collect the exit status of a process that has ended."""
        if self.has_ended() and not self.collected:
            self.collected = True
            code = self.returncode
            _ = self._collect()
            self.returncode = code  # not that of another child with this pid, if another part was faster

    def send_to_group(self, signum: int) -> bool:
        """Send a signal to the group; return whether there is a group that this process can still name.

        The signal 0 only asks. An ended leader that was not collected counts as a member. Raises PermissionError if
        this process may not signal any member, as that of a set-user-ID program.
        """
        if os.getpid() != self.creator:
            return False
        try:
            if self.pidfd >= 0 and self.reaches_group:
                signal.pidfd_send_signal(self.pidfd, signum, None, PIDFD_SIGNAL_PROCESS_GROUP)
            elif self._is_there():
                os.killpg(self.pid, signum)
            else:
                return False
        except PermissionError:
            raise
        except OSError as error:
            if error.errno == errno.EBADF:  # the program has closed the descriptor
                self.pidfd = -1
            return False
        return True

    def _is_there(self) -> bool:
        """Return whether the child was not collected, by this or another part of the program."""
        if not self.collected and self.has_ended():
            self.collected = self.collected or self._collect(WNOWAIT) == UNKNOWN_ENDING
        return not self.collected

    def is_alone(self) -> bool:
        """Collect a leader that has ended, and return whether its group is known to have no other member."""
        return self.reaches_group and self.has_ended() and self.pidfd >= 0 and not self.group_remains()

    def group_remains(self) -> bool:
        """Collect an ended leader; return whether others of its group are left. False if the system does not tell."""
        if not self.reaches_group or self.pidfd < 0:
            return False
        self.collect()
        try:
            while self.send_to_group(0):
                if os.waitpid(-self.pid, os.WNOHANG)[0] == 0:  # those that this process has inherited, as PID 1
                    return True
        except (ChildProcessError, PermissionError):
            return has_member(self.pid)
        return False

    def kill_now(self) -> bool:
        """Send SIGKILL to the group, and block until the leader has ended; return False after KILL_SECONDS.

        For the end of a run, where no task can wait. In a process that was forked from this one, it does nothing.
        """
        if os.getpid() != self.creator:
            return True
        try:
            _ = self.send_to_group(signal.SIGKILL)
        except PermissionError:
            pass  # the wait below is for a process that may end by itself
        if not self.has_ended():
            self._block()
        self.collect()
        return self.has_ended()

    def _block(self) -> None:
        """Wait until the process has ended, at most KILL_SECONDS where there is a pidfd."""
        if self.pidfd < 0:
            _ = self.has_ended(block=True)
            return
        import select  # imported here: only the abrupt end of a run needs it

        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        _ = poll.poll(1000 * KILL_SECONDS)


def has_group_signals(pidfd: int) -> bool:
    """Return whether the system sends signals to a process group by the pidfd of its leader (Linux 6.9)."""
    try:
        signal.pidfd_send_signal(pidfd, 0, None, PIDFD_SIGNAL_PROCESS_GROUP)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return True


def has_member(pgid: int) -> bool:
    """Return whether a process of a group runs, and is not only waiting for PID 1, which may collect it late or never.

    O(processes of the machine), about 10 microseconds each. True if the system does not tell.
    """
    try:
        names = os.listdir("/proc")
    except OSError:
        return True
    for name in filter(str.isdigit, names):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, _, group = file.read().rpartition(b")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # the process has just ended
        if int(group) == pgid and state not in (b"Z", b"X"):
            return True
    return False


def describe_exit(code: int) -> str:
    """Describe the exit code of a process."""
    if code >= 0:
        return f"ended with status {code}"
    return f"was killed by signal {-code} ({signal.strsignal(-code)})"
