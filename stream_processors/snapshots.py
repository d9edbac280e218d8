"""State in a Faust Table: changed segments first, then one manifest that names them and carries the input offset.

The manifest is the commit. Segments are written under new keys and confirmed by the broker before the manifest; what
the manifest no longer names is deleted after it. A worker that dies leaves either the old or the new state.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from schemas import metrics
from schemas.topics import MESSAGE_MAX_BYTES
from stream_processors.partition import Segment

log = structlog.get_logger()

PIECE_BYTES = MESSAGE_MAX_BYTES // 2
"""A segment that is larger is kept in several records, so that the broker takes each."""


@dataclass
class _Written:
    token: object
    keys: list[str]


@dataclass
class Snapshots:
    """Snapshots of the partitions of one table; `version` names the layout of the state."""

    table: Any
    version: str
    _written: dict[int, dict[str, _Written]] = field(default_factory=dict)

    def load(self, partition: int) -> tuple[dict[str, int], dict[str, bytes]]:
        """(header, segments) of the last snapshot; both empty when there is none that can be used.

        Then the state is built again from the beginning of the log, which gives the same results under the same keys.
        That happens when a release has changed the layout, or when a worker that was stopped past its session woke up
        and wrote a manifest whose segments its successor had already deleted.
        """
        self._written.pop(partition, None)
        stored = self.table.data.get(str(partition))
        if stored is None:
            return {}, {}
        manifest = json.loads(stored)
        if manifest["version"] != self.version:
            log.warning("state_rebuilt", partition=partition, found=manifest["version"], wanted=self.version)
            return {}, {}
        segments = {}
        for name, keys in manifest["segments"].items():
            pieces = [self.table.data.get(key) for key in keys]
            if any(piece is None for piece in pieces):
                log.warning("state_rebuilt", partition=partition, missing=name)
                return {}, {}
            segments[name] = b"".join(pieces)
        return manifest["header"], segments

    async def save(self, partition: int, header: Mapping[str, int], segments: Mapping[str, Segment]) -> int:
        """Writes what changed, then the manifest; returns the bytes written once the broker has confirmed them."""
        old = self._written.get(partition, {})
        new: dict[str, _Written] = {}
        writes: dict[str, bytes] = {}
        for name, segment in segments.items():
            if name in old and old[name].token == segment.token:
                new[name] = old[name]
                continue
            data = segment.data()
            pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)] or [b""]
            keys = [f"{partition}/{name}/{header['next']}/{i}" for i in range(len(pieces))]
            writes.update(zip(keys, pieces, strict=True))
            new[name] = _Written(segment.token, keys)
        await self._send(partition, writes)
        names = {name: written.keys for name, written in new.items()}
        manifest = json.dumps({"version": self.version, "header": header, "segments": names}).encode()
        await self._send(partition, {str(partition): manifest})
        kept = {key for written in new.values() for key in written.keys}
        stale = [key for key in self.table.data if key.startswith(f"{partition}/") and key not in kept]
        await self._send(partition, dict.fromkeys(stale))
        self._written[partition] = new
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
