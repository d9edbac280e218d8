"""Plays: each rule as a row of a table, and any log in any pieces against the batch oracle."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.oracle import Plays, clocked
from schemas.codec import Codec, Prefix, schema
from schemas.writers import history
from stream_processors import open_rows, row_table
from stream_processors.plays import OpenPlays
from tests.stream_processors.folding import Event, Step, event, run, steps

TIMEOUT_MS = 300_000
LATER = 10_000_000  # a watermark record: stream time passes every time-out


@pytest.fixture(autouse=True, scope="module")
def _compacted_often() -> Iterator[None]:
    """Closed rows and unused texts are forgotten at once, as they are in a state with many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_table, "_COMPACT_ROWS", 4)
        patch.setattr(open_rows, "_RECENT_ROWS", 8)
        yield


def play(number: int | str, second: float, **others: Any) -> Event:
    return event(number, "play", second, **others)


def pause(second: float, **others: Any) -> Event:
    return event(f"pause {second}", "pause", second, **others)


def skip(second: float, **others: Any) -> Event:
    return event(f"skip {second}", "skip", second, **others)


# name, events, rows: (play_id, ended_by, ms_played, listen_id, stretch)
RULES: list[tuple[str, list[Event | int], list[tuple[Any, ...]]]] = [
    (
        "a pause ends a play and tells how long it was",
        [play(1, 0), pause(50, ms_played=42_000)],
        [(1, "pause", 42_000, 1, 1)],
    ),
    ("a skip ends a play", [play(1, 0), skip(5, ms_played=5_000)], [(1, "skip", 5_000, 1, 1)]),
    ("without a word the time between counts", [play(1, 0), pause(50)], [(1, "pause", 50_000, 1, 1)]),
    (
        "the time between is at most the duration",
        [play(1, 0, duration_ms=30_000), pause(50)],
        [(1, "pause", 30_000, 1, 1)],
    ),
    (
        "the next track ends a play",
        [play(1, 0), play(2, 20, track_id="b"), pause(30, track_id="b")],
        [(1, "play", 20_000, 1, 1), (2, "pause", 10_000, 2, 1)],
    ),
    (
        "what another track's pause tells is not believed",
        [play(1, 0), pause(9, track_id="b", ms_played=5)],
        [(1, "pause", 9_000, 1, 1)],
    ),
    ("an app killed without an end: nothing is known", [play(1, 0), LATER], [(1, "timeout", 0, 1, 1)]),
    ("an end after the time-out comes too late", [play(1, 0), pause(300, ms_played=9)], [(1, "timeout", 0, 1, 1)]),
    ("an end just before the time-out counts", [play(1, 0), pause(299, ms_played=9)], [(1, "pause", 9, 1, 1)]),
    (
        "a next play long after, of which we hear at once, says nothing about the first",
        [9_000_000, play(1, 0), play(2, 400, track_id="b"), pause(401, track_id="b")],
        [(1, "timeout", 0, 1, 1), (2, "pause", 1_000, 2, 1)],
    ),
    ("a pause or skip of nothing is no play", [pause(1), skip(2)], []),
    (
        "likes and shares end nothing",
        [play(1, 0), event("l", "like", 3), event("s", "share", 4), pause(9)],
        [(1, "pause", 9_000, 1, 1)],
    ),
    (
        "a play after the pause, from there on, continues the listen",
        [play(1, 0, position_ms=0), pause(20, position_ms=20_000), play(2, 60, position_ms=20_000), pause(75)],
        [(1, "pause", 20_000, 1, 1), (2, "pause", 15_000, 1, 2)],
    ),
    (
        "a player may go back a little when it resumes",
        [play(1, 0), pause(20, position_ms=20_000), play(2, 60, position_ms=10_000), pause(75)],
        [(1, "pause", 20_000, 1, 1), (2, "pause", 15_000, 1, 2)],
    ),
    (
        "a play far before the pause is a new listen",
        [play(1, 0), pause(20, position_ms=20_000), play(2, 60, position_ms=9_999), pause(75)],
        [(1, "pause", 20_000, 1, 1), (2, "pause", 15_000, 2, 1)],
    ),
    (
        "a play after a pause of unknown position resumes from anywhere but the beginning",
        [play(1, 0), pause(20), play(2, 60, position_ms=1), pause(75)],
        [(1, "pause", 20_000, 1, 1), (2, "pause", 15_000, 1, 2)],
    ),
    (
        "from the beginning is a repeat",
        [play(1, 0), pause(20), play(2, 60, position_ms=0), pause(75)],
        [(1, "pause", 20_000, 1, 1), (2, "pause", 15_000, 2, 1)],
    ),
    (
        "histories tell no position: each row is a listen",
        [play(1, 0), pause(20, ms_played=20_000), play(2, 20), pause(40, ms_played=20_000)],
        [(1, "pause", 20_000, 1, 1), (2, "pause", 20_000, 2, 1)],
    ),
    (
        "another track after the pause is another listen",
        [play(1, 0), pause(20), play(2, 60, track_id="b", position_ms=20_000), pause(70, track_id="b")],
        [(1, "pause", 20_000, 1, 1), (2, "pause", 10_000, 2, 1)],
    ),
    (
        "a resumed listen that is resumed again has three stretches",
        [play(1, 0), pause(9), play(2, 20, position_ms=9), pause(29), play(3, 40, position_ms=9), skip(49)],
        [(1, "pause", 9_000, 1, 1), (2, "pause", 9_000, 1, 2), (3, "skip", 9_000, 1, 3)],
    ),
    (
        "a second pause changes nothing",
        [play(1, 0), pause(9, position_ms=9_000), pause(10), play(2, 20, position_ms=9_000), pause(29)],
        [(1, "pause", 9_000, 1, 1), (2, "pause", 9_000, 1, 2)],
    ),
    (
        "a skip out of the pause ends the listen",
        [play(1, 0), pause(9), skip(10), play(2, 20, position_ms=9_000), pause(29)],
        [(1, "pause", 9_000, 1, 1), (2, "pause", 9_000, 2, 1)],
    ),
    (
        "a pause that lasts past the time-out is no pause",
        [play(1, 0), pause(9), play(2, 309, position_ms=9_000), pause(310)],
        [(1, "pause", 9_000, 1, 1), (2, "pause", 1_000, 2, 1)],
    ),
    (
        "a seek ends the stretch and continues the listen, forward and back",
        [play(1, 0), play(2, 10, position_ms=90_000), play(3, 15, position_ms=5_000), skip(20)],
        [(1, "play", 10_000, 1, 1), (2, "play", 5_000, 1, 2), (3, "skip", 5_000, 1, 3)],
    ),
    (
        "two devices at once are heard apart",
        [play(1, 0, device="car"), play(2, 5, device="tv"), pause(10, device="car"), skip(12, device="tv")],
        [(1, "pause", 10_000, 1, 1), (2, "skip", 7_000, 2, 1)],
    ),
    (
        "two tenants with the same user are two listeners",
        [play(1, 0), play(2, 5, tenant="other"), pause(10)],
        [(1, "pause", 10_000, 1, 1)],
    ),
    (
        "an offline upload does not end what is heard now",
        [play(1, 1_000), play(2, 800, track_id="b"), pause(850, track_id="b"), pause(1_030)],
        [(1, "pause", 30_000, 1, 1), (2, "pause", 50_000, 2, 1)],
    ),
    (
        "an upload of several listens is reconstructed by itself",
        [play(1, 1_000), play(2, 800, track_id="b"), play(3, 850, track_id="c"), skip(855, track_id="c"), pause(1_030)],
        [(1, "pause", 30_000, 1, 1), (2, "play", 50_000, 2, 1), (3, "skip", 5_000, 3, 1)],
    ),
    (
        "an upload between a pause and its resume does not part them",
        [play(1, 1_000), pause(1_010), play(2, 800), skip(820), play(3, 1_020, position_ms=10_000), skip(1_025)],
        [(1, "pause", 10_000, 1, 1), (2, "skip", 20_000, 2, 1), (3, "skip", 5_000, 1, 2)],
    ),
    (
        "what is heard now comes in between an upload and its end",
        [play(0, 900), skip(901), play(2, 800, track_id="b"), play(1, 1_000), pause(850, track_id="b"), skip(1_001)],
        [(0, "skip", 1_000, 0, 1), (1, "skip", 1_000, 1, 1), (2, "pause", 50_000, 2, 1)],
    ),
    (
        "rows of a history that overlap keep their own ends",
        [
            play(1, 0),
            pause(200, ms_played=200_000),
            play(2, -1),
            pause(201, ms_played=9),
            play(3, 199.5),
            skip(260, ms_played=7),
        ],
        [(1, "pause", 200_000, 1, 1), (2, "pause", 9, 2, 1), (3, "skip", 7, 3, 1)],
    ),
]


