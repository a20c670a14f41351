"""What was measured: values of each peer in each round, and what follows from them.

The result is a *ratio*: in each round, a peer's value over minisched's; the median of those. 2 means that
the peer takes twice as long, or as much.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from .catalogue import OURS, Series, Values

VERSION = "{}.{}".format(*sys.version_info)
FLOOR = Path(__file__).parent / "floor.json"
BELOW = 0.12  # of what was measured: so far below it is the floor


@dataclass
class Results:
    """The values of each series, by peer, one for each round."""

    series: dict[str, Series] = field(default_factory=dict)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    python: str = platform.python_version()
    missing: dict[str, str] = field(default_factory=dict)  # which peer was left out, and why
    slow: dict[str, dict[str, str]] = field(default_factory=dict)  # the same, in one benchmark

    def add(self, series: tuple[Series, ...], values: Values) -> None:
        """Take note of a round."""
        for one in series:
            for peer, value in values.get(one.name, {}).items():
                self.series[one.name] = one
                self.values.setdefault(one.name, {}).setdefault(peer, []).append(value)

    def ratio(self, name: str, peer: str, to: str = OURS) -> float | None:
        """Return how many times as long a peer takes as another; None if one of them was not measured."""
        base, theirs = self.values[name].get(to), self.values[name].get(peer)
        if not base or not theirs:
            return None
        ratios = [their / one for one, their in zip(base, theirs, strict=True) if one]
        return median(ratios) if ratios else None

    def value(self, name: str, peer: str) -> float | None:
        """Return the median of a peer's values."""
        values = self.values[name].get(peer)
        return median(values) if values else None

    def ratios(self) -> dict[str, dict[str, float]]:
        """Return all ratios, by series and peer."""
        found: dict[str, dict[str, float]] = {}
        for name, by_peer in self.values.items():
            for peer in by_peer:
                ratio = self.ratio(name, peer)
                if peer != OURS and ratio is not None:
                    found.setdefault(name, {})[peer] = ratio
        return found

    def left_out(self) -> list[str]:
        """Return, in words, who was not measured, and why."""
        all_of = [f"without {peer}: {why}" for peer, why in self.missing.items()]
        one_of = [f"{name} without {peer}: {why}" for name, by in self.slow.items() for peer, why in by.items()]
        return all_of + one_of

    def save(self, file: Path) -> None:
        """Write everything to a file."""
        series = {one.name: {"what": one.what, "unit": one.unit} for one in self.series.values()}
        whole = {"python": self.python, "machine": platform.platform(), "series": series, "values": self.values}
        _ = file.write_text(json.dumps(whole | {"ratios": self.ratios()}, indent=1) + "\n", encoding="utf-8")


def read(file: Path) -> Results:
    """Return what was saved."""
    whole = json.loads(file.read_text(encoding="utf-8"))
    series = {name: Series(name, **rest) for name, rest in whole["series"].items()}
    return Results(series, whole["values"], whole["python"])


def below_the_floor(results: Results) -> list[str]:
    """Return, in words, which ratios are less than the committed ones for this version of Python."""
    floor = json.loads(FLOOR.read_text(encoding="utf-8")).get(VERSION)
    if floor is None:
        return [f"{FLOOR.name} says nothing of Python {VERSION}: measure it with --write-floor"]
    return [
        f"{name}: {peer} takes {ratio:.2f} times as long as {OURS}; {floor[name][peer]:.2f} is the floor"
        for name, by_peer in results.ratios().items()
        for peer, ratio in by_peer.items()
        if ratio < floor.get(name, {}).get(peer, 0)
    ]


def write_floor(results: Results) -> None:
    """Make what was measured the floor of this version of Python, a little lower; what was not measured stays."""
    whole = json.loads(FLOOR.read_text(encoding="utf-8")) if FLOOR.exists() else {}
    floor = whole.setdefault(VERSION, {})
    for name, by_peer in results.ratios().items():
        lower = {peer: round(ratio * (1 - BELOW), 3) for peer, ratio in by_peer.items()}
        floor[name] = {peer: ratio for peer, ratio in lower.items() if ratio}  # a C server takes no time of its own
    _ = FLOOR.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
