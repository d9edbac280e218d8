"""The engines of bench.engines: how each is started, with which settings, and what it guarantees."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.install import classpath, environment

_JVM = ["-Xms1g", "-Xmx2g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
_OPENS = [
    f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "util", "time", "util.concurrent")
]


@dataclass(frozen=True)
class Engine:
    """One row of the table. `command` raises UnavailableError; `divisor`: a slow engine gets so small a share.

    `density`: so many times the events in a minute of event time, where the input is not that of the others.
    """

    name: str
    config: str
    guarantee: str
    command: Callable[[], list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    divisor: int = 1
    density: int = 1
    partitions: int = 4
    is_partial: bool = False
    """Tells a track once per input partition."""
    makes_results: bool = True
    is_product: bool = False


def _product(density: int = 1) -> Engine:
    config = "the complete worker: dedupe, all windows, distinct users, plays, detectors; 1 process, snapshot 1 s"
    return Engine(
        "crossfade-product",
        config if density == 1 else f"{config}; {density} times the events in a minute of event time",
        "effectively once",
        lambda: [sys.executable, "-m", "stream_processors"],
        density=density,
        is_product=True,
    )


def _job(name: str) -> Callable[[], list[str]]:
    return lambda: [str(environment(name)), "-m", f"bench.jobs.{name}_job"]


def _flink(parallelism: int, guarantee: str) -> Engine:
    return Engine(
        "flink",
        f"2.2.0 DataStream, {guarantee}, parallelism {parallelism}, object reuse, heap state, checkpoint 1 s",
        guarantee.replace("-", " "),
        lambda: [*(java := classpath("flink"))[:1], *_JVM, *_OPENS, *java[1:], "bench.FlinkJob"],
        {"BENCH_PARALLELISM": str(parallelism), "BENCH_GUARANTEE": guarantee},
    )


def _streams(threads: int) -> Engine:
    return Engine(
        "kafka-streams",
        f"4.3.1 Processor API, RocksDB, EOS v2, {threads} thread(s), commit 1 s, 256 MB cache; its best case: "
        "counts of each input partition, not merged",
        "exactly once",
        lambda: [*(java := classpath("kafka-streams"))[:1], *_JVM, *java[1:], "bench.StreamsJob"],
        {"BENCH_PARALLELISM": str(threads), "BENCH_GUARANTEE": "exactly-once"},
        is_partial=True,
    )


def _streams_dsl() -> Engine:
    return Engine(
        "kafka-streams",
        "4.3.1 DSL, RocksDB, EOS v2, 1 thread, commit 1 s, 256 MB cache; 1 partition: of more, it drops events behind "
        "its repartition topic",
        "exactly once",
        lambda: [*(java := classpath("kafka-streams"))[:1], *_JVM, *java[1:], "bench.StreamsDslJob"],
        {"BENCH_PARALLELISM": "1", "BENCH_GUARANTEE": "exactly-once"},
        partitions=1,
    )


SLOW_DIVISOR = 20

ENGINES: tuple[Engine, ...] = (
    Engine(
        "librdkafka",
        "no job, the limit: Python client, fetch.queue.backoff.ms=5, queued.min.messages=1000000",
        "no job",
        lambda: [sys.executable, "-m", "bench.jobs.librdkafka_job"],
        makes_results=False,
    ),
    Engine(
        "crossfade",
        "columnar Faust worker, 1 process, snapshot 1 s",
        "effectively once",
        lambda: [sys.executable, "-m", "bench.jobs.crossfade_job"],
    ),
    _product(),
    _product(density=10),
    _flink(1, "at-least-once"),
    _flink(1, "exactly-once"),
    _flink(2, "exactly-once"),
    _streams(1),
    _streams(2),
    _streams_dsl(),
    Engine(
        "quix",
        "3.28.1, exactly-once, commit 1 s, RocksDB, group_by track; 1 partition: of more, group_by drops events",
        "exactly once",
        _job("quix"),
        partitions=1,
        divisor=SLOW_DIVISOR,
    ),
    Engine(
        "bytewax",
        "0.21.1, recovery on, epoch 1 s, windows final at the end of the input",
        "at least once",
        _job("bytewax"),
        divisor=SLOW_DIVISOR,
    ),
    Engine(
        "faust",
        "stock 0.15.3, tumbling Table in memory, changelog per event",
        "at least once",
        _job("faust"),
        divisor=SLOW_DIVISOR,
    ),
)
NAMES = tuple(dict.fromkeys(engine.name for engine in ENGINES))
