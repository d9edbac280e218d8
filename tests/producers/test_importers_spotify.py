"""Both Spotify formats, with the oddities of real files."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.door import Refused
from producers.importers.listens import Known, Listen

from .conftest import Read, Told

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
    "incognito_mode": False,
}
ACCOUNT: dict[str, Any] = {
    "endTime": "2023-03-19 18:31",
    "artistName": "Paper Lakes",
    "trackName": "Lanterns",
    "msPlayed": 174_424,
}
STOP_S = 1_679_250_697
STOP = STOP_S * 1000


def one(told: Told) -> list[dict[str, Any]]:
    (events,) = told.listens
    return events


def test_an_extended_row_is_a_play_and_its_end(read: Read) -> None:
    """`ts` is when playback stopped: start = stop - ms_played; the address of the listener goes nowhere."""
    play, end = one(read([EXTENDED]))
    assert (play["event_type"], play["timestamp"]) == ("play", STOP - 174_424)
    assert (end["event_type"], end["timestamp"], end["ms_played"]) == ("pause", STOP, 174_424)
    assert (play["track_id"], play["track_name"], play["artist_name"], play["album_name"]) == (
        "spotify:track:0000000000000000000042",
        "Lanterns",
        "Paper Lakes",
        "Harbor",
    )
    assert (play["platform"], play["device"], play["country"], play["user_id"]) == ("spotify", "mobile", "DE", "me")
    assert (play["reason_start"], end["reason_end"]) == ("clickrow", "trackdone")
    assert play["shuffle"] is False
    assert "203.0.113.7" not in json.dumps([play, end])


@pytest.mark.parametrize(
    ("reason_end", "ms_played", "skipped", "expected"),
    [
        ("trackdone", 5_000, True, "pause"),
        ("fwdbtn", 5_000, None, "skip"),
        ("fwdbtn", 200_000, False, "skip"),
        ("backbtn", 1, None, "skip"),
        ("endplay", 1_000, True, "pause"),
        ("logout", 100, None, "pause"),
        ("clickrow", 4_000, False, "skip"),
        ("clickrow", 40_000, False, "pause"),
        (None, 29_999, None, "skip"),
        ("unknown", 30_000, True, "pause"),
        ("", 1, None, "skip"),
    ],
)
def test_how_a_listen_ended_does_not_follow_from_skipped(
    read: Read, reason_end: str | None, ms_played: int, skipped: bool | None, expected: str
) -> None:
    """reason_end decides; without a telling one, a listen below 30 s was skipped; `skipped` is not asked."""
    row = {**EXTENDED, "reason_end": reason_end, "ms_played": ms_played, "skipped": skipped}
    assert one(read([row]))[1]["event_type"] == expected


@pytest.mark.parametrize("unit", [1, 1000])
def test_the_start_on_the_device_tells_of_a_pause(read: Read, unit: int) -> None:
    """Ts - ms_played is too late after a pause of an hour; offline_timestamp is right, in seconds or milliseconds."""
    began_s = STOP_S - 174 - 3_600
    play, end = one(read([{**EXTENDED, "offline_timestamp": began_s * unit}]))
    assert (play["timestamp"], end["timestamp"], end["ms_played"]) == (began_s * 1000, STOP, 174_424)


@pytest.mark.parametrize("value", [0, None, STOP_S, STOP_S + 90, 1, -5, True, 1e300, "soon"])
def test_a_start_on_the_device_that_cannot_be_is_not_believed(read: Read, value: object) -> None:
    """Zero, nothing, the future, 1970 and what is no number leave start = stop - ms_played."""
    play, end = one(read([{**EXTENDED, "offline_timestamp": value}]))
    assert (play["timestamp"], end["timestamp"]) == (STOP - 174_424, STOP)


def test_a_first_row_dated_a_year_off(read: Read) -> None:
    """Heard offline, told a year later: the device's start counts. Of an online listen, `ts` does."""
    row = {**EXTENDED, "ts": "2024-04-20T18:15:22Z", "ms_played": 2_385, "offline_timestamp": 1_679_249_719}
    play, end = one(read([{**row, "offline": True}, {**EXTENDED, "ts": "junk"}]))
    assert (play["timestamp"], end["timestamp"]) == (1_679_249_719_000, 1_679_249_721_385)
    _, end = one(read([{**row, "offline": False}]))
    assert end["timestamp"] == 1_713_636_922_000


def test_ten_plays_within_one_minute_are_ten(read: Read) -> None:
    """Also of one short track on repeat, where only the second differs; and the same ten again are none."""
    rows = [{**EXTENDED, "ts": f"2023-03-19T18:31:{s:02}Z", "ms_played": 5_000} for s in range(0, 60, 6)]
    known = Known()
    told = read(rows, known=known)
    assert len({event["event_id"] for events in told.listens for event in events}) == 20
    assert read(rows[::-1], known=known).duplicates == 10
    assert {play["event_id"] for play in read(rows[::-1]).plays} == {play["event_id"] for play in told.plays}
    minute = [{**ACCOUNT, "msPlayed": 5_000 + n} for n in range(10)]
    assert len(read(minute).listens) == 10


