"""A difference that stands is told once, and once when it is gone."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from schemas.codec import Codec
from sinks.audit import age_s, differences
from sinks.imbalance import STANDS_MS, TOTAL, Imbalance, Series
from sinks.ledger import Ledger, Line

HOUR = Series("default", "simulator", "2026-01-01T10:00:00+00:00")
NOW_MS = 1_800_000_000_000


def stored(record: dict[str, Any]) -> dict[str, Any]:
    """A record as the warehouse gives it back."""
    return {**record, **{name: datetime.fromtimestamp(record[name] / 1000, UTC) for name in ("onset", "at")}}


def test_a_difference_that_stands_is_raised_once_and_resolved_once() -> None:
    """Five minutes after it was first seen, and when it is gone."""
    watch = Imbalance([])
    assert watch.observe({HOUR: 3}, NOW_MS) == watch.observe({HOUR: 2}, NOW_MS + STANDS_MS - 1) == []
    (raised,) = watch.observe({HOUR: 2}, NOW_MS + STANDS_MS)
    assert (raised["status"], raised["onset"], raised["observed"]) == ("raised", NOW_MS, 2.0)
    assert "2 events are missing" in raised["summary"]
    assert watch.observe({HOUR: 2}, NOW_MS + 2 * STANDS_MS) == []
    assert watch.open == 1
    (resolved,) = watch.observe({}, NOW_MS + 2 * STANDS_MS)
    assert (resolved["status"], resolved["alert_id"], watch.open) == ("resolved", raised["alert_id"], 0)
    for record in (raised, resolved):
        assert Codec("anomaly_alert").decode(Codec("anomaly_alert").encode(record))["detector"] == "ledger"


def test_a_difference_that_comes_and_goes_is_not_told() -> None:
    """Each time it is gone the five minutes begin anew."""
    watch = Imbalance([])
    seen = [watch.observe({HOUR: minute % 4}, NOW_MS + minute * 60_000) for minute in range(30)]
    assert seen == [[]] * 30


def test_a_restart_goes_on() -> None:
    """What was told is not told again; the same series later is another alert; dying in between says the same again."""
    watch = Imbalance([])
    watch.observe({HOUR: 3}, NOW_MS)
    (raised,) = watch.observe({HOUR: 3}, NOW_MS + STANDS_MS)
    again = Imbalance([stored(raised)])
    assert again.observe({HOUR: 3}, NOW_MS + 2 * STANDS_MS) == []
    (resolved,) = again.observe({HOUR: 0}, NOW_MS + 3 * STANDS_MS)
    assert resolved["alert_id"] == raised["alert_id"]
    forgot = Imbalance([])
    forgot.observe({HOUR: 3}, NOW_MS + STANDS_MS)
    (repeated,) = forgot.observe({HOUR: 3}, NOW_MS + 2 * STANDS_MS)
    assert repeated["transition_id"] == raised["transition_id"]
    later = Imbalance([stored(resolved), stored(raised)])
    later.observe({HOUR: 1}, NOW_MS + 4 * STANDS_MS)
    (second,) = later.observe({HOUR: 1}, NOW_MS + 5 * STANDS_MS)
    assert second["alert_id"] != raised["alert_id"]


def line(hour: int, difference: int = 0, age: int = 0) -> Line:
    return Line(datetime(2026, 1, 1, hour, tzinfo=UTC), "default", "simulator", 10, 10, 0, 0, 0, age, difference)


def test_the_total_is_what_the_lines_do_not_explain() -> None:
    """A row that is gone is one alert, of its hour; records that Kafka deleted unread belong to no hour."""
    found = [line(9), line(10, 2)]
    assert differences(found, Ledger(20, 18, 0, 0, 0))[TOTAL] == 0
    assert differences(found, Ledger(25, 18, 0, 0, 0)) == {
        HOUR: 2,
        HOUR._replace(hour="2026-01-01T09:00:00+00:00"): 0,
        TOTAL: 5,
    }


def test_the_age_is_that_of_the_oldest_in_flight() -> None:
    """Whether it waits in Kafka or for its dead letter."""
    assert age_s([line(9), line(10, age=7)], NOW_MS, None) == 7
    assert age_s([line(9, age=7)], NOW_MS, NOW_MS - 9_500) == 9
    assert age_s([dataclasses.replace(line(9), age_s=0)], NOW_MS, NOW_MS + 5) == 0
