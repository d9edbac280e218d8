"""Scrobbling services: Last.fm, Libre.fm, ListenBrainz, Maloja and Rockbox, with the oddities of real files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from producers.importers.listens import Known

from .conftest import Read

START_S = 1_700_000_000
HEAD = "uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid\n"
LASTFM = f'"{START_S}","14 Nov 2023, 22:13","Paper Lakes","","Harbor, Vol. 2","","Lanterns ""Live""",""\n'
LISTENBRAINZ: dict[str, Any] = {
    "inserted_at": 1.5,
    "listened_at": START_S,
    "track_metadata": {
        "artist_name": "Paper Lakes",
        "track_name": "Lanterns",
        "release_name": "Harbor",
        "mbid_mapping": None,
        "additional_info": {"duration_ms": 206_760, "isrc": "GBAYE8100053", "music_service": "spotify.com"},
    },
}
MALOJA: dict[str, Any] = {
    "time": START_S,
    "track": {
        "artists": ["Paper Lakes", "Ann"],
        "title": "Lanterns",
        "album": {"artists": ["Paper Lakes"], "albumtitle": "Harbor"},
        "length": 220,
    },
    "duration": 200,
    "origin": "client:x",
}
ROCKBOX = "#AUDIOSCROBBLER/1.1\n#TZ/UNKNOWN\n#CLIENT/Rockbox sansa $Revision$\n"


def rockbox(artist: str = "Paper Lakes", title: str = "Lanterns", rating: str = "L", time: object = START_S) -> str:
    return f"{artist}\tHarbor\t{title}\t1\t259\t{rating}\t{time}\t\n"


def maloja(*rows: object) -> dict[str, Any]:
    return {"maloja": {"export_time": 1}, "scrobbles": rows}


def test_a_lastfm_row_is_a_play(read: Read) -> None:
    """Quotes, commas and seconds are kept; when it ended is not told."""
    told = read(HEAD + LASTFM, user="ann")
    assert told.format == "Last.fm scrobbles"
    ((play,),) = told.listens
    assert (play["track_name"], play["artist_name"]) == ('Lanterns "Live"', "Paper Lakes")
    assert (play["album_name"], play["timestamp"], play["user_id"]) == ("Harbor, Vol. 2", START_S * 1000, "ann")


