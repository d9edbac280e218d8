"""Sessions: each rule as a row of a table, and any log in any pieces against the batch oracle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.oracle import Sessions, clocked
from schemas.codec import Codec, schema
from stream_processors import distinct, open_rows, row_table
from stream_processors.distinct import PAIR, DistinctItems, Pairs
from stream_processors.sessions import OpenSessions
from tests.stream_processors.folding import Event, Step, event, run, steps

GAP_MS = 300_000
LATER = 10_000_000  # a watermark record: stream time passes every gap


@pytest.fixture(autouse=True, scope="module")
def _compacted_often() -> Iterator[None]:
    """Closed rows and unused texts are forgotten at once, as they are in a state with many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_table, "_COMPACT_ROWS", 4)
        patch.setattr(open_rows, "_RECENT_ROWS", 8)
        yield


def play(number: int | str, second: float, **others: Any) -> Event:
    return event(number, "play", second, **others)


def skip(number: int | str, second: float, **others: Any) -> Event:
    return event(number, "skip", second, **others)


# name, events, rows: (session_key, started_at in s, ended_at in s, ended_by, events, tracks)
RULES: list[tuple[str, list[Event | int], list[tuple[Any, ...]]]] = [
    ("one event is a session", [play(1, 0), LATER], [(1, 0, 0, "gap", 1, 1)]),
    ("a session is open while the gap lasts", [play(1, 0), 300_000], []),
    ("stream time that passes the gap ends it", [play(1, 0), 300_001], [(1, 0, 0, "gap", 1, 1)]),
    ("a gap that is just not too long", [play(1, 0), skip(2, 300), LATER], [(1, 0, 300, "gap", 2, 1)]),
    (
        "a gap that is too long begins the next",
        [play(1, 0), skip(2, 300.001), LATER],
        [(1, 0, 0, "gap", 1, 1), (2, 300.001, 300.001, "gap", 1, 1)],
    ),
    (
        "all devices of a listener are one session",
        [play(1, 0, device="car"), play(2, 5, device="tv", track_id="b"), LATER],
        [(1, 0, 5, "gap", 2, 2)],
    ),
    (
        "two tenants with the same user are two listeners",
        [play(1, 0), play(2, 5, tenant="other"), LATER],
        [(1, 0, 0, "gap", 1, 1), (2, 5, 5, "gap", 1, 1)],
    ),
    (
        "a little disorder stays within the session and may move its beginning",
        [play(1, 100), skip(2, 40), play(3, 390), LATER],
        [(1, 40, 390, "gap", 3, 1)],
    ),
    (
        "the gap is measured from the latest event, not from the last that came",
        [play(1, 0), play(2, 290), skip(3, 10), play(4, 580), LATER],
        [(1, 0, 580, "gap", 4, 1)],
    ),
    (
        "an offline upload is a session beside the one that goes on",
        [play(1, 1_000), play(2, 100, track_id="b"), skip(3, 120, track_id="b"), skip(4, 1_100), LATER],
        [(1, 1_000, 1_100, "gap", 2, 1), (2, 100, 120, "gap", 2, 1)],
    ),
    (
        "two old sessions in one upload are two",
        [play(1, 2_000), play(2, 100), skip(3, 900), LATER],
        [(1, 2_000, 2_000, "gap", 1, 1), (2, 100, 100, "gap", 1, 1), (3, 900, 900, "gap", 1, 1)],
    ),
    (
        "a history that comes long after makes the same sessions",
        [9_000_000, play(1, 0), skip(2, 100), play(3, 500), skip(4, 600), LATER],
        [(1, 0, 100, "gap", 2, 1), (3, 500, 600, "gap", 2, 1)],
    ),
    (
        "a session with the most events ends by size",
        [*[play(i, i, track_id=f"t{i % 3}") for i in range(12)], LATER],
        [(0, 0, 4, "size", 5, 3), (5, 5, 9, "size", 5, 3), (10, 10, 11, "gap", 2, 2)],
    ),
    (
        "tracks are counted once, in whatever order they come back",
        [*[play(i, i, track_id=track) for i, track in enumerate("abab")], LATER],
        [(0, 0, 3, "gap", 4, 2)],
    ),
]


def found(log: list[Event | int], how: list[Step] | None = None) -> list[dict[str, Any]]:
    return run(lambda segments: OpenSessions(GAP_MS, segments, events_max=5), log, how or [])


