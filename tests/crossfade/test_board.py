"""The board: plain lines without a terminal, only when something changes."""

from __future__ import annotations

import io
import re

from crossfade.board import Board, Row, View


def view(seconds: float, *rows: Row, loaded: int = 0) -> View:
    ledger = {"accepted": loaded, "loaded": loaded, "dead_lettered": 0, "deduplicated": 0, "in_flight": 0}
    return View(rows, 1234.0, ledger, 1, "http://localhost:8000", seconds)


def lines(stream: io.StringIO) -> list[str]:
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in stream.getvalue().splitlines()]


def test_a_stage_is_told_once_when_it_comes_up() -> None:
    """Starting is silent, up is one line, and up again after a death is one more."""
    stream = io.StringIO()
    board = Board(stream)
    for state in ("starting", "up", "up", "down", "up"):
        board.show(view(0, Row("sinks", "loads", state)))
    assert lines(stream) == ["sinks up", "sinks up"]


def test_figures_come_every_five_seconds_while_they_change() -> None:
    """A log of a quiet hour is short."""
    stream = io.StringIO()
    board = Board(stream)
    for second in range(20):
        board.show(view(second, loaded=min(second, 7)))
    told = lines(stream)
    assert len(told) == 2
    assert told[-1].startswith("1,234 events/s, lag unknown, 7 rows loaded, 1 open alert; ledger: accepted 7, loaded 7")


def test_no_control_characters_without_a_terminal() -> None:
    """A file gets text, not the moves of a cursor."""
    stream = io.StringIO()
    board = Board(stream)
    board.progress(0, 46)
    board.progress(46, 46)
    board.news("worker", "died [bold](x); started again, the 1st time")
    board.show(view(9, Row("kafka", "", "up")))
    board.close()
    assert "\x1b" not in stream.getvalue()
    assert "worker died [bold](x); started again, the 1st time" in stream.getvalue()
