"""Use the installed package as a user does: `python -I .ci/smoke.py`, in an environment that has only the wheel.

Runs in a temporary folder: an echo over a socket, `minisched --version`, `minisched new-syscall`, and a trace.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
from minisched import Join, Sleep, Spawn, run

def child():
    yield Sleep(0.01)
    return 7

def main():
    task = yield Spawn(child(), "child")
    print((yield Join(task)))

if __name__ == "__main__":
    run(main())
"""


def main() -> None:
    import minisched

    package = Path(minisched.__file__).parent
    assert "site-packages" in package.parts, f"not the installed package: {package}"
    assert (package / "py.typed").exists(), "py.typed is missing in the wheel"
    assert importlib.metadata.version("minisched") == minisched.__version__
    assert minisched.run(echo_once()) == b"hello"
    os.chdir(tempfile.mkdtemp())
    command = str(Path(sys.executable).with_name("minisched"))
    assert minisched.__version__ in output(command, "--version")
    output(command, "new-syscall", "NextTick")
    output(sys.executable, "-W", "error", "next_tick.py")
    compile(Path("test_next_tick.py").read_text(encoding="utf-8"), "test_next_tick.py", "exec")
    Path("program.py").write_text(PROGRAM, encoding="utf-8")
    trace = output(sys.executable, "-W", "error", "-m", "minisched", "trace", "program.py")
    assert "7" in trace.splitlines() and "Sleep(0.01)" in trace, trace
    print(f"minisched {minisched.__version__} works, installed from the wheel")


def echo_once():
    """Send a few bytes to an echo server of one connection; return the bytes that come back."""
    from minisched import Accept, Connect, Listen, Read, Spawn, Write

    listener = yield Listen(("127.0.0.1", 0))

    def serve():
        with (yield Accept(listener)) as conn:
            yield Write(conn, (yield Read(conn, 100)))

    with listener:
        yield Spawn(serve())
        with (yield Connect(listener.address)) as conn:
            yield Write(conn, b"hello")
            return (yield Read(conn, 100))


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


main()
