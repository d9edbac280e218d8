"""The generator of the fault campaign: one seeded log of client events, as files for the ways in and as the truth.

The log holds what clients do wrong: events that come again, out of order, too late or broken; and listeners that the
detectors shall notice. The truth stays in Parquet files, so that memory does not grow with the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

START_MS = 1_748_736_000_000
"""Event time of the first event, 1 June 2025: the same log for a seed on every day."""

HTTP_SHARE = 0.2
"""Of the lines, so many go to the collector by HTTP, the others through `producers.replay`."""

WAYS = ("replay", "http")
_CHUNK = 100_000
_AGAIN, _DISORDERED, _LATE, _BROKEN = 0.01, 0.03, 0.003, 0.001
_COUNTRIES = ("US", "GB", "DE", "BR", "SE")
_TYPES, _TYPE_SHARES = ("play", "pause", "skip", "like", "share"), (0.5, 0.15, 0.2, 0.1, 0.05)
_DEVICES = ("mobile", "desktop", "speaker")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GeneratedLog:
    """Files of a generated log: `files` by way in, in the order to be sent, and the truth as Parquet files."""

    directory: Path
    lines: dict[str, int]
    files: dict[str, list[Path]]
    last_ms: int

    @property
    def truth(self) -> str:
        """The Parquet files of the truth, as DuckDB and polars read them.

        One row per line: `way`; the event's columns; or `reason` and `payload_md5` of a line that is to be refused.
        """
        return str(self.directory / "truth-*.parquet")


def generate(directory: Path, events: int, seed: int) -> GeneratedLog:
    """Writes the log of `events` lines; the same seed and number write the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    crowd = _Crowd(events, np.random.default_rng(seed), seed)
    files: dict[str, list[Path]] = {way: [] for way in WAYS}
    lines = dict.fromkeys(WAYS, 0)
    last_ms = 0
    for number, frame in enumerate(crowd.chunks(), 1):
        told = _lines(frame, crowd.random)
        truth = frame.with_columns(
            reason=pl.Series([one.reason for one in told], dtype=pl.String),
            payload_md5=pl.Series([one.md5 for one in told], dtype=pl.String),
        ).with_columns(
            pl.when(pl.col("reason").is_null()).then(pl.col(name)).alias(name)
            for name in frame.columns
            if name != "way"
        )
        truth.write_parquet(directory / f"truth-{number:05}.parquet")
        last_ms = int(truth["timestamp"].drop_nulls().to_numpy().max(initial=last_ms))
        for way in WAYS:
            mine = [one.data for one, taken in zip(told, frame["way"].to_list(), strict=True) if taken == way]
            path = directory / f"{way}-{number:05}.jsonl"
            path.write_bytes(b"".join(line + b"\n" for line in mine))
            files[way].append(path)
            lines[way] += len(mine)
    return GeneratedLog(directory, lines, files, last_ms)


