"""`minisched new-syscall NAME`: a file to begin with, and its test.

Theory of operation. Both files are whole: the syscall waits, can be woken and cancelled, and passes
`check_syscall`. To write one's own is then to change one thing at a time, with a test that says what
is wrong. Nothing is written over, and never one file without the other.
"""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path
from string import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SYSCALL = Template('''\
"""A syscall of one's own: `yield $Name(key)` waits until somebody calls `wake(kernel, key, value)`.

It works as it is. Change one thing at a time, and run `pytest test_$module.py`: it says what is wrong.

Run it:    python $module.py
"""

from minisched import CurrentTask, Service, Spawn, Syscall, run


class ${Name}Waiters(Service):
    """Who waits for which key. A kernel makes one of these when it is first asked for: what outlives a call is here."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.by_key = {}  # by key: the tasks, in the order of their coming

    def tasks(self):
        """Return the tasks that may be woken from here: checks and reports ask for them."""
        return [task for waiting in self.by_key.values() for task in waiting]

    def forget(self, key, task):
        """Take back a wait."""
        del self.by_key[key][task]
        if not self.by_key[key]:
            del self.by_key[key]


class $Name(Syscall[object]):
    """Wait until `key` is woken; return with what. Cancelled while parked: the wait is given up."""

    __slots__ = ("key",)

    def __init__(self, key):
        self.key = key

    def handle(self, kernel, task):
        # Return the answer, raise an error, or park the task. Never change `self`: two tasks may yield the same call.
        waiters = kernel.service(${Name}Waiters)
        waiters.by_key.setdefault(self.key, {})[task] = None
        kernel.park(task, undo=lambda: waiters.forget(self.key, task))  # called if the task is cancelled


def wake(kernel, key, value):
    """Wake all who wait for `key`, with `value`; return how many. A plain call, between two yields."""
    waiting = kernel.service(${Name}Waiters).by_key.pop(key, {})  # whoever is woken is forgotten first
    for task in waiting:
        kernel.resume(task, value)
    return len(waiting)


def waiter(name, key):
    """Wait, and say what came."""
    print(f"{name} was woken with {(yield $Name(key))!r}")


def main():
    """Two tasks wait for the same key, and are woken."""
    kernel = (yield CurrentTask()).kernel
    yield Spawn(waiter("Ada", "tea"))
    yield Spawn(waiter("Grace", "tea"))
    yield
    print(f"{wake(kernel, 'tea', 'a cup')} wait for tea")


if __name__ == "__main__":
    run(main())
''')

TEST = Template('''\
"""Tests of $Name: `pytest test_$module.py`."""

from minisched import Cancel, CurrentTask, Spawn
from minisched.testing import check_syscall, run

from $module import $Name, main, wake


def test_it_can_be_cancelled_at_every_moment():
    def make():
        kernel = (yield CurrentTask()).kernel
        return $Name("tea"), lambda: wake(kernel, "tea", "a cup")  # the call, and what ends its wait

    check_syscall(make)


def test_all_who_wait_are_woken_in_the_order_of_their_coming(capsys):
    run(main())
    assert capsys.readouterr().out == "2 wait for tea\\nAda was woken with 'a cup'\\nGrace was woken with 'a cup'\\n"


def test_who_waits_for_something_else_or_was_cancelled_is_not_woken():
    def waiter(key):
        yield $Name(key)

    def program():
        kernel = (yield CurrentTask()).kernel
        tasks = []
        for key in ("tea", "coffee"):
            tasks.append((yield Spawn(waiter(key), daemon=True)))
        yield
        yield Cancel(tasks[0])
        return wake(kernel, "tea", "a cup"), wake(kernel, "milk", "a cup")

    assert run(program()) == (0, 0)
''')


def write_starter(name: str, folder: Path, taken: Sequence[str] = ()) -> list[Path]:
    """Write the file of a new syscall and its test into `folder`; return both paths.

    Raises ValueError for what can't be the name of one, or is `taken`; OSError where a file
    is there already or can't be written: then neither is.
    """
    check_name(name, taken)
    names = {"Name": name, "module": module_of(name)}
    module, test = names["module"], f"test_{names['module']}"
    if module in sys.stdlib_module_names:
        raise ValueError(
            f"the file of {name} would be {module}.py and hide Python's module {module}: take another name"
        )
    written: list[Path] = []
    try:
        for file, text in ((f"{module}.py", SYSCALL), (f"{test}.py", TEST)):
            with open(folder / file, "x", encoding="utf-8") as opened:
                written.append(folder / file)
                _ = opened.write(text.substitute(names))
    except BaseException:
        for path in written:
            path.unlink()
        raise
    return written


def check_name(name: str, taken: Sequence[str]) -> None:
    """Raise ValueError, which says what to write instead, for what can't be the name of a syscall."""
    if not name.isidentifier() or keyword.iskeyword(name) or not name[0].isupper() or "_" in name:
        words = re.findall(r"[A-Za-z0-9]+", name)
        instead = "".join(word[0].upper() + word[1:] for word in words).lstrip("0123456789")
        hint = f": write {instead}" if instead.isidentifier() and not keyword.iskeyword(instead) else ""
        raise ValueError(f"{name!r} is no name of a syscall, which is a class and begins with a capital letter{hint}")
    if name in taken:
        raise ValueError(f"minisched has a {name} of its own: take another name")
    if len(name) > 40:
        raise ValueError(f"{name} is too long for a name: 40 characters are enough")


def module_of(name: str) -> str:
    """Return the name of the file of a class: NextTick is in next_tick.

    >>> module_of("NextTick"), module_of("HTTPGet2")
    ('next_tick', 'http_get2')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