def found(log: list[Event | int], how: list[Step] | None = None) -> list[dict[str, Any]]:
    return run(lambda segments: OpenPlays(TIMEOUT_MS, segments), log, how or [])


@pytest.mark.parametrize(("log", "rows"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_rule(log: list[Event | int], rows: list[tuple[Any, ...]]) -> None:
    """The rule holds: these events in, these plays out."""
    one_by_one = [Step(1, True, True, False)] * len(log)
    for how in ([], one_by_one):
        told = {
            (row["play_id"], row["ended_by"], row["ms_played"], row["listen_id"], row["stretch"])
            for row in found(log, how)
        }
        assert told == {(str(play_id), how_, ms, str(listen), nth) for play_id, how_, ms, listen, nth in rows}


# name, (played, paused at position) per stretch, duration, is_stream and is_scrobble per stretch
COUNTED = [
    ("30 s in one stretch", [30_000], 200_000, [True], [False]),
    ("just below 30 s", [29_999], 200_000, [False], [False]),
    ("30 s in two stretches count on the second", [20_000, 10_000], 200_000, [False, True], [False, False]),
    ("a listen counts once", [30_000, 30_000, 40_000], 200_000, [True, False, False], [False, False, True]),
    ("half of the track is a scrobble", [40_000], 80_000, [True], [True]),
    ("4 minutes are a scrobble", [200_000, 40_000, 240_000], None, [True, False, False], [False, True, False]),
    ("no scrobble of a jingle", [30_000], 30_000, [True], [False]),
]


@pytest.mark.parametrize(
    ("played", "duration", "streams", "scrobbles"), [c[1:] for c in COUNTED], ids=[c[0] for c in COUNTED]
)
def test_a_listen_counts_once(
    played: list[int], duration: int | None, streams: list[bool], scrobbles: list[bool]
) -> None:
    """Sums of is_stream and is_scrobble over rows are numbers of listens."""
    log: list[Event | int] = []
    for i, ms in enumerate(played):
        log.append(play(i, 10 * i, position_ms=i, duration_ms=duration))
        log.append(pause(10 * i + 5, ms_played=ms))
    rows = sorted(found(log), key=lambda row: row["stretch"])
    assert [row["is_stream"] for row in rows] == streams
    assert [row["is_scrobble"] for row in rows] == scrobbles


def test_rows_are_records_of_the_topic() -> None:
    """Every field of play.avsc is there, in its order, and can be written."""
    (row,) = found([play(1, 0, country="DE", device="tv", session_id="s", duration_ms=100_000), pause(50, device="tv")])
    assert list(row) == [field["name"] for field in schema("play")["fields"]]
    assert Codec("play").decode(Codec("play").encode(row))["play_id"] == "1"
    assert row == {
        **{"play_id": "1", "tenant": "default", "source": "replay", "user_id": "ann", "track_id": "a"},
        **{
            "platform": "custom",
            "country": "DE",
            "device": "tv",
            "session_id": "s",
            "started_at": 0,
            "ended_at": 50_000,
        },
        **{"ended_by": "pause", "ms_played": 50_000, "duration_ms": 100_000, "completion": 0.5, "is_stream": True},
        **{"is_scrobble": True, "listen_id": "1", "stretch": 1},
    }


def test_plays_of_the_release_before_can_be_read() -> None:
    """Records that stand in the topic from before the listens: the new fields are null."""
    (row,) = found([play(1, 0), pause(50)])
    before = history("play")[1]
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(before), row)
    value = Prefix.single_object(before).data + body.getvalue()
    assert Codec("play").columns([value]).frame.select("play_id", "ms_played", "listen_id", "stretch").rows() == [
        ("1", 50_000, None, None)
    ]


moves = st.builds(
    event,
    st.integers(0, 1 << 60),
    st.sampled_from(["play", "play", "pause", "skip", "like"]),
    st.integers(0, 1_000).map(lambda s: 1_000_000 + s),
    user_id=st.sampled_from(["ann", "ann", "bob"]),
    track_id=st.sampled_from(["a", "a", "b"]),
    device=st.sampled_from([None, None, "tv"]),
    position_ms=st.sampled_from([None, 0, 5_000, 60_000]),
    ms_played=st.sampled_from([None, 0, 20_000, 200_000, -5]),
    duration_ms=st.sampled_from([None, 0, 30_000, 180_000, -1]),
)
marks = st.integers(0, 1_500).map(lambda s: (1_000_000 + s) * 1000)
logs = st.lists(
    st.one_of(moves, moves, moves, marks), max_size=40, unique_by=lambda e: e if isinstance(e, int) else e["event_id"]
)


@given(logs, st.booleans(), steps)
@settings(max_examples=400, deadline=None)
def test_any_log_in_any_pieces_equals_the_batch_oracle(log: list[Any], in_order: bool, how: list[Step]) -> None:
    """Rows are a function of the log: not of batches, moments of folding, snapshots and restarts."""
    if in_order:
        log = sorted(log, key=lambda e: e if isinstance(e, int) else e["timestamp"])
    oracle = Plays(TIMEOUT_MS)
    clock = 0
    for told, clock in clocked(log):
        if told is not None:
            oracle.take(told, clock)
    rows = {row["play_id"]: row for row in found(log, how)}
    expected = oracle.finish(clock)
    assert {
        name: {key: row[key] for key in expected[name]} for name, row in rows.items() if name in expected
    } == expected
    assert rows.keys() == expected.keys()
