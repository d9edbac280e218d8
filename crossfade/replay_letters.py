"""`crossfade dead-letters replay`: what was refused goes back in, repaired or as it was, exactly once.

Whether a record is in the warehouse, or on its way there, is asked before it is sent: so a second replay does nothing,
and one that was killed goes on where it stopped. Should two run at the same time, an event may be sent twice; worker
and sink then drop the second by its event_id.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from crossfade.letters import event_of, known_reason, pages
from crossfade.repairs import Event, Repair
from crossfade.verify import pieces
from schemas import topics
from schemas.codec import Codec
from schemas.event_time import ahead
from schemas.kafka import admin, codec_of
from schemas.reasons import BadRecordError, Reason
from schemas.settings import Settings
from schemas.tables import TABLES, Table, table
from sinks.ledger import counts, ends_of
from sinks.seen import SeenIds, hashes
from sinks.target import key_columns
from warehouse.runner import Reader

if TYPE_CHECKING:
    from producers.door import Door

_ASKED_AT_ONCE = 500
_EVENTS = table("events")


@dataclass
class Outcome:
    """What became of the letters: sent, in already (or on their way), left alone by the repair, refused by reason."""

    sent: int = 0
    there: int = 0
    left: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def rows(self) -> list[dict[str, Any]]:
        """As the table shows it."""
        counted = {"sent": self.sent, "there already": self.there, "left alone": self.left}
        rows: list[dict[str, Any]] = [{"outcome": name, "reason": None, "letters": n} for name, n in counted.items()]
        return rows + [{"outcome": "refused", "reason": code, "letters": n} for code, n in sorted(self.refused.items())]


@dataclass(frozen=True)
class Ready:
    """A record that may go in. Two with one identity, the table and its key columns, are the same."""

    table: Table
    identity: tuple[Any, ...]
    record_key: bytes | None = field(compare=False)
    value: bytes = field(compare=False)

    @property
    def topic(self) -> str:
        """Where it goes."""
        assert self.table.topic is not None
        return self.table.topic


def replay(settings: Settings, source: Reader, reason: str | None, repair: Repair | None = None) -> Outcome:
    """Puts letters back in. The letters stay; an event that passes now is loaded like any other, by way of `replay`.

    Raises KafkaUnavailableError when Kafka does not take everything, WarehouseError, and ProblemError.
    """
    from producers.door import Door  # noqa: PLC0415 - only here

    known_reason(reason)
    outcome = Outcome()
    door = Door(settings, "replay")
    workshop = Workshop(settings, door, repair)
    coming = on_their_way(settings, source)
    for rows in pages(source, reason):
        batch: list[Ready] = []
        for letter in rows:
            made = workshop.make(letter)
            if isinstance(made, Ready):
                batch.append(made)
            elif made is None:
                outcome.left += 1
            else:
                outcome.refused[made.reason.value] += 1
        done = stored(source, batch) | {ready for ready in batch if is_coming(ready, coming)}
        for ready in batch:
            if ready in done:
                outcome.there += 1
                continue
            done.add(ready)
            door.producer.produce(ready.topic, ready.value, ready.record_key)
            door.producer.poll(0)
            outcome.sent += 1
        door.flush()
    return outcome


class Workshop:
    """Makes records of letters: repairs them, and judges them as the doors do."""

    def __init__(self, settings: Settings, door: Door, repair: Repair | None) -> None:
        self._settings, self._door, self._repair = settings, door, repair
        self._codecs: dict[str, Codec] = {}
        self._events = codec_of(settings, topics.EVENTS)

    def make(self, letter: Mapping[str, Any]) -> Ready | BadRecordError | None:
        """The record of a letter, why it is refused still, or None: the repair leaves it alone."""
        try:
            if letter["topic"] in (None, topics.EVENTS):
                return self._event(dict(letter))
            return self._other(letter) if self._repair is None else None
        except BadRecordError as error:
            return error

    def _event(self, letter: dict[str, Any]) -> Ready | None:
        inner = letter["topic"] is not None
        event = event_of(letter, self._events)
        if self._repair is not None:
            inner = inner and event is not None  # a repair of what nobody can read is a client's event
            event = self._repair(letter["dead_letter_id"], event)
            if event is None:
                return None
            event["event_id"] = event.get("event_id") or event_id_of(letter["dead_letter_id"])
            if inner:
                return self._encoded(event)
            return self._judged(json.dumps(event).encode(), letter["tenant"])
        if not inner:
            return self._judged(bytes(letter["payload"] or b""), letter["tenant"])
        return self._encoded(event if event is not None else self._events.decode(bytes(letter["payload"] or b"")))

    def _judged(self, payload: bytes, tenant: str) -> Ready:
        """A client's event by the rules of the door."""
        from producers.door import Refused  # noqa: PLC0415 - only here

        judged = self._door.judge(payload)
        if isinstance(judged, Refused):
            raise judged.error
        tenant = self._settings.tenant if tenant == "unknown" else tenant
        key, value = self._door.encode(judged, tenant)
        return Ready(_EVENTS, (tenant, judged.event_id), key, value)

    def _encoded(self, event: Event) -> Ready:
        """An event that a door has taken once: only its time is judged, the rest is what its schema says."""
        now_ms = self._door.now_ms()
        event = {**event, "received_at": now_ms, "source": "replay"}
        try:
            value = self._events.encode(event)
            late = ahead(np.array([event["timestamp"]], np.int64), np.array([now_ms], np.int64))
        except Exception as error:  # fastavro raises what it likes
            raise BadRecordError(Reason.BROKEN_RECORD, f"{type(error).__name__}: {error}") from None
        if late.any():
            raise BadRecordError(Reason.CLOCK, str(event["timestamp"]), "timestamp")
        key = event["user_id"] or event["event_id"]
        return Ready(_EVENTS, (event["tenant"], event["event_id"]), key.encode(), value)

    def _other(self, letter: Mapping[str, Any]) -> Ready:
        """A record of another topic, as it was: its key is deterministic."""
        topic, payload = str(letter["topic"]), bytes(letter["payload"] or b"")
        found = next((each for each in TABLES if each.topic == topic), None)
        if found is None:
            raise BadRecordError(Reason.UNKNOWN_SCHEMA, f"topic {topic}")
        codec = self._codecs.setdefault(topic, codec_of(self._settings, topic))
        record = codec.decode(payload)
        return Ready(found, tuple(record[name] for name in key_columns(found)), letter["record_key"], payload)


