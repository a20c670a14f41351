"""The list of a suite: the tests that pass, and the reasons of those that do not.

A list has sections, each with a kind, a reason (but for the passes), and indented names:

    differs: a child belongs to its spawner
        test_task.py::test_task_group_existing

A name is that of a test case (`test_a.py::test_b[3]`), of a test with all its cases (`test_a.py::test_b`), or of a file
with all its tests. A longer name comes first. Tests that the suite itself skips need not be listed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

PASSES = "passes"
ORDER = "order"  # fails, but passes where `spawn` takes no turn
DIFFERS = "differs"  # by design
NOT_APPLICABLE = "not applicable"  # is not run
KINDS = (PASSES, ORDER, DIFFERS, NOT_APPLICABLE)
INDENT = "    "


class Section(NamedTuple):
    kind: str
    reason: str


def read(file: Path) -> dict[str, Section]:
    """Return the section of each name in a list."""
    entries: dict[str, Section] = {}
    section = None
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or line.startswith("#"):
            continue
        if not line.startswith(INDENT):
            section = section_of(text)
            fault = None if section.kind in KINDS and (section.kind == PASSES) != bool(section.reason) else "no section"
        else:
            fault = "listed twice" if text in entries else "in no section" if section is None else None
            entries[text] = section or Section("", "")
        if fault:
            raise ValueError(f"{file.name}:{number}: {fault}: {text}")
    return entries


def section_of(line: str) -> Section:
    kind, _, reason = line.partition(":")
    return Section(kind.strip(), reason.strip())


def write(file: Path, entries: Mapping[str, Section]) -> None:
    """Write a list, with the comment that the file begins with."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = [line for line in lines if line.startswith("#")]
    sections = sorted(dict.fromkeys(entries.values()), key=lambda section: KINDS.index(section.kind))
    for section in sections:
        comment += ["", f"{section.kind}: {section.reason}" if section.reason else section.kind]
        comment += [INDENT + name for name in sorted(entries) if entries[name] == section]
    file.write_text("\n".join(comment) + "\n", encoding="utf-8")


def find(entries: Mapping[str, Section], case: str) -> str | None:
    """Return the longest name in a list that a test case belongs to."""
    return next((name for name in names_of(case) if name in entries), None)


def names_of(case: str) -> Iterator[str]:
    """Return the names of a case, its test and its file."""
    yield case
    test = case.partition("[")[0]
    yield test
    yield test.partition("::")[0]


def problems(
    entries: Mapping[str, Section], outcomes: Mapping[str, str], among: Collection[str] = ("passed", "failed")
) -> Iterator[tuple[str, str]]:
    """Return (case or name, problem) of all differences between a list and the outcomes of a run."""
    for case, outcome in sorted(outcomes.items()):
        name = find(entries, case)
        kind = None if name is None else entries[name].kind
        if outcome not in among:
            continue
        if outcome == "passed" and kind != PASSES:
            yield case, "passes, and is not in the list of passes: `--update` adds it"
        elif outcome == "failed" and kind is None:
            yield case, "fails, and is not in the list: fix the fault, or list the test with the reason"
        elif outcome == "failed" and kind == PASSES:
            yield case, "is in the list of passes, and fails"
    ran = {find(entries, case) for case, outcome in outcomes.items() if outcome != "skipped"}
    for name, section in entries.items():
        if section.kind != NOT_APPLICABLE and name not in ran:
            yield name, "is in the list, and was not run"


def failures(outcomes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Return (case, problem) of each case that did not pass where `spawn` takes no turn."""
    for case, outcome in sorted(outcomes.items()):
        if outcome != "passed":
            yield case, "fails although `spawn` takes no turn"


def with_passes(entries: Mapping[str, Section], outcomes: Mapping[str, str]) -> dict[str, Section]:
    """Return a list in which all cases that passed are passes; a test of which each case passed has one entry."""
    passes = Section(PASSES, "")
    updated = {name: section for name, section in entries.items() if section != passes}
    cases = sorted(case for case, outcome in outcomes.items() if outcome in ("passed", "failed"))
    for test, group in groupby(cases, lambda case: case.partition("[")[0]):
        of_test = list(group)
        passed = [case for case in of_test if outcomes[case] == "passed"]
        for case in passed:
            updated.pop(case, None)
        if len(passed) == len(of_test):
            updated.pop(test, None)
        for name in [test] if len(passed) == len(of_test) else passed:
            updated[name] = passes
    return updated


def count(entries: Mapping[str, Section], outcomes: Mapping[str, str]) -> str:
    """Return the numbers of cases in a sentence."""
    passed, failed = (sum(outcome == kind for outcome in outcomes.values()) for kind in ("passed", "failed"))
    names = (find(entries, case) for case, outcome in outcomes.items() if outcome == "failed")
    order = sum(name is not None and entries[name].kind == ORDER for name in names)
    return f"{passed} of {passed + failed} tests pass, {order} more where `spawn` takes no turn"


def of_kind(entries: Mapping[str, Section], kind: str) -> Iterable[str]:
    return [name for name, section in entries.items() if section.kind == kind]
