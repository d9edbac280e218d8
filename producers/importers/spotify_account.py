"""Spotify account data: `StreamingHistory*.json` and `StreamingHistory_music_*.json`, the short form of a history.

`endTime` is UTC, to the minute, and is when playback stopped. No ids of tracks: they are made from artist and title.
Identical rows are one listen, for nothing tells them apart.
"""

from __future__ import annotations

from producers.event import milliseconds
from producers.importers import Event
from producers.importers.listens import listen, named_track, played, text
from schemas.reasons import BadRecordError, Reason


def is_row(row: object) -> bool:
    """Whether a decoded object is a row of this format."""
    return isinstance(row, dict) and "endTime" in row and "msPlayed" in row


def told(row: Event, user: str) -> list[Event]:
    """Play and end of the row's listen; raises BadRecordError for podcasts and broken rows."""
    artist, title = text(row.get("artistName")), text(row.get("trackName"))
    if row.get("podcastName") or row.get("episodeName"):
        raise BadRecordError(Reason.BAD_FIELD, f"{row.get('podcastName')!a} is a podcast, not a track", "podcastName")
    if not title:
        raise BadRecordError(Reason.MISSING_ID, "no name of a track", "trackName")
    end = row.get("endTime")
    stop_ms = milliseconds(f"{end}+00:00" if isinstance(end, str) and len(end) <= 19 else end, "endTime")
    ms_played = played(row, "msPlayed")
    track_id, user_id = named_track(artist, title), user or "me"
    shared: Event = {"user_id": user_id, "track_id": track_id, "platform": "spotify"}
    identity = (user_id, stop_ms, track_id, ms_played)
    return listen(shared, stop_ms, ms_played, identity, track_name=title, artist_name=artist or None)
