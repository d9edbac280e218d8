"""Time from the acceptance of an event to its closed window and to its row in the warehouse, at a steady rate.

`python -m bench.latency [--rate N] [--seconds N] [--json FILE]`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from confluent_kafka import TopicPartition

from bench import results, trial
from bench.cluster import Cluster, cluster
from bench.engines import product_environment, product_topics
from bench.feed import Feed
from bench.generator import SENTINEL_TRACK, Log, Shape, generate
from crossfade.ports import reserve
from crossfade.problem import ProblemError
from schemas import kafka, topics
from schemas.codec import Codec
from schemas.settings import Settings
from warehouse.runner import WarehouseError, reader

_SPEED = 30
"""Event time goes so much faster than the clock, so that a minute's window closes every two seconds."""
_POLL_S, _READY_S, _LEFT_BEHIND_S = 0.05, 60.0, 30.0
Floats = npt.NDArray[np.float64]
Count = Callable[[], int]


class Watcher:
    """Asks again and again how many events have arrived somewhere."""

    def __init__(self, count: Count) -> None:
        self._count, self._seen = count, [(0, 0.0)]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(WarehouseError):  # not there yet
                count = self._count()
                if count > self._seen[-1][0]:
                    self._seen.append((count, time.time()))
            self._stopped.wait(_POLL_S)

    @property
    def count(self) -> int:
        """Events that have arrived."""
        return self._seen[-1][0]

    def arrived_at(self, numbers: npt.NDArray[np.int64]) -> Floats:
        """When so many events and one had arrived (Unix time); infinity: never."""
        counts, times = np.array([*self._seen, (1 << 62, np.inf)]).T
        found: Floats = times[np.searchsorted(counts, numbers + 1)]
        return found

    def stop(self) -> None:
        """Ends it."""
        self._stopped.set()
        self._thread.join(5)


def plain_reader(here: Cluster) -> Count:
    """The reference: how many events a consumer without a job has read."""
    consumer = kafka.consumer(here.settings, "bench-plain")
    places = kafka.partitions_of(consumer, topics.EVENTS)
    consumer.assign([TopicPartition(topics.EVENTS, place, 0) for place in places])
    read = [0]

    def count() -> int:
        read[0] += sum(message.error() is None for message in consumer.consume(10_000, _POLL_S))
        return read[0]

    return count


def rows_in(settings: Settings) -> Count:
    """How many events can be queried."""
    warehouse = reader(settings)
    return lambda: int(warehouse.query("SELECT COUNT(*) AS n FROM events").rows[0]["n"])


def window_delays(log: Log, feed: Feed, rows: list[Any], window_ms: int, grace_ms: int) -> Floats:
    """Seconds from the event that moved the watermark past a window to the last final record of the window."""
    read = Codec("window_metrics").columns([row.value for row in rows])
    closed = (
        read.frame.with_columns(at=pl.Series([rows[i].time_ms for i in read.index.tolist()]))
        .with_columns(pl.col("window_start", "window_end").to_physical())
        .filter((pl.col("window_end") - pl.col("window_start") == window_ms) & (pl.col("emit") == "final"))
        .group_by(pl.col("window_end").alias("end"))
        .agg(pl.col("at").max() / 1000)
        .sort("end")
    )
    ends = closed["end"].to_numpy()
    passed = np.zeros(len(ends))
    events = log.frame.with_row_index("place").filter(~pl.col("track_id").str.starts_with(SENTINEL_TRACK))
    for partition in range(log.shape.partitions):
        mine = events.filter(pl.col("partition") == partition)
        clock, places = mine["timestamp"].cum_max().to_numpy(), mine["place"].to_numpy().astype(np.int64)
        first = np.searchsorted(clock, ends + grace_ms)
        is_passed = first < len(places)
        at = np.where(is_passed, feed.accepted_at(places[np.minimum(first, len(places) - 1)]), np.inf)
        passed = np.maximum(passed, at)
    delays: Floats = closed["at"].to_numpy() - passed
    return np.maximum(delays[np.isfinite(delays)], 0.0)


