"""Modules lent to another package for the time of its import."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from minisched._lent import Later, Lent

NAME = "this"  # a module of the standard library that nobody has imported


@pytest.fixture(autouse=True)
def not_imported(capsys):
    sys.modules.pop(NAME, None)
    yield
    sys.modules.pop(NAME, None)


def test_who_imports_it_meanwhile_gets_what_is_given_and_afterwards_the_module():
    with Lent(Later(NAME, s="lent")):
        from this import s
    assert s == "lent"
    assert NAME not in sys.modules
    import this

    assert type(this) is types.ModuleType and this.s != "lent"


def test_what_is_not_given_is_there_when_it_is_asked_for():
    later = Later(NAME, s="lent")
    with Lent(later):
        import this as found
    assert found is later
    assert found.d["A"] == "N"
    assert sys.modules[NAME] is not later
    assert found.s == "lent"


def test_what_is_asked_for_meanwhile_is_there_too_and_the_module_stays():
    with Lent(Later(NAME)):
        from this import d
    assert d["A"] == "N"
    assert type(sys.modules[NAME]) is types.ModuleType


def test_what_is_not_in_the_module_either_is_an_error():
    with Lent(Later(NAME)), pytest.raises(ImportError):
        from this import what_is_not_there  # noqa: F401


def test_a_module_that_is_imported_already_is_left_alone():
    import this

    with Lent(Later(NAME, s="lent")):
        assert sys.modules[NAME] is this
    assert sys.modules[NAME] is this


def test_an_error_meanwhile_takes_it_back():
    with pytest.raises(ZeroDivisionError), Lent(Later(NAME)):
        raise ZeroDivisionError
    assert NAME not in sys.modules


def test_the_two_packages_work_and_the_modules_that_were_lent_to_them_are_the_real_ones():
    program = """
import minisched, sys
assert not {"traceback", "textwrap", "platform"} & set(sys.modules)
import platform, textwrap, traceback
assert platform.system() and textwrap.fill("a") == "a"
import sortedcontainers, selectors2
assert sortedcontainers.sortedlist.traceback.format_exc is traceback.format_exc
with selectors2.DefaultSelector(): pass
list = sortedcontainers.SortedList([1])
list._len = 2
try:
    list._check()
except AssertionError:
    print("it says what is wrong")
"""
    # Without site: what an installed .pth file imports is not ours.
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{program}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "it says what is wrong" in said and "AssertionError" in said
