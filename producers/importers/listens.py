"""What all histories share: a listen is a play and the pause or skip that ended it, with ids made from its content."""

from __future__ import annotations

import hashlib
from typing import Any

from producers.event import whole_number
from producers.importers import Event
from schemas.reasons import BadRecordError, Reason

SHORT_MS = 30_000
"""A listen that ended earlier, for a reason that nobody told, counts as skipped."""

_SKIPPED = frozenset(("fwdbtn", "backbtn"))
_UNTOLD = frozenset((None, "", "unknown"))


def listen(shared: Event, stop_ms: int, ms_played: int, identity: tuple[object, ...], **play: object) -> list[Event]:
    """Play and end of one listen. `shared` stands in both, `play` (and how it began) only in the first.

    The same identity makes the same event_ids: the same row twice in a file, or in two files, is one listen.
    """
    reason_end = shared.get("reason_end")
    skipped = ms_played < SHORT_MS if reason_end in _UNTOLD else reason_end in _SKIPPED
    digest = hashlib.sha256("\x1f".join(map(str, identity)).encode("utf-8", "replace")).hexdigest()[:32]
    both = {name: value for name, value in shared.items() if name not in ("reason_start", "reason_end")}
    return [
        {
            **both,
            **play,
            "event_id": f"{digest}-play",
            "event_type": "play",
            "timestamp": stop_ms - ms_played,
            "position_ms": 0,
            "reason_start": shared.get("reason_start"),
        },
        {
            **both,
            "event_id": f"{digest}-end",
            "event_type": "skip" if skipped else "pause",
            "timestamp": stop_ms,
            "ms_played": ms_played,
            "reason_end": reason_end,
        },
    ]


def played(row: Event, field: str) -> int:
    """Milliseconds heard; raises BadRecordError when they are missing or impossible."""
    value = whole_number(field, row.get(field))
    if value is None:
        raise BadRecordError(Reason.BAD_NUMBER, "missing", field)
    return value


def named_track(artist: str, title: str) -> str:
    """A track_id for a track of which only the names are known: the same names, the same id."""
    return "name:" + hashlib.sha256(f"{artist}\x1f{title}".casefold().encode("utf-8", "replace")).hexdigest()[:24]


def text(value: Any) -> str:
    """Text of a field that may be absent."""
    return value if isinstance(value, str) else ""
