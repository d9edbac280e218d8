"""Apple Music's privacy export and Google's Takeout, with the oddities of real files."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from .conftest import Read

APPLE = {
    "Song Name": "Lanterns",
    "Album Name": "Harbor",
    "Artist Name": "Paper Lakes",
    "Event Type": "PLAY_END",
    "Event Start Timestamp": "2024-03-01T10:00:00.250Z",
    "Event End Timestamp": "2024-03-01T10:03:41Z",
    "Play Duration Milliseconds": "210000",
    "Start Position In Milliseconds": "0",
    "Media Duration In Milliseconds": "221207",
    "End Reason Type": "NATURAL_END_OF_TRACK",
    "Media Type": "AUDIO",
    "Device Type": "iPhone",
    "ISO Country": "DE",
    "Offline": "false",
    "Shuffle Play": "SHUFFLE_ON",
    "Some New Column": "?",
}
YOUTUBE: dict[str, Any] = {
    "header": "YouTube Music",
    "title": "Watched Lanterns",
    "titleUrl": "https://music.youtube.com/watch?v=abc-DEF_123",
    "subtitles": [{"name": "Paper Lakes - Topic", "url": "https://www.youtube.com/channel/x"}],
    "time": "2024-03-01T10:00:00.250Z",
    "products": ["YouTube"],
    "activityControls": ["YouTube watch history"],
}


def table(*rows: dict[str, str]) -> str:
    """A CSV file with the columns of the first row."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def test_an_apple_row_is_a_play_and_its_end(read: Read) -> None:
    """Start, end, position, length and device are told; the reason is named as elsewhere."""
    told = read(table(APPLE), user="ann")
    assert told.format == "Apple Music play activity"
    ((play, end),) = told.listens
    assert (play["timestamp"], play["position_ms"], play["duration_ms"]) == (1_709_287_200_250, 0, 221_207)
    assert (end["event_type"], end["timestamp"], end["ms_played"]) == ("pause", 1_709_287_421_000, 210_000)
    assert (play["track_name"], play["artist_name"], play["album_name"]) == ("Lanterns", "Paper Lakes", "Harbor")
    assert (play["device"], play["country"], play["shuffle"], play["offline"]) == ("mobile", "DE", True, False)
    assert (end["reason_end"], play["user_id"], play["platform"]) == ("trackdone", "ann", "apple_music")


@pytest.mark.parametrize(
    ("reason", "played", "event_type", "told"),
    [
        ("TRACK_SKIPPED_FORWARDS", "100000", "skip", "fwdbtn"),
        ("TRACK_SKIPPED_BACKWARDS", "100000", "skip", "backbtn"),
        ("MANUALLY_SELECTED_PLAYBACK_OF_A_DIFF_ITEM", "5000", "skip", "clickrow"),
        ("MANUALLY_SELECTED_PLAYBACK_OF_A_DIFF_ITEM", "50000", "pause", "clickrow"),
        ("PLAYBACK_MANUALLY_PAUSED", "5000", "pause", "playback_manually_paused"),
        ("NOT_APPLICABLE", "5000", "skip", None),
        ("", "50000", "pause", None),
    ],
)
def test_how_an_apple_listen_ended(read: Read, reason: str, played: str, event_type: str, told: str | None) -> None:
    """The reason decides; where it says nothing, or that something else was chosen, the length does."""
    ((_, end),) = read(table({**APPLE, "End Reason Type": reason, "Play Duration Milliseconds": played})).listens
    assert (end["event_type"], end.get("reason_end")) == (event_type, told)


def test_apple_rows_that_are_no_listens(read: Read) -> None:
    """Beginnings, lyrics, videos, the slider and negative durations are none; unreadable rows are broken."""
    changes = [
        {"Event Type": "PLAY_START"},
        {"Event Type": "LYRIC_DISPLAY"},
        {"Media Type": "VIDEO"},
        {"End Reason Type": "SCRUB_END"},
        {"Play Duration Milliseconds": "-4000"},
        {"Play Duration Milliseconds": "0"},
        {"Song Name": ""},
        {"Event End Timestamp": "yesterday"},
        {"Event End Timestamp": "2033-06-01T00:00:00Z"},
        {"Play Duration Milliseconds": "long"},
        {"Play Duration Milliseconds": ""},
    ]
    told = read(table(APPLE, *({**APPLE, **change} for change in changes)))
    assert told.none == ["no end of a play"] * 2 + ["video, not music"] + ["nothing heard (0 ms)"] * 3
    assert told.broken == ["missing_id", "bad_timestamp", "future_timestamp", "bad_number", "bad_number"]
    assert [number for number, _ in told.records] == list(range(2, 14))
    assert len(told.listens) == 1


