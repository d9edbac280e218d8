"""Real listening histories: both Spotify formats, found by content, with the oddities of real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from producers.event import from_object
from producers.importers import Record, Row
from producers.importers.detect import Recording

EXTENDED: dict[str, Any] = {
    "ts": "2023-03-19T18:31:37Z",
    "platform": "Android OS 10 API 29 (samsung, SM-G970F)",
    "ms_played": 174_424,
    "conn_country": "DE",
    "ip_addr": "203.0.113.7",
    "master_metadata_track_name": "Lanterns",
    "master_metadata_album_artist_name": "Paper Lakes",
    "master_metadata_album_album_name": "Harbor",
    "spotify_track_uri": "spotify:track:0000000000000000000042",
    "episode_name": None,
    "episode_show_name": None,
    "spotify_episode_uri": None,
    "reason_start": "clickrow",
    "reason_end": "trackdone",
    "shuffle": False,
    "skipped": None,
    "offline": False,
    "offline_timestamp": 0,
    "incognito_mode": True,
}
ACCOUNT: dict[str, Any] = {
    "endTime": "2021-03-01 12:05",
    "artistName": "Paper Lakes",
    "trackName": "Lanterns",
    "msPlayed": 61_000,
}

Read = Callable[..., list[Record]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def reader(*rows: object, user: str = "") -> list[Record]:
        path = tmp_path / "any name.txt"
        path.write_text(json.dumps(rows))
        return [record for _, record in Recording(path, user).records()]

    return reader


def listen(read: Read, row: dict[str, Any], user: str = "") -> list[dict[str, Any]]:
    (record,) = read(row, user=user)
    assert isinstance(record, Row), record
    for event in record.events:
        from_object(event, 2_000_000_000_000)
    return record.events


def test_an_extended_row_is_a_play_and_its_end(read: Read) -> None:
    """`ts` is when playback stopped: start = stop - ms_played; the address of the listener goes nowhere."""
    play, end = listen(read, EXTENDED)
    stop = 1_679_250_697_000
    assert (play["event_type"], play["timestamp"]) == ("play", stop - 174_424)
    assert (end["event_type"], end["timestamp"], end["ms_played"]) == ("pause", stop, 174_424)
    assert (play["track_id"], play["track_name"], play["artist_name"], play["album_name"]) == (
        "spotify:track:0000000000000000000042",
        "Lanterns",
        "Paper Lakes",
        "Harbor",
    )
    assert (play["platform"], play["device"], play["country"], play["user_id"]) == ("spotify", "mobile", "DE", "me")
    assert (play["reason_start"], end["reason_end"]) == ("clickrow", "trackdone")
    assert play["incognito"] is True
    assert play["shuffle"] is False
    assert "203.0.113.7" not in json.dumps([play, end])


@pytest.mark.parametrize(
    ("reason_end", "ms_played", "skipped", "expected"),
    [
        ("trackdone", 5_000, True, "pause"),
        ("fwdbtn", 5_000, None, "skip"),
        ("fwdbtn", 200_000, False, "skip"),
        ("backbtn", 0, None, "skip"),
        ("endplay", 1_000, True, "pause"),
        ("logout", 100, None, "pause"),
        (None, 29_999, None, "skip"),
        ("unknown", 30_000, True, "pause"),
        ("", 0, None, "skip"),
    ],
)
def test_how_a_listen_ended_does_not_follow_from_skipped(
    read: Read, reason_end: str | None, ms_played: int, skipped: bool | None, expected: str
) -> None:
    """reason_end decides; without one, a listen below 30 s was skipped; `skipped` is not asked."""
    row = {**EXTENDED, "reason_end": reason_end, "ms_played": ms_played, "skipped": skipped}
    assert listen(read, row)[1]["event_type"] == expected


def test_the_same_row_is_the_same_listen(read: Read) -> None:
    """Ids follow from what was heard, when and by whom: a second import changes nothing, another user does."""
    first, again = (listen(read, EXTENDED) for _ in range(2))
    newer = listen(read, {**EXTENDED, "audiobook_title": None, "offline_timestamp": 1_679_250_697})
    assert [e["event_id"] for e in first] == [e["event_id"] for e in again] == [e["event_id"] for e in newer]
    others = [
        listen(read, {**EXTENDED, "ms_played": 174_425}),
        listen(read, {**EXTENDED, "ts": "2023-03-19T18:31:38Z"}),
        listen(read, EXTENDED, user="somebody"),
    ]
    assert len({e["event_id"] for events in [first, *others] for e in events}) == 8


def test_zero_milliseconds_are_a_listen(read: Read) -> None:
    """A row of zero length is welcome: play and end at the same time."""
    play, end = listen(read, {**EXTENDED, "ms_played": 0})
    assert play["timestamp"] == end["timestamp"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spotify_track_uri": None, "spotify_episode_uri": "spotify:episode:1", "episode_name": "Talk"}, "bad_field"),
        ({"spotify_track_uri": None, "audiobook_title": "Book"}, "bad_field"),
        ({"spotify_track_uri": None, "master_metadata_track_name": None}, "missing_id"),
        ({"ts": "not a time"}, "bad_timestamp"),
        ({"ts": "2023-03-19T18:31:37"}, "bad_timestamp"),
        ({"ms_played": -1}, "bad_number"),
        ({"ms_played": None}, "bad_number"),
        ({"ms_played": float("nan")}, "bad_number"),
    ],
)
def test_what_is_no_listen_is_kept_apart(read: Read, change: dict[str, Any], reason: str) -> None:
    """Episodes, audiobooks, unknown tracks and broken rows are one dead letter each, with the row's bytes."""
    row = {**EXTENDED, **change}
    good, apart = read(EXTENDED, row)
    assert isinstance(good, Row)
    assert not isinstance(apart, Row | bytes)
    assert apart.error.reason == reason
    assert json.dumps(json.loads(apart.payload)) == json.dumps(row)


