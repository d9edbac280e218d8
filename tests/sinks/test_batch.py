"""Batches of any shape add up to what an oracle says that reads the topics record by record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import topics
from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY, Windows
from schemas.tables import TABLES, Table
from sinks.batch import DAY_MS, Batcher
from sinks.decode import Broken
from sinks.records import Record, Records
from sinks.seen import hashes
from sinks.target import Commit, Place, Progress, key_columns

CODECS = {t.topic: Codec(t.schema) for t in TABLES if t.topic is not None and t.schema is not None}
WINDOWS = Windows(window_ms=1000, grace_ms=500)
HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000
HORIZONS = {"events": 7}
PLACE = ["kafka_partition", "kafka_offset"]


def event(
    event_id: str, timestamp: int, tenant: str = "default", source: str = "replay", received_at: int = 0
) -> bytes:
    return CODECS[topics.EVENTS].encode(
        {
            "event_id": event_id,
            "event_type": "play",
            "user_id": "u",
            "track_id": "t",
            "timestamp": timestamp,
            "platform": "spotify",
            "tenant": tenant,
            "source": source,
            "received_at": received_at,
        }
    )


def letter(letter_id: str, topic: str | None = None, source: str = "replay", failed_at: int = 0) -> bytes:
    record = {"dead_letter_id": letter_id, "tenant": "default", "source": source, "stage": "producers", "topic": topic}
    rest = {"reason": "not_json", "detail": "", "payload": b"\xff", "failed_at": failed_at}
    return CODECS[topics.DEAD_LETTERS].encode(record | rest)


@dataclass
class Shelf:
    """A warehouse in memory that a Batcher can ask."""

    rows: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    ledger: list[pl.DataFrame] = field(default_factory=list)
    progress: dict[Place, Progress] = field(default_factory=dict)
    asked: int = 0

    def table(self, name: str) -> pl.DataFrame:
        found = self.rows.get(name, [])
        return pl.concat(found) if found else pl.DataFrame()

    def held(self, table: Table, keys: pl.DataFrame) -> pl.DataFrame:
        self.asked += 1
        mine = self.table(table.name)
        return keys.join(mine, on=key_columns(table), how="semi", nulls_equal=True) if mine.height else keys.clear()

    def commit(self, step: Commit) -> None:
        for name, rows in step.rows.items():
            self.rows.setdefault(name, []).append(rows)
        self.ledger.append(step.ledger)
        self.progress.update(step.progress)

    def sums(self) -> dict[tuple[str, str, int], tuple[int, ...]]:
        """Ledger entries summed by tenant, source and hour."""
        entries = pl.concat(self.ledger)
        assert entries["entry_id"].is_unique().all()
        names = ("accepted", "loaded", "dead_lettered", "deduplicated")
        hour = pl.col("hour").dt.epoch("ms") // HOUR_MS
        grouped = entries.group_by("tenant", "source", hour).agg(pl.col(*names).sum())
        rows = grouped.select("tenant", "source", "hour", *names).rows()
        return {row[:3]: row[3:] for row in rows if any(row[3:])}


def prepare(
    batcher: Batcher, taken: dict[Place, list[Record]], progress: dict[Place, Progress], now_ms: int
) -> tuple[Commit, list[Broken]]:
    for place, log in taken.items():
        batcher.take(Records.of(place, log))
    return batcher.prepare(progress, now_ms)


def restarted(shelf: Shelf) -> Batcher:
    """A batcher as the sink has it after a start."""
    batcher = Batcher(CODECS, WINDOWS, lambda _, keys: keys, HORIZONS)
    rows = shelf.table("events")
    if rows.height:
        batcher.seen["events"].add(hashes(rows, ["tenant", "event_id"]), NOW_MS // DAY_MS)
        ahead = [row[1] >= shelf.progress[topics.EVENTS, row[0]].next_offset for row in rows.select(PLACE).rows()]
        batcher.orphans = {"events": rows.select(PLACE).filter(pl.Series(ahead, dtype=pl.Boolean))}
    return batcher


def load(logs: dict[Place, list[Record]], cuts: list[int], cut_at: int = 0) -> Shelf:
    """Loads whole logs in batches of `cuts` records of every partition in turn; the step `cut_at` loses its end."""
    shelf = Shelf(progress={place: Progress(0, 0) for place in logs})
    batcher = Batcher(CODECS, WINDOWS, shelf.held, HORIZONS)
    turn = steps = 0
    read = dict.fromkeys(logs, 0)
    while True:
        taken = {}
        for place, log in logs.items():
            if records := log[read[place] :][: cuts[turn % len(cuts)]]:
                taken[place] = records
                read[place] += len(records)
            turn += 1
        if not taken and not batcher.waiting():
            return shelf
        step, _ = prepare(batcher, taken, shelf.progress, NOW_MS)
        steps += 1
        if steps == cut_at:
            for name, rows in step.rows.items():
                shelf.rows.setdefault(name, []).append(rows)
            batcher = restarted(shelf)
            read = {place: own.next_offset for place, own in shelf.progress.items()}
            continue
        shelf.commit(step)
        batcher.done(step, NOW_MS)


def oracle(logs: dict[Place, list[Record]]) -> dict[str, Any]:
    """The same, record by record, from the rules alone; duplicates are judged by id, whichever copy stays."""
    late: dict[tuple[int, int], bool] = {}
    ids: set[tuple[str, str]] = set()
    sums: dict[tuple[str, str, int], list[int]] = {}
    clocks: dict[Place, int] = {}
    broken = controls = 0

    def count(tenant: str, source: str, time_ms: int, index: int) -> None:
        sums.setdefault((tenant, source, time_ms // HOUR_MS), [0, 0, 0, 0])[index] += 1

    for place, log in logs.items():
        clock = 0
        for record in log:
            if record.value is None:
                clock = max(clock, record.timestamp_ms)
                controls += 1
            elif record.value == b"broken":
                broken += 1
                count("unknown", "unknown", record.timestamp_ms, 0)
            else:
                row = CODECS[topics.EVENTS].decode(record.value)
                time_ms = round(row["timestamp"].timestamp() * 1000)
                received = round(row["received_at"].timestamp() * 1000)
                closed = (clock - WINDOWS.grace_ms) // WINDOWS.window_ms * WINDOWS.window_ms
                late[place[1], record.offset] = time_ms < closed
                clock = max(clock, min(time_ms, record.timestamp_ms))
                key = (row["tenant"], row["event_id"])
                count(row["tenant"], row["source"], received, 0)
                count(row["tenant"], row["source"], received, 3 if key in ids else 1)
                ids.add(key)
        clocks[place] = clock
    return {"late": late, "ids": ids, "sums": sums, "clocks": clocks, "broken": broken, "controls": controls}


# an id belongs to one hour and source, as a client's repetition does: which copy stays does not matter then
VALUES = st.one_of(
    st.tuples(st.integers(0, 15), st.integers(0, 6000), st.sampled_from(["a", "b"])).map(
        lambda t: Record(0, 0, b"u", event(f"{t[0]}", t[1], tenant=t[2], received_at=t[0] % 3 * HOUR_MS))
    ),
    st.integers(0, 6000).map(lambda time_ms: Record(0, time_ms, WATERMARK_KEY, None)),
    st.just(Record(0, 5, b"u", b"broken")),
)
LOGS = st.lists(st.lists(VALUES, max_size=40), min_size=1, max_size=3).map(
    lambda logs: {
        (topics.EVENTS, partition): [
            record._replace(offset=offset, timestamp_ms=record.timestamp_ms if record.value is None else 200 * offset)
            for offset, record in enumerate(log)
        ]
        for partition, log in enumerate(logs)
    }
)


@settings(max_examples=60, deadline=None)
@given(LOGS, st.lists(st.integers(1, 12), min_size=1, max_size=6), st.sampled_from([2, 5, 1000]))
def test_like_the_oracle(logs: dict[Place, list[Record]], cuts: list[int], group_rows: int) -> None:
    """Duplicates, late rows, broken and control records come out alike, wherever batches and steps are cut."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sinks.batch.GROUP_ROWS", group_rows)
        shelf, right = load(logs, cuts), oracle(logs)
    if group_rows < 1000:
        sizes = [rows.height for rows in shelf.rows.get("events", [])]
        assert all(size < group_rows or size % group_rows == 0 for size in sizes)
    rows = shelf.table("events")
    keys = list(zip(rows["tenant"], rows["event_id"], strict=True)) if rows.height else []
    assert len(keys) == len(set(keys))
    assert set(keys) == right["ids"]
    for row in rows.iter_rows(named=True):
        assert row["is_late"] == right["late"][row["kafka_partition"], row["kafka_offset"]]
    assert {place: own.clock_ms for place, own in shelf.progress.items()} == right["clocks"]
    assert sum(own.broken for own in shelf.progress.values()) == right["broken"]
    assert sum(own.controls for own in shelf.progress.values()) == right["controls"]
    if shelf.ledger:
        sums = {key: tuple(value) for key, value in right["sums"].items()}
        assert {key: (a, n, d, x) for key, (a, n, d, x) in shelf.sums().items()} == {
            key: (accepted, loaded, dead, twice) for key, (accepted, loaded, dead, twice) in sums.items()
        }


