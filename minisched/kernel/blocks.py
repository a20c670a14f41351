"""`async with call:`, the short form of `with (await call):` in an `async def`.

Theory of operation. The block yields the call, and enters the context manager that is its answer: the scope of a
`Timeout`, the socket of a `Connect`. The end of the block has to find this answer again. The call cannot keep it, since
several tasks may use one call at once. So the task enters a `Block`, a scope that cannot be cancelled and that holds
the answer. The scopes of a task form a stack, and the innermost one is that of the innermost block.

Decision: `async with` works for each call whose answer is a context manager, also for those of a program's own.
Because: one rule is easier to remember than a list of calls. Rejected: scopes alone, so that `async with Timeout(1)`
works and `async with Portal()` does not; an attribute of the call, which two tasks would overwrite.

Invariants:
1. A call never changes.

Not here: `with` on a call that was not yielded, which is refused (`misuse`); locks and groups.
"""

from __future__ import annotations

from ..errors import SyscallError
from .current import current_task
from .misuse import OUT_OF_ORDER, no_context
from .scoping import enter, leave
from .tree import Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any


class HasBlock:
    """The answer of a call without an effect outside of its `with` block. Its `owner` is the task that asked for it."""

    __slots__ = ()

    def was_entered(self) -> bool:
        """Return whether the block has begun; it may have ended. This is the test for a scope."""
        return getattr(self, "task", None) is not None


class Block(Scope):
    """The block of an `async with call:`; it holds the answer of the call."""

    __slots__ = ("answer", "call")

    def __init__(self, call: object, answer: object) -> None:
        super().__init__()
        self.call = call
        self.answer = answer


def begin(call: object, answer: object) -> Any:
    """Enter the answer of a call; return what its `__enter__` returned."""
    kind: Any = type(answer)
    if not hasattr(kind, "__enter__") or not hasattr(kind, "__exit__"):
        raise no_context(call, answer)
    entered = kind.__enter__(answer)
    enter(current_task(), Block(call, answer))
    return entered


def end(
    call: object, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> Any:
    """Leave the innermost block, which `call` began; return what the `__exit__` of the answer returned."""
    block = current_task().scope
    if not isinstance(block, Block) or block.call is not call:
        raise SyscallError(OUT_OF_ORDER) from error
    _ = leave(block, error)
    context: Any = type(block.answer)
    try:
        return context.__exit__(block.answer, kind, error, trace)
    finally:
        del error, trace, block  # an exception raised here has this frame in its traceback: leave no cycle