def test_unknown_countries_and_old_exports_are_taken(read: Read) -> None:
    """ZZ is no country, a row may lack most fields, and names stand in for a missing track id."""
    play, _ = listen(read, {**EXTENDED, "conn_country": "ZZ"})
    assert play["country"] is None
    bare = {"ts": "2016-01-01T00:00:00Z", "ms_played": 1, "master_metadata_track_name": "X", "username": "old"}
    play, _ = listen(read, bare)
    assert play["track_id"].startswith("name:")
    assert play["user_id"] == "old"


def test_an_account_row_is_a_listen_by_name(read: Read) -> None:
    """Minute precision, UTC; the track is known by its names, whatever their case."""
    play, end = listen(read, ACCOUNT, user="me too")
    stop = 1_614_600_300_000
    assert (play["timestamp"], end["timestamp"], end["ms_played"]) == (stop - 61_000, stop, 61_000)
    assert (play["track_name"], play["artist_name"], play["user_id"]) == ("Lanterns", "Paper Lakes", "me too")
    same, _ = listen(read, {**ACCOUNT, "trackName": "LANTERNS", "endTime": "2021-03-02 12:05"})
    assert same["track_id"] == play["track_id"]
    assert end["event_type"] == "pause"
    assert listen(read, {**ACCOUNT, "msPlayed": 29_000})[1]["event_type"] == "skip"


def test_broken_account_rows_are_kept_apart(read: Read) -> None:
    """Podcasts, missing names and unreadable times are dead letters with a reason."""
    rows = [
        {"endTime": "2021-03-01 12:05", "podcastName": "Talk", "episodeName": "One", "msPlayed": 5},
        {**ACCOUNT, "trackName": ""},
        {**ACCOUNT, "endTime": "01.03.2021"},
        {**ACCOUNT, "msPlayed": "61000"},
        17,
    ]
    reasons = [record.error.reason for record in read(ACCOUNT, *rows)[1:] if not isinstance(record, Row | bytes)]
    assert reasons == ["bad_field", "missing_id", "bad_timestamp", "bad_number", "not_an_object"]


def test_the_format_is_found_by_content(tmp_path: Path) -> None:
    """Not the name but what stands in a file says what it is."""
    cases = {
        "Spotify extended streaming history": [EXTENDED],
        "Spotify account data": [ACCOUNT],
        "events": [{"event_id": "e"}],
    }
    for expected, rows in cases.items():
        for text in (json.dumps(rows), json.dumps(rows, indent=1), "\n".join(map(json.dumps, rows))):
            path = tmp_path / "file"
            path.write_text(text)
            assert Recording(path).format == expected
