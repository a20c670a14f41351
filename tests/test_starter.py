"""`minisched new-syscall`: what it writes works, and nothing is written over."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from programs import assert_one_line, environment, finished

from minisched import starter


def new(folder, name):
    return finished("-m", "minisched", "new-syscall", name, cwd=folder)


def passes(folder, name):
    """Run a test file as a user does; return whether it passed, and what was said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment())
    return done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "module"),
    [("NextTick", "next_tick"), ("HTTPGet2", "http_get2"), ("X", "x"), ("Tee" * 13, "tee_" * 12 + "tee")],
)
def test_what_it_writes_runs_and_passes_its_test(tmp_path, name, module):
    done = new(tmp_path, name)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"run it: {os.path.relpath(sys.executable, tmp_path)} {module}.py" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {f"{module}.py", f"test_{module}.py"}
    result = finished(f"{module}.py", cwd=tmp_path)
    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "2 wait for tea")
    assert passes(tmp_path, f"test_{module}.py")[0]


def test_a_mistake_in_it_is_told_in_the_words_of_the_battery(tmp_path):
    new(tmp_path, "NextTick")
    file = tmp_path / "next_tick.py"
    undo = "undo=lambda: waiters.forget(self.key, task)"
    assert undo in file.read_text()
    file.write_text(file.read_text().replace(undo, "undo=lambda: None"))
    passed, said = passes(tmp_path, "test_next_tick.py")
    assert not passed and "does not forget the wait" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("next-tick", "write NextTick"),
        ("next_tick", "write NextTick"),
        ("nextTick", "write NextTick"),
        ("2Ticks", "write Ticks"),
        ("", "is no name of a syscall"),
        ("None", "is no name of a syscall"),
        ("../Tick", "write Tick"),
        ("Sleep", "has a Sleep of its own"),
        ("Random", "hide Python's module random"),
        ("T" * 41, "too long"),
    ],
)
def test_what_can_not_be_its_name_is_one_line_and_nothing_is_written(tmp_path, name, said):
    assert_one_line(new(tmp_path, name), said)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("there", ["next_tick.py", "test_next_tick.py"])
def test_a_file_that_is_there_stays_as_it_is_and_the_other_is_not_left_behind(tmp_path, there):
    (tmp_path / there).write_text("mine")
    assert_one_line(new(tmp_path, "NextTick"), there, "exists")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    done = finished("-m", "minisched", "new-syscall", "NextTick", "--folder", tmp_path / "nowhere")
    assert_one_line(done, "nowhere", "No such file")


def test_on_a_full_disk_nothing_is_left(tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def write(self, text):
            raise OSError(28, "No space left on device")

    def opened(path, mode, **keywords):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        return Full()

    monkeypatch.setattr(starter, "open", opened, raising=False)
    with pytest.raises(OSError, match="No space left"):
        starter.write_starter("NextTick", tmp_path)
    assert not [*tmp_path.iterdir()]
