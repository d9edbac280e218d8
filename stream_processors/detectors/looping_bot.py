"""Looping bot: a listener starts one track far more often than a person who hears it could."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from stream_processors import frames
from stream_processors.codes import Codes, SmallInts, hashes
from stream_processors.detectors.alert import Alert, Series, Status

SPAN_WINDOWS = 30
RAISE_PLAYS = 20
"""Plays of one track in 30 windows: a person who repeats a track of 90 s or longer stays below."""
RESOLVE_PLAYS = 5
_LOOPS_MAX = 100_000
LISTENER = ["tenant", "user_id", "track_id"]


class LoopingBot:
    """Sees only listeners who start a track twice or more in a window, so that its memory stays small.

    Their plays are kept in columns, and only the few over a threshold are looked at one by one.
    """

    name = "looping_bot"

    def __init__(
        self, windows: Mapping[int, pl.DataFrame] | None = None, raised: Mapping[Series, int] | None = None
    ) -> None:
        """`windows`: rows (tenant, user_id, track_id, plays) by window start; `raised`: onset of each open alert."""
        self.windows: dict[int, pl.DataFrame] = dict(sorted((windows or {}).items()))
        self.raised: dict[Series, int] = dict(raised or {})
        self._number()

    def _number(self) -> None:
        self._codes, self._totals, self._loops = Codes(), np.zeros(0, np.int64), dict[int, SmallInts]()
        for start, rows in self.windows.items():
            self._take(start, rows)

    @property
    def listeners(self) -> int:
        """Listeners and tracks with plays in the last windows."""
        return int(np.count_nonzero(self._totals))

    def observe(self, start: int, end: int, rows: pl.DataFrame) -> list[Alert]:
        """Judges one final window; `rows`: its plays per listener and track, as in the constructor, each once."""
        self._forget_before(start - (SPAN_WINDOWS - 1) * (end - start))
        if rows.is_empty() and not self.raised:
            return []
        if len(self._codes) > 2 * self.listeners + _LOOPS_MAX:
            self._number()
        self._take(start, self._with_room(rows))
        many = self._totals[self._loops[start]] >= RAISE_PLAYS
        looping = [one for one in _series(self.windows[start].filter(pl.Series(many))) if one not in self.raised]
        turns = looping + [one for one in self.raised if self._plays(one)[1] < RESOLVE_PLAYS]
        return [self._turn(series, end) for series in sorted(turns, key=lambda one: (one.tenant, str(one)))]

    def _with_room(self, rows: pl.DataFrame) -> pl.DataFrame:
        codes = self._code(rows)
        new = self._totals[codes] == 0
        room = _LOOPS_MAX - self.listeners
        if np.count_nonzero(new) <= room:
            return rows
        in_order = rows.filter(pl.Series(new)).sort(
            "tenant", pl.format("user_id={} track_id={}", "user_id", "track_id")
        )
        return pl.concat([rows.filter(pl.Series(~new)), in_order[:room]])

    def _code(self, rows: pl.DataFrame) -> SmallInts:
        codes, new = self._codes.of(hashes(rows, LISTENER))
        self._totals = np.concatenate((self._totals, np.zeros(len(new), np.int64)))
        return codes

    def _take(self, start: int, rows: pl.DataFrame) -> None:
        self.windows[start], self._loops[start] = frames.owned(rows), self._code(rows)
        self._totals[self._loops[start]] += rows["plays"].to_numpy()

    def _forget_before(self, oldest: int) -> None:
        for start in [start for start in self.windows if start < oldest]:
            self._totals[self._loops.pop(start)] -= self.windows.pop(start)["plays"].to_numpy()

    def _plays(self, series: Series) -> tuple[list[tuple[int, int]], int]:
        """Plays in the last windows, as (window start, plays), and their sum."""
        one = pl.DataFrame(
            {name: [getattr(series, name)] for name in LISTENER}, schema=dict.fromkeys(LISTENER, pl.String)
        )
        code = self._code(one)
        plays = [
            (start, int(self.windows[start]["plays"][int(row)]))
            for start, codes in self._loops.items()
            for row in np.flatnonzero(codes == code)
        ]
        return plays, sum(count for _, count in plays)

    def _turn(self, series: Series, end: int) -> Alert:
        """Raises the alert of this series, or resolves it when it is raised."""
        plays, total = self._plays(series)
        if series in self.raised:
            return _alert("resolved", series, self.raised.pop(series), plays, end, total)
        self.raised[series] = plays[0][0]
        return _alert("raised", series, plays[0][0], plays, end, total)


def _series(rows: pl.DataFrame) -> list[Series]:
    return [Series(tenant, None, None, user, track) for tenant, user, track in rows.select(LISTENER).iter_rows()]


def _alert(status: Status, series: Series, onset: int, plays: list[tuple[int, int]], end: int, total: int) -> Alert:
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
