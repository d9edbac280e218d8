"""When a partition's state is saved: beside its next batches, and never before the broker has what was emitted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stream_processors import resumable
from stream_processors.outbox import EmitError, Outbox
from stream_processors.resumable import Resumable
from stream_processors.segment import Segment
from stream_processors.snapshots import Snapshots
from tests.stream_processors.changelog import Changelog

PERIOD_MS = 1000


class Broker:
    """Confirms what was emitted when it is told to."""

    def __init__(self) -> None:
        self.confirms, self.fails = asyncio.Event(), False

    async def push(self, *, wait: bool) -> None:
        """Nothing is emitted."""

    async def confirm(self) -> None:
        """As of the outbox."""
        await self.confirms.wait()
        if self.fails:
            raise EmitError("refused")

    def __len__(self) -> int:
        return 0


class Count:
    """A state: how many offsets it has seen."""

    def __init__(self, header: Mapping[str, int], _segments: Mapping[str, bytes]) -> None:
        self.next: int | None = header.get("next")

    def header(self) -> dict[str, int]:
        """Its offset."""
        return {"next": self.next or 0}

    def segments(self) -> dict[str, Segment]:
        """The same as bytes."""
        return {"next": Segment.of(self.next, str(self.next).encode())}


class Counting:
    """The agent."""

    def read(self, _batch: Any) -> None:
        """Nothing to decode."""

    def process(self, _partition: int, state: Count, batch: Any, _content: None) -> None:
        """Takes the offsets of a batch."""
        state.next = batch.next

    def settle(self, _partition: int, _state: Count) -> None:
        """Nothing is put off."""


@dataclass
class Running:
    """A stage with one partition, whose time stands still unless it is moved."""

    stage: Resumable[Count]
    broker: Broker
    table: Changelog
    lane: asyncio.Task[None]
    now_s: float = 0.0

    async def takes(self, first: int, last: int) -> bool:
        """Whether a batch of these offsets is in the state soon."""
        batch = SimpleNamespace(topic="in", partition=0, start=first, next=last + 1)
        await self.stage._queues[0].put(cast("Any", batch))
        return await self.comes(lambda: self.stage.states[0].next == last + 1)

    async def takes_and_begins_to_save(self, first: int, last: int) -> bool:
        """The same; after it, a snapshot is on its way and the lane waits for its next batch."""
        stage = self.stage
        return await self.takes(first, last) and await self.comes(
            lambda: 0 in stage._writing and not stage._busy[0].locked()
        )

    async def comes(self, true: Callable[[], bool]) -> bool:
        """Whether something becomes true while nothing but this is waited for."""
        for _ in range(1000):
            if true():
                return True
            await asyncio.sleep(0.001)
        return False

    @property
    def saved(self) -> list[int]:
        """Offsets of the manifests that were written."""
        return [json.loads(value or b"")["header"]["next"] for key, value in self.table.log if "manifest" in key]


def run(check: Callable[[Running], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a check beside the lane of a stage."""

    async def both() -> None:
        broker, table = Broker(), Changelog()
        outbox = cast("Outbox", broker)
        stage = Resumable(None, "in", Snapshots(table, "v1"), outbox, Count, Counting(), PERIOD_MS)
        running = Running(stage, broker, table, asyncio.create_task(stage.work(0)))
        monkeypatch.setattr(resumable, "time", SimpleNamespace(monotonic=lambda: running.now_s))
        stage.resume_at(0, 0)
        try:
            await check(running)
        finally:
            running.lane.cancel()

    asyncio.run(both())


def test_a_partition_goes_on_while_its_snapshot_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is the state as it was taken, once the broker has confirmed what was emitted until then."""

    async def check(running: Running) -> None:
        running.now_s = 1.0
        assert await running.takes_and_begins_to_save(0, 9)
        assert await running.takes(10, 19)
        assert running.saved == []
        running.broker.confirms.set()
        assert await running.comes(lambda: running.saved == [10])

    run(check, monkeypatch)


def test_a_write_that_takes_longer_than_the_period_holds_up_its_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """So no more than a period's results wait for a broker that is slow."""

    async def check(running: Running) -> None:
        running.now_s = 1.0
        assert await running.takes_and_begins_to_save(0, 9)
        running.now_s = 2.0
        assert await running.takes(10, 19)
        assert await running.comes(lambda: not running.stage._writing), "the lane waits for the write"
        assert not await running.takes(20, 29)
        running.broker.confirms.set()
        assert await running.comes(lambda: running.stage.states[0].next == 30)
        running.now_s = 3.0
        assert await running.takes(30, 39)
        assert await running.comes(lambda: running.saved == [10, 40])

    run(check, monkeypatch)


def test_a_snapshot_that_cannot_be_written_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next period, also when no batch comes."""

    async def check(running: Running) -> None:
        running.broker.fails = True
        running.broker.confirms.set()
        running.now_s = 1.0
        assert await running.takes_and_begins_to_save(0, 9)
        running.now_s = 2.0
        with pytest.raises(EmitError):
            await running.stage.save_quiet_partitions()

    run(check, monkeypatch)


def test_what_a_former_owner_took_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rebalance the partition's state is another one, loaded from the changelog."""

    async def check(running: Running) -> None:
        running.now_s = 1.0
        assert await running.takes_and_begins_to_save(0, 9)
        running.stage.forget()
        assert running.stage.resume_at(0, 0) == 0
        running.broker.confirms.set()
        running.now_s = 2.0
        assert await running.takes(0, 4)
        assert await running.comes(lambda: running.saved == [5])

    run(check, monkeypatch)
