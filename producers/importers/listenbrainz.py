"""ListenBrainz: JSON lines of the export (a zip of a file a month), and the array of older exports.

Odd: `listened_at` is the start, in seconds; the length of the track may be in seconds or milliseconds, and how much
of it was heard is rarely told. `additional_info` holds whatever a client sent: what has another type there is not
used. A listen that came from Spotify keeps Spotify's id of the track. Artist and title are both needed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from producers.importers.listens import Listen, NoListen, length, scrobble, seconds
from schemas.reasons import BadRecordError, Reason

NAME = "ListenBrainz listens"

_SERVICES = {
    "spotify.com": "spotify",
    "music.youtube.com": "youtube_music",
    "music.apple.com": "apple_music",
    "soundcloud.com": "soundcloud",
    "last.fm": "lastfm",
    "libre.fm": "librefm",
}
_SPOTIFY_TRACK = "https://open.spotify.com/track/"


class Metadata(msgspec.Struct, gc=False):
    """What was heard."""

    artist_name: str | None = None
    track_name: str | None = None
    release_name: str | None = None
    additional_info: dict[str, Any] | None = None


class Row(msgspec.Struct, gc=False):
    """One line of the file."""

    listened_at: Any = None
    track_metadata: Metadata | None = None


def is_row(row: dict[str, Any]) -> bool:
    """Whether a decoded object is a row of this format."""
    return "listened_at" in row and "track_metadata" in row


def listen(row: Row, user: str) -> Listen | NoListen:
    """What the row tells; raises BadRecordError."""
    track = row.track_metadata
    if track is None or not track.artist_name or not track.track_name:
        missing = "track_name" if track and track.artist_name else "artist_name"
        raise BadRecordError(Reason.MISSING_ID, "missing", f"track_metadata.{missing}")
    info = track.additional_info or {}
    spotify, isrc = info.get("spotify_id"), info.get("isrc")
    is_spotify = isinstance(spotify, str) and spotify.startswith(_SPOTIFY_TRACK)
    service = info.get("music_service")
    heard_ms = _length(info, "duration_played")
    return scrobble(
        _SERVICES.get(service, "listenbrainz") if isinstance(service, str) else "listenbrainz",
        user,
        track.artist_name,
        track.track_name,
        seconds(row.listened_at, "listened_at"),
        track_id=f"spotify:track:{spotify.removeprefix(_SPOTIFY_TRACK)}" if is_spotify else "",  # type: ignore[union-attr]
        album=track.release_name,
        isrc=isrc if isinstance(isrc, str) else None,
        duration_ms=_length(info, "duration"),
        ms_played=heard_ms,
    )


def _length(info: dict[str, Any], field: str) -> int | None:
    """Milliseconds of `<field>_ms`, else of `<field>` in seconds; None when a client sent something else."""
    try:
        found = length(info.get(f"{field}_ms"), field)
        return length(info.get(field), field, 1000) if found is None else found
    except BadRecordError:
        return None
