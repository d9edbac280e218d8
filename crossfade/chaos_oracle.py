"""The batch oracle of a campaign: what the log in Kafka leads to, computed once, without hurry, over files.

It shares no code with the worker or the sink: windows are SQL, plays and sessions the plain loops of
crossfade/oracle.py, taken after time has gone on until all are over. `read_log` writes the records of
`listening-events` as Parquet, in the order in which they stand there; `derive` makes from it what windows of all sizes,
plays, sessions and late events have to be. Memory is bounded by DuckDB's limit, whatever the length of the log.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
from confluent_kafka import TopicPartition

from crossfade.oracle import Plays, Sessions
from schemas import kafka, topics
from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY
from schemas.reasons import FUTURE_MAX_MS
from schemas.settings import Settings

_READ_AT_ONCE = 50_000
_PARTITION_BITS = 48
_COLUMNS = (
    *("tenant", "source", "event_id", "event_type", "user_id", "track_id", "timestamp", "platform", "country"),
    *("app_version", "device", "session_id", "position_ms", "ms_played", "duration_ms"),
    *("track_name", "artist_name", "album_name", "isrc"),
)
SESSION_EVENTS_MAX = 10_000
"""A session of more events is divided (schemas/session.avsc)."""


def read_log(settings: Settings, directory: Path) -> None:
    """Writes everything in `listening-events` as files; raises KafkaUnavailableError.

    `events-*.parquet`: readable records, with `place` (partition * 2**48 + offset), stream time before and after, and
    lateness. `broken-*.parquet`: the others, with the MD5 of their bytes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    codec = kafka.codec_of(settings, topics.EVENTS)
    client = kafka.consumer(settings, "crossfade-chaos")
    try:
        for partition in kafka.partitions_of(client, topics.EVENTS):
            low, high = kafka.offsets(client, topics.EVENTS, partition)
            client.assign([TopicPartition(topics.EVENTS, partition, low)])
            reader = _Reader(settings, codec, partition)
            at, number = low, 0
            while at < high:
                messages = [m for m in client.consume(min(_READ_AT_ONCE, high - at), 1.0) if m.error() is None]
                if messages:
                    at, number = messages[-1].offset() + 1, number + 1
                    events, broken = reader.take(messages)
                    events.write_parquet(directory / f"events-{partition}-{number:05}.parquet")
                    broken.write_parquet(directory / f"broken-{partition}-{number:05}.parquet")
    finally:
        client.close()


class _Reader:
    """Judges the records of one partition in their order."""

    def __init__(self, settings: Settings, codec: Codec, partition: int) -> None:
        self._codec, self._partition = codec, partition
        self._window_ms, self._grace_ms = settings.window_ms, settings.grace_ms
        self._clock = 0

    def take(self, messages: list[Any]) -> tuple[pl.DataFrame, pl.DataFrame]:
        offsets = np.array([m.offset() for m in messages], np.int64)
        arrivals = np.array([m.timestamp()[1] for m in messages], np.int64)
        values = [m.value() for m in messages]
        is_mark = np.array([v is None and m.key() == WATERMARK_KEY for m, v in zip(messages, values, strict=True)])
        readable = np.flatnonzero(np.array([v is not None for v in values]))
        columns = self._codec.columns([values[i] for i in readable.tolist()])
        rows = readable[columns.index]
        times = columns.frame["timestamp"].dt.epoch("ms").to_numpy()
        believed = times <= arrivals[rows] + FUTURE_MAX_MS
        rows, frame = rows[believed], columns.frame.filter(pl.Series(believed))
        moves = np.zeros(len(messages), np.int64)  # what each record says about stream time
        moves[rows] = times[believed]
        moves[is_mark] = arrivals[is_mark]
        after = np.maximum(np.maximum.accumulate(moves), self._clock)
        before = np.concatenate((np.array([self._clock], np.int64), after[:-1]))
        self._clock = int(after[-1])
        closed = (before - self._grace_ms) // self._window_ms * self._window_ms
        events = frame.select(
            pl.col(name).dt.epoch("ms") if name == "timestamp" else pl.col(name)
            for name in _COLUMNS
            if name in frame.columns
        ).with_columns(
            pl.col("event_type").cast(pl.String),
            place=pl.Series((self._partition << _PARTITION_BITS) + offsets[rows]),
            before=pl.Series(before[rows]),
            after=pl.Series(after[rows]),
            late=pl.Series(times[believed] < closed[rows]),
        )
        good = set(rows.tolist())
        bad = [i for i in range(len(messages)) if i not in good and not is_mark[i]]
        digests = [hashlib.md5(values[i] or b"", usedforsecurity=False).hexdigest() for i in bad]
        places = [f"{topics.EVENTS}/{self._partition}/{offsets[i]}" for i in bad]
        schema = {"place": pl.String, "payload_md5": pl.String}
        return events, pl.DataFrame({"place": places, "payload_md5": digests}, schema)


_FRESH = """
CREATE TABLE fresh AS
SELECT e.*, CASE WHEN late THEN before ELSE timestamp END // {window_ms} * {window_ms} AS window_start
FROM read_parquet('{log}/events-*.parquet') AS e
SEMI JOIN (
  SELECT min(place) AS place FROM read_parquet('{log}/events-*.parquet') GROUP BY tenant, event_id
) AS first USING (place)
"""