def test_lastfm_without_a_header(read: Read) -> None:
    """Both exporters are known by the form of a row; the one without seconds tells the minute."""
    ((exact,),) = read(LASTFM.replace("2023, ", "2023 ")).listens
    ((bare,),) = read("Paper Lakes,Harbor,Lanterns Live,14 Nov 2023 22:13\n").listens
    assert (exact["timestamp"], bare["timestamp"]) == (START_S * 1000, START_S // 60 * 60_000)


def test_minute_and_second_of_a_scrobble_are_one_listen(read: Read) -> None:
    """The same listen exported to the minute and to the second, and from two services."""
    known = Known()
    read(HEAD + LASTFM.replace(' ""Live""', ""), known=known)
    assert read("Paper Lakes,Harbor,Lanterns,14 Nov 2023 22:13\n", known=known).duplicates == 1
    assert read(json.dumps(LISTENBRAINZ), known=known).duplicates == 1
    assert read(ROCKBOX + rockbox(), known=known).duplicates == 1


def test_broken_lastfm_rows(read: Read) -> None:
    """A track playing during the export has no time; months, numbers and lines that cannot be are told."""
    bare = "A,B,T,{}\n"
    rows = [
        bare.format(x) for x in ("14 Nov 2023 22:13", "", "31 Feb 2023 22:13", "14 Foo 2023 22:13", "01 Jan 1970 00:00")
    ]
    told = read("".join(rows) + "A,B\n,B,T,14 Nov 2023 22:13\nA,B,,14 Nov 2023 22:13\n")
    assert told.broken == ["bad_timestamp"] * 4 + ["bad_field", "missing_id", "missing_id"]
    assert len(told.listens) == 1
    assert read(HEAD + LASTFM + LASTFM.replace(str(START_S), "soon")).broken == ["bad_timestamp"]


def test_librefm_with_comments_and_any_header(read: Read) -> None:
    """Whatever stands before the header is no row, also what went through UTF-7; more columns do not matter."""
    before = "+ACM- Data export from Libre.fm,,,\n# a comment, with a comma\n# 2\n"
    told = read(f"{before}userid,Artist,track,Album,time\n1,#1 Lakes,Lanterns,Harbor,{START_S}\n# the end\n")
    assert told.format == "Libre.fm scrobbles"
    ((play,),) = told.listens
    assert (play["artist_name"], play["track_name"], play["timestamp"]) == ("#1 Lakes", "Lanterns", START_S * 1000)
    assert told.broken == []


def test_librefm_without_a_header(read: Read) -> None:
    """Four fields that end with seconds; an album may be missing, and an artist may begin with #."""
    told = read(f"#1 Lakes,Lanterns,,{START_S}\nPaper Lakes,Lanterns,Harbor,{START_S + 5}\n")
    assert told.format == "Libre.fm scrobbles"
    assert [play.get("album_name") for play in told.plays] == [None, "Harbor"]


def test_text_files_of_windows(read: Read) -> None:
    """A byte order mark and CRLF are no part of a field; a last line needs no end."""
    text = f"\ufeffArtist,Track,Album,Time\r\nPaper Lakes,Lanterns,Harbor,{START_S}\r\nPaper Lakes,Two,,{START_S}"
    told = read(text)
    assert [play["track_name"] for play in told.plays] == ["Lanterns", "Two"]
    assert told.plays[0]["album_name"] == "Harbor"


def test_what_is_no_text_is_one_broken_row(read: Read) -> None:
    """NUL, and bytes of another encoding, are refused with their line; neighbours are taken."""
    good = f"Paper Lakes,Lanterns,Harbor,{START_S}\n".encode()
    told = read(b"Artist,Track,Album,Time\n" + good + b"P\xe4per,T,A,1700000001\nP\x00,T,A,1700000002\n" + good)
    assert told.broken == ["invalid_utf8", "control_characters"]
    assert (len(told.listens), told.duplicates) == (1, 1)


def test_a_listenbrainz_line_is_a_play(read: Read) -> None:
    """`listened_at` is the start; the service and what is known of the track are kept."""
    told = read(json.dumps(LISTENBRAINZ) + "\n" + json.dumps({**LISTENBRAINZ, "listened_at": START_S + 300}))
    assert told.format == "ListenBrainz listens"
    play = told.plays[0]
    assert (play["timestamp"], play["duration_ms"], play["isrc"]) == (START_S * 1000, 206_760, "GBAYE8100053")
    assert (play["platform"], play["album_name"]) == ("spotify", "Harbor")
    assert len(told.listens) == 2


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (None, {"platform": "listenbrainz"}),
        ({"music_service": "unknown.example"}, {"platform": "listenbrainz"}),
        ({"duration": "206"}, {"duration_ms": 206_000}),
        ({"duration": 206, "isrc": ["x"]}, {"duration_ms": 206_000}),
        ({"duration_ms": "long", "music_service": 5}, {"platform": "listenbrainz"}),
        ({"spotify_id": "https://open.spotify.com/track/abc"}, {"track_id": "spotify:track:abc"}),
    ],
)
def test_additional_info_holds_anything(read: Read, info: object, expected: dict[str, Any]) -> None:
    """What a client sent in another form than ours is not used, and spoils nothing."""
    row = {**LISTENBRAINZ, "track_metadata": {**LISTENBRAINZ["track_metadata"], "additional_info": info}}
    (play,) = read(json.dumps(row)).plays
    assert expected.items() <= play.items()


def test_how_much_was_heard_of_a_listenbrainz_listen(read: Read) -> None:
    """Where a client told it, the listen has an end."""
    info = {"duration_played": 12}
    row = {**LISTENBRAINZ, "track_metadata": {**LISTENBRAINZ["track_metadata"], "additional_info": info}}
    ((_, end),) = read(json.dumps(row)).listens
    assert (end["event_type"], end["ms_played"], end["timestamp"]) == ("skip", 12_000, START_S * 1000 + 12_000)


