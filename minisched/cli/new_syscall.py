"""`minisched new-syscall NAME`: write the file of a new syscall, and its test.

Theory of operation. The two files are made from `templates/`. They are complete: the syscall waits, can be woken
and cancelled, and passes `check_syscall`. The user changes one thing at a time, and the test explains each mistake.

Invariants:
1. No existing file is overwritten.
2. Either both files are written or neither is.

Not here: the options of the command (`commands`).
"""

from __future__ import annotations

import keyword
import re
import sys
from importlib import resources
from string import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_NAME_CHARACTERS = 40  # of a syscall: its name is a file name, too


def write_scaffold(name: str, folder: Path, reserved: Sequence[str] = ()) -> list[Path]:
    """Write the file of a new syscall and its test into `folder`; return both paths.

    Raises ValueError for a name that no syscall can have or that is in `reserved`, and OSError if a file exists or
    cannot be written.
    """
    check_name(name, reserved)
    module = module_name(name)
    if module in sys.stdlib_module_names:
        raise ValueError(
            f"the file of {name} would be {module}.py and hide Python's module {module}: choose another name"
        )
    written: list[Path] = []
    try:
        for file, template in ((f"{module}.py", "syscall.py.txt"), (f"test_{module}.py", "test_syscall.py.txt")):
            with open(folder / file, "x", encoding="utf-8") as opened:
                written.append(folder / file)
                _ = opened.write(read_template(template).substitute(Name=name, module=module))
    except BaseException:
        for path in written:
            path.unlink()
        raise
    return written


def read_template(file: str) -> Template:
    """Return a template of this package; the fields are `$Name` and `$module`."""
    return Template(resources.files("minisched.cli").joinpath("templates", file).read_text(encoding="utf-8"))


def check_name(name: str, reserved: Sequence[str]) -> None:
    """Raise ValueError, with a suggestion where there is one, for a name that no syscall can have."""
    if not name.isidentifier() or keyword.iskeyword(name) or not name[0].isupper() or "_" in name:
        words = re.findall(r"[A-Za-z0-9]+", name)
        suggestion = "".join(word[0].upper() + word[1:] for word in words).lstrip("0123456789")
        usable = suggestion.isidentifier() and not keyword.iskeyword(suggestion)
        hint = f": write {suggestion}" if usable else ""
        raise ValueError(f"{name!r} can't name a syscall: it is a class, as NextTick is{hint}")
    if name in reserved:
        raise ValueError(f"minisched already has a {name}: choose another name")
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(f"{name} is too long: a name has at most {MAX_NAME_CHARACTERS} characters")


def module_name(name: str) -> str:
    """Return the module name for a class name: words in lower case, joined by underscores.

    >>> module_name("NextTick"), module_name("HTTPGet2")
    ('next_tick', 'http_get2')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
