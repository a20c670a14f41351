"""The shared parts of the demos at a terminal: a quiet end, the width of the terminal, and options that are numbers.

Shows: how a program ends as a shell expects it: with status 130 after Ctrl-C, and 141 when the reader of its output is
gone, as `| head` is; and how it runs without standard output (`>&-`), where Python sets `sys.stdout` to None.

Run it:  python demos/hello.py    (this file does nothing by itself)
"""

import argparse
import contextlib
import errno
import os
import select
import sys
import traceback
from math import inf

INTERRUPTED_STATUS = 130  # 128 and the number of SIGINT
UNREAD_STATUS = 141  # 128 and the number of SIGPIPE
DEFAULT_COLUMNS = 80  # of a terminal that does not know its width
UNITS = ("bytes", "kB", "MB", "GB", "TB")


@contextlib.contextmanager
def quiet_end():
    """Exit without a traceback after Ctrl-C, and if standard output is full or its reader is gone."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        first = first_error(error)
        if isinstance(first, KeyboardInterrupt):
            if first.__cause__ is not None and output_failure(first.__cause__) is None:  # a cleanup failed
                traceback.print_exception(first.__cause__)
            flush_output()
            sys.exit(INTERRUPTED_STATUS)
        if (status := output_failure(first)) is None:
            raise
        flush_output()
        sys.exit(status)


def first_error(error):
    """Return the first error in a group and its groups; any other error is returned as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def output_failure(error):
    """Return the exit status or message for an error of standard output, or None for any other error."""
    if isinstance(error, BrokenPipeError) and is_unread(sys.stdout):
        return UNREAD_STATUS
    return f"standard output: {error.strerror}" if getattr(error, "errno", None) == errno.ENOSPC else None


def say(text, end="\n"):
    """Print a line of a server, which serves on if nobody can read it."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        flush_output()


def is_unread(stream):
    """Return whether a stream is a pipe or a socket whose reader is gone."""
    poll = select.poll()
    poll.register(stream, 0)  # errors are always reported
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def flush_output():
    """Write what standard output has buffered, or discard it if that fails: Python would try again at its exit."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def is_terminal(stream):
    """Return whether a stream is a terminal; None, in place of a closed stream, is none."""
    return stream is not None and stream.isatty()


def progress_bar(label, total, count):
    """Update a progress bar on standard error ten times a second; without rich, print how to install it.

    This is the body of a task. `count()` returns how much of `total` is done.
    """
    from minisched import Sleep

    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        print("for a progress bar: pip install -e '.[demo]'", file=sys.stderr)
        return
    with Progress(console=Console(stderr=True), auto_refresh=False) as progress:
        bar = progress.add_task(label, total=total)
        try:
            while True:
                progress.update(bar, completed=count(), refresh=True)
                yield Sleep(0.1)
        finally:
            progress.update(bar, completed=count(), refresh=True)


def columns(stream):
    """Return the width of the terminal that a stream leads to."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_COLUMNS
    except OSError:
        return DEFAULT_COLUMNS


def fitted(parts, width):
    """Join the first of the parts, as many as fit into `width` characters; the first one is cut if it does not fit."""
    line = parts[0][: max(width, 0)]
    for part in parts[1:]:
        if len(line) + len(f", {part}") > width:
            break
        line += f", {part}"
    return line


def counted(number, noun):
    """Return a number with its noun: "1 connection", "1,000 connections"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(number):
    """Return a number of bytes with three digits at most and its unit: "999 bytes", "5.8 MB", "19 MB"."""
    if number < 1000:
        return counted(round(number), "byte")
    for unit in UNITS[1:]:
        number /= 1000
        if number < 999.5 or unit == UNITS[-1]:
            break
    return f"{number:.1f} {unit}" if number < 9.95 else f"{number:,.0f} {unit}"


def duration(seconds):
    """Return a duration as text: "4.2 s", "42 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 120:
        return f"{seconds} s"
    minutes, hours = seconds // 60, seconds // 3600
    return f"{minutes} min {seconds % 60} s" if hours == 0 else f"{hours:,} h {minutes % 60} min"


def whole(least, most=inf):
    """Return an argparse type: a whole number from `least` to `most`."""

    def parse(text):
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else None
        if number is None or not least <= number <= most:
            limits = f"of at least {least}" if most == inf else f"from {least} to {most:,}"
            raise argparse.ArgumentTypeError(f"expected a number {limits}, not {text!r}")
        return number

    return parse


def seconds(least="0 or more"):
    """Return an argparse type: seconds as a float; None for `inf` or `none`. `least`: "0 or more" or "more than 0"."""

    def parse(text):
        try:
            number = inf if text.lower() == "none" else float(text)
        except ValueError:
            number = -1.0
        if not (number > 0 or (number == 0 and least == "0 or more")):  # NaN is neither
            raise argparse.ArgumentTypeError(f"expected seconds, {least}, or inf for no limit, not {text!r}")
        return None if number == inf else number

    return parse
