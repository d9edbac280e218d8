"""Windows and tables computed again from Kafka, or from events where Kafka has deleted them: the same bytes."""

from __future__ import annotations

import random
import signal
import time
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest
from confluent_kafka import TopicPartition

from crossfade.problem import ProblemError
from crossfade.rebuild import NOT_OF_KAFKA, TABLES, Outcome, moment, run
from schemas import topics
from schemas.kafka import admin
from schemas.settings import Settings
from sinks.ledger import balance, ends_of, lags, sink_topics
from sinks.ledger import counts as counted
from tests.pipeline import test_worker
from tests.pipeline.test_sink import own, sink
from tests.pipeline.test_worker import Feed, lag, wait_until, worker
from warehouse.runner import Bulk, reader

__all__ = ["own"]

EVENTS = 20_000
START, END = moment("2000-01-01"), datetime(2100, 1, 1, tzinfo=UTC)
RECEIVED_MS = int(time.time() * 1000)


def everything_is_loaded(settings: Settings, source: Bulk) -> bool:
    ends = ends_of(admin(settings), sink_topics())
    return not any(lags(counted(source).progress, ends).values()) and balance(settings, source).settled


def fill(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """What a rebuild finds beside the running sink, of a log with repetitions, late and broken records."""
    of_worker = test_worker.event

    def event(number: int, rnd: random.Random) -> dict[str, Any]:
        return {**of_worker(number, rnd), "received_at": RECEIVED_MS}

    monkeypatch.setattr(test_worker, "event", event)
    feed = Feed(settings)
    feed.send(range(EVENTS))
    feed.end(EVENTS + 200_000)  # past every time-out
    source = reader(settings)
    with sink(settings) as loading, worker(settings):
        wait_until(lambda: lag() == 0, "the worker's end")
        time.sleep(1.2)
        wait_until(lambda: lag() == 0, "the merge of the last windows")
        time.sleep(1.2)
        wait_until(lambda: settings.duckdb_file.exists() and everything_is_loaded(settings, source), "the sink's end")
        held = run(settings, START, END, write=True)
        loading.send_signal(signal.SIGTERM)
        loading.wait(10)
    return held


def test_a_rebuild_gives_the_same_bytes(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written where nothing differs; what was taken away, changed or doubled is mended, once."""
    first = fill(own, monkeypatch)
    assert first.same, first.as_dict()
    assert not first.written, "the sink holds the warehouse"
    assert all(first.tables[name].rows for name in TABLES), first.as_dict()

    with duckdb.connect(str(own.duckdb_file)) as file:
        file.execute("DELETE FROM window_metrics WHERE kafka_offset % 7 = 3")
        file.execute("UPDATE window_rollups SET events = events + 1 WHERE kafka_offset % 11 = 3")
        file.execute("INSERT INTO plays SELECT * FROM plays WHERE kafka_offset = 9")
        file.execute("DELETE FROM dead_letters WHERE kafka_offset = 2")
    damaged = run(own, START, END, write=False)
    assert not damaged.same
    assert not damaged.written
    assert damaged.tables["window_metrics"].missing
    assert damaged.tables["window_rollups"].different
    assert damaged.tables["plays"].unexplained
    assert damaged.tables["dead_letters"].missing == 1
    assert damaged.tables["sessions"].same
    mended = run(own, START, END, write=None)
    assert mended.written
    again = run(own, START, END, write=None)
    assert (again.same, again.written) == (True, False)
    assert run(own, START, END, write=True).written
    assert run(own, START, END, write=False).same
    assert {name: each.sha256 for name, each in again.tables.items()} == {
        name: each.sha256 for name, each in first.tables.items()
    }
    with duckdb.connect(str(own.duckdb_file), read_only=True) as file:
        (rebuilt,) = file.execute(
            "SELECT COUNT(*) FROM window_metrics WHERE kafka_offset = ?", [NOT_OF_KAFKA]
        ).fetchone()
        assert rebuilt == damaged.tables["window_metrics"].missing

    client, deleted = admin(own), []
    for partition in range(own.partitions):
        _, end = ends_of(client, [topics.EVENTS])[topics.EVENTS, partition]
        deleted.append(TopicPartition(topics.EVENTS, partition, end // 2))
    for done in client.delete_records(deleted).values():
        done.result(20)
    from_table = run(own, START, END, write=False)
    windows = ("window_metrics", "window_rollups", "plays", "sessions")
    assert [name for name in windows if not from_table.tables[name].same] == [], from_table.as_dict()


def test_a_range_is_checked() -> None:
    """Times that are none, or in the wrong order, are said plainly."""
    with pytest.raises(ProblemError, match="is no time"):
        moment("yesterday")
    with pytest.raises(ProblemError, match="before --to"):
        run(Settings(), END, START, write=False)
