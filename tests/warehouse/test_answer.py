"""Answers read the same everywhere."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from warehouse.answer import Answer, WarehouseError, to_csv, to_json

ANSWER = Answer.of(
    ["t", "d", "b", "s", "n", "f", "z"],
    [
        (
            datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            date(2026, 1, 1),
            b"\x00\xff",
            {"a": [1, None], "at": datetime(2026, 1, 1, tzinfo=UTC)},
            Decimal("1.5"),
            float("nan"),
            None,
        )
    ],
)


def test_json_is_one_array_of_objects() -> None:
    """Times are ISO 8601 in UTC, bytes base64, nested values stay nested."""
    assert json.loads(to_json(ANSWER)) == [
        {
            "t": "2026-01-01T00:00:00Z",
            "d": "2026-01-01",
            "b": "AP8=",
            "s": {"a": [1, None], "at": "2026-01-01T00:00:00Z"},
            "n": 1.5,
            "f": "nan",
            "z": None,
        }
    ]
    assert to_json(Answer([], [])) == "[]"


def test_csv_has_a_header_and_nested_json() -> None:
    """Nested values are JSON in their cell; null is empty."""
    header, row = to_csv(ANSWER).splitlines()
    assert header == "t,d,b,s,n,f,z"
    assert row == '2026-01-01T00:00:00Z,2026-01-01,AP8=,"{""a"": [1, null], ""at"": ""2026-01-01T00:00:00Z""}",1.5,nan,'


def test_two_columns_of_one_name_are_refused() -> None:
    """A row is an object, so a second column of a name would hide the first."""
    with pytest.raises(WarehouseError, match="called a"):
        Answer.of(["a", "a"], [])
