"""Measures the constants of the capacity model of docs/scaling.md, fits it on some points and checks it at two others.

`python -m bench.capacity [--events N] [--json FILE]`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import oracle, results, trial
from bench.cluster import Cluster, cluster
from bench.engines import product_environment, product_topics
from bench.generator import Log, Shape, generate
from bench.latency import rows_in
from bench.meter import Meter
from crossfade import topics as topic_maker
from crossfade.ports import reserve
from crossfade.problem import ProblemError
from schemas import topics
from warehouse.runner import WarehouseError

FITTED, CHECKED = (100, 300, 3_000, 12_000), (1_000, 6_000)
"""Events in a record batch: the model is fitted at the first, and must be right at the others."""

RATES = (100_000, 1_000_000, 8_000_000)
BUSY, CORES, COPIES, READERS, FETCH_WAIT_S = 0.5, 2, 3, 2, 0.2
"""Cores are half busy, a worker has two, Kafka keeps three copies, worker and sink read, a fetch waits 200 ms."""
BATCH_EVENTS = 3_000
"""Partitions are as many as still leave so many events in a batch."""
USD_PER_GB_WRITTEN, USD_PER_GB_MONTH = 0.025, 0.02
"""BigQuery's list prices: Storage Write API, and active logical storage."""

_PRODUCT = [sys.executable, "-m", "stream_processors"]
_SIMPLE = [sys.executable, "-m", "bench.jobs.crossfade_job"]
_SINK = [sys.executable, "-m", "sinks"]
_SMALL_DIVISOR = 4
_SMALL_BATCH = 1_000


@dataclass(frozen=True)
class Model:
    """CPU of a worker: so many microseconds for each event, and so many for each batch however small it is."""

    event_us: float
    batch_us: float

    def us(self, batch_events: float) -> float:
        """CPU microseconds for an event in batches of this size."""
        return self.event_us + self.batch_us / batch_events


def fit(points: list[tuple[float, float]]) -> Model:
    """The model through (events in a batch, CPU microseconds for an event), least squares of the relative error."""
    sizes, costs = np.array(points).T
    rows = np.stack((1 / costs, 1 / (sizes * costs)), axis=1)
    event_us, batch_us = np.linalg.lstsq(rows, np.ones(len(costs)), rcond=None)[0]
    return Model(float(event_us), float(batch_us))


def batches(here: Cluster, log: Log, size: int, timeout_s: float) -> dict[str, Any]:
    """The simple job on record batches of one size, each fetched by itself."""
    output = f"bench-batch-{size}"
    settings = {"batch.num.messages": size, "batch.size": 8 << 20, "linger.ms": 1_000}
    here.create(topics.EVENTS, log.shape.partitions, **{"message.timestamp.type": "CreateTime"})
    here.write(topics.EVENTS, log, **settings)
    here.create(output, 4)
    here.create(f"{output}-parts", 1)
    wanted = oracle.simple(log, here.settings.window_ms)

    def judge(rows: list[Any]) -> str | None:
        return oracle.problem_of_simple(rows, wanted)

    task = trial.Task(topics.EVENTS, log.frame.height, output, wanted.height, judge)
    found = trial.run(here, task, _SIMPLE, {"BENCH_FETCH_BYTES": "1"}, timeout_s)
    here.delete(topics.EVENTS, *(name for name in here.topics() if name.startswith(output)))
    return {
        "batch_events": round(found.batch_events or size),
        "us": 1e6 / max(found.events_per_cpu_s, 1.0),
        "events_per_s": round(found.events_per_s),
        "problem": found.problem,
    }


