"""The bench of importers: both readings tell the same listens, so that their speeds may be compared."""

from __future__ import annotations

from pathlib import Path

from bench.importers import imported, listens, plainly, write


def test_both_readings_tell_the_same_listens(tmp_path: Path) -> None:
    """A plain reading, written apart, agrees on user, track, time, length and ending of every listen."""
    folder = tmp_path / "export"
    folder.mkdir()
    write(folder, 700)
    imported(folder, tmp_path / "ours")
    plainly(folder, tmp_path / "plain")
    assert len(listens(tmp_path / "ours")) == 700
    assert listens(tmp_path / "ours") == listens(tmp_path / "plain")
