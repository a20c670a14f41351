"""The types of `gather`, `race`, `as_completed` and `select`: that of each argument stays, by its position.

Theory of operation. Nothing here runs: each decorator gives a function the type of a protocol with overloads, for one
to eight arguments. More arguments, or an unpacked iterable (`*bodies`), have one type together. The overload for them
names nine arguments: mypy would also choose it for fewer ones, and then the type is Any.

Decision: type checkers see the list that `gather` returns as a tuple.
Because: `first, second = yield from gather(...)` keeps two types only so, and asyncio's `gather` has the same type.
Rejected: a list of the union of the types, which each use would have to narrow.

Invariants:
1. At run time, the module has decorators only, and they change no behaviour.

Not here: the functions (`gather`, `select_calls`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

    from ..kernel import Selectable
    from .gather import Completions
    from .select_calls import Select
    from .tasks import Body, Call

    A = TypeVar("A")
    B = TypeVar("B")
    C = TypeVar("C")
    D = TypeVar("D")
    E = TypeVar("E")
    F = TypeVar("F")
    G = TypeVar("G")
    H = TypeVar("H")
    Tried: TypeAlias = A | BaseException
    # The answers of `select`, whose number tells a type checker the type of the value.
    First = tuple[Literal[0], A]
    Second = tuple[Literal[1], A]
    Third = tuple[Literal[2], A]
    Fourth = tuple[Literal[3], A]
    Fifth = tuple[Literal[4], A]
    Sixth = tuple[Literal[5], A]
    Seventh = tuple[Literal[6], A]
    Eighth = tuple[Literal[7], A]

    class Gather(Protocol):
        """The type of `gather`."""

        @overload
        def __call__(self, *, return_exceptions: bool = ...) -> Call[list[Any]]: ...

        @overload
        def __call__(self, a: Body[A], /, *, return_exceptions: Literal[False] = ...) -> Call[tuple[A]]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], /, *, return_exceptions: Literal[False] = ...
        ) -> Call[tuple[A, B]]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], /, *, return_exceptions: Literal[False] = ...
        ) -> Call[tuple[A, B, C]]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], /, *, return_exceptions: Literal[False] = ...
        ) -> Call[tuple[A, B, C, D]]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[B],
            c: Body[C],
            d: Body[D],
            e: Body[E],
            /,
            *,
            return_exceptions: Literal[False] = ...,
        ) -> Call[tuple[A, B, C, D, E]]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[B],
            c: Body[C],
            d: Body[D],
            e: Body[E],
            f: Body[F],
            /,
            *,
            return_exceptions: Literal[False] = ...,
        ) -> Call[tuple[A, B, C, D, E, F]]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[B],
            c: Body[C],
            d: Body[D],
            e: Body[E],
            f: Body[F],
            g: Body[G],
            /,
            *,
            return_exceptions: Literal[False] = ...,
        ) -> Call[tuple[A, B, C, D, E, F, G]]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[B],
            c: Body[C],
            d: Body[D],
            e: Body[E],
            f: Body[F],
            g: Body[G],
            h: Body[H],
            /,
            *,
            return_exceptions: Literal[False] = ...,
        ) -> Call[tuple[A, B, C, D, E, F, G, H]]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[A],
            c: Body[A],
            d: Body[A],
            e: Body[A],
            f: Body[A],
            g: Body[A],
            h: Body[A],
            i: Body[A],
            /,
            *more: Body[A],
            return_exceptions: Literal[False] = ...,
        ) -> Call[list[A]]: ...

        @overload
        def __call__(self, a: Body[A], /, *, return_exceptions: bool) -> Call[tuple[Tried[A]]]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], /, *, return_exceptions: bool
        ) -> Call[tuple[Tried[A], Tried[B]]]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], /, *, return_exceptions: bool
        ) -> Call[tuple[Tried[A], Tried[B], Tried[C]]]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], /, *, return_exceptions: bool
        ) -> Call[tuple[Tried[A], Tried[B], Tried[C], Tried[D]]]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], /, *, return_exceptions: bool
        ) -> Call[tuple[Tried[A], Tried[B], Tried[C], Tried[D], Tried[E]]]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], f: Body[F], /, *, return_exceptions: bool
        ) -> Call[tuple[Tried[A], Tried[B], Tried[C], Tried[D], Tried[E], Tried[F]]]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[B],
            c: Body[C],
            d: Body[D],
            e: Body[E],
            f: Body[F],
            g: Body[G],
            /,
            *,
            return_exceptions: bool,
        ) -> Call[tuple[Tried[A], Tried[B], Tried[C], Tried[D], Tried[E], Tried[F], Tried[G]]]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[B],
            c: Body[C],
            d: Body[D],
            e: Body[E],
            f: Body[F],
            g: Body[G],
            h: Body[H],
            /,
            *,
            return_exceptions: bool,
        ) -> Call[tuple[Tried[A], Tried[B], Tried[C], Tried[D], Tried[E], Tried[F], Tried[G], Tried[H]]]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[A],
            c: Body[A],
            d: Body[A],
            e: Body[A],
            f: Body[A],
            g: Body[A],
            h: Body[A],
            i: Body[A],
            /,
            *more: Body[A],
            return_exceptions: bool,
        ) -> Call[list[Tried[A]]]: ...

    class Race(Protocol):
        """The type of `race`."""

        @overload
        def __call__(self, a: Body[A], /) -> Call[A]: ...

        @overload
        def __call__(self, a: Body[A], b: Body[B], /) -> Call[A | B]: ...

        @overload
        def __call__(self, a: Body[A], b: Body[B], c: Body[C], /) -> Call[A | B | C]: ...

        @overload
        def __call__(self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], /) -> Call[A | B | C | D]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], /
        ) -> Call[A | B | C | D | E]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], f: Body[F], /
        ) -> Call[A | B | C | D | E | F]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], f: Body[F], g: Body[G], /
        ) -> Call[A | B | C | D | E | F | G]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], f: Body[F], g: Body[G], h: Body[H], /
        ) -> Call[A | B | C | D | E | F | G | H]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[A],
            c: Body[A],
            d: Body[A],
            e: Body[A],
            f: Body[A],
            g: Body[A],
            h: Body[A],
            i: Body[A],
            /,
            *more: Body[A],
        ) -> Call[A]: ...

    class AsCompleted(Protocol):
        """The type of `as_completed`."""

        @overload
        def __call__(self) -> Completions[Any]: ...

        @overload
        def __call__(self, a: Body[A], /) -> Completions[A]: ...

        @overload
        def __call__(self, a: Body[A], b: Body[B], /) -> Completions[A | B]: ...

        @overload
        def __call__(self, a: Body[A], b: Body[B], c: Body[C], /) -> Completions[A | B | C]: ...

        @overload
        def __call__(self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], /) -> Completions[A | B | C | D]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], /
        ) -> Completions[A | B | C | D | E]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], f: Body[F], /
        ) -> Completions[A | B | C | D | E | F]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], f: Body[F], g: Body[G], /
        ) -> Completions[A | B | C | D | E | F | G]: ...

        @overload
        def __call__(
            self, a: Body[A], b: Body[B], c: Body[C], d: Body[D], e: Body[E], f: Body[F], g: Body[G], h: Body[H], /
        ) -> Completions[A | B | C | D | E | F | G | H]: ...

        @overload
        def __call__(
            self,
            a: Body[A],
            b: Body[A],
            c: Body[A],
            d: Body[A],
            e: Body[A],
            f: Body[A],
            g: Body[A],
            h: Body[A],
            i: Body[A],
            /,
            *more: Body[A],
        ) -> Completions[A]: ...

    class SelectFirst(Protocol):
        """The type of `select`: the number of a call, and its answer."""

        @overload
        def __call__(self, a: Selectable[A], /) -> Select[First[A]]: ...

        @overload
        def __call__(self, a: Selectable[A], b: Selectable[B], /) -> Select[First[A] | Second[B]]: ...

        @overload
        def __call__(
            self, a: Selectable[A], b: Selectable[B], c: Selectable[C], /
        ) -> Select[First[A] | Second[B] | Third[C]]: ...

        @overload
        def __call__(
            self, a: Selectable[A], b: Selectable[B], c: Selectable[C], d: Selectable[D], /
        ) -> Select[First[A] | Second[B] | Third[C] | Fourth[D]]: ...

        @overload
        def __call__(
            self, a: Selectable[A], b: Selectable[B], c: Selectable[C], d: Selectable[D], e: Selectable[E], /
        ) -> Select[First[A] | Second[B] | Third[C] | Fourth[D] | Fifth[E]]: ...

        @overload
        def __call__(
            self,
            a: Selectable[A],
            b: Selectable[B],
            c: Selectable[C],
            d: Selectable[D],
            e: Selectable[E],
            f: Selectable[F],
            /,
        ) -> Select[First[A] | Second[B] | Third[C] | Fourth[D] | Fifth[E] | Sixth[F]]: ...

        @overload
        def __call__(
            self,
            a: Selectable[A],
            b: Selectable[B],
            c: Selectable[C],
            d: Selectable[D],
            e: Selectable[E],
            f: Selectable[F],
            g: Selectable[G],
            /,
        ) -> Select[First[A] | Second[B] | Third[C] | Fourth[D] | Fifth[E] | Sixth[F] | Seventh[G]]: ...

        @overload
        def __call__(
            self,
            a: Selectable[A],
            b: Selectable[B],
            c: Selectable[C],
            d: Selectable[D],
            e: Selectable[E],
            f: Selectable[F],
            g: Selectable[G],
            h: Selectable[H],
            /,
        ) -> Select[First[A] | Second[B] | Third[C] | Fourth[D] | Fifth[E] | Sixth[F] | Seventh[G] | Eighth[H]]: ...

        @overload
        def __call__(
            self,
            a: Selectable[A],
            b: Selectable[A],
            c: Selectable[A],
            d: Selectable[A],
            e: Selectable[A],
            f: Selectable[A],
            g: Selectable[A],
            h: Selectable[A],
            i: Selectable[A],
            /,
            *more: Selectable[A],
        ) -> Select[tuple[int, A]]: ...

    def gathering(function: Callable[..., Any]) -> Gather:
        """Give `function` the type of the protocol."""
        ...

    def racing(function: Callable[..., Any]) -> Race:
        """Give `function` the type of the protocol."""
        ...

    def completing(function: Callable[..., Any]) -> AsCompleted:
        """Give `function` the type of the protocol."""
        ...

    def selecting(function: Callable[..., Any]) -> SelectFirst:
        """Give `function` the type of the protocol."""
        ...

else:
    from types import coroutine as gathering

    racing = gathering

    def completing(function):
        return function

    selecting = completing
