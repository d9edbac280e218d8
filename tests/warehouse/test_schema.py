"""Tables and views are what schemas.tables and views/*.sql say."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlglot

from schemas.tables import TABLES, table
from tests.warehouse.conftest import Shelf
from warehouse import schema

MOOD = {"label": "calm", "valence": 0.5, "energy": 0.25}
GENRE = {"label": "jazz", "confidence": 0.5}


def at(minute: int) -> datetime:
    return datetime(2026, 1, 1, 0, minute, tzinfo=UTC)


def test_ddl_says_partition_cluster_and_descriptions() -> None:
    """BigQuery's DDL carries day partitions, clustering, NOT NULL and the descriptions of the Avro files."""
    ddl = schema.create_table(table("events"))
    assert "PARTITION BY TIMESTAMP_TRUNC(`timestamp`, DAY)" in ddl
    assert "CLUSTER BY `tenant`, `platform`, `event_type`" in ddl
    assert '`event_type` STRING NOT NULL OPTIONS(description="What happened.")' in ddl
    assert "`mood_analysis` STRUCT<label STRING, valence FLOAT64, energy FLOAT64> NOT NULL" in schema.create_table(
        table("track_insights")
    )
    for each in (*TABLES, schema.PROGRESS):
        sqlglot.parse_one(schema.create_table(each), read="bigquery")


def test_apply_twice_keeps_rows_and_adds_columns(shelf: Shelf) -> None:
    """Applying again changes nothing; a table that lacks a column gets it as a nullable one."""
    shelf.put("plays", play_id="p")
    shelf.connection.execute("ALTER TABLE plays DROP COLUMN completion")
    schema.apply_duckdb(shelf.connection, shelf.settings.dataset)
    schema.apply_duckdb(shelf.connection, shelf.settings.dataset)
    assert shelf.ask("SELECT play_id, completion FROM plays") == [{"play_id": "p", "completion": None}]


def test_a_column_that_is_no_longer_required_takes_null(shelf: Shelf) -> None:
    """A warehouse of an older release, where every event had a user, takes events of private sessions."""
    shelf.put("events", event_id="old", user_id="ann")
    shelf.connection.execute("ALTER TABLE events ALTER COLUMN user_id SET NOT NULL")
    schema.apply_duckdb(shelf.connection, shelf.settings.dataset)
    shelf.put("events", event_id="private", user_id=None)
    assert shelf.ask("SELECT event_id, user_id FROM events ORDER BY event_id") == [
        {"event_id": "old", "user_id": "ann"},
        {"event_id": "private", "user_id": None},
    ]


def test_enriched_events_takes_the_latest_insight(shelf: Shelf) -> None:
    """Each event once, with the newest insight of its tenant's track; NULL where there is none."""
    for event_id, tenant, track in (("1", "a", "t"), ("2", "b", "t"), ("3", "a", "u")):
        shelf.put("events", event_id=event_id, tenant=tenant, track_id=track)
    for minute, context in ((1, "sleep"), (3, "focus"), (2, "party")):
        shelf.put(
            "track_insights",
            tenant="a",
            track_id="t",
            insight_id=context,
            mood_analysis=MOOD,
            genre_prediction=GENRE,
            listening_context=context,
            similar_tracks=["x", "y"],
            engagement_score=0.75,
            generated_at=at(minute),
        )
    rows = shelf.ask("SELECT event_id, enrichments FROM enriched_events ORDER BY event_id")
    assert rows[0]["enrichments"] == {
        "mood_analysis": MOOD,
        "genre_prediction": GENRE,
        "listening_context": "focus",
        "similar_tracks": ["x", "y"],
        "engagement_score": 0.75,
    }
    assert [row["enrichments"] for row in rows[1:]] == [None, None]
    assert shelf.ask("SELECT enrichments.mood_analysis.label FROM enriched_events WHERE event_id = '1'") == [
        {"label": "calm"}
    ]


def test_current_tracks_takes_the_last_that_was_told(shelf: Shelf) -> None:
    """The newest record of a track wins, by its place in the topic."""
    for offset, name in ((1, "old"), (2, "new")):
        shelf.put("tracks", tenant="a", track_id="t", track_name=name, kafka_offset=offset)
    assert shelf.ask("SELECT track_name FROM current_tracks") == [{"track_name": "new"}]


def test_alerts_has_one_row_per_alert(shelf: Shelf) -> None:
    """An alert shows its newest status, and when it was raised and resolved."""
    shelf.put("anomaly_alerts", alert_id="x", status="raised", at=at(1))
    shelf.put("anomaly_alerts", alert_id="x", status="resolved", at=at(5))
    shelf.put("anomaly_alerts", alert_id="y", status="raised", at=at(2))
    assert shelf.ask("SELECT alert_id, status, raised_at, resolved_at FROM alerts ORDER BY alert_id") == [
        {"alert_id": "x", "status": "resolved", "raised_at": at(1), "resolved_at": at(5)},
        {"alert_id": "y", "status": "raised", "raised_at": at(2), "resolved_at": None},
    ]


def test_ledger_balance_adds_up(shelf: Shelf) -> None:
    """The view sums the batches of an hour and shows what is missing."""
    shelf.put("ledger", entry_id="1", source="replay", accepted=5, loaded=3, dead_lettered=1)
    shelf.put("ledger", entry_id="2", source="replay", accepted=2, deduplicated=2)
    assert shelf.ask("SELECT accepted, loaded, dead_lettered, deduplicated, difference FROM ledger_balance") == [
        {"accepted": 7, "loaded": 3, "dead_lettered": 1, "deduplicated": 2, "difference": 1}
    ]


def test_ledger_hours_recounts_the_rows(shelf: Shelf) -> None:
    """A row that is gone shows in its hour and way in; what waits for its letter is in flight, with age."""
    entry = {"tenant": "a", "source": "replay", "hour": at(0), "committed_at": at(5)}
    shelf.put("ledger", **entry, entry_id="listening-events/0/0", accepted=4, loaded=2, deduplicated=1)
    shelf.put("ledger", **entry, entry_id="dead-letters/0/0", accepted=1, dead_lettered=1)
    shelf.put("events", event_id="1", tenant="a", source="replay", received_at=at(3))
    shelf.put("dead_letters", dead_letter_id="d", tenant="a", source="replay", failed_at=at(4))
    shelf.put("dead_letters", dead_letter_id="p", tenant="a", source="replay", failed_at=at(4), topic="plays")
    (row,) = shelf.ask("SELECT * FROM ledger_hours")
    assert (row["hour"], row["tenant"], row["source"], row["in_flight_since"]) == (at(0), "a", "replay", at(5))
    figures = ("accepted", "loaded", "dead_lettered", "deduplicated", "in_flight", "difference")
    assert [row[name] for name in figures] == [5, 1, 1, 1, 1, 1]
    assert row["age_s"] > 0
