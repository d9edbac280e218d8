"""Looping bot: a listener starts one track far more often than a person who hears it could."""

from __future__ import annotations

from collections.abc import Mapping

from stream_processors.detectors.alert import Alert, Series, Status

SPAN_WINDOWS = 30
RAISE_PLAYS = 20
"""Plays of one track in 30 windows: a person who repeats a track of 90 s or longer stays below."""
RESOLVE_PLAYS = 5
_LOOPS_MAX = 100_000


class LoopingBot:
    """Sees only listeners who start a track twice or more in a window, so that its memory stays small."""

    name = "looping_bot"

    def __init__(
        self, windows: Mapping[int, Mapping[Series, int]] | None = None, raised: Mapping[Series, int] | None = None
    ) -> None:
        """`windows`: plays per listener and track by window start; `raised`: onset of each open alert."""
        self.windows: dict[int, dict[Series, int]] = {}
        self.raised: dict[Series, int] = dict(raised or {})
        self.loops: dict[Series, int] = {}
        """Plays in the last windows."""
        for start, plays in sorted((windows or {}).items()):
            self._take(start, plays)

    def observe(self, start: int, end: int, plays: Mapping[Series, int]) -> list[Alert]:
        """Judges one final window; `plays` holds plays per listener and track."""
        self._forget_before(start - (SPAN_WINDOWS - 1) * (end - start))
        new = [series for series in plays if series not in self.loops]
        room = _LOOPS_MAX - len(self.loops)
        if len(new) > room:
            left_out = set(sorted(new, key=_place)[room:])
            plays = {series: started for series, started in plays.items() if series not in left_out}
        self._take(start, plays)
        looping = [series for series in plays if self.loops[series] >= RAISE_PLAYS and series not in self.raised]
        ended = [series for series in self.raised if self.loops.get(series, 0) < RESOLVE_PLAYS]
        return [self._turn(series, end) for series in sorted((*looping, *ended), key=_place)]

    def _take(self, start: int, plays: Mapping[Series, int]) -> None:
        self.windows[start] = dict(plays)
        for series, started in plays.items():
            self.loops[series] = self.loops.get(series, 0) + started

    def _forget_before(self, oldest: int) -> None:
        for start in [start for start in self.windows if start < oldest]:
            for series, started in self.windows.pop(start).items():
                self.loops[series] -= started
                if not self.loops[series]:
                    del self.loops[series]

    def _turn(self, series: Series, end: int) -> Alert:
        """Raises the alert of this series, or resolves it when it is raised."""
        plays = [(start, found[series]) for start, found in self.windows.items() if series in found]
        total = self.loops.get(series, 0)
        if series in self.raised:
            return _alert("resolved", series, self.raised.pop(series), plays, end, total)
        self.raised[series] = plays[0][0]
        return _alert("raised", series, plays[0][0], plays, end, total)


def _place(series: Series) -> tuple[str, str]:
    return series.tenant, str(series)


def _alert(
    status: Status, series: Series, onset: int, plays: list[tuple[int, int]], end: int, total: int
) -> Alert:
    return Alert(
        detector="looping_bot",
        kind="looping_bot",
        status=status,
        severity="info" if status == "resolved" else "warning",
        series=series,
        onset=onset,
        at=end,
        observed=float(total),
        expected=float(RAISE_PLAYS),
        score=total / RAISE_PLAYS,
        evidence={"windows": plays[-10:], "span_windows": SPAN_WINDOWS},
        summary=f"Looping bot {status}: listener {str(series.user_id)[:8]}... started one track {total} times "
        f"in {SPAN_WINDOWS} windows",
    )
