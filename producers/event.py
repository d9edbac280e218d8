"""What a client may send, and the rules that every event has to pass on every way in (docs/event.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import msgspec

from schemas.reasons import EVENT_MAX_BYTES, FUTURE_MAX_MS, ID_MAX_CHARACTERS, MEDIA_MAX_MS, BadRecordError, Reason

EventType = Literal["play", "pause", "skip", "like", "share"]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_MAX_CHARACTERS)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=MEDIA_MAX_MS)]


class ClientEvent(msgspec.Struct, gc=False, omit_defaults=True):
    """One event as a client tells it. Times are milliseconds since 1970 once the rules have been passed.

    `user_id` and `session_id` are None in a private session; `device_timestamp` is the door's, whatever a client says.
    """

    event_id: _Id
    event_type: EventType
    track_id: _Id
    platform: _Id
    user_id: _Id | None = None
    session_id: Annotated[str, msgspec.Meta(max_length=ID_MAX_CHARACTERS)] | None = None
    country: str | None = None
    location: str | None = None
    device: str | None = None
    reason_start: str | None = None
    reason_end: str | None = None
    app_version: str | None = None
    track_name: str | None = None
    artist_name: str | None = None
    album_name: str | None = None
    isrc: str | None = None
    timestamp: int | str = 0
    sent_at: int | str | None = None
    device_timestamp: Any = None
    position_ms: _Number | None = None
    ms_played: _Number | None = None
    duration_ms: _Number | None = None
    shuffle: bool | None = None
    offline: bool | None = None
    incognito: bool | None = None


FIELDS: tuple[str, ...] = ClientEvent.__struct_fields__
_TEXTS = FIELDS.index("timestamp")  # all fields before it are text
_NO_TIMESTAMP = 0  # the default stands for a missing field: midnight of 1970 is no time to listen either

_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_LAST_MS = 253_402_300_799_999
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_COUNTRY = re.compile("[A-Z]{2}")

_decode = msgspec.json.Decoder(ClientEvent).decode


Repair = Callable[[int, int, int], tuple[int, int | None]]
"""(timestamp, sent_at, our clock) to (timestamp by our clock, the device's own or None when that is right)."""


def from_json(raw: bytes, now_ms: int, repair: Repair | None = None) -> ClientEvent:
    """The event in the bytes of one JSON object, rules passed.

    `now_ms` is our clock, milliseconds since 1970. With `repair`, the repaired time is judged and kept. Raises
    BadRecordError.
    """
    if len(raw) > EVENT_MAX_BYTES:
        raise BadRecordError(Reason.TOO_LARGE, f"{len(raw)} bytes")
    try:
        event = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        event = _explain(load(raw))
    if not (raw.isascii() and b"\\" not in raw and b"\x7f" not in raw):  # else no text can hold what is unprintable
        _require_printable(event)
    return _finish(event, now_ms, repair)


def from_object(value: object, now_ms: int) -> ClientEvent:
    """The event in an object that is decoded already, by the same rules as `from_json`."""
    try:
        event = msgspec.convert(value, ClientEvent)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        event = _explain(value)
    _require_printable(event)
    return _finish(event, now_ms)


def load(raw: bytes) -> Any:
    """Any JSON value, NaN and Infinity tolerated; raises BadRecordError with the reason why it cannot be read."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadRecordError(Reason.INVALID_UTF8, f"byte {error.start} is 0x{raw[error.start]:02x}") from None
    try:
        return json.loads(text, parse_int=_integer)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Invalid control character"):
            raise BadRecordError(Reason.CONTROL_CHARACTERS, f"character {error.pos} is {text[error.pos]!a}") from None
        raise BadRecordError(Reason.NOT_JSON, f"{text[:60]!a}, {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise BadRecordError(Reason.NOT_JSON, f"{text[:60]!a}, nested too deeply") from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)


def event_id_of(value: object) -> str | None:
    """The id of a refused event, when it has a usable one."""
    found = value.get("event_id") if isinstance(value, dict) else None
    if isinstance(found, str) and 0 < len(found) <= ID_MAX_CHARACTERS and not _UNPRINTABLE.search(found):
        return found
    return None


def milliseconds(value: object, field: str = "timestamp") -> int:
    """Milliseconds since 1970 of ISO 8601 text with a zone, or of a whole number; raises BadRecordError."""
    if type(value) is int:  # a bool is an instance of int too
        number = value
    elif isinstance(value, str):
        number = _iso_8601(value, field)
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    else:
        raise BadRecordError(Reason.BAD_TIMESTAMP, "missing" if value is None else f"{value!a}", field)
    if number <= _NO_TIMESTAMP:
        shown = "missing or 0" if number == _NO_TIMESTAMP else f"{value!a} is before 1970"
        raise BadRecordError(Reason.BAD_TIMESTAMP, shown, field)
    return number


def _iso_8601(text: str, field: str) -> int:
    try:
        at = datetime.fromisoformat(text)
        since = at - _EPOCH if at.tzinfo else None
    except (ValueError, OverflowError):
        raise BadRecordError(Reason.BAD_TIMESTAMP, f"{text!a}", field) from None
    if since is None:
        raise BadRecordError(Reason.BAD_TIMESTAMP, f"{text!a} has no zone", field)
    return since // _MS


def _finish(event: ClientEvent, now_ms: int, repair: Repair | None = None) -> ClientEvent:
    """The rules of times and of who listens."""
    timestamp = milliseconds(event.timestamp)
    event.device_timestamp = None
    if event.sent_at is not None:
        sent_at = event.sent_at = milliseconds(event.sent_at, "sent_at")
        if sent_at > _LAST_MS:
            raise BadRecordError(Reason.BAD_TIMESTAMP, f"{sent_at}", "sent_at")
        if repair is not None:
            timestamp, event.device_timestamp = repair(timestamp, sent_at, now_ms)
    if timestamp > now_ms + FUTURE_MAX_MS:
        raise BadRecordError(Reason.FUTURE_TIMESTAMP, f"{(timestamp - now_ms) / 1000:.0f} s ahead", "timestamp")
    if timestamp <= _NO_TIMESTAMP or (event.device_timestamp or 0) > _LAST_MS:
        raise BadRecordError(Reason.BAD_TIMESTAMP, f"{timestamp} once repaired", "timestamp")
    event.timestamp = timestamp
    if event.country is not None:
        event.country = _country(event.country)
    if event.incognito:
        event.user_id = event.session_id = None
    elif event.user_id is None:
        raise BadRecordError(Reason.MISSING_ID, "missing", "user_id")
    return event


def _require_printable(event: ClientEvent) -> None:
    texts = "".join(filter(None, msgspec.structs.astuple(event)[:_TEXTS]))
    if len(texts) > EVENT_MAX_BYTES:
        raise BadRecordError(Reason.TOO_LARGE, f"{len(texts)} characters")
    if texts.isprintable() or not _UNPRINTABLE.search(texts):  # the first test is quicker, and stricter
        return
    for name in FIELDS[:_TEXTS]:
        found = _UNPRINTABLE.search(getattr(event, name) or "")
        if found:
            lone = "\ud800" <= found[0] <= "\udfff"
            reason = Reason.INVALID_UTF8 if lone else Reason.CONTROL_CHARACTERS
            raise BadRecordError(reason, f"character {found.start()} is {found[0]!a}", name)


@lru_cache(4096)
def _country(value: str) -> str | None:
    if not value:
        return None
    if value.isascii() and _COUNTRY.fullmatch(upper := value.upper()):
        return upper
    raise BadRecordError(Reason.BAD_FIELD, f"{value!a} is no ISO 3166-1 alpha-2 code", "country")


def _explain(value: object) -> ClientEvent:
    """Says which rule an event breaks; returns it when it breaks none (whole numbers written as 3.0)."""
    if not isinstance(value, dict):
        raise BadRecordError(Reason.NOT_AN_OBJECT, f"{type(value).__name__}")
    read: dict[str, Any] = {name: rule(name, value.get(name)) for name, rule in _RULES.items()}
    return ClientEvent(**read)


def _event_type(name: str, value: object) -> str:
    if isinstance(value, str) and value in EVENT_TYPES:
        return value
    raise BadRecordError(Reason.UNKNOWN_TYPE, "missing" if value is None else f"{value!a}", name)


def _required(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadRecordError(Reason.MISSING_ID, "missing" if value is None else f"{value!a}", name)
    return _short(name, value)


def _optional(name: str, value: object) -> str | None:
    return None if value is None else _required(name, value)


def _short(name: str, value: object) -> str:
    text = _text(name, value)
    if text and len(text) > ID_MAX_CHARACTERS:
        raise BadRecordError(Reason.ID_TOO_LONG, f"{len(text)} characters", name)
    return text or ""


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BadRecordError(Reason.BAD_FIELD, f"{value!a} is no text", name)


def _optional_short(name: str, value: object) -> str | None:
    return None if value is None else _short(name, value)


def whole_number(name: str, value: object) -> int | None:
    """A count of milliseconds, or None; raises BadRecordError when it is impossible."""
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, int | float) and (whole or (isinstance(value, float) and value.is_integer())):
        if 0 <= value <= MEDIA_MAX_MS:
            return int(value)
    elif not isinstance(value, int | float):
        raise BadRecordError(Reason.BAD_NUMBER, f"{value!a} is no number", name)
    raise BadRecordError(Reason.BAD_NUMBER, f"{value!a}", name)


def _flag(name: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise BadRecordError(Reason.BAD_FIELD, f"{value!a} is neither true nor false", name)


def _time(name: str, value: object) -> int | None:
    return None if value is None and name != "timestamp" else milliseconds(value, name)


_RULES: dict[str, Callable[[str, object], Any]] = {
    "event_type": _event_type,
    **dict.fromkeys(("event_id", "track_id", "platform"), _required),
    "user_id": _optional,
    "timestamp": _time,
    "session_id": _optional_short,
    **dict.fromkeys(FIELDS[FIELDS.index("country") : _TEXTS], _text),
    "sent_at": _time,
    **dict.fromkeys(("position_ms", "ms_played", "duration_ms"), whole_number),
    **dict.fromkeys(("shuffle", "offline", "incognito"), _flag),
}
