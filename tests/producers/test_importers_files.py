"""Files, folders and zips as they are downloaded: everything is read or named with a reason, nothing is unpacked."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.door import Refused
from producers.importers import files, origins
from producers.importers.detect import Recording
from producers.importers.files import InputFile
from producers.importers.listens import Listen
from producers.importers.origins import Origin, Unreadable, on_disk
from producers.importers.origins import origins as walk
from producers.importers.table import Columns, Delimited

ROWS = [
    {"endTime": f"2021-03-01 12:{n:02}", "artistName": "A", "trackName": "T", "msPlayed": 40_000} for n in range(50)
]
HISTORY = json.dumps(ROWS).encode()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def split(path: Path) -> tuple[list[Origin], dict[str, str]]:
    """What can be read, and why the rest cannot, by the last part of its name."""
    found = list(walk([path]))
    readable = [one for one in found if isinstance(one, Origin)]
    return readable, {one.name.rsplit("/", 1)[1]: one.why for one in found if isinstance(one, Unreadable)}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_a_zip_are_read_like_files(tmp_path: Path, method: int) -> None:
    """Also a zip within a zip, as Apple sends them; folders within are no files."""
    inner = zipped({"Apple Music Activity/a.json": HISTORY}, method)
    path = tmp_path / "my data.zip"
    path.write_bytes(zipped({"b/": b"", "b/history.json": HISTORY, "b/inner.zip": inner}, method))
    found, why = split(path)
    assert [origin.name.removeprefix(f"{path}/") for origin in found] == [
        "b/history.json",
        "b/inner.zip/Apple Music Activity/a.json",
    ]
    assert why == {}
    for origin in found:
        recording = Recording(origin)
        assert (recording.format, len(list(recording.records()))) == ("Spotify account data", 50)


def test_a_zip_bomb_is_named_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What claims to grow a thousand times, or is too large, too deep or too many, is refused before it is read."""
    zeros = zipped({"zeros.json": b"0" * (80 << 20)})
    deep = zipped({"3.zip": zipped({"4.zip": zipped({"a.json": HISTORY})})})
    path = tmp_path / "bomb.zip"
    path.write_bytes(zipped({"zeros.zip": zeros, "1.zip": zipped({"2.zip": deep}), "good.json": HISTORY}))
    found, why = split(path)
    assert [origin.name.rsplit("/", 1)[1] for origin in found] == ["good.json"]
    assert "zip bomb" in why["zeros.json"]
    assert "too deep" in why["3.zip"]
    monkeypatch.setattr(origins, "MEMBER_MAX_BYTES", 100)
    assert "read at most" in split(path)[1]["good.json"]
    monkeypatch.setattr(origins, "MEMBERS_MAX", 2)
    assert "files in one zip" in split(path)[1]["bomb.zip"]


