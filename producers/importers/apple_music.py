"""Apple Music: `Apple Music Play Activity.csv` of the privacy export (in a zip within the zip).

Odd: some 140 columns that come and go (the song was `Content Name`, `Artist Name` is gone from newer exports: the
artist is then mostly unknown, and `Container Artist Name` rarely tells it); one row for every beginning, end and
lyric shown, of which only ends count; a listen that was paused and resumed is several rows; dragging the slider is a
row too (`SCRUB_END`, nothing heard); the play duration counts time asleep, may be negative, and is cut to the length
of the song. Times are UTC.
"""

from __future__ import annotations

from producers.event import milliseconds
from producers.importers.listens import (
    WITHOUT_NAME,
    Listen,
    NoListen,
    device,
    is_unknown_track,
    known_artist,
    length,
    track,
)
from producers.importers.table import Columns
from schemas.reasons import BadRecordError, Reason

NAME = "Apple Music play activity"

_FIELDS = {
    "song": ("song name", "content name"),
    "artist": ("artist name", "container artist name"),
    "album": ("album name", "container album name"),
    "kind": ("event type",),
    "start": ("event start timestamp",),
    "end": ("event end timestamp",),
    "played": ("play duration milliseconds",),
    "position": ("start position in milliseconds",),
    "length": ("media duration in milliseconds",),
    "reason": ("end reason type",),
    "media": ("media type",),
    "offline": ("offline",),
    "shuffle": ("shuffle play",),
    "device": ("device type", "device os name", "source type"),
    "country": ("iso country", "ip country code"),
}
_NEEDED = ("song", "end", "played")
_REASONS = {
    "NATURAL_END_OF_TRACK": "trackdone",
    "TRACK_SKIPPED_FORWARDS": "fwdbtn",
    "TRACK_SKIPPED_BACKWARDS": "backbtn",
    "MANUALLY_SELECTED_PLAYBACK_OF_A_DIFF_ITEM": "clickrow",
    "EXITED_APPLICATION": "logout",
    "FAILED_TO_LOAD": "trackerror",
    "NOT_APPLICABLE": None,
    "OTHER": None,
    "": None,
}
_FLAGS = {"true": True, "false": False, "shuffle_on": True, "shuffle_off": False}


def columns(fields: list[str]) -> Columns | None:
    """Where the fields stand, when this row is the header of such a file."""
    names = {name.strip().lower(): at for at, name in reversed(list(enumerate(fields)))}
    at = {ours: names[theirs] for ours, all_of in _FIELDS.items() for theirs in reversed(all_of) if theirs in names}
    return Columns(at, header=True) if all(name in at for name in _NEEDED) else None


def listen(row: dict[str, str], user: str) -> Listen | NoListen:
    """What the row tells; raises BadRecordError."""
    get = row.get
    if get("kind", "") not in ("", "PLAY_END"):
        return NoListen.NO_PLAY
    if get("media", "").upper() in ("VIDEO", "MUSIC_VIDEO"):
        return NoListen.VIDEO
    reason, title = get("reason", ""), get("song", "")
    if is_unknown_track(title):
        return NoListen.UNKNOWN_TRACK
    heard = track(known_artist(get("artist")), title, get("album"))
    stop_ms = _time(get("end", ""), "Event End Timestamp")
    duration_ms = length(get("length"), "Media Duration In Milliseconds") or None
    ms_played = _played(get("played", ""), duration_ms)
    if ms_played == 0 or reason == "SCRUB_END":
        return NoListen.NOTHING_HEARD
    start_ms = _time(get("start") or get("end", ""), "Event Start Timestamp")
    country = get("country", "")
    return Listen(
        user or WITHOUT_NAME,
        "apple_music",
        *heard,
        at_ms=stop_ms,
        start_ms=min(start_ms, stop_ms - ms_played),
        stop_ms=stop_ms,
        also=f"apple {ms_played}",
        ms_played=ms_played,
        reason_end=_REASONS.get(reason, reason.lower()),
        country=country.upper() if len(country) == 2 and country.isascii() and country.isalpha() else None,
        device=device(get("device")),
        position_ms=length(get("position"), "Start Position In Milliseconds"),
        duration_ms=duration_ms,
        shuffle=_FLAGS.get(get("shuffle", "").lower()),
        offline=_FLAGS.get(get("offline", "").lower()),
    )


def _played(value: str, duration_ms: int | None) -> int:
    """Milliseconds heard, at most the length of the song; a negative number is nothing heard."""
    if value.startswith("-"):
        return 0
    heard = length(value, "Play Duration Milliseconds")
    if heard is None:
        raise BadRecordError(Reason.BAD_NUMBER, "missing", "Play Duration Milliseconds")
    return min(heard, duration_ms or heard)


def _time(text: str, field: str) -> int:
    """Milliseconds of a time in UTC, which may not say so."""
    has_zone = text.endswith("Z") or "+" in text
    return milliseconds(text if has_zone or not text else f"{text}+00:00", field)
