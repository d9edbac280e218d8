"""Last.fm as CSV, of the two exporters that people use: lastfm.ghan.nl (with header) and benjaminbenben.com (without).

Odd: the first has `uts`, seconds, and a text of the same time; the second only "17 May 2026 12:54", UTC to the minute,
with commas and quotes taken out of the names. A track that was playing during the export has no time, or that of 1970.
What was heard of a track, and for how long, is not told: a listen is a play without an end.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from producers.importers.listens import Listen, NoListen, scrobble, seconds
from producers.importers.table import Columns
from schemas.reasons import BadRecordError, Reason

NAME = "Last.fm scrobbles"

_FIELDS = {
    "artist": ("artist", "artist_name"),
    "title": ("track", "name", "title", "track_name"),
    "album": ("album", "album_name"),
    "uts": ("uts",),
    "date": ("utc_time", "date"),
}
_BARE = {"artist": 0, "album": 1, "title": 2, "date": 3}
_BARE_UTS = {"uts": 0, "date": 1, "artist": 2, "album": 4, "title": 6}
_DATE = re.compile(r"(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}),? (\d{1,2}):(\d{2})")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def columns(fields: list[str]) -> Columns | None:
    """Where the fields stand, when this row is a header, or data in the order of either exporter."""
    if len(fields) == 4 and _DATE.fullmatch(fields[3].strip()):
        return Columns(_BARE, header=False)
    if len(fields) == 8 and fields[0].isdigit() and _DATE.fullmatch(fields[1].strip()):
        return Columns(_BARE_UTS, header=False)
    names = {name.strip().lower(): at for at, name in enumerate(fields)}
    at = {ours: names[theirs] for ours, all_of in _FIELDS.items() for theirs in reversed(all_of) if theirs in names}
    whole = "artist" in at and "title" in at and ("uts" in at or "date" in at)
    return Columns(at, header=True) if whole else None


def listen(row: dict[str, str], user: str) -> Listen | NoListen:
    """What the row tells; raises BadRecordError."""
    if not row["artist"]:
        raise BadRecordError(Reason.MISSING_ID, "missing", "artist")
    exact = row.get("uts")
    start_ms = seconds(exact, "uts") if exact else _date(row.get("date", ""))
    return scrobble("lastfm", user, row["artist"], row["title"], start_ms, album=row.get("album"), by_minute=not exact)


def _date(text: str) -> int:
    found = _DATE.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        raise BadRecordError(Reason.BAD_TIMESTAMP, f"{text!a}" if text else "missing", "date")
    day, month, year, hour, minute = int(found[1]), _MONTHS.index(found[2]) + 1, *map(int, found.group(3, 4, 5))
    try:
        return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        raise BadRecordError(Reason.BAD_TIMESTAMP, f"{text!a}", "date") from None