class _Crowd:
    """Who listens to what: the frames of the log, in the order in which the events arrive."""

    def __init__(self, events: int, random: np.random.Generator, seed: int) -> None:
        self.random = random
        self._events, self._seed = events, seed
        self._rate = max(200.0, events / 10_000)  # events per second of event time: at least 16 windows, at most 3 h
        self._span_ms = events / self._rate * 1000
        users, tracks = max(2_000, events // 500), 2_000
        self._users = pl.Series([f"u{seed}-{n}" for n in range(users)])
        self._country = random.choice(len(_COUNTRIES), users, p=(0.35, 0.2, 0.2, 0.15, 0.1))
        self._platform = random.choice(2, users, p=(0.7, 0.3))
        self._version = random.choice(3, users, p=(0.6, 0.3, 0.1))
        self._duration = random.integers(60_000, 420_000, tracks)
        self._popularity = np.cumsum(1 / np.arange(1, tracks + 1) ** 0.8)
        self._popularity /= self._popularity[-1]

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Frames of at most 100,000 rows and what arrives with them; together as many rows as there are events."""
        made = told = 0
        waiting = self._empty()
        while told < self._events:
            count = min(_CHUNK, self._events)
            fresh = self._happen(made, count)
            made += count
            waiting = pl.concat([waiting, self._on_the_way(fresh)]).sort("_arrival", maintain_order=True)
            now = START_MS + made / self._rate * 1000
            ready = waiting.filter(pl.col("_arrival") < now).head(self._events - told)
            waiting = waiting.filter(pl.col("_arrival") >= now)
            told += ready.height
            if ready.height:
                yield ready.drop("_arrival")

    def _empty(self) -> pl.DataFrame:
        return self._on_the_way(self._happen(0, 1)).clear()

    def _happen(self, first: int, count: int) -> pl.DataFrame:
        random = self.random
        number = np.arange(first, first + count)
        at = (START_MS + number / self._rate * 1000).astype(np.int64)
        part = (at - START_MS) / self._span_ms
        user = random.integers(1, len(self._users), count)
        surge = (part > 0.45) & (part < 0.55) & (random.random(count) < 0.4)
        brazilians = np.flatnonzero(self._country == _COUNTRIES.index("BR"))
        user[surge] = random.choice(brazilians, int(surge.sum()))
        track = np.searchsorted(self._popularity, random.random(count))
        kind = random.choice(5, count, p=_TYPE_SHARES)
        bot = (part > 0.2) & (part < 0.8) & (random.random(count) < 60 / (60 * self._rate))
        user[bot], track[bot], kind[bot] = 0, 7, 0
        heard = np.minimum(random.integers(0, 420_000, count), self._duration[track])
        device = np.where(random.random(count) < 0.9, user % 3, random.integers(0, 3, count))
        position = np.where(kind == 0, np.where(random.random(count) < 0.8, 0, heard), heard)
        optional = {"ms_played": random.random(count) < 0.8, "country": random.random(count) < 0.97}
        tells = kind == 0
        tells_duration = tells | (random.random(count) < 0.5)
        ids = pl.Series(number).cast(pl.String)
        tracks = pl.Series(track).cast(pl.String)
        return pl.DataFrame(
            {
                "way": pl.Series(random.random(count) < HTTP_SHARE).replace_strict({True: WAYS[1], False: WAYS[0]}),
                "event_id": f"c{self._seed}-" + ids,
                "event_type": pl.Series(_TYPES).gather(kind),
                "user_id": self._users.gather(user),
                "track_id": "track-" + tracks,
                "timestamp": at,
                "platform": pl.Series(["spotify", "custom"]).gather(self._platform[user]),
                "country": pl.Series(_COUNTRIES).gather(self._country[user]),
                "device": pl.Series(_DEVICES).gather(device),
                "session_id": self._users.gather(user) + "-" + pl.Series(at // 1_800_000).cast(pl.String),
                "app_version": pl.Series(["9.1", "9.0", "8.4"]).gather(self._version[user]),
                "position_ms": pl.Series(position),
                "ms_played": pl.Series(heard),
                "duration_ms": pl.Series(self._duration[track]),
                "track_name": "Song " + tracks,
                "artist_name": "Artist " + pl.Series(track % 300).cast(pl.String),
            }
        ).with_columns(
            pl.when(pl.Series(optional["ms_played"] & ((kind == 1) | (kind == 2)))).then("ms_played"),
            pl.when(pl.Series(optional["country"])).then("country"),
            pl.when(pl.Series(tells_duration)).then("duration_ms"),
            *(pl.when(pl.Series(tells)).then(name) for name in ("track_name", "artist_name")),
        )

    def _on_the_way(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Delays some and doubles some; a doubled event takes any way."""
        random, count = self.random, rows.height
        delay = np.where(random.random(count) < _DISORDERED, random.integers(500, 6_000, count), 0)
        delay += np.where(random.random(count) < _LATE, random.integers(80_000, 300_000, count), 0)
        rows = rows.with_columns(_arrival=pl.col("timestamp") + pl.Series(delay))
        again = rows.filter(pl.Series(random.random(count) < _AGAIN))
        later = pl.Series(random.integers(500, 20_000, again.height))
        ways = pl.Series(random.choice(WAYS, again.height), dtype=pl.String)
        return pl.concat([rows, again.with_columns(_arrival=pl.col("_arrival") + later, way=ways)])


@dataclass(frozen=True)
class _Line:
    data: bytes
    reason: str | None = None

    @property
    def md5(self) -> str | None:
        """Of what is to be found in the dead letter."""
        return None if self.reason is None else hashlib.md5(self.data, usedforsecurity=False).hexdigest()


def _lines(frame: pl.DataFrame, random: np.random.Generator) -> list[_Line]:
    texts = frame.select(pl.struct(pl.exclude("way")).struct.json_encode()).to_series().to_list()
    lines = [_Line(text.encode()) for text in texts]
    for at in np.flatnonzero(random.random(len(lines)) < _BROKEN).tolist():
        reason, data = _broken(lines[at].data, int(random.integers(0, 7)), f"{random.integers(1 << 62):x}")
        lines[at] = _Line(data, reason)
    return lines


def _broken(line: bytes, kind: int, mark: str) -> tuple[str, bytes]:
    """A refused line and the reason why. `mark` makes it unlike any other: a repeated event may be broken twice."""
    event: dict[str, Any] = {**msgspec.json.decode(line), "event_id": f"broken-{mark}"}
    match kind:
        case 0:
            return "not_json", b'{"broken": "' + mark.encode()
        case 1:
            return "unknown_type", msgspec.json.encode({**event, "event_type": "rewind"})
        case 2:
            return "missing_id", msgspec.json.encode({**event, "user_id": ""})
        case 3:
            return "bad_timestamp", msgspec.json.encode({**event, "timestamp": "yesterday"})
        case 4:
            return "future_timestamp", msgspec.json.encode({**event, "timestamp": 4_102_444_800_000})
        case 5:
            return "invalid_utf8", msgspec.json.encode({**event, "location": "M@lmo"}).replace(b"M@lmo", b"Malm\xf6")
        case _:
            return "bad_number", msgspec.json.encode({**event, "ms_played": -1})
