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
    """One listen: a play at `start_ms` and, where `stop_ms` is told, its end.

    `at_ms` is the moment that its history tells: `by_minute`, or to the second. `also` tells it from other listens to
    the same track that the same user had in that minute. `skipped` is what a history says that can be believed;
    without it, the reason and the length decide. `event_id` begins the ids of its events, once it is known to be new.
    """

    user_id: str
    platform: str
    track_id: str
    track_name: str | None
    artist_name: str | None
    album_name: str | None
    at_ms: int
    start_ms: int
    stop_ms: int | None = None
    also: str = ""
    by_minute: bool = False
    ms_played: int | None = None
    skipped: bool | None = None
    reason_start: str | None = None
    reason_end: str | None = None
    country: str | None = None
    device: str | None = None
    isrc: str | None = None
    position_ms: int | None = 0
    duration_ms: int | None = None
    shuffle: bool | None = None
    offline: bool | None = None
    incognito: bool | None = None
    event_id: str = ""

    @property
    def is_skip(self) -> bool:
        """Whether it ended before the track, because somebody wanted another."""
        if self.skipped is not None:
            return self.skipped
        reason, heard = self.reason_end, self.ms_played
        return reason in _SKIPPED or (heard is not None and heard < SHORT_MS and reason in _SKIPPED_IF_SHORT)

    def events(self) -> list[ClientEvent]:
        """Play and end, as a client would send them."""
        user_id = None if self.incognito else self.user_id
        play = ClientEvent(  # in the order of its fields: by name it takes three times as long
            self.event_id + "-play",
            "play",
            self.track_id,
            self.platform,
            user_id,
            None,
            self.country,
            None,
            self.device,
            self.reason_start,
            None,
            None,
            self.track_name,
            self.artist_name,
            self.album_name,
            self.isrc,
            self.start_ms,
            position_ms=self.position_ms,
            duration_ms=self.duration_ms,
            shuffle=self.shuffle,
            offline=self.offline,
            incognito=self.incognito,
        )
        if self.stop_ms is None:
            return [play]
        end = ClientEvent(
            self.event_id + "-end",
            "skip" if self.is_skip else "pause",
            self.track_id,
            self.platform,
            user_id,
            None,
            self.country,
            None,
            self.device,
            None,
            self.reason_end,
            timestamp=self.stop_ms,
            ms_played=self.ms_played,
            shuffle=self.shuffle,
            offline=self.offline,
            incognito=self.incognito,
        )
        return [play, end]

    def pass_rules(self, now_ms: int) -> None:
        """Puts its events through the rules of the door; raises BadRecordError.

        The first test is stricter than the rules, and quicker.
        """
        told = (
            f"{self.user_id}{self.track_id}{self.track_name}{self.artist_name}{self.album_name}"
            f"{self.device}{self.reason_start}{self.reason_end}{self.isrc}"
        )
        last_ms = self.start_ms if self.stop_ms is None else self.stop_ms
        if (
            len(told) < ID_MAX_CHARACTERS
            and self.track_id
            and told.isprintable()
            and 0 < self.start_ms <= last_ms <= now_ms + FUTURE_MAX_MS
        ):
            return
        for event in self.events():
            event.user_id = self.user_id  # a name breaks the rules in a private session too
            events.from_object(msgspec.to_builtins(event), now_ms)


class Known:
    """The listens met so far, about 150 bytes each, so that each is told once.

    Some histories tell the minute, others the second of the same listen. So ids go by the minute, and listens of one
    minute that are equal but for the second are numbered: the ids of a set of listens do not depend on its order.
    """

    def __init__(self) -> None:
        self._met: dict[bytes, int] = {}

    def is_new(self, listen: Listen) -> bool:
        """Whether a listen that has passed the rules is met for the first time; gives it its event_id then."""
        at_s = listen.at_ms // 1000
        names = f"{listen.artist_name}\x1f{listen.track_name or listen.track_id}".casefold()
        identity = f"{listen.user_id}\x1f{at_s // 60}\x1f{listen.also}\x1f{names}"
        key = hashlib.blake2b(identity.encode(), digest_size=16).digest()
        met, bit = self._met.get(key, 0), _MINUTE if listen.by_minute else _SECONDS[at_s % 60]
        self._met[key] = met | bit
        if not met:
            listen.event_id = key.hex()
            return True
        if listen.by_minute or met & bit or met == _MINUTE:
            return False
        listen.event_id = f"{key.hex()}-{(met & ~_MINUTE).bit_count()}"
        return True


def track(
    artist: str | None, title: str | None, album: str | None = None, track_id: str | None = None
) -> tuple[str, str | None, str | None, str | None]:
    """(track_id, track_name, artist_name, album_name) of a listen; without an id it is made of the names.

    Raises BadRecordError when there is neither an id nor a title.
    """
    if not track_id:
        if not title:
            raise BadRecordError(Reason.MISSING_ID, "neither an id nor a name", "track")
        track_id = named_track(artist, title)
    return track_id, title or None, known_artist(artist), album or None


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

    The same scrobble exported by two services is one listen. Raises BadRecordError.
    """
    return Listen(
        user or WITHOUT_NAME,
        platform,
        *track(artist, title, album, track_id),
        at_ms=start_ms,
        start_ms=start_ms,
        stop_ms=start_ms + (ms_played or 0) if ms_played is not None or skipped else None,
        by_minute=by_minute,
        ms_played=ms_played,
        skipped=skipped,
        isrc=isrc or None,
        duration_ms=duration_ms,
    )


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
