"""The columnar transport on a real Kafka: each test names the trap that it guards (see its docstring)."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from faust.types import TP

from schemas import kafka as clients
from schemas import topics
from schemas.codec import Codec
from schemas.settings import Settings
from stream_processors import app as worker_app
from stream_processors.transport import EventBatch
from stream_processors.wire import Wire
from tests.pipeline.columnar_app import ColumnarApp, new_topic, send
from tests.pipeline.test_worker import PORT, lag, wait_until, worker
from tests.stream_processors.test_wire import EVENT, START_MS, counted


def committed(settings: Settings, group: str, topic: str) -> int:
    """The offset that a group has committed."""
    client = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group})
    found = client.committed([TopicPartition(topic, 0)], timeout=10)[0].offset
    client.close()
    return int(found)


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_clients_really_send_is_read_in_columns(kafka: Settings, compression: str) -> None:
    """Trap 9: a key and no headers keep a record on the fast path, in every compression that librdkafka knows."""
    topic, codec = new_topic(kafka), Codec("listening_event")
    values = [codec.encode({**EVENT, "event_id": f"e{i}"}) for i in range(3_000)]
    send(kafka, topic, values, **{"compression.type": compression})
    before = counted("columns")

    async def main() -> None:
        async with ColumnarApp(kafka, topic).running() as one:
            await one.until(lambda: bool(one.batches) and one.batches[-1].next == 3_000, "all records came")
            frames = [Wire(codec).read(batch).frame for batch in one.batches]
            assert [i for frame in frames for i in frame["event_id"].to_list()] == [f"e{i}" for i in range(3_000)]
            assert all(abs(ms - time.time() * 1_000) < 60_000 for frame in frames for ms in frame["_time"].to_list())

    asyncio.run(main())
    assert counted("columns") - before == 3_000


def test_the_brokers_clock_is_taken_where_it_stamps(kafka: Settings) -> None:
    """A topic with LogAppendTime: the time of every row is the broker's, not the producer's."""
    topic, codec = new_topic(kafka, **{"message.timestamp.type": "LogAppendTime"}), Codec("listening_event")
    producer = clients.producer(kafka)
    for _ in range(10):
        producer.produce(topic, codec.encode(EVENT), b"k", 0, timestamp=START_MS)
    assert producer.flush(30) == 0

    async def main() -> None:
        async with ColumnarApp(kafka, topic).running() as one:
            await one.until(lambda: bool(one.batches) and one.batches[-1].next == 10, "all records came")
            times = [ms for batch in one.batches for ms in Wire(codec).read(batch).frame["_time"].to_list()]
            assert all(abs(ms - time.time() * 1_000) < 60_000 for ms in times)

    asyncio.run(main())


def test_a_seek_happens_in_the_consumers_own_thread(kafka: Settings) -> None:
    """Trap 1: Faust calls aiokafka's seek from the main thread, which then dies in fetched_records with a KeyError."""
    topic = new_topic(kafka)
    send(kafka, topic, [b"x"] * 100)
    threads: list[str] = []

    async def main() -> None:
        one = ColumnarApp(kafka, topic)
        async with one.running():
            await one.until(lambda: bool(one.batches), "the first batch")
            client = one.app.consumer._thread._consumer
            original = client.seek

            def seek(*arguments: Any) -> None:
                threads.append(threading.current_thread().name)
                original(*arguments)

            client.seek = seek
            for n in range(20):
                await one.app.consumer.seek(TP(topic, 0), 100 - n)
                await one.until(lambda n=n: one.covered[-1] == (100 - n, 100) or not n, "what was sought")  # type: ignore[misc]
        assert one.covered[1:] == [(100 - n, 100) for n in range(1, 20)]

    asyncio.run(main())
    assert len(threads) == 20
    assert threading.current_thread().name not in threads


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "while the state loads"])
def test_reading_resumes_where_the_state_says(kafka: Settings, slow: bool) -> None:
    """Trap 2: the group's offsets are ahead of the state; no batch from there is handed out, however long it loads."""
    topic, group = new_topic(kafka), f"group-{time.time_ns()}"
    send(kafka, topic, [b"x"] * 1_000)

    async def first() -> None:
        one = ColumnarApp(kafka, topic, group)
        table = worker_app.table(one.app, "state", 1)

        async def take(_batch: EventBatch) -> None:
            table["k"] = b"v"

        one.on_batch = take
        async with one.running():
            await one.until(lambda: bool(one.batches) and one.batches[-1].next == 1_000, "all records came")
            await one.until(lambda: committed(kafka, group, topic) == 1_000, "the group's offset")

    async def again() -> None:
        one = ColumnarApp(kafka, topic, group)
        worker_app.table(one.app, "state", 1)  # its recovery keeps the flow going while partitions are sought
        one.resume_at[0] = 400

        async def load(_tp: TP) -> None:
            await asyncio.sleep(3 if slow else 0)

        one.on_resume = load
        async with one.running():
            await one.until(lambda: bool(one.batches) and one.batches[-1].next == 1_050, "all records came")
            await one.until(lambda: one.covered[0][0] == 400, "what the state wants")
        assert [a for a, _ in one.covered[1:]] == [b for _, b in one.covered[:-1]], "without a gap"

    asyncio.run(first())
    send(kafka, topic, [b"x"] * 50)
    asyncio.run(again())


