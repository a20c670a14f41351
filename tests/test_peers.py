"""The comparison of a run of another library's tests with its list; `python -m tests.peers` fetches and runs them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from peers import lists
from peers.lists import Section
from peers.suites import SUITES

PACKAGE = Path(__file__).parents[1] / "minisched"
LIST = """\
# A comment.

passes
    test_a.py::test_fails_now
    test_a.py::test_is_gone
    test_a.py::test_passes

order: a spawn takes a turn
    test_a.py::test_order

differs: by design
    test_a.py::test_differs[1]

not applicable: not offered
    test_b.py
"""


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text(LIST, encoding="utf-8")
    return file


def test_each_difference_between_a_list_and_a_run_is_reported_once(file):
    outcomes = {
        "test_a.py::test_passes[1]": "passed",
        "test_a.py::test_passes[2]": "passed",
        "test_a.py::test_fails_now": "failed",
        "test_a.py::test_order": "failed",
        "test_a.py::test_differs[1]": "passed",
        "test_a.py::test_differs[2]": "failed",
        "test_a.py::test_new": "passed",
        "test_a.py::test_skipped": "skipped",
    }
    found = dict(lists.problems(lists.read(file), outcomes))
    assert {case.removeprefix("test_a.py::"): problem.split(":")[0] for case, problem in found.items()} == {
        "test_fails_now": "is in the list of passes, and fails",
        "test_is_gone": "is in the list, and was not run",
        "test_differs[1]": "passes, and is not in the list of passes",
        "test_differs[2]": "fails, and is not in the list",
        "test_new": "passes, and is not in the list of passes",
    }


def test_a_run_that_is_as_the_list_says_has_no_difference(file):
    names = "test_fails_now", "test_is_gone", "test_passes"
    outcomes = {f"test_a.py::{name}": "passed" for name in names}
    outcomes |= {"test_a.py::test_order": "failed", "test_a.py::test_differs[1]": "failed"}
    assert not [*lists.problems(lists.read(file), outcomes)]


def test_a_test_of_the_passes_that_is_skipped_now_was_not_run(file):
    outcomes = {"test_a.py::test_passes": "skipped"}
    assert "test_a.py::test_passes" in dict(lists.problems(lists.read(file), outcomes))


def test_one_case_that_fails_is_found_in_a_test_of_the_passes(file):
    outcomes = {"test_a.py::test_passes[1]": "passed", "test_a.py::test_passes[2]": "failed"}
    assert "test_a.py::test_passes[2]" in dict(lists.problems(lists.read(file), outcomes))


def test_an_update_adds_what_passes_and_takes_it_out_of_the_other_sections(file):
    outcomes = {
        "test_a.py::test_differs[1]": "passed",
        "test_a.py::test_order": "failed",
        "test_a.py::test_half[1]": "passed",
        "test_a.py::test_half[2]": "failed",
        "test_a.py::test_whole[1]": "passed",
        "test_a.py::test_whole[2]": "passed",
        "test_a.py::test_fails_now": "failed",
    }
    lists.write(file, lists.with_passes(lists.read(file), outcomes))
    updated = lists.read(file)
    assert file.read_text(encoding="utf-8").startswith("# A comment.\n\npasses\n    ")
    assert [name for name in updated if updated[name].kind == "passes"] == [
        "test_a.py::test_differs",
        "test_a.py::test_half[1]",
        "test_a.py::test_whole",
    ]
    assert [updated[name].kind for name in ("test_a.py::test_order", "test_b.py")] == ["order", "not applicable"]
    assert len(updated) == 5


@pytest.mark.parametrize(
    "wrong", ["differs\n    a", "passes: why\n    a", "passed\n    a", "    a", "passes\n    a\ndiffers: why\n    a"]
)
def test_a_list_without_a_section_a_reason_or_with_a_name_twice_is_refused(file, wrong):
    file.write_text(wrong, encoding="utf-8")
    with pytest.raises(ValueError, match=r"list\.txt:\d"):
        lists.read(file)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_the_list_of_a_suite_has_passes_of_its_version(suite):
    entries = lists.read(suite.list)
    assert f"{suite.name} {suite.version}" in suite.list.read_text(encoding="utf-8").splitlines()[0]
    assert Section("passes", "") in entries.values()


def test_the_package_imports_no_test_and_no_adapter():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.partition(".")[0] for name in names} & {"tests", "peers"}, file
