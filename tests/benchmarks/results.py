"""The values of each peer in each round, the ratios between them, and the floor below which no ratio may fall.

The result of a benchmark is a *ratio*: the median, over all rounds, of the peer's value divided by minisched's value
in the same round. A ratio of 2 means that the peer needs twice the time, or twice the memory.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from .catalogue import MINISCHED, Series, Values

VERSION = "{}.{}".format(*sys.version_info)
FLOOR = Path(__file__).parent / "floor.json"
FLOOR_RATIO = 0.88  # the floor is this share of the measured ratio; noise stays within the rest


@dataclass
class Results:
    """The values of each series, by peer, one for each round."""

    series: dict[str, Series] = field(default_factory=dict)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    python: str = platform.python_version()
    missing: dict[str, str] = field(default_factory=dict)  # the reason, by peer: in no benchmark
    too_slow: dict[str, dict[str, str]] = field(default_factory=dict)  # the reason, by benchmark, by peer

    def add(self, series: tuple[Series, ...], values: Values) -> None:
        """Record the values of a round."""
        for one in series:
            for peer, value in values.get(one.name, {}).items():
                self.series[one.name] = one
                self.values.setdefault(one.name, {}).setdefault(peer, []).append(value)

    def ratio(self, name: str, peer: str, to: str = MINISCHED) -> float | None:
        """Return the ratio of a peer to another one, or None if one of them was not measured."""
        values = self.values.get(name, {})
        bases, others = values.get(to), values.get(peer)
        if not bases or not others:
            return None
        ratios = [other / base for base, other in zip(bases, others, strict=True) if base]
        return median(ratios) if ratios else None

    def value(self, name: str, peer: str) -> float | None:
        """Return the median of a peer's values, or None."""
        values = self.values.get(name, {}).get(peer)
        return median(values) if values else None

    def ratios(self) -> dict[str, dict[str, float]]:
        """Return all ratios to minisched, by series and peer."""
        ratios: dict[str, dict[str, float]] = {}
        for name, by_peer in self.values.items():
            for peer in by_peer:
                ratio = self.ratio(name, peer)
                if peer != MINISCHED and ratio is not None:
                    ratios.setdefault(name, {})[peer] = ratio
        return ratios

    def left_out(self) -> list[str]:
        """Return a line for each peer that was not measured, with the reason."""
        everywhere = [f"{peer} was not measured: {reason}" for peer, reason in self.missing.items()]
        in_one = [
            f"{peer} was not measured in {name}: {reason}"
            for name, reasons in self.too_slow.items()
            for peer, reason in reasons.items()
        ]
        return everywhere + in_one

    def save(self, file: Path) -> None:
        """Write everything to a JSON file."""
        content = {
            "python": self.python,
            "machine": platform.platform(),
            "series": {one.name: {"description": one.description, "unit": one.unit} for one in self.series.values()},
            "values": self.values,
            "missing": self.missing,
            "too_slow": self.too_slow,
            "ratios": self.ratios(),  # for a person who reads the file; `load` computes them again
        }
        _ = file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load(file: Path) -> Results:
    """Return the results in a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    series = {name: Series(name, **rest) for name, rest in content["series"].items()}
    return Results(series, content["values"], content["python"], content["missing"], content["too_slow"])


def below_the_floor(results: Results) -> list[str]:
    """Return a line for each ratio that is below the committed floor of this version of Python."""
    floor = json.loads(FLOOR.read_text(encoding="utf-8")).get(VERSION)
    if floor is None:
        return [f"{FLOOR.name} has no ratios for Python {VERSION}: write them with --write-floor"]
    return [
        f"{name}: {peer} needs {ratio:.2f} times as much as {MINISCHED}; the floor is {floor[name][peer]:.2f}"
        for name, by_peer in results.ratios().items()
        for peer, ratio in by_peer.items()
        if ratio < floor.get(name, {}).get(peer, 0)
    ]


def write_floor(results: Results) -> None:
    """Write the floor of this version of Python; series that were not measured keep theirs."""
    content = json.loads(FLOOR.read_text(encoding="utf-8")) if FLOOR.exists() else {}
    floor = content.setdefault(VERSION, {})
    for name, by_peer in results.ratios().items():
        floors = {peer: round(ratio * FLOOR_RATIO, 3) for peer, ratio in by_peer.items()}
        floor[name] = {peer: ratio for peer, ratio in floors.items() if ratio}  # a C server has no user time to compare
    _ = FLOOR.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
