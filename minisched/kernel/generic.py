"""Generic classes without `typing`: the type variables, and the base class that takes a type in brackets.

Theory of operation. Type checkers see `Generic` from `typing`. At run time, `Answering` stands for it, and a type
variable is a str: importing `typing` would take a seventh of the time that `import minisched` takes
(`python -m tests.benchmarks import`).

Invariants:
1. `Queue[int]()` is a plain Queue: the type in the brackets is dropped.

Not here: the types of several arguments by position (`tasks/positions.py`).
"""

from __future__ import annotations

from types import GenericAlias

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generic

    from typing_extensions import TypeVar  # pyright: ignore[reportMissingModuleSource] (type checkers know it)

    # The types in brackets, as in `Task[int]` and `Queue[str]`; a bare `Task` or `Queue` is one of anything.
    Answer = TypeVar("Answer", covariant=True, default=Any)
    Item = TypeVar("Item", default=Any)

    class Answering(Generic[Answer]): ...
else:
    Answer, Item = "Answer", "Item"
    Answering = type("Answering", (), {"__slots__": (), "__class_getitem__": classmethod(GenericAlias)})
