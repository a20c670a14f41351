"""Numbers that a program passes: seconds, times, and counts of things, each checked in one place.

Theory of operation. A call checks its numbers before anything has happened. Seconds are any real number (`float`
converts it): an int, a float, a Decimal, a Fraction, a number of numpy. Counts are any integer (`operator.index`
converts it). A str or a bool is neither, even though `float("1")` and `True + 1` work. The error of a wrong kind is a
TypeError, and that of a wrong value a ValueError; both name the call, the parameter, the unit and what was given.

Invariants:
1. Seconds that are too large for a float are infinite: they mean "never", as `math.inf` does.

The calls that are made most often look at the type themselves, and come here for any other than float or int, since a
function call for each Read or Timeout costs several percent of `timeout`. A syscall checks its numbers at the `yield`,
as it checks everything else.

Not here: addresses and ports (`net/addresses.py`).
"""

from __future__ import annotations

from math import inf
from operator import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SECONDS = 1e300  # from here on, a deadline never comes: the number of its bucket of timers must not be infinite


def check_seconds(call: str, parameter: str, given: Any, *, optional: bool = False, above_0: bool = False) -> float:
    """Return a number of seconds, 0 or more, as a float.

    Args:
        call: the call and its parameter, for the error.
        parameter: the name of the parameter.
        given: the value that the program has passed.
        optional: the call takes None, too, which it handles itself.
        above_0: refuse 0.
    """
    least = "more than 0" if above_0 else "0 or more"
    rule = f"{call}: {parameter} is a number of seconds, {least}{', or None for no limit' if optional else ''}"
    seconds = real(rule, given)
    if not (seconds > 0 if above_0 else seconds >= 0):
        raise ValueError(f"{rule}, not {given!r}")
    return seconds


def check_time(call: str, parameter: str, given: Any, *, optional: bool = False, finite: bool = False) -> float:
    """Return a time of the run's clock in seconds, which may be negative, as a float."""
    rule = f"{call}: {parameter} is a time in seconds{', or infinity or None for no limit' if optional else ''}"
    seconds = real(rule, given)
    if seconds != seconds or (finite and abs(seconds) >= MAX_SECONDS):
        raise ValueError(f"{rule}, not {given!r}")
    return seconds


def check_count(
    call: str, parameter: str, unit: str, given: Any, *, least: int = 0, optional: bool = False, endless: bool = False
) -> Any:
    """Return a number of things as an int, or infinity.

    Args:
        call: the call, for the error.
        parameter: the name of the parameter.
        unit: the things that are counted.
        given: the value that the program has passed.
        least: the smallest number that is allowed.
        optional: the call takes None, too, which it handles itself.
        endless: the call takes infinity.
    """
    rule = f"{call}: {parameter} is a number of {unit}, {least} or more{', or None for no limit' if optional else ''}"
    if isinstance(given, float) and (given != given or abs(given) == inf):
        if given == inf and endless:
            return given
        raise ValueError(f"{rule}, not {given!r}")
    try:
        number = None if isinstance(given, bool) else index(given)  # pyright: ignore[reportArgumentType]
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{rule}, not {given!r} ({type(given).__name__})")
    if number < least:
        raise ValueError(f"{rule}, not {given!r}")
    return number


def real(rule: str, given: Any) -> float:
    """Return a real number as a float, or infinity if it is too large; raise TypeError for anything else."""
    kind: Any = type(given)  # pyright: ignore[reportUnknownVariableType]
    if issubclass(kind, (bool, str)) or not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
        raise TypeError(f"{rule}, not {given!r} ({kind.__name__})")
    try:
        return float(given)
    except OverflowError:
        return inf if given > 0 else -inf
    except ValueError:  # a signalling NaN of `decimal`
        raise ValueError(f"{rule}, not {given!r}") from None
