"""Which stretch of event time a chart shows, and in what steps; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Choice = Literal["15m", "1h", "24h", "all"]

LENGTHS: dict[Choice, timedelta] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
}

OLD = timedelta(minutes=15)
"""Newest events older than this are a replay, of which all is shown first."""

STEPS_MAX = 100

FEW_STEPS = 10

_STEPS_S = (5, 15, 60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TimeRange:
    """From `since` to `until`, both inclusive, in steps of `step_ms` that begin at multiples since 1970."""

    choice: Choice
    since: datetime
    until: datetime
    step_ms: int

    @property
    def params(self) -> dict[str, Any]:
        """Query parameters of every chart."""
        return {
            "since": self.since,
            "until": self.until,
            "step_ms": self.step_ms,
            "long_step_ms": 4 * self.step_ms,
            "complete_until": self.complete_until,
        }

    @property
    def complete_until(self) -> datetime:
        """Before this the steps are complete; `until` as long as there are only a few."""
        if self.until - self.since < FEW_STEPS * timedelta(milliseconds=self.step_ms):
            return self.until
        return step_start(self.until, self.step_ms) - timedelta(milliseconds=1)


def choose(choice: Choice | None, oldest: datetime, newest: datetime, now: datetime) -> TimeRange:
    """The stretch that ends with the newest event. Without a choice: an hour of what is live, all of what is old.

    `oldest` and `newest` are event times in the warehouse; `newest` is at most `now`.
    """
    if choice is None:
        choice = "all" if now - newest > OLD else "1h"
    since = oldest if choice == "all" else max(newest - LENGTHS[choice], oldest)
    step = step_ms(newest - since)
    return TimeRange(choice, step_start(min(since, newest), step), newest, step)


def step_start(time: datetime, step: int) -> datetime:
    """The start of the step (in milliseconds) that holds this time."""
    return _EPOCH + timedelta(milliseconds=epoch_ms(time) // step * step)


def step_ms(span: timedelta) -> int:
    """The shortest usual step that needs at most STEPS_MAX steps for the span."""
    for step_s in _STEPS_S:
        if span.total_seconds() <= step_s * STEPS_MAX:
            return step_s * 1000
    return _STEPS_S[-1] * 1000


def epoch_ms(time: datetime) -> int:
    """Milliseconds since 1970, as a chart's time scale takes them."""
    return (time - _EPOCH) // timedelta(milliseconds=1)
