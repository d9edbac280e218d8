"""The DuckDB target commits a step as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from schemas import topics
from schemas.settings import Settings
from schemas.tables import table
from sinks.batch import Batcher
from sinks.duckdb_target import DuckDbTarget
from sinks.ledger import counts
from sinks.loading import start_of
from sinks.records import Record, Records
from sinks.target import Commit, Progress, SinkError, WarehouseAwayError
from tests.sinks.test_batch import CODECS, HORIZONS, NOW_MS, WINDOWS, event

PLACE = (topics.EVENTS, 0)


@pytest.fixture
def target(settings: Settings) -> Iterator[DuckDbTarget]:
    opened = DuckDbTarget(settings)
    yield opened
    opened.close()


def step(target: DuckDbTarget, *values: bytes) -> Commit:
    batcher = Batcher(CODECS, WINDOWS, target.held, HORIZONS)
    batcher.take(Records.of(PLACE, [Record(offset, 9_000, b"u", value) for offset, value in enumerate(values)]))
    return batcher.prepare({PLACE: Progress(0, 0)}, NOW_MS)[0]


def test_rows_ledger_and_offsets_are_one_transaction(target: DuckDbTarget) -> None:
    """After a step its rows, ledger entries and progress are there; after one that fails, nothing of it is."""
    good = step(target, event("1", 5, received_at=1000), event("1", 5, received_at=1000), event("2", 6))
    target.commit(good)
    found = counts(target.reader)
    assert (found.loaded, found.deduplicated) == (2, 1)
    assert found.progress == target.progress() == {PLACE: Progress(0, 3, clock_ms=6)}
    wrong = Commit({"events": good.rows["events"].with_columns(event_id=pl.lit(None, pl.String))}, good.ledger, {})
    with pytest.raises(SinkError, match="did not take a batch"):
        target.commit(wrong)
    assert counts(target.reader) == found


def test_keys_and_held(target: DuckDbTarget) -> None:
    """Keys come back for the set of known ids, those of events from a day on; held says which ids exist."""
    old, new = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 9, tzinfo=UTC)
    values = [event(str(i), 5, received_at=int(at.timestamp() * 1000)) for i, at in enumerate((old, new))]
    target.commit(step(target, *values))
    events = table("events")
    assert pl.concat(target.keys(events, None, {}))["event_id"].to_list() == ["0", "1"]
    assert pl.concat(target.keys(events, None, {0: 1, 1: 9}))["event_id"].to_list() == ["1"]
    recent = pl.concat(target.keys(events, new, {}))
    assert (recent["event_id"].to_list(), recent["received_at"].to_list()) == (["1"], [new])
    target.commit(step(target, event("2", 5, source="import", received_at=int(old.timestamp() * 1000))))
    recent = pl.concat(target.keys(events, new, {}))
    assert set(recent.select("event_id", "source").rows()) == {("1", "replay"), ("2", "import")}
    keys = [("default", "1", 5), ("other", "1", 5), ("default", "7", 5), ("default", "0", 99)]
    time = pl.col("timestamp").cast(pl.Datetime("ms", "UTC"))
    asked = pl.DataFrame(keys, ["tenant", "event_id", "timestamp"], orient="row").with_columns(time)
    assert target.held(events, asked)["event_id"].to_list() == ["1", "0"]  # the time is a hint only


def test_a_later_start_goes_on(settings: Settings, target: DuckDbTarget) -> None:
    """Progress and rows outlive the process; the token of the server is new."""
    target.commit(step(target, event("1", 5)))
    token = settings.quack_token_file.read_text()
    target.close()
    again = DuckDbTarget(settings)
    assert again.progress() == {PLACE: Progress(0, 1, clock_ms=5)}
    assert settings.quack_token_file.read_text() != token
    again.close()


def test_a_taken_port_is_said_plainly(settings: Settings, target: DuckDbTarget, tmp_path: Path) -> None:
    """Another server on the port gives a message that says what to do."""
    with pytest.raises(SinkError, match="CROSSFADE_QUACK_PORT"):
        DuckDbTarget(settings.model_copy(update={"data_dir": tmp_path / "other"}))


def test_a_file_that_is_no_warehouse_is_said_plainly(settings: Settings) -> None:
    """A broken file gives a message, not a traceback."""
    settings.duckdb_file.parent.mkdir(parents=True)
    settings.duckdb_file.write_bytes(b"x" * 5000)
    with pytest.raises(SinkError, match="cannot be opened"):
        DuckDbTarget(settings)


def test_a_locked_file_is_something_to_wait_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that holds the file is no reason to give up."""

    def locked(*_: object, **__: object) -> None:
        raise duckdb.IOException("IO Error: Could not set lock on file: Conflicting lock is held")

    monkeypatch.setattr("sinks.duckdb_target.open_file", locked)
    with pytest.raises(WarehouseAwayError, match="Another process holds"):
        DuckDbTarget(settings)


def test_where_a_partition_starts() -> None:
    """At the stored offset; at the earliest kept at first; past a gap, which is counted; never in another Kafka."""
    assert start_of(PLACE, None, 5, 9) == Progress(5, 5)
    assert start_of(PLACE, Progress(0, 7, broken=1), 5, 9) == Progress(0, 7, broken=1)
    assert start_of(PLACE, Progress(0, 2, expired=1), 5, 9) == Progress(0, 5, expired=4)
    with pytest.raises(SinkError, match="another Kafka"):
        start_of(PLACE, Progress(0, 10), 5, 9)


def test_empty_lists_are_loaded_without_a_word(target: DuckDbTarget, capfd: pytest.CaptureFixture[str]) -> None:
    """Insights of which none names a similar track, one of them repeated: Arrow has nothing to complain about."""
    codec = CODECS[topics.TRACK_INSIGHTS]
    insight = {
        "question_hash": "x",
        "track_id": "t",
        "tenant": "default",
        "mood_analysis": {"label": "calm", "valence": 0.5, "energy": 0.5},
        "genre_prediction": {"label": "jazz", "confidence": 0.5},
        "listening_context": "focus",
        "similar_tracks": [],
        "engagement_score": 0.5,
        "provenance": "rules",
        "model": "rules-1",
        "generated_at": NOW_MS,
    }
    batcher = Batcher(CODECS, WINDOWS, target.held, HORIZONS)
    place = (topics.TRACK_INSIGHTS, 0)
    values = [codec.encode({**insight, "insight_id": f"t/{name}"}) for name in "abac"]
    batcher.take(Records.of(place, [Record(at, 9_000, b"t", value) for at, value in enumerate(values)]))
    target.commit(batcher.prepare({place: Progress(0, 0)}, NOW_MS)[0])
    assert target.reader.query("SELECT similar_tracks FROM track_insights").rows == [{"similar_tracks": []}] * 3
    assert capfd.readouterr().err == ""
