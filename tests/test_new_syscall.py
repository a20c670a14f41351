"""`minisched new-syscall`: the files that it writes work, and no file is overwritten."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
from programs import assert_one_line, environment, finished

from minisched.cli import commands, new_syscall

NAMES = [("NextTick", "next_tick"), ("HTTPGet2", "http_get2"), ("X", "x"), ("Tee" * 13, "tee_" * 12 + "tee")]


def new_syscall_program(folder, name):
    return finished("-m", "minisched", "new-syscall", name, cwd=folder)


def run_pytest(folder, name):
    """Run a test file as a user does; return whether it passed, and the output."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment())
    return done.returncode == 0, done.stdout


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """Return a function that imports a module from the folder of the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(("name", "module"), NAMES)
def test_the_files_run_and_their_tests_pass(tmp_path, name, module, imported, capsys):
    assert new_syscall.write_scaffold(name, tmp_path) == [tmp_path / f"{module}.py", tmp_path / f"test_{module}.py"]
    tests = imported(f"test_{module}")
    tests.test_it_can_be_cancelled_at_every_moment()
    tests.test_all_waiters_are_woken_in_order_of_arrival(capsys)
    tests.test_a_cancelled_task_and_a_waiter_for_another_key_are_not_woken()


@pytest.mark.slow
def test_the_commands_that_it_prints_succeed(tmp_path):
    done = new_syscall_program(tmp_path, "NextTick")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"run it: {os.path.relpath(sys.executable, tmp_path)} next_tick.py" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"next_tick.py", "test_next_tick.py"}
    result = finished("next_tick.py", cwd=tmp_path)
    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "2 tasks wait for tea")
    assert run_pytest(tmp_path, "test_next_tick.py")[0]


def break_the_undo(folder):
    file = folder / "next_tick.py"
    undo = "undo=lambda: waiters.remove(self.key, task)"
    assert undo in file.read_text()
    file.write_text(file.read_text().replace(undo, "undo=lambda: None"))


def test_a_mistake_in_the_syscall_is_explained_by_the_conformance_test(tmp_path, imported):
    new_syscall.write_scaffold("NextTick", tmp_path)
    break_the_undo(tmp_path)
    with pytest.raises(AssertionError, match="does not undo the wait"):
        imported("test_next_tick").test_it_can_be_cancelled_at_every_moment()


@pytest.mark.slow
def test_a_mistake_in_the_syscall_fails_under_pytest_too(tmp_path):
    new_syscall.write_scaffold("NextTick", tmp_path)
    break_the_undo(tmp_path)
    passed, output = run_pytest(tmp_path, "test_next_tick.py")
    assert not passed and "does not undo the wait" in output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("next-tick", "write NextTick"),
        ("next_tick", "write NextTick"),
        ("nextTick", "write NextTick"),
        ("2Ticks", "write Ticks"),
        ("", "can't name a syscall"),
        ("None", "can't name a syscall"),
        ("../Tick", "write Tick"),
        ("Sleep", "already has a Sleep"),
        ("Random", "hide Python's module random"),
        ("T" * 41, "too long"),
    ],
)
def test_an_invalid_name_is_refused_in_one_line_and_nothing_is_written(tmp_path, name, message):
    with pytest.raises(SystemExit) as caught:
        commands.main(["new-syscall", name, "--folder", str(tmp_path)])
    text = caught.value.code
    assert text.startswith("minisched: ") and message in text and "\n" not in text
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_an_invalid_name_exits_with_status_1(tmp_path):
    assert_one_line(new_syscall_program(tmp_path, "next-tick"), "write NextTick")


@pytest.mark.parametrize("existing", ["next_tick.py", "test_next_tick.py"])
def test_an_existing_file_is_not_overwritten_and_the_other_is_not_left_behind(tmp_path, existing):
    (tmp_path / existing).write_text("mine")
    with pytest.raises(SystemExit, match=f"{existing}: File exists"):
        commands.main(["new-syscall", "NextTick", "--folder", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


def test_a_missing_folder_is_reported_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"nowhere.*No such file"):
        commands.main(["new-syscall", "NextTick", "--folder", str(tmp_path / "nowhere")])


def test_on_a_full_disk_no_file_is_left_behind(tmp_path, monkeypatch):
    class FullFile:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def write(self, text):
            raise OSError(28, "No space left on device")

    def open_full(path, mode, **keywords):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        return FullFile()

    monkeypatch.setattr(new_syscall, "open", open_full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        new_syscall.write_scaffold("NextTick", tmp_path)
    assert not [*tmp_path.iterdir()]
