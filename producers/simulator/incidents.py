"""Planted anomalies: where they lie in event time, and the labels that say so."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from producers.simulator.scenario import Incident, Scenario

SPAN_MIN_MS = 600_000
"""A shorter span holds no incidents: nobody could tell them from noise in windows of a minute."""


@dataclass
class Planted:
    """An incident at its place in event time; `seats` are those of extra listeners and bots."""

    kind: str
    country: str
    magnitude: float
    start_ms: int
    end_ms: int
    seats: slice = field(default_factory=lambda: slice(0, 0))


def plant(scenario: Scenario, start_ms: int, span_ms: int) -> list[Planted]:
    """The scenario's incidents for a span of event time."""
    if span_ms < SPAN_MIN_MS:
        return []
    return [_planted(incident, start_ms, span_ms) for incident in scenario.incidents]


def _planted(incident: Incident, start_ms: int, span_ms: int) -> Planted:
    start, end = (start_ms + round(at * span_ms) for at in (incident.start, incident.end))
    return Planted(incident.kind, incident.country, incident.magnitude, start, end)


def label(incident: Planted, dimension: dict[str, str]) -> dict[str, Any]:
    """What a person or a test needs to judge a detector by this incident."""
    return {
        "kind": incident.kind,
        "start": iso_8601(incident.start_ms),
        "end": iso_8601(incident.end_ms),
        "dimension": dimension,
        "magnitude": incident.magnitude,
    }


def iso_8601(ms: int) -> str:
    """Milliseconds since 1970 as text in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
