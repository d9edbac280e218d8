"""Readings of stages, taken from a real server."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from crossfade import ports
from crossfade.observe import SILENT, read, totals
from schemas import telemetry


def test_samples_are_added_up_over_their_labels() -> None:
    """The board shows one figure per metric; buckets and creation times are none."""
    registry = CollectorRegistry()
    counter = Counter("crossfade_events", "", ["source"], registry=registry)
    counter.labels("a").inc(2)
    counter.labels("b").inc(3)
    Gauge("crossfade_alerts_open", "", registry=registry).set(1)
    Histogram("crossfade_seconds", "", registry=registry).observe(0.5)
    Gauge("other", "", registry=registry).set(9)
    assert totals(generate_latest(registry).decode()) == {
        "crossfade_events_total": 5,
        "crossfade_alerts_open": 1,
        "crossfade_seconds_sum": 0.5,
        "crossfade_seconds_count": 1,
    }


@pytest.mark.parametrize("ok", [True, False])
def test_a_stage_that_answers_is_read(ok: bool) -> None:
    """A stage that is not well answers 503, and its figures count all the same."""
    state = {"ok": ok, "stage": "sinks", "lag": 4, "ledger": {"accepted": 1}}
    port = telemetry.serve("127.0.0.1", 0, lambda: state)
    reading = read(f"http://127.0.0.1:{port}")
    assert (reading.ok, reading.lag, reading.ledger) == (ok, 4, {"accepted": 1})


def test_a_stage_that_is_away_is_silent() -> None:
    """No answer is no reading, and no error either."""
    assert read(f"http://127.0.0.1:{ports.reserve(23000)}") is SILENT


def test_health_in_another_form_is_not_trusted() -> None:
    """A lag or a ledger that is no number is unknown, not 0."""
    port = telemetry.serve("127.0.0.1", 0, lambda: {"ok": True, "lag": "many", "ledger": {"accepted": None}})
    reading = read(f"http://127.0.0.1:{port}")
    assert reading.lag is None
    assert reading.ledger is None
