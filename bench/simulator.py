"""`python -m bench.simulator`: a million listeners and tracks into a real Kafka, next to the plain way of sending.

Each way runs in a process of its own. Both send events of the same plan: the simulator makes them as it goes, the plain
way has them ready as dicts, writes each with fastavro and produces it with confluent-kafka.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fastavro

from bench import results
from bench.cluster import cluster
from crossfade import topics as topic_list
from producers.batch_door import BatchDoor
from producers.identity import pseudonyms
from producers.simulator.__main__ import CHUNK
from producers.simulator.scenario import load
from producers.simulator.sending import Sending
from producers.simulator.stream import Plan, Stream
from schemas import kafka, topics
from schemas.codec import schema
from schemas.settings import Settings

MILLION = 1_000_000
RATE = 3_000.0
START_MS = 1_767_600_000_000
_PLAIN_SHARE = 20


def stream_of(events: int) -> Stream:
    """The plan of both ways."""
    scenario = load("spotify").model_copy(
        update={"listeners": MILLION, "tracks": MILLION, "artists": 100_000, "incidents": []}
    )
    return Stream(Plan("bench", scenario, 1, RATE, START_MS, events))


def bulk(settings: Settings, events: int) -> dict[str, Any]:
    """The simulator's own way: from nothing to the last acknowledgement."""
    began = time.monotonic()
    stream = stream_of(events)
    door = BatchDoor(settings, "simulator")
    sending = Sending(stream, door, pseudonyms(settings, settings.tenant), settings.tenant)
    batches = stream.batches()
    first = next(batches)
    started = time.monotonic()
    for rows in itertools.chain((first,), batches):
        for at in range(0, len(rows), CHUNK):
            sending.send(rows[at : at + CHUNK])
    door.flush()
    seconds = time.monotonic() - started
    door.close()
    return {"events": events, "seconds": seconds, "start_s": started - began}


def plain(settings: Settings, events: int) -> dict[str, Any]:
    """Fastavro one by one, and a call of confluent-kafka for each."""
    stream = stream_of(events)
    of = pseudonyms(settings, settings.tenant).of
    told = [event for rows in stream.batches() for event in stream.teller.client_events(rows, _users(stream, rows))]
    added = {"tenant": settings.tenant, "source": "simulator", "received_at": START_MS}
    records = [{**event, "user_id": of(event["user_id"]), **added} for event in told]
    avro, producer = fastavro.parse_schema(schema("listening_event")), kafka.producer(settings)
    started = time.monotonic()
    for record in records:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, avro, record)
        while True:
            try:
                producer.produce(topics.EVENTS, out.getvalue(), record["user_id"])
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush(120)
    return {"events": len(records), "seconds": time.monotonic() - started, "start_s": 0.0}


def _users(stream: Stream, rows: Any) -> list[str]:
    return [stream.user_id(listener) for listener in rows["listener"].tolist()]


def measure(way: str, settings: Settings, events: int) -> dict[str, Any]:
    """Runs one way in a process of its own; peak memory is that of the process."""
    command = [sys.executable, "-m", "bench.simulator", "--way", way, "--events", str(events)]
    command += ["--servers", settings.kafka_bootstrap_servers, "--data-dir", str(settings.data_dir)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=600)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["rate"] = found["events"] / found["seconds"]
    print(f"{way:8} {found['rate']:>10,.0f} events/s  {found['peak_mb']:>5} MB  {found['cpu_s']:.1f} CPU-s")
    return found


def main() -> None:
    """Runs both and writes the section."""
    arguments = argparse.ArgumentParser(prog="python -m bench.simulator", description=__doc__)
    arguments.add_argument("--events", type=int, default=10_000_000)
    arguments.add_argument("--dry", action="store_true", help="leave bench/RESULTS.md as it is")
    arguments.add_argument("--way", choices=("bulk", "plain"), help=argparse.SUPPRESS)
    arguments.add_argument("--servers", help=argparse.SUPPRESS)
    arguments.add_argument("--data-dir", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.way:
        settings = Settings(data_dir=options.data_dir, kafka_bootstrap_servers=options.servers)
        found = {"bulk": bulk, "plain": plain}[options.way](settings, options.events)
        used = resource.getrusage(resource.RUSAGE_SELF)
        found["peak_mb"], found["cpu_s"] = used.ru_maxrss >> 10, used.ru_utime + used.ru_stime
        print(json.dumps(found))
        return
    with cluster() as here:
        topic_list.apply(here.settings)
        ours = measure("bulk", here.settings, options.events)
        theirs = measure("plain", here.settings, max(1, options.events // _PLAIN_SHARE))
    if not options.dry:
        results.write("Simulator", report(ours, theirs, options.events))


def report(ours: dict[str, Any], theirs: dict[str, Any], events: int) -> str:
    """The section."""
    head = ["way", "events", "events/s", "peak memory (MB)"]
    rows = [
        ["simulator: made, encoded and sent in bulk", *_figures(ours)],
        ["the same events, ready as dicts: fastavro and confluent-kafka one by one", *_figures(theirs)],
    ]
    return "\n\n".join(
        [
            f"`python -m bench.simulator --events {events}`: {results.machine()}.",
            "One process, a million listeners and a million tracks, into a real Kafka (acks=all, idempotent), until "
            "the last acknowledgement. The simulator's time holds the simulation itself; the plain way's begins when "
            "all of its events are in memory.",
            results.table(head, rows),
            f"The simulator does {ours['rate'] / theirs['rate']:.1f} times the plain way; it was ready to send after "
            f"{ours['start_s']:.0f} s.",
        ]
    )


def _figures(found: dict[str, Any]) -> list[str]:
    return [f"{found['events']:,}", f"{found['rate']:,.0f}", f"{found['peak_mb']:,}"]


if __name__ == "__main__":
    main()
