"""Tracks that clients told about: each new or changed one is sent on once per worker, newest last."""

from __future__ import annotations

import polars as pl

CONTEXT = ["track_name", "artist_name", "album_name", "duration_ms", "isrc"]
_KNOWN_MAX = 1 << 20


class SeenTracks:
    """Hashes of (tenant, track, context) that were sent. Forgotten at a restart: the topic is compacted by track."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def unseen(self, frame: pl.DataFrame, timestamps: pl.Series) -> pl.DataFrame:
        """Rows of schemas/track.avsc for tracks not sent yet, in the order of the log; times in ms."""
        told = frame.select("track_id", "tenant", *CONTEXT, first_seen_at=timestamps)
        keys = told.select(pl.struct("tenant", "track_id", *CONTEXT).hash()).to_series()
        first = told.with_columns(key=keys).unique("key", keep="first", maintain_order=True)
        new = first.filter(pl.Series([key not in self._known for key in first["key"].to_list()], dtype=pl.Boolean))
        if len(self._known) + new.height > _KNOWN_MAX:
            self._known.clear()
        self._known.update(new["key"].to_list())
        return new.drop("key")
