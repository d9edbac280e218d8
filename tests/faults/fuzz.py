"""Fuzz of the way into the worker and the sink: `python -m tests.faults.fuzz --messages 1000000 [--seed S]`.

Mutated messages stand between healthy ones in real Kafka record batches, in all compressions, with and without headers
and keys. The real Wire reads them, the codec as the sink uses it reads them, and fastavro judges each by itself. Every
message is either refused with a reason, or proven valid by fastavro and told as fastavro tells it; no healthy
neighbour changes; worker and sink judge alike.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import fastavro
import polars as pl
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from schemas.codec import Codec, schema
from schemas.reasons import Reason
from stream_processors.transport.records import BatchRecords, EventBatch
from stream_processors.wire import Wire

ROWS = 400
_POOL = 1_000
_NOW_MS = 1_760_000_000_000
_BEFORE_CRC = 21
"""Bytes of a record batch that its checksum does not cover."""

_INT = range(-(1 << 31), 1 << 31)
_INT_FIELDS = ("position_ms", "ms_played", "duration_ms")
_TEXTS = ["", "a", "Beyoncé", "音楽", "🎧" * 9, "x" * 300, "null", "\x00", "O'Brien"]


def an_event(chance: random.Random, number: int) -> dict[str, Any]:
    """A valid event with all sorts of values."""

    def maybe(value: Any) -> Any:
        return value if chance.random() < 0.6 else None

    def text() -> str:
        return chance.choice(_TEXTS)

    whole = (0, 1, 63, 64, 8191, 8192, 1 << 20, (1 << 31) - 1)
    return {
        "event_id": f"e{number}",
        "event_type": chance.choice(["play", "pause", "skip", "like", "share"]),
        "user_id": f"{chance.randrange(1 << 64):032x}",
        "track_id": f"track-{chance.randrange(1000)}",
        "timestamp": chance.choice([_NOW_MS + number, 0, -1, _NOW_MS - chance.randrange(1 << 40)]),
        "platform": chance.choice(["spotify", "custom", text()]),
        **{name: maybe(text()) for name in ("location", "session_id", "device", "country", "track_name", "isrc")},
        **{name: maybe(text()) for name in ("reason_start", "reason_end", "app_version", "artist_name", "album_name")},
        **{name: maybe(chance.choice(whole)) for name in _INT_FIELDS},
        **{name: maybe(chance.random() < 0.5) for name in ("shuffle", "offline", "incognito")},
        "sent_at": maybe(_NOW_MS + number),
        "tenant": "default",
        "source": "collector",
        "received_at": _NOW_MS + number,
    }


class Mutator:
    """Ways to spoil a message."""

    def __init__(self, chance: random.Random, pool: list[bytes], head: bytes) -> None:
        self._chance, self._pool, self._head = chance, pool, head
        self._others = [
            Codec(name).encode(_least(schema(name)))
            for name in ("play", "track", "window_metrics", "dead_letter", "anomaly_alert")
        ]
        self.ways: list[Callable[[bytes], bytes]] = [
            *(self.flip, self.flip, self.flip_body, self.flip_body, self.truncate, self.extend, self.splice),
            *(self.swap, self.wrong_schema, self.wrong_body, self.other_prefix, self.long_varint, self.huge_length),
            *(self.other_encoding, self.noise, self.repeat),
        ]

    def __call__(self, value: bytes) -> tuple[str, bytes]:
        way = self._chance.choice(self.ways)
        return way.__name__, way(value)

    def flip(self, value: bytes) -> bytes:
        changed = bytearray(value)
        for _ in range(self._chance.choice((1, 1, 2, 8))):
            changed[self._chance.randrange(len(changed))] ^= 1 << self._chance.randrange(8)
        return bytes(changed)

    def flip_body(self, value: bytes) -> bytes:
        changed = bytearray(value)
        at = self._chance.randrange(len(self._head), len(changed))
        changed[at] = self._chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, changed[at] ^ 1, changed[at] ^ 2))
        return bytes(changed)

    def truncate(self, value: bytes) -> bytes:
        return value[: self._chance.randrange(len(value))]

    def extend(self, value: bytes) -> bytes:
        return value + self._chance.randbytes(self._chance.randrange(1, 40))

    def splice(self, value: bytes) -> bytes:
        other = self._chance.choice(self._pool)
        return value[: self._chance.randrange(len(value))] + other[self._chance.randrange(len(other)) :]

    def swap(self, value: bytes) -> bytes:
        at = self._chance.randrange(len(self._head), len(value))
        return value[: len(self._head)] + value[at:] + value[len(self._head) : at]

    def repeat(self, value: bytes) -> bytes:
        return value + value

    def wrong_schema(self, _: bytes) -> bytes:
        return self._chance.choice(self._others)

    def wrong_body(self, _: bytes) -> bytes:
        return self._head + self._chance.choice(self._others)[len(self._head) :]

    def other_prefix(self, value: bytes) -> bytes:
        body = value[len(self._head) :]
        return self._chance.choice((b"", b"\x00" + self._chance.randbytes(4), b"\xc3\x01" + bytes(8), b"\xc3")) + body

    def long_varint(self, value: bytes) -> bytes:
        at = self._chance.randrange(len(self._head), len(value))
        return value[:at] + b"\xff" * self._chance.randrange(1, 12) + b"\x01" + value[at + 1 :]

    def huge_length(self, value: bytes) -> bytes:
        at = self._chance.randrange(len(self._head), len(value))
        length = self._chance.choice((b"\xfe\xff\xff\xff\x0f", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x01"))
        filling = b"a" * self._chance.choice((0, 10, 100_000)) if self._chance.random() < 0.05 else b""
        return value[:at] + length + filling + value[at + 1 :]

    def other_encoding(self, value: bytes) -> bytes:
        told = json.dumps({"event_id": "e", "event_type": "play", "user_id": "u"})
        choices = (told.encode(), told.encode("utf-16"), gzip.compress(value), b"", value.hex().encode(), b"\x80\x04N.")
        return self._chance.choice(choices)

    def noise(self, _: bytes) -> bytes:
        return self._chance.randbytes(self._chance.randrange(0, 400))


def _least(avro: dict[str, Any]) -> dict[str, Any]:
    """A record with the fields that must be there."""
    plain = {"string": "x", "long": 1, "int": 1, "double": 0.5, "boolean": True, "bytes": b"x"}

    def value(kind: Any) -> Any:
        if isinstance(kind, list):
            return None if "null" in kind else value(kind[0])
        if isinstance(kind, str):
            return plain[kind]
        match kind["type"]:
            case "record":
                return _least(kind)
            case "enum":
                return kind["symbols"][0]
            case "array":
                return []
            case name:
                return plain[name]

    return {field["name"]: value(field["type"]) for field in avro["fields"]}


@dataclass
class Tally:
    """What the fuzz has seen. `kinds`: (mutation, what became of it)."""

    mutated: int = 0
    healthy: int = 0
    valid: int = 0
    batches: int = 0
    corrupt: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)


class Fuzz:
    """Makes batches and holds them against fastavro. An AssertionError tells what differs, and with which seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.codec = Codec("listening_event")
        self.wire = Wire(self.codec)
        self.tally = Tally()
        self._seed = seed
        self._parsed = fastavro.parse_schema(schema("listening_event"))
        self._head = self.codec.prefixes[0].data
        self._pool = [self.codec.encode(an_event(self.chance, number)) for number in range(_POOL)]
        self._told = [self.judge(value) for value in self._pool]
        assert None not in self._told
        self._rows = self._frame([one for one in self._told if one is not None])
        self._mutate = Mutator(self.chance, self._pool, self._head)

    def judge(self, value: bytes) -> dict[str, Any] | None:
        """What fastavro says by itself: the record, or None when it is not exactly one, as an encoder writes it."""
        if not value.startswith(self._head):
            return None
        body = value[len(self._head) :]
        rest, again = io.BytesIO(body), io.BytesIO()
        try:
            record = fastavro.schemaless_reader(rest, self._parsed, None)
            fastavro.schemaless_writer(again, self._parsed, record)
        except Exception:  # a fuzz meets every kind
            return None
        whole = rest.tell() == len(body) and again.getvalue() == body and isinstance(record, dict)
        if not whole or any(record[name] is not None and record[name] not in _INT for name in _INT_FIELDS):
            return None
        return record

    def _frame(self, records: list[dict[str, Any]]) -> pl.DataFrame:
        empty = self.codec.empty()
        plain = {name: pl.String if kind == pl.Categorical else kind for name, kind in empty.schema.items()}
        return pl.DataFrame(records, schema=plain, orient="row").select(self.codec.column_names)

    def batch(self) -> None:
        """One record batch, mostly with a few mutated messages, sometimes with many."""
        chance, count = self.chance, self.chance.choice((1, 10, ROWS, ROWS))
        picks = [chance.randrange(_POOL) for _ in range(count)]
        values = [self._pool[pick] for pick in picks]
        share = chance.choice((0.005, 0.1, 0.5, 1.0))
        mutated: dict[int, str] = {}
        for i in range(count):
            if chance.random() < share:
                kind, values[i] = self._mutate(values[i])
                mutated[i] = kind
        raw = self._record_batch(values)
        self._check(raw, values, picks, mutated)
        if chance.random() < 0.2:
            self._check_corrupt(raw)
        self.tally.batches += 1

    def _record_batch(self, values: list[bytes]) -> bytes:
        chance = self.chance
        builder = DefaultRecordBatchBuilder(2, chance.randrange(5), 0, -1, -1, -1, 1 << 28)
        with_headers, with_nulls = chance.random() < 0.1, chance.random() < 0.1
        for i, value in enumerate(values):
            headers = [("trace", b"\x00\xff")] if with_headers and chance.random() < 0.5 else []
            key = None if with_nulls and chance.random() < 0.5 else f"k{i}".encode()
            builder.append(i, _NOW_MS + i, key, value, headers)
        return bytes(builder.build())

    def _read(self, raw: bytes) -> EventBatch:
        place = TopicPartition("listening-events", 0)
        return EventBatch("listening-events", 0, list(BatchRecords(place, raw, None, 0, None, None, True, 0)))

    def _check(self, raw: bytes, values: list[bytes], picks: list[int], mutated: dict[int, str]) -> None:
        decoded = self.wire.read(self._read(raw))
        wanted = [self._told[pick] for pick in picks]
        for i in mutated:
            wanted[i] = self.judge(values[i])
        good = [i for i, record in enumerate(wanted) if record is not None]
        told = decoded.frame["_offset"].to_list()
        self._same(told == good, "the rows that are told", values, mutated, set(told) ^ set(good))
        refused = {bad.offset: bad for bad in decoded.bad}
        self._same(sorted(refused) == sorted(set(range(len(values))) - set(good)), "the refused", values, mutated)
        for i, bad in refused.items():
            self._same(bad.error.reason in set(Reason) and bad.value == values[i], "a dead letter", values, {i: "bad"})
        self._same_rows(decoded.frame, wanted, picks, mutated, values)
        sink = self.codec.columns(values)
        self._same(sink.index.tolist() == good, "the rows of the sink", values, mutated)
        self._same(
            plain(sink.frame).equals(plain(decoded.frame.select(sink.frame.columns))),
            "sink and worker tell alike",
            values,
            mutated,
        )
        reasons = {i: error.reason for i, error in sink.bad}
        self._same(reasons == {i: b.error.reason for i, b in refused.items()}, "the reasons", values, mutated)
        self._count(len(values), mutated, set(good), reasons)

    def _same_rows(
        self,
        frame: pl.DataFrame,
        wanted: list[dict[str, Any] | None],
        picks: list[int],
        mutated: dict[int, str],
        values: list[bytes],
    ) -> None:
        frame = plain(frame)
        offsets = frame["_offset"].to_list()
        healthy = [row for row, i in enumerate(offsets) if i not in mutated]
        right = self._rows[[picks[offsets[row]] for row in healthy]]
        self._same(frame[healthy].select(right.columns).equals(right), "healthy neighbours", values, mutated)
        for row, i in enumerate(offsets):
            if i in mutated:
                record = wanted[i]
                assert record is not None
                one = self._frame([record])
                self._same(frame[row].select(one.columns).equals(one), "a valid mutant", values, {i: mutated[i]})

    def _check_corrupt(self, raw: bytes) -> None:
        """A bit that flips on the disk or on the way: the checksum tells, and nothing of the batch is read."""
        spoilt = bytearray(raw)
        spoilt[self.chance.randrange(_BEFORE_CRC, len(spoilt))] ^= 1 << self.chance.randrange(8)
        try:
            self._read(bytes(spoilt))
        except CorruptRecordException:
            self.tally.corrupt += 1
        else:
            raise AssertionError(f"seed {self._seed}: a corrupt batch was read: {bytes(spoilt).hex()}")

    def _count(self, rows: int, mutated: dict[int, str], good: set[int], reasons: dict[int, Reason]) -> None:
        self.tally.healthy += rows - len(mutated)
        self.tally.mutated += len(mutated)
        for i, kind in mutated.items():
            self.tally.valid += i in good
            what = "valid" if i in good else reasons[i].value
            self.tally.kinds[kind, what] += 1
            self.tally.reasons[what] += 1

    def _same(
        self, fine: bool, what: str, values: list[bytes], shown: dict[int, str], differ: set[int] | None = None
    ) -> None:
        if not fine:
            some = sorted(differ if differ else shown)[:5]
            told = "; ".join(f"{i} ({shown.get(i, 'healthy')}): {values[i][:600].hex()}" for i in some)
            raise AssertionError(f"seed {self._seed}, batch {self.tally.batches}: {what} differ: {told}")


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Enumerations as text, so that frames of several writers compare."""
    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def main() -> int:
    """Runs until so many messages were mutated; prints what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    fuzz, began, told_at = Fuzz(options.seed), time.monotonic(), 0.0
    while fuzz.tally.mutated < options.messages:
        fuzz.batch()
        if time.monotonic() - told_at > 10:
            told_at = time.monotonic()
            now = datetime.now(UTC).strftime("%H:%M:%S")
            print(f"{now} {fuzz.tally.mutated:,} mutated", flush=True)
    tally = fuzz.tally
    print(f"{tally.mutated:,} mutated and {tally.healthy:,} healthy messages in {tally.batches:,} record batches,")
    print(f"{tally.corrupt:,} batches with a flipped bit, in {time.monotonic() - began:.0f} s: no difference")
    for reason, count in tally.reasons.most_common():
        print(f"{count:>12,}  {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
