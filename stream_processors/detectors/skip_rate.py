"""Skip rate: listeners of a platform, or of a platform in a country, skip far more than they did."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stream_processors.detectors.alert import Alert, Series
from stream_processors.detectors.baseline import Baseline

LEAST_PLAYS = 30
SCORE = 5.0
LEAST_RISE = 0.15
"""A rise below 15 percentage points is left to the charts."""


class SkipRate:
    """One baseline of skips / plays per series. Least deviation: that of a binomial share, sqrt(p (1 - p) / n)."""

    name = "skip_rate"

    def __init__(self, baselines: Mapping[Series, Baseline] | None = None) -> None:
        self.baselines: dict[Series, Baseline] = dict(baselines or {})

    def observe(self, start: int, end: int, plays: Mapping[Series, int], skips: Mapping[Series, int]) -> list[Alert]:
        """Judges one final window; windows with few plays are passed over."""
        alerts = []
        for series in sorted(plays, key=lambda s: (s.tenant, str(s))):
            n = plays[series]
            if n < LEAST_PLAYS:
                continue
            baseline = self.baselines.setdefault(series, Baseline())
            x = skips.get(series, 0) / n
            expected, score, kind = baseline.mean, 0.0, ""
            if baseline.is_warm:
                share = min(max(expected, 0.01), 0.99)
                score = baseline.score(x, math.sqrt(share * (1 - share) / n))
                kind = "skip_surge" if score >= SCORE and x >= expected + LEAST_RISE else ""
            status = baseline.step(x, start, kind)
            if status:
                alerts.append(_alert(status, series, baseline, end, x, expected, score, n))
        return alerts


def _alert(
    status: Any, series: Series, baseline: Baseline, end: int, x: float, expected: float, score: float, plays: int
) -> Alert:
    return Alert(
        detector="skip_rate",
        kind="skip_surge",
        status=status,
        severity="info" if status == "resolved" else "critical" if x >= expected + 0.3 else "warning",
        series=series,
        onset=baseline.onset,
        at=end,
        observed=x,
        expected=expected,
        score=score,
        evidence={"window_end": end, "plays": plays, "windows_learnt": baseline.learnt},
        summary=f"Skip surge {status} for {series}: {x:.0%} of plays are skipped where {expected:.0%} are expected",
    )
