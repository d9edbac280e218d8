"""Libre.fm as CSV: `Artist,Track,Album,Time`, with `userid` before them in some exports.

Odd: any number of lines stands before the header (comments after #, or ones that went through UTF-7: "+ACM-"), and the
header is written in any case, or is not there. `Time` is the start, in seconds.
"""

from __future__ import annotations

from producers.importers.listens import Listen, NoListen, scrobble, seconds
from producers.importers.table import Columns
from schemas.reasons import BadRecordError, Reason

NAME = "Libre.fm scrobbles"

_BARE = {"artist": 0, "track": 1, "album": 2, "time": 3}


def columns(fields: list[str]) -> Columns | None:
    """Where the fields stand, when this row is a header, or data in the usual order."""
    names = {name.strip().lower(): at for at, name in enumerate(fields)}
    if {"artist", "track", "time"} <= names.keys():
        return Columns({name: names[name] for name in _BARE if name in names}, header=True)
    if len(fields) == 4 and all(fields[:2]) and fields[3].strip().isdigit() and len(fields[3].strip()) >= 9:
        return Columns(_BARE, header=False)
    return None


def listen(row: dict[str, str], user: str) -> Listen | NoListen:
    """What the row tells; raises BadRecordError."""
    if not row["artist"]:
        raise BadRecordError(Reason.MISSING_ID, "missing", "artist")
    start_ms = seconds(row["time"], "time")
    return scrobble("librefm", user, row["artist"], row["track"], start_ms, album=row.get("album"))
