"""Repairs of dead letters, as a file of events or a function."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.problem import ProblemError
from crossfade.repairs import repairs


def test_lines_replace_events(tmp_path: Path) -> None:
    """A letter without a line, or whose event is null, is left alone."""
    file = tmp_path / "fix.jsonl"
    file.write_text(
        '{"dead_letter_id": "a", "event": {"x": 1}, "reason": "b"}\n\n{"dead_letter_id": "b", "event": null}\n'
    )
    repair = repairs(file)
    assert [repair(letter, None) for letter in "abc"] == [{"x": 1}, None, None]


def test_a_function_repairs_what_can_be_read(tmp_path: Path) -> None:
    """It may change its argument; events that cannot be read are left alone."""
    file = tmp_path / "fix.py"
    file.write_text("def fix(event):\n    event['x'] += 1\n    return event if event['x'] < 3 else None\n")
    repair, event = repairs(file), {"x": 1}
    assert (repair("a", event), repair("b", {"x": 2}), repair("c", None), event) == ({"x": 2}, None, None, {"x": 1})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("f.py", "def fix(event", "cannot be run: SyntaxError"),
        ("f.py", "x = 1", "no function fix"),
        ("f.py", "def fix(event): return event['y']", "fix failed at a: KeyError"),
        ("f.py", "def fix(event): return 1", "fix gave int for a"),
        ("f.jsonl", "{}", "line 1"),
        ("f.jsonl", '{"dead_letter_id": "a", "event": {}}\n[', "line 2"),
    ],
)
def test_a_wrong_file_is_said_plainly(tmp_path: Path, name: str, text: str, said: str) -> None:
    """The message names the file and the place."""
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ProblemError, match=said):
        repairs(file)("a", {"x": 1})
