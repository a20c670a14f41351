"""Check the types of the public interface: `python tests/typing/check.py`, with pyright and mypy on the path.

Both check two files in their strict modes. In `accepted.py` they report nothing. In `refused.py` they report exactly
the lines that end with `# error`, or `# error: pyright` and `# error: mypy` where only one of them finds the mistake.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
FILES = ("accepted.py", "refused.py")
MYPY = ("mypy", "--strict", "--follow-imports=silent", "--python-version=3.11", "--cache-dir", os.devnull)
MARK = re.compile(r"# error(?:: (pyright|mypy))?$")


def reported_by_pyright() -> Iterator[tuple[str, int, str]]:
    """Return (file, line, message) of each report of pyright."""
    done = subprocess.run(["pyright", "--outputjson", "--project", FOLDER], capture_output=True, text=True)
    reports = json.loads(done.stdout)["generalDiagnostics"]
    for report in reports:
        if report["severity"] == "error":
            yield Path(report["file"]).name, report["range"]["start"]["line"] + 1, report["message"]


def reported_by_mypy() -> Iterator[tuple[str, int, str]]:
    """Return (file, line, message) of each report of mypy."""
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    command = [*MYPY, "--output=json", *FILES]
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(done.stdout + done.stderr)
    for report in map(json.loads, done.stdout.splitlines()):
        if report["severity"] == "error":
            yield Path(report["file"]).name, report["line"], report["message"]


def marked(checker: str) -> set[tuple[str, int]]:
    """Return (file, line) of each line that the checker has to report."""
    return {
        (name, number)
        for name in FILES
        for number, line in enumerate((FOLDER / name).read_text(encoding="utf-8").splitlines(), 1)
        if (mark := MARK.search(line)) and mark[1] in (None, checker)
    }


def main() -> int:
    problems: list[str] = []
    for checker, reports in (("pyright", reported_by_pyright()), ("mypy", reported_by_mypy())):
        expected, found = marked(checker), {(name, line): message for name, line, message in reports}
        for name, line in sorted(expected ^ found.keys()):
            message = found.get((name, line), "no error, and the line is marked as one")
            problems.append(f"{name}:{line}: {checker}: {message}")
        print(f"{checker}: {len(expected)} mistakes expected, {len(expected & found.keys())} found")
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
