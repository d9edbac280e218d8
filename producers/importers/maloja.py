"""Maloja: the JSON export, one object with a list of scrobbles.

Odd: lengths are seconds; `duration` (what was heard) and `length` (of the track) may both be null; a scrobble has a
list of artists, and its album is null, or has artists of its own and a title under `albumtitle` (`name` in early
versions). `time` is the start.
"""

from __future__ import annotations

from typing import Any

import msgspec

from producers.importers.listens import Listen, NoListen, length, scrobble, seconds
from schemas.reasons import BadRecordError, Reason

NAME = "Maloja scrobbles"
INSIDE = "scrobbles"
"""The field of the file that holds the rows."""


class Album(msgspec.Struct, gc=False):
    """An album."""

    albumtitle: str | None = None
    name: str | None = None


class Track(msgspec.Struct, gc=False):
    """A track."""

    artists: list[str] | None = None
    title: str | None = None
    album: Album | None = None
    length: Any = None


class Row(msgspec.Struct, gc=False):
    """One scrobble."""

    time: Any = None
    track: Track | None = None
    duration: Any = None


def is_row(row: dict[str, Any]) -> bool:
    """Whether a decoded object is a row of this format."""
    return "time" in row and isinstance(row.get("track"), dict) and "title" in row["track"]


def listen(row: Row, user: str) -> Listen | NoListen:
    """What the row tells; raises BadRecordError."""
    track = row.track
    if track is None or not track.artists or not track.title:
        missing = "title" if track and track.artists else "artists"
        raise BadRecordError(Reason.MISSING_ID, "missing", f"track.{missing}")
    heard_ms = length(row.duration, "duration", 1000)
    if heard_ms == 0:
        return NoListen.NOTHING_HEARD
    return scrobble(
        "maloja",
        user,
        ", ".join(track.artists),
        track.title,
        seconds(row.time, "time"),
        album=(track.album.albumtitle or track.album.name) if track.album else None,
        duration_ms=length(track.length, "track.length", 1000),
        ms_played=heard_ms,
    )
