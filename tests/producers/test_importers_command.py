"""`crossfade import`: what it writes, what it tells, and that a second import changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from producers.event import from_json
from producers.importers.__main__ import main

ROW: dict[str, Any] = {
    "ts": "2023-03-19T18:31:37Z",
    "ms_played": 174_424,
    "master_metadata_track_name": "Lanterns",
    "master_metadata_album_artist_name": "Paper Lakes",
    "spotify_track_uri": "spotify:track:0000000000000000000042",
    "reason_end": "trackdone",
}
ACCOUNT = {"endTime": "2023-03-19 18:31", "artistName": "Paper Lakes", "trackName": "Lanterns", "msPlayed": 174_424}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export: account data comes first by name, though the extended history tells more."""
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "Account.json").write_text(json.dumps([ACCOUNT, {**ACCOUNT, "msPlayed": 5}]))
    episode = {**ROW, "spotify_track_uri": None, "episode_name": "Talk"}
    rows = [ROW, ROW, *[episode] * 7, {**ROW, "ms_played": "x"}]
    (folder / "Extended.json").write_text(json.dumps(rows))
    (folder / "ReadMeFirst.pdf").write_bytes(b"%PDF-1.4\x00\xff")
    return folder


Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_events_are_written_as_clients_send_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON object a line that the door takes; nothing is sent, and the same import writes the same bytes."""
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for output in (first, second):
        assert run(capsys, folder, "--user", "ann", "--output", output)[0] == 0
    assert first.read_bytes() == second.read_bytes()
    events = [from_json(line, 2_000_000_000_000) for line in first.read_bytes().splitlines()]
    assert [event.event_type for event in events] == ["play", "pause", "play", "skip"]
    assert {event.user_id for event in events} == {"ann"}
    assert len({event.event_id for event in events}) == 4
    assert events[0].track_id == ROW["spotify_track_uri"], "the file that tells more is read first"


def test_the_summary_as_json(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    """Imported, duplicates and skipped of each file, with reason and place; other files are named."""
    status, out, _ = run(capsys, folder, "--output", tmp_path / "out.jsonl", "--format", "json")
    told = json.loads(out)
    assert (status, told["imported"], told["duplicates"], told["rows"]) == (0, 2, 2, 12)
    extended, account = told["files"]
    assert Path(extended["file"]).name == "Extended.json"
    assert extended["skipped"] == {
        "podcast": {"rows": 7, "first": [3, 4, 5, 6, 7]},
        "bad_number": {"rows": 1, "first": [10]},
    }
    assert (account["imported"], account["duplicates"], account["format"]) == (1, 1, "Spotify account data")
    assert {Path(name).name: why for name, why in told["not_read"].items()} == {
        "ReadMeFirst.pdf": "no listening history"
    }


def test_the_summary_as_a_table(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    """A person reads how many, why, and in which rows; and how fast it was."""
    _, out, _ = run(capsys, folder, "--output", tmp_path / "out.jsonl")
    for text in (
        "Extended.json",
        "7 podcast (rows 3, 4, 5, 6, 7, ...)",
        "1 bad_number (row 10)",
        "no listening history",
    ):
        assert text in out
    assert "2 listens of 12 rows" in out
    assert "rows/s" in out


def test_a_file_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    """One clear line and status 1; nothing is written."""
    status, out, err = run(capsys, tmp_path / "nowhere.json", "--output", tmp_path / "out.jsonl")
    assert (status, out) == (1, "")
    assert err == f"crossfade: {tmp_path / 'nowhere.json'}: No such file or directory\n"
    assert not (tmp_path / "out.jsonl").exists()


def test_a_history_is_not_overwritten(folder: Path, capsys: Capture) -> None:
    """The output may not be one of the files to be read, given by name or within a folder."""
    for given in (folder, folder / "Extended.json"):
        before = (folder / "Extended.json").read_bytes()
        status, _, err = run(capsys, given, "--output", folder / "Extended.json")
        assert status == 1
        assert "is one of the files to be imported" in err
        assert (folder / "Extended.json").read_bytes() == before


def test_nothing_to_import_is_no_success(tmp_path: Path, capsys: Capture) -> None:
    """A folder without a history: status 1, and what was found is named; terminal codes in a name do no harm."""
    (tmp_path / "x\x1b[2J.json").write_text('[{"event_id": "e"}]')
    status, out, _ = run(capsys, tmp_path, "--output", tmp_path.parent / "out.jsonl")
    assert status == 1
    assert "not read: no listening history" in out
    assert "\x1b" not in out
