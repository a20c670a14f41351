"""The timeline of a run: a column for each task, a row for each turn; and `minisched trace`, which prints it."""

from __future__ import annotations

import pytest
from programs import finished, started
from test_trace import (
    a_daemon_ends_with_its_parent,
    a_failure_is_the_parents,
    a_result_wins_over_a_cancellation,
    cancel_and_clean_up,
    main_of,
    round_robin,
    sleep_and_join,
)

from minisched import MoveOnAfter, Sleep, Spawn
from minisched.lab.timeline import LEGEND, NUMBER_CHARACTERS, Timeline, plain
from minisched.testing import run

HELLO = "demos/hello.py"


def timeline_of(main, most=8, width=24):
    """Return the lines of the timeline of a run."""
    lines = []
    timeline = Timeline(lambda number, row: lines.append(plain(number, row)), most, width)
    try:
        run(main, watch=[timeline], debug=False)
    except Exception as error:
        lines.append(f"raised {type(error).__name__}: {error}")
    finally:
        timeline.finish()
    return lines


PROGRAMS = [
    round_robin,
    sleep_and_join,
    cancel_and_clean_up,
    a_result_wins_over_a_cancellation,
    a_failure_is_the_parents,
    a_daemon_ends_with_its_parent,
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_timeline_equals_its_golden_file(program, golden):
    lines = timeline_of(main_of(program))
    golden("\n".join([program.__doc__, "", *lines]), f"timeline/{program.__name__}")


def test_there_is_a_row_for_each_turn():
    first, second, *rows = timeline_of(main_of(sleep_and_join))
    assert first.endswith(LEGEND[0]) and second.endswith(LEGEND[1]) and len(second) <= 80
    assert [int(row[:NUMBER_CHARACTERS]) for row in rows] == list(range(1, len(rows) + 1))


def test_a_column_is_free_again_when_its_task_has_ended():
    def child():
        yield

    def main():
        for _ in range(5):
            yield Spawn(child())
            yield
            yield

    _, _, *rows = timeline_of(main())
    starts = {row.index("+ 0.") for row in rows if "+ 0." in row}
    assert starts == {NUMBER_CHARACTERS + 24}


def test_tasks_without_a_free_column_share_the_last_one_with_their_names():
    def child():
        yield Sleep(1)

    def main():
        for name in "abcd":
            yield Spawn(child(), name)

    _, _, *rows = timeline_of(main(), most=3, width=20)
    shared = [row[NUMBER_CHARACTERS + 40 :] for row in rows if len(row) > NUMBER_CHARACTERS + 40]
    assert [text for text in shared if "->" in text] == [
        "-> Sleep(1) :",  # b, which has the column for itself until c is spawned
        "0.2 c -> Sleep(1) :",
        "0.3 d -> Sleep(1) :",
    ]
    woken = [text for text in shared if "^loop" in text]
    assert woken == [f"0.{number} {name} ^loop retu..." for number, name in [(1, "b"), (2, "c"), (3, "d")]]
    assert max(len(row) for row in rows) <= NUMBER_CHARACTERS + 60


def test_a_text_too_long_for_its_column_is_shortened_unless_it_is_the_last():
    def child():
        yield Sleep(1)

    def main():
        yield Spawn(child(), "a name much longer than a column can be")
        yield Sleep(2)

    _, _, first, second, *_ = timeline_of(main(), width=12)
    assert first == "   1  + 0 main... + 0.0 a name much longer than a column can be"
    assert second == "   2  |           -> Sleep(1) :"


def test_an_expired_scope_is_marked_in_the_column_of_its_task():
    def main():
        with (yield MoveOnAfter(1)):
            yield Sleep(2)
        yield

    _, _, *rows = timeline_of(main())
    assert "x its scope: its deadline has passed" in rows[2] and "^loop" in rows[2]


# The command.


def trace(*arguments, **keywords):
    return finished("-m", "minisched", "trace", *arguments, **keywords)


@pytest.mark.slow
def test_into_a_pipe_the_timeline_is_plain_and_in_order_with_the_programs_output():
    done = trace(HELLO)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("turn") and "\x1b" not in done.stdout
    assert lines.index("hello from Ada") == lines.index("   2  |                       -> Sleep(0.2) :") - 1


@pytest.mark.slow
def test_on_a_terminal_each_column_has_a_colour():
    pytest.importorskip("rich", reason="needs rich: pip install -e '.[demo]'")
    with started("-m", "minisched", "trace", HELLO, terminal="stdout") as program:
        assert program.wait() == 0
    assert "\x1b[1;36m+ 0 main -> Spawn(Ada)" in program.said and "\x1b[1;32m-> Sleep(0.2)" in program.said


@pytest.mark.slow
def test_on_a_terminal_without_rich_the_timeline_is_plain(tmp_path):
    (tmp_path / "rich.py").write_text("raise ImportError('none')")
    with started("-m", "minisched", "trace", HELLO, terminal="stdout", path=[tmp_path]) as program:
        assert program.wait() == 0
    assert "+ 0 main -> Spawn(Ada)" in program.said and "\x1b" not in program.said


@pytest.mark.slow
def test_the_options_set_the_number_and_width_of_columns():
    lines = trace("--columns", 2, "--width", 30, HELLO).stdout.splitlines()
    assert f"   2  {'|':<30}-> Sleep(0.2) :" in lines and f"   4  {'|':<30}0.1 Grace -> Sleep(0.1) :" in lines


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--columns", "--width"])
def test_an_option_below_1_is_refused(option):
    done = trace(option, 0, HELLO)
    assert done.returncode == 2 and option in done.stderr


@pytest.mark.slow
def test_the_last_row_is_shown_when_the_program_fails(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("def main():\n    yield\n    raise ValueError('no luck')\n")
    done = trace(program)
    assert done.returncode == 1 and "ValueError: no luck" in done.stderr
    assert done.stdout.splitlines()[-1] == "   2  raised ValueError: no luck"


@pytest.mark.slow
def test_the_trace_ends_silently_when_the_reader_of_its_output_is_gone(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("def main():\n    while True:\n        yield\n")
    with started("-m", "minisched", "trace", program) as running:
        running.expect("turn")
        running.process.stdout.close()
        assert running.process.wait(60) == 141
        assert running.errors() == ""
