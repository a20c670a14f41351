"""The command line: `minisched run FILE[:FUNCTION] [ARGS...]`, `trace`, `record`, `replay`, `explore`, ...

Theory of operation. `run`, `trace` and `record` load a file as an import does, so its `if __name__ == "__main__"` block
does not run. They run one function of the file as the main task; the first two do so with `debug=True`. The exit status
is 0 for success; 1 after a mistake on the command line (one line on standard error), a deadlock (its report) or another
exception of the program (its traceback, which begins in the program); 2 for arguments that argparse refuses; 130 after
Ctrl-C, once the program has cleaned up; 141 if the reader of standard output is gone. A standard stream may be closed
(`>&-`).

Not here: recordings (`recording`); the text of a new syscall (`new_syscall`, `templates/`); the demos.
"""

from __future__ import annotations

import argparse
import inspect
import os
import select
import shlex
import shutil
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

from .. import Deadlock, Read, Socket, SyscallError, Write, __all__, __version__, run, serve, serve_unix
from ..kernel.tracebacks import strip_own_frames
from ..lab.explore import BadCheckpoint, BadSchedule, Exploration, Reduction, check_reduction, explore
from ..lab.timeline import COLUMN_CHARACTERS, NUMBER_CHARACTERS, Timeline, coloured, plain
from ..lab.trace import TextTrace
from ..loop import load as load_program
from ..net.addresses import text_of
from .new_syscall import write_scaffold
from .recording import Mistake, add_record, add_replay, record_program, replay_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import CodeType, ModuleType
    from typing import Any, NoReturn

    from ..kernel.watcher import Watcher
    from ..lab.timeline import Row

INTERRUPTED_STATUS = 130  # the exit status after Ctrl-C: 128 and the number of SIGINT, as a shell reports it
UNREAD_STATUS = 141  # the exit status when the reader of standard output is gone: the same for SIGPIPE
COLUMNS_IN_FILE = 8  # of a trace that goes into a file or a pipe; on a terminal, as many as fit
READ_BYTES = 65536  # of the echo server's reads


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = command_line().parse_args(arguments)
    try:
        options.command(options)
        if sys.stdout is not None:  # type: ignore[redundant-expr]  # it is None where it is closed
            _ = sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        if interrupt.__cause__ is not None:  # the cleanup failed: show its error
            traceback.print_exception(interrupt.__cause__)
        return INTERRUPTED_STATUS
    except Exception as error:
        return report_failure(error)
    return 0


def report_failure(error: Exception) -> int:
    """Print why a program has failed to standard error; return the exit status."""
    if output_is_unread() and isinstance(first_error(error), BrokenPipeError):
        discard_output()
        return UNREAD_STATUS
    if isinstance(error, Deadlock) and error.__cause__ is None:
        print_error(f"Deadlock: {error}")
    else:
        traceback.print_exception(strip_own_frames(error))
    return 1