def test_a_fetch_that_ends_within_a_rebalance_loads_no_state(kafka: Settings) -> None:
    """Trap 2: Faust seeks then too, when the tables hold nothing yet: an empty state would begin at offset 0."""
    topic = new_topic(kafka)
    send(kafka, topic, [b"x"] * 100)

    async def main() -> None:
        one = ColumnarApp(kafka, topic)
        worker_app.table(one.app, "state", 1)
        resumed: list[TP] = []
        sought: list[bool] = []

        async def load(tp: TP) -> None:
            resumed.append(tp)

        one.on_resume = load
        async with one.running():
            await one.until(lambda: bool(one.batches), "the first batch")
            consumer = one.app.consumer
            original = consumer.seek_to_committed

            async def seek_to_committed() -> Any:
                sought.append(consumer.flow_active)
                return await original()

            consumer.seek_to_committed = seek_to_committed
            await consumer.on_partitions_revoked({TP(topic, 0)})
            consumer.stop_flow()
            await one.until(lambda: False in sought, "the seek of a fetch that ended")
            await asyncio.sleep(0.2)
            assert resumed == [TP(topic, 0)], "as at the start"
            await one.app.on_rebalance_complete.send()
            await consumer.perform_seek()
            assert resumed == [TP(topic, 0)] * 2
            consumer.resume_flow()

    asyncio.run(main())


def test_a_seek_in_a_partition_that_was_taken_away_is_passed_over(kafka: Settings) -> None:
    """The next assignment seeks; the worker need not end for it."""
    topic = new_topic(kafka)
    send(kafka, topic, [b"x"] * 100)

    async def main() -> None:
        one = ColumnarApp(kafka, topic)
        async with one.running():
            await one.until(lambda: bool(one.batches), "the first batch")
            await one.app.consumer.seek(TP(topic, 7), 3)

    asyncio.run(main())


def test_what_retention_deleted_is_passed_over(kafka: Settings) -> None:
    """A state that is older than what the broker keeps starts at the earliest record, and says so by its offset."""
    topic = new_topic(kafka)
    send(kafka, topic, [b"x"] * 100)
    admin = clients.admin(kafka)
    admin.delete_records([TopicPartition(topic, 0, 60)])[TopicPartition(topic, 0)].result(30)

    async def main() -> None:
        one = ColumnarApp(kafka, topic)
        one.resume_at[0] = 10
        async with one.running():
            await one.until(lambda: bool(one.batches) and one.batches[-1].next == 100, "all records came")
            assert one.covered[0][0] == 60
            await one.app.consumer.seek(TP(topic, 0), 20)  # deleted while it was read
            await one.until(lambda: len(one.batches) > 1 and one.batches[-1].next == 100, "what is left")
            assert one.covered[-1][0] == 60

    asyncio.run(main())


