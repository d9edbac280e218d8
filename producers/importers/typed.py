"""JSON rows as typed structs, and what is wrong with a row that is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from producers import event as events
from schemas.reasons import BadRecordError, Reason

_WRONG = re.compile(r"Expected `(.*?)`, got `(.*?)`(?: - at `\$\.?(.*?)`)?")


def typed(kind: type[Any]) -> Callable[[bytes], Any]:
    """A reader of rows of that struct; NaN is tolerated where a number is not needed. Raises BadRecordError."""
    decode = msgspec.json.Decoder(kind).decode

    def read(raw: bytes) -> Any:
        try:
            return decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _explained(events.load(raw), kind)

    return read


def _explained(value: object, kind: type[Any]) -> Any:
    """The row in a decoded object, or the reason why it is none."""
    if not isinstance(value, dict):
        raise BadRecordError(Reason.NOT_AN_OBJECT, type(value).__name__)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        found = _WRONG.search(str(error))
        wanted, got, field = found.groups() if found else (str(error), "something else", "")
        raise BadRecordError(Reason.BAD_FIELD, f"{got} where {wanted} belongs", field or "row") from None
