"""What a question to the warehouse gives back, and how it reads as JSON or CSV."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any


class WarehouseError(RuntimeError):
    """The question could not be answered; the message is meant for the person who asked."""


@dataclass(frozen=True)
class Answer:
    """All rows of an answer, in memory.

    TIMESTAMP is an aware datetime in UTC, STRUCT a dict, ARRAY a list, BYTES bytes, NUMERIC a Decimal.
    """

    columns: list[str]
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Answer:
        """An answer of rows as tuples; raises WarehouseError when two columns share a name, as BigQuery does."""
        twice = sorted({name for name in columns if list(columns).count(name) > 1})
        if twice:
            raise WarehouseError(f"Two columns of the result are called {twice[0]}: give one of them another name.")
        return cls(list(columns), [dict(zip(columns, map(_plain, row), strict=True)) for row in rows])


def _plain(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def jsonable(value: Any) -> Any:
    """A value as JSON knows it: times in ISO 8601, bytes in base64, NaN and infinity as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {str(key): jsonable(item) for key, item in value.items()}
        case list() | tuple():
            return [jsonable(item) for item in value]
        case _:
            return str(value)


def to_json(answer: Answer) -> str:
    """One JSON array with an object per row."""
    return json.dumps(jsonable(answer.rows), ensure_ascii=False)


def to_csv(answer: Answer) -> str:
    """CSV with a header line; nested values are JSON inside their cell, null is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.columns)
    for row in answer.rows:
        writer.writerow(_cell(jsonable(row[column])) for column in answer.columns)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value