def event_id_of(dead_letter_id: str) -> str:
    """The event_id of a repaired event that has none: the same at every replay of its letter."""
    return "letter-" + hashlib.sha256(dead_letter_id.encode()).hexdigest()[:32]


def on_their_way(settings: Settings, source: Reader) -> SeenIds:
    """The events that Kafka holds and the warehouse does not yet: 8 bytes each."""
    progress = counts(source).progress
    ranges = {
        place: range(progress[place].next_offset if place in progress else earliest, end)
        for place, (earliest, end) in ends_of(admin(settings), [topics.EVENTS]).items()
    }
    found = SeenIds()
    for piece in pieces(settings, ranges):
        found.add(hashes(piece.rows, key_columns(_EVENTS)), 0)
    return found


def is_coming(ready: Ready, coming: SeenIds) -> bool:
    """Whether an event is among those."""
    row = pl.DataFrame([ready.identity], key_columns(ready.table), orient="row")
    return ready.table is _EVENTS and bool(coming.contains(hashes(row, row.columns))[0])


def stored(source: Reader, batch: list[Ready]) -> set[Ready]:
    """Which of them the warehouse has."""
    found: set[Ready] = set()
    for asked in {ready.table.name: ready.table for ready in batch}.values():
        columns = key_columns(asked)
        at_id = columns.index(asked.id)
        ids = sorted({ready.identity[at_id] for ready in batch if ready.table is asked})
        for at in range(0, len(ids), _ASKED_AT_ONCE):
            listed = ", ".join(f"`{name}`" for name in columns)
            sql = f"SELECT {listed} FROM {asked.name} WHERE `{asked.id}` IN UNNEST(@ids)"  # noqa: S608 - names of ours
            rows = source.query(sql, {"ids": ids[at : at + _ASKED_AT_ONCE]}).rows
            found |= {Ready(asked, tuple(row[name] for name in columns), None, b"") for row in rows}
    return found
