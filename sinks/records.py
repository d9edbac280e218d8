"""Consumed records as columns: Python touches each record only to take its fields out of the client's message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, Message

from sinks.target import Place

Numbers = npt.NDArray[np.int64]


class Record(NamedTuple):
    """A record as Kafka gave it. `timestamp_ms` is its arrival; negative when the broker does not know it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class Records:
    """Records of one topic, in the order of arrival: offsets of one partition rise."""

    topic: str
    partitions: Numbers
    offsets: Numbers
    times_ms: Numbers
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, place: Place, records: Sequence[Record]) -> Records:
        """Records of one partition."""
        return cls(
            place[0],
            np.full(len(records), place[1], np.int64),
            np.array([record.offset for record in records], np.int64),
            np.array([record.timestamp_ms for record in records], np.int64),
            [record.key for record in records],
            [record.value for record in records],
        )

    def place(self, at: int) -> Place:
        """Topic and partition of one of them."""
        return self.topic, int(self.partitions[at])

    def record(self, at: int) -> Record:
        """One of them."""
        return Record(int(self.offsets[at]), int(self.times_ms[at]), self.keys[at], self.values[at])


def sorted_out(messages: Sequence[Message]) -> tuple[list[Records], list[KafkaError]]:
    """Messages by topic, and what the client complained of."""
    errors = [error for error in map(Message.error, messages) if error is not None]
    if errors:
        messages = [message for message in messages if message.error() is None]
    by_topic: dict[str, list[Message]] = {}
    names = list(map(Message.topic, messages))
    if len(set(names)) == 1:
        by_topic[names[0]] = list(messages)
    else:
        for name, message in zip(names, messages, strict=True):
            by_topic.setdefault(name, []).append(message)
    return [_columns(name, mine) for name, mine in by_topic.items()], errors


def _columns(topic: str, messages: list[Message]) -> Records:
    count = len(messages)
    return Records(
        topic,
        np.fromiter(map(Message.partition, messages), np.int64, count),
        np.fromiter(map(Message.offset, messages), np.int64, count),
        np.fromiter((time_ms for _, time_ms in map(Message.timestamp, messages)), np.int64, count),
        list(map(Message.key, messages)),
        list(map(Message.value, messages)),
    )
