"""How long a worker needs to go on with a large state: `python -m bench.recovery [--mib 1024] [--json FILE]`.

The state is a real one: a partition's counting, filled with made events of one open window, written as the worker
writes its snapshots. The worker is then started with nothing, and again with this state in its changelog.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

from bench import results
from bench.cluster import cluster
from crossfade import ports, topics
from schemas import kafka
from schemas.codec import Codec
from schemas.event_time import Windows
from schemas.settings import Settings
from schemas.topics import EVENTS
from stream_processors.app import APP_ID, layout
from stream_processors.partition import PartitionState
from stream_processors.snapshots import Snapshots
from stream_processors.wire import Decoded

_START_MS = 1_700_000_000_000 // 60_000 * 60_000
_ROWS = 200_000
_READY_S = 300.0
_CHANGELOG = f"{APP_ID}-partition-state-changelog"


class Changelog:
    """Stands where Faust's table stands, and writes to its topic."""

    def __init__(self, settings: Settings) -> None:
        self.data: dict[str, bytes] = {}
        self._producer = kafka.producer(settings)

    def send_changelog(self, partition: int, key: str, value: bytes | None) -> asyncio.Future[None]:
        """Queues one record."""
        while True:
            try:
                self._producer.produce(_CHANGELOG, value, json.dumps(key).encode(), partition)
                break
            except BufferError:
                self._producer.poll(0.1)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def flush(self) -> None:
        """Waits until the broker has everything."""
        if self._producer.flush(120):
            raise TimeoutError("the broker does not take the state")


def made(rows: int, offset: int, random: np.random.Generator, empty: pl.DataFrame) -> Decoded:
    """Likes of as many users and tracks as there are rows, all within one minute."""
    words = random.integers(0, 2**63, (rows, 4))
    columns = {
        "event_id": [f"{a:016x}" for a in words[:, 0].tolist()],
        "user_id": [f"{a:016x}{b:016x}" for a, b in words[:, 1:3].tolist()],
        "track_id": [f"track:{a % 1_000_000:07d}" for a in words[:, 3].tolist()],
    }
    frame = pl.DataFrame(columns).with_columns(
        event_type=pl.lit("like").cast(empty.schema["event_type"]),
        platform=pl.lit("custom"),
        tenant=pl.lit("default"),
        source=pl.lit("bench"),
        timestamp=pl.lit(_START_MS).cast(pl.Datetime("ms", "UTC")),
        _offset=pl.lit(offset, pl.Int64),
        _time=pl.lit(_START_MS, pl.Int64),
    )
    missing = [pl.lit(None, kind).alias(name) for name, kind in empty.schema.items() if name not in frame.columns]
    return Decoded(frame.with_columns(missing))


def fill(settings: Settings, bytes_each: int) -> int:
    """Writes a state of about so many bytes for each partition; returns the bytes in all."""
    changelog, random, total = Changelog(settings), np.random.default_rng(7), 0
    empty = Codec("listening_event").empty()
    clockwork = Windows(settings.window_ms, settings.grace_ms)
    for partition in range(settings.partitions):
        state = PartitionState(clockwork, settings.play_timeout_ms, settings.session_gap_ms)
        size = 0
        while size < bytes_each:
            state.add(made(_ROWS, 1, random, empty), 1)
            size = sum(len(segment.data()) for segment in state.segments().values())
        snapshots = Snapshots(changelog, f"partition {PartitionState.VERSION} {layout(settings)}")
        snapshots.load(partition)
        total += asyncio.run(snapshots.write(snapshots.take(partition, state.header(), state.segments())))
        changelog.flush()
    return total


def worker_ready(settings: Settings, directory: Path) -> tuple[float, int]:
    """(seconds from the start of the worker until it has all its partitions and no lag, its memory in bytes)."""
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "CROSSFADE_DATA_DIR": str(directory),
        "CROSSFADE_WORKER_METRICS_PORT": str(settings.worker_metrics_port),
        "CROSSFADE_PARTITIONS": str(settings.partitions),
    }
    began = time.monotonic()
    with (directory / "worker.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "stream_processors"], env=environment, stdout=log, stderr=log)
    try:
        while time.monotonic() - began < _READY_S and process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                answer = _health(settings)
                if len(answer["next"]) == settings.partitions + 1 and answer["lag"] == 0:
                    return time.monotonic() - began, psutil.Process(process.pid).memory_info().rss
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait(10)
    raise TimeoutError(f"the worker was not ready within {_READY_S:.0f} s: {directory / 'worker.log'}")


def _health(settings: Settings) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{settings.worker_metrics_port}/healthz", timeout=2) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def main() -> None:
    """Measures, prints, and writes the section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="state of the worker, all its partitions together")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-results", action="store_true", help="leaves RESULTS.md as it is")
    given = parser.parse_args()
    with cluster() as node, tempfile.TemporaryDirectory() as directory:
        port = ports.reserve(23101)
        settings = node.settings.model_copy(
            update={"data_dir": Path(directory), "worker_metrics_port": port, "partitions": 4}
        )
        list(topics.apply(settings))
        producer = kafka.producer(settings)
        for partition in range(settings.partitions):
            producer.produce(EVENTS, None, b"watermark", partition, timestamp=_START_MS)
        producer.flush(30)
        empty_s, empty_bytes = worker_ready(settings, Path(directory))
        state_bytes = fill(settings, (given.mib << 20) // settings.partitions)
        full_s, full_bytes = worker_ready(settings, Path(directory))
    found = {
        "state_mib": round(state_bytes / 2**20),
        "start_empty_s": round(empty_s, 1),
        "start_s": round(full_s, 1),
        "recovery_s": round(full_s - empty_s, 1),
        "rss_empty_mb": empty_bytes >> 20,
        "rss_mb": full_bytes >> 20,
    }
    text = results.table(list(found), [list(found.values())])
    print(text)
    if given.json:
        given.json.write_text(json.dumps(found))
    if not given.no_results:
        command = f"`python -m bench.recovery --mib {given.mib}`: {results.machine()}."
        told = "Seconds until a worker that was started anew owns all partitions and lags nothing behind."
        results.write("Recovery of a large state", f"{command}\n\n{told}\n\n{text}")


if __name__ == "__main__":
    main()
