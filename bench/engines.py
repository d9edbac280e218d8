"""The same job on the same input in one run, engine after engine, every output judged by one oracle.

`python -m bench.engines [--events N] [--engines crossfade,flink,...] [--rounds N] [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from bench import oracle, results, trial
from bench.cluster import BATCHES, Cluster, cluster
from bench.engine_list import ENGINES, NAMES, Engine
from bench.generator import Log, Shape, generate
from bench.install import UnavailableError
from crossfade import topics as topic_maker
from crossfade.problem import ProblemError
from schemas import topics

_UNMEASURED = 1000
"""The number of a run whose row is not kept."""

_KEEP_CREATED = {"message.timestamp.type": "CreateTime"}


@dataclass
class Inputs:
    """The input and its shares for slow engines, each written to Kafka when it is first asked for.

    The complete worker knows one topic: an input of another density takes the place of the one before.
    """

    cluster: Cluster
    shape: Shape
    logs: dict[str, Log] = field(default_factory=dict)

    def of(self, divisor: int, partitions: int, density: int = 1) -> tuple[str, Log]:
        """(topic, log) of a share, or of the whole with `density` times the events in a minute of event time."""
        shape = self.shape if divisor == 1 else self.shape.share(divisor)
        shape = replace(shape, partitions=partitions, minutes=shape.minutes / density)
        whole = divisor == 1 and partitions == self.shape.partitions
        topic = topics.EVENTS if whole else f"{topics.EVENTS}-{divisor}-{partitions}"
        if topic not in self.logs or self.logs[topic].shape != shape:
            log = generate(shape)
            self.cluster.create(topic, partitions, **_KEEP_CREATED)
            seconds = self.cluster.write(topic, log)
            print(f"input {topic}: {log.frame.height:,} events written in {seconds:.1f} s", file=sys.stderr)
            self.logs[topic] = log
        return topic, self.logs[topic]


def measure(
    inputs: Inputs, engine: Engine, number: int, timeout_s: float, stop_signal: int = signal.SIGTERM
) -> dict[str, Any]:
    """One row of the table; a skipped engine has the reason in `problem` and no figures."""
    row: dict[str, Any] = {
        "engine": engine.name,
        "config": engine.config,
        "guarantee": engine.guarantee,
        "density": engine.density,
    }
    try:
        command = engine.command()
    except UnavailableError as error:
        return {**row, "problem": f"skipped: {error}"}
    try:
        return _measured(inputs, engine, number, timeout_s, stop_signal, row, command)
    except (KafkaException, TimeoutError) as error:
        return {**row, "problem": f"not measured, Kafka: {error}"}


def warm_up(inputs: Inputs, engines: Iterable[Engine], timeout_s: float) -> None:
    """Runs our own engines once, unmeasured: kernels get compiled, and the broker's JVM is warm for all alike."""
    for engine in {engine.name: engine for engine in engines if engine.name.startswith("crossfade")}.values():
        print(f"{engine.name}: warming up", file=sys.stderr)
        measure(inputs, replace(engine, density=1), _UNMEASURED, timeout_s)


def _measured(
    inputs: Inputs,
    engine: Engine,
    number: int,
    timeout_s: float,
    stop_signal: int,
    row: dict[str, Any],
    command: list[str],
) -> dict[str, Any]:
    topic, log = inputs.of(engine.divisor, engine.partitions, engine.density)
    if engine.divisor > 1:
        row["config"] += f"; {log.shape.events:,} events"
    here, output = inputs.cluster, f"bench-{number}-{engine.name}"
    environment, port, window_ms = dict(engine.environment), None, here.settings.window_ms
    if engine.is_product:
        output, port = topics.WINDOW_METRICS, here.health_port
        product_topics(here)
        wanted = oracle.product(log, window_ms)
        environment |= product_environment(here, number)
    else:
        here.create(output, inputs.shape.partitions)
        if engine.name == "crossfade":
            here.create(f"{output}-parts", 1)
        wanted = oracle.simple(log, window_ms)

    def judge(rows: list[Any]) -> str | None:
        if engine.is_product:
            return oracle.problem_of_product(rows, wanted, window_ms)
        return oracle.problem_of_simple(rows, wanted)

    rows = oracle.parts(log, window_ms) if engine.is_partial else wanted.height
    rows = rows if engine.makes_results else 0
    task = trial.Task(topic, log.frame.height, output, rows, judge, window_ms, here.settings.grace_ms)
    found = trial.run(here, task, command, environment, timeout_s, port, stop_signal=stop_signal)
    here.delete(*(name for name in here.topics() if name not in inputs.logs and not name.startswith("__")))
    return {
        **row,
        "events_per_s": round(found.events_per_s),
        "events_per_cpu_s": round(found.events_per_cpu_s),
        "rss_mb": round(found.rss_mb),
        "correct": found.problem is None,
        "problem": found.problem,
    }


