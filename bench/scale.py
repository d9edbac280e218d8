"""How the worker scales: processes and partitions, memory over more events, and the time from a kill to a result.

`python -m bench.scale [--events N] [--workers 1,2,4] [--partitions 4,16,64] [--only workers,memory,kill] [--json FILE]`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import oracle, results, trial
from bench.cluster import Cluster, cluster
from bench.engines import Inputs, product_environment, product_topics
from bench.feed import Feed
from bench.generator import Shape, generate
from crossfade import topics as topic_maker
from crossfade.problem import ProblemError
from schemas import kafka, topics

_SIMPLE = [sys.executable, "-m", "bench.jobs.crossfade_job"]
_LIMIT = [sys.executable, "-m", "bench.jobs.librdkafka_job"]
_PRODUCT = [sys.executable, "-m", "stream_processors"]
_KILL_EVENTS_PER_S, _KILL_SPEED = 10_000, 60
"""The input around a kill: so many events in a second, which holds so many seconds of event time."""


def workers(here: Cluster, shape: Shape, counts: list[int], timeout_s: float) -> Iterator[dict[str, Any]]:
    """The simple job with several processes on one input, and librdkafka as the reference in the same run."""
    inputs = Inputs(here, shape)
    topic, log = inputs.of(1, shape.partitions)
    wanted, window_ms = oracle.simple(log, here.settings.window_ms), here.settings.window_ms

    def judge(rows: list[Any]) -> str | None:
        return oracle.problem_of_simple(rows, wanted)

    limit = trial.Task(topic, log.frame.height, "bench-limit", 0, judge)
    reference = trial.run(here, limit, _LIMIT, {}, timeout_s)
    for count in counts:
        output = f"bench-scale-{shape.partitions}-{count}"
        here.create(output, 4)
        here.create(f"{output}-parts", 1)
        task = trial.Task(topic, log.frame.height, output, wanted.height, judge, window_ms, here.settings.grace_ms)
        found = trial.run(here, task, _SIMPLE, {}, timeout_s, processes=count)
        here.delete(*(name for name in here.topics() if name.startswith(output)))
        yield {
            "bench": "workers",
            "workers": count,
            "partitions": shape.partitions,
            "events_per_s": round(found.events_per_s),
            "events_per_cpu_s": round(found.events_per_cpu_s),
            "of_librdkafka": round(found.events_per_cpu_s / max(reference.events_per_cpu_s, 1), 3),
            "batch_events": round(found.batch_events or 0),
            "rss_mb": round(found.rss_mb),
            "correct": found.problem is None,
            "problem": found.problem,
        }
    here.delete(topic)


def memory(here: Cluster, shape: Shape, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Peak memory of the complete worker over the events and over ten times as many, an event a minute and listener.

    First with so few listeners and tracks that the first run already holds what the worker ever holds: a whole day, and
    all the ids of each partition. So nothing but the events is more in the second. Then with all listeners and tracks.
    """
    for number, (times, divisor) in enumerate(((2, 50), (20, 50), (10, 1))):
        events, users, tracks = times * shape.events, shape.users // divisor, shape.tracks // divisor
        part = replace(shape, events=events, minutes=events / users, users=users, tracks=tracks)
        here.delete(topics.EVENTS)
        inputs = Inputs(here, part)
        topic, log = inputs.of(1, part.partitions)
        product_topics(here)
        window_ms = here.settings.window_ms
        wanted = oracle.product(log, window_ms)

        def judge(rows: list[Any], wanted: Any = wanted, window_ms: int = window_ms) -> str | None:
            return oracle.problem_of_product(rows, wanted, window_ms)

        task = trial.Task(topic, log.frame.height, topics.WINDOW_METRICS, wanted.height, judge, window_ms)
        environment = product_environment(here, number)
        found = trial.run(here, task, _PRODUCT, environment, timeout_s, here.health_port)
        topic_maker.delete(here.settings)
        yield {
            "bench": "memory",
            "listeners": users,
            "events": log.frame.height,
            "hours": round(part.minutes / 60, 1),
            "events_per_s": round(found.events_per_s),
            "rss_mb": round(found.rss_mb),
            "tenths_mb": [round(mb) for mb in found.tenths_mb],
            "correct": found.problem is None,
            "problem": found.problem,
        }


