"""What all histories share: a listen is a play and, where it is told, its end; equal listens have equal event_ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from producers import event as events
from producers.event import ClientEvent, whole_number
from schemas.reasons import FUTURE_MAX_MS, ID_MAX_CHARACTERS, MEDIA_MAX_MS, BadRecordError, Reason

SHORT_MS = 30_000
"""A listen that ended earlier was skipped, unless the history tells why it ended."""

WITHOUT_NAME = "me"
"""Who listened, when neither the file nor the person says."""

_SKIPPED = frozenset(("fwdbtn", "backbtn"))
_SKIPPED_IF_SHORT = frozenset((None, "", "unknown", "clickrow", "clickside", "playbtn"))
_NO_ARTIST = frozenset(("", "unknown artist", "<untagged>"))
_NO_TITLE = frozenset(("unknown track", "<untagged>"))
_DEVICES = (
    ("speaker", re.compile(r"cast|sonos|speaker|alexa|echo|partner|homepod")),
    ("tv", re.compile(r"tv|playstation|xbox")),
    ("mobile", re.compile(r"android|ios|iphone|ipad|ipod|watch")),
    ("desktop", re.compile(r"windows|os ?x|mac|linux|web")),
)
_SECONDS = [1 << second for second in range(60)]
_MINUTE = 1 << 60


class NoListen(StrEnum):
    """Why a row that is not broken is no listen to a track."""

    PODCAST = "podcast"
    AUDIOBOOK = "audiobook"
    VIDEO = "video, not music"
    ADVERTISEMENT = "advertisement"
    REMOVED = "removed video"
    NOTHING_HEARD = "nothing heard (0 ms)"
    UNKNOWN_TRACK = "unknown track"
    NO_PLAY = "no end of a play"


class Listen(msgspec.Struct, gc=False):
    """One listen. `at_ms` is the moment that its history tells: `by_minute`, or to the second.

    `key` stands for user, minute, names and whatever else the service tells to make listens different.
    """

    play: ClientEvent
    end: ClientEvent | None
    key: bytes
    at_ms: int
    by_minute: bool

    def pass_rules(self, now_ms: int) -> None:
        """Puts both events through the rules of the door; raises BadRecordError.

        The first test is stricter than the rules, and quicker.
        """
        play, end = self.play, self.end
        told = (
            f"{play.user_id}{play.track_id}{play.track_name}{play.artist_name}{play.album_name}"
            f"{play.device}{play.reason_start}{end and end.reason_end}{play.isrc}"
        )
        first, last = play.timestamp, end.timestamp if end else play.timestamp
        if (
            not play.incognito
            and len(told) < ID_MAX_CHARACTERS
            and told.isprintable()
            and play.track_id
            and 0 < first <= last <= now_ms + FUTURE_MAX_MS  # type: ignore[operator]  # numbers since they were made here
        ):
            return
        self.play = events.from_object(msgspec.to_builtins(play), now_ms)
        self.end = events.from_object(msgspec.to_builtins(end), now_ms) if end else None


class Known:
    """The listens met so far, about 150 bytes each, so that each is told once.

    Some histories tell the minute, others the second of the same listen. So ids go by the minute, and listens of one
    minute that are equal but for the second are numbered: the ids of a set of listens do not depend on its order.
    """

    def __init__(self) -> None:
        self._met: dict[bytes, int] = {}

    def is_new(self, listen: Listen) -> bool:
        """Whether it is met for the first time; gives its events their ids then."""
        key = listen.key
        met = self._met.get(key, 0)
        second = _MINUTE if listen.by_minute else _SECONDS[listen.at_ms // 1000 % 60]
        self._met[key] = met | second if met else second
        if met and (listen.by_minute or met & second or met == _MINUTE):
            return False
        event_id = key.hex()
        if met:
            event_id += f"-{(met & ~_MINUTE).bit_count()}"
        listen.play.event_id = event_id + "-play"
        if listen.end is not None:
            listen.end.event_id = event_id + "-end"
        return True


def told(
    play: ClientEvent,
    at_ms: int,
    also: object,
    *,
    by_minute: bool = False,
    stop_ms: int | None = None,
    ms_played: int | None = None,
    reason_end: str | None = None,
    skipped: bool | None = None,
) -> Listen:
    """A listen of which `play` is the beginning; it has an end when `stop_ms` is known.

    `also` tells it from other listens to the same track that the same user had in the same minute (of `at_ms`).
    `skipped` is what a history says that can be believed; without it, the reason and the length decide.
    """
    minute, names = at_ms // 60_000, f"{play.artist_name}\x1f{play.track_name or play.track_id}".casefold()
    identity = f"{play.user_id}\x1f{minute}\x1f{also}\x1f{names}".encode("utf-8", "replace")
    end = None
    if stop_ms is not None:
        if skipped is None:
            short = ms_played is not None and ms_played < SHORT_MS
            skipped = reason_end in _SKIPPED or (short and reason_end in _SKIPPED_IF_SHORT)
        end = ClientEvent(
            event_id="-end",
            event_type="skip" if skipped else "pause",
            user_id=play.user_id,
            track_id=play.track_id,
            platform=play.platform,
            country=play.country,
            device=play.device,
            reason_end=reason_end,
            timestamp=stop_ms,
            ms_played=ms_played,
            shuffle=play.shuffle,
            offline=play.offline,
            incognito=play.incognito,
        )
    return Listen(play, end, hashlib.blake2b(identity, digest_size=16).digest(), at_ms, by_minute)


def scrobble(
    platform: str,
    user: str,
    artist: str,
    title: str,
    start_ms: int,
    *,
    track_id: str = "",
    album: str | None = None,
    isrc: str | None = None,
    duration_ms: int | None = None,
    ms_played: int | None = None,
    skipped: bool | None = None,
    by_minute: bool = False,
) -> Listen:
    """A listen known by artist, title and start, as scrobbling services keep them; its end only where it is told.

    The same scrobble exported by two services is one listen. Raises BadRecordError without a title.
    """
    if not title:
        raise BadRecordError(Reason.MISSING_ID, "no name of a track", "track")
    play = ClientEvent(
        event_id="-play",
        event_type="play",
        user_id=user or WITHOUT_NAME,
        track_id=track_id or named_track(artist, title),
        platform=platform,
        track_name=title,
        artist_name=known_artist(artist),
        album_name=album or None,
        isrc=isrc or None,
        timestamp=start_ms,
        position_ms=0,
        duration_ms=duration_ms,
    )
    ended = ms_played is not None or skipped
    stop_ms = start_ms + (ms_played or 0) if ended else None
    return told(play, start_ms, "", by_minute=by_minute, stop_ms=stop_ms, ms_played=ms_played, skipped=skipped)


def played(value: object, field: str) -> int:
    """Milliseconds heard; raises BadRecordError when they are missing or impossible."""
    if type(value) is int and 0 <= value <= MEDIA_MAX_MS:
        return value
    number = whole_number(field, value)
    if number is None:
        raise BadRecordError(Reason.BAD_NUMBER, "missing", field)
    return number


def seconds(value: object, field: str) -> int:
    """Milliseconds since 1970 of a number of seconds, or of its digits; raises BadRecordError."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else _number(value)
    if number is None or not 0 < number < 1e11:
        raise BadRecordError(Reason.BAD_TIMESTAMP, "missing" if value in (None, "") else f"{value!a}", field)
    return round(number * 1000)