def test_the_same_row_twice_is_one_listen(read: Read) -> None:
    """In one file and in two; fields that say nothing of the listen do not matter, another user does."""
    newer = {**EXTENDED, "audiobook_title": None, "offline_timestamp": STOP_S - 175, "skipped": True}
    known = Known()
    told = read([EXTENDED, EXTENDED, newer], known=known)
    assert (len(told.listens), told.duplicates) == (1, 2)
    assert read([EXTENDED], known=known).duplicates == 1
    assert len(read([EXTENDED], known=known, user="somebody").listens) == 1


@pytest.mark.parametrize("exact_first", [True, False])
def test_account_data_and_extended_history_tell_the_same_listen(read: Read, exact_first: bool) -> None:
    """To the minute and to the second: one listen with one id, whichever file comes first."""
    files = [[EXTENDED], [ACCOUNT]] if exact_first else [[ACCOUNT], [EXTENDED]]
    known = Known()
    first, second = (read(rows, known=known) for rows in files)
    assert (len(first.listens), second.duplicates) == (1, 1)
    assert one(read(files[1]))[0]["event_id"] == one(first)[0]["event_id"]


@given(st.lists(st.integers(0, 59), min_size=1, max_size=12), st.randoms())
def test_ids_do_not_depend_on_the_order_of_rows(seconds: list[int], random: Any) -> None:
    """Whatever the order, equal listens of one minute get the same set of ids, one for each second."""
    minute = STOP // 60_000 * 60_000

    def ids(order: list[int]) -> set[str]:
        known = Known()
        listens = [Listen("u", "p", "t", None, None, None, minute + s * 1000, minute) for s in order]
        return {listen.event_id for listen in listens if known.is_new(listen)}

    shuffled = list(seconds)
    random.shuffle(shuffled)
    assert ids(seconds) == ids(shuffled)
    assert len(ids(seconds)) == len(set(seconds))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"spotify_track_uri": None, "spotify_episode_uri": "spotify:episode:1", "episode_name": "Talk"}, "podcast"),
        ({"spotify_track_uri": None, "audiobook_title": "Book"}, "audiobook"),
        ({"spotify_track_uri": None, "master_metadata_track_name": "Unknown Track"}, "unknown track"),
        ({"ms_played": 0}, "nothing heard (0 ms)"),
    ],
)
def test_what_is_no_listen_is_kept_apart(read: Read, change: dict[str, Any], why: str) -> None:
    """Podcasts, audiobooks and rows of zero length are counted with their reason, and are nothing that is broken."""
    told = read([EXTENDED, {**EXTENDED, **change}])
    assert (len(told.listens), told.none, told.broken) == (1, [why], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spotify_track_uri": None, "master_metadata_track_name": None}, "missing_id"),
        ({"ts": "not a time"}, "bad_timestamp"),
        ({"ts": "2023-03-19T18:31:37"}, "bad_timestamp"),
        ({"ts": "2033-05-19T18:31:37Z"}, "future_timestamp"),
        ({"ms_played": -1}, "bad_number"),
        ({"ms_played": None}, "bad_number"),
        ({"ms_played": float("nan")}, "bad_number"),
        ({"ms_played": 1 << 40}, "bad_number"),
        ({"shuffle": "yes"}, "bad_field"),
        ({"master_metadata_track_name": "T\x00"}, "control_characters"),
        ({"master_metadata_track_name": "\ud800"}, "invalid_utf8"),
        ({"spotify_track_uri": "x" * 300}, "id_too_long"),
        ({"username": "\ud800", "incognito_mode": True}, "invalid_utf8"),
    ],
)
def test_broken_rows_are_told_with_reason_and_bytes(read: Read, change: dict[str, Any], reason: str) -> None:
    """One dead letter each, with the bytes of the row; its neighbours are taken."""
    row = {**EXTENDED, **change}
    told = read([EXTENDED, row, {**EXTENDED, "ms_played": 5}])
    assert (len(told.listens), told.broken) == (2, [reason])
    (number, apart) = told.records[1]
    assert isinstance(apart, Refused)
    assert number == 2
    assert json.dumps(json.loads(apart.payload)) == json.dumps(row)


def test_nan_where_no_number_is_needed(read: Read) -> None:
    """JSON does not know NaN, Python's writes it: a listen all the same."""
    assert len(read([{**EXTENDED, "offline_timestamp": float("nan"), "extra": float("inf")}]).listens) == 1


