"""Show results as tables, and the progress of a measurement as a bar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .catalogue import BASELINES, LIMITS, MINISCHED, PEERS
from .results import Results

FACTORS = {"us": 1e6, "ms": 1e3, "bytes": 1.0, "syscalls": 1.0}
WIDTH_COLUMNS = 200  # of a table that does not go to a terminal


def progress(console: Console) -> Progress:
    """Return a progress bar, which is hidden where the output is not a terminal."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def amount(value: float | None, unit: str) -> str:
    """Return a value with its unit."""
    if value is None:
        return "-"
    value *= FACTORS[unit]
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def times(ratio: float | None) -> str:
    """Return a ratio with two significant digits, or three where it is close to 1."""
    if ratio is None:
        return "-"
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"


def tables(results: Results) -> Iterator[Table]:
    """Yield the tables of each group of series that has the same peers: one relative to minisched, one to each limit.

    The first kind can be compared with the figures of README.md; the titles say which is which.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, by_peer in results.values.items():
        groups.setdefault(tuple(peer for peer in PEERS if peer in by_peer), []).append(name)
    for peers, names in groups.items():
        yield table(results, names, peers, MINISCHED)
        for baseline in BASELINES:
            if baseline in peers and MINISCHED in peers:
                yield table(results, names, peers, baseline)


def table(results: Results, names: Iterable[str], peers: tuple[str, ...], base: str) -> Table:
    """Return a table with the amount of one peer and the ratios of the others to it."""
    purpose = "as in tests/benchmarks/README.md" if base == MINISCHED else "how close each peer is to a limit"
    title = f"Relative to {base} ({purpose}). Python {results.python}, median of the rounds: "
    title += f"the amount of {base}, then each peer divided by {base}"
    shown = Table(title=title, title_justify="left", caption_justify="left")
    shown.add_column("")
    for peer in sorted(peers, key=lambda peer: peer != base):  # `base` is the first column
        shown.add_column(peer, justify="right", style="dim" if peer in LIMITS else "")
    for name in names:
        series = results.series[name]
        cells = [times(results.ratio(name, peer, base)) for peer in peers if peer != base]
        shown.add_row(f"{name}: {series.description}", amount(results.value(name, base), series.unit), *cells)
    return shown


def console() -> Console:
    """Return the console that the tables are printed on."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDTH_COLUMNS)