def first_error(error: BaseException) -> BaseException:
    """Return the first error of a group and its groups; any other error is returned as it is."""
    first: Any = error
    while issubclass(type(first), BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def output_is_unread() -> bool:
    """Return whether standard output is a pipe whose reader is gone, as after `| head`."""
    if sys.stdout is None or not hasattr(select, "poll"):  # type: ignore[redundant-expr]
        return False
    poll = select.poll()
    poll.register(sys.stdout, 0)  # errors are always reported
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def discard_output() -> None:
    """Let standard output lead nowhere: Python flushes it once more at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    _ = os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_error(text: str) -> None:
    """Print a line to standard error; to nowhere where that is closed: `print` would take standard output."""
    if sys.stderr is not None:  # type: ignore[redundant-expr]
        print(text, file=sys.stderr)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        "minisched",
        description="Run and watch programs of minisched, a cooperative scheduler for generators and coroutines.",
        epilog="`minisched COMMAND --help` describes the arguments of a command.",
    )
    _ = parser.add_argument("--version", action="version", version=f"minisched {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    usage = "%(prog)s [-h] [--trace] FILE[:FUNCTION] [ARGS ...]"
    runner = commands.add_parser("run", usage=usage, help="run a function of a file as the main task")
    _ = runner.add_argument("--trace", action="store_true", help="print a line for each event to standard error")
    add_program(runner)
    runner.set_defaults(command=run_file)

    add_trace(commands)
    add_record(commands, add_program, record_file)
    add_replay(commands, replay_file)
    add_explore(commands)

    text = "create a skeleton for a syscall of your own, with a test"
    scaffold = commands.add_parser("new-syscall", help=text)
    _ = scaffold.add_argument("name", metavar="NAME", help="name of the class; NextTick is written to next_tick.py")
    _ = scaffold.add_argument(
        "--folder", type=Path, default=Path(), help="existing folder for the files; default: this one"
    )
    scaffold.set_defaults(command=new_syscall)

    server = commands.add_parser("echo", help="run an echo server, which sends back what it receives")
    _ = server.add_argument("--host", default="127.0.0.1", help="host name or address; default: %(default)s")
    _ = server.add_argument(
        "--port", type=int, default=7777, metavar="N", help="default: %(default)s; 0: any free port"
    )
    _ = server.add_argument("--unix", metavar="PATH", help="listen at a Unix path instead of a port")
    server.set_defaults(command=run_echo)
    return parser


def add_trace(commands: Any) -> None:
    """Add the command `trace`."""
    usage = "%(prog)s [-h] [--columns N] [--width N] FILE[:FUNCTION] [ARGS ...]"
    text = "run a function of a file; show a column for each task, a row for each turn"
    tracer = commands.add_parser("trace", usage=usage, help=text)
    text = "number of columns; tasks that find none free share the last one; default: as many as fit"
    _ = tracer.add_argument("--columns", type=positive, metavar="N", help=text)
    text = f"characters of a column; default: {COLUMN_CHARACTERS}, or more where the terminal has room"
    _ = tracer.add_argument("--width", type=positive, metavar="N", help=text)
    add_program(tracer)
    tracer.set_defaults(command=trace_file)


def add_explore(commands: Any) -> None:
    """Add the command `explore`."""
    text = "run a program in many schedules, until a run fails; show that run, and a test for it"
    explorer = commands.add_parser("explore", help=text)
    text = "file and function, which returns a generator or a coroutine, or a pair of it and a function that checks it"
    _ = explorer.add_argument("target", metavar="FILE[:FUNCTION]", help=text)
    text = "default: 1000 of the portfolio, 20000 of an exhaustive exploration"
    _ = explorer.add_argument("--runs", type=positive, metavar="N", help=text)
    _ = explorer.add_argument("--seed", type=int, default=0, metavar="N", help="of the choices; default: %(default)s")
    _ = explorer.add_argument("--schedule", metavar="TEXT", help='run this one alone, such as "rr 12:0.2"')
    _ = explorer.add_argument("--exhaustive", action="store_true", help="run all schedules that differ")
    text = "keep the state of an exhaustive exploration in a file, and go on there the next time"
    _ = explorer.add_argument("--checkpoint", metavar="FILE", help=text)
    _ = explorer.add_argument("--twice", action="store_true", help="run each schedule a second time, and compare")
    text = "one task may be cancelled in each run, at any point"
    _ = explorer.add_argument("--cancellations", action="store_true", help=text)
    text = "timers with the same deadline may fire in any order"
    _ = explorer.add_argument("--deadlines", action="store_true", help=text)
    text = "search a small program in three ways, and compare what they have found: is what tasks share seen?"
    _ = explorer.add_argument("--check-reduction", action="store_true", help=text)
    explorer.set_defaults(command=explore_file)


def add_program(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the function to run."""
    _ = parser.add_argument(
        "target", metavar="FILE[:FUNCTION]", help="file and function to run; default function: main"
    )
    text = "arguments of FUNCTION, as strings; FUNCTION may need none"
    args = parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help=text)
    args.required = False  # argparse names it among the missing arguments otherwise


