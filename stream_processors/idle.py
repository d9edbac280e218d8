"""Which partitions hold time back although nothing comes in them, and what moves them on: watermark records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.event_time import Windows as Clockwork


@dataclass
class Idle:
    """Watches the partitions' stream times; the wall clock in ms is passed in.

    A quiet partition follows the least of the active ones. When all are quiet, time goes on with the wall clock, at
    most `horizon_ms` past the last event, so that the last windows close and open plays time out.
    """

    clockwork: Clockwork
    partitions: list[int]
    idle_ms: int
    horizon_ms: int
    now_ms: int

    def __post_init__(self) -> None:
        self._moved = dict.fromkeys(self.partitions, self.now_ms)
        self._known = dict.fromkeys(self.partitions, 0)
        self._newest, self._newest_at = 0, self.now_ms

    def saw(self, clocks: Mapping[int, int], now_ms: int) -> None:
        """Takes the stream times that partitions told; the echo of a watermark record is no movement."""
        for partition, clock in clocks.items():
            if clock > self._known.get(partition, 0):
                self._moved[partition], self._known[partition] = now_ms, clock
                if clock > self._newest:
                    self._newest, self._newest_at = clock, now_ms

    def due(self, now_ms: int) -> dict[int, int]:
        """Watermark records to write now: partition and stream time. Empty when time moves by itself."""
        active = [p for p in self.partitions if now_ms - self._moved[p] < self.idle_ms]
        if not self._newest or len(active) == len(self.partitions):
            return {}
        if active:
            target = min(self._known[p] for p in active)
        else:
            quiet_ms = min(now_ms - self._newest_at, self.horizon_ms)
            target = max(self._newest, min(self._newest + quiet_ms, now_ms))
        border = self.clockwork.closed_before(target)
        found = {}
        for p in self.partitions:
            if p not in active and border > self.clockwork.closed_before(self._known[p]):
                found[p] = self._known[p] = target
        return found
