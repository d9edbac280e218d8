"""State in a Faust Table: changed segments first, then one manifest that names them and carries the input offset.

The manifest is the commit: it is sent once the broker has confirmed the segments, and only then is deleted what it no
longer names. Every worker writes under a name of its own, which it makes anew on each assignment, so workers never
overwrite one another. A state is a function of the log up to its offset, whoever computed it: so of the complete
manifests that a successor finds, the one with the highest offset is right, also when a worker that was stopped past
its session wakes up and writes on. What others wrote is deleted only after it was written again under the own name.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from schemas import metrics
from schemas.topics import MESSAGE_MAX_BYTES
from stream_processors.segment import Segment

log = structlog.get_logger()

PIECE_BYTES = MESSAGE_MAX_BYTES // 2
"""A segment that is larger is kept in several records, so that the broker takes each."""

ADOPT_BYTES = 32 << 20
"""So much of what a predecessor wrote is written again in one snapshot, so that taking over does not hold up events."""


@dataclass
class _Written:
    token: object
    keys: list[str]
    size: int
    is_own: bool = True


@dataclass
class _Held:
    """What is known of one partition's records since its assignment."""

    writer: str
    foreign: set[str]
    segments: dict[str, _Written] = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A partition's state as it was when it was taken; it may change while this is written."""

    partition: int
    header: Mapping[str, int]
    _held: _Held
    _writes: dict[str, bytes]
    _segments: dict[str, _Written]


@dataclass(frozen=True)
class _Manifest:
    header: dict[str, int]
    segments: dict[str, list[str]]


@dataclass
class Snapshots:
    """Snapshots of the partitions of one table; `version` names the layout of the state."""

    table: Any
    version: str
    _held: dict[int, _Held] = field(default_factory=dict)

    def load(self, partition: int) -> tuple[dict[str, int], dict[str, bytes]]:
        """(header, segments) of the newest complete snapshot; both empty when there is none that can be used.

        Then the state is built again from the beginning of the log, which gives the same results under the same keys.
        """
        found = [key for key in self.table.data if key.startswith(f"{partition}/")]
        held = self._held[partition] = _Held(secrets.token_hex(4), set(found))
        manifests = self._manifests([key for key in found if key.endswith("/manifest")])
        for manifest in sorted(manifests, key=lambda one: one.header["next"], reverse=True):
            pieces = {name: [self.table.data.get(key) for key in keys] for name, keys in manifest.segments.items()}
            if any(piece is None for one in pieces.values() for piece in one):
                continue
            for name, keys in manifest.segments.items():
                held.segments[name] = _Written(None, keys, sum(map(len, pieces[name])), is_own=False)
            return manifest.header, {name: b"".join(one) for name, one in pieces.items()}
        if found:
            log.warning("state_rebuilt", partition=partition, wanted=self.version)
        return {}, {}

    def _manifests(self, keys: list[str]) -> list[_Manifest]:
        found = []
        for key in keys:
            told = json.loads(self.table.data[key])
            if told["version"] == self.version:
                found.append(_Manifest(told["header"], told["segments"]))
        return found

    def adopt(self, partition: int, segments: Mapping[str, Segment]) -> None:
        """After `load`: what was loaded and did not change since needs no writing at once."""
        for name, written in self._held[partition].segments.items():
            if name in segments:
                written.token = segments[name].token

    def take(self, partition: int, header: Mapping[str, int], segments: Mapping[str, Segment]) -> Snapshot:
        """What is to be written of a state, which must not change meanwhile. The one before must be written."""
        held = self._held[partition]
        held.number += 1
        writes, now = _changed(partition, held, segments)
        return Snapshot(partition, header, held, writes, now)

    async def write(self, snapshot: Snapshot) -> int:
        """Writes what changed, then the manifest; returns the bytes written once the broker has confirmed them."""
        partition, held, writes, now = snapshot.partition, snapshot._held, snapshot._writes, snapshot._segments
        await self._send(partition, writes)
        names = {name: written.keys for name, written in now.items()}
        manifest = json.dumps({"version": self.version, "header": snapshot.header, "segments": names}).encode()
        await self._send(partition, {f"{partition}/{held.writer}/manifest": manifest})
        stale = {key for old in held.segments.values() if old.is_own for key in old.keys}
        if all(written.is_own for written in now.values()):
            stale |= held.foreign
            held.foreign = set()
        await self._send(partition, dict.fromkeys(stale.difference(*(written.keys for written in now.values()))))
        held.segments = now
        size = len(manifest) + sum(map(len, writes.values()))
        metrics.SNAPSHOTS.inc()
        metrics.SNAPSHOT_BYTES.inc(size)
        return size

    async def _send(self, partition: int, writes: Mapping[str, bytes | None]) -> None:
        sent = []
        for key, value in writes.items():
            if value is None:
                self.table.data.pop(key, None)
            else:
                self.table.data[key] = value
            sent.append(self.table.send_changelog(partition, key, value))
        if sent:
            await asyncio.gather(*sent)


def _changed(
    partition: int, held: _Held, segments: Mapping[str, Segment]
) -> tuple[dict[str, bytes], dict[str, _Written]]:
    """(records of the segments that are to be written, all segments by name)."""
    writes: dict[str, bytes] = {}
    now: dict[str, _Written] = {}
    adopted = 0
    for name, segment in segments.items():
        old = held.segments.get(name)
        if old is not None and old.token == segment.token and (old.is_own or adopted + old.size > ADOPT_BYTES):
            now[name] = old
            continue
        data = segment.data()
        adopted += len(data) if old is not None and not old.is_own else 0
        pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)] or [b""]
        keys = [f"{partition}/{held.writer}/{name}/{held.number}/{i}" for i in range(len(pieces))]
        writes.update(zip(keys, pieces, strict=True))
        now[name] = _Written(segment.token, keys, len(data))
    return writes, now
