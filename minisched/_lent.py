"""Modules lent to another package for the time of its import, in place of those that it imports and does not use.

Both packages that this one depends on import much for little: sortedcontainers `traceback` and
`textwrap`, for checks and docstrings, selectors2 `platform`, to find out whether it runs on Jython.
These took a fifth of the time that it takes to import minisched (`python -m tests.benchmarks import`).

Invariant: whoever else imports such a module, later or in another thread, gets what is in it.
"""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Later(ModuleType):
    """A module that is imported when something is asked of it that is not given."""

    def __init__(self, name: str, **given: object) -> None:
        super().__init__(name)
        self.__dict__.update(given)

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # asked by the import itself: is it a package?
            raise AttributeError(name)
        self.take_back()
        found = getattr(__import__(self.__name__), name)
        self.__dict__[name] = found
        return found

    def take_back(self) -> None:
        """Be found by nobody any more who imports the module."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


class Lent:
    """`with Lent(Later(...), ...):` lends modules, unless they are imported already."""

    def __init__(self, *modules: Later) -> None:
        self.modules = modules

    def __enter__(self) -> None:
        for module in self.modules:
            _ = sys.modules.setdefault(module.__name__, module)

    def __exit__(self, *_: object) -> None:
        for module in self.modules:
            module.take_back()