def positive(text: str) -> int:
    """Return the value of an option that must be at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def run_file(options: argparse.Namespace) -> None:
    """Run a function of a file as the main task."""
    run_program(options, [TextTrace(print_error)] if options.trace else [])


def trace_file(options: argparse.Namespace) -> None:
    """Run a function of a file, and show its timeline; in colour on a terminal, if `rich` is installed."""
    timeline = Timeline(printer(), *table_size(options.columns, options.width))
    try:
        run_program(options, [timeline])
    finally:
        timeline.finish()


def table_size(columns: int | None, width: int | None) -> tuple[int, int]:
    """Return the number and the width of the timeline's columns; None: as the terminal has room."""
    if not is_terminal():
        return columns or COLUMNS_IN_FILE, width or COLUMN_CHARACTERS
    room = shutil.get_terminal_size().columns - NUMBER_CHARACTERS
    columns = columns or max(room // (width or COLUMN_CHARACTERS), 1)
    return columns, width or max(room // columns, COLUMN_CHARACTERS)


def is_terminal() -> bool:
    """Return whether standard output is a terminal. A closed one is none."""
    return sys.stdout is not None and sys.stdout.isatty()  # type: ignore[redundant-expr]


def printer() -> Callable[[str, Row], object]:
    """Return the function that prints a row of the timeline."""
    if is_terminal():
        try:
            return coloured()
        except ImportError:
            pass  # rich is not installed
    return lambda number, row: print(plain(number, row))


def run_program(options: argparse.Namespace, watch: Sequence[Watcher]) -> None:
    """Run the function that the command line names."""
    _, main = load_main(options.target, options.args)
    run(main, watch=watch, debug=True)


def record_file(options: argparse.Namespace) -> None:
    """Run a function of a file, and record it."""
    try:
        record_program(options, load_main)
    except Mistake as error:
        fail(str(error))


def replay_file(options: argparse.Namespace) -> None:
    """Run the program of a recording again."""
    try:
        replay_program(options, load_main, print_error)
    except Mistake as error:
        fail(str(error))


def explore_file(options: argparse.Namespace) -> None:
    """Explore the schedules of a function of a file; exit with status 1 if one fails."""
    file, name = split_target(options.target)
    if not Path(file).is_file():
        fail(f"no such file: {file}")
    program: Any = getattr(load_file(file), name, None)
    if not callable(program):
        fail(f"{file} has no function {name!r}")
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            result = explored(program, options)  # a thousand runs, with the output and the log of each
            text = str(result)
    except (BadSchedule, BadCheckpoint, SyscallError) as error:
        fail(str(error))
    except OSError as error:
        if options.checkpoint is None or error.filename != options.checkpoint:
            raise
        fail(f"{error.filename}: {error.strerror}")
    print(text)
    if isinstance(result, Reduction):
        sys.exit(0 if result.agrees else 1)
    if result.schedule is not None:
        print(f"\nA test that runs this schedule:\n\n{result.regression(name)}", end="")
        sys.exit(1)


def explored(program: Callable[[], Any], options: argparse.Namespace) -> Exploration | Reduction:
    """Explore a program as the options say."""
    if options.check_reduction:
        return check_reduction(program, **({} if options.runs is None else {"runs": options.runs}))
    if options.checkpoint is not None and not options.exhaustive:
        fail("--checkpoint needs --exhaustive")
    return explore(
        program,
        runs=options.runs,
        seed=options.seed,
        schedule=options.schedule,
        exhaustive=options.exhaustive,
        checkpoint=options.checkpoint,
        twice=options.twice,
        cancellations=options.cancellations,
        deadlines=options.deadlines,
    )


def load_main(target: str, args: Sequence[str]) -> tuple[str, Any]:
    """Return the file of a target, and its function's generator or coroutine, called with these arguments."""
    file, name = split_target(target)
    if not Path(file).is_file():
        fail(f"no such file: {file}")
    function = find_function(load_file(file), name, file)
    signature = inspect.signature(function)
    try:
        _ = signature.bind(*args)
    except TypeError as error:
        hint = "; options come before FILE" if any(arg.startswith("-") for arg in args) else ""
        fail(f"{name}{signature} of {file} was given {len(args)} arguments: {error}{hint}")
    return file, function(*args)


def split_target(target: str) -> tuple[str, str]:
    """Return the file and the function of `FILE[:FUNCTION]`; a file name may contain a colon."""
    file, colon, name = target.rpartition(":")
    return (file, name or "main") if colon and not Path(target).exists() else (target, "main")


class ScriptLoader(SourceFileLoader):
    """Loads a file as Python loads a script: the bytecode is neither read nor written.

    A file of bytecode counts as current if the source has the same length and second as before. A program that was
    changed and started again within a second would run as it was.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source."""
        return self.source_to_code(self.get_data(self.path), self.path)


def load_file(file: str) -> ModuleType:
    """Import a file under its own name, with its folder first on `sys.path`, as Python does for a script."""
    path = Path(file)
    spec = spec_from_loader(path.stem, ScriptLoader(path.stem, file))
    assert spec is not None
    module = module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))
    _ = sys.modules.setdefault(path.stem, module)  # dataclasses and pickle need it; a loaded module of that name stays
    assert spec.loader is not None
    error = f'{file} calls run(...) while it is loaded: put that under `if __name__ == "__main__":`'
    try:
        load_program(error, partial(spec.loader.exec_module, module))
    except SyscallError as refused:
        if str(refused) != error:
            raise
        fail(error)
    return module


