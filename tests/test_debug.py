"""With debug on, generators and syscalls that are created and never run cause warnings."""

from __future__ import annotations

import os
import sys
import warnings
import weakref

import pytest
from programs import finished

from minisched import CurrentTask, Pause, Sleep, Spawn, run


def sleep_a_bit():
    yield Sleep(0)


class Namespace:
    def method(self):
        yield

    @staticmethod
    def static():
        yield

    def plain(self):
        return 7


namespace = Namespace()


def warned(main, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main, **options)
    return [(str(warning.message), warning.filename) for warning in caught if warning.category is RuntimeWarning]


def test_a_dropped_generator_is_named_with_its_line():
    def main():
        sleep_a_bit()
        yield

    ((text, filename),) = warned(main(), debug=True)
    line = main.__code__.co_firstlineno + 1
    assert text == f"`sleep_a_bit()` made at {__file__}:{line} was never run; a missing `yield from` or `await`?"
    assert filename == __file__


def test_a_dropped_syscall_is_named():
    def main():
        yield
        Sleep(1)

    ((text, _),) = warned(main(), debug=True)
    assert text.startswith("`Sleep()` made at") and text.endswith("was never run; a missing `yield`?")


def test_dropped_generators_of_methods_are_found():
    def main(self):
        self.method()
        namespace.method()
        Namespace.static()
        namespace.plain()
        yield

    texts = [text.split("`")[1] for text, _ in warned(main(namespace), debug=True)]
    assert texts == ["self.method()", "namespace.method()", "Namespace.static()"]


def test_each_function_along_the_yield_from_chain_is_checked_once():
    def inner():
        sleep_a_bit()
        yield
        yield

    async def coroutine():
        sleep_a_bit()
        await Pause()

    def main():
        yield from inner()
        yield from inner()
        yield Spawn(coroutine())

    assert len(warned(main(), debug=True)) == 2


def test_calls_that_are_run_or_unknown_cause_no_warning():
    def main():
        function = sleep_a_bit
        (lambda: 7)()
        [sleep_a_bit][0]
        print("", end="")
        yield from sleep_a_bit()
        yield Sleep(0)
        kept = function()
        yield
        yield from kept
        undefined_for_now = None
        namespace.plain()
        if undefined_for_now:
            undefined_for_now.call()

    assert warned(main(), debug=True) == []


def test_code_without_source_causes_no_warning():
    space = {}
    exec("def main():\n    main()\n    yield", space)
    assert warned(space["main"](), debug=True) == []


def test_debug_is_on_by_default_only_under_pytest(monkeypatch):
    def main():
        sleep_a_bit()
        yield

    assert len(warned(main())) == 1
    assert warned(main(), debug=False) == []
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert warned(main()) == []


@pytest.mark.skipif(sys.platform == "emscripten", reason="WebAssembly has no processes")
def test_a_program_that_a_test_starts_is_not_debugged(tmp_path):
    """On a loaded machine, a report of a slow turn would be a line on its standard error."""
    program = tmp_path / "program.py"
    text = "from minisched import Sleep, run\ndef main():\n    Sleep(1)\n    yield\nrun(main(){})\n"
    program.write_text(text.format(""), encoding="utf-8")
    assert "PYTEST_CURRENT_TEST" in os.environ and finished(program).stderr == ""
    program.write_text(text.format(", debug=True"), encoding="utf-8")
    assert "`Sleep()` made at" in finished(program).stderr


def test_python_itself_warns_of_a_dropped_coroutine():
    async def forgotten():
        pass

    def main():
        forgotten()
        yield

    with pytest.warns(RuntimeWarning, match="was never awaited"):
        run(main(), debug=True)


def test_the_check_keeps_no_locals_alive():
    class Thing:
        pass

    def main():
        thing = Thing()
        alive = weakref.ref(thing)
        namespace.plain()
        yield
        del thing
        yield
        return alive()

    def method_of_a_local():
        local, thing = namespace, Thing()
        alive = weakref.ref(thing)
        local.plain()
        yield
        del thing
        yield
        return alive()

    assert run(main(), debug=True) is run(method_of_a_local(), debug=True) is None


def test_a_dropped_generator_of_an_inherited_method_is_found():
    class Inherits(Namespace):
        pass

    def main():
        inherits = Inherits()
        inherits.method()
        yield

    ((text, _),) = warned(main(), debug=True)
    assert text.startswith("`inherits.method()` made at")


def test_a_function_that_never_yields_is_checked_too():
    async def main():
        sleep_a_bit()
        Sleep(1)

    assert len(warned(main(), debug=True)) == 2


def test_a_generator_spawned_twice_or_after_its_end_is_named():
    def shared():
        yield

    def main():
        body, ended = shared(), shared()
        list(ended)
        yield Spawn(ended)
        me = yield CurrentTask()
        for _ in range(2):
            me.kernel.spawn(body, None, me)

    texts = [text for text, _ in warned(main(), debug=True)]
    assert texts == [
        "shared() was spawned after it had ended: a task needs a fresh generator",
        "shared() was spawned twice: a task needs a generator of its own",
    ]