def test_the_group_commits_what_agents_have_taken(kafka: Settings) -> None:
    """Trap 5: a batch is one message that carries its last offset; commits go on from batch to batch."""
    topic, group = new_topic(kafka), f"group-{time.time_ns()}"

    async def main() -> None:
        async with ColumnarApp(kafka, topic, group).running() as one:
            for n in (1, 2, 3):
                send(kafka, topic, [b"x"] * 10)
                await one.until(lambda n=n: bool(one.batches) and one.batches[-1].next == 10 * n, "ten more")  # type: ignore[misc]
                await one.until(lambda n=n: committed(kafka, group, topic) == 10 * n, "the group's offset")  # type: ignore[misc]

    asyncio.run(main())


def test_transactions_that_were_taken_back_are_not_read(kafka: Settings) -> None:
    """Trap 11: Faust reads committed records only in its own exactly-once mode, which is broken; we always do."""
    topic = new_topic(kafka)
    producer = Producer({"bootstrap.servers": kafka.kafka_bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(30)
    for n, keep in enumerate([True, False, True]):
        producer.begin_transaction()
        for _ in range(10):
            producer.produce(topic, str(n).encode(), b"k", 0)
        producer.flush(30)
        producer.commit_transaction(30) if keep else producer.abort_transaction(30)

    async def main() -> None:
        async with ColumnarApp(kafka, topic).running() as one:
            await one.until(lambda: bool(one.batches) and one.batches[-1].next >= 33, "all records came")
        values = [record.value for batch in one.batches for record in batch.records()]
        assert values == [b"0"] * 10 + [b"2"] * 10
        assert [a for a, _ in one.covered] == [0, *(b for _, b in one.covered[:-1])], "offsets without a gap"

    asyncio.run(main())


def test_trickling_records_come_in_few_batches(kafka: Settings) -> None:
    """Trap 10: a batch costs a millisecond however small it is, so the broker is asked to wait for more."""
    topic = new_topic(kafka)

    async def main() -> None:
        async with ColumnarApp(kafka, topic).running() as one:
            send(kafka, topic, [b"x"])
            await one.until(lambda: bool(one.batches), "the first record")
            producer, began, before = clients.producer(kafka, **{"linger.ms": 0}), time.monotonic(), len(one.batches)
            for i in range(200):
                producer.produce(topic, b"x", b"k", 0)
                producer.poll(0)
                await asyncio.sleep(max(0.0, began + i * 0.01 - time.monotonic()))
            assert producer.flush(30) == 0
            took_s = time.monotonic() - began
            await one.until(lambda: one.batches[-1].next == 201, "all records came")
            assert len(one.batches) - before <= 2 + took_s / 0.2 * 1.5

    asyncio.run(main())


def test_a_snapshot_as_large_as_the_broker_takes_is_written_and_recovered(kafka: Settings) -> None:
    """Traps 3 and 4: the worker's tables hold 7 MB values, and after recovery nobody replays the own changelog."""
    topic, group = new_topic(kafka), f"group-{time.time_ns()}"
    snapshot = bytes(bytearray((i * 2_654_435_761 >> 7) & 0xFF for i in range(7 << 20)))

    async def run(write: bool) -> None:
        one = ColumnarApp(kafka, topic, group)
        table = worker_app.table(one.app, "big", 1)
        replayed: list[Any] = []

        async def take(batch: Any) -> None:
            if write:
                table["s"] = snapshot
            for n in range(50):
                table["k"] = str(n).encode()

        one.on_batch = take
        async with one.running():
            await one.until(one.app.tables.recovery.completed.is_set, "recovery")
            if not write:
                assert table["s"] == snapshot
                original = table.apply_changelog_batch
                table.apply_changelog_batch = lambda found, *a, **k: (replayed.extend(found), original(found, *a, **k))
            seen = len(one.batches)
            send(kafka, topic, [b"x"])
            await one.until(lambda: len(one.batches) > seen, "a batch")
            await one.app.producer.flush()
            await asyncio.sleep(1.5)
            assert table["k"] == b"49"
        assert replayed == []

    asyncio.run(run(True))
    asyncio.run(run(False))


def test_the_worker_is_set_as_the_traps_demand(kafka: Settings, tmp_path: Path) -> None:
    """Traps 5, 11, 12, 14: buffers count batches, at least once, our own transport, a session of 6 s."""
    app = worker_app.faust_app(kafka, "test-settings", 1, tmp_path)
    assert app.conf.stream_buffer_maxsize == 8
    assert app.conf.processing_guarantee.name == "AT_LEAST_ONCE"
    assert {url.scheme for url in app.conf.broker} == {"columnar"}
    assert type(app.transport).__module__ == "stream_processors.transport"
    assert app.conf.broker_session_timeout == kafka.session_timeout_ms / 1_000 == 6.0


@pytest.mark.timeout(200)
def test_an_outage_is_told_in_a_few_lines(own_kafka: Settings) -> None:
    """Traps 14 and 15: while the broker is away the client errs 70 times a second, the log does not; no web server."""
    log = own_kafka.data_dir / "worker.log"
    with worker(own_kafka, own_kafka.session_timeout_ms) as process:
        wait_until(lambda: lag() == 0, "the worker's start")
        served = {c.laddr.port for c in psutil.Process(process.pid).net_connections("tcp") if c.status == "LISTEN"}
        assert served == {PORT}, "Faust's own web server is off"
        (broker,) = [
            child
            for child in psutil.Process().children(recursive=True)
            if "kafka.Kafka" in child.cmdline() and str(own_kafka.data_dir) in " ".join(child.cmdline())
        ]
        before = len(log.read_text().splitlines())
        broker.kill()
        time.sleep(10)
        assert process.poll() is None, "an outage of seconds is sat out"
        lines = log.read_text().splitlines()[before:]
    assert 0 < len(lines) <= 40, lines


@pytest.mark.timeout(240)
def test_input_that_retention_deleted_before_it_was_read_is_counted(own_kafka: Settings) -> None:
    """The worker was away for longer than Kafka keeps events: it goes on, says how many are lost, and lag ends at 0."""
    codec = Codec("listening_event")

    def fill(first: int) -> None:
        for partition in range(own_kafka.partitions):
            values = [codec.encode({**EVENT, "event_id": f"e{partition}-{first + i}"}) for i in range(100)]
            send(own_kafka, topics.EVENTS, values, partition)

    with worker(own_kafka):
        wait_until(lambda: lag() == 0, "the worker's start")
        fill(0)
        wait_until(lambda: next_offset(0) == 100 and lag() == 0, "the first events")
        time.sleep(1.5)  # a snapshot or two
    fill(100)
    admin = clients.admin(own_kafka)
    admin.delete_records([TopicPartition(topics.EVENTS, 0, 150)])[TopicPartition(topics.EVENTS, 0)].result(30)
    with worker(own_kafka):
        wait_until(lambda: next_offset(0) == 200 and lag() == 0, "catching up")
        told = httpx.get(f"http://127.0.0.1:{PORT}/metrics", timeout=5).text
    assert "crossfade_worker_expired_events_total 50.0" in told.splitlines()
    assert 'crossfade_worker_lag_events{partition="0",topic="listening-events"} 0.0' in told.splitlines()
    assert '"lost": 50' in (own_kafka.data_dir / "worker.log").read_text()


def next_offset(partition: int) -> int | None:
    try:
        told = httpx.get(f"http://127.0.0.1:{PORT}/healthz", timeout=2).json()["next"]
    except (httpx.HTTPError, KeyError):
        return None
    found: int | None = told.get(f"{topics.EVENTS}/{partition}")
    return found