def find_function(module: ModuleType, name: str, file: str) -> Callable[..., Any]:
    """Return a function of a module that can be the main task; fail with the names of those that can."""
    names = [key for key, value in vars(module).items() if makes_task(value) and value.__module__ == module.__name__]
    others = f"; it has {', '.join(names)}" if names else ""
    function = getattr(module, name, None)
    if function is None:
        fail(f"{file} has no function {name!r}{others}")
    if not makes_task(function):
        fail(f"{name!r} of {file} is neither a generator function (with a `yield` in it) nor an `async def`{others}")
    return function


def makes_task(thing: object) -> bool:
    """Return whether `thing` is a generator function or an `async def`."""
    return inspect.isgeneratorfunction(thing) or inspect.iscoroutinefunction(thing)


def new_syscall(options: argparse.Namespace) -> None:
    """Write the files of a new syscall, and print how to run them."""
    try:
        file, test = write_scaffold(options.name, options.folder, __all__)
    except ValueError as error:
        fail(str(error))
    except FileNotFoundError:
        folder: Path = options.folder
        fail(f"{folder}: No such file or directory; make the folder first: mkdir -p {shlex.quote(str(folder))}")
    except FileExistsError as error:
        fail(f"{error.filename}: {error.strerror}: choose another name, or another folder by --folder")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    python = os.path.relpath(sys.executable)  # this interpreter: `python` may be another one, or missing
    print(f"{file}: a working syscall, for you to change; run it: {python} {file}")
    print(f"{test}: its tests; run them after each change: {python} -m pytest {test}")


def run_echo(options: argparse.Namespace) -> None:
    """Run the echo server until Ctrl-C."""
    if options.unix is None:
        address, server = f"{options.host}:{options.port}", serve(echo, options.host, options.port, ready=announce)
    else:
        address, server = options.unix, serve_unix(echo, options.unix, ready=announce)
    try:
        run(server)
    except (OSError, ValueError) as error:
        fail(f"{address}: {getattr(error, 'strerror', None) or error}")


def echo(conn: Socket) -> Generator[Any, Any, None]:
    """Send back all data, until the peer has no more."""
    while data := (yield Read(conn, READ_BYTES)):
        yield Write(conn, data)


def announce(listener: Socket) -> None:
    """Print the address of the server, and a command to try it."""
    if isinstance(listener.address, str):
        where, command = listener.address, f"nc -U {shlex.quote(listener.address)}"
    else:
        host, port = listener.address[:2]
        where, command = text_of(listener.address), f"nc {host} {port}"
    try:
        print(f"listening on {where}; try: {command} (Ctrl-C stops)", flush=True)
    except OSError:  # its reader is gone, or the disk is full: the server serves on
        discard_output()


def fail(text: str) -> NoReturn:
    """Exit with one line on standard error and status 1."""
    sys.exit(f"minisched: {text}")
