"""What a detector says, and the state machine that all detectors share: raise, hold, resolve."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Severity = Literal["info", "warning", "critical"]
Status = Literal["raised", "resolved"]


class Series(NamedTuple):
    """What an alert is about."""

    tenant: str
    platform: str | None = None
    country: str | None = None
    user_id: str | None = None
    track_id: str | None = None

    def __str__(self) -> str:
        named = [(k, v) for k, v in self._asdict().items() if v is not None and k != "tenant"]
        return " ".join(f"{name}={value}" for name, value in named) or "all"


@dataclass(frozen=True)
class Alert:
    """One transition of an alert; times in milliseconds."""

    detector: str
    kind: str
    status: Status
    severity: Severity
    series: Series
    onset: int
    at: int
    observed: float
    expected: float
    score: float
    evidence: dict[str, Any]
    summary: str

    def record(self) -> dict[str, Any]:
        """A record of schemas/anomaly_alert.avsc; its keys are functions of detector, series and onset."""
        series = str(self.series)
        alert_id = f"{self.detector}/{self.kind}/{self.series.tenant}/{series}/{self.onset}"
        return {
            **self.series._asdict(),
            "transition_id": f"{alert_id}/{self.status}",
            "alert_id": alert_id,
            "detector": self.detector,
            "kind": self.kind,
            "status": self.status,
            "severity": self.severity,
            "series": series,
            "onset": self.onset,
            "at": self.at,
            "observed": self.observed,
            "expected": self.expected,
            "score": self.score,
            "evidence": json.dumps(self.evidence),
            "summary": self.summary,
            "runbook": f"ops/runbooks/{self.detector.replace('_', '-')}.md",
        }
