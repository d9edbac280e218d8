"""`python -m producers.simulator`: sends the events of a scenario into Kafka."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from producers.batch_door import BatchDoor
from producers.door import now_ms
from producers.event import milliseconds
from producers.identity import pseudonyms
from producers.simulator.reporting import reported
from producers.simulator.scenario import NAMES, load
from producers.simulator.sending import Sending
from producers.simulator.stream import Plan, Stream, encode
from producers.source import Source, run
from schemas import kafka, topics
from schemas.reasons import BadRecordError
from schemas.settings import Settings, settings

RATE = 200.0
RATE_MIN, SPAN_S = 20.0, 3_600
"""A run with an end tells an hour, so that sessions end in it too; few events less, and very many more."""

BACKFILL_MS = 1_200_000
BACKFILL_MAX_EVENTS = 240_000
CHUNK = 50_000
"""Events that are encoded together, and between two looks at the stop signal."""

_LOOK_AGAIN_S = 0.2
_ATTEMPTS, _ATTEMPT_S = 10, 0.2


def _time(text: str) -> int:
    try:
        return milliseconds(text)
    except BadRecordError as error:
        raise argparse.ArgumentTypeError(error.detail.split(";")[0]) from None


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e7:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    arguments = argparse.ArgumentParser(prog="python -m producers.simulator", description=__doc__)
    add = arguments.add_argument
    add("--scenario", default="spotify", help=f"one of {', '.join(NAMES)}")
    add("--config", type=Path, help="a scenario file of one's own (YAML)")
    add(
        "--rate",
        type=_positive,
        help=f"events per second, at real pace (without it: {RATE:g} live, or --events at once)",
    )
    add("--events", type=int, help="how many; without it the simulation runs until it is stopped")
    add("--seed", type=int, default=1, help="another seed, another crowd")
    add("--start", type=_time, help="event time of the first event, ISO 8601 with a zone")
    add("--labels", type=Path, help="where the planted incidents are written")
    add("--output", type=Path, help="write JSON lines to a file instead of Kafka")
    add("--truth", type=Path, help="write every track with its hidden scene to a file of JSON lines")
    add("--report", action="store_true", help="simulate a week, and compare it with what is known of real listeners")
    add("--json", type=Path, help="with --report: write the table to a file")
    add("--picture", type=Path, help="with --report: where to draw it, .svg or .png (default: the data directory)")
    add("--end-of-input", action="store_true", help="close all open windows after the last event")
    return arguments


def plan_of(options: argparse.Namespace, now: int) -> tuple[Plan, int | None]:
    """The plan, and the event time that stands for now: events after it wait (None: nothing waits)."""
    live = options.events is None
    rate = options.rate or (RATE if live else min(RATE, max(RATE_MIN, options.events / SPAN_S)))
    if options.start is not None:
        start = options.start
    elif live:
        start = now - min(BACKFILL_MS, round(BACKFILL_MAX_EVENTS / rate * 1000))
    else:
        start = now if options.rate else now - round(options.events / rate * 1000)
    name = options.scenario if options.config is None else options.config.stem
    plan = Plan(name, load(options.scenario, options.config), options.seed, rate, start, options.events)
    if live:
        return plan, max(now, start)
    return plan, start if options.rate else None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status."""
    options = parser().parse_args(argv)
    if options.report:
        return reported(options.seed, options.json, options.picture or settings().data_dir / "simulator-report.svg")
    return run("simulator", settings(), lambda source: _simulate(source, options))


def _simulate(source: Source, options: argparse.Namespace) -> None:
    if options.events is not None and options.events < 1:
        raise ValueError("--events is at least 1")
    plan, now = plan_of(options, now_ms())
    stream = Stream(plan)
    if options.truth:
        stream.catalogue.truth().write_ndjson(options.truth)
    if options.output:
        _write(source, stream, options.output, options.labels)
        return
    labels = options.labels or source.settings.data_dir / f"labels-{plan.name}.json"
    door = source.open_door("simulator", BatchDoor)
    try:
        _send(source, stream, door, labels, now)
        source.finish(door, options.end_of_input)
    finally:
        door.close()
    source.summary(door, scenario=plan.name, labels=str(labels))


def _send(source: Source, stream: Stream, door: BatchDoor, labels: Path, now: int | None) -> None:
    """Sends what is due: everything at once, or what has happened by now when time stands for something."""
    known = source.settings
    names = pseudonyms(known, known.tenant)
    sending = Sending(stream, door, names, known.tenant, known.location_precision)
    ahead_ms = 0 if now is None else now - now_ms()
    written = -1
    live = stream.plan.events is None
    for rows in stream.batches(after_ms=_newest_ms(source.settings) if live else 0):
        if written != len(stream.incidents):
            written = len(stream.incidents)
            _write_labels(labels, stream, source.settings)
        sent = 0
        while sent < len(rows) and not source.stopping:
            due = len(rows) if now is None else int(np.searchsorted(rows["arrival"], now_ms() + ahead_ms, "right"))
            if due > sent:
                sending.send(rows[sent : (sent := min(due, sent + CHUNK))])
            else:
                door.report()
                source.sleep(_LOOK_AGAIN_S)
        if source.stopping:
            break


def _newest_ms(known: Settings) -> int:
    """When the newest event came in, at most now; 0 when there is none.

    A live simulation tells nothing older: event time has moved on to there, so all of it would be late.
    """
    client = kafka.admin(known)
    newest = OffsetSpec.max_timestamp()
    asked = {TopicPartition(topics.EVENTS, p): newest for p in kafka.partitions_of(client, topics.EVENTS)}
    for _ in range(_ATTEMPTS):
        try:
            found = [
                int(answer.result().timestamp) for answer in client.list_offsets(asked, request_timeout=5).values()
            ]
        except KafkaException:  # a topic that was made just now has no leader for a moment
            time.sleep(_ATTEMPT_S)
        else:
            return max(0, min(max(found), now_ms()))
    raise kafka.KafkaUnavailableError(f"Kafka does not tell where {topics.EVENTS} ends: start the simulator again.")


def _write(source: Source, stream: Stream, output: Path, labels: Path | None) -> None:
    count = 0
    with output.open("wb") as file:
        for rows in stream.batches():
            file.write(b"".join(encode(item) + b"\n" for item in stream.items(rows)))
            count += len(rows)
            if source.stopping:
                break
    if labels:
        _write_labels(labels, stream, source.settings)
    print(json.dumps({"events": count, "file": str(output), "stopped": source.stopping}))


def _write_labels(path: Path, stream: Stream, known: Settings) -> None:
    """Replaces the file at once. Bots are named by their pseudonyms too, as alerts name them."""
    labels: list[dict[str, Any]] = stream.labels()
    of = pseudonyms(known, known.tenant).of
    for dimension in (label["dimension"] for label in labels):
        if "user_id" in dimension:
            dimension["pseudonym"] = of(dimension["user_id"])
        if "user_ids" in dimension:
            dimension["pseudonyms"] = [of(user_id) for user_id in dimension["user_ids"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(labels, indent=2) + "\n")
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