def length(value: object, field: str, unit_ms: int = 1) -> int | None:
    """Milliseconds of a length that may be missing: a number or its digits; raises BadRecordError."""
    if value in (None, ""):
        return None
    number = _number(value) if isinstance(value, str) else value
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return whole_number(field, number * unit_ms if isinstance(number, int | float) else value)


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def known_artist(name: str | None) -> str | None:
    """The artist, or None where a history only says that it does not know."""
    return None if not name or name.casefold() in _NO_ARTIST else name


def is_unknown_track(name: str | None) -> bool:
    """Whether a history says that it does not know what was played."""
    return name is not None and name.casefold() in _NO_TITLE


@lru_cache(1 << 16)
def named_track(artist: str | None, title: str) -> str:
    """A track_id for a track of which only the names are known: the same names, the same id."""
    names = f"{artist or ''}\x1f{title}".casefold().encode("utf-8", "replace")
    return "name:" + hashlib.sha256(names).hexdigest()[:24]


@lru_cache(4096)
def device(told: str | None) -> str | None:
    """The kind of a device, of whatever a history calls it."""
    name = (told or "").lower()
    return next((kind for kind, pattern in _DEVICES if pattern.search(name)), name[:64] or None)


Told = Callable[[Any, str], Listen | NoListen]
"""Turns a decoded row and the name of its listener (may be empty) into what it tells; raises BadRecordError."""
