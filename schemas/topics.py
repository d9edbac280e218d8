"""The one list of Kafka topics: who writes them, what they hold, and how the broker keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.reasons import FUTURE_MAX_MS
from schemas.settings import Settings

EVENTS = "listening-events"
DEAD_LETTERS = "dead-letters"
WINDOW_PARTIALS = "window-partials"
WINDOW_METRICS = "window-metrics"
WINDOW_ROLLUPS = "window-rollups"
PLAYS = "plays"
SESSIONS = "sessions"
TRACK_CATALOGUE = "track-catalogue"
TRACK_INSIGHTS = "track-insights"
ANOMALY_ALERTS = "anomaly-alerts"

_DAY_MS = 86_400_000

MESSAGE_MAX_BYTES = 8 << 20
"""Largest record the broker takes: a segment of a worker's state fits in it."""


@dataclass(frozen=True)
class Topic:
    """One topic. `schema` is the Avro file in schemas/ (None: Arrow, private to the stream processors)."""

    name: str
    schema: str | None
    partitions: int
    holds: str
    configs: dict[str, str] = field(default_factory=dict)


def topics(settings: Settings) -> list[Topic]:
    """Every topic with the partitions, retention and compaction it needs."""
    keep = {"retention.ms": str(settings.retention_hours * 3_600_000), "max.message.bytes": str(MESSAGE_MAX_BYTES)}
    # what is derived outlives its event, segment and all: the sink knows its ids for as long as it can come again
    derived = {**keep, "retention.ms": str(settings.retention_hours * 3_600_000 + 2 * _DAY_MS)}
    # an event may be an hour ahead, and the watermark record behind it a window and the grace more
    events = {
        **keep,
        "segment.ms": str(_DAY_MS),
        "message.timestamp.after.max.ms": str(FUTURE_MAX_MS + 2 * (settings.window_ms + settings.grace_ms)),
    }
    month = {"retention.ms": str(30 * 24 * 3_600_000), "max.message.bytes": str(MESSAGE_MAX_BYTES)}
    compacted = {"cleanup.policy": "compact", "max.message.bytes": str(MESSAGE_MAX_BYTES)}
    return [
        Topic(
            EVENTS, "listening_event", settings.partitions, "every accepted event, keyed by pseudonymous user", events
        ),
        Topic(DEAD_LETTERS, "dead_letter", 1, "what could not be taken, with reason and original bytes", month),
        Topic(WINDOW_PARTIALS, None, 1, "closed windows of one input partition, as Arrow", keep),
        Topic(WINDOW_METRICS, "window_metrics", 1, "final windows, one record per window and series or track", derived),
        Topic(WINDOW_ROLLUPS, "window_rollup", 1, "final windows of 5 minutes, 1 hour and 1 day", derived),
        Topic(PLAYS, "play", settings.partitions, "reconstructed plays, keyed by user", derived),
        Topic(SESSIONS, "session", settings.partitions, "stays of listeners, keyed by user", derived),
        Topic(TRACK_CATALOGUE, "track", 1, "what clients told about a track; newest per track", compacted),
        Topic(TRACK_INSIGHTS, "track_insight", 1, "mood, genre, context; newest per track", compacted),
        Topic(ANOMALY_ALERTS, "anomaly_alert", 1, "alerts raised and resolved", month),
    ]
