"""When the ledger's difference has stood for five minutes somebody is told, once, and once when it is gone: pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

STANDS_MS = 300_000
"""How long a difference has to stand: figures of two clocks differ for seconds, losses stay."""

DETECTOR = "ledger"
RUNBOOK = "ops/runbooks/ledger-imbalance.md"


class Series(NamedTuple):
    """One line of the ledger; `hour` in ISO 8601, or `all` for Kafka's offsets against all rows."""

    tenant: str
    source: str
    hour: str

    def __str__(self) -> str:
        return f"source={self.source} hour={self.hour}"


TOTAL = Series("default", "all", "all")


@dataclass
class _Standing:
    """A difference that is not 0: since when (first seen), how much, and whether somebody was told."""

    since_ms: int
    difference: int
    raised: bool = False


class Imbalance:
    """Alerts about differences, as records of schemas/anomaly_alert.avsc. The caller's clock counts.

    Ids are functions of the series and of how often it was resolved before, so that a sink that dies between raising
    and remembering says the same again; the warehouse keeps one.
    """

    def __init__(self, told: Iterable[Mapping[str, Any]]) -> None:
        """`told` are transitions that the warehouse has: alert_id, status, onset, observed and evidence."""
        self._standing: dict[Series, _Standing] = {}
        self._resolved: dict[Series, int] = {}
        for row in sorted(told, key=lambda row: (row["at"], row["status"] == "resolved")):
            series = Series(**json.loads(row["evidence"])["series"])
            if row["status"] == "raised":
                since_ms = int(row["onset"].timestamp() * 1000)
                self._standing[series] = _Standing(since_ms, int(row["observed"]), raised=True)
            else:
                self._standing.pop(series, None)
                self._resolved[series] = self._resolved.get(series, 0) + 1

    @property
    def open(self) -> int:
        """Alerts that are raised and not resolved."""
        return sum(own.raised for own in self._standing.values())

    def observe(self, differences: Mapping[Series, int], now_ms: int) -> list[dict[str, Any]]:
        """Takes the differences of this moment (0 or left out: balanced); the transitions that follow."""
        transitions = []
        for series in [series for series in self._standing if not differences.get(series)]:
            own = self._standing.pop(series)
            if own.raised:
                transitions.append(self._record(series, own, "resolved", now_ms))
                self._resolved[series] = self._resolved.get(series, 0) + 1
        for series, difference in differences.items():
            if not difference:
                continue
            own = self._standing.setdefault(series, _Standing(now_ms, difference))
            own.difference = difference
            if not own.raised and now_ms - own.since_ms >= STANDS_MS:
                own.raised = True
                transitions.append(self._record(series, own, "raised", now_ms))
        return transitions

    def _record(self, series: Series, own: _Standing, status: str, now_ms: int) -> dict[str, Any]:
        alert_id = "/".join((DETECTOR, *series, str(self._resolved.get(series, 0))))
        since = datetime.fromtimestamp(own.since_ms / 1000, UTC).isoformat(timespec="seconds")
        what = "missing" if own.difference > 0 else "there twice, or were never accepted"
        said = f"{abs(own.difference)} events are {what} ({series}), since {since}"
        return {
            "transition_id": f"{alert_id}/{status}",
            "alert_id": alert_id,
            "tenant": series.tenant,
            "detector": DETECTOR,
            "kind": "imbalance",
            "status": status,
            "severity": "critical",
            "series": str(series),
            "onset": own.since_ms,
            "at": now_ms,
            "observed": float(own.difference),
            "expected": 0.0,
            "score": float(abs(own.difference)),
            "evidence": json.dumps({"series": series._asdict(), "difference": own.difference}),
            "summary": f"{said}: the ledger does not balance." if status == "raised" else f"Balanced again: {said}.",
            "runbook": RUNBOOK,
        }
