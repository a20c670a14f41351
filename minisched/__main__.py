"""The command line: `minisched run FILE[:FUNCTION] [ARGS...]`, `trace` with the same, `new-syscall NAME`, `echo`.

Theory of operation. `run` and `trace` load a file as an import would, so that its `if __name__ == "__main__"`
does not fire, and run one function of it as the main task, with `debug=True`. How it ends is told
by the exit status: 0; 1 with one line for a mistake, or with the traceback for what the program
raised; 2 for what argparse does not understand; 130 after Ctrl-C, once the program has cleaned up.

Not here: the demos, which a program of one's own rather starts from.
"""

from __future__ import annotations

import argparse
import inspect
import os
import shutil
import sys
import traceback
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

from . import Read, Socket, TextTrace, Write, __all__, __version__, run, serve, serve_unix
from .columns import NUMBER, WIDE, Columns, coloured, plain
from .loop import load as load_program
from .starter import write_starter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import ModuleType
    from typing import Any, NoReturn

    from .columns import Row
    from .watch import Watcher

INTERRUPTED = 130  # the exit status after Ctrl-C: 128 and the number of the signal, as a shell counts
UNREAD = 141  # nobody reads what is printed: the same of SIGPIPE
COLUMNS = 8  # of a trace that goes into a file or a pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit status."""
    options = command_line().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt as interrupt:
        if interrupt.__cause__ is not None:  # the cleanup failed: that must not go unseen
            traceback.print_exception(interrupt.__cause__)
        return INTERRUPTED
    return 0


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser("minisched", description="A cooperative scheduler for generators and coroutines.")
    _ = parser.add_argument("--version", action="version", version=f"minisched {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    runner = commands.add_parser("run", help="run a function of a file as the main task")
    _ = runner.add_argument("--trace", action="store_true", help="print a line for each event to standard error")
    add_program(runner)
    runner.set_defaults(command=run_file)

    tracer = commands.add_parser("trace", help="run it, and show a column for each task and a row for each turn")
    said = "the last is for those who find no other; default: as many as there is room for"
    _ = tracer.add_argument("--columns", type=positive, metavar="N", help=said)
    _ = tracer.add_argument(
        "--width", type=positive, metavar="N", default=WIDE, help="of a column; default: %(default)s"
    )
    add_program(tracer)
    tracer.set_defaults(command=trace_file)

    starter = commands.add_parser("new-syscall", help="write a file to begin a syscall of your own with, and its test")
    _ = starter.add_argument("name", metavar="NAME", help="of a class, as NextTick: its file is next_tick.py")
    _ = starter.add_argument("--folder", type=Path, default=Path(), help="where to; default: here")
    starter.set_defaults(command=new_syscall)

    server = commands.add_parser("echo", help="serve connections that are sent back what they send")
    _ = server.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    _ = server.add_argument("--port", type=int, default=7777, help="default: %(default)s; 0: any free one")
    _ = server.add_argument("--unix", metavar="PATH", help="listen at a Unix path instead")
    server.set_defaults(command=run_echo)
    return parser


def add_program(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which function to run, of which file."""
    _ = parser.add_argument("target", metavar="FILE[:FUNCTION]", help="FUNCTION is `main` if it is left out")
    _ = parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help="what FUNCTION is given, as strings")


def positive(text: str) -> int:
    """Return what an option says, if that is a number of something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is none at all")
    return number


def run_file(options: argparse.Namespace) -> None:
    """Run a function of a file as the main task."""
    run_program(options, [TextTrace(partial(print, file=sys.stderr))] if options.trace else [])


def trace_file(options: argparse.Namespace) -> None:
    """Run a function of a file, and show its turns: in colour on a terminal, if there is rich."""
    width: int = options.width
    room = (shutil.get_terminal_size().columns - NUMBER) // width if sys.stdout.isatty() else COLUMNS
    columns = Columns(printer(), options.columns or room, width)
    try:
        run_program(options, [columns])
    finally:
        columns.finish()


def printer() -> Callable[[str, Row], object]:
    """Return what prints a row."""
    show: Callable[[str, Row], object] = lambda number, row: print(plain(number, row))  # noqa: E731
    if sys.stdout.isatty():
        try:
            show = coloured()
        except ImportError:
            pass  # no rich

    def print_row(number: str, row: Row) -> None:
        try:
            _ = show(number, row)
        except BrokenPipeError:  # `| head`, say
            _ = os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(UNREAD)

    return print_row


def run_program(options: argparse.Namespace, watch: Sequence[Watcher]) -> None:
    """Run the function that the command line names."""
    file, name = split(options.target)
    if not Path(file).is_file():
        fail(f"no such file: {file}")
    function = find(load(file), name, file)
    signature = inspect.signature(function)
    try:
        _ = signature.bind(*options.args)
    except TypeError as error:
        hint = "; options come before FILE" if any(arg.startswith("-") for arg in options.args) else ""
        fail(f"{name}{signature} of {file} was given {len(options.args)} arguments: {error}{hint}")
    run(function(*options.args), watch=watch, debug=True)


def split(target: str) -> tuple[str, str]:
    """Return the file and the function of `FILE[:FUNCTION]`; the name of a file may have a colon."""
    file, colon, name = target.rpartition(":")
    return (file, name or "main") if colon and not Path(target).exists() else (target, "main")


def load(file: str) -> ModuleType:
    """Import a file under its own name, with its folder first on `sys.path`, as Python has it for a script."""
    path = Path(file)
    spec = spec_from_loader(path.stem, SourceFileLoader(path.stem, file))
    assert spec is not None
    module = module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))
    _ = sys.modules.setdefault(path.stem, module)  # dataclasses and pickle look there; never hide a module in use
    assert spec.loader is not None
    why = f'{file} calls run(...) while it is loaded: put that under `if __name__ == "__main__":`'
    load_program(why, partial(spec.loader.exec_module, module))
    return module


