"""The one list of warehouse tables: columns come from the Avro files, plus what the sink adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas import topics
from schemas.codec import schema


@dataclass(frozen=True)
class Column:
    """A column in BigQuery's terms."""

    name: str
    type: str
    required: bool
    doc: str


@dataclass(frozen=True)
class Table:
    """One table. Rows of `topic` are kept once per (tenant, `id`)."""

    name: str
    topic: str | None
    schema: str | None
    id: str
    time: str
    cluster: tuple[str, ...]
    extra: tuple[Column, ...] = ()

    @property
    def columns(self) -> list[Column]:
        """Columns of the Avro schema in its order, then the sink's own."""
        return [*(_column(field) for field in (schema(self.schema)["fields"] if self.schema else [])), *self.extra]


_SCALARS = {"string": "STRING", "int": "INT64", "long": "INT64", "boolean": "BOOL", "double": "FLOAT64"}


def bigquery_type(avro_type: Any) -> str:
    """The BigQuery type of an Avro type, nullable unions unwrapped."""
    if isinstance(avro_type, list):
        return bigquery_type(next(t for t in avro_type if t != "null"))
    if isinstance(avro_type, str):
        return "BYTES" if avro_type == "bytes" else _SCALARS[avro_type]
    match avro_type["type"]:
        case "enum":
            return "STRING"
        case "array":
            return f"ARRAY<{bigquery_type(avro_type['items'])}>"
        case "record":
            inner = ", ".join(f"{f['name']} {bigquery_type(f['type'])}" for f in avro_type["fields"])
            return f"STRUCT<{inner}>"
        case kind:
            return "TIMESTAMP" if avro_type.get("logicalType") == "timestamp-millis" else _SCALARS[kind]


def _column(field: dict[str, Any]) -> Column:
    avro_type = field["type"]
    nullable = isinstance(avro_type, list) or (isinstance(avro_type, dict) and avro_type["type"] == "array")
    return Column(field["name"], bigquery_type(avro_type), not nullable, field["doc"])


_PLACE = (
    Column("kafka_partition", "INT64", True, "Partition of the record that brought the row."),
    Column("kafka_offset", "INT64", True, "Offset of that record: rows and offsets are committed together."),
)

TABLES: tuple[Table, ...] = (
    Table(
        "events",
        topics.EVENTS,
        "listening_event",
        "event_id",
        "timestamp",
        ("tenant", "platform", "event_type"),
        (Column("is_late", "BOOL", True, "Arrived after its window had closed; counted in late_count."), *_PLACE),
    ),
    Table("plays", topics.PLAYS, "play", "play_id", "started_at", ("tenant", "track_id"), _PLACE),
    Table("sessions", topics.SESSIONS, "session", "session_key", "started_at", ("tenant", "user_id"), _PLACE),
    Table(
        "window_metrics",
        topics.WINDOW_METRICS,
        "window_metrics",
        "window_id",
        "window_start",
        ("tenant", "scope"),
        _PLACE,
    ),
    Table(
        "window_rollups",
        topics.WINDOW_ROLLUPS,
        "window_rollup",
        "window_id",
        "window_start",
        ("tenant", "scope"),
        _PLACE,
    ),
    Table("tracks", topics.TRACK_CATALOGUE, "track", "track_id", "first_seen_at", ("tenant", "track_id"), _PLACE),
    Table(
        "track_insights",
        topics.TRACK_INSIGHTS,
        "track_insight",
        "insight_id",
        "generated_at",
        ("tenant", "track_id"),
        _PLACE,
    ),
    Table(
        "anomaly_alerts", topics.ANOMALY_ALERTS, "anomaly_alert", "transition_id", "at", ("tenant", "detector"), _PLACE
    ),
    Table(
        "dead_letters", topics.DEAD_LETTERS, "dead_letter", "dead_letter_id", "failed_at", ("tenant", "reason"), _PLACE
    ),
    Table(
        "ledger",
        None,
        None,
        "entry_id",
        "hour",
        ("tenant", "source"),
        (
            Column(
                "entry_id",
                "STRING",
                True,
                "topic/partition/first_offset of the batch, and its tenant and source and hour.",
            ),
            Column("tenant", "STRING", True, "Customer."),
            Column("source", "STRING", True, "Way in; `unknown` for records that cannot be read."),
            Column("hour", "TIMESTAMP", True, "Hour of received_at."),
            Column("accepted", "INT64", True, "Records taken in."),
            Column("loaded", "INT64", True, "Of these, rows new in `events`."),
            Column("dead_lettered", "INT64", True, "Of these, rows new in `dead_letters`."),
            Column("deduplicated", "INT64", True, "Of these, already held."),
            Column("committed_at", "TIMESTAMP", True, "When the batch was committed."),
        ),
    ),
)


def table(name: str) -> Table:
    """A table by its name; raises KeyError."""
    return {t.name: t for t in TABLES}[name]