def broker_and_sink(here: Cluster, log: Log, timeout_s: float) -> dict[str, Any]:
    """CPU of broker and sink for an event, and bytes of an event in Kafka's log and in the warehouse file."""
    product_topics(here)
    own = here.settings.model_copy(update={"quack_port": reserve(23561), "sink_metrics_port": reserve(23562)})
    broker = Meter(here.pid)
    begun = time.time()
    here.write(topics.EVENTS, log)
    written = time.time()
    stored = sum(
        file.stat().st_size for file in (here.settings.data_dir / "kafka" / "log").glob(f"{topics.EVENTS}-*/*.log")
    )
    environment = product_environment(here, 0) | {
        "CROSSFADE_DATA_DIR": str(own.data_dir),
        "CROSSFADE_QUACK_PORT": str(own.quack_port),
        "CROSSFADE_SINK_METRICS_PORT": str(own.sink_metrics_port),
    }
    count, events = rows_in(own), log.frame.height
    progress: list[tuple[int, float]] = []
    with trial.started(_SINK, environment, here.settings.data_dir / "sink") as running:
        meter = Meter(running.process.pid)
        end = time.monotonic() + timeout_s
        while (not progress or progress[-1][0] < events) and time.monotonic() < end:
            with contextlib.suppress(WarehouseError):  # it is not there yet
                progress.append((count(), time.time()))
            time.sleep(0.1)
        meter.stop()
    broker.stop()
    file_bytes = sum(file.stat().st_size for file in own.duckdb_file.parent.glob("*") if file.is_file())
    begun_at = next(((n, at) for n, at in progress if n > 0), None)
    if begun_at is None or progress[-1][0] < events:
        raise ProblemError(f"The sink loaded {progress[-1][0] if progress else 0} of {events} events in time.")
    first, since = begun_at
    last = progress[-1][1]
    sample = log.values(0, min(events, 10_000))
    return {
        "value_bytes": sum(map(len, sample)) / len(sample),
        "broker_us": 1e6 * broker.cpu_s(begun, written) / events,
        "broker_read_us": 1e6 * broker.cpu_s(written, last) / events,
        "kafka_bytes": stored / events,
        "warehouse_bytes": file_bytes / events,
        "sink_events_per_s": (events - first) / max(last - since, 1e-3)
        if first < events
        else events / (last - since + 1),
        "sink_us": 1e6
        * (meter.cpu_s(since, last) if first < events else meter.cpu_s(0, last))
        / max(events - first, 1),
    }


def product(here: Cluster, log: Log, timeout_s: float) -> dict[str, Any]:
    """CPU of the complete worker for an event, on batches as large as a backlog gives them."""
    topic_maker.delete(here.settings)
    product_topics(here)
    here.write(topics.EVENTS, log)
    wanted, window_ms = oracle.product(log, here.settings.window_ms), here.settings.window_ms

    def judge(rows: list[Any]) -> str | None:
        return oracle.problem_of_product(rows, wanted, window_ms)

    task = trial.Task(topics.EVENTS, log.frame.height, topics.WINDOW_METRICS, wanted.height, judge)
    found = trial.run(here, task, _PRODUCT, product_environment(here, 1), timeout_s, here.health_port)
    return {"product_us": 1e6 / max(found.events_per_cpu_s, 1.0), "product_problem": found.problem}


def carried(model: Model, constants: dict[str, Any], rate: float) -> dict[str, float]:
    """What a rate of events needs, from the constants: the sums of docs/scaling.md."""
    partitions = max(4, 4 * math.ceil(rate * FETCH_WAIT_S / BATCH_EVENTS / 4))
    batch = rate / partitions * FETCH_WAIT_S
    worker_cores = rate * (constants["product_us"] + model.batch_us / batch) / 1e6 / BUSY
    broker_us = constants["broker_us"] + (COPIES - 1 + READERS) * constants["broker_read_us"]
    value_bytes = constants["value_bytes"]
    gb_a_day = rate * value_bytes * 86_400 / 1e9
    return {
        "rate": rate,
        "partitions": partitions,
        "batch_events": batch,
        "worker_cores": worker_cores,
        "workers": math.ceil(worker_cores / CORES),
        "broker_cores": rate * broker_us / 1e6 / BUSY,
        "broker_gb_s": rate * constants["kafka_bytes"] * (COPIES + READERS) / 1e9,
        "kafka_tb": rate * constants["kafka_bytes"] * 7 * 86_400 * COPIES / 1e12,
        "sink_cores": rate * constants["sink_us"] / 1e6 / BUSY,
        "write_usd_a_day": gb_a_day * USD_PER_GB_WRITTEN,
        "store_usd_a_month": gb_a_day * 30 * USD_PER_GB_MONTH,
    }


