"""The commands `record FILE[:FUNCTION] [ARGS...]` and `replay RECORDING`.

Theory of operation. `record` runs a function of a file as `run` does, and writes a recording (`lab/record`). Its first
line says which file and function that was, with which arguments. So `replay` needs the recording and the file alone.
Two things that a program depends on without asking the loop are made the same in both runs: the seed of `random`, and
that of the hashes of str and bytes, on which the order of a set depends. The second one is fixed when Python starts. So
both commands start Python again, unless PYTHONHASHSEED has the value already.

Invariants:
1. A replay needs no argument but the recording: everything else is in its header.

Not here: how a run is recorded (`lab/record`); how a file is loaded (`commands`).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import zlib
from pathlib import Path

from ..lab.record import Diverged, RecordingEnded, record, replay
from ..lab.tape import BadRecording, TapeReader
from ..lab.trace import TextTrace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

DEFAULT_FILE = "run.jsonl"
HASH_SEEDS = 2**32  # that PYTHONHASHSEED can have


class Mistake(Exception):
    """A mistake on the command line, in one line."""


def add_record(commands: Any, add_program: Callable[[argparse.ArgumentParser], None], command: Any) -> None:
    """Add the command `record`."""
    usage = "%(prog)s [-h] [-o RECORDING] FILE[:FUNCTION] [ARGS ...]"
    text = "run a function of a file, and write a recording that can be replayed"
    recorder = commands.add_parser("record", usage=usage, help=text)
    _ = recorder.add_argument(
        "-o", "--output", metavar="RECORDING", default=DEFAULT_FILE, help="file for the recording; default: %(default)s"
    )
    add_program(recorder)
    recorder.set_defaults(command=command)


def add_replay(commands: Any, command: Any) -> None:
    """Add the command `replay`."""
    text = "run a recorded program again, without network, threads and waiting"
    player = commands.add_parser("replay", help=text)
    _ = player.add_argument("--trace", action="store_true", help="print a line for each event to standard error")
    _ = player.add_argument("recording", metavar="RECORDING", help="file that `minisched record` has written")
    player.set_defaults(command=command)


def record_program(options: argparse.Namespace, load: Callable[[str, list[str]], Any]) -> None:
    """Run the program of the command line, and record it."""
    restart(None)
    seed = random.randrange(HASH_SEEDS)
    random.seed(seed)
    file, main = load(options.target, options.args)
    header: dict[str, Any] = {
        "target": options.target,
        "args": options.args,
        "checksum": checksum(file),
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
        "random_seed": seed,
    }
    try:
        _ = record(main, options.output, **header)
    except OSError as error:
        if error.filename == options.output:
            raise Mistake(f"{options.output}: {error.strerror}") from None
        raise


def replay_program(
    options: argparse.Namespace, load: Callable[[str, list[str]], Any], say: Callable[[str], None]
) -> None:
    """Run the program of a recording again."""
    try:
        tape = TapeReader(options.recording)
    except BadRecording as error:
        raise Mistake(str(error)) from None
    except OSError as error:
        raise Mistake(f"{options.recording}: {error.strerror}") from None
    header = tape.header
    tape.close()
    given = [header.get(name) for name in ("target", "args", "random_seed")]
    if list(map(type, given)) != [str, list, int] or not all(type(argument) is str for argument in header["args"]):
        raise Mistake(f"{options.recording} does not name its program: replay it by minisched.lab.replay(main(), file)")
    hash_seed = header.get("hash_seed")
    restart(hash_seed if isinstance(hash_seed, str) and hash_seed.isdecimal() else None)
    random.seed(header["random_seed"])
    file, main = load(header["target"], header["args"])
    if checksum(file) != header.get("checksum"):
        say(f"minisched: {file} has changed since the recording")
    if header.get("python") != (here := sys.version.partition(" ")[0]):
        say(f"minisched: the recording is of Python {header.get('python')}, and this is {here}")
    try:
        _ = replay(main, options.recording, watch=[TextTrace(say)] if options.trace else [])
    except RecordingEnded as error:
        say(f"minisched: {error}")
    except (Diverged, BadRecording) as error:
        raise Mistake(str(error)) from None


def restart(seed: str | None) -> None:
    """Start Python again with this seed for hashes, or any if it is None and none is set; do nothing if it is set."""
    given = os.environ.get("PYTHONHASHSEED", "random")
    restarted = os.environ.pop("MINISCHED_RESTARTED", "")  # not for the programs that this one starts
    if given == seed or (seed is None and given != "random") or restarted:
        return
    seeds = {"PYTHONHASHSEED": seed or str(random.randrange(HASH_SEEDS)), "MINISCHED_RESTARTED": "1"}
    if sys.stdout is not None:  # type: ignore[redundant-expr]  # it is None where it is closed
        _ = sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | seeds)


def checksum(file: str) -> int:
    """Return the checksum of a file."""
    return zlib.crc32(Path(file).read_bytes())