@settings(max_examples=40, deadline=None)
@given(LOGS, st.lists(st.integers(1, 12), min_size=2, max_size=6), st.integers(1, 5))
def test_rows_of_a_cut_step_are_counted_and_not_written_again(
    logs: dict[Place, list[Record]], cuts: list[int], cut_at: int
) -> None:
    """A warehouse that took the rows of a step but not its progress ends alike, with other batch borders after it."""
    cut = load(logs, cuts, cut_at)
    whole = load(logs, [100])
    rows = cut.table("events")
    if rows.height:
        keys = ["tenant", "event_id"]
        assert rows.select(keys).is_unique().all()
        assert set(rows.select(keys).rows()) == set(whole.table("events").select(keys).rows())
    assert cut.progress == whole.progress
    assert (cut.sums() if cut.ledger else {}) == (whole.sums() if whole.ledger else {})


def records(*values: bytes | None) -> list[Record]:
    return [Record(offset, 0, b"k", value) for offset, value in enumerate(values)]


def test_dead_letters_in_the_ledger() -> None:
    """A door's letter is accepted each time it is sent, one about an event completes that, others are no part."""
    door, about, other = letter("d"), letter("listening-events/0/7", topics.EVENTS), letter("plays/0/0", topics.PLAYS)
    shelf = load({(topics.DEAD_LETTERS, 0): records(door, about, other, door, about, other)}, [2])
    assert shelf.table("dead_letters").height == 3
    assert shelf.sums() == {("default", "replay", 0): (2, 0, 2, 1)}


