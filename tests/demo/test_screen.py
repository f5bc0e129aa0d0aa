import pytest

from demo_service.screen import WIDTH, Screen


def test_acts_are_numbered_and_rows_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.title("title")
    screen.act("first")
    screen.row("log", "here")
    screen.act("second")
    screen.finding("edits", "CAUGHT", "check: row 3")
    screen.finding("", "CAUGHT", "receipt")
    assert capsys.readouterr().out.splitlines() == [
        "title",
        "1  first",
        "   log         here",
        "2  second",
        f"   {'edits':31} CAUGHT      check: row 3",
        f"   {'':31} CAUGHT      receipt",
    ]


def test_a_long_line_is_cut_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().row("log", "x" * 200)
    (line,) = capsys.readouterr().out.splitlines()
    assert len(line) == WIDTH
    assert line.endswith("xxx...")


def test_commands_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().lines(["x" * 200, "y"])
    assert capsys.readouterr().out == f"   {'x' * 200}\n   y\n"