_WINDOWS = """
SELECT {size}::BIGINT AS window_ms, window_start, '{scope}' AS scope, tenant, {dimensions},
  sum(events)::BIGINT AS events, count(user_id) FILTER (events > 0) AS users,
  {kinds}
  sum(ms_played)::BIGINT AS ms_played, sum(completed_ms) / nullif(sum(duration_ms), 0) AS completion,
  {late} AS late_count
FROM (
  SELECT window_start // {size} * {size} AS window_start, tenant, {dimensions}, user_id,
    count(*) FILTER (NOT late) AS events,
    {user_kinds}
    coalesce(sum(ms_played) FILTER (NOT late), 0) AS ms_played,
    coalesce(sum(least(ms_played, duration_ms)) FILTER (NOT late AND ms_played IS NOT NULL AND duration_ms > 0), 0)
      AS completed_ms,
    coalesce(sum(duration_ms) FILTER (NOT late AND ms_played IS NOT NULL AND duration_ms > 0), 0) AS duration_ms,
    count(*) FILTER (late) AS late_count
  FROM fresh GROUP BY ALL
)
GROUP BY ALL
HAVING sum(events) + {late} > 0
"""
_KINDS = {"plays": "play", "pauses": "pause", "skips": "skip", "likes": "like", "shares": "share"}
COUNTS = ("events", *_KINDS, "ms_played", "completion", "late_count")
SERIES = ("event_type", "platform", "country", "app_version")
SCOPES = {"series": SERIES, "track": ("track_id",)}
_LARGER_MS = (300_000, 3_600_000, 86_400_000)


def open_oracle(directory: Path, memory_limit: str = "2GB") -> duckdb.DuckDBPyConnection:
    """A DuckDB that spills to `directory` instead of growing."""
    connection = duckdb.connect(str(directory / "oracle.duckdb"))
    connection.execute(f"SET memory_limit = '{memory_limit}'")
    connection.execute("SET temp_directory = ?", [str(directory / "spill")])
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    return connection


def derive(oracle: duckdb.DuckDBPyConnection, log: Path, settings: Settings) -> None:
    """Makes the tables `fresh` (each event once), `windows_<scope>`, `expected_plays` and `expected_sessions`."""
    oracle.execute(_FRESH.format(log=log, window_ms=settings.window_ms))
    kinds = "".join(f"sum({column})::BIGINT AS {column}, " for column in _KINDS)
    user_kinds = "".join(
        f"count(*) FILTER (NOT late AND event_type = '{kind}') AS {column}, " for column, kind in _KINDS.items()
    )
    sizes_ms = [settings.window_ms, *(s for s in _LARGER_MS if s > settings.window_ms and s % settings.window_ms == 0)]
    for scope, dimensions in SCOPES.items():
        late = "sum(late_count)::BIGINT" if scope == "series" else "0"
        told = {"scope": scope, "dimensions": ", ".join(dimensions), "kinds": kinds, "user_kinds": user_kinds}
        queries = (_WINDOWS.format(size=size_ms, late=late, **told) for size_ms in sizes_ms)
        oracle.execute(f"CREATE TABLE windows_{scope} AS {' UNION ALL '.join(queries)}")
    _derive_listening(oracle, settings)


PLAY = {
    **dict.fromkeys(("play_id", "ended_by", "listen_id"), "VARCHAR"),
    **dict.fromkeys(("started_at", "ended_at", "ms_played", "stretch"), "BIGINT"),
    **dict.fromkeys(("is_stream", "is_scrobble"), "BOOLEAN"),
}
SESSION = {
    **dict.fromkeys(("session_key", "tenant", "source", "user_id", "platform", "country", "ended_by"), "VARCHAR"),
    **dict.fromkeys(("started_at", "ended_at", "events", "plays", "skips", "likes", "shares"), "BIGINT"),
    **dict.fromkeys(("tracks", "devices", "ms_played"), "BIGINT"),
}
_LISTENED = (
    *("tenant", "user_id", "event_id", "event_type", "source", "track_id", "platform", "country", "device"),
    *("timestamp", "position_ms", "ms_played", "duration_ms", "after"),
)
_NEVER_MS = 1 << 60
"""Stream time by which every play and session is over."""


def _derive_listening(oracle: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """One listener after the other, so that no more than one is in memory."""
    for name, columns in (("expected_plays", PLAY), ("expected_sessions", SESSION)):
        oracle.execute(f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
    events = oracle.cursor().execute(
        f"SELECT {', '.join(_LISTENED)} FROM fresh WHERE user_id IS NOT NULL ORDER BY tenant, user_id, place"  # noqa: S608 - names of ours
    )
    plays: list[tuple[Any, ...]] = []
    sessions: list[tuple[Any, ...]] = []
    for _, heard in itertools.groupby(_rows(events), key=itemgetter(0, 1)):
        listener, stays = Plays(settings.play_timeout_ms), Sessions(settings.session_gap_ms, SESSION_EVENTS_MAX)
        for row in heard:
            event = dict(zip(_LISTENED, row, strict=True))
            listener.take(event, event["after"])
            stays.take(event, event["after"])
        for play_id, found in listener.finish(_NEVER_MS).items():
            told = {"play_id": play_id, **found}
            plays.append(tuple(told[column] for column in PLAY))
        sessions += [tuple(found[column] for column in SESSION) for found in stays.finish(_NEVER_MS).values()]
        if len(plays) > _READ_AT_ONCE:
            _append(oracle, "expected_plays", PLAY, plays)
            _append(oracle, "expected_sessions", SESSION, sessions)
    _append(oracle, "expected_plays", PLAY, plays)
    _append(oracle, "expected_sessions", SESSION, sessions)


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(10_000):
        yield from rows


def _append(oracle: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, str], rows: list[Any]) -> None:
    if rows:
        frame = pl.DataFrame(rows, schema=list(columns), orient="row", infer_schema_length=None)
        oracle.register("_found", frame.to_arrow())
        oracle.execute(f"INSERT INTO {name} SELECT * FROM _found")  # noqa: S608 - names of ours
        oracle.unregister("_found")
        rows.clear()