def test_a_changed_track_is_a_new_row() -> None:
    """The same content of a track is kept once, a change beside it; nulls are equal."""

    def track(name: str | None, seen: int) -> bytes:
        return CODECS[topics.TRACK_CATALOGUE].encode(
            {"track_id": "t", "tenant": "a", "track_name": name, "first_seen_at": seen}
        )

    log = records(track(None, 1), track("x", 2), track(None, 3), track("x", 4), None)
    shelf = load({(topics.TRACK_CATALOGUE, 0): log}, [1])
    assert shelf.table("tracks")["track_name"].to_list() == [None, "x"]
    assert shelf.progress[topics.TRACK_CATALOGUE, 0] == Progress(0, 5, controls=1)


def test_a_broken_record_of_another_topic_is_reported() -> None:
    """What cannot be read is handed back with its place, for its dead letter, and is no row."""
    batcher = Batcher(CODECS, WINDOWS, Shelf().held, HORIZONS)
    step, broken = prepare(
        batcher, {(topics.PLAYS, 0): records(b"nonsense")}, {(topics.PLAYS, 0): Progress(0, 0)}, NOW_MS
    )
    assert [(bad.place, bad.record.value, bad.error.reason) for bad in broken] == [
        ((topics.PLAYS, 0), b"nonsense", "unknown_schema")
    ]
    assert step.rows["plays"].height == step.ledger.height == 0
    assert step.progress[topics.PLAYS, 0] == Progress(0, 1, broken=1)


