"""What the collector is held against: the same endpoint, written plainly with FastAPI, pydantic and fastavro.

PLAIN_PRODUCER says how it waits for Kafka: `asyncio`, by the client's own asyncio producer, or `futures`, by a future
for each event that its delivery report sets.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, Literal

import fastavro
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.aio import AIOProducer
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import AwareDatetime, BaseModel, Field

from schemas.codec import Codec, schema
from schemas.topics import EVENTS

KEY, SERVERS = os.environ["PLAIN_KEY"], os.environ["KAFKA_BOOTSTRAP_SERVERS"]
_REMEMBERED = 100_000
_SCHEMA = fastavro.parse_schema(schema("listening_event"))
_PREFIX = Codec("listening_event").prefixes[0].data

Id = Annotated[str, Field(min_length=1, max_length=256)]
Milliseconds = Annotated[int, Field(ge=0, le=7 * 24 * 3_600_000)]


class Event(BaseModel):
    """One listening event."""

    event_id: Id
    event_type: Literal["play", "pause", "skip", "like", "share"]
    user_id: Id
    track_id: Id
    timestamp: AwareDatetime
    platform: Id
    location: str | None = None
    session_id: str | None = Field(None, max_length=256)
    device: str | None = None
    country: str | None = Field(None, pattern="^[A-Za-z]{2}$")
    position_ms: Milliseconds | None = None
    ms_played: Milliseconds | None = None
    reason_start: str | None = None
    reason_end: str | None = None
    shuffle: bool | None = None
    offline: bool | None = None
    incognito: bool | None = None
    app_version: str | None = None
    sent_at: AwareDatetime | None = None
    track_name: str | None = None
    artist_name: str | None = None
    album_name: str | None = None
    duration_ms: Milliseconds | None = None
    isrc: str | None = None


class Result(BaseModel):
    """What became of one event."""

    event_id: str
    status: Literal["accepted", "duplicate"]


class Answer(BaseModel):
    """What became of all."""

    accepted: int
    duplicate: int
    results: list[Result]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One producer for all requests."""
    settings = {"bootstrap.servers": SERVERS, "acks": "all", "enable.idempotence": True, "compression.type": "lz4"}
    app.state.recent = OrderedDict[str, None]()
    if os.environ["PLAIN_PRODUCER"] == "asyncio":
        aio = AIOProducer(settings, batch_size=100, buffer_timeout=0.005)
        app.state.send = lambda key, value: aio.produce(EVENTS, value=value, key=key)
        yield
        await aio.close()
        return
    producer, stopped = Producer({**settings, "linger.ms": 5}), threading.Event()

    def poll() -> None:
        while not stopped.is_set():
            producer.poll(0.1)

    async def send(key: bytes, value: bytes) -> asyncio.Future[None]:
        return delivered(producer, key, value)

    app.state.send = send
    poller = threading.Thread(target=poll)
    poller.start()
    yield
    stopped.set()
    poller.join()


app = FastAPI(lifespan=lifespan)


def authorized(authorization: Annotated[str, Header()]) -> None:
    """Refuses everybody without the key."""
    if not hmac.compare_digest(authorization.encode(), f"Bearer {KEY}".encode()):
        raise HTTPException(401)


def delivered(producer: Producer, key: bytes, value: bytes) -> asyncio.Future[None]:
    """Done once Kafka has acknowledged the record."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def report(error: KafkaError | None, _: Message) -> None:
        if error is None:
            loop.call_soon_threadsafe(future.set_result, None)
        else:
            loop.call_soon_threadsafe(future.set_exception, KafkaException(error))

    producer.produce(EVENTS, value, key, on_delivery=report)
    return future


@app.post("/v1/events", status_code=202, dependencies=[Depends(authorized)])
async def take(events: list[Event]) -> Answer:
    """Answers once Kafka has acknowledged every event."""
    send, recent = app.state.send, app.state.recent
    received_at = int(time.time() * 1000)
    waiting, results = [], []
    for event in events:
        if event.event_id in recent:
            results.append(Result(event_id=event.event_id, status="duplicate"))
            continue
        user = hmac.digest(b"secret", event.user_id.encode(), "sha256").hex()[:32]
        record: dict[str, Any] = event.model_dump() | {
            "user_id": user,
            "tenant": "default",
            "source": "plain",
            "received_at": received_at,
            "device_timestamp": None,
        }
        if event.sent_at and abs(skew := received_at / 1000 - event.sent_at.timestamp()) > 10:
            record["device_timestamp"] = event.timestamp
            record["timestamp"] = event.timestamp + timedelta(seconds=skew)
        value = io.BytesIO()
        value.write(_PREFIX)
        fastavro.schemaless_writer(value, _SCHEMA, record)
        waiting.append(await send(user.encode(), value.getvalue()))
        results.append(Result(event_id=event.event_id, status="accepted"))
    try:
        await asyncio.gather(*waiting)
    except KafkaException as error:
        raise HTTPException(503, str(error), {"Retry-After": "2"}) from None
    for result in results:
        recent[result.event_id] = None
        if len(recent) > _REMEMBERED:
            recent.popitem(last=False)
    return Answer(accepted=len(waiting), duplicate=len(results) - len(waiting), results=results)
