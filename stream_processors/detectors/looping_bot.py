"""Looping bot: a listener starts one track far more often than a person who hears it could."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stream_processors.detectors.alert import Alert, Series, Status

SPAN_WINDOWS = 30
RAISE_PLAYS = 20
"""Plays of one track in 30 windows: a person who repeats a track of 90 s or longer stays below."""
RESOLVE_PLAYS = 5
_LOOPS_MAX = 100_000


@dataclass
class Loop:
    """Plays of one listener and track in the last windows, as (window start, plays), and the state of the alert."""

    plays: list[tuple[int, int]] = field(default_factory=list)
    onset: int = 0
    raised: bool = False


class LoopingBot:
    """Sees only listeners who start a track twice or more in a window, so that its memory stays small."""

    name = "looping_bot"

    def __init__(self, loops: Mapping[Series, Loop] | None = None) -> None:
        self.loops: dict[Series, Loop] = dict(loops or {})

    def observe(self, start: int, end: int, plays: Mapping[Series, int]) -> list[Alert]:
        """Judges one final window; `plays` holds plays per listener and track."""
        oldest = start - (SPAN_WINDOWS - 1) * (end - start)
        alerts = []
        for series in sorted({*self.loops, *plays}, key=lambda s: (s.tenant, str(s))):
            if series not in self.loops and len(self.loops) >= _LOOPS_MAX:
                continue
            loop = self.loops.setdefault(series, Loop())
            loop.plays = [(w, n) for w, n in loop.plays if w >= oldest]
            if series in plays:
                loop.plays.append((start, plays[series]))
            total = sum(n for _, n in loop.plays)
            if not loop.raised and total >= RAISE_PLAYS:
                loop.raised, loop.onset = True, loop.plays[0][0]
                alerts.append(_alert("raised", series, loop, end, total))
            elif loop.raised and total < RESOLVE_PLAYS:
                loop.raised = False
                alerts.append(_alert("resolved", series, loop, end, total))
            if not loop.plays and not loop.raised:
                del self.loops[series]
        return alerts


def _alert(status: Status, series: Series, loop: Loop, end: int, total: int) -> Alert:
    return Alert(
        detector="looping_bot",
        kind="looping_bot",
        status=status,
        severity="info" if status == "resolved" else "warning",
        series=series,
        onset=loop.onset,
        at=end,
        observed=float(total),
        expected=float(RAISE_PLAYS),
        score=total / RAISE_PLAYS,
        evidence={"windows": loop.plays[-10:], "span_windows": SPAN_WINDOWS},
        summary=f"Looping bot {status}: listener {str(series.user_id)[:8]}... started one track {total} times "
        f"in {SPAN_WINDOWS} windows",
    )
