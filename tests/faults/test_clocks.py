"""Clocks that jump: those of devices, and those of the machines that the stages run on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl
import pytest

from crossfade.chaos_log import GeneratedLog
from schemas import kafka, topics
from tests.faults.conftest import Rig

JUMPS_MS = (-3 * 86_400_000, -7_200_000, -45_000, 40_000, 90_000)


def with_wild_clocks(log: GeneratedLog, share: float) -> None:
    """Lets the devices' clocks jump in some events: back by seconds or days, ahead by a minute."""
    chance = random.Random(8)
    moved: dict[tuple[str, int], int] = {}
    for files in log.files.values():
        for file in files:
            lines = file.read_bytes().splitlines()
            for i, line in enumerate(lines):
                if chance.random() < share:
                    try:
                        event = msgspec.json.decode(line)
                    except (msgspec.MsgspecError, UnicodeDecodeError):
                        continue
                    if str(event["event_id"]).startswith("broken"):
                        continue
                    jump = moved.setdefault((event["event_id"], 0), chance.choice(JUMPS_MS))
                    lines[i] = msgspec.json.encode({**event, "timestamp": event["timestamp"] + jump})
            file.write_bytes(b"\n".join(lines) + b"\n")
    jumps = pl.DataFrame({"event_id": [e for e, _ in moved], "jump": list(moved.values())})
    for path in log.directory.glob("truth-*.parquet"):
        truth = pl.read_parquet(path).join(jumps, on="event_id", how="left", maintain_order="left")
        truth.with_columns(pl.col("timestamp") + pl.col("jump").fill_null(0)).drop("jump").write_parquet(path)


@pytest.mark.long
@pytest.mark.timeout(150)
def test_devices_clocks_jump(rig: Callable[..., Rig]) -> None:
    """Days back, minutes ahead, and days ahead past the door: judged by the log alone, by worker and sink alike."""
    it = rig(workers=2, session_timeout_ms=2_500)
    with_wild_clocks(it.log, 0.001)
    it.start_stages()
    it.send(0.5)
    codec, ahead_ms = kafka.codec_of(it.settings, topics.EVENTS), int(time.time() * 1000) + 2 * 86_400_000
    event = {
        "event_type": "play",
        "user_id": "dreamer",
        "track_id": "track-1",
        "platform": "custom",
        "tenant": "default",
        "source": "collector",
        "received_at": ahead_ms,
    }
    values = [codec.encode({**event, "event_id": f"ahead-{n}", "timestamp": ahead_ms + n}) for n in range(20)]
    it.produce(values, b"dreamer")
    it.kill("worker-1", "sinks")
    it.send()
    it.finish()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_machines_clock_jumps(rig: Callable[..., Rig], tmp_path: Path) -> None:
    """Workers and sink live through hours ahead and days back: results follow event time, never the wall clock."""
    it = rig(events=40_000, workers=2)
    clock = tmp_path / "clock"
    clock.write_text("0")
    it.add_stages()
    for stage in it.pipeline.stages.values():
        *python, module = stage.command
        stage.command = [*python, "tests.faults.jumping_clock", str(clock), module]
    it.until(it.ready, "every stage telling its lag")
    thread = it.sending(1.0, 25.0)
    for seconds in ("7200", "-3600", "0", "-86400"):
        it.pause(5.0)
        clock.write_text(seconds)
    it.kill("worker-2")
    it.wait_for(thread)
    it.finish()
