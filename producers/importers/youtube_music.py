"""YouTube Music: `watch-history.json` of a Google Takeout (choose JSON there: HTML is the default).

Odd: music and all other videos stand in one file, told apart by `header`; titles begin with "Watched " in the account's
language, or are the bare address when the video has gone; an artist's channel is called "<artist> - Topic"; how long
something was heard is not told, so a listen is a play without an end. Advertisements are marked in `details`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from producers.event import milliseconds
from producers.importers.listens import WITHOUT_NAME, Listen, NoListen, known_artist, track
from schemas.reasons import BadRecordError, Reason

NAME = "YouTube watch history"

_MUSIC = "YouTube Music"
_WATCHED = re.compile(
    r"(?:Watched|Vous avez regardé|Has visto|Hai guardato|Assistiu a|Zhlédnuto) (.+)"
    r"|„?(.+?)“? ?(?: angesehen|を視聴しました)"
)
_VIDEO = re.compile(r"[?&]v=([\w-]+)")
_TOPIC = " - Topic"


class Named(msgspec.Struct, gc=False):
    """A channel, or a mark."""

    name: str | None = None


class Row(msgspec.Struct, gc=False, rename="camel"):
    """One element of the file."""

    header: str | None = None
    title: str | None = None
    title_url: str | None = None
    subtitles: list[Named] | None = None
    details: list[Named] | None = None
    time: Any = None
    products: list[str] | None = None


def is_row(row: dict[str, Any]) -> bool:
    """Whether a decoded object is a row of this format."""
    return "header" in row and "title" in row and "time" in row


def listen(row: Row, user: str) -> Listen | NoListen:
    """What the row tells; raises BadRecordError."""
    address = row.title_url or ""
    if any(mark.name and "Google Ads" in mark.name for mark in row.details or ()):
        return NoListen.ADVERTISEMENT
    if row.header != _MUSIC and "//music.youtube.com/" not in address and _MUSIC not in (row.products or ()):
        return NoListen.VIDEO
    if not address:
        return NoListen.REMOVED
    start_ms = milliseconds(row.time, "time")
    watched = _WATCHED.fullmatch(row.title or "")
    title: str | None = (watched[1] or watched[2]) if watched else row.title
    if title and title.startswith("https://"):
        title = None
    channel = row.subtitles[0].name if row.subtitles else None
    artist = known_artist(channel.removesuffix(_TOPIC) if channel else None)
    video = _VIDEO.search(address)
    if video is None and not title:
        raise BadRecordError(Reason.MISSING_ID, f"{address!a}", "titleUrl")
    heard = track(artist, title, None, video and f"youtube:{video[1]}")
    return Listen(user or WITHOUT_NAME, "youtube_music", *heard, at_ms=start_ms, start_ms=start_ms, also="youtube")
