"""Batch oracle: what the windows of a generated log must hold, and whether the rows of an engine are the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from bench.cluster import Row
from bench.generator import SENTINEL_TRACK, TYPES, Log
from schemas.codec import Codec

COUNTS = [*TYPES, "ms_played"]
_KEYS = ["window", "track_id"]
_SERIES = ["event_type", "platform", "country", "app_version"]
_PRODUCT_KEYS = ["window", "scope", *_SERIES, "track_id"]
_PRODUCT_COUNTS = ["events", "users", *(f"{name}s" for name in TYPES), "ms_played", "late_count"]


def simple(log: Log, window_ms: int) -> pl.DataFrame:
    """Rows of the simple job: window, track_id, five counts, sum of ms_played."""
    kind = pl.col("event_type")
    return (
        _events(log, window_ms)
        .group_by(_KEYS)
        .agg(
            *((kind == name).sum().cast(pl.Int64).alias(name) for name in TYPES),
            pl.col("ms_played").sum(),
        )
        .sort(_KEYS)
    )


def parts(log: Log, window_ms: int) -> int:
    """How many rows an engine writes that tells a track once per input partition."""
    return _events(log, window_ms).select(*_KEYS, "partition").unique().height


def product(log: Log, window_ms: int) -> pl.DataFrame:
    """Rows of the complete worker: windows by series (type, platform, country, app version) and by track."""
    kind = pl.col("event_type")
    counts = [
        pl.len().cast(pl.Int64).alias("events"),
        pl.col("user_id").n_unique().cast(pl.Int64).alias("users"),
        *((kind == name).sum().cast(pl.Int64).alias(f"{name}s") for name in TYPES),
        pl.col("ms_played").sum(),
        pl.lit(0, pl.Int64).alias("late_count"),
    ]
    events = _events(log, window_ms)
    series = events.group_by("window", *_SERIES).agg(counts)
    tracks = events.group_by(_KEYS).agg(counts)
    both = [
        frame.with_columns(
            scope=pl.lit(scope), **{k: pl.lit(None, pl.String) for k in _PRODUCT_KEYS[2:] if k not in frame.columns}
        ).select(pl.col(_PRODUCT_KEYS[1:]).cast(pl.String), pl.col("window", *_PRODUCT_COUNTS))
        for scope, frame in (("series", series), ("track", tracks))
    ]
    return pl.concat(both).select(*_PRODUCT_KEYS, *_PRODUCT_COUNTS).sort(_PRODUCT_KEYS)


def _events(log: Log, window_ms: int) -> pl.DataFrame:
    events = log.frame.drop("event_id").filter(~pl.col("track_id").str.starts_with(SENTINEL_TRACK))
    return events.with_columns(window=pl.col("timestamp") // window_ms * window_ms)


def problem_of_simple(rows: Sequence[Row], wanted: pl.DataFrame) -> str | None:
    """What is wrong with the rows of an engine; None when nothing is.

    A key may come again with the same value (a replay); an engine may tell a track once per input partition
    (`window/track/part`), and then the parts are added up.
    """
    if not rows:
        return "no output"
    numbers = np.frombuffer(b"".join(row.value for row in rows), ">i8").reshape(-1, len(COUNTS)).astype(np.int64)
    keys = pl.Series("key", [row.key for row in rows]).cast(pl.String)
    found = pl.DataFrame({"key": keys, **{name: numbers[:, i] for i, name in enumerate(COUNTS)}})
    found = found.filter(~pl.col("key").str.contains(f"/{SENTINEL_TRACK}", literal=True)).unique()
    if found["key"].n_unique() != found.height:
        twice = found.filter(found["key"].is_duplicated())["key"][0]
        return f"{twice} came with different values"
    place = pl.col("key").str.split("/")
    found = (
        found.with_columns(window=place.list.get(0).cast(pl.Int64), track_id=place.list.get(1))
        .group_by(_KEYS)
        .agg(pl.col(COUNTS).sum())
        .sort(_KEYS)
    )
    return _difference(found, wanted, _KEYS, COUNTS)


def problem_of_product(rows: Sequence[Row], wanted: pl.DataFrame, window_ms: int) -> str | None:
    """What is wrong with the window-metrics of the complete worker; None when nothing is."""
    if not rows:
        return "no output"
    last = {row.key: row.value for row in rows}
    columns = Codec("window_metrics").columns(list(last.values()))
    if columns.bad:
        return f"{len(columns.bad)} records are no window metrics"
    frame = columns.frame.with_columns(pl.selectors.datetime().to_physical())
    found = (
        frame.rename({"window_start": "window"})
        .filter(
            (pl.col("window_end") - pl.col("window") == window_ms)
            & (pl.col("emit") == "final")
            & pl.col("scope").cast(pl.String).is_in(["series", "track"])
            & (pl.col("window") <= wanted["window"].max())
        )
        .select(pl.col(_PRODUCT_KEYS[1:]).cast(pl.String), pl.col("window", *_PRODUCT_COUNTS).cast(pl.Int64))
        .select(*_PRODUCT_KEYS, *_PRODUCT_COUNTS)
        .sort(_PRODUCT_KEYS)
    )
    return _difference(found, wanted, _PRODUCT_KEYS, _PRODUCT_COUNTS)


def _difference(found: pl.DataFrame, wanted: pl.DataFrame, keys: list[str], counts: list[str]) -> str | None:
    if found.equals(wanted):
        return None
    missing = wanted.join(found, on=keys, how="anti", nulls_equal=True).height
    extra = found.join(wanted, on=keys, how="anti", nulls_equal=True).height
    both = wanted.join(found, on=keys, how="inner", nulls_equal=True, suffix="_found")
    differ = both.filter(pl.any_horizontal(pl.col(c) != pl.col(f"{c}_found") for c in counts)).height
    sums = ", ".join(f"{c} {found[c].sum()} of {wanted[c].sum()}" for c in counts[:2])
    return f"{missing} rows missing, {extra} too many, {differ} wrong of {wanted.height} ({sums})"