@pytest.mark.parametrize(("log", "rows"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_rule(log: list[Event | int], rows: list[tuple[Any, ...]]) -> None:
    """The rule holds: these events in, these sessions out."""
    one_by_one = [Step(1, True, True, False)] * len(log)
    names = ("session_key", "started_at", "ended_at", "ended_by", "events", "tracks")
    expected = {(str(key), int(a * 1000), int(b * 1000), *others) for key, a, b, *others in rows}
    for how in ([], one_by_one):
        assert {tuple(row[name] for name in names) for row in found(log, how)} == expected


@pytest.mark.parametrize("back", [0, 3_000], ids=["summed", "in order"])
def test_many_events_of_a_kind_are_counted(back: float) -> None:
    """No number of shares in one fold runs over, in sums and where the order is looked at."""
    log: list[Event | int] = [event(f"s{i}", "share", 4_000 + i) for i in range(40)]
    others = [play("old", 4_000 - back)] if back else []
    rows = run(lambda segments: OpenSessions(GAP_MS, segments), [*log, *others, LATER], [])
    assert {(row["events"], row["shares"], row["plays"]) for row in rows} == {(40, 40, 0), *[(1, 0, 1)][: len(others)]}


def test_rows_are_records_of_the_topic() -> None:
    """Every field of session.avsc is there, in its order, and can be written."""
    told = {"platform": "tv-app", "country": "DE"}
    events = [
        play(1, 0, device="tv", **told),
        event(2, "like", 10, device="tv", country="FR"),
        skip(3, 20, ms_played=20_000, device="car"),
        event(4, "share", 30),
        LATER,
    ]
    (row,) = found(events)
    assert list(row) == [field["name"] for field in schema("session")["fields"]]
    assert Codec("session").decode(Codec("session").encode(row))["session_key"] == "1"
    assert row == {
        **{"session_key": "1", "tenant": "default", "source": "replay", "user_id": "ann", **told, "devices": 2},
        **{"started_at": 0, "ended_at": 30_000, "ended_by": "gap", "events": 4, "plays": 1, "skips": 1},
        **{"likes": 1, "shares": 1, "tracks": 1, "ms_played": 20_000},
    }


events = st.builds(
    event,
    st.integers(0, 1 << 60),
    st.sampled_from(["play", "pause", "skip", "like", "share"]),
    st.integers(0, 2_000).map(lambda s: 1_000_000 + s),
    user_id=st.sampled_from(["ann", "ann", "bob"]),
    track_id=st.sampled_from(["a", "a", "b", "c"]),
    device=st.sampled_from([None, "car", "tv"]),
    ms_played=st.sampled_from([None, 0, 20_000, -5]),
)
marks = st.integers(0, 2_500).map(lambda s: (1_000_000 + s) * 1000)
logs = st.lists(
    st.one_of(events, events, events, marks),
    max_size=40,
    unique_by=lambda e: e if isinstance(e, int) else e["event_id"],
)


@given(logs, st.booleans(), steps)
@settings(max_examples=400, deadline=None)
def test_any_log_in_any_pieces_equals_the_batch_oracle(log: list[Any], in_order: bool, how: list[Step]) -> None:
    """Rows are a function of the log: not of batches, moments of folding, snapshots and restarts."""
    if in_order:
        log = sorted(log, key=lambda e: e if isinstance(e, int) else e["timestamp"])
    oracle = Sessions(GAP_MS, 5)
    clock = 0
    for told, clock in clocked(log):
        if told is not None:
            oracle.take(told, clock)
    assert {row["session_key"]: row for row in found(log, how)} == oracle.finish(clock)


def pairs_of(pairs: list[tuple[int, int]]) -> Pairs:
    return np.array(pairs, PAIR)


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9))), max_size=8), st.booleans())
@settings(deadline=None)
def test_distinct_items_are_counted_as_sets_count_them(calls: list[list[tuple[int, int]]], restart: bool) -> None:
    """Each item of an owner counts once in its sort, over calls and restarts; others' items do not count."""
    items, known = DistinctItems(), set()
    for call in calls:
        items.put(pairs_of(call))
        known |= set(call)
        assert items.last_owner == max((owner for owner, _ in known), default=0)
        if restart:
            items = DistinctItems({name: segment.data() for name, segment in items.segments().items()})
    for owners in ([], [2], [4, 1, 7]):
        found = items.counts(np.array(owners, np.uint32), sum(map(len, calls)))
        expected = [[len({i for o, i in known if o == owner and i % 2 == sort}) for sort in (0, 1)] for owner in owners]
        assert found.tolist() == expected


def kept_pairs(items: DistinctItems) -> int:
    return sum(len(segment.data()) // PAIR.itemsize for segment in items.segments().values())


def test_pairs_of_closed_owners_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept follows what is open: closed owners leave once they are the half, open ones stay known."""
    monkeypatch.setattr(distinct, "_FORGET_MIN", 100)
    items = DistinctItems()
    for owner in (1, 2):
        items.put(pairs_of([(owner, 2 * item) for item in range(5_000)]))
    items.forget(5_000, lambda: np.array([2], np.uint32))
    assert kept_pairs(items) == 10_000
    items.forget(1, lambda: np.array([2], np.uint32))
    assert kept_pairs(items) == 5_000
    assert items.counts(np.array([1, 2], np.uint32), 10_000).tolist() == [[0, 0], [5_000, 0]]


@pytest.mark.parametrize("kind", ["play", "skip", "like", "share", "pause"])
@pytest.mark.parametrize("count", [13, 9_999])
def test_many_events_of_one_kind_are_counted_one_by_one(kind: str, count: int) -> None:
    """As many of a kind as a session may have, all in one fold: the count of that kind is theirs, the others are 0."""
    sent = [event(number, kind, number / 100) for number in range(count)]
    (row,) = run(lambda segments: OpenSessions(GAP_MS, segments), [*sent, LATER], [])
    columns = {"play": "plays", "skip": "skips", "like": "likes", "share": "shares"}
    expected = {column: count if columns.get(kind) == column else 0 for column in columns.values()}
    assert {"events": count, **expected} == {name: row[name] for name in ("events", *expected)}
