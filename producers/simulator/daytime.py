"""When people listen: by local hour and day of week, in the time zone of each country, daylight saving included."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

BIN_MS = 900_000
"""Activity is the same for a quarter of an hour: no zone is off by less."""

DAY_MS = 86_400_000

_WEEKDAY = [
    0.30, 0.20, 0.12, 0.18, 0.24, 0.34, 0.52, 0.74, 0.92, 1.00, 0.86, 0.78,
    0.75, 0.76, 0.79, 0.85, 0.93, 1.02, 1.10, 0.98, 0.84, 0.69, 0.54, 0.40,
]  # fmt: skip
_WEEKEND = [
    0.42, 0.30, 0.18, 0.22, 0.24, 0.26, 0.30, 0.38, 0.48, 0.58, 0.67, 0.75,
    0.81, 0.86, 0.90, 0.94, 0.98, 1.02, 1.06, 0.97, 0.86, 0.74, 0.64, 0.54,
]  # fmt: skip
_WEEK = np.array([_WEEKDAY] * 5 + [_WEEKEND] * 2).ravel()
"""By hour of the week, from Monday 00:00: low at 02, up to 9 and 18 o'clock, and no morning peak at the weekend."""

_MONDAY_MS = 4 * DAY_MS  # 5 January 1970
_HOUR_MS = 3_600_000


def activity(zone: str, start_ms: int, days: int) -> npt.NDArray[np.float64]:
    """Activity in each quarter of an hour from `start_ms` on, a multiple of `BIN_MS`."""
    found: npt.NDArray[np.float64] = _WEEK[hours_of_week(zone, start_ms, days)]
    return found


def hours_of_week(zone: str, start_ms: int, days: int) -> npt.NDArray[np.int64]:
    """Local hour of each quarter of an hour, counted from Monday 00:00."""
    at = start_ms + np.arange(days * DAY_MS // BIN_MS) * BIN_MS
    local = at + _offsets_ms(zone, at)
    return (local - _MONDAY_MS) // _HOUR_MS % len(_WEEK)


def _offsets_ms(zone: str, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What local clocks are ahead of UTC; asked once a day, and bin by bin only on days of a change."""
    there = ZoneInfo(zone)
    edges = np.append(np.arange(0, len(at), DAY_MS // BIN_MS), len(at) - 1)
    told = [_offset_ms(there, at[edge]) for edge in edges.tolist()]
    offsets = np.empty(len(at), np.int64)
    for first, last, before, after in zip(edges[:-1], edges[1:], told[:-1], told[1:], strict=True):
        offsets[first : last + 1] = before
        if before != after:
            offsets[first : last + 1] = [_offset_ms(there, one) for one in at[first : last + 1]]
    return offsets


def _offset_ms(there: ZoneInfo, ms: int) -> int:
    offset = datetime.fromtimestamp(int(ms) / 1000, UTC).astimezone(there).utcoffset()
    return 0 if offset is None else round(offset.total_seconds() * 1000)


def curves(zones: Sequence[str], shares: Sequence[float], start_ms: int, days: int, span_ms: int) -> Curves:
    """Activity of countries by zone, where 1 is the mean over all listeners and the first `span_ms`."""
    first = start_ms // BIN_MS * BIN_MS
    by_country = np.stack([activity(zone, first, days) for zone in zones])
    usual = np.average(by_country[:, : max(1, -(-span_ms // BIN_MS))].mean(axis=1), weights=shares)
    return Curves(first, (by_country / usual).astype(np.float32))


class Curves:
    """`by_country`: activity per country and quarter of an hour from `start_ms` on."""

    def __init__(self, start_ms: int, by_country: npt.NDArray[np.float32]) -> None:
        self.start_ms, self.by_country = start_ms, by_country

    def at(self, country: int, ms: int) -> float:
        """Activity of a country at a time within the curves."""
        return float(self.by_country[country, (ms - self.start_ms) // BIN_MS])
