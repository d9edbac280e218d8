"""Volume: a platform, or a platform in a country, sends far fewer or far more events than it used to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stream_processors.detectors.alert import Alert, Series, Severity
from stream_processors.detectors.baseline import Baseline

LEAST_EXPECTED = 30.0
"""Series that expect fewer events a window are not judged: chance alone would alarm."""
DROP_SCORE, SURGE_SCORE = -3.0, 6.0
"""A count cannot fall below zero, so a drop can never be as many deviations away as a surge."""
DROP_RATIO, SURGE_RATIO = 0.5, 2.0
RESOLVE_RATIOS = 0.75, 1.5
"""An alert that is raised holds until the volume is clearly back."""
SURE_RATIO = 4.0
"""A surge of this size needs no second window; a drop always does, because the last window of an input is a part."""


class Volume:
    """Keeps one baseline per series. Poisson noise is the least deviation: sqrt(mean)."""

    name = "volume"

    def __init__(self, baselines: Mapping[Series, Baseline] | None = None) -> None:
        self.baselines: dict[Series, Baseline] = dict(baselines or {})

    @property
    def is_watching(self) -> bool:
        """Whether silence would mean anything: some series expects events, or an alert is open."""
        return any(b.raised or (b.is_warm and b.mean >= LEAST_EXPECTED) for b in self.baselines.values())

    def observe(self, start: int, end: int, events: Mapping[Series, int]) -> list[Alert]:
        """Judges one final window. Series without events count as zero, so that silence is seen."""
        alerts = []
        for series in sorted({*self.baselines, *events}, key=lambda s: (s.tenant, str(s))):
            baseline = self.baselines.setdefault(series, Baseline())
            x = float(events.get(series, 0))
            expected, score, kind = baseline.mean, 0.0, ""
            if baseline.is_warm and expected >= LEAST_EXPECTED:
                score = baseline.score(x, max(math.sqrt(expected), 0.1 * expected))
                drop, surge = RESOLVE_RATIOS if baseline.raised else (DROP_RATIO, SURGE_RATIO)
                if score <= DROP_SCORE and x <= drop * expected:
                    kind = "drop"
                elif score >= SURGE_SCORE and x >= surge * expected:
                    kind = "surge"
            status = baseline.step(x, start, kind, is_beyond_doubt=kind == "surge" and x >= SURE_RATIO * expected)
            if status:
                alerts.append(_alert(status, series, baseline, end, x, expected, score))
        return alerts


def _alert(status: Any, series: Series, baseline: Baseline, end: int, x: float, expected: float, score: float) -> Alert:
    ratio = x / expected if expected else 0.0
    severity: Severity = "critical" if ratio <= 0.1 or ratio >= 5 else "warning"
    change = f"{x:.0f} events a window where {expected:.0f} are expected"
    return Alert(
        detector="volume",
        kind=baseline.kind,
        status=status,
        severity=severity if status == "raised" else "info",
        series=series,
        onset=baseline.onset,
        at=end,
        observed=x,
        expected=expected,
        score=score,
        evidence={"window_end": end, "ratio": round(ratio, 4), "windows_learnt": baseline.learnt},
        summary=f"Volume {baseline.kind} {status} for {series}: {change}",
    )