def test_a_member_that_is_longer_than_it_claims_is_cut(tmp_path: Path) -> None:
    """A zip that lies about a size gives a broken record at the place of the lie, and never more than the claim."""
    data = bytearray(zipped({"a.json": b" " * 10_000 + HISTORY}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (5_000).to_bytes(4, "little")
    path = tmp_path / "liar.zip"
    path.write_bytes(bytes(data))
    (origin,), _ = split(path)
    records = [raw for _, raw in InputFile(origin).records()]
    assert all(isinstance(raw, Refused) for raw in records)
    assert sum(len(raw.payload) for raw in records if isinstance(raw, Refused)) <= 5_000


@pytest.mark.parametrize("damage", ["cut", "flipped", "encrypted", "method"])
def test_a_damaged_zip_is_told(tmp_path: Path, damage: str) -> None:
    """No traceback: the file or its member is named, or its broken rest is one record."""
    data = bytearray(zipped({"a.json": HISTORY * 3}, zipfile.ZIP_STORED))
    entry = data.rindex(b"PK\x01\x02")
    match damage:
        case "cut":
            data = data[: len(data) // 2]
        case "flipped":
            data[5_000] ^= 0xFF
        case "encrypted":
            data[entry + 8] |= 1
        case "method":
            data[entry + 10] = 99
    path = tmp_path / "damaged.zip"
    path.write_bytes(bytes(data))
    found, why = split(path)
    if damage == "flipped":
        last = list(InputFile(found[0]).records())[-1][1]
        assert isinstance(last, Refused)
    else:
        expected = {"cut": "broken zip", "encrypted": "encrypted", "method": "compressed in a way"}[damage]
        assert [text for text in why.values() if text.startswith(expected)]


def test_a_folder_is_walked_in_order(tmp_path: Path) -> None:
    """Hidden files too (.scrobbler.log is one); what is no regular file is named; links to folders are not followed."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".scrobbler.log").write_bytes(b"#AUDIOSCROBBLER/1.1\n")
    (tmp_path / "a.json").write_bytes(HISTORY)
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    found, why = split(tmp_path)
    assert [Path(origin.name).name for origin in found] == ["a.json", ".scrobbler.log"]
    assert why == {"gone": "no regular file", "pipe": "no regular file"}


def test_an_array_that_is_too_long_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that a few compressed bytes unpack to."""
    path = tmp_path / "a.json"
    path.write_bytes(HISTORY * 200)
    monkeypatch.setattr(files, "ARRAY_MAX_BYTES", len(HISTORY) * 50)
    ((number, record),) = InputFile(on_disk(path)).records()
    assert number == 1
    assert isinstance(record, Refused)
    assert record.error.reason == "too_large"


def columns(fields: list[str]) -> Columns | None:
    return Columns({"a": 0, "b": 1}, header=True) if fields == ["a", "b"] else None


def rows(text: bytes) -> list[dict[str, str] | str]:
    """The rows of a table with two columns; of a broken one its bytes."""
    table = Delimited(columns)
    lines = list(enumerate(text.split(b"\n"), 1))
    found = table.found(lines)
    assert found
    told = [row for _, row, _ in table.rows(iter([line for line in lines if line[1]]), *found)]
    return [row if isinstance(row, dict) else row.payload.decode() for row in told]


def test_a_quote_that_nobody_closes_breaks_one_line(tmp_path: Path) -> None:
    """Its neighbours are read, and so is a field that really holds newlines."""
    assert rows(b'a,b\n"x\ny",1\n"open,2\nz,3') == [{"a": "x\ny", "b": "1"}, '"open,2', {"a": "z", "b": "3"}]
    many = b"\n".join(b"n%d,1" % n for n in range(100))
    found = rows(b'a,b\n"open,2\n' + many)
    assert found[0] == '"open,2'
    assert len(found) == 101


@given(st.lists(st.tuples(st.text("xy,\"\n'é", min_size=1), st.text('xy," #'))))
def test_any_table_that_was_written_is_read(expected: list[tuple[str, str]]) -> None:
    """What Python's csv writes comes out again, whatever stands in the fields."""
    expected = [(re.sub(r"\s*\n\s*", "\n", a).strip(), b.strip()) for a, b in expected]  # blank lines are not kept
    expected = [(a, b) for a, b in expected if a.count("\n") < 10]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("a", "b"))
    writer.writerows(expected)
    assert rows(out.getvalue().encode()) == [{"a": a, "b": b} for a, b in expected]


SAMPLES = {
    "spotify": b'[\n{"ts": "2023-03-19T18:31:37Z", "ms_played": 5000, "master_metadata_track_name": "T", '
    b'"offline": true, "offline_timestamp": 1679250690, "spotify_track_uri": "spotify:track:1"},\n'
    b'{"ts": "2023-03-19T18:32:37Z", "ms_played": 5000, "master_metadata_track_name": "U"}\n]',
    "account": HISTORY[:600],
    "youtube": b'[{"header": "YouTube Music", "title": "Watched X", "titleUrl": "https://music.youtube.com/watch?v=a", '
    b'"subtitles": [{"name": "A - Topic"}], "time": "2024-03-01T10:00:00.250Z", "details": [{"name": "x"}]}]',
    "listenbrainz": b'{"listened_at": 1700000000, "track_metadata": {"artist_name": "A", "track_name": "T", '
    b'"additional_info": {"duration_ms": 5, "duration_played": 3, "spotify_id": "x", "music_service": "y"}}}\n' * 2,
    "maloja": b'{"maloja": {}, "scrobbles": [{"time": 1700000000, "track": {"artists": ["A"], "title": "T", '
    b'"album": {"albumtitle": "B"}, "length": 5}, "duration": 4, "origin": "x"}]}',
    "apple": b"Song Name,Album Name,Event End Timestamp,Play Duration Milliseconds,End Reason Type,Offline\n"
    b'"T, ""live""",B,2024-03-01T10:03:41Z,5000,NATURAL_END_OF_TRACK,true\nU,B,2024-03-01T10:03:41Z,-5,,\n',
    "lastfm": b"uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid\n"
    b'"1700000000","x","A","","B","","T",""\n',
    "bare": b"A,B,T,14 Nov 2023 22:13\nA,B,T,14 Nov 2023 22:14\n",
    "librefm": b"# x\nArtist,Track,Album,Time\nA,T,B,1700000000\n",
    "rockbox": b"#AUDIOSCROBBLER/1.1\n#TZ/UTC\nA\tB\tT\t1\t259\tL\t1700000000\t\nA\tB\tT\t1\t259\tS\t1700000000\t\n",
}


@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 4), st.binary(max_size=3)), max_size=6),
    st.booleans(),
)
def test_whatever_is_damaged_nothing_is_raised(name: str, damage: list[tuple[int, int, bytes]], packed: bool) -> None:
    """Bytes overwritten, taken out or put in anywhere: rows, reasons, or another format, but never an exception."""
    data = SAMPLES[name]
    for at, length, put in damage:
        data = data[:at] + put + data[at + length :]
    if packed:
        data = gzip.compress(data)
    records = list(Recording(Origin(name, len(data), lambda: io.BytesIO(data), Path(name))).records())
    assert all(number >= 1 for number, _ in records)


@given(st.lists(st.tuples(st.integers(0, 1_500), st.binary(min_size=1, max_size=4)), max_size=8), st.booleans())
def test_whatever_is_damaged_in_a_zip_nothing_is_raised(damage: list[tuple[int, bytes]], cut: bool) -> None:
    """Members are read, or named with a reason; in the file system of a test there is nothing else to go wrong."""
    inner = zipped({"inner.json": HISTORY[:300] + b"]"})
    data = bytearray(zipped({"a.json": SAMPLES["spotify"], "b.zip": inner, "c.csv": SAMPLES["apple"]}))
    for at, put in damage:
        data[at : at + len(put)] = put
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.zip")
        path.write_bytes(bytes(data[: -len(damage)] if cut and damage else data))
        for origin in walk([path]):
            if isinstance(origin, Origin):
                list(Recording(origin).records())


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_undamaged_samples_are_listens(name: str) -> None:
    """What the test above damages is a history, each of its format."""
    data = SAMPLES[name]
    recording = Recording(Origin(name, len(data), lambda: io.BytesIO(data), Path(name)))
    assert recording.is_history
    assert any(isinstance(record, Listen) for _, record in recording.records())
