"""`crossfade ledger --verify`: every record counted again, Kafka against warehouse, and the ids of what differs.

Kafka is read from the earliest record that it keeps up to the offset of the last commit; what stands behind it is in
flight. Both sides go into a scratch database on disk beside the data, so that memory does not grow with their number.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from crossfade.output import Format, answer_of, show
from schemas import topics
from schemas.kafka import KafkaUnavailableError, admin, codec_of, consumer
from schemas.settings import Settings
from sinks.decode import Piece, decode
from sinks.ledger import counts, ends_of
from sinks.records import Records, sorted_out
from sinks.target import Place
from warehouse.runner import Bulk, reader

NAMED_MAX = 100_000
"""At most so many ids are named of each kind; they are counted all the same."""

_MEMORY = "256MB"
_AT_ONCE = 500_000
_SILENCE_S = 30.0
_LETTERS_WITHIN_S = 15.0
_TELL_THE_END: dict[str, Any] = {"enable.partition.eof": True}

_TABLES = """
CREATE TABLE kafka_events (tenant VARCHAR, event_id VARCHAR, kafka_partition BIGINT, kafka_offset BIGINT);
CREATE TABLE kafka_letters (id VARCHAR, topic VARCHAR);
CREATE TABLE stored_events (tenant VARCHAR, event_id VARCHAR, kafka_partition BIGINT, kafka_offset BIGINT);
CREATE TABLE stored_letters (id VARCHAR, kafka_offset BIGINT);
"""
_MISSING = """
SELECT tenant, event_id, MIN(kafka_partition) AS kafka_partition, MIN(kafka_offset) AS kafka_offset
FROM kafka_events ANTI JOIN stored_events USING (tenant, event_id)
GROUP BY tenant, event_id ORDER BY kafka_partition, kafka_offset
"""
_DOUBLED = """
SELECT tenant, event_id, COUNT(*) AS copies FROM stored_events
GROUP BY tenant, event_id HAVING COUNT(*) > 1 ORDER BY event_id
"""
_FOREIGN = """
SELECT tenant, event_id, kafka_partition, kafka_offset
FROM stored_events ANTI JOIN kafka_events USING (tenant, event_id, kafka_partition, kafka_offset) ORDER BY event_id
"""
_LETTERS_MISSING = "SELECT DISTINCT id FROM kafka_letters ANTI JOIN stored_letters USING (id) ORDER BY id"
_LETTERS_DOUBLED = "SELECT id FROM stored_letters GROUP BY id HAVING COUNT(*) > 1 ORDER BY id"


@dataclass
class Verdict:
    """What the recount found. `foreign`: rows that no record in Kafka accounts for."""

    checked: int
    in_flight: int
    missing: list[dict[str, Any]] = field(default_factory=list)
    doubled: list[dict[str, Any]] = field(default_factory=list)
    foreign: list[dict[str, Any]] = field(default_factory=list)
    letters_missing: list[str] = field(default_factory=list)
    letters_doubled: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, twice, or there without having been accepted."""
        return not (self.missing or self.doubled or self.foreign or self.letters_missing or self.letters_doubled)

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it; events by their ids, the places of missing ones in `details`."""
        return {
            "ok": self.ok,
            "checked": self.checked,
            "in_flight": self.in_flight,
            "missing": [row["event_id"] for row in self.missing],
            "doubled": [row["event_id"] for row in self.doubled],
            "foreign": [row["event_id"] for row in self.foreign],
            "missing_dead_letters": self.letters_missing,
            "doubled_dead_letters": self.letters_doubled,
            "details": {"missing": self.missing, "doubled": self.doubled, "foreign": self.foreign},
        }


def verify(settings: Settings, form: Format) -> bool:
    """Recounts and prints what differs; whether nothing does. Raises KafkaUnavailableError and WarehouseError."""
    verdict = recount(settings, reader(settings))
    told = verdict.as_dict()
    if form is Format.JSON:
        print(json.dumps(told, ensure_ascii=False), flush=True)
        return verdict.ok
    kinds = ("missing", "doubled", "foreign", "missing_dead_letters", "doubled_dead_letters")
    rows = [{"finding": kind.replace("_", " "), "id": each} for kind in kinds for each in told[kind]]
    if rows or form is Format.CSV:
        show(answer_of(rows, "finding", "id"), form)
    outcome = "each is accounted for once" if verdict.ok else "not all are accounted for once"
    print(f"{verdict.checked:,} events counted again, {verdict.in_flight:,} in flight: {outcome}", file=sys.stderr)
    return verdict.ok


def recount(settings: Settings, source: Bulk) -> Verdict:
    """Everything that is committed, counted again. Takes about 10 s a million events."""
    progress = counts(source).progress
    places = {
        place: (max(earliest, progress[place].first_offset), progress[place].next_offset, end)
        for place, (earliest, end) in ends_of(admin(settings), (topics.EVENTS, topics.DEAD_LETTERS)).items()
        if place in progress
    }
    ranges = {place: range(first, following) for place, (first, following, _) in places.items()}
    in_flight = sum(end - following for (topic, _), (_, following, end) in places.items() if topic == topics.EVENTS)
    with (
        tempfile.TemporaryDirectory(prefix="verify-", dir=settings.data_dir) as folder,
        duckdb.connect(str(Path(folder) / "verify.duckdb")) as scratch,
    ):
        scratch.execute(f"SET memory_limit = '{_MEMORY}'; SET preserve_insertion_order = false; {_TABLES}")
        accepted = _read_kafka(settings, ranges, scratch)
        _read_warehouse(source, ranges, scratch)
        return Verdict(
            accepted,
            in_flight,
            _really_missing(source, _rows(scratch, _MISSING)),
            _rows(scratch, _DOUBLED),
            _rows(scratch, _FOREIGN),
            _still_missing(source, [row["id"] for row in _rows(scratch, _LETTERS_MISSING)]),
            [row["id"] for row in _rows(scratch, _LETTERS_DOUBLED)],
        )


def _rows(scratch: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    found: pl.DataFrame = scratch.execute(f"{sql} LIMIT {NAMED_MAX}").pl()
    return found.to_dicts()


def _insert(scratch: duckdb.DuckDBPyConnection, table: str, rows: pl.DataFrame) -> None:
    if rows.height:
        scratch.register("_rows", rows.to_arrow())
        scratch.execute(f"INSERT INTO {table} SELECT * FROM _rows")  # noqa: S608 - tables of this file
        scratch.unregister("_rows")


_KEY = ["tenant", "event_id", "kafka_partition", "kafka_offset"]


def _read_kafka(settings: Settings, places: Mapping[Place, range], scratch: duckdb.DuckDBPyConnection) -> int:
    """What Kafka holds at these places; how many records that were accepted."""
    accepted = 0
    for piece in pieces(settings, places):
        if piece.topic == topics.EVENTS:
            _insert(scratch, "kafka_events", piece.rows.select(_KEY))
            letters = [f"{topics.EVENTS}/{bad.place[1]}/{bad.record.offset}" for bad in piece.broken]
            accepted += piece.rows.height + len(letters)
            found = pl.DataFrame({"id": letters}, schema={"id": pl.String}).with_columns(topic=pl.lit(topics.EVENTS))
        else:
            found = piece.rows.select(id="dead_letter_id", topic="topic")
            accepted += found["topic"].null_count()
        _insert(scratch, "kafka_letters", found)
    return accepted


def pieces(settings: Settings, places: Mapping[Place, range]) -> Iterator[Piece]:
    """The records of these ranges of offsets, decoded as the sink does; raises KafkaUnavailableError."""
    codecs = {topic: codec_of(settings, topic) for topic in {topic for topic, _ in places}}
    for records in records_of(settings, places):
        yield decode(records, codecs[records.topic])


def records_of(settings: Settings, places: Mapping[Place, range]) -> Iterator[Records]:
    """The records of these ranges of offsets, of each partition in order; raises KafkaUnavailableError."""
    waiting = {place: where.stop for place, where in places.items() if len(where)}
    client = consumer(settings, **_TELL_THE_END)
    try:
        client.assign([TopicPartition(*place, places[place].start) for place in waiting])
        heard = time.monotonic()
        while waiting:
            messages = client.consume(10_000, 0.5)
            heard = time.monotonic() if messages else heard
            if time.monotonic() - heard > _SILENCE_S:
                raise KafkaUnavailableError(f"Kafka has given nothing for {_SILENCE_S:.0f} s: is it busy or gone?")
            ended = {
                (message.topic(), message.partition())
                for message in messages
                if (error := message.error()) is not None and error.code() == KafkaError._PARTITION_EOF
            }
            wanted = [
                m for m in messages if m.error() is None and _is_within(waiting, m.topic(), m.partition(), m.offset())
            ]
            yield from sorted_out(wanted)[0]
            for at in client.position([TopicPartition(*place) for place in waiting]):
                place = (at.topic, at.partition)
                if place in ended or at.offset >= waiting[place]:
                    del waiting[place]
                    client.incremental_unassign([TopicPartition(*place)])
    except KafkaException as error:
        raise KafkaUnavailableError(f"Kafka cannot be read: {error.args[0].str()}") from None
    finally:
        client.close()


def _is_within(waiting: Mapping[Place, int], topic: str, partition: int, offset: int) -> bool:
    return offset < waiting.get((topic, partition), 0)


def _read_warehouse(source: Bulk, places: Mapping[Place, range], scratch: duckdb.DuckDBPyConnection) -> None:
    """The rows that these places brought, and all dead letters: one may have come by another record."""
    for (topic, partition), offsets in places.items():
        if topic != topics.EVENTS:
            continue
        for start in range(offsets.start, offsets.stop, _AT_ONCE):
            params = {"partition": partition, "start": start, "stop": min(start + _AT_ONCE, offsets.stop)}
            sql = (
                f"SELECT {', '.join(_KEY)} FROM events WHERE kafka_partition = @partition "  # noqa: S608 - ours
                "AND kafka_offset >= @start AND kafka_offset < @stop"
            )
            _insert(scratch, "stored_events", source.frame(sql, params))
    (last,) = source.query("SELECT MAX(kafka_offset) AS last FROM dead_letters").rows
    for start in range(0, (last["last"] or 0) + 1, _AT_ONCE):
        sql = (
            "SELECT dead_letter_id, kafka_offset FROM dead_letters "
            "WHERE kafka_offset >= @start AND kafka_offset < @stop"
        )
        _insert(scratch, "stored_letters", source.frame(sql, {"start": start, "stop": start + _AT_ONCE}))


def _really_missing(source: Bulk, candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those whose row came by an earlier record that Kafka no longer keeps."""
    missing = []
    for at in range(0, len(candidates), 1000):
        some = candidates[at : at + 1000]
        sql = "SELECT tenant, event_id FROM events WHERE event_id IN UNNEST(@ids)"
        there = {
            (row["tenant"], row["event_id"]) for row in source.query(sql, {"ids": [c["event_id"] for c in some]}).rows
        }
        missing += [each for each in some if (each["tenant"], each["event_id"]) not in there]
    return missing


def _still_missing(source: Bulk, letters: list[str]) -> list[str]:
    """Letters that are not there after a while: the worker writes them, and may be a little behind the sink."""
    end = time.monotonic() + _LETTERS_WITHIN_S
    while letters:
        there: set[str] = set()
        for at in range(0, len(letters), 1000):
            sql = "SELECT dead_letter_id FROM dead_letters WHERE dead_letter_id IN UNNEST(@ids)"
            there |= {row["dead_letter_id"] for row in source.query(sql, {"ids": letters[at : at + 1000]}).rows}
        letters = [each for each in letters if each not in there]
        if time.monotonic() > end:
            break
        time.sleep(0.5 if letters else 0)
    return letters
