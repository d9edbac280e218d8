"""What goes wrong inside a worker, or with it alone: zombies, exceptions, half-written snapshots."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import pytest

from tests.faults.conftest import Rig

EXCEPTIONS = ("read:3", "emit:5", "push:3", "confirm:2", "merge:2", "changelog:5")
SESSION_MS = 2_500
"""Shorter than in life: the tests are."""

HALF_SNAPSHOTS = tuple(f"exit-changelog:{call}" for call in (1, 2, 3, 4, 6, 9))


def fail(rig: Rig, *points: str) -> None:
    """Lets the first worker fail at these points, one start after the other."""
    stage = rig.pipeline.stages["worker"]
    record = rig.directory / "failures"
    stage.command = [sys.executable, "-m", "tests.faults.failing_worker", str(record), *points]
    stage.signal(signal.SIGKILL)
    rig.until(lambda: stage.restarts == 1, "the death of the ordinary worker")
    slices = 3 * len(points)
    for number in range(1, slices + 1):
        rig.send(0.9 * number / slices)
        rig.until(lambda n=number: stage.restarts > n // 3, "a failure", 60)  # type: ignore[misc]
    assert record.read_text() == "." * len(points)
    rig.send()


@pytest.mark.timeout(120)
def test_exceptions_and_half_snapshots(rig: Callable[..., Rig]) -> None:
    """An exception in an agent, and death between segments and manifest: the worker replays, nothing is lost."""
    it = rig(session_timeout_ms=SESSION_MS)
    it.start_stages()
    fail(it, "read:3", "exit-changelog:2", "exit-changelog:3")
    it.finish()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("points", [EXCEPTIONS, HALF_SNAPSHOTS], ids=["exceptions", "half-snapshots"])
def test_every_point_of_failure(rig: Callable[..., Rig], points: tuple[str, ...]) -> None:
    """Each place that can fail does so once, and the worker dies at each record of a snapshot."""
    it = rig(events=40_000)
    it.start_stages()
    fail(it, *points)
    it.finish()


@pytest.mark.timeout(150)
def test_a_zombie(rig: Callable[..., Rig]) -> None:
    """The worker that merges windows is stopped past its session and wakes: its old state does no harm."""
    it = rig(workers=2, session_timeout_ms=SESSION_MS)
    it.start_stages()
    it.send(0.2)
    merging = [
        f"worker-{n}" for n in (1, 2) if any(p.startswith("window-partials/") for p in it.next_of(f"worker-{n}"))
    ]
    assert len(merging) == 1
    stage = it.pipeline.stages[merging[0]]
    stage.signal(signal.SIGSTOP)
    try:
        thread = it.sending(0.6, 1.5 * SESSION_MS / 1000)
        it.wait_for(thread)
        other = "worker-2" if merging == ["worker-1"] else "worker-1"
        it.until(lambda: len(it.next_of(other)) == it.settings.partitions + 1, "the other worker owning everything", 30)
    finally:
        stage.signal(signal.SIGCONT)
    it.wait_for(it.sending(1.0, 2.0))
    it.finish()
