"""The demo that copies a folder: `demos/copy_files.py`."""

from __future__ import annotations

import os
import re

import pytest
from helpers import nothing_is_left, open_numbers, settled  # noqa: F401
from programs import ROOT, assert_one_line, finished, started

from minisched.testing import cancel_everywhere, run

DEMO = ROOT / "demos" / "copy_files.py"


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(DEMO.parent)
    import copy_files

    return copy_files


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "source"
    (source / "inner" / "empty").mkdir(parents=True)
    (source / "a").write_bytes(b"1" * 10)
    (source / "inner" / "large").write_bytes(bytes(range(256)) * 10_000)
    (source / "inner" / "b").write_bytes(b"")
    (source / "link").symlink_to("nowhere")
    (source / "to folder").symlink_to("inner")
    (source / "inner" / "b").chmod(0o600)
    (source / "inner").chmod(0o750)
    os.utime(source / "a", (10**9, 10**9))
    return source


def contents(folder):
    """Return what is in a folder, by relative path: the bytes and the mode of a file, or where a link leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = (path.is_dir() or path.read_bytes(), path.stat().st_mode & 0o777)
    return found


def copied(demo, source, target, at_once=3):
    return run(demo.Copy(source, target, at_once).run())


def test_a_folder_is_copied_with_modes_times_and_links(demo, source, tmp_path):
    plan = copied(demo, source, tmp_path / "target")
    assert contents(tmp_path / "target") == contents(source)
    assert (tmp_path / "target" / "a").stat().st_mtime == 10**9
    assert plan.bytes == 2_560_010 and (len(plan.files), len(plan.links), plan.others) == (3, 2, [])


def test_files_that_are_there_are_replaced(demo, source, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").symlink_to("elsewhere")
    (target / "kept").write_bytes(b"kept")
    copied(demo, source, target)
    assert contents(target).items() >= contents(source).items()
    assert (target / "kept").read_bytes() == b"kept" and not (target / "elsewhere").exists()


def test_no_more_files_than_asked_for_are_copied_at_once(demo, source, tmp_path):
    for number in range(20):
        (source / str(number)).write_bytes(b"x")
    copy = demo.Copy(source, tmp_path / "target", 2)
    most = []
    part_of = copy.part_of

    def counting(path):
        most.append(len(list((tmp_path / "target").rglob(".copy-*"))))
        return part_of(path)

    copy.part_of = counting
    run(copy.run())
    assert len(most) == 25 and max(most) <= 1  # the other one's


@pytest.mark.slow
def test_a_copy_that_is_cancelled_anywhere_leaves_no_half_file(demo, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in "ab":
        (source / name).write_bytes(name.encode() * 100)
    (source / "link").symlink_to("a")
    seen, before = set(), open_numbers()

    def make():
        def check():
            found = contents(target) if target.exists() else {}
            seen.add(len(found))
            assert found.items() <= contents(source).items()
            settled(open_numbers, before)
            for path in target.rglob("*"):
                path.unlink()

        return demo.Copy(source, target, 2).run(), check

    assert cancel_everywhere(make) > 20
    assert seen >= {0, 3}


def test_a_failure_of_one_file_ends_the_copy_and_leaves_no_half_file(demo, source, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo.os, "replace", full)
    with pytest.raises(demo.CopyError, match="No space left on device"):
        copied(demo, source, tmp_path / "target")
    assert all(value[0] is True for value in contents(tmp_path / "target").values())


def test_a_link_in_the_target_is_not_followed(demo, source, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "target" / "inner").symlink_to(tmp_path / "outside")
    with pytest.raises(demo.CopyError, match="inner: is a symbolic link, which leads out of the target"):
        copied(demo, source, tmp_path / "target")
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize(
    ("folder", "target", "text"),
    [
        ("nowhere", "target", "nowhere: not a folder"),
        ("source/a", "target", "source/a: not a folder"),
        ("source", "source", "source: is in the folder to be copied"),
        ("source", "source/inner/new", "source/inner/new: is in the folder to be copied"),
    ],
)
def test_a_folder_that_can_not_be_copied_is_one_line(demo, source, tmp_path, monkeypatch, folder, target, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"copy_files: {text}"):
        demo.main(folder, target)


@pytest.mark.slow
def test_the_program_copies_a_folder_and_names_what_it_has_left_out(source, tmp_path):
    result = finished(DEMO, source, tmp_path / "target", "--at-once", 2)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("copied 3 files and 2 links, 2.6 MB, in ")
    os.mkfifo(source / "fifo")
    result = finished(DEMO, source, tmp_path / "target")
    assert result.returncode == 1 and result.stderr.endswith(
        "source/fifo: not copied, since it is neither a file nor a link\n"
    )
    assert contents(tmp_path / "target").keys() | {"fifo"} == contents_without_reading(source)


def contents_without_reading(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.slow
def test_an_error_is_one_line(source, tmp_path):
    (tmp_path / "target").write_bytes(b"a file")
    assert_one_line(finished(DEMO, source, tmp_path / "target"), "copy_files: ", "target: ")


@pytest.mark.slow
def test_ctrl_c_leaves_no_half_file(source, tmp_path):
    for number in range(300):
        (source / f"many {number}").write_bytes(bytes(300_000))
    with started(DEMO, source, tmp_path / "target", "--at-once", 4) as running:
        while not list((tmp_path / "target").rglob("many*")):
            assert running.process.poll() is None
        assert running.interrupt() == 130
        assert (running.said, running.errors()) == ("", "")
    found = [path for path in (tmp_path / "target").rglob("*") if path.is_file() and not path.is_symlink()]
    assert 0 < len(found) < 303
    assert all(path.read_bytes() == (source / path.relative_to(tmp_path / "target")).read_bytes() for path in found)


@pytest.mark.slow
@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_shows_a_progress_bar_or_how_to_get_one(source, tmp_path, rich):
    if rich:
        pytest.importorskip("rich")
    else:
        (tmp_path / "rich.py").write_text("raise ModuleNotFoundError")
    paths = [] if rich else [tmp_path]
    with started(DEMO, source, tmp_path / "target", terminal="stderr", path=paths) as running:
        running.expect("bytes.*100%" if rich else re.escape("for a progress bar: pip install -e '.[demo]'"))
        assert running.wait() == 0
        assert running.process.stdout.read().startswith(b"copied 3 files")
