"""The capacity model and the simulation of rebalances, against sums made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import capacity, rebalance_simulation
from bench.rebalance_simulation import Outcome, Settings, simulate

QUIET = Settings(hours=1, worker_lives_hours=1e12, deployments_a_day=0)


def test_fit_finds_the_costs_that_made_the_points() -> None:
    """Points that follow the model give its two constants back."""
    model = capacity.Model(0.8, 900)
    found = capacity.fit([(size, model.us(size)) for size in (100, 1_000, 20_000)])
    assert math.isclose(found.event_us, 0.8, rel_tol=1e-6)
    assert math.isclose(found.batch_us, 900, rel_tol=1e-6)


def test_ten_times_the_events_need_ten_times_the_cores() -> None:
    """Partitions grow with the rate, so that batches stay as large and the cost of an event stays the same."""
    constants = {
        "product_us": 2.0, "broker_us": 0.5, "broker_read_us": 0.3, "kafka_bytes": 200, "value_bytes": 200,
        "sink_us": 2.0,
    }  # fmt: skip
    one, ten = (capacity.carried(capacity.Model(0.8, 900), constants, rate) for rate in (1e6, 1e7))
    for name in ("worker_cores", "broker_cores", "kafka_tb", "write_usd_a_day"):
        assert math.isclose(ten[name], 10 * one[name], rel_tol=0.02)
    assert one["batch_events"] >= 0.9 * capacity.BATCH_EVENTS


def test_nothing_happens_nothing_is_late() -> None:
    """Without changes there is no stop and no lag."""
    found = simulate(QUIET)
    assert (found.rebalances, found.stopped_s, found.longest_lag_s, found.late_s) == (0, 0, 0, 0)


def test_one_restart_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two workers goes for good at 100 s: 2 s to join, 20 s to load two states, then it catches up."""
    own = replace(
        QUIET, workers=2, events_per_s=100, worker_events_per_s=150, state_mb=100, load_mb_per_s=10, hours=0.1
    )
    monkeypatch.setattr(rebalance_simulation, "changes", lambda *_: [(100.0, 0.0, -1)])
    found = simulate(own)
    assert found.rebalances == 1
    assert math.isclose(found.stopped_s, 22)
    assert math.isclose(found.longest_lag_s, 22)
    assert math.isclose(found.late_s, (22 - 10) + (22 - 10) / 0.5)  # until and after: it works off 50 of 100 a second
    assert found.backlog == 0


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 8),
    st.floats(1, 200),
    st.floats(0.5, 1.5),
    st.integers(0, 1_000),
)
def test_no_event_is_lost_or_made_in_the_simulation(groups: int, lives_hours: float, load: float, seed: int) -> None:
    """What was accepted was processed or waits, however often workers die."""
    found: Outcome = simulate(
        Settings(
            1e6,
            2 * groups,
            groups,
            5e5 / load,
            worker_lives_hours=lives_hours,
            deployments_a_day=3,
            hours=24,
            seed=seed,
        )
    )
    assert math.isclose(found.accepted, 1e6 * 24 * 3600, rel_tol=1e-9)
    assert math.isclose(found.accepted, found.processed + found.backlog, rel_tol=1e-6)
    assert found.processed >= 0
