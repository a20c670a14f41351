"""Fixtures that run in the scheduler: `fixture` in place of `pytest.fixture`, and `Provide`.

Theory of operation. A fixture of pytest has ended its setup before the test begins, so it cannot have a task that
serves the test. A fixture of this module is set up in the run of the test, and in its main task. It is a context
manager around the test: a timeout or a task group that it has entered holds for the test, too. To pytest it is a
function that returns a `Prepared`. `around` enters these, in the order of their dependencies, and then runs the test.

Invariants:
1. Each fixture is set up once in a run, and torn down in reverse order, whatever the test raises.
2. An error of the test is never lost: a fixture that swallows it does not make the test pass.

A generator gives its value by `yield Provide(value)`, since its other yields are calls, and a value may be None or a
call, too: the first yield that is not a call cannot be taken for it.

Not here: the hooks of pytest (`pytest_plugin`).
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction

from ..errors import Cancelled
from ..kernel import Syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
    from typing import Any

    from ..kernel import Kernel, Task


class Provide(Syscall[None]):
    """Give the value of a fixture to the test, and return when the test has ended; for generators only.

    An error of the test is raised here, as in a context manager. In an `async def`, a fixture is an async generator,
    and its plain `yield value` does the same.

    Args:
        value: the value of the fixture.

    Raises:
        TypeError: at a yield outside of a fixture.

    Example:
        The fixture is the address of a listener, which is open during the test:

        >>> from minisched import Listen
        >>> from minisched.testing import Provide, fixture
        >>> @fixture
        ... def address():
        ...     with (yield Listen(("127.0.0.1", 0))) as listener:
        ...         yield Provide(listener.address)
    """

    __slots__ = ("value",)
    checkpoint = False

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def handle(self, kernel: Kernel, task: Task) -> None:
        raise TypeError(f"{self!r} outside of a fixture: it is yielded by a generator under @minisched.testing.fixture")


def fixture(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a fixture of pytest out of a function that runs in the scheduler, once for each run of a test.

    The function is a generator that yields calls and `Provide(value)`, or that returns the value; or an `async def`
    that returns it; or an async generator that yields it. Its arguments are fixtures, of this kind or of pytest's own.
    It runs in the main task of the test. Only a test that is a generator or an `async def` can use it.

    Args:
        function: the function; without it, the result is a decorator.
        options: those of `pytest.fixture`, except for `scope`: each run of a test has its own.

    Raises:
        TypeError: for a `scope`, or a function of another kind.

    Example:
        >>> from minisched import Queue
        >>> from minisched.testing import fixture
        >>> @fixture
        ... async def jobs():
        ...     queue = Queue()
        ...     await queue.put("the first job")
        ...     return queue
    """
    if "scope" in options:
        raise TypeError("a fixture in the scheduler has no scope: each run of a test sets it up")
    if function is None:
        return partial(fixture, **options)
    if not any(test(function) for test in (isgeneratorfunction, iscoroutinefunction, isasyncgenfunction)):
        raise TypeError(f"{function!r} is neither a generator nor an `async def`: use pytest.fixture")
    import pytest  # here: `minisched.testing` does not need it

    @wraps(function)
    def prepare(*args: Any, **arguments: Any) -> Prepared:
        return Prepared(function, args, arguments)

    made: Any = pytest.fixture
    return made(**options)(prepare)


class Prepared:
    """A fixture before its setup. pytest takes it for the value."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], arguments: Mapping[str, Any]) -> None:
        self.function, self.args, self.arguments = function, args, arguments

    def context(self, values: Mapping[Prepared, Any]) -> Any:
        """Return the context manager of the fixture, with the values of those that it uses."""
        function: Any = self.function
        if isgeneratorfunction(function):
            function = provided_by(function)
        elif iscoroutinefunction(function):
            function = returned_by(function)
        return asynccontextmanager(function)(*self.args, **resolved(self.arguments, values))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the fixture {self.function.__name__!r} has a value only in the run of a test. A test or a fixture that "
            "uses it runs in the scheduler, too (@minisched.testing.fixture)"
        )

    def __repr__(self) -> str:
        return f"<fixture {self.function.__name__}, not set up>"


def provided_by(function: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., AsyncIterator[Any]]:
    """Return an async generator function that yields the value of a generator."""

    async def provide(*args: Any, **arguments: Any) -> AsyncIterator[Any]:
        body = function(*args, **arguments)
        step: Any = body.send
        sent: Any = None
        provides = False
        while True:
            try:
                call = step(sent)
            except StopIteration as end:
                if not provides:
                    yield end.value
                return
            step = body.send
            try:
                if type(call) is not Provide:
                    sent = await Yielded(call)
                    continue
                if provides:
                    raise TypeError(f"the fixture {function.__name__!r} provides a second value")
                sent, provides = None, True
                yield call.value
            except BaseException as error:
                step, sent = body.throw, error

    return provide


def returned_by(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., AsyncIterator[Any]]:
    """Return an async generator function that yields the result of an `async def`."""

    async def provide(*args: Any, **arguments: Any) -> AsyncIterator[Any]:
        yield await function(*args, **arguments)

    return provide


class Yielded:
    """A call, or None, to be yielded by an `await`."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self.call)


class Awaited:
    """A generator or coroutine that runs within an `await`."""

    def __init__(self, body: Any) -> None:
        self.body = body

    def __await__(self) -> Any:
        return self.body.__await__() if hasattr(self.body, "__await__") else self.body


async def around(function: Callable[..., Any], arguments: Mapping[str, Any], fixtures: Mapping[str, Prepared]) -> None:
    """Set up the fixtures, run the test with their values, and tear them down."""
    __tracebackhide__ = True
    failed: BaseException | None = None
    values: dict[Prepared, Any] = {}
    async with AsyncExitStack() as stack:
        for prepared in in_order(fixtures.values()):
            values[prepared] = await stack.enter_async_context(prepared.context(values))
        try:
            await Awaited(function(**resolved(arguments, values)))
        except BaseException as error:
            failed = error
            raise
    if failed is None:
        return
    try:
        if isinstance(failed, Cancelled):
            raise AssertionError("the test was cut short: a scope of a fixture was cancelled") from failed
        raise failed
    finally:
        del failed  # a cycle: its traceback holds this frame


def resolved(arguments: Mapping[str, Any], values: Mapping[Prepared, Any]) -> dict[str, Any]:
    """Return the arguments, with the values of the fixtures that are set up."""
    return {name: values[value] if isinstance(value, Prepared) else value for name, value in arguments.items()}


def in_order(values: Iterable[Any]) -> Iterator[Prepared]:
    """Yield the fixtures among these values, each once, after those that it uses."""
    seen: dict[Prepared, None] = {}

    def visit(value: Any) -> Iterator[Prepared]:
        if isinstance(value, Prepared) and value not in seen:
            seen[value] = None
            for used in value.arguments.values():
                yield from visit(used)
            yield value

    for value in values:
        yield from visit(value)
