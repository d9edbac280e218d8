"""A seeded log of listening events, made in columns: the same numbers give the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.codec import Codec

TYPES = ["play", "pause", "skip", "like", "share"]
SENTINEL_TRACK = "end:"
"""Tracks of the events that close the last windows; their own window stays open, so no result names them."""

_SENTINELS, _SHARE_MIN = 16, 50_000
_TYPE_SHARES = [0.46, 0.2, 0.26, 0.06, 0.02]
_EVENT_ID, _USER, _TRACK, _MS, _TIME = 36, 32, 36, 3, 6
_MARK = {"event_id": "~" * _EVENT_ID, "user_id": "^" * _USER, "track_id": "`" * _TRACK}
_TIME_MARK, _MS_MARK = 1_234_567_890_123, 123_456
_PROFILES: list[dict[str, str | None]] = [
    {
        "platform": platform,
        "location": location,
        "device": device,
        "country": country,
        "app_version": version,
    }
    for platform, device, version in (
        ("spotify", "mobile", "8.9.18.512"),
        ("spotify", "desktop", "1.2.31"),
        ("apple_music", "mobile", "4.7"),
        ("youtube_music", "tv", None),
    )
    for country, location in (("DE", "Berlin"), ("US", "Portland, OR"), ("BR", None), ("JP", "東京"), (None, None))
]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """What the log is like. Times in milliseconds; a row is at most `jitter_ms` older than the newest before it.

    At any time `users` listen; each stays for `stay_minutes`, and another comes.
    """

    events: int
    partitions: int = 4
    minutes: float = 20.0
    tracks: int = 10_000
    users: int = 100_000
    stay_minutes: float = 60.0
    jitter_ms: int = 4_000
    closing_ms: int = 600_000
    seed: int = 7
    start_ms: int = 1_700_000_010_000

    def share(self, divisor: int) -> Shape:
        """The first part of it, as dense as the whole; not so small that nothing could be measured."""
        events = max(self.events // divisor, min(self.events, _SHARE_MIN))
        return dataclasses.replace(self, events=events, minutes=self.minutes * events / self.events)


@dataclass(frozen=True)
class Log:
    """Events in the order of the log, as columns; `partition` is a function of the user."""

    shape: Shape
    frame: pl.DataFrame
    profile: Integers

    def values(self, first: int, last: int) -> list[bytes]:
        """The Avro values of the rows `first` to `last`, in single-object encoding."""
        part, profile = self.frame[first:last], self.profile[first:last]
        heard = part["ms_played"].is_not_null().to_numpy()
        values = np.empty(part.height, object)
        for kind in np.unique(profile * 2 + heard):
            at = np.flatnonzero(profile * 2 + heard == kind)
            values[at] = np.fromiter(_fill(_template(int(kind) // 2, bool(kind % 2)), part[at]), object, len(at))
        return values.tolist()


def generate(shape: Shape) -> Log:
    """The log of this shape, sentinels at its end."""
    random = np.random.default_rng(shape.seed)
    n = shape.events
    track = (random.zipf(1.1, 3 * n + 100) - 1).astype(np.int64)
    track = track[track < shape.tracks][:n]
    if len(track) < n:
        track = np.concatenate((track, random.integers(0, shape.tracks, n - len(track))))
    came = (np.arange(n) * shape.minutes / n * shape.users / shape.stay_minutes).astype(np.int64)
    user = came + random.integers(0, shape.users, n)
    kind = random.choice(len(TYPES), n, p=_TYPE_SHARES)
    span = int(shape.minutes * 60_000)
    time = shape.start_ms + np.arange(n) * span // n - random.integers(0, shape.jitter_ms, n)
    heard = np.where(np.isin(kind, (1, 2)), random.integers(8_192, 300_000, n), -1)
    events = _frame(np.arange(n), user, "spotify:track:", track, time, kind, heard, shape)
    ends = np.arange(_SENTINELS * shape.partitions)
    closing = np.full(len(ends), shape.start_ms + span + shape.closing_ms)
    kinds, silent = np.zeros(len(ends), np.int64), np.full(len(ends), -1)
    sentinels = _frame(n + ends, ends, SENTINEL_TRACK, ends, closing, kinds, silent, shape)
    profile = np.concatenate((user, ends)) % len(_PROFILES)
    told = pl.DataFrame(_PROFILES).select("platform", "country", "app_version")[profile]
    return Log(shape, pl.concat([events, sentinels]).hstack(told), profile)


def _frame(
    number: Integers,
    user: Integers,
    prefix: str,
    track: Integers,
    time: Integers,
    kind: Integers,
    heard: Integers,
    shape: Shape,
) -> pl.DataFrame:
    numbers = {"number": number, "user": user, "track": track, "timestamp": time, "kind": kind, "heard": heard}
    return pl.DataFrame(numbers).select(
        _text("0198c1d2-7b1a-7c3e-9f00-", "number", _EVENT_ID).alias("event_id"),
        pl.col("kind").cast(pl.UInt8).cat.to(pl.Enum(TYPES)).alias("event_type"),
        _text("5eed", "user", _USER).alias("user_id"),
        _text(prefix, "track", _TRACK).alias("track_id"),
        "timestamp",
        pl.when(pl.col("heard") >= 0).then("heard").alias("ms_played"),
        (pl.col("user") % shape.partitions).alias("partition"),
    )


def _text(prefix: str, number: str, length: int) -> pl.Expr:
    return pl.lit(prefix) + pl.col(number).cast(pl.String).str.zfill(length - len(prefix))


def _template(profile: int, heard: bool) -> bytes:
    """One event of this profile, with marks of fixed length where the numbers and names of the others go."""
    event = {
        **_MARK,
        **_PROFILES[profile],
        "event_type": "play",
        "timestamp": _TIME_MARK,
        "ms_played": _MS_MARK if heard else None,
        "tenant": "default",
        "source": "simulator",
        "received_at": _TIME_MARK,
    }
    return Codec("listening_event").encode(event)


def _fill(template: bytes, rows: pl.DataFrame) -> Iterator[bytes]:
    width = len(template)
    block = np.tile(np.frombuffer(template, np.uint8), (rows.height, 1))
    for name, length in (("event_id", _EVENT_ID), ("user_id", _USER), ("track_id", _TRACK)):
        at = template.index(_MARK[name].encode())
        block[:, at : at + length] = rows[name].to_numpy().astype(f"S{length}").view(np.uint8).reshape(-1, length)
    block[:, template.index(_MARK["event_id"].encode()) + _EVENT_ID] = rows["event_type"].to_physical().to_numpy() * 2
    times = _varints(rows["timestamp"].to_numpy(), _TIME)
    mark = _varints(np.array([_TIME_MARK]), _TIME).tobytes()
    first = template.index(mark)
    for at in (first, template.index(mark, first + _TIME)):
        block[:, at : at + _TIME] = times
    mark = _varints(np.array([_MS_MARK]), _MS).tobytes()
    if rows["ms_played"].null_count() == 0:
        at = template.index(mark)
        block[:, at : at + _MS] = _varints(rows["ms_played"].to_numpy(), _MS)
    data = block.tobytes()
    return (data[at : at + width] for at in range(0, len(data), width))


def _varints(numbers: Integers, length: int) -> npt.NDArray[np.uint8]:
    """Zigzag varints of numbers that all need `length` bytes."""
    zigzag = (numbers << 1) ^ (numbers >> 63)
    assert ((zigzag >> 7 * (length - 1)) > 0).all() and ((zigzag >> 7 * length) == 0).all(), "another length"
    parts = [(zigzag >> 7 * i) & 0x7F | (0x80 if i < length - 1 else 0) for i in range(length)]
    return np.stack(parts, axis=1).astype(np.uint8)