def test_broken_listenbrainz_lines(read: Read) -> None:
    """Artist, title and time are needed; a broken line is one dead letter."""
    metadata = LISTENBRAINZ["track_metadata"]
    rows = [
        json.dumps({**LISTENBRAINZ, "track_metadata": {**metadata, "artist_name": ""}}),
        json.dumps({**LISTENBRAINZ, "track_metadata": {**metadata, "track_name": ""}}),
        json.dumps({**LISTENBRAINZ, "track_metadata": "x"}),
        json.dumps({**LISTENBRAINZ, "listened_at": "soon"}),
        json.dumps({**LISTENBRAINZ, "listened_at": 4_000_000_000}),
        "{broken",
    ]
    told = read("\n".join(rows))
    assert told.broken == ["missing_id", "missing_id", "bad_field", "bad_timestamp", "future_timestamp", "not_json"]


@pytest.mark.parametrize("indent", [None, 3])
def test_a_maloja_scrobble_is_a_play_and_its_end(read: Read, indent: int | None) -> None:
    """Seconds become milliseconds; two artists are one name; on one line or on many."""
    told = read(json.dumps(maloja(MALOJA), indent=indent), user="ann")
    assert told.format == "Maloja scrobbles"
    ((play, end),) = told.listens
    assert (play["artist_name"], play["album_name"], play["duration_ms"]) == ("Paper Lakes, Ann", "Harbor", 220_000)
    assert (end["event_type"], end["ms_played"], end["timestamp"]) == ("pause", 200_000, START_S * 1000 + 200_000)


def test_maloja_oddities(read: Read) -> None:
    """Lengths may be null, as may albums; without title or artists a scrobble is broken, and NaN is no length."""
    track = MALOJA["track"]
    rows = [
        {**MALOJA, "duration": None, "track": {**track, "album": None, "length": None}},
        {**MALOJA, "time": START_S + 1, "track": {**track, "album": {"name": "Early"}}},
        {**MALOJA, "duration": 0},
        {**MALOJA, "track": {**track, "artists": []}},
        {**MALOJA, "track": {**track, "title": None}},
        {**MALOJA, "time": None},
        {**MALOJA, "duration": float("nan")},
    ]
    told = read(maloja(*rows))
    assert [(len(events), events[0].get("album_name")) for events in told.listens] == [(1, None), (2, "Early")]
    assert told.none == ["nothing heard (0 ms)"]
    assert told.broken == ["missing_id", "missing_id", "bad_timestamp", "bad_number"]


def test_a_rockbox_row_is_a_play_and_a_skipped_one_a_skip(read: Read) -> None:
    """L was heard, by half at least; S was skipped, nobody knows when."""
    told = read(ROCKBOX + rockbox() + rockbox(rating="S", time=START_S + 60))
    assert told.format == "Rockbox scrobbler log"
    (play,), (_, skip) = told.listens
    assert (play["timestamp"], play["duration_ms"], play["album_name"]) == (START_S * 1000, 259_000, "Harbor")
    assert skip["event_type"] == "skip"
    assert "ms_played" not in skip


def test_rockbox_oddities(read: Read) -> None:
    """Comments, artists that look like comments, no tags, no clock, a quote, too few fields."""
    comment = "#ARTIST\t#ALBUM\t#TITLE\t#TRACKNUM\t#LENGTH\t#RATING\t#TIMESTAMP\t#MUSICBRAINZ_TRACKID\n"
    rows = [
        rockbox("#1 Lakes"),
        rockbox(title='12" Mix'),
        rockbox("<Untagged>", "song.mp3"),
        rockbox(time=3_600),
        rockbox(rating="X"),
        "junk\n",
    ]
    told = read(ROCKBOX + comment + "".join(rows))
    assert [(play["artist_name"], play["track_name"]) for play in told.plays] == [
        ("#1 Lakes", "Lanterns"),
        ("Paper Lakes", '12" Mix'),
    ]
    assert told.none == ["unknown track"]
    assert told.broken == ["bad_timestamp", "bad_field", "bad_field"]
    assert [number for number, _ in told.records] == [5, 6, 7, 8, 9, 10]


def test_a_rockbox_log_that_lost_its_header(read: Read) -> None:
    """The rows tell the format."""
    assert read(rockbox() + rockbox(time=START_S + 9)).format == "Rockbox scrobbler log"
