"""Spotify account data: `StreamingHistory_music_*.json` and `StreamingHistory*.json`, the short form of the last year.

Odd: `endTime` is when playback stopped, in UTC, to the minute, so that ten plays may share it; there are no ids of
tracks (they are made from the names) and no reasons (below 30 s it was a skip). Nothing tells identical rows apart:
they are one listen. The extended history tells the same listens to the second, with the same names and `msPlayed`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from producers.event import milliseconds
from producers.importers.listens import WITHOUT_NAME, Listen, NoListen, is_unknown_track, played, track

NAME = "Spotify account data"


class Row(msgspec.Struct, gc=False, rename="camel"):
    """One element of the file."""

    end_time: Any = None
    ms_played: Any = None
    artist_name: str | None = None
    track_name: str | None = None
    podcast_name: str | None = None
    episode_name: str | None = None
    audiobook_name: str | None = None


def is_row(row: dict[str, Any]) -> bool:
    """Whether a decoded object is a row of this format."""
    return "endTime" in row and "msPlayed" in row


def listen(row: Row, user: str) -> Listen | NoListen:
    """What the row tells; raises BadRecordError."""
    if row.podcast_name or row.episode_name:
        return NoListen.PODCAST
    if row.audiobook_name:
        return NoListen.AUDIOBOOK
    if is_unknown_track(row.track_name):
        return NoListen.UNKNOWN_TRACK
    heard, end = track(row.artist_name, row.track_name), row.end_time
    stop_ms = milliseconds(f"{end}+00:00" if isinstance(end, str) and len(end) <= 19 else end, "endTime")
    ms_played = played(row.ms_played, "msPlayed")
    if not ms_played:
        return NoListen.NOTHING_HEARD
    return Listen(
        user or WITHOUT_NAME,
        "spotify",
        *heard,
        at_ms=stop_ms,
        start_ms=stop_ms - ms_played,
        stop_ms=stop_ms,
        also=f"spotify {ms_played}",
        by_minute=True,
        ms_played=ms_played,
    )