def test_unknown_fields_countries_and_old_exports(read: Read) -> None:
    """What is not known is ignored, ZZ is no country, most fields may lack, and names stand in for an id."""
    play, _ = one(read([{**EXTENDED, "conn_country": "ZZ", "brand_new": {"a": [1]}}]))
    assert "country" not in play
    bare = {"ts": "2016-01-01T00:00:00Z", "ms_played": 1, "master_metadata_track_name": "X", "username": "old"}
    play, _ = one(read([bare]))
    assert play["track_id"].startswith("name:")
    assert play["user_id"] == "old"


def test_both_names_of_the_album_field(read: Read) -> None:
    """`master_metadata_album_album_name`, or `master_metadata_album_name`."""
    row = {name: value for name, value in EXTENDED.items() if name != "master_metadata_album_album_name"}
    assert one(read([{**row, "master_metadata_album_name": "Harbor"}]))[0]["album_name"] == "Harbor"


def test_an_unknown_artist_is_no_artist(read: Read) -> None:
    """`Unknown Artist` is not somebody's name; the listen counts."""
    play, _ = one(read([{**EXTENDED, "master_metadata_album_artist_name": "Unknown Artist"}]))
    assert "artist_name" not in play
    play, _ = one(read([{**ACCOUNT, "artistName": "Unknown Artist"}]))
    assert "artist_name" not in play


def test_a_private_session_carries_no_user(read: Read) -> None:
    """As at the door: it is counted, without a name."""
    play, end = one(read([{**EXTENDED, "incognito_mode": True}], user="ann"))
    assert (play["incognito"], end["incognito"]) == (True, True)
    assert "user_id" not in {*play, *end}


def test_an_account_row_is_a_listen_by_name(read: Read) -> None:
    """Minute precision, UTC; the track is known by its names, whatever their case."""
    play, end = one(read([{**ACCOUNT, "msPlayed": 61_000}], user="me too"))
    stop = STOP // 60_000 * 60_000
    assert (play["timestamp"], end["timestamp"], end["ms_played"]) == (stop - 61_000, stop, 61_000)
    assert (play["track_name"], play["artist_name"], play["user_id"]) == ("Lanterns", "Paper Lakes", "me too")
    same, _ = one(read([{**ACCOUNT, "trackName": "LANTERNS", "endTime": "2021-03-02 12:05"}]))
    assert same["track_id"] == play["track_id"]
    assert end["event_type"] == "pause"
    assert one(read([{**ACCOUNT, "msPlayed": 29_000}]))[1]["event_type"] == "skip"


def test_account_rows_that_are_no_listens(read: Read) -> None:
    """Podcasts, audiobooks and silence are none; missing names, unreadable times and text for numbers are broken."""
    none = [
        {"endTime": "2021-03-01 12:05", "podcastName": "Talk", "episodeName": "One", "msPlayed": 5},
        {"endTime": "2021-03-01 12:05", "audiobookName": "Book", "authorName": "One", "msPlayed": 5},
        {**ACCOUNT, "artistName": "Unknown Artist", "trackName": "Unknown Track"},
        {**ACCOUNT, "msPlayed": 0},
    ]
    broken = [
        {**ACCOUNT, "trackName": ""},
        {**ACCOUNT, "endTime": "01.03.2021"},
        {**ACCOUNT, "msPlayed": "61000"},
        {**ACCOUNT, "endTime": "2033-06-01 12:05"},
        17,
    ]
    told = read([ACCOUNT, *none, *broken])
    assert told.none == ["podcast", "audiobook", "unknown track", "nothing heard (0 ms)"]
    assert told.broken == ["missing_id", "bad_timestamp", "bad_number", "future_timestamp", "not_an_object"]


@pytest.mark.parametrize(
    "encode", [json.dumps, lambda rows: json.dumps(rows, indent=1), lambda rows: "\n".join(map(json.dumps, rows))]
)
def test_the_format_is_found_by_content(read: Read, encode: Any) -> None:
    """Not the name but what stands in a file says what it is, pretty or not, as an array or as lines."""
    cases = {
        "Spotify extended streaming history": EXTENDED,
        "Spotify account data": ACCOUNT,
        "events": {"event_id": "e"},
    }
    for expected, row in cases.items():
        assert read(encode([row, row])).format == expected


def test_a_byte_order_mark_and_windows_lines(read: Read) -> None:
    """What editors add is no part of a history."""
    text = "\ufeff" + json.dumps([EXTENDED], indent=2).replace("\n", "\r\n")
    assert len(read(text).listens) == 1


def test_a_listen_is_told_alike_one_by_one_and_in_one_go(read: Read) -> None:
    """A broken neighbour sends the whole file down the slower way: what comes out is the same."""
    rows = [{**EXTENDED, "ms_played": n} for n in range(1, 30)]
    assert read([*rows, {**EXTENDED, "shuffle": "yes"}]).listens == read(rows).listens
