"""The Faust app: two agents over columnar topics, each with one table that holds its snapshots.

The way of a batch: events -> EventsAgent -> window-partials -> MergeAgent -> window-metrics and anomaly-alerts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import faust
import polars as pl
from faust.types import TP

from schemas import topics
from schemas.event_time import Windows as Clockwork
from schemas.kafka import admin, partitions_of
from schemas.settings import Settings
from stream_processors.agents import EventsAgent, MergeAgent
from stream_processors.allocator import GIVE_BACK_EVERY_S, give_back
from stream_processors.merge import MergeState
from stream_processors.outbox import Outbox
from stream_processors.partition import PartitionState
from stream_processors.resumable import LANES, Resumable
from stream_processors.snapshots import Snapshots
from stream_processors.transport import BatchSchema, guard

APP_ID = "crossfade-worker"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class WorkerApp:
    """The Faust app and what its health is told from."""

    faust: Any
    events: Resumable[PartitionState]
    merge: Resumable[MergeState]
    outbox: Outbox

    def next_offsets(self) -> dict[TP, int | None]:
        """First offset not yet in the state, for each input partition that this worker owns."""
        return {TP(r.topic, p): state.next for r in (self.events, self.merge) for p, state in r.states.items()}

    def waiting(self) -> int:
        """Events that are in the state, and whose plays and sessions are still to be finished."""
        return sum(state.waiting for state in list(self.events.states.values()))

    def is_spare(self) -> bool:
        """Whether the group is stable and has given this worker no input: there are more workers than partitions."""
        inputs = (self.events.topic, self.merge.topic)
        given = self.faust._assignment
        return given is not None and not self.faust.rebalancing and not any(tp.topic in inputs for tp in given)


def create(settings: Settings, on_error: Callable[[Exception], NoReturn]) -> WorkerApp:
    """Builds the app; raises ChangedLibraryError or KafkaUnavailableError.

    `on_error` ends the process: Faust would acknowledge the batch that failed, and the state must not skip it.
    """
    partitions = partitions_of(admin(settings), topics.EVENTS)
    app = faust_app(settings, APP_ID, len(partitions), settings.data_dir / settings.worker_name)
    outbox = Outbox(settings)
    clockwork = Clockwork(settings.window_ms, settings.grace_ms)
    events_agent = EventsAgent(settings, outbox)
    merge_agent = MergeAgent(settings, outbox, partitions, _now_ms)
    kept = layout(settings)
    events = Resumable(
        app,
        topics.EVENTS,
        Snapshots(table(app, "partition-state", len(partitions)), f"partition {PartitionState.VERSION} {kept}"),
        outbox,
        functools.partial(PartitionState, clockwork, settings.play_timeout_ms, settings.session_gap_ms),
        events_agent,
        settings.snapshot_every_ms,
    )
    merge = Resumable(
        app,
        topics.WINDOW_PARTIALS,
        Snapshots(table(app, "merge-state", 1), f"merge {MergeState.VERSION} {kept} of {len(partitions)}"),
        outbox,
        functools.partial(MergeState, clockwork, len(partitions)),
        merge_agent,
        settings.snapshot_every_ms,
    )
    attach(app, [events, merge], settings.snapshot_every_ms, on_error)

    return WorkerApp(app, events, merge, outbox)


def layout(settings: Settings) -> str:
    """What a state depends on beside its version: another release or setting builds it again from the log."""
    return f"window={settings.window_ms} grace={settings.grace_ms} polars={pl.__version__}"


def faust_app(settings: Settings, app_id: str, partitions: int, data_dir: Path) -> Any:
    """A Faust app on the columnar transport; raises ChangedLibraryError."""
    guard.check()
    data_dir.mkdir(parents=True, exist_ok=True)
    return faust.App(
        app_id,
        broker=f"columnar://{settings.kafka_bootstrap_servers.replace(',', ';columnar://')}",
        datadir=str(data_dir),
        topic_partitions=partitions,
        topic_replication_factor=settings.replication_factor,
        topic_disable_leader=True,
        table_standby_replicas=settings.standby_replicas,
        stream_buffer_maxsize=8,  # batches, not records
        consumer_max_fetch_size=4 << 20,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 3000,
        broker_commit_interval=1.0,
        producer_max_request_size=topics.MESSAGE_MAX_BYTES,
        web_enabled=False,
    )


def table(app: Any, name: str, partitions: int) -> Any:
    """A table that holds snapshots."""
    return app.Table(
        name,
        key_type=str,
        value_type=bytes,
        partitions=partitions,
        extra_topic_configs={"max.message.bytes": topics.MESSAGE_MAX_BYTES},
        recovery_buffer_size=4,  # with 1, a worker replays its own changelog over the table
    )


def attach(
    app: Any, stages: Iterable[Resumable[Any]], snapshot_every_ms: int, on_error: Callable[[Exception], NoReturn]
) -> None:
    """Has the app feed each stage from its topic, and snapshot its partitions."""
    by_topic = {stage.topic: stage for stage in stages}

    async def resume_at(tp: TP, earliest: int) -> int:
        return by_topic[tp.topic].resume_at(tp.partition, earliest)

    app.resume_at = resume_at

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def forget(_app: Any, _revoked: set[TP], **_kwargs: Any) -> None:
        for stage in by_topic.values():
            stage.forget()

    for stage in by_topic.values():
        channel = app.topic(stage.topic, schema=BatchSchema(), partitions=None)
        app.agent(channel, name=stage.topic)(_feed(stage, on_error))
        for lane in range(LANES):
            app.task(_work(stage, lane, on_error))

    @app.timer(interval=snapshot_every_ms / 1000)  # type: ignore[untyped-decorator]
    async def save_quiet_partitions() -> None:
        with _ended_by(on_error):
            for stage in by_topic.values():
                await stage.save_quiet_partitions()

    @app.timer(interval=GIVE_BACK_EVERY_S)  # type: ignore[untyped-decorator]
    async def give_back_memory() -> None:
        await asyncio.to_thread(give_back)


def _feed(stage: Resumable[Any], on_error: Callable[[Exception], NoReturn]) -> Any:
    async def feed(stream: Any) -> None:
        with _ended_by(on_error):
            await stage.feed(stream)

    return feed


def _work(stage: Resumable[Any], lane: int, on_error: Callable[[Exception], NoReturn]) -> Any:
    async def work() -> None:
        with _ended_by(on_error):
            await stage.work(lane)

    return work


@contextlib.contextmanager
def _ended_by(on_error: Callable[[Exception], NoReturn]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        on_error(error)