def test_a_time_that_no_warehouse_holds_does_not_stop_the_sink() -> None:
    """The record is broken, as it is for the worker, who writes its dead letter."""
    batcher = Batcher(CODECS, WINDOWS, Shelf().held, HORIZONS)
    start = {(topics.EVENTS, 0): Progress(0, 0)}
    taken = {(topics.EVENTS, 0): records(event("1", 5), event("2", -(10**15)))}
    step, broken = prepare(batcher, taken, start, NOW_MS)
    assert step.rows["events"]["event_id"].to_list() == ["1"]
    assert [(bad.record.offset, bad.error.reason, bad.is_letter_of_worker) for bad in broken] == [
        (1, "broken_record", True)
    ]
    assert step.progress[topics.EVENTS, 0].broken == 1


def test_an_event_far_ahead_of_its_arrival_is_quarantined() -> None:
    """It is no row, does not move the clock, and waits for the worker's letter under its own tenant and source."""
    batcher = Batcher(CODECS, WINDOWS, Shelf().held, HORIZONS)
    log = records(event("1", 5), event("2", HOUR_MS + 1, tenant="a"), event("3", HOUR_MS))
    step, broken = prepare(batcher, {(topics.EVENTS, 0): log}, {(topics.EVENTS, 0): Progress(0, 0)}, NOW_MS)
    assert step.rows["events"]["event_id"].to_list() == ["1", "3"]
    assert [(bad.record.offset, bad.error.reason, bad.is_letter_of_worker) for bad in broken] == [(1, "clock", True)]
    assert step.progress[topics.EVENTS, 0] == Progress(0, 3, broken=1, clock_ms=0)  # nothing arrived after 0
    entries = step.ledger.select("tenant", "source", "accepted", "loaded").rows()
    assert sorted(entries) == [("a", "replay", 1, 0), ("default", "replay", 2, 2)]


def test_an_import_is_known_for_ever_and_anything_else_for_a_week() -> None:
    """The same ids again after 40 days: a history's are duplicates, a client's are new."""
    shelf = Shelf(progress={(topics.EVENTS, 0): Progress(0, 0)})
    batcher = Batcher(CODECS, WINDOWS, shelf.held, HORIZONS)
    values = [event("old", 5, source="import"), event("new", 5, source="collector")]
    for first, now_ms in ((0, NOW_MS), (2, NOW_MS + 40 * DAY_MS), (4, NOW_MS + 80 * DAY_MS)):
        batcher.done(Commit({}, pl.DataFrame(), {}), now_ms)  # a step without events: weeks have gone by
        log = [Record(first + i, 9_000, b"u", value) for i, value in enumerate(values)]
        step, _ = prepare(batcher, {(topics.EVENTS, 0): log}, shelf.progress, now_ms)
        shelf.commit(step)
        batcher.done(step, now_ms)
    assert sorted(shelf.table("events")["event_id"].to_list()) == ["new", "new", "new", "old"]


def test_a_collision_of_hashes_loses_nothing() -> None:
    """When the set claims to know a new id, the warehouse decides, and it is asked only then."""
    shelf = Shelf(progress={(topics.EVENTS, 0): Progress(0, 0)})
    batcher = Batcher(CODECS, WINDOWS, shelf.held, HORIZONS)
    taken = {(topics.EVENTS, 0): records(event("new", 1))}
    prepare(batcher, taken, shelf.progress, NOW_MS)
    assert shelf.asked == 0
    batcher.seen["events"].contains = lambda asked: np.ones(len(asked), np.bool_)  # type: ignore[method-assign]
    step, _ = prepare(batcher, taken, shelf.progress, NOW_MS)
    assert (step.rows["events"].height, shelf.asked) == (1, 1)