def kills(here: Cluster, shape: Shape, rounds: int, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Starts the complete worker without state, with state, and after kill -9, while events keep coming."""
    product_topics(here)
    environment = product_environment(here, 0)
    directory = here.settings.data_dir / "killed"
    watcher = kafka.consumer(here.settings, "bench-watcher")
    seconds = 20 * (rounds + 2)
    steady = replace(shape, events=_KILL_EVENTS_PER_S * seconds, minutes=seconds / 60 * _KILL_SPEED)
    with Feed(here, topics.EVENTS, generate(steady), _KILL_EVENTS_PER_S):
        for number in range(rounds + 2):
            what = ("cold start", "warm start")[number] if number < 2 else "after kill -9"
            begun = time.monotonic()
            with trial.started(_PRODUCT, environment, directory) as running:
                threading.Thread(
                    target=running.poll_health, args=(here.health_port, topics.EVENTS), daemon=True
                ).start()
                before = here.ends(topics.WINDOW_METRICS, watcher)
                ready = _until(lambda r=running: bool(r.progress), begun, timeout_s)
                result = _until(lambda b=before: here.ends(topics.WINDOW_METRICS, watcher) > b, begun, timeout_s)
                time.sleep(2)  # a snapshot or two, so that there is a state
                if number:
                    running.process.kill()
            yield {
                "bench": "kill",
                "start": what,
                "owns_partitions_s": None if ready is None else round(ready, 2),
                "first_new_result_s": None if result is None else round(result, 2),
            }
    watcher.close()


def _until(happened: Any, begun: float, timeout_s: float) -> float | None:
    while time.monotonic() - begun < timeout_s:
        if happened():
            return time.monotonic() - begun
        time.sleep(0.05)
    return None


def report(rows: list[dict[str, Any]], command: str) -> str:
    """The section."""
    told = [f"`{command}`: {results.machine()}."]
    if many := [row for row in rows if row["bench"] == "workers"]:
        told += [
            "### Workers and partitions\n\nThe simple job of Engines, several processes on the same cores; "
            "the last but one column is events per CPU-second against librdkafka reading the same input in this run.",
            results.table(
                ["workers", "partitions", "events/s", "per CPU-second", "events a batch", "memory (MB)",
                 "of librdkafka", "correct"],
                [
                    [r["workers"], r["partitions"], f"{r['events_per_s']:,}", f"{r['events_per_cpu_s']:,}",
                     f"{r['batch_events']:,}", r["rss_mb"], r["of_librdkafka"], r["problem"] or "yes"]
                    for r in many
                ],
            ),
        ]  # fmt: skip
    if memories := [row for row in rows if row["bench"] == "memory"]:
        told += [
            "### Memory\n\nPeak of the complete worker, one process, as fast as it goes. So many listen at any time, "
            "each for an hour, and send an event a minute; hours are of event time.",
            results.table(
                ["listeners", "events", "hours", "events/s", "peak memory (MB)", "... in each tenth", "correct"],
                [
                    [f"{r['listeners']:,}", f"{r['events']:,}", r["hours"], f"{r['events_per_s']:,}", r["rss_mb"],
                     ", ".join(map(str, r["tenths_mb"])), r["problem"] or "yes"]
                    for r in memories
                ],
            ),
        ]  # fmt: skip
    if starts := [row for row in rows if row["bench"] == "kill"]:
        told += [
            f"### Starts and kills\n\nThe complete worker, while {_KILL_EVENTS_PER_S:,} events/s come in; seconds "
            "from the start of the process. After kill -9 the group waits out the session of the dead worker (6 s).",
            results.table(
                ["start", "owns its partitions (s)", "first new result (s)"],
                [[row["start"], row["owns_partitions_s"], row["first_new_result_s"]] for row in starts],
            ),
        ]
    return "\n\n".join(told)


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints, and writes the section of RESULTS.md; 1 when an output was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--partitions", default="4,16,64")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--only", default="workers,memory,kill")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for each measurement")
    parser.add_argument("--no-results", action="store_true", help="leaves RESULTS.md as it is")
    options = parser.parse_args(arguments)
    counts = [int(one) for one in options.workers.split(",")]
    shape, rows = Shape(options.events), []
    command = " ".join(["python -m bench.scale", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        with cluster() as here:
            benches: list[Iterator[dict[str, Any]]] = []
            if "workers" in options.only:
                for partitions in options.partitions.split(","):
                    part = replace(shape, partitions=int(partitions))
                    benches.append(workers(here, part, counts, options.timeout))
            if "memory" in options.only:
                benches.append(memory(here, shape, options.timeout))
            if "kill" in options.only:
                benches.append(kills(here, shape, options.kills, 60.0))
            for bench in benches:
                for row in bench:
                    print(json.dumps(row), flush=True)
                    rows.append(row)
    except ProblemError as error:
        sys.exit(str(error))
    text = report(rows, command)
    print(f"\n{text}")
    if not options.no_results:
        results.write("Scale", text)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return int(any(row.get("correct") is False for row in rows))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