def report(points: list[dict[str, Any]], model: Model, constants: dict[str, Any], command: str) -> str:
    """The section."""
    cells = []
    for point in points:
        predicted = model.us(point["batch_events"])
        error = f"{100 * (predicted / point['us'] - 1):+.0f} %"
        use = "check" if point["is_check"] else "fit"
        right = point["problem"] or "yes"
        cells.append([f"{point['batch_events']:,}", use, f"{point['us']:.2f}", f"{predicted:.2f}", error, right])
    head = ["events a batch", "used to", "measured (CPU us an event)", "model", "model against measured", "correct"]
    return "\n\n".join(
        [
            f"`{command}`: {results.machine()}.",
            "The simple job on record batches of different sizes, each fetched by itself. Model: CPU of an event = "
            f"**{model.event_us:.2f} us + {model.batch_us:,.0f} us / events in its batch**.",
            results.table(head, cells),
            "The other constants of docs/scaling.md, in this run: broker "
            f"{constants['broker_us']:.2f} us of CPU to take an event and {constants['broker_read_us']:.2f} us to hand "
            f"it to one reader, {constants['kafka_bytes']:.0f} bytes an event in Kafka (lz4), sink "
            f"{constants['sink_events_per_s']:,.0f} events/s with {constants['sink_us']:.2f} us of CPU an event, "
            f"{constants['warehouse_bytes']:.0f} bytes an event in the DuckDB file, complete worker "
            f"{constants['product_us']:.2f} us of CPU an event.",
            "Carried on paper:",
            results.table(
                ["events/s", "partitions", "workers of 2 cores", "broker cores", "network of the brokers (GB/s)",
                 "Kafka, 7 days, 3 copies (TB)", "sink cores", "BigQuery writes (USD a day)",
                 "BigQuery storage of 30 days (USD a month)"],
                [
                    [f"{sums['rate']:,.0f}", f"{sums['partitions']:,.0f}", f"{sums['workers']:,.0f}",
                     f"{sums['broker_cores']:,.0f}", f"{sums['broker_gb_s']:,.1f}", f"{sums['kafka_tb']:,.1f}",
                     f"{sums['sink_cores']:,.0f}", f"{sums['write_usd_a_day']:,.0f}",
                     f"{sums['store_usd_a_month']:,.0f}"]
                    for sums in (carried(model, constants, rate) for rate in RATES)
                ],
            ),
        ]
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measures, fits, checks, and writes the section of RESULTS.md; 1 when an output was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for each measurement")
    parser.add_argument("--no-results", action="store_true", help="leaves RESULTS.md as it is")
    options = parser.parse_args(arguments)
    points = []
    try:
        with cluster() as here:
            shape = Shape(options.events)
            logs = {1: generate(shape), _SMALL_DIVISOR: generate(shape.share(_SMALL_DIVISOR))}
            for size in sorted((*FITTED, *CHECKED)):
                log = logs[_SMALL_DIVISOR if size < _SMALL_BATCH else 1]
                points.append({**batches(here, log, size, options.timeout), "is_check": size in CHECKED})
                print(json.dumps(points[-1]), file=sys.stderr, flush=True)
            constants = broker_and_sink(here, logs[1], options.timeout)
            constants |= product(here, logs[1], options.timeout)
    except ProblemError as error:
        sys.exit(str(error))
    model = fit([(point["batch_events"], point["us"]) for point in points if not point["is_check"]])
    text = report(points, model, constants, f"python -m bench.capacity --events {options.events}")
    print(text)
    if not options.no_results:
        results.write("Capacity", text)
    if options.json:
        found = {"points": points, "event_us": model.event_us, "batch_us": model.batch_us, **constants}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(any(point["problem"] for point in points) or constants["product_problem"] is not None)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
