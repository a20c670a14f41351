"""read_file and write_file: a file is replaced at once or not at all, and nothing is left."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import threading

import pytest
from helpers import nothing_is_left, open_numbers, parked, run, settled, until  # noqa: F401

from minisched import (
    Cancel,
    CurrentTask,
    Join,
    LimitExceeded,
    Spawn,
    TaskCancelled,
    read_file,
    write_file,
)
from minisched.bridges import regular_files, whole_files
from minisched.io import disk
from minisched.testing import cancel_everywhere

OLD, NEW = b"the old file\n", b"the new file, which is longer\n"
needs_modes = pytest.mark.skipif(not hasattr(os, "fchmod"), reason="this system has no modes of files")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(OLD)
    path.chmod(0o640)
    return path


def names(path):
    return sorted(os.listdir(path.parent))


def test_a_file_is_written_and_read_whole(tmp_path):
    async def main():
        for data in b"", b"abc", bytearray(b"abcd"), memoryview(b"abcde"), bytes(3_000_000):
            await write_file(tmp_path / "file", data)
            assert await read_file(str(tmp_path / "file")) == data
        assert os.listdir(tmp_path) == ["file"]

    run(main())


def test_a_generator_reads_and_writes_whole_files(path):
    def main():
        before = yield from read_file(path)
        yield from write_file(os.fsencode(path), NEW)
        return before, (yield from read_file(path))

    assert run(main()) == (OLD, NEW)


@needs_modes
def test_the_mode_of_the_old_file_is_kept_and_a_new_one_has_the_usual_mode(path):
    umask = os.umask(0o027)
    try:
        run(write_file(path, NEW))
        run(write_file(path.parent / "new", NEW))
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o7777 == 0o640
    assert (path.parent / "new").stat().st_mode & 0o7777 == 0o640
    path.chmod(0o4751)
    run(write_file(path, OLD))
    assert path.stat().st_mode & 0o7777 == 0o4751


@needs_modes
@pytest.mark.parametrize("allowed", [True, False])
def test_the_owner_of_the_old_file_is_kept_where_this_process_may_set_it(path, monkeypatch, allowed):
    calls = []

    def fchown(fd, uid, gid):
        calls.append((uid, gid))
        if not allowed:
            raise PermissionError

    real = os.stat(path)
    monkeypatch.setattr(os, "fchown", fchown)
    monkeypatch.setattr(whole_files.Temporary, "_old_file", lambda self: other_owner(real))
    run(write_file(path, NEW))
    assert calls == [(4321, real.st_gid)] and path.read_bytes() == NEW


def other_owner(status):
    fields = list(status)
    fields[4] = 4321
    return os.stat_result(fields)


def test_a_symbolic_link_is_followed(path):
    link, dangling = path.parent / "link", path.parent / "dangling"
    link.symlink_to("file")
    dangling.symlink_to("made")
    run(write_file(link, NEW))
    run(write_file(dangling, b"1"))
    assert link.is_symlink() and path.read_bytes() == NEW and (path.parent / "made").read_bytes() == b"1"
    assert names(path) == ["dangling", "file", "link", "made"]


def test_a_long_name_has_room_for_its_temporary_file(tmp_path):
    run(write_file(tmp_path / ("\N{HANGUL SYLLABLE GAG}" * 85), b"1"))
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "data", "kind", "text"),
    [
        ("", b"1", IsADirectoryError, "directory"),
        ("no folder/file", b"1", FileNotFoundError, "no folder"),
        ("file/below", b"1", NotADirectoryError, "directory"),
        ("fifo", b"1", OSError, "replaces regular files only"),
        ("file", "text", TypeError, "a str is encoded first"),
        (None, b"1", TypeError, "Open takes a path"),
        (3, b"1", TypeError, "not the file descriptor 3"),
    ],
)
def test_a_path_or_data_that_can_not_be_written_is_a_clear_error_and_changes_nothing(path, name, data, kind, text):
    os.mkfifo(path.parent / "fifo")
    with pytest.raises(kind, match=text):
        run(write_file(path.parent / name if isinstance(name, str) else name, data))
    assert names(path) == ["fifo", "file"] and path.read_bytes() == OLD


def test_a_file_that_is_larger_than_the_limit_is_refused(path):
    assert run(read_file(path, limit=len(OLD))) == OLD
    with pytest.raises(LimitExceeded, match="file 'file' has more than 12 bytes"):
        run(read_file(path, limit=len(OLD) - 1))
    with pytest.raises(LimitExceeded, match="file 'zero' has more than 5 bytes"):
        run(read_file("/dev/zero", limit=5))
    with pytest.raises(ValueError, match="limit"):
        run(read_file(path, limit=-1))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(read_file("nowhere"))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="this system has no /proc")
def test_files_that_have_no_size_are_read_to_their_end():
    assert b"Threads:" in run(read_file("/proc/self/status"))


# Failures of each step, and a full disk.


def failing(error):
    def fail(*args, **keywords):
        raise error

    return fail


@pytest.mark.parametrize("step", ["pwrite", "fsync", "replace", "fchmod"])
def test_a_failure_of_any_step_leaves_the_old_file_and_no_other(path, monkeypatch, step):
    monkeypatch.setattr(disk if step == "pwrite" else os, step, failing(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError) as caught:
        run(write_file(path, NEW))
    assert caught.value.errno == errno.ENOSPC
    assert names(path) == ["file"] and path.read_bytes() == OLD


def test_a_folder_that_can_not_be_synced_is_not_a_failure(path, monkeypatch):
    real = os.fsync

    def fsync(fd):
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    run(write_file(path, NEW))
    assert path.read_bytes() == NEW


FULL_DISK = """
import errno, os, sys
from minisched import Open, Read, Write, read_file, run, write_file