def find(module: ModuleType, name: str, file: str) -> Callable[..., Any]:
    """Return the function of a module that makes a task."""
    tasks = [key for key, value in vars(module).items() if makes_task(value) and value.__module__ == module.__name__]
    others = f"; it has {', '.join(tasks)}" if tasks else ""
    function = getattr(module, name, None)
    if function is None:
        fail(f"{file} has no function {name!r}{others}")
    if not makes_task(function):
        fail(f"{name!r} of {file} is neither a generator function (with a `yield` in it) nor an `async def`{others}")
    return function


def makes_task(thing: object) -> bool:
    """Return whether to call `thing` makes a task."""
    return inspect.isgeneratorfunction(thing) or inspect.iscoroutinefunction(thing)


def new_syscall(options: argparse.Namespace) -> None:
    """Write the files of a new syscall, and say what to do with them."""
    try:
        file, test = write_starter(options.name, options.folder, __all__)
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    python = os.path.relpath(sys.executable)  # as it is called here: `python` may be another one, or none
    print(f"{file}: a syscall that works, to be changed into yours; run it: {python} {file}")
    print(f"{test}: what it has to do; run it after each change: {python} -m pytest {test}")


def run_echo(options: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    if options.unix is None:
        where, server = f"{options.host}:{options.port}", serve(echo, options.host, options.port, ready=announce)
    else:
        where, server = options.unix, serve_unix(echo, options.unix, ready=announce)
    try:
        run(server)
    except (OSError, ValueError) as error:
        fail(f"{where}: {getattr(error, 'strerror', None) or error}")


def echo(conn: Socket) -> Generator[Any, Any, None]:
    """Send back what comes, until the other side has no more."""
    while data := (yield Read(conn, 65536)):
        yield Write(conn, data)


def announce(listener: Socket) -> None:
    """Say where the server listens, and how to try it."""
    if isinstance(listener.address, str):
        print(f"listening on {listener.address}; try: nc -U {listener.address} (Ctrl-C stops)", flush=True)
    else:
        host, port = listener.address[:2]
        print(f"listening on {host}:{port}; try: nc {host} {port} (Ctrl-C stops)", flush=True)


def fail(text: str) -> NoReturn:
    """End with one line on standard error and exit status 1."""
    sys.exit(f"minisched: {text}")


if __name__ == "__main__":
    sys.exit(main())
