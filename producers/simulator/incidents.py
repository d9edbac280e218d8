"""What is planted in a span of event time: where it lies, what it needs, and the label that says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from producers.simulator.kinds import KINDS
from producers.simulator.scenario import Incident, Scenario

SPAN_MIN_MS = 600_000
"""A shorter span holds nothing planted: nobody could tell it from noise in windows of a minute."""

_ACCOUNTS_MAX = 20_000


@dataclass
class Planted:
    """A thing at its place in event time. `guests` are the listeners that come for it, `tracks` those it is about."""

    kind: str
    country: str | None
    app_version: str | None
    magnitude: float
    start_ms: int
    end_ms: int
    guests: slice = field(default_factory=lambda: slice(0, 0))
    tracks: list[int] = field(default_factory=list)

    def guests_wanted(self, usual: float) -> int:
        """How many listeners come for it, when `usual` of them listen in its country."""
        match self.kind:
            case "surge" | "holiday":
                return max(1, round(usual * (self.magnitude - 1)))
            case "looping_bot":
                return 1
            case "streaming_farm":
                return round(self.magnitude)
            case "like_bombing":
                return max(1, min(_ACCOUNTS_MAX, round(self.magnitude * (self.end_ms - self.start_ms) / 60_000)))
            case _:
                return 0


def plant(scenario: Scenario, start_ms: int, span_ms: int) -> list[Planted]:
    """What the scenario plants in a span of event time."""
    if span_ms < SPAN_MIN_MS:
        return []
    return [_planted(incident, start_ms, span_ms) for incident in scenario.incidents]


def _planted(incident: Incident, start_ms: int, span_ms: int) -> Planted:
    start, end = (start_ms + round(at * span_ms) for at in (incident.start, incident.end))
    return Planted(incident.kind, incident.country, incident.app_version, incident.magnitude, start, end)


def label(planted: Planted, dimension: dict[str, Any]) -> dict[str, Any]:
    """What a person or a test needs to judge a detector by it; an alert about an honest surge is a false one."""
    return {
        "kind": planted.kind,
        "is_incident": KINDS[planted.kind].is_incident,
        "start": iso_8601(planted.start_ms),
        "end": iso_8601(planted.end_ms),
        "dimension": dimension,
        "magnitude": planted.magnitude,
    }


def iso_8601(ms: int) -> str:
    """Milliseconds since 1970 as text in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