def product_topics(here: Cluster) -> None:
    """Makes the topics of the complete worker; window-metrics with the broker's time. Raises TopicsError."""
    here.create(topics.WINDOW_METRICS, 1)
    for tries_left in (2, 1, 0):
        try:
            topic_maker.apply(here.settings)
            return
        except topic_maker.TopicsError:  # the broker was still busy deleting one of the same name
            if not tries_left:
                raise


def product_environment(here: Cluster, number: int) -> dict[str, str]:
    """What the complete worker is started with."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": here.settings.kafka_bootstrap_servers,
        "CROSSFADE_DATA_DIR": str(here.settings.data_dir / f"product-{number}"),
        "CROSSFADE_WORKER_METRICS_PORT": str(here.health_port),
        "CROSSFADE_IDLE_MS": "600000",  # the input ends; time must not be moved on by the clock on the wall
    }


def there_and_back(engines: Sequence[Engine], rounds: int) -> Iterator[tuple[int, Engine]]:
    """(place, engine), every second round backwards: a machine that gets slower does so for all alike."""
    for number in range(rounds):
        yield from list(enumerate(engines))[:: -1 if number % 2 else 1]


def median(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row in the middle by events per CPU-second; the first that was wrong or not measured, if any was."""
    failed = [row for row in rows if not row.get("correct")]
    return failed[0] if failed else sorted(rows, key=lambda row: row["events_per_cpu_s"])[len(rows) // 2]


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes RESULTS.md and the picture; 1 when an engine that ran was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.engines", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--engines", default=",".join(NAMES), help=f"of {','.join(NAMES)}")
    parser.add_argument("--json", type=Path, help="writes the measurements as a list of objects")
    parser.add_argument("--minutes", type=float, default=20.0, help="of event time that the events span")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each engine, there and back; their medians")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for each engine")
    parser.add_argument("--no-results", action="store_true", help="leaves RESULTS.md and the picture as they are")
    options = parser.parse_args(arguments)
    chosen = options.engines.split(",")
    if unknown := set(chosen) - set(NAMES):
        parser.error(f"no engine {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    engines = [engine for engine in ENGINES if engine.name in chosen]
    found: list[list[dict[str, Any]]] = [[] for _ in engines]
    try:
        with cluster() as here:
            inputs = Inputs(here, Shape(options.events, minutes=options.minutes, seed=options.seed))
            warm_up(inputs, engines, options.timeout)
            for number, (place, engine) in enumerate(there_and_back(engines, options.rounds)):
                row = measure(inputs, engine, number, options.timeout)
                found[place].append(row)
                print(results.engine_line(row), flush=True)
    except ProblemError as error:
        sys.exit(str(error))
    rows = [median(of_engine) for of_engine in found]
    command = f"python -m bench.engines --events {options.events} --engines {options.engines} --rounds {options.rounds}"
    report = results.engines_report(rows, command, options.events, BATCHES)
    print(f"\n{report}")
    if not options.no_results:
        results.write("Engines", report)
        results.picture(rows)
    if options.json:
        fields = ("engine", "config", "events_per_s", "events_per_cpu_s", "rss_mb", "correct", "guarantee")
        measured = [{name: row[name] for name in fields} for row in rows if "correct" in row]
        options.json.write_text(json.dumps(measured, indent=2) + "\n")
    return int(any(row.get("correct") is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
