"""Tracks that clients told about: each new or changed one is sent on once per worker, newest last."""

from __future__ import annotations

import polars as pl

from stream_processors.codes import Codes, Hashes, mixed

CONTEXT = ["track_name", "artist_name", "album_name", "duration_ms", "isrc"]
_TELLING = ["track_name", "artist_name", "isrc"]
_KNOWN_MAX = 1 << 20


class SeenTracks:
    """Hashes of what was sent. Forgotten at a restart: the topic is compacted, so what is sent again replaces itself.

    64 bits each: one of a million new tracks is taken for a known one with a chance of 3e-8.

    Many events name no more than the id. Such a track is sent once as untold, under a key of its own, so that it never
    replaces what another client told.
    """

    def __init__(self) -> None:
        self._known = Codes()

    def unseen(self, frame: pl.DataFrame, timestamps: pl.Series) -> pl.DataFrame:
        """Rows of schemas/track.avsc not sent yet, in the order of the log, times in ms; and `key`, their Kafka key.

        `frame` has marked events.
        """
        if len(self._known) > _KNOWN_MAX:
            self._known = Codes()
        columns = ["tenant", "track_id", *CONTEXT]
        told = frame.select(pl.col(CONTEXT).hash())
        marks = mixed([frame["_track"].to_numpy(), *(column.to_numpy() for column in told)])
        _, new = self._known.of(Hashes(marks, marks))
        if not len(new):
            return pl.DataFrame()
        is_told = pl.any_horizontal(pl.col(name).is_not_null() for name in _TELLING)
        key = pl.format("{}/{}", "tenant", "track_id")
        return (
            frame.select(columns)[new]
            .select(
                "track_id",
                "tenant",
                *(pl.when(is_told).then(pl.col(name)).alias(name) for name in CONTEXT),
                first_seen_at=timestamps[new],
                key=pl.when(is_told).then(key).otherwise(pl.format("{}/untold", key)),
            )
            .unique(["key", *CONTEXT], keep="first", maintain_order=True)
        )
