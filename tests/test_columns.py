"""A run as columns: who ran, what woke it, what it yielded."""

from __future__ import annotations

import pytest
from programs import finished, started
from test_watch import (
    a_daemon_ends_with_its_parent,
    a_failure_is_the_parents,
    a_result_wins_over_a_cancellation,
    cancel_and_clean_up,
    main_of,
    round_robin,
    sleep_and_join,
)

from minisched import MoveOnAfter, Sleep, Spawn
from minisched.columns import LEGEND, NUMBER, Columns, plain
from minisched.testing import run

HELLO = "demos/hello.py"


def columns(main, most=8, width=24):
    """Return the lines that are shown of a run."""
    lines = []
    trace = Columns(lambda number, row: lines.append(plain(number, row)), most, width)
    try:
        run(main, watch=[trace], debug=False)
    except Exception as error:
        lines.append(f"raised {type(error).__name__}: {error}")
    finally:
        trace.finish()
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
def test_golden_columns(program, golden):
    lines = columns(main_of(program))
    golden("\n".join([program.__doc__, "", *lines]), f"columns/{program.__name__}")


def test_there_is_a_row_for_each_turn():
    legend, *rows = columns(main_of(sleep_and_join))
    assert legend.endswith(LEGEND)
    assert [int(row[:NUMBER]) for row in rows] == list(range(1, len(rows) + 1))


def test_a_column_is_free_again_when_its_task_has_ended():
    def child():
        yield

    def main():
        for _ in range(5):
            yield Spawn(child())
            yield
            yield

    _, *rows = columns(main())
    starts = {row.index("+ 0.") for row in rows if "+ 0." in row}
    assert starts == {NUMBER + 24}


def test_those_for_whom_no_column_is_free_share_the_last_one_by_name():
    def child():
        yield Sleep(1)

    def main():
        for name in "abcd":
            yield Spawn(child(), name)

    _, *rows = columns(main(), most=3, width=20)
    shared = [row[NUMBER + 40 :] for row in rows if len(row) > NUMBER + 40]
    assert [text for text in shared if "->" in text] == [
        f"0.{number} {name} -> Sleep(1) :" for number, name in [(1, "b"), (2, "c"), (3, "d")]
    ]
    assert max(len(row) for row in rows) <= NUMBER + 60


def test_a_text_too_long_for_its_column_is_cut_short_where_another_follows():
    def child():
        yield Sleep(1)

    def main():
        yield Spawn(child(), "a name much longer than a column can be")
        yield Sleep(2)

    _, first, second, *_ = columns(main(), width=12)
    assert first == "   1  + 0 main... + 0.0 a name much longer than a column can be"
    assert second == "   2  |           -> Sleep(1) :"


def test_a_scope_whose_time_is_over_is_marked_in_the_column_of_its_task():
    def main():
        with (yield MoveOnAfter(1)):
            yield Sleep(2)
        yield

    _, *rows = columns(main())
    assert "x its scope: its time is over" in rows[2] and "^loop" in rows[2]


# The command.


def trace(*arguments, **keywords):
    return finished("-m", "minisched", "trace", *arguments, **keywords)


def test_in_a_pipe_it_is_plain_and_stands_between_what_the_program_prints():
    done = trace(HELLO)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("turn") and "\x1b" not in done.stdout
    assert lines.index("hello from Ada") == lines.index("   2  |                       -> Sleep(0.2) :") - 1


def test_on_a_terminal_each_column_has_a_colour():
    pytest.importorskip("rich", reason="needs rich: pip install minisched[demo]")
    with started("-m", "minisched", "trace", HELLO, terminal="stdout") as program:
        assert program.wait() == 0
    assert "\x1b[1;36m+ 0 main -> Spawn(Ada)" in program.said and "\x1b[1;32m-> Sleep(0.2)" in program.said


def test_on_a_terminal_without_rich_it_is_plain(tmp_path):
    (tmp_path / "rich.py").write_text("raise ImportError('none')")
    with started("-m", "minisched", "trace", HELLO, terminal="stdout", path=[tmp_path]) as program:
        assert program.wait() == 0
    assert "+ 0 main -> Spawn(Ada)" in program.said and "\x1b" not in program.said


def test_as_many_columns_are_shown_as_are_asked_for():
    lines = trace("--columns", 2, "--width", 30, HELLO).stdout.splitlines()
    assert f"   2  {'|':<30}0.0 Ada -> Sleep(0.2) :" in lines


@pytest.mark.parametrize("option", ["--columns", "--width"])
def test_none_at_all_is_refused(option):
    done = trace(option, 0, HELLO)
    assert done.returncode == 2 and option in done.stderr


def test_the_last_row_is_shown_when_the_program_fails(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("def main():\n    yield\n    raise ValueError('no luck')\n")
    done = trace(program)
    assert done.returncode == 1 and "ValueError: no luck" in done.stderr
    assert done.stdout.splitlines()[-1] == "   2  raised ValueError: no luck"


def test_where_nobody_reads_on_it_ends_without_a_word(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("def main():\n    while True:\n        yield\n")
    with started("-m", "minisched", "trace", program) as running:
        running.expect("turn")
        running.process.stdout.close()
        assert running.process.wait(60) == 141
        assert running.errors() == ""