def test_an_apple_duration_is_cut_to_the_song(read: Read) -> None:
    """A night asleep with the app open is not eight hours of one song."""
    ((_, end),) = read(table({**APPLE, "Play Duration Milliseconds": "28800000"})).listens
    assert end["ms_played"] == 221_207


def test_older_and_newer_apple_columns(read: Read) -> None:
    """`Content Name` was the song; the artist's column is gone, an unknown artist is none; both album columns do."""
    older = {
        "Content Name": "Lanterns",
        "Container Album Name": "Harbor",
        "Event End Timestamp": "2018-03-01 10:03:41",
        "Play Duration Milliseconds": "210000",
        "End Reason Type": "",
    }
    ((play, end),) = read(table(older)).listens
    assert (play["track_name"], play["album_name"], end["timestamp"]) == ("Lanterns", "Harbor", 1_519_898_621_000)
    assert "artist_name" not in play


def test_the_same_apple_row_twice(read: Read) -> None:
    """One listen, also when a field of no meaning differs."""
    told = read(table(APPLE, APPLE, {**APPLE, "Some New Column": "!"}))
    assert (len(told.listens), told.duplicates) == (1, 2)


def test_a_youtube_row_is_a_play_without_an_end(read: Read) -> None:
    """How long it was heard is not told; "- Topic" is no part of an artist's name."""
    told = read([YOUTUBE])
    assert told.format == "YouTube watch history"
    ((play,),) = told.listens
    assert (play["track_id"], play["track_name"], play["artist_name"]) == (
        "youtube:abc-DEF_123",
        "Lanterns",
        "Paper Lakes",
    )
    assert (play["event_type"], play["timestamp"], play["platform"]) == ("play", 1_709_287_200_250, "youtube_music")


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Watched Lanterns", "Lanterns"),
        ("„Lanterns“ angesehen", "Lanterns"),
        ("Has visto Lanterns", "Lanterns"),
        ("Vous avez regardé Lanterns", "Lanterns"),
        ("Lanterns を視聴しました", "Lanterns"),
        ("Lanterns", "Lanterns"),
        ("Watched https://music.youtube.com/watch?v=abc-DEF_123", None),
    ],
)
def test_youtube_titles_in_several_languages(read: Read, title: str, name: str | None) -> None:
    """The account's language stands around the title; an address is no title."""
    ((play,),) = read([{**YOUTUBE, "title": title}]).listens
    assert play.get("track_name") == name


def test_what_is_no_music_on_youtube(read: Read) -> None:
    """Videos, advertisements and removed ones are told apart; without a channel there is no artist."""
    rows = [
        {**YOUTUBE, "header": "YouTube", "titleUrl": "https://www.youtube.com/watch?v=x"},
        {**YOUTUBE, "details": [{"name": "From Google Ads"}]},
        {**YOUTUBE, "titleUrl": None, "title": "Watched a video that has been removed", "subtitles": None},
        {**YOUTUBE, "time": "2024"},
        {**YOUTUBE, "subtitles": None},
    ]
    told = read(rows)
    assert told.none == ["video, not music", "advertisement", "removed video"]
    assert told.broken == ["bad_timestamp"]
    assert "artist_name" not in told.plays[0]


@pytest.mark.parametrize("address", ["http://[broken", "https://www.youtube.com/post/1"])
def test_an_address_that_leads_to_no_video(read: Read, address: str) -> None:
    """The names make the id of the track then."""
    ((play,),) = read([{**YOUTUBE, "titleUrl": address}]).listens
    assert play["track_id"].startswith("name:")
