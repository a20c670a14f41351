"""Checkpoints: the state of an exhaustive exploration in a file, to go on tomorrow.

Theory of operation. The state of a depth-first search is its stack of frames, each with the choices that are left. It
is written as JSON to a temporary file beside the checkpoint, which then takes its place: a full disk or a kill leaves
the old one as it was. At the next call, the search repeats the run on its stack first. If the program was changed, some
turn there has another footprint, and the search says so.

Not here: the search (`exhaustive`).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress

from .exhaustive import Act, Frame, Search
from .footprints import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from .search import Exploration

VERSION = 2  # of the format
COUNTS = ("runs", "cut_short", "aborted")


class BadCheckpoint(ValueError):
    """A file that is not a checkpoint of an exploration, or one of another version. The text names it.

    Example:
        >>> from minisched.lab import BadCheckpoint, explore
        >>> def main():
        ...     yield
        >>> try:
        ...     explore(main, exhaustive=True, checkpoint="/dev/null")
        ... except BadCheckpoint as error:
        ...     print(error)
        /dev/null is not a checkpoint of an exploration: Expecting value: line 1 column 1 (char 0)
    """


def load(file: Path, found: Exploration) -> Search:
    """Return a search that goes on where a checkpoint ends, or a new one if there is no such file."""
    search = Search(kinds=found.kinds)
    if not file.exists():
        return search
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        if state["version"] != VERSION:
            raise ValueError(f"its version is {state['version']!r}, and this is version {VERSION}")
        if state["kinds"] != sorted(found.kinds):
            raise ValueError(f"the acts there are {state['kinds']}, and in this exploration {sorted(found.kinds)}")
        for name in COUNTS:
            setattr(found, name, int(state[name]))
        search.before, *search.frames = [frame_of(values) for values in state["frames"]]
        if not search.frames:
            raise ValueError("there are no frames in it")
        search.known = len(search.frames) - 1
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadCheckpoint(f"{file} is not a checkpoint of an exploration: {error}") from error
    return search


def save(file: Path, search: Search, found: Exploration) -> None:
    """Write the state of a search."""
    state = {"version": VERSION, "kinds": sorted(found.kinds), **{name: getattr(found, name) for name in COUNTS}}
    state["frames"] = [values_of(frame) for frame in (search.before, *search.frames)]
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        _ = temporary.write_text(json.dumps(state), encoding="utf-8")
        _ = temporary.replace(file)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(file)) from error


def values_of(frame: Frame) -> dict[str, Any]:
    """Return a frame as values of JSON."""
    return {
        "ready": frame.ready,
        "task": frame.task,
        "choices": sorted(frame.choices),
        "slept": frame.slept,
        "sleep": {path: pairs_of(events) for path, events in frame.sleep.items()},
        "events": pairs_of(frame.events),
        "masks": frame.masks,
        "first": frame.first,
        "epoch": frame.epoch,
        "tried": pairs_of(frame.tried),
        "acts": [[act.labels, act.outcomes] for act in frame.acts],
    }


def frame_of(values: dict[str, Any]) -> Frame:
    """Return the frame of such values."""
    sleep = {str(path): events_of(pairs) for path, pairs in values["sleep"].items()}
    frame = Frame([str(path) for path in values["ready"]], sleep)
    frame.task, frame.choices, frame.slept = str(values["task"]), {*values["choices"]}, int(values["slept"])
    frame.events = events_of(values["events"])
    frame.masks, frame.first = [int(mask) for mask in values["masks"]], int(values["first"])
    frame.epoch, frame.tried = int(values["epoch"]), events_of(values["tried"])
    frame.acts = [Act(list(map(str, labels)), list(map(int, outcomes))) for labels, outcomes in values["acts"]]
    if frame.task not in frame.ready and frame.ready:
        raise ValueError(f"task {frame.task} is not ready in it")
    return frame


def pairs_of(events: list[Event]) -> list[Any]:
    """Return events as values of JSON."""
    return [[event.footprint, event.trigger] for event in events]


def events_of(pairs: list[Any]) -> list[Event]:
    """Return the events of such values."""
    return [Event({str(name): str(mode) for name, mode in footprint.items()}, trigger) for footprint, trigger in pairs]
