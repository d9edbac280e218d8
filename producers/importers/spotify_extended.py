"""Spotify extended streaming history: `Streaming_History_Audio_*.json`, and `endsong_*.json` of older exports.

`ts` is the time at which playback stopped, so start = ts - ms_played. `skipped` may be null and is not to be trusted:
how a listen ended follows from `reason_end`, and from ms_played where the reason is missing.
"""

from __future__ import annotations

import re

from producers.event import milliseconds
from producers.importers import Event
from producers.importers.listens import listen, named_track, played, text
from schemas.reasons import BadRecordError, Reason

_COUNTRY = re.compile("[A-Z]{2}")
_DEVICES = (
    ("speaker", re.compile(r"cast|sonos|speaker|alexa|echo|partner")),
    ("tv", re.compile(r"tv|playstation|xbox")),
    ("mobile", re.compile(r"android|ios|iphone|ipad")),
    ("desktop", re.compile(r"windows|os ?x|mac|linux|web")),
)


def is_row(row: object) -> bool:
    """Whether a decoded object is a row of this format."""
    return isinstance(row, dict) and "ts" in row and "ms_played" in row


def told(row: Event, user: str) -> list[Event]:
    """Play and end of the row's listen; raises BadRecordError for episodes, audiobooks and broken rows."""
    title = text(row.get("master_metadata_track_name"))
    artist = text(row.get("master_metadata_album_artist_name"))
    track_id = text(row.get("spotify_track_uri"))
    if not track_id:
        track_id = _without_uri(row, artist, title)
    stop_ms, ms_played = milliseconds(row.get("ts"), "ts"), played(row, "ms_played")
    user_id = user or text(row.get("username")) or "me"
    country = text(row.get("conn_country"))
    shared: Event = {
        "user_id": user_id,
        "track_id": track_id,
        "platform": "spotify",
        "device": _device(text(row.get("platform"))),
        "country": country if _COUNTRY.fullmatch(country) and country != "ZZ" else None,
        "reason_start": row.get("reason_start"),
        "reason_end": row.get("reason_end"),
        "shuffle": row.get("shuffle"),
        "offline": row.get("offline"),
        "incognito": row.get("incognito_mode"),
    }
    identity = (user_id, stop_ms, track_id, ms_played, row.get("reason_start"), row.get("reason_end"))
    album = row.get("master_metadata_album_album_name")
    return listen(
        shared, stop_ms, ms_played, identity, track_name=title or None, artist_name=artist or None, album_name=album
    )


def _without_uri(row: Event, artist: str, title: str) -> str:
    for kind, fields in (
        ("an episode", ("spotify_episode_uri", "episode_name", "episode_show_name")),
        ("an audiobook", ("audiobook_uri", "audiobook_title", "audiobook_chapter_uri")),
    ):
        name = next((row[field] for field in fields if row.get(field)), None)
        if name:
            raise BadRecordError(Reason.BAD_FIELD, f"{name!a} is {kind}, not a track", "spotify_track_uri")
    if not title:
        raise BadRecordError(Reason.MISSING_ID, "neither a track nor its name", "spotify_track_uri")
    return named_track(artist, title)


def _device(platform: str) -> str | None:
    told = platform.lower()
    return next((name for name, pattern in _DEVICES if pattern.search(told)), told[:64] or None)