def main(path):
    yield from write_file(path, b"old")
    for size in (2_000_000, 30_000_000):
        try:
            yield from write_file(path, bytes(size))
        except OSError as error:
            print(errno.errorcode[error.errno], os.listdir(os.path.dirname(path)))
    with (yield Open(path, "a")) as file:
        try:
            yield Write(file, bytes(30_000_000))
        except OSError as error:
            print(errno.errorcode[error.errno], 500_000 < file.position < 1_100_000)
    print(len((yield from read_file(path))) > 500_000)

run(main(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"), reason="only root mounts a tmpfs"
)
def test_a_full_disk_is_enospc_and_leaves_the_old_file(tmp_path):
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"'  # in a namespace that ends with the process
    program = [sys.executable, "-c", FULL_DISK, str(tmp_path / "file")]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", str(tmp_path), *program], capture_output=True, text=True
    )
    if "permitted" in done.stderr or "denied" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.stdout.splitlines(), done.stderr) == (["ENOSPC ['file']"] * 2 + ["ENOSPC True", "True"], "")


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_an_error_and_leaves_the_old_file(path):
    program = f"""
    import resource, signal
    from minisched import run, write_file
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    run(write_file({str(path)!r}, bytes(2000)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert "File too large" in done.stderr.splitlines()[-1]
    assert names(path) == ["file"] and path.read_bytes() == OLD


# Cancellation, and the end of the run.


def test_a_write_that_is_cancelled_anywhere_leaves_the_old_file_or_the_new_one(path, monkeypatch):
    monkeypatch.setattr(regular_files, "MAX_PIECE_BYTES", 16)
    seen, before = set(), open_numbers()

    def make():
        path.write_bytes(OLD)
        done = []

        def main():
            yield from write_file(path, NEW)
            done.append(1)

        def check():
            content = path.read_bytes()
            seen.add(content)
            assert content in (OLD, NEW) and names(path) == ["file"]
            assert not done or content == NEW
            settled(open_numbers, before)

        return main(), check

    assert cancel_everywhere(make) > 8
    assert seen == {OLD, NEW}


def test_a_read_that_is_cancelled_anywhere_leaves_no_file_open(path, monkeypatch):
    monkeypatch.setattr(regular_files, "read_cached", lambda fd, size, offset: None)

    before = open_numbers()

    def make():
        return read_file(path), lambda: settled(open_numbers, before)

    assert cancel_everywhere(make) > 4


@pytest.mark.parametrize("step", ["make", "replace"])
def test_a_run_that_is_aborted_leaves_no_temporary_file(path, monkeypatch, step):
    """As by a second Ctrl-C, while a thread makes the file, or renames it."""
    entered, may_go = threading.Event(), threading.Event()
    real = getattr(whole_files.Temporary, step)

    def slow(self, *args):
        entered.set()
        assert may_go.wait(20)
        return real(self, *args)

    monkeypatch.setattr(whole_files.Temporary, step, slow)

    def main():
        kernel = (yield CurrentTask()).kernel
        yield Spawn(write_file(path, NEW))
        yield from until(entered.is_set)
        kernel.fault = KeyboardInterrupt()
        yield

    with pytest.raises(KeyboardInterrupt):
        run(main())
    if step == "replace":
        assert names(path) == ["file"]
        monkeypatch.setattr(os, "replace", lambda *names: None)  # the temporary file is gone already
    may_go.set()
    settled(lambda: names(path), ["file"])
    assert path.read_bytes() == OLD


def test_a_cancelled_write_has_not_happened_once_its_task_has_ended(path, monkeypatch):
    monkeypatch.setattr(regular_files, "MAX_PIECE_BYTES", 4)
    entered, may_go = threading.Event(), threading.Event()
    real = disk.pwrite

    def slow(fd, data, offset):
        entered.set()
        assert may_go.wait(20)
        return real(fd, data, offset)

    monkeypatch.setattr(disk, "pwrite", slow)

    def main():
        task = yield Spawn(write_file(path, NEW), keep=True)
        yield from until(entered.is_set)
        yield Cancel(task)
        yield from parked(task)  # until the piece is written
        may_go.set()
        with pytest.raises(TaskCancelled):
            yield Join(task)
        assert names(path) == ["file"]

    run(main())
    assert path.read_bytes() == OLD
