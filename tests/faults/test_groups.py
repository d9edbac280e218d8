"""Workers that come and go: every change of the group moves partitions, and no event is counted twice or never."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.faults.conftest import Rig

WORKERS = 5
"""One more than there are partitions: the group always has a spare."""


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_storm_of_rebalances(rig: Callable[..., Rig]) -> None:
    """One to five workers join, leave and are killed, every second or two, while events flow."""
    it = rig(events=60_000, workers=WORKERS)
    it.start_stages()
    chance, names = random.Random(3), [f"worker-{n}" for n in range(1, WORKERS + 1)]
    thread = it.sending(1.0, 40.0)
    away: set[str] = set()
    while thread.is_alive():
        it.pause(chance.uniform(0.5, 3.0))
        name = chance.choice(names)
        if name in away:
            it.start_one(name)
            away.discard(name)
        elif chance.random() < 0.5 and len(away) < WORKERS - 1:
            it.stop_one(name)
            away.add(name)
        elif it.pipeline.stages[name].alive:
            it.kill(name)
    for name in away:
        it.start_one(name)
    it.finish()


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_spare_worker_has_no_lag(rig: Callable[..., Rig]) -> None:
    """More workers than partitions: the one that owns nothing says 0, and takes over when another dies."""
    it = rig(events=5_000, workers=3, partitions=1)
    it.start_stages()
    it.send(0.5)
    it.until(lambda: set(it.lags().values()) == {0}, "no lag anywhere")
    owners = [f"worker-{n}" for n in (1, 2, 3) if it.next_of(f"worker-{n}")]
    assert 1 <= len(owners) <= 2, "an event partition and the merge"
    it.kill(*owners)
    it.send()
    it.finish()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("standby_replicas", [0, 1])
def test_a_worker_takes_over(rig: Callable[..., Rig], standby_replicas: int) -> None:
    """The partitions of a killed worker go on elsewhere, with and without standby copies of its state."""
    it = rig(events=30_000, workers=2, standby_replicas=standby_replicas)
    it.start_stages()
    it.send(0.4)
    it.until(lambda: set(it.lags().values()) == {0}, "no lag anywhere")
    owned = {name: set(it.next_of(name)) for name in ("worker-1", "worker-2")}
    assert all(owned.values()), "each has partitions"
    it.stop_one("worker-1")
    it.until(lambda: set(it.next_of("worker-2")) == owned["worker-1"] | owned["worker-2"], "a takeover")
    it.send(0.8)
    it.start_one("worker-1")
    it.send()
    it.finish()