def measure(here: Cluster, rate: int, seconds: int) -> list[dict[str, Any]]:
    """Rows of the table."""
    own = here.settings.model_copy(
        update={
            "quack_port": reserve(23551),
            "sink_metrics_port": reserve(23552),
            "data_dir": here.settings.data_dir / "p",
        }
    )
    product_topics(here)
    environment = product_environment(here, 0) | {
        "CROSSFADE_DATA_DIR": str(own.data_dir),
        "CROSSFADE_QUACK_PORT": str(own.quack_port),
        "CROSSFADE_SINK_METRICS_PORT": str(own.sink_metrics_port),
    }
    log = generate(Shape(rate * seconds, minutes=seconds * _SPEED / 60))
    worker, sink = ([sys.executable, "-m", module] for module in ("stream_processors", "sinks"))
    with (
        trial.started(worker, environment, here.settings.data_dir / "worker"),
        trial.started(sink, environment, here.settings.data_dir / "sink"),
    ):
        _wait_for_warehouse(own)
        watchers = {"a consumer without a job": Watcher(plain_reader(here)), "queryable": Watcher(rows_in(own))}
        with Feed(here, topics.EVENTS, log, rate) as feed:
            deadline = time.monotonic() + seconds + _LEFT_BEHIND_S
            while time.monotonic() < deadline and watchers["queryable"].count < log.frame.height:
                time.sleep(0.2)
            time.sleep(2)  # the last windows
        for watcher in watchers.values():
            watcher.stop()
    rows = here.rows(topics.WINDOW_METRICS)
    skipped = np.arange(rate * min(5, seconds // 4), rate * seconds, max(1, rate // 50))  # the first seconds warm up
    found = {name: watcher.arrived_at(skipped) - feed.accepted_at(skipped) for name, watcher in watchers.items()}
    found["closed window, after the watermark"] = window_delays(log, feed, rows, own.window_ms, own.grace_ms)
    reference = float(np.median(found["a consumer without a job"]))
    return [
        {
            "to": name,
            "samples": len(delays),
            "p50_s": _percentile(delays, 50),
            "p99_s": _percentile(delays, 99),
            "of_reference": round((_percentile(delays, 50) or 0.0) / max(reference, 1e-3), 1),
        }
        for name, delays in found.items()
    ]


def _percentile(delays: Floats, percent: int) -> float | None:
    """None when there is none, or when so many never arrived."""
    found = float(np.percentile(delays, percent)) if len(delays) else np.inf
    return round(found, 3) if np.isfinite(found) else None


def _wait_for_warehouse(own: Settings) -> None:
    end = time.monotonic() + _READY_S
    while True:
        try:
            reader(own).query("SELECT COUNT(*) AS n FROM events")
            return
        except WarehouseError as error:
            if time.monotonic() > end:
                raise ProblemError(f"The warehouse does not answer: {error}") from None
            time.sleep(0.2)


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints, and writes the section of RESULTS.md; 1 when something never arrived."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--rate", type=int, default=10_000, help="events per second")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-results", action="store_true", help="leaves RESULTS.md as it is")
    options = parser.parse_args(arguments)
    try:
        with cluster() as here:
            rows = measure(here, options.rate, options.seconds)
    except ProblemError as error:
        sys.exit(str(error))
    text = "\n\n".join(
        [
            f"`python -m bench.latency --rate {options.rate} --seconds {options.seconds}`: {results.machine()}.",
            f"{options.rate:,} events/s for {options.seconds} s through worker and sink (DuckDB), from the moment when "
            f"Kafka has acknowledged an event. Event time goes {_SPEED} times as fast as the clock, so that there are "
            "windows enough; a window counts from the event that moved the watermark past it. The consumer without a "
            "job reads the same events in this run; the last column is the median against its.",
            results.table(
                ["from acceptance to", "samples", "p50 (s)", "p99 (s)", "times the reference"],
                [[row["to"], row["samples"], row["p50_s"], row["p99_s"], row["of_reference"]] for row in rows],
            ),
        ]
    )
    print(text)
    if not options.no_results:
        results.write("Latency", text)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return int(any(row["p99_s"] is None for row in rows))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
