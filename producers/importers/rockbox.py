"""Rockbox and other players: `.scrobbler.log`, the tab-separated log of the Audioscrobbler protocol for portables.

Fields: artist, album, title, number of the track, length in seconds, rating (L: heard at least half, S: skipped), start
in seconds, MusicBrainz id. Odd: the name of an artist may begin with # like a comment, and one comment has as many tabs
as a row; the last field may be missing; files without tags are `<Untagged>`; a player without a clock writes times near
1970, and `#TZ/UNKNOWN` means local time of which nobody knows the zone: it is taken as UTC. When a track was skipped is
not told: before its half.
"""

from __future__ import annotations

from producers.importers.listens import Listen, NoListen, is_unknown_track, length, scrobble, seconds
from producers.importers.table import Columns
from schemas.reasons import BadRecordError, Reason

NAME = "Rockbox scrobbler log"

_FIELDS = {"artist": 0, "album": 1, "title": 2, "length": 4, "rating": 5, "time": 6}
_CLOCK_SET_MS = 946_684_800_000
"""2000: before it no player had a clock that was set."""


def columns(fields: list[str]) -> Columns | None:
    """Where the fields stand, when this is the first line of such a file, or a row of one that lost it."""
    if fields and (fields[0].startswith("#AUDIOSCROBBLER/") or "#RATING" in fields):
        return Columns(_FIELDS, header=True)
    is_row = len(fields) in (7, 8) and fields[5] in ("L", "S") and fields[6].strip().isdigit()
    return Columns(_FIELDS, header=False) if is_row else None


def listen(row: dict[str, str], user: str) -> Listen | NoListen:
    """What the row tells; raises BadRecordError."""
    if is_unknown_track(row["title"]) or is_unknown_track(row["artist"]):
        return NoListen.UNKNOWN_TRACK
    if not row["artist"]:
        raise BadRecordError(Reason.MISSING_ID, "missing", "artist")
    if row["rating"] not in ("L", "S"):
        raise BadRecordError(Reason.BAD_FIELD, f"{row['rating']!a} is neither L nor S", "rating")
    start_ms = seconds(row["time"], "time")
    if start_ms < _CLOCK_SET_MS:
        raise BadRecordError(Reason.BAD_TIMESTAMP, f"{row['time']}, the player's clock was not set", "time")
    return scrobble(
        "rockbox",
        user,
        row["artist"],
        row["title"],
        start_ms,
        album=row["album"],
        duration_ms=length(row["length"], "length", 1000),
        skipped=True if row["rating"] == "S" else None,
    )
