"""minisched, with a thread for each operation, as a library without `RWF_NOWAIT` needs it."""

from __future__ import annotations

import os
from time import process_time

from minisched import InThread, Open, run

from . import BLOCK_BYTES, BLOCKS, file_of_blocks, finished


def file_reads(size):
    def main(path):
        with (yield Open(path)) as file:
            start = process_time()
            for number in range(size):
                data = yield InThread(os.pread, file.fileno(), BLOCK_BYTES, number % BLOCKS * BLOCK_BYTES)
                finished(len(data) // BLOCK_BYTES)
            return process_time() - start

    with file_of_blocks() as path:
        return run(main(path), debug=False)
