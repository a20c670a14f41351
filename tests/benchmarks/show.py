"""The results as tables, and the progress of measuring as a bar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .catalogue import BOUNDS, LIMITS, OURS, PEERS
from .results import Results

FACTORS = {"us": 1e6, "ms": 1e3, "bytes": 1.0, "calls": 1.0}
WIDE = 200  # columns, where nobody looks at it on a terminal


def progress(console: Console) -> Progress:
    """Return a bar that shows how far measuring has come; nothing in a pipe."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def amount(value: float | None, unit: str) -> str:
    """Return a value with its unit."""
    if value is None:
        return "-"
    value *= FACTORS[unit]
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def times(ratio: float | None) -> str:
    """Return a ratio: two digits that mean something, three where it is close to 1."""
    if ratio is None:
        return "-"
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"


def tables(results: Results) -> Iterator[Table]:
    """Return a table for each group of series that has the same peers: beside ours, then beside the limit."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, by_peer in results.values.items():
        groups.setdefault(tuple(peer for peer in PEERS if peer in by_peer), []).append(name)
    for peers, names in groups.items():
        yield table(results, names, peers, OURS)
        for limit in BOUNDS:
            if limit in peers and OURS in peers:
                yield table(results, names, peers, limit)


def table(results: Results, names: Iterable[str], peers: tuple[str, ...], to: str) -> Table:
    """Return the table of some series, beside what one of the peers takes."""
    title = f"Python {results.python}: how many times as long, or as much, as {to} (the median of the rounds)"
    shown = Table(title=title, title_justify="left", caption_justify="left")
    shown.add_column("")
    for peer in sorted(peers, key=lambda peer: peer != to):  # it comes first
        shown.add_column(peer, justify="right", style="dim" if peer in LIMITS else "")
    for name in names:
        series = results.series[name]
        cells = [times(results.ratio(name, peer, to)) for peer in peers if peer != to]
        shown.add_row(f"{name}: {series.what}", amount(results.value(name, to), series.unit), *cells)
    return shown


def console() -> Console:
    """Return where it is shown."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDE)
