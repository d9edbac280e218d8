"""What goes wrong at the warehouse: its file is held by somebody else, or its disk is full."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crossfade.observe import read
from tests.faults.conftest import Rig, fill

HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_locked_warehouse_file(rig: Callable[..., Rig]) -> None:
    """Another process opens the file while the sink is away: the sink waits for it, and then loads everything."""
    it = rig(events=10_000)
    it.start_stages()
    it.send(0.5)
    it.until(lambda: it.lags()["sinks"] == 0, "the first half being loaded")
    sinks = it.pipeline.stages["sinks"]
    it.stop_one("sinks")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(it.settings.duckdb_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        it.start_one("sinks")
        it.send()
        it.until(lambda: "holds the warehouse" in sinks.log.read_text(), "the sink's warning", 30)
    finally:
        holder.communicate(timeout=10)
    it.finish()
    assert sinks.restarts == 0, "it waited, it did not die"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_full_disk_under_the_warehouse(rig: Callable[..., Rig], small_disk: Callable[[Path, int], Path]) -> None:
    """No room for a transaction: the sink says so and waits until there is room; nothing is half loaded."""
    it = rig(events=100_000)
    ballast = small_disk(it.settings.duckdb_file.parent, 200)
    it.start_stages()
    it.send(0.3)
    it.until(lambda: it.lags()["sinks"] == 0, "the first events being loaded")
    fill(ballast, 1 << 20)
    it.send(0.9)
    sinks = it.pipeline.stages["sinks"]
    it.until(lambda: "waiting for warehouse" in sinks.log.read_text(), "the sink's warning", 60)
    it.pause(3.0)
    assert "Traceback" not in sinks.log.read_text()
    ledger = read(it.pipeline.addresses()["sinks"]).ledger
    assert ledger is not None
    assert ledger["in_flight"] > 0, "what waits in Kafka is told while the warehouse takes nothing"
    assert ledger["accepted"] == sum(ledger.values()) - ledger["accepted"]
    ballast.unlink()
    it.send()
    it.finish()
