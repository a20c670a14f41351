"""A user's syscall: wait for the end of a child process, by its descriptor."""

import os
import subprocess

from minisched import FileOperation, Kernel


class WaitProcess(FileOperation[int]):
    """Wait for the end of a child process; return its exit status."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def open(self, kernel: Kernel) -> int:
        return os.pidfd_open(self.process.pid)

    def try_once(self, file: int) -> int:
        status = self.process.poll()
        if status is None:
            raise BlockingIOError
        return status

    def release(self, file: int) -> None:
        os.close(file)
