"""Small random logs of one partition, for property tests."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import polars as pl
from hypothesis import strategies as st

from schemas.codec import Codec
from stream_processors.wire import Decoded

CODEC = Codec("listening_event")
START_MS = 1_700_000_000_000

times = st.integers(0, 400).map(lambda s: START_MS + s * 1_000)
events = st.fixed_dictionaries(
    {
        "event_id": st.integers(0, 60).map("e{}".format),
        "event_type": st.sampled_from(["play", "pause", "skip", "like", "share"]),
        "user_id": st.sampled_from(["ann", "bob", "cid", None]),
        "track_id": st.sampled_from(["t1", "t2"]),
        "timestamp": times,
        "platform": st.sampled_from(["spotify", "custom"]),
        "country": st.sampled_from([None, "DE"]),
        "app_version": st.sampled_from([None, "2.1"]),
        "ms_played": st.sampled_from([None, 0, 1_000, 200_000]),
        "duration_ms": st.sampled_from([None, 180_000]),
        "tenant": st.just("default"),
        "source": st.just("simulator"),
        "received_at": st.just(START_MS),
    }
)
events = st.tuples(events, st.sampled_from([0, 0, 0, -30_000, 900_000])).map(
    lambda pair: {**pair[0], "arrival_ms": pair[0]["timestamp"] + pair[1]}
)
"""Some devices' clocks are half a minute fast: such an event arrives before its own time."""
logs = st.lists(st.one_of(events, times), max_size=60)
"""A log: events and watermark records (their stream time)."""


def decoded(entries: list[Any], first_offset: int) -> Decoded:
    """A stretch of a log as the wire gives it."""
    rows = [(first_offset + i, entry) for i, entry in enumerate(entries) if not isinstance(entry, int)]
    frame = CODEC.columns([CODEC.encode(entry) for _, entry in rows]).frame
    offsets = pl.Series("_offset", [offset for offset, _ in rows], pl.Int64)
    arrivals = pl.Series("_time", [entry.get("arrival_ms", -1) for _, entry in rows], pl.Int64)
    marks = [(first_offset + i, entry) for i, entry in enumerate(entries) if isinstance(entry, int)]
    return Decoded(frame.with_columns(offsets, arrivals), watermarks=marks)


def chunked(entries: list[Any], cuts: list[int]) -> list[tuple[list[Any], int]]:
    """The log cut at some places, each piece with its first offset."""
    places = sorted({0, len(entries), *(cut % (len(entries) + 1) for cut in cuts)})
    return [(entries[a:b], a) for a, b in pairwise(places)]
